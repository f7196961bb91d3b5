//! Turns a batch into rows and refused pieces, and counts both ledgers.
//!
//! A [`Transform`] is a pure function of its rows. The [`TransformChain`] carries, beside the columns, from which record each row
//! came and which piece of it the row is (`_row`), so that a refusal can name the original bytes.

mod held;
mod ledger;
mod refuse;
mod run;

use std::fmt;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;

pub use held::{Held, NewSchema, On, held};
pub use ledger::{Ledger, Records, Rows};
pub use run::TransformChain;

use crate::error::Result;

/// Dead letters of one record. A record that would have more is refused once, as a whole. Each dead letter costs some
/// hundred bytes, so ten thousand cost a few megabytes at most, and nobody reads more of them one by one.
pub const MAX_LETTERS: usize = 10_000;

/// Most bytes (value, key and headers) that `sink.keep.value` writes for one record: each of its rows gets a copy of
/// all of them. Four times what one call of a plugin may return.
pub const MAX_KEPT_BYTES: usize = 256 << 20;

/// Reasons for which the host itself refuses a record, although its pieces broke no rule.
pub mod codes {
    /// More refused pieces than [`super::MAX_LETTERS`].
    pub const TOO_MANY_REJECTS: &str = "too_many_rejects";
    /// More bytes than [`super::MAX_KEPT_BYTES`].
    pub const TOO_MANY_BYTES: &str = "too_many_bytes";
}

/// Columns with the same number of rows; a constant column holds one value for all rows.
#[derive(Clone, Debug)]
pub struct Table {
    pub schema: SchemaRef,
    pub rows: usize,
    pub columns: Vec<Column>,
}

impl Table {
    /// Rows that have all their columns.
    pub fn of(rows: &RecordBatch) -> Table {
        let column = |values: &ArrayRef| Column {
            values: values.clone(),
            constant: false,
        };
        Table {
            schema: rows.schema(),
            rows: rows.num_rows(),
            columns: rows.columns().iter().map(column).collect(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Column {
    /// `rows` long, or 1 if `constant`.
    pub values: ArrayRef,
    pub constant: bool,
}

/// Which input row each output row comes from (contract `row-map`), ascending.
#[derive(Clone, Debug, PartialEq)]
pub enum RowMap {
    /// Output row i is input row i.
    Every,
    /// Output row j comes from input row n[j]; numbers may repeat only if the transform explodes.
    Origin(Vec<u32>),
}

/// A refusal by a transform. Several may name one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Row of the transform's input.
    pub row: u32,
    /// `None`: the whole input row. `Some(k)`: the k-th of the rows that it becomes; the others keep their numbers.
    pub part: Option<u32>,
    pub code: String,
    pub field: Option<String>,
    pub message: String,
}

/// What a transform made of a table.
#[derive(Clone, Debug)]
pub struct Output {
    pub rows: RowMap,
    /// Columns of [`Transform::output_schema`]. The transform has already applied the row map to carried columns.
    pub table: Table,
    pub rejects: Vec<Reject>,
    /// One number for each of [`Transform::counters`].
    pub counters: Vec<u64>,
}

/// The identity of a transform, named in every commit and in every dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The transform's name in the pipeline.
    pub transform: String,
    pub plugin: String,
    pub version: String,
    /// `sha256:…` of the component.
    pub digest: String,
    /// `sha256:…` of config, files and tables.
    pub config_digest: String,
}

/// One step of a chain. `Err` from `apply` stops the pipeline: bad rows are rejects, never errors.
pub trait Transform: Send + fmt::Debug {
    fn identity(&self) -> &Identity;
    fn output_schema(&self) -> &SchemaRef;
    /// True: one input row may become several.
    fn explodes(&self) -> bool;
    fn counters(&self) -> &[String];
    /// The input column that this output column repeats without being read or changed; `None`: the transform made it.
    fn carries(&self, _column: usize) -> Option<usize> {
        None
    }
    /// Records of this schema are read under the one in force from now on, whatever else they have.
    fn leave_out(&mut self, _new: &NewSchema) {}
    /// `input.rows` is at least 1.
    fn apply(&mut self, input: &Table) -> Result<Output>;
}

/// A refused record or piece, with all its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Index of the record in its batch.
    pub record: u32,
    /// `_row` of the refused piece; `None`: the whole record was refused.
    pub piece: Option<u32>,
    pub by: Arc<Identity>,
    /// At least one.
    pub reasons: Vec<Reason>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub code: String,
    pub field: Option<String>,
    pub message: String,
}

/// What the chain made of one batch.
#[derive(Clone, Debug)]
pub struct Applied {
    pub table: Table,
    /// Per row: index of its record in the batch, never decreasing.
    pub record: Vec<u32>,
    /// Per row: `_row`.
    pub piece: Vec<u32>,
    /// Ordered by record, then piece.
    pub dead_letters: Vec<DeadLetter>,
    pub ledger: Ledger,
    /// (transform, counter, amount)
    pub counters: Vec<(String, String, u64)>,
    /// Digest of the rules that made the rows: plugins, versions, components and configs, in their order.
    pub rules: Arc<str>,
}
