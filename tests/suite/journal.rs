//! The daemon's journal over days: many large configs, kills at any moment, and pages of what is left of them.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::brokers::until;
use crate::daemon_rig::{Rig, Running};

/// Of one config.
const LARGE: usize = 800_000;
/// What is kept of one pipeline (1 MiB of history, its creation, its newest config) and 16 MiB that need not be, with room
/// for the change that passes it.
const JOURNAL_MAX: u64 = 22 << 20;

/// The names of topics that are not there make it large.
fn large(rig: &Rig, number: usize) -> BTreeMap<String, String> {
    let topics: Vec<String> = (0..LARGE / 200)
        .map(|n| format!("t{number}-{n}-{}", "x".repeat(185)))
        .collect();
    let file = rig.path("out.txt").display().to_string();
    BTreeMap::from([
        ("connector.class".to_owned(), "FileStreamSink".to_owned()),
        ("topics".to_owned(), topics.join(",")),
        ("file".to_owned(), file),
    ])
}

fn number(config: &Value) -> usize {
    let topics = config["topics"].as_str().expect("topics");
    let (first, _) = topics.split_once('-').expect("a topic");
    first[1..].parse().expect("a number")
}

/// The broker is there so that the config is good; nothing reads from it.
fn start(rig: &mut Rig) -> Running {
    let brokers = format!("bootstrap.servers={}", rig.broker.bootstrap());
    rig.start(&[&brokers])
}

fn made(rig: &Rig, daemon: &Running) {
    let body = json!({"name": "p", "config": large(rig, 0), "initial_state": "STOPPED"});
    let answer = daemon.ask("POST", "/connectors", Some(&body));
    assert_eq!(answer.status, 201, "{}", answer.text());
}

fn len(rig: &Rig) -> u64 {
    let journal = fs::metadata(rig.path("data/journal"));
    journal.expect("journal").len()
}

fn said(rig: &Rig, what: &str) -> usize {
    rig.log().lines().filter(|line| line.contains(what)).count()
}

/// Peak of its memory, bytes.
fn peak(daemon: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("status");
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse().ok())
        .map_or(0, |kib: u64| kib << 10)
}

#[test]
fn many_large_configs_leave_a_bounded_journal_and_pages_of_it() {
    let mut rig = Rig::new(&[]);
    let daemon = start(&mut rig);
    made(&rig, &daemon);
    // As a full disk would be: nothing is lost, and it is said once.
    let in_the_way = rig.path("data/journal.new/x");
    fs::create_dir_all(&in_the_way).expect("directory");
    let change = |n: usize| {
        let answer = daemon.put_config("p", &large(&rig, n));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(number(&answer.json()["config"]), n);
    };
    (1..=66).for_each(change);
    assert!(len(&rig) > 2 * JOURNAL_MAX, "{}", len(&rig));
    assert_eq!(said(&rig, "could not be written anew"), 1, "{}", rig.log());
    fs::remove_dir_all(rig.path("data/journal.new")).expect("out of the way");
    for n in 67..=150 {
        change(n);
        assert!(n < 100 || len(&rig) < JOURNAL_MAX, "{}", len(&rig));
    }
    assert!(said(&rig, "was written anew") > 2, "{}", rig.log());
    let page = daemon.get("/pipelines/p/configs?limit=1");
    assert_eq!(page["changes"].as_array().map(Vec::len), Some(1));
    assert_eq!(number(&page["changes"][0]["config"]), 150);
    assert_eq!((&page["more"], &page["next"]), (&json!(true), &json!(1)));
    let page = daemon.get("/pipelines/p/configs?limit=1000&skip=1");
    assert_eq!(page["changes"][0]["what"], "created");
    assert_eq!(
        (&page["more"], &page["next"]),
        (&json!(false), &Value::Null)
    );
    daemon.kill();

    let daemon = start(&mut rig);
    assert_eq!(number(&daemon.get("/connectors/p/config")), 150);
    assert!(peak(&daemon) < 200 << 20, "{}", peak(&daemon));
    assert_eq!(daemon.ask("DELETE", "/connectors/p", None).status, 204);
    let answer = daemon.ask("GET", "/pipelines/p/configs?limit=1000", None);
    assert!(answer.text().len() < 2 << 20, "{}", answer.text().len());
    assert_eq!(
        answer.json()["changes"]
            .as_array()
            .map(|c| c.last().map(|c| c["what"].clone())),
        Some(Some(json!("deleted")))
    );
}

/// Killed while one large config after another comes, and so also while the journal is written anew.
#[test]
fn killed_while_the_journal_is_written_anew_it_knows_all_that_it_answered() {
    let mut rig = Rig::new(&[]);
    let mut daemon = start(&mut rig);
    made(&rig, &daemon);
    let (mut next, mut anew) = (1, 0);
    for round in 0..6 {
        let answered = AtomicUsize::new(next - 1);
        let stop_after = next + 20 + 7 * round;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in next.. {
                    let body = json!(large(&rig, n));
                    match daemon.try_ask("PUT", "/connectors/p/config", Some(&body)) {
                        Some(answer) if answer.status == 200 => {
                            answered.store(n, Ordering::SeqCst);
                        }
                        _ => return,
                    }
                }
            });
            // In the middle of a change, or of writing the file anew where there is one.
            until("changes", || {
                let at = answered.load(Ordering::SeqCst);
                let copying = rig.path("data/journal.new").exists();
                (at >= stop_after || (at > next && copying)).then_some(())
            });
            daemon.signal(9);
        });
        anew += usize::from(rig.path("data/journal.new").exists());
        drop(daemon);
        let answered = answered.load(Ordering::SeqCst);
        daemon = start(&mut rig);
        let found = number(&daemon.get("/connectors/p/config"));
        assert!(
            (answered..=answered + 1).contains(&found),
            "{answered} {found}"
        );
        assert!(!rig.path("data/journal.new").exists());
        assert!(len(&rig) < JOURNAL_MAX, "{}", len(&rig));
        next = answered + 2;
    }
    println!("killed while it was written anew: {anew} of 6");
}
