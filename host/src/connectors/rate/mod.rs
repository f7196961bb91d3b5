//! `source.type = "rate"`: rows that Weir makes itself at a fixed rate, for trials and tests, like Spark's rate source.
//!
//! A partition has every n-th row, a position is the number of a row in its partition. The content of a row follows
//! from its number and the keys that are part of the partition's id, so a row that is read again is the same, byte for
//! byte. After a restart rows go on from the committed position at the same pace: no rows accumulate while nothing
//! runs.

mod keys;
mod pace;
mod rows;
mod source;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::SourceConfig;
use crate::error::{Error, Kind, Result};
use crate::record::{SplitId, TopicPartition};
use crate::source::TopicInfo;
use crate::source::{Change, Connector, PartitionInfo, Policy, Position, ReadLimits, Source};

pub use keys::SOURCE;
use pace::Pace;
use rows::{Format, Sample};
use source::RateSource;

/// The checked keys.
#[derive(Clone, Debug)]
pub struct RateConfig {
    /// One name, as the topic's.
    topics: Vec<String>,
    per_second: u64,
    ramp_up: Duration,
    partitions: i32,
    seed: u64,
    sample: Sample,
    format: Format,
    /// Between the timestamps of two rows.
    step: Duration,
    /// How many there are of all partitions together. `None`: no end.
    rows: Option<u64>,
}

impl SourceConfig for RateConfig {
    fn topics(&self) -> &[String] {
        &self.topics
    }

    fn describe(&self) -> String {
        match self.sample {
            Sample::Numbers => format!("rate[{}/s]", self.per_second),
            sample => format!("rate[{} {}/s]", self.per_second, sample.name()),
        }
    }

    fn connect(&self, clock: &Arc<dyn Clock>) -> Result<Box<dyn Connector>> {
        Ok(Box::new(Rate {
            config: self.clone(),
            clock: clock.clone(),
        }))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[derive(Debug)]
struct Rate {
    config: RateConfig,
    clock: Arc<dyn Clock>,
}

impl Rate {
    /// Everything that decides the content of rows: if it differs, they are other rows, as if the topic had been
    /// created again.
    fn id(&self) -> String {
        let RateConfig {
            seed,
            partitions,
            sample,
            format,
            step,
            ..
        } = &self.config;
        let made = match sample {
            Sample::Numbers => format.name(),
            books => books.name(),
        };
        format!("{seed}-{made}-{}us-of-{partitions}", step.as_micros())
    }

    fn partition(&self, topic: &Arc<str>, partition: i32) -> PartitionInfo {
        PartitionInfo {
            split: SplitId::new(format!("rate/{topic}/{}/{partition}", self.id())),
            tp: TopicPartition {
                topic: topic.clone(),
                partition,
            },
            low: 0,
            high: self.config.rows_of(partition),
        }
    }
}

impl RateConfig {
    /// Rows `p`, `p + n`, `p + 2 n`, … are of partition `p` of `n`.
    fn rows_of(&self, partition: i32) -> i64 {
        let (n, p) = (
            u64::from(self.partitions.unsigned_abs()),
            u64::from(partition.unsigned_abs()),
        );
        let rows = self.rows.map(|rows| rows.saturating_sub(p).div_ceil(n));
        rows.and_then(|rows| i64::try_from(rows).ok())
            .unwrap_or(i64::MAX)
    }
}

impl Connector for Rate {
    fn topics(&self) -> Result<Vec<TopicInfo>> {
        let names = self.config.topics.iter();
        names.map(|name| self.topic(name)).collect()
    }

    fn topic(&self, name: &str) -> Result<TopicInfo> {
        let name: Arc<str> = name.into();
        let partitions = 0..self.config.partitions;
        Ok(TopicInfo {
            id: self.id(),
            partitions: partitions.map(|p| self.partition(&name, p)).collect(),
            name,
        })
    }

    fn starts(&self, topic: &TopicInfo) -> Result<Vec<Position>> {
        Ok(topic.partitions.iter().map(PartitionInfo::first).collect())
    }

    fn start(&self) -> String {
        "earliest".to_owned()
    }

    fn open(&self, positions: &[Position], limits: &ReadLimits) -> Result<Box<dyn Source>> {
        let pace = Pace::new(self.config.per_second, self.config.ramp_up);
        let mut source = RateSource::new(self.config.clone(), pace, *limits, self.clock.clone());
        source.assign(positions)?;
        Ok(Box::new(source))
    }

    fn changes(&self, _: &[TopicInfo]) -> Result<Vec<Change>> {
        Ok(Vec::new())
    }

    fn changes_every(&self) -> Option<Duration> {
        None
    }

    fn policy(&self) -> Policy {
        Policy {
            recreated: "has other rows than those that were read",
            on_recreated: "put source.seed, source.partitions, source.sample, source.format and source.timestamp.step back as they were, or \
                           give the pipeline another name",
            ..Policy::default()
        }
    }
}

fn unknown(op: &'static str, position: &Position) -> Error {
    Error::new(Kind::Bug, op, "a partition that is not read").with("partition", &position.tp)
}
