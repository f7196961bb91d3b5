//! The log as a list of rules and the offsets they made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::PAGE_BYTES;
use crate::commit::{self, LogName, Rule, State};
use crate::error::Result;
use crate::record::SplitId;
use crate::store::Store;

/// Rules and the time in which they were in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RulesPeriod {
    /// `_system/<pipeline>/<zone>`
    pub log: String,
    /// Version of the entry that put them in force.
    pub r#gen: u64,
    /// Version of the entry that ended it; `None`: in force.
    pub until: Option<u64>,
    pub ranges: Vec<Range>,
    pub rules: Vec<Rule>,
    /// Microseconds since 1970 UTC, by the writer's clock.
    pub time: i64,
    /// Who asked for it; empty for the first.
    pub actor: String,
    pub reason: String,
    /// Digests that this entry blocked.
    pub bar: Vec<String>,
    pub force: bool,
    pub in_force: bool,
    /// A rollback blocked one of the rules since.
    pub blocked: bool,
}

/// Offsets that were settled under the rules, `[from, to)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub chain: SplitId,
    /// None where the log no longer knows the chain.
    pub topic: Option<String>,
    pub partition: Option<i32>,
    pub from: i64,
    pub to: i64,
}

/// Some of the eras, and whether older ones were left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The oldest first.
    pub eras: Vec<RulesPeriod>,
    pub more: bool,
}

/// What a page needs of the state, copied so that nobody waits while entries are read.
#[derive(Debug)]
pub struct Picked {
    /// The newest first.
    eras: Vec<commit::EraAt>,
    more: bool,
    blocked: BTreeSet<String>,
    partitions: BTreeMap<SplitId, (String, i32)>,
}

/// About how many bytes a range takes in an answer.
const RANGE_BYTES: usize = 128;

/// The newest eras, below gen `before` where one is given. A limit of 0 is none.
pub fn pick(state: &State, before: Option<u64>, limit: usize) -> Picked {
    let below = before.unwrap_or(u64::MAX);
    let end = state.eras.partition_point(|era| era.r#gen < below);
    let most = if limit == 0 { usize::MAX } else { limit };
    let (mut eras, mut bytes) = (Vec::new(), 0);
    for era in state.eras.get(..end).into_iter().flatten().rev() {
        if eras.len() == most || bytes > PAGE_BYTES {
            break;
        }
        bytes += era.ranges.len() * RANGE_BYTES;
        eras.push(era.clone());
    }
    let chains = eras.iter().flat_map(|era| era.ranges.keys());
    let partition = |id: &SplitId| {
        let at = state.chains.get(id)?;
        Some((id.clone(), (at.topic.clone(), at.partition)))
    };
    Picked {
        more: eras.len() < end,
        partitions: chains.filter_map(partition).collect(),
        blocked: state.blocked.clone(),
        eras,
    }
}

/// A page ends before the entries that were read for it pass [`PAGE_BYTES`]; it has at least one era.
pub fn page(store: &Arc<dyn Store>, name: &LogName, picked: &Picked) -> Result<Page> {
    let (dir, mut eras, mut held) = (name.dir(), Vec::new(), 0);
    let mut more = picked.more;
    for at in &picked.eras {
        if held > PAGE_BYTES {
            more = true;
            break;
        }
        let (era, bytes) = commit::era(store.as_ref(), name, at)?;
        held += bytes;
        eras.push(told(&dir, &era, picked));
    }
    eras.reverse();
    Ok(Page { eras, more })
}

fn told(log: &str, era: &commit::RulesPeriod, picked: &Picked) -> RulesPeriod {
    let range = |(chain, (from, to)): (&SplitId, &(i64, i64))| {
        let at = picked.partitions.get(chain);
        Range {
            chain: chain.clone(),
            topic: at.map(|(topic, _)| topic.clone()),
            partition: at.map(|(_, partition)| *partition),
            from: *from,
            to: *to,
        }
    };
    let blocked = |digest: &String| picked.blocked.contains(digest);
    let blocked = |r: &Rule| blocked(&r.component) || blocked(&r.config);
    RulesPeriod {
        log: log.to_owned(),
        r#gen: era.r#gen,
        until: era.until,
        ranges: era.ranges.iter().map(range).collect(),
        rules: era.rules.clone(),
        time: era.time,
        actor: era.actor.clone(),
        reason: era.reason.clone(),
        bar: era.bar.clone(),
        force: era.force,
        in_force: era.until.is_none(),
        blocked: era.until.is_some() && era.rules.iter().any(blocked),
    }
}
