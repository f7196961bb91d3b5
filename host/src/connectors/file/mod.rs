//! `source.type = "file"`: files below a directory or a bucket's prefix, record by record, each once.
//!
//! - What is read is decided before it is read: a *file list* in the pipeline's home (`list`) names each file with its size,
//!   time and identity, in numbered documents that are put only where none is yet. Two processes of a pipeline therefore read
//!   the same files at the same positions.
//! - A partition is a sequence of files, a position is where a file begins in it and what was read of it: bytes, or records where
//!   the file is packed (compressed, Parquet). The end of a file is a hole, which a batch covers.
//! - A file that is not any more what the list says is never read as if it were (`reader`).
//! - With `source.follow` files are read while they grow (`follow`): each name is a partition, in which the files that have it
//!   follow each other.

mod clean;
#[cfg(test)]
mod fault_tests;
mod follow;
#[cfg(test)]
mod follow_tests;
pub mod followed;
mod keys;
mod list;
#[cfg(test)]
mod list_tests;
mod listing;
mod marks;
mod places;
mod reader;
mod shared;
mod source;
mod split;
#[cfg(test)]
mod tests;
mod text;

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use globset::GlobMatcher;

use crate::clock::Clock;
use crate::commit::LogName;
use crate::config::{Location, MessageHint, Reach, SourceConfig, Trigger};
use crate::error::{Error, Kind, Result};
use crate::hash::sha256;
use crate::record::{SplitId, TopicPartition};
use crate::source::{
    Acknowledge, Change, Connector, PartitionInfo, Policy, Position, ReadLimits, Source, TopicInfo,
};
use crate::store;

use follow::Follower;
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
    /// Files are read while they grow.
    follows: bool,
    /// A CR alone ends a line too.
    cr_ends: bool,
    on_change: OnChange,
    /// What is left of a bad file becomes a gap.
    skips_bad: bool,
    clean: Clean,
    /// Among which new files are dealt out.
    partitions: i32,
    trigger: Trigger,
    /// What it may use of this machine.
    reach: Reach,
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
    /// What decides which bytes are a record, and which positions a file has.
    fn reads(&self) -> String {
        let format = self.format.describe();
        match (self.follows, self.cr_ends) {
            (false, _) => format,
            (true, false) => format!("{format} followed"),
            (true, true) => format!("{format} followed line.ends=any"),
        }
    }

    fn keeps_empty_lines(&self) -> bool {
        self.format == Format::Text
    }

    /// All that decides what a position means.
    fn id(&self) -> String {
        let what = format!("{}\n{}", self.at.url, self.reads());
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
        Ok(Box::new(Files::new(self.clone(), clock.clone())?))
    }

    /// The list of files stays in memory, and begins with no file.
    fn message_hint(&self) -> MessageHint<'_> {
        let (format, row_tag) = match &self.format {
            Format::Json | Format::JsonLines | Format::Parquet => (Some("json"), None),
            Format::Csv(_) => (Some("csv"), None),
            Format::Xml(tag) => (Some("xml"), tag.as_deref()),
            Format::Text => (None, None),
        };
        let headed =
            matches!(&self.format, Format::Csv(dialect) if dialect.header == Header::Repeat);
        MessageHint {
            format,
            row_tag,
            headed,
        }
    }

    fn only_looking(&self, until_now: bool) -> Option<Arc<dyn SourceConfig>> {
        Some(Arc::new(FileConfig {
            home: Location::of("memory:only-looking"),
            clean: Clean::Off,
            trigger: match until_now {
                true => Trigger::AvailableNow,
                false => Trigger::Continuous,
            },
            ..self.clone()
        }))
    }

    fn stores(&self) -> Vec<(&'static str, &Location)> {
        vec![("source.url", &self.at)]
    }

    fn targets(&self) -> Vec<(&'static str, PathBuf)> {
        let Some(root) = store::directory_of(&self.at.url) else {
            return Vec::new();
        };
        match &self.clean {
            Clean::Off => Vec::new(),
            Clean::Delete => vec![("source.url", root)],
            Clean::Archive(dir) => {
                vec![("source.archive.dir", root.join(dir)), ("source.url", root)]
            }
        }
    }

    fn fits_home(&self) -> Result<()> {
        match store::open_existing(&self.home)? {
            Some(home) => followed::list(self).fits(home.as_ref()),
            None => Ok(()),
        }
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
    fn new(config: FileConfig, clock: Arc<dyn Clock>) -> Result<Files> {
        let shared = Arc::new(Shared::open(config, clock)?);
        Ok(Files { shared })
    }

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

    /// With what other processes of this pipeline have taken on.
    fn topic(&self, name: &str) -> Result<TopicInfo> {
        self.shared.load()?;
        let name: Arc<str> = name.into();
        let partitions = 0..self.shared.partitions();
        Ok(TopicInfo {
            id: self.shared.config.id(),
            partitions: partitions.map(|p| self.partition(&name, p)).collect(),
            name,
        })
    }

    fn starts(&self, topic: &TopicInfo) -> Result<Vec<Position>> {
        Ok(topic.partitions.iter().map(PartitionInfo::first).collect())
    }

    fn start(&self) -> String {
        "earliest".to_owned()
    }

    fn may_go_on_at(&self, at: &PartitionInfo, next: i64) -> Result<()> {
        match self.shared.config.follows {
            true => follow::may_go_on_at(&self.shared, at.tp.partition, next),
            // Of a file that does not grow, a partition has the bytes alone.
            false => Ok(()),
        }
    }

    /// The listing of this trigger begins; its files are taken on before the first task reads.
    fn open(&self, positions: &[Position], limits: &ReadLimits) -> Result<Box<dyn Source>> {
        let mut source: Box<dyn Source> = match self.shared.config.follows {
            true => Box::new(Follower::new(self.shared.clone(), *limits)),
            false => Box::new(FileSource::new(self.shared.clone(), *limits)),
        };
        source.assign(positions)?;
        self.shared.begin();
        Ok(source)
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
            late_partitions: self.shared.config.follows,
            recreated: "has other files, or records that begin elsewhere, than those that were read",
            on_recreated: "put source.url, source.format and the keys of the format back as they were, or give the pipeline \
                           another name",
            on_above: "the file list is shorter than what was read of it: restore the home from a copy, or give the pipeline \
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
