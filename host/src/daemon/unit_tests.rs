//! One unit: failures, panics, backoff, number of attempts, orders that come while something runs. Time is manual.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;
use crate::backoff::Backoff;
use crate::clock::{ManualClock, SystemClock};
use crate::config;
use crate::connectors::CATALOG;

type Script = Box<dyn Fn(usize, &Run) -> Result<()> + Send + Sync>;

/// What each run does, by its number.
struct Scripted {
    runs: AtomicUsize,
    script: Script,
}

impl Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}

impl Runner for Scripted {
    fn run(&self, _: &Job, run: &Run) -> Result<()> {
        let number = self.runs.fetch_add(1, Ordering::SeqCst);
        (self.script)(number, run)
    }
}

struct Rig {
    clock: Arc<ManualClock>,
    runner: Arc<Scripted>,
    unit: Unit,
}

fn job() -> Arc<Job> {
    let map = [
        ("name", "p"),
        ("source.type", "kafka"),
        ("source.topics", "t"),
        ("source.start", "earliest"),
        ("source.bootstrap.servers", "nowhere:1"),
        ("sink.type", "zone"),
        ("sink.url", "memory:unit"),
    ];
    let config = config::from_map("unit", map, &CATALOG).expect("config");
    Arc::new(Job::Pipeline(Box::new(config)))
}

fn wanted(target: Target) -> UnitTarget {
    UnitTarget {
        target,
        job: Ok(job()),
    }
}

fn rig(script: impl Fn(usize, &Run) -> Result<()> + Send + Sync + 'static) -> Rig {
    let clock = ManualClock::at(0);
    let runner = Arc::new(Scripted {
        runs: AtomicUsize::new(0),
        script: Box::new(script),
    });
    let gear = UnitContext {
        clock: clock.clone(),
        stop: Stop::new(clock.clone()),
        restart: RestartConfig {
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(3)),
            attempts: 3,
            reset: Duration::from_secs(600),
        },
        runner: runner.clone(),
    };
    let unit = Unit::start("p", gear, wanted(Target::Running), |heard| heard).expect("unit");
    Rig {
        clock,
        runner,
        unit,
    }
}

impl Rig {
    fn runs(&self) -> usize {
        self.runner.runs.load(Ordering::SeqCst)
    }

    fn until(&self, what: &str, done: impl Fn(&UnitSnapshot) -> bool) -> UnitSnapshot {
        let real = SystemClock::shared();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let seen = self.unit.seen();
            if done(&seen) {
                return seen;
            }
            assert!(Instant::now() < deadline, "in vain: {what}: {seen:?}");
            real.sleep(Duration::from_millis(2));
        }
    }

    fn failed(&self, runs: usize) -> UnitSnapshot {
        self.until("the failure", |seen| {
            seen.standing == Standing::Failed && self.runs() == runs
        })
    }

    /// Gives a thread time to do something although it should do nothing.
    fn idle(&self) {
        SystemClock::shared().sleep(LOOK_EVERY * 3);
    }
}

fn broken() -> Error {
    Error::new(Kind::SourceLost, "kafka.poll", "offsets are gone")
        .with("partition", "t/0")
        .source(std::io::Error::other("the disk said no"))
        .hint("take others")
}

#[test]
fn a_failure_is_shown_whole_and_tried_again_until_the_budget_is_spent() {
    let rig = rig(|_, _| Err(broken()));
    let seen = rig.failed(1);
    let trace = seen.trace.expect("trace");
    for line in [
        "source_lost: offsets are gone",
        "partition=t/0",
        "during kafka.poll",
        "caused by: the disk said no",
        "hint: take others",
        "attempt 1 of 3",
    ] {
        assert!(trace.contains(line), "{line} in {trace}");
    }
    for (number, wait) in [(2, 1000), (3, 2000), (4, 3000)] {
        rig.clock.advance(Duration::from_millis(wait - 1));
        rig.idle();
        assert_eq!(rig.runs(), number - 1, "too early");
        rig.clock.advance(Duration::from_millis(1));
        rig.failed(number);
    }
    rig.clock.advance(Duration::from_secs(86_400));
    rig.idle();
    assert_eq!(rig.runs(), 4, "the budget is spent");
    let seen = rig.unit.seen();
    assert!(seen.trace.expect("trace").contains("stays so"));
    assert_eq!((seen.failures, seen.restarts), (4, 3));
    // The way back, with the whole budget.
    rig.unit.restart();
    let seen = rig.failed(5);
    assert!(seen.trace.expect("trace").contains("attempt 1 of 3"));
}

#[test]
fn a_panic_is_a_failure_like_another() {
    let rig = rig(|number, run| match number {
        0 => panic!("at the disco"),
        _ => {
            run.report.tasks(2);
            while !run.stop.wait(Duration::from_millis(10)) {}
            Ok(())
        }
    });
    let trace = rig.failed(1).trace.expect("trace");
    assert!(trace.contains("panicked: at the disco"), "{trace}");
    rig.clock.advance(Duration::from_secs(1));
    let seen = rig.until("two tasks", |seen| seen.tasks == 2);
    assert_eq!(seen.standing, Standing::Running);
    assert_eq!(seen.trace, None);
    rig.unit.quit(Duration::ZERO);
    rig.until("the end", |_| rig.unit.has_ended());
}

#[test]
fn who_ran_long_enough_has_all_attempts_again() {
    let clock: Arc<Mutex<Option<Arc<ManualClock>>>> = Arc::default();
    let held = clock.clone();
    let rig = rig(move |number, _| {
        if number == 3 {
            // Ten minutes pass while it runs.
            let clock = held.lock().expect("clock").clone();
            clock.expect("set").advance(Duration::from_secs(600));
        }
        Err(broken())
    });
    *clock.lock().expect("clock") = Some(rig.clock.clone());
    for runs in 1..4 {
        rig.failed(runs);
        rig.clock.advance(Duration::from_secs(3));
    }
    let trace = rig.failed(4).trace.expect("trace");
    assert!(trace.contains("attempt 1 of 3"), "{trace}");
}

#[test]
fn paused_keeps_its_tasks_in_view_and_stopped_has_none() {
    let rig = rig(|_, run| {
        run.report.tasks(3);
        while !run.stop.wait(Duration::from_millis(10)) {}
        Ok(())
    });
    rig.until("tasks", |seen| seen.tasks == 3);
    rig.unit.want(wanted(Target::Paused));
    let seen = rig.until("paused", |seen| seen.at_rest);
    assert_eq!((seen.standing, seen.tasks), (Standing::Paused, 3));
    let states = seen.task_states();
    assert!(states.iter().all(|t| t.standing == Standing::Paused));
    rig.unit.want(wanted(Target::Stopped));
    let seen = rig.until("stopped", |seen| seen.standing == Standing::Stopped);
    assert_eq!((seen.tasks, seen.at_rest), (0, true));
    // It shall not run, so a restart changes nothing.
    rig.unit.restart();
    rig.idle();
    assert_eq!(
        (rig.runs(), rig.unit.seen().standing),
        (1, Standing::Stopped)
    );
    rig.unit.want(wanted(Target::Running));
    rig.until("running again", |seen| {
        seen.standing == Standing::Running && seen.tasks == 3
    });
    assert_eq!(rig.runs(), 2);
}

/// Neither an error on the way out nor an end of its own counts as a failure.
#[test]
fn an_order_while_it_runs_is_no_failure() {
    let rig = rig(|_, run| {
        while !run.stop.wait(Duration::from_millis(10)) {}
        Err(broken())
    });
    rig.until("running", |_| rig.runs() == 1);
    rig.unit.restart();
    let seen = rig.until("the second run", |_| rig.runs() == 2);
    assert_eq!(seen.failures, 0);
    rig.until("running", |seen| seen.standing == Standing::Running);
    rig.unit.want(wanted(Target::Stopped));
    rig.until("stopped", |seen| seen.at_rest);
    assert_eq!(rig.unit.seen().failures, 0);
}

#[test]
fn a_job_that_is_done_is_not_begun_again_by_itself() {
    let rig = rig(|_, _| Ok(()));
    let seen = rig.until("the end", |seen| seen.standing == Standing::Stopped);
    assert_eq!((seen.tasks, seen.trace), (0, None));
    rig.clock.advance(Duration::from_secs(86_400));
    rig.idle();
    assert_eq!(rig.runs(), 1);
    rig.unit.restart();
    rig.until("once more", |seen| {
        rig.runs() == 2 && seen.standing == Standing::Stopped
    });
}

#[test]
fn a_config_that_means_nothing_any_more_is_a_failure_with_its_problems() {
    let rig = rig(|_, _| Ok(()));
    rig.unit.want(UnitTarget {
        target: Target::Running,
        job: Err("error[unknown_key]: there is no key `x`".to_owned()),
    });
    let seen = rig.until("the failure", |seen| seen.standing == Standing::Failed);
    assert!(seen.trace.expect("trace").contains("no key `x`"));
    let none: BTreeMap<String, String> = BTreeMap::new();
    assert!(config::check_map("x", &none, &CATALOG).is_err());
}
