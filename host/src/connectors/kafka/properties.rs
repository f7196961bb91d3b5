//! Properties of librdkafka under a prefix of ours, `source.kafka.` or `sink.kafka.`: what a config may say, and what it forbids
//! together.

use crate::config::librdkafka::{LIST, Property, Side, property};
use crate::config::raw::Entry;
use crate::config::{Checker, problem};

/// Whose properties they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    Source,
    Sink,
}

impl Of {
    fn other_side(self) -> Side {
        match self {
            Of::Source => Side::Producer,
            Of::Sink => Side::Consumer,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Of::Source => crate::config::keys::KAFKA_PREFIX,
            Of::Sink => crate::config::keys::SINK_KAFKA_PREFIX,
        }
    }

    /// A text that was written for sources.
    pub fn told(self, text: &str) -> String {
        match self {
            Of::Source => text.to_owned(),
            Of::Sink => text.replace("source.", "sink."),
        }
    }
}

/// One property: the key, and its name without the prefix.
pub fn check(checker: &mut Checker<'_>, (key, name): (&str, &str), entry: &Entry, of: Of) {
    match property(name) {
        Property::Allowed(allowed) if allowed.side == of.other_side() => {
            let (theirs, this) = match of {
                Of::Source => ("producers", "consumer"),
                Of::Sink => ("consumers", "producer"),
            };
            let message = format!("`{name}` is a property of {theirs}; this is a {this}");
            checker.problem(key, problem::DOES_NOT_APPLY, message).hint =
                Some("take the key out".to_owned());
        }
        Property::Allowed(allowed) => {
            // What a reference stands for is looked at when a client is made of it.
            let typed = Some(entry.value.typed()).filter(|_| !entry.value.has_reference());
            if let Some(Err(expected)) = typed.map(|typed| allowed.takes.check(typed)) {
                let message = format!("`{key}`: expected {expected}");
                checker.problem(key, problem::WRONG_TYPE, message).hint = Some(LIST.to_owned());
            }
        }
        Property::Owned(why) => {
            let message = format!("`{name}` is decided by the host, not by the config");
            checker.problem(key, problem::OWNED_PROPERTY, message).hint = Some(of.told(why));
        }
        Property::Never(why) => {
            let message = format!("`{name}` cannot be set: {why}");
            checker
                .problem(key, problem::REFUSED_PROPERTY, message)
                .hint = Some(LIST.to_owned());
        }
        Property::Unknown { hint } => {
            let message = format!("`{name}` is not among the Kafka properties that can be set");
            checker.problem(key, problem::UNKNOWN_KEY, message).hint =
                hint.map(|hint| of.told(&hint)).or(Some(LIST.to_owned()));
        }
    }
}

/// Logins and certificates that the security protocol does not use.
pub fn security(checker: &mut Checker<'_>, of: Of) {
    let (raw, prefix) = (checker.raw, of.prefix());
    let get = |name: &str| {
        let entry = raw.get(&format!("{prefix}{name}"))?;
        entry.value.resolve().ok()
    };
    let protocol = get("security.protocol").unwrap_or_else(|| "plaintext".to_owned());
    let protocol = protocol.to_lowercase();
    let key = &format!("{prefix}security.protocol");
    if !["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"].contains(&protocol.as_str()) {
        let message = format!("`{key}`: expected plaintext, ssl, sasl_plaintext or sasl_ssl");
        checker.problem(key, problem::NOT_A_CHOICE, message);
        return;
    }
    let given = |family: &str| {
        let begins = format!("{prefix}{family}");
        let known = |key: &str| {
            let name = key.strip_prefix(prefix).unwrap_or(key);
            let allowed = |p| matches!(p, Property::Allowed(a) if a.side != of.other_side());
            key.starts_with(&begins) && allowed(property(name))
        };
        let found = raw.iter().find(|(key, _)| known(key));
        found.map(|(key, _)| key.to_owned())
    };
    if let Some(sasl) = given("sasl.").filter(|_| !protocol.starts_with("sasl_")) {
        let message = format!("`{sasl}` has no effect while security.protocol is {protocol}");
        let hint = format!("set {key} to SASL_SSL or SASL_PLAINTEXT");
        checker.contradiction(&sasl, message, &hint);
    }
    if let Some(ssl) = given("ssl.").filter(|_| !protocol.ends_with("ssl")) {
        let message = format!("`{ssl}` has no effect while security.protocol is {protocol}");
        let hint = format!("set {key} to SSL or SASL_SSL");
        checker.contradiction(&ssl, message, &hint);
    }
}
