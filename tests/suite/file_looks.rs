//! What files look like to other programs: DuckDB and pyarrow read each codec, bloom filters, indexes and the order that
//! a config asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::brokers::{duckdb_query, files};
use crate::clients::python;
use crate::lake::Lake;

const COLUMNS: &str = "columns = [\"id\", \"day\"]";
const ROWS: usize = 400;

/// One file of these settings.
fn file(lake: &Lake, zone: &str, set: &[&str]) -> PathBuf {
    let said = lake.raw_into(zone, set);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let mut files = files(&lake.path(zone).join("orders"), ".parquet");
    assert_eq!(files.len(), 1);
    files.remove(0)
}

fn filled() -> Lake {
    let lake = Lake::new(COLUMNS);
    let lines: Vec<String> = (0..ROWS)
        .map(|n| {
            format!(
                r#"{{"id": "k{n:04}", "day": "2024-01-{:02}"}}"#,
                n * 7 % 28 + 1
            )
        })
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    lake.send(&lines);
    lake
}

/// What pyarrow sees in a footer.
fn footer(python: &std::path::Path, file: &std::path::Path) -> Value {
    const SCRIPT: &str = "
import json, sys, pyarrow.parquet as pq
f = pq.ParquetFile(sys.argv[1])
g = f.metadata.row_group(0)
t = f.read()
cols = {g.column(i).path_in_schema: g.column(i) for i in range(g.num_columns)}
print(json.dumps({
  'rows': t.num_rows,
  'codecs': {n: c.compression for n, c in cols.items()},
  'encodings': {n: sorted(c.encodings) for n, c in cols.items()},
  'ids': t.column('id').to_pylist(),
  'index': all(c.has_column_index and c.has_offset_index for c in cols.values()),
  'sorting': [[s.column_index, s.descending, s.nulls_first] for s in g.sorting_columns],
  'names': f.schema.names,
  'days': t.column('day').to_pylist(),
}))";
    let mut command = Command::new(python.join("bin/python"));
    let out = command.args(["-c", SCRIPT]).arg(file).output().unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn every_codec_is_read_by_duckdb_and_pyarrow() {
    let lake = filled();
    let python = python("row-digest");
    let codecs = [
        ("none", "UNCOMPRESSED"),
        ("snappy", "SNAPPY"),
        ("lz4", "LZ4"),
        ("gzip", "GZIP"),
        ("gzip-9", "GZIP"),
        ("zstd-3", "ZSTD"),
    ];
    for (n, (codec, name)) in codecs.into_iter().enumerate() {
        let compression = format!("sink.compression={codec}");
        let set = [compression.as_str(), "sink.columns.id.compression=snappy"];
        let file = file(&lake, &format!("codec{n}"), &set);
        let sql = format!(
            "select count(*) n, count(distinct id) ids, min(id) least from '{}'",
            file.display()
        );
        if let Some(rows) = duckdb_query(&sql) {
            let row = &rows.unwrap()[0];
            assert_eq!(row["n"].to_string(), ROWS.to_string(), "{codec}");
            assert_eq!(row["ids"].to_string(), ROWS.to_string(), "{codec}");
            assert_eq!(row["least"], "k0000", "{codec}");
        }
        if let Some(python) = &python {
            let footer = footer(python, &file);
            assert_eq!(footer["rows"], ROWS, "{codec}");
            assert_eq!(footer["codecs"]["day"], name, "{footer}");
            assert_eq!(footer["codecs"]["id"], "SNAPPY", "{footer}");
            assert_eq!(
                footer["index"], true,
                "each page has its minimum and maximum"
            );
        }
    }
}

/// Ids differ, days repeat.
#[test]
fn what_no_dictionary_holds_is_packed_and_read_by_others() {
    let lake = filled();
    let python = python("row-digest");
    for (n, (encodings, ids, offsets)) in [
        ("packed", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BINARY_PACKED"),
        ("plain", "RLE_DICTIONARY", "RLE_DICTIONARY"),
    ]
    .into_iter()
    .enumerate()
    {
        let set = format!("sink.encodings={encodings}");
        let file = file(&lake, &format!("encoded{n}"), &[&set]);
        let sql = format!(
            "select count(*) n, count(distinct id) ids, max(id) most, sum(_offset) sum from '{}'",
            file.display()
        );
        if let Some(rows) = duckdb_query(&sql) {
            let row = &rows.unwrap()[0];
            assert_eq!(row["n"].to_string(), ROWS.to_string(), "{encodings}");
            assert_eq!(row["ids"].to_string(), ROWS.to_string(), "{encodings}");
            assert_eq!(row["most"], format!("k{:04}", ROWS - 1), "{encodings}");
            let sum = ROWS * (ROWS - 1) / 2;
            let found = row["sum"].to_string();
            assert_eq!(found.trim_matches('"'), sum.to_string(), "{encodings}");
        }
        if let Some(python) = &python {
            let footer = footer(python, &file);
            let of = |column: &str| footer["encodings"][column].to_string();
            assert!(of("id").contains(ids), "{encodings}: {footer}");
            assert!(of("_offset").contains(offsets), "{encodings}: {footer}");
            assert!(
                of("day").contains("RLE_DICTIONARY"),
                "{encodings}: {footer}"
            );
            let expected: Vec<String> = (0..ROWS).map(|n| format!("k{n:04}")).collect();
            assert_eq!(footer["ids"], serde_json::json!(expected), "{encodings}");
        }
    }
}

#[test]
fn duckdb_asks_the_bloom_filter() {
    let lake = filled();
    let set = ["sink.columns.id.bloom=true", "sink.columns.id.fpp=0.001"];
    let file = file(&lake, "bloom", &set);
    let probe = |value: &str| {
        let sql = format!(
            "select bloom_filter_excludes x from parquet_bloom_probe('{}', 'id', '{value}')",
            file.display()
        );
        duckdb_query(&sql).map(|rows| rows.unwrap()[0]["x"].to_string().contains("true"))
    };
    let Some(there) = probe("k0123") else {
        return;
    };
    assert!(!there, "a value that is there is never excluded");
    assert_eq!(probe("nobody"), Some(true));
    let sql = format!(
        "select count(*) n from parquet_metadata('{}') where bloom_filter_offset is not null",
        file.display()
    );
    assert_eq!(
        duckdb_query(&sql).unwrap().unwrap()[0]["n"].to_string(),
        "1"
    );
}

#[test]
fn rows_are_in_the_order_that_the_footer_says() {
    let lake = filled();
    let file = file(&lake, "sorted", &["sink.sort=day desc,id"]);
    let Some(python) = python("row-digest") else {
        return;
    };
    let footer = footer(&python, &file);
    let names: Vec<&str> = footer["names"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_str().unwrap())
        .collect();
    let at = |name: &str| names.iter().position(|n| *n == name).unwrap();
    let expected = serde_json::json!([[at("day"), true, false], [at("id"), false, true]]);
    assert_eq!(footer["sorting"], expected);
    let days: Vec<&str> = footer["days"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d.as_str().unwrap())
        .collect();
    assert!(days.windows(2).all(|pair| pair[0] >= pair[1]));
}

/// Spark finds the bucket behind the last `_` of a name, and rows of one key in one bucket.
#[test]
fn rows_of_one_key_lie_in_files_of_one_bucket() {
    let lake = Lake::new(COLUMNS);
    let set = ["sink.bucket.columns=id", "sink.bucket.count=4"];
    let mut of: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for round in 0..2 {
        let lines: Vec<String> = (0..40)
            .map(|n| format!(r#"{{"id": "k{n:02}", "day": "202{round}"}}"#))
            .collect();
        lake.send(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(lake.raw_into("buckets", &set).code, Some(0));
    }
    let all = files(&lake.path("buckets/orders"), ".parquet");
    assert_eq!(all.len(), 8, "{all:?}");
    for path in &all {
        let name = path.file_name().unwrap().to_str().unwrap();
        let (before, bucket) = name.rsplit_once('_').unwrap();
        let bucket = bucket.split('.').next().unwrap();
        assert!(
            bucket.len() == 5 && bucket.parse::<u32>().unwrap() < 4,
            "{name}"
        );
        assert!(before.split('.').next().unwrap().len() == 26, "{name}");
        let sql = format!("select distinct id from '{}'", path.display());
        let Some(rows) = duckdb_query(&sql) else {
            return;
        };
        for row in rows.unwrap() {
            let id = row["id"].as_str().unwrap().to_owned();
            of.entry(id).or_default().insert(bucket.to_owned());
        }
    }
    assert_eq!(of.len(), 40);
    assert!(of.values().all(|buckets| buckets.len() == 1), "{of:?}");
    // PROCESSED likewise, in each partition: the same rows in buckets of the same numbers.
    lake.processed("", "bucket.columns = [\"id\"]\nbucket.count = 4");
    lake.runs("raw.toml");
    lake.runs("processed.toml");
    let processed = files(&lake.path("processed/rows"), ".parquet");
    assert_eq!(processed.len(), 8, "{processed:?}");
    for path in &processed {
        let (_, bucket) = path.to_str().unwrap().rsplit_once('_').unwrap();
        let bucket = bucket.split('.').next().unwrap();
        let sql = format!("select id from '{}'", path.display());
        let rows = duckdb_query(&sql).unwrap().unwrap();
        assert!(!rows.is_empty());
        for row in rows {
            assert!(of[row["id"].as_str().unwrap()].contains(bucket), "{path:?}");
        }
    }
    // A file that a rewind cuts, and a merged one, stay in their bucket: their names keep their tails.
    let said = lake.weir(&[
        "zone",
        "verify",
        &format!("file:{}", lake.path("buckets").display()),
    ]);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    let alone = lake.raw_into("buckets", &["sink.bucket.count=4"]);
    alone.refused(&["`sink.bucket.count` without `sink.bucket.columns`"]);
    let many = ["sink.bucket.columns=id", "sink.bucket.count=1024"];
    lake.raw_into("buckets", &many)
        .refused(&["memory.budget", "1024 buckets"]);
    let nobody = lake.raw_into(
        "other",
        &["sink.bucket.columns=isbn", "sink.bucket.count=4"],
    );
    assert!(
        nobody.err.contains("sink.bucket.columns: `isbn`"),
        "{}",
        nobody.err
    );
}

#[test]
fn settings_of_columns_that_cannot_be_are_told_together() {
    let lake = Lake::new(COLUMNS);
    let set = [
        "sink.columns.id.compression=brotli",
        "sink.columns.id.fpp=2",
        "sink.columns.day.ndv=10",
        "sink.columns.day.blom=true",
        "sink.sort=id desc,id",
    ];
    lake.raw_into("bad", &set).refused(&[
        "`sink.columns.id.compression`: expected `none`, `snappy`, `lz4`",
        "`sink.columns.id.fpp`: expected a share",
        "there is no key `sink.columns.day.blom`",
        "did you mean `bloom`?",
        "`sink.sort`: expected each column once",
    ]);
    let said = lake.raw_into("bad", &["sink.columns.day.ndv=10"]);
    said.refused(&["is of a bloom filter, and the column has none"]);
    let large = [
        "sink.columns.id.bloom=true",
        "sink.columns.id.ndv=100000000",
    ];
    lake.raw_into("bad", &large)
        .refused(&["memory.budget", "bloom filters"]);
}

/// A column that the rows do not have is said once, and files are written all the same; one to sort by is an error.
#[test]
fn a_column_that_is_not_there_is_named() {
    let lake = filled();
    let said = lake.raw_into("missing", &["sink.columns.isbn.bloom=true"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("isbn"), "{}", said.err);
    let said = lake.raw_into("unsorted", &["sink.sort=isbn"]);
    assert_ne!(said.code, Some(0));
    assert!(said.err.contains("sink.sort names `isbn`"), "{}", said.err);
}
