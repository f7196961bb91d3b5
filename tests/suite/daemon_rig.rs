//! A `weir daemon` of this build on a directory of its own, asked over HTTP, and the broker that its pipelines read.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::{Value, json};
use weir::kafka::{KafkaProps, MockBroker, Outgoing, Producer};

use crate::brokers::{DEADLINE, until};
use crate::connect_http::{Answer, ask};
use crate::world::plugins_dir;

pub struct Rig {
    pub broker: MockBroker,
    pub dir: tempfile::TempDir,
    starts: usize,
}

/// Killed when dropped.
pub struct Running {
    child: Child,
    pub addr: SocketAddr,
}

impl Rig {
    pub fn new(topics: &[&str]) -> Rig {
        let broker = MockBroker::start().unwrap();
        for topic in topics {
            broker.create_topic(topic, 1).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("worker.toml"), "").unwrap();
        Rig {
            broker,
            dir,
            starts: 0,
        }
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    pub fn command(&self, set: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command.args(["daemon", "worker.toml", "--listen", "127.0.0.1:0"]);
        command.args(["--data-dir", "data", "--set", "log.format=json"]);
        command.args(["--set", "rest.max.rate=100000"]);
        let plugins = format!("plugin.path={}", plugins_dir().display());
        command.args(["--set", &plugins]);
        let cache = plugins_dir().join("../plugins-test/cache");
        command.args(["--set", &format!("plugin.cache={}", cache.display())]);
        command.args([
            "--set",
            &format!("plugin.store={}", self.path("store").display()),
        ]);
        for one in set {
            command.args(["--set", one]);
        }
        command
    }

    /// Where the log lines of the newest start are.
    pub fn log_path(&self) -> PathBuf {
        self.path(&format!("daemon-{}.log", self.starts))
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Started, and ready.
    pub fn start(&mut self, set: &[&str]) -> Running {
        let command = self.command(set);
        self.start_as(command)
    }

    pub fn start_as(&mut self, mut command: Command) -> Running {
        self.starts += 1;
        let log = File::create(self.log_path()).unwrap();
        command.stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().unwrap();
        let addr = until("a daemon that is ready", || {
            assert!(child.try_wait().unwrap().is_none(), "{}", self.log());
            let log = self.log();
            let ready = log.lines().find(|line| line.contains("daemon ready"))?;
            let line: Value = serde_json::from_str(ready).ok()?;
            line["address"].as_str()?.parse().ok()
        });
        Running { child, addr }
    }

    /// A config of a pipeline from `topic`; `more` overrides.
    pub fn config(&self, topic: &str, more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let url = format!("file:{}", self.path("zone").display());
        let mut map = BTreeMap::from([
            ("connector.class", "weir"),
            ("source.type", "kafka"),
            ("source.topics", topic),
            ("source.start", "earliest"),
            ("source.bootstrap.servers", self.broker.bootstrap()),
            ("sink.type", "zone"),
            ("sink.url", &url),
            ("sink.rotate.age", "100ms"),
        ]);
        let dead = format!("dead-{topic}");
        map.insert("errors.dlq.table", &dead);
        map.extend(more.iter().copied());
        let owned = map.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned()));
        owned.collect()
    }

    pub fn produce(&self, topic: &str, values: &[&str]) {
        let props = KafkaProps::new(self.broker.bootstrap(), "test", &BTreeMap::new()).unwrap();
        let producer = Producer::open(&props).unwrap();
        for value in values {
            let out = Outgoing {
                value: Some(value.as_bytes()),
                partition: Some(0),
                ..Outgoing::default()
            };
            producer.send(topic, out).unwrap();
        }
        producer.flush(DEADLINE).unwrap();
    }

    /// A file that everything may be appended to.
    pub fn journal(&self) -> File {
        let path = self.path("data/journal");
        OpenOptions::new().append(true).open(path).unwrap()
    }
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn try_ask(&self, method: &str, target: &str, body: Option<&Value>) -> Option<Answer> {
        let bytes = body.map(|body| body.to_string().into_bytes());
        ask(self.addr, method, target, &[], bytes.as_deref()).ok()
    }

    pub fn ask(&self, method: &str, target: &str, body: Option<&Value>) -> Answer {
        self.try_ask(method, target, body).expect("an answer")
    }

    /// The body of an answer that must be good.
    pub fn get(&self, target: &str) -> Value {
        let answer = self.ask("GET", target, None);
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        answer.json()
    }

    pub fn put_config(&self, name: &str, config: &BTreeMap<String, String>) -> Answer {
        let target = format!("/connectors/{name}/config");
        self.ask("PUT", &target, Some(&json!(config)))
    }

    pub fn state(&self, name: &str) -> String {
        let status = self.get(&format!("/connectors/{name}/status"));
        status["connector"]["state"]
            .as_str()
            .unwrap_or("")
            .to_owned()
    }

    /// The committed position of partition 0.
    pub fn position(&self, name: &str) -> Option<i64> {
        let offsets = self.get(&format!("/connectors/{name}/offsets"));
        offsets["offsets"][0]["offset"]["kafka_offset"].as_i64()
    }

    pub fn signal(&self, signal: i32) {
        let pid = self.pid().to_string();
        let kill = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(pid)
            .status();
        assert!(kill.unwrap().success());
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn wait(mut self) -> ExitStatus {
        until("the daemon's end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is as good.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
