//! Pipelines: what runs between a source and a zone. No I/O of its own but through source, chain, sink and log, and what
//! watches files of rules and looks for processes that run a pipeline.
//!
//! ```text
//! run.rs ── one thread per pipeline ─┬─ stream.rs  records → zone: tasks (task/), one committer (committer/)
//!                                    └─ batch.rs   zone → zone: plan, read, dedup, commit
//! archive.rs  what expired is copied, beside the commits
//! positions/  positions of a pipeline that does not run: shows and moves them; pipelines that read its zone follow
//! schedule.rs  `trigger = "cron:…"`: when the next run is due, and which one was missed
//! rules/  which rules a start runs, and how they change while records flow
//! ```

mod archive;
mod batch;
mod committer;
pub mod compact;
mod dead_letters;
#[cfg(test)]
mod deliver_tests;
mod messages;
mod plan;
pub mod positions;
mod report;
pub mod rules;
mod run;
mod schedule;
#[cfg(test)]
mod sim;
mod start;
mod stop;
mod stream;
mod task;

use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use batch::layout;
pub use report::{Ending, Left, Report, Rest, Shown, Stages};
pub use rules::change::{Changed, Edit, RuleChanges};
pub use rules::{part_of, problems_of, transforms_of};
pub use run::{Ended, Given, keep_running, panicked, run};
pub use start::{keep, readers_take_format};
pub use stop::Stop;

use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::commit::{Draft, Log, Outcome};
use crate::error::{Error, Kind, Remedy, Result};
use crate::lock::lock;
use crate::plugin::Plugins;

/// What a pipeline gets from its process.
#[derive(Clone, Debug)]
pub struct Host {
    pub clock: Arc<dyn Clock>,
    /// The pipeline's own; a child of the process's.
    pub stop: Stop,
    pub report: Arc<dyn Report>,
    pub plugins: Plugins,
    pub declared: Declared,
    pub changes: RuleChanges,
    /// Ends before the first record: what a start needs is checked and written, and its schedule says when it reads.
    pub only_begins: bool,
    /// When the last run of this process began that read, by the clock's elapsed time.
    pub last_run: LastRun,
    /// `retry.*`: waits after a fault that may pass.
    pub retry: Backoff,
}

#[derive(Clone, Debug, Default)]
pub struct LastRun(Arc<Mutex<Option<Duration>>>);

impl LastRun {
    fn at(&self) -> Option<Duration> {
        *lock(&self.0)
    }

    fn is(&self, began: Duration) {
        *lock(&self.0) = Some(began);
    }
}

/// Digest of the rules that the config declared when this process last compared config and log. As long as the config
/// declares the same rules, a pipeline that begins again follows the log. So a half finished edit stops nothing, and
/// two processes with different configs do not undo each other's rules.
#[derive(Clone, Debug, Default)]
pub struct Declared(Arc<Mutex<Option<String>>>);

impl Declared {
    fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    fn set(&self, digest: &str) {
        *self.0.lock().unwrap_or_else(|e| e.into_inner()) = Some(digest.to_owned());
    }
}

/// Repeats a call that fails for a passing reason (broker or store away) until it works or somebody asks to stop.
/// Reports the fault once, and its end.
fn retry<T>(host: &Host, mut body: impl FnMut() -> Result<T>) -> Result<T> {
    let mut backoff = host.retry;
    loop {
        match body() {
            Err(error) if error.remedy() == Remedy::Retry => {
                if !backoff.is_waiting() {
                    host.report.waiting(&error);
                }
                if host.stop.wait(backoff.next_wait()) {
                    return Err(stopped());
                }
            }
            done => {
                if backoff.is_waiting() && done.is_ok() {
                    host.report.resumed();
                }
                return done;
            }
        }
    }
}

/// Commits an entry without receipts; waits as long as it takes.
fn until_settled(host: &Host, log: &mut Log, draft: Draft) -> Result<Outcome> {
    let mut draft = Some(draft);
    retry(host, || match draft.take() {
        Some(draft) => log.commit(draft),
        None => match log.settle()? {
            Some(outcome) => Ok(outcome),
            None => Err(Error::new(
                Kind::Bug,
                "log.settle",
                "an attempt vanished unsettled",
            )),
        },
    })
}

pub fn stopped() -> Error {
    Error::new(Kind::Stopped, "pipeline", "asked to stop")
}
