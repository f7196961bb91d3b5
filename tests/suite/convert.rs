//! Kafka Connect's configs in native keys: golden translations, every refusal with its reason, and a page that is
//! compared with the code.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use weir::connect::{
    self, AZURE_BLOB_SINK, AZURE_GEN1_SINK, AZURE_GEN2_SINK, Defaults, GCS_SINK, HDFS_SINK,
    HDFS3_SINK, S3_SINK, STORAGE_SINKS, classes, translate,
};
use weir::daemon::{self, Job};

use crate::check::root;

pub fn weir(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(args)
        .current_dir(root())
        .env_remove("KAFKA_BOOTSTRAP_SERVERS")
        .env_remove("WEIR_TEST_SECRET")
        // What the configs refer to.
        .env("LAKE_KEY_ID", "id")
        .env("LAKE_SECRET", "secret")
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
            &["--sample", "tests/configs/connect/orders.jsonl"][..],
        ),
        ("s3-envelope.properties", &[]),
        ("s3-avro.properties", &[]),
        ("s3-json.properties", &[]),
        ("s3-minio.json", &[]),
        (
            "hdfs-daily.json",
            &["--store", "hdfs://namenode:8020=file:/mnt/hdfs"],
        ),
        ("hdfs3-kerberos.properties", &[]),
        ("gcs-clicks.json", &[]),
        ("azure-blob.json", &[]),
        ("azure-gen2.json", &[]),
        ("aiven-csv.properties", &[]),
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

/// A config of a class with its own keys, translated; what is translated is a pipeline too.
fn to(class: &str, changes: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut config = base();
    config.remove("s3.bucket.name");
    config.insert("connector.class".to_owned(), class.to_owned());
    config.extend(
        changes
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
    );
    let done = connect::translate(&config, &defaults());
    let done = done.unwrap_or_else(|problems| panic!("{class}: {problems:#?}"));
    daemon::job_of(&config, &defaults())
        .unwrap_or_else(|problems| panic!("{class}: {problems:#?}"));
    done.config
}

/// `sink.store.*`, without the prefix.
fn store(config: &BTreeMap<String, String>) -> Vec<String> {
    let store = config.iter().filter_map(|(key, value)| {
        let name = key.strip_prefix("sink.store.")?;
        Some(format!("{name}={value}"))
    });
    store.collect()
}

#[test]
fn an_s3_sink_goes_to_its_bucket_with_its_keys() {
    let plain = to(S3_SINK, &[("s3.bucket.name", "lake")]);
    assert_eq!(plain["sink.url"], "s3://lake/topics");
    // Connect's own default.
    assert_eq!(store(&plain), ["region=us-west-2"]);
    let full = to(
        S3_SINK,
        &[
            ("s3.bucket.name", "lake"),
            ("topics.dir", "/raw/a/"),
            ("store.url", "http://minio:9000"),
            ("s3.region", "eu-central-1"),
            ("aws.access.key.id", "me"),
            ("aws.secret.access.key", "${env:PATH}"),
            ("s3.path.style.access.enabled", "true"),
            ("s3.part.retries", "7"),
            ("s3.proxy.url", "http://proxy:3128"),
            ("s3.ssea.name", "aws:kms"),
            ("s3.sse.kms.key.id", "k"),
            ("s3.acl.canned", "private"),
        ],
    );
    assert_eq!(full["sink.url"], "s3://lake/raw/a");
    assert_eq!(
        store(&full),
        [
            "access.key.id=me",
            "allow.http=true",
            "endpoint=http://minio:9000",
            "path.style=true",
            "proxy=http://proxy:3128",
            "region=eu-central-1",
            "retries=7",
            "secret.access.key=${env:PATH}",
            "sse.kms.key=k",
            "sse.type=aws:kms",
        ]
    );
    for (provider, becomes) in [
        (
            "com.amazonaws.auth.DefaultAWSCredentialsProviderChain",
            None,
        ),
        (
            "software.amazon.awssdk.auth.credentials.ProfileCredentialsProvider",
            Some("profile=default"),
        ),
        (
            "software.amazon.awssdk.auth.credentials.AnonymousCredentialsProvider",
            Some("anonymous=true"),
        ),
    ] {
        let key = "s3.credentials.provider.class";
        let of = store(&to(S3_SINK, &[("s3.bucket.name", "l"), (key, provider)]));
        let other = of.iter().find(|key| !key.starts_with("region"));
        assert_eq!(other.map(String::as_str), becomes, "{provider}");
    }

    // Elsewhere by the worker's map or by a native key: the service's keys are notes.
    let mapped = to(
        S3_SINK,
        &[("s3.bucket.name", "b"), ("s3.region", "eu-west-1")],
    );
    assert_eq!(mapped["sink.url"], "file:/mnt/b/topics");
    assert!(store(&mapped).is_empty());
    let own = [
        ("s3.bucket.name", "x"),
        ("sink.url", "file:/own"),
        ("s3.region", "r"),
    ];
    assert!(store(&to(S3_SINK, &own)).is_empty());
    let gen1 = [
        ("azure.datalake.account.name", "a"),
        ("sink.url", "file:/own"),
    ];
    assert_eq!(to(AZURE_GEN1_SINK, &gen1)["sink.url"], "file:/own");
}

/// What the keys of each other class become where the service itself is written to.
#[test]
fn each_other_class_goes_to_its_service_with_its_keys() {
    let hdfs = to(
        HDFS3_SINK,
        &[
            ("hdfs.url", "hdfs://ns1/"),
            ("hadoop.conf.dir", "/etc/hadoop/conf"),
            ("hdfs.authentication.kerberos", "true"),
            ("connect.hdfs.principal", "weir@EXAMPLE"),
            ("connect.hdfs.keytab", "/etc/weir.keytab"),
            ("hdfs.namenode.principal", "nn/_HOST@EXAMPLE"),
        ],
    );
    assert_eq!(hdfs["sink.url"], "hdfs://ns1/topics");
    assert_eq!(
        store(&hdfs),
        [
            "hadoop.conf.dir=/etc/hadoop/conf",
            "kerberos.keytab=/etc/weir.keytab",
            "kerberos.principal=weir@EXAMPLE",
        ]
    );

    let gcs = to(
        GCS_SINK,
        &[
            ("gcs.bucket.name", "lake"),
            ("gcs.credentials.path", "/etc/gcs.json"),
            ("gcs.part.retries", "2"),
        ],
    );
    assert_eq!(gcs["sink.url"], "gs://lake/topics");
    assert_eq!(store(&gcs), ["credentials.file=/etc/gcs.json", "retries=2"]);

    let blob = to(
        AZURE_BLOB_SINK,
        &[
            ("azblob.account.name", "acc"),
            ("azblob.account.key", "${env:PATH}"),
            ("azblob.container.name", "lake"),
            ("azblob.connection.timeout.ms", "9000"),
        ],
    );
    assert_eq!(blob["sink.url"], "az://lake/topics");
    assert_eq!(
        store(&blob),
        [
            "account.key=${env:PATH}",
            "account.name=acc",
            "connect.timeout=9s"
        ]
    );

    // The first directory is the file system.
    let gen2 = to(
        AZURE_GEN2_SINK,
        &[
            ("azure.datalake.gen2.account.name", "acc"),
            ("azure.datalake.gen2.client.id", "id"),
            ("azure.datalake.gen2.client.key", "${env:PATH}"),
            (
                "azure.datalake.gen2.token.endpoint",
                "https://login.microsoftonline.com/tenant-1/oauth2/token",
            ),
            ("topics.dir", "lake/raw"),
        ],
    );
    assert_eq!(gen2["sink.url"], "az://lake/raw");
    assert_eq!(
        store(&gen2),
        [
            "account.name=acc",
            "client.id=id",
            "client.secret=${env:PATH}",
            "tenant.id=tenant-1",
        ]
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

/// Where a schema makes the columns. The daemon takes such a connector, and the first record decides.
#[test]
fn several_topics_of_one_schema_have_a_note() {
    let avro = ("value.converter", "io.confluent.connect.avro.AvroConverter");
    let registry = ("value.converter.schema.registry.url", "https://r:8081");
    let json = (
        "value.converter",
        "org.apache.kafka.connect.json.JsonConverter",
    );
    let noted = |converter: &[(&str, &str)], topics: (&str, &str)| {
        let mut config = base();
        config.remove("topics");
        let pairs = converter.iter().chain([&topics]);
        config.extend(pairs.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let done = connect::translate(&config, &defaults())
            .unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert!(daemon::job_of(&config, &defaults()).is_ok());
        let said = |note: &&connect::Note| note.text.contains("needs a connector of its own");
        let found = done.notes.iter().find(said);
        found.map(|note| note.key.clone()).unwrap_or_default()
    };
    for (converter, topics, key) in [
        (
            &[avro, registry][..],
            ("topics", "orders, events"),
            "topics",
        ),
        (&[json], ("topics", "orders,events"), "topics"),
        (&[json], ("topics.regex", "shop-.*"), "topics.regex"),
        (&[json], ("topics", "orders"), ""),
        (&[], ("topics", "orders,events"), ""),
    ] {
        assert_eq!(noted(converter, topics), key, "{converter:?} {topics:?}");
    }
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
    for class in classes().iter().filter(|c| STORAGE_SINKS.contains(&c.name)) {
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

/// The classes as the page calls them: HDFS 2 and 3 have the same keys.
const TITLES: [(&str, &str); 6] = [
    (S3_SINK, "S3"),
    (HDFS_SINK, "HDFS"),
    (GCS_SINK, "GCS"),
    (AZURE_BLOB_SINK, "Azure Blob"),
    (AZURE_GEN2_SINK, "ADLS Gen2"),
    (AZURE_GEN1_SINK, "ADLS Gen1"),
];

/// Every key of the storage sinks with what becomes of it, and every transform. A key that means something else in another
/// class has a row of its own.
fn tables() -> String {
    let mut out = String::from("\n| Key | Sink | |\n|---|---|---|\n");
    let mut rows: Vec<(String, String, Vec<&str>)> = Vec::new();
    for (class, title) in TITLES {
        let class = classes().iter().find(|c| c.name == class).expect("class");
        for key in &class.keys {
            let what = becomes(&key.name, &key.documentation);
            match rows
                .iter_mut()
                .find(|row| (&row.0, &row.1) == (&key.name, &what))
            {
                Some(row) => row.2.push(title),
                None => rows.push((key.name.clone(), what, vec![title])),
            }
        }
    }
    for (key, what, titles) in rows {
        let which = match titles.len() {
            n if n == TITLES.len() => "all".to_owned(),
            _ => titles.join(", "),
        };
        out.push_str(&format!("| `{key}` | {which} | {what} |\n"));
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
