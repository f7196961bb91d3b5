//! What pipelines did since the process began, counted from the same events that make log lines and progress.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::events::{
    CommitReport, Counters, Durations, Reading, Report, Resting, Started, Stopped, Swapped, Waiting,
};
use super::recent::{Query, Watched};
use crate::chain::Ledger;
use crate::clock::Clock;
use crate::lock::lock;
use crate::sink::{Refusals, refuse};

/// Rates are averages over this time, as in Connect by default: two samples of 30 s.
const WINDOW: Duration = Duration::from_secs(60);
/// Upper bounds of the buckets of commit times, in seconds.
pub const COMMIT_BUCKETS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Upper bounds of the buckets of event latency, in seconds: from what one commit a second gives to a day behind.
pub const LATENCY_BUCKETS: [f64; 14] = [
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0, 86_400.0,
];

/// Counts and passes on. One for all pipelines of a process.
#[derive(Debug)]
pub struct Meters {
    to: Arc<dyn Report>,
    clock: Arc<dyn Clock>,
    by_pipeline: Mutex<BTreeMap<String, Meter>>,
    watched: Mutex<BTreeMap<String, Watched>>,
}

/// One pipeline since the process began.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    pub version: u64,
    pub starts: u64,
    pub commits: u64,
    pub swaps: u64,
    /// Times that something away was waited for.
    pub waits: u64,
    pub waiting: bool,
    /// Tasks of the last start.
    pub tasks: usize,
    /// Time of the last commit, microseconds since 1970 UTC.
    pub last_commit: Option<i64>,
    pub ledger: Ledger,
    pub counters: Counters,
    pub lost: u64,
    pub files: u64,
    pub bytes: u64,
    pub lag: Option<u64>,
    pub stages: Durations,
    pub commit: Spread,
    /// Commits by time, per upper bound, not summed.
    pub commit_buckets: [u64; COMMIT_BUCKETS.len()],
    pub batch: Spread,
    /// From a record's time to its visible row, per upper bound, not summed; and of all of them.
    pub latency_buckets: [u64; LATENCY_BUCKETS.len()],
    pub latency: Spread,
    /// From the proof of an entry to its last file in place.
    pub publish: Spread,
    /// Dead letters by transform and code.
    pub refusals: Refusals,
    /// Topics and partitions that commits have named.
    pub partitions: std::collections::BTreeSet<(String, i32)>,
    /// Milliseconds since 1970 UTC.
    pub last_error: Option<i64>,
    recent: VecDeque<(Duration, u64, u64)>,
    since: Duration,
}

/// Count, sum, largest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spread {
    pub count: u64,
    pub sum: f64,
    pub max: f64,
}

impl Spread {
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.max = self.max.max(value);
    }

    #[expect(clippy::cast_precision_loss, reason = "a mean is shown")]
    pub fn mean(&self) -> f64 {
        match self.count {
            0 => 0.0,
            n => self.sum / n as f64,
        }
    }
}

impl Meter {
    #[expect(clippy::cast_precision_loss, reason = "a mean is shown")]
    fn waited(&mut self, report: &CommitReport) {
        for (age, n) in report.times.ages(report.visible) {
            let seconds = age.as_secs_f64();
            self.latency.count += n;
            self.latency.sum += seconds * n as f64;
            self.latency.max = self.latency.max.max(seconds);
            if let Some(at) = LATENCY_BUCKETS.iter().position(|bound| seconds <= *bound) {
                self.latency_buckets[at] += n;
            }
        }
    }

    /// Records read and rows written per second, over the last minute.
    #[expect(clippy::cast_precision_loss, reason = "a rate is shown")]
    pub fn rates(&self, now: Duration) -> (f64, f64) {
        let from = now.saturating_sub(WINDOW);
        let recent = self.recent.iter().filter(|(at, _, _)| *at >= from);
        let (read, sent) = recent.fold((0, 0), |(r, s), (_, read, sent)| (r + read, s + sent));
        let time = now.saturating_sub(from.max(self.since)).as_secs_f64();
        match time > 0.0 {
            true => (read as f64 / time, sent as f64 / time),
            false => (0.0, 0.0),
        }
    }
}

impl Meters {
    pub fn new(to: Arc<dyn Report>, clock: Arc<dyn Clock>) -> Arc<Meters> {
        Arc::new(Meters {
            to,
            clock,
            by_pipeline: Mutex::default(),
            watched: Mutex::default(),
        })
    }

    pub fn of(&self, pipeline: &str) -> Meter {
        let all = self.by_pipeline.lock();
        let all = all.unwrap_or_else(PoisonError::into_inner);
        all.get(pipeline).cloned().unwrap_or_default()
    }

    /// It was deleted.
    pub fn forget(&self, pipeline: &str) {
        let all = self.by_pipeline.lock();
        all.unwrap_or_else(PoisonError::into_inner).remove(pipeline);
        lock(&self.watched).remove(pipeline);
    }

    /// What the pipeline does and did, with the newest `limit` commits.
    pub fn query(&self, pipeline: &str, limit: usize) -> Query {
        match lock(&self.watched).get(pipeline) {
            Some(watched) => watched.query(pipeline, limit),
            None => Watched::default().query(pipeline, limit),
        }
    }

    fn watch(&self, pipeline: &str, change: impl FnOnce(&mut Watched)) {
        let mut all = lock(&self.watched);
        match all.get_mut(pipeline) {
            Some(watched) => change(watched),
            None => change(all.entry(pipeline.to_owned()).or_default()),
        }
    }

    fn with(&self, pipeline: &str, change: impl FnOnce(&mut Meter)) {
        let all = self.by_pipeline.lock();
        let mut all = all.unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(pipeline) {
            Some(meter) => change(meter),
            None => {
                let mut meter = Meter {
                    since: self.clock.elapsed(),
                    ..Meter::default()
                };
                change(&mut meter);
                all.insert(pipeline.to_owned(), meter);
            }
        }
    }
}

impl Report for Meters {
    fn started(&self, started: &Started) {
        self.with(&started.pipeline, |meter| {
            meter.starts += 1;
            meter.version = started.version;
            meter.tasks = started.tasks;
            meter.lag = started.lag.or(meter.lag);
            meter.waiting = false;
        });
        self.watch(&started.pipeline, |watched| watched.started(started));
        self.to.started(started);
    }

    #[expect(clippy::cast_precision_loss, reason = "a mean is shown")]
    fn committed(&self, report: &CommitReport) {
        let now = self.clock.elapsed();
        self.with(&report.pipeline, |meter| {
            meter.version = report.version;
            meter.commits += 1;
            meter.last_commit = Some(report.time);
            meter.ledger.add(&report.ledger);
            for (transform, counts) in &report.counters {
                let sums = meter.counters.entry(transform.clone()).or_default();
                for (counter, amount) in counts {
                    *sums.entry(counter.clone()).or_default() += amount;
                }
            }
            meter.lost += report.spans.iter().map(|s| s.lost).sum::<u64>();
            meter.files += report.files;
            meter.bytes += report.bytes;
            meter.lag = report.lag;
            let (sums, took) = (&mut meter.stages, &report.durations);
            sums.read += took.read;
            sums.transform += took.transform;
            sums.write += took.write;
            sums.seal += took.seal;
            sums.commit += took.commit;
            let seconds = took.commit.as_secs_f64();
            meter.commit.add(seconds);
            if let Some(at) = COMMIT_BUCKETS.iter().position(|bound| seconds <= *bound) {
                meter.commit_buckets[at] += 1;
            }
            meter.batch.add(report.ledger.records.read as f64);
            meter.publish.add(report.publish.as_secs_f64());
            meter.waited(report);
            for ((transform, code), n) in &report.refusals {
                refuse(&mut meter.refusals, transform, code, *n);
            }
            for span in &report.spans {
                let known = (span.topic.clone(), span.partition);
                meter.partitions.insert(known);
            }
            if report.ledger.dead_letters > 0 {
                meter.last_error = Some(report.time / 1000);
            }
            let from = now.saturating_sub(WINDOW);
            while meter.recent.front().is_some_and(|(at, _, _)| *at < from) {
                meter.recent.pop_front();
            }
            let (read, sent) = (report.ledger.records.read, report.ledger.rows.written);
            meter.recent.push_back((now, read, sent));
        });
        self.watch(&report.pipeline, |watched| watched.committed(report));
        self.to.committed(report);
    }

    fn swapped(&self, swapped: &Swapped) {
        self.with(&swapped.pipeline, |meter| {
            meter.swaps += 1;
            meter.version = swapped.version;
        });
        self.to.swapped(swapped);
    }

    fn reading(&self, reading: &Reading) {
        self.watch(&reading.pipeline, |watched| watched.reading(reading));
        self.to.reading(reading);
    }

    fn resting(&self, resting: &Resting) {
        self.watch(&resting.pipeline, |watched| watched.resting(resting));
        self.to.resting(resting);
    }

    fn waiting(&self, pipeline: &str, waiting: &Waiting<'_>) {
        self.with(pipeline, |meter| {
            meter.waits += 1;
            meter.waiting = true;
        });
        self.watch(pipeline, |watched| watched.waiting(waiting));
        self.to.waiting(pipeline, waiting);
    }

    fn resumed(&self, pipeline: &str, after: Duration) {
        self.with(pipeline, |meter| meter.waiting = false);
        self.watch(pipeline, Watched::resumed);
        self.to.resumed(pipeline, after);
    }

    fn stopped(&self, stopped: &Stopped) {
        let now = self.clock.now_micros() / 1000;
        self.with(&stopped.pipeline, |meter| {
            meter.waiting = false;
            // What was read and not committed is read again.
            meter.lag = stopped.lag.or(meter.lag);
            if stopped.failure.is_some() {
                meter.last_error = Some(now);
            }
        });
        self.watch(&stopped.pipeline, |watched| watched.stopped(stopped));
        self.to.stopped(stopped);
    }
}
