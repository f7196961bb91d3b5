//! `weir demo`: the whole system at work in a minute, on real input, with a kill -9 in the middle.
//!
//! This process is broker, producer and narrator; the pipelines run in a child, as a user would run them, so that SIGKILL
//! takes all of them at once and nothing of the broker. Every number it prints is read back from the logs and files that
//! it leaves behind, and stands in `summary.json`.

mod child;
mod outcome;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;

use super::{Exit, say};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Kind, Result};
use crate::kafka::{KafkaProps, MockBroker};
use crate::source::books::{self, Dirty, ProduceOptions};
use crate::telemetry::{bytes, count};
use child::Child;

const TOPIC: &str = "book_data_topic";
const RAW: &str = "conf/books-raw.toml";
const PROCESSED: &str = "conf/books-processed.toml";
/// Written first, so that a later demo knows what it may remove.
const MARKER: &str = ".weir-demo";
/// Seconds over which the messages are spread, so that there is a middle to be killed in.
const SECONDS: u64 = 10;
/// The child is killed after so many commits of RAW.
const KILL_AFTER: u64 = 3;
/// Nothing in the demo takes longer than this; if it does, something is wrong and it says what.
const PATIENCE: Duration = Duration::from_secs(120);

/// See the whole system at work in a minute: broker, messages, two pipelines, a kill in the middle.
///
/// Starts an embedded broker for trying out, sends seeded XML messages, some of them broken, runs conf/books-raw.toml and
/// conf/books-processed.toml in a child process, kills it with SIGKILL in the middle, starts it again, and shows that
/// nothing was lost or doubled. Everything stays in --dir, with a summary.json.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Where everything is written; what an earlier demo left there is removed
    #[arg(long, value_name = "DIR", default_value = "target/demo")]
    pub dir: PathBuf,
    /// How many messages
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=30_000))]
    pub messages: u64,
    /// Seed of the sample data
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Partitions of the topic; the embedded broker keeps 5 MiB of each
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(i32).range(6..=64))]
    pub partitions: i32,
    /// Do not kill the child in the middle
    #[arg(long)]
    pub no_kill: bool,
    /// Directory of the plugins
    #[arg(long, value_name = "DIR", default_value = "target/plugins")]
    pub plugin_path: PathBuf,
}

pub(super) fn demo(args: &DemoArgs) -> Result<Exit> {
    for file in [RAW, PROCESSED] {
        if !Path::new(file).exists() {
            return Err(
                Error::new(Kind::ConfigInvalid, "demo", format!("{file} is not here"))
                    .hint("run the demo in the project's directory: make demo"),
            );
        }
    }
    let clock = SystemClock::shared();
    let begun = clock.elapsed();
    prepare(&args.dir)?;
    say("Weir demo: XML from Kafka, two rules in WebAssembly, two zones of Parquet, one kill -9.");
    let broker = MockBroker::start()?;
    broker.create_topic(TOPIC, args.partitions)?;
    say(format!(
        "broker     {} ({} partitions of {TOPIC}; librdkafka's mock cluster in this process: for trying out, it keeps nothing)",
        broker.bootstrap(),
        args.partitions
    ));
    let (produced, kill) = run_live(args, &broker, &clock)?;
    say(format!(
        "produced   {} messages, {} books, {} of XML; {} malformed messages, {} bad years, {} missing fields, {} repeated books",
        count(produced.tally.messages),
        count(produced.tally.books),
        bytes(produced.tally.bytes),
        produced.tally.malformed,
        produced.tally.bad_year,
        produced.tally.missing,
        produced.tally.repeated
    ));
    finish(args, &broker, &clock)?;
    let places = Places::of(&args.dir);
    let outcome = outcome::read(&places, &produced.tally, kill)?;
    outcome.print(clock.elapsed().saturating_sub(begun))?;
    outcome.write(&args.dir.join("summary.json"))?;
    say(format!(
        "summary    {}",
        args.dir.join("summary.json").display()
    ));
    next_steps(&places);
    Ok(if outcome.holds() {
        Exit::Ok
    } else {
        Exit::Failed
    })
}

/// Where the demo's zones lie.
struct Places {
    raw: PathBuf,
    processed: PathBuf,
}

impl Places {
    fn of(dir: &Path) -> Places {
        Places {
            raw: dir.join("raw_zone"),
            processed: dir.join("processed_zone"),
        }
    }
}

fn prepare(dir: &Path) -> Result<()> {
    let failed = |e: std::io::Error| {
        Error::new(
            Kind::StoreUnavailable,
            "demo.prepare",
            "the directory cannot be made ready",
        )
        .with("dir", dir.display())
        .source(e)
    };
    let marker = dir.join(MARKER);
    let empty = fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
    if !empty && !marker.exists() {
        return Err(Error::new(
            Kind::ConfigInvalid,
            "demo.prepare",
            format!("{} holds something that is not a demo's", dir.display()),
        )
        .hint("name another directory with --dir, or remove it yourself"));
    }
    if !empty {
        fs::remove_dir_all(dir).map_err(failed)?;
    }
    fs::create_dir_all(dir).map_err(failed)?;
    fs::write(&marker, b"").map_err(failed)
}

/// Messages arrive while the pipelines run; in the middle the child is killed and started again.
fn run_live(
    args: &DemoArgs,
    broker: &MockBroker,
    clock: &Arc<dyn Clock>,
) -> Result<(books::Report, Option<outcome::Kill>)> {
    let options = ProduceOptions {
        topic: TOPIC.to_owned(),
        count: Some(args.messages),
        rate: (args.messages as f64 / SECONDS as f64).max(1.0),
        seed: args.seed,
        dirty: Dirty::SOME,
    };
    let props = KafkaProps::new(broker.bootstrap(), "weir-demo-producer", &BTreeMap::new())?;
    let producer = {
        let clock = clock.clone();
        let never = AtomicBool::new(false);
        std::thread::spawn(move || books::produce(&props, &options, &clock, &never, &mut |_| {}))
    };
    let mut child = Child::start(args, broker, "run-1", &[])?;
    let mut kill = None;
    if !args.no_kill {
        child.until(clock, PATIENCE, "commits", |seen| {
            seen.raw_commits >= KILL_AFTER
        })?;
        let before = child.seen().clone();
        child.kill()?;
        say(format!(
            "✗ killed   SIGKILL after commit {} of books-raw, {} records in; both pipelines are gone at once",
            before.raw_version,
            count(before.raw_records)
        ));
        let again = clock.elapsed();
        child = Child::start(args, broker, "run-2", &[])?;
        child.until(clock, PATIENCE, "a commit after the kill", |seen| {
            seen.raw_commits >= 1
        })?;
        let took = clock.elapsed().saturating_sub(again);
        let seen = child.seen().clone();
        let at = seen.raw_starts.first().cloned().unwrap_or_default();
        say(format!(
            "✓ back     first new commit {:.1} s after the start, from {at}: the position is the log's",
            took.as_secs_f64()
        ));
        kill = Some(outcome::Kill {
            version: before.raw_version,
            records: before.raw_records,
            first_commit_after_seconds: took.as_secs_f64(),
            went_on_at: seen.raw_starts,
        });
    }
    let joined = producer.join();
    let produced = joined.map_err(|_| Error::new(Kind::Bug, "demo", "the producer panicked"))??;
    child.stop(clock, PATIENCE)?;
    say("stopped    SIGTERM: what was read is committed, the child ended with 0");
    Ok((produced, kill))
}

/// `--available-now`: take what is left, commit, exit 0.
fn finish(args: &DemoArgs, broker: &MockBroker, clock: &Arc<dyn Clock>) -> Result<()> {
    let mut child = Child::start(args, broker, "run-last", &["--available-now"])?;
    child.wait(clock, PATIENCE)?;
    say("finished   weir run … --available-now took what was left and ended with 0");
    Ok(())
}

fn next_steps(places: &Places) {
    let (raw, processed) = (places.raw.display(), places.processed.display());
    say(format!(
        "\nLook around:\n  \
         weir log {raw}                 every commit: offsets, rows, files, rule digests (--verify proves them)\n  \
         weir dlq ls {raw}              what was refused, by reason\n  \
         weir dlq show {raw} --code bad_int -n 1\n  \
         weir zone ls {processed}\n  \
         duckdb -c \"select year, count(*) from read_parquet('{processed}/books/**/*.parquet', hive_partitioning = true) group by 1 order by 1\"\n\
         Your own broker:\n  \
         weir produce books --bootstrap-server localhost:9092 --count 10000 --dirty\n  \
         weir run conf/books-raw.toml conf/books-processed.toml --set source.bootstrap.servers=localhost:9092\n\
         (weir is target/debug/weir)"
    ));
}
