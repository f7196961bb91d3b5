//! Another program recomputes the log's row digest of a file: docs/row_digest.py, with pyarrow, on a real zone and on
//! every type.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Date64Array, Decimal128Array,
    DictionaryArray, FixedSizeBinaryArray, Float32Array, Float64Array, Int8Array, Int64Array,
    LargeStringArray, ListArray, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow_schema::{DataType, Field};
use parquet::arrow::ArrowWriter;
use weir::zone::RowDigest;

use crate::brokers::files;
use crate::check::root;
use crate::clients::python;
use crate::first_hour;

/// Digest and path, as the script prints them.
fn recomputed(venv: &Path, files: &[PathBuf]) -> BTreeMap<PathBuf, String> {
    let mut script = Command::new(venv.join("bin/python"));
    let out = script
        .arg(root().join("docs/row_digest.py"))
        .args(files)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{said}");
    let text = String::from_utf8(out.stdout).unwrap();
    let line = |line: &str| {
        let (digest, path) = line.split_once(' ').unwrap();
        (PathBuf::from(path), digest.to_owned())
    };
    text.lines().map(line).collect()
}

#[test]
fn a_script_finds_the_digests_that_the_logs_of_a_demo_say() {
    let Some(venv) = python("row-digest") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut demo = first_hour::weir(dir.path());
    let done = demo.args(["demo", "--messages", "2000"]).output().unwrap();
    assert!(done.status.success());
    let mut roles = BTreeMap::new();
    for zone in ["raw_zone", "processed_zone"] {
        let zone = dir.path().join("weir-demo").join(zone);
        let mut said = BTreeMap::new();
        for entry in files(&zone, ".json") {
            let entry: serde_json::Value =
                serde_json::from_slice(&std::fs::read(entry).unwrap()).unwrap();
            for file in entry["add"].as_array().into_iter().flatten() {
                let text = |key: &str| file[key].as_str().unwrap().to_owned();
                *roles.entry(text("role")).or_insert(0) += 1;
                said.insert(zone.join(text("path")), text("row_digest"));
            }
        }
        let paths: Vec<PathBuf> = said.keys().cloned().collect();
        assert_eq!(recomputed(&venv, &paths), said);
    }
    let roles: Vec<&str> = roles.keys().map(String::as_str).collect();
    assert_eq!(roles, ["dead_letters", "keys", "rows"]);
}

/// Every type that a zone stores, with nulls, edges, and what has two forms.
fn every_type() -> RecordBatch {
    let nan = f64::from_bits(0x7ff8_0000_0000_0123);
    let words: DictionaryArray<Int32Type> = [Some("b"), None, Some("a")].into_iter().collect();
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(1), None, Some(-3)]),
        None,
        Some(vec![]),
    ]);
    let field = |name: &str, of: DataType| Arc::new(Field::new(name, of, true));
    let pair = StructArray::from(vec![
        (
            field("t", DataType::Utf8),
            Arc::new(StringArray::from(vec![Some("x"), None, Some("")])) as ArrayRef,
        ),
        (
            field(
                "m",
                DataType::Timestamp(arrow_schema::TimeUnit::Millisecond, None),
            ),
            Arc::new(TimestampMillisecondArray::from(vec![None, Some(-1), None])),
        ),
    ]);
    let decimals = Decimal128Array::from(vec![Some(-12_345), None, Some(10_i128.pow(37))])
        .with_precision_and_scale(38, 4)
        .unwrap();
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "bool",
            Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        ),
        (
            "i8",
            Arc::new(Int8Array::from(vec![Some(-1), None, Some(127)])),
        ),
        (
            "i64",
            Arc::new(Int64Array::from(vec![i64::MIN, -1, i64::MAX])),
        ),
        (
            "u64",
            Arc::new(UInt64Array::from(vec![0, 1 << 63, u64::MAX])),
        ),
        (
            "f32",
            Arc::new(Float32Array::from(vec![Some(0.1), Some(f32::NAN), None])),
        ),
        (
            "f64",
            Arc::new(Float64Array::from(vec![-0.0, nan, f64::INFINITY])),
        ),
        (
            "date32",
            Arc::new(Date32Array::from(vec![Some(-719_162), None, Some(20_000)])),
        ),
        (
            "date64",
            Arc::new(Date64Array::from(vec![0, 86_400_000, -86_400_000])),
        ),
        (
            "us",
            Arc::new(TimestampMicrosecondArray::from(vec![-1, 0, 1]).with_timezone("UTC")),
        ),
        (
            "ns",
            Arc::new(TimestampNanosecondArray::from(vec![
                Some(i64::MAX),
                None,
                Some(1),
            ])),
        ),
        ("decimal", Arc::new(decimals)),
        (
            "text",
            Arc::new(LargeStringArray::from(vec![Some("é"), Some(""), None])),
        ),
        (
            "bytes",
            Arc::new(BinaryArray::from(vec![
                Some(&b"\0\xff"[..]),
                None,
                Some(&[7; 300]),
            ])),
        ),
        (
            "fixed",
            Arc::new(
                FixedSizeBinaryArray::try_from_iter([[1; 16], [0; 16], [9; 16]].iter()).unwrap(),
            ),
        ),
        ("words", Arc::new(words)),
        ("list", Arc::new(list)),
        ("pair", Arc::new(pair)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
        .unwrap()
}

#[test]
fn a_script_finds_the_digest_of_every_type() {
    let Some(venv) = python("row-digest") else {
        return;
    };
    let batch = every_type();
    let mut digest = RowDigest::new(&batch.schema());
    digest.add_batch(&batch).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("every.parquet");
    let mut writer =
        ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let found = recomputed(&venv, std::slice::from_ref(&path));
    assert_eq!(found[&path], digest.text());
}
