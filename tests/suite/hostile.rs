//! Sends malicious values of every key of every class to a running daemon: it refuses or accepts each within a time
//! limit, never with a 500, and answers other clients meanwhile.

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::attacks::{mkfifo, peak};
use crate::daemon_rig::{Rig, Running};
use crate::every_key::{bases, keys, with};

/// `WEIR_HOSTILE_SEED` plays another, or one again.
const SEED: u64 = 10;
/// Values that each key gets.
const EACH: usize = 2;
/// Longest answer, on a machine that does other things too. A pipe or a device would hold it up for ever.
const BOUND: Duration = Duration::from_secs(20);
/// Bytes of an answer. A value of 700 KiB stands in it some times: as it was given, and in what is wrong with it.
const ANSWER_MAX: usize = 32 << 20;
/// Memory of the daemon at its peak; `/dev/zero` alone would take all there is.
const MEMORY: u64 = 1 << 30;
/// Below `rest.max.body`, which would end it before any key is looked at.
const HUGE: usize = 700 << 10;

fn values(rig: &Rig) -> Vec<String> {
    let pipe = rig.path("pipe");
    mkfifo(&pipe);
    let pipe = pipe.display().to_string();
    let mut all: Vec<String> = [
        "",
        " ",
        "\t",
        "\0",
        "a\0b",
        "\u{1b}[31mred\u{7}",
        "\r\nX: y",
        "\u{202e}txt.exe",
        "ä\u{301}\u{feff}",
        "-1",
        "0",
        "1",
        "99999999999999999999999",
        "1e308",
        "NaN",
        "-0",
        "0x10",
        "true",
        "null",
        "{}",
        "[]",
        "[[",
        "\"",
        ",",
        ",,",
        "a,b,,c",
        "*",
        "%s%n%d",
        "${",
        "${}",
        "${env:",
        "${env:HOME}",
        "${env:NO_SUCH:-x}",
        "${topic}",
        "${file:/dev/zero:x}",
        "${file:/etc/passwd:root}",
        "${vault:a:b}",
        "$${env:HOME}",
        "..",
        "../../../etc/passwd",
        "/",
        "/dev/zero",
        "/dev/stdin",
        "/dev/tty",
        "/proc/self/mem",
        "/proc/self/environ",
        "file:",
        "file:/",
        "file:/dev/zero",
        "file:///dev/full",
        "file:data/journal",
        "file:data",
        "data/journal",
        "worker.toml",
        "memory:",
        "memory:x",
        "s3://x/y",
        "http://[::1",
        "http://user:password@host/",
        "localhost:99999999",
        ":::::",
        "1ns",
        "999999999d",
        "16EiB",
        "0B",
        "earliest",
        "all",
        "org.apache.kafka.connect.json.JsonConverter",
        "weir",
        "java.lang.Runtime",
        "validate@sha256:00",
        "mask@999",
        "a.b.c",
        "(a+)+$",
        "\\",
        "'; DROP TABLE x; --",
        "<script>",
        "%Y%",
        "'yyyy",
        "UTC+99:99",
    ]
    .map(str::to_owned)
    .into();
    all.push(format!("file:{pipe}"));
    all.push(format!("${{file:{pipe}:x}}"));
    all.push(pipe);
    all.push("a".repeat(HUGE));
    all.push("a,".repeat(HUGE / 2));
    all.push((0..HUGE / 8).map(|n| format!("a{n},")).collect());
    all.push("${env:A}".repeat(10_000));
    all.push("💥".repeat(5_000));
    all
}

fn alive(daemon: &Running) {
    for target in ["/livez", "/connectors"] {
        let begun = Instant::now();
        let answer = daemon.ask("GET", target, None);
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        assert!(begun.elapsed() < BOUND, "{target}: {:?}", begun.elapsed());
    }
}

#[test]
fn hostile_values_of_every_key_are_refused_or_taken_and_no_more() {
    let seed = std::env::var("WEIR_HOSTILE_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or(SEED);
    let mut random = SmallRng::seed_from_u64(seed);
    let mut rig = Rig::new(&["t"]);
    rig.produce("t", &["1,one", "2,two"]);
    let values = values(&rig);
    let daemon = rig.start(&["secrets.allow.env=HOME", "secrets.allow.files=/dev"]);
    // Plugins are compiled when they are first named; that is no work that a value makes.
    let first = with(&bases(&rig, 0)[0], "name", "first");
    let class = &first["connector.class"];
    let target = format!("/connector-plugins/{class}/config/validate");
    assert_eq!(daemon.ask("PUT", &target, Some(&json!(first))).status, 200);
    let (mut n, mut taken, mut refused) = (0, 0, 0);
    for class in 0..bases(&rig, 0).len() {
        for key in keys(&bases(&rig, 0)[class]) {
            for _ in 0..EACH {
                n += 1;
                let value = values.choose(&mut random).unwrap();
                let name = format!("h{n}");
                let config = with(&bases(&rig, n)[class], &key, value);
                let shown = value.chars().take(60).collect::<String>();
                let what = format!(
                    "seed {seed}, {} {key} = {shown:?}",
                    config["connector.class"]
                );
                let begun = Instant::now();
                let (method, target, body) = match random.random_range(0..3) {
                    0 => {
                        let initial = *["RUNNING", "STOPPED"].choose(&mut random).unwrap();
                        let body =
                            json!({ "name": name, "config": config, "initial_state": initial });
                        ("POST", "/connectors".to_owned(), body)
                    }
                    1 => {
                        let plugin = bases(&rig, 0)[class]["connector.class"].clone();
                        let body = json!(with(&config, "name", &name));
                        (
                            "PUT",
                            format!("/connector-plugins/{plugin}/config/validate"),
                            body,
                        )
                    }
                    _ => ("PUT", format!("/connectors/{name}/config"), json!(config)),
                };
                let answer = daemon.ask(method, &target, Some(&body));
                assert!(
                    begun.elapsed() < BOUND,
                    "{what}: {method} {target} {:?}",
                    begun.elapsed()
                );
                let bytes = answer.body.len();
                assert!(
                    bytes < ANSWER_MAX,
                    "{what}: {method} {target} {bytes} bytes"
                );
                assert!(
                    [200, 201, 400].contains(&answer.status),
                    "{what}: {} {}",
                    answer.status,
                    answer.text()
                );
                if answer.status == 201 {
                    taken += 1;
                    let gone = daemon.ask("DELETE", &format!("/connectors/{name}"), None);
                    assert_eq!(gone.status, 204, "{what}: {}", gone.text());
                } else {
                    refused += 1;
                }
                if n % 40 == 0 {
                    alive(&daemon);
                }
            }
        }
    }
    alive(&daemon);
    assert!(taken > 50 && refused > 200, "{taken} {refused}");
    assert!(peak(daemon.pid()) < MEMORY, "{} bytes", peak(daemon.pid()));
    assert!(!rig.log().contains("panicked"), "{}", rig.log());
    daemon.signal(15);
    assert!(daemon.wait().code().is_some());
}
