//! `weir checkpoint show`: what Spark keeps in a checkpoint directory, read out of a commit log and its file list.
//!
//! Spark writes `offsets/N` before a batch and `commits/N` after it. An entry of the log is both at once: it is there or it is
//! not, so there is no state in between to repair.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::commit::{self, Entry, LogName, SplitState, State};
use crate::error::{Error, Kind, Result};
use crate::record::SplitId;
use crate::store::Store;

const OP: &str = "checkpoint.show";
/// First line of each of Spark's logs: the version of its form.
const V1: &str = "v1";

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Checkpoint {
    pub pipeline: String,
    pub zone: String,
    /// Of this log alone: another one after the zone was deleted.
    pub id: String,
    pub weir: String,
    /// Microseconds since 1970 UTC.
    pub begun: i64,
    /// The file list, of a pipeline that reads files.
    pub files: Vec<SourceFile>,
    /// How many entries settled records; the newest of them are in `batches`.
    pub committed: u64,
    pub batches: Vec<Batch>,
}

/// A file in the list, and how far it is read.
#[derive(Clone, Debug, Serialize)]
pub struct SourceFile {
    /// Which group of files it came with: Spark's batch id in `sources/0`.
    pub group: u64,
    pub url: String,
    pub path: String,
    pub bytes: u64,
    /// Microseconds since 1970 UTC.
    pub modified: i64,
    pub state: Read,
    #[serde(skip)]
    partition: i32,
    #[serde(skip)]
    end: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Read {
    No,
    InPart,
    ToItsEnd,
}

/// An entry that settled records.
#[derive(Clone, Debug, Serialize)]
pub struct Batch {
    /// Spark's batch id: counted from 0.
    pub batch: u64,
    /// Version of the entry.
    pub version: u64,
    /// Microseconds since 1970 UTC.
    pub time: i64,
    pub records: u64,
    pub rows: u64,
    pub dead_letters: u64,
    /// Topic → partition → what is read next.
    pub positions: BTreeMap<String, BTreeMap<i32, i64>>,
}

/// A document of the file list, of which this needs a part.
#[derive(Debug, Deserialize)]
struct Document {
    number: u64,
    url: String,
    files: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    path: String,
    size: u64,
    modified: i64,
    partition: i32,
    at: i64,
    room: i64,
}

/// Reads the log backwards, from its newest entry, for the newest `limit` batches; 0: all that are kept.
///
/// # Errors
/// `log_corrupt` where an entry is missing that nobody was to forget.
pub fn read(store: &dyn Store, name: &LogName, state: &State, limit: usize) -> Result<Checkpoint> {
    let mut stands = Stands::of(state);
    let mut found = Checkpoint {
        pipeline: name.pipeline.clone(),
        zone: name.zone.clone(),
        id: state.id(),
        weir: state.init.weir.clone(),
        begun: state.begun,
        files: files(store, name, &stands)?,
        committed: state.settled,
        batches: Vec::new(),
    };
    let mut number = state.settled;
    for version in (0..=state.version).rev() {
        if number == 0 || (limit > 0 && found.batches.len() >= limit) {
            break;
        }
        let path = name.entry(version);
        let Some(bytes) = store.get(&path)? else {
            if version < state.horizon || version < commit::oldest_entry(store, name)? {
                break;
            }
            let error = Error::new(Kind::LogCorrupt, OP, "an entry is missing");
            return Err(error.with("path", &path));
        };
        let entry = commit::decode(&bytes, &path)?;
        if entry.kind.settles() {
            number -= 1;
            found.batches.push(stands.batch(&entry, number));
        }
        stands.undo(&entry);
    }
    found.batches.reverse();
    Ok(found)
}

/// Where each split stands after an entry, with its names.
#[derive(Debug)]
struct Stands(BTreeMap<SplitId, (String, i32, i64)>);

impl Stands {
    fn of(state: &State) -> Stands {
        let splits = state.splits.iter();
        let of = |(id, at): (&SplitId, &SplitState)| {
            (id.clone(), (at.topic.clone(), at.partition, at.to))
        };
        Stands(splits.map(of).collect())
    }

    /// The batch that this entry is.
    fn batch(&self, entry: &Entry, batch: u64) -> Batch {
        let mut positions: BTreeMap<String, BTreeMap<i32, i64>> = BTreeMap::new();
        for (topic, partition, next) in self.0.values() {
            let of = positions.entry(topic.clone()).or_default();
            of.insert(*partition, *next);
        }
        Batch {
            batch,
            version: entry.version,
            time: entry.time,
            records: entry.spans.iter().map(|span| span.records.read).sum(),
            rows: entry.spans.iter().map(|span| span.rows.written).sum(),
            dead_letters: entry.spans.iter().map(|span| span.dead_letters).sum(),
            positions,
        }
    }

    /// To before this entry.
    fn undo(&mut self, entry: &Entry) {
        for span in &entry.spans {
            if let Some((_, _, next)) = self.0.get_mut(&span.split) {
                *next = span.from;
            }
        }
        for open in &entry.open {
            self.0.remove(&open.split);
        }
    }
}

fn files(store: &dyn Store, name: &LogName, stands: &Stands) -> Result<Vec<SourceFile>> {
    let mut next = BTreeMap::new();
    for (split, (_, partition, at)) in &stands.0 {
        if split.as_str().starts_with("file/") {
            next.insert(*partition, *at);
        }
    }
    let mut files = Vec::new();
    if next.is_empty() {
        return Ok(files);
    }
    for listed in store.list(&format!("{}/files/", name.dir()))? {
        let Some(bytes) = store.get(&listed.path)? else {
            continue;
        };
        let document: Document = serde_json::from_slice(&bytes).map_err(|e| {
            let message = "a document of the file list is not as this version writes it";
            Error::new(Kind::LogCorrupt, OP, message)
                .with("path", &listed.path)
                .source(e)
        })?;
        for file in document.files {
            let (at, end) = (file.at, file.at.saturating_add(file.room));
            let stands = next.get(&file.partition).copied().unwrap_or(0);
            files.push(SourceFile {
                group: document.number,
                url: document.url.clone(),
                path: file.path,
                bytes: file.size,
                modified: file.modified,
                state: match stands {
                    stands if stands >= end => Read::ToItsEnd,
                    stands if stands > at => Read::InPart,
                    _ => Read::No,
                },
                partition: file.partition,
                end,
            });
        }
    }
    Ok(files)
}

impl Checkpoint {
    /// The files that Spark would have written, each below its name.
    pub fn spark(&self) -> String {
        let mut out = String::new();
        let mut file = |name: &str, lines: &[String]| {
            let _unfailing = writeln!(out, "--- {name} ---\n{}\n", lines.join("\n"));
        };
        file("metadata", &[json!({ "id": self.id }).to_string()]);
        let mut groups: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for listed in &self.files {
            let line = json!({
                "path": format!("{}/{}", listed.url.trim_end_matches('/'), listed.path),
                "timestamp": listed.modified.div_euclid(1_000),
                "batchId": listed.group,
            });
            groups
                .entry(listed.group)
                .or_default()
                .push(line.to_string());
        }
        for (group, mut lines) in groups {
            lines.insert(0, V1.to_owned());
            file(&format!("sources/0/{group}"), &lines);
        }
        for batch in &self.batches {
            let head = json!({ "batchWatermarkMs": 0, "batchTimestampMs": batch.time.div_euclid(1_000), "conf": {} });
            let lines = [V1.to_owned(), head.to_string(), self.offset(batch)];
            file(&format!("offsets/{}", batch.batch), &lines);
        }
        for batch in &self.batches {
            let lines = [
                V1.to_owned(),
                json!({ "nextBatchWatermarkMs": 0 }).to_string(),
            ];
            file(&format!("commits/{}", batch.batch), &lines);
        }
        out
    }

    /// Spark's JSON of an offset: of files the last group that is read to its end, else the next offset of each partition.
    fn offset(&self, batch: &Batch) -> String {
        if self.files.is_empty() {
            return json!(batch.positions).to_string();
        }
        let stands = |file: &SourceFile| {
            let all = batch.positions.values().flatten();
            let mut of = all.filter(|(partition, _)| **partition == file.partition);
            of.next().map_or(0, |(_, next)| *next)
        };
        let unread = self.files.iter().filter(|file| stands(file) < file.end);
        let last = match unread.map(|file| file.group).min() {
            Some(first) => first.checked_sub(1),
            None => self.files.iter().map(|file| file.group).max(),
        };
        let last: Value = last.map_or(json!(-1), |group| json!(group));
        json!({ "logOffset": last }).to_string()
    }
}
