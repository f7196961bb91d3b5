//! Rows of `sink.type = "http"` one by one: pieces of records that are refused, by us or by the API; what a request says beside
//! its rows; rows that keep their order by key; and plans that others have left.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::api::{Api, Reaction, Request, say};
use crate::brokers::{files, until};
use crate::http_sink::{Rig, said, term};

const ALL: &str = "[errors]\ntolerance = \"all\"\n";

/// A pipeline that reads `lines` of JSON from a file, one message each.
fn of_lines(api: &Api, lines: &[Value], sink: &str, rest: &str) -> Rig {
    let rig = Rig::new(api, "", sink, rest);
    let config = fs::read_to_string(rig.path("post.toml")).unwrap();
    let config = config.replace(
        "type = \"rate\"\nrows.per.second = 1000000\n",
        "type = \"file\"\nurl = \"file:in\"\nformat = \"jsonl\"\nsettle.time = \"0s\"\n",
    );
    fs::write(rig.path("post.toml"), config).unwrap();
    fs::create_dir(rig.path("in")).unwrap();
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(rig.path("in/a.jsonl"), lines).unwrap();
    rig
}

/// Rows and dead letters of each record: what cannot be sent counts by `errors.unit`, what the API refuses row by row.
#[test]
fn a_piece_that_cannot_be_sent_and_one_that_the_api_refuses_leave_the_others_alone() {
    let items = |docs: &[&str]| -> Value {
        let items: Vec<Value> = docs.iter().map(|doc| json!({ "doc": doc })).collect();
        json!({ "items": items })
    };
    let messages = [
        items(&["{\"value\": 0}", "{\"value\": 1}"]),
        items(&["{\"value\": 2}", "no json"]),
        items(&["{\"value\": 100}", "{\"value\": 3}"]),
        items(&["{\"value\": 101}", "{\"value\": 102}"]),
    ];
    let transforms = "[[transforms]]\nname = \"flatten\"\ntype = \"json-flatten\"\nexplode = \"/items\"\ncolumns = \"./doc\"\n";
    for (unit, sent, letters) in [
        (
            "row",
            vec![0, 1, 2, 3],
            ["http_422", "http_422", "http_422", "not_json"],
        ),
        (
            "record",
            vec![0, 1, 3],
            ["http_422", "http_422", "http_422", "not_json"],
        ),
    ] {
        let api = Api::new(|request: &Request, _| match request.numbers()[0] >= 100 {
            true => say(422),
            false => Reaction::Take,
        });
        let rest = format!("{transforms}{ALL}unit = \"{unit}\"\n");
        let rig = of_lines(&api, &messages, "http.batch.rows = 1\n", &rest);
        let config = fs::read_to_string(rig.path("post.toml")).unwrap();
        let config = config.replace("json.column = \"value\"", "json.column = \"doc\"");
        fs::write(rig.path("post.toml"), config).unwrap();
        rig.ran();
        assert_eq!(
            api.numbers().into_keys().collect::<Vec<_>>(),
            sent,
            "{unit}"
        );
        rig.adds_up(sent.len() as u64, 4);
        let mut codes: Vec<String> = rig
            .dead_letters()
            .into_iter()
            .map(|(_, code, _)| code)
            .collect();
        codes.sort();
        assert_eq!(codes, letters, "{unit}");
        let records = rig.log().unwrap().state().totals().records;
        let with_rows = if unit == "row" { 3 } else { 2 };
        assert_eq!((records.read, records.with_rows), (4, with_rows), "{unit}");
    }
}

#[test]
fn a_request_has_the_method_the_header_of_its_key_and_the_coordinates_that_were_asked_for() {
    let first = |sink: &str| {
        let api = Api::new(|_, _| Reaction::Take);
        let rig = Rig::new(&api, "rows.total = 3\n", sink, "");
        let config = fs::read_to_string(rig.path("post.toml")).unwrap();
        let config = match sink.contains("coordinates") {
            true => config.replace("http.json.column = \"value\"\n", ""),
            false => config,
        };
        fs::write(rig.path("post.toml"), config).unwrap();
        rig.ran();
        api.requests()[0].clone()
    };
    let request = first("http.method = \"PUT\"\nhttp.idempotency.header = \"X-Batch\"\n");
    assert_eq!(request.method, "PUT");
    assert!(
        request.headers["x-batch"].contains("-0-"),
        "{:?}",
        request.headers
    );
    assert!(!request.headers.contains_key("idempotency-key"));
    let request =
        first("http.idempotency.header = \"none\"\nhttp.content.type = \"text/x-rows\"\n");
    assert!(!request.headers.contains_key("idempotency-key"));
    assert_eq!(request.headers["content-type"], "text/x-rows");
    let request = first("http.coordinates = true\n");
    let row = &request.rows()[2];
    assert_eq!(
        (
            &row["_topic"],
            &row["_partition"],
            &row["_offset"],
            &row["_row"]
        ),
        (&json!("rate"), &json!(0), &json!(2), &json!(0)),
        "{row}"
    );
    assert_eq!(row["_timestamp"], "2026-01-01T00:00:00.002Z");
    assert!(
        row["value"].as_str().unwrap().contains("\"value\":2"),
        "{row}"
    );
}

#[test]
fn a_status_that_means_dead_letters_is_not_tried_again() {
    let api = Api::new(|_, _| say(503));
    let keys = "http.statuses.again = \"429\"\nhttp.statuses.letters = \"503\"\n";
    let rig = Rig::new(&api, "rows.total = 10\n", keys, ALL);
    rig.ran();
    assert_eq!(api.requests().len(), 1);
    rig.adds_up(0, 10);
}

/// A batch that is tried again holds up those of its key, and no others.
#[test]
fn rows_of_one_key_keep_their_order_and_others_pass_them() {
    let messages: Vec<Value> = (0..40).map(|n| json!({ "k": n % 2, "value": n })).collect();
    let api = Api::new(
        |request: &Request, number| match request.numbers() == [0] && number < 12 {
            true => say(503),
            false => Reaction::Take,
        },
    );
    let transforms = "[[transforms]]\nname = \"flatten\"\ntype = \"json-flatten\"\ncolumns = \"k, value\"\n\
                      types.k = \"long\"\ntypes.value = \"long\"\n";
    let keys = "http.batch.rows = 1\nhttp.in.flight = 4\nhttp.tries = 100\nhttp.order = \"key\"\nhttp.key.column = \"k\"\n";
    let rig = of_lines(&api, &messages, keys, transforms);
    let config = fs::read_to_string(rig.path("post.toml")).unwrap();
    let config = config.replace("http.json.column = \"value\"\n", "");
    fs::write(rig.path("post.toml"), config).unwrap();
    rig.ran();
    let mut of_key: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    let taken: Vec<i64> = api.taken().iter().map(|r| r.numbers()[0]).collect();
    for number in &taken {
        of_key.entry(number % 2).or_default().push(*number);
    }
    assert_eq!(taken.len(), 40);
    assert!(
        of_key.values().all(|numbers| numbers.is_sorted()),
        "{taken:?}"
    );
    let first = taken.iter().position(|number| *number == 0);
    assert!(first > Some(3), "nothing passed it: {taken:?}");
}

#[test]
fn a_plan_that_says_something_else_stops_and_names_the_file_and_the_remedy() {
    let api = Api::new(|_, _| say(503));
    let rig = Rig::new(&api, "rows.total = 30\n", "http.batch.rows = 10\n", "");
    let child = rig.spawn();
    until("it is away", || {
        rig.told().contains("sink_unavailable").then_some(())
    });
    term(child);
    api.now_reacts(|_, _| Reaction::Take);
    let plans = files(&rig.path("home/_system/post/home/deliveries"), ".json");
    assert_eq!(plans.len(), 1, "{plans:?}");
    let plan = fs::read_to_string(&plans[0]).unwrap();
    for bad in [
        "{}".to_owned(),
        plan.replace("\"offset\":0", "\"offset\":1"),
    ] {
        fs::write(&plans[0], bad).unwrap();
        let output = rig.run();
        assert_eq!(output.status.code(), Some(1));
        let name = plans[0].file_name().unwrap().to_str().unwrap();
        for part in ["log_corrupt", "delivery plan", name, "delete it"] {
            assert!(said(&output).contains(part), "{part}: {}", said(&output));
        }
    }
    fs::write(&plans[0], plan).unwrap();
    rig.ran();
    rig.adds_up(30, 0);
    let keys: Vec<String> = api.requests().iter().map(|r| r.key().to_owned()).collect();
    assert!(
        keys.iter().all(|key| key[..26] == keys[0][..26]),
        "{keys:?}"
    );
}
