//! A plugin's config against its own schema: all problems at once, then one canonical text that its digest stands for.
//!
//! Understood of JSON Schema: `properties` and `patternProperties` (`^literal.+$`) with `type`, `enum`, `minimum`,
//! `maximum`, `default`, `format: weir-file`; `required`; `additionalProperties`. The plugin itself checks the rest.

use std::collections::BTreeMap;
use std::io;

use arrow_schema::SchemaRef;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Limits, cache};
use crate::error::Error;

/// What a transform is made from.
pub struct Setup<'a> {
    /// The transform's name in the pipeline.
    pub transform: &'a str,
    /// Flat keys without the transform's prefix, references resolved.
    pub config: &'a BTreeMap<String, String>,
    /// Bytes of the file that a key marked `weir-file` names.
    pub read_file: &'a dyn Fn(&str) -> io::Result<Vec<u8>>,
    /// Columns of the stage before.
    pub input: SchemaRef,
    pub limits: Limits,
}

#[derive(Debug)]
pub enum SetupError {
    /// Something is wrong in the config; at least one.
    Problems(Vec<SetupProblem>),
    /// The plugin itself does not come up.
    Failed(Error),
}

impl From<Error> for SetupError {
    fn from(error: Error) -> Self {
        SetupError::Failed(error)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupProblem {
    /// Flat key without the transform's prefix; empty where the config as a whole is meant.
    pub key: String,
    /// Line and column, from 1, in the file that the key names.
    pub at: Option<(u32, u32)>,
    pub code: String,
    pub message: String,
    pub hint: Option<String>,
}

impl SetupProblem {
    fn new(key: &str, code: &str, message: String) -> Self {
        let (key, code) = (key.to_owned(), code.to_owned());
        SetupProblem {
            key,
            at: None,
            code,
            message,
            hint: None,
        }
    }

    /// From a plugin: `at` is a JSON Pointer, or a file's key and `:line:column`.
    pub fn told(at: &str, code: String, message: String) -> Self {
        let mut problem = SetupProblem::new("", &code, message);
        if let Some(pointer) = at.strip_prefix('/') {
            problem.key = pointer.replace("~1", "/").replace("~0", "~");
            return problem;
        }
        let mut parts = at.rsplitn(3, ':');
        let (column, line, key) = (parts.next(), parts.next(), parts.next());
        let number = |text: Option<&str>| text.and_then(|n| n.parse().ok());
        match (number(line), number(column), key) {
            (Some(line), Some(column), Some(key)) => {
                problem.key = key.to_owned();
                problem.at = Some((line, column));
            }
            _ => problem.key = at.to_owned(),
        }
        problem
    }
}

/// What crosses in `init`, and its digest.
#[derive(Debug)]
pub struct Canonical {
    pub text: String,
    pub files: Vec<(String, Vec<u8>)>,
    pub digest: String,
}

pub fn canonical(
    schema: &str,
    config: &BTreeMap<String, String>,
    read_file: &dyn Fn(&str) -> io::Result<Vec<u8>>,
) -> Result<Canonical, Vec<SetupProblem>> {
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    let schema = Schema(&schema);
    let (mut values, mut files, mut problems) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (key, default) in schema.defaults() {
        values.insert(key.to_owned(), default);
    }
    for (key, value) in config {
        let Some(spec) = schema.spec(key) else {
            problems.push(schema.unknown(key));
            continue;
        };
        match typed(key, value, spec) {
            Ok(json) => {
                values.insert(key.clone(), json);
            }
            Err(problem) => problems.push(problem),
        }
        match spec.get("format").and_then(Value::as_str) {
            Some("weir-file") => match read_file(value) {
                Ok(bytes) => files.push((key.clone(), bytes)),
                Err(e) => problems.push(SetupProblem::new(
                    key,
                    "file_unreadable",
                    format!("cannot read `{value}`: {e}"),
                )),
            },
            Some("weir-table") => problems.push(SetupProblem::new(
                key,
                "table_unsupported",
                "lookup tables are not served by this version".into(),
            )),
            _ => {}
        }
    }
    for key in schema.required() {
        if !values.contains_key(key) {
            let about = schema
                .spec(key)
                .and_then(|s| s.get("description")?.as_str());
            let mut problem = SetupProblem::new(key, "missing_key", format!("`{key}` is missing"));
            problem.hint = about.map(str::to_owned);
            problems.push(problem);
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let text = object(&values);
    let mut sha = Sha256::new();
    sha.update(text.as_bytes());
    for (key, bytes) in &files {
        sha.update(format!("\n{key} {}", cache::digest(bytes)));
    }
    let digest = format!("sha256:{}", cache::hex(&sha.finalize()));
    Ok(Canonical {
        text,
        files,
        digest,
    })
}

/// RFC 8785: keys in the order of their UTF-16 units, no blanks. Values are JSON texts already.
fn object(values: &BTreeMap<String, String>) -> String {
    let mut pairs: Vec<_> = values.iter().collect();
    pairs.sort_by_cached_key(|(key, _)| key.encode_utf16().collect::<Vec<u16>>());
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(key, value)| format!("{}:{value}", quoted(key)))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

struct Schema<'a>(&'a Value);

impl<'a> Schema<'a> {
    fn map(&self, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        self.0
            .get(name)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    }

    fn defaults(&self) -> impl Iterator<Item = (&'a str, String)> + use<'a> {
        self.map("properties").filter_map(|(key, spec)| {
            let default = spec.get("default").filter(|v| !v.is_null())?;
            Some((key.as_str(), default.to_string()))
        })
    }

    fn required(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let list = self.0.get("required").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str)
    }

    fn spec(&self, key: &str) -> Option<&'a Value> {
        let named = self.map("properties").find(|(name, _)| *name == key);
        let found = named.or_else(|| {
            self.map("patternProperties")
                .find(|(pattern, _)| matches(pattern, key))
        });
        let open = || match self.0.get("additionalProperties") {
            Some(Value::Bool(true)) => Some(&Value::Null),
            Some(spec @ Value::Object(_)) => Some(spec),
            _ => None,
        };
        found.map(|(_, spec)| spec).or_else(open)
    }

    fn unknown(&self, key: &str) -> SetupProblem {
        let mut problem = SetupProblem::new(
            key,
            "unknown_key",
            format!("`{key}` is no key of this plugin"),
        );
        let near = self
            .map("properties")
            .map(|(name, _)| (edits(key, name), name))
            .min();
        problem.hint = match near {
            Some((1..=2, name)) => Some(format!("did you mean `{name}`?")),
            _ => {
                let patterns = self
                    .map("patternProperties")
                    .filter_map(|(p, _)| literal(p));
                let names = self.map("properties").map(|(name, _)| name.clone());
                let known: Vec<String> = names
                    .chain(patterns.map(|p| format!("{p}<name>")))
                    .collect();
                Some(format!("known keys: {}", known.join(", ")))
            }
        };
        problem
    }
}

/// `columns.` of `^columns\..+$`.
fn literal(pattern: &str) -> Option<String> {
    let inner = pattern.strip_prefix('^')?;
    let inner = inner.strip_suffix('$').unwrap_or(inner);
    let inner = inner
        .strip_suffix(".+")
        .or_else(|| inner.strip_suffix(".*"))?;
    let plain = inner.replace("\\.", ".");
    let simple = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    plain.chars().all(simple).then_some(plain)
}

/// A pattern that is more than a prefix takes every key: the plugin says what it thinks of it.
fn matches(pattern: &str, key: &str) -> bool {
    literal(pattern).is_none_or(|prefix| key.len() > prefix.len() && key.starts_with(&prefix))
}

/// The value as JSON, by the schema's type: text is a string unless the schema wants something else.
fn typed(key: &str, value: &str, spec: &Value) -> Result<String, SetupProblem> {
    let wrong = |code, wanted: String| {
        let message = format!("found `{value}`, expected {wanted}");
        Err(SetupProblem::new(key, code, message))
    };
    if let Some(choices) = spec.get("enum").and_then(Value::as_array) {
        let texts: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
        if texts.len() == choices.len() && !texts.contains(&value) {
            return wrong("bad_value", format!("one of {}", texts.join(", ")));
        }
    }
    let bound = |name: &str| spec.get(name).and_then(Value::as_f64);
    let (low, high) = (bound("minimum"), bound("maximum"));
    let within = |n: f64| low.is_none_or(|low| n >= low) && high.is_none_or(|high| n <= high);
    let range = || match (low, high) {
        (Some(low), Some(high)) => format!(" from {low} to {high}"),
        (Some(low), None) => format!(" of at least {low}"),
        (None, Some(high)) => format!(" of at most {high}"),
        (None, None) => String::new(),
    };
    match spec.get("type").and_then(Value::as_str) {
        Some("integer") => match value.trim().parse::<i64>() {
            Ok(n) if within(n as f64) => Ok(n.to_string()),
            _ => wrong("bad_number", format!("a whole number{}", range())),
        },
        Some("number") => match value.trim().parse::<f64>() {
            Ok(n) if n.is_finite() && within(n) => Ok(Value::from(n).to_string()),
            _ => wrong("bad_number", format!("a number{}", range())),
        },
        Some("boolean") => match value.trim() {
            flag @ ("true" | "false") => Ok(flag.to_owned()),
            _ => wrong("bad_value", "true or false".into()),
        },
        _ => Ok(quoted(value)),
    }
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
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

    const SCHEMA: &str = r#"{"required":["tag"],"additionalProperties":false,"properties":{
        "tag":{"type":"string"},"deep":{"type":"integer","minimum":1,"maximum":9,"default":4},
        "trim":{"type":"boolean","default":true},"mode":{"enum":["a","b"]},
        "rules":{"type":"string","format":"weir-file"}},
        "patternProperties":{"^columns\\..+$":{"type":"string"}}}"#;

    fn run(pairs: &[(&str, &str)]) -> Result<Canonical, Vec<SetupProblem>> {
        let config = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        canonical(SCHEMA, &config, &|path| match path {
            "there" => Ok(b"x".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        })
    }

    #[test]
    fn canonical_text_is_typed_sorted_and_filled() {
        let done = run(&[
            ("tag", "b\"k"),
            ("deep", "7"),
            ("columns.a", "a/b"),
            ("rules", "there"),
        ]);
        let done = done.expect("sound");
        let text = r#"{"columns.a":"a/b","deep":7,"rules":"there","tag":"b\"k","trim":true}"#;
        assert_eq!(done.text, text);
        assert_eq!(done.files, [("rules".to_owned(), b"x".to_vec())]);
        let again = run(&[
            ("deep", "7"),
            ("tag", "b\"k"),
            ("columns.a", "a/b"),
            ("rules", "there"),
        ]);
        assert_eq!(again.expect("sound").digest, done.digest);
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let told = run(&[
            ("tagg", "x"),
            ("deep", "12"),
            ("trim", "yes"),
            ("mode", "c"),
            ("rules", "no"),
        ]);
        let told = told.expect_err("five wrong");
        let codes: Vec<_> = told
            .iter()
            .map(|p| (p.key.as_str(), p.code.as_str()))
            .collect();
        let wanted = [
            ("deep", "bad_number"),
            ("mode", "bad_value"),
            ("rules", "file_unreadable"),
            ("tagg", "unknown_key"),
            ("trim", "bad_value"),
            ("tag", "missing_key"),
        ];
        assert_eq!(codes, wanted);
        assert_eq!(told[3].hint.as_deref(), Some("did you mean `tag`?"));
    }

    #[test]
    fn a_plugins_places_become_keys() {
        let at = |at: &str| {
            let p = SetupProblem::told(at, "c".into(), "m".into());
            (p.key, p.at)
        };
        assert_eq!(at("/a~1b~0c"), ("a/b~c".into(), None));
        assert_eq!(at("rules:3:14"), ("rules".into(), Some((3, 14))));
        assert_eq!(at(""), (String::new(), None));
    }
}
