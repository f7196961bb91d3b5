//! The log as a list of rules and the offsets they made.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::commit::{self, Log, Rule, State};
use crate::error::Result;
use crate::record::ChainId;
use crate::store::Store;

/// Rules and the time in which they were in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Era {
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
    /// Digests that this entry barred.
    pub bar: Vec<String>,
    pub force: bool,
    pub in_force: bool,
    /// A rollback barred one of the rules since.
    pub barred: bool,
}

/// Offsets that were settled under the rules, `[from, to)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub chain: ChainId,
    /// None where the log no longer knows the chain.
    pub topic: Option<String>,
    pub partition: Option<i32>,
    pub from: i64,
    pub to: i64,
}

/// The oldest first.
pub fn history(store: &Arc<dyn Store>, log: &Log) -> Result<Vec<Era>> {
    let eras = commit::history(store.as_ref(), log.name(), log.version())?;
    let dir = log.name().dir();
    Ok(eras.iter().map(|e| told(&dir, e, log.state())).collect())
}

fn told(log: &str, era: &commit::Era, state: &State) -> Era {
    let range = |(chain, (from, to)): (&ChainId, &(i64, i64))| {
        let at = state.chains.get(chain);
        Range {
            chain: chain.clone(),
            topic: at.map(|c| c.topic.clone()),
            partition: at.map(|c| c.partition),
            from: *from,
            to: *to,
        }
    };
    let barred = |digest: &String| state.barred.contains(digest);
    let barred = |r: &Rule| barred(&r.component) || barred(&r.config);
    Era {
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
        barred: era.until.is_some() && era.rules.iter().any(barred),
    }
}
