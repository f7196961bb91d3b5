//! The commit log: the entry is the commit.

pub mod entry;

use std::sync::Arc;

pub use entry::{AddedFile, Entry, FileRange, Kind, Role, Rule, Rules, Span};

/// A proved entry. Made only by the log, after W6.
#[derive(Clone, Debug)]
pub struct Committed {
    pub version: u64,
    pub entry: Arc<Entry>,
}
