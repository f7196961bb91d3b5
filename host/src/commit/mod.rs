//! The commit log: the entry is the commit.
//!
//! ```text
//! open_or_init ─ R1, R2 ─ recover (P1, gc)          State = a checkpoint, and the fold of proved entries after it
//! commit(Draft) ─ W3 ─ W5 Create(P+1) ─ W6 ─→ Committed ─→ sweep, publish ─→ group offsets, metrics
//!                 └─ a receipt overtaken by another writer is dropped, the others stay
//! ```
//! One log per pipeline and zone; rule names (V…, R…, W…, P…) are those of docs/protocol.md. Writers need no lease: each span
//! must begin where its split ends, and only one entry of a version can exist.

mod checkpoint;
mod compact;
mod draft;
pub mod entry;
mod expiry;
mod file;
mod forget;
mod history;
mod keep;
mod ledgers;
mod log;
mod owner;
mod publish;
mod rewind;
mod rules;
mod state;
mod verify;
mod view;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use checkpoint::{exists, first_digest};
pub use compact::{Behind, place_of};
pub use entry::{
    AddedFile, Archived, Delivery, Entry, Expire, FileRange, Forget, Horizon, Init, Input, Kind,
    Open, Plan, PlanRange, Reader, Rewind, Role, Rule, Rules, Span, Swap, Writer,
};
pub use expiry::{ExpiredBelow, Leaving, Left, Reading};
pub use file::{decode, digest, encode, rules_digest};
pub use history::RulesPeriod;
pub use keep::{Due, EXPIRE_AT_ONCE, Held, Holder, Keep, Old};
pub use log::{Log, oldest_entry};
pub use owner::{may_own_table, own_table};
pub use rewind::{Back, Straddling};
pub use state::{
    CommitBoundary, Cut, Delivered, LiveFile, OpenPlan, RemovedFile, SplitState, State, Violation,
};
pub use verify::{Problem, Verified, verify};
pub use view::{Folded, View};
pub use write::{LATE, Limits, RETENTION};

use crate::clock::Clock;
use crate::record::SplitId;
use crate::store::{Place, Seal};

/// Which log: `_system/<pipeline>/<zone>` below the root of the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogName {
    pub pipeline: String,
    pub zone: String,
}

impl LogName {
    pub fn new(pipeline: impl Into<String>, zone: impl Into<String>) -> Self {
        LogName {
            pipeline: pipeline.into(),
            zone: zone.into(),
        }
    }

    /// `_system/<pipeline>/<zone>`
    pub fn dir(&self) -> String {
        format!("_system/{self}")
    }

    pub fn log_dir(&self) -> String {
        format!("_system/{self}/log")
    }

    pub fn entry(&self, version: u64) -> String {
        format!("_system/{self}/log/{version:020}.json")
    }

    /// Where requests for a swap wait until somebody takes them. Not part of the protocol.
    pub fn pending_dir(&self) -> String {
        format!("_system/{self}/pending")
    }

    /// Where a pipeline with a schedule says which runs are complete. Not part of the protocol.
    pub fn runs_dir(&self) -> String {
        format!("_system/{self}/runs")
    }

    /// Where delivery plans lie (D1).
    pub fn deliveries_dir(&self) -> String {
        format!("_system/{self}/deliveries")
    }

    /// The only place that says where a data file of this log belongs.
    pub fn place(&self, file: &str, path: &str) -> Place {
        Place::new(self.dir(), file, path)
    }

    /// Final path of a key sidecar.
    pub fn keys(&self, file: &str) -> String {
        format!("_system/{self}/keys/{file}.parquet")
    }
}

impl AddedFile {
    pub fn place(&self, name: &LogName) -> Place {
        name.place(&self.id, &self.path)
    }

    /// The seal that its writer returned.
    pub fn seal(&self) -> Seal {
        Seal {
            bytes: self.bytes,
            upload: self.upload.clone(),
        }
    }
}

/// `<pipeline>/<zone>`
impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pipeline, self.zone)
    }
}

impl Writer {
    /// This process, as entries name it.
    pub fn this_process(clock: &dyn Clock) -> Writer {
        Writer {
            id: format!("{}:{}", host_name(), std::process::id()),
            started: clock.now_micros(),
        }
    }
}

/// `user@host` of this process, for people.
pub fn actor() -> String {
    use std::os::unix::fs::MetadataExt as _;
    let uid = std::fs::metadata("/proc/self").map_or(0, |of| of.uid());
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(uid)).then(|| name.to_owned())
    });
    let user = found.unwrap_or_else(|| format!("uid{uid}"));
    format!("{user}@{}", host_name())
}

fn host_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

/// A new file id: a ULID, unique and sorted by time.
pub fn new_file_id() -> String {
    ulid::Ulid::generate().to_string()
}

/// What one task sealed: spans, and the files and deliveries that hold their rows and dead letters. It is committed or
/// dropped as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct PreparedCommit {
    /// [`Log::version`] when the first of its files was named.
    pub base: u64,
    /// [`State::generation`] under which its rows were made.
    pub generation: u64,
    pub spans: Vec<Span>,
    pub files: Vec<AddedFile>,
    pub deliveries: Vec<Delivery>,
    pub counters: BTreeMap<String, BTreeMap<String, u64>>,
}

/// What is to be written. The log fills in version, parent, attempt, rules and what may be collected.
#[derive(Clone, Debug, PartialEq)]
pub enum Draft {
    /// W1: pins the start of splits. A split that is already open is dropped (by its index).
    Open(Vec<Open>),
    /// Receipts of any number of tasks; a split is in at most one of them. With a swap: the old rules made their rows.
    Data {
        receipts: Vec<PreparedCommit>,
        swap: Option<Swap>,
    },
    /// Offsets that were gone before they were read. Each span has its own index in [`Dropped`].
    Gap(Vec<Span>),
    Swap(Swap),
    /// §8, committed whole or not at all: what [`State::back_to`] computed. After any conflict it must be computed
    /// again on the new state.
    Rewind {
        rewind: Rewind,
        back: Back,
        /// The rest of each file in [`Back::straddling`], in the same order, sealed.
        rests: Vec<AddedFile>,
        /// [`Log::version`] when the first rest was named.
        base: u64,
    },
    Reader(Reader),
    Plan(Plan),
    /// Its rules are those of the plan.
    Batch {
        input: Input,
        receipt: PreparedCommit,
    },
    Void(Input),
    /// Files that may be deleted: those that were never live, and those that expired. Those that became live are left out.
    Gc(Vec<String>),
    /// §9: what [`Log::forgettable`] says.
    Horizon(u64),
    /// V9, committed whole or not at all: what [`Log::expirable`] says. After any conflict it must be computed again.
    Expire {
        files: Vec<String>,
        expire: Expire,
    },
    /// Files that expired and were copied; those that are gone already are left out.
    Archived(Vec<Archived>),
    /// V11: a reader that never comes back.
    Forget(Forget),
    /// §9, committed whole or not at all: files whose rows are in new ones.
    Compact {
        remove: Vec<String>,
        /// Sealed.
        add: Vec<AddedFile>,
        /// [`Log::version`] when the first of them was named.
        base: u64,
    },
}

/// A receipt (or open, or span of a gap) that was not committed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Its index in the draft.
    pub index: usize,
    /// Its splits: seek them to [`SplitState::to`].
    pub splits: Vec<SplitId>,
    pub reason: Violation,
}

/// How a draft ended. Files of dropped receipts belong to the log now: it names them in a later `gc` and deletes them.
#[derive(Clone, Debug)]
pub enum Outcome {
    Committed {
        committed: Committed,
        dropped: Vec<Dropped>,
    },
    /// Nothing of it is in the log or ever will be.
    Lost { dropped: Vec<Dropped> },
}

/// A proved entry (W6). Made only by the log.
#[derive(Clone, Debug)]
#[expect(
    clippy::manual_non_exhaustive,
    reason = "the private field keeps the rest of this crate from making one; non_exhaustive would not"
)]
pub struct Committed {
    pub version: u64,
    pub entry: Arc<Entry>,
    _proved: (),
}
