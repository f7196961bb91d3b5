//! Values that become columns by a schema. The columns of the record that are not its value end here, as behind a plugin that reads
//! messages; a key that the config asks for goes on.

use std::fmt;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, UInt32Array};
use arrow_schema::{FieldRef, Schema, SchemaRef};
use arrow_select::take::take;

use super::{Nulls, Spec, codes};
use crate::chain::{Column, Identity, NewSchema, Output, Reject, RowMap, Table, Transform};
use crate::error::{Error, Kind, Result};
use crate::record;

const OP: &str = "convert.apply";

/// What a decoder made of some values.
#[derive(Debug)]
pub struct Decoded {
    /// Numbers of the values that became rows, ascending.
    pub rows: Vec<u32>,
    /// As many rows.
    pub columns: Vec<ArrayRef>,
    pub rejects: Vec<Reject>,
}

/// Reads values by the schema in force. `Err` stops the pipeline or waits, by its remedy; bad values are rejects.
pub trait Decode: Send + fmt::Debug {
    fn fields(&self) -> Vec<FieldRef>;
    /// `values`: with the numbers of their rows, ascending.
    fn decode(&mut self, values: &[(u32, &[u8])]) -> Result<Decoded>;
    /// See [`Transform::leave_out`].
    fn leave_out(&mut self, new: &NewSchema);
}

#[derive(Debug)]
pub struct Rows {
    identity: Identity,
    output: SchemaRef,
    value: usize,
    /// The key's column in the input.
    key: Option<usize>,
    nulls: Nulls,
    decode: Box<dyn Decode>,
}

impl Rows {
    pub fn new(
        spec: &Spec,
        identity: Identity,
        input: SchemaRef,
        decode: Box<dyn Decode>,
    ) -> Result<Rows> {
        let mut fields = decode.fields();
        let key = match spec.keeps_key {
            true => Some(position(&input, record::KEY)?),
            false => None,
        };
        fields.extend(key.map(|at| input.fields()[at].clone()));
        Ok(Rows {
            identity,
            output: Arc::new(Schema::new(fields)),
            value: position(&input, spec.column())?,
            key,
            nulls: spec.nulls,
            decode,
        })
    }
}

impl Transform for Rows {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn output_schema(&self) -> &SchemaRef {
        &self.output
    }

    fn explodes(&self) -> bool {
        false
    }

    fn counters(&self) -> &[String] {
        &[]
    }

    fn carries(&self, column: usize) -> Option<usize> {
        self.key
            .filter(|_| column + 1 == self.output.fields().len())
    }

    fn leave_out(&mut self, new: &NewSchema) {
        self.decode.leave_out(new);
    }

    fn apply(&mut self, input: &Table) -> Result<Output> {
        let bytes = input.columns[self.value].values.as_binary::<i32>();
        let mut values = Vec::with_capacity(bytes.len());
        let mut rejects = Vec::new();
        for (row, value) in (0u32..).zip(bytes.iter()) {
            match value {
                Some(value) => values.push((row, value)),
                None if self.nulls == Nulls::Drop => {}
                None => rejects.push(reject(row, codes::EMPTY_VALUE, None, "there is no value")),
            }
        }
        let decoded = self.decode.decode(&values)?;
        rejects.extend(decoded.rejects);
        let rows = decoded.rows.len();
        let whole = rows == input.rows;
        let mut columns: Vec<Column> = decoded.columns.into_iter().map(plain).collect();
        if let Some(at) = self.key {
            columns.push(picked(&input.columns[at], &decoded.rows, whole)?);
        }
        if columns
            .iter()
            .any(|c| !c.constant && c.values.len() != rows)
        {
            return Err(Error::new(Kind::Bug, OP, "columns of different lengths"));
        }
        Ok(Output {
            table: Table {
                schema: self.output.clone(),
                rows,
                columns,
            },
            rows: match whole {
                true => RowMap::Every,
                false => RowMap::Origin(decoded.rows),
            },
            rejects,
            counters: Vec::new(),
        })
    }
}

fn plain(values: ArrayRef) -> Column {
    Column {
        values,
        constant: false,
    }
}

pub fn reject(row: u32, code: &str, field: Option<String>, message: impl Into<String>) -> Reject {
    Reject {
        row,
        part: None,
        code: code.to_owned(),
        field,
        message: message.into(),
    }
}

/// The rows of a column that stay. `whole`: all of them.
pub fn picked(column: &Column, rows: &[u32], whole: bool) -> Result<Column> {
    if whole || column.constant {
        return Ok(column.clone());
    }
    taken(&column.values, &UInt32Array::from(rows.to_vec())).map(plain)
}

pub fn taken(values: &ArrayRef, rows: &UInt32Array) -> Result<ArrayRef> {
    take(values, rows, None)
        .map_err(|error| Error::new(Kind::Bug, OP, "rows cannot be picked").source(error))
}

pub fn position(input: &SchemaRef, column: &str) -> Result<usize> {
    input.index_of(column).map_err(|_| {
        let message = format!("there is no column `{column}` to read");
        Error::new(Kind::Bug, OP, message)
    })
}
