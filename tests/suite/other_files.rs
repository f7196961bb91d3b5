//! Files that are no Parquet, and directories by times, columns and partitions: what other programs read of them, and what the log
//! says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use weir::commit::Role;
use weir::kafka::{KafkaProps, Outgoing, Producer};

use crate::brokers::{DEADLINE, duckdb_query, files};
use crate::clients::python;
use crate::lake::Lake;
use crate::world::open_log;

const COLUMNS: &str = "columns = [\"id\", \"day\", \"n\", \"price\"]\ntypes.n = \"long\"\ntypes.price = \"decimal(9,2)\"\ntypes.day = \"date\"";
const ROWS: usize = 400;

fn line(n: usize) -> String {
    let text = if n == 7 { r#"a \"b\",\n;é"# } else { "x" };
    format!(
        r#"{{"id": "k{n:04}{text}", "day": "2024-01-{:02}", "n": {n}, "price": "{n}.5"}}"#,
        n * 5 % 28 + 1
    )
}

fn filled() -> Lake {
    let lake = Lake::new(COLUMNS);
    let lines: Vec<String> = (0..ROWS).map(line).collect();
    lake.send(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    lake
}

fn written(lake: &Lake, zone: &str, ending: &str, set: &[&str]) -> Vec<PathBuf> {
    let said = lake.raw_into(zone, set);
    assert_eq!(said.code, Some(0), "{zone}: {}", said.err);
    let found = files(&lake.path(zone).join("orders"), ending);
    assert!(!found.is_empty(), "{zone}: {}", said.err);
    found
}

fn script(python: &Path, script: &str, file: &Path) -> Value {
    let mut command = Command::new(python.join("bin/python"));
    let out = command.args(["-c", script]).arg(file).output().unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    serde_json::from_slice(&out.stdout).unwrap()
}

/// One file of each format and codec.
const FORMATS: &[(&str, &str, &[&str])] = &[
    ("json", ".json", &["sink.format=json"]),
    (
        "jsongz",
        ".json.gz",
        &["sink.format=json", "sink.compression=gzip"],
    ),
    (
        "jsonzst",
        ".json.zst",
        &["sink.format=json", "sink.compression=zstd-3"],
    ),
    ("csv", ".csv", &["sink.format=csv", "sink.file.delimiter=;"]),
    (
        "csvgz",
        ".csv.gz",
        &[
            "sink.format=csv",
            "sink.compression=gzip",
            "sink.file.delimiter=;",
        ],
    ),
];

#[test]
fn duckdb_reads_json_and_csv_of_each_codec() {
    let lake = filled();
    for (zone, ending, set) in FORMATS {
        let file = written(&lake, zone, ending, set).remove(0);
        let of = match ending.contains("json") {
            true => format!("read_json('{}')", file.display()),
            false => format!("read_csv('{}', delim=';', header=true)", file.display()),
        };
        let sql = format!(
            "select count(*) c, sum(n) n, sum(price::decimal(9,2)) p, count(distinct id) ids, min(day)::varchar d, max(_offset) o, count(*) filter (id like '%\"b\"%;é') odd from {of}"
        );
        if let Some(rows) = duckdb_query(&sql) {
            let row = &rows.unwrap_or_else(|e| panic!("{zone}: {e}"))[0];
            let said = |key: &str| row[key].to_string().trim_matches('"').to_owned();
            assert_eq!(
                (said("c"), said("n")),
                ("400".to_owned(), "79800".to_owned()),
                "{row:?}"
            );
            assert_eq!(
                (said("p"), said("ids")),
                ("80000.0".to_owned(), "400".to_owned()),
                "{row:?}"
            );
            assert_eq!(
                (said("d"), said("o"), said("odd")),
                ("2024-01-01".to_owned(), "399".to_owned(), "1".to_owned()),
                "{row:?}"
            );
        }
        let verified = lake.weir(&[
            "log",
            &format!("file:{zone}"),
            "--pipeline",
            "raw",
            "--verify",
        ]);
        assert_eq!(verified.code, Some(0), "{}{}", verified.out, verified.err);
    }
    // One byte of a file that nobody reads back is another one.
    let file = &files(&lake.path("csv/orders"), ".csv")[0];
    let mut bytes = std::fs::read(file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(file, bytes).unwrap();
    let verified = lake.weir(&["log", "file:csv", "--pipeline", "raw", "--verify"]);
    assert_ne!(verified.code, Some(0), "{}", verified.out);
    assert!(
        format!("{}{}", verified.out, verified.err).contains("sha256"),
        "{}",
        verified.out
    );
}

#[test]
fn fastavro_and_pyarrow_read_what_was_written() {
    let lake = filled();
    let Some(python) = python("files") else {
        return;
    };
    const AVRO: &str = "
import json, sys, fastavro
with open(sys.argv[1], 'rb') as f:
    r = fastavro.reader(f)
    rows = list(r)
    s = r.writer_schema
print(json.dumps({'rows': len(rows), 'codec': r.codec, 'name': s['name'], 'fields': [f['name'] for f in s['fields']],
  'n': sum(x['n'] for x in rows), 'price': str(sum(x['price'] for x in rows)), 'day': str(min(x['day'] for x in rows)), 'odd': rows[7]['id']}))";
    for (codec, name) in [
        ("none", "null"),
        ("gzip", "deflate"),
        ("snappy", "snappy"),
        ("zstd-3", "zstandard"),
    ] {
        let compression = format!("sink.compression={codec}");
        let set = ["sink.format=avro", "sink.file.system=false", &compression];
        let file = written(&lake, &format!("avro-{codec}"), ".avro", &set).remove(0);
        let said = script(&python, AVRO, &file);
        assert_eq!(
            (&said["rows"], &said["codec"]),
            (&ROWS.into(), &name.into()),
            "{said}"
        );
        assert_eq!(
            said["fields"],
            serde_json::json!(["id", "day", "n", "price"])
        );
        assert_eq!(said["name"], "orders");
        assert_eq!(
            (&said["n"], &said["price"]),
            (&79_800.into(), &"80000.00".into()),
            "{said}"
        );
        assert_eq!(
            (&said["day"], &said["odd"]),
            (&"2024-01-01".into(), &"k0007a \"b\",\n;é".into()),
            "{said}"
        );
    }
    const JSON: &str = "
import json, sys, pyarrow.json as j
t = j.read_json(sys.argv[1])
print(json.dumps({'rows': t.num_rows, 'names': t.column_names, 'n': sum(t['n'].to_pylist()), 'odd': t['id'][7].as_py()}))";
    let set = ["sink.format=json", "sink.file.system=false"];
    let said = script(&python, JSON, &written(&lake, "json", ".json", &set)[0]);
    assert_eq!((&said["rows"], &said["n"]), (&ROWS.into(), &79_800.into()));
    assert_eq!(
        said["names"],
        serde_json::json!(["id", "day", "n", "price"])
    );
    assert_eq!(said["odd"], "k0007a \"b\",\n;é");
}

fn directories(lake: &Lake, zone: &str, ending: &str) -> BTreeSet<String> {
    let root = lake.path(zone).join("orders");
    let found = files(&root, ending).into_iter();
    found
        .map(|file| {
            let below = file.strip_prefix(&root).unwrap().parent().unwrap();
            below.to_str().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn rows_lie_where_their_columns_times_and_partitions_say() {
    let lake = filled();
    let days = [
        "sink.partition.by=time",
        "sink.partition.columns=day",
        "sink.partition.path='m'=MM/'d'=dd",
        "sink.file.open=3",
        "batch.max.rows=100",
    ];
    let found = written(&lake, "days", ".parquet", &days);
    let expected: BTreeSet<String> = (1..=28).map(|day| format!("m=01/d={day:02}")).collect();
    assert_eq!(directories(&lake, "days", ".parquet"), expected);
    assert!(
        found.len() > 28,
        "no more than three were open: {}",
        found.len()
    );
    let sql = format!(
        "select count(*) c, count(*) filter (day(day) <> d::int) wrong from read_parquet('{}/**/*.parquet', hive_partitioning=true)",
        lake.path("days/orders").display()
    );
    if let Some(rows) = duckdb_query(&sql) {
        let row = &rows.unwrap()[0];
        assert_eq!(
            (row["c"].to_string(), row["wrong"].to_string()),
            ("400".to_owned(), "0".to_owned())
        );
    }
    // The names and values are in the log too, and every row once.
    let log = open_log(&lake.path("days"), "raw", "days")
        .unwrap()
        .unwrap();
    let live: Vec<_> = log
        .state()
        .live
        .values()
        .filter(|live| live.file.role == Role::Rows)
        .collect();
    assert_eq!(
        live.iter().map(|live| live.file.rows).sum::<u64>(),
        ROWS as u64
    );
    assert!(
        live.iter()
            .all(|live| live.file.partition_values["m"] == "01")
    );

    let ids = [
        "sink.partition.by=columns",
        "sink.partition.columns=_topic,n",
        "sink.format=json",
    ];
    assert_eq!(written(&lake, "ids", ".json", &ids).len(), ROWS);
    let found = directories(&lake, "ids", ".json");
    assert_eq!(found.len(), ROWS);
    assert!(found.contains("_topic=orders/n=17"), "{found:?}");

    let by = [
        "sink.partition.by=partition",
        "sink.file.names=offsets",
        "sink.format=csv",
        "sink.file.header=false",
    ];
    let found = written(&lake, "by", ".csv", &by);
    assert_eq!(
        directories(&lake, "by", ".csv"),
        BTreeSet::from(["partition=0".to_owned()])
    );
    let name = found[0].file_name().unwrap().to_str().unwrap();
    assert!(
        name.ends_with(".orders+0+0000000000.csv") && name.len() == 26 + 24,
        "{name}"
    );

    // A row without a time is a dead letter, and says why.
    lake.send(&[r#"{"id": "late", "n": 1, "price": "1.00"}"#]);
    let said = lake.raw_into("late", &days);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let letters = lake.weir(&["dlq", "ls", "file:late"]);
    assert!(
        letters.out.contains("no_directory"),
        "{}{}",
        letters.out,
        letters.err
    );
}

#[test]
fn what_is_not_read_back_is_refused_by_name() {
    let lake = filled();
    written(&lake, "zone", ".json", &["sink.format=json"]);
    let said = lake.run("processed.toml");
    assert_ne!(said.code, Some(0));
    for part in ["Parquet", "sink.format"] {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    for (set, key) in [
        ("sink.format=json", "sink.format"),
        ("sink.partition.by=partition", "sink.partition.by"),
    ] {
        let said = lake.weir(&["check", "processed.toml", "--set", set]);
        let part = format!("`{key}`: it is for rows of records");
        assert!(said.err.contains(&part), "{set}: {}", said.err);
    }
    let both = lake.weir(&[
        "check",
        "raw.toml",
        "processed.toml",
        "--set",
        "sink.format=json",
    ]);
    assert_ne!(both.code, Some(0));
    let raw = std::fs::read_to_string(lake.path("raw.toml")).unwrap();
    std::fs::write(
        lake.path("raw.toml"),
        raw.replace("[sink]\n", "[sink]\nformat = \"json\"\n"),
    )
    .unwrap();
    let both = lake.weir(&["check", "raw.toml", "processed.toml"]);
    assert_ne!(both.code, Some(0));
    assert!(
        both.err.contains("source.pipeline") && both.err.contains("json"),
        "{}",
        both.err
    );
    for (set, part) in [
        (
            &["sink.sort=id"][..],
            "`sink.sort` is for sink.format parquet",
        ),
        (&["sink.compression=lz4"], "none, gzip or zstd"),
        (&["sink.compact.every=1h"], "`sink.compact.every`"),
        (&["sink.file.extension=x.parquet"], "ends with `parquet`"),
        (
            &["sink.format=bytes", "sink.file.separator=a\\q"],
            "`\\q` means nothing",
        ),
        (
            &["sink.format=bytes", "sink.file.separator=\\n "],
            "there are blanks around `\\n`",
        ),
        (
            &["sink.format=bytes", "sink.file.separator= none"],
            "there are blanks around `none`",
        ),
        (
            &["sink.format=csv", "sink.file.delimiter=ab"],
            "one ASCII character",
        ),
        (
            &["sink.compact.every=1h", "sink.file.names=offsets"],
            "a file with offsets in its name stays",
        ),
        (
            &[
                "sink.partition.by=time",
                "sink.partition.columns=day",
                "sink.partition.unit=weeks",
            ],
            "`sink.partition.unit`: found `weeks`",
        ),
        (
            &[
                "sink.format=json",
                "sink.file.column=id",
                "sink.file.system=false",
            ],
            "a line is one value",
        ),
        (
            &["sink.format=json", "sink.columns.id.bloom=true"],
            "`sink.columns.id.bloom` is for sink.format parquet",
        ),
        (&["sink.file.text=json"], "`sink.file.column`"),
        (&["sink.partition.by=time"], "one column"),
        (
            &["sink.partition.by=record", "sink.partition.path=year=YYYY"],
            "`r` is no letter",
        ),
        (
            &[
                "sink.partition.by=record",
                "sink.partition.timezone=Mars/Olympus",
            ],
            "no time zone",
        ),
        (
            &["sink.partition.path=yyyy", "sink.partition.by=partition"],
            "`sink.partition.path` is for",
        ),
        (
            &["sink.partition.timezone=Europe/Berlin"],
            "in UTC, by the hour",
        ),
    ] {
        let mut args = vec!["check", "raw.toml", "--no-plugins"];
        for one in set {
            args.extend(["--set", one]);
        }
        let said = lake.weir(&args);
        assert_ne!(said.code, Some(0), "{set:?}");
        assert!(said.err.contains(part), "{set:?}: {}", said.err);
    }
}

/// How many letters `dlq ls` counts.
fn refused(listed: &str) -> Option<&str> {
    let line = listed.lines().find(|line| line.contains("no_directory"))?;
    line.split_whitespace().next_back()
}

/// What is found out only when a file gets its name would be found out after its commit, and for good.
#[test]
fn a_directory_that_no_store_takes_is_a_dead_letter_before_the_commit() {
    let lake = Lake::new("columns = [\"id\", \"n\"]\ntypes.n = \"long\"");
    let row = |id: &str, n: usize| format!(r#"{{"id": "{id}", "n": {n}}}"#);
    let most = "x".repeat(255 - "id=".len());
    let (long, escaped) = ("x".repeat(300), "/:?=".repeat(23));
    for (n, id) in ["a", &most, &long, &escaped].into_iter().enumerate() {
        lake.send(&[&row(id, n)]);
    }
    let by = ["sink.partition.by=columns", "sink.partition.columns=id"];
    let json = [by[0], by[1], "sink.format=json", "sink.file.names=offsets"];
    for (zone, ending, set) in [("by", ".parquet", &by[..]), ("json", ".json", &json[..])] {
        written(&lake, zone, ending, set);
        let expected = ["id=a".to_owned(), format!("id={most}")];
        assert_eq!(directories(&lake, zone, ending), BTreeSet::from(expected));
        let letters = lake.weir(&["dlq", "ls", &format!("file:{zone}")]);
        assert_eq!(refused(&letters.out), Some("2"), "{}", letters.out);
    }
    // It goes on.
    lake.send(&[&row("b", 4)]);
    written(&lake, "by", ".parquet", &by);
    assert!(directories(&lake, "by", ".parquet").contains("id=b"));

    // A path may be longer than any store takes although each name in it is short. Values are as they come here, and `/` begins
    // another directory.
    let deep = "d/".repeat(2_500);
    lake.send(&[&row(&deep, 5)]);
    let plain = [by[0], by[1], "sink.partition.escape=false"];
    written(&lake, "plain", ".parquet", &plain);
    let letters = lake.weir(&["dlq", "ls", "file:plain"]);
    assert_eq!(refused(&letters.out), Some("2"), "{}", letters.out);
}

/// The log takes no path with two dots together (V4), and readers skip names that begin with one.
#[test]
fn topics_with_dots_are_written_and_names_that_are_too_long_are_refused_by_name() {
    let lake = filled();
    let props = KafkaProps::new(lake.broker.bootstrap(), "test", &BTreeMap::new()).unwrap();
    let producer = Producer::open(&props).unwrap();
    for topic in ["a..b", ".x"] {
        lake.broker.create_topic(topic, 1).unwrap();
        let value = Some(&br#"{"id": "1"}"#[..]);
        let out = Outgoing {
            value,
            partition: Some(0),
            ..Outgoing::default()
        };
        producer.send(topic, out).unwrap();
    }
    producer.flush(DEADLINE).unwrap();
    let set = [
        "source.topics=a..b,.x",
        "sink.table=orders",
        "sink.file.names=offsets",
        "sink.partition.by=columns",
        "sink.partition.columns=_topic",
    ];
    let found = written(&lake, "dots", ".parquet", &set);
    let tails: BTreeSet<String> = found
        .iter()
        .map(|file| {
            let below = file.strip_prefix(lake.path("dots/orders")).unwrap();
            let (dir, name) = below.to_str().unwrap().split_once('/').unwrap();
            format!("{dir} {}", name.split_once('.').unwrap().1)
        })
        .collect();
    let expected = [
        "_topic=.x %2Ex+0+0000000000.parquet",
        "_topic=a%2E%2Eb a%2E%2Eb+0+0000000000.parquet",
    ];
    assert_eq!(tails, BTreeSet::from(expected.map(str::to_owned)));

    let long = format!("source.topics={}", "t".repeat(208));
    for (set, part) in [
        (&["source.topics=a..b"][..], "no path with `..`"),
        (&["sink.table=a..b"], "without two dots together"),
        (
            &[long.as_str(), "sink.file.names=offsets"],
            "`sink.file.names`: a name has at most 255 bytes",
        ),
        (
            &["sink.format=json", "sink.file.extension=a..b"],
            "`sink.file.extension`",
        ),
        (
            &[
                "sink.url=hdfs://nn:8020/lake",
                "sink.partition.by=record",
                "sink.partition.path=HH:mm",
            ],
            "HDFS takes no `:` in a name, and it gives `23:59`",
        ),
        (
            &["sink.partition.by=record", "sink.partition.path='a/'/MM"],
            "is empty: it gives `a//09`",
        ),
        (
            &["sink.format=json", "sink.compression=zstd-20"],
            "leaves each task 96MiB for its open files",
        ),
    ] {
        let mut args = vec!["check", "raw.toml", "--no-plugins"];
        for one in set {
            args.extend(["--set", one]);
        }
        let said = lake.weir(&args);
        assert_ne!(said.code, Some(0), "{set:?}");
        assert!(said.err.contains(part), "{set:?}: {}", said.err);
    }
    // What fits at all is taken: a partition and an offset of one digit, one open file.
    let fits = format!("source.topics={}", "t".repeat(207));
    for set in [
        [fits.as_str(), "sink.file.names=offsets"],
        ["sink.format=json", "sink.compression=zstd-19"],
    ] {
        let args = [
            "check",
            "raw.toml",
            "--no-plugins",
            "--set",
            set[0],
            "--set",
            set[1],
        ];
        let said = lake.weir(&args);
        assert_eq!(said.code, Some(0), "{set:?}: {}", said.err);
    }
}

/// Names of columns that Avro does not allow, on every level; and two that would be one.
#[test]
fn avro_has_names_that_it_allows_and_each_only_once() {
    let lake = Lake::new(
        "columns = [\"order-id\", \"größe\", \"1st\", \"_tags\"]\ntypes.\"order-id\" = \"long\"",
    );
    lake.send(&[r#"{"order-id": 7, "größe": "xl", "1st": "a", "_tags": "t"}"#]);
    let set = ["sink.format=avro", "sink.file.system=false"];
    let file = written(&lake, "names", ".avro", &set).remove(0);
    let header = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
    let names = ["order_id", "gr__e", "_1st", "_tags"];
    for name in names {
        let part = format!("\"name\":\"{name}\"");
        assert!(header.contains(&part), "{name}: {header}");
    }
    const AVRO: &str = "
import json, sys, fastavro
print(json.dumps([list(r.items()) for r in fastavro.reader(open(sys.argv[1], 'rb'))]))";
    if let Some(python) = python("files") {
        let expected = serde_json::json!([[
            ["order_id", 7],
            ["gr__e", "xl"],
            ["_1st", "a"],
            ["_tags", "t"]
        ]]);
        assert_eq!(script(&python, AVRO, &file), expected);
    }
    // Known at the check, and a start says the same.
    lake.raw("columns = [\"order-id\", \"order_id\"]");
    let twice = "columns `order-id` and `order_id` would both be `order_id` in Avro";
    for said in [
        lake.weir(&["check", "raw.toml", "--set", "sink.format=avro"]),
        lake.raw_into("twice", &["sink.format=avro"]),
    ] {
        assert_eq!(said.code, Some(2), "{}{}", said.out, said.err);
        assert!(said.err.contains(twice), "{}", said.err);
    }
    let said = lake.weir(&["check", "raw.toml", "--set", "sink.format=json"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let set = ["--set", "sink.format=json", "--set", "sink.file.column=no"];
    let said = lake.weir(&[&["check", "raw.toml"][..], &set].concat());
    assert!(said.err.contains("names `no`"), "{}", said.err);
}

/// Readers skip empty lines.
#[test]
fn a_null_alone_in_its_line_of_csv_is_still_a_row() {
    let lake = Lake::new("columns = [\"id\"]");
    lake.send(&[r#"{"id": "a"}"#, r#"{"id": null}"#, r#"{"id": ""}"#]);
    let set = ["sink.format=csv", "sink.file.system=false"];
    let file = written(&lake, "zone", ".csv", &set).remove(0);
    assert_eq!(fs::read_to_string(&file).unwrap(), "id\na\n\"\"\n\"\"\n");
    let sql = format!(
        "select count(*) c from read_csv('{}', header=true)",
        file.display()
    );
    if let Some(rows) = duckdb_query(&sql) {
        assert_eq!(rows.unwrap()[0]["c"].to_string(), "3");
    }
    // Beside others null is nothing.
    let file = written(&lake, "more", ".csv", &["sink.format=csv"]).remove(0);
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("\n,orders,0,1,") && text.contains("\n\"\",orders,0,2,"),
        "{text}"
    );
}

/// What a rewind takes back it cannot cut: each file has rows of one partition, so whole files go and come again.
#[test]
fn a_partition_of_json_goes_back_alone_and_its_rows_come_again_once() {
    let lake = Lake::new("columns = [\"id\"]");
    lake.broker.create_topic("two", 2).unwrap();
    let props = KafkaProps::new(lake.broker.bootstrap(), "test", &BTreeMap::new()).unwrap();
    let producer = Producer::open(&props).unwrap();
    for n in 0..20 {
        let value = format!(r#"{{"id": "{n}"}}"#);
        let out = Outgoing {
            value: Some(value.as_bytes()),
            partition: Some(n % 2),
            ..Outgoing::default()
        };
        producer.send("two", out).unwrap();
    }
    producer.flush(DEADLINE).unwrap();
    let raw = fs::read_to_string(lake.path("raw.toml")).unwrap();
    let sink = "[sink]\nformat = \"csv\"\nfile.header = false\ntable = \"orders\"\npartition.by = \"none\"\n";
    let raw = raw
        .replace("[\"orders\"]", "[\"two\"]")
        .replace("[sink]\n", sink);
    fs::write(lake.path("raw.toml"), raw).unwrap();
    let lines = || {
        let found = written(&lake, "zone", ".csv", &[]);
        let texts = found.iter().map(|file| fs::read_to_string(file).unwrap());
        let texts: Vec<String> = texts.collect();
        let mut lines: Vec<String> = texts
            .iter()
            .flat_map(|t| t.lines())
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    };
    let before = lines();
    assert_eq!(before.len(), 20, "{before:?}");
    let log = open_log(&lake.path("zone"), "raw", "zone")
        .unwrap()
        .unwrap();
    let live = log.state().live.values();
    let partitions: Vec<usize> = live.map(|live| live.file.ranges.len()).collect();
    assert_eq!(partitions, [1, 1]);
    let said = lake.weir(&["pipeline", "rewind", "raw.toml", "two/0=start"]);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    assert_eq!(lines(), before);
}
