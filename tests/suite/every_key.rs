//! Good configs of every class, and every key that each of them can have, as a base for attacks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use weir::config::librdkafka::ALLOWED;
use weir::connect::{
    AZURE_BLOB_SINK, AZURE_GEN2_SINK, FILE_SINK, FILE_SOURCE, GCS_SINK, HDFS_SINK, HDFS3_SINK,
    S3_SINK, definitions,
};

use crate::daemon_rig::Rig;

pub type Config = BTreeMap<String, String>;

/// Native code's and Java's properties that no list has, too.
const UNLISTED: &[&str] = &[
    "ssl.engine.location",
    "ssl.providers",
    "plugin.library.paths",
    "sasl.jaas.config",
    "no.such",
];

fn config(pairs: &[(&str, &str)]) -> Config {
    let pairs = pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    pairs.collect()
}

/// One of each class, with its tables, files and directories named after `n`, so that they do not meet. The topic is `t`.
pub fn bases(rig: &Rig, n: usize) -> Vec<Config> {
    let servers = rig.broker.bootstrap();
    let text = "org.apache.kafka.connect.storage.StringConverter";
    let (zone, file) = (format!("file:zones/{n}"), format!("files/{n}.txt"));
    let lookup = rig.path("lookup.csv");
    if !lookup.exists() {
        fs::create_dir_all(rig.path("files")).unwrap();
        fs::write(&lookup, "id,name\n1,one\n").unwrap();
        fs::write(rig.path("rules.toml"), "[columns.name]\ntrim = true\n").unwrap();
    }
    let kafka = [
        ("connector.class", "weir"),
        ("source.type", "kafka"),
        ("source.topics", "t"),
        ("source.start", "earliest"),
        ("source.bootstrap.servers", servers),
        ("sink.type", "zone"),
        ("sink.url", &zone),
        ("errors.tolerance", "all"),
        ("transforms", "parse,look,check,hide"),
        ("transforms.parse.type", "csv-parse"),
        ("transforms.parse.columns", "id,name"),
        ("transforms.look.type", "enrich"),
        ("transforms.look.table", "lookup.csv"),
        ("transforms.look.key", "id"),
        ("transforms.look.columns.label", "name"),
        ("transforms.check.type", "validate"),
        ("transforms.check.rules", "rules.toml"),
        ("transforms.hide.type", "mask"),
        ("transforms.hide.columns.name", "redact"),
    ];
    let from_zone = [
        ("connector.class", "weir"),
        ("source.type", "zone"),
        ("source.url", "file:zones/raw"),
        ("source.pipeline", "raw"),
        ("source.table", "t"),
        ("trigger", "every:1h"),
        ("sink.type", "zone"),
        ("sink.url", &zone),
        ("sink.partition.field", "day"),
    ];
    let to_topic = [
        ("connector.class", "weir"),
        ("source.type", "kafka"),
        ("source.topics", "t"),
        ("source.start", "earliest"),
        ("source.bootstrap.servers", servers),
        ("sink.type", "kafka"),
        ("sink.url", &zone),
        ("sink.bootstrap.servers", servers),
        ("sink.topic.name", "u"),
        ("sink.value.format", "string"),
    ];
    let source = [
        ("connector.class", FILE_SOURCE),
        ("topic", "t"),
        ("file", "lookup.csv"),
        ("value.converter", text),
        ("producer.override.bootstrap.servers", servers),
    ];
    let sink = [
        ("connector.class", FILE_SINK),
        ("topics", "t"),
        ("file", &file),
        ("value.converter", text),
        ("consumer.override.bootstrap.servers", servers),
    ];
    // Nobody listens there: it waits.
    let to_api = [
        ("connector.class", "weir"),
        ("source.type", "rate"),
        ("source.rows.total", "10"),
        ("sink.type", "http"),
        ("sink.url", &zone),
        ("sink.http.url", "http://127.0.0.1:9/rows"),
        ("sink.http.headers.x-api-key", "${file:lookup.csv:id}"),
    ];
    let storage =
        |class: &'static str, format: &'static str, store: (&'static str, &'static str)| {
            let mut made = config(&[
                ("connector.class", class),
                ("topics", "t"),
                ("format.class", format),
                ("flush.size", "10"),
                ("sink.url", &zone),
                ("value.converter", text),
                store,
                ("consumer.override.bootstrap.servers", servers),
                ("transforms", "line"),
                ("transforms.line.field", "line"),
                (
                    "transforms.line.type",
                    "org.apache.kafka.connect.transforms.HoistField$Value",
                ),
            ]);
            made.insert("errors.tolerance".to_owned(), "all".to_owned());
            made
        };
    vec![
        config(&kafka),
        config(&from_zone),
        config(&to_topic),
        config(&source),
        config(&sink),
        storage(
            S3_SINK,
            "io.confluent.connect.s3.format.parquet.ParquetFormat",
            ("s3.bucket.name", "b"),
        ),
        storage(
            HDFS_SINK,
            "io.confluent.connect.hdfs.parquet.ParquetFormat",
            ("hdfs.url", "hdfs://nn/x"),
        ),
        storage(
            HDFS3_SINK,
            "io.confluent.connect.hdfs3.parquet.ParquetFormat",
            ("hdfs.url", "hdfs://nn/x"),
        ),
        storage(
            GCS_SINK,
            "io.confluent.connect.gcs.format.parquet.ParquetFormat",
            ("gcs.bucket.name", "b"),
        ),
        storage(
            AZURE_BLOB_SINK,
            "io.confluent.connect.azure.blob.format.parquet.ParquetFormat",
            ("azblob.account.name", "a"),
        ),
        storage(
            AZURE_GEN2_SINK,
            "io.confluent.connect.azure.storage.format.parquet.ParquetFormat",
            ("azure.datalake.gen2.account.name", "a"),
        ),
        config(&to_api),
    ]
}

/// Every key that the class, its transforms and its Kafka client know, those of the config itself, and some that nobody does.
pub fn keys(config: &Config) -> Vec<String> {
    let mut all: BTreeSet<String> = config.keys().cloned().collect();
    all.extend(definitions(config).unwrap().into_iter().map(|key| key.name));
    let prefixes: &[&str] = match config["connector.class"].as_str() {
        "weir" if config["sink.type"] == "kafka" => &["sink.kafka."],
        "weir" => &["source.kafka."],
        FILE_SOURCE => &["producer.override."],
        FILE_SINK => &["consumer.override.", "admin.override."],
        _ => &["consumer.override.", "producer.override.", "source.kafka."],
    };
    let properties = ALLOWED
        .iter()
        .map(|allowed| allowed.name)
        .chain(UNLISTED.iter().copied());
    for property in properties {
        all.extend(prefixes.iter().map(|prefix| format!("{prefix}{property}")));
    }
    for name in ["parse", "look", "check", "hide"] {
        if config.contains_key(&format!("transforms.{name}.type")) {
            for key in [
                "columns",
                "secret",
                "rules",
                "table",
                "key",
                "types.id",
                "redact-with",
                "no-such",
            ] {
                all.insert(format!("transforms.{name}.{key}"));
            }
        }
    }
    all.extend(
        [
            "no.such.key",
            "secrets.allow.env",
            "rest.files.roots",
            "password",
        ]
        .map(str::to_owned),
    );
    // Whoever asks says the name.
    all.remove("name");
    all.into_iter().collect()
}

pub fn with(base: &Config, key: &str, value: &str) -> Config {
    let mut config = base.clone();
    config.insert(key.to_owned(), value.to_owned());
    // Security properties are looked at only where the protocol has them.
    for prefix in [
        "source.kafka.",
        "sink.kafka.",
        "consumer.override.",
        "producer.override.",
    ] {
        if let Some(property) = key.strip_prefix(prefix) {
            let protocol = format!("{prefix}security.protocol");
            let needs = match property {
                p if p.starts_with("sasl.") => "SASL_PLAINTEXT",
                p if p.starts_with("ssl.") => "SSL",
                _ => continue,
            };
            config.entry(protocol).or_insert_with(|| needs.to_owned());
            if needs == "SASL_PLAINTEXT" {
                for (more, value) in [
                    ("sasl.mechanism", "PLAIN"),
                    ("sasl.username", "me"),
                    ("debug", "security,broker"),
                ] {
                    let key = format!("{prefix}{more}");
                    config.entry(key).or_insert_with(|| value.to_owned());
                }
            }
        }
    }
    config
}
