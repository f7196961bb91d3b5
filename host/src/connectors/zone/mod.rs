//! `sink.type = "zone"`: Parquet files with a commit log. The files themselves are made in [`crate::zone`].

use std::sync::Arc;

use crate::commit::LogName;
use crate::config::{PipelineConfig, RawZoneConfig, TableName, ZoneMode};
use crate::error::{Error, Kind, Result};
use crate::sink::{Sink, SinkConnector, SinkContext};
use crate::zone::{self, Compression, ParquetOptions, Rotate, ZoneOptions, ZoneSink};

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
    let options = options(config, zone, &context.log)?;
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

fn options(config: &PipelineConfig, zone: &RawZoneConfig, name: &LogName) -> Result<ZoneOptions> {
    let table = match &config.sink.table {
        TableName::PerTopic => "${topic}",
        TableName::Fixed(name) => name,
    };
    Ok(ZoneOptions {
        name: name.clone(),
        table: zone::TableName::new(table)?,
        letters_table: zone::TableName::new(&config.errors.dlq_table)?,
        rotate: Rotate {
            bytes: zone.rotate.bytes,
            age: zone.rotate.age,
            rows: zone.rotate.rows.unwrap_or(0),
        },
        parquet: parquet_options(config),
        keep_value: zone.keep_value,
    })
}

pub fn parquet_options(config: &PipelineConfig) -> ParquetOptions {
    ParquetOptions {
        compression: match config.sink.compression {
            crate::config::Compression::None => Compression::None,
            crate::config::Compression::Snappy => Compression::Snappy,
            crate::config::Compression::Zstd(level) => Compression::Zstd(level),
        },
        row_group_bytes: config.sink.row_group_bytes,
    }
}
