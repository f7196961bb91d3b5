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
