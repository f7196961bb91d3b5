//! Memory of rows that a task has handed in: it is the task's until nobody holds the rows any more, wherever they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is handed in by one task and held by somebody, in bytes.
#[derive(Clone, Debug, Default)]
pub struct HandedIn(Arc<AtomicUsize>);

impl HandedIn {
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// So many bytes more, until the answer is dropped.
    pub fn hold(&self, bytes: usize) -> Held {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Held {
            bytes,
            of: self.clone(),
        }
    }
}

/// Goes with the rows that it stands for.
#[derive(Debug, Default)]
pub struct Held {
    bytes: usize,
    of: HandedIn,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_in_counts_until_it_is_dropped() {
        let handed_in = HandedIn::default();
        let (first, second) = (handed_in.hold(100), handed_in.hold(20));
        assert_eq!(handed_in.bytes(), 120);
        drop(first);
        assert_eq!(handed_in.bytes(), 20);
        drop(second);
        assert_eq!(handed_in.bytes(), 0);
    }
}
