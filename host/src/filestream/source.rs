//! Lines of a file into a topic, as a pipeline: `source.type = "file"` with `source.follow`, and `sink.type = "kafka"`. Here are the
//! native keys of Connect's ones, and the offsets in Connect's form.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::config::{Client, Converter, client, common, converter, file, is_topic, required};
use super::state::{bad, object};
use crate::config::raw::{CONNECTOR_CLASS, OUR_CLASS};
use crate::config::{
    self, PipelineConfig, Problem, Raw, Reach, Source, SourceConfig, Text, problem,
};
use crate::connect::translate::Work;
use crate::connect::{Class, Defaults, Offset};
use crate::connectors::CATALOG;
use crate::connectors::file::followed;
use crate::error::Result;
use crate::pipeline::positions;

/// A line that does not end within this stops the connector: it is no text file.
const MAX_LINE: &str = "64MiB";
/// How long a line waits for its commit.
const COMMIT_AGE: &str = "1s";
/// How often it is looked for a file that is not there, or another one of its name.
const LOOK_EVERY: &str = "500ms";
/// The property of librdkafka that is `sink.record.max.bytes` here.
const RECORD_MAX: &str = "message.max.bytes";

/// Lines of a file, one record each.
#[derive(Clone, Debug)]
pub struct FileSource {
    pub name: String,
    pub file: PathBuf,
    /// As typed: the name of the file in Connect's offsets.
    pub filename: String,
    pub reach: Reach,
    /// What runs.
    pub pipeline: PipelineConfig,
}

/// How a record contains its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The line itself.
    Text,
    /// A JSON string.
    Json,
    /// The same in the envelope of JsonConverter.
    Envelope,
}

impl Written {
    fn format(self) -> &'static str {
        match self {
            Written::Text => "string",
            Written::Json => "json-string",
            Written::Envelope => "json-envelope",
        }
    }
}

impl FileSource {
    pub fn read(
        raw: &Raw,
        class: &'static Class,
        defaults: &Defaults,
    ) -> (Option<FileSource>, Vec<Problem>) {
        let mut work = Work::new(raw, class, defaults);
        let name = common(&mut work);
        let file = file(&mut work, "standard input is not read");
        let topic = required(&mut work, "topic", "the topic that gets the lines");
        if let Some(topic) = &topic
            && !is_topic(topic)
        {
            let message = format!("`topic`: `{topic}` is no name of a topic");
            work.problem("topic", problem::BAD_NAME, message).hint =
                Some("letters, digits, `.`, `_`, `-`, at most 249; one topic".to_owned());
        }
        let batch = work.int("batch.size", 1, 1_000_000).unwrap_or(2000);
        let written = written(&mut work);
        idle(&mut work);
        let kafka = client(&mut work, "producer.override.", name.as_deref());
        work.strangers();
        let mut problems = work.into_problems();
        if problems.iter().any(Problem::is_error) {
            return (None, problems);
        }
        let (Some(name), Some(filename), Some(topic), Some(kafka)) = (name, file, topic, kafka)
        else {
            return (None, problems);
        };
        let keys = Keys {
            name: &name,
            file: &filename,
            topic: &topic,
            batch,
            written,
        };
        let (pipeline, found) = keys.pipeline(raw, kafka, defaults);
        problems.extend(found);
        let job = pipeline.map(|pipeline| FileSource {
            name,
            file: PathBuf::from(&filename),
            filename,
            reach: raw.reach().clone(),
            pipeline,
        });
        (job, problems)
    }

    fn source(&self) -> Option<&dyn SourceConfig> {
        match &self.pipeline.source {
            Source::Records(source) => Some(source.as_ref()),
            Source::Zone(_) => None,
        }
    }
}

fn written(work: &mut Work<'_>) -> Written {
    match converter(work) {
        Some(Converter::Text) | None => Written::Text,
        Some(Converter::Json { schemas: false }) => Written::Json,
        Some(Converter::Json { schemas: true }) => Written::Envelope,
        Some(Converter::Bytes) => {
            work.refuse(
                "value.converter",
                "a line is a text, which ByteArrayConverter refuses in Connect too",
                "write StringConverter: the bytes of the line, UTF-8",
            );
            Written::Text
        }
    }
}

/// Keys of Connect's framework that need nothing here, or have no equal.
fn idle(work: &mut Work<'_>) {
    // Each line is sent once, whether it is asked for or not.
    work.used("exactly.once.support");
    for key in [
        "transaction.boundary.interval.ms",
        "offsets.storage.topic",
        "topic.creation.groups",
    ] {
        if work.get(key).is_some() {
            work.refuse(key, "it has no equal here", "take the key out");
        }
    }
    work.used("errors.tolerance");
    for key in work.below("topic.creation.") {
        work.used(&format!("topic.creation.{key}"));
    }
}

/// What the connector's keys say.
struct Keys<'a> {
    name: &'a str,
    file: &'a str,
    topic: &'a str,
    batch: i64,
    written: Written,
}

impl Keys<'_> {
    /// The pipeline, with problems that name the connector's own keys.
    fn pipeline(
        &self,
        raw: &Raw,
        kafka: Client,
        defaults: &Defaults,
    ) -> (Option<PipelineConfig>, Vec<Problem>) {
        let mut native = Raw::within(&raw.file, raw.reach());
        let mut from = BTreeMap::new();
        for (key, value, of) in self.native(&kafka, defaults) {
            from.insert(key.to_owned(), of.to_owned());
            native.default(key, Text::new(value));
        }
        native.default("sink.bootstrap.servers", kafka.bootstrap_servers);
        for (property, value) in kafka.properties {
            let key = format!("sink.kafka.{property}");
            if property != RECORD_MAX && property != "partitioner" {
                native.default(&key, value);
            }
            if let Some(of) = kafka.from.get(&property) {
                from.insert(key, of.clone());
            }
        }
        if let Some(of) = kafka.from.get(RECORD_MAX) {
            from.insert("sink.record.max.bytes".to_owned(), of.clone());
        }
        for (key, value) in defaults.places() {
            native.default(key, value);
        }
        let (pipeline, mut problems) = config::check_raw(native, &CATALOG);
        problems.retain(Problem::is_error);
        for problem in &mut problems {
            let of = from
                .get(&problem.key)
                .map_or(CONNECTOR_CLASS, String::as_str);
            problem.message = format!("`{of}` becomes `{}`; {}", problem.key, problem.message);
            problem.place = raw.place(of);
            of.clone_into(&mut problem.key);
        }
        (pipeline, problems)
    }

    /// Native key, value, and the key that says so.
    fn native(
        &self,
        kafka: &Client,
        defaults: &Defaults,
    ) -> Vec<(&'static str, String, &'static str)> {
        let (dir, name) = split(self.file);
        let home = whole(&defaults.homes.join(self.name));
        let mut keys = vec![
            (CONNECTOR_CLASS, OUR_CLASS.to_owned(), CONNECTOR_CLASS),
            ("name", self.name.to_owned(), "name"),
            ("tasks.max", "1".to_owned(), "tasks.max"),
            ("batch.max.rows", self.batch.to_string(), "batch.size"),
            ("source.type", "file".to_owned(), CONNECTOR_CLASS),
            ("source.topic", self.topic.to_owned(), "topic"),
            ("source.url", url(&dir), "file"),
            ("source.path", escaped(&name), "file"),
            ("source.format", "text".to_owned(), CONNECTOR_CLASS),
            ("source.follow", "true".to_owned(), CONNECTOR_CLASS),
            ("source.line.ends", "any".to_owned(), CONNECTOR_CLASS),
            ("source.list.every", LOOK_EVERY.to_owned(), CONNECTOR_CLASS),
            (
                "source.record.max.bytes",
                MAX_LINE.to_owned(),
                CONNECTOR_CLASS,
            ),
            ("sink.type", "kafka".to_owned(), CONNECTOR_CLASS),
            ("sink.url", url(&home), "name"),
            ("sink.zone", "lines".to_owned(), "name"),
            ("sink.topic.name", self.topic.to_owned(), "topic"),
            ("sink.timestamp", "now".to_owned(), CONNECTOR_CLASS),
            ("sink.commit.age", COMMIT_AGE.to_owned(), CONNECTOR_CLASS),
            (
                "sink.value.format",
                self.written.format().to_owned(),
                "value.converter",
            ),
        ];
        let most = kafka.properties.get(RECORD_MAX);
        if let Some(most) = most.and_then(|text| text.resolve().ok()) {
            let most = format!("{}B", most.trim());
            keys.push(("sink.record.max.bytes", most, CONNECTOR_CLASS));
        }
        keys
    }
}

fn whole(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn url(dir: &Path) -> String {
    format!("file:{}", dir.display())
}

/// The directory and the name of a file.
fn split(file: &str) -> (PathBuf, String) {
    let path = whole(Path::new(file));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let dir = path.parent().unwrap_or(Path::new("/"));
    (dir.to_owned(), name.into_owned())
}

/// As a pattern that stands for this name alone.
fn escaped(name: &str) -> String {
    let mut pattern = String::new();
    for c in name.chars() {
        match c {
            '*' | '?' | '[' | ']' | '{' | '}' | '\\' => pattern.extend(['[', c, ']']),
            c => pattern.push(c),
        }
    }
    pattern
}

/// What Connect's GET offsets shows.
pub(super) fn offsets(job: &FileSource) -> Result<Vec<Offset>> {
    let Some(source) = job.source() else {
        return Ok(Vec::new());
    };
    let stands = positions::of(&job.pipeline)?;
    let topics = source.topics();
    let is_ours = |topic: &str| topics.iter().any(|ours| ours == topic);
    let next = |partition: i32| {
        let mut of_topic = stands.iter().filter(|at| is_ours(&at.topic));
        let at = of_topic.find(|at| at.partition == partition);
        at.map(|at| at.to)
    };
    let position = followed::stands(source, next)?;
    let shown = position.map(|position| Offset {
        partition: object(json!({ "filename": job.filename })),
        offset: Some(object(json!({ "position": position }))),
    });
    Ok(shown.into_iter().collect())
}

/// From where the file is read at the next start, as asked; null: from its beginning. `ConfigInvalid`: the request is invalid, and
/// nothing was changed.
pub(super) fn alter(job: &FileSource, wanted: &[Offset]) -> Result<()> {
    let mut at = None;
    for one in wanted {
        at = asked(job, one)?.or(at);
    }
    match (at, job.source()) {
        (Some(byte), Some(source)) => followed::go_on_at(source, byte),
        _ => Ok(()),
    }
}

/// Forgets where the file stands.
pub(super) fn reset(job: &FileSource) -> Result<()> {
    match (offsets(job)?.is_empty(), job.source()) {
        (false, Some(source)) => followed::go_on_at(source, 0),
        _ => Ok(()),
    }
}

/// The byte that is asked for. `None`: of another file, which has no position.
fn asked(job: &FileSource, wanted: &Offset) -> Result<Option<u64>> {
    let Some(Value::String(file)) = wanted.partition.get("filename") else {
        return Err(bad(
            "a partition of a file source is {\"filename\": \"…\"}".to_owned()
        ));
    };
    let is_ours = *file == job.filename;
    let Some(offset) = &wanted.offset else {
        return Ok(is_ours.then_some(0));
    };
    if !is_ours {
        let reads = &job.filename;
        return Err(bad(format!("the connector reads {reads}, not {file}")));
    }
    // A text is not accepted, as in Connect's own file source.
    match offset.get("position").and_then(Value::as_u64) {
        Some(position) => Ok(Some(position)),
        None => Err(bad(
            "an offset of a file source is {\"position\": N}, a number from 0".to_owned(),
        )),
    }
}
