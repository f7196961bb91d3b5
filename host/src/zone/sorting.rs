//! Sorts the rows of a file by row group: rows are held until they fill one, and are then written in order.
//!
//! The claim of an order in a Parquet footer is of its row group, so nothing larger has to be in memory. Rows that are
//! equal stay in the order in which they came.

use std::cmp::Ordering;

use arrow_array::Array;
use arrow_row::{RowConverter, Rows, SortField};
use arrow_schema::{ArrowError, Schema, SortOptions};
use arrow_select::interleave::interleave;

use super::file::column_bytes;
use crate::chain::Column;
use crate::config::SortBy;
use crate::error::{Error, Kind, Result};

const OP: &str = "zone.sort";

/// Rows that are put in order and encoded at a time.
const CHUNK_ROWS: usize = 8192;

/// Nulls first where a column ascends, last where it descends: as Spark's `ORDER BY`.
pub fn sort_options(by: &SortBy) -> SortOptions {
    SortOptions {
        descending: by.descending,
        nulls_first: !by.descending,
    }
}

/// Compares rows by these columns. An error where one is not there, or has no order.
pub fn converter(schema: &Schema, by: &[SortBy]) -> Result<RowConverter> {
    let fields = by.iter().map(|by| {
        let field = schema.field_with_name(&by.column).map_err(|_| {
            let message = format!(
                "sink.sort names `{}`, which is not a column of the rows",
                by.column
            );
            let names = schema.fields().iter().map(|field| field.name().as_str());
            let names: Vec<&str> = names.collect();
            Error::new(Kind::ConfigInvalid, OP, message).with("columns", names.join(","))
        })?;
        let options = sort_options(by);
        Ok(SortField::new_with_options(
            field.data_type().clone(),
            options,
        ))
    });
    let fields = fields.collect::<Result<Vec<_>>>()?;
    RowConverter::new(fields)
        .map_err(|e| Error::new(Kind::ConfigInvalid, OP, "sink.sort cannot be sorted by").source(e))
}

/// Rows of one file that are not written yet.
pub struct Sorter {
    converter: RowConverter,
    /// Of each sort column, its place in the schema.
    at: Vec<usize>,
    batches: Vec<(Vec<Column>, Rows)>,
    rows: usize,
    bytes: usize,
    limit: usize,
}

impl Sorter {
    /// `limit`: bytes of rows in memory after which they are written.
    pub fn new(schema: &Schema, by: &[SortBy], limit: usize) -> Result<Sorter> {
        let converter = converter(schema, by)?;
        let at = by.iter().filter_map(|by| schema.index_of(&by.column).ok());
        Ok(Sorter {
            converter,
            at: at.collect(),
            batches: Vec::new(),
            rows: 0,
            bytes: 0,
            limit,
        })
    }

    /// Columns in the order of the schema.
    pub fn push(&mut self, columns: &[Column], rows: usize) -> Result<()> {
        let mut keys = Vec::with_capacity(self.at.len());
        for at in &self.at {
            let column = columns.get(*at).ok_or_else(|| bug("a column is missing"))?;
            keys.push(match column.constant {
                true => repeated(column, rows).map_err(failed)?,
                false => column.values.clone(),
            });
        }
        let keys = self.converter.convert_columns(&keys).map_err(failed)?;
        self.bytes += columns.iter().map(column_bytes).sum::<usize>() + keys.size();
        self.rows += rows;
        self.batches.push((columns.to_vec(), keys));
        Ok(())
    }

    pub fn is_full(&self) -> bool {
        self.bytes >= self.limit
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Hands out all rows in order, some at a time, and holds none after it.
    pub fn drain(&mut self, mut write: impl FnMut(&[Column], usize) -> Result<()>) -> Result<()> {
        let batches = std::mem::take(&mut self.batches);
        let mut order: Vec<(u32, u32)> = Vec::with_capacity(self.rows);
        for (batch, (_, keys)) in batches.iter().enumerate() {
            order.extend((0..keys.num_rows()).map(|row| (batch as u32, row as u32)));
        }
        (self.rows, self.bytes) = (0, 0);
        let key = |(batch, row): &(u32, u32)| batches[*batch as usize].1.row(*row as usize);
        order.sort_unstable_by(|a, b| match key(a).cmp(&key(b)) {
            Ordering::Equal => a.cmp(b),
            other => other,
        });
        let width = batches.first().map_or(0, |(columns, _)| columns.len());
        for chunk in order.chunks(CHUNK_ROWS) {
            let columns = (0..width).map(|column| picked(&batches, column, chunk));
            let columns = columns.collect::<Result<Vec<_>, _>>().map_err(failed)?;
            write(&columns, chunk.len())?;
        }
        Ok(())
    }
}

/// One column of the rows at these places.
fn picked(
    batches: &[(Vec<Column>, Rows)],
    column: usize,
    places: &[(u32, u32)],
) -> Result<Column, ArrowError> {
    let of = batches
        .iter()
        .filter_map(|(columns, _)| columns.get(column));
    let of: Vec<&Column> = of.collect();
    let values: Vec<&dyn Array> = of.iter().map(|column| column.values.as_ref()).collect();
    let at = |(batch, row): &(u32, u32)| {
        let batch = *batch as usize;
        let constant = of.get(batch).is_some_and(|column| column.constant);
        (batch, if constant { 0 } else { *row as usize })
    };
    let at: Vec<(usize, usize)> = places.iter().map(at).collect();
    Ok(Column {
        values: interleave(&values, &at)?,
        constant: false,
    })
}

fn repeated(column: &Column, rows: usize) -> Result<arrow_array::ArrayRef, ArrowError> {
    interleave(&[column.values.as_ref()], &vec![(0, 0); rows])
}

fn failed(e: ArrowError) -> Error {
    bug("sorting rows failed").source(e)
}

fn bug(message: &str) -> Error {
    Error::new(Kind::Bug, OP, message)
}
