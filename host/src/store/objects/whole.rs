//! `sink.publish = "copy"`: a whole object that is written under a staging name and copied after its commit.

use std::collections::VecDeque;
use std::io;

use object_store::{PutMode, PutOptions, PutPayload};

use super::bucket::{Bucket, PART_BYTES};
use super::wait;
use crate::error::{Error, Kind, Result};
use crate::store::pieces::Pieces;
use crate::store::{PARTS_IN_FLIGHT, PartSent, StagedWriter, Store, Upload, Uploads};

/// Largest object that S3 copies in one request.
const COPY_BYTES_MAX: u64 = 5 << 30;

/// Writes an object, in one request if it fits into one part.
#[derive(Debug)]
pub(super) struct Whole {
    store: Bucket,
    path: String,
    upload: Option<String>,
    part: Pieces,
    sent: usize,
    in_flight: VecDeque<(usize, Box<dyn PartSent>)>,
    names: Vec<String>,
    bytes: u64,
    done: bool,
}

impl Whole {
    pub fn new(store: &Bucket, path: &str) -> Whole {
        Whole {
            store: store.clone(),
            path: path.to_owned(),
            upload: None,
            part: Pieces::default(),
            sent: 0,
            in_flight: VecDeque::new(),
            names: Vec::new(),
            bytes: 0,
            done: false,
        }
    }

    fn failed(&self, kind: Kind, message: impl Into<String>) -> Error {
        Error::new(kind, "store.write", message)
            .with("store", &self.store.objects.url)
            .with("path", &self.path)
    }

    fn send(&mut self) -> Result<()> {
        while self.in_flight.len() >= PARTS_IN_FLIGHT {
            self.arrive()?;
        }
        let id = match &self.upload {
            Some(id) => id.clone(),
            None => self.store.begin_upload(&self.path)?,
        };
        self.upload = Some(id.clone());
        let bytes = self.part.len();
        let part = self.part.take();
        self.sent += 1;
        let sent = self.store.send_part(&self.path, &id, self.sent, part);
        self.in_flight.push_back((bytes, sent));
        Ok(())
    }

    fn arrive(&mut self) -> Result<()> {
        let Some((_, sent)) = self.in_flight.pop_front() else {
            return Ok(());
        };
        match sent.wait()? {
            Some(name) => {
                self.names.push(name);
                Ok(())
            }
            None => Err(self.failed(
                Kind::Conflict,
                "the file was collected by another process before it was committed",
            )),
        }
    }

    fn put(&mut self) -> Result<()> {
        let at = self.store.objects.at("store.write", &self.path)?;
        let options = PutOptions {
            mode: PutMode::Overwrite,
            tags: self.store.tags(),
            attributes: self.store.attributes(),
            ..PutOptions::default()
        };
        let pieces = PutPayload::from_iter(self.part.take());
        let put = self.store.retrying.objects.put_opts(&at, pieces, options);
        match wait(put)? {
            Ok(_) => Ok(()),
            Err(e) => Err(self.store.objects.failed("store.write", &self.path, e)),
        }
    }
}

impl io::Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.len() >= PART_BYTES {
            self.send().map_err(io::Error::other)?;
        }
        let taken = self.part.fill(bytes, PART_BYTES);
        self.bytes += taken as u64;
        Ok(taken)
    }

    /// Nothing is durable before `finish`.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl StagedWriter for Whole {
    fn held(&self) -> usize {
        let in_flight: usize = self.in_flight.iter().map(|(bytes, _)| bytes).sum();
        self.part.len() + in_flight
    }

    fn finish(mut self: Box<Self>) -> Result<u64> {
        if self.bytes > COPY_BYTES_MAX {
            let message = format!(
                "a file of {} bytes, and S3 copies at most {COPY_BYTES_MAX} in one request",
                self.bytes
            );
            return Err(self
                .failed(Kind::LimitReached, message)
                .hint("lower sink.rotate.bytes, or write sink.publish = \"complete\""));
        }
        if self.upload.is_none() {
            self.put()?;
        } else {
            if !self.part.is_empty() {
                self.send()?;
            }
            while !self.in_flight.is_empty() {
                self.arrive()?;
            }
            let upload = Upload {
                id: self.upload.clone().unwrap_or_default(),
                parts: std::mem::take(&mut self.names),
            };
            self.store.complete(&self.path, &upload)?;
        }
        self.done = true;
        match self.store.size(&self.path)? {
            Some(bytes) if bytes == self.bytes => Ok(bytes),
            found => Err(self.failed(
                Kind::StoreUnavailable,
                format!("wrote {} bytes, the store has {found:?}", self.bytes),
            )),
        }
    }
}

impl Drop for Whole {
    /// If this fails, the bucket's rule for incomplete uploads ends it.
    fn drop(&mut self) {
        self.in_flight.clear();
        if let Some(id) = self.upload.as_ref().filter(|_| !self.done)
            && let Err(e) = self.store.give_up(&self.path, id)
        {
            tracing::debug!(path = self.path, error = %e, "an unfinished upload stays until the bucket's rule ends it");
        }
    }
}
