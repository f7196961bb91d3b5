//! `GET /events`, `/whoami`, `/pipelines/{pipeline}/files` and the files of `/ui`, over a socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::brokers::until;
use crate::rest_rig::{Rig, basic};

/// As `docs/rest.md` says.
const LISTENERS: usize = 64;
/// Something is told so often, whatever happens.
const HEARTBEAT: Duration = Duration::from_secs(10);

struct Listener(BufReader<TcpStream>);

impl Listener {
    fn new(rig: &Rig) -> Listener {
        let mut socket = rig.socket();
        socket
            .write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        let mut listener = Listener(BufReader::new(socket));
        let head = listener.until_blank();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        assert!(head.contains("cache-control: no-store"), "{head}");
        listener
    }

    fn until_blank(&mut self) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).expect("a line in time");
            if read == 0 || line.trim().is_empty() {
                return all;
            }
            all.push_str(&line);
        }
    }

    /// The next event: its name and data. Lengths of chunks lie between.
    fn event(&mut self) -> (String, Value) {
        loop {
            let text = self.until_blank();
            let line = |name: &str| {
                let mut lines = text.lines();
                lines.find_map(|line| line.strip_prefix(name).map(str::to_owned))
            };
            if let (Some(event), Some(data)) = (line("event: "), line("data: ")) {
                return (event, serde_json::from_str(&data).expect("JSON"));
            }
        }
    }
}

fn states(data: &Value) -> Vec<String> {
    let all = data["changed"].as_array().expect("a list").iter();
    all.map(|one| {
        format!(
            "{} {}",
            one["name"].as_str().unwrap(),
            one["state"].as_str().unwrap()
        )
    })
    .collect()
}

#[test]
fn who_listens_is_told_what_became_other_and_nothing_else() {
    let rig = Rig::new(&[]);
    rig.stopped("a");
    rig.stopped("b");
    let mut listener = Listener::new(&rig);
    let (event, data) = listener.event();
    assert_eq!((event.as_str(), &data["gone"]), ("pipelines", &json!([])));
    assert_eq!(states(&data), ["a STOPPED", "b STOPPED"]);
    assert_eq!(rig.bare("PUT", "/connectors/b/pause").status, 202);
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "b PAUSED") {
        seen.extend(states(&listener.event().1));
    }
    assert!(seen.iter().all(|one| one.starts_with("b ")), "{seen:?}");
    assert_eq!(rig.bare("DELETE", "/connectors/a").status, 204);
    let (_, data) = listener.event();
    assert_eq!(
        (&data["changed"], &data["gone"]),
        (&json!([]), &json!(["a"]))
    );
}

/// Commits that a listener was told at first are not told it once more.
#[test]
fn what_rests_is_told_once() {
    let rig = Rig::new(&[]);
    rig.stopped("b");
    let zone = format!("file:{}/made", rig.dir.path().display());
    let config = json!({
        "connector.class": "weir", "source.type": "rate", "source.rows.per.second": "1000",
        "sink.type": "zone", "sink.url": zone, "sink.rotate.age": "100ms",
    });
    let body = json!({ "name": "made", "config": config });
    let made = rig.send("POST", "/connectors", &body);
    assert_eq!(made.status, 201, "{}", made.text());
    let recent = |one: &Value| one["live"]["recent"].as_array().map_or(0, Vec::len);
    until("two commits", || {
        (recent(&rig.get("/pipelines/made").json()) > 1).then_some(())
    });
    assert_eq!(rig.bare("PUT", "/connectors/made/pause").status, 202);
    until("its rest", || {
        let shown = rig.get("/pipelines/made").json();
        (shown["state"] == "PAUSED").then_some(())
    });
    let mut listener = Listener::new(&rig);
    let first = listener.event().1;
    assert_eq!(states(&first), ["b STOPPED", "made PAUSED"]);
    assert!(recent(&first["changed"][1]) > 1, "{first}");
    // But for the commits, of which it is told the newest one from now on.
    let of_made = |data: &Value| {
        let mut all = data["changed"].as_array().unwrap().iter().cloned();
        let mut made = all.find(|one| one["name"] == "made")?;
        made["live"]["recent"] = Value::Null;
        Some(made)
    };
    let mut told = of_made(&first);
    assert_eq!(rig.bare("PUT", "/connectors/b/pause").status, 202);
    loop {
        let data = listener.event().1;
        if let Some(made) = of_made(&data) {
            assert_ne!(told.replace(made.clone()), Some(made));
        }
        if states(&data).contains(&"b PAUSED".to_owned()) {
            return;
        }
    }
}

#[test]
fn listeners_are_counted_give_their_place_back_and_hold_no_end_up() {
    let rig = Rig::new(&[]);
    let mut all: Vec<Listener> = (0..LISTENERS).map(|_| Listener::new(&rig)).collect();
    for listener in &mut all {
        assert_eq!(listener.event().0, "pipelines");
    }
    let mut more = Listener::new(&rig);
    assert_eq!(more.event().0, "full");
    let mut rest = Vec::new();
    more.0.read_to_end(&mut rest).expect("it ends");
    assert_eq!(rig.get("/health").status, 200);
    // Whoever leaves makes room, and not only when it is told something next.
    all.pop();
    let left = Instant::now();
    all.push(until("a place", || {
        let mut one = Listener::new(&rig);
        (one.event().0 == "pipelines").then_some(one)
    }));
    // A heartbeat would find it out too, later.
    assert!(left.elapsed() < HEARTBEAT * 3 / 4, "{:?}", left.elapsed());
    // The server ends although they would listen on.
    let began = Instant::now();
    drop(rig);
    assert!(began.elapsed() < Duration::from_secs(10));
    let mut left = Vec::new();
    all.pop()
        .unwrap()
        .0
        .read_to_end(&mut left)
        .expect("it ends");
}

#[test]
fn the_page_needs_no_login_and_is_asked_for_once() {
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "password=secret\n").unwrap();
    let reference = format!("${{file:{}:password}}", password.path().display());
    let rig = Rig::new(&[
        ("rest.auth.basic.bob", &reference),
        ("rest.auth.basic.ann", &reference),
        ("rest.auth.read.only", "bob"),
    ]);
    let moved = rig.get("/ui");
    assert_eq!((moved.status, moved.header("location")), (302, Some("ui/")));
    let page = rig.get("/ui/");
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    let script = rig.get("/ui/app.js");
    assert_eq!(
        script.header("content-type"),
        Some("text/javascript; charset=utf-8")
    );
    assert_eq!(script.header("cache-control"), Some("no-cache"));
    let tag = script.header("etag").unwrap();
    let same = rig.ask("GET", "/ui/app.js", &[("If-None-Match", tag)], b"");
    assert_eq!((same.status, same.body.len()), (304, 0));
    assert_eq!(
        rig.ask("GET", "/ui/app.js", &[("If-None-Match", "\"x\"")], b"")
            .status,
        200
    );
    assert_eq!(rig.get("/ui/Cargo.toml").status, 404);
    assert_eq!(rig.get("/ui/..%2fui.rs").status, 404);
    // All that it shows needs one.
    for path in ["/whoami", "/events", "/pipelines"] {
        assert_eq!(rig.get(path).status, 401, "{path}");
    }
    let who = |name: &str| {
        let login = [("Authorization", basic(&format!("{name}:secret")))];
        let login = [(login[0].0, login[0].1.as_str())];
        rig.ask("GET", "/whoami", &login, b"").json()
    };
    assert_eq!(
        who("bob"),
        json!({ "name": "bob", "role": "read_only", "login": true })
    );
    assert_eq!(who("ann")["role"], "full");
    let open = Rig::new(&[]);
    assert_eq!(
        open.get("/whoami").json(),
        json!({ "name": "anonymous@127.0.0.1", "role": "full", "login": false })
    );
}
