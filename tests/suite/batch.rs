//! RAW to PROCESSED in this process: exact ranges, first wins, one batch after the other.

use weir::commit::Role;

use crate::brokers::files;
use crate::world::World;

/// 600 records, 200 distinct values, in batches with runs of both pipelines in between.
#[test]
fn the_first_of_each_key_is_kept_whatever_the_batches_are() {
    let world = World::new(3);
    let (raw, processed) = (world.raw(&[]), world.processed("processed", &[]));
    for round in 0..3 {
        let values: Vec<String> = (0..200)
            .map(|i| format!("{}", (i * 7 + round) % 200))
            .collect();
        world.produce(
            values
                .iter()
                .enumerate()
                .map(|(i, v)| ((i % 3) as i32, v.as_bytes())),
        );
        for ended in world.run(&[raw.clone(), processed.clone()]) {
            ended.result.unwrap();
        }
    }
    let log = world.log("processed", "processed");
    let state = log.state();
    let totals = state.totals();
    assert_eq!((totals.rows.made, totals.rows.written), (600, 200));
    assert_eq!(totals.rows.duplicates, 400);
    assert!(totals.closes() && state.plan.is_none());
    let live = state.live.values().filter(|l| l.file.role == Role::Rows);
    let rows: u64 = live.map(|l| l.file.rows).sum();
    assert_eq!(rows, 200);

    let input = world.log("raw", "raw");
    let reader = input
        .state()
        .readers
        .get("processed/processed")
        .expect("registered");
    for (chain, at) in &reader.position {
        assert_eq!(input.state().splits[chain].to, *at, "{chain}");
    }
    let paths = files(&world.path("processed/books"), ".parquet");
    assert!(
        paths
            .iter()
            .all(|p| p.to_string_lossy().contains("/date=20")),
        "{paths:?}"
    );
}

#[test]
fn nothing_new_writes_nothing() {
    let world = World::new(1);
    let processed = world.processed("processed", &[]);
    let alone = world
        .run(std::slice::from_ref(&processed))
        .pop()
        .unwrap()
        .result;
    let error = alone.unwrap_err().to_string();
    assert!(error.contains("pipeline 'raw' has no log"), "{error}");
    assert!(!world.path("raw").exists(), "looking makes nothing");
    let world = World {
        stop: weir::pipeline::Stop::new(world.clock.clone()),
        ..world
    };
    world.produce([(0, &b"a"[..])].into_iter());
    let both = [world.raw(&[]), processed.clone()];
    world.run(&both);
    let before = world.log("processed", "processed").version();
    world.run(&both);
    assert_eq!(world.log("processed", "processed").version(), before);
}

/// A long stop is caught up in one batch, whose rows wait on disk, unless the disk may hold too few.
#[test]
fn a_plan_takes_as_many_versions_as_the_disk_may_hold() {
    let world = World::new(1);
    for round in 0..3 {
        let values: Vec<String> = (0..40_000)
            .map(|i| format!("{}", (i * 7 + round) % 45_000))
            .collect();
        world.produce(values.iter().map(|v| (0, v.as_bytes())));
        world.run(&[world.raw(&[])]).pop().unwrap().result.unwrap();
    }
    let ran = |name: &str, spill: &str| {
        let keys = [
            ("memory.budget", "32MiB"),
            ("sink.row.group.bytes", "1MiB"),
            ("spill.max.bytes", spill),
        ];
        let ended = world.run(&[world.processed(name, &keys)]).pop().unwrap();
        ended.result.unwrap();
        let log = world.log(name, name);
        let (state, mut borders) = (log.state(), Vec::new());
        for split in state.splits.values() {
            borders.extend(split.borders.iter().map(|b| b.to));
        }
        (borders, state.totals())
    };
    let (whole, totals) = ran("whole", "1GiB");
    assert_eq!(whole, [0, 120_000]);
    // 40,000 rows a version, with 128 bytes each, and files of some hundred KiB, as sixteen times as much on disk.
    let (parts, of_parts) = ran("parts", "16MiB");
    assert_eq!(parts, [0, 80_000, 120_000]);
    assert_eq!(totals.rows, of_parts.rows);
    assert_eq!(totals.rows.written, 45_000);
}
