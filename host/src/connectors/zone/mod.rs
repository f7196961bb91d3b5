//! `source.type = "zone"` and `sink.type = "zone"`: files with a commit log. The files themselves are made in
//! [`crate::zone`]; a zone that is read is not a [`crate::source::Source`] but read in planned batches (docs/adr/0012-a-zone-is-read-in-batches.md).

mod columns;
mod files;
mod keys;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{
    Bucket, ColumnFormat, Compact, Directories, FileFormat, Files, PipelineConfig, Rotate,
    SinkConfig, SortBy, TableName,
};
use crate::error::{Error, Kind, Result};
use crate::sink::refusing::Refusing;
use crate::sink::{Sink, SinkConnector, SinkContext};
use crate::zone::{ParquetOptions, ZoneOptions, ZoneSink};

pub use keys::{SINK, SOURCE, home};

/// The checked keys of a zone that is written. Its place is the pipeline's [`Home`](crate::config::Home).
#[derive(Clone, Debug)]
pub struct ZoneSinkConfig {
    /// Root of its store, for log lines.
    url: String,
    pub table: TableName,
    /// For rows of records, which are partitioned by the hour of ingestion. Those of a zone are laid out as
    /// [`ZoneSourceConfig::layout`](crate::config::ZoneSourceConfig::layout) says, and their files end with their batch.
    rotate: Rotate,
    /// Keep the original bytes of each record in column `_value`.
    keep_value: bool,
    /// Whether it writes rows of records.
    of_records: bool,
    /// Columns that are written in another way than `sink.compression` says.
    columns: Arc<BTreeMap<String, ColumnFormat>>,
    /// Order of rows of records inside a row group.
    sort: Vec<SortBy>,
    pub compact: Compact,
    pub bucket: Option<Bucket>,
    /// Those of rows of records.
    pub files: Files,
    pub directories: Directories,
}

impl ZoneSinkConfig {
    pub fn sort(&self) -> &[SortBy] {
        &self.sort
    }
}

impl SinkConfig for ZoneSinkConfig {
    fn kind(&self) -> &'static str {
        SINK.name
    }

    fn describe(&self) -> String {
        let table = match &self.table {
            TableName::PerTopic => "${topic}",
            TableName::Fixed(name) => name,
        };
        format!("zone[{}/{table}]", self.url)
    }

    fn tables(&self, topics: &[&str]) -> BTreeSet<String> {
        let tables = topics.iter().map(|topic| self.table.of(topic));
        tables.map(str::to_owned).collect()
    }

    fn files_of_rows(&self) -> FileFormat {
        self.files.format
    }

    fn bytes_at_once(&self) -> u64 {
        self.rotate.bytes
    }

    fn keeps_bytes(&self) -> bool {
        self.of_records && self.keep_value
    }

    fn commit_age(&self) -> Duration {
        self.rotate.age
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The sink of a pipeline that writes a zone; every pipeline that reads a zone also writes one.
pub fn sink(config: &PipelineConfig) -> Result<&ZoneSinkConfig> {
    config.sink.as_any().downcast_ref().ok_or_else(|| {
        let message = format!(
            "`sink.type`: {} cannot write this, a zone can",
            config.sink.kind()
        );
        Error::new(Kind::ConfigInvalid, "zone.connect", message).hint("write sink.type = \"zone\"")
    })
}

/// A zone of rows of records.
pub(super) fn connect(
    config: &PipelineConfig,
    context: SinkContext,
) -> Result<Box<dyn SinkConnector>> {
    let ZoneSinkConfig {
        table,
        rotate,
        keep_value,
        sort,
        bucket,
        files,
        directories,
        ..
    } = sink(config)?;
    let options = ZoneOptions {
        name: context.log.clone(),
        table: table.clone(),
        letters_table: TableName::Fixed(config.errors.dlq_table.clone()),
        rotate: *rotate,
        parquet: parquet_options(config),
        keep_value: *keep_value,
        sort: sort.clone(),
        bucket: bucket.clone(),
        files: files.clone(),
        directories: directories.clone(),
        refusing: Refusing::new(&config.errors, SINK.name),
    };
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
        let sink = ZoneSink::new(store, clock, self.options.clone(), base);
        Ok(Box::new(sink))
    }
}

/// How the files of a pipeline's home are written: rows, dead letters, and what remains of them after a rewind.
pub fn parquet_options(config: &PipelineConfig) -> ParquetOptions {
    ParquetOptions {
        compression: config.home.compression,
        row_group_bytes: config.home.row_group_bytes,
        encodings: config.home.encodings,
        columns: sink(config).map_or_else(|_| Arc::default(), |sink| sink.columns.clone()),
    }
}
