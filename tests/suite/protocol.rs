//! docs/protocol.md on the real code: holes of earlier drafts (5, 7, 10 and others). The guarantees of reading and
//! writing are in `protocol_log`, the validity rules one by one in `protocol_rules`.

use std::sync::{Arc, Mutex};

use weir::commit::{Draft, Kind as EntryKind, Swap, decode};
use weir::error::{Kind, Remedy};
use weir::store::{Fault, FaultStore, Op, Script, Verb};

use crate::protocol_bench::{Bench, ask, committed, data, delayed, lost, open_both};
use crate::sim_world::{log_name, rule, span, split};

// === holes that an explicit-state model found ===

#[test]
fn hole_05_a_delayed_put_that_lands_after_leaving_loses_nothing() {
    let bench = Bench::new("hole-05-lands");
    bench.opened();
    let (mut log, store) = bench.faulty(delayed(2, Arc::default()));
    let receipt = bench.sealed(&log, 0, 3, 8);
    let unsettled = log.commit(data(vec![receipt])).unwrap_err();
    assert_eq!(unsettled.remedy(), Remedy::Retry);
    assert!(log.unsettled());
    // GET said 404 again and again; still neither may the files be touched nor the split get another attempt.
    assert_eq!(log.commit(open_both(3)).unwrap_err().kind(), Kind::Bug);
    assert_eq!(log.leave().unwrap_err().kind(), Kind::StoreUnavailable);
    assert!(
        bench.staged() > 0,
        "files of an unsettled attempt were touched"
    );
    store.crash();
    store.land();
    let log = bench.log();
    assert_eq!(log.state().splits[&split(0)].to, 8);
    assert!(bench.published() > 0);
    bench.conclude();
}

#[test]
fn hole_05_leaving_settles_with_a_gc_entry_and_the_delayed_put_is_refused() {
    let bench = Bench::new("hole-05-leaves");
    bench.opened();
    let healed = Arc::new(Mutex::new(false));
    let (mut log, store) = bench.faulty(delayed(2, Arc::clone(&healed)));
    let receipt = bench.sealed(&log, 0, 3, 8);
    log.commit(data(vec![receipt])).unwrap_err();
    *healed.lock().unwrap() = true;
    let dropped = lost(log.leave().map(Option::unwrap));
    assert_eq!(dropped[0].splits, [split(0)]);
    assert!(!log.unsettled());
    assert_eq!(
        decode(bench.entry_text(2).as_bytes(), "2").unwrap().kind,
        EntryKind::Gc
    );
    assert_eq!(bench.staged(), 0);
    store.land();
    assert_eq!(bench.log().state().splits[&split(0)].to, 3);
    bench.conclude();
}

#[test]
fn hole_05_leaving_finds_that_the_put_had_landed() {
    let bench = Bench::new("hole-05-landed");
    bench.opened();
    let (mut log, store) = bench.faulty(delayed(2, Arc::default()));
    let receipt = bench.sealed(&log, 0, 3, 8);
    log.commit(data(vec![receipt])).unwrap_err();
    store.land();
    let committed = committed(log.leave().map(Option::unwrap));
    assert_eq!(
        (committed.version, committed.entry.kind),
        (2, EntryKind::Data)
    );
    log.publish(&committed).unwrap();
    bench.conclude();
}

#[test]
fn hole_07_gc_from_a_stale_view_spares_what_was_committed_meanwhile() {
    let bench = Bench::new("hole-07");
    let mut writer = bench.opened();
    let receipt = bench.sealed(&writer, 0, 3, 8);
    // Another process opens, lists the staged files, and just before its gc entry the writer commits them.
    let mut draft = Some(data(vec![receipt]));
    let done = Arc::new(Mutex::new(None));
    let result = Arc::clone(&done);
    let meanwhile = ask(move |op: &Op| {
        if op.verb == Verb::Create
            && let Some(draft) = draft.take()
        {
            *result.lock().unwrap() = Some(committed(writer.commit(draft)));
        }
        Fault::None
    });
    let stale = FaultStore::new(Arc::clone(&bench.store), Arc::new(meanwhile));
    bench.open_through(stale).unwrap();
    let committed = done.lock().unwrap().take().expect("the writer committed");
    bench.reader_log().publish(&committed).unwrap();
    bench.conclude();
}

#[test]
fn hole_07_nothing_is_deleted_before_a_proved_entry_names_it() {
    let bench = Bench::new("hole-07-entry");
    let writer = bench.opened();
    bench.sealed(&writer, 0, 3, 8);
    let staged = bench.staged();
    assert!(staged > 0);
    let down = Script::on(Verb::Create, "/log/", 0, Fault::CrashBefore);
    let store = FaultStore::new(Arc::clone(&bench.store), Arc::new(down));
    assert!(bench.open_through(store).is_err());
    assert_eq!(bench.staged(), staged, "W8");
    let log = bench.log();
    assert_eq!(bench.staged(), 0);
    assert_eq!(log.state().collected.len(), staged);
}

#[test]
fn a_receipt_whose_files_were_collected_is_dropped() {
    let bench = Bench::new("collected-receipt");
    let mut writer = bench.opened();
    let receipt = bench.sealed(&writer, 0, 3, 8);
    bench.log(); // collects the staged files: they are in no entry
    let dropped = lost(writer.commit(data(vec![receipt])));
    assert_eq!(dropped[0].reason.rule, "V4");
    bench.conclude();
}

#[test]
fn hole_10_rows_of_a_committer_that_died_before_the_rename_are_published() {
    let bench = Bench::new("hole-10");
    bench.opened();
    let (mut log, _) = bench.faulty(Script::on(Verb::Rename, "", 0, Fault::CrashBefore));
    let receipt = bench.sealed(&log, 0, 3, 8);
    let done = committed(log.commit(data(vec![receipt])));
    assert!(log.publish(&done).is_err());
    assert_eq!(bench.published(), 0);
    // Longer ago than the versions whose files are looked at one by one.
    let mut reading = bench.reader_log();
    for _ in 0..60 {
        let swap = Swap {
            replaces: reading.state().generation(),
            transforms: rule(1),
            actor: "test".into(),
            reason: String::new(),
            block: Vec::new(),
            force: false,
            declared: None,
        };
        committed(reading.commit(Draft::Swap(swap)));
    }
    assert_eq!(bench.published(), 0);
    bench.log();
    assert_eq!(bench.published(), done.entry.add.len());
    bench.conclude();
}

#[test]
fn a_live_file_that_is_nowhere_stops_the_start() {
    let bench = Bench::new("nowhere");
    let mut log = bench.opened();
    let receipt = bench.sealed(&log, 0, 3, 8);
    let done = committed(log.commit(data(vec![receipt])));
    log.publish(&done).unwrap();
    log.publish(&done).unwrap(); // harmless
    bench.store.delete(&done.entry.add[0].path).unwrap();
    let stopped = bench.open_through(Arc::clone(&bench.store)).unwrap_err();
    assert_eq!(stopped.kind(), Kind::LogCorrupt);
    assert!(
        stopped.to_string().contains(&done.entry.add[0].path),
        "{stopped}"
    );
}

// === holes by argument ===

#[test]
fn start_at_latest_is_pinned_before_the_first_commit() {
    let bench = Bench::new("latest");
    let latest = |at| match open_both(at) {
        Draft::Open(mut opens) => {
            opens.iter_mut().for_each(|o| o.start = "latest".into());
            Draft::Open(opens)
        }
        other => other,
    };
    committed(bench.log().commit(latest(100)));
    // Crashed before anything was read; 50 records came since. The new process resolves `latest` anew and is told so.
    let mut log = bench.log();
    let dropped = lost(log.commit(latest(150)));
    assert!(dropped.iter().all(|d| d.reason.rule == "W1"), "{dropped:?}");
    assert_eq!(log.state().splits[&split(0)].to, 100);
}

#[test]
fn a_span_that_does_not_move_cannot_bring_rows() {
    let bench = Bench::new("from-is-to");
    let mut log = bench.opened();
    let mut receipt = bench.sealed(&log, 0, 3, 8);
    receipt.spans[0].to = 3;
    let refused = log.commit(data(vec![receipt])).unwrap_err();
    assert_eq!(refused.kind(), Kind::Bug);
    assert!(refused.to_string().contains("V2"), "{refused}");
    // Rows without any span would pass twice just as well.
    let mut receipt = bench.sealed(&log, 0, 3, 8);
    receipt.spans = vec![span(&split(1), 3, 8)];
    let refused = log.commit(data(vec![receipt])).unwrap_err();
    assert!(refused.to_string().contains("V2"), "{refused}");
}

#[test]
fn a_deleted_head_entry_raises_the_alarm() {
    let bench = Bench::new("head");
    let mut log = bench.opened();
    let receipt = bench.sealed(&log, 0, 3, 8);
    committed(log.commit(data(vec![receipt])));
    bench.store.delete(&log_name().entry(2)).unwrap();
    // Whoever held the higher version notices, before reading or writing anything.
    let stopped = log.refresh().unwrap_err();
    assert_eq!(stopped.kind(), Kind::LogCorrupt);
    assert!(stopped.to_string().contains("went backwards"), "{stopped}");
    assert!(
        log.commit(open_both(3))
            .unwrap_err()
            .to_string()
            .contains("went backwards")
    );
    // A new process does not know; the group's offsets do (`endings_start`).
    assert_eq!(bench.reader_log().version(), 1);
}

#[test]
fn a_deleted_entry_below_the_head_is_named() {
    let bench = Bench::new("hole");
    let mut log = bench.opened();
    let receipt = bench.sealed(&log, 0, 3, 8);
    committed(log.commit(data(vec![receipt])));
    for missing in [1, 0] {
        bench.store.delete(&log_name().entry(missing)).unwrap();
        let stopped = bench.open_through(Arc::clone(&bench.store)).unwrap_err();
        assert_eq!(stopped.kind(), Kind::LogCorrupt);
        assert!(
            stopped.to_string().contains(&log_name().entry(missing)),
            "{stopped}"
        );
    }
}

#[test]
fn dead_letters_are_invisible_until_the_commit_is_proved() {
    let bench = Bench::new("letters");
    bench.opened();
    let healed = Arc::new(Mutex::new(false));
    let (mut log, store) = bench.faulty(delayed(2, Arc::clone(&healed)));
    let receipt = bench.sealed(&log, 0, 3, 8);
    assert!(
        receipt
            .files
            .iter()
            .any(|f| f.path.starts_with("dead_letters/"))
    );
    log.commit(data(vec![receipt])).unwrap_err();
    assert_eq!(bench.published(), 0);
    store.land();
    // In the log, not proved by this process: without a `Committed` there is nothing to publish with.
    assert_eq!(bench.published(), 0);
    let done = committed(log.settle().map(Option::unwrap));
    log.publish(&done).unwrap();
    assert_eq!(bench.published(), done.entry.add.len());
    bench.conclude();
}
