//! The pipelines of `kill` on a store that a reader lists all the time, through the store's own API: only committed
//! rows are visible, each once, and in the end all that the logs have.

use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use weir::clock::SystemClock;
use weir::sample::Tally;
use weir::store;

use crate::brokers::until;
use crate::kill::{ABORT_AT, Estate, KILLS, LIFE_MILLIS, SEED, kill, logs_agree, produce};
use crate::zone_reader::ZoneReader;

const COORDINATES: &str = "_topic,_partition,_offset,_row";
const RAW: &str = "raw_zone/books";
const LETTERS: &str = "raw_zone/dead_letters";
const PROCESSED: &str = "processed_zone/books";

/// `None`: Python cannot run.
pub fn reader(endpoint: &str, root: &str) -> Option<ZoneReader> {
    let tables = [
        (RAW, COORDINATES),
        (LETTERS, COORDINATES),
        (PROCESSED, "record_id"),
    ];
    ZoneReader::start(endpoint, root, &tables)
}

/// What lists show is what the logs say, file by file; nothing is left that was begun.
pub fn settled(estate: &Estate, produced: &Tally, reader: &mut ZoneReader) {
    let raw = logs_agree(estate, produced);
    let processed = estate.log("books-processed", "processed_zone");
    let shown = reader.look_at_more();
    let totals = raw.state().totals();
    assert_eq!(shown[RAW].rows, totals.rows.written);
    assert_eq!(shown[LETTERS].rows, totals.dead_letters);
    assert_eq!(
        shown[PROCESSED].rows,
        processed.state().totals().rows.written
    );
    let live = raw.state().live.len() as u64;
    assert_eq!(shown[RAW].files + shown[LETTERS].files, live);
    for (log, zone) in [(&raw, "raw_zone"), (&processed, "processed_zone")] {
        let store = store::open(&estate.at(zone)).unwrap();
        let home = log.name().dir();
        for left in store.begun(&home).unwrap() {
            // Of a probe that was killed; a start takes it away when it is ten minutes old.
            assert!(left.starts_with(".probe-"), "{zone}: {left} is left");
            store.discard(&home, &left).unwrap();
        }
    }
}

pub fn finish(estate: &Estate) {
    let status = estate.weir(&["--available-now"]).status().unwrap();
    assert!(status.success(), "{}", estate.said());
}

/// Rows and letters of RAW; none before there is a log. Servers that were just started may need a moment.
pub fn log_totals(estate: &Estate) -> (u64, u64) {
    let log = until("the log of RAW", || {
        crate::world::log_at(&estate.at("raw_zone"), "books-raw", "raw_zone").ok()
    });
    log.map_or((0, 0), |log| {
        let totals = log.state().totals();
        (totals.rows.written, totals.dead_letters)
    })
}

/// What shows is committed: the log, read after the look, has at least these rows.
pub fn never_above_the_log(estate: &Estate, reader: &mut ZoneReader) {
    let shown = reader.look_at_more();
    let committed = log_totals(estate);
    assert!(
        shown[RAW].rows <= committed.0 && shown[LETTERS].rows <= committed.1,
        "{shown:?} {committed:?}"
    );
}

pub fn still_runs(child: &mut Child, estate: &Estate, round: u32) {
    let ended = child.try_wait().unwrap();
    assert!(
        ended.is_none(),
        "round {round}: it ended: {}",
        estate.said()
    );
}

/// Killed again and again while messages come; says what was produced.
pub fn killed_while_listed(estate: &Estate, reader: &mut ZoneReader) -> Tally {
    let done = Arc::new(AtomicBool::new(false));
    let producer = produce(estate, None, done.clone());
    let clock = SystemClock::shared();
    let mut rng = SmallRng::seed_from_u64(SEED);
    for round in 0..KILLS {
        let mut child = estate.weir(&[]).spawn().unwrap();
        let until = clock.elapsed() + Duration::from_millis(rng.random_range(LIFE_MILLIS));
        while clock.elapsed() < until {
            reader.look_at_more();
            still_runs(&mut child, estate, round);
        }
        kill(child);
        never_above_the_log(estate, reader);
    }
    done.store(true, Ordering::Relaxed);
    let produced = producer.join().unwrap();
    finish(estate);
    println!(
        "{KILLS} kills, {} looks, {} messages, {} rows",
        reader.looks,
        produced.messages,
        log_totals(estate).0
    );
    produced
}

/// Which changes of a store a process ends before: every `every`-th, shared out among `lanes` that run side by side.
#[derive(Clone, Copy)]
pub struct Steps {
    pub lanes: u64,
    pub every: u64,
}

/// Before changes of either store, in turn: the process ends there, the next one finishes the job. `fresh` makes an estate over
/// the same messages with its reader; `also` looks at what was left. The first step that a whole run does not reach; `None`: Python
/// cannot run.
pub fn ended_at_steps(
    steps: Steps,
    produced: &Tally,
    fresh: &(dyn Fn() -> Option<(Estate, ZoneReader)> + Sync),
    also: &(dyn Fn(&Estate) + Sync),
) -> Option<u64> {
    let Steps { lanes, every } = steps;
    let lane = |begin: u64| {
        for step in (begin * every..).step_by((lanes * every) as usize) {
            let (estate, mut reader) = fresh()?;
            let status = estate
                .weir(&["--available-now"])
                .env(ABORT_AT, step.to_string())
                .status();
            let ended_by_itself = status.unwrap().success();
            never_above_the_log(&estate, &mut reader);
            finish(&estate);
            settled(&estate, produced, &mut reader);
            also(&estate);
            if ended_by_itself {
                return Some(step);
            }
        }
        None
    };
    let ended: Vec<Option<u64>> = std::thread::scope(|scope| {
        let lane = &lane;
        let running: Vec<_> = (0..lanes)
            .map(|begin| scope.spawn(move || lane(begin)))
            .collect();
        running.into_iter().map(|l| l.join().unwrap()).collect()
    });
    ended.into_iter().flatten().min()
}
