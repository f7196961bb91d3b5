//! Checks that log, files and digests agree: offline, on a store that nobody writes to at the moment.
//!
//! It goes on after a problem where that makes sense, so that one run lists them all. An entry that breaks a rule ends
//! the replay: the state above it is unknown.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::state::{LiveFile, State};
use super::{LogName, file, log};
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
    pub entries: u64,
    pub files: u64,
    pub bytes: u64,
    pub problems: Vec<Problem>,
}

/// Replays every entry under every rule, reads every live file against its size and sha256, and looks for published files
/// that no entry names. `None`: there is no log.
pub fn verify(store: &dyn Store, name: &LogName) -> Result<Option<Verified>> {
    let mut found = Verified {
        state: None,
        entries: 0,
        files: 0,
        bytes: 0,
        problems: Vec::new(),
    };
    let listed = store.list(&name.log_dir())?;
    let newest = listed.iter().filter_map(|l| log::version_of(&l.path)).max();
    let Some(newest) = newest else {
        return Ok(None);
    };
    for version in 0..=newest {
        let path = name.entry(version);
        if let Err(message) = replay(store, &mut found, version, &path)? {
            found.problem(Some(version), &path, message);
            break;
        }
        found.entries += 1;
    }
    if let Some(state) = found.state.take() {
        for live in state.live.values() {
            check_file(store, name, &mut found, live)?;
        }
        // Nothing is known above an invalid entry, so its files are not reported as strangers.
        if found.entries > newest {
            look_for_strangers(store, &mut found, &state)?;
        }
        found.state = Some(state);
    }
    Ok(Some(found))
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
    live: &LiveFile,
) -> Result<()> {
    found.files += 1;
    let path = &live.file.path;
    let Some(Readable { path, bytes }) = store.readable(&live.file.place(name))? else {
        let message = match live.file.upload {
            Some(_) => {
                "the file is not published yet, or lost; start its pipeline, then verify again"
            }
            None => "the file is missing",
        };
        found.problem(Some(live.version), path, message);
        return Ok(());
    };
    let path = &path;
    found.bytes += bytes;
    if bytes != live.file.bytes {
        let message = format!(
            "the log says {} bytes, the file has {bytes}",
            live.file.bytes
        );
        found.problem(Some(live.version), path, message);
        return Ok(());
    }
    let expected = live.file.digest.trim_start_matches("sha256:");
    let digest = sha256_of(store, path, bytes)?;
    if digest != expected {
        let message = format!("the log says sha256 {expected}, the file has {digest}");
        found.problem(Some(live.version), path, message);
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
        .chain(state.removed.values().map(|removed| &removed.path))
        .filter_map(|path| path.split_once('/').map(|(table, _)| table))
        .filter(|table| *table != "_system")
        .collect();
    for table in tables {
        for listed in store.list(table)? {
            let file = listed.path.rsplit('/').next().unwrap_or_default();
            let id = file.split('.').next().unwrap_or_default();
            if ulid::Ulid::from_string(id).is_ok() && !state.live.contains_key(id) {
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
