//! Where rows go. A sink seals what was written into files that a commit can name; it never publishes before that.
//!
//! `Sealed` is made by a sink, `Committed` only by the commit log: publishing before committing does not compile.

use std::fmt;
use std::time::Duration;

use crate::chain::Applied;
use crate::commit::{AddedFile, Committed, Span};
use crate::error::Result;
use crate::record::Batch;

/// A file written to the end but not yet durable; `finish` fsyncs it. Runs on the committer's thread.
pub trait Finish: Send + fmt::Debug {
    /// What the file will be in the entry, known before it is durable.
    fn added(&self) -> &AddedFile;
    /// Makes the bytes durable under the staging name and checks their size.
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
    /// One per chain, chained on the span sealed before.
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

/// Makes committed files visible; repeating it is harmless.
pub trait Publish: Send + fmt::Debug {
    fn publish(&self, committed: &Committed) -> Result<()>;
}
