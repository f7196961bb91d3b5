//! How a connector declares its keys, and the catalog of all connectors. The tables themselves are in the connectors'
//! folders, above this room: the caller that reads a config passes the catalog in.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::check::Checker;
use super::checked::{Home, Source, TableName, Trigger};
use super::files::FileFormat;
use super::keys::{COMMON, KeyDef, Scope};
use super::location::Location;
use super::raw::{Entry, Raw};
use super::text::Text;
use crate::clock::Clock;
use crate::error::Result;
use crate::finding::Finding;
use crate::source::Connector;

/// The checked keys of one `source.type`.
pub trait SourceConfig: fmt::Debug + Send + Sync {
    /// Names of what is read, at least one: with `sink.table = "${topic}"` each has its own table. None where only the system
    /// that is read knows them.
    fn topics(&self) -> &[String];

    /// Whether a topic of this name is read if it is there.
    fn reads(&self, topic: &str) -> bool {
        self.topics().iter().any(|name| name == topic)
    }

    /// For log lines, without secrets: `kafka[orders,returns]`.
    fn describe(&self) -> String;

    /// What is known of the form of the records' values, for `schema.inference`.
    fn message_hint(&self) -> MessageHint<'_> {
        MessageHint::default()
    }

    /// How much one trigger takes.
    fn per_trigger(&self) -> PerTrigger {
        PerTrigger::default()
    }

    /// Connects, and waits at most as long as one request may take. References in keys are resolved here and not
    /// earlier. After an error with remedy Retry it is called again until it works.
    fn connect(&self, clock: &Arc<dyn Clock>) -> Result<Box<dyn Connector>>;

    /// For `weir doctor`: checks what is there and what this config may do with it. It changes nothing, and reports
    /// each finding at once. Each request has the same limit as those of [`connect`](SourceConfig::connect).
    fn examine(&self, clock: &Arc<dyn Clock>, tell: &mut dyn FnMut(Finding)) {
        let begun = clock.elapsed();
        let took = || clock.elapsed().saturating_sub(begun);
        let topics = self.connect(clock).and_then(|source| source.topics());
        tell(match topics {
            Ok(topics) => {
                let partitions: usize = topics.iter().map(|t| t.partitions.len()).sum();
                let says = format!("{} answers, with {partitions} partitions", self.describe());
                Finding::pass("source", None, says).took(took())
            }
            Err(error) => Finding::failed("source", None, &error).took(took()),
        });
    }

    /// The same source for a command that only looks (`weir tap`): it writes nothing and takes nothing away. `None`: this
    /// source never does. `until_now`: records that come later are not wanted.
    fn only_looking(&self, _until_now: bool) -> Option<Arc<dyn SourceConfig>> {
        None
    }

    /// Values that name files of this machine, with their keys: the daemon looks whether the config may use them.
    fn files(&self) -> Vec<(String, &Text)> {
        Vec::new()
    }

    /// Stores that it reads, with the keys that name them: the daemon checks whether the config may use them.
    fn stores(&self) -> Vec<(&'static str, &Location)> {
        Vec::new()
    }

    /// Directories of this machine out of which it takes files, or into which it puts them, with the keys that say so: the
    /// daemon checks whether the config may.
    fn targets(&self) -> Vec<(&'static str, PathBuf)> {
        Vec::new()
    }

    /// Whether what lies in the pipeline's home has positions that mean the same with this config. A start finds out too; whoever changes a
    /// config asks before.
    fn fits_home(&self) -> Result<()> {
        Ok(())
    }

    /// For callers that know the concrete type.
    fn as_any(&self) -> &dyn Any;
}

/// What a config says of the records' values.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessageHint<'a> {
    /// `json`, `xml` or `csv`; otherwise they are looked at.
    pub format: Option<&'static str>,
    /// The element that a record is.
    pub row_tag: Option<&'a str>,
    /// Before each record stands the first line of its file.
    pub headed: bool,
}

/// Limits of a trigger: a commit where records are read on and on, a run where it is repeated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerTrigger {
    /// Most offsets.
    pub most: Option<u64>,
    /// A repeated run waits for so many offsets …
    pub least: Option<u64>,
    /// … but no longer than this after the last one that read.
    pub delay: Duration,
}

/// One `source.type`.
#[derive(Debug)]
pub struct SourceType {
    pub name: &'static str,
    pub gives: Gives,
    /// The keys that only this source has.
    pub keys: &'static [KeyDef],
    /// Keys with a prefix that are not in a table.
    pub prefixed: Option<Prefixed>,
    /// The default of `trigger`.
    pub trigger: Trigger,
    /// The default of `sink.table`. `None`: the key that it follows from is missing.
    pub table: fn(&Checker<'_>) -> Option<TableName>,
    /// The key that names the topics; each has its table with `sink.table = "${topic}"`. `None`: there are no topics.
    pub topics: Option<&'static str>,
    /// The key that names them by a pattern instead, so that only the system that is read knows them.
    pub pattern: Option<&'static str>,
    /// Checks keys against each other.
    pub check: fn(&mut Checker<'_>),
    /// Builds the config from keys without problems; gets the home of the pipeline. `None` only if a problem was reported.
    pub build: fn(&Checker<'_>, &Home) -> Option<Source>,
}

/// What a source gives to the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gives {
    /// Records, which transforms make into rows.
    Records,
    /// Rows of another pipeline, read in batches.
    Rows,
}

/// Keys under a prefix of ours whose names are not in a table: those of another system, or of columns.
#[derive(Debug)]
pub struct Prefixed {
    pub prefix: &'static str,
    /// What they are, for the schema.
    pub doc: &'static str,
    /// Checks one of them: the key, and its name without the prefix.
    pub check: fn(&mut Checker<'_>, &str, &str, &Entry),
}

/// The checked keys of one `sink.type`.
pub trait SinkConfig: fmt::Debug + Send + Sync {
    /// `sink.type`.
    fn kind(&self) -> &'static str;

    /// For log lines, without secrets: `zone[file:data/raw/orders]`.
    fn describe(&self) -> String;

    /// Tables of the pipeline's [`Home`] that it writes for these topics; no other pipeline may write them. Empty if
    /// rows go elsewhere.
    fn tables(&self, _topics: &[&str]) -> BTreeSet<String> {
        BTreeSet::new()
    }

    /// Looks at what takes the rows, for `weir doctor`, as [`SourceConfig::examine`] does. The home is looked at anyway.
    fn examine(&self, _clock: &Arc<dyn Clock>, _tell: &mut dyn FnMut(Finding)) {}

    /// What its files of rows are; those of other sinks do not matter.
    fn files_of_rows(&self) -> FileFormat {
        FileFormat::Parquet
    }

    /// About how many bytes a task may write to its home before it commits them.
    fn bytes_at_once(&self) -> u64 {
        0
    }

    /// Longest time from the first record of a commit to its entry, unless something is away. Zero: it has none.
    fn commit_age(&self) -> Duration {
        Duration::ZERO
    }

    /// What a rewind cannot take back, in words: rows that another system has. `None`: it takes back all.
    fn sends_again(&self) -> Option<String> {
        None
    }

    /// Whether it writes the bytes of each record beside its rows: then no other column may have the names of those
    /// columns.
    fn keeps_bytes(&self) -> bool {
        false
    }

    /// Values that name files of this machine, with their keys: the daemon looks whether the config may use them.
    fn files(&self) -> Vec<(String, &Text)> {
        Vec::new()
    }

    /// For callers that know the concrete type.
    fn as_any(&self) -> &dyn Any;
}

/// A pipeline's home, and the config of its sink.
pub type BuiltSink = (Home, Arc<dyn SinkConfig>);

/// One `sink.type`.
#[derive(Debug)]
pub struct SinkType {
    pub name: &'static str,
    pub keys: &'static [KeyDef],
    /// Keys with a prefix that are not in a table.
    pub prefixed: Option<Prefixed>,
    /// Keys of every sink that mean nothing to this one.
    pub leaves: &'static [&'static str],
    pub check: fn(&mut Checker<'_>),
    /// Builds the config from keys without problems. `None` only if a problem was reported.
    pub build: fn(&Checker<'_>) -> Option<BuiltSink>,
}

/// All connectors, and the keys that choose among them.
#[derive(Debug)]
pub struct Catalog {
    /// `source.type` and `sink.type`.
    pub types: &'static [KeyDef],
    pub sources: &'static [SourceType],
    pub sinks: &'static [&'static SinkType],
}

impl Catalog {
    /// Every key, in the order of the documentation.
    pub fn keys(&self) -> impl Iterator<Item = &'static KeyDef> {
        let sources = self.sources.iter().flat_map(|source| source.keys);
        let sinks = self.sinks.iter().flat_map(|sink| sink.keys);
        COMMON.iter().chain(self.types).chain(sources).chain(sinks)
    }

    pub fn find(&self, name: &str) -> Option<&'static KeyDef> {
        self.keys().find(|def| def.name == name)
    }

    pub fn source(&self, name: &str) -> Option<&'static SourceType> {
        let mut sources = self.sources.iter();
        sources.find(|source| source.name == name.trim())
    }

    pub fn sink(&self, name: &str) -> Option<&'static SinkType> {
        let mut sinks = self.sinks.iter();
        sinks.find(|sink| sink.name == name.trim()).copied()
    }

    /// The source that a config names; `None`: it names none that exists.
    pub fn source_of(&self, raw: &Raw) -> Option<&'static SourceType> {
        self.source(&raw.get("source.type")?.value.resolve().ok()?)
    }

    /// The sink that a config names, likewise.
    pub fn sink_of(&self, raw: &Raw) -> Option<&'static SinkType> {
        self.sink(&raw.get("sink.type")?.value.resolve().ok()?)
    }

    /// All keys with a prefix, and to whom they belong.
    pub fn all_prefixed(&self) -> impl Iterator<Item = (Scope, &'static Prefixed)> {
        let sources = self.sources.iter();
        let sources = sources.map(|s| (Scope::Source(s.name), s.prefixed.as_ref()));
        let sinks = self.sinks.iter();
        let sinks = sinks.map(|s| (Scope::Sink(s.name), s.prefixed.as_ref()));
        let all = sources.chain(sinks);
        all.filter_map(|(scope, prefixed)| Some((scope, prefixed?)))
    }

    /// The source or sink to which a key with a prefix belongs.
    pub fn prefixed(&self, key: &str) -> Option<(Scope, &'static Prefixed)> {
        self.all_prefixed()
            .find(|(_, prefixed)| key.starts_with(prefixed.prefix))
    }

    /// Whether a key has a meaning for a source and a sink; what is not known takes every key.
    pub fn takes(&self, source: Option<&SourceType>, sink: Option<&SinkType>, key: &str) -> bool {
        let left = sink.is_some_and(|sink| sink.leaves.contains(&key));
        let scope = match (self.find(key), self.prefixed(key)) {
            (Some(def), _) => Some(def.scope),
            (None, prefixed) => prefixed.map(|(scope, _)| scope),
        };
        !left && scope.is_none_or(|scope| scope.takes(source, sink))
    }
}
