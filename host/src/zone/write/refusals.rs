//! Rows that a zone's sink refuses, each with its reason: without a value, without a directory, or not what their format needs.

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray};
use arrow_schema::DataType;

use super::columns::{ORIGINAL_KEY, ORIGINAL_VALUE};
use super::{Target, ZoneSink};
use crate::chain::{Applied, Reason};
use crate::commit::{Role, new_file_id};
use crate::config::{FileFormat, Tombstones};
use crate::error::Result;
use crate::json;
use crate::record::Batch;
use crate::sink::format::NOT_UTF8;
use crate::zone::directories::Placed;
use crate::zone::layout::path_in;

/// Why a row is refused.
const NOT_JSON: &str = "not_json";
const NO_VALUE: &str = "no_value";
const NOT_IN_FORMAT: &str = "not_in_format";

impl ZoneSink {
    /// The directories of the rows; rows without one become dead letters.
    pub(super) fn placed(
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
    pub(super) fn tombstones(&self, batch: &Batch, applied: &mut Applied) -> Result<()> {
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
    pub(super) fn refuse_other_text(&self, batch: &Batch, applied: &mut Applied) -> Result<()> {
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
    pub(super) fn refuse_other_bytes(&self, batch: &Batch, applied: &mut Applied) -> Result<()> {
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

/// Rows whose bytes are no text. `at`: where the value of a row stands.
fn not_text(values: &BinaryArray, rows: usize, at: impl Fn(usize) -> usize) -> Vec<usize> {
    let odd = |row: &usize| {
        let at = at(*row);
        !values.is_null(at) && std::str::from_utf8(values.value(at)).is_err()
    };
    (0..rows).filter(odd).collect()
}
