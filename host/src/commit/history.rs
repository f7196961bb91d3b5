//! Which rules made which rows: the log as a list of eras, each from one `init` or `swap` to the next.
//!
//! A fold over proved entries, so it needs no state but the log's own. An entry with rows and a swap belongs to the era
//! before: its rows are of the old rules.

use std::collections::BTreeMap;

use super::entry::{Entry, Kind, Rule, Span};
use super::{LogName, file};
use crate::error::{Error, Kind as Fault, Result};
use crate::record::ChainId;
use crate::store::Store;

/// Rules and the time in which they were in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Era {
    /// Version of the entry that put them in force.
    pub r#gen: u64,
    /// Version of the entry that ended it; `None`: in force.
    pub until: Option<u64>,
    pub rules: Vec<Rule>,
    /// Offsets that were settled under them and not taken back, `[from, to)` per chain.
    pub ranges: BTreeMap<ChainId, (i64, i64)>,
    /// Microseconds since 1970 UTC, by the writer's clock.
    pub time: i64,
    /// Who asked for it; empty for the first.
    pub actor: String,
    pub reason: String,
    /// Digests that this entry barred.
    pub bar: Vec<String>,
    pub force: bool,
}

/// Every era up to a proved version, the oldest first.
pub fn history(store: &dyn Store, name: &LogName, version: u64) -> Result<Vec<Era>> {
    let mut eras = Vec::new();
    for at in 0..=version {
        let path = name.entry(at);
        let Some(bytes) = store.get(&path)? else {
            return Err(
                Error::new(Fault::LogCorrupt, "log.history", "an entry is missing")
                    .with("entry", path)
                    .hint("`weir log --verify` lists every problem"),
            );
        };
        fold(&mut eras, &file::decode(&bytes, &path)?);
    }
    Ok(eras)
}

fn fold(eras: &mut Vec<Era>, entry: &Entry) {
    if entry.kind == Kind::Rewind {
        entry.spans.iter().for_each(|span| take_back(eras, span));
    } else if let Some(era) = eras.last_mut() {
        for span in &entry.spans {
            let range = era.ranges.entry(span.chain.clone());
            range.or_insert((span.from, span.to)).1 = span.to;
        }
    }
    let begun = |rules: &[Rule]| Era {
        r#gen: entry.version,
        until: None,
        rules: rules.to_vec(),
        ranges: BTreeMap::new(),
        time: entry.time,
        actor: String::new(),
        reason: String::new(),
        bar: Vec::new(),
        force: false,
    };
    let era = match (&entry.init, &entry.swap) {
        (Some(init), _) => begun(&init.rules),
        (None, Some(swap)) => Era {
            actor: swap.actor.clone(),
            reason: swap.reason.clone(),
            bar: swap.bar.clone(),
            force: swap.force,
            ..begun(&swap.rules)
        },
        (None, None) => return,
    };
    if let Some(before) = eras.last_mut() {
        before.until = Some(entry.version);
    }
    eras.push(era);
}

/// Offsets from the span's target on belong to no era any more.
fn take_back(eras: &mut [Era], span: &Span) {
    for era in eras {
        if let Some((from, to)) = era.ranges.get_mut(&span.chain) {
            *to = span.to.min(*to);
            if *from >= *to {
                era.ranges.remove(&span.chain);
            }
        }
    }
}
