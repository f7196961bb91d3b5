//! The file sink writes records as lines, over kills of the daemon; configs of both file connectors. The file source is in
//! `file_lines`.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use weir::connect::{Defaults, Offset};
use weir::daemon::{self, Job};
use weir::error::Kind;
use weir::filestream::{self, FileContext, FileJob, FileSink};
use weir::kafka::MockBroker;

use crate::brokers::until;
use crate::convert::{defaults, weir};
use crate::convert_run::send;
use crate::world::{World, plugins_dir};

fn job(pairs: &[(&str, &str)], bootstrap: &str) -> FileJob {
    let pairs = pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let defaults = Defaults {
        bootstrap_servers: Some(bootstrap.to_owned()),
        ..Defaults::default()
    };
    match daemon::job_of(&pairs.collect(), &defaults).unwrap() {
        Job::File(job) => job,
        Job::Pipeline(config) => panic!("{config:?} is a pipeline"),
    }
}

fn sink_of(job: &FileJob) -> &FileSink {
    match job {
        FileJob::Sink(sink) => sink,
        FileJob::Source(source) => panic!("{} is a source", source.name),
    }
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
fn during(world: &World, job: &FileJob, done: impl Fn() -> bool) {
    let ctx = context(world);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| filestream::run(sink_of(job), &ctx));
        world.until("what the connector was to do", || {
            done() || running.is_finished()
        });
        ctx.stop.ask(Duration::from_secs(20));
        running.join().unwrap().unwrap();
    });
    assert!(done());
}

const SIX: &[u8] = br#"{"schema":{"type":"string"},"payload":"six"}"#;

/// A sink of strings in JSON, from the topic `books`.
fn copy(world: &World, to: &Path) -> FileJob {
    job(
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
    )
}

#[test]
fn records_of_a_topic_become_lines_of_a_file() {
    let world = World::new(1);
    let to = world.path("out.txt");
    let sink = copy(&world, &to);
    let state = world.path("state");
    let texts = ["eins", "zwei \"2\"", "", "drei!", "vier"];
    let envelope =
        |text: &&str| json!({ "schema": { "type": "string" }, "payload": text }).to_string();
    let values: Vec<String> = texts.iter().map(envelope).collect();
    world.produce(values.iter().map(|value| (0, value.as_bytes())));
    during(&world, &sink, || lines(&to).len() == 5);
    assert_eq!(lines(&to), texts);
    let offsets = filestream::offsets(&sink, &state).unwrap();
    assert_eq!(
        serde_json::to_value(&offsets).unwrap(),
        json!([{"partition": {"kafka_topic": "books", "kafka_partition": 0}, "offset": {"kafka_offset": 5}}])
    );

    world.produce([(0, SIX)].into_iter());
    during(&world, &sink, || lines(&to).len() == 6);
    assert_eq!(lines(&to)[5], "six");

    // Back by a person's wish: the records behind come again.
    let wanted: Vec<Offset> = serde_json::from_value(json!([{"partition": {"kafka_topic": "books", "kafka_partition": "0"}, "offset": {"kafka_offset": 4}}])).unwrap();
    filestream::alter(&sink, &state, &wanted).unwrap();
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
            filestream::alter(&sink, &state, &wanted)
                .unwrap_err()
                .kind(),
            Kind::ConfigInvalid
        );
    }
    filestream::reset(&sink, &state).unwrap();
    assert!(filestream::offsets(&sink, &state).unwrap().is_empty());
    during(&world, &sink, || lines(&to).len() == 14);

    // Somebody cut the file: nothing is hidden.
    fs::write(&to, "").unwrap();
    let error = filestream::run(sink_of(&sink), &context(&world)).unwrap_err();
    assert_eq!(error.kind(), Kind::LogCorrupt);
    // As its hint says: begun anew.
    filestream::reset(&sink, &state).unwrap();
    during(&world, &sink, || lines(&to).len() == 6);
}

#[test]
fn only_lines_that_were_begun_and_not_accounted_for_are_cut() {
    let world = World::new(1);
    let to = world.path("out.txt");
    let sink = copy(&world, &to);
    let append = |line: &[u8]| {
        let file = File::options().create(true).append(true).open(&to);
        file.unwrap().write_all(line).unwrap();
    };
    let saved = world.path("state").join("copy.offsets.json");
    let begin = |bytes: u64| {
        let mut state: Value = serde_json::from_slice(&fs::read(&saved).unwrap()).unwrap();
        state["written"]["begun"] = bytes.into();
        fs::write(&saved, state.to_string()).unwrap();
    };
    let six = |want: &[&str]| {
        world.produce([(0, SIX)].into_iter());
        during(&world, &sink, || lines(&to) == want);
    };
    append(b"before\n");
    six(&["before", "six"]);
    // What others wrote while the sink did not run stays.
    append(b"of another\n");
    six(&["before", "six", "of another", "six"]);

    begin(30);
    append(b"never acknowledged\n");
    six(&["before", "six", "of another", "six", "six"]);

    // Nothing is written before it is saved that it is begun.
    let part = saved.with_extension("json.part");
    let ctx = context(&world);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| filestream::run(sink_of(&sink), &ctx));
        world.produce([(0, SIX)].into_iter());
        world.until("the sixth line", || lines(&to).len() == 6);
        world.until("a thing in the way", || fs::create_dir(&part).is_ok());
        world.produce([(0, SIX)].into_iter());
        running.join().unwrap().unwrap_err();
    });
    assert_eq!(lines(&to).len(), 6);
    fs::remove_dir(&part).unwrap();
    during(&world, &sink, || lines(&to).len() == 7);

    // More than was begun is not ours to cut.
    begin(18);
    append(b"never acknowledged\n");
    let error = filestream::run(sink_of(&sink), &context(&world)).unwrap_err();
    assert_eq!(error.kind(), Kind::LogCorrupt);
    assert!(error.to_string().contains("somebody else"), "{error}");
    assert_eq!(lines(&to).len(), 8);
    // What was begun is, also where the sink goes to another file.
    begin(19);
    let other = world.path("other.txt");
    let elsewhere = copy(&world, &other);
    world.produce([(0, SIX)].into_iter());
    during(&world, &elsewhere, || lines(&other) == ["six"]);
    assert_eq!(lines(&to).len(), 7);
    // A file that cannot be settled any more keeps nobody from going on to another.
    fs::remove_file(&other).unwrap();
    fs::create_dir(&other).unwrap();
    world.produce([(0, SIX)].into_iter());
    during(&world, &sink, || lines(&to).len() == 8);
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
        let error =
            filestream::run(sink_of(&config("none", "strict")), &context(&world)).unwrap_err();
        assert_eq!(error.kind(), Kind::RecordRefused);
        assert!(error.to_string().contains("books/0/1"), "{error}");
        assert_eq!(lines(&to), ["{a=1}"], "what came before it, once");
    }
    during(&world, &config("all", "tolerant"), || lines(&to).len() == 3);
    assert_eq!(lines(&to)[1..], ["{a=1}", "[true, null]"]);
}

/// A daemon of its own process.
pub struct Daemon(Child);

impl Daemon {
    pub fn start(dir: &Path, bootstrap: &str, configs: &[PathBuf]) -> Daemon {
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

    pub fn kill(mut self) {
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
        daemon::job_of(&pairs.collect(), &defaults())
    };
    let source = [
        ("name", "s"),
        ("connector.class", "FileStreamSource"),
        ("file", "/tmp/x"),
        ("topic", "t"),
    ];
    assert!(matches!(of(&source), Ok(Job::File(FileJob::Source(_)))));
    let sink = [
        ("name", "s"),
        ("connector.class", "FileStreamSinkConnector"),
        ("file", "/tmp/x"),
        ("topics", "t,u"),
    ];
    assert!(matches!(of(&sink), Ok(Job::File(FileJob::Sink(_)))));
    for (key, value) in [
        ("file", ""),
        ("topic", "a b"),
        ("transforms", "x"),
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
