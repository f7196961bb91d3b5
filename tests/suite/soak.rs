//! A zone that lasts, in a minute: the real program with a wall clock that runs 1,200 times too fast, so that a day is 72 seconds.
//!
//! RAW gets rows every second, and dead letters among them; both expire by their age into an archive; closed hours are compacted;
//! the log forgets and is shortened. A second pipeline reads RAW into a zone that lets its rows leave too. A lister looks at both
//! zones all the while. At the end each row that was made is in a zone or in its archive, once; nothing that the second pipeline
//! still needed was deleted; and disk, memory, open files and the time to open the log are in the last third what they were in the
//! first. `WEIR_SOAK_SECONDS` is how long it is measured.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use weir::commit::{Log, Role};

use crate::brokers::{duckdb_query, files, until, within};
use crate::case::{Case, Running};
use crate::preload::FastClock;
use crate::world::open_log;

/// An hour is three seconds.
const FACTOR: u32 = 1200;
/// Of three equal parts the first and the last are compared.
const MEASURED: Duration = Duration::from_secs(33);
/// Rows stay for six hours, so this is longer.
const RETENTION_IS_OVER: Duration = Duration::from_secs(20);
/// Between two looks at everything.
const PAUSE: Duration = Duration::from_millis(250);
/// How much more than in the first third: what is there goes up and down with each hour and each checkpoint.
const SWING: f64 = 1.35;
/// What an allocator may still learn after the first third.
const MEMORY_SWING: u64 = 16 << 20;
/// Entries of a log: those of two checkpoints, 50 each, those since, and some that wait for the next pass. RAW's would have more at the end
/// if none were deleted.
const ENTRIES_MOST: u64 = 200;

const RAW: &str = r#"source.type = "rate"
source.rows.per.second = 400
source.partitions = 4
tasks.max = 2
errors.tolerance = "all"
errors.dlq.retention = "3h"
sink.type = "zone"
sink.url = "file:zone"
sink.rotate.age = "100ms"
sink.retention = "6h"
sink.compact.every = "1s"
sink.compact.min.files = 2
retention.grace = "4s"
archive.url = "file:archive"
commit.log.retention = "1h"
"#;

/// One row in ten is refused.
const RULES: &str = r#"
[[transforms]]
name = "columns"
type = "json-flatten"
columns = "value, random"
types.value = "long"
types.random = "long"
[[transforms]]
name = "rules"
type = "validate"
rules = "rules.toml"
"#;

const PROCESSED: &str = r#"name = "processed"
trigger = "every:1s"
source.type = "zone"
source.url = "file:zone"
source.pipeline = "raw"
source.table = "rate"
sink.type = "zone"
sink.url = "file:done"
sink.partition.field = "_timestamp"
sink.dedup.key = "value"
sink.retention = "3h"
sink.compact.every = "1s"
retention.grace = "4s"
archive.url = "file:done_archive"
commit.log.retention = "1h"
"#;

/// Names a row: partition and offset.
type Row = (i32, i64);

struct Soak {
    case: Case,
    clock: FastClock,
}

/// What there is at one moment.
#[derive(Clone, Debug, Default)]
struct Sample {
    files: u64,
    bytes: u64,
    entries: u64,
    /// Of both processes.
    memory: u64,
    handles: u64,
    /// To open the log and show its newest entry.
    opening: Duration,
}

impl Soak {
    fn new() -> Soak {
        let case = Case::new("raw", "zone");
        case.declare(RAW, RULES);
        fs::write(
            case.path("rules.toml"),
            "[columns.random]\nmax = 8106479329266892\n",
        )
        .unwrap();
        fs::write(case.path("processed.toml"), PROCESSED).unwrap();
        Soak {
            case,
            clock: FastClock::from_now(FACTOR),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.case.weir(args);
        self.clock.of(&mut command);
        command
    }

    /// Must succeed.
    fn done(&self, args: &[&str]) -> Duration {
        let begun = Instant::now();
        let output = self.command(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {text}{}", self.said());
        begun.elapsed()
    }

    fn runs(&self, config: &str) -> Running {
        let mut command = self.command(&["run", config, "--progress", "none"]);
        let log = self.case.path("weir.log");
        let log = fs::OpenOptions::new().create(true).append(true).open(log);
        let command = command.stdout(Stdio::null()).stderr(log.unwrap());
        Running::of(command.spawn().unwrap())
    }

    fn said(&self) -> String {
        let said = fs::read_to_string(self.case.path("weir.log")).unwrap_or_default();
        crate::brokers::tail(&said).to_owned()
    }

    fn log(&self, pipeline: &str, zone: &str) -> Option<Log> {
        open_log(&self.case.path(zone), pipeline, zone).unwrap()
    }

    /// Rows that a lister finds in a directory, and how often. A file that leaves between its listing and its reading shows
    /// nothing.
    fn listed(&self, dir: &str) -> BTreeMap<Row, u32> {
        let mut rows = BTreeMap::new();
        for file in files(&self.case.path(dir), ".parquet") {
            for row in rows_of(&file) {
                *rows.entry(row).or_default() += 1;
            }
        }
        rows
    }

    /// What every look must find.
    fn look(&self) {
        for table in ["zone/rate", "zone/dead_letters", "done/rate"] {
            let rows = self.listed(table);
            let twice: Vec<_> = rows.iter().filter(|(_, n)| **n > 1).take(5).collect();
            assert!(
                twice.is_empty(),
                "{table} shows rows twice: {twice:?}\n{}",
                self.said()
            );
        }
        self.nothing_needed_is_gone();
    }

    /// RAW's rows from the reader's position on have not expired, and all their files are there.
    fn nothing_needed_is_gone(&self) {
        let Some(log) = self.log("raw", "zone") else {
            return;
        };
        let state = log.state();
        let Some(reader) = state.readers.values().next() else {
            return;
        };
        for (split, at) in &reader.position {
            let expired = state.splits[split].expired.rows_to.unwrap_or(0);
            assert!(
                expired <= *at,
                "{split}: expired to {expired}, read to {at}"
            );
        }
    }

    fn sample(&self, processes: &[&Running]) -> Sample {
        let opening = self.done(&["log", "raw.toml", "-n", "1"]);
        let (mut found, mut bytes) = (0, 0);
        let mut entries = [0; 2];
        for (of_log, zone) in entries.iter_mut().zip(["zone", "done"]) {
            for file in files(&self.case.path(zone), "") {
                // They go up and down with the checkpoints.
                if file.parent().is_some_and(|dir| dir.ends_with("log")) {
                    *of_log += 1;
                    continue;
                }
                found += 1;
                bytes += fs::metadata(file).map_or(0, |m| m.len());
            }
        }
        assert!(entries.iter().all(|n| *n < ENTRIES_MOST), "{entries:?}");
        Sample {
            files: found,
            bytes,
            entries: entries.iter().sum(),
            memory: processes.iter().map(|p| memory_of(p.id())).sum(),
            handles: processes.iter().map(|p| handles_of(p.id())).sum(),
            opening,
        }
    }

    /// Looks and samples for so long.
    fn watch(&self, time: Duration, processes: &[&Running]) -> Vec<Sample> {
        let until = Instant::now() + time;
        let mut samples = Vec::new();
        while Instant::now() < until {
            self.look();
            samples.push(self.sample(processes));
            pause(PAUSE);
        }
        samples
    }
}

fn pause(time: Duration) {
    let _nothing: Option<()> = within(time, || None);
}

/// `None`-safe: a file that is gone has no rows.
fn rows_of(path: &Path) -> Vec<Row> {
    let Ok(file) = fs::File::open(path) else {
        return Vec::new();
    };
    let reader = ParquetRecordBatchReaderBuilder::try_new(file);
    let reader = reader.unwrap_or_else(|e| panic!("{} is torn: {e}", path.display()));
    let columns = ["_partition", "_offset"];
    let mask = ProjectionMask::columns(reader.parquet_schema(), columns);
    let mut rows = Vec::new();
    for batch in reader.with_projection(mask).build().unwrap() {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap().clone();
        let (partitions, offsets) = (column("_partition"), column("_offset"));
        let partitions = partitions.as_primitive::<Int32Type>().values();
        let offsets = offsets.as_primitive::<Int64Type>().values();
        rows.extend(partitions.iter().copied().zip(offsets.iter().copied()));
    }
    rows
}

fn memory_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line
        .and_then(|line| line.split_whitespace().nth(1))
        .unwrap();
    kib.parse::<u64>().unwrap() * 1024
}

fn handles_of(pid: u32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64
}

fn mean(samples: &[Sample], of: fn(&Sample) -> u64) -> f64 {
    samples.iter().map(|s| of(s) as f64).sum::<f64>() / samples.len() as f64
}

fn measured() -> Duration {
    let seconds = std::env::var("WEIR_SOAK_SECONDS").ok();
    let seconds = seconds.map(|text| text.parse().expect("WEIR_SOAK_SECONDS: a number"));
    seconds.map_or(MEASURED, Duration::from_secs)
}

/// The first third and the last: what has no bound grows by more than what goes up and down.
fn flat(samples: &[Sample]) {
    let third = samples.len() / 3;
    assert!(third >= 4, "{} looks are too few", samples.len());
    let (first, last) = (&samples[..third], &samples[samples.len() - third..]);
    for (what, of) in [
        ("files", (|s| s.files) as fn(&Sample) -> u64),
        ("bytes", |s| s.bytes),
        ("open files", |s| s.handles),
    ] {
        let (before, after) = (mean(first, of), mean(last, of));
        eprintln!("{what}: {before:.0} → {after:.0}");
        assert!(
            after <= before * SWING,
            "{what}: {before:.0}, then {after:.0}\n{samples:?}"
        );
    }
    let memory = |s: &[Sample]| mean(s, |s| s.memory) as u64;
    let (before, after) = (memory(first), memory(last));
    eprintln!("memory: {} → {} MiB", before >> 20, after >> 20);
    assert!(
        after <= before + before / 8 + MEMORY_SWING,
        "memory: {before}, then {after}"
    );
    let opening = |s: &[Sample]| s.iter().map(|s| s.opening).min().unwrap();
    let (before, after) = (opening(first), opening(last));
    eprintln!(
        "opening the log: {before:?} → {after:?}, {} entries",
        mean(last, |s| s.entries)
    );
    assert!(
        after <= before.mul_f64(1.5) + Duration::from_millis(100),
        "{before:?}, then {after:?}"
    );
}

#[test]
fn a_zone_that_lasts_stays_as_it_is_and_loses_nothing() {
    let soak = Soak::new();
    let mut raw = soak.runs("raw.toml");
    let rows = |log: &Log| log.state().totals().rows.written;
    until("the first rows", || {
        (rows(&soak.log("raw", "zone")?) > 500).then_some(())
    });
    // The second pipeline reads some, and does not come back for longer than rows stay: they stay for it.
    soak.done(&[
        "run",
        "processed.toml",
        "--available-now",
        "--progress",
        "none",
    ]);
    let begun = Instant::now();
    let early = soak.listed("done/rate").len();
    pause(Duration::from_secs(4));
    raw.crash();
    raw = soak.runs("raw.toml");
    pause(RETENTION_IS_OVER.saturating_sub(begun.elapsed()));
    soak.look();
    let kept = soak.log("raw", "zone").unwrap();
    let oldest = kept
        .state()
        .live
        .values()
        .filter(|l| l.file.role == Role::Rows);
    let oldest = oldest.map(weir::commit::LiveFile::rows_at).min().unwrap();
    let backlog = rows(&kept);
    let processed = soak.runs("processed.toml");
    until("what was held back is read, and leaves", || {
        let log = soak.log("raw", "zone")?;
        let left = log.state().left.get("rate")?.archived_rows > early as u64;
        let live = log
            .state()
            .live
            .values()
            .filter(|l| l.file.role == Role::Rows);
        let gone = live.map(weir::commit::LiveFile::rows_at).min()? > oldest;
        (left && gone && log.state().horizon > 0).then_some(())
    });
    until("they leave the second zone too", || {
        let log = soak.log("processed", "done")?;
        (log.state().left.get("rate")?.archived_rows >= backlog).then_some(())
    });
    let samples = soak.watch(measured(), &[&raw, &processed]);
    raw.stop();
    processed.stop();
    flat(&samples);
    soak.done(&[
        "run",
        "processed.toml",
        "--available-now",
        "--progress",
        "none",
    ]);
    all_is_there_once(&soak);
}

fn all_is_there_once(soak: &Soak) {
    for config in ["raw.toml", "processed.toml"] {
        soak.done(&["zone", "archive", config]);
        soak.done(&["zone", "verify", config]);
    }
    for url in ["file:zone", "file:done"] {
        soak.done(&["log", url, "--verify"]);
    }
    let state = soak.log("raw", "zone").unwrap().state().clone();
    let totals = state.totals();
    let each_once = |places: [&str; 2]| -> BTreeSet<Row> {
        let mut all = BTreeSet::new();
        for place in places {
            for (row, times) in soak.listed(place) {
                assert!(
                    times == 1 && all.insert(row),
                    "{row:?} is twice in {places:?}"
                );
            }
        }
        all
    };
    let rows = each_once(["zone/rate", "archive/rate"]);
    let letters = each_once(["zone/dead_letters", "archive/dead_letters"]);
    assert_eq!(rows.len() as u64, totals.rows.written);
    assert_eq!(letters.len() as u64, totals.dead_letters);
    assert!(letters.len() > 100 && rows.is_disjoint(&letters));
    // Every offset that was read is one or the other, without a hole.
    for split in state.splits.values() {
        let of = |all: &BTreeSet<Row>| all.iter().filter(|(p, _)| *p == split.partition).count();
        assert_eq!(
            (of(&rows) + of(&letters)) as i64,
            split.to,
            "{}",
            split.partition
        );
    }
    // Nothing was deleted before the second pipeline had read it.
    assert_eq!(each_once(["done/rate", "done_archive/rate"]), rows);
    let compacted = state
        .live
        .values()
        .filter(|live| live.made.is_some())
        .count();
    assert!(
        compacted > 0 && state.left["rate"].archived_rows > 1_000,
        "{:?}",
        state.left
    );
    let archive = soak.case.path("archive/rate/**/*.parquet");
    let sql = format!("SELECT count(*) AS n FROM '{}'", archive.display());
    if let Some(counted) = duckdb_query(&sql) {
        let counted = counted.unwrap()[0]["n"].to_string();
        assert_eq!(
            counted.trim_matches('"'),
            soak.listed("archive/rate").len().to_string()
        );
    }
}
