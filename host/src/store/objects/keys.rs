//! A bucket as a place where others put objects.
//!
//! An object is read by one request from its beginning to its end; after a jump, by one for what is wanted there, and one for the
//! rest if that is wanted too. Each names the etag that was looked at: an object that is replaced meanwhile is noticed by the
//! service itself.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::{CopyOptions, GetOptions, GetRange, ObjectMeta};

use super::bucket::Bucket;
use super::{Objects, wait};
use crate::error::{Error, Kind, Result};
use crate::store::input::ETAG;
use crate::store::{Found, Input, Inputs, Moved};

fn found(path: String, meta: &ObjectMeta) -> Found {
    let etag = meta.e_tag.as_deref().unwrap_or_default();
    Found {
        path,
        size: meta.size,
        modified: meta.last_modified.timestamp_micros(),
        identity: match etag {
            "" => String::new(),
            etag => format!("{ETAG}{}", etag.trim_matches('"')),
        },
    }
}

impl Inputs for Bucket {
    fn walk(&self, below: &str, each: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
        const OP: &str = "store.walk";
        let at = self.objects.at(OP, below)?;
        let mut listed = self.objects.inner.list(Some(&at));
        loop {
            match wait(listed.next())? {
                None => return Ok(()),
                // It holds no record, and may stand for a directory: its name then ends in a slash that is lost here.
                Some(Ok(meta)) if meta.size == 0 => {}
                Some(Ok(meta)) => {
                    if let Some(path) = self.objects.below(meta.location.as_ref()) {
                        each(found(path, &meta))?;
                    }
                }
                Some(Err(e)) if self.objects.is_absent(&e) => return Ok(()),
                Some(Err(e)) => return Err(self.objects.failed(OP, below, e)),
            }
        }
    }

    fn look(&self, path: &str) -> Result<Option<Found>> {
        const OP: &str = "store.look";
        let at = self.objects.at(OP, path)?;
        match wait(self.objects.head(&at))? {
            Ok(meta) => Ok(Some(found(path.to_owned(), &meta))),
            Err(e) if self.objects.is_absent(&e) => Ok(None),
            Err(e) => Err(self.objects.failed(OP, path, e)),
        }
    }

    fn open_input(&self, path: &str) -> Result<Option<Box<dyn Input>>> {
        let Some(found) = self.look(path)? else {
            return Ok(None);
        };
        Ok(Some(Box::new(OpenObject {
            objects: self.objects.clone(),
            found,
            stream: None,
            is_part: false,
            waiting: Bytes::new(),
            at: 0,
        })))
    }

    /// A copy and a removal: a kill between them leaves both, and the next one goes on from there.
    fn move_input(&self, from: &str, to: &str) -> Result<Moved> {
        const OP: &str = "store.move";
        match (self.look(from)?, self.look(to)?) {
            (None, _) => return Ok(Moved::SourceMissing),
            (Some(from), Some(to)) if from.size != to.size || from.identity != to.identity => {
                return Ok(Moved::TargetExists);
            }
            (Some(_), Some(_)) => {}
            (Some(_), None) => {
                let (source, target) = (self.objects.at(OP, from)?, self.objects.at(OP, to)?);
                let options = CopyOptions::new();
                let copied = self.objects.inner.copy_opts(&source, &target, options);
                wait(copied)?.map_err(|e| self.objects.failed(OP, to, e))?;
            }
        }
        self.objects.delete(from).map(|()| Moved::Done)
    }

    fn remove_input(&self, path: &str) -> Result<()> {
        self.objects.delete(path)
    }
}

struct OpenObject {
    objects: Objects,
    found: Found,
    stream: Option<BoxStream<'static, object_store::Result<Bytes>>>,
    /// The stream ends before the object does.
    is_part: bool,
    /// What came of the stream and was not given away; it begins at `at`.
    waiting: Bytes,
    at: u64,
}

impl std::fmt::Debug for OpenObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenObject({} at {})", self.found.path, self.at)
    }
}

const OP: &str = "store.read";

impl OpenObject {
    /// To the end of the object, or to `to`.
    fn begin(&mut self, from: u64, to: Option<u64>) -> Result<()> {
        let at = self.objects.at(OP, &self.found.path)?;
        let etag = self.found.identity.strip_prefix(ETAG);
        let options = GetOptions {
            if_match: etag.map(|etag| format!("\"{etag}\"")),
            range: match to {
                Some(to) => Some(GetRange::Bounded(from..to)),
                None => (from > 0).then_some(GetRange::Offset(from)),
            },
            ..GetOptions::default()
        };
        self.waiting = Bytes::new();
        self.at = from;
        match wait(self.objects.inner.get_opts(&at, options))? {
            Ok(got) => {
                self.stream = Some(got.into_stream());
                self.is_part = to.is_some();
                Ok(())
            }
            Err(e) => Err(self.failed(e)),
        }
    }

    fn failed(&self, e: object_store::Error) -> Error {
        let changed = matches!(e, object_store::Error::Precondition { .. });
        if changed || self.objects.is_absent(&e) {
            let message = match changed {
                true => "the object was replaced while it was read",
                false => "the object was removed while it was read",
            };
            return Error::new(Kind::SourceLost, OP, message)
                .with("store", &self.objects.url)
                .with("path", &self.found.path);
        }
        self.objects.failed(OP, &self.found.path, e)
    }
}

impl Input for OpenObject {
    fn found(&self) -> &Found {
        &self.found
    }

    fn read(&mut self, from: u64, most: usize) -> Result<Bytes> {
        if from >= self.found.size || most == 0 {
            return Ok(Bytes::new());
        }
        let mut again = self.stream.is_some();
        if from != self.at {
            let to = from.saturating_add(most as u64).min(self.found.size);
            self.begin(from, Some(to))?;
        } else if self.stream.is_none() {
            self.begin(from, None)?;
        }
        while self.waiting.is_empty() {
            let Some(stream) = &mut self.stream else {
                return Ok(Bytes::new());
            };
            match wait(stream.next())? {
                Some(Ok(bytes)) => self.waiting = bytes,
                // The end of what a jump asked for. At the end of the object nothing is asked any more.
                None if self.is_part => self.begin(from, None)?,
                None => return Ok(Bytes::new()),
                // A connection that was idle for long.
                Some(Err(_)) if std::mem::take(&mut again) => self.begin(from, None)?,
                Some(Err(e)) => {
                    self.stream = None;
                    return Err(self.failed(e));
                }
            }
        }
        let given = self.waiting.split_to(most.min(self.waiting.len()));
        self.at += given.len() as u64;
        Ok(given)
    }

    /// The service has held the etag against each request.
    fn is_unchanged(&mut self) -> Result<bool> {
        Ok(true)
    }
}
