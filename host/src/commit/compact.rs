//! Compaction: files become fewer, their rows stay (docs/protocol.md §9, V7, V14).
//!
//! The inputs lie at or below the horizon, so no rewind meets a file with rows of several commits: it goes back to borders
//! above all of their rows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Log;
use super::entry::{AddedFile, Entry, Role};
use super::rules::{moved, wrong};
use super::state::{LiveFile, State, Violation};
use super::write::Limits;
use crate::record::SplitId;

type Check = Result<(), Violation>;

/// Prefix of the text of a row digest; what follows is a number of 128 bits, and the digests of files add up.
const DIGEST: &str = "xxh3:";

/// What files of one kind add up to.
#[derive(Default, PartialEq, Eq)]
struct Sums {
    /// Split → (lowest offset, end, rows).
    ranges: BTreeMap<SplitId, (i64, i64, u64)>,
    rows: u64,
    digest: u128,
}

impl Sums {
    fn of<'a>(files: impl Iterator<Item = &'a AddedFile>) -> Result<Sums, Violation> {
        let mut sums = Sums::default();
        for file in files {
            let text = file.row_digest.strip_prefix(DIGEST);
            let digest = text.and_then(|hex| u128::from_str_radix(hex, 16).ok());
            let digest = digest.ok_or_else(|| {
                let message = format!("file {} has no row digest that adds up", file.id);
                wrong("V7", message)
            })?;
            let ranges: u64 = file.ranges.iter().map(|range| range.rows).sum();
            if file.role != Role::Keys && (ranges != file.rows || ranges == 0) {
                let message = format!(
                    "file {} has {} rows, its ranges have {ranges}",
                    file.id, file.rows
                );
                return Err(wrong("V7", message));
            }
            sums.rows += file.rows;
            sums.digest = sums.digest.wrapping_add(digest);
            for range in &file.ranges {
                let of = sums.ranges.entry(range.split.clone());
                let (from, to, rows) = of.or_insert((range.from, range.to, 0));
                *from = range.from.min(*from);
                *to = range.to.max(*to);
                *rows += range.rows;
            }
        }
        Ok(sums)
    }
}

/// What all files of one compaction have in common.
pub fn place_of(file: &AddedFile) -> (&str, &str, Role, &str) {
    let (dir, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
    // A bucketed file carries its bucket behind its id.
    let tail = name.split_once('.').map_or("", |(_, tail)| tail);
    (dir, tail, file.role, &file.schema)
}

impl State {
    /// V7 and V14 of a `compact` entry; that what it removes is live (V5) and what it adds is new (V4) is checked too.
    pub(super) fn check_compact(&self, entry: &Entry) -> Check {
        let mut inputs: Vec<&LiveFile> = Vec::new();
        let mut seen = BTreeSet::new();
        for id in &entry.remove {
            if !seen.insert(id) {
                return Err(wrong("V14", format!("file {id} is removed twice")));
            }
            let live = self.live.get(id);
            inputs.push(live.ok_or_else(|| moved("V5", format!("removed file {id} is not live")))?);
        }
        let (keys, rows): (Vec<&LiveFile>, Vec<&LiveFile>) = inputs
            .into_iter()
            .partition(|live| live.file.role == Role::Keys);
        let (new_keys, new_rows): (Vec<&AddedFile>, Vec<&AddedFile>) =
            entry.add.iter().partition(|file| file.role == Role::Keys);
        let Some(first) = rows.first() else {
            return Err(wrong("V14", "a compaction without inputs"));
        };
        for live in &rows {
            if live.version > self.horizon {
                let message = format!(
                    "file {} was added at version {}, the horizon is {}",
                    live.file.id, live.version, self.horizon
                );
                return Err(moved("V14", message));
            }
        }
        let all = rows.iter().map(|live| &live.file);
        for file in all.clone().chain(new_rows.iter().copied()) {
            let same = place_of(file) == place_of(&first.file)
                && file.partition_values == first.file.partition_values
                && file.keys.is_some() == first.file.keys.is_some();
            if !same {
                let message = format!(
                    "files {} and {} differ in directory, role, schema or partition",
                    first.file.path, file.path
                );
                return Err(wrong("V14", message));
            }
        }
        let (before, after) = (Sums::of(all)?, Sums::of(new_rows.iter().copied())?);
        if before.ranges != after.ranges || before.digest != after.digest {
            let message = format!(
                "{} rows are removed, {} are added, and they are not the same",
                before.rows, after.rows
            );
            return Err(wrong("V7", message));
        }
        let old = (rows.iter().map(|l| &l.file), keys.iter().map(|l| &l.file));
        let new = (new_rows.iter().copied(), new_keys.iter().copied());
        check_keys(old.0, old.1, new.0, new.1)
    }
}

/// Each rows file has its sidecar beside it, before and after, and the keys are the same.
fn check_keys<'a>(
    rows: impl Iterator<Item = &'a AddedFile>,
    keys: impl Iterator<Item = &'a AddedFile> + Clone,
    new_rows: impl Iterator<Item = &'a AddedFile> + Clone,
    new_keys: impl Iterator<Item = &'a AddedFile> + Clone,
) -> Check {
    fn ids<'a>(files: impl Iterator<Item = &'a AddedFile>) -> BTreeSet<&'a str> {
        files.map(|file| file.id.as_str()).collect()
    }
    fn named<'a>(files: impl Iterator<Item = &'a AddedFile>) -> BTreeSet<&'a str> {
        files.filter_map(|file| file.keys.as_deref()).collect()
    }
    let (before, after) = (ids(keys.clone()), ids(new_keys.clone()));
    if before != named(rows) || after != named(new_rows.clone()) {
        return Err(wrong("V14", "a sidecar goes and comes with its rows file"));
    }
    for rows in new_rows.filter(|rows| rows.keys.is_some()) {
        let mut own = new_keys
            .clone()
            .filter(|keys| rows.keys.as_ref() == Some(&keys.id));
        if own.any(|keys| keys.ranges != rows.ranges) {
            let message = format!("the keys of {} have other ranges than its rows", rows.path);
            return Err(wrong("V14", message));
        }
    }
    let (before, after) = (Sums::of(keys)?, Sums::of(new_keys)?);
    if before.ranges != after.ranges {
        let message = "the keys that are removed and those that are added have different ranges";
        return Err(wrong("V14", message.to_owned()));
    }
    if (before.rows, before.digest) != (after.rows, after.digest) {
        let message = format!(
            "{} keys are removed, {} are added, and they are not the same",
            before.rows, after.rows
        );
        return Err(wrong("V7", message));
    }
    Ok(())
}

/// Why the log cannot forget what is old enough: nothing above that may be compacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    pub reader: String,
    /// It has not read what this version settled.
    pub needs: u64,
}

impl State {
    /// Readers that have something left to read, the one furthest back first.
    pub fn holders(&self) -> Vec<Behind> {
        let readers = self.readers.iter().filter_map(|(name, reader)| {
            Some(Behind {
                reader: name.clone(),
                needs: self.needed_from(&reader.position)?,
            })
        });
        let mut holders: Vec<Behind> = readers.collect();
        holders.sort_by(|a, b| (a.needs, &a.reader).cmp(&(b.needs, &b.reader)));
        holders
    }
}

impl Log {
    /// Microseconds since 1970 UTC, by the log's clock.
    pub fn now_micros(&self) -> i64 {
        self.clock.now_micros()
    }

    pub fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// As [`Log::forgettable`], but as soon as it rises by one version: before a compaction, which takes what lies below.
    pub fn forgettable_now(&self, held: Option<&BTreeMap<SplitId, i64>>) -> Option<u64> {
        if !self.undeleted.is_empty() {
            return None;
        }
        let limits = Limits {
            horizon_step: 1,
            ..self.limits
        };
        let now = self.clock.now_micros();
        self.state.next_horizon(now, &limits, held)
    }
}
