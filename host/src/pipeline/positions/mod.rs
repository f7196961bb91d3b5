//! Shows and changes the positions of a pipeline that does not run.
//!
//! Back: a `rewind` entry to the nearest commit boundary (end of a commit) at or below the wanted offset; rows and dead
//! letters from there on leave the zone, and their records are read again at the next start. Forward: a `gap` entry;
//! the skipped range counts as lost. A partition that was never read is pinned there (`handover`). Nothing is written
//! before all of the request was found possible. If the pipeline runs after all, it meets the new epoch at its next
//! commit and goes on at the log's positions.

pub(super) mod handover;
mod records;
pub(super) mod rewind;
mod running;
mod zone;

pub use running::running;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::rewind::By;
use crate::clock::Clock;
use crate::commit::{Draft, Log, LogName, Outcome, SplitState, State, Writer};
use crate::config::{Location, PipelineConfig, Source, ZoneSourceConfig};
use crate::error::{Error, Kind, Remedy, Result};
use crate::plugin::Plugins;
use crate::record::SplitId;
use crate::store;

const OP: &str = "pipeline.offsets";
/// Why a pipeline cannot go back as far as it was asked to.
const FORGOTTEN: &str = "commit.log.retention says how long commits can be taken back; to read older records again, give the pipeline another name and another table";
/// The same where rows have left by their age.
const EXPIRED: &str = "sink.retention says how long rows stay, errors.dlq.retention how long dead letters do; what expired can neither be taken back nor be read again from this zone";

/// How far one partition was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Position {
    #[schemars(with = "String")]
    pub split: SplitId,
    pub topic: String,
    pub partition: i32,
    /// Where reading began.
    pub start: i64,
    /// Next offset to read.
    pub to: i64,
}

impl Position {
    fn of(id: &SplitId, split: &SplitState) -> Position {
        Position {
            split: id.clone(),
            topic: split.topic.clone(),
            partition: split.partition,
            start: split.start(),
            to: split.to,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Offset(i64),
    /// Where reading began.
    Start,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewindTarget {
    pub topic: String,
    pub partition: i32,
    pub to: To,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Moved {
    pub topic: String,
    pub partition: i32,
    pub from: i64,
    pub asked: i64,
    /// The commit boundary at or below `asked`; for a pipeline that reads a zone, one of all partitions together.
    pub to: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Altered {
    /// Version of the last entry that was written. `None`: a dry run, or nothing to do.
    pub version: Option<u64>,
    /// Partitions whose position changed, or would change.
    pub moved: Vec<Moved>,
}

/// Read from the log, whether the pipeline runs or not. Empty if there is no log.
pub fn of(config: &PipelineConfig) -> Result<Vec<Position>> {
    let clock = crate::clock::SystemClock::shared();
    let Some(log) = open(&config.home.at, &config.name, &config.home.zone, &clock)? else {
        return Ok(Vec::new());
    };
    Ok(of_state(log.state()))
}

/// The position of each partition in a state. If a topic was created anew, only its newest partitions.
pub fn of_state(state: &State) -> Vec<Position> {
    let newest = newest_splits(state).into_values();
    let at = newest.filter_map(|id| Some(Position::of(&id, state.splits.get(&id)?)));
    at.collect()
}

/// The same for all partitions that were ever read.
pub fn all(state: &State) -> Vec<Position> {
    let splits = state.splits.iter();
    splits.map(|(id, split)| Position::of(id, split)).collect()
}

/// The split of a topic's name that was opened last: a recreated topic has several.
fn newest_splits(state: &State) -> BTreeMap<(String, i32), SplitId> {
    let mut newest: BTreeMap<(String, i32), (u64, SplitId)> = BTreeMap::new();
    for (id, split) in &state.splits {
        let opened = split.opened;
        let of = newest
            .entry((split.topic.clone(), split.partition))
            .or_insert_with(|| (opened, id.clone()));
        if opened > of.0 {
            *of = (opened, id.clone());
        }
    }
    newest.into_iter().map(|(at, (_, id))| (at, id)).collect()
}

/// Who asks, and how the request is to be carried out.
pub struct Order<'a> {
    pub actor: &'a str,
    pub reason: &'a str,
    /// Only says what would change; writes nothing.
    pub dry_run: bool,
    /// Exactly there or not at all: refuses to take a lower commit boundary instead.
    pub exact: bool,
    /// Needed if the log is begun here.
    pub plugins: &'a dyn Fn() -> Result<Plugins>,
}

impl fmt::Debug for Order<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Order {
            actor,
            reason,
            dry_run,
            exact,
            ..
        } = self;
        write!(
            f,
            "Order({actor}, {reason:?}, dry_run {dry_run}, exact {exact})"
        )
    }
}

/// Moves the positions of partitions. One that was never read will begin there, even before the pipeline first ran.
pub fn alter(
    config: &PipelineConfig,
    clock: &Arc<dyn Clock>,
    wanted: &[RewindTarget],
    order: &Order<'_>,
) -> Result<Altered> {
    let mut seen = BTreeSet::new();
    for RewindTarget {
        topic,
        partition,
        to,
    } in wanted
    {
        let at = format!("{topic}/{partition}");
        if !seen.insert(at.clone()) {
            return Err(bad("a partition is named twice").with("partition", at));
        }
        if let To::Offset(offset) = to
            && *offset < 0
        {
            return Err(
                bad(format!("an offset is 0 or more, found {offset}")).with("partition", at)
            );
        }
    }
    let log = open(&config.home.at, &config.name, &config.home.zone, clock)?;
    match &config.source {
        Source::Records(source) => {
            records::alter((config, source.as_ref()), clock, log, wanted, order)
        }
        Source::Zone(zone) => {
            let mut log = log.ok_or_else(|| {
                bad(format!(
                    "pipeline '{}' has not read anything yet",
                    config.name
                ))
                .with("store", &config.home.at.url)
                .hint("start it once: it begins where the zone's readers begin")
            })?;
            let input = open(&zone.at, &zone.pipeline, &zone.zone, clock)?.ok_or_else(|| {
                let ZoneSourceConfig { pipeline, at, .. } = zone;
                bad(format!("pipeline '{pipeline}' has no log in {}", at.url))
            })?;
            let table = &zone.table;
            zone::alter(config, (input, table), &mut log, wanted, order)
        }
    }
}

/// Moves every partition back to where reading began.
pub fn reset(
    config: &PipelineConfig,
    clock: &Arc<dyn Clock>,
    order: &Order<'_>,
) -> Result<Altered> {
    let all = of(config)?;
    if all.is_empty() {
        return Ok(Altered {
            version: None,
            moved: Vec::new(),
        });
    }
    let named = |topic: &str| match &config.source {
        Source::Records(source) => source.reads(topic),
        Source::Zone(_) => true,
    };
    let all = all.into_iter().filter(|at| named(&at.topic));
    let wanted: Vec<RewindTarget> = all
        .map(|at| RewindTarget {
            topic: at.topic,
            partition: at.partition,
            to: To::Start,
        })
        .collect();
    alter(config, clock, &wanted, order)
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(Kind::ConfigInvalid, OP, message)
}

fn open(at: &Location, pipeline: &str, zone: &str, clock: &Arc<dyn Clock>) -> Result<Option<Log>> {
    let Some(store) = store::open_existing(at)? else {
        return Ok(None);
    };
    let writer = Writer::this_process(clock.as_ref());
    Log::open(store, LogName::new(pipeline, zone), clock.clone(), writer)
}

/// Tries once, because a command does not wait for a store: an unsettled attempt is given up, and the error says so.
fn once(log: &mut Log, draft: Draft) -> Result<Outcome> {
    match log.commit(draft) {
        Err(error) if error.remedy() == Remedy::Retry => match log.leave()? {
            Some(outcome @ Outcome::Committed { .. }) => Ok(outcome),
            _ => Err(error),
        },
        done => done,
    }
}

impl Order<'_> {
    fn by(&self) -> By {
        By {
            actor: self.actor.to_owned(),
            reason: self.reason.to_owned(),
        }
    }
}
