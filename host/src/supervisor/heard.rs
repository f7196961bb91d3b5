//! Everybody who hears what a pipeline tells: its unit, the tally that logs and counts, the list of its topics.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::commit::{Committed, State};
use crate::config::PipelineConfig;
use crate::error::Error;
use crate::pipeline::{Report, Stages};
use crate::telemetry::Tally;

#[derive(Debug)]
pub struct Both {
    /// The unit.
    pub first: Arc<dyn Report>,
    pub tally: Tally,
    /// Topics that records came from.
    pub topics: Arc<Mutex<BTreeSet<String>>>,
}

impl Report for Both {
    fn tasks(&self, count: usize) {
        self.first.tasks(count);
        self.tally.tasks(count);
    }

    fn started(&self, config: &PipelineConfig, state: &State) {
        self.first.started(config, state);
        self.tally.started(config, state);
    }

    fn committed(&self, committed: &Committed, state: &State, took: Duration) {
        let spans = committed.entry.spans.iter();
        let chains = spans.filter(|span| span.records.read > 0);
        let read = chains.filter_map(|span| state.chains.get(&span.chain));
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        for chain in read {
            if !topics.contains(&chain.topic) {
                topics.insert(chain.topic.clone());
            }
        }
        drop(topics);
        self.tally.committed(committed, state, took);
    }

    fn swapped(&self, committed: &Committed) {
        self.tally.swapped(committed);
    }

    fn lag(&self, task: usize, lag: Option<u64>) {
        self.tally.lag(task, lag);
    }

    fn stages(&self, task: usize, stages: Stages) {
        self.tally.stages(task, stages);
    }

    fn waiting(&self, error: &Error) {
        self.tally.waiting(error);
    }

    fn resumed(&self) {
        self.tally.resumed();
    }

    fn failed(&self, error: &Error) {
        self.first.failed(error);
        self.tally.failed(error);
    }

    fn ended(&self, state: &State) {
        self.first.ended(state);
        self.tally.ended(state);
    }
}
