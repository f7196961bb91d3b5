//! The status of a pipeline: its target, its state, and what its log says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::retention::{self, LeftOf};
use crate::chain::{Records, Rows};
use crate::commit::{LogName, Rule, State};
use crate::connect::ConnectorKind;
use crate::pipeline::positions::{self, Position};

/// The target state: what a person wants of a pipeline. It survives restarts.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub enum Target {
    Running,
    /// Drained; its tasks are still shown.
    Paused,
    /// Drained, without tasks: offsets may be altered.
    Stopped,
}

/// The state: what a pipeline or a task does now, in the words of Kafka Connect's REST API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub enum Standing {
    Unassigned,
    Running,
    Paused,
    Failed,
    Restarting,
    /// Only for pipelines, never for tasks.
    Stopped,
}

impl Target {
    pub fn word(self) -> &'static str {
        match self {
            Target::Running => "RUNNING",
            Target::Paused => "PAUSED",
            Target::Stopped => "STOPPED",
        }
    }
}

impl Standing {
    pub fn word(self) -> &'static str {
        match self {
            Standing::Unassigned => "UNASSIGNED",
            Standing::Running => "RUNNING",
            Standing::Paused => "PAUSED",
            Standing::Failed => "FAILED",
            Standing::Restarting => "RESTARTING",
            Standing::Stopped => "STOPPED",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pipeline {
    pub name: String,
    /// As Kafka Connect has it.
    #[schemars(with = "ConnectorKind")]
    pub r#type: String,
    /// What it does.
    #[schemars(with = "Standing")]
    pub state: String,
    /// What a person wants of it.
    #[schemars(with = "Target")]
    pub target: String,
    pub tasks: Vec<Task>,
    /// When it reads again, in UTC, while it does nothing until then: `trigger = "every:…"` or `"cron:…"`.
    pub next_run: Option<String>,
    /// For a failure: error, causes, hint.
    pub trace: Option<String>,
    /// What a person should look at although the pipeline goes on.
    #[serde(default)]
    pub alarm: Option<String>,
    /// `None`: not asked for, or there is no log yet.
    pub log: Option<Logged>,
    /// `None`: not asked for, or it has not begun since this process did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Live>,
}

/// What is known of a pipeline without a look at its log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PipelineLive")]
pub struct Live {
    /// Version of the newest entry.
    pub version: u64,
    /// The version that put the rules in force.
    pub generation: u64,
    /// When the newest rows were committed, microseconds since 1970 UTC, by the writer's clock; null: not known.
    pub last_commit: Option<i64>,
    /// Records that are not read yet; null: not known.
    pub lag: Option<u64>,
    pub records: Records,
    pub rows: Rows,
    pub dead_letters: u64,
    /// Both ledgers close.
    pub closes: bool,
    /// The newest commits of records since the pipeline began in this process, oldest first: 60 at most.
    pub recent: Vec<Beat>,
}

/// One commit of records, for a small chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Beat {
    pub version: u64,
    /// Microseconds since 1970 UTC, by the writer's clock.
    pub time: i64,
    pub read: u64,
    pub written: u64,
    pub dead_letters: u64,
    /// How long the entry took, until it was read back, in milliseconds.
    pub commit_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Task {
    pub id: usize,
    #[schemars(with = "Standing")]
    pub state: String,
    pub trace: Option<String>,
}

/// The summary of a commit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PipelineLog")]
pub struct Logged {
    /// `_system/<pipeline>/<zone>`
    pub log: String,
    /// The zone's root.
    pub url: String,
    /// Version of the newest entry.
    pub version: u64,
    /// The version that put the rules in force.
    pub generation: u64,
    pub transforms: Vec<Rule>,
    pub records: Records,
    pub rows: Rows,
    pub dead_letters: u64,
    /// Both ledgers close.
    pub closes: bool,
    pub positions: Vec<Position>,
    /// What left the zone by its age; it is in the ledgers still.
    #[serde(default)]
    pub left: Vec<LeftOf>,
}

pub fn logged(name: &LogName, url: &str, state: &State) -> Logged {
    let total = state.totals();
    Logged {
        log: name.dir(),
        url: url.to_owned(),
        version: state.version,
        generation: state.generation(),
        transforms: state.rules.transforms.clone(),
        records: total.records,
        rows: total.rows,
        dead_letters: total.dead_letters,
        closes: total.closes(),
        positions: positions::all(state),
        left: retention::left(state),
    }
}
