//! Where files of a zone lie: the only place that builds or takes apart these paths.
//!
//! ```text
//! <table>/ingest_date=YYYY-MM-DD/ingest_hour=HH/<ULID>.parquet    RAW rows
//! <table>/ingest_date=YYYY-MM-DD/<ULID>.parquet                   dead letters
//! <table>/<name>=<value>/<ULID>.parquet                           PROCESSED
//! _system/<pipeline>/<zone>/staging/<ULID>                        any of them, before its commit
//! _system/<pipeline>/<zone>/keys/<ULID>                           key sidecars
//! ```
//! Partition values are escaped as Hive does; a file's id and final path are fixed at its birth.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use crate::clock::Clock;
use crate::error::{Error, Kind, Result};

/// Value of a partition whose field is null or cannot be read as a date, as Hive and Spark name it.
pub const NO_PARTITION_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// Which log's `_system` folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneName {
    pub pipeline: String,
    pub zone: String,
}

impl ZoneName {
    pub fn staging(&self, file: &str) -> String {
        format!("_system/{}/{}/staging/{file}", self.pipeline, self.zone)
    }

    pub fn keys(&self, file: &str) -> String {
        format!("_system/{}/{}/keys/{file}", self.pipeline, self.zone)
    }
}

/// 26 characters, sorted by time. The clock is for people; 80 random bits make it unique.
pub fn new_file_id(clock: &dyn Clock) -> String {
    let millis = u64::try_from(clock.now_micros() / 1000).unwrap_or(0);
    let mut bytes = [0; 16];
    rand::TryRngCore::try_fill_bytes(&mut rand::rngs::OsRng, &mut bytes).ok();
    ulid::Ulid::from_parts(millis, u128::from_le_bytes(bytes)).to_string()
}

/// `sink.table`: a name, or one with `${topic}` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table(String);

impl Table {
    pub fn new(template: impl Into<String>) -> Result<Table> {
        let table = Table(template.into());
        table.name("topic")?;
        Ok(table)
    }

    /// The table of this topic. Readers skip names that begin with `_` or `.`, so such a table would look empty.
    pub fn name(&self, topic: &str) -> Result<String> {
        let name = self.0.replace("${topic}", topic);
        let legal = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.starts_with(['_', '.']) || !name.chars().all(legal) {
            return Err(Error::new(
                Kind::ConfigInvalid,
                "zone.table",
                format!(
                    "`{name}` cannot be a table: letters, digits, `-`, `_` and `.`, not beginning with `_` or `.`, as readers hide those"
                ),
            )
            .with("topic", topic)
            .hint("set sink.table to a name of your own, for example `t_${topic}`"));
        }
        Ok(name)
    }
}

/// Partition columns and values of a file, outermost first, as they stand in its path (values not yet escaped).
pub type Partition = Vec<(String, String)>;

/// `ingest_date` and `ingest_hour` of a moment, UTC.
pub fn ingest_partition(micros: i64, with_hour: bool) -> Partition {
    let moment = jiff::Timestamp::from_microsecond(micros)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_zoned(TimeZone::UTC);
    let (y, m, d) = (moment.year(), moment.month(), moment.day());
    let mut partition = vec![("ingest_date".to_owned(), format!("{y:04}-{m:02}-{d:02}"))];
    if with_hour {
        partition.push(("ingest_hour".to_owned(), format!("{:02}", moment.hour())));
    }
    partition
}

pub fn parquet_path(table: &str, partition: &Partition, file: &str) -> String {
    let mut path = table.to_owned();
    for (name, value) in partition {
        path.push('/');
        path.push_str(&escape(name));
        path.push('=');
        path.push_str(&escape(value));
    }
    format!("{path}/{file}.parquet")
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

    #[test]
    fn hidden_or_nested_tables_are_refused() {
        for bad in ["", "_system", ".x", "a/b", "${topic}/x", "a b"] {
            assert!(Table::new(bad).is_err(), "{bad}");
        }
        let table = Table::new("${topic}").expect("legal");
        assert_eq!(table.name("a.b-c_1").expect("legal"), "a.b-c_1");
        assert!(table.name("__consumer_offsets").is_err());
    }

    #[test]
    fn file_ids_are_unique_and_sort_by_time() {
        let clock = crate::clock::ManualClock::at(1_700_000_000_000_000);
        let a = new_file_id(&*clock);
        let b = new_file_id(&*clock);
        clock.advance(std::time::Duration::from_millis(2));
        let c = new_file_id(&*clock);
        assert!(a != b && a < c && b < c && a.len() == 26);
    }
}
