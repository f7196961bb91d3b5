//! `weir produce`: sample messages for a topic.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{Exit, say, say_value};
use crate::clock::SystemClock;
use crate::error::{Error, Kind, Result};
use crate::kafka::{KafkaCluster, KafkaProps};
use crate::sample::{self, Dirty, ProduceOptions};
use crate::telemetry::{bytes, count};

#[derive(Debug, Args)]
pub(super) struct ProduceArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// XML messages of books, seeded: the same seed gives the same messages
    Books(BooksArgs),
}

/// XML messages of books, seeded: the same seed gives the same messages.
///
/// Idempotent, keyed by record_id, flushed at the end. With --dirty about 1 % are malformed, 1 % have an impossible year,
/// 1 % miss fields and 2 % repeat an id, so that rules, dead letters and deduplication have something to do.
#[derive(Debug, Clone, Args)]
pub struct BooksArgs {
    /// host:port of one or more brokers, separated by commas
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:9092")]
    pub bootstrap_server: String,
    /// Topic to send to; it must exist unless the broker creates topics
    #[arg(long, default_value = "book_data_topic")]
    pub topic: String,
    /// How many messages; 0 sends until stopped
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub count: u64,
    /// Messages per second; 0 as fast as possible
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub rate: u64,
    /// Seed of the sample data
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Also messages that a rule must refuse
    #[arg(long)]
    pub dirty: bool,
    /// A property of librdkafka's producer, such as security.protocol=SSL; may be repeated
    #[arg(long = "property", short = 'X', value_name = "KEY=VALUE")]
    pub properties: Vec<String>,
    /// Print the messages to stdout, one per line, and send nothing: input for `weir plugin run` and `infer`
    #[arg(long, conflicts_with_all = ["bootstrap_server", "rate", "properties", "json"])]
    pub print: bool,
    /// Print the tally as one JSON object
    #[arg(long)]
    pub json: bool,
}

pub(super) fn produce(args: &ProduceArgs) -> Result<Exit> {
    match &args.what {
        What::Books(books) => produce_books(books),
    }
}

/// One message per line. Blanks between elements have no meaning, so a line end in a message becomes a blank.
fn print(args: &BooksArgs) -> Exit {
    let dirty = if args.dirty { Dirty::SOME } else { Dirty::NONE };
    let all = sample::Books::new(args.seed, dirty);
    let most = match args.count {
        0 => usize::MAX,
        count => usize::try_from(count).unwrap_or(usize::MAX),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    for sample in all.take(most) {
        let line: Vec<u8> = sample
            .value
            .iter()
            .map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b })
            .collect();
        // A reader that closes the pipe (`| head`) ends it.
        if out
            .write_all(&line)
            .and_then(|()| out.write_all(b"\n"))
            .is_err()
        {
            break;
        }
    }
    Exit::Ok
}

fn produce_books(args: &BooksArgs) -> Result<Exit> {
    if args.print {
        return Ok(print(args));
    }
    let mut properties = BTreeMap::new();
    for property in &args.properties {
        let (key, value) = property.split_once('=').ok_or_else(|| {
            Error::new(
                Kind::ConfigInvalid,
                "produce",
                format!("`{property}` is not KEY=VALUE"),
            )
        })?;
        properties.insert(key.to_owned(), value.to_owned());
    }
    let props = KafkaProps::new(&args.bootstrap_server, "weir-produce", &properties)?;
    // A missing broker is reported at once, not after the two minutes that librdkafka gives a message.
    KafkaCluster::connect(&props)?;
    let options = ProduceOptions {
        topic: args.topic.clone(),
        count: (args.count > 0).then_some(args.count),
        rate: args.rate as f64,
        seed: args.seed,
        dirty: if args.dirty { Dirty::SOME } else { Dirty::NONE },
    };
    let clock = SystemClock::shared();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        let registered = signal_hook::flag::register(signal, stop.clone());
        registered
            .map_err(|e| Error::new(Kind::Bug, "produce", "signals cannot be handled").source(e))?;
    }
    let bar = match args.count {
        0 => ProgressBar::new_spinner(),
        count => ProgressBar::new(count),
    };
    let report = sample::produce(&props, &options, &clock, &stop, &mut |tally| {
        bar.set_position(tally.messages);
    })?;
    bar.finish_and_clear();
    let t = &report.tally;
    if args.json {
        say_value(&json!(report));
        return Ok(Exit::Ok);
    }
    say(format!(
        "{} messages acknowledged by {} for {} in {:.1} s ({} messages/s, {})",
        count(t.messages),
        args.bootstrap_server,
        args.topic,
        report.seconds,
        count((t.messages as f64 / report.seconds.max(0.001)) as u64),
        bytes(t.bytes)
    ));
    say(format!(
        "{} books in well-formed messages: {} clean, {} of them repeated; {} with a bad year, {} with a field missing; {} messages malformed",
        count(t.books),
        count(t.clean()),
        count(t.repeated),
        count(t.bad_year),
        count(t.missing),
        count(t.malformed)
    ));
    Ok(Exit::Ok)
}
