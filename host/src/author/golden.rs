//! Golden samples: compares a plugin's output with the expected output, line by line.

use std::collections::BTreeSet;

use super::sample::{EXPECTED, Sample};
use crate::json::Json;

/// Most differing lines that are shown of one sample.
const TOLD: usize = 3;
/// Most characters of one line that are shown.
const WIDTH: usize = 300;

/// The differences, in lines for people; empty if there are none. Lines are equal if their JSON is.
pub fn compare(sample: &Sample, found: &[String]) -> Vec<String> {
    let Some(expected) = &sample.expected else {
        return vec![format!(
            "{}: there is no {EXPECTED}; look at the rows with `weir plugin run`, then write it with --update",
            sample.name
        )];
    };
    let most = expected.len().max(found.len());
    let differ = |n: &usize| match (expected.get(*n), found.get(*n)) {
        (Some(a), Some(b)) => a != b && (json(a).is_none() || json(a) != json(b)),
        _ => true,
    };
    let differing: Vec<usize> = (0..most).filter(differ).collect();
    let mut told = Vec::new();
    for n in differing.iter().take(TOLD) {
        let (a, b) = (expected.get(*n), found.get(*n));
        told.push(format!(
            "{}/{EXPECTED}:{}: {}",
            sample.name,
            n + 1,
            why(a, b)
        ));
        told.push(format!(
            "  - {}",
            a.map_or("(no such line)".into(), |line| cut(line))
        ));
        told.push(format!(
            "  + {}",
            b.map_or("(no such line)".into(), |line| cut(line))
        ));
    }
    if differing.len() > TOLD {
        told.push(format!("  … and {} lines more", differing.len() - TOLD));
    }
    told
}

/// Members in the order of their names, so that lines are compared as JSON is.
fn json(line: &str) -> Option<Json> {
    Json::parse(line.as_bytes()).ok().map(sorted)
}

fn sorted(value: Json) -> Json {
    match value {
        Json::Object(members) => {
            let members = members.into_iter().map(|(name, v)| (name, sorted(v)));
            let mut members: Vec<_> = members.collect();
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            Json::Object(members)
        }
        Json::List(items) => Json::List(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// `row 3: quantity: expected 3, found 4`, where both lines are of one row.
fn why(expected: Option<&String>, found: Option<&String>) -> String {
    let (expected, found) = match (expected, found) {
        (Some(expected), Some(found)) => (expected, found),
        (Some(_), None) => return "expected, but it does not come".into(),
        _ => return "not expected".into(),
    };
    let (Some(expected), Some(found)) = (json(expected), json(found)) else {
        return "the expected line is no JSON".into();
    };
    let row = |line: &Json| line.get("row").map(Json::to_string);
    if row(&expected) != row(&found) {
        let show = |line: &Json| row(line).map_or("no row".into(), |n| format!("row {n}"));
        return format!("expected {}, found {}", show(&expected), show(&found));
    }
    let at = row(&expected).map_or(String::new(), |n| format!("row {n}: "));
    let differing = match (expected.get("out"), found.get("out")) {
        (Some(a), Some(b)) => differing(a, b),
        (None, None) => differing(&expected, &found),
        (Some(_), None) => vec!["expected a row, found a refusal".into()],
        (None, Some(_)) => vec!["expected a refusal, found a row".into()],
    };
    format!("{at}{}", differing.join("; "))
}

fn differing(a: &Json, b: &Json) -> Vec<String> {
    let names = |of: &'_ Json| -> Vec<String> {
        let members = of.as_object().unwrap_or_default().iter();
        members.map(|(name, _)| name.clone()).collect()
    };
    let keys: BTreeSet<String> = [names(a), names(b)].concat().into_iter().collect();
    let differ = keys.iter().filter(|key| a.get(key) != b.get(key));
    let show = |value: Option<&Json>| value.map_or("nothing".into(), |v| cut(&v.to_string()));
    differ
        .map(|key| {
            format!(
                "{key}: expected {}, found {}",
                show(a.get(key)),
                show(b.get(key))
            )
        })
        .collect()
}

pub(super) fn cut(line: &str) -> String {
    match line.char_indices().nth(WIDTH) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::author::input;

    fn sample(expected: Option<&[&str]>) -> Sample {
        Sample {
            name: "first".into(),
            dir: "samples/first".into(),
            settings: super::super::Settings::default(),
            table: input::table(&[]),
            messages: Vec::new(),
            expected: expected.map(|lines| lines.iter().map(|l| (*l).to_owned()).collect()),
        }
    }

    #[test]
    fn what_differs_is_named_by_line_row_and_column() {
        let found = [
            r#"{"row":0,"piece":0,"out":{"a":1}}"#,
            r#"{"row":1,"piece":0,"out":{"a":2}}"#,
        ]
        .map(String::from);
        let same = sample(Some(&[r#"{"piece":0, "row":0, "out":{"a":1}}"#, &found[1]]));
        assert!(compare(&same, &found).is_empty(), "as JSON they are equal");
        let other = sample(Some(&[&found[0], r#"{"row":1,"piece":0,"out":{"a":3}}"#]));
        let told = compare(&other, &found);
        assert_eq!(
            told[0],
            "first/expected.jsonl:2: row 1: a: expected 3, found 2"
        );
        assert_eq!(told.len(), 3);
        let told = compare(&sample(Some(&[&found[0]])), &found);
        assert_eq!(told[0], "first/expected.jsonl:2: not expected");
        let told = compare(&sample(Some(&[])), &vec![found[0].clone(); 5]);
        assert_eq!(
            told.last().map(String::as_str),
            Some("  … and 2 lines more")
        );
        assert!(compare(&sample(None), &found)[0].contains("--update"));
    }
}
