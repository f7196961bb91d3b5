//! The author's path, word for word: the guide's commands and files in an empty directory, the golden samples of the
//! shipped plugins, and transforms that are inferred from messages and then run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::Value;
use weir::clock::SystemClock;
use weir::kafka::{KafkaProps, MockBroker};
use weir::sample::{self, Dirty, ProduceOptions};

use crate::check::root;
use crate::world::plugins_dir;

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

fn weir(dir: &Path, args: &[&str]) -> Output {
    Command::new(WEIR)
        .current_dir(dir)
        .args(args)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn said(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

/// Runs and must succeed; what it printed.
fn done(dir: &Path, args: &[&str]) -> String {
    let output = weir(dir, args);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    text(&output.stdout)
}

/// A directory that is empty now. It stays where it is, so that cargo finds what it built there before.
fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).unwrap();
    }
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Guests of all runs share what cargo builds for them.
fn share_target(dir: &Path) {
    let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    std::fs::create_dir_all(&shared).unwrap();
    std::os::unix::fs::symlink(shared, dir.join("target")).unwrap();
}

/// Fenced blocks of a page: what stands behind the fence, and the lines.
fn blocks(page: &str) -> Vec<(&str, String)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(kind) = line.strip_prefix("```") {
            let body: Vec<&str> = lines.by_ref().take_while(|l| *l != "```").collect();
            blocks.push((kind, body.join("\n") + "\n"));
        }
    }
    blocks
}

#[test]
fn the_guide_does_what_it_says() {
    let guide = std::fs::read_to_string(root().join("docs/write-a-plugin.md")).unwrap();
    let top = folder("guide");
    let path = format!(
        "{}:{}",
        Path::new(WEIR).parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let mut here = top.clone();
    let mut printed = String::new();
    let mut commands = 0;
    for (kind, body) in blocks(&guide) {
        if kind == "sh" {
            printed.clear();
            for command in body.lines() {
                commands += 1;
                if let Some(dir) = command.strip_prefix("cd ") {
                    here = here.join(dir).canonicalize().unwrap();
                    continue;
                }
                let run = Command::new("sh")
                    .args(["-c", command])
                    .current_dir(&here)
                    .env("PATH", &path)
                    .output();
                let output = run.unwrap();
                assert!(output.status.success(), "{command}: {}", said(&output));
                printed.push_str(&text(&output.stdout));
                if let Some(name) = command.strip_prefix("weir plugin new ") {
                    share_target(&here.join(name));
                }
            }
        } else if let Some((_, file)) = kind.split_once(' ') {
            let file = here.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, body).unwrap();
        } else if kind == "text" {
            for line in body.lines().map(steady).filter(|line| !line.is_empty()) {
                let there = printed.lines().any(|found| steady(found) == line);
                assert!(there, "the guide shows `{line}`, printed was\n{printed}");
            }
        }
    }
    assert!(commands > 12, "{commands} commands");
}

/// A line without what differs from run to run: times, seeds, costs, blanks.
fn steady(line: &str) -> String {
    let line = line.split("seed ").next().unwrap_or(line);
    let words = line.split_whitespace();
    let words = match line.contains(" ms") || line.contains("  ok") {
        false => words.collect::<Vec<_>>(),
        true => words
            .take_while(|w| !w.starts_with(|c: char| c.is_ascii_digit()))
            .collect(),
    };
    words.join(" ")
}

#[test]
fn shipped_plugins_pass_their_own_samples() {
    let plugins = std::fs::read_dir(root().join("plugins")).unwrap();
    let mut tested = 0;
    for plugin in plugins.map(|entry| entry.unwrap().path()) {
        let samples = plugin.join("samples");
        if !samples.is_dir() {
            continue;
        }
        tested += 1;
        let name = plugin.file_name().unwrap().to_str().unwrap();
        let wasm = plugins_dir().join(format!("{name}.wasm"));
        let (wasm, samples) = (wasm.display().to_string(), samples.display().to_string());
        done(
            &root(),
            &[
                "plugin",
                "test",
                &wasm,
                "--samples",
                &samples,
                "--seed",
                "7",
            ],
        );
    }
    assert!(tested > 2, "{tested} plugins have samples");
    let plugins = plugins_dir().display().to_string();
    let samples = root()
        .join("plugins/validate/samples")
        .display()
        .to_string();
    let gate = ["--samples", &samples, "--max-fuel-per-row", "10"];
    let args = [
        &["plugin", "test", "validate", "--plugin-path", &plugins],
        &gate[..],
    ]
    .concat();
    let output = weir(&root(), &args);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("more than --max-fuel-per-row 10"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_plugin_that_keeps_or_breaks_something_fails_with_the_row() {
    let dir = folder("faulty");
    done(&dir, &["plugin", "new", "faulty"]);
    let dir = dir.join("faulty");
    share_target(&dir);
    let lib = std::fs::read_to_string(dir.join("src/lib.rs")).unwrap();
    let with = |from: &str, to: &str| {
        assert!(lib.contains(from), "{from}");
        std::fs::write(dir.join("src/lib.rs"), lib.replace(from, to)).unwrap();
        let output = weir(&dir, &["plugin", "test", "--seed", "1"]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        text(&output.stdout)
    };
    let told = with("quantity: Some(quantity),", "quantity: Some(quantity + 1),");
    assert!(told.contains("FAILED  golden samples"), "{told}");
    assert!(
        told.contains("first/expected.jsonl:1: row 0: quantity: expected 3, found 4"),
        "{told}"
    );
    let told = with(
        "item: Some(item.trim().to_owned()),",
        "item: Some(format!(\"{}{}\", item.trim(), { use std::sync::atomic::*; static N: AtomicU8 = AtomicU8::new(0); N.fetch_add(1, Ordering::Relaxed) / 8 })),",
    );
    assert!(
        told.contains("FAILED  same rows however batches fall"),
        "{told}"
    );
    let told = with(
        "let Ok(text) = str::from_utf8(bytes) else {",
        "let Ok(text) = str::from_utf8(&bytes[..3.min(bytes.len()).max(1)]).map(|_| str::from_utf8(bytes).unwrap()) else {",
    );
    assert!(told.contains("FAILED  hostile input"), "{told}");
    assert!(
        told.contains("plugin_trapped") && told.contains("--seed 1 makes it again"),
        "{told}"
    );
}

#[test]
fn maps_of_books_on_a_topic_run_without_a_refusal_for_a_type() {
    let broker = MockBroker::start().unwrap();
    broker.create_topic("books", 2).unwrap();
    let props = KafkaProps::new(broker.bootstrap(), "test", &BTreeMap::new()).unwrap();
    let options = ProduceOptions {
        topic: "books".to_owned(),
        count: Some(200),
        rate: 0.0,
        seed: 3,
        dirty: Dirty::NONE,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let clock = SystemClock::shared();
    sample::produce(&props, &options, &clock, &stop, &mut |_| {}).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let bootstrap = ["--bootstrap.servers", broker.bootstrap(), "--limit", "150"];
    let args = [&["plugin", "infer", "books"], &bootstrap[..]].concat();
    let map = done(dir.path(), &args);
    for wanted in [
        "row-tag = \"book\"",
        "\"author/name\",",
        "\"lang=@lang\",",
        "types.publication_year = \"int\"",
        "types.published = \"date\"",
    ] {
        assert!(map.contains(wanted), "{wanted}\n{map}");
    }
    std::fs::write(dir.path().join("map.toml"), &map).unwrap();
    let plugins = plugins_dir().display().to_string();
    let with = [
        "--plugin",
        "xml-flatten",
        "--plugin-path",
        &plugins,
        "--config",
        "map.toml",
        "--json",
    ];
    let args = [&["plugin", "run", "books"], &bootstrap[..], &with].concat();
    let lines = done(dir.path(), &args);
    let lines: Vec<Value> = lines
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let rows = lines
        .iter()
        .filter(|line| line.get("out").is_some())
        .count();
    assert!(rows >= 150, "{rows} rows");
    assert!(
        lines.iter().all(|line| line.get("refused").is_none()),
        "{lines:?}"
    );
}

#[test]
fn a_pipelines_whole_chain_runs_on_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("books.xml");
    let book = |id: u32, year: &str| {
        format!(
            "<book lang=\"EN\"><record_id>6f1ed002-ab5a-4d6f-8a1b-0123456789{id:02}</record_id><title> T </title><author><name>A</name></author><publication_year>{year}</publication_year></book>"
        )
    };
    let message = format!(
        "<l>{}{}{}</l>",
        book(1, "2001"),
        book(2, "1700"),
        book(3, "MM")
    );
    std::fs::write(&file, message).unwrap();
    let (file, plugins) = (
        file.display().to_string(),
        plugins_dir().display().to_string(),
    );
    let config = std::fs::read_to_string(root().join("conf/books-raw.toml")).unwrap();
    let path = dir.path().join("pipeline.toml");
    std::fs::write(&path, format!("plugin.path = {plugins:?}\n{config}")).unwrap();
    let path = path.display().to_string();
    let args = ["plugin", "run", &file, "--transforms", &path, "--verbose"];
    let shown = done(&root(), &args);
    for wanted in [
        "after flatten:",
        "after rules:",
        "1 message → 2 rows, 1 refusal",
        "1 message → 1 row, 2 refusals",
        "below_min",
        "bad_int",
    ] {
        assert!(shown.contains(wanted), "{wanted}\n{shown}");
    }
}

#[test]
fn what_cannot_be_tried_is_told_with_its_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = |args: &[&str], wanted: &str| {
        let output = weir(dir.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", said(&output));
        assert!(
            said(&output).contains(wanted),
            "{args:?}: {}",
            said(&output)
        );
    };
    wrong(
        &["plugin", "new", "Bad_Name"],
        "small letters, digits and -",
    );
    wrong(&["plugin", "build"], "weir plugin new NAME");
    wrong(
        &["plugin", "run", "nothing.txt", "--plugin", "."],
        "weir plugin new NAME",
    );
    std::fs::create_dir(dir.path().join("taken")).unwrap();
    wrong(&["plugin", "new", "taken"], "is there already");
    let plugins = plugins_dir().display().to_string();
    let with = ["--plugin", "validate", "--plugin-path", &plugins];
    wrong(
        &[&["plugin", "run", "nothing.txt"], &with[..]].concat(),
        "--bootstrap.servers",
    );
    std::fs::write(dir.path().join("rows.jsonl"), "{\"a\":1}\n{\"a\":[\n").unwrap();
    let rows = [
        "plugin",
        "run",
        "rows.jsonl",
        "--rows",
        "-c",
        "rules=rules.toml",
    ];
    wrong(&[&rows[..], &with].concat(), "rows.jsonl:2: no JSON object");
    std::fs::write(dir.path().join("text.txt"), "apples, 3\n").unwrap();
    wrong(&["plugin", "infer", "text.txt"], "--as xml or --as json");
}
