//! Gives files their final names and removes them again (docs/protocol.md §6). Also what an owner does first when it
//! opens its log.

use std::collections::VecDeque;
use std::time::Duration;

use super::entry::AddedFile;
use super::state::RemovedFile;
use super::{Committed, Draft, Log};
use crate::backoff::Backoff;
use crate::error::{Error, Kind, Result};
use crate::store::{self, Place, Published, Seal};

/// At start, the files of this many newest versions are checked one by one. An earlier opener finished older publishes
/// long ago.
const VERSIONS_LOOKED_AT: u64 = 50;

/// A copy that was under way when its file was removed has ended after this time: none is known to take minutes.
const COPY_MAX: Duration = Duration::from_secs(600);

/// At start, files that were removed in this time are looked for, and those of the newest versions whatever their time. The
/// time is that of the clock of whoever removed them, hence much more than [`COPY_MAX`].
const REMOVED_LOOKED_AT: Duration = Duration::from_secs(3600);

/// A committed file that the store does not show after this time counts as lost (O3): no completion is known to take
/// minutes.
const UNSEEN_MAX: Duration = Duration::from_secs(600);

/// Pauses between two tries to delete what expired and cannot be deleted: commits wait for each try.
const UNDELETED_PAUSE: Duration = Duration::from_secs(1);
const UNDELETED_PAUSE_MAX: Duration = Duration::from_secs(60);
/// After so many files that cannot be deleted a try ends; the next one begins with the others.
const UNDELETED_FAULTS_MAX: usize = 10;

/// Files that expired, may be deleted, and are not gone yet. They hold no publishing back: no later file has their rows. But checkpoints (P4)
/// and horizons (V13) wait for them.
#[derive(Debug)]
pub(super) struct Undeleted {
    files: VecDeque<(Place, Seal)>,
    /// Files that were released up to this version are in here, or gone. `None`: not looked yet.
    known: Option<u64>,
    backoff: Backoff,
    /// By the clock's elapsed time.
    again_at: Duration,
}

impl Default for Undeleted {
    fn default() -> Undeleted {
        Undeleted {
            files: VecDeque::new(),
            known: None,
            backoff: Backoff::new(UNDELETED_PAUSE, UNDELETED_PAUSE_MAX),
            again_at: Duration::ZERO,
        }
    }
}

impl Undeleted {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

impl Log {
    /// P1, P3: removed files are taken away, then every file of the entry gets its final name. Any process may repeat
    /// it without harm. Not allowed while an attempt is unsettled.
    pub fn publish(&mut self, committed: &Committed) -> Result<()> {
        self.sweep()?;
        for file in &committed.entry.add {
            self.bring(file)?;
        }
        self.sweep_late()
    }

    /// P2, O5: takes away for good what proved entries removed. After this, no delayed publisher can bring such a file
    /// back. What expired and cannot be deleted is said, and tried again later.
    pub fn sweep(&mut self) -> Result<()> {
        let swept = match self.swept {
            Some(version) => version,
            None => self.published_up_to()?,
        };
        if self.state.removed_at > swept {
            let files = self.removed(|removed| removed.version > swept && !removed.expired);
            self.retire(&files)?;
            if files.iter().any(|(_, seal)| self.store.comes_late(seal)) {
                self.expect_late(swept);
            }
        }
        self.swept = Some(self.state.version);
        self.let_go();
        Ok(())
    }

    /// In the order in which they were added. P3: taking an upload back may show it for a moment, so files that were added before it
    /// must be gone first.
    fn removed(&self, which: impl Fn(&RemovedFile) -> bool) -> Vec<(Place, Seal)> {
        let removed = self.state.removed.iter();
        let mut removed: Vec<(&String, &RemovedFile)> =
            removed.filter(|(_, removed)| which(removed)).collect();
        removed.sort_by_key(|(_, removed)| removed.added);
        let files = removed.into_iter();
        let files = files.map(|(id, r)| (self.name.place(id, &r.path), r.seal.clone()));
        files.collect()
    }

    /// Deletes what expired. A process that has just opened the log tries all that was released since its checkpoint: another one may
    /// have gone on without it.
    fn let_go(&mut self) {
        let known = self.undeleted.known.replace(self.state.version);
        if self.state.deletable_at > known.unwrap_or(0) {
            let new = |r: &RemovedFile| r.expired && known.is_none_or(|known| r.version > known);
            let files = self.removed(new);
            // A start has its own look at what is late.
            let late = files.iter().any(|(_, seal)| self.store.comes_late(seal));
            if let Some(known) = known.filter(|_| late) {
                self.expect_late(known);
            }
            self.undeleted.files.extend(files);
            self.undeleted.again_at = Duration::ZERO;
        }
        if self.undeleted.is_empty() || self.clock.elapsed() < self.undeleted.again_at {
            return;
        }
        let Some(error) = self.try_to_delete() else {
            self.undeleted.backoff.reset();
            if self.view().undeletable(None) {
                tracing::info!(log = %self.name, "files that had expired and could not be deleted are gone now");
            }
            return;
        };
        let (files, first) = (
            self.undeleted.files.len(),
            !self.undeleted.backoff.is_waiting(),
        );
        self.undeleted.again_at = self.clock.elapsed() + self.undeleted.backoff.next_wait();
        let why = error.to_string();
        if self.view().undeletable(Some((files as u64, why))) && first {
            tracing::warn!(
                log = %self.name, code = error.kind().code(), files, %error,
                "files that expired cannot be deleted; it is tried again, and commits go on. Until they are gone there are no checkpoints and the log does not get shorter"
            );
        }
    }

    /// `None`: all are gone.
    fn try_to_delete(&mut self) -> Option<Error> {
        let files = self.undeleted.files.make_contiguous();
        if let Ok(gone) = self.store.retire(files) {
            self.undeleted.files.drain(..gone);
        }
        // One by one, so that none is in the way of the others.
        let (mut fault, mut faults) = (None, 0);
        for _ in 0..self.undeleted.files.len() {
            let file = self.undeleted.files.pop_front()?;
            let why = match self.store.retire(std::slice::from_ref(&file)) {
                Ok(0) => Some(self.not_gone(1, Some(&file))),
                Ok(_) => None,
                Err(error) => Some(error),
            };
            if let Some(error) = why {
                self.undeleted.files.push_back(file);
                fault = fault.or(Some(error));
                faults += 1;
                if faults == UNDELETED_FAULTS_MAX {
                    break;
                }
            }
        }
        fault
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
        Err(self.not_gone(left.len(), left.first()))
    }

    fn not_gone(&self, files: usize, first: Option<&(Place, Seal)>) -> Error {
        let message = format!("{files} removed files are not gone from the store yet");
        let error = Error::new(Kind::StoreUnavailable, "log.sweep", message);
        match first {
            Some((place, _)) => error.with("file", place.path()),
            None => error,
        }
        .with("log", &self.name)
    }

    /// A version up to which every removal is done, but for what expired: P3 lets no file of an entry get its final name before that.
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

    /// P1, O3. A file that is nowhere may have been removed since the log was read (and forgotten). If it is still live, it is
    /// lost. One that has expired is published too: an archive reads it, and its deletion is that of a published one.
    fn bring(&mut self, file: &AddedFile) -> Result<()> {
        let (place, seal) = (file.place(&self.name), file.seal());
        let mut tries = 0;
        while self.state.has_name(&file.id) {
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
            if !self.state.has_name(&file.id) {
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
            let live = self.state.live.get(id).map(|live| &live.file);
            let leaving = || self.state.leaving.get(id).map(|leaving| &leaving.file);
            if let Some(file) = live.or_else(leaving).cloned() {
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
        self.look_for_late(newest)?;
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
        let orphans = orphans.filter(|id| !self.state.leaving.contains_key(id));
        let orphans = orphans.filter(|id| self.state.check_gc(id).is_ok());
        let (named, mut unnamed): (Vec<String>, Vec<String>) =
            orphans.partition(|id| self.state.collected.contains_key(id));
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
        let home = self.name.dir();
        let own = ["log", "checkpoint", "manifest"].map(|dir| format!("{home}/{dir}"));
        for dir in own.into_iter().chain(owners) {
            self.store.clear_killed(&dir)?;
        }
        Ok(())
    }

    /// Removed files may come back until [`COPY_MAX`] is over.
    fn expect_late(&mut self, above: u64) {
        let above = self.late.map_or(above, |(_, known)| known.min(above));
        self.late = Some((self.clock.elapsed(), above));
    }

    /// Once, when no copy can be under way any more.
    fn sweep_late(&mut self) -> Result<()> {
        let Some((since, above)) = self.late else {
            return Ok(());
        };
        if self.clock.elapsed().saturating_sub(since) >= COPY_MAX {
            self.retire_late(above)?;
            self.late = None;
        }
        Ok(())
    }

    /// At start, for what the process before this one could not wait for; a copy may still be under way, so this process looks
    /// again later.
    fn look_for_late(&mut self, newest: u64) -> Result<()> {
        let removed = self.state.removed.values();
        let mut versions: Vec<u64> = removed
            .filter(|removed| self.store.comes_late(&removed.seal))
            .map(|removed| removed.version)
            .collect();
        versions.sort_unstable();
        versions.dedup();
        let span = i64::try_from(REMOVED_LOOKED_AT.as_micros()).unwrap_or(i64::MAX);
        let since = self.clock.now_micros().saturating_sub(span);
        let mut above = None;
        for version in versions.into_iter().rev() {
            if version.saturating_add(VERSIONS_LOOKED_AT) <= newest {
                let path = self.name.entry(version);
                let entry = self.store.get(&path)?;
                let time = entry.map(|bytes| super::file::decode(&bytes, &path).map(|e| e.time));
                if time.transpose()?.is_none_or(|time| time < since) {
                    break;
                }
            }
            above = version.checked_sub(1);
        }
        if let Some(above) = above {
            self.retire_late(above)?;
            self.expect_late(above);
        }
        Ok(())
    }

    fn retire_late(&mut self, above: u64) -> Result<()> {
        let files = self.removed(|removed| removed.version > above && !removed.expired);
        self.tell_late(&self.store.retire_late(&files)?);
        // What expired holds nothing back: where it cannot be deleted, that is tried again later.
        for file in self.removed(|removed| removed.version > above && removed.expired) {
            let waits = self.undeleted.files.iter();
            if waits
                .clone()
                .any(|(place, _)| place.path() == file.0.path())
            {
                continue;
            }
            match self.store.retire_late(std::slice::from_ref(&file)) {
                Ok(late) => self.tell_late(&late),
                Err(error) => {
                    tracing::debug!(%error, "an expired file is to be deleted again");
                    self.undeleted.files.push_back(file);
                }
            }
        }
        Ok(())
    }

    fn tell_late(&self, files: &[String]) {
        for file in files {
            tracing::warn!(log = %self.name, file, "a file that was removed had come back, by a copy that was under way; it is taken away");
        }
    }

    fn is_published(&mut self, file: &AddedFile) -> Result<()> {
        if !self.state.live.contains_key(&file.id) {
            return Ok(());
        }
        let found = self.store.size(&file.path)?;
        if found == Some(file.bytes) {
            return Ok(());
        }
        self.read_on()?;
        match self.state.live.contains_key(&file.id) {
            true => Err(self.lost(file, found)),
            false => Ok(()),
        }
    }
}

fn is_file_id(name: &str) -> bool {
    ulid::Ulid::from_string(name).is_ok()
}
