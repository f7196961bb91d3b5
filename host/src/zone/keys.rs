//! Dedup keys: when two are equal, and the sidecar file that stores them. Both are formats.
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
//! **Sidecar**, one per rows file: Parquet with one column, `key` (16 bytes, strictly ascending), and the names of the key
//! columns as a JSON list under [`COLUMNS`] in the file's metadata. Sidecars are streamed, never loaded.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal128Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, FixedSizeBinaryArray, RecordBatch};
use arrow_buffer::Buffer;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use sha2::{Digest, Sha256};

use crate::chain::Column;
use crate::commit::{AddedFile, FileRange, Role};
use crate::error::{Error, Kind, Result};
use crate::store::Store;

use super::file::{Birth, Plain, RowsFile, Written};
use super::read::{FileRows, Located};
use super::{Compression, Encodings, ParquetOptions};

/// 16 bytes, compared as a big-endian number.
pub type Key = u128;

const KEY: &str = "key";
const KEY_BYTES: i32 = 16;
/// Metadata of a sidecar: the columns that form its keys.
const COLUMNS: &str = "weir.dedup_key";
/// One row group is in memory while keys are written or read: 65,536 keys.
const GROUP_BYTES: usize = 1 << 20;
/// Keys that are made into an array at a time.
const CHUNK_KEYS: usize = 8192;

/// The columns that form the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyScheme {
    columns: Vec<String>,
}

impl KeyScheme {
    pub fn new(columns: &[String]) -> KeyScheme {
        KeyScheme {
            columns: columns.to_vec(),
        }
    }

    /// The key of each row; `None` if one of its columns is null.
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
        // Negative scales (5e3) are written out; a value that does not fit keeps its scale.
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

fn schema() -> SchemaRef {
    let key = Field::new(KEY, DataType::FixedSizeBinary(KEY_BYTES), false);
    Arc::new(Schema::new(vec![key]))
}

/// Writes the sidecar of one rows file. `keys` ascend strictly; `ranges` are those of the rows file.
#[cfg(test)]
pub fn write_keys(
    store: &Arc<dyn Store>,
    birth: Birth,
    scheme: &KeyScheme,
    keys: &[Key],
    ranges: Vec<FileRange>,
) -> Result<Written> {
    debug_assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
    write_key_stream(store, birth, scheme, keys.iter().copied().map(Ok), ranges)
}

/// Writes the sidecar of one rows file. `keys` ascend strictly; `ranges` are those of the rows file.
pub fn write_key_stream(
    store: &Arc<dyn Store>,
    birth: Birth,
    scheme: &KeyScheme,
    mut keys: impl Iterator<Item = Result<Key>>,
    ranges: Vec<FileRange>,
) -> Result<Written> {
    // Keys are as good as random, and each occurs once: no encoding makes them smaller.
    let options = ParquetOptions {
        compression: Compression::None,
        encodings: Encodings::Plain,
        row_group_bytes: GROUP_BYTES,
        ..ParquetOptions::default()
    };
    let plain = Plain::from([KEY.to_owned()]);
    let mut file = RowsFile::create(store, birth, &schema(), &options, plain)?;
    let columns = serde_json::to_string(&scheme.columns).unwrap_or_default();
    file.note(COLUMNS, columns);
    loop {
        let chunk = keys
            .by_ref()
            .take(CHUNK_KEYS)
            .collect::<Result<Vec<Key>>>()?;
        if chunk.is_empty() {
            break;
        }
        let bytes: Vec<u8> = chunk.iter().flat_map(|key| key.to_be_bytes()).collect();
        let array = FixedSizeBinaryArray::try_new(KEY_BYTES, Buffer::from_vec(bytes), None);
        let values: ArrayRef = Arc::new(array.map_err(|e| {
            Error::new(Kind::Bug, "zone.keys", "keys do not fit their column").source(e)
        })?);
        let column = Column {
            values,
            constant: false,
        };
        file.write(&[column], chunk.len())?;
    }
    let (mut written, _) = file.close()?;
    written.added_mut().ranges = ranges;
    Ok(written)
}

/// The columns that form the keys of a sidecar, as it says itself.
pub fn scheme_of(file: Located) -> Result<KeyScheme> {
    let path = file.path().to_owned();
    let rows = FileRows::open(file, |_| false)?;
    match rows.note(COLUMNS).map(serde_json::from_str::<Vec<String>>) {
        Some(Ok(columns)) => Ok(KeyScheme { columns }),
        _ => Err(corrupt(
            &path,
            "it does not say of which columns its keys are",
        )),
    }
}

/// Keys of a sidecar in ascending order. Its bytes are read twice: none is decoded before all of them match the digest
/// in their entry, because a decoder need not survive damaged data.
pub struct KeyStream {
    path: String,
    rows: FileRows,
    batch: FixedSizeBinaryArray,
    at: usize,
    last: Option<Key>,
    /// Number of keys not read yet, according to the entry.
    left: u64,
    ended: bool,
}

impl KeyStream {
    /// `said` is the sidecar as its entry names it, `file` is where it was found.
    pub fn open(file: Located, said: &AddedFile, scheme: &KeyScheme) -> Result<KeyStream> {
        debug_assert_eq!(said.role, Role::Keys);
        let path = file.path().to_owned();
        if file.sha256()? != said.digest {
            return Err(corrupt(&path, "its bytes are not those that the log says"));
        }
        let rows = FileRows::open(file, |_| true)?;
        if *rows.schema().fields() != *schema().fields() {
            return Err(corrupt(&path, "it has other columns than one of keys"));
        }
        let columns = rows.note(COLUMNS).map(serde_json::from_str::<Vec<String>>);
        match columns {
            Some(Ok(columns)) if columns == scheme.columns => {}
            Some(Ok(columns)) => {
                return Err(Error::new(
                    Kind::ConfigInvalid,
                    "zone.keys",
                    format!(
                        "the zone was deduplicated by other columns, `{}`, than the config says, `{}`",
                        columns.join(","),
                        scheme.columns.join(",")
                    ),
                )
                .with("file", path)
                .hint("set sink.dedup.key back, or write to a new zone"));
            }
            _ => {
                return Err(corrupt(
                    &path,
                    "it does not say of which columns its keys are",
                ));
            }
        }
        Ok(KeyStream {
            path,
            batch: FixedSizeBinaryArray::new_null(KEY_BYTES, 0),
            at: 0,
            last: None,
            rows,
            left: said.rows,
            ended: false,
        })
    }

    fn advance(&mut self) -> Result<Option<Key>> {
        while self.at == self.batch.len() {
            let Some(batch) = self.rows.next().transpose()? else {
                return match self.left {
                    0 => Ok(None),
                    _ => Err(corrupt(&self.path, "it has fewer keys than the log says")),
                };
            };
            let more = self.left.checked_sub(batch.num_rows() as u64);
            self.left =
                more.ok_or_else(|| corrupt(&self.path, "it has more keys than the log says"))?;
            let column = batch.column(0).as_fixed_size_binary_opt();
            let column = column.ok_or_else(|| corrupt(&self.path, "its keys are not binary"))?;
            (self.batch, self.at) = (column.clone(), 0);
        }
        let key = load(self.batch.value(self.at));
        self.at += 1;
        if self.last.is_some_and(|last| last >= key) {
            return Err(corrupt(&self.path, "its keys do not ascend"));
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

fn corrupt(path: &str, why: &str) -> Error {
    Error::new(
        Kind::LogCorrupt,
        "zone.keys",
        format!("a key sidecar is damaged: {why}"),
    )
    .with("file", path)
    .hint("restore the file from a copy: without it duplicates cannot be told")
}
