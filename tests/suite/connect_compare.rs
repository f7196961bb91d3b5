//! The Connect script against a real Connect worker and against Weir: every difference is known, explained and still there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::brokers;
use crate::check::root;
use crate::connect_differences::{DIFFERENCES, Difference};
use crate::connect_script::{FILES, Run, Transcript, steps};
use crate::connect_worker::{self, Host};

/// Every leaf of a value with its place; an empty list or map is a leaf.
fn leaves(value: &Value, at: String, out: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                leaves(value, format!("{at}/{key}"), out);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for (i, value) in list.iter().enumerate() {
                leaves(value, format!("{at}/{i}"), out);
            }
        }
        leaf => {
            out.insert(at, leaf.to_string());
        }
    }
}

/// Step, place, what Connect says there, what Weir says there.
pub type Found = (String, String, String, String);

pub fn differences(connect: &Transcript, weir: &Transcript) -> Vec<Found> {
    assert_eq!(connect.len(), weir.len());
    let mut found = Vec::new();
    for ((name, theirs), (_, ours)) in connect.iter().zip(weir) {
        let (mut left, mut right) = (BTreeMap::new(), BTreeMap::new());
        leaves(theirs, String::new(), &mut left);
        leaves(ours, String::new(), &mut right);
        let places: std::collections::BTreeSet<&String> = left.keys().chain(right.keys()).collect();
        for place in places {
            let said = |side: &BTreeMap<String, String>| {
                side.get(place).cloned().unwrap_or_else(|| "-".to_owned())
            };
            let (theirs, ours) = (said(&left), said(&right));
            if theirs != ours {
                found.push((name.clone(), place.clone(), theirs, ours));
            }
        }
    }
    found
}

/// `*` stands for anything, several choices are separated by blanks.
pub fn fits(pattern: &str, text: &str) -> bool {
    pattern.split(' ').any(|choice| one_fits(choice, text))
}

fn one_fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(found) = last.replace(part) {
            match rest.find(found) {
                Some(at) => rest = rest.get(at + found.len()..).unwrap_or_default(),
                None => return false,
            }
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

fn explains(difference: &Difference, found: &Found) -> bool {
    let (step, place, theirs, ours) = found;
    let said = |pattern: &str, text: &str| pattern == "*" || pattern == text;
    fits(difference.steps, step)
        && fits(difference.place, place)
        && said(difference.connect, theirs)
        && said(difference.weir, ours)
}

/// A directory with what the script needs, kept until the process ends.
fn run(host: &Host, tag: &str) -> Transcript {
    let texts: Vec<String> = FILES.iter().map(|file| script(file)).collect();
    let dir = tempfile::tempdir().expect("directory");
    connect_worker::furnish(tag, dir.path());
    let run = Run {
        addr: host.addr,
        tag,
        dir: dir.path().to_owned(),
        wait: &|time, ask| brokers::within(time, || ask().then_some(())).is_some(),
    };
    let steps = steps(&texts);
    let transcript = run.all(&steps);
    // For people: what each host said, side by side.
    let shown: serde_json::Map<String, Value> = transcript.iter().cloned().collect();
    let file = brokers::servers().join(format!("connect-script-{tag}.json"));
    std::fs::write(
        file,
        serde_json::to_string_pretty(&shown).unwrap_or_default(),
    )
    .expect("transcript");
    transcript
}

fn script(file: &str) -> String {
    let path: PathBuf = root().join("tests/connect").join(format!("{file}.http"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_script_has_named_steps() {
    let texts: Vec<String> = FILES.iter().map(|file| script(file)).collect();
    let steps = steps(&texts);
    let mut names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    assert!(names.len() > 400, "{}", names.len());
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "a name twice");
}

#[test]
fn weir_answers_as_connect_does_but_for_the_differences_listed() {
    let Some(worker) = connect_worker::worker() else {
        return;
    };
    let daemon = connect_worker::daemon().expect("a broker");
    // Both at once: each waits more than it works.
    let (connect, weir) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| run(worker, "scripttheirs"));
        let ours = scope.spawn(|| run(daemon, "scriptatours"));
        let join = |side: std::thread::ScopedJoinHandle<'_, Transcript>| side.join().expect("run");
        (join(theirs), join(ours))
    });
    let vain: Vec<_> = (connect.iter())
        .filter(|(_, answer)| answer.get("in vain").or(answer.get("failed")).is_some())
        .collect();
    assert!(
        vain.is_empty(),
        "a real worker does not come there: {vain:#?}"
    );
    let found = differences(&connect, &weir);
    let explained = |found: &Found| DIFFERENCES.iter().any(|d| explains(d, found));
    let unknown: Vec<String> = (found.iter())
        .filter(|found| !explained(found))
        .map(|(step, place, theirs, ours)| format!("{step} {place}: Connect {theirs}, Weir {ours}"))
        .collect();
    let gone: Vec<&str> = (DIFFERENCES.iter())
        .filter(|d| !found.iter().any(|found| explains(d, found)))
        .map(|d| d.name)
        .collect();
    assert!(
        unknown.is_empty() && gone.is_empty(),
        "{} differences not explained:\n{}\nlisted, but not there any more: {gone:?}",
        unknown.len(),
        unknown.join("\n")
    );
}

#[test]
fn the_page_lists_the_same_differences() {
    let page = std::fs::read_to_string(root().join("docs/connect-differences.md")).expect("page");
    let listed: Vec<&str> = (page.lines())
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    let known: Vec<&str> = DIFFERENCES.iter().map(|d| d.name).collect();
    assert_eq!(
        listed, known,
        "docs/connect-differences.md and the table disagree"
    );
    for difference in DIFFERENCES {
        let section = page.split("\n### ").find(|part| {
            part.strip_prefix(difference.name)
                .is_some_and(|rest| rest.starts_with('\n'))
        });
        let section: Vec<&str> = section.unwrap_or_default().split_whitespace().collect();
        let why: Vec<&str> = difference.why.split_whitespace().collect();
        let whole = section.windows(why.len()).any(|window| window == why);
        assert!(
            whole,
            "the page does not give the reason of {}",
            difference.name
        );
    }
}

#[test]
fn patterns_fit() {
    assert!(fits("a/*", "a/b") && fits("x a/b", "a/b") && fits("*/c", "a/b/c"));
    assert!(fits("a/*/c", "a/b/c") && fits("*b*", "abc") && fits("*", ""));
    assert!(!fits("a/*/d", "a/b/c") && !fits("a", "ab") && !fits("a*c", "ab"));
}
