//! Files and small objects below one root: put-if-absent, durable writes, renames that never overwrite.
//!
//! Paths are relative to the root, with `/` between their parts. Every call blocks; the runtime that `object_store` needs
//! lives in here and nobody outside sees it. An `Err` from a call that changes something means *unknown*: it may have
//! happened, or may still happen later. Whoever cares reads back (docs/protocol.md §5, W5).

mod abort;
pub(crate) mod errno;
mod fault;
mod objects;
mod place;
mod probe;
mod upload;

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use fault::{Fault, FaultStore, Faults, Op, Script, Verb};
pub use place::Upload;
pub use probe::probe;

use crate::error::Result;

/// Answer of [`Store::create`] when it is clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    Done,
    /// The name is taken; possibly by this very call, tried twice below us. Read back and compare.
    Exists,
}

/// Answer of [`Store::rename`] when it is clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renamed {
    Done,
    SourceMissing,
    /// Both names may exist now; the target was not touched.
    TargetExists,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub path: String,
    pub size: u64,
}

pub trait Store: Send + Sync + Debug {
    /// Put-if-absent, whole or not at all, durable (file and directory) when it returns.
    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created>;
    /// `None`: no such file.
    fn get(&self, path: &str) -> Result<Option<Bytes>>;
    /// An error where the file is missing or shorter than the range.
    fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes>;
    /// `None`: no such file.
    fn size(&self, path: &str) -> Result<Option<u64>>;
    /// All files below the prefix at any depth, by path. A prefix that does not exist is empty.
    fn list(&self, prefix: &str) -> Result<Vec<Listed>>;
    /// An absent file is fine.
    fn delete(&self, path: &str) -> Result<()>;
    /// Never overwrites; durable in both directories when it returns.
    fn rename(&self, from: &str, to: &str) -> Result<Renamed>;
    /// A file of any size in bounded memory; it does not exist under its name before `finish`.
    fn write(&self, path: &str) -> Result<Box<dyn FileWriter>>;
    /// Makes durable the names that were read in this directory (R1); somebody else may have made them a moment ago.
    fn sync(&self, dir: &str) -> Result<()>;
    /// Targets in this directory (not below it) of writes that were killed half-way and not touched for `idle`. Hidden
    /// from `list`; the same target may come several times.
    fn leftovers(&self, dir: &str, idle: Duration) -> Result<Vec<String>>;
    /// Removes what killed writes of this target left. Never the target itself.
    fn clear_leftovers(&self, path: &str) -> Result<()>;
    fn url(&self) -> &str;
    /// Where the file lies on this machine, for stores that are directories.
    fn local_path(&self, path: &str) -> Option<PathBuf>;
}

/// Writes to the end; dropping it without `finish` leaves nothing behind.
pub trait FileWriter: io::Write + Send + Debug {
    /// The number of bytes, all of them durable under the final name. [`Kind::Conflict`](crate::error::Kind::Conflict)
    /// where somebody collected the file in the meantime: drop it and read the log.
    fn finish(self: Box<Self>) -> Result<u64>;
    fn abort(self: Box<Self>);
}

/// `file:relative/or/absolute`, `file:///absolute`, `memory:name`. A missing directory is made; memory stores of one name
/// are shared inside the process.
pub fn open(url: &str) -> Result<Arc<dyn Store>> {
    errno::handles_max();
    objects::open(url).map(abort::wrapped)
}

/// The directory that a URL names; none of a store that is none.
pub fn directory_of(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("file:")?;
    Some(path.strip_prefix("//").unwrap_or(path).into())
}

/// As [`open`], but makes nothing: `None` where the directory is not there.
pub fn open_existing(url: &str) -> Result<Option<Arc<dyn Store>>> {
    if directory_of(url).is_some_and(|path| !path.is_dir()) {
        return Ok(None);
    }
    open(url).map(Some)
}
