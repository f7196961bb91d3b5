//! Store, directory, format, rotation: what the storage sinks read for themselves.

use super::Work;
use crate::config::problem;

const FLUSH: &str = "flush.size";
/// What `sink.rotate.rows` takes.
const MAX_ROWS: i64 = 1_000_000_000_000;
/// What `sink.rotate.age` takes.
const MAX_AGE_MS: i64 = 86_400_000;
const MIN_AGE_MS: i64 = 100;
const URL: &str = "sink.url";

pub(super) fn translate(work: &mut Work<'_>) {
    format(work);
    store(work);
    flush(work);
    rotate(work);
    codec(work);
    waits(work);
}

fn hdfs(work: &Work<'_>) -> bool {
    work.class.name != crate::connect::S3_SINK
}

fn format(work: &mut Work<'_>) {
    const KEY: &str = "format.class";
    const HINT: &str = "write io.confluent.connect.s3.format.parquet.ParquetFormat";
    const HDFS_HINT: &str = "write io.confluent.connect.hdfs.parquet.ParquetFormat";
    let hint = if hdfs(work) { HDFS_HINT } else { HINT };
    let Some(class) = work.get(KEY) else {
        let message = match hdfs(work) {
            true => "`format.class` is missing: Connect's default is Avro, and zones hold Parquet",
            false => "`format.class` is missing and has no default",
        };
        work.problem(KEY, problem::MISSING, message.to_owned()).hint = Some(hint.to_owned());
        return;
    };
    let simple = class.rsplit('.').next().unwrap_or(&class).to_owned();
    if simple != "ParquetFormat" {
        let what = simple.strip_suffix("Format").unwrap_or(&simple);
        work.refuse(KEY, format!("zones hold Parquet, not {what}"), hint);
    }
}

/// `sink.url` = the store's root and `topics.dir`.
fn store(work: &mut Work<'_>) {
    let dir = work
        .get("topics.dir")
        .unwrap_or_else(|| "topics".to_owned());
    let dir = dir.trim_matches('/').to_owned();
    if dir.contains("${") {
        let reason = "the directory is one for all topics; each topic is a table below it";
        work.refuse("topics.dir", reason, "write a plain path");
        for key in [
            "s3.bucket.name",
            "store.url",
            "hdfs.url",
            "directory.delim",
            "file.delim",
        ] {
            work.used(key);
        }
        return;
    }
    for (key, plain) in [("directory.delim", "/"), ("file.delim", "+")] {
        if work.get(key).is_some_and(|delim| delim != plain) {
            work.note(key, format!("no effect: paths have `/`, and files have unique names instead of offsets between `{plain}`"));
        }
    }
    let root = if hdfs(work) {
        hdfs_root(work)
    } else {
        s3_root(work)
    };
    if let Some((root, from)) = root {
        let key = if work.is_there("topics.dir") {
            "topics.dir"
        } else {
            from
        };
        let url = match dir.as_str() {
            "" => root,
            dir => format!("{}/{dir}", root.trim_end_matches('/')),
        };
        work.note(key, format!("tables are directories of {url}, one per topic, with the commit log in _system beside them; files have unique names"));
        work.put(URL, url, key);
    }
}

fn s3_root(work: &mut Work<'_>) -> Option<(String, &'static str)> {
    const BUCKET: &str = "s3.bucket.name";
    const ENDPOINT: &str = "store.url";
    let (bucket, endpoint) = (work.get(BUCKET), work.get(ENDPOINT));
    let native = work.has(URL);
    let Some(bucket) = bucket else {
        if !native {
            let message = "`s3.bucket.name` is missing and has no default".to_owned();
            work.problem(BUCKET, problem::MISSING, message);
        }
        return None;
    };
    let wanted = format!("s3://{bucket}");
    if native {
        return None;
    }
    if let Some(mapped) = mapped(work, &wanted) {
        if endpoint.is_some() {
            work.note(
                ENDPOINT,
                "no effect: the worker maps the bucket to a directory",
            );
        }
        return Some((mapped, BUCKET));
    }
    if let Some(directory) = endpoint.as_deref().and_then(directory) {
        return Some((
            format!("{}/{bucket}", directory.trim_end_matches('/')),
            ENDPOINT,
        ));
    }
    unmapped(work, BUCKET, &wanted);
    None
}

fn hdfs_root(work: &mut Work<'_>) -> Option<(String, &'static str)> {
    let (hdfs, store) = (work.get("hdfs.url"), work.get("store.url"));
    if work.has(URL) {
        return None;
    }
    let (key, wanted) = match (hdfs, store) {
        (Some(url), _) => ("hdfs.url", url),
        (None, Some(url)) => ("store.url", url),
        (None, None) => {
            let message = "`hdfs.url` is missing and has no default".to_owned();
            work.problem("hdfs.url", problem::MISSING, message);
            return None;
        }
    };
    match directory(&wanted).or_else(|| mapped(work, wanted.trim_end_matches('/'))) {
        Some(root) => Some((root, key)),
        None => {
            unmapped(work, key, wanted.trim_end_matches('/'));
            None
        }
    }
}

fn unmapped(work: &mut Work<'_>, key: &str, wanted: &str) {
    work.refuse(
        key,
        format!("this version writes to directories (`file:`), not to {wanted}"),
        format!("let the worker map it: store.map.\"{wanted}\" = \"file:/mnt/…\"; for one config: --set sink.url=file:/mnt/…"),
    );
}

/// Of a directory's path or `file:` URL.
fn directory(url: &str) -> Option<String> {
    let plain = !url.contains("://") && !url.contains(':');
    match url.strip_prefix("file:") {
        Some(path) => Some(format!("file:{path}")),
        None if plain => Some(format!("file:{url}")),
        None => None,
    }
}

/// By the longest prefix that the worker maps, of whole parts; `s3://` maps every bucket.
fn mapped(work: &Work<'_>, wanted: &str) -> Option<String> {
    let stores = work.defaults.stores.iter();
    let of = |(prefix, to): &(String, String)| {
        let prefix = prefix.trim_end_matches('/');
        let rest = wanted.strip_prefix(prefix)?;
        let whole = rest.is_empty() || rest.starts_with('/');
        let below = rest.trim_start_matches('/');
        let to = to.trim_end_matches('/');
        let to = if below.is_empty() {
            to.to_owned()
        } else {
            format!("{to}/{below}")
        };
        whole.then_some((prefix.len(), to))
    };
    let longest = stores.filter_map(of).max_by_key(|(length, _)| *length);
    longest.map(|(_, to)| to)
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
        other => {
            let reason = format!("Parquet is written with snappy, zstd or none, not {other}");
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
