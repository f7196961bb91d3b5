//! The horizon: what a log forgets, and when (docs/protocol.md §9, V13).
//!
//! Forgetting is an entry, so each reader of the log, each checkpoint and each offline check forgets the same things at
//! the same version: an entry is valid for all of them or for none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::rules::{moved, wrong};
use super::state::{CommitBoundary, SplitState, State, Violation};
use super::write::Limits;
use crate::record::SplitId;

/// The time of one version in so many is kept: a week of one commit a minute has some 2,500 of them.
const AGE_EVERY: u64 = 4;

/// Commit boundaries (and deliveries, cuts, removed files) that are kept for rewinds at most, unless a reader needs more, or they
/// are younger than [`Limits::late`]: some 30 MB of memory. 24 partitions that commit once a minute have as many in a week.
const BOUNDARIES_MAX: usize = 250_000;

/// Behind the horizon one boundary per so many rows of a split stays, so that a reader that begins later can still take
/// the zone in parts.
const ROWS_BETWEEN_BOUNDARIES: u64 = 100_000;

/// When a version was written, microseconds since 1970 UTC, by its writer's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, i64)", into = "(u64, i64)")]
pub struct Age {
    version: u64,
    time: i64,
}

impl From<(u64, i64)> for Age {
    fn from((version, time): (u64, i64)) -> Age {
        Age { version, time }
    }
}

impl From<Age> for (u64, i64) {
    fn from(Age { version, time }: Age) -> (u64, i64) {
        (version, time)
    }
}

impl Age {
    pub(super) fn point(self) -> (u64, i64) {
        (self.version, self.time)
    }

    pub(super) fn of(entry: &Entry) -> Age {
        Age {
            version: entry.version,
            time: entry.time,
        }
    }
}

impl SplitState {
    /// The lowest commit boundary that a rewind may go back to.
    pub fn lowest(&self, horizon: u64) -> i64 {
        self.border_at(horizon).map_or(self.start, |b| b.to)
    }

    /// V13: the horizon must lie below this version, or somebody who stands at this position could not go on from there.
    fn needed_by(&self, position: i64) -> Option<u64> {
        let above = self.borders.partition_point(|b| b.to <= position);
        self.borders.get(above).map(|b| b.version)
    }

    /// Keeps the newest boundary at or below the horizon, those above, those at which a reader may be set back, and one per
    /// [`ROWS_BETWEEN_BOUNDARIES`].
    fn forget(&mut self, horizon: u64, cuts: &BTreeSet<i64>) {
        let above = self.borders.partition_point(|b| b.version <= horizon);
        let mut kept: Vec<CommitBoundary> = Vec::new();
        let mut rows = 0;
        for (index, border) in self.borders.iter().enumerate() {
            let written = border.totals.rows.written;
            let far = written.saturating_sub(rows) >= ROWS_BETWEEN_BOUNDARIES;
            if index + 1 >= above || far || cuts.contains(&border.to) {
                rows = written;
                kept.push(*border);
            }
        }
        self.borders = kept;
    }
}

impl State {
    pub(super) fn fold_age(&mut self, entry: &Entry) {
        if entry.version.is_multiple_of(AGE_EVERY) {
            self.ages.push(Age::of(entry));
        }
    }

    pub(super) fn forget(&mut self, horizon: u64) {
        self.horizon = horizon;
        self.removed.retain(|_, removed| removed.version > horizon);
        self.collected.retain(|_, version| *version > horizon);
        self.delivered.retain(|_, by| by.version > horizon);
        for cuts in self.cuts.values_mut() {
            let above = cuts.partition_point(|cut| cut.version <= horizon);
            cuts.drain(..above.saturating_sub(1));
        }
        let mut at: BTreeMap<&SplitId, BTreeSet<i64>> = BTreeMap::new();
        for (split, position) in self.cuts.values().flatten().flat_map(|cut| &cut.position) {
            at.entry(split).or_default().insert(*position);
        }
        let none = BTreeSet::new();
        for (id, split) in &mut self.splits {
            split.forget(horizon, at.get(id).unwrap_or(&none));
        }
        // The newest of those that ended stays: a bad change may be found late.
        let ended = |until: Option<u64>| until.is_some_and(|until| until <= horizon);
        let old = self.periods.iter().take_while(|period| ended(period.until));
        let old = old.count();
        self.periods.drain(..old.saturating_sub(1));
        let above = self.ages.partition_point(|age| age.version <= horizon);
        self.ages.drain(..above.saturating_sub(1));
    }

    /// The same for positions that this log may have to go back to. Splits that are not named go back to their start.
    fn needed_for(&self, position: &BTreeMap<SplitId, i64>) -> Option<u64> {
        let of = |(id, split): (&SplitId, &SplitState)| {
            split.needed_by(position.get(id).copied().unwrap_or(split.start))
        };
        self.splits.iter().filter_map(of).min()
    }

    /// V13.
    pub(super) fn check_horizon(&self, horizon: u64) -> Result<(), Violation> {
        if horizon > self.version {
            let message = format!(
                "horizon {horizon} is above the version before, {}",
                self.version
            );
            return Err(wrong("V13", message));
        }
        if horizon <= self.horizon {
            let message = format!(
                "the horizon is at {} already, found {horizon}",
                self.horizon
            );
            return Err(moved("V13", message));
        }
        for (name, reader) in &self.readers {
            if let Some(least) = self
                .needed_from(&reader.position)
                .filter(|least| *least <= horizon)
            {
                let message =
                    format!("reader {name} needs version {least}, the horizon would be {horizon}");
                return Err(moved("V13", message));
            }
        }
        Ok(())
    }

    /// The lowest version with something above these positions. Splits that are not named need none: whoever comes to
    /// them later begins at their start, which stays.
    pub(super) fn needed_from(&self, position: &BTreeMap<SplitId, i64>) -> Option<u64> {
        let of = |(id, at): (&SplitId, &i64)| self.splits.get(id)?.needed_by(*at);
        position.iter().filter_map(of).min()
    }

    /// The reader that has stood still for the longest, and since when (microseconds since 1970 UTC) what it has not read is
    /// there: the log forgets nothing above that.
    pub fn slowest_reader(&self) -> Option<(&str, i64)> {
        let needs = self.readers.iter().filter_map(|(name, reader)| {
            let least = self.needed_from(&reader.position)?;
            let above = self.ages.partition_point(|age| age.version <= least);
            let age = self.ages.get(above.checked_sub(1)?)?;
            Some((name.as_str(), age.time))
        });
        needs.min_by_key(|(_, since)| *since)
    }

    /// The position that a reader of this log can be set back to at most: its oldest one that is not forgotten.
    pub fn oldest_cut(&self, reader: &str) -> Option<&BTreeMap<SplitId, i64>> {
        let cuts = self.cuts.get(reader)?;
        cuts.first().map(|cut| &cut.position)
    }

    /// The version to which the horizon may and should rise now. `held`: positions that this log must be able to go back
    /// to, because another log may ask for it. `None`: not yet.
    pub(super) fn next_horizon(
        &self,
        now: i64,
        limits: &Limits,
        held: Option<&BTreeMap<SplitId, i64>>,
    ) -> Option<u64> {
        // A clock that is ahead must not make everything old; the newest entries were written by some clock too.
        let now = now.min(self.ages.last()?.time);
        let older = |than: Duration| {
            let than = i64::try_from(than.as_micros()).unwrap_or(i64::MAX);
            let mut ages = self.ages.iter().rev();
            let old = ages.find(|age| age.time <= now.saturating_sub(than));
            old.map(|age| age.version)
        };
        let late = limits.late.min(limits.retention);
        let by_number = self.by_number().min(older(late));
        let step = match by_number {
            Some(_) => limits.horizon_step.div_ceil(10),
            None => limits.horizon_step,
        };
        let wanted = older(limits.retention).max(by_number)?;
        let readers = self.readers.values();
        let readers = readers.filter_map(|reader| self.needed_from(&reader.position));
        let needed = readers.chain(held.and_then(|held| self.needed_for(held)));
        let horizon = match needed.min() {
            Some(least) => wanted.min(least.saturating_sub(1)),
            None => wanted,
        };
        (horizon >= self.horizon + step).then_some(horizon)
    }

    /// If too much is kept for rewinds (boundaries, deliveries, cuts, removed files): the version above which half of what is
    /// allowed lies.
    fn by_number(&self) -> Option<u64> {
        let above = |split: &SplitState| {
            let horizon = self.horizon;
            split.borders.partition_point(|b| b.version <= horizon)
        };
        let splits = self.splits.values();
        let borders = splits
            .clone()
            .map(|split| split.borders.len() - above(split));
        let cuts = self.cuts.values().flatten();
        let positions: usize = cuts.clone().map(|cut| cut.position.len()).sum();
        let others = self.delivered.len() + self.removed.len() + positions;
        if borders.sum::<usize>() + others <= BOUNDARIES_MAX {
            return None;
        }
        let borders = splits.flat_map(|split| split.borders.get(above(split)..));
        let mut versions: Vec<u64> = borders.flatten().map(|border| border.version).collect();
        versions.extend(self.delivered.values().map(|by| by.version));
        versions.extend(self.removed.values().map(|removed| removed.version));
        versions.extend(cuts.flat_map(|cut| cut.position.keys().map(|_| cut.version)));
        let middle = versions.len().checked_sub(BOUNDARIES_MAX / 2)?;
        let (_, version, _) = versions.select_nth_unstable(middle);
        Some(*version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Ledger;
    use crate::clock::ManualClock;
    use crate::commit::{Draft, Log, LogName, Open, Writer};

    const SECOND: i64 = 1_000_000;

    /// A log whose entries open a split each, a minute after the other.
    fn state(name: &str, entries: i32) -> State {
        let clock = ManualClock::at(0);
        let store = crate::store::open_url(&format!("memory:forget-{name}")).unwrap();
        let writer = Writer::this_process(&*clock);
        let name = LogName::new("p", "z");
        let mut log = Log::open_or_init(store, name, clock.clone(), writer, Vec::new()).unwrap();
        for partition in 0..entries {
            clock.advance(Duration::from_secs(60));
            let open = Open {
                split: SplitId::from(format!("t/{partition}")),
                topic: "t".to_owned(),
                partition,
                offset: 0,
                start: "earliest".to_owned(),
            };
            log.commit(Draft::Open(vec![open])).unwrap();
        }
        log.state().clone()
    }

    fn limits(retention: u64, step: u64) -> Limits {
        Limits {
            retention: Duration::from_secs(retention),
            late: Duration::from_secs(retention.min(60)),
            horizon_step: step,
            ..Limits::default()
        }
    }

    fn boundary(version: u64, to: i64, written: u64) -> CommitBoundary {
        let mut totals = Ledger::default();
        totals.rows.written = written;
        CommitBoundary {
            version,
            to,
            totals,
            lost: 0,
        }
    }

    #[test]
    fn the_horizon_follows_the_age_of_versions_in_steps() {
        let state = state("age", 40);
        let now = 40 * 60 * SECOND;
        let at = |retention, step| state.next_horizon(now, &limits(retention, step), None);
        assert_eq!(at(600, 4), Some(28)); // the last fourth version that is ten minutes old
        assert_eq!(at(600, 29), None);
        assert_eq!(at(3600, 4), None);
    }

    #[test]
    fn a_wrong_clock_forgets_nothing_that_is_young_and_stops_nothing() {
        let mut state = state("clock", 40);
        let now = 40 * 60 * SECOND;
        let limits = limits(600, 4);
        // Of the process that asks: a year ahead.
        let ahead = now + 365 * 24 * 3600 * SECOND;
        assert_eq!(state.next_horizon(ahead, &limits, None), Some(28));
        // Of the one that wrote some versions: they are of the year 2099.
        for age in state
            .ages
            .iter_mut()
            .filter(|age| (8..=12).contains(&age.version))
        {
            age.time = 4_070_908_800 * SECOND;
        }
        assert_eq!(state.next_horizon(now, &limits, None), Some(28));
        state.forget(28);
        assert_eq!(state.next_horizon(now, &limits, None), None);
    }

    #[test]
    fn too_many_boundaries_are_forgotten_before_they_are_old_but_not_while_they_are_young() {
        let mut state = state("many", 40);
        let now = 40 * 60 * SECOND;
        let limits = limits(3600, 30);
        assert_eq!(state.next_horizon(now, &limits, None), None);
        let split = state.splits.values_mut().next().unwrap();
        let many = (0..BOUNDARIES_MAX as u64 + 1).map(|n| boundary(2 + n / 8_000, n as i64, n));
        split.borders = many.collect();
        // Half of them lie above version 17; the third part of a step is enough.
        let found = state.next_horizon(now, &limits, None).unwrap();
        assert!((16..=18).contains(&found), "{found}");
        let young = Limits {
            late: Duration::from_secs(3600),
            ..limits
        };
        assert_eq!(state.next_horizon(now, &young, None), None);
    }

    #[test]
    fn behind_the_horizon_boundaries_are_rare_and_the_sums_stay() {
        let mut split = state("thin", 1).splits.into_values().next().unwrap();
        let each = ROWS_BETWEEN_BOUNDARIES / 10;
        split.borders = (0..100).map(|n| boundary(n, n as i64, n * each)).collect();
        split.to = 99;
        split.forget(80, &BTreeSet::from([33]));
        let kept: Vec<i64> = split.borders.iter().map(|border| border.to).collect();
        let rare = [10, 20, 30, 33, 43, 53, 63, 73, 80];
        assert_eq!(kept, rare.into_iter().chain(81..100).collect::<Vec<i64>>());
        assert_eq!(split.rows_between(0, 99), Some(99 * each));
        assert_eq!(split.rows_between(33, 80), Some(47 * each));
        assert_eq!(split.rows_between(34, 80), None);
        assert_eq!(split.lowest(80), 80);
        let again = split.clone();
        split.forget(80, &BTreeSet::from([33]));
        assert_eq!(split, again);
    }
}
