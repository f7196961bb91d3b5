//! A broker, two config files (RAW from a topic of JSON lines, PROCESSED from RAW) and the real program, used as a
//! person uses it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use arrow_cast::display::array_value_to_string;
use weir::commit::Role;
use weir::kafka::{KafkaProps, MockBroker, Outgoing, Producer};
use weir::store;
use weir::zone::read_file;

use crate::brokers::DEADLINE;
use crate::world::{open_log, plugins_dir};

pub const TOPIC: &str = "orders";

pub struct Lake {
    pub broker: MockBroker,
    pub dir: tempfile::TempDir,
}

/// What the program said, and how it ended.
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Lake {
    /// `columns`: lines of the transform's table.
    pub fn new(columns: &str) -> Lake {
        let broker = MockBroker::start().unwrap();
        broker.create_topic(TOPIC, 1).unwrap();
        let lake = Lake {
            broker,
            dir: tempfile::tempdir().unwrap(),
        };
        lake.raw(columns);
        lake.processed("", "");
        lake
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Runs RAW once into this zone, with these settings besides.
    pub fn raw_into(&self, zone: &str, set: &[&str]) -> Said {
        let url = format!("sink.url=file:{zone}");
        let mut args = vec!["run", "raw.toml", "--available-now", "--progress", "none"];
        args.extend(["--set", &url]);
        for one in set {
            args.extend(["--set", one]);
        }
        self.weir(&args)
    }

    pub fn raw(&self, columns: &str) {
        let plugins = plugins_dir();
        let text = format!(
            r#"
name = "raw"
[source]
type = "kafka"
bootstrap.servers = "{broker}"
topics = ["{TOPIC}"]
start = "earliest"
[[transforms]]
name = "columns"
type = "json-flatten@0.1"
{columns}
[sink]
type = "zone"
url = "file:zone"
[errors]
tolerance = "all"
[plugin]
path = "{plugins}"
store = "store"
cache = "{plugins}/../plugins-test/cache"
"#,
            broker = self.broker.bootstrap(),
            plugins = plugins.display()
        );
        fs::write(self.path("raw.toml"), text).unwrap();
    }

    /// With further lines below `[source]` and `[sink]`.
    pub fn processed(&self, source: &str, sink: &str) {
        let text = format!(
            r#"
name = "processed"
[source]
type = "zone"
url = "file:zone"
pipeline = "raw"
table = "{TOPIC}"
{source}
[sink]
type = "zone"
url = "file:processed"
table = "rows"
partition.field = "day"
partition.format = "%Y"
{sink}
[errors]
tolerance = "all"
"#
        );
        fs::write(self.path("processed.toml"), text).unwrap();
    }

    pub fn send(&self, lines: &[&str]) {
        let props = KafkaProps::new(self.broker.bootstrap(), "test", &BTreeMap::new()).unwrap();
        let producer = Producer::open(&props).unwrap();
        for line in lines {
            let out = Outgoing {
                value: Some(line.as_bytes()),
                partition: Some(0),
                ..Outgoing::default()
            };
            producer.send(TOPIC, out).unwrap();
        }
        producer.flush(DEADLINE).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.current_dir(self.dir.path()).args(args);
        command.stdin(Stdio::null());
        command
    }

    pub fn weir(&self, args: &[&str]) -> Said {
        Said::of(&self.command(args).output().unwrap())
    }

    pub fn run(&self, config: &str) -> Said {
        self.weir(&["run", config, "--available-now", "--progress", "none"])
    }

    /// A run that must end well.
    pub fn runs(&self, config: &str) {
        let said = self.run(config);
        assert_eq!(said.code, Some(0), "{}", said.err);
    }

    /// Rows of a pipeline's table, as `column=value`, in the order of their offsets; nulls are left out.
    pub fn rows(&self, pipeline: &str, root: &str) -> Vec<String> {
        let log = open_log(&self.path(root), pipeline, root).unwrap().unwrap();
        let store = store::open_url(&format!("file:{}", self.path(root).display())).unwrap();
        let mut rows = Vec::new();
        for live in log.state().live.values() {
            if live.file.role != Role::Rows {
                continue;
            }
            for batch in read_file(&store, log.name(), &live.file).unwrap() {
                let batch = batch.unwrap();
                for row in 0..batch.num_rows() {
                    let mut cells = Vec::new();
                    let mut offset = String::new();
                    let schema = batch.schema();
                    for (field, column) in schema.fields().iter().zip(batch.columns()) {
                        if field.name() == "_timestamp" {
                            continue; // a zone of its own has no name here
                        }
                        let value = array_value_to_string(column, row).unwrap();
                        if field.name() == "_offset" {
                            offset.clone_from(&value);
                        }
                        if !field.name().starts_with('_') && !value.is_empty() {
                            cells.push(format!("{}={value}", field.name()));
                        }
                    }
                    rows.push((offset.parse::<i64>().unwrap(), cells.join(" ")));
                }
            }
        }
        rows.sort();
        rows.into_iter().map(|(_, cells)| cells).collect()
    }
}

impl Said {
    pub fn of(output: &Output) -> Said {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said {
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Ended with 2, and said all of this on stderr.
    pub fn refused(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(2), "{}", self.err);
        for part in parts {
            assert!(self.err.contains(part), "{part} in {}", self.err);
        }
    }
}
