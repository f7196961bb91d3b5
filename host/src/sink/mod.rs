//! Where rows go. A sink seals what was written into outputs that a commit can name: files, and deliveries to other systems.
//!
//! `Sealed` is made by a sink, `Committed` only by the commit log: publishing before committing does not compile. A
//! file is durable before its entry and shown after it. So is a delivery with a token: its receiver holds the rows back
//! until the entry is proved, and any process can finish it then. Without a token the receiver has taken the rows
//! before the entry: after a crash in between they are delivered again, so they arrive at least once.

pub mod covered;
pub mod format;
pub mod guarded;
pub mod held;
pub mod json;
pub mod json_rows;
pub mod lanes;
pub mod plan;
pub mod refusing;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::chain::{Applied, DeadLetter};
use crate::clock::Clock;
use crate::commit::{AddedFile, Delivery, LogName, Span};
use crate::error::{Error, Kind, Result};
use crate::record::{Batch, RecordTimes, SplitId};
use crate::store::Store;

/// One in this many parts of a task's memory is for its open files; the rest is for batches, guests and the queues of
/// the source.
pub const FILES_SHARE: usize = 2;

/// A file written to the end but not yet durable; `finish` fsyncs it. Runs on the committer's thread.
pub trait Finish: Send + fmt::Debug {
    /// The file as the entry will name it, known before it is durable.
    fn added(&self) -> &AddedFile;
    /// Makes the bytes durable and checks their size.
    fn finish(self: Box<Self>) -> Result<AddedFile>;
    /// Gives up the bytes; what is left in the store is an orphan, which is collected.
    fn abandon(self: Box<Self>);
}

/// Rows or dead letters for another system. Runs on the committer's thread.
pub trait Deliver: Send + fmt::Debug {
    /// Called before the entry. If the answer has a token, the receiver has all rows, durably, and holds them back
    /// until [`Receiver::finish`]. If not, it has taken all of them. After an error it is unknown what it has, and the
    /// records are read again. `fence` holds as long as these rows are the next of their splits according to the log: a
    /// sink that does not hold rows back checks it once, after it has durably decided what it will send (D3).
    fn prepare(self: Box<Self>, fence: &dyn Fence) -> Result<Prepared>;
    /// Called instead of `prepare`: these rows are in no entry and never will be.
    fn abandon(self: Box<Self>);
}

/// Checks that the log's positions are still those where the rows of a hand-in begin, under the rules that made them.
pub trait Fence: fmt::Debug {
    /// `Conflict`: another process has committed meanwhile. Its entry may have these rows.
    fn holds(&self) -> Result<()>;
}

/// The result of a delivery before its entry.
#[derive(Debug, Default)]
pub struct Prepared {
    /// What the receiver took. Each has at least one row.
    pub deliveries: Vec<Delivery>,
    /// Dead letters of rows that the receiver refused: durable files of the home.
    pub letters: Vec<AddedFile>,
    /// For each split, how those rows change its span, so that its ledger closes (V7).
    pub refused: BTreeMap<SplitId, Refused>,
}

/// Rows of one span that the rules made and the receiver refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    pub rows: u64,
    /// One for each of the rows, or one for a record with too many of them.
    pub letters: u64,
    /// Records that have no other row: they count as refused, and not as with rows.
    pub records: u64,
    /// Records of which the receiver refused a piece, and no rule did.
    pub in_part: u64,
    /// Records that have a dead letter now, and had none of a rule.
    pub first: u64,
}

impl Refused {
    /// The span as it is in the entry.
    pub fn settle(self, span: &mut Span) {
        let Refused {
            rows,
            letters,
            records,
            in_part,
            first: _,
        } = self;
        span.rows.written = span.rows.written.saturating_sub(rows);
        span.rows.refused += rows;
        span.dead_letters += letters;
        span.records.with_rows = span.records.with_rows.saturating_sub(records);
        span.records.refused += records;
        span.records.refused_in_part += in_part;
    }
}

impl From<Delivery> for Prepared {
    fn from(delivery: Delivery) -> Prepared {
        Prepared {
            deliveries: vec![delivery],
            ..Prepared::default()
        }
    }
}

/// Finishes prepared deliveries or gives them up: for the committer after an entry, and at a start for those of
/// processes that died.
pub trait Receiver: Send + fmt::Debug {
    /// Ids of all deliveries that any process of this pipeline has prepared and that are neither finished nor given up.
    /// Asked after the log was read, it names all remaining work, as `begun` of a store does for files (O6).
    fn prepared(&self) -> Result<Vec<String>>;
    /// P1: a proved entry names the delivery. May be called any number of times, by any process: the receiver
    /// recognises a repetition.
    fn finish(&self, delivery: &Delivery) -> Result<()>;
    /// A proved entry collects the delivery (W8): its rows are in no entry and never will be. May be called any number
    /// of times; for an unknown id it does nothing.
    fn give_up(&self, id: &str) -> Result<()>;
    /// Called again and again while nothing is committed, and must cost nothing for the most of them: what has to be done now and
    /// then is done here. An error that may pass is not reported; the next call tries again.
    fn idle(&self) -> Result<()> {
        Ok(())
    }
    /// An entry with these spans is proved and published (W7): data that was kept for a crash before it may be deleted.
    /// Best effort.
    fn passed(&self, _spans: &[Span]) {}
}

/// The receiver of a sink without tokens: it writes files, or its rows are taken before their entry.
#[derive(Debug)]
pub struct NoTokens;

impl Receiver for NoTokens {
    fn prepared(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn finish(&self, delivery: &Delivery) -> Result<()> {
        let message = "a delivery has a token, and its sink gives none";
        Err(Error::new(Kind::Bug, "sink.finish", message).with("delivery", &delivery.id))
    }

    fn give_up(&self, _: &str) -> Result<()> {
        Ok(())
    }
}

/// Everything since the last seal: the outputs (of rows and of dead letters) and the spans that they cover.
#[derive(Debug)]
pub struct Sealed {
    /// W2: the proved version when the first offset of this attempt was covered, so never after its first file was named.
    pub base: u64,
    pub files: Vec<Box<dyn Finish>>,
    pub deliveries: Vec<Box<dyn Deliver>>,
    /// One per split; each begins where the previously sealed span ends.
    pub spans: Vec<Span>,
    /// User counters since the last seal: (transform, counter, amount).
    pub counters: Vec<(String, String, u64)>,
    /// For reports.
    pub notes: BTreeMap<SplitId, Notes>,
}

/// What reports tell of the records of one split, and no entry says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Notes {
    /// When they were made.
    pub times: RecordTimes,
    pub refusals: Refusals,
    /// Records with a dead letter, of the whole or of a piece.
    pub refused_records: u64,
}

/// Dead letters by transform and the code of their first reason.
pub type Refusals = BTreeMap<(String, String), u64>;

/// Pairs of transform and code that one commit tells apart; a plugin may make up codes. What comes after them is one pair.
const REFUSALS: usize = 200;

impl Notes {
    pub fn merge(&mut self, other: &Notes) {
        self.times.merge(&other.times);
        self.refused_records += other.refused_records;
        for ((transform, code), n) in &other.refusals {
            refuse(&mut self.refusals, transform, code, *n);
        }
    }

    /// Of one batch, in the order of its records.
    ///
    /// `record`: tells the record of a letter from the one before.
    pub fn add_letters<R: PartialEq>(
        &mut self,
        letters: &[DeadLetter],
        record: impl Fn(&DeadLetter) -> R,
    ) {
        let mut last = None;
        for letter in letters {
            let record = Some(record(letter));
            if last != record {
                self.refused_records += 1;
                last = record;
            }
            let code = letter.reasons.first().map_or("", |reason| &reason.code);
            refuse(&mut self.refusals, &letter.by.transform, code, 1);
        }
    }
}

/// Adds to a pair, or to `other` where there are too many pairs.
pub fn refuse(all: &mut Refusals, transform: &str, code: &str, n: u64) {
    let mut pair = (transform.to_owned(), code.to_owned());
    if all.len() >= REFUSALS && !all.contains_key(&pair) {
        pair = ("other".to_owned(), "other".to_owned());
    }
    *all.entry(pair).or_default() += n;
}

/// What was written since the last seal: read, and not committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    pub records: u64,
    /// The longest time from now until it is sealed. `None`: nothing was covered.
    pub due: Option<Duration>,
}

/// One task's writer. One file per table is open at a time; a seal closes them all.
///
/// After an error of `write` or `seal` only [`discard`](Sink::discard) may follow: half a batch may have been taken.
/// [`Guarded`](guarded::Guarded) makes sure of it, so a sink need not.
pub trait Sink: Send + fmt::Debug {
    /// Rows and dead letters of one batch, and the offsets it covers.
    fn write(&mut self, batch: &Batch, applied: Applied) -> Result<()>;
    /// True when bytes, rows or age reach a limit (`rotate.*`). Never true if nothing was covered.
    fn should_roll(&self) -> bool;
    /// `None` when nothing was covered since the last seal. What cannot be sealed yet stays ([`waits`](Sink::waits)), and
    /// [`gathered`](Sink::gathered) tells of it.
    fn seal(&mut self) -> Result<Option<Sealed>>;
    /// What was written must not be sealed whole now: more of it is on its way (D2).
    fn waits(&self) -> bool {
        false
    }
    /// Splits of which more is waited for, for so long and no longer (D2).
    fn awaited(&self) -> Vec<SplitId> {
        Vec::new()
    }
    /// Time that just passed does not count for this wait: the source still has what is waited for, or was not asked.
    fn put_off(&mut self, _split: &SplitId, _passed: Duration) {}
    /// The source has lost what follows in this split: nothing is on its way.
    fn lost(&mut self, _split: &SplitId) {}
    /// Drops everything that was written since the last seal.
    fn discard(&mut self);
    fn gathered(&self) -> Gathered;
    /// Bytes held in memory.
    fn memory(&self) -> usize;
}

/// Where a pipeline's rows go. Opened once for each task.
pub trait SinkConnector: Send + fmt::Debug {
    fn open(&self) -> Result<Box<dyn Sink>>;

    /// The receiver for the committer. A sink whose deliveries have tokens returns its own.
    fn receiver(&self) -> Result<Box<dyn Receiver>> {
        Ok(Box::new(NoTokens))
    }
}

/// What a sink gets from its pipeline.
#[derive(Clone, Debug)]
pub struct SinkContext {
    /// Holds the commit log, and the files of a zone.
    pub store: Arc<dyn Store>,
    pub log: LogName,
    pub clock: Arc<dyn Clock>,
    pub base: Base,
    pub patience: Arc<dyn Patience>,
}

/// How a delivery waits for a receiver that is away: it reports this, and learns when it must end.
pub trait Patience: Send + Sync + fmt::Debug {
    /// A fault that may pass; reported once until `resumed`.
    fn waiting(&self, error: &Error);
    fn resumed(&self);
    /// Somebody asked to stop; work that was begun may still be settled.
    fn stop_asked(&self) -> bool;
    /// The time for that is over.
    fn stop_overdue(&self) -> bool;
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
