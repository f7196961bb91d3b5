//! Configs of Confluent's storage sinks (S3, GCS, Azure, HDFS) and of Aiven's as native keys. A key that cannot be honoured gives a
//! problem with the reason and what to write instead, all at once; a key with another meaning here gives a note.

mod aiven;
mod columns;
mod converters;
mod ignored;
mod partitioner;
mod sink;
mod source;
mod store;
mod transforms;

use std::collections::{BTreeMap, BTreeSet};

use super::classes::Class;
use super::{Defaults, Note};
use crate::config::keys::KAFKA_PREFIX;
use crate::config::raw::{CONNECTOR_CLASS, OUR_CLASS};
use crate::config::{FileFormat, Problem, Raw, problem};
use crate::connectors::CATALOG;
use crate::nearest::nearest;

pub use ignored::{idle, off};
pub(crate) use source::client_property;
pub use transforms::SMT_TABLE;

/// The native config: each key has the place of the key from which it was made.
#[derive(Debug)]
pub struct Translated {
    pub raw: Raw,
    pub notes: Vec<Note>,
    /// Native key → the key that it was made of.
    pub from: BTreeMap<String, String>,
    /// Warnings too.
    pub problems: Vec<Problem>,
}

/// `class` is one of the storage sinks; `sample`: values of messages that columns are learned from.
pub fn translate(
    raw: &Raw,
    class: &'static Class,
    defaults: &Defaults,
    sample: Option<&[Vec<u8>]>,
) -> Translated {
    let mut work = Work::new(raw, class, defaults);
    work.native_keys();
    work.used(CONNECTOR_CLASS);
    work.put(CONNECTOR_CLASS, OUR_CLASS, CONNECTOR_CLASS);
    source::translate(&mut work);
    match aiven::is_one(class) {
        true => aiven::translate(&mut work),
        false => {
            sink::translate(&mut work);
            store::translate(&mut work);
            partitioner::translate(&mut work);
        }
    }
    let start = converters::translate(&mut work);
    transforms::translate(&mut work, start, sample);
    sink::rows(&mut work);
    ignored::translate(&mut work);
    work.places(defaults);
    work.strangers();
    work.done()
}

/// Reads one map and writes the other; remembers which keys were used.
pub(crate) struct Work<'a> {
    pub raw: &'a Raw,
    pub class: &'static Class,
    pub defaults: &'a Defaults,
    out: Raw,
    from: BTreeMap<String, String>,
    used: BTreeSet<String>,
    notes: Vec<Note>,
    problems: Vec<Problem>,
    /// There are no columns; this was already reported.
    pub columns_failed: bool,
    /// What the files are.
    pub files: FileFormat,
    /// A line of a file is the value of a record and nothing else: as JSON, or as a text.
    pub line: Option<Line>,
}

/// What a whole value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Text,
    Json,
}

impl<'a> Work<'a> {
    pub fn new(raw: &'a Raw, class: &'static Class, defaults: &'a Defaults) -> Work<'a> {
        Work {
            raw,
            class,
            defaults,
            out: Raw::within(&raw.file, raw.reach()),
            from: BTreeMap::new(),
            used: BTreeSet::new(),
            notes: Vec::new(),
            problems: Vec::new(),
            columns_failed: false,
            files: FileFormat::Parquet,
            line: None,
        }
    }

    fn done(self) -> Translated {
        Translated {
            raw: self.out,
            notes: self.notes,
            from: self.from,
            problems: self.problems,
        }
    }

    pub fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    // ------------------------------------------------------------- reading

    /// The value of a key with references resolved; `None` if it is empty.
    pub fn get(&mut self, key: &str) -> Option<String> {
        self.used.insert(key.to_owned());
        let entry = self.raw.get(key)?;
        match entry.value.resolve() {
            Ok(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Err(error) => {
                let message = format!("`{key}`: {}", error.message());
                let hint = error.hint_text().map(str::to_owned);
                self.problem(key, problem::UNRESOLVED, message).hint = hint;
                None
            }
        }
    }

    /// The same, references as they are.
    pub fn typed(&mut self, key: &str) -> Option<&'a str> {
        self.used.insert(key.to_owned());
        let typed = self.raw.get(key)?.value.typed().trim();
        Some(typed).filter(|text| !text.is_empty())
    }

    pub fn is_there(&self, key: &str) -> bool {
        self.raw.get(key).is_some()
    }

    /// Keys below a prefix, the prefix taken off.
    pub fn below(&self, prefix: &str) -> Vec<String> {
        let keys = self.raw.iter().map(|(key, _)| key);
        keys.filter_map(|key| key.strip_prefix(prefix))
            .map(str::to_owned)
            .collect()
    }

    pub fn list(&mut self, key: &str) -> Vec<String> {
        let text = self.get(key).unwrap_or_default();
        let items = text.split(',').map(str::trim).filter(|i| !i.is_empty());
        items.map(str::to_owned).collect()
    }

    pub fn flag(&mut self, key: &str) -> Option<bool> {
        let text = self.get(key)?;
        match text.to_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                let message = format!("`{key}`: expected `true` or `false`, found `{text}`");
                self.problem(key, problem::WRONG_TYPE, message);
                None
            }
        }
    }

    /// A whole number from `min` to `max`.
    pub fn int(&mut self, key: &str, min: i64, max: i64) -> Option<i64> {
        let text = self.get(key)?;
        let expected = format!("`{key}`: expected an integer from {min} to {max}, found `{text}`");
        match text.parse::<i64>() {
            Ok(n) if (min..=max).contains(&n) => Some(n),
            Ok(_) => {
                self.problem(key, problem::OUT_OF_RANGE, expected);
                None
            }
            Err(_) => {
                self.problem(key, problem::WRONG_TYPE, expected);
                None
            }
        }
    }

    /// Milliseconds; −1 is `None`, as in Connect.
    pub fn millis(&mut self, key: &str, max: i64) -> Option<i64> {
        self.int(key, -1, max).filter(|ms| *ms >= 0)
    }

    pub fn is_used(&self, key: &str) -> bool {
        self.used.contains(key)
    }

    pub fn used(&mut self, key: &str) {
        self.used.insert(key.to_owned());
    }

    // ------------------------------------------------------------- writing

    /// A native key, made of `from`; what the user wrote natively stays.
    pub fn put(&mut self, key: &str, value: impl Into<String>, from: &str) {
        if self.out.get(key).is_some() {
            return;
        }
        let place = self.raw.place(from);
        self.from.insert(key.to_owned(), from.to_owned());
        if let Err(problem) = self.out.insert(key.to_owned(), value.into(), place) {
            self.problems.push(problem);
        }
    }

    pub fn has(&self, key: &str) -> bool {
        self.out.get(key).is_some()
    }

    /// The present value of a native key, references resolved if possible.
    pub fn native(&self, key: &str) -> Option<String> {
        let value = &self.out.get(key)?.value;
        Some(value.resolve().unwrap_or_else(|_| value.typed().to_owned()))
    }

    pub fn note(&mut self, key: &str, text: impl Into<String>) {
        self.notes.push(Note {
            key: key.to_owned(),
            text: text.into(),
        });
    }

    /// `key` cannot be honoured.
    pub fn refuse(&mut self, key: &str, reason: impl Into<String>, hint: impl Into<String>) {
        let message = format!("`{key}`: {}", reason.into());
        self.problem(key, problem::NOT_TRANSLATED, message).hint = Some(hint.into());
    }

    pub fn problem(&mut self, key: &str, code: &'static str, message: String) -> &mut Problem {
        let place = self.raw.place(key);
        self.problems.push(Problem::new(place, key, code, message));
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    // ------------------------------------------------------------ the rest

    /// Native keys beside Connect's stay as they are: `sink.url`, `plugin.path`, `memory.budget`, `--set trigger=…`.
    fn native_keys(&mut self) {
        for (key, entry) in self.raw.iter() {
            let native = CATALOG.find(key).is_some() || key.starts_with(KAFKA_PREFIX);
            if native && self.class.key(key).is_none() {
                self.used.insert(key.to_owned());
                let (value, place) = (entry.value.typed().to_owned(), entry.place.clone());
                let inserted = self.out.insert(key.to_owned(), value, place);
                self.problems.extend(inserted.err());
            }
        }
    }

    /// Applies the worker's defaults.
    fn places(&mut self, defaults: &Defaults) {
        const SERVERS: &str = "consumer.override.bootstrap.servers";
        let own = match self.raw.get("source.bootstrap.servers") {
            Some(_) => "source.bootstrap.servers",
            None => SERVERS,
        };
        self.problems.extend(defaults.complete(&mut self.out, own));
        if !self.has("source.bootstrap.servers") {
            let message = "no brokers: Connect's worker names them, and none does here".to_owned();
            self.problem(SERVERS, problem::MISSING, message)
                .hint = Some("--set source.bootstrap.servers=host:9092, a key `consumer.override.bootstrap.servers`, or bootstrap.servers of the daemon".to_owned());
        }
    }

    /// Connect silently ignores unknown keys; here they are ignored with a warning.
    pub fn strangers(&mut self) {
        let unknown: Vec<String> = self
            .raw
            .iter()
            .map(|(key, _)| key.to_owned())
            // A key of the class that was not read belongs to one that is refused.
            .filter(|key| !self.used.contains(key) && self.class.key(key).is_none())
            .collect();
        for key in unknown {
            let known = self.class.keys.iter().map(|key| key.name.as_str());
            let near = nearest(&key, known).map(|near| format!("did you mean `{near}`?"));
            let message = format!("`{key}` is no key of {}; it has no effect", self.class.name);
            let problem = self.problem(&key, problem::UNKNOWN_KEY, message);
            problem.severity = problem::Severity::Warning;
            problem.hint = near;
        }
    }
}
