//! Where a pipeline that does not run stands, and putting it elsewhere.
//!
//! Back: a `rewind` entry to the nearest border (end of a commit) at or below the wanted offset; rows and dead letters from
//! there on leave the zone, and are read again at the next start. Forward: a `gap` entry; the skipped range counts as lost.
//! Nothing is written before all of it was found possible. A pipeline that runs all the same meets the new epoch at its next
//! commit and goes on at the log's positions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::committer::{gap, position};
use super::rewind::{self, By};
use super::start::{kafka_props, parquet_options};
use crate::clock::Clock;
use crate::commit::{Draft, Log, LogName, Outcome, State, Writer};
use crate::config::{KafkaSourceConfig, PipelineConfig, Source, ZoneSourceConfig};
use crate::error::{Error, Kind, Remedy, Result};
use crate::kafka::{KafkaCluster, Mirror, PartitionInfo};
use crate::record::ChainId;
use crate::store;

/// For the group offsets, which only lag tools read.
const MIRROR_WAIT: Duration = Duration::from_secs(5);

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
    let of_names = newest_chains(log.state());
    let positions = of_names.into_iter().filter_map(|((topic, partition), id)| {
        let chain = log.state().chains.get(&id)?;
        Some(Position {
            topic,
            partition,
            start: chain.start(),
            to: chain.to,
        })
    });
    Ok(positions.collect())
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

/// Puts partitions elsewhere. `dry_run`: says what would become of it and writes nothing.
pub fn alter(
    config: &PipelineConfig,
    clock: &Arc<dyn Clock>,
    wanted: &[Wanted],
    actor: &str,
    reason: &str,
    dry_run: bool,
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
    let by = By {
        actor: actor.to_owned(),
        reason: reason.to_owned(),
    };
    let log = open(&config.sink.url, &config.name, &config.sink.zone, clock)?;
    let Some(mut log) = log else {
        return Err(bad(format!(
            "pipeline '{}' has not read anything yet",
            config.name
        ))
        .with("store", &config.sink.url)
        .hint("start it once: a partition gets its position when it is first read"));
    };
    match &config.source {
        Source::Kafka(kafka) => alter_kafka(config, kafka, &mut log, wanted, &by, dry_run),
        Source::Zone(zone) => {
            let input = open(&zone.url, &zone.pipeline, &zone.zone, clock)?.ok_or_else(|| {
                let ZoneSourceConfig { pipeline, url, .. } = zone;
                bad(format!("pipeline '{pipeline}' has no log in {url}"))
            })?;
            let table = &zone.table;
            alter_zone(config, (input, table), &mut log, wanted, &by, dry_run)
        }
    }
}

/// Every partition back to where reading began.
pub fn reset(
    config: &PipelineConfig,
    clock: &Arc<dyn Clock>,
    actor: &str,
    reason: &str,
    dry_run: bool,
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
    alter(config, clock, &wanted, actor, reason, dry_run)
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

fn bad(message: impl Into<String>) -> Error {
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

/// A wanted position on a chain of Kafka, with what the broker has of it.
struct Asked<'a> {
    wanted: &'a Wanted,
    at: PartitionInfo,
}

fn alter_kafka(
    config: &PipelineConfig,
    kafka: &KafkaSourceConfig,
    log: &mut Log,
    wanted: &[Wanted],
    by: &By,
    dry_run: bool,
) -> Result<Altered> {
    let props = kafka_props(kafka)?;
    let asked = described(&KafkaCluster::connect(&props)?, kafka, wanted)?;
    let mut moved = decide(log.state(), &asked)?;
    let targets = |state: &State| {
        let back = decide(state, &asked)?.into_iter().zip(&asked);
        let back = back.filter(|(moved, _)| moved.to < moved.from);
        Ok(back
            .map(|(moved, asked)| (asked.at.chain.clone(), moved.to))
            .collect())
    };
    // Readers that cannot be set back refuse it here.
    let back: BTreeMap<ChainId, i64> = targets(log.state())?;
    log.state().back_to(&back).map_err(|v| bad(v.message))?;
    let elsewhere = |moved: Vec<Moved>| moved.into_iter().filter(|m| m.to != m.from).collect();
    if dry_run || moved.iter().all(|m| m.to == m.from) {
        return Ok(Altered {
            version: None,
            moved: elsewhere(moved),
        });
    }
    log.redo()?;
    // Of the state that the entry is written on: a running pipeline may move on meanwhile.
    let last = std::cell::RefCell::new(moved);
    let targets = |state: &State| {
        *last.borrow_mut() = decide(state, &asked)?;
        targets(state)
    };
    let parquet = parquet_options(config);
    let mut version = None;
    if let Some(done) = rewind::go_back(log, &targets, (by, None), &parquet, &mut once)? {
        version = Some(done.version);
        log.publish(&done)?;
    }
    moved = last.into_inner();
    let forward = moved.iter().zip(&asked).filter(|(m, _)| m.to > m.from);
    let gaps: Vec<_> = forward
        .filter_map(|(m, asked)| {
            let chain = log.state().chains.get(&asked.at.chain)?;
            Some(gap(&asked.at.chain, chain.epoch, m.from, m.to))
        })
        .collect();
    if !gaps.is_empty() {
        match once(log, Draft::Gap(gaps))? {
            Outcome::Committed { committed, dropped } if dropped.is_empty() => {
                version = Some(committed.version);
            }
            Outcome::Committed { dropped, .. } | Outcome::Lost { dropped } => {
                let why = dropped.first().map(|d| d.reason.to_string());
                return Err(Error::new(Kind::Conflict, OP, why.unwrap_or_default())
                    .hint("another process writes this log: stop the pipeline, then try again"));
            }
        }
    }
    mirror(&props, log.state(), &asked);
    Ok(Altered {
        version,
        moved: elsewhere(moved),
    })
}

fn described<'a>(
    cluster: &KafkaCluster,
    kafka: &KafkaSourceConfig,
    wanted: &'a [Wanted],
) -> Result<Vec<Asked<'a>>> {
    let mut topics = BTreeMap::new();
    let mut asked = Vec::new();
    for wanted in wanted {
        let name = wanted.topic.as_str();
        if !kafka.topics.iter().any(|t| t == name) {
            return Err(bad(format!("the pipeline does not read topic '{name}'"))
                .hint(format!("it reads {}", kafka.topics.join(", "))));
        }
        if !topics.contains_key(name) {
            topics.insert(name, cluster.describe(name)?);
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
    Ok(asked)
}

/// What becomes of each, in their order; `to = from` where nothing does.
fn decide(state: &State, asked: &[Asked<'_>]) -> Result<Vec<Moved>> {
    asked.iter().map(|asked| decide_one(state, asked)).collect()
}

fn decide_one(state: &State, Asked { wanted, at }: &Asked<'_>) -> Result<Moved> {
    let chain = state.chains.get(&at.chain).ok_or_else(|| {
        bad("the pipeline has not read this partition yet")
            .with("partition", &at.tp)
            .hint("start it once: a partition gets its position when it is first read")
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
        .hint("records before the start need a pipeline of their own"));
    };
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
fn mirror(props: &crate::kafka::KafkaProps, state: &State, asked: &[Asked<'_>]) {
    let positions: Vec<_> = asked
        .iter()
        .filter_map(|asked| position(state, &asked.at.chain))
        .collect();
    match Mirror::open(props) {
        Ok(mirror) => {
            mirror.mirror(&positions);
            if !mirror.flush(MIRROR_WAIT) {
                tracing::warn!("the group's offsets were not written; lag tools show the old ones");
            }
        }
        Err(error) => tracing::warn!(%error, "the group's offsets were not written"),
    }
}

/// First the reader goes back in the log that is read (gen + 1), then the own log follows it as it would follow a rewind
/// there. Positions are those that the pipeline registered, of all its partitions together: a row that was dropped as a
/// duplicate may be one of a row in another partition.
fn alter_zone(
    config: &PipelineConfig,
    (mut input, table): (Log, &str),
    own: &mut Log,
    wanted: &[Wanted],
    by: &By,
    dry_run: bool,
) -> Result<Altered> {
    let name = own.name().to_string();
    // Never older than the position that it registered.
    own.refresh()?;
    let asked = asked_of_zone(own.state(), wanted)?;
    let before: BTreeMap<ChainId, i64> = own
        .state()
        .chains
        .iter()
        .map(|(id, chain)| (id.clone(), chain.to))
        .collect();
    let parquet = parquet_options(config);
    if !dry_run {
        own.redo()?;
        // What a crash left: the reader's position first becomes the own one.
        rewind::follow(own, &input, by, &parquet, &mut once)?;
        if let Some(reader) = rewind::position(own, &input, table) {
            register(&mut input, reader)?;
        }
    }
    let Some(reader) = input.state().readers.get(&name).cloned() else {
        return Err(bad("the pipeline has not read anything yet").with("reader", name));
    };
    let fits = |cut: &BTreeMap<ChainId, i64>| {
        asked
            .iter()
            .all(|(id, (_, offset))| cut.get(id).is_none_or(|at| at <= offset))
    };
    let cuts = input.state().cuts.get(&name).into_iter().flatten();
    let cut = cuts.rev().find(|cut| fits(cut)).cloned().ok_or_else(|| {
        bad("no batch ended at or below these offsets")
            .hint("`weir log` lists the batches; --all=start goes back before the first")
    })?;
    let goes_to = input.state().position_at(&reader, &cut);
    let of_start = |id: &ChainId| own.state().chains.get(id).map_or(0, |c| c.start());
    let moved: Vec<Moved> = before
        .iter()
        .filter_map(|(id, from)| {
            let chain = own.state().chains.get(id)?;
            let to = goes_to.get(id).copied().unwrap_or_else(|| of_start(id));
            (to < *from).then(|| Moved {
                topic: chain.topic.clone(),
                partition: chain.partition,
                from: *from,
                asked: asked.get(id).map_or(*from, |(_, offset)| *offset),
                to,
            })
        })
        .collect();
    if dry_run || goes_to == reader.position {
        return Ok(Altered {
            version: None,
            moved,
        });
    }
    let back = crate::commit::Reader {
        r#gen: reader.r#gen + 1,
        version: input.version(),
        position: goes_to,
        ..reader
    };
    register(&mut input, back)?;
    rewind::follow(own, &input, by, &parquet, &mut once)?;
    Ok(Altered {
        version: Some(own.version()),
        moved,
    })
}

fn register(input: &mut Log, reader: crate::commit::Reader) -> Result<()> {
    match once(input, Draft::Reader(reader))? {
        Outcome::Committed { .. } => Ok(()),
        Outcome::Lost { dropped } => {
            let why = dropped.first().map(|d| d.reason.to_string());
            Err(Error::new(Kind::Conflict, OP, why.unwrap_or_default())
                .with("log", input.name())
                .hint(
                    "another process reads this zone under the same name: stop it, then try again",
                ))
        }
    }
}

/// Chains with what was asked of them.
fn asked_of_zone<'a>(
    state: &State,
    wanted: &'a [Wanted],
) -> Result<BTreeMap<ChainId, (&'a Wanted, i64)>> {
    let newest = newest_chains(state);
    let mut asked = BTreeMap::new();
    for wanted in wanted {
        let at = (wanted.topic.clone(), wanted.partition);
        let place = format!("{}/{}", wanted.topic, wanted.partition);
        let found = newest
            .get(&at)
            .and_then(|id| Some((id, state.chains.get(id)?)));
        let Some((id, chain)) = found else {
            return Err(bad("the pipeline has not read this partition").with("partition", place));
        };
        let offset = match wanted.to {
            To::Start => chain.start(),
            To::Offset(offset) => offset,
        };
        if offset > chain.to {
            return Err(bad(format!(
                "offset {offset} lies above the position, {}: a pipeline that reads a zone cannot skip",
                chain.to
            ))
            .with("partition", place));
        }
        if offset < chain.start() {
            return Err(bad(format!(
                "reading began at offset {}, {offset} lies below it",
                chain.start()
            ))
            .with("partition", place));
        }
        asked.insert(id.clone(), (wanted, offset));
    }
    Ok(asked)
}
