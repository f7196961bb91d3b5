//! Format, rotation, compression, waits: what the storage sinks read for themselves, whatever store they write to.

use super::store::Service;
use super::{Line, Work, aiven};
use crate::config::{FileFormat, problem};

const FLUSH: &str = "flush.size";
/// What `sink.rotate.rows` takes.
const MAX_ROWS: i64 = 1_000_000_000_000;
/// What `sink.rotate.age` takes.
const MAX_AGE_MS: i64 = 86_400_000;
const MIN_AGE_MS: i64 = 100;

pub(super) fn translate(work: &mut Work<'_>) {
    format(work);
    flush(work);
    rotate(work);
    codec(work);
    waits(work);
}

/// What the files are, by the class that Connect names. `None`: it is refused.
pub(super) fn wanted(work: &mut Work<'_>) -> Option<FileFormat> {
    const KEY: &str = "format.class";
    let service = Service::of(work.class);
    let class = work.get(KEY);
    let default =
        matches!(service, Service::Hdfs2 | Service::Hdfs3).then(|| "AvroFormat".to_owned());
    let Some(class) = class.or(default) else {
        let message = "`format.class` is missing and has no default".to_owned();
        work.problem(KEY, problem::MISSING, message).hint = Some(
            "a class whose name ends with ParquetFormat, JsonFormat, AvroFormat or ByteArrayFormat"
                .to_owned(),
        );
        return None;
    };
    match class.rsplit('.').next().unwrap_or(&class) {
        "ParquetFormat" => Some(FileFormat::Parquet),
        "JsonFormat" => Some(FileFormat::Json),
        "AvroFormat" => Some(FileFormat::Avro),
        "ByteArrayFormat" | "StringFormat" => Some(FileFormat::Bytes),
        simple => {
            let reason = format!("`{simple}` is a Java class that cannot be loaded");
            work.refuse(KEY, reason, "ParquetFormat, JsonFormat, AvroFormat, ByteArrayFormat and StringFormat are understood");
            None
        }
    }
}

fn format(work: &mut Work<'_>) {
    const KEY: &str = "format.class";
    let key = if work.is_there(KEY) {
        KEY
    } else {
        "connector.class"
    };
    let Some(asked) = wanted(work) else { return };
    let format = match work.defaults.parquet_instead {
        true => FileFormat::Parquet,
        false => asked,
    };
    work.put("sink.format", format.word(), key);
    work.files = match work.native("sink.format").as_deref() {
        Some("json") => FileFormat::Json,
        Some("avro") => FileFormat::Avro,
        Some("csv") => FileFormat::Csv,
        Some("bytes") => FileFormat::Bytes,
        _ => FileFormat::Parquet,
    };
    if work.files != asked {
        work.note(
            key,
            format!(
                "files are {} instead of {}",
                work.files.word(),
                asked.word()
            ),
        );
    }
    bytes(work);
}

/// What is written of a row, when it is known what the transforms make: in Connect's files there are no other columns than those of
/// the value.
pub(super) fn rows(work: &mut Work<'_>) {
    const KEY: &str = "format.class";
    const COLUMN: &str = "sink.file.column";
    let key = if work.is_there(KEY) {
        KEY
    } else {
        "connector.class"
    };
    match (work.files, work.line) {
        (FileFormat::Parquet, _) => {}
        (FileFormat::Bytes, _) => work.put(COLUMN, "value", key),
        (FileFormat::Json, Some(line)) => {
            work.put(COLUMN, "value", key);
            let text = match line {
                Line::Text => "string",
                Line::Json => "json",
            };
            work.put("sink.file.text", text, key);
        }
        (FileFormat::Csv, Some(_)) if aiven::is_one(work.class) => work.put(COLUMN, "value", key),
        _ if work.has(COLUMN) => {}
        _ => work.put("sink.file.system", "false", key),
    }
    if work.files == FileFormat::Json && work.line.is_none() {
        work.note(key, "dates and times are ISO 8601 and decimals numbers, where Connect writes numbers of milliseconds or days and base64");
    }
    stored(work);
}

/// Keys and headers, which Connect writes into files of their own.
fn stored(work: &mut Work<'_>) {
    for (key, column, format) in [
        ("store.kafka.keys", "key", "keys.format.class"),
        ("store.kafka.headers", "headers", "headers.format.class"),
    ] {
        work.used(format);
        if work.class.key(key).is_none() || work.flag(key) != Some(true) {
            continue;
        }
        if work.native("sink.file.column").is_some() {
            work.refuse(key, "a line of these files is a value and nothing else, and no files of keys and headers are written beside them", "write false; or write Parquet, which has them as columns: --parquet-instead");
            continue;
        }
        match work.line {
            Some(_) => work.note(
                key,
                format!("in column {column} of the same rows, not in files of their own"),
            ),
            None => {
                work.put("sink.keep.value", "true", key);
                work.note(key, format!("in column _{column} of the same rows, beside _value, not in files of their own"));
            }
        }
    }
}

/// Keys of ByteArrayFormat and StringFormat.
fn bytes(work: &mut Work<'_>) {
    const EXTENSION: &str = "format.bytearray.extension";
    const SEPARATOR: &str = "format.bytearray.separator";
    let (extension, separator) = (
        work.get(EXTENSION),
        work.raw.get(SEPARATOR).map(|e| e.value.typed()),
    );
    work.used(SEPARATOR);
    if work.files != FileFormat::Bytes {
        for (key, there) in [
            (EXTENSION, extension.is_some()),
            (SEPARATOR, separator.is_some()),
        ] {
            if there {
                work.note(key, format!("no effect: files are {}", work.files.word()));
            }
        }
        return;
    }
    let text = work
        .get("format.class")
        .is_some_and(|class| class.ends_with("StringFormat"));
    match extension {
        Some(extension) => {
            let own = extension.trim_start_matches('.').to_owned();
            work.put("sink.file.extension", own, EXTENSION);
        }
        None if text => work.put("sink.file.extension", "txt", "format.class"),
        None => {}
    }
    if let Some(separator) = separator {
        let written = match separator {
            "" => "none".to_owned(),
            other => other
                .replace('\\', "\\\\")
                .replace('\n', "\\n")
                .replace('\r', "\\r")
                .replace('\t', "\\t")
                .replace('\0', "\\0"),
        };
        work.put("sink.file.separator", written, SEPARATOR);
    }
}

fn flush(work: &mut Work<'_>) {
    if work.get(FLUSH).is_none() {
        if !work.has("sink.rotate.rows") {
            let message = "`flush.size` is missing and has no default".to_owned();
            work.problem(FLUSH, problem::MISSING, message).hint =
                Some("rows after which files close, for instance 100000".to_owned());
        }
        return;
    }
    match work.int(FLUSH, -1, MAX_ROWS) {
        Some(rows) if rows > 0 => {
            work.put("sink.rotate.rows", rows.to_string(), FLUSH);
            work.note(FLUSH, "counts all rows that a commit holds, not those of each partition: files are larger where a task has few partitions and fewer where it has many");
        }
        Some(_) => work.note(
            FLUSH,
            "files close by size (sink.rotate.bytes) and age only",
        ),
        None => {}
    }
}

fn rotate(work: &mut Work<'_>) {
    const RECORD: &str = "rotate.interval.ms";
    const CLOCK: &str = "rotate.schedule.interval.ms";
    let both = [RECORD, CLOCK].map(|key| work.millis(key, i64::MAX).map(|ms| (ms, key)));
    let Some((ms, key)) = both.into_iter().flatten().min() else {
        if !work.has("sink.rotate.age") {
            work.note(FLUSH, "files also close when their oldest record has waited 60s (sink.rotate.age); Connect would hold the last rows back until flush.size is reached");
        }
        return;
    };
    if ms < MIN_AGE_MS {
        let message = format!("`{key}`: files live at least {MIN_AGE_MS} ms, found {ms}");
        work.problem(key, problem::OUT_OF_RANGE, message);
        return;
    }
    if ms > MAX_AGE_MS {
        work.note(key, "files close after a day at the latest");
    }
    work.put("sink.rotate.age", show(ms.min(MAX_AGE_MS)), key);
    match key {
        RECORD => work.note(key, "measured from when the oldest uncommitted record was read, not between the times in the records: the last rows do not wait for a newer record"),
        _ => work.note(key, "measured from when the oldest uncommitted record was read, not by the hour of the clock; it is exactly once here"),
    }
}

/// Milliseconds as native keys write them.
pub(super) fn show(ms: i64) -> String {
    match ms {
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// Each format has a key of its own for it.
fn codec(work: &mut Work<'_>) {
    const PARQUET: &str = "parquet.codec";
    const AVRO: &str = "avro.codec";
    const PLAIN: &str = "s3.compression.type";
    const LEVEL: &str = "s3.compression.level";
    let keys = match work.files {
        FileFormat::Parquet => [PARQUET, AVRO, PLAIN, LEVEL],
        FileFormat::Avro => [AVRO, PARQUET, PLAIN, LEVEL],
        _ => [PLAIN, AVRO, PARQUET, ""],
    };
    let [key, others @ ..] = keys;
    for other in others {
        if work
            .get(other)
            .is_some_and(|codec| codec != "none" && codec != "-1")
        {
            work.note(other, format!("no effect: files are {}", work.files.word()));
        }
    }
    let given = work.get(key);
    let from = if given.is_some() {
        key
    } else {
        "connector.class"
    };
    let ours = match (key, given.as_deref().unwrap_or_default()) {
        (PARQUET, "" | "snappy") | (AVRO, "snappy") => "snappy",
        (PARQUET, "none" | "uncompressed") | (AVRO, "" | "null") | (PLAIN, "" | "none") => "none",
        (PARQUET | AVRO, "zstd" | "zstandard") => "zstd-3",
        (PARQUET | PLAIN, "gzip") | (AVRO, "deflate") => "gzip",
        (PARQUET, "lz4") => "lz4",
        (_, other) => {
            let known = match key {
                PARQUET => "snappy, zstd, gzip, lz4 or none",
                AVRO => "null, deflate, snappy or zstandard",
                _ => "gzip or none",
            };
            let reason = format!("files are written with {known}, not {other}");
            work.refuse(key, reason, "write one of them, or take the key out");
            return;
        }
    };
    let level = work
        .int(LEVEL, -1, 9)
        .filter(|level| *level > 0 && key == PLAIN && ours == "gzip");
    match level {
        Some(level) => work.put("sink.compression", format!("gzip-{level}"), LEVEL),
        None => work.put("sink.compression", ours, from),
    }
}

fn waits(work: &mut Work<'_>) {
    // Ranges are those of the native keys.
    if let Some(ms) = work.int("retry.backoff.ms", 1, 60_000) {
        work.put("retry.backoff", show(ms), "retry.backoff.ms");
        if ms > 30_000 {
            work.put("retry.max.backoff", show(ms), "retry.backoff.ms");
        }
        work.note(
            "retry.backoff.ms",
            "the first wait; it doubles up to retry.max.backoff, without a last try",
        );
    }
    if let Some(ms) = work.int("shutdown.timeout.ms", 1000, 3_600_000) {
        work.put("shutdown.timeout", show(ms), "shutdown.timeout.ms");
    }
}
