//! Kafka Connect's configs here: which class becomes what, and Connect's own file connectors.

use std::collections::BTreeMap;

use crate::config::{PipelineConfig, Problem};

/// What a config of a `connector.class` asks for.
#[derive(Debug)]
pub enum Job {
    Pipeline(Box<PipelineConfig>),
}

/// A config as REST has it, with `name` in it → what is to run, or everything that is wrong with it.
pub fn job(config: &BTreeMap<String, String>) -> Result<Job, Vec<Problem>> {
    let _ = config;
    Err(Vec::new())
}
