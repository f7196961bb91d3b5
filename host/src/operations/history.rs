//! The log as a list of rules and the offsets they made.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PAGE_BYTES;
use crate::commit::{self, LogName, Rule, State};
use crate::record::SplitId;

/// Rules and the time in which they were in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RulesPeriod {
    /// `_system/<pipeline>/<zone>`
    pub log: String,
    /// Version of the entry that put them in force.
    pub generation: u64,
    /// Version of the entry that ended it; `None`: in force.
    pub until: Option<u64>,
    pub ranges: Vec<Range>,
    pub transforms: Vec<Rule>,
    /// Microseconds since 1970 UTC, by the writer's clock.
    pub time: i64,
    /// Who asked for it; empty for the first.
    pub actor: String,
    pub reason: String,
    /// Digests that this entry blocked.
    pub block: Vec<String>,
    pub force: bool,
    pub in_force: bool,
    /// A later rollback blocked one of the rules.
    pub blocked: bool,
}

/// Offsets that were settled under the rules, `[from, to)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Range {
    #[schemars(with = "String")]
    pub split: SplitId,
    /// None: the log no longer knows the split.
    pub topic: Option<String>,
    pub partition: Option<i32>,
    pub from: i64,
    pub to: i64,
}

/// Some of the periods, and whether older ones were left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The oldest first.
    pub periods: Vec<RulesPeriod>,
    pub more: bool,
}

/// About how many bytes a range takes in an answer, and the rules of a period with their names and digests.
const RANGE_BYTES: usize = 128;
const RULE_BYTES: usize = 300;

/// The newest periods, below generation `before` if it is given. A limit of 0 means no limit. A page ends before it
/// exceeds [`PAGE_BYTES`]; it has at least one period.
pub fn page(name: &LogName, state: &State, before: Option<u64>, limit: usize) -> Page {
    let below = before.unwrap_or(u64::MAX);
    let end = state
        .periods
        .partition_point(|period| period.generation < below);
    let most = if limit == 0 { usize::MAX } else { limit };
    let (dir, mut periods, mut held) = (name.dir(), Vec::new(), 0);
    for period in state.periods.get(..end).into_iter().flatten().rev() {
        if periods.len() == most || held > PAGE_BYTES {
            break;
        }
        let blocked: usize = period.block.iter().map(String::len).sum();
        held += period.actor.len() + period.reason.len() + blocked;
        held += period.ranges.len() * RANGE_BYTES + period.transforms.len() * RULE_BYTES;
        periods.push(with_ranges(&dir, period, state));
    }
    periods.reverse();
    Page {
        more: periods.len() < end,
        periods,
    }
}

fn with_ranges(log: &str, period: &commit::RulesPeriod, state: &State) -> RulesPeriod {
    let range = |(split, (from, to)): (&SplitId, &(i64, i64))| {
        let at = state.splits.get(split);
        Range {
            split: split.clone(),
            topic: at.map(|at| at.topic.clone()),
            partition: at.map(|at| at.partition),
            from: *from,
            to: *to,
        }
    };
    let blocked = |digest: &String| state.blocked.contains(digest);
    let blocked = |r: &Rule| blocked(&r.component) || blocked(&r.config);
    RulesPeriod {
        log: log.to_owned(),
        generation: period.generation,
        until: period.until,
        ranges: period.ranges.iter().map(range).collect(),
        transforms: period.transforms.clone(),
        time: period.time,
        actor: period.actor.clone(),
        reason: period.reason.clone(),
        block: period.block.clone(),
        force: period.force,
        in_force: period.until.is_none(),
        blocked: period.until.is_some() && period.transforms.iter().any(blocked),
    }
}
