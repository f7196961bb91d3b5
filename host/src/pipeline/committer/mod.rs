//! One committer per pipeline: packs what its tasks sealed into one entry, one Create in flight.
//!
//! [`machine`] decides what comes next, and in which order. This file carries it out: it listens, makes files durable,
//! has deliveries prepared, commits, publishes, finishes deliveries, and sends answers and reports.
//!
//! A change of rules is sent to all tasks at once. What they made before it (`Flushed`) and the change become one
//! entry: the entry is the atomic point. What a task flushes later than `FLUSH_MAX` was made under rules that are no
//! longer in force, so it is dropped and its records are read again. If the entry loses (another process changed the
//! rules first), the tasks run rules that never came into force: the pipeline begins again at the log's positions.
//! Partitions are taken away in the same way, with an entry that changes only positions.

pub mod at_log;
mod joined;
pub mod machine;
mod owned;
pub mod steps;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{self as channel, RecvTimeoutError, Sender};

use super::archive::Archiver;
use super::messages::{HandIn, ToCommitter, ToTask};
use super::report::{Report, Shown};
use super::stop::Stop;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::commit::{Committed, Draft, Held, Log, Open, Outcome, Rule, Span, State};
use crate::error::{Error, Kind, Result};
use crate::record::SplitId;
use crate::sink::{Base, Notes, Receiver};
use crate::source::{Acknowledge, Position};
use machine::Machine;
use steps::{Effect, Ending, Event, Finished, NewRules, Next, Seen, Step};

pub use at_log::{gap, position};

/// Longest wait at the end of a run until the last group offsets have arrived.
const ACKNOWLEDGE_WAIT: Duration = Duration::from_secs(2);

/// New rules, and the channel for the answer: the version of the change, or why there is none. No answer: the pipeline
/// ended first.
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
    /// New partitions that the watcher found; the task with the fewest partitions reads them.
    pub found: channel::Receiver<Vec<Open>>,
    /// New rules, with a chain for each task.
    pub swaps: channel::Receiver<Prepared>,
    /// Finishes deliveries that have a token, after their entry (W7).
    pub receiver: Box<dyn Receiver>,
    /// Is informed of commits (group offsets for lag tools). Weir never reads them back (W7).
    pub acknowledge: Box<dyn Acknowledge>,
    pub report: Arc<dyn Report>,
    pub clock: Arc<dyn Clock>,
    pub stop: Stop,
    /// `retry.*`
    pub backoff: Backoff,
    /// Generation of the rules under which the tasks make rows.
    pub generation: u64,
    pub asking: Asking,
    /// Copies what expired.
    pub archiver: Archiver,
    /// The version from which on dead letters are not in their topic yet, where the config names one.
    pub letters_left: Option<Arc<AtomicU64>>,
}

/// For whom the committer works at the moment.
#[derive(Debug, Default)]
pub struct Asking {
    /// Who asked for the rules that are being put in force.
    rules: Option<Sender<Result<u64, String>>>,
    /// When it began to make the files of the current entry durable.
    begun: Duration,
    /// Of what is being committed: split, first offset, notes.
    notes: Vec<(SplitId, i64, Notes)>,
    /// How long the last entry took to publish.
    publish: Duration,
}

impl Committer {
    /// Runs until every task has hung up. `Conflict`: the rules in force are not those that the tasks run.
    pub fn run(mut self) -> Result<Log> {
        self.base.set(self.log.version());
        let stands = (self.generation, self.log.state().rewound_at());
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
            ..at_log::seen(&self.log, &held(self.letters_left.as_ref()))
        }
    }

    fn end(mut self, ending: Ending) -> Result<Log> {
        match ending {
            Ending::Well => {
                self.archive_the_rest();
                self.acknowledge.flush(ACKNOWLEDGE_WAIT);
                Ok(self.log)
            }
            Ending::OtherRules => Err(other_rules(self.log.state())),
            Ending::Stopped => Err(Error::new(Kind::Stopped, "rules.swap", "asked to stop")),
            Ending::Failed(error) => Err(error),
        }
    }

    /// Runs that end with what is there would else never get a large file archived. A fault is left for the next one.
    fn archive_the_rest(&mut self) {
        while !self.stop.asked()
            && let Some(files) = self.archiver.finish(&self.log)
        {
            let done = match self.log.commit(Draft::Archived(files)) {
                Ok(Outcome::Committed { committed, .. }) => self.log.publish(&committed),
                Ok(Outcome::Lost { .. }) => return,
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                tracing::warn!(%error, "what was archived is named in the log by the next start");
                return;
            }
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
                version = self.log.state().rewound_at(),
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
            mut next => {
                let begun = self.clock.elapsed();
                if matches!(next, Next::Finish { .. } | Next::CommitGap(_)) {
                    self.asking.begun = begun;
                    self.asking.notes.clear();
                }
                if let Next::Finish { hand_ins, .. } = &mut next {
                    self.asking.notes = notes_of(hand_ins);
                }
                let publishes = matches!(next, Next::Publish(_));
                let held = held(self.letters_left.as_ref());
                let event = at_log::perform(&mut self.log, self.receiver.as_ref(), &held, next);
                if let Event::Finished(finished) = &event {
                    self.asking.add_refused(finished);
                }
                self.base.set(self.log.version());
                if publishes {
                    self.asking.publish = self.clock.elapsed().saturating_sub(begun);
                }
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
        if !self.stop.asked()
            && let Some(files) = self.archiver.look(&self.log)
        {
            return Event::Archived(files);
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

    /// W7: everything that may happen only after W6.
    fn announce(&mut self, committed: &Committed) {
        let spans = committed.entry.spans.iter();
        let moved: Vec<Position> = spans
            .filter_map(|span| position(self.log.state(), &span.split))
            .collect();
        self.acknowledge.acknowledge(&moved);
        let took = self.clock.elapsed().saturating_sub(self.asking.begun);
        if !committed.entry.spans.is_empty() {
            self.report.shown(Shown {
                notes: self.asking.notes_in(committed),
                publish: self.asking.publish,
            });
            self.report.committed(committed, self.log.state(), took);
        }
        if committed.entry.swap.is_some() {
            self.report.swapped(committed);
        }
    }
}

impl Asking {
    /// What the receiver refused, beside what rules did.
    fn add_refused(&mut self, finished: &[Finished]) {
        for of in finished {
            let Ok(receipt) = &of.receipt else { continue };
            let spans = receipt.spans.iter();
            self.notes.extend(spans.filter_map(|span| {
                let refused_records = *of.refused.get(&span.split)?;
                let notes = Notes {
                    refused_records,
                    ..Notes::default()
                };
                Some((span.split.clone(), span.from, notes))
            }));
        }
    }

    /// Of the records that the entry settled: a hand-in that another process was faster with is not among them.
    fn notes_in(&mut self, committed: &Committed) -> Notes {
        let mut all = Notes::default();
        for (split, from, notes) in self.notes.drain(..) {
            let settles = |span: &Span| span.split == split && span.from <= from && from < span.to;
            if committed.entry.spans.iter().any(settles) {
                all.merge(&notes);
            }
        }
        all
    }
}

fn notes_of(hand_ins: &mut [HandIn]) -> Vec<(SplitId, i64, Notes)> {
    let mut all = Vec::new();
    for sealed in hand_ins.iter_mut().map(|hand_in| &mut hand_in.sealed) {
        for (split, notes) in std::mem::take(&mut sealed.notes) {
            let span = sealed.spans.iter().find(|span| span.split == split);
            all.extend(span.map(|span| (split, span.from, notes)));
        }
    }
    all
}

/// Dead letters that their topic still needs.
fn held(letters_left: Option<&Arc<AtomicU64>>) -> Held<'static> {
    Held {
        positions: None,
        dead_letters: letters_left.map(|version| version.load(Ordering::Relaxed)),
    }
}

/// Another process swapped the rules: what the tasks hold was made under the rules before.
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
mod machine_tests;
#[cfg(test)]
mod swap_tests;
