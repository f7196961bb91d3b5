//! What a trigger takes of topics, and topics by pattern.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir::clock::{Clock, SystemClock};
use weir::commit::{Kind, decode};
use weir::config::{PipelineConfig, from_map};
use weir::connectors::CATALOG;

use crate::brokers::files;
use crate::schedule::{HOUR, JumpClock, start};
use crate::world::{World, open_log};

fn read(world: &World) -> u64 {
    world.log("raw", "raw").state().totals().records.read
}

fn to_of(world: &World, partition: i32) -> i64 {
    let log = world.log("raw", "raw");
    let mut splits = log.state().splits.values();
    splits
        .find(|split| split.partition == partition)
        .unwrap()
        .to
}

fn many(world: &World, partition: i32, count: usize) {
    let values: Vec<String> = (0..count).map(|n| n.to_string()).collect();
    world.produce(values.iter().map(|value| (partition, value.as_bytes())));
}

/// Spark's `maxOffsetsPerTrigger` under `availableNow`: several commits, none above the limit, and everything is read.
#[test]
fn no_commit_takes_more_than_its_limit() {
    let world = World::new(3);
    many(&world, 0, 300);
    many(&world, 1, 10);
    let config = world.raw(&[
        ("source.max.offsets.per.trigger", "100"),
        ("tasks.max", "2"),
    ]);
    world.run(&[config]).pop().unwrap().result.unwrap();
    let log = world.log("raw", "raw");
    let totals = log.state().totals();
    assert_eq!((totals.records.read, totals.rows.written), (310, 310));
    assert!(totals.closes());
    let mut commits = 0;
    for path in files(&world.path("raw/_system/raw/raw/log"), ".json") {
        let bytes = std::fs::read(&path).unwrap();
        let entry = decode(&bytes, &path.display().to_string()).unwrap();
        let took: i64 = entry.spans.iter().map(|span| span.to - span.from).sum();
        assert!(took <= 100, "{entry:?}");
        commits += usize::from(entry.kind == Kind::Data);
    }
    assert!(commits >= 4, "{commits}");
}

/// With `every:…` a run takes so many, of each partition by what waits in it; the next run goes on there.
#[test]
fn a_run_takes_no_more_than_its_limit() {
    let world = World::new(2);
    many(&world, 0, 300);
    many(&world, 1, 60);
    let clock = JumpClock::new();
    let config = world.raw(&[
        ("trigger", "every:1h"),
        ("source.max.offsets.per.trigger", "120"),
        ("tasks.max", "2"),
    ]);
    let running = start(&clock, &config);
    running.until(&world, "resting Limited", 1);
    assert_eq!((to_of(&world, 0), to_of(&world, 1)), (100, 20));
    many(&world, 1, 300);
    clock.jump(HOUR);
    running.until(&world, "resting Limited", 2);
    assert_eq!(
        (read(&world), to_of(&world, 0) + to_of(&world, 1)),
        (240, 240)
    );
    for run in 3..=5 {
        clock.jump(HOUR);
        running.until(&world, "resting Limited", run);
        assert_eq!(read(&world), 120 * run as u64);
    }
    clock.jump(HOUR);
    running.until(&world, "resting Done", 1);
    assert_eq!(read(&world), 660);
    running.end();
}

#[test]
fn a_run_waits_for_so_many_and_not_for_ever() {
    let world = World::new(1);
    many(&world, 0, 10);
    let clock = JumpClock::new();
    let config = world.raw(&[
        ("trigger", "every:1h"),
        ("source.min.offsets.per.trigger", "50"),
        ("source.max.trigger.delay", "3h"),
    ]);
    let running = start(&clock, &config);
    running.until(&world, "resting Done", 1);
    assert_eq!(read(&world), 10);
    many(&world, 0, 49);
    clock.jump(HOUR);
    running.until(&world, "resting TooFew", 1);
    assert_eq!(read(&world), 10);
    clock.jump(2 * HOUR);
    running.until(&world, "resting Done", 2);
    assert_eq!(read(&world), 59);
    many(&world, 0, 50);
    clock.jump(HOUR);
    running.until(&world, "resting Done", 3);
    assert_eq!(read(&world), 109);
    running.end();
}

fn by_pattern(world: &World, more: &[(&str, &str)]) -> Result<PipelineConfig, String> {
    let url = format!("file:{}", world.path("raw").display());
    let mut map = BTreeMap::from([
        ("name", "raw"),
        ("source.type", "kafka"),
        ("source.subscribe.pattern", "orders-.*|_orders"),
        ("source.start", "earliest"),
        ("source.bootstrap.servers", world.broker.bootstrap()),
        ("sink.type", "zone"),
        ("sink.url", &url),
        ("trigger", "available-now"),
    ]);
    map.extend(more.iter().copied());
    from_map("test", map, &CATALOG).map_err(|problems| format!("{problems:?}"))
}

fn topics(world: &World, names: &[&str]) {
    for name in names {
        world.broker.create_topic(name, 2).unwrap();
        world.send(name, [(0, name.as_bytes()), (1, b"x")].into_iter());
    }
}

fn tables(world: &World) -> Vec<String> {
    let log = world.log("raw", "raw");
    let mut tables: Vec<String> = log
        .state()
        .splits
        .values()
        .map(|split| split.topic.clone())
        .collect();
    tables.dedup();
    for table in &tables {
        let written = files(&world.path(&format!("raw/{table}")), ".parquet");
        assert!(!written.is_empty(), "{table}");
    }
    tables
}

#[test]
fn topics_that_a_pattern_finds_are_read_those_too_that_come_later() {
    let world = World::new(1);
    topics(
        &world,
        &["orders-eu", "orders-us", "old-orders-eu", "_orders"],
    );
    let config = by_pattern(&world, &[]).unwrap();
    world.run(&[config]).pop().unwrap().result.unwrap();
    // A table of the name `_orders` would be hidden from engines.
    assert_eq!(tables(&world), ["orders-eu", "orders-us"]);

    let more = [
        ("trigger", "continuous"),
        ("source.metadata.refresh", "1s"),
        ("source.start", "latest"),
        ("sink.rotate.age", "100ms"),
    ];
    let config = by_pattern(&world, &more).unwrap();
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let stop = weir::pipeline::Stop::new(clock.clone());
    let thread = {
        let (stop, told) = (stop.clone(), world.told.clone());
        std::thread::spawn(move || weir::pipeline::run(&[config], &clock, &stop, &|_| told.clone()))
    };
    let begun = world.told.count("started");
    world.until("a start", || world.told.count("started") > begun);
    // Made and filled before anybody looks: whatever `source.start` says, its records are all new.
    topics(&world, &["orders-asia"]);
    let found = || {
        let log = open_log(&world.path("raw"), "raw", "raw").unwrap().unwrap();
        log.state().totals().records.read == 6
    };
    world.until("records of a topic that came later", found);
    stop.ask(Duration::from_secs(20));
    thread.join().unwrap().pop().unwrap().result.unwrap();
    assert_eq!(tables(&world), ["orders-asia", "orders-eu", "orders-us"]);
}

/// As Spark has it: at the first start every partition of every topic that is there, and no others.
#[test]
fn topics_of_a_pattern_begin_at_the_offsets_that_are_named() {
    let world = World::new(1);
    let at = |start: &str| {
        let config = by_pattern(&world, &[("source.start", start)]).unwrap();
        world.run(&[config]).pop().unwrap().result
    };
    let refused = |start: &str, part: &str| {
        let error = at(start).unwrap_err();
        assert_eq!(error.kind(), weir::error::Kind::ConfigInvalid, "{error}");
        assert!(error.to_string().contains(part), "{start}: {error}");
    };
    let both = "offsets:{\"orders-eu\":{\"0\":1,\"1\":-2},\"orders-us\":{\"0\":-1,\"1\":0}}";
    refused(
        both,
        "names orders-eu, orders-us, and no such topic is there",
    );
    topics(&world, &["orders-eu", "orders-us"]);
    refused(
        "offsets:orders-eu/0=1,orders-eu/1=0",
        "does not name orders-us/0",
    );
    refused(
        &both.replace("us", "asia"),
        "names orders-asia, and no such topic is there",
    );
    at(both).unwrap();
    let begins = || -> Vec<(String, i32, i64)> {
        let log = world.log("raw", "raw");
        let splits = log.state().splits.values();
        let mut begins: Vec<_> = splits
            .map(|s| (s.topic.clone(), s.partition, s.start))
            .collect();
        begins.sort();
        begins
    };
    let of =
        |topic: &str, at: [i64; 2]| [(topic.to_owned(), 0, at[0]), (topic.to_owned(), 1, at[1])];
    let want = [of("orders-eu", [1, 0]), of("orders-us", [1, 0])].concat();
    assert_eq!(begins(), want);
    // A topic that comes later is read whole, and a position that is committed counts.
    topics(&world, &["orders-asia"]);
    at(both).unwrap();
    assert_eq!(
        begins(),
        [of("orders-asia", [0, 0]).to_vec(), want].concat()
    );
}

#[test]
fn a_pattern_that_cannot_be_meant_is_refused() {
    let world = World::new(1);
    for (more, part) in [
        (("source.topics", "a"), "both say what is read"),
        (
            ("source.start", "offsets:orders-eu/0=1,_orders/0=0"),
            "let source.subscribe.pattern match it",
        ),
        (("source.subscribe.pattern", "(?=a)b"), "look-around"),
        (
            ("errors.deadletterqueue.topic.name", "orders-dead"),
            "also is read",
        ),
        (("source.max.offsets.per.trigger", "0"), "an integer from 1"),
        (("source.min.offsets.per.trigger", "0"), "an integer from 1"),
    ] {
        let more = [more, ("errors.tolerance", "all")];
        let refused = by_pattern(&world, &more).unwrap_err();
        assert!(refused.contains(part), "{more:?}: {refused}");
    }
    // Only the broker knows this one.
    topics(&world, &["orders-dead"]);
    let config = by_pattern(&world, &[("errors.dlq.table", "orders-dead")]).unwrap();
    let error = world.run(&[config]).pop().unwrap().result.unwrap_err();
    assert!(
        error.to_string().contains("the table of dead letters"),
        "{error}"
    );
    assert!(
        !world.path("raw").exists(),
        "a refused start writes nothing"
    );
}
