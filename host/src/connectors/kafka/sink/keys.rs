//! The keys of `sink.type = "kafka"`, and what they forbid together.

use std::sync::Arc;

use super::{BATCH_OVERHEAD, KafkaSinkConfig, Partitioner, RecordLayout, topics};
use crate::config::keys::Default::{Derived, Is, Required, Unset};
use crate::config::keys::Group::Sink;
use crate::config::keys::Importance::{High, Low, Medium};
use crate::config::keys::{KeyDef, SINK_KAFKA_PREFIX, Scope, keys};
use crate::config::raw::Entry;
use crate::config::shape::Shape;
use crate::config::shape::unit::{HOUR, KIB, MS, bytes, duration};
use crate::config::{
    Checker, Gives, Home, Prefixed, SinkConfig, SinkType, delimiter, problem, store_keys,
};
use crate::connectors::kafka::properties::{self, Of};
use crate::connectors::zone::home;
use crate::sink::format::{Format, is_element_name};

const KAFKA: Scope = Scope::Sink("kafka");
/// librdkafka takes no larger `message.max.bytes`.
const RECORD_MAX: u64 = 1_000_000_000 - BATCH_OVERHEAD as u64;
/// Bytes of a transaction, which has a minute to end: a cluster that takes one MiB a second is fast enough.
const COMMIT_MAX: u64 = 64 << 20;

pub const SINK: SinkType = SinkType {
    name: "kafka",
    keys: KEYS,
    prefixed: Some(Prefixed {
        prefix: SINK_KAFKA_PREFIX,
        doc: "Properties of librdkafka, as sink.kafka.<property>.",
        check: client_property,
    }),
    leaves: &[
        "sink.table",
        "sink.rotate.bytes",
        "sink.rotate.age",
        "sink.rotate.rows",
        "sink.keep.value",
        "sink.retention",
    ],
    check,
    build,
};

const KEYS: &[KeyDef] = keys! {
    "sink.bootstrap.servers": Shape::Brokers, Required("host:port of one or more brokers, separated by commas"), High, Sink, KAFKA,
        "Brokers of the cluster that takes the rows. It may be another one than the source's.";
    "sink.topic.name": Shape::Name, Required("the topic that takes the rows; it must exist"), High, Sink, KAFKA,
        "Topic of the rows. The pipeline's mark stands on it too, also where `sink.topic.column` names other topics.";
    "sink.topic.column": Shape::Field, Unset, Medium, Sink, KAFKA,
        "Column of text that names the topic of each row. Null: `sink.topic.name`. A row that names a topic which does not exist is a dead letter.";
    "sink.key.column": Shape::Field, Unset, High, Sink, KAFKA,
        "Column that is the key of the record. Not set, or null in a row: no key.";
    "sink.value.format": Shape::Choice(&["json", "csv", "xml", "string", "json-string", "json-envelope"]), Is("json"), High, Sink, KAFKA,
        "What a row becomes: a JSON object, a line of CSV, an XML element, or (`string`) the bytes of one column. `json-string` and `json-envelope`: one column of text as JsonConverter of Kafka Connect writes it, without schemas and with them.";
    "sink.value.column": Shape::Field, Derived("`value`, the record's own bytes where no transform runs"), Medium, Sink, KAFKA,
        "With `string`, `json-string` and `json-envelope`: the column that is the value. Null: a record without a value (a tombstone).";
    "sink.value.columns": Shape::Fields, Unset, Medium, Sink, KAFKA,
        "With `json`, `csv` and `xml`: columns of the value, in this order. Not set: all that the last transform makes.";
    "sink.csv.delimiter": Shape::Exact, Is(","), Low, Sink, KAFKA,
        "With `csv`: what stands between two fields: one ASCII character, a tab as it is or as `tab` or `\\t`.";
    "sink.xml.root": Shape::Name, Is("row"), Low, Sink, KAFKA,
        "With `xml`: name of the element that is a row.";
    "sink.headers.columns": Shape::Fields, Unset, Low, Sink, KAFKA,
        "Columns that are headers of the record, each under its own name.";
    "sink.headers.of.record": Shape::Flag, Is("false"), Low, Sink, KAFKA,
        "Also hand on the headers of the record that was read.";
    "sink.partitioner": Shape::Choice(&["murmur2", "crc32", "source", "column"]), Is("murmur2"), Medium, Sink, KAFKA,
        "Which partition a row goes to: by the hash of its key as Java's clients reckon it (`murmur2`) or as librdkafka's do (`crc32`), records without a key anywhere; the number of the partition that it was read from (`source`); or `sink.partition.column`.";
    "sink.partition.column": Shape::Field, Unset, Low, Sink, KAFKA,
        "With `column`: column of whole numbers that names the partition. Null: by the hash of the key.";
    "sink.timestamp": Shape::Choice(&["record", "now"]), Is("record"), Low, Sink, KAFKA,
        "Timestamp of the record: that of the record that was read, or when it is sent.";
    "sink.record.max.bytes": bytes(KIB, RECORD_MAX), Is("1000000B"), Medium, Sink, KAFKA,
        "Most bytes of key, value and headers; a larger row is a dead letter. The topic must take as much (its `max.message.bytes`); where the broker tells that it takes less, that counts.";
    "sink.commit.age": duration(100 * MS, HOUR), Is("5s"), High, Sink, KAFKA,
        "Commit when the oldest uncommitted record has waited so long. Readers see rows after their commit.";
    "sink.commit.bytes": bytes(64 * KIB, COMMIT_MAX), Is("16MiB"), Medium, Sink, KAFKA,
        "Commit after so many bytes of records. They are held in memory, and in the outbox below `sink.url`, until the topic has them. One transaction carries them, which the cluster ends after a minute: hence the most.";
    "sink.transactional.id.prefix": Shape::Name, Is("weir-"), Low, Sink, KAFKA,
        "Beginning of the transactional id and of the group of the mark: `<prefix><pipeline>-<zone>-<digits of the log>`. Give the user rights by this prefix.";
};

/// `sink.kafka.<property>`.
fn client_property(checker: &mut Checker<'_>, key: &str, name: &str, entry: &Entry) {
    let owned = |checker: &mut Checker<'_>, hint: &str| {
        let message = format!("`{name}` is decided by the host, not by the config");
        checker.problem(key, problem::OWNED_PROPERTY, message).hint = Some(hint.to_owned());
    };
    match name {
        "message.max.bytes" => owned(checker, "write sink.record.max.bytes"),
        "message.timeout.ms" | "delivery.timeout.ms" => {
            owned(
                checker,
                "a transaction has its own limit; the pipeline waits without end",
            );
        }
        "transactional.id" => owned(checker, "write sink.transactional.id.prefix"),
        "acks" | "request.required.acks" => {
            owned(
                checker,
                "what is committed is on all replicas in sync (acks = all)",
            );
        }
        "partitioner" => owned(checker, "write sink.partitioner"),
        _ => properties::check(checker, (key, name), entry, Of::Sink),
    }
}

fn check(checker: &mut Checker<'_>) {
    store_keys::check(checker, "sink.url");
    properties::security(checker, Of::Sink);
    if checker
        .source
        .is_some_and(|source| source.gives == Gives::Rows)
    {
        let message = "`sink.type`: a zone that is read is written into a zone".to_owned();
        let hint = "to send records into a topic, read the topic that they came from";
        checker.contradiction("sink.type", message, hint);
    }
    reads_itself(checker);
    formats(checker);
    if let Some(topic) = checker.text("sink.topic.name")
        && topic.starts_with(topics::INTERNAL)
    {
        let shown = checker.shown("sink.topic.name", &topic);
        let message = format!("`sink.topic.name`: `{shown}` is a topic of the cluster itself");
        let hint = "topics that begin with `__` belong to the brokers: write into another topic";
        checker
            .problem("sink.topic.name", problem::WRONG_TYPE, message)
            .hint = Some(hint.to_owned());
    }
    let by_column = checker.is("sink.partitioner", "column");
    if by_column == Some(true) && !checker.typed("sink.partition.column") {
        let message =
            "`sink.partitioner` is `column`, and `sink.partition.column` is not set".to_owned();
        checker.contradiction("sink.partitioner", message, "name the column");
    }
    if by_column == Some(false) && checker.typed("sink.partition.column") {
        let message =
            "`sink.partition.column` has no effect: sink.partitioner is not `column`".to_owned();
        checker.contradiction(
            "sink.partition.column",
            message,
            "write sink.partitioner = \"column\"",
        );
    }
}

/// What it writes it would read again, without end.
fn reads_itself(checker: &mut Checker<'_>) {
    let typed = |key: &str| Some(checker.raw.get(key)?.value.typed().trim().to_owned());
    let same = typed("source.bootstrap.servers") == typed("sink.bootstrap.servers");
    let Some(topic) = checker.text("sink.topic.name") else {
        return;
    };
    if same && checker.source.is_some_and(|source| source.name == "kafka") && checker.reads(&topic)
    {
        let shown = checker.shown("sink.topic.name", &topic);
        let message = format!(
            "`sink.topic.name`: the topic `{shown}` of these brokers is also read, so the pipeline would read what it writes"
        );
        checker.contradiction("sink.topic.name", message, "write into another topic");
    }
}

/// Keys that another format has.
fn formats(checker: &mut Checker<'_>) {
    let Some(format) = checker.text("sink.value.format") else {
        return;
    };
    let of: [(&str, &[&str]); 4] = [
        (
            "sink.value.column",
            &["string", "json-string", "json-envelope"],
        ),
        ("sink.value.columns", &["json", "csv", "xml"]),
        ("sink.csv.delimiter", &["csv"]),
        ("sink.xml.root", &["xml"]),
    ];
    for (key, formats) in of {
        if checker.typed(key) && !formats.contains(&format.as_str()) {
            let message = format!("`{key}` has no effect: sink.value.format is `{format}`");
            let hint = format!(
                "write sink.value.format = \"{}\", or take the key out",
                formats[0]
            );
            checker.contradiction(key, message, &hint);
        }
    }
    if let Some(text) = checker.text("sink.csv.delimiter")
        && delimiter(&text).is_none()
    {
        let message =
            "`sink.csv.delimiter`: expected one ASCII character, no quotation mark".to_owned();
        checker.problem("sink.csv.delimiter", problem::WRONG_TYPE, message);
    }
    if let Some(root) = checker.text("sink.xml.root")
        && !is_element_name(&root)
    {
        let shown = checker.shown("sink.xml.root", &root);
        let message = format!("`sink.xml.root`: `{shown}` is no name of an XML element");
        let hint = "letters, digits, `_`, `-` and `.`, a letter first; it may not begin with `xml`";
        checker
            .problem("sink.xml.root", problem::WRONG_TYPE, message)
            .hint = Some(hint.to_owned());
    }
}

/// `None` only where a problem was told.
fn build(checker: &Checker<'_>) -> Option<(Home, Arc<dyn SinkConfig>)> {
    let properties = checker.raw.iter().filter_map(|(key, entry)| {
        let name = key.strip_prefix(SINK_KAFKA_PREFIX)?;
        Some((name.to_owned(), entry.value.clone()))
    });
    let config = KafkaSinkConfig {
        bootstrap_servers: checker.raw.get("sink.bootstrap.servers")?.value.clone(),
        properties: properties.collect(),
        layout: layout(checker)?,
        commit_age: checker.duration("sink.commit.age")?,
        commit_bytes: checker.number("sink.commit.bytes")?,
        id_prefix: checker.text("sink.transactional.id.prefix")?,
    };
    Some((home(checker)?, Arc::new(config)))
}

fn value_column(checker: &Checker<'_>) -> Option<String> {
    match checker.typed("sink.value.column") {
        true => checker.text("sink.value.column"),
        false => Some(crate::record::VALUE.to_owned()),
    }
}

fn layout(checker: &Checker<'_>) -> Option<RecordLayout> {
    let hash = match checker.text("sink.partitioner")?.as_str() {
        "source" => Partitioner::Source,
        "column" => Partitioner::Column(checker.text("sink.partition.column")?),
        "crc32" => Partitioner::Crc32,
        _ => Partitioner::Murmur2,
    };
    Some(RecordLayout {
        topic: checker.text("sink.topic.name")?,
        topic_column: checker.text("sink.topic.column"),
        key: checker.text("sink.key.column"),
        format: match checker.text("sink.value.format")?.as_str() {
            "csv" => Format::Csv {
                delimiter: delimiter(&checker.text("sink.csv.delimiter")?)?,
            },
            "xml" => Format::Xml {
                root: checker.text("sink.xml.root")?,
            },
            "string" => Format::Text {
                column: value_column(checker)?,
            },
            format @ ("json-string" | "json-envelope") => Format::JsonText {
                column: value_column(checker)?,
                envelope: format == "json-envelope",
            },
            _ => Format::Json,
        },
        columns: checker.list("sink.value.columns"),
        headers: checker.list("sink.headers.columns").unwrap_or_default(),
        keeps_headers: checker.is("sink.headers.of.record", "true")?,
        partitioner: hash,
        keeps_timestamp: checker.is("sink.timestamp", "record")?,
        record_bytes: checker.size("sink.record.max.bytes")?,
    })
}
