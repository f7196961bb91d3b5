//! Configs of Connect's storage sinks for every format and partitioner: each is translated, and run over one topic; the files lie where
//! Connect puts them and hold what Connect writes.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weir::kafka::{KafkaProps, Outgoing, Producer};

use crate::brokers::files;
use crate::check::root;
use crate::convert::weir;
use crate::lake::Said;
use crate::world::{World, plugins_dir};

/// 2024-03-31 at 00:59:30 and 01:10:00 UTC: in Berlin 01:59 and, the clock being put forward, 03:10.
const TIMES: [i64; 2] = [1_711_846_770_000, 1_711_847_400_000];

struct Sent {
    world: World,
}

impl Sent {
    /// Two records with the times above, a tombstone, and one that has no time in its value; all in partition 0.
    fn new() -> Sent {
        let world = World::new(1);
        world.broker.create_topic("events", 1).unwrap();
        let props = KafkaProps::new(world.broker.bootstrap(), "test", &Default::default()).unwrap();
        let producer = Producer::open(&props).unwrap();
        let values = [
            Some("{\"id\": 1,\n \"country\": \"de\", \"n\": 5, \"meta\": {\"at\": 1711846770000}}"),
            Some(r#"{"id":2,"country":null,"n":6,"meta":{"at":"2024-03-31T01:10:00Z"}}"#),
            None,
            Some(r#"{"id":3,"country":"a/b","n":7}"#),
        ];
        for (n, value) in values.into_iter().enumerate() {
            let out = Outgoing {
                value: value.map(str::as_bytes),
                key: Some(b"k"),
                partition: Some(0),
                timestamp: Some(TIMES[n % 2]),
                ..Outgoing::default()
            };
            producer.send("events", out).unwrap();
        }
        producer.flush(std::time::Duration::from_secs(30)).unwrap();
        Sent { world }
    }

    /// Converts a config, runs what is printed, and returns what was written: directory, name behind the id, bytes.
    fn run(&self, config: &str, more: &[&str]) -> Vec<(String, String, Vec<u8>)> {
        let file = format!("tests/configs/connect/{config}");
        let zone = self.world.path(&format!("{config}{}", more.len()));
        let mut set: Vec<String> = vec![
            format!("sink.url=file:{}", zone.display()),
            format!("source.bootstrap.servers={}", self.world.broker.bootstrap()),
            format!("plugin.path={}", plugins_dir().display()),
            format!("plugin.cache={}", self.world.path("cache").display()),
            format!("plugin.store={}", self.world.path("store").display()),
            "trigger=available-now".to_owned(),
        ];
        if config.starts_with("gcs") {
            set.push("topics.regex=events".to_owned());
        }
        let mut args = vec!["config", "convert", file.as_str()];
        args.extend(more);
        for one in &set {
            args.extend(["--set", one]);
        }
        let converted = weir(&args);
        let said = String::from_utf8_lossy(&converted.stderr);
        assert!(converted.status.success(), "{config}: {said}");
        let path = self.world.path(&format!("{config}{}.toml", more.len()));
        fs::write(&path, converted.stdout).unwrap();
        let ran = Said::of(&weir(&[
            "run",
            path.to_str().unwrap(),
            "--progress",
            "none",
        ]));
        assert_eq!(ran.code, Some(0), "{config}: {}", ran.err);
        let table = zone.join("events");
        let mut found: Vec<_> = files(&table, "")
            .iter()
            .map(|file| parts(&table, file))
            .collect();
        found.sort();
        found
    }
}

fn parts(table: &Path, file: &PathBuf) -> (String, String, Vec<u8>) {
    let below = file.strip_prefix(table).unwrap();
    let name = file.file_name().unwrap().to_str().unwrap();
    let (_, tail) = name.split_once('.').unwrap();
    (
        below.parent().unwrap().to_str().unwrap().to_owned(),
        tail.to_owned(),
        fs::read(file).unwrap(),
    )
}

fn named(found: &[(String, String, Vec<u8>)]) -> Vec<(&str, &str)> {
    found
        .iter()
        .map(|(dir, tail, _)| (dir.as_str(), tail.as_str()))
        .collect()
}

fn unzipped(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes)
        .read_to_string(&mut text)
        .unwrap();
    text
}

#[test]
fn files_lie_where_connect_puts_them_and_hold_what_it_writes() {
    let sent = Sent::new();

    let found = sent.run("s3-json-raw.json", &[]);
    let expected = [
        (
            "year=2024/month=03/day=31/hour=01/minute=45",
            "events+0+0000000000.json.gz",
        ),
        (
            "year=2024/month=03/day=31/hour=03/minute=00",
            "events+0+0000000001.json.gz",
        ),
    ];
    assert_eq!(named(&found), expected);
    assert_eq!(
        unzipped(&found[0].2),
        "{\"id\":1,\"country\":\"de\",\"n\":5,\"meta\":{\"at\":1711846770000}}\n"
    );
    assert!(unzipped(&found[1].2).starts_with(r#"{"id":2,"country":null"#));

    let found = sent.run("strimzi.yaml", &[]);
    assert_eq!(named(&found), [("partition=0", "events+0+0000.txt")]);
    let text = String::from_utf8(found[0].2.clone()).unwrap();
    assert_eq!(text.matches('|').count(), 3, "{text}");
    assert!(text.ends_with("\"n\":7}|"), "{text}");

    let found = sent.run("hdfs-avro-field.properties", &[]);
    let expected = [
        ("country=a/b/n=7", "events+0+0000000003.avro"),
        ("country=de/n=5", "events+0+0000000000.avro"),
        ("country=null/n=6", "events+0+0000000001.avro"),
    ];
    assert_eq!(named(&found), expected);
    assert!(
        found
            .iter()
            .all(|(_, _, bytes)| bytes.starts_with(b"Obj\x01"))
    );

    let found = sent.run("gcs-text-daily.properties", &[]);
    assert_eq!(
        named(&found),
        [("year=2024/month=03/day=31", "events+0+0000000000.json")]
    );
    let lines = String::from_utf8(found[0].2.clone()).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[2], Value::Null);
    assert_eq!(lines[3], json!(r#"{"id":3,"country":"a/b","n":7}"#));

    let found = sent.run("hdfs3-string.properties", &[]);
    assert_eq!(named(&found), [("partition=0", "events+0+0000000000.txt")]);
    assert_eq!(
        String::from_utf8(found[0].2.clone())
            .unwrap()
            .matches('\n')
            .count(),
        5
    );
}

#[test]
fn avro_by_the_clock_and_parquet_by_the_record() {
    let sent = Sent::new();
    let found = sent.run("azure-avro-hourly.json", &[]);
    assert_eq!(found.len(), 1, "{:?}", named(&found));
    let parts: Vec<&str> = found[0]
        .0
        .split('/')
        .map(|part| part.split('=').next().unwrap())
        .collect();
    assert_eq!(parts, ["year", "month", "day", "hour"]);
    let header = String::from_utf8_lossy(&found[0].2).into_owned();
    for part in [
        "\"name\":\"value\"",
        "\"name\":\"key\"",
        "\"name\":\"events\"",
    ] {
        assert!(header.contains(part), "{part} in {header}");
    }
    assert!(!header.contains("_offset"), "{header}");

    let found = sent.run("aiven-jsonl.json", &[]);
    assert_eq!(
        named(&found),
        [("dt=2024-03", "events+0+0000000000.json.gz")]
    );
    let lines = unzipped(&found[0].2);
    assert_eq!(lines.lines().count(), 4, "{lines}");
    let url = sent.world.path("aiven-jsonl.json0");
    assert!(url.join("events").is_dir());

    // 00:59 UTC is 06:29 in India: one day for all.
    let found = sent.run("s3-parquet-record.json", &[]);
    assert_eq!(
        named(&found),
        [("dt=20240331", "events+0+0000000000.parquet")]
    );
    let found = sent.run("hdfs-avro-field.properties", &["--parquet-instead"]);
    let dirs: BTreeSet<&str> = found.iter().map(|(dir, ..)| dir.as_str()).collect();
    assert_eq!(
        dirs,
        BTreeSet::from(["country=a/b/n=7", "country=de/n=5", "country=null/n=6"])
    );
    assert!(
        found
            .iter()
            .all(|(_, tail, bytes)| tail.ends_with(".parquet") && bytes.starts_with(b"PAR1"))
    );
}

/// A config without a converter had its worker's: the worker's file says it, or it is assumed and said.
#[test]
fn a_converter_that_was_the_workers_is_read_or_assumed() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("a.properties");
    let of = |format: &str| {
        format!(
            "name=n\nconnector.class=S3Sink\ntopics=t\ns3.bucket.name=b\nflush.size=1\nformat.class=io.confluent.connect.s3.format.{format}\n"
        )
    };
    fs::write(&config, of("json.JsonFormat")).unwrap();
    let config = config.to_str().unwrap();
    let said = Said::of(&weir(&["config", "convert", config]));
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(
        said.out
            .contains("ASSUMED: JsonConverter, schemas.enable=false"),
        "{}",
        said.out
    );
    assert!(said.out.contains("file.text = \"json\""), "{}", said.out);
    let worker = dir.path().join("worker.properties");
    fs::write(
        &worker,
        "bootstrap.servers=kafka:9092\nvalue.converter=org.apache.kafka.connect.storage.StringConverter\nkey.converter=org.apache.kafka.connect.storage.StringConverter\n",
    )
    .unwrap();
    let said = Said::of(&weir(&[
        "config",
        "convert",
        config,
        "--worker",
        worker.to_str().unwrap(),
    ]));
    assert_eq!(said.code, Some(0), "{}", said.err);
    for part in [
        "file.text = \"string\"",
        "bootstrap.servers = \"kafka:9092\"",
    ] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    assert!(!said.out.contains("ASSUMED"), "{}", said.out);
    // Over REST and in a run nothing is assumed.
    let said = Said::of(&weir(&["check", "--no-plugins", config]));
    assert_ne!(said.code, Some(0));
    assert!(said.err.contains("value.converter"), "{}", said.err);
}

/// Aiven's templates: what stands before the topic is the root, times and the partition lie below it, and what has no place is refused.
#[test]
fn directories_of_aivens_templates_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("a.properties");
    let converted = |template: &str| {
        let text = format!(
            "name=n\nconnector.class=io.aiven.kafka.connect.s3.AivenKafkaConnectS3SinkConnector\ntopics=t\naws.s3.bucket.name=raw\naws.s3.region=eu-central-1\nkey.converter=org.apache.kafka.connect.storage.StringConverter\nvalue.converter=org.apache.kafka.connect.storage.StringConverter\nfile.name.template={template}\n"
        );
        fs::write(&config, text).unwrap();
        Said::of(&weir(&["config", "convert", config.to_str().unwrap()]))
    };
    for (template, url, by, path) in [
        (
            "{{topic}}-{{partition}}-{{start_offset}}",
            "s3://raw",
            "none",
            "",
        ),
        (
            "{{timestamp:unit=yyyy}}/{{topic}}/{{partition}}-{{start_offset}}",
            "s3://raw",
            "ingestion",
            "yyyy",
        ),
        (
            "{{timestamp:unit=yyyy}}/{{topic}}/{{timestamp:unit=MM}}/f",
            "s3://raw",
            "ingestion",
            "yyyy/MM",
        ),
        (
            "a/b//{{topic}}/v1/y={{timestamp:unit=yyyy}}/{{timestamp:unit=MM}}-x/f",
            "s3://raw/a/b",
            "ingestion",
            "'v1'/'y='yyyy/MM'-x'",
        ),
        (
            "raw/{{topic}}/partition={{partition}}/{{start_offset}}",
            "s3://raw/raw",
            "partition",
            "",
        ),
        ("{{topic}}/{{partition}}/f", "s3://raw", "partition", ""),
    ] {
        let said = converted(template);
        assert_eq!(said.code, Some(0), "{template}: {}", said.err);
        assert_eq!(
            said.out.contains("where Aiven's are 0, 1"),
            template == "{{topic}}/{{partition}}/f",
            "{template}: {}",
            said.out
        );
        for (key, value) in [("url", url), ("partition.by", by), ("partition.path", path)] {
            let line = format!("{key} = \"{value}\"");
            let there = said.out.contains(&line);
            assert_eq!(
                there,
                !value.is_empty(),
                "{template}: {line} in {}",
                said.out
            );
        }
    }
    for (template, part) in [
        (
            "{{topic}}/raw/{{partition}}-{{start_offset}}",
            "`raw` below the topic",
        ),
        (
            "{{topic}}/p{{partition}}/f",
            "`p{{partition}}` below the topic",
        ),
        (
            "x-{{topic}}/f",
            "`x-{{topic}}` is more than the topic's name",
        ),
        ("{{topic}}/{{topic}}/f", "two directories"),
        (
            "{{topic}}/{{timestamp:unit=yyyy}}/{{partition}}/f",
            "not of both",
        ),
        (
            "{{topic}}/../{{timestamp:unit=yyyy}}/f",
            "`..` may not be in it",
        ),
        (
            "{{topic}}/{{ key }}.json",
            "keeps the newest record of each key",
        ),
    ] {
        let said = converted(template);
        assert_ne!(said.code, Some(0), "{template}: {}", said.out);
        assert!(said.err.contains(part), "{template}: {}", said.err);
    }
}

/// Aiven's keys beside the directories: CSV has the value alone, each class has its own codec, and a hint says what can be done.
#[test]
fn aivens_files_hold_what_its_keys_say() {
    let sent = Sent::new();
    let found = sent.run("aiven-csv.properties", &[]);
    assert_eq!(named(&found), [("partition=0", "events+0+0000000000.csv")]);
    let lines = String::from_utf8(found[0].2.clone()).unwrap();
    let last = "\"\"\n\"{\"\"id\"\":3,\"\"country\"\":\"\"a/b\"\",\"\"n\"\":7}\"\n";
    assert!(lines.starts_with("\"{\"\"id\"\": 1,\n"), "{lines}");
    assert!(lines.ends_with(last), "{lines}");

    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("a.properties");
    let converted = |more: &str| {
        let csv = root().join("tests/configs/connect/aiven-csv.properties");
        let csv = fs::read_to_string(csv).unwrap();
        fs::write(&config, format!("{csv}{more}")).unwrap();
        Said::of(&weir(&["config", "convert", config.to_str().unwrap()]))
    };
    let said = converted("");
    assert!(said.out.contains("compression = \"none\""), "{}", said.out);
    let said = converted("format.output.envelope=true\nfile.compression.type=gzip\n");
    assert!(said.out.contains("compression = \"gzip\""), "{}", said.out);
    for (more, part) in [
        (
            "transforms=i\ntransforms.i.type=org.apache.kafka.connect.transforms.InsertField$Value\ntransforms.i.static.field=a\ntransforms.i.static.value=b\n",
            "would have the key and headers too",
        ),
        (
            "format.output.fields=key,value\nformat.output.type=jsonl\n",
            "key stand in columns of Parquet alone",
        ),
        (
            "format.output.fields=key,value,offset\nformat.output.type=parquet\n",
            "take the key out: _offset and _timestamp are columns always",
        ),
    ] {
        let said = converted(more);
        assert_ne!(said.code, Some(0), "{more}: {}", said.out);
        assert!(said.err.contains(part), "{more}: {}", said.err);
    }
}
