//! The source against a directory, call by call: files that change between two calls, rewinds of a process that runs, and what
//! must not be taken away.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{FileConfig, Files, clean};
use arrow_array::Array as _;

use crate::clock::{Clock as _, ManualClock};
use crate::config;
use crate::connectors::CATALOG;
use crate::error::{Error, Kind, Result};
use crate::source::{Connector as _, Lost, Position, ReadLimits, Source, lost};
use crate::store::{Found, Input, Inputs, Moved};

/// Records of a batch.
const BATCH: usize = 1_000;
pub(super) const LIMITS: ReadLimits = ReadLimits {
    batch_records: BATCH,
    batch_bytes: 1 << 30,
    memory: 1 << 30,
};
/// A day in 2026, microseconds.
const NOW: i64 = 1_780_000_000_000_000;

pub(super) struct World {
    dir: tempfile::TempDir,
    keys: Vec<(String, String)>,
    pub(super) clock: Arc<ManualClock>,
}

impl World {
    pub(super) fn new(keys: &[(&str, &str)]) -> World {
        let world = World {
            dir: tempfile::tempdir().expect("dir"),
            keys: keys
                .iter()
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect(),
            clock: ManualClock::at(NOW),
        };
        std::fs::create_dir(world.at("in")).expect("dir");
        world
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(super) fn set(&mut self, key: &str, value: &str) {
        self.keys.retain(|(known, _)| known != key);
        self.keys.push((key.to_owned(), value.to_owned()));
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("dir");
        std::fs::write(path, text).expect("written");
    }

    pub(super) fn config(&self) -> FileConfig {
        let url = |path: &str| format!("file:{}", self.at(path).display());
        let always = [
            ("name", "files".to_owned()),
            ("source.type", "file".to_owned()),
            ("source.url", url("in")),
            ("source.format", "text".to_owned()),
            ("source.settle.time", "0s".to_owned()),
            ("sink.type", "zone".to_owned()),
            ("sink.url", url("zone")),
        ];
        let has = |key: &str| self.keys.iter().any(|(k, _)| k == key);
        let typed = |key: &str| has(key) || (key == "source.settle.time" && has("source.follow"));
        let always = always.iter().filter(|(key, _)| !typed(key));
        let always = always.map(|(key, value)| (*key, value.as_str()));
        let keys = self.keys.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let config = config::from_map("p", always.chain(keys), &CATALOG).expect("config");
        let config::Source::Records(source) = config.source else {
            panic!("a source of records");
        };
        source
            .as_any()
            .downcast_ref::<FileConfig>()
            .expect("files")
            .clone()
    }

    fn files(&self) -> Files {
        Files::new(self.config(), self.clock.clone()).expect("opened")
    }

    /// What is left in the directory, hidden names too.
    pub(super) fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        below(&self.at("in"), "", &mut left);
        left.sort();
        left
    }
}

fn below(root: &Path, dir: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(root.join(dir)).expect("dir") {
        let name = entry
            .expect("entry")
            .file_name()
            .into_string()
            .expect("UTF-8");
        let path = Path::new(dir).join(name).display().to_string();
        match root.join(&path).is_dir() {
            true => below(root, &path, found),
            false => found.push(path),
        }
    }
}

pub(super) fn starts(files: &Files) -> Vec<Position> {
    let topic = files.topic("file").expect("topic");
    files.starts(&topic).expect("starts")
}

fn opened(files: &Files) -> Box<dyn Source> {
    files.open(&starts(files), &LIMITS).expect("opened")
}

/// Records until nothing comes or an error does, where the last batch ended, and the error.
pub(super) fn read(source: &mut dyn Source, most: usize) -> (Vec<String>, i64, Option<Error>) {
    let (mut records, mut at) = (Vec::new(), 0);
    let mut batches = 0;
    while batches < most {
        match source.next(Duration::ZERO) {
            Ok(Some(batch)) => {
                batches += 1;
                at = batch.covers.range.to;
                let texts = batch.value.iter().flatten();
                records.extend(texts.map(|text| String::from_utf8_lossy(text).into_owned()));
            }
            Ok(None) if source.caught_up() => break,
            // The first listing is under way, or records are passed over.
            Ok(None) => std::thread::yield_now(),
            Err(error) => return (records, at, Some(error)),
        }
    }
    (records, at, None)
}

pub(super) fn lines(of: &str, count: usize) -> String {
    (0..count).map(|n| format!("{of} {n:017}\n")).collect()
}

#[test]
fn nothing_is_handed_on_of_a_file_that_is_overwritten_while_it_is_read() {
    for packed in [false, true] {
        let world = World::new(&[]);
        // Read in the same batch as the beginning of the other one.
        world.write("in/a", &lines("one", BATCH / 2));
        let name = if packed { "in/b.zst" } else { "in/b" };
        let write = |of: &str| {
            let text = lines(of, BATCH * 50);
            let bytes = match packed {
                // Not smaller than what is read ahead.
                true => zstd::encode_all(text.as_bytes(), -7).expect("packed"),
                false => text.into_bytes(),
            };
            std::fs::write(world.at(name), bytes).expect("written");
        };
        write("old");
        let files = world.files();
        let mut source = opened(&files);
        let (first, _, error) = read(source.as_mut(), 2);
        assert!(error.is_none() && first.len() == 2 * BATCH);
        // In its place, as an editor or `cp` does it.
        write("new");
        let (more, at, error) = read(source.as_mut(), usize::MAX);
        assert!(more.iter().all(|text| text.starts_with("old ")), "{more:?}");
        let error = error.expect("it is told");
        assert_eq!(error.kind(), Kind::SourceLost, "{error}");
        assert!(
            error.to_string().contains("changed after it was taken"),
            "{error}"
        );
        let Some(Lost::AgedOut(ranges)) = lost(&error) else {
            panic!("{error}");
        };
        let begins = at.max(starts_of_rest(&first, packed));
        assert_eq!(ranges[0].from, begins, "packed: {packed}");
    }
}

/// The position behind records that were read: those of a file of half a batch, and of the other one.
fn starts_of_rest(read: &[String], packed: bool) -> i64 {
    let (one, rest) = read.split_at(BATCH / 2);
    let bytes = |texts: &[String]| texts.iter().map(|text| text.len() + 1).sum::<usize>();
    let rest = if packed { rest.len() } else { bytes(rest) };
    i64::try_from(bytes(one) + 1 + rest).expect("small")
}

/// However long another partition is read first.
#[test]
fn the_source_says_what_it_has_of_a_partition_whose_turn_comes_later() {
    let world = World::new(&[("tasks.max", "4")]);
    for n in 0..16 {
        world.write(&format!("in/{n:02}"), &lines("a", BATCH));
    }
    let files = world.files();
    let mut source = opened(&files);
    let splits: Vec<_> = starts(&files).into_iter().map(|at| at.split).collect();
    let have = |source: &dyn Source| splits.iter().filter(|s| source.has_more(s)).count();
    assert_eq!(have(source.as_ref()), 4, "the list was not read yet");
    read(source.as_mut(), 2);
    assert!(have(source.as_ref()) >= 2);
    read(source.as_mut(), usize::MAX);
    assert!(source.caught_up());
    assert_eq!(have(source.as_ref()), 0);
}

#[test]
fn a_rewind_of_a_process_that_runs_keeps_the_files_until_they_are_read_again() {
    let world = World::new(&[("source.clean.source", "delete")]);
    for name in ["in/a", "in/b"] {
        world.write(name, &lines(name, 10));
    }
    let files = world.files();
    let begin = starts(&files);
    let mut source = opened(&files);
    let (records, at, _) = read(source.as_mut(), 10);
    assert_eq!(records.len(), 20);
    let commits = |next: i64| {
        let positions = [Position {
            next,
            ..begin[0].clone()
        }];
        files
            .acknowledge()
            .expect("cleaner")
            .acknowledge(&positions);
    };
    let cleaned = || clean::clean(&files.shared).expect("cleaned");
    let middle = files.shared.file(0).expect("list").expect("a file");
    let middle = middle.entry().expect("a file").end();
    // Both files are committed, and before they are taken away somebody rewinds to the beginning of the second one.
    commits(at);
    source
        .seek(&[Position {
            next: middle,
            ..begin[0].clone()
        }])
        .expect("there");
    assert_eq!((cleaned(), world.left()), (1, vec!["b".to_owned()]));
    commits(middle);
    assert_eq!((cleaned(), world.left()), (0, vec!["b".to_owned()]));
    assert_eq!(read(source.as_mut(), 10).0.len(), 10);
    assert_eq!((cleaned(), world.left()), (0, vec!["b".to_owned()]));
    commits(at);
    assert_eq!((cleaned(), world.left()), (1, vec![]));
    // A removal that a rewind overtook does not jump over what was taken back.
    files.shared.begins(0, 5);
    files.shared.has_cleaned(0, at, at + 1);
    assert_eq!(files.shared.cleaned(0), Some(5));
}

#[test]
fn files_of_a_zone_are_never_taken_away() {
    for (log, archive) in [
        ("in/_system/p/z/log/1.json", None),
        ("in/lake/_system/p/z/log/1.json", None),
        ("_system/p/z/log/1.json", None),
        (
            "in/_archive/zone/_system/p/z/log/1.json",
            Some("_archive/zone"),
        ),
        ("in/_archive/_system/p/z/log/1.json", Some("_archive/zone")),
    ] {
        let mut keys = vec![("source.clean.source", "delete")];
        if let Some(dir) = archive {
            keys = vec![
                ("source.clean.source", "archive"),
                ("source.archive.dir", dir),
            ];
        }
        let world = World::new(&keys);
        world.write("in/a", "x\n");
        world.write(log, "{}");
        let files = world.files();
        let refused = files
            .open(&starts(&files), &LIMITS)
            .and_then(|mut source| read(source.as_mut(), 10).2.map_or(Ok(()), Err));
        let refused = refused.expect_err(log);
        assert!(
            refused.to_string().contains("files of a zone"),
            "{log}: {refused}"
        );
        assert!(world.at("in/a").exists());
    }
    // Where nothing is taken away, a zone beside the files is nobody's concern.
    let world = World::new(&[]);
    world.write("in/a", "x\n");
    world.write("in/_system/p/z/log/1.json", "{}");
    let files = world.files();
    assert_eq!(read(opened(&files).as_mut(), 10).0, ["x"]);
}

/// A service that lists one zone's log in the bucket `lake`, and nothing else; what lies above `denied` it does not list. Its
/// address, and the prefixes that it was asked for.
fn bucket(
    log: &'static str,
    denied: Option<&'static str>,
) -> (String, Arc<std::sync::Mutex<Vec<String>>>) {
    use std::io::{BufRead as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = format!("http://{}", listener.local_addr().expect("address"));
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = asked.clone();
    let answer = move |mut stream: std::net::TcpStream| {
        let mut head = std::io::BufReader::new(stream.try_clone().expect("stream")).lines();
        let request = head.next().expect("a request").expect("a line");
        head.find(|line| line.as_ref().is_ok_and(String::is_empty));
        let (_, prefix) = request.split_once("prefix=").expect("a listing");
        let prefix = prefix.split(['&', ' ']).next().expect("one");
        let prefix = prefix.replace("%2F", "/");
        let dir = prefix.replace("_system/", "");
        let (status, body) = match denied.is_some_and(|denied| denied.starts_with(&*dir)) {
            true => (
                "403 Forbidden",
                "<Error><Code>AccessDenied</Code><Message>no</Message></Error>".to_owned(),
            ),
            false => {
                let object = format!(
                    "<Contents><Key>{log}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"e\"</ETag><Size>2</Size></Contents>"
                );
                let objects = if log.starts_with(&*prefix) {
                    object
                } else {
                    String::new()
                };
                (
                    "200 OK",
                    format!(
                        "<ListBucketResult><IsTruncated>false</IsTruncated>{objects}</ListBucketResult>"
                    ),
                )
            }
        };
        seen.lock().expect("asked").push(prefix);
        let length = body.len();
        let text = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes()).expect("answered");
    };
    std::thread::spawn(move || {
        listener
            .incoming()
            .for_each(|stream| answer(stream.expect("one")))
    });
    (address, asked)
}

#[test]
fn a_prefix_in_a_zone_is_not_taken_away() {
    for (log, denied, refused) in [
        ("raw/_system/p/z/log/1.json", None, true),
        ("_system/p/z/log/1.json", None, true),
        ("raw/orders/_system/p/z/log/1.json", None, true),
        ("rawer/_system/p/z/log/1.json", None, false),
        // Rights that end at the prefix, and in the middle.
        ("rawer/_system/p/z/log/1.json", Some("raw/"), false),
        ("raw/_system/p/z/log/1.json", Some("r"), true),
    ] {
        let (address, asked) = bucket(log, denied);
        let world = World::new(&[
            ("source.url", "s3://lake/raw/orders"),
            ("source.clean.source", "delete"),
            ("source.store.endpoint", &address),
            ("source.store.allow.http", "true"),
            ("source.store.anonymous", "true"),
            ("source.store.region", "us-east-1"),
        ]);
        let files = world.files();
        let error = read(opened(&files).as_mut(), 10).2;
        let told = error.as_ref().map(ToString::to_string).unwrap_or_default();
        assert_eq!(error.is_some(), refused, "{log}: {told}");
        assert_eq!(told.contains("files of a zone"), refused, "{log}: {told}");
        assert_eq!(files.shared.is_begun(), !refused);
        let asked = asked.lock().expect("asked");
        let all = [
            "_system/",
            "raw/_system/",
            "raw/orders/_system/",
            "raw/orders/",
        ];
        assert!(refused || *asked == all, "{asked:?}");
    }
}

#[test]
fn a_time_in_the_future_makes_no_other_file_too_old() {
    let world = World::new(&[("source.max.file.age", "1d")]);
    let write = |name: &str, seconds: i64| {
        world.write(name, &format!("{name}\n"));
        let time = std::time::UNIX_EPOCH + Duration::from_micros(NOW as u64);
        let time = match u64::try_from(seconds) {
            Ok(seconds) => time + Duration::from_secs(seconds),
            Err(_) => time - Duration::from_secs(seconds.unsigned_abs()),
        };
        let file = std::fs::File::options().append(true).open(world.at(name));
        file.and_then(|file| file.set_modified(time)).expect("time");
    };
    write("in/ahead", 10 * 86_400);
    assert_eq!(read(opened(&world.files()).as_mut(), 10).0, ["in/ahead"]);
    write("in/new", -10);
    write("in/old", -2 * 86_400);
    let files = world.files();
    assert_eq!(read(opened(&files).as_mut(), 10).0, ["in/ahead", "in/new"]);
    // What is old and was read is no new file after a restart either.
    world.clock.advance(Duration::from_secs(3 * 86_400));
    let ends = files.topic("file").expect("topic").partitions;
    let again = world.files();
    assert!(read(opened(&again).as_mut(), 10).2.is_none());
    assert_eq!(again.topic("file").expect("topic").partitions, ends);
}

#[test]
fn a_stop_is_noticed_while_files_settle() {
    let world = World::new(&[("source.settle.time", "10m"), ("trigger", "available-now")]);
    world.write("in/a", "x\n");
    let file = std::fs::File::options().append(true).open(world.at("in/a"));
    let time = std::time::UNIX_EPOCH + Duration::from_micros(NOW as u64);
    file.and_then(|file| file.set_modified(time)).expect("time");
    let files = world.files();
    let mut source = opened(&files);
    let wait = Duration::from_millis(1);
    let begun = world.clock.elapsed();
    for _ in 0..1_000 {
        assert!(source.next(wait).expect("nothing yet").is_none());
        assert!(!source.caught_up());
    }
    // No call took longer than it was allowed to.
    assert!(world.clock.elapsed() - begun <= 1_000 * wait);
    world.clock.advance(Duration::from_secs(600));
    assert_eq!(read(source.as_mut(), 10).0, ["x"]);
}

#[test]
fn a_copy_of_the_process_knows_what_the_other_one_took_on() {
    let world = World::new(&[]);
    world.write("in/a", "x\n");
    // The other one was opened before there was a list.
    let (one, two) = (world.files(), world.files());
    assert_eq!(read(opened(&one).as_mut(), 10).0, ["x"]);
    let ends = |files: &Files| files.topics().expect("topics")[0].partitions.clone();
    assert!(ends(&one)[0].high > 0);
    assert_eq!(ends(&two), ends(&one));
    // And before the list grew.
    world.write("in/b", "y\n");
    let three = world.files();
    assert_eq!(read(opened(&three).as_mut(), 10).0, ["x", "y"]);
    assert_eq!(ends(&two), ends(&three));
    assert_eq!(ends(&one), ends(&three));
}

#[test]
fn an_array_that_is_torn_is_bad_wherever_reading_goes_on() {
    for (text, good) in [
        ("[1, 2, 3", false),
        ("[1, 2, 3]", true),
        ("\u{feff} [1] 2", true),
        ("[1] [2", false),
        ("1 2", true),
    ] {
        let world = World::new(&[("source.format", "json")]);
        world.write("in/a.json", text);
        let files = world.files();
        let mut source = opened(&files);
        let (records, at, error) = read(source.as_mut(), 10);
        assert_eq!(error.is_none(), good, "{text}");
        assert!(!records.is_empty());
        // Behind the last record, as after a kill.
        let entry = files.shared.file(0).expect("list").expect("a file");
        let last = match good {
            false => at,
            true => text.rfind(|c: char| c.is_ascii_digit()).expect("a digit") as i64 + 1,
        };
        assert!(last <= entry.entry().expect("a file").end());
        let files = world.files();
        let from = Position {
            next: last,
            ..starts(&files)[0].clone()
        };
        let mut source = files.open(&[from], &LIMITS).expect("opened");
        let (records, _, error) = read(source.as_mut(), 10);
        assert_eq!((records.len(), error.is_none()), (0, good), "again: {text}");
    }
}

#[test]
fn records_that_were_read_of_a_packed_file_are_passed_over_in_steps() {
    const ROWS: usize = 60_000;
    let world = World::new(&[]);
    let filling = "x".repeat(1_000);
    let text: String = (0..ROWS).map(|n| format!("{n} {filling}\n")).collect();
    let packed = zstd::encode_all(text.as_bytes(), 1).expect("packed");
    std::fs::write(world.at("in/a.zst"), packed).expect("written");
    let files = world.files();
    assert!(read(opened(&files).as_mut(), 1).2.is_none());
    let next = ROWS as i64 - 10;
    let from = Position {
        next,
        ..starts(&files)[0].clone()
    };
    let files = world.files();
    let mut source = files.open(&[from], &LIMITS).expect("opened");
    while !files.shared.is_begun() {
        assert!(source.next(Duration::ZERO).expect("nothing yet").is_none());
    }
    let mut quiet = 0;
    let batch = loop {
        match source.next(Duration::ZERO).expect("read") {
            Some(batch) => break batch,
            None => quiet += 1,
        }
        assert!(!source.caught_up());
    };
    assert!(quiet >= 2, "{quiet} calls of 16 MiB of 60 MB");
    assert_eq!((batch.covers.range.from, batch.value.len()), (next, 10));
}

#[test]
fn an_array_that_is_torn_behind_a_value_is_looked_through_in_steps() {
    const VALUES: usize = 60_000;
    let world = World::new(&[("source.format", "json")]);
    let filling = "x".repeat(1_000);
    let values: Vec<String> = (0..VALUES).map(|n| format!("\"{n} {filling}\"")).collect();
    let text = format!("[{}", values.join(","));
    world.write("in/a.json", &text);
    // The first listing, without a reader.
    let files = world.files();
    assert!(read(opened(&files).as_mut(), 1).2.is_none());
    let from = Position {
        next: text.len() as i64,
        ..starts(&files)[0].clone()
    };
    let files = world.files();
    let mut source = files.open(&[from], &LIMITS).expect("opened");
    while !files.shared.is_begun() {
        assert!(source.next(Duration::ZERO).expect("nothing yet").is_none());
    }
    let mut quiet = 0;
    let error = loop {
        match source.next(Duration::ZERO) {
            Ok(batch) => assert!(batch.is_none()),
            Err(error) => break error,
        }
        quiet += 1;
        assert!(!source.caught_up());
    };
    assert!(
        error
            .to_string()
            .contains("the array that began is not closed"),
        "{error}"
    );
    assert!(quiet >= 2, "{quiet} calls of 16 MiB of 60 MB");
}

/// What the watcher is told, when each listing has ended before the next look.
fn looks(files: &Files, times: usize) -> Vec<Result<()>> {
    let topics = files.topics().expect("topics");
    let look = |_| {
        let told = files.changes(&topics).map(drop);
        files.shared.waits_for_listing();
        told
    };
    (0..times).map(look).collect()
}

#[test]
fn a_refusal_is_told_until_a_listing_ends_well() {
    let world = World::new(&[("source.clean.source", "delete")]);
    world.write("in/a", "x\n");
    let files = world.files();
    assert_eq!(read(opened(&files).as_mut(), 10).0, ["x"]);
    assert!(looks(&files, 4).iter().all(Result::is_ok));
    world.write("in/_system/p/z/log/1.json", "{}");
    let mut told = looks(&files, 12).into_iter().skip_while(Result::is_ok);
    let first = told.next().expect("told").expect_err("refused");
    let again: Vec<Error> = told.map(|told| told.expect_err("still")).collect();
    assert!(again.len() > 6);
    for error in again {
        assert_eq!(error.kind(), Kind::ConfigInvalid);
        assert_eq!(error.to_string(), first.to_string());
    }
    std::fs::remove_dir_all(world.at("in/_system")).expect("removed");
    let told = looks(&files, 12).into_iter().skip_while(Result::is_err);
    let told: Vec<Result<()>> = told.collect();
    assert!(told.len() > 6 && told.iter().all(Result::is_ok));
}

#[test]
fn the_first_listing_is_made_once() {
    let world = World::new(&[("trigger", "available-now")]);
    world.write("in/a", "x\n");
    let files = world.files();
    assert_eq!(read(opened(&files).as_mut(), 10).0, ["x"]);
    world.write("in/b", "y\n");
    for _ in 0..3 {
        files.shared.begins_late();
        files.shared.waits_for_listing();
    }
    let topic = files.topic("file").expect("topic");
    assert!(files.shared.file(1).expect("list").is_none());
    assert!(topic.partitions[0].high > 0);
}

#[test]
fn a_row_of_parquet_has_a_limit_too() {
    use arrow_array::{ArrayRef, RecordBatch, StringArray};
    let world = World::new(&[
        ("source.format", "parquet"),
        ("source.record.max.bytes", "1KiB"),
    ]);
    let texts = StringArray::from(vec!["short".to_owned(), "x".repeat(2_000)]);
    let batch = RecordBatch::try_from_iter([("a", Arc::new(texts) as ArrayRef)]).expect("batch");
    std::fs::write(world.at("in/a.parquet"), crate::zone::foreign_file(&batch)).expect("written");
    let (records, at, error) = read(opened(&world.files()).as_mut(), 10);
    assert_eq!((records.len(), at), (1, 1));
    let error = error.expect("too long").to_string();
    assert!(error.contains("source.record.max.bytes"), "{error}");
}

/// Objects of a service that gives each copy an etag of its own.
#[derive(Debug, Default)]
struct Service {
    objects: std::sync::Mutex<std::collections::BTreeMap<String, (u64, String)>>,
    writes: std::sync::atomic::AtomicUsize,
    /// Etags look like digests, as with KMS.
    kms: bool,
}

impl Service {
    fn put(&self, path: &str, size: u64) {
        use std::sync::atomic::Ordering;
        let n = self.writes.fetch_add(1, Ordering::Relaxed);
        let etag = match self.kms {
            true => format!("etag:{n:032x}"),
            false => format!("etag:0x{n}"),
        };
        let mut objects = self.objects.lock().expect("objects");
        objects.insert(path.to_owned(), (size, etag));
    }

    fn paths(&self) -> Vec<String> {
        let objects = self.objects.lock().expect("objects");
        objects.keys().cloned().collect()
    }
}

impl Inputs for Service {
    fn walk(&self, _: &str, _: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
        Ok(())
    }

    fn look(&self, path: &str) -> Result<Option<Found>> {
        let objects = self.objects.lock().expect("objects");
        Ok(objects.get(path).map(|(size, etag)| Found {
            path: path.to_owned(),
            size: *size,
            modified: 0,
            identity: etag.clone(),
        }))
    }

    fn open_input(&self, _: &str) -> Result<Option<Box<dyn Input>>> {
        Ok(None)
    }

    fn move_input(&self, from: &str, to: &str) -> Result<Moved> {
        let Some(there) = self.look(from)? else {
            return Ok(Moved::SourceMissing);
        };
        if self.look(to)?.is_some() {
            return Ok(Moved::TargetExists);
        }
        self.put(to, there.size);
        self.remove_input(from).map(|()| Moved::Done)
    }

    fn remove_input(&self, path: &str) -> Result<()> {
        self.objects.lock().expect("objects").remove(path);
        Ok(())
    }
}

#[test]
fn an_archived_object_is_found_whatever_etag_its_copy_has() {
    let names = || ["_archive/a".to_owned(), "_archive/a~0.0".to_owned()];
    for kms in [false, true] {
        let service = Service {
            kms,
            ..Service::default()
        };
        service.put("a", 5);
        let there = service.look("a").expect("asked").expect("there");
        clean::archive(&service, &there, names()).expect("archived");
        let [path, again] = names().map(|path| service.look(&path).expect("asked"));
        let found = path.is_some_and(|path| path.may_be_copy_of(&there))
            || again.is_some_and(|again| clean::is_own_copy(&again, &there));
        assert!(found && service.paths().len() == 1, "{:?}", service.paths());
        // A kill between the copy under the second name and the removal: no third copy, and nothing is left.
        service.put("_archive/a", 5);
        service.put("_archive/a~0.0", 5);
        service.put("a", 5);
        let there = service.look("a").expect("asked").expect("there");
        clean::archive(&service, &there, names()).expect("archived");
        assert_eq!(service.paths(), names());
    }
}
