//! The phases of a committer, the events that it handles, and its effects.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::chain::TransformChain;
use crate::commit::{
    Archived, Committed, Draft, Dropped, Due, Open, Outcome, PreparedCommit, Swap,
};
use crate::error::Error;
use crate::pipeline::messages::{HandIn, ToCommitter, ToTask};
use crate::record::SplitId;
use crate::sink::Sealed;
use crate::source::LostRange;

/// How long the committer waits when no message comes.
pub const IDLE_WAIT: Duration = Duration::from_millis(50);
/// How often an idle committer looks for entries of other processes. It follows a swap among them.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Time for all tasks to seal what they hold: far above the time for a batch, a plugin's deadline and the closing of
/// files. A task that takes longer (a plugin is being isolated, the broker is away) reads its records again under the
/// new rules.
pub const FLUSH_MAX: Duration = Duration::from_secs(5);

/// New rules, ready to run.
#[derive(Debug)]
pub struct NewRules {
    pub swap: Swap,
    /// True for rules of this process's own config: they replace any rules in force, and `swap.replaces` is filled in.
    pub own: bool,
    /// If the table has rows: why its readers would not accept the change.
    pub breaking: Option<Error>,
    /// One for each task.
    pub chains: Vec<TransformChain>,
}

#[derive(Debug)]
pub enum Phase {
    /// Collects what tasks hand in, until the pace of the log allows an entry.
    Gathering,
    /// Reads what other processes wrote, because no message came for a while.
    Looking,
    /// Reads what other processes wrote, before an answer.
    Refreshing(For),
    /// Asks the log whether it would accept these rules.
    Admitting,
    /// Tasks seal what they made before a change.
    Flushing(Flush),
    /// Makes the files of hand-ins durable.
    Finishing(Option<Reason>),
    /// An entry is being written to the log.
    Writing(Writes),
    /// An entry is in the log; its files get their final names.
    Publishing(Writes, Committed, Vec<Dropped>),
    Ended,
}

#[cfg(test)]
impl Phase {
    pub fn name(&self) -> &'static str {
        match self {
            Phase::Gathering => "committer Gathering",
            Phase::Looking => "committer Looking",
            Phase::Refreshing(_) => "committer Refreshing",
            Phase::Admitting => "committer Admitting",
            Phase::Flushing(_) => "committer Flushing",
            Phase::Finishing(_) => "committer Finishing",
            Phase::Writing(_) => "committer Writing",
            Phase::Publishing(..) => "committer Publishing",
            Phase::Ended => "committer Ended",
        }
    }
}

#[derive(Debug)]
pub enum For {
    /// This task asks for positions.
    Task(usize),
    Rules(Box<NewRules>),
}

/// Why tasks flush, and which have not answered yet.
#[derive(Debug)]
pub enum Reason {
    Rules(Box<Swap>),
    Release(Vec<SplitId>),
}

#[derive(Debug)]
pub struct Flush {
    pub number: u64,
    pub reason: Reason,
    /// Tasks that have not answered.
    pub missing: BTreeSet<usize>,
    pub until: Duration,
}

/// What an entry is for.
#[derive(Debug)]
pub enum Writes {
    Data {
        /// Task and number of each hand-in, in the order of the draft.
        hand_ins: Vec<(usize, u64)>,
        reason: Option<Reason>,
    },
    Open(Vec<SplitId>),
    Gap {
        task: usize,
    },
    /// What the log may forget.
    Horizon(u64),
    /// Data that expires, or that is deleted after it has.
    Leave(Due),
    /// Data that expired and was archived.
    Archived,
}

#[derive(Debug)]
pub enum Event {
    Begun,
    Heard(ToCommitter),
    /// No message came during the wait.
    Quiet,
    /// Every task has hung up.
    HungUp,
    /// New partitions were found.
    Found(Vec<Open>),
    Rules(Box<NewRules>),
    /// Files that expired were copied into the archive.
    Archived(Vec<Archived>),
    /// Another process shall read these partitions: they are released after an entry.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "simulated; no source takes partitions away yet")
    )]
    Revoked(Vec<SplitId>),
    Looked(Result<(), Error>),
    Refreshed(Result<(), Error>),
    /// The log and the readers of the table would accept the rules, or why not.
    Admitted(Result<Box<NewRules>, String>),
    /// In the order of the hand-ins.
    Finished(Vec<Finished>),
    Settled(Result<Outcome, Error>),
    /// `None`: nothing was on its way.
    Left(Result<Option<Outcome>, Error>),
    Published(Result<(), Error>),
    /// The pause is over.
    Waited,
}

/// A hand-in whose files are durable, or why they are not.
#[derive(Debug)]
pub struct Finished {
    pub task: usize,
    pub number: u64,
    pub receipt: Result<PreparedCommit, Error>,
    /// Records of each split of which the receiver refused something, and no rule did: for reports.
    pub refused: BTreeMap<SplitId, u64>,
}

/// Done in this order; none of them fails.
#[derive(Debug)]
pub enum Effect {
    Send(usize, ToTask),
    /// The task is sent the log's positions of these partitions.
    SendPositions {
        task: usize,
        partitions: Vec<SplitId>,
        because: Because,
    },
    /// No entry will name these files.
    Abandon(Sealed),
    /// Writes group offsets and reports; only after an entry is published.
    Announce(Committed),
    /// The answer for the process that asked for new rules: the version, or why not.
    AnswerRules(Result<u64, String>),
    /// The task did not flush in time.
    Late {
        task: usize,
    },
    /// Everything that was read of these partitions is in the log.
    Released(Vec<SplitId>),
    TellRewound,
    TellWaiting(Error),
    TellResumed,
}

#[derive(Debug)]
pub enum Because {
    Asked,
    Rewound,
    Assigned,
    Dropped { up_to: u64, why: String },
}

/// What the committer waits for. When that ends, it is the next event.
#[derive(Debug)]
pub enum Next {
    /// `Heard`, `Found`, `Archived`, `Rules` (unless the process is stopping), `Revoked`, `HungUp` or, after this time, `Quiet`.
    Listen(Duration),
    /// The same, but only from the tasks.
    ListenToTasks(Duration),
    Look,
    Refresh,
    Admit(Box<NewRules>),
    /// Seals the files, so that they are durable (W2).
    Finish {
        hand_ins: Vec<HandIn>,
        generation: u64,
    },
    Commit(Draft),
    CommitGap(Vec<LostRange>),
    /// Finishes what earlier entries began, then lets the log forget what lies up to this version.
    Forget(u64),
    /// Finishes what earlier entries began, then lets old data leave the zone.
    LetLeave(Due),
    /// Continues the attempt that has no answer.
    Settle,
    /// Gives it up: the deadline of a stop has passed.
    Leave,
    Publish(Committed),
    /// Waits for this time, but not longer than until somebody asks to stop; while stopping, not past the deadline.
    Pause(Duration),
    End(Ending),
}

#[derive(Debug)]
pub enum Ending {
    Well,
    /// The rules in force are not those that the tasks run.
    OtherRules,
    /// The deadline of a stop passed after tasks had changed to new rules.
    Stopped,
    Failed(Error),
}

#[derive(Debug)]
pub struct Step {
    pub effects: Vec<Effect>,
    pub next: Next,
}

/// What the machine needs to know at the moment of a step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub now: Duration,
    pub stop_asked: bool,
    /// The time for draining is over.
    pub stop_overdue: bool,
    /// How much longer to gather, by the pace of the log.
    pub ready_in: Duration,
    /// Version of the rules in force, as far as the log was read.
    pub generation: u64,
    /// Version of the last rewind, as far as the log was read.
    pub rewound: u64,
    /// The version up to which the log may forget now.
    pub forgettable: Option<u64>,
    /// What is old enough to leave the zone, or to be deleted.
    pub due: Option<Due>,
}
