//! Golden samples: what a plugin makes now against what it was once said to make, line by line.

use serde_json::Value;

use super::sample::{EXPECTED, Sample};

/// Differing lines that are told of one sample.
const TOLD: usize = 3;
/// Characters of one line that are told.
const WIDTH: usize = 300;

/// What differs, in lines for people; empty where nothing does. Lines are equal when they are as JSON.
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

fn json(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
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
    let row = |line: &Value| line["row"].as_u64();
    if row(&expected) != row(&found) {
        let show = |line: &Value| row(line).map_or("no row".into(), |n| format!("row {n}"));
        return format!("expected {}, found {}", show(&expected), show(&found));
    }
    let at = row(&expected).map_or(String::new(), |n| format!("row {n}: "));
    let differing = match (expected["out"].as_object(), found["out"].as_object()) {
        (Some(a), Some(b)) => differing(a, b),
        (None, None) => match (expected.as_object(), found.as_object()) {
            (Some(a), Some(b)) => differing(a, b),
            _ => Vec::new(),
        },
        (Some(_), None) => vec!["expected a row, found a refusal".into()],
        (None, Some(_)) => vec!["expected a refusal, found a row".into()],
    };
    format!("{at}{}", differing.join("; "))
}

fn differing(
    a: &serde_json::Map<String, Value>,
    b: &serde_json::Map<String, Value>,
) -> Vec<String> {
    let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let differ = keys.into_iter().filter(|key| a.get(*key) != b.get(*key));
    let show = |value: Option<&Value>| value.map_or("nothing".into(), |v| cut(&v.to_string()));
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

fn cut(line: &str) -> String {
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
