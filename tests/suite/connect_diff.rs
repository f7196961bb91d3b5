//! Two runs of one list of steps, compared leaf by leaf, and patterns that name what is known to differ.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::connect_script::Transcript;

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
        let places: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
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

/// Steps, places, what Connect says there, what Weir says there: patterns for the first two, JSON for the others, with `-`
/// for nothing and `*` for whatever.
pub type Row = (&'static str, &'static str, &'static str, &'static str);

pub fn explains(row: &Row, found: &Found) -> bool {
    let (steps, places, connect, weir) = *row;
    let (step, place, theirs, ours) = found;
    let said = |pattern: &str, text: &str| pattern == "*" || pattern == text;
    fits(steps, step) && fits(places, place) && said(connect, theirs) && said(weir, ours)
}

#[test]
fn patterns_fit() {
    assert!(fits("a/*", "a/b") && fits("x a/b", "a/b") && fits("*/c", "a/b/c"));
    assert!(fits("a/*/c", "a/b/c") && fits("*b*", "abc") && fits("*", ""));
    assert!(!fits("a/*/d", "a/b/c") && !fits("a", "ab") && !fits("a*c", "ab"));
}
