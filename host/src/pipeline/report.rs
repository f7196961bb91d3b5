//! What a pipeline tells about itself: one call per event. Lines, bars, JSON and metrics are made of it in `telemetry`.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::commit::{Committed, State, View};
use crate::config::PipelineConfig;
use crate::error::Error;
use crate::sink::Gathered;

/// Wall time of a task by stage; polling an empty topic is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// From librdkafka's queue to columns.
    pub read: Duration,
    pub transform: Duration,
    /// Columns to Parquet.
    pub write: Duration,
    /// Closing the files; making them durable is the committer's.
    pub seal: Duration,
}

/// How a pipeline ended.
#[derive(Clone, Copy, Debug)]
pub enum Ending<'a> {
    /// It took what it was to take, or was asked to stop.
    Well {
        /// The pipeline of this process whose failure made it stop.
        because: Option<&'a str>,
    },
    /// A person has to act.
    Failed(&'a Error),
    /// It was never begun, because that pipeline of this process failed.
    NotBegun { because: &'a str },
}

/// What a task leaves behind when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Offsets that it read and nobody committed; they are read again.
    pub uncommitted: u64,
    /// Records behind the committed positions, the uncommitted ones among them; `None` where the source cannot say.
    pub lag: Option<u64>,
}

/// Why a pipeline does nothing for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// What it reads has not begun yet; it looks again all the time.
    NothingYet,
    /// All that was there is done; it looks again when its trigger says so.
    Done,
}

pub trait Report: Send + Sync + Debug {
    /// How many tasks are about to read; 1 where nobody says.
    fn tasks(&self, _count: usize) {}
    /// Records came from or went to a topic of which no commit speaks.
    fn topic(&self, _topic: &str) {}
    /// The log is open: whoever has questions about it reads its state there while the pipeline runs. Hold it weakly.
    fn opened(&self, _log: &Arc<View>) {}
    /// Ready to read; the state is the log's at that moment.
    fn started(&self, config: &PipelineConfig, state: &State);
    /// An entry with rows or offsets is proved and published; `took` since its files began to be made durable.
    fn committed(&self, committed: &Committed, state: &State, took: Duration);
    /// Other rules are in force from the next version on.
    fn swapped(&self, committed: &Committed);
    /// Records that wait behind a task's positions; `None` where the source cannot say.
    fn lag(&self, task: usize, lag: Option<u64>);
    /// Where a task's time went since its last seal.
    fn stages(&self, task: usize, stages: Stages);
    /// What a task has read and not yet seen committed; said every second, and when that changes.
    fn gathered(&self, _task: usize, _gathered: Gathered) {}
    /// Nothing is done before `next` has passed.
    fn resting(&self, _why: Rest, _next: Duration) {}
    /// A fault that may pass; said once until `resumed`.
    fn waiting(&self, error: &Error);
    fn resumed(&self);
    /// What a task leaves when it ends by itself, well or not; one that panics says nothing.
    fn left(&self, _task: usize, _left: Left) {}
    /// Where the log stands when all threads have ended.
    fn stands(&self, _state: &State) {}
    /// The pipeline's one ending, said by whoever runs it, after the last of its threads.
    fn ended(&self, ending: &Ending<'_>);
}
