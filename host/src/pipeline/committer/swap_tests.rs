//! A committer between a log and tasks that the test plays: how a swap treats what they hand in, and when.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, bounded, unbounded};

use super::*;
use crate::chain::{Records, TransformChain};
use crate::clock::{Clock, ManualClock};
use crate::commit::{
    Committed, Draft, Entry, Log, LogName, Open, Outcome, Span, Swap, Writer, decode,
};
use crate::config::PipelineConfig;
use crate::config::Unit;
use crate::pipeline::messages::{Change, HandIn};
use crate::pipeline::{Ending, Report, Stages, Stop};
use crate::record::SplitId;
use crate::sink::{Base, NoTokens, Sealed};
use crate::source::Nobody;
use crate::store::{self, Fault, FaultStore, Faults, Op, Store, Verb};

const PATIENCE: Duration = Duration::from_secs(60);

fn rules(version: &str) -> Vec<Rule> {
    vec![Rule {
        transform: "t".into(),
        plugin: "p".into(),
        version: version.into(),
        component: format!("sha256:{version}"),
        config: "sha256:c".into(),
    }]
}

fn split(task: usize) -> SplitId {
    SplitId::kafka("c", "t", i32::try_from(task).unwrap())
}

/// All records filtered: no files are needed.
fn sealed(task: usize, from: i64, to: i64) -> Sealed {
    let read = u64::try_from(to - from).unwrap();
    Sealed {
        base: 0,
        files: vec![],
        deliveries: vec![],
        spans: vec![Span {
            split: split(task),
            epoch: 0,
            from,
            to,
            lost: 0,
            records: Records {
                read,
                filtered: read,
                ..Records::default()
            },
            rows: Default::default(),
            dead_letters: 0,
        }],
        counters: vec![("t".into(), "seen".into(), read)],
        notes: Default::default(),
    }
}

/// While it is on, Creates in the log fail.
#[derive(Debug, Default)]
struct Outage(AtomicBool);

impl Faults for Outage {
    fn decide(&self, op: &Op) -> Fault {
        let hit = op.verb == Verb::Create && op.path.contains("/log/");
        match hit && self.0.load(Ordering::SeqCst) {
            true => Fault::FailBefore,
            false => Fault::None,
        }
    }
}

#[derive(Debug, Default)]
struct Heard {
    waiting: AtomicBool,
}

impl Report for Heard {
    fn started(&self, _: &PipelineConfig, _: &State) {}
    fn committed(&self, _: &Committed, _: &State, _: Duration) {}
    fn swapped(&self, _: &Committed) {}
    fn lag(&self, _: usize, _: Option<u64>) {}
    fn stages(&self, _: usize, _: Stages) {}
    fn waiting(&self, _: &Error) {
        self.waiting.store(true, Ordering::SeqCst);
    }
    fn resumed(&self) {}
    fn ended(&self, _: &Ending<'_>) {}
}

/// Two tasks' side of the channels.
struct Stage {
    committer: Sender<ToCommitter>,
    answers: Vec<Receiver<ToTask>>,
    /// How much each task has handed in.
    handed_in: [Cell<u64>; 2],
    swap: Sender<Prepared>,
    store: Arc<dyn Store>,
    outage: Arc<Outage>,
    clock: Arc<ManualClock>,
    heard: Arc<Heard>,
    running: JoinHandle<Result<Log>>,
}

const NAME: (&str, &str) = ("p", "z");

fn open(store: Arc<dyn Store>, clock: Arc<dyn Clock>, who: &str) -> Log {
    let writer = Writer {
        id: who.into(),
        started: 0,
    };
    Log::open_or_init(
        store,
        LogName::new(NAME.0, NAME.1),
        clock,
        writer,
        rules("0"),
    )
    .unwrap()
}

impl Stage {
    /// Another process puts rules `2` in force.
    fn overtaken(&self) {
        let mut other = open(self.store.clone(), self.clock.clone(), "other");
        let theirs = Swap {
            replaces: 0,
            transforms: rules("2"),
            actor: "other".into(),
            reason: String::new(),
            block: vec![],
            force: false,
            declared: None,
        };
        let won = other.commit(Draft::Swap(theirs)).unwrap();
        assert!(matches!(won, Outcome::Committed { .. }));
    }

    fn set(name: &str) -> Stage {
        let store = store::open_url(&format!("memory:swap-{name}")).unwrap();
        let outage = Arc::<Outage>::default();
        let failing = FaultStore::new(store.clone(), outage.clone());
        let clock = ManualClock::at(1_700_000_000_000_000);
        let mut log = open(failing, clock.clone(), "me");
        let opens = [0, 1].map(|n| Open {
            split: split(n),
            topic: "t".into(),
            partition: i32::try_from(n).unwrap(),
            offset: 0,
            start: "earliest".into(),
        });
        log.commit(Draft::Open(opens.into())).unwrap();
        let (to_committer, hand_ins) = unbounded();
        let (swap, swaps) = unbounded();
        let (to_tasks, answers): (Vec<_>, Vec<_>) = (0..2).map(|_| unbounded()).unzip();
        let heard = Arc::<Heard>::default();
        let stop = Stop::new(clock.clone());
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        let stands = (log.store().clone(), log.name().clone());
        let archiver = Archiver::new(stands, None, (&stop, clock.clone(), backoff));
        let committer = Committer {
            generation: log.state().generation(),
            log,
            base: Base::default(),
            hand_ins,
            tasks: to_tasks,
            owned: vec![vec![split(0)], vec![split(1)]],
            found: unbounded().1,
            swaps,
            receiver: Box::new(NoTokens),
            acknowledge: Box::new(Nobody),
            report: heard.clone(),
            clock: clock.clone(),
            stop,
            backoff,
            asking: Default::default(),
            archiver,
            letters_left: None,
        };
        let running = std::thread::spawn(move || committer.run());
        Stage {
            committer: to_committer,
            answers,
            handed_in: Default::default(),
            swap,
            store,
            outage,
            clock,
            heard,
            running,
        }
    }

    fn hand_in(&self, task: usize, sealed: Sealed, swap_seq: u64) -> HandIn {
        let number = self.handed_in[task].get() + 1;
        self.handed_in[task].set(number);
        HandIn {
            task,
            number,
            swap_seq,
            sealed,
        }
    }

    fn commit(&self, task: usize, from: i64, to: i64, swap_seq: u64) {
        let hand_in = self.hand_in(task, sealed(task, from, to), swap_seq);
        self.committer.send(ToCommitter::Commit(hand_in)).unwrap();
    }

    fn flushed(&self, task: usize, sealed: Option<Sealed>) {
        self.flushed_of(task, sealed, 0);
    }

    fn flushed_of(&self, task: usize, sealed: Option<Sealed>, swap_seq: u64) {
        let flushed = ToCommitter::Flushed {
            task,
            flush: swap_seq + 1,
            hand_in: sealed.map(|sealed| self.hand_in(task, sealed, swap_seq)),
        };
        self.committer.send(flushed).unwrap();
    }

    fn prepared(&self, from: u64, version: &str) -> Receiver<Result<u64, String>> {
        let (answer, hears) = bounded(1);
        let swap = Swap {
            replaces: from,
            transforms: rules(version),
            actor: "me".into(),
            reason: String::new(),
            block: vec![],
            force: false,
            declared: None,
        };
        let chains = (0..2).map(|_| TransformChain::new(vec![], Unit::Row).unwrap());
        let rules = Box::new(NewRules {
            swap,
            own: false,
            breaking: None,
            chains: chains.collect(),
        });
        self.swap.send(Prepared { rules, answer }).unwrap();
        hears
    }

    fn hear(&self, task: usize) -> ToTask {
        self.answers[task].recv_timeout(PATIENCE).unwrap()
    }

    fn hears_swap(&self, task: usize) {
        let heard = self.hear(task);
        let changes = |heard: &ToTask| {
            matches!(
                heard,
                ToTask::Flush {
                    change: Change::Rules(_),
                    ..
                }
            )
        };
        assert!(changes(&heard), "{heard:?}");
    }

    /// Expects that everything handed in by the task so far is committed.
    fn hears_committed(&self, task: usize) {
        self.hears_committed_up_to(task, self.handed_in[task].get());
    }

    fn hears_committed_up_to(&self, task: usize, number: u64) {
        match self.hear(task) {
            ToTask::Committed { up_to } => assert_eq!(up_to, number),
            other => panic!("{other:?}"),
        }
    }

    /// Expects that everything handed in by the task so far is dropped. Returns the offset from which it reads again.
    fn hears_dropped(&self, task: usize) -> i64 {
        match self.hear(task) {
            ToTask::Dropped {
                up_to, positions, ..
            } => {
                assert_eq!(up_to, self.handed_in[task].get());
                positions[0].next
            }
            other => panic!("{other:?}"),
        }
    }

    fn entry(&self, version: u64) -> Entry {
        let path = LogName::new(NAME.0, NAME.1).entry(version);
        decode(&self.store.get(&path).unwrap().unwrap(), &path).unwrap()
    }

    /// Lets time pass until the answer is there.
    fn pass<T>(&self, answer: &Receiver<T>) -> T {
        loop {
            if let Ok(answer) = answer.recv_timeout(Duration::from_millis(5)) {
                return answer;
            }
            self.clock.advance(Duration::from_millis(500));
        }
    }

    fn end(self) -> Result<Log> {
        drop((self.committer, self.swap));
        self.running.join().unwrap()
    }
}

/// `[from, to)` of the entry's spans, by split.
fn spans(entry: &Entry) -> Vec<(i64, i64)> {
    let mut spans: Vec<_> = entry.spans.iter().collect();
    spans.sort_by_key(|span| &span.split);
    spans.iter().map(|span| (span.from, span.to)).collect()
}

#[test]
fn what_was_in_flight_and_what_was_at_hand_go_into_the_entry_of_the_swap() {
    let stage = Stage::set("join");
    stage.commit(0, 0, 2, 0);
    stage.hears_committed(0);
    // Within the pace of the log: a commit waits, a swap does not.
    stage.commit(0, 2, 5, 0);
    let answer = stage.prepared(0, "1");
    stage.hears_swap(0);
    stage.hears_swap(1);
    // Task 1 holds nothing and already works under the new rules.
    stage.flushed(1, None);
    stage.commit(1, 0, 4, 1);
    assert!(
        stage.answers[1].is_empty(),
        "not before the swap is in the log"
    );
    stage.flushed(0, Some(sealed(0, 5, 7)));
    let version = answer.recv_timeout(PATIENCE).unwrap().unwrap();
    stage.hears_committed(0);
    stage.clock.advance(Duration::from_secs(2));
    stage.hears_committed(1);
    let swap = stage.entry(version);
    assert_eq!(spans(&swap), [(2, 7)]);
    assert_eq!(swap.rules.unwrap().generation, 0);
    assert_eq!(swap.counters["t"]["seen"], 5);
    assert!(swap.swap.is_some());
    let next = stage.entry(version + 1);
    assert_eq!(
        (spans(&next), next.rules.unwrap().generation),
        (vec![(0, 4)], version)
    );
    assert!(
        stage.answers.iter().all(Receiver::is_empty),
        "one answer for both"
    );
    assert_eq!(stage.end().unwrap().state().generation(), version);
}

#[test]
fn a_task_that_seals_too_late_reads_again_under_the_new_rules() {
    let stage = Stage::set("late");
    stage.commit(1, 0, 3, 0);
    stage.hears_committed(1);
    stage.commit(1, 3, 5, 0);
    let answer = stage.prepared(0, "1");
    stage.hears_swap(0);
    stage.hears_swap(1);
    stage.flushed(0, Some(sealed(0, 0, 2)));
    let version = stage.pass(&answer).unwrap();
    stage.hears_committed(0);
    // What it had handed in is in the entry.
    assert_eq!(spans(&stage.entry(version)), [(0, 2), (3, 5)]);
    stage.hears_committed(1);
    stage.flushed(1, Some(sealed(1, 5, 9)));
    assert_eq!(stage.hears_dropped(1), 5);
    assert!(stage.answers[1].is_empty(), "one answer");
    stage.clock.advance(Duration::from_secs(2));
    stage.commit(1, 5, 9, 1);
    stage.hears_committed(1);
    assert!(stage.end().is_ok());
}

/// What it made under the first rules must not be committed as made under the second.
#[test]
fn a_task_that_is_late_for_two_swaps_mixes_nothing() {
    for handed_in_before in [true, false] {
        let stage = Stage::set(&format!("late-twice-{handed_in_before}"));
        let first = stage.prepared(0, "1");
        stage.hears_swap(0);
        stage.hears_swap(1);
        stage.flushed(0, None);
        let version = stage.pass(&first).unwrap();
        let second = stage.prepared(version, "2");
        stage.hears_swap(0);
        stage.hears_swap(1);
        if handed_in_before {
            stage.commit(1, 0, 4, 0);
            stage.flushed_of(1, None, 0);
        } else {
            stage.flushed_of(1, Some(sealed(1, 0, 4)), 0);
        }
        assert_eq!(stage.hears_dropped(1), 0);
        stage.flushed_of(1, None, 1);
        stage.flushed_of(0, Some(sealed(0, 0, 3)), 1);
        let version = second.recv_timeout(PATIENCE).unwrap().unwrap();
        stage.hears_committed(0);
        assert!(stage.answers[1].is_empty(), "one answer");
        assert_eq!(spans(&stage.entry(version)), [(0, 3)]);
        assert_eq!(stage.entry(version).rules.unwrap().generation, version - 1);
        stage.clock.advance(Duration::from_secs(2));
        stage.commit(1, 0, 6, 2);
        stage.hears_committed(1);
        assert!(stage.end().is_ok());
    }
}

#[test]
fn a_swap_that_another_process_overtakes_begins_the_pipeline_again() {
    let stage = Stage::set("lost");
    // The committer has not seen it yet: time stands still, so it does not look.
    stage.overtaken();
    let answer = stage.prepared(0, "1");
    stage.hears_swap(0);
    stage.hears_swap(1);
    stage.flushed(0, Some(sealed(0, 0, 2)));
    stage.flushed(1, None);
    let why = answer.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert!(why.contains("V12"), "{why}");
    assert_eq!(stage.hears_dropped(0), 0);
    let ended = stage.end().unwrap_err();
    assert_eq!(ended.kind(), Kind::Conflict);
}

#[test]
fn an_idle_committer_sees_the_swap_of_another_process() {
    let stage = Stage::set("idle");
    stage.overtaken();
    stage.clock.advance(Duration::from_secs(1));
    let ended = stage.running.join().unwrap().unwrap_err();
    assert_eq!(ended.kind(), Kind::Conflict);
}

#[test]
fn what_the_log_would_refuse_disturbs_no_task() {
    let stage = Stage::set("refused");
    let answer = stage.prepared(7, "1");
    let why = answer.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert!(why.contains("V12"), "{why}");
    assert!(stage.answers.iter().all(Receiver::is_empty));
    stage.commit(0, 0, 2, 0);
    stage.hears_committed(0);
    assert!(stage.end().is_ok());
}

#[test]
fn while_the_store_fails_a_swap_waits_and_says_so() {
    let stage = Stage::set("outage");
    stage.outage.0.store(true, Ordering::SeqCst);
    let answer = stage.prepared(0, "1");
    stage.hears_swap(0);
    stage.hears_swap(1);
    stage.flushed(0, Some(sealed(0, 0, 2)));
    stage.flushed(1, None);
    while !stage.heard.waiting.load(Ordering::SeqCst) {
        assert!(answer.recv_timeout(Duration::from_millis(5)).is_err());
        stage.clock.advance(Duration::from_millis(100));
    }
    // Meanwhile the tasks go on under the new rules.
    stage.commit(0, 2, 4, 1);
    assert!(answer.is_empty());
    stage.outage.0.store(false, Ordering::SeqCst);
    let version = stage.pass(&answer).unwrap();
    stage.hears_committed_up_to(0, 1);
    stage.clock.advance(Duration::from_secs(2));
    stage.hears_committed(0);
    assert_eq!(spans(&stage.entry(version)), [(0, 2)]);
    assert_eq!(stage.entry(version + 1).rules.unwrap().generation, version);
    assert!(stage.end().is_ok());
}
