//! A system that records come from: what there is to read in it, where reading begins, and what changes meanwhile.
//!
//! The pipeline asks in this order: `SourceConfig::connect` → [`Connector::topics`] → [`Connector::starts`] (pinned in the
//! log before anything is read, W1) → [`Connector::open`] once per task → [`Connector::changes`] now and then. It holds the
//! positions, in its log; a connector holds none. After each commit it tells [`Acknowledge`], which sets no position either.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Position, Source};
use crate::error::Result;
use crate::record::{SplitId, TopicPartition};

/// A system that answered.
pub trait Connector: Send + fmt::Debug {
    /// All that the config names, with the ends of its partitions as they are now.
    fn topics(&self) -> Result<Vec<TopicInfo>>;

    /// One of them.
    fn topic(&self, name: &str) -> Result<TopicInfo>;

    /// Where the partitions of a topic begin that was never read, as the config says. One for each partition, in its range.
    fn starts(&self, topic: &TopicInfo) -> Result<Vec<Position>>;

    /// What the log writes beside such a start: `earliest`, `group:orders`.
    fn start(&self) -> String;

    /// Opens a task's share. Positions lie inside what the partitions hold; where they do not, the error carries a
    /// [`Lost`](super::Lost).
    fn open(&self, positions: &[Position], limits: &ReadLimits) -> Result<Box<dyn Source>>;

    /// What differs from `known`.
    fn changes(&self, known: &[TopicInfo]) -> Result<Vec<Change>>;

    /// How often it is worth asking for changes. `None`: nothing ever changes.
    fn changes_every(&self) -> Option<Duration>;

    fn policy(&self) -> Policy {
        Policy::default()
    }

    /// Who hears of commits.
    fn acknowledge(&self) -> Result<Box<dyn Acknowledge>> {
        Ok(Box::new(Nobody))
    }
}

/// What the config wants done about records that nobody can read any more, and what a person can do where the pipeline stops
/// for them. By default it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Lost offsets become a gap in the log.
    pub gaps: bool,
    /// A topic that became another one under the same name is read from its beginning.
    pub reads_recreated: bool,
    /// What happened to such a topic: follows its name.
    pub recreated: &'static str,
    /// Remedies, in keys that this connector has.
    pub on_lost: &'static str,
    pub on_recreated: &'static str,
    pub on_gone: &'static str,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            gaps: false,
            reads_recreated: false,
            recreated: "has other records than those that were read",
            on_lost: "give the pipeline another name: it begins where records are now",
            on_recreated: "its offsets mean other records now: give the pipeline another name",
            on_gone: "what was read of it is committed; name another source",
        }
    }
}

/// What one task may hold and hand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Most records of a batch.
    pub batch_records: usize,
    /// A batch ends with the record that reaches this: bytes of keys and values.
    pub batch_bytes: usize,
    /// Bytes of the task's share of `memory.budget`; a source's queues may take an eighth of it.
    pub memory: usize,
}

/// A topic as it stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    pub name: Arc<str>,
    /// Another one after it was deleted and created again. The name where the system has no ids.
    pub id: String,
    /// Ascending by partition.
    pub partitions: Vec<PartitionInfo>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    pub split: SplitId,
    pub tp: TopicPartition,
    /// First offset that is still there.
    pub low: i64,
    /// Next offset after the last that may be read.
    pub high: i64,
}

/// What differs from the topics known so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Whatever the start policy, new partitions are read from their low end: their records are all new.
    NewPartitions(Vec<PartitionInfo>),
    /// Deleted and created again: old positions mean nothing in it.
    Recreated {
        was: String,
        now: TopicInfo,
    },
    Gone {
        topic: Arc<str>,
    },
}

/// Hears what was committed and passes it on to whoever shows it, such as the lag tools that read Kafka's group offsets. It
/// is told after the log has the positions, and may miss some.
pub trait Acknowledge: Send + fmt::Debug {
    /// After each commit. Never waits.
    fn acknowledge(&self, positions: &[Position]);

    /// Waits at most `wait` until all is passed on; false if it is not. For the end of a run.
    fn flush(&self, wait: Duration) -> bool;

    /// What it holds now, partitions without a position left out: read once at the start, for the alarm of R4.
    fn committed(&self, of: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>>;

    /// The consumer group, or whatever stands in its place.
    fn name(&self) -> &str;
}

/// Nobody wants to know.
#[derive(Clone, Copy, Debug)]
pub struct Nobody;

impl Acknowledge for Nobody {
    fn acknowledge(&self, _: &[Position]) {}

    fn flush(&self, _: Duration) -> bool {
        true
    }

    fn committed(&self, _: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>> {
        Ok(BTreeMap::new())
    }

    fn name(&self) -> &str {
        ""
    }
}
