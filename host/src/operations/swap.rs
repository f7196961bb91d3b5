//! New rules for a pipeline: finds out what changes, checks that it works, and puts it in force.
//!
//! ```text
//! SwapPlanner ─ swap, rollback ─→ SwapPlan ─┬─ preview()      → Swapped{state: dry_run}
//!                                           └─ execute(wait) → Swapped{state: in_force}, by the running process or written here
//! ```
//! Changed plugins are found, compiled and started with the pipeline's keys and columns before anything is requested or
//! written.

use std::sync::Arc;
use std::time::Duration;

use arrow_schema::{Schema, SchemaRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::diff::{self, RuleDiff};
use super::trial::{self, Trial};
use super::{Columns, Refused, Why, short};
use crate::clock::Clock;
use crate::commit::{self, Draft, Log, LogName, Outcome, Rule, Swap, Writer, rules_digest};
use crate::config::{self, PipelineConfig, Source, TransformConfig};
use crate::error::{Error, Kind, Result};
use crate::pipeline::rules::pending::{Answer, Id, Pending};
use crate::pipeline::rules::{
    Parts, blocked, columns_promised, columns_read, completed, is_known, part_of,
};
use crate::pipeline::{Changed, RuleChanges};
use crate::plugin::Plugins;
use crate::store::{self, Store};

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How to allow columns that go or change their type, for messages.
const WAY: &str = "--allow-breaking (allow_breaking over HTTP), where the readers know";
const OP: &str = "pipeline.swap";

/// The rules that shall be in force.
#[derive(Clone, Debug, Default)]
pub struct SwapTarget {
    /// Transform → `plugin[@version|@sha256:…]`, with the keys that the config has for the transform.
    pub transforms: Vec<(String, String)>,
    /// All rules that the config declares now.
    pub reload: bool,
    /// Also where columns go or change their type.
    pub allow_breaking: bool,
    /// Also what a rollback blocked.
    pub force: bool,
    pub reason: String,
}

/// What changes, and whether it is in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Swap")]
pub struct Swapped {
    /// `_system/<pipeline>/<zone>`
    pub log: String,
    pub state: SwapState,
    /// The version of the entry after which the new rules hold.
    pub version: Option<u64>,
    /// True: a running process did it. False: the entry was written for the next one.
    pub by_process: bool,
    /// Generation of the rules that are replaced.
    pub replaces: u64,
    pub transforms_before: Vec<Rule>,
    pub transforms: Vec<Rule>,
    /// Digests that this blocks.
    pub block: Vec<String>,
    pub columns: Columns,
    /// Keys and files of rules that differ, line by line. `None`: the config in force is not in the plugin store.
    #[serde(default)]
    pub diff: Option<Vec<RuleDiff>>,
    /// What these rules would do to records that are committed; if somebody asked.
    #[serde(default)]
    pub trial: Option<Trial>,
    /// Hints, if the config declares other rules than those that will be in force.
    pub hints: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum SwapState {
    /// Nothing was written.
    DryRun,
    /// These rules were in force before.
    Already,
    InForce,
}

/// A pipeline, its log, what its config declares, and who asks.
#[derive(Debug)]
pub struct SwapPlanner {
    config: PipelineConfig,
    plugins: Plugins,
    declared: Parts,
    store: Arc<dyn Store>,
    log: Log,
    clock: Arc<dyn Clock>,
    actor: String,
    /// The columns that the rules begin with. `None`: the zone that is read has no rows yet, so rules are not built.
    read: Option<SchemaRef>,
    /// The run of the pipeline in this process, if there is one.
    running: Option<RuleChanges>,
}

/// Checked, and ready to be put in force.
#[derive(Debug)]
pub struct SwapPlan {
    planner: SwapPlanner,
    /// `None`: the store has lost the rules in force.
    old: Option<Parts>,
    parts: Parts,
    swap: Swap,
    columns: Columns,
}

impl SwapPlanner {
    /// `actor` is written into the log.
    pub fn open(
        config: PipelineConfig,
        plugins: Plugins,
        clock: &Arc<dyn Clock>,
        actor: &str,
    ) -> Result<SwapPlanner, Refused> {
        let config = completed(&config)?.into_owned();
        let declared =
            Parts::declared(&plugins, &config).map_err(|problems| config::refused(&problems))?;
        let none = || {
            let error = usage(format!("pipeline `{}` has no log yet", config.name))
                .hint("its first `weir run` begins with the rules of the config");
            Refused::new(Why::Conflict, error)
        };
        let store = store::open_existing(&config.home.at)?.ok_or_else(none)?;
        let name = LogName::new(&config.name, &config.home.zone);
        let writer = Writer::this_process(&**clock);
        let log = Log::open(store.clone(), name, clock.clone(), writer)?.ok_or_else(none)?;
        let read = columns_read(&config, clock)?;
        Ok(SwapPlanner {
            read: read.or_else(|| columns_promised(&config, &plugins, clock)),
            config,
            plugins,
            declared,
            store,
            log,
            clock: clock.clone(),
            actor: actor.to_owned(),
            running: None,
        })
    }

    /// This process runs the pipeline: requests go to it directly and not through files.
    #[must_use]
    pub fn running(self, running: Option<RuleChanges>) -> SwapPlanner {
        SwapPlanner { running, ..self }
    }

    pub fn swap(self, wanted: &SwapTarget) -> Result<SwapPlan, Refused> {
        if wanted.transforms.is_empty() && !wanted.reload {
            return Err(nothing_named().into());
        }
        if wanted.reload && !is_known(&self.config) {
            let error = usage("the rules of this config follow from its first records, which nobody has looked at yet")
                .hint("start the pipeline: it puts them in force; where columns go, this command can allow it then");
            return Err(Refused::new(Why::Conflict, error));
        }
        let mut parts = match wanted.reload {
            true => self.declared.clone(),
            false => self.current()?,
        };
        for (transform, plugin) in &wanted.transforms {
            let part = part_of(&self.plugins, &self.config, &self.named(transform, plugin)?);
            let part = part.map_err(|problems| config::refused(&problems))?;
            let name = part.transform.clone();
            parts.replace(part).ok_or_else(|| {
                usage(format!("the rules in force have no transform `{name}`"))
                    .hint("--reload takes all transforms from the config")
            })?;
        }
        let planned = self.plan(parts, &wanted.reason, Vec::new(), wanted.force)?;
        if blocked(planned.planner.log.state(), &planned.swap.transforms) && !wanted.force {
            let error = usage("a rollback blocked one of these rules").hint(
                "`weir pipeline history` says which and why; --force puts it in force all the same",
            );
            return Err(Refused::new(Why::Conflict, error));
        }
        let state = planned.planner.log.state();
        let admitted = planned.columns.admit(state, wanted.allow_breaking, WAY);
        match admitted {
            Ok(()) => Ok(planned),
            Err(error) => Err(planned.refused(Why::Wrong, error)),
        }
    }

    /// Of the rules in force.
    pub fn generation(&self) -> u64 {
        self.log.state().generation()
    }

    /// Whether a start would put no other rules in force.
    pub fn declares_what_is_in_force(&self) -> bool {
        self.declared.rules() == self.log.state().rules.transforms
    }

    /// Whether readers would accept the config's rules if they were put in force now; the error says why not. Rules that follow from the
    /// first records are compared when these are there.
    pub fn declared_columns(&self, way: &str) -> Result<()> {
        if !is_known(&self.config) {
            return Ok(());
        }
        let Some(read) = &self.read else {
            return Ok(());
        };
        let new = self.declared.columns_on(&self.config, read)?;
        let state = self.log.state();
        self.between(read, &new).admit(state, false, way)
    }

    /// Compares the columns in force with these. If the store has lost the rules in force, going back to the config
    /// must still be possible.
    fn between(&self, read: &SchemaRef, new: &Schema) -> Columns {
        let old = self.current();
        match old.and_then(|parts| parts.columns_on(&self.config, read)) {
            Ok(old) => Columns::between(&old, new),
            Err(error) => Columns::unknown(error.to_string()),
        }
    }

    /// Goes back to the rules of generation `to`, or to the newest ones before those in force that are not blocked. The
    /// table had these columns before, so nothing is refused because of readers; the changes are only shown.
    pub fn rollback(self, to: Option<u64>, reason: &str) -> Result<SwapPlan, Refused> {
        let state = self.log.state();
        let periods = &state.periods;
        let now = &state.rules.transforms;
        let target = match to {
            Some(wanted) => periods
                .iter()
                .find(|period| period.generation == wanted)
                .ok_or_else(|| {
                    usage(format!("no generation {wanted} in this log"))
                        .hint("`weir pipeline history` lists them")
                })?,
            None => {
                let other = |period: &&commit::RulesPeriod| {
                    period.transforms != *now && !blocked(state, &period.transforms)
                };
                periods.iter().rev().find(other).ok_or_else(|| {
                    let error = usage("there is nothing to roll back to: no other rules were in force before, or they are forgotten (commit.log.retention), or all of them are blocked")
                        .hint("`weir pipeline history` lists them; --to GENERATION names one");
                    Refused::new(Why::Conflict, error)
                })?
            }
        };
        if target.transforms == *now {
            let message = format!(
                "the rules of generation {} are those in force",
                target.generation
            );
            return Err(Refused::new(Why::Conflict, usage(message)));
        }
        if blocked(state, &target.transforms) {
            let error = usage(format!(
                "the rules of generation {} are blocked",
                target.generation
            ))
            .hint("`weir pipeline swap --force` puts blocked rules in force");
            return Err(Refused::new(Why::Conflict, error));
        }
        let parts = Parts::in_force(&self.plugins, &target.transforms)?;
        let block = to_block(now, &target.transforms);
        self.plan(parts, reason, block, false)
    }

    /// The rules in force: from the plugin store, or from the config if it declares the same.
    fn current(&self) -> Result<Parts> {
        let rules = &self.log.state().rules.transforms;
        match self.declared.rules() == *rules {
            true => Ok(self.declared.clone()),
            false => Parts::in_force(&self.plugins, rules),
        }
    }

    /// A plugin with the transform's keys from the config.
    fn named(&self, transform: &str, plugin: &str) -> Result<TransformConfig> {
        let mut all = self.config.transforms.iter();
        let found = all.find(|t| t.name == transform.trim()).ok_or_else(|| {
            let transforms = self.config.transforms.iter();
            let names: Vec<&str> = transforms.map(|t| t.name.as_str()).collect();
            usage(format!("the config has no transform `{transform}`"))
                .hint(format!("it has: {}", names.join(", ")))
        })?;
        let plugin = config::plugin_ref(plugin)
            .map_err(|r| malformed(&format!("{transform}={plugin}"), &r.expected))?;
        Ok(TransformConfig {
            plugin,
            ..found.clone()
        })
    }

    /// Checks that everything starts with the columns that it will see.
    fn plan(
        self,
        parts: Parts,
        reason: &str,
        block: Vec<String>,
        force: bool,
    ) -> Result<SwapPlan, Refused> {
        let columns = match &self.read {
            Some(read) if parts.is_empty() => self.between(read, read),
            Some(read) => {
                let chain = parts.chain_on(&self.config, read)?;
                self.between(read, &chain.output_schema())
            }
            None => Columns::unknown("the zone that is read has no rows yet".to_owned()),
        };
        Ok(SwapPlan {
            columns,
            old: self.current().ok(),
            swap: Swap {
                replaces: self.log.state().generation(),
                transforms: parts.rules(),
                actor: self.actor.clone(),
                reason: reason.to_owned(),
                block,
                force,
                declared: Some(rules_digest(&self.declared.rules())),
            },
            parts,
            planner: self,
        })
    }

    /// A running process changes to the new rules itself; if none answers, the entry is written here. Batches of a zone take their
    /// rules from the log, each when it is planned.
    fn ask(&mut self, swap: &Swap, wait: Duration) -> Result<Done, Refused> {
        if let Source::Zone(_) = self.config.source {
            return self.write(swap);
        }
        let answer = match &self.running {
            Some(running) => match running.put_swap(swap, wait) {
                Some(Changed::InForce(version)) => Some(Answer::InForce(version)),
                Some(Changed::Refused(why)) => Some(Answer::Refused(why)),
                Some(Changed::Same) | None => None,
            },
            None => self.ask_others(swap, wait)?,
        };
        match answer {
            Some(Answer::InForce(version)) => Ok(Done::Process(version)),
            Some(Answer::Refused(why)) => {
                let message = format!("the running process refuses it: {why}");
                let error = Error::new(Kind::ConfigInvalid, OP, message)
                    .hint("nothing was written; the rules in force stay");
                Err(Refused::new(Why::Conflict, error))
            }
            None => self.write(swap),
        }
    }

    /// Another process may run the pipeline: asks it by a file beside the log. `None`: none does.
    fn ask_others(&self, swap: &Swap, wait: Duration) -> Result<Option<Answer>> {
        let pending = Pending::new(self.store.clone(), self.log.name());
        let id = pending.ask(swap)?;
        let answer = self.answered(&pending, &id, wait);
        // If it is left over, the next start removes it; an answer of the process that took it is then ignored.
        let forgotten = pending.forget(&id);
        let answer = answer?;
        if answer.is_none() {
            forgotten?;
        }
        Ok(answer)
    }

    /// `None`: nobody took it, or the process that did gave it back or was silent for too long.
    fn answered(&self, pending: &Pending, id: &Id, wait: Duration) -> Result<Option<Answer>> {
        let begun = self.clock.elapsed();
        let waited = || self.clock.elapsed().saturating_sub(begun);
        while !pending.is_taken(id)? {
            if waited() >= pending.taken_within() {
                if pending.take(id, &Writer::this_process(&*self.clock).id)? {
                    return Ok(None);
                }
                break;
            }
            self.clock.sleep(LOOK_EVERY);
        }
        loop {
            if let Some(answer) = pending.answer(id)? {
                return Ok(Some(answer));
            }
            if waited() >= wait || !pending.is_taken(id)? {
                return Ok(None);
            }
            self.clock.sleep(LOOK_EVERY);
        }
    }

    /// The entry is the atomic point, whichever process writes it: because of `replaces` it gets into the log only
    /// once.
    fn write(&mut self, swap: &Swap) -> Result<Done, Refused> {
        match self.log.commit(Draft::Swap(swap.clone()))? {
            Outcome::Committed { committed, .. } => Ok(Done::Here(committed.version)),
            Outcome::Lost { dropped } => {
                self.log.refresh()?;
                let state = self.log.state();
                if state.rules.transforms == swap.transforms {
                    return Ok(Done::Process(state.generation())); // it was only late
                }
                let why = dropped
                    .first()
                    .map_or_else(String::new, |d| d.reason.to_string());
                let message = "somebody else changed the rules meanwhile";
                Err(Error::new(Kind::Conflict, OP, message)
                    .with("why", why)
                    .hint("`weir pipeline history` shows them; ask again if you still want this")
                    .into())
            }
        }
    }

    /// If the config declares other rules than those that will be in force: what to write there.
    fn config_says(&self, rules: &[Rule]) -> Vec<String> {
        let declared = self.declared.rules();
        let other = rules.iter().filter(|rule| !declared.contains(rule));
        let mut lines: Vec<String> = other
            .map(|rule| {
                let key = format!("transforms.{}.type", rule.transform);
                let place = self.config.place(&key);
                match declared.iter().find(|d| d.transform == rule.transform) {
                    Some(d) if d.component == rule.component => format!(
                        "{place}: the keys or files of `{}` come to config {} there, {} is in force",
                        rule.transform, short(&d.config), short(&rule.config)
                    ),
                    _ => format!(
                        "{place}: to say what is in force, write {key} = \"{}@{}\"",
                        rule.plugin, rule.component
                    ),
                }
            })
            .collect();
        if !lines.is_empty() {
            lines.push("the log wins over restarts until the config is edited".to_owned());
        }
        lines
    }
}

/// Who put it in force.
enum Done {
    Process(u64),
    Here(u64),
}

impl SwapPlan {
    /// What would change.
    pub fn preview(&self) -> Swapped {
        let old = self.old.as_ref();
        Swapped {
            diff: old.map(|old| diff::between(old, &self.parts)),
            ..self.swapped(SwapState::DryRun, None)
        }
    }

    /// The same, with what the rules would do to the newest `records` that are committed.
    pub fn tried(&self, records: u64, go_on: &dyn Fn() -> Result<()>) -> Result<Swapped, Refused> {
        let old = self.old.as_ref().ok_or_else(|| {
            let message =
                "the rules in force are not in the plugin store, so nothing can be compared";
            Error::new(Kind::ConfigInvalid, OP, message).hint("restore plugin.store")
        })?;
        let scene = trial::Scene {
            config: &self.planner.config,
            state: self.planner.log.state(),
            old,
            new: &self.parts,
            clock: &self.planner.clock,
        };
        let trial = trial::run(&scene, records, go_on)?;
        Ok(Swapped {
            trial: Some(trial),
            ..self.preview()
        })
    }

    /// Waits for a running process that took the request, at most for `wait`.
    pub fn execute(mut self, wait: Duration) -> Result<Swapped, Refused> {
        if self.swap.transforms == self.planner.log.state().rules.transforms {
            return Ok(self.swapped(SwapState::Already, None));
        }
        let swapped = self.swapped(SwapState::InForce, None);
        self.parts.keep(&self.planner.plugins)?;
        let done = self
            .planner
            .ask(&self.swap, wait)
            .map_err(|refused| Refused {
                change: Some(Box::new(self.preview())),
                ..refused
            })?;
        let (version, by_process) = match done {
            Done::Process(version) => (version, true),
            Done::Here(version) => (version, false),
        };
        Ok(Swapped {
            version: Some(version),
            by_process,
            ..swapped
        })
    }

    fn refused(&self, why: Why, error: Error) -> Refused {
        Refused {
            why,
            error: Box::new(error),
            change: Some(Box::new(self.preview())),
        }
    }

    fn swapped(&self, state: SwapState, version: Option<u64>) -> Swapped {
        Swapped {
            log: self.planner.log.name().dir(),
            state,
            version,
            by_process: false,
            replaces: self.swap.replaces,
            transforms_before: self.planner.log.state().rules.transforms.clone(),
            transforms: self.swap.transforms.clone(),
            block: self.swap.block.clone(),
            columns: self.columns.clone(),
            diff: None,
            trial: None,
            hints: self.planner.config_says(&self.swap.transforms),
        }
    }
}

/// For each transform that changes: its component, or its config if the component stays the same. Nothing that the
/// target contains.
fn to_block(now: &[Rule], target: &[Rule]) -> Vec<String> {
    let wanted = |digest: &str| {
        target
            .iter()
            .any(|r| r.component == digest || r.config == digest)
    };
    let changed = now.iter().filter(|rule| !target.contains(rule));
    let differs = changed.filter_map(|rule| {
        let digests = [&rule.component, &rule.config];
        digests.into_iter().find(|digest| !wanted(digest))
    });
    differs.cloned().collect()
}

/// `TRANSFORM=PLUGIN[@VERSION|@sha256:…]`
pub fn rule(text: &str) -> Result<(String, String)> {
    let (transform, plugin) = text
        .split_once('=')
        .ok_or_else(|| malformed(text, "no `=`"))?;
    Ok((transform.trim().to_owned(), plugin.to_owned()))
}

fn malformed(text: &str, expected: &str) -> Error {
    usage(format!(
        "`{text}`: expected TRANSFORM=PLUGIN[@VERSION]; {expected}"
    ))
}

/// The error of a swap that names nothing to swap.
pub fn nothing_named() -> Error {
    usage("nothing to swap is named")
        .hint("TRANSFORM=PLUGIN@VERSION, or --reload for all that the config declares now")
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(Kind::ConfigInvalid, OP, message)
}
