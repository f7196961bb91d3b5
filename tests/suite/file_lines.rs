//! Lines of files that grow, each once, whatever is killed: into a zone, and by FileStreamSource into a topic of Apache Kafka, with its
//! offsets.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use weir::clock::SystemClock;
use weir::connect::{Defaults, Offset};
use weir::daemon::{self, Job};
use weir::error::{Error, Kind};
use weir::filestream::{self, FileJob, FileSource};
use weir::pipeline::Stop;

use crate::brokers::{self, until};
use crate::file_connectors::Daemon;
use crate::file_rig::{Rig as Growing, lines, numbers};
use crate::kafka_sink_rig::Rig;
use crate::world::Told;

const KILLS: u64 = 8;
const LIFE: std::ops::Range<u64> = 200..1_500;
const SEED: u64 = 13;

fn job(rig: &Rig, more: &[(&str, &str)]) -> FileJob {
    let file = rig.path("in.txt");
    let mut pairs = vec![
        ("name", "lines"),
        ("connector.class", "FileStreamSource"),
        ("file", file.to_str().unwrap()),
        ("topic", &rig.output),
    ];
    pairs.extend(more);
    let pairs = pairs.iter();
    let pairs = pairs.map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let place = |name: &str| Some(rig.path(name));
    let defaults = Defaults {
        bootstrap_servers: Some(rig.bootstrap.clone()),
        plugin_path: Some(crate::world::plugins_dir()),
        plugin_store: place("store"),
        plugin_cache: place("cache"),
        homes: rig.path("homes"),
        ..Defaults::default()
    };
    match daemon::job_of(&pairs.collect(), &defaults).unwrap() {
        Job::File(job @ FileJob::Source(_)) => job,
        other => panic!("{other:?} is no source"),
    }
}

fn source(job: &FileJob) -> &FileSource {
    match job {
        FileJob::Source(source) => source,
        FileJob::Sink(sink) => panic!("{} is a sink", sink.name),
    }
}

/// Runs it until `done` or until it ends by itself; how it ended.
fn during(job: &FileJob, done: impl Fn() -> bool) -> Result<(), Error> {
    let clock = SystemClock::shared();
    let stop = Stop::new(clock.clone());
    let told = std::sync::Arc::<Told>::default();
    let configs = [source(job).pipeline.clone()];
    std::thread::scope(|scope| {
        let running =
            scope.spawn(|| weir::pipeline::run(&configs, &clock, &stop, &|_| told.clone()));
        until("what the connector was to do", || {
            (done() || running.is_finished()).then_some(())
        });
        stop.ask(Duration::from_secs(20));
        running.join().unwrap().pop().unwrap().result.map(drop)
    })
}

fn append(path: &Path, text: &str) {
    let file = File::options().create(true).append(true).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

fn position(job: &FileJob) -> Option<u64> {
    let offsets = filestream::offsets(job, Path::new("")).unwrap();
    let offset = offsets.first()?.offset.as_ref()?;
    offset["position"].as_u64()
}

fn go_to(job: &FileJob, offset: &serde_json::Value) -> Result<(), Error> {
    let wanted = json!([{ "partition": { "filename": source(job).filename }, "offset": offset }]);
    let wanted: Vec<Offset> = serde_json::from_value(wanted).unwrap();
    filestream::alter(job, Path::new(""), &wanted)
}

fn sent(rig: &Rig, least: usize) -> Vec<String> {
    let records = rig.read(&rig.output, least).into_iter();
    records.map(|record| record.value.unwrap()).collect()
}

#[test]
fn lines_are_in_the_topic_once_over_kills_of_the_daemon() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let rig = Rig::new(broker, "lines", 1);
    let from = rig.path("in.txt");
    let config = rig.path("source.json");
    let text = json!({ "name": "lines", "config": {
        "connector.class": "FileStreamSource", "file": from, "topic": rig.output,
        "exactly.once.support": "required",
    }});
    fs::write(&config, text.to_string()).unwrap();
    let clock = SystemClock::shared();
    let mut rng = SmallRng::seed_from_u64(SEED);
    let mut all = Vec::new();
    for round in 0..=KILLS {
        let daemon = Daemon::start(
            rig.dir.path(),
            &rig.bootstrap,
            std::slice::from_ref(&config),
        );
        let life = Duration::from_millis(rng.random_range(LIFE));
        let end = clock.elapsed() + life;
        while clock.elapsed() < end {
            let line = format!("{round} {}", all.len());
            // Half a line is there for a moment, and perhaps for a kill.
            let (a, b) = line.split_at(2);
            append(&from, a);
            clock.sleep(Duration::from_millis(3));
            append(&from, &format!("{b}\n"));
            all.push(line);
        }
        if round < KILLS {
            daemon.kill();
            continue;
        }
        let got = sent(&rig, all.len());
        assert_eq!(got, all, "each once, and in order");
    }
}

#[test]
fn offsets_are_shown_and_set_in_connects_form() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let rig = Rig::new(broker, "positions", 1);
    let (from, old) = (rig.path("in.txt"), rig.path("in.txt.1"));
    let converter = "org.apache.kafka.connect.json.JsonConverter";
    let keys = [("value.converter", converter), ("batch.size", "2")];
    let job = job(&rig, &keys);
    assert_eq!(position(&job), None);
    // The file comes later, grows, and its last line has no end yet.
    during(&job, || {
        if !from.exists() {
            append(&from, "eins\nzwei \"2\"\n\ndrei");
        }
        position(&job) == Some(15)
    })
    .unwrap();
    append(&from, "!\r\nvier\n");
    during(&job, || position(&job) == Some(27)).unwrap();
    let envelope = |text: &str| {
        let text = serde_json::Value::from(text);
        format!("{{\"schema\":{{\"type\":\"string\",\"optional\":false}},\"payload\":{text}}}")
    };
    let want = ["eins", "zwei \"2\"", "", "drei!", "vier"].map(envelope);
    assert_eq!(sent(&rig, 5), want);
    // Back and forth, exactly as asked.
    go_to(&job, &json!({ "position": 23 })).unwrap();
    assert_eq!(position(&job), Some(23));
    append(&from, "five\n");
    during(&job, || position(&job) == Some(32)).unwrap();
    assert_eq!(sent(&rig, 7)[5..], ["ier", "five"].map(envelope));
    for bad in [
        json!({ "position": "20" }),
        json!({ "position": -1 }),
        json!({}),
    ] {
        let error = go_to(&job, &bad).unwrap_err();
        assert_eq!(error.kind(), Kind::ConfigInvalid, "{bad}");
    }
    // Cut, as logrotate's copytruncate does it: it stops until somebody says where to go on.
    fs::write(&from, "anew\n").unwrap();
    let error = during(&job, || false).unwrap_err();
    assert_eq!(error.kind(), Kind::SourceLost, "{error}");
    filestream::reset(&job, Path::new("")).unwrap();
    assert_eq!(position(&job), None);
    during(&job, || position(&job) == Some(5)).unwrap();
    // Renamed while nobody reads: its end first.
    append(&from, "last\n");
    fs::rename(&from, &old).unwrap();
    append(&from, "new\n");
    during(&job, || position(&job) == Some(4)).unwrap();
    let got = sent(&rig, 10);
    assert_eq!(got[7..], ["anew", "last", "new"].map(envelope));
}

#[test]
fn keys_of_connect_become_keys_of_the_pipeline() {
    let defaults = Defaults {
        bootstrap_servers: Some("localhost:1".to_owned()),
        homes: "/data/lines".into(),
        ..Defaults::default()
    };
    let of = |more: &[(&str, &str)]| {
        let mut pairs = vec![
            ("name", "s"),
            ("connector.class", "FileStreamSource"),
            ("file", "/var/log/a[1],b.log"),
            ("topic", "t"),
        ];
        pairs.extend(more);
        let pairs = pairs.iter();
        let pairs = pairs.map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        match daemon::job_of(&pairs.collect(), &defaults) {
            Ok(Job::File(job @ FileJob::Source(_))) => Ok(source(&job).pipeline.canonical()),
            Ok(other) => panic!("{other:?}"),
            Err(problems) => Err(problems),
        }
    };
    let native = of(&[
        ("batch.size", "7"),
        ("producer.override.message.max.bytes", "2000000"),
        ("producer.override.linger.ms", "9"),
        (
            "value.converter",
            "org.apache.kafka.connect.json.JsonConverter",
        ),
        ("value.converter.schemas.enable", "false"),
    ])
    .unwrap();
    for (key, value) in [
        ("source.url", "file:/var/log"),
        ("source.path", "a[[]1[]],b.log"),
        ("source.follow", "true"),
        ("source.topic", "t"),
        ("batch.max.rows", "7"),
        ("sink.url", "file:/data/lines/s"),
        ("sink.topic.name", "t"),
        ("sink.value.format", "json-string"),
        ("sink.record.max.bytes", "2000000B"),
        ("sink.kafka.linger.ms", "9"),
    ] {
        assert_eq!(native.get(key).map(String::as_str), Some(value), "{key}");
    }
    // What the pipeline does not take is told under the name that was typed.
    let problems = of(&[("producer.override.message.max.bytes", "1001")]).unwrap_err();
    assert_eq!(problems[0].key, "producer.override.message.max.bytes");
}

/// `source.follow` into a zone, the whole program: kills while lines come, a rotation while it runs and one while it does not.
#[test]
fn lines_of_files_that_grow_are_rows_once_over_kills_and_rotations() {
    let rig = Growing::new(
        "source.format = \"jsonl\"\nsource.follow = true\nsource.path = \"*.log\"\n",
        "tasks.max = 2\n",
    );
    rig.replace("source.settle.time = \"0s\"\n", "");
    let at = |name: &str| rig.path("in").join(name);
    let clock = SystemClock::shared();
    let mut rng = SmallRng::seed_from_u64(SEED);
    let mut written = 0;
    let mut add = |file: &mut File| {
        let line = lines(written, written + 1);
        written += 1;
        let (a, b) = line.split_at(4);
        file.write_all(a.as_bytes()).unwrap();
        clock.sleep(Duration::from_millis(2));
        file.write_all(b.as_bytes()).unwrap();
        written
    };
    let open = |name: &str| {
        let file = File::options().create(true).append(true).open(at(name));
        file.unwrap()
    };
    let has = |count: usize| {
        until("the rows", || {
            let log = rig.log()?;
            (log.state().totals().rows.written == count as u64).then_some(())
        });
    };
    let (mut a, mut b) = (open("a.log"), open("b.log"));
    for round in 0..6 {
        let mut child = rig.spawn();
        let many = rng.random_range(20..200);
        for _ in 0..many {
            add(&mut a);
            add(&mut b);
        }
        match round {
            // While it runs. The writer has the old file open for a while.
            1 => {
                has(add(&mut a));
                fs::rename(at("a.log"), at("a.log.1")).unwrap();
                add(&mut a);
                a = open("a.log");
                has(add(&mut a));
            }
            // While nobody reads, and there is more in the old file.
            3 => {
                has(add(&mut a));
                child.crash();
                add(&mut a);
                fs::rename(at("a.log"), at("a.log.2")).unwrap();
                a = open("a.log");
                add(&mut a);
                continue;
            }
            _ => {}
        }
        child.crash();
    }
    rig.run();
    assert_eq!(numbers(&rig.texts()), (0..written).collect::<Vec<_>>());
    for name in ["a.log", "b.log"] {
        let of = rig.values().into_iter().filter(|(file, _)| file == name);
        let of: Vec<String> = of.map(|(_, text)| text).collect();
        let mut sorted = of.clone();
        sorted.sort_by_key(|text| numbers(std::slice::from_ref(text)));
        assert_eq!(of, sorted, "{name}: in order");
    }
}

/// What a connector could not go on with is refused when it is asked for, and named: a byte behind the file's end, a file in another
/// directory.
#[test]
fn what_a_file_cannot_be_read_from_is_refused_by_the_request() {
    let mut rig = crate::daemon_rig::Rig::new(&["t"]);
    let daemon = rig.start(&[]);
    let (here, there) = (rig.path("in.txt"), rig.path("other/in.txt"));
    fs::create_dir(rig.path("other")).unwrap();
    for file in [&here, &there] {
        append(file, "eins\n");
    }
    let config = |file: &Path| {
        json!({
            "connector.class": "FileStreamSource", "file": file, "topic": "t",
            "producer.override.bootstrap.servers": rig.broker.bootstrap()
        })
    };
    let new = json!({ "name": "s", "config": config(&here), "initial_state": "STOPPED" });
    let made = daemon.ask("POST", "/connectors", Some(&new));
    assert_eq!(made.status, 201, "{}", made.text());
    let go_to = |position: u64| {
        let one = json!({ "partition": { "filename": here }, "offset": { "position": position } });
        let offsets = json!({ "offsets": [one] });
        until("an answer", || {
            let answer = daemon.ask("PATCH", "/connectors/s/offsets", Some(&offsets));
            (answer.status != 409).then_some(answer)
        })
    };
    let refused = go_to(6);
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(
        refused.text().contains("in.txt has 5 bytes"),
        "{}",
        refused.text()
    );
    assert_eq!(go_to(5).status, 200);
    let refused = daemon.ask("PUT", "/connectors/s/config", Some(&config(&there)));
    assert_eq!(refused.status, 400, "{}", refused.text());
    for part in ["file: this pipeline reads", "another name"] {
        assert!(refused.text().contains(part), "{part}: {}", refused.text());
    }
    assert_eq!(
        daemon.get("/connectors/s/config")["file"],
        here.to_str().unwrap()
    );
    let beside = rig.path("beside.txt");
    let taken = daemon.ask("PUT", "/connectors/s/config", Some(&config(&beside)));
    assert_eq!(taken.status, 200, "{}", taken.text());
}
