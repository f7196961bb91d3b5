//! What a committer does next: phases and steps, without I/O and without a clock.
//!
//! ```text
//! Gathering ─ pace of the log, or all have ended ─→ Finishing ─→ Writing ─→ Publishing ─→ Gathering
//!           ─ rules ─→ (Refreshing) ─→ Admitting ─→ Flushing ─ all have flushed, or FLUSH_MAX ─→ Finishing …
//!           ─ partitions taken away ──────────────→ Flushing …
//!           ─ positions ─→ Refreshing ─→ Gathering
//!           ─ gap, new partitions, something to forget, old data ─→ Writing …
//! ```
//! The order is always: files durable → entry (W3–W6) → publish → acknowledge → report → answer to the task. Messages
//! are taken from the channels only while gathering and flushing. While the store does not answer, the same call is
//! repeated after growing pauses.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::joined::join;
use super::owned::Owned;
use super::steps::{
    Because, Effect, Ending, Event, Finished, Flush, For, NewRules, Next, Phase, Reason, Seen,
    Step, Writes,
};
use super::steps::{FLUSH_MAX, IDLE_WAIT, LOOK_EVERY};
use crate::backoff::Backoff;
use crate::commit::{Committed, Draft, Dropped, Outcome};
use crate::error::{Error, Kind, Remedy};
use crate::pipeline::messages::{Change, HandIn, ToCommitter, ToTask};
use crate::record::SplitId;

/// Why a hand-in is dropped that was made before a change of rules but came after it.
const OTHER_RULES: &str = "made under rules that are no longer in force";

#[derive(Debug)]
pub struct Machine {
    phase: Phase,
    /// At most one of each task, made under the rules in force.
    waiting: Vec<HandIn>,
    /// Messages that came while a flush had to be done first.
    later: VecDeque<ToCommitter>,
    /// The partitions of each task.
    owned: Owned,
    /// Tasks that have ended.
    ended: BTreeSet<usize>,
    /// How many changes of rules were sent to the tasks.
    swap_seq: u64,
    flushes: u64,
    /// The generation that the tasks run once they have received all messages.
    generation: u64,
    /// The last rewind that was announced to the tasks.
    rewound: u64,
    /// Messages were waited for since something left the zone.
    listened: bool,
    looked: Duration,
    /// Time between two looks at the log while idle.
    look_every: Duration,
    backoff: Backoff,
}

impl Machine {
    /// `generation` and `rewound` as in [`Seen`], when the tasks were set up.
    pub fn new(
        owned: Vec<Vec<SplitId>>,
        (generation, rewound): (u64, u64),
        backoff: Backoff,
    ) -> Machine {
        Machine {
            phase: Phase::Gathering,
            waiting: Vec::new(),
            later: VecDeque::new(),
            owned: Owned(owned),
            ended: BTreeSet::new(),
            swap_seq: 0,
            flushes: 0,
            generation,
            rewound,
            listened: false,
            looked: Duration::ZERO,
            look_every: LOOK_EVERY,
            backoff,
        }
    }

    /// For a store that should be asked for news less often.
    #[must_use]
    pub fn looking_every(mut self, least: Duration) -> Machine {
        self.look_every = LOOK_EVERY.max(least);
        self
    }

    #[cfg(test)]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    pub fn step(&mut self, event: Event, seen: &Seen) -> Step {
        let mut effects = Vec::new();
        let next = match self.react(event, seen, &mut effects) {
            Some(next) => next,
            None => self.go_on(seen, &mut effects),
        };
        Step { effects, next }
    }

    /// `None`: the phase says what comes next.
    fn react(&mut self, event: Event, seen: &Seen, effects: &mut Vec<Effect>) -> Option<Next> {
        let phase = std::mem::replace(&mut self.phase, Phase::Gathering);
        match (phase, event) {
            (Phase::Gathering, Event::Heard(message)) => return self.take(message, effects),
            (Phase::Gathering, Event::Quiet) => return self.look(seen),
            (Phase::Gathering, Event::HungUp) => {
                return Some(match self.waiting.is_empty() {
                    true => self.end(Ending::Well),
                    false => self.finish(None),
                });
            }
            (Phase::Gathering, Event::Found(opens)) => {
                let partitions = opens.iter().map(|open| open.split.clone()).collect();
                self.phase = Phase::Writing(Writes::Open(partitions));
                return Some(Next::Commit(Draft::Open(opens)));
            }
            (Phase::Gathering, Event::Rules(rules)) => return Some(self.rules(rules)),
            (Phase::Gathering, Event::Archived(files)) => {
                self.phase = Phase::Writing(Writes::Archived);
                return Some(Next::Commit(Draft::Archived(files)));
            }
            (Phase::Gathering, Event::Revoked(partitions)) => {
                self.release(partitions, seen, effects);
            }
            (Phase::Flushing(flush), Event::Heard(message)) => {
                self.flushing(flush, message, effects);
            }
            (Phase::Flushing(mut flush), Event::HungUp) => {
                flush.missing.clear();
                self.phase = Phase::Flushing(flush);
            }
            (Phase::Looking, Event::Looked(Err(error))) if error.remedy() != Remedy::Retry => {
                return Some(self.end(Ending::Failed(error)));
            }
            (Phase::Refreshing(what), Event::Refreshed(result)) => {
                return self.refreshed(what, result, seen, effects);
            }
            (phase @ Phase::Refreshing(_), Event::Waited) => {
                self.phase = phase;
                return Some(Next::Refresh);
            }
            (Phase::Admitting, Event::Admitted(Ok(rules))) => {
                self.change(*rules, seen, effects);
            }
            (Phase::Admitting, Event::Admitted(Err(why))) => {
                effects.push(Effect::AnswerRules(Err(why)));
            }
            (Phase::Finishing(reason), Event::Finished(finished)) => {
                return self.finished(reason, finished, effects);
            }
            (Phase::Writing(writes), Event::Settled(Err(error)))
                if error.remedy() == Remedy::Retry =>
            {
                self.phase = Phase::Writing(writes);
                return Some(self.pause(error, effects));
            }
            (Phase::Writing(writes), Event::Waited) => {
                let next = match (&writes, seen.stop_overdue) {
                    (_, true) => Next::Leave,
                    (Writes::Horizon(version), false) => Next::Forget(*version),
                    (Writes::Leave(due), false) => Next::LetLeave(*due),
                    (_, false) => Next::Settle,
                };
                self.phase = Phase::Writing(writes);
                return Some(next);
            }
            (Phase::Writing(writes), Event::Settled(outcome)) => {
                return self.settled(writes, outcome.map(Some), effects);
            }
            (Phase::Writing(writes), Event::Left(outcome)) => {
                return self.settled(writes, outcome, effects);
            }
            (Phase::Publishing(writes, committed, dropped), Event::Published(Err(error)))
                if error.remedy() == Remedy::Retry =>
            {
                self.phase = Phase::Publishing(writes, committed, dropped);
                return Some(self.pause(error, effects));
            }
            (Phase::Publishing(writes, committed, dropped), Event::Waited) => {
                // The next process that opens the log publishes, so leaving now loses nothing.
                if seen.stop_overdue {
                    return self.written(writes, Some(committed), dropped, effects);
                }
                let again = committed.clone();
                self.phase = Phase::Publishing(writes, committed, dropped);
                return Some(Next::Publish(again));
            }
            (Phase::Publishing(writes, committed, dropped), Event::Published(result)) => {
                if let Err(error) = result {
                    return Some(self.end(Ending::Failed(error)));
                }
                self.worked(effects);
                effects.push(Effect::Announce(committed.clone()));
                return self.written(writes, Some(committed), dropped, effects);
            }
            (Phase::Gathering, Event::Begun) | (Phase::Looking, Event::Looked(_)) => {}
            (phase @ Phase::Flushing(_), Event::Quiet) => self.phase = phase,
            (phase, event) => {
                let message = format!("{event:?} while {phase:?}");
                let bug = Error::new(Kind::Bug, "committer.step", message);
                return Some(self.end(Ending::Failed(bug)));
            }
        }
        None
    }

    /// After an event: from the phase to what the committer waits for.
    fn go_on(&mut self, seen: &Seen, effects: &mut Vec<Effect>) -> Next {
        if let Phase::Flushing(flush) = &self.phase {
            let left = flush.until.saturating_sub(seen.now);
            if !flush.missing.is_empty() && !left.is_zero() && !seen.stop_overdue {
                return Next::ListenToTasks(left.min(IDLE_WAIT));
            }
        }
        if let Phase::Flushing(flush) = std::mem::replace(&mut self.phase, Phase::Gathering) {
            let missing = flush.missing.into_iter();
            effects.extend(missing.map(|task| Effect::Late { task }));
            return self.finish(Some(flush.reason));
        }
        loop {
            if seen.generation != self.generation {
                return self.end(Ending::OtherRules);
            }
            self.follow_rewind(seen, effects);
            // While draining it does not wait to gather more.
            let ready = seen.stop_asked || seen.ready_in.is_zero();
            if !self.waiting.is_empty() && ready {
                return self.finish(None);
            }
            let Some(message) = self.later.pop_front() else {
                break;
            };
            if let Some(next) = self.take(message, effects) {
                return next;
            }
        }
        if let Some(version) = seen.forgettable.filter(|_| !seen.stop_asked) {
            self.phase = Phase::Writing(Writes::Horizon(version));
            return Next::Forget(version);
        }
        // Hand-ins come first, however much is due.
        let listened = std::mem::replace(&mut self.listened, true);
        if let Some(due) = seen.due.filter(|_| !seen.stop_asked) {
            if !listened {
                return Next::Listen(Duration::ZERO);
            }
            self.listened = false;
            self.phase = Phase::Writing(Writes::Leave(due));
            return Next::LetLeave(due);
        }
        Next::Listen(match self.waiting.is_empty() {
            true => IDLE_WAIT,
            false => seen.ready_in.min(IDLE_WAIT),
        })
    }

    fn end(&mut self, ending: Ending) -> Next {
        self.phase = Phase::Ended;
        Next::End(ending)
    }

    /// Handles a message while gathering.
    fn take(&mut self, message: ToCommitter, effects: &mut Vec<Effect>) -> Option<Next> {
        match message {
            ToCommitter::Commit(hand_in) => self.add(hand_in, effects),
            ToCommitter::Flushed { hand_in, .. } => {
                if let Some(late) = hand_in {
                    self.add(late, effects);
                }
            }
            ToCommitter::Ended { task } => {
                self.ended.insert(task);
            }
            ToCommitter::Positions { task } => {
                self.phase = Phase::Refreshing(For::Task(task));
                return Some(Next::Refresh);
            }
            ToCommitter::Gap { task, ranges } => {
                self.phase = Phase::Writing(Writes::Gap { task });
                return Some(Next::CommitGap(ranges));
            }
        }
        None
    }

    /// Handles a message while tasks flush. Anything made after the change waits until the entry is written.
    fn flushing(&mut self, mut flush: Flush, message: ToCommitter, effects: &mut Vec<Effect>) {
        let before = match flush.reason {
            Reason::Rules(_) => self.swap_seq - 1,
            Reason::Release(_) => self.swap_seq,
        };
        let (number, hand_in) = match message {
            ToCommitter::Commit(hand_in) => (None, Some(hand_in)),
            ToCommitter::Flushed {
                task,
                flush,
                hand_in,
            } => (Some((task, flush)), hand_in),
            ToCommitter::Ended { task } => {
                flush.missing.remove(&task);
                self.ended.insert(task);
                (None, None)
            }
            message => {
                self.later.push_back(message);
                (None, None)
            }
        };
        if let Some((task, number)) = number
            && number == flush.number
        {
            flush.missing.remove(&task);
        }
        match hand_in {
            Some(hand_in) if hand_in.swap_seq == before => self.join(hand_in, effects),
            Some(hand_in) if hand_in.swap_seq < before => {
                self.reject(hand_in, OTHER_RULES, effects);
            }
            Some(hand_in) => self.later.push_back(ToCommitter::Commit(hand_in)),
            None => {}
        }
        self.phase = Phase::Flushing(flush);
    }

    /// Takes a hand-in. One that was made under other rules than those in force must never be committed.
    fn add(&mut self, hand_in: HandIn, effects: &mut Vec<Effect>) {
        if hand_in.swap_seq == self.swap_seq {
            self.join(hand_in, effects);
        } else {
            self.reject(hand_in, OTHER_RULES, effects);
        }
    }

    fn join(&mut self, hand_in: HandIn, effects: &mut Vec<Effect>) {
        // Somebody rewound the log in between: the earlier hand-in is for positions that no longer exist.
        if let Some(before) = join(&mut self.waiting, hand_in) {
            self.reject(before, "the log was put back since", effects);
        }
    }

    fn reject(&mut self, hand_in: HandIn, why: &str, effects: &mut Vec<Effect>) {
        let (task, number) = (hand_in.task, hand_in.number);
        effects.push(Effect::Abandon(hand_in.sealed));
        self.drop_hand_in(task, number, why.to_owned(), effects);
    }

    fn drop_hand_in(&self, task: usize, up_to: u64, why: String, effects: &mut Vec<Effect>) {
        self.send_positions(task, Because::Dropped { up_to, why }, effects);
    }

    fn send_positions(&self, task: usize, because: Because, effects: &mut Vec<Effect>) {
        let partitions = self.owned.of(task);
        effects.push(Effect::SendPositions {
            task,
            partitions,
            because,
        });
    }

    /// The next commit stops a task that reads on; a task with nothing to commit gets a message here.
    fn follow_rewind(&mut self, seen: &Seen, effects: &mut Vec<Effect>) {
        if std::mem::replace(&mut self.rewound, seen.rewound) == seen.rewound {
            return;
        }
        effects.push(Effect::TellRewound);
        for task in self.owned.tasks() {
            self.send_positions(task, Because::Rewound, effects);
        }
    }

    /// While idle: looks whether another process has put other rules in force. A store that does not answer is not
    /// reported here; commits do that.
    fn look(&mut self, seen: &Seen) -> Option<Next> {
        let idle = self.waiting.is_empty() && !seen.stop_asked;
        if !idle || seen.now < self.looked + self.look_every {
            return None;
        }
        self.looked = seen.now;
        self.phase = Phase::Looking;
        Some(Next::Look)
    }

    /// Reports the first fault, and waits.
    fn pause(&mut self, error: Error, effects: &mut Vec<Effect>) -> Next {
        if !self.backoff.is_waiting() {
            effects.push(Effect::TellWaiting(error));
        }
        Next::Pause(self.backoff.next_wait())
    }

    fn worked(&mut self, effects: &mut Vec<Effect>) {
        if self.backoff.is_waiting() {
            effects.push(Effect::TellResumed);
        }
        self.backoff.reset();
    }

    fn refreshed(
        &mut self,
        what: For,
        result: Result<(), Error>,
        seen: &Seen,
        effects: &mut Vec<Effect>,
    ) -> Option<Next> {
        match result {
            Err(error) if error.remedy() == Remedy::Retry && !seen.stop_overdue => {
                self.phase = Phase::Refreshing(what);
                Some(self.pause(error, effects))
            }
            Err(error) => Some(self.end(Ending::Failed(error))),
            Ok(()) => {
                self.worked(effects);
                match what {
                    For::Task(task) => {
                        self.send_positions(task, Because::Asked, effects);
                        None
                    }
                    // No answer is sent: the process that asked writes the entry, and this pipeline begins again.
                    For::Rules(_) if seen.generation != self.generation => None,
                    For::Rules(rules) => {
                        self.phase = Phase::Admitting;
                        Some(Next::Admit(rules))
                    }
                }
            }
        }
    }

    fn rules(&mut self, mut rules: Box<NewRules>) -> Next {
        if rules.own {
            rules.swap.replaces = self.generation;
        }
        // The swap may replace rules of an entry that was not seen here yet.
        if rules.swap.replaces != self.generation {
            self.phase = Phase::Refreshing(For::Rules(rules));
            return Next::Refresh;
        }
        self.phase = Phase::Admitting;
        Next::Admit(rules)
    }

    /// Every task goes over to the new rules as soon as it hears of them.
    fn change(&mut self, rules: NewRules, seen: &Seen, effects: &mut Vec<Effect>) {
        self.swap_seq += 1;
        let changes = rules.chains.into_iter().enumerate();
        let changes = changes.map(|(task, chain)| (task, Change::Rules(Box::new(chain))));
        self.flush(Reason::Rules(Box::new(rules.swap)), changes, seen, effects);
    }

    fn release(&mut self, partitions: Vec<SplitId>, seen: &Seen, effects: &mut Vec<Effect>) {
        let changes = self.owned.release(&partitions).into_iter();
        let changes = changes.map(|(task, of_task)| (task, Change::Release(of_task)));
        self.flush(Reason::Release(partitions), changes, seen, effects);
    }

    fn flush(
        &mut self,
        reason: Reason,
        changes: impl Iterator<Item = (usize, Change)>,
        seen: &Seen,
        effects: &mut Vec<Effect>,
    ) {
        self.flushes += 1;
        let number = self.flushes;
        let mut missing = BTreeSet::new();
        for (task, change) in changes.filter(|(task, _)| !self.ended.contains(task)) {
            missing.insert(task);
            let flush = ToTask::Flush {
                flush: number,
                change,
            };
            effects.push(Effect::Send(task, flush));
        }
        self.phase = Phase::Flushing(Flush {
            number,
            reason,
            missing,
            until: seen.now + FLUSH_MAX,
        });
    }

    /// Makes one entry of everything that waits, and a change after it.
    fn finish(&mut self, reason: Option<Reason>) -> Next {
        self.phase = Phase::Finishing(reason);
        Next::Finish {
            hand_ins: std::mem::take(&mut self.waiting),
            generation: self.generation,
        }
    }

    fn finished(
        &mut self,
        reason: Option<Reason>,
        finished: Vec<Finished>,
        effects: &mut Vec<Effect>,
    ) -> Option<Next> {
        let mut hand_ins = Vec::new();
        let mut receipts = Vec::new();
        for one in finished {
            let (task, number) = (one.task, one.number);
            match one.receipt {
                Ok(receipt) => {
                    hand_ins.push((task, number));
                    receipts.push(receipt);
                }
                // Its files may be half written; what is left of them is collected as orphans.
                Err(error) if error.remedy() == Remedy::StopPipeline => {
                    return Some(self.end(Ending::Failed(error)));
                }
                Err(error) => {
                    self.drop_hand_in(task, number, error.to_string(), effects);
                    if error.remedy() == Remedy::Retry {
                        effects.push(Effect::TellWaiting(error));
                    }
                }
            }
        }
        let swap = match &reason {
            Some(Reason::Rules(swap)) => Some((**swap).clone()),
            _ => None,
        };
        if receipts.is_empty() && swap.is_none() {
            return self.done(reason, None, None, effects);
        }
        self.phase = Phase::Writing(Writes::Data { hand_ins, reason });
        Some(Next::Commit(Draft::Data { receipts, swap }))
    }

    /// `None`: the deadline of a stop passed first, and the attempt is safely given up.
    fn settled(
        &mut self,
        writes: Writes,
        outcome: Result<Option<Outcome>, Error>,
        effects: &mut Vec<Effect>,
    ) -> Option<Next> {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return Some(self.end(Ending::Failed(error))),
        };
        match outcome {
            None => match writes {
                Writes::Data {
                    reason: Some(Reason::Rules(_)),
                    ..
                } => Some(self.end(Ending::Stopped)),
                _ => None,
            },
            Some(Outcome::Lost { dropped }) => {
                self.worked(effects);
                self.written(writes, None, dropped, effects)
            }
            Some(Outcome::Committed { committed, dropped }) => {
                self.worked(effects);
                if matches!(writes, Writes::Open(_)) {
                    return self.written(writes, Some(committed), dropped, effects);
                }
                self.phase = Phase::Publishing(writes, committed.clone(), dropped);
                Some(Next::Publish(committed))
            }
        }
    }

    /// The entry is in the log and published, or it will never be in the log: answers everybody who waits for it.
    fn written(
        &mut self,
        writes: Writes,
        committed: Option<Committed>,
        dropped: Vec<Dropped>,
        effects: &mut Vec<Effect>,
    ) -> Option<Next> {
        match writes {
            Writes::Data { hand_ins, reason } => {
                for (index, (task, up_to)) in hand_ins.iter().copied().enumerate() {
                    match dropped.iter().find(|d| d.index == index) {
                        Some(lost) => {
                            self.drop_hand_in(task, up_to, lost.reason.to_string(), effects);
                        }
                        None => effects.push(Effect::Send(task, ToTask::Committed { up_to })),
                    }
                }
                let lost = dropped.iter().find(|d| d.index == hand_ins.len());
                let lost = lost.map(|lost| lost.reason.to_string());
                self.done(reason, committed, lost, effects)
            }
            // Their starts are in the log now (W1).
            Writes::Open(partitions) => {
                for partition in partitions {
                    if let Some(task) = self.owned.assign(&partition) {
                        effects.push(Effect::SendPositions {
                            task,
                            partitions: vec![partition],
                            because: Because::Assigned,
                        });
                    }
                }
                None
            }
            Writes::Gap { task } => {
                self.send_positions(task, Because::Asked, effects);
                None
            }
            Writes::Horizon(_) | Writes::Leave(_) | Writes::Archived => None,
        }
    }

    /// Finishes what the entry was for. `lost`: why the log did not accept the change of rules.
    fn done(
        &mut self,
        reason: Option<Reason>,
        committed: Option<Committed>,
        lost: Option<String>,
        effects: &mut Vec<Effect>,
    ) -> Option<Next> {
        match (reason, committed, lost) {
            (Some(Reason::Rules(_)), Some(committed), None) => {
                self.generation = committed.version;
                effects.push(Effect::AnswerRules(Ok(committed.version)));
                None
            }
            (Some(Reason::Rules(_)), _, lost) => {
                effects.push(Effect::AnswerRules(Err(lost.unwrap_or_default())));
                Some(self.end(Ending::OtherRules))
            }
            (Some(Reason::Release(partitions)), ..) => {
                effects.push(Effect::Released(partitions));
                None
            }
            (None, ..) => None,
        }
    }
}
