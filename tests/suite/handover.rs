//! A pipeline goes on where another consumer stopped: at offsets that are set before its first record, or at those of a
//! group.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use weir::kafka::{GroupOffsets, KafkaProps};
use weir::pipeline::positions::{self, Order, Position, RewindTarget, To};
use weir::record::{SplitId, TopicPartition};
use weir::source::Acknowledge as _;

use crate::brokers::until;
use crate::daemon_rig::Rig;
use crate::world::{TOPIC, World};

fn order(exact: bool) -> Order<'static> {
    Order {
        actor: "somebody",
        reason: "a test",
        dry_run: false,
        exact,
        plugins: &crate::rewind::plugins,
    }
}

fn to(partition: i32, offset: i64) -> RewindTarget {
    RewindTarget {
        topic: TOPIC.to_owned(),
        partition,
        to: To::Offset(offset),
    }
}

/// Ten records in each of `partitions`.
fn filled(partitions: i32) -> World {
    let world = World::new(partitions);
    let records = (0..10 * partitions).map(|n| (n % partitions, &b"x"[..]));
    world.produce(records);
    world
}

/// (partition, start, position)
fn positions(world: &World, more: &[(&str, &str)]) -> Vec<(i32, i64, i64)> {
    let all = positions::of(&world.raw(more)).unwrap();
    all.into_iter()
        .map(
            |Position {
                 partition,
                 start,
                 to,
                 ..
             }| (partition, start, to),
        )
        .collect()
}

fn run(world: &World, more: &[(&str, &str)]) {
    for ended in world.run(&[world.raw(more)]) {
        ended.result.unwrap();
    }
}

#[test]
fn offsets_put_before_the_first_record_are_where_reading_begins() {
    let world = filled(3);
    let altered = positions::alter(
        &world.raw(&[]),
        &world.clock,
        &[to(0, 4), to(2, 10)],
        &order(true),
    )
    .unwrap();
    assert_eq!(altered.version, Some(1));
    assert_eq!(positions(&world, &[]), [(0, 4, 4), (1, 0, 0), (2, 10, 10)]);
    run(&world, &[]);
    assert_eq!(
        positions(&world, &[]),
        [(0, 4, 10), (1, 0, 10), (2, 10, 10)]
    );
    let log = world.log("raw", "raw");
    let read: u64 = log.state().totals().records.read;
    assert_eq!(read, 6 + 10);
    // What was pinned may move as ever, but not below its start.
    let error = positions::alter(&world.raw(&[]), &world.clock, &[to(0, 3)], &order(true));
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("began at offset 4") && error.contains("another name"),
        "{error}"
    );
}

#[test]
fn what_cannot_be_begun_leaves_nothing_behind() {
    let world = filled(1);
    let other = RewindTarget {
        topic: "other".to_owned(),
        ..to(0, 1)
    };
    for wanted in [to(0, 11), to(1, 0), other] {
        positions::alter(&world.raw(&[]), &world.clock, &[wanted], &order(true)).unwrap_err();
    }
    let start = RewindTarget {
        to: To::Start,
        ..to(0, 0)
    };
    let nothing = positions::alter(&world.raw(&[]), &world.clock, &[start], &order(true)).unwrap();
    assert_eq!(nothing.version, None);
    assert!(!world.path("raw").exists());
}

#[test]
fn a_position_inside_a_commit_is_refused_with_the_borders_beside_it() {
    let world = filled(1);
    run(&world, &[]);
    world.produce((0..5).map(|_| (0, &b"y"[..])));
    run(&world, &[]);
    let error = positions::alter(&world.raw(&[]), &world.clock, &[to(0, 12)], &order(true));
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("from 10 to 15") && error.contains("ask for 10 or for 15"),
        "{error}"
    );
    assert_eq!(positions(&world, &[]), [(0, 0, 15)]);
    positions::alter(&world.raw(&[]), &world.clock, &[to(0, 10)], &order(true)).unwrap();
    assert_eq!(positions(&world, &[]), [(0, 0, 10)]);
}

#[test]
fn reading_begins_behind_a_group() {
    let world = filled(3);
    let group = |at: &[(i32, i64)]| {
        let props = KafkaProps::new(world.broker.bootstrap(), "connect-old", &BTreeMap::new());
        let group = GroupOffsets::open(&props.unwrap()).unwrap();
        let positions: Vec<_> = at
            .iter()
            .map(|(partition, next)| weir::source::Position {
                split: SplitId::new("-"),
                epoch: 0,
                tp: TopicPartition {
                    topic: TOPIC.into(),
                    partition: *partition,
                },
                next: *next,
            })
            .collect();
        group.acknowledge(&positions);
        assert!(group.flush(Duration::from_secs(20)));
    };
    let start = [("source.start", "group:connect-old")];
    group(&[(0, 7), (1, 10)]);
    run(&world, &start);
    assert_eq!(
        positions(&world, &start),
        [(0, 7, 10), (1, 10, 10), (2, 0, 10)]
    );
    // A group that has committed nothing is a mistake, most likely; reading everything again would be none to undo.
    let url = format!("file:{}", world.path("other").display());
    let other = [("source.start", "group:other"), ("sink.url", url.as_str())];
    let ended = world.run(&[world.raw(&other)]);
    let error = ended[0].result.as_ref().unwrap_err().to_string();
    assert!(error.contains("'other' has committed no offset"), "{error}");
}

/// As a client of Connect hands over: create STOPPED, PATCH offsets, resume.
#[test]
fn a_connector_is_handed_over_as_in_connect() {
    let mut rig = Rig::new(&["books"]);
    rig.produce("books", &["x"; 10]);
    let broker = format!("bootstrap.servers={}", rig.broker.bootstrap());
    let daemon = rig.start(&[&broker]);
    let s3 = json!({
        "connector.class": "io.confluent.connect.s3.S3SinkConnector", "topics": "books", "s3.bucket.name": "lake",
        "store.url": format!("file://{}", rig.path("s3").display()),
        "format.class": "io.confluent.connect.s3.format.parquet.ParquetFormat", "flush.size": "100",
        "rotate.interval.ms": "100",
        "value.converter": "org.apache.kafka.connect.storage.StringConverter",
    });
    let native = json!(rig.config(
        "books",
        &[(
            "sink.url",
            &format!("file:{}", rig.path("native").display())
        )]
    ));
    for (name, config) in [("s3", s3), ("native", native)] {
        let body = json!({ "name": name, "config": config, "initial_state": "STOPPED" });
        let answer = daemon.ask("POST", "/connectors", Some(&body));
        assert_eq!(answer.status, 201, "{}", answer.text());
        let at = json!({ "offsets": [{
            "partition": { "kafka_topic": "books", "kafka_partition": 0 }, "offset": { "kafka_offset": 6 },
        }]});
        let path = format!("/connectors/{name}/offsets");
        let answer = daemon.ask("PATCH", &path, Some(&at));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(
            answer.json()["message"],
            "The offsets for this connector have been altered successfully"
        );
        assert_eq!(daemon.get(&path)["offsets"], at["offsets"]);
        let answer = daemon.ask("PUT", &format!("/connectors/{name}/resume"), None);
        assert_eq!(answer.status, 202, "{}", answer.text());
        until("the end", || (daemon.position(name)? == 10).then_some(()));
        let log = daemon.get(&format!("/pipelines/{name}/log"));
        let read = log["records"]["read"].as_u64();
        assert_eq!(read, Some(4), "{log}");
    }
}
