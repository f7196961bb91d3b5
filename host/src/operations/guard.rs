//! `errors.max.*`: what happens when more records are refused than somebody thought possible.
//!
//! [`Guard`] counts what commits say and decides; it does no I/O and has no clock of its own. What it decides is done
//! by somebody else, on a thread of its own, so that a commit never waits for it.
//!
//! ```text
//!  a commit → within the limits │ above them ── warn ──────→ said once, until it is within them again
//!                               │              pause ─────→ the pipeline is paused
//!                               └              rollback ──→ the rules are young and came by a swap, not by a rollback:
//!                                                           back to those before; otherwise paused
//! ```
//! A rollback never follows a rollback: the log knows how the rules came into force, over any restart. Only what the rules in
//! force refuse counts: the entry of a swap has rows of the rules before it, and says nothing of those that it puts in force.
//! After a pause or a rollback was decided, nothing more is decided about these rules.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::swap::SwapPlanner;
use crate::clock::Clock;
use crate::commit::{Log, LogName, RulesPeriod, State, Writer};
use crate::config::PipelineConfig;
use crate::config::checked::{ErrorsMax, OnTooMany};
use crate::error::Result;
use crate::pipeline::RuleChanges;
use crate::plugin::Plugins;
use crate::store;
use crate::telemetry::{count, time};

/// Who a swap or a pause of the guard is by: in the log, the journal and the history.
pub const ACTOR: &str = "errors.max";

/// Parts of a window; a commit leaves the window with the part that it is in.
const PARTS: u32 = 60;

/// Counts of one part of the window.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// By the clock's elapsed time.
    begun: Duration,
    records: u64,
    refused: u64,
}

/// What is to be done, and why, in the words that log, status and history show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Warn(String),
    Pause(String),
    RollBack(String),
    /// It is within the limits again.
    Over,
}

/// One commit, as the guard sees it.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    /// Of the rules that made it.
    pub generation: u64,
    pub records: u64,
    /// Of them refused, whole or in part.
    pub refused: u64,
    /// By the clock's elapsed time.
    pub at: Duration,
    /// Wall clock, microseconds since 1970 UTC.
    pub now: i64,
}

/// What was said of the rules that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    /// A warning, and they are not within the limits again.
    Warned,
    /// A pause or a rollback: the last that is said of them.
    Acted,
}

#[derive(Debug)]
pub struct Guard {
    max: ErrorsMax,
    parts: VecDeque<Part>,
    /// The rules whose refusals are counted.
    generation: Option<u64>,
    said: Said,
    /// Something was said of rules before these, and not taken back.
    said_before: bool,
}

impl Guard {
    pub fn new(max: ErrorsMax) -> Guard {
        Guard {
            max,
            parts: VecDeque::new(),
            generation: None,
            said: Said::Nothing,
            said_before: false,
        }
    }

    /// What was decided could not be done: it is decided anew.
    pub fn again(&mut self) {
        self.said_before |= self.said != Said::Nothing;
        self.said = Said::Nothing;
    }

    /// After each commit. `state`: the log's, after it; it says which rules are in force, and how they came into force.
    pub fn committed(&mut self, settled: &Settled, state: &State) -> Option<Verdict> {
        // The last rows of rules that were replaced, or a batch that was planned under them.
        if settled.generation != state.generation() {
            return None;
        }
        let period = (state.periods.iter()).find(|period| period.generation == settled.generation);
        self.decide(settled, period)
    }

    fn decide(&mut self, settled: &Settled, period: Option<&RulesPeriod>) -> Option<Verdict> {
        if self.generation != Some(settled.generation) {
            // What other rules refused says nothing of these.
            self.generation = Some(settled.generation);
            self.parts.clear();
            self.said_before |= self.said != Said::Nothing;
            self.said = Said::Nothing;
        }
        self.add(settled);
        match (self.too_many(), self.said) {
            (_, Said::Acted) | (Some(_), Said::Warned) => None,
            (None, Said::Warned) => {
                self.said = Said::Nothing;
                Some(Verdict::Over)
            }
            // That the guard went back to the rules before is to be seen until a person changes them, or begins it again.
            (None, Said::Nothing) => {
                let by_guard = period.is_some_and(|period| period.actor == ACTOR);
                let over = self.said_before && !by_guard;
                over.then(|| self.said_before = false)
                    .map(|()| Verdict::Over)
            }
            (Some(why), Said::Nothing) => {
                self.said_before = false;
                Some(self.act(why, settled, period))
            }
        }
    }

    fn act(&mut self, why: String, settled: &Settled, period: Option<&RulesPeriod>) -> Verdict {
        self.said = match self.max.action {
            OnTooMany::Warn => Said::Warned,
            OnTooMany::Pause | OnTooMany::Rollback => Said::Acted,
        };
        match self.max.action {
            OnTooMany::Warn => Verdict::Warn(why),
            OnTooMany::Pause => Verdict::Pause(why),
            OnTooMany::Rollback => match self.stays(settled, period) {
                None => Verdict::RollBack(why),
                Some(stays) => Verdict::Pause(format!("{why}; {stays}")),
            },
        }
    }

    /// Why the rules are not taken back; `None`: they are.
    fn stays(&self, settled: &Settled, period: Option<&RulesPeriod>) -> Option<String> {
        let Some(period) = period.filter(|period| period.generation > 0) else {
            return Some("there are no rules before these to go back to".to_owned());
        };
        if period.actor == ACTOR {
            return Some(
                "these rules are what the guard went back to, so it does not go further back"
                    .to_owned(),
            );
        }
        if !period.block.is_empty() {
            return Some(
                "these rules came by a rollback, and what was before them is blocked".to_owned(),
            );
        }
        let age = u64::try_from(settled.now - period.time).unwrap_or(0);
        let age = Duration::from_micros(age);
        (age > self.max.probation).then(|| {
            format!(
                "these rules have been in force for {}, longer than errors.max.probation, so they are not what changed",
                time(age)
            )
        })
    }

    fn add(&mut self, settled: &Settled) {
        let width = self.max.window / PARTS;
        let oldest = settled.at.saturating_sub(self.max.window);
        while self.parts.front().is_some_and(|part| part.begun < oldest) {
            self.parts.pop_front();
        }
        match self.parts.back_mut() {
            Some(part) if settled.at.saturating_sub(part.begun) < width => {
                part.records += settled.records;
                part.refused += settled.refused;
            }
            _ => self.parts.push_back(Part {
                begun: settled.at,
                records: settled.records,
                refused: settled.refused,
            }),
        }
    }

    /// In words; `None`: within the limits.
    #[expect(clippy::cast_precision_loss, reason = "a share is compared and shown")]
    fn too_many(&self) -> Option<String> {
        let sums = self.parts.iter();
        let (records, refused) = sums.fold((0, 0), |(r, f), p| (r + p.records, f + p.refused));
        let share = refused as f64 / records.max(1) as f64;
        let said = |limit: String| {
            format!(
                "{} of {} records were refused within {} ({:.1} %), more than {limit} allows",
                count(refused),
                count(records),
                time(self.max.window),
                share * 100.0
            )
        };
        let over_count = self.max.count.filter(|most| refused > *most);
        let over_rate = self
            .max
            .rate
            .filter(|most| records >= self.max.min_records && share * 1e6 > f64::from(*most));
        match (over_count, over_rate) {
            (Some(most), _) => Some(said(format!("errors.max.count = {most}"))),
            (None, Some(most)) => {
                Some(said(format!("errors.max.rate = {}", f64::from(most) / 1e6)))
            }
            (None, None) => None,
        }
    }
}

/// Time for a running process to go over to the rules before.
const SWAPPED_WITHIN: Duration = Duration::from_secs(60);

/// The rules in force by the log as it is now. `None`: there is no log yet.
pub fn in_force(config: &PipelineConfig, clock: &Arc<dyn Clock>) -> Result<Option<u64>> {
    Ok(now_in_force(config, clock)?.map(|(generation, _)| generation))
}

/// With who put them in force.
fn now_in_force(config: &PipelineConfig, clock: &Arc<dyn Clock>) -> Result<Option<(u64, String)>> {
    let Some(store) = store::open_existing(&config.home.at)? else {
        return Ok(None);
    };
    let name = LogName::new(&config.name, &config.home.zone);
    let log = Log::open(store, name, clock.clone(), Writer::this_process(&**clock))?;
    Ok(log.map(|log| {
        let generation = log.state().generation();
        let mut periods = log.state().periods.iter();
        let period = periods.find(|period| period.generation == generation);
        (
            generation,
            period.map(|p| p.actor.clone()).unwrap_or_default(),
        )
    }))
}

/// Puts the newest rules before those of `generation` in force again, and blocks these. Returns the version after which they
/// hold. `None`: other rules are in force already, and nothing was done.
pub fn roll_back(
    (config, plugins): (&PipelineConfig, Plugins),
    clock: &Arc<dyn Clock>,
    running: Option<RuleChanges>,
    (generation, why): (u64, &str),
) -> Result<Option<u64>> {
    let planner = SwapPlanner::open(config.clone(), plugins, clock, ACTOR)?.running(running);
    if planner.generation() != generation {
        return Ok(None);
    }
    let done = planner
        .rollback(None, why)
        .and_then(|plan| plan.execute(SWAPPED_WITHIN));
    match done {
        Ok(swapped) => Ok(Some(swapped.version.unwrap_or(swapped.replaces))),
        // Somebody else's swap may have come between; or ours is in the log, though its end was not seen.
        Err(refused) => match now_in_force(config, clock) {
            Ok(Some((now, actor))) if now != generation => Ok((actor == ACTOR).then_some(now)),
            _ => Err(refused.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn guard(action: OnTooMany) -> Guard {
        Guard::new(ErrorsMax {
            rate: Some(50_000),
            count: None,
            window: 5 * MINUTE,
            min_records: 100,
            probation: 60 * MINUTE,
            action,
        })
    }

    fn period(generation: u64, actor: &str) -> RulesPeriod {
        RulesPeriod {
            generation,
            until: None,
            transforms: Vec::new(),
            ranges: Default::default(),
            time: 0,
            actor: actor.to_owned(),
            reason: String::new(),
            block: Vec::new(),
            force: false,
        }
    }

    /// `at`: in seconds, by both clocks.
    fn commit(
        guard: &mut Guard,
        period: &RulesPeriod,
        at: u64,
        (records, refused): (u64, u64),
    ) -> Option<Verdict> {
        let settled = Settled {
            generation: period.generation,
            records,
            refused,
            at: Duration::from_secs(at),
            now: i64::try_from(at).unwrap_or(0) * 1_000_000,
        };
        guard.decide(&settled, Some(period))
    }

    #[test]
    fn a_share_counts_from_a_number_of_records_on_and_is_said_once() {
        let (mut guard, rules) = (guard(OnTooMany::Warn), period(0, ""));
        assert_eq!(
            commit(&mut guard, &rules, 0, (99, 99)),
            None,
            "too few records to tell"
        );
        let Some(Verdict::Warn(why)) = commit(&mut guard, &rules, 1, (901, 1)) else {
            panic!("a warning");
        };
        assert_eq!(
            why,
            "100 of 1,000 records were refused within 5 min 00 s (10.0 %), more than errors.max.rate = 0.05 allows"
        );
        assert_eq!(commit(&mut guard, &rules, 2, (10, 10)), None, "said once");
        // The first ones leave the window.
        assert_eq!(
            commit(&mut guard, &rules, 302, (1000, 0)),
            Some(Verdict::Over)
        );
        assert_eq!(commit(&mut guard, &rules, 303, (1000, 0)), None);
        assert!(matches!(
            commit(&mut guard, &rules, 304, (1000, 900)),
            Some(Verdict::Warn(_))
        ));
    }

    #[test]
    fn a_count_holds_whatever_the_number_of_records() {
        let mut guard = guard(OnTooMany::Pause);
        guard.max.rate = None;
        guard.max.count = Some(3);
        let rules = period(0, "");
        assert_eq!(commit(&mut guard, &rules, 0, (3, 3)), None);
        assert!(
            matches!(commit(&mut guard, &rules, 1, (1, 1)), Some(Verdict::Pause(why)) if why.contains("errors.max.count = 3"))
        );
        assert_eq!(commit(&mut guard, &rules, 2, (1, 1)), None, "decided once");
        guard.again();
        assert!(matches!(
            commit(&mut guard, &rules, 3, (1, 1)),
            Some(Verdict::Pause(_))
        ));
        // It could not be done again, and now the rules are good: what was said is over.
        guard.again();
        assert_eq!(
            commit(&mut guard, &rules, 1000, (1, 0)),
            Some(Verdict::Over)
        );
        assert_eq!(commit(&mut guard, &rules, 1001, (1, 0)), None);
    }

    #[test]
    fn young_rules_of_a_swap_are_taken_back_once() {
        let bad = (1000, 500);
        let paused = |verdict: Option<Verdict>, says: &str| match verdict {
            Some(Verdict::Pause(why)) => assert!(why.contains(says), "{why}"),
            other => panic!("{other:?}"),
        };
        let mut one = guard(OnTooMany::Rollback);
        // What the rules before refused does not count against the new ones.
        assert!(commit(&mut one, &period(0, ""), 10, (1000, 40)).is_none());
        assert!(commit(&mut one, &period(7, "ann"), 20, (1000, 45)).is_none());
        assert!(matches!(
            commit(&mut one, &period(7, "ann"), 21, bad),
            Some(Verdict::RollBack(_))
        ));
        assert_eq!(
            commit(&mut one, &period(7, "ann"), 22, bad),
            None,
            "while it is carried out"
        );
        // It jumps again under the rules that it went back to.
        paused(
            commit(&mut one, &period(9, ACTOR), 30, bad),
            "does not go further back",
        );
        // The same after a restart: the log says who wrote the swap.
        paused(
            commit(&mut guard(OnTooMany::Rollback), &period(9, ACTOR), 40, bad),
            "does not go further back",
        );
        let mut first = guard(OnTooMany::Rollback);
        paused(
            commit(&mut first, &period(0, ""), 0, bad),
            "no rules before these",
        );
        let mut old = guard(OnTooMany::Rollback);
        paused(
            commit(&mut old, &period(7, "ann"), 3601, bad),
            "errors.max.probation",
        );
    }

    /// A log with two swaps, at versions 1 and 2.
    fn swapped_twice() -> Log {
        let clock = crate::clock::SystemClock::shared();
        let store = store::open_url("memory:guard-swapped").expect("store");
        let writer = Writer::this_process(&*clock);
        let mut log = Log::open_or_init(store, LogName::new("p", "z"), clock, writer, Vec::new())
            .expect("log");
        for replaces in 0..2 {
            let swap = crate::commit::Swap {
                replaces,
                transforms: Vec::new(),
                actor: "ann".to_owned(),
                reason: String::new(),
                block: Vec::new(),
                force: false,
                declared: None,
            };
            log.commit(crate::commit::Draft::Swap(swap)).expect("swap");
        }
        log
    }

    /// The entry of a swap has the last rows of the rules that it replaces.
    #[test]
    fn what_rules_refused_that_are_no_longer_in_force_says_nothing() {
        let log = swapped_twice();
        let settled = |generation| Settled {
            generation,
            records: 1000,
            refused: 500,
            at: Duration::ZERO,
            now: 0,
        };
        let mut one = guard(OnTooMany::Rollback);
        assert_eq!(one.committed(&settled(1), log.state()), None);
        assert!(matches!(
            one.committed(&settled(2), log.state()),
            Some(Verdict::RollBack(_))
        ));
    }

    #[test]
    fn rules_are_paused_or_taken_back_once_and_nothing_is_over_then() {
        let ann = period(7, "ann");
        let mut one = guard(OnTooMany::Rollback);
        assert_eq!(commit(&mut one, &ann, 20, (1000, 50)), None);
        // What was in flight is committed while it is carried out.
        let told = [(1000, 51), (100_000, 10), (1000, 900), (1000, 0)];
        let told: Vec<_> = told
            .into_iter()
            .filter_map(|records| commit(&mut one, &ann, 21, records))
            .collect();
        assert!(matches!(told[..], [Verdict::RollBack(_)]), "{told:?}");
        let mut one = guard(OnTooMany::Pause);
        assert!(matches!(
            commit(&mut one, &ann, 20, (1000, 500)),
            Some(Verdict::Pause(_))
        ));
        let drained = commit(&mut one, &ann, 21, (1_000_000, 0));
        assert_eq!(drained, None, "why it is paused stays to be seen");
    }

    #[test]
    fn a_warning_of_rules_ends_with_good_ones() {
        let mut one = guard(OnTooMany::Warn);
        let bad = (1000, 500);
        assert!(commit(&mut one, &period(7, "ann"), 1, bad).is_some());
        assert_eq!(
            commit(&mut one, &period(8, "ann"), 2, (10, 0)),
            Some(Verdict::Over)
        );
        assert_eq!(commit(&mut one, &period(8, "ann"), 3, (10, 0)), None);
        // Other bad rules have a warning of their own.
        assert!(matches!(
            commit(&mut one, &period(8, "ann"), 4, bad),
            Some(Verdict::Warn(_))
        ));
        assert!(matches!(
            commit(&mut one, &period(9, "ann"), 5, bad),
            Some(Verdict::Warn(_))
        ));
        // What the guard did is to be seen until a person puts others in force.
        let mut one = guard(OnTooMany::Rollback);
        assert!(commit(&mut one, &period(7, "ann"), 1, bad).is_some());
        assert_eq!(commit(&mut one, &period(8, ACTOR), 2, (1000, 0)), None);
        assert_eq!(
            commit(&mut one, &period(9, "ann"), 3, (1000, 0)),
            Some(Verdict::Over)
        );
    }

    #[test]
    fn a_persons_rollback_is_not_taken_back() {
        let mut one = guard(OnTooMany::Rollback);
        let back = RulesPeriod {
            block: vec!["sha256:aa".to_owned()],
            ..period(7, "ann")
        };
        match commit(&mut one, &back, 1, (1000, 500)) {
            Some(Verdict::Pause(why)) => assert!(why.contains("came by a rollback"), "{why}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_window_is_bounded_whatever_the_number_of_commits() {
        let (mut guard, rules) = (guard(OnTooMany::Warn), period(0, ""));
        for at in 0..3600 {
            commit(&mut guard, &rules, at, (1000, 10));
        }
        assert!(guard.parts.len() <= 61, "{}", guard.parts.len());
        let records: u64 = guard.parts.iter().map(|p| p.records).sum();
        assert!((295_000..=305_000).contains(&records), "{records}");
    }
}
