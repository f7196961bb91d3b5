//! Data that leaves a zone by its age (docs/protocol.md V9, §9): what an entry may remove, what a crash leaves, and what becomes of
//! readers, rewinds, checkpoints and listers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir::clock::Clock as _;
use weir::commit::{
    AddedFile, Archived, Draft, Due, Entry, Expire, Forget, Held, Holder, Keep, Kind, Limits,
    LiveFile, Log, Outcome, Reader, Role, State, verify,
};
use weir::error::{Kind as ErrorKind, Result};
use weir::store::{self, Fault, FaultStore, Faults, Op, Script, Verb};

use crate::protocol_bench::{Bench, ask, committed, data, lost};
use crate::protocol_rules::{data as rows, entry, file, moves, refused, state, then};
use crate::sim_world::{log_name, split};

const HOUR: Duration = Duration::from_secs(3600);

fn expires(state: &State, ids: &[&str]) -> Entry {
    Entry {
        remove: ids.iter().map(|id| (*id).to_owned()).collect(),
        expire: Some(Expire {
            actor: "ana".into(),
            reason: "old".into(),
            archive: false,
        }),
        ..entry(state, Kind::Expire)
    }
}

fn to_be_archived(state: &State, ids: &[&str]) -> Entry {
    let mut entry = expires(state, ids);
    entry.expire.as_mut().unwrap().archive = true;
    entry
}

fn reads(state: &State, name: &str, n: usize, at: i64) -> Entry {
    Entry {
        reader: Some(Reader {
            name: name.into(),
            generation: 0,
            version: state.version,
            position: [(split(n), at)].into(),
        }),
        ..entry(state, Kind::Reader)
    }
}

/// Rows of split 0 in A (10..15), B (15..20) and C (20..25).
fn three() -> State {
    let mut state = state();
    then(&mut state, |s| rows(s, "A", 10, 15));
    then(&mut state, |s| rows(s, "B", 15, 20));
    then(&mut state, |s| rows(s, "C", 20, 25));
    state
}

#[test]
fn v9_what_a_reader_has_not_read_stays() {
    let mut state = three();
    then(&mut state, |s| reads(s, "p/z", 0, 19));
    // It stands inside of B: B is not wholly below it.
    let why = refused(&state, &expires(&state, &["A", "B"]), "V9");
    assert!(
        why.moved && why.message.contains("p/z stands at 19"),
        "{why}"
    );
    then(&mut state, |s| reads(s, "p/z", 0, 20));
    then(&mut state, |s| expires(s, &["A", "B"]));
    assert!(state.live.keys().eq(["C"]) && state.leaving.keys().eq(["A", "B"]));
    // Where nobody reads, nobody is waited for.
    let mut unread = three();
    then(&mut unread, |s| expires(s, &["A", "B", "C"]));
}

#[test]
fn v9_a_split_that_a_reader_does_not_know_yet_stays_if_it_reads_that_table() {
    let mut state = state();
    then(&mut state, |s| rows(s, "A", 10, 15));
    then(&mut state, |s| reads(s, "p/z", 0, 15));
    // A partition that came later, of the same topic.
    then(&mut state, |s| Entry {
        spans: vec![moves(1, 10, 15)],
        add: vec![file("B", Role::Rows, 1, 10, 15)],
        ..rows(s, "x", 15, 16)
    });
    let why = refused(&state, &expires(&state, &["B"]), "V9");
    assert!(
        why.message.contains("has not registered this split"),
        "{why}"
    );
    then(&mut state, |s| expires(s, &["A"]));
}

#[test]
fn v9_dead_letters_wait_for_no_reader() {
    let mut state = state();
    then(&mut state, |s| reads(s, "p/z", 0, 10));
    let letters = AddedFile {
        path: "dead_letters/D.parquet".into(),
        ..file("D", Role::DeadLetters, 0, 10, 12)
    };
    then(&mut state, |s| {
        let mut entry = rows(s, "A", 12, 15);
        entry.spans = vec![moves(0, 10, 15)];
        let span = &mut entry.spans[0];
        (span.records.with_rows, span.records.refused) = (3, 2);
        (span.rows.made, span.rows.written, span.dead_letters) = (3, 3, 2);
        entry.add.push(letters);
        entry
    });
    refused(&state, &expires(&state, &["A"]), "V9");
    then(&mut state, |s| expires(s, &["D"]));
    assert_eq!(state.splits[&split(0)].expired.dead_letters_to, Some(12));
    assert_eq!(state.left["dead_letters"].rows, 2);
}

#[test]
fn v9_older_rows_do_not_stay_behind() {
    let mut state = three();
    let why = refused(&state, &expires(&state, &["B"]), "V9");
    assert!(
        why.message.contains("A.parquet stays, and has older rows"),
        "{why}"
    );
    refused(&state, &expires(&state, &["A", "C"]), "V9");
    refused(&state, &expires(&state, &["A", "A"]), "§2");
    refused(&state, &expires(&state, &["A", "Z"]), "V5");
    refused(&state, &expires(&state, &[]), "§2");
    then(&mut state, |s| expires(s, &["A"]));
    then(&mut state, |s| expires(s, &["B"]));
}

/// `sink.table` was changed: the older rows lie in the table whose name comes later.
#[test]
fn v9_rows_of_a_split_leave_in_order_whatever_their_tables_are() {
    let mut state = state();
    for (table, id, from) in [
        ("z", "A", 10),
        ("z", "B", 15),
        ("a", "C", 20),
        ("a", "D", 25),
    ] {
        then(&mut state, |s| {
            let mut data = rows(s, id, from, from + 5);
            data.add[0].path = format!("{table}/{id}.parquet");
            data
        });
    }
    let now = (i64::MAX / 2, Duration::ZERO);
    for most in 1..=4 {
        let held = Held::default();
        let ids = state.old_by_hand(now, Role::Rows, &held, most).ids();
        assert_eq!(ids, ["A", "B", "C", "D"][..most]);
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        state.check(&expires(&state, &ids)).unwrap();
    }
}

#[test]
fn v9_rows_and_their_keys_leave_together() {
    let mut state = state();
    then(&mut state, |s| {
        let mut entry = rows(s, "A", 10, 15);
        entry.add[0].keys = Some("K".into());
        entry.add.push(AddedFile {
            path: "_system/p/z/keys/K.parquet".into(),
            ..file("K", Role::Keys, 0, 10, 15)
        });
        entry
    });
    refused(&state, &expires(&state, &["A"]), "V9");
    refused(&state, &expires(&state, &["K"]), "V9");
    then(&mut state, |s| expires(s, &["A", "K"]));
    // Whoever names the rows, releases the keys.
    refused(&state, &collects(&state, "K"), "V6");
    then(&mut state, |s| collects(s, "A"));
    assert!(state.leaving.is_empty() && state.removed.keys().eq(["A", "K"]));
    assert_eq!(
        (state.left["books"].files, state.left["books"].rows),
        (1, 5)
    );
}

fn collects(state: &State, id: &str) -> Entry {
    Entry {
        gc: vec![id.into()],
        ..entry(state, Kind::Gc)
    }
}

#[test]
fn v6_v9_what_is_to_be_archived_is_deleted_only_then() {
    let mut state = three();
    then(&mut state, |s| to_be_archived(s, &["A"]));
    let why = refused(&state, &collects(&state, "A"), "V6");
    assert!(why.message.contains("to be archived"), "{why}");
    let archives = |state: &State, id: &str, copy: &str, digest: &str| Entry {
        archived: vec![Archived {
            id: id.into(),
            copy: copy.into(),
            digest: digest.into(),
        }],
        ..entry(state, Kind::Archived)
    };
    // The digest of the file is empty in this test.
    refused(
        &state,
        &archives(&state, "A", "s3://a/A", "sha256:other"),
        "V9",
    );
    refused(&state, &archives(&state, "A", "", ""), "V9");
    assert!(refused(&state, &archives(&state, "B", "s3://a/B", ""), "V9").moved);
    let mut twice = archives(&state, "A", "s3://a/A", "");
    twice.archived.push(twice.archived[0].clone());
    refused(&state, &twice, "§2");
    then(&mut state, |s| archives(s, "A", "s3://a/A", ""));
    assert!(state.leaving.is_empty() && state.removed.contains_key("A"));
    let left = &state.left["books"];
    assert_eq!((left.archived_files, left.archived_rows), (1, 5));
    // Nothing brings it back.
    let again = Entry {
        spans: vec![moves(0, 25, 30)],
        add: vec![file("A", Role::Rows, 0, 25, 30)],
        ..rows(&state, "x", 25, 30)
    };
    refused(&state, &again, "V4");
}

#[test]
fn v4_an_expired_name_is_taken() {
    let mut state = three();
    then(&mut state, |s| expires(s, &["A"]));
    let again = Entry {
        spans: vec![moves(0, 25, 30)],
        add: vec![file("A", Role::Rows, 0, 25, 30)],
        ..rows(&state, "x", 25, 30)
    };
    refused(&state, &again, "V4");
}

#[test]
fn v8_v11_nobody_goes_back_to_what_expired() {
    let mut state = three();
    then(&mut state, |s| reads(s, "p/z", 0, 15));
    then(&mut state, |s| reads(s, "p/z", 0, 20));
    then(&mut state, |s| expires(s, &["A", "B"]));
    let to = |at: i64| BTreeMap::from([(split(0), at)]);
    let why = state.back_to(&to(15)).unwrap_err();
    assert_eq!(why.rule, "V8");
    assert!(
        why.message.contains("offsets below 20 has expired"),
        "{why}"
    );
    // Its own rows may be taken back: the reader stands at the target.
    state.back_to(&to(20)).unwrap();
    // A reader that comes later begins above what is gone, and its position is one.
    let late = reads(&state, "q/z", 0, 10);
    assert!(refused(&state, &late, "V11").moved);
    refused(&state, &reads(&state, "q/z", 0, 19), "V11");
    assert_eq!(state.splits[&split(0)].readable_from(), 20);
    assert_eq!(state.splits[&split(0)].rows_between(20, 25), Some(5));
    then(&mut state, |s| reads(s, "q/z", 0, 20));
}

#[test]
fn v8_a_reader_is_not_set_back_below_what_expired() {
    let mut state = three();
    then(&mut state, |s| reads(s, "p/z", 0, 10));
    then(&mut state, |s| reads(s, "p/z", 0, 25));
    then(&mut state, |s| expires(s, &["A"]));
    let why = state.back_to(&[(split(0), 20)].into()).unwrap_err();
    assert!(
        why.message
            .contains("p/z at 10: the rows below offset 15 have expired"),
        "{why}"
    );
}

#[test]
fn v11_a_reader_that_never_comes_back_is_forgotten() {
    let mut state = three();
    then(&mut state, |s| reads(s, "p/z", 0, 10));
    refused(&state, &expires(&state, &["A"]), "V9");
    let forgets = |state: &State, reader: &str, generation| Entry {
        forget: Some(Forget {
            reader: reader.into(),
            generation,
            actor: "ana".into(),
            reason: String::new(),
        }),
        ..entry(state, Kind::Forget)
    };
    refused(&state, &forgets(&state, "q/z", 0), "V11");
    assert!(refused(&state, &forgets(&state, "p/z", 1), "V11").moved);
    then(&mut state, |s| forgets(s, "p/z", 0));
    assert!(state.readers.is_empty() && state.cuts.is_empty());
    then(&mut state, |s| expires(s, &["A"]));
}

// ------------------------------------------------------------------ a whole log

fn keep(rows: Duration, letters: Option<Duration>) -> Keep {
    Keep {
        rows: Some(rows),
        dead_letters: letters,
        grace: HOUR,
        archive: false,
    }
}

fn keeping(log: Log, keep: Keep) -> Log {
    log.with_limits(Limits {
        keep,
        retention: Duration::ZERO,
        late: Duration::ZERO,
        checkpoint_every: 2,
        horizon_step: 3,
        ..Limits::default()
    })
}

/// Commits of two offsets each, an hour apart.
fn grow(bench: &Bench, log: &mut Log, commits: usize) {
    for _ in 0..commits {
        bench.clock.advance(HOUR);
        let at = log.state().splits[&split(0)].to;
        let receipt = bench.sealed(log, 0, at, at + 2);
        let done = committed(log.commit(data(vec![receipt])));
        log.publish(&done).unwrap();
    }
}

/// What a committer does about old data until nothing is left to do; how many entries that took.
fn try_leave(log: &mut Log) -> Result<usize> {
    let mut entries = 0;
    let held = Held::default();
    while let Some(due) = log.due(&held) {
        log.redo()?;
        let draft = match due {
            Due::Expire => log.expire_draft(&held).unwrap(),
            Due::Release => Draft::Gc(log.releasable()),
        };
        if let Outcome::Committed { committed, .. } = log.commit(draft)? {
            log.publish(&committed)?;
        }
        log.checkpoint_if_due();
        entries += 1;
    }
    Ok(entries)
}

fn let_leave(log: &mut Log) -> usize {
    try_leave(log).unwrap()
}

fn whole(bench: &Bench) {
    let report = verify(&*bench.store, &log_name()).unwrap().unwrap();
    assert_eq!(report.problems, []);
}

#[test]
fn old_rows_leave_and_their_files_a_while_later() {
    let bench = Bench::new("expiry-leave");
    let mut log = keeping(bench.opened(), keep(10 * HOUR, Some(5 * HOUR)));
    grow(&bench, &mut log, 20);
    let before = bench.published();
    assert!(let_leave(&mut log) >= 1);
    let state = log.state();
    let now = bench.clock.now_micros();
    let age = |time: i64| Duration::from_micros(u64::try_from(now - time).unwrap());
    for live in state.live.values() {
        let most = match live.file.role {
            Role::DeadLetters => 5 * HOUR,
            _ => 10 * HOUR,
        };
        assert!(age(live.time()) <= most + HOUR, "{live:?}");
    }
    let left: u64 = state.left.values().map(|left| left.rows).sum();
    let there: u64 = state.live.values().map(|live| live.file.rows).sum();
    let total = state.totals();
    assert_eq!(left + there, total.rows.written + total.dead_letters);
    assert!(left > 10 && state.left.len() == 2, "{:?}", state.left);
    // Whoever lists sees them until the grace is over.
    assert_eq!(bench.published(), before);
    whole(&bench);
    bench.clock.advance(HOUR);
    assert!(let_leave(&mut log) >= 1);
    assert_eq!(bench.published(), log.state().live.len());
    assert!(log.state().leaving.is_empty());
    whole(&bench);
    // A checkpoint has all of it.
    log.checkpoint().unwrap();
    assert_eq!(bench.reader_log().state(), log.state());
}

/// An archive reads what expired, and who deletes it looks for its name. So it gets its name also if it expired before: from
/// its committer, or from the next process, which does not take it for a leftover.
#[test]
fn what_expired_before_it_was_published_is_published() {
    for restarted in [false, true] {
        let bench = Bench::new(&format!("expiry-unpublished-{restarted}"));
        let keeps = keep(HOUR, Some(HOUR));
        let mut log = keeping(bench.opened(), keeps);
        let mut other = keeping(bench.log(), keeps);
        let receipt = bench.sealed(&log, 0, 3, 8);
        let done = committed(log.commit(data(vec![receipt])));
        bench.clock.advance(3 * HOUR);
        other.refresh().unwrap();
        let draft = other.expire_draft(&Held::default()).unwrap();
        committed(other.commit(draft));
        assert_eq!(bench.published(), 0);
        if restarted {
            log = bench.log();
        } else {
            log.refresh().unwrap();
            log.publish(&done).unwrap();
        }
        assert_eq!(bench.published(), done.entry.add.len());
        assert_eq!(log.state().leaving.len(), done.entry.add.len());
        assert!(log.state().collected.is_empty());
    }
}

/// P3: what expired has no row in common with a later file, so commits go on while one of its files cannot be deleted. It is said, the other
/// files go, and checkpoints (P4) and the horizon (V13) wait for it.
#[test]
fn p3_what_expired_and_cannot_be_deleted_holds_no_publish_back() {
    for (kind, heals) in [("memory", true), ("memory", false), ("memory+upload", true)] {
        let store = store::open_url(&format!("{kind}:expiry-stuck-{heals}")).unwrap();
        let bench = Bench::on(store);
        let mut log = keeping(bench.opened(), keep(10 * HOUR, None));
        grow(&bench, &mut log, 20);
        drop(log);
        let stuck: Arc<Mutex<Option<String>>> = Arc::default();
        let seen = Arc::clone(&stuck);
        let (log, _) = bench.faulty(ask(move |op| {
            let mut stuck = seen.lock().unwrap();
            let deletes = op.verb == Verb::Delete && op.path.starts_with("books/");
            let first = deletes.then(|| stuck.get_or_insert_with(|| op.path.clone()));
            match first.is_some_and(|first| *first == op.path) {
                true => Fault::FailBefore,
                false => Fault::None,
            }
        }));
        let mut log = keeping(log, keep(10 * HOUR, None));
        assert!(let_leave(&mut log) >= 1);
        bench.clock.advance(HOUR);
        assert!(let_leave(&mut log) >= 1);
        let path = stuck
            .lock()
            .unwrap()
            .clone()
            .expect("a file was to be deleted");
        let (files, why) = log.view().undeleted().expect("it is said");
        assert!(files == 1 && why.contains(&path), "{files}: {why}");
        let checkpoints = bench.store.list(&log_name().checkpoint_dir()).unwrap();
        let before = log.state().totals().rows.written;
        grow(&bench, &mut log, 5);
        log.checkpoint_if_due();
        assert!(log.state().totals().rows.written > before);
        let shown = |live: &LiveFile| bench.store.size(&live.file.path).unwrap().is_some();
        let rows = log
            .state()
            .live
            .values()
            .filter(|l| l.file.role != Role::Keys);
        assert!(
            rows.into_iter().all(shown),
            "{kind}: all that is live has its name"
        );
        assert_eq!(
            bench.store.list(&log_name().checkpoint_dir()).unwrap(),
            checkpoints
        );
        let version = log.version();
        assert!(log.checkpoint().is_err() && log.forgettable(None).is_none());
        assert!(lost(log.commit(Draft::Horizon(version))).is_empty());
        assert_eq!(bench.published(), log.state().live.len() + 1);
        match heals {
            true => {
                *stuck.lock().unwrap() = Some(String::new());
                bench.clock.advance(HOUR / 30);
                log.redo().unwrap();
                assert_eq!(log.view().undeleted(), None);
                log.checkpoint().unwrap();
            }
            // A process that opens the log does not take it for deleted because later files have their names.
            false => drop(bench.log()),
        }
        assert_eq!(bench.store.size(&path).unwrap(), None, "{kind}");
        assert_eq!(bench.published(), log.state().live.len(), "{kind}");
        whole(&bench);
    }
}

/// Publishes by copies that may end late, and does not delete this file of rows.
#[derive(Debug)]
struct CopiesAndKeeps(Arc<Mutex<Option<String>>>);

impl Faults for CopiesAndKeeps {
    fn decide(&self, op: &Op) -> Fault {
        let mut kept = self.0.lock().unwrap();
        let deletes = op.verb == Verb::Delete && op.path.starts_with("books/");
        match deletes && *kept.get_or_insert_with(|| op.path.clone()) == op.path {
            true => Fault::FailBefore,
            false => Fault::None,
        }
    }

    fn copies(&self) -> bool {
        true
    }
}

/// Where publishing copies, removed files are looked for once more. One that expired and cannot be deleted then either stops no
/// commit and no start.
#[test]
fn p3_what_expired_holds_nothing_back_where_copies_end_late() {
    let bench = Bench::new("expiry-late");
    let kept: Arc<Mutex<Option<String>>> = Arc::default();
    let keeps = keep(10 * HOUR, None);
    drop(bench.opened());
    let (log, _) = bench.faulty(CopiesAndKeeps(Arc::clone(&kept)));
    let mut log = keeping(log, keeps);
    grow(&bench, &mut log, 20);
    assert!(let_leave(&mut log) >= 1);
    bench.clock.advance(HOUR);
    assert!(let_leave(&mut log) >= 1);
    let path = kept.lock().unwrap().clone().expect("a file to delete");
    // Longer than any copy takes.
    bench.clock.advance(HOUR / 4);
    let before = log.state().totals().rows.written;
    grow(&bench, &mut log, 2);
    assert!(log.state().totals().rows.written > before);
    drop(log);
    let keeps_it = FaultStore::new(
        Arc::clone(&bench.store),
        Arc::new(CopiesAndKeeps(Arc::clone(&kept))),
    );
    let mut log = keeping(bench.open_through(keeps_it).unwrap(), keeps);
    grow(&bench, &mut log, 2);
    assert!(log.view().undeleted().is_some() && bench.store.size(&path).unwrap().is_some());
    *kept.lock().unwrap() = Some(String::new());
    bench.clock.advance(HOUR / 4);
    grow(&bench, &mut log, 1);
    assert_eq!(log.view().undeleted(), None);
    assert_eq!(bench.store.size(&path).unwrap(), None);
    whole(&bench);
}

#[test]
fn a_merged_file_leaves_by_the_age_of_its_rows_whatever_its_name_is() {
    let bench = Bench::new("expiry-merged");
    let mut log = keeping(bench.opened(), keep(77 * HOUR, None));
    grow(&bench, &mut log, 2);
    let horizon = log.version();
    grow(&bench, &mut log, 78);
    committed(log.commit(Draft::Horizon(horizon)));
    let merge = bench.loader().compacting(&mut log).unwrap().unwrap();
    let done = committed(log.commit(merge));
    log.publish(&done).unwrap();
    let merged = &done.entry.add[0].id;
    let before = log.state().live.keys().filter(|id| *id < merged).count();
    assert!(before > 70, "it is one of the first: {before}");
    assert!(let_leave(&mut log) >= 1, "nothing is old");
    assert!(!log.state().live.contains_key(merged));
    whole(&bench);
}

#[test]
fn a_reader_holds_back_what_it_has_not_read_and_is_named() {
    let bench = Bench::new("expiry-reader");
    let mut log = keeping(bench.opened(), keep(HOUR, None));
    grow(&bench, &mut log, 10);
    let register = |log: &mut Log, at: i64| {
        let reader = Reader {
            name: "p/z".into(),
            generation: 0,
            version: log.version(),
            position: [(split(0), at)].into(),
        };
        committed(log.commit(Draft::Reader(reader)));
    };
    register(&mut log, 9);
    let_leave(&mut log);
    let state = log.state();
    let to = state.splits[&split(0)].readable_from();
    assert!(to > 5 && to <= 9, "{to}");
    let now = bench.clock.now_micros();
    let old = state.old_by_hand((now, 2 * HOUR), Role::Rows, &Held::default(), 100);
    assert!(old.leaves.is_empty() && !old.held.is_empty());
    let reader = Holder::Reader {
        name: "p/z".into(),
        split: split(0),
        at: Some(9),
    };
    assert!(
        old.held.iter().all(|(holder, _)| *holder == reader),
        "{:?}",
        old.held
    );
    // Bit by bit, as it reads on.
    for at in [13, 17, 23] {
        register(&mut log, at);
        bench.clock.advance(HOUR);
        let_leave(&mut log);
        let to = log.state().splits[&split(0)].readable_from();
        assert!(to > at - 4 && to <= at, "{to} {at}");
    }
}

#[test]
fn a_clock_that_is_years_ahead_deletes_nothing() {
    let bench = Bench::new("expiry-clock");
    let month = 30 * 24 * HOUR;
    let mut log = keeping(bench.opened(), keep(month, Some(month)));
    grow(&bench, &mut log, 10);
    // It reads the log, and writes to it.
    bench.clock.advance(4000 * 24 * HOUR);
    let mut ahead = keeping(bench.log(), keep(month, Some(month)));
    assert_eq!(let_leave(&mut ahead), 0);
    grow(&bench, &mut ahead, 3);
    assert_eq!(let_leave(&mut ahead), 0);
    // It was none: the log has gone on for a week since.
    for _ in 0..8 {
        bench.clock.advance(23 * HOUR);
        grow(&bench, &mut ahead, 1);
        let_leave(&mut ahead);
    }
    assert!(ahead.state().splits[&split(0)].readable_from() > 20);
}

#[test]
fn who_sees_an_old_state_expires_nothing_that_a_reader_needs_by_now() {
    let bench = Bench::new("expiry-sleeper");
    let mut log = keeping(bench.opened(), keep(HOUR, None));
    grow(&bench, &mut log, 10);
    let slept = keeping(bench.log(), keep(HOUR, None));
    let draft = slept.expire_draft(&Held::default()).unwrap();
    let reader = Reader {
        name: "p/z".into(),
        generation: 0,
        version: log.version(),
        position: [(split(0), 3)].into(),
    };
    committed(log.commit(Draft::Reader(reader)));
    let mut slept = slept;
    let dropped = lost(slept.commit(draft));
    assert!(
        dropped[0].reason.to_string().contains("V9"),
        "{}",
        dropped[0].reason
    );
    assert!(log.state().leaving.is_empty());
}

/// Counts on when its log is another's.
#[derive(Debug)]
struct Shared(Arc<Script>);

impl Faults for Shared {
    fn decide(&self, op: &Op) -> Fault {
        self.0.decide(op)
    }
}

/// One process meets the fault at this step, another one comes after it. False: there is no such step.
fn killed(kind: &str, step: u64, fault: Fault) -> bool {
    let url = kind.replace('N', &format!("{step}-{fault:?}"));
    let bench = Bench::on(weir::store::open_url(&url).unwrap());
    let keeps = keep(5 * HOUR, Some(5 * HOUR));
    let mut log = keeping(bench.opened(), keeps);
    grow(&bench, &mut log, 12);
    drop(log);
    let script = Arc::new(Script::durable(step, fault));
    let (log, _) = bench.faulty(Shared(Arc::clone(&script)));
    let mut log = keeping(log, keeps);
    let ended = try_leave(&mut log).and_then(|_| {
        bench.clock.advance(HOUR);
        try_leave(&mut log)
    });
    if let Err(error) = ended {
        let expected = [ErrorKind::Stopped, ErrorKind::StoreUnavailable];
        assert!(
            expected.contains(&error.kind()),
            "{step} {fault:?}: {error}"
        );
    }
    let mut next = keeping(bench.log(), keeps);
    let_leave(&mut next);
    bench.clock.advance(2 * HOUR);
    let_leave(&mut next);
    let state = next.state();
    assert!(!state.live.is_empty() && state.left.len() == 2);
    let files = state.live.len() + state.leaving.len();
    assert_eq!(bench.published(), files, "{step} {fault:?}");
    whole(&bench);
    script.seen() > step
}

/// Of expiring, of naming what may be deleted, and of deleting.
#[test]
fn a_fault_at_any_durable_step_is_gone_on_from() {
    for kind in [
        "memory:expiry-kill-N",
        "memory+upload:expiry-kill-N?part=40&answers=varies",
    ] {
        let mut steps = 0;
        for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::ReplyLost] {
            steps = (0..).find(|step| !killed(kind, *step, fault)).unwrap();
        }
        eprintln!("{kind}: {steps} steps");
        assert!(steps > 10, "{kind}: {steps}");
    }
}
