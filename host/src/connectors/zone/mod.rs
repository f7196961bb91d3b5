//! `sink.type = "zone"`: Parquet files with a commit log. The files themselves are made in [`crate::zone`].

use std::sync::Arc;

use crate::commit::LogName;
use crate::config::{PipelineConfig, RawZoneConfig, TableName, ZoneMode};
use crate::error::{Error, Kind, Result};
use crate::sink::{Sink, SinkConnector, SinkContext};
use crate::zone::{ParquetOptions, ZoneOptions, ZoneSink};

/// A zone laid out by the hour of ingestion.
pub(super) fn connect(
    config: &PipelineConfig,
    context: SinkContext,
) -> Result<Box<dyn SinkConnector>> {
    let ZoneMode::Raw(zone) = &config.sink.mode else {
        return Err(Error::new(
            Kind::Bug,
            "zone.connect",
            "a zone with partitions by a field is written in batches",
        ));
    };
    let options = options(config, zone, &context.log);
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

fn options(config: &PipelineConfig, zone: &RawZoneConfig, name: &LogName) -> ZoneOptions {
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
