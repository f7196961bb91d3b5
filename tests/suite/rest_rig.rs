//! A daemon's supervisor and HTTP in this process, on a free port, and a client that can write anything to the socket.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use openssl::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode};
use serde_json::{Value, json};
use tempfile::TempDir;
use weir::clock::SystemClock;
use weir::config::worker;
use weir::daemon::Supervisor;
use weir::http::Admin;
use weir::telemetry::{Progress, ProgressMode};

/// An answer comes within this, or never.
const PATIENCE: Duration = Duration::from_secs(20);

/// Stops when dropped.
pub struct Rig {
    pub dir: TempDir,
    pub addr: SocketAddr,
    pub supervisor: Arc<Supervisor>,
    admin: Option<Admin>,
    tls: bool,
}

#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// A worker's config with these keys, in a directory of its own.
pub fn worker_of(dir: &TempDir, set: &[(&str, &str)]) -> weir::error::Result<worker::WorkerConfig> {
    let path = |below: &str| dir.path().join(below).display().to_string();
    let mut keys: BTreeMap<String, String> = BTreeMap::from([
        ("data.dir".to_owned(), path("daemon")),
        ("plugin.path".to_owned(), path("plugins")),
        ("plugin.cache".to_owned(), path("cache")),
        ("rest.listen".to_owned(), "127.0.0.1:0".to_owned()),
        (
            "rest.files.roots".to_owned(),
            dir.path().display().to_string(),
        ),
        ("shutdown.timeout".to_owned(), "2s".to_owned()),
    ]);
    for (key, value) in set {
        keys.insert((*key).to_owned(), (*value).to_owned());
    }
    worker::from_map("worker", keys.iter().map(|(k, v)| (k.as_str(), v.as_str())))
}

impl Rig {
    pub fn new(set: &[(&str, &str)]) -> Rig {
        Rig::within(tempfile::tempdir().expect("directory"), set)
    }

    pub fn within(dir: TempDir, set: &[(&str, &str)]) -> Rig {
        std::fs::create_dir_all(dir.path().join("plugins")).expect("plugins");
        let worker = worker_of(&dir, set).expect("a worker's config");
        let shown = Progress::shared(ProgressMode::None);
        let supervisor =
            Supervisor::open(&worker, SystemClock::shared(), shown).expect("a supervisor");
        let admin = Admin::serve(supervisor.clone(), &worker).expect("a listener");
        Rig {
            dir,
            addr: admin.addr(),
            supervisor,
            admin: Some(admin),
            tls: set.iter().any(|(key, _)| *key == "rest.tls.key"),
        }
    }

    /// A config that is right and needs no broker: it reads a zone that nobody has written yet.
    pub fn config(&self, name: &str) -> Value {
        let zone = |below: &str| format!("file:{}/{below}", self.dir.path().display());
        json!({
            "connector.class": "weir", "source.type": "zone", "source.url": zone("raw"),
            "source.pipeline": "writer", "source.table": "t", "trigger": "every:1h",
            "sink.type": "zone", "sink.url": zone(&format!("out-{name}")), "sink.partition.field": "day",
        })
    }

    /// Created, and not running.
    pub fn stopped(&self, name: &str) {
        let body = json!({ "name": name, "config": self.config(name), "initial_state": "stopped" });
        let reply = self.send("POST", "/connectors", &body);
        assert_eq!(reply.status, 201, "{}", reply.text());
    }

    pub fn socket(&self) -> TcpStream {
        let socket = TcpStream::connect(self.addr).expect("connection");
        socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
        socket
    }

    /// Without regard for the certificate.
    pub fn tls(&self) -> SslStream<TcpStream> {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).expect("TLS");
        builder.set_verify(SslVerifyMode::NONE);
        let connector = builder.build();
        connector
            .connect("localhost", self.socket())
            .expect("handshake")
    }

    pub fn raw(&self, bytes: &[u8]) -> Reply {
        if self.tls {
            return exchange(&mut self.tls(), bytes);
        }
        exchange(&mut self.socket(), bytes)
    }

    /// One request with these headers and body.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut bytes =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost:8083\r\nConnection: close\r\n");
        for (name, value) in headers {
            bytes.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            bytes.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        bytes.push_str("\r\n");
        let mut bytes = bytes.into_bytes();
        bytes.extend_from_slice(body);
        self.raw(&bytes)
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], b"")
    }

    pub fn bare(&self, method: &str, path: &str) -> Reply {
        self.ask(method, path, &[], b"")
    }

    pub fn send(&self, method: &str, path: &str, body: &Value) -> Reply {
        let body = body.to_string();
        let kind = [("Content-Type", "application/json")];
        self.ask(method, path, &kind, body.as_bytes())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(admin) = self.admin.take() {
            admin.stop(Duration::from_secs(2));
        }
        self.supervisor.shut_down(Duration::from_secs(2));
    }
}

pub fn basic(pair: &str) -> String {
    let coded = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Basic {coded}")
}

fn exchange(socket: &mut (impl Read + Write), bytes: &[u8]) -> Reply {
    // A server that has heard enough closes while we still write.
    let _cut_off = socket.write_all(bytes);
    let _cut_off = socket.flush();
    Reply::read(socket).expect("an answer")
}

impl Reply {
    /// The next answer on the connection. `None`: it was closed.
    pub fn read(socket: &mut impl Read) -> Option<Reply> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match socket.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return None,
            }
        }
        let head = String::from_utf8(head).expect("ASCII");
        let mut lines = head.lines();
        let first = lines.next().unwrap_or_default();
        let status = first.split(' ').nth(1).and_then(|s| s.parse().ok());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut reply = Reply {
            status: status.unwrap_or_else(|| panic!("no status: {first}")),
            headers,
            body: Vec::new(),
        };
        let length = reply.header("content-length").unwrap_or("0").parse();
        reply.body = vec![0; length.expect("a length")];
        socket.read_exact(&mut reply.body).expect("the whole body");
        Some(reply)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        all.find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{} {e}: {}", self.status, self.text()))
    }

    pub fn message(&self) -> String {
        let body = self.json();
        assert_eq!(body["error_code"], self.status, "{body}");
        let message = body["message"].as_str();
        message.unwrap_or_else(|| panic!("{body}")).to_owned()
    }
}

/// Everything that comes until the server closes.
pub fn until_closed(socket: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _reset = socket.read_to_end(&mut all);
    all
}

pub fn half_close(socket: &TcpStream) {
    socket.shutdown(Shutdown::Write).expect("half closed");
}
