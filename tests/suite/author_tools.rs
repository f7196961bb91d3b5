//! `weir plugin run`, `test` and `infer` show exactly what is there: every column, every digit, every day.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::plugins_dir;

/// `weir plugin VERB …` in a folder with these files.
fn weir(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.current_dir(dir).arg("plugin").args(args);
    if args[0] == "run" {
        command.arg("--plugin-path").arg(plugins_dir());
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn done(dir: &Path, args: &[&str]) -> String {
    let output = weir(dir, args);
    let said = text(&output.stdout);
    let told = text(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}{told}");
    said
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

#[test]
fn columns_of_a_plugin_are_shown_whatever_they_are_called() {
    let xml = "<x><r><key>1</key><value>2</value><_offset>4</_offset><n>3</n></r></x>";
    let dir = folder(&[("input.xml", xml.as_bytes())]);
    let flatten = ["run", "input.xml", "--plugin", "xml-flatten"];
    let flatten = |more: &[&'static str]| done(dir.path(), &[&flatten[..], more].concat());
    let columns = ["-c", "row-tag=r", "-c", "columns=key,value,headers,n"];
    let shown = flatten(&columns);
    let head = shown.lines().next().unwrap();
    let head: Vec<&str> = head.split_whitespace().collect();
    assert_eq!(head, ["ROW", "key", "value", "headers", "n"], "{shown}");
    let lines = flatten(&[&columns[..], &["--json"]].concat());
    let line: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    let expected = json!({"key": "1", "value": "2", "headers": null, "n": "3"});
    assert_eq!(
        line["out"], expected,
        "the record's own columns are left out"
    );

    // Rows are columns of the author's own.
    let dir = folder(&[("rows.jsonl", br#"{"key":"k","value":"v"}"#)]);
    let line = done(
        dir.path(),
        &[
            "run",
            "rows.jsonl",
            "--rows",
            "--plugin",
            "select",
            "-c",
            "keep=key,value",
            "--json",
        ],
    );
    let line: Value = serde_json::from_str(line.trim()).unwrap();
    assert_eq!(line["out"], json!({"key": "k", "value": "v"}));
}

#[test]
fn numbers_and_times_of_rows_come_through_unchanged() {
    let rows = concat!(
        r#"{"f":7311704574626553.0,"m":1234567890.0123456789,"n":12345678901234567890123456789012345678,"#,
        r#""t":"9999-12-31T23:59:59Z","w":18446744073709551616}"#
    );
    let types =
        "f = \"double\"\nm = \"decimal(20,10)\"\nn = \"decimal(38,0)\"\nt = \"timestamp\"\n";
    let dir = folder(&[
        ("rows.jsonl", rows.as_bytes()),
        ("types.toml", types.as_bytes()),
    ]);
    let run = ["run", "rows.jsonl", "--rows", "--json", "--plugin"];
    let line = done(
        dir.path(),
        &[&run[..], &["select", "-c", "keep=f,m,n,t,w"]].concat(),
    );
    let out = concat!(
        r#""out":{"f":7311704574626553.0,"m":"1234567890.0123456789","n":"12345678901234567890123456789012345678","#,
        r#""t":"9999-12-31T23:59:59Z","w":"18446744073709551616"}"#
    );
    assert!(line.contains(out), "{line}");
    let line = done(
        dir.path(),
        &[&run[..], &["cast", "-c", "types.t=date"]].concat(),
    );
    assert!(line.contains(r#""t":"9999-12-31""#), "{line}");

    let dir = folder(&[("in.json", br#"{"v":"9999-12-31T23:59:59Z"}"#)]);
    let flatten = [
        "run",
        "in.json",
        "--plugin",
        "json-flatten",
        "-c",
        "columns=v",
        "-c",
    ];
    let shown = done(dir.path(), &[&flatten[..], &["types.v=timestamp"]].concat());
    assert!(shown.contains("9999-12-31T23:59:59Z"), "{shown}");

    // What a type does not hold exactly is refused, and never rounded.
    let dir = folder(&[
        ("rows.jsonl", br#"{"m":12.505}"#),
        ("types.toml", b"m = \"decimal(10,2)\""),
    ]);
    let output = weir(
        dir.path(),
        &[&run[..], &["select", "-c", "keep=m"]].concat(),
    );
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(
        told.contains("row 0: 12.505 is no value of type decimal(10,2)"),
        "{told}"
    );
}

#[test]
fn golden_lines_that_differ_in_the_last_digit_differ() {
    let dir = folder(&[]);
    let case = dir.path().join("samples/exact");
    std::fs::create_dir_all(&case).unwrap();
    let write = |name: &str, text: &str| std::fs::write(case.join(name), text).unwrap();
    write("config.toml", "keep = [\"f\", \"key\"]\n");
    write("rows.jsonl", r#"{"f":7311704574626553.0,"key":"k"}"#);
    write("types.toml", "f = \"double\"\n");
    let plugin = plugins_dir().join("select.wasm").display().to_string();
    let test = |number: &str, key: &str| {
        let line = format!(r#"{{"row":0,"piece":0,"out":{{"f":{number},"key":"{key}"}}}}"#);
        write("expected.jsonl", &(line + "\n"));
        weir(
            dir.path(),
            &["test", &plugin, "--samples", "samples", "--seed", "7"],
        )
    };
    let same = test("7.311704574626553e15", "k");
    assert!(same.status.success(), "{}", text(&same.stdout));
    for (number, key, told) in [
        (
            "7311704574626554.0",
            "k",
            "f: expected 7311704574626554.0, found 7311704574626553.0",
        ),
        (
            "7311704574626553.0",
            "other",
            "key: expected \"other\", found \"k\"",
        ),
    ] {
        let other = test(number, key);
        let said = text(&other.stdout) + &text(&other.stderr);
        assert!(
            !other.status.success() && said.contains(told),
            "{told}: {said}"
        );
    }
}

#[test]
fn where_reading_stops_is_said_with_the_flag_that_goes_on() {
    let lines: String = (0..250).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let dir = folder(&[
        ("in.jsonl", lines.as_bytes()),
        ("rows.jsonl", lines.as_bytes()),
    ]);
    let flatten = [
        "run",
        "in.jsonl",
        "--plugin",
        "json-flatten",
        "-c",
        "columns=n",
        "--json",
    ];
    let select = [
        "run",
        "rows.jsonl",
        "--rows",
        "--plugin",
        "select",
        "-c",
        "keep=n",
        "--json",
    ];
    let infer = ["infer", "in.jsonl", "--limit", "10"];
    for (args, read, left) in [
        (&flatten[..], "100 messages", "150"),
        (&select[..], "100 rows", "150"),
        (&infer[..], "10 messages", "240"),
    ] {
        let output = weir(dir.path(), args);
        let told = text(&output.stderr);
        let expected = format!(
            "stopped after {read}, {left} more are there: --limit N reads N of them, --limit 0 all\n"
        );
        assert_eq!(told, expected, "{args:?}");
        assert!(
            !text(&output.stdout).contains("stopped"),
            "rows may go into a file"
        );
        let all = weir(dir.path(), &[args, &["-n", "0"]].concat());
        if args[0] == "run" {
            assert_eq!(
                text(&all.stdout)
                    .lines()
                    .filter(|l| l.contains("out"))
                    .count(),
                250
            );
            assert_eq!(text(&all.stderr), "");
        }
    }
}

#[test]
fn a_topic_that_has_more_says_so() {
    let broker = weir::kafka::MockBroker::start().unwrap();
    broker.create_topic("lines", 1).unwrap();
    let dir = folder(&[]);
    let produced = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["produce", "books", "--bootstrap-server", broker.bootstrap()])
        .args(["--topic", "lines", "--count", "120"])
        .output()
        .unwrap();
    assert!(produced.status.success(), "{produced:?}");
    let run = |limit: &[&str]| {
        let flatten = [
            "run",
            "lines",
            "--plugin",
            "xml-flatten",
            "-c",
            "row-tag=book",
            "-c",
            "columns=title",
            "--json",
        ];
        let topic = ["--bootstrap.servers", broker.bootstrap()];
        weir(dir.path(), &[&flatten[..], &topic[..], limit].concat())
    };
    let some = text(&run(&[]).stderr);
    assert!(
        some.contains("stopped after 100 messages, more are there: --limit N"),
        "{some}"
    );
    for all in [&["-n", "120"], &["-n", "0"]] {
        let told = text(&run(all).stderr);
        assert!(!told.contains("stopped"), "{told}");
    }
}

/// Words in backquotes that look like a code.
fn codes_in(text: &str) -> impl Iterator<Item = &str> {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let code = move |word: &&str| word.contains('_') && word.bytes().all(letter);
    text.split('`').skip(1).step_by(2).filter(code)
}

/// Texts of the plugins and the host's plugin folder that look like a code and are none: counters, and a macro's name.
const NO_CODES: &[&str] = &[
    "defaults_applied",
    "export_component",
    "extra_ignored",
    "missing_filled",
    "repeats_dropped",
];

/// What a person does who reads a code: asks for it. Codes stand in the source as literals of small letters and `_`.
#[test]
fn every_code_of_a_plugins_config_is_explained() {
    let root = crate::check::root();
    let mut files: Vec<PathBuf> = std::fs::read_dir(root.join("plugins"))
        .unwrap()
        .map(|folder| folder.unwrap().path().join("src"))
        .collect();
    files.push(root.join("host/src/plugin"));
    let mut codes = BTreeMap::new();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            continue;
        }
        let tests = ["fuzz.rs", "testing.rs"]
            .iter()
            .any(|name| path.ends_with(name));
        if tests || path.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        let lines = source
            .lines()
            .take_while(|line| line.trim() != "#[cfg(test)]")
            .filter(|line| !line.trim_start().starts_with("//"));
        for line in lines {
            let literals = line.split('"').skip(1).step_by(2);
            let letter = |b: u8| b.is_ascii_lowercase() || b == b'_';
            let code = |word: &&str| {
                let inner = word.trim_matches('_');
                inner == *word && word.contains('_') && word.bytes().all(letter)
            };
            for found in literals
                .filter(code)
                .filter(|word| !NO_CODES.contains(word))
            {
                codes.insert(found.to_owned(), path.clone());
            }
        }
    }
    for known in [
        "unknown_column",
        "bad_path",
        "bad_type",
        "table_invalid",
        "bad_config",
    ] {
        assert!(codes.contains_key(known), "{known}");
    }
    for (code, path) in codes {
        let told = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["explain", &code])
            .output()
            .unwrap();
        let said = text(&told.stdout);
        assert!(
            told.status.success() && said.contains("\nWhat to do. "),
            "{code} of {} has no section in docs/errors.md",
            path.display()
        );
    }
}

#[test]
fn a_code_with_two_meanings_is_explained_twice() {
    let told = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["explain", "bad_type"])
        .output()
        .unwrap();
    let said = text(&told.stdout);
    assert!(said.contains("bad_type, in a config\n"), "{said}");
    assert!(said.contains("bad_type, in a dead letter\n"), "{said}");
}

#[test]
fn every_code_of_a_dead_letter_is_explained() {
    use weir::{chain, plugin};
    let root = crate::check::root();
    let mut codes: Vec<String> = [
        plugin::codes::TRAPPED,
        plugin::codes::ERROR,
        plugin::codes::OUTPUT_INVALID,
        plugin::codes::OUT_OF_MEMORY,
        plugin::codes::FUEL_EXHAUSTED,
        chain::codes::TOO_MANY_REJECTS,
        chain::codes::TOO_MANY_BYTES,
    ]
    .map(str::to_owned)
    .to_vec();
    for page in std::fs::read_dir(root.join("docs/plugins")).unwrap() {
        let path = page.unwrap().path();
        let page = std::fs::read_to_string(&path).unwrap();
        let refusals = page
            .split("\n## ")
            .filter(|section| section.starts_with("Refusals"));
        let mut of_page: Vec<&str> = refusals.flat_map(codes_in).collect();
        if path.ends_with("validate.md") {
            // The last column of the table of rules says which code a rule refuses with.
            let rules = page.lines().filter(|line| line.starts_with("| `"));
            of_page.extend(rules.flat_map(codes_in));
        }
        let silent = ["mask.md", "select.md", "types.md"]
            .iter()
            .any(|name| path.ends_with(name));
        assert_eq!(of_page.is_empty(), silent, "{}", path.display());
        codes.extend(of_page.into_iter().map(str::to_owned));
    }
    // Of the sinks: tables of codes, and codes in the text.
    let of_sinks = [
        "record_too_large",
        "no_such_topic",
        "no_such_partition",
        "topic_not_allowed",
        "key_required",
        "timestamp_not_taken",
        "not_in_format",
    ];
    let of_http = ["no_json", "not_json", "http_<status>", "http_no_answer"];
    let of_zones = ["no_directory", "no_value", "not_json", "not_in_format"];
    let of_converters = [
        "empty_value",
        "not_utf8",
        "not_json",
        "no_envelope",
        "no_schema_id",
        "unknown_schema",
        "incompatible_schema",
        "not_decodable",
        "out_of_range",
    ];
    let of_pages = [
        ("kafka-sink.md", &of_sinks[..]),
        ("http.md", &of_http),
        ("dead-letters.md", &of_zones),
        ("converters.md", &of_converters),
    ];
    for (page, of_page) in of_pages {
        let page = std::fs::read_to_string(root.join("docs").join(page)).unwrap();
        for code in of_page {
            assert!(page.contains(&format!("`{code}`")), "{code}");
            codes.push((*code).to_owned());
        }
    }
    codes.push("http_422".to_owned());
    assert!(codes.len() > 60, "{codes:?}");
    codes.sort();
    codes.dedup();
    let explain = |code: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.arg("explain").args(code).output().unwrap()
    };
    let list = text(&explain(None).stdout);
    for code in &codes {
        let told = explain(Some(code));
        let said = text(&told.stdout);
        assert!(
            told.status.success(),
            "docs/refusals.md has no section of {code}"
        );
        assert!(
            said.contains("\nLikely cause. ") && said.contains("\nWhat to do. "),
            "{said}"
        );
        let heading = if code == "http_422" {
            "http_<status>"
        } else {
            code
        };
        let mut listed = list.lines().map(|line| line.split_whitespace().next());
        assert!(listed.any(|first| first == Some(heading)), "{code}");
    }
    let page = std::fs::read_to_string(root.join("docs/refusals.md")).unwrap();
    let sections = page.split("\n### `").skip(1);
    let sections: Vec<&str> = sections.filter_map(|s| s.split('`').next()).collect();
    for section in sections {
        assert!(
            codes.iter().any(|code| code == section),
            "nobody refuses with {section}"
        );
    }
}
