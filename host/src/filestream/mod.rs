//! Connect's own file connectors: lines of a file into a topic, and records of topics as lines of a file. They run in the
//! daemon only.
//!
//! The source is a pipeline: the file is followed, and the Kafka sink sends each line once ([docs/kafka-sink.md]). Only its keys
//! and its offsets are here. The sink has a runtime of its own, and writes each record once, over kills and restarts: its file and
//! its positions are saved together (docs/adr/0022 says why it has no log).

mod config;
mod print;
mod sink;
mod source;
mod state;

pub use config::{FileSink, Lines};
pub use source::{FileSource, Written};
pub use state::{alter, offsets, reset};

use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::{Problem, Raw};
use crate::connect::{Class, ConnectorKind, Defaults, FILE_SINK, FILE_SOURCE};
use crate::error::Result;
use crate::pipeline::{Report, Stop};

/// What a file sink gets from its process.
#[derive(Clone, Debug)]
pub struct FileContext {
    pub clock: Arc<dyn Clock>,
    pub stop: Stop,
    pub report: Arc<dyn Report>,
    /// Positions are kept there, in `<name>.offsets.json`.
    pub state_dir: PathBuf,
}

/// A connector of one of the two classes.
#[derive(Debug)]
pub enum FileJob {
    Source(Box<FileSource>),
    Sink(Box<FileSink>),
}

impl FileJob {
    pub fn name(&self) -> &str {
        match self {
            FileJob::Source(job) => &job.name,
            FileJob::Sink(job) => &job.name,
        }
    }

    pub fn kind(&self) -> ConnectorKind {
        match self {
            FileJob::Source(_) => ConnectorKind::Source,
            FileJob::Sink(_) => ConnectorKind::Sink,
        }
    }
}

/// The job of a config of one of the two classes, and all its problems. `None`: another class, or an invalid config.
pub fn read(
    raw: &mut Raw,
    class: &'static Class,
    defaults: &Defaults,
) -> (Option<FileJob>, Vec<Problem>) {
    let mut problems = Vec::new();
    let job = match class.name {
        FILE_SOURCE => {
            problems.extend(defaults.keys(raw));
            let (job, found) = FileSource::read(raw, class, defaults);
            problems.extend(found);
            job.map(Box::new).map(FileJob::Source)
        }
        FILE_SINK => {
            problems.extend(defaults.keys(raw));
            let (job, found) = FileSink::read(raw, class, defaults);
            problems.extend(found);
            job.map(Box::new).map(FileJob::Sink)
        }
        _ => None,
    };
    (job, problems)
}

/// Whether [`read`] reads configs of this class.
pub fn reads(class: &Class) -> bool {
    matches!(class.name, FILE_SOURCE | FILE_SINK)
}

/// Runs a sink until somebody asks it to stop, or a failure needs a person. It waits for brokers that are away.
pub fn run(job: &FileSink, ctx: &FileContext) -> Result<()> {
    ctx.report.tasks(1);
    sink::run(job, ctx)
}
