//! Compaction on the real log: V14 and what V5 and V7 add, rule by rule, and what goes wrong without P2, P3 and the horizon.

use std::sync::{Arc, Mutex};

use weir::commit::{AddedFile, Draft, Entry, FileRange, Kind, Limits, Log, Role, State};
use weir::store::{Fault, FaultStore, Published, Script, Verb};

use crate::protocol_bench::{Bench, ask, committed, data as draft, lost};
use crate::protocol_rules::{data, entry, file, refused, state, then};
use crate::sim_compact::cover;
use crate::sim_world::{Oracle, log_name, split};

fn digest(n: u128) -> String {
    format!("xxh3:{n:032x}")
}

/// Three files of split 0, of versions 2 to 4, and the horizon at 3.
fn three_files() -> State {
    let mut state = state();
    for (id, n, from) in [("A", 1, 10), ("B", 2, 15), ("C", 4, 20)] {
        then(&mut state, |s| {
            let mut data = data(s, id, from, from + 5);
            data.add[0].row_digest = digest(n);
            data
        });
    }
    then(&mut state, |s| {
        let mut horizon = entry(s, Kind::Horizon);
        horizon.horizon = Some(weir::commit::Horizon { version: 3 });
        horizon
    });
    state
}

/// A right one: A and B become M.
fn compacted(state: &State) -> Entry {
    let mut merged = file("M", Role::Rows, 0, 10, 20);
    merged.row_digest = digest(3);
    Entry {
        remove: vec!["A".into(), "B".into()],
        add: vec![merged],
        ..entry(state, Kind::Compact)
    }
}

#[track_caller]
fn breaks(rule: &str, moved: bool, change: impl FnOnce(&mut Entry)) {
    let state = three_files();
    let mut entry = compacted(&state);
    state.check(&entry).unwrap();
    change(&mut entry);
    assert_eq!(refused(&state, &entry, rule).moved, moved);
}

#[test]
fn a_compaction_changes_files_and_nothing_else() {
    let mut state = three_files();
    let before = state.clone();
    then(&mut state, compacted);
    assert!(state.live.keys().eq(["C", "M"]));
    assert!(state.removed.keys().eq(["A", "B"]));
    assert_eq!(state.splits, before.splits);
    assert_eq!(state.totals(), before.totals());
    assert_eq!(
        state.data_at, before.data_at,
        "no batch looks for keys again"
    );
    assert_eq!(state.removed_at, 6, "P3 holds");
}

#[test]
fn v5_inputs_are_live_also_at_a_second_try() {
    breaks("V5", true, |e| e.remove[0] = "Z".into());
    let mut state = three_files();
    let late = compacted(&state);
    then(&mut state, compacted);
    let late = Entry {
        version: late.version + 1,
        parent: state.digest.clone(),
        add: vec![AddedFile {
            id: "N".into(),
            path: "books/N.parquet".into(),
            ..late.add[0].clone()
        }],
        ..late
    };
    assert!(refused(&state, &late, "V5").moved);
}

#[test]
fn v7_rows_of_each_split_and_their_digests_stay_the_same() {
    breaks("V7", false, |e| e.add[0].row_digest = digest(4));
    breaks("V7", false, |e| e.add[0].row_digest = "md5:00".into());
    breaks("V7", false, |e| {
        e.add[0].rows = 9;
        e.add[0].ranges[0].rows = 9;
    });
    breaks("V7", false, |e| e.add[0].rows = 9);
    breaks("V7", false, |e| e.add[0].ranges[0].to = 21);
    breaks("V7", false, |e| e.add[0].ranges[0].split = split(1));
    breaks("V7", false, |e| {
        e.add[0].ranges.push(FileRange {
            split: split(1),
            from: 10,
            to: 11,
            rows: 1,
        });
        e.add[0].rows = 11;
    });
}

#[test]
fn v14_inputs_lie_at_or_below_the_horizon() {
    breaks("V14", true, |e| {
        e.remove.push("C".into());
        e.add[0] = file("M", Role::Rows, 0, 10, 25);
        e.add[0].row_digest = digest(7);
    });
}

#[test]
fn v14_files_are_of_one_kind() {
    breaks("V14", false, |e| e.remove[1] = "A".into());
    breaks("V14", false, |e| e.add[0].path = "books/x/M.parquet".into());
    breaks("V14", false, |e| {
        e.add[0].path = "books/M.b_1.parquet".into()
    });
    breaks("V14", false, |e| e.add[0].role = Role::DeadLetters);
    breaks("V14", false, |e| e.add[0].schema = "other".into());
    breaks("V14", false, |e| {
        e.add[0].partition_values.insert("d".into(), "1".into());
    });
    breaks("V14", false, |e| e.add[0].keys = Some("K".into()));
    breaks("§2", false, |e| e.remove.clear());
    breaks("§2", false, |e| e.add.clear());
    breaks("§2", false, |e| e.gc.push("Z".into()));
    breaks("V4", true, |e| {
        e.add[0].id = "C".into();
        e.add[0].path = "books/C.parquet".into();
    });
    breaks("V4", false, |e| e.add[0].path = "books/Q.parquet".into());
}

/// Two batches with a sidecar each.
fn with_sidecars() -> State {
    let mut state = state();
    for (id, n, from) in [("A", 1, 10), ("B", 2, 15)] {
        then(&mut state, |s| {
            let mut data = data(s, id, from, from + 5);
            let mut keys = file(&format!("{id}-keys"), Role::Keys, 0, from, from + 5);
            keys.row_digest = digest(n * 10);
            data.add[0].row_digest = digest(n);
            data.add[0].keys = Some(keys.id.clone());
            data.add.push(keys);
            data
        });
    }
    then(&mut state, |s| {
        let mut horizon = entry(s, Kind::Horizon);
        horizon.horizon = Some(weir::commit::Horizon { version: 3 });
        horizon
    });
    state
}

fn compacted_with_keys(state: &State) -> Entry {
    let mut rows = file("M", Role::Rows, 0, 10, 20);
    let mut keys = file("K", Role::Keys, 0, 10, 20);
    (rows.row_digest, keys.row_digest) = (digest(3), digest(30));
    rows.keys = Some("K".into());
    Entry {
        remove: ["A", "A-keys", "B", "B-keys"].map(str::to_owned).to_vec(),
        add: vec![rows, keys],
        ..entry(state, Kind::Compact)
    }
}

#[track_caller]
fn breaks_keys(rule: &str, change: impl FnOnce(&mut Entry)) {
    let state = with_sidecars();
    let mut entry = compacted_with_keys(&state);
    state.check(&entry).unwrap();
    change(&mut entry);
    refused(&state, &entry, rule);
}

#[test]
fn v14_a_sidecar_goes_and_comes_with_its_rows() {
    breaks_keys("V14", |e| drop(e.remove.pop()));
    breaks_keys("V14", |e| drop(e.add.pop()));
    breaks_keys("V14", |e| e.add[0].keys = None);
    breaks_keys("V14", |e| e.add[0].keys = Some("L".into()));
    breaks_keys("V14", |e| e.add[1].ranges[0].to = 19);
    breaks_keys("V14", |e| e.add[1].ranges[0].split = split(1));
    breaks_keys("V14", |e| e.add[1].ranges.clear());
    breaks_keys("V7", |e| e.add[1].row_digest = digest(31));
    breaks_keys("V7", |e| e.add[1].rows = 9);
}

// === on a store ===

/// Two published files below the horizon, and the draft that makes one of them.
fn two_files(bench: &Bench) -> (Log, Draft) {
    let mut log = bench.log().with_limits(Limits {
        retention: std::time::Duration::ZERO,
        horizon_step: 1,
        ..Limits::default()
    });
    let loader = bench.loader();
    loader.commit(&mut log, Draft::Open(vec![open()])).unwrap();
    for from in [3, 6] {
        let receipt = loader.seal(&log, &[(split(0), from, from + 3)]).unwrap();
        let done = committed(log.commit(draft(vec![receipt.unwrap()])));
        log.publish(&done).unwrap();
    }
    for _ in 0..5 {
        bench.clock.advance(std::time::Duration::from_secs(60));
        let version = log.version();
        log.commit(Draft::Swap(swap(&log))).unwrap();
        assert!(log.version() > version);
    }
    let horizon = log.forgettable_now(None).unwrap();
    log.commit(Draft::Horizon(horizon)).unwrap();
    let compact = loader.compacting(&mut log).unwrap().unwrap();
    (log, compact)
}

fn open() -> weir::commit::Open {
    weir::commit::Open {
        split: split(0),
        topic: "t".into(),
        partition: 0,
        offset: 3,
        start: "earliest".into(),
    }
}

fn swap(log: &Log) -> weir::commit::Swap {
    weir::commit::Swap {
        replaces: log.state().generation(),
        transforms: log.state().rules.transforms.clone(),
        actor: "test".into(),
        reason: String::new(),
        block: Vec::new(),
        force: false,
        declared: None,
    }
}

fn inputs(log: &Log, compact: &Draft) -> Vec<AddedFile> {
    let Draft::Compact { remove, .. } = compact else {
        panic!("{compact:?}");
    };
    let live = &log.state().live;
    remove.iter().map(|id| live[id].file.clone()).collect()
}

/// P2: after the removal a publisher that slept finds nothing to rename.
#[test]
fn a_sleeper_that_publishes_an_input_late_shows_nothing() {
    let bench = Bench::new("compact-sleeper");
    let (mut log, compact) = two_files(&bench);
    let inputs = inputs(&log, &compact);
    let done = committed(log.commit(compact));
    log.publish(&done).unwrap();
    for input in &inputs {
        let found = bench
            .store
            .publish(&input.place(&log_name()), &input.seal());
        assert!(matches!(found.unwrap(), Published::Nowhere));
        assert_eq!(bench.store.size(&input.path).unwrap(), None);
    }
    let mut oracle = Oracle::default();
    oracle.look(bench.store.as_ref());
    assert_eq!(oracle.compactions(), 1);
}

/// P3: the new file gets its name when the inputs have none: a lister sees no row twice, at any request of the store.
#[test]
fn no_lister_sees_a_row_in_an_input_and_in_the_new_file() {
    for uploads in [false, true] {
        let kind = if uploads { "memory+upload" } else { "memory" };
        let store = weir::store::open_url(&format!("{kind}:compact-lister")).unwrap();
        let bench = Bench::on(store);
        let (log, compact) = two_files(&bench);
        drop(log);
        let looks = Arc::new(Mutex::new((Oracle::default(), 0)));
        let (bare, eye) = (Arc::clone(&bench.store), Arc::clone(&looks));
        let faults = ask(move |_: &weir::store::Op| {
            let mut eye = eye.lock().unwrap();
            eye.0.look(bare.as_ref());
            eye.1 += 1;
            Fault::None
        });
        let store = FaultStore::new(Arc::clone(&bench.store), Arc::new(faults));
        let mut log = bench.reader_log_through(store);
        let done = committed(log.commit(compact));
        log.publish(&done).unwrap();
        let mut looked = looks.lock().unwrap();
        looked.0.look(bench.store.as_ref());
        assert!(looked.1 > 8, "{} requests", looked.1);
    }
}

/// Of a rewind and a compaction only one takes a file; the other is computed again, or gives up and is collected.
#[test]
fn of_two_compactions_of_the_same_files_one_is_dropped_and_collected() {
    let bench = Bench::new("compact-two");
    let (mut first, compact) = two_files(&bench);
    let mut second = bench.reader_log();
    let again = bench.loader().compacting(&mut second).unwrap().unwrap();
    let Draft::Compact { add, .. } = &again else {
        panic!("{again:?}");
    };
    let made = add[0].clone();
    let done = committed(first.commit(compact));
    first.publish(&done).unwrap();
    let dropped = lost(second.commit(again));
    assert_eq!(dropped[0].reason.rule, "V5");
    second.commit(Draft::Gc(vec![made.id.clone()])).unwrap();
    let begun = bench.store.begun(&log_name().dir()).unwrap();
    assert!(begun.is_empty(), "{begun:?}");
    let mut oracle = Oracle::default();
    oracle.look(bench.store.as_ref());
}

/// A process dies between the entry and the new name; whoever opens the log finishes it.
#[test]
fn a_compaction_that_dies_after_its_entry_is_finished_by_the_next_opener() {
    let bench = Bench::new("compact-dies");
    let (log, compact) = two_files(&bench);
    let inputs = inputs(&log, &compact);
    drop(log);
    let crash = Script::on(Verb::Delete, "books", 0, Fault::CrashBefore);
    let store = FaultStore::new(Arc::clone(&bench.store), Arc::new(crash));
    let mut log = bench.reader_log_through(store);
    let done = committed(log.commit(compact));
    assert!(log.publish(&done).is_err(), "it dies at the first removal");
    let log = bench.log();
    for input in inputs {
        assert_eq!(bench.store.size(&input.path).unwrap(), None);
    }
    let all = log.state().live.values();
    for live in all {
        let found = bench.store.size(&live.file.path).unwrap();
        assert_eq!(found, Some(live.file.bytes));
    }
}

#[test]
fn covers_of_files_add_up() {
    let files = [
        file("A", Role::Rows, 0, 10, 15),
        file("B", Role::Rows, 0, 20, 25),
    ];
    let cover = cover(&files);
    assert_eq!((cover[0].from, cover[0].to, cover[0].rows), (10, 25, 10));
}
