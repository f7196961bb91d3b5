//! The RAW sink: rows and dead letters of one task into one open file per table, sealed together.
//!
//! The columns of the transforms come first, then the original bytes if asked for (`_value`, `_key`, `_headers`), then
//! the system columns. If columns with the names and types of system columns pass through the transforms (or there are
//! no transforms), the host's own replace them. One file holds at most one split per topic and partition, so that in a
//! file a coordinate names one record even after a topic was recreated.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int32Array, RecordBatch, StringArray, UInt32Array};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow_select::take::take;

use crate::chain::{Applied, Column, DeadLetter};
use crate::clock::Clock;
use crate::commit::{LogName, Role, new_file_id};
use crate::config::{Bucket, Rotate, SortBy, TableName};
use crate::error::{Error, Kind, Result};
use crate::record::{Batch, SplitId, TopicPartition, headers_type};
use crate::sink::covered::Gathering;
use crate::sink::{Base, Finish, Gathered, Sealed, Sink};
use crate::store::Store;
use crate::zone::deadletter;

use super::ParquetOptions;
use super::bucket::{buckets, tail, unfit};
use super::file::{Birth, Order, Plain, RowsFile};
use super::format::unknown;
use super::layout::{ingest_partition, table_of, tailed_path};
use super::parts::{parts, rows_of};
use super::schema::{is_system, system_fields};

pub const ORIGINAL_VALUE: &str = "_value";
pub const ORIGINAL_KEY: &str = "_key";
pub const ORIGINAL_HEADERS: &str = "_headers";
/// What `sink.keep.value` adds to each row.
pub const ORIGINALS: [&str; 3] = [ORIGINAL_VALUE, ORIGINAL_KEY, ORIGINAL_HEADERS];

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
}

pub struct ZoneSink {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    options: ZoneOptions,
    gathering: Gathering,
    /// Since the last seal.
    open: Vec<OpenFile>,
    /// Per table, see [`Plain`].
    plain: BTreeMap<String, Plain>,
    /// Columns of `sink.columns` that a table does not have, and that was said.
    missing: BTreeSet<String>,
}

struct OpenFile {
    table: String,
    role: Role,
    bucket: Option<u32>,
    splits: BTreeMap<TopicPartition, SplitId>,
    file: RowsFile,
}

/// Which file rows go to.
struct Target {
    table: String,
    role: Role,
    bucket: Option<u32>,
}

impl ZoneSink {
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        options: ZoneOptions,
        base: Base,
    ) -> ZoneSink {
        ZoneSink {
            gathering: Gathering::new(base, clock.clone()),
            store,
            clock,
            options,
            open: Vec::new(),
            plain: BTreeMap::new(),
            missing: BTreeSet::new(),
        }
    }

    fn take(&mut self, batch: &Batch, applied: &Applied) -> Result<()> {
        check(batch, applied)?;
        if batch.covers.range.from == batch.covers.range.to {
            return Ok(());
        }
        self.gathering.cover(batch, applied)?;
        let kept = |record: &u32| match self.options.keep_value {
            true => batch.bytes_of(*record as usize),
            false => 0,
        };
        let parts: Vec<Range<usize>> = parts(applied.record.iter().map(kept)).collect();
        for part in parts {
            let part = rows_of(applied, part);
            let (fields, columns) = self.columns(batch, &part)?;
            let table = table_of(&self.options.table, &batch.covers.tp.topic)?;
            let Some(bucket) = &self.options.bucket else {
                let offsets = row_offsets(batch, &part);
                let target = Target::of(table, Role::Rows);
                self.append(batch, target, (fields, &columns), offsets)?;
                continue;
            };
            for (number, rows) in divided(&fields, &columns, part.table.rows, bucket)? {
                let picked = rows.picked(&columns)?;
                let target = Target {
                    bucket: Some(number),
                    ..Target::of(table.clone(), Role::Rows)
                };
                let offset = |row: Option<u32>| {
                    let record = row.and_then(|row| part.record.get(row as usize));
                    record.map_or(0, |record| batch.offset.value(*record as usize))
                };
                let offsets = (offset(rows.first()), offset(rows.last()));
                self.append(batch, target, (fields.clone(), &picked), offsets)?;
            }
        }
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

    /// Columns of the rows file, in order.
    fn columns(&self, batch: &Batch, applied: &Applied) -> Result<(Vec<FieldRef>, Vec<Column>)> {
        let (mut fields, mut columns) = self.made(applied)?;
        let origin = Origin::of(batch, applied);
        if self.options.keep_value {
            fields.extend(original_fields());
            columns.push(origin.per_record(Arc::new(batch.value.clone()))?);
            columns.push(origin.per_record(Arc::new(batch.key.clone()))?);
            let (headers, constant) = batch.columns().swap_remove(2);
            columns.push(match constant {
                true => Column {
                    values: headers,
                    constant,
                },
                false => origin.per_record(headers)?,
            });
        }
        let pieces = applied
            .piece
            .iter()
            .map(|p| i32::try_from(*p).unwrap_or(i32::MAX));
        fields.extend(system_fields());
        columns.extend([
            Column {
                values: Arc::new(StringArray::from(vec![batch.covers.tp.topic.as_ref()])),
                constant: true,
            },
            Column {
                values: Arc::new(Int32Array::from(vec![batch.covers.tp.partition])),
                constant: true,
            },
            origin.per_record(Arc::new(batch.offset.clone()))?,
            Column {
                values: Arc::new(Int32Array::from_iter_values(pieces)),
                constant: false,
            },
            origin.per_record(Arc::new(batch.timestamp.clone()))?,
        ]);
        Ok((fields, columns))
    }

    /// Columns that the rules made, without system columns, which are written from the batch.
    fn made(&self, applied: &Applied) -> Result<(Vec<FieldRef>, Vec<Column>)> {
        let system = system_fields();
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        let made = applied.table.schema.fields().iter();
        for (field, column) in made.zip(&applied.table.columns) {
            if is_system(field.name()) {
                refuse_false_system(field, &system)?;
                continue;
            }
            let name = field.name().as_str();
            if self.options.keep_value && ORIGINALS.contains(&name) {
                return Err(reserved(
                    name,
                    "sink.keep.value writes the original bytes under it",
                ));
            }
            fields.push(field.clone());
            columns.push(column.clone());
        }
        Ok((fields, columns))
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
            open.table == target.table
                && open.role == target.role
                && open.bucket == target.bucket
                && open
                    .splits
                    .get(&covers.tp)
                    .is_none_or(|split| *split == covers.split)
        };
        let found = self.open.iter().position(fits);
        let schema = Arc::new(Schema::new(fields));
        let created = match found {
            Some(_) => None,
            None => Some(OpenFile {
                file: self.create(&target, &schema)?,
                table: target.table,
                role: target.role,
                bucket: target.bucket,
                splits: BTreeMap::new(),
            }),
        };
        self.open.extend(created);
        let index = found.unwrap_or(self.open.len() - 1);
        let Some(open) = self.open.get_mut(index) else {
            return Err(bug("rows without a file"));
        };
        if open.file.schema() != &schema {
            return Err(
                bug("the columns changed inside a file; new rules begin with a seal")
                    .with("table", &open.table),
            );
        }
        open.splits.insert(covers.tp.clone(), covers.split.clone());
        open.file.write(columns, rows)?;
        open.file
            .cover(&covers.split, offsets.0, offsets.1 + 1, rows as u64);
        Ok(())
    }

    fn create(&mut self, target: &Target, schema: &SchemaRef) -> Result<RowsFile> {
        let (table, role) = (target.table.as_str(), target.role);
        let partition = ingest_partition(self.clock.now_micros(), role == Role::Rows);
        let file = new_file_id();
        let path = tailed_path(table, &partition, &file, &tail(target.bucket));
        let birth = Birth {
            place: self.options.name.place(&file, &path),
            role,
            partition,
            pipeline: self.options.name.pipeline.clone(),
        };
        let plain = self.plain.get(table).cloned().unwrap_or_default();
        let order = match role {
            Role::Rows => {
                self.say_missing(table, schema);
                Order::Sort(&self.options.sort)
            }
            _ => Order::Any,
        };
        let parquet = &self.options.parquet;
        RowsFile::in_order(&self.store, birth, schema, parquet, plain, order)
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
        for open in std::mem::take(&mut self.open) {
            let (written, plain) = open.file.close()?;
            self.plain.insert(open.table, plain);
            files.push(Box::new(written));
        }
        files.sort_by(|a, b| {
            (a.added().role, &a.added().path).cmp(&(b.added().role, &b.added().path))
        });
        Ok(self.gathering.seal(files, Vec::new()))
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
        }
    }
}

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

/// The rows of each bucket that has some.
fn divided(
    fields: &[FieldRef],
    columns: &[Column],
    rows: usize,
    bucket: &Bucket,
) -> Result<BTreeMap<u32, Picked>> {
    let mut values = Vec::new();
    for name in &bucket.columns {
        let found = fields.iter().zip(columns).find(|(f, _)| f.name() == name);
        let why = match found {
            Some((field, _)) => unfit(field.data_type()),
            None => Some("is not a column of the rows".to_owned()),
        };
        if let Some(why) = why {
            let message = format!("sink.bucket.columns: `{name}` {why}");
            return Err(Error::new(Kind::ConfigInvalid, "zone.bucket", message)
                .hint("name a column of text, numbers, dates or times"));
        }
        let Some((_, column)) = found else { continue };
        values.push(match column.constant {
            true => take(&column.values, &UInt32Array::from(vec![0; rows]), None)
                .map_err(|e| bug("rows cannot be divided").source(e))?,
            false => column.values.clone(),
        });
    }
    let mut all: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (row, number) in (0..).zip(buckets(&values, rows, bucket)) {
        all.entry(number).or_default().push(row);
    }
    let picked = |(number, rows): (u32, Vec<u32>)| (number, Picked(UInt32Array::from(rows)));
    Ok(all.into_iter().map(picked).collect())
}

/// Which record each row is from.
struct Origin {
    records: UInt32Array,
    /// Row n is from record n, and there are no others.
    one_to_one: bool,
}

impl Origin {
    fn of(batch: &Batch, applied: &Applied) -> Origin {
        let mut records = applied.record.iter().enumerate();
        let one_to_one = applied.record.len() == batch.len()
            && records.all(|(row, record)| row == *record as usize);
        Origin {
            records: UInt32Array::from(applied.record.clone()),
            one_to_one,
        }
    }

    /// Converts a column of the batch to a column of the rows.
    fn per_record(&self, values: ArrayRef) -> Result<Column> {
        let values = match self.one_to_one {
            true => values,
            false => take(&values, &self.records, None)
                .map_err(|e| bug("rows name no record").source(e))?,
        };
        Ok(Column {
            values,
            constant: false,
        })
    }
}

impl Sink for ZoneSink {
    fn write(&mut self, batch: &Batch, applied: Applied) -> Result<()> {
        self.take(batch, &applied)
    }

    fn should_roll(&self) -> bool {
        let Some(age) = self.gathering.age() else {
            return false;
        };
        let rotate = &self.options.rotate;
        let rows = || self.open.iter().map(|f| f.file.rows()).sum::<u64>();
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

/// What the host adds to the columns of the rules in RAW.
pub fn host_fields(keep_value: bool) -> Vec<FieldRef> {
    let originals = original_fields().into_iter().filter(|_| keep_value);
    originals.chain(system_fields()).collect()
}

fn original_fields() -> [FieldRef; 3] {
    [
        Arc::new(Field::new(ORIGINAL_VALUE, DataType::Binary, true)),
        Arc::new(Field::new(ORIGINAL_KEY, DataType::Binary, true)),
        Arc::new(Field::new(ORIGINAL_HEADERS, headers_type(), false)),
    ]
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

fn refuse_false_system(field: &Field, system: &[FieldRef]) -> Result<()> {
    let ours = system.iter().find(|ours| ours.name() == field.name());
    if ours.is_some_and(|ours| ours.data_type() == field.data_type()) {
        return Ok(());
    }
    Err(reserved(
        field.name(),
        "it is a system column of every zone, of another type",
    ))
}

fn reserved(column: &str, why: &str) -> Error {
    Error::new(
        Kind::ConfigInvalid,
        "zone.columns",
        format!("the last transform makes a column `{column}`: {why}"),
    )
    .hint("give the column another name")
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
