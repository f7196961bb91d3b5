//! Where a pipeline that does not run stands, and putting it elsewhere.
//!
//! Back: a `rewind` entry to the nearest border (end of a commit) at or below the wanted offset; rows and dead letters from
//! there on leave the zone, and are read again at the next start. Forward: a `gap` entry; the skipped range counts as lost.
//! A partition that was never read is pinned there ([`super::handover`]). Nothing is written before all of it was found possible. A pipeline that runs all the same meets the new epoch at its next
//! commit and goes on at the log's positions.

mod zone;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::committer::{gap, position};
use super::handover;
use super::rewind::{self, By};
use crate::clock::Clock;
use crate::commit::{Draft, Log, LogName, Outcome, State, Writer};
use crate::config::{PipelineConfig, Source, ZoneSourceConfig};
use crate::connectors::zone::parquet_options;
use crate::error::{Error, Kind, Remedy, Result};
use crate::plugin::Plugins;
use crate::record::ChainId;
use crate::source::{Connector, PartitionInfo, SourceConfig, TopicInfo};
use crate::store;

/// For whoever is told of the new positions: lag tools, which read Kafka's group offsets.
const ACKNOWLEDGE_WAIT: Duration = Duration::from_secs(5);

const OP: &str = "pipeline.offsets";

/// Of one partition: where reading began, and the next offset to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub topic: String,
    pub partition: i32,
    pub start: i64,
    pub to: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Offset(i64),
    /// Where reading began.
    Start,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub topic: String,
    pub partition: i32,
    pub to: To,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    pub topic: String,
    pub partition: i32,
    pub from: i64,
    pub asked: i64,
    /// The border at or below `asked`; for a pipeline that reads a zone, of all partitions together.
    pub to: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Altered {
    /// Of the last entry that was written. `None`: a dry run, or nothing to do.
    pub version: Option<u64>,
    /// Partitions that stand elsewhere now, or would.
    pub moved: Vec<Moved>,
}

/// From the log, whatever state the pipeline is in. Empty where there is none.
pub fn offsets(config: &PipelineConfig) -> Result<Vec<Position>> {
    let clock = crate::clock::SystemClock::shared();
    let Some(log) = open(&config.sink.url, &config.name, &config.sink.zone, &clock)? else {
        return Ok(Vec::new());
    };
    Ok(positions(log.state()))
}

/// What a state says of each partition.
pub fn positions(state: &State) -> Vec<Position> {
    let of_names = newest_chains(state);
    let positions = of_names.into_iter().filter_map(|((topic, partition), id)| {
        let chain = state.chains.get(&id)?;
        Some(Position {
            topic,
            partition,
            start: chain.start(),
            to: chain.to,
        })
    });
    positions.collect()
}

/// The chain of a topic's name that was opened last: a recreated topic has several.
fn newest_chains(state: &State) -> BTreeMap<(String, i32), ChainId> {
    let mut newest: BTreeMap<(String, i32), (u64, ChainId)> = BTreeMap::new();
    for (id, chain) in &state.chains {
        let opened = chain.borders.first().map_or(0, |b| b.version);
        let of = newest
            .entry((chain.topic.clone(), chain.partition))
            .or_insert_with(|| (opened, id.clone()));
        if opened > of.0 {
            *of = (opened, id.clone());
        }
    }
    newest.into_iter().map(|(at, (_, id))| (at, id)).collect()
}

/// Who asks, and how it is meant.
pub struct Order<'a> {
    pub actor: &'a str,
    pub reason: &'a str,
    /// Says what would become of it and writes nothing.
    pub dry_run: bool,
    /// Exactly there or not at all: no border below.
    pub exact: bool,
    /// For a log that is begun here.
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

/// Puts partitions elsewhere. One that was never read begins there, though nothing has run yet.
pub fn alter(
    config: &PipelineConfig,
    clock: &Arc<dyn Clock>,
    wanted: &[Wanted],
    order: &Order<'_>,
) -> Result<Altered> {
    let mut seen = BTreeSet::new();
    for Wanted {
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
    let log = open(&config.sink.url, &config.name, &config.sink.zone, clock)?;
    match &config.source {
        Source::Kafka(kafka) => alter_records((config, kafka), clock, log, wanted, order),
        Source::Zone(zone) => {
            let mut log = log.ok_or_else(|| {
                bad(format!(
                    "pipeline '{}' has not read anything yet",
                    config.name
                ))
                .with("store", &config.sink.url)
                .hint("start it once: it begins where the zone's readers begin")
            })?;
            let input = open(&zone.url, &zone.pipeline, &zone.zone, clock)?.ok_or_else(|| {
                let ZoneSourceConfig { pipeline, url, .. } = zone;
                bad(format!("pipeline '{pipeline}' has no log in {url}"))
            })?;
            let table = &zone.table;
            zone::alter(config, (input, table), &mut log, wanted, order)
        }
    }
}

/// Every partition back to where reading began.
pub fn reset(
    config: &PipelineConfig,
    clock: &Arc<dyn Clock>,
    order: &Order<'_>,
) -> Result<Altered> {
    let all = offsets(config)?;
    if all.is_empty() {
        return Ok(Altered {
            version: None,
            moved: Vec::new(),
        });
    }
    let named = |topic: &str| match &config.source {
        Source::Kafka(kafka) => kafka.topics.iter().any(|t| t == topic),
        Source::Zone(_) => true,
    };
    let all = all.into_iter().filter(|at| named(&at.topic));
    let wanted: Vec<Wanted> = all
        .map(|at| Wanted {
            topic: at.topic,
            partition: at.partition,
            to: To::Start,
        })
        .collect();
    alter(config, clock, &wanted, order)
}

/// The process on this machine that wrote the newest entry, where it is alive: the pipeline runs, most likely. A hint for
/// people; that two writers do no harm is the log's business.
pub fn running(config: &PipelineConfig) -> Result<Option<String>> {
    let clock = crate::clock::SystemClock::shared();
    let log = open(&config.sink.url, &config.name, &config.sink.zone, &clock)?;
    let Some(writer) = log.as_ref().and_then(|log| log.state().last_writer()) else {
        return Ok(None);
    };
    let own = Writer::this_process(clock.as_ref()).id;
    let split = |id: &str| {
        id.rsplit_once(':')
            .map(|(host, pid)| (host.to_owned(), pid.to_owned()))
    };
    let (Some((here, me)), Some((host, pid))) = (split(&own), split(&writer.id)) else {
        return Ok(None);
    };
    // A process id is given out again some day: it must be this program.
    let program = |pid: &str| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let same = host == here && pid != me && program(&pid).is_some_and(|p| Some(p) == program(&me));
    Ok(same.then(|| writer.id.clone()))
}

pub(super) fn bad(message: impl Into<String>) -> Error {
    Error::new(Kind::ConfigInvalid, OP, message)
}

fn open(url: &str, pipeline: &str, zone: &str, clock: &Arc<dyn Clock>) -> Result<Option<Log>> {
    let Some(store) = store::open_existing(url)? else {
        return Ok(None);
    };
    let writer = Writer::this_process(clock.as_ref());
    Log::open(store, LogName::new(pipeline, zone), clock.clone(), writer)
}

/// A command does not wait for a store: what is unsettled is left, and the error says so.
fn once(log: &mut Log, draft: Draft) -> Result<Outcome> {
    match log.commit(draft) {
        Err(error) if error.remedy() == Remedy::Retry => match log.leave()? {
            Some(outcome @ Outcome::Committed { .. }) => Ok(outcome),
            _ => Err(error),
        },
        done => done,
    }
}

/// A wanted position on a chain, with what the source has of it.
pub(super) struct Asked<'a> {
    pub wanted: &'a Wanted,
    pub at: PartitionInfo,
}

impl Order<'_> {
    fn by(&self) -> By {
        By {
            actor: self.actor.to_owned(),
            reason: self.reason.to_owned(),
        }
    }
}

/// First what was never read is pinned, then what was is moved; nothing of both before all of it was found possible.
fn alter_records(
    (config, source): (&PipelineConfig, &dyn SourceConfig),
    clock: &Arc<dyn Clock>,
    log: Option<Log>,
    wanted: &[Wanted],
    order: &Order<'_>,
) -> Result<Altered> {
    let connector = source.connect(clock)?;
    let connector = connector.as_ref();
    let (topics, asked) = described(connector, source.topics(), wanted)?;
    let known = |asked: &Asked<'_>| {
        let log = log.as_ref();
        log.is_some_and(|log| log.state().chains.contains_key(&asked.at.chain))
    };
    let (old, new): (Vec<_>, Vec<_>) = asked.into_iter().partition(known);
    let state = log.as_ref().map(Log::state);
    let (opens, pinned) = handover::opens(connector, state, (&topics, &new))?;
    if let Some(log) = &log {
        // Readers that cannot be set back refuse it here.
        let moved = decide(log.state(), &old, order.exact)?;
        log.state()
            .back_to(&backwards(&moved, &old))
            .map_err(|v| bad(v.message))?;
    }
    let begun = match log {
        None if opens.is_empty() => {
            return Ok(Altered {
                version: None,
                moved: Vec::new(),
            });
        }
        None if order.dry_run => None,
        None => Some(handover::begin(config, clock, &(order.plugins)()?)?),
        Some(log) => Some(log),
    };
    let Some(mut log) = begun else {
        return Ok(Altered {
            version: None,
            moved: pinned,
        });
    };
    let mut version = None;
    if !opens.is_empty() && !order.dry_run {
        version = written(once(&mut log, Draft::Open(opens))?)?;
        acknowledge(connector, log.state(), &new);
    }
    let mut altered = move_read(config, &mut log, connector, &old, order)?;
    altered.version = altered.version.or(version);
    altered.moved.splice(..0, pinned);
    Ok(altered)
}

/// The version, unless another writer came first.
fn written(outcome: Outcome) -> Result<Option<u64>> {
    match outcome {
        Outcome::Committed { committed, dropped } if dropped.is_empty() => {
            Ok(Some(committed.version))
        }
        Outcome::Committed { dropped, .. } | Outcome::Lost { dropped } => {
            let why = dropped.first().map(|d| d.reason.to_string());
            Err(Error::new(Kind::Conflict, OP, why.unwrap_or_default())
                .hint("another process writes this log: stop the pipeline, then try again"))
        }
    }
}

fn backwards(moved: &[Moved], asked: &[Asked<'_>]) -> BTreeMap<ChainId, i64> {
    let back = moved.iter().zip(asked).filter(|(m, _)| m.to < m.from);
    back.map(|(moved, asked)| (asked.at.chain.clone(), moved.to))
        .collect()
}

/// Partitions that were read before.
fn move_read(
    config: &PipelineConfig,
    log: &mut Log,
    connector: &dyn Connector,
    asked: &[Asked<'_>],
    order: &Order<'_>,
) -> Result<Altered> {
    let mut moved = decide(log.state(), asked, order.exact)?;
    let elsewhere = |moved: Vec<Moved>| moved.into_iter().filter(|m| m.to != m.from).collect();
    if order.dry_run || moved.iter().all(|m| m.to == m.from) {
        return Ok(Altered {
            version: None,
            moved: elsewhere(moved),
        });
    }
    log.redo()?;
    // Of the state that the entry is written on: a running pipeline may move on meanwhile.
    let last = std::cell::RefCell::new(moved);
    let targets = |state: &State| {
        let moved = decide(state, asked, order.exact)?;
        let back = backwards(&moved, asked);
        *last.borrow_mut() = moved;
        Ok(back)
    };
    let parquet = parquet_options(config);
    let mut version = None;
    if let Some(done) = rewind::go_back(log, &targets, (&order.by(), None), &parquet, &mut once)? {
        version = Some(done.version);
        log.publish(&done)?;
    }
    moved = last.into_inner();
    let forward = moved.iter().zip(asked).filter(|(m, _)| m.to > m.from);
    let gaps: Vec<_> = forward
        .filter_map(|(m, asked)| {
            let chain = log.state().chains.get(&asked.at.chain)?;
            Some(gap(&asked.at.chain, chain.epoch, m.from, m.to))
        })
        .collect();
    if !gaps.is_empty() {
        version = written(once(log, Draft::Gap(gaps))?)?;
    }
    acknowledge(connector, log.state(), asked);
    Ok(Altered {
        version,
        moved: elsewhere(moved),
    })
}

type Topics<'a> = BTreeMap<&'a str, TopicInfo>;

fn described<'a>(
    connector: &dyn Connector,
    names: &[String],
    wanted: &'a [Wanted],
) -> Result<(Topics<'a>, Vec<Asked<'a>>)> {
    let mut topics = BTreeMap::new();
    let mut asked = Vec::new();
    for wanted in wanted {
        let name = wanted.topic.as_str();
        if !names.iter().any(|t| t == name) {
            return Err(bad(format!("the pipeline does not read topic '{name}'"))
                .hint(format!("it reads {}", names.join(", "))));
        }
        if !topics.contains_key(name) {
            topics.insert(name, connector.topic(name)?);
        }
        let found = topics.get(name).into_iter().flat_map(|t| &t.partitions);
        let at = found
            .clone()
            .find(|p| p.tp.partition == wanted.partition)
            .cloned()
            .ok_or_else(|| {
                let partitions = found.count();
                bad(format!(
                    "topic '{name}' has no partition {}",
                    wanted.partition
                ))
                .hint(format!("it has {partitions}, from 0"))
            })?;
        asked.push(Asked { wanted, at });
    }
    Ok((topics, asked))
}

/// What becomes of each, in their order; `to = from` where nothing does.
fn decide(state: &State, asked: &[Asked<'_>], exact: bool) -> Result<Vec<Moved>> {
    let all = asked.iter();
    all.map(|asked| decide_one(state, asked, exact)).collect()
}

fn decide_one(state: &State, Asked { wanted, at }: &Asked<'_>, exact: bool) -> Result<Moved> {
    let chain = state.chains.get(&at.chain).ok_or_else(|| {
        bad("the pipeline has not read this partition yet").with("partition", &at.tp)
    })?;
    let offset = match wanted.to {
        To::Offset(offset) => offset,
        To::Start => chain.start(),
    };
    let moved = |to| Moved {
        topic: wanted.topic.clone(),
        partition: wanted.partition,
        from: chain.to,
        asked: offset,
        to,
    };
    if offset > at.high {
        return Err(bad(format!(
            "offset {offset} lies above the end of the partition, {}",
            at.high
        ))
        .with("partition", &at.tp));
    }
    if offset >= chain.to {
        return Ok(moved(offset));
    }
    let Some(border) = chain.border_below(offset) else {
        return Err(bad(format!(
            "reading began at offset {}, {offset} lies below it",
            chain.start()
        ))
        .with("partition", &at.tp)
        .hint("records before the start need a pipeline of another name: create it STOPPED, and its offsets may be put anywhere before it first runs"));
    };
    if exact && border.to != offset {
        let above = chain.borders.iter().map(|b| b.to).find(|to| *to > offset);
        let above = above.unwrap_or(chain.to);
        return Err(bad(format!(
            "offset {offset} lies inside a commit, from {} to {above}, which stays or goes as a whole",
            border.to
        ))
        .with("partition", &at.tp)
        .hint(format!("ask for {} or for {above}", border.to)));
    }
    if border.to < at.low {
        let lowest = chain.borders.iter().find(|b| b.to >= at.low);
        let error = Error::new(
            Kind::SourceLost,
            OP,
            format!(
                "the broker no longer has the records from offset {} on, it begins at {}: their rows would be lost",
                border.to, at.low
            ),
        )
        .with("partition", &at.tp)
        .with("target", border.to)
        .with("low", at.low);
        return Err(match lowest {
            Some(b) => error.hint(format!(
                "the lowest offset that can be gone back to is {}",
                b.to
            )),
            None => error.hint("no commit ends at an offset that the broker still has"),
        });
    }
    Ok(moved(border.to))
}

/// Lag tools see the new positions. The log does not need it, so a failure is no more than a warning.
fn acknowledge(connector: &dyn Connector, state: &State, asked: &[Asked<'_>]) {
    let positions: Vec<_> = asked
        .iter()
        .filter_map(|asked| position(state, &asked.at.chain))
        .collect();
    match connector.acknowledge() {
        Ok(hears) => {
            hears.acknowledge(&positions);
            if !hears.flush(ACKNOWLEDGE_WAIT) {
                tracing::warn!("the group's offsets were not written; lag tools show the old ones");
            }
        }
        Err(error) => tracing::warn!(%error, "the group's offsets were not written"),
    }
}
