//! The pipeline `files`, which reads the directory `in` into the table `file` of the zone `zone`, and what lies in that zone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use weir::commit::{LogName, Role, verify};
use weir::store;
use weir::zone::read_file;

use crate::brokers::files;
use crate::case::Case;
use crate::world::open_log;

pub struct Rig {
    case: Case,
}

/// Nothing waits for files to settle, as nobody writes them slowly.
const QUICK: &str = "source.settle.time = \"0s\"\nsource.list.every = \"100ms\"\n";

/// One row: from which file, at which position, what.
pub type Rows = Vec<(String, i64, String)>;

impl Deref for Rig {
    type Target = Case;

    fn deref(&self) -> &Case {
        &self.case
    }
}

impl Rig {
    pub fn new(source: &str, rest: &str) -> Rig {
        let rig = Rig {
            case: Case::new("files", "zone"),
        };
        fs::create_dir(rig.path("in")).unwrap();
        rig.declare(source, rest);
        rig
    }

    pub fn declare(&self, source: &str, rest: &str) {
        let keys = format!(
            "source.type = \"file\"\nsource.url = \"file:in\"\n{QUICK}{source}\
             sink.type = \"zone\"\nsink.url = \"file:zone\"\nsink.rotate.age = \"100ms\"\n"
        );
        self.case.declare(&keys, rest);
    }

    /// For much data: a commit when a file is full.
    pub fn commits_rarely(&self) {
        self.replace("rotate.age = \"100ms\"", "rotate.age = \"60s\"");
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path("in").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn rows(&self) -> Rows {
        rows(&self.path("zone"))
    }

    /// Rows without their positions.
    pub fn values(&self) -> Vec<(String, String)> {
        let rows = self.rows().into_iter();
        rows.map(|(file, _, value)| (file, value)).collect()
    }

    pub fn texts(&self) -> Vec<String> {
        self.rows().into_iter().map(|(_, _, text)| text).collect()
    }
}

/// All rows that are listed, by position; each position must be there once.
pub fn rows(zone: &Path) -> Rows {
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
            let partitions = partitions.as_primitive::<Int32Type>();
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

pub fn lines(from: usize, to: usize) -> String {
    let mut text = String::new();
    for n in from..to {
        let _unfailing = writeln!(text, "{{\"n\":{n}}}");
    }
    text
}

/// The numbers of [`lines`], sorted.
pub fn numbers(texts: &[String]) -> Vec<usize> {
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

pub fn set_time(path: &Path, seconds_ago: u64) {
    let time = std::time::SystemTime::now() - Duration::from_secs(seconds_ago);
    let file = fs::File::options().append(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}

pub fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

pub fn bz2(bytes: &[u8]) -> Vec<u8> {
    let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// `key id value` of rows that a transform made, and how many dead letters there are.
pub fn flattened(rig: &Rig) -> (Vec<String>, u64) {
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
