//! `errors.deadletterqueue.topic.name` against Apache Kafka: committed dead letters in a topic, whatever the sink is and whoever
//! dies.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use weir::clock::SystemClock;

use crate::brokers;
use crate::kafka_sink_rig::{RULES, Record, Rig, THEN, kill, message};
use crate::world::plugins_dir;

fn header(record: &Record, name: &str) -> String {
    let found = record.headers.iter().find(|(n, _)| n == name);
    let (_, value) = found.unwrap_or_else(|| panic!("{name}: {record:?}"));
    value.clone().unwrap()
}

/// For any sink; in the topic is what is committed, and nothing twice.
#[test]
fn dead_letters_go_on_into_a_topic_with_the_headers_of_kafka_connect() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let rig = Rig::new(broker, "dead", 1);
    for topic in ["ks-dead-letters", "ks-dead-of-zone"] {
        rig.create(topic, 1);
    }
    let rows = [message(0), "{not json".to_owned(), message(1), message(2)];
    rig.produce(rows.into_iter());
    let errors = "errors.deadletterqueue.topic.name = \"ks-dead-letters\"\n";
    let sink = format!("sink.record.max.bytes = \"2KB\"\n{errors}{RULES}");
    let file = rig.declare("dead", &sink);
    rig.ran(&file);
    let found = rig.read("ks-dead-letters", 1);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].value.as_deref(), Some("{not json"));
    assert_eq!(
        (found[0].key.as_deref(), found[0].timestamp),
        (Some("k"), 1_700_000_000_123)
    );
    for (name, value) in [
        ("trace", "t1"),
        ("weir.dead_letter.id", "dead/ks-dead-in/0/1"),
        ("__connect.errors.topic", "ks-dead-in"),
        ("__connect.errors.partition", "0"),
        ("__connect.errors.offset", "1"),
        ("__connect.errors.connector.name", "dead"),
        ("__connect.errors.stage", "TRANSFORMATION"),
        ("__connect.errors.exception.class.name", "malformed_json"),
    ] {
        assert_eq!(header(&found[0], name), value, "{name}");
    }
    // Those of the sink too, each once over several runs.
    let long = json!({ "id": 3, "name": "x".repeat(3_000) }).to_string();
    rig.produce([long, message(4)].into_iter());
    rig.ran(&file);
    rig.ran(&file);
    let found = rig.read("ks-dead-letters", 2);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(
        header(&found[1], "__connect.errors.exception.class.name"),
        "record_too_large"
    );
    assert_eq!(header(&found[1], "__connect.errors.stage"), "TASK_PUT");
    // Beside a zone, without Connect's headers.
    let plugins = plugins_dir();
    let plugins = plugins.display();
    let zone = format!(
        "name = \"zone\"\nsource.type = \"kafka\"\nsource.topics = [\"{}\"]\nsource.start = \"earliest\"\n\
         source.bootstrap.servers = \"{}\"\nsink.type = \"zone\"\nsink.url = \"file:zone\"\nerrors.tolerance = \"all\"\n\
         errors.deadletterqueue.topic.name = \"ks-dead-of-zone\"\n\
         errors.deadletterqueue.context.headers.enable = false\nplugin.path = \"{plugins}\"\nplugin.store = \"store\"\n\
         plugin.cache = \"{plugins}/../plugins-test/cache\"\n{RULES}",
        rig.input, rig.bootstrap
    );
    fs::write(rig.path("zone.toml"), zone).unwrap();
    rig.ran("zone.toml");
    let found = rig.read("ks-dead-of-zone", 1);
    assert_eq!(found.len(), 1, "{found:?}");
    let names: Vec<&str> = found[0]
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["trace", "weir.dead_letter.id"]);
    // A topic that is not there is named before anything is read.
    let absent = [
        "run",
        "zone.toml",
        "--available-now",
        "--set",
        "errors.deadletterqueue.topic.name=ks-dead-absent",
    ];
    let output = rig.weir(&absent).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("errors.deadletterqueue.topic.name"), "{said}");
}

/// The topic takes less than the one that was read, and no old timestamps.
#[test]
fn a_letter_that_the_topic_does_not_take_goes_without_what_is_too_much_and_stops_nothing() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let rig = Rig::new(broker, "cut", 1);
    let config = [
        ("max.message.bytes", "20000"),
        ("message.timestamp.before.max.ms", "60000"),
    ];
    rig.create_with("ks-cut-dead", &config);
    rig.create_with("ks-cut-compact", &[("cleanup.policy", "compact")]);
    let long = format!("{{{}", "x".repeat(100_000));
    let many = (0..200).map(|n| format!("{{{n} {}", "y".repeat(300)));
    rig.produce([long, message(0)].into_iter().chain(many));
    let errors = "errors.deadletterqueue.topic.name = \"ks-cut-dead\"\n";
    rig.ran(&rig.declare("cut", &format!("{errors}{RULES}")));
    let found = rig.read("ks-cut-dead", 201);
    assert_eq!(found.len(), 201);
    let ids: BTreeSet<String> = found
        .iter()
        .map(|r| header(r, "weir.dead_letter.id"))
        .collect();
    assert_eq!(ids.len(), 201);
    let (cut, whole): (Vec<&Record>, Vec<&Record>) = found.iter().partition(|r| r.value.is_none());
    assert_eq!((cut.len(), whole.len()), (1, 200));
    assert_eq!(
        header(cut[0], "weir.dead_letter.left_out"),
        "value (100001 bytes)"
    );
    assert_eq!(cut[0].key.as_deref(), Some("k"));
    for record in &found {
        assert_eq!(
            header(record, "weir.dead_letter.timestamp"),
            THEN.to_string()
        );
        assert!(record.timestamp > THEN);
    }
    // Letters of one key would replace each other there.
    let errors = "errors.deadletterqueue.topic.name = \"ks-cut-compact\"\n";
    let output = rig.run(&rig.declare("compact", &format!("{errors}{RULES}")));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("compacted"), "{said}");
}

/// In CI.
const KILLS: u64 = 6;
const SEED: u64 = 5;

#[test]
fn kills_lose_no_letter_and_show_none_twice() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let rig = Rig::new(broker, "dlkill", 2);
    rig.create("ks-dlkill-dead", 1);
    let errors = "errors.deadletterqueue.topic.name = \"ks-dlkill-dead\"\n";
    let file = rig.declare("dlkill", &format!("{errors}{RULES}"));
    let clock = SystemClock::shared();
    let mut rng = SmallRng::seed_from_u64(SEED);
    for round in 0..KILLS {
        rig.produce((0..40).map(|n| match n % 2 {
            0 => message(round * 40 + n),
            _ => format!("{{{n}"),
        }));
        let child = rig.spawn(&file);
        clock.sleep(Duration::from_millis(rng.random_range(400..1_400)));
        kill(child);
    }
    rig.ran(&file);
    let letters = KILLS as usize * 20;
    let mut ids: Vec<String> = rig
        .read("ks-dlkill-dead", letters)
        .iter()
        .map(|record| header(record, "weir.dead_letter.id"))
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), letters, "{}", rig.said());
    assert_eq!(rig.read_now("ks-dlkill-dead").len(), letters);
}
