//! What files look like: codecs, filters, indexes and order, by the reader of the parquet crate.

use std::collections::BTreeMap;

use arrow_array::types::Int64Type;
use bytes::Bytes;
use parquet::basic::Compression as Codec;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::{ReadOptionsBuilder, SerializedFileReader};

use super::raw::{options, world};
use super::*;
use crate::commit::Role;
use crate::config::{Bloom, ColumnFormat, Compression, SortBy};
use crate::error::Kind;
use crate::sink::Sink;
use crate::zone::*;

/// Two batches of partition 0, sealed: rows first, then dead letters.
fn written(options: ZoneOptions) -> (Arc<dyn Store>, Vec<AddedFile>) {
    let mut w = world(options);
    for from in [0, 400] {
        let batch = records("books", 0, from, from + 400);
        w.sink.write(&batch, apply(&batch)).expect("written");
    }
    let files = w.seal().files;
    let files = publish(&w.store, &log(), files);
    (w.store, files)
}

fn bytes_of(store: &Arc<dyn Store>, file: &AddedFile) -> Bytes {
    store.get(&file.path).expect("get").expect("there")
}

fn metadata(store: &Arc<dyn Store>, file: &AddedFile) -> ParquetMetaData {
    ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Required)
        .parse_and_finish(&bytes_of(store, file))
        .expect("parquet with page indexes")
}

fn by_column(metadata: &ParquetMetaData) -> BTreeMap<String, Codec> {
    let columns = metadata.row_group(0).columns().iter();
    columns
        .map(|c| (c.column_path().string(), c.compression()))
        .collect()
}

fn by(column: &str, descending: bool) -> SortBy {
    SortBy {
        column: column.to_owned(),
        descending,
    }
}

#[test]
fn each_codec_is_written_and_one_column_may_have_another() {
    let all = [
        (Compression::None, "UNCOMPRESSED"),
        (Compression::Snappy, "SNAPPY"),
        (Compression::Lz4, "LZ4_RAW"),
        (Compression::Gzip(6), "GZIP"),
        (Compression::Zstd(3), "ZSTD"),
    ];
    let mut digests = Vec::new();
    for (compression, name) in all {
        let gzip = ColumnFormat {
            compression: Some(Compression::Gzip(1)),
            bloom: None,
        };
        let parquet = ParquetOptions {
            compression,
            columns: Arc::new(BTreeMap::from([("id".to_owned(), gzip)])),
            ..ParquetOptions::default()
        };
        let (store, files) = written(ZoneOptions {
            parquet,
            ..options()
        });
        let columns = by_column(&metadata(&store, &files[0]));
        let shown = |column: &str| format!("{:?}", columns[column]);
        assert!(shown("_offset").starts_with(name), "{}", shown("_offset"));
        assert!(shown("id").starts_with("GZIP"), "{}", shown("id"));
        let wrong = verify_file(&store, &log(), &files[0]).expect("read");
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
        digests.push(files[0].row_digest.clone());
        assert_eq!(files[1].role, Role::DeadLetters);
        let letters = by_column(&metadata(&store, &files[1]));
        assert!(letters.values().all(|c| format!("{c:?}").starts_with(name)));
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "the codec does not change the rows");
}

#[test]
fn a_bloom_filter_knows_what_is_there_and_is_folded() {
    let bloom = Bloom {
        false_positives: 10_000,
        values: 100_000,
    };
    let format = ColumnFormat {
        compression: None,
        bloom: Some(bloom),
    };
    let parquet = ParquetOptions {
        columns: Arc::new(BTreeMap::from([("id".to_owned(), format)])),
        ..ParquetOptions::default()
    };
    let mut w = world(ZoneOptions {
        parquet,
        ..options()
    });
    let batch = records("books", 0, 0, 400);
    w.sink.write(&batch, apply(&batch)).expect("written");
    assert!(
        w.sink.memory() as u64 > bloom_bytes(bloom),
        "its memory counts"
    );
    let files = w.seal().files;
    let files = publish(&w.store, &log(), files);
    let properties = ReaderProperties::builder()
        .set_read_bloom_filter(true)
        .build();
    let read = ReadOptionsBuilder::new()
        .with_reader_properties(properties)
        .build();
    let bytes = bytes_of(&w.store, &files[0]);
    let reader = SerializedFileReader::new_with_options(bytes, read).expect("parquet");
    let group = reader.get_row_group(0).expect("a row group");
    let filter = group.get_column_bloom_filter(0).expect("id has a filter");
    assert!(
        (0..400)
            .filter(|o| o % 7 != 0)
            .all(|o| filter.check(&format!("bk{o}").as_str()))
    );
    let wrong = (1000..11_000).filter(|o| filter.check(&format!("bk{o}").as_str()));
    assert!(wrong.count() < 300, "about one in a hundred");
    assert!(group.get_column_bloom_filter(1).is_none());
    let length = group.metadata().column(0).bloom_filter_length();
    assert!(length.is_some_and(|n| n < 8 << 10), "folded: {length:?}");
}

#[test]
fn each_page_has_its_minimum_and_maximum() {
    let (store, files) = written(options());
    for file in &files {
        let found = metadata(&store, file);
        for column in found.row_group(0).columns() {
            let both = (column.column_index_offset(), column.offset_index_offset());
            assert!(both.0.is_some() && both.1.is_some(), "{column:?}");
        }
    }
}

#[test]
fn row_groups_are_sorted_and_say_so() {
    let parquet = ParquetOptions {
        row_group_bytes: 3_000,
        ..ParquetOptions::default()
    };
    let (store, files) = written(ZoneOptions {
        parquet,
        sort: vec![by("year", true), by("_offset", false)],
        ..options()
    });
    let (_, unsorted) = written(options());
    assert_eq!(files[0].row_digest, unsorted[0].row_digest);
    assert_eq!(files[0].ranges, unsorted[0].ranges);
    let found = metadata(&store, &files[0]);
    assert!(found.num_row_groups() > 2, "{}", found.num_row_groups());
    let names: Vec<String> = by_names(&found);
    for group in found.row_groups() {
        let claimed = group.sorting_columns().expect("an order");
        let claimed: Vec<(&str, bool, bool)> = claimed
            .iter()
            .map(|c| {
                (
                    names[c.column_idx as usize].as_str(),
                    c.descending,
                    c.nulls_first,
                )
            })
            .collect();
        assert_eq!(claimed, [("year", true, false), ("_offset", false, true)]);
    }
    let mut at = 0;
    let rows = plain_rows(&store, &files[0]);
    for group in found.row_groups() {
        let rows = &rows[at..at + group.num_rows() as usize];
        at += rows.len();
        let key = |(year, offset): &(i32, i64)| (-i64::from(*year), *offset);
        assert!(rows.is_sorted_by_key(key), "{rows:?}");
        assert!(rows.first().map(|r| r.0) != rows.last().map(|r| r.0));
    }
    assert!(
        metadata(&store, &files[1])
            .row_group(0)
            .sorting_columns()
            .is_none()
    );
}

fn by_names(metadata: &ParquetMetaData) -> Vec<String> {
    let columns = metadata.row_group(0).columns().iter();
    columns.map(|c| c.column_path().string()).collect()
}

/// Year and offset of each row, in the order of the file.
fn plain_rows(store: &Arc<dyn Store>, file: &AddedFile) -> Vec<(i32, i64)> {
    let mut out = Vec::new();
    for batch in read_file(store, &log(), file).expect("opened") {
        let batch = batch.expect("read");
        let column = |name| batch.column_by_name(name).expect("a column");
        let years = column("year").as_primitive::<arrow_array::types::Int32Type>();
        let offsets = column("_offset").as_primitive::<Int64Type>();
        out.extend(
            years
                .values()
                .iter()
                .copied()
                .zip(offsets.values().iter().copied()),
        );
    }
    out
}

#[test]
fn rows_that_wait_to_be_sorted_count_as_memory_and_as_bytes() {
    let mut w = world(ZoneOptions {
        sort: vec![by("year", false)],
        ..options()
    });
    let batch = records("books", 0, 0, 4_000);
    w.sink.write(&batch, apply(&batch)).expect("written");
    let memory = w.sink.memory();
    assert!(memory > 100_000, "{memory}");
    w.sink.discard();
    assert_eq!(w.sink.memory(), 0);
}

#[test]
fn a_column_to_sort_by_that_is_not_there_stops_before_a_row_is_written() {
    let mut w = world(ZoneOptions {
        sort: vec![by("price", false)],
        ..options()
    });
    let batch = records("books", 0, 0, 10);
    let error = w.sink.write(&batch, apply(&batch)).expect_err("refused");
    assert_eq!(error.kind(), Kind::ConfigInvalid);
    assert!(error.to_string().contains("`price`"), "{error}");
}
