//! `sink.type = "kafka"` against Apache Kafka: what a record is, and what becomes of rows that can be none.

use std::process::Output;

use serde_json::{Value, json};
use weir::commit::State;
use weir::kafka::testkit::Admin;

use crate::brokers::{self, until};
use crate::kafka_sink_rig::{KEPT, RULES, Record, Rig, id_of, message};

#[test]
fn formats_keys_headers_topics_and_partitions_are_what_the_config_says() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let rig = Rig::new(broker, "layout", 3);
    rig.create("ks-layout-other", 1);
    let rows = [
        json!({ "id": 1, "name": "a \"b\", c", "to": "ks-layout-other", "at": 2 }),
        json!({ "id": 2, "name": null, "to": null, "at": 1 }),
    ];
    rig.produce(rows.iter().map(Value::to_string));
    let rules = "[[transforms]]\nname = \"flatten\"\ntype = \"json-flatten\"\ncolumns = [\"id\", \"name\", \"to\", \"at\"]\n\
                 types.id = \"long\"\ntypes.at = \"long\"\n";
    let values = |records: &[Record]| -> Vec<String> {
        let mut values: Vec<String> = records.iter().filter_map(|r| r.value.clone()).collect();
        values.sort();
        values
    };
    for (name, keys, expected) in [
        (
            "json",
            "sink.value.columns = [\"name\", \"id\"]\n",
            [r#"{"name":"a \"b\", c","id":1}"#, r#"{"name":null,"id":2}"#],
        ),
        (
            "csv",
            "sink.value.columns = [\"id\", \"name\"]\nsink.csv.delimiter = \";\"\n",
            ["1;\"a \"\"b\"\", c\"", "2;"],
        ),
        (
            "xml",
            "sink.value.columns = [\"id\", \"name\"]\nsink.xml.root = \"book\"\n",
            [
                "<book><id>1</id><name>a \"b\", c</name></book>",
                "<book><id>2</id></book>",
            ],
        ),
    ] {
        let topic = format!("{}-{name}", rig.output);
        rig.create(&topic, 3);
        let sink =
            format!("sink.topic.name = \"{topic}\"\nsink.value.format = \"{name}\"\n{keys}{rules}");
        rig.ran(&rig.declare(name, &sink));
        assert_eq!(values(&rig.read(&topic, 2)), expected, "{name}");
    }
    // The record as it was read: no transform, its own partition, key, headers and time.
    let plain = "sink.value.format = \"string\"\nsink.key.column = \"key\"\nsink.headers.of.record = true\n\
                 sink.partitioner = \"source\"\n";
    rig.ran(&rig.declare("plain", plain));
    assert_eq!(rig.read(&rig.output, 2), rig.read(&rig.input, 2));
    // Topic, key, headers and partition from columns.
    let columns = "sink.topic.column = \"to\"\nsink.key.column = \"id\"\nsink.headers.columns = [\"name\"]\n\
                   sink.value.columns = [\"id\"]\nsink.timestamp = \"now\"\n";
    let topic = format!("{}-columns", rig.output);
    rig.create(&topic, 3);
    let sink = format!("sink.topic.name = \"{topic}\"\n{columns}{rules}");
    rig.ran(&rig.declare("columns", &sink));
    let (own, other) = (rig.read(&topic, 1), rig.read("ks-layout-other", 1));
    assert_eq!((own.len(), other.len()), (1, 1));
    assert_eq!(other[0].key.as_deref(), Some("1"));
    assert_eq!(
        other[0].headers,
        [("name".to_owned(), Some("a \"b\", c".to_owned()))]
    );
    assert_eq!(own[0].headers, [("name".to_owned(), None)]);
    assert!(own[0].timestamp > 1_700_000_000_123);
    let by_column = format!(
        "sink.topic.name = \"{topic}\"\nsink.partitioner = \"column\"\nsink.partition.column = \"at\"\nsink.value.columns = [\"id\"]\n{rules}"
    );
    rig.ran(&rig.declare("partitions", &by_column));
    let at: Vec<(i32, String)> = rig.read(&topic, 3)[..]
        .iter()
        .filter(|record| record.headers.is_empty())
        .map(|record| (record.partition, record.value.clone().unwrap()))
        .collect();
    assert_eq!(
        at,
        [(1, r#"{"id":2}"#.to_owned()), (2, r#"{"id":1}"#.to_owned())]
    );
}

#[test]
fn rows_that_no_topic_takes_are_dead_letters_and_a_topic_that_is_not_there_is_named() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let rig = Rig::new(broker, "refused", 1);
    let long = "x".repeat(1_100_000);
    rig.create_with("ks-refused-small", &[("max.message.bytes", "20000")]);
    let rows = [
        json!({ "id": 1, "name": long, "to": null, "at": 0 }),
        json!({ "id": 2, "name": "fine", "to": null, "at": 0 }),
        json!({ "id": 3, "name": "nowhere", "to": "no such", "at": 0 }),
        json!({ "id": 4, "name": "nowhere", "to": "ks-refused-none", "at": 0 }),
        json!({ "id": 5, "name": "y".repeat(18_000), "to": null, "at": 7 }),
    ];
    // The topic that is read takes larger records than the client sends by default.
    rig.produce(rows[1..].iter().map(Value::to_string));
    let rules = "[[transforms]]\nname = \"flatten\"\ntype = \"json-flatten\"\ncolumns = [\"id\", \"name\", \"to\", \"at\"]\n\
                 types.id = \"long\"\ntypes.at = \"long\"\n";
    let sink = format!("sink.topic.column = \"to\"\nsink.record.max.bytes = \"10KB\"\n{rules}");
    rig.ran(&rig.declare("letters", &sink));
    let letter = |code: &str, field: Option<&str>| (code.to_owned(), field.map(str::to_owned));
    assert_eq!(
        rig.letters("letters"),
        [
            letter("no_such_topic", Some("to")),
            letter("no_such_topic", Some("to")),
            letter("record_too_large", None),
        ]
    );
    assert_eq!(rig.read(&rig.output, 1).len(), 1);
    let totals = rig.state("letters", State::totals);
    assert_eq!((totals.rows.written, totals.rows.refused), (1, 3));
    assert_eq!((totals.records.with_rows, totals.records.refused), (1, 3));
    // The broker tells what the topic takes.
    let sink = format!("sink.topic.name = \"ks-refused-small\"\n{rules}");
    rig.ran(&rig.declare("small", &sink));
    assert_eq!(rig.letters("small"), [letter("record_too_large", None)]);
    let sink = format!("sink.partitioner = \"column\"\nsink.partition.column = \"at\"\n{rules}");
    rig.ran(&rig.declare("partition", &sink));
    assert_eq!(
        rig.letters("partition"),
        [letter("no_such_partition", Some("at"))]
    );
    // Without dead letters the first of them stops the pipeline.
    let none = format!("sink.topic.column = \"to\"\n{rules}");
    let file = rig.declare("none", &none);
    let output = rig
        .weir(&[
            "run",
            &file,
            "--available-now",
            "--set",
            "errors.tolerance=none",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("record_refused") && said.contains("no_such_topic"),
        "{said}"
    );
    // The topic of the config is not there.
    let file = rig.declare(
        "absent",
        "sink.topic.name = \"ks-refused-absent\"\nsink.value.format = \"string\"\n",
    );
    let output = rig.run(&file);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for word in ["config_invalid", "ks-refused-absent", "sink.topic.name"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

/// What goes back is sent again, and a command says so before.
#[test]
fn a_rewind_sends_again() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let rig = Rig::new(broker, "again", 1);
    rig.produce((0..10).map(message));
    let file = rig.declare("again", RULES);
    rig.ran(&file);
    let rewound = rig
        .weir(&["pipeline", "rewind", &file, "--all=start"])
        .output()
        .unwrap();
    let said = String::from_utf8(rewound.stderr).unwrap();
    assert!(rewound.status.success(), "{said}");
    assert!(said.contains("cannot be taken back"), "{said}");
    rig.produce((10..15).map(message));
    rig.ran(&file);
    let ids: Vec<u64> = rig.read(&rig.output, 25).iter().map(id_of).collect();
    let expected: Vec<u64> = (0..10).chain(0..15).collect();
    assert_eq!(ids, expected);
}

const BY_COLUMN: &str = "sink.topic.column = \"to\"\nsink.key.column = \"key\"\n[[transforms]]\nname = \"flatten\"\n\
                         type = \"json-flatten\"\ncolumns = [\"id\", \"name\", \"to\", \"key\"]\ntypes.id = \"long\"\n";

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Each of these would be refused after the entry, for good.
#[test]
fn what_a_topic_never_takes_is_a_dead_letter_before_the_commit() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let rig = Rig::new(broker, "never", 1);
    rig.create_with("ks-never-compact", &[("cleanup.policy", "compact")]);
    rig.create_with("ks-never-small", &[("max.message.bytes", "20000")]);
    rig.create_with(
        "ks-never-young",
        &[("message.timestamp.before.max.ms", "60000")],
    );
    let row = |id: u64, to: &str, key: Option<&str>, name: &str| {
        json!({ "id": id, "name": name, "to": to, "key": key }).to_string()
    };
    let long = "x".repeat(30_000);
    let refused = [
        row(1, "ks-never-compact", None, "no key"),
        row(2, "__consumer_offsets", Some("k"), "of the cluster"),
        row(3, "ks-never-small", Some("k"), &long),
        row(4, "ks-never-young", Some("k"), "years old"),
    ];
    rig.produce(refused.into_iter());
    rig.produce([row(5, "ks-never-compact", Some("k"), "with key")].into_iter());
    // Together they are more than a batch of that topic may have.
    let many = (100..400).map(|id| row(id, "ks-never-small", Some("k"), &"y".repeat(300)));
    rig.produce(many);
    rig.ran(&rig.declare("never", BY_COLUMN));
    let letter = |code: &str, field: Option<&str>| (code.to_owned(), field.map(str::to_owned));
    assert_eq!(
        rig.letters("never"),
        [
            letter("key_required", Some("key")),
            letter("record_too_large", None),
            letter("timestamp_not_taken", None),
            letter("topic_not_allowed", Some("to")),
        ]
    );
    assert_eq!(rig.read("ks-never-compact", 1).len(), 1);
    assert_eq!(rig.read("ks-never-small", 300).len(), 300);
    assert!(rig.read_now("ks-never-young").is_empty());
    // Where every row would be one, the start says so.
    let sink = format!("sink.topic.name = \"ks-never-compact\"\n{RULES}");
    let output = rig.run(&rig.declare("keyless", &sink));
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    for word in ["config_invalid", "ks-never-compact", "sink.key.column"] {
        assert!(said(&output).contains(word), "{word}: {}", said(&output));
    }
}

/// The topic was asked, and changed after that.
#[test]
fn a_record_that_is_refused_after_its_entry_stops_with_topic_and_reason_and_goes_later() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let rig = Rig::new(broker, "changed", 1);
    // Records of one time: a compacted topic takes nothing out of the segment that is written.
    let file = rig.declare("changed", &format!("sink.timestamp = \"now\"\n{RULES}"));
    let mut running = rig.spawn(&file);
    rig.produce([message(0)].into_iter());
    assert_eq!(rig.read(&rig.output, 1).len(), 1);
    let admin = Admin::connect(&rig.bootstrap).unwrap();
    let compacted = [KEPT, ("cleanup.policy", "compact")];
    admin.configure_topic(&rig.output, &compacted).unwrap();
    rig.produce([message(1)].into_iter());
    let status = until("the end", || running.try_wait().unwrap());
    assert_eq!(status.code(), Some(1), "{}", rig.said());
    for word in ["sink_refused", &rig.output, "cleanup.policy"] {
        assert!(rig.said().contains(word), "{word}: {}", rig.said());
    }
    assert_eq!(rig.packets("changed").len(), 1);
    admin.configure_topic(&rig.output, &[KEPT]).unwrap();
    rig.ran(&file);
    rig.settled("changed", 2);
}
