//! How the columns of a file are encoded: codec, dictionary, bloom filter, and the order that its footer claims.
//!
//! Each file has a column index and an offset index (minimum, maximum, nulls and place of each page), and statistics of each
//! row group. A bloom filter has room for the values that its config says, and is folded to what was needed when its row
//! group is closed.

use arrow_schema::{DataType, Schema};
use parquet::basic::{Compression as Codec, GzipLevel, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{BloomFilterProperties, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::ParquetOptions;
use super::file::{Birth, Plain};
use crate::commit::Role;
use crate::config::{Bloom, ColumnFormat, Compression, SortBy};

/// Above this size a dictionary rarely pays, and every open file holds one per column.
const DICTIONARY_PAGE_BYTES: usize = 256 << 10;
/// Size of a column's data page, uncompressed. Closing a file compresses the unfinished page of every column, and a
/// task that changes to new rules waits meanwhile: with the usual 1 MiB that took 12 to 24 ms for the columns of the
/// sample, with this size 8 to 11 ms.
const DATA_PAGE_BYTES: usize = 128 << 10;

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
    for column in plain {
        let path = ColumnPath::new(column.split(SEPARATOR).map(str::to_owned).collect());
        builder = builder.set_column_dictionary_enabled(path, false);
    }
    if birth.role == Role::Rows && !options.columns.is_empty() {
        for leaf in leaves(schema) {
            if let Some(format) = format_of(options, &leaf) {
                builder = column(builder, ColumnPath::new(leaf), format);
            }
        }
    }
    builder
        .set_key_value_metadata(Some(vec![
            KeyValue::new("weir.pipeline".to_owned(), birth.pipeline.clone()),
            KeyValue::new("weir.file".to_owned(), birth.place.file().to_owned()),
        ]))
        .build()
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
        let mut leaves = leaves.iter();
        leaves.any(|leaf| leaf.join(".") == name || leaf.first().is_some_and(|of| of == name))
    };
    let names = names.into_iter().map(String::as_str);
    names.filter(|name| !is_there(name)).collect()
}

/// Paths of the leaf columns, in the order of the file, as Parquet names them.
fn leaves(schema: &Schema) -> Vec<Vec<String>> {
    fn walk(name: &str, data_type: &DataType, above: &[String], out: &mut Vec<Vec<String>>) {
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
            _ => out.push(path),
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
            .position(|leaf| leaf.first() == Some(&by.column))?;
        (leaves[at].len() == 1).then_some(SortingColumn {
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
        assert_eq!(leaves(&schema()), theirs.collect::<Vec<_>>());
        let names = ["id", "address", "address.city", "town", "address.zip"].map(str::to_owned);
        assert_eq!(unknown(&schema(), &names), ["town", "address.zip"]);
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
