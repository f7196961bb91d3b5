//! `weir daemon`: many pipelines in one process until it is told to stop.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Exit, print_problems};
use crate::clock::SystemClock;
use crate::config::worker::{self, WorkerConfig};
use crate::daemon::Supervisor;
use crate::error::{Error, Kind, Result};
use crate::http::Admin;
use crate::logging;
use crate::operations::collect::{self, Collecting};
use crate::pipeline::Stop;
use crate::telemetry::webhook::Webhook;
use crate::telemetry::{Progress, ProgressMode};

/// Time for running requests after all pipelines have drained.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Run many pipelines as a service, with Kafka Connect's REST.
///
/// Pipelines are created, changed and watched over HTTP. Their configs and target states are kept in data.dir and
/// survive restarts. A pipeline that fails begins again by itself and does not affect others. SIGTERM and SIGINT drain
/// all within shutdown.timeout; a second signal ends the process at once, which loses nothing either.
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
    let Some(worker) = worker else {
        return Ok(Exit::Usage);
    };
    logging::init_with(&worker.log, worker.log_dir.as_deref())?;
    for missed in &worker.idle.missed {
        tracing::warn!("{missed}");
    }
    if !worker.idle.keys.is_empty() {
        let keys = worker.idle.keys.iter();
        let keys: Vec<String> = keys.map(|(key, why)| format!("{key} ({why})")).collect();
        tracing::info!(
            "these keys of the worker's file have no effect: {}",
            keys.join("; ")
        );
    }
    // Installed before anything starts, so that a signal never meets a half started process.
    let failed = |e| Error::new(Kind::Bug, "daemon", "signals cannot be handled").source(e);
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(failed)?;
    let clock = SystemClock::shared();
    let shown = Progress::shared(ProgressMode::None);
    let shown = Webhook::shared(shown, worker.webhook.clone(), &clock)?;
    let supervisor = Supervisor::open(&worker, clock, shown.clone())?;
    let admin = match serve(&supervisor, &worker) {
        Ok(admin) => admin,
        Err(error) => {
            supervisor.shut_down(worker.shutdown_timeout);
            return Err(error);
        }
    };
    tracing::info!(
        address = supervisor.worker_id(),
        pipelines = supervisor.names().len(),
        data = %worker.data_dir.display(),
        "daemon ready"
    );
    let _collecting = collect(&supervisor)?;
    tell_manager("READY=1");
    let signal = signals.forever().next();
    tell_manager("STOPPING=1");
    tracing::info!(
        signal,
        "draining: what was read is committed, then the process ends"
    );
    let again = move || {
        if let Some(signal) = signals.forever().next() {
            std::process::exit(128 + signal);
        }
    };
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(again).map_err(failed)?;
    let in_time = supervisor.shut_down(worker.shutdown_timeout);
    admin.stop(LAST_ANSWERS);
    shown.finish();
    tracing::info!(in_time, "daemon ended");
    Ok(match in_time {
        true => Exit::Ok,
        false => Exit::Deadline,
    })
}

/// What no log names any more leaves the plugin stores of its pipelines.
fn collect(supervisor: &Arc<Supervisor>) -> Result<Collecting> {
    let clock = SystemClock::shared();
    let asked = Arc::clone(supervisor);
    let known = move || {
        let names = asked.names().into_iter();
        let configs: Vec<_> = names
            .filter_map(|name| asked.pipeline(&name).ok())
            .collect();
        collect::stores_of(configs.iter().map(AsRef::as_ref))
    };
    collect::begin(known, &clock, &Stop::new(clock.clone()))
}

fn serve(supervisor: &Arc<Supervisor>, worker: &WorkerConfig) -> Result<Admin> {
    let admin = Admin::serve(Arc::clone(supervisor), worker)?;
    supervisor.listens_on(admin.addr())?;
    Ok(admin)
}

/// systemd's `Type=notify`: a datagram to the socket that it names, if it does.
fn tell_manager(state: &str) {
    let Ok(path) = crate::config::Text::new("${env:NOTIFY_SOCKET:-}").resolve() else {
        return;
    };
    if path.is_empty() {
        return;
    }
    if let Err(error) = notify(&path, state) {
        tracing::warn!(%error, state, "the service manager was not told");
    }
}

fn notify(path: &str, state: &str) -> std::io::Result<()> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::SocketAddr;
    // `@`: the abstract namespace.
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}
