//! Rows in each format, byte for byte.

use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array,
    Int64Array, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow_schema::{Field, Fields, Schema};

use super::*;
use crate::chain::Column;

fn table(columns: Vec<(&str, ArrayRef)>) -> Table {
    let field =
        |(name, values): &(&str, ArrayRef)| Field::new(*name, values.data_type().clone(), true);
    let fields: Vec<Field> = columns.iter().map(field).collect();
    let column = |(_, values): (&str, ArrayRef)| Column {
        values,
        constant: false,
    };
    Table {
        schema: Arc::new(Schema::new(fields)),
        rows: columns.first().map_or(0, |(_, values)| values.len()),
        columns: columns.into_iter().map(column).collect(),
    }
}

fn books() -> Table {
    let mut tags = ListBuilder::new(Int32Builder::new());
    tags.append_value([Some(1), None]);
    tags.append_null();
    let inner: ArrayRef = Arc::new(StringArray::from(vec![Some("a<b"), None]));
    let fields = Fields::from(vec![Field::new("name", DataType::Utf8, true)]);
    let by = StructArray::new(fields, vec![inner], None);
    let decimal = Decimal128Array::from(vec![Some(1250), None]).with_precision_and_scale(10, 2);
    table(vec![
        (
            "id",
            Arc::new(Int64Array::from(vec![9_007_199_254_740_993, -1])),
        ),
        (
            "title",
            Arc::new(StringArray::from(vec!["a \"b\", c\n\u{1}&", ""])),
        ),
        ("price", Arc::new(decimal.expect("fits"))),
        ("rate", Arc::new(Float64Array::from(vec![0.1, f64::NAN]))),
        ("sold", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("on", Arc::new(Date32Array::from(vec![19_723, 0]))),
        (
            "at",
            Arc::new(
                TimestampMicrosecondArray::from(vec![1_704_067_200_500_000, 1])
                    .with_timezone("UTC"),
            ),
        ),
        (
            "raw",
            Arc::new(BinaryArray::from(vec![&b"\xff\x00"[..], b""])),
        ),
        ("tags", Arc::new(tags.finish())),
        ("by", Arc::new(by)),
    ])
}

fn written(format: &Format, table: &Table, row: usize) -> Result<String, Unfit> {
    let encoder = Encoder::new(format, &table.schema, None, |_| true).expect("columns");
    let mut out = Vec::new();
    encoder.write(table, row, &mut out)?;
    Ok(String::from_utf8(out).expect("utf-8"))
}

#[test]
fn json_keeps_every_digit_and_says_null() {
    let table = books();
    let first = written(&Format::Json, &table, 0).expect("fits");
    assert_eq!(
        first,
        r#"{"id":9007199254740993,"title":"a \"b\", c\n\u0001&","price":12.50,"rate":0.1,"sold":true,"on":"2024-01-01","at":"2024-01-01T00:00:00.5Z","raw":{"base64":"/wA="},"tags":[1,null],"by":{"name":"a<b"}}"#
    );
    let second = written(&Format::Json, &table, 1).expect("fits");
    assert_eq!(
        second,
        r#"{"id":-1,"title":"","price":null,"rate":null,"sold":null,"on":"1970-01-01","at":"1970-01-01T00:00:00.000001Z","raw":"","tags":null,"by":{"name":null}}"#
    );
    let parsed: serde_json::Value = serde_json::from_str(&first).expect("JSON");
    assert_eq!(parsed["title"], "a \"b\", c\n\u{1}&");
}

#[test]
fn csv_tells_null_from_empty_text() {
    let csv = Format::Csv { delimiter: b';' };
    let refused = written(&csv, &books(), 0).expect_err("bytes that are no text");
    assert_eq!((&*refused.column, &*refused.why), ("raw", NOT_UTF8));
    let mut table = books();
    table.columns[7].values = Arc::new(BinaryArray::from(vec![&b"//4="[..], b""]));
    assert_eq!(
        written(&csv, &table, 0).expect("fits"),
        "9007199254740993;\"a \"\"b\"\", c\n\u{1}&\";12.50;0.1;true;2024-01-01;2024-01-01T00:00:00.5Z;//4=;[1,null];\"{\"\"name\"\":\"\"a<b\"\"}\""
    );
    assert!(
        written(&csv, &table, 1)
            .expect("fits")
            .starts_with("-1;\"\";;NaN;;")
    );
}

#[test]
fn xml_repeats_lists_leaves_nulls_out_and_refuses_what_it_cannot_hold() {
    let table = books();
    let xml = Format::Xml {
        root: "book".into(),
    };
    let refused = written(&xml, &table, 0).expect_err("U+0001");
    assert_eq!(refused.column, "title");
    assert!(refused.why.contains("U+0001"), "{refused:?}");
    assert_eq!(
        written(&xml, &table, 1).expect("fits"),
        "<book><id>-1</id><title></title><rate>NaN</rate><on>1970-01-01</on><at>1970-01-01T00:00:00.000001Z</at><raw></raw><by></by></book>"
    );
    let columns = ["raw".to_owned()];
    let encoder = Encoder::new(&xml, &table.schema, Some(&columns), |_| true).expect("column");
    let refused = encoder
        .write(&table, 0, &mut Vec::new())
        .expect_err("bytes");
    assert_eq!((&*refused.column, &*refused.why), ("raw", NOT_UTF8));
    let columns = ["tags".to_owned(), "by".to_owned()];
    let encoder = Encoder::new(&xml, &table.schema, Some(&columns), |_| true).expect("columns");
    let mut out = Vec::new();
    encoder.write(&table, 0, &mut out).expect("fits");
    assert_eq!(
        String::from_utf8(out).expect("utf-8"),
        "<book><tags>1</tags><by><name>a&lt;b</name></by></book>"
    );
    let odd = super::tests::table(vec![("a b", Arc::new(Int64Array::from(vec![1])))]);
    let error = Encoder::new(&xml, &odd.schema, None, |_| true).expect_err("no name");
    assert!(error.contains("`a b`"), "{error}");
}

#[test]
fn one_column_is_a_text_as_json_converter_writes_it() {
    let table = table(vec![(
        "v",
        Arc::new(BinaryArray::from(vec![Some(&b"a \"b\""[..]), None])),
    )]);
    for (envelope, want) in [
        (false, r#""a \"b\"""#),
        (
            true,
            r#"{"schema":{"type":"string","optional":false},"payload":"a \"b\""}"#,
        ),
    ] {
        let column = "v".to_owned();
        let format = Format::JsonText { column, envelope };
        let encoder = Encoder::new(&format, &table.schema, None, |_| true).expect("column");
        let mut out = Vec::new();
        assert_eq!(encoder.write(&table, 0, &mut out), Ok(true));
        assert_eq!(String::from_utf8_lossy(&out), want);
        assert_eq!(encoder.write(&table, 1, &mut out), Ok(false));
    }
}

#[test]
fn one_column_is_its_bytes_and_null_is_no_value() {
    let table = table(vec![(
        "v",
        Arc::new(BinaryArray::from(vec![Some(&b"\xff"[..]), None])),
    )]);
    let format = Format::Text { column: "v".into() };
    let encoder = Encoder::new(&format, &table.schema, None, |_| true).expect("column");
    let mut out = Vec::new();
    assert_eq!(encoder.write(&table, 0, &mut out), Ok(true));
    assert_eq!(out, b"\xff");
    assert_eq!(encoder.write(&table, 1, &mut out), Ok(false));
    let missing = Format::Text { column: "w".into() };
    let error = Encoder::new(&missing, &table.schema, None, |_| true).expect_err("none");
    assert!(
        error.contains("`w`") && error.contains("makes v"),
        "{error}"
    );
}
