//! The server with handlers of the test's own: panics, slowness, uploads.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::auth::{Logins, Rates};
use super::fault::HttpError;
use super::limits::HANDLERS;
use super::openapi::SHARED;
use super::route::{Access, Ctx, HttpResponse, Method, Request, RequestBody, ResponseBody, Route};
use super::schemas;
use super::server::{self, Server};
use crate::clock::SystemClock;
use crate::config::worker;
use crate::daemon::{Supervisor, Watched};
use crate::telemetry::{Progress, ProgressMode};

/// Held by a test, so that handlers block until it is released.
static GATE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

fn open_gate(open: bool) {
    *GATE.0.lock().expect("gate") = open;
    GATE.1.notify_all();
}

fn panics(_: &Ctx, _: &mut Request) -> Result<HttpResponse, HttpError> {
    panic!("as the test wants it")
}

fn waits(_: &Ctx, _: &mut Request) -> Result<HttpResponse, HttpError> {
    let open = GATE.0.lock().expect("gate");
    let patience = Duration::from_secs(60);
    let waited = GATE.1.wait_timeout_while(open, patience, |open| !*open);
    drop(waited.expect("gate"));
    Ok(HttpResponse::empty(204))
}

/// How many handlers learned that nobody waits.
static TOLD: (Mutex<u32>, Condvar) = (Mutex::new(0), Condvar::new());

/// Works until nobody waits for it.
fn works(ctx: &Ctx, _: &mut Request) -> Result<HttpResponse, HttpError> {
    let mut told = TOLD.0.lock().expect("told");
    while ctx.asker.wants_it().is_ok() {
        let piece = Duration::from_millis(10);
        told = TOLD.1.wait_timeout(told, piece).expect("told").0;
    }
    *told += 1;
    TOLD.1.notify_all();
    Ok(HttpResponse::empty(204))
}

fn probe(_: &Ctx, _: &mut Request) -> Result<HttpResponse, HttpError> {
    Ok(HttpResponse::empty(204))
}

/// Answers with what it read: how much, and the last byte.
fn swallows(_: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let mut upload = request.upload.take().expect("an upload");
    let mut all = Vec::new();
    match upload.read_to_end(&mut all) {
        Ok(_) => HttpResponse::json(200, &(all.len(), all.last())),
        Err(error) => Err(HttpError::internal(format!("torn: {error}"))),
    }
}

/// Stops reading after one byte.
fn picky(_: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let mut upload = request.upload.take().expect("an upload");
    let mut one = [0];
    upload.read_exact(&mut one).expect("a byte");
    Err(HttpError::bad("not this"))
}

fn routes() -> &'static [Route] {
    static ROUTES: OnceLock<Vec<Route>> = OnceLock::new();
    ROUTES.get_or_init(|| {
        let base = Route {
            method: Method::Get,
            path: "/panics",
            may: Access::Reader,
            tag: "test",
            summary: "",
            query: &[],
            takes: RequestBody::Nothing,
            gives: &[(200, ResponseBody::Json(schemas::of::<String>))],
            faults: &[],
            handler: panics,
        };
        let push = Route {
            method: Method::Post,
            takes: RequestBody::Bytes,
            ..base
        };
        vec![
            base,
            Route {
                path: "/waits",
                handler: waits,
                ..base
            },
            Route {
                path: "/works",
                handler: works,
                ..base
            },
            Route {
                path: "/probe",
                may: Access::Anyone,
                handler: probe,
                ..base
            },
            Route {
                path: "/swallows",
                handler: swallows,
                ..push
            },
            Route {
                path: "/picky",
                handler: picky,
                ..push
            },
        ]
    })
}

struct Rig {
    server: Option<Server>,
    supervisor: Arc<Supervisor>,
    addr: SocketAddr,
    _dir: TempDir,
}

impl Rig {
    fn new(set: &[(&str, &str)]) -> Rig {
        let dir = tempfile::tempdir().expect("directory");
        let data = dir.path().join("daemon").display().to_string();
        let mut keys = vec![("data.dir", data.as_str()), ("rest.listen", "127.0.0.1:0")];
        keys.extend(set);
        let worker = worker::from_map("worker", keys).expect("a config");
        let shown = Progress::shared(ProgressMode::None);
        let supervisor = Supervisor::open(&worker, SystemClock::shared(), shown).expect("open");
        let bound = server::bind(&worker.rest).expect("bound");
        let addr = bound[0].addr;
        let watched: (Arc<dyn Watched>, _) = (supervisor.clone(), Some(supervisor.clone()));
        let logins = Logins::new([], [], []);
        let mut shared = super::shared(&worker.rest, watched, routes(), logins);
        shared.rates = Rates::new(1_000_000);
        let server = Server::start(bound, shared).expect("started");
        Rig {
            server: Some(server),
            supervisor,
            addr,
            _dir: dir,
        }
    }

    fn send(&self, head: &str, body: &[u8]) -> TcpStream {
        let mut socket = TcpStream::connect(self.addr).expect("connection");
        let patience = Some(Duration::from_secs(30));
        socket.set_read_timeout(patience).expect("timeout");
        let head = format!("{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        let sent = socket.write_all(head.as_bytes());
        let _cut_off = sent.and_then(|()| socket.write_all(body));
        socket
    }

    fn get(&self, path: &str) -> (u16, Value) {
        answer(self.send(&format!("GET {path}"), b"\r\n"))
    }

    fn push(&self, path: &str, length: usize) -> (u16, Value) {
        let mut body = format!("Content-Length: {length}\r\n\r\n").into_bytes();
        body.extend((0..length).map(|n| u8::try_from(n % 251).expect("a byte")));
        answer(self.send(&format!("POST {path}"), &body))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop(Duration::from_secs(1));
        }
        self.supervisor.shut_down(Duration::from_secs(1));
    }
}

fn answer(mut socket: TcpStream) -> (u16, Value) {
    let mut bytes = Vec::new();
    let _reset = socket.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let status = text.split(' ').nth(1).and_then(|s| s.parse().ok());
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body = serde_json::from_str(body).unwrap_or_default();
    (status.unwrap_or_else(|| panic!("no answer: {text}")), body)
}

#[test]
fn a_panic_is_one_requests() {
    let rig = Rig::new(&[]);
    for _ in 0..HANDLERS + 8 {
        let (status, body) = rig.get("/panics");
        assert_eq!((status, &body["error_code"]), (500, &Value::from(500)));
        let message = body["message"].as_str().unwrap_or_default();
        assert!(message.contains("GET /panics panicked"), "{message}");
        assert!(!message.contains("as the test wants it"), "{message}");
    }
    assert_eq!(rig.get("/probe").0, 204);
}

#[test]
fn what_takes_too_long_is_answered_and_probes_do_not_wait() {
    let rig = Rig::new(&[("rest.request.timeout", "1s")]);
    open_gate(false);
    let waiting: Vec<TcpStream> = (0..HANDLERS + 4)
        .map(|_| rig.send("GET /waits", b"\r\n"))
        .collect();
    assert_eq!(rig.get("/probe").0, 204);
    for socket in waiting {
        let (status, body) = answer(socket);
        assert_eq!(status, 500);
        let message = body["message"].as_str().unwrap_or_default();
        assert!(
            message.starts_with("Request timed out. The worker is currently handling "),
            "{message}"
        );
    }
    assert_eq!(rig.get("/probe").0, 204);
    open_gate(true);
    let freed = (0..500).any(|_| rig.get("/waits").0 == 204);
    assert!(freed, "handlers are free again");
}

#[test]
fn a_client_that_leaves_ends_the_work_for_it() {
    let rig = Rig::new(&[("rest.request.timeout", "1h")]);
    drop(rig.send("GET /works", b"\r\n"));
    let told = TOLD.0.lock().expect("told");
    let patience = Duration::from_secs(60);
    let waited = TOLD.1.wait_timeout_while(told, patience, |told| *told == 0);
    assert!(!waited.expect("told").1.timed_out(), "it was not told");
}

#[test]
fn uploads_stream_within_their_limits() {
    let rig = Rig::new(&[("rest.max.plugin", "1MiB"), ("rest.body.timeout", "500ms")]);
    let whole = 1 << 20;
    let (status, body) = rig.push("/swallows", whole);
    let last = Value::from((whole - 1) % 251);
    assert_eq!(
        (status, &body[0], &body[1]),
        (200, &Value::from(whole), &last)
    );
    assert_eq!(rig.push("/swallows", 0).1[0], 0);
    let (status, body) = rig.push("/swallows", whole + 1);
    assert_eq!(status, 413, "{body}");
    assert_eq!(rig.push("/picky", whole).0, 400);
    // One that stops, and one that leaves.
    let (status, body) = answer(rig.send("POST /swallows", b"Content-Length: 9\r\n\r\nabc"));
    assert_eq!(status, 408, "{body}");
    drop(rig.send("POST /swallows", b"Content-Length: 9\r\n\r\nabc"));
    assert_eq!(rig.get("/probe").0, 204);
}

/// docs/rest.md has a row for each route, with its answers and its refusals. What any route may answer is said there once.
#[test]
fn the_page_has_the_statuses_of_every_route() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/rest.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let anywhere: Vec<u16> = SHARED.iter().map(|(status, _)| *status).collect();
    let said = anywhere.iter().map(u16::to_string).collect::<Vec<_>>();
    let said = said.join(", ").replace(", 503", " and 503");
    let said = format!("Any route may answer with {said}");
    assert!(page.contains(&said), "{said}");
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for route in super::routes() {
        let named = format!("`{} {}`", route.method.word(), route.path);
        let mut rows = page.lines().filter(|line| line.starts_with('|'));
        let Some(row) = rows.find(|row| row.contains(&named)) else {
            continue; // it shares a row, by its last part
        };
        seen += 1;
        let said = row.split('|').nth(2).unwrap_or_default();
        let said: Vec<&str> = said.split(',').map(str::trim).collect();
        let refuses = route.faults.iter().filter(|s| !anywhere.contains(s));
        let gives = route.gives.iter().map(|(status, _)| status);
        let own = gives.chain(refuses).copied();
        let lacks: Vec<u16> = own
            .filter(|s| !said.contains(&s.to_string().as_str()))
            .collect();
        if !lacks.is_empty() {
            wrong.push(format!("{named} lacks {lacks:?}"));
        }
    }
    assert!(wrong.is_empty() && seen > 30, "{seen}: {wrong:#?}");
}
