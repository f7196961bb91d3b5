//! Records that should be read and are gone: an error of the source carries the ranges, so that a gap can be committed.

use std::fmt;

use super::Position;
use crate::error::Error;
use crate::record::{SplitId, TopicPartition};

/// Offsets `[from, to)` that should be read and are gone. `to` is where reading could go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRange {
    pub split: SplitId,
    pub tp: TopicPartition,
    pub from: i64,
    pub to: i64,
}

/// What a [`crate::error::Kind::SourceLost`] error of a source carries as its source; see [`lost`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Retention or a deletion removed them before they were read: a `gap` entry can account for them.
    AgedOut(Vec<LostRange>),
    /// The position lies above the end: the partition was truncated or created again. No entry can account for that.
    AboveEnd(Vec<LostRange>),
    /// The topic no longer exists.
    TopicGone(String),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = match self {
            Lost::TopicGone(topic) => return write!(f, "topic '{topic}' is gone"),
            Lost::AgedOut(ranges) | Lost::AboveEnd(ranges) => ranges,
        };
        for (i, r) in ranges.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} offsets {}..{}", r.tp, r.from, r.to)?;
        }
        Ok(())
    }
}

impl std::error::Error for Lost {}

impl Lost {
    /// What is lost if reading should go on at `at` and the partition holds `[low, high)`.
    pub fn of(at: &Position, low: i64, high: i64) -> Option<Lost> {
        let range = |from, to| {
            vec![LostRange {
                split: at.split.clone(),
                tp: at.tp.clone(),
                from,
                to,
            }]
        };
        if at.next < low {
            Some(Lost::AgedOut(range(at.next, low)))
        } else if at.next > high {
            Some(Lost::AboveEnd(range(at.next, high)))
        } else {
            None
        }
    }

    /// The worst first: a topic that is gone, then positions above the end, then ranges that a gap can account for.
    pub fn merge<'a>(all: impl Iterator<Item = &'a Lost>) -> Option<Lost> {
        let (mut aged, mut above) = (Vec::new(), Vec::new());
        for lost in all {
            match lost {
                Lost::TopicGone(topic) => return Some(Lost::TopicGone(topic.clone())),
                Lost::AboveEnd(ranges) => above.extend_from_slice(ranges),
                Lost::AgedOut(ranges) => aged.extend_from_slice(ranges),
            }
        }
        if !above.is_empty() {
            return Some(Lost::AboveEnd(above));
        }
        (!aged.is_empty()).then_some(Lost::AgedOut(aged))
    }
}

/// The lost ranges behind an error, if that is what it is about.
pub fn lost(error: &Error) -> Option<&Lost> {
    std::error::Error::source(error)?.downcast_ref()
}
