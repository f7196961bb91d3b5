//! Where the record begins, what is none, and what the schema of an envelope says of it.
use json_flatten::Flatten;
use weir_sdk::testing::{Bench, Table};

fn run(bench: Bench, messages: &[&str]) -> Table {
    let values: Vec<Option<&[u8]>> = messages.iter().map(|m| Some(m.as_bytes())).collect();
    bench.bytes("value", &values).run::<Flatten>(messages.len())
}

/// Columns in the short form.
fn of(columns: &str) -> Bench {
    Bench::default().key("columns", columns)
}

/// Connect's schema and payload.
fn enveloped(fields: &str, payload: &str) -> String {
    format!(r#"{{"schema":{{"type":"struct","fields":[{fields}]}},"payload":{payload}}}"#)
}

#[test]
fn no_record_is_not_a_record_of_nulls() {
    let bench = || of("id").key("envelope", "true");
    let messages = [
        r#"{"schema":null,"payload":{"id":1}}"#,
        r#"{"id":2}"#,
        r#"{"schema":null,"payload":null}"#,
        "null",
        "",
        r#"{"payload":{"id":3}}"#,
        r#"{"schema":null,"payload":{}}"#,
    ];
    let table = run(bench(), &messages);
    assert_eq!(table.lines(), ["1", "∅"]);
    let refused = [
        "1 no_record",
        "2 empty_value",
        "3 no_record",
        "4 empty_value",
        "5 no_record",
    ];
    assert_eq!(table.codes(), refused);
    // What says that there is nothing may be dropped; what is no envelope is refused all the same.
    let table = run(bench().key("empty", "drop"), &messages);
    assert_eq!(table.lines(), ["1", "∅"]);
    assert_eq!(table.codes(), ["1 no_record", "3 no_record", "5 no_record"]);

    let plain = run(of("id"), &["null", " null ", r#"{"id":null}"#, "{}"]);
    assert_eq!(plain.codes(), ["0 empty_value", "1 empty_value"]);
    assert_eq!(plain.lines(), ["∅", "∅"]);
    let root = run(
        of("id,all=").key("root", "after").key("types.all", "json"),
        &[
            r#"{"after":{"id":7}}"#,
            r#"{"after":null}"#,
            "{}",
            "null",
            "7",
        ],
    );
    assert_eq!(root.lines(), [r#"7|{"id":7}"#]);
    assert_eq!(
        root.codes(),
        ["1 empty_value", "2 no_record", "3 no_record", "4 no_record"]
    );
    let each = of("n=.").key("root", "/r").key("explode", "items");
    assert_eq!(
        run(each, &[r#"{"items":[9],"r":{"items":[1,2]}}"#]).lines(),
        ["1", "2"]
    );
}

#[test]
fn what_the_schema_says_and_json_does_not_is_refused() {
    let logical = |kind: &str, name: &str, field: &str| {
        format!(
            r#"{{"type":"{kind}","name":"org.apache.kafka.connect.data.{name}","field":"{field}"}}"#
        )
    };
    let fields = [
        logical("bytes", "Decimal", "amt"),
        logical("int64", "Timestamp", "ts"),
        r#"{"type":"bytes","field":"raw"}"#.into(),
        r#"{"type":"int32","field":"id"}"#.into(),
        format!(
            r#"{{"type":"struct","field":"in","fields":[{}]}}"#,
            logical("int32", "Date", "d")
        ),
        format!(
            r#"{{"type":"array","field":"list","items":{{"type":"struct","fields":[{}]}}}}"#,
            logical("bytes", "Decimal", "x")
        ),
    ]
    .join(",");
    let payload = r#"{"amt":"BNI=","ts":1700000000000,"raw":"AQID","id":1,"in":{"d":19675},"list":[{"x":"AQ=="}]}"#;
    let message = enveloped(&fields, payload);
    let one = |column: &str, kind: &str| {
        let bench = of(&format!("c={column}"))
            .key("types.c", kind)
            .key("envelope", "true");
        run(bench, &[&message])
    };
    for (column, kind) in [
        ("amt", "string"),
        ("amt", "decimal(10,2)"),
        ("ts", "string"),
        ("ts", "double"),
        ("raw", "string"),
        ("in/d", "string"),
    ] {
        assert_eq!(
            one(column, kind).codes(),
            ["0/0 envelope_schema c"],
            "{column} {kind}"
        );
    }
    for (column, kind, shown) in [
        ("amt", "json", "\"BNI=\""),
        ("raw", "json", "\"AQID\""),
        ("ts", "long", "1700000000000"),
        ("in/d", "int", "19675"),
        ("id", "string", "1"),
    ] {
        assert_eq!(one(column, kind).lines(), [shown], "{column} {kind}");
    }
    let bench = of("./x").key("explode", "list").key("envelope", "true");
    assert_eq!(run(bench, &[&message]).codes(), ["0/0 envelope_schema x"]);
    // decimal.format=NUMERIC, no value, and another schema in the next message.
    let decimal = || {
        of("amt")
            .key("types.amt", "decimal(10,2)")
            .key("envelope", "true")
    };
    let messages = [
        enveloped(&fields, r#"{"amt":12.34}"#),
        enveloped(&fields, r#"{"amt":null}"#),
        enveloped(r#"{"type":"string","field":"amt"}"#, r#"{"amt":"1234"}"#),
        enveloped(&fields, r#"{"amt":"1234"}"#),
    ];
    let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
    let table = run(decimal(), &messages);
    assert_eq!(table.lines(), ["1234", "∅", "123400"]);
    assert_eq!(table.codes(), ["3/0 envelope_schema amt"]);
}
