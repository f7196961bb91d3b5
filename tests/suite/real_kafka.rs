//! Tests against Apache Kafka that the mock cluster does not allow.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use weir::clock::SystemClock;
use weir::config::{Source as Configured, from_map};
use weir::connectors::CATALOG;
use weir::error::Kind;
use weir::kafka::testkit::{Admin, Transactions};
use weir::kafka::{
    GroupOffsets, KafkaCluster, KafkaProps, KafkaSource, Limits, Outgoing, Producer, Start, Status,
};
use weir::record::{Batch, SplitId};
use weir::source::{Acknowledge as _, Change, Lost, Position, Source, TopicInfo, lost};

use crate::brokers::{self, Broker, DEADLINE, until};

const WAIT: Duration = Duration::from_millis(50);

/// A topic of its own for each test.
struct Case {
    broker: &'static Broker,
    admin: Admin,
    cluster: KafkaCluster,
    props: KafkaProps,
    topic: String,
}

impl Case {
    fn new(partitions: i32, config: &[(&str, &str)]) -> Option<Case> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let broker = brokers::kafka()?;
        let topic = format!("books-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let admin = Admin::connect(broker.bootstrap()).expect("admin");
        admin
            .create_topic(&topic, partitions, config)
            .expect("topic");
        let props = broker.props(&topic);
        let cluster = broker.cluster();
        let case = Case {
            broker,
            admin,
            cluster,
            props,
            topic,
        };
        case.topic_with(partitions);
        Some(case)
    }

    /// Metadata takes a moment to say what was done.
    fn topic_with(&self, partitions: i32) -> TopicInfo {
        until("the topic's partitions", || {
            let topic = self.cluster.describe(&self.topic).ok()?;
            (topic.partitions.len() == partitions as usize).then_some(topic)
        })
    }

    fn topic(&self) -> TopicInfo {
        self.cluster.describe(&self.topic).expect("describe")
    }

    fn produce(&self, partition: i32, values: std::ops::Range<u64>) {
        produce(&self.props, &self.topic, partition, values);
    }

    fn start(&self, start: Start) -> Vec<Position> {
        self.cluster.start(&self.topic(), start).expect("start")
    }

    fn open(&self, positions: &[Position]) -> KafkaSource {
        let limits = Limits {
            batch_records: 100,
            ..Limits::default()
        };
        KafkaSource::open(&self.props, positions, limits, SystemClock::shared()).expect("open")
    }
}

fn produce(props: &KafkaProps, topic: &str, partition: i32, values: std::ops::Range<u64>) {
    let producer = Producer::open(props).expect("producer");
    let count = values.end - values.start;
    for i in values {
        let value = format!("value {i}");
        let out = Outgoing {
            value: Some(value.as_bytes()),
            partition: Some(partition),
            ..Outgoing::default()
        };
        producer.send(topic, out).expect("send");
    }
    assert_eq!(producer.flush(DEADLINE).expect("flush").records, count);
}

/// Batches, with the proof that each begins where the one before of its chain ended.
struct Reader {
    source: KafkaSource,
    ends: BTreeMap<SplitId, i64>,
    batches: Vec<Batch>,
}

impl Reader {
    fn new(source: KafkaSource) -> Reader {
        let ends = source
            .positions()
            .into_iter()
            .map(|p| (p.split, p.next))
            .collect();
        Reader {
            source,
            ends,
            batches: Vec::new(),
        }
    }

    fn step(&mut self) -> weir::error::Result<()> {
        if let Some(batch) = self.source.next(WAIT)? {
            let range = batch.covers.range;
            let end = self.ends.insert(batch.covers.split.clone(), range.to);
            assert_eq!(end, Some(range.from), "a hole before {:?}", batch.covers);
            let inside = |o: &i64| range.from <= *o && *o < range.to;
            assert!(batch.offset.values().iter().all(inside));
            self.batches.push(batch);
        }
        Ok(())
    }

    fn read_until(&mut self, what: &str, done: impl Fn(&Reader) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !done(self) {
            assert!(
                Instant::now() < deadline,
                "in vain: {what}: {:?}",
                self.source
            );
            self.step().expect("next");
        }
    }

    fn drain(mut self) -> Reader {
        self.read_until("the end", |r| r.source.caught_up());
        self
    }

    fn values(&self, partition: i32) -> Vec<String> {
        let of = self
            .batches
            .iter()
            .filter(|b| b.covers.tp.partition == partition);
        let text =
            |v: Option<&[u8]>| String::from_utf8(v.unwrap_or_default().to_vec()).expect("utf-8");
        of.flat_map(|b| b.value.iter().map(text).collect::<Vec<_>>())
            .collect()
    }
}

fn values(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|i| format!("value {i}")).collect()
}

#[test]
fn every_record_of_every_partition_once() {
    let Some(case) = Case::new(4, &[]) else {
        return;
    };
    for p in 0..4 {
        case.produce(p, 0..1_000 + u64::from(p as u32));
    }
    let topic = case.topic();
    assert_eq!(topic.id.len(), 22, "a topic id: {}", topic.id);
    assert!(
        topic.partitions[0]
            .split
            .as_str()
            .starts_with("kafka/d2Vpci10ZXN0LWNsdXN0ZQ/")
    );
    let ends: Vec<_> = topic.partitions.iter().map(|p| (p.low, p.high)).collect();
    assert_eq!(ends, [(0, 1_000), (0, 1_001), (0, 1_002), (0, 1_003)]);
    let reader = Reader::new(case.open(&case.start(Start::Earliest))).drain();
    for p in 0..4 {
        assert_eq!(reader.values(p), values(0..1_000 + u64::from(p as u32)));
    }
    assert_eq!(reader.source.lag(), Some(0));
}

#[test]
fn a_seek_goes_exactly_there() {
    let Some(case) = Case::new(1, &[]) else {
        return;
    };
    case.produce(0, 0..2_000);
    let start = case.start(Start::Earliest);
    let mut reader = Reader::new(case.open(&start));
    for back in [0, 1, 150, 42, 700] {
        let mut to = start[0].clone();
        let given = reader.source.positions()[0].next;
        to.next = (given - back).max(0);
        reader.source.seek(std::slice::from_ref(&to)).expect("seek");
        reader = Reader {
            ends: BTreeMap::from([(to.split, to.next)]),
            ..reader
        };
        reader.batches.clear();
        let first = format!("value {}", to.next);
        reader.read_until("some batches", |r| r.batches.len() >= 4);
        assert_eq!(reader.values(0).first(), Some(&first));
    }
    let last = reader.drain().values(0).last().cloned();
    assert_eq!(last.as_deref(), Some("value 1999"));
}

#[test]
fn aborted_records_are_passed_over_and_covered() {
    let Some(case) = Case::new(1, &[]) else {
        return;
    };
    let tx = Transactions::open(case.broker.bootstrap(), &case.topic).expect("transactions");
    let send = |values: &[String], commit| tx.send(&case.topic, 0, values, commit).expect("send");
    send(&values(0..5), Some(true)); // 0..5, marker 5
    send(&values(100..110), Some(false)); // 6..16, marker 16
    send(&values(5..8), Some(true)); // 17..20, marker 20
    send(&values(200..203), Some(false)); // 21..24, marker 24
    let reader = Reader::new(case.open(&case.start(Start::Earliest))).drain();
    assert_eq!(reader.values(0), values(0..8));
    assert_eq!(
        reader.source.positions()[0].next,
        25,
        "the last marker is covered too"
    );

    // What is not decided is not read; the end is the last stable offset.
    send(&values(8..10), None);
    assert_eq!(case.topic().partitions[0].high, 25);
    let at = reader.source.positions();
    let mut reader = Reader::new(case.open(&at)).drain();
    assert!(reader.values(0).is_empty());
    tx.end(true).expect("commit");
    reader.read_until("the committed records", |r| r.values(0).len() == 2);
    assert_eq!(reader.values(0), values(8..10));
}

#[test]
fn compacted_offsets_are_covered() {
    let config = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1048576"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.0"),
        ("max.compaction.lag.ms", "1"),
    ];
    let Some(case) = Case::new(1, &config) else {
        return;
    };
    let producer = Producer::open(&case.props).expect("producer");
    let send = |key: &str, value: &str| {
        let out = Outgoing {
            key: Some(key.as_bytes()),
            value: Some(value.as_bytes()),
            ..Outgoing::default()
        };
        producer.send(&case.topic, out).expect("send");
        producer.flush(DEADLINE).expect("flush");
    };
    for i in 0..20 {
        send("same", &format!("value {i}"));
    }
    // The active segment is never cleaned: roll it until the old records are gone.
    let mut rolls = 0;
    let reader = until("a compacted topic", || {
        rolls += 1;
        send(&format!("roll {rolls}"), "x");
        let reader = Reader::new(case.open(&case.start(Start::Earliest))).drain();
        (reader.values(0).len() < 15 + rolls).then_some(reader)
    });
    let high = case.topic().partitions[0].high;
    assert_eq!(reader.source.positions()[0].next, high);
    assert_eq!(reader.values(0).last().map(String::as_str), Some("x"));
}

#[test]
fn aged_out_offsets_are_named_before_and_while_reading() {
    let Some(case) = Case::new(2, &[]) else {
        return;
    };
    case.produce(0, 0..50);
    let start = case.start(Start::Earliest);
    case.admin
        .delete_records(&case.topic, 0, 20)
        .expect("delete");
    let error = KafkaSource::open(
        &case.props,
        &start,
        Limits::default(),
        SystemClock::shared(),
    )
    .expect_err("aged out");
    assert_eq!(error.kind(), Kind::SourceLost);
    let Some(Lost::AgedOut(ranges)) = lost(&error) else {
        panic!("{error:?}")
    };
    assert_eq!((ranges[0].from, ranges[0].to), (0, 20));
    assert_eq!(ranges[0].split, start[0].split);

    // While it reads: paused at 20, then 30 are deleted under it.
    let mut at = start.clone();
    at[0].next = 20;
    let mut reader = Reader::new(case.open(&at)).drain();
    assert_eq!(reader.values(0), values(20..50));
    case.produce(0, 50..60);
    case.admin
        .delete_records(&case.topic, 0, 60)
        .expect("delete");
    at[0].next = 30;
    reader.source.seek(&at[..1]).expect("seek");
    let deadline = Instant::now() + DEADLINE;
    let error = loop {
        assert!(Instant::now() < deadline, "no loss seen");
        match reader.source.next(WAIT) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let Some(Lost::AgedOut(ranges)) = lost(&error) else {
        panic!("{error:?}")
    };
    assert_eq!((ranges[0].from, ranges[0].to), (30, 60));
    assert!(reader.source.next(WAIT).is_err(), "it stays lost");
    // After a gap entry the pipeline goes on from the low end.
    case.produce(0, 60..65);
    at[0].next = 60;
    reader.source.seek(&at[..1]).expect("seek");
    let mut reader = Reader::new(reader.source);
    reader.read_until("what came after the gap", |r| r.values(0).len() == 5);
    assert_eq!(reader.values(0), values(60..65));
}

/// Also when the topic was deleted between the start's description of it and the first read, and when nobody else looks.
#[test]
fn a_deleted_topic_is_named_before_and_while_reading() {
    let Some(case) = Case::new(2, &[]) else {
        return;
    };
    // librdkafka believes in a topic for half a minute after it was seen last.
    let soon = [
        ("topic.metadata.propagation.max.ms", "100"),
        ("topic.metadata.refresh.interval.ms", "200"),
    ];
    let soon = soon.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let props = KafkaProps::new(case.broker.bootstrap(), "gone", &BTreeMap::from(soon));
    let props = props.expect("props");
    case.produce(0, 0..10);
    let start = case.start(Start::Earliest);
    let open = || KafkaSource::open(&props, &start, Limits::default(), SystemClock::shared());
    let mut reader = Reader::new(open().expect("open")).drain();
    assert_eq!(reader.values(0), values(0..10));
    case.admin.delete_topic(&case.topic).expect("delete");
    let deadline = Instant::now() + DEADLINE;
    let while_reading = loop {
        assert!(Instant::now() < deadline, "nothing said of the topic");
        if let Err(error) = reader.source.next(WAIT) {
            break error;
        }
    };
    let before = open().expect_err("opened a topic that is gone");
    for error in [while_reading, before] {
        assert_eq!(error.kind(), Kind::SourceLost, "{error}");
        assert_eq!(lost(&error), Some(&Lost::TopicGone(case.topic.clone())));
        assert!(error.to_string().contains(&case.topic), "{error}");
    }
}

#[test]
fn a_recreated_topic_is_noticed_by_its_id() {
    let Some(case) = Case::new(1, &[]) else {
        return;
    };
    case.produce(0, 0..10);
    let was = case.topic();
    assert_eq!(
        case.cluster
            .refresh(std::slice::from_ref(&was))
            .expect("refresh"),
        []
    );
    case.admin.delete_topic(&case.topic).expect("delete");
    until("the topic to be gone", || {
        let changes = case.cluster.refresh(std::slice::from_ref(&was)).ok()?;
        matches!(changes.as_slice(), [Change::Gone { .. }]).then_some(())
    });
    case.admin
        .create_topic(&case.topic, 1, &[])
        .expect("create");
    let now = until("the topic to be back", || {
        match case
            .cluster
            .refresh(std::slice::from_ref(&was))
            .ok()?
            .pop()?
        {
            Change::Recreated { was: id, now } => Some((id, now)),
            _ => None,
        }
    });
    assert_eq!(now.0, was.id);
    assert_ne!(now.1.id, was.id);
    assert_ne!(now.1.partitions[0].split, was.partitions[0].split);
}

#[test]
fn new_partitions_are_picked_up() {
    let Some(case) = Case::new(1, &[]) else {
        return;
    };
    case.produce(0, 0..10);
    let known = case.topic();
    let mut reader = Reader::new(case.open(&case.start(Start::Latest))).drain();
    assert!(reader.batches.is_empty());
    case.admin.add_partitions(&case.topic, 3).expect("add");
    let new = until("new partitions", || {
        match case
            .cluster
            .refresh(std::slice::from_ref(&known))
            .ok()?
            .pop()?
        {
            Change::NewPartitions(new) => Some(new),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(
        new.iter().map(|p| p.tp.partition).collect::<Vec<_>>(),
        [1, 2]
    );
    until("leaders of the new partitions", || {
        let producer = Producer::open(&case.props).ok()?;
        let out = Outgoing {
            value: Some(b"value 0"),
            partition: Some(2),
            ..Outgoing::default()
        };
        producer.send(&case.topic, out).ok()?;
        producer.flush(DEADLINE).ok()
    });
    case.produce(0, 10..15);
    let positions: Vec<Position> = new
        .iter()
        .map(|p| Position {
            split: p.split.clone(),
            epoch: 0,
            tp: p.tp.clone(),
            next: p.low,
        })
        .collect();
    reader.source.assign(&positions).expect("assign");
    reader
        .ends
        .extend(positions.iter().map(|p| (p.split.clone(), p.next)));
    reader.read_until("old and new", |r| {
        r.values(0).len() == 5 && r.values(2).len() == 1
    });
    assert_eq!(reader.values(0), values(10..15));
}

#[test]
fn a_start_by_time_is_the_first_record_at_or_after_it() {
    let Some(case) = Case::new(2, &[("retention.ms", "-1")]) else {
        return;
    };
    let producer = Producer::open(&case.props).expect("producer");
    for (i, time) in [1_000, 2_000, 3_000].into_iter().enumerate() {
        let value = format!("value {i}");
        let out = Outgoing {
            value: Some(value.as_bytes()),
            partition: Some(0),
            timestamp: Some(1_700_000_000_000 + time),
            ..Outgoing::default()
        };
        producer.send(&case.topic, out).expect("send");
    }
    producer.flush(DEADLINE).expect("flush");
    let next = |start| case.start(start).iter().map(|p| p.next).collect::<Vec<_>>();
    assert_eq!(next(Start::Timestamp(1_700_000_001_500)), [1, 0]);
    assert_eq!(next(Start::Timestamp(1_700_000_009_000)), [3, 0]);
    assert_eq!(next(Start::Timestamp(0)), [0, 0]);
    assert_eq!(
        (next(Start::Earliest), next(Start::Latest)),
        (vec![0, 0], vec![3, 0])
    );
}

/// Where `source.start` says, by the connector of a config.
fn asked(case: &Case, start: &str) -> Vec<i64> {
    let map = BTreeMap::from([
        ("name", "raw"),
        ("source.type", "kafka"),
        ("source.topics", &case.topic),
        ("source.start", start),
        ("source.bootstrap.servers", case.broker.bootstrap()),
        ("sink.type", "zone"),
        ("sink.url", "memory:starts"),
    ]);
    let config = from_map("test", map, &CATALOG).expect("a config");
    let Configured::Records(source) = &config.source else {
        panic!("a source of records");
    };
    let connector = source.connect(&SystemClock::shared()).expect("connected");
    let starts = connector.starts(&case.topic()).expect("starts");
    starts.iter().map(|p| p.next).collect()
}

#[test]
fn each_partition_begins_at_its_own_time() {
    let Some(case) = Case::new(4, &[("retention.ms", "-1")]) else {
        return;
    };
    let producer = Producer::open(&case.props).expect("producer");
    for partition in 0..4 {
        for time in [1_000, 2_000, 3_000] {
            let out = Outgoing {
                value: Some(b"x"),
                partition: Some(partition),
                timestamp: Some(1_700_000_000_000 + time),
                ..Outgoing::default()
            };
            producer.send(&case.topic, out).expect("send");
        }
    }
    producer.flush(DEADLINE).expect("flush");
    let topic = &case.topic;
    // Spark's startingOffsetsByTimestamp.
    let json = format!(
        r#"timestamp:{{"{topic}":{{"3":1700000002500,"0":1700000001000,"1":1700000001500,"2":1700000009000}}}}"#
    );
    assert_eq!(asked(&case, &json), [0, 1, 3, 2]);
    let list = format!(
        "offsets:{topic}/0=earliest,{topic}/1=timestamp:2023-11-14T22:13:23Z,{topic}/2=1,{topic}/3=timestamp:2023-11-14T23:13:22+01:00"
    );
    assert_eq!(asked(&case, &list), [0, 2, 1, 1]);
}

#[test]
fn mirrored_offsets_are_the_groups() {
    let Some(case) = Case::new(2, &[]) else {
        return;
    };
    case.produce(1, 0..10);
    let reader = Reader::new(case.open(&case.start(Start::Earliest))).drain();
    let group = GroupOffsets::open(&case.props).expect("open");
    group.acknowledge(&reader.source.positions());
    assert!(group.flush(DEADLINE), "mirrored");
    // Another client of the same group sees them.
    let other = GroupOffsets::open(&case.props).expect("open");
    let tps: Vec<_> = case
        .topic()
        .partitions
        .iter()
        .map(|p| p.tp.clone())
        .collect();
    let found = other.committed(&tps).expect("committed");
    assert_eq!(found.get(&tps[1]), Some(&10));
}

#[test]
fn a_killed_broker_is_waited_for() {
    let Some(mut broker) = brokers::own_kafka() else {
        return;
    };
    let props = broker.props("killed");
    Admin::connect(broker.bootstrap())
        .expect("admin")
        .create_topic("t", 1, &[])
        .expect("topic");
    let topic = until("the topic", || broker.cluster().describe("t").ok());
    produce(&props, "t", 0, 0..100);
    let start = broker
        .cluster()
        .start(&topic, Start::Earliest)
        .expect("start");
    let clock = SystemClock::shared();
    let source = KafkaSource::open(&props, &start, Limits::default(), Arc::clone(&clock));
    let mut reader = Reader::new(source.expect("open")).drain();
    broker.kill();
    let deadline = Instant::now() + DEADLINE;
    let error = loop {
        assert!(Instant::now() < deadline, "no outage seen");
        if let Err(error) = reader.step() {
            break error;
        }
    };
    assert_eq!(error.kind(), Kind::SourceUnavailable, "{error}");
    assert!(matches!(reader.source.status(), Status::Down { .. }));
    broker.start();
    produce(&props, "t", 0, 100..200);
    reader.read_until("the rest", |r| r.values(0).len() == 200);
    assert_eq!(reader.values(0), values(0..200));
    assert_eq!(*reader.source.status(), Status::Up);
}
