//! librdkafka's codes in our words: which kind, and what the operator can do about it.

use std::fmt;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::error::{Error, Kind};
use crate::record::{ChainId, TopicPartition};
use crate::source::Position;

use super::client::Reason;

/// Offsets `[from, to)` that were to be read and are gone. `to` is where reading could go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRange {
    pub chain: ChainId,
    pub tp: TopicPartition,
    pub from: i64,
    pub to: i64,
}

/// What a [`Kind::SourceLost`] error of this folder carries as its source; see [`lost`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Retention or DeleteRecords was faster than we were: a `gap` entry can account for it.
    AgedOut(Vec<LostRange>),
    /// The position lies above the end: the log was truncated or the topic recreated. No entry accounts for it.
    AboveEnd(Vec<LostRange>),
    /// The topic is not there any more.
    TopicGone(String),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = match self {
            Lost::TopicGone(topic) => return write!(f, "topic '{topic}' is gone"),
            Lost::AgedOut(ranges) | Lost::AboveEnd(ranges) => ranges,
        };
        for (i, r) in ranges.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} offsets {}..{}", r.tp, r.from, r.to)?;
        }
        Ok(())
    }
}

impl std::error::Error for Lost {}

impl Lost {
    pub(super) fn into_error(self, op: &'static str) -> Error {
        let error = match &self {
            Lost::AgedOut(_) => Error::new(
                Kind::SourceLost,
                op,
                "records aged out of the broker before they were read",
            )
            .hint("source.on.data.loss = \"gap\" records the lost range in the log and goes on"),
            Lost::AboveEnd(_) => Error::new(
                Kind::SourceLost,
                op,
                "the committed position lies above the end of the partition",
            )
            .hint("the topic was truncated or recreated: start a new pipeline for it"),
            Lost::TopicGone(_) => {
                Error::new(Kind::SourceLost, op, "a topic that was being read is gone")
                    .hint("if it comes back it is another topic: source.on.topic.recreated")
            }
        };
        error.source(self)
    }
}

/// The lost ranges behind an error, if that is what it is about.
pub fn lost(error: &Error) -> Option<&Lost> {
    std::error::Error::source(error)?.downcast_ref()
}

pub(super) fn lost_of(at: &Position, low: i64, high: i64) -> Option<Lost> {
    let range = |from, to| {
        vec![LostRange {
            chain: at.chain.clone(),
            tp: at.tp.clone(),
            from,
            to,
        }]
    };
    if at.next < low {
        Some(Lost::AgedOut(range(at.next, low)))
    } else if at.next > high {
        Some(Lost::AboveEnd(range(at.next, high)))
    } else {
        None
    }
}

/// The worst first: a topic that is gone, then positions above the end, then ranges that a gap can account for.
pub(super) fn merge<'a>(all: impl Iterator<Item = &'a Lost>) -> Option<Lost> {
    let (mut aged, mut above) = (Vec::new(), Vec::new());
    for lost in all {
        match lost {
            Lost::TopicGone(topic) => return Some(Lost::TopicGone(topic.clone())),
            Lost::AboveEnd(ranges) => above.extend_from_slice(ranges),
            Lost::AgedOut(ranges) => aged.extend_from_slice(ranges),
        }
    }
    if !above.is_empty() {
        return Some(Lost::AboveEnd(above));
    }
    (!aged.is_empty()).then_some(Lost::AgedOut(aged))
}

/// What a code means to whoever runs the pipeline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// Not allowed, or not who we say we are.
    Auth,
    /// The topic or partition is not there.
    NoTopic,
    /// All brokers are unreachable.
    AllDown,
    /// One broker or one request failed; librdkafka tries again by itself.
    Passing,
    /// The position is not in the partition.
    OutOfRange,
}

pub(super) fn class(code: RDKafkaErrorCode) -> Class {
    use RDKafkaErrorCode as C;
    match code {
        C::Authentication
        | C::SaslAuthenticationFailed
        | C::UnsupportedSASLMechanism
        | C::IllegalSASLState
        | C::SSL
        | C::TopicAuthorizationFailed
        | C::GroupAuthorizationFailed
        | C::ClusterAuthorizationFailed => Class::Auth,
        C::UnknownTopic | C::UnknownTopicOrPartition | C::UnknownPartition => Class::NoTopic,
        C::AllBrokersDown => Class::AllDown,
        C::AutoOffsetReset | C::OffsetOutOfRange => Class::OutOfRange,
        _ => Class::Passing,
    }
}

/// What a handshake that broke off for another reason says. It may work the next time.
const BROKEN_OFF: [&str; 5] = [
    "Disconnected",
    "hung up",
    "transport",
    "timed out",
    "Timed out",
];
/// TLS 1.3: the broker refuses a client's certificate after the handshake, when the client believes itself connected.
const ALERT: &str = "SSL alert number";

/// The code of a refusal, if a failure of a connection is one: broker and client do not agree on who they are, and will
/// not by themselves.
pub(super) fn refusal(code: RDKafkaErrorCode, reason: &str) -> Option<RDKafkaErrorCode> {
    if code == RDKafkaErrorCode::BrokerTransportFailure && reason.contains(ALERT) {
        return Some(RDKafkaErrorCode::SSL);
    }
    let broken_off = BROKEN_OFF.iter().any(|text| reason.contains(text));
    (class(code) == Class::Auth && !broken_off).then_some(code)
}

pub(super) fn refused(op: &'static str, what: &str, code: RDKafkaErrorCode, reason: &str) -> Error {
    Error::new(Kind::ConfigInvalid, op, format!("{what}: {reason}")).hint(auth_hint(code, reason))
}

pub(super) fn auth_hint(code: RDKafkaErrorCode, reason: &str) -> &'static str {
    use RDKafkaErrorCode as C;
    match code {
        C::SSL if reason.contains(ALERT) => {
            "the broker does not take this client's certificate, or wants one: check source.kafka.ssl.certificate.location \
             and source.kafka.ssl.key.location"
        }
        C::SSL => {
            "this client does not trust the broker's certificate: source.kafka.ssl.ca.location must hold the CA that signed \
             it, and source.bootstrap.servers a host name that stands in it"
        }
        C::TopicAuthorizationFailed => "the user needs READ and DESCRIBE on the topic",
        C::GroupAuthorizationFailed => "the user needs READ on the group (for mirrored offsets)",
        C::ClusterAuthorizationFailed => "the user needs DESCRIBE on the cluster",
        _ => {
            "check source.kafka.security.protocol, sasl.mechanisms, sasl.username and sasl.password"
        }
    }
}

/// An error of a request made while connecting or describing; `why` is the last reason librdkafka gave.
pub(super) fn request_error(
    op: &'static str,
    what: &str,
    error: &KafkaError,
    why: Option<Reason>,
) -> Error {
    if let Some((code, text)) = &why
        && let Some(code) = refusal(*code, text)
    {
        return refused(op, what, code, text);
    }
    let text = why
        .as_ref()
        .map(|(_, text)| format!(" ({text})"))
        .unwrap_or_default();
    match error.rdkafka_error_code() {
        Some(code) if class(code) == Class::Auth => {
            refused(op, what, code, &format!("{error}{text}"))
        }
        Some(code) if class(code) == Class::NoTopic => {
            Error::new(Kind::ConfigInvalid, op, format!("{what}: no such topic"))
                .hint("create it, or correct source.topics")
        }
        _ => Error::new(
            Kind::SourceUnavailable,
            op,
            format!("{what}: {error}{text}"),
        )
        .hint("is the broker up, and reachable under the address it advertises?"),
    }
}
