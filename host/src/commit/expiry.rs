//! Data that leaves a zone because of its age (docs/protocol.md §9, V9): the rules, and what stays in the state of it.
//!
//! ```text
//! live ─ expire ─→ leaving ─ gc, or archived where it was to be archived ─→ removed ─ a horizon ─→ sums alone
//!                  files lie where they were        files are deleted (P2, O5)
//! ```
//! Expired rows are gone for readers of the log at once. For those that list they are there until the files are deleted.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::entry::{AddedFile, Archived, Entry, Expire, Forget, Kind, Reader, Role};
use super::rules::{moved, wrong};
use super::state::{Cut, LiveFile, RemovedFile, SplitState, State, Violation};
use crate::record::SplitId;

/// How a digest of rows begins, and how many bits its number has (docs/log-format.md).
const ROW_DIGEST: &str = "xxh3:";

/// A file whose rows have expired, and which is not deleted yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leaving {
    pub file: AddedFile,
    /// The version that added it, and the one by which it expired.
    pub added: u64,
    pub version: u64,
    /// When it expired, microseconds since 1970 UTC, by the writer's clock.
    pub time: i64,
    /// It must be archived before it is deleted.
    pub archive: bool,
}

/// What left a table by its age, from the first entry on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Left {
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
    /// Of these.
    pub archived_files: u64,
    pub archived_rows: u64,
    pub archived_bytes: u64,
    /// When the oldest and the newest of its rows were committed, microseconds since 1970 UTC.
    pub oldest: i64,
    pub newest: i64,
    /// The digest of all these rows as one multiset; empty where a file had none.
    pub row_digest: String,
}

/// Of one split: what expired of it lies below these offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiredBelow {
    /// Every row below it has expired, none above.
    pub rows_to: Option<i64>,
    /// How many rows that were.
    pub rows: u64,
    /// Some dead letter below it has expired, none above.
    pub dead_letters_to: Option<i64>,
}

impl ExpiredBelow {
    pub(super) fn is_nothing(&self) -> bool {
        *self == ExpiredBelow::default()
    }

    /// No rewind goes below it.
    pub fn to(&self) -> Option<i64> {
        self.rows_to.max(self.dead_letters_to)
    }
}

impl SplitState {
    /// Where reading this split can begin: at its start, or above what has expired.
    pub fn readable_from(&self) -> i64 {
        self.expired
            .rows_to
            .map_or(self.start, |to| to.max(self.start))
    }
}

/// A checkpoint that was written before times were kept is what its entries say all the same.
impl PartialEq for LiveFile {
    fn eq(&self, other: &LiveFile) -> bool {
        let times =
            self.time == 0 || other.time == 0 || (self.time, self.made) == (other.time, other.made);
        times && self.version == other.version && self.file == other.file
    }
}

impl LiveFile {
    /// The version that committed the newest of its rows: that which added it, unless the file took the place of others.
    pub fn rows_at(&self) -> u64 {
        self.made.unwrap_or(self.version)
    }

    /// When that was, microseconds since 1970 UTC, by the writer's clock. Of entries that were folded before this was kept: when
    /// the file was begun.
    pub fn time(&self) -> i64 {
        if self.time != 0 {
            return self.time;
        }
        let begun = ulid::Ulid::from_string(&self.file.id).map_or(0, |id| id.timestamp_ms());
        i64::try_from(begun)
            .unwrap_or(i64::MAX)
            .saturating_mul(1000)
    }
}

/// The first part of a file's path.
pub(super) fn table_of(path: &str) -> &str {
    path.split_once('/').map_or(path, |(table, _)| table)
}

/// A reader that has not read all of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needs<'a> {
    pub reader: &'a str,
    pub split: &'a SplitId,
    /// Where it stands; `None`: it has not registered this split yet.
    pub at: Option<i64>,
}

/// The readers of a log, and the tables that each reads.
#[derive(Debug)]
pub struct Reading<'a> {
    state: &'a State,
    /// Of each reader, the tables with rows of splits that it has registered; found when a split is met that it has not.
    tables: OnceCell<BTreeMap<&'a str, BTreeSet<&'a str>>>,
}

impl<'a> Reading<'a> {
    /// Who has not read all rows of this file; `None`: all have.
    pub fn needed_by(&self, file: &'a AddedFile) -> Option<Needs<'a>> {
        let mut readers = self.state.readers.values();
        readers.find_map(|reader| self.needed_by_one(reader, file))
    }

    /// Whether this reader has not read all of it. Dead letters and keys are read by no reader.
    pub fn needed_by_one(&self, reader: &'a Reader, file: &'a AddedFile) -> Option<Needs<'a>> {
        if file.role != Role::Rows {
            return None;
        }
        file.ranges.iter().find_map(|range| {
            let at = reader.position.get(&range.split).copied();
            let needs = match at {
                Some(at) => at < range.to,
                None => self.reads(reader, file, &range.split),
            };
            needs.then_some(Needs {
                reader: &reader.name,
                split: &range.split,
                at,
            })
        })
    }

    /// Whether a reader reads the table of this file, as far as its registered splits tell. Tables are named by topics, or
    /// there is one for all.
    fn reads(&self, reader: &Reader, file: &AddedFile, split: &SplitId) -> bool {
        let splits = &self.state.splits;
        let topic = |id: &SplitId| splits.get(id).map(|split| split.topic.as_str());
        let (table, own) = (table_of(&file.path), topic(split));
        let mut named = reader.position.keys().map(topic);
        if reader.position.is_empty() || own != Some(table) || named.any(|of| of == own) {
            return true;
        }
        let tables = self.tables.get_or_init(|| self.state.tables_of_readers());
        let of = tables.get(reader.name.as_str());
        of.is_some_and(|tables| tables.contains(table))
    }
}

impl State {
    /// The tables with rows of splits that each reader has registered.
    fn tables_of_readers(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut tables: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let rows = self.live.values().map(|live| &live.file);
        for file in rows.filter(|file| file.role == Role::Rows) {
            for (name, reader) in &self.readers {
                let mut ranges = file.ranges.iter();
                if ranges.any(|range| reader.position.contains_key(&range.split)) {
                    tables.entry(name).or_default().insert(table_of(&file.path));
                }
            }
        }
        tables
    }

    /// The readers of one of these tables, as far as it is known which they read.
    pub fn readers_of(&self, tables: &BTreeSet<String>) -> Vec<&str> {
        let of = self.tables_of_readers();
        let reads = |name: &&str| {
            let known = of.get(name);
            known.is_none_or(|known| known.iter().any(|table| tables.contains(*table)))
        };
        self.readers
            .keys()
            .map(String::as_str)
            .filter(reads)
            .collect()
    }

    /// Whether a file has its final name, or gets it: it is live, or has expired and is not to be deleted yet.
    pub(super) fn has_name(&self, id: &str) -> bool {
        self.live.contains_key(id) || self.leaving.contains_key(id)
    }

    /// Who reads what, to ask of many files.
    pub fn reading(&self) -> Reading<'_> {
        Reading {
            state: self,
            tables: OnceCell::new(),
        }
    }

    /// The position that a reader of this log can still be set back to at most: the newest one that it registered and that lies
    /// at or below whatever a rewind may go back to. `None`: it has registered none.
    pub fn lowest_cut(&self, reader: &str) -> Option<&BTreeMap<SplitId, i64>> {
        let lowest = |id: &SplitId| {
            let split = self.splits.get(id)?;
            split.expired.to().max(Some(split.lowest(self.horizon)))
        };
        let cuts = self.cuts.get(reader)?;
        let fits = |cut: &&Cut| {
            let mut position = cut.position.iter();
            position.all(|(id, at)| lowest(id).is_none_or(|lowest| *at <= lowest))
        };
        let found = cuts.iter().rev().find(fits).or_else(|| cuts.first());
        found.map(|cut| &cut.position)
    }

    /// V9.
    pub(super) fn check_expire(&self, entry: &Entry) -> Result<(), Violation> {
        let ids: BTreeSet<&String> = entry.remove.iter().collect();
        if ids.len() != entry.remove.len() {
            return Err(wrong("§2", "a file expires twice"));
        }
        let mut rows_to: BTreeMap<&SplitId, i64> = BTreeMap::new();
        let reading = self.reading();
        let leave = entry.remove.iter().filter_map(|id| self.live.get(id));
        let keys: BTreeSet<&String> = leave.filter_map(|live| live.file.keys.as_ref()).collect();
        for id in &entry.remove {
            let Some(LiveFile { file, .. }) = self.live.get(id) else {
                continue; // checked: V5
            };
            let apart = match file.role {
                Role::Keys => !keys.contains(&file.id),
                _ => file.keys.as_ref().is_some_and(|keys| !ids.contains(keys)),
            };
            if apart {
                let message = format!("{} expires without its other part", file.path);
                return Err(moved("V9", message));
            }
            if let Some(needs) = reading.needed_by(file) {
                let (reader, split) = (needs.reader, needs.split.clone());
                let at = needs.at.map_or_else(
                    || "has not registered this split".to_owned(),
                    |at| format!("stands at {at}"),
                );
                let message = format!("reader {reader} {at} and has not read all of {}", file.path);
                return Err(moved("V9", message).of(&split));
            }
            if file.role == Role::Rows {
                for range in &file.ranges {
                    let to = rows_to.entry(&range.split).or_insert(range.to);
                    *to = range.to.max(*to);
                }
            }
        }
        let stay = self.live.iter().filter(|(id, _)| !ids.contains(id));
        let stay = stay.filter(|(_, live)| live.file.role == Role::Rows);
        for (_, live) in stay {
            for range in &live.file.ranges {
                if rows_to.get(&range.split).is_some_and(|to| range.from < *to) {
                    let message = format!("{} stays, and has older rows", live.file.path);
                    return Err(moved("V9", message).of(&range.split));
                }
            }
        }
        Ok(())
    }

    /// V9 of a file that was archived.
    pub(super) fn check_archived(&self, archived: &Archived) -> Result<(), Violation> {
        let Archived { id, copy, digest } = archived;
        let Some(leaving) = self.leaving.get(id) else {
            return Err(moved("V9", format!("archived file {id} has not expired")));
        };
        if leaving.file.role == Role::Keys || copy.is_empty() || *digest != leaving.file.digest {
            let expected = &leaving.file.digest;
            let message = format!(
                "expected a copy of {id} somewhere with digest {expected}, found {digest} in `{copy}`"
            );
            return Err(wrong("V9", message));
        }
        Ok(())
    }

    /// V6 of a file that has expired; keys go with their rows.
    pub(super) fn check_released(&self, id: &str) -> Result<(), Violation> {
        match self.leaving.get(id) {
            Some(leaving) if leaving.archive => Err(moved(
                "V6",
                format!("collected file {id} is to be archived before it is deleted"),
            )),
            Some(leaving) if leaving.file.role == Role::Keys => {
                Err(moved("V6", format!("keys {id} leave with their rows")))
            }
            _ => Ok(()),
        }
    }

    /// V11 of a reader that never comes back.
    pub(super) fn check_forget(&self, forget: &Forget) -> Result<(), Violation> {
        match self.readers.get(&forget.reader) {
            Some(reader) if reader.generation == forget.generation => Ok(()),
            Some(reader) => Err(moved(
                "V11",
                format!(
                    "reader {} is of generation {}, found {}",
                    forget.reader, reader.generation, forget.generation
                ),
            )),
            None => Err(moved(
                "V11",
                format!("there is no reader {}", forget.reader),
            )),
        }
    }

    /// V8, V11: nobody begins to read where rows have expired.
    pub fn check_readable(
        &self,
        rule: &'static str,
        name: &str,
        position: &BTreeMap<SplitId, i64>,
    ) -> Result<(), Violation> {
        for (id, at) in position {
            let from = self.splits.get(id).map(SplitState::readable_from);
            if let Some(from) = from.filter(|from| at < from) {
                let message =
                    format!("reader {name} at {at}: the rows below offset {from} have expired");
                return Err(moved(rule, message).of(id));
            }
        }
        Ok(())
    }

    /// Files that leave by their age.
    pub(super) fn fold_expire(&mut self, entry: &Entry, expire: &Expire) {
        for id in &entry.remove {
            let Some(live) = self.live.remove(id) else {
                continue;
            };
            self.count_left(&live);
            self.splits_leave(&live.file);
            let leaving = Leaving {
                file: live.file,
                added: live.version,
                version: entry.version,
                time: entry.time,
                archive: expire.archive,
            };
            self.leaving.insert(id.clone(), leaving);
        }
    }

    fn splits_leave(&mut self, file: &AddedFile) {
        for range in &file.ranges {
            let Some(split) = self.splits.get_mut(&range.split) else {
                continue;
            };
            let expired = &mut split.expired;
            match file.role {
                Role::Rows => {
                    expired.rows += range.rows;
                    expired.rows_to = expired.rows_to.max(Some(range.to));
                }
                Role::DeadLetters => {
                    expired.dead_letters_to = expired.dead_letters_to.max(Some(range.to));
                }
                Role::Keys => {}
            }
        }
    }

    fn count_left(&mut self, live: &LiveFile) {
        let (file, time) = (&live.file, live.time());
        if file.role == Role::Keys {
            return;
        }
        let table = table_of(&file.path).to_owned();
        let left = self.left.entry(table).or_insert_with(|| Left {
            oldest: time,
            newest: time,
            row_digest: format!("{ROW_DIGEST}{:032x}", 0),
            ..Left::default()
        });
        left.files += 1;
        left.rows += file.rows;
        left.bytes += file.bytes;
        left.oldest = left.oldest.min(time);
        left.newest = left.newest.max(time);
        left.row_digest = match (number(&left.row_digest), number(&file.row_digest)) {
            (Some(a), Some(b)) => format!("{ROW_DIGEST}{:032x}", a.wrapping_add(b)),
            _ => String::new(),
        };
    }

    /// They may be deleted: `gc` and `archived` of files that expired.
    pub(super) fn fold_released(&mut self, entry: &Entry) {
        let archived = entry.archived.iter().map(|archived| &archived.id);
        for id in entry.gc.iter().chain(archived) {
            let Some(leaving) = self.leaving.remove(id) else {
                continue;
            };
            if entry.kind == Kind::Archived {
                let table = table_of(&leaving.file.path).to_owned();
                let left = self.left.entry(table).or_default();
                left.archived_files += 1;
                left.archived_rows += leaving.file.rows;
                left.archived_bytes += leaving.file.bytes;
            }
            let keys = leaving.file.keys.clone();
            self.may_be_deleted(id.clone(), leaving, entry.version);
            if let Some((keys, leaving)) = keys.and_then(|keys| self.leaving.remove_entry(&keys)) {
                self.may_be_deleted(keys, leaving, entry.version);
            }
        }
    }

    fn may_be_deleted(&mut self, id: String, leaving: Leaving, version: u64) {
        let removed = RemovedFile {
            seal: leaving.file.seal(),
            path: leaving.file.path,
            added: leaving.added,
            version,
            expired: true,
        };
        self.removed.insert(id, removed);
        self.deletable_at = version;
    }

    pub(super) fn fold_forget(&mut self, forget: &Forget) {
        self.readers.remove(&forget.reader);
        self.cuts.remove(&forget.reader);
    }

    /// The version that committed the newest rows of a file which takes the place of others, and when: those of the youngest one
    /// that leaves the same directory. `None`: it takes no other's place.
    pub(super) fn takes_place_of(&self, entry: &Entry, file: &AddedFile) -> Option<(u64, i64)> {
        let dir = |path: &str| path.rsplit_once('/').map(|(dir, _)| dir.to_owned());
        let own = dir(&file.path);
        let left = entry.remove.iter().filter_map(|id| self.live.get(id));
        let same = left.filter(|l| l.file.role == file.role && dir(&l.file.path) == own);
        same.map(|live| (live.rows_at(), live.time())).max()
    }
}

/// The number of a digest of rows.
fn number(digest: &str) -> Option<u128> {
    u128::from_str_radix(digest.strip_prefix(ROW_DIGEST)?, 16).ok()
}
