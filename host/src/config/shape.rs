//! The types of keys, and what a value of each is.

use std::time::Duration;

use super::checked::{Compression, SortBy, Start, TableName, Trigger};
use super::pattern::TopicPattern;
use super::problem;
use super::values::*;

/// The type of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Any text; references stay unresolved.
    Text,
    /// A text whose blanks and line ends count: it may be one of them.
    Exact,
    /// Letters, digits, `.`, `_`, `-`; at most 100.
    Name,
    Names,
    Topics,
    /// A regular expression for names of topics.
    Pattern,
    /// `${topic}` or a table's name.
    Table,
    TableName,
    Field,
    Fields,
    Int {
        min: u64,
        max: u64,
    },
    Flag,
    Duration {
        min_ms: u64,
        max_ms: u64,
    },
    Bytes {
        min: u64,
        max: u64,
    },
    Days,
    Choice(&'static [&'static str]),
    Url,
    /// `host:port`, one or more.
    Brokers,
    Path,
    Trigger,
    Start,
    DateFormat,
    Compression,
    /// Columns, each with `asc` or `desc` behind it if wanted.
    Sort,
    /// A part of one: `0.01`.
    Share,
    /// A part of all: `0.05`, up to 1.
    Rate,
    Level,
}

/// Units of the limits in the tables of keys: bytes, and milliseconds.
pub(crate) mod unit {
    use super::Shape;

    pub const KIB: u64 = 1024;
    pub const MIB: u64 = 1024 * KIB;
    pub const GIB: u64 = 1024 * MIB;
    pub const MS: u64 = 1;
    pub const SECOND: u64 = 1000 * MS;
    pub const MINUTE: u64 = 60 * SECOND;
    pub const HOUR: u64 = 60 * MINUTE;
    pub const DAY: u64 = 24 * HOUR;

    pub const fn duration(min_ms: u64, max_ms: u64) -> Shape {
        Shape::Duration { min_ms, max_ms }
    }

    pub const fn bytes(min: u64, max: u64) -> Shape {
        Shape::Bytes { min, max }
    }

    pub const fn int(min: u64, max: u64) -> Shape {
        Shape::Int { min, max }
    }
}

/// A value of some shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text, Exact, Name, Pattern, Field, TableName, Choice, Brokers, Url (no slash at its end), Path, DateFormat, Level.
    Text(String),
    /// Names, Topics, Fields.
    List(Vec<String>),
    /// Int, Bytes, Days.
    Number(u64),
    Flag(bool),
    Duration(Duration),
    Trigger(Trigger),
    Start(Start),
    Compression(Compression),
    Sort(Vec<SortBy>),
    /// In millionths.
    Share(u32),
    Table(TableName),
}

/// Why a text does not have a shape. `found` is not in the message: if it came from a reference it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: &'static str,
    pub expected: String,
    pub hint: Option<String>,
}

pub(super) fn refuse(code: &'static str, expected: impl Into<String>) -> Refusal {
    Refusal {
        code,
        expected: expected.into(),
        hint: None,
    }
}

impl Refusal {
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Refusal {
        self.hint = Some(hint.into());
        self
    }
}

pub type Parsed<T> = Result<T, Refusal>;

impl Shape {
    pub fn parse(&self, text: &str) -> Parsed<Value> {
        let text = match self {
            Shape::Exact => text,
            _ => text.trim(),
        };
        match *self {
            Shape::Text | Shape::Exact if text.is_empty() => {
                Err(refuse(problem::MISSING, "a value, not nothing"))
            }
            Shape::Text | Shape::Exact => Ok(Value::Text(text.to_owned())),
            Shape::Path if text.is_empty() => Err(refuse(problem::MISSING, "a path, not nothing")),
            Shape::Path => Ok(Value::Text(text.to_owned())),
            Shape::Name => name(text).map(Value::Text),
            Shape::Names => list(text, name).map(Value::List),
            Shape::Topics => list(text, topic).map(Value::List),
            Shape::Pattern => TopicPattern::parse(text).map(|_| Value::Text(text.to_owned())),
            Shape::Table if text == "${topic}" => Ok(Value::Table(TableName::PerTopic)),
            Shape::Table => table(text).map(|name| Value::Table(TableName::Fixed(name))),
            Shape::TableName => table(text).map(Value::Text),
            Shape::Field => field(text).map(Value::Text),
            Shape::Fields => list(text, field).map(Value::List),
            Shape::Int { min, max } => int(text, min, max).map(Value::Number),
            Shape::Flag => flag(text).map(Value::Flag),
            Shape::Duration { min_ms, max_ms } => {
                duration_within(text, min_ms, max_ms).map(Value::Duration)
            }
            Shape::Bytes { min, max } => bytes_within(text, min, max).map(Value::Number),
            Shape::Days => days(text).map(Value::Number),
            Shape::Choice(choices) => choice(text, choices).map(Value::Text),
            Shape::Url => super::location::canonical(text).map(Value::Text),
            Shape::Brokers => brokers(text).map(Value::Text),
            Shape::Trigger => trigger(text).map(Value::Trigger),
            Shape::Start => start(text).map(Value::Start),
            Shape::DateFormat => date_format(text).map(Value::Text),
            Shape::Compression => compression(text).map(Value::Compression),
            Shape::Sort => sort_by(text).map(Value::Sort),
            Shape::Share => millionths(text, 0.5).map(Value::Share),
            Shape::Rate => millionths(text, 1.0).map(Value::Share),
            Shape::Level => level(text).map(Value::Text),
        }
    }

    /// For the documentation: what may be written.
    pub fn describe(&self) -> String {
        match *self {
            Shape::Text | Shape::Exact => "text".into(),
            Shape::Path => "path".into(),
            Shape::Name | Shape::TableName => "name".into(),
            Shape::Names => "list of names".into(),
            Shape::Topics => "list of topics".into(),
            Shape::Pattern => "regular expression".into(),
            Shape::Table => "name or `${topic}`".into(),
            Shape::Field => "column".into(),
            Shape::Fields => "list of columns".into(),
            Shape::Int { min, max } => format!("integer, {min} to {max}"),
            Shape::Flag => "`true` or `false`".into(),
            Shape::Duration { min_ms, max_ms } => {
                format!("duration, {} to {}", show_ms(min_ms), show_ms(max_ms))
            }
            Shape::Bytes { min, max } => {
                format!("size, {} to {}", show_bytes(min), show_bytes(max))
            }
            Shape::Days => "days: `0d` to `3660d`".into(),
            Shape::Choice(choices) => choices
                .iter()
                .map(|c| format!("`{c}`"))
                .collect::<Vec<_>>()
                .join(" or "),
            Shape::Url => {
                "URL: `file:…`, `s3://…`, `gs://…`, `az://…`, `abfss://…`, `hdfs://…`, `memory:…`"
                    .into()
            }
            Shape::Brokers => "`host:port`, separated by commas".into(),
            Shape::Trigger => "`continuous`, `available-now`, `every:<duration>`, `cron:<schedule>`".into(),
            Shape::Start => "`earliest`, `latest`, `timestamp:<RFC 3339>`, `group:<name>`, `offsets:<topic>/<partition>=<offset>,…`".into(),
            Shape::DateFormat => "`%Y-%m-%d`, `%Y-%m` or `%Y`".into(),
            Shape::Compression => {
                "`none`, `snappy`, `lz4`, `gzip-1`…`gzip-9`, `zstd-1`…`zstd-22`".into()
            }
            Shape::Sort => "list of columns, each with ` desc` behind it if wanted".into(),
            Shape::Share => "share, 0.000001 to 0.5".into(),
            Shape::Rate => "share, 0.000001 to 1".into(),
            Shape::Level => "log level".into(),
        }
    }
}
