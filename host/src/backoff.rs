//! How long to wait before a failed call is tried again.

use std::time::Duration;

/// Waits that double from `first` up to `max`. There is no last one: only a person gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
    /// Waits so far.
    waits: u32,
}

impl Backoff {
    pub const fn new(first: Duration, max: Duration) -> Backoff {
        Backoff {
            first,
            max,
            waits: 0,
        }
    }

    /// The wait after one more failure in a row.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.wait_after(self.waits);
        self.waits = self.waits.saturating_add(1);
        wait
    }

    /// The wait that follows this many earlier waits.
    pub fn wait_after(&self, waits: u32) -> Duration {
        let factor = 1_u32.checked_shl(waits).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.max)
    }

    /// Whether something failed since the last [`reset`](Backoff::reset).
    pub fn is_waiting(&self) -> bool {
        self.waits > 0
    }

    /// It worked: the next failure is a new one.
    pub fn reset(&mut self) {
        self.waits = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));
        let waits: Vec<u128> = (0..5).map(|_| backoff.next_wait().as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1_000, 1_000]);
        assert!(backoff.is_waiting());
        assert_eq!(backoff.wait_after(u32::MAX), Duration::from_secs(1));
        backoff.reset();
        assert!(!backoff.is_waiting());
        assert_eq!(backoff.next_wait(), Duration::from_millis(200));
    }
}
