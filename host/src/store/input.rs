//! Files that others put into a store, for whoever reads them: listed with what tells one from another of the same name, read
//! in pieces that are all of the one that was listed, and taken away when they are read.
//!
//! Nothing here is part of a zone: no name is made durable, and nothing waits for a publication.

use std::fmt::Debug;

use bytes::Bytes;

use crate::error::Result;

/// A file as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Below the root of the store.
    pub path: String,
    pub size: u64,
    /// Microseconds since 1970 UTC, by the store's own clock.
    pub modified: i64,
    /// Another one where the file is another one, although its name, size and time may be the same: an inode, an etag. Empty
    /// where the store has nothing of the kind.
    pub identity: String,
}

impl Found {
    /// Whether both are the same file with the same bytes, as far as the store can tell. An etag tells it alone: an object that
    /// was written again with the same bytes is the same.
    pub fn is_same(&self, other: &Found) -> bool {
        let by_etag = self.identity.starts_with(ETAG);
        self.size == other.size
            && self.identity == other.identity
            && (by_etag || self.modified == other.modified)
    }
}

/// An identity that follows from the bytes.
pub(super) const ETAG: &str = "etag:";

/// A file that is open for reading.
pub trait Input: Send + Debug {
    /// Of the file that is open, whatever its name stands for by now.
    fn found(&self) -> &Found;

    /// Bytes from `from` on, at most `most`; none at the end. An error of kind `SourceLost` where the store shows that it is
    /// another file by now.
    fn read(&mut self, from: u64, most: usize) -> Result<Bytes>;

    /// Whether the file is still what it was when it was opened.
    fn is_unchanged(&mut self) -> Result<bool>;
}

/// What became of a file that was to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    Done,
    /// Something lies there.
    TargetExists,
    /// It is not there (any more).
    SourceMissing,
}

pub trait Inputs: Debug {
    /// Every file below a directory or prefix, at any depth, in no order. One that does not exist is empty.
    fn walk(&self, below: &str, each: &mut dyn FnMut(Found) -> Result<()>) -> Result<()>;

    /// `None`: no such file.
    fn look(&self, path: &str) -> Result<Option<Found>>;

    /// Opens what lies at the path now. `None`: no such file.
    fn open_input(&self, path: &str) -> Result<Option<Box<dyn Input>>>;

    /// Gives a file another name in the same store; never over one that is there, as far as the store can tell.
    fn move_input(&self, from: &str, to: &str) -> Result<Moved>;

    /// An absent file is fine.
    fn remove_input(&self, path: &str) -> Result<()>;
}
