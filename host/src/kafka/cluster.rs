//! What can be read: cluster, topics with their ids, partitions with their ends, and where a split begins.
//!
//! Ends are those of `read_committed`: the last stable offset, above which nothing may be read yet.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::error::{Error, Kind, Result};
use crate::record::{SplitId, TopicPartition};
use crate::source::{Change, PartitionInfo, Position, TopicInfo};

use super::client::{self, Consumer};
use super::errors::{Class, class, request_error};
use super::props::{KafkaProps, REQUEST_TIMEOUT};
use super::rights::{self, Rights};
use super::topic_id::{TopicId, topic_id};

/// A cluster that answered.
pub struct KafkaCluster {
    pub(super) consumer: Consumer,
    pub(super) id: String,
    brokers: Vec<String>,
}

impl fmt::Debug for KafkaCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KafkaCluster({} {:?})", self.id, self.brokers)
    }
}

/// Where a split without a position begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Earliest,
    Latest,
    /// First record at or after this time, milliseconds since 1970 UTC; the end if there is none.
    Timestamp(i64),
}

/// The name of librdkafka's mock cluster, which never answers a request for a topic's id.
pub(super) const MOCK: &str = "mockCluster";
const DESCRIBE: &str = "kafka.describe";
/// Topics that an error about several of them names; the rest is counted.
const NAMED_TOPICS: usize = 5;
/// The first of the growing waits of the first request to a cluster.
const FIRST_SLICE: Duration = Duration::from_millis(500);
/// When one broker refuses this client, the others of the list have this time to answer.
const OTHERS_MAY_ANSWER: Duration = Duration::from_secs(1);

impl KafkaCluster {
    /// Waits at most 10 s for a broker that answers.
    pub fn connect(props: &KafkaProps) -> Result<KafkaCluster> {
        const OP: &str = "kafka.connect";
        props.check()?;
        let consumer = client::consumer(&props.metadata())?;
        let what = format!("no broker of {} answered", props.bootstrap());
        let metadata = first_answer(&consumer, OP, &what)?;
        let brokers = metadata
            .brokers()
            .iter()
            .map(|b| format!("{}:{}", b.host(), b.port()))
            .collect();
        drop(metadata);
        let id = consumer.client().fetch_cluster_id(REQUEST_TIMEOUT);
        let id = id.filter(|id| !id.is_empty()).ok_or_else(|| {
            Error::new(Kind::SourceUnavailable, OP, "the broker gave no cluster id")
                .with("brokers", props.bootstrap())
        })?;
        Ok(KafkaCluster {
            consumer,
            id,
            brokers,
        })
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// `host:port` as the cluster advertises them.
    pub fn brokers(&self) -> &[String] {
        &self.brokers
    }

    pub fn describe(&self, topic: &str) -> Result<TopicInfo> {
        let (id, partitions) = self.identify(topic)?;
        let name: Arc<str> = topic.into();
        Ok(TopicInfo {
            partitions: self.ends(&name, &id, &partitions)?,
            name,
            id,
        })
    }

    /// Names of all topics that this client may see, in order.
    pub fn topics(&self) -> Result<Vec<String>> {
        let what = format!("topics of cluster {}", self.id);
        let metadata = self
            .consumer
            .fetch_metadata(None, REQUEST_TIMEOUT)
            .map_err(|e| failed(&self.consumer, DESCRIBE, &what, &e))?;
        self.consumer.context().answered();
        let mut names: Vec<String> = metadata
            .topics()
            .iter()
            .map(|t| t.name().to_owned())
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// What this client may do with a topic. `None`: the broker does not tell.
    pub fn rights_on_topic(&self, topic: &str) -> Result<Option<Rights>> {
        let told = match self.id.starts_with(MOCK) {
            true => Ok(None),
            false => rights::on_topic(&self.consumer, topic, REQUEST_TIMEOUT),
        };
        told.map_err(|none| self.untold(&format!("rights on topic '{topic}'"), none))
    }

    /// The same of a group.
    pub fn rights_on_group(&self, group: &str) -> Result<Option<Rights>> {
        let told = match self.id.starts_with(MOCK) {
            true => Ok(None),
            false => rights::on_group(&self.consumer, group, REQUEST_TIMEOUT),
        };
        told.map_err(|none| self.untold(&format!("rights on group '{group}'"), none))
    }

    fn untold(&self, what: &str, (code, text): (RDKafkaErrorCode, String)) -> Error {
        failed(
            &self.consumer,
            DESCRIBE,
            what,
            &KafkaError::MetadataFetch(code),
        )
        .with("answer", text)
    }

    /// A position for every partition of a topic that has none yet (W1: pin it in the log before the first read).
    pub fn start(&self, topic: &TopicInfo, start: Start) -> Result<Vec<Position>> {
        let nexts = match start {
            Start::Earliest => topic.partitions.iter().map(|p| p.low).collect(),
            Start::Latest => topic.partitions.iter().map(|p| p.high).collect(),
            Start::Timestamp(millis) => {
                let all: Vec<_> = topic.partitions.iter().map(|p| (p, millis)).collect();
                self.at_times(&all)?
            }
        };
        let positions = topic.partitions.iter().zip(nexts);
        let positions = positions.map(|(p, next)| Position {
            split: p.split.clone(),
            epoch: 0,
            tp: p.tp.clone(),
            next,
        });
        Ok(positions.collect())
    }

    /// Of each partition the offset of its first record at or after a time, in milliseconds since 1970 UTC; its end if there is none.
    pub fn at_times(&self, wanted: &[(&PartitionInfo, i64)]) -> Result<Vec<i64>> {
        let tps = wanted
            .iter()
            .map(|(p, millis)| (&p.tp, Offset::Offset(*millis)));
        let found = offsets_at(&self.consumer, &tps.collect::<Vec<_>>())?;
        let found = wanted.iter().zip(found);
        let next = found.map(|((p, _), at)| at.map_or(p.high, |at| at.clamp(p.low, p.high)));
        Ok(next.collect())
    }

    /// Looks again: new partitions, topics recreated or gone. One or two small requests per topic.
    pub fn refresh(&self, known: &[TopicInfo]) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        for topic in known {
            let (id, partitions) = match self.identify(&topic.name) {
                Ok(found) => found,
                // identify() says ConfigInvalid of a missing topic and of a refused user only.
                Err(e) if e.kind() == Kind::ConfigInvalid && self.is_gone(&topic.name) => {
                    let topic = topic.name.clone();
                    changes.push(Change::Gone { topic });
                    continue;
                }
                Err(e) => return Err(e),
            };
            let had_id = topic.id != *topic.name;
            if had_id && id != topic.id {
                changes.push(Change::Recreated {
                    was: topic.id.clone(),
                    now: self.describe(&topic.name)?,
                });
                continue;
            }
            let is_new = |p: &i32| !topic.partitions.iter().any(|k| k.tp.partition == *p);
            let new: Vec<i32> = partitions.into_iter().filter(is_new).collect();
            if !new.is_empty() {
                changes.push(Change::NewPartitions(self.ends(
                    &topic.name,
                    &topic.id,
                    &new,
                )?));
            }
        }
        Ok(changes)
    }

    /// True: the cluster answers, and has no such topic.
    pub fn is_gone(&self, topic: &str) -> bool {
        topic_gone(&self.consumer, topic, REQUEST_TIMEOUT)
    }

    /// How many partitions a topic has. `None`: there is no such topic.
    pub fn partitions(&self, topic: &str) -> Result<Option<i32>> {
        let what = format!("topic '{topic}' on cluster {}", self.id);
        match self.partition_ids(topic, &what) {
            Ok(ids) => Ok(Some(i32::try_from(ids.len()).unwrap_or(i32::MAX))),
            // Missing, or refused.
            Err(e) if e.kind() == Kind::ConfigInvalid && self.is_gone(topic) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn partition_ids(&self, topic: &str, what: &str) -> Result<Vec<i32>> {
        let failed = |e: &KafkaError| failed(&self.consumer, DESCRIBE, what, e);
        let metadata = self
            .consumer
            .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
            .map_err(|e| failed(&e))?;
        self.consumer.context().answered();
        let found = metadata.topics().iter().find(|t| t.name() == topic);
        let mut partitions: Vec<i32> = match found {
            Some(t) => match t.error() {
                Some(e) => return Err(failed(&KafkaError::MetadataFetch(e.into()))),
                None => t.partitions().iter().map(|p| p.id()).collect(),
            },
            None => Vec::new(),
        };
        drop(metadata);
        partitions.sort_unstable();
        if partitions.is_empty() {
            let none = rdkafka::error::RDKafkaErrorCode::UnknownTopicOrPartition;
            return Err(failed(&KafkaError::MetadataFetch(none)));
        }
        Ok(partitions)
    }

    /// Topic id (or name) and partitions.
    fn identify(&self, topic: &str) -> Result<(String, Vec<i32>)> {
        let what = format!("topic '{topic}' on cluster {}", self.id);
        let failed = |e: &KafkaError| failed(&self.consumer, DESCRIBE, &what, e);
        let partitions = self.partition_ids(topic, &what)?;
        if self.id.starts_with(MOCK) {
            return Ok((topic.to_owned(), partitions));
        }
        match topic_id(&self.consumer, topic, REQUEST_TIMEOUT) {
            TopicId::Is(id) => Ok((id, partitions)),
            TopicId::None => Ok((topic.to_owned(), partitions)),
            // Never fall back to the name here: another name would be another split, read again from its start.
            TopicId::Failed(code, text) => {
                Err(failed(&KafkaError::MetadataFetch(code)).with("answer", text))
            }
        }
    }

    fn ends(&self, topic: &Arc<str>, id: &str, partitions: &[i32]) -> Result<Vec<PartitionInfo>> {
        let tps: Vec<TopicPartition> = partitions
            .iter()
            .map(|&partition| TopicPartition {
                topic: topic.clone(),
                partition,
            })
            .collect();
        let refs: Vec<&TopicPartition> = tps.iter().collect();
        let low = list_offsets(&self.consumer, &refs, Offset::Beginning)?;
        let high = list_offsets(&self.consumer, &refs, Offset::End)?;
        let ends = low.into_iter().zip(high);
        tps.into_iter()
            .zip(ends)
            .map(|(tp, ends)| match ends {
                (Some(low), Some(high)) => Ok(PartitionInfo {
                    split: SplitId::kafka(&self.id, id, tp.partition),
                    tp,
                    low,
                    high,
                }),
                _ => Err(Error::new(
                    Kind::SourceUnavailable,
                    DESCRIBE,
                    "the broker gave no first and last offset",
                )
                .with("partition", tp)),
            })
            .collect()
    }
}

/// Asks with growing waits up to [`REQUEST_TIMEOUT`], so that a refusal is noticed when it comes and not only at the
/// end.
fn first_answer(consumer: &Consumer, op: &'static str, what: &str) -> Result<Metadata> {
    let begun = Instant::now();
    let mut slice = FIRST_SLICE;
    let mut refused: Option<Instant> = None;
    loop {
        let left = REQUEST_TIMEOUT.saturating_sub(begun.elapsed());
        let error = match consumer.fetch_metadata(None, slice.min(left)) {
            Ok(metadata) => {
                consumer.context().answered();
                return Ok(metadata);
            }
            Err(error) => failed(consumer, op, what, &error),
        };
        let over = begun.elapsed() >= REQUEST_TIMEOUT;
        if error.kind() == Kind::ConfigInvalid {
            let since = *refused.get_or_insert_with(Instant::now);
            if over || since.elapsed() >= OTHERS_MAY_ANSWER {
                return Err(error);
            }
        } else if over {
            return Err(error);
        }
        slice = slice.saturating_mul(2);
    }
}

fn failed(consumer: &Consumer, op: &'static str, what: &str, error: &KafkaError) -> Error {
    request_error(op, what, error, client::heard(consumer))
}

pub(super) fn topic_gone(consumer: &Consumer, topic: &str, timeout: Duration) -> bool {
    topic_error(consumer, topic, timeout).is_some_and(|code| class(code) == Class::NoTopic)
}

/// What the cluster says of a topic that it does not describe. `None`: it describes it, or there is no answer.
pub(super) fn topic_error(
    consumer: &Consumer,
    topic: &str,
    timeout: Duration,
) -> Option<RDKafkaErrorCode> {
    let metadata = consumer.fetch_metadata(Some(topic), timeout).ok()?;
    let found = metadata.topics().iter().find(|t| t.name() == topic)?;
    found.error().map(Into::into)
}

/// First, last (of `read_committed`) or timed offsets of many partitions, one request per broker. `None`: no such record.
pub(super) fn list_offsets(
    consumer: &Consumer,
    tps: &[&TopicPartition],
    at: Offset,
) -> Result<Vec<Option<i64>>> {
    let all: Vec<_> = tps.iter().map(|tp| (*tp, at)).collect();
    offsets_at(consumer, &all)
}

fn offsets_of<'a>(topics: impl Iterator<Item = &'a str>) -> String {
    let topics: BTreeSet<&str> = topics.collect();
    let some: Vec<&str> = topics.iter().copied().take(NAMED_TOPICS).collect();
    let more = match topics.len() - some.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("first and last offsets of {}{more}", some.join(", "))
}

/// The same, of each partition another one.
fn offsets_at(consumer: &Consumer, tps: &[(&TopicPartition, Offset)]) -> Result<Vec<Option<i64>>> {
    const OP: &str = "kafka.list_offsets";
    if tps.is_empty() {
        return Ok(Vec::new());
    }
    let what = offsets_of(tps.iter().map(|(tp, _)| &*tp.topic));
    let what = what.as_str();
    let mut list = TopicPartitionList::with_capacity(tps.len());
    for (tp, at) in tps {
        list.add_partition_offset(&tp.topic, tp.partition, *at)
            .map_err(|e| failed(consumer, OP, what, &e))?;
    }
    let list = consumer
        .offsets_for_times(list, REQUEST_TIMEOUT)
        .map_err(|e| failed(consumer, OP, what, &e))?;
    let mut found = Vec::with_capacity(tps.len());
    for (tp, _) in tps {
        let element = list.find_partition(&tp.topic, tp.partition);
        let offset = match element {
            Some(element) => {
                element
                    .error()
                    .map_err(|e| failed(consumer, OP, what, &e).with("partition", tp))?;
                element.offset()
            }
            None => Offset::Invalid,
        };
        found.push(match offset {
            Offset::Offset(n) => Some(n),
            _ => None,
        });
    }
    Ok(found)
}
