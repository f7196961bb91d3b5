//! A pipeline as it stands: what is wanted, what is, and what its log says.

use serde::{Deserialize, Serialize};

use crate::chain::{Records, Rows};
use crate::commit::{LogName, Rule, State};
use crate::pipeline::positions::{self, Position};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    pub name: String,
    /// `source` or `sink`, as Kafka Connect has it.
    pub r#type: String,
    /// RUNNING, PAUSED, STOPPED, FAILED, RESTARTING, UNASSIGNED.
    pub state: String,
    /// What a person wants: RUNNING, PAUSED, STOPPED.
    pub target: String,
    pub tasks: Vec<Task>,
    /// Of a failure: error, causes, hint.
    pub trace: Option<String>,
    /// `None`: not asked for, or there is no log yet.
    pub log: Option<Logged>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub id: usize,
    pub state: String,
    pub trace: Option<String>,
}

/// What a commit log comes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Logged {
    /// `_system/<pipeline>/<zone>`
    pub log: String,
    /// The zone's root.
    pub url: String,
    /// Of the newest entry.
    pub version: u64,
    /// The version that put the rules in force.
    pub r#gen: u64,
    pub rules: Vec<Rule>,
    pub records: Records,
    pub rows: Rows,
    pub letters: u64,
    /// Both ledgers close.
    pub closes: bool,
    pub positions: Vec<Position>,
}

pub fn logged(name: &LogName, url: &str, state: &State) -> Logged {
    let total = state.totals();
    Logged {
        log: name.dir(),
        url: url.to_owned(),
        version: state.version,
        r#gen: state.rules_gen(),
        rules: state.rules.rules.clone(),
        records: total.records,
        rows: total.rows,
        letters: total.letters,
        closes: total.closes(),
        positions: positions::all(state),
    }
}
