//! `weir status`, `lag` and `top` of a daemon, and `weir explain` of a key: what a person reads.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::brokers::until;
use crate::daemon_rig::{Rig, Running};

fn weir(daemon: &Running, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.env("WEIR_URL", format!("http://{}", daemon.addr));
    command.args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn pipelines_of_a_daemon_are_shown_with_state_lag_and_dead_letters() {
    let mut rig = Rig::new(&["orders"]);
    rig.produce("orders", &[r#"{"n": 1}"#, r#"{"n": 2}"#, "no json"]);
    let daemon = rig.start(&[]);
    let config = rig.config(
        "orders",
        &[
            ("transforms", "flatten"),
            ("transforms.flatten.type", "json-flatten"),
            ("transforms.flatten.columns", "n"),
            ("errors.tolerance", "all"),
        ],
    );
    let body = json!(config);
    let made = daemon.ask("PUT", "/connectors/orders/config", Some(&body));
    assert_eq!(made.status, 201, "{}", made.text());
    let shown: Value = until("three records", || {
        let output = weir(&daemon, &["status", "orders", "--json"]);
        assert!(output.status.success(), "{output:?}");
        let shown: Value = serde_json::from_str(said(&output).trim()).unwrap();
        (shown["records"] == 3 && shown["lag"] == 0).then_some(shown)
    });
    assert_eq!(shown["state"], "RUNNING", "{shown}");
    assert_eq!(shown["dead_letters"], 1, "{shown}");

    let table = said(&weir(&daemon, &["status"]));
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..3], ["orders", "RUNNING", "0"], "{table}");
    assert!(table.starts_with("PIPELINE"), "{table}");

    let lag = said(&weir(&daemon, &["lag"]));
    let row: Vec<&str> = lag.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, ["orders", "orders", "0", "3", "3", "0"], "{lag}");

    let top = said(&weir(&daemon, &["top", "-n", "1"]));
    assert!(
        top.contains("1 of 1 running") && top.contains("orders"),
        "{top}"
    );

    let nobody = weir(&daemon, &["status", "nobody"]);
    let told = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert_eq!(nobody.status.code(), Some(2), "{told}");
    assert!(told.contains("nobody not found"), "{told}");
}

/// The commit may be an hour away: what was read and waits for it is behind.
#[test]
fn what_is_read_and_not_committed_is_behind() {
    let mut rig = Rig::new(&["orders"]);
    rig.produce("orders", &["1", "2", "3"]);
    let daemon = rig.start(&[]);
    let body = json!(rig.config("orders", &[("sink.rotate.age", "1h")]));
    let made = daemon.ask("PUT", "/connectors/orders/config", Some(&body));
    assert_eq!(made.status, 201, "{}", made.text());
    until("three records that wait", || {
        let lag = said(&weir(&daemon, &["lag"]));
        let row: Vec<&str> = lag.lines().nth(1)?.split_whitespace().collect();
        (row == ["orders", "orders", "0", "0", "3", "3"]).then_some(())
    });
    let status = said(&weir(&daemon, &["status", "orders", "--json"]));
    let status: Value = serde_json::from_str(status.trim()).unwrap();
    assert_eq!((&status["lag"], &status["records"]), (&json!(3), &json!(0)));
    let metrics = daemon.ask("GET", "/metrics", None).text();
    assert!(
        metrics.contains(
            "weir_partition_lag{pipeline=\"orders\",topic=\"orders\",partition=\"0\"} 3.0"
        ),
        "{metrics}"
    );
}

#[test]
fn a_key_is_explained_with_its_values_and_default() {
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["explain", "sink.rotate.age"])
        .output()
        .unwrap();
    let text = said(&output);
    for part in ["sink.rotate.age", "duration", "default: 60s", "commit"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
