//! Tests of `sink.type = "kafka"` against Apache Kafka run the whole program here, and read the topics as any reader of committed
//! records does.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use arrow_array::Array as _;
use arrow_array::cast::AsArray;
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
/// Records of the tests are years old: by default the broker would delete them when it looks, every five minutes.
pub(crate) const KEPT: (&str, &str) = ("retention.ms", "-1");
/// Of the records that are produced, in milliseconds.
pub(crate) const THEN: i64 = 1_700_000_000_123;

/// A directory, the program in it, and two topics of its own: `in` is read, `out` is written.
pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) bootstrap: String,
    pub(crate) input: String,
    pub(crate) output: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) headers: Vec<(String, Option<String>)>,
    /// Milliseconds.
    pub(crate) timestamp: i64,
}

impl Rig {
    pub(crate) fn new(broker: &Broker, name: &str, partitions: i32) -> Rig {
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

    pub(crate) fn create_with(&self, topic: &str, config: &[(&str, &str)]) {
        let admin = Admin::connect(&self.bootstrap).unwrap();
        let config = [&[KEPT], config].concat();
        admin.create_topic(topic, 1, &config).unwrap();
        self.shows(topic, 1);
    }

    pub(crate) fn create(&self, topic: &str, partitions: i32) {
        let admin = Admin::connect(&self.bootstrap).unwrap();
        admin.create_topic(topic, partitions, &[KEPT]).unwrap();
        self.shows(topic, partitions);
    }

    fn shows(&self, topic: &str, partitions: i32) {
        let cluster = KafkaCluster::connect(&self.props()).unwrap();
        until("the topic", || {
            let topic = cluster.describe(topic).ok()?;
            (topic.partitions.len() == partitions as usize).then_some(())
        });
    }

    pub(crate) fn props(&self) -> KafkaProps {
        KafkaProps::new(&self.bootstrap, "ks", &BTreeMap::new()).unwrap()
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// `sink`: lines of the config, of the sink and of transforms.
    pub(crate) fn declare(&self, name: &str, sink: &str) -> String {
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

    pub(crate) fn weir(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.current_dir(self.dir.path()).args(args);
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, file: &str) -> Output {
        let args = ["run", file, "--available-now", "--progress", "none"];
        self.weir(&args).output().unwrap()
    }

    pub(crate) fn ran(&self, file: &str) {
        let output = self.run(file);
        assert!(output.status.success(), "{output:?}");
    }

    pub(crate) fn spawn(&self, file: &str) -> Child {
        let mut command = self.weir(&["run", file, "--progress", "none"]);
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("weir.log"));
        command.stdout(Stdio::null()).stderr(log.unwrap());
        command.spawn().unwrap()
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.path("weir.log")).unwrap_or_default()
    }

    pub(crate) fn produce(&self, values: impl Iterator<Item = String>) {
        let producer = Producer::open(&self.props()).unwrap();
        for value in values {
            let out = Outgoing {
                key: Some(b"k"),
                value: Some(value.as_bytes()),
                headers: &[("trace", Some(b"t1"))],
                timestamp: Some(THEN),
                ..Outgoing::default()
            };
            producer.send(&self.input, out).unwrap();
        }
        producer.flush(FLUSH).unwrap();
    }

    /// At least so many records: a broker shows them a moment after it has committed them.
    pub(crate) fn read(&self, topic: &str, least: usize) -> Vec<Record> {
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
    pub(crate) fn read_now(&self, topic: &str) -> Vec<Record> {
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

    /// Ids of the packets in the outbox.
    pub(crate) fn packets(&self, pipeline: &str) -> Vec<String> {
        let outbox = self.path(&format!("home/_system/{pipeline}/home/outbox"));
        let files = fs::read_dir(outbox).into_iter().flatten().flatten();
        let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
        let ids = names.filter_map(|name| Some(name.split_once('@')?.0.to_owned()));
        ids.collect()
    }

    pub(crate) fn state<T>(&self, pipeline: &str, of: impl Fn(&State) -> T) -> T {
        of(open_log(&self.path("home"), pipeline, "home")
            .unwrap()
            .unwrap()
            .state())
    }

    /// Code and field of each dead letter.
    pub(crate) fn letters(&self, pipeline: &str) -> Vec<(String, Option<String>)> {
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
    pub(crate) fn settled(&self, pipeline: &str, total: u64) {
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

pub(crate) fn id_of(record: &Record) -> u64 {
    let value: Value = serde_json::from_str(record.value.as_ref().unwrap()).unwrap();
    value["id"].as_u64().unwrap()
}

/// JSON in, flattened by a transform, JSON out.
pub(crate) const RULES: &str = "[[transforms]]\nname = \"flatten\"\ntype = \"json-flatten\"\ncolumns = [\"id\", \"name\"]\ntypes.id = \"long\"\n";

pub(crate) fn message(id: u64) -> String {
    json!({ "id": id, "name": format!("book {id}") }).to_string()
}

pub(crate) fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}
