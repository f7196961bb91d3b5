//! Receivers of a pipeline's reports: its unit, the tally that logs and counts, the list of its topics, its lag.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::pulse::Pulse;
use crate::commit::{Committed, State, View};
use crate::config::PipelineConfig;
use crate::error::Error;
use crate::lock::lock;
use crate::operations::status;
use crate::pipeline::{Ending, Left, Report, Rest, Stages};
use crate::sink::Gathered;
use crate::telemetry::Tally;

#[derive(Debug)]
pub struct FanOut {
    /// Who keeps its state: the unit, or the board of `weir run --metrics`.
    pub first: Arc<dyn Report>,
    pub tally: Tally,
    pub live: Arc<Live>,
}

/// What is known at any moment, not only at a commit.
#[derive(Debug, Default)]
pub struct Live {
    /// Topics that records came from.
    pub topics: Mutex<BTreeSet<String>>,
    /// Per task.
    lag: Mutex<BTreeMap<usize, Option<u64>>>,
    /// View of the log that the pipeline writes, while it runs.
    log: Mutex<Weak<View>>,
    pulse: Mutex<Option<Pulse>>,
}

impl Live {
    /// The state of the log, while the pipeline runs.
    pub fn log(&self) -> Option<Arc<View>> {
        let log = lock(&self.log);
        log.upgrade()
    }

    /// Records that wait; unknown if it is unknown for one task.
    pub fn lag(&self) -> Option<u64> {
        let lag = lock(&self.lag);
        match lag.is_empty() {
            true => None,
            false => lag.values().copied().sum(),
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
        let mut lag = lock(&self.live.lag);
        lag.clear();
        drop(lag);
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
