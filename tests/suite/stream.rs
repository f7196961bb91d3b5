//! Kafka (librdkafka's mock) to a RAW zone, in this process: what a run leaves behind, and what the next run does.

use std::time::Duration;

use weir::commit::{LogName, Role, verify};
use weir::store;

use crate::brokers::files;
use crate::world::World;

#[test]
fn records_land_once_and_a_second_run_adds_only_what_is_new() {
    let world = World::new(3);
    let values: Vec<String> = (0..1_000).map(|i| format!("value {i}")).collect();
    world.produce(
        values
            .iter()
            .enumerate()
            .map(|(i, v)| ((i % 3) as i32, v.as_bytes())),
    );
    let config = world.raw(&[("tasks.max", "2")]);
    for ended in world.run(std::slice::from_ref(&config)) {
        ended.result.unwrap();
    }
    let log = world.log("raw", "raw");
    let totals = log.state().totals();
    assert_eq!(totals.records.read, 1_000);
    assert_eq!(totals.rows.written, 1_000);
    assert!(totals.closes());
    let before = log.version();

    world.produce([(1, &b"one more"[..])].into_iter());
    world
        .run(std::slice::from_ref(&config))
        .pop()
        .unwrap()
        .result
        .unwrap();
    let log = world.log("raw", "raw");
    assert_eq!(log.state().totals().rows.written, 1_001);
    assert!(log.version() > before);

    let live: u64 = log
        .state()
        .live
        .values()
        .filter(|l| l.file.role == Role::Rows)
        .count() as u64;
    assert_eq!(
        files(&world.path("raw/books"), ".parquet").len() as u64,
        live
    );
    assert_eq!(
        files(&world.path("raw/_system/raw/raw/staging"), "").len(),
        0
    );
    assert_eq!(verified(&world), Vec::<String>::new());
}

/// The log is the only fence: the one that commits second drops what it has and goes on behind the other.
#[test]
fn two_processes_on_one_pipeline_double_nothing_and_lose_nothing() {
    let world = World::new(4);
    let value = [b'x'; 100];
    world.produce((0..40_000).map(|i| (i % 4, &value[..])));
    let config = world.raw(&[("sink.rotate.rows", "3000"), ("tasks.max", "2")]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for ended in world.run(std::slice::from_ref(&config)) {
                    ended.result.unwrap();
                }
            });
        }
    });
    let log = world.log("raw", "raw");
    assert_eq!(log.state().totals().rows.written, 40_000);
    let rows: u64 = log.state().live.values().map(|l| l.file.rows).sum();
    assert_eq!(rows, 40_000);
    assert_eq!(verified(&world), Vec::<String>::new());
}

#[test]
fn a_broker_that_goes_away_is_waited_for() {
    let world = World::new(2);
    let config = world.raw(&[("trigger", "continuous"), ("sink.rotate.rows", "10")]);
    world.produce((0..10).map(|i| (i % 2, &b"before"[..])));
    std::thread::scope(|scope| {
        let running = scope.spawn(|| world.run(std::slice::from_ref(&config)));
        world.until("the first commit", || world.told.has("committed"));
        world.broker.serve(false).unwrap();
        world.until("a word about the outage", || world.told.has("waiting"));
        world.broker.serve(true).unwrap();
        world.produce((0..10).map(|i| (i % 2, &b"after"[..])));
        world.until("the way back", || world.told.has("resumed"));
        world.until("the second commit", || world.told.count("committed") >= 2);
        world.stop.ask(Duration::from_secs(20));
        for ended in running.join().unwrap() {
            ended.result.unwrap();
        }
    });
    assert_eq!(world.log("raw", "raw").state().totals().rows.written, 20);
}

fn verified(world: &World) -> Vec<String> {
    let store = store::open_url(&format!("file:{}", world.path("raw").display())).unwrap();
    let verified = verify(store.as_ref(), &LogName::new("raw", "raw"))
        .unwrap()
        .unwrap();
    verified.problems.iter().map(|p| format!("{p:?}")).collect()
}
