//! Reads records of assigned partitions as batches. Positions are passed to it; it never asks the group and never
//! resets.
//!
//! An error of [`Kind::SourceUnavailable`] comes once per outage; [`KafkaSource::status`] has the present state, and
//! reading goes on by itself. An error of [`Kind::SourceLost`] comes again at each call until the split is moved by a
//! seek.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::record::{Batch, SplitId};
use crate::source::{End, Lost, Position, REFUSED_FOR, Source};

use super::cluster::{list_offsets, topic_gone};
use super::collect::Collector;
use super::errors::{Class, auth_hint, class, refusal, refused};
use super::lost::lost_error;
use super::partition::Partition;
use super::props::{KafkaProps, REQUEST_TIMEOUT};
use super::queue::{Content, EventConsumer, Failure};

/// Longest request that tests whether a lost cluster is back.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// How often that is tested.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// A seek right after an assignment waits this long for the fetcher to start.
const SEEK_DEADLINE: Duration = Duration::from_secs(2);
const SEEK_PAUSE: Duration = Duration::from_millis(5);
/// Brokers tell each other of new partitions within this time.
const METADATA_DEADLINE: Duration = Duration::from_secs(5);
const METADATA_PAUSE: Duration = Duration::from_millis(50);

/// Sizes of batches and of librdkafka's queues.
#[derive(Clone, Debug)]
pub struct Limits {
    pub batch_records: usize,
    /// A batch ends with the record that reaches this.
    pub batch_bytes: usize,
    /// Most bytes in unfinished batches, over all partitions.
    pub collected_bytes: usize,
    /// Bytes of librdkafka's queue per consumer; one fetch in flight may exceed it.
    pub queue_bytes: usize,
    pub queue_messages: usize,
    /// How long the fetcher waits at a full queue (librdkafka's default of 1 s starves small queues).
    pub queue_backoff: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            batch_records: 1_024,
            batch_bytes: 1 << 20,
            collected_bytes: 4 << 20,
            queue_bytes: 16 << 20,
            queue_messages: 100_000,
            queue_backoff: Duration::from_millis(10),
        }
    }
}

/// Whether the cluster answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    Up,
    /// Since this moment of the clock ([`Clock::elapsed`]), and why.
    Down {
        since: Duration,
        reason: String,
    },
}

pub struct KafkaSource {
    props: KafkaProps,
    kafka: EventConsumer,
    collector: Collector,
    clock: Arc<dyn Clock>,
    status: Status,
    /// When a lost cluster was last asked.
    probed: Duration,
    /// The last complaint of a single broker.
    reason: String,
    /// Since when this client is refused, and why.
    refused: Option<Refused>,
    /// Seeks that librdkafka has not carried out yet; nothing is read before that.
    unsought: Vec<Position>,
    /// Topics of which this call of `next` has asked whether they are there.
    asked: BTreeSet<Arc<str>>,
    paused: bool,
}

/// In librdkafka's error for an answer that is too large; it repeats the same request for ever.
const TOO_LARGE: &str = "receive.message.max.bytes";

struct Refused {
    since: Duration,
    code: RDKafkaErrorCode,
    reason: String,
}

impl fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given: BTreeMap<_, _> = self
            .collector
            .parts
            .iter()
            .map(|p| (p.tp().to_string(), p.given()))
            .collect();
        f.debug_struct("KafkaSource")
            .field("status", &self.status)
            .field("given", &given)
            .finish()
    }
}

impl KafkaSource {
    /// Checks every position against the ends of its partition, then begins to fetch.
    pub fn open(
        props: &KafkaProps,
        positions: &[Position],
        limits: Limits,
        clock: Arc<dyn Clock>,
    ) -> Result<KafkaSource> {
        let mut source = KafkaSource {
            props: props.clone(),
            kafka: EventConsumer::open(&props.consumer(&limits))?,
            collector: Collector::new(limits),
            clock,
            status: Status::Up,
            probed: Duration::ZERO,
            reason: String::new(),
            refused: None,
            unsought: Vec::new(),
            asked: BTreeSet::new(),
            paused: false,
        };
        source.assign(positions)?;
        Ok(source)
    }

    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The end of what was returned, per split.
    pub fn positions(&self) -> Vec<Position> {
        let given = |p: &Partition| Position {
            next: p.given(),
            ..p.position().clone()
        };
        self.collector.parts.iter().map(given).collect()
    }

    // === errors ===

    fn failure(&mut self, failure: Failure) -> Result<()> {
        let index = failure.at.as_ref().and_then(|(topic, partition, _)| {
            self.index(|p| p.tp().partition == *partition && *p.tp().topic == **topic)
        });
        if failure.code == RDKafkaErrorCode::PartitionEOF {
            if let (Some(i), Some((_, _, offset))) = (index, failure.at) {
                self.collector.ended(i, offset);
            }
            self.up();
            return Ok(());
        }
        tracing::debug!(code = ?failure.code, reason = failure.reason, "consumer error");
        if failure.reason.contains(TOO_LARGE) {
            return Err(self.too_large(&failure));
        }
        let refusal = refusal(failure.code, &failure.reason);
        let class = match (refusal, class(failure.code)) {
            (Some(_), _) => Class::Auth,
            // The handshake broke off.
            (None, Class::Auth) => Class::Passing,
            (None, class) => class,
        };
        match (class, index) {
            (Class::OutOfRange, Some(i)) => self.out_of_range(i),
            (Class::NoTopic, Some(i)) => {
                self.topic_missing(i);
                Ok(())
            }
            (Class::Auth, _) => self.is_refused(refusal.unwrap_or(failure.code), failure.reason),
            (Class::AllDown, _) => {
                let reason = match self.reason.is_empty() {
                    true => failure.reason,
                    false => self.reason.clone(),
                };
                if self.answers() {
                    return Ok(());
                }
                let brokers = self.props.bootstrap();
                let reason = format!("no broker of {brokers} answers: {reason}");
                self.down(reason, "waiting for it; nothing is lost")
            }
            _ if failure.fatal => Err(Error::new(
                Kind::Bug,
                "kafka.poll",
                format!("librdkafka gave up: {}", failure.reason),
            )),
            _ => {
                self.reason = failure.reason;
                Ok(())
            }
        }
    }

    /// The error for an answer that is too large does not name the partition, so all partitions are named that are not
    /// at their end.
    fn too_large(&self, failure: &Failure) -> Error {
        let behind = self.collector.parts.iter().filter(|p| {
            let end = self.kafka.known_end(p.topic(), p.tp().partition);
            end.is_none_or(|end| end > p.taken())
        });
        let at: Vec<String> = match &failure.at {
            Some((topic, partition, offset)) => vec![format!("{topic}/{partition}@{offset}")],
            None => behind
                .map(|p| format!("{}@{}", p.tp(), p.taken()))
                .collect(),
        };
        let reason = &failure.reason;
        let message = format!("a message is larger than this client takes: {reason}");
        Error::new(Kind::LimitReached, "kafka.poll", message)
            .with("at", at.join(" or "))
            .hint("raise source.kafka.receive.message.max.bytes above its size; it has to fit into memory.budget")
    }

    /// Reports an outage once; afterwards [`Self::status`] does.
    fn down(&mut self, reason: String, hint: &str) -> Result<()> {
        if self.status != Status::Up {
            return Ok(());
        }
        self.probed = self.clock.elapsed();
        self.status = Status::Down {
            since: self.probed,
            reason: reason.clone(),
        };
        Err(Error::new(Kind::SourceUnavailable, "kafka.poll", reason).hint(hint))
    }

    fn up(&mut self) {
        if self.status != Status::Up {
            self.status = Status::Up;
            self.reason.clear();
        }
        // Access to one topic may stay refused while others are read.
        let of_topic = |r: &Refused| r.code == RDKafkaErrorCode::TopicAuthorizationFailed;
        self.refused = self.refused.take().filter(of_topic);
    }

    /// A refusal is waited for at first.
    fn is_refused(&mut self, code: RDKafkaErrorCode, reason: String) -> Result<()> {
        let since = self.refused.take().map(|refused| refused.since);
        let since = since.unwrap_or_else(|| self.clock.elapsed());
        let told = format!("the broker and this client do not agree: {reason}");
        let hint = auth_hint(code, &reason);
        self.refused = Some(Refused {
            since,
            code,
            reason,
        });
        self.down(told, hint)
    }

    /// The cluster answers, and refuses none of our topics.
    fn answers(&self) -> bool {
        let parts = self.collector.parts.iter();
        let topics: BTreeSet<&str> = parts.map(|p| p.tp().topic.as_ref()).collect();
        topics.iter().all(|topic| {
            let metadata = self.kafka.consumer();
            let metadata = metadata.fetch_metadata(Some(topic), PROBE_TIMEOUT);
            metadata.is_ok_and(|found| {
                let errors = found.topics().iter().filter_map(|t| t.error());
                errors
                    .map(Into::into)
                    .all(|code| class(code) != Class::Auth)
            })
        })
    }

    /// While the cluster is lost and silent, tests now and then whether it is back.
    fn probe(&mut self) -> Result<()> {
        let fine = self.status == Status::Up && self.refused.is_none();
        if fine || self.clock.elapsed() < self.probed + PROBE_EVERY {
            return Ok(());
        }
        if self.answers() {
            self.refused = None;
            self.up();
        }
        self.probed = self.clock.elapsed();
        match &self.refused {
            Some(r) if self.probed >= r.since + REFUSED_FOR => {
                let what = "the broker and this client do not agree any more";
                Err(refused("kafka.poll", what, r.code, &r.reason))
            }
            _ => Ok(()),
        }
    }

    fn topic_missing(&mut self, i: usize) {
        let Some(topic) = self.collector.parts.get(i).map(|p| p.tp().topic.clone()) else {
            return;
        };
        // Each question about a topic makes librdkafka report its partitions once more: asked for each report, it would never
        // end, and a broker that is silent would be waited for once for each partition.
        if !self.asked.insert(topic.clone()) {
            return;
        }
        if topic_gone(self.kafka.consumer(), &topic, REQUEST_TIMEOUT) {
            let of = self
                .collector
                .parts
                .iter_mut()
                .filter(|p| p.tp().topic == topic);
            for part in of {
                part.lost = Some(Lost::TopicGone(topic.to_string()));
            }
        }
    }

    /// The broker refused our offset: it aged out, or lies above the end, or the answer was for an older request.
    fn out_of_range(&mut self, i: usize) -> Result<()> {
        let Some(part) = self.collector.parts.get(i) else {
            return Ok(());
        };
        let at = Position {
            next: part.taken(),
            ..part.position().clone()
        };
        let ends = self.ends(std::slice::from_ref(&at));
        let lost = match &ends {
            Ok(ends) => ends
                .first()
                .and_then(|&(low, high)| Lost::of(&at, low, high)),
            // The broker went away meanwhile: go on from here, and meet the error again.
            Err(_) => None,
        };
        if lost.is_some() {
            self.collector.finish(i);
            if let Some(part) = self.collector.parts.get_mut(i) {
                part.lost = lost;
            }
            return Ok(());
        }
        self.reopen()
    }

    fn is_lost(&self) -> bool {
        self.collector.parts.iter().any(|part| part.lost.is_some())
    }

    /// All that is lost, as one error.
    fn lost(&self) -> Result<()> {
        let parts = self.collector.parts.iter();
        match Lost::merge(parts.filter_map(|p| p.lost.as_ref())) {
            Some(lost) => Err(lost_error(lost, "kafka.poll")),
            None => Ok(()),
        }
    }

    // === positions ===

    /// Offsets up to the end that the broker told last.
    fn behind(&self, p: &Partition) -> u64 {
        let end = self.kafka.known_end(p.topic(), p.tp().partition);
        u64::try_from(end.unwrap_or(p.target()) - p.given()).unwrap_or(0)
    }

    fn index(&self, is: impl Fn(&Partition) -> bool) -> Option<usize> {
        self.collector.parts.iter().position(is)
    }

    /// First offset and readable end of each.
    fn ends(&self, positions: &[Position]) -> Result<Vec<(i64, i64)>> {
        let tps: Vec<_> = positions.iter().map(|p| &p.tp).collect();
        let low = list_offsets(self.kafka.consumer(), &tps, Offset::Beginning)?;
        let high = list_offsets(self.kafka.consumer(), &tps, Offset::End)?;
        let known = |(low, high): (Option<i64>, Option<i64>)| {
            let low = low.unwrap_or(0);
            (low, high.unwrap_or(low))
        };
        Ok(low.into_iter().zip(high).map(known).collect())
    }

    /// The same, after this client has learned of partitions that another client has found.
    fn known_ends(&self, positions: &[Position]) -> Result<Vec<(i64, i64)>> {
        let deadline = self.clock.elapsed() + METADATA_DEADLINE;
        loop {
            let error = match self.ends(positions) {
                Err(e) if e.kind() == Kind::ConfigInvalid => e,
                ends => return ends,
            };
            let topics: BTreeSet<_> = positions.iter().map(|p| &p.tp.topic).collect();
            if self.clock.elapsed() >= deadline {
                let gone =
                    |topic: &&&Arc<str>| topic_gone(self.kafka.consumer(), topic, REQUEST_TIMEOUT);
                // Deleted after the start had described it.
                return Err(match topics.iter().find(gone) {
                    Some(topic) => lost_error(Lost::TopicGone(topic.to_string()), "kafka.assign"),
                    None => error,
                });
            }
            for topic in topics {
                self.kafka
                    .consumer()
                    .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
                    .map_err(|e| {
                        Error::new(
                            Kind::SourceUnavailable,
                            "kafka.assign",
                            format!("no metadata from {}: {e}", self.props.bootstrap()),
                        )
                    })?;
            }
            self.clock.sleep(METADATA_PAUSE);
        }
    }

    /// Makes a new client for all partitions, which goes on where each was returned last. librdkafka's incremental
    /// assignment was seen to drop records of other partitions that lay in its queue (2.12.1, Kafka 4.1.1): a hole
    /// without an error.
    fn reopen(&mut self) -> Result<()> {
        for i in 0..self.collector.parts.len() {
            self.collector.forget(i);
            if let Some(part) = self.collector.parts.get_mut(i) {
                let at = Position {
                    next: part.given(),
                    ..part.position().clone()
                };
                let lost = part.lost.take();
                *part = Partition::new(at, part.target());
                part.lost = lost;
            }
        }
        self.unsought.clear();
        let all = self.positions();
        self.kafka = EventConsumer::open(&self.props.consumer(&self.collector.limits))?;
        self.kafka
            .consumer()
            .assign(&list(&all)?)
            .map_err(|e| bug("partitions cannot be assigned", &e))
    }

    /// Moves the fetcher. librdkafka raises these partitions' version in this thread, so that everything fetched before
    /// is outdated at once.
    fn settle(&mut self) -> Result<()> {
        if self.unsought.is_empty() {
            return Ok(());
        }
        let deadline = self.clock.elapsed() + SEEK_DEADLINE;
        loop {
            let done = self
                .kafka
                .consumer()
                .seek_partitions(list(&self.unsought)?, REQUEST_TIMEOUT)
                .map_err(|e| {
                    let brokers = self.props.bootstrap();
                    let message = format!("partitions of {brokers} cannot be sought in: {e}");
                    Error::new(Kind::SourceUnavailable, "kafka.seek", message)
                })?;
            self.unsought.retain(|p| {
                let element = done.find_partition(&p.tp.topic, p.tp.partition);
                element.is_none_or(|e| e.error().is_err())
            });
            drop(done);
            if self.unsought.is_empty() {
                return Ok(());
            }
            if self.clock.elapsed() >= deadline {
                // The fetcher never started, or an error stopped it.
                return self.reopen();
            }
            self.clock.sleep(SEEK_PAUSE);
        }
    }

    fn jump(&mut self, i: usize, position: &Position) {
        self.collector.forget(i);
        if let Some(part) = self.collector.parts.get_mut(i) {
            *part = Partition::new(position.clone(), part.target());
        }
        self.unsought.retain(|p| p.tp != position.tp);
        self.unsought.push(position.clone());
    }
}

fn list(positions: &[Position]) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for p in positions {
        list.add_partition_offset(&p.tp.topic, p.tp.partition, Offset::Offset(p.next))
            .map_err(|e| bug("an impossible position", &e).with("position", p.next))?;
    }
    Ok(list)
}

fn bug(what: &str, error: &rdkafka::error::KafkaError) -> Error {
    Error::new(Kind::Bug, "kafka.assign", format!("{what}: {error}"))
}

impl Source for KafkaSource {
    fn next(&mut self, wait: Duration) -> Result<Option<Batch>> {
        self.asked.clear();
        self.settle()?;
        if let Some(batch) = self.collector.give() {
            return Ok(Some(batch));
        }
        self.lost()?;
        if self.paused {
            self.clock.sleep(wait);
            return Ok(None);
        }
        let deadline = self.clock.elapsed() + wait;
        let mut left = wait;
        while !self.collector.is_ready() {
            let Some(event) = self.kafka.poll(left) else {
                break;
            };
            let failure = match event.content() {
                Content::Message(message) => {
                    self.collector.take(message);
                    // After the first record, take what is there and wait no longer.
                    left = Duration::ZERO;
                    continue;
                }
                Content::Error(failure) => Some(failure),
                Content::Nothing => None,
            };
            drop(event);
            if let Some(failure) = failure {
                self.failure(failure)?;
                // All other errors that wait are taken now, even if the time is over: read after the next success they
                // would look like another outage. Those of a topic that is gone may have no end.
                if self.is_lost() {
                    break;
                }
            }
            if !left.is_zero() {
                left = deadline.saturating_sub(self.clock.elapsed());
            }
        }
        if !self.collector.is_ready() {
            self.collector.flush();
        }
        match self.collector.give() {
            Some(batch) => {
                self.up();
                Ok(Some(batch))
            }
            None => {
                self.probe()?;
                self.lost().map(|()| None)
            }
        }
    }

    fn seek(&mut self, positions: &[Position]) -> Result<()> {
        for p in positions {
            let i = self.index(|part| part.position().split == p.split);
            let i = i.ok_or_else(|| {
                Error::new(Kind::Bug, "kafka.seek", "a split that is not read")
                    .with("split", &p.split)
            })?;
            self.jump(i, p);
        }
        self.settle()
    }

    /// A partition that is already read goes on from the new position, perhaps as another split (a recreated topic).
    fn assign(&mut self, positions: &[Position]) -> Result<()> {
        let ends = self.known_ends(positions)?;
        let checked = positions.iter().zip(&ends);
        let lost: Vec<Lost> = checked
            .filter_map(|(p, &(low, high))| Lost::of(p, low, high))
            .collect();
        if let Some(lost) = Lost::merge(lost.iter()) {
            return Err(lost_error(lost, "kafka.assign"));
        }
        for (p, &(_, high)) in positions.iter().zip(&ends) {
            let part = Partition::new(p.clone(), high);
            match self.index(|part| part.tp() == &p.tp) {
                Some(i) => {
                    self.collector.forget(i);
                    if let Some(old) = self.collector.parts.get_mut(i) {
                        *old = part;
                    }
                }
                None => self.collector.parts.push(part),
            }
        }
        self.reopen()
    }

    /// Nothing is taken while paused; librdkafka fills its queue ([`Limits::queue_bytes`]) and stops there.
    fn pause(&mut self, paused: bool) -> Result<()> {
        self.paused = paused;
        Ok(())
    }

    fn caught_up(&self) -> bool {
        self.unsought.is_empty() && self.collector.parts.iter().all(Partition::caught_up)
    }

    fn has_more(&self, split: &SplitId) -> bool {
        let mut parts = self.collector.parts.iter();
        let of_split = parts.find(|p| p.position().split == *split);
        of_split.is_some_and(|p| self.behind(p) > 0)
    }

    fn lag(&self) -> Option<u64> {
        let parts = self.collector.parts.iter();
        Some(parts.map(|p| self.behind(p)).sum())
    }

    fn ends(&self) -> Vec<End> {
        let of = |p: &Partition| End {
            split: p.position().split.clone(),
            next: p.given() + i64::try_from(self.behind(p)).unwrap_or(0),
        };
        self.collector.parts.iter().map(of).collect()
    }
}
