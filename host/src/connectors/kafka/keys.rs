//! The keys of `source.type = "kafka"`, and the checks between them.

use std::sync::Arc;

use super::properties::{self, Of};
use super::{KafkaSourceConfig, OnDataLoss, OnTopicRecreated};
use crate::config::keys::Default::{Derived, Is, Required};
use crate::config::keys::Group::Source;
use crate::config::keys::Importance::{High, Low, Medium};
use crate::config::keys::{KAFKA_PREFIX, KeyDef, Scope, keys};
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
    properties::security(checker, Of::Source);
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
    properties::check(checker, (key, name), entry, Of::Source);
}
