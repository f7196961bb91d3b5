//! Which rules made which rows: the log as a list of periods, each from one `init` or `swap` to the next.
//!
//! They are part of the log's state, folded from proved entries: the entry that began a period may be forgotten long before
//! its rules are left. An entry with rows and a swap belongs to the period before the swap: the old rules made its rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::entry::{Entry, Init, Kind, Rule, Span, Swap};
use crate::record::SplitId;

/// Rules and the time in which they were in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RulesPeriod {
    /// Version of the entry that put them in force.
    pub generation: u64,
    /// Version of the entry that ended it; `None`: in force.
    pub until: Option<u64>,
    pub transforms: Vec<Rule>,
    /// Offsets that were settled under them and not taken back, `[from, to)` per split.
    pub ranges: BTreeMap<SplitId, (i64, i64)>,
    /// Microseconds since 1970 UTC, by the writer's clock.
    pub time: i64,
    /// Who asked for it; empty for the first.
    pub actor: String,
    pub reason: String,
    /// Digests that this entry blocked.
    pub block: Vec<String>,
    pub force: bool,
}

impl RulesPeriod {
    pub(super) fn first(init: &Init, time: i64) -> RulesPeriod {
        RulesPeriod {
            generation: 0,
            until: None,
            transforms: init.transforms.clone(),
            ranges: BTreeMap::new(),
            time,
            actor: String::new(),
            reason: String::new(),
            block: Vec::new(),
            force: false,
        }
    }

    fn of(swap: &Swap, entry: &Entry) -> RulesPeriod {
        RulesPeriod {
            generation: entry.version,
            until: None,
            transforms: swap.transforms.clone(),
            ranges: BTreeMap::new(),
            time: entry.time,
            actor: swap.actor.clone(),
            reason: swap.reason.clone(),
            block: swap.block.clone(),
            force: swap.force,
        }
    }
}

pub(super) fn fold(periods: &mut Vec<RulesPeriod>, entry: &Entry) {
    if entry.kind == Kind::Rewind {
        entry.spans.iter().for_each(|span| take_back(periods, span));
    } else if let Some(period) = period_of(periods, entry) {
        for span in &entry.spans {
            let range = period.ranges.entry(span.split.clone());
            range.or_insert((span.from, span.to)).1 = span.to;
        }
    }
    if let Some(swap) = &entry.swap {
        if let Some(before) = periods.last_mut() {
            before.until = Some(entry.version);
        }
        periods.push(RulesPeriod::of(swap, entry));
    }
}

/// That of the rules which made the rows: a batch has those of its plan, which a swap may have followed (V10). If they are
/// forgotten, the newest.
fn period_of<'a>(periods: &'a mut [RulesPeriod], entry: &Entry) -> Option<&'a mut RulesPeriod> {
    let made_by = entry.rules.as_ref().map(|rules| rules.generation);
    let newest = periods.len().checked_sub(1)?;
    let of_rules = made_by.and_then(|by| periods.iter().position(|period| period.generation == by));
    periods.get_mut(of_rules.unwrap_or(newest))
}

/// Offsets from the span's target upwards no longer belong to any period.
fn take_back(periods: &mut [RulesPeriod], span: &Span) {
    for period in periods {
        if let Some((from, to)) = period.ranges.get_mut(&span.split) {
            *to = span.to.min(*to);
            if *from >= *to {
                period.ranges.remove(&span.split);
            }
        }
    }
}
