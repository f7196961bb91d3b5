//! What a task does next: phases and steps, without I/O and without a clock.
//!
//! ```text
//! Reading ─ roll, flush ─→ Sealing ─→ the phase before it
//!         ─ memory is full, a hand-in is open ─→ Full ─ answered ─→ Reading
//!         ─ fault ─→ BackingOff ─→ Settling ─ all answered ─→ Repositioning ─ positions ─→ Reading
//!         ─ offsets lost ─→ Settling ─→ Sealing ─→ Settling ─ gap ─→ Repositioning ─→ Reading
//!         ─ stop, or the end ─→ Settling ─→ Sealing ─→ Settling ─→ Ended
//! ```
//! At most one roll is open (handed in, and not answered). What a flush hands in meanwhile continues it. A file that is
//! made while a hand-in is open continues it too: if the hand-in is dropped, so is the file.

use std::collections::VecDeque;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::chain::TransformChain;
use crate::error::{Error, Kind, Remedy};
use crate::pipeline::messages::{Change, HandIn, ToCommitter, ToTask};
use crate::record::SplitId;
use crate::sink::Sealed;
use crate::source::{LostRange, Position};

/// Longest single wait for records or for an answer. It delays a stop, a roll by age and an answer by as much.
pub const POLL_WAIT: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub enum Phase {
    /// Reads. A hand-in may be open.
    Reading,
    /// Memory is full and a hand-in is open: the source is paused until the answer.
    Full,
    /// After a fault that may pass, nothing is read before this time.
    BackingOff { until: Duration },
    /// Reads nothing until everything that was handed in is answered, and then does this.
    Settling(Then),
    /// The sink seals what it holds; then the phase goes back to what it was.
    Sealing(Goal, Box<Phase>),
    /// The committer was asked where the log goes on.
    Repositioning,
    /// It ended well, or with an error on which a person has to act.
    Ended(Option<Error>),
}

#[cfg(test)]
impl Phase {
    pub fn name(&self) -> &'static str {
        match self {
            Phase::Reading => "task Reading",
            Phase::Full => "task Full",
            Phase::BackingOff { .. } => "task BackingOff",
            Phase::Settling(_) => "task Settling",
            Phase::Sealing(..) => "task Sealing",
            Phase::Repositioning => "task Repositioning",
            Phase::Ended(_) => "task Ended",
        }
    }
}

#[derive(Debug)]
pub enum Then {
    /// At the end: hands in what it still holds.
    SealLast,
    /// At the end: it holds nothing any more.
    End,
    /// After a fault.
    AskPositions,
    /// Before a gap is recorded: hands in what was read before it.
    SealBefore(Vec<LostRange>),
    RecordGap(Vec<LostRange>),
}

/// Why the sink seals.
#[derive(Debug)]
pub enum Goal {
    /// A file is full or old, or it is the end.
    Roll,
    Flush {
        flush: u64,
        change: Change,
    },
}

#[derive(Debug)]
pub enum Event {
    Begun,
    /// A batch went through the rules into the sink.
    Written {
        records: u64,
    },
    /// No record and no message came for [`POLL_WAIT`].
    Quiet,
    Heard(ToTask),
    /// How the requested sealing ended; `None`: the sink held nothing that can be sealed.
    Sealed(Result<Option<Sealed>, Error>),
    /// The source lacks offsets, and a gap must be recorded.
    Lost(Vec<LostRange>),
    Failed(Error),
}

/// Carried out in this order. If one fails, those after it and the next wait are skipped, and the failure is the next
/// event.
#[derive(Debug)]
pub enum Effect {
    Send(ToCommitter),
    /// The sink drops what is not sealed.
    Discard,
    /// The sink drops what is not sealed, the source goes to these positions.
    GoTo(Vec<Position>),
    Assign(Vec<Position>),
    Release(Vec<SplitId>),
    UseRules(Box<TransformChain>),
    /// The source stops fetching, or goes on.
    PauseSource(bool),
    Tell(Told),
}

/// Reports, for those who watch the pipeline.
#[derive(Debug)]
pub enum Told {
    Waiting(Error),
    Resumed,
    Dropped { why: String },
    Gaps(Vec<LostRange>),
}

/// What the task waits for. When that ends, it is the next event.
#[derive(Debug)]
pub enum Next {
    /// A message if there is one, otherwise one batch: `Heard`, `Written`, `Quiet`, `Lost` or `Failed`.
    Read,
    /// A message: `Heard` or, after this time, `Quiet`.
    Listen(Duration),
    /// `Sealed`
    Seal,
    End(Option<Error>),
}

#[derive(Debug)]
pub struct Step {
    pub effects: Vec<Effect>,
    pub next: Next,
}

/// What the machine needs to know at the moment of a step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub now: Duration,
    pub stop_asked: bool,
    /// The time for draining is over.
    pub stop_overdue: bool,
    /// Everything that was there is read, and the task shall end then (`available-now`).
    pub at_end: bool,
    /// The open files hold more memory than the task may use.
    pub memory_full: bool,
    /// `rotate.*`: bytes, rows or age.
    pub roll_due: bool,
    /// The sink holds records; after a seal, such that cannot be sealed yet.
    pub holds: bool,
}

impl Seen {
    fn is_ending(&self) -> bool {
        self.stop_asked || self.at_end
    }
}

/// What was handed in and is not answered.
#[derive(Debug, Default)]
pub struct HandIns {
    last: u64,
    /// Number of each open hand-in, and how many records were read for it; ascending.
    open: VecDeque<(u64, u64)>,
}

impl HandIns {
    fn any_open(&self) -> bool {
        !self.open.is_empty()
    }

    fn add(&mut self, records: u64) -> u64 {
        self.last += 1;
        self.open.push_back((self.last, records));
        self.last
    }

    /// False: all of these were answered before.
    fn answered(&mut self, up_to: u64) -> bool {
        let before = self.open.len();
        self.open.retain(|(number, _)| *number > up_to);
        self.open.len() < before
    }

    fn records(&self) -> u64 {
        self.open.iter().map(|(_, records)| records).sum()
    }
}

#[derive(Debug)]
pub struct Machine {
    task: usize,
    phase: Phase,
    hand_ins: HandIns,
    /// Records read and not sealed.
    held: u64,
    /// Number of changes of rules received.
    swap_seq: u64,
    backoff: Backoff,
    /// The source was paused, or it is not known whether it was let go on: it is, before the next read.
    paused: bool,
}

impl Machine {
    pub fn new(task: usize, backoff: Backoff) -> Machine {
        Machine {
            task,
            phase: Phase::Reading,
            hand_ins: HandIns::default(),
            held: 0,
            swap_seq: 0,
            backoff,
            paused: false,
        }
    }

    #[cfg(test)]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Records that are handed in and not answered.
    pub fn sealed(&self) -> u64 {
        self.hand_ins.records()
    }

    /// Records that are read and not known to be committed.
    pub fn uncommitted(&self) -> u64 {
        self.held + self.sealed()
    }

    pub fn step(&mut self, event: Event, seen: &Seen) -> Step {
        let mut effects = Vec::new();
        let mut reads_first = false;
        match event {
            Event::Begun | Event::Quiet => {}
            Event::Written { records } => {
                self.held += records;
                if self.backoff.is_waiting() {
                    effects.push(Effect::Tell(Told::Resumed));
                }
                self.backoff.reset();
            }
            Event::Heard(message) => self.hear(message, &mut effects),
            // A sink that held nothing is asked again only after more was read.
            Event::Sealed(sealed) => reads_first = !self.sealed_as(sealed, seen, &mut effects),
            Event::Lost(ranges) => {
                effects.push(Effect::Tell(Told::Gaps(ranges.clone())));
                self.phase = Phase::Settling(Then::SealBefore(ranges));
            }
            Event::Failed(error) => self.fail(error, seen, &mut effects),
        }
        // `seen.at_end` is from before the source moves: at the new position there may be more to read.
        let moves = |effect: &Effect| matches!(effect, Effect::GoTo(_) | Effect::Assign(_));
        let seen = &Seen {
            at_end: seen.at_end && !effects.iter().any(moves),
            ..*seen
        };
        let next = self.go_on(seen, reads_first, &mut effects);
        Step { effects, next }
    }

    fn hear(&mut self, message: ToTask, effects: &mut Vec<Effect>) {
        match message {
            ToTask::Committed { up_to } => {
                self.hand_ins.answered(up_to);
            }
            ToTask::Dropped {
                up_to,
                positions,
                why,
            } => {
                if self.hand_ins.answered(up_to) {
                    effects.push(Effect::Tell(Told::Dropped { why }));
                    self.go_to(positions, effects);
                }
            }
            ToTask::Rewound(positions) => self.go_to(positions, effects),
            ToTask::Positions(positions) => {
                self.go_to(positions, effects);
                if matches!(self.phase, Phase::Repositioning) {
                    self.phase = Phase::Reading;
                }
            }
            ToTask::Assign(positions) => effects.push(Effect::Assign(positions)),
            ToTask::Flush { flush, change } => self.seal(Goal::Flush { flush, change }),
        }
    }

    fn go_to(&mut self, positions: Vec<Position>, effects: &mut Vec<Effect>) {
        self.held = 0;
        effects.push(Effect::GoTo(positions));
    }

    fn seal(&mut self, goal: Goal) {
        let before = std::mem::replace(&mut self.phase, Phase::Reading);
        self.phase = Phase::Sealing(goal, Box::new(before));
    }

    /// False: the sink held nothing.
    fn sealed_as(
        &mut self,
        sealed: Result<Option<Sealed>, Error>,
        seen: &Seen,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Phase::Sealing(goal, before) = std::mem::replace(&mut self.phase, Phase::Reading)
        else {
            return true;
        };
        self.phase = *before;
        // What cannot be sealed is dropped after the failure and read again.
        let (sealed, failed) = match sealed {
            Ok(sealed) => (sealed, None),
            Err(error) => (None, Some(error)),
        };
        let hand_in = sealed.map(|sealed| self.hand_in(sealed));
        let any = hand_in.is_some();
        let flushes = matches!(goal, Goal::Flush { .. });
        match (goal, hand_in) {
            (Goal::Roll, Some(hand_in)) => {
                effects.push(Effect::Send(ToCommitter::Commit(hand_in)));
            }
            (Goal::Roll, None) => {}
            (Goal::Flush { flush, change }, hand_in) => {
                let task = self.task;
                let flushed = ToCommitter::Flushed {
                    task,
                    flush,
                    hand_in,
                };
                match change {
                    Change::Rules(chain) => {
                        self.swap_seq += 1;
                        effects.push(Effect::UseRules(chain));
                        effects.push(Effect::Send(flushed));
                    }
                    Change::Release(partitions) => {
                        effects.push(Effect::Send(flushed));
                        effects.push(Effect::Release(partitions));
                    }
                }
            }
        }
        match failed {
            Some(error) => self.fail(error, seen, effects),
            // What stays was made by the old rules, or of a split that is released: it is read again.
            None if flushes && seen.holds => {
                let message = "records that could not be sealed before a change are read again";
                let error = Error::new(Kind::Conflict, "task.flush", message);
                self.fail(error, seen, effects);
            }
            None => {}
        }
        any
    }

    fn hand_in(&mut self, sealed: Sealed) -> HandIn {
        let records = sealed.spans.iter().map(|span| span.records.read).sum();
        self.held = self.held.saturating_sub(records);
        HandIn {
            task: self.task,
            number: self.hand_ins.add(records),
            swap_seq: self.swap_seq,
            sealed,
        }
    }

    fn fail(&mut self, error: Error, seen: &Seen, effects: &mut Vec<Effect>) {
        if error.remedy() == Remedy::StopPipeline {
            self.phase = Phase::Ended(Some(error));
            return;
        }
        // The effect that would have ended a pause may be one of those that were skipped.
        self.paused = true;
        self.held = 0;
        effects.push(Effect::Discard);
        self.phase = match error.remedy() {
            Remedy::Retry => {
                if !self.backoff.is_waiting() {
                    effects.push(Effect::Tell(Told::Waiting(error)));
                }
                let until = seen.now.saturating_add(self.backoff.next_wait());
                Phase::BackingOff { until }
            }
            _ => Phase::Settling(Then::AskPositions),
        };
    }

    /// After an event: from the phase to what the task waits for.
    fn go_on(&mut self, seen: &Seen, reads_first: bool, effects: &mut Vec<Effect>) -> Next {
        let open = self.hand_ins.any_open();
        loop {
            match std::mem::replace(&mut self.phase, Phase::Reading) {
                Phase::Reading if seen.is_ending() => {
                    self.phase = Phase::Settling(Then::SealLast);
                }
                Phase::Reading if seen.memory_full && open => {
                    effects.push(Effect::PauseSource(true));
                    self.paused = true;
                    self.phase = Phase::Full;
                    return Next::Listen(POLL_WAIT);
                }
                Phase::Reading if !open && !reads_first && (seen.memory_full || seen.roll_due) => {
                    self.seal(Goal::Roll);
                }
                Phase::Reading => {
                    if std::mem::take(&mut self.paused) {
                        effects.push(Effect::PauseSource(false));
                    }
                    return Next::Read;
                }
                Phase::Full if open && !seen.stop_overdue => {
                    self.phase = Phase::Full;
                    return Next::Listen(POLL_WAIT);
                }
                Phase::Full if open => self.phase = Phase::Settling(Then::SealLast),
                Phase::Full => self.phase = Phase::Reading,
                Phase::BackingOff { .. } if seen.stop_asked => self.phase = Phase::Ended(None),
                Phase::BackingOff { until } if seen.now < until => {
                    self.phase = Phase::BackingOff { until };
                    return Next::Listen(POLL_WAIT.min(until.saturating_sub(seen.now)));
                }
                Phase::BackingOff { .. } => self.phase = Phase::Settling(Then::AskPositions),
                Phase::Settling(then) if open && !seen.stop_overdue => {
                    self.phase = Phase::Settling(then);
                    return Next::Listen(POLL_WAIT);
                }
                Phase::Settling(then) => self.settled(then, open, seen, effects),
                Phase::Sealing(goal, before) => {
                    self.phase = Phase::Sealing(goal, before);
                    return Next::Seal;
                }
                Phase::Repositioning if seen.stop_overdue => self.phase = Phase::Ended(None),
                Phase::Repositioning => {
                    self.phase = Phase::Repositioning;
                    return Next::Listen(POLL_WAIT);
                }
                Phase::Ended(error) => {
                    self.phase = Phase::Ended(None);
                    return Next::End(error);
                }
            }
        }
    }

    /// All that was handed in is answered, or the time for draining is over (`open`).
    fn settled(&mut self, then: Then, open: bool, seen: &Seen, effects: &mut Vec<Effect>) {
        match then {
            // A hand-in was dropped meanwhile, so there is more to read.
            Then::SealLast | Then::End if !seen.is_ending() => self.phase = Phase::Reading,
            Then::SealLast if !open && !seen.stop_overdue => {
                self.phase = Phase::Settling(Then::End);
                self.seal(Goal::Roll);
            }
            Then::SealLast | Then::End => {
                if open {
                    effects.push(Effect::Discard);
                }
                self.phase = Phase::Ended(None);
            }
            _ if open => self.phase = Phase::Ended(None),
            Then::AskPositions => {
                let task = self.task;
                effects.push(Effect::Send(ToCommitter::Positions { task }));
                self.phase = Phase::Repositioning;
            }
            Then::SealBefore(ranges) => {
                self.phase = Phase::Settling(Then::RecordGap(ranges));
                self.seal(Goal::Roll);
            }
            Then::RecordGap(ranges) => {
                let task = self.task;
                effects.push(Effect::Send(ToCommitter::Gap { task, ranges }));
                self.phase = Phase::Repositioning;
            }
        }
    }
}
