//! The digest of rows as a multiset: independent of row order, of the division into files and of encodings. This is a
//! format. It uses a standard hash, so that others can recompute it, as docs/row_digest.py does.
//!
//! ```text
//! H(bytes, seed)   XXH3, 128 bits; a number, and as bytes little-endian
//! seed of a column low 64 bits of H(name in UTF-8, 0)
//! value            0 if null, else H(its bytes, seed of its column):
//!   bool, integers, dates, timestamps   8 bytes, two's complement (a boolean is 0 or 1; moments count in the unit of the column)
//!   floats                              8 bytes, as a double, with one NaN
//!   decimals                            16 bytes, two's complement, without the scale
//!   strings, binary                     as they are
//!   lists, structs                      the values of the children one after the other, 16 bytes each
//! row              H(16 bytes of Σ over the columns of value, 0)
//! digest           Σ over the rows of row, as `xxh3:` and 32 hex digits
//! ```
//! Sums are modulo 2^128, bytes little-endian. A null adds nothing, so a column of nulls may be added or left out; null
//! and empty differ. Width, sign and precision of a type do not count: the schema digest covers them. The digest finds
//! accidents and programs that disagree, not forgery: against that there is the sha256 of a file.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal128Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Schema, TimeUnit};
use twox_hash::XxHash3_128;

use crate::chain::Column;
use crate::error::{Error, Kind, Result};

/// The prefix of a digest's text: which hash it uses.
const PREFIX: &str = "xxh3:";

/// Collects the digest of rows that share a schema.
#[derive(Clone, Debug)]
pub struct RowDigest {
    seeds: Vec<Seed>,
    total: u128,
    sums: Vec<u128>,
}

type Seed = u64;

impl RowDigest {
    pub fn new(schema: &Schema) -> RowDigest {
        let seeds = schema.fields().iter();
        let seeds = seeds.map(|field| bytes(field.name().as_bytes(), 0) as Seed);
        RowDigest {
            seeds: seeds.collect(),
            total: 0,
            sums: Vec::new(),
        }
    }

    /// `columns` in the order of the schema.
    pub fn add(&mut self, columns: &[Column], rows: usize) -> Result<()> {
        self.sums.clear();
        self.sums.resize(rows, 0);
        for (column, seed) in columns.iter().zip(&self.seeds) {
            if column.constant {
                let mut one = [0];
                add_values(&mut one, &column.values, *seed)?;
                self.sums
                    .iter_mut()
                    .for_each(|sum| *sum = sum.wrapping_add(one[0]));
            } else {
                add_values(&mut self.sums, &column.values, *seed)?;
            }
        }
        for sum in &self.sums {
            self.total = self.total.wrapping_add(wide(*sum, 0));
        }
        Ok(())
    }

    pub fn add_batch(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = batch.columns().iter().map(|values| Column {
            values: values.clone(),
            constant: false,
        });
        self.add(&columns.collect::<Vec<_>>(), batch.num_rows())
    }

    /// The digest as an entry contains it.
    pub fn text(&self) -> String {
        format!("{PREFIX}{:032x}", self.total)
    }
}

/// Adds the hash of each value to its row's sum.
fn add_values(sums: &mut [u128], array: &ArrayRef, seed: Seed) -> Result<()> {
    debug_assert_eq!(sums.len(), array.len());
    match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean();
            each(sums, array, |i| word(u64::from(values.value(i)), seed));
        }
        DataType::Int8 => words::<Int8Type>(sums, array, seed, |v| v as u64),
        DataType::Int16 => words::<Int16Type>(sums, array, seed, |v| v as u64),
        DataType::Int32 => words::<Int32Type>(sums, array, seed, |v| v as u64),
        DataType::Int64 => words::<Int64Type>(sums, array, seed, |v| v as u64),
        DataType::UInt8 => words::<UInt8Type>(sums, array, seed, u64::from),
        DataType::UInt16 => words::<UInt16Type>(sums, array, seed, u64::from),
        DataType::UInt32 => words::<UInt32Type>(sums, array, seed, u64::from),
        DataType::UInt64 => words::<UInt64Type>(sums, array, seed, |v| v),
        DataType::Float32 => words::<Float32Type>(sums, array, seed, |v| double(f64::from(v))),
        DataType::Float64 => words::<Float64Type>(sums, array, seed, double),
        DataType::Date32 => words::<Date32Type>(sums, array, seed, |v| v as u64),
        DataType::Date64 => words::<Date64Type>(sums, array, seed, |v| v as u64),
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => words::<TimestampSecondType>(sums, array, seed, |v| v as u64),
            TimeUnit::Millisecond => {
                words::<TimestampMillisecondType>(sums, array, seed, |v| v as u64);
            }
            TimeUnit::Microsecond => {
                words::<TimestampMicrosecondType>(sums, array, seed, |v| v as u64);
            }
            TimeUnit::Nanosecond => {
                words::<TimestampNanosecondType>(sums, array, seed, |v| v as u64);
            }
        },
        DataType::Decimal128(..) => {
            let values = array.as_primitive::<Decimal128Type>().values();
            each(sums, array, |i| wide(values[i] as u128, seed));
        }
        _ => add_longer(sums, array, seed)?,
    }
    Ok(())
}

/// Values of variable width: bytes, and values that consist of others.
fn add_longer(sums: &mut [u128], array: &ArrayRef, seed: Seed) -> Result<()> {
    match array.data_type() {
        DataType::Utf8 => {
            let a = array.as_string::<i32>();
            slices(sums, array, a.offsets(), a.value_data(), seed);
        }
        DataType::LargeUtf8 => {
            let a = array.as_string::<i64>();
            slices(sums, array, a.offsets(), a.value_data(), seed);
        }
        DataType::Binary => {
            let a = array.as_binary::<i32>();
            slices(sums, array, a.offsets(), a.value_data(), seed);
        }
        DataType::LargeBinary => {
            let a = array.as_binary::<i64>();
            slices(sums, array, a.offsets(), a.value_data(), seed);
        }
        DataType::FixedSizeBinary(_) => {
            let values = array.as_fixed_size_binary();
            each(sums, array, |i| bytes(values.value(i), seed));
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            lists(sums, array, list.offsets(), list.values(), seed)?;
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            lists(sums, array, list.offsets(), list.values(), seed)?;
        }
        DataType::Struct(_) => structs(sums, array, seed)?,
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            if dictionary.values().is_empty() {
                return Ok(()); // all rows are null
            }
            let mut values = vec![0; dictionary.values().len()];
            add_values(&mut values, dictionary.values(), seed)?;
            let keys = dictionary.normalized_keys();
            each(sums, array, |i| values.get(keys[i]).copied().unwrap_or(0));
        }
        other => {
            return Err(Error::new(
                Kind::ConfigInvalid,
                "zone.digest",
                format!("columns of type {other} have no place in a zone"),
            ));
        }
    }
    Ok(())
}

fn each(sums: &mut [u128], array: &ArrayRef, mut hash: impl FnMut(usize) -> u128) {
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = sum.wrapping_add(hash(i));
            }
        }
        Some(nulls) => {
            for (i, sum) in sums.iter_mut().enumerate() {
                if nulls.is_valid(i) {
                    *sum = sum.wrapping_add(hash(i));
                }
            }
        }
    }
}

fn words<T: ArrowPrimitiveType>(
    sums: &mut [u128],
    array: &ArrayRef,
    seed: Seed,
    bits: impl Fn(T::Native) -> u64,
) {
    let values = array.as_primitive::<T>().values();
    each(sums, array, |i| word(bits(values[i]), seed));
}

fn slices<O: arrow_array::OffsetSizeTrait>(
    sums: &mut [u128],
    array: &ArrayRef,
    offsets: &OffsetBuffer<O>,
    data: &[u8],
    seed: Seed,
) {
    each(sums, array, |i| {
        bytes(
            &data[offsets[i].as_usize()..offsets[i + 1].as_usize()],
            seed,
        )
    });
}

fn lists<O: arrow_array::OffsetSizeTrait>(
    sums: &mut [u128],
    array: &ArrayRef,
    offsets: &OffsetBuffer<O>,
    items: &ArrayRef,
    seed: Seed,
) -> Result<()> {
    let mut children = vec![0; items.len()];
    add_values(&mut children, items, seed)?;
    let mut joined = Vec::new();
    each(sums, array, |i| {
        let items = &children[offsets[i].as_usize()..offsets[i + 1].as_usize()];
        join(&mut joined, items.iter().copied(), seed)
    });
    Ok(())
}

fn structs(sums: &mut [u128], array: &ArrayRef, seed: Seed) -> Result<()> {
    let mut columns = Vec::new();
    for column in array.as_struct().columns() {
        let mut values = vec![0; column.len()];
        add_values(&mut values, column, seed)?;
        columns.push(values);
    }
    let mut joined = Vec::new();
    each(sums, array, |i| {
        join(&mut joined, columns.iter().map(|column| column[i]), seed)
    });
    Ok(())
}

fn join(joined: &mut Vec<u8>, children: impl Iterator<Item = u128>, seed: Seed) -> u128 {
    joined.clear();
    children.for_each(|child| joined.extend(child.to_le_bytes()));
    bytes(joined, seed)
}

/// All NaNs count as the same.
fn double(value: f64) -> u64 {
    if value.is_nan() { f64::NAN } else { value }.to_bits()
}

#[inline]
fn word(x: u64, seed: Seed) -> u128 {
    bytes(&x.to_le_bytes(), seed)
}

#[inline]
fn wide(x: u128, seed: Seed) -> u128 {
    bytes(&x.to_le_bytes(), seed)
}

#[inline]
fn bytes(value: &[u8], seed: Seed) -> u128 {
    XxHash3_128::oneshot_with_seed(seed, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow_array::types::Int32Type as I32;
    use arrow_array::{DictionaryArray, Int32Array, StringArray, UInt64Array};
    use arrow_schema::Field;
    use arrow_select::take::take_record_batch;

    fn books(ids: Vec<Option<&str>>, years: Vec<Option<i32>>) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Utf8, true),
            Field::new("year", DataType::Int32, true),
        ]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(ids)),
            Arc::new(Int32Array::from(years)),
        ];
        RecordBatch::try_new(Arc::new(schema), columns).expect("equal lengths")
    }

    fn digest(batches: &[RecordBatch]) -> String {
        let mut digest = RowDigest::new(&batches[0].schema());
        for batch in batches {
            digest.add_batch(batch).expect("supported");
        }
        digest.text()
    }

    #[test]
    fn order_and_borders_do_not_count_but_every_row_does() {
        let ids = vec![
            Some("a"),
            Some("b"),
            None,
            Some(""),
            Some("a longer id, over 16 bytes"),
        ];
        let all = books(ids, vec![Some(1), None, Some(3), Some(4), Some(5)]);
        let whole = digest(std::slice::from_ref(&all));
        let shuffled =
            take_record_batch(&all, &UInt64Array::from(vec![4, 2, 0, 3, 1])).expect("take");
        assert_eq!(digest(&[shuffled]), whole);
        assert_eq!(digest(&[all.slice(3, 2), all.slice(0, 3)]), whole);
        assert_ne!(digest(&[all.slice(0, 4)]), whole);
        assert_ne!(digest(&[all.clone(), all.slice(0, 1)]), whole);
        assert_eq!(
            whole, "xxh3:476790b6b71c72c5637010f55ada68cd",
            "the format is pinned"
        );
    }

    #[test]
    fn values_do_not_move_between_rows_or_columns() {
        let one = books(vec![Some("a"), Some("b")], vec![Some(1), Some(2)]);
        let crossed = books(vec![Some("a"), Some("b")], vec![Some(2), Some(1)]);
        assert_ne!(digest(&[one]), digest(&[crossed]));
        let null = books(vec![None], vec![Some(1)]);
        let empty = books(vec![Some("")], vec![Some(1)]);
        let zero = books(vec![Some("\0")], vec![Some(1)]);
        let seen = [digest(&[null]), digest(&[empty]), digest(&[zero])];
        assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2]);
    }

    #[test]
    fn encodings_do_not_count() {
        let plain = books(vec![Some("x"), None, Some("x")], vec![Some(7); 3]);
        let encoded: DictionaryArray<I32> = vec![Some("x"), None, Some("x")].into_iter().collect();
        let columns = [
            Column {
                values: Arc::new(encoded),
                constant: false,
            },
            Column {
                values: Arc::new(Int32Array::from(vec![7])),
                constant: true,
            },
        ];
        let mut digest_ = RowDigest::new(&plain.schema());
        digest_.add(&columns, 3).expect("supported");
        assert_eq!(digest_.text(), digest(&[plain]));
    }

    #[test]
    fn a_column_of_nulls_may_be_left_out() {
        let both = books(vec![Some("x"), Some("y")], vec![None, None]);
        let one = both.project(&[0]).expect("first column");
        assert_eq!(digest(&[both]), digest(&[one]));
    }

    #[test]
    fn lists_keep_order_and_borders() {
        use arrow_array::ListArray;
        let digest = |rows: Vec<Option<Vec<Option<i32>>>>| {
            let list = ListArray::from_iter_primitive::<I32, _, _>(rows);
            let field = Field::new("l", list.data_type().clone(), true);
            let batch =
                RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::new(list)]);
            let batch = batch.expect("one column");
            digest(&[batch])
        };
        let base = digest(vec![Some(vec![Some(1), Some(2)]), Some(vec![])]);
        assert_ne!(
            base,
            digest(vec![Some(vec![Some(2), Some(1)]), Some(vec![])])
        );
        assert_ne!(base, digest(vec![Some(vec![Some(1)]), Some(vec![Some(2)])]));
        assert_ne!(base, digest(vec![Some(vec![Some(1), Some(2)]), None]));
        assert_eq!(
            base,
            digest(vec![Some(vec![]), Some(vec![Some(1), Some(2)])])
        );
    }
}
