//! What the files of a zone are, and in which directories they lie.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::Compression;
use crate::joda::Pattern;

/// What a file of rows is. Dead letters, and rows that other pipelines read, are Parquet always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    Parquet,
    /// One row a line.
    Json,
    Csv,
    /// An object container file.
    Avro,
    /// The bytes of one column, one value after the other.
    Bytes,
}

impl FileFormat {
    pub fn is_parquet(self) -> bool {
        self == FileFormat::Parquet
    }

    /// As `sink.format` names it.
    pub fn word(self) -> &'static str {
        match self {
            FileFormat::Parquet => "parquet",
            FileFormat::Json => "json",
            FileFormat::Csv => "csv",
            FileFormat::Avro => "avro",
            FileFormat::Bytes => "bytes",
        }
    }
}

/// How the files of rows of records are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    pub format: FileFormat,
    /// The column whose value is all that is written of a row.
    pub column: Option<String>,
    /// Texts of that column are JSON, and not texts.
    pub text_is_json: bool,
    /// The host's columns are written too: topic, partition, offset, row, time.
    pub system: bool,
    /// Behind the first dot of a name, with that of the compression: `json.gz`. It ends with `parquet` for Parquet alone.
    pub extension: String,
    /// Of whole files, and of the blocks of Avro. Parquet has its own ([`Home`](super::Home)).
    pub compression: Compression,
    /// Behind each value of [`FileFormat::Bytes`].
    pub separator: Vec<u8>,
    pub header: bool,
    pub delimiter: u8,
    /// Topic, partition and first offset are in the name; the offset with so many digits.
    pub offsets: Option<usize>,
    /// Most files that are open in a task.
    pub open: usize,
    pub tombstones: Tombstones,
}

/// What becomes of rows of records without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tombstones {
    Write,
    Drop,
    Refuse,
}

/// Parquet, as without any key.
impl Default for Files {
    fn default() -> Files {
        Files {
            format: FileFormat::Parquet,
            column: None,
            text_is_json: false,
            system: true,
            extension: FileFormat::Parquet.word().to_owned(),
            compression: Compression::None,
            separator: b"\n".to_vec(),
            header: true,
            delimiter: b',',
            offsets: None,
            open: 100,
            tombstones: Tombstones::Write,
        }
    }
}

impl Files {
    /// Each file holds rows of one partition of a topic: then it belongs to one split, and no rewind has to cut it, which only
    /// Parquet allows.
    pub fn of_one_split(&self) -> bool {
        !self.format.is_parquet() || self.offsets.is_some()
    }
}

/// How rows of records are divided into directories below their table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Directories {
    /// `ingest_date=…/ingest_hour=…`, when a file is begun.
    Ingested,
    Time(TimeDirectories),
    /// `name=value`, one below the other.
    Columns {
        names: Vec<String>,
        escape: bool,
    },
    /// `partition=N`
    Partition,
    /// None below the table's.
    None,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeDirectories {
    pub of: TimeOf,
    pub path: Pattern,
    pub zone: TimeZone,
    /// As it was typed.
    pub zone_name: String,
    /// Local times are rounded down to it.
    pub floor: Option<Duration>,
}

/// Which time decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeOf {
    /// When rows are written.
    Clock,
    Record,
    Column {
        name: String,
        unit: TimeUnit,
    },
}

/// What numbers and texts of a column mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Numbers, and texts of digits: milliseconds since 1970. Other texts: ISO 8601.
    Auto,
    Seconds,
    Micros,
    /// strftime.
    Pattern(String),
}
