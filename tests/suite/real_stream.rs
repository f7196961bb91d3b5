//! Whole pipelines against Apache Kafka: changes of a topic by the broker, and the resulting log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir::clock::SystemClock;
use weir::commit::State;
use weir::config::{PipelineConfig, from_map};
use weir::connectors::CATALOG;
use weir::error::Error;
use weir::kafka::testkit::Admin;
use weir::kafka::{Outgoing, Producer};
use weir::pipeline::{Stop, run};
use weir::telemetry::metrics::partition_lags;

use crate::brokers::{Broker, kafka, until};
use crate::world::{Told, open_log};

struct Case {
    broker: &'static Broker,
    topic: String,
    dir: tempfile::TempDir,
    told: Arc<Told>,
    stop: Stop,
}

impl Case {
    fn new(name: &str, partitions: i32) -> Option<Case> {
        let broker = kafka()?;
        let topic = format!("stream-{name}");
        Admin::connect(broker.bootstrap())
            .unwrap()
            .create_topic(&topic, partitions, &[])
            .unwrap();
        let stop = Stop::new(SystemClock::shared());
        let dir = tempfile::tempdir().unwrap();
        Some(Case {
            broker,
            topic,
            dir,
            told: Arc::default(),
            stop,
        })
    }

    fn admin(&self) -> Admin {
        Admin::connect(self.broker.bootstrap()).unwrap()
    }

    fn produce(&self, partition: i32, records: u32) {
        self.send(&self.topic, partition, records);
    }

    fn send(&self, topic: &str, partition: i32, records: u32) {
        let producer = Producer::open(&self.broker.props("stream")).unwrap();
        for _ in 0..records {
            let out = Outgoing {
                value: Some(b"value"),
                partition: Some(partition),
                ..Outgoing::default()
            };
            producer.send(topic, out).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    }

    fn config(&self, more: &[(&str, &str)]) -> PipelineConfig {
        let url = format!("file:{}", self.dir.path().join("raw").display());
        let mut map = BTreeMap::from([
            ("name", "raw"),
            ("source.type", "kafka"),
            ("source.topics", self.topic.as_str()),
            ("source.start", "earliest"),
            ("source.bootstrap.servers", self.broker.bootstrap()),
            ("source.metadata.refresh", "1s"),
            ("sink.type", "zone"),
            ("sink.url", &url),
            ("sink.rotate.age", "200ms"),
            ("trigger", "available-now"),
        ]);
        map.extend(more.iter().copied());
        // An empty value takes a key out.
        map.retain(|_, value| !value.is_empty());
        from_map("test", map, &CATALOG).unwrap()
    }

    /// A run that failed has asked for an end, so each has a stop of its own below the case's.
    fn run(&self, more: &[(&str, &str)]) -> Result<(), Error> {
        let config = self.config(more);
        let stop = self.stop.child();
        let report = |_: &PipelineConfig| -> Arc<dyn weir::pipeline::Report> { self.told.clone() };
        let mut ended = run(&[config], &SystemClock::shared(), &stop, &report);
        ended.pop().unwrap().result
    }

    fn rows(&self) -> u64 {
        self.state(|state| state.totals().rows.written)
    }

    fn state<T>(&self, of: impl Fn(&State) -> T) -> T {
        of(open_log(&self.dir.path().join("raw"), "raw", "raw")
            .unwrap()
            .unwrap()
            .state())
    }
}

#[test]
fn offsets_that_aged_out_stop_the_pipeline_or_are_a_gap_on_the_record() {
    let Some(case) = Case::new("aged", 1) else {
        return;
    };
    case.produce(0, 10);
    case.run(&[]).unwrap();
    case.produce(0, 10);
    case.admin().delete_records(&case.topic, 0, 15).unwrap();
    let error = case.run(&[]).unwrap_err();
    assert!(error.to_string().contains("10..15"), "{error}");
    assert_eq!(case.rows(), 10);
    case.run(&[("source.on.data.loss", "gap")]).unwrap();
    assert_eq!(case.rows(), 15);
    let lost: u64 = case.state(|state| state.splits.values().map(|c| c.lost).sum());
    assert_eq!(lost, 5);
}

/// Of the topics that a pattern finds.
#[test]
fn a_deleted_topic_of_a_pattern_stops_the_pipeline_once_or_is_left_behind() {
    let Some(case) = Case::new("pattern", 1) else {
        return;
    };
    let (first, second) = (case.topic.clone(), format!("{}-b", case.topic));
    case.admin().create_topic(&second, 1, &[]).unwrap();
    let keys = [
        ("source.topics", ""),
        ("source.subscribe.pattern", "stream-pattern(-b)?"),
        ("trigger", "continuous"),
    ];
    case.send(&first, 0, 10);
    let gap = [&keys[..], &[("source.on.data.loss", "gap")]].concat();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| case.run(&gap));
        until("the first topic's rows", || {
            (open_log(&case.dir.path().join("raw"), "raw", "raw")
                .unwrap()?
                .state()
                .totals()
                .rows
                .written
                == 10)
                .then_some(())
        });
        case.admin().delete_topic(&first).unwrap();
        until("another beginning", || {
            (case.told.count("started") >= 2).then_some(())
        });
        case.send(&second, 0, 5);
        until("the other topic's rows", || {
            (case.rows() == 15).then_some(())
        });
        case.stop.ask(Duration::from_secs(20));
        running.join().unwrap().unwrap();
    });
    let case = Case {
        stop: Stop::new(SystemClock::shared()),
        told: Arc::default(),
        ..case
    };
    std::thread::scope(|scope| {
        let running = scope.spawn(|| case.run(&keys));
        until("a start", || case.told.has("started").then_some(()));
        case.admin().delete_topic(&second).unwrap();
        let error = running.join().unwrap().unwrap_err();
        assert!(error.to_string().contains(&second), "{error}");
    });
    // Nothing matches now; that is no fault.
    case.run(&[&keys[..2], &[("trigger", "available-now")]].concat())
        .unwrap();
    assert_eq!(case.rows(), 15);
}

#[test]
fn a_recreated_topic_stops_the_pipeline_or_is_read_as_a_new_one() {
    let Some(case) = Case::new("recreated", 1) else {
        return;
    };
    case.produce(0, 10);
    case.run(&[]).unwrap();
    case.admin().delete_topic(&case.topic).unwrap();
    until("the name to be free again", || {
        case.admin().create_topic(&case.topic, 1, &[]).ok()
    });
    case.produce(0, 20);
    let error = case.run(&[]).unwrap_err();
    assert!(error.to_string().contains("created again"), "{error}");
    case.run(&[("source.on.topic.recreated", "continue")])
        .unwrap();
    assert_eq!(case.rows(), 30);
    assert_eq!(case.state(|state| state.splits.len()), 2);
    // The old one is not read any more: it is not behind, whatever the new one holds.
    let lags = case.state(|state| {
        let new = state.splits.iter().filter(|(_, split)| split.to == 20);
        let ends = new.map(|(id, split)| (id.clone(), split.to)).collect();
        partition_lags(state, &ends)
    });
    let lags: Vec<u64> = lags.iter().map(|part| part.lag).collect();
    assert_eq!(lags, [0]);
}

#[test]
fn new_partitions_are_read_while_the_pipeline_runs() {
    let Some(case) = Case::new("grown", 1) else {
        return;
    };
    case.produce(0, 10);
    std::thread::scope(|scope| {
        let running =
            scope.spawn(|| case.run(&[("trigger", "continuous"), ("source.start", "latest")]));
        until("the start", || case.told.has("started").then_some(()));
        case.produce(0, 1);
        until("a commit", || case.told.has("committed").then_some(()));
        case.admin().add_partitions(&case.topic, 3).unwrap();
        case.produce(2, 7);
        until("rows of the new partition", || {
            (case.rows() == 8).then_some(())
        });
        case.stop.ask(Duration::from_secs(20));
        running.join().unwrap().unwrap();
    });
    assert_eq!(case.state(|state| state.splits.len()), 3);
}

/// W1: the start is in the log before the first record is read, so a crash before the first commit skips nothing.
#[test]
fn latest_is_pinned_at_the_first_start() {
    let Some(case) = Case::new("latest", 2) else {
        return;
    };
    case.produce(0, 5);
    let latest = [("source.start", "latest")];
    case.run(&latest).unwrap();
    case.produce(0, 3);
    case.run(&latest).unwrap();
    assert_eq!(case.rows(), 3);
}

#[test]
fn with_tolerance_none_the_first_refused_record_stops_the_pipeline() {
    let Some(case) = Case::new("strict", 1) else {
        return;
    };
    case.produce(0, 1);
    let plugins = crate::world::plugins_dir().display().to_string();
    let error = case.run(&[
        ("plugin.path", plugins.as_str()),
        ("transforms", "flatten"),
        ("transforms.flatten.type", "xml-flatten"),
        ("transforms.flatten.row-tag", "book"),
        ("transforms.flatten.columns", "title"),
        ("errors.tolerance", "none"),
    ]);
    let error = error.unwrap_err();
    assert_eq!(error.kind().code(), "record_refused");
    assert!(error.to_string().contains("malformed_xml"), "{error}");
    assert_eq!(case.rows(), 0);
}
