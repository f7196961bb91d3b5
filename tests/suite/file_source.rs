//! `source.type = "file"`: every record of every file once, over kills, rewinds and swaps; each format and each packing; files
//! that are changed, renamed, cut or taken away. Read as people read it: the listed Parquet files, and what the program says.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use rand::{Rng as _, SeedableRng as _};
use weir::clock::SystemClock;
use weir::commit::{Log, LogName, Role, verify};
use weir::store::{self, Store};
use weir::zone::read_file;

use crate::brokers::{files, until};
use crate::hdfs_cluster::hdfs;
use crate::object_servers;
use crate::world::{open_log, plugins_dir};

/// A directory `in` of files, and the pipeline `files` that writes the table `file` of the zone `zone`.
struct Rig {
    dir: tempfile::TempDir,
}

/// Nothing waits for files to settle, as nobody writes them slowly.
const QUICK: &str = "source.settle.time = \"0s\"\nsource.list.every = \"100ms\"\n";

/// One row: from which file, at which position, what.
type Rows = Vec<(String, i64, String)>;

impl Rig {
    fn new(source: &str, rest: &str) -> Rig {
        let rig = Rig {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(rig.path("in")).unwrap();
        rig.declare(source, rest);
        rig
    }

    fn declare(&self, source: &str, rest: &str) {
        let plugins = plugins_dir();
        let plugins = plugins.display();
        let config = format!(
            "name = \"files\"\nsource.type = \"file\"\nsource.url = \"file:in\"\n{QUICK}{source}\
             sink.type = \"zone\"\nsink.url = \"file:zone\"\nsink.rotate.age = \"100ms\"\n\
             plugin.path = \"{plugins}\"\nplugin.store = \"store\"\n\
             plugin.cache = \"{plugins}/../plugins-test/cache\"\n{rest}"
        );
        fs::write(self.path("files.toml"), config).unwrap();
    }

    /// For much data: a commit when a file is full.
    fn commits_rarely(&self) {
        let config = fs::read_to_string(self.path("files.toml")).unwrap();
        let config = config.replace("rotate.age = \"100ms\"", "rotate.age = \"60s\"");
        fs::write(self.path("files.toml"), config).unwrap();
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path("in").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn weir(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.current_dir(self.dir.path()).args(args);
        command.stdin(Stdio::null());
        command
    }

    fn output(&self, args: &[&str]) -> Output {
        self.weir(args).output().unwrap()
    }

    /// Must succeed; what it said.
    fn done(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {said}");
        said + &String::from_utf8_lossy(&output.stdout)
    }

    fn run(&self) -> String {
        self.done(&["run", "files.toml", "--available-now", "--progress", "none"])
    }

    /// Must fail; what it said.
    fn fails(&self) -> String {
        let output = self.output(&["run", "files.toml", "--available-now", "--progress", "none"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{said}");
        said
    }

    fn spawn(&self) -> Child {
        let mut command = self.weir(&["run", "files.toml", "--progress", "none"]);
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("weir.log"));
        command.stdout(Stdio::null()).stderr(log.unwrap());
        command.spawn().unwrap()
    }

    fn log(&self) -> Option<Log> {
        open_log(&self.path("zone"), "files", "zone").unwrap()
    }

    fn version(&self) -> u64 {
        self.log().unwrap().version()
    }

    fn settled(&self) -> i64 {
        let log = self.log();
        log.map_or(0, |log| log.state().splits.values().map(|c| c.to).sum())
    }

    fn rows(&self) -> Rows {
        rows(&self.path("zone"))
    }

    /// Rows without their positions.
    fn values(&self) -> Vec<(String, String)> {
        let rows = self.rows().into_iter();
        rows.map(|(file, _, value)| (file, value)).collect()
    }

    fn texts(&self) -> Vec<String> {
        self.rows().into_iter().map(|(_, _, text)| text).collect()
    }
}

/// All rows that are listed, by position; each position must be there once.
fn rows(zone: &Path) -> Rows {
    let name = LogName::new("files", "zone");
    let store = store::open_url(&format!("file:{}", zone.display())).unwrap();
    let verified = verify(store.as_ref(), &name).unwrap().unwrap();
    assert!(verified.problems.is_empty(), "{:?}", verified.problems);
    let log = open_log(zone, "files", "zone").unwrap().unwrap();
    assert!(log.state().totals().closes());
    let mut found: BTreeMap<(i32, i64), (String, String)> = BTreeMap::new();
    for path in files(&zone.join("file"), ".parquet") {
        let id = path.file_stem().unwrap().to_string_lossy().into_owned();
        let live = &log.state().live[&id];
        assert_eq!(live.file.role, Role::Rows);
        for batch in read_file(&store, &name, &live.file).unwrap() {
            let batch = batch.unwrap();
            let column = |name| batch.column_by_name(name);
            let offsets = column("_offset").unwrap().as_primitive::<Int64Type>();
            let partitions = column("_partition").unwrap();
            let partitions = partitions.as_primitive::<arrow_array::types::Int32Type>();
            for row in 0..batch.num_rows() {
                let text = |name| {
                    let bytes = column(name).unwrap().as_binary::<i32>().value(row);
                    String::from_utf8_lossy(bytes).into_owned()
                };
                let at = (partitions.value(row), offsets.value(row));
                let old = found.insert(at, (text("key"), text("value")));
                assert_eq!(old, None, "{at:?} twice");
            }
        }
    }
    found
        .into_iter()
        .map(|((_, at), (key, value))| (key, at, value))
        .collect()
}

fn lines(from: usize, to: usize) -> String {
    let mut text = String::new();
    for n in from..to {
        let _unfailing = writeln!(text, "{{\"n\":{n}}}");
    }
    text
}

/// The numbers of [`lines`], sorted.
fn numbers(texts: &[String]) -> Vec<usize> {
    let number = |text: &String| -> usize {
        let digits = text
            .strip_prefix("{\"n\":")
            .and_then(|t| t.strip_suffix('}'));
        digits.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
    };
    let mut all: Vec<usize> = texts.iter().map(number).collect();
    all.sort_unstable();
    all
}

fn set_time(path: &Path, seconds_ago: u64) {
    let time = std::time::SystemTime::now() - Duration::from_secs(seconds_ago);
    let file = fs::File::options().append(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}

#[test]
fn all_that_is_there_is_read_once_and_a_second_run_adds_nothing() {
    let rig = Rig::new(
        "source.format = \"jsonl\"\nsource.path = \"**/*.jsonl\"\n",
        "tasks.max = 2\n",
    );
    rig.done(&["check", "files.toml"]);
    rig.write("b.jsonl", lines(0, 3000));
    rig.write("day=1/a.jsonl", lines(3000, 3100));
    rig.write("empty.jsonl", "");
    rig.write("other.json", "{}");
    rig.write("_hidden/x.jsonl", "no");
    rig.write(".x.jsonl", "no");
    rig.run();
    assert_eq!(numbers(&rig.texts()), (0..3100).collect::<Vec<_>>());
    let version = rig.version();
    rig.run();
    assert_eq!(rig.version(), version);
    // Another number of tasks is no other source: what is new is dealt out among more of them.
    rig.declare(
        "source.format = \"jsonl\"\nsource.path = \"**/*.jsonl\"\n",
        "tasks.max = 3\n",
    );
    for n in 0..6 {
        rig.write(&format!("c{n}.jsonl"), lines(3100 + n, 3101 + n));
    }
    rig.run();
    assert_eq!(numbers(&rig.texts()), (0..3106).collect::<Vec<_>>());
    assert_eq!(rig.log().unwrap().state().splits.len(), 3);
    // Where its bytes are is no secret: the position says it.
    let rows = rig.rows();
    let (_, at, text) = rows.iter().find(|(file, _, _)| file == "b.jsonl").unwrap();
    let (_, next, _) = &rows[rows.iter().position(|row| row.1 == *at).unwrap() + 1];
    assert_eq!(next - at, text.len() as i64 + 1);
}

#[test]
fn kills_lose_nothing_and_double_nothing() {
    let rig = Rig::new(
        "source.format = \"jsonl\"\n",
        "tasks.max = 2\nsink.rotate.rows = 700\n",
    );
    const EACH: usize = 2_000;
    let mut written = 0;
    let mut add = |name: &str, packed: bool| {
        let text = lines(written, written + EACH);
        written += EACH;
        match packed {
            true => rig.write(&format!("{name}.gz"), gz(text.as_bytes())),
            false => rig.write(name, text),
        }
    };
    for n in 0..4 {
        add(&format!("{n}.jsonl"), n % 2 == 1);
    }
    let clock = SystemClock::shared();
    let mut random = rand::rngs::SmallRng::seed_from_u64(11);
    for kill in 0..20 {
        let before = rig.settled();
        let mut child = rig.spawn();
        if kill % 2 == 0 {
            until("a commit", || (rig.settled() > before).then_some(()));
        }
        clock.sleep(Duration::from_millis(random.random_range(0..150)));
        child.kill().unwrap();
        child.wait().unwrap();
        add(&format!("k{kill}.jsonl"), kill % 3 == 0);
    }
    rig.run();
    assert_eq!(numbers(&rig.texts()), (0..written).collect::<Vec<_>>());
}

#[test]
fn what_is_taken_back_comes_again_as_it_was() {
    let rig = Rig::new("source.format = \"jsonl\"\n", "sink.rotate.rows = 300\n");
    rig.write("a.jsonl", lines(0, 1000));
    rig.write("b.jsonl.gz", gz(lines(1000, 2000).as_bytes()));
    rig.run();
    let before = rig.rows();
    assert_eq!(before.len(), 2000);
    rig.done(&["pipeline", "rewind", "files.toml", "file/0=5000"]);
    let kept = rig.rows();
    assert!(
        kept.len() < 600 && before.starts_with(&kept),
        "{}",
        kept.len()
    );
    rig.run();
    assert_eq!(rig.rows(), before);
    rig.done(&["pipeline", "rewind", "files.toml", "--all=start"]);
    assert!(rig.rows().is_empty());
    rig.run();
    assert_eq!(rig.rows(), before);
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn bz2(bytes: &[u8]) -> Vec<u8> {
    let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[test]
fn each_packing_is_read_and_a_torn_one_is_named() {
    let rig = Rig::new("source.format = \"jsonl\"\n", "");
    let text = lines(0, 500);
    rig.write("a.jsonl", &text);
    // Two streams one after the other are one file.
    let (head, tail) = text.split_at(text.find("{\"n\":250}").unwrap());
    rig.write(
        "b.jsonl.gz",
        [gz(head.as_bytes()), gz(tail.as_bytes())].concat(),
    );
    rig.write("c.jsonl.zst", zstd::encode_all(text.as_bytes(), 3).unwrap());
    rig.write(
        "d.jsonl.bz2",
        [bz2(head.as_bytes()), bz2(tail.as_bytes())].concat(),
    );
    rig.run();
    let mut by_file: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, value) in rig.values() {
        by_file.entry(file).or_default().push(value);
    }
    assert_eq!(by_file.len(), 4);
    for (file, values) in by_file {
        assert_eq!(values.concat(), text.replace('\n', ""), "{file}");
    }
    let whole = gz(lines(500, 3000).as_bytes());
    rig.write("e.jsonl.gz", &whole[..whole.len() / 2]);
    let said = rig.fails();
    for part in ["source_lost", "e.jsonl.gz", "torn", "source.on.bad.file"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    rig.write("f.jsonl", lines(3000, 3010));
    rig.declare(
        "source.format = \"jsonl\"\nsource.on.bad.file = \"skip\"\n",
        "",
    );
    let said = rig.run();
    assert!(said.contains("e.jsonl.gz"), "{said}");
    let values = rig.values();
    let of = |name: &str| values.iter().filter(|(file, _)| file == name).count();
    assert_eq!(of("f.jsonl"), 10);
    assert!(of("e.jsonl.gz") > 0 && of("e.jsonl.gz") < 2500);
    rig.write("g.jsonl.xz", "x");
    let said = rig.run();
    assert!(said.contains("files packed as .xz are not read"), "{said}");
}

#[test]
fn each_format_gives_what_its_plugin_reads() {
    let rig = Rig::new("", "");
    rig.write("array.json", "[{\"n\":1}, {\"n\":2},\n[3]]");
    rig.write("follow.json", "\u{feff}{\"n\":4}\n{\"n\":\n5}");
    rig.run();
    assert_eq!(
        rig.texts(),
        ["{\"n\":1}", "{\"n\":2}", "[3]", "{\"n\":4}", "{\"n\":\n5}"]
    );

    let rig = Rig::new("source.format = \"text\"\n", "");
    rig.write("a.log", b"one\r\n\ntw\xff\n");
    rig.run();
    assert_eq!(rig.texts(), ["one", "", "tw\u{fffd}"]);

    let parse = "[[transforms]]\nname = \"parse\"\ntype = \"csv-parse\"\nheader-line = true\n\
                 columns = [\"id\", \"value=text\"]\ncarry = [\"key\"]\nextra = \"ignore\"\n";
    let rig = Rig::new("source.format = \"csv\"\n", parse);
    rig.write(
        "a.csv",
        "id,text\n1,plain\n2,\"two\nlines, \"\"quoted\"\"\"\n",
    );
    rig.write("b.csv", "text,more,id\r\nother,x,3\r\n");
    rig.run();
    let (rows, _) = flattened(&rig);
    assert_eq!(
        rows,
        [
            ("a.csv", "1", "plain"),
            ("a.csv", "2", "two\nlines, \"quoted\""),
            ("b.csv", "3", "other")
        ]
        .map(|(file, id, text)| format!("{file} {id} {text}"))
    );

    let parse = "[[transforms]]\nname = \"parse\"\ntype = \"xml-flatten\"\nrow-tag = \"book\"\n\
                 columns = \"id=@id, value=title\"\n";
    let rig = Rig::new(
        "source.format = \"xml\"\nsource.row.tag = \"book\"\n",
        parse,
    );
    let latin = b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><l><!-- <book/> --><book id=\"1\"><title>Caf\xe9</title></book>\n\
                  <book id=\"2\"><title>b</title></book></l>";
    rig.write("a.xml", latin);
    rig.run();
    let (rows, _) = flattened(&rig);
    assert_eq!(rows, [" 1 Caf\u{e9}", " 2 b"]);
}

/// `key id value` of rows that a transform made, and how many dead letters there are.
fn flattened(rig: &Rig) -> (Vec<String>, u64) {
    let zone = rig.path("zone");
    let store = store::open_url(&format!("file:{}", zone.display())).unwrap();
    let name = LogName::new("files", "zone");
    let log = rig.log().unwrap();
    let totals = log.state().totals();
    assert!(totals.closes());
    let mut rows = Vec::new();
    for path in files(&zone.join("file"), ".parquet") {
        let id = path.file_stem().unwrap().to_string_lossy().into_owned();
        for batch in read_file(&store, &name, &log.state().live[&id].file).unwrap() {
            let batch = batch.unwrap();
            let column = |name: &str| batch.column_by_name(name).unwrap().clone();
            let (id, value) = (column("id"), column("value"));
            for row in 0..batch.num_rows() {
                let key = batch.column_by_name("key");
                let key = key.map_or(&b""[..], |key| key.as_binary::<i32>().value(row));
                let key = String::from_utf8_lossy(key);
                let (id, value) = (id.as_string::<i32>(), value.as_string::<i32>());
                rows.push(format!("{key} {} {}", id.value(row), value.value(row)));
            }
        }
    }
    rows.sort();
    (rows, totals.dead_letters)
}

#[test]
fn parquet_rows_are_json_objects() {
    // A zone's own files are Parquet that somebody else wrote.
    let first = Rig::new("source.format = \"jsonl\"\n", "");
    first.write("a.jsonl", lines(0, 3000));
    first.run();
    let rig = Rig::new("source.format = \"parquet\"\n", "sink.rotate.rows = 500\n");
    let made = files(&first.path("zone/file"), ".parquet");
    for (n, path) in made.iter().enumerate() {
        rig.write(&format!("{n}.parquet"), fs::read(path).unwrap());
    }
    rig.run();
    let rows = rig.rows();
    assert_eq!(rows.len(), 3000);
    let parsed: Vec<serde_json::Value> = rows
        .iter()
        .map(|(_, _, text)| serde_json::from_str(text).unwrap())
        .collect();
    let one = &parsed[0];
    assert_eq!(one["_topic"], "file");
    assert_eq!(one["_offset"], 0);
    assert_eq!(one["key"], "YS5qc29ubA==");
    assert!(one["_timestamp"].as_str().unwrap().ends_with('Z'), "{one}");
    rig.done(&["pipeline", "rewind", "files.toml", "file/0=1700"]);
    assert!(rig.rows().len() < 2000);
    rig.run();
    assert_eq!(rig.rows(), rows);
}

#[test]
fn a_bad_piece_is_a_dead_letter_and_its_neighbours_are_rows() {
    let flatten = "[[transforms]]\nname = \"flatten\"\ntype = \"json-flatten\"\ncolumns = \"n\"\ntypes.n = \"int\"\n\
                   [errors]\ntolerance = \"all\"\n";
    let rig = Rig::new("", flatten);
    rig.write(
        "a.json",
        b"[{\"n\":1},{\"n\":tru},{\"n\":\"\xff\"},{\"n\":4}]",
    );
    rig.run();
    let totals = rig.log().unwrap().state().totals();
    assert!(totals.closes());
    assert_eq!((totals.rows.written, totals.dead_letters), (2, 2));
    // What is no JSON as a whole is named with its byte.
    rig.write("b.json", "[{\"n\":1}");
    let said = rig.fails();
    assert!(
        said.contains("b.json: the array that began is not closed"),
        "{said}"
    );
    assert!(said.contains("byte=8"), "{said}");
}

#[test]
fn rules_change_in_the_middle_of_a_file() {
    let rules = |most: usize| format!("[columns.n]\nrequired = true\nmax = {most}\n");
    let transforms = "[[transforms]]\nname = \"flatten\"\ntype = \"json-flatten\"\ncolumns = \"n\"\ntypes.n = \"long\"\n\
                      [[transforms]]\nname = \"rules\"\ntype = \"validate\"\nrules = \"rules.toml\"\n\
                      [errors]\ntolerance = \"all\"\n";
    let rig = Rig::new("source.format = \"jsonl\"\n", transforms);
    fs::write(rig.path("rules.toml"), rules(1_000_000)).unwrap();
    rig.write("a.jsonl", lines(0, 1000));
    let mut child = rig.spawn();
    until("a commit", || (rig.settled() > 0).then_some(()));
    fs::write(rig.path("rules.toml"), rules(0)).unwrap();
    rig.done(&["pipeline", "swap", "files.toml", "--reload"]);
    rig.write("b.jsonl", lines(1000, 1500));
    until("the new file", || {
        let totals = rig.log()?.state().totals();
        (totals.records.read >= 1500).then_some(())
    });
    let pid = child.id().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert!(child.wait().unwrap().success());
    let log = rig.log().unwrap();
    let totals = log.state().totals();
    assert!(totals.closes());
    assert_eq!(totals.records.read, 1500);
    assert_eq!((totals.rows.written, totals.dead_letters), (1000, 500));
    assert_eq!(log.state().periods.len(), 2);
}

#[test]
fn the_same_name_again_is_not_read_and_another_name_is() {
    let rig = Rig::new("source.format = \"jsonl\"\n", "");
    rig.write("device_01.jsonl", lines(0, 10));
    rig.run();
    // Dropped again, byte for byte, and with other bytes.
    rig.write("device_01.jsonl", lines(10, 30));
    let said = rig.run();
    assert_eq!(rig.texts().len(), 10);
    assert!(said.contains("has changed under the same name"), "{said}");
    assert!(said.contains("device_01.jsonl"), "{said}");
    // Renamed: read as a new file.
    fs::rename(
        rig.path("in/device_01.jsonl"),
        rig.path("in/device_01_v2.jsonl"),
    )
    .unwrap();
    rig.run();
    assert_eq!(numbers(&rig.texts()), (0..30).collect::<Vec<_>>());
    // As asked for, a changed file is read whole, or stops the pipeline.
    rig.write("device_01_v2.jsonl", lines(30, 35));
    rig.declare(
        "source.format = \"jsonl\"\nsource.on.change = \"fail\"\n",
        "",
    );
    let said = rig.fails();
    assert!(
        said.contains("under the same name") && said.contains("device_01_v2.jsonl"),
        "{said}"
    );
    rig.declare(
        "source.format = \"jsonl\"\nsource.on.change = \"read\"\n",
        "",
    );
    rig.run();
    assert_eq!(numbers(&rig.texts()), (0..35).collect::<Vec<_>>());
    rig.run();
    assert_eq!(rig.texts().len(), 35);
}

#[test]
fn a_file_that_is_not_what_was_taken_is_never_read_as_if_it_were() {
    // Taken on, and not read: a rewind leaves it so.
    let taken = |source: &str| {
        let rig = Rig::new(source, "");
        rig.write("a.jsonl", lines(0, 100));
        rig.write("b.jsonl", lines(100, 110));
        set_time(&rig.path("in/a.jsonl"), 60);
        set_time(&rig.path("in/b.jsonl"), 30);
        rig.run();
        rig.done(&["pipeline", "rewind", "files.toml", "--all=start"]);
        rig
    };
    let skip = "source.format = \"jsonl\"\nsource.on.bad.file = \"skip\"\n";
    let says = |rig: &Rig, part: &str| {
        let said = rig.fails();
        for part in ["source_lost", "a.jsonl", part] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(rig.rows().is_empty());
    };
    let plain = "source.format = \"jsonl\"\n";
    // Cut.
    let rig = taken(plain);
    rig.write("a.jsonl", lines(0, 50));
    says(&rig, "changed after it was taken");
    // Replaced by one of the same size and time.
    let rig = taken(plain);
    let time = fs::metadata(rig.path("in/a.jsonl"))
        .unwrap()
        .modified()
        .unwrap();
    rig.write("new", lines(0, 100).replace("1", "2"));
    fs::File::options()
        .append(true)
        .open(rig.path("in/new"))
        .unwrap()
        .set_modified(time)
        .unwrap();
    fs::rename(rig.path("in/new"), rig.path("in/a.jsonl")).unwrap();
    says(&rig, "another file of this name");
    // Renamed: gone under the old name. With skip it is read under the new one.
    let rig = taken(plain);
    fs::rename(rig.path("in/a.jsonl"), rig.path("in/c.jsonl")).unwrap();
    says(&rig, "removed or renamed");
    rig.declare(skip, "");
    let said = rig.run();
    assert!(
        said.contains("recorded as a gap") && said.contains("a.jsonl"),
        "{said}"
    );
    let files: Vec<String> = rig.values().into_iter().map(|(file, _)| file).collect();
    assert_eq!(numbers(&rig.texts()), (0..110).collect::<Vec<_>>());
    assert!(!files.contains(&"a.jsonl".to_owned()));
    let version = rig.version();
    rig.run();
    assert_eq!(rig.version(), version);
}

#[test]
fn files_are_taken_in_groups_by_age_and_order() {
    let source = "source.format = \"jsonl\"\nsource.max.files.per.trigger = 2\n";
    let rig = Rig::new(source, "");
    for (n, age) in [(0, 50), (1, 40), (2, 30), (3, 20), (4, 10)] {
        rig.write(&format!("{n}.jsonl"), lines(n, n + 1));
        set_time(&rig.path("in").join(format!("{n}.jsonl")), age);
    }
    let list = |rig: &Rig| {
        let lists = files(&rig.path("zone/_system/files/zone/files"), ".json");
        let mut taken: Vec<Vec<String>> = Vec::new();
        for path in lists {
            let document: serde_json::Value =
                serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            let names = document["files"].as_array().unwrap().iter();
            taken.push(
                names
                    .map(|f| f["path"].as_str().unwrap().to_owned())
                    .collect(),
            );
        }
        taken
    };
    rig.run();
    assert_eq!(
        list(&rig),
        [
            vec!["0.jsonl", "1.jsonl"],
            vec!["2.jsonl", "3.jsonl"],
            vec!["4.jsonl"]
        ]
    );
    assert_eq!(rig.texts().len(), 5);
    // What is older than the newest by more than this is left, and said.
    rig.declare(
        "source.format = \"jsonl\"\nsource.max.file.age = \"1m\"\n",
        "",
    );
    rig.write("old.jsonl", lines(5, 6));
    set_time(&rig.path("in/old.jsonl"), 3600);
    rig.write("new.jsonl", lines(6, 7));
    let said = rig.run();
    assert!(
        said.contains("older than source.max.file.age") && said.contains("old.jsonl"),
        "{said}"
    );
    assert_eq!(numbers(&rig.texts()), [0, 1, 2, 3, 4, 6]);

    let rig = Rig::new(
        "source.format = \"jsonl\"\nsource.latest.first = true\nsource.max.bytes.per.trigger = \"1KiB\"\nsource.file.name.only = true\n",
        "",
    );
    for (name, n, age) in [
        ("x/a.jsonl", 0, 30),
        ("b.jsonl", 1, 20),
        ("y/a.jsonl", 2, 10),
    ] {
        rig.write(name, lines(n, n + 1));
        set_time(&rig.path("in").join(name), age);
    }
    rig.run();
    assert_eq!(list(&rig), [vec!["y/a.jsonl", "b.jsonl"]]);
}

#[test]
fn a_file_that_is_still_written_is_waited_for() {
    let rig = Rig::new("source.format = \"jsonl\"\n", "");
    rig.declare("source.format = \"jsonl\"\n", "");
    let config = fs::read_to_string(rig.path("files.toml")).unwrap();
    let config = config.replace("source.settle.time = \"0s\"", "source.settle.time = \"1s\"");
    fs::write(rig.path("files.toml"), config).unwrap();
    rig.write("done.jsonl", lines(0, 5));
    set_time(&rig.path("in/done.jsonl"), 60);
    let slow = rig.path("in/slow.jsonl");
    let begun = Instant::now();
    let mut child = rig.spawn();
    let mut n = 5;
    // It grows for longer than a file settles, and is never read half.
    while begun.elapsed() < Duration::from_millis(1500) {
        let mut file = fs::File::options()
            .create(true)
            .append(true)
            .open(&slow)
            .unwrap();
        file.write_all(lines(n, n + 1).as_bytes()).unwrap();
        n += 1;
        SystemClock::shared().sleep(Duration::from_millis(50));
    }
    until("all rows", || {
        let written = rig.log()?.state().totals().rows.written;
        (written == n as u64).then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(numbers(&rig.texts()), (0..n).collect::<Vec<_>>());
}

#[test]
fn what_is_read_is_archived_or_deleted_and_an_archive_can_be_read_again() {
    let source = "source.format = \"jsonl\"\nsource.clean.source = \"archive\"\n";
    let rig = Rig::new(source, "tasks.max = 2\n");
    rig.write("a.jsonl", lines(0, 10));
    rig.write("sub/b.jsonl", lines(10, 20));
    rig.run();
    let left = |rig: &Rig| -> Vec<PathBuf> { files(&rig.path("in"), "") };
    assert_eq!(
        left(&rig),
        [
            rig.path("in/_archive/a.jsonl"),
            rig.path("in/_archive/sub/b.jsonl")
        ]
    );
    // The same name again: ignored as ever, or a new file where that is asked for, which is archived beside the old one.
    rig.declare(
        &format!("{source}source.on.change = \"read\"\n"),
        "tasks.max = 2\n",
    );
    rig.write("a.jsonl", lines(20, 25));
    rig.run();
    let before = rig.rows();
    assert_eq!(before.len(), 25);
    assert_eq!(left(&rig).len(), 3);
    rig.done(&["pipeline", "rewind", "files.toml", "--all=start"]);
    rig.run();
    assert_eq!(rig.rows(), before);

    let rig = Rig::new(
        "source.format = \"jsonl\"\nsource.clean.source = \"delete\"\n",
        "",
    );
    rig.write("a.jsonl", lines(0, 10));
    rig.run();
    assert!(left(&rig).is_empty());
    assert_eq!(rig.texts().len(), 10);
    rig.done(&["pipeline", "rewind", "files.toml", "--all=start"]);
    assert!(rig.fails().contains("source.clean.source = delete"));
}

#[test]
fn a_hundred_thousand_small_files_take_a_bounded_time() {
    const FILES: usize = 100_000;
    let rig = Rig::new("source.format = \"jsonl\"\n", "");
    rig.commits_rarely();
    for n in 0..FILES {
        let dir = format!("{:03}", n / 1000);
        if n % 1000 == 0 {
            fs::create_dir(rig.path("in").join(&dir)).unwrap();
        }
        fs::write(
            rig.path("in").join(dir).join(format!("{n}.json")),
            lines(n, n + 1),
        )
        .unwrap();
    }
    let begun = Instant::now();
    rig.run();
    let took = begun.elapsed();
    assert_eq!(numbers(&rig.texts()), (0..FILES).collect::<Vec<_>>());
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn a_large_file_takes_little_memory() {
    // One array, larger than what the process may hold.
    let rig = Rig::new("", "");
    rig.commits_rarely();
    let mut file = std::io::BufWriter::new(fs::File::create(rig.path("in/big.json")).unwrap());
    let filling = "x".repeat(2000);
    const ROWS: usize = 100_000;
    for n in 0..ROWS {
        let begins = if n == 0 { '[' } else { ',' };
        write!(file, "{begins}{{\"n\":{n},\"filling\":\"{filling}\"}}").unwrap();
    }
    write!(file, "]").unwrap();
    drop(file);
    let mut command = Command::new("/bin/sh");
    let limited = format!(
        "ulimit -v 2000000; exec {} run files.toml --available-now --progress none",
        env!("CARGO_BIN_EXE_weir")
    );
    let mut child = command
        .args(["-c", &limited])
        .current_dir(rig.dir.path())
        .stdout(Stdio::null())
        .stderr(fs::File::create(rig.path("weir.log")).unwrap())
        .spawn()
        .unwrap();
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut most = 0;
    let ended = loop {
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        let text = fs::read_to_string(&status).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        most = most.max(kib.unwrap_or(0));
        SystemClock::shared().sleep(Duration::from_millis(20));
    };
    let said = fs::read_to_string(rig.path("weir.log")).unwrap();
    assert!(ended.success(), "{said}");
    assert!(most < 200 << 10, "{most} KiB");
    let totals = rig.log().unwrap().state().totals();
    assert_eq!(totals.rows.written, ROWS as u64);
}

#[test]
fn a_hundred_thousand_rows_of_csv_with_json_over_several_lines() {
    const ROWS: usize = 100_000;
    let parse = "[[transforms]]\nname = \"parse\"\ntype = \"csv-parse\"\nheader-line = true\n\
                 columns = [\"id\", \"value=json_data\"]\ncarry = [\"key\"]\n";
    let rig = Rig::new("source.format = \"csv\"\n", parse);
    let mut text = "id,json_data\n".to_owned();
    for n in 0..ROWS {
        let _unfailing = write!(
            text,
            "{n},\"{{\n  \"\"n\"\": {n},\n  \"\"a,b\"\": [1]\n}}\"\r\n"
        );
    }
    rig.write("a.csv", text);
    rig.run();
    let (rows, letters) = flattened(&rig);
    assert_eq!((rows.len(), letters), (ROWS, 0));
    let last = format!("a.csv {0} {{\n  \"n\": {0},\n  \"a,b\": [1]\n}}", ROWS - 1);
    assert!(rows.contains(&last), "{:?}", rows.last());
}

#[test]
fn another_source_under_the_same_name_is_refused() {
    let rig = Rig::new("source.format = \"jsonl\"\n", "");
    rig.write("a.jsonl", lines(0, 10));
    rig.run();
    rig.declare("source.format = \"text\"\n", "");
    let said = rig.fails();
    for part in ["`jsonl`", "`text`", "give the pipeline another name"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let config = fs::read_to_string(rig.path("files.toml")).unwrap();
    for (was, now, says) in [
        ("file:in", "file:nowhere", "there is no such directory"),
        ("file:in", "file:in/a.jsonl", "write source.url = "),
        ("file:in", "file:zone", "read the files that it writes"),
    ] {
        fs::write(rig.path("files.toml"), config.replace(was, now)).unwrap();
        let said = rig.fails();
        assert!(said.contains(says), "{now}: {said}");
    }
    rig.declare("source.format = \"csv\"\nsource.row.tag = \"x\"\nsource.delimiter = \"ab\"\nsource.path = \"[\"\nsource.archive.dir = \"../x\"\n", "");
    let said = rig.fails();
    for part in [
        "source.row.tag",
        "source.delimiter",
        "source.path",
        "source.archive.dir",
    ] {
        assert!(said.contains(part), "all problems at once: {said}");
    }
}

/// The same files from another store: read once, archived there, and read again from the archive.
fn read_from(rig: &Rig, url: &str, keys: &str, objects: &dyn Store) {
    let config = fs::read_to_string(rig.path("files.toml")).unwrap();
    let url = format!("source.url = \"{url}\"\n{keys}");
    let config = config.replace("source.url = \"file:in\"\n", &url);
    fs::write(rig.path("files.toml"), config).unwrap();
    let put = |name: &str, bytes: &[u8]| {
        objects.create(name, bytes).unwrap();
    };
    put("a/1.jsonl", lines(0, 2000).as_bytes());
    put("a/2.jsonl.gz", &gz(lines(2000, 2500).as_bytes()));
    let run = |args: &[&str]| {
        let mut command = rig.weir(args);
        command.envs(object_servers::credentials());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let now = ["run", "files.toml", "--available-now", "--progress", "none"];
    run(&now);
    let before = rig.rows();
    assert_eq!(numbers(&rig.texts()), (0..2500).collect::<Vec<_>>());
    let listed: Vec<String> = objects
        .list("")
        .unwrap()
        .into_iter()
        .map(|l| l.path)
        .collect();
    assert_eq!(listed, ["_archive/a/1.jsonl", "_archive/a/2.jsonl.gz"]);
    run(&now);
    run(&["pipeline", "rewind", "files.toml", "--all=start"]);
    run(&now);
    assert_eq!(rig.rows(), before);
}

const ARCHIVED: &str = "source.format = \"jsonl\"\nsource.clean.source = \"archive\"\n";

#[test]
fn objects_of_a_bucket_are_files_too() {
    let Some(server) = object_servers::s3() else {
        return;
    };
    let bucket = server.bucket("files");
    let at = server.at(&bucket, "in");
    let keys = object_servers::keys(&at)
        .into_iter()
        .map(|(key, value)| match key {
            "store.allow.http" => format!("source.{key} = {value}\n"),
            _ => format!("source.{key} = \"{value}\"\n"),
        });
    let keys: String = keys.collect();
    let objects = server.open(&bucket, "in");
    read_from(&Rig::new(ARCHIVED, ""), &at.url, &keys, objects.as_ref());
}

#[test]
fn files_of_hdfs_are_files_too() {
    let Some(hdfs) = hdfs() else {
        return;
    };
    let url = hdfs.url(&hdfs.path("files"));
    let objects = store::open_url(&url).unwrap();
    read_from(&Rig::new(ARCHIVED, ""), &url, "", objects.as_ref());
}
