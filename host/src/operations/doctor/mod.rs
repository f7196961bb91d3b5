//! `weir doctor`: checks everything that a start needs, and says of each thing whether it is in order, and what to do
//! if not.
//!
//! ```text
//! this machine   open files, threads, memory; each directory: may it be written, is there room, does its clock agree
//! a daemon       its data.dir, the addresses where it listens
//! a pipeline     source: brokers, login, topics, group     zone: the store's promises, tables, log     plugins
//! ```
//! Nothing is changed: a check removes what it writes. Checks of several pipelines run at the same time, and are
//! reported in their order. Each has a time limit, so that one that hangs does not delay the others; a check that fails
//! is a finding and does not end the run.

mod machine;
mod place;
mod plugins;
mod zone;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, SystemClock};
use crate::config::worker::WorkerConfig;
use crate::config::{PipelineConfig, Source};
use crate::connectors;
use crate::finding::{Finding, Verdict};

/// For the machine's limits and directories. A network mount whose server is away may hang for ever.
const PLACES_LIMIT: Duration = Duration::from_secs(10);
/// For brokers or another source: each request has 10 s of its own, and a pipeline may have many topics.
const SOURCE_LIMIT: Duration = Duration::from_secs(60);
/// For the store: its own time limits and retries come first.
const STORE_LIMIT: Duration = Duration::from_secs(60);
/// For all plugins of a pipeline: a large one is compiled within seconds, and several may come at once.
const PLUGINS_LIMIT: Duration = Duration::from_secs(120);
/// Most pipelines that are checked at once: more would be a load for small brokers.
const AT_ONCE: usize = 8;

/// The subject of findings about this machine.
pub const MACHINE: &str = "this machine";

/// A finding and its subject: this machine, the file of a daemon's config, or a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub of: String,
    #[serde(flatten)]
    pub finding: Finding,
}

/// How many findings there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    pub pass: usize,
    pub warn: usize,
    pub fail: usize,
}

impl Sums {
    pub fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Pass => self.pass += 1,
            Verdict::Warn => self.warn += 1,
            Verdict::Fail => self.fail += 1,
        }
    }
}

/// What to check.
#[derive(Clone, Copy, Debug)]
pub struct Patient<'a> {
    /// Each with its file.
    pub workers: &'a [(String, WorkerConfig)],
    pub pipelines: &'a [PipelineConfig],
}

/// Reports each finding in the order of machine, daemons, pipelines, as soon as all before it are reported.
pub fn examine(patient: &Patient<'_>, tell: &mut dyn FnMut(Told)) {
    let mut jobs: Vec<Job<'_>> = vec![Job::Machine(*patient)];
    jobs.extend(patient.workers.iter().map(|(file, w)| Job::Worker(file, w)));
    jobs.extend(patient.pipelines.iter().map(Job::Pipeline));
    let (senders, receivers): (Vec<_>, Vec<_>) = jobs.iter().map(|_| mpsc::channel()).unzip();
    let senders: Vec<_> = senders
        .into_iter()
        .map(|s| std::sync::Mutex::new(Some(s)))
        .collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(jobs.len()) {
            scope.spawn(|| {
                while let Some((job, sender)) = {
                    let at = next.fetch_add(1, Ordering::SeqCst);
                    jobs.get(at).zip(senders.get(at))
                } {
                    if let Some(sender) = crate::lock::lock(sender).take() {
                        job.run(&sender);
                    }
                }
            });
        }
        for (job, found) in jobs.iter().zip(receivers) {
            for finding in found {
                let of = job.name().to_owned();
                tell(Told { of, finding });
            }
        }
    });
}

enum Job<'a> {
    Machine(Patient<'a>),
    Worker(&'a str, &'a WorkerConfig),
    Pipeline(&'a PipelineConfig),
}

impl Job<'_> {
    fn name(&self) -> &str {
        match self {
            Job::Machine(_) => MACHINE,
            Job::Worker(file, _) => file,
            Job::Pipeline(pipeline) => &pipeline.name,
        }
    }

    fn run(&self, found: &Sender<Finding>) {
        match self {
            Job::Machine(patient) => {
                for finding in machine::limits(patient) {
                    found.send(finding).ok();
                }
                for place in place::all(patient) {
                    bounded("directory", PLACES_LIMIT, found, move |tell| {
                        place.examine(tell);
                    });
                }
            }
            Job::Worker(_, worker) => {
                let listen = worker.rest.listen.clone();
                bounded("listen", PLACES_LIMIT, found, move |tell| {
                    listen.iter().for_each(|at| tell(machine::listens(at)));
                });
            }
            Job::Pipeline(pipeline) => of_pipeline(pipeline, found),
        }
    }
}

fn of_pipeline(pipeline: &PipelineConfig, found: &Sender<Finding>) {
    let clock: Arc<dyn Clock> = SystemClock::shared();
    match &pipeline.source {
        Source::Records(records) => {
            let (records, clock) = (Arc::clone(records), clock.clone());
            bounded("source", SOURCE_LIMIT, found, move |tell| {
                records.examine(&clock, tell);
            });
        }
        Source::Zone(source) => {
            let (source, clock) = (source.clone(), clock.clone());
            bounded("source", STORE_LIMIT, found, move |tell| {
                zone::as_source(&source, &clock, tell);
            });
        }
    }
    let (sink, time) = (Arc::clone(&pipeline.sink), clock.clone());
    bounded("sink", SOURCE_LIMIT, found, move |tell| {
        sink.examine(&time, tell);
    });
    if pipeline.errors.dlq_topic.is_some() {
        let config = pipeline.clone();
        bounded("errors.topic", SOURCE_LIMIT, found, move |tell| {
            connectors::examine_dead_letter_topic(&config, tell);
        });
    }
    let config = pipeline.clone();
    bounded("store", STORE_LIMIT, found, move |tell| {
        zone::as_sink(&config, &clock, tell);
    });
    if !pipeline.transforms.is_empty() {
        let (config, clock) = (pipeline.clone(), SystemClock::shared());
        bounded("plugins", PLUGINS_LIMIT, found, move |tell| {
            plugins::examine(&config, &clock, tell);
        });
    }
}

enum Heard {
    Found(Finding),
    Done,
}

/// Runs checks in a separate thread. One that does not end in time is abandoned: the process ends without it.
fn bounded(
    look: &'static str,
    limit: Duration,
    found: &Sender<Finding>,
    body: impl FnOnce(&mut dyn FnMut(Finding)) + Send + 'static,
) {
    let (sender, heard) = mpsc::channel();
    let thread = std::thread::Builder::new().name(format!("look-{look}"));
    let spawned = thread.spawn(move || {
        body(&mut |finding| {
            sender.send(Heard::Found(finding)).ok();
        });
        sender.send(Heard::Done).ok();
    });
    let ended = match spawned {
        Ok(_) => until_done(look, limit, &heard, found),
        Err(e) => Some(Finding::fail(
            look,
            None,
            format!("no thread can be started to look at it: {e}"),
            "raise the limit of threads (ulimit -u, TasksMax of the unit, --pids-limit of the container)",
        )),
    };
    if let Some(finding) = ended {
        found.send(finding).ok();
    }
}

/// Passes on findings; returns a problem of the checks themselves, if there is one.
fn until_done(
    look: &str,
    limit: Duration,
    heard: &Receiver<Heard>,
    found: &Sender<Finding>,
) -> Option<Finding> {
    let begun = Instant::now();
    loop {
        match heard.recv_timeout(limit.saturating_sub(begun.elapsed())) {
            Ok(Heard::Found(finding)) => {
                found.send(finding).ok();
            }
            Ok(Heard::Done) => return None,
            Err(RecvTimeoutError::Timeout) => {
                let says = format!(
                    "no answer within {} s; what was not looked at yet is not known",
                    limit.as_secs()
                );
                let hint = "look whether it can be reached from this machine, then ask again";
                return Some(Finding::fail(look, None, says, hint).took(begun.elapsed()));
            }
            Err(RecvTimeoutError::Disconnected) => {
                let says = "the look broke off: this is a defect of Weir";
                return Some(Finding::fail(look, None, says, "`weir explain bug`"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(
        limit: Duration,
        body: impl FnOnce(&mut dyn FnMut(Finding)) + Send + 'static,
    ) -> Vec<Finding> {
        let (sender, found) = mpsc::channel();
        bounded("look", limit, &sender, body);
        drop(sender);
        found.into_iter().collect()
    }

    #[test]
    fn a_look_that_hangs_or_breaks_off_is_a_finding_after_those_before_it() {
        let first = Finding::pass("look", None, "first");
        let (mine, (_keep, never)) = (first.clone(), mpsc::channel::<()>());
        let hung = all(Duration::from_millis(20), move |tell| {
            tell(mine);
            never.recv().ok();
        });
        assert_eq!(hung.len(), 2);
        assert_eq!(hung[0], first);
        assert_eq!(hung[1].verdict, Verdict::Fail);
        assert!(hung[1].says.starts_with("no answer within"), "{hung:?}");

        let mine = first.clone();
        let broken = all(Duration::from_secs(60), move |tell| {
            tell(mine);
            panic!("as a defect would");
        });
        assert_eq!(broken.len(), 2);
        assert!(broken[1].says.contains("defect"), "{broken:?}");

        let mine = first.clone();
        assert_eq!(
            all(Duration::from_secs(60), move |tell| tell(mine)),
            [first]
        );
    }
}
