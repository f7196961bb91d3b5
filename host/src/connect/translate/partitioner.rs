//! Partitioners, as far as a zone's layout does the same: rows from Kafka are partitioned by the hour of ingestion, in
//! UTC.

use super::Work;

const CLASS: &str = "partitioner.class";
const LAYOUT: &str = "<table>/ingest_date=YYYY-MM-DD/ingest_hour=HH/";
const HOUR_MS: i64 = 3_600_000;
/// The longest value that Connect accepts.
const MAX_MS: i64 = i64::MAX;

const SECOND: &str =
    "a second pipeline (source.type = \"zone\", sink.partition.field) partitions by a column";

pub(super) fn translate(work: &mut Work<'_>) {
    let class = work.get(CLASS);
    let simple = class
        .as_deref()
        .map_or("DefaultPartitioner", |class| {
            class.rsplit('.').next().unwrap_or(class)
        })
        .to_owned();
    match simple.as_str() {
        "DefaultPartitioner" => {
            let key = if class.is_some() { CLASS } else { "connector.class" };
            work.note(key, format!("directories are {LAYOUT} instead of partition=N; Kafka's partition is in column _partition of every row"));
            idle(work);
        }
        "TimeBasedPartitioner" => {
            duration(work);
            format(work);
            time(work);
        }
        "DailyPartitioner" | "HourlyPartitioner" => {
            for key in ["partition.duration.ms", "path.format"] {
                if work.get(key).is_some() {
                    work.note(key, format!("no effect with {simple}, as in Connect"));
                }
            }
            time(work);
            work.note(CLASS, format!("directories are {LAYOUT}, by the clock of the worker in UTC"));
        }
        "FieldPartitioner" => work.refuse(CLASS, "rows from Kafka are laid out by time, as a value that comes late would otherwise open old directories again", SECOND),
        _ => work.refuse(CLASS, format!("`{simple}` is a Java class that cannot be loaded"), "Default-, TimeBased-, Daily- and HourlyPartitioner are understood"),
    }
    if simple == "FieldPartitioner" {
        work.used("partition.field.name");
        idle(work);
    } else if work.get("partition.field.name").is_some() {
        work.note(
            "partition.field.name",
            format!("no effect with {simple}, as in Connect"),
        );
    }
    if work.get("locale").is_some() {
        work.note("locale", "no effect: names of directories are numbers");
    }
}

/// Keys of time, where the partitioner does not read them.
fn idle(work: &mut Work<'_>) {
    for key in [
        "partition.duration.ms",
        "path.format",
        "timezone",
        "timestamp.extractor",
        "timestamp.field",
    ] {
        work.used(key);
    }
}

fn duration(work: &mut Work<'_>) {
    const KEY: &str = "partition.duration.ms";
    let Some(ms) = work.millis(KEY, MAX_MS) else {
        return;
    };
    match ms {
        HOUR_MS => {}
        ms if ms > HOUR_MS => work.note(KEY, "directories are by the hour, finer than asked for"),
        _ => work.refuse(
            KEY,
            "directories are by the hour, never finer",
            "write 3600000 or more; sink.rotate.age (rotate.interval.ms) closes files sooner",
        ),
    }
}

/// Joda's letters outside of quotes.
fn format(work: &mut Work<'_>) {
    const KEY: &str = "path.format";
    let Some(format) = work.get(KEY) else {
        work.note(CLASS, format!("directories are {LAYOUT}"));
        return;
    };
    let (mut quoted, mut letters) = (false, Vec::new());
    for c in format.chars() {
        match c {
            '\'' => quoted = !quoted,
            c if !quoted && c.is_ascii_alphabetic() => letters.push(c),
            _ => {}
        }
    }
    if let Some(finer) = letters.iter().find(|c| !"yYMdH".contains(**c)) {
        work.refuse(
            KEY,
            format!(
                "`{finer}` is not among year, month, day and hour, by which directories are named"
            ),
            "leave it at yyyy, MM, dd, HH; finer times are in column _timestamp",
        );
        return;
    }
    work.note(
        KEY,
        format!(
            "directories are {LAYOUT} instead of `{format}`: queries that name those have to change"
        ),
    );
}

fn time(work: &mut Work<'_>) {
    let zone = work.get("timezone");
    if let Some(zone) = zone
        && !["utc", "etc/utc", "gmt", "etc/gmt", "z", "zulu", "etc/zulu"]
            .contains(&zone.to_lowercase().as_str())
    {
        work.refuse(
            "timezone",
            format!("directories are in UTC, not in {zone}"),
            "write UTC, and convert column _timestamp when it is read",
        );
    }
    const EXTRACTOR: &str = "timestamp.extractor";
    let extractor = work.get(EXTRACTOR);
    let simple = extractor.as_deref().map_or("Wallclock", |e| {
        e.rsplit(['.', '$'])
            .next()
            .unwrap_or(e)
            .trim_end_matches("TimestampExtractor")
    });
    match simple {
        "Wallclock" => {
            if work.get("timestamp.field").is_some() {
                work.note("timestamp.field", "no effect with the wall clock, as in Connect");
            }
        }
        "Record" => work.refuse(EXTRACTOR, "rows from Kafka are laid out by the time of their ingestion; the record's is in column _timestamp", format!("write Wallclock; {SECOND}, for instance _timestamp")),
        "RecordField" => {
            work.used("timestamp.field");
            work.refuse(EXTRACTOR, "rows from Kafka are laid out by the time of their ingestion, not by a field", format!("write Wallclock; {SECOND}"));
        }
        other => {
            let reason = format!("`{other}` is a Java class that cannot be loaded");
            work.refuse(EXTRACTOR, reason, "write Wallclock");
        }
    }
}
