//! Checks what one call of `run` returned against the contract: row map, columns, rejects, counters.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, UInt32Array};
use arrow_buffer::BooleanBufferBuilder;
use arrow_schema::{DataType, Field};
use arrow_select::filter::{FilterBuilder, FilterPredicate};
use arrow_select::take::take;

use super::bindings::exports::weir::plugin::transform as wit;
use super::lift::{self, Checked};
use super::plan::Plan;
use crate::chain::{Column, Reject, RowMap};
use crate::plugin::text::cut;
use crate::plugin::{
    MAX_COUNT, MAX_REASONS, MAX_REJECT_TEXT, MAX_REJECTS, MAX_REJECTS_TEXT, MAX_ROWS,
};

/// The result of some rows of a batch.
#[derive(Debug)]
pub struct Piece {
    /// Input rows from `0`, as the guest numbered them.
    pub rows: RowMap,
    /// Number of output rows.
    pub len: usize,
    /// Bytes of all columns, including values that the row map repeats.
    pub bytes: usize,
    /// One for each of `Plan::makes`.
    pub made: Vec<Column>,
    pub rejects: Vec<Reject>,
    pub counters: Vec<u64>,
}

/// Why an output is not accepted.
#[derive(Debug, PartialEq)]
pub enum Refused {
    /// A rule of the contract is broken.
    Defect(String),
    /// Only its size is wrong: pass fewer rows at once.
    TooMuch,
}

impl From<String> for Refused {
    fn from(what: String) -> Self {
        Refused::Defect(what)
    }
}

/// Input of the call, cut to its rows: the columns that were passed to the guest, and those that it does not see.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    pub read: &'a [Column],
    pub carried: &'a [Column],
    pub rows: usize,
}

pub fn check(
    plan: &Plan,
    output: wit::Output,
    given: Given<'_>,
    max_bytes: usize,
) -> Result<Piece, Refused> {
    let Given {
        read,
        carried,
        rows,
    } = given;
    let (map, len) = row_map(output.rows, rows, plan.explodes)?;
    // Repeated values cost nothing in the guest, but their full size here.
    let unchanged = output.columns.iter().filter_map(|column| match column {
        wit::MadeColumn::Unchanged(n) => read.get(*n as usize),
        wit::MadeColumn::Made(_) => None,
    });
    let bytes = (carried.iter().chain(unchanged))
        .filter(|_| plan.explodes) // else no row comes twice
        .map(|c| repeated(c, &map))
        .chain(output.columns.iter().map(bytes))
        .fold(0, usize::saturating_add);
    if bytes > max_bytes || len > MAX_ROWS {
        return match rows {
            1 => Err(Refused::Defect(format!(
                "one record became {len} rows and {bytes} bytes; at most {MAX_ROWS} and {max_bytes}"
            ))),
            _ => Err(Refused::TooMuch),
        };
    }
    counts(plan, output.columns.len(), &output.counters)?;
    let rejects = rejects(output.rejects, &map, rows, plan.explodes)?;
    let mapping = Mapping::new(&map, rows);
    let mut made = Vec::with_capacity(plan.makes.len());
    for (field, column) in plan.makes.iter().zip(output.columns) {
        made.push(match column {
            wit::MadeColumn::Made(column) => {
                let rows = if column.constant { 1 } else { len };
                Column {
                    values: lift::column(field, column.nodes, rows)?,
                    constant: column.constant,
                }
            }
            wit::MadeColumn::Unchanged(n) => mapping.of(passed_on(field, n, read)?)?,
        });
    }
    Ok(Piece {
        rows: map,
        len,
        bytes,
        made,
        rejects,
        counters: output.counters,
    })
}

/// Checks that there are as many columns and counters as in the plan.
fn counts(plan: &Plan, columns: usize, counters: &[u64]) -> Result<(), Refused> {
    if columns != plan.makes.len() {
        let (found, wanted) = (columns, plan.makes.len());
        return Err(Refused::Defect(format!(
            "{found} columns where the plan makes {wanted}"
        )));
    }
    if counters.len() != plan.counters.len() {
        let (found, wanted) = (counters.len(), plan.counters.len());
        return Err(Refused::Defect(format!(
            "{found} counters where the plan names {wanted}"
        )));
    }
    if let Some(count) = counters.iter().find(|count| **count > MAX_COUNT) {
        return Err(Refused::Defect(format!(
            "a counter is raised by {count}; at most {MAX_COUNT} a call"
        )));
    }
    Ok(())
}

/// A column of the input that is passed on as the planned one.
fn passed_on<'a>(field: &Field, n: u32, read: &'a [Column]) -> Result<&'a Column, String> {
    let source = read.get(n as usize).ok_or_else(|| {
        format!(
            "column `{}`: unchanged({n}), but {} are read",
            field.name(),
            read.len()
        )
    })?;
    if source.values.data_type() != field.data_type() {
        let (found, wanted) = (source.values.data_type(), field.data_type());
        return Err(format!(
            "column `{}`: unchanged {found}, planned {wanted}",
            field.name()
        ));
    }
    if !field.is_nullable() && source.values.null_count() > 0 {
        return Err(format!(
            "column `{}`: unchanged nulls, not nullable",
            field.name()
        ));
    }
    Ok(source)
}

/// Bytes of a column under a row map; none if it is shared with the input.
fn repeated(column: &Column, map: &RowMap) -> usize {
    match map {
        RowMap::Origin(rows) if !column.constant => rows
            .iter()
            .map(|n| span(&column.values, *n as usize, *n as usize + 1))
            .fold(0, usize::saturating_add),
        _ => 0,
    }
}

/// Bytes of the rows `from..to`.
fn span(array: &ArrayRef, from: usize, to: usize) -> usize {
    let within = |offsets: &[i32]| (offsets[from] as usize, offsets[to] as usize);
    let offsets = (to - from) * 4;
    match array.data_type() {
        DataType::Utf8 => {
            let (first, last) = within(array.as_string::<i32>().value_offsets());
            offsets + last - first
        }
        DataType::Binary => {
            let (first, last) = within(array.as_binary::<i32>().value_offsets());
            offsets + last - first
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (first, last) = within(list.value_offsets());
            offsets + span(list.values(), first, last)
        }
        DataType::Struct(_) => {
            let columns = array.as_struct().columns().iter();
            columns.map(|child| span(child, from, to)).sum()
        }
        other => (to - from) * other.primitive_width().unwrap_or(1),
    }
}

/// A row map, prepared for many columns.
pub enum Mapping {
    Same,
    /// No row comes twice: most are kept, in long runs, which are copied as one.
    Kept(FilterPredicate),
    Repeated(UInt32Array),
}

impl Mapping {
    /// `rows` is the number of input rows.
    pub fn new(map: &RowMap, rows: usize) -> Self {
        let RowMap::Origin(origin) = map else {
            return Mapping::Same;
        };
        if origin.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Mapping::Repeated(UInt32Array::from(origin.clone()));
        }
        let mut kept = BooleanBufferBuilder::new(rows);
        kept.append_n(rows, false);
        origin.iter().for_each(|n| kept.set_bit(*n as usize, true));
        let kept = BooleanArray::new(kept.finish(), None);
        Mapping::Kept(FilterBuilder::new(&kept).optimize().build())
    }

    /// A column under the map. A constant one does not change.
    pub fn of(&self, column: &Column) -> Checked<Column> {
        let values = match self {
            _ if column.constant => return Ok(column.clone()),
            Mapping::Same => return Ok(column.clone()),
            Mapping::Kept(kept) => kept.filter(&column.values),
            Mapping::Repeated(rows) => take(&column.values, rows, None),
        };
        Ok(Column {
            values: values.map_err(|e| e.to_string())?,
            constant: false,
        })
    }
}

fn bytes(column: &wit::MadeColumn) -> usize {
    let node = |b: &wit::BuffersResult| {
        b.validity.as_ref().map_or(0, Vec::len) + b.offsets.len() * 4 + b.data.len()
    };
    match column {
        wit::MadeColumn::Made(column) => column.nodes.iter().map(node).sum(),
        wit::MadeColumn::Unchanged(_) => 0,
    }
}

fn row_map(map: wit::RowMap, rows: usize, explodes: bool) -> Checked<(RowMap, usize)> {
    let origin = match map {
        wit::RowMap::Every => return Ok((RowMap::Every, rows)),
        wit::RowMap::Kept(bits) => {
            lift::check_bits(&bits, rows).map_err(|e| format!("rows kept: {e}"))?;
            let kept = |n: &u32| bits[*n as usize / 8] >> (n % 8) & 1 == 1;
            (0..rows as u32).filter(kept).collect()
        }
        wit::RowMap::Origin(origin) => {
            if let Some(last) = origin.iter().find(|n| **n as usize >= rows) {
                return Err(format!("an output row comes from row {last} of {rows}"));
            }
            for pair in origin.windows(2) {
                if pair[1] < pair[0] {
                    return Err(format!(
                        "origin goes back from row {} to {}",
                        pair[0], pair[1]
                    ));
                }
                if pair[1] == pair[0] && !explodes {
                    return Err(format!(
                        "row {} became two, but the plan does not explode",
                        pair[0]
                    ));
                }
            }
            origin
        }
    };
    let len = origin.len();
    Ok((RowMap::Origin(origin), len))
}

/// How many output rows come from `row`.
fn out_of(map: &RowMap, row: u32) -> usize {
    match map {
        RowMap::Every => 1,
        RowMap::Origin(rows) => {
            let first = rows.partition_point(|n| *n < row);
            rows[first..].partition_point(|n| *n == row)
        }
    }
}

/// Why one row, or one piece of it, is refused.
type Place = (u32, Option<u32>);

fn rejects(
    list: Vec<wit::Reject>,
    map: &RowMap,
    rows: usize,
    explodes: bool,
) -> Result<Vec<Reject>, Refused> {
    let mut reasons: BTreeMap<Place, (Vec<Reject>, u64)> = BTreeMap::new();
    let (mut text, mut count) = (0, 0);
    for reject in list {
        if reject.row as usize >= rows {
            return Err(Refused::Defect(format!(
                "a reject of row {} of {rows}",
                reject.row
            )));
        }
        let snake = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if !(1..=64).contains(&reject.code.len()) || !reject.code.bytes().all(snake) {
            let code = crate::plugin::text::printable(cut(&reject.code, 64));
            let message = format!("reject code `{code}` is no snake_case of at most 64 bytes");
            return Err(Refused::Defect(message));
        }
        let (kept, more) = reasons.entry((reject.row, reject.part)).or_default();
        if kept.len() == MAX_REASONS {
            *more += 1;
            continue;
        }
        count += 1;
        if count > MAX_REJECTS {
            return match rows {
                1 => Err(Refused::Defect(format!(
                    "one record has more than {MAX_REJECTS} refused pieces and reasons"
                ))),
                _ => Err(Refused::TooMuch),
            };
        }
        let mut reject = Reject {
            row: reject.row,
            part: reject.part,
            code: reject.code,
            field: reject
                .field
                .map(|field| cut(&field, MAX_REJECT_TEXT).to_owned()),
            message: cut(&reject.message, MAX_REJECT_TEXT).to_owned(),
        };
        text += reject.message.len() + reject.field.as_ref().map_or(0, String::len);
        if text > MAX_REJECTS_TEXT {
            if rows > 1 {
                return Err(Refused::TooMuch);
            }
            (reject.message, reject.field) = (String::new(), None);
        }
        kept.push(reject);
    }
    check_pieces(&reasons, map, explodes)?;
    let mut out = Vec::with_capacity(reasons.len());
    for (mut kept, more) in reasons.into_values() {
        if let (Some(last), 1..) = (kept.last_mut(), more) {
            let note = format!(" (and {more} more reasons)");
            last.message = format!("{}{note}", cut(&last.message, MAX_REJECT_TEXT - note.len()));
        }
        out.extend(kept);
    }
    Ok(out)
}

/// A row that is refused as a whole has no output rows. Pieces are numbered without gaps, so the number of a refused
/// piece is below the number of all pieces of the row, including refused ones.
fn check_pieces<V>(reasons: &BTreeMap<Place, V>, map: &RowMap, explodes: bool) -> Checked<()> {
    let mut places = reasons.keys().peekable();
    while let Some((row, part)) = places.next() {
        let gone_on = out_of(map, *row);
        let whole = part.is_none();
        let mut parts = usize::from(!whole);
        let mut highest = *part;
        while let Some((_, part)) = places.next_if(|(next, _)| next == row) {
            parts += 1;
            highest = *part;
        }
        if whole && gone_on > 0 {
            return Err(format!("row {row} is refused whole and goes on"));
        }
        if whole && parts > 0 {
            return Err(format!("row {row} is refused whole and in pieces"));
        }
        if whole {
            continue;
        }
        let pieces = gone_on + parts;
        if pieces > 1 && !explodes {
            return Err(format!(
                "row {row} became {pieces}, but the plan does not explode"
            ));
        }
        if highest.is_some_and(|k| k as usize >= pieces) {
            return Err(format!(
                "piece {} of row {row} is refused; it has {pieces}",
                highest.unwrap_or(0)
            ));
        }
    }
    Ok(())
}
