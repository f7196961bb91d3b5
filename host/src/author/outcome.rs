//! The result of each row: the lines of `expected.jsonl` and of `run --json`, by which two runs are compared.

use arrow_array::Array as _;
use arrow_schema::SchemaRef;
use serde_json::{Value, json};

use super::cell;
use crate::chain::{Applied, Column, Output, Reject, RowMap, Table, Transform, TransformChain};
use crate::record;

/// Rows and refusals, ordered by input row and piece.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Names of the output columns. The record's own columns are left out if no transform changed them; a column that a
    /// transform made is always shown.
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
    pub refused: Vec<Refused>,
    /// In the plugin's order.
    pub counters: Vec<(String, u64)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub row: u32,
    pub piece: u32,
    /// One for each of `columns`.
    pub values: Vec<Value>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub row: u32,
    /// `None`: the whole row.
    pub piece: Option<u32>,
    pub code: String,
    pub field: Option<String>,
    pub message: String,
}

impl Outcome {
    /// The outcome of one transform. Pieces are numbered as in a chain: refused ones keep their number, the others get
    /// the rest.
    pub fn of(output: &Output, transform: &dyn Transform, input: &SchemaRef) -> Outcome {
        let explodes = transform.explodes();
        let origin: Vec<u32> = match &output.rows {
            RowMap::Every => (0u32..).take(output.table.rows).collect(),
            RowMap::Origin(origin) => origin.clone(),
        };
        let mut pieces = Vec::with_capacity(origin.len());
        let mut next = 0;
        for (at, row) in origin.iter().enumerate() {
            if at == 0 || origin[at - 1] != *row {
                next = 0;
            }
            let taken = |n| {
                output
                    .rejects
                    .iter()
                    .any(|r| r.row == *row && r.part == Some(n))
            };
            while explodes && taken(next) {
                next += 1;
            }
            pieces.push(next);
            next += 1;
        }
        let record = *input == record::input_schema();
        let untouched = |n| record && transform.carries(n).is_some();
        let mut outcome = Outcome::rows(&output.table, untouched, &origin, &pieces);
        outcome.refused = output.rejects.iter().map(Refused::of).collect();
        outcome.refused.sort_by_key(|r| (r.row, r.piece));
        let counters = transform.counters().iter().cloned();
        let counted = counters.zip(output.counters.iter().copied());
        outcome.counters = counted.collect();
        outcome
    }

    /// The outcome of a whole chain.
    pub fn of_chain(applied: &Applied, chain: &TransformChain) -> Outcome {
        let untouched = chain.untouched();
        Outcome::of_applied(applied, |n| untouched.get(n).copied().unwrap_or(false))
    }

    /// The same for rows that had columns already: all columns are shown.
    pub fn of_rows(applied: &Applied) -> Outcome {
        Outcome::of_applied(applied, |_| false)
    }

    fn of_applied(applied: &Applied, untouched: impl Fn(usize) -> bool) -> Outcome {
        let table = &applied.table;
        let mut outcome = Outcome::rows(table, untouched, &applied.record, &applied.piece);
        for letter in &applied.dead_letters {
            outcome
                .refused
                .extend(letter.reasons.iter().map(|reason| Refused {
                    row: letter.record,
                    piece: letter.piece,
                    code: reason.code.clone(),
                    field: reason.field.clone(),
                    message: reason.message.clone(),
                }));
        }
        let counters = applied.counters.iter();
        outcome.counters = counters
            .map(|(transform, name, n)| (format!("{transform}.{name}"), *n))
            .collect();
        outcome
    }

    fn rows(
        table: &Table,
        untouched: impl Fn(usize) -> bool,
        rows: &[u32],
        pieces: &[u32],
    ) -> Outcome {
        let columns = 0..table.schema.fields().len();
        let wanted: Vec<usize> = columns.filter(|n| !untouched(*n)).collect();
        let names = wanted.iter().map(|n| table.schema.field(*n).name().clone());
        let value = |column: &Column, at: usize| {
            let at = if column.constant { 0 } else { at };
            cell::to_json(&column.values, at)
        };
        let row = |(at, (row, piece)): (usize, (&u32, &u32))| Row {
            row: *row,
            piece: *piece,
            values: wanted
                .iter()
                .map(|n| value(&table.columns[*n], at))
                .collect(),
        };
        Outcome {
            columns: names.collect(),
            rows: rows.iter().zip(pieces).enumerate().map(row).collect(),
            ..Outcome::default()
        }
    }

    /// The lines of `expected.jsonl`, columns in their order: what became of row 0, of row 1, …, then the counters.
    pub fn lines(&self) -> Vec<String> {
        // A refusal of the whole row comes before its pieces.
        let mut lines: Vec<((u32, Option<u32>), String)> = Vec::new();
        for row in &self.rows {
            let out = object(self.columns.iter().zip(row.values.iter().cloned()));
            let line = format!(r#"{{"row":{},"piece":{},"out":{out}}}"#, row.row, row.piece);
            lines.push(((row.row, Some(row.piece)), line));
        }
        for r in &self.refused {
            let (piece, code, field) = (json!(r.piece), json!(r.code), json!(r.field));
            let (row, message) = (r.row, json!(r.message));
            let line = format!(
                r#"{{"row":{row},"refused":{piece},"code":{code},"field":{field},"message":{message}}}"#
            );
            lines.push(((r.row, r.piece), line));
        }
        lines.sort_by_key(|(at, _)| *at);
        let mut lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
        if !self.counters.is_empty() {
            let counters = self.counters.iter().map(|(name, n)| (name, json!(n)));
            lines.push(format!(r#"{{"counters":{}}}"#, object(counters)));
        }
        lines
    }

    /// Number of input rows that gave neither a row nor a refusal.
    pub fn filtered(&self, rows: usize) -> usize {
        let came = self.rows.iter().map(|r| r.row);
        let all: std::collections::BTreeSet<u32> =
            came.chain(self.refused.iter().map(|r| r.row)).collect();
        rows.saturating_sub(all.len())
    }
}

impl Refused {
    fn of(reject: &Reject) -> Refused {
        Refused {
            row: reject.row,
            piece: reject.part,
            code: reject.code.clone(),
            field: reject.field.clone(),
            message: reject.message.clone(),
        }
    }
}

/// A JSON object with its keys in this order.
fn object<'a>(pairs: impl Iterator<Item = (&'a String, Value)>) -> String {
    let pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{}:{value}", json!(name)))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

/// Bytes of a table's messages; of its rows, where it has no messages. Constant columns count nothing.
pub fn bytes(table: &Table) -> usize {
    let fields = table.schema.fields().iter();
    let value = fields.clone().any(|field| field.name() == record::VALUE);
    let wanted = |name: &str| !value || name == record::VALUE;
    let columns = fields.zip(&table.columns);
    let columns = columns.filter(|(field, column)| !column.constant && wanted(field.name()));
    columns
        .map(|(_, column)| column.values.to_data().get_slice_memory_size().unwrap_or(0))
        .sum()
}
