//! The requests of a committer to its log, and the answers.

use std::collections::BTreeMap;

use super::steps::{Because, Event, Finished, NewRules, Next, Seen};
use crate::commit::{Committed, Draft, Log, Outcome, PreparedCommit, Span, State};
use crate::error::{Error, Kind, Result};
use crate::pipeline::messages::{HandIn, ToTask};
use crate::pipeline::rules::columns::has_rows;
use crate::record::{SplitId, TopicPartition};
use crate::sink::{Fence, Receiver, Sealed};
use crate::source::{LostRange, Position};

/// The state of the log; the caller adds clock and stop.
pub fn seen(log: &Log) -> Seen {
    let state = log.state();
    Seen {
        ready_in: log.ready_in(),
        generation: state.generation(),
        rewound: state.removed_at,
        ..Seen::default()
    }
}

/// Carries out what the machine waits for, if it concerns the log or the outputs.
pub fn perform(log: &mut Log, receiver: &dyn Receiver, next: Next) -> Event {
    match next {
        Next::Look => Event::Looked(look(log)),
        Next::Refresh => Event::Refreshed(log.refresh()),
        Next::Admit(rules) => Event::Admitted(admit(log, rules)),
        Next::Finish {
            hand_ins,
            generation,
        } => {
            let finished = hand_ins.into_iter().map(|h| finished(log, h, generation));
            let finished: Vec<Finished> = finished.collect();
            if let Err(error) = refresh_behind(log, &finished) {
                tracing::debug!(%error, "the log is read again with the next entry");
            }
            Event::Finished(finished)
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
        Next::Publish(committed) => Event::Published(publish(log, receiver, &committed)),
        Next::Listen(_) | Next::ListenToTasks(_) | Next::Pause(_) | Next::End(_) => Event::Waited,
    }
}

/// P1: gives files their final names, and tells the receiver to finish what it holds back.
fn publish(log: &mut Log, receiver: &dyn Receiver, committed: &Committed) -> Result<()> {
    log.publish(committed)?;
    for delivery in committed.entry.deliver.iter().filter(|d| d.token.is_some()) {
        receiver.finish(delivery)?;
    }
    give_up(receiver, &committed.entry.gc);
    receiver.passed(&committed.entry.spans);
    Ok(())
}

/// Deliveries that cannot be given up now are given up by a later start, as with the deletion of files.
fn give_up(receiver: &dyn Receiver, collected: &[String]) {
    for id in collected {
        if let Err(error) = receiver.give_up(id) {
            tracing::debug!(id, %error, "a collected delivery stays until the next start");
        }
    }
}

/// At a start, on a log that was just read: deliveries that other processes prepared are finished if an entry names
/// them. Otherwise an entry first lists them in `gc` (W8), then they are given up. A live process that had not
/// committed one yet loses that work (V4) and reads again.
pub fn recover(
    log: &mut Log,
    receiver: &dyn Receiver,
    collect: impl FnOnce(&mut Log, Draft) -> Result<Outcome>,
) -> Result<()> {
    let mut orphans = receiver.prepared()?;
    let state = log.state();
    for delivered in orphans.iter().filter_map(|id| state.delivered.get(id)) {
        receiver.finish(&delivered.delivery)?;
    }
    orphans.retain(|id| !state.delivered.contains_key(id));
    let (collected, unnamed): (Vec<String>, Vec<String>) = orphans
        .into_iter()
        .partition(|id| state.collected.contains(id));
    give_up(receiver, &collected);
    if unnamed.is_empty() {
        return Ok(());
    }
    // A delivery that was committed meanwhile is left out; its committer finishes it.
    if let Outcome::Committed { committed, .. } = collect(log, Draft::Gc(unnamed))? {
        give_up(receiver, &committed.entry.gc);
    }
    Ok(())
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

fn finished(log: &Log, hand_in: HandIn, generation: u64) -> Finished {
    Finished {
        task: hand_in.task,
        number: hand_in.number,
        receipt: durable(log, hand_in.sealed, generation),
    }
}

/// Where another process came first, a task is to go on behind it.
fn refresh_behind(log: &mut Log, finished: &[Finished]) -> Result<()> {
    let conflict = |f: &Finished| matches!(&f.receipt, Err(e) if e.kind() == Kind::Conflict);
    match finished.iter().any(conflict) {
        true => log.refresh(),
        false => Ok(()),
    }
}

/// D3, for one hand-in.
#[derive(Debug)]
struct AtLog<'a> {
    log: &'a Log,
    spans: Vec<Position>,
    generation: u64,
}

impl Fence for AtLog<'_> {
    fn holds(&self) -> Result<()> {
        let state = self.log.state();
        let stands = |p: &Position| position(state, &p.split).as_ref() == Some(p);
        let next = state.generation() == self.generation && self.spans.iter().all(stands);
        match next && !self.log.grown()? {
            true => Ok(()),
            false => Err(Error::new(
                Kind::Conflict,
                "sink.fence",
                "another process has committed; these rows are read again from where the log stands",
            )),
        }
    }
}

/// W2: seals every file, so that it is durable, and checks its size; every delivery is taken, or held for its token. Rows
/// that a receiver refuses become dead letters here, and the spans count them.
fn durable(log: &Log, sealed: Sealed, generation: u64) -> Result<PreparedCommit> {
    let Sealed {
        base,
        files,
        deliveries,
        mut spans,
        counters,
    } = sealed;
    let mut added = Vec::with_capacity(files.len());
    for file in files {
        added.push(file.finish()?);
    }
    let mut delivered = Vec::with_capacity(deliveries.len());
    let state = log.state();
    let begins = |span: &Span| {
        let at = position(state, &span.split)?;
        Some(Position {
            epoch: span.epoch,
            next: span.from,
            ..at
        })
    };
    let fence = AtLog {
        log,
        spans: spans.iter().filter_map(begins).collect(),
        generation,
    };
    for delivery in deliveries {
        let prepared = delivery.prepare(&fence)?;
        delivered.extend(prepared.deliveries);
        added.extend(prepared.letters);
        for (split, refused) in prepared.refused {
            let of_split = spans.iter_mut().filter(|span| span.split == split);
            of_split.for_each(|span| refused.settle(span));
        }
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
        generation,
        spans,
        files: added,
        deliveries: delivered,
        counters: sums,
    })
}

/// The position of a split according to the log.
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
