//! The one way to ask for an end: a flag with a deadline, shared by all threads of a process.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::clock::{Clock, Wake};

/// Cheap to clone. Once asked, it stays asked.
#[derive(Clone, Debug)]
pub struct Stop {
    shared: Arc<Shared>,
    /// The stop of the process, if this is the stop of a pipeline.
    parent: Option<Box<Stop>>,
}

#[derive(Debug)]
struct Shared {
    asked: AtomicBool,
    /// Why, where that was said first.
    why: OnceLock<String>,
    /// Elapsed microseconds of the clock after which draining is given up.
    deadline: AtomicI64,
    /// Shared by the parent and all its children: when any of them is asked, all waiting threads look again.
    wake: Arc<Wake>,
    clock: Arc<dyn Clock>,
}

impl Stop {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let wake = Arc::<Wake>::default();
        clock.rings(&wake);
        Stop::waking(clock, wake)
    }

    fn waking(clock: Arc<dyn Clock>, wake: Arc<Wake>) -> Stop {
        let shared = Shared {
            asked: AtomicBool::new(false),
            why: OnceLock::new(),
            deadline: AtomicI64::new(i64::MAX),
            wake,
            clock,
        };
        Stop {
            shared: Arc::new(shared),
            parent: None,
        }
    }

    /// A child: it is asked when the parent is asked, but not the other way round.
    #[must_use]
    pub fn child(&self) -> Stop {
        let mut child = Stop::waking(self.shared.clock.clone(), self.shared.wake.clone());
        child.parent = Some(Box::new(self.clone()));
        child
    }

    /// Asks for an end; uncommitted work may be committed within `grace`. A second call cannot lengthen that time.
    pub fn ask(&self, grace: Duration) {
        let until = self.shared.clock.elapsed().saturating_add(grace);
        let until = i64::try_from(until.as_micros()).unwrap_or(i64::MAX);
        self.shared.deadline.fetch_min(until, Ordering::SeqCst);
        self.shared.asked.store(true, Ordering::SeqCst);
        self.shared.wake.ring();
    }

    /// The same, with what the others are told: "errors.max paused books-raw".
    pub fn ask_because(&self, grace: Duration, why: String) {
        if !self.asked() {
            let _earlier = self.shared.why.set(why);
        }
        self.ask(grace);
    }

    /// Why somebody asked, if he said so.
    pub fn why(&self) -> Option<&str> {
        let own = self.shared.why.get().map(String::as_str);
        own.or_else(|| self.parent.as_ref().and_then(|parent| parent.why()))
    }

    pub fn asked(&self) -> bool {
        self.shared.asked.load(Ordering::SeqCst) || self.parent.as_ref().is_some_and(|p| p.asked())
    }

    /// True when the time for draining is over.
    pub fn overdue(&self) -> bool {
        self.asked() && self.left().is_zero()
    }

    /// Time left for draining; very long if nobody has asked.
    pub fn left(&self) -> Duration {
        let now = i64::try_from(self.shared.clock.elapsed().as_micros()).unwrap_or(i64::MAX);
        let deadline = self.shared.deadline.load(Ordering::SeqCst);
        let left = u64::try_from(deadline.saturating_sub(now)).unwrap_or(0);
        let left = Duration::from_micros(left);
        let parent = self.parent.as_ref();
        parent.map_or(left, |parent| parent.left().min(left))
    }

    /// Waits for this time of the clock, but no longer than until somebody asks. True: somebody asked.
    pub fn wait(&self, time: Duration) -> bool {
        let Shared { wake, clock, .. } = &*self.shared;
        let until = clock.elapsed().saturating_add(time);
        loop {
            let held = wake.hold();
            let left = until.saturating_sub(clock.elapsed());
            if self.asked() || left.is_zero() {
                return self.asked();
            }
            wake.wait(held, left, &**clock);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::clock::ManualClock;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_wait_ends_when_the_clock_says_so_or_somebody_asks() {
        let clock = ManualClock::at(0);
        let process = Stop::new(clock.clone());
        let pipeline = process.child();
        let (begins, begun) = channel();
        let waiting = std::thread::spawn(move || {
            begins.send(()).unwrap();
            let first = pipeline.wait(HOUR);
            begins.send(()).unwrap();
            (first, pipeline.wait(HOUR))
        });
        begun.recv().unwrap();
        for _ in 0..3 {
            clock.advance(HOUR / 4);
            assert!(begun.try_recv().is_err(), "not before its time");
        }
        // The wait may have begun after any of them.
        while begun.try_recv().is_err() {
            clock.advance(HOUR / 4);
        }
        process.ask(Duration::ZERO);
        assert_eq!(waiting.join().unwrap(), (false, true));
    }
}
