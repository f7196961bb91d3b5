//! Secrets are put into the daemon's environment and files, references to them are tried in every key of every class,
//! and then they are searched in everything that the daemon says and writes.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};

use crate::brokers::within;
use crate::connect_http::{Answer, ask};
use crate::daemon_rig::Rig;
use crate::every_key::{bases, keys, with};
use crate::rest_rig::basic;

/// Allowed to references by REST: in the environment, and in a file.
const ENV: &str = "Pl4ntedInTheEnvironment77";
const FILE: &str = "Pl4ntedInAFileOfSecrets88";
/// The daemon's own: the password that lets us in.
const OWN: &str = "Pl4ntedAsTheDoorsOwn99";
/// For pipelines to come up and say what they say.
const MOMENT: Duration = Duration::from_millis(600);
/// Pipelines that are there at once.
const MANY: usize = 24;

/// What a secret may look like: itself in any case, hexadecimal, Base64 wherever it begins.
fn shapes(secret: &str) -> Vec<String> {
    let mut all = vec![
        secret.to_lowercase(),
        secret.bytes().map(|b| format!("{b:02x}")).collect(),
    ];
    for before in 0..3 {
        let text = format!("{}{secret}", "x".repeat(before));
        let coded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(text);
        // What stands at the borders depends on what stands around.
        all.push(coded[4..coded.len() - 3].to_owned());
    }
    all
}

struct Scan(Vec<(&'static str, Vec<String>)>);

impl Scan {
    fn new() -> Scan {
        Scan(
            [ENV, FILE, OWN]
                .map(|secret| (secret, shapes(secret)))
                .into(),
        )
    }

    fn look(&self, place: &str, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let lower = text.to_lowercase();
        for (secret, shapes) in &self.0 {
            for shape in shapes {
                let found = lower
                    .find(shape.as_str())
                    .or_else(|| text.find(shape.as_str()));
                let around = found.map(|at| lower.get(at.saturating_sub(200)..).unwrap_or(&lower));
                let around = around.map(|text| text.chars().take(400).collect::<String>());
                assert!(
                    found.is_none(),
                    "{place} shows {secret} as {shape}: {around:?}"
                );
            }
        }
    }

    /// Names and contents of all below a directory, but for the files where the secrets were planted.
    fn directory(&self, dir: &Path, planted: &[&Path]) -> usize {
        let mut files = 0;
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            self.look("a path", path.as_os_str().as_encoded_bytes());
            if path.is_dir() {
                files += self.directory(&path, planted);
            } else if !planted.contains(&path.as_path()) {
                self.look(
                    &path.display().to_string(),
                    &fs::read(&path).unwrap_or_default(),
                );
                files += 1;
            }
        }
        files
    }
}

struct Client {
    addr: SocketAddr,
    scan: Scan,
    asked: std::cell::Cell<usize>,
}

impl Client {
    /// Every answer is looked through.
    fn ask(&self, method: &str, target: &str, body: Option<&Value>) -> Answer {
        let door = [("Authorization".to_owned(), basic(&format!("ann:{OWN}")))];
        let bytes = body.map(|body| body.to_string().into_bytes());
        let answer = ask(self.addr, method, target, &door, bytes.as_deref()).unwrap();
        assert_ne!(answer.status, 401, "{target}");
        let place = format!("{method} {target} ({body:?})");
        self.scan.look(&place, &answer.body);
        for (name, value) in &answer.headers {
            self.scan
                .look(&place, format!("{name}: {value}").as_bytes());
        }
        self.asked.set(self.asked.get() + 1);
        answer
    }

    /// All that can be asked about pipelines, then they go.
    fn leave(&self, names: &mut Vec<String>) {
        let _waited = within(MOMENT, || None::<()>);
        for target in [
            "/connectors?expand=info&expand=status",
            "/metrics",
            "/pipelines",
            "/health",
        ] {
            self.ask("GET", target, None);
        }
        for name in names.drain(..) {
            for below in [
                "",
                "/status",
                "/config",
                "/tasks",
                "/topics",
                "/offsets",
                "/tasks/0/status",
            ] {
                self.ask("GET", &format!("/connectors/{name}{below}"), None);
            }
            for below in ["", "/log", "/history", "/dlq", "/dlq/counts", "/configs"] {
                self.ask("GET", &format!("/pipelines/{name}{below}"), None);
            }
            self.ask("DELETE", &format!("/connectors/{name}"), None);
        }
    }
}

#[test]
fn no_secret_shows_whatever_key_refers_to_it() {
    let mut rig = Rig::new(&["t"]);
    rig.produce("t", &["1,one", "2,two"]);
    let (allowed, own) = (rig.path("allowed.properties"), rig.path("own.properties"));
    fs::write(&allowed, format!("token={FILE}\n")).unwrap();
    fs::write(&own, format!("ann={OWN}\n")).unwrap();
    // The operator's own pipeline has secrets too, and says as much as it can.
    let operators = format!(
        "name=operators\nsource.type=kafka\nsource.topics=t\nsource.start=earliest\nsource.bootstrap.servers={}\n\
         sink.type=zone\nsink.url=file:zones/operators\nsource.kafka.security.protocol=SASL_PLAINTEXT\n\
         source.kafka.sasl.mechanism=PLAIN\nsource.kafka.sasl.username=${{env:PLANTED}}\n\
         source.kafka.sasl.password=${{file:own.properties:ann}}\nsource.kafka.debug=all\n",
        rig.broker.bootstrap()
    );
    fs::write(rig.path("operators.properties"), operators).unwrap();
    let mut command = rig.command(&[
        "rest.auth.basic.ann=${file:own.properties:ann}",
        "rest.auth.bearer.ci=${env:PLANTED_OWN}",
        // Allowed by mistake: what the daemon itself uses is not.
        "secrets.allow.env=PLANTED*",
        &format!("secrets.allow.files={}", rig.dir.path().display()),
        "pipelines=operators.properties",
        "log.level=debug",
        "log.dir=logs",
    ]);
    command.env("PLANTED", ENV).env("PLANTED_OWN", OWN);
    let daemon = rig.start_as(command);
    let client = Client {
        addr: daemon.addr,
        scan: Scan::new(),
        asked: std::cell::Cell::new(0),
    };
    let file = |path: &Path, key: &str| format!("${{file:{}:{key}}}", path.display());
    let references = [
        "${env:PLANTED}".to_owned(),
        file(&allowed, "token"),
        "${env:PLANTED_OWN}".to_owned(),
        file(&own, "ann"),
        "a-${env:PLANTED}".to_owned(),
    ];
    let (mut names, mut made, mut n) = (Vec::new(), Vec::new(), 0);
    for class in 0..bases(&rig, 0).len() {
        let all = keys(&bases(&rig, 0)[class]);
        for key in all {
            for reference in &references {
                n += 1;
                let name = format!("k{n}");
                let config = with(&bases(&rig, n)[class], &key, reference);
                let body = json!({ "name": name, "config": config });
                let created = client.ask("POST", "/connectors", Some(&body));
                assert!(
                    [201, 400].contains(&created.status),
                    "{key}: {}",
                    created.text()
                );
                if created.status == 201 {
                    made.push(key.clone());
                    names.push(name);
                } else if class == 0 {
                    let target = "/connector-plugins/weir/config/validate";
                    client.ask("PUT", target, Some(&json!(with(&config, "name", &name))));
                }
                if names.len() >= MANY {
                    client.leave(&mut names);
                }
            }
        }
    }
    client.leave(&mut names);
    client.ask("GET", "/pipelines/operators", None);
    // References do work where they belong, and nowhere else.
    for (key, works) in [
        ("source.kafka.sasl.password", true),
        ("consumer.override.sasl.username", true),
        ("producer.override.ssl.key.password", true),
        ("source.topics", false),
        ("source.kafka.sasl.mechanism", false),
        ("sink.url", false),
        ("topics", false),
        ("file", false),
    ] {
        assert_eq!(made.iter().any(|made| made == key), works, "{key}");
    }
    assert!(client.asked.get() > 1000, "{}", client.asked.get());
    drop(daemon);
    let planted = [allowed.as_path(), own.as_path()];
    let files = client.scan.directory(rig.dir.path(), &planted);
    assert!(files > 20, "{files}");
    // The command line says no more.
    let check = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["check", "--no-plugins", "operators.properties"])
        .current_dir(rig.dir.path())
        .env("PLANTED", ENV)
        .output()
        .unwrap();
    client
        .scan
        .look("weir check", &[check.stdout, check.stderr].concat());
}
