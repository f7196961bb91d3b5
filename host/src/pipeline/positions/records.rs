//! Positions of a pipeline that reads records: pinned, moved back by a rewind, or forward by a gap.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Altered, EXPIRED, FORGOTTEN, Moved, OP, Order, RewindTarget, To, bad, handover, once, rewind,
};
use crate::clock::Clock;
use crate::commit::{CommitBoundary, Draft, Log, Outcome, SplitState, State};
use crate::config::{PipelineConfig, SourceConfig};
use crate::connectors::zone::parquet_options;
use crate::error::{Error, Kind, Result};
use crate::pipeline::committer::{gap, position};
use crate::record::SplitId;
use crate::source::{Connector, PartitionInfo, TopicInfo};

/// Longest wait until the new positions are written as group offsets, for lag tools.
const ACKNOWLEDGE_WAIT: Duration = Duration::from_secs(5);

/// A wanted position on a split, and the offsets that the source has of it.
pub(super) struct Asked<'a> {
    pub wanted: &'a RewindTarget,
    pub at: PartitionInfo,
}

/// First pins partitions that were never read, then moves those that were. Both only after all of the request was found
/// possible.
pub(super) fn alter(
    (config, source): (&PipelineConfig, &dyn SourceConfig),
    clock: &Arc<dyn Clock>,
    log: Option<Log>,
    wanted: &[RewindTarget],
    order: &Order<'_>,
) -> Result<Altered> {
    let connector = source.connect(clock)?;
    let connector = connector.as_ref();
    let (topics, asked) = described(connector, source, wanted)?;
    may_go_on(connector, &asked)?;
    let known = |asked: &Asked<'_>| {
        let log = log.as_ref();
        log.is_some_and(|log| log.state().splits.contains_key(&asked.at.split))
    };
    let (old, new): (Vec<_>, Vec<_>) = asked.into_iter().partition(known);
    let state = log.as_ref().map(Log::state);
    let (opens, pinned) = handover::opens(connector, state, (&topics, &new))?;
    if let Some(log) = &log {
        // Fails here if a reader cannot be set back.
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
        None => {
            let tables = match source.topics() {
                [] => {
                    let all = connector.topics()?;
                    let all: Vec<&str> = all.iter().map(|topic| &*topic.name).collect();
                    config.tables_of(&all)
                }
                _ => config.tables(),
            };
            Some(handover::begin(
                (config, &tables),
                clock,
                &(order.plugins)()?,
            )?)
        }
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

/// Offsets inside a partition, as far as its source knows more of it.
fn may_go_on(connector: &dyn Connector, asked: &[Asked<'_>]) -> Result<()> {
    let mut inside = asked.iter().filter_map(|asked| match asked.wanted.to {
        To::Offset(next) if (asked.at.low..=asked.at.high).contains(&next) => {
            Some((&asked.at, next))
        }
        _ => None,
    });
    inside.try_for_each(|(at, next)| connector.may_go_on_at(at, next))
}

/// The version of the entry; an error if another writer came first.
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

fn backwards(moved: &[Moved], asked: &[Asked<'_>]) -> BTreeMap<SplitId, i64> {
    let back = moved.iter().zip(asked).filter(|(m, _)| m.to < m.from);
    back.map(|(moved, asked)| (asked.at.split.clone(), moved.to))
        .collect()
}

/// Moves partitions that were read before.
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
    // Computed on the state that the entry is written on: a running pipeline may move on meanwhile.
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
            let split = log.state().splits.get(&asked.at.split)?;
            Some(gap(&asked.at.split, split.epoch, m.from, m.to))
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
    source: &dyn SourceConfig,
    wanted: &'a [RewindTarget],
) -> Result<(Topics<'a>, Vec<Asked<'a>>)> {
    let mut topics = BTreeMap::new();
    let mut asked = Vec::new();
    for wanted in wanted {
        let name = wanted.topic.as_str();
        if !source.reads(name) {
            return Err(bad(format!("the pipeline does not read topic '{name}'"))
                .hint(format!("it reads {}", source.describe())));
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

/// What changes for each, in the given order; `to = from`: nothing changes.
fn decide(state: &State, asked: &[Asked<'_>], exact: bool) -> Result<Vec<Moved>> {
    let all = asked.iter();
    all.map(|asked| decide_one(state, asked, exact)).collect()
}

fn decide_one(state: &State, Asked { wanted, at }: &Asked<'_>, exact: bool) -> Result<Moved> {
    let split = state.splits.get(&at.split).ok_or_else(|| {
        bad("the pipeline has not read this partition yet").with("partition", &at.tp)
    })?;
    let offset = match wanted.to {
        To::Offset(offset) => offset,
        To::Start => split.start(),
    };
    let moved = |to| Moved {
        topic: wanted.topic.clone(),
        partition: wanted.partition,
        from: split.to,
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
    if offset >= split.to {
        return Ok(moved(offset));
    }
    let border = boundary_below(state, split, at, offset)?;
    if exact && border.to != offset {
        let above = split.borders.iter().map(|b| b.to).find(|to| *to > offset);
        let above = above.unwrap_or(split.to);
        return Err(bad(format!(
            "offset {offset} lies inside a commit, from {} to {above}, which stays or goes as a whole",
            border.to
        ))
        .with("partition", &at.tp)
        .hint(format!("ask for {} or for {above}", border.to)));
    }
    if border.to < at.low {
        let lowest = split.borders.iter().find(|b| b.to >= at.low);
        let error = Error::new(
            Kind::SourceLost,
            OP,
            format!(
                "the source no longer has the records from offset {} on, it begins at {}: their rows would be lost",
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

/// The nearest commit boundary at or below the offset that the log can go back to.
fn boundary_below(
    state: &State,
    split: &SplitState,
    at: &PartitionInfo,
    offset: i64,
) -> Result<CommitBoundary> {
    let start = split.start();
    if offset < start {
        return Err(bad(format!(
            "reading began at offset {start}, {offset} lies below it"
        ))
        .with("partition", &at.tp)
        .hint("records before the start need a pipeline of another name: create it STOPPED, and its offsets may be put anywhere before it first runs"));
    }
    if let Some(gone) = split.expired.to().filter(|gone| offset < *gone) {
        let message = format!(
            "rows and dead letters of offsets below {gone} have expired: this pipeline goes back to {gone} at most, not to {offset}"
        );
        return Err(bad(message).with("partition", &at.tp).hint(EXPIRED));
    }
    let lowest = split.lowest(state.horizon);
    let border = split.border_below(offset).filter(|b| b.to >= lowest);
    border.ok_or_else(|| {
        let message = format!(
            "offset {offset} lies below {lowest}, the lowest one that the log can go back to"
        );
        bad(message).with("partition", &at.tp).hint(FORGOTTEN)
    })
}

/// Writes the new positions for lag tools. The log does not need this, so a failure is only a warning.
fn acknowledge(connector: &dyn Connector, state: &State, asked: &[Asked<'_>]) {
    let positions: Vec<_> = asked
        .iter()
        .filter_map(|asked| position(state, &asked.at.split))
        .collect();
    match connector.acknowledge() {
        Ok(group) => {
            group.acknowledge(&positions);
            if !group.flush(ACKNOWLEDGE_WAIT) {
                tracing::warn!("the group's offsets were not written; lag tools show the old ones");
            }
        }
        Err(error) => tracing::warn!(%error, "the group's offsets were not written"),
    }
}
