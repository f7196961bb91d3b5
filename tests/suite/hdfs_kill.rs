//! The whole program, Apache Kafka and real HDFS: Weir is killed, the name node is killed, the data node is killed. Nothing is
//! lost or doubled, and whoever lists through HDFS's own API sees committed rows only, each once.

use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use weir::clock::SystemClock;
use weir::config::Location;
use weir::sample::Tally;
use weir::store;

use crate::brokers::{Broker, kafka, until};
use crate::hdfs_cluster::{Hdfs, hdfs, own_hdfs};
use crate::kill::{ABORT_AT, Estate, KILLS, LIFE_MILLIS, SEED, kill, logs_agree, produce};
use crate::zone_reader::ZoneReader;

const COORDINATES: &str = "_topic,_partition,_offset,_row";
const RAW: &str = "raw_zone/books";
const LETTERS: &str = "raw_zone/dead_letters";
const PROCESSED: &str = "processed_zone/books";

/// Of each server.
const SERVER_KILLS: u32 = 2;
const UP_MILLIS: std::ops::Range<u64> = 300..1_500;
const AWAY_MILLIS: std::ops::Range<u64> = 100..1_500;
/// Runs of the steps test side by side, and every how many-th step each of them tries. That no step is left out is tried on a
/// directory, which publishes by the same rules (`kill::an_end_at_every_durable_step_…`).
const LANES: u64 = 2;
const EVERY: u64 = 6;

/// Zones below a new path, for a topic of its own.
fn estate(broker: &Broker, hdfs: &Hdfs, name: &str) -> Estate {
    let mut estate = Estate::new(broker, name);
    estate.bucket = Some(Location::of(&hdfs.url(&hdfs.path(name))));
    estate
}

fn reader(estate: &Estate, hdfs: &Hdfs) -> Option<ZoneReader> {
    let url = &estate.bucket.as_ref().unwrap().url;
    let root = url.rsplit('/').next().unwrap();
    let tables = [
        (RAW, COORDINATES),
        (LETTERS, COORDINATES),
        (PROCESSED, "record_id"),
    ];
    ZoneReader::start(&format!("webhdfs://{}", hdfs.http()), root, &tables)
}

/// What lists show is what the logs say, file by file; nothing is left that was begun.
fn settled(estate: &Estate, produced: &Tally, reader: &mut ZoneReader) {
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
        let mut begun = store.begun(&log.name().dir()).unwrap();
        begun.retain(|name| !name.starts_with(".probe-"));
        assert_eq!(begun, [""; 0], "{zone}");
    }
}

fn finish(estate: &Estate) {
    let status = estate.weir(&["--available-now"]).status().unwrap();
    assert!(status.success(), "{}", estate.said());
}

/// Rows and letters of RAW; none before there is a log. Servers that were just started may need a moment.
fn log_totals(estate: &Estate) -> (u64, u64) {
    let log = until("the log of RAW", || {
        crate::world::log_at(&estate.at("raw_zone"), "books-raw", "raw_zone").ok()
    });
    log.map_or((0, 0), |log| {
        let totals = log.state().totals();
        (totals.rows.written, totals.dead_letters)
    })
}

/// What shows is committed: the log, read after the look, has at least these rows.
fn never_above_the_log(estate: &Estate, reader: &mut ZoneReader) {
    let shown = reader.look_at_more();
    let committed = log_totals(estate);
    assert!(
        shown[RAW].rows <= committed.0 && shown[LETTERS].rows <= committed.1,
        "{shown:?} {committed:?}"
    );
}

fn still_runs(child: &mut Child, estate: &Estate, round: u32) {
    let ended = child.try_wait().unwrap();
    assert!(
        ended.is_none(),
        "round {round}: it ended: {}",
        estate.said()
    );
}

#[test]
fn kills_on_hdfs_lose_nothing_and_double_nothing() {
    let (Some(broker), Some(hdfs)) = (kafka(), hdfs()) else {
        return;
    };
    let estate = estate(broker, hdfs, "kill-books-hdfs");
    let Some(mut reader) = reader(&estate, hdfs) else {
        return;
    };
    let done = Arc::new(AtomicBool::new(false));
    let producer = produce(&estate, None, done.clone());
    let clock = SystemClock::shared();
    let mut rng = SmallRng::seed_from_u64(SEED);
    for round in 0..KILLS {
        let mut child = estate.weir(&[]).spawn().unwrap();
        let until = clock.elapsed() + Duration::from_millis(rng.random_range(LIFE_MILLIS));
        while clock.elapsed() < until {
            reader.look_at_more();
            still_runs(&mut child, &estate, round);
        }
        kill(child);
        never_above_the_log(&estate, &mut reader);
    }
    done.store(true, Ordering::Relaxed);
    let produced = producer.join().unwrap();
    finish(&estate);
    settled(&estate, &produced, &mut reader);
    let (rows, _) = log_totals(&estate);
    println!(
        "{KILLS} kills, {} looks, {} messages, {rows} rows",
        reader.looks, produced.messages
    );
}

/// Before changes of either store, in turn: the process ends there, the next one finishes the job.
#[test]
fn an_end_at_a_durable_step_on_hdfs_loses_nothing_and_doubles_nothing() {
    let (Some(broker), Some(hdfs)) = (kafka(), hdfs()) else {
        return;
    };
    let first = Estate::new(broker, "step-books-hdfs");
    let produced = produce(&first, Some(300), Arc::default()).join().unwrap();
    let steps: Vec<Option<u64>> = std::thread::scope(|scope| {
        let ends_at = |begin| end_at_steps(&first, hdfs, &produced, begin);
        let lanes: Vec<_> = (0..LANES)
            .map(|begin| scope.spawn(move || ends_at(begin)))
            .collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).collect()
    });
    let Some(steps) = steps.into_iter().flatten().min() else {
        return;
    };
    assert!(steps > 30, "only {steps} steps: is the variable heard?");
    println!("{steps} steps");
}

/// From step `begin` on; the first that a whole run does not reach. `None`: Python cannot run.
fn end_at_steps(first: &Estate, hdfs: &Hdfs, produced: &Tally, begin: u64) -> Option<u64> {
    for step in (begin..).step_by((LANES * EVERY) as usize) {
        let mut estate = first.again();
        estate.bucket = Some(Location::of(&hdfs.url(&hdfs.path("steps"))));
        let mut reader = reader(&estate, hdfs)?;
        let status = estate
            .weir(&["--available-now"])
            .env(ABORT_AT, step.to_string())
            .status();
        let ended_by_itself = status.unwrap().success();
        never_above_the_log(&estate, &mut reader);
        finish(&estate);
        settled(&estate, produced, &mut reader);
        if ended_by_itself {
            return Some(step);
        }
    }
    None
}

/// The name node, then the data node, in turn; Weir pauses, says so and goes on, and is never started again.
#[test]
fn servers_of_hdfs_that_are_killed_under_load_are_waited_for() {
    let (Some(broker), Some(mut hdfs)) = (kafka(), own_hdfs()) else {
        return;
    };
    let estate = estate(broker, &hdfs, "hdfs-killed");
    let Some(mut reader) = reader(&estate, &hdfs) else {
        return;
    };
    let done = Arc::new(AtomicBool::new(false));
    let producer = produce(&estate, None, done.clone());
    let mut child = estate.weir(&[]).spawn().unwrap();
    let clock = SystemClock::shared();
    let mut rng = SmallRng::seed_from_u64(SEED);
    let rows = |estate: &Estate| log_totals(estate).0;
    for round in 0..SERVER_KILLS * 2 {
        let before = rows(&estate);
        until("more rows", || (rows(&estate) > before).then_some(()));
        clock.sleep(Duration::from_millis(rng.random_range(UP_MILLIS)));
        reader.look_at_more();
        let away = Duration::from_millis(rng.random_range(AWAY_MILLIS));
        match round % 2 {
            0 => {
                hdfs.kill_name_node();
                clock.sleep(away);
                hdfs.start_name_node();
            }
            _ => {
                hdfs.kill_data_node();
                clock.sleep(away);
                hdfs.start_data_node();
            }
        }
        hdfs.ready();
        still_runs(&mut child, &estate, round);
        log_totals(&estate);
        never_above_the_log(&estate, &mut reader);
    }
    let before = rows(&estate);
    until("more rows at the end", || {
        (rows(&estate) > before).then_some(())
    });
    still_runs(&mut child, &estate, SERVER_KILLS * 2);
    done.store(true, Ordering::Relaxed);
    let produced = producer.join().unwrap();
    kill(child);
    finish(&estate);
    settled(&estate, &produced, &mut reader);
    let said = estate.said();
    let waits = said.matches("waiting").count();
    assert!(waits > 0 && said.contains("going on"), "{said}");
    println!(
        "{} kills of servers, {} looks, {} messages, {waits} waits",
        SERVER_KILLS * 2,
        reader.looks,
        produced.messages
    );
}
