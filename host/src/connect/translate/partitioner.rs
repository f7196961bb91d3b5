//! Partitioners: which directories rows lie in. Connect's five give here the names that they give there; a file's name begins with its
//! id, and has topic, partition and first offset behind it.

use super::Work;
use super::sink::show;
use crate::config::problem;
use crate::joda::Pattern;

const CLASS: &str = "partitioner.class";
const BY: &str = "sink.partition.by";
const PATH: &str = "path.format";
const FIELDS: &str = "partition.field.name";
const ZONE: &str = "timezone";
const EXTRACTOR: &str = "timestamp.extractor";
const FIELD: &str = "timestamp.field";
const DURATION: &str = "partition.duration.ms";
const WIDTH: &str = "filename.offset.zero.pad.width";

const DAILY: &str = "'year'=YYYY/'month'=MM/'day'=dd";
const HOURLY: &str = "'year'=YYYY/'month'=MM/'day'=dd/'hour'=HH";
/// The longest value that Connect accepts.
const MAX_MS: i64 = i64::MAX;
/// What `sink.partition.duration` takes.
const DURATION_MAX_MS: i64 = 366 * 86_400_000;

pub(super) fn translate(work: &mut Work<'_>) {
    names(work);
    let class = work.get(CLASS);
    let simple = class
        .as_deref()
        .map_or("DefaultPartitioner", |class| {
            class.rsplit(['.', '$']).next().unwrap_or(class)
        })
        .to_owned();
    let key = if class.is_some() {
        CLASS
    } else {
        "connector.class"
    };
    match simple.as_str() {
        "DefaultPartitioner" => {
            work.put(BY, "partition", key);
            idle(work);
        }
        "FieldPartitioner" => {
            fields(work);
            idle(work);
        }
        "TimeBasedPartitioner" => {
            times(work);
            time(work);
        }
        "DailyPartitioner" | "HourlyPartitioner" => {
            for key in [DURATION, PATH] {
                if work.get(key).is_some() {
                    work.note(key, format!("no effect with {simple}, as in Connect"));
                }
            }
            let path = if simple.starts_with('D') {
                DAILY
            } else {
                HOURLY
            };
            work.put("sink.partition.path", path, CLASS);
            time(work);
        }
        _ => {
            for key in [FIELDS, DURATION, PATH, ZONE, EXTRACTOR, FIELD, "locale"] {
                work.used(key);
            }
            let reason = format!("`{simple}` is a Java class that cannot be loaded");
            work.refuse(
                CLASS,
                reason,
                "Default-, Field-, TimeBased-, Daily- and HourlyPartitioner are understood",
            );
            return;
        }
    }
    if simple != "FieldPartitioner" && work.get(FIELDS).is_some() {
        work.note(FIELDS, format!("no effect with {simple}, as in Connect"));
    }
}

/// Names of files.
fn names(work: &mut Work<'_>) {
    let width = work.int(WIDTH, 0, 20);
    let key = if work.is_there(WIDTH) {
        WIDTH
    } else {
        "connector.class"
    };
    work.put("sink.file.names", "offsets", key);
    if work
        .native("sink.file.names")
        .is_some_and(|names| names == "id")
    {
        return;
    }
    if let Some(width) = width {
        work.put("sink.file.offset.digits", width.to_string(), WIDTH);
    }
}

/// Keys of time, where the partitioner does not read them.
fn idle(work: &mut Work<'_>) {
    for key in [DURATION, PATH, ZONE, EXTRACTOR, FIELD, "locale"] {
        work.used(key);
    }
}

fn fields(work: &mut Work<'_>) {
    let fields = work.list(FIELDS);
    if fields.is_empty() {
        let message = format!("`{FIELDS}` is missing: FieldPartitioner needs the fields");
        work.problem(FIELDS, problem::MISSING, message);
        return;
    }
    work.put(BY, "columns", CLASS);
    work.put("sink.partition.columns", fields.join(","), FIELDS);
    work.put("sink.partition.escape", "false", CLASS);
}

/// Pattern and duration of TimeBasedPartitioner.
fn times(work: &mut Work<'_>) {
    if let Some(ms) = work.millis(DURATION, MAX_MS) {
        match ms {
            1..=DURATION_MAX_MS => work.put("sink.partition.duration", show(ms), DURATION),
            0 => {
                let message = format!("`{DURATION}`: expected 1 or more, found 0");
                work.problem(DURATION, problem::OUT_OF_RANGE, message);
            }
            _ => work.refuse(
                DURATION,
                "directories of more than 366 days are not rounded to it",
                "take the key out: path.format alone decides then",
            ),
        }
    }
    let Some(path) = work.get(PATH) else {
        work.note(
            CLASS,
            format!("path.format is missing, which Connect refuses; directories are {HOURLY}"),
        );
        work.put("sink.partition.path", HOURLY, CLASS);
        return;
    };
    match Pattern::of_directories(&path) {
        Ok(pattern) => {
            names_of_language(work, &pattern);
            work.put("sink.partition.path", path, PATH);
        }
        Err(why) => work.refuse(
            PATH,
            why,
            "letters are parts of a time, text with letters stands between quotes: 'year'=YYYY/'month'=MM",
        ),
    }
}

fn names_of_language(work: &mut Work<'_>, pattern: &Pattern) {
    let locale = work.get("locale").unwrap_or_default();
    let english = locale.is_empty() || locale.to_lowercase().starts_with("en");
    if pattern.has_names() && !english {
        work.refuse(
            "locale",
            format!("names of months and days are English, not those of {locale}"),
            "write numbers in path.format (MM, dd, e), or en",
        );
    }
}

fn time(work: &mut Work<'_>) {
    work.used("locale");
    if let Some(zone) = work.get(ZONE) {
        work.put("sink.partition.timezone", zone, ZONE);
    }
    let extractor = work.get(EXTRACTOR);
    let key = if extractor.is_some() {
        EXTRACTOR
    } else {
        CLASS
    };
    let simple = extractor.as_deref().map_or("Wallclock", |e| {
        e.rsplit(['.', '$'])
            .next()
            .unwrap_or(e)
            .trim_end_matches("TimestampExtractor")
    });
    match simple {
        "Wallclock" => {
            work.put(BY, "ingestion", key);
            if work.get(FIELD).is_some() {
                work.note(FIELD, "no effect with the wall clock, as in Connect");
            }
        }
        "Record" => {
            work.put(BY, "record", key);
            if work.get(FIELD).is_some() {
                work.note(FIELD, "no effect with Record, as in Connect");
            }
        }
        "RecordField" => {
            work.put(BY, "time", key);
            let field = work.get(FIELD).unwrap_or_else(|| "timestamp".to_owned());
            work.put("sink.partition.columns", field, FIELD);
        }
        other => {
            work.used(FIELD);
            let reason = format!("`{other}` is a Java class that cannot be loaded");
            work.refuse(EXTRACTOR, reason, "write Wallclock, Record or RecordField");
        }
    }
}
