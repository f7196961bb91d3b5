//! Publishing by rename (P1, P2): a file is written under a staging name and renamed to its final one. For directories and HDFS.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::place::{staging, staging_dir};
use super::{FileWriter, Place, Published, Readable, Seal, Store, Uploads};
use crate::error::{Error, Kind, Result};

/// Unfinished writes that were not touched for this time belong to no living process: it is far above any pause between
/// two parts of a file. A file that another live process is still writing is spared, so that two processes do not
/// starve each other.
const LEFTOVER_IDLE: Duration = Duration::from_secs(600);

/// A clear answer of [`Renames::rename`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renamed {
    Done,
    SourceMissing,
    /// Both names may exist now; the target was not touched.
    TargetExists,
}

/// Requests of a store that renames.
pub trait Renames: Debug {
    /// Never overwrites; durable in both directories when it returns.
    fn rename(&self, from: &str, to: &str) -> Result<Renamed>;
    /// A file of any size in bounded memory; it does not exist under its name before `finish`.
    fn write(&self, path: &str) -> Result<Box<dyn StagedWriter>>;
    /// Targets in this directory (not below it) of writes that were killed half-way and not touched for `idle`. Hidden
    /// from `list`; the same target may come several times.
    fn leftovers(&self, dir: &str, idle: Duration) -> Result<Vec<String>>;
    /// Removes what killed writes of this target left. Never the target itself.
    fn clear_leftovers(&self, path: &str) -> Result<()>;
    /// Whether a rename may still have its effect after its source and its target were deleted: a copy takes its time.
    fn comes_late(&self) -> bool {
        false
    }
    /// The requests to complete uploads, if the store can do that too: a zone's `sink.publish` may have changed.
    fn uploads(&self) -> Option<&dyn Uploads> {
        None
    }
}

/// Writes to the end; dropping it without `finish` leaves nothing behind.
pub trait StagedWriter: io::Write + Send + Debug {
    /// Bytes in memory that are on no disk and in no store yet; at most some parts.
    fn held(&self) -> usize;
    /// The number of bytes, all of them durable under the name.
    fn finish(self: Box<Self>) -> Result<u64>;
}

pub(super) fn begin(
    store: &Arc<dyn Store>,
    renames: &dyn Renames,
    place: &Place,
) -> Result<Box<dyn FileWriter>> {
    let path = place.staging();
    let inner = renames.write(&path)?;
    let store = Arc::clone(store);
    Ok(Box::new(Staged { store, path, inner }))
}

#[derive(Debug)]
struct Staged {
    store: Arc<dyn Store>,
    path: String,
    inner: Box<dyn StagedWriter>,
}

impl io::Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl FileWriter for Staged {
    fn held(&self) -> usize {
        self.inner.held()
    }

    fn seal(self: Box<Self>) -> Result<Seal> {
        let bytes = self.inner.finish()?;
        // W2: the size in the store is the size that the store confirmed.
        let found = self.store.size(&self.path)?;
        if found != Some(bytes) {
            // A file that was durable a moment ago and is nowhere now was collected in between.
            let (kind, found) = match found {
                Some(found) => (Kind::StoreUnavailable, found.to_string()),
                None => (Kind::Conflict, "none".to_owned()),
            };
            let message = format!("the store took {bytes} bytes and holds {found}");
            return Err(Error::new(kind, "store.seal", message).with("file", &self.path));
        }
        Ok(Seal {
            bytes,
            upload: None,
        })
    }
}

/// P1.
pub(super) fn publish(
    store: &dyn Store,
    renames: &dyn Renames,
    place: &Place,
    seal: &Seal,
) -> Result<Published> {
    let staging = place.staging();
    match renames.rename(&staging, place.path())? {
        Renamed::Done => Ok(Published::Done),
        // Published earlier, or by another opener just now.
        Renamed::SourceMissing => there(store, place, seal),
        // A kill between link and unlink. The name belongs to one file only, so both are the same file.
        Renamed::TargetExists => {
            let there = there(store, place, seal)?;
            if matches!(there, Published::Done) {
                store.delete(&staging)?;
            }
            Ok(there)
        }
    }
}

fn there(store: &dyn Store, place: &Place, seal: &Seal) -> Result<Published> {
    Ok(match store.size(place.path())? {
        Some(bytes) if bytes == seal.bytes => Published::Done,
        Some(bytes) => Published::Differs(bytes),
        None => Published::Nowhere,
    })
}

/// P2: the staging name goes first, then the final one. After that no publisher finds anything to rename.
pub(super) fn retire(store: &dyn Store, files: &[(Place, Seal)]) -> Result<usize> {
    let mut dirs = BTreeSet::new();
    for (place, _) in files {
        for path in [&place.staging(), place.path()] {
            store.delete(path)?;
            dirs.extend(path.rsplit_once('/').map(|(dir, _)| dir.to_owned()));
        }
    }
    for dir in dirs {
        store.sync(&dir)?;
    }
    Ok(files.len())
}

pub(super) fn discard(
    store: &dyn Store,
    renames: &dyn Renames,
    home: &str,
    file: &str,
) -> Result<()> {
    let path = staging(home, file);
    store.delete(&path)?;
    renames.clear_leftovers(&path)
}

/// The final name is checked twice: a file may be renamed between two checks.
pub(super) fn readable(store: &dyn Store, place: &Place) -> Result<Option<Readable>> {
    for path in [place.path(), &place.staging(), place.path()] {
        if let Some(bytes) = store.size(path)? {
            let path = path.to_owned();
            return Ok(Some(Readable { path, bytes }));
        }
    }
    Ok(None)
}

pub(super) fn begun(store: &dyn Store, renames: &dyn Renames, home: &str) -> Result<Vec<String>> {
    let dir = staging_dir(home);
    let staged = store.list(&dir)?.into_iter().map(|l| l.path);
    let mut found: Vec<String> = staged
        .chain(renames.leftovers(&dir, LEFTOVER_IDLE)?)
        .filter_map(|path| Some(path.rsplit('/').next()?.to_owned()))
        .collect();
    found.sort();
    found.dedup();
    Ok(found)
}

pub(super) fn clear_killed(renames: &dyn Renames, dir: &str) -> Result<()> {
    for path in renames.leftovers(dir, LEFTOVER_IDLE)? {
        renames.clear_leftovers(&path)?;
    }
    Ok(())
}
