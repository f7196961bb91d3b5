//! One checked value, and the builder of a column that takes such values.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int32Builder,
    Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, ListArray, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType};

use crate::error::{Error, Kind, Result};

#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Bool(bool),
    /// Also days.
    Int(i32),
    /// Also microseconds.
    Long(i64),
    Double(f64),
    /// Without its scale.
    Decimal(i128),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Cell>),
    Struct(Vec<Cell>),
}

#[derive(Debug)]
pub enum Builder {
    Bool(BooleanBuilder),
    Int(Int32Builder),
    Date(Date32Builder),
    Long(Int64Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Double(Float64Builder),
    Decimal(Decimal128Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    List {
        ends: Vec<i32>,
        there: Vec<bool>,
        items: Box<Builder>,
    },
    Struct {
        there: Vec<bool>,
        fields: Vec<Builder>,
    },
}

impl Builder {
    pub fn new(of: &DataType) -> Builder {
        match of {
            DataType::Boolean => Builder::Bool(BooleanBuilder::new()),
            DataType::Int32 => Builder::Int(Int32Builder::new()),
            DataType::Date32 => Builder::Date(Date32Builder::new()),
            DataType::Int64 => Builder::Long(Int64Builder::new()),
            DataType::Timestamp(..) => Builder::Timestamp(TimestampMicrosecondBuilder::new()),
            DataType::Float64 => Builder::Double(Float64Builder::new()),
            DataType::Decimal128(..) => Builder::Decimal(Decimal128Builder::new()),
            DataType::Binary => Builder::Bytes(BinaryBuilder::new()),
            DataType::List(item) => Builder::List {
                ends: vec![0],
                there: Vec::new(),
                items: Box::new(Builder::new(item.data_type())),
            },
            DataType::Struct(fields) => Builder::Struct {
                there: Vec::new(),
                fields: fields
                    .iter()
                    .map(|field| Builder::new(field.data_type()))
                    .collect(),
            },
            _ => Builder::Text(StringBuilder::new()),
        }
    }

    /// A cell of another kind counts as null; plans make cells of the column's own.
    pub fn append(&mut self, cell: Cell) {
        match (self, cell) {
            (Builder::Bool(to), Cell::Bool(value)) => to.append_value(value),
            (Builder::Bool(to), _) => to.append_null(),
            (Builder::Int(to), Cell::Int(value)) => to.append_value(value),
            (Builder::Int(to), _) => to.append_null(),
            (Builder::Date(to), Cell::Int(value)) => to.append_value(value),
            (Builder::Date(to), _) => to.append_null(),
            (Builder::Long(to), Cell::Long(value)) => to.append_value(value),
            (Builder::Long(to), _) => to.append_null(),
            (Builder::Timestamp(to), Cell::Long(value)) => to.append_value(value),
            (Builder::Timestamp(to), _) => to.append_null(),
            (Builder::Double(to), Cell::Double(value)) => to.append_value(value),
            (Builder::Double(to), _) => to.append_null(),
            (Builder::Decimal(to), Cell::Decimal(value)) => to.append_value(value),
            (Builder::Decimal(to), _) => to.append_null(),
            (Builder::Text(to), Cell::Text(value)) => to.append_value(value),
            (Builder::Text(to), _) => to.append_null(),
            (Builder::Bytes(to), Cell::Bytes(value)) => to.append_value(value),
            (Builder::Bytes(to), _) => to.append_null(),
            (Builder::List { ends, there, items }, cell) => {
                let end = ends.last().copied().unwrap_or(0);
                let (added, is_there) = match cell {
                    Cell::List(cells) => {
                        let added = i32::try_from(cells.len()).unwrap_or(i32::MAX);
                        cells.into_iter().for_each(|cell| items.append(cell));
                        (added, true)
                    }
                    _ => (0, false),
                };
                ends.push(end.saturating_add(added));
                there.push(is_there);
            }
            (Builder::Struct { there, fields }, cell) => match cell {
                Cell::Struct(cells) => {
                    for (field, cell) in fields.iter_mut().zip(cells) {
                        field.append(cell);
                    }
                    there.push(true);
                }
                _ => {
                    fields.iter_mut().for_each(|field| field.append_hidden());
                    there.push(false);
                }
            },
        }
    }

    /// Below a struct that is null: also a field that may not be null has a place there.
    fn append_hidden(&mut self) {
        self.append(match self {
            Builder::Bool(_) => Cell::Bool(false),
            Builder::Int(_) | Builder::Date(_) => Cell::Int(0),
            Builder::Long(_) | Builder::Timestamp(_) => Cell::Long(0),
            Builder::Double(_) => Cell::Double(0.0),
            Builder::Decimal(_) => Cell::Decimal(0),
            Builder::Text(_) => Cell::Text(String::new()),
            Builder::Bytes(_) => Cell::Bytes(Vec::new()),
            Builder::List { .. } => Cell::List(Vec::new()),
            Builder::Struct { .. } => Cell::Null,
        });
    }

    pub fn finish(self, to: &DataType) -> Result<ArrayRef> {
        let bug = |error: ArrowError| {
            Error::new(Kind::Bug, "convert.envelope", "a column cannot be made").source(error)
        };
        Ok(match (self, to) {
            (Builder::Bool(mut from), _) => Arc::new(from.finish()),
            (Builder::Int(mut from), _) => Arc::new(from.finish()),
            (Builder::Date(mut from), _) => Arc::new(from.finish()),
            (Builder::Long(mut from), _) => Arc::new(from.finish()),
            (Builder::Timestamp(mut from), _) => Arc::new(from.finish().with_timezone("UTC")),
            (Builder::Double(mut from), _) => Arc::new(from.finish()),
            (Builder::Decimal(mut from), DataType::Decimal128(digits, scale)) => Arc::new(
                from.finish()
                    .with_precision_and_scale(*digits, *scale)
                    .map_err(bug)?,
            ),
            (Builder::Decimal(mut from), _) => Arc::new(from.finish()),
            (Builder::Text(mut from), _) => Arc::new(from.finish()),
            (Builder::Bytes(mut from), _) => Arc::new(from.finish()),
            (Builder::List { ends, there, items }, DataType::List(item)) => {
                let items = items.finish(item.data_type())?;
                let ends = OffsetBuffer::new(ScalarBuffer::from(ends));
                Arc::new(ListArray::try_new(item.clone(), ends, items, nulls(there)).map_err(bug)?)
            }
            (Builder::Struct { there, fields }, DataType::Struct(types)) => {
                let (rows, mut columns) = (there.len(), Vec::with_capacity(fields.len()));
                for (field, of) in fields.into_iter().zip(types) {
                    columns.push(field.finish(of.data_type())?);
                }
                match columns.is_empty() {
                    true => Arc::new(StructArray::new_empty_fields(rows, nulls(there))),
                    false => Arc::new(
                        StructArray::try_new(types.clone(), columns, nulls(there)).map_err(bug)?,
                    ),
                }
            }
            (_, other) => {
                let message = format!("a builder of another type than {other}");
                return Err(Error::new(Kind::Bug, "convert.envelope", message));
            }
        })
    }
}

fn nulls(there: Vec<bool>) -> Option<NullBuffer> {
    there.contains(&false).then(|| NullBuffer::from(there))
}
