//! Files and small objects below one root: put-if-absent, and data files that appear whole under their final names.
//!
//! ```text
//! begin ─ write ─ seal ──(its entry is committed)──→ publish ──(an entry removes it)──→ retire
//!    └ dropped: nothing is left    └──(no entry names it: gc)──→ discard
//! ```
//! Only this folder knows how a file waits for its publication and how it gets its final name. There are two ways, each
//! written once, on top of single requests of a store: `rename` (a staged file is renamed) and `complete` (an upload is
//! completed). A new kind of store is one file that answers the requests of [`Store`], of one of the two ways, and of
//! [`Inputs`]: files that others put there, which the file source reads.
//!
//! Paths are relative to the root, with `/` between their parts. Every call blocks; the async runtime that the clients
//! need stays inside this folder (`runtime`). An `Err` from a call that changes something means *unknown*: the change
//! may have happened, or may still happen later. A caller that must know reads back (docs/protocol.md §5, W5).

mod abort;
mod complete;
pub(crate) mod errno;
mod fault;
mod hdfs;
mod input;
mod memory;
mod objects;
mod path_limits;
mod pieces;
mod place;
mod probe;
mod rename;
mod runtime;

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use complete::PARTS_IN_FLIGHT;
pub use complete::{Completed, PartSent, Uploads};
pub use fault::{Fault, FaultStore, Faults, Op, Script, Verb};
pub use input::{Found, Input, Inputs, Moved};
pub use memory::{OpenUpload, open_uploads};
pub use path_limits::{NAME_MAX, PathLimits};
pub use place::{Place, Seal, UPLOAD_PARTS_MAX, Upload};
pub use probe::{is_left_by_probe, probe, probe_steps};
pub use rename::{Renamed, Renames, StagedWriter};

pub use crate::config::Location;
use crate::config::{System, location};
use crate::error::{Error, Kind, Result};

/// A clear answer of [`Store::create`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    Done,
    /// The name is taken, possibly by this very call if a lower layer tried it twice. Read back and compare.
    Exists,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub path: String,
    pub size: u64,
}

/// How files reach their final names in a store.
#[derive(Clone, Copy, Debug)]
pub enum Way<'a> {
    Rename(&'a dyn Renames),
    Complete(&'a dyn Uploads),
}

/// The single requests that a store answers. Data files use the methods of `dyn Store` below instead.
pub trait Store: Send + Sync + Debug {
    /// Put-if-absent, whole or not at all, durable (file and directory) when it returns.
    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created>;
    /// The same, sent only once: if its outcome is unknown, no second request of ours can arrive later (O1).
    fn create_once(&self, path: &str, bytes: &[u8]) -> Result<Created> {
        self.create(path, bytes)
    }
    /// `None`: no such file.
    fn get(&self, path: &str) -> Result<Option<Bytes>>;
    /// Several files, in the given order; a remote store requests them together.
    fn get_many(&self, paths: &[String]) -> Result<Vec<Option<Bytes>>> {
        paths.iter().map(|path| self.get(path)).collect()
    }
    /// An error where the file is missing or shorter than the range.
    fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes>;
    /// `None`: no such file.
    fn size(&self, path: &str) -> Result<Option<u64>>;
    /// All files below the prefix at any depth, by path. A prefix that does not exist is empty.
    fn list(&self, prefix: &str) -> Result<Vec<Listed>>;
    /// An absent file is fine.
    fn delete(&self, path: &str) -> Result<()>;
    /// Makes durable the names that were read in this directory (R1): another process may have created them a moment
    /// ago.
    fn sync(&self, dir: &str) -> Result<()>;
    /// Which of these directories are not there; none on stores without directories.
    fn absent_dirs(&self, _dirs: Vec<String>) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    /// Removes a directory if it is empty; one that holds something, or is not there, stays as it is.
    fn remove_empty_dir(&self, _dir: &str) -> Result<()> {
        Ok(())
    }
    /// Whether each request travels over a network, so that few large ones, asked for ahead, are better than many.
    fn is_far(&self) -> bool {
        false
    }
    /// How far the store's clock is ahead of this machine's, in milliseconds, where the store has a clock and has shown it; `home`
    /// is a directory that may be written.
    fn clock_ahead(&self, _home: &str) -> Result<Option<i64>> {
        Ok(None)
    }
    /// As whom the store knows this process, where it says that; `home` is a directory that may be written.
    fn known_as(&self, _home: &str) -> Result<Option<String>> {
        Ok(None)
    }
    fn url(&self) -> &str;
    /// Which paths it takes, without asking it.
    fn path_limits(&self) -> PathLimits {
        PathLimits::below("", path_limits::KEY_MAX)
    }
    fn way(&self) -> Way<'_>;
    /// Shortest time between two requests that only look for news from others. Not zero where each request costs money.
    fn news_every(&self) -> Duration {
        Duration::ZERO
    }
    /// The same store for whoever reads what others put there.
    fn inputs(&self) -> &dyn Inputs;
}

/// A data file that is being written, of any size in bounded memory. Nothing is under its final name before it is
/// published. If it is dropped without a seal, it leaves nothing, or a file that
/// [`begun`](trait.Store.html#method.begun) lists.
pub trait FileWriter: io::Write + Send + Debug {
    /// Bytes that it holds in memory at the moment.
    fn held(&self) -> usize;
    /// All bytes are durable when it returns. [`Kind::Conflict`](crate::error::Kind::Conflict): somebody collected the
    /// file in the meantime; drop it and read the log.
    fn seal(self: Box<Self>) -> Result<Seal>;
}

/// The outcome of publishing a file.
#[derive(Debug)]
pub enum Published {
    Done,
    /// The store accepted the request, or did not answer, and does not show the file yet: ask again.
    NotYet(Option<crate::error::Error>),
    /// It is neither under its final name nor where it waited: removed by somebody since the log was read, or lost.
    Nowhere,
    /// An object of another size has its final name.
    Differs(u64),
}

/// A file that was begun and is not published yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    pub file: String,
    /// Its final path, if the store holds an intent.
    pub path: Option<String>,
    /// The store's name of its upload.
    pub upload: Option<String>,
    /// Bytes staged so far; `None`: the store does not show how many.
    pub bytes: Option<u64>,
}

/// Where the bytes of a file can be read now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readable {
    pub path: String,
    pub bytes: u64,
}

impl dyn Store {
    /// Begins a new file. A place must never be used twice.
    pub fn begin(self: &Arc<Self>, place: &Place) -> Result<Box<dyn FileWriter>> {
        match self.way() {
            Way::Rename(renames) => rename::begin(self, renames, place),
            Way::Complete(uploads) => complete::begin(self, uploads, place),
        }
    }
}

impl dyn Store + '_ {
    /// The way in which one file is published: a store that knows both ways may meet files of either.
    fn way_of(&self, seal: &Seal) -> Way<'_> {
        match (self.way(), &seal.upload) {
            (Way::Rename(renames), Some(_)) => match renames.uploads() {
                Some(uploads) => Way::Complete(uploads),
                None => Way::Rename(renames),
            },
            (Way::Complete(uploads), None) => match uploads.copies() {
                Some(copies) => Way::Rename(copies),
                None => Way::Complete(uploads),
            },
            (way, _) => way,
        }
    }

    /// Gives a committed file its final name, durably; only after the entry that adds it is proved. Any process may do
    /// this, at any time and any number of times.
    pub fn publish(&self, place: &Place, seal: &Seal) -> Result<Published> {
        match self.way_of(seal) {
            Way::Rename(renames) => rename::publish(self, renames, place, seal),
            Way::Complete(uploads) => complete::publish(self, uploads, place, seal),
        }
    }

    /// Takes away a file that no entry ever added, after a proved entry has named it in `gc` (W8). Its final path need
    /// not be known. After an error the outcome is unknown: repeat it.
    pub fn discard(&self, home: &str, file: &str) -> Result<()> {
        let (renames, uploads) = match self.way() {
            Way::Rename(renames) => (Some(renames), renames.uploads()),
            Way::Complete(uploads) => (uploads.copies(), Some(uploads)),
        };
        match (renames, uploads) {
            (Some(renames), Some(uploads)) => {
                match complete::look(self, &place::staging(home, file))? {
                    Some(_) => complete::discard(self, uploads, home, file),
                    None => rename::discard(self, renames, home, file),
                }
            }
            (Some(renames), None) => rename::discard(self, renames, home, file),
            (None, Some(uploads)) => complete::discard(self, uploads, home, file),
            (None, None) => Ok(()),
        }
    }

    /// Takes away committed files that a proved entry removed, one after the other, so that no publisher that slept can
    /// bring one back. Returns how many of them, from the first on, are gone for good; call again with the others. Pass
    /// them in the order in which they were added (P3).
    pub fn retire(&self, files: &[(Place, Seal)]) -> Result<usize> {
        let completes = |(_, seal): &(Place, Seal)| matches!(self.way_of(seal), Way::Complete(_));
        let mut gone = 0;
        for run in files.chunk_by(|a, b| completes(a) == completes(b)) {
            let Some((_, first)) = run.first() else {
                continue;
            };
            let done = match self.way_of(first) {
                Way::Rename(_) => rename::retire(self, run)?,
                Way::Complete(uploads) => complete::retire(self, uploads, run)?,
            };
            gone += done;
            if done < run.len() {
                break;
            }
        }
        Ok(gone)
    }

    /// Whether a file of this seal may be there again after it was retired: a copy that was under way may end later. Only where
    /// publishing copies: elsewhere nothing can bring a retired file back.
    pub fn comes_late(&self, seal: &Seal) -> bool {
        match self.way_of(seal) {
            Way::Rename(renames) => renames.comes_late(),
            Way::Complete(_) => false,
        }
    }

    /// Takes away the retired files that are there again, and says which. Asks only for those that [may](Self::comes_late).
    pub fn retire_late(&self, files: &[(Place, Seal)]) -> Result<Vec<String>> {
        let mut late = Vec::new();
        for (place, seal) in files {
            if self.comes_late(seal) && self.size(place.path())?.is_some() {
                self.delete(place.path())?;
                late.push(place.path().to_owned());
            }
        }
        Ok(late)
    }

    /// Files of this home that are begun and not published, with what is known of each; for display.
    pub fn unfinished(&self, home: &str) -> Result<Vec<Unfinished>> {
        let mut found = Vec::new();
        for file in self.begun(home)? {
            let path = place::staging(home, &file);
            found.push(match complete::look(self, &path)? {
                Some(intent) => intent.named(file),
                None => Unfinished {
                    bytes: self.size(&path)?,
                    file,
                    path: None,
                    upload: None,
                },
            });
        }
        Ok(found)
    }

    /// How long the store keeps a file that is not published (O7). `None`: without limit.
    pub fn lifetime(&self) -> Option<Duration> {
        match self.way() {
            Way::Rename(_) => None,
            Way::Complete(uploads) => uploads.lifetime(),
        }
    }

    /// Whether nobody may still commit this begun file of this home: its writer is this process, or one of this machine
    /// that has ended, or it was begun before `oldest` (milliseconds since 1970 UTC), so that no entry may add it. A
    /// wrong answer costs only time: records of a file that is collected too early are read and written again.
    pub fn is_abandoned(&self, home: &str, file: &str, oldest: Option<u64>) -> Result<bool> {
        match self.way() {
            // Nothing says who writes it; its id says since when.
            Way::Rename(_) => Ok(oldest.is_none_or(|oldest| {
                ulid::Ulid::from_string(file).is_ok_and(|id| id.timestamp_ms() < oldest)
            })),
            Way::Complete(_) => complete::is_abandoned(self, home, file, oldest),
        }
    }

    /// Whether a sealed file can be read before it is published (O8).
    pub fn reads_unpublished(&self) -> bool {
        match self.way() {
            Way::Rename(renames) => renames.uploads().is_none(),
            Way::Complete(_) => false,
        }
    }

    /// `None`: the file is nowhere, or (if [`reads_unpublished`](trait.Store.html#method.reads_unpublished) is false)
    /// perhaps not published yet (O8).
    pub fn readable(&self, place: &Place) -> Result<Option<Readable>> {
        match self.reads_unpublished() {
            true => rename::readable(self, place),
            false => complete::readable(self, place),
        }
    }

    /// Ids of files of this home that were begun and are neither published nor removed. It includes files whose writers
    /// were killed, but not those that, as far as the store can tell, are being written. It may include names that are
    /// no ids.
    pub fn begun(&self, home: &str) -> Result<Vec<String>> {
        match self.way() {
            Way::Rename(renames) => rename::begun(self, renames, home),
            Way::Complete(_) => complete::begun(self, home),
        }
    }

    /// Removes what killed calls of [`create`](Store::create) left in this directory; listings never showed it.
    pub fn clear_killed(&self, dir: &str) -> Result<()> {
        match self.way() {
            Way::Rename(renames) => rename::clear_killed(renames, dir),
            Way::Complete(_) => Ok(()),
        }
    }
}

/// The store of a location. A missing directory is made, a missing bucket is an error; memory stores of one URL
/// (`memory:name`, and `memory+upload:name` for tests and trials) are shared inside the process.
pub fn open(at: &Location) -> Result<Arc<dyn Store>> {
    errno::handles_max();
    if let Err(refusal) = location::canonical(&at.url) {
        let message = format!("expected {}", refusal.expected);
        let refused = Error::new(Kind::ConfigInvalid, "store.open", message)
            .with("url", location::shown(&at.url));
        return Err(match refusal.hint {
            Some(hint) => refused.hint(hint),
            None => refused,
        });
    }
    let opened: Arc<dyn Store> = match at.system() {
        Some(System::Memory) => memory::open(&at.url)?,
        Some(System::S3 | System::Gcs | System::Azure) => objects::bucket(at)?,
        Some(System::Hdfs) => hdfs::open(at)?,
        Some(System::File) | None => objects::directory(&at.url)?,
    };
    Ok(abort::wrapped(opened))
}

/// The store of a URL alone: default options, and the credentials of this machine.
pub fn open_url(url: &str) -> Result<Arc<dyn Store>> {
    open(&Location::of(url))
}

/// The directory that a URL names; `None` for other kinds of stores.
pub fn directory_of(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("file:")?;
    Some(path.strip_prefix("//").unwrap_or(path).into())
}

/// As [`open`], but creates nothing: `None` if the directory does not exist.
pub fn open_existing(at: &Location) -> Result<Option<Arc<dyn Store>>> {
    if directory_of(&at.url).is_some_and(|path| !path.is_dir()) {
        return Ok(None);
    }
    if at.system() == Some(System::Hdfs) {
        return Ok(hdfs::open_existing(at)?.map(abort::wrapped));
    }
    open(at).map(Some)
}
