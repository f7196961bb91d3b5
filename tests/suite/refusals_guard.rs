//! `errors.max.*`: refusals that jump after a swap are taken back once, then pause; and progress in Spark's names beside it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use weir::clock::SystemClock;
use weir::config::from_map;
use weir::connectors::CATALOG;
use weir::operations::guard::{in_force, roll_back};
use weir::plugin::{Places, Plugins};

use crate::api::{Api, Reaction, Request, say};
use crate::brokers::until;
use crate::case::{Case, said};
use crate::daemon_rig::{Rig, Running};
use crate::http_sink;
use crate::world::plugins_dir;

const NAME: &str = "numbers";

/// Rules that take numbers up to this.
fn rules(rig: &Rig, most: u32) {
    fs::write(
        rig.path("rules.toml"),
        format!("[columns.n]\nmax = {most}\n"),
    )
    .unwrap();
}

fn send(rig: &Rig, number: u32, times: usize) {
    let value = format!("<m><r><n>{number}</n></r></m>");
    rig.produce("t", &vec![value.as_str(); times]);
}

fn began(set: &[&str], more: &[(&str, &str)]) -> (Rig, Running) {
    let mut rig = Rig::new(&["t"]);
    rules(&rig, 49);
    let daemon = rig.start(set);
    let config = rig.config("t", &keys(more));
    let answer = daemon.put_config(NAME, &config);
    assert_eq!(answer.status, 201, "{}", answer.text());
    (rig, daemon)
}

fn keys<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut keys = vec![
        ("errors.tolerance", "all"),
        ("transforms", "flatten,rules"),
        ("transforms.flatten.type", "xml-flatten"),
        ("transforms.flatten.row-tag", "r"),
        ("transforms.flatten.columns", "n"),
        ("transforms.flatten.types.n", "int"),
        ("transforms.rules.type", "validate"),
        ("transforms.rules.rules", "rules.toml"),
    ];
    keys.extend(more);
    keys
}

fn committed(daemon: &Running, offset: i64) {
    until("the commit", || {
        (daemon.position(NAME) == Some(offset)).then_some(())
    });
}

fn alarm(daemon: &Running) -> String {
    let shown = daemon.get(&format!("/pipelines/{NAME}"));
    shown["alarm"].as_str().unwrap_or("").to_owned()
}

fn metric(daemon: &Running, series: &str) -> f64 {
    let text = daemon.ask("GET", "/metrics", None).text();
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0.0, |value| value.trim().parse().unwrap())
}

/// The same words in status, log and history.
#[test]
fn a_jump_after_a_swap_is_taken_back_and_the_next_one_pauses() {
    let keys = [
        ("errors.max.rate", "0.5"),
        ("errors.max.min.records", "20"),
        ("errors.max.action", "rollback"),
    ];
    let (mut rig, daemon) = began(&[], &keys);
    send(&rig, 1, 30);
    committed(&daemon, 30);
    rules(&rig, 0);
    let swapped = daemon.ask(
        "POST",
        &format!("/pipelines/{NAME}/swap"),
        Some(&json!({ "reload": true })),
    );
    assert_eq!(swapped.status, 200, "{}", swapped.text());
    send(&rig, 1, 25);
    let told = until("the rollback", || {
        Some(alarm(&daemon)).filter(|alarm| alarm.contains("in force again"))
    });
    assert!(
        told.starts_with("25 of 25 records were refused within 5 min 00 s (100.0 %), more than errors.max.rate = 0.5 allows"),
        "{told}"
    );
    let history = daemon.get(&format!("/pipelines/{NAME}/history"));
    let periods = history["periods"].as_array().unwrap();
    assert_eq!(periods.len(), 3, "{history}");
    assert_eq!(periods[0]["transforms"], periods[2]["transforms"]);
    assert_eq!(periods[2]["actor"], "errors.max");
    let reason = periods[2]["reason"].as_str().unwrap();
    assert!(told.starts_with(reason), "{reason}");
    assert!(rig.log().contains(reason), "the log says it too");
    assert_eq!(daemon.state(NAME), "RUNNING");
    // Now the records are bad: the rules before refuse them as well.
    send(&rig, 99, 25);
    until("the pause", || {
        (daemon.state(NAME) == "PAUSED").then_some(())
    });
    let told = until("the reason", || {
        Some(alarm(&daemon)).filter(|alarm| alarm.ends_with("; paused"))
    });
    assert!(told.contains("does not go further back"), "{told}");
    let periods = daemon.get(&format!("/pipelines/{NAME}/history"));
    assert_eq!(
        periods["periods"].as_array().unwrap().len(),
        3,
        "no second rollback"
    );
    let acts = |what: &str| {
        metric(
            &daemon,
            &format!("weir_guard_acts_total{{pipeline=\"{NAME}\",action=\"{what}\"}}"),
        )
    };
    assert_eq!(
        (acts("rollback"), acts("pause"), acts("warn")),
        (1.0, 1.0, 0.0)
    );
    assert_eq!(
        metric(
            &daemon,
            &format!("weir_pipeline_alarm{{pipeline=\"{NAME}\"}}")
        ),
        1.0
    );
    let configs = daemon.get(&format!("/pipelines/{NAME}/configs"));
    let last = configs["changes"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .clone();
    assert_eq!(
        (&last["by"], &last["target"]),
        (&json!("errors.max"), &json!("PAUSED"))
    );
    assert!(told.starts_with(last["why"].as_str().unwrap()), "{last}");
    // The next daemon does not bring it back, and still says why.
    daemon.kill();
    let daemon = rig.start(&[]);
    assert_eq!(daemon.state(NAME), "PAUSED");
    assert_eq!(alarm(&daemon), told);
    // A person does; the window begins anew.
    daemon.ask("PUT", &format!("/connectors/{NAME}/resume"), None);
    until("the start", || {
        (daemon.state(NAME) == "RUNNING" && alarm(&daemon).is_empty()).then_some(())
    });
}

fn swap(daemon: &Running) {
    let target = format!("/pipelines/{NAME}/swap");
    let answer = daemon.ask("POST", &target, Some(&json!({ "reload": true })));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Records are read and not committed.
fn gathered(daemon: &Running) {
    until("records that are read", || {
        let query = daemon.get(&format!("/pipelines/{NAME}/progress?limit=1"));
        (query["status"]["isTriggerActive"] == true).then_some(())
    });
}

/// The entry of a swap has the last rows of the rules before: what they refused is no reason to take the mend back.
#[test]
fn a_mend_that_comes_before_the_commit_is_left_in_force() {
    let keys = [
        ("errors.max.count", "0"),
        ("errors.max.action", "rollback"),
        ("sink.rotate.age", "1h"),
    ];
    let (rig, daemon) = began(&[], &keys);
    send(&rig, 1, 1);
    gathered(&daemon);
    rules(&rig, 0);
    swap(&daemon);
    send(&rig, 1, 25);
    gathered(&daemon);
    rules(&rig, 70);
    swap(&daemon);
    let told = || rig.log().matches("too many records are refused").count();
    assert_eq!((told(), alarm(&daemon)), (0, String::new()));
    // The guard's thread does one thing after another: had it been told of that entry, it would have acted by now.
    send(&rig, 99, 1);
    gathered(&daemon);
    daemon.ask("PUT", &format!("/connectors/{NAME}/stop"), None);
    until("what the guard says of the good rules", || {
        alarm(&daemon).ends_with("already").then_some(())
    });
    assert_eq!(told(), 1);
    let history = daemon.get(&format!("/pipelines/{NAME}/history"));
    let periods = history["periods"].as_array().unwrap();
    assert_eq!(periods.len(), 3, "{history}");
    assert_ne!(periods[2]["actor"], "errors.max");
    // The same where it was told before the mend, and comes to it later.
    daemon.kill();
    let rules = rig.path("rules.toml").display().to_string();
    let (plugins, store) = (plugins_dir().display().to_string(), rig.path("store"));
    let store = store.display().to_string();
    let mut of = rig.config("t", &self::keys(&keys));
    of.extend(
        [
            ("name", NAME),
            ("transforms.rules.rules", &rules),
            ("plugin.path", &plugins),
            ("plugin.store", &store),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    let of = of.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let config = from_map("test", of, &CATALOG).unwrap();
    let clock = SystemClock::shared();
    let order = |generation: &Value| {
        let plugins = Plugins::open(Places::of(&config)).unwrap();
        let plugins = plugins.with_compiler(env!("CARGO_BIN_EXE_weir"));
        let order = (generation.as_u64().unwrap(), "late");
        roll_back((&config, plugins), &clock, None, order).unwrap()
    };
    let [bad, good] = [&periods[1]["generation"], &periods[2]["generation"]];
    assert_eq!(order(bad), None);
    assert_eq!(in_force(&config, &clock).unwrap(), good.as_u64());
    let version = order(good);
    assert!(
        version.is_some() && in_force(&config, &clock).unwrap() == version,
        "{version:?}"
    );
}

/// What is committed at the stop may be too much; a stop is a person's, and stays one.
#[test]
fn a_pipeline_that_a_person_stops_stays_stopped() {
    let keys = [
        ("errors.max.count", "0"),
        ("errors.max.action", "pause"),
        ("sink.rotate.age", "1h"),
    ];
    let (mut rig, daemon) = began(&[], &keys);
    send(&rig, 99, 25);
    gathered(&daemon);
    daemon.ask("PUT", &format!("/connectors/{NAME}/stop"), None);
    let told = until("what the guard says", || {
        Some(alarm(&daemon)).filter(|alarm| alarm.ends_with("already"))
    });
    assert!(told.ends_with("its target is STOPPED already"), "{told}");
    let changes = daemon.get(&format!("/pipelines/{NAME}/configs"));
    let last = changes["changes"].as_array().unwrap().last().unwrap();
    assert_eq!(last["target"], "STOPPED", "{changes}");
    daemon.kill();
    let daemon = rig.start(&[]);
    assert_eq!(daemon.state(NAME), "STOPPED");
}

#[test]
fn a_warning_is_said_once_and_ends_where_it_is_over() {
    let keys = [("errors.max.count", "3"), ("errors.max.window", "1s")];
    let (rig, daemon) = began(&[], &keys);
    send(&rig, 99, 5);
    let told = until("the warning", || {
        Some(alarm(&daemon)).filter(|alarm| !alarm.is_empty())
    });
    assert_eq!(
        told,
        "5 of 5 records were refused within 1.0 s (100.0 %), more than errors.max.count = 3 allows"
    );
    let mut sent = 5;
    until("its end", || {
        send(&rig, 1, 1);
        sent += 1;
        alarm(&daemon).is_empty().then_some(())
    });
    assert_eq!(daemon.state(NAME), "RUNNING");
    assert_eq!(
        rig.log().matches("too many records are refused").count(),
        1,
        "{}",
        rig.log()
    );
}

/// A record that rules refuse in part and the API as well is one; one that only the API refuses is one more.
#[test]
fn what_rules_and_an_api_refuse_is_counted_by_records() {
    let refuses = |request: &Request, _: usize| match request.body.len() % 3 {
        0 => say(422),
        _ => Reaction::Take,
    };
    let transforms = "[[transforms]]\nname = \"flatten\"\ntype = \"xml-flatten\"\nrow-tag = \"book\"\n\
                      columns = [\"title\", \"publication_year\"]\ntypes.publication_year = \"int\"\n\
                      [[transforms]]\nname = \"rules\"\ntype = \"validate\"\nrules = \"rules.toml\"\n\
                      [errors]\ntolerance = \"all\"\nmax.count = ";
    let run = |most: u64| {
        let api = Api::new(refuses);
        let source = "rows.total = 200\nsample = \"dirty-books\"\nseed = 7\n";
        let errors = format!("{transforms}{most}\n");
        let rig = http_sink::Rig::new(&api, source, "http.batch.rows = 1\n", &errors);
        let config = fs::read_to_string(rig.path("post.toml")).unwrap();
        let config = config.replace("http.json.column = \"value\"\n", "");
        fs::write(rig.path("post.toml"), config).unwrap();
        fs::write(
            rig.path("rules.toml"),
            "[columns.publication_year]\nmin = 1950\n",
        )
        .unwrap();
        let output = rig.run();
        assert!(output.status.success(), "{}", said(&output));
        let totals = rig.log().unwrap().state().totals();
        (said(&output), rig.dead_letters(), totals.records)
    };
    let (quiet, letters, records) = run(200);
    assert!(!quiet.contains("too many"), "{quiet}");
    let of = |by_api: bool| -> BTreeSet<i64> {
        let letters = letters.iter();
        let letters = letters.filter(|(_, code, _)| (code == "http_422") == by_api);
        letters.map(|(offset, ..)| *offset).collect()
    };
    let (rules, api) = (of(false), of(true));
    let refused = rules.union(&api).count() as u64;
    let both = rules.intersection(&api).count();
    assert!(
        both > 0 && refused > records.refused.max(records.refused_in_part),
        "{both} {refused} {records:?}"
    );
    let (told, ..) = run(refused - 1);
    assert!(
        // The last commits may have none of them.
        told.contains(&format!(" {refused} of ")) && told.contains("records were refused"),
        "{refused}: {told}"
    );
}

/// Without a daemon nobody could bring it back: the process drains and ends, and is not started again by systemd.
#[test]
fn a_run_without_a_daemon_ends_and_says_why() {
    let case = Case::new("numbers", "zone");
    fs::write(case.path("rules.toml"), "[columns.value]\nmax = -1\n").unwrap();
    case.declare(
        "source.type = \"rate\"\nsource.rows.per.second = 500\nsink.type = \"zone\"\nsink.url = \"file:zone\"\n\
         sink.rotate.age = \"100ms\"\nerrors.tolerance = \"all\"\nerrors.max.rate = \"0.1\"\nerrors.max.action = \"pause\"\n",
        "[[transforms]]\nname = \"flatten\"\ntype = \"json-flatten\"\ncolumns = [\"value\"]\ntypes.value = \"long\"\n\
         [[transforms]]\nname = \"rules\"\ntype = \"validate\"\nrules = \"rules.toml\"\n",
    );
    let mut command = case.weir(&["run", "numbers.toml", "--progress", "json"]);
    let output = command.stdout(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let told = said(&output);
    assert!(
        told.contains("too many records are refused")
            && told.contains("errors.max.rate = 0.1")
            && told.contains("drained, because errors.max paused numbers"),
        "{told}"
    );
    let lines = String::from_utf8(output.stdout).unwrap();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last["sink"]["numOutputRows"], 0);
    assert_eq!(last["weir"]["deadLetters"], last["numInputRows"]);
    // What was read is committed.
    let log = case.log().unwrap();
    assert_eq!(
        log.state().totals().records.read,
        log.state().totals().records.refused
    );
}

/// As with one that fails later: what looks at `status` needs no other field.
#[test]
fn a_pipeline_that_cannot_begin_says_so_in_sparks_names() {
    let mut rig = Rig::new(&["t"]);
    let roots = |of: &Path| format!("rest.files.roots={}", of.display());
    let daemon = rig.start(&[&roots(rig.dir.path())]);
    let made = daemon.put_config(NAME, &rig.config("t", &[]));
    assert_eq!(made.status, 201, "{}", made.text());
    daemon.kill();
    // What it may use was taken from it meanwhile.
    let elsewhere = tempfile::tempdir().unwrap();
    let daemon = rig.start(&[&roots(elsewhere.path())]);
    until("the failure", || {
        (daemon.state(NAME) == "FAILED").then_some(())
    });
    let query = daemon.get(&format!("/pipelines/{NAME}/progress"));
    let (message, trace) = (&query["status"]["message"], &query["exception"]);
    let why = (message.as_str().unwrap()).strip_prefix("Terminated with exception: ");
    assert!(why.is_some_and(|why| why.contains("sink.url")), "{query}");
    assert_eq!(why, trace.as_str().unwrap().lines().next(), "{query}");
}

#[test]
fn what_a_pipeline_does_and_did_is_shown_in_sparks_names() {
    let (mut rig, daemon) = began(&[], &[]);
    let asked = |daemon: &Running, limit: u32| {
        daemon.get(&format!("/pipelines/{NAME}/progress?limit={limit}"))
    };
    let began = until("the start", || {
        Some(asked(&daemon, 1)).filter(|query| query["isActive"] == true)
    });
    assert_eq!(began["lastProgress"], Value::Null);
    send(&rig, 7, 10);
    committed(&daemon, 10);
    send(&rig, 99, 2);
    committed(&daemon, 12);
    let query = until("both commits", || {
        Some(asked(&daemon, 100)).filter(|query| {
            let recent = query["recentProgress"].as_array().unwrap();
            recent
                .iter()
                .map(|p| p["numInputRows"].as_u64().unwrap())
                .sum::<u64>()
                == 12
        })
    });
    let last = &query["lastProgress"];
    assert_eq!(
        last,
        query["recentProgress"].as_array().unwrap().last().unwrap()
    );
    assert_eq!(asked(&daemon, 1)["recentProgress"], json!([last]));
    assert_eq!(
        (&last["id"], &last["runId"]),
        (&query["id"], &query["runId"])
    );
    let source = &last["sources"][0];
    assert_eq!(source["endOffset"], json!({ "t": { "0": 12 } }));
    assert_eq!(source["latestOffset"], json!({ "t": { "0": 12 } }));
    assert_eq!(source["metrics"]["maxOffsetsBehindLatest"], "0");
    let beside = &last["weir"];
    assert_eq!(beside["deadLetters"], 2);
    assert_eq!(beside["rules"][1]["plugin"], "validate");
    assert!(
        beside["outputs"][0]["path"]
            .as_str()
            .unwrap()
            .starts_with("dead-t/"),
        "{beside}"
    );
    let latency = &beside["latency"];
    assert!(
        latency["p99"].as_u64().unwrap() < 60_000 && latency["records"].as_u64().unwrap() > 0,
        "{latency}"
    );
    assert!(
        last["eventTime"]["max"].as_str().unwrap() <= last["timestamp"].as_str().unwrap(),
        "{last}"
    );
    // The state is that of Spark's `status`, and a run has an id of its own.
    let rests = json!({
        "message": "Waiting for data to arrive", "isDataAvailable": false, "isTriggerActive": false,
    });
    until("the rest", || {
        let query = daemon.get(&format!("/pipelines/{NAME}/progress?limit=1"));
        (query["status"] == rests).then_some(())
    });
    daemon.ask("PUT", &format!("/connectors/{NAME}/pause"), None);
    let paused = until("the pause", || {
        Some(asked(&daemon, 1)).filter(|query| query["isActive"] == false)
    });
    assert_eq!(paused["status"]["message"], "Stopped");
    assert_eq!(
        (&paused["id"], &paused["runId"]),
        (&query["id"], &query["runId"])
    );
    daemon.ask("PUT", &format!("/connectors/{NAME}/resume"), None);
    let again = until("the next run", || {
        Some(asked(&daemon, 1)).filter(|query| query["isActive"] == true)
    });
    assert_eq!(again["id"], query["id"]);
    assert_ne!(again["runId"], query["runId"]);
    daemon.kill();
    // The log knows the same id.
    let config = rig.path("numbers.toml");
    let keys = rig.config("t", &[]);
    let text: String = keys.iter().map(|(k, v)| format!("{k} = {v:?}\n")).collect();
    fs::write(&config, format!("name = \"{NAME}\"\n{text}")).unwrap();
    let shown = std::process::Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["checkpoint", "show", "numbers.toml", "--json"])
        .current_dir(rig.dir.path())
        .output()
        .unwrap();
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["id"], query["id"]);
    let _next = rig.start(&[]);
}

/// Lines of the rule file, and what becomes of records that are committed; nothing is changed by it.
#[test]
fn a_dry_run_shows_lines_and_a_trial_shows_records() {
    let (rig, daemon) = began(&[], &[]);
    send(&rig, 1, 30);
    send(&rig, 60, 10);
    committed(&daemon, 40);
    let swap = format!("/pipelines/{NAME}/swap");
    let asked = |trial: Value| {
        let body = json!({ "reload": true, "dry_run": true, "trial": trial });
        daemon.ask("POST", &swap, Some(&body))
    };
    rules(&rig, 70);
    let shown = asked(json!(20)).json();
    let file = &shown["diff"][0]["files"][0];
    assert_eq!(
        (&shown["diff"][0]["transform"], &file["key"]),
        (&json!("rules"), &json!("rules"))
    );
    assert_eq!(
        file["lines"],
        json!([
            { "what": "same", "number": 1, "text": "[columns.n]" },
            { "what": "removed", "number": 2, "text": "max = 49" },
            { "what": "added", "number": 2, "text": "max = 70" },
        ])
    );
    let trial = &shown["trial"];
    let counts = |trial: &Value| {
        [
            "records",
            "same",
            "changed",
            "newly_refused",
            "newly_accepted",
        ]
        .map(|n| trial[n].as_u64().unwrap())
    };
    assert_eq!(counts(trial), [20, 10, 0, 0, 10], "{trial}");
    let example = &trial["examples"][0];
    assert_eq!(
        (&example["outcome"], &example["offset"]),
        (&json!("newly_accepted"), &json!(30))
    );
    assert_eq!(example["record"], "<m><r><n>60</n></r></m>");
    assert_eq!(example["after"]["rows"], json!(["{\"n\":60}"]));
    assert!(
        example["before"]["refusals"][0]
            .as_str()
            .unwrap()
            .starts_with("rules: above_max"),
        "{example}"
    );
    assert_eq!(
        trial["examples"].as_array().unwrap().len(),
        5,
        "a few of each"
    );
    rules(&rig, 0);
    let trial = &asked(json!(1000)).json()["trial"];
    assert_eq!(
        counts(trial),
        [40, 10, 0, 30, 0],
        "all that there are: {trial}"
    );
    assert_eq!(trial["refusals"], json!({ "rules": { "above_max": 40 } }));
    // Nothing was written, and no position moved.
    assert_eq!(
        daemon.get(&format!("/pipelines/{NAME}/history"))["periods"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(daemon.position(NAME), Some(40));
    for (body, says) in [
        (json!({ "reload": true, "trial": 5 }), "dry_run"),
        (
            json!({ "reload": true, "dry_run": true, "trial": 0 }),
            "1 to 10000",
        ),
        (
            json!({ "reload": true, "dry_run": true, "trial": 10_001 }),
            "1 to 10000",
        ),
    ] {
        let answer = daemon.ask("POST", &swap, Some(&body));
        assert!(
            answer.status == 400 && answer.text().contains(says),
            "{}",
            answer.text()
        );
    }
    // The same on the command line, in 80 columns.
    let text = std::process::Command::new(env!("CARGO_BIN_EXE_weir"))
        .args([
            "pipeline",
            "swap",
            NAME,
            "--reload",
            "--dry-run",
            "--trial",
            "20",
        ])
        .args(["--url", &format!("http://{}", daemon.addr)])
        .output()
        .unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    for line in [
        "rules.rules: 1 line removed, 1 line added",
        "  -   2  max = 49",
        "  +   2  max = 0",
        "trial: of 20 committed records, 10 the same, 0 changed, 10 newly refused, 0 newly",
        "  rules would refuse 20 as above_max",
        "newly refused  t/0@20",
        "  record  <m><r><n>1</n></r></m>",
        "dry run: nothing was written",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

/// Whoever listens hears of starts, commits and ends; whoever does not holds nothing up.
#[test]
fn a_webhook_is_told_and_never_waited_for() {
    let case = Case::new("numbers", "zone");
    let keys = "source.type = \"rate\"\nsource.rows.per.second = 100000\nsource.rows.total = 50\nsink.type = \"zone\"\n\
                sink.url = \"file:zone\"\nsink.rotate.age = \"100ms\"\n";
    case.declare(keys, "");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hook = format!("http://{}/secret-path", listener.local_addr().unwrap());
    let heard: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
    let hears = heard.clone();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = BufReader::new(socket.unwrap());
            // One connection is used again and again.
            while let Some(request) = request(&mut socket) {
                let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
                let ends = request.1["event"] == "terminated";
                hears.lock().unwrap().push(request);
                socket.get_mut().write_all(answer).unwrap();
                if ends {
                    return;
                }
            }
        }
    });
    let run = |hook: &str| {
        let mut command = case.weir(&[
            "run",
            "numbers.toml",
            "--available-now",
            "--progress",
            "none",
        ]);
        command.args([
            "--progress-webhook",
            hook,
            "--progress-webhook-authorization",
            "Bearer ${env:HOOK_TOKEN}",
        ]);
        let output = command.env("HOOK_TOKEN", "hunter2").output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert!(
            !said(&output).contains("secret-path") && !said(&output).contains("hunter2"),
            "{}",
            said(&output)
        );
        said(&output)
    };
    run(&hook);
    let heard = heard.lock().unwrap().clone();
    let events: Vec<&str> = heard
        .iter()
        .map(|(_, body)| body["event"].as_str().unwrap())
        .collect();
    assert!(events.len() >= 3 && events[0] == "started", "{events:?}");
    assert!(
        events[1..events.len() - 1]
            .iter()
            .all(|event| *event == "progress"),
        "{events:?}"
    );
    let (head, first) = &heard[1];
    assert!(
        head.to_lowercase()
            .contains("authorization: bearer hunter2"),
        "{head}"
    );
    assert_eq!(first["progress"]["runId"], heard[0].1["runId"]);
    assert_eq!(first["lost"], 0);
    let rows: u64 = heard
        .iter()
        .filter_map(|(_, body)| body["progress"]["numInputRows"].as_u64())
        .sum();
    assert_eq!(rows, 50);
    assert_eq!(heard.last().unwrap().1["exception"], Value::Null);
    // Nobody listens there any more.
    case.replace("source.rows.total = 50", "source.rows.total = 90");
    let told = run(&hook);
    assert_eq!(told.matches("does not take messages").count(), 1, "{told}");
    assert_eq!(case.settled(), 90);
}

/// Head and JSON body of the next request. `None`: the client left.
fn request(socket: &mut impl BufRead) -> Option<(String, Value)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if socket.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let lower = head.to_lowercase();
    let length = lower
        .split("content-length: ")
        .nth(1)?
        .split("\r\n")
        .next()?;
    let mut body = vec![0; length.parse().ok()?];
    socket.read_exact(&mut body).ok()?;
    Some((head, serde_json::from_slice(&body).ok()?))
}
