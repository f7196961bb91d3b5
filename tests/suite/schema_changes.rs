//! Schemas of one topic that differ in what a value means, or of which no columns can be made; and who else reads it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use weir::commit::Role;
use weir::pipeline::{Stop, run};

use crate::converters::{Zone, registry, settled, values};
use crate::registries::{framed, knows, record};

#[test]
fn a_unit_or_a_scale_that_changes_is_incompatible() {
    let of = |unit: &str, scale: u8| {
        record(&format!(
            r#"{{"name":"at","type":{{"type":"long","logicalType":"timestamp-{unit}"}}}},{{"name":"price","type":{{"type":"bytes","logicalType":"decimal","precision":10,"scale":{scale}}}}}"#
        ))
    };
    let api = knows(vec![
        of("millis", 2),
        of("micros", 2),
        of("millis", 4),
        of("millis", 2),
    ]);
    let zone = Zone::new();
    let value = [2, 4, 4, 0xd2];
    zone.send(&[1, 2, 3, 4].map(|id| framed(id, &value)));
    let why = zone.stops(&zone.config(&api, &[]));
    assert!(
        why.contains("schema 2 cannot be read under the one in force: `at`: timestamp-micros cannot be read as timestamp-millis"),
        "{why}"
    );
    zone.take(&zone.config(&api, &[("schema.on.incompatible", "dead-letters")]));
    assert_eq!(
        zone.rows(Role::Rows, &["_offset", "at", "price"]),
        [
            "_offset=0 at=1970-01-01T00:00:00.001 price=12.34",
            "_offset=3 at=1970-01-01T00:00:00.001 price=12.34",
        ]
    );
    assert_eq!(
        zone.codes(),
        ["code=incompatible_schema", "code=incompatible_schema"]
    );
}

/// Of two topics, say: rows of nulls are never made of one.
#[test]
fn records_of_something_else_stop_by_name_or_become_dead_letters() {
    let text = r#"["null","string"],"default":null"#;
    let of = |a: &str, b: &str| {
        record(&format!(
            r#"{{"name":"{a}","type":{text}}},{{"name":"{b}","type":{text}}}"#
        ))
    };
    let api = knows(vec![of("id", "customer"), of("action", "at")]);
    let value = [2, 2, b'x', 2, 2, b'y'];
    let avro = [1, 2, 1].map(|id| framed(id, &value));
    let envelope = [("id", "customer"), ("action", "at"), ("id", "customer")].map(|(a, b)| {
        let field = |name: &str| {
            format!(r#"{{"type":"string","optional":true,"field":"{name}"}}"#)
        };
        let (first, second) = (field(a), field(b));
        format!(r#"{{"schema":{{"type":"struct","fields":[{first},{second}],"optional":false}},"payload":{{"{a}":"x","{b}":"y"}}}}"#).into_bytes()
    });
    for (format, values) in [("avro", avro), ("json-envelope", envelope)] {
        for evolution in ["pin", "follow"] {
            let zone = Zone::new();
            zone.send(&values);
            let store = zone.0.path("store").display().to_string();
            let config = |on_incompatible| {
                let more = [
                    ("value.format", format),
                    ("schema.evolution", evolution),
                    ("schema.on.incompatible", on_incompatible),
                ];
                match format {
                    "avro" => zone.config(&api, &more),
                    _ => {
                        let own = [
                            ("plugin.store", store.as_str()),
                            ("errors.tolerance", "all"),
                        ];
                        zone.0.raw(&[&more[..], &own].concat())
                    }
                }
            };
            let why = zone.stops(&config("stop"));
            for told in [
                "none of its fields (action, at) is a column (id, customer)",
                "one pipeline for each schema",
            ] {
                assert!(why.contains(told), "{format} {evolution}: {why}");
            }
            let renamed = "the other name of a renamed field as an alias: value.schema.file";
            assert_eq!(why.contains(renamed), format == "avro", "{why}");
            zone.take(&config("dead-letters"));
            assert_eq!(
                zone.rows(Role::Rows, &["_offset", "id", "customer", "action"]),
                [
                    "_offset=0 id=x customer=y action:none",
                    "_offset=2 id=x customer=y action:none"
                ],
                "{format} {evolution}"
            );
            assert_eq!(zone.codes(), ["code=incompatible_schema"]);
        }
    }
}

/// Of two topics that share a field: whatever their records are called, they are read together.
#[test]
fn records_of_two_names_that_share_a_field_are_read_together() {
    let of = |name: &str, other: &str| {
        let fields = format!(
            r#"{{"name":"id","type":"string"}},{{"name":"{other}","type":["null","string"],"default":null}}"#
        );
        record(&fields).replace("Order", name)
    };
    let api = knows(vec![of("Order", "customer"), of("Event", "at")]);
    for (evolution, rows) in [
        ("pin", ["id=a customer=b at:none", "id=a customer= at:none"]),
        ("follow", ["id=a customer=b at:none", "id=a customer= at=b"]),
    ] {
        let zone = Zone::new();
        zone.send(&[1, 2].map(|id| framed(id, &[2, b'a', 2, 2, b'b'])));
        zone.take(&zone.config(&api, &[("schema.evolution", evolution)]));
        assert_eq!(zone.rows(Role::Rows, &["id", "customer", "at"]), rows);
    }
}

/// What is kept is in force at every start, so nothing is kept that can never be.
#[test]
fn a_first_schema_without_columns_is_not_kept() {
    let several = record(r#"{"name":"x","type":["int","string"]}"#);
    let api = knows(vec![several, record(r#"{"name":"x","type":"int"}"#)]);
    let zone = Zone::new();
    zone.send(&[framed(1, &[0, 2]), framed(2, &[4])]);
    for _ in 0..2 {
        let why = zone.stops(&zone.config(&api, &[]));
        assert!(
            why.contains("`x` is a union of several types") && why.contains("value.schema.file"),
            "{why}"
        );
        assert!(!zone.0.path("raw/_system/raw/raw/converter-1.json").exists());
    }
    let file = zone.0.path("order.avsc").display().to_string();
    std::fs::write(&file, record(r#"{"name":"x","type":"int"}"#)).unwrap();
    zone.take(&zone.config(&api, &[("value.schema.file", &file)]));
    assert_eq!(
        zone.rows(Role::Rows, &["_offset", "x"]),
        ["_offset=0 x=1", "_offset=1 x=2"]
    );
}

/// Of two processes one follows a schema while the other waits for its registry. Then that one is alone, and another schema comes.
#[test]
fn what_another_process_followed_is_followed_on() {
    let ((theirs, _), (ours, down)) = (registry(), registry());
    let zone = Zone::new();
    let follow = ("schema.evolution", "follow");
    let config = zone.config(
        &ours,
        &[
            follow,
            ("trigger", "continuous"),
            ("sink.rotate.age", "100ms"),
        ],
    );
    zone.send(&values("v1"));
    std::thread::scope(|scope| {
        scope.spawn(|| zone.take(&config));
        zone.0.until("the first rows", || settled(&zone) == 2);
        down.store(true, Ordering::SeqCst);
        zone.send(&values("v2"));
        zone.0
            .until("a word of the wait", || zone.0.told.has("waiting"));
        let other = zone.config(&theirs, &[follow]);
        let stop = Stop::new(zone.0.clock.clone());
        let ended = run(&[other], &zone.0.clock, &stop, &|_| zone.0.told.clone());
        assert!(ended.iter().all(|ended| ended.result.is_ok()), "{ended:?}");
        assert_eq!(settled(&zone), 4);
        down.store(false, Ordering::SeqCst);
        zone.send(&values("v4"));
        zone.0.until("the rest", || settled(&zone) == 5);
        zone.0.stop.ask(Duration::from_secs(20));
    });
    assert_eq!(
        zone.rows(Role::Rows, &["id", "city", "zip"]),
        [
            "id=1 city:none zip:none",
            "id=2 city:none zip:none",
            "id=3 city=Bonn zip:none",
            "id=4 city= zip:none",
            "id=6 city= zip=50667",
        ]
    );
}

/// The log of one format goes on with another one: its schema is that of its own first record.
#[test]
fn another_format_has_a_schema_of_its_own() {
    let (api, _) = registry();
    let zone = Zone::new();
    let fields = r#"{"type":"int64","optional":false,"field":"id"},{"type":"string","optional":false,"field":"who"}"#;
    let message = format!(
        r#"{{"schema":{{"type":"struct","fields":[{fields}],"optional":false}},"payload":{{"id":7,"who":"eve"}}}}"#
    );
    zone.send(&[message.into_bytes()]);
    let store = zone.0.path("store").display().to_string();
    let keys = [
        ("value.format", "json-envelope"),
        ("plugin.store", store.as_str()),
    ];
    zone.take(&zone.0.raw(&keys));
    zone.send(&values("v1"));
    zone.take(&zone.config(&api, &[]));
    zone.send(&values("v1"));
    zone.take(&zone.config(&api, &[]));
    assert_eq!(
        zone.rows(Role::Rows, &["id", "who"]),
        [
            "id=7 who=eve",
            "id=1 who=ada",
            "id=2 who=böb",
            "id=1 who=ada",
            "id=2 who=böb"
        ]
    );
    let kept = |n: u8| {
        std::fs::read_to_string(
            zone.0
                .path(&format!("raw/_system/raw/raw/converter-{n}.json")),
        )
    };
    assert!(kept(1).unwrap().contains("json-envelope") && kept(2).unwrap().contains("\"avro\""));
    assert!(kept(3).is_err());
}
