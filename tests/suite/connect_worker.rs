//! A real Apache Kafka Connect worker with the file connectors, and a Weir daemon: the Connect script and the clients
//! run against both.
//!
//! A pair for each test, on the shared broker, ended with it: the script leaves connectors behind whose names a real
//! worker cannot delete, and lists show what others made.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use weir::kafka::testkit::Admin;
use weir::kafka::{Outgoing, Producer};

use crate::brokers::{self, DEADLINE, Held, tail, until};
use crate::connect_http as http;

/// Records in each partition of the topic to read from.
pub const RECORDS: usize = 6;
pub const PARTITIONS: i32 = 2;

pub struct Host {
    pub addr: SocketAddr,
    process: Held,
    dir: tempfile::TempDir,
}

impl Host {
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    fn ready(self, what: &str) -> Host {
        until(what, || {
            let log = || fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(self.process.alive(), "{what} ended: {}", tail(&log()));
            let answer = http::ask(self.addr, "GET", "/health", &[], None).ok()?;
            (answer.json()["status"] == "healthy").then_some(())
        });
        self
    }
}

/// A new worker and a new daemon; `None` where they cannot run. `tag` is the worker's group.
pub fn both(tag: &str) -> Option<[Host; 2]> {
    Some([worker(tag)?, daemon()?])
}

fn worker(tag: &str) -> Option<Host> {
    let broker = brokers::kafka()?;
    let jars = brokers::jars("kafka")?;
    let dir = tempfile::tempdir().expect("directory");
    let plugins = dir.path().join("plugins");
    fs::create_dir(&plugins).expect("plugins");
    // A plugin on both paths would be listed twice.
    let (mut path, mut files) = (Vec::new(), 0);
    for entry in fs::read_dir(&jars).expect("jars") {
        let jar = entry.expect("entry").path();
        let name = jar.file_name().unwrap_or_default().to_owned();
        if name.to_string_lossy().starts_with("connect-file-") {
            std::os::unix::fs::symlink(&jar, plugins.join(name)).expect("link");
            files += 1;
        } else {
            path.push(jar.display().to_string());
        }
    }
    assert_eq!(files, 1, "connect-file is fetched");
    let (port, _) = brokers::free_ports();
    let properties = dir.path().join("worker.properties");
    let text = format!(
        "bootstrap.servers={}\ngroup.id={tag}\nlisteners=http://127.0.0.1:{port}\n\
         rest.advertised.host.name=127.0.0.1\nrest.advertised.port={port}\nplugin.path={}\n\
         config.storage.topic={tag}-configs\noffset.storage.topic={tag}-offsets\n\
         status.storage.topic={tag}-status\nconfig.storage.replication.factor=1\n\
         offset.storage.replication.factor=1\nstatus.storage.replication.factor=1\n\
         offset.storage.partitions=1\nstatus.storage.partitions=1\n\
         key.converter=org.apache.kafka.connect.storage.StringConverter\n\
         value.converter=org.apache.kafka.connect.storage.StringConverter\n\
         offset.flush.interval.ms=500\nscheduled.rebalance.max.delay.ms=0\n",
        broker.bootstrap(),
        plugins.display(),
    );
    fs::write(&properties, text).expect("worker.properties");
    let mut command = Command::new("java");
    command
        .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m"])
        .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"])
        .arg(path.join(":"))
        .arg("org.apache.kafka.connect.cli.ConnectDistributed")
        .arg(&properties);
    Some(start(dir, &command, port).ready("a Connect worker"))
}

fn start(dir: tempfile::TempDir, command: &Command, port: u16) -> Host {
    let log = File::create(dir.path().join("log")).expect("log");
    let err = log.try_clone().expect("log");
    Host {
        addr: SocketAddr::from(([127, 0, 0, 1], port)),
        process: Held::start(command, Stdio::from(log), Stdio::from(err)),
        dir,
    }
}

/// A daemon on a directory of its own.
fn daemon() -> Option<Host> {
    let (port, _) = brokers::free_ports();
    let broker = brokers::kafka()?;
    let dir = tempfile::tempdir().expect("directory");
    let config = dir.path().join("worker.toml");
    let text = format!(
        "\"bootstrap.servers\" = \"{}\"\n\"rest.listen\" = \"127.0.0.1:{port}\"\n\
         \"data.dir\" = \"{1}/data\"\n\"plugin.path\" = \"{1}/plugins\"\n\"rest.files.roots\" = \"{2}\"\n",
        broker.bootstrap(),
        dir.path().display(),
        // Scripts and clients have directories of their own there.
        std::env::temp_dir().display(),
    );
    fs::write(&config, text).expect("worker.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("daemon").arg(&config);
    Some(start(dir, &command, port).ready("weir daemon"))
}

/// What the script and the clients read from and write to: `<tag>-in` with records, `<tag>-out` empty, and a file.
pub fn furnish(tag: &str, dir: &Path) {
    let broker = brokers::kafka().expect("a broker");
    let admin = Admin::connect(broker.bootstrap()).expect("admin");
    let read = format!("{tag}-in");
    admin.create_topic(&read, PARTITIONS, &[]).expect("topic");
    (admin.create_topic(&format!("{tag}-out"), 1, &[])).expect("topic");
    let cluster = broker.cluster();
    until("the topic's partitions", || {
        let topic = cluster.describe(&read).ok()?;
        (topic.partitions.len() == PARTITIONS as usize).then_some(())
    });
    let producer = Producer::open(&broker.props(tag)).expect("producer");
    for partition in 0..PARTITIONS {
        for i in 0..RECORDS {
            let value = format!("value {i}");
            let out = Outgoing {
                value: Some(value.as_bytes()),
                partition: Some(partition),
                ..Outgoing::default()
            };
            producer.send(&read, out).expect("send");
        }
    }
    producer.flush(DEADLINE).expect("flush");
    let lines: String = (1..=7).map(|i| format!("line number {i}\n")).collect();
    fs::write(dir.join("in.txt"), lines).expect("in.txt");
}

/// One answer's body, as JSON.
pub fn get(host: &Host, target: &str) -> Value {
    let answer = http::ask(host.addr, "GET", target, &[], None).expect("an answer");
    answer.json()
}
