//! Checks a plugin's config against its own schema and reports all problems at once; then makes one canonical text, of
//! which the digest is taken.
//!
//! Supported parts of JSON Schema: `properties` and `patternProperties` (`^literal.+$`) with `type`, `enum`, `minimum`,
//! `maximum`, `default`, `format` (`weir-file`, `weir-table`, `weir-secret`); `required`; `additionalProperties`. The
//! plugin itself checks the rest.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::secrets::Revealed;
use super::setup::{Keys, SetupProblem};
use super::tables;
use crate::config::Text;
use crate::error::Result;
use crate::hash::{hex, sha256};
use crate::nearest::nearest;

/// What `init` gets, and its digest. Secrets are references, here and wherever this is stored.
#[derive(Clone)]
pub struct Canonical {
    text: String,
    attached: Vec<Attached>,
    digest: String,
}

/// A file or table that a key names.
#[derive(Clone)]
pub struct Attached {
    pub key: String,
    pub digest: String,
    pub bytes: Arc<[u8]>,
    /// The rows, if the key is for a table.
    pub table: Option<RecordBatch>,
}

impl Canonical {
    /// `attached` in the order of their keys.
    pub(in crate::plugin) fn new(text: String, attached: Vec<Attached>) -> Canonical {
        let digest = digest_of(&text, attached.iter().map(|a| (&*a.key, &*a.digest)));
        Canonical {
            text,
            attached,
            digest,
        }
    }

    /// A canonical text that the host made itself, without files.
    pub fn of_host(text: String) -> Canonical {
        Canonical::new(text, Vec::new())
    }

    /// `sha256:…` over the text and the digests of files and tables.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Canonical JSON (RFC 8785), references as typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn attached(&self) -> &[Attached] {
        &self.attached
    }

    /// The text for `init`, with the keys resolved that `schema` marks `weir-secret`; and the values that must never be
    /// shown.
    pub(in crate::plugin) fn reveal(
        &self,
        schema: &str,
        resolve: &dyn Fn(&str) -> Result<String>,
    ) -> std::result::Result<Revealed, Vec<SetupProblem>> {
        let schema: Value = serde_json::from_str(schema).unwrap_or_default();
        let values: serde_json::Map<String, Value> =
            serde_json::from_str(&self.text).unwrap_or_default();
        let (mut texts, mut secrets, mut problems) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (key, value) in values {
            let secret = Schema(&schema).spec(&key).is_some_and(is_secret);
            let text = match value.as_str().filter(|_| secret) {
                None => value.to_string(),
                Some(typed) => match resolve(typed) {
                    Ok(value) => {
                        let text = quoted(&value);
                        // As itself, and as it is written in the JSON text.
                        secrets.push((text[1..text.len() - 1].to_owned(), typed.to_owned()));
                        secrets.push((value, typed.to_owned()));
                        text
                    }
                    Err(e) => {
                        problems.push(SetupProblem::unresolved(&key, &e));
                        continue;
                    }
                },
            };
            texts.insert(key, text);
        }
        match problems.is_empty() {
            true => Ok(Revealed::new(object(&texts), secrets)),
            false => Err(problems),
        }
    }
}

impl fmt::Debug for Canonical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attached = self
            .attached
            .iter()
            .map(|a| format!("{} {}", a.key, a.digest));
        f.debug_struct("Canonical")
            .field("digest", &self.digest)
            .field("text", &self.text)
            .field("attached", &attached.collect::<Vec<_>>())
            .finish()
    }
}

/// `attached`: keys in their order, each with the digest of what it names.
pub fn digest_of<'a>(text: &str, attached: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut sha = Sha256::new();
    sha.update(text.as_bytes());
    for (key, digest) in attached {
        sha.update(format!("\n{key} {digest}"));
    }
    format!("sha256:{}", hex(&sha.finalize()))
}

pub fn canonical(
    schema: &str,
    keys: &Keys<'_>,
) -> std::result::Result<Canonical, Vec<SetupProblem>> {
    let (sound, problems) = sound_part(schema, keys);
    match problems.is_empty() {
        true => Ok(sound),
        false => Err(problems),
    }
}

/// The keys that match the schema, and the problems of the others.
pub(in crate::plugin) fn sound_part(
    schema: &str,
    keys: &Keys<'_>,
) -> (Canonical, Vec<SetupProblem>) {
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    let schema = Schema(&schema);
    let (mut values, mut attached, mut problems) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (key, default) in schema.defaults() {
        values.insert(key.to_owned(), default);
    }
    for (key, value) in keys.config {
        let Some(spec) = schema.spec(key) else {
            problems.push(schema.unknown(key));
            continue;
        };
        let format = spec.get("format").and_then(Value::as_str);
        if !matches!(format, Some("weir-secret" | "weir-file" | "weir-table"))
            && Text::new(value.as_str()).has_reference()
        {
            problems.push(reference_not_secret(key, value));
            continue;
        }
        match typed(key, value, spec) {
            Ok(json) => {
                values.insert(key.clone(), json);
            }
            Err(problem) => problems.push(problem),
        }
        if let Some(format @ ("weir-file" | "weir-table")) = format {
            match attach(key, value, format == "weir-table", keys) {
                Ok(file) => attached.push(file),
                Err(problem) => problems.push(problem),
            }
        }
    }
    for key in schema.required() {
        if !values.contains_key(key) && !keys.config.contains_key(key) {
            let about = schema
                .spec(key)
                .and_then(|s| s.get("description")?.as_str());
            let mut problem = SetupProblem::new(key, "missing_key", format!("`{key}` is missing"));
            problem.hint = about.map(str::to_owned);
            problems.push(problem);
        }
    }
    (Canonical::new(object(&values), attached), problems)
}

fn reference_not_secret(key: &str, value: &str) -> SetupProblem {
    let message = format!("`{value}` is a reference, and `{key}` is no secret of this plugin");
    SetupProblem::new(key, "reference_not_secret", message).hint(
        "rules must not change with the machine they run on: write the value, or set it with --set or a profile",
    )
}

/// Whether a plugin's schema marks a key as a secret.
pub(in crate::plugin) fn is_secret_key(schema: &str, key: &str) -> bool {
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    Schema(&schema).spec(key).is_some_and(is_secret)
}

fn is_secret(spec: &Value) -> bool {
    spec.get("format").and_then(Value::as_str) == Some("weir-secret")
}

/// Reads the file that a key names; a reference in its path is resolved only for that.
fn attach(
    key: &str,
    typed: &str,
    table: bool,
    keys: &Keys<'_>,
) -> std::result::Result<Attached, SetupProblem> {
    let path = (keys.resolve)(typed).map_err(|e| SetupProblem::unresolved(key, &e))?;
    let bytes = (keys.read_file)(&path).map_err(|e| {
        SetupProblem::new(
            key,
            "file_unreadable",
            format!("cannot read `{typed}`: {e}"),
        )
    })?;
    let table = match table {
        true => Some(tables::named(key, typed, &path, &bytes)?),
        false => None,
    };
    Ok(Attached {
        key: key.to_owned(),
        digest: sha256(&bytes),
        bytes: bytes.into(),
        table,
    })
}

/// RFC 8785: keys in the order of their UTF-16 units, no blanks. The values are already JSON texts.
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
        let known = self.map("properties").map(|(name, _)| name.as_str());
        problem.hint = match nearest(key, known) {
            Some(name) => Some(format!("did you mean `{name}`?")),
            None => {
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
pub fn literal(pattern: &str) -> Option<String> {
    let inner = pattern.strip_prefix('^')?;
    let inner = inner.strip_suffix('$').unwrap_or(inner);
    let inner = inner
        .strip_suffix(".+")
        .or_else(|| inner.strip_suffix(".*"))?;
    let plain = inner.replace("\\.", ".");
    let simple = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    plain.chars().all(simple).then_some(plain)
}

/// A pattern that is more than a prefix matches every key: the plugin itself checks it.
fn matches(pattern: &str, key: &str) -> bool {
    literal(pattern).is_none_or(|prefix| key.len() > prefix.len() && key.starts_with(&prefix))
}

/// The value as JSON, by the schema's type: a text is a string unless the schema says otherwise.
fn typed(key: &str, value: &str, spec: &Value) -> std::result::Result<String, SetupProblem> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    const SCHEMA: &str = r#"{"required":["tag"],"additionalProperties":false,"properties":{
        "tag":{"type":"string"},"deep":{"type":"integer","minimum":1,"maximum":9,"default":4},
        "trim":{"type":"boolean","default":true},"mode":{"enum":["a","b"]},
        "rules":{"type":"string","format":"weir-file"}},
        "patternProperties":{"^columns\\..+$":{"type":"string"}}}"#;

    fn run(pairs: &[(&str, &str)]) -> std::result::Result<Canonical, Vec<SetupProblem>> {
        let config = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let keys = Keys {
            config: &config,
            resolve: &|text| Ok(text.replace("${env:PLACE}", "there")),
            read_file: &|path| match path {
                "there" => Ok(b"x".to_vec()),
                _ => Err(io::ErrorKind::NotFound.into()),
            },
        };
        canonical(SCHEMA, &keys)
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
        assert_eq!(done.attached[0].key, "rules");
        assert_eq!(&*done.attached[0].bytes, b"x");
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
}
