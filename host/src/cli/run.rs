//! `weir run`: pipelines until they end or are told to stop.

mod board;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::board::Board;
use super::{Configs, Exit, print_problems};
use crate::clock::{Clock, SystemClock};
use crate::config::PipelineConfig;
use crate::config::Text;
use crate::config::checked::{LogConfig, LogFormat};
use crate::config::worker::{Listen, WebhookConfig, listener_without_tls};
use crate::error::{Error, Kind, Result};
use crate::http::{Admin, scrape};
use crate::logging;
use crate::operations::collect;
use crate::pipeline::{self, Stop};
use crate::telemetry::webhook::Webhook;
use crate::telemetry::{Progress, ProgressMode};

/// Run the pipelines of one or more config files until they end or are told to stop.
///
/// Positions come from each zone's commit log, so a pipeline goes on exactly where it was, whatever stopped it.
/// SIGTERM and SIGINT drain: what was read is committed within shutdown.timeout, then the process ends with 0.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub configs: Configs,
    /// Take what is there now, commit, exit 0; overrides `trigger`
    #[arg(long)]
    pub available_now: bool,
    /// How progress is shown: bars on a terminal, plain lines elsewhere, JSON (one object per commit) on stdout, or none
    #[arg(long, value_name = "plain|bar|json|none", value_parser = ProgressMode::NAMES)]
    pub progress: Option<String>,
    /// Form of the log lines on stderr; overrides log.format
    #[arg(long, value_name = "text|json", value_parser = ["text", "json"])]
    pub log_format: Option<String>,
    /// error, warn, info, debug, trace, or a list such as info,weir::kafka=debug; overrides log.level
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Directory of the plugins; overrides plugin.path
    #[arg(long, value_name = "DIR")]
    pub plugin_path: Option<PathBuf>,
    /// Answer GET /metrics (OpenMetrics text, for Prometheus) and GET /livez there, without TLS and login
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics: Option<String>,
    /// Show the page of these pipelines there (http://HOST:PORT/ui/), for this machine only: nothing can be changed on it
    #[arg(long, value_name = "HOST:PORT")]
    pub ui: Option<String>,
    /// Post a JSON message there for each start, commit, swap and end; may be a reference such as '${env:HOOK}'
    #[arg(long, value_name = "URL")]
    pub progress_webhook: Option<String>,
    /// Header Authorization of these messages, by reference: 'Bearer ${env:TOKEN}'
    #[arg(long, value_name = "TEXT", requires = "progress_webhook")]
    pub progress_webhook_authorization: Option<String>,
}

impl RunArgs {
    pub fn progress_mode(&self) -> ProgressMode {
        let given = self.progress.as_deref().and_then(|text| text.parse().ok());
        given.unwrap_or_else(ProgressMode::automatic)
    }

    fn webhook(&self) -> Option<WebhookConfig> {
        Some(WebhookConfig {
            url: Text::new(self.progress_webhook.clone()?),
            authorization: self.progress_webhook_authorization.clone().map(Text::new),
        })
    }

    /// The flags as overrides, before the user's own `--set`.
    fn with_flags(&self) -> Configs {
        let mut configs = self.configs.clone();
        let mut set = Vec::new();
        if self.available_now {
            set.push("trigger=available-now".to_owned());
        }
        if let Some(format) = &self.log_format {
            set.push(format!("log.format={format}"));
        }
        if let Some(level) = &self.log_level {
            set.push(format!("log.level={level}"));
        }
        if let Some(path) = &self.plugin_path {
            set.push(format!("plugin.path={}", path.display()));
        }
        configs.set.extend(set);
        configs
    }

    /// Log lines: in one run the first file decides.
    fn logging(&self, pipelines: &[PipelineConfig]) -> LogConfig {
        let mut log = pipelines.first().map_or_else(
            || LogConfig {
                format: LogFormat::Text,
                level: "info".to_owned(),
            },
            |first| first.log.clone(),
        );
        // If progress is shown on the screen, only warnings and errors are logged, unless a level was set.
        let asked =
            self.log_level.is_some() || pipelines.iter().any(|p| p.raw.get("log.level").is_some());
        let quiet = matches!(
            self.progress_mode(),
            ProgressMode::Bar | ProgressMode::Plain
        );
        if quiet && !asked && log.format == LogFormat::Text {
            log.level = "warn".to_owned();
        }
        log
    }
}

pub(super) fn run(args: &RunArgs) -> Result<Exit> {
    let loaded = args.with_flags().load();
    let mut problems = loaded.problems.clone();
    if loaded.has_errors() {
        // All problems at once; plugins of valid configs check their keys when they start.
        problems.extend(
            loaded
                .others
                .iter()
                .flat_map(|other| super::check_plugins(other, None)),
        );
    } else {
        problems.extend(loaded.pipelines.iter().flat_map(PipelineConfig::unresolved));
    }
    print_problems(&problems);
    let listens = Listens {
        metrics: (args
            .metrics
            .as_deref()
            .map(|text| listen("--metrics", text)))
        .transpose()?,
        ui: (args.ui.as_deref().map(|text| listen("--ui", text))).transpose()?,
    };
    if problems.iter().any(crate::config::Problem::is_error) {
        return Ok(Exit::Usage);
    }
    logging::init(&args.logging(&loaded.pipelines))?;
    start(args, &listens, &loaded.pipelines)
}

/// Where somebody may look.
struct Listens {
    metrics: Option<Listen>,
    ui: Option<Listen>,
}

fn listen(flag: &str, text: &str) -> Result<Listen> {
    listener_without_tls(text).ok_or_else(|| {
        let message = format!("{flag}: expected host:port, found `{text}`");
        Error::new(Kind::ConfigInvalid, "run.listen", message).hint("for instance 127.0.0.1:9464")
    })
}

/// Runs the pipelines and waits for them.
fn start(args: &RunArgs, listens: &Listens, pipelines: &[PipelineConfig]) -> Result<Exit> {
    let clock = SystemClock::shared();
    let stop = Stop::new(clock.clone());
    let grace = pipelines
        .iter()
        .map(|p| p.limits.shutdown_timeout)
        .max()
        .unwrap_or_default();
    let shown = Progress::shared(args.progress_mode());
    stop_on_signals(&stop, grace, &shown)?;
    let stores = collect::stores_of(pipelines.iter());
    let _collecting = collect::begin(move || stores.clone(), &clock, &stop)?;
    let told = Webhook::shared(shown.clone(), args.webhook(), &clock)?;
    let board = Board::new(pipelines, told.clone(), &clock, &stop)?;
    if let Some(listen) = &listens.metrics {
        let text = board.clone();
        let addr = scrape::serve(listen, Arc::new(move || text.text()))?;
        shown.say(&format!("metrics at http://{addr}/metrics"));
    }
    let page = match &listens.ui {
        Some(listen) => Some(Admin::watch(Arc::<Board>::clone(&board), listen)?),
        None => None,
    };
    if let Some(page) = &page {
        shown.say(&format!("the page is at http://{}/ui/", page.addr()));
    }
    let ended = until_ended(pipelines, &board, &clock, &stop, &shown)?;
    board.settle();
    told.finish();
    let Some(ended) = ended else {
        return Ok(Exit::Ok);
    };
    let failed: Vec<Error> = ended.into_iter().filter_map(|e| e.result.err()).collect();
    // 2 tells a service manager not to try again: only if every failure is of that kind.
    let config = failed.iter().all(|e| e.kind() == Kind::ConfigInvalid);
    Ok(match failed.is_empty() {
        false if config => Exit::Usage,
        false => Exit::Failed,
        // As with a config: what was refused is refused again, until somebody looks at it.
        true if board.has_paused() => Exit::Usage,
        true if stop.overdue() => Exit::Deadline,
        true => Exit::Ok,
    })
}

/// Time between two checks whether a process that was told to end has anything to commit.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A pipeline that has not begun to read ends by itself within this, unless it waits for a broker or a store to answer.
const BEFORE_READING: Duration = Duration::from_millis(500);

/// How the pipelines ended. `None`: the process was told to end before any of them had read, and their last question to a
/// broker or a store is not waited for: there is nothing to commit.
fn until_ended(
    pipelines: &[PipelineConfig],
    board: &Arc<Board>,
    clock: &Arc<dyn Clock>,
    stop: &Stop,
    shown: &Arc<Progress>,
) -> Result<Option<Vec<pipeline::Ended>>> {
    let (done, ended) = mpsc::channel();
    let run = {
        let (pipelines, clock) = (pipelines.to_vec(), clock.clone());
        let (stop, board) = (stop.clone(), board.clone());
        move || {
            let report = |config: &PipelineConfig| board.report(config);
            let _gone = done.send(pipeline::run(&pipelines, &clock, &stop, &report));
        }
    };
    let bug = |what: &'static str| Error::new(Kind::Bug, "run", what);
    let thread = std::thread::Builder::new().name("pipelines".to_owned());
    thread
        .spawn(run)
        .map_err(|e| bug("no thread can be started for the pipelines").source(e))?;
    let mut asked = None;
    loop {
        match ended.recv_timeout(LOOK_EVERY) {
            Ok(ended) => return Ok(Some(ended)),
            Err(RecvTimeoutError::Disconnected) => return Err(bug("the pipelines' thread ended")),
            Err(RecvTimeoutError::Timeout) if !stop.asked() || !shown.is_untouched() => {}
            Err(RecvTimeoutError::Timeout) => {
                let since = *asked.get_or_insert_with(|| clock.elapsed());
                if clock.elapsed().saturating_sub(since) >= BEFORE_READING {
                    shown.say("stopped before reading began: nothing had to be committed");
                    shown.leave_terminal();
                    return Ok(None);
                }
            }
        }
    }
}

/// The first SIGTERM or SIGINT drains; a second one ends the process at once, which loses nothing either.
fn stop_on_signals(stop: &Stop, grace: Duration, shown: &Arc<Progress>) -> Result<()> {
    let failed = |e| Error::new(Kind::Bug, "run", "signals cannot be handled").source(e);
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(failed)?;
    let (stop, shown) = (stop.clone(), shown.clone());
    let body = move || {
        for signal in signals.forever() {
            if stop.asked() {
                shown.leave_terminal();
                std::process::exit(128 + signal);
            }
            shown.stopping(grace);
            stop.ask(grace);
        }
    };
    let thread = std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(body);
    thread.map(drop).map_err(failed)
}
