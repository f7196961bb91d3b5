//! Of files that are followed: which ones are new, how one is recognised, and where a person said that a name goes on.

use std::time::Duration;

use super::{OP, Seen, Shared, State};
use crate::connectors::file::FileConfig;
use crate::connectors::file::follow::is_gone;
use crate::connectors::file::list::Entry;
use crate::connectors::file::listing::TOLD_MAX;
use crate::connectors::file::marks::{self, BEFORE, Mark, Marks};
use crate::connectors::file::places::may_be_read;
use crate::error::{Error, Kind, Result};
use crate::lock::lock;
use crate::store::{self, Found, Input, Store};

/// A mark of a file that is followed is written so often, and when reading ends.
const MARK_EVERY: Duration = Duration::from_secs(10);

/// Of files that are followed.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// What was read.
    pub(super) read: Marks,
    /// What lies in the home.
    pub(super) kept: Marks,
    pub(super) written: Option<Duration>,
}

impl Shared {
    /// What is not there may come; what lies there and cannot be followed is told.
    pub(super) fn is_no_file(&self, path: &str) -> Result<()> {
        let Some(root) = store::directory_of(self.input.url()) else {
            return Ok(());
        };
        may_be_read(&self.config, self.input.as_ref(), path)?;
        let why = match crate::fs::open(&root.join(path)) {
            Err(e) if e.kind() == std::io::ErrorKind::InvalidInput => e.to_string(),
            // It may have come this very moment.
            Ok(_) if self.input.inputs().look(path)?.is_none() => {
                "it is a link that leads out of its directory".to_owned()
            }
            _ => return Ok(()),
        };
        Err(Error::new(
            Kind::ConfigInvalid,
            OP,
            format!("a file cannot be followed: {why}"),
        )
        .with("store", &self.config.at.url)
        .with("path", path)
        .hint("name a regular file; of a link, the file to which it leads"))
    }

    /// Whether a file of this name is still one of those that are followed: a pipeline may be given another name in the same directory.
    pub(in crate::connectors::file) fn follows(&self, path: &str) -> bool {
        match &self.plain {
            Some(plain) => plain == path,
            None => self.is_wanted(path),
        }
    }

    /// The list has partitions that nobody in this process reads yet.
    pub(in crate::connectors::file) fn is_behind_the_list(&self) -> bool {
        let listed = lock(&self.state).list.partitions();
        let read = lock(&self.read);
        (0..listed).any(|partition| !read.contains_key(&partition))
    }

    /// Whether this file is the last one of its name in the list, and was not left since it was cut.
    pub(super) fn is_followed(&self, state: &State, found: &Found) -> bool {
        let same = state.list.has(found).is_some_and(|(same, _)| same);
        let partition = state.list.lane(&found.path).filter(|_| same);
        partition.is_some_and(|partition| {
            let read = lock(&self.read).get(&partition).copied();
            read.is_none_or(|read| read < state.list.end(partition))
        })
    }

    /// A file that is followed: new is a name, or another file that has it now.
    pub(super) fn meet_growing(&self, found: &Found, seen: &mut Seen) -> Result<()> {
        let mut state = lock(&self.state);
        if self.is_followed(&state, found) {
            return Ok(());
        }
        let told = state.told.get(&found.path);
        if told.is_some_and(|told| told.node() == found.node()) {
            return Ok(());
        }
        if self.was_left(&mut state, found)? {
            if state.told.len() < TOLD_MAX {
                tracing::warn!(
                    store = self.config.at.url,
                    path = found.path,
                    "a file that could not be read to its end is still the same; it is not read again. Give what is in it to a file of another name"
                );
                state.told.insert(found.path.clone(), found.clone());
            }
            return Ok(());
        }
        if let Some(known) = self.renamed_from(&mut state, found)? {
            if state.told.len() < TOLD_MAX {
                tracing::info!(
                    store = self.config.at.url,
                    path = found.path,
                    was = known,
                    "a file that was read under another name is not read again; let source.path name the files and not what they are renamed to"
                );
                state.told.insert(found.path.clone(), found.clone());
            }
            return Ok(());
        }
        seen.new += 1;
        state.pending.push(found);
        Ok(())
    }

    /// The name under which a file was followed that has another one now. An inode may belong to another file by now, so the last
    /// bytes that were read must be there.
    fn renamed_from(&self, state: &mut State, found: &Found) -> Result<Option<String>> {
        let Some(home) = state.home.clone() else {
            return Ok(None);
        };
        let marks: Vec<Mark> = lock(&self.marks).read.values().cloned().collect();
        // A mark at the beginning is one of any file.
        let may_be = |mark: &&Mark| mark.byte > 0 && mark.byte <= found.size;
        for mark in marks.iter().filter(may_be) {
            let Some(place) = state.list.file(home.as_ref(), mark.ordinal)? else {
                continue;
            };
            let Some(known) = place.entry() else {
                continue;
            };
            let is_other = known.path != found.path && known.found().node() == found.node();
            if is_other
                && let Some(mut input) = self.input.inputs().open_input(&found.path)?
                && mark.is(&before(input.as_mut(), mark.byte)?)
            {
                return Ok(Some(known.path.clone()));
            }
        }
        Ok(None)
    }

    /// Of a file, by its partition and its number in the list.
    pub(in crate::connectors::file) fn mark(&self, partition: i32, ordinal: u32) -> Option<Mark> {
        let marks = lock(&self.marks);
        marks.read.get(&(partition, ordinal)).cloned()
    }

    pub(in crate::connectors::file) fn has_marked(&self, partition: i32, mark: Mark) {
        let read = &mut lock(&self.marks).read;
        read.insert((partition, mark.ordinal), mark);
        if let Some(file) = marks::oldest(read, partition) {
            read.remove(&file);
        }
    }

    /// Writes what was read since, now and then or `at_once`. Whoever cannot write now does it later: an older mark is one too.
    pub(in crate::connectors::file) fn keep_marks(&self, at_once: bool) {
        if !self.config.follows {
            return;
        }
        let now = self.clock.elapsed();
        let (due, mut kept) = {
            let marks = lock(&self.marks);
            let is_due = |last: Duration| now.saturating_sub(last) >= MARK_EVERY;
            if !at_once && !marks.written.is_none_or(is_due) {
                return;
            }
            let is_new = |(file, mark): &(&(i32, u32), &Mark)| marks.kept.get(file) != Some(*mark);
            let due = marks.read.iter().filter(is_new);
            let due = due.map(|((partition, _), mark)| (*partition, mark.clone()));
            (due.collect::<Vec<_>>(), marks.kept.clone())
        };
        let dir = marks_dir(&self.config);
        let written = due.iter().try_for_each(|(partition, mark)| {
            self.with_home(|_, home| marks::replace(home, &dir, *partition, (&mut kept, mark)))
        });
        let mut marks = lock(&self.marks);
        marks.kept = kept;
        match written {
            Ok(()) if due.is_empty() => {}
            Ok(()) => marks.written = Some(now),
            Err(error) => tracing::debug!(%error, "marks are not written now"),
        }
    }

    /// Where a person said that a partition goes on, if that lies behind a position.
    pub(in crate::connectors::file) fn set_behind(
        &self,
        partition: i32,
        position: i64,
    ) -> Option<i64> {
        let set = lock(&self.state).list.set(partition);
        set.filter(|set| *set > position)
    }

    /// The rest of a file is given up: from a position on up to the end that it has in the list there are no records. Only this process
    /// knows; the next one finds out by itself that the file cannot be read on. `same`: it is still the file that was read, which is then not
    /// taken for a new one of its name.
    pub(in crate::connectors::file) fn leaves(
        &self,
        entry: &Entry,
        from: i64,
        same: Option<Found>,
    ) {
        if !self.config.skips_bad {
            return;
        }
        lock(&self.left).insert(entry.partition, (from, entry.end()));
        let told = &mut lock(&self.state).told;
        if let Some(found) = same.filter(|_| told.len() < TOLD_MAX) {
            told.insert(entry.path.clone(), found);
        }
    }

    /// Where it goes on, at a position where a file was given up.
    pub(in crate::connectors::file) fn left_at(&self, partition: i32, at: i64) -> Option<i64> {
        let left = lock(&self.left).get(&partition).copied();
        left.filter(|(from, _)| *from == at).map(|(_, end)| end)
    }

    /// The last file of its name, which was left because it cannot be read on, and is still the same: it is not read again.
    fn was_left(&self, state: &mut State, found: &Found) -> Result<bool> {
        let Some((true, seen)) = state.list.has(found) else {
            return Ok(false);
        };
        let marks = lock(&self.marks);
        let mut marks = marks.read.values();
        let mark = marks.find(|mark| mark.ordinal == seen.ordinal).cloned();
        let Some(mark) = mark.filter(|mark| mark.byte > 0 && mark.byte <= found.size) else {
            return Ok(false);
        };
        match self.input.inputs().open_input(&found.path)? {
            Some(mut input) => Ok(mark.is(&before(input.as_mut(), mark.byte)?)),
            None => Ok(false),
        }
    }

    /// Finds names whose last file is deleted, and read as far as it is known: another name may have their partitions. Whoever still has
    /// such a file open reads it to its end first.
    pub(super) fn free_names(&self, state: &mut State, home: &dyn Store) -> Result<()> {
        let read = lock(&self.read).clone();
        let mut free = Vec::new();
        for (partition, next) in read {
            let last = state.list.end(partition) - 1;
            let place = match last < next {
                true => None,
                false => state.list.file_at(home, partition, next)?,
            };
            let Some((place, entry)) = place.as_ref().and_then(|p| Some((p, p.entry()?))) else {
                continue;
            };
            let known = i64::try_from(entry.size).unwrap_or(i64::MAX);
            let is_last = last < entry.end();
            let is_read = next.saturating_sub(entry.at) >= known;
            if is_last && is_read && !entry.is_open() && is_gone(self, place) {
                free.push(partition);
            }
        }
        state.list.free(free);
        Ok(())
    }

    /// Behind what is read comes only what no file is there for.
    pub(in crate::connectors::file) fn waits(&self, partition: i32) -> bool {
        lock(&self.state).list.waits(partition)
    }
}

pub(super) fn marks_dir(config: &FileConfig) -> String {
    format!("{}/follow", config.log.dir())
}

/// The bytes of a file before a position, at most [`BEFORE`].
pub(in crate::connectors::file) fn before(input: &mut dyn Input, byte: u64) -> Result<Vec<u8>> {
    let length = byte.min(BEFORE as u64);
    let bytes = input.read(byte - length, usize::try_from(length).unwrap_or(BEFORE))?;
    Ok(bytes.to_vec())
}
