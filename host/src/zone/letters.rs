//! Dead letters alone, for a sink whose rows go elsewhere: files of the home, sealed with the rows of the same records.
//!
//! One file holds at most one split per topic and partition, as in [`super::write`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;

use crate::chain::DeadLetter;
use crate::clock::Clock;
use crate::commit::{LogName, Role, new_file_id};
use crate::config::TableName;
use crate::error::Result;
use crate::record::{Batch, OffsetRange, SplitId, TopicPartition};
use crate::sink::SinkContext;
use crate::store::Store;

use super::ParquetOptions;
use super::deadletter;
use super::file::{Birth, Plain, RowsFile, Written, fits};
use super::layout::{ingest_partition, parquet_path, table_of};
use super::write::plain_columns;

/// Where dead letters lie.
#[derive(Clone, Debug)]
pub struct LettersTable {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub log: LogName,
    pub table: TableName,
    pub parquet: ParquetOptions,
}

impl LettersTable {
    /// In the home of a sink.
    pub fn of(context: &SinkContext, table: &str, parquet: ParquetOptions) -> LettersTable {
        LettersTable {
            store: context.store.clone(),
            clock: context.clock.clone(),
            log: context.log.clone(),
            table: TableName::Fixed(table.to_owned()),
            parquet,
        }
    }
}

/// Files of dead letters that are being written.
pub struct LetterFiles {
    to: LettersTable,
    open: Vec<OpenLetters>,
}

struct OpenLetters {
    table: String,
    splits: BTreeMap<TopicPartition, SplitId>,
    file: RowsFile,
}

impl LetterFiles {
    pub fn new(to: LettersTable) -> LetterFiles {
        LetterFiles {
            to,
            open: Vec::new(),
        }
    }

    /// Letters of records of one batch, ordered by record and piece.
    pub fn add(&mut self, batch: &Batch, letters: &[DeadLetter]) -> Result<()> {
        let (Some(first), Some(last)) = (letters.first(), letters.last()) else {
            return Ok(());
        };
        let offset = |letter: &DeadLetter| batch.offset.value(letter.record as usize);
        let range = OffsetRange {
            from: offset(first),
            to: offset(last) + 1,
        };
        let rows = deadletter::rows(batch, letters)?;
        self.put(&batch.covers.split, &batch.covers.tp, range, &rows)
    }

    /// Letters of one split, as rows of the table. `range`: offsets between which all of them lie.
    pub fn put(
        &mut self,
        split: &SplitId,
        tp: &TopicPartition,
        range: OffsetRange,
        rows: &RecordBatch,
    ) -> Result<()> {
        let table = table_of(&self.to.table, &tp.topic)?;
        let fits = |open: &OpenLetters| {
            let same = |known: &SplitId| known == split;
            open.table == table && open.splits.get(tp).is_none_or(same)
        };
        let at = match self.open.iter().position(fits) {
            Some(at) => at,
            None => {
                let file = self.create(&table)?;
                self.open.push(OpenLetters {
                    table,
                    splits: BTreeMap::new(),
                    file,
                });
                self.open.len() - 1
            }
        };
        let open = &mut self.open[at];
        open.splits.insert(tp.clone(), split.clone());
        open.file.write(&plain_columns(rows), rows.num_rows())?;
        open.file
            .cover(split, range.from, range.to, rows.num_rows() as u64);
        Ok(())
    }

    fn create(&self, table: &str) -> Result<RowsFile> {
        let to = &self.to;
        let partition = ingest_partition(to.clock.now_micros(), false);
        let file = new_file_id();
        let path = parquet_path(table, &partition, &file);
        let birth = Birth {
            place: to.log.place(&file, &path),
            role: Role::DeadLetters,
            partition,
            pipeline: to.log.pipeline.clone(),
        };
        fits(to.store.as_ref(), &birth.place)?;
        RowsFile::create(
            &to.store,
            birth,
            &deadletter::schema(),
            &to.parquet,
            Plain::new(),
        )
    }

    /// The files, closed; the next letter begins another.
    pub fn close(&mut self) -> Result<Vec<Written>> {
        let open = std::mem::take(&mut self.open).into_iter();
        open.map(|open| Ok(open.file.close()?.0)).collect()
    }

    pub fn memory(&self) -> usize {
        self.open.iter().map(|open| open.file.memory()).sum()
    }

    /// Drops what is not closed.
    pub fn discard(&mut self) {
        self.open.clear();
    }
}

impl fmt::Debug for LetterFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LetterFiles")
            .field("log", &self.to.log)
            .finish_non_exhaustive()
    }
}
