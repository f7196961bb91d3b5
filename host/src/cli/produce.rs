//! `weir produce`: sample messages for a topic.

use clap::{Args, Subcommand};

use super::Exit;
use crate::error::{Error, Kind, Result};

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
    /// Books per message, 1 to N
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub books: u32,
    /// Seed of the sample data
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Also messages that a rule must refuse
    #[arg(long)]
    pub dirty: bool,
    /// A property of librdkafka's producer, such as security.protocol=SSL; may be repeated
    #[arg(long = "property", short = 'X', value_name = "KEY=VALUE")]
    pub properties: Vec<String>,
}

pub(super) fn produce(args: &ProduceArgs) -> Result<Exit> {
    match &args.what {
        What::Books(books) => produce_books(books),
    }
}

fn produce_books(_args: &BooksArgs) -> Result<Exit> {
    Err(Error::new(
        Kind::Bug,
        "produce",
        "the producer is not wired to the command line",
    ))
}
