//! The RAW sink: rows and dead letters of one task into one open file per table, sealed together.
//!
//! The columns of the transforms come first, then the original bytes if asked for (`_value`, `_key`, `_headers`), then
//! the system columns. If columns with the names and types of system columns pass through the transforms (or there are
//! no transforms), the host's own replace them. One file holds at most one split per topic and partition, so that in a
//! file a coordinate names one record even after a topic was recreated. Rows of another format than Parquet have a file for each
//! split: a rewind, which goes back to the end of a commit, then takes whole files, and no file has to be read back.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, BinaryArray, Int32Array, RecordBatch, StringArray, UInt32Array,
};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow_select::take::take;

use crate::chain::{Applied, Column, DeadLetter, Reason};
use crate::clock::Clock;
use crate::commit::{LogName, Role, new_file_id};
use crate::config::{
    Bucket, Directories, FileFormat, Files, Rotate, SortBy, TableName, Tombstones,
};
use crate::error::{Error, Kind, Result};
use crate::json;
use crate::record::{Batch, SplitId, TopicPartition, headers_type};
use crate::sink::covered::Gathering;
use crate::sink::format::NOT_UTF8;
use crate::sink::refusing::Refusing;
use crate::sink::{Base, Finish, Gathered, Sealed, Sink};
use crate::store::Store;
use crate::zone::deadletter;

use super::ParquetOptions;
use super::bucket::{buckets, tail, unfit};
use super::directories::{Placed, Placing, values_of};
use super::file::{Birth, Order, Plain, Written, fits};
use super::format::unknown;
use super::formats::AnyFile;
use super::layout::{ingest_partition, offsets_name, path_in, table_of, tailed_path};
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
    pub files: Files,
    pub directories: Directories,
    /// For rows that have no directory, or are not what their format needs.
    pub refusing: Refusing,
}

/// Why a row is refused.
const NOT_JSON: &str = "not_json";
const NO_VALUE: &str = "no_value";
const NOT_IN_FORMAT: &str = "not_in_format";

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

    /// The directories of the rows; rows without one become dead letters.
    fn placed(
        &mut self,
        batch: &Batch,
        applied: &mut Applied,
        table: &str,
    ) -> Result<Option<Placed>> {
        let now = self.clock.now_micros();
        let Some(mut placed) = self.placing.place(batch, applied, now)? else {
            return Ok(None);
        };
        // No file that gets a row of this batch has a longer name.
        let target = Target {
            bucket: self.options.bucket.as_ref().map(|_| 0),
            ..Target::of(table.to_owned(), Role::Rows)
        };
        let last = batch.covers.range.to.saturating_sub(1);
        let tail = self.tail(&target, (&batch.covers.tp, last));
        let file = format!("{}.{tail}", new_file_id());
        let path = |directory: &str| path_in(table, directory, &file);
        self.placing.refuse_unfit(&mut placed, path);
        let refused = std::mem::take(&mut placed.refused);
        let gone = self.options.refusing.refuse(batch, applied, refused)?;
        if !gone.is_empty() {
            let rows = std::mem::take(&mut placed.of_row).into_iter().enumerate();
            let stays = rows.filter(|(row, _)| !gone.contains(row));
            placed.of_row = stays.map(|(_, name)| name).collect();
        }
        Ok(Some(placed))
    }

    /// Rows of records without a value.
    fn tombstones(&self, batch: &Batch, applied: &mut Applied) -> Result<()> {
        if self.options.files.tombstones == Tombstones::Write || batch.value.null_count() == 0 {
            return Ok(());
        }
        let numbered = applied.record.iter().enumerate();
        let of_null = numbered.filter(|(_, record)| batch.value.is_null(**record as usize));
        let rows: BTreeSet<usize> = of_null.map(|(row, _)| row).collect();
        if self.options.files.tombstones == Tombstones::Drop {
            return applied.drop_rows(&rows);
        }
        let reason = |row: usize| {
            let reason = Reason {
                code: NO_VALUE.to_owned(),
                field: None,
                message: "the record has no value (sink.tombstones)".to_owned(),
            };
            (row, reason)
        };
        let refused = rows.into_iter().map(reason).collect();
        self.options.refusing.refuse(batch, applied, refused)?;
        Ok(())
    }

    /// Where a file's line is the JSON of one column, a text that is none becomes a dead letter.
    fn refuse_other_text(&self, batch: &Batch, applied: &mut Applied) -> Result<()> {
        let files = &self.options.files;
        let column = files.column.as_ref().filter(|_| files.text_is_json);
        let at = column.and_then(|name| applied.table.schema.index_of(name).ok());
        let Some((column, name)) = at.and_then(|at| applied.table.columns.get(at)).zip(column)
        else {
            return Ok(());
        };
        let mut refused = Vec::new();
        for row in 0..applied.table.rows {
            let at = if column.constant { 0 } else { row };
            if let Err(message) = json_at(&column.values, at) {
                let reason = Reason {
                    code: NOT_JSON.to_owned(),
                    field: Some(name.clone()),
                    message,
                };
                refused.push((row, reason));
            }
        }
        self.options.refusing.refuse(batch, applied, refused)?;
        Ok(())
    }

    /// CSV has no form for bytes that are no text: base64 could be a text as well.
    fn refuse_other_bytes(&self, batch: &Batch, applied: &mut Applied) -> Result<()> {
        let files = &self.options.files;
        if files.format != FileFormat::Csv {
            return Ok(());
        }
        let alone = files.column.as_deref();
        let written = |name: &str| alone.is_none_or(|alone| alone == name);
        // The first column of a row that is to blame.
        let mut refused: BTreeMap<usize, String> = BTreeMap::new();
        let mut blame = |name: &str, rows: Vec<usize>| {
            for row in rows {
                refused.entry(row).or_insert_with(|| name.to_owned());
            }
        };
        let rows = applied.table.rows;
        let made = applied.table.schema.fields().iter();
        for (field, column) in made.zip(&applied.table.columns) {
            let values = column.values.as_binary_opt::<i32>();
            if let Some(values) = values.filter(|_| written(field.name())) {
                let at = |row| if column.constant { 0 } else { row };
                blame(field.name(), not_text(values, rows, at));
            }
        }
        let originals = [(ORIGINAL_VALUE, &batch.value), (ORIGINAL_KEY, &batch.key)];
        for (name, values) in originals {
            if self.options.keep_value && written(name) {
                let at = |row: usize| applied.record.get(row).map_or(0, |at| *at as usize);
                blame(name, not_text(values, rows, at));
            }
        }
        let reason = |(row, field): (usize, String)| {
            let reason = Reason {
                code: NOT_IN_FORMAT.to_owned(),
                field: Some(field),
                message: NOT_UTF8.to_owned(),
            };
            (row, reason)
        };
        let refused = refused.into_iter().map(reason).collect();
        self.options.refusing.refuse(batch, applied, refused)?;
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
    Ok(buckets(&values, rows, bucket))
}

/// Why a row's value is no JSON; one that is null is `null`.
fn json_at(values: &ArrayRef, at: usize) -> Result<(), String> {
    if values.is_null(at) {
        return Ok(());
    }
    match values.data_type() {
        DataType::Utf8 => json::check(values.as_string::<i32>().value(at).as_bytes()),
        DataType::Binary => json::check(values.as_binary::<i32>().value(at)),
        _ => Ok(()),
    }
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

/// Rows whose bytes are no text. `at`: where the value of a row stands.
fn not_text(values: &BinaryArray, rows: usize, at: impl Fn(usize) -> usize) -> Vec<usize> {
    let odd = |row: &usize| {
        let at = at(*row);
        !values.is_null(at) && std::str::from_utf8(values.value(at)).is_err()
    };
    (0..rows).filter(odd).collect()
}

fn bug(message: &str) -> Error {
    Error::new(Kind::Bug, "zone.write", message)
}
