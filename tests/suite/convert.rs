//! Kafka Connect's configs in native keys: golden translations, every refusal with its reason, and a page that cannot lie.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output};

use weir::config::problem::NOT_TRANSLATED;
use weir::connect::{self, Defaults, HDFS_SINK, HDFS3_SINK, S3_SINK, classes, translate};
use weir::daemon::{self, Job};

use crate::check::root;

pub fn weir(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(args)
        .current_dir(root())
        .env_remove("KAFKA_BOOTSTRAP_SERVERS")
        .env_remove("WEIR_TEST_SECRET")
        .output()
        .expect("weir runs")
}

/// Compares with a file; `UPDATE=1` writes it.
fn golden(name: &str, got: &[u8]) {
    let path = root().join("tests/configs/connect").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, got).expect("golden is written");
        return;
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    let got = String::from_utf8_lossy(got);
    assert_eq!(got, want, "{name}; if this is right: UPDATE=1 cargo test");
}

#[test]
fn realistic_configs_become_what_the_goldens_say() {
    for (name, more) in [
        (
            "s3-orders.json",
            &[
                "--sample",
                "tests/configs/connect/orders.jsonl",
                "--store",
                "s3://lake=file:/mnt/lake",
            ][..],
        ),
        ("s3-envelope.properties", &[]),
        (
            "hdfs-daily.json",
            &["--store", "hdfs://namenode:8020=file:/mnt/hdfs"],
        ),
    ] {
        let file = format!("tests/configs/connect/{name}");
        let mut args = vec!["config", "convert", file.as_str()];
        args.extend(more);
        let output = weir(&args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{name}: {said}");
        golden(&format!("{name}.toml"), &output.stdout);

        // What is printed is a config that checks, in each of its three forms, and they are one.
        let dir = tempfile::tempdir().expect("tempdir");
        let mut maps = Vec::new();
        for (flag, ending) in [
            ("--toml", "toml"),
            ("--properties", "properties"),
            ("--json", "json"),
        ] {
            let mut args = args.clone();
            args.push(flag);
            let path = dir.path().join(format!("pipeline.{ending}"));
            std::fs::write(&path, weir(&args).stdout).expect("written");
            let path = path.to_str().expect("utf-8");
            let checked = weir(&["check", path]);
            let said = String::from_utf8_lossy(&checked.stderr);
            assert!(checked.status.success(), "{name} as {ending}: {said}");
            maps.push(
                String::from_utf8_lossy(&weir(&["config", "show", path]).stdout).into_owned(),
            );
        }
        assert!(
            maps[0].contains("connector.class=weir") && maps[0] == maps[1] && maps[0] == maps[2]
        );
    }
}

#[test]
fn what_cannot_be_honoured_is_told_all_at_once_at_its_place() {
    let file = "tests/configs/connect/refused.properties";
    let output = weir(&["config", "convert", file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    golden("refused.expected", &output.stderr);
    let checked = weir(&["check", "--no-plugins", file]);
    assert_eq!(checked.status.code(), Some(2));
    let said = String::from_utf8_lossy(&checked.stderr);
    for place in [
        "refused.properties:3:1  topics.regex",
        "refused.properties:19:1  value.converter",
    ] {
        assert!(said.contains(place), "{said}");
    }
}

pub fn base() -> BTreeMap<String, String> {
    let pairs = [
        ("name", "n"),
        ("connector.class", S3_SINK),
        ("topics", "t"),
        ("s3.bucket.name", "b"),
        (
            "format.class",
            "io.confluent.connect.s3.format.parquet.ParquetFormat",
        ),
        ("flush.size", "10"),
        (
            "value.converter",
            "org.apache.kafka.connect.converters.ByteArrayConverter",
        ),
    ];
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

pub fn defaults() -> Defaults {
    Defaults {
        bootstrap_servers: Some("broker:9092".to_owned()),
        stores: vec![
            ("s3://b".to_owned(), "file:/mnt/b".to_owned()),
            ("hdfs://nn/data".to_owned(), "file:/mnt/hdfs/".to_owned()),
        ],
        ..Defaults::default()
    }
}

/// Changes to [`base`], the key that is refused, a word of the message.
type Refused = (
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static str,
);
const REFUSED: &[Refused] = &[
    (&[("topics", "")], "topics", "missing"),
    (&[("topics.regex", "a.*")], "topics.regex", "history"),
    (&[("tasks.max", "300")], "tasks.max", "256"),
    (
        &[(
            "format.class",
            "io.confluent.connect.s3.format.json.JsonFormat",
        )],
        "format.class",
        "not Json",
    ),
    (
        &[(
            "format.class",
            "io.confluent.connect.s3.format.bytearray.ByteArrayFormat",
        )],
        "format.class",
        "not ByteArray",
    ),
    (&[("format.class", "")], "format.class", "missing"),
    (
        &[("s3.bucket.name", "other")],
        "s3.bucket.name",
        "s3://other",
    ),
    (&[("s3.bucket.name", "bb")], "s3.bucket.name", "s3://bb"),
    (&[("flush.size", "")], "flush.size", "missing"),
    (&[("flush.size", "x")], "flush.size", "integer"),
    (
        &[("parquet.codec", "brotli")],
        "parquet.codec",
        "snappy, zstd or none",
    ),
    (
        &[("rotate.interval.ms", "5")],
        "rotate.interval.ms",
        "100 ms",
    ),
    (
        &[
            (
                "partitioner.class",
                "io.confluent.connect.storage.partitioner.FieldPartitioner",
            ),
            ("partition.field.name", "a"),
        ],
        "partitioner.class",
        "by time",
    ),
    (
        &[("partitioner.class", "com.example.Mine")],
        "partitioner.class",
        "Java class",
    ),
    (
        &[
            (
                "partitioner.class",
                "io.confluent.connect.storage.partitioner.HourlyPartitioner",
            ),
            ("timezone", "Asia/Tokyo"),
        ],
        "timezone",
        "UTC",
    ),
    (
        &[
            (
                "partitioner.class",
                "io.confluent.connect.storage.partitioner.HourlyPartitioner",
            ),
            ("timestamp.extractor", "Record"),
        ],
        "timestamp.extractor",
        "ingestion",
    ),
    (&[("value.converter", "")], "value.converter", "missing"),
    (
        &[(
            "value.converter",
            "io.confluent.connect.protobuf.ProtobufConverter",
        )],
        "value.converter",
        "schema registry",
    ),
    (
        &[(
            "value.converter",
            "io.confluent.connect.json.JsonSchemaConverter",
        )],
        "value.converter",
        "schema registry",
    ),
    (
        &[(
            "value.converter",
            "org.apache.kafka.connect.converters.LongConverter",
        )],
        "value.converter",
        "number",
    ),
    (
        &[(
            "value.converter",
            "org.apache.kafka.connect.json.JsonConverter",
        )],
        "value.converter",
        "no columns",
    ),
    (
        &[
            ("transforms", "a"),
            ("transforms.a.type", "com.example.Rule$Value"),
        ],
        "transforms.a.type",
        "Java class",
    ),
    (
        &[
            ("transforms", "a"),
            ("transforms.a.type", "cast"),
            ("transforms.a.plugin.version", "[0.1,)"),
        ],
        "transforms.a.type",
        "plugin",
    ),
    (
        &[
            ("transforms", "a"),
            ("transforms.a.type", "cast"),
            ("transforms.a.predicate", "p"),
        ],
        "transforms.a.predicate",
        "every record",
    ),
    (
        &[
            ("transforms", "a"),
            ("transforms.a.type", "cast"),
            ("transforms.a.negate", "true"),
        ],
        "transforms.a.negate",
        "negate",
    ),
    (
        &[
            ("transforms", "a"),
            (
                "transforms.a.type",
                "org.apache.kafka.connect.transforms.ValueToKey",
            ),
            ("transforms.a.fields", "x"),
        ],
        "transforms.a.type",
        "kept whole",
    ),
    (
        &[
            ("transforms", "a"),
            (
                "transforms.a.type",
                "org.apache.kafka.connect.transforms.TimestampRouter",
            ),
        ],
        "transforms.a.type",
        "named by topics",
    ),
    (
        &[("behavior.on.null.values", "write")],
        "behavior.on.null.values",
        "tombstones",
    ),
    (
        &[("errors.tolerance", "most")],
        "errors.tolerance",
        "`none` or `all`",
    ),
    (
        &[("consumer.override.ssl.keystore.type", "JKS")],
        "consumer.override.ssl.keystore.type",
        "key store",
    ),
    (
        &[(
            "connector.class",
            "io.confluent.connect.jdbc.JdbcSinkConnector",
        )],
        "connector.class",
        "no connector",
    ),
    (
        &[("connector.class", HDFS_SINK), ("hdfs.url", "hdfs://other")],
        "hdfs.url",
        "hdfs://other",
    ),
    (
        &[
            ("connector.class", HDFS_SINK),
            ("hdfs.url", "file:/x"),
            ("hive.integration", "true"),
        ],
        "hive.integration",
        "metastore",
    ),
    (
        &[
            ("connector.class", HDFS3_SINK),
            ("hdfs.url", "file:/x"),
            ("format.class", ""),
        ],
        "format.class",
        "Avro",
    ),
];

#[test]
fn each_refusal_names_the_key_that_was_given_and_why() {
    assert!(daemon::job_of(&base(), &defaults()).is_ok());
    for (changes, key, word) in REFUSED {
        let mut config = base();
        config.extend(
            changes
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
        );
        let problems = daemon::job_of(&config, &defaults()).expect_err(key);
        let told = problems.iter().find(|p| p.is_error() && p.key == *key);
        let told = told.unwrap_or_else(|| panic!("{changes:?}: {problems:#?}"));
        assert!(told.message.contains(word), "{changes:?}: {}", told.message);
        if told.code == NOT_TRANSLATED {
            assert!(
                told.hint.as_ref().is_some_and(|hint| hint.len() > 5),
                "{told}"
            );
        }
    }
}

fn native(changes: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut config = base();
    config.extend(
        changes
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
    );
    connect::translate(&config, &defaults())
        .expect("translated")
        .config
}

#[test]
fn stores_are_mapped_by_the_longest_prefix_and_native_keys_win() {
    assert_eq!(native(&[])["sink.url"], "file:/mnt/b/topics");
    assert_eq!(
        native(&[("topics.dir", "/raw/")])["sink.url"],
        "file:/mnt/b/raw"
    );
    assert_eq!(
        native(&[("sink.url", "file:/own")])["sink.url"],
        "file:/own"
    );
    assert_eq!(
        native(&[("s3.bucket.name", "x"), ("store.url", "/srv/lake/")])["sink.url"],
        "file:/srv/lake/x/topics"
    );
    let mut all = defaults();
    all.stores
        .push(("s3://".to_owned(), "file:/s3/".to_owned()));
    for (bucket, url) in [("b", "file:/mnt/b/topics"), ("bb", "file:/s3/bb/topics")] {
        let mut config = base();
        config.insert("s3.bucket.name".to_owned(), bucket.to_owned());
        let native = connect::translate(&config, &all).expect("translated");
        assert_eq!(native.config["sink.url"], url);
    }
    let hdfs = [
        ("connector.class", HDFS3_SINK),
        ("hdfs.url", "hdfs://nn/data/lake"),
    ];
    assert_eq!(native(&hdfs)["sink.url"], "file:/mnt/hdfs/lake/topics");
    assert_eq!(
        native(&[("sink.rotate.bytes", "1MiB")])["sink.rotate.bytes"],
        "1MiB"
    );
    assert_eq!(
        native(&[
            ("rotate.interval.ms", "3600000"),
            ("rotate.schedule.interval.ms", "1500")
        ])["sink.rotate.age"],
        "1500ms"
    );
    assert_eq!(native(&[])["source.group.id"], "connect-n");
    assert_eq!(
        native(&[("consumer.override.group.id", "g")])["source.group.id"],
        "g"
    );
}

#[test]
fn a_problem_of_a_native_key_is_told_of_the_key_it_was_made_of() {
    let mut config = base();
    config.insert("topics".to_owned(), "_hidden".to_owned());
    let problems = daemon::job_of(&config, &defaults()).expect_err("hidden table");
    assert_eq!(problems[0].key, "topics");
    assert!(
        problems[0]
            .message
            .contains("`topics` becomes `sink.table`"),
        "{}",
        problems[0]
    );
}

#[test]
fn a_key_nobody_knows_is_a_warning_and_the_connector_runs() {
    let mut config = base();
    config.insert("flush.sise".to_owned(), "3".to_owned());
    assert!(matches!(
        daemon::job_of(&config, &defaults()),
        Ok(Job::Pipeline(_))
    ));
}

/// Every key of every storage sink has its say: it is read, kept with a note, or refused.
#[test]
fn no_key_of_a_storage_sink_is_passed_over() {
    for class in classes()
        .iter()
        .filter(|c| [S3_SINK, HDFS_SINK, HDFS3_SINK].contains(&c.name))
    {
        let mut config = base();
        config.retain(|key, _| class.key(key).is_some());
        config.insert("connector.class".to_owned(), class.name.to_owned());
        for key in &class.keys {
            let value = key
                .default
                .clone()
                .filter(|d| !d.is_empty())
                .unwrap_or("1".to_owned());
            config.entry(key.name.clone()).or_insert(value);
        }
        let (raw, _) = weir::config::text("keys", "");
        let mut raw = raw;
        for (key, value) in &config {
            let place = raw.start_of_file();
            raw.insert(key.clone(), value.clone(), place).expect("once");
        }
        let (_, problems) = connect::native(&raw, &defaults(), None);
        let unread: Vec<&str> = problems
            .iter()
            .filter(|p| p.code == weir::config::problem::UNKNOWN_KEY)
            .map(|p| p.key.as_str())
            .collect();
        assert!(unread.is_empty(), "{}: {unread:?}", class.name);
    }
}

const BEGIN: &str =
    "<!-- connect keys: begin (written by `UPDATE=1 cargo test`, from host/src/connect) -->";
const END: &str = "<!-- connect keys: end -->";

/// Every key of the storage sinks with what becomes of it, and every transform.
fn tables() -> String {
    let mut out = String::from("\n| Key | Sink | |\n|---|---|---|\n");
    let mut seen = BTreeSet::new();
    for (class, title) in [(S3_SINK, "S3"), (HDFS_SINK, "HDFS")] {
        let class = classes().iter().find(|c| c.name == class).expect("class");
        for key in &class.keys {
            let both = [S3_SINK, HDFS_SINK].iter().all(|name| {
                classes()
                    .iter()
                    .any(|c| c.name == *name && c.key(&key.name).is_some())
            });
            if seen.insert(key.name.clone()) {
                let which = if both { "both" } else { title };
                out.push_str(&format!(
                    "| `{}` | {which} | {} |\n",
                    key.name,
                    becomes(&key.name, &key.documentation)
                ));
            }
        }
    }
    out.push_str("\n| Transform | Becomes | |\n|---|---|---|\n");
    for (name, what, how) in translate::SMT_TABLE {
        out.push_str(&format!("| {name} | {what} | {how} |\n"));
    }
    out
}

fn becomes(key: &str, documentation: &str) -> String {
    if let Some((_, why)) = translate::off().find(|(off, _)| *off == key) {
        return format!("Refused unless it is off: {why}.");
    }
    match translate::idle().find(|(idle, _)| *idle == key) {
        Some((_, why)) => format!("Accepted; {}.", why.trim_end_matches('.')),
        None => documentation.to_owned(),
    }
}

#[test]
fn the_page_lists_what_the_module_does() {
    let path = root().join("docs/coming-from-kafka-connect.md");
    let page = std::fs::read_to_string(&path).expect("the page");
    let (head, rest) = page.split_once(BEGIN).expect("the first mark");
    let (was, tail) = rest.split_once(END).expect("the last mark");
    let now = tables();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{head}{BEGIN}\n{now}\n{END}{tail}")).expect("written");
        return;
    }
    assert_eq!(
        was.trim(),
        now.trim(),
        "UPDATE=1 cargo test writes the tables"
    );
}
