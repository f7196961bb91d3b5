//! From config to a chain of plugins, and the rules that a log says are in force.

use arrow_schema::SchemaRef;

use super::{Host, until_settled};
use crate::chain::{Chain, Transform, Unit};
use crate::commit::{Draft, Log, Outcome, Rule, Swap};
use crate::config::{self, PipelineConfig, Problem};
use crate::error::{Error, Kind, Result};

/// Loads and initialises every plugin of a pipeline. All problems of all transforms are in one error.
pub fn chain_of(host: &Host, config: &PipelineConfig, input: &SchemaRef) -> Result<Chain> {
    let unit = match config.errors.unit {
        config::Unit::Row => Unit::Row,
        config::Unit::Record => Unit::Record,
    };
    let (transforms, problems) = transforms_of(host, config, input);
    if !problems.is_empty() {
        return Err(config::refused(&problems));
    }
    Chain::new(transforms, unit)
}
