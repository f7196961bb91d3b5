//! A store that fails where a test says so: the protocol's adversary in tests and simulations.
//!
//! One `FaultStore` stands for one process on a store shared with others. After a crash it answers nothing more; a new
//! process gets a new one. Requests delayed by `Late` outlive it and arrive when the test says so.

mod change;
mod script;

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;

use self::change::{Change, Reply, failed, renames, uploads};
pub use self::script::Script;
use super::path_limits::PathLimits;
use super::{
    Completed, Created, Found, Input, Inputs, Listed, Moved, Renamed, Renames, StagedWriter, Store,
    Upload, Uploads, Way,
};
use crate::error::{Error, Kind, Result};
use crate::lock::lock;

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
    /// A new upload, one of its parts, its completion and its end.
    Begin,
    Part,
    Complete,
    Abort,
    Sync,
    /// Of files that others put there: a listing, a look at one, an opening, each piece that is read, a new name, a removal.
    Walk,
    Look,
    Open,
    Read,
    Move,
    Remove,
}

impl Verb {
    /// Whether it changes the store: a crash after such a step matters.
    pub fn is_durable(self) -> bool {
        !matches!(
            self,
            Verb::Get
                | Verb::Size
                | Verb::List
                | Verb::Sync
                | Verb::Walk
                | Verb::Look
                | Verb::Open
                | Verb::Read
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
    /// The request is not done, and answered with an error.
    FailBefore,
    CrashBefore,
    CrashAfter,
    /// The power fails in the middle. A file is half written under its name, a rename leaves both names, a completed
    /// upload shows its object when [`FaultStore::land`] is called; other requests leave nothing.
    Torn,
    /// The request is done, and answered with an error.
    ReplyLost,
    /// A completion is accepted, and shows its object when [`FaultStore::land`] is called. No effect on other requests.
    Pending,
    /// The request is done, and answered as if it had been done before (exists, no source, no such upload), as when a
    /// lower layer sends it twice. No effect on other requests.
    Denied,
    /// Answered with an error; done when [`FaultStore::land`] is called, even after a crash.
    Late,
    /// Not done, but answered with success. No protocol survives this everywhere; probes and verification find it.
    Lying,
}

/// Decides what happens to each call. It may block: a simulation lets its actors take turns here.
pub trait Faults: Send + Sync + Debug {
    fn decide(&self, op: &Op) -> Fault;
    /// Whether renames are copies, which may end late.
    fn copies(&self) -> bool {
        false
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

    /// From now on no request is carried out.
    pub fn crash(&self) {
        self.process.crash();
    }

    /// Delayed requests not landed yet.
    pub fn late(&self) -> usize {
        self.process.late().len()
    }

    /// The oldest delayed request arrives. The store may refuse it then; nobody sees that answer.
    pub fn land(&self) {
        let change = {
            let mut late = self.process.late();
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

    /// What happens to a request that changes nothing, unless the process ends with it.
    fn answer(&self, op: &Op) -> Result<Fault> {
        if self.crashed() {
            return Err(self.gone());
        }
        match self.faults.decide(op) {
            Fault::CrashBefore | Fault::CrashAfter | Fault::Torn => Err(self.gone()),
            fault => Ok(fault),
        }
    }

    fn read(&self, verb: Verb, path: &str) -> Result<()> {
        let op = Op {
            verb,
            path: path.to_owned(),
        };
        match self.answer(&op)? {
            Fault::FailBefore | Fault::ReplyLost | Fault::Late => Err(failed(&op)),
            _ => Ok(()),
        }
    }

    fn change(&self, change: Change) -> Result<Reply> {
        if self.crashed() {
            return Err(self.gone());
        }
        let op = change.op();
        let fault = self.faults.decide(&op);
        if self.crashed() {
            return Err(self.gone()); // while it waited for its turn
        }
        let store = &*self.inner;
        match fault {
            Fault::None => change.apply(store),
            Fault::FailBefore => Err(failed(&op)),
            Fault::CrashBefore => Err(self.gone()),
            Fault::CrashAfter => change.apply(store).and(Err(self.gone())),
            Fault::Torn => {
                let later = change.tear(store);
                self.late().extend(later?);
                Err(self.gone())
            }
            Fault::ReplyLost => change.apply(store).and(Err(failed(&op))),
            Fault::Pending => match &change {
                Change::Complete(path, upload) => {
                    let answer = uploads(store)?.claim(path, upload)?;
                    let later = Change::Link(path.clone(), upload.id.clone());
                    self.late().push(later);
                    Ok(Reply::Completed(answer))
                }
                _ => change.apply(store),
            },
            Fault::Denied => change.apply(store).map(Reply::denied),
            Fault::Late => {
                self.late().push(change);
                Err(failed(&op))
            }
            Fault::Lying => Ok(change.lie()),
        }
    }

    fn late(&self) -> MutexGuard<'_, Vec<Change>> {
        lock(&self.late)
    }

    fn unexpected(&self) -> Error {
        Error::new(Kind::Bug, "store.fault", "an answer to another request")
    }
}

impl Store for FaultStore {
    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created> {
        match self
            .process
            .change(Change::Create(path.to_owned(), bytes.to_vec()))?
        {
            Reply::Created(created) => Ok(created),
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

    fn sync(&self, dir: &str) -> Result<()> {
        self.process.read(Verb::Sync, dir)?;
        self.process.inner.sync(dir)
    }

    fn absent_dirs(&self, dirs: Vec<String>) -> Result<Vec<String>> {
        self.process.inner.absent_dirs(dirs)
    }

    fn remove_empty_dir(&self, dir: &str) -> Result<()> {
        self.process.inner.remove_empty_dir(dir)
    }

    fn is_far(&self) -> bool {
        self.process.inner.is_far()
    }

    fn clock_ahead(&self, home: &str) -> Result<Option<i64>> {
        self.process.inner.clock_ahead(home)
    }

    fn url(&self) -> &str {
        self.process.inner.url()
    }

    fn path_limits(&self) -> PathLimits {
        self.process.inner.path_limits()
    }

    fn way(&self) -> Way<'_> {
        match self.process.inner.way() {
            Way::Rename(_) => Way::Rename(self),
            Way::Complete(_) => Way::Complete(self),
        }
    }

    fn news_every(&self) -> Duration {
        self.process.inner.news_every()
    }

    fn inputs(&self) -> &dyn Inputs {
        self
    }
}

impl Inputs for FaultStore {
    /// A reply that is lost is lost in the middle: one file was told.
    fn walk(&self, below: &str, each: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
        let inner = self.process.inner.inputs();
        let op = Op {
            verb: Verb::Walk,
            path: below.to_owned(),
        };
        match self.process.answer(&op)? {
            Fault::ReplyLost => {
                let mut told = false;
                inner.walk(
                    below,
                    &mut |found| match std::mem::replace(&mut told, true) {
                        true => Err(failed(&op)),
                        false => each(found),
                    },
                )?;
                Err(failed(&op))
            }
            Fault::FailBefore | Fault::Late => Err(failed(&op)),
            _ => inner.walk(below, each),
        }
    }

    fn look(&self, path: &str) -> Result<Option<Found>> {
        self.process.read(Verb::Look, path)?;
        self.process.inner.inputs().look(path)
    }

    fn open_input(&self, path: &str) -> Result<Option<Box<dyn Input>>> {
        self.process.read(Verb::Open, path)?;
        let opened = self.process.inner.inputs().open_input(path)?;
        Ok(opened.map(|input| {
            let process = Arc::clone(&self.process);
            Box::new(FaultInput { process, input }) as Box<dyn Input>
        }))
    }

    fn move_input(&self, from: &str, to: &str) -> Result<Moved> {
        let change = Change::Move(from.to_owned(), to.to_owned());
        match self.process.change(change)? {
            Reply::Moved(moved) => Ok(moved),
            _ => Err(self.process.unexpected()),
        }
    }

    fn remove_input(&self, path: &str) -> Result<()> {
        let change = Change::Remove(path.to_owned());
        self.process.change(change).map(|_| ())
    }
}

#[derive(Debug)]
struct FaultInput {
    process: Arc<Process>,
    input: Box<dyn Input>,
}

impl Input for FaultInput {
    fn found(&self) -> &Found {
        self.input.found()
    }

    fn read(&mut self, from: u64, most: usize) -> Result<Bytes> {
        let path = &self.input.found().path;
        self.process.read(Verb::Read, path)?;
        self.input.read(from, most)
    }

    fn is_unchanged(&mut self) -> Result<bool> {
        let path = &self.input.found().path;
        self.process.read(Verb::Look, path)?;
        self.input.is_unchanged()
    }

    fn look_again(&mut self) -> Result<&Found> {
        let path = &self.input.found().path;
        self.process.read(Verb::Look, path)?;
        self.input.look_again()
    }
}

impl Renames for FaultStore {
    fn rename(&self, from: &str, to: &str) -> Result<Renamed> {
        let rename = Change::Rename(from.to_owned(), to.to_owned());
        match self.process.change(rename)? {
            Reply::Renamed(renamed) => Ok(renamed),
            _ => Err(self.process.unexpected()),
        }
    }

    fn write(&self, path: &str) -> Result<Box<dyn StagedWriter>> {
        if self.crashed() {
            return Err(self.process.gone());
        }
        Ok(Box::new(FaultWriter {
            process: Arc::clone(&self.process),
            path: path.to_owned(),
            bytes: Vec::new(),
        }))
    }

    fn leftovers(&self, dir: &str, idle: Duration) -> Result<Vec<String>> {
        renames(&*self.process.inner)?.leftovers(dir, idle)
    }

    fn clear_leftovers(&self, path: &str) -> Result<()> {
        renames(&*self.process.inner)?.clear_leftovers(path)
    }

    fn comes_late(&self) -> bool {
        let inner = renames(&*self.process.inner);
        self.process.faults.copies() || inner.is_ok_and(|renames| renames.comes_late())
    }
}

impl Uploads for FaultStore {
    fn part_bytes(&self) -> usize {
        uploads(&*self.process.inner).map_or(1, |uploads| uploads.part_bytes())
    }

    fn lifetime(&self) -> Option<Duration> {
        uploads(&*self.process.inner).map_or(None, |uploads| uploads.lifetime())
    }

    fn aborts(&self) -> bool {
        uploads(&*self.process.inner).map_or(true, |uploads| uploads.aborts())
    }

    fn begin_upload(&self, path: &str) -> Result<String> {
        match self.process.change(Change::Begin(path.to_owned()))? {
            Reply::Begun(id) => Ok(id),
            _ => Err(self.process.unexpected()),
        }
    }

    fn put_part(
        &self,
        path: &str,
        id: &str,
        number: usize,
        pieces: Vec<Bytes>,
    ) -> Result<Option<String>> {
        let part = Change::Part(path.to_owned(), id.to_owned(), number, pieces);
        match self.process.change(part)? {
            Reply::Part(name) => Ok(name),
            _ => Err(self.process.unexpected()),
        }
    }

    fn complete(&self, path: &str, upload: &Upload) -> Result<Completed> {
        let complete = Change::Complete(path.to_owned(), upload.clone());
        match self.process.change(complete)? {
            Reply::Completed(completed) => Ok(completed),
            _ => Err(self.process.unexpected()),
        }
    }

    fn abort(&self, path: &str, id: &str) -> Result<()> {
        let abort = Change::Abort(path.to_owned(), id.to_owned());
        self.process.change(abort).map(|_| ())
    }
}

/// Collects what is written; the fault is chosen when the file is finished.
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

impl StagedWriter for FaultWriter {
    fn held(&self) -> usize {
        self.bytes.capacity()
    }

    fn finish(self: Box<Self>) -> Result<u64> {
        let written = self.bytes.len() as u64;
        self.process
            .change(Change::Write(self.path, self.bytes))
            .map(|_| written)
    }
}
