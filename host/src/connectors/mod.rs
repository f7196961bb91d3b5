//! The systems that Weir reads from and writes to: one folder each, and one line each in the tables below.
//!
//! A folder declares its keys (`keys.rs`) and implements the traits of [`crate::source`] or [`crate::sink`]. Nothing
//! else names it: the checker, the documentation, the JSON Schema and Connect's validate endpoint read the catalog, and
//! the pipeline only knows the traits. docs/add-a-source.md shows it with `rate`.

pub mod console;
pub mod file;
pub mod http;
pub mod kafka;
pub mod rate;
pub mod socket;
pub mod zone;

use crate::config::keys::Default::Required;
use crate::config::keys::Group;
use crate::config::keys::Importance::High;
use crate::config::keys::Scope::Always;
use crate::config::keys::{KeyDef, keys};
use crate::config::shape::Shape;
use std::sync::Arc;

use crate::clock::Clock;
use crate::commit::LogName;
use crate::config::{Catalog, PipelineConfig, SinkType, Source, SourceType};
use crate::error::{Error, Kind, Result};
use crate::finding::Finding;
use crate::kafka::KafkaProps;
use crate::sink::{SinkConnector, SinkContext};
use crate::store::Store;
use kafka::KafkaSourceConfig;
use kafka::dead_letters::DeadLetterTopic;
use kafka::sink::KafkaSinkConfig;

/// `source.type`, in the order of the documents.
const SOURCES: &[SourceType] = &[
    kafka::SOURCE,
    zone::SOURCE,
    rate::SOURCE,
    file::SOURCE,
    socket::SOURCE,
];
/// `sink.type`, and what opens it.
const SINKS: &[(SinkType, Connect)] = &[
    (zone::SINK, zone::connect),
    (kafka::sink::SINK, kafka::sink::connect),
    (http::SINK, http::connect),
    (console::SINK, console::connect),
];

type Connect = fn(&PipelineConfig, SinkContext) -> Result<Box<dyn SinkConnector>>;

pub static CATALOG: Catalog = Catalog {
    types: TYPES,
    sources: SOURCES,
    sinks: &DECLARED,
};

const TYPES: &[KeyDef] = keys! {
    "source.type": Shape::Choice(&SOURCE_NAMES), Required("the system to read"), High, Group::Source, Always,
        "Where records come from.";
    "sink.type": Shape::Choice(&SINK_NAMES), Required("the system to write"), High, Group::Sink, Always,
        "Where the rows go.";
};

const SOURCE_NAMES: [&str; SOURCES.len()] = {
    let mut names = [""; SOURCES.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = SOURCES[at].name;
        at += 1;
    }
    names
};

const SINK_NAMES: [&str; SINKS.len()] = {
    let mut names = [""; SINKS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = SINKS[at].0.name;
        at += 1;
    }
    names
};

const DECLARED: [&SinkType; SINKS.len()] = {
    let mut declared = [&SINKS[0].0; SINKS.len()];
    let mut at = 0;
    while at < declared.len() {
        declared[at] = &SINKS[at].0;
        at += 1;
    }
    declared
};

/// The sink that the config names.
pub fn sink(config: &PipelineConfig, context: SinkContext) -> Result<Box<dyn SinkConnector>> {
    let found = SINKS
        .iter()
        .find(|(declared, _)| declared.name == config.sink.kind());
    match found {
        Some((_, connect)) => connect(config, context),
        None => Err(Error::new(
            Kind::Bug,
            "sink.connect",
            "a sink that is in no table",
        )),
    }
}

/// The topic that dead letters go on into, where the config names one: in the cluster of the sink, or else of the source.
pub fn dead_letter_topic(
    config: &PipelineConfig,
    store: &Arc<dyn Store>,
    log: &LogName,
    clock: &Arc<dyn Clock>,
) -> Result<Option<DeadLetterTopic>> {
    let Some((topic, props, prefix)) = dead_letter_cluster(config)? else {
        return Ok(None);
    };
    Ok(Some(DeadLetterTopic {
        pipeline: config.name.clone(),
        topic,
        context: config.errors.dlq_context,
        prefix,
        props,
        store: store.clone(),
        log: log.clone(),
        clock: clock.clone(),
        kept: Default::default(),
        open: None,
    }))
}

/// What `weir doctor` asks of that topic, where there is one.
pub fn examine_dead_letter_topic(config: &PipelineConfig, tell: &mut dyn FnMut(Finding)) {
    if let Some(topic) = &config.errors.dlq_topic {
        let found = dead_letter_cluster(config);
        let props = found.map(|found| found.map(|(_, props, _)| props));
        kafka::dead_letters::examine(topic, props, tell);
    }
}

/// The topic, its cluster, and the prefix of the transactional id.
fn dead_letter_cluster(config: &PipelineConfig) -> Result<Option<(String, KafkaProps, String)>> {
    let Some(topic) = &config.errors.dlq_topic else {
        return Ok(None);
    };
    let source = match &config.source {
        Source::Records(records) => records.as_any().downcast_ref::<KafkaSourceConfig>(),
        Source::Zone(_) => None,
    };
    let sink = config.sink.as_any().downcast_ref::<KafkaSinkConfig>();
    let (props, prefix) = match (sink, source) {
        (Some(sink), _) => (sink.props()?, sink.id_prefix()),
        (None, Some(source)) => (kafka::props(source)?, kafka::dead_letters::PREFIX),
        (None, None) => return Ok(None),
    };
    let props = kafka::dead_letters::of_letters(props);
    Ok(Some((topic.clone(), props, prefix.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::{Default, FAMILIAR};
    use serde_json::json;

    #[test]
    fn no_key_is_a_table_of_another() {
        for a in CATALOG.keys().filter(|def| def.name != "transforms") {
            let dotted = format!("{}.", a.name);
            let below = CATALOG.keys().find(|b| b.name.starts_with(&dotted));
            assert!(
                below.is_none(),
                "{} and {:?}",
                a.name,
                below.map(|b| b.name)
            );
        }
    }

    #[test]
    fn defaults_are_valid_and_familiar_names_lead_somewhere() {
        for def in CATALOG.keys() {
            if let Default::Is(value) = def.default {
                let parsed = def.shape.parse(value);
                assert!(parsed.is_ok(), "{}: {parsed:?}", def.name);
            }
            assert!(def.doc.ends_with('.') && def.doc.len() > 15, "{}", def.name);
        }
        for (theirs, ours, why) in FAMILIAR {
            assert!(CATALOG.find(theirs).is_none(), "{theirs}");
            assert!(CATALOG.find(ours).is_some() != why.len().gt(&0), "{theirs}");
        }
    }

    const ALWAYS: [(&str, &str); 3] = [
        ("name", "p"),
        ("source.type", "rate"),
        ("sink.type", "zone"),
    ];

    #[test]
    fn a_url_alone_means_the_defaults_of_the_keys() {
        let keys = ALWAYS.into_iter().chain([("sink.url", "s3a://b/p/")]);
        let config = crate::config::from_map("p", keys, &CATALOG).expect("config");
        assert_eq!(config.home.at, crate::config::Location::of("s3://b/p"));
    }

    #[test]
    fn keys_of_a_store_that_mean_nothing_or_contradict_each_other_are_refused() {
        let secret = ("sink.store.secret.access.key", "${env:HOME}");
        let id = ("sink.store.access.key.id", "id");
        for (url, keys, of) in [
            (
                "file:x",
                vec![("sink.store.region", "a")],
                "sink.store.region",
            ),
            ("file:x", vec![("sink.publish", "complete")], "sink.publish"),
            ("gs://b/x", vec![("sink.publish", "copy")], "sink.publish"),
            ("gs://b/x", vec![id, secret], "sink.store.access.key.id"),
            ("s3://b/x", vec![id], "sink.store.access.key.id"),
            ("s3://b/x", vec![secret], "sink.store.secret.access.key"),
            (
                "s3://b/x",
                vec![id, secret, ("sink.store.profile", "p")],
                "sink.store.profile",
            ),
            (
                "s3://b/x",
                vec![("sink.store.endpoint", "http://h")],
                "sink.store.endpoint",
            ),
            (
                "s3://b/x",
                vec![("sink.store.endpoint", "h:9000")],
                "sink.store.endpoint",
            ),
            (
                "s3://b/x",
                vec![("sink.store.endpoint", "https://s3.eu-1.backblazeb2.com")],
                "sink.store.endpoint",
            ),
            (
                "s3://b/x",
                vec![("sink.store.sse.kms.key", "k")],
                "sink.store.sse.kms.key",
            ),
            (
                "s3://b/x",
                vec![("sink.store.tags", "=x")],
                "sink.store.tags",
            ),
            (
                "s3://b/x",
                vec![("sink.store.lifetime", "5m")],
                "sink.rotate.age",
            ),
            (
                "s3://b/x",
                vec![
                    ("memory.budget", "32MiB"),
                    ("sink.row.group.bytes", "32MiB"),
                ],
                "memory.budget",
            ),
            (
                "az://b/x",
                vec![("sink.store.tags", "a=b")],
                "sink.store.tags",
            ),
            (
                "hdfs://n/x",
                vec![("sink.store.endpoint", "https://h")],
                "sink.store.endpoint",
            ),
        ] {
            let mut raw = crate::config::Raw::new("p");
            for (key, value) in ALWAYS.into_iter().chain([("sink.url", url)]).chain(keys) {
                let place = raw.start_of_file();
                raw.insert(key.to_owned(), value.to_owned(), place)
                    .expect("a key");
            }
            let (_, problems) = crate::config::check_raw(raw, &CATALOG);
            let told: Vec<&str> = problems.iter().map(|p| p.key.as_str()).collect();
            assert!(told.contains(&of), "{url} {of}: {problems:?}");
        }
    }

    #[test]
    fn values_that_no_topic_and_no_format_takes_are_refused() {
        let told = |keys: &[(&str, &str)]| -> Vec<String> {
            let mut raw = crate::config::Raw::new("p");
            let all = [
                ("name", "p"),
                ("source.type", "rate"),
                ("sink.type", "kafka"),
                ("sink.url", "file:x"),
                ("sink.bootstrap.servers", "h:9092"),
            ];
            for (key, value) in all.iter().chain(keys) {
                let place = raw.start_of_file();
                raw.insert((*key).to_owned(), (*value).to_owned(), place)
                    .expect("a key");
            }
            let (_, problems) = crate::config::check_raw(raw, &CATALOG);
            problems.into_iter().map(|problem| problem.key).collect()
        };
        let (topic, xml) = (("sink.topic.name", "t"), ("sink.value.format", "xml"));
        assert_eq!(told(&[topic, xml, ("sink.xml.root", "Buch-1.a")]), [""; 0]);
        for root in ["1row", "xml", "XMLrow", "a²"] {
            let keys = [topic, xml, ("sink.xml.root", root)];
            assert_eq!(told(&keys), ["sink.xml.root"], "{root}");
        }
        assert_eq!(
            told(&[("sink.topic.name", "__consumer_offsets")]),
            ["sink.topic.name"]
        );
        for (key, most) in [
            ("sink.record.max.bytes", "999995904B"),
            ("sink.commit.bytes", "64MiB"),
        ] {
            assert_eq!(told(&[topic, (key, most)]), [""; 0]);
            assert_eq!(told(&[topic, (key, "1GiB")]), [key]);
        }
    }

    #[test]
    fn so_many_transforms_and_no_more() {
        let told = |names: usize| {
            let listed: Vec<String> = (0..names).map(|n| format!("t{n}")).collect();
            let mut raw = crate::config::Raw::new("p");
            let place = raw.start_of_file();
            raw.insert("transforms".to_owned(), listed.join(","), place)
                .expect("a key");
            let (_, problems) = crate::config::check_raw(raw, &CATALOG);
            let of = problems.iter().find(|p| p.code == "out_of_range");
            of.map(|problem| problem.message.clone())
        };
        assert_eq!(told(crate::config::TRANSFORMS_MAX), None);
        let refused = told(crate::config::TRANSFORMS_MAX + 1);
        let says = "`transforms`: 101 names, at most 100 can be listed";
        assert_eq!(refused.as_deref(), Some(says));
    }

    #[test]
    fn the_schema_nests_as_toml_does() {
        let schema = crate::config::schema::schema(&CATALOG);
        let pipeline = &schema["$defs"]["pipeline"];
        assert_eq!(pipeline["required"], json!(["name", "source", "sink"]));
        let bytes = &pipeline["properties"]["sink"]["properties"]["rotate"]["properties"]["bytes"];
        assert_eq!(bytes["default"], "128MiB");
        let then = &pipeline["allOf"][0]["then"]["properties"]["source"]["required"];
        // Topics by name or by pattern: neither alone is required.
        assert_eq!(*then, json!(["start", "bootstrap"]));
        assert!(schema["$defs"]["overlay"].get("required").is_none());
        assert_eq!(
            schema["$defs"]["flat"]["properties"]["tasks.max"]["type"],
            "string"
        );
    }
}
