//! `weir demo`: runs the whole system for a minute, on real input, with a kill -9 in the middle.
//!
//! This process is broker, producer and narrator; the pipelines run in a child, as a user would run them, so that
//! SIGKILL takes all of them at once and nothing of the broker. Every number that it prints is read back from the logs
//! and files that it leaves behind, and is in `summary.json`.

mod child;
mod outcome;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;

use super::{Exit, say_lines, say_words};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Kind, Result};
use crate::kafka::{KafkaProps, MockBroker};
use crate::plugin::{self, Plugins};
use crate::sample::{self, Dirty, ProduceOptions};
use crate::telemetry::{bytes, count, time};
use child::Child;

const TOPIC: &str = "book_data_topic";
const RAW: &str = "conf/books-raw.toml";
const PROCESSED: &str = "conf/books-processed.toml";
/// Its configs and rules, built into the program: a demo needs no file of the project.
const CONF: [(&str, &str); 3] = [
    (RAW, include_str!("../../../conf/books-raw.toml")),
    (
        PROCESSED,
        include_str!("../../../conf/books-processed.toml"),
    ),
    (
        "conf/rules/books.toml",
        include_str!("../../../conf/rules/books.toml"),
    ),
];
/// Written first, so that a later demo knows what it may remove.
const MARKER: &str = ".weir-demo";
const RAW_ZONE: &str = "raw_zone";
const PROCESSED_ZONE: &str = "processed_zone";
const PLUGINS: &str = "plugins";
/// What a demo makes and the next one removes. Compiled plugins stay; all other files in the directory belong to the
/// user.
const MADE: [&str; 3] = [RAW_ZONE, PROCESSED_ZONE, "conf"];
/// Seconds over which the messages are spread, so that the child can be killed in the middle.
const SECONDS: u64 = 10;
/// The child is killed after this many commits of RAW.
const KILL_AFTER: u64 = 3;
/// Time limit of each step of the demo; after it the demo fails and says at which step.
const PATIENCE: Duration = Duration::from_secs(120);

/// See the whole system at work in a minute: broker, messages, two pipelines, a kill in the middle.
///
/// Starts an embedded broker for trying out, sends seeded XML messages, some of them broken, runs two pipelines in a child
/// process, kills it with SIGKILL in the middle, starts it again, and shows that nothing was lost or doubled. Configs,
/// rules, zones and a summary.json stay in --dir.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Where everything is written; files of an earlier demo there are removed
    #[arg(long, value_name = "DIR", default_value = "weir-demo")]
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
    /// Directory of other builds of the plugins; without it the shipped ones run
    #[arg(long, value_name = "DIR")]
    pub plugin_path: Option<PathBuf>,
}

pub(super) fn demo(args: &DemoArgs) -> Result<Exit> {
    let clock = SystemClock::shared();
    let begun = clock.elapsed();
    prepare(&args.dir)?;
    say_words(
        "Weir demo: XML from Kafka, two rules in WebAssembly, two zones of Parquet, one kill -9.",
    );
    compile(args, &clock)?;
    let broker = MockBroker::start()?;
    broker.create_topic(TOPIC, args.partitions)?;
    say_words(format!(
        "broker     {} ({} partitions of {TOPIC}; librdkafka's mock cluster, for trying out)",
        broker.bootstrap(),
        args.partitions
    ));
    let (produced, kill) = run_live(args, &broker, &clock)?;
    say_words(format!(
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
    say_words(format!(
        "summary    {}",
        args.dir.join("summary.json").display()
    ));
    next_steps(&args.dir);
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
            raw: dir.join(RAW_ZONE),
            processed: dir.join(PROCESSED_ZONE),
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
    for made in MADE.map(|name| dir.join(name)) {
        match fs::remove_dir_all(&made) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
    }
    fs::create_dir_all(dir).map_err(failed)?;
    fs::write(&marker, b"").map_err(failed)?;
    for (name, text) in CONF {
        let file = dir.join(name);
        let folder = file.parent().unwrap_or(dir);
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&file, text))
            .map_err(failed)?;
    }
    Ok(())
}

/// Done before time is measured: on a busy machine this may take long.
fn compile(args: &DemoArgs, clock: &Arc<dyn Clock>) -> Result<()> {
    let begun = clock.elapsed();
    let path = args.plugin_path.clone();
    let path = path.unwrap_or_else(|| args.dir.join(PLUGINS));
    let plugins = Plugins::open(plugin::Places {
        store: path.join("store"),
        cache: path.join(".cache"),
        path,
    })?;
    for name in ["xml-flatten", "validate"] {
        plugins.find(name, &|_, _| true)?;
    }
    let took = time(clock.elapsed().saturating_sub(begun));
    say_words(format!(
        "plugins    xml-flatten and validate, ready in {took}"
    ));
    Ok(())
}

/// Messages arrive while the pipelines run; in the middle the child is killed and started again.
fn run_live(
    args: &DemoArgs,
    broker: &MockBroker,
    clock: &Arc<dyn Clock>,
) -> Result<(sample::Report, Option<outcome::Kill>)> {
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
        std::thread::spawn(move || sample::produce(&props, &options, &clock, &never, &mut |_| {}))
    };
    let mut child = Child::start(args, broker, "run-1", &[])?;
    let mut kill = None;
    if !args.no_kill {
        child.until(clock, PATIENCE, "commits", |seen| {
            seen.raw_commits >= KILL_AFTER
        })?;
        let before = child.seen().clone();
        child.kill()?;
        say_words(format!(
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
        say_words(format!(
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
    say_words("stopped    SIGTERM: what was read is committed, the child ended with 0");
    Ok((produced, kill))
}

/// `--available-now`: take what is left, commit, exit 0.
fn finish(args: &DemoArgs, broker: &MockBroker, clock: &Arc<dyn Clock>) -> Result<()> {
    let mut child = Child::start(args, broker, "run-last", &["--available-now"])?;
    child.wait(clock, PATIENCE)?;
    say_words("finished   weir run … --available-now took what was left and ended with 0");
    Ok(())
}

/// Commands are printed as they are typed: nothing folds them.
fn next_steps(dir: &Path) {
    // Named by its path, so that the next commands find it too.
    let called = std::env::args_os().next().map(PathBuf::from);
    let by_path = called.filter(|called| called.components().count() > 1);
    let folder = by_path.and_then(|called| {
        std::path::absolute(called)
            .ok()?
            .parent()
            .map(Path::to_owned)
    });
    let path = folder.map_or_else(String::new, |folder| {
        format!("  export PATH={}:$PATH\n", folder.display())
    });
    say_lines(format!(
        "\nLook around: commits (--verify proves them), what was refused, tables\n{path}  \
         cd {}\n  \
         weir log {RAW_ZONE}\n  \
         weir dlq ls {RAW_ZONE}\n  \
         weir dlq show {RAW_ZONE} --code bad_int -n 1\n  \
         weir zone ls {PROCESSED_ZONE}\n  \
         duckdb -c \"select year, count(*) from\n    \
         read_parquet('{PROCESSED_ZONE}/books/**/*.parquet')\n    \
         group by 1 order by 1\"\n\n\
         Your own broker, with the configs and rules that ran here\n  \
         export KAFKA_BOOTSTRAP_SERVERS=localhost:9092\n  \
         weir produce books --bootstrap-server $KAFKA_BOOTSTRAP_SERVERS --dirty\n  \
         weir run {RAW} {PROCESSED}",
        dir.display()
    ));
}
