//! A plugin's config: a flat map of texts, read key by key; all problems are collected and reported together.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::contract::Problem;
use crate::json;

/// Keys that are never read are problems too (`unknown_key`), so that a misspelt key is always noticed.
#[derive(Debug)]
pub struct Config {
    keys: BTreeMap<String, String>,
    read: BTreeSet<String>,
    problems: Vec<Problem>,
}

impl Config {
    /// `text` is the setup's `config`.
    pub fn parse(text: &str) -> Self {
        let mut problems = Vec::new();
        let keys = json::flat(text).unwrap_or_else(|message| {
            problems.push(Problem {
                at: String::new(),
                code: "bad_config".into(),
                message,
            });
            BTreeMap::new()
        });
        Self {
            keys,
            read: BTreeSet::new(),
            problems,
        }
    }

    /// The text of `key`, if it is there.
    pub fn get(&mut self, key: &str) -> Option<String> {
        self.read.insert(key.to_owned());
        self.keys.get(key).cloned()
    }

    pub fn text(&mut self, key: &str, default: &str) -> String {
        self.get(key).unwrap_or_else(|| default.to_owned())
    }

    /// The text of `key`; a problem, and empty, where it is missing or empty.
    pub fn require(&mut self, key: &str, meaning: &str) -> String {
        let value = self.get(key).unwrap_or_default();
        if value.is_empty() {
            self.problem(key, "missing_key", format!("`{key}` is missing: {meaning}"));
        }
        value
    }

    /// The items of `key`: a TOML list, or texts with commas between them. Blank ones are dropped.
    pub fn list(&mut self, key: &str) -> Vec<String> {
        let value = self.text(key, "");
        let items = value.split(',').map(str::trim);
        items
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect()
    }

    pub fn flag(&mut self, key: &str, default: bool) -> bool {
        let default = if default { "true" } else { "false" };
        self.choice(key, &["true", "false"], default) == 0
    }

    /// The position of the value of `key` in `names`.
    pub fn choice(&mut self, key: &str, names: &[&str], default: &str) -> usize {
        let value = self.text(key, default);
        names
            .iter()
            .position(|name| *name == value)
            .unwrap_or_else(|| {
                let names = names.join(", ");
                self.problem(
                    key,
                    "bad_value",
                    format!("found `{value}`, expected one of {names}"),
                );
                0
            })
    }

    pub fn number<T: FromStr + PartialOrd + Display>(
        &mut self,
        key: &str,
        default: T,
        range: RangeInclusive<T>,
    ) -> T {
        let Some(value) = self.get(key) else {
            return default;
        };
        match value.parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                let (low, high) = (range.start(), range.end());
                let message = format!("found `{value}`, expected a number from {low} to {high}");
                self.problem(key, "bad_number", message);
                default
            }
        }
    }

    /// All keys below `prefix` (which ends in a dot), without it, sorted.
    pub fn below(&mut self, prefix: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (key, value) in &self.keys {
            if let Some(name) = key.strip_prefix(prefix) {
                self.read.insert(key.clone());
                found.push((name.to_owned(), value.clone()));
            }
        }
        found
    }

    /// The same one is told once.
    pub fn problem(&mut self, key: &str, code: &str, message: impl Into<String>) {
        let problem = Problem {
            at: pointer(key),
            code: code.into(),
            message: message.into(),
        };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// For a problem inside a file that `key` names; lines and columns count from 1.
    pub fn problem_in_file(&mut self, key: &str, at: (usize, usize), code: &str, message: String) {
        let at = format!("{key}:{}:{}", at.0, at.1);
        self.problems.push(Problem {
            at,
            code: code.into(),
            message,
        });
    }

    /// Every problem, in the order of discovery, then the keys nobody read.
    pub fn finish(mut self) -> Result<(), Vec<Problem>> {
        let unknown: Vec<String> = self
            .keys
            .keys()
            .filter(|key| !self.read.contains(*key))
            .cloned()
            .collect();
        for key in unknown {
            let near = nearest(&key, self.read.iter().map(String::as_str));
            self.problem(
                &key,
                "unknown_key",
                format!("`{key}` is no key of this plugin{near}"),
            );
        }
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(self.problems)
        }
    }
}

fn pointer(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// `; did you mean …?` where a known name is at most two edits away.
pub(crate) fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> String {
    let best = known.map(|name| (edits(key, name), name)).min();
    match best {
        Some((1..=2, name)) => format!("; did you mean `{name}`?"),
        _ => String::new(),
    }
}

/// Levenshtein distance.
pub fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_told_at_once() {
        let mut config = Config::parse(r#"{"size":"many","mode":"x","moode":"y"}"#);
        config.require("name", "what to call it");
        config.number("size", 1u32, 1..=9);
        config.choice("mode", &["a", "b"], "a");
        let problems = config.finish().unwrap_err();
        let told: Vec<_> = problems
            .iter()
            .map(|p| (p.at.as_str(), p.code.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("/name", "missing_key"),
                ("/size", "bad_number"),
                ("/mode", "bad_value"),
                ("/moode", "unknown_key")
            ]
        );
        assert!(
            problems[3].message.contains("did you mean `mode`?"),
            "{}",
            problems[3].message
        );
    }

    #[test]
    fn a_list_is_written_with_brackets_or_commas() {
        let mut config = Config::parse(r#"{"a":["x","y"],"b":"x, y,,","c":""}"#);
        assert_eq!(config.list("a"), ["x", "y"]);
        assert_eq!(config.list("b"), ["x", "y"]);
        assert!(config.list("c").is_empty() && config.list("d").is_empty());
    }

    #[test]
    fn keys_with_slashes_are_escaped_pointers() {
        let mut config = Config::parse("{}");
        config.problem("a/b~c", "x", "y");
        assert_eq!(config.finish().unwrap_err()[0].at, "/a~1b~0c");
    }
}
