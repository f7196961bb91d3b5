//! Keys that decide nothing here but harm nothing either, each with what holds instead.

use super::Work;

const SERVICE: &str = "no effect: the store is a directory, no service is asked";
const SSE: &str = "encryption at rest is the file system's";
const FILES: &str = "files hold values; keys and headers are not written beside them";
const HADOOP: &str = "no effect: the store is a directory, no Hadoop is asked";
const HIVE: &str = "no effect: tables are directories of Parquet that engines read as they are";
const AVRO: &str = "no effect: files are Parquet, without Avro schemas";
const RETRY: &str = "no effect: transforms are never tried again, brokers and stores without end (retry.backoff.ms)";

/// Said where the value is not Connect's default.
static IDLE: &[(&str, &str)] = &[
    ("avro.codec", AVRO),
    ("aws.access.key.id", SERVICE),
    ("aws.secret.access.key", SERVICE),
    (
        "config.action.reload",
        "no effect: references are read at each start",
    ),
    ("connect.hdfs.keytab", HADOOP),
    ("connect.hdfs.principal", HADOOP),
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
        "filename.offset.zero.pad.width",
        "no effect: files have unique names; offsets are in the rows and in the log",
    ),
    ("hadoop.conf.dir", HADOOP),
    ("hadoop.home", HADOOP),
    ("hdfs.namenode.principal", HADOOP),
    ("header.converter", "no effect: headers are bytes"),
    ("hive.conf.dir", HIVE),
    ("hive.database", HIVE),
    ("hive.home", HIVE),
    ("hive.metastore.uris", HIVE),
    ("kerberos.ticket.renew.period.ms", HADOOP),
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
        "s3.acl.canned",
        "no effect: permissions are the file system's",
    ),
    (
        "s3.compression.level",
        "no effect: it is for JSON and bytes; see parquet.codec",
    ),
    (
        "s3.compression.type",
        "no effect: it is for JSON and bytes; see parquet.codec",
    ),
    ("s3.credentials.provider.class", SERVICE),
    (
        "s3.elastic.buffer.enable",
        "no effect: memory.budget bounds what is buffered",
    ),
    ("s3.http.send.expect.continue", SERVICE),
    (
        "s3.part.retries",
        "no effect: a store that is away is waited for, without end",
    ),
    (
        "s3.part.size",
        "no effect: memory.budget bounds what is buffered, sink.rotate.bytes the files",
    ),
    ("s3.path.style.access.enabled", SERVICE),
    ("s3.proxy.password", SERVICE),
    ("s3.proxy.url", SERVICE),
    ("s3.proxy.user", SERVICE),
    ("s3.region", SERVICE),
    ("s3.retry.backoff.ms", "no effect: see retry.backoff.ms"),
    ("s3.wan.mode", SERVICE),
    (
        "schema.compatibility",
        "columns are the rules': they change with a rule, which is a swap, and what breaks readers is refused unless it is said that it may (`?allow_breaking=true`), at each of the doors",
    ),
    (
        "schemas.cache.config",
        "no effect: there is no schema registry",
    ),
    (
        "storage.class",
        "no effect: the store follows from the bucket or URL",
    ),
    ("tasks.max.enforce", "no effect: tasks.max always holds"),
];

/// Honoured as long as they are off; the reason and the way out where they are not.
static OFF: &[(&str, &str, &str)] = &[
    (
        "hdfs.authentication.kerberos",
        "no Hadoop is asked, so nobody checks a ticket",
        "write false",
    ),
    (
        "headers.format.class",
        FILES,
        "take the key out; sink.keep.value = true keeps keys and headers in columns",
    ),
    (
        "hive.integration",
        "no metastore is told of tables",
        "write false, and declare the directories as tables there",
    ),
    (
        "keys.format.class",
        FILES,
        "take the key out; sink.keep.value = true keeps keys and headers in columns",
    ),
    (
        "s3.object.tagging",
        "files have no tags; offsets and counts are in the log",
        "write false",
    ),
    ("s3.sse.customer.key", SSE, "take the key out"),
    ("s3.sse.kms.key.id", SSE, "take the key out"),
    ("s3.ssea.name", SSE, "take the key out"),
    (
        "schema.partition.affix.type",
        "directories are not named by schema",
        "write NONE",
    ),
    (
        "store.kafka.headers",
        FILES,
        "write false; sink.keep.value = true keeps keys and headers in columns",
    ),
    (
        "store.kafka.keys",
        FILES,
        "write false; sink.keep.value = true keeps keys and headers in columns",
    ),
];

/// Of other parts of Confluent's platform.
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

/// Keys of a class and what is said of each that decides nothing: for the page of documents.
pub fn idle() -> impl Iterator<Item = (&'static str, &'static str)> {
    IDLE.iter().copied()
}

pub fn off() -> impl Iterator<Item = (&'static str, &'static str)> {
    OFF.iter().map(|(key, reason, _)| (*key, *reason))
}
