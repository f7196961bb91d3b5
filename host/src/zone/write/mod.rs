//! The RAW sink: rows and dead letters of one task into one open file per table, sealed together.
//!
//! The columns of the transforms come first, then the original bytes if asked for (`_value`, `_key`, `_headers`), then
//! the system columns. If columns with the names and types of system columns pass through the transforms (or there are
//! no transforms), the host's own replace them. One file holds at most one split per topic and partition, so that in a
//! file a coordinate names one record even after a topic was recreated. Rows of another format than Parquet have a file for each
//! split: a rewind, which goes back to the end of a commit, then takes whole files, and no file has to be read back.

mod columns;
mod refusals;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_schema::{FieldRef, Schema, SchemaRef};
use arrow_select::take::take;

use crate::chain::{Applied, Column, DeadLetter};
use crate::clock::Clock;
use crate::commit::{LogName, Role, new_file_id};
use crate::config::{Bucket, Directories, Files, Rotate, SortBy, TableName};
use crate::error::{Error, Kind, Result};
use crate::record::{Batch, SplitId, TopicPartition};
use crate::sink::covered::Gathering;
use crate::sink::refusing::Refusing;
use crate::sink::{Base, Finish, Gathered, Sealed, Sink};
use crate::store::Store;
use crate::zone::deadletter;

pub use self::columns::{ORIGINALS, host_fields};
use super::ParquetOptions;
use super::bucket::{buckets, fitting, tail};
use super::directories::{Placed, Placing, values_of};
use super::file::{Birth, Order, Plain, Written, fits};
use super::format::unknown;
use super::formats::AnyFile;
use super::layout::{ingest_partition, offsets_name, path_in, table_of, tailed_path};
use super::parts::{parts, rows_of};

#[derive(Clone, Debug)]
pub struct ZoneOptions {
    pub name: LogName,
    pub table: TableName,
    pub letters_table: TableName,
    pub rotate: Rotate,
    pub parquet: ParquetOptions,
    /// Also write the original bytes.
    pub keep_value: bool,
    /// Order of the rows inside each row group; empty: as they come.
    pub sort: Vec<SortBy>,
    /// Rows are divided by it; each bucket has a file of its own.
    pub bucket: Option<Bucket>,
    pub files: Files,
    pub directories: Directories,
    /// For rows that have no directory, or are not what their format needs.
    pub refusing: Refusing,
}

pub struct ZoneSink {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    options: ZoneOptions,
    gathering: Gathering,
    placing: Placing,
    /// Since the last seal.
    open: Vec<OpenFile>,
    /// Since the last seal: files that were closed so that others can be open.
    closed: Vec<Written>,
    closed_rows: u64,
    /// Counts what is written, to find the file that was written to longest ago.
    writes: u64,
    /// Per table, see [`Plain`].
    plain: BTreeMap<String, Plain>,
    /// Columns of `sink.columns` that a table does not have, and that was said.
    missing: BTreeSet<String>,
}

struct OpenFile {
    target: Target,
    splits: BTreeMap<TopicPartition, SplitId>,
    file: AnyFile,
    last_write: u64,
}

/// Which file rows go to.
#[derive(Clone, PartialEq)]
struct Target {
    table: String,
    role: Role,
    bucket: Option<u32>,
    /// `None`: by the time of ingestion.
    directory: Option<Arc<str>>,
    /// Only for rows of this split.
    split: Option<SplitId>,
}

impl ZoneSink {
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        options: ZoneOptions,
        base: Base,
    ) -> ZoneSink {
        let json = options.files.column.clone();
        let json = json.filter(|_| options.files.text_is_json);
        ZoneSink {
            gathering: Gathering::new(base, clock.clone()),
            placing: Placing::new(options.directories.clone(), json, store.path_limits()),
            store,
            clock,
            options,
            open: Vec::new(),
            closed: Vec::new(),
            closed_rows: 0,
            writes: 0,
            plain: BTreeMap::new(),
            missing: BTreeSet::new(),
        }
    }

    fn take(&mut self, batch: &Batch, mut applied: Applied) -> Result<()> {
        check(batch, &applied)?;
        if batch.covers.range.from == batch.covers.range.to {
            return Ok(());
        }
        self.tombstones(batch, &mut applied)?;
        self.refuse_other_text(batch, &mut applied)?;
        self.refuse_other_bytes(batch, &mut applied)?;
        let table = table_of(&self.options.table, &batch.covers.tp.topic)?;
        let placed = self.placed(batch, &mut applied, &table)?;
        let applied = &applied;
        self.gathering.cover(batch, applied)?;
        let kept = |record: &u32| match self.options.keep_value {
            true => batch.bytes_of(*record as usize),
            false => 0,
        };
        let parts: Vec<Range<usize>> = parts(applied.record.iter().map(kept)).collect();
        let split = self.options.files.of_one_split();
        let rows_of_table = Target {
            split: split.then(|| batch.covers.split.clone()),
            ..Target::of(table, Role::Rows)
        };
        for part in parts {
            let rows = rows_of(applied, part.clone());
            let (fields, columns) = self.columns(batch, &rows)?;
            let divided = self.divided(&fields, &columns, placed.as_ref(), part)?;
            let Some(divided) = divided else {
                let offsets = row_offsets(batch, &rows);
                let mut target = rows_of_table.clone();
                target.directory = placed
                    .as_ref()
                    .and_then(|placed| placed.names.first().cloned());
                self.append(batch, target, (fields, &columns), offsets)?;
                continue;
            };
            for ((directory, bucket), picked) in divided {
                let target = Target {
                    bucket,
                    directory: placed.as_ref().and_then(|placed| placed.name(directory)),
                    ..rows_of_table.clone()
                };
                let offset = |row: Option<u32>| {
                    let record = row.and_then(|row| rows.record.get(row as usize));
                    record.map_or(0, |record| batch.offset.value(*record as usize))
                };
                let offsets = (offset(picked.first()), offset(picked.last()));
                let columns = picked.picked(&columns)?;
                self.append(batch, target, (fields.clone(), &columns), offsets)?;
            }
        }
        self.take_letters(batch, applied)
    }

    fn take_letters(&mut self, batch: &Batch, applied: &Applied) -> Result<()> {
        let letters = &applied.dead_letters;
        if let (Some(first), Some(last)) = (letters.first(), letters.last()) {
            let rows = deadletter::rows(batch, letters)?;
            let columns = plain_columns(&rows);
            let fields = rows.schema().fields().to_vec();
            let table = table_of(&self.options.letters_table, &batch.covers.tp.topic)?;
            let offset = |letter: &DeadLetter| batch.offset.value(letter.record as usize);
            let offsets = (offset(first), offset(last));
            let target = Target::of(table, Role::DeadLetters);
            self.append(batch, target, (fields, &columns), offsets)?;
        }
        Ok(())
    }

    /// The rows of each directory and bucket that has some; `None`: all rows go to one. `part`: which of the placed rows these are.
    fn divided(
        &self,
        fields: &[FieldRef],
        columns: &[Column],
        placed: Option<&Placed>,
        part: Range<usize>,
    ) -> Result<Option<Divided>> {
        let rows = part.len();
        let placed = placed.filter(|placed| placed.names.len() > 1);
        let numbers = match &self.options.bucket {
            Some(bucket) => Some(bucket_numbers(fields, columns, rows, bucket)?),
            None => None,
        };
        if placed.is_none() && numbers.is_none() {
            return Ok(None);
        }
        let mut all: BTreeMap<Part, Vec<u32>> = BTreeMap::new();
        for (row, at) in (0..).zip(part) {
            let directory = placed.and_then(|placed| placed.of_row.get(at)).copied();
            let bucket = numbers
                .as_ref()
                .and_then(|numbers| numbers.get(row as usize));
            let target = (directory.unwrap_or(0), bucket.copied());
            all.entry(target).or_default().push(row);
        }
        let picked = |(target, rows)| (target, Picked(UInt32Array::from(rows)));
        Ok(Some(all.into_iter().map(picked).collect()))
    }

    /// `offsets`: of the first and the last row.
    fn append(
        &mut self,
        batch: &Batch,
        target: Target,
        (fields, columns): (Vec<FieldRef>, &[Column]),
        offsets: (i64, i64),
    ) -> Result<()> {
        let covers = &batch.covers;
        let rows = row_count(columns);
        let fits = |open: &OpenFile| {
            open.target == target
                && open
                    .splits
                    .get(&covers.tp)
                    .is_none_or(|split| *split == covers.split)
        };
        let found = self.open.iter().position(fits);
        let schema = Arc::new(Schema::new(fields));
        let created = match found {
            Some(_) => None,
            None => {
                self.make_room(&target)?;
                Some(OpenFile {
                    file: self.create(&target, &schema, (&covers.tp, offsets.0))?,
                    target,
                    splits: BTreeMap::new(),
                    last_write: 0,
                })
            }
        };
        self.open.extend(created);
        let index = found.unwrap_or(self.open.len() - 1);
        self.writes += 1;
        let Some(open) = self.open.get_mut(index) else {
            return Err(bug("rows without a file"));
        };
        if open.file.schema() != &schema {
            return Err(
                bug("the columns changed inside a file; new rules begin with a seal")
                    .with("table", &open.target.table),
            );
        }
        open.last_write = self.writes;
        open.splits.insert(covers.tp.clone(), covers.split.clone());
        open.file.write(columns, rows)?;
        open.file
            .cover(&covers.split, offsets.0, offsets.1 + 1, rows as u64);
        Ok(())
    }

    /// Closes the file that was written to longest ago where another one is to be begun and as many as may be are open.
    fn make_room(&mut self, target: &Target) -> Result<()> {
        let of_rows = |open: &&OpenFile| open.target.role == Role::Rows;
        let open = self.open.iter().filter(of_rows).count();
        if target.role != Role::Rows || open < self.options.files.open {
            return Ok(());
        }
        let numbered = self.open.iter().enumerate();
        let oldest = numbered
            .filter(|(_, open)| open.target.role == Role::Rows)
            .min_by_key(|(_, open)| open.last_write);
        let Some((at, _)) = oldest else { return Ok(()) };
        let open = self.open.swap_remove(at);
        self.closed_rows += open.file.rows();
        let (written, plain) = open.file.close()?;
        self.plain.insert(open.target.table, plain);
        self.closed.push(written.settle()?);
        Ok(())
    }

    /// `first`: the coordinate of its first row.
    fn create(
        &mut self,
        target: &Target,
        schema: &SchemaRef,
        first: (&TopicPartition, i64),
    ) -> Result<AnyFile> {
        let (table, role) = (target.table.as_str(), target.role);
        let file = new_file_id();
        let (partition, path) = match &target.directory {
            None => {
                let partition = ingest_partition(self.clock.now_micros(), role == Role::Rows);
                let path = tailed_path(table, &partition, &file, &self.tail(target, first));
                (partition, path)
            }
            Some(directory) => {
                let name = format!("{file}.{}", self.tail(target, first));
                let path = path_in(table, directory, &name);
                (values_of(directory, &self.options.directories), path)
            }
        };
        let birth = Birth {
            place: self.options.name.place(&file, &path),
            role,
            partition,
            pipeline: self.options.name.pipeline.clone(),
        };
        fits(self.store.as_ref(), &birth.place)?;
        let files = &self.options.files;
        if role == Role::Rows && !files.format.is_parquet() {
            return AnyFile::other(&self.store, birth, schema, files, table);
        }
        let plain = self.plain.get(table).cloned().unwrap_or_default();
        if role == Role::Rows {
            self.say_missing(table, schema);
        }
        let order = match role {
            Role::Rows => Order::Sort(&self.options.sort),
            _ => Order::Any,
        };
        let parquet = &self.options.parquet;
        AnyFile::parquet(&self.store, birth, schema, parquet, (plain, order))
    }

    /// What stands behind the id in a file's name.
    fn tail(&self, target: &Target, (tp, offset): (&TopicPartition, i64)) -> String {
        if target.role != Role::Rows {
            return tail(None);
        }
        let files = &self.options.files;
        let end = match files.format.is_parquet() {
            true => tail(target.bucket),
            false => files.extension.clone(),
        };
        match files.offsets {
            Some(digits) => {
                let name = offsets_name(&tp.topic, tp.partition, offset, digits);
                format!("{name}.{end}")
            }
            None => end,
        }
    }

    fn say_missing(&mut self, table: &str, schema: &Schema) {
        for column in unknown(schema, self.options.parquet.columns.keys()) {
            if self.missing.insert(format!("{table}/{column}")) {
                tracing::warn!(
                    table,
                    column,
                    "sink.columns names a column that the rows do not have; its keys have no effect"
                );
            }
        }
    }

    fn close(&mut self) -> Result<Option<Sealed>> {
        let mut files: Vec<Box<dyn Finish>> = Vec::new();
        self.closed_rows = 0;
        for written in std::mem::take(&mut self.closed) {
            files.push(Box::new(written));
        }
        for open in std::mem::take(&mut self.open) {
            let (written, plain) = open.file.close()?;
            self.plain.insert(open.target.table, plain);
            files.push(Box::new(written));
        }
        files.sort_by(|a, b| {
            (a.added().role, &a.added().path).cmp(&(b.added().role, &b.added().path))
        });
        Ok(self.gathering.seal(files, Vec::new()))
    }

    /// Bytes and memory of the open files of rows.
    #[cfg(test)]
    pub fn open_rows(&self) -> (u64, usize) {
        let rows = self
            .open
            .iter()
            .filter(|open| open.target.role == Role::Rows);
        rows.fold((0, 0), |(bytes, memory), open| {
            (bytes + open.file.size(), memory + open.file.memory())
        })
    }

    #[cfg(test)]
    pub fn plain_columns(&self, table: &str) -> Plain {
        self.plain.get(table).cloned().unwrap_or_default()
    }
}

impl Target {
    fn of(table: String, role: Role) -> Target {
        Target {
            table,
            role,
            bucket: None,
            directory: None,
            split: None,
        }
    }
}

/// A directory, by its index, and a bucket.
type Part = (u32, Option<u32>);

/// The rows of each that has some.
type Divided = BTreeMap<Part, Picked>;

/// Numbers of rows, ascending.
struct Picked(UInt32Array);

impl Picked {
    fn first(&self) -> Option<u32> {
        self.0.values().first().copied()
    }

    fn last(&self) -> Option<u32> {
        self.0.values().last().copied()
    }

    fn picked(&self, columns: &[Column]) -> Result<Vec<Column>> {
        let pick = |column: &Column| {
            if column.constant {
                return Ok(column.clone());
            }
            let values = take(&column.values, &self.0, None);
            Ok(Column {
                values: values.map_err(|e| bug("rows cannot be divided").source(e))?,
                constant: false,
            })
        };
        columns.iter().map(pick).collect()
    }
}

/// The bucket of each row.
fn bucket_numbers(
    fields: &[FieldRef],
    columns: &[Column],
    rows: usize,
    bucket: &Bucket,
) -> Result<Vec<u32>> {
    let mut values = Vec::new();
    for at in fitting(fields, bucket)? {
        let Some(column) = columns.get(at) else {
            continue;
        };
        values.push(match column.constant {
            true => take(&column.values, &UInt32Array::from(vec![0; rows]), None)
                .map_err(|e| bug("rows cannot be divided").source(e))?,
            false => column.values.clone(),
        });
    }
    Ok(buckets(&values, rows, bucket))
}

impl Sink for ZoneSink {
    fn write(&mut self, batch: &Batch, applied: Applied) -> Result<()> {
        self.take(batch, applied)
    }

    fn should_roll(&self) -> bool {
        let Some(age) = self.gathering.age() else {
            return false;
        };
        let rotate = &self.options.rotate;
        let rows = || self.closed_rows + self.open.iter().map(|f| f.file.rows()).sum::<u64>();
        let bytes = || self.open.iter().map(|f| f.file.size()).max().unwrap_or(0);
        age >= rotate.age
            || rotate.rows.is_some_and(|most| rows() >= most)
            || bytes() >= rotate.bytes
    }

    fn seal(&mut self) -> Result<Option<Sealed>> {
        self.close()
    }

    fn discard(&mut self) {
        self.gathering.discard();
        self.open.clear();
        self.closed.clear();
        self.closed_rows = 0;
    }

    fn gathered(&self) -> Gathered {
        self.gathering.gathered(self.options.rotate.age)
    }

    fn memory(&self) -> usize {
        self.open.iter().map(|open| open.file.memory()).sum()
    }
}

impl fmt::Debug for ZoneSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZoneSink")
            .field("name", &self.options.name)
            .finish_non_exhaustive()
    }
}

/// Sums of the batch are never trusted: what is written must match the ledger.
fn check(batch: &Batch, applied: &Applied) -> Result<()> {
    let rows = applied.table.rows;
    let length = |column: &Column| column.values.len() == if column.constant { 1 } else { rows };
    let in_batch = |record: u32| (record as usize) < batch.len();
    let range = batch.covers.range;
    let inside = |i: usize| (range.from..range.to).contains(&batch.offset.value(i));
    let wrong = if range.from > range.to {
        "a batch that ends before it begins"
    } else if !(batch.is_empty() || inside(0) && inside(batch.len() - 1)) {
        "records outside of the offsets that the batch covers"
    } else if !applied.ledger.closes() {
        "a ledger that does not close"
    } else if applied.ledger.rows.written != rows as u64
        || applied.record.len() != rows
        || applied.piece.len() != rows
        || applied.table.columns.len() != applied.table.schema.fields().len()
        || !applied.table.columns.iter().all(length)
    {
        "rows that differ from their ledger or their columns"
    } else if applied.ledger.dead_letters != applied.dead_letters.len() as u64 {
        "letters that differ from their ledger"
    } else if !applied.record.is_sorted()
        || !applied.dead_letters.is_sorted_by_key(|l| l.record)
        || !applied.record.last().copied().is_none_or(in_batch)
        || !applied
            .dead_letters
            .last()
            .is_none_or(|l| in_batch(l.record))
    {
        "rows or letters that name records out of order or of no batch"
    } else {
        return Ok(());
    };
    Err(bug(&format!("the split gave {wrong}"))
        .with("split", &batch.covers.split)
        .with("from", range.from)
        .with("to", range.to))
}

/// Offsets of the first and the last row.
fn row_offsets(batch: &Batch, applied: &Applied) -> (i64, i64) {
    let offset = |record: Option<&u32>| record.map_or(0, |r| batch.offset.value(*r as usize));
    (
        offset(applied.record.first()),
        offset(applied.record.last()),
    )
}

/// The number of rows: the length of a column that is not constant (the system columns always exist).
fn row_count(columns: &[Column]) -> usize {
    let varying = columns.iter().find(|column| !column.constant);
    varying.map_or(0, |column| column.values.len())
}

pub fn plain_columns(batch: &RecordBatch) -> Vec<Column> {
    let column = |values: &ArrayRef| Column {
        values: values.clone(),
        constant: false,
    };
    batch.columns().iter().map(column).collect()
}

fn bug(message: &str) -> Error {
    Error::new(Kind::Bug, "zone.write", message)
}
