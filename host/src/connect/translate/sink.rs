//! Format, rotation, compression, waits: what the storage sinks read for themselves, whatever store they write to.

use super::Work;
use super::store::Service;
use crate::config::problem;

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

/// The class of Parquet files in Confluent's packages for this connector.
fn parquet(service: Service) -> &'static str {
    match service {
        Service::S3 => "io.confluent.connect.s3.format.parquet.ParquetFormat",
        Service::Hdfs2 => "io.confluent.connect.hdfs.parquet.ParquetFormat",
        Service::Hdfs3 => "io.confluent.connect.hdfs3.parquet.ParquetFormat",
        Service::Gcs => "io.confluent.connect.gcs.format.parquet.ParquetFormat",
        Service::Blob => "io.confluent.connect.azure.blob.format.parquet.ParquetFormat",
        Service::Gen1 | Service::Gen2 => {
            "io.confluent.connect.azure.storage.format.parquet.ParquetFormat"
        }
    }
}

fn format(work: &mut Work<'_>) {
    const KEY: &str = "format.class";
    let service = Service::of(work.class);
    let hint = format!("write {}", parquet(service));
    let Some(class) = work.get(KEY) else {
        let message = match service {
            Service::Hdfs2 | Service::Hdfs3 => {
                "`format.class` is missing: Connect's default is Avro, and zones hold Parquet"
            }
            _ => "`format.class` is missing and has no default",
        };
        work.problem(KEY, problem::MISSING, message.to_owned()).hint = Some(hint);
        return;
    };
    let simple = class.rsplit('.').next().unwrap_or(&class).to_owned();
    if simple != "ParquetFormat" {
        let what = simple.strip_suffix("Format").unwrap_or(&simple);
        work.refuse(KEY, format!("zones hold Parquet, not {what}"), hint);
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

fn codec(work: &mut Work<'_>) {
    const KEY: &str = "parquet.codec";
    let codec = work.get(KEY);
    let key = if codec.is_some() {
        KEY
    } else {
        "connector.class"
    };
    let ours = match codec.as_deref().unwrap_or("snappy") {
        "snappy" => "snappy",
        "none" | "uncompressed" => "none",
        "zstd" => "zstd-3",
        "gzip" => "gzip",
        "lz4" => "lz4",
        other => {
            let reason =
                format!("Parquet is written with snappy, zstd, gzip, lz4 or none, not {other}");
            work.refuse(KEY, reason, "write zstd, or take the key out for snappy");
            return;
        }
    };
    work.put("sink.compression", ours, key);
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
