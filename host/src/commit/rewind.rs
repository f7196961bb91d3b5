//! V8: splits go back to earlier commit boundaries ("borders"), and everything above those is taken back
//! (docs/protocol.md §8).
//!
//! The content of a rewind follows from the state and the targets alone, except for new files: they hold what remains
//! of files that straddle a target. Writer and readers compute it with the same function and compare.

use std::collections::BTreeMap;

use super::entry::{AddedFile, Entry, FileRange, Reader, Role, Span};
use super::rules::{moved, wrong};
use super::state::{Cut, LiveFile, State, Violation};
use crate::record::SplitId;

/// What going back to some targets means on one state.
#[derive(Clone, Debug, PartialEq)]
pub struct Back {
    /// Ascending by split; counts are those taken back.
    pub spans: Vec<Span>,
    /// Ids of live files with a row at or above a target, ascending.
    pub remove: Vec<String>,
    /// Those of them that have rows of other splits too.
    pub straddling: Vec<Straddling>,
    /// Readers that are set back.
    pub readers: Vec<Reader>,
}

/// A file of which some rows remain: the rows in these ranges, which go to a new file.
#[derive(Clone, Debug, PartialEq)]
pub struct Straddling {
    pub file: AddedFile,
    pub rest: Vec<FileRange>,
}

impl State {
    /// Each target must be a commit boundary of its split, below the split's `to`.
    pub fn back_to(&self, targets: &BTreeMap<SplitId, i64>) -> Result<Back, Violation> {
        let mut spans = Vec::new();
        let mut first_undone = u64::MAX;
        for (id, to) in targets {
            let split = self
                .splits
                .get(id)
                .ok_or_else(|| moved("V8", "a rewind of a split that was never opened").of(id))?;
            let border = split.border_below(*to).filter(|b| b.to == *to);
            if let Some(gone) = split.expired.to().filter(|gone| to < gone) {
                let message = format!(
                    "what was written of offsets below {gone} has expired, and cannot be taken back; the target is {to}"
                );
                return Err(moved("V8", message).of(id));
            }
            let lowest = split.lowest(self.horizon);
            let Some(border) = border.filter(|_| *to < split.to && *to >= lowest) else {
                let message = format!(
                    "expected a border of {lowest}..{} to go back to, found {to}",
                    split.to
                );
                return Err(moved("V8", message).of(id));
            };
            let undone = split.borders.iter().find(|b| b.to > *to);
            first_undone = first_undone.min(undone.map_or(u64::MAX, |b| b.version));
            let since = split.totals.since(&border.totals);
            spans.push(Span {
                split: id.clone(),
                epoch: split.epoch + 1,
                from: split.to,
                to: *to,
                lost: split.lost.saturating_sub(border.lost),
                records: since.records,
                rows: since.rows,
                dead_letters: since.dead_letters,
            });
        }
        if self.batched {
            self.check_cut(targets, first_undone)?;
        }
        let mut remove = Vec::new();
        let mut straddling = Vec::new();
        for (id, live) in &self.live {
            if let Some(rest) = rest_of(live, targets)? {
                remove.push(id.clone());
                if !rest.is_empty() {
                    let file = live.file.clone();
                    straddling.push(Straddling { file, rest });
                }
            }
        }
        Ok(Back {
            spans,
            remove,
            straddling,
            readers: self.set_back(targets)?,
        })
    }

    /// §10 B0: the row that made a batch drop a duplicate may be in any earlier batch. So all batches from the first
    /// undone one on are taken back.
    fn check_cut(&self, targets: &BTreeMap<SplitId, i64>, first: u64) -> Result<(), Violation> {
        for (id, split) in &self.splits {
            let at = targets.get(id).copied().unwrap_or(split.to);
            let batches = split.borders.iter().filter(|b| b.to > split.start);
            let stays = batches.take_while(|b| b.to <= at);
            if stays.last().is_some_and(|b| b.version >= first) {
                let message =
                    format!("the batches from version {first} on leave together, not some of them");
                return Err(moved("V8", message).of(id));
            }
        }
        Ok(())
    }

    /// Every reader above a target goes back to the last position it registered that fits.
    fn set_back(&self, targets: &BTreeMap<SplitId, i64>) -> Result<Vec<Reader>, Violation> {
        let mut back = Vec::new();
        for (name, reader) in &self.readers {
            let above = |position: &BTreeMap<SplitId, i64>| {
                targets
                    .iter()
                    .any(|(split, to)| position.get(split).is_some_and(|at| at > to))
            };
            if !above(&reader.position) {
                continue;
            }
            let cuts = self.cuts.get(name).into_iter().flatten();
            let Some(cut) = cuts.rev().find(|cut| !above(&cut.position)) else {
                let message = format!("reader {name} has no earlier position to be set back to");
                return Err(moved("V8", message));
            };
            let position = self.position_at(reader, &cut.position);
            self.check_readable("V8", name, &position)?;
            back.push(Reader {
                name: name.clone(),
                generation: reader.generation + 1,
                version: self.version + 1,
                position,
            });
        }
        Ok(back)
    }

    /// An earlier registered position of a reader; splits that it did not know then are at their start.
    pub fn position_at(
        &self,
        reader: &Reader,
        cut: &BTreeMap<SplitId, i64>,
    ) -> BTreeMap<SplitId, i64> {
        let start = |id| self.splits.get(id).map_or(0, |c| c.start());
        let splits = reader.position.keys();
        splits
            .map(|id| {
                (
                    id.clone(),
                    cut.get(id).copied().unwrap_or_else(|| start(id)),
                )
            })
            .collect()
    }

    /// V11 when a reader's owner goes back: to a position that it registered, under the next generation.
    pub(super) fn check_set_back(&self, before: &Reader, reader: &Reader) -> Result<(), Violation> {
        let mut cuts = self.cuts.get(&reader.name).into_iter().flatten();
        let at = |cut: &Cut| self.position_at(before, &cut.position);
        let registered = cuts.any(|cut| at(cut) == reader.position);
        if registered && reader.position != before.position {
            return Ok(());
        }
        Err(moved(
            "V11",
            format!(
                "reader {} is set back to a position that it did not register",
                reader.name
            ),
        ))
    }

    /// V8 of an entry.
    pub(super) fn check_rewind(&self, entry: &Entry) -> Result<(), Violation> {
        let Some(rewind) = &entry.rewind else {
            return Ok(()); // its shape was checked
        };
        if entry.spans.is_empty() && rewind.follows.is_none() {
            return Err(wrong(
                "V8",
                "a rewind that takes nothing back and follows nobody",
            ));
        }
        let targets: BTreeMap<SplitId, i64> = entry
            .spans
            .iter()
            .map(|s| (s.split.clone(), s.to))
            .collect();
        let back = self.back_to(&targets)?;
        for (expected, found) in back.spans.iter().zip(&entry.spans) {
            if expected != found {
                let message = format!("expected {expected:?}, found {found:?}");
                return Err(moved("V8", message).of(&found.split));
            }
        }
        if back.spans.len() != entry.spans.len() {
            return Err(moved("V8", "two spans of one split"));
        }
        if back.remove != entry.remove {
            let message = format!(
                "files with rows at or above the targets are {:?}, found {:?}",
                back.remove, entry.remove
            );
            return Err(moved("V8", message));
        }
        if back.readers != rewind.readers {
            let message = format!(
                "expected readers {:?}, found {:?}",
                back.readers, rewind.readers
            );
            return Err(moved("V8", message));
        }
        if let Some(found) = rewind.follows
            && found <= self.follows
        {
            let message = format!(
                "follows reader generation {} already, found {found}",
                self.follows
            );
            return Err(moved("V8", message));
        }
        check_rests(&back.straddling, &entry.add)
    }
}

/// `None`: the file stays. Otherwise its ranges that are not taken back.
fn rest_of(
    live: &LiveFile,
    targets: &BTreeMap<SplitId, i64>,
) -> Result<Option<Vec<FileRange>>, Violation> {
    let file = &live.file;
    let target = |range: &FileRange| targets.get(&range.split).copied().unwrap_or(i64::MAX);
    let (undone, rest): (Vec<&FileRange>, Vec<&FileRange>) =
        file.ranges.iter().partition(|r| r.to > target(r));
    if undone.is_empty() {
        return Ok(None);
    }
    let id = &file.id;
    if let Some(cut) = undone.iter().find(|r| r.from < target(r)) {
        let message = format!("file {id} has rows of both sides of the target");
        return Err(moved("V8", message).of(&cut.split));
    }
    if !rest.is_empty() && (file.role == Role::Keys || file.keys.is_some()) {
        return Err(moved(
            "V8",
            format!("file {id} of a batch leaves as a whole"),
        ));
    }
    Ok(Some(rest.into_iter().cloned().collect()))
}

/// Each rest replaces its file: same table and partition, same columns, exactly the rows that remain.
fn check_rests(straddling: &[Straddling], rests: &[AddedFile]) -> Result<(), Violation> {
    if straddling.len() != rests.len() {
        let message = format!(
            "{} files straddle the targets, found {} rests",
            straddling.len(),
            rests.len()
        );
        return Err(moved("V8", message));
    }
    for (Straddling { file, rest }, found) in straddling.iter().zip(rests) {
        let dir = |path: &str| path.rsplit_once('/').map(|(dir, _)| dir.to_owned());
        let rows: u64 = rest.iter().map(|r| r.rows).sum();
        let fits = found.role == file.role
            && dir(&found.path) == dir(&file.path)
            && found.partition_values == file.partition_values
            && found.schema == file.schema
            && found.keys.is_none()
            && found.ranges == *rest
            && found.rows == rows;
        if !fits {
            let message = format!(
                "file {} is not the rest of {}: expected {rest:?}, found {:?}",
                found.id, file.id, found.ranges
            );
            return Err(moved("V8", message));
        }
    }
    Ok(())
}
