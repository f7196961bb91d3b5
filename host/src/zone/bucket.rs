//! Which bucket a row belongs to: Spark's `pmod(hash(columns), count)`, and the name that says so.
//!
//! `hash` is Spark's Murmur3 for 32 bits with seed 42, which differs from the usual one in the last bytes of a text. Nulls
//! leave the hash as it is. Hive's own tables hash otherwise: only Spark reads these buckets as buckets, everybody else
//! reads the files.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, FieldRef, TimeUnit};

use crate::config::Bucket;
use crate::error::{Error, Kind, Result};

/// Spark's own.
const SEED: u32 = 42;
/// A decimal of at most so many digits is hashed as a long.
const LONG_DIGITS: u8 = 18;

/// Behind the id of a file: Spark takes the number behind the last `_`.
pub fn tail(bucket: Option<u32>) -> String {
    match bucket {
        Some(bucket) => format!("bucket_{bucket:05}.c000.parquet"),
        None => "parquet".to_owned(),
    }
}

/// Why a column cannot decide a bucket. `None`: it can.
fn unfit(data_type: &DataType) -> Option<String> {
    let fits = match data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Decimal128(..) => true,
        DataType::Timestamp(unit, _) => *unit == TimeUnit::Microsecond,
        _ => false,
    };
    (!fits).then(|| format!("is {data_type}, which Spark does not have or does not hash"))
}

/// The places of the columns that decide, each of which can.
pub fn fitting(fields: &[FieldRef], bucket: &Bucket) -> Result<Vec<usize>> {
    let place = |name: &String| {
        let found = fields.iter().position(|field| field.name() == name);
        let why = match found.and_then(|at| fields.get(at)) {
            Some(field) => unfit(field.data_type()),
            None => Some("is not a column of the rows".to_owned()),
        };
        match (found, why) {
            (Some(at), None) => Ok(at),
            (_, why) => {
                let why = why.unwrap_or_default();
                let message = format!("sink.bucket.columns: `{name}` {why}");
                Err(Error::new(Kind::ConfigInvalid, "zone.bucket", message)
                    .hint("name a column of text, numbers, dates or times"))
            }
        }
    };
    bucket.columns.iter().map(place).collect()
}

/// The bucket of each row. `columns` are those of `bucket.columns`, in their order, and each fits ([`unfit`]).
pub fn buckets(columns: &[ArrayRef], rows: usize, bucket: &Bucket) -> Vec<u32> {
    let mut hashes = vec![SEED; rows];
    for column in columns {
        add(&mut hashes, column);
    }
    let count = i64::from(bucket.count.max(1));
    let of = |hash: u32| (i64::from(hash as i32)).rem_euclid(count) as u32;
    hashes.into_iter().map(of).collect()
}

fn add(hashes: &mut [u32], column: &ArrayRef) {
    macro_rules! each {
        ($values:expr, $hash:expr) => {{
            let values = $values;
            for (row, hash) in hashes.iter_mut().enumerate() {
                if values.is_valid(row) {
                    *hash = $hash(values.value(row), *hash);
                }
            }
        }};
    }
    match column.data_type() {
        DataType::Boolean => each!(column.as_boolean(), |v, h| of_int(i32::from(v), h)),
        DataType::Int8 => each!(column.as_primitive::<Int8Type>(), |v, h| of_int(
            i32::from(v),
            h
        )),
        DataType::Int16 => each!(column.as_primitive::<Int16Type>(), |v, h| of_int(
            i32::from(v),
            h
        )),
        DataType::Int32 => each!(column.as_primitive::<Int32Type>(), of_int),
        DataType::Date32 => each!(column.as_primitive::<Date32Type>(), of_int),
        DataType::Int64 => each!(column.as_primitive::<Int64Type>(), of_long),
        DataType::Timestamp(..) => {
            each!(column.as_primitive::<TimestampMicrosecondType>(), of_long);
        }
        // `+ 0.0`: there is one zero.
        DataType::Float32 => each!(column.as_primitive::<Float32Type>(), |v: f32, h| of_int(
            (if v.is_nan() { f32::NAN } else { v + 0.0 }).to_bits() as i32,
            h
        )),
        DataType::Float64 => each!(column.as_primitive::<Float64Type>(), |v: f64, h| of_long(
            (if v.is_nan() { f64::NAN } else { v + 0.0 }).to_bits() as i64,
            h
        )),
        DataType::Utf8 => each!(column.as_string::<i32>(), |v: &str, h| of_bytes(
            v.as_bytes(),
            h
        )),
        DataType::Binary => each!(column.as_binary::<i32>(), of_bytes),
        DataType::Decimal128(digits, _) if *digits <= LONG_DIGITS => {
            each!(column.as_primitive::<Decimal128Type>(), |v, h| of_long(
                v as i64, h
            ));
        }
        DataType::Decimal128(..) => {
            each!(column.as_primitive::<Decimal128Type>(), |v, h| of_bytes(
                &shortest(v),
                h
            ));
        }
        _ => {}
    }
}

/// As Java's `BigInteger.toByteArray`: big-endian, two's complement, as few bytes as hold it with its sign.
fn shortest(value: i128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let sign = if value < 0 { 0xff } else { 0 };
    let more = |at: &usize| {
        let next = bytes.get(at + 1);
        bytes.get(*at) == Some(&sign) && next.is_some_and(|next| (next ^ sign) & 0x80 == 0)
    };
    let from = (0..bytes.len() - 1).take_while(more).count();
    bytes.get(from..).unwrap_or_default().to_vec()
}

fn of_int(value: i32, seed: u32) -> u32 {
    finish(mixed(seed, value as u32), 4)
}

fn of_long(value: i64, seed: u32) -> u32 {
    let bits = value as u64;
    let low = mixed(seed, bits as u32);
    finish(mixed(low, (bits >> 32) as u32), 8)
}

/// Whole words, then each byte that is left as a word of its own, with its sign.
fn of_bytes(bytes: &[u8], seed: u32) -> u32 {
    let (words, left) = bytes.as_chunks::<4>();
    let mut hash = seed;
    for word in words {
        hash = mixed(hash, u32::from_le_bytes(*word));
    }
    for byte in left {
        hash = mixed(hash, i32::from(*byte as i8) as u32);
    }
    finish(hash, bytes.len() as u32)
}

fn mixed(hash: u32, word: u32) -> u32 {
    let word = word.wrapping_mul(0xcc9e_2d51).rotate_left(15);
    let word = word.wrapping_mul(0x1b87_3593);
    let hash = (hash ^ word).rotate_left(13);
    hash.wrapping_mul(5).wrapping_add(0xe654_6b64)
}

fn finish(hash: u32, length: u32) -> u32 {
    let mut hash = hash ^ length;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Decimal128Array, Int32Array, Int64Array, StringArray};

    use super::*;

    fn hash(columns: &[ArrayRef]) -> i32 {
        let mut hashes = vec![SEED];
        columns.iter().for_each(|column| add(&mut hashes, column));
        hashes[0] as i32
    }

    fn text(value: &str) -> ArrayRef {
        Arc::new(StringArray::from(vec![value]))
    }

    fn int(value: i32) -> ArrayRef {
        Arc::new(Int32Array::from(vec![value]))
    }

    /// Values from Spark's documentation of `hash` (SQL and PySpark). An array is hashed as its elements.
    #[test]
    fn the_hash_is_that_of_spark() {
        assert_eq!(hash(&[text("Spark"), int(123), int(2)]), -1_321_691_492);
        assert_eq!(hash(&[text("ABC")]), -757_602_832);
        assert_eq!(hash(&[text("ABC"), text("DEF")]), 599_895_104);
        assert_eq!(hash(&[int(0)]), 933_211_791);
        assert_eq!(hash(&[int(4)]), -397_064_898);
        let null: ArrayRef = Arc::new(Int32Array::from(vec![None]));
        assert_eq!(hash(&[null]), 42);
        let long: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        assert_eq!(hash(&[long]), -1_712_319_331);
        assert_eq!(hash(&[int(1)]), -559_580_957);
    }

    #[test]
    fn decimals_are_longs_or_the_bytes_of_java() {
        let decimal = |value: i128, digits| -> ArrayRef {
            let array = Decimal128Array::from(vec![value]).with_precision_and_scale(digits, 2);
            Arc::new(array.expect("fits"))
        };
        let long: ArrayRef = Arc::new(Int64Array::from(vec![12_345]));
        assert_eq!(hash(&[decimal(12_345, 18)]), hash(&[long]));
        assert_ne!(hash(&[decimal(12_345, 38)]), hash(&[decimal(12_345, 18)]));
        for (value, bytes) in [
            (0, &[0][..]),
            (127, &[127]),
            (128, &[0, 128]),
            (-1, &[255]),
            (-128, &[128]),
            (-129, &[255, 127]),
            (256, &[1, 0]),
        ] {
            assert_eq!(shortest(value), bytes, "{value}");
        }
    }

    #[test]
    fn a_bucket_is_never_negative_and_its_file_says_which_it_is() {
        let bucket = Bucket {
            columns: vec!["id".to_owned()],
            count: 8,
        };
        let ids: ArrayRef = Arc::new(Int32Array::from_iter_values(0..1000));
        let found = buckets(&[ids], 1000, &bucket);
        assert!((0..8).all(|b| found.iter().filter(|f| **f == b).count() > 80));
        // Spark: the digits behind the last `_`, up to a dot.
        assert_eq!(tail(Some(3)), "bucket_00003.c000.parquet");
        assert_eq!(tail(None), "parquet");
    }
}
