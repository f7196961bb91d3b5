//! Sends records: idempotent, in order per partition, and a record counts as sent only after the broker has
//! acknowledged it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};

use crate::error::{Error, Kind, Result};

use super::client::{Reason, log_line};
use super::errors::{refusal, refused, request_error};
use super::hidden::Hidden;
use super::props::{KafkaProps, config_error};
use super::threads::{self, Threads};

/// How long a full queue is served at a time.
const POLL: Duration = Duration::from_millis(50);
/// How long it is waited for records at a time.
const SLICE: Duration = Duration::from_millis(500);

/// A record to send.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outgoing<'a> {
    pub key: Option<&'a [u8]>,
    /// `None` = tombstone.
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// `None`: by the hash of the key.
    pub partition: Option<i32>,
    /// Milliseconds since 1970 UTC; `None` = now.
    pub timestamp: Option<i64>,
}

/// The outcome of the records sent so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Acknowledged by the broker.
    pub records: u64,
    pub failed: u64,
    /// Why the first of them failed.
    pub first_failure: Option<String>,
}

#[derive(Default)]
struct State {
    delivered: Delivered,
    /// Code and topic of `first_failure`.
    first: Option<(RDKafkaErrorCode, String)>,
    /// The last reason of a failure since a record was acknowledged.
    last: Option<Reason>,
}

#[derive(Clone, Default)]
struct Deliveries {
    state: Arc<Mutex<State>>,
    hidden: Hidden,
}

impl Deliveries {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log_line(level as i32, fac, &self.hidden.scrub(message));
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let reason = &*self.hidden.scrub(reason);
        tracing::debug!(target: "librdkafka", %error, reason);
        let Some(code) = error.rdkafka_error_code() else {
            return;
        };
        // A refusal says more than the errors after it.
        let mut state = self.state();
        let kept = state.last.as_ref();
        let refused = kept.is_some_and(|(code, text)| refusal(*code, text).is_some());
        if !refused || refusal(code, reason).is_some() {
            state.last = Some((code, reason.to_owned()));
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut state = self.state();
        match result {
            Ok(_) => {
                state.delivered.records += 1;
                state.last = None;
            }
            Err((error, message)) => {
                state.delivered.failed += 1;
                let code = error.rdkafka_error_code();
                let code = code.unwrap_or(RDKafkaErrorCode::Unknown);
                let before = state.first.as_ref();
                if before.is_none_or(|(before, _)| follows(*before) && !follows(code)) {
                    state.first = Some((code, message.topic().to_owned()));
                    state.delivered.first_failure = Some(error.to_string());
                }
            }
        }
    }
}

fn is_too_large(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::MessageBatchTooLarge
    )
}

fn is_refused(code: RDKafkaErrorCode) -> bool {
    super::errors::class(code) == super::errors::Class::Auth
}

/// Failures of records that fail because others did: they say nothing of the cause.
fn follows(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::PurgeQueue | C::PurgeInflight | C::InvalidDifferentRecord
    )
}

/// What to do about a record that the broker takes in no case, as long as topic and record are what they are.
pub(super) fn never_taken(code: RDKafkaErrorCode) -> Option<&'static str> {
    use RDKafkaErrorCode as C;
    Some(match code {
        C::InvalidRecord => {
            "a topic with cleanup.policy = compact takes no record without a key: set cleanup.policy = delete on the topic until \
             the record is in it, or send records with keys"
        }
        C::InvalidTimestamp => {
            "the topic does not take a timestamp so far from now: raise its message.timestamp.before.max.ms and \
             message.timestamp.after.max.ms"
        }
        C::InvalidTopic => "clients may not write this topic; name another one",
        C::PolicyViolation => "a policy of the cluster refuses it; ask who runs the cluster",
        _ => return None,
    })
}

/// The topic does not take a record's timestamp; it takes the record without it.
pub fn refuses_timestamp(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|s| s.downcast_ref::<KafkaError>());
    let code = source.and_then(KafkaError::rdkafka_error_code);
    code == Some(RDKafkaErrorCode::InvalidTimestamp)
}

pub struct Producer {
    producer: BaseProducer<Deliveries>,
    deliveries: Deliveries,
    bootstrap: String,
    _threads: Threads,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Producer({}, {:?})", self.bootstrap, self.delivered())
    }
}

impl Producer {
    pub fn open(props: &KafkaProps) -> Result<Producer> {
        Producer::with(&props.producer(), props.bootstrap())
    }

    pub(super) fn with(config: &ClientConfig, bootstrap: &str) -> Result<Producer> {
        let deliveries = Deliveries {
            hidden: Hidden::of(config),
            ..Deliveries::default()
        };
        let threads = threads::for_client(config)?;
        let producer = BaseProducer::from_config_and_context(config, deliveries.clone())
            .map_err(|e| config_error(config, &e))?;
        Ok(Producer {
            producer,
            deliveries,
            bootstrap: bootstrap.to_owned(),
            _threads: threads,
        })
    }

    pub(super) fn raw(&self) -> &BaseProducer<impl ProducerContext> {
        &self.producer
    }

    /// Why a request had no answer, as librdkafka said last.
    pub(super) fn reason(&self) -> Option<Reason> {
        self.deliveries.state().last.clone()
    }

    /// Puts a record in the queue, waiting while it is full. An earlier failure ends the sending.
    pub fn send(&self, topic: &str, out: Outgoing<'_>) -> Result<()> {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic);
        if let Some(key) = out.key {
            record = record.key(key);
        }
        if let Some(value) = out.value {
            record = record.payload(value);
        }
        if let Some(partition) = out.partition {
            record = record.partition(partition);
        }
        if let Some(timestamp) = out.timestamp {
            record = record.timestamp(timestamp);
        }
        if !out.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(out.headers.len());
            for &(key, value) in out.headers {
                headers = headers.insert(Header { key, value });
            }
            record = record.headers(headers);
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                // Ends: librdkafka fails what it cannot deliver within message.timeout.ms.
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(POLL);
                    self.check()?;
                }
                Err((error, _)) => return Err(self.error(topic, &error)),
            }
        }
    }

    /// Serves delivery reports; fails if any record failed.
    pub fn check(&self) -> Result<()> {
        self.producer.poll(Duration::ZERO);
        let (first, delivered, last) = {
            let state = self.deliveries.state();
            let Some(first) = state.first.clone() else {
                return Ok(());
            };
            (first, state.delivered.clone(), state.last.clone())
        };
        let (code, topic) = first;
        if is_too_large(code) || is_refused(code) || never_taken(code).is_some() {
            return Err(self.error(&topic, &KafkaError::MessageProduction(code)));
        }
        if let Some((code, why)) = &last
            && let Some(code) = refusal(*code, why)
        {
            return Err(refused("kafka.produce", "not delivered", code, why));
        }
        let text = delivered.first_failure.unwrap_or_default();
        let told = last.map(|(_, text)| format!(" ({text})"));
        Err(Error::new(
            Kind::SourceUnavailable,
            "kafka.produce",
            format!("not delivered: {text}{}", told.unwrap_or_default()),
        )
        .with("topic", topic)
        .with("failed", delivered.failed)
        .with("delivered", delivered.records))
    }

    /// Whether records failed, and all of them because something else had: a transaction that broke, for instance.
    pub(super) fn failed_by_another(&self) -> bool {
        let state = self.deliveries.state();
        state.first.as_ref().is_some_and(|(code, _)| follows(*code))
    }

    /// Waits until every record was acknowledged or refused.
    pub fn flush(&self, wait: Duration) -> Result<Delivered> {
        self.producer.flush(wait).map_err(|e| self.error("", &e))?;
        self.check()?;
        Ok(self.delivered())
    }

    /// The same, but not for longer than `away` while brokers cannot be reached and acknowledge nothing.
    pub(super) fn flush_unless_away(&self, wait: Duration, away: Duration) -> Result<Delivered> {
        let begun = Instant::now();
        let (mut records, mut since) = (self.delivered().records, begun);
        loop {
            let left = wait.saturating_sub(begun.elapsed());
            let flushed = self.producer.flush(left.min(SLICE));
            self.check()?;
            let Err(error) = flushed else {
                return Ok(self.delivered());
            };
            let now = self.delivered().records;
            if now != records {
                (records, since) = (now, Instant::now());
            }
            let is_away = self.reason().is_some() && since.elapsed() >= away;
            let is_slice = error.rdkafka_error_code() == Some(RDKafkaErrorCode::OperationTimedOut);
            if left.is_zero() || is_away || !is_slice {
                return Err(self.error("", &error));
            }
        }
    }

    pub fn delivered(&self) -> Delivered {
        self.deliveries.state().delivered.clone()
    }

    /// The error; if the record or the user is refused, no further try helps.
    fn error(&self, topic: &str, error: &KafkaError) -> Error {
        let told = |message: String| Error::new(Kind::RecordRefused, "kafka.produce", message);
        let code = error.rdkafka_error_code();
        if code.is_some_and(is_too_large) {
            return told(format!(
                "a record for '{topic}' is larger than the broker or this client takes: {error}"
            ))
            .hint("raise max.message.bytes of the topic and message.max.bytes of the producer");
        }
        if let Some(hint) = code.and_then(never_taken) {
            return told(format!("the broker refuses a record for '{topic}'"))
                .source(error.clone())
                .hint(hint);
        }
        if code == Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
            return may_not_write(topic);
        }
        let last = self.deliveries.state().last.clone();
        let what = format!("records for '{topic}' at {}", self.bootstrap);
        request_error("kafka.produce", &what, error, last)
    }
}

/// `topics`: of which at least one may not be written.
pub(super) fn may_not_write(topics: &str) -> Error {
    Error::new(
        Kind::ConfigInvalid,
        "kafka.produce",
        format!("this user may not write topic '{topics}': the broker refuses (TOPIC_AUTHORIZATION_FAILED)"),
    )
    .hint("the user needs WRITE and DESCRIBE on the topic")
}
