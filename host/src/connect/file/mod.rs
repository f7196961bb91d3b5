//! Connect's own file connectors: lines of a file into a topic, and records of topics as lines of a file. They run in the
//! daemon only.
//!
//! Promises: the sink writes each record once, over kills and restarts (its file and its positions move together); the
//! source sends each line at least once, as Connect does without transactions.

mod config;
mod mark;
mod print;
mod sink;
mod source;
mod state;

pub use crate::supervisor::Offset;
pub use config::{FileSink, FileSource, Lines, Written};
pub use state::{alter, offsets, reset};

use std::path::PathBuf;
use std::sync::Arc;

use super::Job;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::pipeline::{Report, Stop};

/// What a file connector gets from its process.
#[derive(Clone, Debug)]
pub struct FileContext {
    pub clock: Arc<dyn Clock>,
    pub stop: Stop,
    pub report: Arc<dyn Report>,
    /// Positions are kept there, in `<name>.offsets.json`.
    pub state_dir: PathBuf,
}

/// Runs until somebody asks it to stop or nothing can fix what is wrong. Brokers that are away are waited for.
pub fn run(job: &Job, ctx: &FileContext) -> Result<()> {
    ctx.report.tasks(1);
    match job {
        Job::FileSource(job) => source::run(job, ctx),
        Job::FileSink(job) => sink::run(job, ctx),
        Job::Pipeline(config) => Err(Error::new(
            Kind::Bug,
            "file.run",
            format!("{} is a pipeline, not a file connector", config.name),
        )),
    }
}
