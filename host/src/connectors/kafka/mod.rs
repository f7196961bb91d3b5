//! `source.type = "kafka"`: topics of a cluster, read by assigned partitions.
//!
//! A partition is one of a topic by its id, a position is an offset. New partitions and recreated topics are looked for.
//! Commits are passed on as offsets of the consumer group, for lag tools. The client itself is [`crate::kafka`].

mod start;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::keys::KAFKA_PREFIX;
use crate::config::librdkafka::{PROBE, Property, Takes, property};
use crate::config::{KafkaSourceConfig, OnDataLoss, OnTopicRecreated};
use crate::error::Result;
use crate::kafka::{GroupOffsets, KafkaCluster, KafkaProps, KafkaSource, Limits};
use crate::source::{Acknowledge, Change, Connector, Policy, Position, ReadLimits, Source};
use crate::source::{SourceConfig, TopicInfo};

/// 1 / share of a task's memory for librdkafka's queue.
const QUEUE_SHARE: usize = 8;
/// Bytes. Below it the fetcher starves, above it nothing reads faster.
const QUEUE_MIN: usize = 1 << 20;
const QUEUE_MAX: usize = 16 << 20;

impl SourceConfig for KafkaSourceConfig {
    fn topics(&self) -> &[String] {
        &self.topics
    }

    fn describe(&self) -> String {
        format!("kafka[{}]", self.topics.join(","))
    }

    fn connect(&self, clock: &Arc<dyn Clock>) -> Result<Box<dyn Connector>> {
        let props = props(self)?;
        let cluster = KafkaCluster::connect(&props)?;
        Ok(Box::new(Kafka {
            config: self.clone(),
            props,
            cluster,
            clock: clock.clone(),
        }))
    }

    /// What a reference stands for is looked at when a client is made of it.
    fn files(&self) -> Vec<(String, PathBuf)> {
        let mut files = Vec::new();
        for (name, text) in &self.properties {
            let file = matches!(property(name), Property::Allowed(a) if a.takes == Takes::File);
            if file && !text.has_reference() && text.typed().trim() != PROBE {
                let path = PathBuf::from(text.typed().trim());
                files.push((format!("{KAFKA_PREFIX}{name}"), path));
            }
        }
        files
    }
}

/// References resolve here, at use.
fn props(config: &KafkaSourceConfig) -> Result<KafkaProps> {
    let mut properties = config.client_properties()?;
    let bootstrap = properties.remove("bootstrap.servers").unwrap_or_default();
    KafkaProps::new(&bootstrap, &config.group_id, &properties)
}

/// A cluster that answered.
#[derive(Debug)]
struct Kafka {
    config: KafkaSourceConfig,
    props: KafkaProps,
    cluster: KafkaCluster,
    clock: Arc<dyn Clock>,
}

impl Connector for Kafka {
    fn topics(&self) -> Result<Vec<TopicInfo>> {
        let topics = self.config.topics.iter();
        topics.map(|name| self.cluster.describe(name)).collect()
    }

    fn topic(&self, name: &str) -> Result<TopicInfo> {
        self.cluster.describe(name)
    }

    fn starts(&self, topic: &TopicInfo) -> Result<Vec<Position>> {
        start::positions(&self.cluster, &self.props, topic, &self.config.start)
    }

    fn start(&self) -> String {
        self.config.start.to_string()
    }

    fn open(&self, positions: &[Position], limits: &ReadLimits) -> Result<Box<dyn Source>> {
        let limits = Limits {
            batch_records: limits.batch_records,
            batch_bytes: limits.batch_bytes,
            queue_bytes: (limits.memory / QUEUE_SHARE).clamp(QUEUE_MIN, QUEUE_MAX),
            ..Limits::default()
        };
        let source = KafkaSource::open(&self.props, positions, limits, self.clock.clone())?;
        Ok(Box::new(source))
    }

    fn changes(&self, known: &[TopicInfo]) -> Result<Vec<Change>> {
        self.cluster.refresh(known)
    }

    fn changes_every(&self) -> Option<Duration> {
        Some(self.config.metadata_refresh)
    }

    fn policy(&self) -> Policy {
        Policy {
            gaps: self.config.on_data_loss == OnDataLoss::Gap,
            reads_recreated: self.config.on_topic_recreated == OnTopicRecreated::Continue,
        }
    }

    fn acknowledge(&self) -> Result<Box<dyn Acknowledge>> {
        Ok(Box::new(GroupOffsets::open(&self.props)?))
    }
}
