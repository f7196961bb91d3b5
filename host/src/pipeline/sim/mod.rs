//! Simulates tasks and committers of up to two processes on one log, in virtual time. Machines and log are the real
//! ones; source, sink and channels are numbers and queues. A seed decides which actor goes on, how long it takes and
//! what fails.
//!
//! At any point there are crashes, stops, swaps, rewinds, partitions that are taken away and given back or give nothing for
//! a while, offsets that age out, store calls that fail, lose their answer or land late. In the end the model checks that no row is lost,
//! doubled or made by rules that were not in force, and that the answers to each hand-in were true. Rows are delivered
//! with a token, dead letters without: a receiver that outlives all processes shows no row before its entry is in the
//! log, each of them exactly once, and each dead letter at least once. Some rows are posted under the keys of delivery plans (D1 to D3): a receiver that
//! knows keys takes each of them once, whoever dies, sleeps or comes second. In every second seed the other rows go
//! through the outbox of the Kafka sink, whose topic knows epochs, a mark, and transactions whose end nobody heard (K1 to K4).
//!
//! Each of these guards was switched off once, and a seed below 300 failed: a task goes back when a hand-in is dropped;
//! it counts changes of rules; after a fault it discards what it holds; hand-ins that come late and were made under
//! other rules are rejected (while gathering, and while flushing); two hand-ins are joined only if the second continues
//! the first, and are answered by the second's number; a dropped receipt is answered as dropped; a rewind, and other
//! rules in force, are followed; a plan that is there is followed, by who begins at its row and by who comes second (D1, D2);
//! who is behind the log sends nothing (D3); what a process committed and did not finish is finished by another that runs on (P1).
//!
//! `WEIR_SIM_SEED=<seed> cargo test --lib pipeline::sim` replays one seed with its trace; `WEIR_SIM_SEEDS=<count>` runs more.

mod model;
mod process;
pub mod receiver;
pub mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::committer::at_log;
use super::committer::steps::{Ending, NewRules};
use crate::chain::TransformChain;
use crate::clock::{Clock, ManualClock};
use crate::commit::{Draft, Log, LogName, Open, Rewind, Rule, Swap, Writer};
use crate::config::Unit;
use crate::error::Kind;
use crate::record::{SplitId, TopicPartition};
use crate::source::LostRange;
use crate::store::{self, Fault, FaultStore, Faults, Op, Store};
use model::Model;
use process::Process;
use receiver::{Connection, Received, Trouble};

/// Seeds of one run of the tests: a few seconds.
const SEEDS: u64 = 300;
/// What happens at any point …
const DISTURBED: [&str; 6] = ["kill", "stop", "swap", "rewind", "revoke", "land"];
/// … of which there are so many: 6 phases of a task, 8 of a committer.
const POINTS: usize = 14;
pub const PARTITIONS: usize = 3;
pub const START: i64 = 2;
/// Offsets of each partition.
pub const END: i64 = 14;
/// Longer than the time that tasks have to flush.
pub const LONG: Duration = Duration::from_secs(6);
/// After this many turns nothing fails and nobody interferes any more.
const ROUGH: u32 = 400;
const TURNS_MAX: u32 = 30_000;
const TASKS: usize = 2;

pub fn log_name() -> LogName {
    LogName::new("sim", "raw")
}

pub fn split(n: usize) -> SplitId {
    SplitId::kafka("c", "t", i32::try_from(n).unwrap())
}

pub fn open(n: usize) -> Open {
    Open {
        split: split(n),
        topic: "t".into(),
        partition: i32::try_from(n).unwrap(),
        offset: START,
        start: "earliest".into(),
    }
}

pub fn rules(version: u64) -> Vec<Rule> {
    vec![Rule {
        transform: "t".into(),
        plugin: "p".into(),
        version: version.to_string(),
        component: format!("sha256:{version}"),
        config: "sha256:c".into(),
    }]
}

pub fn version_of(rules: &[Rule]) -> u64 {
    rules[0].version.parse().unwrap()
}

pub fn lost(split: &SplitId, from: i64, to: i64) -> LostRange {
    LostRange {
        split: split.clone(),
        tp: TopicPartition {
            topic: "t".into(),
            partition: 0,
        },
        from,
        to,
    }
}

pub fn sometimes(random: &mut StdRng, share: f64) -> bool {
    random.random_bool(share)
}

/// What fails in one process's store.
#[derive(Debug)]
struct Dice {
    random: Mutex<StdRng>,
    calm: Arc<Mutex<bool>>,
}

impl Faults for Dice {
    fn decide(&self, op: &Op) -> Fault {
        if *self.calm.lock().unwrap() {
            return Fault::None;
        }
        let p: u32 = self.random.lock().unwrap().random_range(0..1000);
        match (op.verb.is_durable(), p) {
            (false, 0..5) => Fault::FailBefore,
            (true, 0..40) => Fault::FailBefore,
            (true, 40..80) => Fault::ReplyLost,
            (true, 80..120) => Fault::Late,
            (true, 120..130) => Fault::CrashBefore,
            (true, 130..140) => Fault::CrashAfter,
            _ => Fault::None,
        }
    }
}

struct World {
    clock: Arc<ManualClock>,
    bare: Arc<dyn Store>,
    random: StdRng,
    calm: Arc<Mutex<bool>>,
    model: Model,
    processes: Vec<Process>,
    stores: Vec<Arc<FaultStore>>,
    /// Where rows and dead letters are delivered to.
    received: Arc<Mutex<Received>>,
    /// The broker's first offset of each partition.
    low: BTreeMap<SplitId, i64>,
    rules: u64,
    told: Vec<(String, bool)>,
    run: Run,
    /// Rows go through the outbox of the Kafka sink: in every second seed.
    by_outbox: bool,
}

/// The time, the process, what happened to it, and the phases of its machines at that moment.
type Line = (Duration, usize, &'static str, [&'static str; TASKS + 1]);

/// The result of one simulation.
#[derive(Debug, Default, PartialEq)]
struct Run {
    trace: Vec<Line>,
    /// What happened, and in which phase of which machine.
    met: BTreeSet<(&'static str, &'static str)>,
    endings: BTreeMap<&'static str, usize>,
    dropped: usize,
    entries: usize,
    swaps: usize,
    rewinds: usize,
    gaps: usize,
    /// Splits with a planned batch that was cut because its rest did not come.
    cut: usize,
}

impl World {
    fn new(seed: u64, bare: Arc<dyn Store>) -> World {
        World {
            clock: ManualClock::at(1_700_000_000_000_000),
            bare,
            random: StdRng::seed_from_u64(seed),
            calm: Arc::default(),
            model: Model::default(),
            processes: Vec::new(),
            stores: Vec::new(),
            received: Arc::default(),
            low: (0..PARTITIONS).map(|n| (split(n), START)).collect(),
            rules: 0,
            told: Vec::new(),
            run: Run::default(),
            by_outbox: seed % 2 == 1,
        }
    }

    fn way(&self, connection: Connection, store: Arc<dyn Store>, seed: u64) -> Connection {
        match self.by_outbox {
            true => {
                let random = StdRng::seed_from_u64(seed);
                connection.by_outbox(store, self.clock.clone(), random)
            }
            false => connection,
        }
    }

    fn start(&mut self) {
        let id = self.stores.len();
        let dice = Dice {
            random: Mutex::new(StdRng::seed_from_u64(self.random.random())),
            calm: self.calm.clone(),
        };
        let store = FaultStore::new(self.bare.clone(), Arc::new(dice));
        self.stores.push(store.clone());
        let trouble = Trouble {
            random: Mutex::new(StdRng::seed_from_u64(self.random.random())),
            calm: self.calm.clone(),
        };
        let receiver = Connection {
            received: self.received.clone(),
            trouble: Some(Arc::new(trouble)),
            plans: None,
            outbox: None,
        };
        let receiver = self.way(receiver, store.clone(), id as u64);
        let random = StdRng::seed_from_u64(self.random.random());
        match Process::start(id, store, receiver, self.clock.clone(), random) {
            Ok(process) => self.processes.push(process),
            Err(error) => {
                let passes = matches!(error.kind(), Kind::StoreUnavailable | Kind::Stopped);
                assert!(passes, "{error}");
            }
        }
    }

    fn run(&mut self) {
        for turn in 0..TURNS_MAX {
            let rough = turn < ROUGH;
            *self.calm.lock().unwrap() = !rough;
            let wanted = if rough { 2 } else { 1 };
            let stopping = self.processes.iter().filter(|p| p.stop.is_some()).count();
            if self.processes.len() < wanted + stopping && !self.model.all_read() {
                self.start();
                continue;
            }
            if rough && sometimes(&mut self.random, 0.06) {
                self.disturb();
                self.look();
                continue;
            }
            if !rough && self.calm_down() {
                return self.conclude();
            }
            self.turn(rough);
        }
        let tasks = self.processes.iter().flat_map(|p| &p.tasks);
        let tasks: Vec<String> = tasks.map(task::Task::stands).collect();
        panic!("livelock at {:?}: {tasks:#?}", self.low);
    }

    /// Lets the actor that is due first go on.
    fn turn(&mut self, rough: bool) {
        let now = self.clock.elapsed();
        let processes = self.processes.iter().enumerate();
        let wakes = processes.flat_map(|(at, p)| {
            let wakes = p.wakes(now).into_iter();
            wakes.map(move |(when, actor)| (when.max(now), at, actor))
        });
        let mut wakes: Vec<_> = wakes.collect();
        let Some(first) = wakes.iter().map(|(when, ..)| *when).min() else {
            return;
        };
        wakes.retain(|(when, ..)| *when == first);
        let (_, at, actor) = wakes[self.random.random_range(0..wakes.len())];
        self.clock.advance(first.saturating_sub(now));
        let process = &mut self.processes[at];
        let ended = process.turn(actor, self.clock.elapsed(), &self.low, rough);
        let who = ["task 0", "task 1", "committer"][actor];
        let line = (self.clock.elapsed(), process.id, who, process.phases());
        self.run.trace.push(line);
        if process.store.crashed() {
            self.gone(at, "crash");
        } else if let Some(ending) = ended {
            self.ended(at, &ending);
        }
        if actor == TASKS {
            self.look();
        }
    }

    fn ended(&mut self, at: usize, ending: &Ending) {
        let stopping = self.processes[at].stop.is_some();
        let how = match ending {
            Ending::Well => "well",
            Ending::OtherRules => "other rules",
            Ending::Stopped => "stopped",
            Ending::Failed(error) => {
                let overdue = stopping && error.kind() == Kind::StoreUnavailable;
                assert!(overdue, "a committer failed: {error:?}");
                "store away at the deadline"
            }
        };
        let calm = *self.calm.lock().unwrap();
        assert!(stopping || how == "other rules", "{how}");
        assert!(!calm || how == "well" || how == "other rules", "{how}");
        self.gone(at, how);
    }

    /// A process ends: its memory is lost; what it has sent to the store may still land.
    fn gone(&mut self, at: usize, how: &'static str) {
        let process = self.processes.remove(at);
        let line = (self.clock.elapsed(), process.id, how, process.phases());
        self.run.trace.push(line);
        *self.run.endings.entry(how).or_default() += 1;
        if how == "crash" {
            self.meets("crash", process.phases());
        }
        for task in process.tasks {
            self.run.dropped += task.said.dropped.len();
            self.told
                .extend(task.said.committed.into_iter().map(|m| (m, true)));
            self.told
                .extend(task.said.dropped.into_iter().map(|m| (m, false)));
        }
    }

    fn meets(&mut self, what: &'static str, phases: [&'static str; TASKS + 1]) {
        self.run.met.extend(phases.map(|phase| (what, phase)));
    }

    fn disturb(&mut self) {
        if self.processes.is_empty() {
            return;
        }
        let at = self.random.random_range(0..self.processes.len());
        let what = self.random.random_range(0..100);
        let name = match what {
            0..8 => "kill",
            8..16 => "stop",
            16..36 => "swap",
            36..48 => "rewind",
            48..66 => "revoke",
            66..82 => "give back",
            82..88 => "age out",
            _ => "land",
        };
        let process = &self.processes[at];
        let (id, phases) = (process.id, process.phases());
        self.run
            .trace
            .push((self.clock.elapsed(), id, name, phases));
        self.meets(name, phases);
        match name {
            "kill" => {
                self.processes[at].store.crash();
                self.gone(at, "crash");
            }
            "stop" => {
                let grace = Duration::from_millis(self.random.random_range(0..4000));
                let until = self.clock.elapsed() + grace;
                self.processes[at].stop.get_or_insert(until);
            }
            "swap" => self.swap(at),
            "rewind" => self.rewind(),
            "revoke" => {
                let partition = split(self.random.random_range(0..PARTITIONS));
                self.processes[at].revoked.push_back(vec![partition]);
            }
            "give back" => self.give_back(at),
            "age out" => {
                let partition = split(self.random.random_range(0..PARTITIONS));
                let low = self.low.get_mut(&partition).unwrap();
                *low = (*low + self.random.random_range(1..3)).min(END);
            }
            _ => self.land(),
        }
    }

    /// A last start settles the deliveries that are left when all processes have ended.
    fn last_start(&self) {
        let writer = Writer {
            id: "last".into(),
            started: 0,
        };
        let log = Log::open(self.bare.clone(), log_name(), self.clock.clone(), writer);
        let mut log = log.unwrap().expect("a log");
        let receiver = Connection {
            received: self.received.clone(),
            trouble: None,
            plans: None,
            outbox: None,
        };
        let receiver = self.way(receiver, self.bare.clone(), 0);
        at_log::recover(&mut log, &receiver, |log, draft| log.commit(draft)).unwrap();
    }

    fn swap(&mut self, at: usize) {
        self.rules += 1;
        let process = &mut self.processes[at];
        let from = process.in_force();
        let chains = (0..TASKS).map(|_| TransformChain::new(vec![], Unit::Row).unwrap());
        process.new_rules.push_back(NewRules {
            swap: Swap {
                replaces: from,
                transforms: rules(self.rules),
                actor: "sim".into(),
                reason: String::new(),
                block: vec![],
                force: false,
                declared: None,
            },
            own: sometimes(&mut self.random, 0.5),
            breaking: None,
            chains: chains.collect(),
        });
    }

    /// A rewind by another process, on a store that works.
    fn rewind(&mut self) {
        let writer = Writer {
            id: "operator".into(),
            started: 0,
        };
        let clock: Arc<dyn Clock> = self.clock.clone();
        let Some(log) = Log::open(self.bare.clone(), log_name(), clock, writer).unwrap() else {
            return;
        };
        let mut log = log.seeded(self.random.random());
        let partition = split(self.random.random_range(0..PARTITIONS));
        let Some(state) = log.state().splits.get(&partition) else {
            return;
        };
        let borders = &state.borders;
        if borders.len() < 2 {
            return;
        }
        let to = borders[self.random.random_range(0..borders.len() - 1)].to;
        let Ok(back) = log.state().back_to(&[(partition, to)].into()) else {
            return;
        };
        let base = log.version();
        let rewind = Rewind {
            actor: "sim".into(),
            reason: String::new(),
            readers: Vec::new(),
            follows: None,
        };
        log.commit(Draft::Rewind {
            rewind,
            back,
            rests: Vec::new(),
            base,
        })
        .unwrap();
    }

    fn give_back(&mut self, at: usize) {
        let process = &mut self.processes[at];
        let released = std::mem::take(&mut process.released);
        let opens = (0..PARTITIONS)
            .filter(|n| released.contains(&split(*n)))
            .map(open);
        let opens: Vec<Open> = opens.collect();
        if !opens.is_empty() {
            process.found.push_back(opens);
        }
    }

    fn land(&mut self) {
        for store in self.stores.iter().filter(|store| store.late() > 0) {
            store.land();
        }
    }

    /// True when all is read and every process has ended.
    fn calm_down(&mut self) -> bool {
        self.land();
        for at in 0..self.processes.len() {
            self.give_back(at);
            if self.model.all_read() && self.all_finished() {
                let until = self.clock.elapsed() + Duration::from_secs(600);
                self.processes[at].stop.get_or_insert(until);
            }
        }
        self.processes.is_empty() && self.model.all_read()
    }

    /// What entries deliver is with the receiver: a process that runs on finishes what others left (P1).
    fn all_finished(&self) -> bool {
        let outbox = self.bare.list(&format!("{}/outbox", log_name().dir()));
        let held = self.received.lock().unwrap().held.keys().cloned().collect();
        let waiting: BTreeSet<String> = match self.by_outbox {
            true => {
                let files = outbox.unwrap().into_iter();
                let id = |path: &str| {
                    path.rsplit('/')
                        .next()?
                        .split('@')
                        .next()
                        .map(str::to_owned)
                };
                files.filter_map(|file| id(&file.path)).collect()
            }
            false => held,
        };
        if waiting.is_empty() {
            return true;
        }
        let writer = Writer {
            id: "observer".into(),
            started: 0,
        };
        let log = Log::open(self.bare.clone(), log_name(), self.clock.clone(), writer);
        let log = log.unwrap().expect("a log");
        let named = |id: &String| log.state().delivered.contains_key(id);
        !waiting.iter().any(named)
    }

    fn look(&mut self) {
        self.model.look(&*self.bare, &self.low);
        self.model.sees(&self.received.lock().unwrap());
    }

    fn conclude(&mut self) {
        self.last_start();
        self.look();
        self.model.conclude();
        let received = self.received.lock().unwrap();
        self.model.delivered(&received);
        self.run.cut = received.cut.len();
        drop(received);
        let waiting = self.bare.list(&format!("{}/outbox", log_name().dir()));
        assert!(
            waiting.unwrap().is_empty(),
            "packets are left in the outbox"
        );
        for (marker, committed) in &self.told {
            self.model.is_told(marker, *committed);
        }
        let Model {
            entries,
            swaps,
            rewinds,
            gaps,
            ..
        } = self.model;
        (self.run.entries, self.run.swaps) = (entries, swaps);
        (self.run.rewinds, self.run.gaps) = (rewinds, gaps);
    }
}

/// Simulates one seed, in a store of this name.
fn simulate(seed: u64, store: &str) -> Run {
    let bare = store::open_url(&format!("memory:{store}")).unwrap();
    for listed in bare.list("").unwrap() {
        bare.delete(&listed.path).unwrap();
    }
    let mut world = World::new(seed, bare);
    let run = catch_unwind(AssertUnwindSafe(|| world.run()));
    if let Err(panic) = run {
        let trace = &world.run.trace;
        let tail = trace.len().saturating_sub(80);
        for line in &trace[tail..] {
            eprintln!("{line:?}");
        }
        eprintln!("... seed {seed}");
        eprintln!("replay: WEIR_SIM_SEED={seed} cargo test --lib pipeline::sim");
        std::panic::resume_unwind(panic);
    }
    world.run
}

#[test]
fn tasks_and_committers_lose_double_and_mix_nothing_whatever_happens() {
    if let Ok(seed) = std::env::var("WEIR_SIM_SEED") {
        let run = simulate(seed.parse().expect("WEIR_SIM_SEED is a number"), "sim-one");
        eprintln!("{:#?}", run.trace);
        return;
    }
    let seeds: u64 = match std::env::var("WEIR_SIM_SEEDS") {
        Ok(seeds) => seeds.parse().expect("WEIR_SIM_SEEDS is a number"),
        Err(_) => SEEDS,
    };
    let mut sum = Run::default();
    for seed in 0..seeds {
        let run = simulate(seed, "sim-many");
        sum.met.extend(run.met);
        for (how, count) in run.endings {
            *sum.endings.entry(how).or_default() += count;
        }
        sum.dropped += run.dropped;
        sum.entries += run.entries;
        sum.swaps += run.swaps;
        sum.rewinds += run.rewinds;
        sum.gaps += run.gaps;
        sum.cut += run.cut;
    }
    let met = |what: &str| {
        let points = sum.met.iter().filter(|(happened, _)| *happened == what);
        points
            .filter(|(_, phase)| !phase.ends_with("Ended"))
            .count()
    };
    let seen: Vec<(&str, usize)> = DISTURBED.map(|what| (what, met(what))).into();
    let Run {
        endings,
        dropped,
        entries,
        swaps,
        rewinds,
        gaps,
        cut,
        ..
    } = &sum;
    let seen = format!(
        "{seen:?} of {POINTS} points; {endings:?}, {entries} entries, {swaps} swaps, {rewinds} rewinds, {gaps} gaps, \
         {dropped} dropped, {cut} cut"
    );
    eprintln!("{seeds} seeds: {seen}");
    // Enough went wrong for the test to mean something.
    assert!(
        DISTURBED.iter().all(|what| met(what) + 2 >= POINTS),
        "{seen}"
    );
    let each = usize::try_from(seeds).unwrap();
    assert!(
        *swaps > each && *rewinds > each && *dropped > each,
        "{seen}"
    );
    assert!(
        endings["crash"] > each && endings["well"] > each && *gaps > 0 && *cut > 0,
        "{seen}"
    );
}

#[test]
fn a_seed_replays_turn_by_turn() {
    for seed in [3, 8] {
        assert_eq!(simulate(seed, "sim-replay"), simulate(seed, "sim-replay"));
    }
}
