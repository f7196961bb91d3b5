//! Small files of closed partitions become large ones (docs/protocol.md §9, docs/file-size.md).
//!
//! ```text
//! raise the horizon → plan → for each group: merge as a stream → durable → `compact` entry → inputs go, the new file comes (P3)
//! ```
//! Any process may do it, beside the pipeline or without it: an input that another entry removed meanwhile makes the entry
//! invalid (V5), and the new file is collected. Rows keep their coordinates, so readers of the log notice nothing.

mod plan;
mod schedule;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use plan::{Group, Held, Plan, plan};
pub use schedule::begin;

use super::start::limits;
use crate::clock::Clock;
use crate::commit::{AddedFile, Draft, Log, LogName, Outcome, Role, Writer};
use crate::config::{PipelineConfig, SortBy, Source, order_of};
use crate::connectors::zone::{self, parquet_options};
use crate::error::{Error, Kind, Remedy, Result};
use crate::record::SplitId;
use crate::store;
use crate::zone::{Merge, ParquetOptions, PartitionBy, is_parquet};

const OP: &str = "zone.compact";

/// One part of the memory budget is for the row groups of inputs.
const MEMORY_SHARE: u64 = 2;

/// What to merge, and how.
#[derive(Clone, Debug)]
pub struct Options {
    pub min_files: usize,
    pub target_bytes: u64,
    pub sort: Vec<SortBy>,
    pub parquet: ParquetOptions,
    /// Dead letters too.
    pub letters: bool,
    /// Only directories with this text in their path.
    pub partition: Option<String>,
    /// Dates within so many days are still searched for keys.
    pub lookback: Option<(PartitionBy, u32)>,
    /// Rows and dead letters expire after so long: files with rows of very different ages are not merged, or the old ones would stay
    /// as long as the young ones.
    pub retention: (Option<Duration>, Option<Duration>),
    /// The log that the pipeline reads: this zone goes back where that one goes back.
    pub reads: Option<String>,
    /// Bytes of row groups in memory.
    pub memory: u64,
}

impl Options {
    /// As the config of a pipeline says. An error where its rows are no files.
    pub fn of(config: &PipelineConfig) -> Result<Options> {
        let sink = zone::sink(config)?;
        let (sort, lookback) = match &config.source {
            Source::Zone(source) => {
                let layout = &source.layout;
                let by = super::batch::partition_by(layout)?;
                let sort = order_of(&layout.sort, &layout.dedup_key);
                (sort, Some((by, layout.dedup_lookback_days)))
            }
            Source::Records(_) => (sink.sort().to_vec(), None),
        };
        Ok(Options {
            min_files: sink.compact.min_files,
            target_bytes: sink.compact.target_bytes,
            sort,
            parquet: parquet_options(config),
            letters: false,
            partition: None,
            lookback,
            retention: (config.retention.rows, config.retention.dead_letters),
            reads: match &config.source {
                Source::Zone(source) => {
                    Some(LogName::new(&source.pipeline, &source.zone).to_string())
                }
                Source::Records(_) => None,
            },
            memory: config.limits.memory_budget as u64 / MEMORY_SHARE,
        })
    }

    fn takes(&self, file: &AddedFile) -> bool {
        let role = match file.role {
            Role::Rows => true,
            Role::DeadLetters => self.letters,
            Role::Keys => false,
        };
        let wanted = |part: &String| plan::directory(file).contains(part.as_str());
        role && is_parquet(&file.path) && self.partition.as_ref().is_none_or(wanted)
    }
}

/// One group that was merged, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Compacted {
    pub directory: String,
    pub rows: u64,
    /// Files and bytes before.
    pub files: u64,
    pub bytes: u64,
    /// After; bytes are absent in a dry run.
    pub files_after: u64,
    pub bytes_after: Option<u64>,
    /// Version of the entry. `None`: a dry run.
    pub version: Option<u64>,
    /// Milliseconds in which a lister saw neither the inputs nor the new file.
    pub gap_ms: Option<u64>,
}

/// What a compaction did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    pub compacted: Vec<Compacted>,
    /// Small files that stay, by reason.
    pub held: BTreeMap<String, Held>,
    /// Groups that could not be merged: what is wrong with them.
    pub failed: Vec<String>,
}

/// Opens the log of a pipeline's zone for writing, beside the pipeline. `None`: it has none yet.
pub fn open(config: &PipelineConfig, clock: &Arc<dyn Clock>) -> Result<Option<Log>> {
    let Some(store) = store::open_existing(&config.home.at)? else {
        return Ok(None);
    };
    let name = LogName::new(&config.name, &config.home.zone);
    let writer = Writer::this_process(clock.as_ref());
    let log = Log::open(store, name, clock.clone(), writer)?;
    Ok(log.map(|log| log.with_limits(limits(config))))
}

/// Positions to which the zone must be able to go back, because the log that it reads may ask for it. An error where that log
/// cannot be read: then nothing may be forgotten.
pub fn held(
    config: &PipelineConfig,
    clock: &Arc<dyn Clock>,
) -> Result<Option<BTreeMap<SplitId, i64>>> {
    let Source::Zone(source) = &config.source else {
        return Ok(None);
    };
    let missing = || {
        let message = format!(
            "pipeline '{}' has no log in {}: how far back this zone must be able to go, only that log says",
            source.pipeline, source.at.url
        );
        Error::new(Kind::SourceUnavailable, OP, message)
            .hint("source.url, source.pipeline and source.zone must name the zone that is read")
    };
    let store = store::open_existing(&source.at)?.ok_or_else(missing)?;
    let name = LogName::new(&source.pipeline, &source.zone);
    let writer = Writer::this_process(clock.as_ref());
    let input = Log::open(store, name, clock.clone(), writer)?.ok_or_else(missing)?;
    let own = LogName::new(&config.name, &config.home.zone).to_string();
    Ok(input.state().oldest_cut(&own).cloned())
}

/// What may be done again after a fault that passes.
pub type Attempt<'a> = &'a mut dyn FnMut() -> Result<()>;

/// How a compaction waits and ends: the caller decides.
pub struct Calls<'a> {
    /// Asked between two pieces of work; an error ends the compaction.
    pub go_on: &'a mut dyn FnMut() -> Result<()>,
    /// Commits, and waits as long as it takes.
    pub commit: &'a mut dyn FnMut(&mut Log, Draft) -> Result<Outcome>,
    /// Repeats what fails for a passing reason.
    pub retry: &'a mut dyn FnMut(Attempt<'_>) -> Result<()>,
}

impl std::fmt::Debug for Calls<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}

/// What would be done now. Writes nothing, so the horizon stays where it is; `raised`: the version to which it would rise.
pub fn dry_run(log: &Log, held: Option<&BTreeMap<SplitId, i64>>, options: &Options) -> Report {
    let mut state = log.state().clone();
    if let Some(raised) = log.forgettable_now(held) {
        state.horizon = raised;
    }
    let plan = plan(&state, log.now_micros(), options);
    let would = |group: &Group| Compacted {
        directory: group.directory().to_owned(),
        rows: group.rows(),
        files: group.inputs.len() as u64,
        bytes: group.bytes(),
        files_after: 1,
        bytes_after: None,
        version: None,
        gap_ms: None,
    };
    Report {
        compacted: plan.groups.iter().map(would).collect(),
        held: plan.held,
        failed: Vec::new(),
    }
}

/// Merges all groups of the newest state. A group that cannot be merged is named, and the others go on.
pub fn run(
    log: &mut Log,
    held: Option<&BTreeMap<SplitId, i64>>,
    options: &Options,
    calls: &mut Calls<'_>,
) -> Result<Report> {
    (calls.retry)(&mut || log.refresh())?;
    raise(log, held, calls)?;
    let plan = plan(log.state(), log.now_micros(), options);
    let mut report = Report {
        held: plan.held,
        ..Report::default()
    };
    for group in plan.groups {
        (calls.go_on)()?;
        match compact(log, &group, options, calls) {
            Ok(done) => report.compacted.extend(done),
            Err(error) if error.remedy() == Remedy::Retry => return Err(error),
            Err(error) if error.kind() == Kind::Stopped => return Err(error),
            Err(error) => {
                tracing::warn!(directory = group.directory(), %error, "files could not be merged; they stay as they are");
                report
                    .failed
                    .push(format!("{}: {error}", group.directory()));
            }
        }
    }
    Ok(report)
}

/// Only what lies at or below the horizon may be merged (V14), and it rises in steps of many versions by itself.
fn raise(
    log: &mut Log,
    held: Option<&BTreeMap<SplitId, i64>>,
    calls: &mut Calls<'_>,
) -> Result<()> {
    // Deliveries are finished by the pipeline alone; it raises the horizon then.
    if !log.state().delivered.is_empty() {
        return Ok(());
    }
    let Some(version) = log.forgettable_now(held) else {
        return Ok(());
    };
    (calls.retry)(&mut || log.redo())?;
    match (calls.commit)(log, Draft::Horizon(version))? {
        // Another process was first.
        Outcome::Committed { .. } | Outcome::Lost { .. } => Ok(()),
    }
}

/// `None`: another entry removed an input meanwhile.
fn compact(
    log: &mut Log,
    group: &Group,
    options: &Options,
    calls: &mut Calls<'_>,
) -> Result<Option<Compacted>> {
    (calls.retry)(&mut || log.refresh())?;
    (calls.retry)(&mut || log.make_readable())?;
    let files = group.inputs.iter();
    let ids = files.flat_map(|(rows, keys)| std::iter::once(rows).chain(keys));
    let remove: Vec<String> = ids.map(|file| file.id.clone()).collect();
    let all_live = |log: &Log| remove.iter().all(|id| log.state().live.contains_key(id));
    if !all_live(log) {
        return Ok(None);
    }
    let base = log.version();
    let merge = Merge {
        store: log.store(),
        name: log.name(),
        parquet: &options.parquet,
        sort: &options.sort,
        memory: options.memory,
    };
    let mut made = Vec::new();
    let merged = merge.write(&group.inputs, calls.go_on, &mut made);
    if merged.is_err() && !made.is_empty() {
        (calls.commit)(log, Draft::Gc(made.clone()))?;
    }
    let merged = match merged {
        Err(error) if error.kind() == Kind::LogCorrupt => {
            (calls.retry)(&mut || log.refresh())?;
            return if all_live(log) { Err(error) } else { Ok(None) };
        }
        merged => merged?,
    };
    let bytes = merged.rows.bytes;
    let add: Vec<AddedFile> = std::iter::once(merged.rows).chain(merged.keys).collect();
    let committed = match (calls.commit)(log, Draft::Compact { remove, add, base })? {
        Outcome::Committed { committed, .. } => committed,
        Outcome::Lost { dropped } => {
            let why = dropped.first().map(|part| part.reason.to_string());
            tracing::info!(
                directory = group.directory(),
                why,
                "another process was first; nothing was merged"
            );
            (calls.commit)(log, Draft::Gc(made))?;
            return Ok(None);
        }
    };
    let begun = log.elapsed();
    (calls.retry)(&mut || log.publish(&committed))?;
    let gap = log.elapsed().saturating_sub(begun);
    let done = Compacted {
        directory: group.directory().to_owned(),
        rows: group.rows(),
        files: group.inputs.len() as u64,
        bytes: group.bytes(),
        files_after: 1,
        bytes_after: Some(bytes),
        version: Some(committed.version),
        gap_ms: Some(millis(gap)),
    };
    tracing::info!(
        log = %log.name(), directory = done.directory, version = committed.version, files = done.files, rows = done.rows,
        bytes = done.bytes, bytes_after = bytes, "compacted"
    );
    Ok(Some(done))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// For commands: an error where a pipeline has no rows in files.
pub fn options_of(config: &PipelineConfig) -> Result<Options> {
    Options::of(config).map_err(|error| {
        Error::new(Kind::ConfigInvalid, OP, error.message().to_owned())
            .hint("only files of a zone can be merged: sink.type = \"zone\"")
    })
}
