//! Entries of a commit log, a page at a time, and their sums.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::PAGE_BYTES;
use super::retention::{self, LeftOf};
use crate::chain::{Records, Rows};
use crate::commit::{self, Entry, LogName, Role, State};
use crate::error::{Error, Kind, Result};
use crate::pipeline::positions::{self, Position};
use crate::store::Store;
use crate::zone;

/// One entry as in the log, with its digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Logged {
    /// `_system/<pipeline>/<zone>`
    pub log: String,
    pub entry: Entry,
    pub digest: String,
}

impl From<Logged> for Value {
    fn from(logged: Logged) -> Value {
        // An entry can always be written as JSON.
        let mut value = serde_json::to_value(&logged.entry).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.insert("log".into(), json!(logged.log));
            object.insert("digest".into(), json!(logged.digest));
        }
        value
    }
}

impl TryFrom<Value> for Logged {
    type Error = serde_json::Error;

    fn try_from(mut value: Value) -> Result<Logged, serde_json::Error> {
        let mut take = |key: &str| {
            let found = value.as_object_mut().and_then(|object| object.remove(key));
            serde_json::from_value(found.unwrap_or_default())
        };
        Ok(Logged {
            log: take("log")?,
            digest: take("digest")?,
            entry: serde_json::from_value(value)?,
        })
    }
}

/// Some entries, and the sums of the whole log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "LogPage")]
pub struct Page {
    /// `_system/<pipeline>/<zone>`
    pub log: String,
    /// Version of the newest entry.
    pub version: u64,
    /// Ascending; docs/log-format.md has their fields.
    #[schemars(with = "Vec<serde_json::Map<String, Value>>")]
    pub entries: Vec<Logged>,
    /// Where the next page begins; `None`: this one has the newest entry.
    pub next: Option<u64>,
    /// `before` of the page before this; `None`: this one has the first entry that is kept.
    #[serde(default)]
    pub before: Option<u64>,
    /// Entries below this version may have been forgotten (`commit.log.retention`); 0: none was.
    #[serde(default)]
    pub horizon: u64,
    pub records: Records,
    pub rows: Rows,
    /// Both ledgers close.
    pub closes: bool,
    /// User counters: transform → counter → amount.
    pub counters: BTreeMap<String, BTreeMap<String, u64>>,
    pub positions: Vec<Position>,
    /// What left the zone by its age; it is in the ledgers still.
    #[serde(default)]
    pub left: Vec<LeftOf>,
}

/// Which entries make a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// From this version upwards.
    From(u64),
    /// The newest entries below this version.
    Before(u64),
    Newest,
}

/// A page without entries: only the sums of the whole log.
pub fn sums(name: &LogName, state: &State) -> Page {
    let total = state.totals();
    Page {
        log: name.dir(),
        version: state.version,
        entries: Vec::new(),
        next: None,
        before: None,
        horizon: state.horizon,
        records: total.records,
        rows: total.rows,
        closes: total.closes(),
        counters: state.counters.clone(),
        positions: positions::all(state),
        left: retention::left(state),
    }
}

/// Adds up to `limit` entries; fewer if their stored bytes exceed [`PAGE_BYTES`], but at least one.
pub fn page(
    store: &Arc<dyn Store>,
    name: &LogName,
    sums: Page,
    which: Which,
    limit: usize,
) -> Result<Page> {
    let newest = sums.version;
    let mut reads = Reads {
        store: store.as_ref(),
        name,
        horizon: sums.horizon,
        entries: Vec::new(),
        held: 0,
        limit,
    };
    let (first, end) = match which {
        Which::From(first) => {
            let mut at = match first < reads.horizon {
                true => first.max(commit::oldest_entry(store.as_ref(), name)?),
                false => first,
            };
            while at <= newest {
                match reads.take(at)? {
                    Took::More => at += 1,
                    Took::Last => {
                        at += 1;
                        break;
                    }
                    Took::Forgotten => at = commit::oldest_entry(store.as_ref(), name)?.max(at + 1),
                }
            }
            (first, at)
        }
        Which::Before(_) | Which::Newest => {
            let end = match which {
                Which::Before(end) => end.min(newest + 1),
                _ => newest + 1,
            };
            let mut at = end;
            while at > 0 {
                match reads.take(at - 1)? {
                    Took::More => at -= 1,
                    Took::Last => {
                        at -= 1;
                        break;
                    }
                    // There is nothing before it either.
                    Took::Forgotten => {
                        at = 0;
                        break;
                    }
                }
            }
            reads.entries.reverse();
            (at, end)
        }
    };
    Ok(Page {
        entries: reads.entries,
        next: (end <= newest).then_some(end),
        before: (first > 0).then(|| first.min(newest + 1)),
        ..sums
    })
}

/// Entries of a page.
struct Reads<'a> {
    store: &'a dyn Store,
    name: &'a LogName,
    horizon: u64,
    entries: Vec<Logged>,
    held: usize,
    limit: usize,
}

enum Took {
    More,
    /// The page is full.
    Last,
    Forgotten,
}

impl Reads<'_> {
    fn take(&mut self, version: u64) -> Result<Took> {
        let path = self.name.entry(version);
        let Some(bytes) = self.store.get(&path)? else {
            // It may have been forgotten since the state was read.
            if version < self.horizon || version < commit::oldest_entry(self.store, self.name)? {
                return Ok(Took::Forgotten);
            }
            let error = Error::new(Kind::LogCorrupt, "cli.log", "an entry is missing");
            return Err(error.with("path", &path));
        };
        self.held += bytes.len();
        self.entries.push(Logged {
            log: self.name.dir(),
            entry: commit::decode(&bytes, &path)?,
            digest: commit::digest(&bytes),
        });
        Ok(
            match self.held <= PAGE_BYTES && self.entries.len() < self.limit {
                true => Took::More,
                false => Took::Last,
            },
        )
    }
}

/// The newest `last` entries over as many pages as it takes; 0: all of them.
pub fn gather(last: u64, mut get: impl FnMut(Which, u64) -> Result<Page>) -> Result<Page> {
    if last == 0 {
        let mut page = get(Which::From(0), u64::MAX)?;
        let before = page.before;
        while let Some(next) = page.next {
            let mut more = get(Which::From(next), u64::MAX)?;
            page.entries.append(&mut more.entries);
            let entries = std::mem::take(&mut page.entries);
            page = Page {
                entries,
                before,
                ..more
            };
        }
        return Ok(page);
    }
    let mut page = get(Which::Newest, last)?;
    while let Some(before) = page.before
        && (page.entries.len() as u64) < last
    {
        let older = get(Which::Before(before), last - page.entries.len() as u64)?;
        if older.entries.is_empty() {
            break;
        }
        page.entries.splice(0..0, older.entries);
        page.before = older.before;
    }
    Ok(page)
}

/// The result of reading everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    pub log: String,
    pub ok: bool,
    pub entries: u64,
    pub files: u64,
    pub bytes: u64,
    pub problems: Vec<Difference>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub version: Option<u64>,
    pub path: String,
    pub message: String,
}

/// Log, files and digests, then the rows of every live file. `None`: there is no log.
pub fn verify(store: &Arc<dyn Store>, name: &LogName) -> Result<Option<Verified>> {
    let Some(found) = commit::verify(store.as_ref(), name)? else {
        return Ok(None);
    };
    let told = |p: commit::Problem| Difference {
        version: p.version,
        path: p.path,
        message: p.message,
    };
    let mut problems: Vec<Difference> = found.problems.into_iter().map(told).collect();
    if problems.is_empty() {
        problems = verify_rows(store, name, found.state.as_ref())?;
    }
    Ok(Some(Verified {
        log: name.dir(),
        ok: problems.is_empty(),
        entries: found.entries,
        files: found.files,
        bytes: found.bytes,
        problems,
    }))
}

/// Checks rows, schemas and row digests of every live file, which sizes and checksums of bytes do not cover.
fn verify_rows(
    store: &Arc<dyn Store>,
    name: &LogName,
    state: Option<&State>,
) -> Result<Vec<Difference>> {
    let mut problems = Vec::new();
    let live = state.into_iter().flat_map(|state| state.live.values());
    for live in live.filter(|live| live.file.role != Role::Keys) {
        let wrong = zone::verify_file(store, name, &live.file)?;
        problems.extend(wrong.into_iter().map(|message| Difference {
            version: Some(live.version),
            path: live.file.path.clone(),
            message,
        }));
    }
    Ok(problems)
}
