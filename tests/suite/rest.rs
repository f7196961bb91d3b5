//! The HTTP server against misbehaving clients: sizes, slowness, path tricks, broken requests, wrong secrets, pages of
//! other sites.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::{X509, X509NameBuilder};
use serde_json::json;

use crate::brokers::until;
use crate::rest_rig::{Reply, Rig, basic, half_close, until_closed};

#[test]
fn bodies_and_headers_are_bounded_and_the_server_lives_on() {
    let rig = Rig::new(&[("rest.max.body", "64KiB"), ("rest.max.header", "8KiB")]);
    let kind = [("Content-Type", "application/json")];
    let huge = vec![b' '; 3 << 20];
    let reply = rig.ask("POST", "/connectors", &kind, &huge);
    assert_eq!(reply.status, 413);
    assert!(reply.message().contains("rest.max.body"));
    let claimed = rig.raw(
        b"POST /connectors HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n{",
    );
    assert_eq!(claimed.status, 413);
    let mut chunked =
        b"PUT /connectors/x/config HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_vec();
    for _ in 0..80 {
        chunked.extend_from_slice(b"400\r\n");
        chunked.extend_from_slice(&[b'x'; 1024]);
        chunked.extend_from_slice(b"\r\n");
    }
    assert_eq!(rig.raw(&chunked).status, 413);
    // Of a route that takes no body, too.
    assert_eq!(
        rig.ask("PUT", "/connectors/x/pause", &[], &huge).status,
        413
    );

    let long = "x".repeat(16 << 10);
    assert_eq!(rig.ask("GET", "/", &[("X-Long", &long)], b"").status, 431);
    let path = format!("/{long}");
    assert!([414, 431].contains(&rig.get(&path).status));
    let many: Vec<(String, &str)> = (0..200).map(|n| (format!("X-{n}"), "1")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    assert_eq!(rig.ask("GET", "/", &many, b"").status, 431);
    let deep = "[".repeat(20_000);
    assert_eq!(
        rig.ask("POST", "/connectors", &kind, deep.as_bytes())
            .status,
        400
    );
    assert_eq!(rig.get("/health").status, 200);
}

#[test]
fn a_plugin_push_has_its_own_limit() {
    let rig = Rig::new(&[("rest.max.plugin", "64KiB")]);
    let reply = rig.ask("POST", "/plugins", &[], &vec![0; 1 << 20]);
    assert_eq!(reply.status, 413, "{}", reply.text());
    assert!(reply.message().contains("rest.max.plugin"));
    let reply = rig.ask("POST", "/plugins", &[], b"no component");
    assert_eq!(reply.status, 400, "{}", reply.text());
}

#[test]
fn who_sends_everything_before_reading_sees_the_refusal_and_no_reset() {
    let rig = Rig::new(&[]);
    for (path, status) in [("/none", 404), ("/health", 405), ("/connectors", 413)] {
        let mut socket = rig.socket();
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n");
        let head =
            format!("{head}Content-Type: application/json\r\nContent-Length: 25165824\r\n\r\n");
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(&vec![b' '; 24 << 20]).unwrap();
        assert_eq!(Reply::read(&mut socket).unwrap().status, status, "{path}");
    }
}

#[test]
fn slow_clients_are_cut_off() {
    let rig = Rig::new(&[
        ("rest.header.timeout", "400ms"),
        ("rest.body.timeout", "400ms"),
    ]);
    // Nothing at all, half a head, and a head that trickles.
    for sent in ["", "GET /connectors HTT", "GET / HTTP/1.1\r\nX-A: b\r\n"] {
        let mut socket = rig.socket();
        socket.write_all(sent.as_bytes()).expect("sent");
        let began = Instant::now();
        assert_eq!(until_closed(&mut socket), b"", "{sent}");
        assert!(began.elapsed() < Duration::from_secs(10), "{sent}");
    }
    let mut socket = rig.socket();
    let mut trickled = 0;
    until("the trickle is cut off", || {
        trickled += 1;
        socket.write_all(b"X").err().map(|_| ())
    });
    assert!(trickled > 1);
    // A body that stops.
    let mut socket = rig.socket();
    let head = b"POST /connectors HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"na";
    socket.write_all(head).expect("sent");
    let reply = Reply::read(&mut socket).expect("an answer");
    assert_eq!(reply.status, 408);
    assert!(reply.message().contains("rest.body.timeout"));
    assert_eq!(until_closed(&mut socket), b"");
    assert_eq!(rig.get("/health").status, 200);
}

#[test]
fn a_connection_that_is_kept_may_be_quiet_longer_than_a_head() {
    let rig = Rig::new(&[("rest.header.timeout", "300ms")]);
    let mut kept = rig.socket();
    let ask = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    kept.write_all(ask).expect("sent");
    assert_eq!(Reply::read(&mut kept).expect("an answer").status, 200);
    // Another one that says nothing is the clock.
    assert_eq!(until_closed(&mut rig.socket()), b"");
    kept.write_all(ask).expect("sent");
    assert_eq!(Reply::read(&mut kept).expect("still there").status, 200);
}

#[test]
fn too_many_requests_are_told_when_to_come_again() {
    let rig = Rig::new(&[("rest.max.rate", "5")]);
    let limited = until("the rate is used up", || {
        Some(rig.get("/livez")).filter(|reply| reply.status == 429)
    });
    assert_eq!(limited.header("retry-after"), Some("1"));
    assert!(limited.message().contains("rest.max.rate"));
    until("the bucket fills", || {
        (rig.get("/livez").status == 200).then_some(())
    });
}

#[test]
fn path_tricks_lead_nowhere() {
    let rig = Rig::new(&[]);
    rig.stopped("p");
    for (path, status) in [
        ("/connectors/../connectors/p", 404),
        ("/../../etc/passwd", 404),
        ("/connectors/%2e%2e/p", 404),
        ("/connectors/%2e%2e", 404),
        ("/connectors/p%00", 404),
        ("/connectors/%00", 404),
        ("/connectors/p%2Fstatus", 404),
        ("/connectors/p%252Fstatus", 404),
        ("/connectors/p//status", 404),
        ("/connectors/p/status?a=%", 400),
        ("/connectors/%", 400),
        ("/connectors/%4", 400),
        ("/connectors/%zz", 400),
        ("/connectors/%ff%fe", 400),
        ("/CONNECTORS/p", 404),
        ("///connectors//", 200),
        ("//connectors/p///", 200),
        ("/connectors/%70", 200),
        ("/connectors/p?x=1&x=%20+&&=", 200),
        ("/connector-plugins/..%2f..%2fetc%2fpasswd/config", 404),
        ("/admin/loggers/%0d%0aX-Evil:1", 404),
    ] {
        let reply = rig.get(path);
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
        if status != 200 {
            reply.message();
        }
        assert_eq!(reply.header("x-evil"), None);
    }
    for head in ["", "Host: a\r\nHost: b\r\n"] {
        let bytes = format!("GET /livez HTTP/1.1\r\n{head}\r\n");
        assert_eq!(rig.raw(bytes.as_bytes()).status, 400, "{head}");
    }
    assert_eq!(rig.raw(b"GET /livez HTTP/1.0\r\n\r\n").status, 200);
    let absolute = rig.raw(
        b"GET http://localhost/connectors HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(absolute.json(), json!(["p"]));
}

#[test]
fn broken_requests_break_only_themselves() {
    let rig = Rig::new(&[]);
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad Header\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /connectors HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n{}  ",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let mut socket = rig.socket();
        socket.write_all(bytes).expect("sent");
        half_close(&socket);
        let answer = until_closed(&mut socket);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    // A length and chunks at once: one message, or none; never two.
    let smuggled = b"POST /connectors HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
        0\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut socket = rig.socket();
    socket.write_all(smuggled).expect("sent");
    half_close(&socket);
    let answer = String::from_utf8_lossy(&until_closed(&mut socket)).into_owned();
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    // A client that leaves in the middle of a body.
    let mut socket = rig.socket();
    socket
        .write_all(b"POST /connectors HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        .expect("sent");
    drop(socket);
    assert_eq!(rig.get("/health").status, 200);
}

#[test]
fn requests_in_a_row_and_half_closed_sockets_are_answered() {
    let rig = Rig::new(&[]);
    let mut socket = rig.socket();
    let one = "GET /connectors HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let put = "PUT /connectors/no/pause HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
    let head = "HEAD /connectors HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let all = format!("{one}{put}{one}{head}");
    socket.write_all(all.as_bytes()).expect("sent");
    half_close(&socket);
    for status in [200, 404, 200] {
        assert_eq!(Reply::read(&mut socket).expect("an answer").status, status);
    }
    let rest = until_closed(&mut socket);
    let rest = String::from_utf8_lossy(&rest);
    assert!(
        rest.starts_with("HTTP/1.1 200") && rest.ends_with("\r\n\r\n"),
        "{rest}"
    );
    assert!(
        rest.contains("content-length: 2\r\n"),
        "as GET would have: {rest}"
    );

    let mut expects = rig.socket();
    let head = "POST /connectors HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    expects.write_all(head.as_bytes()).expect("sent");
    let first = Reply::read(&mut expects).expect("go on");
    assert_eq!(first.status, 100);
    expects.write_all(b"{}").expect("sent");
    assert_eq!(Reply::read(&mut expects).expect("an answer").status, 400);
}

// --------------------------------------------------------------------- doors

const SECRET: &str = "correct-horse-battery";
const TOKEN: &str = "tok-9f8e7d6c";

/// References to secrets in a file, as a config has them.
fn secrets(dir: &Path) -> Vec<(String, String)> {
    let file = dir.join("secrets.properties");
    let text = format!("ann={SECRET}\nci={TOKEN}\nviewer=just-looking\n");
    std::fs::write(&file, text).expect("secrets");
    let reference = |key: &str| format!("${{file:{}:{key}}}", file.display());
    vec![
        ("rest.auth.basic.ann".into(), reference("ann")),
        ("rest.auth.basic.viewer".into(), reference("viewer")),
        ("rest.auth.bearer.ci".into(), reference("ci")),
        ("rest.auth.read.only".into(), "viewer".into()),
    ]
}

/// A certificate of its own making, and its key.
fn certificate(dir: &Path) -> (PathBuf, PathBuf) {
    let key = PKey::from_rsa(Rsa::generate(2048).expect("a key")).expect("a key");
    let mut name = X509NameBuilder::new().expect("a name");
    name.append_entry_by_text("CN", "localhost")
        .expect("a name");
    let name = name.build();
    let mut cert = X509::builder().expect("a certificate");
    cert.set_version(2).expect("v3");
    cert.set_subject_name(&name).expect("subject");
    cert.set_issuer_name(&name).expect("issuer");
    cert.set_pubkey(&key).expect("key");
    let (from, to) = (Asn1Time::days_from_now(0), Asn1Time::days_from_now(2));
    cert.set_not_before(&from.expect("a day")).expect("from");
    cert.set_not_after(&to.expect("a day")).expect("to");
    cert.sign(&key, MessageDigest::sha256()).expect("signed");
    let (chain, secret) = (dir.join("chain.pem"), dir.join("key.pem"));
    std::fs::write(&chain, cert.build().to_pem().expect("PEM")).expect("chain");
    let pem = key.private_key_to_pem_pkcs8().expect("PEM");
    std::fs::write(&secret, pem).expect("key");
    (chain, secret)
}

fn rig_with(tls: bool) -> Rig {
    let dir = tempfile::tempdir().expect("directory");
    let mut set = secrets(dir.path());
    if tls {
        let (chain, key) = certificate(dir.path());
        set.push(("rest.tls.certificate".into(), chain.display().to_string()));
        set.push(("rest.tls.key".into(), key.display().to_string()));
    }
    let set: Vec<(&str, &str)> = set.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    Rig::within(dir, &set)
}

/// Every way to ask, and what comes of it.
fn matrix(rig: &Rig) {
    let good = basic(&format!("ann:{SECRET}"));
    let viewer = basic("viewer:just-looking");
    let bearer = format!("Bearer {TOKEN}");
    let wrong = [
        basic("ann:wrong"),
        basic(&format!("bob:{SECRET}")),
        basic("ann:just-looking"),
        basic("ann"),
        "Basic !!!".to_owned(),
        "Bearer wrong".to_owned(),
        format!("Bearer {SECRET}"),
        format!("Digest {TOKEN}"),
        String::new(),
    ];
    let mut answers = Vec::new();
    let mut ask = |method: &str, path: &str, with: Option<&str>| {
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(with.map(|value| ("Authorization", value)));
        let body: &[u8] = if method == "GET" { b"" } else { b"{}" };
        let reply = rig.ask(method, path, &headers, body);
        answers.push(format!("{:?} {}", reply.headers, reply.text()));
        reply
    };
    for path in ["/health", "/livez", "/readyz"] {
        assert_eq!(ask("GET", path, None).status, 200, "{path}");
        assert_eq!(ask("GET", path, Some(&wrong[0])).status, 200, "{path}");
    }
    for path in [
        "/",
        "/connectors",
        "/metrics",
        "/openapi.json",
        "/nowhere",
        "/connectors/%zz",
    ] {
        let reply = ask("GET", path, None);
        assert_eq!(reply.status, 401, "{path}");
        let challenges: Vec<&String> = (reply.headers.iter())
            .filter(|(name, _)| name == "www-authenticate")
            .map(|(_, value)| value)
            .collect();
        assert_eq!(challenges.len(), 2, "{challenges:?}");
        assert!(challenges[0].starts_with("Basic realm=") && challenges[1].starts_with("Bearer"));
        reply.message();
    }
    for header in &wrong {
        assert_eq!(
            ask("GET", "/connectors", Some(header)).status,
            401,
            "{header}"
        );
    }
    for header in [&good, &bearer] {
        assert_eq!(ask("GET", "/connectors", Some(header)).status, 200);
        assert_eq!(ask("PUT", "/connectors/x/pause", Some(header)).status, 404);
    }
    assert_eq!(ask("GET", "/connectors", Some(&viewer)).status, 200);
    for (method, path) in [
        ("PUT", "/connector-plugins/weir/config/validate"),
        ("POST", "/connectors"),
        ("PUT", "/connectors/x/config"),
        ("PATCH", "/connectors/x/config"),
        ("DELETE", "/connectors/x"),
        ("POST", "/connectors/x/restart"),
        ("PUT", "/connectors/x/stop"),
        ("DELETE", "/connectors/x/offsets"),
        ("PUT", "/admin/loggers/root"),
    ] {
        let reply = ask(method, path, Some(&viewer));
        assert_eq!(reply.status, 403, "{method} {path}");
        assert!(reply.message().contains("rest.auth.read.only"));
    }
    for secret in [SECRET, TOKEN, "just-looking"] {
        let shown = answers.iter().find(|answer| answer.contains(secret));
        assert_eq!(shown, None);
    }
}

#[test]
fn names_and_secrets_open_what_they_should() {
    let rig = rig_with(false);
    matrix(&rig);
    // Whose it was is in the history.
    let body = json!({ "name": "p", "config": rig.config("p"), "initial_state": "STOPPED" });
    let header = basic(&format!("ann:{SECRET}"));
    let headers = [
        ("Content-Type", "application/json"),
        ("Authorization", header.as_str()),
    ];
    let reply = rig.ask("POST", "/connectors", &headers, body.to_string().as_bytes());
    assert_eq!(reply.status, 201, "{}", reply.text());
    let history = rig
        .supervisor
        .history("p", 0, 100)
        .expect("history")
        .changes;
    assert_eq!(history[0].by, "ann");
    // What lies on the disk of the daemon has no secret either.
    let mut todo = vec![rig.dir.path().join("daemon")];
    let mut read = 0;
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("entries");
            todo.extend(entries.map(|entry| entry.expect("entry").path()));
        } else {
            let text = String::from_utf8_lossy(&std::fs::read(&path).expect("file")).into_owned();
            read += 1;
            assert!(
                !text.contains(SECRET) && !text.contains(TOKEN),
                "{}",
                path.display()
            );
        }
    }
    assert!(read > 0);
}

#[test]
fn no_log_line_has_a_secret() {
    let mut rig = crate::daemon_rig::Rig::new(&[]);
    let mut command = rig.command(&[
        "log.level=trace",
        "rest.auth.basic.ann=${env:REST_TEST_ANN}",
        "rest.auth.bearer.ci=${env:REST_TEST_CI}",
    ]);
    command
        .env("REST_TEST_ANN", SECRET)
        .env("REST_TEST_CI", TOKEN);
    let daemon = rig.start_as(command);
    let wrong = "not-quite-the-secret";
    for (header, status) in [
        (basic(&format!("ann:{SECRET}")), 200),
        (format!("Bearer {TOKEN}"), 200),
        (format!("Bearer {wrong}"), 401),
        (basic(&format!("ann:{wrong}")), 401),
    ] {
        let headers = [("Authorization".to_owned(), header)];
        let target = format!("/connectors?token={TOKEN}");
        let answer = crate::connect_http::ask(daemon.addr, "GET", &target, &headers, None);
        assert_eq!(answer.expect("an answer").status, status);
    }
    let seen = || rig.log().matches("\"path\":\"/connectors\"").count();
    until("four lines about requests", || (seen() == 4).then_some(()));
    let log = rig.log();
    let coded = basic(&format!("ann:{SECRET}"));
    let coded = coded.trim_start_matches("Basic ");
    for secret in [SECRET, TOKEN, wrong, coded] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

#[test]
fn the_same_over_tls_and_nothing_without_it() {
    let rig = rig_with(true);
    matrix(&rig);
    let mut tls = rig.tls();
    tls.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("sent");
    assert_eq!(Reply::read(&mut tls).expect("an answer").status, 200);
    let mut plain = rig.socket();
    plain
        .write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("sent");
    let answer = until_closed(&mut plain);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[test]
fn without_locks_the_header_is_ignored_and_the_peer_is_the_actor() {
    let rig = Rig::new(&[]);
    for header in ["", "Basic", "Basic !!!", "Bearer x"] {
        let reply = rig.ask("GET", "/connectors", &[("Authorization", header)], b"");
        assert_eq!(reply.status, 200, "{header}");
    }
    rig.stopped("p");
    let history = rig
        .supervisor
        .history("p", 0, 100)
        .expect("history")
        .changes;
    assert_eq!(history[0].by, "anonymous@127.0.0.1");
}

#[test]
fn beyond_this_machine_it_listens_locked_or_when_told_so_by_name() {
    let dir = tempfile::tempdir().expect("directory");
    let file = dir.path().join("worker.toml");
    std::fs::write(&file, "\"rest.listen\" = \"0.0.0.0:0\"\n").expect("a config");
    let (worker, problems) = weir::config::worker::load(&file.display().to_string(), &[]);
    assert!(worker.is_none());
    let hint = problems[0].hint.clone().expect("a hint");
    assert!(hint.contains("rest.open.to.network = true"), "{hint}");
    let told = [
        ("rest.listen", "0.0.0.0:0"),
        ("rest.open.to.network", "true"),
    ];
    let rig = Rig::new(&told);
    assert_eq!(rig.get("/livez").status, 200);
    let locked = secrets(dir.path());
    let mut set: Vec<(&str, &str)> = locked
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    set.push(("rest.listen", "0.0.0.0:0"));
    let rig = Rig::new(&set);
    assert_eq!(rig.get("/connectors").status, 401);
}

#[test]
fn pages_of_other_sites_ask_only_where_listed() {
    let rig = Rig::new(&[
        (
            "access.control.allow.origin",
            "https://ui.example,https://*.inside.example",
        ),
        ("access.control.allow.methods", "GET,PUT,DELETE"),
    ]);
    let from = |origin: &str| rig.ask("GET", "/connectors", &[("Origin", origin)], b"");
    let allowed = from("https://ui.example");
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        Some("https://ui.example")
    );
    assert_eq!(
        from("https://evil.example").header("access-control-allow-origin"),
        None
    );
    let preflight = [
        ("Origin", "https://a.inside.example"),
        ("Access-Control-Request-Method", "DELETE"),
    ];
    let reply = rig.ask("OPTIONS", "/connectors/p", &preflight, b"");
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.header("access-control-allow-methods"),
        Some("GET,PUT,DELETE")
    );
    let once = reply
        .headers
        .iter()
        .filter(|(name, _)| name == "access-control-allow-origin");
    assert_eq!(once.count(), 1);
    let cross = |origin: &str| {
        let headers = [("Origin", origin), ("Sec-Fetch-Site", "cross-site")];
        rig.ask("PUT", "/connectors/p/pause", &headers, b"").status
    };
    assert_eq!(cross("https://evil.example"), 403);
    assert_eq!(cross("https://ui.example"), 404);
    // Where a browser says nothing of sites, the page's origin must be this address.
    let from = |origin: &str| {
        let headers = [("Origin", origin)];
        rig.ask("PUT", "/connectors/p/pause", &headers, b"").status
    };
    assert_eq!(from("http://localhost:3000"), 403);
    assert_eq!(from("null"), 403);
    assert_eq!(from("http://localhost:8083"), 404);
    let reading = [("Sec-Fetch-Site", "cross-site")];
    assert_eq!(rig.ask("GET", "/connectors", &reading, b"").status, 200);
}

#[test]
fn stopping_answers_what_is_under_way_and_takes_nothing_new() {
    let rig = Rig::new(&[]);
    let addr = rig.addr;
    let mut kept = rig.socket();
    kept.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("sent");
    assert_eq!(Reply::read(&mut kept).expect("an answer").status, 200);
    let began = Instant::now();
    drop(rig);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(std::net::TcpStream::connect(addr).is_err());
    let mut byte = [0];
    assert!(matches!(kept.read(&mut byte), Ok(0) | Err(_)));
}
