//! The guarantees of reading and writing the log, under faults and on a disk.

use std::sync::Arc;

use weir::chain::{Records, Rows};
use weir::clock::ManualClock;
use weir::commit::{
    Draft, Input, Log, Outcome, Plan, PlanRange, Reader, Span, Swap, Writer, own_table, verify,
};
use weir::error::{Kind, Remedy};
use weir::record::SplitId;
use weir::store::{self, Fault, FaultStore, Op, Script, Verb};

use crate::protocol_bench::{Bench, ask, committed, data, lost};
use crate::sim_world::{log_name, rule, span, split};

// === reading ===

/// As a build of format 1 wrote it: neither its fields nor its names are those of today.
const BEFORE_RELEASE: &str = r#"{"format":1,"version":1,"parent":"sha256:00","kind":"open","attempt":"00000000000000000000000000000001","writer":{"id":"host:1","start":1},"base":0,"time":1,"open":[{"split":"kafka/c/t/0","topic":"t","partition":0,"at":0,"start":"earliest"}]}"#;

#[test]
fn torn_altered_and_unknown_entries_stop_by_name() {
    let bench = Bench::new("corrupt");
    let mut log = bench.opened();
    let receipt = bench.sealed(&log, 0, 3, 8);
    committed(log.commit(data(vec![receipt])));
    let good = bench.entry_text(1);
    let torn = good[..good.len() / 2].to_owned();
    let cases = [
        (torn, "not a log entry"),
        (String::new(), "not a log entry"),
        (good.replace("\"time\":1", "\"time\":2"), "V1"), // the next entry's parent no longer fits
        (
            good.replace("\"kind\":\"open\"", "\"kind\":\"retry\""),
            "retry",
        ),
        (good.replace("\"base\":", "\"extra\":1,\"base\":"), "extra"),
        (good.replace("\"format\":2", "\"format\":3"), "format 3"),
        (
            BEFORE_RELEASE.to_owned(),
            "has format 1, this version of Weir reads format 2",
        ),
    ];
    for (bytes, named) in cases {
        assert_ne!(bytes, good);
        bench.overwrite(1, bytes.as_bytes());
        let stopped = bench.open_through(Arc::clone(&bench.store)).unwrap_err();
        assert_eq!(stopped.kind(), Kind::LogCorrupt, "{stopped}");
        let text = stopped.to_string();
        assert!(text.contains(named) && text.contains("0000000"), "{text}");
        let report = verify(&*bench.store, &log_name()).unwrap().unwrap();
        assert!(!report.problems.is_empty());
    }
}

#[test]
fn an_open_log_notices_that_its_past_was_altered() {
    let bench = Bench::new("altered");
    let mut log = bench.opened();
    let text = bench.entry_text(1).replace("earliest", "latest");
    bench.overwrite(1, text.as_bytes());
    assert_eq!(log.refresh().unwrap_err().kind(), Kind::LogCorrupt);
}

#[test]
fn other_names_in_the_log_directory_are_ignored() {
    let bench = Bench::new("names");
    bench.opened();
    for name in ["00000000000000000009.json.bak", "9.json", ".probe", "x"] {
        let path = format!("{}/{name}", log_name().log_dir());
        bench.store.create(&path, b"?").unwrap();
    }
    assert_eq!(bench.log().version(), 1);
}

#[test]
fn reading_only_changes_nothing() {
    let bench = Bench::new("read-only");
    assert!(
        Log::open(
            Arc::clone(&bench.store),
            log_name(),
            Arc::<ManualClock>::clone(&bench.clock),
            Writer::this_process(&*bench.clock),
        )
        .unwrap()
        .is_none()
    );
    let mut log = bench.opened();
    let receipt = bench.sealed(&log, 0, 3, 8);
    committed(log.commit(data(vec![receipt])));
    let before = bench.store.list("").unwrap();
    assert_eq!(bench.reader_log().version(), 2);
    assert_eq!(bench.store.list("").unwrap(), before);
}

// === writing ===

#[test]
fn a_lost_reply_is_read_back_and_commits_once() {
    let bench = Bench::new("reply-lost");
    bench.opened();
    let (mut log, _) = bench.faulty(Script::on(Verb::Create, "/log/", 0, Fault::ReplyLost));
    let receipt = bench.sealed(&log, 0, 3, 8);
    let done = committed(log.commit(data(vec![receipt])));
    assert_eq!((done.version, log.version()), (2, 2));
    log.publish(&done).unwrap();
    bench.conclude();
}

#[test]
fn a_commit_whose_parent_vanished_or_changed_is_no_commit() {
    for altered in [None, Some(b"{}")] {
        let bench = Bench::new(&format!("w6-{}", altered.is_some()));
        bench.opened();
        let bare = Arc::clone(&bench.store);
        let (mut log, _) = bench.faulty(ask(move |op: &Op| {
            if op.verb == Verb::Create {
                // Between W3 and W6.
                bare.delete(&log_name().entry(1)).unwrap();
                if let Some(bytes) = altered {
                    bare.create(&log_name().entry(1), bytes).unwrap();
                }
            }
            Fault::None
        }));
        let receipt = bench.sealed(&log, 0, 3, 8);
        let staged = bench.staged();
        let stopped = log.commit(data(vec![receipt])).unwrap_err();
        assert_eq!(stopped.kind(), Kind::LogCorrupt, "{stopped}");
        assert_eq!(
            (bench.staged(), bench.published()),
            (staged, 0),
            "nothing is known"
        );
    }
}

#[test]
fn an_overtaken_receipt_is_dropped_and_the_others_go_on() {
    let bench = Bench::new("overtaken");
    let mut one = bench.opened();
    let mut two = bench.reader_log();
    let receipts = vec![bench.sealed(&one, 0, 3, 8), bench.sealed(&one, 1, 3, 8)];
    let loser = receipts[1].clone();
    let won = bench.sealed(&two, 1, 3, 6);
    let won = committed(two.commit(data(vec![won])));
    let Outcome::Committed {
        committed: done,
        dropped,
    } = one.commit(data(receipts)).unwrap()
    else {
        panic!("lost");
    };
    assert_eq!(done.version, 3);
    assert_eq!(dropped.len(), 1);
    assert_eq!((dropped[0].index, dropped[0].reason.rule), (1, "V2"));
    assert_eq!(dropped[0].splits, [split(1)]);
    assert_eq!(one.state().splits[&split(1)].to, 6);
    for entry in [&won, &done] {
        one.publish(entry).unwrap();
    }
    // W8: the loser's files stay until its next entry names them.
    assert_eq!(bench.staged(), loser.files.len());
    let next = bench.sealed(&one, 1, 6, 8);
    let next = committed(one.commit(data(vec![next])));
    assert_eq!(next.entry.gc.len(), loser.files.len());
    one.publish(&next).unwrap();
    assert_eq!(bench.staged(), 0);
    bench.conclude();
}

#[test]
fn rows_of_the_rules_before_a_swap_are_dropped_after_it() {
    let bench = Bench::new("swap");
    let mut one = bench.opened();
    let late = bench.sealed(&one, 0, 3, 8);
    let mut two = bench.reader_log();
    let swap = Swap {
        replaces: 0,
        transforms: rule(1),
        actor: "test".into(),
        reason: String::new(),
        block: Vec::new(),
        force: false,
        declared: None,
    };
    // Flushed and swapped in one entry: its own rows are of the old rules.
    let flushed = bench.sealed(&two, 1, 3, 8);
    let done = committed(two.commit(Draft::Data {
        receipts: vec![flushed],
        swap: Some(swap),
    }));
    two.publish(&done).unwrap();
    assert_eq!(done.entry.rules.as_ref().unwrap().generation, 0);
    assert_eq!(two.state().generation(), 2);
    let dropped = lost(one.commit(data(vec![late])));
    assert_eq!(dropped[0].reason.rule, "V3");
    bench.conclude();
}

#[test]
fn a_store_that_lies_about_a_create_is_found_out() {
    let bench = Bench::new("lying");
    bench.opened();
    let (mut log, _) = bench.faulty(Script::on(Verb::Create, "/log/", 0, Fault::Lying));
    let receipt = bench.sealed(&log, 0, 3, 8);
    committed(log.commit(data(vec![receipt])));
    assert_eq!(log.refresh().unwrap_err().kind(), Kind::LogCorrupt);
}

#[test]
fn leaving_before_anything_was_sent_needs_no_entry() {
    let bench = Bench::new("leave-unsent");
    bench.opened();
    let down = ask(|op: &Op| match op.verb {
        Verb::Get => Fault::FailBefore,
        _ => Fault::None,
    });
    let (mut log, _) = bench.faulty(down);
    let receipt = bench.sealed(&log, 0, 3, 8);
    assert_eq!(
        log.commit(data(vec![receipt])).unwrap_err().remedy(),
        Remedy::Retry
    );
    lost(log.leave().map(Option::unwrap));
    assert!(log.leave().unwrap().is_none());
    assert_eq!(bench.reader_log().version(), 1);
    bench.conclude();
}

#[test]
fn two_processes_begin_one_log() {
    let bench = Bench::new("init");
    // The other one's init comes first, and our reply is lost on top.
    let other = Arc::clone(&bench.store);
    let clock = Arc::<ManualClock>::clone(&bench.clock);
    let mut once = true;
    let racing = ask(move |op: &Op| {
        if op.verb == Verb::Create && std::mem::take(&mut once) {
            let writer = Writer {
                id: "other".into(),
                started: 1,
            };
            let clock = Arc::<ManualClock>::clone(&clock);
            Log::open_or_init(Arc::clone(&other), log_name(), clock, writer, rule(7)).unwrap();
            return Fault::ReplyLost;
        }
        Fault::None
    });
    let store = FaultStore::new(Arc::clone(&bench.store), Arc::new(racing));
    let log = bench.open_through(store).unwrap();
    assert_eq!(log.state().rules.transforms, rule(7));
}

#[test]
fn a_table_has_one_log() {
    let bench = Bench::new("owner");
    let other = weir::commit::LogName::new("films-raw", "raw");
    own_table(&*bench.store, &log_name(), "books").unwrap();
    own_table(&*bench.store, &log_name(), "books").unwrap();
    own_table(&*bench.store, &other, "films").unwrap();
    let refused = own_table(&*bench.store, &other, "books").unwrap_err();
    assert_eq!(refused.kind(), Kind::ConfigInvalid);
    let text = refused.to_string();
    assert!(
        text.contains("books-raw") && text.contains("sink.table"),
        "{text}"
    );
    let lossy = Script::on(Verb::Create, "", 0, Fault::ReplyLost);
    let lossy = FaultStore::new(Arc::clone(&bench.store), Arc::new(lossy));
    own_table(&*lossy, &log_name(), "letters").unwrap();
}

// === the whole, on a disk ===

#[test]
fn a_directory_holds_what_the_log_says() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::on(store::open_url(&format!("file:{}", dir.path().display())).unwrap());
    bench.conclude();
    let report = verify(&*bench.store, &log_name()).unwrap().unwrap();
    assert_eq!(report.problems, vec![]);
    let state = report.state.unwrap();
    assert_eq!(
        (report.entries, report.files),
        (state.version + 1, state.live.len() as u64)
    );

    let live = state.live.values().next().unwrap().file.clone();
    let path = dir.path().join(&live.path);
    let bytes = std::fs::read(&path).unwrap();
    let problems = || {
        verify(&*bench.store, &log_name())
            .unwrap()
            .unwrap()
            .problems
    };
    let mut altered = bytes.clone();
    altered[1] ^= 1;
    std::fs::write(&path, &altered).unwrap();
    assert!(problems()[0].message.contains("sha256"), "{:?}", problems());
    std::fs::write(&path, &bytes[1..]).unwrap();
    assert!(problems()[0].message.contains("bytes"), "{:?}", problems());
    std::fs::remove_file(&path).unwrap();
    assert!(
        problems()[0].message.contains("missing"),
        "{:?}",
        problems()
    );
    std::fs::write(&path, &bytes).unwrap();
    std::fs::write(
        path.with_file_name("01ARZ3NDEKTSV4RRFFQ69G5FAV.json"),
        b"[]",
    )
    .unwrap();
    assert!(
        problems()[0].message.contains("no entry"),
        "{:?}",
        problems()
    );
}

#[test]
fn borders_tell_which_version_an_offset_came_with() {
    let bench = Bench::new("borders");
    let mut log = bench.opened();
    for (from, to) in [(3, 8), (8, 9), (9, 14)] {
        let receipt = bench.sealed(&log, 0, from, to);
        committed(log.commit(data(vec![receipt])));
    }
    let state = log.state();
    let found = &state.splits[&split(0)];
    let versions: Vec<Option<u64>> = [2, 3, 7, 8, 9, 13, 14].map(|o| found.version_of(o)).into();
    assert_eq!(
        versions,
        [None, Some(2), Some(2), Some(3), Some(4), Some(4), None]
    );
    let rows = |from, to| span(&split(0), from, to).rows.written;
    assert_eq!(found.rows_between(3, 14), Some(rows(3, 14)));
    assert_eq!(found.rows_between(8, 14), Some(rows(8, 14)));
    assert_eq!(found.rows_between(8, 8), Some(0));
    assert_eq!(found.rows_between(4, 14), None);
    assert_eq!(found.border_at(3).map(|b| b.to), Some(9));
    let ranges = |from, to| [(split(0), (from, to))].into_iter().collect();
    let files = |r: &std::collections::BTreeMap<SplitId, (i64, i64)>| state.rows_files(r).count();
    assert_eq!(files(&ranges(14, 20)), 0);
    assert_eq!(
        files(&ranges(3, 14)),
        state.rows_files(&ranges(0, 99)).count()
    );
}

// === plans, batches, readers ===

#[test]
fn a_batch_ends_its_plan_and_the_reader_advances_in_the_log_that_was_read() {
    let bench = Bench::new("batch");
    let mut log = bench.opened();
    let plan = |log: &Log, from, to| Plan {
        log: "books-raw/raw".into(),
        version: 7,
        ranges: [(split(0), PlanRange { epoch: 0, from, to })].into(),
        rules: log.state().rules.clone(),
        now: 0,
        dedup_key: Vec::new(),
    };
    let input = |plan, dedup| Input {
        plan,
        dedup_version: dedup,
        reason: String::new(),
    };
    let planned = committed(log.commit(Draft::Plan(plan(&log, 3, 8)))).version;
    // One open plan at a time, whoever makes it.
    let mut other = bench.reader_log();
    let refused = lost(other.commit(Draft::Plan(plan(&other, 3, 8))));
    assert_eq!(refused[0].reason.rule, "V10");
    // Both run it; one entry can be its end.
    let [mine, theirs] = [0, 1].map(|_| bench.sealed(&log, 0, 3, 8));
    let batch = |receipt| Draft::Batch {
        input: input(planned, 1),
        receipt,
    };
    let done = committed(log.commit(batch(mine)));
    log.publish(&done).unwrap();
    let refused = lost(other.commit(batch(theirs)));
    assert_eq!(refused[0].splits, [split(0)]);
    assert_eq!(other.state().data_at, done.version);

    let reader = |version, at| {
        Draft::Reader(Reader {
            name: "books-processed".into(),
            generation: 0,
            version,
            position: [(split(0), at)].into(),
        })
    };
    let mut raw = bench.reader_log();
    committed(raw.commit(reader(1, 3)));
    committed(raw.commit(reader(done.version, 8)));
    assert_eq!(
        lost(log.commit(reader(done.version, 3)))[0].reason.rule,
        "V11"
    );

    let second = committed(log.commit(Draft::Plan(plan(&log, 8, 9)))).version;
    committed(log.commit(Draft::Void(input(second, 0))));
    assert_eq!(log.state().voids_of(&plan(&log, 8, 9)), 1);
    bench.conclude();
}

#[test]
fn a_gap_is_recorded_and_moves_the_split() {
    let bench = Bench::new("gap");
    let mut log = bench.opened();
    let gap = Span {
        lost: 5,
        records: Records::default(),
        rows: Rows::default(),
        dead_letters: 0,
        ..span(&split(0), 3, 8)
    };
    committed(log.commit(Draft::Gap(vec![gap.clone()])));
    let state = &log.state().splits[&split(0)];
    assert_eq!((state.to, state.lost), (8, 5));
    assert_eq!(lost(log.commit(Draft::Gap(vec![gap])))[0].reason.rule, "V2");
}
