//! `source.type = "kafka"`: topics of a cluster, read by assigned partitions.
//!
//! A split is a partition of a topic, named by the topic's id; a position is an offset. It watches for new partitions
//! and recreated topics. Commits are passed on as offsets of the consumer group, for lag tools. The client itself is
//! [`crate::kafka`].

pub mod dead_letters;
mod examine;
mod keys;
mod properties;
pub mod sink;
mod start;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::keys::KAFKA_PREFIX;
use crate::config::librdkafka::{self, PROBE, Property, Takes, property};
use crate::config::{PerTrigger, SourceConfig, Start, Text, TopicPattern};
use crate::error::{Kind, Result};
use crate::finding::Finding;
use crate::kafka::{GroupOffsets, KafkaCluster, KafkaProps, KafkaSource, Limits, ON_LOST};
use crate::source::TopicInfo;
use crate::source::{Acknowledge, Change, Connector, Policy, Position, ReadLimits, Source};

pub use keys::SOURCE;

/// One in this many parts of a task's memory is for librdkafka's queue.
const QUEUE_SHARE: usize = 8;
/// Bytes. With less the fetcher starves. With more the messages are no longer in the processor's cache when they are
/// copied: 16 MiB cost 7 % of all CPU time. A link on which an answer takes 100 ms carries 20 MB/s for each task and broker
/// with it; `source.kafka.queued.max.messages.kbytes` and `source.kafka.fetch.max.bytes` raise it.
const QUEUE_MIN: usize = 1 << 20;
const QUEUE_MAX: usize = 2 << 20;

/// The checked keys.
#[derive(Clone, Debug)]
pub struct KafkaSourceConfig {
    /// At least one, no duplicates; none with a pattern.
    pub topics: Vec<String>,
    pub pattern: Option<Subscription>,
    pub start: Start,
    /// Comma list of host:port. `client_properties` has it too.
    pub bootstrap_servers: Text,
    /// Group under which committed positions are written for lag tools; never read back.
    pub group_id: String,
    /// `source.kafka.*`: property → value, without those that Weir sets itself.
    pub properties: BTreeMap<String, Text>,
    pub on_data_loss: OnDataLoss,
    pub on_topic_recreated: OnTopicRecreated,
    pub metadata_refresh: Duration,
    pub per_trigger: PerTrigger,
}

/// Topics that are found by their names.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub pattern: TopicPattern,
    /// Topics are tables: those whose directories engines do not see are passed over.
    pub only_visible: bool,
}

impl Subscription {
    pub(super) fn takes(&self, topic: &str) -> bool {
        self.pattern.takes(topic) && !self.hides(topic)
    }

    fn hides(&self, topic: &str) -> bool {
        self.only_visible && topic.starts_with(['_', '.', '-'])
    }
}

/// Records between the committed position and the first one that the broker still has are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDataLoss {
    /// Stop and name the lost range.
    Fail,
    /// Commit the lost range as a gap and go on.
    Gap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTopicRecreated {
    Fail,
    /// Read the new topic from its beginning, as a new split.
    Continue,
}

impl KafkaSourceConfig {
    /// What librdkafka needs to connect, resolved now: `bootstrap.servers` and `source.kafka.*`.
    pub fn client_properties(&self) -> Result<BTreeMap<String, String>> {
        let mut all = librdkafka::resolved(&self.properties, KAFKA_PREFIX)?;
        let servers = self
            .bootstrap_servers
            .resolve()
            .map_err(|e| e.with("key", "source.bootstrap.servers"))?;
        all.insert("bootstrap.servers".to_owned(), servers);
        Ok(all)
    }
}

impl SourceConfig for KafkaSourceConfig {
    fn topics(&self) -> &[String] {
        &self.topics
    }

    fn reads(&self, topic: &str) -> bool {
        let named = self.topics.iter().any(|name| name == topic);
        named
            || self
                .pattern
                .as_ref()
                .is_some_and(|found| found.takes(topic))
    }

    fn per_trigger(&self) -> PerTrigger {
        self.per_trigger
    }

    fn describe(&self) -> String {
        match &self.pattern {
            Some(found) => format!("kafka[/{}/]", found.pattern),
            None => format!("kafka[{}]", self.topics.join(",")),
        }
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

    /// The value of a reference is checked when a client is made.
    fn files(&self) -> Vec<(String, &Text)> {
        let is_file =
            |name: &str| matches!(property(name), Property::Allowed(a) if a.takes == Takes::File);
        let named = self.properties.iter().filter(|(name, text)| {
            is_file(name) && !text.has_reference() && text.typed().trim() != PROBE
        });
        named
            .map(|(name, text)| (format!("{KAFKA_PREFIX}{name}"), text))
            .collect()
    }

    fn examine(&self, _: &Arc<dyn Clock>, tell: &mut dyn FnMut(Finding)) {
        examine::examine(self, tell);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// References are resolved here, at use.
pub(super) fn props(config: &KafkaSourceConfig) -> Result<KafkaProps> {
    let mut properties = config.client_properties()?;
    let bootstrap = properties.remove("bootstrap.servers").unwrap_or_default();
    KafkaProps::new(&bootstrap, &config.group_id, &properties)
}

/// Those of these topics that the pattern matches and that are still there.
fn described(
    cluster: &KafkaCluster,
    found: &Subscription,
    there: Vec<String>,
) -> Result<Vec<TopicInfo>> {
    let mut topics = Vec::new();
    for name in there.iter().filter(|name| found.takes(name)) {
        match cluster.describe(name) {
            Ok(topic) => topics.push(topic),
            // Deleted since it was listed.
            Err(error) if error.kind() == Kind::ConfigInvalid && cluster.is_gone(name) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(topics)
}

fn said_of_hidden(found: &Subscription, there: &[String]) {
    let hidden = |name: &&String| found.pattern.takes(name) && found.hides(name);
    let hidden: Vec<&str> = there.iter().filter(hidden).map(String::as_str).collect();
    if !hidden.is_empty() {
        tracing::warn!(
            topics = hidden.join(","),
            "source.subscribe.pattern matches topics that are not read: engines would not see tables of these names; \
             sink.table names one table for all topics"
        );
    }
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
        match &self.config.pattern {
            Some(found) => {
                let there = self.cluster.topics()?;
                said_of_hidden(found, &there);
                described(&self.cluster, found, there)
            }
            None => {
                let topics = self.config.topics.iter();
                topics.map(|name| self.cluster.describe(name)).collect()
            }
        }
    }

    fn topic(&self, name: &str) -> Result<TopicInfo> {
        self.cluster.describe(name)
    }

    fn starts(&self, topic: &TopicInfo) -> Result<Vec<Position>> {
        start::positions(&self.cluster, &self.props, topic, &self.config.start)
    }

    fn begins(&self, topics: &[TopicInfo]) -> Result<()> {
        start::are_there(&self.config.start, topics)
    }

    fn start(&self) -> String {
        match &self.config.start {
            // Each partition's own offset stands beside it; the list of all of them would stand there once for each.
            Start::Offsets(_) => "offset".to_owned(),
            start => start.to_string(),
        }
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
        let mut changes = self.cluster.refresh(known)?;
        if let Some(found) = &self.config.pattern {
            let is_new = |name: &String| known.iter().all(|topic| *topic.name != **name);
            let new = self.cluster.topics()?.into_iter().filter(is_new);
            let new = described(&self.cluster, found, new.collect())?;
            if !new.is_empty() {
                changes.push(Change::NewTopics(new));
            }
        }
        Ok(changes)
    }

    fn changes_every(&self) -> Option<Duration> {
        Some(self.config.metadata_refresh)
    }

    fn policy(&self) -> Policy {
        Policy {
            gaps: self.config.on_data_loss == OnDataLoss::Gap,
            reads_recreated: self.config.on_topic_recreated == OnTopicRecreated::Continue,
            recreated: "was deleted and created again",
            on_lost: ON_LOST,
            on_recreated: "its offsets mean other records now; source.on.topic.recreated = \"continue\" reads the new topic \
                           from its beginning",
            on_gone: match self.config.pattern {
                Some(_) => {
                    "what was read of it is committed; start again to go on with the others, or set source.on.data.loss = \"gap\""
                }
                None => {
                    "what was read of it is committed; take it out of source.topics to go on with the others"
                }
            },
            finds_topics: self.config.pattern.is_some(),
            ..Policy::default()
        }
    }

    fn acknowledge(&self) -> Result<Box<dyn Acknowledge>> {
        Ok(Box::new(GroupOffsets::open(&self.props)?))
    }
}
