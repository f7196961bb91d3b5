//! Which rules made which rows: the log as a list of periods, each from one `init` or `swap` to the next.
//!
//! Where periods begin and end is part of the log's state, folded from proved entries. Who asked for a period is read
//! from the entry that began it. An entry with rows and a swap belongs to the period before the swap: the old rules
//! made its rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::entry::{Entry, Kind, Rule, Span};
use super::{LogName, file};
use crate::error::{Error, Kind as Fault, Result};
use crate::record::SplitId;
use crate::store::Store;

/// Rules and the time in which they were in force.
#[derive(Clone, Debug, PartialEq)]
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

/// Where a period begins and ends, and what was settled in it: the part of a [`RulesPeriod`] that is folded from the
/// log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeriodAt {
    /// Version of the entry that put its rules in force.
    pub generation: u64,
    /// Version of the entry that ended it; `None`: in force.
    pub until: Option<u64>,
    /// Offsets that were settled under them and not taken back, `[from, to)` per split.
    pub ranges: BTreeMap<SplitId, (i64, i64)>,
}

impl PeriodAt {
    pub(super) fn of(generation: u64) -> PeriodAt {
        PeriodAt {
            generation,
            until: None,
            ranges: BTreeMap::new(),
        }
    }
}

/// These periods of a proved log (of [`super::State::periods`]) with their rules, and who asked for them why.
pub fn history(
    store: &dyn Store,
    name: &LogName,
    periods: &[PeriodAt],
) -> Result<Vec<RulesPeriod>> {
    let one = |at: &PeriodAt| period(store, name, at).map(|(period, _)| period);
    periods.iter().map(one).collect()
}

/// One of them, and the size of the entry that began it.
pub fn period(store: &dyn Store, name: &LogName, at: &PeriodAt) -> Result<(RulesPeriod, usize)> {
    let path = name.entry(at.generation);
    let lost = |what: &str| {
        Error::new(Fault::LogCorrupt, "log.history", what.to_owned())
            .with("entry", &path)
            .hint("`weir log --verify` lists every problem")
    };
    let Some(bytes) = store.get(&path)? else {
        return Err(lost("an entry is missing"));
    };
    let entry = file::decode(&bytes, &path)?;
    let begun = |rules: &[Rule]| RulesPeriod {
        generation: at.generation,
        until: at.until,
        transforms: rules.to_vec(),
        ranges: at.ranges.clone(),
        time: entry.time,
        actor: String::new(),
        reason: String::new(),
        block: Vec::new(),
        force: false,
    };
    let period = match (&entry.init, &entry.swap) {
        (Some(init), _) => begun(&init.transforms),
        (None, Some(swap)) => RulesPeriod {
            actor: swap.actor.clone(),
            reason: swap.reason.clone(),
            block: swap.block.clone(),
            force: swap.force,
            ..begun(&swap.transforms)
        },
        (None, None) => return Err(lost("an entry that began an period has no rules any more")),
    };
    Ok((period, bytes.len()))
}

pub(super) fn fold(periods: &mut Vec<PeriodAt>, entry: &Entry) {
    if entry.kind == Kind::Rewind {
        entry.spans.iter().for_each(|span| take_back(periods, span));
    } else if let Some(period) = periods.last_mut() {
        for span in &entry.spans {
            let range = period.ranges.entry(span.split.clone());
            range.or_insert((span.from, span.to)).1 = span.to;
        }
    }
    if entry.swap.is_some() {
        if let Some(before) = periods.last_mut() {
            before.until = Some(entry.version);
        }
        periods.push(PeriodAt::of(entry.version));
    }
}

/// Offsets from the span's target upwards no longer belong to any period.
fn take_back(periods: &mut [PeriodAt], span: &Span) {
    for period in periods {
        if let Some((from, to)) = period.ranges.get_mut(&span.split) {
            *to = span.to.min(*to);
            if *from >= *to {
                period.ranges.remove(&span.split);
            }
        }
    }
}
