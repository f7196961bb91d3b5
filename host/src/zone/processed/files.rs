//! Writes the rows that a batch keeps: partition after partition, sorted, each file with its key sidecar.

use std::sync::Arc;

use arrow_array::Array;
use arrow_schema::{ArrowError, Schema, SchemaRef};
use arrow_select::interleave::interleave;

use super::{ProcessedBatch, arrow_failed};
use crate::chain::Column;
use crate::commit::{Role, new_file_id};
use crate::error::Result;
use crate::sink::Finish;
use crate::zone::file::{Birth, Plain, RowsFile, Written};
use crate::zone::keys::{Key, write_keys};
use crate::zone::layout::{Partition, parquet_path};

/// Rows decoded, taken and encoded at a time.
const CHUNK_ROWS: usize = 8192;
/// Most files that wait for the committer with an open handle; further ones are made durable at once.
const OPEN_FILES: usize = 64;

/// `kept` is sorted by partition; `keys` has one key per row of the batch, and is empty without deduplication.
pub fn write(
    batch: &ProcessedBatch,
    kept: &[u32],
    keys: &[Option<Key>],
    dropped: Option<&str>,
) -> Result<Vec<Box<dyn Finish>>> {
    let mut files = Files {
        batch,
        keys,
        dropped,
        plain: Plain::new(),
        done: Vec::new(),
    };
    for partition in kept.chunk_by(|a, b| batch.period(*a) == batch.period(*b)) {
        files.write_partition(partition)?;
    }
    let done = files.done.into_iter();
    Ok(done.map(|file| Box::new(file) as Box<dyn Finish>).collect())
}

/// Writes the kept rows of a batch, partition after partition.
struct Files<'a> {
    batch: &'a ProcessedBatch,
    keys: &'a [Option<Key>],
    dropped: Option<&'a str>,
    plain: Plain,
    done: Vec<Written>,
}

impl Files<'_> {
    fn write_partition(&mut self, rows: &[u32]) -> Result<()> {
        let schema = self.schema();
        let mut file: Option<(RowsFile, usize)> = None;
        for (chunk, at) in rows.chunks(CHUNK_ROWS).zip((0..).step_by(CHUNK_ROWS)) {
            if let Some((full, from)) =
                file.take_if(|(file, _)| file.size() >= self.batch.options.target_bytes)
            {
                self.close(full, &rows[from..at])?;
            }
            if file.is_none() {
                file = Some((self.create(rows[at], &schema)?, at));
            }
            if let Some((file, _)) = &mut file {
                let columns = self.columns(chunk, &schema).map_err(arrow_failed)?;
                file.write(&columns, chunk.len())?;
                for row in chunk.iter().map(|row| self.batch.row(*row)) {
                    let split = &self.batch.splits[row.split as usize];
                    file.cover(split, row.offset, row.offset + 1, 1);
                }
            }
        }
        match file {
            Some((last, from)) => self.close(last, &rows[from..]),
            None => Ok(()),
        }
    }

    /// Without the partition column.
    fn schema(&self) -> SchemaRef {
        let fields = self.batch.schema.fields().iter();
        let fields = fields.filter(|field| Some(field.name().as_str()) != self.dropped);
        Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
    }

    fn columns(&self, rows: &[u32], schema: &Schema) -> Result<Vec<Column>, ArrowError> {
        let at = |row: &u32| {
            let row = self.batch.row(*row);
            (row.batch as usize, row.index as usize)
        };
        let at: Vec<(usize, usize)> = rows.iter().map(at).collect();
        let column = |name: &str| {
            let parts = self
                .batch
                .batches
                .iter()
                .filter_map(|b| b.column_by_name(name));
            let parts: Vec<&dyn Array> = parts.map(|part| part.as_ref()).collect();
            let values = interleave(&parts, &at)?;
            Ok(Column {
                values,
                constant: false,
            })
        };
        schema
            .fields()
            .iter()
            .map(|field| column(field.name()))
            .collect()
    }

    fn partition(&self, row: u32) -> Partition {
        let by = self.batch.options.partition.iter();
        by.map(|by| (by.name.clone(), by.value(self.batch.period(row))))
            .collect()
    }

    fn create(&self, row: u32, schema: &SchemaRef) -> Result<RowsFile> {
        let options = &self.batch.options;
        let partition = self.partition(row);
        let file = new_file_id();
        let path = parquet_path(&options.table, &partition, &file);
        let birth = self.birth(&file, &path, Role::Rows, partition);
        let plain = self.plain.clone();
        RowsFile::create(&self.batch.store, birth, schema, &options.parquet, plain)
    }

    fn birth(&self, file: &str, path: &str, role: Role, partition: Partition) -> Birth {
        let name = &self.batch.options.name;
        Birth {
            place: name.place(file, path),
            role,
            partition,
            pipeline: name.pipeline.clone(),
        }
    }

    /// Closes a file that holds `rows`, and writes its sidecar.
    fn close(&mut self, file: RowsFile, rows: &[u32]) -> Result<()> {
        let (mut written, plain) = file.close()?;
        self.plain = plain;
        let sidecar = match rows.first() {
            Some(first) if !self.batch.options.dedup.is_empty() => {
                let mut keys: Vec<Key> = rows
                    .iter()
                    .filter_map(|row| self.keys[*row as usize])
                    .collect();
                keys.sort_unstable();
                let id = new_file_id();
                let path = self.batch.options.name.keys(&id);
                let birth = self.birth(&id, &path, Role::Keys, self.partition(*first));
                let ranges = written.added().ranges.clone();
                written.added_mut().keys = Some(id);
                Some(write_keys(
                    &self.batch.store,
                    birth,
                    &self.batch.scheme,
                    &keys,
                    ranges,
                )?)
            }
            _ => None,
        };
        for written in [Some(written), sidecar].into_iter().flatten() {
            let full = self.done.len() >= OPEN_FILES;
            self.done
                .push(if full { written.settle()? } else { written });
        }
        Ok(())
    }
}
