//! From staging to the final name (PROTOCOL §6), and what an owner does first when it opens its log.

use std::time::Duration;

use super::entry::AddedFile;
use super::{Committed, Draft, Log, LogName};
use crate::error::{Error, Kind, Result};
use crate::store::{Renamed, Store};

/// At start, files of so many newest versions are looked at one by one: a publish further back was finished by an opener
/// long before.
const VERSIONS_LOOKED_AT: u64 = 50;

/// Unfinished writes untouched for so long belong to no living process: far above any pause between two parts of a file.
/// A file still being written by another live process is spared, so that two processes do not starve each other.
const LEFTOVER_IDLE: Duration = Duration::from_secs(600);

/// P1: every file of the entry gets its final name. Repeating it is harmless, by any process.
pub fn publish(store: &dyn Store, name: &LogName, committed: &Committed) -> Result<()> {
    for file in &committed.entry.add {
        place(store, name, file)?;
    }
    Ok(())
}

fn place(store: &dyn Store, name: &LogName, file: &AddedFile) -> Result<()> {
    let staging = name.staging(&file.file);
    match store.rename(&staging, &file.path)? {
        Renamed::Done => Ok(()),
        // Published before, or by another opener in this moment.
        Renamed::SourceMissing => check_final(store, name, file),
        // A kill between link and unlink. The name is of one file only, so both are it.
        Renamed::TargetExists => {
            check_final(store, name, file)?;
            store.delete(&staging)
        }
    }
}

/// A live file of this kinds never leaves again: nowhere means lost.
fn check_final(store: &dyn Store, name: &LogName, file: &AddedFile) -> Result<()> {
    let found = match store.size(&file.path)? {
        Some(bytes) if bytes == file.bytes => return Ok(()),
        Some(bytes) => format!("it has {bytes}"),
        None => "it is nowhere".to_owned(),
    };
    Err(Error::new(
        Kind::LogCorrupt,
        "log.publish",
        format!("the log names a file of {} bytes, {found}", file.bytes),
    )
    .with("log", name)
    .with("file", &file.path)
    .hint("restore the file from a copy of the store; `weir log --verify` lists every problem"))
}

impl Log {
    /// For the owner, at start: redoes publishes, then collects what no entry names. Another live process that had staged
    /// a file without committing it loses that work by W3 (`V4` on its receipt) and reads the records again.
    pub(super) fn recover(&mut self) -> Result<()> {
        let staged = self.store.list(&self.name.staging_dir())?;
        let staged: Vec<&str> = staged
            .iter()
            .filter_map(|l| l.path.rsplit('/').next())
            .filter(|id| is_file_id(id))
            .collect();
        for id in &staged {
            if let Some(live) = self.state.live.get(*id) {
                place(&*self.store, &self.name, &live.file)?;
            }
        }
        let newest = self.state.version;
        for live in self.state.live.values() {
            if live.version + VERSIONS_LOOKED_AT > newest {
                check_final(&*self.store, &self.name, &live.file)?;
            }
        }
        let unfinished = self
            .store
            .leftovers(&self.name.staging_dir(), LEFTOVER_IDLE)?;
        let unfinished = unfinished.iter().filter_map(|path| path.rsplit('/').next());
        let mut orphans: Vec<String> = staged
            .into_iter()
            .chain(unfinished.filter(|id| is_file_id(id)))
            .filter(|id| self.state.check_gc(id).is_ok())
            .map(str::to_owned)
            .collect();
        orphans.sort();
        orphans.dedup();
        let (named, unnamed): (Vec<String>, Vec<String>) = orphans
            .into_iter()
            .partition(|id| self.state.gced.contains(id));
        // A proved entry named these before; only its deletes were cut short.
        self.collect(&named);
        if !unnamed.is_empty() {
            // Those that became live meanwhile are left out; the rest is deleted once the entry is proved.
            self.commit(Draft::Gc(unnamed))?;
        }
        // Creates that were killed half-way: never part of the log.
        for dir in [self.name.log_dir(), "_system/owners".to_owned()] {
            for path in self.store.leftovers(&dir, LEFTOVER_IDLE)? {
                self.store.clear_leftovers(&path)?;
            }
        }
        Ok(())
    }
}

fn is_file_id(name: &str) -> bool {
    ulid::Ulid::from_string(name).is_ok()
}
