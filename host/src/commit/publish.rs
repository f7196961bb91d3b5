//! Gives files their final names and removes them again (docs/protocol.md §6). Also what an owner does first when it
//! opens its log.

use std::time::Duration;

use super::entry::AddedFile;
use super::state::RemovedFile;
use super::{Committed, Draft, Log};
use crate::error::{Error, Kind, Result};
use crate::store::{self, Place, Published, Seal};

/// At start, the files of this many newest versions are checked one by one. An earlier opener finished older publishes
/// long ago.
const VERSIONS_LOOKED_AT: u64 = 50;

/// A committed file that the store does not show after this time counts as lost (O3): no completion is known to take
/// minutes.
const UNSEEN_MAX: Duration = Duration::from_secs(600);

impl Log {
    /// P1, P3: removed files are taken away, then every file of the entry gets its final name. Any process may repeat
    /// it without harm. Not allowed while an attempt is unsettled.
    pub fn publish(&mut self, committed: &Committed) -> Result<()> {
        self.sweep()?;
        for file in &committed.entry.add {
            self.bring(file)?;
        }
        Ok(())
    }

    /// P2, O5: takes away for good what proved entries removed. After this, no delayed publisher can bring such a file
    /// back.
    pub fn sweep(&mut self) -> Result<()> {
        let swept = match self.swept {
            Some(version) => version,
            None => self.published_up_to()?,
        };
        if self.state.removed_at > swept {
            let removed = self.state.removed.iter();
            let mut removed: Vec<(&String, &RemovedFile)> =
                removed.filter(|(_, r)| r.version > swept).collect();
            // P3: taking an upload back may show it for a moment, so files that were added before it must be gone
            // first.
            removed.sort_by_key(|(_, removed)| removed.added);
            let files = removed
                .iter()
                .map(|(id, r)| (self.name.place(id, &r.path), r.seal.clone()));
            self.retire(&files.collect::<Vec<_>>())?;
        }
        self.swept = Some(self.state.version);
        Ok(())
    }

    /// An error as long as one of them is not gone: nothing may be published before that (P3), so the caller asks
    /// again.
    fn retire(&mut self, files: &[(Place, Seal)]) -> Result<()> {
        let mut left = files;
        for tries in 1..=self.limits.tries {
            let gone = self.store.retire(left)?;
            left = left.get(gone..).unwrap_or_default();
            if left.is_empty() {
                return Ok(());
            }
            self.back_off(tries);
        }
        let error = Error::new(
            Kind::StoreUnavailable,
            "log.sweep",
            format!(
                "{} removed files are not gone from the store yet",
                left.len()
            ),
        );
        Err(match left.first() {
            Some((place, _)) => error.with("file", place.path()),
            None => error,
        }
        .with("log", &self.name))
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

    /// P1, O3. A file that is nowhere may have been removed since the log was read. If it is still live, it is lost.
    fn bring(&mut self, file: &AddedFile) -> Result<()> {
        let (place, seal) = (file.place(&self.name), file.seal());
        let mut tries = 0;
        while !self.state.removed.contains_key(&file.id) {
            let (found, cause) = match self.store.publish(&place, &seal)? {
                Published::Done => {
                    self.unseen_since = None;
                    self.view().alarm(None);
                    return Ok(());
                }
                Published::Nowhere => (None, None),
                Published::Differs(bytes) => (Some(bytes), None),
                Published::NotYet(cause) => (None, Some(cause)),
            };
            self.read_on()?;
            if self.state.removed.contains_key(&file.id) {
                break;
            }
            let Some(cause) = cause else {
                return Err(self.lost(file, found));
            };
            let now = self.clock.elapsed();
            let since = *self.unseen_since.get_or_insert(now);
            if cause.is_none() && now.saturating_sub(since) > UNSEEN_MAX {
                return Err(self.lost(file, None));
            }
            self.watch_over(file);
            tries += 1;
            if tries >= self.limits.tries {
                return Err(self.unseen(file, cause));
            }
            self.back_off(tries);
        }
        Ok(())
    }

    /// O7: warns once about a committed file whose upload the store may soon drop.
    fn watch_over(&self, file: &AddedFile) {
        let Some(lifetime) = self.store.lifetime() else {
            return;
        };
        let now = u64::try_from(self.clock.now_micros()).unwrap_or(0) / 1000;
        let half = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX) / 2;
        if !super::write::is_older(&file.id, Some(now.saturating_sub(half))) {
            return;
        }
        let alarm = format!(
            "{} of the log {} is committed and not visible after half of store.lifetime; the store drops its upload when that is over",
            file.path, self.name
        );
        if self.view().alarm(Some(alarm.clone())) {
            tracing::error!(log = %self.name, file = file.path, "{alarm}");
        }
    }

    fn lost(&self, file: &AddedFile, found: Option<u64>) -> Error {
        let found = match found {
            Some(bytes) => format!("it has {bytes}"),
            None => "it is nowhere".to_owned(),
        };
        Error::new(
            Kind::LogCorrupt,
            "log.publish",
            format!("the log names a file of {} bytes, {found}", file.bytes),
        )
        .with("log", &self.name)
        .with("file", &file.path)
        .hint("restore the file from a copy of the store, or rewind to before its commit: docs/stores.md#a-file-that-is-lost; `weir log --verify` lists every problem")
    }

    fn unseen(&self, file: &AddedFile, cause: Option<Error>) -> Error {
        let error = Error::new(
            Kind::StoreUnavailable,
            "log.publish",
            "the store does not show a committed file yet",
        )
        .with("log", &self.name)
        .with("file", &file.path)
        .hint("it is asked again; a file that never appears is lost: docs/stores.md#a-file-that-is-lost says how to go on while the source still has its records");
        match cause {
            Some(cause) => error.source(cause),
            None => error,
        }
    }

    /// Redoes removals and publishes that were cut short, and collects nothing. For a process that is about to write
    /// entries with rows but may not be the only owner.
    pub fn redo(&mut self) -> Result<()> {
        let begun = self.begun()?;
        self.redo_of(&begun)
    }

    fn redo_of(&mut self, begun: &[String]) -> Result<()> {
        self.sweep()?;
        for id in begun {
            if let Some(file) = self.state.live.get(id).map(|live| live.file.clone()) {
                self.bring(&file)?;
            }
        }
        Ok(())
    }

    /// O8, before live files of this log are read: on stores where a file cannot be read before it is published,
    /// publishes what is left to publish. On others it does nothing.
    pub fn make_readable(&mut self) -> Result<()> {
        match self.store.reads_unpublished() {
            true => Ok(()),
            false => self.redo(),
        }
    }

    /// If asked after the log was read, this names all remaining work (O6).
    fn begun(&self) -> Result<Vec<String>> {
        let home = self.name.dir();
        let mut begun = self.store.begun(&home)?;
        let now = u64::try_from(self.clock.now_micros()).unwrap_or(0) / 1000;
        for left in begun
            .iter()
            .filter(|name| store::is_left_by_probe(name, now))
        {
            if let Err(e) = self.store.discard(&home, left) {
                tracing::debug!(file = left, error = %e, "what a killed probe left stays until the next start");
            }
        }
        begun.retain(|id| is_file_id(id));
        Ok(begun)
    }

    /// For the owner, at start: redoes removals and publishes, then collects what no entry names. Another live process that
    /// had sealed a file without committing it loses that work by W3 (`V4` on its receipt) and reads the records again.
    pub(super) fn recover(&mut self) -> Result<()> {
        let newest = self.state.version;
        let begun = self.begun()?;
        self.redo_of(&begun)?;
        self.sweep_late(newest)?;
        // Not files of entries that were read meanwhile: their committer publishes them.
        let recent = self.state.live.values();
        let recent: Vec<AddedFile> = recent
            .filter(|live| live.version <= newest && live.version + VERSIONS_LOOKED_AT > newest)
            .map(|live| live.file.clone())
            .collect();
        for file in &recent {
            self.is_published(file)?;
        }
        let orphans = begun.into_iter();
        let orphans = orphans.filter(|id| self.state.check_gc(id).is_ok());
        let (named, mut unnamed): (Vec<String>, Vec<String>) =
            orphans.partition(|id| self.state.collected.contains(id));
        // O4: not files that another process may be writing now.
        let (home, oldest) = (self.name.dir(), self.oldest_begin());
        let mut abandoned = Vec::new();
        for id in unnamed.drain(..) {
            if self.store.is_abandoned(&home, &id, oldest)? {
                abandoned.push(id);
            }
        }
        let unnamed = abandoned;
        // An earlier proved entry named these; only its deletes were cut short.
        self.collect(&named);
        if !unnamed.is_empty() {
            // Files that became live meanwhile are left out; the rest is deleted once the entry is proved.
            self.commit(Draft::Gc(unnamed))?;
        }
        let owners = ["_system/owners", "_system/owners/long"].map(str::to_owned);
        for dir in [self.name.log_dir()].into_iter().chain(owners) {
            self.store.clear_killed(&dir)?;
        }
        Ok(())
    }

    /// Files that recent entries removed and that are there again (see `retire_late` of the store).
    fn sweep_late(&self, newest: u64) -> Result<()> {
        let removed = self.state.removed.iter();
        let recent: Vec<(Place, Seal)> = removed
            .filter(|(_, removed)| removed.version + VERSIONS_LOOKED_AT > newest)
            .map(|(id, removed)| (self.name.place(id, &removed.path), removed.seal.clone()))
            .collect();
        for file in self.store.retire_late(&recent)? {
            tracing::warn!(log = %self.name, file, "a file that was removed had come back, by a copy that was under way; it is taken away");
        }
        Ok(())
    }

    fn is_published(&mut self, file: &AddedFile) -> Result<()> {
        if self.state.removed.contains_key(&file.id) {
            return Ok(());
        }
        let found = self.store.size(&file.path)?;
        if found == Some(file.bytes) {
            return Ok(());
        }
        self.read_on()?;
        match self.state.removed.contains_key(&file.id) {
            true => Ok(()),
            false => Err(self.lost(file, found)),
        }
    }
}

fn is_file_id(name: &str) -> bool {
    ulid::Ulid::from_string(name).is_ok()
}
