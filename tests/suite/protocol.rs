//! PROTOCOL.md on the real code: holes 5, 7, 10 and those by argument (research/protocol-holes.md), and what reading and
//! writing promise. The validity rules one by one are in `protocol_rules`; numbers are versions of the log.

use std::fmt;
use std::sync::{Arc, Mutex};

use weir::clock::{Clock, ManualClock};
use weir::commit::{
    Committed, Draft, Dropped, Kind as EntryKind, Log, Open, Outcome, Receipt, Swap, Writer,
    decode, own_table, publish, verify,
};
use weir::error::{Kind, Remedy, Result};
use weir::record::ChainId;
use weir::store::{self, Fault, FaultStore, Faults, Op, Script, Store, Verb};

use crate::sim_world::{Heard, Ids, Loader, Oracle, chain, log_name, rule, span};

/// A store, and processes on it.
struct Bench {
    store: Arc<dyn Store>,
    clock: Arc<ManualClock>,
    ids: Arc<Ids>,
}

impl Bench {
    fn on(store: Arc<dyn Store>) -> Bench {
        Bench {
            store,
            clock: ManualClock::at(1_700_000_000_000_000),
            ids: Arc::default(),
        }
    }

    fn new(name: &str) -> Bench {
        Bench::on(store::open(&format!("memory:protocol-{name}")).unwrap())
    }

    fn open_through(&self, store: Arc<dyn Store>) -> Result<Log> {
        let clock = Arc::<ManualClock>::clone(&self.clock);
        let writer = Writer {
            id: "test".into(),
            start: 0,
        };
        Log::open_or_init(store, log_name(), clock, writer, rule(0))
    }

    fn log(&self) -> Log {
        self.open_through(Arc::clone(&self.store)).unwrap()
    }

    /// Its store fails as told; a process opens its log without faults first.
    fn faulty(&self, faults: impl Faults + 'static) -> (Log, Arc<FaultStore>) {
        let gated = Arc::new(Gated::new(faults));
        let store = FaultStore::new(Arc::clone(&self.store), Arc::<Gated>::clone(&gated));
        let log = self.open_through(Arc::<FaultStore>::clone(&store)).unwrap();
        gated.open();
        (log, store)
    }

    fn loader(&self) -> Loader {
        Loader {
            store: Arc::clone(&self.store),
            clock: Arc::<ManualClock>::clone(&self.clock),
            ids: Arc::clone(&self.ids),
            heard: Arc::default(),
            seed: 1,
            who: 0,
        }
    }

    /// Files staged, spans counted; nothing committed.
    fn sealed(&self, log: &Log, n: usize, from: i64, to: i64) -> Receipt {
        self.loader()
            .seal(log, &[(chain(n), from, to)])
            .unwrap()
            .unwrap()
    }

    fn opened(&self) -> Log {
        let mut log = self.log();
        committed(log.commit(open_both(3)));
        log
    }

    fn staged(&self) -> usize {
        self.store.list(&log_name().staging_dir()).unwrap().len()
    }

    fn published(&self) -> usize {
        ["books", "dead_letters"]
            .map(|dir| self.store.list(dir).unwrap().len())
            .iter()
            .sum()
    }

    /// Loads the rest and asks the oracle: nothing lost, nothing twice.
    fn conclude(&self) {
        self.loader().run().unwrap();
        Oracle::default().conclude(&*self.store, &Heard::default());
    }

    fn overwrite(&self, version: u64, bytes: &[u8]) {
        let path = log_name().entry(version);
        self.store.delete(&path).unwrap();
        self.store.create(&path, bytes).unwrap();
    }

    fn entry_text(&self, version: u64) -> String {
        let bytes = self.store.get(&log_name().entry(version)).unwrap().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }
}

/// No faults until it is opened.
#[derive(Debug)]
struct Gated {
    faults: Box<dyn Faults>,
    open: Mutex<bool>,
}

impl Gated {
    fn new(faults: impl Faults + 'static) -> Gated {
        Gated {
            faults: Box::new(faults),
            open: Mutex::new(false),
        }
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
    }
}

impl Faults for Gated {
    fn decide(&self, op: &Op) -> Fault {
        if *self.open.lock().unwrap() {
            self.faults.decide(op)
        } else {
            Fault::None
        }
    }
}

/// Each call asks a function.
struct Ask<F>(Mutex<F>);

fn ask<F: FnMut(&Op) -> Fault + Send>(f: F) -> Ask<F> {
    Ask(Mutex::new(f))
}

impl<F> fmt::Debug for Ask<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ask")
    }
}

impl<F: FnMut(&Op) -> Fault + Send> Faults for Ask<F> {
    fn decide(&self, op: &Op) -> Fault {
        (self.0.lock().unwrap())(op)
    }
}

fn open_both(at: i64) -> Draft {
    let open = |n: usize| Open {
        chain: chain(n),
        topic: "t".into(),
        partition: i32::try_from(n).unwrap(),
        at,
        start: "earliest".into(),
    };
    Draft::Open(vec![open(0), open(1)])
}

fn data(receipts: Vec<Receipt>) -> Draft {
    Draft::Data {
        receipts,
        swap: None,
    }
}

fn committed(outcome: Result<Outcome>) -> Committed {
    match outcome.unwrap() {
        Outcome::Committed { committed, .. } => committed,
        Outcome::Lost { dropped } => panic!("lost: {dropped:?}"),
    }
}

fn lost(outcome: Result<Outcome>) -> Vec<Dropped> {
    match outcome.unwrap() {
        Outcome::Committed { committed, .. } => panic!("committed: {committed:?}"),
        Outcome::Lost { dropped } => dropped,
    }
}

/// The first create of this version is delayed, and no other call about it gets an answer until `healed`.
fn delayed(version: u64, healed: Arc<Mutex<bool>>) -> impl Faults {
    let path = log_name().entry(version);
    let mut first = true;
    ask(move |op| {
        if op.path != path || *healed.lock().unwrap() {
            return Fault::None;
        }
        match op.verb {
            Verb::Create if std::mem::take(&mut first) => Fault::Late,
            Verb::Create => Fault::FailBefore,
            _ => Fault::None,
        }
    })
}

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
    // GET said 404 again and again; still neither may the files be touched nor the chain get another attempt.
    assert_eq!(log.commit(open_both(3)).unwrap_err().kind(), Kind::Bug);
    assert_eq!(log.leave().unwrap_err().kind(), Kind::StoreUnavailable);
    assert!(
        bench.staged() > 0,
        "files of an unsettled attempt were touched"
    );
    store.crash();
    store.land();
    let log = bench.log();
    assert_eq!(log.state().chains[&chain(0)].to, 8);
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
    assert_eq!(dropped[0].chains, [chain(0)]);
    assert!(!log.unsettled());
    assert_eq!(
        decode(bench.entry_text(2).as_bytes(), "2").unwrap().kind,
        EntryKind::Gc
    );
    assert_eq!(bench.staged(), 0);
    store.land();
    assert_eq!(bench.log().state().chains[&chain(0)].to, 3);
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
    publish(&*bench.store, log.name(), &committed).unwrap();
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
    publish(&*bench.store, &log_name(), &committed).unwrap();
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
    assert_eq!(log.state().gced.len(), staged);
}

#[test]
fn a_receipt_whose_files_were_collected_is_dropped() {
    let bench = Bench::new("gced-receipt");
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
    assert!(publish(&**log.store(), log.name(), &done).is_err());
    assert_eq!(bench.published(), 0);
    // Longer ago than the versions whose files are looked at one by one.
    let mut reading = bench.reader_log();
    for _ in 0..60 {
        let swap = Swap {
            from: reading.state().rules_gen(),
            rules: rule(1),
            actor: "test".into(),
            reason: String::new(),
            bar: Vec::new(),
            force: false,
        };
        committed(reading.commit(Draft::Swap(swap)));
    }
    assert_eq!(bench.published(), 0);
    bench.log();
    assert_eq!(bench.published(), done.entry.add.len());
    bench.conclude();
}

impl Bench {
    /// Neither publishes nor collects.
    fn reader_log(&self) -> Log {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        let writer = Writer::this_process(&*clock);
        Log::open(Arc::clone(&self.store), log_name(), clock, writer)
            .unwrap()
            .unwrap()
    }
}

#[test]
fn a_live_file_that_is_nowhere_stops_the_start() {
    let bench = Bench::new("nowhere");
    let mut log = bench.opened();
    let receipt = bench.sealed(&log, 0, 3, 8);
    let done = committed(log.commit(data(vec![receipt])));
    publish(&*bench.store, log.name(), &done).unwrap();
    publish(&*bench.store, log.name(), &done).unwrap(); // harmless
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
    assert_eq!(log.state().chains[&chain(0)].to, 100);
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
    receipt.spans = vec![span(&chain(1), 3, 8)];
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
    assert!(stopped.to_string().contains("R4"), "{stopped}");
    assert!(
        log.commit(open_both(3))
            .unwrap_err()
            .to_string()
            .contains("R4")
    );
    // A new process did not; the mirrored group offset knows.
    let log = bench.reader_log();
    assert_eq!(log.version(), 1);
    log.check_mirror(&chain(0), 3).unwrap();
    let stopped = log.check_mirror(&chain(0), 8).unwrap_err();
    assert_eq!(stopped.kind(), Kind::LogCorrupt);
    assert!(stopped.to_string().contains("R4"), "{stopped}");
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
    publish(&*bench.store, log.name(), &done).unwrap();
    assert_eq!(bench.published(), done.entry.add.len());
    bench.conclude();
}

// === reading ===

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
            good.replace("\"kind\":\"open\"", "\"kind\":\"rewind\""),
            "rewind",
        ),
        (good.replace("\"base\":", "\"extra\":1,\"base\":"), "extra"),
        (good.replace("\"format\":1", "\"format\":2"), "format 2"),
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
    publish(&*bench.store, log.name(), &done).unwrap();
    bench.conclude();
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
    assert_eq!(dropped[0].chains, [chain(1)]);
    assert_eq!(one.state().chains[&chain(1)].to, 6);
    for entry in [&won, &done] {
        publish(&*bench.store, one.name(), entry).unwrap();
    }
    // W8: the loser's files stay until its next entry names them.
    assert_eq!(bench.staged(), loser.files.len());
    let next = bench.sealed(&one, 1, 6, 8);
    let next = committed(one.commit(data(vec![next])));
    assert_eq!(next.entry.gc.len(), loser.files.len());
    publish(&*bench.store, one.name(), &next).unwrap();
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
        from: 0,
        rules: rule(1),
        actor: "test".into(),
        reason: String::new(),
        bar: Vec::new(),
        force: false,
    };
    // Flushed and swapped in one entry: its own rows are of the old rules.
    let flushed = bench.sealed(&two, 1, 3, 8);
    let done = committed(two.commit(Draft::Data {
        receipts: vec![flushed],
        swap: Some(swap),
    }));
    publish(&*bench.store, two.name(), &done).unwrap();
    assert_eq!(done.entry.rules.as_ref().unwrap().r#gen, 0);
    assert_eq!(two.state().rules_gen(), 2);
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
                start: 1,
            };
            let clock = Arc::<ManualClock>::clone(&clock);
            Log::open_or_init(Arc::clone(&other), log_name(), clock, writer, rule(7)).unwrap();
            return Fault::ReplyLost;
        }
        Fault::None
    });
    let store = FaultStore::new(Arc::clone(&bench.store), Arc::new(racing));
    let log = bench.open_through(store).unwrap();
    assert_eq!(log.state().rules.rules, rule(7));
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
    let bench = Bench::on(store::open(&format!("file:{}", dir.path().display())).unwrap());
    bench.conclude();
    let report = verify(&*bench.store, &log_name()).unwrap().unwrap();
    assert_eq!(report.problems, vec![]);
    let state = report.state.unwrap();
    assert_eq!(
        (report.entries, report.files),
        (state.version + 1, state.live.len() as u64)
    );

    let live = state.live.values().next().unwrap().file.clone();
    let path = bench.store.local_path(&live.path).unwrap();
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
    let found = &state.chains[&chain(0)];
    let versions: Vec<Option<u64>> = [2, 3, 7, 8, 9, 13, 14].map(|o| found.version_of(o)).into();
    assert_eq!(
        versions,
        [None, Some(2), Some(2), Some(3), Some(4), Some(4), None]
    );
    let rows = |from, to| span(&chain(0), from, to).rows.written;
    assert_eq!(found.rows_between(3, 14), Some(rows(3, 14)));
    assert_eq!(found.rows_between(8, 14), Some(rows(8, 14)));
    assert_eq!(found.rows_between(8, 8), Some(0));
    assert_eq!(found.rows_between(4, 14), None);
    assert_eq!(found.border_at(3).map(|b| b.to), Some(9));
    let ranges = |from, to| [(chain(0), (from, to))].into_iter().collect();
    let files = |r: &std::collections::BTreeMap<ChainId, (i64, i64)>| state.rows_files(r).count();
    assert_eq!(files(&ranges(14, 20)), 0);
    assert_eq!(
        files(&ranges(3, 14)),
        state.rows_files(&ranges(0, 99)).count()
    );
}
