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
        self.size == other.size
            && self.identity == other.identity
            && (self.has_etag() || self.modified == other.modified)
    }

    /// Tells the file from others of its name however it grows; `None` where the store has nothing of the kind.
    pub fn node(&self) -> Option<&str> {
        let (node, _) = self.identity.strip_prefix(INODE)?.split_once('.')?;
        Some(node)
    }

    /// Whether the identity tells alone that it is the same file.
    pub fn has_etag(&self) -> bool {
        self.identity.starts_with(ETAG)
    }

    /// Whether a service that was told to copy the other one may show the copy so. Etags that are no digest of the bytes (Azure's,
    /// those of objects that came in parts) do not pass to a copy: there only sizes can be compared.
    pub fn may_be_copy_of(&self, other: &Found) -> bool {
        let digests = self.is_digest() && other.is_digest();
        self.is_same(other) || (self.has_etag() && !digests && self.size == other.size)
    }

    fn is_digest(&self) -> bool {
        let etag = self.identity.strip_prefix(ETAG).unwrap_or_default();
        etag.len() == MD5_DIGITS && etag.bytes().all(|b| b.is_ascii_hexdigit())
    }
}

/// As S3 writes an MD5. With KMS an etag looks the same and is no digest.
const MD5_DIGITS: usize = 32;

/// An identity that follows from the bytes.
pub(super) const ETAG: &str = "etag:";
/// The number of a file on its disk, and behind a dot a part of its time.
pub(super) const INODE: &str = "inode:";

/// A file that is open for reading.
pub trait Input: Send + Debug {
    /// Of the file that is open, whatever its name stands for by now.
    fn found(&self) -> &Found;

    /// Bytes from `from` on, at most `most`; none at the end. An error of kind `SourceLost` where the store shows that it is
    /// another file by now.
    fn read(&mut self, from: u64, most: usize) -> Result<Bytes>;

    /// Whether the file is still what it was when it was opened.
    fn is_unchanged(&mut self) -> Result<bool>;

    /// Looks at the file that is open again, whatever its name stands for by now: it may have grown or been cut. It is read up to
    /// the size that is found. Only files whose [`Found::node`] is known grow.
    fn look_again(&mut self) -> Result<&Found> {
        Ok(self.found())
    }
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

    /// The files in one directory, and not those below it.
    fn list_dir(&self, dir: &str, each: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
        let is_in = |path: &str| path.rsplit_once('/').map_or("", |(dir, _)| dir) == dir;
        self.walk(dir, &mut |found| match is_in(&found.path) {
            true => each(found),
            false => Ok(()),
        })
    }

    /// `None`: no such file.
    fn look(&self, path: &str) -> Result<Option<Found>>;

    /// Opens what lies at the path now. `None`: no such file.
    fn open_input(&self, path: &str) -> Result<Option<Box<dyn Input>>>;

    /// Gives a file another name in the same store; never over one that is there, as far as the store can tell.
    fn move_input(&self, from: &str, to: &str) -> Result<Moved>;

    /// An absent file is fine.
    fn remove_input(&self, path: &str) -> Result<()>;
}
