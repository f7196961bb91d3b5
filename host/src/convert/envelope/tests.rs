//! Messages of which the schema says more than their JSON shows.

use super::*;

fn schema(fields: &str) -> Json {
    Json::parse(format!(r#"{{"type":"struct","fields":[{fields}]}}"#).as_bytes()).expect("JSON")
}

fn between(written: &str, wanted: &str) -> Result<(), String> {
    let written = Typed::of_message(&schema(written))?;
    Plan::between(&written, &Typed::of_message(&schema(wanted))?).map(drop)
}

#[test]
fn a_number_that_means_something_else_is_incompatible() {
    let of = |kind: &str, name: &str| {
        let name = match name {
            "" => String::new(),
            name => format!(r#","name":"{name}""#),
        };
        format!(r#"{{"field":"at","type":"{kind}"{name}}}"#)
    };
    let (ms, us) = (
        of("int64", "io.debezium.time.Timestamp"),
        of("int64", "io.debezium.time.MicroTimestamp"),
    );
    assert_eq!(
        between(&us, &ms).unwrap_err(),
        "`at`: io.debezium.time.MicroTimestamp cannot be read as io.debezium.time.Timestamp"
    );
    assert_eq!(between(&ms, &ms), Ok(()));
    assert_eq!(between(&of("int64", ""), &ms), Ok(()));
    let connect = of("int64", "org.apache.kafka.connect.data.Timestamp");
    for (written, wanted) in [(&connect, &of("int64", "")), (&ms, &connect)] {
        between(written, wanted).unwrap_err();
    }
}

#[test]
fn few_bytes_of_a_message_never_stand_for_much_memory() {
    let text = |bytes: usize| {
        format!(
            r#"{{"field":"t","type":"string","default":"{}"}}"#,
            "d".repeat(bytes)
        )
    };
    let list = |bytes: usize| {
        let items = format!(r#"{{"type":"struct","fields":[{}]}}"#, text(bytes));
        format!(r#"{{"field":"l","type":"array","items":{items}}}"#)
    };
    assert_eq!(between(&text(60_000), &text(60_000)), Ok(()));
    assert_eq!(between(&list(1000), &list(1000)), Ok(()));
    for (fields, part) in [
        (text(70_000), "its defaults have 70002 bytes"),
        (
            list(2000),
            "an item of a list or a map has defaults of 2002 bytes",
        ),
    ] {
        let why = between(&fields, &fields).unwrap_err();
        assert!(why.contains(part), "{why}");
    }
}

#[test]
fn a_schema_of_other_fields_is_incompatible() {
    let of = |name: &str| format!(r#"{{"field":"{name}","type":"string","optional":true}}"#);
    let all = |names: &str| names.split(' ').map(of).collect::<Vec<_>>().join(",");
    assert_eq!(
        between(&all("action at"), &all("id customer")).unwrap_err(),
        "none of its fields (action, at) is a column (id, customer)"
    );
    let why = between(&all("a b c d e f g"), &of("id")).unwrap_err();
    assert!(why.contains("(a, b, c, d, e and 2 more)"), "{why}");
    assert_eq!(between(&all("at id"), &all("id customer")), Ok(()));
    // There is nothing that would be lost.
    assert_eq!(between("", &all("id customer")), Ok(()));
    // Inside of a column: `after` of two tables, say.
    let inside = |names: &str| {
        format!(
            r#"{{"field":"after","type":"struct","optional":true,"fields":[{}]}}"#,
            all(names)
        )
    };
    assert_eq!(
        between(&inside("action at"), &inside("id customer")).unwrap_err(),
        "`after`: none of its fields (action, at) is a field of the struct in force (id, customer)"
    );
    assert_eq!(between(&inside("at id"), &inside("id")), Ok(()));
}

/// Each beside the last value that is in range.
#[test]
fn a_value_out_of_range_is_refused_as_such() {
    let of = |kind: &str, name: &str| {
        format!(
            r#"{{"field":"x","type":"{kind}","name":"org.apache.kafka.connect.data.{name}","parameters":{{"scale":"2","connect.decimal.precision":"4"}}}}"#
        )
    };
    let list = |items: &str| {
        format!(
            r#"{{"field":"x","type":"array","items":{}}}"#,
            items.replace(r#""field":"x","#, "")
        )
    };
    let inner = |field: &str| format!(r#"{{"field":"x","type":"struct","fields":[{field}]}}"#);
    let (float, double) = (of("float", ""), of("double", ""));
    let time = of("int64", "Timestamp");
    for (field, good, bad, told) in [
        (
            &float,
            "3.4028235e38",
            "1e39",
            "1e39 is too large for 32 bits",
        ),
        (&float, "-3.4028235e38", "-1e39", "-1e39 is too large"),
        (&float, r#""Infinity""#, "3.5e38", "too large for 32 bits"),
        (&double, "1e308", "1e400", "1e400 is too large for 64 bits"),
        (&list(&float), "[1,null]", "[1,1e39]", "too large"),
        // 9999-12-31 west of Greenwich, say, is another year in UTC.
        (
            &time,
            "253402329599000",
            "9223372036854776",
            "9223372036854776 milliseconds have no place in microseconds",
        ),
        (&time, "-9223372036854775", "-9223372036854776", "no place"),
        (
            &inner(&time),
            r#"{"x":253402329599000}"#,
            r#"{"x":9223372036854775807}"#,
            "`x`: 9223372036854775807 milliseconds",
        ),
        (
            &of("bytes", "Decimal"),
            "99.99",
            "100.00",
            "more than 4 digits",
        ),
        (
            &of("bytes", "Decimal"),
            r#""AQ==""#,
            r#""fwAAAAAAAAAAAAAAAAAAAAAAAAA=""#,
            "more than",
        ),
    ] {
        // A null in a list is one where its items may be null.
        let field = field.replace(r#""type":"float""#, r#""type":"float","optional":true"#);
        let typed = Typed::of_message(&schema(&field)).expect("a schema");
        let plan = Plan::between(&typed, &typed).expect("the same");
        let cells = |value: &str| {
            let payload = Json::parse(format!(r#"{{"x":{value}}}"#).as_bytes()).expect("JSON");
            plan.cells(&payload)
        };
        assert!(cells(good).is_ok(), "{field}: {:?}", cells(good));
        let (name, why) = cells(bad).expect_err(bad);
        assert_eq!(
            (name.as_deref(), why.code),
            (Some("x"), codes::OUT_OF_RANGE)
        );
        assert!(why.text.contains(told), "{}", why.text);
    }
}
