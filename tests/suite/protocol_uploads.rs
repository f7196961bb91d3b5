//! Rules O1 to O8 of docs/protocol.md on the real code. Each was switched off in a model, which then lost or doubled a row or left
//! parts behind; these are its shortest histories.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir::commit::{AddedFile, Committed, Draft, Log, Rewind};
use weir::error::{Kind, Remedy};
use weir::store::{self, Fault, FaultStore, Op, Script, Store, Verb, open_uploads};

use crate::protocol_bench::{Bench, ask, committed, data, lost};
use crate::sim_world::{Heard, Ids, Loader, Oracle, log_name, split};

fn bench(name: &str) -> Bench {
    let url = format!("memory+upload:rules-{name}?part=40&answers=lenient");
    Bench::on(store::open_url(&url).unwrap())
}

fn to_start() -> BTreeMap<weir::record::SplitId, i64> {
    [(split(0), 3)].into()
}

/// Rows of split 0 in the log, published by nobody.
fn unpublished(bench: &Bench, log: &mut Log) -> Committed {
    let receipt = bench.sealed(log, 0, 3, 8);
    committed(log.commit(data(vec![receipt])))
}

/// All rows of split 0 are taken back.
fn rewound(log: &mut Log) -> Committed {
    let back = log.state().back_to(&to_start()).unwrap();
    let rewind = Rewind {
        actor: "test".into(),
        reason: String::new(),
        readers: Vec::new(),
        follows: None,
    };
    committed(log.commit(Draft::Rewind {
        rewind,
        back,
        rests: Vec::new(),
        base: log.version(),
    }))
}

/// The store accepts this publish, and shows nothing until it lands.
fn published_late(bench: &Bench, done: &Committed) -> Arc<FaultStore> {
    let pending = ask(|op: &Op| match op.verb {
        Verb::Complete => Fault::Pending,
        _ => Fault::None,
    });
    let faulty = FaultStore::new(Arc::clone(&bench.store), Arc::new(pending));
    let mut slow = bench.reader_log_through(Arc::<FaultStore>::clone(&faulty));
    slow.publish(done).unwrap_err();
    faulty
}

fn shows(store: &dyn Store, file: &AddedFile) -> bool {
    store.size(&file.path).unwrap().is_some()
}

fn parts(store: &dyn Store) -> usize {
    open_uploads(store).iter().map(|u| u.parts.len()).sum()
}

#[test]
fn o1_parts_are_never_without_an_intent() {
    // Every request of a file up to its seal, then the end of the process.
    let mut step = 0;
    loop {
        let bench = bench(&format!("o1-{step}"));
        let log = bench.opened();
        let down = Arc::new(Script::durable(step, Fault::CrashAfter));
        let mut loader = bench.loader();
        loader.store = FaultStore::new(Arc::clone(&bench.store), Arc::<Script>::clone(&down));
        let sealed = loader.seal(&log, &[(split(0), 3, 8)]);
        let intents = bench.staged();
        assert!(parts(&*bench.store) == 0 || intents > 0, "step {step}");
        bench.log(); // collects
        assert_eq!(
            (parts(&*bench.store), bench.staged()),
            (0, 0),
            "step {step}"
        );
        if sealed.is_ok() && down.seen() <= step {
            break;
        }
        step += 1;
    }
    assert!(step > 5, "{step} requests");
}

/// The intent arrives when its writer has long given up.
#[test]
fn o1_a_late_intent_belongs_to_no_file_and_is_collected() {
    let bench = bench("o1-late");
    let log = bench.opened();
    let late = Script::on(Verb::Create, "staging", 0, Fault::Late);
    let faulty = FaultStore::new(Arc::clone(&bench.store), Arc::new(late));
    let mut loader = bench.loader();
    loader.store = Arc::<FaultStore>::clone(&faulty);
    let failed = loader.seal(&log, &[(split(0), 3, 8)]).unwrap_err();
    assert_eq!(failed.remedy(), Remedy::Retry);
    assert_eq!(parts(&*bench.store), 0);
    bench.log();
    faulty.land();
    assert_eq!(bench.staged(), 1);
    bench.log();
    assert_eq!(bench.staged(), 0);
    bench.conclude();
}

#[test]
fn o3_nothing_shows_before_the_commit_is_proved() {
    let bench = bench("o3-proof");
    let mut log = bench.opened();
    let done = unpublished(&bench, &mut log);
    assert_eq!(bench.published(), 0);
    assert_eq!(bench.staged(), done.entry.add.len());
    log.publish(&done).unwrap();
    assert_eq!(
        (bench.published(), bench.staged()),
        (done.entry.add.len(), 0)
    );
    bench.conclude();
}

/// The store says that it took the completion; another process asks, is told the same, and sees nothing.
#[test]
fn o3_an_accepted_completion_proves_nothing() {
    let bench = bench("o3-accepted");
    let mut log = bench.opened();
    let done = unpublished(&bench, &mut log);
    let pending = Script::on(Verb::Complete, "", 0, Fault::Pending);
    let faulty = FaultStore::new(Arc::clone(&bench.store), Arc::new(pending));
    let mut slow = bench.reader_log_through(Arc::<FaultStore>::clone(&faulty));
    for log in [&mut slow, &mut log] {
        let waits = log.publish(&done).unwrap_err();
        assert_eq!(waits.kind(), Kind::StoreUnavailable, "{waits}");
    }
    assert_eq!(bench.staged(), done.entry.add.len(), "O6: the intents stay");
    faulty.land();
    log.publish(&done).unwrap();
    assert_eq!(bench.staged(), 0);
    bench.conclude();
}

/// Done, and answered as if there were no such upload.
#[test]
fn o3_a_refused_completion_is_no_failure() {
    let bench = bench("o3-refused");
    let mut log = bench.opened();
    let done = unpublished(&bench, &mut log);
    let denied = ask(|op: &Op| match op.verb {
        Verb::Complete => Fault::Denied,
        _ => Fault::None,
    });
    let store = FaultStore::new(Arc::clone(&bench.store), Arc::new(denied));
    bench.reader_log_through(store).publish(&done).unwrap();
    assert_eq!(bench.published(), done.entry.add.len());
    // Every opener after it is refused likewise.
    log.publish(&done).unwrap();
    bench.conclude();
}

/// The upload of a committed file expired, or somebody aborted it.
#[test]
fn o3_a_file_that_never_appears_stops_and_is_not_skipped() {
    let bench = bench("o3-lost");
    let mut log = bench.opened();
    let done = unpublished(&bench, &mut log);
    let weir::store::Way::Complete(uploads) = bench.store.way() else {
        panic!("another way");
    };
    let file = &done.entry.add[0];
    uploads
        .abort(&file.path, &file.upload.as_ref().unwrap().id)
        .unwrap();
    let first = log.publish(&done).unwrap_err();
    assert_eq!(first.kind(), Kind::StoreUnavailable, "{first}");
    bench.clock.advance(std::time::Duration::from_secs(601));
    let stopped = log.publish(&done).unwrap_err();
    assert_eq!(stopped.kind(), Kind::LogCorrupt, "{stopped}");
    assert!(stopped.to_string().contains(&file.path), "{stopped}");
}

/// An opener lists a sealed file and names it in `gc`; its writer commits it first, or comes too late.
#[test]
fn o4_only_a_proved_gc_entry_aborts() {
    for writer_first in [true, false] {
        let bench = bench(&format!("o4-{writer_first}"));
        let mut writer = bench.opened();
        let receipt = bench.sealed(&writer, 0, 3, 8);
        let files = receipt.files.clone();
        if !writer_first {
            bench.log();
            assert_eq!(parts(&*bench.store), 0);
            let dropped = lost(writer.commit(data(vec![receipt])));
            assert_eq!(dropped[0].reason.rule, "V4");
            bench.conclude();
            continue;
        }
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
        assert!(files.iter().all(|f| !shows(&*bench.store, f)));
        bench.reader_log().publish(&committed).unwrap();
        assert!(files.iter().all(|f| shows(&*bench.store, f)));
        bench.conclude();
    }
}

/// The collector dies between the abort and the intent: the intent still says what to abort.
#[test]
fn o4_the_abort_comes_before_the_intent_goes() {
    for (verb, path) in [(Verb::Abort, ""), (Verb::Delete, "staging")] {
        let bench = bench(&format!("o4-order-{verb:?}"));
        let writer = bench.opened();
        bench.sealed(&writer, 0, 3, 8);
        let down = Script::on(verb, path, 0, Fault::CrashBefore);
        let store = FaultStore::new(Arc::clone(&bench.store), Arc::new(down));
        drop(bench.open_through(store));
        assert!(bench.staged() > 0);
        bench.log();
        assert_eq!((parts(&*bench.store), bench.staged()), (0, 0));
        bench.conclude();
    }
}

/// A completion was taken and shows nothing yet when its file is removed. An abort would be answered with success and would
/// not stop it.
#[test]
fn o5_a_removed_file_is_gone_only_when_its_completion_was_seen() {
    let bench = bench("o5-pending");
    let mut oracle = Oracle::default();
    let mut log = bench.opened();
    let done = unpublished(&bench, &mut log);
    let pending = ask(|op: &Op| match op.verb {
        Verb::Complete => Fault::Pending,
        _ => Fault::None,
    });
    let faulty = FaultStore::new(Arc::clone(&bench.store), Arc::new(pending));
    let mut slow = bench.reader_log_through(Arc::<FaultStore>::clone(&faulty));
    slow.publish(&done).unwrap_err();
    // Its rows are read before they are taken back, were there a rest to write: nothing here needs that.
    let rewound = rewound(&mut log);
    let waits = log.publish(&rewound).unwrap_err();
    assert_eq!(waits.kind(), Kind::StoreUnavailable, "{waits}");
    // P3: what was read again waits too.
    let again = bench.sealed(&log, 0, 3, 8);
    let again = committed(log.commit(data(vec![again])));
    log.publish(&again).unwrap_err();
    assert_eq!(bench.published(), 0);
    oracle.look(&*bench.store);
    while faulty.late() > 0 {
        faulty.land();
        oracle.look(&*bench.store);
    }
    log.publish(&again).unwrap();
    oracle.look(&*bench.store);
    assert!(done.entry.add.iter().all(|f| !shows(&*bench.store, f)));
    // The sleeper asks once more.
    slow.publish(&done).unwrap();
    oracle.look(&*bench.store);
    bench.loader().run().unwrap();
    oracle.conclude(&*bench.store, &Heard::default());
}

/// A remover dies at any request, with the object shown and the intent still there among them: the next one ends it. If the object
/// went first, a store that forgets an upload with its object could never show it again, and O5 would have no end.
#[test]
fn o5_the_object_is_never_deleted_while_its_intent_stands() {
    for answers in ["refuses", "lenient", "varies", "fails"] {
        let mut step = 0;
        loop {
            let url =
                format!("memory+upload:rules-o5-order-{answers}-{step}?part=40&answers={answers}");
            let bench = Bench::on(store::open_url(&url).unwrap());
            let mut log = bench.opened();
            unpublished(&bench, &mut log);
            rewound(&mut log);
            let down = Arc::new(Script::durable(step, Fault::CrashAfter));
            let store = FaultStore::new(Arc::clone(&bench.store), Arc::<Script>::clone(&down));
            let swept = bench.reader_log_through(store).sweep();
            bench
                .reader_log()
                .sweep()
                .unwrap_or_else(|e| panic!("{answers}, step {step}: {e}"));
            assert_eq!(
                (bench.published(), bench.staged()),
                (0, 0),
                "{answers}, step {step}"
            );
            bench.conclude();
            if swept.is_ok() && down.seen() <= step {
                break;
            }
            step += 1;
        }
        assert!(step > 5, "{step} requests");
    }
}

/// Two generations of the same rows are removed at once. The completion of the older one was taken and shows nothing yet; were
/// the younger one taken back first, both could show for a moment.
#[test]
fn p3_of_two_removed_generations_the_older_one_goes_first() {
    let bench = bench("p3-older");
    let mut log = bench.opened();
    let older = Loader {
        ids: Arc::new(Ids::starting_at(1000)), // the order of ids is not that of the log
        ..bench.loader()
    };
    let receipt = older.seal(&log, &[(split(0), 3, 8)]).unwrap().unwrap();
    let older = committed(log.commit(data(vec![receipt])));
    let late = published_late(&bench, &older);
    rewound(&mut log);
    let younger = unpublished(&bench, &mut log);
    rewound(&mut log);
    let watched = Arc::new(Mutex::new(Oracle::default()));
    let (bare, eye, links) = (
        Arc::clone(&bench.store),
        Arc::clone(&watched),
        Arc::<FaultStore>::clone(&late),
    );
    let watching = ask(move |_: &Op| {
        while younger.entry.add.iter().any(|file| shows(&*bare, file)) && links.late() > 0 {
            links.land();
        }
        eye.lock().unwrap().look(&*bare); // no row twice
        Fault::None
    });
    let store = FaultStore::new(Arc::clone(&bench.store), Arc::new(watching));
    let mut remover = bench.reader_log_through(store);
    let waits = remover.sweep().unwrap_err();
    assert_eq!(waits.kind(), Kind::StoreUnavailable, "{waits}");
    assert_eq!(bench.published(), 0);
    while late.late() > 0 {
        late.land();
    }
    remover.sweep().unwrap();
    assert_eq!((bench.published(), bench.staged()), (0, 0));
    let mut oracle = std::mem::take(&mut *watched.lock().unwrap());
    bench.loader().run().unwrap();
    oracle.conclude(&*bench.store, &Heard::default());
}

/// Three generations of the same rows are removed at once, none of them published: no row shows twice.
#[test]
fn p3_removing_three_generations_shows_no_row_twice() {
    let bench = bench("p3-order");
    let mut oracle = Oracle::default();
    let mut log = bench.opened();
    for _ in 0..3 {
        let receipt = bench.sealed(&log, 0, 3, 8);
        committed(log.commit(data(vec![receipt])));
        rewound(&mut log);
    }
    let watched = Arc::new(Mutex::new(oracle));
    let (bare, eye) = (Arc::clone(&bench.store), Arc::clone(&watched));
    let watching = ask(move |_: &Op| {
        eye.lock().unwrap().look(&*bare); // before each request: no row twice
        Fault::None
    });
    let store = FaultStore::new(Arc::clone(&bench.store), Arc::new(watching));
    bench.reader_log_through(store).sweep().unwrap();
    assert_eq!((bench.published(), bench.staged()), (0, 0));
    oracle = std::mem::take(&mut *watched.lock().unwrap());
    bench.loader().run().unwrap();
    oracle.conclude(&*bench.store, &Heard::default());
}

#[test]
fn o8_a_reader_publishes_what_it_is_about_to_read() {
    let bench = bench("o8");
    let mut log = bench.opened();
    let done = unpublished(&bench, &mut log);
    let file = &done.entry.add[0];
    let mut reader = bench.reader_log();
    let find = || bench.store.readable(&file.place(&log_name())).unwrap();
    assert_eq!(find(), None);
    reader.make_readable().unwrap();
    assert_eq!(find().map(|found| found.bytes), Some(file.bytes));
    bench.conclude();
}

fn short_lived(name: &str) -> Bench {
    let url = format!("memory+upload:rules-{name}?part=40&answers=lenient&life=3600");
    Bench::on(store::open_url(&url).unwrap())
}

#[test]
fn o7_a_file_that_was_begun_long_ago_is_not_committed() {
    let bench = short_lived("o7-old");
    let mut log = bench.opened();
    let receipt = bench.sealed(&log, 0, 3, 8);
    bench.clock.advance(Duration::from_secs(901));
    let dropped = lost(log.commit(data(vec![receipt])));
    assert_eq!(dropped[0].reason.rule, "O7", "{dropped:?}");
    assert_eq!(bench.published(), 0);
}

/// The same entry is put again and again, and its files grow old meanwhile.
#[test]
fn o7_an_attempt_that_is_unsettled_too_long_is_left() {
    let bench = short_lived("o7-unsettled");
    let away = Arc::new(Mutex::new(true));
    let heard = Arc::clone(&away);
    let (mut log, _) = bench.faulty(ask(move |op: &Op| {
        let creates = op.verb == Verb::Create && op.path.contains("/log/0000");
        match *heard.lock().unwrap() && creates {
            true => Fault::FailBefore,
            false => Fault::None,
        }
    }));
    *away.lock().unwrap() = false;
    committed(log.commit(crate::protocol_bench::open_both(3)));
    let receipt = bench.sealed(&log, 0, 3, 8);
    *away.lock().unwrap() = true;
    let waits = log.commit(data(vec![receipt])).unwrap_err();
    assert_eq!(waits.remedy(), Remedy::Retry);
    assert!(log.unsettled());
    bench.clock.advance(Duration::from_secs(901));
    *away.lock().unwrap() = false;
    let outcome = log.settle().map(|settled| settled.expect("an attempt"));
    assert_eq!(lost(outcome)[0].reason.rule, "W5");
    assert_eq!((bench.published(), bench.staged()), (0, 0));
}

#[test]
fn o7_a_committed_file_that_does_not_show_in_time_raises_an_alarm() {
    let bench = short_lived("o7-alarm");
    let mut log = bench.opened();
    let done = unpublished(&bench, &mut log);
    let down = ask(|op: &Op| match op.verb {
        Verb::Complete => Fault::FailBefore,
        _ => Fault::None,
    });
    let store = FaultStore::new(Arc::clone(&bench.store), Arc::new(down));
    let mut slow = bench.reader_log_through(store);
    slow.publish(&done).unwrap_err();
    assert_eq!(slow.view().alarmed(), None);
    bench.clock.advance(Duration::from_secs(1801));
    slow.publish(&done).unwrap_err();
    let alarm = slow.view().alarmed().expect("an alarm");
    assert!(alarm.contains("not visible"), "{alarm}");
    log.publish(&done).unwrap();
    slow.publish(&done).unwrap();
    assert_eq!(slow.view().alarmed(), None);
}
