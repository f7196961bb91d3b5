//! limits
use std::time::Duration;
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Creates of the same bytes before the caller is told that the store does not answer.
    pub tries: u32,
    /// Shortest time between two data entries of one log.
    pub pace: Duration,
}
