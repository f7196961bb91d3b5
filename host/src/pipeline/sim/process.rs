//! One simulated process: the real machines of its tasks and its committer, on a real log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::receiver::Connection;
use super::task::Task;
use super::{LONG, PARTITIONS, log_name, rules, sometimes, split, version_of};
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::commit::{Held, Limits, Log, Open, Writer};
use crate::error::{Error, Kind, Result};
use crate::pipeline::committer::at_log;
use crate::pipeline::committer::machine::Machine;
use crate::pipeline::committer::steps::{
    Effect, Ending, Event, Finished, NewRules, Next, Seen, Step,
};
use crate::pipeline::messages::{Change, ToCommitter, ToTask};
use crate::pipeline::task::machine as task;
use crate::record::SplitId;
use crate::sink::plan::Plans;
use crate::store::FaultStore;

const TASKS: usize = 2;

pub struct Process {
    pub id: usize,
    pub store: Arc<FaultStore>,
    receiver: Connection,
    log: Log,
    machine: Machine,
    next: Option<Next>,
    due: Duration,
    inbox: VecDeque<ToCommitter>,
    pub found: VecDeque<Vec<Open>>,
    pub new_rules: VecDeque<NewRules>,
    pub revoked: VecDeque<Vec<SplitId>>,
    pub tasks: Vec<Task>,
    /// Version of the rules that the tasks are sent next.
    coming: u64,
    /// The deadline of a stop.
    pub stop: Option<Duration>,
    /// Partitions that it no longer reads, released with an entry.
    pub released: BTreeSet<SplitId>,
    random: StdRng,
}

impl Process {
    /// Does what a start does: opens the log, pins the starts, settles deliveries that others left, gives the tasks
    /// their partitions.
    pub fn start(
        id: usize,
        store: Arc<FaultStore>,
        mut receiver: Connection,
        clock: Arc<dyn Clock>,
        mut random: StdRng,
    ) -> Result<Process> {
        let writer = Writer {
            id: format!("p{id}"),
            started: i64::try_from(id).unwrap(),
        };
        let limits = Limits {
            tries: 2,
            pace: Duration::from_millis(200),
            retention: Duration::from_secs(1),
            late: Duration::from_secs(1),
            checkpoint_every: 4,
            horizon_step: 4,
            ..Limits::default()
        };
        let shared: Arc<dyn crate::store::Store> = store.clone();
        receiver.plans = Some(Plans::new(shared.clone(), log_name(), clock.clone()));
        let log = Log::open_or_init(shared, log_name(), clock, writer, rules(0))?;
        let mut log = log.with_limits(limits).seeded(random.random());
        while log.state().splits.len() < PARTITIONS {
            log.commit(crate::commit::Draft::Open(
                (0..PARTITIONS).map(super::open).collect(),
            ))?;
        }
        at_log::recover(&mut log, &receiver, |log, draft| log.commit(draft))?;
        let mut owned = vec![Vec::new(); TASKS];
        for n in 0..PARTITIONS {
            owned[n % TASKS].push(split(n));
        }
        let in_force = version_of(&log.state().rules.transforms);
        let tasks = (0..TASKS).map(|index| {
            let at = |c| at_log::position(log.state(), c);
            let positions: Vec<_> = owned[index].iter().filter_map(at).collect();
            let random = StdRng::seed_from_u64(random.random());
            Task::new(index, &positions, in_force, receiver.clone(), random)
        });
        let tasks = tasks.collect();
        let stands = (log.state().generation(), log.state().rewound_at());
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        Ok(Process {
            id,
            store,
            receiver,
            machine: Machine::new(owned, stands, backoff),
            log,
            next: None,
            due: Duration::ZERO,
            inbox: VecDeque::new(),
            found: VecDeque::new(),
            new_rules: VecDeque::new(),
            revoked: VecDeque::new(),
            tasks,
            coming: in_force,
            stop: None,
            released: BTreeSet::new(),
            random,
        })
    }

    pub fn in_force(&self) -> u64 {
        self.log.state().generation()
    }

    /// The phase of each of its machines, for the trace and to check that every phase was disturbed.
    pub fn phases(&self) -> [&'static str; TASKS + 1] {
        let task = |n: usize| self.tasks[n].machine.phase().name();
        [task(0), task(1), self.machine.phase().name()]
    }

    fn hung_up(&self) -> bool {
        self.inbox.is_empty() && self.tasks.iter().all(Task::has_ended)
    }

    fn listens(&self) -> bool {
        let any = matches!(self.next, Some(Next::Listen(_)));
        let news = !self.found.is_empty() || !self.new_rules.is_empty() || !self.revoked.is_empty();
        let tasks = matches!(self.next, Some(Next::Listen(_) | Next::ListenToTasks(_)));
        any && news && self.stop.is_none() || tasks && (!self.inbox.is_empty() || self.hung_up())
    }

    /// When each of its actors goes on next: the committer (number `TASKS`) and the tasks.
    pub fn wakes(&self, now: Duration) -> Vec<(Duration, usize)> {
        let tasks = self.tasks.iter().enumerate();
        let mut all: Vec<(Duration, usize)> = tasks
            .filter_map(|(n, t)| t.wakes(now).map(|at| (at, n)))
            .collect();
        let at = if self.listens() {
            self.due.min(now)
        } else {
            self.due
        };
        all.push((at, TASKS));
        all
    }

    /// One step of one actor. `Some`: the process has ended.
    pub fn turn(
        &mut self,
        actor: usize,
        now: Duration,
        low: &BTreeMap<SplitId, i64>,
        faulty: bool,
    ) -> Option<Ending> {
        let stop_overdue = self.stop.is_some_and(|deadline| now >= deadline);
        match self.tasks.get_mut(actor) {
            Some(one) => {
                let seen = task::Seen {
                    now,
                    stop_asked: self.stop.is_some(),
                    stop_overdue,
                    ..task::Seen::default()
                };
                one.turn(
                    (self.id, self.log.version()),
                    seen,
                    low,
                    &mut self.inbox,
                    faulty,
                );
                None
            }
            None => self.commit_turn(now, stop_overdue, faulty),
        }
    }

    fn commit_turn(&mut self, now: Duration, stop_overdue: bool, faulty: bool) -> Option<Ending> {
        let event = match self.next.take() {
            None => Event::Begun,
            Some(Next::Listen(_)) => self.listen(),
            Some(Next::ListenToTasks(_)) => self.listen_to_tasks(),
            Some(Next::Pause(_)) => Event::Waited,
            Some(Next::Finish { hand_ins, .. }) if faulty && sometimes(&mut self.random, 0.05) => {
                let failed = hand_ins.into_iter().map(|hand_in| Finished {
                    task: hand_in.task,
                    number: hand_in.number,
                    receipt: Err(Error::new(Kind::StoreUnavailable, "sim", "away")),
                    refused: Default::default(),
                });
                Event::Finished(failed.collect())
            }
            Some(next) => {
                if let Next::Admit(rules) = &next {
                    self.coming = version_of(&rules.swap.transforms);
                }
                at_log::perform(&mut self.log, &self.receiver, &Held::default(), next)
            }
        };
        let seen = Seen {
            now,
            stop_asked: self.stop.is_some(),
            stop_overdue,
            ..at_log::seen(&self.log, &Held::default())
        };
        let Step { effects, next } = self.machine.step(event, &seen);
        for effect in effects {
            self.act(effect);
        }
        let takes = match &next {
            Next::Listen(wait) | Next::ListenToTasks(wait) | Next::Pause(wait) => *wait,
            _ if faulty && sometimes(&mut self.random, 0.005) => LONG,
            _ => Duration::from_millis(self.random.random_range(1..30)),
        };
        self.due = now + takes;
        match next {
            Next::End(ending) => Some(ending),
            next => {
                self.next = Some(next);
                None
            }
        }
    }

    fn listen(&mut self) -> Event {
        if self.stop.is_none() {
            if let Some(opens) = self.found.pop_front() {
                return Event::Found(opens);
            }
            if let Some(partitions) = self.revoked.pop_front() {
                return Event::Revoked(partitions);
            }
            if let Some(rules) = self.new_rules.pop_front() {
                return Event::Rules(Box::new(rules));
            }
        }
        self.listen_to_tasks()
    }

    fn listen_to_tasks(&mut self) -> Event {
        match self.inbox.pop_front() {
            Some(message) => Event::Heard(message),
            None if self.hung_up() => Event::HungUp,
            None => Event::Quiet,
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
            Effect::Released(partitions) => self.released.extend(partitions),
            Effect::Abandon(sealed) => sealed.deliveries.into_iter().for_each(|d| d.abandon()),
            _ => {}
        }
    }

    fn send(&mut self, task: usize, message: ToTask) {
        if let ToTask::Flush {
            change: Change::Rules(_),
            ..
        } = &message
        {
            self.tasks[task].coming.push_back(self.coming);
        }
        self.tasks[task].inbox.push_back(message);
    }
}
