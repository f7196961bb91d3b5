//! A pipeline whose rows show which rules made them, the program that runs it, and the check that nothing was lost,
//! doubled or mixed.
//!
//! Every message holds one number. Rules `low` take numbers below fifty and refuse the others, rules `high` take the others:
//! what became of an offset says under which rules it was read, and the log says under which it should have been.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use serde_json::Value;
use weir::clock::SystemClock;
use weir::commit::{Entry, Kind, Log, LogName, Role, Rule, RulesPeriod, decode, verify};
use weir::config::Location;
use weir::kafka::{KafkaProps, Outgoing, Producer};
use weir::store::{self, Store};
use weir::zone::read_file;

use crate::brokers::files;
use crate::brokers::until;
use crate::object_servers::{credentials, declared};
use crate::world::{log_at, plugins_dir};

pub const PIPELINE: &str = "numbers";
/// `weir::store`'s switch for tests.
pub const ABORT_AT: &str = "WEIR_ABORT_AT";
pub const LOW: &str = "[columns.n]\nrequired = true\nmax = 49\n";
const LEVEL: &str = "info,weir::pipeline::task=debug";
const CONFIG: &str = "numbers.toml";

pub struct Rig {
    pub dir: tempfile::TempDir,
    bootstrap: String,
    topic: String,
    partitions: i32,
    zone: Zone,
}

/// Where the zone is, and the directory in which its files lie for whoever asks no store.
pub struct Zone {
    pub at: Location,
    pub files: PathBuf,
}

/// The number in the message at an offset.
pub fn number(partition: i32, offset: i64) -> i64 {
    (offset * 7 + i64::from(partition) * 13) % 100
}

pub fn message(partition: i32, offset: i64) -> String {
    format!("<m><r><n>{}</n></r></m>", number(partition, offset))
}

impl Rig {
    /// The topic must exist. Begins with rules `low`.
    pub fn new(bootstrap: &str, topic: &str, partitions: i32, more: &str) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let files = dir.path().join("zone");
        let at = Location::of(&format!("file:{}", files.display()));
        Rig::on(
            dir,
            (bootstrap, topic, partitions),
            Zone { at, files },
            more,
        )
    }

    /// With its zone somewhere else.
    pub fn on(
        dir: tempfile::TempDir,
        (bootstrap, topic, partitions): (&str, &str, i32),
        zone: Zone,
        more: &str,
    ) -> Rig {
        let rig = Rig {
            dir,
            zone,
            bootstrap: bootstrap.to_owned(),
            topic: topic.to_owned(),
            partitions,
        };
        fs::create_dir(rig.path("plugins")).unwrap();
        for plugin in ["xml-flatten.wasm", "validate.wasm"] {
            fs::copy(plugins_dir().join(plugin), rig.path("plugins").join(plugin)).unwrap();
        }
        let [low, high] = [rig.path("low.toml"), rig.path("high.toml")];
        fs::write(&low, LOW).unwrap();
        fs::write(&high, "[columns.n]\nrequired = true\nmin = 50\n").unwrap();
        rig.declare("low", more);
        rig
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Writes the config, with the rules that it names.
    pub fn declare(&self, rules: &str, more: &str) {
        let (dir, plugins) = (self.dir.path().display(), plugins_dir());
        let (topic, bootstrap, plugins) = (&self.topic, &self.bootstrap, plugins.display());
        let (url, reach) = (&self.zone.at.url, declared(&self.zone.at));
        let config = format!(
            r#"
name = "{PIPELINE}"
tasks.max = 2
{more}
[source]
type = "kafka"
bootstrap.servers = "{bootstrap}"
topics = ["{topic}"]
start = "earliest"
[[transforms]]
name = "flatten"
type = "xml-flatten"
row-tag = "r"
columns = ["n"]
types.n = "int"
[[transforms]]
name = "rules"
type = "validate"
rules = "{dir}/{rules}.toml"
[sink]
type = "zone"
url = "{url}"
{reach}
table = "numbers"
rotate.age = "200ms"
[errors]
tolerance = "all"
dlq.type = "zone"
[plugin]
path = "{dir}/plugins"
store = "{dir}/store"
cache = "{plugins}/../plugins-test/cache"
"#
        );
        fs::write(self.path(CONFIG), config).unwrap();
    }

    pub fn weir(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.current_dir(self.dir.path()).args(args);
        command.stdin(Stdio::null());
        command.envs(credentials());
        command
    }

    /// Another build of a plugin: the same code under another digest, by a custom section.
    pub fn rebuild(&self, plugin: &str, mark: u8) {
        let path = self.path("plugins").join(format!("{plugin}.wasm"));
        let mut bytes = fs::read(plugins_dir().join(format!("{plugin}.wasm"))).unwrap();
        bytes.extend([0, 6, 4, b'm', b'a', b'r', b'k', mark]);
        let fresh = self.path("fresh.wasm");
        fs::write(&fresh, bytes).unwrap();
        fs::rename(fresh, path).unwrap();
    }

    /// `weir run` of this pipeline; its log lines are in [`said`](Self::said).
    pub fn run(&self, flags: &[&str]) -> Command {
        let mut command = self.weir(&["run", CONFIG, "--progress", "none", "--log-level", LEVEL]);
        let log = self.path("weir.log");
        let log = OpenOptions::new().create(true).append(true).open(log);
        command.args(flags).stdout(Stdio::null());
        command.stderr(log.unwrap());
        command
    }

    /// The longest that a task was away from its records to go over to new rules, in microseconds.
    pub fn longest_change(&self) -> u64 {
        let said = self.said();
        let lines = said
            .lines()
            .filter(|l| l.contains("went over to new rules"));
        let micros = lines.filter_map(|line| {
            line.split("micros=")
                .nth(1)?
                .split(' ')
                .next()?
                .parse()
                .ok()
        });
        micros.max().unwrap_or(0)
    }

    pub fn said(&self) -> String {
        fs::read_to_string(self.path("weir.log")).unwrap_or_default()
    }

    /// A running process that has begun to read.
    pub fn running(&self) -> Running<'_> {
        let begun = self.said().matches("pipeline started").count();
        let child = self.run(&[]).spawn().unwrap();
        let running = Running(self, Some(child));
        until("the pipeline's start", || {
            (self.said().matches("pipeline started").count() > begun).then_some(())
        });
        running
    }

    /// `weir pipeline VERB`.
    pub fn pipeline(&self, args: &[&str]) -> Output {
        let mut all = vec!["pipeline", args[0], CONFIG];
        all.extend(&args[1..]);
        self.weir(&all).output().unwrap()
    }

    /// The same, with what it printed as JSON; it must succeed.
    pub fn asked(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.push("--json");
        let output = self.pipeline(&all);
        assert!(
            output.status.success(),
            "{args:?}: {output:?}\n{}",
            self.said()
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Puts `low` or `high` in force without an edit of the config.
    pub fn swap_to(&self, rules: &str) -> Value {
        self.asked(&["swap", "--reload", "--set", &self.set(rules)])
    }

    pub fn set(&self, rules: &str) -> String {
        format!(
            "transforms.rules.rules={}",
            self.path(&format!("{rules}.toml")).display()
        )
    }

    pub fn log(&self) -> Log {
        log_at(&self.zone.at, PIPELINE, "zone").unwrap().unwrap()
    }

    pub fn store(&self) -> Arc<dyn Store> {
        store::open(&self.zone.at).unwrap()
    }

    pub fn periods(&self) -> Vec<RulesPeriod> {
        let log = self.log();
        log.state().periods.clone()
    }

    /// `low` or `high`, by the config that the plugin store keeps.
    pub fn name_of(&self, rules: &[Rule]) -> &'static str {
        let digest = rules.iter().find(|r| r.transform == "rules").unwrap();
        let hex = digest.config.trim_start_matches("sha256:");
        let kept = self.path(&format!("store/configs/{hex}.json"));
        let kept = fs::read_to_string(&kept).unwrap_or_else(|e| panic!("{}: {e}", kept.display()));
        match kept.contains("low.toml") {
            true => "low",
            false => "high",
        }
    }

    pub fn in_force(&self) -> &'static str {
        self.name_of(&self.log().state().rules.transforms)
    }

    /// Takes what is there, with no other process.
    pub fn catch_up(&self) {
        let status = self.run(&["--available-now"]).status().unwrap();
        assert!(status.success(), "{}", self.said());
    }

    pub fn entries(&self) -> Vec<Entry> {
        let log = self.log();
        let store = self.store();
        let entry = |version| {
            let path = log.name().entry(version);
            decode(&store.get(&path).unwrap().unwrap(), &path).unwrap()
        };
        (0..=log.version()).map(entry).collect()
    }

    /// Every offset of the topic once, in rows or in dead letters, by the rules of the entry that settled it; log, files and
    /// digests agree; nothing else shows.
    pub fn exact(&self, messages: i64) {
        let (log, store) = (self.log(), self.store());
        let name = LogName::new(PIPELINE, "zone");
        let ends: i64 = log.state().splits.values().map(|c| c.to).sum();
        assert_eq!(ends, messages, "every offset is covered: {}", self.said());
        assert!(log.state().totals().closes());
        let verified = verify(store.as_ref(), &name).unwrap().unwrap();
        assert!(verified.problems.is_empty(), "{:?}", verified.problems);

        let mut expected: BTreeMap<(i32, i64), (bool, u64)> = BTreeMap::new();
        let mut rewinds = BTreeSet::new();
        for entry in self.entries() {
            if entry.kind == Kind::Rewind {
                rewinds.insert(entry.version);
                for span in &entry.spans {
                    let partition = log.state().splits[&span.split].partition;
                    expected.retain(|(p, offset), _| *p != partition || *offset < span.to);
                }
            }
            let Some(rules) = entry.rules.filter(|_| entry.kind == Kind::Data) else {
                continue;
            };
            let high = self.name_of(&rules.transforms) == "high";
            for span in &entry.spans {
                let partition = log.state().splits[&span.split].partition;
                for offset in span.from..span.to {
                    let row = (number(partition, offset) >= 50) == high;
                    let before = expected.insert((partition, offset), (row, entry.version));
                    assert_eq!(before, None, "settled twice");
                }
            }
        }
        assert_eq!(expected.len() as i64, messages);
        let mut seen = BTreeSet::new();
        for live in log.state().live.values() {
            let rows = live.file.role == Role::Rows;
            for batch in read_file(&store, &name, &live.file).unwrap() {
                for at in coordinates(&batch.unwrap()) {
                    let (row, version) = expected[&at];
                    // The rest of a file that a rewind cut keeps its rows.
                    let rest = rewinds.contains(&live.version) && version < live.version;
                    let of = if rest { live.version } else { version };
                    assert_eq!((rows, live.version), (row, of), "{at:?} is of other rules");
                    assert!(seen.insert(at), "{at:?} twice");
                }
            }
        }
        assert_eq!(seen.len(), expected.len(), "nothing is lost");
        let (shown, live) = self.shown();
        assert_eq!(shown, live, "what is listed is what is live");
    }

    /// How many files are listed, and how many are live: a commit is published a moment after its entry.
    pub fn shown(&self) -> (usize, usize) {
        let listed = |table: &str| files(&self.zone.files.join(table), ".parquet").len();
        let live = self.log().state().live.len();
        (listed("numbers") + listed("dead_letters"), live)
    }
}

pub fn coordinates(batch: &RecordBatch) -> Vec<(i32, i64)> {
    let column = |name| batch.column_by_name(name).unwrap();
    let partitions = column("_partition").as_primitive::<Int32Type>();
    let offsets = column("_offset").as_primitive::<Int64Type>();
    let rows = 0..batch.num_rows();
    rows.map(|i| (partitions.value(i), offsets.value(i)))
        .collect()
}

/// A child that is killed when the test ends, however it ends.
pub struct Running<'a>(&'a Rig, Option<Child>);

impl Running<'_> {
    /// SIGTERM, and a clean end.
    pub fn stop(mut self) {
        let mut child = self.1.take().unwrap();
        let pid = child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        let end = child.wait().unwrap();
        assert!(end.success(), "{end:?}: {}", self.0.said());
    }

    pub fn alive(&mut self) -> bool {
        self.1.as_mut().unwrap().try_wait().unwrap().is_none()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.1.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Sends messages to every partition in turn, from offset 0 on, until told to stop; says how many there were.
pub struct Load {
    done: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<i64>,
}

impl Load {
    /// `pause` between rounds of `round` messages for each partition.
    pub fn start(rig: &Rig, round: i64, pause: std::time::Duration) -> Load {
        Load::from(rig, 0, round, pause)
    }

    /// From this offset on.
    pub fn from(rig: &Rig, first: i64, round: i64, pause: std::time::Duration) -> Load {
        let done = Arc::new(AtomicBool::new(false));
        let props = KafkaProps::new(&rig.bootstrap, "load", &BTreeMap::new()).unwrap();
        let (topic, partitions, stop) = (rig.topic.clone(), rig.partitions, done.clone());
        let thread = std::thread::spawn(move || {
            let producer = Producer::open(&props).unwrap();
            let clock = SystemClock::shared();
            let mut offset = first;
            while !stop.load(Ordering::SeqCst) {
                send(&producer, &topic, partitions, offset..offset + round);
                offset += round;
                clock.sleep(pause);
            }
            producer.flush(std::time::Duration::from_secs(60)).unwrap();
            offset * i64::from(partitions)
        });
        Load { done, thread }
    }

    pub fn end(self) -> i64 {
        self.done.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// These offsets of every partition.
pub fn produce(rig: &Rig, offsets: std::ops::Range<i64>) {
    let props = KafkaProps::new(&rig.bootstrap, "load", &BTreeMap::new()).unwrap();
    let producer = Producer::open(&props).unwrap();
    send(&producer, &rig.topic, rig.partitions, offsets);
    producer.flush(std::time::Duration::from_secs(60)).unwrap();
}

fn send(producer: &Producer, topic: &str, partitions: i32, offsets: std::ops::Range<i64>) {
    for offset in offsets {
        for partition in 0..partitions {
            let value = message(partition, offset);
            let out = Outgoing {
                value: Some(value.as_bytes()),
                partition: Some(partition),
                ..Outgoing::default()
            };
            producer.send(topic, out).unwrap();
        }
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
