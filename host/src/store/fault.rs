//! A store that fails where it is told to: the protocol's adversary, for tests and simulations.
//!
//! One `FaultStore` stands for one process on a store shared with others. After a crash it answers nothing more; a new
//! process gets a new one. Requests delayed by `Late` outlive it and land when the test says so.

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::{Created, FileWriter, Listed, Renamed, Store};
use crate::error::{Error, Kind, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Create,
    Get,
    Size,
    List,
    Delete,
    Rename,
    /// The `finish` of a written file.
    Write,
    Sync,
}

impl Verb {
    /// Changes the store: a step after which a crash matters.
    pub fn is_durable(self) -> bool {
        matches!(
            self,
            Verb::Create | Verb::Delete | Verb::Rename | Verb::Write
        )
    }
}

/// A call that is about to happen.
#[derive(Clone, Debug)]
pub struct Op {
    pub verb: Verb,
    pub path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Not done, and an error.
    FailBefore,
    CrashBefore,
    CrashAfter,
    /// The power goes in the middle: half of a file under its name, both names of a rename; nothing of a create.
    Torn,
    /// Done, and an error.
    ReplyLost,
    /// An error; done when [`FaultStore::land`] is called, even after a crash.
    Late,
    /// Not done, and a success. No protocol survives it everywhere; probes and verification find it.
    Lying,
}

/// Decides about each call. It may block: a simulation takes turns here.
pub trait Faults: Send + Sync + Debug {
    fn decide(&self, op: &Op) -> Fault;
}

/// One fault at one place, otherwise none.
#[derive(Debug)]
pub struct Script {
    step: Step,
    fault: Fault,
    seen: Mutex<u64>,
}

#[derive(Clone, Debug)]
enum Step {
    /// The n-th (from 0) change of the store.
    Durable(u64),
    /// The n-th call of this kind whose path contains the text.
    On(Verb, String, u64),
}

impl Script {
    pub fn none() -> Script {
        Script::durable(u64::MAX, Fault::None)
    }

    pub fn durable(n: u64, fault: Fault) -> Script {
        Script {
            step: Step::Durable(n),
            fault,
            seen: Mutex::new(0),
        }
    }

    pub fn on(verb: Verb, path_contains: &str, n: u64, fault: Fault) -> Script {
        Script {
            step: Step::On(verb, path_contains.to_owned(), n),
            fault,
            seen: Mutex::new(0),
        }
    }

    /// How many calls of the watched kind there were.
    pub fn seen(&self) -> u64 {
        *self.seen.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Faults for Script {
    fn decide(&self, op: &Op) -> Fault {
        let (counts, n) = match &self.step {
            Step::Durable(n) => (op.verb.is_durable(), *n),
            Step::On(verb, text, n) => (op.verb == *verb && op.path.contains(text.as_str()), *n),
        };
        if !counts {
            return Fault::None;
        }
        let mut seen = self.seen.lock().unwrap_or_else(|e| e.into_inner());
        *seen += 1;
        if *seen == n.saturating_add(1) {
            self.fault
        } else {
            Fault::None
        }
    }
}

/// Clones are the same process.
#[derive(Clone, Debug)]
pub struct FaultStore {
    process: Arc<Process>,
}

#[derive(Debug)]
struct Process {
    inner: Arc<dyn Store>,
    faults: Arc<dyn Faults>,
    dead: AtomicBool,
    late: Mutex<Vec<Change>>,
}

#[derive(Clone, Debug)]
enum Change {
    Create(String, Vec<u8>),
    Delete(String),
    Rename(String, String),
    /// A written file.
    Write(String, Vec<u8>),
}

enum Answer {
    Created(Created),
    Renamed(Renamed),
    Nothing,
}

impl Change {
    fn op(&self) -> Op {
        let (verb, path) = match self {
            Change::Create(path, _) => (Verb::Create, path),
            Change::Delete(path) => (Verb::Delete, path),
            Change::Rename(from, _) => (Verb::Rename, from),
            Change::Write(path, _) => (Verb::Write, path),
        };
        Op {
            verb,
            path: path.clone(),
        }
    }

    fn apply(&self, store: &dyn Store) -> Result<Answer> {
        match self {
            Change::Create(path, bytes) => store.create(path, bytes).map(Answer::Created),
            Change::Delete(path) => store.delete(path).map(|()| Answer::Nothing),
            Change::Rename(from, to) => store.rename(from, to).map(Answer::Renamed),
            Change::Write(path, bytes) => {
                let mut file = store.write(path)?;
                io::Write::write_all(&mut file, bytes).map_err(|e| failed(&self.op()).source(e))?;
                file.finish().map(|_| Answer::Nothing)
            }
        }
    }

    /// Half-way: a plain file has half of its bytes, a rename both names (linked, not unlinked). A create or delete leaves
    /// nothing to be seen.
    fn tear(&self, store: &dyn Store) -> Result<()> {
        match self {
            Change::Write(path, bytes) => {
                let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
                store.create(path, half).map(|_| ())
            }
            Change::Rename(from, to) => match store.get(from)? {
                Some(bytes) => store.create(to, &bytes).map(|_| ()),
                None => Ok(()),
            },
            Change::Create(..) | Change::Delete(_) => Ok(()),
        }
    }

    fn lie(&self) -> Answer {
        match self {
            Change::Create(..) => Answer::Created(Created::Done),
            Change::Rename(..) => Answer::Renamed(Renamed::Done),
            Change::Delete(_) | Change::Write(..) => Answer::Nothing,
        }
    }
}

fn failed(op: &Op) -> Error {
    Error::new(
        Kind::StoreUnavailable,
        "store.fault",
        "the store gave no answer",
    )
    .with("path", &op.path)
}

impl FaultStore {
    pub fn new(inner: Arc<dyn Store>, faults: Arc<dyn Faults>) -> Arc<FaultStore> {
        Arc::new(FaultStore {
            process: Arc::new(Process {
                inner,
                faults,
                dead: AtomicBool::new(false),
                late: Mutex::new(Vec::new()),
            }),
        })
    }

    pub fn crashed(&self) -> bool {
        self.process.crashed()
    }

    /// From now on nothing is done.
    pub fn crash(&self) {
        self.process.crash();
    }

    /// Delayed requests not landed yet.
    pub fn late(&self) -> usize {
        self.process
            .late
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .len()
    }

    /// The oldest delayed request arrives. It may be refused then, and nobody is told.
    pub fn land(&self) {
        let change = {
            let mut late = self.process.late.lock().unwrap_or_else(|e| e.into_inner());
            if late.is_empty() {
                return;
            }
            late.remove(0)
        };
        if let Err(e) = change.apply(&*self.process.inner) {
            tracing::debug!(error = %e, "a late request was refused");
        }
    }
}

impl Process {
    fn crashed(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    fn crash(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }

    fn gone(&self) -> Error {
        self.crash();
        Error::new(Kind::Stopped, "store.fault", "the process has crashed")
    }

    fn read(&self, verb: Verb, path: &str) -> Result<()> {
        if self.crashed() {
            return Err(self.gone());
        }
        let op = Op {
            verb,
            path: path.to_owned(),
        };
        match self.faults.decide(&op) {
            Fault::None | Fault::Lying => Ok(()),
            Fault::CrashBefore | Fault::CrashAfter | Fault::Torn => Err(self.gone()),
            Fault::FailBefore | Fault::ReplyLost | Fault::Late => Err(failed(&op)),
        }
    }

    fn change(&self, change: Change) -> Result<Answer> {
        if self.crashed() {
            return Err(self.gone());
        }
        let op = change.op();
        let fault = self.faults.decide(&op);
        if self.crashed() {
            return Err(self.gone()); // while it waited for its turn
        }
        match fault {
            Fault::None => change.apply(&*self.inner),
            Fault::FailBefore => Err(failed(&op)),
            Fault::CrashBefore => Err(self.gone()),
            Fault::CrashAfter => change.apply(&*self.inner).and(Err(self.gone())),
            Fault::Torn => change.tear(&*self.inner).and(Err(self.gone())),
            Fault::ReplyLost => change.apply(&*self.inner).and(Err(failed(&op))),
            Fault::Late => {
                self.late
                    .lock()
                    .unwrap_or_else(|e| e.into_inner())
                    .push(change);
                Err(failed(&op))
            }
            Fault::Lying => Ok(change.lie()),
        }
    }
}

impl Store for FaultStore {
    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created> {
        match self
            .process
            .change(Change::Create(path.to_owned(), bytes.to_vec()))?
        {
            Answer::Created(created) => Ok(created),
            _ => Ok(Created::Done),
        }
    }

    fn get(&self, path: &str) -> Result<Option<Bytes>> {
        self.process.read(Verb::Get, path)?;
        self.process.inner.get(path)
    }

    fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        self.process.read(Verb::Get, path)?;
        self.process.inner.get_range(path, range)
    }

    fn size(&self, path: &str) -> Result<Option<u64>> {
        self.process.read(Verb::Size, path)?;
        self.process.inner.size(path)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.process.read(Verb::List, prefix)?;
        self.process.inner.list(prefix)
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.process
            .change(Change::Delete(path.to_owned()))
            .map(|_| ())
    }

    fn rename(&self, from: &str, to: &str) -> Result<Renamed> {
        match self
            .process
            .change(Change::Rename(from.to_owned(), to.to_owned()))?
        {
            Answer::Renamed(renamed) => Ok(renamed),
            _ => Ok(Renamed::Done),
        }
    }

    fn write(&self, path: &str) -> Result<Box<dyn FileWriter>> {
        if self.crashed() {
            return Err(self.process.gone());
        }
        Ok(Box::new(FaultWriter {
            process: Arc::clone(&self.process),
            path: path.to_owned(),
            bytes: Vec::new(),
        }))
    }

    fn sync(&self, dir: &str) -> Result<()> {
        self.process.read(Verb::Sync, dir)?;
        self.process.inner.sync(dir)
    }

    fn leftovers(&self, dir: &str, idle: Duration) -> Result<Vec<String>> {
        self.process.inner.leftovers(dir, idle)
    }

    fn clear_leftovers(&self, path: &str) -> Result<()> {
        self.process.inner.clear_leftovers(path)
    }

    fn url(&self) -> &str {
        self.process.inner.url()
    }

    fn local_path(&self, path: &str) -> Option<PathBuf> {
        self.process.inner.local_path(path)
    }
}

/// Collects what is written; the fault is decided when it is finished.
#[derive(Debug)]
struct FaultWriter {
    process: Arc<Process>,
    path: String,
    bytes: Vec<u8>,
}

impl io::Write for FaultWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FileWriter for FaultWriter {
    fn finish(self: Box<Self>) -> Result<u64> {
        let written = self.bytes.len() as u64;
        self.process
            .change(Change::Write(self.path, self.bytes))
            .map(|_| written)
    }

    fn abort(self: Box<Self>) {}
}
