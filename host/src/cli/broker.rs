//! `weir broker`: a broker for trials, so that a guide can be followed without installing one.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Exit, say};
use crate::error::{Error, Kind, Result};
use crate::kafka::MockBroker;

/// Serve topics on 127.0.0.1 until Ctrl-C: a broker for trials.
///
/// It keeps the last 5 MiB of each partition in memory, and forgets everything when it ends. Its address is the first
/// line on stdout. It proves nothing about exactly once: use Apache Kafka for that.
#[derive(Debug, Args)]
pub(super) struct BrokerArgs {
    /// A topic to create; may be repeated
    #[arg(long, value_name = "TOPIC", default_value = "book_data_topic")]
    topic: Vec<String>,
    /// Partitions of each topic
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(i32).range(1..=64))]
    partitions: i32,
    /// Serve from a process of its own and print the shell commands that name it: eval "$(weir broker --background)"
    #[arg(long)]
    background: bool,
}

pub(super) fn broker(args: &BrokerArgs) -> Result<Exit> {
    if args.background {
        return background(args);
    }
    let unheard = |e| Error::new(Kind::Bug, "broker", "signals cannot be handled").source(e);
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(unheard)?;
    let broker = MockBroker::start()?;
    for topic in &args.topic {
        broker.create_topic(topic, args.partitions)?;
    }
    say(broker.bootstrap());
    // The reader of a pipe waits for this line.
    let _closed = std::io::stdout().flush();
    signals.forever().next();
    Ok(Exit::Ok)
}

/// Like ssh-agent: prints address and process id as shell variables.
fn background(args: &BrokerArgs) -> Result<Exit> {
    let failed = |e: std::io::Error| {
        Error::new(
            Kind::Bug,
            "broker",
            "the broker's process cannot be started",
        )
        .source(e)
    };
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(["broker", "--partitions", &args.partitions.to_string()]);
    for topic in &args.topic {
        command.args(["--topic", topic]);
    }
    command.stdin(Stdio::null()).stderr(Stdio::null());
    // Ctrl-C in the calling shell must not end it.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut address = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout)
            .read_line(&mut address)
            .map_err(failed)?;
    }
    if address.trim().is_empty() {
        return Err(failed(std::io::Error::other("it ended at once")));
    }
    say(format!("export KAFKA_BOOTSTRAP_SERVERS={}", address.trim()));
    say(format!(
        "export WEIR_BROKER_PID={}   # kill $WEIR_BROKER_PID ends it",
        child.id()
    ));
    Ok(Exit::Ok)
}
