//! When a pipeline with `trigger = "cron:…"` runs next: what was missed is made up for by one run, whatever ended in between.
//!
//! ```text
//! runs/<microseconds since 1970>   a run that began then is complete, or: the pipeline was first there then; the newest counts
//! ```
//! Small files beside the log, not part of the protocol: they decide when is read, never what. A run that is cut off leaves
//! no file, so the next start runs again. Where clocks of machines differ, or one is put back, a run may come twice
//! or late by as much; rows are unharmed.

use std::sync::Arc;
use std::time::Duration;

use super::{Report, Rest, Stop};
use crate::clock::Clock;
use crate::commit::LogName;
use crate::config::PipelineConfig;
use crate::cron::Cron;
use crate::error::Result;
use crate::store::{self, Store};

/// Longest wait between two looks at the wall clock: it may be put forward, and a machine may sleep.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(30);
/// Digits of a time in a name, so that names sort as the times do.
const DIGITS: usize = 20;

#[derive(Debug)]
pub(super) struct Schedule {
    cron: Arc<Cron>,
    dir: String,
    /// When the last run began that is complete; `None`: the pipeline is here for the first time.
    last: Option<i64>,
}

impl Schedule {
    /// Reads what is there, and writes nothing.
    pub fn read(config: &PipelineConfig, cron: &Arc<Cron>) -> Result<Schedule> {
        let dir = LogName::new(&config.name, &config.home.zone).runs_dir();
        let last = match store::open_existing(&config.home.at)? {
            Some(store) => marks(store.as_ref(), &dir)?
                .into_iter()
                .map(|(at, _)| at)
                .max(),
            None => None,
        };
        let cron = cron.clone();
        Ok(Schedule { cron, dir, last })
    }

    /// When the next run is due; in the past if one was missed. `None`: never again.
    pub fn next(&self, now: i64) -> Option<i64> {
        self.cron.next(self.last.unwrap_or(now))
    }

    pub fn is_due(&self, now: i64) -> bool {
        self.next(now).is_some_and(|next| next <= now)
    }

    /// Keeps that a run which began at this time is complete, or that the pipeline is there since then.
    pub fn keep(&mut self, config: &PipelineConfig, began: i64) -> Result<()> {
        let store = store::open(&config.home.at)?;
        let before = marks(store.as_ref(), &self.dir)?;
        let path = format!("{}/{:0DIGITS$}", self.dir, began.max(0));
        let text = format!("{} {}\n", crate::instant::utc(began, 6), self.cron);
        store.create(&path, text.as_bytes())?;
        self.last = Some(began);
        for (_, old) in before.into_iter().filter(|(_, old)| *old != path) {
            store.delete(&old)?;
        }
        Ok(())
    }

    /// Nothing says when it ran last, or only something that was written under another clock: it counts from now on.
    pub fn is_new(&self, now: i64) -> bool {
        self.last.is_none_or(|last| last > now)
    }

    /// Waits until the next run is due. True: somebody asked to stop.
    pub fn wait(&self, why: Rest, clock: &dyn Clock, stop: &Stop, report: &dyn Report) -> bool {
        let began = clock.now_micros();
        let due = self.next(began);
        let left = |now: i64| {
            let micros = due.map_or(i64::MAX, |due| due.saturating_sub(now));
            Duration::from_micros(u64::try_from(micros).unwrap_or(0))
        };
        report.resting(why, left(began));
        loop {
            let left = left(clock.now_micros());
            if left.is_zero() {
                return stop.asked();
            }
            if stop.wait(left.min(LOOK_AT_CLOCK)) {
                return true;
            }
        }
    }
}

/// The times that are kept, with their paths.
fn marks(store: &dyn Store, dir: &str) -> Result<Vec<(i64, String)>> {
    let listed = store.list(dir)?.into_iter();
    let mark = |path: String| {
        let at = path.rsplit('/').next()?.parse().ok()?;
        Some((at, path))
    };
    Ok(listed.filter_map(|listed| mark(listed.path)).collect())
}
