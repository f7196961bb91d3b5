//! A system that records come from: what can be read in it, where reading begins, and what changes meanwhile.
//!
//! The pipeline asks in this order: `SourceConfig::connect` → [`Connector::topics`] → [`Connector::starts`] (pinned in
//! the log before anything is read, W1) → [`Connector::open`] once per task → [`Connector::changes`] now and then. The
//! pipeline holds the positions, in its log; a connector holds none. After each commit it informs [`Acknowledge`],
//! which does not set positions either.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Position, Source};
use crate::error::Result;
use crate::record::{SplitId, TopicPartition};

/// A connection to a system that has answered.
pub trait Connector: Send + fmt::Debug {
    /// All topics that the config names, with the present first and next offsets of their partitions.
    fn topics(&self) -> Result<Vec<TopicInfo>>;

    /// One of these topics.
    fn topic(&self, name: &str) -> Result<TopicInfo>;

    /// The start of each partition of a topic that was never read, as the config says; inside the partition's range.
    fn starts(&self, topic: &TopicInfo) -> Result<Vec<Position>>;

    /// Before reading begins for the first time: whether what the config says of the start fits what is there.
    fn begins(&self, _topics: &[TopicInfo]) -> Result<()> {
        Ok(())
    }

    /// How the log names such a start: `earliest`, `group:orders`.
    fn start(&self) -> String;

    /// A person asks that reading go on there, inside the partition's range: an error where the source knows now that it cannot.
    fn may_go_on_at(&self, _at: &PartitionInfo, _next: i64) -> Result<()> {
        Ok(())
    }

    /// Opens a task's share. If a position lies outside of what its partition holds, the error carries a
    /// [`Lost`](super::Lost).
    fn open(&self, positions: &[Position], limits: &ReadLimits) -> Result<Box<dyn Source>>;

    /// What differs from `known`.
    fn changes(&self, known: &[TopicInfo]) -> Result<Vec<Change>>;

    /// How often it is worth asking for changes. `None`: nothing ever changes.
    fn changes_every(&self) -> Option<Duration>;

    fn policy(&self) -> Policy {
        Policy::default()
    }

    /// Who is informed of commits.
    fn acknowledge(&self) -> Result<Box<dyn Acknowledge>> {
        Ok(Box::new(Nobody))
    }
}

/// What happens when records can no longer be read, according to the config, and what a person can do if the pipeline
/// stops because of them. By default it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Lost offsets become a gap in the log.
    pub gaps: bool,
    /// A topic that was deleted and created again is read from its beginning.
    pub reads_recreated: bool,
    /// What happened to such a topic, as the rest of a sentence that begins with its name.
    pub recreated: &'static str,
    /// Remedies, in terms of this connector's keys.
    pub on_lost: &'static str,
    pub on_recreated: &'static str,
    pub on_gone: &'static str,
    /// Where the log stands above the end of a partition.
    pub on_above: &'static str,
    /// Topics are found by a pattern: others come, and with `gaps` one that is deleted is left behind.
    pub finds_topics: bool,
    /// Partitions of what is there at the start are found after it: whoever takes what is there asks for changes until then.
    pub late_partitions: bool,
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
            on_above: "records that were read are lost at the source, or the topic is another one: start a new pipeline for it",
            finds_topics: false,
            late_partitions: false,
        }
    }
}

impl Policy {
    /// A topic that was deleted ends no pipeline.
    pub fn leaves_gone(self) -> bool {
        self.finds_topics && self.gaps
    }
}

/// The limits of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Most records of a batch.
    pub batch_records: usize,
    /// A batch ends with the record that reaches this: bytes of keys and values.
    pub batch_bytes: usize,
    /// Bytes of the task's share of `memory.budget`; a source's queues may take an eighth of it.
    pub memory: usize,
}

/// A topic in its present state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    pub name: Arc<str>,
    /// It changes when the topic is deleted and created again. The name, if the system has no ids.
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

impl PartitionInfo {
    /// Where reading begins that begins with the first record.
    pub fn first(&self) -> Position {
        Position {
            split: self.split.clone(),
            epoch: 0,
            tp: self.tp.clone(),
            next: self.low,
        }
    }
}

/// What differs from the topics known so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Whatever the start policy says, new partitions are read from their first offset: their records are all new.
    NewPartitions(Vec<PartitionInfo>),
    /// Topics that the config finds by a pattern, and that were not there before: all their records are new.
    NewTopics(Vec<TopicInfo>),
    /// Deleted and created again: old positions mean nothing in it.
    Recreated {
        was: String,
        now: TopicInfo,
    },
    Gone {
        topic: Arc<str>,
    },
}

/// Passes committed positions on to where tools show them, such as Kafka's group offsets. It is informed after the log
/// has the positions, and may miss some.
pub trait Acknowledge: Send + fmt::Debug {
    /// Called after each commit. Never waits.
    fn acknowledge(&self, positions: &[Position]);

    /// Waits at most `wait` until everything is passed on; false if it is not. For the end of a run.
    fn flush(&self, wait: Duration) -> bool;

    /// The positions that it holds now, without partitions that have none. Read once at the start, for the alarm of R4.
    fn committed(&self, of: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>>;

    /// The consumer group, or what corresponds to it.
    fn name(&self) -> &str;
}

/// Nobody is informed of commits.
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
