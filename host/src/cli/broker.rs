//! `weir broker`: a broker for trying things out, so that a guide can be followed without one installed.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Exit, say};
use crate::error::{Error, Kind, Result};
use crate::kafka::MockBroker;

/// Serve topics on 127.0.0.1 until Ctrl-C: a broker for trying things out.
///
/// It keeps the last 5 MiB of each partition, in memory, and forgets everything at its end. Its address is the first
/// line on stdout. Nothing about exactly once is proved on it: use Apache Kafka for that.
#[derive(Debug, Args)]
pub(super) struct BrokerArgs {
    /// A topic to create; may be repeated
    #[arg(long, value_name = "TOPIC", default_value = "book_data_topic")]
    topic: Vec<String>,
    /// Partitions of each topic
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(i32).range(1..=64))]
    partitions: i32,
    /// Also write the address to this file
    #[arg(long, value_name = "FILE")]
    address_file: Option<PathBuf>,
}

pub(super) fn broker(args: &BrokerArgs) -> Result<Exit> {
    let unheard = |e| Error::new(Kind::Bug, "broker", "signals cannot be handled").source(e);
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(unheard)?;
    let broker = MockBroker::start()?;
    for topic in &args.topic {
        broker.create_topic(topic, args.partitions)?;
    }
    if let Some(file) = &args.address_file {
        // Renamed into place: whoever waits for the file finds it whole.
        let temporary = file.with_added_extension("part");
        std::fs::write(&temporary, broker.bootstrap())
            .and_then(|()| std::fs::rename(&temporary, file))
            .map_err(|e| {
                Error::new(
                    Kind::ConfigInvalid,
                    "broker",
                    "the address file cannot be written",
                )
                .with("file", file.display())
                .source(e)
            })?;
    }
    say(broker.bootstrap());
    // Piped output is read by scripts that wait for the line.
    let _closed = std::io::stdout().flush();
    eprintln!(
        "serving {} with {} partitions each; Ctrl-C ends it and forgets everything",
        args.topic.join(", "),
        args.partitions
    );
    signals.forever().next();
    Ok(Exit::Ok)
}
