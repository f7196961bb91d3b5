//! Translates librdkafka's codes: which kind of error, and what the operator can do about it.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::error::{Error, Kind};

use super::client::Reason;

/// What a code means for the operator of the pipeline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// Not allowed, or the login was refused.
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

/// Words of a handshake that broke off for another reason, so that it may work the next time.
const BROKEN_OFF: [&str; 5] = [
    "Disconnected",
    "hung up",
    "transport",
    "timed out",
    "Timed out",
];
/// TLS 1.3: the broker refuses a client's certificate after the handshake, when the client believes itself connected.
const ALERT: &str = "SSL alert number";

/// The code of a refusal, if a failure of a connection is one: broker and client cannot authenticate each other, and
/// waiting does not change that.
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
        C::GroupAuthorizationFailed => "the user needs READ on the group (to write its offsets)",
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
