//! The RAW zone `raw_zone` of numbers, the zone `checked` that rules make of it, and what can be asked of both.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::process::{Output, Stdio};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use serde_json::Value;
use weir::commit::{Entry, Kind, Log, Role, Rule, decode, verify};
use weir::record::SplitId;
use weir::store::{self, Store};
use weir::zone::deadletter::{self, Filter};
use weir::zone::read_file;

use crate::case::{Case, said};
use crate::swap_rig::ABORT_AT;
use crate::world::{open_log, plugins_dir};

pub const CHECKED: &str = "checked.toml";
/// The rules of most tests.
pub const RULES: &str =
    "[[transforms]]\nname = \"rules\"\ntype = \"validate@0.1\"\nrules = \"low.toml\"\n";

/// Coordinates of a row, and its number.
pub type Rows = BTreeMap<(String, i32, i64), i64>;

/// The RAW zone `raw_zone` of files with JSON lines, and the zone `checked` that is made of it.
pub struct Lab {
    pub case: Case,
}

impl Lab {
    pub fn new() -> Lab {
        let lab = Lab {
            case: Case::new("raw", "raw_zone"),
        };
        fs::create_dir(lab.case.path("in")).unwrap();
        lab.case.declare(
            "trigger = \"available-now\"\nsource.type = \"file\"\nsource.url = \"file:in\"\nsource.format = \"jsonl\"\n\
             source.settle.time = \"0s\"\nsink.type = \"zone\"\nsink.url = \"file:raw_zone\"\nsink.table = \"all\"\n",
            "[[transforms]]\nname = \"columns\"\ntype = \"json-flatten@0.1\"\ncolumns = [\"id\", \"day\", \"n\"]\n\
             types.n = \"int\"\n",
        );
        for (name, rule) in [("low", "max = 49"), ("high", "min = 50")] {
            let rules = format!("[columns.n]\nrequired = true\n{rule}\n");
            fs::write(lab.case.path(&format!("{name}.toml")), rules).unwrap();
        }
        lab.declare(RULES, "");
        lab
    }

    /// The config of PROCESSED.
    pub fn declare(&self, transforms: &str, more: &str) {
        let plugins = plugins_dir();
        let plugins = plugins.display();
        let config = format!(
            "name = \"checked\"\ntrigger = \"every:1h\"\nplugin.path = \"{plugins}\"\nplugin.store = \"store\"\n\
             plugin.cache = \"{plugins}/../plugins-test/cache\"\nsource.type = \"zone\"\nsource.url = \"file:raw_zone\"\n\
             source.pipeline = \"raw\"\nsource.table = \"all\"\nsink.type = \"zone\"\nsink.url = \"file:checked\"\n\
             sink.table = \"all\"\nsink.partition.field = \"day\"\nerrors.tolerance = \"all\"\n{more}{transforms}"
        );
        fs::write(self.case.path(CHECKED), config).unwrap();
    }

    /// Another file of lines for RAW, each with its id and its number.
    pub fn add(&self, name: &str, rows: impl Iterator<Item = (String, Value)>) {
        let file = fs::File::create(self.case.path(&format!("in/{name}.jsonl"))).unwrap();
        let mut file = std::io::BufWriter::new(file);
        for (at, (id, n)) in rows.enumerate() {
            let day = format!("2024-03-{:02}", at % 3 + 1);
            let line = serde_json::json!({ "id": id, "day": day, "n": n });
            writeln!(file, "{line}").unwrap();
        }
        file.into_inner().unwrap();
        self.case.done(&["run", "raw.toml", "--progress", "none"]);
    }

    /// As many rows with unlike numbers.
    pub fn add_numbers(&self, name: &str, count: i64) {
        let row = |at: i64| (format!("{name}-{at}"), Value::from(at * 37 % 100));
        self.add(name, (0..count).map(row));
    }

    /// One run of PROCESSED that takes what is there; `step`: killed at this durable step, if it has so many.
    pub fn process(&self, step: Option<u64>) -> Output {
        let args = ["run", CHECKED, "--available-now", "--progress", "none"];
        let mut command = self.case.weir(&args);
        if let Some(step) = step {
            command.env(ABORT_AT, step.to_string());
        }
        command.stdout(Stdio::null()).output().unwrap()
    }

    pub fn processed(&self) -> String {
        let output = self.process(None);
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    }

    pub fn pipeline(&self, args: &[&str]) -> Output {
        let mut all = vec!["pipeline", args[0], CHECKED];
        all.extend(&args[1..]);
        self.case.output(&all)
    }

    /// What it printed as JSON; it must succeed.
    pub fn asked(&self, args: &[&str]) -> Value {
        let output = self.pipeline(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn swap_to(&self, rules: &str) -> Value {
        let set = format!("transforms.rules.rules={rules}.toml");
        self.asked(&["swap", "--reload", "--set", &set])
    }

    pub fn log_of(&self, zone: &str, pipeline: &str) -> Log {
        open_log(&self.case.path(zone), pipeline, zone)
            .unwrap()
            .unwrap()
    }

    pub fn log(&self) -> Log {
        self.log_of("checked", "checked")
    }

    pub fn store(&self, zone: &str) -> std::sync::Arc<dyn Store> {
        store::open_url(&format!("file:{}", self.case.path(zone).display())).unwrap()
    }

    /// Rows of a zone by coordinates.
    pub fn rows(&self, zone: &str, pipeline: &str) -> Rows {
        let (log, store) = (self.log_of(zone, pipeline), self.store(zone));
        let mut rows = Rows::new();
        let live = log.state().live.values();
        for live in live.filter(|live| live.file.role == Role::Rows) {
            for batch in read_file(&store, log.name(), &live.file).unwrap() {
                let batch = batch.unwrap();
                let column = |name: &str| batch.column_by_name(name).unwrap().clone();
                let (n, topic) = (column("n"), column("_topic"));
                let (partition, offset) = (column("_partition"), column("_offset"));
                for i in 0..batch.num_rows() {
                    let at = (
                        topic.as_string::<i32>().value(i).to_owned(),
                        partition.as_primitive::<Int32Type>().value(i),
                        offset.as_primitive::<Int64Type>().value(i),
                    );
                    let n = i64::from(n.as_primitive::<Int32Type>().value(i));
                    assert_eq!(rows.insert(at.clone(), n), None, "{at:?} twice in {zone}");
                }
            }
        }
        rows
    }

    /// Dead letters of PROCESSED, by the coordinates of the rows of RAW.
    pub fn letters(&self) -> Rows {
        let (log, store) = (self.log(), self.store("checked"));
        let files: Vec<_> = log.state().live.values().map(|l| l.file.clone()).collect();
        let filter = Filter::default();
        let found = deadletter::read(&store, log.name(), &files, &filter);
        let mut letters = Rows::new();
        for letter in found {
            let letter = letter.unwrap();
            assert_eq!((letter.row, letter.transform.as_str()), (Some(0), "rules"));
            let value: Value =
                serde_json::from_slice(letter.original.value.as_ref().unwrap()).unwrap();
            let at = (letter.topic, letter.partition, letter.offset);
            let n = value["n"].as_i64().unwrap();
            assert_eq!(letters.insert(at.clone(), n), None, "{at:?} refused twice");
        }
        letters
    }

    pub fn name_of(&self, rules: &[Rule]) -> &'static str {
        let hex = rules[0].config.trim_start_matches("sha256:");
        let kept = fs::read_to_string(self.case.path(&format!("store/configs/{hex}.json")));
        match kept.unwrap().contains("low.toml") {
            true => "low",
            false => "high",
        }
    }

    pub fn entries(&self) -> Vec<Entry> {
        let (log, store) = (self.log(), self.store("checked"));
        let entry = |version| {
            let path = log.name().entry(version);
            decode(&store.get(&path).unwrap().unwrap(), &path).unwrap()
        };
        (0..=log.version()).map(entry).collect()
    }

    /// Every row of RAW is a row or a dead letter, once, by the rules of the plan of its batch. Which rules made how many rows.
    pub fn exact(&self) -> BTreeMap<&'static str, usize> {
        let log = self.log();
        let found = verify(self.store("checked").as_ref(), log.name());
        let found = found.unwrap().unwrap();
        assert!(found.problems.is_empty(), "{:?}", found.problems);
        assert!(log.state().totals().closes() && log.state().plan.is_none());
        let mut by: BTreeMap<SplitId, Vec<(i64, i64, &'static str)>> = BTreeMap::new();
        for entry in self.entries() {
            if entry.kind == Kind::Rewind {
                for span in &entry.spans {
                    let of = by.entry(span.split.clone()).or_default();
                    of.retain(|(from, ..)| *from < span.to);
                }
            }
            let Some(rules) = entry.rules.filter(|_| entry.kind == Kind::Batch) else {
                continue;
            };
            let name = self.name_of(&rules.transforms);
            for span in entry.spans {
                let of = by.entry(span.split).or_default();
                of.push((span.from, span.to, name));
            }
        }
        let (rows, letters) = (self.rows("checked", "checked"), self.letters());
        let raw = self.rows("raw_zone", "raw");
        assert_eq!(rows.len() + letters.len(), raw.len(), "none is lost");
        let mut made: BTreeMap<&'static str, usize> = BTreeMap::new();
        for ((topic, partition, offset), n) in raw {
            let splits = &log.state().splits;
            let of = splits.iter().find(|(_, split)| {
                split.topic == topic && split.partition == partition && split.to > offset
            });
            let spans = &by[of.unwrap().0];
            let span = spans
                .iter()
                .find(|(from, to, _)| (*from..*to).contains(&offset));
            let (_, _, name) = span.unwrap();
            *made.entry(name).or_default() += 1;
            let is_row = (n >= 50) == (*name == "high");
            let at = (topic, partition, offset);
            assert_eq!(rows.get(&at), is_row.then_some(&n), "{at:?} by {name}");
            assert_eq!(
                letters.get(&at),
                (!is_row).then_some(&n),
                "{at:?} by {name}"
            );
        }
        made
    }

    pub fn log_version(&self) -> u64 {
        let log = open_log(&self.case.path("checked"), "checked", "checked");
        log.unwrap().map_or(0, |log| log.version())
    }
}

pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
