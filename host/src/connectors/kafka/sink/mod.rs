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
use std::time::Duration;

use crate::clock::Clock;
use crate::commit::{LogName, first_digest};
use crate::config::keys::SINK_KAFKA_PREFIX;
use crate::config::librdkafka::{self, PROBE, Property, Takes, property};
use crate::config::{PipelineConfig, SinkConfig, Text};
use crate::connectors::zone::parquet_options;
use crate::error::{Error, Kind, Result};
use crate::finding::Finding;
use crate::kafka::{KafkaCluster, KafkaProps, Topic};
use crate::sink::covered::Gathering;
use crate::sink::format::Format;
use crate::sink::held::HandedIn;
use crate::sink::refusing::Refusing;
use crate::sink::{Receiver, Sink, SinkConnector, SinkContext};
use crate::store::Store;
use crate::zone::{LetterFiles, LettersTable};
use outbox::{FromOutbox, Outbox};
use rows::Rows;
use takes::Cluster;
use task::KafkaSink;
use topics::{Topics, may_not_write};

pub use keys::SINK;

/// Digits of the digest of a log's first entry, in the transactional id: pipelines of one name and different logs must not take
/// over from each other.
const LOG_DIGITS: usize = 12;
/// Of a batch of records beside the largest record in it.
const BATCH_OVERHEAD: usize = 4096;
/// Milliseconds by which a timestamp must be nearer to now than its topic takes: it is compared again when the record is appended,
/// after its commit, by another clock. At most a tenth of the limit.
const STAMP_MARGIN: i64 = 30_000;

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

    /// Of the transactional id and the group of marks.
    pub fn id_prefix(&self) -> &str {
        &self.id_prefix
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

    fn commit_age(&self) -> Duration {
        self.commit_age
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
    let sink = sink.clone();
    let props = sink.props()?;
    let cluster = KafkaCluster::connect(&props).map_err(at_sink)?;
    let topics = Arc::new(Topics::new(cluster, context.clock.clone()));
    takes_rows(&sink, &topics).map_err(|e| e.with("brokers", props.bootstrap()))?;
    let id = transactional_id(&sink.id_prefix, context.store.as_ref(), &context.log)?;
    let outbox = Arc::new(Outbox::new(
        context.store.clone(),
        context.clock.clone(),
        (&context.log, sink.topic()),
        Cluster::new(props, id, topics.clone()),
    ));
    let table = &config.errors.dlq_table;
    let letters = LettersTable::of(&context, table, parquet_options(config));
    Ok(Box::new(ToTopics {
        topics,
        config: sink,
        refusing: Refusing::new(&config.errors, SINK.name),
        context,
        letters,
        outbox,
    }))
}

/// The topic of the config is there, and could take rows as the config makes them.
fn takes_rows(sink: &KafkaSinkConfig, topics: &Topics) -> Result<()> {
    let told = |message: String| Error::new(Kind::ConfigInvalid, "kafka.connect", message);
    let topic = sink.topic();
    let layout = &sink.layout;
    match &*topics.find(topic)? {
        Topic::None => {
            let cluster = topics.cluster();
            let message = format!("topic '{topic}' on cluster {cluster}: no such topic");
            Err(told(message).hint("create it, or correct sink.topic.name"))
        }
        Topic::Hidden => Err(may_not_write(topic)),
        // Rows may all go to topics that a column names.
        Topic::Takes(_) if layout.topic_column.is_some() => Ok(()),
        Topic::Takes(takes) if takes.write == Some(false) => Err(may_not_write(topic)),
        Topic::Takes(takes) if takes.wants_keys && layout.key.is_none() => {
            let message = format!(
                "topic '{topic}' is compacted (cleanup.policy), and takes no record without a key"
            );
            Err(told(message).hint("set sink.key.column, or write into another topic"))
        }
        Topic::Takes(_) => Ok(()),
    }
}

/// Of a log that has begun: its first entry is never written again.
pub(super) fn transactional_id(prefix: &str, store: &dyn Store, log: &LogName) -> Result<String> {
    let digest = first_digest(store, log)?.unwrap_or_default();
    let digits = digest.trim_start_matches("sha256:");
    let digits = digits.get(..LOG_DIGITS).unwrap_or(digits);
    Ok(format!("{prefix}{}-{}-{digits}", log.pipeline, log.zone))
}

#[derive(Debug)]
struct ToTopics {
    config: KafkaSinkConfig,
    refusing: Refusing,
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
            refusing: self.refusing.clone(),
            outbox: self.outbox.clone(),
            letters: LetterFiles::new(self.letters.clone()),
            open: None,
            gathering: Gathering::new(self.context.base.clone(), self.context.clock.clone()),
            sealed: HandedIn::default(),
        }))
    }

    fn receiver(&self) -> Result<Box<dyn Receiver>> {
        Ok(Box::new(FromOutbox(self.outbox.clone())))
    }
}
