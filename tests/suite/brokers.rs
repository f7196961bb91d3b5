//! Real servers for tests: Apache Kafka (one KRaft node) and DuckDB as an independent reader, both from Maven Central.
//!
//! Fetched once into `target/test-servers`, offline afterwards. Every process ends with the test process, however that
//! ends: a shell holds it and kills it when the pipe from us closes. Without java or mvn a test says what it skips, and
//! fails where `CI=true`.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use weir::kafka::{KafkaCluster, KafkaProps};

/// Everything here polls; nothing takes longer than this.
pub const DEADLINE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(10);
/// One name for every test cluster: 16 bytes in Kafka's base64.
const CLUSTER_ID: &str = "d2Vpci10ZXN0LWNsdXN0ZQ";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("root")
        .to_owned()
}

pub(crate) fn servers() -> PathBuf {
    let dir = root().join("target/test-servers");
    fs::create_dir_all(&dir).expect("target/test-servers");
    dir
}

/// Said aloud: what cannot be tested here.
pub(crate) fn skip(what: &str, why: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{what}: {why}"
    );
    eprintln!("SKIPPED: {what}: {why}");
}

fn has(tool: &str) -> bool {
    let out = Command::new(tool).arg("-version").output();
    out.is_ok_and(|out| out.status.success())
}

/// The jars of `tests/<name>/pom.xml`, fetched once.
pub(crate) fn jars(name: &str) -> Option<PathBuf> {
    static FETCH: Mutex<()> = Mutex::new(());
    let _one = FETCH.lock().unwrap_or_else(|e| e.into_inner());
    if !has("java") {
        skip(name, "no java on the PATH");
        return None;
    }
    let lock = File::create(servers().join(".lock")).expect("lock file");
    lock.lock().expect("another test process fetches");
    let pom = root().join("tests").join(name).join("pom.xml");
    let wanted = fs::read_to_string(&pom).expect("pom.xml");
    let dir = servers().join(name);
    let done = servers().join(format!("{name}.fetched"));
    if fs::read_to_string(&done).is_ok_and(|had| had == wanted) {
        return Some(dir);
    }
    if !has("mvn") {
        skip(name, "no mvn on the PATH to fetch its jars");
        return None;
    }
    if dir.exists() {
        fs::remove_dir_all(&dir).expect("old jars");
    }
    let out = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(&pom)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", dir.display()))
        .output()
        .expect("mvn");
    if !out.status.success() {
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        skip(name, &format!("mvn cannot fetch its jars: {text}"));
        return None;
    }
    fs::write(done, wanted).expect("mark");
    Some(dir)
}

fn java(jars: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("java");
    command
        .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"])
        .arg(jars.join("*"))
        .args(args);
    command
}

/// A process that dies when this value, or this whole process, does.
pub(crate) struct Held {
    shell: Child,
    pub pid: u32,
}

impl Held {
    /// `command`'s own stdin is empty; stdout and stderr are the shell's.
    pub fn start(command: &Command, out: Stdio, err: Stdio) -> Held {
        // cat ends when our end of the pipe closes; a background job of sh reads /dev/null.
        const HOLD: &str =
            r#"trap '' INT; "$@" & echo $! >&3; exec 3>&-; cat >/dev/null; kill -9 $!"#;
        let file = tempfile::NamedTempFile::new().expect("pid file");
        let shell = Command::new("sh")
            .arg("-c")
            .arg(format!("exec 3>'{}'; {HOLD}", file.path().display()))
            .arg("sh")
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("sh");
        let pid = until("the pid of a held process", || {
            let text = fs::read_to_string(file.path()).ok()?;
            text.strip_suffix('\n')?.parse().ok()
        });
        Held { shell, pid }
    }

    /// Until its last thread is gone: files and locks are held so long.
    pub fn alive(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.pid)) else {
            return false;
        };
        // A killed child of sh is a zombie until somebody waits for it: state Z.
        threads.flatten().any(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            let state = stat.rsplit(") ").next().and_then(|s| s.chars().next());
            state.is_some_and(|s| s != 'Z' && s != 'X')
        })
    }

    /// kill -9.
    pub fn kill(&mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().expect("sh");
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks until there is an answer; fails at the deadline.
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(DEADLINE, ask).unwrap_or_else(|| panic!("in vain: {what}"))
}

/// Asks until there is an answer or the time is over.
pub fn within<T>(time: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + time;
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() >= deadline {
            return answer;
        }
        std::thread::sleep(PAUSE);
    }
}

// === Apache Kafka ===

/// One broker with its own directory and ports.
pub struct Broker {
    jars: PathBuf,
    dir: tempfile::TempDir,
    bootstrap: String,
    ports: (u16, u16),
    process: Option<Held>,
}

/// What a broker has beside its plaintext listener.
#[derive(Default)]
pub struct More {
    /// Name, security protocol and port, each on `localhost`.
    pub listeners: Vec<(&'static str, &'static str, u16)>,
    /// Of `server.properties`.
    pub lines: String,
}

/// The broker that all tests of this process share; `None` where it cannot run.
pub fn kafka() -> Option<&'static Broker> {
    static SHARED: OnceLock<Option<Broker>> = OnceLock::new();
    SHARED.get_or_init(own_kafka).as_ref()
}

/// A broker for one test, to be killed and started again.
pub fn own_kafka() -> Option<Broker> {
    own_kafka_with(&More::default())
}

pub fn own_kafka_with(more: &More) -> Option<Broker> {
    let jars = jars("kafka")?;
    let formatted = formatted(&jars);
    let dir = tempfile::tempdir().expect("broker directory");
    let logs = dir.path().join("logs");
    copy(&formatted, &logs);
    let ports = free_ports();
    let mut broker = Broker {
        jars,
        dir,
        bootstrap: format!("127.0.0.1:{}", ports.0),
        ports,
        process: None,
    };
    broker.configure(more);
    broker.start();
    Some(broker)
}

impl Broker {
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Without overrides; the group is for mirrored offsets.
    pub fn props(&self, group: &str) -> KafkaProps {
        KafkaProps::new(&self.bootstrap, group, &BTreeMap::new()).expect("props")
    }

    pub fn cluster(&self) -> KafkaCluster {
        KafkaCluster::connect(&self.props("tests")).expect("cluster")
    }

    /// For the next start.
    pub fn configure(&self, more: &More) {
        let text = config(&self.dir.path().join("logs"), self.ports, more);
        fs::write(self.dir.path().join("server.properties"), text).expect("server.properties");
    }

    /// kill -9; its directory and ports stay.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it and waits until it answers.
    pub fn start(&mut self) {
        let log = File::create(self.dir.path().join("broker.log")).expect("log");
        let err = log.try_clone().expect("log");
        let config = self.dir.path().join("server.properties");
        let config = config.to_str().expect("utf-8");
        let command = java(&self.jars, &["-Xmx256m", "kafka.Kafka", config]);
        let process = Held::start(&command, log.into(), err.into());
        let props = self.props("ready");
        until("a broker that answers", || {
            assert!(process.alive(), "the broker ended: {}", self.log());
            KafkaCluster::connect(&props).ok()
        });
        self.process = Some(process);
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(self.dir.path().join("broker.log")).unwrap_or_default();
        let from = text.len().saturating_sub(4_000);
        text.get(from..).unwrap_or_default().to_owned()
    }
}

pub(crate) fn free_ports() -> (u16, u16) {
    let bind = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (a, b) = (bind(), bind());
    let port = |l: &TcpListener| l.local_addr().expect("address").port();
    (port(&a), port(&b))
}

fn config(logs: &Path, (port, controller): (u16, u16), more: &More) -> String {
    let (mut listeners, mut protocols) = (String::new(), String::new());
    for (name, protocol, port) in &more.listeners {
        listeners.push_str(&format!(",{name}://localhost:{port}"));
        protocols.push_str(&format!(",{name}:{protocol}"));
    }
    let lines = &more.lines;
    format!(
        "process.roles=broker,controller\nnode.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{listeners}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}{listeners}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}\n\
         controller.listener.names=CONTROLLER\nlog.dirs={}\n\
         offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=1\nshare.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n\
         auto.create.topics.enable=false\nlog.cleaner.backoff.ms=100\nlog.cleaner.dedupe.buffer.size=4194304\n\
         log.cleaner.threads=1\nnum.network.threads=2\nnum.io.threads=2\nbackground.threads=2\n{lines}",
        logs.display()
    )
}

/// A formatted, empty storage directory; made once, copied for each broker.
fn formatted(jars: &Path) -> PathBuf {
    let lock = File::create(servers().join(".lock")).expect("lock file");
    lock.lock().expect("another test process formats");
    let dir = servers().join("kafka-formatted");
    if dir.join("meta.properties").exists() {
        return dir;
    }
    let properties = servers().join("kafka-format.properties");
    fs::write(&properties, config(&dir, (1, 2), &More::default())).expect("properties");
    let file = properties.to_str().expect("utf-8");
    let tool = "kafka.tools.StorageTool";
    let out = java(jars, &[tool, "format", "-t", CLUSTER_ID, "-c", file])
        .output()
        .expect("java");
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "format: {text}");
    dir
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("directory");
    for entry in fs::read_dir(from).expect("directory") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copy");
        }
    }
}

// === DuckDB ===

pub type Row = serde_json::Map<String, serde_json::Value>;

/// A DuckDB that stays, for polling: each question goes through a pipe of its own that the SQL shell `!run`s.
pub struct DuckDb {
    _process: Held,
    dir: tempfile::TempDir,
    answers: Receiver<serde_json::Value>,
    asked: usize,
}

/// Questions one process can take.
const QUESTIONS: usize = 20_000;
const MARK: &str = "weir_end_of_answer";

/// Asks the process that all tests share; `None` where DuckDB cannot run.
pub fn duckdb_query(sql: &str) -> Option<Result<Vec<Row>, String>> {
    static SHARED: Mutex<Option<DuckDb>> = Mutex::new(None);
    let mut shared = SHARED.lock().unwrap_or_else(|e| e.into_inner());
    if shared.as_ref().is_none_or(|d| d.asked + 1 >= QUESTIONS) {
        *shared = Some(DuckDb::start()?);
    }
    shared.as_mut().map(|d| d.query(sql))
}

impl DuckDb {
    pub fn start() -> Option<DuckDb> {
        let jars = jars("duckdb")?;
        let dir = tempfile::tempdir().expect("directory");
        let names: Vec<String> = (0..QUESTIONS).map(|i| format!("q{i}")).collect();
        let runs = names
            .iter()
            .map(|n| format!("!run {}/{n}\n", dir.path().display()));
        fs::write(dir.path().join("all"), runs.collect::<String>()).expect("script");
        let made = Command::new("mkfifo")
            .args(&names)
            .current_dir(dir.path())
            .status();
        assert!(made.expect("mkfifo").success());
        let script = format!("--run={}/all", dir.path().display());
        let command = java(
            &jars,
            &[
                "-Xmx256m",
                "-Djline.terminal=dumb",
                "sqlline.SqlLine",
                "-u",
                "jdbc:duckdb:",
                "-n",
                "x",
                "-p",
                "x",
                "--outputformat=json",
                "--silent=true",
                "--force=true",
                &script,
            ],
        );
        let errors = File::create(dir.path().join("errors")).expect("errors");
        let mut process = Held::start(&command, Stdio::piped(), errors.into());
        let out = process.shell.stdout.take().expect("stdout");
        let (send, answers) = channel();
        std::thread::spawn(move || {
            let values = serde_json::Deserializer::from_reader(out).into_iter();
            for value in values.map_while(Result::ok) {
                if send.send(value).is_err() {
                    return;
                }
            }
        });
        Some(DuckDb {
            _process: process,
            dir,
            answers,
            asked: 0,
        })
    }

    /// Rows of one statement without `;`, as JSON objects; or what the shell said instead.
    pub fn query(&mut self, sql: &str) -> Result<Vec<Row>, String> {
        let pipe = self.dir.path().join(format!("q{}", self.asked));
        let mark = self.asked;
        self.asked += 1;
        // Without a reader yet an open for writing would hang: ask until the shell is there.
        let mut pipe = until("DuckDB's shell", || {
            let open = OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(&pipe);
            match open {
                Ok(file) => Some(file),
                Err(e) if e.raw_os_error() == Some(libc::ENXIO) => None,
                Err(e) if e.kind() == ErrorKind::Interrupted => None,
                Err(e) => panic!("{}: {e}", pipe.display()),
            }
        });
        let one_line = sql.replace('\n', " ");
        write!(pipe, "{one_line};\nselect {mark} as {MARK};\n").expect("ask DuckDB");
        drop(pipe);
        let mut rows = None;
        loop {
            let answer = self
                .answers
                .recv_timeout(DEADLINE)
                .map_err(|_| format!("no answer: {}", self.errors()))?;
            let set = answer.get("resultset").and_then(|s| s.as_array()).cloned();
            let set: Vec<Row> = set
                .unwrap_or_default()
                .into_iter()
                .filter_map(|row| row.as_object().cloned())
                .collect();
            if set
                .first()
                .is_some_and(|row| row.get(MARK) == Some(&mark.into()))
            {
                return rows.ok_or_else(|| self.errors());
            }
            rows = Some(set);
        }
    }

    fn errors(&self) -> String {
        let text = fs::read_to_string(self.dir.path().join("errors")).unwrap_or_default();
        let said = |l: &&str| l.contains("Error") || l.contains("Exception");
        text.lines()
            .rfind(said)
            .unwrap_or("nothing said")
            .to_owned()
    }
}

#[test]
fn duckdb_answers_and_survives_an_error() {
    let ask = |sql: &str| duckdb_query(sql);
    let Some(rows) = ask("select i, 'x,\"y' as s, null as n from range(3) t(i)") else {
        return;
    };
    let rows = rows.expect("rows");
    assert_eq!(rows.len(), 3);
    assert_eq!(
        (rows[2]["i"].as_i64(), rows[2]["s"].as_str()),
        (Some(2), Some("x,\"y"))
    );
    assert!(rows[0]["n"].is_null());
    ask("select * from nosuch")
        .expect("duckdb")
        .expect_err("no such table");
    assert_eq!(
        ask("select 1 as one where false")
            .expect("duckdb")
            .expect("empty")
            .len(),
        0
    );
}

/// Made once; `make` says what it lacks.
pub fn once(
    name: &str,
    wanted: &str,
    make: impl FnOnce(&Path) -> Result<(), String>,
) -> Option<PathBuf> {
    let lock = File::create(servers().join(".clients")).expect("lock file");
    lock.lock().expect("another test process installs");
    let dir = servers().join(name);
    let done = servers().join(format!("{name}.fetched"));
    if fs::read_to_string(&done).is_ok_and(|had| had == wanted) {
        return Some(dir);
    }
    if dir.exists() {
        fs::remove_dir_all(&dir).expect("old client");
    }
    match make(&dir) {
        Ok(()) => fs::write(done, wanted).expect("mark"),
        Err(why) => {
            skip(name, &why);
            return None;
        }
    }
    Some(dir)
}

pub fn ran(what: &str, command: &mut Command) -> Result<(), String> {
    let out = command.output().map_err(|e| format!("{what}: {e}"))?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    out.status
        .success()
        .then_some(())
        .ok_or_else(|| format!("{what}: {}", tail(&said)))
}

/// Every file below a directory with this ending, sorted.
pub fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                todo.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The last words of a log.
pub fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(4_000);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text.get(from..).unwrap_or_default()
}
