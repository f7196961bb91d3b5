//! Another config for a pipeline that runs, from the process that runs it: only the rules differ, and nothing stops.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::config::PipelineConfig;

/// For the pipeline to take it: its swapper looks every 200 ms, and is away while the pipeline begins.
const TAKEN_WITHIN: Duration = Duration::from_secs(2);
/// From there on: plugins compiled and started, every task sealed, the entry written. Longer only where the store is away.
const DONE_WITHIN: Duration = Duration::from_secs(60);

/// A config that differs in its transforms alone.
#[derive(Clone, Debug)]
pub struct Edit {
    pub config: PipelineConfig,
    pub actor: String,
    pub reason: String,
    /// Also where columns go or change their type.
    pub allow_breaking: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edited {
    /// By this version of the log.
    InForce(u64),
    /// It declares what was declared before.
    Same,
    /// Nothing was written; why.
    Refused(String),
}

/// From one asker at a time to one run of a pipeline. Nothing waits in between: an edit is taken or it is not.
#[derive(Clone, Debug)]
pub struct Edits {
    asks: Sender<(Edit, Sender<Edited>)>,
    taken: Receiver<(Edit, Sender<Edited>)>,
    now: Arc<Mutex<Option<PipelineConfig>>>,
}

impl Default for Edits {
    fn default() -> Edits {
        let (asks, taken) = bounded(0);
        Edits {
            asks,
            taken,
            now: Arc::default(),
        }
    }
}

impl Edits {
    /// `None`: nobody took it, or the pipeline ended before it was done. Beginning it anew with that config is always safe:
    /// the log knows what is in force.
    pub fn put(&self, edit: Edit) -> Option<Edited> {
        let (answer, hears) = bounded(1);
        self.asks.send_timeout((edit, answer), TAKEN_WITHIN).ok()?;
        hears.recv_timeout(DONE_WITHIN).ok()
    }

    pub(in crate::pipeline) fn take(&self) -> Option<(Edit, Sender<Edited>)> {
        self.taken.try_recv().ok()
    }

    pub(in crate::pipeline) fn is_now(&self, config: &PipelineConfig) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Some(config.clone());
    }

    /// The config that is followed by now.
    pub(in crate::pipeline) fn or(&self, first: &PipelineConfig) -> PipelineConfig {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.clone().unwrap_or_else(|| first.clone())
    }
}
