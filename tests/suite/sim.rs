//! Exactly once under every fault: seeded simulations of several processes on one log, and each durable step of one commit
//! with each fault.
//!
//! Each on every kind of store ([`KINDS`]). A failure prints kind and seed; `WEIR_SIM_SEED=<kind>:<seed> cargo test --test
//! suite sim` replays it alone, with its trace, and `WEIR_SIM_SEEDS=<count>` runs more of them.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use weir::clock::ManualClock;
use weir::error::{Kind, Result};
use weir::store::{self, Fault, FaultStore, Faults, Op, Script, Store};

use crate::sim_gate::{Gate, Turns};
use crate::sim_world::{Fair, Heard, Ids, Loader, Oracle, Watched};

/// Of one run of the tests: a few seconds.
const SEEDS: u64 = 300;
/// Processes alive at once: two that work, and one that was replaced but only sleeps.
const ALIVE_MAX: usize = 3;
/// Processes in one run: what they leave undone, a last one without faults does.
const PROCESSES: usize = 9;
/// A file that is uploaded takes about so many requests more than one that is renamed: so much rarer are faults, and so many
/// more steps have them.
const UPLOAD_REQUESTS: u32 = 3;
/// How likely a process goes back after what it has just committed.
const REWINDS: f64 = 0.35;
/// After so many calls there are no more faults.
const FAULTY_STEPS: u32 = 500;
const STEPS_MAX: u32 = 20_000;

/// Stores that publish by rename, and those that complete uploads, by how they answer to a completion that comes too late.
/// Their parts are so small that most files have several.
const KINDS: [&str; 5] = [
    "memory:sim-N",
    "memory+upload:sim-N?part=40&answers=refuses",
    "memory+upload:sim-N?part=40&answers=lenient",
    "memory+upload:sim-N?part=40&answers=varies",
    "memory+upload:sim-N?part=40&answers=fails",
];

fn new_store(kind: usize) -> Arc<dyn Store> {
    static RUN: AtomicU64 = AtomicU64::new(0);
    let run = RUN.fetch_add(1, Ordering::SeqCst).to_string();
    store::open_url(&KINDS[kind].replace('N', &run)).unwrap()
}

/// Ends that a process may meet; anything else is a finding.
fn expected_end(end: &Result<()>) -> bool {
    match end {
        Ok(()) => true,
        Err(e) => matches!(e.kind(), Kind::Stopped | Kind::StoreUnavailable),
    }
}

struct World {
    forgets: bool,
    /// Whether rows leave by their age.
    lets_leave: bool,
    /// How many requests do the work of one where files are renamed.
    requests: u32,
    bare: Arc<dyn Store>,
    clock: Arc<ManualClock>,
    ids: Arc<Ids>,
    heard: Arc<Mutex<Heard>>,
    gate: Arc<Gate>,
    random: StdRng,
    oracle: Oracle,
    stores: Vec<Arc<FaultStore>>,
    threads: BTreeMap<usize, JoinHandle<Result<()>>>,
    /// Not scheduled before this step.
    asleep: BTreeMap<usize, u32>,
    /// Gets no clear answer before this step.
    outage: BTreeMap<usize, u32>,
    trace: Vec<String>,
}

impl World {
    fn new(kind: usize, seed: u64) -> World {
        World {
            // Half of the worlds remember everything.
            forgets: (seed / 4).is_multiple_of(2),
            // Most of those, and of the others, keep everything: rows that left cannot be taken back.
            lets_leave: (seed / 8).is_multiple_of(3),
            requests: if kind == 0 { 1 } else { UPLOAD_REQUESTS },
            bare: new_store(kind),
            clock: ManualClock::at(1_700_000_000_000_000),
            ids: Arc::default(),
            heard: Arc::default(),
            gate: Arc::default(),
            random: StdRng::seed_from_u64(seed),
            oracle: Oracle::default(),
            stores: Vec::new(),
            threads: BTreeMap::new(),
            asleep: BTreeMap::new(),
            outage: BTreeMap::new(),
            trace: Vec::new(),
        }
    }

    fn loader(&mut self, store: Arc<dyn Store>, who: usize) -> Loader {
        Loader {
            store,
            clock: Arc::<ManualClock>::clone(&self.clock),
            ids: Arc::clone(&self.ids),
            heard: Arc::clone(&self.heard),
            seed: self.random.random(),
            // The last one only brings all to its end.
            rewinds: if who < 1000 { REWINDS } else { 0.0 },
            forgets: self.forgets,
            lets_leave: self.lets_leave,
            who,
        }
    }

    fn watched(&self, faults: Arc<dyn Faults>) -> Arc<Watched> {
        Arc::new(Watched {
            bare: Arc::clone(&self.bare),
            deleted: Arc::clone(&self.oracle.deleted),
            faults,
        })
    }

    /// A process without faults.
    fn fair(&mut self, who: usize) -> Loader {
        let store = FaultStore::new(Arc::clone(&self.bare), self.watched(Arc::new(Fair)));
        self.loader(store, who)
    }

    fn start(&mut self) {
        let id = self.stores.len();
        let turns = Turns {
            gate: Arc::clone(&self.gate),
            id,
        };
        let store = FaultStore::new(Arc::clone(&self.bare), self.watched(Arc::new(turns)));
        self.stores.push(Arc::clone(&store));
        let loader = self.loader(store, id);
        self.threads
            .insert(id, self.gate.spawn(move || loader.run()));
    }

    fn run(&mut self) {
        for step in 0..STEPS_MAX {
            let waiting = self.gate.waiting();
            self.reap();
            self.oracle.look(&*self.bare);
            let faulty = step < FAULTY_STEPS * self.requests;
            let asleep = self.asleep.values().filter(|until| **until > step).count();
            let working = self.threads.len().saturating_sub(asleep);
            if faulty
                && working < 2
                && self.threads.len() < ALIVE_MAX
                && self.stores.len() < PROCESSES
            {
                self.start();
                continue;
            }
            self.land_some(faulty);
            if waiting.is_empty() && self.threads.is_empty() {
                break;
            }
            let ready: Vec<usize> = waiting
                .keys()
                .copied()
                .filter(|id| {
                    self.asleep
                        .get(id)
                        .is_none_or(|until| *until <= step || !faulty)
                })
                .collect();
            if ready.is_empty() {
                self.asleep.clear();
                continue;
            }
            let id = ready[self.random.random_range(0..ready.len())];
            if faulty && self.random.random_bool(0.01) {
                self.asleep
                    .insert(id, step + self.random.random_range(20..150));
                continue;
            }
            let op = waiting[&id].clone();
            let fault = if faulty {
                self.fault(id, step, &op)
            } else {
                Fault::None
            };
            self.trace
                .push(format!("{id} {:?} {} {fault:?}", op.verb, shown(&op.path)));
            self.gate.grant(id, fault);
        }
        assert!(self.threads.is_empty(), "livelock");
        while self.stores.iter().any(|s| s.late() > 0) {
            self.land_some(false);
        }
        // Twice: what the first collects of late arrivals, nothing may bring back.
        for _ in 0..2 {
            self.fair(1000).run().unwrap();
        }
        self.oracle
            .conclude(&*self.bare, &self.heard.lock().unwrap());
    }

    fn reap(&mut self) {
        let ended: Vec<usize> = self
            .threads
            .iter()
            .filter(|(id, thread)| thread.is_finished() || !self.gate.waiting().contains_key(id))
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            let thread = self.threads.remove(&id).unwrap();
            let end = thread.join().expect("a writer panicked");
            assert!(expected_end(&end), "writer {id}: {end:?}");
            self.trace
                .push(format!("{id} ended: {:?}", end.map_err(|e| e.kind())));
        }
    }

    fn land_some(&mut self, faulty: bool) {
        let late: Vec<usize> = (0..self.stores.len())
            .filter(|i| self.stores[*i].late() > 0)
            .collect();
        if late.is_empty() || (faulty && !self.random.random_bool(0.05)) {
            return;
        }
        let i = late[self.random.random_range(0..late.len())];
        self.stores[i].land();
        self.trace.push(format!("{i} landed"));
        self.oracle.look(&*self.bare);
    }

    fn fault(&mut self, id: usize, step: u32, op: &Op) -> Fault {
        // A commit meets as many faults as where files are renamed.
        let spared = op.verb.is_durable() && !op.path.contains("/log/");
        if spared && self.random.random_ratio(self.requests - 1, self.requests) {
            return Fault::None;
        }
        let p: u32 = self.random.random_range(0..1000);
        if p >= 980 {
            self.outage
                .insert(id, step + self.random.random_range(4..40));
        }
        if self.outage.get(&id).is_some_and(|until| *until > step) && op.verb.is_durable() {
            return if p.is_multiple_of(3) {
                Fault::Late
            } else {
                Fault::FailBefore
            };
        }
        if !op.verb.is_durable() {
            return if p < 10 {
                Fault::FailBefore
            } else {
                Fault::None
            };
        }
        match p {
            0..30 => Fault::FailBefore,
            30..45 => Fault::CrashBefore,
            45..75 => Fault::CrashAfter,
            75..90 => Fault::Torn,
            90..130 => Fault::ReplyLost,
            130..180 => Fault::Late,
            180..200 => Fault::Denied,
            200..280 => Fault::Pending,
            _ => Fault::None,
        }
    }
}

/// The name of a manifest follows from times, and which thread moves the clock first is not decided here.
fn shown(path: &str) -> &str {
    match path.find("/manifest/") {
        Some(at) => &path[..at + "/manifest/".len()],
        None => path,
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.gate.end();
    }
}

/// What one simulation came to.
#[derive(Debug, PartialEq)]
struct Run {
    versions: usize,
    rewinds: usize,
    forgotten: usize,
    compactions: usize,
    expired: usize,
    unsettled: u64,
    left: u64,
    trace: Vec<String>,
}

fn simulate(kind: usize, seed: u64) -> Run {
    let mut world = World::new(kind, seed);
    let run = catch_unwind(AssertUnwindSafe(|| world.run()));
    let trace = std::mem::take(&mut world.trace);
    if let Err(panic) = run {
        let tail = trace.len().saturating_sub(60);
        eprintln!(
            "{}\n... {} seed {seed}",
            trace[tail..].join("\n"),
            KINDS[kind]
        );
        eprintln!("replay: WEIR_SIM_SEED={kind}:{seed} cargo test --test suite sim");
        std::panic::resume_unwind(panic);
    }
    let heard = world.heard.lock().unwrap();
    Run {
        versions: world.oracle.versions(),
        rewinds: world.oracle.rewinds(),
        forgotten: world.oracle.forgotten(),
        compactions: world.oracle.compactions(),
        expired: world.oracle.left(),
        unsettled: heard.unsettled,
        left: heard.left,
        trace,
    }
}

fn many(kinds: std::ops::Range<usize>) {
    if let Ok(one) = std::env::var("WEIR_SIM_SEED") {
        let (kind, seed) = one.split_once(':').expect("WEIR_SIM_SEED is kind:seed");
        let kind = kind.parse().expect("a kind is a number");
        if kinds.contains(&kind) {
            let run = simulate(kind, seed.parse().expect("a seed is a number"));
            eprintln!("{}\n{} versions", run.trace.join("\n"), run.versions);
        }
        return;
    }
    let seeds: u64 = match std::env::var("WEIR_SIM_SEEDS") {
        Ok(seeds) => seeds.parse().expect("WEIR_SIM_SEEDS is a number"),
        Err(_) => SEEDS,
    };
    let (mut versions, mut rewinds, mut crashed) = (0, 0, 0);
    let (mut unsettled, mut left, mut forgotten) = (0, 0, 0);
    let (mut compactions, mut expired) = (0, 0);
    for seed in 0..seeds {
        let kind = kinds.clone().nth(seed as usize % kinds.len()).unwrap();
        let run = simulate(kind, seed);
        versions += run.versions;
        rewinds += run.rewinds;
        unsettled += run.unsettled;
        left += run.left;
        forgotten += run.forgotten as u64;
        compactions += run.compactions as u64;
        expired += run.expired as u64;
        crashed += run
            .trace
            .iter()
            .filter(|l| l.contains("ended: Err(Stopped)"))
            .count();
    }
    // The world is rough enough to mean something.
    let seen = format!(
        "{versions} versions, {rewinds} rewinds, {crashed} crashed, {unsettled} unsettled, {left} left, {forgotten} forgotten, {compactions} compactions, {expired} expired"
    );
    eprintln!("{seeds} seeds of {:?}: {seen}", &KINDS[kinds]);
    assert!(
        versions as u64 > 5 * seeds && rewinds as u64 > seeds / 2 && crashed as u64 > seeds,
        "{seen}"
    );
    assert!(unsettled > seeds && left > seeds / 10, "{seen}");
    assert!(forgotten > seeds && expired > seeds, "{seen}");
    assert!(compactions > seeds / 10, "{seen}");
}

#[test]
fn two_writers_sleepers_crashes_and_late_requests() {
    many(0..1);
}

#[test]
fn two_writers_sleepers_crashes_and_late_requests_where_uploads_are_completed() {
    many(1..KINDS.len());
}

#[test]
fn a_seed_replays_call_by_call() {
    for (kind, seed) in [(0, 1), (0, 7), (2, 1), (3, 7)] {
        assert_eq!(simulate(kind, seed), simulate(kind, seed));
    }
}

/// At the k-th durable step a fault, then (perhaps) the end of the process at the next one.
#[derive(Debug)]
struct Fated {
    script: Script,
    step: u64,
    dies_after: bool,
}

impl Faults for Fated {
    fn decide(&self, op: &Op) -> Fault {
        let before = self.script.seen();
        match self.script.decide(op) {
            Fault::None if self.dies_after && op.verb.is_durable() && before > self.step => {
                Fault::CrashBefore
            }
            fault => fault,
        }
    }
}

/// One process meets the fault; others come after it. False: there is no such step.
fn fated(
    (kind, rewinds, (forgets, lets_leave)): (usize, f64, (bool, bool)),
    step: u64,
    fault: Fault,
    dies_after: bool,
    lands_after: usize,
) -> bool {
    let mut world = World::new(kind, step);
    (world.forgets, world.lets_leave) = (forgets, lets_leave);
    let faults = Arc::new(Fated {
        script: Script::durable(step, fault),
        step,
        dies_after,
    });
    let watched = world.watched(Arc::<Fated>::clone(&faults));
    let store = FaultStore::new(Arc::clone(&world.bare), watched);
    let loader = Loader {
        rewinds,
        ..world.loader(Arc::<FaultStore>::clone(&store), 0)
    };
    let end = loader.run();
    assert!(expected_end(&end), "step {step} {fault:?}: {end:?}");
    world.oracle.look(&*world.bare);
    for process in 1..=3 {
        if process == lands_after + 1 {
            while store.late() > 0 {
                store.land();
                world.oracle.look(&*world.bare);
            }
        }
        let loader = Loader {
            rewinds: 0.0,
            ..world.fair(process)
        };
        let end = loader.run();
        // While a completion was taken and shows nothing, nobody can go on.
        let waits = store.late() > 0 && matches!(fault, Fault::Pending | Fault::Torn);
        assert!(
            end.is_ok() || waits && expected_end(&end),
            "step {step} {fault:?}: restart {process}: {end:?}"
        );
        world.oracle.look(&*world.bare);
    }
    world
        .oracle
        .conclude(&*world.bare, &world.heard.lock().unwrap());
    faults.script.seen() > step
}

#[test]
fn every_durable_step_with_every_fault() {
    assert!(every_step(0, 0.0, (false, false)) > 20);
}

/// After every round it goes back, as long as it may.
#[test]
fn every_durable_step_of_rewinds_with_every_fault() {
    assert!(every_step(0, 1.0, (false, false)) > 40);
}

#[test]
fn every_durable_step_with_every_fault_where_uploads_are_completed() {
    for kind in 1..KINDS.len() {
        assert!(every_step(kind, 0.0, (false, false)) > 50);
    }
}

#[test]
fn every_durable_step_of_rewinds_with_every_fault_where_uploads_are_completed() {
    for kind in 1..KINDS.len() {
        assert!(every_step(kind, 1.0, (false, false)) > 70);
    }
}

/// Horizons, checkpoints, manifests, and each delete of what is forgotten.
#[test]
fn every_durable_step_of_forgetting_with_every_fault() {
    assert!(every_step(0, 0.3, (true, false)) > 45);
    assert!(every_step(3, 0.3, (true, false)) > 60);
}

/// Expiring, what may be deleted, what is archived, and each delete; with a reader, and rewinds that are refused below it.
#[test]
fn every_durable_step_of_leaving_with_every_fault() {
    assert!(every_step(0, 0.3, (false, true)) > 45);
    assert!(every_step(0, 0.0, (true, true)) > 45);
    assert!(every_step(3, 0.0, (false, true)) > 60);
}

/// How many there were.
fn every_step(kind: usize, rewinds: f64, forgets: (bool, bool)) -> usize {
    let cases = [
        (Fault::FailBefore, false),
        (Fault::CrashBefore, false),
        (Fault::CrashAfter, false),
        (Fault::Torn, false),
        (Fault::ReplyLost, false),
        (Fault::ReplyLost, true),
        (Fault::Denied, false),
        (Fault::Denied, true),
        (Fault::Pending, false),
        (Fault::Pending, true),
        (Fault::Late, false),
        (Fault::Late, true),
    ];
    let mut steps = BTreeSet::new();
    for (fault, dies_after) in cases {
        let lands = match fault {
            Fault::Late | Fault::Pending | Fault::Torn => 0..3,
            _ => 0..1,
        };
        for lands_after in lands {
            for step in 0.. {
                if !fated(
                    (kind, rewinds, forgets),
                    step,
                    fault,
                    dies_after,
                    lands_after,
                ) {
                    break;
                }
                steps.insert(step);
            }
        }
    }
    eprintln!(
        "{} {rewinds} {forgets:?}: {} steps",
        KINDS[kind],
        steps.len()
    );
    steps.len()
}
