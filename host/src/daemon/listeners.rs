//! Receivers of a pipeline's reports: its unit, the tally that logs and counts, the list of its topics, its lag.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::guard::{Alarm, Guarding};
use super::pulse::Pulse;
use crate::commit::{Committed, State, View};
use crate::config::PipelineConfig;
use crate::error::Error;
use crate::lock::lock;
use crate::operations::status;
use crate::pipeline::{Ending, Left, Report, Rest, Shown, Stages};
use crate::record::SplitId;
use crate::sink::Gathered;
use crate::source::End;
use crate::telemetry::Tally;
use crate::telemetry::metrics::{self, PartitionLag};
use crate::telemetry::recent::{BEHIND, PartitionBehind, Query};

#[derive(Debug)]
pub struct FanOut {
    /// Who keeps its state: the unit, or the board of `weir run --metrics`.
    pub first: Arc<dyn Report>,
    pub tally: Tally,
    pub live: Arc<Live>,
    pub guarding: Guarding,
}

/// What is known at any moment, not only at a commit.
#[derive(Debug, Default)]
pub struct Live {
    /// Topics that records came from.
    pub topics: Mutex<BTreeSet<String>>,
    /// Per task.
    lag: Mutex<BTreeMap<usize, Option<u64>>>,
    /// Where splits end, as their sources last said.
    ends: Mutex<BTreeMap<SplitId, i64>>,
    /// View of the log that the pipeline writes, while it runs.
    log: Mutex<Weak<View>>,
    pulse: Mutex<Option<Pulse>>,
    /// Of `errors.max`.
    pub alarm: Alarm,
}

impl Live {
    /// The state of the log, while the pipeline runs.
    pub fn log(&self) -> Option<Arc<View>> {
        let log = lock(&self.log);
        log.upgrade()
    }

    /// Of each partition, the most behind first.
    pub fn partition_lags(&self) -> Vec<PartitionLag> {
        let ends = lock(&self.ends).clone();
        let log = self.log();
        let lags = log.and_then(|view| view.read(|state| metrics::partition_lags(state, &ends)));
        lags.unwrap_or_default()
    }

    /// Records that are not read yet; unknown while nobody reads, or if it is unknown for one task.
    pub fn lag(&self) -> Option<u64> {
        let lag = lock(&self.lag);
        match lag.is_empty() {
            true => None,
            false => lag.values().copied().sum(),
        }
    }

    /// `query` with what is behind at this moment.
    pub fn behind(&self, query: Query) -> Query {
        let one = |part: PartitionLag| PartitionBehind {
            topic: part.tp.topic.to_string(),
            partition: part.tp.partition,
            lag: part.lag,
        };
        let behind = self.partition_lags().into_iter().take(BEHIND).map(one);
        Query {
            behind: behind.collect(),
            ..query
        }
    }
}

impl Live {
    /// What the newest commits came to. `None`: it has not begun since this process did.
    pub fn shown(&self) -> Option<status::Live> {
        let lag = self.lag();
        lock(&self.pulse).as_ref().map(|pulse| pulse.shown(lag))
    }
}

impl Report for FanOut {
    fn tasks(&self, count: usize) {
        lock(&self.live.lag).clear();
        lock(&self.live.ends).clear();
        self.first.tasks(count);
        self.tally.tasks(count);
    }

    fn topic(&self, topic: &str) {
        let mut topics = lock(&self.live.topics);
        if !topics.contains(topic) {
            topics.insert(topic.to_owned());
        }
    }

    fn opened(&self, log: &Arc<View>) {
        let mut ours = lock(&self.live.log);
        *ours = Arc::downgrade(log);
    }

    fn started(&self, config: &PipelineConfig, state: &State) {
        Pulse::begun(&mut lock(&self.live.pulse), state);
        self.guarding.started(config, &self.live.alarm);
        self.first.started(config, state);
        self.tally.started(config, state);
    }

    fn committed(&self, committed: &Committed, state: &State, took: Duration) {
        let spans = committed.entry.spans.iter();
        let splits = spans.filter(|span| span.records.read > 0);
        let read = splits.filter_map(|span| state.splits.get(&span.split));
        let mut topics = lock(&self.live.topics);
        for split in read {
            if !topics.contains(&split.topic) {
                topics.insert(split.topic.clone());
            }
        }
        drop(topics);
        if let Some(pulse) = lock(&self.live.pulse).as_mut() {
            pulse.committed(committed, state, took);
        }
        self.tally.committed(committed, state, took);
        let name = &state.init.pipeline;
        (self.guarding).committed(name, committed, state, &self.live.alarm);
    }

    fn swapped(&self, committed: &Committed) {
        self.tally.swapped(committed);
    }

    fn lag(&self, task: usize, lag: Option<u64>) {
        let all = self.live.lag.lock();
        all.unwrap_or_else(PoisonError::into_inner)
            .insert(task, lag);
        self.tally.lag(task, lag);
    }

    fn stages(&self, task: usize, stages: Stages) {
        self.tally.stages(task, stages);
    }

    fn shown(&self, shown: Shown) {
        self.guarding.shown(&shown);
        self.tally.shown(shown);
    }

    fn ends(&self, task: usize, ends: &[End]) {
        let mut all = lock(&self.live.ends);
        for end in ends {
            match all.get_mut(&end.split) {
                Some(next) => *next = end.next,
                None => drop(all.insert(end.split.clone(), end.next)),
            }
        }
        drop(all);
        self.tally.ends(task, ends);
    }

    fn gathered(&self, task: usize, gathered: Gathered) {
        self.tally.gathered(task, gathered);
    }

    fn looks(&self) {
        self.first.looks();
    }

    fn resting(&self, why: Rest, next: Duration) {
        self.first.resting(why, next);
        self.tally.resting(why, next);
    }

    fn waiting(&self, error: &Error) {
        self.tally.waiting(error);
    }

    fn resumed(&self) {
        self.tally.resumed();
    }

    fn left(&self, task: usize, left: Left) {
        self.tally.left(task, left);
    }

    fn stands(&self, state: &State) {
        self.tally.stands(state);
    }

    fn ended(&self, ending: &Ending<'_>) {
        // What waits is known only while somebody looks.
        lock(&self.live.lag).clear();
        self.first.ended(ending);
        self.tally.ended(ending);
    }
}
