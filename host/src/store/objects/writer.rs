//! A file written part by part: bounded memory, nothing under its name before the end.

use std::io;

use bytes::Bytes;
use object_store::MultipartUpload;

use super::directory::Directory;
use super::{io_kind, wait};
use crate::error::{Error, Kind, Result};
use crate::store::{Renames, StagedWriter, Store};

/// Bytes of a file held back before they go to the disk.
pub(super) const PART_BYTES: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct Parts {
    store: Directory,
    /// Dropping it removes what was written.
    upload: Box<dyn MultipartUpload>,
    path: String,
    part: Vec<u8>,
    bytes: u64,
    /// A part was lost: this file must never be finished.
    broken: bool,
}

impl Parts {
    pub(super) fn new(store: Directory, upload: Box<dyn MultipartUpload>, path: &str) -> Parts {
        Parts {
            store,
            upload,
            path: path.to_owned(),
            part: Vec::new(),
            bytes: 0,
            broken: false,
        }
    }

    fn put_part(&mut self) -> Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        if self.broken {
            return Err(Error::new(
                Kind::StoreUnavailable,
                "store.write",
                "an earlier part of this file was not written",
            )
            .with("path", &self.path));
        }
        let part = std::mem::take(&mut self.part);
        self.bytes += part.len() as u64;
        self.broken = true;
        let sent = wait(self.upload.put_part(Bytes::from(part).into()))?;
        sent.map_err(|e| self.store.objects().failed("store.write", &self.path, e))?;
        self.broken = false;
        Ok(())
    }

    fn collected(&self) -> Error {
        Error::new(
            Kind::Conflict,
            "store.write",
            "the file was collected by another process before it was committed",
        )
        .with("path", &self.path)
    }
}

impl io::Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.capacity() == 0 {
            self.part.reserve_exact(PART_BYTES);
        }
        let room = PART_BYTES - self.part.len();
        let taken = bytes.len().min(room);
        self.part
            .extend_from_slice(bytes.get(..taken).unwrap_or_default());
        if self.part.len() >= PART_BYTES {
            self.put_part().map_err(io::Error::other)?;
        }
        Ok(taken)
    }

    /// Nothing is durable before `finish`.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl StagedWriter for Parts {
    fn held(&self) -> usize {
        self.part.len()
    }

    fn finish(mut self: Box<Self>) -> Result<u64> {
        self.put_part()?;
        if self.broken {
            return Err(Error::new(
                Kind::StoreUnavailable,
                "store.write",
                "a part of this file was not written",
            )
            .with("path", &self.path));
        }
        if let Err(e) = wait(self.upload.complete())? {
            let collected = io_kind(&e) == Some(io::ErrorKind::NotFound);
            if let Err(again) = self.store.clear_leftovers(&self.path) {
                tracing::debug!(path = %self.path, error = %again, "left for the next sweep");
            }
            return Err(match collected {
                true => self.collected(),
                false => self.store.objects().failed("store.write", &self.path, e),
            });
        }
        // W2: the size in the store is the size that was written.
        match self.store.size(&self.path)? {
            Some(bytes) if bytes == self.bytes => Ok(bytes),
            None => Err(self.collected()),
            Some(bytes) => Err(Error::new(
                Kind::StoreUnavailable,
                "store.write",
                format!("wrote {} bytes, the file has {bytes}", self.bytes),
            )
            .with("path", &self.path)),
        }
    }
}
