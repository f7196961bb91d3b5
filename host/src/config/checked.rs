//! What a config means. These structs are valid: nothing has to be checked again.
//!
//! Made only by the checker (`check.rs`). Strings that reach other people's systems (broker addresses, Kafka properties, plugin
//! keys) stay [`Text`]: they resolve at use. `Debug` of a [`PipelineConfig`] is its canonical map, references unresolved.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::connector::{SinkConfig, SourceConfig};
use super::converters::Converters;
use super::location::Location;
use super::problem::{Place, Problem};
use super::raw::Raw;
use super::text::Text;
use crate::backoff::Backoff;
use crate::cron::Cron;

/// One pipeline: source → transforms → sink.
#[derive(Clone)]
pub struct PipelineConfig {
    pub name: String,
    /// `plugin.path`: directory of `<plugin>.wasm`.
    pub plugin_path: PathBuf,
    /// `plugin.cache`: directory of native images, safe to delete.
    pub plugin_cache: PathBuf,
    /// `plugin.store`: components by digest and the configs they ran with.
    pub plugin_store: PathBuf,
    /// `plugin.retention`: so long what no log names stays in it.
    pub plugin_retention: Duration,
    /// Puts edits of config and files in force while running.
    pub watch: bool,
    pub tasks_max: usize,
    pub trigger: Trigger,
    pub source: Source,
    /// The transforms in the order in which they run. May be empty.
    pub transforms: Vec<TransformConfig>,
    /// `schema.inference`: the transform is found in the first records, and `transforms` is empty.
    pub inference: Option<Inference>,
    pub converters: Converters,
    /// The place of the log and the dead letters, wherever the rows go.
    pub home: Home,
    pub sink: Arc<dyn SinkConfig>,
    pub errors: ErrorsConfig,
    pub limits: Limits,
    /// `retry.*`: waits before a broker or a store that is away is tried again.
    pub retry: Backoff,
    /// `commit.log.retention`
    pub log_retention: Duration,
    pub retention: Retention,
    pub log: LogConfig,
    pub progress: ProgressConfig,
    /// `None`: it was made from a map.
    pub origin: Option<super::Origin>,
    /// What was typed, as a flat map with places. `config show` shows it; it is never interpreted again.
    pub raw: Raw,
}

/// How long data stays in the zone, and what becomes of it then.
#[derive(Clone, Debug)]
pub struct Retention {
    /// `sink.retention`; `None`: rows stay.
    pub rows: Option<Duration>,
    /// `errors.dlq.retention`; `None`: dead letters stay.
    pub dead_letters: Option<Duration>,
    /// `retention.grace`
    pub grace: Duration,
    /// `archive.url` and `archive.store.*`
    pub archive: Option<Location>,
}

/// `schema.sample.*`: how much is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inference {
    pub records: usize,
    pub bytes: usize,
    /// After the first record, where records come on and on.
    pub wait: Duration,
    /// `schema.rest`: the column of what no other column took.
    pub rest: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Reads without end.
    Continuous,
    /// Takes what is there now, commits, ends.
    AvailableNow,
    /// Takes what is there, commits, waits; the time between two starts, above 0.
    Every(Duration),
    /// The same at the times of a schedule; runs that were missed are made up for once.
    Cron(Arc<Cron>),
}

#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one of a pipeline, moved a few times"
)]
pub enum Source {
    /// Records of any system.
    Records(Arc<dyn SourceConfig>),
    Zone(ZoneSourceConfig),
}

/// Where a partition without a committed position begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    Earliest,
    Latest,
    /// First record at or after it; microseconds since 1970 UTC.
    Timestamp(i64),
    /// The committed offset of this consumer group.
    Group(String),
    /// Each partition by itself: all partitions of each topic.
    Offsets(BTreeMap<(String, i32), PartitionStart>),
}

/// Where one partition begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionStart {
    Earliest,
    Latest,
    Offset(i64),
    /// First record at or after it; microseconds since 1970 UTC.
    Timestamp(i64),
}

/// `source.on.type.change`: what happens to a column whose type differs from that in the zone that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTypeChange {
    /// Stop before the first row of the new type.
    Fail,
    /// Give each value the type that the zone has; the conversion must be exact.
    Cast,
    /// Write them to a column of their own, `<name>_<type>`.
    NewColumn,
}

/// Rows of another pipeline's zone, by its log.
#[derive(Clone, Debug)]
pub struct ZoneSourceConfig {
    /// Root of the store.
    pub at: Location,
    /// The pipeline that writes that zone.
    pub pipeline: String,
    /// Name of the zone in that pipeline's log.
    pub zone: String,
    /// The table that is read.
    pub table: String,
    pub on_type_change: OnTypeChange,
    /// The layout of its rows in the zone that is written: `sink.partition.*`, `sink.dedup.*`, `sink.sort`.
    pub layout: ProcessedZoneConfig,
    /// `spill.dir`: where rows of a batch are laid aside that do not fit into memory.
    pub spill_dir: PathBuf,
    pub spill_max_bytes: u64,
}

#[derive(Clone)]
pub struct TransformConfig {
    /// Its name in this pipeline.
    pub name: String,
    pub plugin: PluginRef,
    /// The plugin's own keys, flat, as typed. The plugin's schema says which are files, secrets, numbers.
    pub config: BTreeMap<String, Text>,
}

/// `name`, `name@0.1`, `name@0.1.2`, `name@sha256:…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRef {
    pub name: String,
    pub pin: Pin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    Any,
    /// Leading parts of the version: `0.1` matches 0.1.0 and 0.1.7, not 0.10.0.
    Version(Vec<u64>),
    /// `sha256:` and 64 lower-case hex digits (or a prefix of at least 12).
    Digest(String),
}

/// The zone in which a pipeline keeps its commit log and its dead letters. A sink whose rows are files writes them there too.
#[derive(Clone, Debug)]
pub struct Home {
    /// The key that names it, for messages.
    pub key: &'static str,
    /// Root of the store.
    pub at: Location,
    /// Names the log: `_system/<pipeline>/<zone>/`.
    pub zone: String,
    pub compression: Compression,
    pub encodings: Encodings,
    pub row_group_bytes: usize,
}

/// `sink.table`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableName {
    /// `${topic}`: one table per topic.
    PerTopic,
    Fixed(String),
}

impl TableName {
    /// The table of a topic's rows.
    pub fn of<'a>(&'a self, topic: &'a str) -> &'a str {
        match self {
            TableName::PerTopic => topic,
            TableName::Fixed(name) => name,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Snappy,
    /// As Parquet's `LZ4_RAW`: the older `LZ4` has two forms that readers tell apart by trying.
    Lz4,
    /// 1..=9
    Gzip(u32),
    /// 1..=22
    Zstd(i32),
}

/// `sink.encodings`: of values that no dictionary holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encodings {
    /// Differences and lengths: `DELTA_BINARY_PACKED`, `DELTA_LENGTH_BYTE_ARRAY`.
    Packed,
    /// As the first readers of Parquet read them.
    Plain,
}

/// How one column is written, where it differs from the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColumnFormat {
    pub compression: Option<Compression>,
    pub bloom: Option<Bloom>,
}

/// A bloom filter for each row group of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bloom {
    /// Of a million values that are not there, so many seem to be.
    pub false_positives: u32,
    /// Distinct values for which there is room; decides the memory while a row group is written.
    pub values: u64,
}

/// A column by which rows are sorted. Ascending has nulls first, descending has them last, as in Spark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortBy {
    pub column: String,
    pub descending: bool,
}

/// A file closes, and commits, when the first of these is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotate {
    /// Bytes of the largest file, by estimate of its encoded size.
    pub bytes: u64,
    /// Time since the first offset was covered.
    pub age: Duration,
    /// Rows and dead letters of all files.
    pub rows: Option<u64>,
}

/// Rows with the same values in these columns lie in files of the same number, as in a bucketed table of Spark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub columns: Vec<String>,
    pub count: u32,
}

/// The order of rows in a file of PROCESSED: as configured, or by the key.
pub fn order_of(sort: &[SortBy], key: &[String]) -> Vec<SortBy> {
    let ascending = |column: &String| SortBy {
        column: column.clone(),
        descending: false,
    };
    match sort.is_empty() {
        true => key.iter().map(ascending).collect(),
        false => sort.to_vec(),
    }
}

/// When small files of a zone become large ones, and which (`sink.compact.*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compact {
    /// Time between two passes while the pipeline runs. `None`: only by hand.
    pub every: Option<Duration>,
    pub min_files: usize,
    pub target_bytes: u64,
}

#[derive(Clone, Debug)]
pub struct ProcessedZoneConfig {
    /// Column whose value decides the partition.
    pub partition_field: String,
    /// strftime of a date or timestamp: `%Y-%m-%d`, `%Y-%m`, `%Y`.
    pub partition_format: String,
    /// Directory name: `<partition_name>=<value>/`. Differs from every field named here.
    pub partition_name: String,
    /// Empty: no deduplication. Otherwise the first row per key wins.
    pub dedup_key: Vec<String>,
    /// Also look for the key in the partitions within this many days of the touched ones.
    pub dedup_lookback_days: u32,
    /// Order inside files; empty: log order.
    pub sort: Vec<SortBy>,
}

#[derive(Clone, Debug)]
pub struct ErrorsConfig {
    pub tolerance: Tolerance,
    pub unit: Unit,
    /// Table of the dead letters, in the sink's zone.
    pub dlq_table: String,
    /// Topic that they go on into.
    pub dlq_topic: Option<String>,
    /// There with headers `__connect.errors.*`.
    pub dlq_context: bool,
    /// `None`: any number may be refused.
    pub max: Option<ErrorsMax>,
}

/// `errors.max.*`: how many records may be refused, and what happens above that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorsMax {
    /// Millionths of the records of a window.
    pub rate: Option<u32>,
    /// Records of a window.
    pub count: Option<u64>,
    pub window: Duration,
    /// Below so many records in the window the rate says nothing.
    pub min_records: u64,
    /// Rules that are in force for longer are not taken back.
    pub probation: Duration,
    pub action: OnTooMany,
}

/// `errors.max.action`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTooMany {
    Warn,
    Pause,
    Rollback,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tolerance {
    /// The first refused piece stops the pipeline.
    None,
    /// Refused pieces become dead letters.
    All,
}

/// What is refused because of one bad piece (`errors.unit`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Only the piece; the other pieces of the record stay.
    Row,
    /// The whole record.
    Record,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Records per call of the chain.
    pub batch_rows: usize,
    /// Bytes of keys and values per call of the chain.
    pub batch_bytes: usize,
    /// Memory that batches, open files and Kafka's queues of all tasks may use together.
    pub memory_budget: usize,
    /// Longest time from SIGTERM to the last commit.
    pub shutdown_timeout: Duration,
    pub plugin: PluginLimits,
}

/// Limits of one instance of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluginLimits {
    pub memory: usize,
    /// One call of `run`.
    pub deadline: Duration,
    pub init_deadline: Duration,
    pub output_bytes: usize,
}

/// What is kept of the progress of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgressConfig {
    /// Newest commits whose progress stays in memory.
    pub recent: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    pub format: LogFormat,
    /// `error|warn|info|debug|trace`, or tracing's `target=level` list.
    pub level: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl PipelineConfig {
    /// The canonical map: with `connector.class=weir`, references unresolved, defaults not filled in.
    pub fn canonical(&self) -> BTreeMap<String, String> {
        self.raw.canonical()
    }

    /// Where a key was typed; the file's first line if it was not.
    pub fn place(&self, key: &str) -> Place {
        self.raw.place(key)
    }

    /// What files and references the config may use.
    pub fn reach(&self) -> &super::Reach {
        self.raw.reach()
    }

    /// A problem that is found later, for instance by a plugin, at the place of its key.
    pub fn problem(&self, key: &str, code: &'static str, message: impl Into<String>) -> Problem {
        Problem::new(self.place(key), key, code, message)
    }

    /// Problems for all references that cannot be resolved on this machine.
    pub fn unresolved(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (key, entry) in self.raw.iter() {
            if let Err(error) = entry.value.resolve() {
                let message = format!("`{key}`: {}", error.message());
                let mut problem = self.problem(key, super::problem::UNRESOLVED, message);
                problem.hint = error.hint_text().map(str::to_owned);
                problems.push(problem);
            }
        }
        problems
    }

    /// What is read; for log lines.
    pub fn source_description(&self) -> String {
        match &self.source {
            Source::Records(records) => records.describe(),
            Source::Zone(zone) => format!("zone[{}/{}]", zone.at.url, zone.table),
        }
    }

    /// Where the rows go; for log lines.
    pub fn sink_description(&self) -> String {
        self.sink.describe()
    }

    /// What the sink names tables after: the topics of records, the table of a zone that is read.
    pub fn topics(&self) -> Vec<&str> {
        match &self.source {
            Source::Records(records) => records.topics().iter().map(String::as_str).collect(),
            Source::Zone(zone) => vec![&zone.table],
        }
    }

    /// Every table of its home that it writes, including that of dead letters, as far as the config names the topics.
    pub fn tables(&self) -> BTreeSet<String> {
        self.tables_of(&self.topics())
    }

    /// The same, without the table of dead letters where nothing can be refused: rows of a zone without transforms.
    pub fn tables_needed(&self) -> BTreeSet<String> {
        match &self.source {
            Source::Zone(_) if self.transforms.is_empty() => self.sink.tables(&self.topics()),
            _ => self.tables(),
        }
    }

    /// The same where these topics are read.
    pub fn tables_of(&self, topics: &[&str]) -> BTreeSet<String> {
        let mut tables = self.sink.tables(topics);
        tables.insert(self.errors.dlq_table.clone());
        tables
    }

    /// Whether it writes this table if there is a topic of its name.
    pub fn may_write(&self, table: &str) -> bool {
        match &self.source {
            Source::Records(records) => {
                records.reads(table) && self.sink.tables(&[table]).contains(table)
            }
            Source::Zone(_) => false,
        }
    }
}

impl fmt::Debug for PipelineConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.canonical()).finish()
    }
}

impl fmt::Debug for TransformConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {:?} {:?}", self.name, self.plugin, self.config)
    }
}

impl fmt::Display for PluginRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.pin {
            Pin::Any => Ok(()),
            Pin::Digest(digest) => write!(f, "@{digest}"),
            Pin::Version(parts) => {
                let parts: Vec<String> = parts.iter().map(u64::to_string).collect();
                write!(f, "@{}", parts.join("."))
            }
        }
    }
}

impl Pin {
    /// Whether a component of this version and digest (`sha256:…`) matches.
    pub fn takes(&self, version: &str, digest: &str) -> bool {
        match self {
            Pin::Any => true,
            Pin::Digest(wanted) => digest.starts_with(wanted),
            Pin::Version(parts) => {
                let core = version.split(['-', '+']).next().unwrap_or(version);
                let found: Vec<Option<u64>> = core.split('.').map(|p| p.parse().ok()).collect();
                parts.len() <= found.len()
                    && parts
                        .iter()
                        .zip(&found)
                        .all(|(want, got)| Some(*want) == *got)
            }
        }
    }
}

fn timestamp(micros: i64) -> String {
    match crate::instant::civil(micros) {
        Some(time) => format!("timestamp:{time}Z"),
        None => format!("timestamp:{micros}us"),
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Start::Earliest => f.write_str("earliest"),
            Start::Latest => f.write_str("latest"),
            Start::Timestamp(micros) => f.write_str(&timestamp(*micros)),
            Start::Group(group) => write!(f, "group:{group}"),
            Start::Offsets(offsets) => {
                let each = offsets.iter().map(|((topic, partition), at)| match at {
                    PartitionStart::Earliest => format!("{topic}/{partition}=earliest"),
                    PartitionStart::Latest => format!("{topic}/{partition}=latest"),
                    PartitionStart::Offset(at) => format!("{topic}/{partition}={at}"),
                    PartitionStart::Timestamp(micros) => {
                        format!("{topic}/{partition}={}", timestamp(*micros))
                    }
                });
                write!(f, "offsets:{}", each.collect::<Vec<_>>().join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_pin_takes_by_parts() {
        let pin = Pin::Version(vec![0, 1]);
        for (version, takes) in [
            ("0.1.0", true),
            ("0.1.7-rc1", true),
            ("0.10.0", false),
            ("0", false),
        ] {
            assert_eq!(pin.takes(version, ""), takes, "{version}");
        }
        assert!(Pin::Digest("sha256:abcdefabcdef".into()).takes("9", "sha256:abcdefabcdef00"));
    }
}
