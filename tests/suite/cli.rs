//! The verbs that people type, on the files of a demo: exit codes, JSON, and that a changed file is found.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::brokers::files;
use crate::first_hour;

fn weir(args: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .current_dir(root)
        .args(args)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn json_lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_demo_can_be_looked_at_verified_and_caught_lying() {
    let dir = tempfile::tempdir().unwrap();
    // In an empty directory: it needs no file of the project, and makes one folder.
    let mut demo = first_hour::weir(dir.path());
    let done = demo.args(["demo", "--messages", "3000"]).output().unwrap();
    assert!(done.status.success(), "{}", said(&done));
    let made: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().collect();
    assert_eq!(made.len(), 1, "{made:?}");
    let demo = dir.path().join("weir-demo");
    let summary: Value =
        serde_json::from_slice(&std::fs::read(demo.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["raw"]["records"]["read"], 3000);
    assert!(summary["kill"]["version"].as_u64().unwrap() > 0);

    let raw = demo.join("raw_zone").display().to_string();
    let log = weir(&["log", &raw, "--json", "-n", "0"]);
    let entries = json_lines(&log);
    let read: u64 = entries
        .iter()
        .flat_map(|e| e["spans"].as_array().cloned().unwrap_or_default())
        .map(|span| span["records"]["read"].as_u64().unwrap())
        .sum();
    assert_eq!(read, 3000, "{}", said(&log));
    for args in [
        vec!["log", &raw],
        vec!["log", &raw, "--verify"],
        vec!["zone", "ls", &raw],
        vec!["zone", "verify", &raw],
        vec!["dlq", "ls", &raw],
        vec!["dlq", "show", &raw, "-n", "3"],
    ] {
        let output = weir(&args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        assert!(!output.stdout.is_empty(), "{args:?} says nothing");
    }
    let letters = json_lines(&weir(&["dlq", "ls", &raw, "--json"]));
    let counted: u64 = letters
        .iter()
        .filter_map(|l| l["dead_letters"].as_u64())
        .sum();
    assert_eq!(
        counted,
        summary["raw"]["dead_letters"].as_u64().unwrap(),
        "{letters:?}"
    );

    let victim = files(&demo.join("raw_zone/book_data_topic"), ".parquet").remove(0);
    let mut bytes = std::fs::read(&victim).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&victim, bytes).unwrap();
    for args in [["log", &raw, "--verify"], ["zone", "verify", &raw]] {
        let output = weir(&args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", said(&output));
        let name = victim.file_name().unwrap().to_string_lossy().into_owned();
        assert!(said(&output).contains(&name), "{args:?}: {}", said(&output));
    }
}

#[test]
fn an_unknown_zone_and_an_unknown_verb_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = weir(&["log", &dir.path().display().to_string()]);
    assert!(!nothing.status.success());
    assert!(said(&nothing).contains("error["), "{}", said(&nothing));
    assert_eq!(weir(&["nosuch"]).status.code(), Some(2));
}
