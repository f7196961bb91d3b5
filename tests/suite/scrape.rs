//! `weir run --metrics`: what a scraper gets of pipelines without a daemon, and what becomes of those who ask for more.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::{fs, thread};

use crate::brokers::until;
use crate::case::{Case, Running, said};

fn case() -> Case {
    let case = Case::new("numbers", "zone");
    let keys = "source.type = \"rate\"\nsource.rows.per.second = 200\nsink.type = \"zone\"\n\
                sink.url = \"file:zone\"\nsink.rotate.age = \"100ms\"\n";
    case.declare(keys, "");
    case
}

/// A run, and where it answers.
fn scraped(case: &Case) -> (Running, String) {
    let mut command = case.weir(&["run", "numbers.toml", "--metrics", "127.0.0.1:0"]);
    let log = fs::File::create(case.path("weir.log")).unwrap();
    command.stdout(Stdio::null()).stderr(log);
    let running = Running::of(command.spawn().unwrap());
    let at = until("the address", || {
        let said = fs::read_to_string(case.path("weir.log")).unwrap();
        let (_, rest) = said.split_once("metrics at http://")?;
        rest.split_once("/metrics").map(|(at, _)| at.to_owned())
    });
    (running, at)
}

/// Head and body.
fn ask(at: &str, request: &str) -> (String, String) {
    let mut socket = TcpStream::connect(at).unwrap();
    let head = format!("{request} HTTP/1.1\r\nhost: {at}\r\n\r\n");
    socket.write_all(head.as_bytes()).unwrap();
    let mut all = String::new();
    socket.read_to_string(&mut all).unwrap();
    let (head, body) = all.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series))?;
    line.trim().parse().ok()
}

#[test]
fn a_run_shows_its_pipelines_to_a_scraper() {
    let case = case();
    let (running, at) = scraped(&case);
    let of = "{pipeline=\"numbers\"}";
    let text = until("rows in the metrics", || {
        let (head, text) = ask(&at, "GET /metrics");
        assert!(
            head.starts_with("HTTP/1.1 200") && head.contains("openmetrics-text"),
            "{head}"
        );
        let read = value(&text, &format!("weir_records_read_total{of}"));
        read.is_some_and(|read| read > 0.0).then_some(text)
    });
    let is = |series: &str| value(&text, series).unwrap_or_else(|| panic!("{series} in {text}"));
    assert_eq!(
        is("weir_pipeline_state{pipeline=\"numbers\",state=\"running\"}"),
        1.0
    );
    assert_eq!(
        is("weir_pipeline_state{pipeline=\"numbers\",state=\"failed\"}"),
        0.0
    );
    assert_eq!(is(&format!("weir_pipeline_tasks{of}")), 1.0);
    let (began, last) = (
        is("process_start_time_seconds"),
        is(&format!("weir_last_commit_timestamp_seconds{of}")),
    );
    assert!((-2.0..600.0).contains(&(last - began)), "{began} {last}");
    assert!(is("process_resident_memory_bytes") > 1e6 && is("process_open_fds") >= 3.0);
    let written = is("weir_rows_total{pipeline=\"numbers\",fate=\"written\"}");
    assert_eq!(written, is(&format!("weir_records_read_total{of}")));
    running.stop();
}

#[test]
fn a_scraper_gets_nothing_else_and_holds_nothing_up() {
    let case = case();
    let (running, at) = scraped(&case);
    for (request, status, part) in [
        ("GET /livez", "200", "answers"),
        ("HEAD /metrics", "200", ""),
        ("POST /metrics", "405", "only GET"),
        ("PUT /pipelines/numbers", "404", "weir daemon"),
        ("GET /", "404", "GET /metrics"),
        ("GET /metrics/../connectors", "404", ""),
    ] {
        let (head, body) = ask(&at, request);
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}")),
            "{request}: {head}"
        );
        assert!(body.contains(part), "{request}: {body}");
    }
    // So many who say nothing: the run goes on, and a place is free when one of them leaves.
    let mut silent: Vec<TcpStream> = (0..30).map(|_| TcpStream::connect(&at).unwrap()).collect();
    let before = case.settled();
    until("more rows", || (case.settled() > before).then_some(()));
    silent.clear();
    until("an answer", || {
        let at = at.clone();
        let asked = thread::spawn(move || ask(&at, "GET /livez").0);
        asked.join().ok().filter(|head| head.contains("200"))
    });
    let second = case.output(&["run", "numbers.toml", "--metrics", &at]);
    assert_eq!(second.status.code(), Some(1), "{}", said(&second));
    assert!(said(&second).contains("cannot listen on") && said(&second).contains("--metrics"));
    running.stop();
}

#[test]
fn a_place_that_is_none_is_refused() {
    let case = case();
    for place in [
        "9464",
        "https://127.0.0.1:9464",
        "127.0.0.1:99999",
        "203.0.113.7:9464",
    ] {
        let output = case.output(&["run", "numbers.toml", "--metrics", place]);
        assert_eq!(output.status.code(), Some(2), "{place}: {}", said(&output));
        assert!(
            said(&output).contains("--metrics"),
            "{place}: {}",
            said(&output)
        );
    }
    assert!(!case.path("zone").exists());
}
