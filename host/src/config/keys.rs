//! The table of keys: each key once, with name, type, default, importance, group, scope and text.
//!
//! This file has those that every pipeline has; a connector's keys are in its folder, and [`Catalog`] has them all. The
//! checker, `docs/config.md`, the JSON Schema and Connect's validate endpoint read these tables; nothing else knows a
//! key's default. No key is a dotted prefix of another, so that every key can be written in a TOML table.

use super::shape::Shape;

/// One key of the flat map.
#[derive(Clone, Copy, Debug)]
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
    /// Not set by default, and "not set" has a meaning.
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
    Store,
    Errors,
    Limits,
    Plugins,
    Logging,
}

/// For which `source.type` or `sink.type` a key has a meaning (and is required, if it is).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Always,
    /// Every source of records: all but `zone`, which gives rows.
    Records,
    Source(&'static str),
    /// Any of several.
    Sources(&'static [&'static str]),
    Sink(&'static str),
}

impl Scope {
    /// What is not known takes every key.
    pub fn takes(self, source: Option<&SourceType>, sink: Option<&SinkType>) -> bool {
        match self {
            Scope::Always => true,
            Scope::Records => source.is_none_or(|source| source.gives == Gives::Records),
            Scope::Source(name) => source.is_none_or(|source| name == source.name),
            Scope::Sources(names) => source.is_none_or(|source| names.contains(&source.name)),
            Scope::Sink(name) => sink.is_none_or(|sink| name == sink.name),
        }
    }
}

/// Any librdkafka property: of the source, and of the sink.
pub const KAFKA_PREFIX: &str = "source.kafka.";
pub const SINK_KAFKA_PREFIX: &str = "sink.kafka.";
/// Headers of requests to an HTTP API.
pub const HEADERS_PREFIX: &str = "sink.http.headers.";
/// `transforms.<name>.type` and the plugin's own keys.
pub const TRANSFORM_PREFIX: &str = "transforms.";

/// Names in a list of transforms or predicates: more than anybody chains, and each costs a block of keys in a form.
pub const TRANSFORMS_MAX: usize = 100;

pub const GROUPS: &[(Group, &str)] = &[
    (Group::Pipeline, "Pipeline"),
    (Group::Source, "Source"),
    (Group::Sink, "Sink"),
    (Group::Store, "Store"),
    (Group::Errors, "Errors and dead letters"),
    (Group::Limits, "Limits and waiting"),
    (Group::Plugins, "Plugins"),
    (Group::Logging, "Logging"),
];

use self::Default::{Derived, Is, Required, Unset};
use self::Group::{Errors, Limits, Logging, Pipeline, Plugins, Store};
use self::Importance::{High, Low, Medium};
use self::Scope::{Always, Records};
use super::connector::{Gives, SinkType, SourceType};
use super::shape::unit::{GIB, HOUR, KIB, MIB, MINUTE, MS, SECOND, bytes, duration, int};
use super::store_keys;

/// Makes a table of [`KeyDef`]s, one row for each key.
macro_rules! keys {
    ($($name:literal: $shape:expr, $default:expr, $importance:expr, $group:expr, $scope:expr, $doc:expr;)*) => {
        &[$($crate::config::keys::KeyDef {
            name: $name, shape: $shape, default: $default, importance: $importance,
            group: $group, scope: $scope, doc: $doc,
        }),*]
    };
}
pub(crate) use keys;

/// Joins two tables; `N` is the length of both together.
pub const fn joined<const N: usize>(first: &[KeyDef], second: &[KeyDef]) -> [KeyDef; N] {
    let mut all = [first[0]; N];
    let mut at = 0;
    while at < N {
        all[at] = if at < first.len() {
            first[at]
        } else {
            second[at - first.len()]
        };
        at += 1;
    }
    all
}

/// Whether a key can only belong to a pipeline: a common one, or one of a connector.
pub fn is_pipelines(key: &str) -> bool {
    let of_connector = key.starts_with("source.") || key.starts_with("sink.");
    of_connector || COMMON.iter().any(|def| def.name == key)
}

/// Keys of every pipeline, whatever it reads and writes.
pub const COMMON: &[KeyDef] =
    &joined::<{ EVERY.len() + store_keys::ARCHIVE.len() }>(EVERY, &store_keys::ARCHIVE);

const EVERY: &[KeyDef] = keys! {
    // ---------------------------------------------------------------- pipeline
    "name": Shape::Name, Required("a name of letters, digits, `.`, `_`, `-`; it names the commit log, so choose it once"),
        High, Pipeline, Always,
        "Name of the pipeline. It is part of the commit log's path: another name is another pipeline, with its own positions.";
    "connector.class": Shape::Choice(&["weir"]), Is("weir"), Low, Pipeline, Always,
        "Kept for Kafka Connect's clients, which compare every key.";
    "tasks.max": int(1, 256), Is("1"), High, Pipeline, Always,
        "Threads that read, transform and write; partitions are shared out among them. 1 where the source is a zone.";
    "trigger": Shape::Trigger, Derived("`continuous` for Kafka, `every:1h` for a zone"), High, Pipeline, Always,
        "When to read: `continuous`, `available-now` (take what is there, commit, exit), `every:<duration>` (the same, again and again) or `cron:<minute> <hour> <day> <month> <weekday> <time zone>` (the same at these times; without a zone in UTC).";
    "transforms": Shape::Names, Unset, High, Pipeline, Always,
        "Names of the transforms in the order in which they run, with `transforms.<name>.type` and the plugin's own keys for each. Where a zone is read, they run on its rows. In TOML: `[[transforms]]` tables with `name`.";
    "schema.inference": Shape::Flag, Is("false"), Medium, Pipeline, Records,
        "Find the transform by looking at the first records, as `weir plugin infer` does, instead of `transforms`. What was found is kept beside the log and is the pipeline's rule from then on; a later record that does not fit it is refused.";
    "schema.sample.records": int(1, 1_000_000), Is("1000"), Low, Pipeline, Records,
        "With `schema.inference`: most records that are looked at.";
    "schema.sample.bytes": bytes(KIB, GIB), Is("4MiB"), Low, Pipeline, Records,
        "With `schema.inference`: most bytes of these records; they are in memory together.";
    "schema.sample.wait": duration(0, HOUR), Is("10s"), Low, Pipeline, Records,
        "With `schema.inference`: how long more records are waited for after the first. A run that takes what is there does not wait.";
    "schema.rest": Shape::Name, Unset, Medium, Pipeline, Records,
        "With `schema.inference` of JSON or XML: name of one more column, a JSON object of what no other column took, so that a field that the first records did not have is kept. Not set: it is left out. May be set and taken away at any time; taking it away is a column that goes.";
    "value.format": Shape::Choice(&["bytes", "string", "json", "json-envelope", "avro"]), Is("bytes"), High, Pipeline, Records,
        "What values are. `bytes`: the first transform reads them. `string`: one column of text. `json`: the same, and it must be JSON; with `schema.inference` columns. `json-envelope`: Kafka Connect's `{\"schema\": …, \"payload\": …}`, and `avro`: a column for each field, by the schema.";
    "key.format": Shape::Choice(&["bytes", "string", "json"]), Derived("`bytes` where values are kept whole; where they become columns, keys are none"), Medium, Pipeline, Records,
        "What keys are: a column `key` of bytes, text, or text that must be JSON.";
    "value.schema.file": Shape::Path, Unset, Medium, Pipeline, Records,
        "Avro schema (`.avsc`) by which values are read: its fields are the columns. Not set: the schema of the first record, which is kept beside the log and is the pipeline's rule from then on.";
    "value.avro.framing": Shape::Choice(&["registry", "none"]), Is("registry"), Medium, Pipeline, Records,
        "What stands before an Avro value: `registry`, a zero byte and the four bytes of its schema's id, as Confluent's serializers write it; or `none`, all values have the schema of `value.schema.file`.";
    "value.on.null": Shape::Choice(&["refuse", "drop"]), Is("refuse"), Medium, Pipeline, Records,
        "A record without a value, where a schema says the columns: it is refused (`empty_value`), or dropped and counted as filtered.";
    "schema.evolution": Shape::Choice(&["pin", "follow"]), Is("pin"), Medium, Pipeline, Records,
        "A record whose schema has fields that the schema in force lacks: `pin` leaves them out; `follow` puts them in force as columns that may be null, as a swap before that record.";
    "schema.on.incompatible": Shape::Choice(&["stop", "dead-letters"]), Is("stop"), Medium, Pipeline, Records,
        "A record whose schema cannot be read under the one in force: the pipeline stops and names it, or its records become dead letters (`incompatible_schema`).";
    "schema.registry.url": Shape::Text, Unset, High, Pipeline, Records,
        "Schema registry with Confluent's API; several, separated by commas, are asked in this order. Schemas are kept in `plugin.store`, so that records are read again without it.";
    "schema.registry.basic.auth.user.info": Shape::Text, Unset, Medium, Pipeline, Records,
        "`user:password` for the registry, as a reference.";
    "schema.registry.bearer.auth.token": Shape::Text, Unset, Medium, Pipeline, Records,
        "Token for the registry, as a reference.";
    "schema.registry.tls.ca": Shape::Path, Unset, Medium, Pipeline, Records,
        "PEM file of certificates that are trusted beside those of the system.";
    "schema.registry.tls.certificate": Shape::Path, Unset, Medium, Pipeline, Records,
        "PEM file of the client's certificate, with those that signed it behind it.";
    "schema.registry.tls.key": Shape::Path, Unset, Medium, Pipeline, Records,
        "PEM file of its private key (PKCS #8).";
    "schema.registry.timeout": duration(10 * MS, 10 * MINUTE), Is("10s"), Low, Pipeline, Records,
        "Longest time of one request to the registry. If none of the URLs answers, records of schemas that are not known yet wait.";
    "schema.registry.unknown.wait": duration(0, 24 * HOUR), Is("1m"), Low, Pipeline, Records,
        "So long an id is waited for that the registry does not know: a copy of it may be behind. After it its records are refused (`unknown_schema`).";
    "schema.registry.cache": int(1, 100_000), Is("1000"), Low, Pipeline, Records,
        "Most schemas that a task keeps ready in memory; a few KiB each.";
    "watch": Shape::Flag, Is("false"), Medium, Pipeline, Always,
        "Put edits of rule files, lookup tables, plugins and transform keys in force while the pipeline runs, each as a swap. Edits that do not check leave the old rules in force.";
    // ------------------------------------------------------------------ errors
    "errors.tolerance": Shape::Choice(&["none", "all"]), Is("none"), High, Errors, Always,
        "`none`: the first refused record stops the pipeline. `all`: refused records become dead letters, committed with the rows.";
    "errors.unit": Shape::Choice(&["row", "record"]), Is("row"), Medium, Errors, Always,
        "What one bad piece of a record refuses: that piece, or the whole record. Rows of a zone are refused one by one.";
    "errors.dlq.type": Shape::Choice(&["zone"]), Is("zone"), Medium, Errors, Always,
        "Where dead letters go: `zone`, a table of the sink's zone, in the same commit as the rows.";
    "errors.dlq.table": Shape::TableName, Is("dead_letters"), Medium, Errors, Always,
        "Table of the dead letters, below `sink.url`.";
    "errors.deadletterqueue.topic.name": Shape::Name, Unset, Medium, Errors, Records,
        "Topic that committed dead letters go on into, beside the table: the records as they were read. It must exist, in the cluster of the sink where that is Kafka, else of the source.";
    "errors.deadletterqueue.context.headers.enable": Shape::Flag, Is("true"), Low, Errors, Records,
        "Headers `__connect.errors.*` on those records, as Kafka Connect writes them (there the default is `false`).";
    "errors.dlq.retention": duration(SECOND, 87_600 * HOUR), Unset, Medium, Errors, Always,
        "So long dead letters stay in their table, from their commit on. Not set: for good. Where they go on into a topic, those that are not there yet stay.";
    "errors.max.rate": Shape::Rate, Unset, Medium, Errors, Always,
        "Share of the records of `errors.max.window` that may be refused, whole or in part: `0.05` is 5 of 100. Above it `errors.max.action` is done. Not set: any share.";
    "errors.max.count": int(0, 1_000_000_000), Unset, Medium, Errors, Always,
        "So many records of `errors.max.window` may be refused; above it `errors.max.action` is done. Not set: any number.";
    "errors.max.action": Shape::Choice(&["warn", "pause", "rollback"]), Is("warn"), Medium, Errors, Always,
        "Above `errors.max.rate` or `errors.max.count`: `warn` in log, status and metrics; `pause` the pipeline (`weir run` drains and ends with 2); `rollback` to the rules before, if those in force came by a swap less than `errors.max.probation` ago, and `pause` otherwise and the second time.";
    "errors.max.window": duration(SECOND, 24 * HOUR), Is("5m"), Low, Errors, Always,
        "Time over which refused records are counted, from commit to commit; it begins anew with each swap and each start. Five minutes are several commits of `sink.rotate.age`.";
    "errors.max.min.records": int(1, 1_000_000_000), Is("100"), Low, Errors, Always,
        "With fewer records in the window `errors.max.rate` says nothing: one bad record of two is no jump.";
    "errors.max.probation": duration(SECOND, 8_760 * HOUR), Is("1h"), Low, Errors, Always,
        "Rules that are in force for longer are not taken back by `errors.max.action = \"rollback\"`: they worked, so it is the records that changed.";
    // ------------------------------------------------------- what leaves a zone
    "retention.grace": duration(0, 8_760 * HOUR), Is("1h"), Medium, Store, Always,
        "From the moment when rows or dead letters expire (`sink.retention`, `errors.dlq.retention`) to the deletion of their files: longer than queries run that list a directory first and open its files later.";
    "archive.url": Shape::Url, Unset, Medium, Store, Always,
        "Root of a store into which every file that expires is copied, and compared, before it is deleted: `file:/srv/archive`, `s3://bucket/prefix`. Its directories are those of the zone. Not set: what expires is deleted.";
    // ------------------------------------------------------------------ limits
    "batch.max.rows": int(1, 1_000_000), Is("4096"), Low, Limits, Always,
        "Most records, or rows of a zone, given to the transforms in one call.";
    "batch.max.bytes": bytes(KIB, 64 * MIB), Is("1MiB"), Low, Limits, Always,
        "Most bytes of keys and values, or of rows of a zone, given to the transforms in one call. A single larger one goes alone.";
    "memory.budget": bytes(32 * MIB, 1024 * GIB), Is("192MiB"), Medium, Limits, Always,
        "What queues, batches and open files of the pipeline may hold together. Reading pauses while it is used up.";
    "spill.dir": Shape::Path, Derived("`_system` below a sink that is a directory, else the system's directory for temporary files"), Medium, Limits, Scope::Source("zone"),
        "Directory where a batch lays rows aside that `memory.budget` does not hold, in files without names. It needs about the uncompressed bytes of the rows of a batch, twice where the budget is small.";
    "spill.max.bytes": bytes(MIB, 1024 * 1024 * GIB), Is("64GiB"), Medium, Limits, Scope::Source("zone"),
        "Most bytes that a batch may lay aside at a time. A batch that needs more waits, and says so.";
    "shutdown.timeout": duration(SECOND, HOUR), Is("30s"), Medium, Limits, Always,
        "From SIGTERM to the last commit. After it the process ends without that commit, and its records are read again.";
    "retry.backoff": duration(MS, MINUTE), Is("200ms"), Low, Limits, Always,
        "First wait before what may succeed later (a broker, a store) is tried again; doubles each time.";
    "retry.max.backoff": duration(MS, HOUR), Is("30s"), Low, Limits, Always,
        "Longest wait between two tries. There is no last try.";
    "commit.log.retention": duration(HOUR, 87_600 * HOUR), Is("7d"), Medium, Limits, Always,
        "So long commits are kept that a pipeline can go back to, and the history of its rules; at least twice the age of a commit. Older entries of its log are deleted; the rows stay. A zone that reads this one holds it back.";
    // ----------------------------------------------------------------- plugins
    "plugin.path": Shape::Path, Is("data/plugins"), Medium, Plugins, Always,
        "Directory of your own plugins, `<plugin>.wasm` each, relative to the working directory. The shipped ones are part of the program.";
    "plugin.cache": Shape::Path, Derived("`.cache` below `plugin.path`"), Low, Plugins, Always,
        "Directory of compiled plugins. May be deleted at any time.";
    "plugin.store": Shape::Path, Derived("`store` below `plugin.path`"), Medium, Plugins, Always,
        "Directory of the plugin store: every component that was pushed or has run, by digest, with the configs it ran with.";
    "plugin.retention": duration(24 * HOUR, 87_600 * HOUR), Is("90d"), Low, Plugins, Always,
        "So long what no log names any more stays in the plugin store, from when it was last put there. A running process looks once a day, and deletes nothing while one of the logs that use the store cannot be read. Of pipelines of one process with one store the longest counts.";
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
    "progress.recent": int(1, 1000), Is("100"), Low, Logging, Always,
        "So many of the newest commits' progress a process keeps in memory for `GET /pipelines/NAME/progress`, and at most 192 KiB of it: 100 commits are some minutes to hours, as with Spark's `spark.sql.streaming.numRecentProgressUpdates`.";
    "log.level": Shape::Level, Is("info"), Low, Logging, Always,
        "`error`, `warn`, `info`, `debug`, `trace`, or a list such as `info,weir::kafka=debug`.";
};

/// Words that users of other systems type, and our key for each. `""`: there is none, and the text says why.
pub static FAMILIAR: &[(&str, &str, &str)] = &[
    ("topics", "source.topics", ""),
    ("topic", "source.topics", ""),
    ("subscribe", "source.topics", ""),
    (
        "spark.sql.streaming.schemaInference",
        "schema.inference",
        "",
    ),
    (
        "spark.sql.streaming.numRecentProgressUpdates",
        "progress.recent",
        "",
    ),
    ("subscribePattern", "source.subscribe.pattern", ""),
    ("topics.regex", "source.subscribe.pattern", ""),
    ("startingTimestamp", "source.start", ""),
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
    ("maxOffsetsPerTrigger", "source.max.offsets.per.trigger", ""),
    ("minOffsetsPerTrigger", "source.min.offsets.per.trigger", ""),
    ("maxTriggerDelay", "source.max.trigger.delay", ""),
    (
        "checkpointLocation",
        "",
        "positions are in the zone's commit log; there is no checkpoint directory",
    ),
    ("maxFilesPerTrigger", "source.max.files.per.trigger", ""),
    ("maxBytesPerTrigger", "source.max.bytes.per.trigger", ""),
    ("latestFirst", "source.latest.first", ""),
    ("fileNameOnly", "source.file.name.only", ""),
    ("maxFileAge", "source.max.file.age", ""),
    ("cleanSource", "source.clean.source", ""),
    ("sourceArchiveDir", "source.archive.dir", ""),
    ("rowTag", "source.row.tag", ""),
    ("flush.size", "sink.rotate.rows", ""),
    ("rotate.interval.ms", "sink.rotate.age", ""),
    ("rotate.schedule.interval.ms", "sink.rotate.age", ""),
    ("partition.field.name", "sink.partition.field", ""),
    ("path.format", "sink.partition.format", ""),
    ("parquet.codec", "sink.compression", ""),
    ("compression", "sink.compression", ""),
    ("maxRecordsPerFile", "sink.rotate.rows", ""),
    ("parquet.compression", "sink.compression", ""),
    ("sortBy", "sink.sort", ""),
    ("store.url", "sink.url", ""),
    ("hdfs.url", "sink.url", ""),
    ("topics.dir", "sink.table", ""),
    ("sink.path", "sink.url", ""),
    ("source.offset", "source.start", ""),
    ("source.servers", "source.bootstrap.servers", ""),
    ("source.brokers", "source.bootstrap.servers", ""),
    ("dlq.table", "errors.dlq.table", ""),
    ("retry.backoff.ms", "retry.backoff", ""),
    ("shutdown.timeout.ms", "shutdown.timeout", ""),
    ("value.converter", "value.format", ""),
    ("key.converter", "key.format", ""),
    (
        "value.converter.schema.registry.url",
        "schema.registry.url",
        "",
    ),
    (
        "value.converter.schemas.enable",
        "",
        "value.format = \"json-envelope\" reads messages with a schema, \"json\" those without",
    ),
];
