//! kill -9 of the daemon while clients change connectors over REST: whatever was acknowledged is there after the restart,
//! a change without an answer is there whole or not at all, and no row is lost or doubled.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use weir::kafka::testkit::Admin;

use crate::brokers::{self, Held, tail, until};
use crate::connect_http as http;
use crate::connect_worker::furnish;
use crate::swap_rig::{Load, Rig, produce};

const KILLS: usize = 12;
const CLIENTS: u64 = 4;
/// Acknowledged changes between two kills, at least and at most.
const BETWEEN: std::ops::Range<u64> = 10..60;
const TAG: &str = "restkill";
const TOPIC: &str = "restkill-numbers";
const PARTITIONS: i32 = 2;

/// A daemon on one directory and one port, killed and started again.
struct Daemon {
    dir: tempfile::TempDir,
    addr: SocketAddr,
    process: Option<Held>,
}

impl Daemon {
    /// `roots`: what its configs may name beside its own directory.
    fn new(bootstrap: &str, roots: [&Path; 2]) -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        let (port, _) = brokers::free_ports();
        let config = format!(
            "\"bootstrap.servers\" = \"{bootstrap}\"\n\"rest.listen\" = \"127.0.0.1:{port}\"\n\
             \"rest.max.rate\" = 100000\n\"data.dir\" = \"{0}/data\"\n\"rest.files.roots\" = [\"{0}\", \"{1}\", \"{2}\"]\n\
             \"plugin.cache\" = \"{3}/../plugins-test/cache\"\n",
            dir.path().display(),
            roots[0].display(),
            roots[1].display(),
            crate::world::plugins_dir().display(),
        );
        fs::write(dir.path().join("worker.toml"), config).unwrap();
        let mut daemon = Daemon {
            dir,
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
            process: None,
        };
        daemon.start();
        daemon
    }

    fn start(&mut self) {
        let log = self.dir.path().join("log");
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
        command
            .arg("daemon")
            .arg(self.dir.path().join("worker.toml"));
        let process = Held::start(&command, Stdio::null(), log.into());
        until("a daemon that answers", || {
            assert!(process.alive(), "{}", self.said());
            healthy(self.addr).then_some(())
        });
        self.process = Some(process);
    }

    fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill();
        // Until then its lock may hold.
        until("its end", || (!process.alive()).then_some(()));
    }

    fn said(&self) -> String {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        tail(&log).to_owned()
    }
}

fn healthy(addr: SocketAddr) -> bool {
    let answer = http::ask(addr, "GET", "/health", &[], None);
    answer.is_ok_and(|answer| answer.status == 200)
}

/// What one connector should be: its config, its target, and its offset where one was set while it was stopped.
#[derive(Clone, Debug, PartialEq)]
struct Wanted {
    config: BTreeMap<String, String>,
    target: &'static str,
    offset: Option<i64>,
}

/// One client with one connector that nobody else touches.
struct Client<'a> {
    addr: SocketAddr,
    name: String,
    dir: &'a std::path::Path,
    random: SmallRng,
    marks: u64,
    /// What holds, as far as it was acknowledged; two where the last change had no answer.
    may_be: Vec<Option<Wanted>>,
    acknowledged: &'a AtomicU64,
    /// Changes that had no answer.
    unknown: u64,
}

/// What is sent, and what holds if it is done.
struct Change {
    method: &'static str,
    path: String,
    body: Option<Value>,
    then: Option<Wanted>,
}

impl Client<'_> {
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Option<http::Answer> {
        let body = body.map(ToString::to_string);
        let body = body.as_ref().map(|body| body.as_bytes());
        let answer = http::ask(self.addr, method, path, &[], body).ok()?;
        (answer.status != 0).then_some(answer)
    }

    fn config(&mut self) -> BTreeMap<String, String> {
        self.marks += 1;
        let file = self.dir.join(format!("{}.txt", self.name));
        let pairs = [
            ("name", self.name.clone()),
            ("connector.class", "FileStreamSink".to_owned()),
            ("topics", format!("{TAG}-in")),
            ("file", file.display().to_string()),
            ("made.up.mark", self.marks.to_string()),
        ];
        pairs.map(|(k, v)| (k.to_owned(), v)).into()
    }

    fn change(&mut self, now: Option<Wanted>) -> Change {
        let at = format!("/connectors/{}", self.name);
        let Some(now) = now else {
            let config = self.config();
            let target = ["RUNNING", "PAUSED", "STOPPED"][self.random.random_range(0..3)];
            let body = json!({ "name": self.name, "config": config, "initial_state": target });
            return Change {
                method: "POST",
                path: "/connectors".to_owned(),
                body: Some(body),
                then: Some(Wanted {
                    config,
                    target,
                    offset: None,
                }),
            };
        };
        let to = |target: &'static str| {
            Some(Wanted {
                target,
                offset: now
                    .offset
                    .filter(|_| target == "STOPPED" && now.target == "STOPPED"),
                ..now.clone()
            })
        };
        let (method, below, body, then) = match self.random.random_range(0..12) {
            0 | 1 => {
                let config = self.config();
                let body = json!(config);
                ("PUT", "/config", Some(body), Some(Wanted { config, ..now }))
            }
            2..=4 => {
                self.marks += 1;
                let mark = self.marks.to_string();
                let body = json!({ "made.up.mark": mark, "made.up.gone": null });
                let mut config = now.config.clone();
                config.insert("made.up.mark".to_owned(), mark);
                (
                    "PATCH",
                    "/config",
                    Some(body),
                    Some(Wanted { config, ..now }),
                )
            }
            5 => ("PUT", "/pause", None, to("PAUSED")),
            6 => ("PUT", "/resume", None, to("RUNNING")),
            7 | 8 => ("PUT", "/stop", None, to("STOPPED")),
            9 => ("DELETE", "", None, None),
            _ if now.target == "STOPPED" => {
                let offset = self.random.random_range(0..6);
                let partition = json!({ "kafka_topic": format!("{TAG}-in"), "kafka_partition": 0 });
                let body = json!({ "offsets": [
                    { "partition": partition, "offset": { "kafka_offset": offset } }
                ] });
                let then = Wanted {
                    offset: Some(offset),
                    ..now
                };
                ("PATCH", "/offsets", Some(body), Some(then))
            }
            _ => ("PUT", "/stop", None, to("STOPPED")),
        };
        Change {
            method,
            path: format!("{at}{below}"),
            body,
            then,
        }
    }

    /// One change; what has no answer is looked up as soon as there is a daemon again.
    fn step(&mut self) {
        if self.may_be.len() > 1 {
            self.settle();
            return;
        }
        let now = self.may_be.first().cloned().flatten();
        let change = self.change(now.clone());
        match self.ask(change.method, &change.path, change.body.as_ref()) {
            Some(answer) if (200..300).contains(&answer.status) => {
                self.may_be = vec![change.then];
                self.acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            // Not drained yet.
            Some(answer) if answer.status == 400 && change.path.ends_with("/offsets") => {}
            Some(answer) if answer.status == 409 || answer.status == 503 => {}
            Some(answer) => {
                let (method, path) = (change.method, change.path);
                panic!(
                    "{method} {path} of {now:?}: {} {}",
                    answer.status,
                    answer.text()
                );
            }
            None => {
                self.unknown += 1;
                self.may_be = vec![now, change.then];
            }
        }
    }

    /// What holds must be one of what may be.
    fn settle(&mut self) {
        until("a daemon", || healthy(self.addr).then_some(()));
        // It may be killed again at any moment.
        let Some(seen) = self.seen() else { return };
        let fits = |wanted: &Option<Wanted>| match (&seen, wanted) {
            (None, None) => true,
            (Some(seen), Some(wanted)) => {
                let offset = wanted.offset.is_none() || wanted.offset == seen.offset;
                seen.config == wanted.config && seen.target == wanted.target && offset
            }
            _ => false,
        };
        let found: Vec<Option<Wanted>> = self.may_be.iter().filter(|w| fits(w)).cloned().collect();
        assert!(!found.is_empty(), "{seen:#?} is none of {:#?}", self.may_be);
        self.may_be = vec![found[0].clone()];
    }

    /// `None` where the daemon went away meanwhile; `Some(None)`: there is no such connector.
    fn seen(&self) -> Option<Option<Wanted>> {
        let config = self.ask("GET", &format!("/connectors/{}/config", self.name), None)?;
        if config.status == 404 {
            let status = self.ask("GET", &format!("/connectors/{}/status", self.name), None)?;
            assert_eq!(status.status, 404, "no config, but a status");
            return Some(None);
        }
        // On the way to its target it shows other states.
        let path = format!("/connectors/{}/status", self.name);
        let target = until("a state that stays", || {
            let Some(status) = self.ask("GET", &path, None) else {
                return Some(None);
            };
            let state = status.json()["connector"]["state"].clone();
            let target = ["RUNNING", "PAUSED", "STOPPED"];
            target.into_iter().find(|t| state == *t).map(Some)
        })?;
        let offsets = self.ask("GET", &format!("/connectors/{}/offsets", self.name), None)?;
        let offsets = offsets.json();
        let first = offsets["offsets"].as_array().into_iter().flatten();
        let mut first = first.filter(|o| o["partition"]["kafka_partition"] == 0);
        Some(Some(Wanted {
            config: serde_json::from_slice(&config.body).expect("a flat map"),
            target,
            offset: first
                .next()
                .and_then(|o| o["offset"]["kafka_offset"].as_i64()),
        }))
    }
}

/// The pipeline's config as REST takes it.
fn flat(rig: &Rig, bootstrap: &str, rules: &str) -> Value {
    let dir = rig.dir.path().display();
    json!({
        "connector.class": "weir", "name": "numbers", "tasks.max": "2",
        "source.type": "kafka", "source.bootstrap.servers": bootstrap,
        "source.topics": TOPIC, "source.start": "earliest",
        "transforms": "flatten,rules",
        "transforms.flatten.type": "xml-flatten", "transforms.flatten.row-tag": "r",
        "transforms.flatten.columns": "n", "transforms.flatten.types.n": "int",
        "transforms.rules.type": "validate", "transforms.rules.rules": format!("{dir}/{rules}.toml"),
        "sink.type": "zone", "sink.url": format!("file:{dir}/zone"), "sink.table": "numbers",
        "sink.rotate.age": "200ms", "errors.tolerance": "all", "errors.dlq.type": "zone",
        "plugin.path": format!("{dir}/plugins"), "plugin.store": format!("{dir}/store"),
    })
}

/// Changes the rules, back and forth; says which were acknowledged last, and whether the very last had an answer.
struct Swapper<'a> {
    client: Client<'a>,
    rig: &'a Rig,
    swaps: &'a AtomicU64,
    /// What may be in force.
    in_force: Vec<&'static str>,
}

impl Swapper<'_> {
    fn step(&mut self) {
        let to = match self.in_force[0] {
            "low" => "high",
            _ => "low",
        };
        if self.in_force.len() > 1 {
            until("a daemon", || healthy(self.client.addr).then_some(()));
        }
        let rules = self.rig.path(&format!("{to}.toml"));
        let patch = json!({ "transforms.rules.rules": rules.display().to_string() });
        let path = "/connectors/numbers/config";
        let Some(patched) = self.client.ask("PATCH", path, Some(&patch)) else {
            return;
        };
        assert_eq!(patched.status, 200, "{}", patched.text());
        let swap = json!({ "reload": true, "force": true, "reason": "a test", "wait_ms": 5000 });
        match self
            .client
            .ask("POST", "/pipelines/numbers/swap", Some(&swap))
        {
            Some(answer) if answer.status == 200 => {
                self.in_force = vec![to];
                self.swaps.fetch_add(1, Ordering::SeqCst);
                self.client.acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            // It starts again, or somebody was faster: ask once more.
            Some(answer) if matches!(answer.status, 409 | 500 | 503) => {
                self.in_force = vec![self.in_force[0], to];
            }
            Some(answer) => panic!("swap: {} {}", answer.status, answer.text()),
            None => self.in_force = vec![self.in_force[0], to],
        }
        let now = self.rig.in_force();
        assert!(
            self.in_force.contains(&now),
            "{now}, not {:?}",
            self.in_force
        );
        self.in_force = vec![now];
    }
}

/// True once dropped, by a failed assertion too.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn what_was_acknowledged_survives_kills_under_rest_load() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let files = tempfile::tempdir().unwrap();
    furnish(TAG, files.path());
    let admin = Admin::connect(broker.bootstrap()).unwrap();
    admin.create_topic(TOPIC, PARTITIONS, &[]).unwrap();
    let rig = Rig::new(broker.bootstrap(), TOPIC, PARTITIONS, "");
    produce(&rig, 0..1);
    let mut daemon = Daemon::new(broker.bootstrap(), [rig.dir.path(), files.path()]);
    let (acknowledged, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let swaps = AtomicU64::new(0);
    let client = |i: u64| Client {
        addr: daemon.addr,
        name: format!("{TAG}-{i}"),
        dir: files.path(),
        random: SmallRng::seed_from_u64(i),
        marks: 0,
        may_be: vec![None],
        acknowledged: &acknowledged,
        unknown: 0,
    };
    let create = json!({ "name": "numbers", "config": flat(&rig, broker.bootstrap(), "low") });
    let made = client(0).ask("POST", "/connectors", Some(&create)).unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    until("the first commit", || {
        let file = rig.path("zone/numbers");
        (!crate::brokers::files(&file, ".parquet").is_empty()).then_some(())
    });
    let mut clients: Vec<Client<'_>> = (1..=CLIENTS).map(client).collect();
    let mut swapper = Swapper {
        client: client(0),
        rig: &rig,
        swaps: &swaps,
        in_force: vec!["low"],
    };
    let load = Load::from(&rig, 1, 20, Duration::from_millis(10));
    let mut random = SmallRng::seed_from_u64(42);
    std::thread::scope(|scope| {
        // What fails here ends the other threads, too.
        let ended = Ended(&done);
        let done = &done;
        for client in &mut clients {
            scope.spawn(move || {
                let _ended = Ended(done);
                while !done.load(Ordering::SeqCst) {
                    client.step();
                }
            });
        }
        let swapper = &mut swapper;
        scope.spawn(move || {
            let _ended = Ended(done);
            while !done.load(Ordering::SeqCst) {
                swapper.step();
            }
        });
        for round in 0..KILLS {
            // Every third kill waits for a swap too; the others come while one is under way.
            let swapped = swaps.load(Ordering::SeqCst) + u64::from(round % 3 == 0);
            let goal = acknowledged.load(Ordering::SeqCst) + random.random_range(BETWEEN);
            until("changes", || {
                assert!(!done.load(Ordering::SeqCst), "a client failed");
                let enough = acknowledged.load(Ordering::SeqCst) >= goal;
                (enough && swaps.load(Ordering::SeqCst) >= swapped).then_some(())
            });
            daemon.kill();
            daemon.start();
        }
        drop(ended);
    });
    let messages = load.end();
    // Once more, with nobody asking for anything: all is as acknowledged.
    daemon.kill();
    daemon.start();
    for client in &mut clients {
        client.settle();
    }
    assert!(swapper.in_force.contains(&rig.in_force()));
    until("every message is settled and shown", || {
        let ends: i64 = rig.log().state().splits.values().map(|c| c.to).sum();
        let (shown, live) = rig.shown();
        (ends == messages && shown == live).then_some(())
    });
    daemon.kill();
    rig.exact(messages);
    let unknown: u64 = clients.iter().map(|client| client.unknown).sum();
    let changes = acknowledged.load(Ordering::SeqCst);
    assert!(unknown > 0, "no kill hit a request");
    let swaps = swaps.load(Ordering::SeqCst);
    assert!(swaps >= 4, "{swaps} swaps");
    println!(
        "{changes} changes acknowledged, {unknown} without an answer, {swaps} swaps, {messages} messages"
    );
}
