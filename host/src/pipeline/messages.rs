//! What tasks and their committer say to each other.
//!
//! A task numbers what it hands in; an answer names the number up to which it settles. So an answer that comes late
//! cannot settle a later hand-in.

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
    /// How many changes of rules the task had received when it made the rows.
    pub swap_seq: u64,
    pub sealed: Sealed,
}

#[derive(Debug)]
pub enum ToCommitter {
    Commit(HandIn),
    /// The answer to a `Flush`: everything made before the change. `None`: the task held nothing.
    Flushed {
        task: usize,
        flush: u64,
        hand_in: Option<HandIn>,
    },
    /// Asks for the log's positions of this task's partitions. Answered by `Positions`.
    Positions {
        task: usize,
    },
    /// Offsets were gone before they were read: commit them as a gap. Answered by `Positions`.
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
    /// Everything handed in up to this number and not answered yet is not in the log and never will be: drop what
    /// follows it, and go on at these positions.
    Dropped {
        up_to: u64,
        positions: Vec<Position>,
        why: String,
    },
    /// The answer to `Positions` or `Gap`.
    Positions(Vec<Position>),
    /// Somebody rewound the log: drop what is not committed, and go on at these positions.
    Rewound(Vec<Position>),
    /// Read these partitions too.
    Assign(Vec<Position>),
    /// Seal what you hold and answer `Flushed`. Other rules are taken before the answer, partitions are released after it.
    Flush { flush: u64, change: Change },
}

#[derive(Debug)]
pub enum Change {
    /// Other rules from the next batch on.
    Rules(Box<TransformChain>),
    /// Another process reads these partitions from now on.
    Release(Vec<SplitId>),
}
