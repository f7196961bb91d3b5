//! Checks that log, files and digests agree: offline, on a store that nobody writes to at the moment.
//!
//! It goes on after a problem where that makes sense, so that one run lists them all. An entry that breaks a rule ends
//! the replay: the state above it is unknown.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::state::State;
use super::{AddedFile, LogName, checkpoint, file, log};
use crate::error::Result;
use crate::hash::hex;
use crate::store::{Readable, Store};

/// Bytes of a file in memory at once.
const CHUNK_BYTES: u64 = 4 << 20;

/// One difference between the log and the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub version: Option<u64>,
    pub path: String,
    pub message: String,
}

/// What `verify` checked, and the problems that it found.
#[derive(Debug)]
pub struct Verified {
    /// The state after the last valid entry. `None`: not even the first entry is valid.
    pub state: Option<State>,
    /// Replayed.
    pub entries: u64,
    pub files: u64,
    pub bytes: u64,
    pub problems: Vec<Problem>,
}

/// Replays every entry that is there under every rule, compares checkpoints with it, reads every file against its size and sha256, and looks for published files
/// that no entry names. `None`: there is no log.
pub fn verify(store: &dyn Store, name: &LogName) -> Result<Option<Verified>> {
    let mut found = Verified {
        state: None,
        entries: 0,
        files: 0,
        bytes: 0,
        problems: Vec::new(),
    };
    let Some(newest) = log::newest_listed(store, name)? else {
        return Ok(None);
    };
    let Begun {
        first,
        checkpoints,
        missing,
    } = begin(store, name, &mut found)?;
    let mut whole = true;
    for version in first..=newest {
        let path = name.entry(version);
        if let Err(message) = replay(store, &mut found, version, &path)? {
            found.problem(Some(version), &path, message);
            whole = false;
            break;
        }
        found.entries += 1;
        if let Some(state) = found
            .state
            .as_ref()
            .filter(|_| checkpoints.contains(&version))
            && let Some(message) = checkpoint::differs(store, name, state)?
        {
            found.problem(Some(version), &name.checkpoint(version), message);
        }
    }
    // Whether it may be missing, the newest horizon says.
    let horizon = found.state.as_ref().map_or(0, |state| state.horizon);
    if let Some(version) = missing.filter(|version| whole && *version >= horizon) {
        found.problem(Some(version), &name.entry(version), "the entry is missing");
    }
    if let Some(state) = found.state.take() {
        for live in state.live.values() {
            check_file(store, name, &mut found, (&live.file, live.version))?;
        }
        for leaving in state.leaving.values() {
            check_file(store, name, &mut found, (&leaving.file, leaving.added))?;
        }
        // Nothing is known above an invalid entry, so its files are not reported as strangers.
        if whole {
            look_for_strangers(store, &mut found, &state)?;
        }
        found.state = Some(state);
    }
    Ok(Some(found))
}

/// Where the replay begins.
struct Begun {
    first: u64,
    /// Versions of the checkpoints that it passes.
    checkpoints: BTreeSet<u64>,
    /// The newest entry before it that is not there.
    missing: Option<u64>,
}

/// A log that was shortened begins with its oldest checkpoint; of the entries before that the digests are followed.
fn begin(store: &dyn Store, name: &LogName, found: &mut Verified) -> Result<Begun> {
    let whole = |later: Vec<u64>| Begun {
        first: 0,
        checkpoints: later.into_iter().collect(),
        missing: None,
    };
    if log::oldest_entry(store, name)? == 0 {
        return Ok(whole(checkpoint::listed(store, name)?));
    }
    let checkpoints = checkpoint::oldest(store, name)?;
    for (version, error) in checkpoints.damaged {
        found.problem(Some(version), &name.checkpoint(version), error.to_string());
    }
    let Some(state) = checkpoints.state else {
        return Ok(whole(Vec::new()));
    };
    let missing = follow_back(store, name, found, &state)?;
    let first = state.version + 1;
    found.state = Some(state);
    Ok(Begun {
        first,
        missing,
        ..whole(checkpoints.later)
    })
}

/// From the entry of this state back to its horizon: each names the digest of the one before. The first that is not there ends
/// it.
fn follow_back(
    store: &dyn Store,
    name: &LogName,
    found: &mut Verified,
    state: &State,
) -> Result<Option<u64>> {
    let mut expected = state.digest.clone();
    for version in (state.horizon..=state.version).rev() {
        let path = name.entry(version);
        let Some(bytes) = store.get(&path)? else {
            return Ok(Some(version));
        };
        if file::digest(&bytes) != expected {
            found.problem(
                Some(version),
                &path,
                "it is not the entry that the one after it names",
            );
            return Ok(None);
        }
        match file::decode(&bytes, &path) {
            Ok(entry) => expected = entry.parent,
            Err(error) => {
                found.problem(Some(version), &path, error.to_string());
                return Ok(None);
            }
        }
        found.entries += 1;
    }
    Ok(None)
}

impl Verified {
    fn problem(&mut self, version: Option<u64>, path: &str, message: impl Into<String>) {
        self.problems.push(Problem {
            version,
            path: path.to_owned(),
            message: message.into(),
        });
    }
}

fn replay(
    store: &dyn Store,
    found: &mut Verified,
    version: u64,
    path: &str,
) -> Result<Result<(), String>> {
    let Some(bytes) = store.get(path)? else {
        return Ok(Err("the entry is missing".to_owned()));
    };
    let digest = file::digest(&bytes);
    let entry = match file::decode(&bytes, path) {
        Ok(entry) => entry,
        Err(e) => return Ok(Err(e.to_string())),
    };
    let stepped = match &mut found.state {
        Some(state) => state.step(&entry, digest),
        none if version == 0 => State::begin(&entry, digest).map(|state| *none = Some(state)),
        None => return Ok(Err("no state to check it on".to_owned())),
    };
    Ok(stepped.map_err(|v| v.to_string()))
}

fn check_file(
    store: &dyn Store,
    name: &LogName,
    found: &mut Verified,
    (file, version): (&AddedFile, u64),
) -> Result<()> {
    found.files += 1;
    let path = &file.path;
    let Some(Readable { path, bytes }) = store.readable(&file.place(name))? else {
        let message = match file.upload {
            Some(_) => {
                "the file is not published yet, or lost; start its pipeline, then verify again"
            }
            None => "the file is missing",
        };
        found.problem(Some(version), path, message);
        return Ok(());
    };
    let path = &path;
    found.bytes += bytes;
    if bytes != file.bytes {
        let message = format!("the log says {} bytes, the file has {bytes}", file.bytes);
        found.problem(Some(version), path, message);
        return Ok(());
    }
    let expected = file.digest.trim_start_matches("sha256:");
    let digest = sha256_of(store, path, bytes)?;
    if digest != expected {
        let message = format!("the log says sha256 {expected}, the file has {digest}");
        found.problem(Some(version), path, message);
    }
    Ok(())
}

fn sha256_of(store: &dyn Store, path: &str, bytes: u64) -> Result<String> {
    let mut sum = Sha256::new();
    let mut at = 0;
    while at < bytes {
        let end = (at + CHUNK_BYTES).min(bytes);
        sum.update(store.get_range(path, at..end)?);
        at = end;
    }
    Ok(hex(&sum.finalize()))
}

/// Looks for files that are named by a ULID, lie where this log publishes, and are unknown to it: either the log lost
/// its newest entries, or somebody else writes here.
fn look_for_strangers(store: &dyn Store, found: &mut Verified, state: &State) -> Result<()> {
    let tables: BTreeSet<&str> = state
        .live
        .values()
        .map(|live| &live.file.path)
        .chain(state.leaving.values().map(|leaving| &leaving.file.path))
        .chain(state.removed.values().map(|removed| &removed.path))
        .filter_map(|path| path.split_once('/').map(|(table, _)| table))
        .filter(|table| *table != "_system")
        .collect();
    for table in tables {
        for listed in store.list(table)? {
            let file = listed.path.rsplit('/').next().unwrap_or_default();
            let id = file.split('.').next().unwrap_or_default();
            let known = state.live.contains_key(id) || state.leaving.contains_key(id);
            if ulid::Ulid::from_string(id).is_ok() && !known {
                let message = match state.removed.get(id) {
                    Some(removed) => format!(
                        "removed by version {}, but still there; the next start deletes it",
                        removed.version
                    ),
                    None => "published, but no entry of the log names it".to_owned(),
                };
                found.problem(None, &listed.path, message);
            }
        }
    }
    Ok(())
}
