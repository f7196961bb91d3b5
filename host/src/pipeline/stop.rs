//! One way to ask for an end: a flag with a deadline, shared by all threads of a process.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::clock::Clock;

/// A child hears its parent at the latest after this time.
const CHILD_WAIT: Duration = Duration::from_millis(50);

/// Cheap to clone. Once asked, it stays asked.
#[derive(Clone, Debug)]
pub struct Stop {
    shared: Arc<Shared>,
    /// The process's, for a pipeline.
    parent: Option<Box<Stop>>,
}

#[derive(Debug)]
struct Shared {
    asked: AtomicBool,
    /// Elapsed microseconds of the clock after which draining is given up.
    deadline: AtomicI64,
    changed: (Mutex<()>, Condvar),
    clock: Arc<dyn Clock>,
}

impl Stop {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let changed = (Mutex::new(()), Condvar::new());
        let deadline = AtomicI64::new(i64::MAX);
        let shared = Shared {
            asked: AtomicBool::new(false),
            deadline,
            changed,
            clock,
        };
        Stop {
            shared: Arc::new(shared),
            parent: None,
        }
    }

    /// Asked when the parent is; asking it does not ask the parent.
    #[must_use]
    pub fn child(&self) -> Stop {
        let mut child = Stop::new(self.shared.clock.clone());
        child.parent = Some(Box::new(self.clone()));
        child
    }

    /// Ask for an end; what is in hand may be committed within `grace`. A second call cannot lengthen it.
    pub fn ask(&self, grace: Duration) {
        let until = self
            .shared
            .clock
            .elapsed()
            .saturating_add(grace)
            .as_micros();
        let until = i64::try_from(until).unwrap_or(i64::MAX);
        self.shared.deadline.fetch_min(until, Ordering::SeqCst);
        self.shared.asked.store(true, Ordering::SeqCst);
        let _held = self
            .shared
            .changed
            .0
            .lock()
            .unwrap_or_else(|e| e.into_inner());
        self.shared.changed.1.notify_all();
    }

    pub fn asked(&self) -> bool {
        self.shared.asked.load(Ordering::SeqCst) || self.parent.as_ref().is_some_and(|p| p.asked())
    }

    /// True when the time for draining is over.
    pub fn overdue(&self) -> bool {
        self.asked() && self.left().is_zero()
    }

    /// Time left for draining; very long while nobody asked.
    pub fn left(&self) -> Duration {
        let now = i64::try_from(self.shared.clock.elapsed().as_micros()).unwrap_or(i64::MAX);
        let left = self
            .shared
            .deadline
            .load(Ordering::SeqCst)
            .saturating_sub(now);
        let left = Duration::from_micros(u64::try_from(left).unwrap_or(0));
        self.parent
            .as_ref()
            .map_or(left, |parent| parent.left().min(left))
    }

    /// Waits, but not past the moment somebody asks. True when asked.
    pub fn wait(&self, time: Duration) -> bool {
        let until = self.shared.clock.elapsed().saturating_add(time);
        loop {
            let left = until.saturating_sub(self.shared.clock.elapsed());
            if self.asked() || left.is_zero() {
                return self.asked();
            }
            let held = self
                .shared
                .changed
                .0
                .lock()
                .unwrap_or_else(|e| e.into_inner());
            drop(
                self.shared
                    .changed
                    .1
                    .wait_timeout(held, left.min(CHILD_WAIT)),
            );
        }
    }
}
