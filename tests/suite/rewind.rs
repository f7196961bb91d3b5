//! Rewinds end to end: rows that leave a zone are made again, once, and pipelines that read the zone end with the same
//! rows as a fresh computation.

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use weir::commit::{Kind as EntryKind, Log, LogName, Role, decode, verify};
use weir::config::PipelineConfig;
use weir::error::Kind;
use weir::pipeline::positions::{self, Altered, Order, RewindTarget, To};
use weir::store;
use weir::zone::read_file;

use crate::brokers::files;
use crate::world::{TOPIC, World};

type Coordinate = (i32, i64);

fn to(partition: i32, offset: i64) -> RewindTarget {
    RewindTarget {
        topic: TOPIC.to_owned(),
        partition,
        to: To::Offset(offset),
    }
}

/// A log that is there needs none.
pub fn plugins() -> weir::error::Result<weir::plugin::Plugins> {
    let dir = crate::world::plugins_dir();
    weir::plugin::Plugins::open(weir::plugin::Places {
        path: dir.clone(),
        store: dir.join("../plugins-test/store"),
        cache: dir.join("../plugins-test/cache"),
    })
}

fn order(dry_run: bool) -> Order<'static> {
    Order {
        actor: "somebody",
        reason: "a test",
        dry_run,
        exact: false,
        plugins: &plugins,
    }
}

fn alter(
    world: &World,
    config: &PipelineConfig,
    wanted: &[RewindTarget],
) -> weir::error::Result<Altered> {
    positions::alter(config, &world.clock, wanted, &order(false))
}

fn start_of_all(world: &World, config: &PipelineConfig) -> Altered {
    positions::reset(config, &world.clock, &order(false)).unwrap()
}

/// (partition, from, to) of what was moved.
fn moves(altered: &Altered) -> Vec<(i32, i64, i64)> {
    let moved = altered.moved.iter();
    moved.map(|m| (m.partition, m.from, m.to)).collect()
}

fn produce(world: &World, partitions: i32, values: std::ops::Range<usize>) {
    let values: Vec<String> = values.map(|i| format!("v{}", i * 7 % 40)).collect();
    let records = values.iter().enumerate();
    world.produce(records.map(|(i, v)| (i as i32 % partitions, v.as_bytes())));
}

fn run(world: &World, configs: &[PipelineConfig]) {
    for ended in world.run(configs) {
        ended.result.unwrap();
    }
}

/// Coordinates and values of every listed file of a table, as an engine that knows no log sees them.
fn listed(world: &World, root: &str, table: &str) -> BTreeMap<Coordinate, String> {
    let log = world.log(root, root);
    let store = store::open_url(&format!("file:{}", world.path(root).display())).unwrap();
    let shown: BTreeSet<String> = files(&world.path(root).join(table), ".parquet")
        .iter()
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let mut rows = BTreeMap::new();
    for id in shown {
        let live = log.state().live.get(&id);
        let live = live.unwrap_or_else(|| panic!("{id} is listed and not live"));
        for batch in read_file(&store, log.name(), &live.file).unwrap() {
            let batch = batch.unwrap();
            let column = |name| batch.column_by_name(name).unwrap();
            let partitions = column("_partition").as_primitive::<Int32Type>();
            let offsets = column("_offset").as_primitive::<Int64Type>();
            let values = column("value").as_binary::<i32>();
            for i in 0..batch.num_rows() {
                let at = (partitions.value(i), offsets.value(i));
                let before = rows.insert(at, String::from_utf8(values.value(i).to_vec()).unwrap());
                assert_eq!(before, None, "{at:?} twice");
            }
        }
    }
    let live = log
        .state()
        .live
        .values()
        .filter(|l| l.file.role == Role::Rows);
    let expected: u64 = live.map(|l| l.file.rows).sum();
    assert_eq!(rows.len() as u64, expected, "all that is live is listed");
    rows
}

fn verified(world: &World, root: &str) {
    let store = store::open_url(&format!("file:{}", world.path(root).display())).unwrap();
    let found = verify(store.as_ref(), &LogName::new(root, root))
        .unwrap()
        .unwrap();
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    let state = found.state.unwrap();
    assert!(state.totals().closes());
}

fn kinds(log: &Log) -> Vec<EntryKind> {
    let kind = |version| {
        let path = log.name().entry(version);
        let bytes = log.store().get(&path).unwrap().unwrap();
        decode(&bytes, &path).unwrap().kind
    };
    (0..=log.version()).map(kind).collect()
}

/// One file holds rows of both partitions; one of them goes back, the other one's rows stay where they are.
#[test]
fn a_partition_goes_back_to_a_border_and_its_rows_come_again_once() {
    let world = World::new(2);
    let raw = world.raw(&[]);
    for from in [0, 40, 80] {
        produce(&world, 2, from..from + 40);
        run(&world, std::slice::from_ref(&raw));
    }
    let before = listed(&world, "raw", TOPIC);
    assert_eq!(before.len(), 120);
    let digest = |log: &Log| log.state().totals();
    let totals = digest(&world.log("raw", "raw"));

    // 33 lies inside the second commit of 20 offsets each.
    let altered = alter(&world, &raw, &[to(0, 33)]).unwrap();
    assert_eq!(moves(&altered), [(0, 60, 20)]);
    assert_eq!(altered.moved[0].asked, 33);
    let log = world.log("raw", "raw");
    assert_eq!(altered.version, Some(log.version()));
    let shown = listed(&world, "raw", TOPIC);
    let stays = |at: &Coordinate| at.0 == 1 || at.1 < 20;
    let expected: BTreeMap<_, _> = before
        .clone()
        .into_iter()
        .filter(|(at, _)| stays(at))
        .collect();
    assert_eq!(shown, expected);
    assert_eq!(digest(&log).rows.written, 80);
    verified(&world, "raw");
    let chain = log
        .state()
        .splits
        .values()
        .find(|c| c.partition == 0)
        .unwrap();
    assert_eq!((chain.to, chain.epoch, chain.peak), (20, 1, 60));

    run(&world, std::slice::from_ref(&raw));
    assert_eq!(listed(&world, "raw", TOPIC), before);
    let log = world.log("raw", "raw");
    assert_eq!(digest(&log), totals, "the ledger is as if nothing had been");
    verified(&world, "raw");

    // To the start, twice, is once.
    assert_eq!(moves(&start_of_all(&world, &raw)), [(0, 60, 0), (1, 60, 0)]);
    assert_eq!(listed(&world, "raw", TOPIC).len(), 0);
    let again = start_of_all(&world, &raw);
    assert_eq!((again.version, again.moved), (None, Vec::new()));
    run(&world, std::slice::from_ref(&raw));
    assert_eq!(listed(&world, "raw", TOPIC), before);
    verified(&world, "raw");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let world = World::new(1);
    let raw = world.raw(&[]);
    // A partition that is not there, of a pipeline that never ran; one that is there begins where it is put (`handover`).
    let never = alter(&world, &raw, &[to(1, 0)]).unwrap_err();
    assert!(never.to_string().contains("has no partition 1"), "{never}");
    assert!(positions::of(&raw).unwrap().is_empty());
    produce(&world, 1, 0..10);
    run(&world, std::slice::from_ref(&raw));
    let version = world.log("raw", "raw").version();
    let other = RewindTarget {
        topic: "other".into(),
        ..to(0, 3)
    };
    for (wanted, says) in [
        (vec![to(0, -1)], "0 or more, found -1"),
        (vec![to(0, 11)], "above the end of the partition, 10"),
        (vec![to(7, 3)], "has no partition 7"),
        (vec![other], "does not read topic 'other'"),
        (vec![to(0, 3), to(0, 4)], "named twice"),
    ] {
        let refused = alter(&world, &raw, &wanted).unwrap_err();
        assert_eq!(refused.kind(), Kind::ConfigInvalid);
        assert!(refused.to_string().contains(says), "{refused}");
    }
    let dry = positions::alter(&raw, &world.clock, &[to(0, 3)], &order(true)).unwrap();
    assert_eq!((dry.version, moves(&dry)), (None, vec![(0, 10, 0)]));
    assert_eq!(
        world.log("raw", "raw").version(),
        version,
        "nothing was written"
    );
    let there = positions::of(&raw).unwrap();
    assert_eq!((there[0].start, there[0].to), (0, 10));
}

#[test]
fn a_higher_offset_is_a_gap_that_counts_as_lost() {
    let world = World::new(2);
    let raw = world.raw(&[]);
    produce(&world, 2, 0..40);
    run(&world, std::slice::from_ref(&raw));
    produce(&world, 2, 40..80);
    let altered = alter(&world, &raw, &[to(0, 30), to(1, 5)]).unwrap();
    assert_eq!(moves(&altered), [(0, 20, 30), (1, 20, 0)]);
    let log = world.log("raw", "raw");
    assert_eq!(kinds(&log)[3..], [EntryKind::Rewind, EntryKind::Gap]);
    run(&world, std::slice::from_ref(&raw));
    let rows = listed(&world, "raw", TOPIC);
    assert_eq!(rows.len(), 70);
    assert!(!rows.contains_key(&(0, 25)) && rows.contains_key(&(0, 30)));
    let log = world.log("raw", "raw");
    let chain = log
        .state()
        .splits
        .values()
        .find(|c| c.partition == 0)
        .unwrap();
    assert_eq!((chain.to, chain.lost), (40, 10));
    // Back over the gap: nothing is lost any more.
    assert_eq!(
        moves(&alter(&world, &raw, &[to(0, 25)]).unwrap()),
        [(0, 40, 20)]
    );
    run(&world, std::slice::from_ref(&raw));
    assert_eq!(listed(&world, "raw", TOPIC).len(), 80);
    assert!(
        world
            .log("raw", "raw")
            .state()
            .splits
            .values()
            .all(|c| c.lost == 0)
    );
    verified(&world, "raw");
}

/// What somebody who begins today gets from the same RAW zone.
fn fresh(world: &World, name: &str) -> BTreeMap<Coordinate, String> {
    run(world, &[world.processed(name, &[])]);
    listed(world, name, TOPIC)
}

/// Three commits of RAW, a batch after each; values repeat across partitions and commits.
fn three_batches(world: &World) -> (PipelineConfig, PipelineConfig) {
    let (raw, processed) = (world.raw(&[]), world.processed("processed", &[]));
    for from in [0, 30, 60] {
        produce(world, 3, from..from + 30);
        run(world, &[raw.clone(), processed.clone()]);
    }
    (raw, processed)
}

#[test]
fn whoever_reads_a_zone_that_went_back_takes_its_batches_back_and_ends_as_a_fresh_one() {
    let world = World::new(3);
    let (raw, processed) = three_batches(&world);
    let before = world.log("processed", "processed");
    assert_eq!(before.state().totals().rows.written, 40);

    // Inside the second commit: the second and third batch are undone, of all partitions.
    assert_eq!(
        moves(&alter(&world, &raw, &[to(1, 15)]).unwrap()),
        [(1, 30, 10)]
    );
    let log = world.log("raw", "raw");
    let reader = &log.state().readers["processed/processed"];
    assert_eq!(reader.generation, 1);
    assert!(reader.position.values().all(|at| *at == 10), "{reader:?}");
    // Nothing new in RAW: what is undone goes all the same.
    run(&world, std::slice::from_ref(&processed));
    let log = world.log("processed", "processed");
    assert_eq!(log.state().follows, 1);
    assert_eq!(
        kinds(&log)[before.version() as usize + 1],
        EntryKind::Rewind
    );
    assert_eq!(listed(&world, "processed", TOPIC), fresh(&world, "fresh-1"));
    verified(&world, "processed");

    produce(&world, 3, 90..99);
    run(&world, &[raw.clone(), processed.clone()]);
    assert_eq!(listed(&world, "raw", TOPIC).len(), 99);
    assert_eq!(listed(&world, "processed", TOPIC), fresh(&world, "fresh-2"));

    // Twice before it looks.
    alter(&world, &raw, &[to(0, 20)]).unwrap();
    run(&world, std::slice::from_ref(&raw));
    alter(&world, &raw, &[to(2, 0)]).unwrap();
    run(&world, &[raw.clone(), processed.clone()]);
    let rows = listed(&world, "processed", TOPIC);
    assert_eq!((rows.len(), &rows), (40, &fresh(&world, "fresh-3")));
    assert_eq!(world.log("processed", "processed").state().follows, 3);
    let sidecars = files(&world.path("processed/_system"), "").into_iter();
    let sidecars = sidecars.filter(|p| p.to_string_lossy().contains("/keys/"));
    let live = world.log("processed", "processed");
    let live = live.state().live.values();
    let keys = live.filter(|l| l.file.role == Role::Keys).count();
    assert_eq!(sidecars.count(), keys, "sidecars leave with their rows");
    verified(&world, "processed");
    verified(&world, "raw");
}

#[test]
fn a_pipeline_that_reads_a_zone_goes_back_by_its_batches() {
    let world = World::new(3);
    let (raw, processed) = three_batches(&world);
    let before = listed(&world, "processed", TOPIC);
    let skip = alter(&world, &processed, &[to(0, 31)]).unwrap_err();
    assert!(skip.to_string().contains("cannot skip"), "{skip}");
    let dry = positions::alter(&processed, &world.clock, &[to(0, 25)], &order(true)).unwrap();
    let expected = [(0, 30, 20), (1, 30, 20), (2, 30, 20)];
    assert_eq!((dry.version, moves(&dry)), (None, expected.to_vec()));

    let version = world.log("raw", "raw").version();
    let altered = alter(&world, &processed, &[to(0, 25)]).unwrap();
    assert_eq!(moves(&altered), expected);
    let log = world.log("raw", "raw");
    assert_eq!(log.version(), version + 1);
    assert_eq!(log.state().readers["processed/processed"].generation, 1);
    let log = world.log("processed", "processed");
    assert_eq!(
        (altered.version, log.state().follows),
        (Some(log.version()), 1)
    );
    assert!(
        log.state()
            .splits
            .values()
            .all(|c| c.to == 20 && c.epoch == 1)
    );
    verified(&world, "processed");
    run(&world, std::slice::from_ref(&processed));
    assert_eq!(listed(&world, "processed", TOPIC), before);

    let altered = start_of_all(&world, &processed);
    assert_eq!(moves(&altered), [(0, 30, 0), (1, 30, 0), (2, 30, 0)]);
    assert_eq!(listed(&world, "processed", TOPIC).len(), 0);
    produce(&world, 3, 90..99);
    run(&world, &[raw, processed]);
    assert_eq!(listed(&world, "processed", TOPIC), fresh(&world, "fresh"));
    verified(&world, "processed");
}
