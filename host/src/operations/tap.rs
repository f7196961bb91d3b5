//! `weir tap`: records of a pipeline's source, or rows of the zone that it reads, with its rules applied, for somebody who looks.
//! Nothing is kept of it: no position, no file, no offset of a consumer group, so it can run beside the pipeline.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use crate::backoff::Backoff;
use crate::chain::{Applied, Table, TransformChain};
use crate::clock::Clock;
use crate::config::{self, PipelineConfig, Source as Configured, SourceConfig, ZoneSourceConfig};
use crate::error::{Error, Kind, Remedy, Result};
use crate::pipeline::rules;
use crate::plugin::Plugins;
use crate::record::Batch;
use crate::source::{Change, Connector, PartitionInfo, Position, ReadLimits, Source, TopicInfo};
use crate::zone::RowReader;

const OP: &str = "tap";
/// How long one look at the source waits for records.
const LOOK: Duration = Duration::from_millis(200);
/// So often a source that is away is asked again before the tap gives up; the waits between are those of `retry.*`.
const TRIES: u32 = 5;

/// Which transforms run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// All of the config.
    All,
    /// None: records as they come.
    Raw,
    /// Up to and with this one.
    After(String),
}

/// What is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// End where the partitions ended when the tap began. Otherwise it waits for more records.
    pub now: bool,
}

/// The rules of a config up to a transform, outside of any pipeline, and the columns that they make. `read`: those of the zone that is
/// read.
///
/// # Errors
/// `config_invalid` where the transform does not exist, a plugin refuses its keys, or the zone that is read has no rows yet.
pub fn chain(
    config: &PipelineConfig,
    until: &Until,
    read: Option<&SchemaRef>,
) -> Result<(TransformChain, SchemaRef)> {
    let input = rules::always_read(config).or_else(|| read.cloned());
    let input = input.ok_or_else(|| nothing_there(config))?;
    let mut config = rules::completed(config)?.into_owned();
    match until {
        Until::All => {}
        Until::Raw => config.transforms.clear(),
        Until::After(name) => {
            let at = config.transforms.iter().position(|t| t.name == *name);
            let at = at.ok_or_else(|| no_transform(&config, name))?;
            config.transforms.truncate(at + 1);
        }
    }
    if config.transforms.is_empty() {
        return Ok((TransformChain::new(Vec::new(), config.errors.unit)?, input));
    }
    let plugins = Plugins::open(crate::plugin::Places::of(&config))?;
    let (transforms, problems) = rules::transforms_of(&plugins, &config, &input);
    if problems.iter().any(config::Problem::is_error) {
        return Err(config::refused(&problems));
    }
    let columns = rules::columns_after(&transforms, &input);
    Ok((
        TransformChain::new(transforms, config.errors.unit)?,
        columns,
    ))
}

fn nothing_there(config: &PipelineConfig) -> Error {
    let message = format!("the zone that {} reads has no rows yet", config.name);
    Error::new(Kind::ConfigInvalid, OP, message).hint(
        "run the pipeline that fills it; source.url, source.pipeline and source.table name it",
    )
}

fn no_transform(config: &PipelineConfig, name: &str) -> Error {
    let names: Vec<&str> = config.transforms.iter().map(|t| t.name.as_str()).collect();
    let has = match names.is_empty() {
        true => "it has no transform".to_owned(),
        false => format!("it has {}", names.join(", ")),
    };
    let message = format!("{} has no transform `{name}`: {has}", config.name);
    Error::new(Kind::ConfigInvalid, OP, message)
}

/// What was looked at, before the rules.
#[derive(Debug)]
pub enum Seen {
    Records(Box<Batch>),
    /// Of a zone, with their coordinates.
    Rows(RecordBatch),
}

/// Something that is read and not followed by any log.
#[derive(Debug)]
pub enum Tap {
    Source(Box<SourceTap>),
    Zone(Box<ZoneTap>),
}

impl Tap {
    pub fn open(
        config: &PipelineConfig,
        until: &Until,
        ends: Ends,
        clock: Arc<dyn Clock>,
    ) -> Result<Tap> {
        Ok(match &config.source {
            Configured::Records(source) => {
                let tap = SourceTap::open((config, source), until, ends, clock)?;
                Tap::Source(Box::new(tap))
            }
            Configured::Zone(source) => {
                Tap::Zone(Box::new(ZoneTap::open((config, source), until, &clock)?))
            }
        })
    }

    /// The next records or rows, and what became of them. `None`: there are no more.
    pub fn read(&mut self) -> Result<Option<(Seen, Applied)>> {
        match self {
            Tap::Source(tap) => {
                let read = tap.read()?;
                Ok(read.map(|(batch, applied)| (Seen::Records(Box::new(batch)), applied)))
            }
            Tap::Zone(tap) => tap.read(),
        }
    }
}

/// All rows that a zone has now, in the order of its files.
#[derive(Debug)]
pub struct ZoneTap {
    reader: RowReader,
    chain: TransformChain,
}

impl ZoneTap {
    fn open(
        (config, source): (&PipelineConfig, &ZoneSourceConfig),
        until: &Until,
        clock: &Arc<dyn Clock>,
    ) -> Result<ZoneTap> {
        let rows = rules::rows_read(source, clock)?.ok_or_else(|| nothing_there(config))?;
        let (chain, _) = chain(config, until, Some(rows.schema()))?;
        if let Some(by) = chain.exploding() {
            let message = format!("`{}` makes several rows of one", by.transform);
            return Err(Error::new(Kind::ConfigInvalid, OP, message)
                .hint("put it into the pipeline that fills the zone"));
        }
        Ok(ZoneTap {
            reader: rows,
            chain,
        })
    }

    fn read(&mut self) -> Result<Option<(Seen, Applied)>> {
        let Some(rows) = self.reader.next().transpose()? else {
            return Ok(None);
        };
        let applied = self.chain.apply_rows(Table::of(&rows.batch))?;
        Ok(Some((Seen::Rows(rows.batch), applied)))
    }
}

/// A source that is read.
#[derive(Debug)]
pub struct SourceTap {
    connector: Box<dyn Connector>,
    /// What the source reads, as it was last described.
    topics: Vec<TopicInfo>,
    /// When changes were last asked for, by the clock's elapsed time.
    asked: Duration,
    source: Box<dyn Source>,
    chain: TransformChain,
    ends: Ends,
    backoff: Backoff,
    clock: Arc<dyn Clock>,
}

impl SourceTap {
    /// Connects and finds out where reading begins: where `source.start` says, whatever a log has committed.
    fn open(
        (config, source): (&PipelineConfig, &Arc<dyn SourceConfig>),
        until: &Until,
        ends: Ends,
        clock: Arc<dyn Clock>,
    ) -> Result<SourceTap> {
        let looking = source.only_looking(ends.now);
        let source = looking.as_ref().unwrap_or(source);
        let (chain, _) = chain(config, until, None)?;
        let mut backoff = config.retry;
        let connector = tried(&mut backoff, &*clock, || source.connect(&clock))?;
        let topics = tried(&mut backoff, &*clock, || connector.topics())?;
        if ends.now {
            can_end(&topics)?;
        }
        let positions = tried(&mut backoff, &*clock, || positions(&*connector, &topics))?;
        let limits = ReadLimits {
            batch_records: config.limits.batch_rows,
            batch_bytes: config.limits.batch_bytes,
            memory: config.limits.memory_budget,
        };
        let source = connector.open(&positions, &limits)?;
        Ok(SourceTap {
            connector,
            topics,
            asked: clock.elapsed(),
            source,
            chain,
            ends,
            backoff,
            clock,
        })
    }

    /// `None`: there are no more, and `--until now` was asked for.
    fn read(&mut self) -> Result<Option<(Batch, Applied)>> {
        loop {
            if self.ends.now && self.source.caught_up() {
                return Ok(None);
            }
            self.take_changes()?;
            let source = &mut self.source;
            let batch = tried(&mut self.backoff, &*self.clock, || source.next(LOOK))?;
            let Some(batch) = batch.filter(|batch| !batch.is_empty()) else {
                continue;
            };
            let applied = self.chain.apply(&batch)?;
            return Ok(Some((batch, applied)));
        }
    }

    /// New partitions are read too, from their first record; a source of files looks for new ones here.
    fn take_changes(&mut self) -> Result<()> {
        let now = self.clock.elapsed();
        let asks = !self.ends.now || self.connector.policy().late_partitions;
        let every = self.connector.changes_every().filter(|_| asks);
        if every.is_none_or(|every| now.saturating_sub(self.asked) < every) {
            return Ok(());
        }
        self.asked = now;
        let (connector, topics) = (&self.connector, &self.topics);
        let changes = tried(&mut self.backoff, &*self.clock, || {
            connector.changes(topics)
        })?;
        for change in changes {
            match change {
                Change::NewPartitions(new) => self.assign(new)?,
                Change::NewTopics(new) => {
                    for topic in new {
                        self.assign(topic.partitions.clone())?;
                        self.topics.push(topic);
                    }
                }
                Change::Recreated { now, .. } => return Err(gone(&now.name, "was created again")),
                Change::Gone { topic } => return Err(gone(&topic, "is gone")),
            }
        }
        Ok(())
    }

    fn assign(&mut self, new: Vec<PartitionInfo>) -> Result<()> {
        let positions: Vec<Position> = new.iter().map(PartitionInfo::first).collect();
        self.source.assign(&positions)?;
        for partition in new {
            let mut topics = self.topics.iter_mut();
            if let Some(topic) = topics.find(|topic| topic.name == partition.tp.topic) {
                topic.partitions.push(partition);
            }
        }
        Ok(())
    }
}

/// A source that makes its records has no present end.
fn can_end(topics: &[TopicInfo]) -> Result<()> {
    let mut partitions = topics.iter().flat_map(|topic| &topic.partitions);
    match partitions.any(|partition| partition.high == i64::MAX) {
        true => {
            let message = "`--until now` on a source that makes records without an end";
            let hint = "give a number of lines with -n N, or source.rows.total in the config";
            Err(Error::new(Kind::ConfigInvalid, OP, message).hint(hint))
        }
        false => Ok(()),
    }
}

fn gone(topic: &str, how: &str) -> Error {
    let message = format!("the topic {topic} {how} while it was looked at");
    Error::new(Kind::SourceLost, OP, message)
}

fn positions(connector: &dyn Connector, topics: &[TopicInfo]) -> Result<Vec<Position>> {
    connector.begins(topics)?;
    let mut positions = Vec::new();
    for topic in topics {
        positions.extend(connector.starts(topic)?);
    }
    Ok(positions)
}

/// Asks again where the source is away for a moment.
fn tried<T>(
    backoff: &mut Backoff,
    clock: &dyn Clock,
    mut ask: impl FnMut() -> Result<T>,
) -> Result<T> {
    for _ in 1..TRIES {
        match ask() {
            Err(error) if error.remedy() == Remedy::Retry => {
                tracing::warn!(error = %error.one_line(), "the source does not answer; it is asked again");
                clock.sleep(backoff.next_wait());
            }
            answer => {
                backoff.reset();
                return answer;
            }
        }
    }
    ask()
}
