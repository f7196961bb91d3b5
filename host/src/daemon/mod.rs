//! Runs many pipelines in one process, each protected from the others' failures: configs and target states that survive
//! restarts, states that people and Connect's clients read, restarts with backoff. Knows nothing of HTTP.

mod book;
mod change;
mod check;
mod disk_space;
pub mod guard;
mod jobs;
mod journal;
mod listeners;
mod offsets;
mod pulse;
mod reach;
mod readers;
mod retention;
mod targets;
mod unit;
mod views;
mod watched;

use std::collections::BTreeMap;

use crate::config::Problem;
use crate::connect::ConnectorKind;
use crate::error::Error;

pub use crate::operations::status::{Standing, Target};
pub use book::{Changes, Supervisor};
pub use jobs::{Job, job_of};
pub use journal::{Change, What};
pub use listeners::{FanOut, Live};
pub use reach::{Origin, may_refer};
pub use views::{Asker, Known, Views};
pub use watched::Watched;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskStatus {
    pub id: usize,
    pub standing: Standing,
    /// Error, causes and hint of a failure, one per line.
    pub trace: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub name: String,
    pub kind: ConnectorKind,
    pub standing: Standing,
    pub trace: Option<String>,
    pub tasks: Vec<TaskStatus>,
    /// When it reads again, microseconds since 1970 UTC, while it does nothing until then.
    pub next_run: Option<i64>,
    /// What a person should look at although it goes on.
    pub alarm: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    pub name: String,
    pub kind: ConnectorKind,
    /// As it was given, with `name`; references unresolved, defaults not filled in.
    pub config: BTreeMap<String, String>,
    pub target: Target,
    /// Ids of its tasks: none while stopped or never started.
    pub tasks: usize,
}

/// Who asked, for the history: `user@host` or the name by which somebody authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor(pub String);

/// What a change may do to readers of a pipeline's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Columns that go or change their type are refused.
    Kept,
    /// They are allowed.
    Broken,
}

/// Why a request changed nothing.
#[derive(Debug)]
pub enum Refused {
    NotFound(String),
    Exists(String),
    /// Every problem of the config, at once.
    Invalid(Vec<Problem>),
    /// The request itself is wrong; one line for people.
    Bad(String),
    /// Not possible now; a later try may succeed.
    Conflict(String),
    /// Others are doing the same: the request may succeed in a moment.
    Busy(String),
    Failed(Error),
}

/// The state of the daemon, not of its pipelines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Starting,
    Healthy,
    /// It cannot acknowledge changes; the reason.
    Unhealthy(String),
}

#[cfg(test)]
mod fence_tests;
#[cfg(test)]
mod journal_tests;
