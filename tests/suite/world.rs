//! A broker, a directory and pipelines run inside the test's process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use weir::clock::{Clock, SystemClock};
use weir::commit::{Committed, Log, LogName, State, Writer};
use weir::config::{Location, PipelineConfig, from_map};
use weir::connectors::CATALOG;
use weir::error::{Error, Result};
use weir::kafka::{KafkaProps, MockBroker, Outgoing, Producer};
use weir::pipeline::{Ended, Ending, Report, Rest, Stages, Stop, run};
use weir::store;

pub const TOPIC: &str = "books";

/// Everything a pipeline told, in order, as short words.
#[derive(Debug, Default)]
pub struct Told(Mutex<Vec<String>>);

impl Told {
    pub fn count(&self, word: &str) -> usize {
        self.0
            .lock()
            .unwrap()
            .iter()
            .filter(|told| told.starts_with(word))
            .count()
    }

    pub fn last(&self, word: &str) -> Option<String> {
        let told = self.0.lock().unwrap();
        told.iter()
            .rev()
            .find(|told| told.starts_with(word))
            .cloned()
    }

    pub fn has(&self, word: &str) -> bool {
        self.count(word) > 0
    }

    fn push(&self, word: String) {
        self.0.lock().unwrap().push(word);
    }
}

impl Report for Told {
    fn started(&self, _: &PipelineConfig, state: &State) {
        self.push(format!("started {}", state.version));
    }
    fn committed(&self, committed: &Committed, _: &State, _: Duration) {
        self.push(format!("committed {}", committed.version));
    }
    fn swapped(&self, committed: &Committed) {
        self.push(format!("swapped {}", committed.version));
    }
    fn lag(&self, _: usize, _: Option<u64>) {}
    fn stages(&self, _: usize, _: Stages) {}
    fn resting(&self, why: Rest, next: Duration) {
        self.push(format!("resting {why:?} {}", next.as_secs()));
    }
    fn waiting(&self, error: &Error) {
        self.push(format!("waiting {error}"));
    }
    fn resumed(&self) {
        self.push("resumed".to_owned());
    }
    fn ended(&self, ending: &Ending<'_>) {
        self.push(match ending {
            Ending::Well { .. } => "ended".to_owned(),
            Ending::Failed(error) => format!("failed {error}"),
            Ending::NotBegun { .. } => "not begun".to_owned(),
        });
    }
}

#[derive(Debug)]
pub struct World {
    pub broker: MockBroker,
    pub dir: tempfile::TempDir,
    pub told: Arc<Told>,
    pub clock: Arc<dyn Clock>,
    pub stop: Stop,
}

impl World {
    pub fn new(partitions: i32) -> World {
        let broker = MockBroker::start().unwrap();
        broker.create_topic(TOPIC, partitions).unwrap();
        let clock = SystemClock::shared();
        let stop = Stop::new(clock.clone());
        let dir = tempfile::tempdir().unwrap();
        World {
            broker,
            dir,
            told: Arc::default(),
            clock,
            stop,
        }
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    pub fn produce<'a>(&self, records: impl Iterator<Item = (i32, &'a [u8])>) {
        self.send(TOPIC, records);
    }

    pub fn send<'a>(&self, topic: &str, records: impl Iterator<Item = (i32, &'a [u8])>) {
        let props = KafkaProps::new(self.broker.bootstrap(), "test", &BTreeMap::new()).unwrap();
        let producer = Producer::open(&props).unwrap();
        for (partition, value) in records {
            let out = Outgoing {
                value: Some(value),
                partition: Some(partition),
                ..Outgoing::default()
            };
            producer.send(topic, out).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    }

    /// A RAW pipeline of this world; `more` overrides.
    pub fn raw(&self, more: &[(&str, &str)]) -> PipelineConfig {
        let url = format!("file:{}", self.path("raw").display());
        let plugins = plugins_dir().display().to_string();
        let cache = self.path("cache").display().to_string();
        let mut map = BTreeMap::from([
            ("plugin.path", plugins.as_str()),
            ("plugin.cache", cache.as_str()),
            ("name", "raw"),
            ("source.type", "kafka"),
            ("source.topics", TOPIC),
            ("source.start", "earliest"),
            ("source.bootstrap.servers", self.broker.bootstrap()),
            ("sink.type", "zone"),
            ("sink.url", &url),
            ("trigger", "available-now"),
        ]);
        map.extend(more.iter().copied());
        from_map("test", map, &CATALOG).unwrap()
    }

    /// A pipeline of this world that makes its records, into the directory `name`.
    pub fn made(&self, name: &str, keys: &[(&str, &str)]) -> PipelineConfig {
        let url = format!("file:{}", self.path(name).display());
        let mut map = BTreeMap::from([("name", name), ("sink.type", "zone"), ("sink.url", &url)]);
        map.extend(keys.iter().copied());
        from_map("test", map, &CATALOG).unwrap()
    }

    /// A PROCESSED pipeline over it, into the directory `name`; `more` overrides.
    pub fn processed(&self, name: &str, more: &[(&str, &str)]) -> PipelineConfig {
        let raw = format!("file:{}", self.path("raw").display());
        let url = format!("file:{}", self.path(name).display());
        let mut map = BTreeMap::from([
            ("name", name),
            ("source.type", "zone"),
            ("source.url", raw.as_str()),
            ("source.pipeline", "raw"),
            ("source.table", TOPIC),
            ("sink.type", "zone"),
            ("sink.url", url.as_str()),
            ("sink.table", TOPIC),
            ("sink.partition.field", "_timestamp"),
            ("sink.partition.format", "%Y-%m-%d"),
            ("sink.partition.name", "date"),
            ("sink.dedup.key", "value"),
            ("trigger", "available-now"),
        ]);
        map.extend(more.iter().copied());
        from_map("test", map, &CATALOG).unwrap()
    }

    pub fn run(&self, configs: &[PipelineConfig]) -> Vec<Ended> {
        run(configs, &self.clock, &self.stop, &|_| self.told.clone())
    }

    /// Waits for something that must come; names it when it does not.
    pub fn until(&self, what: &str, done: impl Fn() -> bool) {
        let begun = self.clock.elapsed();
        while !done() {
            let waited = self.clock.elapsed() - begun;
            assert!(
                waited < Duration::from_secs(60),
                "{what} did not come: {:?}",
                self.told
            );
            self.clock.sleep(Duration::from_millis(10));
        }
    }

    pub fn log(&self, root: &str, pipeline: &str) -> Log {
        open_log(&self.path(root), pipeline, root).unwrap().unwrap()
    }
}

pub fn open_log(root: &Path, pipeline: &str, zone: &str) -> Result<Option<Log>> {
    let url = format!("file:{}", root.display());
    log_at(&Location::of(&url), pipeline, zone)
}

/// As others read it, wherever it is.
pub fn log_at(at: &Location, pipeline: &str, zone: &str) -> Result<Option<Log>> {
    let store = store::open(at)?;
    let clock = SystemClock::shared();
    let writer = Writer::this_process(clock.as_ref());
    Log::open(store, LogName::new(pipeline, zone), clock, writer)
}

/// Where `make plugins` puts them.
pub fn plugins_dir() -> PathBuf {
    match std::env::var_os("WEIR_TEST_PLUGINS") {
        Some(dir) => dir.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/plugins"),
    }
}
