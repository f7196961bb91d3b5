//! `source.type = "file"`: files below a directory or a bucket's prefix, record by record, each once.
//!
//! - What is read is decided before it is read: a *file list* in the pipeline's home (`list`) names each file with its size,
//!   time and identity, in numbered documents that are put only where none is yet. Two processes of a pipeline therefore read
//!   the same files at the same positions.
//! - A partition is a sequence of files, a position is where a file begins in it and what was read of it: bytes, or records where
//!   the file is packed (compressed, Parquet). The end of a file is a hole, which a batch covers.
//! - A file that is not any more what the list says is never read as if it were (`reader`).

mod clean;
mod keys;
mod list;
mod listing;
mod reader;
mod shared;
mod source;
mod split;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use globset::GlobMatcher;

use crate::clock::Clock;
use crate::commit::LogName;
use crate::config::{Location, SourceConfig, Trigger};
use crate::error::{Error, Kind, Result};
use crate::hash::sha256;
use crate::record::{SplitId, TopicPartition};
use crate::source::TopicInfo;
use crate::source::{
    Acknowledge, Change, Connector, PartitionInfo, Policy, Position, ReadLimits, Source,
};

pub use keys::SOURCE;
use shared::Shared;
use source::FileSource;

/// The checked keys.
#[derive(Clone, Debug)]
pub struct FileConfig {
    /// One name, as the topic's.
    topics: Vec<String>,
    at: Location,
    /// As typed.
    path: String,
    matcher: GlobMatcher,
    format: Format,
    record_max: usize,
    list_every: Duration,
    settle: Duration,
    limits: Limits,
    latest_first: bool,
    name_only: bool,
    max_age: Duration,
    on_change: OnChange,
    /// What is left of a bad file becomes a gap.
    skips_bad: bool,
    clean: Clean,
    /// Among which new files are dealt out.
    partitions: i32,
    trigger: Trigger,
    /// Of the pipeline: its file list lies there.
    home: Location,
    log: LogName,
}

/// `source.format`, with the keys that decide where a record begins.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Format {
    Json,
    JsonLines,
    Text,
    Csv(Dialect),
    /// The element that is a record.
    Xml(Option<String>),
    Parquet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dialect {
    header: Header,
    delimiter: u8,
    quote: Option<u8>,
    escape: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    Repeat,
    Drop,
    None,
}

/// Of one group of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    files: Option<u64>,
    bytes: Option<u64>,
}

impl Limits {
    fn any(self) -> bool {
        self.files.is_some() || self.bytes.is_some()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnChange {
    Warn,
    Read,
    Fail,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Clean {
    Off,
    /// Below the source's root.
    Archive(String),
    Delete,
}

impl Format {
    /// All that decides which bytes are a record, for people and for the file list.
    fn describe(&self) -> String {
        let shown = |byte: Option<u8>| byte.map_or_else(String::new, |b| char::from(b).to_string());
        match self {
            Format::Json => "json".to_owned(),
            Format::JsonLines => "jsonl".to_owned(),
            Format::Text => "text".to_owned(),
            Format::Csv(dialect) => format!(
                "csv header={} delimiter={} quote={} escape={}",
                match dialect.header {
                    Header::Repeat => "repeat",
                    Header::Drop => "drop",
                    Header::None => "none",
                },
                shown(Some(dialect.delimiter)),
                shown(dialect.quote),
                shown(dialect.escape)
            ),
            Format::Xml(tag) => format!("xml row.tag={}", tag.as_deref().unwrap_or_default()),
            Format::Parquet => "parquet".to_owned(),
        }
    }
}

impl FileConfig {
    /// All that decides what a position means.
    fn id(&self) -> String {
        let what = format!("{}\n{}", self.at.url, self.format.describe());
        let digest = sha256(what.as_bytes());
        let digest = digest.trim_start_matches("sha256:");
        let short = digest.get(..ID_DIGITS).unwrap_or(digest);
        let format = self.format.describe();
        let format = format.split(' ').next().unwrap_or_default().to_owned();
        format!("{short}-{format}")
    }
}

/// Hexadecimal digits of the part of a partition's id that tells sources from each other.
const ID_DIGITS: usize = 16;

impl SourceConfig for FileConfig {
    fn topics(&self) -> &[String] {
        &self.topics
    }

    fn describe(&self) -> String {
        format!("file[{}/{}]", self.at.url, self.path)
    }

    fn connect(&self, clock: &Arc<dyn Clock>) -> Result<Box<dyn Connector>> {
        let shared = Shared::open(self.clone(), clock.clone())?;
        Ok(Box::new(Files {
            shared: Arc::new(shared),
        }))
    }

    fn stores(&self) -> Vec<(&'static str, &Location)> {
        vec![("source.url", &self.at)]
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[derive(Debug)]
struct Files {
    shared: Arc<Shared>,
}

impl Files {
    fn partition(&self, topic: &Arc<str>, partition: i32) -> PartitionInfo {
        PartitionInfo {
            split: SplitId::new(format!(
                "file/{topic}/{}/{partition}",
                self.shared.config.id()
            )),
            tp: TopicPartition {
                topic: topic.clone(),
                partition,
            },
            low: 0,
            high: self.shared.end(partition),
        }
    }
}

impl Connector for Files {
    fn topics(&self) -> Result<Vec<TopicInfo>> {
        let names = self.shared.config.topics.iter();
        names.map(|name| self.topic(name)).collect()
    }

    fn topic(&self, name: &str) -> Result<TopicInfo> {
        let name: Arc<str> = name.into();
        let partitions = 0..self.shared.partitions();
        Ok(TopicInfo {
            id: self.shared.config.id(),
            partitions: partitions.map(|p| self.partition(&name, p)).collect(),
            name,
        })
    }

    fn starts(&self, topic: &TopicInfo) -> Result<Vec<Position>> {
        let first = |p: &PartitionInfo| Position {
            split: p.split.clone(),
            epoch: 0,
            tp: p.tp.clone(),
            next: p.low,
        };
        Ok(topic.partitions.iter().map(first).collect())
    }

    fn start(&self) -> String {
        "earliest".to_owned()
    }

    /// The files of this trigger are taken on before the first task reads.
    fn open(&self, positions: &[Position], limits: &ReadLimits) -> Result<Box<dyn Source>> {
        self.shared.begin()?;
        let mut source = FileSource::new(self.shared.clone(), *limits);
        source.assign(positions)?;
        Ok(Box::new(source))
    }

    /// New files are taken on here; their partitions are those that are read. Another process with more tasks may have made
    /// more of them.
    fn changes(&self, known: &[TopicInfo]) -> Result<Vec<Change>> {
        self.shared.look_again()?;
        let mut changes = Vec::new();
        for topic in known {
            let now = self.topic(&topic.name)?.partitions;
            let new: Vec<PartitionInfo> = now.into_iter().skip(topic.partitions.len()).collect();
            if !new.is_empty() {
                changes.push(Change::NewPartitions(new));
            }
        }
        Ok(changes)
    }

    fn changes_every(&self) -> Option<Duration> {
        Some(self.shared.config.list_every)
    }

    fn policy(&self) -> Policy {
        Policy {
            gaps: self.shared.config.skips_bad,
            recreated: "has other files, or records that begin elsewhere, than those that were read",
            on_recreated: "put source.url, source.format and the keys of the format back as they were, or give the pipeline \
                           another name",
            on_lost: "the file list is shorter than what was read of it: restore the home from a copy, or give the pipeline \
                      another name",
            ..Policy::default()
        }
    }

    fn acknowledge(&self) -> Result<Box<dyn Acknowledge>> {
        Ok(Box::new(clean::Cleaner::new(self.shared.clone())))
    }
}

fn unknown(op: &'static str, position: &Position) -> Error {
    Error::new(Kind::Bug, op, "a partition that is not read").with("partition", &position.tp)
}
