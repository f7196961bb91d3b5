//! Log lines: text or JSON, on stderr beside any progress bars, and also in one file per pipeline if a directory is
//! given.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use indicatif::MultiProgress;
use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::checked::{LogConfig, LogFormat};
use crate::error::{Error, Kind, Result};
use crate::lock::lock;
use crate::text::{printable_coloured, printable_json, printable_lines};

static DRAWING: OnceLock<MultiProgress> = OnceLock::new();

/// How lines are folded for the terminal on stderr.
static FOLD: OnceLock<fn(&str) -> String> = OnceLock::new();

/// From now on this folds log lines on stderr. A second call changes nothing.
pub fn fold_with(fold: fn(&str) -> String) {
    FOLD.get_or_init(|| fold);
}

/// The progress bars on stderr. Log lines are written so that they do not disturb them.
pub(crate) fn drawing() -> &'static MultiProgress {
    DRAWING.get_or_init(MultiProgress::new)
}

/// The filter in force, and the loggers that have a level of their own.
#[derive(Debug)]
struct Levels {
    handle: reload::Handle<Targets, Registry>,
    set: Mutex<BTreeMap<String, Set>>,
}

/// A logger's level and when it was set, milliseconds since 1970 UTC.
type Set = (LevelFilter, Option<i64>);

static LEVELS: OnceLock<Levels> = OnceLock::new();

/// The name of the logger above all others.
pub const ROOT: &str = "root";

/// Once per process, before the first event. A second call changes nothing.
pub fn init(config: &LogConfig) -> Result<()> {
    init_with(config, None)
}

/// `dir`: log lines of a pipeline's threads also go to `<dir>/<pipeline>.log`.
pub fn init_with(config: &LogConfig, dir: Option<&Path>) -> Result<()> {
    let filter = config.level.parse::<Targets>().map_err(|error| {
        Error::new(
            Kind::ConfigInvalid,
            "telemetry.init",
            "log.level is not a level",
        )
        .source(error)
    })?;
    if let Some(dir) = dir {
        std::fs::create_dir_all(dir).map_err(|error| {
            let message = "the directory for log files cannot be made";
            Error::new(Kind::StoreUnavailable, "telemetry.init", message)
                .with("path", dir.display())
                .source(error)
                .hint("log.dir names it")
        })?;
    }
    let (filter, handle) = reload::Layer::new(filter);
    let files = dir.map(|dir| {
        let to = Files {
            dir: dir.to_owned(),
            format: config.format,
        };
        layer(config.format, false, to)
    });
    let lines = layer(
        config.format,
        io::stderr().is_terminal(),
        AsideStderr(config.format),
    );
    let registry = tracing_subscriber::registry().with(filter);
    match registry.with(lines).with(files).try_init() {
        Ok(()) => {
            let set = Mutex::new(given(&config.level));
            LEVELS.get_or_init(|| Levels { handle, set });
        }
        Err(error) => tracing::debug!(%error, "log lines were set up before"),
    }
    Ok(())
}

fn layer<S, W>(format: LogFormat, colours: bool, to: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(to);
    match format {
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true);
            let lines = lines.with_current_span(false).with_span_list(false);
            lines.boxed()
        }
        LogFormat::Text => lines.with_ansi(colours).with_target(false).boxed(),
    }
}

thread_local! {
    /// The pipeline that this thread works for.
    static PIPELINE: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// The pipeline that this thread works for, to pass on to threads that it starts.
pub fn pipeline() -> Option<Arc<str>> {
    PIPELINE.with(|pipeline| pipeline.borrow().clone())
}

/// From now on this thread works for that pipeline.
pub fn works_for(pipeline: Option<Arc<str>>) {
    PIPELINE.with(|now| *now.borrow_mut() = pipeline);
}

/// One file per pipeline, opened for each line: after a file was moved away a new one is begun.
#[derive(Debug)]
struct Files {
    dir: PathBuf,
    format: LogFormat,
}

#[derive(Debug)]
struct FileLine {
    path: Option<PathBuf>,
    format: LogFormat,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Files {
    type Writer = FileLine;

    fn make_writer(&'a self) -> FileLine {
        let path = pipeline().map(|pipeline| self.dir.join(format!("{pipeline}.log")));
        FileLine {
            path,
            format: self.format,
            bytes: Vec::new(),
        }
    }
}

impl Write for FileLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.path.is_some() {
            self.bytes.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = shown(&std::mem::take(&mut self.bytes), self.format);
        match &self.path {
            Some(path) if !bytes.is_empty() => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                file.and_then(|mut file| file.write_all(&bytes))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for FileLine {
    fn drop(&mut self) {
        // A full disk must not stop a pipeline; stderr has the line too.
        let _lost = self.flush();
    }
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

/// From now on this logger and those below it write lines of at least this level. Returns the loggers that changed; an
/// error names what is unknown.
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
    let mut set = lock(&levels.set);
    let mut next = set.clone();
    next.insert(logger.to_owned(), (level, Some(now)));
    let parts = next
        .iter()
        .map(|(logger, (level, _))| match logger.as_str() {
            ROOT => level.to_string(),
            logger => format!("{logger}={level}"),
        });
    let parts: Vec<String> = parts.collect();
    let filter = parts.join(",").parse::<Targets>();
    let filter = filter.map_err(|e| e.to_string())?;
    levels.handle.reload(filter).map_err(|e| e.to_string())?;
    *set = next;
    Ok(vec![logger.to_owned()])
}

/// Loggers with a level of their own: the level in capitals, and when it was set.
pub fn levels() -> BTreeMap<String, (String, Option<i64>)> {
    let Some(levels) = LEVELS.get() else {
        return BTreeMap::new();
    };
    let set = lock(&levels.set);
    let shown = |(logger, (level, since)): (&String, &Set)| {
        let level = level.to_string().to_uppercase();
        (logger.clone(), (level, *since))
    };
    set.iter().map(shown).collect()
}

/// One buffer per event, written with the bars out of the way.
#[derive(Debug, Clone, Copy)]
struct AsideStderr(LogFormat);

#[derive(Debug)]
struct Line {
    format: LogFormat,
    bytes: Vec<u8>,
}

/// Writes to stderr, whatever the levels are. A closed stderr must not stop a pipeline.
pub(crate) fn aside(bytes: &[u8]) {
    let text = printable_lines(&String::from_utf8_lossy(bytes)).into_owned();
    let _closed = drawing().suspend(|| io::stderr().lock().write_all(text.as_bytes()));
}

/// Replaces control characters of others' text that tracing lets through: it shows only C0 as text, and colours lines
/// itself.
fn shown(line: &[u8], format: LogFormat) -> Vec<u8> {
    let line = String::from_utf8_lossy(line);
    match format {
        LogFormat::Json => printable_json(&line),
        LogFormat::Text => printable_coloured(&line),
    }
    .into_owned()
    .into_bytes()
}

impl<'a> MakeWriter<'a> for AsideStderr {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line {
            format: self.0,
            bytes: Vec::new(),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut bytes = shown(&std::mem::take(&mut self.bytes), self.format);
        if let (LogFormat::Text, Some(fold)) = (self.format, FOLD.get()) {
            // On a terminal lines are folded between words; elsewhere an event is one line.
            let line = String::from_utf8_lossy(&bytes);
            bytes = fold(&line).into_bytes();
        }
        drawing().suspend(|| io::stderr().lock().write_all(&bytes))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // A closed stderr must not stop a pipeline.
        let _closed = self.flush();
    }
}
