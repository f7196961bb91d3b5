//! One committer per pipeline: packs what its tasks sealed into one entry, one Create in flight.
//!
//! [`machine`] decides what comes next, and in which order; this file does it: listens, makes files durable, has deliveries
//! prepared, commits, publishes, finishes deliveries, tells.
//!
//! A change of rules is handed to all tasks at once. What they made before it (`Flushed`) and the change become one entry:
//! the entry is the atomic point. What a task flushes later than `FLUSH_MAX` was made under rules that are no longer in
//! force, so it is dropped and read again. Where the entry loses (another process changed the rules first), the tasks run
//! rules that never came into force: the pipeline begins again at the log's positions.
//! Partitions that are taken away go the same way, with an entry that changes nothing but positions.

pub mod at_log;
mod joined;
pub mod machine;
mod owned;
pub mod steps;

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{self as channel, RecvTimeoutError, Sender};

use super::messages::{ToCommitter, ToTask};
use super::report::Report;
use super::stop::Stop;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::commit::{Committed, Log, Open, Rule, State};
use crate::error::{Error, Kind, Result};
use crate::record::SplitId;
use crate::sink::{Base, Receiver};
use crate::source::{Acknowledge, Position};
use machine::Machine;
use steps::{Effect, Ending, Event, NewRules, Next, Seen, Step};

pub use at_log::{gap, position};

/// At the end of a run, for the last group offsets to arrive.
const ACKNOWLEDGE_WAIT: Duration = Duration::from_secs(2);

/// New rules, and to whom the version of the change is told, or why there is none. No answer: the pipeline ends first.
#[derive(Debug)]
pub struct Prepared {
    pub rules: Box<NewRules>,
    pub answer: Sender<Result<u64, String>>,
}

#[derive(Debug)]
pub struct Committer {
    pub log: Log,
    pub base: Base,
    pub hand_ins: channel::Receiver<ToCommitter>,
    /// One per task.
    pub tasks: Vec<Sender<ToTask>>,
    /// Partitions of each task.
    pub owned: Vec<Vec<SplitId>>,
    /// New partitions found while running, from the watcher; the task that reads least reads them.
    pub found: channel::Receiver<Vec<Open>>,
    /// New rules, with a chain for each task.
    pub swaps: channel::Receiver<Prepared>,
    /// Takes what has a token, after its entry (W7).
    pub receiver: Box<dyn Receiver>,
    /// Hears of commits (group offsets for lag tools); never read back by a zone (W7).
    pub acknowledge: Box<dyn Acknowledge>,
    pub report: Arc<dyn Report>,
    pub clock: Arc<dyn Clock>,
    pub stop: Stop,
    /// `retry.*`
    pub backoff: Backoff,
    /// Rules under which the tasks make rows.
    pub generation: u64,
    pub asking: Asking,
}

/// On behalf of whom it works.
#[derive(Debug, Default)]
pub struct Asking {
    /// Who asked for the rules that are on their way.
    rules: Option<Sender<Result<u64, String>>>,
    /// When the files of the entry that is on its way began to be made durable.
    begun: Duration,
}

impl Committer {
    /// Runs until every task has hung up. `Conflict`: other rules are in force than the tasks run.
    pub fn run(mut self) -> Result<Log> {
        self.base.set(self.log.version());
        let stands = (self.generation, self.log.state().removed_at);
        let owned = std::mem::take(&mut self.owned);
        let mut machine =
            Machine::new(owned, stands, self.backoff).looking_every(self.log.store().news_every());
        let mut event = Event::Begun;
        loop {
            let Step { effects, next } = machine.step(event, &self.seen());
            for effect in effects {
                self.act(effect);
            }
            event = match next {
                Next::End(ending) => return self.end(ending),
                next => self.wait_for(next),
            };
        }
    }

    fn seen(&self) -> Seen {
        Seen {
            now: self.clock.elapsed(),
            stop_asked: self.stop.asked(),
            stop_overdue: self.stop.overdue(),
            ..at_log::seen(&self.log)
        }
    }

    fn end(self, ending: Ending) -> Result<Log> {
        match ending {
            Ending::Well => {
                self.acknowledge.flush(ACKNOWLEDGE_WAIT);
                Ok(self.log)
            }
            Ending::OtherRules => Err(other_rules(self.log.state())),
            Ending::Stopped => Err(Error::new(Kind::Stopped, "rules.swap", "asked to stop")),
            Ending::Failed(error) => Err(error),
        }
    }

    fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Send(task, message) => self.send(task, message),
            Effect::SendPositions {
                task,
                partitions,
                because,
            } => {
                let message = at_log::positioned(self.log.state(), &partitions, because);
                self.send(task, message);
            }
            Effect::Abandon(sealed) => {
                for file in sealed.files {
                    self.log.disown([file.added().id.clone()]);
                    file.abandon();
                }
                for delivery in sealed.deliveries {
                    delivery.abandon();
                }
            }
            Effect::Announce(committed) => self.announce(&committed),
            Effect::AnswerRules(answer) => {
                if let Some(asked) = self.asking.rules.take() {
                    drop(asked.send(answer));
                }
            }
            Effect::Late { task } => tracing::warn!(
                task,
                "did not seal in time for new rules; what it had not handed in is read again"
            ),
            // No source takes partitions away yet.
            Effect::Released(partitions) => tracing::debug!(?partitions, "released"),
            Effect::TellRewound => tracing::info!(
                version = self.log.state().removed_at,
                "the log was rewound, reading again from its positions"
            ),
            Effect::TellWaiting(error) => self.report.waiting(&error),
            Effect::TellResumed => self.report.resumed(),
        }
    }

    /// A task that has ended needs no message.
    fn send(&self, task: usize, message: ToTask) {
        if let Some(sender) = self.tasks.get(task) {
            drop(sender.send(message));
        }
    }

    fn wait_for(&mut self, next: Next) -> Event {
        match next {
            Next::Listen(wait) => self.listen(wait),
            Next::ListenToTasks(wait) => self.listen_to_tasks(wait),
            Next::Pause(time) => {
                match self.stop.asked() {
                    true => self.clock.sleep(time.min(self.stop.left())),
                    false => drop(self.stop.wait(time)),
                }
                Event::Waited
            }
            next => {
                if matches!(next, Next::Finish { .. } | Next::CommitGap(_)) {
                    self.asking.begun = self.clock.elapsed();
                }
                let event = at_log::perform(&mut self.log, self.receiver.as_ref(), next);
                self.base.set(self.log.version());
                event
            }
        }
    }

    fn listen(&mut self, wait: Duration) -> Event {
        if let Ok(opens) = self.found.try_recv() {
            return Event::Found(opens);
        }
        if !self.stop.asked()
            && let Ok(Prepared { rules, answer }) = self.swaps.try_recv()
        {
            self.asking.rules = Some(answer);
            return Event::Rules(rules);
        }
        self.listen_to_tasks(wait)
    }

    fn listen_to_tasks(&self, wait: Duration) -> Event {
        match self.hand_ins.recv_timeout(wait) {
            Ok(message) => Event::Heard(message),
            Err(RecvTimeoutError::Timeout) => Event::Quiet,
            Err(RecvTimeoutError::Disconnected) => Event::HungUp,
        }
    }

    /// W7: all that may happen only after W6.
    fn announce(&self, committed: &Committed) {
        let spans = committed.entry.spans.iter();
        let moved: Vec<Position> = spans
            .filter_map(|span| position(self.log.state(), &span.split))
            .collect();
        self.acknowledge.acknowledge(&moved);
        let took = self.clock.elapsed().saturating_sub(self.asking.begun);
        if !committed.entry.spans.is_empty() {
            self.report.committed(committed, self.log.state(), took);
        }
        if committed.entry.swap.is_some() {
            self.report.swapped(committed);
        }
    }
}

/// Another process swapped the rules: what is in hand was made under others.
pub fn other_rules(state: &State) -> Error {
    Error::new(
        Kind::Conflict,
        "rules.follow",
        format!(
            "the rules of generation {} are in force now",
            state.generation()
        ),
    )
}

pub fn names(rules: &[Rule]) -> String {
    let all: Vec<String> = rules.iter().map(Rule::to_string).collect();
    all.join(" ")
}

#[cfg(test)]
mod swap_tests;
