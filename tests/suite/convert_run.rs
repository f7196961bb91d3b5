//! Connect's configs at work: a converted sink fills the same table as the config it was made of, and the file connectors
//! move lines through a broker, over kills of the daemon.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Array, RecordBatch};
use serde_json::{Map, Value, json};
use weir::author::cell;
use weir::commit::{LogName, Role};
use weir::config::{self, Overlay, PipelineConfig};
use weir::connect::file::{self, FileContext};
use weir::connect::{self, Defaults, Job};
use weir::error::Kind;
use weir::kafka::{KafkaProps, MockBroker, Outgoing, Producer};
use weir::supervisor::Offset;
use weir::{store, zone};

use crate::brokers::until;
use crate::check::root;
use crate::convert::{defaults, weir};
use crate::world::{World, open_log, plugins_dir};

// ------------------------------------------------------------- storage sinks

fn send<'a>(bootstrap: &str, topic: &str, values: impl Iterator<Item = &'a [u8]>) {
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
    let store = store::open(&format!("file:{}", zone_dir.display())).unwrap();
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
    let loaded = config::load(&[file.to_str().unwrap().to_owned()], &overlay);
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
        assert_eq!(log.state().totals().rows.refused, 1, "the text is no long");
    }
    let want = [
        json!({"id": 7, "phone": "1", "_topic": "crm.customers", "_partition": 0, "_offset": 0, "_row": 0}),
        json!({"id": 8, "phone": null, "_topic": "crm.customers", "_partition": 1, "_offset": 0, "_row": 0}),
    ];
    assert_eq!(tables[0], want.map(|row| row.to_string()));
    assert_eq!(tables[0], tables[1]);
}

// ----------------------------------------------------------- file connectors

fn job(pairs: &[(&str, &str)], bootstrap: &str) -> Job {
    let pairs = pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let defaults = Defaults {
        bootstrap_servers: Some(bootstrap.to_owned()),
        ..Defaults::default()
    };
    connect::job(&pairs.collect(), &defaults).unwrap()
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn context(world: &World) -> FileContext {
    FileContext {
        clock: world.clock.clone(),
        stop: world.stop.child(),
        report: Arc::clone(&world.told) as Arc<dyn weir::pipeline::Report>,
        state_dir: world.path("state"),
    }
}

/// Runs a file connector until `done`, then stops it.
fn during(world: &World, job: &Job, done: impl Fn() -> bool) {
    let ctx = context(world);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| file::run(job, &ctx));
        world.until("what the connector was to do", || {
            done() || running.is_finished()
        });
        ctx.stop.ask(Duration::from_secs(20));
        running.join().unwrap().unwrap();
    });
    assert!(done());
}

#[test]
fn lines_go_through_a_topic_into_another_file() {
    let world = World::new(1);
    let (from, to) = (world.path("in.txt"), world.path("out.txt"));
    let source = job(
        &[
            ("name", "lines"),
            ("connector.class", "FileStreamSource"),
            ("file", from.to_str().unwrap()),
            ("topic", "books"),
            ("batch.size", "2"),
            (
                "value.converter",
                "org.apache.kafka.connect.json.JsonConverter",
            ),
        ],
        world.broker.bootstrap(),
    );
    let sink = job(
        &[
            ("name", "copy"),
            ("connector.class", "FileStreamSink"),
            ("file", to.to_str().unwrap()),
            ("topics", "books"),
            (
                "value.converter",
                "org.apache.kafka.connect.json.JsonConverter",
            ),
        ],
        world.broker.bootstrap(),
    );
    let state = world.path("state");
    let position = |n: u64| {
        let offsets = file::offsets(&source, &state).unwrap_or_default();
        offsets
            .iter()
            .any(|o| o.offset.as_ref().is_some_and(|o| o["position"] == n))
    };
    // The file comes later, grows, and its last line has no end yet.
    let ctx = context(&world);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| file::run(&source, &ctx));
        fs::write(&from, "eins\nzwei \"2\"\n\ndrei").unwrap();
        world.until("the first lines", || position(15));
        File::options()
            .append(true)
            .open(&from)
            .unwrap()
            .write_all(b"!\r\nvier\n")
            .unwrap();
        world.until("the rest", || position(27));
        ctx.stop.ask(Duration::from_secs(20));
        running.join().unwrap().unwrap();
    });
    let offsets = file::offsets(&source, &state).unwrap();
    assert_eq!(offsets[0].partition["filename"], from.to_str().unwrap());

    let want = ["eins", "zwei \"2\"", "", "drei!", "vier"];
    during(&world, &sink, || lines(&to).len() == 5);
    assert_eq!(lines(&to), want);
    let offsets = file::offsets(&sink, &state).unwrap();
    assert_eq!(
        serde_json::to_value(&offsets).unwrap(),
        json!([{"partition": {"kafka_topic": "books", "kafka_partition": 0}, "offset": {"kafka_offset": 5}}])
    );

    // A line that was written and not accounted for is cut; nothing comes twice.
    File::options()
        .append(true)
        .open(&to)
        .unwrap()
        .write_all(b"never acknowledged\n")
        .unwrap();
    world.produce(
        [(
            0,
            &b"{\"schema\":{\"type\":\"string\"},\"payload\":\"six\"}"[..],
        )]
        .into_iter(),
    );
    during(&world, &sink, || {
        lines(&to).len() == 6 && lines(&to)[5] == "six"
    });

    // Back by a person's wish: the records behind come again.
    let wanted: Vec<Offset> = serde_json::from_value(json!([{"partition": {"kafka_topic": "books", "kafka_partition": "0"}, "offset": {"kafka_offset": 4}}])).unwrap();
    file::alter(&sink, &state, &wanted).unwrap();
    during(&world, &sink, || lines(&to).len() == 8);
    assert_eq!(&lines(&to)[6..], ["vier", "six"]);
    for bad in [
        json!({"kafka_topic": "other", "kafka_partition": 0}),
        json!({"filename": "x"}),
    ] {
        let wanted: Vec<Offset> =
            serde_json::from_value(json!([{"partition": bad, "offset": {"kafka_offset": 0}}]))
                .unwrap();
        assert_eq!(
            file::alter(&sink, &state, &wanted).unwrap_err().kind(),
            Kind::ConfigInvalid
        );
    }
    file::reset(&sink, &state).unwrap();
    assert!(file::offsets(&sink, &state).unwrap().is_empty());
    during(&world, &sink, || lines(&to).len() == 14);

    // Somebody cut the file: nothing is hidden.
    fs::write(&to, "").unwrap();
    let error = file::run(&sink, &context(&world)).unwrap_err();
    assert_eq!(error.kind(), Kind::LogCorrupt);
    // As its hint says: begun anew.
    file::reset(&sink, &state).unwrap();
    during(&world, &sink, || lines(&to).len() == 6);
    fs::write(&from, "").unwrap();
    let error = file::run(&source, &context(&world)).unwrap_err();
    assert_eq!(error.kind(), Kind::SourceLost);
    assert!(error.hint_text().unwrap().contains("DELETE"), "{error}");
}

#[test]
fn a_record_that_cannot_be_read_stops_the_sink_or_is_passed_over() {
    let world = World::new(1);
    let to = world.path("out.txt");
    world.produce(
        [
            (0, &b"{\"a\":1}"[..]),
            (0, &b"no json"[..]),
            (0, &b"[true,null]"[..]),
        ]
        .into_iter(),
    );
    let config = |tolerance: &str, name: &str| {
        job(
            &[
                ("name", name),
                ("connector.class", "FileStreamSink"),
                ("file", to.to_str().unwrap()),
                ("topics", "books"),
                ("errors.tolerance", tolerance),
                (
                    "value.converter",
                    "org.apache.kafka.connect.json.JsonConverter",
                ),
                ("value.converter.schemas.enable", "false"),
            ],
            world.broker.bootstrap(),
        )
    };
    for _ in 0..2 {
        let error = file::run(&config("none", "strict"), &context(&world)).unwrap_err();
        assert_eq!(error.kind(), Kind::RecordRefused);
        assert!(error.to_string().contains("books/0/1"), "{error}");
        assert_eq!(lines(&to), ["{a=1}"], "what came before it, once");
    }
    during(&world, &config("all", "tolerant"), || lines(&to).len() == 3);
    assert_eq!(lines(&to)[1..], ["{a=1}", "[true, null]"]);
}

/// A daemon of its own process.
struct Daemon(Child);

impl Daemon {
    fn start(dir: &Path, bootstrap: &str, configs: &[PathBuf]) -> Daemon {
        let files: Vec<String> = configs
            .iter()
            .map(|p| format!("{:?}", p.to_str().unwrap()))
            .collect();
        let worker = dir.join("worker.toml");
        let text = format!(
            "data.dir = {:?}\nrest.listen = \"127.0.0.1:0\"\nbootstrap.servers = {bootstrap:?}\nplugin.path = {:?}\npipelines = [{}]\n",
            dir.join("daemon"),
            plugins_dir(),
            files.join(", "),
        );
        fs::write(&worker, text).unwrap();
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.join("daemon.log"))
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .arg("daemon")
            .arg(&worker)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Daemon(child)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn kills_of_the_daemon_neither_lose_nor_double_a_line_of_the_sink() {
    const LINES: usize = 3_000;
    const ROUNDS: usize = 4;
    let dir = tempfile::tempdir().unwrap();
    let broker = MockBroker::start().unwrap();
    broker.create_topic("kills", 2).unwrap();
    let to = dir.path().join("out.txt");
    let config = dir.path().join("sink.json");
    let text = json!({"name": "copy", "config": {"connector.class": "FileStreamSink", "file": to, "topics": "kills"}});
    fs::write(&config, text.to_string()).unwrap();
    let mut all = Vec::new();
    for round in 0..ROUNDS {
        let values: Vec<String> = (0..LINES).map(|n| format!("{round} {n}")).collect();
        let before = all.len();
        send(
            broker.bootstrap(),
            "kills",
            values.iter().map(String::as_bytes),
        );
        all.extend(values);
        let daemon = Daemon::start(
            dir.path(),
            broker.bootstrap(),
            std::slice::from_ref(&config),
        );
        // Killed while lines arrive, but for the last round.
        until("lines in the file", || {
            let there = lines(&to).len();
            let enough = if round + 1 == ROUNDS {
                there >= all.len()
            } else {
                there > before
            };
            enough.then_some(())
        });
        daemon.kill();
    }
    let mut got = lines(&to);
    for partition in 0..2 {
        let of = |list: &[String]| -> Vec<String> {
            let mine = |line: &&String| {
                line.rsplit(' ').next().unwrap().parse::<usize>().unwrap() % 2 == partition
            };
            list.iter().filter(mine).cloned().collect()
        };
        assert_eq!(of(&got), of(&all), "in order, per partition");
    }
    got.sort();
    all.sort();
    assert_eq!(got, all);
}

#[test]
fn file_connectors_are_jobs_of_the_daemon() {
    let of = |pairs: &[(&str, &str)]| {
        let pairs = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        connect::job(&pairs.collect(), &defaults())
    };
    let source = [
        ("name", "s"),
        ("connector.class", "FileStreamSource"),
        ("file", "/tmp/x"),
        ("topic", "t"),
    ];
    assert!(matches!(of(&source), Ok(Job::FileSource(_))));
    let sink = [
        ("name", "s"),
        ("connector.class", "FileStreamSinkConnector"),
        ("file", "/tmp/x"),
        ("topics", "t,u"),
    ];
    assert!(matches!(of(&sink), Ok(Job::FileSink(_))));
    for (key, value) in [
        ("file", ""),
        ("topic", "a b"),
        ("transforms", "x"),
        ("exactly.once.support", "required"),
        (
            "value.converter",
            "org.apache.kafka.connect.converters.ByteArrayConverter",
        ),
    ] {
        let mut pairs = source.to_vec();
        pairs.retain(|(k, _)| *k != key);
        pairs.push((key, value));
        let problems = of(&pairs).expect_err(key);
        assert!(
            problems.iter().any(|p| p.is_error() && p.key == key),
            "{key}: {problems:?}"
        );
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let file = dir.path().join("source.properties");
    std::fs::write(
        &file,
        "name=s\nconnector.class=FileStreamSource\nfile=x\ntopic=t\n",
    )
    .expect("written");
    let output = weir(&["check", file.to_str().expect("utf-8")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("runs in the daemon only"));
}
