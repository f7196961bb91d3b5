//! Basic tests on the mock cluster. Tests that need a real broker are in `tests/suite/real_kafka.rs`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::*;
use crate::clock::SystemClock;
use crate::error::Kind;
use crate::record::Batch;
use crate::source::{Acknowledge as _, Lost, Position, Source, TopicInfo, lost};

const TOPIC: &str = "books";
const WAIT: Duration = Duration::from_millis(50);
const DEADLINE: Duration = Duration::from_secs(30);

fn props(bootstrap: &str) -> KafkaProps {
    KafkaProps::new(bootstrap, "mirror", &BTreeMap::new()).expect("props")
}

fn cluster(partitions: i32) -> (MockBroker, KafkaProps, TopicInfo, KafkaCluster) {
    let mock = MockBroker::start().expect("mock");
    mock.create_topic(TOPIC, partitions).expect("topic");
    let props = props(mock.bootstrap());
    let cluster = KafkaCluster::connect(&props).expect("connect");
    let topic = cluster.describe(TOPIC).expect("describe");
    (mock, props, topic, cluster)
}

fn produce(props: &KafkaProps, partition: i32, values: std::ops::Range<i32>) {
    let producer = Producer::open(props).expect("producer");
    let count = values.len() as u64;
    for i in values {
        let value = format!("value {i}");
        let out = Outgoing {
            key: Some(b"k"),
            value: (i % 10 != 9).then_some(value.as_bytes()),
            headers: if i % 2 == 0 {
                &[("n", Some(b"1")), ("none", None)]
            } else {
                &[]
            },
            partition: Some(partition),
            timestamp: Some(1_700_000_000_000 + i64::from(i)),
        };
        producer.send(TOPIC, out).expect("send");
    }
    assert_eq!(producer.flush(DEADLINE).expect("flush").records, count);
}

fn open(props: &KafkaProps, positions: &[Position], limits: Limits) -> KafkaSource {
    KafkaSource::open(props, positions, limits, SystemClock::shared()).expect("open")
}

/// Reads until caught up; every batch must begin where the one before ended.
fn drain(source: &mut KafkaSource) -> Vec<Batch> {
    let mut at: BTreeMap<_, i64> = source
        .positions()
        .into_iter()
        .map(|p| (p.split, p.next))
        .collect();
    let mut batches = Vec::new();
    let deadline = Instant::now() + DEADLINE;
    while !source.caught_up() {
        assert!(Instant::now() < deadline, "not caught up: {source:?}");
        if let Some(batch) = source.next(WAIT).expect("next") {
            let range = batch.covers.range;
            let end = at.insert(batch.covers.split.clone(), range.to);
            assert_eq!(end, Some(range.from), "a hole before {:?}", batch.covers);
            batches.push(batch);
        }
    }
    batches
}

fn offsets(batches: &[Batch], partition: i32) -> Vec<i64> {
    let of = batches
        .iter()
        .filter(|b| b.covers.tp.partition == partition);
    of.flat_map(|b| b.offset.values().to_vec()).collect()
}

#[test]
fn records_come_whole_and_in_order() {
    let (_mock, props, topic, cluster) = cluster(3);
    for p in 0..3 {
        produce(&props, p, 0..500);
    }
    let positions = cluster.start(&topic, Start::Earliest).expect("start");
    let limits = Limits {
        batch_records: 64,
        ..Limits::default()
    };
    let mut source = open(&props, &positions, limits);
    let batches = drain(&mut source);
    for p in 0..3 {
        assert_eq!(offsets(&batches, p), (0..500).collect::<Vec<i64>>());
    }
    assert!(batches.iter().all(|b| b.len() <= 64));
    assert_eq!(source.lag(), Some(0));
    let first = batches
        .iter()
        .find(|b| b.covers.range.from == 0)
        .expect("first");
    use arrow_array::Array;
    assert_eq!(first.value.value(0), b"value 0");
    assert!(first.value.is_null(9), "tombstone");
    assert_eq!(first.key.value(3), b"k");
    assert_eq!(first.timestamp.value(1), 1_700_000_000_001_000);
    let headers = first.headers.as_ref().expect("headers");
    assert_eq!((headers.value(0).len(), headers.value(1).len()), (2, 0));
}

#[test]
fn a_seek_never_skips_nor_mixes() {
    let (_mock, props, topic, cluster) = cluster(2);
    for p in 0..2 {
        produce(&props, p, 0..3_000);
    }
    let start = cluster.start(&topic, Start::Earliest).expect("start");
    let limits = Limits {
        batch_records: 100,
        ..Limits::default()
    };
    let mut source = open(&props, &start, limits);
    source
        .seek(&start)
        .expect("a seek right after the assignment");
    for round in 0..20 {
        let batch = loop {
            if let Some(batch) = source.next(WAIT).expect("next") {
                break batch;
            }
        };
        // Back to somewhere in the middle of what was given, for one split only.
        let mut back = source
            .positions()
            .into_iter()
            .find(|p| p.split == batch.covers.split)
            .expect("split");
        back.next = (back.next - 37 * (round % 5)).max(0);
        source.seek(std::slice::from_ref(&back)).expect("seek");
        let after = source.positions();
        assert!(after.iter().any(|p| p == &back));
    }
    let from: Vec<i64> = source.positions().iter().map(|p| p.next).collect();
    let batches = drain(&mut source);
    for (p, from) in from.iter().enumerate() {
        assert_eq!(
            offsets(&batches, p as i32),
            (*from..3_000).collect::<Vec<i64>>()
        );
    }
}

#[test]
fn a_pause_gives_nothing_and_loses_nothing() {
    let (_mock, props, topic, cluster) = cluster(1);
    produce(&props, 0, 0..100);
    let start = cluster.start(&topic, Start::Earliest).expect("start");
    let mut source = open(&props, &start, Limits::default());
    source.pause(true).expect("pause");
    assert!(source.next(WAIT).expect("next").is_none());
    assert!(!source.caught_up());
    source.pause(false).expect("resume");
    assert_eq!(offsets(&drain(&mut source), 0).len(), 100);
}

#[test]
fn new_partitions_join_and_old_ones_keep_their_place() {
    let (_mock, props, topic, cluster) = cluster(2);
    produce(&props, 0, 0..10);
    produce(&props, 1, 0..20);
    let start = cluster.start(&topic, Start::Earliest).expect("start");
    let mut source = open(&props, &start[..1], Limits::default());
    assert_eq!(offsets(&drain(&mut source), 0).len(), 10);
    source.assign(&start[1..]).expect("assign");
    let batches = drain(&mut source);
    assert_eq!(
        (offsets(&batches, 0).len(), offsets(&batches, 1).len()),
        (0, 20)
    );
    assert_eq!(cluster.refresh(&[topic]).expect("refresh"), []);
}

#[test]
fn a_position_outside_is_named() {
    let (_mock, props, topic, cluster) = cluster(1);
    produce(&props, 0, 0..10);
    let mut start = cluster.start(&topic, Start::Earliest).expect("start");
    start[0].next = 11;
    let error = KafkaSource::open(&props, &start, Limits::default(), SystemClock::shared())
        .expect_err("above the end");
    assert_eq!(error.kind(), Kind::SourceLost);
    assert!(matches!(lost(&error), Some(Lost::AboveEnd(r)) if r[0].from == 11 && r[0].to == 10));
}

#[test]
fn a_missing_topic_and_a_missing_broker_are_told_apart() {
    let (mock, _, _, cluster) = cluster(1);
    let error = cluster.describe("no-such-topic").expect_err("missing");
    assert_eq!(error.kind(), Kind::ConfigInvalid);
    assert!(error.to_string().contains("no-such-topic"), "{error}");
    let bootstrap = mock.bootstrap().to_owned();
    drop(mock);
    let quick = BTreeMap::from([(
        "socket.connection.setup.timeout.ms".to_owned(),
        "1000".to_owned(),
    )]);
    let props = KafkaProps::new(&bootstrap, "g", &quick).expect("props");
    let error = KafkaCluster::connect(&props).expect_err("nobody there");
    assert_eq!(error.kind(), Kind::SourceUnavailable, "{error}");
}

#[test]
fn an_outage_is_told_once_and_ends_by_itself() {
    let (mock, props, topic, cluster) = cluster(1);
    produce(&props, 0, 0..10);
    let start = cluster.start(&topic, Start::Earliest).expect("start");
    let mut source = open(&props, &start, Limits::default());
    assert_eq!(offsets(&drain(&mut source), 0).len(), 10);
    mock.serve(false).expect("down");
    let deadline = Instant::now() + DEADLINE;
    let error = loop {
        assert!(Instant::now() < deadline, "no outage seen");
        match source.next(WAIT) {
            Ok(batch) => assert!(batch.is_none()),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), Kind::SourceUnavailable, "{error}");
    assert!(matches!(source.status(), Status::Down { .. }));
    for _ in 0..5 {
        assert!(source.next(WAIT).expect("told once").is_none());
    }
    mock.serve(true).expect("up");
    while *source.status() != Status::Up {
        assert!(Instant::now() < deadline, "still down");
        source.next(WAIT).expect("next");
    }
    produce(&props, 0, 10..20);
    let mut seen = Vec::new();
    while seen.len() < 10 {
        assert!(Instant::now() < deadline, "nothing after the outage");
        if let Some(batch) = source.next(WAIT).expect("next") {
            seen.push(batch);
            if offsets(&seen, 0).len() == 10 {
                break;
            }
        }
    }
    assert_eq!(offsets(&seen, 0), (10..20).collect::<Vec<i64>>());
}

#[test]
fn group_offsets_are_mirrored_and_read_back() {
    let (_mock, props, topic, _cluster) = cluster(2);
    let offsets_of = GroupOffsets::open(&props).expect("open");
    let tps: Vec<_> = topic.partitions.iter().map(|p| p.tp.clone()).collect();
    assert!(offsets_of.committed(&tps).expect("none yet").is_empty());
    let at = |next| Position {
        split: topic.partitions[1].split.clone(),
        epoch: 0,
        tp: tps[1].clone(),
        next,
    };
    offsets_of.acknowledge(&[at(5)]);
    offsets_of.acknowledge(&[at(7)]);
    assert!(offsets_of.flush(DEADLINE));
    let found = offsets_of.committed(&tps).expect("committed");
    assert_eq!(found, BTreeMap::from([(tps[1].clone(), 7)]));
}
