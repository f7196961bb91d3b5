//! `weir check` through the real binary: broken configs and their messages, and the documentation made from the keys.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Something that must never be printed.
const SECRET: &str = "hunter2";

pub fn root() -> PathBuf {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    host.parent().expect("the workspace").to_owned()
}

fn weir(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(args)
        .current_dir(root())
        .env("WEIR_TEST_SECRET", SECRET)
        .env_remove("KAFKA_BOOTSTRAP_SERVERS")
        .output()
        .expect("weir runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("utf-8")
}

/// Compares with a file; `UPDATE=1` writes it.
pub fn snapshot(path: &Path, got: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, got).expect("snapshot is written");
        return;
    }
    let want = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        got,
        want,
        "{} differs; if this is right: UPDATE=1 cargo test",
        path.display()
    );
}

/// What `weir check` says of `files` below tests/configs/broken, in `<name>.expected`.
fn broken(name: &str, files: &[&str]) {
    let paths: Vec<String> = files
        .iter()
        .map(|file| format!("tests/configs/broken/{file}"))
        .collect();
    let mut args = vec!["check", "--no-plugins"];
    args.extend(paths.iter().map(String::as_str));
    let output = weir(&args);
    assert_eq!(output.status.code(), Some(2), "{name}");
    let said = text(&output.stderr);
    assert!(!said.contains(SECRET), "{name} prints a secret");
    let path = root().join(format!("tests/configs/broken/{name}.expected"));
    snapshot(&path, &said);
}

#[test]
fn broken_configs_say_all_that_is_wrong() {
    for (name, file) in [
        ("typos", "typos.toml"),
        ("missing", "missing.toml"),
        ("units", "units.toml"),
        ("schedule", "schedule.toml"),
        ("owned", "owned.toml"),
        ("transforms", "transforms.toml"),
        ("lists", "transforms.properties"),
        ("names", "names.toml"),
        ("zone", "zone.toml"),
        ("references", "references.toml"),
        ("syntax", "syntax.toml"),
        ("connect", "connect.json"),
        ("absent", "absent.toml"),
    ] {
        broken(name, &[file]);
    }
    let three = [
        "together-one.toml",
        "together-two.toml",
        "together-three.toml",
    ];
    broken("together", &three);
}

#[test]
fn the_configs_we_ship_are_fine() {
    let shipped = ["conf/books-raw.toml", "conf/books-processed.toml"];
    let secure = [
        &["check", "--no-plugins", "--profile", "secure"][..],
        &shipped,
    ]
    .concat();
    assert_eq!(weir(&secure).status.code(), Some(0));
    for file in std::fs::read_dir(root().join("conf")).expect("conf") {
        let path = file.expect("entry").path();
        // The daemon's own are no pipelines; tests of the daemon and of the image read them.
        let pipeline = !path.ends_with("worker.toml") && !path.ends_with("container.toml");
        if pipeline && path.extension().is_some_and(|e| e == "toml") {
            let output = weir(&["check", "--no-plugins", path.to_str().expect("utf-8")]);
            let said = text(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{said}");
        }
    }
}

#[test]
fn the_json_of_check_has_every_field() {
    let output = weir(&[
        "check",
        "--json",
        "--no-plugins",
        "tests/configs/broken/typos.toml",
    ]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(json["ok"], false);
    let first = &json["problems"][0];
    for field in [
        "severity", "code", "file", "line", "column", "key", "message", "hint",
    ] {
        assert!(!first[field].is_null(), "{field}");
    }
}

#[test]
fn overrides_reach_the_pipelines_they_concern() {
    let mut args = vec![
        "config",
        "show",
        "conf/books-raw.toml",
        "conf/books-processed.toml",
    ];
    args.extend([
        "--set",
        "sink.rotate.age=5s",
        "--set",
        "books-processed:sink.table=b",
    ]);
    let said = text(&weir(&args).stdout);
    assert_eq!(said.matches("sink.rotate.age=5s").count(), 1, "{said}");
    assert_eq!(said.matches("sink.table=b\n").count(), 1, "{said}");
    assert_eq!(said.matches("connector.class=weir").count(), 2, "{said}");
    args.extend(["--set", "nobody:name=x"]);
    assert_eq!(weir(&args).status.code(), Some(2));
}

#[test]
fn references_are_shown_as_references() {
    let args = [
        "config",
        "show",
        "--resolved",
        "tests/configs/broken/references.toml",
    ];
    let output = weir(&args);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(said.contains("${env:WEIR_TEST_SECRET}") && !said.contains(SECRET));
}

#[test]
fn usage_errors_are_2_and_help_is_0() {
    for (args, code) in [
        (&["--help"][..], 0),
        (&["run", "--help"], 0),
        (&["--version"], 0),
        (&["check"], 2),
        (&["frobnicate"], 2),
        (&["explain", "no_such_code"], 2),
        (&["explain", "contradiction"], 0),
        (&["check", "--schema"], 0),
        (&["log", "file:no/such/zone"], 2),
    ] {
        assert_eq!(weir(args).status.code(), Some(code), "{args:?}");
    }
    assert!(text(&weir(&["--help"]).stdout).contains("Exit codes:"));
}

/// Bash itself completes with them; other shells get theirs.
#[test]
fn shells_complete_commands() {
    let completed = |words: &str, last: &str| {
        let script = "source /dev/stdin; COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); \
                      _weir weir \"$2\" weir; echo \"${COMPREPLY[*]}\"";
        let mut bash = std::process::Command::new("bash")
            .args(["-c", script, "bash", words, last])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("bash");
        let mut input = bash.stdin.take().expect("stdin");
        std::io::Write::write_all(&mut input, &weir(&["completions", "bash"]).stdout)
            .expect("completions");
        drop(input);
        text(&bash.wait_with_output().expect("bash").stdout)
            .trim()
            .to_owned()
    };
    assert_eq!(completed("weir st", "st"), "status");
    assert_eq!(completed("weir pipeline roll", "roll"), "rollback");
    assert_eq!(completed("weir check --sche", "--sche"), "--schema");
    for (shell, sign) in [("zsh", "#compdef weir"), ("fish", "complete -c weir")] {
        let told = text(&weir(&["completions", shell]).stdout);
        assert!(told.contains(sign) && told.contains("rollback"), "{told}");
    }
    assert_eq!(weir(&["completions", "cmd"]).status.code(), Some(2));
}

#[test]
fn every_command_has_a_page_for_man() {
    let dir = tempfile::tempdir().expect("directory");
    let at = dir.path().to_str().expect("UTF-8");
    assert_eq!(weir(&["man", at]).status.code(), Some(0));
    for (page, words) in [
        ("weir.1", "Exit codes"),
        ("weir-run.1", "available\\-now"),
        ("weir-zone-compact.1", "dry\\-run"),
    ] {
        let page = std::fs::read_to_string(dir.path().join(page)).expect(page);
        assert!(page.contains(".TH ") && page.contains(words), "{page}");
    }
    let deep = std::fs::read_to_string(dir.path().join("weir-zone-ls.1")).expect("a page");
    assert!(deep.contains("\"weir 0."), "{deep}");
    assert!(text(&weir(&["man"]).stdout).contains("weir\\-pipeline(1)"));
    let none = weir(&["man", "/no/such/place"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(text(&none.stderr).contains("/no/such/place"), "{none:?}");
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure() {
    let Ok(full) = std::fs::File::options().write(true).open("/dev/full") else {
        return;
    };
    for args in [
        &["version", "--json"][..],
        &["completions", "bash"],
        &["explain", "bad_int"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(args)
            .stdout(full.try_clone().expect("a file"))
            .output()
            .expect("weir runs");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(
            said.contains("the answer cannot be written: No space"),
            "{said}"
        );
    }
}

#[test]
fn versions_are_those_of_contract_and_log() {
    let told = text(&weir(&["version", "--json"]).stdout);
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let wit = std::fs::read_to_string(root().join("wit/weir.wit")).expect("wit");
    let contract = told["contract"].as_str().expect("contract");
    assert!(wit.contains(&format!("package {contract};")), "{contract}");
    assert_eq!(told["log_format"], weir::commit::entry::FORMAT);
    let plugins = told["plugins"].as_array().expect("plugins");
    assert!(
        plugins
            .iter()
            .any(|p| p["name"] == "xml-flatten" && p["version"].is_string())
    );
    let lines = text(&weir(&["version"]).stdout);
    assert!(
        lines.starts_with("weir ") && lines.contains(contract),
        "{lines}"
    );
    assert_eq!(
        text(&weir(&["--version"]).stdout).lines().next(),
        lines.lines().next()
    );
}

#[test]
fn the_page_of_keys_is_up_to_date() {
    let path = root().join("docs/config.md");
    let page = std::fs::read_to_string(&path).expect("docs/config.md");
    let fresh = weir::config::reference::refresh(&page, &weir::connectors::CATALOG)
        .expect("the marks of the generated part");
    snapshot(&path, &fresh);
}

#[test]
fn the_page_of_kafka_properties_is_up_to_date() {
    let path = root().join("docs/kafka-properties.md");
    let page = std::fs::read_to_string(&path).expect("docs/kafka-properties.md");
    let (head, rest) = page
        .split_once("<!-- properties: begin")
        .expect("the first mark");
    let (mark, rest) = rest.split_once('\n').expect("a line");
    let (_, tail) = rest
        .split_once("<!-- properties: end")
        .expect("the last mark");
    let tables = weir::config::librdkafka::markdown();
    let fresh = format!("{head}<!-- properties: begin{mark}\n{tables}\n<!-- properties: end{tail}");
    snapshot(&path, &fresh);
}
