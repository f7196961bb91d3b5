//! Horizons, checkpoints and the expiry of a log (docs/protocol.md §9): what they may forget, and what they never may.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir::commit::{Draft, Limits, Log, Reader, State, verify};
use weir::error::Kind;
use weir::store::{Fault, FaultStore, Verb};

use crate::protocol_bench::{Bench, ask, committed, data, lost};
use crate::sim_world::{log_name, split};

/// Forgets as soon as it may, in small steps.
fn short(log: Log) -> Log {
    log.with_limits(Limits {
        retention: Duration::ZERO,
        late: Duration::ZERO,
        checkpoint_every: 2,
        horizon_step: 3,
        ..Limits::default()
    })
}

/// As many commits of one offset each, and what a committer does after each.
fn grow(bench: &Bench, log: &mut Log, commits: usize) {
    for _ in 0..commits {
        let at = log.state().splits[&split(0)].to;
        let receipt = bench.sealed(log, 0, at, at + 1);
        let done = committed(log.commit(data(vec![receipt])));
        log.publish(&done).unwrap();
        if let Some(version) = log.forgettable(None) {
            committed(log.commit(Draft::Horizon(version)));
        }
        log.checkpoint_if_due();
    }
}

fn versions(bench: &Bench, dir: &str) -> Vec<u64> {
    let listed = bench.store.list(&format!("{}/{dir}", log_name().dir()));
    let name = |path: &str| {
        path.rsplit('/')
            .next()
            .unwrap()
            .split('.')
            .next()
            .unwrap()
            .to_owned()
    };
    let listed = listed.unwrap().into_iter();
    listed.map(|l| name(&l.path).parse().unwrap()).collect()
}

fn newest(bench: &Bench, at: usize) -> String {
    let found = versions(bench, "checkpoint");
    log_name().checkpoint(found[found.len() - 1 - at])
}

#[test]
fn a_log_stays_short_and_opens_as_if_it_were_whole() {
    let bench = Bench::new("forget-short");
    let mut log = short(bench.opened());
    let mut whole = bench.reader_log();
    for _ in 0..30 {
        grow(&bench, &mut log, 3);
        // Has folded every entry; the others begin at a checkpoint.
        whole.refresh().unwrap();
        let opened = bench.reader_log();
        assert_eq!(opened.state(), whole.state());
        assert_eq!(opened.state(), log.state());
    }
    let state = log.state();
    let (entries, checkpoints) = (versions(&bench, "log"), versions(&bench, "checkpoint"));
    assert!(state.version > 100 && state.horizon > state.version - 12);
    assert!(entries.len() < 16, "{entries:?}");
    assert_eq!(checkpoints.len(), 2);
    let manifests = bench
        .store
        .list(&format!("{}/manifest", log_name().dir()))
        .unwrap();
    assert!(manifests.len() <= 3, "{manifests:?}");
    // What is forgotten is accounted for: sums, where reading began, and every file.
    assert_eq!(state.totals().records.read, 90);
    assert_eq!(
        (state.splits[&split(0)].start(), state.splits[&split(0)].to),
        (3, 93)
    );
    assert!(state.splits[&split(0)].borders.len() < 16);
    let files: u64 = state.live.values().map(|live| live.file.rows).sum();
    assert_eq!(
        files,
        state.totals().rows.written + state.totals().dead_letters
    );
    assert_eq!(state.settled, 90);
    let report = verify(&*bench.store, &log_name()).unwrap().unwrap();
    assert_eq!(report.problems, []);
    assert_eq!(report.files, state.live.len() as u64);
}

/// R3: entries are deleted in ascending order, each delete is acknowledged before the next, and an error ends the pass.
#[test]
fn hole_03_the_oldest_entry_goes_first_and_an_error_ends_the_pass() {
    let bench = Bench::new("forget-order");
    drop(bench.opened());
    let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
    let (entries, dir) = (Arc::clone(&seen), log_name().log_dir());
    let (log, _) = bench.faulty(ask(move |op| {
        if op.verb != Verb::Delete || !op.path.starts_with(&dir) {
            return Fault::None;
        }
        let name = op.path.rsplit('/').next().unwrap();
        let mut entries = entries.lock().unwrap();
        entries.push(name.trim_end_matches(".json").parse().unwrap());
        match entries.len() {
            5 => Fault::FailBefore,
            _ => Fault::None,
        }
    }));
    grow(&bench, &mut short(log), 40);
    let mut seen = seen.lock().unwrap().clone();
    assert!(seen.len() > 20, "{seen:?}");
    assert_eq!(seen[4], seen[5], "the one that failed comes again first");
    seen.remove(5);
    let ascending: Vec<u64> = (0..seen.len() as u64).collect();
    assert_eq!(seen, ascending);
}

/// P4: no checkpoint passes an entry whose files have no names yet: the next opener would not look for them.
#[test]
fn hole_10_no_checkpoint_passes_a_publish_that_is_not_done() {
    let bench = Bench::new("forget-unpublished");
    drop(bench.opened());
    let away = Arc::new(Mutex::new(true));
    let is_away = Arc::clone(&away);
    let (log, _) = bench.faulty(ask(move |op| {
        match op.verb == Verb::Rename && *is_away.lock().unwrap() {
            true => Fault::FailBefore,
            false => Fault::None,
        }
    }));
    let mut log = short(log);
    let receipt = bench.sealed(&log, 0, 3, 8);
    committed(log.commit(data(vec![receipt])));
    log.checkpoint_if_due();
    log.checkpoint().expect_err("a file has no name");
    assert_eq!(versions(&bench, "checkpoint"), [0; 0]);
    assert_eq!(bench.published(), 0);
    *away.lock().unwrap() = false;
    log.checkpoint().unwrap();
    assert_eq!(versions(&bench, "checkpoint"), [log.version()]);
    assert_eq!(bench.published(), log.state().live.len());
}

#[test]
fn who_slept_while_the_log_got_short_commits_nothing_and_reads_again() {
    let bench = Bench::new("forget-slept");
    let mut log = short(bench.opened());
    let mut sleeper = bench.log();
    let receipt = bench.sealed(&sleeper, 1, 3, 8);
    let (first, second) = (bench.log(), bench.log());
    assert!(first.is_next().unwrap() && second.is_next().unwrap());
    grow(&bench, &mut log, 40);
    assert!(!versions(&bench, "log").contains(&sleeper.version()));
    assert!(!versions(&bench, "log").contains(&(sleeper.version() + 1)));
    // D3: the place above the version that it proved is free, and it is not next.
    assert!(!first.is_next().unwrap());
    // W6: its entry goes to a place that was used and deleted before. W4: so does not what it read again.
    let before = log.state().clone();
    let dropped = lost(sleeper.commit(data(vec![receipt.clone()])));
    assert!(
        dropped[0].reason.to_string().contains("W4"),
        "{}",
        dropped[0].reason
    );
    log.refresh().unwrap();
    assert_eq!(*log.state(), before);
    assert_eq!(*sleeper.state(), before);
    assert_eq!(*bench.reader_log().state(), before);
    // Its rows come again once, under its new base.
    let again = bench.sealed(&sleeper, 1, 3, 8);
    let done = committed(sleeper.commit(data(vec![again])));
    sleeper.publish(&done).unwrap();
    assert_eq!(sleeper.state().splits[&split(1)].to, 8);
    assert_eq!(
        verify(&*bench.store, &log_name())
            .unwrap()
            .unwrap()
            .problems,
        []
    );
}

#[test]
fn a_put_of_a_sleeper_that_lands_in_a_place_that_was_deleted_is_no_commit() {
    let bench = Bench::new("forget-ghost");
    let mut log = short(bench.opened());
    // It sends its entry, and sleeps before the answer: the entry lands when its place was used and deleted.
    let ghost = log.version() + 1;
    let (mut sleeper, store) =
        bench.faulty(crate::protocol_bench::delayed(ghost, Default::default()));
    let receipt = bench.sealed(&sleeper, 1, 3, 8);
    sleeper.commit(data(vec![receipt])).expect_err("no answer");
    grow(&bench, &mut log, 40);
    while store.late() > 0 {
        store.land();
    }
    assert_eq!(versions(&bench, "log")[0], ghost, "it is there");
    assert!(ghost < log.state().horizon);
    let before = log.state().clone();
    log.refresh().unwrap();
    assert_eq!(*log.state(), before);
    assert_eq!(*bench.reader_log().state(), before);
    // The next process deletes it with what is forgotten.
    let mut next = short(bench.log());
    grow(&bench, &mut next, 12);
    assert!(!versions(&bench, "log").contains(&ghost));
}

#[test]
fn a_reader_holds_the_horizon_back_until_it_has_read_on() {
    let bench = Bench::new("forget-reader");
    let mut log = short(bench.opened());
    grow(&bench, &mut log, 5);
    let reader = |log: &Log, at: i64| {
        Draft::Reader(Reader {
            name: "p/z".into(),
            generation: 0,
            version: log.version(),
            position: BTreeMap::from([(split(0), at)]),
        })
    };
    let stands = log.state().splits[&split(0)].to;
    let draft = reader(&log, stands);
    let registered = committed(log.commit(draft)).version;
    grow(&bench, &mut log, 20);
    assert!(log.state().horizon <= registered, "{}", log.state().horizon);
    let dropped = lost(log.commit(Draft::Horizon(registered + 2)));
    assert!(
        dropped[0]
            .reason
            .to_string()
            .contains("reader p/z needs version")
    );
    // Everything above its position is still there, commit by commit.
    let read = log.state().splits[&split(0)].rows_between(stands, stands + 1);
    assert!(read.is_some());
    let end = log.state().splits[&split(0)].to;
    let draft = reader(&log, end);
    committed(log.commit(draft));
    grow(&bench, &mut log, 12);
    assert!(log.state().horizon > registered);
    // A split that the reader never names holds nothing back.
    assert!(log.state().splits[&split(1)].borders.len() == 1);
}

#[test]
fn nothing_goes_back_below_the_horizon() {
    let bench = Bench::new("forget-below");
    let mut log = short(bench.opened());
    grow(&bench, &mut log, 30);
    let at = |log: &Log| {
        let split = log.state().splits[&split(0)].clone();
        (split.lowest(log.state().horizon), split.to)
    };
    while at(&log).0 == at(&log).1 {
        grow(&bench, &mut log, 1);
    }
    let (state, lowest) = (log.state(), at(&log).0);
    assert!(lowest > state.splits[&split(0)].start());
    let to = |at| BTreeMap::from([(split(0), at)]);
    for below in [3, lowest - 1] {
        let refused = state.back_to(&to(below)).expect_err("forgotten");
        assert_eq!(refused.rule, "V8");
        assert!(
            refused.message.contains(&format!("{lowest}..")),
            "{refused}"
        );
    }
    let back = state.back_to(&to(lowest)).unwrap();
    assert_eq!(
        back.spans[0].from - back.spans[0].to,
        state.splits[&split(0)].to - lowest
    );
    // Nor does the horizon.
    let horizon = state.horizon;
    let dropped = lost(log.commit(Draft::Horizon(horizon)));
    assert_eq!(dropped[0].reason.rule, "V13");
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_two_are_named() {
    let bench = Bench::new("forget-damaged");
    let mut log = short(bench.opened());
    grow(&bench, &mut log, 30);
    let text = |path: &str| {
        let bytes = bench.store.get(path).unwrap().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    let put = |path: &str, text: &str| {
        bench.store.delete(path).unwrap();
        bench.store.create(path, text.as_bytes()).unwrap();
    };
    let whole: Vec<String> = [0, 1].iter().map(|at| text(&newest(&bench, *at))).collect();
    let digest = &log.state().digest;
    for damaged in [
        whole[0][..whole[0].len() / 2].to_owned(),
        whole[0].replace("\"manifests\":[{\"id\":\"", "\"manifests\":[{\"id\":\"0"),
        whole[0].replace("\"entry\":\"sha256:", "\"entry\":\"sha256:0"),
    ] {
        assert_ne!(damaged, whole[0]);
        put(&newest(&bench, 0), &damaged);
        assert_eq!(&bench.reader_log().state().digest, digest);
        let report = verify(&*bench.store, &log_name()).unwrap().unwrap();
        assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
        put(&newest(&bench, 1), "{");
        let error = Log::open(
            bench.store.clone(),
            log_name(),
            bench.clock.clone(),
            weir::commit::Writer::this_process(&*bench.clock),
        )
        .expect_err("none is left");
        assert_eq!(error.kind(), Kind::LogCorrupt);
        assert!(error.to_string().contains("checkpoint"), "{error}");
        put(&newest(&bench, 1), &whole[1]);
    }
    // A later format is refused by its number, whatever else is there.
    put(
        &newest(&bench, 0),
        &whole[0].replacen("\"format\":2", "\"format\":3", 1),
    );
    let error = Log::open(
        bench.store.clone(),
        log_name(),
        bench.clock.clone(),
        weir::commit::Writer::this_process(&*bench.clock),
    )
    .expect_err("another format");
    assert!(error.to_string().contains("format 3"), "{error}");
}

#[test]
fn an_entry_that_nobody_may_forget_and_is_gone_stops() {
    let bench = Bench::new("forget-gone");
    let mut log = short(bench.opened());
    grow(&bench, &mut log, 31);
    let mut other = bench.reader_log();
    // Above the newest checkpoint.
    let version = log.version();
    assert!(version > *versions(&bench, "checkpoint").last().unwrap());
    bench.store.delete(&log_name().entry(version)).unwrap();
    assert_eq!(other.refresh().expect_err("gone").kind(), Kind::LogCorrupt);
}

#[test]
fn a_checkpoint_is_the_whole_state() {
    let bench = Bench::new("forget-whole");
    let mut log = short(bench.opened());
    grow(&bench, &mut log, 3);
    let root = bench.store.get(&newest(&bench, 0)).unwrap().unwrap();
    let root: serde_json::Value = serde_json::from_slice(&root).unwrap();
    // Of each field of the state one name; files, also those that left, and commit boundaries are in manifests.
    let State { .. } = log.state();
    for name in [
        "version", "entry", "init", "horizon", "splits", "rules", "readers",
    ] {
        assert!(root["state"].get(name).is_some(), "{name}");
    }
    assert!(root["state"].get("live").is_none());
    assert!(root["manifests"][0]["files"].as_u64().unwrap() > 0);
}

#[test]
fn a_reader_is_set_back_to_where_it_stood_before_the_horizon_and_reads_on() {
    let bench = Bench::new("forget-set-back");
    let mut log = bench.opened();
    let register = |log: &mut Log| {
        let position = BTreeMap::from([(split(0), log.state().splits[&split(0)].to)]);
        let reader = Reader {
            name: "p/z".into(),
            generation: 0,
            version: log.version(),
            position,
        };
        committed(log.commit(Draft::Reader(reader)));
    };
    grow(&bench, &mut log, 5);
    register(&mut log);
    let first = log.state().splits[&split(0)].to;
    grow(&bench, &mut log, 9);
    register(&mut log);
    // What it registered first is the newest cut at or below this horizon.
    let horizon = log.version() - 1;
    committed(log.commit(Draft::Horizon(horizon)));
    let state = log.state();
    let cut = state.oldest_cut("p/z").unwrap()[&split(0)];
    assert_eq!(cut, first);
    assert!(cut < state.splits[&split(0)].lowest(state.horizon));
    let at = &state.splits[&split(0)];
    let above = at
        .borders
        .iter()
        .map(|border| border.to)
        .find(|to| *to > cut)
        .unwrap();
    assert!(
        at.rows_between(cut, above).is_some(),
        "it can plan from there"
    );
    // It is kept for the reader: no rewind goes there.
    let to = BTreeMap::from([(split(0), cut)]);
    let refused = state.back_to(&to).expect_err("forgotten");
    assert!(
        refused.message.contains("expected a border of"),
        "{refused}"
    );
}

#[test]
fn a_process_that_slept_before_the_first_entry_begins_no_second_log() {
    let bench = Bench::new("forget-second");
    // It found no log, and sleeps before it writes the first entry: meanwhile another begins one, which gets short.
    let (store, clock, ids) = (bench.store.clone(), bench.clock.clone(), bench.ids.clone());
    let mut slept = false;
    let asked = crate::protocol_bench::ask(move |op| {
        let first = op.verb == Verb::Create && op.path == log_name().entry(0);
        if first && !std::mem::replace(&mut slept, true) {
            let other = Bench {
                store: store.clone(),
                clock: clock.clone(),
                ids: ids.clone(),
            };
            let mut log = short(other.opened());
            grow(&other, &mut log, 40);
        }
        Fault::None
    });
    let late = FaultStore::new(bench.store.clone(), Arc::new(asked));
    let log = bench.open_through(late).unwrap();
    assert!(log.version() > 40, "{}", log.version());
    assert!(versions(&bench, "log").contains(&0), "its entry is there");
    let (reader, store) = (bench.reader_log(), &*bench.store);
    assert_eq!(reader.state(), log.state());
    let first = weir::commit::first_digest(store, &log_name())
        .unwrap()
        .unwrap();
    assert_eq!(first, log.state().first);
    let ghost = store.get(&log_name().entry(0)).unwrap().unwrap();
    assert_ne!(first, weir::commit::digest(&ghost));
    assert!(weir::commit::oldest_entry(store, &log_name()).unwrap() > 0);
    assert_eq!(verify(store, &log_name()).unwrap().unwrap().problems, []);
}

#[test]
fn a_manifest_that_was_deleted_never_comes_back_under_its_name() {
    let bench = Bench::new("forget-names");
    let mut log = bench.opened().with_limits(Limits {
        checkpoint_every: 1,
        ..Limits::default()
    });
    let (mut gone, mut before) = (BTreeSet::new(), BTreeSet::new());
    let mut look = |log: &mut Log| {
        log.checkpoint().unwrap();
        assert_eq!(bench.reader_log().state(), log.state());
        let listed = bench.store.list(&format!("{}/manifest", log_name().dir()));
        let now: BTreeSet<String> = listed.unwrap().into_iter().map(|l| l.path).collect();
        gone.extend(before.difference(&now).cloned());
        assert!(gone.is_disjoint(&now), "{gone:?} {now:?}");
        before = now;
        gone.len()
    };
    grow(&bench, &mut log, 3);
    look(&mut log);
    // Files and boundaries are then what they were at this checkpoint, which is long deleted.
    let stands = BTreeMap::from([(split(0), log.state().splits[&split(0)].to)]);
    for commits in [3, 1, 4] {
        for _ in 0..commits {
            grow(&bench, &mut log, 1);
            look(&mut log);
        }
        bench.loader().go_back_to(&mut log, &stands).unwrap();
        look(&mut log);
    }
    // As many as before, and others: one commit in the place of another.
    grow(&bench, &mut log, 1);
    look(&mut log);
    bench.loader().go_back_to(&mut log, &stands).unwrap();
    grow(&bench, &mut log, 1);
    assert!(look(&mut log) > 5);
}

#[test]
fn a_manifest_of_another_content_is_damage() {
    let bench = Bench::new("forget-manifest");
    let mut log = short(bench.opened());
    let named = |bench: &Bench| {
        let dir = format!("{}/manifest", log_name().dir());
        let listed = bench.store.list(&dir).unwrap();
        let mut paths: Vec<String> = listed.into_iter().map(|l| l.path).collect();
        paths.sort();
        paths
    };
    grow(&bench, &mut log, 6);
    let old = bench.store.get(&named(&bench)[0]).unwrap().unwrap();
    grow(&bench, &mut log, 20);
    let state = log.state().clone();
    for path in named(&bench) {
        let right = bench.store.get(&path).unwrap().unwrap();
        bench.store.delete(&path).unwrap();
        bench.store.create(&path, &old).unwrap();
        // The other checkpoint does not name it, so the log opens.
        assert_eq!(*bench.reader_log().state(), state);
        let report = verify(&*bench.store, &log_name()).unwrap().unwrap();
        assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
        assert!(
            report.problems[0].message.contains("manifest"),
            "{:?}",
            report.problems
        );
        bench.store.delete(&path).unwrap();
        bench.store.create(&path, &right).unwrap();
    }
}

#[test]
fn an_entry_that_was_sent_after_its_place_was_deleted_is_no_commit() {
    let bench = Bench::new("forget-sent");
    let mut log = short(bench.opened());
    let ghost = log_name().entry(log.version() + 1);
    // It has made sure of everything, and sleeps before it sends.
    let (path, others) = (ghost.clone(), bench.store.clone());
    let (clock, ids) = (bench.clock.clone(), bench.ids.clone());
    let mut slept = false;
    let (mut sleeper, _) = bench.faulty(crate::protocol_bench::ask(move |op| {
        if op.verb == Verb::Create && op.path == path && !std::mem::replace(&mut slept, true) {
            let other = Bench {
                store: others.clone(),
                clock: clock.clone(),
                ids: ids.clone(),
            };
            grow(&other, &mut log, 40);
        }
        Fault::None
    }));
    let receipt = bench.sealed(&sleeper, 1, 3, 8);
    let dropped = lost(sleeper.commit(data(vec![receipt])));
    assert_eq!(dropped[0].reason.rule, "W6", "{}", dropped[0].reason);
    assert!(bench.store.get(&ghost).unwrap().is_some(), "it is there");
    assert_eq!(sleeper.state(), bench.reader_log().state());
    assert_eq!(sleeper.state().splits[&split(1)].to, 3);
}

#[test]
fn removed_and_collected_names_are_forgotten_too() {
    let bench = Bench::new("forget-removed");
    let mut log = short(bench.opened());
    for _ in 0..10 {
        grow(&bench, &mut log, 3);
        let at = &log.state().splits[&split(0)];
        if let Some(border) = at.border_below(at.to - 1) {
            let (to, lowest) = (border.to, at.lowest(log.state().horizon));
            if to >= lowest {
                let back = BTreeMap::from([(split(0), to)]);
                bench.loader().go_back_to(&mut log, &back).unwrap();
            }
        }
        // Sealed, and never committed.
        let _orphan = bench.sealed(&log, 1, 3, 8);
        log = short(bench.log());
    }
    let state = log.state();
    assert!(state.removed_at > 0 && state.horizon > 20);
    assert!(
        state
            .removed
            .values()
            .all(|removed| removed.version > state.horizon)
    );
    assert!(
        state
            .collected
            .values()
            .all(|version| *version > state.horizon)
    );
    assert!(state.removed.len() + state.collected.len() < 12);
}

#[test]
fn another_entry_in_the_place_of_the_proved_one_means_not_next() {
    let bench = Bench::new("forget-other");
    let log = bench.opened();
    assert!(log.is_next().unwrap());
    bench.overwrite(
        log.version(),
        bench.entry_text(log.version()).replace('t', "x").as_bytes(),
    );
    assert!(!log.grown().unwrap() && !log.is_next().unwrap());
}

#[test]
fn who_slept_for_minutes_asks_for_checkpoints_before_it_believes_what_is_absent() {
    let bench = Bench::new("forget-minutes");
    let mut log = short(bench.opened());
    let mut sleeper = bench.log();
    let proved = bench.entry_text(sleeper.version());
    grow(&bench, &mut log, 40);
    // The very bytes that it proved lie there again: a request that was sent twice.
    let path = log_name().entry(sleeper.version());
    bench.store.create(&path, proved.as_bytes()).unwrap();
    bench.clock.advance(Duration::from_secs(3600));
    assert!(!sleeper.is_next().unwrap());
    sleeper.refresh().unwrap();
    assert_eq!(sleeper.state(), log.state());
}

#[test]
fn a_log_whose_first_entry_is_there_needs_no_checkpoint() {
    let bench = Bench::new("forget-young");
    let mut log = bench.opened();
    log.checkpoint().unwrap();
    let path = newest(&bench, 0);
    bench.store.delete(&path).unwrap();
    bench.store.create(&path, b"{").unwrap();
    assert_eq!(bench.reader_log().state(), log.state());
}

#[test]
fn verify_follows_entries_back_to_the_horizon() {
    let bench = Bench::new("forget-back");
    let mut log = short(bench.opened());
    grow(&bench, &mut log, 20);
    let mut log = log.with_limits(Limits {
        checkpoint_every: 2,
        ..Limits::default()
    });
    grow(&bench, &mut log, 20);
    let horizon = log.state().horizon;
    let oldest = versions(&bench, "checkpoint")[0];
    assert!(versions(&bench, "log")[0] == horizon && oldest > horizon + 5);
    let report = verify(&*bench.store, &log_name()).unwrap().unwrap();
    assert_eq!(report.problems, []);
    assert_eq!(report.entries, log.version() - horizon + 1);
    let altered = horizon + 3;
    bench.overwrite(
        altered,
        bench
            .entry_text(altered)
            .replace("\"time\":1", "\"time\":2")
            .as_bytes(),
    );
    let report = verify(&*bench.store, &log_name()).unwrap().unwrap();
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert_eq!(report.problems[0].version, Some(altered));
}
