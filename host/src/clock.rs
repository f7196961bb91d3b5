//! The only source of time and of waiting: real in production, manual in simulations and tests.

use crate::lock::lock;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub trait Clock: Send + Sync + Debug {
    /// Wall clock, microseconds since 1970 UTC. For what people read and for directory names, never for correctness.
    fn now_micros(&self) -> i64;
    /// Monotonic time since an arbitrary start. For ages and deadlines.
    fn elapsed(&self) -> Duration;
    fn sleep(&self, time: Duration);
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
}

impl ManualClock {
    pub fn at(micros: i64) -> Arc<ManualClock> {
        Arc::new(ManualClock {
            micros: Mutex::new(micros),
            start: micros,
        })
    }

    pub fn advance(&self, time: Duration) {
        let mut now = lock(&self.micros);
        *now += i64::try_from(time.as_micros()).unwrap_or(0);
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
}
