//! What tasks and their committer say to each other.
//!
//! A task numbers what it hands in; an answer names the number up to which it settles. So no answer can settle what it
//! does not mean, however late it comes.

use crate::chain::TransformChain;
use crate::record::SplitId;
use crate::sink::Sealed;
use crate::source::{LostRange, Position};

/// What a task has sealed, for the log. Answered by `Committed` or `Dropped`.
#[derive(Debug)]
pub struct HandIn {
    pub task: usize,
    /// Counts the hand-ins of this task, from 1.
    pub number: u64,
    /// Changes of rules that the task had heard of when it made the rows.
    pub swap_seq: u64,
    pub sealed: Sealed,
}

#[derive(Debug)]
pub enum ToCommitter {
    Commit(HandIn),
    /// The answer to a `Flush`: everything made before the change. `None` where the task held nothing.
    Flushed {
        task: usize,
        flush: u64,
        hand_in: Option<HandIn>,
    },
    /// Where does the log say that the partitions of this task go on? Answered by `Positions`.
    Positions {
        task: usize,
    },
    /// Offsets gone before they were read: commit them as a gap. Answered by `Positions`.
    Gap {
        task: usize,
        ranges: Vec<LostRange>,
    },
    /// Nothing more comes from this task.
    Ended {
        task: usize,
    },
}

#[derive(Debug)]
pub enum ToTask {
    /// Everything handed in up to this number is in the log.
    Committed { up_to: u64 },
    /// What was handed in up to this number and is not answered yet is not in the log and never will be: drop what
    /// follows on it, and go on at these positions.
    Dropped {
        up_to: u64,
        positions: Vec<Position>,
        why: String,
    },
    /// The answer to `Positions` or `Gap`.
    Positions(Vec<Position>),
    /// Somebody put the log back: drop what is not committed, and go on at these positions.
    Rewound(Vec<Position>),
    /// Read these partitions too.
    Assign(Vec<Position>),
    /// Seal what you hold, answer `Flushed`, then go on with the change.
    Flush { flush: u64, change: Change },
}

#[derive(Debug)]
pub enum Change {
    /// Other rules from the next batch on.
    Rules(Box<TransformChain>),
    /// Somebody else reads these partitions from now on.
    Release(Vec<SplitId>),
}
