//! Rules, log and dead letters of a daemon's pipelines over HTTP, and the pipelines themselves by the verbs of the command
//! line.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::brokers::until;
use crate::remote::{Daemon, TOPIC, lines, message};
use crate::store::guest;
use crate::swap_rig::{PIPELINE, produce, text};

#[test]
fn rules_are_swapped_rolled_back_and_blocked_in_a_running_pipeline() {
    let daemon = Daemon::start("");
    daemon.running();
    let swap = format!("/pipelines/{PIPELINE}/swap");
    let (status, body) = daemon.post(&swap, &json!({}));
    assert!(
        status == 400 && message(&body).contains("nothing to swap"),
        "{body}"
    );
    let by_name = json!({ "transforms": { "rules": "guest-table@1.0.0" } });
    let (status, body) = daemon.post(&swap, &by_name);
    assert!(
        status == 400 && message(&body).contains("no plugin `guest-table`"),
        "{status} {body}"
    );
    assert_eq!(daemon.push("", &guest()).0, 201);
    let (status, body) = daemon.post(&swap, &by_name);
    assert_eq!(status, 400, "{body}");
    assert_eq!(body["details"]["code"], "config_invalid");
    let columns = &body["details"]["swap"]["columns"];
    assert_eq!(columns["effect"], "breaking", "{body}");
    let changes = columns["changes"].as_array().unwrap();
    let gone = changes.iter().find(|c| c["column"] == "n");
    assert_eq!(gone.unwrap()["to"], "", "{columns}");

    let mut wanted = json!({ "transforms": { "rules": "guest-table@1.0.0" }, "allow_breaking": true, "dry_run": true });
    let (status, dry) = daemon.post(&swap, &wanted);
    assert_eq!(
        (status, &dry["state"], &dry["version"]),
        (200, &json!("dry_run"), &Value::Null)
    );
    assert_eq!(daemon.rig.periods().len(), 1, "a dry run writes nothing");
    wanted["dry_run"] = json!(false);
    wanted["reason"] = json!("to see");
    let (status, done) = daemon.post(&swap, &wanted);
    assert_eq!(
        (status, &done["state"]),
        (200, &json!("in_force")),
        "{done}"
    );
    assert_eq!(done["by_process"], true, "{done}");
    assert_eq!(done["transforms"][1]["plugin"], "guest-table");
    let periods = daemon.rig.periods();
    assert_eq!((periods.len(), periods[1].reason.as_str()), (2, "to see"));
    assert_eq!(periods[1].actor, "anonymous@127.0.0.1");
    let (_, yanked) = daemon.post("/plugins/guest-table/1.0.0/yank?dry_run=true", &json!(null));
    assert_eq!(yanked["in_force"][0]["pipeline"], PIPELINE, "{yanked}");

    // Back by the command line, which shows what it would have shown of files.
    let back = daemon.said(&["pipeline", "rollback", PIPELINE, "--reason", "seen"]);
    for line in [
        "TRANSFORM",
        "guest-table@1.0.0",
        "columns: breaking",
        "blocks sha256:",
        "in the running process",
    ] {
        assert!(back.contains(line), "{line}: {back}");
    }
    let (status, body) = daemon.post(&swap, &wanted);
    assert_eq!(
        (status, &body["details"]["code"]),
        (409, &json!("config_invalid")),
        "{body}"
    );
    assert!(message(&body).contains("blocked"), "{body}");
    let blocked = daemon.weir(&[
        "pipeline",
        "swap",
        PIPELINE,
        "rules=guest-table@1.0.0",
        "--allow-breaking",
    ]);
    assert_eq!(blocked.status.code(), Some(2), "{blocked:?}");
    assert!(
        text(&blocked.stderr).contains("hint: `weir pipeline history`"),
        "{blocked:?}"
    );
    let breaking = daemon.weir(&[
        "pipeline",
        "swap",
        PIPELINE,
        "rules=guest-table@1.0.0",
        "--force",
    ]);
    assert!(
        text(&breaking.stdout).contains("columns: breaking"),
        "{breaking:?}"
    );
    assert!(
        text(&breaking.stderr).contains("--allow-breaking"),
        "{breaking:?}"
    );
    let args = [
        "pipeline",
        "swap",
        PIPELINE,
        "rules=guest-table@1.0.0",
        "--allow-breaking",
        "--force",
    ];
    assert_eq!(daemon.json(&args)["by_process"], true);
    let (status, body) = daemon.post(
        &format!("/pipelines/{PIPELINE}/rollback"),
        &json!({ "to": 999 }),
    );
    assert!(
        status == 400 && message(&body).contains("no generation 999"),
        "{body}"
    );

    // A pipeline that stands still: the entry is written all the same.
    daemon.said(&["pipeline", "stop", PIPELINE]);
    until("the stop", || {
        (daemon.json(&["pipeline", "status", PIPELINE])["state"] == "STOPPED").then_some(())
    });
    let (status, done) = daemon.post(&format!("/pipelines/{PIPELINE}/rollback"), &json!({}));
    assert_eq!(
        (status, &done["by_process"]),
        (200, &json!(false)),
        "{done}"
    );
    let (_, history) = daemon.get(&format!("/pipelines/{PIPELINE}/history?limit=2"));
    let periods = history["periods"].as_array().unwrap();
    assert_eq!((periods.len(), &history["more"]), (2, &json!(true)));
    let told = lines(&daemon.said(&["pipeline", "history", PIPELINE, "--json"]));
    let here = daemon
        .command(&["pipeline", "history", "numbers.toml", "--json"])
        .output()
        .unwrap();
    assert_eq!(told, lines(&text(&here.stdout)));
    assert_eq!(told.len(), 5);
    assert_eq!(told[4]["in_force"], true);
}

#[test]
fn log_and_dead_letters_are_read_page_by_page() {
    let daemon = Daemon::start("");
    daemon.running();
    let at = format!("/pipelines/{PIPELINE}");
    let (_, page) = daemon.get(&format!("{at}/log?from=0&limit=1"));
    assert_eq!(
        (page["entries"][0]["kind"].as_str(), page["next"].as_u64()),
        (Some("init"), Some(1)),
        "{page}"
    );
    let newest = page["version"].as_u64().unwrap();
    let (_, page) = daemon.get(&format!("{at}/log?limit=1"));
    assert_eq!(
        (&page["entries"][0]["version"], &page["next"]),
        (&json!(newest), &Value::Null)
    );
    for wrong in [
        "/log?limit=0",
        "/log?limit=1001",
        "/log?from=x",
        "/dlq?after=x",
        "/history?limit=0",
    ] {
        assert_eq!(daemon.get(&format!("{at}{wrong}")).0, 400, "{wrong}");
    }
    // The same lines as from the files.
    for verb in [
        &["log", "-n", "0", "--json"][..],
        &["dlq", "ls"],
        &["dlq", "ls", "--json"],
        &["dlq", "show", "-n", "0"],
        &["dlq", "show", "--json", "--code", "above_max", "-n", "3"],
    ] {
        let (name, flags) = if verb[0] == "log" {
            verb.split_at(1)
        } else {
            verb.split_at(2)
        };
        let there = daemon.said(&[name, &[PIPELINE], flags].concat());
        let here = daemon
            .command(&[name, &["numbers.toml"], flags].concat())
            .output()
            .unwrap();
        assert_eq!(there, text(&here.stdout), "{verb:?}");
        assert!(!there.is_empty(), "{verb:?}: {there}");
    }
    assert!(daemon.said(&["log", PIPELINE]).contains("(ledger closes)"));

    let typo = daemon.weir(&["dlq", "show", PIPELINE, "--code", "abov_max"]);
    let told = text(&typo.stderr);
    assert_eq!(typo.status.code(), Some(2), "{told}");
    assert!(
        told.contains("no dead letter has the code `abov_max`"),
        "{told}"
    );
    assert!(told.contains("did you mean `above_max`?"), "{told}");
    // Known and not there, of somebody's own plugin, and with another filter.
    for asked in [
        &["bad_date"][..],
        &["isbn_check_digit"],
        &["abov_max", "--partition", "99"],
    ] {
        let args = [&["dlq", "show", PIPELINE, "--code"], asked].concat();
        assert_eq!(daemon.said(&args), "no dead letters\n", "{asked:?}");
    }

    let (_, all) = daemon.get(&format!("{at}/dlq?limit=1000"));
    let all = all["dead_letters"].as_array().unwrap().clone();
    let (mut paged, mut after) = (Vec::new(), Some(String::new()));
    while let Some(token) = after {
        let (_, page) = daemon.get(&format!("{at}/dlq?limit=3{token}"));
        paged.extend(page["dead_letters"].as_array().unwrap().clone());
        after = page["next"].as_str().map(|token| format!("&after={token}"));
    }
    assert_eq!(all.len(), 6);
    assert_eq!(paged, all, "pages come to the whole");
    let (topic, partition, offset) = (&all[0]["topic"], &all[0]["partition"], &all[0]["offset"]);
    let one = format!("{at}/dlq/{}/{partition}/{offset}", topic.as_str().unwrap());
    let (status, found) = daemon.get(&one);
    assert_eq!((status, &found["dead_letters"][0]), (200, &all[0]));
    let bytes = found["dead_letters"][0]["value"].as_str().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(bytes)
        .unwrap();
    let (partition, offset) = (partition.as_i64().unwrap() as i32, offset.as_i64().unwrap());
    assert_eq!(text(&bytes), crate::swap_rig::message(partition, offset));
    assert_eq!(daemon.get(&format!("{at}/dlq/{TOPIC}/0/99999")).0, 404);
    assert_eq!(daemon.get(&format!("{at}/dlq/{TOPIC}/x/1")).0, 404);
    assert_eq!(daemon.get("/pipelines/nobody/log").0, 404);
}

/// Positions go back while it is stopped, and what was read is read again.
fn rewound(daemon: &Daemon) {
    let rewind = ["pipeline", "rewind", PIPELINE, "numbers/0=0"];
    let running = daemon.weir(&rewind);
    assert_eq!(running.status.code(), Some(1), "{running:?}");
    assert!(text(&running.stderr).contains("STOPPED"), "{running:?}");
    // It returns when the pipeline is stopped: what comes next needs that.
    let said = daemon.said(&["pipeline", "stop", PIPELINE]);
    assert_eq!(said, format!("{PIPELINE}: stopped\n"));
    let dry = daemon.json(&[&rewind[..], &["--dry-run"]].concat());
    assert_eq!(
        (&dry["moved"][0]["to"], &dry["version"]),
        (&json!(0), &Value::Null)
    );
    let done = daemon.json(&[&rewind[..], &["--reason", "once more"]].concat());
    let (_, page) = daemon.get(&format!("/pipelines/{PIPELINE}/log?limit=1"));
    let entry = &page["entries"][0];
    assert_eq!(entry["version"], done["version"], "{page}");
    let by = &entry["rewind"];
    assert_eq!(
        (&by["actor"], &by["reason"]),
        (&json!("anonymous@127.0.0.1"), &json!("once more"))
    );
    let bad = json!({ "to": ["numbers"] });
    assert_eq!(
        daemon
            .post(&format!("/pipelines/{PIPELINE}/rewind"), &bad)
            .0,
        400
    );
    daemon.said(&["pipeline", "resume", PIPELINE]);
    daemon.settled(20);
}

#[test]
fn pipelines_are_managed_from_the_command_line() {
    let daemon = Daemon::start("");
    assert!(
        daemon
            .said(&["pipeline", "ls"])
            .starts_with("no pipelines at http://")
    );
    let created = daemon.said(&["pipeline", "create", "numbers.toml", "--state", "stopped"]);
    assert_eq!(created, "numbers: created, STOPPED\n");
    let twice = daemon.weir(&["pipeline", "create", "numbers.toml"]);
    assert_eq!(twice.status.code(), Some(1), "{twice:?}");
    assert!(text(&twice.stderr).contains("error[conflict]"), "{twice:?}");
    let early = daemon.weir(&["pipeline", "history", PIPELINE]);
    assert!(text(&early.stderr).contains("has no log yet"), "{early:?}");
    assert_eq!(
        daemon.get(&format!("/pipelines/{PIPELINE}")).1["log"],
        Value::Null
    );
    produce(&daemon.rig, 0..10);
    daemon.said(&["pipeline", "resume", PIPELINE]);
    daemon.settled(20);
    let shown = daemon.said(&["pipeline", "status", PIPELINE]);
    for line in [
        "numbers  RUNNING (target RUNNING)",
        "rules=validate@0.1.0",
        "(ledger closes)",
        "position numbers/1 at 10",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let listed = daemon.json(&["pipeline", "ls"]);
    assert_eq!(
        (&listed["name"], &listed["target"]),
        (&json!(PIPELINE), &json!("RUNNING"))
    );
    let (_, with_log) = daemon.get("/pipelines?expand=log");
    assert_eq!(with_log[0]["log"]["records"]["read"], 20, "{with_log}");
    daemon.said(&["pipeline", "pause", PIPELINE]);
    until("the pause", || {
        (daemon.json(&["pipeline", "status", PIPELINE])["state"] == "PAUSED").then_some(())
    });
    daemon.said(&["pipeline", "resume", PIPELINE]);
    daemon.said(&["pipeline", "restart", PIPELINE]);
    let config = daemon.said(&["pipeline", "config", PIPELINE]);
    assert!(config.contains("sink.table=numbers\n"), "{config}");
    let set = [
        "pipeline",
        "config",
        PIPELINE,
        "numbers.toml",
        "--set",
        "sink.rotate.age=300ms",
    ];
    assert_eq!(daemon.said(&set), "numbers: config replaced\n");
    assert_eq!(
        daemon.json(&["pipeline", "config", PIPELINE])["sink.rotate.age"],
        "300ms"
    );
    let (_, changes) = daemon.get(&format!("/pipelines/{PIPELINE}/configs"));
    let what: Vec<&str> = (changes["changes"].as_array().unwrap().iter())
        .map(|c| c["what"].as_str().unwrap())
        .collect();
    assert_eq!(
        (what[0], what.iter().filter(|w| **w == "config").count()),
        ("created", 1),
        "{what:?}"
    );
    let offsets = daemon.said(&["pipeline", "offsets", PIPELINE]);
    assert!(offsets.contains("kafka_topic=numbers"), "{offsets}");
    daemon.settled(20);
    rewound(&daemon);
    daemon.said(&["pipeline", "delete", PIPELINE]);
    assert_eq!(daemon.get(&format!("/pipelines/{PIPELINE}")).0, 404);
    let (status, changes) = daemon.get(&format!("/pipelines/{PIPELINE}/configs?limit=1"));
    assert_eq!(
        (status, &changes["changes"][0]["what"]),
        (200, &json!("deleted")),
        "{changes}"
    );
    assert_eq!(
        daemon.rig.log().state().totals().records.read,
        20,
        "the log stays"
    );
    for verb in ["status", "pause", "delete", "config", "swap"] {
        let unknown = daemon.weir(&["pipeline", verb, "nobody"]);
        assert_eq!(unknown.status.code(), Some(2), "{verb}: {unknown:?}");
    }
}
