//! Translates Kafka Connect's configs to our keys: the catalogue of its classes and their keys, and what a config of
//! each class means here. Nothing in this room runs.
//!
//! ```text
//! map of keys ─┬─ class `weir`: the native keys
//!              ├─ Confluent's sinks of S3, HDFS, GCS and Azure: translate → the native keys, and notes on what differs
//!              └─ FileStreamSource, FileStreamSink: read and run by `filestream`
//! ```

mod classes;
mod defaults;
mod framework;
mod load;
pub mod render;
mod smt;
mod storage;
pub mod translate;

pub use classes::{AIVEN_GCS_SINK, AIVEN_S3_SINK};
pub use classes::{AZURE_BLOB_SINK, AZURE_GEN1_SINK, AZURE_GEN2_SINK, GCS_SINK, STORAGE_SINKS};
pub use classes::{Class, FILE_SINK, FILE_SOURCE, HDFS_SINK, HDFS3_SINK, Importance, Key, S3_SINK};
pub use classes::{Type, Width, aliases, classes, definitions};
pub use defaults::Defaults;
pub use load::load;
pub use translate::Translated;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::raw::{CONNECTOR_CLASS, OUR_CLASS};
use crate::config::secrets::literal_secrets;
use crate::config::{self, PipelineConfig, Problem, Raw, Reach, problem};
use crate::connectors::CATALOG;

const SERVERS: &str = "source.bootstrap.servers";

/// Connect's `type` of a connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ConnectorKind {
    Source,
    Sink,
    Unknown,
}

impl ConnectorKind {
    pub fn word(self) -> &'static str {
        match self {
            ConnectorKind::Source => "source",
            ConnectorKind::Sink => "sink",
            ConnectorKind::Unknown => "unknown",
        }
    }
}

/// One partition of a source and its offset, in Connect's form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Offset {
    /// `{"kafka_topic": …, "kafka_partition": …}` for connectors that read Kafka.
    pub partition: Map<String, Value>,
    /// `None`: go back to the start.
    pub offset: Option<Map<String, Value>>,
}

/// A note on a key that has another meaning than in Connect, or no effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// As it was given.
    pub key: String,
    pub text: String,
}

/// A connector's config in native keys.
#[derive(Debug)]
pub struct Translation {
    pub config: BTreeMap<String, String>,
    pub notes: Vec<Note>,
}

/// A storage sink's config in native keys; a native config is returned unchanged.
pub fn translate(
    config: &BTreeMap<String, String>,
    defaults: &Defaults,
) -> Result<Translation, Vec<Problem>> {
    let raw = of_map(config, &defaults.reach)?;
    let (done, problems) = native(&raw, defaults, None);
    match done {
        Some(done) => Ok(Translation {
            config: done.raw.canonical(),
            notes: done.notes,
        }),
        None => Err(problems),
    }
}

/// The pipeline of a config of any class that makes one; otherwise a problem.
pub fn pipeline(raw: Raw, defaults: &Defaults) -> (Option<PipelineConfig>, Vec<Problem>) {
    if is_ours(&raw) {
        let mut raw = raw;
        let unsafe_brokers = defaults.complete(&mut raw, SERVERS);
        let (pipeline, mut problems) = config::check_raw(raw, &CATALOG);
        problems.extend(unsafe_brokers);
        return (pipeline, problems);
    }
    let (done, mut problems) = native(&raw, defaults, None);
    let Some(done) = done else {
        return (None, problems);
    };
    let (pipeline, found) = config::check_raw(done.raw.clone(), &CATALOG);
    problems.extend(found.into_iter().map(|problem| done.back(problem)));
    (pipeline, problems)
}

/// See [`config::stand_in`]; of our own class only.
pub fn stand_in(mut raw: Raw, defaults: &Defaults, problems: &[Problem]) -> Option<PipelineConfig> {
    if !is_ours(&raw) {
        return None;
    }
    defaults.complete(&mut raw, SERVERS);
    config::stand_in(&raw, problems, &CATALOG)
}

/// The same of a config as REST has it.
pub fn stand_in_of(
    config: &BTreeMap<String, String>,
    defaults: &Defaults,
    problems: &[Problem],
) -> Option<PipelineConfig> {
    let raw = of_map(config, &defaults.reach).ok()?;
    stand_in(raw, defaults, problems)
}

/// A config of any class that is a pipeline, in native keys and with notes; warnings too. `sample`: values of messages
/// that columns are learned from.
pub fn native(
    raw: &Raw,
    defaults: &Defaults,
    sample: Option<&[Vec<u8>]>,
) -> (Option<Translated>, Vec<Problem>) {
    let mut raw = raw.clone();
    if is_ours(&raw) {
        let problems = Vec::from_iter(defaults.complete(&mut raw, SERVERS));
        let done = Translated {
            raw,
            notes: Vec::new(),
            from: BTreeMap::new(),
            problems: Vec::new(),
        };
        return (Some(done).filter(|_| problems.is_empty()), problems);
    }
    let class = match class(&raw) {
        Ok(class) => class,
        Err(problems) => return (None, problems),
    };
    if class.name == FILE_SOURCE || class.name == FILE_SINK {
        let message = format!(
            "`{CONNECTOR_CLASS}`: {} runs in the daemon only",
            class.name
        );
        let problem = Problem::new(
            raw.place(CONNECTOR_CLASS),
            CONNECTOR_CLASS,
            problem::NOT_TRANSLATED,
            message,
        );
        let hint = "start `weir daemon` and send it there: POST /connectors";
        return (None, vec![problem.hint(hint)]);
    }
    let mut problems = secrets(&raw);
    problems.extend(defaults.keys(&mut raw));
    let mut done = translate::translate(&raw, class, defaults, sample);
    problems.append(&mut done.problems);
    let failed = problems.iter().any(Problem::is_error);
    ((!failed).then_some(done), problems)
}

/// Problems for which the daemon would refuse the config.
fn secrets(raw: &Raw) -> Vec<Problem> {
    let found = literal_secrets(&raw.file, &raw.canonical()).into_iter();
    found
        .map(|mut problem| {
            problem.place = raw.place(&problem.key);
            problem.message.push_str("; the daemon refuses that");
            problem.warning()
        })
        .collect()
}

impl Translated {
    /// Moves a problem of a native key to the key from which it was translated.
    pub fn back(&self, mut problem: Problem) -> Problem {
        if let Some(from) = self.from.get(&problem.key)
            && *from != problem.key
        {
            problem.message = format!("`{from}` becomes `{}`; {}", problem.key, problem.message);
            problem.key.clone_from(from);
        }
        problem
    }
}

fn is_ours(raw: &Raw) -> bool {
    let typed = raw.get(CONNECTOR_CLASS).map(|e| e.value.typed().trim());
    typed.is_none_or(|typed| Class::find(typed).is_some_and(|class| class.name == OUR_CLASS))
}

/// The class that a config names; a problem if it is missing or unknown.
pub fn class(raw: &Raw) -> Result<&'static Class, Vec<Problem>> {
    let Some(entry) = raw.get(CONNECTOR_CLASS) else {
        return Err(vec![no_class(raw)]);
    };
    let typed = entry.value.typed();
    Class::find(typed).ok_or_else(|| {
        let known: Vec<&str> = classes().iter().map(|class| class.name).collect();
        let message = format!("`{CONNECTOR_CLASS}`: there is no connector `{typed}` here");
        let place = raw.place(CONNECTOR_CLASS);
        let problem = Problem::new(place, CONNECTOR_CLASS, problem::NOT_A_CHOICE, message);
        vec![problem.hint(format!("the classes are {}", known.join(", ")))]
    })
}

fn no_class(raw: &Raw) -> Problem {
    let message = format!("`{CONNECTOR_CLASS}` is missing and has no default");
    let place = raw.start_of_file();
    Problem::new(place, CONNECTOR_CLASS, problem::MISSING, message)
        .hint("`weir`, or a class of Kafka Connect: GET /connector-plugins lists them")
}

/// A config as REST has it.
pub fn of_map(config: &BTreeMap<String, String>, reach: &Reach) -> Result<Raw, Vec<Problem>> {
    let mut raw = Raw::within("config", reach);
    for (key, value) in config {
        let place = raw.start_of_file();
        raw.insert(key.clone(), value.clone(), place)
            .map_err(|problem| vec![problem])?;
    }
    Ok(raw)
}
