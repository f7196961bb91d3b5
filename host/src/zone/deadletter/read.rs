//! Reads dead letters back: list, show, count. Each comes with its record's bytes, which all dead letters of the record
//! share.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};

use super::HOLDS_BYTES;
use crate::commit::{AddedFile, LogName, Role};
use crate::error::{Error, Kind, Result};
use crate::record::{HEADERS, KEY, OFFSET, PARTITION, ROW, TIMESTAMP, TOPIC, VALUE};
use crate::store::Store;
use crate::zone::read_file;

/// A filter of dead letters; all fields that are set must match.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Matches any reason of the dead letter.
    pub code: Option<String>,
    pub topic: Option<String>,
    pub partition: Option<i32>,
    pub offset: Option<i64>,
}

/// A dead letter as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// Path of the file that contains it.
    pub file: Arc<str>,
    /// Shared by the dead letters of a record.
    pub original: Arc<Original>,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// Microseconds since 1970 UTC.
    pub timestamp: Option<i64>,
    /// `None`: the whole record.
    pub row: Option<i32>,
    pub transform: String,
    pub plugin: String,
    pub version: String,
    pub component: String,
    pub config: String,
    /// The table repeats the first one in `code`, `field` and `message`.
    pub reasons: Vec<StoredReason>,
}

/// The bytes of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Original {
    pub value: Option<Vec<u8>>,
    pub key: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReason {
    pub code: String,
    pub field: Option<String>,
    pub message: String,
}

/// (code, field) of the first reason → number of dead letters.
pub type Counts = BTreeMap<(String, Option<String>), u64>;

/// Dead letters that match the filter, in the order of `files` (files of other roles are skipped).
pub fn read<'a>(
    store: &'a Arc<dyn Store>,
    name: &'a LogName,
    files: &'a [AddedFile],
    filter: &'a Filter,
) -> impl Iterator<Item = Result<StoredDeadLetter>> + 'a {
    let mut record = None;
    batches(store, name, files).flat_map(move |item| {
        let found = item.and_then(|(file, batch)| letters(&file, &batch, filter, &mut record));
        match found {
            Ok(letters) => letters.into_iter().map(Ok).collect(),
            Err(e) => vec![Err(e)],
        }
    })
}

/// How many dead letters have each first reason.
pub fn counts(store: &Arc<dyn Store>, name: &LogName, files: &[AddedFile]) -> Result<Counts> {
    let mut counts = Counts::new();
    for item in batches(store, name, files) {
        let (file, batch) = item?;
        let columns = Columns {
            batch: &batch,
            file: &file,
        };
        for i in 0..batch.num_rows() {
            let key = (columns.text("code", i)?, columns.optional_text("field", i)?);
            *counts.entry(key).or_default() += 1;
        }
    }
    Ok(counts)
}

type Named = (Arc<str>, RecordBatch);

fn batches<'a>(
    store: &'a Arc<dyn Store>,
    name: &'a LogName,
    files: &'a [AddedFile],
) -> impl Iterator<Item = Result<Named>> + 'a {
    let letters = files.iter().filter(|file| file.role == Role::DeadLetters);
    letters.flat_map(move |file| {
        let path: Arc<str> = file.path.as_str().into();
        let (rows, error) = match read_file(store, name, file) {
            Ok(rows) => (Some(rows), None),
            Err(e) => (None, Some(Err(e))),
        };
        let rows = rows.into_iter().flatten();
        error
            .into_iter()
            .chain(rows)
            .map(move |batch| Ok((path.clone(), batch?)))
    })
}

/// The record whose dead letters are being read: where its bytes are, and the bytes once they are needed.
struct Record {
    file: Arc<str>,
    at: (String, i32, i64),
    batch: RecordBatch,
    row: usize,
    original: Option<Arc<Original>>,
}

impl Record {
    fn original(&mut self) -> Result<Arc<Original>> {
        if let Some(original) = &self.original {
            return Ok(original.clone());
        }
        let columns = Columns {
            batch: &self.batch,
            file: &self.file,
        };
        let original = Arc::new(Original {
            value: columns.bytes(VALUE, self.row)?,
            key: columns.bytes(KEY, self.row)?,
            headers: columns.headers(self.row)?,
        });
        self.original = Some(original.clone());
        Ok(original)
    }
}

/// `record`: that of the previous dead letter, because those of one record may be in two batches of a file.
fn letters(
    file: &Arc<str>,
    batch: &RecordBatch,
    filter: &Filter,
    record: &mut Option<Record>,
) -> Result<Vec<StoredDeadLetter>> {
    let columns = Columns { batch, file };
    let mut found = Vec::new();
    for i in 0..batch.num_rows() {
        let partition = columns.number::<Int32Type>(PARTITION, i)?.unwrap_or(0);
        let offset = columns.number::<Int64Type>(OFFSET, i)?.unwrap_or(0);
        let skip = filter.partition.is_some_and(|p| p != partition)
            || filter.offset.is_some_and(|o| o != offset);
        if skip {
            continue;
        }
        let topic = columns.text(TOPIC, i)?;
        if filter.topic.as_ref().is_some_and(|t| *t != topic) {
            continue;
        }
        let at = (topic, partition, offset);
        let known = record
            .take()
            .filter(|known| known.at == at && known.file == *file);
        let holds = columns.holds_bytes(i)?;
        let of = match known {
            Some(known) if !holds => record.insert(known),
            // Rows of a zone have bytes of their own, also where they came from one record.
            _ if holds => record.insert(Record {
                file: file.clone(),
                at,
                batch: batch.clone(),
                row: i,
                original: None,
            }),
            _ => return Err(columns.wrong("value")),
        };
        let reasons = columns.reasons(i)?;
        if filter
            .code
            .as_ref()
            .is_some_and(|code| reasons.iter().all(|r| r.code != *code))
        {
            continue;
        }
        found.push(StoredDeadLetter {
            file: file.clone(),
            original: of.original()?,
            topic: of.at.0.clone(),
            partition,
            offset,
            timestamp: columns.number::<TimestampMicrosecondType>(TIMESTAMP, i)?,
            row: columns.number::<Int32Type>(ROW, i)?,
            transform: columns.text("transform", i)?,
            plugin: columns.text("plugin", i)?,
            version: columns.text("version", i)?,
            component: columns.text("component", i)?,
            config: columns.text("config", i)?,
            reasons,
        });
    }
    Ok(found)
}

/// Cells of a batch by column name; an error about a missing column or a wrong type names the file.
struct Columns<'a> {
    batch: &'a RecordBatch,
    file: &'a str,
}

impl Columns<'_> {
    fn number<T: ArrowPrimitiveType>(
        &self,
        name: &'static str,
        i: usize,
    ) -> Result<Option<T::Native>> {
        let array = self
            .column(name)?
            .as_primitive_opt::<T>()
            .ok_or_else(|| self.wrong(name))?;
        Ok(array.is_valid(i).then(|| array.value(i)))
    }

    fn optional_text(&self, name: &'static str, i: usize) -> Result<Option<String>> {
        let array = self
            .column(name)?
            .as_string_opt::<i32>()
            .ok_or_else(|| self.wrong(name))?;
        Ok(array.is_valid(i).then(|| array.value(i).to_owned()))
    }

    fn text(&self, name: &'static str, i: usize) -> Result<String> {
        Ok(self.optional_text(name, i)?.unwrap_or_default())
    }

    fn bytes(&self, name: &'static str, i: usize) -> Result<Option<Vec<u8>>> {
        let array = self
            .column(name)?
            .as_binary_opt::<i32>()
            .ok_or_else(|| self.wrong(name))?;
        Ok(array.is_valid(i).then(|| array.value(i).to_vec()))
    }

    fn holds_bytes(&self, i: usize) -> Result<bool> {
        let column = self.batch.column_by_name(HOLDS_BYTES);
        let column = column.and_then(|column| column.as_boolean_opt());
        Ok(column.ok_or_else(|| self.wrong(HOLDS_BYTES))?.value(i))
    }

    fn headers(&self, i: usize) -> Result<Vec<(String, Option<Vec<u8>>)>> {
        let items = self.items(HEADERS, i)?;
        let columns = Columns {
            batch: &items,
            file: self.file,
        };
        let header = |i| Ok((columns.text("name", i)?, columns.bytes("value", i)?));
        (0..items.num_rows()).map(header).collect()
    }

    fn reasons(&self, i: usize) -> Result<Vec<StoredReason>> {
        let items = self.items("errors", i)?;
        let columns = Columns {
            batch: &items,
            file: self.file,
        };
        let reason = |i| {
            Ok(StoredReason {
                code: columns.text("code", i)?,
                field: columns.optional_text("field", i)?,
                message: columns.text("message", i)?,
            })
        };
        (0..items.num_rows()).map(reason).collect()
    }

    /// The structs of a list cell, as a batch.
    fn items(&self, name: &'static str, i: usize) -> Result<RecordBatch> {
        let list = self
            .column(name)?
            .as_list_opt::<i32>()
            .ok_or_else(|| self.wrong(name))?;
        let items = list.value(i);
        let items = items.as_struct_opt().ok_or_else(|| self.wrong(name))?;
        Ok(RecordBatch::from(items.clone()))
    }

    fn column(&self, name: &'static str) -> Result<&dyn Array> {
        let column = self.batch.column_by_name(name);
        column.map(|c| c.as_ref()).ok_or_else(|| self.wrong(name))
    }

    fn wrong(&self, name: &str) -> Error {
        Error::new(
            Kind::LogCorrupt,
            "deadletter.read",
            format!("column `{name}` is missing or has another type than dead letters have"),
        )
        .with("file", self.file)
    }
}
