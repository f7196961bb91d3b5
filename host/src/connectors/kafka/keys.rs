//! The keys of `source.type = "kafka"`, and the checks between them.

use std::sync::Arc;

use super::properties::{self, Of};
use super::{KafkaSourceConfig, OnDataLoss, OnTopicRecreated, Subscription};
use crate::config::keys::Default::{Derived, Is, Required, Unset};
use crate::config::keys::Group::Source;
use crate::config::keys::Importance::{High, Low, Medium};
use crate::config::keys::{KAFKA_PREFIX, KeyDef, Scope, keys};
use crate::config::raw::Entry;
use crate::config::shape::unit::{DAY, HOUR, SECOND, duration, int};
use crate::config::shape::{Shape, Value};
use crate::config::{
    self, Checker, Gives, Home, PerTrigger, Prefixed, SourceType, Start, TableName, Trigger,
    problem,
};

const MOST: &str = "source.max.offsets.per.trigger";
const LEAST: &str = "source.min.offsets.per.trigger";
const KAFKA: Scope = Scope::Source("kafka");

pub const SOURCE: SourceType = SourceType {
    name: "kafka",
    gives: Gives::Records,
    keys: KEYS,
    prefixed: Some(Prefixed {
        prefix: KAFKA_PREFIX,
        doc: "Properties of librdkafka, as source.kafka.<property>.",
        check: client_property,
    }),
    trigger: Trigger::Continuous,
    table: |_| Some(TableName::PerTopic),
    topics: Some("source.topics"),
    pattern: Some("source.subscribe.pattern"),
    check,
    build,
};

const KEYS: &[KeyDef] = keys! {
    "source.topics": Shape::Topics, Required("the names of the topics, as a list; or source.subscribe.pattern"), High, Source, KAFKA,
        "Topics to read, all partitions of each. New partitions are picked up. Not needed with `source.subscribe.pattern`.";
    "source.subscribe.pattern": Shape::Pattern, Unset, High, Source, KAFKA,
        "Read all topics whose whole name this regular expression matches, instead of `source.topics`, those too that are made later. Never Kafka's own, which begin with `__`; and with a table per topic none that begins with `_`, `.` or `-`, which engines would not see.";
    "source.start": Shape::Start,
        Required("`earliest` (all that the topic still has), `latest` (only what comes from now on), `timestamp:2024-01-01T00:00:00Z`, `group:NAME` (behind what another consumer has committed), or `offsets:orders/0=42,orders/1=latest`"),
        High, Source, KAFKA,
        "Where a partition begins that the commit log does not know yet. `group:connect-NAME` goes on where a sink of Kafka Connect stopped; partitions of which the group has committed nothing begin at their first record. `timestamp:` begins with the first record at or after it, at the end where there is none. `offsets:` names every partition of every topic, with an offset, `earliest`, `latest` or `timestamp:…`; with `source.subscribe.pattern` those of the topics that are there at the first start. Spark's JSON is taken too: `offsets:{\"orders\":{\"0\":42,\"1\":-1}}`, and by partition `timestamp:{\"orders\":{\"0\":1704067200000}}`. No default: both choices surprise somebody. Ignored once a position is committed.";
    "source.bootstrap.servers": Shape::Brokers, Required("host:port of one or more brokers, separated by commas"),
        High, Source, KAFKA, "Brokers to ask first.";
    "source.group.id": Shape::Text, Derived("`name`"), Low, Source, KAFKA,
        "Consumer group under which committed positions are written, so that lag tools see them. Never read back.";
    "source.on.data.loss": Shape::Choice(&["fail", "gap"]), Is("fail"), Medium, Source, KAFKA,
        "What to do where records after the committed position are gone from the topic: stop and name the lost range, or commit it as a gap and go on.";
    "source.on.topic.recreated": Shape::Choice(&["fail", "continue"]), Is("fail"), Medium, Source, KAFKA,
        "What to do where a topic was deleted and created again under its name: stop, or read the new one from its beginning.";
    "source.metadata.refresh": duration(SECOND, HOUR), Is("30s"), Low, Source, KAFKA,
        "How often to look for new partitions, recreated topics, and with a pattern for new topics.";
    "source.max.offsets.per.trigger": int(1, 1_000_000_000_000), Unset, Medium, Source, KAFKA,
        "Most offsets of a commit, over all partitions; with `every:…` and `cron:…` of a run, which takes of each partition by what waits in it. Not set: no limit of its own. At least `tasks.max`: each task has its part.";
    "source.min.offsets.per.trigger": int(1, 1_000_000_000_000), Unset, Low, Source, KAFKA,
        "With `every:…` and `cron:…`: a run reads nothing while fewer offsets wait. Other triggers take what there is.";
    "source.max.trigger.delay": duration(SECOND, 7 * DAY), Is("15m"), Low, Source, KAFKA,
        "With `source.min.offsets.per.trigger`: a run reads all the same when so much time has passed since the last one that read.";
};

/// `None` only if a problem was reported.
fn build(checker: &Checker<'_>, _: &Home) -> Option<config::Source> {
    let properties = checker.raw.iter().filter_map(|(key, entry)| {
        let name = key.strip_prefix(KAFKA_PREFIX)?;
        Some((name.to_owned(), entry.value.clone()))
    });
    Some(config::Source::Records(Arc::new(KafkaSourceConfig {
        topics: checker.topics()?,
        pattern: subscription(checker),
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
        per_trigger: PerTrigger {
            most: checker.number(MOST),
            least: checker.number(LEAST),
            delay: checker.duration("source.max.trigger.delay")?,
        },
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
    per_trigger(checker);
    if let Some(Start::Timestamp(micros)) = start(checker)
        && micros < 0
    {
        let message = "`source.start`: a time before 1970".to_owned();
        checker.problem("source.start", problem::OUT_OF_RANGE, message);
    }
    by_pattern(checker);
    by_partition(checker);
}

/// Partitions that `source.start` names are read, and each topic whose name is known has one.
fn by_partition(checker: &mut Checker<'_>) {
    let Some(Start::Offsets(offsets)) = start(checker) else {
        return;
    };
    let (found, topics) = (subscription(checker), checker.list("source.topics"));
    let reads = |topic: &String| match (&found, &topics) {
        (Some(found), _) => found.takes(topic),
        (None, Some(topics)) => topics.contains(topic),
        // Another problem was told.
        (None, None) => true,
    };
    let strange = offsets.keys().find(|(topic, _)| !reads(topic));
    if let Some((topic, _)) = strange {
        let message = format!("`source.start` names a partition of {topic}, which is not read");
        let hint = match found {
            Some(_) => "let source.subscribe.pattern match it, or take it out",
            None => "add it to source.topics, or take it out",
        };
        checker.contradiction("source.start", message, hint);
    }
    let named = |name: &String| offsets.keys().any(|(topic, _)| topic == name);
    let topics = topics.filter(|_| found.is_none()).unwrap_or_default();
    if let Some(topic) = topics.iter().find(|topic| !named(topic)) {
        let message = format!("`source.start` names no partition of {topic}");
        let hint = "name every partition of every topic";
        checker.contradiction("source.start", message, hint);
    }
}

fn subscription(checker: &Checker<'_>) -> Option<Subscription> {
    checker.pattern().map(|pattern| Subscription {
        pattern,
        only_visible: checker.has_table_per_topic(),
    })
}

fn per_trigger(checker: &mut Checker<'_>) {
    let (most, least) = (checker.number(MOST), checker.number(LEAST));
    if let (Some(most), Some(least)) = (most, least)
        && least > most
    {
        let message = format!("`{LEAST}` is more than `{MOST}`");
        checker.contradiction(LEAST, message, "lower it");
    }
    if let (Some(most), Some(tasks)) = (most, checker.number("tasks.max"))
        && most < tasks
    {
        let message = format!("`{MOST}` of {most} cannot be shared by {tasks} tasks");
        checker.contradiction(MOST, message, "raise it, or lower tasks.max");
    }
    if least.is_some() && checker.trigger() == Some(Trigger::Continuous) {
        let message = format!("`{LEAST}`: `trigger` is `continuous`, which reads what comes");
        let hint = "sink.rotate.rows and sink.rotate.age say when it commits; or write a trigger such as `every:1m`";
        checker.contradiction(LEAST, message, hint);
    }
    if checker.typed("source.max.trigger.delay") && !checker.typed(LEAST) {
        let message = format!("`source.max.trigger.delay` has no effect without `{LEAST}`");
        checker.contradiction("source.max.trigger.delay", message, "take it out");
    }
}

fn by_pattern(checker: &mut Checker<'_>) {
    const KEY: &str = "source.subscribe.pattern";
    if checker.pattern().is_some() && checker.typed("source.topics") {
        let message = format!("`{KEY}` and `source.topics` both say what is read");
        checker.contradiction(KEY, message, "take one of them out");
    }
}

/// `source.kafka.<property>`.
fn client_property(checker: &mut Checker<'_>, key: &str, name: &str, entry: &Entry) {
    properties::check(checker, (key, name), entry, Of::Source);
}
