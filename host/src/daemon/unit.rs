//! One pipeline of the daemon: a thread whose failures stay inside, its states, restarts with backoff and a limited
//! number of attempts.
//!
//! ```text
//!              want(Running)            fails, panics
//! (nothing) ──────────────→ RUNNING ────────────────→ FAILED ──backoff, while attempts are left──→ RUNNING
//!                            │   ↑ restart()             └── restart(), another config: all attempts again
//!            want(Paused)    ↓   └─ RESTARTING
//!            want(Stopped) drains → PAUSED, STOPPED
//! ```
//! Nothing that happens in here affects another unit: no error, no panic of any of its threads, no slow drain.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Job, Standing, Target, TaskStatus};
use crate::clock::Clock;
use crate::config::worker::RestartConfig;
use crate::error::{Error, Kind, Result};
use crate::lock::lock;
use crate::pipeline::{self, Changed, Edit, Ending, Rest, RuleChanges, Stop};
use crate::text::printable_lines;

/// Time between two looks at the clock while it waits for a restart.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Time to drain for a job whose config does not say.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Runs a job until it ends, fails or is asked to stop. The program has one; tests have others.
pub trait Runner: Send + Sync + Debug {
    fn run(&self, job: &Job, run: &Run) -> Result<()>;
}

/// What one run of a job gets.
#[derive(Clone, Debug)]
pub struct Run {
    pub stop: Stop,
    pub report: Arc<dyn pipeline::Report>,
    pub changes: RuleChanges,
}

/// What units share.
#[derive(Clone, Debug)]
pub struct UnitContext {
    pub clock: Arc<dyn Clock>,
    /// The stop of the process.
    pub stop: Stop,
    pub restart: RestartConfig,
    pub runner: Arc<dyn Runner>,
}

/// What is to run.
#[derive(Clone, Debug)]
pub struct UnitTarget {
    pub target: Target,
    /// The job, or why there is none: the problems of a config that was good once.
    pub job: Result<Arc<Job>, String>,
}

/// A unit as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitSnapshot {
    pub standing: Standing,
    pub trace: Option<String>,
    /// Tasks of the last start; none while stopped.
    pub tasks: usize,
    /// Nothing of it runs, and nothing will begin.
    pub at_rest: bool,
    /// Since the process began.
    pub restarts: u64,
    pub failures: u64,
    /// When it reads again, microseconds since 1970 UTC, while it does nothing until then.
    pub next_run: Option<i64>,
}

#[derive(Debug)]
pub struct Unit {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    gear: UnitContext,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    wanted: UnitTarget,
    /// Counts orders: a run that belongs to an older order must drain.
    order: u64,
    quit: bool,
    /// The stop of the run, while there is one.
    stop: Option<Stop>,
    changes: RuleChanges,
    standing: Standing,
    trace: Option<String>,
    tasks: usize,
    /// The run ended by itself.
    finished: bool,
    /// Failures in a row.
    attempts: u64,
    /// When to begin again after a failure; `None`: it does not begin again by itself.
    again: Option<Duration>,
    restarts: u64,
    failures: u64,
    next_run: Option<i64>,
}

impl Unit {
    /// `report`: makes the receiver of the pipeline's reports, given the unit's own.
    pub fn start(
        name: &str,
        gear: UnitContext,
        wanted: UnitTarget,
        report: impl Fn(Arc<dyn pipeline::Report>) -> Arc<dyn pipeline::Report> + Send + 'static,
    ) -> Result<Unit> {
        let standing = match wanted.target {
            Target::Running => Standing::Unassigned,
            Target::Paused => Standing::Paused,
            Target::Stopped => Standing::Stopped,
        };
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            gear,
            inner: Mutex::new(Inner {
                wanted,
                order: 0,
                quit: false,
                stop: None,
                changes: RuleChanges::default(),
                standing,
                trace: None,
                tasks: 0,
                finished: false,
                attempts: 0,
                again: None,
                restarts: 0,
                failures: 0,
                next_run: None,
            }),
            changed: Condvar::new(),
        });
        let heard = report(Arc::new(UnitReporter(shared.clone())));
        let body = {
            let shared = shared.clone();
            move || shared.body(&heard)
        };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
            .map_err(|e| {
                Error::new(
                    Kind::LimitReached,
                    "daemon.unit",
                    "no thread can be started",
                )
                .source(e)
            })?;
        Ok(Unit {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Sets what shall run from now on; a present run drains first. The count of attempts begins again.
    pub fn want(&self, wanted: UnitTarget) {
        let mut inner = self.shared.lock();
        inner.wanted = wanted;
        self.shared.order(&mut inner);
    }

    /// Gives new rules to the running pipeline. `None`: it takes none now; use [`Unit::want`] instead.
    pub fn edit(&self, edit: Edit, job: &Arc<Job>) -> Option<Changed> {
        let (changes, order) = {
            let inner = self.shared.lock();
            inner.stop.as_ref()?;
            (inner.changes.clone(), inner.order)
        };
        let changed = changes.put_config(edit)?;
        let mut inner = self.shared.lock();
        if matches!(changed, Changed::Refused(_)) {
            return Some(changed);
        }
        if inner.order != order {
            return None;
        }
        inner.wanted.job = Ok(job.clone());
        Some(changed)
    }

    /// The way to change the rules of the running pipeline. `None`: it does not run.
    pub fn changes(&self) -> Option<RuleChanges> {
        let inner = self.shared.lock();
        inner.stop.as_ref()?;
        Some(inner.changes.clone())
    }

    /// Drains the run and begins again. A unit that shall not run stays as it is.
    pub fn restart(&self) {
        let mut inner = self.shared.lock();
        if inner.wanted.target == Target::Running {
            inner.restarts += 1;
            self.shared.stand(&mut inner, Standing::Restarting, None);
            self.shared.order(&mut inner);
        }
    }

    pub fn seen(&self) -> UnitSnapshot {
        let inner = self.shared.lock();
        UnitSnapshot {
            standing: inner.standing,
            trace: inner.trace.clone(),
            tasks: inner.tasks,
            at_rest: inner.stop.is_none()
                && matches!(inner.standing, Standing::Paused | Standing::Stopped),
            restarts: inner.restarts,
            failures: inner.failures,
            next_run: inner.next_run,
        }
    }

    /// Ends for good; a present run has `grace` to drain.
    pub fn quit(&self, grace: Duration) {
        let mut inner = self.shared.lock();
        inner.quit = true;
        if let Some(stop) = &inner.stop {
            stop.ask(grace);
        }
        self.shared.changed.notify_all();
    }

    /// Whether its thread has ended.
    pub fn has_ended(&self) -> bool {
        let thread = lock(&self.thread);
        thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl UnitSnapshot {
    /// Tasks are never STOPPED.
    pub fn task_states(&self) -> Vec<TaskStatus> {
        let one = |id| TaskStatus {
            id,
            standing: self.standing,
            trace: self.trace.clone(),
        };
        (0..self.tasks).map(one).collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    fn order(&self, inner: &mut Inner) {
        inner.order += 1;
        inner.attempts = 0;
        inner.again = None;
        inner.finished = false;
        if let Some(stop) = &inner.stop {
            stop.ask(grace(&inner.wanted));
        }
        self.changed.notify_all();
    }

    /// One log line for each change of state.
    fn stand(&self, inner: &mut Inner, standing: Standing, trace: Option<String>) {
        if inner.standing != standing {
            let (from, to) = (inner.standing.word(), standing.word());
            tracing::info!(pipeline = self.name, from, to, "state");
        }
        inner.standing = standing;
        inner.trace = trace.map(|trace| printable_lines(&trace).into_owned());
    }

    fn body(&self, report: &Arc<dyn pipeline::Report>) {
        crate::logging::works_for(Some(self.name.as_str().into()));
        while let Some((job, order, stop, changes)) = self.next() {
            let begun = self.gear.clock.elapsed();
            let run = Run {
                stop: stop.clone(),
                report: report.clone(),
                changes,
            };
            let fenced = catch_unwind(AssertUnwindSafe(|| self.gear.runner.run(&job, &run)));
            let result = fenced.unwrap_or_else(|panic| Err(pipeline::panicked(panic.as_ref())));
            // Ends its other threads, if it left any.
            stop.ask(Duration::ZERO);
            let ran = self.gear.clock.elapsed().saturating_sub(begun);
            self.ended(result, order, ran, report);
        }
    }

    /// Waits until there is something to run. `None`: the unit ends.
    fn next(&self) -> Option<(Arc<Job>, u64, Stop, RuleChanges)> {
        let mut inner = self.lock();
        loop {
            if inner.quit {
                return None;
            }
            match (inner.wanted.target, inner.wanted.job.clone()) {
                (Target::Paused, _) => self.stand(&mut inner, Standing::Paused, None),
                (Target::Stopped, _) => {
                    inner.tasks = 0;
                    self.stand(&mut inner, Standing::Stopped, None);
                }
                (Target::Running, Err(problems)) => {
                    inner.tasks = 0;
                    if inner.standing != Standing::Failed {
                        tracing::error!(
                            pipeline = self.name,
                            code = Kind::ConfigInvalid.code(),
                            error = problems,
                            "pipeline failed"
                        );
                    }
                    self.stand(&mut inner, Standing::Failed, Some(problems));
                }
                (Target::Running, Ok(_)) if inner.finished => {}
                (Target::Running, Ok(job)) => {
                    let due = match (inner.attempts, inner.again) {
                        (0, _) => true,
                        (_, Some(again)) => self.gear.clock.elapsed() >= again,
                        (_, None) => false,
                    };
                    if due {
                        inner.restarts += u64::from(inner.attempts > 0);
                        let stop = self.gear.stop.child();
                        inner.stop = Some(stop.clone());
                        inner.changes = RuleChanges::default();
                        self.stand(&mut inner, Standing::Running, None);
                        return Some((job, inner.order, stop, inner.changes.clone()));
                    }
                }
            }
            inner = match inner.again {
                Some(_) => {
                    let woken = self.changed.wait_timeout(inner, LOOK_EVERY);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let woken = self.changed.wait(inner);
                    woken.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    fn ended(
        &self,
        result: Result<()>,
        order: u64,
        ran: Duration,
        report: &Arc<dyn pipeline::Report>,
    ) {
        report.ended(&match &result {
            Ok(()) => Ending::Well { because: None },
            Err(error) => Ending::Failed(error),
        });
        let mut inner = self.lock();
        inner.stop = None;
        inner.next_run = None;
        let asked = inner.order != order || inner.quit;
        match result {
            _ if asked => {}
            Ok(()) => {
                inner.finished = true;
                inner.tasks = 0;
                self.stand(&mut inner, Standing::Stopped, None);
            }
            Err(error) => self.failed(&mut inner, &error, ran),
        }
    }

    fn failed(&self, inner: &mut Inner, error: &Error, ran: Duration) {
        let RestartConfig {
            backoff,
            attempts,
            reset,
        } = self.gear.restart;
        if ran >= reset {
            inner.attempts = 0;
        }
        inner.failures += 1;
        inner.attempts += 1;
        let mut trace = error.trace();
        inner.again = None;
        if inner.attempts <= attempts {
            let before = u32::try_from(inner.attempts - 1).unwrap_or(u32::MAX);
            let wait = backoff.wait_after(before);
            inner.again = Some(self.gear.clock.elapsed().saturating_add(wait));
            trace.push_str(&format!(
                "\n  begins again {} after the failure (attempt {} of {attempts})",
                crate::telemetry::time(wait),
                inner.attempts
            ));
        } else {
            trace.push_str("\n  stays so until it is restarted (restart.attempts)");
        }
        self.stand(inner, Standing::Failed, Some(trace));
    }
}

/// Time to drain, according to the pipeline's own config.
fn grace(wanted: &UnitTarget) -> Duration {
    let job = wanted.job.as_ref().ok();
    let config = job.and_then(|job| super::jobs::pipeline_of(job));
    config.map_or(DRAIN_MAX, |config| config.limits.shutdown_timeout)
}

/// Receives the reports that the unit itself needs.
#[derive(Debug)]
struct UnitReporter(Arc<Shared>);

impl pipeline::Report for UnitReporter {
    fn tasks(&self, count: usize) {
        self.0.lock().tasks = count;
    }

    fn started(&self, _: &crate::config::PipelineConfig, _: &crate::commit::State) {
        let mut inner = self.0.lock();
        inner.tasks = inner.tasks.max(1);
        inner.next_run = None;
    }

    fn resting(&self, why: Rest, next: Duration) {
        let micros = i64::try_from(next.as_micros()).unwrap_or(i64::MAX);
        let at = self.0.gear.clock.now_micros().saturating_add(micros);
        self.0.lock().next_run = (why != Rest::NothingYet).then_some(at);
    }

    fn looks(&self) {
        self.0.lock().next_run = None;
    }

    fn committed(&self, _: &crate::commit::Committed, _: &crate::commit::State, _: Duration) {}
    fn swapped(&self, _: &crate::commit::Committed) {}
    fn lag(&self, _: usize, _: Option<u64>) {}
    fn stages(&self, _: usize, _: pipeline::Stages) {}
    fn waiting(&self, _: &Error) {}
    fn resumed(&self) {}
    fn ended(&self, _: &Ending<'_>) {}
}

#[cfg(test)]
#[path = "unit_tests.rs"]
mod tests;
