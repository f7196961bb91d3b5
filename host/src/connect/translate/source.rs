//! Name, topics, tasks, client settings and errors: what Connect's framework reads of every sink.

use super::Work;
use crate::config::keys::KAFKA_PREFIX;
use crate::config::librdkafka::{Property, property};
use crate::config::problem;

/// Java's name, librdkafka's.
const RENAMED: &[(&str, &str)] = &[
    ("fetch.max.wait.ms", "fetch.wait.max.ms"),
    ("receive.buffer.bytes", "socket.receive.buffer.bytes"),
    ("request.timeout.ms", "socket.timeout.ms"),
    ("send.buffer.bytes", "socket.send.buffer.bytes"),
];

/// Settings of Java's consumer that decide nothing here, and why.
const IDLE: &[(&str, &str)] = &[
    (
        "default.api.timeout.ms",
        "brokers that are away are waited for",
    ),
    ("enable.auto.commit", "positions are in the commit log"),
    ("auto.commit.interval.ms", "positions are in the commit log"),
    (
        "exclude.internal.topics",
        "only the topics that are named are read",
    ),
    (
        "group.instance.id",
        "partitions are assigned without a group",
    ),
    ("group.protocol", "partitions are assigned without a group"),
    (
        "heartbeat.interval.ms",
        "partitions are assigned without a group",
    ),
    ("key.deserializer", "keys are read as bytes"),
    (
        "max.poll.interval.ms",
        "partitions are assigned without a group",
    ),
    ("metric.reporters", "metrics are the worker's"),
    ("metrics.num.samples", "metrics are the worker's"),
    ("metrics.recording.level", "metrics are the worker's"),
    ("metrics.sample.window.ms", "metrics are the worker's"),
    (
        "partition.assignment.strategy",
        "partitions are assigned without a group",
    ),
    (
        "session.timeout.ms",
        "partitions are assigned without a group",
    ),
    ("value.deserializer", "values are read as bytes"),
];

pub(super) fn translate(work: &mut Work<'_>) {
    overrides(work);
    if let Some(name) = work.get("name") {
        work.put("name", name.clone(), "name");
        work.put("source.group.id", format!("connect-{name}"), "name");
    }
    work.put("source.type", "kafka", "connector.class");
    work.put("sink.type", "zone", "connector.class");
    topics(work);
    if let Some(tasks) = work.int("tasks.max", 1, 256) {
        work.put("tasks.max", tasks.to_string(), "tasks.max");
    }
    work.put("source.start", "earliest", "connector.class");
    errors(work);
}

fn topics(work: &mut Work<'_>) {
    let topics = work.list("topics");
    if work.get("topics.regex").is_some() {
        work.refuse(
            "topics.regex",
            "which topics feed a table is part of its history, so a topic that appears later cannot join by its name",
            "name the topics in `topics`",
        );
    } else if topics.is_empty() && !work.has("source.topics") {
        let message = "`topics` is missing: a sink reads at least one".to_owned();
        work.problem("topics", problem::MISSING, message).hint =
            Some("topics = the names, separated by commas".to_owned());
    }
    if !topics.is_empty() {
        work.put("source.topics", topics.join(","), "topics");
        work.put("sink.table", "${topic}", "topics");
    }
}

const CONSUMER: &str = "consumer.override.";

fn overrides(work: &mut Work<'_>) {
    for name in work.below(CONSUMER) {
        let key = format!("{CONSUMER}{name}");
        match name.as_str() {
            "bootstrap.servers" => put_typed(work, "source.bootstrap.servers", &key),
            "group.id" => put_typed(work, "source.group.id", &key),
            "auto.offset.reset" => start(work, &key),
            "max.poll.records" => {
                if let Some(records) = work.int(&key, 1, 1_000_000) {
                    work.put("batch.max.rows", records.to_string(), &key);
                }
            }
            "isolation.level" => {
                if work
                    .get(&key)
                    .is_some_and(|level| level != "read_committed")
                {
                    work.refuse(
                        &key,
                        "records of aborted transactions are never read",
                        "take the key out: it is read_committed always",
                    );
                }
            }
            _ => {
                for (property, value) in client_property(work, &key, &name, false) {
                    work.put(&format!("source.kafka.{property}"), value, &key);
                }
            }
        }
    }
    for prefix in ["producer.override.", "admin.override."] {
        for name in work.below(prefix) {
            let key = format!("{prefix}{name}");
            work.used(&key);
            work.note(
                &key,
                "no effect: there is no producer and no admin client, as dead letters are a table",
            );
        }
    }
}

fn put_typed(work: &mut Work<'_>, native: &str, key: &str) {
    if let Some(typed) = work.typed(key) {
        work.put(native, typed, key);
    }
}

fn start(work: &mut Work<'_>, key: &str) {
    match work.get(key).as_deref() {
        Some(start @ ("earliest" | "latest")) => {
            let start = start.to_owned();
            work.put("source.start", start, key);
            work.note(key, "decides where a partition begins that was never read; a position that is gone later stops the connector (source.on.data.loss)");
        }
        Some(other) => {
            let reason = format!("`{other}` names no place to begin at");
            work.refuse(key, reason, "write earliest or latest");
        }
        None => {}
    }
}

/// One setting of a Java client as librdkafka's; none where it is idle or refused, which is said.
pub(in crate::connect) fn client_property(
    work: &mut Work<'_>,
    key: &str,
    name: &str,
    producer: bool,
) -> Vec<(String, String)> {
    let Some(typed) = work.typed(key).map(str::to_owned) else {
        return Vec::new();
    };
    if let Some((_, why)) = IDLE.iter().find(|(idle, _)| *idle == name) {
        work.note(key, format!("no effect: {why}"));
        return Vec::new();
    }
    if producer && name == "request.timeout.ms" {
        return vec![(name.to_owned(), typed)];
    }
    if let Some((_, theirs)) = RENAMED.iter().find(|(java, _)| *java == name) {
        return vec![((*theirs).to_owned(), typed)];
    }
    match name {
        "sasl.jaas.config" => return jaas(work, key, &typed),
        "sasl.login.callback.handler.class" | "interceptor.classes" => {
            work.refuse(key, "a Java class cannot be loaded", "take the key out");
            return Vec::new();
        }
        "ssl.truststore.location" | "ssl.truststore.password" | "ssl.truststore.type" => {
            return truststore(work, key, name, typed);
        }
        "ssl.keystore.type" => {
            if !typed.eq_ignore_ascii_case("PKCS12") {
                let reason = format!("a key store of type {typed} cannot be read");
                work.refuse(
                    key,
                    reason,
                    "convert it: keytool -importkeystore -deststoretype PKCS12",
                );
            }
            return Vec::new();
        }
        "ssl.endpoint.identification.algorithm" if typed.is_empty() => {
            return vec![(name.to_owned(), "none".to_owned())];
        }
        _ => {}
    }
    match property(name) {
        Property::Consumer => vec![(name.to_owned(), typed)],
        Property::Producer if producer => vec![(name.to_owned(), typed)],
        Property::Owned(why) => {
            work.refuse(key, "it is decided by the host", why);
            Vec::new()
        }
        Property::Producer => {
            work.note(key, "no effect: it is a setting of producers");
            Vec::new()
        }
        Property::Unknown { hint } => {
            let reason = "the client here (librdkafka) has no such setting";
            let prefix = key.strip_suffix(name).unwrap_or_default();
            let hint = hint.map(|hint| hint.replace(KAFKA_PREFIX, prefix));
            work.refuse(
                key,
                reason,
                hint.unwrap_or_else(|| "take the key out".to_owned()),
            );
            Vec::new()
        }
    }
}

/// `…PlainLoginModule required username="u" password="p";`
fn jaas(work: &mut Work<'_>, key: &str, typed: &str) -> Vec<(String, String)> {
    let value = |name: &str| {
        let (_, rest) = typed.split_once(&format!("{name}=\""))?;
        let mut out = String::new();
        let mut chars = rest.chars();
        loop {
            match chars.next()? {
                '"' => return Some(out),
                '\\' => out.push(chars.next()?),
                c => out.push(c),
            }
        }
    };
    let known = ["PlainLoginModule", "ScramLoginModule"];
    match (value("username"), value("password")) {
        (Some(user), Some(password)) if known.iter().any(|m| typed.contains(m)) => {
            vec![
                ("sasl.username".to_owned(), user),
                ("sasl.password".to_owned(), password),
            ]
        }
        _ => {
            work.refuse(
                key,
                "only the Plain and Scram login modules with username=\"…\" password=\"…\" are understood",
                "write consumer.override.sasl.username and consumer.override.sasl.password instead",
            );
            Vec::new()
        }
    }
}

fn truststore(work: &mut Work<'_>, key: &str, name: &str, typed: String) -> Vec<(String, String)> {
    let prefix = key.strip_suffix(name).unwrap_or_default().to_owned();
    let kind = work.get(&format!("{prefix}ssl.truststore.type"));
    let pem = kind.is_some_and(|kind| kind.eq_ignore_ascii_case("PEM"));
    match name {
        "ssl.truststore.location" if pem => vec![("ssl.ca.location".to_owned(), typed)],
        "ssl.truststore.location" => {
            work.refuse(
                key,
                "certificates are read as PEM, not from a Java key store",
                format!("keytool -exportcert -rfc, then {prefix}ssl.ca.location=FILE.pem"),
            );
            Vec::new()
        }
        _ => Vec::new(),
    }
}

fn errors(work: &mut Work<'_>) {
    const DLQ: &str = "errors.deadletterqueue.topic.name";
    let tolerance = work.get("errors.tolerance");
    let letters = work.get(DLQ);
    if let Some(tolerance) = &tolerance {
        match tolerance.to_lowercase().as_str() {
            known @ ("none" | "all") => {
                let known = known.to_owned();
                work.put("errors.tolerance", known, "errors.tolerance");
            }
            _ => {
                let message =
                    format!("`errors.tolerance`: expected `none` or `all`, found `{tolerance}`");
                work.problem("errors.tolerance", problem::NOT_A_CHOICE, message);
            }
        }
    }
    let all = tolerance.is_some_and(|t| t.eq_ignore_ascii_case("all"));
    match letters {
        Some(topic) if all => {
            work.put("errors.dlq.table", topic, DLQ);
            work.note(DLQ, "dead letters are a table of this name in the zone, committed with the rows; no topic is written, so no letter is lost or doubled");
        }
        Some(_) => work.note(
            DLQ,
            "no effect: errors.tolerance is none, so the first refused record stops the connector before anything of it is written",
        ),
        None if all => work.note(
            "errors.tolerance",
            "refused records are not dropped: they become dead letters, in the table dead_letters",
        ),
        None => {}
    }
}
