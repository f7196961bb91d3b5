//! Real pipelines beside broken ones, on a broker inside this process: a failure of one never affects another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::jobs::{JobRunner, Pool, pipeline_of};
use super::unit::{Run, Runner};
use super::*;
use crate::clock::SystemClock;
use crate::commit::{Committed, State};
use crate::config::PipelineConfig;
use crate::config::worker::{self, WorkerConfig};
use crate::error::{Kind as ErrorKind, Result};
use crate::kafka::{KafkaProps, MockBroker, Outgoing, Producer};
use crate::pipeline::{Ending, Report, Stages};
use crate::telemetry::{Progress, ProgressMode};

/// The product's runner, but pipelines with these names go wrong in the middle of their work.
#[derive(Debug)]
struct Sabotage(JobRunner);

impl Runner for Sabotage {
    fn run(&self, job: &Job, run: &Run) -> Result<()> {
        let mut run = run.clone();
        match pipeline_of(job).map(|config| config.name.as_str()) {
            Some("panics-in-task") => {
                run.report = Arc::new(Bomb(run.report));
                self.0.run(job, &run)
            }
            Some("panics-itself") => panic!("of its own"),
            Some("fails") => Err(Error::new(
                ErrorKind::LogCorrupt,
                "test",
                "an entry is missing",
            )),
            Some("never-drains") => {
                // Ignores a stop until its deadline is over.
                while !run.stop.overdue() {
                    SystemClock::shared().sleep(Duration::from_millis(10));
                }
                Ok(())
            }
            _ => self.0.run(job, &run),
        }
    }
}

/// Panics in the thread of a task, with what it read uncommitted.
#[derive(Debug)]
struct Bomb(Arc<dyn Report>);

impl Report for Bomb {
    fn lag(&self, task: usize, _: Option<u64>) {
        panic!("in task {task}");
    }
    fn started(&self, config: &PipelineConfig, state: &State) {
        self.0.started(config, state);
    }
    fn committed(&self, _: &Committed, _: &State, _: Duration) {}
    fn swapped(&self, _: &Committed) {}
    fn stages(&self, _: usize, _: Stages) {}
    fn waiting(&self, _: &Error) {}
    fn resumed(&self) {}
    fn ended(&self, ending: &Ending<'_>) {
        self.0.ended(ending);
    }
}

struct World {
    broker: MockBroker,
    dir: tempfile::TempDir,
}

const TOPICS: [&str; 5] = [
    "good",
    "panics-in-task",
    "panics-itself",
    "fails",
    "never-drains",
];

impl World {
    fn new() -> World {
        let broker = MockBroker::start().expect("broker");
        for topic in TOPICS {
            broker.create_topic(topic, 1).expect("topic");
        }
        let dir = tempfile::tempdir().expect("tempdir");
        World { broker, dir }
    }

    fn worker(&self) -> WorkerConfig {
        let data = self.dir.path().join("daemon").display().to_string();
        let plugins = self.dir.path().join("plugins").display().to_string();
        let roots = self.dir.path().display().to_string();
        let map = [
            ("data.dir", data.as_str()),
            ("plugin.path", plugins.as_str()),
            ("rest.files.roots", roots.as_str()),
            ("restart.backoff", "10ms"),
            ("restart.max.backoff", "20ms"),
            ("restart.attempts", "2"),
        ];
        worker::from_map("test", map).expect("worker")
    }

    fn open(&self) -> Result<Arc<Supervisor>> {
        let clock = SystemClock::shared();
        let pool = Arc::new(Pool::default());
        let worker = self.worker();
        let runner = Sabotage(JobRunner {
            clock: clock.clone(),
            pool: pool.clone(),
            state_dir: worker.data_dir.join(super::book::FILES),
        });
        let shown = Progress::shared(ProgressMode::None);
        Supervisor::open_with(&worker, clock, shown, pool, Arc::new(runner))
    }

    fn config(&self, topic: &str) -> BTreeMap<String, String> {
        let url = format!("file:{}", self.dir.path().join("zone").display());
        let map = [
            ("connector.class", "weir"),
            ("source.type", "kafka"),
            ("source.topics", topic),
            ("source.start", "earliest"),
            ("source.bootstrap.servers", self.broker.bootstrap()),
            ("sink.type", "zone"),
            ("sink.url", &url),
            ("sink.rotate.age", "100ms"),
            ("errors.dlq.table", &format!("dead-{topic}")),
        ];
        let owned = map.map(|(k, v)| (k.to_owned(), v.to_owned()));
        owned.into()
    }

    fn produce(&self, topic: &str, count: usize) {
        let props = KafkaProps::new(self.broker.bootstrap(), "test", &BTreeMap::new());
        let producer = Producer::open(&props.expect("props")).expect("producer");
        for _ in 0..count {
            let out = Outgoing {
                value: Some(b"value"),
                partition: Some(0),
                ..Outgoing::default()
            };
            producer.send(topic, out).expect("send");
        }
        producer.flush(Duration::from_secs(30)).expect("flush");
    }
}

fn by() -> Actor {
    Actor("tester@here".to_owned())
}

fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        SystemClock::shared().sleep(Duration::from_millis(10));
    }
}

/// The committed position of partition 0.
fn position(daemon: &Supervisor, name: &str) -> Option<i64> {
    let offsets = daemon
        .offsets(name, &crate::daemon::Asker::default())
        .ok()?;
    let offset = offsets.first()?.offset.as_ref()?;
    offset.get("kafka_offset")?.as_i64()
}

fn standing(daemon: &Supervisor, name: &str) -> Standing {
    daemon.status(name).expect("status").standing
}

#[test]
fn rows_of_one_go_on_while_others_panic_fail_and_hang() {
    let world = World::new();
    for topic in TOPICS {
        world.produce(topic, 10);
    }
    let daemon = world.open().expect("daemon");
    for topic in TOPICS {
        let created = daemon.create(
            topic,
            world.config(topic),
            Target::Running,
            Readers::Kept,
            &by(),
        );
        created.expect("created");
    }
    until("rows of the good one", || {
        position(&daemon, "good").filter(|p| *p == 10)
    });
    for (name, says) in [
        ("panics-in-task", "in task 0"),
        ("panics-itself", "of its own"),
        ("fails", "an entry is missing"),
    ] {
        let trace = until("the budget to be spent", || {
            let status = daemon.status(name).expect("status");
            status.trace.filter(|trace| trace.contains("stays so"))
        });
        assert!(trace.contains(says), "{name}: {trace}");
        assert_eq!(standing(&daemon, name), Standing::Failed, "{name}");
    }
    // What panicked had committed nothing; the good one never stopped.
    assert_ne!(position(&daemon, "panics-in-task"), Some(10));
    assert_eq!(standing(&daemon, "good"), Standing::Running);
    world.produce("good", 5);
    until("more rows of the good one", || {
        position(&daemon, "good").filter(|p| *p == 15)
    });
    assert_eq!(daemon.topics("good"), ["good"]);
    let status = daemon.status("good").expect("status");
    assert_eq!(status.tasks.len(), 1);
    // Positions come from the log; counters are updated a moment later.
    until("the commit to be counted", || {
        let read = "weir_records_read_total{pipeline=\"good\"} 15.0";
        daemon.metrics().contains(read).then_some(())
    });
    let text = daemon.metrics();
    for line in [
        "weir_pipeline_state{pipeline=\"fails\",state=\"failed\"} 1.0",
        "weir_pipeline_state{pipeline=\"good\",state=\"running\"} 1.0",
        "weir_failures_total{pipeline=\"panics-itself\"} 3.0",
        "weir_records_read_total{pipeline=\"good\"} 15.0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    // The way back is a restart; it fails again, with all attempts.
    let status = daemon.restart("fails", true, true, &by()).expect("restart");
    assert!([Standing::Restarting, Standing::Running, Standing::Failed].contains(&status.standing));
    // A pipeline that does not drain does not delay the stop of others, and delays the shutdown only until the
    // deadline.
    daemon
        .set_target("never-drains", Target::Stopped, &by())
        .expect("stop");
    daemon
        .set_target("good", Target::Stopped, &by())
        .expect("stop");
    until("the good one to stop", || {
        (standing(&daemon, "good") == Standing::Stopped).then_some(())
    });
    assert_eq!(standing(&daemon, "never-drains"), Standing::Running);
    let begun = Instant::now();
    assert!(!daemon.shut_down(Duration::from_millis(300)));
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn targets_and_configs_are_there_after_a_restart_and_nothing_else_is() {
    let world = World::new();
    world.produce("good", 10);
    let daemon = world.open().expect("daemon");
    daemon
        .create(
            "good",
            world.config("good"),
            Target::Running,
            Readers::Kept,
            &by(),
        )
        .expect("created");
    daemon
        .create(
            "fails",
            world.config("fails"),
            Target::Stopped,
            Readers::Kept,
            &by(),
        )
        .expect("created");
    daemon
        .create(
            "never-drains",
            world.config("never-drains"),
            Target::Paused,
            Readers::Kept,
            &by(),
        )
        .expect("created");
    daemon.delete("never-drains", &by()).expect("deleted");
    until("rows", || position(&daemon, "good").filter(|p| *p == 10));
    let changes = BTreeMap::from([("sink.rotate.age".to_owned(), Some("200ms".to_owned()))]);
    let info = daemon
        .patch("good", changes, Readers::Kept, &Actor("alice".to_owned()))
        .expect("patched");
    assert_eq!(standing(&daemon, "good"), Standing::Running);
    let second = world.open().expect_err("held");
    assert!(second.to_string().contains("127.0.0.1:8083"), "{second}");
    assert!(daemon.shut_down(Duration::from_secs(20)));
    drop(daemon);

    world.produce("good", 10);
    let daemon = world.open().expect("daemon");
    assert_eq!(daemon.names(), ["fails", "good"]);
    let again = daemon.info("good").expect("info");
    assert_eq!((again.config, again.target), (info.config, Target::Running));
    assert_eq!(standing(&daemon, "fails"), Standing::Stopped);
    until("more rows", || {
        position(&daemon, "good").filter(|p| *p == 20)
    });
    let who: Vec<String> = daemon
        .history("good", 0, 100)
        .expect("history")
        .changes
        .into_iter()
        .map(|c| c.by)
        .collect();
    assert_eq!(who, ["tester@here", "alice"]);
    let left = daemon.history("never-drains", 0, 100).expect("history");
    assert_eq!((left.changes.len(), left.more), (2, false));
    assert!(matches!(
        daemon.status("never-drains"),
        Err(Refused::NotFound(_))
    ));
    assert!(daemon.shut_down(Duration::from_secs(20)));
}

#[test]
fn what_would_take_from_another_or_show_a_secret_is_refused() {
    let world = World::new();
    let daemon = world.open().expect("daemon");
    let config = world.config("good");
    daemon
        .create(
            "good",
            config.clone(),
            Target::Stopped,
            Readers::Kept,
            &by(),
        )
        .expect("created");
    let refused = |name: &str, config: &BTreeMap<String, String>| {
        let refused = daemon.create(name, config.clone(), Target::Stopped, Readers::Kept, &by());
        match refused.expect_err("refused") {
            Refused::Invalid(problems) => problems.into_iter().map(|p| p.code).collect(),
            other => vec![match other {
                Refused::Exists(_) => "exists",
                Refused::Bad(_) => "bad",
                _ => "other",
            }],
        }
    };
    assert_eq!(refused("good", &config), ["exists"]);
    assert_eq!(refused("other", &config), ["same_table"]);
    let mut named = config.clone();
    named.insert("name".to_owned(), "third".to_owned());
    assert_eq!(refused("other", &named), ["bad"]);
    let mut secret = world.config("fails");
    secret.insert(
        "source.kafka.sasl.password".to_owned(),
        "hunter2".to_owned(),
    );
    assert_eq!(refused("other", &secret), ["literal_secret"]);
    let journal = world.dir.path().join("daemon/journal");
    let journal = std::fs::read_to_string(journal).expect("journal");
    assert!(!journal.contains("hunter2") && journal.lines().count() == 2);
    let mut unset = world.config("fails");
    unset.insert(
        "source.bootstrap.servers".to_owned(),
        "${env:WEIR_NO_SUCH}".to_owned(),
    );
    unset.insert("sink.rotate.age".to_owned(), "soon".to_owned());
    assert_eq!(refused("a/b", &unset).len(), 3);
    let mut plugin = world.config("fails");
    plugin.insert("transforms".to_owned(), "x".to_owned());
    plugin.insert("transforms.x.type".to_owned(), "no-such".to_owned());
    assert_eq!(refused("other", &plugin), ["plugin_config"]);
    // The same holds for a PUT, and the config that it would replace stays.
    let put = daemon.put("good", secret.clone(), Readers::Kept, &by());
    assert!(matches!(put, Err(Refused::Invalid(_))));
    let mut same = config.clone();
    same.insert("name".to_owned(), "good".to_owned());
    assert_eq!(daemon.info("good").expect("info").config, same);
    assert_eq!(
        daemon.validate(&same),
        Vec::new(),
        "beside itself it is fine"
    );
    assert!(daemon.shut_down(Duration::from_secs(5)));
}

/// What the guard ordered about rules that were replaced meanwhile is void, and a pipeline that a person stopped stays so.
#[test]
fn the_guard_looks_at_what_holds_before_it_acts() {
    use super::guard::{Act, Acts};
    let world = World::new();
    world.produce("good", 10);
    let daemon = world.open().expect("daemon");
    let config = world.config("good");
    let created = daemon.create("good", config, Target::Running, Readers::Kept, &by());
    created.expect("created");
    until("a commit", || {
        position(&daemon, "good").filter(|p| *p == 10)
    });
    let target = || daemon.info("good").expect("info").target;
    let pause = |generation| daemon.pause("good", generation, "bad").expect("an answer");
    let back = |generation| daemon.roll_back("good", generation, "bad");
    assert_eq!((pause(7), target()), (Act::OtherRules, Target::Running));
    assert_eq!(back(7).expect("an answer"), Act::OtherRules);
    back(0).expect_err("there is nothing to go back to");
    assert!(matches!(pause(0), Act::Done(_)));
    assert_eq!(target(), Target::Paused);
    let stopped = daemon.set_target("good", Target::Stopped, &by());
    stopped.expect("stopped");
    assert_eq!(
        (pause(0), target()),
        (Act::At(Target::Stopped), Target::Stopped)
    );
    assert_eq!(back(0).expect("an answer"), Act::At(Target::Stopped));
    daemon.shut_down(Duration::from_secs(10));
}
