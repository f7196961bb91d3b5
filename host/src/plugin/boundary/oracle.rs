//! The contract's rules for an output, implemented from `wit/weir.wit` a second time, simply and slowly: `fuzz`
//! compares the readers with it.

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::Array;
use arrow_schema::{DataType, Field};

use super::bindings::exports::weir::plugin::transform as wit;
use super::plan::Plan;
use crate::chain::Column;
use crate::plugin::MAX_COUNT;

type Broken = Option<&'static str>;

fn when(broken: bool, rule: &'static str) -> Broken {
    broken.then_some(rule)
}

/// The first rule that `output` breaks.
pub fn breaks(plan: &Plan, output: &wit::Output, read: &[Column], rows: usize) -> Broken {
    let origin: Vec<u32> = match &output.rows {
        wit::RowMap::Every => (0..rows as u32).collect(),
        wit::RowMap::Kept(bits) => {
            if let Some(rule) = bitmap(bits, rows) {
                return Some(rule);
            }
            (0..rows as u32)
                .filter(|n| bit(bits, *n as usize))
                .collect()
        }
        wit::RowMap::Origin(origin) => origin.clone(),
    };
    when(
        origin.iter().any(|n| *n as usize >= rows),
        "a row not given",
    )
    .or(when(!origin.is_sorted(), "order"))
    .or_else(|| {
        let distinct: BTreeSet<_> = origin.iter().collect();
        when(
            !plan.explodes && distinct.len() < origin.len(),
            "a row twice",
        )
    })
    .or(when(
        output.columns.len() != plan.makes.len(),
        "a column for each `make`",
    ))
    .or(when(
        output.counters.len() != plan.counters.len(),
        "a number for each counter",
    ))
    .or(when(
        output.counters.iter().any(|n| *n > MAX_COUNT),
        "a counter's size",
    ))
    .or_else(|| rejects(plan, output, &origin, rows))
    .or_else(|| {
        let mut columns = plan.makes.iter().zip(&output.columns);
        columns.find_map(|(field, column)| made(field, column, read, origin.len()))
    })
}

fn rejects(plan: &Plan, output: &wit::Output, origin: &[u32], rows: usize) -> Broken {
    let mut of_row: BTreeMap<u32, BTreeSet<Option<u32>>> = BTreeMap::new();
    for reject in &output.rejects {
        of_row.entry(reject.row).or_default().insert(reject.part);
        let snake = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let sound = (1..=64).contains(&reject.code.len()) && reject.code.chars().all(snake);
        if reject.row as usize >= rows || !sound {
            return Some("a reject's row or code");
        }
    }
    of_row.iter().find_map(|(row, parts)| {
        let went_on = origin.iter().filter(|n| *n == row).count();
        if parts.contains(&None) {
            return when(
                went_on > 0 || parts.len() > 1,
                "refused whole, and goes on or in pieces",
            );
        }
        let pieces = went_on + parts.len();
        let beyond = parts.iter().flatten().any(|part| *part as usize >= pieces);
        when(
            beyond || (pieces > 1 && !plan.explodes),
            "a piece that is not there",
        )
    })
}

fn made(field: &Field, column: &wit::MadeColumn, read: &[Column], len: usize) -> Broken {
    match column {
        wit::MadeColumn::Unchanged(n) => match read.get(*n as usize) {
            None => Some("unchanged, but not read"),
            Some(source) => {
                let nulls = !field.is_nullable() && source.values.null_count() > 0;
                when(
                    nulls || source.values.data_type() != field.data_type(),
                    "unchanged, of another type",
                )
            }
        },
        wit::MadeColumn::Made(column) => {
            let mut nodes = column.nodes.iter();
            let rows = if column.constant { 1 } else { len };
            node(field, &mut nodes, rows, &|_| true).or(when(nodes.len() > 0, "nodes too many"))
        }
    }
}

/// `there`: whether the parent has a value in this row, which a child that is never null must then have.
fn node(
    field: &Field,
    nodes: &mut std::slice::Iter<'_, wit::BuffersResult>,
    rows: usize,
    there: &dyn Fn(usize) -> bool,
) -> Broken {
    let Some(wit::BuffersResult {
        validity,
        offsets,
        data,
    }) = nodes.next()
    else {
        return Some("nodes missing");
    };
    if let Some(rule) = validity.as_ref().and_then(|bits| bitmap(bits, rows)) {
        return Some(rule);
    }
    let valid = |row: usize| validity.as_ref().is_none_or(|bits| bit(bits, row));
    if !field.is_nullable() && (0..rows).any(|row| there(row) && !valid(row)) {
        return Some("a null where none may be");
    }
    let spans = matches!(
        field.data_type(),
        DataType::Utf8 | DataType::Binary | DataType::List(_)
    );
    let sound = match spans {
        true => offsets.len() == rows + 1 && offsets[0] == 0 && offsets.is_sorted(),
        false => offsets.is_empty(),
    };
    if !sound {
        return Some("offsets");
    }
    let end = offsets.last().map_or(0, |last| *last as usize);
    let width = |bytes: usize| when(data.len() != rows * bytes, "the data's size");
    match field.data_type() {
        DataType::Boolean => bitmap(data, rows),
        DataType::Int32 | DataType::Date32 => width(4),
        DataType::Int64 | DataType::Float64 | DataType::Timestamp(..) => width(8),
        DataType::Decimal128(precision, _) => width(16).or_else(|| {
            let limit = 10u128.pow(u32::from(*precision));
            let value = |row: usize| {
                let bytes = data[row * 16..][..16].try_into().unwrap_or_default();
                i128::from_le_bytes(bytes).unsigned_abs()
            };
            let large = (0..rows).any(|row| valid(row) && value(row) >= limit);
            when(large, "a decimal's digits")
        }),
        DataType::Binary => when(end != data.len(), "bytes of no row"),
        DataType::Utf8 if end != data.len() => Some("bytes of no row"),
        DataType::Utf8 => {
            let text = |pair: &[i32]| {
                std::str::from_utf8(&data[pair[0] as usize..pair[1] as usize]).is_ok()
            };
            when(!offsets.windows(2).all(text), "no UTF-8")
        }
        DataType::List(item) => {
            when(!data.is_empty(), "data of a list").or_else(|| node(item, nodes, end, &|_| true))
        }
        DataType::Struct(children) => when(!data.is_empty(), "data of a struct").or_else(|| {
            children
                .iter()
                .find_map(|child| node(child, nodes, rows, &valid))
        }),
        _ => Some("no type of the contract"),
    }
}

fn bit(bits: &[u8], n: usize) -> bool {
    bits[n / 8] >> (n % 8) & 1 == 1
}

fn bitmap(bits: &[u8], rows: usize) -> Broken {
    let spare = |bits: &[u8]| (rows..bits.len() * 8).any(|n| bit(bits, n));
    when(
        bits.len() != rows.div_ceil(8) || spare(bits),
        "a bitmap's bits",
    )
}
