//! `sink.type = "kafka"` against Apache Kafka, the whole program: each record once for whoever reads committed records, whatever
//! is killed, stopped or doubled; what a record is; what becomes of rows that can be none.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use arrow_array::Array as _;
use arrow_array::cast::AsArray;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use weir::clock::SystemClock;
use weir::commit::{LogName, Role, State, verify};
use weir::kafka::testkit::Admin;
use weir::kafka::{KafkaCluster, KafkaProps, KafkaSource, Limits, Outgoing, Producer, Start};
use weir::source::Source as _;
use weir::store;
use weir::zone::read_file;

use crate::brokers::{self, Broker, until};
use crate::world::{open_log, plugins_dir};

const WAIT: Duration = Duration::from_millis(50);
const FLUSH: Duration = Duration::from_secs(30);
/// In CI; `WEIR_KILLS=50` by hand.
const KILLS: u32 = 15;
const SEED: u64 = 11;

/// A directory, the program in it, and two topics of its own: `in` is read, `out` is written.
struct Rig {
    dir: tempfile::TempDir,
    bootstrap: String,
    input: String,
    output: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Record {
    partition: i32,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(String, Option<String>)>,
    /// Milliseconds.
    timestamp: i64,
}

impl Rig {
    fn new(broker: &Broker, name: &str, partitions: i32) -> Rig {
        let rig = Rig {
            dir: tempfile::tempdir().unwrap(),
            bootstrap: broker.bootstrap().to_owned(),
            input: format!("ks-{name}-in"),
            output: format!("ks-{name}-out"),
        };
        for topic in [&rig.input, &rig.output] {
            rig.create(topic, partitions);
        }
        rig
    }

    fn create(&self, topic: &str, partitions: i32) {
        let admin = Admin::connect(&self.bootstrap).unwrap();
        // Records of the tests are years old: by default the broker would delete them when it looks, every five minutes.
        let config = [("retention.ms", "-1")];
        admin.create_topic(topic, partitions, &config).unwrap();
        let cluster = KafkaCluster::connect(&self.props()).unwrap();
        until("the topic", || {
            let topic = cluster.describe(topic).ok()?;
            (topic.partitions.len() == partitions as usize).then_some(())
        });
    }

    fn props(&self) -> KafkaProps {
        KafkaProps::new(&self.bootstrap, "ks", &BTreeMap::new()).unwrap()
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// `sink`: lines of the config, of the sink and of transforms.
    fn declare(&self, name: &str, sink: &str) -> String {
        let plugins = plugins_dir();
        let plugins = plugins.display();
        let (bootstrap, input, output) = (&self.bootstrap, &self.input, &self.output);
        let output = match sink.contains("sink.topic.name") {
            true => String::new(),
            false => format!("sink.topic.name = \"{output}\"\n"),
        };
        let config = format!(
            "name = \"{name}\"\nsource.type = \"kafka\"\nsource.topics = [\"{input}\"]\nsource.start = \"earliest\"\n\
             source.bootstrap.servers = \"{bootstrap}\"\nsink.type = \"kafka\"\nsink.url = \"file:home\"\n\
             sink.bootstrap.servers = \"{bootstrap}\"\n{output}\
             sink.commit.age = \"200ms\"\nerrors.tolerance = \"all\"\nerrors.dlq.table = \"dead-{name}\"\nplugin.path = \"{plugins}\"\nplugin.store = \"store\"\n\
             plugin.cache = \"{plugins}/../plugins-test/cache\"\n{sink}"
        );
        let file = format!("{name}.toml");
        fs::write(self.path(&file), config).unwrap();
        file
    }

    fn weir(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.current_dir(self.dir.path()).args(args);
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, file: &str) -> Output {
        let args = ["run", file, "--available-now", "--progress", "none"];
        self.weir(&args).output().unwrap()
    }

    fn ran(&self, file: &str) {
        let output = self.run(file);
        assert!(output.status.success(), "{output:?}");
    }

    fn spawn(&self, file: &str) -> Child {
        let mut command = self.weir(&["run", file, "--progress", "none"]);
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("weir.log"));
        command.stdout(Stdio::null()).stderr(log.unwrap());
        command.spawn().unwrap()
    }

    fn said(&self) -> String {
        fs::read_to_string(self.path("weir.log")).unwrap_or_default()
    }

    fn produce(&self, values: impl Iterator<Item = String>) {
        let producer = Producer::open(&self.props()).unwrap();
        for value in values {
            let out = Outgoing {
                key: Some(b"k"),
                value: Some(value.as_bytes()),
                headers: &[("trace", Some(b"t1"))],
                timestamp: Some(1_700_000_000_123),
                ..Outgoing::default()
            };
            producer.send(&self.input, out).unwrap();
        }
        producer.flush(FLUSH).unwrap();
    }

    /// At least so many records: a broker shows them a moment after it has committed them.
    fn read(&self, topic: &str, least: usize) -> Vec<Record> {
        let mut found = Vec::new();
        let shown = brokers::within(brokers::DEADLINE, || {
            found = self.read_now(topic);
            (found.len() >= least).then_some(())
        });
        assert!(
            shown.is_some(),
            "{topic}: {} of {least}: {}",
            found.len(),
            self.said()
        );
        found
    }

    /// As any reader of committed records sees it, by partition and offset.
    fn read_now(&self, topic: &str) -> Vec<Record> {
        let cluster = KafkaCluster::connect(&self.props()).unwrap();
        let info = cluster.describe(topic).unwrap();
        let start = cluster.start(&info, Start::Earliest).unwrap();
        let clock = SystemClock::shared();
        let mut source =
            KafkaSource::open(&self.props(), &start, Limits::default(), clock).unwrap();
        let mut found = Vec::new();
        while !source.caught_up() {
            let Some(batch) = source.next(WAIT).unwrap() else {
                continue;
            };
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            for at in 0..batch.len() {
                let headers = batch.headers.as_ref().map(|headers| headers.value(at));
                let headers = headers.map_or_else(Vec::new, |items| {
                    let items = items.as_struct();
                    let (names, values) = (items.column(0), items.column(1));
                    let one = |n: usize| {
                        let value = values.as_binary::<i32>();
                        let value = value.is_valid(n).then(|| text(value.value(n)));
                        (names.as_string::<i32>().value(n).to_owned(), value)
                    };
                    (0..items.len()).map(one).collect()
                });
                found.push((
                    batch.offset.value(at),
                    Record {
                        partition: batch.covers.tp.partition,
                        key: batch.key.is_valid(at).then(|| text(batch.key.value(at))),
                        value: batch
                            .value
                            .is_valid(at)
                            .then(|| text(batch.value.value(at))),
                        headers,
                        timestamp: batch.timestamp.value(at) / 1000,
                    },
                ));
            }
        }
        found.sort_by_key(|(offset, record)| (record.partition, *offset));
        found.into_iter().map(|(_, record)| record).collect()
    }

    fn state<T>(&self, pipeline: &str, of: impl Fn(&State) -> T) -> T {
        of(open_log(&self.path("home"), pipeline, "home")
            .unwrap()
            .unwrap()
            .state())
    }

    /// Code and field of each dead letter.
    fn letters(&self, pipeline: &str) -> Vec<(String, Option<String>)> {
        let store = store::open_url(&format!("file:{}", self.path("home").display())).unwrap();
        let name = LogName::new(pipeline, "home");
        let live = self.state(pipeline, |state| state.live.clone());
        let mut found = Vec::new();
        for file in live
            .values()
            .filter(|live| live.file.role == Role::DeadLetters)
        {
            for batch in read_file(&store, &name, &file.file).unwrap() {
                let batch = batch.unwrap();
                let codes = batch
                    .column_by_name("code")
                    .unwrap()
                    .as_string::<i32>()
                    .clone();
                let fields = batch
                    .column_by_name("field")
                    .unwrap()
                    .as_string::<i32>()
                    .clone();
                found.extend((0..batch.num_rows()).map(|row| {
                    let field = fields.is_valid(row).then(|| fields.value(row).to_owned());
                    (codes.value(row).to_owned(), field)
                }));
            }
        }
        found.sort();
        found
    }

    /// Each number from 0 on is in the topic once, the log verifies, and nothing waits any more.
    fn settled(&self, pipeline: &str, total: u64) {
        let mut ids: Vec<u64> = self
            .read(&self.output, total as usize)
            .iter()
            .map(id_of)
            .collect();
        ids.sort_unstable();
        let found = ids.len();
        ids.dedup();
        assert_eq!(found, ids.len(), "a record is there twice: {}", self.said());
        assert_eq!(ids, (0..total).collect::<Vec<_>>(), "{}", self.said());
        let store = store::open_url(&format!("file:{}", self.path("home").display())).unwrap();
        let name = LogName::new(pipeline, "home");
        let verified = verify(store.as_ref(), &name).unwrap().unwrap();
        assert!(verified.problems.is_empty(), "{:?}", verified.problems);
        assert_eq!(
            self.state(pipeline, |state| state.totals().rows.written),
            total
        );
        let outbox = store.list(&format!("{}/outbox", name.dir())).unwrap();
        assert!(outbox.is_empty(), "{outbox:?}");
    }
}

fn id_of(record: &Record) -> u64 {
    let value: Value = serde_json::from_str(record.value.as_ref().unwrap()).unwrap();
    value["id"].as_u64().unwrap()
}

/// JSON in, flattened by a transform, JSON out.
const RULES: &str = "[[transforms]]\nname = \"flatten\"\ntype = \"json-flatten\"\ncolumns = [\"id\", \"name\"]\ntypes.id = \"long\"\n";

fn message(id: u64) -> String {
    json!({ "id": id, "name": format!("book {id}") }).to_string()
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn kills_lose_nothing_and_show_nothing_twice() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let kills = std::env::var("WEIR_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let rig = Rig::new(broker, "kill", 4);
    let file = rig.declare(
        "copy",
        &format!("tasks.max = 2\nsink.key.column = \"name\"\n{RULES}"),
    );
    let clock = SystemClock::shared();
    let mut rng = SmallRng::seed_from_u64(SEED);
    let mut total = 0;
    for round in 0..kills {
        let more = rng.random_range(50..400);
        rig.produce((total..total + more).map(message));
        total += more;
        let mut child = rig.spawn(&file);
        let until = clock.elapsed() + Duration::from_millis(rng.random_range(150..1_400));
        while clock.elapsed() < until {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "round {round}: it ended: {}", rig.said());
            clock.sleep(Duration::from_millis(5));
        }
        kill(child);
    }
    rig.ran(&file);
    rig.settled("copy", total);
    println!("{kills} kills, {total} records");
}

/// Runs of the steps test side by side: most of each is waiting.
const LANES: u64 = 4;

/// Before each change of the home, in turn: the process ends there, and the next one ends the work.
#[test]
fn an_end_at_every_step_of_the_home_loses_nothing_and_shows_nothing_twice() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let rig = Rig::new(broker, "steps", 1);
    rig.produce((0..20).map(message));
    let file = rig.declare("steps", RULES);
    let (rig, file) = (&rig, file.as_str());
    let steps: Vec<u64> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|begin| scope.spawn(move || end_at_steps(rig, file, begin)))
            .collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).collect()
    });
    let steps = steps.iter().min().unwrap();
    assert!(*steps > 10, "only {steps} steps: is the variable heard?");
    println!("{steps} steps");
}

/// From step `begin` on, every [`LANES`]-th; the first that a whole run does not reach.
fn end_at_steps(rig: &Rig, file: &str, begin: u64) -> u64 {
    for step in (begin..).step_by(LANES as usize) {
        let topic = format!("{}-{step}", rig.output);
        rig.create(&topic, 1);
        let run = |abort_at: Option<u64>| {
            let sets = [
                format!("sink.topic.name={topic}"),
                format!("sink.url=file:home-{step}"),
            ];
            let args = ["run", file, "--available-now", "--progress", "none"];
            let mut command = rig.weir(&args);
            for set in &sets {
                command.args(["--set", set]);
            }
            command.envs(abort_at.map(|step| ("WEIR_ABORT_AT", step.to_string())));
            command.output().unwrap()
        };
        let whole = run(Some(step)).status.success();
        let output = run(None);
        assert!(output.status.success(), "after step {step}: {output:?}");
        let ids: Vec<u64> = rig.read(&topic, 20).iter().map(id_of).collect();
        assert_eq!(ids, (0..20).collect::<Vec<_>>(), "after step {step}");
        if whole {
            return step;
        }
    }
    panic!("steps have an end")
}

#[test]
fn a_process_that_slept_is_fenced_and_both_show_each_record_once() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let rig = Rig::new(broker, "zombie", 2);
    let file = rig.declare("zombie", RULES);
    rig.produce((0..500).map(message));
    let mut sleeper = rig.spawn(&file);
    let standing = || {
        let log = open_log(&rig.path("home"), "zombie", "home").unwrap()?;
        let stands: i64 = log.state().splits.values().map(|split| split.to).sum();
        Some(stands)
    };
    until("the first records", || (standing()? >= 500).then_some(()));
    let mut total = 500;
    for _ in 0..3 {
        rig.produce((total..total + 300).map(message));
        total += 300;
        signal(&sleeper, "-STOP");
        rig.ran(&file);
        rig.produce((total..total + 300).map(message));
        total += 300;
        signal(&sleeper, "-CONT");
        until("what came after it slept", || {
            (standing()? >= total as i64).then_some(())
        });
    }
    signal(&sleeper, "-TERM");
    assert!(sleeper.wait().unwrap().success(), "{}", rig.said());
    rig.settled("zombie", total);
    assert!(
        rig.said()
            .contains("another process writes under this transactional id"),
        "{}",
        rig.said()
    );
}

#[test]
fn a_broker_that_dies_in_a_transaction_is_waited_for() {
    let Some(mut broker) = brokers::own_kafka() else {
        return;
    };
    let rig = Rig::new(&broker, "broker", 2);
    let file = rig.declare("broker", &format!("retry.max.backoff = \"1s\"\n{RULES}"));
    rig.produce((0..40_000).map(message));
    let mut child = rig.spawn(&file);
    let outbox = rig.path("home/_system/broker/home/outbox");
    until("a packet on its way", || {
        let waits = fs::read_dir(&outbox).ok()?.next();
        waits.is_some().then_some(())
    });
    broker.kill();
    until("it says so", || {
        rig.said().contains("sink_unavailable").then_some(())
    });
    broker.start();
    until("the rest", || {
        let log = open_log(&rig.path("home"), "broker", "home").unwrap()?;
        let stands: i64 = log.state().splits.values().map(|split| split.to).sum();
        (stands >= 40_000).then_some(())
    });
    signal(&child, "-TERM");
    assert!(child.wait().unwrap().success(), "{}", rig.said());
    rig.settled("broker", 40_000);
}

#[test]
fn formats_keys_headers_topics_and_partitions_are_what_the_config_says() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let rig = Rig::new(broker, "layout", 3);
    rig.create("ks-layout-other", 1);
    let rows = [
        json!({ "id": 1, "name": "a \"b\", c", "to": "ks-layout-other", "at": 2 }),
        json!({ "id": 2, "name": null, "to": null, "at": 1 }),
    ];
    rig.produce(rows.iter().map(Value::to_string));
    let rules = "[[transforms]]\nname = \"flatten\"\ntype = \"json-flatten\"\ncolumns = [\"id\", \"name\", \"to\", \"at\"]\n\
                 types.id = \"long\"\ntypes.at = \"long\"\n";
    let values = |records: &[Record]| -> Vec<String> {
        let mut values: Vec<String> = records.iter().filter_map(|r| r.value.clone()).collect();
        values.sort();
        values
    };
    for (name, keys, expected) in [
        (
            "json",
            "sink.value.columns = [\"name\", \"id\"]\n",
            [r#"{"name":"a \"b\", c","id":1}"#, r#"{"name":null,"id":2}"#],
        ),
        (
            "csv",
            "sink.value.columns = [\"id\", \"name\"]\nsink.csv.delimiter = \";\"\n",
            ["1;\"a \"\"b\"\", c\"", "2;"],
        ),
        (
            "xml",
            "sink.value.columns = [\"id\", \"name\"]\nsink.xml.root = \"book\"\n",
            [
                "<book><id>1</id><name>a \"b\", c</name></book>",
                "<book><id>2</id></book>",
            ],
        ),
    ] {
        let topic = format!("{}-{name}", rig.output);
        rig.create(&topic, 3);
        let sink =
            format!("sink.topic.name = \"{topic}\"\nsink.value.format = \"{name}\"\n{keys}{rules}");
        rig.ran(&rig.declare(name, &sink));
        assert_eq!(values(&rig.read(&topic, 2)), expected, "{name}");
    }
    // The record as it was read: no transform, its own partition, key, headers and time.
    let plain = "sink.value.format = \"string\"\nsink.key.column = \"key\"\nsink.headers.of.record = true\n\
                 sink.partitioner = \"source\"\n";
    rig.ran(&rig.declare("plain", plain));
    assert_eq!(rig.read(&rig.output, 2), rig.read(&rig.input, 2));
    // Topic, key, headers and partition from columns.
    let columns = "sink.topic.column = \"to\"\nsink.key.column = \"id\"\nsink.headers.columns = [\"name\"]\n\
                   sink.value.columns = [\"id\"]\nsink.timestamp = \"now\"\n";
    let topic = format!("{}-columns", rig.output);
    rig.create(&topic, 3);
    let sink = format!("sink.topic.name = \"{topic}\"\n{columns}{rules}");
    rig.ran(&rig.declare("columns", &sink));
    let (own, other) = (rig.read(&topic, 1), rig.read("ks-layout-other", 1));
    assert_eq!((own.len(), other.len()), (1, 1));
    assert_eq!(other[0].key.as_deref(), Some("1"));
    assert_eq!(
        other[0].headers,
        [("name".to_owned(), Some("a \"b\", c".to_owned()))]
    );
    assert_eq!(own[0].headers, [("name".to_owned(), None)]);
    assert!(own[0].timestamp > 1_700_000_000_123);
    let by_column = format!(
        "sink.topic.name = \"{topic}\"\nsink.partitioner = \"column\"\nsink.partition.column = \"at\"\nsink.value.columns = [\"id\"]\n{rules}"
    );
    rig.ran(&rig.declare("partitions", &by_column));
    let at: Vec<(i32, String)> = rig.read(&topic, 3)[..]
        .iter()
        .filter(|record| record.headers.is_empty())
        .map(|record| (record.partition, record.value.clone().unwrap()))
        .collect();
    assert_eq!(
        at,
        [(1, r#"{"id":2}"#.to_owned()), (2, r#"{"id":1}"#.to_owned())]
    );
}

#[test]
fn rows_that_no_topic_takes_are_dead_letters_and_a_topic_that_is_not_there_is_named() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let rig = Rig::new(broker, "refused", 1);
    let long = "x".repeat(1_100_000);
    let small = Admin::connect(&rig.bootstrap).unwrap();
    small
        .create_topic(
            "ks-refused-small",
            1,
            &[("max.message.bytes", "20000"), ("retention.ms", "-1")],
        )
        .unwrap();
    let rows = [
        json!({ "id": 1, "name": long, "to": null, "at": 0 }),
        json!({ "id": 2, "name": "fine", "to": null, "at": 0 }),
        json!({ "id": 3, "name": "nowhere", "to": "no such", "at": 0 }),
        json!({ "id": 4, "name": "nowhere", "to": "ks-refused-none", "at": 0 }),
        json!({ "id": 5, "name": "y".repeat(18_000), "to": null, "at": 7 }),
    ];
    // The topic that is read takes larger records than the client sends by default.
    rig.produce(rows[1..].iter().map(Value::to_string));
    let rules = "[[transforms]]\nname = \"flatten\"\ntype = \"json-flatten\"\ncolumns = [\"id\", \"name\", \"to\", \"at\"]\n\
                 types.id = \"long\"\ntypes.at = \"long\"\n";
    let sink = format!("sink.topic.column = \"to\"\nsink.record.max.bytes = \"10KB\"\n{rules}");
    rig.ran(&rig.declare("letters", &sink));
    let letter = |code: &str, field: Option<&str>| (code.to_owned(), field.map(str::to_owned));
    assert_eq!(
        rig.letters("letters"),
        [
            letter("no_such_topic", Some("to")),
            letter("no_such_topic", Some("to")),
            letter("record_too_large", None),
        ]
    );
    assert_eq!(rig.read(&rig.output, 1).len(), 1);
    let totals = rig.state("letters", State::totals);
    assert_eq!((totals.rows.written, totals.rows.refused), (1, 3));
    assert_eq!((totals.records.with_rows, totals.records.refused), (1, 3));
    // The broker tells what the topic takes.
    let sink = format!("sink.topic.name = \"ks-refused-small\"\n{rules}");
    rig.ran(&rig.declare("small", &sink));
    assert_eq!(rig.letters("small"), [letter("record_too_large", None)]);
    let sink = format!("sink.partitioner = \"column\"\nsink.partition.column = \"at\"\n{rules}");
    rig.ran(&rig.declare("partition", &sink));
    assert_eq!(
        rig.letters("partition"),
        [letter("no_such_partition", Some("at"))]
    );
    // Without dead letters the first of them stops the pipeline.
    let none = format!("sink.topic.column = \"to\"\n{rules}");
    let file = rig.declare("none", &none);
    let output = rig
        .weir(&[
            "run",
            &file,
            "--available-now",
            "--set",
            "errors.tolerance=none",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("record_refused") && said.contains("no_such_topic"),
        "{said}"
    );
    // The topic of the config is not there.
    let file = rig.declare(
        "absent",
        "sink.topic.name = \"ks-refused-absent\"\nsink.value.format = \"string\"\n",
    );
    let output = rig.run(&file);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for word in ["config_invalid", "ks-refused-absent", "sink.topic.name"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

/// What goes back is sent again, and a command says so before.
#[test]
fn a_rewind_sends_again() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let rig = Rig::new(broker, "again", 1);
    rig.produce((0..10).map(message));
    let file = rig.declare("again", RULES);
    rig.ran(&file);
    let rewound = rig
        .weir(&["pipeline", "rewind", &file, "--all=start"])
        .output()
        .unwrap();
    let said = String::from_utf8(rewound.stderr).unwrap();
    assert!(rewound.status.success(), "{said}");
    assert!(said.contains("cannot be taken back"), "{said}");
    rig.produce((10..15).map(message));
    rig.ran(&file);
    let ids: Vec<u64> = rig.read(&rig.output, 25).iter().map(id_of).collect();
    let expected: Vec<u64> = (0..10).chain(0..15).collect();
    assert_eq!(ids, expected);
}

/// For any sink; in the topic is what is committed, and nothing twice.
#[test]
fn dead_letters_go_on_into_a_topic_with_the_headers_of_kafka_connect() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let rig = Rig::new(broker, "dead", 1);
    for topic in ["ks-dead-letters", "ks-dead-of-zone"] {
        rig.create(topic, 1);
    }
    let rows = [message(0), "{not json".to_owned(), message(1), message(2)];
    rig.produce(rows.into_iter());
    let errors = "errors.deadletterqueue.topic.name = \"ks-dead-letters\"\n";
    let sink = format!("sink.record.max.bytes = \"2KB\"\n{errors}{RULES}");
    let file = rig.declare("dead", &sink);
    rig.ran(&file);
    let found = rig.read("ks-dead-letters", 1);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].value.as_deref(), Some("{not json"));
    assert_eq!(
        (found[0].key.as_deref(), found[0].timestamp),
        (Some("k"), 1_700_000_000_123)
    );
    let header = |record: &Record, name: &str| -> String {
        let found = record.headers.iter().find(|(n, _)| n == name);
        found
            .unwrap_or_else(|| panic!("{name}: {record:?}"))
            .1
            .clone()
            .unwrap()
    };
    for (name, value) in [
        ("trace", "t1"),
        ("weir.dead_letter.id", "dead/ks-dead-in/0/1"),
        ("__connect.errors.topic", "ks-dead-in"),
        ("__connect.errors.partition", "0"),
        ("__connect.errors.offset", "1"),
        ("__connect.errors.connector.name", "dead"),
        ("__connect.errors.stage", "TRANSFORMATION"),
        ("__connect.errors.exception.class.name", "malformed_json"),
    ] {
        assert_eq!(header(&found[0], name), value, "{name}");
    }
    // Those of the sink too, each once over several runs.
    let long = json!({ "id": 3, "name": "x".repeat(3_000) }).to_string();
    rig.produce([long, message(4)].into_iter());
    rig.ran(&file);
    rig.ran(&file);
    let found = rig.read("ks-dead-letters", 2);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(
        header(&found[1], "__connect.errors.exception.class.name"),
        "record_too_large"
    );
    assert_eq!(header(&found[1], "__connect.errors.stage"), "TASK_PUT");
    // Beside a zone, without Connect's headers.
    let plugins = plugins_dir();
    let plugins = plugins.display();
    let zone = format!(
        "name = \"zone\"\nsource.type = \"kafka\"\nsource.topics = [\"{}\"]\nsource.start = \"earliest\"\n\
         source.bootstrap.servers = \"{}\"\nsink.type = \"zone\"\nsink.url = \"file:zone\"\nerrors.tolerance = \"all\"\n\
         errors.deadletterqueue.topic.name = \"ks-dead-of-zone\"\n\
         errors.deadletterqueue.context.headers.enable = false\nplugin.path = \"{plugins}\"\nplugin.store = \"store\"\n\
         plugin.cache = \"{plugins}/../plugins-test/cache\"\n{RULES}",
        rig.input, rig.bootstrap
    );
    fs::write(rig.path("zone.toml"), zone).unwrap();
    rig.ran("zone.toml");
    let found = rig.read("ks-dead-of-zone", 1);
    assert_eq!(found.len(), 1, "{found:?}");
    let names: Vec<&str> = found[0]
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["trace", "weir.dead_letter.id"]);
    // A topic that is not there is named before anything is read.
    let absent = [
        "run",
        "zone.toml",
        "--available-now",
        "--set",
        "errors.deadletterqueue.topic.name=ks-dead-absent",
    ];
    let output = rig.weir(&absent).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("errors.deadletterqueue.topic.name"), "{said}");
}
