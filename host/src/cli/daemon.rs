//! `weir daemon`: many pipelines in one process until it is told to stop.

use std::path::PathBuf;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Exit, print_problems, say};
use crate::clock::SystemClock;
use crate::config::{Problem, worker};
use crate::error::{Error, Kind, Result};
use crate::supervisor::Supervisor;
use crate::telemetry::{Progress, ProgressMode, logs};

/// Run many pipelines, created, changed and watched over HTTP as with Kafka Connect.
///
/// Pipelines and what they are told to do are kept in data.dir and survive restarts. One that fails begins again by itself
/// and touches no other. SIGTERM and SIGINT drain all within shutdown.timeout; a second one ends the process at once.
#[derive(Debug, Clone, Args)]
pub struct DaemonArgs {
    /// The daemon's config: TOML, or a Connect worker's .properties
    #[arg(value_name = "FILE")]
    pub file: String,
    /// Override a key
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Directory of the journal; overrides data.dir
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// host:port to listen on; overrides rest.listen
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
}

impl DaemonArgs {
    /// The flags as overrides, before the user's own `--set`.
    fn overrides(&self) -> Vec<String> {
        let mut set = Vec::new();
        if let Some(dir) = &self.data_dir {
            set.push(format!("data.dir={}", dir.display()));
        }
        if let Some(listen) = &self.listen {
            set.push(format!("rest.listen={listen}"));
        }
        set.extend(self.set.iter().cloned());
        set
    }
}

pub(super) fn daemon(args: &DaemonArgs) -> Result<Exit> {
    let (worker, problems) = worker::load(&args.file, &args.overrides());
    print_problems(&problems);
    let Some(worker) = worker.filter(|_| !problems.iter().any(Problem::is_error)) else {
        return Ok(Exit::Usage);
    };
    logs::init(&worker.log)?;
    if !worker.ignored.is_empty() {
        tracing::info!(
            keys = worker.ignored.join(" "),
            "keys of a Connect worker that mean nothing here are ignored"
        );
    }
    // Before anything starts: a signal must not find a process half up.
    let mut signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|e| Error::new(Kind::Bug, "daemon", "signals cannot be handled").source(e))?;
    let supervisor = Supervisor::open(
        &worker,
        SystemClock::shared(),
        Progress::shared(ProgressMode::None),
    )?;
    say(format!(
        "weir daemon: {} pipelines",
        supervisor.names().len()
    ));
    let signal = signals.forever().next();
    tracing::info!(
        signal,
        "draining: what was read is committed, then the process ends"
    );
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            std::process::exit(128 + signal);
        }
    });
    match supervisor.shut_down(worker.shutdown_timeout) {
        true => Ok(Exit::Ok),
        false => Ok(Exit::Deadline),
    }
}
