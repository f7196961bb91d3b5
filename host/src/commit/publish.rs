//! From staging to the final name and away again (docs/protocol.md §6), and what an owner does first when it opens its log.

use std::collections::BTreeSet;
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
    /// P1, P3: what was removed goes, then every file of the entry gets its final name. Repeating it is harmless, by any
    /// process. Not while an attempt is unsettled.
    pub fn publish(&mut self, committed: &Committed) -> Result<()> {
        self.sweep()?;
        for file in &committed.entry.add {
            self.with_live(file, place)?;
        }
        Ok(())
    }

    /// P2: what proved entries removed loses its staging name, then its final one. After it, no publisher that slept can
    /// bring such a file back.
    pub fn sweep(&mut self) -> Result<()> {
        let swept = match self.swept {
            Some(version) => version,
            None => self.published_up_to()?,
        };
        if self.state.removed_at > swept {
            let mut dirs = BTreeSet::from([self.name.staging_dir()]);
            for (id, removed) in &self.state.removed {
                if removed.version > swept {
                    self.store.delete(&self.name.staging(id))?;
                    self.store.delete(&removed.path)?;
                    dirs.extend(removed.path.rsplit_once('/').map(|(dir, _)| dir.to_owned()));
                }
            }
            for dir in dirs {
                self.store.sync(&dir)?;
            }
        }
        self.swept = Some(self.state.version);
        Ok(())
    }

    /// A version up to which every removal is done: P3 lets no file of an entry get its final name before that.
    fn published_up_to(&self) -> Result<u64> {
        if self.state.removed_at == 0 {
            return Ok(0);
        }
        let mut newest: Vec<_> = self.state.live.values().collect();
        newest.sort_by_key(|live| std::cmp::Reverse(live.version));
        for live in newest {
            if self.store.size(&live.file.path)?.is_some() {
                return Ok(live.version);
            }
        }
        Ok(0)
    }

    /// A file that is nowhere may have been removed since the log was read. Still live and nowhere: lost.
    fn with_live(
        &mut self,
        file: &AddedFile,
        act: impl Fn(&dyn Store, &LogName, &AddedFile) -> Result<()>,
    ) -> Result<()> {
        if self.state.removed.contains_key(&file.file) {
            return Ok(());
        }
        match act(&*self.store, &self.name, file) {
            Err(error) if error.kind() == Kind::LogCorrupt => {
                self.read_on()?;
                match self.state.removed.contains_key(&file.file) {
                    true => Ok(()),
                    false => Err(error),
                }
            }
            done => done,
        }
    }

    /// Redoes removals and publishes that were cut short, and collects nothing. For whoever is about to write rows' entries
    /// but may not be the only owner.
    pub fn redo(&mut self) -> Result<()> {
        let staged = self.staged()?;
        self.redo_of(&staged)
    }

    fn redo_of(&mut self, staged: &[String]) -> Result<()> {
        self.sweep()?;
        for id in staged {
            if let Some(file) = self.state.live.get(id).map(|live| live.file.clone()) {
                self.with_live(&file, place)?;
            }
        }
        Ok(())
    }

    fn staged(&self) -> Result<Vec<String>> {
        let staged = self.store.list(&self.name.staging_dir())?;
        let names = staged.iter().filter_map(|l| l.path.rsplit('/').next());
        Ok(names
            .filter(|id| is_file_id(id))
            .map(str::to_owned)
            .collect())
    }

    /// For the owner, at start: redoes removals and publishes, then collects what no entry names. Another live process that
    /// had staged a file without committing it loses that work by W3 (`V4` on its receipt) and reads the records again.
    pub(super) fn recover(&mut self) -> Result<()> {
        let staged = self.staged()?;
        self.redo_of(&staged)?;
        let newest = self.state.version;
        let recent = self.state.live.values();
        let recent: Vec<AddedFile> = recent
            .filter(|live| live.version + VERSIONS_LOOKED_AT > newest)
            .map(|live| live.file.clone())
            .collect();
        for file in &recent {
            self.with_live(file, check_final)?;
        }
        let unfinished = self
            .store
            .leftovers(&self.name.staging_dir(), LEFTOVER_IDLE)?;
        let unfinished = unfinished.iter().filter_map(|path| path.rsplit('/').next());
        let mut orphans: Vec<String> = staged
            .iter()
            .map(String::as_str)
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
        let owners = ["_system/owners", "_system/owners/long"].map(str::to_owned);
        for dir in [self.name.log_dir()].into_iter().chain(owners) {
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
