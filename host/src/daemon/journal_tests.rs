//! The journal: what survives a cut at any byte, what is kept of a history, and that rewriting the file loses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use rand::{Rng, SeedableRng as _};

use super::journal::{AllRecorded, Change, HEAD, Journal, NEW, Recorded, What, digest, fold};
use super::retention::Bounds;
use super::{Origin, Target};
use crate::error::Kind;

/// Small enough for a test to reach each of them.
const SMALL: Bounds = Bounds {
    changes: 6,
    bytes: 1500,
    deleted: 2,
    deleted_bytes: 2000,
    dead: 500,
};

fn change(name: &str, what: What) -> Change {
    Change {
        name: name.to_owned(),
        time: 1,
        by: "a@b".to_owned(),
        what,
    }
}

fn config(text: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("k".to_owned(), text.to_owned())])
}

fn created(name: &str) -> Change {
    let what = What::Created {
        config: config("line\nbreak ünï"),
        target: Target::Running,
        origin: Origin::Operator,
    };
    change(name, what)
}

fn put(name: &str, text: &str) -> Change {
    let config = config(text);
    change(name, What::Config { config })
}

fn paused(name: &str) -> Change {
    let target = Target::Paused;
    let why = String::new();
    change(name, What::Target { target, why })
}

fn open(dir: &Path) -> (Journal, AllRecorded) {
    Journal::open(dir, "here:1").expect("open")
}

fn open_small(dir: &Path) -> (Journal, AllRecorded) {
    let (mut journal, stands) = Journal::open_within(dir, "here:1", SMALL).expect("open");
    journal.settle(BTreeSet::from(["of-a-file".to_owned()]));
    (journal, stands)
}

/// None of a name that nobody knows.
fn history(journal: &Journal, name: &str) -> Vec<Change> {
    let page = journal.page(name, 0, usize::MAX, u64::MAX);
    page.map_or(Vec::new(), |page| page.changes().expect("changes"))
}

fn of(all: &[Change], name: &str) -> Vec<Change> {
    all.iter().filter(|c| c.name == name).cloned().collect()
}

fn standing(all: &[Change]) -> BTreeMap<String, Recorded> {
    let mut stands = AllRecorded::new();
    all.iter().for_each(|one| fold(&mut stands, one.clone()));
    stands
}

fn written(dir: &Path) -> Vec<Change> {
    let all = vec![
        created("p"),
        created("q"),
        paused("p"),
        change("q", What::Deleted),
    ];
    let (mut journal, before) = open(dir);
    assert_eq!(before, AllRecorded::new());
    for one in &all {
        journal.append(one).expect("append");
    }
    all
}

/// A kill or a power cut at any byte leaves the changes before it, and the journal goes on.
#[test]
fn cut_at_every_byte_all_whole_changes_are_there() {
    let dir = tempfile::tempdir().expect("tempdir");
    let all = written(dir.path());
    let path = dir.path().join("journal");
    let bytes = fs::read(&path).expect("journal");
    let ends: Vec<usize> = (bytes.iter().enumerate())
        .filter(|(_, b)| **b == b'\n')
        .map(|(at, _)| at + 1)
        .collect();
    for cut in 0..=bytes.len() {
        fs::write(&path, &bytes[..cut]).expect("write");
        let (mut journal, found) = open(dir.path());
        let whole = ends.iter().skip(1).filter(|end| **end <= cut).count();
        let mut left = all[..whole].to_vec();
        assert_eq!(found, standing(&left), "{cut}");
        left.push(created("later"));
        journal.append(&created("later")).expect("append");
        drop(journal);
        let (journal, found) = open(dir.path());
        assert_eq!(found, standing(&left), "{cut}");
        for name in ["p", "q", "later"] {
            assert_eq!(history(&journal, name), of(&left, name), "{cut}");
        }
    }
}

#[test]
fn a_flipped_bit_before_the_end_stops_the_daemon() {
    let dir = tempfile::tempdir().expect("tempdir");
    written(dir.path());
    let path = dir.path().join("journal");
    let mut bytes = fs::read(&path).expect("journal");
    let second = HEAD.len() + 40;
    bytes[second] ^= 1;
    fs::write(&path, &bytes).expect("write");
    let error = Journal::open(dir.path(), "here:1").expect_err("corrupt");
    assert_eq!(error.kind(), Kind::LogCorrupt);
    assert!(error.to_string().contains("line 2"), "{error}");
    assert_eq!(fs::read(&path).expect("journal"), bytes);
}

#[test]
fn an_acknowledged_change_of_a_later_version_is_not_cut_off() {
    let dir = tempfile::tempdir().expect("tempdir");
    written(dir.path());
    let path = dir.path().join("journal");
    let mut bytes = fs::read(&path).expect("journal");
    let json = br#"{"name":"p","time":1,"by":"x","what":{"canary":1}}"#;
    bytes.extend_from_slice(format!("{} ", digest(json)).as_bytes());
    bytes.extend_from_slice(json);
    bytes.push(b'\n');
    fs::write(&path, &bytes).expect("write");
    let error = Journal::open(dir.path(), "here:1").expect_err("later");
    assert!(error.to_string().contains("later version"), "{error}");
    assert_eq!(fs::read(&path).expect("journal"), bytes);
}

#[test]
fn what_stands_is_the_sum_of_the_changes() {
    let dir = tempfile::tempdir().expect("tempdir");
    let all = written(dir.path());
    let stands = standing(&all);
    assert_eq!(stands.keys().collect::<Vec<_>>(), ["p"]);
    assert_eq!(stands["p"].target, Target::Paused);
    assert_eq!(stands["p"].origin, Origin::Operator);
    // A change by REST makes it a config of REST; if it is taken back, the origin before it is valid again.
    let config = stands["p"].config.clone();
    let back = What::TakenBack {
        config: config.clone(),
        why: "no".to_owned(),
        origin: Origin::Operator,
    };
    let changed = [all.clone(), vec![change("p", What::Config { config })]].concat();
    assert_eq!(standing(&changed)["p"].origin, Origin::Rest);
    let taken = [changed, vec![change("p", back)]].concat();
    assert_eq!(standing(&taken)["p"].origin, Origin::Operator);
    let (journal, _) = open(dir.path());
    assert_eq!(
        history(&journal, "q"),
        [all[1].clone(), all[3].clone()],
        "of a deleted one too"
    );
}

#[test]
fn a_second_daemon_hears_who_has_the_directory_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (mut first, _) = open(dir.path());
    first.append(&created("p")).expect("append");
    // It may be rewriting the file.
    fs::write(dir.path().join(NEW), HEAD).expect("write");
    let before = fs::read(dir.path().join("journal")).expect("journal");
    let error = Journal::open(dir.path(), "there:2").expect_err("held");
    let who = format!("pid {} at here:1", std::process::id());
    assert!(error.to_string().contains(&who), "{error}");
    assert_eq!(
        fs::read(dir.path().join("journal")).expect("journal"),
        before
    );
    assert!(dir.path().join(NEW).exists());
    first.append(&created("q")).expect("append");
    drop(first);
    let (_, found) = Journal::open(dir.path(), "there:2").expect("open");
    assert_eq!(found.len(), 2);
}

/// Any changes in any order: the state is right before and after each start, and the file stays small.
#[test]
fn written_anew_again_and_again_it_stands_for_every_change() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("journal");
    let mut random = rand::rngs::SmallRng::seed_from_u64(10);
    let names = ["a", "b", "c", "d", "e", "of-a-file"];
    let (mut all, mut anew, mut most) = (Vec::new(), 0, 0);
    let (mut journal, _) = open_small(dir.path());
    for step in 0..3000 {
        let name = names[random.random_range(0..names.len())];
        let there = standing(&of(&all, name)).contains_key(name);
        let text = "x".repeat(random.random_range(0..600));
        let one = match random.random_range(0..8) {
            _ if !there => created(name),
            0 => change(name, What::Deleted),
            1 => paused(name),
            2 => change(name, What::Restarted),
            3 => {
                let (config, why) = (config(&text), "no".to_owned());
                let origin = Origin::Operator;
                change(
                    name,
                    What::TakenBack {
                        config,
                        why,
                        origin,
                    },
                )
            }
            _ => put(name, &text),
        };
        let before = fs::metadata(&path).expect("journal").len();
        journal.append(&one).expect("append");
        let after = fs::metadata(&path).expect("journal").len();
        anew += usize::from(after < before);
        most = most.max(after);
        all.push(one.clone());
        assert_eq!(history(&journal, name).last(), Some(&one), "{step}");
        if step % 7 != 0 {
            continue;
        }
        drop(journal);
        let (again, stands) = open_small(dir.path());
        assert_eq!(stands, standing(&all), "{step}");
        for name in &names {
            let found = history(&again, name);
            // In order, and nothing that never was.
            let mut every = all.iter().filter(|one| one.name == *name);
            assert!(found.iter().all(|one| every.any(|e| e == one)));
            let there = stands.contains_key(*name);
            let newest = of(&all, name).pop();
            // Deleted pipelines may be forgotten only as a whole: without its last line one would exist again.
            let may_be_forgotten = !there && *name != "of-a-file";
            if !(may_be_forgotten && found.is_empty()) {
                assert_eq!(found.last(), newest.as_ref(), "{name} {step}");
            }
        }
        journal = again;
    }
    assert!(anew > 50, "{anew}");
    assert!(most < 40_000, "{most}");
}

/// A kill at each step of rewriting: the old or the new file is there as a whole, and the rest of the other is removed.
#[test]
fn killed_while_it_is_written_anew_the_old_or_the_new_one_is_there() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = |file: &str| dir.path().join(file);
    {
        let (mut journal, _) = open(dir.path());
        journal.append(&created("p")).expect("append");
        journal.append(&paused("p")).expect("append");
        for n in 0..20 {
            let text = format!("{n}{}", "x".repeat(200));
            journal.append(&put("p", &text)).expect("append");
        }
    }
    let old = fs::read(path("journal")).expect("journal");
    let (journal, stands) = open_small(dir.path());
    let shown = history(&journal, "p");
    drop(journal);
    let new = fs::read(path("journal")).expect("journal");
    assert!(new.len() < old.len() / 2, "{} {}", new.len(), old.len());
    assert!(shown.len() < 8 && shown[0] == created("p") && shown[1] == paused("p"));

    let mut steps = vec![(new.clone(), None)];
    for part in [0, 1, HEAD.len(), HEAD.len() + 100, new.len() - 1, new.len()] {
        steps.push((old.clone(), Some(new[..part].to_vec())));
    }
    for (step, (journal, beside)) in steps.into_iter().enumerate() {
        fs::write(path("journal"), journal).expect("write");
        if let Some(beside) = beside {
            fs::write(path(NEW), beside).expect("write");
        }
        let (mut journal, found) = open_small(dir.path());
        assert_eq!(found, stands, "{step}");
        assert_eq!(history(&journal, "p"), shown, "{step}");
        assert!(!path(NEW).exists(), "{step}");
        assert_eq!(fs::read(path("journal")).expect("journal"), new, "{step}");
        // It goes on in the new one.
        journal.append(&created("later")).expect("append");
        drop(journal);
        let (journal, found) = open_small(dir.path());
        assert_eq!(found.len(), 2, "{step}");
        assert_eq!(history(&journal, "later"), [created("later")]);
    }
}

/// As on a full disk: the old file stays in use, changes are acknowledged, and rewriting is tried again once there is
/// more to gain.
#[test]
fn what_cannot_be_written_anew_goes_on_as_it_was() {
    let dir = tempfile::tempdir().expect("tempdir");
    let in_the_way = dir.path().join(NEW).join("x");
    fs::create_dir_all(&in_the_way).expect("directory");
    let (mut journal, _) = open_small(dir.path());
    let mut all = vec![created("p")];
    all.extend((0..40).map(|n| put("p", &format!("{n}{}", "x".repeat(200)))));
    for one in &all {
        journal.append(one).expect("append");
    }
    let len = || {
        let journal = fs::metadata(dir.path().join("journal"));
        journal.expect("journal").len()
    };
    assert!(len() > 40 * 200, "{}", len());
    let shown = history(&journal, "p");
    fs::remove_dir_all(dir.path().join(NEW)).expect("out of the way");
    for n in 0..4 {
        let one = put("p", &format!("later {n}{}", "x".repeat(200)));
        journal.append(&one).expect("append");
        all.push(one);
    }
    assert!(len() < 4000, "{}", len());
    assert_eq!(history(&journal, "p").len(), shown.len());
    drop(journal);
    let (_, stands) = open_small(dir.path());
    assert_eq!(stands, standing(&all));
}

/// A page has at most so many changes and bytes, at least one, and says where the next begins.
#[test]
fn pages_are_bounded_and_come_to_all_that_is_kept() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (mut journal, _) = open(dir.path());
    let mut all = vec![created("p")];
    all.extend((0..30).map(|n| put("p", &format!("{n}{}", "x".repeat(1000)))));
    for one in &all {
        journal.append(one).expect("append");
    }
    for (most, bytes, each) in [(7, u64::MAX, 7), (1000, 5500, 5), (1000, 1, 1)] {
        let (mut found, mut skip) = (Vec::new(), Some(0));
        while let Some(at) = skip {
            let page = journal.page("p", at, most, bytes).expect("page");
            let changes = page.changes().expect("changes");
            assert!(changes.len() <= each && !changes.is_empty());
            assert!(changes.len() == each || page.next.is_none());
            found.splice(0..0, changes);
            skip = page.next;
        }
        assert_eq!(found, all, "{most} {bytes}");
    }
    let beyond = journal.page("p", 100, 10, 1000).expect("page");
    assert!(beyond.changes().expect("changes").is_empty() && beyond.next.is_none());
    assert!(journal.page("q", 0, 10, 1000).is_none());
}

/// If pipelines are created and deleted under ever new names, nothing grows; a name in the worker's files is known for
/// good.
#[test]
fn deleted_names_are_forgotten_but_for_those_of_files() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (mut journal, _) = open_small(dir.path());
    let mut names = vec!["of-a-file".to_owned()];
    names.extend((0..200).map(|n| format!("n{n}")));
    for name in &names {
        journal.append(&created(name)).expect("append");
        let deleted = change(name, What::Deleted);
        journal.append(&deleted).expect("append");
    }
    let bytes = fs::metadata(dir.path().join("journal")).expect("journal");
    assert!(bytes.len() < 3000, "{}", bytes.len());
    for _ in 0..2 {
        let known: Vec<&String> = names.iter().filter(|name| journal.knows(name)).collect();
        assert_eq!(known, ["of-a-file", "n198", "n199"]);
        let left = history(&journal, "of-a-file");
        assert_eq!(left, [change("of-a-file", What::Deleted)]);
        assert_eq!(history(&journal, "n199").len(), 2);
        drop(journal);
        (journal, _) = open_small(dir.path());
    }
    // A forgotten name that comes back is like any other.
    journal.append(&created("of-a-file")).expect("append");
    assert_eq!(history(&journal, "of-a-file").len(), 2);
}
