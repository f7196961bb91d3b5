//! Joins the results of a batch that was run in parts, and makes the output table from carried and made columns.

use arrow_array::{Array, ArrayRef, UInt32Array, new_empty_array};
use arrow_select::concat::concat;
use arrow_select::take::take;

use super::output::{Mapping, Piece};
use super::plan::{Plan, Planned};
use crate::chain::{Column, Output, Reject, RowMap, Table};

/// First row in the batch, number of rows, and the result.
pub type Part = (usize, usize, Piece);

/// `parts`: (first row, rows, result), ascending and without gaps over the whole `input`.
pub fn output(plan: &Plan, input: &Table, mut parts: Vec<Part>) -> Result<Output, String> {
    let piece = match parts.len() {
        1 => parts.remove(0).2,
        _ => joined(plan, parts)?,
    };
    let mut made: Vec<Option<Column>> = piece.made.into_iter().map(Some).collect();
    let mapping = Mapping::new(&piece.rows, input.rows);
    let columns = plan.output.iter().map(|planned| match planned {
        Planned::Carry(n) => mapping.of(&input.columns[*n]),
        Planned::Make(n) => made[*n]
            .take()
            .ok_or_else(|| "a column is made twice".to_owned()),
    });
    let table = Table {
        schema: plan.schema.clone(),
        rows: piece.len,
        columns: columns.collect::<Result<_, _>>()?,
    };
    Ok(Output {
        rows: piece.rows,
        table,
        rejects: piece.rejects,
        counters: piece.counters,
    })
}

fn joined(plan: &Plan, parts: Vec<Part>) -> Result<Piece, String> {
    let mut origin: Vec<u32> = Vec::new();
    let mut rejects: Vec<Reject> = Vec::new();
    let mut counters = vec![0u64; plan.counters.len()];
    let mut made: Vec<Vec<(Column, usize)>> = plan.makes.iter().map(|_| Vec::new()).collect();
    let mut bytes = 0;
    for (first, rows, piece) in parts {
        bytes += piece.bytes;
        let base = first as u32;
        match piece.rows {
            RowMap::Every => origin.extend(base..base + rows as u32),
            RowMap::Origin(list) => origin.extend(list.iter().map(|n| n + base)),
        }
        rejects.extend(piece.rejects.into_iter().map(|reject| Reject {
            row: reject.row + base,
            ..reject
        }));
        for (sum, n) in counters.iter_mut().zip(piece.counters) {
            *sum = sum.saturating_add(n);
        }
        if piece.len > 0 {
            for (columns, column) in made.iter_mut().zip(piece.made) {
                columns.push((column, piece.len));
            }
        }
    }
    let made = plan
        .makes
        .iter()
        .zip(made)
        .map(|(field, columns)| match columns.len() {
            0 => Ok(Column {
                values: new_empty_array(field.data_type()),
                constant: false,
            }),
            _ => stacked(columns),
        });
    Ok(Piece {
        len: origin.len(),
        bytes,
        rows: RowMap::Origin(origin),
        made: made.collect::<Result<_, _>>()?,
        rejects,
        counters,
    })
}

/// Joins columns; the result is constant if all of them are, with the same value.
fn stacked(columns: Vec<(Column, usize)>) -> Result<Column, String> {
    let same = columns.iter().all(|(column, _)| {
        column.constant && column.values.to_data() == columns[0].0.values.to_data()
    });
    if same {
        let first = columns.into_iter().next();
        return first
            .map(|(column, _)| column)
            .ok_or_else(|| "no columns".to_owned());
    }
    let spread = columns
        .into_iter()
        .map(|(column, rows)| match column.constant {
            true => take(&column.values, &UInt32Array::from(vec![0; rows]), None),
            false => Ok(column.values),
        });
    let spread: Vec<ArrayRef> = spread
        .collect::<Result<_, _>>()
        .map_err(|e| e.to_string())?;
    let arrays: Vec<&dyn Array> = spread.iter().map(|array| array.as_ref()).collect();
    let values = concat(&arrays).map_err(|e| e.to_string())?;
    Ok(Column {
        values,
        constant: false,
    })
}
