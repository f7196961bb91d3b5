//! The keys of `source.type = "kafka"`, and the checks between them.

use std::sync::Arc;

use super::{KafkaSourceConfig, OnDataLoss, OnTopicRecreated};
use crate::config::keys::Default::{Derived, Is, Required};
use crate::config::keys::Group::Source;
use crate::config::keys::Importance::{High, Low, Medium};
use crate::config::keys::{KAFKA_PREFIX, KeyDef, Scope, keys};
use crate::config::librdkafka::{LIST, Property, Side, property};
use crate::config::raw::Entry;
use crate::config::shape::unit::{HOUR, SECOND, duration};
use crate::config::shape::{Shape, Value};
use crate::config::{
    self, Checker, Gives, Home, Prefixed, SourceType, Start, TableName, Trigger, problem,
};

const KAFKA: Scope = Scope::Source("kafka");

pub const SOURCE: SourceType = SourceType {
    name: "kafka",
    gives: Gives::Records,
    keys: KEYS,
    prefixed: Some(Prefixed {
        prefix: KAFKA_PREFIX,
        check: client_property,
    }),
    trigger: Trigger::Continuous,
    table: |_| Some(TableName::PerTopic),
    topics: Some("source.topics"),
    check,
    build,
};

const KEYS: &[KeyDef] = keys! {
    "source.topics": Shape::Topics, Required("the names of the topics, as a list"), High, Source, KAFKA,
        "Topics to read, all partitions of each. New partitions are picked up.";
    "source.start": Shape::Start,
        Required("`earliest` (all that the topic still has), `latest` (only what comes from now on), `timestamp:2024-01-01T00:00:00Z`, `group:NAME` (behind what another consumer has committed), or `offsets:orders/0=42,orders/1=latest`"),
        High, Source, KAFKA,
        "Where a partition begins that the commit log does not know yet. `group:connect-NAME` goes on where a sink of Kafka Connect stopped; partitions of which the group has committed nothing begin at their first record. `offsets:` names every partition of every topic. No default: both choices surprise somebody. Ignored once a position is committed.";
    "source.bootstrap.servers": Shape::Brokers, Required("host:port of one or more brokers, separated by commas"),
        High, Source, KAFKA, "Brokers to ask first.";
    "source.group.id": Shape::Text, Derived("`name`"), Low, Source, KAFKA,
        "Consumer group under which committed positions are written, so that lag tools see them. Never read back.";
    "source.on.data.loss": Shape::Choice(&["fail", "gap"]), Is("fail"), Medium, Source, KAFKA,
        "What to do where records after the committed position are gone from the topic: stop and name the lost range, or commit it as a gap and go on.";
    "source.on.topic.recreated": Shape::Choice(&["fail", "continue"]), Is("fail"), Medium, Source, KAFKA,
        "What to do where a topic was deleted and created again under its name: stop, or read the new one from its beginning.";
    "source.metadata.refresh": duration(SECOND, HOUR), Is("30s"), Low, Source, KAFKA,
        "How often to look for new partitions and recreated topics.";
};

/// `None` only if a problem was reported.
fn build(checker: &Checker<'_>, _: &Home) -> Option<config::Source> {
    let properties = checker.raw.iter().filter_map(|(key, entry)| {
        let name = key.strip_prefix(KAFKA_PREFIX)?;
        Some((name.to_owned(), entry.value.clone()))
    });
    Some(config::Source::Records(Arc::new(KafkaSourceConfig {
        topics: checker.list("source.topics")?,
        start: start(checker)?,
        bootstrap_servers: checker.raw.get("source.bootstrap.servers")?.value.clone(),
        group_id: match checker.text("source.group.id") {
            Some(group) => group,
            None => checker.text("name")?,
        },
        properties: properties.collect(),
        on_data_loss: match checker.text("source.on.data.loss")?.as_str() {
            "gap" => OnDataLoss::Gap,
            _ => OnDataLoss::Fail,
        },
        on_topic_recreated: match checker.text("source.on.topic.recreated")?.as_str() {
            "continue" => OnTopicRecreated::Continue,
            _ => OnTopicRecreated::Fail,
        },
        metadata_refresh: checker.duration("source.metadata.refresh")?,
    })))
}

fn start(checker: &Checker<'_>) -> Option<Start> {
    match checker.value("source.start")? {
        Value::Start(start) => Some(start),
        _ => None,
    }
}

fn check(checker: &mut Checker<'_>) {
    security(checker);
    if let Some(Start::Timestamp(micros)) = start(checker)
        && micros < 0
    {
        let message = "`source.start`: a time before 1970".to_owned();
        checker.problem("source.start", problem::OUT_OF_RANGE, message);
    }
    if let (Some(Start::Offsets(offsets)), Some(topics)) =
        (start(checker), checker.list("source.topics"))
    {
        let named = |name: &String| offsets.keys().any(|(topic, _)| topic == name);
        let strange = offsets.keys().find(|(topic, _)| !topics.contains(topic));
        if let Some((topic, _)) = strange {
            let message = format!("`source.start` names a partition of {topic}, which is not read");
            let hint = "add it to source.topics, or take it out";
            checker.contradiction("source.start", message, hint);
        }
        if let Some(topic) = topics.iter().find(|topic| !named(topic)) {
            let message = format!("`source.start` names no partition of {topic}");
            let hint = "name every partition of every topic";
            checker.contradiction("source.start", message, hint);
        }
    }
}

/// `source.kafka.<property>`.
fn client_property(checker: &mut Checker<'_>, key: &str, name: &str, entry: &Entry) {
    match property(name) {
        Property::Allowed(allowed) if allowed.side == Side::Producer => {
            let message = format!("`{name}` is a property of producers; this is a consumer");
            checker.problem(key, problem::DOES_NOT_APPLY, message).hint =
                Some("take the key out".to_owned());
        }
        Property::Allowed(allowed) => {
            // The value of a reference is checked when a client is made.
            let typed = Some(entry.value.typed()).filter(|_| !entry.value.has_reference());
            if let Some(Err(expected)) = typed.map(|typed| allowed.takes.check(typed)) {
                let message = format!("`{key}`: expected {expected}");
                checker.problem(key, problem::WRONG_TYPE, message).hint = Some(LIST.to_owned());
            }
        }
        Property::Owned(why) => {
            let message = format!("`{name}` is decided by the host, not by the config");
            checker.problem(key, problem::OWNED_PROPERTY, message).hint = Some(why.to_owned());
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
                hint.or(Some(LIST.to_owned()));
        }
    }
}

fn security(checker: &mut Checker<'_>) {
    let raw = checker.raw;
    let get = |name: &str| {
        let entry = raw.get(&format!("source.kafka.{name}"))?;
        entry.value.resolve().ok()
    };
    let protocol = get("security.protocol").unwrap_or_else(|| "plaintext".to_owned());
    let protocol = protocol.to_lowercase();
    let key = "source.kafka.security.protocol";
    if !["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"].contains(&protocol.as_str()) {
        let message = format!("`{key}`: expected plaintext, ssl, sasl_plaintext or sasl_ssl");
        checker.problem(key, problem::NOT_A_CHOICE, message);
        return;
    }
    let given = |prefix: &str| {
        let prefix = format!("source.kafka.{prefix}");
        let known = |key: &str| {
            let name = key.strip_prefix(KAFKA_PREFIX).unwrap_or(key);
            let allowed = |p| matches!(p, Property::Allowed(a) if a.side != Side::Producer);
            key.starts_with(&prefix) && allowed(property(name))
        };
        let found = raw.iter().find(|(key, _)| known(key));
        found.map(|(key, _)| key.to_owned())
    };
    if let Some(sasl) = given("sasl.").filter(|_| !protocol.starts_with("sasl_")) {
        let message = format!("`{sasl}` has no effect while security.protocol is {protocol}");
        let hint = "set source.kafka.security.protocol to SASL_SSL or SASL_PLAINTEXT";
        checker.contradiction(&sasl, message, hint);
    }
    if let Some(ssl) = given("ssl.").filter(|_| !protocol.ends_with("ssl")) {
        let message = format!("`{ssl}` has no effect while security.protocol is {protocol}");
        let hint = "set source.kafka.security.protocol to SSL or SASL_SSL";
        checker.contradiction(&ssl, message, hint);
    }
}
