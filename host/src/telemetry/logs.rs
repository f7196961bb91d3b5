//! Log lines: text or JSON, on stderr, through whatever draws there.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use indicatif::MultiProgress;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::checked::{LogConfig, LogFormat};
use crate::error::{Error, Kind, Result};

static DRAWING: OnceLock<MultiProgress> = OnceLock::new();

/// The drawing on stderr. Log lines step aside for it.
pub(super) fn drawing() -> &'static MultiProgress {
    DRAWING.get_or_init(MultiProgress::new)
}

/// The filter in force, and the loggers that have a level of their own.
#[derive(Debug)]
struct Levels {
    handle: reload::Handle<EnvFilter, Registry>,
    set: Mutex<BTreeMap<String, Set>>,
}

/// A logger's level and when it was set, milliseconds since 1970 UTC.
type Set = (LevelFilter, Option<i64>);

static LEVELS: OnceLock<Levels> = OnceLock::new();

/// The name of the logger above all others.
pub const ROOT: &str = "root";

/// Once per process, before the first event. A second call changes nothing.
pub fn init(config: &LogConfig) -> Result<()> {
    let bad = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(
            Kind::ConfigInvalid,
            "telemetry.init",
            "log.level is not a level",
        )
        .source(error)
    };
    let filter = EnvFilter::try_new(&config.level).map_err(|e| bad(e.into()))?;
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(AsideStderr);
    let done = match config.format {
        LogFormat::Json => registry
            .with(
                lines
                    .json()
                    .flatten_event(true)
                    .with_current_span(false)
                    .with_span_list(false),
            )
            .try_init(),
        LogFormat::Text => registry
            .with(
                lines
                    .with_ansi(io::stderr().is_terminal())
                    .with_target(false),
            )
            .try_init(),
    };
    match done {
        Ok(()) => {
            let set = Mutex::new(given(&config.level));
            LEVELS.get_or_init(|| Levels { handle, set });
        }
        Err(error) => tracing::debug!(%error, "log lines were set up before"),
    }
    Ok(())
}

/// `info,weir::kafka=debug` by logger.
fn given(levels: &str) -> BTreeMap<String, Set> {
    let mut all = BTreeMap::from([(ROOT.to_owned(), (LevelFilter::ERROR, None))]);
    for part in levels.split(',').map(str::trim) {
        let (logger, level) = part.split_once('=').unwrap_or((ROOT, part));
        if let Ok(level) = level.parse() {
            all.insert(logger.to_owned(), (level, None));
        }
    }
    all
}

/// From now on this logger and those below it write what is at least so grave. The loggers that changed; an error names
/// what is not known.
pub fn set_level(logger: &str, level: &str, now: i64) -> Result<Vec<String>, String> {
    let level = match level.to_ascii_uppercase().as_str() {
        "FATAL" => LevelFilter::ERROR,
        word @ ("OFF" | "ERROR" | "WARN" | "INFO" | "DEBUG" | "TRACE") => word
            .parse()
            .map_err(|_| format!("invalid log level '{word}'."))?,
        word => return Err(format!("invalid log level '{word}'.")),
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || "_:.-".contains(c);
    if logger.is_empty() || !logger.chars().all(legal) {
        return Err(format!("Logger {logger} not found."));
    }
    let levels = LEVELS.get().ok_or("log lines are not set up here.")?;
    let mut set = levels.set.lock().unwrap_or_else(PoisonError::into_inner);
    let mut next = set.clone();
    next.insert(logger.to_owned(), (level, Some(now)));
    let parts = next
        .iter()
        .map(|(logger, (level, _))| match logger.as_str() {
            ROOT => level.to_string(),
            logger => format!("{logger}={level}"),
        });
    let parts: Vec<String> = parts.collect();
    let filter = EnvFilter::try_new(parts.join(",")).map_err(|e| e.to_string())?;
    levels.handle.reload(filter).map_err(|e| e.to_string())?;
    *set = next;
    Ok(vec![logger.to_owned()])
}

/// Loggers with a level of their own: the level in capitals, and when it was set.
pub fn levels() -> BTreeMap<String, (String, Option<i64>)> {
    let Some(levels) = LEVELS.get() else {
        return BTreeMap::new();
    };
    let set = levels.set.lock().unwrap_or_else(PoisonError::into_inner);
    let shown = |(logger, (level, since)): (&String, &Set)| {
        let level = level.to_string().to_uppercase();
        (logger.clone(), (level, *since))
    };
    set.iter().map(shown).collect()
}

/// One buffer per event, written with the bars out of the way.
#[derive(Debug, Clone, Copy)]
struct AsideStderr;

#[derive(Debug)]
struct Line {
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for AsideStderr {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { bytes: Vec::new() }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.bytes);
        drawing().suspend(|| io::stderr().lock().write_all(&bytes))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // A closed stderr must not stop a pipeline.
        let _closed = self.flush();
    }
}
