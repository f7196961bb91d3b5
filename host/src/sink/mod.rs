//! Where rows go. A sink seals what was written into files that a commit can name; it never publishes before that.
//!
//! `Sealed` is made by a sink, `Committed` only by the commit log: publishing before committing does not compile.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::chain::Applied;
use crate::clock::Clock;
use crate::commit::{AddedFile, LogName, Span};
use crate::error::Result;
use crate::record::Batch;
use crate::store::Store;

/// A file written to the end but not yet durable; `finish` fsyncs it. Runs on the committer's thread.
pub trait Finish: Send + fmt::Debug {
    /// What the file will be in the entry, known before it is durable.
    fn added(&self) -> &AddedFile;
    /// Makes the bytes durable and checks their size.
    fn finish(self: Box<Self>) -> Result<AddedFile>;
    /// Gives the bytes up; whatever is left is an orphan for gc.
    fn abandon(self: Box<Self>);
}

/// Everything since the last seal: files (rows, dead letters) and what they cover.
#[derive(Debug)]
pub struct Sealed {
    /// W2: the proved version when the first offset of this attempt was covered, so never after its first file was named.
    pub base: u64,
    pub files: Vec<Box<dyn Finish>>,
    /// One per split; each begins where the span that was sealed before ends.
    pub spans: Vec<Span>,
    /// User counters since the last seal: (transform, counter, amount).
    pub counters: Vec<(String, String, u64)>,
}

/// What was written since the last seal: read, and not committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    pub records: u64,
    /// When it is sealed at the latest, from now on. `None`: nothing was covered.
    pub due: Option<Duration>,
}

/// One task's writer. One file per table is open at a time; a seal closes them all.
///
/// After an error of `write` or `seal` the only way on is [`discard`](Sink::discard): half a batch may have been taken.
pub trait Sink: Send + fmt::Debug {
    /// Rows and dead letters of one batch, and the offsets it covers.
    fn write(&mut self, batch: &Batch, applied: Applied) -> Result<()>;
    /// True when bytes, rows or age say so (`rotate.*`). Never true with nothing covered.
    fn should_roll(&self) -> bool;
    /// `None` when nothing was covered since the last seal.
    fn seal(&mut self) -> Result<Option<Sealed>>;
    /// Drops all that was written since the last seal.
    fn discard(&mut self);
    fn gathered(&self) -> Gathered;
    /// Bytes held in memory.
    fn memory(&self) -> usize;
}

/// Where a pipeline's rows go. Opened once for each task.
pub trait SinkConnector: Send + fmt::Debug {
    fn open(&self) -> Result<Box<dyn Sink>>;
}

/// What a sink gets from its pipeline.
#[derive(Clone, Debug)]
pub struct SinkContext {
    /// Holds the commit log, and the files of a zone.
    pub store: Arc<dyn Store>,
    pub log: LogName,
    pub clock: Arc<dyn Clock>,
    pub base: Base,
}

/// The proved version of a pipeline's log, as its sinks see it when they name a file (W2).
#[derive(Clone, Debug, Default)]
pub struct Base(Arc<AtomicU64>);

impl Base {
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub fn set(&self, version: u64) {
        self.0.store(version, Ordering::SeqCst);
    }
}
