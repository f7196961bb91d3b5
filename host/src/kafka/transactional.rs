//! Transactions: records and a mark, all of them or none, and one writer at a time.
//!
//! Whoever opens a [`Transactional`] under an id ends what others had begun under it, and the broker refuses them from then on
//! (the epoch of a transactional id). The mark is an offset of a group of the same name, with a text: it is committed with the
//! records or not at all, so whoever opens next reads which of the transactions was the last.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::error::{Error, Kind, Result};

use super::client::{self, Consumer};
use super::errors::request_error;
use super::producer::{Outgoing, Producer, may_not_write, never_taken};
use super::props::{KafkaProps, REQUEST_TIMEOUT};

/// A transaction that takes longer is ended by the broker, whose own most is 15 minutes by default. It holds some megabytes:
/// a slow cluster takes seconds.
const TRANSACTION_MAX: Duration = Duration::from_secs(60);
/// Brokers that cannot be reached and acknowledge nothing for so long are away: it is said then, and all of it is tried again.
const AWAY: Duration = Duration::from_secs(10);
/// Marks stand on this partition of a topic: each topic has it.
const MARKED: i32 = 0;
/// Topics of a transaction that an error names at most.
const TOPICS_SHOWN: usize = 5;

/// Which transaction was the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub number: i64,
    pub text: String,
}

pub struct Transactional {
    producer: Producer,
    marks: Consumer,
    id: String,
    bootstrap: String,
}

impl fmt::Debug for Transactional {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transactional({} at {})", self.id, self.bootstrap)
    }
}

impl Transactional {
    /// Fences: when it returns, transactions that others began under this id are committed or aborted, and theirs are over.
    pub fn open(props: &KafkaProps, id: &str) -> Result<Transactional> {
        let props = props.of_group(id);
        let config = config(&props, id);
        let opened = Transactional {
            producer: Producer::with(&config, props.bootstrap())?,
            marks: client::consumer(&props.offsets())?,
            id: id.to_owned(),
            bootstrap: props.bootstrap().to_owned(),
        };
        let begun = opened.producer.raw().init_transactions(REQUEST_TIMEOUT);
        begun.map_err(|e| opened.failed("transactions cannot be begun", &e))?;
        Ok(opened)
    }

    /// The mark on this topic. `None`: there is none, or the broker keeps it no longer (`offsets.retention.minutes`).
    pub fn mark(&self, topic: &str) -> Result<Option<Mark>> {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(topic, MARKED);
        let found = self.marks.committed_offsets(list, REQUEST_TIMEOUT);
        let list = found.map_err(|e| {
            let why = client::heard(&self.marks);
            request_error("kafka.mark", &self.what("its mark cannot be read"), &e, why)
        })?;
        let Some(element) = list.find_partition(topic, MARKED) else {
            return Ok(None);
        };
        let told = element.error();
        told.map_err(|e| self.failed("its mark cannot be read", &e))?;
        Ok(match element.offset() {
            Offset::Offset(number) => Some(Mark {
                number,
                text: element.metadata().to_owned(),
            }),
            _ => None,
        })
    }

    /// One transaction: what `send` sends, and the mark on `topic`. After an error nobody knows what became of it: only a
    /// client that is opened anew does.
    pub fn run(
        &self,
        topic: &str,
        mark: &Mark,
        send: impl FnOnce(&mut dyn FnMut(&str, Outgoing<'_>) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let raw = self.producer.raw();
        let begun = raw.begin_transaction();
        begun.map_err(|e| self.failed("a transaction cannot be begun", &e))?;
        let mut topics = BTreeSet::new();
        let mut each = |to: &str, out: Outgoing<'_>| {
            if !topics.contains(to) {
                topics.insert(to.to_owned());
            }
            self.producer.send(to, out)
        };
        let mut list = TopicPartitionList::with_capacity(1);
        let bad = |e| self.failed("its mark cannot be set", &e);
        let mut element = list.add_partition(topic, MARKED);
        element
            .set_offset(Offset::Offset(mark.number))
            .map_err(bad)?;
        element.set_metadata(&mark.text);
        let Some(group) = self.marks.group_metadata() else {
            return Err(Error::new(
                Kind::Bug,
                "kafka.mark",
                "a group without metadata",
            ));
        };
        // The records first: what one of them is refused for is said of it, not of the transaction.
        let sent = send(&mut each);
        let sent = sent.and_then(|()| self.producer.flush_unless_away(TRANSACTION_MAX, AWAY));
        if let Err(error) = sent {
            // A transaction that broke says why when it is asked for more; it cannot be committed any more.
            let broken = match self.producer.failed_by_another() {
                true => raw.send_offsets_to_transaction(&list, &group, REQUEST_TIMEOUT),
                false => Ok(()),
            };
            return Err(self.cause(error, broken.err(), &topics));
        }
        let marked = raw.send_offsets_to_transaction(&list, &group, REQUEST_TIMEOUT);
        marked.map_err(|e| self.failed("its mark cannot be set", &e))?;
        let committed = raw.commit_transaction(TRANSACTION_MAX);
        committed.map_err(|e| self.failed("a transaction did not end", &e))
    }

    fn what(&self, what: &str) -> String {
        format!(
            "{what} (transactional id {} at {})",
            self.id, self.bootstrap
        )
    }

    /// A record that failed because the whole client was fenced, or the transaction broke, says so.
    fn cause(&self, error: Error, broken: Option<KafkaError>, topics: &BTreeSet<String>) -> Error {
        if let Some((code, text)) = self.producer.raw().client().fatal_error() {
            return self.of_code(code, &text).source(error.to_string());
        }
        let Some(broken) = broken else {
            return error;
        };
        match broken.rdkafka_error_code() {
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                let all: Vec<&str> = topics.iter().map(String::as_str).collect();
                let shown = all.get(..TOPICS_SHOWN.min(all.len())).unwrap_or_default();
                may_not_write(&shown.join("' or '"))
            }
            _ => self
                .failed("a transaction broke", &broken)
                .source(error.to_string()),
        }
    }

    fn failed(&self, what: &str, error: &KafkaError) -> Error {
        let code = error.rdkafka_error_code();
        if let Some((code, text)) = self.producer.raw().client().fatal_error() {
            return self.of_code(code, &text);
        }
        match code {
            Some(code) if is_fenced(code) => self.of_code(code, what),
            Some(code @ RDKafkaErrorCode::TransactionalIdAuthorizationFailed) => {
                self.of_code(code, what)
            }
            Some(code) if let Some(hint) = never_taken(code) => Error::new(
                Kind::RecordRefused,
                "kafka.transaction",
                format!("{}: {error}", self.what(what)),
            )
            .hint(hint),
            _ => request_error(
                "kafka.transaction",
                &self.what(what),
                error,
                self.producer.reason(),
            ),
        }
    }

    fn of_code(&self, code: RDKafkaErrorCode, text: &str) -> Error {
        let told = |kind, message: String| Error::new(kind, "kafka.transaction", message);
        if is_fenced(code) {
            let message = self.what("another process writes under this transactional id now");
            return told(Kind::SinkUnavailable, message).hint(
                "if two processes of this pipeline run, stop one; each takes over from the other",
            );
        }
        if code == RDKafkaErrorCode::TransactionalIdAuthorizationFailed {
            let message = self.what("the broker does not let this user use it");
            return told(Kind::ConfigInvalid, message)
                .hint("give the user WRITE and DESCRIBE on the transactional id");
        }
        told(
            Kind::SinkUnavailable,
            format!("{}: {code}", self.what(text)),
        )
    }
}

fn is_fenced(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::Fenced | C::ProducerFenced | C::InvalidProducerEpoch | C::TransactionCoordinatorFenced
    )
}

fn config(props: &KafkaProps, id: &str) -> ClientConfig {
    let mut config = props.producer();
    let most = TRANSACTION_MAX.as_millis().to_string();
    config
        .set("transactional.id", id)
        .set("transaction.timeout.ms", &most)
        .set("message.timeout.ms", &most);
    config
}
