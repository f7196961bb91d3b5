//! The whole program, Apache Kafka and real HDFS: Weir is killed, the name node is killed, the data node is killed.
//! Nothing is lost or doubled, and a reader that lists through HDFS's own API sees only committed rows, each once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use weir::clock::SystemClock;
use weir::config::Location;

use crate::brokers::{Broker, kafka, until};
use crate::hdfs_cluster::{Hdfs, hdfs, own_hdfs};
use crate::kill::{Estate, SEED, kill, produce};
use crate::listed::{
    self, Steps, ended_at_steps, finish, killed_while_listed, log_totals, never_above_the_log,
    settled, still_runs,
};
use crate::zone_reader::ZoneReader;

/// Of each server.
const SERVER_KILLS: u32 = 2;
const UP_MILLIS: std::ops::Range<u64> = 300..1_500;
const AWAY_MILLIS: std::ops::Range<u64> = 100..1_500;
/// That no step is left out is tried on a directory, which publishes by the same rules (`kill::an_end_at_every_durable_step_…`).
const STEPS: Steps = Steps { lanes: 2, every: 6 };

/// Zones below a new path, for a topic of its own.
fn estate(broker: &Broker, hdfs: &Hdfs, name: &str) -> Estate {
    let mut estate = Estate::new(broker, name);
    estate.bucket = Some(Location::of(&hdfs.url(&hdfs.path(name))));
    estate
}

fn reader(estate: &Estate, hdfs: &Hdfs) -> Option<ZoneReader> {
    let url = &estate.bucket.as_ref().unwrap().url;
    let root = url.rsplit('/').next().unwrap();
    listed::reader(&format!("webhdfs://{}", hdfs.http()), root)
}

/// What killed processes were writing is left alone until it is ten minutes old; then a start takes it away. However long the test
/// took, all of it is that old now.
fn swept(estate: &Estate, hdfs: &Hdfs) {
    let root = estate.bucket.as_ref().unwrap().url.clone();
    let root = root.rsplit('/').next().unwrap();
    hdfs.age_unfinished(root);
    finish(estate);
    let left = hdfs.files(root).into_keys();
    let unfinished = |path: &String| path.ends_with(".writing") && !path.contains("/..probe-");
    let left: Vec<String> = left.filter(unfinished).collect();
    assert_eq!(left, [""; 0]);
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
    let produced = killed_while_listed(&estate, &mut reader);
    swept(&estate, hdfs);
    settled(&estate, &produced, &mut reader);
}

#[test]
fn an_end_at_a_durable_step_on_hdfs_loses_nothing_and_doubles_nothing() {
    let (Some(broker), Some(hdfs)) = (kafka(), hdfs()) else {
        return;
    };
    let first = Estate::new(broker, "step-books-hdfs");
    let produced = produce(&first, Some(300), Arc::default()).join().unwrap();
    let fresh = || {
        let mut estate = first.again();
        estate.bucket = Some(Location::of(&hdfs.url(&hdfs.path("steps"))));
        let reader = reader(&estate, hdfs)?;
        Some((estate, reader))
    };
    let Some(steps) = ended_at_steps(STEPS, &produced, &fresh, &|_| {}) else {
        return;
    };
    assert!(steps > 30, "only {steps} steps: is the variable heard?");
    println!("{steps} steps");
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
    swept(&estate, &hdfs);
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
