//! Can the daemon's directory take another change? Asked by `/health`: a full disk says so before the first change is
//! refused, and the answer is good again as soon as there is space.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::clock::Clock;
use crate::lock::lock;

/// What is written to find out: a change with a large config.
const PROBE_BYTES: usize = 16 << 10;
/// The disk is not asked more often.
const ASK_EVERY: Duration = Duration::from_secs(1);
const PROBE: &str = ".health";

#[derive(Debug, Default)]
pub(super) struct Room {
    /// When the disk was asked last; held by whoever asks.
    asked: Mutex<Option<Duration>>,
    wanting: Mutex<Option<String>>,
}

impl Room {
    /// What is wrong, if anything. While somebody asks the disk, others hear what was found last.
    pub(super) fn wanting(&self, dir: &Path, clock: &dyn Clock) -> Option<String> {
        if let Ok(mut asked) = self.asked.try_lock() {
            let now = clock.elapsed();
            if asked.is_none_or(|at| now >= at + ASK_EVERY) {
                *asked = Some(now);
                *self.found() = ask(dir).err().map(|error| {
                    let dir = dir.display();
                    format!("data.dir {dir} takes no changes: {error}; pipelines run on")
                });
            }
        }
        self.found().clone()
    }

    fn found(&self) -> MutexGuard<'_, Option<String>> {
        lock(&self.wanting)
    }
}

fn ask(dir: &Path) -> io::Result<()> {
    let path = dir.join(PROBE);
    let written = fs::write(&path, [b' '; PROBE_BYTES]);
    let removed = fs::remove_file(&path);
    written.and(removed)
}
