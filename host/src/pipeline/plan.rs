//! What a batch reads: exact ranges of another zone's log since the last batch, cut at its versions (B1 of docs/protocol.md).
//!
//! A plan also ends where the rows begin to have other columns, so that the rows before are written even if the later
//! ones fail. Plans are cut at versions, so the winner of a key does not depend on where a batch ended (B3).

use std::collections::{BTreeMap, BTreeSet};

use crate::commit::{Open, PlanRange, Role, SplitState, State};
use crate::record::SplitId;

/// Splits whose rows are in `table` of the zone that is read: those with a file there, and those without any file yet
/// that have the table's name or no other table that they could belong to.
pub fn splits_of_table<'a>(input: &'a State, table: &str) -> Vec<(&'a SplitId, &'a SplitState)> {
    let mut tables: BTreeMap<&SplitId, BTreeSet<&str>> = BTreeMap::new();
    let mut all: BTreeSet<&str> = BTreeSet::new();
    for live in input
        .live
        .values()
        .filter(|live| live.file.role == Role::Rows)
    {
        let Some((of, _)) = live.file.path.split_once('/') else {
            continue;
        };
        all.insert(of);
        for range in &live.file.ranges {
            tables.entry(&range.split).or_default().insert(of);
        }
    }
    let only = all.iter().all(|of| *of == table);
    let belongs = |id: &SplitId, split: &SplitState| match tables.get(id) {
        Some(of) => of.contains(table),
        None => only || split.topic == table,
    };
    input
        .splits
        .iter()
        .filter(|(id, split)| belongs(id, split))
        .collect()
}

/// Splits that the reader has not opened yet; they begin where it registered, which is where the input's log began to read them,
/// or above what had expired there by then.
pub fn to_open(input: &State, own: &State, table: &str) -> Vec<Open> {
    let name = format!("{}/{}", own.init.pipeline, own.init.zone);
    let registered = input.readers.get(&name);
    let at = |id: &SplitId| registered.and_then(|reader| reader.position.get(id).copied());
    let new = splits_of_table(input, table).into_iter();
    new.filter(|(id, _)| !own.splits.contains_key(*id))
        .map(|(id, split)| Open {
            split: id.clone(),
            topic: split.topic.clone(),
            partition: split.partition,
            offset: at(id).unwrap_or_else(|| split.readable_from()),
            start: "zone".to_owned(),
        })
        .collect()
}

/// What the rows of one plan have at most, if they are of several versions.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    pub rows: u64,
    /// Of what waits on disk meanwhile, as far as files and rows tell.
    pub spilled: u64,
}

/// Rows are so much larger on disk while they wait, uncompressed and twice while runs are merged, than their files …
const SPILLED_PER_BYTE: u64 = 16;
/// … and keys and coordinates, which files hold in next to nothing, take so much of each row: twice 64 bytes.
const SPILLED_PER_ROW: u64 = 128;

/// The ranges of the next batch: everything new, or as many whole versions as have at most so much; at least one.
/// Empty: nothing is new.
pub fn next_ranges(
    input: &State,
    own: &State,
    table: &str,
    most: Most,
) -> BTreeMap<SplitId, PlanRange> {
    let splits: Vec<(&SplitId, &SplitState, i64)> = splits_of_table(input, table)
        .into_iter()
        .filter_map(|(id, split)| {
            let at = own.splits.get(id)?.to;
            (split.to > at).then_some((id, split, at))
        })
        .collect();
    let new_borders = splits.iter().flat_map(|(_, split, at)| {
        split
            .borders
            .iter()
            .filter(move |b| b.to > *at)
            .map(|b| b.version)
    });
    let versions: BTreeSet<u64> = new_borders.collect();
    let Some(mut cut) = versions.first().copied() else {
        return BTreeMap::new();
    };
    let files = new_files(input, table, &splits);
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut bytes = 0;
    for version in versions {
        let new = files.get(&version).map(|new| &new.schemas);
        let other = new.is_some_and(|new| !seen.is_empty() && !new.is_subset(&seen));
        bytes += files.get(&version).map_or(0, |new| new.bytes);
        let rows = splits.iter().map(|(_, split, at)| {
            let to = split.border_at(version).map_or(*at, |b| b.to).max(*at);
            split.rows_between(*at, to).unwrap_or(0)
        });
        let rows: u64 = rows.sum();
        let spilled = bytes * SPILLED_PER_BYTE + rows * SPILLED_PER_ROW;
        let more = spilled > most.spilled || rows > most.rows;
        if version != cut && (other || more) {
            break;
        }
        seen.extend(new.into_iter().flatten());
        cut = version;
    }
    let ranges = splits.iter().filter_map(|(id, split, from)| {
        let to = split.border_at(cut)?.to;
        (to > *from).then(|| {
            (
                (*id).clone(),
                PlanRange {
                    epoch: split.epoch,
                    from: *from,
                    to,
                },
            )
        })
    });
    ranges.collect()
}

/// Files of new rows.
#[derive(Default)]
struct NewFiles<'a> {
    schemas: BTreeSet<&'a str>,
    /// The share of the new rows.
    bytes: u64,
}

/// By the version at which each file's new rows begin.
fn new_files<'a>(
    input: &'a State,
    table: &str,
    splits: &[(&SplitId, &SplitState, i64)],
) -> BTreeMap<u64, NewFiles<'a>> {
    let mut by_version: BTreeMap<u64, NewFiles<'_>> = BTreeMap::new();
    let by_split: BTreeMap<&SplitId, (&SplitState, i64)> = splits
        .iter()
        .map(|(id, split, at)| (*id, (*split, *at)))
        .collect();
    for live in input.live.values().filter(|l| l.file.role == Role::Rows) {
        let file = &live.file;
        if file.path.split_once('/').is_none_or(|(of, _)| of != table) {
            continue;
        }
        for range in &file.ranges {
            let Some((split, at)) = by_split.get(&range.split).filter(|(_, at)| range.to > *at)
            else {
                continue;
            };
            let from = range.from.max(*at);
            if let Some(version) = split.version_of(from) {
                let new = by_version.entry(version).or_default();
                new.schemas.insert(&file.schema);
                let part = |of: u64, part: u64, whole: u64| {
                    (u128::from(of) * u128::from(part) / u128::from(whole.max(1))) as u64
                };
                let offsets = |from: i64| u64::try_from(range.to - from).unwrap_or(0);
                let rows = part(range.rows, offsets(from), offsets(range.from));
                new.bytes += part(file.bytes, rows, file.rows);
            }
        }
    }
    by_version
}
