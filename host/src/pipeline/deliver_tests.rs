//! A sink that delivers, through a real task, the real committer and the real log.

use std::sync::Mutex;
use std::time::Duration;

use crossbeam_channel::unbounded;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::archive::Archiver;
use super::committer::steps::{Event, Next};
use super::committer::{Committer, at_log, position};
use super::messages::HandIn;
use super::sim::receiver::{Connection, Row, Trouble, is_letter};
use super::sim::task::span;
use super::task::tests::Silent;
use super::task::{Hold, Task, TaskOptions};
use super::*;
use crate::chain::{Applied, TransformChain};
use crate::clock::SystemClock;
use crate::commit::{
    Entry, Held, Limits, LogName, Open, PreparedCommit, Writer, decode, new_file_id,
};
use crate::config::Unit;
use crate::record::{Batch, BatchBuilder, Covers, OffsetRange, SplitId, TopicPartition};
use crate::sink::{Base, Deliver, Fence, Gathered, Prepared, Sealed, Sink};
use crate::source::{Nobody, Position, Source};
use crate::store::{self, Store};

/// Number of offsets: eight hand-ins and a remainder.
const END: i64 = 42;
const ROLL: usize = 5;

/// One record after the other, each seen again after a seek.
#[derive(Debug)]
struct Counted(i64);

impl Source for Counted {
    fn next(&mut self, _: Duration) -> Result<Option<Batch>> {
        if self.caught_up() {
            return Ok(None);
        }
        let mut builder = BatchBuilder::new();
        builder.push(self.0, None, None, Some(b"x"), std::iter::empty());
        self.0 += 1;
        Ok(Some(builder.finish(Covers {
            split: split(),
            epoch: 0,
            tp: tp(),
            range: OffsetRange {
                from: self.0 - 1,
                to: self.0,
            },
        })))
    }
    fn seek(&mut self, positions: &[Position]) -> Result<()> {
        self.0 = positions[0].next;
        Ok(())
    }
    fn assign(&mut self, _: &[Position]) -> Result<()> {
        Ok(())
    }
    fn pause(&mut self, _: bool) -> Result<()> {
        Ok(())
    }
    fn caught_up(&self) -> bool {
        self.0 >= END
    }
    fn has_more(&self, _: &SplitId) -> bool {
        !self.caught_up()
    }
    fn lag(&self) -> Option<u64> {
        None
    }
}

/// Delivers each record as a row or a dead letter, by its offset.
#[derive(Debug)]
struct Delivering {
    to: Connection,
    base: Base,
    rows: Vec<Row>,
}

impl Sink for Delivering {
    fn write(&mut self, batch: &Batch, _: Applied) -> Result<()> {
        let offset = batch.covers.range.from;
        self.rows.push((offset.to_string(), split(), offset));
        Ok(())
    }
    fn should_roll(&self) -> bool {
        self.rows.len() >= ROLL
    }
    fn seal(&mut self) -> Result<Option<Sealed>> {
        let rows = std::mem::take(&mut self.rows);
        let (Some((_, _, first)), Some((_, _, last))) = (rows.first(), rows.last()) else {
            return Ok(None);
        };
        let spans = vec![span((split(), (0, *first, *last + 1)))];
        Ok(Some(Sealed {
            base: self.base.get(),
            files: Vec::new(),
            deliveries: self.to.deliveries(new_file_id, rows),
            spans,
            counters: Vec::new(),
            notes: Default::default(),
        }))
    }
    fn discard(&mut self) {
        self.rows.clear();
    }
    fn gathered(&self) -> Gathered {
        Gathered::default()
    }
    fn memory(&self) -> usize {
        0
    }
}

fn split() -> SplitId {
    SplitId::kafka("c", "t", 0)
}

fn tp() -> TopicPartition {
    TopicPartition {
        topic: "t".into(),
        partition: 0,
    }
}

fn name() -> LogName {
    LogName::new("deliver", "z")
}

fn open(store: &Arc<dyn Store>, clock: &Arc<dyn Clock>) -> Log {
    let writer = Writer {
        id: "me".into(),
        started: 0,
    };
    let log = Log::open_or_init(store.clone(), name(), clock.clone(), writer, vec![]);
    let mut log = log.unwrap().with_limits(Limits {
        tries: 2,
        pace: Duration::from_millis(1),
        ..Limits::default()
    });
    if position(log.state(), &split()).is_none() {
        let open = Open {
            split: split(),
            topic: "t".into(),
            partition: 0,
            offset: 0,
            start: "earliest".into(),
        };
        log.commit(Draft::Open(vec![open])).unwrap();
    }
    log
}

/// Runs a pipeline through what is there, put together as in `stream`. `stop`: it is asked to stop after the first
/// entry, with this time to drain.
fn run(store: &Arc<dyn Store>, to: &Connection, stop: Option<Duration>) -> Log {
    let clock = SystemClock::shared();
    let mut log = open(store, &clock);
    let recovered =
        (0..100).any(|_| at_log::recover(&mut log, to, |log, draft| log.commit(draft)).is_ok());
    assert!(recovered);
    let stopping = Stop::new(clock.clone());
    let (to_committer, hand_ins) = unbounded();
    let (to_task, messages) = unbounded();
    let (base, backoff) = (Base::default(), Backoff::new(MS, MS));
    base.set(log.version());
    let task = Task {
        options: TaskOptions {
            index: 0,
            available_now: true,
            gaps: false,
            refuse_none: false,
            memory: usize::MAX,
            backoff,
        },
        source: Box::new(Counted(position(log.state(), &split()).unwrap().next)),
        chain: TransformChain::new(vec![], Unit::Row).unwrap(),
        sink: Box::new(Delivering {
            to: to.clone(),
            base: base.clone(),
            rows: Vec::new(),
        }),
        committer: to_committer,
        messages,
        stop: stopping.clone(),
        report: Arc::new(Silent),
        clock: clock.clone(),
        portion: Default::default(),
        hold: Hold::new(unbounded().0, backoff),
        measured: Default::default(),
    };
    let stands = (log.store().clone(), log.name().clone());
    let archiver = Archiver::new(stands, None, (&stopping, clock.clone(), backoff));
    let committer = Committer {
        generation: log.state().generation(),
        log,
        base,
        hand_ins,
        tasks: vec![to_task],
        owned: vec![vec![split()]],
        found: unbounded().1,
        swaps: unbounded().1,
        receiver: Box::new(to.clone()),
        acknowledge: Box::new(Nobody),
        report: Arc::new(Silent),
        clock,
        stop: stopping.clone(),
        backoff,
        asking: Default::default(),
        archiver,
        letters_left: None,
    };
    let task = std::thread::spawn(move || task.run());
    let committer = std::thread::spawn(move || committer.run());
    if let Some(grace) = stop {
        while entries(store).iter().all(|entry| entry.deliver.is_empty()) {
            std::thread::yield_now();
        }
        stopping.ask(grace);
    }
    task.join().unwrap().unwrap();
    committer.join().unwrap().unwrap()
}

const MS: Duration = Duration::from_millis(1);

fn entries(store: &Arc<dyn Store>) -> Vec<Entry> {
    let bytes = (0..).map_while(|version| store.get(&name().entry(version)).unwrap());
    bytes.map(|bytes| decode(&bytes, "").unwrap()).collect()
}

/// What readers of the receiver see, sorted: rows that were held back, and dead letters.
fn shown(to: &Connection) -> (Vec<i64>, Vec<i64>) {
    let received = to.received();
    let of = |held: bool| {
        let shown = received.shown.values().filter(|(was, _)| *was == held);
        let mut all: Vec<i64> = shown
            .flat_map(|(_, rows)| rows.iter().map(|row| row.parse().unwrap()))
            .collect();
        all.sort_unstable();
        all
    };
    (of(true), of(false))
}

/// What holds rows back needs none.
#[derive(Debug)]
struct Unfenced;

impl Fence for Unfenced {
    fn holds(&self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn rows_with_a_token_arrive_once_and_dead_letters_without_at_least_once() {
    let (refused, written): (Vec<i64>, Vec<i64>) = (0..END).partition(|at| is_letter(*at));
    let mut twice = 0;
    for seed in 0..8 {
        let store = store::open_url(&format!("memory:deliver-once-{seed}")).unwrap();
        let calm = Arc::<Mutex<bool>>::default();
        let trouble = Trouble {
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            calm: calm.clone(),
        };
        let to = Connection {
            trouble: Some(Arc::new(trouble)),
            ..Connection::default()
        };
        let log = run(&store, &to, None);
        assert_eq!(position(log.state(), &split()).unwrap().next, END);
        // It starts again, and nothing fails any more.
        *calm.lock().unwrap() = true;
        drop(run(&store, &to, None));
        let (rows, letters) = shown(&to);
        assert_eq!(rows, written, "each row once");
        assert!(refused.iter().all(|at| letters.contains(at)));
        assert!(
            to.received().held.is_empty(),
            "what no entry names is given up"
        );
        let delivered: usize = entries(&store).iter().map(|e| e.deliver.len()).sum();
        assert_eq!(log.state().delivered.len(), delivered);
        twice += letters.len() - refused.len();
    }
    assert!(twice > 0, "some answers were lost");
}

#[test]
fn a_receiver_that_is_away_at_the_stop_shows_what_is_committed_after_the_next_start() {
    let store = store::open_url("memory:deliver-away").unwrap();
    let to = Connection::default();
    to.received().finishes = false;
    let log = run(&store, &to, Some(Duration::from_millis(300)));
    let committed = position(log.state(), &split()).unwrap().next;
    assert!(committed > 0, "one entry at least");
    assert_eq!(
        shown(&to).0,
        [0_i64; 0],
        "nothing before the receiver says so"
    );
    to.received().finishes = true;
    let mut log = open(&store, &SystemClock::shared());
    at_log::recover(&mut log, &to, |log, draft| log.commit(draft)).unwrap();
    let written: Vec<i64> = (0..committed).filter(|at| !is_letter(*at)).collect();
    assert_eq!(shown(&to).0, written);
}

#[test]
fn what_no_entry_names_is_collected_before_it_is_given_up_and_its_writer_loses_it() {
    let store = store::open_url("memory:deliver-orphan").unwrap();
    let clock = SystemClock::shared();
    let to = Connection::default();
    let mut mine = open(&store, &clock);
    let rows = (0..3).map(|at| (at.to_string(), split(), at)).collect();
    let mut deliveries = to.deliveries(new_file_id, rows);
    let delivery = deliveries
        .remove(0)
        .prepare(&Unfenced)
        .unwrap()
        .deliveries
        .remove(0);
    let receipt = PreparedCommit {
        base: mine.version(),
        generation: mine.state().generation(),
        spans: vec![span((split(), (0, 0, 3)))],
        files: Vec::new(),
        deliveries: vec![delivery.clone()],
        counters: Default::default(),
    };
    // Another process starts before it is committed.
    let mut theirs = open(&store, &clock);
    at_log::recover(&mut theirs, &to, |log, draft| log.commit(draft)).unwrap();
    assert!(to.received().held.is_empty());
    assert_eq!(entries(&store).last().unwrap().gc, [delivery.id]);
    let draft = Draft::Data {
        receipts: vec![receipt],
        swap: None,
    };
    match mine.commit(draft).unwrap() {
        Outcome::Lost { dropped } => assert_eq!(dropped[0].reason.rule, "V4"),
        committed => panic!("{committed:?}"),
    }
}

#[test]
fn a_dropped_receipt_gives_its_deliveries_up_with_the_next_entry() {
    let store = store::open_url("memory:deliver-dropped").unwrap();
    let clock = SystemClock::shared();
    let to = Connection::default();
    let mut mine = open(&store, &clock);
    let rows = |from: i64| {
        (from..from + 2)
            .map(|at| (at.to_string(), split(), at))
            .collect()
    };
    let receipt = |log: &Log, from: i64| {
        let mut deliveries = to.deliveries(new_file_id, rows(from));
        PreparedCommit {
            base: log.version(),
            generation: log.state().generation(),
            spans: vec![span((split(), (0, from, from + 2)))],
            files: Vec::new(),
            deliveries: deliveries.remove(0).prepare(&Unfenced).unwrap().deliveries,
            counters: Default::default(),
        }
    };
    let data = |receipt| Draft::Data {
        receipts: vec![receipt],
        swap: None,
    };
    // Another process has those offsets already.
    let late = receipt(&mine, 0);
    let mut theirs = open(&store, &clock);
    let first = receipt(&theirs, 0);
    theirs.commit(data(first)).unwrap();
    let lost = mine.commit(data(late.clone())).unwrap();
    assert!(matches!(lost, Outcome::Lost { .. }));
    let next = receipt(&mine, 2);
    let settled = at_log::perform(&mut mine, &to, &Held::default(), Next::Commit(data(next)));
    let Event::Settled(Ok(Outcome::Committed { committed, .. })) = settled else {
        panic!("{settled:?}");
    };
    assert_eq!(committed.entry.gc, [late.deliveries[0].id.clone()]);
    at_log::perform(&mut mine, &to, &Held::default(), Next::Publish(committed));
    let received = to.received();
    assert!(received.held.is_empty(), "{:?}", received.held);
    assert!(!received.shown.contains_key(&late.deliveries[0].id));
    assert_eq!(
        received.shown.len(),
        2,
        "with that of the other process, which may have died before it could finish it"
    );
}

/// P1: who wrote an entry died before it finished its delivery, while this process runs on.
#[test]
fn what_another_process_committed_and_did_not_finish_is_finished_by_who_runs_on() {
    let store = store::open_url("memory:deliver-others").unwrap();
    let clock = SystemClock::shared();
    let to = Connection::default();
    let mut mine = open(&store, &clock);
    let mut theirs = open(&store, &clock);
    let mut commit = |from: i64| {
        let rows = (from..from + 2).map(|at| (at.to_string(), split(), at));
        let deliveries = to.deliveries(new_file_id, rows.collect()).into_iter();
        let prepared = deliveries.map(|one| one.prepare(&Unfenced).unwrap().deliveries);
        let receipt = PreparedCommit {
            base: theirs.version(),
            generation: theirs.state().generation(),
            spans: vec![span((split(), (0, from, from + 2)))],
            files: Vec::new(),
            deliveries: prepared.flatten().collect(),
            counters: Default::default(),
        };
        let draft = Draft::Data {
            receipts: vec![receipt],
            swap: None,
        };
        theirs.commit(draft).unwrap();
    };
    commit(0);
    assert_eq!(shown(&to).0, [0_i64; 0]);
    let looked = at_log::perform(&mut mine, &to, &Held::default(), Next::Look);
    assert!(matches!(looked, Event::Looked(Ok(()))), "{looked:?}");
    assert_eq!(shown(&to).0, [0, 1]);
    // The receiver is away at first: the next look finishes it.
    commit(2);
    to.received().finishes = false;
    let looked = at_log::perform(&mut mine, &to, &Held::default(), Next::Look);
    assert!(matches!(looked, Event::Looked(Err(_))), "{looked:?}");
    to.received().finishes = true;
    at_log::perform(&mut mine, &to, &Held::default(), Next::Look);
    assert_eq!(shown(&to).0, [0, 1, 2, 3]);
    assert!(to.received().held.is_empty());
    // V13: nor is it forgotten before it is finished.
    commit(4);
    mine.refresh().unwrap();
    let version = mine.version();
    assert!(!to.received().held.is_empty());
    to.received().finishes = false;
    let forgot = at_log::perform(&mut mine, &to, &Held::default(), Next::Forget(version));
    assert!(matches!(forgot, Event::Settled(Err(_))), "{forgot:?}");
    assert_eq!(mine.state().horizon, 0);
    to.received().finishes = true;
    let forgot = at_log::perform(&mut mine, &to, &Held::default(), Next::Forget(version));
    assert!(matches!(forgot, Event::Settled(Ok(_))), "{forgot:?}");
    assert_eq!(mine.state().horizon, version);
    assert!(to.received().held.is_empty());
}

/// A delivery that cannot be prepared.
#[derive(Debug)]
struct Away;

impl Deliver for Away {
    fn prepare(self: Box<Self>, _: &dyn Fence) -> Result<Prepared> {
        Err(Error::new(Kind::SinkUnavailable, "test", "away"))
    }
    fn abandon(self: Box<Self>) {}
}

#[test]
fn what_was_prepared_beside_a_delivery_that_failed_is_given_up_with_the_next_entry() {
    let store = store::open_url("memory:deliver-beside").unwrap();
    let to = Connection::default();
    let mut log = open(&store, &SystemClock::shared());
    let hand_in = |log: &Log, fails: bool| {
        let rows = (0..2).map(|at| (at.to_string(), split(), at));
        let mut deliveries = to.deliveries(new_file_id, rows.collect());
        if fails {
            deliveries.push(Box::new(Away));
        }
        HandIn {
            task: 0,
            number: 1,
            swap_seq: 0,
            sealed: Sealed {
                base: log.version(),
                files: Vec::new(),
                deliveries,
                spans: vec![span((split(), (0, 0, 2)))],
                counters: Vec::new(),
                notes: Default::default(),
            },
        }
    };
    let finish = |log: &mut Log, fails: bool| {
        let next = Next::Finish {
            hand_ins: vec![hand_in(log, fails)],
            generation: log.state().generation(),
        };
        let Event::Finished(mut finished) = at_log::perform(log, &to, &Held::default(), next)
        else {
            panic!("finished");
        };
        finished.remove(0).receipt
    };
    finish(&mut log, true).unwrap_err();
    assert_eq!(to.received().held.len(), 1);
    let receipts = vec![finish(&mut log, false).unwrap()];
    let draft = Draft::Data {
        receipts,
        swap: None,
    };
    let Event::Settled(Ok(Outcome::Committed { committed, .. })) =
        at_log::perform(&mut log, &to, &Held::default(), Next::Commit(draft))
    else {
        panic!("committed");
    };
    at_log::perform(&mut log, &to, &Held::default(), Next::Publish(committed));
    assert!(to.received().held.is_empty(), "{:?}", to.received().held);
    assert_eq!(shown(&to).0, [0, 1]);
}
