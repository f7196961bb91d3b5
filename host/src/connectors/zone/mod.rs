//! `source.type = "zone"` and `sink.type = "zone"`: Parquet files with a commit log. The files themselves are made in
//! [`crate::zone`]; a zone that is read is not a [`crate::source::Source`] but read in planned batches (docs/adr/0012-a-zone-is-read-in-batches.md).

mod keys;

use std::sync::Arc;

use crate::commit::LogName;
use crate::config::{PipelineConfig, TableName};
use crate::error::Result;
use crate::sink::{Sink, SinkConnector, SinkContext};
use crate::zone::{ParquetOptions, ZoneOptions, ZoneSink};

pub use keys::{SINK, SOURCE};

/// A zone laid out by the hour of ingestion.
pub(super) fn connect(
    config: &PipelineConfig,
    context: SinkContext,
) -> Result<Box<dyn SinkConnector>> {
    let options = options(config, &context.log);
    Ok(Box::new(RawZone { options, context }))
}

#[derive(Debug)]
struct RawZone {
    options: ZoneOptions,
    context: SinkContext,
}

impl SinkConnector for RawZone {
    fn open(&self) -> Result<Box<dyn Sink>> {
        let SinkContext {
            store, clock, base, ..
        } = self.context.clone();
        let sink = ZoneSink::new(
            store,
            clock,
            self.options.clone(),
            Arc::new(move || base.get()),
        );
        Ok(Box::new(sink))
    }
}

fn options(config: &PipelineConfig, name: &LogName) -> ZoneOptions {
    let zone = &config.sink.raw;
    ZoneOptions {
        name: name.clone(),
        table: config.sink.table.clone(),
        letters_table: TableName::Fixed(config.errors.dlq_table.clone()),
        rotate: zone.rotate,
        parquet: parquet_options(config),
        keep_value: zone.keep_value,
    }
}

pub fn parquet_options(config: &PipelineConfig) -> ParquetOptions {
    ParquetOptions {
        compression: config.sink.compression,
        row_group_bytes: config.sink.row_group_bytes,
    }
}
