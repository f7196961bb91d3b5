//! `weir tap`: records of a pipeline's source with its rules applied, for somebody who looks. Nothing is kept of it: no
//! position, no file, no offset of a consumer group, so it can run beside the pipeline.

use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::chain::{Applied, TransformChain};
use crate::clock::Clock;
use crate::config::{self, PipelineConfig, Source as Configured};
use crate::error::{Error, Kind, Remedy, Result};
use crate::pipeline::rules;
use crate::plugin::Plugins;
use crate::record::{Batch, input_schema};
use crate::source::{Connector, Position, ReadLimits, Source};

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

/// The rules of a config up to a transform, outside of any pipeline.
///
/// # Errors
/// `config_invalid` where the transform does not exist or a plugin refuses its keys.
pub fn chain(config: &PipelineConfig, until: &Until) -> Result<TransformChain> {
    let mut config = config.clone();
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
        return TransformChain::new(Vec::new(), config.errors.unit);
    }
    let plugins = Plugins::open(crate::plugin::Places::of(&config))?;
    let (transforms, problems) = rules::transforms_of(&plugins, &config, &input_schema());
    match problems.iter().any(config::Problem::is_error) {
        true => Err(config::refused(&problems)),
        false => TransformChain::new(transforms, config.errors.unit),
    }
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

/// A source that is read and not followed by any log.
#[derive(Debug)]
pub struct Tap {
    /// Kept for as long as its source: some sources live on it.
    _connector: Box<dyn Connector>,
    source: Box<dyn Source>,
    chain: TransformChain,
    ends: Ends,
    backoff: Backoff,
    clock: Arc<dyn Clock>,
}

impl Tap {
    /// Connects and finds out where reading begins: where `source.start` says, whatever a log has committed.
    pub fn open(
        config: &PipelineConfig,
        until: &Until,
        ends: Ends,
        clock: Arc<dyn Clock>,
    ) -> Result<Tap> {
        let Configured::Records(source) = &config.source else {
            let message = format!("{} reads a zone, and a tap reads records", config.name);
            let hint = "the rows of a zone are Parquet files: any engine reads them, and `weir zone ls` names them";
            return Err(Error::new(Kind::ConfigInvalid, OP, message).hint(hint));
        };
        let chain = chain(config, until)?;
        let mut backoff = config.retry;
        let connector = tried(&mut backoff, &*clock, || source.connect(&clock))?;
        let positions = tried(&mut backoff, &*clock, || positions(&*connector))?;
        let limits = ReadLimits {
            batch_records: config.limits.batch_rows,
            batch_bytes: config.limits.batch_bytes,
            memory: config.limits.memory_budget,
        };
        let source = connector.open(&positions, &limits)?;
        Ok(Tap {
            _connector: connector,
            source,
            chain,
            ends,
            backoff,
            clock,
        })
    }

    /// The next records and what became of them. `None`: there are no more, and `--until now` was asked for.
    pub fn read(&mut self) -> Result<Option<(Batch, Applied)>> {
        loop {
            if self.ends.now && self.source.caught_up() {
                return Ok(None);
            }
            let source = &mut self.source;
            let batch = tried(&mut self.backoff, &*self.clock, || source.next(LOOK))?;
            let Some(batch) = batch.filter(|batch| !batch.is_empty()) else {
                continue;
            };
            let applied = self.chain.apply(&batch)?;
            return Ok(Some((batch, applied)));
        }
    }
}

fn positions(connector: &dyn Connector) -> Result<Vec<Position>> {
    let mut positions = Vec::new();
    for topic in connector.topics()? {
        positions.extend(connector.starts(&topic)?);
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
