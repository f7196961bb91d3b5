//! The guide "Change a rule on Friday afternoon" is followed word for word, by a shell, in a directory of its own.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::check::root;
use crate::world::open_log;

/// Everything between ```sh and ```, in order.
pub fn commands(page: &str) -> String {
    let mut script = String::new();
    let mut inside = false;
    for line in page.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => script.push_str(&format!("{line}\n")),
            _ => {}
        }
    }
    script
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

pub fn shell(dir: &Path, script: &str) -> Output {
    let weir = Path::new(env!("CARGO_BIN_EXE_weir")).parent().unwrap();
    let path = format!("{}:{}", weir.display(), std::env::var("PATH").unwrap());
    Command::new("bash")
        .args(["-e", "-u", "-o", "pipefail", "-c", script])
        .env("PATH", path)
        .current_dir(dir)
        .output()
        .unwrap()
}

/// The zone that reads RAW was made anew by its other rule: each row of RAW is there, refused, or a duplicate.
fn checked(dir: &Path) {
    let log = open_log(
        &dir.join("data/checked_zone"),
        "books-checked",
        "checked_zone",
    );
    let log = log.unwrap().unwrap();
    let raw = open_log(&dir.join("data/raw_zone"), "books-raw", "raw_zone");
    let raw = raw.unwrap().unwrap();
    let (totals, read) = (log.state().totals(), raw.state().totals());
    assert_eq!(totals.rows.made, read.rows.written);
    assert!(
        totals.rows.refused > 500 && totals.rows.written > 1_000,
        "{totals:?}"
    );
    assert_eq!(totals.rows.refused, totals.dead_letters);
    assert_eq!(log.state().periods.len(), 2);
}

#[test]
fn a_rule_is_changed_on_friday_afternoon() {
    let dir = tempfile::tempdir().unwrap();
    copy(&root().join("conf"), &dir.path().join("conf"));
    let page = fs::read_to_string(root().join("docs/change-a-rule.md")).unwrap();
    let script = commands(&page);
    assert!(script.lines().count() > 15, "{script}");
    let ran = shell(
        dir.path(),
        &format!("trap 'kill ${{WEIR_BROKER_PID:-}} %1 2>/dev/null || true' ERR\n{script}"),
    );
    let told = format!(
        "{}\n{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
    assert!(ran.status.success(), "{told}");
    assert!(told.contains("refused, as it should be"), "{told}");

    checked(dir.path());
    let told = shell(dir.path(), "weir pipeline history books-raw --json");
    let periods: Vec<Value> = String::from_utf8(told.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let why: Vec<&str> = periods
        .iter()
        .map(|e| e["reason"].as_str().unwrap())
        .collect();
    let wanted = [
        "",
        "the archive delivers books since 1990",
        "not before Monday",
        "Monday",
    ];
    assert_eq!(why, wanted, "{periods:#?}");
    let config = |n: usize| periods[n]["transforms"][1]["config"].clone();
    assert_eq!(config(0), config(2), "the rollback went back");
    assert_eq!(config(1), config(3), "Monday is Friday's rule");
    assert_ne!(config(0), config(1));
    assert!(
        periods.iter().all(|e| e["blocked"] == false),
        "forced: no longer blocked"
    );

    // 1999 was refused before the swap and after the rollback, and let through between them.
    let told = shell(
        dir.path(),
        "weir dlq show books-raw --code below_min -n 0 --json",
    );
    let letters = String::from_utf8(told.stdout).unwrap();
    let between = |topic_partition: u64, offset: i64| {
        periods[1]["ranges"]
            .as_array()
            .unwrap()
            .iter()
            .any(|range| {
                range["partition"] == topic_partition
                    && (range["from"].as_i64().unwrap()..range["to"].as_i64().unwrap())
                        .contains(&offset)
            })
    };
    let mut of_1999 = 0;
    for line in letters.lines() {
        let letter: Value = serde_json::from_str(line).unwrap();
        if !line.contains("1999") {
            continue;
        }
        of_1999 += 1;
        let (partition, offset) = (letter["partition"].as_u64(), letter["offset"].as_i64());
        assert!(!between(partition.unwrap(), offset.unwrap()), "{line}");
    }
    assert!(of_1999 > 0, "the sample has books of 1999: {letters}");
}
