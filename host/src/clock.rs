//! The only source of time and of waiting: real in production, manual in simulations and tests.

use crate::lock::lock;
use std::fmt::Debug;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub trait Clock: Send + Sync + Debug {
    /// Wall clock, microseconds since 1970 UTC. For what people read and for directory names, never for correctness.
    fn now_micros(&self) -> i64;
    /// Monotonic time since an arbitrary start. For ages and deadlines.
    fn elapsed(&self) -> Duration;
    fn sleep(&self, time: Duration);
    /// From now on `wake` is rung whenever this clock is moved by hand.
    fn rings(&self, _wake: &Arc<Wake>) {}
    /// How long a thread may really sleep for `time` of this clock. `None`: until it is woken.
    fn really(&self, time: Duration) -> Option<Duration> {
        Some(time)
    }
}

/// Wakes threads that wait for a time or for something else, whichever comes first.
#[derive(Debug, Default)]
pub struct Wake {
    lock: Mutex<()>,
    rung: Condvar,
}

impl Wake {
    /// Change what the waiting thread checks before calling this.
    pub fn ring(&self) {
        let _held = self.hold();
        self.rung.notify_all();
    }

    /// While this is held nobody rings: first check, then wait.
    pub fn hold(&self) -> MutexGuard<'_, ()> {
        lock(&self.lock)
    }

    /// Waits until it is rung, at most for `time` of the clock. May end early.
    pub fn wait(&self, held: MutexGuard<'_, ()>, time: Duration, clock: &dyn Clock) {
        match clock.really(time) {
            Some(time) => drop(self.rung.wait_timeout(held, time)),
            None => drop(self.rung.wait(held)),
        }
    }
}

#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(SystemClock {
            start: Instant::now(),
        })
    }
}

impl Clock for SystemClock {
    fn now_micros(&self) -> i64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// Time that moves only when told to; sleeping moves it.
#[derive(Debug)]
pub struct ManualClock {
    micros: Mutex<i64>,
    start: i64,
    wakes: Mutex<Vec<Weak<Wake>>>,
}

impl ManualClock {
    pub fn at(micros: i64) -> Arc<ManualClock> {
        Arc::new(ManualClock {
            micros: Mutex::new(micros),
            start: micros,
            wakes: Mutex::default(),
        })
    }

    pub fn advance(&self, time: Duration) {
        *lock(&self.micros) += i64::try_from(time.as_micros()).unwrap_or(0);
        let wakes: Vec<Arc<Wake>> = lock(&self.wakes).iter().filter_map(Weak::upgrade).collect();
        for wake in wakes {
            wake.ring();
        }
    }
}

impl Clock for ManualClock {
    fn now_micros(&self) -> i64 {
        *lock(&self.micros)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.now_micros() - self.start).unwrap_or(0))
    }

    fn sleep(&self, time: Duration) {
        self.advance(time);
    }

    fn rings(&self, wake: &Arc<Wake>) {
        let mut wakes = lock(&self.wakes);
        wakes.retain(|known| known.strong_count() > 0);
        wakes.push(Arc::downgrade(wake));
    }

    fn really(&self, _: Duration) -> Option<Duration> {
        None
    }
}
