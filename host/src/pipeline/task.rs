//! One task: the path of a record, in one direction.
//!
//! ```text
//! Source::next → Chain::apply → Sink::write ─ roll: Sink::seal → committer: finish → Log::commit → publish → acknowledge
//! ```
//! Commits overlap reading: at most one is in flight, and the file opened after it chains on it. When it fails, both are
//! dropped and reading begins again at the log's positions. No record is lost by that and none is written twice: what
//! was not committed was never visible.
//!
//! New rules come as an answer. What was made under the old ones is sealed apart and handed in, also where a commit is in
//! flight (the committer makes one of both), and the next batch goes through the new chain.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::report::{Left, Report, Stages};
use super::stop::Stop;
use crate::chain::{Chain, Letter};
use crate::clock::Clock;
use crate::error::{Error, Kind, Remedy, Result};
use crate::record::Batch;
use crate::sink::{Sealed, Sink};
use crate::source::{Lost, LostRange, Position, Source, lost};

/// How long one poll of the source waits when nothing comes: the delay of a stop, a roll by age and an answer.
const POLL_WAIT: Duration = Duration::from_millis(50);

/// How often a task says how far behind it is and what it has read; metrics are scraped no faster.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What a task asks of its pipeline's committer.
#[derive(Debug)]
pub enum Ask {
    /// Commit this; answered by `Committed` or `Dropped`. `era`: swaps that the task had heard of when it made the rows.
    Commit {
        task: usize,
        sealed: Sealed,
        era: u64,
    },
    /// What was left of the rules before a swap. One answer for it and a commit in flight; none where there is neither.
    Flushed {
        task: usize,
        sealed: Option<Sealed>,
        era: u64,
    },
    /// Nothing more comes from this task.
    Ended { task: usize },
    /// Where does the log say that the chains of this task go on? Answered by `Positions`.
    Positions { task: usize },
    /// Offsets gone before they were read: commit them as a gap, then answer `Positions`.
    Gap { task: usize, ranges: Vec<LostRange> },
}

/// What the committer tells a task.
#[derive(Debug)]
pub enum Answer {
    Committed,
    /// What was handed in is not in the log and never will be: drop what chains on it and go on here.
    Dropped {
        positions: Vec<Position>,
        why: String,
    },
    Positions(Vec<Position>),
    /// Read these chains too.
    Assign(Vec<Position>),
    /// Other rules from the next batch on; heard as soon as the batch in hand is written.
    Swap(Box<Chain>),
}

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
    /// After a fault that may pass, doubled up to `longest_pause`.
    pub first_pause: Duration,
    pub longest_pause: Duration,
}

#[derive(Debug)]
pub struct Task {
    pub options: TaskOptions,
    pub source: Box<dyn Source>,
    pub chain: Chain,
    pub sink: Box<dyn Sink>,
    pub ask: Sender<Ask>,
    pub answers: Receiver<Answer>,
    pub stop: Stop,
    pub report: Arc<dyn Report>,
    pub clock: Arc<dyn Clock>,
    pub state: TaskState,
}

/// What changes from step to step.
#[derive(Debug, Default)]
pub struct TaskState {
    in_flight: bool,
    /// Swaps heard of.
    era: u64,
    /// Faults in a row since the last commit or batch, for backoff.
    faults: u32,
    waiting: bool,
    /// When to say again where it stands.
    tell_due: Duration,
    stages: Stages,
    /// Offsets read since the last seal, and those sealed and not yet committed.
    open: u64,
    sealed: u64,
}

enum Step {
    On,
    End,
}

impl Task {
    /// Runs until asked to stop, or until the end of what was there (`available_now`).
    pub fn run(mut self) -> Result<()> {
        let ended = self.go_on();
        let task = self.options.index;
        let uncommitted = self.state.open + self.state.sealed;
        let lag = self.source.lag().map(|behind| behind + uncommitted);
        self.report.left(task, Left { uncommitted, lag });
        drop(self.ask.send(Ask::Ended { task }));
        ended
    }

    fn go_on(&mut self) -> Result<()> {
        loop {
            match self.step() {
                Ok(Step::On) => {}
                Ok(Step::End) => return Ok(()),
                Err(error) => match error.remedy() {
                    Remedy::Retry | Remedy::RestartTask => {
                        if !self.begin_again(error)? {
                            return Ok(());
                        }
                    }
                    Remedy::StopPipeline => match lost(&error) {
                        Some(Lost::AgedOut(ranges)) if self.options.gaps => {
                            self.pass_over(ranges.clone())?;
                        }
                        _ => return Err(error),
                    },
                },
            }
        }
    }

    fn step(&mut self) -> Result<Step> {
        while let Ok(answer) = self.answers.try_recv() {
            self.hear(answer)?;
        }
        if self.stop.asked() || self.options.available_now && self.source.caught_up() {
            return self.drain();
        }
        let begun = self.clock.elapsed();
        if begun >= self.state.tell_due {
            self.tell(begun);
        }
        if let Some(batch) = self.source.next(POLL_WAIT)? {
            self.resumed();
            let range = batch.covers.range;
            self.state.open += u64::try_from(range.to - range.from).unwrap_or(0);
            let read = self.clock.elapsed();
            let at = |error: Error| error.with("at", place(&batch));
            let applied = self.chain.apply(&batch).map_err(at)?;
            let transformed = self.clock.elapsed();
            if self.options.refuse_none
                && let Some(letter) = applied.letters.first()
            {
                return Err(refused(&batch, letter));
            }
            self.sink.write(&batch, applied).map_err(at)?;
            let stages = &mut self.state.stages;
            stages.read += read.saturating_sub(begun);
            stages.transform += transformed.saturating_sub(read);
            stages.write += self.clock.elapsed().saturating_sub(transformed);
        }
        let full = self.sink.memory() > self.options.memory;
        if full && self.state.in_flight {
            self.source.pause(true)?;
            self.settle()?;
            self.source.pause(false)?;
        }
        if !self.state.in_flight && (full || self.sink.should_roll()) {
            self.roll()?;
        }
        Ok(Step::On)
    }

    fn tell(&mut self, now: Duration) {
        let task = self.options.index;
        self.report.lag(task, self.source.lag());
        self.tell_gathered();
        self.state.tell_due = now.saturating_add(TELL_EVERY);
    }

    /// What was read and is not known to be committed.
    fn tell_gathered(&self) {
        let mut gathered = self.sink.gathered();
        gathered.records += self.state.sealed;
        self.report.gathered(self.options.index, gathered);
    }

    fn roll(&mut self) -> Result<()> {
        let begun = self.clock.elapsed();
        self.tell(begun);
        if let Some(sealed) = self.sink.seal()? {
            let mut stages = std::mem::take(&mut self.state.stages);
            stages.seal = self.clock.elapsed().saturating_sub(begun);
            self.report.stages(self.options.index, stages);
            self.state.in_flight = true;
            self.state.sealed += std::mem::take(&mut self.state.open);
            self.send(Ask::Commit {
                task: self.options.index,
                sealed,
                era: self.state.era,
            })?;
        }
        Ok(())
    }

    fn swap(&mut self, chain: Chain) -> Result<()> {
        let begun = self.clock.elapsed();
        let sealed = self.sink.seal();
        self.chain = chain;
        let era = self.state.era;
        self.state.era += 1;
        let micros = self.clock.elapsed().saturating_sub(begun).as_micros();
        tracing::debug!(task = self.options.index, micros, "went over to new rules");
        // What cannot be sealed is dropped by the error and read again, under the new rules.
        let (sealed, result) = match sealed {
            Ok(sealed) => (sealed, Ok(())),
            Err(error) => (None, Err(error)),
        };
        if sealed.is_some() {
            self.state.in_flight = true;
            self.state.sealed += std::mem::take(&mut self.state.open);
        }
        self.send(Ask::Flushed {
            task: self.options.index,
            sealed,
            era,
        })?;
        result
    }

    /// Waits for the answer to the commit in flight.
    fn settle(&mut self) -> Result<()> {
        while self.state.in_flight && !self.stop.overdue() {
            match self.answers.recv_timeout(POLL_WAIT) {
                Ok(answer) => self.hear(answer)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(committer_gone()),
            }
        }
        Ok(())
    }

    fn hear(&mut self, answer: Answer) -> Result<()> {
        match answer {
            Answer::Committed => {
                self.state.in_flight = false;
                self.state.faults = 0;
                self.state.sealed = 0;
                self.tell_gathered();
                Ok(())
            }
            Answer::Dropped { positions, why } => {
                tracing::info!(
                    task = self.options.index,
                    why,
                    "commit dropped, reading again"
                );
                self.state.in_flight = false;
                self.go_to(&positions)
            }
            Answer::Positions(positions) => self.go_to(&positions),
            Answer::Assign(positions) => self.source.assign(&positions),
            Answer::Swap(chain) => self.swap(*chain),
        }
    }

    /// The log's positions: what was made after them is dropped.
    fn go_to(&mut self, positions: &[Position]) -> Result<()> {
        self.sink.discard();
        self.source.seek(positions)?;
        (self.state.open, self.state.sealed) = (0, 0);
        self.tell_gathered();
        Ok(())
    }

    /// Commits what is in hand, if the deadline allows. With `available_now`, a dropped commit means going on.
    fn drain(&mut self) -> Result<Step> {
        self.settle()?;
        let ending = self.stop.asked() || self.source.caught_up();
        if !ending {
            return Ok(Step::On);
        }
        if !self.state.in_flight && !self.stop.overdue() {
            self.roll()?;
            self.settle()?;
        }
        if self.state.in_flight {
            self.sink.discard();
        }
        if self.stop.asked() || self.source.caught_up() {
            Ok(Step::End)
        } else {
            Ok(Step::On)
        }
    }

    /// After a fault: wait, drop what is not committed, go back to the log's positions. False: asked to stop.
    fn begin_again(&mut self, error: Error) -> Result<bool> {
        self.sink.discard();
        if error.remedy() == Remedy::Retry {
            let pause = self
                .options
                .first_pause
                .saturating_mul(1 << self.state.faults.min(16))
                .min(self.options.longest_pause);
            self.state.faults += 1;
            if !self.state.waiting {
                self.state.waiting = true;
                self.report.waiting(&error);
            }
            if self.stop.wait(pause) {
                return Ok(false);
            }
        }
        self.settle()?;
        if self.state.in_flight {
            return Ok(false);
        }
        self.send(Ask::Positions {
            task: self.options.index,
        })?;
        self.repositioned()
    }

    /// Commits what was read before the hole, then the hole, and goes on behind it.
    fn pass_over(&mut self, ranges: Vec<LostRange>) -> Result<()> {
        for range in &ranges {
            tracing::warn!(at = %range.tp, from = range.from, to = range.to, "offsets lost, recorded as a gap");
        }
        self.settle()?;
        self.roll()?;
        self.settle()?;
        self.send(Ask::Gap {
            task: self.options.index,
            ranges,
        })?;
        self.repositioned().map(drop)
    }

    /// Waits for the log's positions and goes there. False: asked to stop.
    fn repositioned(&mut self) -> Result<bool> {
        loop {
            match self.answers.recv_timeout(POLL_WAIT) {
                Ok(answer @ Answer::Positions(_)) => {
                    self.hear(answer)?;
                    return Ok(true);
                }
                Ok(answer) => self.hear(answer)?,
                Err(RecvTimeoutError::Timeout) if self.stop.overdue() => return Ok(false),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(committer_gone()),
            }
        }
    }

    fn resumed(&mut self) {
        self.state.faults = 0;
        if std::mem::take(&mut self.state.waiting) {
            self.report.resumed();
        }
    }

    fn send(&self, ask: Ask) -> Result<()> {
        self.ask.send(ask).map_err(|_| committer_gone())
    }
}

/// `topic/partition@from..to` of what was read.
fn place(batch: &Batch) -> String {
    let range = batch.covers.range;
    format!("{}@{}..{}", batch.covers.tp, range.from, range.to)
}

fn refused(batch: &Batch, letter: &Letter) -> Error {
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
#[path = "task_tests.rs"]
mod tests;
