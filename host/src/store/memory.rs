//! Stores in memory, shared inside the process by their URLs. For tests and trials.
//!
//! `memory:NAME` publishes by rename. `memory+upload:NAME` publishes by completing uploads, and can imitate the servers
//! that differ most in their answer to a completion that comes too late:
//! `memory+upload:NAME?answers=lenient&part=64&life=3600`. All options may be left out: how it answers; the bytes of a
//! part; for how many seconds it claims to keep an upload.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;

use super::input::ETAG;
use super::{
    Completed, Created, Found, Input, Inputs, Listed, Moved, Renamed, Renames, StagedWriter, Store,
    Upload, Uploads, Way,
};
use crate::error::{Error, Kind, Result};
use crate::hash::sha256;
use crate::lock::lock;

/// Small enough that trials write files of several parts, and large enough for 10,000 of them to hold one (640 MB).
const PART_BYTES: usize = 64 << 10;

static STORES: Mutex<BTreeMap<String, Arc<Memory>>> = Mutex::new(BTreeMap::new());

/// The answer to a completion whose upload has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Answers {
    /// It is refused (MinIO).
    #[default]
    Refuses,
    /// It is accepted while any object is there, and refused otherwise (versitygw).
    Lenient,
    /// It is sometimes accepted and sometimes refused (AWS promises neither).
    Varies,
    /// An error without a clear meaning (GCS through `object_store`).
    Fails,
}

/// An upload that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenUpload {
    pub path: String,
    pub id: String,
    /// Names of its parts, by number.
    pub parts: Vec<String>,
    /// A completion was accepted; the object appears later.
    pub claimed: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Memory {
    url: String,
    /// `None`: it publishes by rename.
    uploads: Option<Options>,
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Copy, Debug)]
struct Options {
    part_bytes: usize,
    answers: Answers,
    lifetime: Option<Duration>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Bytes>,
    /// By path and id.
    uploads: BTreeMap<(String, String), Parts>,
    begun: u64,
    completions: u64,
}

#[derive(Debug, Default)]
struct Parts {
    /// By number: name and bytes.
    parts: BTreeMap<usize, (String, Bytes)>,
    claimed: Option<Bytes>,
}

/// The store of this URL, shared inside the process.
pub(super) fn open(url: &str) -> Result<Arc<Memory>> {
    let store = Memory::of(url)?;
    let mut stores = lock(&STORES);
    let store = stores
        .entry(url.to_owned())
        .or_insert_with(|| Arc::new(store));
    Ok(Arc::clone(store))
}

/// Uploads that have not ended in a store of this kind; none in others. For tests.
pub fn open_uploads(store: &dyn Store) -> Vec<OpenUpload> {
    let stores = lock(&STORES);
    let Some(store) = stores.get(store.url()) else {
        return Vec::new();
    };
    let state = store.state();
    let uploads = state.uploads.iter().map(|((path, id), of)| OpenUpload {
        path: path.clone(),
        id: id.clone(),
        parts: of.parts.values().map(|(name, _)| name.clone()).collect(),
        claimed: of.claimed.is_some(),
    });
    uploads.collect()
}

impl Memory {
    fn of(url: &str) -> Result<Memory> {
        let invalid = |message: &str| {
            Error::new(Kind::ConfigInvalid, "store.open", message)
                .with("url", url)
                .hint("write memory:name, or memory+upload:name with ?answers=refuses, lenient, varies or fails, and &part=bytes")
        };
        let (scheme, name) = url.split_once(':').unwrap_or((url, ""));
        let (name, options) = match scheme {
            "memory" => (name, None),
            _ => {
                let (name, options) = name.split_once('?').unwrap_or((name, ""));
                (name, Some(options))
            }
        };
        if name.is_empty() {
            return Err(invalid("the url names no store"));
        }
        let mut store = Memory {
            url: url.to_owned(),
            uploads: None,
            state: Arc::default(),
        };
        let Some(options) = options else {
            return Ok(store);
        };
        let mut uploads = Options {
            part_bytes: PART_BYTES,
            answers: Answers::default(),
            lifetime: None,
        };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("answers", "refuses")) => uploads.answers = Answers::Refuses,
                Some(("answers", "lenient")) => uploads.answers = Answers::Lenient,
                Some(("answers", "varies")) => uploads.answers = Answers::Varies,
                Some(("answers", "fails")) => uploads.answers = Answers::Fails,
                Some(("life", seconds)) => {
                    let seconds = seconds.parse().ok().map(Duration::from_secs);
                    let life = seconds.ok_or_else(|| invalid("a life is so many seconds"))?;
                    uploads.lifetime = Some(life);
                }
                Some(("part", bytes)) => {
                    let bytes = bytes.parse().ok().filter(|bytes| *bytes > 0);
                    uploads.part_bytes =
                        bytes.ok_or_else(|| invalid("a part has at least one byte"))?;
                }
                _ => return Err(invalid("the url has an unknown option")),
            }
        }
        store.uploads = Some(uploads);
        Ok(store)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The answer, and whether this call took the upload.
    fn take(&self, state: &mut State, path: &str, upload: &Upload) -> Result<(Completed, bool)> {
        state.completions += 1;
        let key = (path.to_owned(), upload.id.clone());
        let Some(parts) = state.uploads.get_mut(&key) else {
            return Ok((self.over(state, path)?, false));
        };
        if parts.claimed.is_some() {
            return Ok((Completed::Accepted, false));
        }
        parts.claimed = State::whole(parts, upload);
        match parts.claimed.is_some() {
            true => Ok((Completed::Accepted, true)),
            false => Ok((Completed::Refused, false)),
        }
    }

    /// The answer for an upload that has ended or never existed.
    fn over(&self, state: &State, path: &str) -> Result<Completed> {
        let answers = self.uploads.map(|of| of.answers).unwrap_or_default();
        let accepted = match answers {
            Answers::Refuses => false,
            Answers::Lenient => state.objects.contains_key(path),
            Answers::Varies => state.completions.is_multiple_of(2),
            Answers::Fails => {
                let message = "the store failed without saying why";
                return Err(
                    Error::new(Kind::StoreUnavailable, "store.complete", message)
                        .with("path", path),
                );
            }
        };
        Ok(match accepted {
            true => Completed::Accepted,
            false => Completed::Refused,
        })
    }
}

impl State {
    /// The bytes of the parts that the upload names, in its order. `None`: these parts do not match. Like real servers,
    /// it accepts an empty list as an empty file.
    fn whole(parts: &Parts, upload: &Upload) -> Option<Bytes> {
        let mut bytes = Vec::new();
        for (number, name) in (1..).zip(&upload.parts) {
            let (found, part) = parts.parts.get(&number)?;
            (found == name).then(|| bytes.extend_from_slice(part))?;
        }
        Some(Bytes::from(bytes))
    }

    fn link(&mut self, path: &str, id: &str) {
        let key = (path.to_owned(), id.to_owned());
        let claimed = self.uploads.get(&key).and_then(|of| of.claimed.clone());
        if let Some(bytes) = claimed {
            self.uploads.remove(&key);
            self.objects.insert(path.to_owned(), bytes);
        }
    }
}

impl Store for Memory {
    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created> {
        let mut state = self.state();
        if state.objects.contains_key(path) {
            return Ok(Created::Exists);
        }
        let bytes = Bytes::copy_from_slice(bytes);
        state.objects.insert(path.to_owned(), bytes);
        Ok(Created::Done)
    }

    fn get(&self, path: &str) -> Result<Option<Bytes>> {
        Ok(self.state().objects.get(path).cloned())
    }

    fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        let state = self.state();
        let found = state.objects.get(path);
        let within = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok());
        let bytes = found.zip(within).and_then(|(bytes, (from, to))| {
            (from <= to && to <= bytes.len()).then(|| bytes.slice(from..to))
        });
        bytes.ok_or_else(|| {
            let (kind, message) = match found {
                None => (Kind::StoreUnavailable, "there is no such file".to_owned()),
                Some(_) => {
                    let message = format!("expected bytes {range:?}, the file ends before");
                    (Kind::LogCorrupt, message)
                }
            };
            Error::new(kind, "store.get_range", message)
                .with("store", &self.url)
                .with("path", path)
        })
    }

    fn size(&self, path: &str) -> Result<Option<u64>> {
        Ok(self.state().objects.get(path).map(|b| b.len() as u64))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let state = self.state();
        let below = |path: &str| {
            let rest = path.strip_prefix(prefix);
            prefix.is_empty() || rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let found = state.objects.iter().filter(|(path, _)| below(path));
        let listed = found.map(|(path, bytes)| Listed {
            path: path.clone(),
            size: bytes.len() as u64,
        });
        Ok(listed.collect())
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.state().objects.remove(path);
        Ok(())
    }

    fn sync(&self, _dir: &str) -> Result<()> {
        Ok(())
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn way(&self) -> Way<'_> {
        match self.uploads {
            Some(_) => Way::Complete(self),
            None => Way::Rename(self),
        }
    }

    fn inputs(&self) -> &dyn Inputs {
        self
    }
}

/// It has no times: whatever lies in it is as old as everything else.
fn found(path: &str, bytes: &Bytes) -> Found {
    Found {
        path: path.to_owned(),
        size: bytes.len() as u64,
        modified: 0,
        identity: format!("{ETAG}{}", sha256(bytes)),
    }
}

impl Inputs for Memory {
    fn walk(&self, below: &str, each: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
        let listed = self.list(below)?;
        for file in listed {
            if let Some(found) = self.look(&file.path)? {
                each(found)?;
            }
        }
        Ok(())
    }

    fn look(&self, path: &str) -> Result<Option<Found>> {
        let state = self.state();
        Ok(state.objects.get(path).map(|bytes| found(path, bytes)))
    }

    fn open_input(&self, path: &str) -> Result<Option<Box<dyn Input>>> {
        let bytes = self.state().objects.get(path).cloned();
        let opened = bytes.map(|bytes| OpenBytes {
            found: found(path, &bytes),
            bytes,
        });
        Ok(opened.map(|opened| Box::new(opened) as Box<dyn Input>))
    }

    fn move_input(&self, from: &str, to: &str) -> Result<Moved> {
        Ok(match self.rename(from, to)? {
            Renamed::Done => Moved::Done,
            Renamed::TargetExists => Moved::TargetExists,
            Renamed::SourceMissing => Moved::SourceMissing,
        })
    }

    fn remove_input(&self, path: &str) -> Result<()> {
        self.delete(path)
    }
}

#[derive(Debug)]
struct OpenBytes {
    found: Found,
    bytes: Bytes,
}

impl Input for OpenBytes {
    fn found(&self) -> &Found {
        &self.found
    }

    fn read(&mut self, from: u64, most: usize) -> Result<Bytes> {
        let length = self.bytes.len();
        let from = usize::try_from(from).unwrap_or(length).min(length);
        Ok(self
            .bytes
            .slice(from..length.min(from.saturating_add(most))))
    }

    fn is_unchanged(&mut self) -> Result<bool> {
        Ok(true)
    }
}

impl Renames for Memory {
    fn rename(&self, from: &str, to: &str) -> Result<Renamed> {
        let objects = &mut self.state().objects;
        if objects.contains_key(to) {
            return Ok(match objects.contains_key(from) {
                true => Renamed::TargetExists,
                false => Renamed::SourceMissing,
            });
        }
        Ok(match objects.remove(from) {
            Some(bytes) => {
                objects.insert(to.to_owned(), bytes);
                Renamed::Done
            }
            None => Renamed::SourceMissing,
        })
    }

    fn write(&self, path: &str) -> Result<Box<dyn StagedWriter>> {
        Ok(Box::new(MemoryWriter {
            store: self.clone(),
            path: path.to_owned(),
            bytes: Vec::new(),
        }))
    }

    fn leftovers(&self, _dir: &str, _idle: Duration) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn clear_leftovers(&self, _path: &str) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryWriter {
    store: Memory,
    path: String,
    bytes: Vec<u8>,
}

impl io::Write for MemoryWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl StagedWriter for MemoryWriter {
    fn held(&self) -> usize {
        0 // the store is memory itself
    }

    fn finish(self: Box<Self>) -> Result<u64> {
        let written = self.bytes.len() as u64;
        let objects = &mut self.store.state().objects;
        objects.insert(self.path, Bytes::from(self.bytes));
        Ok(written)
    }
}

impl Uploads for Memory {
    fn lifetime(&self) -> Option<Duration> {
        self.uploads?.lifetime
    }

    fn part_bytes(&self) -> usize {
        self.uploads.map_or(PART_BYTES, |of| of.part_bytes)
    }

    fn begin_upload(&self, path: &str) -> Result<String> {
        let mut state = self.state();
        state.begun += 1;
        let id = format!("upload-{}", state.begun);
        let key = (path.to_owned(), id.clone());
        state.uploads.insert(key, Parts::default());
        Ok(id)
    }

    fn put_part(
        &self,
        path: &str,
        id: &str,
        number: usize,
        pieces: Vec<Bytes>,
    ) -> Result<Option<String>> {
        let bytes = Bytes::from(pieces.concat());
        let mut state = self.state();
        let key = (path.to_owned(), id.to_owned());
        let Some(parts) = state.uploads.get_mut(&key) else {
            return Ok(None);
        };
        if parts.claimed.is_some() {
            return Ok(None);
        }
        // Equal bytes get equal names, in quotes, as on S3.
        let digest = sha256(&bytes);
        let name = format!("\"{}\"", digest.trim_start_matches("sha256:"));
        parts.parts.insert(number, (name.clone(), bytes));
        Ok(Some(name))
    }

    fn complete(&self, path: &str, upload: &Upload) -> Result<Completed> {
        let mut state = self.state();
        let (answer, taken) = self.take(&mut state, path, upload)?;
        if taken {
            state.link(path, &upload.id);
        }
        Ok(answer)
    }

    /// Does not stop a claimed upload: its object appears all the same.
    fn abort(&self, path: &str, id: &str) -> Result<()> {
        let mut state = self.state();
        let key = (path.to_owned(), id.to_owned());
        if state.uploads.get(&key).is_some_and(|u| u.claimed.is_none()) {
            state.uploads.remove(&key);
        }
        Ok(())
    }

    fn claim(&self, path: &str, upload: &Upload) -> Result<Completed> {
        let (answer, _) = self.take(&mut self.state(), path, upload)?;
        Ok(answer)
    }

    fn link(&self, path: &str, id: &str) -> Result<()> {
        self.state().link(path, id);
        Ok(())
    }
}
