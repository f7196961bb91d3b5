//! Rewinds on the real log: V8 and what V11 adds, rule by rule, and holes of earlier drafts (8, 11, 12 and 19).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir::commit::{
    Entry, FileRange, Input, Kind, Log, Plan, PlanRange, Reader, Rewind, Role, State,
};
use weir::store::{Created, Fault, FaultStore, Faults, Op, Script, Verb};

use crate::protocol_bench::{Bench, ask, committed, data as draft, lost};
use crate::protocol_rules::{data, entry, file, moves, refused, state, then};
use crate::sim_world::{Heard, Oracle, log_name, split};

fn targets(of: &[(usize, i64)]) -> BTreeMap<weir::record::SplitId, i64> {
    of.iter().map(|(n, to)| (split(*n), *to)).collect()
}

fn by(generation: Option<u64>) -> Rewind {
    Rewind {
        actor: "test".into(),
        reason: "why".into(),
        readers: Vec::new(),
        follows: generation,
    }
}

/// Chain 0 has commits up to 15, 20 and 25; the one up to 20 lies in a file with rows of split 1.
fn three_commits() -> State {
    let mut state = state();
    then(&mut state, |s| data(s, "A", 10, 15));
    then(&mut state, |s| {
        let mut both = data(s, "B", 15, 20);
        both.spans.push(moves(1, 10, 20));
        both.add[0].ranges.push(FileRange {
            split: split(1),
            from: 10,
            to: 20,
            rows: 10,
        });
        both.add[0].rows = 15;
        both
    });
    then(&mut state, |s| data(s, "C", 20, 25));
    state
}

/// A right one: split 0 back to 15.
fn rewound(state: &State) -> Entry {
    rewound_to(state, &[(0, 15)])
}

fn rewound_to(state: &State, to: &[(usize, i64)]) -> Entry {
    let back = state.back_to(&targets(to)).unwrap();
    let rests = back.straddling.iter().map(|s| {
        let mut rest = file(&format!("{}-rest", s.file.id), s.file.role, 1, 10, 20);
        rest.ranges = s.rest.clone();
        rest
    });
    Entry {
        spans: back.spans.clone(),
        remove: back.remove.clone(),
        add: rests.collect(),
        rewind: Some(Rewind {
            readers: back.readers.clone(),
            ..by(None)
        }),
        ..entry(state, Kind::Rewind)
    }
}

#[test]
fn v8_a_rewind_takes_back_exactly_what_lies_above_its_border() {
    let mut state = three_commits();
    let before = state.clone();
    let late = data(&state, "D", 25, 30);
    then(&mut state, rewound);
    let splits = &state.splits;
    let at = &splits[&split(0)];
    assert_eq!((at.to, at.epoch, at.peak, at.rewound_at), (15, 1, 25, 5));
    assert_eq!(at.totals.records.read, 5);
    assert_eq!(at.borders.last().map(|b| b.to), Some(15));
    assert_eq!(splits[&split(1)], before.splits[&split(1)], "untouched");
    assert!(state.live.keys().eq(["A", "B-rest"]));
    assert!(state.removed.keys().eq(["B", "C"]));
    assert_eq!(state.data_at, 5);
    // W4: read before, committed after.
    let late = Entry {
        spans: vec![moves(0, 15, 20)],
        add: vec![file("D", Role::Rows, 0, 15, 20)],
        ..late
    };
    let late = Entry {
        version: 6,
        parent: state.digest.clone(),
        ..late
    };
    assert!(refused(&state, &late, "V2").moved);
    let mut again = late;
    again.spans[0].epoch = 1;
    state.check(&again).unwrap();
    again.add[0].id = "C".into();
    again.add[0].path = "books/C.parquet".into();
    refused(&state, &again, "V4");
}

#[track_caller]
fn breaks(change: impl FnOnce(&mut Entry)) {
    let state = three_commits();
    let mut entry = rewound(&state);
    state.check(&entry).unwrap();
    change(&mut entry);
    refused(&state, &entry, "V8");
}

#[test]
fn v8_targets_are_borders_and_counts_are_those_of_the_log() {
    breaks(|e| e.spans[0].to = 17);
    breaks(|e| e.spans[0].to = 9);
    breaks(|e| e.spans[0].to = 25);
    breaks(|e| e.spans[0].from = 24);
    breaks(|e| e.spans[0].epoch = 0);
    breaks(|e| e.spans[0].epoch = 2);
    breaks(|e| e.spans[0].records.read -= 1);
    breaks(|e| e.spans[0].rows.filtered += 1);
    breaks(|e| e.spans[0].dead_letters += 1);
    breaks(|e| e.spans[0].lost += 1);
    breaks(|e| e.spans[0].split = split(2));
    breaks(|e| e.spans.push(e.spans[0].clone()));
    breaks(|e| e.spans.clear());
}

#[test]
fn v8_every_file_above_leaves_and_rests_hold_what_stays() {
    breaks(|e| drop(e.remove.pop()));
    breaks(|e| e.remove.insert(0, "A".into()));
    breaks(|e| e.add.clear());
    breaks(|e| e.add.push(file("E", Role::Rows, 1, 10, 20)));
    breaks(|e| e.add[0].ranges[0].rows = 9);
    breaks(|e| e.add[0].ranges[0].to = 19);
    breaks(|e| e.add[0].ranges[0].split = split(0));
    breaks(|e| e.add[0].rows = 9);
    breaks(|e| e.add[0].role = Role::DeadLetters);
    breaks(|e| e.add[0].schema = "sha256:other".into());
    breaks(|e| e.add[0].path = "elsewhere/B-rest.parquet".into());
    breaks(|e| drop(e.add[0].partition_values.insert("date".into(), "x".into())));
    let state = three_commits();
    let mut shapeless = rewound(&state);
    shapeless.rewind = None;
    refused(&state, &shapeless, "§2");
    let mut data = data(&state, "D", 25, 30);
    data.remove = vec!["A".into()];
    refused(&state, &data, "§2");
}

fn reads(state: &State, generation: u64, at: &[(usize, i64)]) -> Entry {
    Entry {
        reader: Some(Reader {
            name: "p/z".into(),
            generation,
            version: state.version,
            position: targets(at),
        }),
        ..entry(state, Kind::Reader)
    }
}

/// Registered at the start, then at (20, 20) and (25, 20).
fn with_reader() -> State {
    let mut state = three_commits();
    for at in [[(0, 10), (1, 10)], [(0, 20), (1, 20)], [(0, 25), (1, 20)]] {
        then(&mut state, |s| reads(s, 0, &at));
    }
    state
}

#[test]
fn v8_readers_go_back_to_what_they_registered() {
    let state = with_reader();
    let right = rewound(&state);
    state.check(&right).unwrap();
    let reader = &right.rewind.as_ref().unwrap().readers[0];
    assert_eq!(
        (reader.generation, &reader.position),
        (1, &targets(&[(0, 10), (1, 10)]))
    );
    let higher = rewound_to(&state, &[(0, 20)]);
    let higher = &higher.rewind.as_ref().unwrap().readers[0];
    assert_eq!(higher.position, targets(&[(0, 20), (1, 20)]));

    let breaks = |change: &dyn Fn(&mut Vec<Reader>)| {
        let mut entry = right.clone();
        change(&mut entry.rewind.as_mut().unwrap().readers);
        refused(&state, &entry, "V8");
    };
    breaks(&Vec::clear);
    breaks(&|r| r[0].generation = 0);
    breaks(&|r| r[0].position = targets(&[(0, 15), (1, 20)]));
    breaks(&|r| r[0].position = targets(&[(0, 25), (1, 20)]));
    // Nothing it registered fits: the rewind is refused, not the reader.
    let mut never = three_commits();
    then(&mut never, |s| reads(s, 0, &[(0, 25), (1, 20)]));
    let violation = never.back_to(&targets(&[(0, 15)])).unwrap_err();
    assert!(
        violation.message.contains("no earlier position"),
        "{violation}"
    );
    // One that has not read so far stays where it is.
    let mut behind = three_commits();
    then(&mut behind, |s| reads(s, 0, &[(0, 15), (1, 20)]));
    assert_eq!(behind.back_to(&targets(&[(0, 15)])).unwrap().readers, []);
}

/// Hole 19, and the batch that was committed before its reader advanced.
#[test]
fn v11_a_position_never_covers_rows_that_were_taken_back() {
    let mut state = with_reader();
    let late = reads(&state, 0, &[(0, 25), (1, 20)]);
    then(&mut state, rewound);
    let late = Entry {
        version: state.version + 1,
        parent: state.digest.clone(),
        ..late
    };
    assert!(refused(&state, &late, "V11").moved);
    // Read again up to where it was: under the generation before, or on what was seen before, it does not count.
    for (from, to, id) in [(15, 20, "E"), (20, 25, "F")] {
        then(&mut state, |s| {
            let mut again = data(s, id, from, to);
            again.spans[0].epoch = 1;
            again
        });
    }
    let advance = |version, generation| {
        let mut entry = reads(&state, generation, &[(0, 25), (1, 20)]);
        entry.reader.as_mut().unwrap().version = version;
        entry
    };
    refused(&state, &advance(state.version, 0), "V11");
    let rewound_at = state.splits[&split(0)].rewound_at;
    assert!(refused(&state, &advance(rewound_at - 1, 1), "V11").moved);
    state.check(&advance(state.version, 1)).unwrap();

    // A reader that lagged was not set back: its generation is the same, what it saw is not.
    let mut state = three_commits();
    then(&mut state, |s| reads(s, 0, &[(0, 15), (1, 20)]));
    let seen = state.version;
    then(&mut state, rewound);
    then(&mut state, |s| {
        let mut again = data(s, "E", 15, 25);
        again.spans[0].epoch = 1;
        again
    });
    let mut lagged = reads(&state, 0, &[(0, 20), (1, 20)]);
    lagged.reader.as_mut().unwrap().version = seen;
    assert!(refused(&state, &lagged, "V11").moved);
}

#[test]
fn v11_its_owner_sets_a_reader_back_to_what_it_registered() {
    let state = with_reader();
    state.check(&reads(&state, 1, &[(0, 20), (1, 20)])).unwrap();
    refused(&state, &reads(&state, 1, &[(0, 15), (1, 20)]), "V11");
    refused(&state, &reads(&state, 1, &[(0, 25), (1, 20)]), "V11");
    refused(&state, &reads(&state, 2, &[(0, 20), (1, 20)]), "V11");
    refused(&state, &reads(&state, 0, &[(0, 20), (1, 20)]), "V11");
    let mut back = state.clone();
    then(&mut back, |s| reads(s, 1, &[(0, 20), (1, 20)]));
    assert_eq!(back.cuts["p/z"].len(), 2, "what lies above is undone");
}

/// Two batches, of split 0 and of split 1.
#[test]
fn v8_batches_leave_together_in_the_order_of_the_log() {
    let mut state = state();
    for (n, id) in [(0, "A"), (1, "B")] {
        then(&mut state, |s| Entry {
            plan: Some(Plan {
                log: "raw/raw".into(),
                version: 1,
                ranges: [(
                    split(n),
                    PlanRange {
                        epoch: 4,
                        from: 10,
                        to: 15,
                    },
                )]
                .into(),
                rules: s.rules.clone(),
                now: 0,
                dedup_key: Vec::new(),
            }),
            ..entry(s, Kind::Plan)
        });
        then(&mut state, |s| Entry {
            rules: Some(s.rules.clone()),
            input: Some(Input {
                plan: s.version,
                dedup_version: s.version,
                reason: String::new(),
            }),
            spans: vec![moves(n, 10, 15)],
            add: vec![file(id, Role::Rows, n, 10, 15)],
            ..entry(s, Kind::Batch)
        });
    }
    assert_eq!(state.splits[&split(0)].input_epoch, 4);
    let first = state.back_to(&targets(&[(0, 10)])).unwrap_err();
    assert!(first.message.contains("leave together"), "{first}");
    state.back_to(&targets(&[(1, 10)])).unwrap();
    let all = state.back_to(&targets(&[(0, 10), (1, 10)])).unwrap();
    assert_eq!(all.remove, ["A", "B"]);
    let mut follows = rewound_to(&state, &[(0, 10), (1, 10)]);
    follows.rewind = Some(by(Some(1)));
    then(&mut state, |_| follows.clone());
    assert_eq!((state.follows, &state.plan), (1, &None));
    // The same generation is followed once.
    let again = Entry {
        rewind: Some(by(Some(1))),
        ..entry(&state, Kind::Rewind)
    };
    refused(&state, &again, "V8");
}

// === the log ===

#[test]
fn hole_08_a_late_attempt_is_refused_though_the_split_stands_where_it_did() {
    let bench = Bench::new("hole-08");
    let mut sleeper = bench.opened();
    let first = bench.sealed(&sleeper, 0, 3, 8);
    let done = committed(sleeper.commit(draft(vec![first])));
    sleeper.publish(&done).unwrap();
    let late = bench.sealed(&sleeper, 0, 8, 14);
    let mut other = bench.reader_log();
    bench
        .loader()
        .go_back_to(&mut other, &targets(&[(0, 3)]))
        .unwrap();
    let periods = other.state().periods.clone();
    assert!(
        periods[0].ranges.is_empty(),
        "no rules made what was taken back"
    );
    let again = bench.sealed(&other, 0, 3, 8);
    let again = committed(other.commit(draft(vec![again])));
    other.publish(&again).unwrap();
    assert_eq!(other.state().splits[&split(0)].to, 8);
    let dropped = lost(sleeper.commit(draft(vec![late])));
    assert_eq!(dropped[0].reason.rule, "V2");
    assert!(dropped[0].reason.message.contains("epoch"), "{dropped:?}");
    let periods = other.state().periods.clone();
    assert_eq!(periods[0].ranges[&split(0)], (3, 8));
    bench.conclude();
}

/// The publisher wakes before each delete of the removal in turn.
#[test]
fn hole_11_a_sleeping_publisher_brings_nothing_back() {
    let mut wakes = 0;
    loop {
        let bench = Bench::new(&format!("hole-11-{wakes}"));
        let mut sleeper = bench.opened();
        let receipt = bench.sealed(&sleeper, 0, 3, 8);
        let done = committed(sleeper.commit(draft(vec![receipt])));
        let sleeper = Mutex::new(Some(sleeper));
        let woken = Arc::new(Mutex::new(false));
        let (mut deletes, told, publishes) = (0, Arc::clone(&woken), done.clone());
        let store = FaultStore::new(
            Arc::clone(&bench.store),
            Arc::new(ask(move |op: &Op| {
                if op.verb == Verb::Delete {
                    if deletes == wakes {
                        let mut sleeper = sleeper.lock().unwrap().take().unwrap();
                        sleeper.publish(&publishes).unwrap();
                        *told.lock().unwrap() = true;
                    }
                    deletes += 1;
                }
                Fault::None
            })),
        );
        let mut rewinder = bench.reader_log_through(store);
        bench
            .loader()
            .go_back_to(&mut rewinder, &targets(&[(0, 3)]))
            .unwrap();
        for file in &done.entry.add {
            let found = bench.store.readable(&file.place(&log_name())).unwrap();
            assert_eq!(found, None, "woken at {wakes}: {}", file.path);
        }
        for id in bench.store.begun(&log_name().dir()).unwrap() {
            let removed = done.entry.add.iter().any(|file| file.id == id);
            assert!(!removed, "woken at {wakes}: {id}");
        }
        bench.conclude();
        if !*woken.lock().unwrap() {
            break;
        }
        wakes += 1;
    }
    assert!(wakes >= 4, "{wakes} deletes");
}

/// The removal is cut short; a process that ran all the time reads again and publishes.
#[test]
fn hole_12_rows_read_again_show_only_when_the_removed_ones_are_gone() {
    for cut in 0..6 {
        let bench = Bench::new(&format!("hole-12-{cut}"));
        let mut oracle = Oracle::default();
        let mut running = bench.opened();
        let receipt = bench.sealed(&running, 0, 3, 8);
        let done = committed(running.commit(draft(vec![receipt])));
        running.publish(&done).unwrap();
        oracle.look(&*bench.store);
        let down = Script::on(Verb::Delete, "", cut, Fault::CrashBefore);
        let store = FaultStore::new(Arc::clone(&bench.store), Arc::new(down));
        let mut rewinder = bench.reader_log_through(store);
        let back = bench
            .loader()
            .go_back_to(&mut rewinder, &targets(&[(0, 3)]));
        assert_eq!(back.is_ok(), cut >= 4, "{cut}");
        oracle.look(&*bench.store);
        running.refresh().unwrap();
        let again = bench.sealed(&running, 0, 3, 8);
        let again = committed(running.commit(draft(vec![again])));
        running.publish(&again).unwrap();
        oracle.look(&*bench.store);
        bench.loader().run().unwrap();
        oracle.conclude(&*bench.store, &Heard::default());
    }
}

/// A store whose renames are copies.
#[derive(Debug)]
struct Copies;

impl Faults for Copies {
    fn decide(&self, _: &Op) -> Fault {
        Fault::None
    }

    fn copies(&self) -> bool {
        true
    }
}

/// However many versions came in between; no process is told of such a copy.
#[test]
fn a_copy_that_ends_late_is_taken_away_while_the_process_runs_and_by_starts_within_the_hour() {
    let bench = Bench::new("late-copy");
    let through = || FaultStore::new(Arc::clone(&bench.store), Arc::new(Copies));
    let minutes = |n: u64| bench.clock.advance(Duration::from_secs(n * 60));
    bench.opened();
    let mut log = bench.open_through(through()).unwrap();
    let next = std::cell::Cell::new(3);
    let more = |log: &mut Log, times: i64| {
        for at in next.get()..next.get() + times {
            let receipt = bench.sealed(log, 0, at, at + 1);
            let done = committed(log.commit(draft(vec![receipt])));
            log.publish(&done).unwrap();
        }
        next.set(next.get() + times);
    };
    more(&mut log, 1);
    let live = log.state().live.values().map(|live| &live.file.path);
    let files: Vec<_> = live
        .map(|path| (path.clone(), bench.store.get(path).unwrap().unwrap()))
        .collect();
    let ends_late = || {
        for (path, bytes) in &files {
            assert_eq!(bench.store.create(path, bytes).unwrap(), Created::Done);
        }
    };
    let shows = || bench.store.size(&files[0].0).unwrap().is_some();
    let mut rewinder = bench.reader_log_through(through());
    bench
        .loader()
        .go_back_to(&mut rewinder, &targets(&[(0, 3)]))
        .unwrap();
    next.set(3);
    log.refresh().unwrap();
    more(&mut log, 60);
    ends_late();
    more(&mut log, 1);
    assert!(shows(), "others may still be under way");
    minutes(10);
    more(&mut log, 1);
    assert!(!shows(), "in the running process");
    ends_late();
    let mut log = bench.open_through(through()).unwrap();
    assert!(!shows(), "at a start");
    ends_late();
    minutes(10);
    more(&mut log, 1);
    assert!(!shows(), "after a start");
}
