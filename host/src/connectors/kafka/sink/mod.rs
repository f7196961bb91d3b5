//! `sink.type = "kafka"`: rows as records of topics, each exactly once for whoever reads committed records.
//!
//! ```text
//! rows.rs   a row becomes a record, or a dead letter           topics.rs  the topics that rows name
//! task.rs   one task's records since its last seal             packet.rs  those records as bytes
//! outbox.rs packets on their way, whoever dies (K1 to K4)      takes.rs   transactions of the cluster
//! ```
//! The log and the dead letters lie in the pipeline's home, `sink.url`.

mod examine;
mod keys;
pub mod outbox;
mod packet;
pub mod rows;
mod takes;
mod task;
mod topics;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use crate::clock::Clock;
use crate::commit::LogName;
use crate::config::keys::SINK_KAFKA_PREFIX;
use crate::config::librdkafka::{self, PROBE, Property, Takes, property};
use crate::config::{PipelineConfig, SinkConfig, TableName, Text, Tolerance, Unit};
use crate::connectors::zone::parquet_options;
use crate::error::{Error, Kind, Result};
use crate::finding::Finding;
use crate::hash::sha256;
use crate::kafka::{KafkaCluster, KafkaProps};
use crate::sink::format::Format;
use crate::sink::{Receiver, Sink, SinkConnector, SinkContext};
use crate::store::Store;
use crate::zone::{LetterFiles, LettersTable};
use outbox::{FromOutbox, Outbox};
use rows::Rows;
use takes::Cluster;
use task::KafkaSink;
use topics::Topics;

pub use keys::SINK;

/// Digits of the digest of a log's first entry, in the transactional id: pipelines of one name and different logs must not take
/// over from each other.
const LOG_DIGITS: usize = 12;
/// Of a batch of records beside the largest record in it.
const BATCH_OVERHEAD: usize = 4096;

/// The checked keys.
#[derive(Clone, Debug)]
pub struct KafkaSinkConfig {
    bootstrap_servers: Text,
    /// `sink.kafka.*`: property → value. None that the host owns.
    properties: BTreeMap<String, Text>,
    layout: RecordLayout,
    commit_age: Duration,
    commit_bytes: u64,
    id_prefix: String,
}

/// What a row becomes.
#[derive(Clone, Debug)]
pub struct RecordLayout {
    topic: String,
    topic_column: Option<String>,
    key: Option<String>,
    format: Format,
    columns: Option<Vec<String>>,
    headers: Vec<String>,
    keeps_headers: bool,
    partitioner: Partitioner,
    keeps_timestamp: bool,
    record_bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partitioner {
    Murmur2,
    Crc32,
    /// The number of the partition that was read.
    Source,
    Column(String),
}

impl RecordLayout {
    fn names_partitions(&self) -> bool {
        matches!(
            self.partitioner,
            Partitioner::Source | Partitioner::Column(_)
        )
    }

    fn partition_column(&self) -> Option<String> {
        match &self.partitioner {
            Partitioner::Column(name) => Some(name.clone()),
            _ => None,
        }
    }
}

impl KafkaSinkConfig {
    pub fn topic(&self) -> &str {
        &self.layout.topic
    }

    /// References resolve here, at use.
    pub fn props(&self) -> Result<KafkaProps> {
        let servers = self.bootstrap_servers.resolve();
        let servers = servers.map_err(|e| e.with("key", "sink.bootstrap.servers"))?;
        let properties = librdkafka::resolved(&self.properties, SINK_KAFKA_PREFIX)?;
        let props = KafkaProps::new(&servers, "", &properties).map_err(at_sink)?;
        let partitioner = match self.layout.partitioner {
            Partitioner::Crc32 => "consistent_random",
            _ => "murmur2_random",
        };
        let most = self.layout.record_bytes + BATCH_OVERHEAD;
        Ok(props
            .producing("partitioner", partitioner)
            .producing("message.max.bytes", &most.to_string()))
    }
}

impl SinkConfig for KafkaSinkConfig {
    fn kind(&self) -> &'static str {
        SINK.name
    }

    fn describe(&self) -> String {
        match &self.layout.topic_column {
            Some(column) => format!("kafka[{}, by {column}]", self.layout.topic),
            None => format!("kafka[{}]", self.layout.topic),
        }
    }

    fn bytes_at_once(&self) -> u64 {
        self.commit_bytes
    }

    fn sends_again(&self) -> Option<String> {
        Some(format!(
            "records that topic '{}' has cannot be taken back: rows from there on are sent again",
            self.topic()
        ))
    }

    /// What a reference stands for is looked at when a client is made of it.
    fn files(&self) -> Vec<(String, &Text)> {
        let is_file =
            |name: &str| matches!(property(name), Property::Allowed(a) if a.takes == Takes::File);
        let named = self.properties.iter().filter(|(name, text)| {
            is_file(name) && !text.has_reference() && text.typed().trim() != PROBE
        });
        named
            .map(|(name, text)| (format!("{SINK_KAFKA_PREFIX}{name}"), text))
            .collect()
    }

    fn examine(&self, _: &Arc<dyn Clock>, tell: &mut dyn FnMut(Finding)) {
        examine::examine(self, tell);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What the client says of a source, said of a sink.
fn at_sink(error: Error) -> Error {
    let kind = match error.kind() {
        Kind::SourceUnavailable => Kind::SinkUnavailable,
        Kind::RecordRefused => Kind::SinkRefused,
        kind => kind,
    };
    let hint = error
        .hint_text()
        .map(|hint| super::properties::Of::Sink.told(hint));
    let error = error.of_kind(kind);
    match hint {
        Some(hint) => error.hint(hint.replace("sink.topics", "sink.topic.name")),
        None => error,
    }
}

/// The cluster answers and has the topic.
pub(in crate::connectors) fn connect(
    config: &PipelineConfig,
    context: SinkContext,
) -> Result<Box<dyn SinkConnector>> {
    let Some(sink) = config.sink.as_any().downcast_ref::<KafkaSinkConfig>() else {
        return Err(Error::new(
            Kind::Bug,
            "kafka.connect",
            "keys of another sink",
        ));
    };
    let mut sink = sink.clone();
    let props = sink.props()?;
    let cluster = KafkaCluster::connect(&props).map_err(at_sink)?;
    if cluster.partitions(sink.topic()).map_err(at_sink)?.is_none() {
        let message = format!(
            "topic '{}' on cluster {}: no such topic",
            sink.topic(),
            cluster.id()
        );
        return Err(Error::new(Kind::ConfigInvalid, "kafka.connect", message)
            .with("brokers", props.bootstrap())
            .hint("create it, or correct sink.topic.name"));
    }
    if let Some(most) = cluster.batch_bytes(sink.topic()) {
        sink.layout.record_bytes = sink
            .layout
            .record_bytes
            .min(most.saturating_sub(BATCH_OVERHEAD));
    }
    let id = transactional_id(&sink.id_prefix, context.store.as_ref(), &context.log)?;
    let outbox = Arc::new(Outbox::new(
        context.store.clone(),
        context.clock.clone(),
        (&context.log, sink.topic()),
        Cluster::new(props, id),
    ));
    let letters = LettersTable {
        store: context.store.clone(),
        clock: context.clock.clone(),
        log: context.log.clone(),
        table: TableName::Fixed(config.errors.dlq_table.clone()),
        parquet: parquet_options(config),
    };
    Ok(Box::new(ToTopics {
        topics: Arc::new(Topics::new(cluster, context.clock.clone())),
        config: sink,
        errors: (config.errors.tolerance, config.errors.unit),
        context,
        letters,
        outbox,
    }))
}

/// Of a log that has begun: its first entry is never written again.
pub(super) fn transactional_id(prefix: &str, store: &dyn Store, log: &LogName) -> Result<String> {
    let first = store.get(&log.entry(0))?;
    let digest = first.map_or_else(String::new, |bytes| sha256(&bytes));
    let digits = digest.trim_start_matches("sha256:");
    let digits = digits.get(..LOG_DIGITS).unwrap_or(digits);
    Ok(format!("{prefix}{}-{}-{digits}", log.pipeline, log.zone))
}

#[derive(Debug)]
struct ToTopics {
    config: KafkaSinkConfig,
    errors: (Tolerance, Unit),
    context: SinkContext,
    topics: Arc<Topics>,
    letters: LettersTable,
    outbox: Arc<Outbox<Cluster>>,
}

impl SinkConnector for ToTopics {
    fn open(&self) -> Result<Box<dyn Sink>> {
        Ok(Box::new(KafkaSink {
            rows: Rows::new(self.config.layout.clone(), self.topics.clone()),
            config: self.config.clone(),
            errors: self.errors,
            clock: self.context.clock.clone(),
            base: self.context.base.clone(),
            outbox: self.outbox.clone(),
            letters: LetterFiles::new(self.letters.clone()),
            open: None,
            next: BTreeMap::new(),
            sealed: Arc::new(AtomicUsize::new(0)),
            broken: false,
        }))
    }

    fn receiver(&self) -> Result<Box<dyn Receiver>> {
        Ok(Box::new(FromOutbox(self.outbox.clone())))
    }
}
