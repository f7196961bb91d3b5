//! Processes on one store, for the tests of the protocol: they open, seal, commit, and fail as a test says.

use std::fmt;
use std::sync::{Arc, Mutex};

use weir::clock::{Clock, ManualClock};
use weir::commit::{Committed, Draft, Dropped, Log, Open, Outcome, PreparedCommit, Writer};
use weir::error::Result;
use weir::store::{self, Fault, FaultStore, Faults, Op, Store, Verb};

use crate::sim_world::{Heard, Ids, Loader, Oracle, log_name, rule, split};

/// A store, and processes on it.
pub struct Bench {
    pub store: Arc<dyn Store>,
    pub clock: Arc<ManualClock>,
    pub ids: Arc<Ids>,
}

impl Bench {
    pub fn on(store: Arc<dyn Store>) -> Bench {
        Bench {
            store,
            clock: ManualClock::at(1_700_000_000_000_000),
            ids: Arc::default(),
        }
    }

    pub fn new(name: &str) -> Bench {
        Bench::on(store::open_url(&format!("memory:protocol-{name}")).unwrap())
    }

    pub fn open_through(&self, store: Arc<dyn Store>) -> Result<Log> {
        let clock = Arc::<ManualClock>::clone(&self.clock);
        let writer = Writer {
            id: "test".into(),
            started: 0,
        };
        Log::open_or_init(store, log_name(), clock, writer, rule(0))
    }

    pub fn log(&self) -> Log {
        self.open_through(Arc::clone(&self.store)).unwrap()
    }

    /// Its store fails as told; a process opens its log without faults first.
    pub fn faulty(&self, faults: impl Faults + 'static) -> (Log, Arc<FaultStore>) {
        let gated = Arc::new(Gated::new(faults));
        let store = FaultStore::new(Arc::clone(&self.store), Arc::<Gated>::clone(&gated));
        let log = self.open_through(Arc::<FaultStore>::clone(&store)).unwrap();
        gated.open();
        (log, store)
    }

    pub fn loader(&self) -> Loader {
        Loader {
            store: Arc::clone(&self.store),
            clock: Arc::<ManualClock>::clone(&self.clock),
            ids: Arc::clone(&self.ids),
            heard: Arc::default(),
            seed: 1,
            rewinds: 0.0,
            forgets: false,
            lets_leave: false,
            who: 0,
        }
    }

    /// Files staged, spans counted; nothing committed.
    pub fn sealed(&self, log: &Log, n: usize, from: i64, to: i64) -> PreparedCommit {
        self.loader()
            .seal(log, &[(split(n), from, to)])
            .unwrap()
            .unwrap()
    }

    pub fn opened(&self) -> Log {
        let mut log = self.log();
        committed(log.commit(open_both(3)));
        log
    }

    pub fn staged(&self) -> usize {
        self.store.begun(&log_name().dir()).unwrap().len()
    }

    pub fn published(&self) -> usize {
        ["books", "dead_letters"]
            .map(|dir| self.store.list(dir).unwrap().len())
            .iter()
            .sum()
    }

    /// Loads the rest and asks the oracle: nothing lost, nothing twice.
    pub fn conclude(&self) {
        self.loader().run().unwrap();
        Oracle::default().conclude(&*self.store, &Heard::default());
    }

    /// Neither publishes nor collects.
    pub fn reader_log(&self) -> Log {
        self.reader_log_through(Arc::clone(&self.store))
    }

    pub fn reader_log_through(&self, store: Arc<dyn Store>) -> Log {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        let writer = Writer::this_process(&*clock);
        Log::open(store, log_name(), clock, writer)
            .unwrap()
            .unwrap()
    }

    pub fn overwrite(&self, version: u64, bytes: &[u8]) {
        let path = log_name().entry(version);
        self.store.delete(&path).unwrap();
        self.store.create(&path, bytes).unwrap();
    }

    pub fn entry_text(&self, version: u64) -> String {
        let bytes = self.store.get(&log_name().entry(version)).unwrap().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }
}

/// No faults until it is opened.
#[derive(Debug)]
struct Gated {
    faults: Box<dyn Faults>,
    open: Mutex<bool>,
}

impl Gated {
    pub fn new(faults: impl Faults + 'static) -> Gated {
        Gated {
            faults: Box::new(faults),
            open: Mutex::new(false),
        }
    }

    pub fn open(&self) {
        *self.open.lock().unwrap() = true;
    }
}

impl Faults for Gated {
    fn decide(&self, op: &Op) -> Fault {
        if *self.open.lock().unwrap() {
            self.faults.decide(op)
        } else {
            Fault::None
        }
    }
}

/// Each call asks a function.
pub struct Ask<F>(Mutex<F>);

pub fn ask<F: FnMut(&Op) -> Fault + Send>(f: F) -> Ask<F> {
    Ask(Mutex::new(f))
}

impl<F> fmt::Debug for Ask<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ask")
    }
}

impl<F: FnMut(&Op) -> Fault + Send> Faults for Ask<F> {
    fn decide(&self, op: &Op) -> Fault {
        (self.0.lock().unwrap())(op)
    }
}

pub fn open_both(at: i64) -> Draft {
    let open = |n: usize| Open {
        split: split(n),
        topic: "t".into(),
        partition: i32::try_from(n).unwrap(),
        offset: at,
        start: "earliest".into(),
    };
    Draft::Open(vec![open(0), open(1)])
}

pub fn data(receipts: Vec<PreparedCommit>) -> Draft {
    Draft::Data {
        receipts,
        swap: None,
    }
}

pub fn committed(outcome: Result<Outcome>) -> Committed {
    match outcome.unwrap() {
        Outcome::Committed { committed, .. } => committed,
        Outcome::Lost { dropped } => panic!("lost: {dropped:?}"),
    }
}

pub fn lost(outcome: Result<Outcome>) -> Vec<Dropped> {
    match outcome.unwrap() {
        Outcome::Committed { committed, .. } => panic!("committed: {committed:?}"),
        Outcome::Lost { dropped } => dropped,
    }
}

/// The first create of this version is delayed, and no other call about it gets an answer until `healed`.
pub fn delayed(version: u64, healed: Arc<Mutex<bool>>) -> impl Faults {
    let path = log_name().entry(version);
    let mut first = true;
    ask(move |op| {
        if op.path != path || *healed.lock().unwrap() {
            return Fault::None;
        }
        match op.verb {
            Verb::Create if std::mem::take(&mut first) => Fault::Late,
            Verb::Create => Fault::FailBefore,
            _ => Fault::None,
        }
    })
}
