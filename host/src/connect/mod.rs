//! Kafka Connect's configs here: which class becomes what, and Connect's own file connectors.
//!
//! ```text
//! map of keys ─ job ─┬─ class `weir`: the native keys
//!                    ├─ Confluent's S3 and HDFS sinks: translate → the native keys, and notes on what differs
//!                    └─ FileStreamSource, FileStreamSink: file::run
//! ```

mod classes;
mod framework;
mod smt;
mod storage;

pub use classes::{Class, FILE_SINK, FILE_SOURCE, HDFS_SINK, HDFS3_SINK, Importance, Key, S3_SINK};
pub use classes::{Type, Width, classes, definitions};

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
