//! Files that are no Parquet, under kills: the process ends before each change of its store in turn, and the next one finishes the
//! job. What lies below the table is read by other libraries, without the log.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use serde_json::Value;
use weir::kafka::{KafkaProps, Outgoing, Producer};

use crate::brokers::{DEADLINE, files};
use crate::lake::{Lake, Said, TOPIC};

const PARTITIONS: i32 = 2;
const RECORDS: i64 = 12;
/// Runs of the steps test side by side: most of it is waiting.
const LANES: u64 = 4;
/// More than a run has; one that never comes through is a finding.
const STEPS_MAX: u64 = 120;
/// `weir::store`'s switch for tests.
const ABORT_AT: &str = "WEIR_ABORT_AT";

type Coordinate = (i64, i64);

/// Partition and offset of each row of a file.
type Read = fn(&Path) -> Vec<Coordinate>;

fn json_zstd(file: &Path) -> Vec<Coordinate> {
    let mut text = String::new();
    let mut decoder = zstd::Decoder::new(fs::File::open(file).unwrap()).unwrap();
    decoder.read_to_string(&mut text).unwrap();
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        let number = |key: &str| row[key].as_i64().unwrap();
        (number("_partition"), number("_offset"))
    };
    text.lines().map(row).collect()
}

fn avro(file: &Path) -> Vec<Coordinate> {
    let file = std::io::BufReader::new(fs::File::open(file).unwrap());
    let reader = arrow_avro::reader::ReaderBuilder::new()
        .build(file)
        .unwrap();
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap().clone();
        let (partitions, offsets) = (column("_partition"), column("_offset"));
        let partitions = partitions.as_primitive::<Int32Type>().values();
        let offsets = offsets.as_primitive::<Int64Type>().values();
        let pairs = partitions.iter().zip(offsets);
        rows.extend(pairs.map(|(partition, offset)| (i64::from(*partition), *offset)));
    }
    rows
}

/// A topic of two partitions, without rules: each row is a record.
fn lake() -> Lake {
    let lake = Lake::new("");
    lake.broker.create_topic("two", PARTITIONS).unwrap();
    let props = KafkaProps::new(lake.broker.bootstrap(), "test", &Default::default()).unwrap();
    let producer = Producer::open(&props).unwrap();
    for n in 0..RECORDS * i64::from(PARTITIONS) {
        let value = format!("{n}");
        let out = Outgoing {
            value: Some(value.as_bytes()),
            partition: Some((n % i64::from(PARTITIONS)) as i32),
            ..Outgoing::default()
        };
        producer.send("two", out).unwrap();
    }
    producer.flush(DEADLINE).unwrap();
    let text = format!(
        "name = \"raw\"\n[source]\ntype = \"kafka\"\nbootstrap.servers = \"{}\"\ntopics = [\"two\"]\nstart = \"earliest\"\n[sink]\ntype = \"zone\"\nurl = \"file:zone\"\ntable = \"{TOPIC}\"\npartition.by = \"partition\"\nrotate.rows = 12\n[batch]\nmax.rows = 4\n",
        lake.broker.bootstrap()
    );
    fs::write(lake.path("raw.toml"), text).unwrap();
    lake
}

fn run(lake: &Lake, zone: &str, set: &[&str], abort_at: Option<u64>) -> Said {
    let url = format!("sink.url=file:{zone}");
    let mut args = vec!["run", "raw.toml", "--available-now", "--progress", "none"];
    args.extend(["--set", &url]);
    for one in set {
        args.extend(["--set", one]);
    }
    let mut command = lake.command(&args);
    if let Some(step) = abort_at {
        command.env(ABORT_AT, step.to_string());
    }
    Said::of(&command.output().unwrap())
}

/// What a plain listing shows: no row twice.
fn listed(lake: &Lake, zone: &str, ending: &str, read: Read) -> BTreeSet<Coordinate> {
    let found: Vec<PathBuf> = files(&lake.path(zone).join(TOPIC), ending);
    let rows: Vec<Coordinate> = found.iter().flat_map(|file| read(file)).collect();
    let distinct: BTreeSet<Coordinate> = rows.iter().copied().collect();
    assert_eq!(rows.len(), distinct.len(), "{zone}: a row shows twice");
    distinct
}

/// The first step that a whole run does not reach.
fn end_at_each_step(ending: &str, read: Read, set: &[&str]) -> u64 {
    let lake = lake();
    std::thread::scope(|scope| {
        let lane = |begin| end_at_steps(&lake, begin, (ending, read), set);
        let lanes: Vec<_> = (0..LANES)
            .map(|begin| scope.spawn(move || lane(begin)))
            .collect();
        let ends = lanes.into_iter().map(|lane| lane.join().unwrap());
        ends.min().unwrap()
    })
}

/// From step `begin` on, every [`LANES`]-th.
fn end_at_steps(lake: &Lake, begin: u64, (ending, read): (&str, Read), set: &[&str]) -> u64 {
    let all = i64::from(PARTITIONS) * RECORDS;
    for step in (begin..STEPS_MAX).step_by(LANES as usize) {
        let zone = format!("zone-{step}");
        let whole = run(lake, &zone, set, Some(step)).code == Some(0);
        let before = listed(lake, &zone, ending, read);
        let said = run(lake, &zone, set, None);
        assert_eq!(said.code, Some(0), "after step {step}: {}", said.err);
        let after = listed(lake, &zone, ending, read);
        assert!(after.is_superset(&before), "after step {step}: a row went");
        assert_eq!(after.len() as i64, all, "after step {step}");
        let at = format!("file:{zone}");
        let verified = lake.weir(&["log", &at, "--pipeline", "raw", "--verify"]);
        assert_eq!(verified.code, Some(0), "{}{}", verified.out, verified.err);
        if whole {
            return step;
        }
        fs::remove_dir_all(lake.path(&zone)).unwrap();
    }
    panic!("no run came through");
}

#[test]
fn a_kill_at_each_durable_step_loses_no_row_of_json_and_doubles_none() {
    let set = [
        "sink.format=json",
        "sink.compression=zstd-3",
        "sink.file.names=offsets",
    ];
    let steps = end_at_each_step(".json.zst", json_zstd, &set);
    assert!(steps > 10, "only {steps} steps: is the variable heard?");
}

#[test]
fn a_kill_at_each_durable_step_loses_no_row_of_avro_and_doubles_none() {
    let set = ["sink.format=avro", "sink.compression=zstd-3"];
    let steps = end_at_each_step(".avro", avro, &set);
    assert!(steps > 10, "only {steps} steps: is the variable heard?");
}
