//! The digest of rows as a multiset: independent of row order, file borders and encodings. This is a format.
//!
//! All arithmetic wraps; `mul64` keeps the low, `fold` the exclusive-or of both halves of the product.
//! ```text
//! K0, K1, K2 = 9e3779b97f4a7c15, d1b54a32d192ed03, 8cb92ba72f3d8dd7
//! mix(x)  = x ^= x>>32; x *= K0; x ^= x>>29; x *= K1; x ^= x>>32
//! seed    = first 16 bytes of sha256(column name ‖ 0 ‖ format string of `schema.rs`), as two little-endian words s0, s1
//! value   = 0 if null, else, as hi‖lo:
//!   word x (integers sign-extended, bool 0/1, floats their bits with one NaN):
//!                              lo = mix(x ^ s0), hi = mix((x + s1) ^ lo.rotate_left(32))
//!   decimal (words x, y):      word(y) under the seed (word(x).lo, word(x).hi)
//!   bytes b of n:              a = s0 ^ n·K2, c = s1; for each 16 bytes, the last zero-padded, as words x, y:
//!                              a = fold(x ^ a ^ K0, y ^ K1), c = fold(y ^ c ^ K2, x ^ K0) + a;
//!                              lo = mix(a ^ c.rotate_left(32)), hi = mix(c + a·K1)
//!   list of n values, struct:  words folded: h = word(n); for each child h = word2(h + child's value); a child's seed
//!                              is (mix(s0 + 1 + i), mix(s1 + 1 + i)), i = its place among its siblings
//! row     = word2(Σ over columns of value)   where word2(h) = word(h.hi) under the seed (h.lo, K2)
//! digest  = Σ over rows of row, 32 hex digits
//! ```
//! A null adds nothing, so a column that is null throughout may be added or left out; null and empty differ. The digest
//! finds accidents and disagreeing code, not forgery: a file's bytes are sealed by its sha256.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal128Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Schema, TimeUnit};
use sha2::{Digest, Sha256};

use crate::chain::Column;
use crate::error::{Error, Kind, Result};

use super::schema::format_string;

const K0: u64 = 0x9e37_79b9_7f4a_7c15;
const K1: u64 = 0xd1b5_4a32_d192_ed03;
const K2: u64 = 0x8cb9_2ba7_2f3d_8dd7;

/// Collects the digest of rows that share a schema.
#[derive(Clone, Debug)]
pub struct RowDigest {
    seeds: Vec<Seed>,
    total: u128,
    sums: Vec<u128>,
}

#[derive(Clone, Copy, Debug)]
struct Seed(u64, u64);

impl RowDigest {
    pub fn new(schema: &Schema) -> RowDigest {
        let seeds = schema.fields().iter().map(|field| {
            let format = format_string(field.data_type()).unwrap_or_default();
            Seed::of(field.name(), &format)
        });
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
            self.total = self.total.wrapping_add(word2(*sum));
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

    pub fn hex(&self) -> String {
        format!("{:032x}", self.total)
    }
}

impl Seed {
    fn of(name: &str, format: &str) -> Seed {
        let mut sha = Sha256::new();
        sha.update(name);
        sha.update([0]);
        sha.update(format);
        let digest = sha.finalize();
        Seed(load(&digest[..8]), load(&digest[8..16]))
    }

    fn child(self, place: u64) -> Seed {
        Seed(
            mix(self.0.wrapping_add(place + 1)),
            mix(self.1.wrapping_add(place + 1)),
        )
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
        DataType::Float32 => words::<Float32Type>(sums, array, seed, |v| {
            u64::from(if v.is_nan() { f32::NAN } else { v }.to_bits())
        }),
        DataType::Float64 => words::<Float64Type>(sums, array, seed, |v| {
            if v.is_nan() { f64::NAN } else { v }.to_bits()
        }),
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
            each(sums, array, |i| {
                let value = values[i] as u128;
                let low = word(value as u64, seed);
                word((value >> 64) as u64, Seed(low as u64, (low >> 64) as u64))
            });
        }
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

fn each(sums: &mut [u128], array: &ArrayRef, hash: impl Fn(usize) -> u128) {
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
    add_values(&mut children, items, seed.child(0))?;
    each(sums, array, |i| {
        let items = &children[offsets[i].as_usize()..offsets[i + 1].as_usize()];
        fold_children(items.iter().copied(), seed)
    });
    Ok(())
}

fn structs(sums: &mut [u128], array: &ArrayRef, seed: Seed) -> Result<()> {
    let mut columns = Vec::new();
    for (place, column) in array.as_struct().columns().iter().enumerate() {
        let mut values = vec![0; column.len()];
        add_values(&mut values, column, seed.child(place as u64))?;
        columns.push(values);
    }
    each(sums, array, |i| {
        fold_children(columns.iter().map(|column| column[i]), seed)
    });
    Ok(())
}

fn fold_children(children: impl ExactSizeIterator<Item = u128>, seed: Seed) -> u128 {
    let start = word(children.len() as u64, seed);
    children.fold(start, |h, child| word2(h.wrapping_add(child)))
}

#[inline]
fn word(x: u64, seed: Seed) -> u128 {
    let low = mix(x ^ seed.0);
    let high = mix(x.wrapping_add(seed.1) ^ low.rotate_left(32));
    u128::from(high) << 64 | u128::from(low)
}

#[inline]
fn word2(h: u128) -> u128 {
    word((h >> 64) as u64, Seed(h as u64, K2))
}

#[inline]
fn bytes(value: &[u8], seed: Seed) -> u128 {
    let mut a = seed.0 ^ (value.len() as u64).wrapping_mul(K2);
    let mut c = seed.1;
    let mut step = |x: u64, y: u64| {
        a = fold(x ^ a ^ K0, y ^ K1);
        c = fold(y ^ c ^ K2, x ^ K0).wrapping_add(a);
    };
    let (blocks, tail) = value.as_chunks::<16>();
    for block in blocks {
        step(load(&block[..8]), load(&block[8..]));
    }
    if !tail.is_empty() {
        let mut padded = [0; 16];
        padded[..tail.len()].copy_from_slice(tail);
        step(load(&padded[..8]), load(&padded[8..]));
    }
    let low = mix(a ^ c.rotate_left(32));
    let high = mix(c.wrapping_add(a.wrapping_mul(K1)));
    u128::from(high) << 64 | u128::from(low)
}

#[inline]
fn mix(mut x: u64) -> u64 {
    x ^= x >> 32;
    x = x.wrapping_mul(K0);
    x ^= x >> 29;
    x = x.wrapping_mul(K1);
    x ^ x >> 32
}

#[inline]
fn fold(x: u64, y: u64) -> u64 {
    let product = u128::from(x) * u128::from(y);
    product as u64 ^ (product >> 64) as u64
}

#[inline]
fn load(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(bytes);
    u64::from_le_bytes(word)
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
        digest.hex()
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
            whole, "3379d76030b8e0762b0aea4a5031cb24",
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
        assert_eq!(digest_.hex(), digest(&[plain]));
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
