//! Text that others wrote never controls the reader's terminal: reasons, names, fields, messages, counters, traces,
//! from a directory and over HTTP, as text and as JSON.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use serde_json::{Value, json};
use weir::chain::{Records, Rows};
use weir::clock::SystemClock;
use weir::commit::{
    Draft, Log, LogName, Open, Outcome, PreparedCommit, Rewind, Span, Swap, Writer,
};
use weir::record::SplitId;
use weir::store;

use crate::rest_rig::Rig;

/// Clears the screen, rings, forges a line, rings by C1, deletes, and turns the rest around in three ways.
const HOSTILE: &str =
    "x\u{1b}[2J\u{7}\r\nVERSION 99 forged\u{9b}31m\u{7f}\u{202e}\u{2066}\u{200f}\u{2028}y";
const SHOWN: &str = "x\\u{1b}[2J";

fn weir(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.env_remove("WEIR_URL").args(args);
    command.output().expect("weir runs")
}

/// Nothing but our own line ends and tabs, and no line that the hostile text began.
fn is_clean(output: &Output, what: &str) -> String {
    let mut all = String::new();
    for bytes in [&output.stdout, &output.stderr] {
        let text = std::str::from_utf8(bytes).expect("UTF-8");
        for c in text.chars() {
            let hidden = (c.is_control() && !matches!(c, '\n' | '\t'))
                || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            assert!(!hidden, "{what}: {c:?} in {text:?}");
        }
        all.push_str(text);
    }
    assert!(
        !all.lines().any(|line| line.starts_with("VERSION 99")),
        "{what}: a forged line in {all}"
    );
    all
}

fn shows_it(output: &Output, what: &str) {
    let all = is_clean(output, what);
    let json = SHOWN.replace("\\u{1b}", "\\u001b");
    assert!(all.contains(SHOWN) || all.contains(&json), "{what}: {all}");
}

fn committed(log: &mut Log, draft: Draft) {
    let done = log.commit(draft).expect("commit");
    assert!(matches!(done, Outcome::Committed { .. }), "{done:?}");
}

/// A swap, a data entry with a counter, and a rewind, all of them with hostile words.
fn hostile_log(root: &Path) {
    let store = store::open_url(&format!("file:{}", root.display())).expect("store");
    let clock = SystemClock::shared();
    let writer = Writer::this_process(&*clock);
    let name = LogName::new("p", "z");
    let mut log = Log::open_or_init(store, name, clock, writer, Vec::new()).expect("log");
    let chain = SplitId::from("t/0".to_owned());
    let open = Open {
        split: chain.clone(),
        topic: "t".to_owned(),
        partition: 0,
        offset: 0,
        start: "earliest".to_owned(),
    };
    committed(&mut log, Draft::Open(vec![open]));
    let swap = Swap {
        replaces: 0,
        transforms: Vec::new(),
        actor: HOSTILE.to_owned(),
        reason: HOSTILE.to_owned(),
        block: Vec::new(),
        force: false,
        declared: None,
    };
    committed(&mut log, Draft::Swap(swap));
    let span = Span {
        split: chain.clone(),
        epoch: 0,
        from: 0,
        to: 1,
        lost: 0,
        records: Records {
            read: 1,
            filtered: 1,
            ..Records::default()
        },
        rows: Rows::default(),
        dead_letters: 0,
    };
    let sums = BTreeMap::from([(HOSTILE.to_owned(), 1)]);
    let receipt = PreparedCommit {
        base: log.version(),
        generation: log.state().generation(),
        spans: vec![span],
        files: Vec::new(),
        deliveries: Vec::new(),
        counters: BTreeMap::from([(HOSTILE.to_owned(), sums)]),
    };
    let receipts = vec![receipt];
    committed(
        &mut log,
        Draft::Data {
            receipts,
            swap: None,
        },
    );
    let back = log
        .state()
        .back_to(&BTreeMap::from([(chain, 0)]))
        .expect("a border");
    let rewind = Rewind {
        actor: HOSTILE.to_owned(),
        reason: HOSTILE.to_owned(),
        readers: Vec::new(),
        follows: None,
    };
    let base = log.version();
    let rests = Vec::new();
    committed(
        &mut log,
        Draft::Rewind {
            rewind,
            back,
            rests,
            base,
        },
    );
}

#[test]
fn reasons_actors_and_counters_in_a_log_are_shown_as_text() {
    let dir = tempfile::tempdir().expect("directory");
    hostile_log(dir.path());
    let root = dir.path().display().to_string();
    for verb in [vec!["log"], vec!["pipeline", "history"]] {
        for json in [&[][..], &["--json"]] {
            let args = [verb.as_slice(), &[&root], json].concat();
            shows_it(&weir(&args), &args.join(" "));
        }
    }
}

#[test]
fn a_hostile_name_on_the_command_line_is_shown_as_text() {
    shows_it(&weir(&["pipeline", "history", HOSTILE]), "history");
    shows_it(&weir(&["log", HOSTILE]), "log");
    shows_it(&weir(&["check", HOSTILE]), "check");
}

#[test]
fn a_reason_is_bounded_at_every_door() {
    let long = "x".repeat(5000);
    for verb in ["swap", "rollback", "rewind"] {
        let output = weir(&["pipeline", verb, "p", "--reason", &long]);
        assert_eq!(output.status.code(), Some(2), "{verb}");
        let told = is_clean(&output, verb);
        assert!(told.contains("at most 4096"), "{verb}: {told}");
    }
    let rig = Rig::new(&[]);
    rig.stopped("p");
    for verb in ["rollback", "rewind"] {
        let body = json!({ "reason": long });
        let reply = rig.send("POST", &format!("/pipelines/p/{verb}"), &body);
        assert_eq!(reply.status, 400, "{}", reply.text());
        assert!(reply.message().contains("at most 4096"), "{}", reply.text());
    }
}

/// A daemon that says hostile things in every field. Raw: its JSON escapes only what JSON must.
fn hostile_daemon() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("port");
    let addr = listener.local_addr().expect("address");
    thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).is_ok_and(|n| n == 1) {
                head.extend_from_slice(&byte);
            }
            let head = String::from_utf8_lossy(&head);
            let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
            let (status, body) = answer(path.split('?').next().unwrap_or("/"));
            let text = body.to_string();
            let reply = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n\
                 content-length: {}\r\n\r\n{text}",
                text.len()
            );
            drop(socket.write_all(reply.as_bytes()));
        }
    });
    addr
}

fn answer(path: &str) -> (&'static str, Value) {
    let h = || HOSTILE;
    let rule =
        json!({ "transform": h(), "plugin": h(), "version": h(), "component": h(), "config": h() });
    let ledgers = json!({ "records": Records::default(), "rows": Rows::default() });
    let position = json!({ "split": h(), "topic": h(), "partition": 0, "start": 0, "to": 1 });
    let pipeline = json!({
        "name": h(), "type": "sink", "state": h(), "target": "RUNNING", "trace": h(),
        "tasks": [{ "id": 0, "state": h(), "trace": h() }],
        "log": { "log": h(), "url": h(), "version": 1, "generation": 0, "transforms": [rule], "dead_letters": 1, "closes": true,
            "records": ledgers["records"], "rows": ledgers["rows"], "positions": [position] },
    });
    let entry = json!({
        "log": h(), "digest": h(), "format": 2, "version": 1, "parent": h(), "kind": "rewind", "attempt": h(),
        "writer": { "id": h(), "started": 1 }, "base": 0, "time": 1,
        "rewind": { "actor": h(), "reason": h() }, "counters": { h(): { h(): 1 } },
    });
    let period = json!({
        "log": h(), "generation": 0, "until": null, "transforms": [rule], "time": 1, "actor": h(), "reason": h(), "block": [h()],
        "ranges": [{ "split": h(), "topic": h(), "partition": 0, "from": 0, "to": 1 }],
        "force": false, "in_force": true, "blocked": false,
    });
    let letter = json!({
        "topic": h(), "partition": 0, "offset": 1, "row": null, "timestamp": h(), "transform": h(), "plugin": h(),
        "version": h(), "component": h(), "config": h(), "key": "G1s=", "value": "G1sySsKb4oCu",
        "value_text": h(), "headers": [{ "name": h(), "value": "G1s=" }], "file": h(),
        "errors": [{ "code": h(), "field": h(), "message": h() }], "holds_bytes": true,
    });
    let body = match path {
        "/pipelines" => json!([pipeline]),
        "/pipelines/p" => pipeline,
        "/pipelines/p/log" => json!({
            "log": h(), "version": 1, "entries": [entry], "next": null, "before": null,
            "records": ledgers["records"], "rows": ledgers["rows"], "closes": true,
            "counters": { h(): { h(): 1 } }, "positions": [position],
        }),
        "/pipelines/p/history" => {
            json!({ "log": h(), "url": h(), "periods": [period], "more": false })
        }
        "/pipelines/p/dlq/counts" => {
            json!([{ "pipeline": h(), "code": h(), "field": h(), "dead_letters": 1 }])
        }
        "/pipelines/p/dlq" => json!({ "dead_letters": [letter], "next": null }),
        "/connectors/p/config" => json!({ h(): h() }),
        "/connectors/p/offsets" => json!({ "offsets": [{
            "partition": { "kafka_topic": h(), "kafka_partition": 0 }, "offset": { "kafka_offset": 1 } }] }),
        _ => {
            return (
                "404 Not Found",
                json!({ "error_code": 404, "message": h() }),
            );
        }
    };
    ("200 OK", body)
}

#[test]
fn what_a_daemon_answers_is_shown_as_text_by_every_verb() {
    let url = format!("http://{}", hostile_daemon());
    for verb in [
        "log p",
        "dlq ls p",
        "dlq show p",
        "pipeline history p",
        "pipeline ls",
        "pipeline status p",
        "pipeline config p",
        "pipeline offsets p",
        // Refused, with hostile words.
        "pipeline pause q",
        "pipeline status q",
        "log q",
    ] {
        for json in ["", " --json"] {
            let line = format!("{verb} --url {url}{json}");
            let output = weir(&line.split(' ').collect::<Vec<_>>());
            shows_it(&output, &line);
        }
    }
}
