//! Publishing by completing an upload (O1 to O6): an upload begins at the final name, its parts are durable and unseen, and
//! completing it shows the file. For object stores.
//!
//! An intent `staging/<file-id>` exists exactly as long as its upload can still become an object. What a store answers
//! to a completion decides nothing here; only what the store then shows counts.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::pieces::Pieces;
use super::place::{UPLOAD_PARTS_MAX, staging, staging_dir};
use super::{
    Created, FileWriter, Place, Published, Readable, Renames, Seal, Store, Unfinished, Upload,
};
use crate::error::{Error, Kind, Result};

/// A clear answer of [`Uploads::complete`]. It is checked in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completed {
    Accepted,
    /// No such upload, or not with these parts.
    Refused,
}

/// Requests of a store that completes uploads, each sent once and not retried below.
pub trait Uploads: Debug {
    /// Size of every part but the last.
    fn part_bytes(&self) -> usize;
    /// The id of a new upload at this path.
    fn begin_upload(&self, path: &str) -> Result<String>;
    /// The part's name; `number` counts from 1, and the part is these pieces one after the other. Durable when it returns. `None`:
    /// no such upload.
    fn put_part(
        &self,
        path: &str,
        id: &str,
        number: usize,
        pieces: Vec<Bytes>,
    ) -> Result<Option<String>>;
    /// The same, while the caller goes on. If it is dropped before its end, the part's outcome is unknown.
    fn send_part(
        &self,
        path: &str,
        id: &str,
        number: usize,
        pieces: Vec<Bytes>,
    ) -> Box<dyn PartSent> {
        Box::new(Arrived(self.put_part(path, id, number, pieces)))
    }
    /// Without any condition.
    fn complete(&self, path: &str, upload: &Upload) -> Result<Completed>;
    /// `Ok`: the store has confirmed that the upload is gone.
    fn abort(&self, path: &str, id: &str) -> Result<()>;

    /// How long the store keeps an upload that is not completed (O7), as far as it is known.
    fn lifetime(&self) -> Option<Duration> {
        None
    }
    /// Whether an abort ends an upload. Where it does not, an upload that no entry adds is never completed, and ends by
    /// itself.
    fn aborts(&self) -> bool {
        true
    }
    /// As `abort`, but tried once and without waiting long: for a writer that ends. What it leaves is collected later.
    fn give_up(&self, path: &str, id: &str) -> Result<()> {
        self.abort(path, id)
    }
    /// The requests to stage files and copy them, if the store can do that too: a zone's `sink.publish` may have
    /// changed.
    fn copies(&self) -> Option<&dyn Renames> {
        None
    }

    /// For tests: takes the upload as [`complete`](Self::complete) does, and shows the object only when it is linked.
    fn claim(&self, _path: &str, _upload: &Upload) -> Result<Completed> {
        Err(Error::new(
            Kind::Bug,
            "store.claim",
            "this store plays no late completions",
        ))
    }

    /// For tests: the claimed object appears.
    fn link(&self, _path: &str, _id: &str) -> Result<()> {
        Ok(())
    }
}

/// A part on its way; the answer of [`Uploads::put_part`].
pub trait PartSent: Send + Debug {
    fn wait(self: Box<Self>) -> Result<Option<String>>;
}

#[derive(Debug)]
struct Arrived(Result<Option<String>>);

impl PartSent for Arrived {
    fn wait(self: Box<Self>) -> Result<Option<String>> {
        self.0
    }
}

/// Parts of one file that are being sent while the next is filled. One is enough to send while rows are encoded; each
/// further one costs the memory of a part for every open file.
pub(super) const PARTS_IN_FLIGHT: usize = 1;

/// Identifies a process, so that others on its machine can check whether it still runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Process {
    host: String,
    pid: u32,
    /// When it began, in the kernel's clock ticks.
    began: u64,
}

impl Process {
    fn this() -> Option<&'static Process> {
        static THIS: OnceLock<Option<Process>> = OnceLock::new();
        let this = || {
            let pid = std::process::id();
            Some(Process {
                host: host()?,
                pid,
                began: began(pid)?,
            })
        };
        THIS.get_or_init(this).as_ref()
    }

    /// True for this process, and for one of this machine that has ended. Nothing is known of processes of another
    /// machine.
    fn is_over_or_own(&self) -> bool {
        Process::this().is_some_and(|this| {
            self == this || self.host == this.host && began(self.pid) != Some(self.began)
        })
    }
}

/// The name of a machine or container, and the id of its kernel's start.
fn host() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("{}/{}", name.trim(), boot.trim()))
}

/// The 22nd field of a process's `stat`: clock ticks from the start of the kernel to the start of the process.
fn began(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// The content of `staging/<file-id>`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Intent {
    path: String,
    upload: String,
    /// Microseconds since 1970 UTC.
    start: i64,
    /// Who writes it. Earlier versions did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<Process>,
}

impl Intent {
    pub(super) fn named(self, file: String) -> Unfinished {
        Unfinished {
            file,
            path: Some(self.path),
            upload: Some(self.upload),
            bytes: None,
        }
    }
}

/// O1. The intent is written before any part, and once: any outcome but a clear success ends this file.
pub(super) fn begin(
    store: &Arc<dyn Store>,
    uploads: &dyn Uploads,
    place: &Place,
) -> Result<Box<dyn FileWriter>> {
    const OP: &str = "store.begin";
    let id = uploads.begin_upload(place.path())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let intent = Intent {
        path: place.path().to_owned(),
        upload: id.clone(),
        start: now.map_or(0, |now| i64::try_from(now.as_micros()).unwrap_or(i64::MAX)),
        by: Process::this().cloned(),
    };
    let intent = serde_json::to_vec(&intent)
        .map_err(|e| Error::new(Kind::Bug, OP, "an intent cannot be written as JSON").source(e))?;
    match store.create_once(&place.staging(), &intent)? {
        Created::Done => Ok(Box::new(UploadWriter {
            store: Arc::clone(store),
            part_bytes: uploads.part_bytes(),
            place: place.clone(),
            id,
            part: Pieces::default(),
            sent: 0,
            in_flight: VecDeque::new(),
            parts: Vec::new(),
            bytes: 0,
            broken: false,
            sealed: false,
        })),
        Created::Exists => Err(Error::new(
            Kind::StoreUnavailable,
            OP,
            "the file's intent may or may not be written",
        )
        .with("file", place.path())),
    }
}

#[derive(Debug)]
struct UploadWriter {
    store: Arc<dyn Store>,
    part_bytes: usize,
    place: Place,
    id: String,
    /// Not sent yet.
    part: Pieces,
    /// How many were sent, including those in flight.
    sent: usize,
    /// Oldest first, with the number of their bytes.
    in_flight: VecDeque<(u64, Box<dyn PartSent>)>,
    /// Names of those that arrived.
    parts: Vec<String>,
    bytes: u64,
    /// A part has an unknown outcome: this file must never be sealed.
    broken: bool,
    sealed: bool,
}

impl UploadWriter {
    fn failed(&self, kind: Kind, message: &str) -> Error {
        Error::new(kind, "store.write", message).with("file", self.place.path())
    }

    /// Sends the collected bytes, and waits until at most [`PARTS_IN_FLIGHT`] parts are on their way.
    fn send(&mut self) -> Result<()> {
        if self.broken {
            return Err(self.failed(
                Kind::StoreUnavailable,
                "an earlier part of this file was not written",
            ));
        }
        if self.sent == UPLOAD_PARTS_MAX {
            let message = "the file is larger than the store takes in one upload";
            return Err(self.failed(Kind::LimitReached, message));
        }
        while self.in_flight.len() >= PARTS_IN_FLIGHT {
            self.arrive()?;
        }
        let super::Way::Complete(uploads) = self.store.way() else {
            return Err(self.failed(Kind::Bug, "an upload in a store that takes none"));
        };
        let bytes = self.part.len() as u64;
        let part = self.part.take();
        self.sent += 1;
        let sent = uploads.send_part(self.place.path(), &self.id, self.sent, part);
        self.in_flight.push_back((bytes, sent));
        Ok(())
    }

    /// Waits for the oldest part in flight.
    fn arrive(&mut self) -> Result<()> {
        let Some((bytes, sent)) = self.in_flight.pop_front() else {
            return Ok(());
        };
        self.broken = true;
        match sent.wait()? {
            Some(name) => {
                self.parts.push(name);
                self.bytes += bytes;
                self.broken = false;
                Ok(())
            }
            None => Err(self.failed(
                Kind::Conflict,
                "the file was collected by another process before it was committed",
            )),
        }
    }
}

impl io::Write for UploadWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.part.fill(bytes, self.part_bytes);
        if self.part.len() >= self.part_bytes {
            self.send().map_err(io::Error::other)?;
        }
        Ok(taken)
    }

    /// Nothing is durable before the seal.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FileWriter for UploadWriter {
    fn held(&self) -> usize {
        let in_flight: u64 = self.in_flight.iter().map(|(bytes, _)| bytes).sum();
        self.part.len() + usize::try_from(in_flight).unwrap_or(usize::MAX)
    }

    /// O2. An empty file gets one empty part: completing an upload without parts destroys the upload.
    fn seal(mut self: Box<Self>) -> Result<Seal> {
        if !self.part.is_empty() || self.sent == 0 || self.broken {
            self.send()?;
        }
        while !self.in_flight.is_empty() {
            self.arrive()?;
        }
        let upload = Upload {
            id: self.id.clone(),
            parts: std::mem::take(&mut self.parts),
        };
        if let Some(why) = upload.defect() {
            return Err(
                Error::new(Kind::StoreFailed, "store.seal", why).with("file", self.place.path())
            );
        }
        self.sealed = true;
        Ok(Seal {
            bytes: self.bytes,
            upload: Some(upload),
        })
    }
}

impl Drop for UploadWriter {
    /// No entry can name a file that was not sealed, so its own writer may abort it (O4). If that fails, the file is
    /// collected later.
    fn drop(&mut self) {
        if self.sealed {
            return;
        }
        self.in_flight.clear();
        let super::Way::Complete(uploads) = self.store.way() else {
            return;
        };
        let aborted = uploads.give_up(self.place.path(), &self.id);
        let ended = aborted.and_then(|()| self.store.delete(&self.place.staging()));
        if let Err(e) = ended {
            tracing::debug!(file = self.place.path(), error = %e, "an unfinished upload stays until it is collected");
        }
    }
}

/// O3. What the store shows decides, whatever it answers. The intent is deleted once the object was seen (O6).
pub(super) fn publish(
    store: &dyn Store,
    uploads: &dyn Uploads,
    place: &Place,
    seal: &Seal,
) -> Result<Published> {
    let answer = match &seal.upload {
        Some(upload) => uploads.complete(place.path(), upload),
        // Written by a store of the other kind, and copied here under its final name.
        None => Ok(Completed::Refused),
    };
    match store.size(place.path())? {
        Some(bytes) if bytes == seal.bytes => {
            store.delete(&place.staging())?;
            Ok(Published::Done)
        }
        Some(bytes) => Ok(Published::Differs(bytes)),
        None => match answer {
            Ok(_) if seal.upload.is_none() => Ok(Published::Nowhere),
            Ok(_) => Ok(Published::NotYet(None)),
            // GCS answers with this error when the upload no longer exists.
            Err(e) if e.kind() == Kind::StoreUnavailable => Ok(Published::NotYet(Some(e))),
            Err(e) => Err(e),
        },
    }
}

/// O5, file by file; stops at the first that is not gone yet.
pub(super) fn retire(
    store: &dyn Store,
    uploads: &dyn Uploads,
    files: &[(Place, Seal)],
) -> Result<usize> {
    for (gone, (place, seal)) in files.iter().enumerate() {
        if !take_back(store, uploads, place, seal)? {
            return Ok(gone);
        }
    }
    Ok(files.len())
}

/// Does not rely on an abort, which need not stop a completion that has begun. Once the intent is gone nothing can show
/// the file again, so the object is deleted only then.
fn take_back(store: &dyn Store, uploads: &dyn Uploads, place: &Place, seal: &Seal) -> Result<bool> {
    let intent = place.staging();
    if let Some(upload) = &seal.upload
        && store.size(&intent)?.is_some()
    {
        match uploads.complete(place.path(), upload) {
            Err(e) if e.kind() != Kind::StoreUnavailable => return Err(e),
            _ => {}
        }
        if store.size(place.path())?.is_none() {
            return Ok(false);
        }
        store.delete(&intent)?;
    }
    store.delete(place.path())?;
    Ok(store.size(place.path())?.is_none())
}

/// O4. The intent names the upload; without an intent nothing can become an object.
pub(super) fn discard(
    store: &dyn Store,
    uploads: &dyn Uploads,
    home: &str,
    file: &str,
) -> Result<()> {
    let path = staging(home, file);
    let Some(bytes) = store.get(&path)? else {
        return Ok(());
    };
    let intent: Intent = serde_json::from_slice(&bytes).map_err(|e| {
        Error::new(
            Kind::StoreFailed,
            "store.discard",
            "not an intent of an upload",
        )
        .with("path", &path)
        .hint("somebody else writes below _system; move the file away")
        .source(e)
    })?;
    uploads.abort(&intent.path, &intent.upload)?;
    store.delete(&path)
}

/// See [`is_abandoned`](trait.Store.html#method.is_abandoned) of the store.
pub(super) fn is_abandoned(
    store: &dyn Store,
    home: &str,
    file: &str,
    oldest: Option<u64>,
) -> Result<bool> {
    let path = staging(home, file);
    let Some(bytes) = store.get(&path)? else {
        return Ok(true);
    };
    let Ok(intent) = serde_json::from_slice::<Intent>(&bytes) else {
        return Ok(true);
    };
    let begun = u64::try_from(intent.start).unwrap_or(0) / 1000;
    let late = oldest.is_none_or(|oldest| begun < oldest);
    Ok(late || intent.by.is_some_and(|by| by.is_over_or_own()))
}

/// Largest intent: a path and an upload's id, of at most some KiB.
const INTENT_BYTES: u64 = 16 << 10;

/// The intent under a staging name; `None` if there is nothing, or a staged file.
pub(super) fn look(store: &dyn Store, path: &str) -> Result<Option<Intent>> {
    if store.size(path)?.is_none_or(|bytes| bytes > INTENT_BYTES) {
        return Ok(None);
    }
    let found = store.get(path)?;
    Ok(found.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

pub(super) fn readable(store: &dyn Store, place: &Place) -> Result<Option<Readable>> {
    let bytes = store.size(place.path())?;
    let path = place.path().to_owned();
    Ok(bytes.map(|bytes| Readable { path, bytes }))
}

/// O6: one list names all work that is left.
pub(super) fn begun(store: &dyn Store, home: &str) -> Result<Vec<String>> {
    let intents = store.list(&staging_dir(home))?;
    let names = intents.iter().filter_map(|l| l.path.rsplit('/').next());
    Ok(names.map(str::to_owned).collect())
}
