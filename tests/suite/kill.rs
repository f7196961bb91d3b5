//! The whole program against Apache Kafka, killed again and again: nothing lost, nothing doubled, at any moment.
//!
//! A producer sends dirty book messages; `weir run` runs both pipelines; SIGKILL comes at random moments, fifty times.
//! Meanwhile DuckDB counts the zones by plain listing, as any user's engine would.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use weir::clock::SystemClock;
use weir::commit::{Log, Role, verify};
use weir::config::Location;
use weir::kafka::KafkaProps;
use weir::kafka::testkit::Admin;
use weir::sample::{self, Dirty, ProduceOptions, Tally};
use weir::store;

use crate::brokers::{Broker, DuckDb, Row, kafka, until};
use crate::object_servers::reach;
use crate::world::{log_at, plugins_dir};

pub const KILLS: u32 = 50;
const PARTITIONS: i32 = 4;
/// Runs of the steps test side by side.
const LANES: u64 = 4;
/// Long enough to commit now and then, short enough that most kills hit something half done.
pub const LIFE_MILLIS: std::ops::Range<u64> = 150..1_600;
pub const SEED: u64 = 11;
/// `weir::store`'s switch for tests.
pub const ABORT_AT: &str = "WEIR_ABORT_AT";
const MESSAGES_PER_SECOND: f64 = 600.0;

/// A topic of books, and the zones that both pipelines of `conf/` make of it.
pub struct Estate {
    pub dir: tempfile::TempDir,
    pub topic: String,
    pub bootstrap: String,
    /// `None`: the zones are in the directory.
    pub bucket: Option<Location>,
}

impl Estate {
    pub fn weir(&self, flags: &[&str]) -> Command {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let (raw, processed) = (self.at("raw_zone").url, self.at("processed_zone").url);
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command
            .current_dir(root)
            .args(["run", "conf/books-raw.toml", "conf/books-processed.toml"]);
        command.args(["--progress", "none", "--log-level", "info"]);
        for set in [
            format!("source.bootstrap.servers={}", self.bootstrap),
            format!("source.topics={}", self.topic),
            format!("books-raw:sink.url={raw}"),
            "books-raw:sink.table=books".to_owned(),
            "books-raw:sink.rotate.age=200ms".to_owned(),
            format!("books-processed:source.url={raw}"),
            "books-processed:source.table=books".to_owned(),
            format!("books-processed:sink.url={processed}"),
            "books-processed:trigger=every:1s".to_owned(),
            format!("plugin.path={}", plugins_dir().display()),
            "plugin.cache=target/plugins-test/cache".to_owned(),
        ] {
            command.args(["--set", &set]);
        }
        if let Some(bucket) = &self.bucket {
            for keys in [
                "books-raw:sink",
                "books-processed:source",
                "books-processed:sink",
            ] {
                reach(&mut command, bucket, keys);
            }
        }
        command
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let log = self.dir.path().join("weir.log");
        command.stderr(
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(log)
                .unwrap(),
        );
        command
    }

    pub fn at(&self, zone: &str) -> Location {
        match &self.bucket {
            None => Location::of(&format!("file:{}", self.dir.path().join(zone).display())),
            Some(bucket) => Location {
                url: format!("{}/{zone}", bucket.url),
                options: bucket.options.clone(),
            },
        }
    }

    pub fn log(&self, pipeline: &str, zone: &str) -> Log {
        log_at(&self.at(zone), pipeline, zone).unwrap().unwrap()
    }

    fn glob(&self, table: &str) -> String {
        format!("{}/{table}/**/*.parquet", self.dir.path().display())
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("weir.log")).unwrap_or_default()
    }
}

impl Estate {
    pub fn new(broker: &Broker, topic: &str) -> Estate {
        let admin = Admin::connect(broker.bootstrap()).unwrap();
        admin.create_topic(topic, PARTITIONS, &[]).unwrap();
        let bootstrap = broker.bootstrap().to_owned();
        Estate {
            dir: tempfile::tempdir().unwrap(),
            topic: topic.to_owned(),
            bootstrap,
            bucket: None,
        }
    }

    /// Other zones for the same topic.
    pub fn again(&self) -> Estate {
        let (topic, bootstrap) = (self.topic.clone(), self.bootstrap.clone());
        Estate {
            dir: tempfile::tempdir().unwrap(),
            topic,
            bootstrap,
            bucket: None,
        }
    }
}

pub fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn fifty_kills_lose_nothing_and_double_nothing() {
    let (Some(broker), Some(mut duckdb)) = (kafka(), DuckDb::start()) else {
        return;
    };
    let estate = Estate::new(broker, "kill-books");
    let done = Arc::new(AtomicBool::new(false));
    let producer = produce(&estate, None, done.clone());

    let clock = SystemClock::shared();
    let mut rng = SmallRng::seed_from_u64(SEED);
    let mut listed = Listed::default();
    for round in 0..KILLS {
        let mut child = estate.weir(&[]).spawn().unwrap();
        let life = Duration::from_millis(rng.random_range(LIFE_MILLIS));
        let until = clock.elapsed() + life;
        while clock.elapsed() < until {
            listed.look(&estate, &mut duckdb);
            assert!(
                child.try_wait().unwrap().is_none(),
                "round {round}: it ended: {}",
                estate.said()
            );
        }
        kill(child);
        listed.look(&estate, &mut duckdb);
    }
    done.store(true, Ordering::Relaxed);
    let produced = producer.join().unwrap();
    let status = estate.weir(&["--available-now"]).status().unwrap();
    assert!(status.success(), "{}", estate.said());
    listed.look(&estate, &mut duckdb);
    assert!(listed.raw > 0 && listed.processed > 0);
    settled(&estate, &produced, &mut duckdb);
    println!(
        "{KILLS} kills, {} looks, {} messages, {} rows, {} dead letters, {} books",
        listed.looks, produced.messages, listed.raw, listed.letters, listed.processed
    );
}

/// Before each change of either store, in turn: the process ends there, the next one finishes the job.
#[test]
fn an_end_at_every_durable_step_loses_nothing_and_doubles_nothing() {
    let Some(broker) = kafka() else { return };
    let first = Estate::new(broker, "step-books");
    let produced = produce(&first, Some(300), Arc::default()).join().unwrap();
    // Most of it is waiting, so several go on side by side, each with every n-th step.
    let steps: Vec<u64> = std::thread::scope(|scope| {
        let ends_at = |begin| end_at_steps(&first, &produced, begin);
        let lanes: Vec<_> = (0..LANES)
            .map(|begin| scope.spawn(move || ends_at(begin)))
            .collect();
        lanes
            .into_iter()
            .filter_map(|lane| lane.join().unwrap())
            .collect()
    });
    let Some(steps) = steps.iter().min() else {
        return;
    };
    assert!(*steps > 30, "only {steps} steps: is the variable heard?");
    println!("{steps} steps");
}

/// From step `begin` on, every [`LANES`]-th; the first that a whole run does not reach. `None`: DuckDB cannot run.
fn end_at_steps(first: &Estate, produced: &Tally, begin: u64) -> Option<u64> {
    let mut duckdb = DuckDb::start()?;
    for step in (begin..).step_by(LANES as usize) {
        let estate = first.again();
        let mut listed = Listed::default();
        let status = estate
            .weir(&["--available-now"])
            .env(ABORT_AT, step.to_string())
            .status();
        let ended_by_itself = status.unwrap().success();
        listed.look(&estate, &mut duckdb);
        let status = estate.weir(&["--available-now"]).status().unwrap();
        assert!(status.success(), "after step {step}: {}", estate.said());
        listed.look(&estate, &mut duckdb);
        settled(&estate, produced, &mut duckdb);
        if ended_by_itself {
            return Some(step);
        }
    }
    None
}

/// `count: None`: until done.
pub fn produce(
    estate: &Estate,
    count: Option<u64>,
    done: Arc<AtomicBool>,
) -> std::thread::JoinHandle<Tally> {
    let props = KafkaProps::new(&estate.bootstrap, "kill-producer", &BTreeMap::new()).unwrap();
    let options = ProduceOptions {
        topic: estate.topic.clone(),
        count,
        rate: if count.is_some() {
            0.0
        } else {
            MESSAGES_PER_SECOND
        },
        seed: SEED,
        dirty: Dirty::SOME,
    };
    std::thread::spawn(move || {
        let clock = SystemClock::shared();
        sample::produce(&props, &options, &clock, &done, &mut |_| {})
            .unwrap()
            .tally
    })
}

/// What plain listings have shown so far; it may only grow, and nothing may show twice.
#[derive(Default)]
struct Listed {
    looks: u32,
    raw: u64,
    letters: u64,
    processed: u64,
}

impl Listed {
    fn look(&mut self, estate: &Estate, duckdb: &mut DuckDb) {
        self.looks += 1;
        let coordinates = "(_topic, _partition, _offset, _row)";
        let counts = [
            (&mut self.raw, "raw_zone/books", coordinates),
            (&mut self.letters, "raw_zone/dead_letters", coordinates),
            (&mut self.processed, "processed_zone/books", "record_id"),
        ];
        for (seen, table, identity) in counts {
            if crate::brokers::files(&estate.dir.path().join(table), ".parquet").is_empty() {
                continue;
            }
            let sql = format!(
                "select count(*) as n, count(distinct {identity}) as d from read_parquet('{}', union_by_name = true)",
                estate.glob(table)
            );
            let rows = duckdb.query(&sql).unwrap();
            let (n, distinct) = (number(&rows[0], "n"), number(&rows[0], "d"));
            assert_eq!(n, distinct, "{table}: a row shows twice");
            assert!(n >= *seen, "{table}: {n} rows listed, {seen} before");
            *seen = n;
        }
    }
}

fn number(row: &Row, name: &str) -> u64 {
    let value = &row[name];
    value
        .as_u64()
        .or_else(|| value.as_str()?.parse().ok())
        .unwrap()
}

/// Every message of the topic once in rows or letters; every book once in PROCESSED; logs, files and digests agree.
fn settled(estate: &Estate, produced: &Tally, duckdb: &mut DuckDb) {
    let raw = logs_agree(estate, produced);

    // By another engine, without the log.
    let union = format!(
        "select count(*) as n, count(distinct (_topic, _partition, _offset)) as records, \
         count(distinct (_topic, _partition, _offset, _row)) as d from (\
         select _topic, _partition, _offset, _row from read_parquet('{}') union all \
         select _topic, _partition, _offset, coalesce(_row, -1) from read_parquet('{}'))",
        estate.glob("raw_zone/books"),
        estate.glob("raw_zone/dead_letters")
    );
    let rows = duckdb.query(&union).unwrap();
    assert_eq!(number(&rows[0], "n"), number(&rows[0], "d"));
    assert_eq!(number(&rows[0], "records"), produced.messages);
    let live = |role| {
        raw.state()
            .live
            .values()
            .filter(move |l| l.file.role == role)
            .count()
    };
    let listed =
        |table: &str| crate::brokers::files(&estate.dir.path().join(table), ".parquet").len();
    assert_eq!(live(Role::Rows), listed("raw_zone/books"));
    assert_eq!(live(Role::DeadLetters), listed("raw_zone/dead_letters"));
    until("an empty staging directory", || {
        let staging = estate
            .dir
            .path()
            .join("raw_zone/_system/books-raw/raw_zone/staging");
        // What a killed writer had not finished (`#`, collected once it is ten minutes old), and empty probes.
        let mut left = crate::brokers::files(&staging, "");
        left.retain(|f| !f.to_string_lossy().contains("/.probe-"));
        left.iter()
            .all(|f| f.to_string_lossy().contains('#'))
            .then_some(())
    });
}

/// What the logs say is what was produced, and what the stores hold is what the logs say. The log of RAW.
pub fn logs_agree(estate: &Estate, produced: &Tally) -> Log {
    let raw = estate.log("books-raw", "raw_zone");
    let totals = raw.state().totals();
    assert!(totals.closes());
    assert_eq!(totals.records.read, produced.messages);
    let refused = produced.bad_year + produced.missing;
    assert_eq!(totals.rows.refused, refused);
    assert_eq!(totals.dead_letters, produced.malformed + refused);
    assert_eq!(totals.rows.written, produced.books - refused);
    let offsets: i64 = raw.state().splits.values().map(|c| c.to).sum();
    assert_eq!(
        offsets as u64, produced.messages,
        "every offset of the topic is covered"
    );

    let processed = estate.log("books-processed", "processed_zone");
    let totals = processed.state().totals();
    assert!(totals.closes() && processed.state().plan.is_none());
    assert_eq!(totals.rows.duplicates, produced.repeated);
    assert_eq!(totals.rows.written, produced.unique);
    for (log, zone) in [(&raw, "raw_zone"), (&processed, "processed_zone")] {
        let store = store::open(&estate.at(zone)).unwrap();
        let verified = verify(store.as_ref(), log.name()).unwrap().unwrap();
        assert!(
            verified.problems.is_empty(),
            "{zone}: {:?}",
            verified.problems
        );
    }
    raw
}
