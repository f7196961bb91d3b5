//! Positions of file sinks: one small JSON file each, replaced as a whole and fsynced, so that after a kill it is
//! the old one or the new one. REST's offsets read and change it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{FileJob, FileSink, source};
use crate::connect::Offset;
use crate::error::{Error, Kind, Remedy, Result};
use crate::fs::Replace;
use crate::kafka::KafkaCluster;
use crate::store::errno;

/// Version of the file's form.
const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    format: u32,
    /// Topic → partition → next offset.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub topics: BTreeMap<String, BTreeMap<i32, Read>>,
    /// The file, and its length that belongs to `topics`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Length>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Read {
    pub next: i64,
    /// Kafka's id of the topic; empty where a person set the offset.
    #[serde(default)]
    pub id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Length {
    pub file: PathBuf,
    pub bytes: u64,
    /// Bytes that were about to be written after that length: after a kill some of them may be there. Anything beyond
    /// was written by others.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub begun: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Length {
    /// Cuts off lines that a kill left without saved positions, from a file of `there` bytes. `LogCorrupt`: somebody
    /// changed the file.
    pub fn settle(&mut self, file: &File, there: u64) -> Result<()> {
        let (path, bytes) = (self.file.display(), self.bytes);
        let changed = |what: String| {
            Err(Error::new(Kind::LogCorrupt, "file.sink", what)
                .hint("put it back; or write to another file; or stop the connector and reset its offsets (DELETE /connectors/NAME/offsets) to begin anew"))
        };
        if there < bytes {
            return changed(format!(
                "{path} has {there} bytes, and {bytes} were written: somebody cut it"
            ));
        }
        if self.begun == 0 {
            self.bytes = there;
            return Ok(());
        }
        if there - bytes > self.begun {
            return changed(format!(
                "{path} has {there} bytes: after a write of {} bytes behind {bytes} broke off, somebody else wrote to it",
                self.begun
            ));
        }
        let cut = file.set_len(bytes).and_then(|()| file.sync_all());
        cut.map_err(|e| store("cannot be cut", &self.file, e))?;
        self.begun = 0;
        Ok(())
    }

    /// Settles a file that will no longer be written to; one that is missing, changed or not writable is left alone.
    pub fn leave(mut self) -> Result<()> {
        let opened = crate::fs::change(&self.file);
        let looked = opened.and_then(|file| Ok((file.metadata()?.len(), file)));
        let settled = match looked {
            Ok((there, file)) => self.settle(&file, there),
            Err(e) => Err(store("cannot be looked at", &self.file, e)),
        };
        match settled {
            Err(error) if error.remedy() == Remedy::Retry => Err(error),
            _ => Ok(()),
        }
    }
}

impl State {
    fn new() -> State {
        State {
            format: FORMAT,
            topics: BTreeMap::new(),
            written: None,
        }
    }

    /// Nothing where there is no file yet.
    pub fn load(dir: &Path, name: &str) -> Result<State> {
        let path = path(dir, name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(State::new()),
            Err(e) => return Err(store("cannot be read", &path, e)),
        };
        match serde_json::from_slice::<State>(&bytes) {
            Ok(state) if state.format == FORMAT => Ok(state),
            Ok(_) | Err(_) => Err(Error::new(
                Kind::LogCorrupt,
                "file.state",
                format!("{} is no file of positions of this version", path.display()),
            )
            .hint("restore it from a copy; without it the connector begins anew")),
        }
    }

    /// Returns when it is durable.
    pub fn save(&self, dir: &Path, name: &str) -> Result<()> {
        let path = path(dir, name);
        let write = || -> std::io::Result<()> {
            crate::fs::durable_dir(dir)?;
            crate::fs::replace(&path, &serde_json::to_vec(self)?, Replace::DURABLE)
        };
        write().map_err(|e| store("cannot be written", &path, e))
    }
}

fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.offsets.json"))
}

pub(super) fn store(what: &str, path: &Path, error: std::io::Error) -> Error {
    // A missing folder, or one without permission, is not fixed by waiting, as a full disk may be.
    let kind = match error.kind() {
        ErrorKind::NotFound
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::InvalidInput
        | ErrorKind::PermissionDenied => Kind::ConfigInvalid,
        _ => errno::meaning(&error).0,
    };
    Error::new(kind, "file.store", format!("{} {what}", path.display())).source(error)
}

// ------------------------------------------------------------------ offsets

/// What Connect's GET offsets shows.
pub fn offsets(job: &FileJob, dir: &Path) -> Result<Vec<Offset>> {
    let sink = match job {
        FileJob::Source(job) => return source::offsets(job),
        FileJob::Sink(sink) => sink,
    };
    let state = State::load(dir, &sink.name)?;
    let topics = state.topics.iter().flat_map(|(topic, partitions)| {
        partitions.iter().map(move |(partition, read)| Offset {
            partition: object(json!({ "kafka_topic": topic, "kafka_partition": partition })),
            offset: Some(object(json!({ "kafka_offset": read.next }))),
        })
    });
    Ok(topics.collect())
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Changes the named partitions; null removes one. Only for a connector that does not run. `ConfigInvalid`: the request
/// is invalid, and nothing was changed.
pub fn alter(job: &FileJob, dir: &Path, wanted: &[Offset]) -> Result<()> {
    let job = match job {
        FileJob::Source(job) => return source::alter(job, wanted),
        FileJob::Sink(job) => job,
    };
    let mut state = State::load(dir, &job.name)?;
    let mut there = BTreeMap::new();
    for one in wanted {
        let (topic, partition) = alter_sink(&mut state, job, one)?;
        there.entry(topic).or_insert_with(Vec::new).push(partition);
    }
    are_there(job, &there)?;
    state.save(dir, &job.name)
}

/// Forgets every position. Lines that a sink has written stay, except those whose positions were never saved.
pub fn reset(job: &FileJob, dir: &Path) -> Result<()> {
    let job = match job {
        FileJob::Source(job) => return source::reset(job),
        FileJob::Sink(job) => job,
    };
    let mut state = State::load(dir, &job.name)?;
    state.topics.clear();
    if let Some(written) = state.written.take() {
        written.leave()?;
    }
    state.save(dir, &job.name)
}

pub(super) fn bad(message: String) -> Error {
    Error::new(Kind::ConfigInvalid, "file.offsets", message)
}

/// A number, or a text that is one.
fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(n) => n.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Whether the broker knows all these partitions.
fn are_there(job: &FileSink, wanted: &BTreeMap<String, Vec<i32>>) -> Result<()> {
    let cluster = KafkaCluster::connect(&job.kafka.props()?)?;
    for (topic, partitions) in wanted {
        let known = cluster.describe(topic)?.partitions;
        let missing = |n: &&i32| !known.iter().any(|p| p.tp.partition == **n);
        if let Some(missing) = partitions.iter().find(missing) {
            let message = format!("topic '{topic}' has no partition {missing}");
            return Err(bad(message).hint(format!("it has {}, from 0", known.len())));
        }
    }
    Ok(())
}

/// Topic and partition that were named.
fn alter_sink(state: &mut State, job: &FileSink, wanted: &Offset) -> Result<(String, i32)> {
    let topic = wanted.partition.get("kafka_topic").and_then(Value::as_str);
    let partition = wanted.partition.get("kafka_partition").and_then(number);
    let (Some(topic), Some(partition)) = (topic, partition.and_then(|n| i32::try_from(n).ok()))
    else {
        return Err(bad(
            "a partition of a sink is {\"kafka_topic\": \"…\", \"kafka_partition\": N}".to_owned(),
        ));
    };
    if !job.topics.iter().any(|known| known == topic) || partition < 0 {
        return Err(bad(format!(
            "the connector does not read {topic}/{partition}"
        )));
    }
    let at = (topic.to_owned(), partition);
    let of_topic = state.topics.entry(topic.to_owned()).or_default();
    let Some(offset) = &wanted.offset else {
        of_topic.remove(&partition);
        return Ok(at);
    };
    let next = offset.get("kafka_offset").and_then(number);
    let Some(next) = next.filter(|n| *n >= 0) else {
        return Err(bad(
            "an offset of a sink is {\"kafka_offset\": N}, from 0".to_owned()
        ));
    };
    let id = of_topic
        .get(&partition)
        .map_or(String::new(), |read| read.id.clone());
    of_topic.insert(partition, Read { next, id });
    Ok(at)
}
