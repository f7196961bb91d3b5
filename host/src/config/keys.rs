//! Every key, once: name, type, default, importance, group, scope, text.
//!
//! The checker, `docs/config.md`, the JSON Schema and later Connect's validate endpoint read this table; nothing else
//! knows a key's default. No key is a dotted prefix of another, so that every key can be written in a TOML table.

use super::shape::Shape;

/// One key of the flat map.
#[derive(Debug)]
pub struct KeyDef {
    pub name: &'static str,
    pub shape: Shape,
    pub default: Default,
    pub importance: Importance,
    pub group: Group,
    pub scope: Scope,
    pub doc: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// Must be given; the text says what to choose from.
    Required(&'static str),
    Is(&'static str),
    /// Follows from other keys; the text says how.
    Derived(&'static str),
    /// Not set, and that has a meaning.
    Unset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    High,
    Medium,
    Low,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Pipeline,
    Source,
    Sink,
    Errors,
    Limits,
    Plugins,
    Logging,
}

/// For which `source.type` a key (and its being required) has a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Always,
    Kafka,
    Zone,
}

/// Any librdkafka property.
pub const KAFKA_PREFIX: &str = "source.kafka.";
/// `transforms.<name>.type` and the plugin's own keys.
pub const TRANSFORM_PREFIX: &str = "transforms.";

pub const GROUPS: &[(Group, &str)] = &[
    (Group::Pipeline, "Pipeline"),
    (Group::Source, "Source"),
    (Group::Sink, "Sink"),
    (Group::Errors, "Errors and dead letters"),
    (Group::Limits, "Limits and waiting"),
    (Group::Plugins, "Plugins"),
    (Group::Logging, "Logging"),
];

pub fn find(name: &str) -> Option<&'static KeyDef> {
    KEYS.iter().find(|def| def.name == name)
}

use self::Default::{Derived, Is, Required, Unset};
use self::Group::{Errors, Limits, Logging, Pipeline, Plugins, Sink, Source};
use self::Importance::{High, Low, Medium};
use self::Scope::{Always, Kafka, Zone};
use super::shape::unit::{DAY, GIB, HOUR, KIB, MIB, MINUTE, MS, SECOND, bytes, duration, int};

macro_rules! keys {
    ($($name:literal: $shape:expr, $default:expr, $importance:expr, $group:expr, $scope:expr, $doc:expr;)*) => {
        &[$(KeyDef {
            name: $name, shape: $shape, default: $default, importance: $importance,
            group: $group, scope: $scope, doc: $doc,
        }),*]
    };
}

pub static KEYS: &[KeyDef] = keys! {
    // ---------------------------------------------------------------- pipeline
    "name": Shape::Name, Required("a name of letters, digits, `.`, `_`, `-`; it names the commit log, so choose it once"),
        High, Pipeline, Always,
        "Name of the pipeline. It is part of the commit log's path: another name is another pipeline, with its own positions.";
    "connector.class": Shape::Choice(&["weir"]), Is("weir"), Low, Pipeline, Always,
        "Kept for Kafka Connect's clients, which compare every key.";
    "tasks.max": int(1, 256), Is("1"), High, Pipeline, Always,
        "Threads that read, transform and write; partitions are shared out among them. 1 where the source is a zone.";
    "trigger": Shape::Trigger, Derived("`continuous` for Kafka, `every:1h` for a zone"), High, Pipeline, Always,
        "When to read: `continuous`, `available-now` (take what is there, commit, exit) or `every:<duration>` (the same, again and again).";
    "transforms": Shape::Names, Unset, High, Pipeline, Always,
        "Names of the transforms in the order in which they run, with `transforms.<name>.type` and the plugin's own keys for each. In TOML: `[[transforms]]` tables with `name`.";
    "watch": Shape::Flag, Is("false"), Medium, Pipeline, Always,
        "Put edits of rule files, lookup tables, plugins and transform keys in force while the pipeline runs, each as a swap. Edits that do not check leave the old rules in force.";
    // ------------------------------------------------------------------ source
    "source.type": Shape::Choice(&["kafka", "zone"]), Required("`kafka` or `zone` (the commit log of another pipeline's zone)"),
        High, Source, Always, "Where records come from.";
    "source.topics": Shape::Topics, Required("the names of the topics, as a list"), High, Source, Kafka,
        "Topics to read, all partitions of each. New partitions are picked up.";
    "source.start": Shape::Start,
        Required("`earliest` (all that the topic still has), `latest` (only what comes from now on), `timestamp:2024-01-01T00:00:00Z`, or `group:NAME` (behind what another consumer has committed)"),
        High, Source, Kafka,
        "Where a partition begins that the commit log does not know yet. `group:connect-NAME` goes on where a sink of Kafka Connect stopped; partitions of which the group has committed nothing begin at their first record. No default: both choices surprise somebody. Ignored once a position is committed.";
    "source.bootstrap.servers": Shape::Brokers, Required("host:port of one or more brokers, separated by commas"),
        High, Source, Kafka, "Brokers to ask first.";
    "source.group.id": Shape::Text, Derived("`name`"), Low, Source, Kafka,
        "Consumer group under which committed positions are mirrored, so that lag tools see them. Never read back.";
    "source.on.data.loss": Shape::Choice(&["fail", "gap"]), Is("fail"), Medium, Source, Kafka,
        "What to do where records after the committed position are gone from the topic: stop and name the lost range, or commit it as a gap and go on.";
    "source.on.topic.recreated": Shape::Choice(&["fail", "continue"]), Is("fail"), Medium, Source, Kafka,
        "What to do where a topic was deleted and created again under its name: stop, or read the new one from its beginning.";
    "source.metadata.refresh": duration(SECOND, HOUR), Is("30s"), Low, Source, Kafka,
        "How often to look for new partitions and recreated topics.";
    "source.url": Shape::Url, Required("the URL of the zone to read, which is the other pipeline's sink.url"), High, Source, Zone,
        "Root of the store that is read.";
    "source.pipeline": Shape::Name, Required("the name of the pipeline that writes the zone"), High, Source, Zone,
        "The pipeline whose commit log says what there is to read.";
    "source.zone": Shape::Name, Derived("last segment of `source.url`"), Low, Source, Zone,
        "Name of the zone in that pipeline's log, if its `sink.zone` was set.";
    "source.table": Shape::Name, Required("the table to read; a RAW zone has one per topic, with the topic's name"), High, Source, Zone,
        "Table of the zone that is read.";
    "source.on.type.change": Shape::Choice(&["fail", "cast", "new-column"]), Is("fail"), Medium, Source, Zone,
        "What to do where a column has another type than in the zone that is written: stop before the first such row; give each value the type that the zone has where that is exact (a value that is not stops the pipeline and is named); or write them to a column of their own, `<name>_<type>`. What was done, and to how many values, stands in the commit log.";
    // -------------------------------------------------------------------- sink
    "sink.type": Shape::Choice(&["zone"]), Required("`zone` (Parquet files with a commit log)"), High, Sink, Always,
        "Where the rows go.";
    "sink.url": Shape::Url, Required("a store's URL: `file:data/raw_zone`, `file:///srv/lake/raw`, `memory:name`"), High, Sink, Always,
        "Root of the zone's store. Created if it is not there.";
    "sink.zone": Shape::Name, Derived("last segment of `sink.url`"), Low, Sink, Always,
        "Name of the zone in the commit log's path.";
    "sink.table": Shape::Table, Derived("`${topic}` for Kafka, `source.table` for a zone"), Medium, Sink, Always,
        "Directory of the rows below the root. `${topic}`: one table per topic.";
    "sink.compression": Shape::Compression, Is("zstd-1"), Low, Sink, Always,
        "`none`, `snappy` or `zstd-1` to `zstd-22`.";
    "sink.row.group.bytes": bytes(MIB, 512 * MIB), Is("16MiB"), Low, Sink, Always,
        "Size of a row group in memory. Larger ones read a little faster and cost memory in every task.";
    "sink.rotate.bytes": bytes(64 * KIB, 16 * GIB), Is("128MiB"), High, Sink, Kafka,
        "Close the files and commit after so many bytes of Parquet. With `sink.rotate.age` the one knob between latency and file size.";
    "sink.rotate.age": duration(100 * MS, DAY), Is("60s"), High, Sink, Kafka,
        "Close the files and commit when the oldest uncommitted record has waited so long.";
    "sink.rotate.rows": int(0, 1_000_000_000_000), Is("0"), Low, Sink, Kafka,
        "Close the files and commit after so many rows. 0: never for this reason.";
    "sink.keep.value": Shape::Flag, Is("false"), Medium, Sink, Kafka,
        "Keep the original bytes of every record in a column `_value`.";
    "sink.partition.field": Shape::Field, Required("the column whose date decides the partition, e.g. `published`"), High, Sink, Zone,
        "Column (date, timestamp, or text that starts like an ISO date) that decides the partition of a row.";
    "sink.partition.format": Shape::DateFormat, Is("%Y-%m-%d"), High, Sink, Zone,
        "strftime of the partition's value: `%Y-%m-%d`, `%Y-%m`, `%Y`.";
    "sink.partition.name": Shape::Field, Derived("`date`, `month` or `year`, by the format"), Low, Sink, Zone,
        "Name of the partition directories, `<name>=<value>`. Not the name of a column.";
    "sink.dedup.key": Shape::Fields, Unset, High, Sink, Zone,
        "Columns that identify a row. The first row of each key wins, by log order, then offset and `_row`. Not set: rows are kept as they come.";
    "sink.dedup.lookback": Shape::Days, Is("0d"), Medium, Sink, Zone,
        "Also look for the key in the partitions of so many days before and after the touched ones.";
    "sink.sort": Shape::Fields, Unset, Medium, Sink, Zone,
        "Columns by which rows are sorted inside files. Not set: the key of `sink.dedup.key`, and without one log order.";
    // ------------------------------------------------------------------ errors
    "errors.tolerance": Shape::Choice(&["none", "all"]), Is("none"), High, Errors, Always,
        "`none`: the first refused record stops the pipeline. `all`: refused records become dead letters, committed with the rows.";
    "errors.unit": Shape::Choice(&["row", "record"]), Is("row"), Medium, Errors, Always,
        "What one bad piece of a record refuses: that piece, or the whole record.";
    "errors.dlq.type": Shape::Choice(&["zone"]), Is("zone"), Medium, Errors, Always,
        "Where dead letters go: `zone`, a table of the sink's zone, in the same commit as the rows.";
    "errors.dlq.table": Shape::TableName, Is("dead_letters"), Medium, Errors, Always,
        "Table of the dead letters, below `sink.url`.";
    // ------------------------------------------------------------------ limits
    "batch.max.rows": int(1, 1_000_000), Is("4096"), Low, Limits, Always,
        "Most records given to the transforms in one call.";
    "batch.max.bytes": bytes(KIB, 64 * MIB), Is("1MiB"), Low, Limits, Always,
        "Most bytes of keys and values given to the transforms in one call. A single larger record goes alone.";
    "memory.budget": bytes(32 * MIB, 1024 * GIB), Is("192MiB"), Medium, Limits, Always,
        "What queues, batches and open files of the pipeline may hold together. Reading pauses while it is used up.";
    "shutdown.timeout": duration(SECOND, HOUR), Is("30s"), Medium, Limits, Always,
        "From SIGTERM to the last commit. After it the process ends without that commit, and its records are read again.";
    "retry.backoff": duration(MS, MINUTE), Is("200ms"), Low, Limits, Always,
        "First wait before what may succeed later (a broker, a store) is tried again; doubles each time.";
    "retry.max.backoff": duration(MS, HOUR), Is("30s"), Low, Limits, Always,
        "Longest wait between two tries. There is no last try.";
    // ----------------------------------------------------------------- plugins
    "plugin.path": Shape::Path, Is("data/plugins"), Medium, Plugins, Always,
        "Directory of your own plugins, `<plugin>.wasm` each, relative to the working directory. The shipped ones are part of the program.";
    "plugin.cache": Shape::Path, Derived("`.cache` below `plugin.path`"), Low, Plugins, Always,
        "Directory of compiled plugins. May be deleted at any time.";
    "plugin.store": Shape::Path, Derived("`store` below `plugin.path`"), Medium, Plugins, Always,
        "Directory of the plugin store: every component that was pushed or has run, by digest, with the configs it ran with. Never emptied but by `weir plugin gc`.";
    "plugin.memory": bytes(MIB, 4 * GIB), Is("64MiB"), Medium, Plugins, Always,
        "Most memory of one plugin instance. Its records are refused or it is started anew, never the host.";
    "plugin.deadline": duration(10 * MS, 10 * MINUTE), Is("2s"), Medium, Plugins, Always,
        "Longest call of a plugin for one batch.";
    "plugin.init.deadline": duration(10 * MS, 10 * MINUTE), Is("5s"), Low, Plugins, Always,
        "Longest call in which a plugin reads its config.";
    "plugin.output": bytes(KIB, GIB), Is("64MiB"), Low, Plugins, Always,
        "Most bytes that one call of a plugin may return.";
    // ----------------------------------------------------------------- logging
    "log.format": Shape::Choice(&["text", "json"]), Is("text"), Low, Logging, Always,
        "Form of the log lines on stderr. `--log-format` overrides it; in one run the first file decides.";
    "log.level": Shape::Level, Is("info"), Low, Logging, Always,
        "`error`, `warn`, `info`, `debug`, `trace`, or a list such as `info,weir::kafka=debug`.";
};

/// What users of other systems type, and our key for it. `""`: there is none, and the text says why.
pub static FAMILIAR: &[(&str, &str, &str)] = &[
    ("topics", "source.topics", ""),
    ("topic", "source.topics", ""),
    ("subscribe", "source.topics", ""),
    ("bootstrap.servers", "source.bootstrap.servers", ""),
    ("kafka.bootstrap.servers", "source.bootstrap.servers", ""),
    (
        "source.kafka.bootstrap.servers",
        "source.bootstrap.servers",
        "",
    ),
    ("group.id", "source.group.id", ""),
    ("auto.offset.reset", "source.start", ""),
    ("startingOffsets", "source.start", ""),
    ("failOnDataLoss", "source.on.data.loss", ""),
    ("maxOffsetsPerTrigger", "batch.max.rows", ""),
    (
        "checkpointLocation",
        "",
        "positions are in the zone's commit log; there is no checkpoint directory",
    ),
    ("flush.size", "sink.rotate.rows", ""),
    ("rotate.interval.ms", "sink.rotate.age", ""),
    ("rotate.schedule.interval.ms", "sink.rotate.age", ""),
    ("partition.field.name", "sink.partition.field", ""),
    ("path.format", "sink.partition.format", ""),
    ("parquet.codec", "sink.compression", ""),
    ("compression", "sink.compression", ""),
    ("store.url", "sink.url", ""),
    ("hdfs.url", "sink.url", ""),
    ("topics.dir", "sink.table", ""),
    ("sink.path", "sink.url", ""),
    ("source.offset", "source.start", ""),
    ("source.servers", "source.bootstrap.servers", ""),
    ("source.brokers", "source.bootstrap.servers", ""),
    ("errors.deadletterqueue.topic.name", "errors.dlq.table", ""),
    ("dlq.table", "errors.dlq.table", ""),
    ("retry.backoff.ms", "retry.backoff", ""),
    ("shutdown.timeout.ms", "shutdown.timeout", ""),
    (
        "value.converter",
        "",
        "records reach the first transform as bytes; a plugin such as xml-flatten reads them",
    ),
    (
        "key.converter",
        "",
        "keys reach the first transform as bytes",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_a_table_of_another() {
        for a in KEYS.iter().filter(|def| def.name != "transforms") {
            let dotted = format!("{}.", a.name);
            let below = KEYS.iter().find(|b| b.name.starts_with(&dotted));
            assert!(
                below.is_none(),
                "{} and {:?}",
                a.name,
                below.map(|b| b.name)
            );
        }
    }

    #[test]
    fn defaults_are_valid_and_familiar_names_lead_somewhere() {
        for def in KEYS {
            if let Default::Is(value) = def.default {
                let parsed = def.shape.parse(value);
                assert!(parsed.is_ok(), "{}: {parsed:?}", def.name);
            }
            assert!(def.doc.ends_with('.') && def.doc.len() > 15, "{}", def.name);
        }
        for (theirs, ours, why) in FAMILIAR {
            assert!(find(theirs).is_none(), "{theirs}");
            assert!(find(ours).is_some() != why.len().gt(&0), "{theirs}");
        }
    }
}
