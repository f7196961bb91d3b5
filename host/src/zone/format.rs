//! How the columns of a file are encoded: codec, dictionary, bloom filter, and the order that its footer claims.
//!
//! Each file has a column index and an offset index (minimum, maximum, nulls and place of each page), and statistics of each
//! row group. A bloom filter has room for the values that its config says, and is folded to what was needed when its row
//! group is closed.

use std::collections::HashSet;

use arrow_array::cast::AsArray;
use arrow_array::{Array as _, ArrayRef};
use arrow_schema::{DataType, Schema};
use parquet::basic::{Compression as Codec, Encoding, GzipLevel, PageType, Type, ZstdLevel};
use parquet::file::metadata::{ColumnChunkMetaData, KeyValue, RowGroupMetaData, SortingColumn};
use parquet::file::properties::{BloomFilterProperties, WriterProperties, WriterPropertiesBuilder};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnPath;

use super::ParquetOptions;
use super::file::{Birth, Plain};
use crate::commit::Role;
use crate::config::{Bloom, ColumnFormat, Compression, Encodings, SortBy};
use crate::record::{OFFSET, PARTITION, ROW, TIMESTAMP};

/// Above this size a dictionary rarely pays, and every open file holds one per column.
const DICTIONARY_PAGE_BYTES: usize = 256 << 10;
/// Size of a column's data page, uncompressed. Closing a file compresses the unfinished page of every column, and a
/// task that changes to new rules waits meanwhile: with the usual 1 MiB that took 12 to 24 ms for the columns of the
/// sample, with this size 8 to 11 ms.
const DATA_PAGE_BYTES: usize = 128 << 10;

/// Fewer different numbers than this stay in a dictionary, whatever packing would cost: readers skip by it.
const FEW_VALUES: u64 = 256;
/// A packed number may take so many bits more than its place in a dictionary: that one needs the dictionary besides, and a
/// look-up for each value that is written.
const MORE_BITS: u32 = 3;

/// Separates the parts of a leaf's path; cannot occur in a column's name that came from XML or JSON.
pub const SEPARATOR: char = '\u{1f}';

/// Smallest and largest bitset of a bloom filter, in bytes, by the format.
const BLOOM_BYTES: (u64, u64) = (32, 128 << 20);

/// What is fixed for one file. `order`: the order in which its rows come; empty where there is none.
pub fn properties(
    options: &ParquetOptions,
    schema: &Schema,
    plain: &Plain,
    birth: &Birth,
    order: &[SortBy],
) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("weir ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(codec(options.compression))
        .set_dictionary_page_size_limit(DICTIONARY_PAGE_BYTES)
        .set_data_page_size_limit(DATA_PAGE_BYTES)
        .set_max_row_group_row_count(None)
        .set_sorting_columns(sorting(schema, order));
    let packs = options.encodings == Encodings::Packed;
    let separator = SEPARATOR.to_string();
    for (leaf, data_type) in leaves(schema) {
        let coordinate = packs && leaf.len() == 1 && COORDINATES.contains(&&*leaf[0]);
        if coordinate || plain.contains(&leaf.join(&separator)) {
            let path = ColumnPath::new(leaf.clone());
            builder = builder.set_column_dictionary_enabled(path.clone(), false);
            if let Some(encoding) = packed(&data_type).filter(|_| packs) {
                builder = builder.set_column_encoding(path, encoding);
            }
        }
        let format = format_of(options, &leaf).filter(|_| birth.role == Role::Rows);
        if let Some(format) = format {
            builder = column(builder, ColumnPath::new(leaf), format);
        }
    }
    builder
        .set_key_value_metadata(Some(vec![
            KeyValue::new("weir.pipeline".to_owned(), birth.pipeline.clone()),
            KeyValue::new("weir.file".to_owned(), birth.place.file().to_owned()),
        ]))
        .build()
}

/// Numbers that are new in each row, or the same in all: no dictionary is tried.
const COORDINATES: [&str; 4] = [PARTITION, OFFSET, ROW, TIMESTAMP];

/// The encoding of values without a dictionary; `None` for Parquet's plain one.
fn packed(data_type: &DataType) -> Option<Encoding> {
    /// Most digits of a decimal that Parquet keeps in a number of 64 bits.
    const DIGITS: u8 = 18;
    match data_type {
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => {
            Some(Encoding::DELTA_BINARY_PACKED)
        }
        number if number.is_integer() => Some(Encoding::DELTA_BINARY_PACKED),
        DataType::Decimal128(precision, _) if *precision <= DIGITS => {
            Some(Encoding::DELTA_BINARY_PACKED)
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => {
            Some(Encoding::DELTA_LENGTH_BYTE_ARRAY)
        }
        _ => None,
    }
}

/// Whether a dictionary cannot pay by what the first rows of a row group show: more than half of them differ.
pub fn repeats_little(values: &ArrayRef) -> bool {
    /// Rows that are looked at.
    const FIRST: usize = 2_048;
    /// Of fewer values nothing is concluded.
    const LEAST: usize = 256;
    let rows = values.len().min(FIRST);
    let values = values.slice(0, rows);
    if rows - values.null_count() < LEAST || packed(values.data_type()).is_none() {
        return false;
    }
    let different = match values.data_type() {
        DataType::Utf8 => distinct(values.as_string::<i32>().iter().flatten()),
        DataType::LargeUtf8 => distinct(values.as_string::<i64>().iter().flatten()),
        DataType::Binary => distinct(values.as_binary::<i32>().iter().flatten()),
        DataType::LargeBinary => distinct(values.as_binary::<i64>().iter().flatten()),
        _ => {
            let data = values.to_data();
            let width = data.data_type().primitive_width().unwrap_or(1);
            let bytes = data.buffers().first().map_or(&[][..], |b| b.as_slice());
            let from = (data.offset() * width).min(bytes.len());
            let to = (from + rows * width).min(bytes.len());
            distinct(bytes[from..to].chunks(width))
        }
    };
    different * 2 > rows - values.null_count()
}

fn distinct<T: Eq + std::hash::Hash>(values: impl Iterator<Item = T>) -> usize {
    values.collect::<HashSet<T>>().len()
}

/// The columns of a closed row group that go on without a dictionary: those that it did not hold, and numbers that packing
/// makes as short.
pub fn left_dictionary(group: &RowGroupMetaData, encodings: Encodings) -> Vec<String> {
    let leaves = |c: &&ColumnChunkMetaData| {
        outgrew(c) || encodings == Encodings::Packed && is_short_when_packed(c)
    };
    let name = |c: &ColumnChunkMetaData| c.column_path().parts().join(&SEPARATOR.to_string());
    let columns = group.columns().iter();
    columns
        .filter(|c| c.dictionary_page_offset().is_some())
        .filter(leaves)
        .map(name)
        .collect()
}

/// It began with a dictionary and went on without.
fn outgrew(column: &ColumnChunkMetaData) -> bool {
    let is_data = |t| matches!(t, PageType::DATA_PAGE | PageType::DATA_PAGE_V2);
    let is_dictionary = |e| matches!(e, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY);
    let stats = column.page_encoding_stats();
    stats.is_some_and(|stats| {
        let mut stats = stats.iter();
        stats.any(|s| is_data(s.page_type) && !is_dictionary(s.encoding))
    })
}

/// By the least and the greatest value, and by a lower bound for how many different ones there are: the bytes of the
/// compressed dictionary.
fn is_short_when_packed(column: &ColumnChunkMetaData) -> bool {
    let range = match column.statistics() {
        Some(Statistics::Int32(of)) => of
            .min_opt()
            .zip(of.max_opt())
            .map(|(min, max)| max.abs_diff(*min).into()),
        Some(Statistics::Int64(of)) => of
            .min_opt()
            .zip(of.max_opt())
            .map(|(min, max)| max.abs_diff(*min)),
        _ => None,
    };
    let Some((range, begin)) = range.zip(column.dictionary_page_offset()) else {
        return false;
    };
    let width = if column.column_type() == Type::INT32 {
        4
    } else {
        8
    };
    let different = u64::try_from(column.data_page_offset() - begin).unwrap_or(0) / width;
    // A difference has a sign.
    let bits = |values: u64| u64::BITS - values.leading_zeros();
    different >= FEW_VALUES && bits(range) < bits(different) + MORE_BITS
}

fn column(
    mut builder: WriterPropertiesBuilder,
    path: ColumnPath,
    format: &ColumnFormat,
) -> WriterPropertiesBuilder {
    if let Some(compression) = format.compression {
        builder = builder.set_column_compression(path.clone(), codec(compression));
    }
    if let Some(bloom) = format.bloom {
        let filter = BloomFilterProperties::builder()
            .with_fpp(f64::from(bloom.false_positives) / 1e6)
            .with_max_ndv(bloom.values);
        if let Ok(filter) = filter.try_build() {
            builder = builder.set_column_bloom_filter_properties(path, filter);
        }
    }
    builder
}

fn codec(compression: Compression) -> Codec {
    match compression {
        Compression::None => Codec::UNCOMPRESSED,
        Compression::Snappy => Codec::SNAPPY,
        Compression::Lz4 => Codec::LZ4_RAW,
        Compression::Gzip(n) => Codec::GZIP(GzipLevel::try_new(n).unwrap_or_default()),
        Compression::Zstd(n) => Codec::ZSTD(ZstdLevel::try_new(n).unwrap_or_default()),
    }
}

/// The format of a leaf: under its own path (`address.city`), or under the column that it is a part of.
fn format_of<'a>(options: &'a ParquetOptions, leaf: &[String]) -> Option<&'a ColumnFormat> {
    let own = options.columns.get(&leaf.join("."));
    own.or_else(|| options.columns.get(leaf.first()?))
}

/// The names in `names` that are neither a column of the schema nor a part of one.
pub fn unknown<'a>(schema: &Schema, names: impl IntoIterator<Item = &'a String>) -> Vec<&'a str> {
    let leaves = leaves(schema);
    let is_there = |name: &str| {
        let mut leaves = leaves.iter().map(|(leaf, _)| leaf);
        leaves.any(|leaf| leaf.join(".") == name || leaf.first().is_some_and(|of| of == name))
    };
    let names = names.into_iter().map(String::as_str);
    names.filter(|name| !is_there(name)).collect()
}

/// The leaf columns in the order of the file: their paths, as Parquet names them, and types.
fn leaves(schema: &Schema) -> Vec<(Vec<String>, DataType)> {
    type Out = Vec<(Vec<String>, DataType)>;
    fn walk(name: &str, data_type: &DataType, above: &[String], out: &mut Out) {
        let mut path = above.to_vec();
        path.push(name.to_owned());
        match data_type {
            DataType::Struct(fields) => {
                for field in fields {
                    walk(field.name(), field.data_type(), &path, out);
                }
            }
            DataType::List(item) | DataType::LargeList(item) => {
                path.push("list".to_owned());
                walk(item.name(), item.data_type(), &path, out);
            }
            other => out.push((path, other.clone())),
        }
    }
    let mut out = Vec::new();
    for field in schema.fields() {
        walk(field.name(), field.data_type(), &[], &mut out);
    }
    out
}

/// The part of the order that Parquet can express: plain columns, up to the first one that is not.
fn sorting(schema: &Schema, order: &[SortBy]) -> Option<Vec<SortingColumn>> {
    let leaves = leaves(schema);
    let index = |by: &SortBy| {
        let at = leaves
            .iter()
            .position(|(leaf, _)| leaf.first() == Some(&by.column))?;
        (leaves[at].0.len() == 1).then_some(SortingColumn {
            column_idx: i32::try_from(at).ok()?,
            descending: by.descending,
            nulls_first: !by.descending,
        })
    };
    let columns: Vec<SortingColumn> = order.iter().map_while(index).collect();
    (!columns.is_empty()).then_some(columns)
}

/// Memory of a filter while its row group is written.
pub fn bloom_bytes(bloom: Bloom) -> u64 {
    let fpp = f64::from(bloom.false_positives) / 1e6;
    let bits = -8.0 * bloom.values as f64 / (1.0 - fpp.powf(1.0 / 8.0)).ln();
    let (least, most) = BLOOM_BYTES;
    ((bits / 8.0) as u64).clamp(least, most).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_schema::Field;

    fn schema() -> Schema {
        let city = Field::new("city", DataType::Utf8, true);
        let address = DataType::Struct(vec![city].into());
        let tags = DataType::List(Field::new("item", DataType::Utf8, true).into());
        Schema::new(vec![
            Field::new("id", DataType::Utf8, false),
            Field::new("address", address, true),
            Field::new("tags", tags, true),
            Field::new("price", DataType::Float64, true),
        ])
    }

    #[test]
    fn leaves_are_named_as_parquet_names_them() {
        let made = parquet::arrow::ArrowSchemaConverter::new()
            .convert(&schema())
            .expect("a schema");
        let theirs = made.columns().iter().map(|c| c.path().parts().to_vec());
        let ours = leaves(&schema()).into_iter().map(|(leaf, _)| leaf);
        assert_eq!(ours.collect::<Vec<_>>(), theirs.collect::<Vec<_>>());
        let names = ["id", "address", "address.city", "town", "address.zip"].map(str::to_owned);
        assert_eq!(unknown(&schema(), &names), ["town", "address.zip"]);
    }

    #[test]
    fn values_that_repeat_keep_their_dictionary() {
        use arrow_array::{Decimal128Array, Int64Array, StringArray};
        use std::sync::Arc;
        let judged = |values: ArrayRef| repeats_little(&values);
        let texts = |of: fn(usize) -> String, rows: usize| -> ArrayRef {
            Arc::new(StringArray::from_iter_values((0..rows).map(of)))
        };
        assert!(judged(texts(|n| format!("k{n}"), 1_000)));
        assert!(!judged(texts(|n| format!("k{}", n % 100), 1_000)));
        assert!(!judged(texts(|n| format!("k{n}"), 255)), "too few to tell");
        let numbers = Int64Array::from_iter((0..1_000).map(|n| (n % 2 == 0).then_some(n)));
        assert!(judged(Arc::new(numbers.clone())));
        assert!(judged(Arc::new(numbers.slice(300, 600))), "a part of them");
        let few = Int64Array::from_iter((0..1_000).map(|n| (n % 10 == 0).then_some(n)));
        assert!(!judged(Arc::new(few)), "nulls are no values");
        let wide = Decimal128Array::from_iter_values(0..1_000);
        let wide = wide.with_precision_and_scale(30, 2).expect("fits");
        assert!(!judged(Arc::new(wide)), "nothing packs it");
    }

    /// `near`: many small numbers; `far`: few large ones; `few`: few small ones; `every`: more than the dictionary holds.
    #[test]
    fn numbers_leave_a_dictionary_that_is_no_shorter_than_packing() {
        use arrow_array::{Int64Array, RecordBatch};
        use parquet::arrow::ArrowWriter;
        use std::sync::Arc;
        let numbers = |of: fn(i64) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values((0..20_000).map(of)))
        };
        let columns = [
            ("near", numbers(|n| n * 7_919 % 2_000)),
            ("far", numbers(|n| n % 500 * 1_000_000_007)),
            ("few", numbers(|n| n % 50)),
            ("every", numbers(|n| n * 7_919 % 100_003)),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("columns");
        let properties = WriterProperties::builder()
            .set_dictionary_page_size_limit(128 << 10)
            .set_write_batch_size(1_024)
            .build();
        let mut bytes = Vec::new();
        let mut writer =
            ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).expect("a writer");
        writer.write(&batch).expect("written");
        let closed = writer.close().expect("closed");
        let group = closed.row_group(0);
        assert_eq!(left_dictionary(group, Encodings::Packed), ["near", "every"]);
        assert_eq!(left_dictionary(group, Encodings::Plain), ["every"]);
    }

    #[test]
    fn an_order_is_claimed_up_to_the_first_column_that_is_not_plain() {
        let by = |column: &str, descending| SortBy {
            column: column.to_owned(),
            descending,
        };
        let claimed = sorting(
            &schema(),
            &[by("price", true), by("tags", false), by("id", false)],
        );
        let expected = SortingColumn {
            column_idx: 3,
            descending: true,
            nulls_first: false,
        };
        assert_eq!(claimed, Some(vec![expected]));
        assert_eq!(sorting(&schema(), &[by("address", false)]), None);
    }

    #[test]
    fn a_filter_takes_the_memory_that_the_library_takes() {
        for (false_positives, values) in [(10_000, 100_000), (50_000, 1 << 20), (1_000, 10)] {
            let bloom = Bloom {
                false_positives,
                values,
            };
            let fpp = f64::from(false_positives) / 1e6;
            let made =
                parquet::bloom_filter::Sbbf::new_with_ndv_fpp(values, fpp).expect("a filter");
            assert_eq!(bloom_bytes(bloom), made.num_blocks() as u64 * 32);
        }
    }
}
