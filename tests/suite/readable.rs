//! Messages that people read when something is wrong or takes long: all problems at once, a guess at the intended word,
//! what the program waits for.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::first_hour::weir;

fn written(name: &str, text: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join(name), text).unwrap();
    dir
}

fn said(dir: &Path, args: &[&str]) -> (Output, String) {
    let output = weir(dir).args(args).output().unwrap();
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output, String::from_utf8(text).unwrap())
}

/// A broker that takes connections and never answers: the first question to it would be waited for ten seconds.
#[test]
fn told_to_stop_before_a_broker_answers_it_ends_at_once_and_says_so() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!(
        "name = \"p\"\nsource.type = \"kafka\"\nsource.start = \"latest\"\nsink.type = \"zone\"\nsource.topics = \"t\"\nsource.bootstrap.servers = \"{}\"\nsink.url = \"file:z\"\n",
        silent.local_addr().unwrap()
    );
    let dir = written("p.toml", &config);
    let mut child = weir(dir.path())
        .args(["run", "p.toml"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _client = silent.accept().unwrap();
    let begun = Instant::now();
    let kill = Command::new("kill").arg(child.id().to_string()).status();
    assert!(kill.unwrap().success());
    let mut told = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut told)
        .unwrap();
    let status = child.wait().unwrap();
    let took = begun.elapsed();
    assert_eq!(status.code(), Some(0), "{told}");
    assert!(took < Duration::from_secs(5), "{took:?}: {told}");
    assert!(
        told.contains("stopping: what was read is committed first"),
        "{told}"
    );
    assert!(told.contains("stopped before reading began"), "{told}");
}

#[test]
fn a_misspelt_key_of_the_daemon_is_told_with_the_one_that_was_meant() {
    let text = "data.dir = \"d\"\nrest.lissten = \"127.0.0.1:0\"\nrest.auth.basc.ann = \"${env:HOME}\"\nbootstrap.serverz = \"k:9092\"\n";
    let dir = written("worker.toml", text);
    let (output, told) = said(dir.path(), &["check", "worker.toml"]);
    assert_eq!(output.status.code(), Some(2), "{told}");
    for meant in ["rest.listen", "rest.auth.basic.ann", "bootstrap.servers"] {
        assert!(told.contains(&format!("did you mean `{meant}`?")), "{told}");
    }
    // A Connect worker's file may have keys of anybody; one that is nearly ours is still named.
    let text = "data.dir=d\nrestart.backof=1s\nmy.own.key=1\n";
    let (config, problems) = {
        let dir = written("worker.properties", text);
        let file = dir.path().join("worker.properties");
        weir::config::worker::load(file.to_str().unwrap(), &[])
    };
    assert!(problems.is_empty(), "{problems:?}");
    let missed = config.unwrap().idle.missed.join("; ");
    assert!(
        missed.contains("restart.backof: no such key; did you mean `restart.backoff`?"),
        "{missed}"
    );
    assert!(!missed.contains("my.own.key"), "{missed}");
}

#[test]
fn a_workers_file_is_not_converted_and_the_way_is_said() {
    let dir = written(
        "connect.properties",
        "bootstrap.servers=k:9092\ngroup.id=g\nplugin.path=/x\nkey.converter=a\n",
    );
    let (output, told) = said(dir.path(), &["config", "convert", "connect.properties"]);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("nothing has to be converted"), "{told}");
    assert!(told.contains("`weir daemon connect.properties`"), "{told}");
}

/// What the plugin's schema refuses and what the plugin itself finds, each at its line and with its code.
#[test]
fn all_that_is_wrong_with_a_plugins_keys_is_told_in_one_round() {
    let text = "name = \"p\"\nsource.type = \"kafka\"\nsource.start = \"latest\"\nsink.type = \"zone\"\nsource.topics = \"t\"\nsource.bootstrap.servers = \"k:9092\"\nsink.url = \"file:z\"\n\
                [[transforms]]\nname = \"flat\"\ntype = \"json-flatten\"\ncolumns.a = \"/a\"\ncolumns.b = \"/b\"\n\
                max-dept = 3\nmax-rows = \"many\"\ntypes.a = \"varchar\"\ntypes.b = \"date(qqq)\"\n";
    let dir = written("p.toml", text);
    let (output, told) = said(dir.path(), &["check", "p.toml"]);
    assert_eq!(output.status.code(), Some(2), "{told}");
    for (line, code, key) in [
        (13, "unknown_key", "max-dept"),
        (14, "bad_number", "max-rows"),
        (15, "bad_type", "types.a"),
        (16, "bad_type", "types.b"),
    ] {
        assert!(told.contains(&format!("({code})")), "{code}: {told}");
        let place = format!("p.toml:{line}:1  transforms.flat.{key}");
        assert!(told.contains(&place), "{place}: {told}");
    }
    assert!(
        told.contains("timestamp(pattern), json (bad_type)"),
        "the list of types: {told}"
    );
    let pattern = told.lines().find(|l| l.contains("qqq")).unwrap();
    assert!(
        !pattern.contains("json (bad_type)"),
        "a pattern's own message: {pattern}"
    );
}
