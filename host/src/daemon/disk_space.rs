//! Whether the daemon's directory has room for another change. `/health` asks this: it reports a full disk before the
//! first change is refused, and is healthy again as soon as there is space.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::clock::Clock;
use crate::lock::{lock, try_lock};

/// Bytes that are written as a test: a change with a large config.
const PROBE_BYTES: usize = 16 << 10;
/// Shortest time between two tests.
const ASK_EVERY: Duration = Duration::from_secs(1);
const PROBE: &str = ".health";

#[derive(Debug, Default)]
pub(super) struct Room {
    /// Time of the last test; locked while one runs.
    asked: Mutex<Option<Duration>>,
    wanting: Mutex<Option<String>>,
}

impl Room {
    /// The problem, if there is one. While one caller tests the disk, others get the last result.
    pub(super) fn wanting(&self, dir: &Path, clock: &dyn Clock) -> Option<String> {
        if let Some(mut asked) = try_lock(&self.asked) {
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
