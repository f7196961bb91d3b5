//! Runs several pipelines in one process, each in its own thread. All drain when one fails or somebody asks.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::report::{Ending, Report, Rest};
use super::schedule::Schedule;
use super::{Declared, Host, LastRun, RuleChanges, Stop, batch, retry, stream};
use crate::clock::Clock;
use crate::config::{PipelineConfig, Source, Trigger};
use crate::error::{Error, Kind, Remedy, Result};
use crate::plugin::{Places, Plugins};

/// How one pipeline ended.
#[derive(Debug)]
pub struct Ended {
    pub pipeline: String,
    pub result: Result<()>,
}

/// Runs until all have ended. One that fails makes the others drain: either all pipelines of a process run or the
/// process ends, so that whatever restarts it (systemd, an operator) notices.
pub fn run(
    configs: &[PipelineConfig],
    clock: &Arc<dyn Clock>,
    stop: &Stop,
    report: &(dyn Fn(&PipelineConfig) -> Arc<dyn Report> + Sync),
) -> Vec<Ended> {
    let together = Together {
        clock,
        stop,
        report,
        failed: OnceLock::new(),
    };
    let mut ended = Vec::new();
    for group in in_order(configs.iter().collect()) {
        match together.failed.get() {
            None => ended.extend(together.run(&group)),
            Some(because) => {
                for config in group {
                    report(config).ended(&Ending::NotBegun { because });
                }
            }
        }
    }
    ended
}

/// With available-now a pipeline that reads a zone of this process comes after the one that fills it, over any number of
/// zones. Those of one group run at the same time.
fn in_order(mut left: Vec<&PipelineConfig>) -> Vec<Vec<&PipelineConfig>> {
    let mut groups = Vec::new();
    while !left.is_empty() {
        let (mut group, mut then): (Vec<_>, Vec<_>) =
            left.iter().partition(|config| !reads_one_of(config, &left));
        if group.is_empty() {
            // They read each other in a circle: nobody is first.
            std::mem::swap(&mut group, &mut then);
        }
        groups.push(group);
        left = then;
    }
    groups
}

fn reads_one_of(config: &PipelineConfig, all: &[&PipelineConfig]) -> bool {
    match &config.source {
        Source::Zone(zone) if config.trigger == Trigger::AvailableNow => all
            .iter()
            .any(|other| other.name == zone.pipeline && other.name != config.name),
        _ => false,
    }
}

struct Together<'a> {
    clock: &'a Arc<dyn Clock>,
    stop: &'a Stop,
    report: &'a (dyn Fn(&PipelineConfig) -> Arc<dyn Report> + Sync),
    /// The first pipeline that failed; the others drain because of it.
    failed: OnceLock<String>,
}

impl Together<'_> {
    fn run(&self, configs: &[&PipelineConfig]) -> Vec<Ended> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = configs
                .iter()
                .map(|config| (config, scope.spawn(|| self.one(config))))
                .collect();
            threads
                .into_iter()
                .map(|(config, thread)| Ended {
                    pipeline: config.name.clone(),
                    result: thread
                        .join()
                        .unwrap_or_else(|panic| Err(panicked(panic.as_ref()))),
                })
                .collect()
        })
    }

    /// Runs one pipeline and reports how it ended.
    fn one(&self, config: &PipelineConfig) -> Result<()> {
        let report = (self.report)(config);
        let run = || {
            let given = Given {
                clock: self.clock.clone(),
                stop: self.stop.clone(),
                report: report.clone(),
                plugins: Plugins::open(Places::of(config))?,
                changes: RuleChanges::default(),
            };
            keep_running(config, &given)
        };
        let result = catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
        match &result {
            Ok(()) => {
                let failed = self.failed.get().filter(|_| self.stop.asked());
                let failed = failed.map(|name| format!("{name} failed"));
                let because = failed.as_deref().or_else(|| self.stop.why());
                report.ended(&Ending::Well { because });
            }
            Err(error) => {
                let _first = self.failed.set(config.name.clone());
                self.stop.ask(config.limits.shutdown_timeout);
                report.ended(&Ending::Failed(error));
            }
        }
        result
    }
}

/// A panic as an error of the pipeline whose thread it was.
pub fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let message = format!("the pipeline panicked: {}", text.unwrap_or("no message"));
    Error::new(Kind::Bug, "pipeline", message)
        .hint("a defect of Weir: please report it with this message; what is committed is safe")
}

/// What a pipeline gets from its runner.
#[derive(Clone, Debug)]
pub struct Given {
    pub clock: Arc<dyn Clock>,
    /// When it is asked, the pipeline drains and ends.
    pub stop: Stop,
    pub report: Arc<dyn Report>,
    pub plugins: Plugins,
    /// Changes of rules from this process while the pipeline runs.
    pub changes: RuleChanges,
}

impl Given {
    fn host(&self, config: &PipelineConfig, declared: &Declared, last_run: &LastRun) -> Host {
        Host {
            clock: self.clock.clone(),
            stop: self.stop.child(),
            report: self.report.clone(),
            plugins: self.plugins.clone(),
            declared: declared.clone(),
            changes: self.changes.clone(),
            only_begins: false,
            last_run: last_run.clone(),
            retry: config.retry,
        }
    }
}

/// Begins again after faults that may pass; every beginning reads the log again.
pub fn keep_running(config: &PipelineConfig, given: &Given) -> Result<()> {
    let Given {
        clock,
        stop,
        report,
        changes,
        ..
    } = given;
    let first = config;
    let declared = Declared::default();
    let last_run = LastRun::default();
    let mut backoff = config.retry;
    loop {
        let config = &changes.or(first);
        let host = given.host(config, &declared, &last_run);
        let begun = clock.elapsed();
        let ended = once(host.clone(), config, stop);
        // Whatever of it still runs, after a beginning that failed half way, ends too.
        host.stop.ask(Duration::ZERO);
        match ended {
            // Not a fault: another process put other rules in force.
            Err(error) if error.remedy() == Remedy::RestartTask && stop.asked() => return Ok(()),
            // Asked to stop while the broker or the store was away: what was not committed is read again.
            Err(error) if error.remedy() == Remedy::Retry && stop.asked() => {
                report.waiting(&error);
                return Ok(());
            }
            Err(error) if error.remedy() == Remedy::RestartTask => {
                tracing::info!(pipeline = config.name, why = %error, "beginning again at the log's positions");
                if clock.elapsed().saturating_sub(begun) < config.retry.first {
                    stop.wait(config.retry.first);
                }
            }
            Err(error) if error.remedy() == Remedy::Retry => {
                report.waiting(&error);
                // It ran well for a while, so this is a new fault.
                if clock.elapsed().saturating_sub(begun) > config.retry.max {
                    backoff = config.retry;
                }
                stop.wait(backoff.next_wait());
            }
            Err(error) if error.kind() == Kind::Stopped => return Ok(()),
            Err(error) => return Err(error),
            Ok(_) if stop.asked() => return Ok(()),
            Ok(Next::Ends) => return Ok(()),
            Ok(Next::Every(every, why)) => {
                let wait = every.saturating_sub(clock.elapsed().saturating_sub(begun));
                report.resting(why, wait);
                if stop.wait(wait) {
                    return Ok(());
                }
                report.looks();
                backoff = config.retry;
            }
            Ok(Next::Due(schedule, why)) => {
                if schedule.wait(why, clock.as_ref(), stop, report.as_ref()) {
                    return Ok(());
                }
                report.looks();
                backoff = config.retry;
            }
        }
    }
}

/// What comes after a run that ended well.
enum Next {
    Ends,
    /// Another run begins so long after this one began. A pipeline that reads a zone repeats its runs itself.
    Every(Duration, Rest),
    Due(Schedule, Rest),
}

/// One run. Where a schedule says that it is not due yet, only what comes before its first record: mistakes show now, and a
/// start such as `latest` is pinned now.
fn once(mut host: Host, config: &PipelineConfig, stop: &Stop) -> Result<Next> {
    let Trigger::Cron(cron) = &config.trigger else {
        let why = pass(&host, config)?;
        return Ok(match (&config.source, &config.trigger) {
            (Source::Records(_), Trigger::Every(every)) => Next::Every(*every, why),
            _ => Next::Ends,
        });
    };
    let mut schedule = retry(&host, || Schedule::read(config, cron))?;
    let now = host.clock.now_micros();
    host.only_begins = schedule.is_new(now) || !schedule.is_due(now);
    let why = pass(&host, config)?;
    // A run that was told to stop is not complete: the next start makes up for it.
    let complete = !host.only_begins && !stop.asked();
    if complete || schedule.is_new(now) {
        retry(&host, || schedule.keep(config, now))?;
    }
    Ok(Next::Due(schedule, why))
}

/// Why it does nothing for a while afterwards.
fn pass(host: &Host, config: &PipelineConfig) -> Result<Rest> {
    match &config.source {
        Source::Records(records) => stream::run(host, config, records.as_ref()),
        Source::Zone(zone) => batch::run(host, config, zone).map(|()| match host.only_begins {
            true => Rest::NotDue,
            false => Rest::Done,
        }),
    }
}
