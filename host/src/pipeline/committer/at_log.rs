//! What a committer asks of its log, and what the log answers.

use std::collections::BTreeMap;

use super::steps::{Because, Event, Finished, NewRules, Next, Seen};
use crate::commit::{Draft, Log, PreparedCommit, Span, State};
use crate::error::{Error, Kind, Result};
use crate::pipeline::messages::{HandIn, ToTask};
use crate::pipeline::rules::columns::has_rows;
use crate::record::{SplitId, TopicPartition};
use crate::sink::Sealed;
use crate::source::{LostRange, Position};

/// How the log stands; clock and stop are the caller's.
pub fn seen(log: &Log) -> Seen {
    let state = log.state();
    Seen {
        ready_in: log.ready_in(),
        generation: state.generation(),
        rewound: state.removed_at,
        ..Seen::default()
    }
}

/// Does what the machine waits for, where that is the log's or the files'.
pub fn perform(log: &mut Log, next: Next) -> Event {
    match next {
        Next::Look => Event::Looked(look(log)),
        Next::Refresh => Event::Refreshed(log.refresh()),
        Next::Admit(rules) => Event::Admitted(admit(log, rules)),
        Next::Finish {
            hand_ins,
            generation,
        } => {
            let finished = hand_ins.into_iter().map(|h| finished(h, generation));
            Event::Finished(finished.collect())
        }
        Next::Commit(draft) => Event::Settled(log.commit(draft)),
        Next::CommitGap(ranges) => {
            let draft = Draft::Gap(gaps(log.state(), &ranges));
            Event::Settled(log.commit(draft))
        }
        Next::Settle => Event::Settled(match log.settle() {
            Ok(Some(outcome)) => Ok(outcome),
            Ok(None) => Err(Error::new(
                Kind::Bug,
                "log.settle",
                "an attempt vanished unsettled",
            )),
            Err(error) => Err(error),
        }),
        Next::Leave => Event::Left(log.leave()),
        Next::Publish(committed) => Event::Published(log.publish(&committed)),
        Next::Listen(_) | Next::ListenToTasks(_) | Next::Pause(_) | Next::End(_) => Event::Waited,
    }
}

fn look(log: &mut Log) -> Result<()> {
    match log.grown()? {
        true => log.refresh(),
        false => Ok(()),
    }
}

fn admit(log: &Log, mut rules: Box<NewRules>) -> Result<Box<NewRules>, String> {
    let state = log.state();
    state
        .check_swap(&rules.swap)
        .map_err(|reason| reason.to_string())?;
    match rules.breaking.take().filter(|_| has_rows(state)) {
        Some(error) => Err(error.to_string()),
        None => Ok(rules),
    }
}

/// The log's positions of these partitions, as a message to the task that reads them.
pub fn positioned(state: &State, partitions: &[SplitId], because: Because) -> ToTask {
    let at = |partition| position(state, partition);
    let positions: Vec<Position> = partitions.iter().filter_map(at).collect();
    match because {
        Because::Asked => ToTask::Positions(positions),
        Because::Rewound => ToTask::Rewound(positions),
        Because::Assigned => ToTask::Assign(positions),
        Because::Dropped { up_to, why } => ToTask::Dropped {
            up_to,
            positions,
            why,
        },
    }
}

fn finished(hand_in: HandIn, generation: u64) -> Finished {
    Finished {
        task: hand_in.task,
        number: hand_in.number,
        receipt: durable(hand_in.sealed, generation),
    }
}

/// W2: every file sealed, so durable, and its size checked.
fn durable(sealed: Sealed, generation: u64) -> Result<PreparedCommit> {
    let Sealed {
        base,
        files,
        spans,
        counters,
    } = sealed;
    let mut added = Vec::with_capacity(files.len());
    for file in files {
        added.push(file.finish()?);
    }
    let mut sums: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for (transform, counter, amount) in counters {
        *sums
            .entry(transform)
            .or_default()
            .entry(counter)
            .or_default() += amount;
    }
    Ok(PreparedCommit {
        base,
        generation: generation,
        spans,
        files: added,
        deliveries: Vec::new(),
        counters: sums,
    })
}

/// Where the log says that a split goes on.
pub fn position(state: &State, split: &SplitId) -> Option<Position> {
    let at = state.splits.get(split)?;
    Some(Position {
        split: split.clone(),
        epoch: at.epoch,
        tp: TopicPartition {
            topic: at.topic.as_str().into(),
            partition: at.partition,
        },
        next: at.to,
    })
}

fn gaps(state: &State, ranges: &[LostRange]) -> Vec<Span> {
    let epoch = |split| state.splits.get(split).map_or(0, |c| c.epoch);
    let spans = ranges.iter();
    spans
        .map(|r| gap(&r.split, epoch(&r.split), r.from, r.to))
        .collect()
}

/// A gap of one split: offsets `[from, to)` were gone before they were read.
pub fn gap(split: &SplitId, epoch: u64, from: i64, to: i64) -> Span {
    Span {
        split: split.clone(),
        epoch,
        from,
        to,
        lost: u64::try_from(to - from).unwrap_or(0),
        records: Default::default(),
        rows: Default::default(),
        dead_letters: 0,
    }
}
