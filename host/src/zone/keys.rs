//! Dedup keys: what equals what, and the sidecar file that remembers them. Both are formats.
//!
//! **Key** = first 16 bytes of sha256 over, for each key column in the configured order, one tag byte, the length of the
//! canonical bytes (4 bytes, little-endian) and the bytes:
//!
//! | tag | types | canonical bytes |
//! |---|---|---|
//! | `s` | utf8, large utf8 | UTF-8 as it is: no trimming, case folding or normalisation |
//! | `x` | binary of all kinds | as they are |
//! | `n` | integers, decimals | value 16 bytes, scale 1 byte, scale as small as it goes but not below 0: `5` = `5.00` |
//! | `f` | floats | bits as a double, one NaN, `-0` = `0` |
//! | `b` | bool | 0 or 1 |
//! | `d` | date32, date64 | days since 1970, 8 bytes |
//! | `t` | timestamps | nanoseconds since 1970 UTC, 16 bytes, any unit or zone |
//!
//! All little-endian. **A row with a null in its key is never a duplicate** and has no key.
//!
//! **Sidecar**, one per rows file: `WEIRKEYS`, version 1 (4 bytes), scheme (16 bytes: sha256 of the length-prefixed column
//! names), count (8 bytes), then the keys as 16 bytes each, strictly ascending, then the sha256 of all before it (32 bytes).
//! Sidecars are streamed, never loaded.

use std::io::Write;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal128Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::commit::{AddedFile, FileRange, Role};
use crate::error::{Error, Kind, Result};
use crate::hash::hex;
use crate::store::Store;

use super::file::{Birth, Out, Written};
use super::layout::partition_map;
use super::read::Located;

/// 16 bytes, compared as a big-endian number.
pub type Key = u128;

const MAGIC: &[u8; 8] = b"WEIRKEYS";
const VERSION: u32 = 1;
const HEADER_BYTES: u64 = 36;
const KEY_BYTES: u64 = 16;
const FOOTER_BYTES: u64 = 32;
/// A multiple of the key size, so that no key lies across two reads.
const READ_BYTES: u64 = 256 << 10;

/// Which columns are the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyScheme {
    columns: Vec<String>,
    id: [u8; 16],
}

impl KeyScheme {
    pub fn new(columns: &[String]) -> KeyScheme {
        let mut sha = Sha256::new();
        for column in columns {
            sha.update((column.len() as u32).to_le_bytes());
            sha.update(column);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&sha.finalize()[..16]);
        KeyScheme {
            columns: columns.to_vec(),
            id,
        }
    }

    /// Stands where rows files have the digest of their schema.
    pub fn schema(&self) -> String {
        format!("weir-keys-{VERSION}:{}", hex(&self.id))
    }

    /// The key of each row; `None` where a column of it is null.
    pub fn keys(&self, batch: &RecordBatch) -> Result<Vec<Option<Key>>> {
        let columns = self.columns.iter().map(|name| {
            let column = batch.column_by_name(name).ok_or_else(|| {
                unfit(name, "is not a column of the rows").hint("correct sink.dedup.key")
            })?;
            let put = canonical(column).ok_or_else(|| {
                unfit(
                    name,
                    &format!("is {}, which cannot be compared", column.data_type()),
                )
            })?;
            Ok((column, put))
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let mut bytes = Vec::new();
        let mut key = |i: usize| {
            bytes.clear();
            for (column, (tag, put)) in &columns {
                if column.is_null(i) {
                    return None;
                }
                bytes.push(*tag);
                let at = bytes.len();
                bytes.extend([0; 4]);
                put(i, &mut bytes);
                let len = (bytes.len() - at - 4) as u32;
                bytes[at..at + 4].copy_from_slice(&len.to_le_bytes());
            }
            Some(load(&Sha256::digest(&bytes)[..16]))
        };
        Ok((0..batch.num_rows()).map(&mut key).collect())
    }
}

fn unfit(column: &str, why: &str) -> Error {
    let message = format!("the dedup key `{column}` {why}");
    Error::new(Kind::ConfigInvalid, "zone.keys", message)
}

type Put<'a> = (u8, Box<dyn Fn(usize, &mut Vec<u8>) + 'a>);

fn canonical(column: &dyn Array) -> Option<Put<'_>> {
    Some(match column.data_type() {
        DataType::Utf8 => {
            let a = column.as_string::<i32>();
            (b's', Box::new(|i, out| out.extend(a.value(i).as_bytes())))
        }
        DataType::LargeUtf8 => {
            let a = column.as_string::<i64>();
            (b's', Box::new(|i, out| out.extend(a.value(i).as_bytes())))
        }
        DataType::Binary => {
            let a = column.as_binary::<i32>();
            (b'x', Box::new(|i, out| out.extend(a.value(i))))
        }
        DataType::LargeBinary => {
            let a = column.as_binary::<i64>();
            (b'x', Box::new(|i, out| out.extend(a.value(i))))
        }
        DataType::FixedSizeBinary(_) => {
            let a = column.as_fixed_size_binary();
            (b'x', Box::new(|i, out| out.extend(a.value(i))))
        }
        DataType::Boolean => {
            let a = column.as_boolean();
            (b'b', Box::new(|i, out| out.push(u8::from(a.value(i)))))
        }
        DataType::Int8 => number::<Int8Type>(column, 0, i128::from),
        DataType::Int16 => number::<Int16Type>(column, 0, i128::from),
        DataType::Int32 => number::<Int32Type>(column, 0, i128::from),
        DataType::Int64 => number::<Int64Type>(column, 0, i128::from),
        DataType::UInt8 => number::<UInt8Type>(column, 0, i128::from),
        DataType::UInt16 => number::<UInt16Type>(column, 0, i128::from),
        DataType::UInt32 => number::<UInt32Type>(column, 0, i128::from),
        DataType::UInt64 => number::<UInt64Type>(column, 0, i128::from),
        DataType::Decimal128(_, scale) => number::<Decimal128Type>(column, *scale, |v| v),
        DataType::Float32 => float::<Float32Type>(column, f64::from),
        DataType::Float64 => float::<Float64Type>(column, |v| v),
        DataType::Date32 => wide::<Date32Type, 8>(b'd', column, |v| i64::from(v).to_le_bytes()),
        DataType::Date64 => {
            wide::<Date64Type, 8>(b'd', column, |v| v.div_euclid(86_400_000).to_le_bytes())
        }
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => moment::<TimestampSecondType>(column, 1_000_000_000),
            TimeUnit::Millisecond => moment::<TimestampMillisecondType>(column, 1_000_000),
            TimeUnit::Microsecond => moment::<TimestampMicrosecondType>(column, 1_000),
            TimeUnit::Nanosecond => moment::<TimestampNanosecondType>(column, 1),
        },
        _ => return None,
    })
}

fn wide<'a, T: ArrowPrimitiveType, const N: usize>(
    tag: u8,
    column: &'a dyn Array,
    bytes: impl Fn(T::Native) -> [u8; N] + 'a,
) -> Put<'a> {
    let values = column.as_primitive::<T>();
    (
        tag,
        Box::new(move |i, out| out.extend(bytes(values.value(i)))),
    )
}

fn number<'a, T: ArrowPrimitiveType>(
    column: &'a dyn Array,
    scale: i8,
    widen: impl Fn(T::Native) -> i128 + 'a,
) -> Put<'a> {
    wide::<T, 17>(b'n', column, move |value| {
        let (mut value, mut scale) = (widen(value), scale);
        while scale > 0 && value % 10 == 0 {
            (value, scale) = (value / 10, scale - 1);
        }
        // Negative scales (5e3) are written out; what does not fit keeps its scale.
        while let Some(more) = value.checked_mul(10).filter(|_| scale < 0) {
            (value, scale) = (more, scale + 1);
        }
        let mut bytes = [0; 17];
        bytes[..16].copy_from_slice(&value.to_le_bytes());
        bytes[16] = scale as u8;
        bytes
    })
}

fn float<'a, T: ArrowPrimitiveType>(
    column: &'a dyn Array,
    widen: impl Fn(T::Native) -> f64 + 'a,
) -> Put<'a> {
    wide::<T, 8>(b'f', column, move |value| {
        let value = widen(value);
        let value = if value.is_nan() {
            f64::NAN
        } else {
            value + 0.0
        };
        value.to_bits().to_le_bytes()
    })
}

fn moment<T: ArrowPrimitiveType<Native = i64>>(column: &dyn Array, nanos: i128) -> Put<'_> {
    wide::<T, 16>(b't', column, move |v| (i128::from(v) * nanos).to_le_bytes())
}

fn load(bytes: &[u8]) -> Key {
    let mut key = [0; 16];
    key.copy_from_slice(bytes);
    u128::from_be_bytes(key)
}

/// Writes the sidecar of one rows file. `keys` ascend strictly; `ranges` are those of the rows file.
pub fn write_keys(
    store: &Arc<dyn Store>,
    birth: Birth,
    scheme: &KeyScheme,
    keys: &[Key],
    ranges: Vec<FileRange>,
) -> Result<Written> {
    debug_assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
    let mut out = Out::create(store, &birth.place)?;
    let mut sha = Sha256::new();
    let mut put = |bytes: &[u8]| {
        sha.update(bytes);
        out.write_all(bytes)
    };
    let mut write = || {
        put(MAGIC)?;
        put(&VERSION.to_le_bytes())?;
        put(&scheme.id)?;
        put(&(keys.len() as u64).to_le_bytes())?;
        for chunk in keys.chunks(4096) {
            let bytes: Vec<u8> = chunk.iter().flat_map(|key| key.to_be_bytes()).collect();
            put(&bytes)?;
        }
        Ok(())
    };
    let failed = |e: std::io::Error| {
        Error::new(
            Kind::StoreUnavailable,
            "zone.keys",
            "writing a key sidecar failed",
        )
        .source(e)
    };
    write().map_err(failed)?;
    out.write_all(&sha.finalize()).map_err(failed)?;
    let sum = keys.iter().fold(0, |sum: u128, key| sum.wrapping_add(*key));
    let added = AddedFile {
        file: birth.place.file().to_owned(),
        path: birth.place.path().to_owned(),
        role: Role::Keys,
        bytes: out.bytes(),
        rows: keys.len() as u64,
        sha256: out.sha256(),
        ranges,
        partition: partition_map(&birth.partition),
        schema: scheme.schema(),
        row_digest: format!("{sum:032x}"),
        keys: None,
        upload: None,
    };
    Ok(out.written(added))
}

/// Keys of a sidecar in ascending order. Ends with an error unless every byte is as it was written.
pub struct KeyStream {
    file: Located,
    sha: Sha256,
    buffer: Bytes,
    at: u64,
    last: Option<Key>,
    ended: bool,
}

impl KeyStream {
    pub fn open(file: Located, scheme: &KeyScheme) -> Result<KeyStream> {
        if file.size() < HEADER_BYTES + FOOTER_BYTES {
            return Err(corrupt(&file, "it is too short"));
        }
        let header = file.get(0..HEADER_BYTES)?;
        let mut count = [0; 8];
        count.copy_from_slice(&header[28..]);
        let body = file.size() - HEADER_BYTES - FOOTER_BYTES;
        if header[..8] != MAGIC[..] || header[8..12] != VERSION.to_le_bytes() {
            return Err(corrupt(&file, "it does not begin as one of version 1 does"));
        }
        if u64::from_le_bytes(count).checked_mul(KEY_BYTES) != Some(body) {
            return Err(corrupt(&file, "its length is not that of its keys"));
        }
        if header[12..28] != scheme.id {
            return Err(Error::new(
                Kind::ConfigInvalid,
                "zone.keys",
                format!(
                    "the zone was deduplicated by other columns than `{}`",
                    scheme.columns.join(",")
                ),
            )
            .with("file", file.path())
            .hint("set sink.dedup.key back, or write to a new zone"));
        }
        let mut sha = Sha256::new();
        sha.update(&header);
        Ok(KeyStream {
            file,
            sha,
            buffer: Bytes::new(),
            at: HEADER_BYTES,
            last: None,
            ended: false,
        })
    }

    fn advance(&mut self) -> Result<Option<Key>> {
        let end = self.file.size() - FOOTER_BYTES;
        if self.buffer.is_empty() {
            if self.at == end {
                let footer = self.file.get(end..self.file.size())?;
                if footer[..] != self.sha.clone().finalize()[..] {
                    return Err(corrupt(&self.file, "its digest is not that of its bytes"));
                }
                return Ok(None);
            }
            let to = end.min(self.at + READ_BYTES);
            self.buffer = self.file.get(self.at..to)?;
            if self.buffer.len() as u64 != to - self.at {
                return Err(corrupt(&self.file, "it ended early"));
            }
            self.sha.update(&self.buffer);
            self.at = to;
        }
        let key = load(&self.buffer.split_to(KEY_BYTES as usize));
        if self.last.is_some_and(|last| last >= key) {
            return Err(corrupt(&self.file, "its keys do not ascend"));
        }
        self.last = Some(key);
        Ok(Some(key))
    }
}

impl Iterator for KeyStream {
    type Item = Result<Key>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.advance().transpose();
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }
}

fn corrupt(file: &Located, why: &str) -> Error {
    Error::new(
        Kind::LogCorrupt,
        "zone.keys",
        format!("a key sidecar is damaged: {why}"),
    )
    .with("file", file.path())
    .hint("restore the file from a copy: without it duplicates cannot be told")
}
