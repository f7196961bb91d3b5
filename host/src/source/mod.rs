//! Where records come from. A source yields batches; it never commits by itself.

mod connector;
mod lost;

use std::fmt;
use std::time::Duration;

pub use connector::TopicInfo;
pub use connector::{Acknowledge, Change, Connector, Nobody, PartitionInfo, Policy, ReadLimits};
pub use lost::{Lost, LostRange, lost};

use crate::error::{Error, Kind, Result};
use crate::record::{Batch, SplitId, TopicPartition};

/// A source that refuses us while it is read does so for good after so long. One that begins again, or credentials that are
/// being changed, may refuse for a moment.
pub const REFUSED_FOR: Duration = Duration::from_secs(30);

/// A split and where reading it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub split: SplitId,
    pub epoch: u64,
    pub tp: TopicPartition,
    /// Next offset to read.
    pub next: i64,
}

/// One task's share of a source.
pub trait Source: Send + fmt::Debug {
    /// The next batch, within about `wait`. `None`: nothing came. Batches of one split follow each other without a hole:
    /// each `covers.range.from` is the position where the one before ended. An empty batch may advance over a gap.
    fn next(&mut self, wait: Duration) -> Result<Option<Batch>>;

    /// Go back (or on) to these positions; splits not named keep theirs. What was fetched and not given is dropped.
    fn seek(&mut self, positions: &[Position]) -> Result<()>;

    /// Also read these splits from now on.
    fn assign(&mut self, positions: &[Position]) -> Result<()>;

    /// Read these splits no more: somebody else does from now on. A source whose splits nobody takes away need not know how.
    fn revoke(&mut self, splits: &[SplitId]) -> Result<()> {
        Err(Error::new(
            Kind::Bug,
            "source.revoke",
            format!("{splits:?} are taken from a source that keeps what it reads"),
        ))
    }

    /// Stop or go on fetching: memory is short, or the log is not taking commits.
    fn pause(&mut self, paused: bool) -> Result<()>;

    /// True when every split stands where its end was when the source was opened (`available-now`).
    fn caught_up(&self) -> bool;

    /// Records known to be waiting behind the positions, for progress lines.
    fn lag(&self) -> Option<u64>;
}
