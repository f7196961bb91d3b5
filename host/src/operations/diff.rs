//! What differs between rules in force and others, for somebody who decides: keys, and files line by line.
//!
//! Secrets are references here as in every config that is kept, so none shows.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::pipeline::rules::{Part, Parts};

/// Lines of one file that are shown at most, those around a change included: what a person reads before a button.
const LINES: usize = 400;
/// Lines before and after a change that are shown with it.
const AROUND: usize = 2;
/// Characters of a line or value that are shown.
const WIDTH: usize = 200;
/// Lines of both files multiplied, without those that are the same at both ends: a table of so many places is made to compare them
/// (8 MiB). Above it all of them are shown as changed.
const PLACES: usize = 4 << 20;

/// One transform whose config differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct RuleDiff {
    pub transform: String,
    pub keys: Vec<KeyDiff>,
    pub files: Vec<FileDiff>,
}

/// A key with another value, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct KeyDiff {
    pub key: String,
    /// `None`: it was not set.
    pub before: Option<String>,
    pub after: Option<String>,
}

/// A file or table that a key names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct FileDiff {
    pub key: String,
    pub removed: u64,
    pub added: u64,
    /// Changed lines with some around them.
    pub lines: Vec<DiffLine>,
    /// There are more than are shown.
    pub more: bool,
    /// Why no lines are shown.
    pub note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct DiffLine {
    pub what: Line,
    /// Its number, from 1: in the old file where it is removed, else in the new one.
    pub number: u64,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Line {
    Same,
    Removed,
    Added,
}

/// Of transforms that are in both, or only in one; without those that have the same config.
pub fn between(old: &Parts, new: &Parts) -> Vec<RuleDiff> {
    let find = |parts: &'_ Parts, name: &str| parts.iter().find(|p| p.transform == name).cloned();
    let names = new.iter().chain(old.iter()).map(|part| &part.transform);
    let mut seen = BTreeSet::new();
    names
        .filter(|name| seen.insert((*name).clone()))
        .filter_map(|name| of_transform(name, find(old, name).as_ref(), find(new, name).as_ref()))
        .collect()
}

fn of_transform(name: &str, old: Option<&Part>, new: Option<&Part>) -> Option<RuleDiff> {
    let digest = |part: Option<&Part>| part.map(|part| part.config.digest().to_owned());
    if digest(old) == digest(new) {
        return None;
    }
    Some(RuleDiff {
        transform: name.to_owned(),
        keys: keys(old, new),
        files: files(old, new),
    })
}

fn keys(old: Option<&Part>, new: Option<&Part>) -> Vec<KeyDiff> {
    let read = |part: Option<&Part>| -> BTreeMap<String, Value> {
        let text = part.map_or("{}", |part| part.config.text());
        serde_json::from_str(text).unwrap_or_default()
    };
    let (old, new) = (read(old), read(new));
    let all: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let shown = |value: Option<&Value>| value.map(|value| cut(&value.to_string()));
    all.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| KeyDiff {
            key: key.clone(),
            before: shown(old.get(key)),
            after: shown(new.get(key)),
        })
        .collect()
}

fn files(old: Option<&Part>, new: Option<&Part>) -> Vec<FileDiff> {
    let attached = |part: Option<&Part>| -> BTreeMap<String, (String, Vec<u8>)> {
        let all = part.map_or(&[][..], |part| part.config.attached()).iter();
        all.map(|a| (a.key.clone(), (a.digest.clone(), a.bytes.to_vec())))
            .collect()
    };
    let (old, new) = (attached(old), attached(new));
    let all: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let none = (String::new(), Vec::new());
    let of = |key: &String| {
        let (before, after) = (old.get(key).unwrap_or(&none), new.get(key).unwrap_or(&none));
        (before.0 != after.0).then(|| file(key, &before.1, &after.1))
    };
    all.into_iter().filter_map(of).collect()
}

fn file(key: &str, old: &[u8], new: &[u8]) -> FileDiff {
    let mut diff = FileDiff {
        key: key.to_owned(),
        removed: 0,
        added: 0,
        lines: Vec::new(),
        more: false,
        note: None,
    };
    let (Ok(old), Ok(new)) = (std::str::from_utf8(old), std::str::from_utf8(new)) else {
        diff.note = Some(format!("no text: {} bytes become {}", old.len(), new.len()));
        return diff;
    };
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let all = lines(&old, &new);
    let count = |what: Line| all.iter().filter(|line| line.what == what).count() as u64;
    (diff.removed, diff.added) = (count(Line::Removed), count(Line::Added));
    let near = |at: usize| {
        let from = at.saturating_sub(AROUND);
        let around = all.iter().skip(from).take(at + AROUND + 1 - from);
        around.into_iter().any(|line| line.what != Line::Same)
    };
    let mut shown = (0..all.len()).filter(|at| near(*at));
    let first = shown.by_ref().take(LINES);
    diff.lines = first.filter_map(|at| all.get(at).cloned()).collect();
    diff.more = shown.next().is_some();
    if diff.lines.is_empty() {
        diff.note = Some("only the ends of lines differ".to_owned());
    }
    diff
}

/// All lines of both, in an order in which the old file becomes the new one with the fewest changes.
fn lines(old: &[&str], new: &[&str]) -> Vec<DiffLine> {
    let same = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old_left, new_left) = (&old[same..], &new[same..]);
    let ends = old_left.iter().rev().zip(new_left.iter().rev());
    let end = ends.take_while(|(a, b)| a == b).count();
    let (old_middle, new_middle) = (
        &old_left[..old_left.len() - end],
        &new_left[..new_left.len() - end],
    );
    let line = |what: Line, at: usize, text: &str| DiffLine {
        what,
        number: at as u64 + 1,
        text: cut(text),
    };
    let mut all: Vec<DiffLine> = Vec::with_capacity(new.len() + old_middle.len());
    all.extend((0..same).map(|at| line(Line::Same, at, new[at])));
    for (what, at) in middle(old_middle, new_middle) {
        let text = match what {
            Line::Removed => old_middle[at],
            Line::Same | Line::Added => new_middle[at],
        };
        all.push(line(what, same + at, text));
    }
    let from = new.len() - end;
    all.extend((from..new.len()).map(|at| line(Line::Same, at, new[at])));
    all
}

/// By the longest common subsequence. An index is one of `old` where a line is removed, else of `new`.
fn middle(old: &[&str], new: &[&str]) -> Vec<(Line, usize)> {
    let removed = (0..old.len()).map(|at| (Line::Removed, at));
    let added = (0..new.len()).map(|at| (Line::Added, at));
    if old.len().saturating_mul(new.len()) > PLACES {
        return removed.chain(added).collect();
    }
    let width = new.len() + 1;
    // Of what is behind each place, how many lines the two have in common.
    let mut common = vec![0u16; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = match old[i] == new[j] {
                true => common[(i + 1) * width + j + 1].saturating_add(1),
                false => common[(i + 1) * width + j].max(common[i * width + j + 1]),
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, Vec::with_capacity(old.len() + new.len()));
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            out.push((Line::Same, j));
            (i, j) = (i + 1, j + 1);
        } else if i < old.len()
            && (j == new.len() || common[(i + 1) * width + j] >= common[i * width + j + 1])
        {
            out.push((Line::Removed, i));
            i += 1;
        } else {
            out.push((Line::Added, j));
            j += 1;
        }
    }
    out
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(old: &str, new: &str) -> (u64, u64, Vec<String>, bool) {
        let diff = file("rules", old.as_bytes(), new.as_bytes());
        let sign = |line: &DiffLine| match line.what {
            Line::Same => ' ',
            Line::Removed => '-',
            Line::Added => '+',
        };
        let lines = diff.lines.iter();
        let lines = lines.map(|line| format!("{}{} {}", sign(line), line.number, line.text));
        (diff.removed, diff.added, lines.collect(), diff.more)
    }

    #[test]
    fn changed_lines_show_with_what_stands_around_them() {
        let old = "[a]\nmin = 1\nmax = 9\n\n[b]\nx = 1\ny = 2\nz = 3\nw = 4\n";
        let new = "[a]\nmin = 1\nmax = 8\nrequired = true\n\n[b]\nx = 1\ny = 2\nz = 3\n";
        let (removed, added, lines, more) = shown(old, new);
        assert_eq!((removed, added, more), (2, 2, false));
        assert_eq!(
            lines,
            [
                " 1 [a]",
                " 2 min = 1",
                "-3 max = 9",
                "+3 max = 8",
                "+4 required = true",
                " 5 ",
                " 6 [b]",
                " 8 y = 2",
                " 9 z = 3",
                "-9 w = 4",
            ]
        );
    }

    #[test]
    fn large_and_strange_files_stay_bounded() {
        let many = |of: &str| (0..3000).map(|n| format!("{of} {n}\n")).collect::<String>();
        let (removed, added, lines, more) = shown(&many("a"), &many("b"));
        assert_eq!(
            (removed, added, lines.len(), more),
            (3000, 3000, LINES, true)
        );
        let long = "x".repeat(5000);
        let (_, _, lines, _) = shown("a", &long);
        assert_eq!(lines[1].chars().count(), WIDTH + 1 + "+1 ".len());
        let bytes = file("table", b"\xff\xfe", b"text");
        assert_eq!(bytes.note.as_deref(), Some("no text: 2 bytes become 4"));
        let ends = file("rules", b"a\n", b"a\r\n");
        assert_eq!(ends.note.as_deref(), Some("only the ends of lines differ"));
    }
}
