//! A column that goes or changes its type is refused in every way of changing rules, unless somebody allows it; and the
//! pipeline that reads the table can go on.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::brokers::until;
use crate::case::said;
use crate::daemon_rig::Rig;
use crate::lake::Lake;

const TEXT: &str = "columns = [\"id\", \"amount\", \"day\"]";
const INT: &str = "columns = [\"id\", \"amount\", \"day\"]\ntypes.amount = \"int\"";
const REFUSED: &str = "columns go or change their type: whoever reads the table would see it";
const WHAT: &str = "`amount` was Utf8 or null and becomes Int32 or null";
const FIRST: &str = r#"{"id": "a", "amount": 7, "day": "2024-01-01"}"#;
const SECOND: &str = r#"{"id": "b", "amount": 8, "day": "2024-01-02"}"#;

/// RAW with a row of each type, by a swap that says so.
fn retyped() -> Lake {
    let lake = Lake::new(TEXT);
    lake.send(&[FIRST]);
    lake.runs("raw.toml");
    lake.raw(INT);
    lake.send(&[SECOND]);
    lake
}

fn forced(lake: &Lake) {
    let swap = lake.weir(&[
        "pipeline",
        "swap",
        "raw.toml",
        "--reload",
        "--allow-breaking",
    ]);
    assert_eq!(swap.code, Some(0), "{}", swap.err);
}

#[test]
fn a_start_refuses_what_a_swap_refuses_and_both_take_a_yes() {
    let lake = retyped();
    let swap = lake.weir(&["pipeline", "swap", "raw.toml", "--reload"]);
    swap.refused(&[REFUSED, WHAT, "--allow-breaking"]);
    let start = lake.run("raw.toml");
    start.refused(&[
        REFUSED,
        WHAT,
        "weir pipeline swap raw --reload --allow-breaking",
    ]);
    assert_eq!(lake.rows("raw", "zone").len(), 1);
    forced(&lake);
    lake.runs("raw.toml");
    let rows = [
        "id=a amount=7 day=2024-01-01",
        "id=b amount=8 day=2024-01-02",
    ];
    assert_eq!(lake.rows("raw", "zone"), rows);
    // A column that goes is no better; one that comes is taken.
    lake.raw("columns = [\"id\", \"day\"]\n");
    lake.run("raw.toml").refused(&[REFUSED, "`amount` goes"]);
    lake.raw(&INT.replace("\"day\"", "\"day\", \"more\""));
    lake.runs("raw.toml");
}

#[test]
fn a_table_without_rows_has_no_readers() {
    let lake = Lake::new(TEXT);
    lake.runs("raw.toml");
    lake.raw(INT);
    lake.send(&[FIRST]);
    lake.runs("raw.toml");
    assert_eq!(lake.rows("raw", "zone"), ["id=a amount=7 day=2024-01-01"]);
}

#[test]
fn who_reads_a_changed_type_stops_at_it_and_goes_on_when_told_how() {
    let before = "id=a amount=7 day=2024-01-01".to_owned();
    for (way, after, counted) in [
        (
            "cast",
            "id=b amount=8 day=2024-01-02",
            "amount cast from Int32 to Utf8",
        ),
        (
            "new-column",
            "id=b day=2024-01-02 amount_int=8",
            "amount of type Int32 put into amount_int",
        ),
    ] {
        let lake = retyped();
        forced(&lake);
        lake.runs("raw.toml");
        // Both types wait at once: what came before is written, what comes after is named.
        let stops = lake.run("processed.toml");
        stops.refused(&[
            "column `amount` is Utf8 in the zone that is written and Int32 in the zone that is read",
            "source.on.type.change",
        ]);
        assert_eq!(
            lake.rows("processed", "processed"),
            std::slice::from_ref(&before)
        );
        lake.processed(&format!("on.type.change = \"{way}\""), "");
        lake.runs("processed.toml");
        assert_eq!(
            lake.rows("processed", "processed"),
            [before.clone(), after.to_owned()]
        );
        let log = lake.weir(&["log", "processed", "-n", "1"]);
        assert!(log.out.contains(counted), "{counted}: {}", log.out);
        let verified = lake.weir(&["log", "processed", "--verify"]);
        assert_eq!(verified.code, Some(0), "{}{}", verified.out, verified.err);
        // And back, and on.
        lake.raw(TEXT);
        forced(&lake);
        lake.send(&[r#"{"id": "c", "amount": "9", "day": "2024-01-03"}"#]);
        lake.runs("raw.toml");
        lake.runs("processed.toml");
        let rows = lake.rows("processed", "processed");
        assert_eq!(rows[2], "id=c amount=9 day=2024-01-03", "{rows:?}");
    }
}

/// From text to a number, the other way round: "x" is no number, and no row is lost for it.
#[test]
fn a_value_that_would_not_stay_exact_is_named_and_gets_a_column() {
    let lake = Lake::new(INT);
    lake.send(&[FIRST]);
    lake.runs("raw.toml");
    lake.runs("processed.toml");
    lake.raw(TEXT);
    forced(&lake);
    lake.send(&[
        SECOND,
        r#"{"id": "c", "amount": "007", "day": "2024-01-03"}"#,
    ]);
    lake.runs("raw.toml");
    lake.processed("on.type.change = \"cast\"", "");
    let stops = lake.run("processed.toml");
    stops.refused(&["of type Utf8 is not exact as Int32", "orders/0@2"]);
    lake.processed("on.type.change = \"new-column\"", "");
    lake.runs("processed.toml");
    let rows = [
        "id=a amount=7 day=2024-01-01",
        "id=b day=2024-01-02 amount_string=8",
        "id=c day=2024-01-03 amount_string=007",
    ];
    assert_eq!(lake.rows("processed", "processed"), rows);
}

#[test]
fn a_config_over_http_is_refused_and_taken_alike() {
    let mut rig = Rig::new(&["t"]);
    let daemon = rig.start(&[]);
    let of = |types: &str| -> BTreeMap<String, String> {
        let mut map = rig.config("t", &[("transforms", "columns")]);
        map.insert("transforms.columns.type".into(), "json-flatten@0.1".into());
        map.insert("transforms.columns.columns".into(), "id,amount".into());
        map.insert("transforms.columns.types.amount".into(), types.into());
        map
    };
    rig.produce("t", &[r#"{"id": "a", "amount": "7"}"#]);
    assert_eq!(daemon.put_config("p", &of("string")).status, 201);
    until("a row", || daemon.position("p").filter(|at| *at == 1));
    let refused = |answer: &crate::connect_http::Answer| {
        assert_eq!(answer.status, 400, "{}", answer.text());
        for part in [REFUSED, WHAT, "allow_breaking=true"] {
            assert!(answer.text().contains(part), "{part}: {}", answer.text());
        }
    };
    // A running pipeline, by its rules alone; and with another key, which would stop it.
    refused(&daemon.put_config("p", &of("int")));
    let mut more = of("int");
    more.insert("sink.rotate.age".into(), "150ms".into());
    refused(&daemon.put_config("p", &more));
    let patch = json!({ "transforms.columns.types.amount": "int" });
    refused(&daemon.ask("PATCH", "/connectors/p/config", Some(&patch)));
    // One that stands still; and a new one over the zone that it left.
    assert_eq!(daemon.ask("PUT", "/connectors/p/stop", None).status, 204);
    until("the stop", || {
        (daemon.state("p") == "STOPPED").then_some(())
    });
    refused(&daemon.put_config("p", &of("int")));
    let kept: Value = daemon.get("/connectors/p/config");
    assert_eq!(kept["transforms.columns.types.amount"], "string");
    assert_eq!(daemon.ask("DELETE", "/connectors/p", None).status, 204);
    until("a place for another", || {
        let answer = daemon.put_config("p", &of("int"));
        (answer.status != 409).then(|| refused(&answer))
    });
    assert_eq!(daemon.put_config("p", &of("string")).status, 201);

    // The yes, while it runs and otherwise.
    rig.produce("t", &[r#"{"id": "b", "amount": "8"}"#]);
    until("another row", || daemon.position("p").filter(|at| *at == 2));
    let yes = |types: &str, age: &str| {
        let mut config = of(types);
        config.insert("sink.rotate.age".into(), age.into());
        let target = "/connectors/p/config?allow_breaking=true";
        let answer = daemon.ask("PUT", target, Some(&json!(config)));
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    yes("int", "100ms");
    yes("string", "150ms");
    assert_eq!(daemon.ask("PUT", "/connectors/p/stop", None).status, 204);
    until("the stop", || {
        (daemon.state("p") == "STOPPED").then_some(())
    });
    yes("int", "150ms");
    assert_eq!(daemon.ask("PUT", "/connectors/p/resume", None).status, 202);
    rig.produce("t", &[r#"{"id": "c", "amount": 9}"#]);
    until("the last row", || {
        daemon.position("p").filter(|at| *at == 3)
    });
    assert_eq!(daemon.state("p"), "RUNNING");
}

/// Only Parquet is read back, and no right of the caller changes that: the answer says so, and the pipeline runs on.
#[test]
fn a_format_over_http_that_a_reader_could_not_read_is_refused() {
    let mut rig = Rig::new(&["t"]);
    let daemon = rig.start(&[]);
    let rules = [
        ("transforms", "columns"),
        ("transforms.columns.type", "json-flatten@0.1"),
        ("transforms.columns.columns", "id,day"),
    ];
    let config = rig.config("t", &rules);
    rig.produce("t", &[FIRST]);
    assert_eq!(daemon.put_config("p", &config).status, 201);
    until("a row", || daemon.position("p").filter(|at| *at == 1));
    // Another process reads it.
    let reader = "name = \"reader\"\nsource.type = \"zone\"\nsource.url = \"file:zone\"\nsource.pipeline = \"p\"\n\
                  source.table = \"t\"\nsink.type = \"zone\"\nsink.url = \"file:read\"\nsink.table = \"rows\"\n\
                  sink.partition.field = \"day\"\n";
    std::fs::write(rig.path("reader.toml"), reader).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.current_dir(rig.dir.path()).stdin(Stdio::null());
    command.args(["run", "reader.toml", "--available-now"]);
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{}", said(&ran));

    let mut json = config.clone();
    json.insert("sink.format".into(), "json".into());
    let kept = rig.journal().metadata().unwrap().len();
    let forced = "/connectors/p/config?allow_breaking=true";
    let patch = json!({ "sink.format": "json" });
    for answer in [
        daemon.put_config("p", &json),
        daemon.ask("PUT", forced, Some(&json!(json))),
        daemon.ask("PATCH", "/connectors/p/config", Some(&patch)),
    ] {
        assert_eq!(answer.status, 400, "{}", answer.text());
        for part in [
            "only Parquet is read back: `reader/read` reads this zone",
            "forget-reader",
        ] {
            assert!(answer.text().contains(part), "{part}: {}", answer.text());
        }
    }
    assert_eq!(rig.journal().metadata().unwrap().len(), kept);
    let now: Value = daemon.get("/connectors/p/config");
    assert_eq!(now["sink.format"], Value::Null);
    assert_eq!(daemon.state("p"), "RUNNING");
    // Rows of another table are none of its business.
    json.insert("sink.table".into(), "others".into());
    let answer = daemon.put_config("p", &json);
    assert_eq!(answer.status, 200, "{}", answer.text());
    rig.produce("t", &[SECOND]);
    until("another row", || daemon.position("p").filter(|at| *at == 2));
}
