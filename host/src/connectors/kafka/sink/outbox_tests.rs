//! K1 to K4 step by step: several processes on one outbox and one topic, and between any two requests of one of them the others may go on,
//! die or begin. Which one goes on, dies or begins comes from a seed. In the end each delivery that was committed is in the topic once, no
//! other is, and nothing waits.
//!
//! Each of these was switched off once, and a seed noticed: taking the packet away that the mark names (K2), taking it away before the
//! next transaction (K3), forgetting what was held when taking over (K3), fencing (K2).

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Condvar;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::commit::{Role, new_file_id};
use crate::store::{self, Inputs, Listed, Way};

const SEEDS: u64 = 400;
/// At once; each of them sends so many deliveries.
const PROCESSES: usize = 3;
const DELIVERIES: usize = 3;
/// Processes in all: those that die are followed by others.
const STARTS_MAX: usize = 9;
const TOPIC: &str = "t";

/// Who goes on: one at a time, chosen when all others wait.
struct Turns {
    state: Mutex<TurnState>,
    changed: Condvar,
}

struct TurnState {
    random: StdRng,
    running: Option<usize>,
    waiting: BTreeSet<usize>,
    alive: usize,
    /// Nobody dies any more.
    calm: bool,
}

/// What a killed process unwinds with.
struct Killed;

impl Turns {
    fn new(seed: u64) -> Arc<Turns> {
        Arc::new(Turns {
            state: Mutex::new(TurnState {
                random: StdRng::seed_from_u64(seed),
                running: None,
                waiting: BTreeSet::new(),
                alive: 0,
                calm: false,
            }),
            changed: Condvar::new(),
        })
    }

    fn choose(state: &mut TurnState) {
        if state.running.is_none() && state.waiting.len() == state.alive && state.alive > 0 {
            let at = state.random.random_range(0..state.alive);
            state.running = state.waiting.iter().nth(at).copied();
        }
    }

    /// Others may go on before this one does; it may die here.
    fn pass(&self, me: usize) {
        let mut state = self.state.lock().unwrap();
        state.running = state.running.filter(|running| *running != me);
        state.waiting.insert(me);
        Turns::choose(&mut state);
        self.changed.notify_all();
        while state.running != Some(me) {
            state = self.changed.wait(state).unwrap();
        }
        state.waiting.remove(&me);
        let dies = !state.calm && state.random.random_bool(0.03);
        drop(state);
        if dies {
            panic_any(Killed);
        }
    }

    fn ends(&self, me: usize) {
        let mut state = self.state.lock().unwrap();
        state.running = state.running.filter(|running| *running != me);
        state.waiting.remove(&me);
        state.alive -= 1;
        Turns::choose(&mut state);
        self.changed.notify_all();
    }

    fn flips(&self) -> bool {
        self.state.lock().unwrap().random.random_bool(0.5)
    }
}

/// The cluster and the log, which outlive the processes.
#[derive(Default)]
struct World {
    epoch: u64,
    mark: Option<Mark>,
    open: Option<Begun>,
    /// Deliveries that readers of committed records see, in order.
    seen: Vec<String>,
    committed: Vec<Delivery>,
    collected: BTreeSet<String>,
}

struct Begun {
    mark: Mark,
    rows: bool,
    /// Its end was asked for.
    ends: bool,
}

impl World {
    fn end(&mut self) {
        if let Some(open) = self.open.take() {
            if open.rows {
                self.seen.push(open.mark.text.clone());
            }
            self.mark = Some(open.mark);
        }
    }
}

type Shared = Arc<Mutex<World>>;

struct Client {
    world: Shared,
    turns: Arc<Turns>,
    me: usize,
    epoch: u64,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.me)
    }
}

fn fenced() -> Error {
    Error::new(Kind::SinkUnavailable, "test", "another process took over")
}

impl Client {
    fn step<T>(&self, step: impl FnOnce(&mut World) -> T) -> Result<T> {
        self.turns.pass(self.me);
        let mut world = self.world.lock().unwrap();
        match world.epoch == self.epoch {
            true => Ok(step(&mut world)),
            false => Err(fenced()),
        }
    }
}

impl Takes for Client {
    fn take_over(&mut self) -> Result<()> {
        self.turns.pass(self.me);
        let ends_well = self.turns.flips();
        let mut world = self.world.lock().unwrap();
        world.epoch += 1;
        self.epoch = world.epoch;
        match world
            .open
            .as_ref()
            .is_some_and(|open| open.ends && ends_well)
        {
            true => world.end(),
            false => world.open = None,
        }
        Ok(())
    }

    fn mark(&mut self, _: &str) -> Result<Option<Mark>> {
        self.turns.pass(self.me);
        Ok(self.world.lock().unwrap().mark.clone())
    }

    fn carry(&mut self, _: &str, mark: &Mark, packet: Option<&[u8]>) -> Result<()> {
        let (mark, rows) = (mark.clone(), packet.is_some());
        self.step(|world| {
            world.open = Some(Begun {
                mark,
                rows,
                ends: false,
            });
        })?;
        self.step(|world| world.open.iter_mut().for_each(|open| open.ends = true))?;
        self.step(World::end)
    }
}

/// A store between whose requests others go on.
struct Yielding {
    inner: Arc<dyn Store>,
    turns: Arc<Turns>,
    me: usize,
}

impl fmt::Debug for Yielding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Yielding {
    fn then<T>(&self, request: impl FnOnce(&dyn Store) -> T) -> T {
        self.turns.pass(self.me);
        request(self.inner.as_ref())
    }
}

impl Store for Yielding {
    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created> {
        self.then(|store| store.create(path, bytes))
    }
    fn get(&self, path: &str) -> Result<Option<Bytes>> {
        self.then(|store| store.get(path))
    }
    fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        self.then(|store| store.get_range(path, range))
    }
    fn size(&self, path: &str) -> Result<Option<u64>> {
        self.then(|store| store.size(path))
    }
    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.then(|store| store.list(prefix))
    }
    fn delete(&self, path: &str) -> Result<()> {
        self.then(|store| store.delete(path))
    }
    fn sync(&self, dir: &str) -> Result<()> {
        self.inner.sync(dir)
    }
    fn url(&self) -> &str {
        self.inner.url()
    }
    fn way(&self) -> Way<'_> {
        self.inner.way()
    }
    fn inputs(&self) -> &dyn Inputs {
        self.inner.inputs()
    }
}

/// The outbox does not ask it.
#[derive(Debug)]
struct Open;

impl Fence for Open {
    fn holds(&self) -> Result<()> {
        Ok(())
    }
}

struct Process {
    world: Shared,
    turns: Arc<Turns>,
    me: usize,
    outbox: Arc<Outbox<Client>>,
}

impl Process {
    fn new(world: &Shared, turns: &Arc<Turns>, me: usize, inner: &Arc<dyn Store>) -> Process {
        let store = Yielding {
            inner: inner.clone(),
            turns: turns.clone(),
            me,
        };
        let client = Client {
            world: world.clone(),
            turns: turns.clone(),
            me,
            epoch: 0,
        };
        let log = LogName::new("p", "z");
        Process {
            outbox: Arc::new(Outbox::new(
                Arc::new(store),
                SystemClock::shared(),
                (&log, TOPIC),
                client,
            )),
            world: world.clone(),
            turns: turns.clone(),
            me,
        }
    }

    /// Until it works: as the committer and a start do it.
    fn again<T>(&self, mut request: impl FnMut(&FromOutbox<Client>) -> Result<T>) -> T {
        let receiver = FromOutbox(self.outbox.clone());
        loop {
            match request(&receiver) {
                Ok(done) => return done,
                Err(error) => assert_eq!(error.kind(), Kind::SinkUnavailable, "{error}"),
            }
        }
    }

    /// A start: what entries name is finished, the rest is collected and given up.
    fn recover(&self) {
        for id in self.again(|receiver| receiver.prepared()) {
            self.turns.pass(self.me);
            let named = {
                let mut world = self.world.lock().unwrap();
                let named = world.committed.iter().find(|d| d.id == id).cloned();
                if named.is_none() {
                    world.collected.insert(id.clone());
                }
                named
            };
            match named {
                Some(delivery) => self.again(|receiver| receiver.finish(&delivery)),
                None => self.again(|receiver| receiver.give_up(&id)),
            }
        }
    }

    fn run(&self) {
        self.recover();
        for _ in 0..DELIVERIES {
            let delivery = Delivery {
                id: new_file_id(),
                role: Role::Rows,
                sink: "kafka".into(),
                target: TOPIC.into(),
                rows: 1,
                ranges: Vec::new(),
                token: None,
            };
            let parcel = Parcel {
                outbox: self.outbox.clone(),
                packet: delivery.id.clone().into_bytes(),
                delivery,
                held: Held::default(),
            };
            let prepared: Box<dyn Deliver> = Box::new(parcel);
            let mut delivery = prepared.prepare(&Open).unwrap().deliveries;
            let delivery = delivery.remove(0);
            self.turns.pass(self.me);
            let committed = {
                let mut world = self.world.lock().unwrap();
                let free = !world.collected.contains(&delivery.id);
                if free {
                    world.committed.push(delivery.clone());
                }
                free
            };
            if committed {
                self.again(|receiver| receiver.finish(&delivery));
            }
        }
    }
}

fn simulate(seed: u64) -> (usize, usize) {
    let store = store::open_url(&format!("memory:outbox-{seed}")).unwrap();
    let (world, turns) = (Shared::default(), Turns::new(seed));
    let mut kills = 0;
    turns.state.lock().unwrap().alive = PROCESSES;
    std::thread::scope(|scope| {
        let start = |me: usize| {
            let process = Process::new(&world, &turns, me, &store);
            let turns = turns.clone();
            scope.spawn(move || {
                let ended = catch_unwind(AssertUnwindSafe(|| process.run()));
                turns.ends(process.me);
                ended
            })
        };
        let mut running: Vec<_> = (0..PROCESSES).map(start).collect();
        let mut begun = PROCESSES;
        while let Some(process) = running.pop() {
            match process.join().unwrap() {
                Ok(()) => {}
                Err(cause) if cause.is::<Killed>() => {
                    kills += 1;
                    let mut state = turns.state.lock().unwrap();
                    state.calm = begun >= STARTS_MAX;
                    state.alive += 1;
                    drop(state);
                    running.insert(0, start(begun));
                    begun += 1;
                }
                Err(cause) => std::panic::resume_unwind(cause),
            }
        }
    });
    // One more start, alone.
    let mut state = turns.state.lock().unwrap();
    (state.calm, state.alive) = (true, 1);
    drop(state);
    Process::new(&world, &turns, usize::MAX, &store).recover();
    let world = world.lock().unwrap();
    let mut seen = world.seen.clone();
    seen.sort();
    let mut committed: Vec<String> = world.committed.iter().map(|d| d.id.clone()).collect();
    committed.sort();
    assert_eq!(
        seen, committed,
        "seed {seed}: what is committed is in the topic once"
    );
    let waiting = store.list("_system/p/z/outbox").unwrap();
    assert!(waiting.is_empty(), "seed {seed}: {waiting:?}");
    (kills, committed.len())
}

#[test]
fn each_delivery_is_in_the_topic_once_whoever_dies_between_which_requests() {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Killed>() {
            quiet(info);
        }
    }));
    let (mut kills, mut deliveries) = (0, 0);
    for seed in 0..SEEDS {
        let (killed, delivered) = simulate(seed);
        kills += killed;
        deliveries += delivered;
    }
    assert!(
        kills > 500 && deliveries > 1_000,
        "{kills} kills, {deliveries} deliveries"
    );
}

#[test]
fn a_packet_without_a_mark_stops_the_start_and_names_what_to_look_at() {
    let store = store::open_url("memory:outbox-lost").unwrap();
    let (world, turns) = (Shared::default(), Turns::new(0));
    {
        let mut state = turns.state.lock().unwrap();
        (state.calm, state.alive) = (true, 1);
    }
    let process = Process::new(&world, &turns, 0, &store);
    process.recover();
    assert_eq!(world.lock().unwrap().mark.as_ref().unwrap().text, "");
    let packets = [new_file_id(), new_file_id()].map(|id| process.outbox.path(&id, TOPIC));
    for packet in &packets {
        store.create(packet, b"x").unwrap();
    }
    world.lock().unwrap().mark = None;
    let other = Process::new(&world, &turns, 0, &store);
    let error = FromOutbox(other.outbox.clone()).prepared().unwrap_err();
    assert_eq!(error.kind(), Kind::SinkRefused);
    for packet in &packets {
        assert!(packet.starts_with("_system/p/z/outbox/"), "{packet}");
        assert!(error.to_string().contains(packet), "{error}");
    }
}

#[test]
fn a_packet_that_is_not_the_one_of_its_entry_stops_before_it_is_sent() {
    let store = store::open_url("memory:outbox-damaged").unwrap();
    let (world, turns) = (Shared::default(), Turns::new(0));
    {
        let mut state = turns.state.lock().unwrap();
        (state.calm, state.alive) = (true, 1);
    }
    let process = Process::new(&world, &turns, 0, &store);
    process.recover();
    let delivery = Delivery {
        id: new_file_id(),
        role: Role::Rows,
        sink: "kafka".into(),
        target: TOPIC.into(),
        rows: 1,
        ranges: Vec::new(),
        token: Some(sha256(b"as it was")),
    };
    let path = process.outbox.path(&delivery.id, TOPIC);
    store.create(&path, b"as it is").unwrap();
    let error = FromOutbox(process.outbox.clone()).finish(&delivery);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), Kind::LogCorrupt);
    assert!(error.to_string().contains(&path), "{error}");
    assert!(world.lock().unwrap().seen.is_empty());
}

/// What a broker keeps for seven days after it was last used: the transactional id of a producer, and its mark.
#[derive(Clone, Debug)]
struct Forgetful {
    clock: Arc<ManualClock>,
    broker: Arc<Mutex<Keeps>>,
    mine: u64,
}

#[derive(Debug, Default)]
struct Keeps {
    epoch: u64,
    used: Duration,
    mark: Option<(Mark, Duration)>,
    packets: Vec<Vec<u8>>,
    transactions: usize,
}

const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

impl Forgetful {
    fn is_kept(&self, at: Duration) -> bool {
        self.clock.elapsed() < at + RETENTION
    }
}

impl Takes for Forgetful {
    fn take_over(&mut self) -> Result<()> {
        let mut broker = self.broker.lock().unwrap();
        broker.epoch += 1;
        broker.used = self.clock.elapsed();
        self.mine = broker.epoch;
        Ok(())
    }

    fn mark(&mut self, _: &str) -> Result<Option<Mark>> {
        let mark = self.broker.lock().unwrap().mark.clone();
        Ok(mark
            .filter(|(_, at)| self.is_kept(*at))
            .map(|(mark, _)| mark))
    }

    fn carry(&mut self, _: &str, mark: &Mark, packet: Option<&[u8]>) -> Result<()> {
        let mut broker = self.broker.lock().unwrap();
        if broker.epoch != self.mine || !self.is_kept(broker.used) {
            return Err(fenced());
        }
        let now = self.clock.elapsed();
        broker.used = now;
        broker.mark = Some((mark.clone(), now));
        broker.packets.extend(packet.map(<[u8]>::to_vec));
        broker.transactions += 1;
        Ok(())
    }
}

/// K4.
#[test]
fn a_pipeline_that_is_idle_for_weeks_goes_on_with_its_next_record() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let store = store::open_url("memory:outbox-idle").unwrap();
    let clock = ManualClock::at(0);
    let takes = Forgetful {
        clock: clock.clone(),
        broker: Arc::default(),
        mine: 0,
    };
    let log = LogName::new("p", "z");
    let start = || {
        let outbox = Outbox::new(store.clone(), clock.clone(), (&log, TOPIC), takes.clone());
        let outbox = Arc::new(outbox);
        FromOutbox(outbox.clone()).prepared().unwrap();
        outbox
    };
    let prepare = |outbox: &Arc<Outbox<Forgetful>>| {
        let id = new_file_id();
        let parcel: Box<dyn Deliver> = Box::new(Parcel {
            outbox: outbox.clone(),
            packet: id.clone().into_bytes(),
            delivery: Delivery {
                id,
                role: Role::Rows,
                sink: "kafka".into(),
                target: TOPIC.into(),
                rows: 1,
                ranges: Vec::new(),
                token: None,
            },
            held: Held::default(),
        });
        parcel.prepare(&Open).unwrap().deliveries.remove(0)
    };
    let sent = || takes.broker.lock().unwrap().packets.len();
    // Nothing at all is asked of it for a month.
    let outbox = start();
    clock.advance(30 * DAY);
    let delivery = prepare(&outbox);
    FromOutbox(outbox.clone()).finish(&delivery).unwrap();
    assert_eq!(sent(), 1);
    // It dies between the entry and the transaction, after a month: the mark is there.
    clock.advance(30 * DAY);
    let delivery = prepare(&outbox);
    drop(outbox);
    let outbox = start();
    FromOutbox(outbox.clone()).finish(&delivery).unwrap();
    assert_eq!(sent(), 2);
    // It looks at its log twice a second for a month, and dies then.
    let before = takes.broker.lock().unwrap().transactions;
    for _ in 0..30 * 24 {
        clock.advance(DAY / 24);
        FromOutbox(outbox.clone()).idle().unwrap();
        FromOutbox(outbox.clone()).idle().unwrap();
    }
    let marked = takes.broker.lock().unwrap().transactions - before;
    assert_eq!(marked, 60, "twice a day");
    assert!(takes.clone().mark(TOPIC).unwrap().is_some());
}
