//! Which rules made which rows: the log as a list of eras, each from one `init` or `swap` to the next.
//!
//! Where eras begin and end is a fold over proved entries, part of the log's state; who asked for one is read from the entry
//! that began it. An entry with rows and a swap belongs to the era
//! before: its rows are of the old rules.

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
    pub r#gen: u64,
    /// Version of the entry that ended it; `None`: in force.
    pub until: Option<u64>,
    pub rules: Vec<Rule>,
    /// Offsets that were settled under them and not taken back, `[from, to)` per chain.
    pub ranges: BTreeMap<SplitId, (i64, i64)>,
    /// Microseconds since 1970 UTC, by the writer's clock.
    pub time: i64,
    /// Who asked for it; empty for the first.
    pub actor: String,
    pub reason: String,
    /// Digests that this entry blocked.
    pub bar: Vec<String>,
    pub force: bool,
}

/// Where an era begins and ends, and what was settled in it: the part of an [`RulesPeriod`] that is folded from the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EraAt {
    /// Version of the entry that put its rules in force.
    #[serde(rename = "generation")]
    pub r#gen: u64,
    /// Version of the entry that ended it; `None`: in force.
    pub until: Option<u64>,
    /// Offsets that were settled under them and not taken back, `[from, to)` per chain.
    pub ranges: BTreeMap<SplitId, (i64, i64)>,
}

impl EraAt {
    pub(super) fn of(r#gen: u64) -> EraAt {
        EraAt {
            r#gen,
            until: None,
            ranges: BTreeMap::new(),
        }
    }
}

/// These eras of a proved log (of [`super::State::eras`]) with their rules, and who asked for them why.
pub fn history(store: &dyn Store, name: &LogName, eras: &[EraAt]) -> Result<Vec<RulesPeriod>> {
    let one = |at: &EraAt| era(store, name, at).map(|(era, _)| era);
    eras.iter().map(one).collect()
}

/// One of them, and the size of the entry that began it.
pub fn era(store: &dyn Store, name: &LogName, at: &EraAt) -> Result<(RulesPeriod, usize)> {
    let path = name.entry(at.r#gen);
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
        r#gen: at.r#gen,
        until: at.until,
        rules: rules.to_vec(),
        ranges: at.ranges.clone(),
        time: entry.time,
        actor: String::new(),
        reason: String::new(),
        bar: Vec::new(),
        force: false,
    };
    let era = match (&entry.init, &entry.swap) {
        (Some(init), _) => begun(&init.rules),
        (None, Some(swap)) => RulesPeriod {
            actor: swap.actor.clone(),
            reason: swap.reason.clone(),
            bar: swap.bar.clone(),
            force: swap.force,
            ..begun(&swap.rules)
        },
        (None, None) => return Err(lost("an entry that began an era has no rules any more")),
    };
    Ok((era, bytes.len()))
}

pub(super) fn fold(eras: &mut Vec<EraAt>, entry: &Entry) {
    if entry.kind == Kind::Rewind {
        entry.spans.iter().for_each(|span| take_back(eras, span));
    } else if let Some(era) = eras.last_mut() {
        for span in &entry.spans {
            let range = era.ranges.entry(span.chain.clone());
            range.or_insert((span.from, span.to)).1 = span.to;
        }
    }
    if entry.swap.is_some() {
        if let Some(before) = eras.last_mut() {
            before.until = Some(entry.version);
        }
        eras.push(EraAt::of(entry.version));
    }
}

/// Offsets from the span's target on belong to no era any more.
fn take_back(eras: &mut [EraAt], span: &Span) {
    for era in eras {
        if let Some((from, to)) = era.ranges.get_mut(&span.chain) {
            *to = span.to.min(*to);
            if *from >= *to {
                era.ranges.remove(&span.chain);
            }
        }
    }
}
