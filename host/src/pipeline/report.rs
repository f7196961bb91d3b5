//! What a pipeline reports about itself: one call per event. `telemetry` makes lines, bars, JSON and metrics of it.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::commit::{Committed, State, View};
use crate::config::PipelineConfig;
use crate::error::Error;
use crate::sink::{Gathered, Notes};
use crate::source::End;

/// Wall time of a task by stage; polling an empty topic is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// From librdkafka's queue to columns.
    pub read: Duration,
    pub transform: Duration,
    /// Columns to Parquet.
    pub write: Duration,
    /// Closing the files; the committer makes them durable.
    pub seal: Duration,
}

/// What a commit made visible, beside what its entry says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    pub notes: Notes,
    /// From the proof of the entry to the last file in its final place.
    pub publish: Duration,
}

/// How a pipeline ended.
#[derive(Clone, Copy, Debug)]
pub enum Ending<'a> {
    /// It read everything that it should read, or was asked to stop.
    Well {
        /// What made it stop, if nobody asked from outside: another pipeline of this process failed, or `errors.max` paused one.
        because: Option<&'a str>,
    },
    /// A person has to act.
    Failed(&'a Error),
    /// It was never begun, because that pipeline of this process failed.
    NotBegun { because: &'a str },
}

/// What a task had not finished when it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Offsets that it read and that were not committed; they are read again.
    pub uncommitted: u64,
    /// Records above the committed positions, including the uncommitted ones; `None`: the source cannot say.
    pub lag: Option<u64>,
}

/// Why a pipeline does nothing for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// What it reads has not begun yet; it looks again all the time.
    NothingYet,
    /// Everything that was there is done; it looks again when its trigger says so.
    Done,
    /// As much as one run takes is done, and there is more.
    Limited,
    /// Less waits than a run is worth.
    TooFew,
    /// Its schedule says that it begins later.
    NotDue,
}

pub trait Report: Send + Sync + Debug {
    /// How many tasks are about to read; 1 if this is not called.
    fn tasks(&self, _count: usize) {}
    /// Records came from or went to a topic that no commit names.
    fn topic(&self, _topic: &str) {}
    /// The log is open: its state can be read in this view while the pipeline runs. Keep only a weak reference.
    fn opened(&self, _log: &Arc<View>) {}
    /// The pipeline is ready to read; `state` is the log's at that moment.
    fn started(&self, config: &PipelineConfig, state: &State);
    /// An entry with rows or offsets is proved and published; `took`: the time since the committer began to make its
    /// files durable.
    fn committed(&self, committed: &Committed, state: &State, took: Duration);
    /// Comes right before `committed`.
    fn shown(&self, _shown: Shown) {}
    /// Other rules are in force from the next version on.
    fn swapped(&self, committed: &Committed);
    /// Where the partitions of a task end now, as far as its source knows.
    fn ends(&self, _task: usize, _ends: &[End]) {}
    /// Records above a task's positions; `None`: the source cannot say.
    fn lag(&self, task: usize, lag: Option<u64>);
    /// Where a task's time went since its last seal.
    fn stages(&self, task: usize, stages: Stages);
    /// What a task has read and not yet seen committed; reported every second, and when it changes.
    fn gathered(&self, _task: usize, _gathered: Gathered) {}
    /// The pipeline does nothing until `next` has passed.
    fn resting(&self, _why: Rest, _next: Duration) {}
    /// The rest is over: it looks again.
    fn looks(&self) {}
    /// A fault that may pass; reported once until `resumed`.
    fn waiting(&self, error: &Error);
    fn resumed(&self);
    /// What a task had not finished when it ended by itself, well or not. Not called for a task that panics.
    fn left(&self, _task: usize, _left: Left) {}
    /// The log's state when all threads have ended.
    fn stands(&self, _state: &State) {}
    /// How the pipeline ended: called once, by its runner, after the last of its threads.
    fn ended(&self, ending: &Ending<'_>);
}
