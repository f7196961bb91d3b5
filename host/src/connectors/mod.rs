//! The systems that Weir reads from and writes to: one folder each, one line in a table each.

pub mod kafka;
pub mod zone;

use crate::config::PipelineConfig;
use crate::error::Result;
use crate::sink::{SinkConnector, SinkContext};

/// The sink that the config names.
pub fn sink(config: &PipelineConfig, context: SinkContext) -> Result<Box<dyn SinkConnector>> {
    zone::connect(config, context)
}
