//! One batch of PROCESSED: takes rows, drops duplicates, writes sorted files per date.
//!
//! Rows are held in memory until `finish`; the plan of the batch bounds them by `memory.budget`. Each touched partition
//! gets one file, or several of about `target_bytes`, each with its key sidecar. Rows keep their columns and
//! coordinates; the partition column is only in the path, so a column of that name is left out of the file.

mod files;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_row::{RowConverter, SortField};
use arrow_schema::{ArrowError, Schema, SchemaRef};

use crate::chain::Ledger;
use crate::commit::{AddedFile, LogName, Role};
use crate::error::{Error, Kind, Result};
use crate::record::{OFFSET, ROW, SplitId};
use crate::sink::Finish;
use crate::store::Store;

use crate::config::TableName;
use crate::zone::ParquetOptions;
use crate::zone::dedup::{Candidate, mark_known, mark_within};
use crate::zone::keys::{KeyScheme, KeyStream};
use crate::zone::layout::table_of;
use crate::zone::names::{Origin, clashes};
use crate::zone::partition::{PartitionBy, Period, WHOLE};
use crate::zone::read::{Located, Rows};

#[derive(Clone, Debug)]
pub struct ProcessedOptions {
    pub name: LogName,
    /// Without `${topic}`: a table may gather several topics.
    pub table: String,
    /// `None`: files lie in the table's directory.
    pub partition: Option<PartitionBy>,
    /// Key columns; empty = no deduplication and no sidecars.
    pub dedup: Vec<String>,
    /// Partitions within this many days are searched too.
    pub lookback_days: u32,
    /// Empty = the key columns, or coordinates if there are none.
    pub sort: Vec<String>,
    pub parquet: ParquetOptions,
    /// A partition's rows beyond this go to another file.
    pub target_bytes: u64,
}

/// A batch being gathered.
pub struct ProcessedBatch {
    store: Arc<dyn Store>,
    options: ProcessedOptions,
    schema: SchemaRef,
    scheme: KeyScheme,
    splits: Vec<SplitId>,
    batches: Vec<RecordBatch>,
    rows: Vec<Row>,
    candidates: Vec<Candidate>,
    bytes: usize,
}

/// Where a row is and the values that decide its order, without its columns.
#[derive(Clone, Copy, Debug)]
struct Row {
    batch: u32,
    index: u32,
    split: u32,
    row: i32,
    offset: i64,
    period: Period,
}

/// The result of a batch.
#[derive(Debug)]
pub struct Processed {
    /// Rows files, each followed by its sidecar.
    pub files: Vec<Box<dyn Finish>>,
    /// Per split that had rows. A record all of whose rows are duplicates counts as filtered.
    pub ledgers: BTreeMap<SplitId, Ledger>,
    /// The column that is left out of the files because the partition column has its name.
    pub dropped_column: Option<String>,
}

impl ProcessedOptions {
    fn fit(&self, schema: &SchemaRef) -> Result<()> {
        let known = |name: &str| schema.field_with_name(name).ok();
        let missing = |key: &'static str, name: &str| {
            Error::new(
                Kind::ConfigInvalid,
                "zone.processed",
                format!("{key} names `{name}`, which is not a column of the rows"),
            )
            .with("columns", names(schema))
        };
        if let Some(by) = &self.partition {
            let field = known(&by.field);
            let field = field.ok_or_else(|| missing("sink.partition.field", &by.field))?;
            by.check(field.data_type())?;
        }
        self.one_name_each(schema)?;
        for name in &self.dedup {
            known(name).ok_or_else(|| missing("sink.dedup.key", name))?;
        }
        for name in &self.sort {
            known(name).ok_or_else(|| missing("sink.sort", name))?;
        }
        Ok(())
    }
}

impl ProcessedOptions {
    /// A partition may have its field's own name: the field is then left out of the files.
    fn one_name_each(&self, schema: &Schema) -> Result<()> {
        let by = self.partition.as_ref();
        let left_out = |name: &str| by.is_some_and(|by| by.name == name && by.field == name);
        let columns = schema.fields().iter().map(|field| field.name().as_str());
        let columns = columns.filter(|name| !left_out(name));
        let path = by.map(|by| (by.name.as_str(), Origin::Path("sink.partition.name")));
        let found = clashes(path, columns.map(|name| (name, Origin::Source)));
        let Some(clash) = found.first() else {
            return Ok(());
        };
        let (message, hint) = match &clash.other_by {
            Origin::Path(key) => (
                format!(
                    "{key} `{}` is also a column of the rows, `{}`: engines would read one for the other",
                    clash.other, clash.column
                ),
                "set sink.partition.name to a name that no column has",
            ),
            _ => (
                clash.to_string(),
                "give one of them another name in the pipeline that writes the zone; files that have both stay in the \
                 way until that pipeline is rewound behind them",
            ),
        };
        Err(Error::new(Kind::ConfigInvalid, "zone.processed", message).hint(hint))
    }
}

impl ProcessedBatch {
    /// `schema`: that of all rows to come; without columns if there will be no rows. Refuses options that do not fit
    /// it.
    pub fn new(
        store: Arc<dyn Store>,
        options: ProcessedOptions,
        schema: SchemaRef,
    ) -> Result<ProcessedBatch> {
        table_of(&TableName::Fixed(options.table.to_string()), "")?;
        let scheme = KeyScheme::new(&options.dedup);
        if !schema.fields().is_empty() {
            options.fit(&schema)?;
            scheme.keys(&RecordBatch::new_empty(schema.clone()))?;
        }
        Ok(ProcessedBatch {
            store,
            options,
            schema,
            scheme,
            splits: Vec::new(),
            batches: Vec::new(),
            rows: Vec::new(),
            candidates: Vec::new(),
            bytes: 0,
        })
    }

    /// Rows of one split, in any order.
    pub fn push(&mut self, rows: Rows) -> Result<()> {
        let Rows { split, batch } = rows;
        if batch.schema() != self.schema {
            return Err(bug("rows of another schema than the batch began with"));
        }
        let offsets = numbers::<arrow_array::types::Int64Type>(&batch, OFFSET)?;
        let pieces = numbers::<arrow_array::types::Int32Type>(&batch, ROW)?;
        let periods = match &self.options.partition {
            Some(by) => match batch.column_by_name(&by.field) {
                Some(column) => by.periods(column)?,
                None => return Err(bug("the partition field is gone")),
            },
            None => vec![WHOLE; batch.num_rows()],
        };
        let known = self.splits.iter().position(|c| *c == split);
        let split_index = known.unwrap_or(self.splits.len());
        if known.is_none() {
            self.splits.push(split);
        }
        if !self.options.dedup.is_empty() {
            for (i, key) in self.scheme.keys(&batch)?.into_iter().enumerate() {
                let row = (self.rows.len() + i) as u32;
                self.candidates
                    .extend(key.map(|key| Candidate { key, row }));
            }
        }
        for (i, ((offset, row), period)) in offsets.iter().zip(&pieces).zip(periods).enumerate() {
            self.rows.push(Row {
                batch: self.batches.len() as u32,
                index: i as u32,
                split: split_index as u32,
                row: *row,
                offset: *offset,
                period,
            });
        }
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes held; `finish` adds about 24 per row, the sort columns and one row group.
    pub fn memory(&self) -> usize {
        self.bytes
            + self.rows.capacity() * size_of::<Row>()
            + self.candidates.capacity() * size_of::<Candidate>()
    }

    /// Deduplicates against `live` (the files of this zone at version D) and writes.
    ///
    /// `version_of(split, offset)`: version of RAW whose span covers the offset.
    pub fn finish(
        mut self,
        live: &[AddedFile],
        version_of: &dyn Fn(&SplitId, i64) -> Option<u64>,
    ) -> Result<Processed> {
        let order = self.order(version_of)?;
        let duplicate = self.duplicates(live, &order)?;
        let ledgers = self.ledgers(&duplicate);
        let mut keys = vec![
            None;
            if self.options.dedup.is_empty() {
                0
            } else {
                self.rows.len()
            }
        ];
        for candidate in std::mem::take(&mut self.candidates) {
            keys[candidate.row as usize] = Some(candidate.key);
        }
        let mut kept: Vec<u32> = (0..self.rows.len() as u32).collect();
        kept.retain(|row| !duplicate[*row as usize]);
        self.sort(&mut kept, &order)?;
        let dropped_column = self.dropped_column();
        let files = files::write(&self, &kept, &keys, dropped_column.as_deref())?;
        Ok(Processed {
            files,
            ledgers,
            dropped_column,
        })
    }

    fn row(&self, row: u32) -> &Row {
        &self.rows[row as usize]
    }

    fn period(&self, row: u32) -> Period {
        self.row(row).period
    }

    /// Per row: (RAW version, split by topic id and partition); offset and `_row` are in [`Row`].
    fn order(&self, version_of: &dyn Fn(&SplitId, i64) -> Option<u64>) -> Result<Vec<(u64, u32)>> {
        let mut sorted: Vec<usize> = (0..self.splits.len()).collect();
        sorted.sort_by_key(|i| place_of(self.splits[*i].as_str()));
        let mut ranks = vec![0; sorted.len()];
        for (rank, split) in sorted.into_iter().enumerate() {
            ranks[split] = rank as u32;
        }
        let mut order = Vec::with_capacity(self.rows.len());
        let mut last: Option<(u32, i64, u64)> = None;
        for row in &self.rows {
            let version = match last {
                Some((split, offset, version)) if (split, offset) == (row.split, row.offset) => {
                    version
                }
                _ => {
                    let split = &self.splits[row.split as usize];
                    version_of(split, row.offset).ok_or_else(|| {
                        Error::new(
                            Kind::LogCorrupt,
                            "zone.processed",
                            "a row whose offset no commit of the source zone covers",
                        )
                        .with("split", split)
                        .with("offset", row.offset)
                    })?
                }
            };
            last = Some((row.split, row.offset, version));
            order.push((version, ranks[row.split as usize]));
        }
        Ok(order)
    }

    fn duplicates(&mut self, live: &[AddedFile], order: &[(u64, u32)]) -> Result<Vec<bool>> {
        let mut duplicate = vec![false; self.rows.len()];
        if self.options.dedup.is_empty() {
            return Ok(duplicate);
        }
        self.candidates.sort_unstable();
        let mut touched: Vec<Period> = self.rows.iter().map(|row| row.period).collect();
        touched.sort_unstable();
        touched.dedup();
        let near = |a: Period, b: Period| match &self.options.partition {
            Some(by) => by.near(a, b, self.options.lookback_days),
            None => true,
        };
        let sidecars: BTreeMap<&str, &AddedFile> = live
            .iter()
            .filter(|f| f.role == Role::Keys)
            .map(|f| (f.id.as_str(), f))
            .collect();
        let prefix = format!("{}/", self.options.table);
        for rows in live
            .iter()
            .filter(|f| f.role == Role::Rows && f.path.starts_with(&prefix))
        {
            let period = self.period_of(rows)?;
            if !touched.iter().any(|t| near(*t, period)) {
                continue;
            }
            let sidecar = sidecar(rows, &sidecars)?;
            let located = Located::find(&self.store, &self.options.name, sidecar)?;
            let keys = KeyStream::open(located, sidecar, &self.scheme)?;
            let reaches = |row: u32| near(self.period(row), period);
            mark_known(&self.candidates, keys, reaches, &mut duplicate)?;
        }
        let order = |row: u32| (order[row as usize], self.row(row).offset, self.row(row).row);
        let near = |a: u32, b: u32| near(self.period(a), self.period(b));
        mark_within(&self.candidates, order, near, &mut duplicate);
        Ok(duplicate)
    }

    fn period_of(&self, file: &AddedFile) -> Result<Period> {
        let Some(by) = &self.options.partition else {
            return Ok(WHOLE);
        };
        let value = file.partition_values.get(&by.name).ok_or_else(|| {
            Error::new(
                Kind::ConfigInvalid,
                "zone.processed",
                format!(
                    "the zone has files that are not partitioned by `{}`",
                    by.name
                ),
            )
            .with("file", &file.path)
            .hint("set sink.partition.* back, or write to a new zone")
        })?;
        Ok(by.period(value))
    }

    fn ledgers(&self, duplicate: &[bool]) -> BTreeMap<SplitId, Ledger> {
        let mut seen: Vec<(u32, i64, bool)> = self
            .rows
            .iter()
            .zip(duplicate)
            .map(|(row, duplicate)| (row.split, row.offset, *duplicate))
            .collect();
        if !seen.is_sorted() {
            seen.sort_unstable();
        }
        let mut ledgers: BTreeMap<SplitId, Ledger> = BTreeMap::new();
        for record in seen.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let Some((split, ..)) = record.first() else {
                continue;
            };
            let duplicates = record.iter().filter(|(.., duplicate)| *duplicate).count() as u64;
            let made = record.len() as u64;
            let ledger = ledgers
                .entry(self.splits[*split as usize].clone())
                .or_default();
            ledger.records.read += 1;
            ledger.records.with_rows += u64::from(duplicates < made);
            ledger.records.filtered += u64::from(duplicates == made);
            ledger.rows.made += made;
            ledger.rows.written += made - duplicates;
            ledger.rows.duplicates += duplicates;
        }
        ledgers
    }

    /// Sorts by partition, then by the sort columns (nulls first), then in the order of RAW.
    fn sort(&self, kept: &mut [u32], order: &[(u64, u32)]) -> Result<()> {
        let names = match self.options.sort.is_empty() {
            true => &self.options.dedup,
            false => &self.options.sort,
        };
        let types = names
            .iter()
            .filter_map(|name| self.schema.field_with_name(name).ok());
        let types = types
            .map(|field| SortField::new(field.data_type().clone()))
            .collect();
        let converter = RowConverter::new(types).map_err(|e| {
            Error::new(
                Kind::ConfigInvalid,
                "zone.processed",
                "sink.sort cannot be sorted by",
            )
            .source(e)
        })?;
        let mut sorted = Vec::with_capacity(self.batches.len());
        for batch in &self.batches {
            let columns = names
                .iter()
                .filter_map(|name| batch.column_by_name(name).cloned());
            let columns: Vec<ArrayRef> = columns.collect();
            let rows = match columns.is_empty() {
                true => converter.empty_rows(0, 0),
                false => converter.convert_columns(&columns).map_err(arrow_failed)?,
            };
            sorted.push(rows);
        }
        kept.sort_unstable_by(|a, b| {
            let (x, y) = (self.row(*a), self.row(*b));
            let columns = || {
                if names.is_empty() {
                    return std::cmp::Ordering::Equal;
                }
                let x = sorted[x.batch as usize].row(x.index as usize);
                x.cmp(&sorted[y.batch as usize].row(y.index as usize))
            };
            let log = |row: u32, at: &Row| (order[row as usize], at.offset, at.row);
            x.period
                .cmp(&y.period)
                .then_with(columns)
                .then_with(|| log(*a, x).cmp(&log(*b, y)))
        });
        Ok(())
    }

    fn dropped_column(&self) -> Option<String> {
        let by = self.options.partition.as_ref()?;
        self.schema
            .field_with_name(&by.name)
            .ok()
            .map(|field| field.name().clone())
    }
}

impl fmt::Debug for ProcessedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessedBatch")
            .field("name", &self.options.name)
            .field("rows", &self.rows.len())
            .finish_non_exhaustive()
    }
}

fn sidecar<'a>(
    rows: &AddedFile,
    sidecars: &BTreeMap<&str, &'a AddedFile>,
) -> Result<&'a AddedFile> {
    let found = rows.keys.as_deref().and_then(|id| sidecars.get(id));
    found.copied().ok_or_else(|| {
        Error::new(
            Kind::ConfigInvalid,
            "zone.processed",
            "a file of the zone has no key sidecar: it was written without deduplication",
        )
        .with("file", &rows.path)
        .hint("write deduplicated rows to a new zone")
    })
}

/// `kafka/<cluster>/<topic id>/12` sorts by the text before the number, then by the number.
fn place_of(split: &str) -> (&str, i64) {
    let parts = split.rsplit_once('/');
    let parsed = parts.and_then(|(prefix, n)| Some((prefix, n.parse().ok()?)));
    parsed.unwrap_or((split, 0))
}

fn numbers<T: arrow_array::ArrowPrimitiveType>(
    batch: &RecordBatch,
    name: &str,
) -> Result<Vec<T::Native>> {
    use arrow_array::cast::AsArray;
    let column = batch
        .column_by_name(name)
        .and_then(|c| c.as_primitive_opt::<T>());
    let column =
        column.ok_or_else(|| bug("rows without their coordinates").with("column", name))?;
    Ok(column.values().to_vec())
}

fn names(schema: &Schema) -> String {
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    names.join(",")
}

fn arrow_failed(e: ArrowError) -> Error {
    bug("gathering rows failed").source(e)
}

fn bug(message: &str) -> Error {
    Error::new(Kind::Bug, "zone.processed", message)
}
