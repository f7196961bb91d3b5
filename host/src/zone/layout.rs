//! The paths of a table's files. Only this module builds them (`commit::LogName` builds those below `_system`).
//!
//! ```text
//! <table>/ingest_date=YYYY-MM-DD/ingest_hour=HH/<ULID>.parquet    RAW rows
//! <table>/ingest_date=YYYY-MM-DD/<ULID>.parquet                   dead letters
//! <table>/<name>=<value>/<ULID>.parquet                           PROCESSED
//! ```
//! Partition values are escaped as Hive does; a file's id and final path are fixed when it is begun.

use std::collections::BTreeMap;

use crate::config::TableName;
use crate::error::{Error, Kind, Result};
use crate::instant;
use crate::store::PathLimits;

/// Path columns of RAW rows; dead letters have the date alone.
pub const INGEST_DATE: &str = "ingest_date";
pub const INGEST_HOUR: &str = "ingest_hour";

/// Value of a partition whose field is null or cannot be read as a date, as Hive and Spark name it.
pub const NO_PARTITION_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// Longest value of a partition that is a date.
pub const VALUE_MAX: usize = NO_PARTITION_VALUE.len();

/// The table of a topic's rows. Readers skip names that begin with `_` or `.`, so such a table would look empty.
pub fn table_of(table: &TableName, topic: &str) -> Result<String> {
    let name = table.of(topic);
    let legal = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    let hidden = name.starts_with(['_', '.']);
    if name.is_empty() || hidden || name.contains(PARENT) || !name.chars().all(legal) {
        return Err(Error::new(
            Kind::ConfigInvalid,
            "zone.table",
            format!(
                "`{name}` cannot be a table: letters, digits, `-`, `_` and `.`, no two dots together, not beginning with `_` or `.`, as readers hide those"
            ),
        )
        .with("topic", topic)
        .hint("set sink.table to a name of your own"));
    }
    Ok(name.to_owned())
}

/// The log takes no path with it (V4), wherever it stands.
const PARENT: &str = "..";
const PARENT_ESCAPED: &str = "%2E%2E";

/// Names and values as the log takes them.
pub fn no_parent(text: &str) -> String {
    text.replace(PARENT, PARENT_ESCAPED)
}

/// Why a file of this path could not be published after its commit, or not be committed.
pub fn unfit(limits: &PathLimits, path: &str) -> Option<String> {
    match path.contains(PARENT) {
        true => Some(format!("its path would have `{PARENT}` in it")),
        false => limits.unfit(path),
    }
}

/// What `sink.file.names = "offsets"` puts behind the id, up to the ending. The id and a dot stand before the topic.
pub fn offsets_name(topic: &str, partition: i32, offset: i64, digits: usize) -> String {
    let topic = no_parent(topic);
    let (dot, rest) = match topic.strip_prefix('.') {
        Some(rest) => ("%2E", rest),
        None => ("", topic.as_str()),
    };
    format!("{dot}{rest}+{partition}+{offset:0digits$}")
}

/// Partition columns and values of a file, outermost first, as in its path (values not yet escaped).
pub type Partition = Vec<(String, String)>;

/// [`INGEST_DATE`] and [`INGEST_HOUR`] of a moment, UTC.
pub fn ingest_partition(micros: i64, with_hour: bool) -> Partition {
    // A time outside of the calendar means a broken clock; its files still need a place.
    let moment =
        instant::civil(micros).unwrap_or(jiff::civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0));
    let (y, m, d) = (moment.year(), moment.month(), moment.day());
    let mut partition = vec![(INGEST_DATE.to_owned(), format!("{y:04}-{m:02}-{d:02}"))];
    if with_hour {
        partition.push((INGEST_HOUR.to_owned(), format!("{:02}", moment.hour())));
    }
    partition
}

/// Whether a directory gets the rows of one hour.
pub fn is_hour(directory: &str) -> bool {
    let last = directory.rsplit('/').next().unwrap_or_default();
    last.split('=').next() == Some(INGEST_HOUR)
}

pub fn parquet_path(table: &str, partition: &Partition, file: &str) -> String {
    tailed_path(table, partition, file, "parquet")
}

/// `tail`: what stands behind the id.
pub fn tailed_path(table: &str, partition: &Partition, file: &str, tail: &str) -> String {
    let mut path = table.to_owned();
    for (name, value) in partition {
        path.push('/');
        path.push_str(&no_parent(&format!("{}={}", escape(name), escape(value))));
    }
    format!("{path}/{file}.{tail}")
}

/// Of a file in a directory below its table; `""` is the table's own.
pub fn path_in(table: &str, directory: &str, file: &str) -> String {
    match directory {
        "" => format!("{table}/{file}"),
        directory => format!("{table}/{directory}/{file}"),
    }
}

pub fn partition_map(partition: &Partition) -> BTreeMap<String, String> {
    partition.iter().cloned().collect()
}

/// Hive's escaping: control characters and `"#%'*/:=?\{[]^` become `%XX`; an empty value is the default partition.
pub fn escape(value: &str) -> String {
    if value.is_empty() {
        return NO_PARTITION_VALUE.to_owned();
    }
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if c.is_ascii_control() || "\"#%'*/:=?\\{[]^".contains(c) {
            out.push_str(&format!("%{:02X}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_what_hive_expects() {
        let partition = ingest_partition(1_700_000_000_000_000, true);
        assert_eq!(
            parquet_path("books", &partition, "01ABC"),
            "books/ingest_date=2023-11-14/ingest_hour=22/01ABC.parquet"
        );
        let odd = vec![("d".to_owned(), "a/b=c %\u{7}é".to_owned())];
        assert_eq!(
            parquet_path("t", &odd, "f"),
            "t/d=a%2Fb%3Dc %25%07é/f.parquet"
        );
        assert_eq!(escape(""), NO_PARTITION_VALUE);
    }

    /// Also V4's other half: a name begins with its id, up to the first dot.
    #[test]
    fn no_name_has_two_dots_together() {
        for (topic, expected) in [
            ("a.b", "a.b+3+0042"),
            ("a..b", "a%2E%2Eb+3+0042"),
            (".x", "%2Ex+3+0042"),
            ("...x.", "%2E%2E.x.+3+0042"),
            ("....", "%2E%2E%2E%2E+3+0042"),
        ] {
            let name = offsets_name(topic, 3, 42, 4);
            assert_eq!(name, expected);
            let partition = vec![(topic.to_owned(), topic.to_owned())];
            let path = tailed_path("t", &partition, "01ABC", &format!("{name}.json"));
            assert!(!path.contains(".."), "{path}");
        }
        let limits = PathLimits {
            bytes: 1000,
            levels: 1000,
            without: None,
            reserved: None,
        };
        assert!(unfit(&limits, "t/a..b/f").is_some_and(|why| why.contains("`..`")));
        assert!(unfit(&limits, &"x".repeat(256)).is_some());
        assert_eq!(unfit(&limits, "t/a.b/f"), None);
    }

    #[test]
    fn hidden_or_nested_tables_are_refused() {
        for bad in ["", "_system", ".x", "a/b", "a b", "a..b"] {
            let table = TableName::Fixed(bad.to_owned());
            assert!(table_of(&table, "topic").is_err(), "{bad}");
            assert!(table_of(&TableName::PerTopic, bad).is_err(), "{bad}");
        }
        let name = table_of(&TableName::PerTopic, "a.b-c_1").expect("legal");
        assert_eq!(name, "a.b-c_1");
        assert!(table_of(&TableName::PerTopic, "__consumer_offsets").is_err());
    }
}
