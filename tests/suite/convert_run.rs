//! A converted storage sink runs: it fills the same table as the config from which it was made.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use arrow_array::{Array, RecordBatch};
use serde_json::{Map, Value, json};
use weir::author::cell;
use weir::clock::SystemClock;
use weir::commit::{Log, LogName, Role, Writer};
use weir::config::{Overlay, PipelineConfig};
use weir::connect;
use weir::kafka::{KafkaProps, Outgoing, Producer};
use weir::{store, zone};

use crate::check::root;
use crate::object_servers;
use crate::world::{World, open_log, plugins_dir};

pub fn send<'a>(bootstrap: &str, topic: &str, values: impl Iterator<Item = &'a [u8]>) {
    let props = KafkaProps::new(bootstrap, "test", &BTreeMap::new()).unwrap();
    let producer = Producer::open(&props).unwrap();
    for (n, value) in values.enumerate() {
        let out = Outgoing {
            value: Some(value),
            partition: Some((n % 2) as i32),
            ..Outgoing::default()
        };
        producer.send(topic, out).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

/// Rows of a table as JSON, without the broker's time.
fn rows(zone_dir: &Path, pipeline: &str, table: &str) -> Vec<String> {
    let zone_name = zone_dir.file_name().unwrap().to_str().unwrap();
    let log = open_log(zone_dir, pipeline, zone_name).unwrap().unwrap();
    let store = store::open_url(&format!("file:{}", zone_dir.display())).unwrap();
    let name = LogName::new(pipeline, zone_name);
    let mut out = Vec::new();
    for live in log.state().live.values() {
        if live.file.role != Role::Rows || !live.file.path.starts_with(&format!("{table}/")) {
            continue;
        }
        for batch in zone::read_file(&store, &name, &live.file).unwrap() {
            let batch: RecordBatch = batch.unwrap();
            for row in 0..batch.num_rows() {
                let mut object = Map::new();
                for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
                    if field.name() != "_timestamp" {
                        object.insert(
                            field.name().clone(),
                            cell::to_json(column.as_ref() as &dyn Array, row),
                        );
                    }
                }
                out.push(Value::Object(object).to_string());
            }
        }
    }
    out.sort();
    out
}

fn load(file: &Path, set: &[String]) -> PipelineConfig {
    let overlay = Overlay {
        set: set.to_vec(),
        ..Overlay::default()
    };
    let loaded = connect::load(&[file.to_str().unwrap().to_owned()], &overlay);
    assert!(!loaded.has_errors(), "{:?}", loaded.problems);
    loaded.pipelines.into_iter().next().unwrap()
}

/// The worked example of the page: convert with a sample, run, read. Then a config with columns runs as it is, and its
/// conversion fills the same table.
#[test]
fn a_converted_sink_fills_the_table() {
    let world = World::new(1);
    for topic in ["orders", "crm.customers"] {
        world.broker.create_topic(topic, 2).unwrap();
    }
    let sample = fs::read(root().join("tests/configs/connect/orders.jsonl")).unwrap();
    send(
        world.broker.bootstrap(),
        "orders",
        sample.split(|b| *b == b'\n').filter(|l| !l.is_empty()),
    );
    let set = |zone: &str| {
        vec![
            format!("source.bootstrap.servers={}", world.broker.bootstrap()),
            format!("sink.url=file:{}", world.path(zone).display()),
            format!("plugin.path={}", plugins_dir().display()),
            format!("plugin.cache={}", world.path("cache").display()),
            format!("plugin.store={}", world.path("store").display()),
            "trigger=available-now".to_owned(),
        ]
    };
    let convert = |name: &str, more: &[&str]| -> PathBuf {
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args([
                "config",
                "convert",
                &format!("tests/configs/connect/{name}"),
            ])
            .args(more)
            .current_dir(root())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let path = world.path(&format!("{name}.toml"));
        fs::write(&path, output.stdout).unwrap();
        path
    };
    let run = |config: PipelineConfig| {
        for ended in world.run(&[config]) {
            ended.result.unwrap();
        }
    };

    let learned = convert(
        "s3-orders.json",
        &[
            "--sample",
            "tests/configs/connect/orders.jsonl",
            "--store",
            "s3://lake=file:/mnt/lake",
        ],
    );
    run(load(&learned, &set("orders")));
    let got = rows(&world.path("orders"), "orders-to-lake", "orders");
    let want = [
        json!({"customer_name": "Ada", "email": "", "id": 1, "total": "9.90", "created": "2024-02-29T12:00:00Z", "origin": "kafka", "_topic": "orders", "_partition": 0, "_offset": 0, "_row": 0}),
        json!({"customer_name": "Bob", "email": null, "id": 2, "total": "12.50", "created": "2024-03-01T12:00:00Z", "origin": "kafka", "_topic": "orders", "_partition": 1, "_offset": 0, "_row": 0}),
        json!({"customer_name": null, "email": null, "id": 3, "total": "100.00", "created": "2024-03-02T00:30:00Z", "origin": "kafka", "_topic": "orders", "_partition": 0, "_offset": 1, "_row": 0}),
    ];
    let mut want: Vec<String> = want.iter().map(Value::to_string).collect();
    want.sort();
    assert_eq!(got, want);

    let envelopes = [
        r#"{"schema":{},"payload":{"after":{"id":7,"address":{"city":"Ulm"},"phones":["1","2"]}}}"#,
        r#"{"schema":{},"payload":{"after":{"id":8,"phones":[]}}}"#,
        r#"{"schema":{},"payload":{"after":{"id":"x"}}}"#,
        r#"{"id":9}"#,
        r#"{"schema":{},"payload":{"after":null}}"#,
        r#"{"schema":{"type":"struct","fields":[{"field":"after","type":"struct","fields":[{"field":"id","type":"bytes"}]}]},"payload":{"after":{"id":10}}}"#,
    ];
    send(
        world.broker.bootstrap(),
        "crm.customers",
        envelopes.iter().map(|e| e.as_bytes()),
    );
    let kafka = [
        "source.kafka.security.protocol=PLAINTEXT",
        "source.start=earliest",
    ];
    let mut given = String::new();
    for line in fs::read_to_string(root().join("tests/configs/connect/s3-envelope.properties"))
        .unwrap()
        .lines()
    {
        if !line.contains("sasl") && !line.contains("security.protocol") {
            given.push_str(&format!("{line}\n"));
        }
    }
    let given_path = world.path("given.properties");
    fs::write(&given_path, given).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["config", "convert"])
        .arg(&given_path)
        .output()
        .unwrap();
    let converted = world.path("converted.toml");
    fs::write(&converted, output.stdout).unwrap();
    let mut tables = Vec::new();
    for (n, file) in [given_path, converted].iter().enumerate() {
        let zone = format!("crm{n}");
        let mut set = set(&zone);
        set.extend(kafka.map(str::to_owned));
        run(load(file, &set));
        tables.push(rows(&world.path(&zone), "customers", "crm.customers"));
        let log = open_log(&world.path(&zone), "customers", &zone)
            .unwrap()
            .unwrap();
        let totals = log.state().totals();
        assert_eq!(
            totals.rows.refused, 2,
            "a text is no long, and bytes are none"
        );
        let records = totals.records;
        assert_eq!(
            (
                records.read,
                records.with_rows,
                records.refused,
                records.filtered
            ),
            (6, 2, 3, 1),
            "no envelope is refused, no record is dropped"
        );
    }
    let want = [
        json!({"id": 7, "phone": "1", "_topic": "crm.customers", "_partition": 0, "_offset": 0, "_row": 0}),
        json!({"id": 8, "phone": null, "_topic": "crm.customers", "_partition": 1, "_offset": 0, "_row": 0}),
    ];
    assert_eq!(tables[0], want.map(|row| row.to_string()));
    assert_eq!(tables[0], tables[1]);
}

/// A config of Confluent's S3 sink, word for word as for a worker of Connect, against a server that speaks S3.
#[test]
fn an_s3_sink_of_confluent_fills_its_bucket() {
    let Some(s3) = object_servers::s3() else {
        return;
    };
    let world = World::new(1);
    world.broker.create_topic("clicks", 2).unwrap();
    let clicks: Vec<String> = (0..500).map(|n| format!("click {n}")).collect();
    let bytes = clicks.iter().map(String::as_bytes);
    send(world.broker.bootstrap(), "clicks", bytes);
    let bucket = s3.bucket("connect");
    let text = fs::read_to_string(root().join("tests/configs/connect/s3-minio.json")).unwrap();
    let mut given: Value = serde_json::from_str(&text).unwrap();
    given["config"]["store.url"] = json!(s3.endpoint());
    given["config"]["s3.bucket.name"] = json!(bucket);
    given["config"]["s3.region"] = json!(object_servers::REGION);
    let file = world.path("clicks.json");
    fs::write(&file, given.to_string()).unwrap();
    let weir = |args: &[&str], secret: &str| {
        Command::new(env!("CARGO_BIN_EXE_weir"))
            .current_dir(world.path(""))
            .args(args)
            .arg(&file)
            .args([
                "--set",
                &format!("source.bootstrap.servers={}", world.broker.bootstrap()),
            ])
            .args([
                "--set",
                &format!("plugin.cache={}", world.path("cache").display()),
            ])
            .env("LAKE_KEY_ID", object_servers::ACCESS_KEY)
            .env("LAKE_SECRET", secret)
            .output()
            .unwrap()
    };
    let said = |output: &std::process::Output| {
        let all = [&output.stdout[..], &output.stderr[..]].concat();
        String::from_utf8_lossy(&all).into_owned()
    };
    let refused = weir(&["doctor"], "not-the-secret");
    assert_eq!(refused.status.code(), Some(1));
    let told = said(&refused);
    assert!(told.contains("fail  store s3://"), "{told}");
    assert!(told.contains("sink.store.access.key.id"), "{told}");
    assert!(!told.contains("not-the-secret"), "{told}");
    let well = weir(&["doctor"], object_servers::SECRET_KEY);
    assert!(well.status.success(), "{}", said(&well));
    assert!(s3.parts(&bucket).is_empty(), "the doctor left parts behind");

    let ran = weir(&["run", "--available-now"], object_servers::SECRET_KEY);
    assert!(ran.status.success(), "{}", said(&ran));
    let store = s3.open(&bucket, "topics");
    let name = LogName::new("clicks-to-minio", "topics");
    let clock = SystemClock::shared();
    let writer = Writer::this_process(&*clock);
    let log = Log::open(store.clone(), name.clone(), clock, writer)
        .unwrap()
        .unwrap();
    assert_eq!(log.state().totals().records.read, 500);
    let mut rows = 0;
    for live in log.state().live.values() {
        for batch in zone::read_file(&store, &name, &live.file).unwrap() {
            rows += batch.unwrap().num_rows();
        }
    }
    assert_eq!(rows, 500);
    let listed = store.list("clicks").unwrap();
    assert_eq!(listed.len(), log.state().live.len());
}
