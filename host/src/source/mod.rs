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

/// A source that refuses access while it is read is taken at its word after this time. A broker that restarts, or
/// credentials that are being changed, may cause refusals for a moment.
pub const REFUSED_FOR: Duration = Duration::from_secs(30);

/// A split and the offset where reading goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub split: SplitId,
    pub epoch: u64,
    pub tp: TopicPartition,
    /// Next offset to read.
    pub next: i64,
}

/// The end of a split: the next offset after the last that may be read. A topic that was created again has other splits of
/// the same partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub split: SplitId,
    pub next: i64,
}

/// One task's share of a source.
pub trait Source: Send + fmt::Debug {
    /// The next batch, within about `wait`. `None`: nothing came. Batches of one split follow each other without a hole:
    /// each `covers.range.from` is the position where the one before ended. An empty batch may advance over a gap.
    fn next(&mut self, wait: Duration) -> Result<Option<Batch>>;

    /// Moves to these positions, back or forward; splits that are not named keep theirs. What was fetched but not
    /// returned yet is dropped.
    fn seek(&mut self, positions: &[Position]) -> Result<()>;

    /// Reads these splits too from now on.
    fn assign(&mut self, positions: &[Position]) -> Result<()>;

    /// Stops reading these splits: another process reads them from now on. A source whose splits are never taken away
    /// need not implement this.
    fn revoke(&mut self, splits: &[SplitId]) -> Result<()> {
        Err(Error::new(
            Kind::Bug,
            "source.revoke",
            format!("{splits:?} are taken from a source that keeps what it reads"),
        ))
    }

    /// Stops fetching, or goes on: memory is short, or the log accepts no commits. Asked to go on when it was not paused, it does
    /// nothing; after an error it is asked again, after a wait.
    fn pause(&mut self, paused: bool) -> Result<()>;

    /// True when every split has reached the end that it had when the source was opened (`available-now`).
    fn caught_up(&self) -> bool;

    /// The source has more of this split than it has given, as far as it knows without asking: it comes, however long others are read
    /// before it, and however long the source cannot be reached.
    fn has_more(&self, split: &SplitId) -> bool;

    /// Records known to wait above the positions, for progress lines.
    fn lag(&self) -> Option<u64>;

    /// Where each partition ends now, as far as the source knows without asking. Empty: it cannot say.
    fn ends(&self) -> Vec<End> {
        Vec::new()
    }
}
