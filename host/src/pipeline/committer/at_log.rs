//! The requests of a committer to its log, and the answers.

use std::collections::BTreeMap;

use super::steps::{Because, Event, Finished, NewRules, Next, Seen};
use crate::commit::{Committed, Draft, Due, Held, Log, Outcome, PreparedCommit, Span, State};
use crate::error::{Error, Kind, Result};
use crate::pipeline::messages::{HandIn, ToTask};
use crate::pipeline::rules::columns::has_rows;
use crate::record::{SplitId, TopicPartition};
use crate::sink::{Fence, Receiver, Sealed};
use crate::source::{LostRange, Position};

/// The state of the log; the caller adds clock and stop.
pub fn seen(log: &Log, held: &Held<'_>) -> Seen {
    let state = log.state();
    Seen {
        ready_in: log.ready_in(),
        generation: state.generation(),
        rewound: state.rewound_at(),
        forgettable: log.forgettable(None),
        due: log.due(held),
        ..Seen::default()
    }
}

/// Carries out what the machine waits for, if it concerns the log or the outputs.
pub fn perform(log: &mut Log, receiver: &dyn Receiver, held: &Held<'_>, next: Next) -> Event {
    match next {
        Next::Look => Event::Looked(look(log, receiver)),
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
        Next::Forget(version) => Event::Settled(forget(log, receiver, version)),
        Next::LetLeave(due) => Event::Settled(let_leave(log, receiver, held, due)),
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

/// P1: gives files their final names, and tells the receiver to finish what it holds back. Rows of earlier entries come first.
fn publish(log: &mut Log, receiver: &dyn Receiver, committed: &Committed) -> Result<()> {
    log.publish(committed)?;
    finish_others(log, receiver)?;
    for delivery in committed.entry.deliver.iter().filter(|d| d.token.is_some()) {
        receiver.finish(delivery)?;
    }
    give_up(receiver, &committed.entry.gc);
    receiver.passed(&committed.entry.spans);
    log.checkpoint_if_due();
    Ok(())
}

/// V13: everything that the log names is published, removed and delivered, whichever process had begun it.
pub fn all_done(log: &mut Log, receiver: &dyn Receiver) -> Result<()> {
    log.redo()?;
    let prepared = receiver.prepared()?;
    let state = log.state();
    for delivered in prepared.iter().filter_map(|id| state.delivered.get(id)) {
        receiver.finish(&delivered.delivery)?;
    }
    Ok(())
}

/// May be repeated after an error.
fn forget(log: &mut Log, receiver: &dyn Receiver, version: u64) -> Result<Outcome> {
    if let Some(outcome) = log.settle()? {
        return Ok(outcome);
    }
    all_done(log, receiver)?;
    log.commit(Draft::Horizon(version))
}

/// May be repeated after an error.
fn let_leave(log: &mut Log, receiver: &dyn Receiver, held: &Held<'_>, due: Due) -> Result<Outcome> {
    if let Some(outcome) = log.settle()? {
        return Ok(outcome);
    }
    all_done(log, receiver)?;
    let draft = match due {
        Due::Expire => log.expire_draft(held),
        Due::Release => Some(Draft::Gc(log.releasable())),
    };
    let outcome = match draft {
        Some(draft) => log.commit(draft)?,
        None => Outcome::Lost {
            dropped: Vec::new(),
        },
    };
    if matches!(outcome, Outcome::Lost { .. }) {
        log.look_later();
    }
    Ok(outcome)
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
        .partition(|id| state.collected.contains_key(id));
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

/// P1, for entries of other processes that were read since: who wrote one may have died before it finished its deliveries. If it
/// lives and is about to, nothing is lost: the receiver recognises a repetition.
fn finish_others(log: &mut Log, receiver: &dyn Receiver) -> Result<()> {
    let others = log.take_others();
    if others.is_empty() {
        return Ok(());
    }
    let finished = receiver.prepared().and_then(|waiting| {
        let mut left = others.iter().filter(|d| waiting.contains(&d.id));
        left.try_for_each(|delivery| receiver.finish(delivery))
    });
    if finished.is_err() {
        log.put_back(others);
    }
    finished
}

fn look(log: &mut Log, receiver: &dyn Receiver) -> Result<()> {
    if log.grown()? {
        log.refresh()?;
    }
    finish_others(log, receiver)?;
    receiver.idle()
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

fn finished(log: &mut Log, hand_in: HandIn, generation: u64) -> Finished {
    let (mut prepared, mut refused) = (Vec::new(), BTreeMap::new());
    let receipt = durable(
        log,
        hand_in.sealed,
        generation,
        (&mut prepared, &mut refused),
    );
    if receipt.is_err() {
        // No entry will name them; the next one lists them in `gc`, and they are given up (W8).
        log.disown(prepared);
    }
    Finished {
        task: hand_in.task,
        number: hand_in.number,
        receipt,
        refused,
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
    /// `None`: the log does not know one of the splits.
    spans: Option<Vec<Position>>,
    generation: u64,
}

impl Fence for AtLog<'_> {
    fn holds(&self) -> Result<()> {
        let state = self.log.state();
        let stands = |p: &Position| position(state, &p.split).as_ref() == Some(p);
        let stand = |spans: &Vec<Position>| spans.iter().all(stands);
        let next = state.generation() == self.generation && self.spans.as_ref().is_some_and(stand);
        match next && self.log.is_next()? {
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
/// that a receiver refuses become dead letters here, and the spans count them. `held`: ids of what is held for its token or durable
/// as a dead letter, also after an error. `first`: of each split, records of which nothing was refused before.
fn durable(
    log: &Log,
    sealed: Sealed,
    generation: u64,
    (held, first): (&mut Vec<String>, &mut BTreeMap<SplitId, u64>),
) -> Result<PreparedCommit> {
    let Sealed {
        base,
        files,
        deliveries,
        mut spans,
        counters,
        notes: _,
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
        spans: spans.iter().map(begins).collect(),
        generation,
    };
    for delivery in deliveries {
        let prepared = delivery.prepare(&fence)?;
        let tokens = prepared.deliveries.iter().filter(|d| d.token.is_some());
        held.extend(tokens.map(|d| d.id.clone()));
        held.extend(prepared.letters.iter().map(|file| file.id.clone()));
        delivered.extend(prepared.deliveries);
        added.extend(prepared.letters);
        for (split, refused) in prepared.refused {
            *first.entry(split.clone()).or_default() += refused.first;
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
