//! One way to ask for an end: a flag with a deadline, shared by all threads of a process.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::clock::Clock;

/// Cheap to clone. Once asked, it stays asked.
#[derive(Clone, Debug)]
pub struct Stop {
    shared: Arc<Shared>,
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
        Stop { shared: Arc::new(Shared { asked: AtomicBool::new(false), deadline, changed, clock }) }
    }

    /// Ask for an end; what is in hand may be committed within `grace`. A second call cannot lengthen it.
    pub fn ask(&self, grace: Duration) {
        let until = self.shared.clock.elapsed().saturating_add(grace).as_micros();
        let until = i64::try_from(until).unwrap_or(i64::MAX);
        self.shared.deadline.fetch_min(until, Ordering::SeqCst);
        self.shared.asked.store(true, Ordering::SeqCst);
        let _held = self.shared.changed.0.lock().unwrap_or_else(|e| e.into_inner());
        self.shared.changed.1.notify_all();
    }

    pub fn asked(&self) -> bool {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// True when the time for draining is over.
    pub fn overdue(&self) -> bool {
        self.asked() && self.left().is_zero()
    }

    /// Time left for draining; very long while nobody asked.
    pub fn left(&self) -> Duration {
        let now = i64::try_from(self.shared.clock.elapsed().as_micros()).unwrap_or(i64::MAX);
        let left = self.shared.deadline.load(Ordering::SeqCst).saturating_sub(now);
        Duration::from_micros(u64::try_from(left).unwrap_or(0))
    }

    /// Waits, but not past the moment somebody asks. True when asked.
    pub fn wait(&self, time: Duration) -> bool {
        let held = self.shared.changed.0.lock().unwrap_or_else(|e| e.into_inner());
        if self.asked() {
            return true;
        }
        let waited = self.shared.changed.1.wait_timeout(held, time);
        drop(waited);
        self.asked()
    }
}
