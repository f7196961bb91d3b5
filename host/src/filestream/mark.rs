//! How a file is recognised. A name may later belong to another file, and a file may be truncated and rewritten; a
//! position is valid only in the file that was read.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use crate::hash::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Number of bytes before a position that are remembered.
pub(super) const BEFORE: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    device: u64,
    inode: u64,
    /// SHA-256 of the last bytes before the position, at most [`BEFORE`].
    before: String,
}

impl Mark {
    pub fn of(file: &Metadata, before: &[u8]) -> Mark {
        Mark {
            device: file.dev(),
            inode: file.ino(),
            before: hex(&Sha256::digest(before)),
        }
    }

    pub fn is_file(&self, file: &Metadata) -> bool {
        (self.device, self.inode) == (file.dev(), file.ino())
    }
}

pub(super) fn same_file(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// The bytes that stand before `position` now, at most [`BEFORE`].
pub(super) fn before(file: &File, position: u64) -> std::io::Result<Vec<u8>> {
    let length = position.min(BEFORE as u64);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(BEFORE)];
    file.read_exact_at(&mut bytes, position - length)?;
    Ok(bytes)
}
