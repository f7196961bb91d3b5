//! Clients of Kafka Connect as their authors published them: every command of kc (kafka-connect-py), kofr and
//! kafka-connect-healthcheck ends the same way and prints the same against Weir as against a real worker.
//!
//! Installed once into target/test-servers (kofr is built, about a minute of two cores); versions are pinned here and in
//! tests/clients.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::brokers::{self, Held, once, ran, servers, until, within};
use crate::check::root;
use crate::connect_diff::{Found, Row, differences, explains};
use crate::connect_http as http;
use crate::connect_script::{neutral, reduced};
use crate::connect_worker::{self, Host};

const KOFR: &str = "0.1.1";
/// States and clients both are slow on a loaded machine.
const WAIT: Duration = Duration::from_secs(45);

/// A Python client in a virtual environment of its own.
pub fn python(name: &str) -> Option<PathBuf> {
    let list = root().join("tests/clients").join(format!("{name}.txt"));
    let wanted = fs::read_to_string(&list).expect("requirements");
    once(name, &wanted, |dir| {
        ran(
            "python3 -m venv",
            Command::new("python3").args(["-m", "venv"]).arg(dir),
        )?;
        let mut pip = Command::new(dir.join("bin/pip"));
        ran("pip install", pip.args(["install", "-q", "-r"]).arg(&list))
    })
}

fn kofr() -> Option<PathBuf> {
    let dir = once("kofr", KOFR, |dir| {
        let built = servers().join("kofr-build");
        let mut cargo = Command::new("cargo");
        cargo
            .args(["install", "--locked", "kofr", "--version", KOFR])
            .arg("--root")
            .arg(dir)
            .arg("--target-dir")
            .arg(&built)
            // Ours are for Weir alone.
            .env_remove("RUSTFLAGS")
            .current_dir(servers());
        ran("cargo install kofr", &mut cargo)?;
        fs::remove_dir_all(built).map_err(|e| e.to_string())
    })?;
    Some(dir.join("bin/kofr"))
}

/// Commands of kc and kofr that may be asked again.
const READS: &[&str] = &[
    "get",
    "list",
    "config",
    "status",
    "list-tasks",
    "task-status",
    "describe",
];

/// What a worker says on its way after a change: 500 to some who only read while it is about to rebalance, then states
/// that no connector stays in.
const PASSING: &[&str] = &["500 Server Error", "rebalance", "UNASSIGNED", "RESTARTING"];

/// One client against one host.
struct Rig<'a> {
    host: &'a Host,
    tag: &'static str,
    dir: tempfile::TempDir,
}

impl<'a> Rig<'a> {
    fn new(host: &'a Host, tag: &'static str) -> Rig<'a> {
        let dir = tempfile::tempdir().expect("directory");
        connect_worker::furnish(tag, dir.path());
        Rig { host, tag, dir }
    }

    fn filled(&self, text: &str) -> String {
        let dir = self.dir.path().display().to_string();
        text.replace("$T", self.tag)
            .replace("$DIR", &dir)
            .replace("$URL", &self.host.url())
    }

    /// Exit code and what was printed: JSON as the script reduces it, other text word for word.
    fn run(&self, program: &Path, args: &[&str]) -> Value {
        let args: Vec<String> = args.iter().map(|arg| self.filled(arg)).collect();
        let reads = READS.iter().any(|verb| args.iter().any(|arg| arg == verb));
        let mut last = None;
        let _in_time = within(WAIT, || {
            let out = Command::new(program)
                .args(&args)
                .env("HOME", self.dir.path())
                .env("EDITOR", "true")
                .stdin(Stdio::null())
                .output()
                .expect("the client runs");
            let said = String::from_utf8_lossy(&out.stdout);
            let again = PASSING.iter().any(|word| said.contains(word));
            last = Some(out);
            (!reads || !again).then_some(())
        });
        let out = last.expect("one run");
        let text = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let text = neutral(&text, self.host.addr, self.tag, self.dir.path());
            words(&text.replace(&self.host.addr.to_string(), "host:port"))
        };
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let said = neutral(&said, self.host.addr, self.tag, self.dir.path());
        let said = match serde_json::from_str::<Value>(&said) {
            Ok(value) => reduced(value),
            Err(_) => text(&out.stdout),
        };
        let mut said = said;
        if args.iter().any(|arg| arg.contains("restart")) {
            passing(&mut said);
        }
        json!({ "code": out.status.code(), "out": said, "err": text(&out.stderr) })
    }

    fn status(&self, name: &str) -> Value {
        connect_worker::get(
            self.host,
            &self.filled(&format!("/connectors/{name}/status")),
        )
    }

    fn wait_for(&self, name: &str, at: &str, state: &str) {
        let came = within(WAIT, || {
            (self.status(name).pointer(at)? == state).then_some(())
        });
        assert!(came.is_some(), "{name} {at} {state}: {}", self.status(name));
    }

    fn read(&self, name: &str) {
        until("the records are read", || {
            let path = self.filled(&format!("/connectors/{name}/topics"));
            let topics = connect_worker::get(self.host, &path);
            let topics = topics.get(self.filled(name))?.get("topics")?.as_array()?;
            (!topics.is_empty()).then_some(())
        });
    }

    /// The connector and its only task.
    fn both(&self, name: &str, state: &str) {
        self.wait_for(name, "/connector/state", state);
        self.wait_for(name, "/tasks/0/state", state);
    }
}

/// How far a restart is when it is answered is a matter of moments.
fn passing(said: &mut Value) {
    match said {
        Value::Object(map) => {
            for (key, value) in map {
                if key == "state" && value.is_string() {
                    *value = "a state".into();
                }
                passing(value);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(passing),
        _ => {}
    }
}

/// Tables are drawn as wide as their content, lists have no order, error texts are each server's own.
fn words(text: &str) -> Value {
    let mut lines: Vec<String> = text
        .lines()
        // kofr prints where in its own source it is.
        .filter(|line| !line.starts_with('['))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .map(|line| line.trim_end_matches(',').to_owned())
        // kc says when.
        .map(|line| match line.split_once(" - kafka-connect - ") {
            Some((_, said)) => said.to_owned(),
            None => line,
        })
        .map(|line| match line.split_once("\"message\":") {
            Some((before, _)) => format!("{before}\"message\":…"),
            None => line,
        })
        .map(|line| match line.split_once(" Server Error: ") {
            Some((code, rest)) => {
                let url = rest.split_once(" for url").map_or(rest, |(_, url)| url);
                format!("{code} Server Error for url{url}")
            }
            None => line,
        })
        .collect();
    lines.sort();
    lines.into()
}

type Lines = Vec<(String, Value)>;

const SINK: &str = r#"{"name":"$T-one","config":{"connector.class":"FileStreamSink","topics":"$T-in","file":"$DIR/one.txt"}}"#;
const CONFIG: &str =
    r#"{"connector.class":"FileStreamSink","topics":"$T-in","file":"$DIR/one.txt"}"#;

fn kc(rig: &Rig<'_>, program: &Path) -> Lines {
    let mut lines = Lines::new();
    let mut run = |args: &[&str]| {
        let all = [&["--url", "$URL"], args].concat();
        let shown = format!("kc {}", args.join(" "));
        lines.push((shown, rig.run(program, &all)));
    };
    run(&["--version"]);
    run(&["info"]);
    run(&["list-plugins"]);
    run(&["create", "-d", SINK]);
    rig.both("$T-one", "RUNNING");
    rig.read("$T-one");
    run(&["create", "-d", SINK]);
    run(&[
        "create",
        "-d",
        r#"{"name":"$T-bad","config":{"connector.class":"FileStreamSink","tasks.max":"0"}}"#,
    ]);
    run(&["list", "-p", "^$T-"]);
    run(&["list", "-p", "^$T-", "-e", "status"]);
    run(&["list", "-p", "^$T-", "-e", "info"]);
    run(&["list", "-p", "^$T-", "-s", "running"]);
    run(&["list", "-p", "^$T-", "-s", "failed"]);
    run(&["get", "$T-one"]);
    run(&["config", "$T-one"]);
    run(&["status", "$T-one"]);
    run(&["list-tasks", "$T-one"]);
    run(&["task-status", "$T-one", "0"]);
    run(&["task-status", "$T-one", "9"]);
    run(&["list-topics", "$T-one"]);
    run(&["update", "$T-one", "-d", CONFIG]);
    rig.both("$T-one", "RUNNING");
    // A file has one writer.
    run(&[
        "update",
        "$T-two",
        "-d",
        &CONFIG.replace("one.txt", "two.txt"),
    ]);
    rig.both("$T-two", "RUNNING");
    run(&["pause", "$T-one"]);
    rig.both("$T-one", "PAUSED");
    run(&["list", "-p", "^$T-", "-s", "paused"]);
    run(&["resume", "$T-one"]);
    rig.both("$T-one", "RUNNING");
    run(&["pause", "--all", "-p", "^$T-"]);
    rig.both("$T-one", "PAUSED");
    rig.both("$T-two", "PAUSED");
    run(&["resume", "--all", "-p", "^$T-"]);
    rig.both("$T-one", "RUNNING");
    rig.both("$T-two", "RUNNING");
    run(&["restart", "$T-one"]);
    rig.both("$T-one", "RUNNING");
    run(&["restart", "--only-failed", "$T-one"]);
    run(&["restart", "--include-tasks", "$T-one"]);
    rig.both("$T-one", "RUNNING");
    run(&[
        "restart",
        "--all",
        "-p",
        "^$T-",
        "--include-tasks",
        "--only-failed",
    ]);
    run(&["restart-task", "$T-one", "0"]);
    rig.both("$T-one", "RUNNING");
    run(&["reset-topics", "$T-two"]);
    run(&["validate-config", "FileStreamSink", "-d", CONFIG]);
    for verb in [
        "get",
        "config",
        "status",
        "list-tasks",
        "pause",
        "resume",
        "restart",
        "delete",
    ] {
        run(&[verb, "$T-never"]);
    }
    run(&["delete", "$T-one"]);
    run(&["delete", "--all", "-p", "^$T-"]);
    run(&["list", "-p", "^$T-"]);
    lines
}

fn kofr_lines(rig: &Rig<'_>, program: &Path) -> Lines {
    let home = rig.dir.path().join(".kofr");
    fs::create_dir(&home).expect("home");
    fs::write(home.join("config"), "current-cluster: null\nclusters: []\n").expect("config");
    fs::write(rig.dir.path().join("sink.json"), rig.filled(SINK)).expect("sink.json");
    fs::write(rig.dir.path().join("config.json"), rig.filled(CONFIG)).expect("config.json");
    let mut lines = Lines::new();
    let mut run = |args: &[&str]| {
        lines.push((format!("kofr {}", args.join(" ")), rig.run(program, args)));
    };
    run(&["config", "add-cluster", "one", "--hosts", "$URL"]);
    run(&["config", "use-cluster", "one"]);
    run(&["config", "current-context"]);
    run(&["config", "get-clusters"]);
    run(&["cluster", "status"]);
    run(&["plugin", "list"]);
    run(&[
        "plugin",
        "validate-config",
        "-n",
        "FileStreamSink",
        "-f",
        "$DIR/config.json",
    ]);
    run(&["connector", "create", "-f", "$DIR/sink.json"]);
    rig.both("$T-one", "RUNNING");
    run(&["connector", "create", "-f", "$DIR/sink.json"]);
    run(&["list"]);
    run(&["connector", "describe", "$T-one"]);
    run(&["connector", "status", "$T-one"]);
    run(&["connector", "config", "$T-one"]);
    run(&["connector", "edit", "$T-one"]);
    run(&[
        "connector",
        "patch",
        "$T-one",
        "-d",
        r#"{"file":"$DIR/two.txt"}"#,
    ]);
    run(&["connector", "patch", "$T-one", "-d", CONFIG]);
    rig.both("$T-one", "RUNNING");
    run(&["connector", "pause", "$T-one"]);
    rig.both("$T-one", "PAUSED");
    run(&["task", "list", "$T-one"]);
    run(&["connector", "resume", "$T-one"]);
    rig.both("$T-one", "RUNNING");
    run(&["connector", "restart", "$T-one", "--only-failed"]);
    run(&["connector", "restart", "$T-one", "--include-tasks"]);
    rig.both("$T-one", "RUNNING");
    run(&["connector", "restart", "$T-one"]);
    rig.both("$T-one", "RUNNING");
    run(&["task", "list", "$T-one"]);
    run(&["task", "status", "$T-one", "0"]);
    run(&["task", "restart", "$T-one", "0"]);
    rig.both("$T-one", "RUNNING");
    rig.read("$T-one");
    run(&["topic", "list", "$T-one"]);
    run(&["topic", "reset", "$T-one"]);
    run(&["connector", "status", "$T-never"]);
    run(&["connector", "delete", "$T-never"]);
    run(&["connector", "delete", "$T-one"]);
    run(&["config", "remove-cluster", "one"]);
    lines
}

/// The probe serves a page of its own; what it says of the hosts counts.
fn healthcheck(rig: &Rig<'_>, program: &Path) -> Lines {
    let mut lines = Lines::new();
    let (port, _) = brokers::free_ports();
    let mut command = Command::new(program);
    command
        .args([
            "--port",
            &port.to_string(),
            "--connect-url",
            &rig.host.url(),
        ])
        .args(["--connect-worker-id", &rig.host.addr.to_string()]);
    let _probe = Held::start(&command, Stdio::null(), Stdio::null());
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    until("the probe listens", || {
        http::ask(addr, "GET", "/ping", &[], None).ok()
    });
    let mut ask = |what: &str, path: &str, ready: &dyn Fn(&http::Answer) -> bool| {
        let mut last = String::new();
        let answer = within(WAIT, || {
            let answer = http::ask(addr, "GET", path, &[], None).ok()?;
            last = answer.text();
            ready(&answer).then_some(answer)
        });
        let answer = answer.unwrap_or_else(|| panic!("{what}: the probe says {last}"));
        let text = neutral(&answer.text(), rig.host.addr, rig.tag, rig.dir.path());
        let mut body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if let Some(map) = body.as_object_mut() {
            map.remove("failure_states");
        }
        lines.push((
            what.to_owned(),
            json!({ "code": answer.status, "out": reduced(body) }),
        ));
    };
    let put = |name: &str, file: &str| {
        let config = rig.filled(&CONFIG.replace("one.txt", file));
        let path = rig.filled(&format!("/connectors/{name}/config"));
        until("the config is taken", || {
            let answer = http::ask(rig.host.addr, "PUT", &path, &[], Some(config.as_bytes()));
            answer.is_ok_and(|a| a.status < 300).then_some(())
        });
    };
    put("$T-well", "well.txt");
    put("$T-ill", "no/such/folder/ill.txt");
    rig.both("$T-well", "RUNNING");
    rig.wait_for("$T-ill", "/tasks/0/state", "FAILED");
    ask("the probe of a failed task", "/", &|answer| {
        // Where the worker is about to rebalance the probe fails at its answer, not at the task.
        answer.status != 200
            && answer.text().contains("\"failures\"")
            && !answer.text().contains("\"error\"")
    });
    put("$T-ill", "ill.txt");
    rig.both("$T-ill", "RUNNING");
    for name in ["$T-well", "$T-ill"] {
        let path = rig.filled(&format!("/connectors/{name}"));
        http::ask(rig.host.addr, "DELETE", &path, &[], None).expect("delete");
    }
    ask("the probe says it lives", "/ping", &|_| true);
    lines
}

/// A client's lines on both hosts, at once.
fn on_both(
    tags: [&'static str; 2],
    lines: impl Fn(&Rig<'_>) -> Lines + Sync,
) -> Option<[Lines; 2]> {
    let [worker, daemon] = connect_worker::both(tags[0])?;
    let rigs = [Rig::new(&worker, tags[0]), Rig::new(&daemon, tags[1])];
    Some(std::thread::scope(|scope| {
        let runs = rigs.each_ref().map(|rig| scope.spawn(|| lines(rig)));
        runs.map(|run| run.join().expect("a client's run"))
    }))
}

/// What docs/connect-differences.md explains, as the clients show it: cluster-id, plugin-list, task-configs, error-texts,
/// state-version, keys and form-hints. Patterns have no blanks.
const KC: &[Row] = &[
    ("kc*info", "/out/kafka_cluster_id", "*", "*"),
    ("kc*list-plugins", "/out/*", "*", "*"),
    ("kc*list-tasks*", "/out/*/config/task.class", "*", "-"),
    // Of a connector that never ran, too.
    ("kc*", "*/version", "*", "-"),
    // A string instead of a map: 500 there, 400 here.
    ("kc*validate-config*", "/out*", "*", "*"),
];
const KOFR_KNOWN: &[Row] = &[
    ("kofr*cluster*", "/out/*", "*", "*"),
    ("kofr*plugin*list", "/out/*", "*", "*"),
    ("kofr*plugin*validate-config*", "/out/configs/*", "*", "*"),
    ("kofr*plugin*validate-config*", "/out/groups*", "*", "*"),
    ("kofr*task*status*", "/out/config/task.class", "*", "-"),
];
/// failed-connectors.
const PROBE: &[Row] = &[("the*probe*of*a*failed*task", "/out/failure*", "*", "*")];

/// What differs must be known, and what is known must differ still.
fn the_same(runs: &[Lines; 2], known: &[Row]) {
    let [theirs, ours] = runs;
    let found = differences(theirs, ours);
    let explained = |found: &&Found| known.iter().any(|row| explains(row, found));
    let unknown: Vec<&Found> = found.iter().filter(|found| !explained(found)).collect();
    let gone: Vec<&Row> = (known.iter())
        .filter(|row| !found.iter().any(|found| explains(row, found)))
        .collect();
    assert!(
        unknown.is_empty() && gone.is_empty(),
        "{unknown:#?}\nno longer: {gone:#?}"
    );
}

#[test]
fn kc_sees_no_difference() {
    let Some(dir) = python("kafka-connect-py") else {
        return;
    };
    let program = dir.join("bin/kc");
    let Some(runs) = on_both(["kctheirs", "kcatours"], |rig| kc(rig, &program)) else {
        return;
    };
    the_same(&runs, KC);
    let failed = |lines: &Lines| lines.iter().filter(|(_, said)| said["code"] != 0).count();
    assert_eq!(failed(&runs[1]), failed(&runs[0]));
    // Not all of them failed alike.
    let one = runs[1].iter().find(|(line, _)| line == "kc get $T-one");
    assert_eq!(one.expect("kc get").1["out"]["type"], "sink", "{one:?}");
}

#[test]
fn kofr_sees_no_difference() {
    let Some(program) = kofr() else {
        return;
    };
    let Some(runs) = on_both(["kofrtheirs", "kofratours"], |rig| {
        kofr_lines(rig, &program)
    }) else {
        return;
    };
    the_same(&runs, KOFR_KNOWN);
    let one = (runs[1].iter()).find(|(line, _)| line == "kofr connector describe $T-one");
    let one = one.expect("kofr describe");
    assert_eq!(one.1["out"]["connector"]["state"], "RUNNING", "{one:?}");
}

#[test]
fn the_healthcheck_sees_no_difference() {
    let Some(dir) = python("kafka-connect-healthcheck") else {
        return;
    };
    let program = dir.join("bin/kafka-connect-healthcheck");
    let tags = ["probetheirs", "probeatours"];
    let Some(runs) = on_both(tags, |rig| healthcheck(rig, &program)) else {
        return;
    };
    the_same(&runs, PROBE);
    assert_eq!(runs[1][0].1["code"], 503, "{:?}", runs[1]);
}
