//! `sink.type = "console"`: what a person sees on stdout, and what the log has of it.

use std::fs;
use std::process::{Command, Output, Stdio};

use weir::commit::{LogName, verify};
use weir::config::Location;
use weir::store;

use crate::world::{open_log, plugins_dir};

struct Case(tempfile::TempDir);

impl Case {
    /// Rows 0 to 24, in two partitions.
    fn new(rest: &str) -> Case {
        let case = Case(tempfile::tempdir().unwrap());
        case.declare(rest);
        case
    }

    fn declare(&self, rest: &str) {
        let plugins = plugins_dir();
        let plugins = plugins.display();
        let config = format!(
            "name = \"see\"\nplugin.path = \"{plugins}\"\nplugin.store = \"store\"\n\
             plugin.cache = \"{plugins}/../plugins-test/cache\"\nsource.type = \"rate\"\nsource.rows.total = 25\n\
             source.rows.per.second = 1000000\nsource.partitions = 2\nsink.type = \"console\"\nsink.url = \"file:home\"\n{rest}\n\
             [[transforms]]\nname = \"parse\"\ntype = \"json-flatten\"\ncolumns = [\"value\", \"timestamp\"]\ntypes.value = \"long\"\n"
        );
        fs::write(self.0.path().join("see.toml"), config).unwrap();
    }

    fn run(&self) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.current_dir(self.0.path()).stdin(Stdio::null());
        command.args(["run", "see.toml", "--available-now", "--progress", "none"]);
        command.output().unwrap()
    }
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn rows_are_printed_as_tables_and_a_second_run_prints_nothing() {
    let case = Case::new("");
    let shown = text(&case.run());
    assert!(shown.contains("|value|           timestamp|\n"), "{shown}");
    assert!(shown.contains("|    1|2026-01-01T00:00:...|\n"), "{shown}");
    assert!(
        shown.contains("only showing top 20 rows; 5 more"),
        "{shown}"
    );
    assert_eq!(text(&case.run()), "");
    let log = open_log(&case.0.path().join("home"), "see", "home")
        .unwrap()
        .unwrap();
    assert_eq!(log.state().totals().rows.written, 25);
    assert!(
        !case.0.path().join("home/rate").exists(),
        "rows are in no file"
    );
    let store = store::open(&Location::of(&format!(
        "file:{}",
        case.0.path().join("home").display()
    )))
    .unwrap();
    let verified = verify(store.as_ref(), &LogName::new("see", "home"))
        .unwrap()
        .unwrap();
    assert!(verified.problems.is_empty(), "{:?}", verified.problems);
}

#[test]
fn all_rows_are_printed_as_lines_of_json() {
    let case = Case::new("sink.console.format = \"json\"\nsink.console.rows = 0");
    let shown = text(&case.run());
    let mut values: Vec<i64> = shown
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|row| row["value"].as_i64().unwrap())
        .collect();
    values.sort_unstable();
    assert_eq!(values, (0..25).collect::<Vec<_>>());
    case.declare(
        "sink.console.format = \"json\"\nsink.console.truncate = 5\nsink.rotate.age = \"5s\"",
    );
    let refused = case.run();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        said.contains("sink.console.truncate") && said.contains("sink.rotate.age"),
        "{said}"
    );
}
