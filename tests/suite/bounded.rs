//! The cost of the daemon's answers depends on what they show, not on the length of the history. Work is counted, not
//! timed.

use std::path::Path;
use std::thread;

use serde_json::Value;
use weir::clock::SystemClock;
use weir::commit::{
    Draft, Entry, Log, LogName, Open, Outcome, Span, Swap, Writer, decode, digest, encode,
};
use weir::record::SplitId;
use weir::store;

use crate::brokers::until;
use crate::rest_rig::{Reply, Rig};

/// Commits of a busy pipeline within some hours.
const LONG: u64 = 20_000;

fn span(from: i64) -> Span {
    Span {
        split: SplitId::from("t/0".to_owned()),
        epoch: 0,
        from,
        to: from + 1,
        lost: 1,
        records: Default::default(),
        rows: Default::default(),
        dead_letters: 0,
    }
}

/// A valid log of a pipeline that does not run, whose newest version is `newest`, with `swaps` swaps before its end.
fn long_log(rig: &Rig, pipeline: &str, newest: u64, swaps: u64) {
    let config = rig.supervisor.pipeline(pipeline).expect("config");
    let name = LogName::new(pipeline, &config.home.zone);
    let store = store::open(&config.home.at).expect("store");
    let clock = SystemClock::shared();
    let writer = Writer::this_process(&*clock);
    let mut log = Log::open_or_init(store, name.clone(), clock, writer, Vec::new()).expect("log");
    let open = Open {
        split: SplitId::from("t/0".to_owned()),
        topic: "t".to_owned(),
        partition: 0,
        offset: 0,
        start: "earliest".to_owned(),
    };
    log.commit(Draft::Open(vec![open])).expect("open");
    log.commit(Draft::Gap(vec![span(0)])).expect("gap");
    for reason in 0..swaps {
        let swap = Swap {
            replaces: log.state().generation(),
            transforms: Vec::new(),
            declared: None,
            block: Vec::new(),
            force: false,
            actor: "a@b".to_owned(),
            reason: format!("{reason} {}", "why ".repeat(1000)),
        };
        let done = log.commit(Draft::Swap(swap)).expect("swap");
        assert!(matches!(done, Outcome::Committed { .. }), "{done:?}");
    }
    let root = config
        .home
        .at
        .url
        .strip_prefix("file:")
        .expect("a directory");
    lengthen(Path::new(root), &name, log.version(), newest);
}

/// What a committer would have written, without its waits for the disk.
fn lengthen(root: &Path, name: &LogName, from: u64, newest: u64) {
    let gap = root.join(name.entry(2));
    let mut entry: Entry = decode(&std::fs::read(gap).expect("gap"), "gap").expect("entry");
    let last = std::fs::read(root.join(name.entry(from))).expect("entry");
    let mut parent = digest(&last);
    for version in from + 1..=newest {
        entry.version = version;
        entry.base = version - 1;
        entry.parent = parent;
        entry.attempt = format!("{version:032x}");
        entry.spans = vec![span(i64::try_from(version - from).expect("small"))];
        let bytes = encode(&entry).expect("bytes");
        parent = digest(&bytes);
        std::fs::write(root.join(name.entry(version)), &bytes).expect("written");
    }
}

const PATHS: [&str; 5] = [
    "/pipelines/p",
    "/pipelines/p/history",
    "/pipelines/p/log?limit=5",
    "/pipelines/p/dlq/counts",
    "/connectors/p/offsets",
];

fn all_at_once(rig: &Rig, count: usize) -> Vec<Reply> {
    thread::scope(|scope| {
        let asked: Vec<_> = (0..count)
            .map(|at| scope.spawn(move || rig.get(PATHS[at % PATHS.len()])))
            .collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

#[test]
fn of_twenty_questions_at_once_one_reads_the_log_and_the_next_ones_read_nothing() {
    let rig = Rig::new(&[]);
    rig.stopped("p");
    long_log(&rig, "p", LONG, 0);
    for reply in all_at_once(&rig, 20) {
        match reply.status {
            200 => {}
            // Told to ask again rather than reading beside the first.
            503 => {
                assert_eq!(reply.header("retry-after"), Some("1"));
                assert!(reply.message().contains("ask again"), "{}", reply.text());
            }
            other => panic!("{other}: {}", reply.text()),
        }
    }
    until("an answer", || {
        (rig.get("/pipelines/p").status == 200).then_some(())
    });
    assert_eq!(rig.supervisor.log_entries_read(), LONG + 1);
    for reply in all_at_once(&rig, 20) {
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    assert_eq!(rig.supervisor.log_entries_read(), LONG + 1);
    let offsets = rig.get("/connectors/p/offsets").json();
    let at = &offsets["offsets"][0]["offset"]["kafka_offset"];
    assert_eq!(at.as_u64(), Some(LONG - 1));

    // What another process adds is read, and nothing else again.
    let config = rig.supervisor.pipeline("p").unwrap();
    let root = config.home.at.url.strip_prefix("file:").unwrap();
    let name = LogName::new("p", &config.home.zone);
    let last = std::fs::read(Path::new(root).join(name.entry(LONG))).unwrap();
    let mut next = decode(&last, "last").unwrap();
    next.version += 1;
    next.base += 1;
    next.parent = digest(&last);
    next.spans[0].from += 1;
    next.spans[0].to += 1;
    let path = Path::new(root).join(name.entry(LONG + 1));
    std::fs::write(path, encode(&next).unwrap()).unwrap();
    let shown = rig.get("/pipelines/p").json();
    assert_eq!(shown["log"]["version"].as_u64(), Some(LONG + 1));
    assert_eq!(rig.supervisor.log_entries_read(), LONG + 2);
}

#[test]
fn the_state_of_a_running_pipeline_answers_and_nobody_reads_its_log() {
    let rig = Rig::new(&[]);
    rig.stopped("p");
    long_log(&rig, "p", 1000, 0);
    let resumed = rig.bare("PUT", "/connectors/p/resume");
    assert_eq!(resumed.status, 202, "{}", resumed.text());
    // Questions before it has its log may read it themselves, once; `live` is there when it has it.
    until("a pipeline that has its log", || {
        let shown = rig.get("/pipelines/p").json();
        let there = shown["live"].is_object() && shown["log"]["version"] == 1000;
        there.then_some(())
    });
    let before = rig.supervisor.log_entries_read();
    assert!(before <= 1001, "{before}");
    for reply in all_at_once(&rig, 20) {
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let log = rig.get("/pipelines/p/log").json();
    assert_eq!(log["version"], 1000);
    assert_eq!(log["entries"].as_array().unwrap().len(), 100);
    assert_eq!(rig.supervisor.log_entries_read(), before);
}

fn versions(page: &Value) -> Vec<u64> {
    let entries = page["entries"].as_array().unwrap();
    entries
        .iter()
        .map(|e| e["version"].as_u64().unwrap())
        .collect()
}

#[test]
fn pages_go_back_from_the_newest_and_end_by_bytes() {
    let rig = Rig::new(&[]);
    rig.stopped("p");
    long_log(&rig, "p", 50, 20);
    let page = rig.get("/pipelines/p/log?limit=10").json();
    assert_eq!(versions(&page), (41..=50).collect::<Vec<u64>>());
    assert_eq!(
        (&page["next"], &page["before"]),
        (&Value::Null, &Value::from(41))
    );
    let page = rig.get("/pipelines/p/log?limit=10&before=41").json();
    assert_eq!(versions(&page), (31..=40).collect::<Vec<u64>>());
    assert_eq!(page["next"], 41);
    let page = rig.get("/pipelines/p/log?limit=100&before=11").json();
    assert_eq!(versions(&page), (0..=10).collect::<Vec<u64>>());
    assert_eq!(page["before"], Value::Null);
    let both = rig.get("/pipelines/p/log?from=1&before=2");
    assert_eq!(both.status, 400);

    let newest = rig.get("/pipelines/p/history?limit=3").json();
    assert_eq!(newest["more"], true);
    let periods = newest["periods"].as_array().unwrap();
    assert_eq!(periods.len(), 3);
    assert!(periods[2]["in_force"].as_bool().unwrap());
    assert_eq!(periods[2]["ranges"][0]["from"], 1);
    assert!(periods[2]["reason"].as_str().unwrap().starts_with("19 why"));
    let before = periods[0]["generation"].as_u64().unwrap();
    let older = rig
        .get(&format!("/pipelines/p/history?limit=1000&before={before}"))
        .json();
    assert_eq!(older["more"], false);
    let older = older["periods"].as_array().unwrap();
    assert_eq!(
        (older.len(), &older[0]["generation"]),
        (18, &Value::from(0))
    );
    assert_eq!(older[17]["until"].as_u64(), Some(before));

    // Each of them more than a fifth of a page.
    let config = rig.supervisor.pipeline("p").unwrap();
    let root = Path::new(config.home.at.url.strip_prefix("file:").unwrap()).to_owned();
    let name = LogName::new("p", &config.home.zone);
    let mut parent = digest(&std::fs::read(root.join(name.entry(50))).unwrap());
    for version in 51..=60 {
        let last = std::fs::read(root.join(name.entry(3))).unwrap();
        let mut entry = decode(&last, "swap").unwrap();
        (entry.version, entry.base, entry.parent) = (version, version - 1, parent);
        let swap = entry.swap.as_mut().unwrap();
        swap.replaces = if version == 51 { 22 } else { version - 1 };
        swap.reason = "x".repeat(2 << 20);
        let bytes = encode(&entry).unwrap();
        parent = digest(&bytes);
        std::fs::write(root.join(name.entry(version)), &bytes).unwrap();
    }
    for path in [
        "/pipelines/p/log?limit=1000",
        "/pipelines/p/history?limit=1000",
    ] {
        let reply = rig.get(path);
        assert_eq!(reply.status, 200);
        assert!(reply.body.len() < 11 << 20, "{path}: {}", reply.body.len());
    }
    let page = rig.get("/pipelines/p/log?limit=1000").json();
    assert_eq!(versions(&page), (57..=60).collect::<Vec<u64>>());
    assert_eq!(page["before"], 57);
}
