//! One task: the path of a record, in one direction.
//!
//! ```text
//! Source::next → TransformChain::apply → Sink::write ─ roll: Sink::seal → committer: finish → Log::commit → publish → acknowledge
//! ```
//! Commits overlap reading: at most one is in flight, and the file opened after it begins where it ends. If it fails,
//! both are dropped and reading begins again at the log's positions. This loses no record and writes none twice: what
//! was not committed was never visible.
//!
//! New rules come as a message. What was made under the old ones is sealed separately and handed in, even if a commit
//! is in flight (the committer joins the two), and the next batch goes through the new chain.
//!
//! [`machine`] decides what comes next; this file carries it out: it reads, transforms, writes, seals, sends, waits.

mod hold;
pub mod machine;
pub mod portion;

pub use hold::{Hold, LeftOut, Wanted};

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::messages::{ToCommitter, ToTask};
use super::report::{Left, Report, Stages};
use super::stop::Stop;
use crate::backoff::Backoff;
use crate::chain::{DeadLetter, TransformChain, held};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::record::Batch;
use crate::sink::Sink;
use crate::source::{Lost, Source, lost};
use machine::{Effect, Event, Machine, Next, POLL_WAIT, Seen, Step, Told};
use portion::Portion;

/// How often a task reports its lag and what it has read; metrics are not scraped more often.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How a task is set up; nothing in here changes while it runs.
#[derive(Clone, Debug)]
pub struct TaskOptions {
    pub index: usize,
    /// Take what is there, commit, end.
    pub available_now: bool,
    /// `source.on.data.loss = gap`: a lost range is committed as such instead of stopping the pipeline.
    pub gaps: bool,
    /// `errors.tolerance = none`: the first refused piece stops the pipeline.
    pub refuse_none: bool,
    /// Bytes of memory that the open files may hold before the task waits for its commit.
    pub memory: usize,
    /// `retry.*`
    pub backoff: Backoff,
}

#[derive(Debug)]
pub struct Task {
    pub options: TaskOptions,
    pub source: Box<dyn Source>,
    pub chain: TransformChain,
    pub sink: Box<dyn Sink>,
    pub committer: Sender<ToCommitter>,
    pub messages: Receiver<ToTask>,
    pub stop: Stop,
    pub report: Arc<dyn Report>,
    pub clock: Arc<dyn Clock>,
    /// Limits per trigger.
    pub portion: Portion,
    /// A record that waits.
    pub hold: Hold,
    pub measured: Measured,
}

/// For reports; decides nothing.
#[derive(Debug, Default)]
pub struct Measured {
    stages: Stages,
    /// When the next such report is due.
    tell_due: Duration,
    /// When the last sealing began.
    seal_begun: Duration,
    /// Records of the batch that was read and is not written yet: they remain uncommitted if something fails in
    /// between.
    in_hand: u64,
}

impl Task {
    /// Runs until asked to stop, or until the end of what was there (`available_now`).
    pub fn run(mut self) -> Result<()> {
        let task = self.options.index;
        let mut machine = Machine::new(task, self.options.backoff);
        let ended = self.drive(&mut machine);
        let uncommitted = machine.uncommitted() + self.measured.in_hand;
        let lag = self.lag().map(|behind| behind + uncommitted);
        self.report.left(task, Left { uncommitted, lag });
        drop(self.committer.send(ToCommitter::Ended { task }));
        ended
    }

    fn drive(&mut self, machine: &mut Machine) -> Result<()> {
        let mut event = Event::Begun;
        let (mut since, mut was_read) = (self.clock.elapsed(), false);
        loop {
            let now = self.clock.elapsed();
            self.put_off(now.saturating_sub(since), was_read);
            since = now;
            let gathers = matches!(event, Event::Heard(_));
            let Step { effects, next } = machine.step(event, &self.seen());
            let done = effects.into_iter().try_for_each(|effect| self.act(effect));
            if gathers {
                self.tell_gathered(machine);
            }
            was_read = matches!(next, Next::Read);
            event = match (done, next) {
                (Err(_), Next::End(Some(error))) => return Err(error),
                (Err(error), _) => Event::Failed(error),
                (Ok(()), Next::Read) => self.read(machine),
                (Ok(()), Next::Listen(wait)) => self.listen(wait),
                (Ok(()), Next::Seal) => self.seal(machine),
                (Ok(()), Next::End(error)) => return error.map_or(Ok(()), Err),
            };
        }
    }

    /// What the sink waits for can only be missed while the source is read and has no more of the split (D2).
    fn put_off(&mut self, passed: Duration, was_read: bool) {
        for split in self.sink.awaited() {
            if !was_read || self.source.has_more(&split) || self.portion.holds(&split) {
                self.sink.put_off(&split, passed);
            }
        }
    }

    fn seen(&self) -> Seen {
        Seen {
            now: self.clock.elapsed(),
            stop_asked: self.stop.asked(),
            stop_overdue: self.stop.overdue(),
            at_end: self.options.available_now
                && self.portion.is_done(self.source.caught_up())
                && !self.sink.waits(),
            // Either must be committed before more is taken.
            memory_full: self.sink.memory() > self.options.memory || self.portion.is_full(),
            roll_due: self.sink.should_roll(),
            holds: self.sink.gathered().records > 0,
        }
    }

    fn act(&mut self, effect: Effect) -> Result<()> {
        match effect {
            Effect::Send(message) => {
                let sent = self.committer.send(message);
                return sent.map_err(|_| committer_gone());
            }
            Effect::Discard => {
                self.sink.discard();
                self.portion.dropped();
                self.hold.forget();
            }
            Effect::GoTo(positions) => {
                self.sink.discard();
                self.portion.moved(&positions);
                self.hold.forget();
                self.measured.in_hand = 0;
                return self.source.seek(&positions);
            }
            Effect::Assign(positions) => return self.source.assign(&positions),
            Effect::Release(partitions) => {
                self.portion.released(&partitions);
                return self.source.revoke(&partitions);
            }
            Effect::UseRules(chain) => {
                self.chain = *chain;
                self.hold.forget();
                let micros = self
                    .clock
                    .elapsed()
                    .saturating_sub(self.measured.seal_begun);
                let micros = micros.as_micros();
                tracing::debug!(task = self.options.index, micros, "went over to new rules");
            }
            Effect::PauseSource(paused) => return self.source.pause(paused),
            Effect::Tell(told) => self.tell(told),
        }
        Ok(())
    }

    fn tell(&self, told: Told) {
        match told {
            Told::Waiting(error) => self.report.waiting(&error),
            Told::Resumed => self.report.resumed(),
            Told::Dropped { why } => {
                let task = self.options.index;
                tracing::info!(task, why, "commit dropped, reading again");
            }
            Told::Gaps(ranges) => {
                for range in ranges {
                    tracing::warn!(at = %range.tp, from = range.from, to = range.to, "offsets lost, recorded as a gap");
                }
            }
        }
    }

    /// Takes a waiting message before the next batch.
    fn read(&mut self, machine: &Machine) -> Event {
        if let Ok(message) = self.messages.try_recv() {
            return Event::Heard(message);
        }
        let now = self.clock.elapsed();
        if now >= self.measured.tell_due {
            self.tell_standing(machine, now);
        }
        if let Some(wait) = self.still_held(now) {
            return self.listen(wait);
        }
        match self.read_batch() {
            Ok(Some(records)) => Event::Written { records },
            Ok(None) => Event::Quiet,
            Err(error) => match lost(&error) {
                Some(Lost::AgedOut(ranges)) if self.options.gaps => {
                    ranges.iter().for_each(|range| self.sink.lost(&range.split));
                    Event::Lost(ranges.clone())
                }
                _ => Event::Failed(error),
            },
        }
    }

    /// Reads one batch, applies the rules, writes it to the sink. Returns how many records it has (holes are none). `None`:
    /// nothing came.
    fn read_batch(&mut self) -> Result<Option<u64>> {
        let begun = self.clock.elapsed();
        let source = &mut self.source;
        let Some(batch) = self.portion.take(|| source.next(POLL_WAIT))? else {
            return Ok(None);
        };
        let records = batch.len() as u64;
        self.measured.in_hand = records;
        let read = self.clock.elapsed();
        let place = place(&batch);
        let at = |error: Error| error.with("at", &place);
        let applied = match self.chain.apply(&batch) {
            Ok(applied) => applied,
            Err(error) => match held(&error) {
                Some(on) => return self.before(batch, on).map(|()| None),
                None => return Err(at(error)),
            },
        };
        self.went_on();
        let transformed = self.clock.elapsed();
        if self.options.refuse_none
            && let Some(letter) = applied.dead_letters.first()
        {
            return Err(refused(&batch, letter));
        }
        self.sink.write(&batch, applied).map_err(at)?;
        let stages = &mut self.measured.stages;
        stages.read += read.saturating_sub(begun);
        stages.transform += transformed.saturating_sub(read);
        stages.write += self.clock.elapsed().saturating_sub(transformed);
        self.measured.in_hand = 0;
        Ok(Some(records))
    }

    fn listen(&self, wait: Duration) -> Event {
        match self.messages.recv_timeout(wait) {
            Ok(message) => Event::Heard(message),
            Err(RecvTimeoutError::Timeout) => Event::Quiet,
            Err(RecvTimeoutError::Disconnected) => Event::Failed(committer_gone()),
        }
    }

    fn seal(&mut self, machine: &Machine) -> Event {
        let begun = self.clock.elapsed();
        self.measured.seal_begun = begun;
        self.tell_standing(machine, begun);
        let sealed = self.sink.seal();
        if matches!(sealed, Ok(Some(_))) {
            self.portion.sealed();
            let mut stages = std::mem::take(&mut self.measured.stages);
            stages.seal = self.clock.elapsed().saturating_sub(begun);
            self.report.stages(self.options.index, stages);
        }
        Event::Sealed(sealed)
    }

    fn tell_standing(&mut self, machine: &Machine, now: Duration) {
        self.report.lag(self.options.index, self.lag());
        self.report.ends(self.options.index, &self.source.ends());
        self.tell_gathered(machine);
        self.measured.tell_due = now.saturating_add(TELL_EVERY);
    }

    /// Records above what was taken.
    fn lag(&self) -> Option<u64> {
        let behind = self.source.lag()?;
        Some(behind + self.portion.waiting())
    }

    /// Reports what was read and is not known to be committed.
    fn tell_gathered(&self, machine: &Machine) {
        let mut gathered = self.sink.gathered();
        gathered.records += machine.sealed();
        self.report.gathered(self.options.index, gathered);
    }
}

/// `topic/partition@from..to` of a batch.
fn place(batch: &Batch) -> String {
    let range = batch.covers.range;
    format!("{}@{}..{}", batch.covers.tp, range.from, range.to)
}

fn refused(batch: &Batch, letter: &DeadLetter) -> Error {
    let offset = batch.offset.value(letter.record as usize);
    let reason = letter.reasons.first();
    Error::new(
        Kind::RecordRefused,
        "chain.apply",
        "a record was refused and errors.tolerance is none",
    )
    .with("at", format!("{}@{offset}", batch.covers.tp))
    .with("transform", &letter.by.transform)
    .with("code", reason.map_or("", |r| &r.code))
    .with("reason", reason.map_or("", |r| &r.message))
    .hint("errors.tolerance = \"all\" sends refused records to the dead letters")
}

/// The committer's own error says why; this one only ends the task.
fn committer_gone() -> Error {
    Error::new(Kind::Stopped, "task", "the pipeline's committer has ended")
}

#[cfg(test)]
pub(super) mod tests;
