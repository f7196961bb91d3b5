//! Positions as Connect's clients see and set them: a pipeline's are in its commit log, a file connector's in a file of its
//! own.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::Offset;
use super::jobs::pipeline_of;
use crate::clock::SystemClock;
use crate::commit::{Log, LogName, Writer};
use crate::config::PipelineConfig;
use crate::connect::{Job, file};
use crate::error::Result;
use crate::store;

/// Whatever state the job is in; none where nothing was read yet.
pub fn offsets(job: &Job, state_dir: &Path) -> Result<Vec<Offset>> {
    match pipeline_of(job) {
        Some(config) => of_log(config),
        None => file::offsets(job, state_dir),
    }
}

fn of_log(config: &PipelineConfig) -> Result<Vec<Offset>> {
    let clock = SystemClock::shared();
    let Some(store) = store::open_existing(&config.sink.url)? else {
        return Ok(Vec::new());
    };
    let name = LogName::new(&config.name, &config.sink.zone);
    let writer = Writer::this_process(clock.as_ref());
    let Some(log) = Log::open(store, name, clock, writer)? else {
        return Ok(Vec::new());
    };
    let chains = log.state().chains.values();
    Ok(chains.map(|c| shown(&c.topic, c.partition, c.to)).collect())
}

fn shown(topic: &str, partition: i32, to: i64) -> Offset {
    let map = |value: Value| match value {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    Offset {
        partition: map(json!({ "kafka_topic": topic, "kafka_partition": partition })),
        offset: Some(map(json!({ "kafka_offset": to }))),
    }
}
