//! The command line on plugins, rules, log and dead letters of a daemon does the same as HTTP: by raw requests and by
//! `--url`, with and without logins.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use weir::clock::SystemClock;
use weir::config::worker;
use weir::daemon::Supervisor;
use weir::http::Admin;
use weir::kafka::MockBroker;
use weir::telemetry::{Progress, ProgressMode};

use crate::brokers::until;
use crate::store::{guest, guest_dir, rebuilt, version};
use crate::swap_rig::{PIPELINE, Rig, produce, text};
use crate::world::plugins_dir;

pub const TOPIC: &str = "numbers";
const GRACE: Duration = Duration::from_secs(20);

/// A daemon, a broker, and a pipeline's config that nobody has created yet.
pub struct Daemon {
    _broker: MockBroker,
    pub rig: Rig,
    supervisor: Arc<Supervisor>,
    admin: Option<Admin>,
    pub url: String,
    /// What the command line is given to be let in.
    pub doors: Vec<String>,
}

impl Daemon {
    /// `more` goes into the worker's config; `{dir}` is the rig's.
    pub fn start(more: &str) -> Daemon {
        Daemon::with(more, "http")
    }

    pub fn with(more: &str, scheme: &str) -> Daemon {
        let broker = MockBroker::start().unwrap();
        broker.create_topic(TOPIC, 2).unwrap();
        let rig = Rig::new(broker.bootstrap(), TOPIC, 2, "");
        let dir = rig.dir.path().display().to_string();
        // That of the rig's configs: no config by REST may name another.
        let native = plugins_dir()
            .join("../plugins-test/cache")
            .display()
            .to_string();
        let config = format!(
            "data.dir = \"{dir}/data\"\nrest.listen = \"{scheme}://127.0.0.1:0\"\nplugin.path = \"{dir}/plugins\"\n\
             plugin.store = \"{dir}/store\"\nplugin.cache = \"{native}\"\nrest.files.roots = \"{dir}\"\nrest.max.plugin = \"2MiB\"\n{}\n",
            more.replace("{dir}", &dir)
        );
        fs::write(rig.path("worker.toml"), config).unwrap();
        let (worker, problems) = worker::load(rig.path("worker.toml").to_str().unwrap(), &[]);
        let worker = worker.unwrap_or_else(|| panic!("{problems:?}"));
        let shown = Progress::shared(ProgressMode::None);
        let supervisor = Supervisor::open(&worker, SystemClock::shared(), shown).unwrap();
        let admin = Admin::serve(supervisor.clone(), &worker).unwrap();
        let url = format!("{scheme}://{}", admin.addr());
        Daemon {
            _broker: broker,
            rig,
            supervisor,
            admin: Some(admin),
            url,
            doors: Vec::new(),
        }
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.rig.weir(args);
        for variable in ["WEIR_URL", "WEIR_TOKEN", "WEIR_USER", "WEIR_PASSWORD"] {
            command.env_remove(variable);
        }
        command
    }

    /// `weir … --url`, as somebody who is let in.
    pub fn weir(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        command.args(["--url", &self.url]).args(&self.doors);
        command.output().unwrap()
    }

    /// The same, which must succeed; what it printed.
    pub fn said(&self, args: &[&str]) -> String {
        let output = self.weir(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        text(&output.stdout)
    }

    pub fn json(&self, args: &[&str]) -> Value {
        let said = self.said(&[args, &["--json"]].concat());
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"))
    }

    /// Without a client of ours: status, head, body.
    pub fn raw(&self, method: &str, path: &str, head: &str, body: &[u8]) -> (u16, String, Value) {
        let address = self.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{head}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        // A refusal may come, and the door shut, before all is sent.
        drop(stream.write_all(body));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let status = head.split(' ').nth(1).and_then(|n| n.parse().ok());
        let body = serde_json::from_str(body).unwrap_or_default();
        (status.unwrap_or(0), head.to_owned(), body)
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        let (status, _, body) = self.raw("GET", path, "", b"");
        (status, body)
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let kind = "Content-Type: application/json\r\n";
        let (status, _, body) = self.raw("POST", path, kind, body.to_string().as_bytes());
        (status, body)
    }

    pub fn push(&self, query: &str, bytes: &[u8]) -> (u16, String, Value) {
        self.raw("POST", &format!("/plugins{query}"), "", bytes)
    }

    /// A pipeline that has committed the first 20 messages of both partitions.
    pub fn running(&self) {
        produce(&self.rig, 0..10);
        let said = self.said(&["pipeline", "create", "numbers.toml"]);
        assert_eq!(said, "numbers: created, RUNNING\n");
        self.settled(20);
    }

    pub fn settled(&self, messages: i64) {
        until("the messages in the log", || {
            let (status, one) = self.get(&format!("/pipelines/{PIPELINE}"));
            assert_eq!(status, 200, "{one}");
            let read = one["log"]["records"]["read"].as_i64();
            (read == Some(messages)).then_some(())
        });
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(admin) = self.admin.take() {
            admin.stop(GRACE);
        }
        assert!(self.supervisor.shut_down(GRACE) || std::thread::panicking());
    }
}

pub fn message(body: &Value) -> &str {
    body["message"].as_str().unwrap_or_default()
}

pub fn lines(said: &str) -> Vec<Value> {
    let line = |line| serde_json::from_str(line).unwrap();
    said.lines().map(line).collect()
}

#[test]
fn plugins_are_pushed_and_bad_ones_refused_with_the_reason() {
    let daemon = Daemon::start("");
    let (status, _, body) = daemon.push("", b"no component at all");
    assert_eq!(
        (status, &body["details"]["code"]),
        (400, &json!("plugin_refused"))
    );
    assert!(
        message(&body).contains("no WebAssembly component"),
        "{body}"
    );
    let (status, _, body) = daemon.push("", b"\0asm\x01\0\0\0");
    assert!(
        status == 400 && message(&body).contains("core module"),
        "{body}"
    );
    let other = fs::read(guest_dir().join("guest-world.wasm")).unwrap();
    let (status, _, body) = daemon.push("", &other);
    assert!(
        status == 400 && message(&body).contains("contract"),
        "{body}"
    );
    let forbidden = fs::read(guest_dir().join("guest-files.wasm")).unwrap();
    let (status, _, body) = daemon.push("", &forbidden);
    assert!(
        status == 400 && message(&body).contains("wasi:filesystem"),
        "{body}"
    );
    let (status, _, body) = daemon.push("", &vec![0; (2 << 20) + 1]);
    assert!(
        status == 413 && message(&body).contains("rest.max.plugin"),
        "{body}"
    );
    assert_eq!(daemon.push("", b"").0, 400);
    let (status, _, body) = daemon.push("?name=other", &guest());
    assert!(
        status == 400 && message(&body).contains("`guest-table`"),
        "{body}"
    );
    let refs = daemon.rig.path("store/refs");
    assert!(!refs.exists(), "nothing that was refused is kept");

    let (status, _, dry) = daemon.push("?dry_run=true", &guest());
    assert_eq!(
        (status, &dry["dry_run"], refs.exists()),
        (200, &json!(true), false)
    );
    let (status, head, body) = daemon.push("?name=guest-table&version=1.0.0", &guest());
    assert_eq!(status, 201, "{body}");
    assert!(head.contains("/plugins/guest-table/1.0.0"), "{head}");
    assert_eq!(
        (&body["plugin"], &body["version"]),
        (&json!("guest-table"), &json!("1.0.0"))
    );
    assert_eq!(body["bytes"], guest().len());
    let digest = body["digest"].as_str().unwrap().to_owned();
    let keys: Vec<&str> = (body["keys"].as_array().unwrap().iter())
        .map(|key| key["key"].as_str().unwrap())
        .collect();
    assert!(keys.contains(&"salt"), "{keys:?}");
    assert_eq!(daemon.push("", &guest()).0, 200, "the same again is fine");
    let (status, _, body) = daemon.push("", &rebuilt(guest()));
    assert!(
        status == 409 && message(&body).contains("already"),
        "{body}"
    );
    assert!(
        body["details"]["hint"]
            .as_str()
            .unwrap()
            .contains("raise the version"),
        "{body}"
    );

    let (status, body) = daemon.get("/plugins/guest-table/1.0.0");
    assert_eq!((status, &body["digest"]), (200, &json!(digest)));
    let (status, body) = daemon.get("/plugins/guest-table");
    assert_eq!((status, body.as_array().unwrap().len()), (200, 1), "{body}");
    assert!(
        body[0]["pushed"]["by"]
            .as_str()
            .unwrap()
            .starts_with("anonymous@127.0.0.1"),
        "{body}"
    );
    for unknown in [
        "/plugins/nobody",
        "/plugins/guest-table/9.9.9",
        "/plugins/..%2Frefs/1.0.0",
        "/plugins/guest-table/..%2F..%2Fx",
        "/plugins/%00/1",
    ] {
        let (status, body) = daemon.get(unknown);
        assert!(status == 404 || status == 400, "{unknown}: {status} {body}");
    }
    let left: Vec<_> = fs::read_dir(daemon.rig.path("data"))
        .unwrap()
        .flatten()
        .collect();
    assert!(
        left.iter()
            .all(|f| !f.file_name().to_string_lossy().starts_with("upload")),
        "{left:?}"
    );
}

#[test]
fn the_command_line_says_of_a_daemons_plugins_what_it_says_of_a_directorys() {
    let daemon = Daemon::start("");
    let file = daemon.rig.path("new.wasm");
    fs::write(&file, version("1.2.0")).unwrap();
    let pushed = daemon.said(&["plugin", "push", "new.wasm"]);
    assert!(pushed.starts_with("pushed guest-table@1.2.0 ("), "{pushed}");
    // By the name of a loose build here.
    let path = daemon.rig.path("plugins").display().to_string();
    let pushed = daemon.json(&["plugin", "push", "validate", "--plugin-path", &path]);
    assert_eq!(pushed["plugin"], "validate", "{pushed}");
    // Both ways of asking print the same.
    let native = concat!(env!("CARGO_TARGET_TMPDIR"), "/native");
    let store = daemon.rig.path("store").display().to_string();
    let places = [
        "--plugin-path",
        &path,
        "--plugin-store",
        &store,
        "--plugin-cache",
        native,
    ];
    for verb in [
        &["plugin", "ls"][..],
        &["plugin", "ls", "--json"],
        &["plugin", "inspect", "guest-table@1.2"],
        &["plugin", "inspect", "validate", "--json"],
        &["plugin", "yank", "guest-table@1.2.0", "--dry-run", "--json"],
    ] {
        let here = daemon.command(&[verb, &places].concat()).output().unwrap();
        assert_eq!(daemon.said(verb), text(&here.stdout), "{verb:?}");
    }
    fs::write(&file, rebuilt(version("1.2.0"))).unwrap();
    let again = daemon.weir(&["plugin", "push", "new.wasm"]);
    assert_eq!(again.status.code(), Some(1));
    let told = text(&again.stderr);
    assert!(
        told.contains("error[plugin_refused]") && told.contains("hint: a version never changes"),
        "{told}"
    );
    let yanked = daemon.said(&["plugin", "yank", "guest-table@1.2.0"]);
    assert!(
        yanked.contains("guest-table@1.2.0 yanked")
            && yanked.contains("in force in no pipeline of this daemon"),
        "{yanked}"
    );
    assert!(daemon.said(&["plugin", "ls"]).contains("store, yanked"));
    fs::write(&file, version("1.2.0")).unwrap();
    let again = daemon.weir(&["plugin", "push", "new.wasm"]);
    assert!(text(&again.stderr).contains("yanked"), "{again:?}");
    let back = daemon.said(&["plugin", "yank", "guest-table@1.2.0", "--undo"]);
    assert!(back.contains("back in use"), "{back}");
    let unknown = daemon.weir(&["plugin", "yank", "guest-table@7.7.7"]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    let nonsense = daemon.weir(&["plugin", "ls", "--plugin-store", &store]);
    assert_eq!(nonsense.status.code(), Some(2), "{nonsense:?}");
}
