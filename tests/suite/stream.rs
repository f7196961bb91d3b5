//! Kafka (librdkafka's mock) to a RAW zone, in this process: what a run leaves behind, and what the next one does.

use weir::commit::{LogName, Role, verify};
use weir::store;

use crate::world::{World, files};

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
    let store = store::open(&format!("file:{}", world.path("raw").display())).unwrap();
    let verified = verify(store.as_ref(), &LogName::new("raw", "raw"))
        .unwrap()
        .unwrap();
    assert!(verified.problems.is_empty(), "{:?}", verified.problems);
}
