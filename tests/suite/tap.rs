//! `weir tap`: what passes, read as a person reads it: the lines, what is said at the end, and that nothing is left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use weir::kafka::{KafkaProps, MockBroker, Outgoing, Producer};

use crate::world::plugins_dir;

struct Case {
    dir: tempfile::TempDir,
    _broker: MockBroker,
}

/// Records of each of two partitions; every fifth is no JSON.
const EACH: i32 = 10;

impl Case {
    fn new() -> Case {
        let broker = MockBroker::start().unwrap();
        broker.create_topic("orders", 2).unwrap();
        let props = KafkaProps::new(broker.bootstrap(), "test", &BTreeMap::new()).unwrap();
        let producer = Producer::open(&props).unwrap();
        for n in 0..2 * EACH {
            let value = match n / 2 % 5 {
                4 => "{\"id\": ".to_owned(),
                _ => format!("{{\"id\": {n}, \"name\": \"é{n}\"}}"),
            };
            let out = Outgoing {
                key: Some(b"k"),
                value: Some(value.as_bytes()),
                partition: Some(n % 2),
                ..Outgoing::default()
            };
            producer.send("orders", out).unwrap();
        }
        producer.flush(crate::brokers::DEADLINE).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "name = \"orders\"\nplugin.path = {:?}\nplugin.cache = {:?}\n\
             [source]\ntype = \"kafka\"\nbootstrap.servers = \"{}\"\ntopics = [\"orders\"]\nstart = \"latest\"\n\
             [sink]\ntype = \"zone\"\nurl = \"file:raw\"\n\
             [[transforms]]\nname = \"parse\"\ntype = \"json-flatten\"\ncolumns = [\"name\", \"id\"]\ntypes.id = \"int\"\n\
             [[transforms]]\nname = \"rename\"\ntype = \"select\"\nrename.id = \"number\"\n",
            plugins_dir().display().to_string(),
            plugins_dir()
                .join("../plugins-test/cache")
                .display()
                .to_string(),
            broker.bootstrap()
        );
        fs::write(dir.path().join("orders.toml"), config).unwrap();
        Case {
            dir,
            _broker: broker,
        }
    }

    fn tap(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command.args(["tap", "orders.toml"]).args(args);
        command.output().unwrap()
    }

    /// All that is there, with more arguments: the lines as they stand, and stderr.
    fn batch(&self, args: &[&str]) -> (Vec<String>, String) {
        let all = ["--from", "earliest", "--until", "now"];
        let output = self.tap(&[&all, args].concat());
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (text.lines().map(str::to_owned).collect(), said)
    }
}

fn parsed(lines: &[String]) -> Vec<Value> {
    let lines = lines.iter();
    lines.map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn offsets(lines: &[String], partition: i64) -> Vec<i64> {
    let of = parsed(lines).into_iter();
    let of = of.filter(|line| line["_partition"] == partition);
    of.map(|line| line["_offset"].as_i64().unwrap()).collect()
}

#[test]
fn a_topic_is_read_as_a_batch_and_nothing_is_left_behind() {
    let case = Case::new();
    let (lines, said) = case.batch(&[]);
    for partition in [0, 1] {
        assert_eq!(offsets(&lines, partition), (0..10).collect::<Vec<_>>());
    }
    let of_three = lines
        .iter()
        .find(|l| l.contains("\"_partition\":1,\"_offset\":3"));
    let of_three = of_three.unwrap();
    // Columns in the order of the rules, behind who the record is.
    assert!(
        of_three.ends_with("\"_row\":0,\"name\":\"é7\",\"number\":7}"),
        "{of_three}"
    );
    let refused: Vec<Value> = parsed(&lines)
        .into_iter()
        .filter(|line| line.get("_refused").is_some())
        .collect();
    assert_eq!(refused.len(), 4);
    let reason = &refused[0]["_refused"][0];
    assert_eq!(
        (&reason["transform"], &reason["code"]),
        (&"parse".into(), &"malformed_json".into())
    );
    let end = "20 records read: 16 rows, 4 refused; 20 lines shown, nothing committed";
    assert!(said.contains(end), "{said}");
    let left: Vec<_> = fs::read_dir(case.dir.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn lines_are_chosen_by_transform_value_code_and_number() {
    let case = Case::new();
    let (raw, _) = case.batch(&["--raw", "--where", "_offset=4"]);
    assert_eq!(raw.len(), 2);
    assert!(
        raw[0].contains("\"value\":\"{\\\"id\\\": \"") && raw[0].contains("\"key\":\"k\""),
        "{raw:?}"
    );
    let (first, _) = case.batch(&["--after", "parse", "--where", "id=6"]);
    assert!(
        first.len() == 1 && first[0].contains("\"id\":6"),
        "{first:?}"
    );
    let (refused, _) = case.batch(&["--where", "code=malformed_json", "--where", "_partition=1"]);
    assert_eq!(offsets(&refused, 1), [4, 9]);
    let (refused, _) = case.batch(&["--refused", "-n", "3"]);
    assert_eq!(refused.len(), 3);
    let columns = case.tap(&["--schema"]);
    assert_eq!(
        String::from_utf8_lossy(&columns.stdout),
        "name  string\nnumber  int\n"
    );
    let unknown = case.tap(&["--after", "prase", "--schema"]);
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert_eq!(unknown.status.code(), Some(2), "{said}");
    assert!(
        said.contains("orders has no transform `prase`: it has parse, rename"),
        "{said}"
    );
}

#[test]
fn reading_begins_at_the_offsets_that_are_named() {
    let case = Case::new();
    let from = |from: &str| case.tap(&["--from", from, "--until", "now"]);
    let output = from("offsets:orders/0=7,orders/1=latest");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(offsets(&lines, 0), [7, 8, 9]);
    assert_eq!(lines.len(), 3, "{text}");
    // Spark's own text.
    let sparks = from("offsets:{\"orders\":{\"0\":7,\"1\":-1}}");
    assert_eq!(String::from_utf8(sparks.stdout).unwrap(), text);
    for (start, says) in [
        (
            "offsets:orders/0=7",
            "`source.start` does not name orders/1",
        ),
        (
            "offsets:orders/0=7,orders/1=11",
            "orders/1 has offsets 0 to 10, and 11 is outside",
        ),
        (
            "offsets:orders/0=7,orders/1=0,orders/2=0",
            "names orders/2, and orders has 2 partitions",
        ),
        (
            "offsets:other/0=7",
            "names a partition of other, which is not read",
        ),
        (
            "offsets:{\"orders\":{\"0\":-3}}",
            "-1 is latest, -2 earliest",
        ),
        (
            "timestamp:{\"orders\":{\"0\":-2}}",
            "times in milliseconds since 1970",
        ),
        (
            "timestamp:{\"orders\":{\"0\":1704067200000}}",
            "`source.start` does not name orders/1",
        ),
        (
            "offsets:orders/0=timestamp:1969-12-31T00:00:00Z,orders/1=0",
            "found `orders/0=timestamp:1969",
        ),
        ("offsets:orders/0", "found `orders/0`"),
        ("offsets:orders/0=1,orders/0=2", "each partition once"),
    ] {
        let output = from(start);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(says), "{start}: {said}");
    }
}

#[test]
fn rows_are_shown_as_they_come() {
    let case = Case::new();
    let config = "name = \"r\"\nsource.type = \"rate\"\nsource.rows.per.second = 100\nsink.type = \"zone\"\nsink.url = \"file:raw\"\n";
    fs::write(case.dir.path().join("orders.toml"), config).unwrap();
    let output = case.tap(&["-n", "25"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(offsets(&lines, 0), (0..25).collect::<Vec<_>>());
    let from = case.tap(&["--from", "earliest"]);
    let said = String::from_utf8(from.stderr).unwrap();
    assert!(
        from.status.code() == Some(2) && said.contains("source.start"),
        "{said}"
    );
}

#[test]
fn books_are_made_without_a_broker_the_same_each_time() {
    let case = Case::new();
    let root = crate::check::root();
    let rules = fs::read_to_string(root.join("conf/books-raw.toml")).unwrap();
    let of_books = root.join("conf/rules/books.toml").display().to_string();
    let rules = rules.replace("conf/rules/books.toml", &of_books);
    let rules = &rules[rules.find("[[transforms]]").unwrap()..rules.find("[sink]").unwrap()];
    let config = format!(
        "name = \"books\"\nplugin.path = {:?}\nplugin.cache = {:?}\nsource.type = \"rate\"\nsource.sample = \"dirty-books\"\n\
         source.rows.per.second = 1000000\nsource.rows.total = 600\nsink.type = \"zone\"\nsink.url = \"file:raw\"\n{rules}",
        plugins_dir().display().to_string(),
        plugins_dir()
            .join("../plugins-test/cache")
            .display()
            .to_string(),
    );
    fs::write(case.dir.path().join("orders.toml"), config).unwrap();
    let read = |args: &[&str]| {
        let output = case.tap(&[&["--until", "now"], args].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let (once, again) = (read(&["--raw"]), read(&["--raw"]));
    assert_eq!(once.lines().count(), 600);
    assert!(once == again, "a row that is read again is another");
    let lines: Vec<String> = read(&[]).lines().map(str::to_owned).collect();
    let (mut ids, mut rows, mut refused) = (BTreeSet::new(), 0, 0);
    for line in parsed(&lines) {
        match line["record_id"].as_str() {
            Some(id) => {
                rows += 1;
                ids.insert(id.to_owned());
            }
            None => refused += 1,
        }
    }
    assert!(
        rows > 1_000 && refused > 10 && ids.len() < rows,
        "{rows} rows, {refused} refused, {} ids",
        ids.len()
    );
}

#[test]
fn a_source_without_an_end_has_no_now() {
    let case = Case::new();
    let config =
        "name = \"r\"\nsource.type = \"rate\"\nsink.type = \"zone\"\nsink.url = \"file:raw\"\n";
    fs::write(case.dir.path().join("orders.toml"), config).unwrap();
    let refused = case.tap(&["--until", "now"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(
        said.contains("-n N") && said.contains("source.rows.total"),
        "{said}"
    );
}

#[test]
fn files_are_looked_at_and_stay_as_they_are() {
    let case = Case::new();
    let path = |below: &str| case.dir.path().join(below);
    let config = "name = \"f\"\nsource.type = \"file\"\nsource.url = \"file:in\"\nsource.format = \"text\"\nsource.settle.time = \"0s\"\n\
                  source.list.every = \"100ms\"\nsource.clean.source = \"delete\"\nsink.type = \"zone\"\nsink.url = \"file:raw\"\n";
    fs::write(path("orders.toml"), config).unwrap();
    fs::create_dir(path("in")).unwrap();
    fs::write(path("in/a.txt"), "one\ntwo\n").unwrap();
    let values = |output: &Output| -> Vec<String> {
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let values = parsed(&lines).into_iter();
        values
            .map(|line| line["value"].as_str().unwrap().to_owned())
            .collect()
    };
    for _ in 0..2 {
        assert_eq!(values(&case.tap(&["--until", "now"])), ["one", "two"]);
        assert!(path("in/a.txt").exists() && !path("raw").exists());
    }
    // What comes while it waits is shown too.
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.current_dir(case.dir.path()).stdin(Stdio::null());
    command.args(["tap", "orders.toml", "-n", "3"]);
    let mut waits = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(waits.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    let first = [next(), next()];
    fs::write(path("in/b.txt"), "three\n").unwrap();
    assert!(first[1].contains("\"two\"") && next().contains("\"three\""));
    assert!(waits.wait().unwrap().success());
    assert!(!path("raw").exists());
}
