//! `weir zone compact` and `sink.compact.every` on real zones: fewer files, the same rows, and nobody is disturbed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use weir::commit::{LogName, Role, verify};
use weir::store;

use crate::brokers::{duckdb_query, files, until};
use crate::kill::ABORT_AT;
use crate::lake::Lake;
use crate::old_zone::{age, later, open};

const COLUMNS: &str = "columns = [\"id\", \"day\"]";
const RAW: &str = "zone/orders";
const STEPS_MAX: u64 = 80;

fn raw() -> LogName {
    LogName::new("raw", "zone")
}

fn processed() -> LogName {
    LogName::new("processed", "processed")
}

/// So many commits of two rows each, some of a key that was there before.
fn written(lake: &Lake, commits: usize) {
    for n in 0..commits {
        let new = format!(r#"{{"id": "k{n:04}", "day": "2024-01-02"}}"#);
        let again = format!(r#"{{"id": "k{:04}", "day": "2024-01-02"}}"#, n / 2);
        lake.send(&[&new, &again]);
        lake.runs("raw.toml");
    }
}

/// Eight files of RAW, ten days old.
fn old_raw() -> Lake {
    let lake = Lake::new(COLUMNS);
    written(&lake, 8);
    age(&lake.path("zone"), &raw(), 10);
    lake
}

fn live(lake: &Lake, zone: &str, name: &LogName, role: Role) -> usize {
    let log = open(&lake.path(zone), name);
    let all = log.state().live.values();
    all.filter(|live| live.file.role == role).count()
}

fn report(lake: &Lake, args: &[&str]) -> Value {
    let said = lake.weir(&[&["zone", "compact"], args, &["--json"]].concat());
    assert_eq!(said.code, Some(0), "{}", said.err);
    serde_json::from_str(&said.out).unwrap()
}

fn whole(lake: &Lake, zone: &str, name: &LogName) {
    let url = format!("file:{}", lake.path(zone).display());
    let store = store::open_url(&url).unwrap();
    let found = verify(store.as_ref(), name).unwrap().unwrap();
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    let said = lake.weir(&["zone", "verify", &url]);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
}

#[test]
fn small_files_become_one_with_the_same_rows() {
    let lake = old_raw();
    let before = lake.rows("raw", "zone");
    assert_eq!(
        (before.len(), files(&lake.path(RAW), ".parquet").len()),
        (16, 8)
    );

    let dry = report(&lake, &["raw.toml", "--dry-run"]);
    assert_eq!(dry["compacted"][0]["files"], 8, "{dry}");
    assert_eq!(dry["compacted"][0]["rows"], 16);
    assert_eq!(
        files(&lake.path(RAW), ".parquet").len(),
        8,
        "a dry run writes nothing"
    );

    let said = lake.weir(&["zone", "compact", "raw.toml"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    for part in ["8 files with 16 rows", "became 1", "8 → 1", "ingest_hour="] {
        assert!(said.out.contains(part), "{part} in {}", said.out);
    }
    assert_eq!(files(&lake.path(RAW), ".parquet").len(), 1);
    assert_eq!(lake.rows("raw", "zone"), before);
    whole(&lake, "zone", &raw());
    let log = lake.weir(&["log", "zone", "-n", "1"]);
    assert!(log.out.contains("compact"), "{}", log.out);
    if let Some(counted) = duckdb_query(&format!(
        "select count(*) n, count(distinct _offset) o from '{}/*/*/*.parquet'",
        lake.path(RAW).display()
    )) {
        let row = &counted.unwrap()[0];
        assert_eq!(
            (row["n"].to_string(), row["o"].to_string()),
            ("16".into(), "16".into())
        );
    }
    // Nothing is left to do, and the pipeline goes on.
    assert_eq!(
        report(&lake, &["raw.toml"])["compacted"],
        Value::Array(Vec::new())
    );
    written(&lake, 1);
    assert_eq!(lake.rows("raw", "zone").len(), 18);
    whole(&lake, "zone", &raw());
}

#[test]
fn what_is_young_few_or_unread_stays_and_is_named() {
    let lake = Lake::new(COLUMNS);
    written(&lake, 5);
    let held = |lake: &Lake, part: &str| {
        let said = lake.weir(&["zone", "compact", "raw.toml", "--dry-run"]);
        assert_eq!(said.code, Some(0), "{}", said.err);
        assert!(said.out.contains("nothing to compact"), "{}", said.out);
        let line = said.out.lines().find(|line| line.contains(part));
        let line = line.unwrap_or_else(|| panic!("{part} in {}", said.out));
        assert!(line.contains("5 small files with 10 rows"), "{line}");
    };
    held(&lake, "a short time ago");
    lake.runs("processed.toml");
    age(&lake.path("zone"), &raw(), 3);
    held(&lake, "younger than commit.log.retention");
    age(&lake.path("zone"), &raw(), 7);
    let min = [
        "zone",
        "compact",
        "raw.toml",
        "--set",
        "sink.compact.min.files=6",
    ];
    let said = lake.weir(&min);
    assert!(
        said.out.contains("fewer than sink.compact.min.files"),
        "{}",
        said.out
    );
    assert_eq!(report(&lake, &["raw.toml"])["compacted"][0]["files"], 5);
    whole(&lake, "zone", &raw());
}

/// RAW waits for the pipeline that reads it, which reads by coordinate and notices nothing.
#[test]
fn a_reader_holds_files_back_and_reads_the_same_after_them() {
    let lake = Lake::new(COLUMNS);
    lake.processed("", "dedup.key = [\"id\"]");
    written(&lake, 2);
    lake.runs("processed.toml");
    written(&lake, 6);
    age(&lake.path("zone"), &raw(), 10);
    let said = lake.weir(&["zone", "compact", "raw.toml", "--dry-run"]);
    assert!(
        said.out.contains("processed/processed has not read as far"),
        "{}",
        said.out
    );
    lake.runs("processed.toml");
    later(&lake.path("zone"), &raw());
    assert_eq!(report(&lake, &["raw.toml"])["compacted"][0]["files"], 8);
    written(&lake, 2);
    lake.runs("processed.toml");
    assert_eq!(lake.rows("processed", "processed").len(), 6);
    // Another pipeline begins to read now, and finds all rows.
    let text = fs::read_to_string(lake.path("processed.toml")).unwrap();
    let other = text.replace("name = \"processed\"", "name = \"other\"");
    let other = other.replace("file:processed", "file:other");
    fs::write(lake.path("other.toml"), other).unwrap();
    lake.runs("other.toml");
    assert_eq!(
        lake.rows("other", "other"),
        lake.rows("processed", "processed")
    );
}

/// PROCESSED: sidecars are merged too, files stay sorted, and no key comes twice afterwards.
#[test]
fn dates_of_processed_are_merged_with_their_keys() {
    let lake = Lake::new(COLUMNS);
    lake.processed("", "dedup.key = [\"id\"]\nsort = [\"id desc\"]");
    for n in (0..12).step_by(2) {
        let line = |n: usize| format!(r#"{{"id": "k{n:04}", "day": "2024-01-02"}}"#);
        lake.send(&[&line(n), &line(n + 1), &line(0)]);
        lake.runs("raw.toml");
        lake.runs("processed.toml");
    }
    age(&lake.path("processed"), &processed(), 10);
    age(&lake.path("zone"), &raw(), 10);
    let before = lake.rows("processed", "processed");
    // As long as RAW can be rewound, PROCESSED must be able to follow.
    let said = lake.weir(&["zone", "compact", "processed.toml"]);
    assert!(said.out.contains("or of raw/zone"), "{}", said.out);
    assert_eq!(report(&lake, &["raw.toml"])["compacted"][0]["files"], 6);
    let done = report(&lake, &["processed.toml"]);
    assert_eq!(done["compacted"][0]["files"], 6, "{done}");
    assert_eq!(live(&lake, "processed", &processed(), Role::Rows), 1);
    assert_eq!(live(&lake, "processed", &processed(), Role::Keys), 1);
    let ids = |lake: &Lake| {
        let rows = lake.rows("processed", "processed");
        let mut ids: Vec<String> = rows.iter().map(|row| row.to_owned()).collect();
        ids.sort();
        ids
    };
    let mut sorted = before.clone();
    sorted.sort();
    assert_eq!(ids(&lake), sorted);
    let file = &files(&lake.path("processed/rows"), ".parquet")[0];
    assert!(descends(file), "sorted from its first row to its last");
    whole(&lake, "processed", &processed());
    // A known key is still known.
    lake.send(&[r#"{"id": "k0001", "day": "2024-01-02"}"#]);
    lake.runs("raw.toml");
    lake.runs("processed.toml");
    assert_eq!(ids(&lake), sorted);
    whole(&lake, "processed", &processed());
}

fn descends(path: &Path) -> bool {
    use arrow_array::cast::AsArray;
    let file = fs::File::open(path).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file);
    let mut ids: Vec<String> = Vec::new();
    for batch in reader.unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let column = batch.column_by_name("id").unwrap().as_string::<i32>();
        ids.extend(column.iter().map(|id| id.unwrap().to_owned()));
    }
    ids.len() > 1 && ids.windows(2).all(|pair| pair[0] >= pair[1])
}

/// Killed at each of its durable steps, it has done nothing or all, and the next start finishes what is left.
#[test]
fn a_compaction_that_dies_anywhere_is_not_done_or_done() {
    let lake = old_raw();
    let before = lake.rows("raw", "zone");
    let zone = lake.path("zone");
    let kept = lake.path("kept");
    copy(&zone, &kept);
    let (mut undone, mut cut) = (0, 0);
    for step in 0..STEPS_MAX {
        fs::remove_dir_all(&zone).unwrap();
        copy(&kept, &zone);
        let mut command = lake.command(&["zone", "compact", "raw.toml"]);
        let status = command.env(ABORT_AT, step.to_string());
        let status = status.stderr(Stdio::null()).stdout(Stdio::null()).status();
        let done = live(&lake, "zone", &raw(), Role::Rows) == 1;
        let finished = status.unwrap().success();
        assert!(done || !finished, "step {step}");
        undone += u64::from(!done);
        cut += u64::from(done && !finished);
        assert_eq!(lake.rows("raw", "zone"), before, "step {step}");
        lake.runs("raw.toml");
        let files = files(&lake.path(RAW), ".parquet").len();
        assert_eq!(files, if done { 1 } else { 8 }, "step {step}");
        whole(&lake, "zone", &raw());
        let staging = zone.join(raw().dir()).join("staging");
        assert_eq!(
            fs::read_dir(staging).map_or(0, Iterator::count),
            0,
            "step {step}"
        );
        if finished {
            assert!(
                undone > 2 && cut > 2,
                "{undone} before the entry, {cut} after it"
            );
            return;
        }
    }
    panic!("no step of {STEPS_MAX} lets a compaction through");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// While the pipeline runs and commits, on its own.
#[test]
fn a_running_pipeline_compacts_on_its_schedule() {
    let lake = old_raw();
    let text = fs::read_to_string(lake.path("raw.toml")).unwrap();
    let text = text.replace(
        "url = \"file:zone\"",
        "url = \"file:zone\"\ncompact.every = \"1s\"\nrotate.age = \"200ms\"",
    );
    fs::write(lake.path("raw.toml"), text).unwrap();
    let log = fs::File::create(lake.path("said")).unwrap();
    let mut running = lake.command(&["run", "raw.toml", "--progress", "none"]);
    let mut child = running.stderr(log).spawn().unwrap();
    let mut sent = 0;
    until("a compaction beside commits", || {
        lake.send(&[&format!(r#"{{"id": "r{sent}", "day": "2024-01-02"}}"#)]);
        sent += 1;
        let log = open(&lake.path("zone"), &raw());
        let old = log.state().live.values().filter(|live| live.version < 12);
        (old.count() == 0 && log.state().totals().rows.written > 20).then_some(())
    });
    let pid = child.id().to_string();
    let told = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(told.unwrap().success());
    let status = child.wait().unwrap();
    let said = fs::read_to_string(lake.path("said")).unwrap();
    assert!(status.success(), "{said}");
    assert!(said.contains("compacted"), "{said}");
    // Nobody drops what is in hand because of it.
    assert!(!said.contains("rewound"), "{said}");
    lake.runs("raw.toml");
    assert_eq!(lake.rows("raw", "zone").len(), 16 + sent);
    whole(&lake, "zone", &raw());
}

/// A file that is damaged is named, and all stay as they are.
#[test]
fn a_damaged_input_is_named_and_nothing_is_lost() {
    let lake = old_raw();
    let damaged = files(&lake.path(RAW), ".parquet")[3].clone();
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[20] ^= 0xff;
    fs::write(&damaged, bytes).unwrap();
    let said = lake.weir(&["zone", "compact", "raw.toml"]);
    assert_eq!(said.code, Some(1), "{}{}", said.out, said.err);
    assert!(
        said.err.contains("weir: orders/ingest_date="),
        "{}",
        said.err
    );
    assert_eq!(files(&lake.path(RAW), ".parquet").len(), 8);
    assert_eq!(live(&lake, "zone", &raw(), Role::Rows), 8);
}

/// What is found out last, when the new file is durable: it is collected, and does not fill the disk with every try.
#[test]
fn a_value_that_is_another_one_is_named_and_nothing_is_left_behind() {
    let lake = Lake::new(COLUMNS);
    let text = fs::read_to_string(lake.path("raw.toml")).unwrap();
    let plain = text.replace(
        "url = \"file:zone\"",
        "url = \"file:zone\"\ncompression = \"none\"",
    );
    fs::write(lake.path("raw.toml"), plain).unwrap();
    written(&lake, 8);
    age(&lake.path("zone"), &raw(), 10);
    let damaged = files(&lake.path(RAW), ".parquet")[3].clone();
    let mut bytes = fs::read(&damaged).unwrap();
    let at = bytes.windows(5).position(|text| text == b"k0003").unwrap();
    bytes[at + 1] = b'9';
    fs::write(&damaged, bytes).unwrap();
    for _ in 0..2 {
        let said = lake.weir(&["zone", "compact", "raw.toml"]);
        assert_eq!(said.code, Some(1), "{}{}", said.out, said.err);
        assert!(
            said.err
                .contains("that are not the 16 rows of their entries"),
            "{}",
            said.err
        );
        assert_eq!(
            files(&lake.path("zone/_system/raw/zone/staging"), "").len(),
            0
        );
    }
    assert_eq!(files(&lake.path(RAW), ".parquet").len(), 8);
    assert_eq!(live(&lake, "zone", &raw(), Role::Rows), 8);
}

#[test]
fn a_pipeline_without_files_or_without_a_zone_is_refused() {
    let lake = Lake::new(COLUMNS);
    lake.weir(&["zone", "compact", "raw.toml"])
        .refused(&["has no zone in", "first run"]);
    // What another log may ask for is not guessed.
    let said = lake.weir(&["zone", "compact", "processed.toml"]);
    assert_eq!(said.code, Some(1), "{}", said.out);
    assert!(said.err.contains("only that log says"), "{}", said.err);
    let topic = "errors.deadletterqueue.topic.name=letters";
    let letters = [
        "zone",
        "compact",
        "raw.toml",
        "--dead-letters",
        "--set",
        topic,
    ];
    lake.weir(&letters).refused(&["go on into a topic"]);
}
