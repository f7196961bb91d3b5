//! A task between a source, a sink and a committer that the test plays.

use crossbeam_channel::unbounded;

use super::*;
use crate::chain::Applied;
use crate::clock::SystemClock;
use crate::commit::{Committed, State};
use crate::config::PipelineConfig;
use crate::config::Unit;
use crate::pipeline::Ending;
use crate::record::{Batch, BatchBuilder, Covers, OffsetRange, SplitId, TopicPartition};
use crate::sink::guarded::Guarded;
use crate::sink::{Gathered, Sealed};
use crate::source::Position;

const PATIENCE: Duration = Duration::from_secs(20);

/// Gives one record after the other; reports when it is paused.
#[derive(Debug)]
struct Endless {
    next: i64,
    paused: Sender<bool>,
    has_more: bool,
}

impl Source for Endless {
    fn next(&mut self, _: Duration) -> Result<Option<Batch>> {
        let mut builder = BatchBuilder::new();
        builder.push(self.next, None, None, Some(b"x"), std::iter::empty());
        let range = OffsetRange {
            from: self.next,
            to: self.next + 1,
        };
        self.next += 1;
        let tp = TopicPartition {
            topic: "t".into(),
            partition: 0,
        };
        Ok(Some(builder.finish(Covers {
            split: SplitId::kafka("c", "t", 0),
            epoch: 0,
            tp,
            range,
        })))
    }
    fn seek(&mut self, _: &[Position]) -> Result<()> {
        Ok(())
    }
    fn assign(&mut self, _: &[Position]) -> Result<()> {
        Ok(())
    }
    fn pause(&mut self, paused: bool) -> Result<()> {
        self.paused.send(paused).unwrap();
        Ok(())
    }
    fn caught_up(&self) -> bool {
        false
    }
    fn has_more(&self, _: &SplitId) -> bool {
        self.has_more
    }
    fn lag(&self) -> Option<u64> {
        None
    }
}

/// Holds a hundred bytes for each batch since the last seal.
#[derive(Debug, Default)]
struct Hoard(usize);

impl Sink for Hoard {
    fn write(&mut self, _: &Batch, _: Applied) -> Result<()> {
        self.0 += 100;
        Ok(())
    }
    fn should_roll(&self) -> bool {
        false
    }
    fn seal(&mut self) -> Result<Option<Sealed>> {
        let sealed = Sealed {
            base: 0,
            files: vec![],
            deliveries: vec![],
            spans: vec![],
            counters: vec![],
            notes: Default::default(),
        };
        Ok((std::mem::take(&mut self.0) > 0).then_some(sealed))
    }
    fn discard(&mut self) {
        self.0 = 0;
    }
    fn gathered(&self) -> Gathered {
        Gathered::default()
    }
    fn memory(&self) -> usize {
        self.0
    }
}

#[derive(Debug)]
pub(in crate::pipeline) struct Silent;

impl Report for Silent {
    fn started(&self, _: &PipelineConfig, _: &State) {}
    fn committed(&self, _: &Committed, _: &State, _: Duration) {}
    fn swapped(&self, _: &Committed) {}
    fn lag(&self, _: usize, _: Option<u64>) {}
    fn stages(&self, _: usize, _: Stages) {}
    fn waiting(&self, _: &Error) {}
    fn resumed(&self) {}
    fn ended(&self, _: &Ending<'_>) {}
}

fn options() -> TaskOptions {
    TaskOptions {
        index: 0,
        available_now: false,
        gaps: false,
        refuse_none: false,
        memory: 250,
        backoff: Backoff::new(Duration::from_millis(1), Duration::from_millis(1)),
    }
}

/// Waits for more of one split; tells how much time does not count.
#[derive(Debug)]
struct Awaiting(Sender<Duration>);

impl Sink for Awaiting {
    fn write(&mut self, _: &Batch, _: Applied) -> Result<()> {
        Ok(())
    }
    fn should_roll(&self) -> bool {
        false
    }
    fn seal(&mut self) -> Result<Option<Sealed>> {
        Ok(None)
    }
    fn awaited(&self) -> Vec<SplitId> {
        vec![SplitId::kafka("c", "t", 0)]
    }
    fn put_off(&mut self, _: &SplitId, passed: Duration) {
        self.0.send(passed).unwrap();
    }
    fn discard(&mut self) {}
    fn gathered(&self) -> Gathered {
        Gathered::default()
    }
    fn memory(&self) -> usize {
        0
    }
}

/// D2: the wait for the rest of a batch counts only while the source is read and has nothing more of its split.
#[test]
fn a_wait_does_not_count_while_the_source_has_more_or_is_not_read() {
    let second = Duration::from_secs(1);
    for (was_read, has_more, counts) in [
        (true, false, true),
        (true, true, false),
        (false, false, false),
        (false, true, false),
    ] {
        let (put_off, told) = unbounded();
        let (paused, _pauses) = unbounded();
        let (committer, _asks) = unbounded();
        let (_answer, messages) = unbounded();
        let clock = SystemClock::shared();
        let source = Endless {
            next: 0,
            paused,
            has_more,
        };
        let mut task = Task {
            options: options(),
            source: Box::new(source),
            chain: TransformChain::new(vec![], Unit::Row).unwrap(),
            sink: Box::new(Guarded::new(Box::new(Awaiting(put_off)))),
            committer,
            messages,
            stop: Stop::new(clock.clone()),
            report: Arc::new(Silent),
            clock,
            portion: Default::default(),
            hold: Hold::new(unbounded().0, options().backoff),
            measured: Measured::default(),
        };
        task.put_off(second, was_read);
        let told: Vec<Duration> = told.try_iter().collect();
        let expected = if counts { vec![] } else { vec![second] };
        assert_eq!(told, expected, "{was_read} {has_more}");
    }
}

#[test]
fn with_memory_full_and_a_commit_in_flight_the_source_is_paused_until_the_answer() {
    let clock = SystemClock::shared();
    let stop = Stop::new(clock.clone());
    let (committer, asks) = unbounded();
    let (answer, messages) = unbounded();
    let (paused, pauses) = unbounded();
    let source = Endless {
        next: 0,
        paused,
        has_more: false,
    };
    let task = Task {
        options: options(),
        source: Box::new(source),
        chain: TransformChain::new(vec![], Unit::Row).unwrap(),
        sink: Box::<Hoard>::default(),
        committer,
        messages,
        stop: stop.clone(),
        report: Arc::new(Silent),
        clock,
        portion: Default::default(),
        hold: Hold::new(unbounded().0, options().backoff),
        measured: Measured::default(),
    };
    let running = std::thread::spawn(move || task.run());
    assert!(matches!(
        asks.recv_timeout(PATIENCE),
        Ok(ToCommitter::Commit(_))
    ));
    // It read on into the next file until that is full too.
    assert_eq!(pauses.recv_timeout(PATIENCE), Ok(true));
    assert!(pauses.is_empty() && asks.is_empty(), "it waits");
    answer.send(ToTask::Committed { up_to: 1 }).unwrap();
    assert_eq!(pauses.recv_timeout(PATIENCE), Ok(false));
    assert!(matches!(
        asks.recv_timeout(PATIENCE),
        Ok(ToCommitter::Commit(_))
    ));
    stop.ask(PATIENCE);
    for _ in 0..4 {
        drop(answer.send(ToTask::Committed { up_to: u64::MAX }));
    }
    running.join().unwrap().unwrap();
}

/// The end was seen before the source went back.
#[test]
fn a_task_whose_last_hand_in_is_dropped_reads_on() {
    let mut machine = Machine::new(0, Backoff::new(Duration::ZERO, Duration::ZERO));
    let mut step = |event, seen| machine.step(event, &seen).next;
    let (reads, ends) = (
        Seen::default(),
        Seen {
            at_end: true,
            ..Seen::default()
        },
    );
    assert!(matches!(step(Event::Begun, reads), Next::Read));
    assert!(matches!(
        step(Event::Written { records: 5 }, ends),
        Next::Seal
    ));
    let sealed = Hoard(1).seal();
    assert!(matches!(step(Event::Sealed(sealed), ends), Next::Listen(_)));
    let dropped = ToTask::Dropped {
        up_to: 1,
        positions: Vec::new(),
        why: "another process came first".into(),
    };
    assert!(matches!(step(Event::Heard(dropped), ends), Next::Read));
    assert!(matches!(
        step(Event::Written { records: 5 }, ends),
        Next::Seal
    ));
    assert!(matches!(
        step(Event::Sealed(Hoard(1).seal()), ends),
        Next::Listen(_)
    ));
    let committed = ToTask::Committed { up_to: 2 };
    assert!(matches!(
        step(Event::Heard(committed), ends),
        Next::End(None)
    ));
}

/// A fault while the source is paused: it is let go on before the next read, and if that fails, the task waits before it tries
/// again.
#[test]
fn a_source_that_cannot_be_let_go_on_is_tried_again_after_a_wait() {
    let pace = Duration::from_millis(100);
    let mut machine = Machine::new(0, Backoff::new(pace, pace));
    let full = Seen {
        memory_full: true,
        ..Seen::default()
    };
    let away = || Error::new(Kind::SourceUnavailable, "test", "away");
    let pauses = |step: &Step| -> Vec<bool> {
        let pause = |effect: &Effect| match effect {
            Effect::PauseSource(paused) => Some(*paused),
            _ => None,
        };
        step.effects.iter().filter_map(pause).collect()
    };
    machine.step(Event::Begun, &Seen::default());
    machine.step(Event::Written { records: 5 }, &full);
    let step = machine.step(Event::Sealed(Hoard(1).seal()), &full);
    assert_eq!(pauses(&step), [true]);
    let dropped = ToTask::Dropped {
        up_to: 1,
        positions: Vec::new(),
        why: "another process came first".into(),
    };
    machine.step(Event::Heard(dropped), &full);
    // The seek failed.
    for round in 1..4 {
        let at = |rounds: u32, rest: u32| Seen {
            now: 2 * pace * rounds + pace * rest,
            ..Seen::default()
        };
        let step = machine.step(Event::Failed(away()), &at(round, 0));
        assert!(pauses(&step).is_empty(), "not while it waits");
        assert!(matches!(step.next, Next::Listen(_)), "{:?}", step.next);
        let step = machine.step(Event::Quiet, &at(round, 1));
        assert!(matches!(step.next, Next::Listen(_)), "asks for positions");
        let positions = ToTask::Positions(Vec::new());
        let step = machine.step(Event::Heard(positions), &at(round, 1));
        assert_eq!(pauses(&step), [false], "round {round}");
        assert!(matches!(step.next, Next::Read));
    }
}
