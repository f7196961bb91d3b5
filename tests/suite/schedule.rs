//! `trigger = "cron:…"`: when a pipeline runs, what it makes up for, what it says; and the order of `available-now`.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use weir::clock::{Clock, SystemClock, Wake};
use weir::config::PipelineConfig;
use weir::pipeline::{Ended, Stop, run};

use crate::brokers::files;
use crate::rest_rig::Rig;
use crate::world::{Told, World};

/// 2024-01-01T00:00:00Z
const NEW_YEAR: i64 = 1_704_067_200_000_000;
pub const HOUR: i64 = 3_600_000_000;
const DAILY: (&str, &str) = ("trigger", "cron:0 5 * * *");

/// Real time that begins at [`NEW_YEAR`] and can be put forward.
#[derive(Debug)]
pub struct JumpClock {
    real: Arc<dyn Clock>,
    ahead: AtomicI64,
    /// Of the clock on the wall alone, as after an adjustment of it.
    wall: AtomicI64,
    wakes: Mutex<Vec<Weak<Wake>>>,
}

impl JumpClock {
    pub fn new() -> Arc<JumpClock> {
        Arc::new(JumpClock {
            real: SystemClock::shared(),
            ahead: AtomicI64::new(0),
            wall: AtomicI64::new(0),
            wakes: Mutex::default(),
        })
    }

    pub fn jump(&self, micros: i64) {
        self.ahead.fetch_add(micros, Ordering::SeqCst);
        let wakes = self.wakes.lock().unwrap();
        wakes
            .iter()
            .filter_map(Weak::upgrade)
            .for_each(|wake| wake.ring());
    }
}

impl Clock for JumpClock {
    fn now_micros(&self) -> i64 {
        let wall = self.wall.load(Ordering::SeqCst);
        NEW_YEAR + wall + i64::try_from(self.elapsed().as_micros()).unwrap()
    }
    fn elapsed(&self) -> Duration {
        let ahead = self.ahead.load(Ordering::SeqCst).unsigned_abs();
        self.real.elapsed() + Duration::from_micros(ahead)
    }
    fn sleep(&self, time: Duration) {
        self.real.sleep(time);
    }
    fn rings(&self, wake: &Arc<Wake>) {
        self.wakes.lock().unwrap().push(Arc::downgrade(wake));
    }
}

/// A pipeline that runs beside the test, on a clock that is put forward.
pub struct Running {
    stop: Stop,
    told: Arc<Told>,
    thread: std::thread::JoinHandle<Vec<Ended>>,
}

pub fn start(clock: &Arc<JumpClock>, config: &PipelineConfig) -> Running {
    let clock: Arc<dyn Clock> = clock.clone();
    let (stop, told) = (Stop::new(clock.clone()), Arc::<Told>::default());
    let thread = {
        let (stop, told, config) = (stop.clone(), told.clone(), config.clone());
        std::thread::spawn(move || run(&[config], &clock, &stop, &|_| told.clone()))
    };
    Running { stop, told, thread }
}

impl Running {
    pub fn until(&self, world: &World, what: &str, count: usize) {
        world.until(&format!("{what} of {:?}", self.told), || {
            self.told.count(what) >= count || self.thread.is_finished()
        });
        assert!(self.told.count(what) >= count, "{what}: {:?}", self.told);
    }

    pub fn end(self) -> Arc<Told> {
        self.stop.ask(Duration::from_secs(20));
        for ended in self.thread.join().unwrap() {
            ended.result.unwrap();
        }
        self.told
    }
}

/// Hours until the next run, as it was told last.
fn rests(told: &Told, why: &str) -> u64 {
    let last = told.last(&format!("resting {why}")).expect("it rests");
    let seconds: u64 = last.rsplit(' ').next().unwrap().parse().unwrap();
    (seconds + 1800) / 3600
}

fn marks(world: &World) -> Vec<std::path::PathBuf> {
    files(
        &world.path("processed/_system/processed/processed/runs"),
        "",
    )
}

fn fill(world: &World, values: &[&[u8]]) {
    world.produce(values.iter().map(|value| (0, *value)));
    world.run(&[world.raw(&[])]).pop().unwrap().result.unwrap();
}

/// The first day, three missed days, and a day that is not over.
#[test]
fn runs_come_when_they_are_due_and_missed_ones_once() {
    let world = World::new(1);
    fill(&world, &[b"a", b"b"]);
    let clock = JumpClock::new();
    let config = world.processed("processed", &[DAILY]);
    let rows = || {
        world
            .log("processed", "processed")
            .state()
            .totals()
            .rows
            .written
    };

    let first = start(&clock, &config);
    first.until(&world, "resting", 1);
    assert_eq!((rests(&first.told, "NotDue"), rows()), (5, 0));
    let readers = world.log("raw", "raw").state().readers.len();
    assert_eq!(readers, 1, "what is there is kept for it from its start on");
    clock.jump(4 * HOUR);
    clock.jump(HOUR);
    first.until(&world, "resting Done", 1);
    assert_eq!((rests(&first.told, "Done"), rows()), (24, 2));
    assert_eq!(marks(&world).len(), 1, "only the last run is kept");
    // While it waits for the next day.
    fill(&world, &[b"c"]);
    clock.jump(24 * HOUR);
    first.until(&world, "resting Done", 2);
    assert_eq!(rows(), 3);
    first.end();

    // The same day again: nothing is due.
    let same_day = start(&clock, &config);
    same_day.until(&world, "resting", 1);
    assert_eq!(rests(&same_day.told, "NotDue"), 24);
    same_day.end();

    fill(&world, &[b"d"]);
    clock.jump(75 * HOUR);
    let after = start(&clock, &config);
    after.until(&world, "resting", 1);
    assert_eq!((rests(&after.told, "Done"), rows()), (21, 4));
    let told = after.end();
    assert_eq!(
        told.count("started"),
        1,
        "one run for three missed ones: {told:?}"
    );
}

/// A run that fails half way is not complete, and neither is one that was told to stop.
#[test]
fn a_run_that_was_cut_off_is_made_up_for() {
    let world = World::new(1);
    let clock = JumpClock::new();
    let json = [
        DAILY,
        ("transforms", "flatten"),
        ("transforms.flatten.type", "json-flatten"),
        ("transforms.flatten.columns", "id"),
    ];
    let strict = world.raw(&json);
    let lenient = world.raw(&[&json[..], &[("errors.tolerance", "all")]].concat());
    let first = start(&clock, &strict);
    first.until(&world, "resting NotDue", 1);
    world.produce([(0, &b"{\"id\":1}"[..]), (0, b"no JSON")].into_iter());
    clock.jump(5 * HOUR);
    first.until(&world, "failed", 1);
    let failed = first.thread.join().unwrap().pop().unwrap();
    failed.result.unwrap_err();

    let again = start(&clock, &lenient);
    again.until(&world, "resting", 1);
    assert_eq!(
        rests(&again.told, "Done"),
        24,
        "it ran at once: {:?}",
        again.told
    );
    let read = world.log("raw", "raw").state().totals().records.read;
    assert_eq!(read, 2);
    again.end();
}

#[test]
fn a_run_that_was_told_to_stop_is_made_up_for() {
    let world = World::new(1);
    let clock = JumpClock::new();
    let slow = [
        DAILY,
        ("source.type", "rate"),
        ("source.rows.per.second", "20"),
        ("source.rows.total", "1000000"),
        ("sink.rotate.age", "100ms"),
    ];
    let config = world.made("slow", &slow);
    let first = start(&clock, &config);
    first.until(&world, "resting NotDue", 1);
    clock.jump(5 * HOUR);
    first.until(&world, "committed", 1);
    assert!(!first.end().has("resting Done"));
    let again = start(&clock, &config);
    again.until(&world, "committed", 1);
    assert!(!again.end().has("resting"), "it goes on at once");
}

/// The clock was ahead when the last run was kept, or is put forward while a run is waited for.
#[test]
fn clocks_may_be_wrong() {
    let world = World::new(1);
    fill(&world, &[b"a"]);
    let clock = JumpClock::new();
    let config = world.processed("processed", &[DAILY]);
    let dir = world.path("processed/_system/processed/processed/runs");
    std::fs::create_dir_all(&dir).unwrap();
    let future = NEW_YEAR + 10_000 * HOUR;
    std::fs::write(dir.join(format!("{future:020}")), "").unwrap();
    let running = start(&clock, &config);
    running.until(&world, "resting", 1);
    assert_eq!(rests(&running.told, "NotDue"), 5);
    assert_eq!(marks(&world).len(), 1);
    clock.wall.fetch_add(5 * HOUR, Ordering::SeqCst);
    clock.jump(31_000_000);
    running.until(&world, "resting Done", 1);
    running.end();
}

/// `latest` is where the topic ends when the pipeline is started, not when its first run is due.
#[test]
fn a_start_is_pinned_before_the_first_run() {
    let world = World::new(1);
    let clock = JumpClock::new();
    world.produce([(0, &b"old"[..])].into_iter());
    let config = world.raw(&[DAILY, ("source.start", "latest")]);
    let running = start(&clock, &config);
    running.until(&world, "resting NotDue", 1);
    world.produce([(0, &b"new"[..])].into_iter());
    clock.jump(5 * HOUR);
    running.until(&world, "resting Done", 1);
    running.end();
    let log = world.log("raw", "raw");
    let splits: Vec<_> = log.state().splits.values().collect();
    assert_eq!((splits[0].start(), splits[0].to), (1, 2));
}

/// A zone that is not there when the run is due is looked for every second, not the next day.
#[test]
fn a_run_that_finds_nothing_yet_looks_again_soon() {
    let world = World::new(1);
    let clock = JumpClock::new();
    let config = world.processed("processed", &[DAILY]);
    let running = start(&clock, &config);
    running.until(&world, "resting NotDue", 1);
    clock.jump(5 * HOUR);
    running.until(&world, "resting NothingYet 1", 1);
    fill(&world, &[b"a"]);
    running.until(&world, "resting Done", 1);
    running.end();
    assert_eq!(
        world
            .log("processed", "processed")
            .state()
            .totals()
            .rows
            .written,
        1
    );
}

/// Files of one process, in any order: each zone is full before it is read.
#[test]
fn available_now_keeps_the_order_over_any_number_of_zones() {
    let world = World::new(1);
    world.produce([(0, &b"a"[..]), (0, b"b")].into_iter());
    let raw = format!("file:{}", world.path("first").display());
    let second = [
        ("source.url", raw.as_str()),
        ("source.pipeline", "first"),
        ("sink.partition.name", "day"),
    ];
    let third = format!("file:{}", world.path("second").display());
    let third = [
        ("source.url", third.as_str()),
        ("source.pipeline", "second"),
        ("sink.partition.name", "tag"),
    ];
    let configs = [
        world.processed("third", &third),
        world.processed("second", &second),
        world.raw(&[]),
        world.processed("first", &[]),
    ];
    for ended in world.run(&configs) {
        ended.result.unwrap();
    }
    let rows = world.log("third", "third").state().totals().rows.written;
    assert_eq!(rows, 2);
}

#[test]
fn a_daemon_shows_the_next_run() {
    let rig = Rig::new(&[]);
    let mut config = rig.config("yearly");
    config["trigger"] = "cron:0 0 1 1 * Asia/Tokyo".into();
    let body = serde_json::json!({ "name": "yearly", "config": config });
    assert_eq!(rig.send("POST", "/connectors", &body).status, 201);
    let clock = SystemClock::shared();
    let begun = clock.elapsed();
    let shown = loop {
        let shown = rig.get("/pipelines/yearly").json();
        if !shown["next_run"].is_null() || clock.elapsed() - begun > Duration::from_secs(30) {
            break shown;
        }
        clock.sleep(Duration::from_millis(10));
    };
    let next = shown["next_run"].as_str().expect("a time");
    assert!(next.ends_with("-12-31T15:00:00Z"), "{shown}");
    assert_eq!(shown["state"], "RUNNING");
    let metrics = rig.get("/metrics").text();
    let metric = "weir_pipeline_next_run_timestamp_seconds{pipeline=\"yearly\"} ";
    assert!(metrics.contains(metric), "{metrics}");

    config["trigger"] = "cron:61 5 * * * Asia/Tokio".into();
    let refused = rig.send("PUT", "/connectors/yearly/config", &config);
    assert_eq!(refused.status, 400);
    let message = refused.message();
    for part in [
        "`61` is not 0 to 59",
        "`Asia/Tokio` is no time zone",
        "for instance `cron:0 5",
    ] {
        assert!(message.contains(part), "{message}");
    }
}
