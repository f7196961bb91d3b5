//! `sink.type = "console"`: rows on stdout, for learning and for looking, as Spark's console sink prints them.
//!
//! Log and dead letters lie in the pipeline's home, the zone at `sink.url`: a second run goes on where the first stopped. Rows
//! are printed before their entry is written, so a crash in between prints them again.

mod keys;
mod show;
mod sink;

use std::any::Any;
use std::time::Duration;

use crate::config::{PipelineConfig, SinkConfig};
use crate::connectors::zone;
use crate::error::{Error, Kind, Result};
use crate::sink::{Sink, SinkConnector, SinkContext};
use crate::zone::LettersTable;

pub use keys::SINK;

/// The checked keys.
#[derive(Clone, Debug)]
pub struct ConsoleConfig {
    form: Form,
    /// Most rows of a commit that are printed.
    rows: usize,
    /// Characters of a value in a table.
    truncate: usize,
    commit_age: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Table,
    Json,
}

impl SinkConfig for ConsoleConfig {
    fn kind(&self) -> &'static str {
        SINK.name
    }

    fn describe(&self) -> String {
        "console".to_owned()
    }

    fn commit_age(&self) -> Duration {
        self.commit_age
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

pub(super) fn connect(
    config: &PipelineConfig,
    context: SinkContext,
) -> Result<Box<dyn SinkConnector>> {
    let console: &ConsoleConfig =
        config.sink.as_any().downcast_ref().ok_or_else(|| {
            Error::new(Kind::Bug, "console.connect", "the config of another sink")
        })?;
    let table = &config.errors.dlq_table;
    let letters = LettersTable::of(&context, table, zone::parquet_options(config));
    Ok(Box::new(Console {
        config: console.clone(),
        context,
        letters,
    }))
}

#[derive(Debug)]
struct Console {
    config: ConsoleConfig,
    context: SinkContext,
    letters: LettersTable,
}

impl SinkConnector for Console {
    fn open(&self) -> Result<Box<dyn Sink>> {
        Ok(Box::new(sink::ConsoleSink::new(
            self.config.clone(),
            self.context.clone(),
            self.letters.clone(),
        )))
    }
}
