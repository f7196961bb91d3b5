//! Zones that earlier versions wrote, byte for byte: `tests/zones/format-<n>`. This version opens them, finds them whole, reads
//! their rows and writes on.
//!
//! A golden zone is never written again. For a new one (another format, or entries of a new kind): an empty place, and
//! `UPDATE=1` for this test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use weir::commit::{Draft, Limits, LogName, Role, Swap};
use weir::store;
use weir::zone::read_file;

use crate::check::root;
use crate::world::{open_log, plugins_dir};

const RAW: (&str, &str) = ("raw", "raw_zone");
const PROCESSED: (&str, &str) = ("processed", "processed_zone");

/// What a zone is made of: books with faults in them, by number, so that any version makes the same ones.
fn configs(dir: &Path, rows: u32, rules: &str) {
    let plugins = plugins_dir();
    let common = format!(
        "plugin.path = \"{0}\"\nplugin.store = \"plugin-store\"\nplugin.cache = \"{0}/../plugins-test/cache\"\n\
         trigger = \"available-now\"\n",
        plugins.display()
    );
    let raw = format!(
        "name = \"raw\"\n{common}source.type = \"rate\"\nsource.sample = \"dirty-books\"\nsource.topic = \"books\"\n\
         source.seed = 7\nsource.rows.per.second = 100000\nsource.rows.total = {rows}\n\
         sink.type = \"zone\"\nsink.url = \"file:raw_zone\"\nerrors.tolerance = \"all\"\n\
         retention.grace = \"0s\"\narchive.url = \"file:archive\"\n\
         [[transforms]]\nname = \"flatten\"\ntype = \"xml-flatten\"\nrow-tag = \"book\"\n\
         columns = [\"record_id\", \"title\", \"publication_year\", \"price\"]\n\
         types.publication_year = \"int\"\ntypes.price = \"decimal(10,2)\"\n\
         [[transforms]]\nname = \"rules\"\ntype = \"validate\"\nrules = \"rules.toml\"\n"
    );
    let processed = format!(
        "name = \"processed\"\n{common}source.type = \"zone\"\nsource.url = \"file:raw_zone\"\nsource.pipeline = \"raw\"\n\
         source.table = \"books\"\nsink.type = \"zone\"\nsink.url = \"file:processed_zone\"\n\
         sink.partition.field = \"_timestamp\"\nsink.partition.format = \"%Y\"\nsink.partition.name = \"year\"\n\
         sink.dedup.key = \"record_id\"\n"
    );
    fs::write(dir.join("raw.toml"), raw).unwrap();
    fs::write(dir.join("processed.toml"), processed).unwrap();
    fs::write(dir.join("rules.toml"), rules).unwrap();
}

const RULES: &str = "[columns.title]\nrequired = true\n";
const OTHER_RULES: &str =
    "[columns.title]\nrequired = true\n[columns.publication_year]\nmin = 1950\n";

fn weir(dir: &Path, args: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_weir"))
        .current_dir(dir)
        .args(args)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{args:?}: {said}");
    String::from_utf8(out.stdout).unwrap()
}

fn run(dir: &Path) {
    let both = [
        "raw.toml",
        "processed.toml",
        "--available-now",
        "--progress",
        "none",
    ];
    weir(dir, &[&["run"], &both[..]].concat());
}

/// Rows of each table as the listed files have them, and where the log stands.
fn shown(dir: &Path) -> Value {
    let mut all = BTreeMap::new();
    for (pipeline, zone) in [RAW, PROCESSED] {
        let log = open_log(&dir.join(zone), pipeline, zone).unwrap().unwrap();
        let name = LogName::new(pipeline, zone);
        let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
        for live in log.state().live.values() {
            let (table, _) = live.file.path.split_once('/').unwrap();
            assert!(
                dir.join(zone).join(&live.file.path).is_file(),
                "{}",
                live.file.path
            );
            let read = read_file(log.store(), &name, &live.file).unwrap();
            let count: usize = read.map(|batch| batch.unwrap().num_rows()).sum();
            let table = if live.file.role == Role::Keys {
                "keys"
            } else {
                table
            };
            *rows.entry(table).or_default() += count;
        }
        let totals = log.state().totals();
        let to: i64 = log.state().splits.values().map(|split| split.to).sum();
        all.insert(
            zone,
            json!({ "version": log.version(), "to": to, "rows": rows, "made": totals.rows.made,
                    "written": totals.rows.written, "duplicates": totals.rows.duplicates }),
        );
    }
    json!(all)
}

/// Entries that cost no file, so that a checkpoint is due.
fn entries_until(dir: &Path, (pipeline, zone): (&str, &str), version: u64) {
    let mut log = open_log(&dir.join(zone), pipeline, zone).unwrap().unwrap();
    while log.version() < version {
        let state = log.state();
        let same = Swap {
            replaces: state.generation(),
            transforms: state.rules.transforms.clone(),
            actor: "ana".to_owned(),
            reason: "the same again".to_owned(),
            block: Vec::new(),
            force: false,
            declared: Some(state.declared.clone()),
        };
        log.commit(Draft::Swap(same)).unwrap();
    }
}

/// Everything that a log of this version can hold and a test can make in a second: rows, dead letters, swaps, what expired
/// and was archived, a rewind that cuts a file, a reader that follows it, batches with keys, a checkpoint.
fn make(dir: &Path) {
    configs(dir, 40, RULES);
    run(dir);
    weir(dir, &["zone", "expire", "raw.toml", "--older-than", "0s"]);
    weir(dir, &["zone", "archive", "raw.toml"]);
    configs(dir, 60, OTHER_RULES);
    run(dir);
    entries_until(dir, RAW, Limits::default().checkpoint_every - 1);
    configs(dir, 80, OTHER_RULES);
    run(dir);
    weir(
        dir,
        &[
            "pipeline",
            "rewind",
            "raw.toml",
            "books/0=40",
            "--reason",
            "an archive came twice",
        ],
    );
    run(dir);
    for left in ["plugin-store", "raw.toml", "processed.toml", "rules.toml"] {
        let left = dir.join(left);
        drop(fs::remove_dir_all(&left).or_else(|_| fs::remove_file(&left)));
    }
    let expected = format!("{:#}\n", shown(dir));
    fs::write(dir.join("expected.json"), expected).unwrap();
}

fn zones() -> PathBuf {
    root().join("tests/zones")
}

#[test]
fn zones_of_earlier_versions_are_read_and_written_on() {
    let current = zones().join("format-2");
    if std::env::var_os("UPDATE").is_some() && !current.exists() {
        // Entries name the archive by its whole path: one that is nobody's.
        let place = std::env::temp_dir().join("weir-golden-zone");
        fs::create_dir(&place).unwrap();
        make(&place);
        fs::create_dir_all(&current).unwrap();
        copy(&place, &current);
        fs::remove_dir_all(&place).unwrap();
    }
    let mut seen = 0;
    for zone in fs::read_dir(zones()).unwrap() {
        let zone = zone.unwrap().path();
        let dir = tempfile::tempdir().unwrap();
        copy(&zone, dir.path());
        let dir = dir.path();
        let expected = fs::read(dir.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        assert_eq!(shown(dir), expected, "{}", zone.display());
        for (_, zone) in [RAW, PROCESSED] {
            weir(dir, &["zone", "verify", zone]);
            weir(dir, &["log", zone, "-n", "0", "--verify"]);
        }
        // The rules of this version, in the place of those whose components are nowhere any more.
        configs(dir, 100, OTHER_RULES);
        run(dir);
        let now = shown(dir);
        let raw = |shown: &Value, field: &str| shown["raw_zone"][field].as_u64().unwrap();
        assert_eq!(raw(&now, "to"), 100, "{now:#}");
        assert!(raw(&now, "written") > raw(&expected, "written"), "{now:#}");
        let processed = &now["processed_zone"];
        assert_eq!(processed["to"], 100, "{now:#}");
        assert_eq!(processed["made"], now["raw_zone"]["written"], "{now:#}");
        for (_, zone) in [RAW, PROCESSED] {
            weir(dir, &["zone", "verify", zone]);
        }
        seen += 1;
    }
    assert!(seen > 0, "no golden zone");
}

/// A format that this version does not know: its number is named, and nothing is changed.
#[test]
fn a_zone_of_a_later_format_is_refused_by_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    copy(&zones().join("format-2"), dir);
    configs(dir, 100, OTHER_RULES);
    let log = dir.join("raw_zone/_system/raw/raw_zone/log");
    let mut names: Vec<PathBuf> = fs::read_dir(&log)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    names.sort();
    let newest = names.last().unwrap();
    let later = fs::read_to_string(newest)
        .unwrap()
        .replace("{\"format\":2,", "{\"format\":3,");
    assert!(later.contains("\"format\":3"), "{later}");
    fs::write(newest, later).unwrap();
    let before = names.len();
    for args in [
        &["run", "raw.toml", "--progress", "none"][..],
        &["log", "raw_zone"],
        &["zone", "verify", "raw_zone"],
    ] {
        let out = Command::new(env!("CARGO_BIN_EXE_weir"))
            .current_dir(dir)
            .args(args)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned()
            + &String::from_utf8_lossy(&out.stdout);
        assert!(!out.status.success(), "{args:?}: {said}");
        assert!(said.contains("format 3"), "{args:?}: {said}");
    }
    assert_eq!(fs::read_dir(&log).unwrap().count(), before);
    let opened = store::open_url(&format!("file:{}", dir.join("raw_zone").display()));
    assert!(opened.is_ok());
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => {
                fs::create_dir_all(&to).unwrap();
                copy(&entry.path(), &to);
            }
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}
