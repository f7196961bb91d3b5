//! What can be asked of pipelines of this process, whoever runs them: the daemon, or `weir run --ui`.

use std::fmt;
use std::sync::Arc;

use super::views::{Asker, Known};
use super::{Refused, Supervisor, TaskStatus, jobs};
use crate::config::PipelineConfig;
use crate::instant;
use crate::lock::lock;
use crate::operations::status;
use crate::telemetry::recent::Query;

/// Every call blocks for a few seconds at most.
pub trait Watched: Send + Sync + fmt::Debug {
    /// All but file connectors, by name.
    fn pipelines(&self) -> Vec<String>;

    /// State, target and what is known without a look at its log.
    fn standing(&self, name: &str) -> Result<status::Pipeline, Refused>;

    fn config(&self, name: &str) -> Result<Arc<PipelineConfig>, Refused>;

    /// `None`: it has not begun yet.
    fn log_of(&self, name: &str, asker: &Asker) -> Result<Option<Known>, Refused>;

    /// What it does and did since the process began, with its newest commits.
    fn query(&self, name: &str, limit: usize) -> Result<Query, Refused>;

    /// For Prometheus, as of now.
    fn metrics(&self) -> String;
}

impl Watched for Supervisor {
    fn pipelines(&self) -> Vec<String> {
        let entries: Vec<_> = lock(&self.book).entries.values().cloned().collect();
        let all = entries.into_iter().filter(|entry| {
            let job = lock(&entry.record).job.clone();
            job.is_err() || job.is_ok_and(|job| jobs::pipeline_of(&job).is_some())
        });
        all.map(|entry| entry.name.clone()).collect()
    }

    fn standing(&self, name: &str) -> Result<status::Pipeline, Refused> {
        let (status, info) = (self.status(name)?, self.info(name)?);
        let task = |task: TaskStatus| status::Task {
            id: task.id,
            state: task.standing.word().to_owned(),
            trace: task.trace,
        };
        Ok(status::Pipeline {
            name: status.name,
            r#type: status.kind.word().to_owned(),
            state: status.standing.word().to_owned(),
            target: info.target.word().to_owned(),
            tasks: status.tasks.into_iter().map(task).collect(),
            next_run: status.next_run.map(|at| instant::utc(at, 0)),
            trace: status.trace,
            alarm: status.alarm,
            log: None,
            live: self.find(name)?.live.shown(),
        })
    }

    fn config(&self, name: &str) -> Result<Arc<PipelineConfig>, Refused> {
        self.pipeline(name)
    }

    fn log_of(&self, name: &str, asker: &Asker) -> Result<Option<Known>, Refused> {
        Supervisor::log_of(self, name, asker)
    }

    fn query(&self, name: &str, limit: usize) -> Result<Query, Refused> {
        Supervisor::query(self, name, limit)
    }

    fn metrics(&self) -> String {
        Supervisor::metrics(self)
    }
}
