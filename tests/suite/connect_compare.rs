//! The Connect script against a real Connect worker and against Weir: every difference is known, explained and still there.

use std::path::PathBuf;

use serde_json::Value;

use crate::brokers;
use crate::check::root;
use crate::connect_diff::{Found, differences, explains};
use crate::connect_differences::DIFFERENCES;
use crate::connect_script::{FILES, Run, Transcript, steps};
use crate::connect_worker::{self, Host};

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
    let Some([worker, daemon]) = connect_worker::both("script") else {
        return;
    };
    // Both at once: each waits more than it works.
    let (connect, weir) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| run(&worker, "scripttheirs"));
        let ours = scope.spawn(|| run(&daemon, "scriptatours"));
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
    let rows = || {
        DIFFERENCES
            .iter()
            .flat_map(|d| d.rows.iter().map(move |row| (d.name, row)))
    };
    let explained = |found: &Found| rows().any(|(_, row)| explains(row, found));
    let unknown: Vec<String> = (found.iter())
        .filter(|found| !explained(found))
        .map(|(step, place, theirs, ours)| format!("{step} {place}: Connect {theirs}, Weir {ours}"))
        .collect();
    let gone: Vec<_> = rows()
        .filter(|(_, row)| !found.iter().any(|found| explains(row, found)))
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
    let path = root().join("docs/connect-differences.md");
    let page = std::fs::read_to_string(&path).expect("page");
    let (above, _) = page.split_once("\n### ").expect("sections");
    let wanted: Vec<String> = DIFFERENCES.iter().map(|d| d.section()).collect();
    let wanted = format!("{above}\n{}", wanted.join("\n"));
    if page != wanted && std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &wanted).expect("page");
        return;
    }
    assert!(
        page == wanted,
        "UPDATE=1 cargo test writes {}",
        path.display()
    );
}

#[test]
fn what_the_server_declares_as_different_is_explained() {
    for declared in weir::http::differences::DIFFERENCES {
        let known = DIFFERENCES.iter().any(|d| d.name == declared.code);
        assert!(known, "{} is not on the page", declared.code);
    }
}
