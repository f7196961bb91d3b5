//! Aiven's sinks for S3 and Google Cloud Storage: other keys than Confluent's, for the same files.

use super::Work;
use super::sink::show;
use super::store::{Root, Service, place, required};
use crate::config::FileFormat;
use crate::connect::classes::Class;
use crate::connect::{AIVEN_GCS_SINK, AIVEN_S3_SINK};

const TEMPLATE: &str = "file.name.template";
const PREFIX: &str = "file.name.prefix";
const OLD_PREFIX: &str = "aws.s3.prefix";
const TYPE: &str = "format.output.type";
const FIELDS: &str = "format.output.fields";
const CODEC: &str = "file.compression.type";
const ZONE: &str = "file.name.timestamp.timezone";
const SOURCE: &str = "file.name.timestamp.source";

/// A key that becomes one of `sink.store.` as it is.
const SAME: &[(&str, &str)] = &[
    ("aws.access.key.id", "access.key.id"),
    ("aws.secret.access.key", "secret.access.key"),
    ("aws.s3.backoff.max.retries", "retries"),
    ("aws.s3.region", "region"),
    ("aws.s3.sse.algorithm", "sse.type"),
    ("gcs.credentials.path", "credentials.file"),
];

/// Refused if they are there: reason and what to do.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "aws.credentials.provider",
        "credentials are looked for where Amazon's own tools look, or are a key",
        "take it out, or write aws.access.key.id and aws.secret.access.key",
    ),
    (
        "aws.sts.role.arn",
        "no role is assumed by STS",
        "give the process the role itself",
    ),
    (
        "gcs.credentials.json",
        "credentials are read from a file",
        "write gcs.credentials.path",
    ),
    (
        "gcs.object.content.encoding",
        "objects have no Content-Encoding",
        "take it out; file.compression.type compresses",
    ),
];

/// Older names of keys.
const OLD: &[(&str, &str)] = &[
    ("aws_access_key_id", "aws.access.key.id"),
    ("aws_secret_access_key", "aws.secret.access.key"),
    ("aws_s3_bucket", "aws.s3.bucket.name"),
    ("aws_s3_endpoint", "aws.s3.endpoint"),
    ("aws_s3_region", "aws.s3.region"),
    ("aws_s3_prefix", "aws.s3.prefix"),
    ("output_compression", CODEC),
    ("output_fields", FIELDS),
];

pub(super) fn is_one(class: &Class) -> bool {
    [AIVEN_S3_SINK, AIVEN_GCS_SINK].contains(&class.name)
}

pub(super) fn translate(work: &mut Work<'_>) {
    for (old, new) in OLD {
        if work.is_there(old) {
            work.used(old);
            work.refuse(old, "it is an old name of a key", format!("write {new}"));
        }
    }
    for (key, reason, hint) in REFUSED {
        if work.class.key(key).is_some() && work.typed(key).is_some() {
            work.refuse(key, *reason, *hint);
        }
    }
    work.used("gcs.credentials.default");
    files(work);
    let directory = directories(work);
    store(work, directory);
    if let Some(rows) = work
        .int("file.max.records", 0, 1_000_000_000_000)
        .filter(|n| *n > 0)
    {
        work.put("sink.rotate.rows", rows.to_string(), "file.max.records");
    }
    if let Some(ms) = work.int("kafka.retry.backoff.ms", 1, 60_000) {
        work.put("retry.backoff", show(ms), "kafka.retry.backoff.ms");
    }
    work.put("sink.file.names", "offsets", "connector.class");
}

fn files(work: &mut Work<'_>) {
    let typed = work.get(TYPE);
    let key = if typed.is_some() {
        TYPE
    } else {
        "connector.class"
    };
    let asked = match typed.as_deref().unwrap_or("csv") {
        "csv" => FileFormat::Csv,
        "json" | "jsonl" => FileFormat::Json,
        "parquet" => FileFormat::Parquet,
        "avro" => FileFormat::Avro,
        other => {
            let reason = format!("`{other}` is no format that is written here");
            work.refuse(TYPE, reason, "csv, jsonl, parquet and avro are");
            return;
        }
    };
    work.files = match work.defaults.parquet_instead {
        true => FileFormat::Parquet,
        false => asked,
    };
    work.put("sink.format", work.files.word(), key);
    if typed.as_deref() == Some("json") {
        work.note(TYPE, "one value a line; Aiven's files are one list");
    }
    if work.files == FileFormat::Csv {
        work.put("sink.file.header", "false", key);
        work.note(key, "a line is the value alone, or the columns that transforms or a schema make of it; text is never base64, and stands in quotes where it has a comma, a quote or a line end; bytes that are no UTF-8 are refused (not_in_format)");
    }
    if work.get("format.output.envelope").as_deref() == Some("true") {
        work.note(
            "format.output.envelope",
            "no effect: columns are those of the value, and a line of JSON is the value alone",
        );
    }
    if work.get("format.output.fields.value.encoding").as_deref() == Some("base64") {
        work.note(
            "format.output.fields.value.encoding",
            "no effect: values are written as they are",
        );
    }
    let others: Vec<String> = work
        .list(FIELDS)
        .into_iter()
        .filter(|field| field != "value")
        .collect();
    if !others.is_empty() {
        let others = others.join(", ");
        let (reason, hint) = match work.files {
            FileFormat::Parquet => (
                format!("columns of Parquet files are not chosen by it: {others}"),
                "take the key out: _offset and _timestamp are columns always, key and headers with sink.keep.value = true (_key, _headers)",
            ),
            _ => (
                format!(
                    "of a record the value is written; {others} stand in columns of Parquet alone"
                ),
                "write value; or take the key out, and write format.output.type = parquet and sink.keep.value = true",
            ),
        };
        work.refuse(FIELDS, reason, hint);
    }
    codec(work);
}

fn codec(work: &mut Work<'_>) {
    let typed = work.get(CODEC);
    let key = if typed.is_some() {
        CODEC
    } else {
        "connector.class"
    };
    let plain = !matches!(work.files, FileFormat::Parquet | FileFormat::Avro);
    // Aiven's own defaults.
    let default = match work.class.name {
        AIVEN_GCS_SINK => "none",
        _ => "gzip",
    };
    match typed.as_deref().unwrap_or(default) {
        "none" => work.put("sink.compression", "none", key),
        "gzip" => work.put("sink.compression", "gzip", key),
        "zstd" => work.put("sink.compression", "zstd-3", key),
        "snappy" if !plain => work.put("sink.compression", "snappy", key),
        other => {
            let reason = format!(
                "{} files are compressed with gzip, zstd or none, not {other}",
                work.files.word()
            );
            work.refuse(CODEC, reason, "write one of them");
        }
    }
    work.used("avro.codec");
}

/// A piece of a directory's name in the template.
#[derive(Clone, PartialEq)]
enum Part {
    Text(String),
    Topic,
    Partition,
    /// A letter pattern of Joda-Time.
    Time(&'static str),
}

/// Keys of directories; returns those that stand before the topic's.
fn directories(work: &mut Work<'_>) -> String {
    let prefix = work
        .get(PREFIX)
        .or_else(|| work.get(OLD_PREFIX))
        .unwrap_or_default();
    work.used(OLD_PREFIX);
    let template = work.get(TEMPLATE).unwrap_or_else(|| "{{topic}}".to_owned());
    let key = if work.is_there(TEMPLATE) {
        TEMPLATE
    } else {
        "connector.class"
    };
    let whole = format!("{prefix}{template}");
    let (above, name) = whole.rsplit_once('/').unwrap_or(("", whole.as_str()));
    by_key(work, name);
    let dirs = match dirs(above) {
        Ok(dirs) => dirs,
        Err(variable) => {
            work.refuse(
                TEMPLATE,
                format!("`{{{{{variable}}}}}` names no directory here"),
                "topic, partition and timestamp:unit=yyyy, MM, dd and HH do",
            );
            return String::new();
        }
    };
    let is_text = |dir: &&Vec<Part>| dir.iter().all(|part| matches!(part, Part::Text(_)));
    let root: Vec<String> = dirs
        .iter()
        .take_while(is_text)
        .map(|dir| shown(dir))
        .collect();
    let below: Vec<&Vec<Part>> = dirs.iter().skip(root.len()).collect();
    topic(work, key, &below);
    let below: Vec<&Vec<Part>> = below
        .into_iter()
        .filter(|dir| !dir.contains(&Part::Topic))
        .collect();
    let time = |dir: &&Vec<Part>| dir.iter().any(|part| matches!(part, Part::Time(_)));
    let times = below.iter().any(time);
    let partition = below.iter().any(|dir| dir.contains(&Part::Partition));
    if below.iter().any(|dir| dir.as_slice() == [Part::Partition]) {
        work.note(
            key,
            "directories are partition=0, partition=1, …, where Aiven's are 0, 1, …",
        );
    }
    if !times && let Some(dir) = below.iter().find(|dir| !is_partition(dir)) {
        work.refuse(
            key,
            format!("`{}` below the topic is no directory of times or of the partition", shown(dir)),
            "let it stand before {{topic}}, or leave it out; the partition's directory is `partition={{partition}}`",
        );
    }
    let path: Vec<String> = below.iter().map(|dir| pattern(dir)).collect();
    by(work, key, times.then(|| path.join("/")), partition);
    work.note(key, "a table is a directory with the topic's name; directories of times or of the partition lie below it, and files are called <id>.<topic>+<partition>+<offset>");
    root.join("/")
}

/// The key of a record in the name of a file.
fn by_key(work: &mut Work<'_>, name: &str) {
    let mut variables = name.split("{{").skip(1);
    let is_key = |rest: &str| {
        let (variable, _) = rest.split_once("}}").unwrap_or_default();
        variable.split(':').next().map(str::trim) == Some("key")
    };
    if variables.any(is_key) {
        work.refuse(
            TEMPLATE,
            "`{{key}}`: Aiven keeps the newest record of each key, in a file of its own; here each record is a row",
            "write {{topic}}-{{partition}}-{{start_offset}}; the newest row of a key is the one with the largest _offset",
        );
    }
}

/// The directory with the topic's name.
fn topic(work: &mut Work<'_>, key: &str, below: &[&Vec<Part>]) {
    let topics = below.iter().filter(|dir| dir.contains(&Part::Topic));
    if let Some(dir) = topics.clone().find(|dir| dir.len() > 1) {
        work.refuse(
            key,
            format!(
                "`{}` is more than the topic's name, which is the name of a table's directory here",
                shown(dir)
            ),
            "let {{topic}} be a directory of its own",
        );
    } else if topics.count() > 1 {
        let reason = "the topic's name would be two directories, and is one here";
        work.refuse(key, reason, "write {{topic}} once");
    }
}

/// Its name is the partition's number, with or without its own word before it.
fn is_partition(dir: &[Part]) -> bool {
    match dir {
        [Part::Partition] => true,
        [Part::Text(text), Part::Partition] => text == "partition=",
        _ => false,
    }
}

/// As a pattern of Joda-Time.
fn pattern(dir: &[Part]) -> String {
    let part = |part: &Part| match part {
        Part::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Part::Time(letters) => (*letters).to_owned(),
        Part::Topic | Part::Partition => String::new(),
    };
    dir.iter().map(part).collect()
}

/// As it was typed.
fn shown(dir: &[Part]) -> String {
    let part = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Topic => "{{topic}}".to_owned(),
        Part::Partition => "{{partition}}".to_owned(),
        Part::Time(letters) => format!("{{{{timestamp:unit={letters}}}}}"),
    };
    dir.iter().map(part).collect()
}

fn by(work: &mut Work<'_>, key: &str, path: Option<String>, partition: bool) {
    let event = work
        .get(SOURCE)
        .is_some_and(|source| source.eq_ignore_ascii_case("event"));
    let zone = work.get(ZONE);
    match (path, partition) {
        (Some(_), true) => work.refuse(
            TEMPLATE,
            "directories are of times or of the partition, not of both",
            "leave one of them out; Kafka's partition is in the name of each file",
        ),
        (Some(path), false) => {
            work.put(
                "sink.partition.by",
                if event { "record" } else { "ingestion" },
                key,
            );
            work.put("sink.partition.path", path, key);
            if let Some(zone) = zone {
                work.put("sink.partition.timezone", zone, ZONE);
            }
        }
        (None, true) => work.put("sink.partition.by", "partition", key),
        (None, false) => work.put("sink.partition.by", "none", key),
    }
}

/// The directories, from the outermost on. `Err`: a variable that is not known.
fn dirs(text: &str) -> Result<Vec<Vec<Part>>, String> {
    let mut dirs = vec![Vec::new()];
    let plain = |dirs: &mut Vec<Vec<Part>>, text: &str| {
        for (at, name) in text.split('/').enumerate() {
            if at > 0 {
                dirs.push(Vec::new());
            }
            if let Some(dir) = dirs.last_mut().filter(|_| !name.is_empty()) {
                dir.push(Part::Text(name.to_owned()));
            }
        }
    };
    let mut rest = text;
    while let Some((text, after)) = rest.split_once("{{") {
        plain(&mut dirs, text);
        let (variable, after) = after.split_once("}}").ok_or_else(|| after.to_owned())?;
        let variable: String = variable.chars().filter(|c| !c.is_whitespace()).collect();
        let part = match variable.as_str() {
            "topic" => Part::Topic,
            "partition" => Part::Partition,
            "timestamp:unit=yyyy" => Part::Time("yyyy"),
            "timestamp:unit=MM" => Part::Time("MM"),
            "timestamp:unit=dd" => Part::Time("dd"),
            "timestamp:unit=HH" => Part::Time("HH"),
            other => return Err(other.to_owned()),
        };
        if let Some(dir) = dirs.last_mut() {
            dir.push(part);
        }
        rest = after;
    }
    plain(&mut dirs, rest);
    dirs.retain(|dir| !dir.is_empty());
    Ok(dirs)
}

fn store(work: &mut Work<'_>, below: String) {
    let of_s3 = work.class.name == AIVEN_S3_SINK;
    let (service, bucket, scheme, endpoint) = match of_s3 {
        true => (Service::S3, "aws.s3.bucket.name", "s3", "aws.s3.endpoint"),
        false => (Service::Gcs, "gcs.bucket.name", "gs", "gcs.endpoint"),
    };
    let wanted = required(work, bucket).map(|name| Root {
        root: format!("{scheme}://{name}"),
        from: bucket,
        below,
    });
    let url = place(work, service, wanted);
    let applies = url.is_none_or(|url| url.starts_with(scheme));
    for (theirs, ours) in SAME {
        if work.class.key(theirs).is_none() {
            continue;
        }
        let Some(typed) = work.typed(theirs) else {
            continue;
        };
        match applies {
            true => work.put(&format!("sink.store.{ours}"), typed, theirs),
            false => work.note(theirs, "no effect: the rows go to another place"),
        }
    }
    let Some(address) = work.get(endpoint) else {
        return;
    };
    match (applies, address.split_once("://")) {
        (false, _) => work.note(endpoint, "no effect: the rows go to another place"),
        (true, Some(("https", _))) => work.put("sink.store.endpoint", address, endpoint),
        (true, Some(("http", _))) => {
            work.put("sink.store.endpoint", address, endpoint);
            work.put("sink.store.allow.http", "true", endpoint);
        }
        (true, _) => work.refuse(
            endpoint,
            format!("`{address}` is no address of a service"),
            "write http://HOST:PORT or https://HOST:PORT",
        ),
    }
}
