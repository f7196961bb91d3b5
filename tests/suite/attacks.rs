//! Attacks by a user who may write to a daemon's REST: native code, devices and pipes as files, places outside of the
//! roots, files of others. Each is refused by name, and the daemon goes on answering.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::brokers::until;
use crate::connect_http::{Answer, ask};
use crate::daemon_rig::{Rig, Running};

/// An answer of a daemon that is not held up comes within this, on a machine that does other things too.
const SOON: Duration = Duration::from_secs(20);
/// More than a daemon that reads no file whole has.
const MEMORY: u64 = 400 << 20;
/// More than the daemon has handlers.
const HANDLERS: usize = 36;

pub fn mkfifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

/// Most memory that a process ever had, bytes.
pub fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

fn with(base: &BTreeMap<String, String>, more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut config = base.clone();
    let more = more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    config.extend(more);
    config
}

fn file_sink(rig: &Rig, file: &str) -> BTreeMap<String, String> {
    let config = [
        ("connector.class", "FileStreamSink"),
        ("topics", "t"),
        ("file", file),
        (
            "value.converter",
            "org.apache.kafka.connect.storage.StringConverter",
        ),
        (
            "consumer.override.bootstrap.servers",
            rig.broker.bootstrap(),
        ),
    ];
    with(&BTreeMap::new(), &config)
}

fn file_source(rig: &Rig, file: &str) -> BTreeMap<String, String> {
    let config = [
        ("connector.class", "FileStreamSource"),
        ("topic", "t"),
        ("file", file),
        (
            "value.converter",
            "org.apache.kafka.connect.storage.StringConverter",
        ),
        (
            "producer.override.bootstrap.servers",
            rig.broker.bootstrap(),
        ),
    ];
    with(&BTreeMap::new(), &config)
}

/// A pipeline that reads every file of a directory.
fn files(rig: &Rig, dir: &str, zone: &str) -> BTreeMap<String, String> {
    let mut config = rig.config("t", &[("sink.url", zone)]);
    config.retain(|key, _| !key.starts_with("source."));
    let url = format!("file:{dir}");
    let keys = [
        ("source.type", "file"),
        ("source.url", url.as_str()),
        ("source.format", "text"),
        ("source.path", "*"),
    ];
    with(&config, &keys)
}

/// What validation says of a config, all errors.
fn validated(daemon: &Running, config: &BTreeMap<String, String>) -> String {
    let class = config.get("connector.class").map_or("weir", String::as_str);
    let target = format!("/connector-plugins/{class}/config/validate");
    let begun = Instant::now();
    let answer = daemon.ask("PUT", &target, Some(&json!(with(config, &[("name", "v")]))));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let body = answer.json();
    let configs = body["configs"].as_array().cloned().unwrap_or_default();
    let mut errors = Vec::new();
    for value in configs.iter().map(|config| &config["value"]) {
        let name = value["name"].as_str().unwrap();
        for error in value["errors"].as_array().into_iter().flatten() {
            errors.push(format!("{name}: {}", error.as_str().unwrap()));
        }
    }
    assert_eq!(body["error_count"], errors.len(), "{body}");
    errors.join("\n")
}

/// Refused when validated and when put, with these words.
fn refused(daemon: &Running, config: &BTreeMap<String, String>, words: &str) {
    let told = validated(daemon, config);
    assert!(told.contains(words), "{words}: {told}");
    let put: Answer = daemon.put_config("refused", config);
    assert_eq!(put.status, 400, "{words}: {}", put.text());
    assert!(put.text().contains(words), "{words}: {}", put.text());
}

/// Refused when put. Validation looks at a config alone.
fn taken(daemon: &Running, config: &BTreeMap<String, String>, words: &str) {
    let put = daemon.put_config("taken", config);
    assert_eq!(put.status, 400, "{words}: {}", put.text());
    assert!(put.text().contains(words), "{words}: {}", put.text());
}

fn state_is(daemon: &Running, name: &str, wanted: &str) -> Value {
    until(&format!("{name} is {wanted}"), || {
        let status = daemon.get(&format!("/connectors/{name}/status"));
        (status["connector"]["state"] == wanted).then_some(status)
    })
}

/// A library whose constructor leaves a mark, where there is a compiler.
fn library(dir: &Path) -> Option<(PathBuf, PathBuf)> {
    let (source, library, mark) = (dir.join("evil.c"), dir.join("evil.so"), dir.join("it-ran"));
    let code = format!(
        "#include <stdio.h>\n__attribute__((constructor)) static void ran(void) {{ FILE *f = fopen(\"{}\", \"w\"); if (f) fclose(f); }}\n",
        mark.display()
    );
    fs::write(&source, code).unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status();
    built
        .is_ok_and(|status| status.success())
        .then_some((library, mark))
}

#[test]
fn no_property_of_a_config_loads_native_code() {
    let mut rig = Rig::new(&["t"]);
    let built = library(rig.dir.path());
    let (evil, mark) = built
        .clone()
        .unwrap_or((rig.path("evil.so"), rig.path("it-ran")));
    let evil = evil.to_str().unwrap().to_owned();
    let providers = format!("default,{}", evil.trim_end_matches(".so"));
    let daemon = rig.start(&["rest.files.roots=/"]);
    let pipeline = with(
        &rig.config("t", &[]),
        &[("source.kafka.security.protocol", "SSL")],
    );
    let sink = with(
        &file_sink(&rig, "out.txt"),
        &[("consumer.override.security.protocol", "SSL")],
    );
    let source = with(
        &file_source(&rig, "in.txt"),
        &[("producer.override.security.protocol", "SSL")],
    );
    for (property, value) in [
        ("ssl.engine.location", evil.as_str()),
        ("ssl.engine.id", "dynamic"),
        ("ssl.providers", &providers),
        ("plugin.library.paths", &evil),
        ("sasl.kerberos.kinit.cmd", "touch it-ran"),
        ("sasl.oauthbearer.assertion.file", "/etc/passwd"),
        ("ssl.engine.locatoin", &evil),
    ] {
        for (base, prefix) in [
            (&pipeline, "source.kafka."),
            (&sink, "consumer.override."),
            (&source, "producer.override."),
        ] {
            let key = format!("{prefix}{property}");
            // Settings of Java's that mean nothing here reach no client.
            if prefix != "source.kafka." && property.starts_with("sasl.") {
                let file = format!("{prefix}{property}.txt");
                let config = with(base, &[(&key, value), ("file", &file)]);
                let name = format!("idle-{prefix}{property}");
                assert_eq!(daemon.put_config(&name, &config).status, 201);
                state_is(&daemon, &name, "RUNNING");
                daemon.ask("DELETE", &format!("/connectors/{name}"), None);
                continue;
            }
            refused(&daemon, &with(base, &[(&key, value)]), property);
        }
        // The operator's own commands have the same list.
        let pair = format!("{property}={value}");
        let mut produce = Command::new(env!("CARGO_BIN_EXE_weir"));
        produce.args([
            "produce",
            "books",
            "--count",
            "1",
            "--bootstrap-server",
            rig.broker.bootstrap(),
        ]);
        let out = produce
            .args(["-X", &pair])
            .current_dir(rig.dir.path())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{told}");
        assert!(told.contains(property), "{told}");
    }
    // Compiled plugins are native code too.
    fs::create_dir_all(rig.path("cache")).unwrap();
    let cache = rig.path("cache").display().to_string();
    refused(
        &daemon,
        &with(&rig.config("t", &[]), &[("plugin.cache", &cache)]),
        "plugin.cache",
    );
    assert!(!mark.exists(), "native code ran");
    assert!(
        built.is_some() || std::env::var("CI").as_deref() != Ok("true"),
        "no C compiler"
    );
}

#[test]
fn a_device_or_a_huge_file_costs_no_memory() {
    let mut rig = Rig::new(&["t"]);
    let daemon = rig.start(&["rest.files.roots=/"]);
    let huge = rig.path("huge.toml");
    fs::File::create(&huge).unwrap().set_len(1 << 40).unwrap();
    symlink("/dev/zero", rig.path("zero.toml")).unwrap();
    let rules = |path: &str| {
        let keys = [
            ("transforms", "v"),
            ("transforms.v.type", "validate"),
            ("transforms.v.rules", path),
        ];
        rig.config("t", &keys)
    };
    for (path, words) in [
        ("/dev/zero", "a device"),
        (rig.path("zero.toml").to_str().unwrap(), "a device"),
        (huge.to_str().unwrap(), "at most"),
        ("/dev/stdin", "cannot read"),
        ("/proc/self/environ", ""),
    ] {
        refused(&daemon, &rules(path), words);
    }
    // A damaged store: a blob that is a device.
    let pushed = fs::read(crate::world::plugins_dir().join("validate.wasm")).unwrap();
    let bytes = [("Content-Type".to_owned(), "application/wasm".to_owned())];
    let pushed = ask(daemon.addr, "POST", "/plugins", &bytes, Some(&pushed)).unwrap();
    assert_eq!(pushed.status, 201, "{}", pushed.text());
    let digest = pushed.json()["digest"].as_str().unwrap().to_owned();
    let hex = digest.strip_prefix("sha256:").unwrap();
    let blob = rig.path("store/blobs/sha256").join(&hex[..2]).join(hex);
    fs::remove_file(&blob).unwrap();
    symlink("/dev/zero", &blob).unwrap();
    let version = pushed.json()["version"].as_str().unwrap().to_owned();
    let target = format!("/plugins/validate/{version}");
    assert_ne!(daemon.ask("GET", &target, None).status, 0);
    assert!(peak(daemon.pid()) < MEMORY, "{} bytes", peak(daemon.pid()));
    daemon.get("/connectors");
}

#[test]
fn pipes_as_files_hold_up_no_handler() {
    let mut rig = Rig::new(&["t"]);
    let daemon = rig.start(&[
        "rest.files.roots=/",
        "secrets.allow.files=/",
        "secrets.allow.env=X",
    ]);
    let pipe = rig.path("pipe.csv");
    mkfifo(&pipe);
    let pipe = pipe.to_str().unwrap();
    let rules = rig.config(
        "t",
        &[
            ("transforms", "v"),
            ("transforms.v.type", "validate"),
            ("transforms.v.rules", pipe),
        ],
    );
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..HANDLERS)
            .map(|_| scope.spawn(|| validated(&daemon, &rules)))
            .collect();
        for one in asked {
            let told = one.join().unwrap();
            assert!(told.contains("a pipe"), "{told}");
        }
    });
    let table = rig.config(
        "t",
        &[
            ("transforms", "e"),
            ("transforms.e.type", "enrich"),
            ("transforms.e.table", pipe),
        ],
    );
    assert!(!validated(&daemon, &table).is_empty());
    let secret = format!("${{file:{pipe}:key}}");
    let secret = rig.config(
        "t",
        &[
            ("source.kafka.security.protocol", "SASL_PLAINTEXT"),
            ("source.kafka.sasl.mechanism", "PLAIN"),
            ("source.kafka.sasl.username", "me"),
            ("source.kafka.sasl.password", &secret),
        ],
    );
    refused(&daemon, &secret, "a pipe");
    // What is opened when it runs fails, and holds up nobody either.
    let certificate = [
        ("source.kafka.security.protocol", "SSL"),
        ("source.kafka.ssl.ca.location", pipe),
    ];
    for (name, config) in [
        ("certificate", rig.config("t", &certificate)),
        ("sink", file_sink(&rig, pipe)),
        ("source", file_source(&rig, pipe)),
    ] {
        let put = daemon.put_config(name, &config);
        assert_eq!(put.status, 201, "{name}: {}", put.text());
        let status = state_is(&daemon, name, "FAILED");
        assert!(status.to_string().contains("a pipe"), "{status}");
    }
    let begun = Instant::now();
    assert_eq!(daemon.ask("GET", "/connectors", None).status, 200);
    assert_eq!(daemon.ask("GET", "/livez", None).status, 200);
    assert!(begun.elapsed() < SOON);
}

/// A directory of the rig's that REST may use, and one beside it that it may not.
fn house(rig: &Rig) -> (String, String) {
    let base = rig.dir.path().canonicalize().unwrap();
    for below in ["in", "out"] {
        fs::create_dir_all(base.join(below)).unwrap();
        fs::write(
            base.join(below).join("rules.toml"),
            "[columns.n]\nrequired = true\n",
        )
        .unwrap();
        fs::write(base.join(below).join("lines.txt"), "one\n").unwrap();
    }
    symlink(base.join("out"), base.join("in/away")).unwrap();
    (
        base.join("in").display().to_string(),
        base.join("out").display().to_string(),
    )
}

#[test]
fn configs_by_rest_stay_below_the_roots() {
    let mut rig = Rig::new(&["t"]);
    let (inside, outside) = house(&rig);
    let daemon = rig.start(&[&format!("rest.files.roots={inside}")]);
    let zone = format!("file:{inside}/zone");
    let base = rig.config("t", &[("sink.url", &zone)]);
    let rules = |path: &str| {
        let keys = [
            ("transforms", "v"),
            ("transforms.v.type", "validate"),
            ("transforms.v.rules", path),
        ];
        with(&base, &keys)
    };
    let ways = [
        outside.clone(),
        format!("{inside}/away"),
        format!("{inside}/../out"),
        "/etc".to_owned(),
        format!("{outside}/none"),
    ];
    for way in &ways {
        let file = format!("{way}/lines.txt");
        let url = format!("file:{way}/zone");
        let tls = [
            ("source.kafka.security.protocol", "SSL"),
            ("source.kafka.ssl.ca.location", file.as_str()),
        ];
        let from = [
            ("source.type", "zone"),
            ("source.url", url.as_str()),
            ("source.pipeline", "p"),
            ("source.table", "t"),
            ("sink.partition.field", "day"),
            ("sink.url", zone.as_str()),
        ];
        let from = with(
            &BTreeMap::from([
                ("connector.class".to_owned(), "weir".to_owned()),
                ("sink.type".to_owned(), "zone".to_owned()),
            ]),
            &from,
        );
        for config in [
            with(&base, &[("sink.url", &url)]),
            with(&base, &tls),
            from,
            with(&base, &[("plugin.path", way)]),
            with(&base, &[("plugin.store", way)]),
            file_sink(&rig, &file),
            file_source(&rig, &file),
            files(&rig, way, &zone),
            rules(&format!("{way}/rules.toml")),
        ] {
            refused(&daemon, &config, "rest.files.roots");
        }
    }
    assert!(!Path::new(&outside).join("zone").exists());
    // The same below the roots is good.
    let good = rules(&format!("{inside}/rules.toml"));
    let told = validated(&daemon, &good);
    assert!(
        !told.contains("rest.files.roots") && !told.contains("cannot read"),
        "{told}"
    );
    assert_eq!(
        daemon
            .put_config("lines", &file_source(&rig, &format!("{inside}/lines.txt")))
            .status,
        201
    );
    // The daemon's own places are among nobody's.
    drop(daemon);
    let daemon = rig.start(&["rest.files.roots=/"]);
    for own in [
        "data/journal",
        "data/files/x.json",
        "store/refs/x",
        "worker.toml",
    ] {
        let own = rig.path(own).display().to_string();
        refused(&daemon, &file_sink(&rig, &own), "daemon's own");
        refused(&daemon, &file_source(&rig, &own), "rest.files.roots");
        let url = format!("file:{own}");
        refused(&daemon, &with(&base, &[("sink.url", &url)]), "daemon's own");
    }
    // Nor does it read a directory in which they lie.
    for (dir, words) in [("", "files of the daemon"), ("data", "rest.files.roots")] {
        let dir = rig.path(dir).display().to_string();
        refused(&daemon, &files(&rig, &dir, &zone), words);
    }
    let log = format!("{inside}/zone/_system/t/zone/log");
    let takes = with(
        &files(&rig, &log, &zone),
        &[("source.clean.source", "delete")],
    );
    refused(&daemon, &takes, "log of a zone");
    refused(&daemon, &file_sink(&rig, &log), "log of a zone");
}

#[test]
fn what_was_accepted_is_looked_at_again_when_it_is_used() {
    let mut rig = Rig::new(&["t"]);
    let (inside, outside) = house(&rig);
    rig.produce("t", &["a line"]);
    let roots = format!("rest.files.roots={inside}");
    let daemon = rig.start(&[&roots]);
    fs::create_dir(format!("{inside}/later")).unwrap();
    let sink = file_sink(&rig, &format!("{inside}/later/out.txt"));
    let zone = rig.config("t", &[("sink.url", &format!("file:{inside}/later/zone"))]);
    for (name, config) in [("sink", &sink), ("zone", &zone)] {
        assert_eq!(daemon.put_config(name, config).status, 201);
        state_is(&daemon, name, "RUNNING");
    }
    until("a line", || {
        fs::read_to_string(format!("{inside}/later/out.txt"))
            .ok()
            .filter(|t| !t.is_empty())
    });
    until("rows", || daemon.position("zone").filter(|at| *at == 1));
    daemon.kill();
    fs::rename(format!("{inside}/later"), format!("{inside}/before")).unwrap();
    symlink(&outside, format!("{inside}/later")).unwrap();
    // It remembers over the restart that both came by REST.
    let daemon = rig.start(&[&roots, "restart.attempts=0"]);
    for name in ["sink", "zone"] {
        let status = state_is(&daemon, name, "FAILED");
        assert!(status.to_string().contains("rest.files.roots"), "{status}");
    }
    assert_ne!(daemon.ask("GET", "/pipelines/zone/log", None).status, 200);
    assert!(
        !Path::new(&outside).join("out.txt").exists() && !Path::new(&outside).join("zone").exists()
    );
}

#[test]
fn the_operators_own_pipelines_are_not_confined() {
    let mut rig = Rig::new(&["t"]);
    let (inside, outside) = house(&rig);
    rig.produce("t", &["x"]);
    let config = rig.config(
        "t",
        &[
            ("name", "own"),
            ("sink.url", &format!("file:{outside}/zone")),
        ],
    );
    let lines: Vec<String> = config.iter().map(|(k, v)| format!("{k}={v}")).collect();
    fs::write(rig.path("own.properties"), lines.join("\n")).unwrap();
    let set = [
        format!("rest.files.roots={inside}"),
        "pipelines=own.properties".to_owned(),
    ];
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let daemon = rig.start(&set);
    until("a row", || daemon.position("own").filter(|at| *at == 1));
    // The same config again is no change; another one is REST's.
    let shown = daemon.get("/connectors/own/config");
    let again = daemon.ask("PUT", "/connectors/own/config", Some(&shown));
    assert_eq!(again.status, 200, "{}", again.text());
    let faster = json!({"sink.rotate.age": "200ms"});
    let patched = daemon.ask("PATCH", "/connectors/own/config", Some(&faster));
    assert_eq!(patched.status, 400, "{}", patched.text());
    assert!(
        patched.text().contains("rest.files.roots"),
        "{}",
        patched.text()
    );
    daemon.kill();
    rig.produce("t", &["y"]);
    // Without its file, too.
    let daemon = rig.start(&set[..1]);
    until("the next row", || {
        daemon.position("own").filter(|at| *at == 2)
    });
}

#[test]
fn a_file_has_one_writer_under_all_its_names() {
    let mut rig = Rig::new(&["t"]);
    rig.produce("t", &["one", "two"]);
    let daemon = rig.start(&[]);
    fs::create_dir_all(rig.path("real")).unwrap();
    fs::write(rig.path("real/out.txt"), "").unwrap();
    symlink(rig.path("real"), rig.path("linked")).unwrap();
    symlink(rig.path("real/out.txt"), rig.path("soft.txt")).unwrap();
    fs::hard_link(rig.path("real/out.txt"), rig.path("hard.txt")).unwrap();
    assert_eq!(
        daemon
            .put_config("first", &file_sink(&rig, "real/out.txt"))
            .status,
        201
    );
    for alias in [
        "real/out.txt",
        "./real/../real/out.txt",
        "linked/out.txt",
        "soft.txt",
        "hard.txt",
    ] {
        taken(
            &daemon,
            &file_sink(&rig, alias),
            "is written by the connector `first`",
        );
    }
    // Nor does anything write into a zone.
    let zone = rig.config("t", &[]);
    assert_eq!(daemon.put_config("zone", &zone).status, 201);
    taken(
        &daemon,
        &file_sink(&rig, "zone/t/rows.parquet"),
        "lies in the zone",
    );
    let around = format!("file:{}", rig.path("real").display());
    let around = rig.config("t", &[("sink.url", &around), ("sink.table", "other")]);
    taken(&daemon, &around, "writes a file there");
    until("both lines", || {
        let text = fs::read_to_string(rig.path("real/out.txt")).unwrap();
        (text == "one\ntwo\n").then_some(())
    });
    // A second daemon of another directory.
    let mut beside = Rig::new(&["t"]);
    beside.produce("t", &["three"]);
    let second = beside.start(&["restart.attempts=0", "rest.files.roots=/"]);
    let hard = rig.path("hard.txt").display().to_string();
    assert_eq!(
        second
            .put_config("second", &file_sink(&beside, &hard))
            .status,
        201
    );
    let status = state_is(&second, "second", "FAILED");
    assert!(
        status.to_string().contains("written by another connector"),
        "{status}"
    );
    state_is(&daemon, "first", "RUNNING");
}
