//! Name, topics, tasks, client settings and errors: what Connect's framework reads of every sink.

use super::Work;
use crate::config::java::{self, Said};
use crate::config::keys::KAFKA_PREFIX;
use crate::config::{Text, TopicPattern, problem};

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
    const REGEX: &str = "topics.regex";
    let topics = work.list("topics");
    if let Some(regex) = work.get(REGEX) {
        match TopicPattern::parse(&regex) {
            Err(refusal) => {
                let reason = format!("expected {}", refusal.expected);
                work.refuse(REGEX, reason, refusal.hint.as_deref().unwrap_or_default());
            }
            Ok(_) if !topics.is_empty() => {
                let reason = "`topics` also says what is read";
                work.refuse(REGEX, reason, "take one of them out");
            }
            Ok(_) => {
                put_typed(work, "source.subscribe.pattern", REGEX);
                work.put("sink.table", "${topic}", REGEX);
                return;
            }
        }
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
                    work.put(&format!("source.kafka.{property}"), value.typed(), &key);
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

/// Translates one setting of a Java client to librdkafka's; none if it has no effect or is refused, which is reported.
pub(crate) fn client_property(
    work: &mut Work<'_>,
    key: &str,
    name: &str,
    producer: bool,
) -> Vec<(String, Text)> {
    let Some(typed) = work.typed(key).map(str::to_owned) else {
        return Vec::new();
    };
    let prefix = key.strip_suffix(name).unwrap_or_default();
    let raw = work.raw;
    let beside = |name: &str| {
        let entry = raw.get(&format!("{prefix}{name}"))?;
        Some(entry.value.typed().trim().to_owned())
    };
    match java::setting(name, &typed, &beside, producer) {
        Said::Is(properties) => {
            let own = |(name, value): (String, Text)| (name, raw.text(value.typed()));
            properties.into_iter().map(own).collect()
        }
        Said::Idle(why) => {
            work.note(key, format!("no effect: {why}"));
            Vec::new()
        }
        Said::Refused { reason, hint } => {
            work.refuse(key, reason, hint.replace(KAFKA_PREFIX, prefix));
            Vec::new()
        }
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
