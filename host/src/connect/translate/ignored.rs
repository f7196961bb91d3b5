//! Keys that have no effect here and do no harm, each with what holds instead.

use super::Work;

const PARTS: &str = "no effect: parts of an upload have one size, 8 MiB; memory.budget bounds what is buffered, sink.rotate.bytes the files";
const BACKOFF: &str = "no effect: the first wait of a request's retries is short and doubles; see sink.store.retry.timeout, and retry.backoff.ms for a store that is away";
const HIVE: &str = "no effect: no metastore is told of tables and partitions; declare the directory as a table there, and MSCK REPAIR TABLE adds its partitions";
const AVRO: &str = "no effect: the schema of an Avro file is that of the columns";
const RETRY: &str = "no effect: transforms are never tried again, brokers and stores without end (retry.backoff.ms)";

/// A note is given if the value is not Connect's default.
static IDLE: &[(&str, &str)] = &[
    ("aws.s3.backoff.delay.ms", BACKOFF),
    ("aws.s3.backoff.max.delay.ms", BACKOFF),
    ("aws.s3.part.size.bytes", PARTS),
    ("azblob.block.size", PARTS),
    ("azblob.retry.backoff.ms", BACKOFF),
    ("azblob.retry.max.backoff.ms", BACKOFF),
    ("azblob.retry.type", BACKOFF),
    (
        "config.action.reload",
        "no effect: references are read at each start",
    ),
    ("connect.meta.data", AVRO),
    (
        "connector.plugin.version",
        "no effect: the connector is part of the program",
    ),
    ("enhanced.avro.schema.support", AVRO),
    (
        "errors.deadletterqueue.context.headers.enable",
        "no effect: dead letters always hold where they come from, which rule refused them and why",
    ),
    (
        "errors.deadletterqueue.topic.replication.factor",
        "no effect: dead letters are a table, not a topic",
    ),
    (
        "errors.log.enable",
        "no effect: every dead letter holds its reason; a record that stops the connector is in its trace",
    ),
    (
        "errors.log.include.messages",
        "no effect: records are never written into logs",
    ),
    ("errors.retry.delay.max.ms", RETRY),
    ("errors.retry.timeout", RETRY),
    (
        "hadoop.home",
        "no effect: HDFS is spoken without Hadoop's libraries",
    ),
    ("gcs.part.size", PARTS),
    ("gcs.retry.backoff.ms", BACKOFF),
    ("header.converter", "no effect: headers are bytes"),
    (
        "json.decimal.format",
        "no effect: decimals in JSON are numbers with all their digits",
    ),
    ("hive.conf.dir", HIVE),
    ("hive.database", HIVE),
    ("hive.home", HIVE),
    ("hive.integration", HIVE),
    ("hive.metastore.uris", HIVE),
    (
        "logs.dir",
        "no effect: the commit log lies with the data, in _system",
    ),
    ("predicates", "no effect: no transform may name one"),
    (
        "rotate.file.on.partition.change",
        "no effect: a file holds rows of one directory always",
    ),
    (
        "s3.elastic.buffer.enable",
        "no effect: memory.budget bounds what is buffered",
    ),
    (
        "s3.http.send.expect.continue",
        "no effect: bodies are sent at once, without `Expect: 100-continue`",
    ),
    ("s3.part.size", PARTS),
    ("s3.retry.backoff.ms", BACKOFF),
    (
        "schema.compatibility",
        "the rules make the columns: they change by a swap of rules, and a change that breaks readers is refused unless it is allowed (`?allow_breaking=true`)",
    ),
    (
        "schemas.cache.config",
        "no effect: schemas are kept in the plugin store",
    ),
    (
        "storage.class",
        "no effect: the store follows from the bucket or URL",
    ),
    ("tasks.max.enforce", "no effect: tasks.max always holds"),
];

/// Accepted only if they are off; otherwise refused, with the reason and what to do.
static OFF: &[(&str, &str, &str)] = &[
    (
        "s3.object.tagging",
        "offsets and counts of a file are in the log, not in its tags",
        "write false; sink.store.tags puts the same tags on every object",
    ),
    (
        "s3.sse.customer.key",
        "every reader would need the customer's own key, so engines could not list and read the tables",
        "take the key out; s3.ssea.name = AES256 or aws:kms encrypts with keys of the service",
    ),
    (
        "schema.partition.affix.type",
        "directories are not named by schema",
        "write NONE",
    ),
];

/// Prefixes of keys for other parts of Confluent's platform.
const FOREIGN: &[&str] = &["confluent.", "reporter.", "topic.creation."];

pub(super) fn translate(work: &mut Work<'_>) {
    for (key, why) in IDLE {
        if let Some(value) = work.typed(key)
            && work.class.key(key).is_some()
        {
            let default = work.class.key(key).and_then(|key| key.default.clone());
            if default.as_deref() != Some(value) {
                work.note(key, *why);
            }
        }
    }
    for (key, reason, hint) in OFF {
        let value = work.get(key).unwrap_or_default();
        let off = ["", "false", "none", "null"].contains(&value.to_lowercase().as_str());
        if !off && work.class.key(key).is_some() {
            work.refuse(key, *reason, *hint);
        }
    }
    for name in work.below("predicates.") {
        work.used(&format!("predicates.{name}"));
    }
    let foreign: Vec<String> = work
        .raw
        .iter()
        .map(|(key, _)| key.to_owned())
        .filter(|key| FOREIGN.iter().any(|prefix| key.starts_with(prefix)))
        .collect();
    for key in foreign {
        work.used(&key);
        work.note(
            &key,
            "no effect: it is for licences, reporters or topics of Confluent's platform",
        );
    }
}

/// Keys without effect and the note for each: for the documentation page.
pub fn idle() -> impl Iterator<Item = (&'static str, &'static str)> {
    IDLE.iter().copied()
}

pub fn off() -> impl Iterator<Item = (&'static str, &'static str)> {
    OFF.iter().map(|(key, reason, _)| (*key, *reason))
}
