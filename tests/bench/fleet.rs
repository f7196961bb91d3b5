//! `weir daemon` as a child process: what many pipelines in one process cost, and how it answers while they work.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir::clock::SystemClock;
use weir::config::Overlay;
use weir::connect;

use crate::child::{Place, log_if_any, raw_sets};
use crate::connect_http::{Answer, ask};
use crate::live;

const MIB: f64 = 1024.0 * 1024.0;
/// Between two looks at what is committed.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Nothing here takes longer.
const DEADLINE: Duration = Duration::from_secs(180);
/// Between two requests of the client whose answers are timed.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// Between the last row and its commit, where a figure holds a commit.
const SOON: (&str, &str) = ("sink.rotate.age", "1s");

/// Reads what is there and commits it, without waiting for a file to be old enough.
const ONE_PASS: (&str, &str) = ("trigger", "every:1h");

/// Killed when dropped.
pub struct Daemon {
    child: Child,
    addr: SocketAddr,
    place: Place,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

impl Daemon {
    /// On an empty data directory; ready for requests.
    pub fn start(place: &Place) -> Daemon {
        place.empty("daemon");
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = free.local_addr().unwrap();
        drop(free);
        let quoted = |path: &PathBuf| format!("{:?}", path.display().to_string());
        let worker = format!(
            "data.dir = {}\nrest.listen = \"{addr}\"\nrest.max.rate = 100000\nrest.files.roots = \"/\"\nplugin.path = {}\nplugin.store = {}\nplugin.cache = {}\nlog.level = \"warn\"\n",
            quoted(&place.dir.join("daemon")),
            quoted(&place.plugins),
            quoted(&place.store),
            quoted(&place.cache),
        );
        let file = place.dir.join("worker.toml");
        fs::write(&file, worker).unwrap();
        let log = fs::File::create(place.dir.join("daemon.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .current_dir(&place.root)
            .arg("daemon")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let daemon = Daemon {
            child,
            addr,
            place: place.clone(),
        };
        daemon.until("a daemon that answers", || {
            ask(addr, "GET", "/health", &[], None).is_ok_and(|a| a.status == 200)
        });
        daemon
    }

    fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let clock = SystemClock::shared();
        let begun = Instant::now();
        while !done() {
            let said = || fs::read_to_string(self.place.dir.join("daemon.log")).unwrap_or_default();
            assert!(begun.elapsed() < DEADLINE, "in vain: {what}\n{}", said());
            clock.sleep(LOOK_EVERY);
        }
    }

    pub fn ask(&self, method: &str, target: &str, body: Option<&Value>) -> Answer {
        let body = body.map(|body| body.to_string().into_bytes());
        ask(self.addr, method, target, &[], body.as_deref()).unwrap()
    }

    /// `conf/books-raw.toml` under another name, into a zone of that name.
    pub fn create(&self, name: &str, bootstrap: &str, topic: &str, more: &[(&str, &str)]) {
        self.place.empty(name);
        let mut sets = raw_sets(bootstrap, topic, &self.place.zone(name));
        sets.extend(more.iter().map(|(key, value)| format!("{key}={value}")));
        sets.push(format!("name={name}"));
        let overlay = Overlay {
            profile: None,
            set: sets,
        };
        let loaded = connect::load(&["conf/books-raw.toml".to_owned()], &overlay);
        let map: BTreeMap<String, String> = loaded.pipelines[0].canonical();
        let answer = self.ask(
            "POST",
            "/connectors",
            Some(&json!({ "name": name, "config": map })),
        );
        assert_eq!(answer.status, 201, "{}", answer.text());
    }

    /// Waits until all of `messages` are committed.
    pub fn read_all(&self, name: &str, messages: u64) {
        self.until(name, || self.committed(name) == messages);
    }

    fn committed(&self, name: &str) -> u64 {
        let begun = self.place.dir.join(name).join("_system").join(name);
        if !begun.exists() {
            return 0;
        }
        // The zone's name in the log is its directory's.
        let log = log_if_any(&self.place.dir.join(name), name, name);
        log.map_or(0, |log| log.state().totals().records.read)
    }

    /// Seconds of both cores so far.
    pub fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: f64 = [11, 12]
            .iter()
            .map(|at| fields[*at].parse::<f64>().unwrap())
            .sum();
        ticks / 100.0 // USER_HZ of every Linux
    }

    pub fn resident_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib: f64 = line
            .and_then(|line| line.split_whitespace().nth(1))
            .and_then(|kib| kib.parse().ok())
            .unwrap();
        kib * 1024.0 / MIB
    }
}

/// Memory of one process with so many pipelines that have read everything there is.
pub fn idle(place: &Place, bootstrap: &str, topic: &str, messages: u64, pipelines: usize) -> f64 {
    let daemon = Daemon::start(place);
    let names: Vec<String> = (0..pipelines).map(|n| format!("idle-{n}")).collect();
    for name in &names {
        daemon.create(name, bootstrap, topic, &[SOON]);
    }
    for name in &names {
        daemon.read_all(name, messages);
    }
    let resident = daemon.resident_mib();
    drop(daemon);
    names.iter().for_each(|name| place.empty(name));
    resident
}

/// Messages per CPU-second of a daemon with one pipeline, from its start on.
pub fn throughput(place: &Place, bootstrap: &str, topic: &str, messages: u64) -> f64 {
    let daemon = Daemon::start(place);
    daemon.create("alone", bootstrap, topic, &[ONE_PASS]);
    daemon.read_all("alone", messages);
    messages as f64 / daemon.cpu()
}

/// The answers' times in ms, sorted, while two pipelines read a topic from its beginning.
pub fn answers(place: &Place, bootstrap: &str, topic: &str, messages: u64) -> Vec<f64> {
    let busy = ["flat-out-a", "flat-out-b"];
    let daemon = Daemon::start(place);
    for name in &busy {
        daemon.create(name, bootstrap, topic, &[("tasks.max", "1"), ONE_PASS]);
    }
    let clock = SystemClock::shared();
    let mut times = Vec::new();
    let begun = Instant::now();
    while busy.iter().any(|name| daemon.committed(name) < messages) {
        assert!(begun.elapsed() < DEADLINE, "the pipelines read everything");
        for target in [
            "/connectors?expand=status&expand=info",
            "/connectors/flat-out-a/status",
            "/connectors/flat-out-b/config",
            "/connectors/flat-out-a/tasks",
            "/health",
            "/metrics",
        ] {
            let asked = Instant::now();
            let answer = daemon.ask("GET", target, None);
            times.push(asked.elapsed().as_secs_f64() * 1e3);
            assert!(answer.status < 500, "{target}: {}", answer.text());
            clock.sleep(ASK_EVERY);
        }
    }
    times.sort_by(f64::total_cmp);
    times
}

/// Seconds from the first byte of a pushed plugin to the first commit of rows that it made, while the pipeline reads: its
/// check and compilation, the swap, and a commit of up to [`SOON`]. `name` is a shipped plugin, with other bytes each time.
pub fn pushed(
    place: &Place,
    (bootstrap, topic): (&str, &str),
    messages: u64,
    (transform, plugin): (&str, &str),
) -> f64 {
    let mut place = place.clone();
    place.store = place.dir.join("pushed-over-http");
    place.empty("pushed-over-http");
    let daemon = Daemon::start(&place);
    let name = "pushed";
    daemon.create(name, bootstrap, topic, &[("tasks.max", "1"), SOON]);
    daemon.until("the first commit", || daemon.committed(name) > 0);
    let component = fs::read(place.plugins.join(format!("{plugin}.wasm"))).unwrap();
    let component = live::another(component);
    let begun = Instant::now();
    let binary = [(
        "Content-Type".to_owned(),
        "application/octet-stream".to_owned(),
    )];
    let pushed = ask(daemon.addr, "POST", "/plugins", &binary, Some(&component)).unwrap();
    assert_eq!(pushed.status, 201, "{}", pushed.text());
    let digest = pushed.json()["digest"].as_str().unwrap().to_owned();
    let swap =
        json!({ "transforms": { transform: format!("{plugin}@{digest}") }, "wait_ms": 10_000 });
    let swapped = daemon.ask("POST", "/pipelines/pushed/swap", Some(&swap));
    assert_eq!(swapped.status, 200, "{}", swapped.text());
    let before = daemon.committed(name);
    assert!(before < messages, "nothing is left for the new rules");
    daemon.until("rows of the new rules", || daemon.committed(name) > before);
    begun.elapsed().as_secs_f64()
}
