//! verify (body follows)
use super::{LogName, State};
use crate::error::Result;
use crate::store::Store;

/// Something that is not as the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub version: Option<u64>,
    pub path: String,
    pub message: String,
}

/// What `verify` looked at, and what it found wrong (nothing, one hopes).
#[derive(Debug)]
pub struct Verified {
    pub state: State,
    pub entries: u64,
    pub files: u64,
    pub bytes: u64,
    pub problems: Vec<Problem>,
}

/// Offline: replays every entry under every rule, and reads every live file against its size and sha256.
pub fn verify(store: &dyn Store, name: &LogName) -> Result<Option<Verified>> { todo!() }
