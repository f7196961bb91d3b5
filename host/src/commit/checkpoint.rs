//! Checkpoints: the state after one version, so that a start need not read the log from its beginning (docs/protocol.md §9).
//!
//! ```text
//! checkpoint/<20 digits>.json     root: the state without files and commit boundaries, and the manifests that have them
//! manifest/<sha256>.json.zst      files and boundaries of a block of versions; checkpoints share those that did not change
//! ```
//! A checkpoint is written only at a proved version, and only when every publish and removal up to it is done (P4);
//! deliveries stay in the state until a horizon passes them (V13). It is never changed. There is no hint to the newest
//! one: readers list.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::entry::FORMAT;
use super::expiry::Leaving;
use super::log::version_of;
use super::state::{CommitBoundary, LiveFile, RemovedFile, State};
use super::{Log, LogName, file};
use crate::error::{Error, Kind, Result};
use crate::record::SplitId;
use crate::store::Store;

/// Versions of a block, for the newest ones and for all before. A block of the newest is written anew with each
/// checkpoint, so it is small; the others are many, so each is large.
const BLOCK: u64 = 256;
const LARGE_BLOCK: u64 = 16 * BLOCK;

/// Checkpoints that are kept. The one before the newest is for readers that have listed it, and for the case that the
/// newest is damaged.
const KEPT: usize = 2;

/// Deletes of one pass, so that a committer never stands still for long: an old log gets short over some passes.
const EXPIRED_AT_ONCE: usize = 100;

/// A list of checkpoints may be overtaken by the process that shortens the log. So often in a row it is not.
const LISTS_MAX: usize = 5;

/// Bytes of a manifest when unpacked, at most. A block of one file per version has some 4 MB.
const MANIFEST_MAX: usize = 1 << 30;

const ZSTD_LEVEL: i32 = 1;

const OP: &str = "log.checkpoint";

/// What is stored as `checkpoint/<version>.json`.
#[derive(Serialize, Deserialize)]
struct Root<S> {
    format: u32,
    state: S,
    manifests: Vec<Manifest>,
}

/// The part of a root that says which manifests are needed.
#[derive(Deserialize)]
struct Names {
    format: u32,
    manifests: Vec<Manifest>,
}

/// Names the manifest of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    /// sha256 of its bytes before they are packed; hex.
    id: String,
    /// Its first version, and how many versions it has.
    from: u64,
    versions: u64,
    files: usize,
    boundaries: usize,
    #[serde(default)]
    leaving: usize,
    #[serde(default)]
    removed: usize,
}

/// Files and boundaries of the versions of a block, and files that expired or left with these versions. All only ever get fewer
/// once the log has passed the block, so as many as before are the same as before.
#[derive(Default, Serialize)]
struct Block<'a> {
    /// Version of the checkpoint for which it was written: a manifest that was deleted never comes back under its name.
    written: u64,
    files: Vec<&'a LiveFile>,
    boundaries: BTreeMap<&'a SplitId, Vec<&'a CommitBoundary>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    leaving: Vec<&'a Leaving>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    removed: BTreeMap<&'a String, &'a RemovedFile>,
}

#[derive(Deserialize)]
struct ReadBlock {
    files: Vec<LiveFile>,
    boundaries: BTreeMap<SplitId, Vec<CommitBoundary>>,
    #[serde(default)]
    leaving: Vec<Leaving>,
    #[serde(default)]
    removed: BTreeMap<String, RemovedFile>,
}

/// What this process knows of the log's checkpoints.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The newest that was read or written here.
    pub version: Option<u64>,
    manifests: Vec<Manifest>,
    /// All entries below this version were deleted. `None`: not looked yet.
    expired: Option<u64>,
}

impl LogName {
    pub fn checkpoint_dir(&self) -> String {
        format!("_system/{self}/checkpoint")
    }

    pub fn checkpoint(&self, version: u64) -> String {
        format!("_system/{self}/checkpoint/{version:020}.json")
    }

    fn manifest(&self, id: &str) -> String {
        format!("_system/{self}/manifest/{id}.json.zst")
    }
}

/// Versions with a checkpoint, the newest first.
pub(super) fn listed(store: &dyn Store, name: &LogName) -> Result<Vec<u64>> {
    let listed = store.list(&name.checkpoint_dir())?;
    let mut versions: Vec<u64> = listed.iter().filter_map(|l| version_of(&l.path)).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    Ok(versions)
}

/// Whether there is such a log.
pub fn exists(store: &dyn Store, name: &LogName) -> Result<bool> {
    Ok(store.size(&name.entry(0))?.is_some() || !listed(store, name)?.is_empty())
}

/// `sha256:…` of the log's first entry, which names the log for good. `None`: there is no log.
pub fn first_digest(store: &dyn Store, name: &LogName) -> Result<Option<String>> {
    // What lies at 0 of a log that was shortened is not its first entry.
    Ok(super::log::first_state(store, name)?.map(|(state, _)| state.first))
}

/// What a look for checkpoints finds.
pub(super) enum Newest {
    None,
    Found(Box<(State, Known)>),
    /// None of those that are there can be used.
    Damaged(Error),
}

/// R1: the state of the newest checkpoint, proved by the entry of its version.
pub(super) fn newest(store: &dyn Store, name: &LogName) -> Result<Newest> {
    let mut damage = None;
    for list in 1..=LISTS_MAX {
        let versions = listed(store, name)?;
        if versions.is_empty() {
            return Ok(Newest::None);
        }
        for version in versions {
            match read(store, name, version)? {
                Found::Whole(found) => {
                    if let Some(error) = damage {
                        tracing::warn!(log = %name, %error, version, "a checkpoint cannot be used; the one before it is");
                    }
                    return Ok(Newest::Found(found));
                }
                // The log was shortened since it was listed.
                Found::Gone(_) if list < LISTS_MAX => break,
                Found::Gone(error) | Found::Damaged(error) => damage = damage.or(Some(error)),
            }
        }
    }
    let damage = damage.unwrap_or_else(|| corrupt(name, 0, "it changes all the time"));
    Ok(Newest::Damaged(damage))
}

/// The oldest checkpoint that can be used, for the offline check.
pub(super) struct Oldest {
    pub state: Option<State>,
    /// Versions of those after it.
    pub later: Vec<u64>,
    /// Those before it, and what is wrong with them.
    pub damaged: Vec<(u64, Error)>,
}

pub(super) fn oldest(store: &dyn Store, name: &LogName) -> Result<Oldest> {
    let (mut later, mut damaged, mut state) = (listed(store, name)?, Vec::new(), None);
    while let Some(version) = later.pop() {
        match read(store, name, version)? {
            Found::Whole(found) => {
                state = Some(found.0);
                break;
            }
            Found::Gone(error) | Found::Damaged(error) => damaged.push((version, error)),
        }
    }
    Ok(Oldest {
        state,
        later,
        damaged,
    })
}

/// Why the checkpoint of this version is not this state; `None`: it is.
pub(super) fn differs(store: &dyn Store, name: &LogName, state: &State) -> Result<Option<String>> {
    Ok(match read(store, name, state.version)? {
        Found::Whole(found) if found.0 == *state => None,
        Found::Whole(_) => Some("it is not what its entries say".to_owned()),
        Found::Gone(error) | Found::Damaged(error) => Some(error.to_string()),
    })
}

enum Found {
    Whole(Box<(State, Known)>),
    /// Some part of it is not there.
    Gone(Error),
    Damaged(Error),
}

/// An `Err` is the store's, or names a format that this version does not know.
fn read(store: &dyn Store, name: &LogName, version: u64) -> Result<Found> {
    let path = name.checkpoint(version);
    let Some(bytes) = store.get(&path)? else {
        return Ok(Found::Gone(corrupt(name, version, "it is not there")));
    };
    let root: Root<State> = match decode(&bytes, &path)? {
        Ok(root) => root,
        Err(error) => return Ok(Found::Damaged(error)),
    };
    let mut state = root.state;
    let Some(entry) = store.get(&name.entry(version))? else {
        return Ok(Found::Gone(corrupt(
            name,
            version,
            "its entry is not there",
        )));
    };
    if state.version != version || file::digest(&entry) != state.digest {
        let error = corrupt(
            name,
            version,
            "it is not the state of the entry of its version",
        );
        return Ok(Found::Damaged(error));
    }
    let paths: Vec<String> = root
        .manifests
        .iter()
        .map(|m| name.manifest(&m.id))
        .collect();
    for (manifest, bytes) in root.manifests.iter().zip(store.get_many(&paths)?) {
        let Some(bytes) = bytes else {
            return Ok(Found::Gone(corrupt(
                name,
                version,
                "a manifest of it is not there",
            )));
        };
        match unpack(&bytes, &manifest.id) {
            Some(block) => block.fill(&mut state),
            None => {
                return Ok(Found::Damaged(corrupt(
                    name,
                    version,
                    "a manifest of it is damaged",
                )));
            }
        }
    }
    let known = Known {
        version: Some(version),
        manifests: root.manifests,
        expired: None,
    };
    Ok(Found::Whole(Box::new((state, known))))
}

/// The outer error: another format.
fn decode(bytes: &[u8], path: &str) -> Result<Result<Root<State>>> {
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let not_one = |e| {
        Error::new(Kind::LogCorrupt, OP, "this is not a checkpoint")
            .with("checkpoint", path)
            .source(e)
    };
    match serde_json::from_slice::<Head>(bytes) {
        Ok(head) if head.format != FORMAT => Err(file::other_format(head.format, path)),
        Ok(_) => Ok(serde_json::from_slice(bytes).map_err(not_one)),
        Err(e) => Ok(Err(not_one(e))),
    }
}

fn unpack(bytes: &[u8], id: &str) -> Option<ReadBlock> {
    let plain = zstd::bulk::decompress(bytes, zstd_size(bytes)?).ok()?;
    let digest = file::digest(&plain);
    if digest.trim_start_matches("sha256:") != id {
        return None;
    }
    serde_json::from_slice(&plain).ok()
}

/// What it has unpacked, as its head says.
fn zstd_size(bytes: &[u8]) -> Option<usize> {
    let size = zstd::bulk::Decompressor::upper_bound(bytes)?;
    (size <= MANIFEST_MAX).then_some(size)
}

impl ReadBlock {
    /// Blocks come in the order of their versions, so boundaries are ascending.
    fn fill(self, state: &mut State) {
        for live in self.files {
            state.live.insert(live.file.id.clone(), live);
        }
        for (id, boundaries) in self.boundaries {
            if let Some(split) = state.splits.get_mut(&id) {
                split.borders.extend(boundaries);
            }
        }
        for leaving in self.leaving {
            state.leaving.insert(leaving.file.id.clone(), leaving);
        }
        state.removed.extend(self.removed);
    }
}

/// The block of a version in a checkpoint at version `at`: its first version, and how many it has.
fn block_of(version: u64, at: u64) -> (u64, u64) {
    match version / LARGE_BLOCK < at / LARGE_BLOCK {
        true => (version / LARGE_BLOCK * LARGE_BLOCK, LARGE_BLOCK),
        false => (version / BLOCK * BLOCK, BLOCK),
    }
}

fn blocks(state: &State) -> BTreeMap<(u64, u64), Block<'_>> {
    let mut blocks: BTreeMap<(u64, u64), Block<'_>> = BTreeMap::new();
    let at = state.version;
    for live in state.live.values() {
        let block = blocks.entry(block_of(live.version, at)).or_default();
        block.files.push(live);
    }
    for leaving in state.leaving.values() {
        let block = blocks.entry(block_of(leaving.version, at)).or_default();
        block.leaving.push(leaving);
    }
    for (id, removed) in &state.removed {
        let block = blocks.entry(block_of(removed.version, at)).or_default();
        block.removed.insert(id, removed);
    }
    for (id, split) in &state.splits {
        for boundary in &split.borders {
            let block = blocks.entry(block_of(boundary.version, at)).or_default();
            block.boundaries.entry(id).or_default().push(boundary);
        }
    }
    blocks
}

impl Log {
    /// Writes a checkpoint if the last one is some versions old, deletes older ones, and entries that nobody needs. A fault
    /// here is no fault of the log: it is tried again with the next entry.
    pub fn checkpoint_if_due(&mut self) {
        let last = self
            .known
            .version
            .map_or(0, |version| version + self.limits.checkpoint_every);
        let first = self.limits.checkpoint_every;
        // P4: what cannot be deleted was said.
        if self.state.version < last.max(first) || self.unsettled() || !self.undeleted.is_empty() {
            return;
        }
        if let Err(error) = self.checkpoint() {
            tracing::warn!(log = %self.name, %error, "no checkpoint was written; it is tried again with the next entry");
        }
    }

    /// Writes the checkpoint of the proved version; then what it replaces is deleted.
    ///
    /// # Errors
    /// Those of the store; the log is as it was, or shorter.
    pub fn checkpoint(&mut self) -> Result<()> {
        // P4: what was committed while this was redone is not in this checkpoint.
        let mut at = self.state.version;
        loop {
            self.redo()?;
            if std::mem::replace(&mut at, self.state.version) == self.state.version {
                break;
            }
        }
        if !self.undeleted.is_empty() {
            let message = "files that expired are not deleted yet";
            return Err(Error::new(Kind::StoreUnavailable, OP, message).with("log", &self.name));
        }
        self.known.manifests = self.write_manifests()?;
        self.known.version = None;
        let root = Root {
            format: FORMAT,
            state: &*self.state,
            manifests: self.known.manifests.clone(),
        };
        let bytes = serde_json::to_vec(&root).map_err(|e| {
            Error::new(Kind::Bug, OP, "a checkpoint cannot be written as JSON").source(e)
        })?;
        let path = self.name.checkpoint(at);
        self.store.create(&path, &bytes)?;
        // Another process may have written one of this version, with manifests of its own.
        let stored = self.store.get(&path)?.unwrap_or_default();
        if stored != bytes {
            let stored = decode(&stored, &path)??;
            if stored.state.digest != self.state.digest {
                return Err(corrupt(&self.name, at, "it is not of this log"));
            }
            self.known.manifests = stored.manifests;
        }
        self.known.version = Some(at);
        self.shorten()
    }

    fn write_manifests(&self) -> Result<Vec<Manifest>> {
        let mut manifests = Vec::new();
        let open = self.known.version.unwrap_or(0) / BLOCK * BLOCK;
        for ((from, versions), block) in blocks(&self.state) {
            let boundaries = block.boundaries.values().map(Vec::len).sum();
            let files = block.files.len();
            let (leaving, removed) = (block.leaving.len(), block.removed.len());
            let same = |m: &&Manifest| {
                (m.from, m.versions) == (from, versions)
                    && (m.files, m.boundaries) == (files, boundaries)
                    && (m.leaving, m.removed) == (leaving, removed)
            };
            let before = self.known.manifests.iter().find(same);
            if let Some(before) = before.filter(|_| from + versions <= open) {
                manifests.push(before.clone());
                continue;
            }
            let id = self.write_manifest(&Block {
                written: self.state.version,
                ..block
            })?;
            manifests.push(Manifest {
                id,
                from,
                versions,
                files,
                boundaries,
                leaving,
                removed,
            });
        }
        Ok(manifests)
    }

    fn write_manifest(&self, block: &Block<'_>) -> Result<String> {
        let failed = |what: &str| Error::new(Kind::Bug, OP, what.to_owned());
        let plain = serde_json::to_vec(block)
            .map_err(|e| failed("a manifest cannot be written as JSON").source(e))?;
        let packed = zstd::bulk::compress(&plain, ZSTD_LEVEL)
            .map_err(|e| failed("a manifest cannot be packed").source(e))?;
        let id = file::digest(&plain)
            .trim_start_matches("sha256:")
            .to_owned();
        self.store.create(&self.name.manifest(&id), &packed)?;
        Ok(id)
    }

    /// Deletes all checkpoints but the newest, manifests that only those named, then the oldest entries (R3).
    fn shorten(&mut self) -> Result<()> {
        let mut versions = listed(&*self.store, &self.name)?;
        let older = versions.split_off(versions.len().min(KEPT));
        if !older.is_empty() {
            let kept = self.manifests_of(&versions)?;
            let named = self.manifests_of(&older)?;
            // A manifest that no checkpoint named yet is of a process that writes one now: it stays.
            for id in named.difference(&kept) {
                self.store.delete(&self.name.manifest(id))?;
            }
            for version in older.iter().rev() {
                self.store.delete(&self.name.checkpoint(*version))?;
            }
        }
        match versions.as_slice() {
            [_, .., second] => self.expire(self.state.horizon.min(*second)),
            _ => Ok(()),
        }
    }

    fn manifests_of(&self, checkpoints: &[u64]) -> Result<BTreeSet<String>> {
        let paths: Vec<String> = checkpoints
            .iter()
            .map(|v| self.name.checkpoint(*v))
            .collect();
        let mut named = BTreeSet::new();
        for (path, bytes) in paths.iter().zip(self.store.get_many(&paths)?) {
            // A damaged root names nothing.
            let Some(Ok(root)) = bytes.map(|bytes| serde_json::from_slice::<Names>(&bytes)) else {
                continue;
            };
            if root.format != FORMAT {
                return Err(file::other_format(root.format, path));
            }
            named.extend(root.manifests.into_iter().map(|manifest| manifest.id));
        }
        Ok(named)
    }

    /// R3: entries below the floor, strictly ascending, each delete acknowledged before the next.
    fn expire(&mut self, floor: u64) -> Result<()> {
        let expired = match self.known.expired {
            Some(below) if below >= floor => return Ok(()),
            Some(below) => (below..floor).collect(),
            None => {
                let listed = self.store.list(&self.name.log_dir())?;
                let versions = listed.iter().filter_map(|l| version_of(&l.path));
                let mut versions: Vec<u64> = versions.filter(|v| *v < floor).collect();
                versions.sort_unstable();
                versions
            }
        };
        for version in expired.iter().take(EXPIRED_AT_ONCE) {
            self.store.delete(&self.name.entry(*version))?;
        }
        self.known.expired = match expired.get(EXPIRED_AT_ONCE) {
            Some(next) => Some(*next),
            None => Some(floor),
        };
        Ok(())
    }
}

fn corrupt(name: &LogName, version: u64, what: &str) -> Error {
    Error::new(
        Kind::LogCorrupt,
        OP,
        format!("a checkpoint cannot be used: {what}"),
    )
    .with("log", name)
    .with("checkpoint", name.checkpoint(version))
    .hint("restore the directory from a copy of the store")
}

/// Fifteen numbers behind each other: `[version, to, lost, records…, rows…, dead_letters]`.
type Numbers = (u64, i64, u64, [u64; 5], [u64; 6], u64);

impl Serialize for CommitBoundary {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (records, rows) = (&self.totals.records, &self.totals.rows);
        let numbers: Numbers = (
            self.version,
            self.to,
            self.lost,
            [
                records.read,
                records.with_rows,
                records.refused,
                records.filtered,
                records.refused_in_part,
            ],
            [
                rows.made,
                rows.written,
                rows.refused,
                rows.filtered,
                rows.duplicates,
                rows.late,
            ],
            self.totals.dead_letters,
        );
        numbers.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CommitBoundary {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (version, to, lost, records, rows, dead_letters) = Numbers::deserialize(deserializer)?;
        let [read, with_rows, refused, filtered, refused_in_part] = records;
        let [made, written, rows_refused, rows_filtered, duplicates, late] = rows;
        Ok(CommitBoundary {
            version,
            to,
            lost,
            totals: crate::chain::Ledger {
                records: crate::chain::Records {
                    read,
                    with_rows,
                    refused,
                    filtered,
                    refused_in_part,
                },
                rows: crate::chain::Rows {
                    made,
                    written,
                    refused: rows_refused,
                    filtered: rows_filtered,
                    duplicates,
                    late,
                },
                dead_letters,
            },
        })
    }
}
