//! `weir pipeline swap` and `rollback`: show what changes, check that it works, request it, and wait until it is in
//! force.

use std::time::Duration;

use clap::Args;

use serde_json::{Value, json};

use super::super::remote::read;
use super::super::{Exit, say, say_json, table};
use super::Which;
use crate::clock::SystemClock;
use crate::commit::{self, Rule};
use crate::config;
use crate::error::Result;
use crate::http::client::{Carries, Client, segment};
use crate::operations::diff::{Line, RuleDiff};
use crate::operations::swap::{self, SwapPlanner, SwapState, SwapTarget, Swapped};
use crate::operations::trial::{Outcome, RECORDS_MAX, Trial};
use crate::operations::{Change, Columns, Effect, Refused, short};
use crate::plugin::{Places, Plugins};
use crate::telemetry::{count, plural};

/// Put other rules in force: another plugin of a transform, or what the config says now.
///
/// Changed plugins are checked first (found, compiled, started with the pipeline's keys and columns), and the changes
/// are shown. A running `weir run` takes the new rules without stopping; if none runs, the next one begins with them.
/// Committed rows do not change.
#[derive(Debug, Args)]
pub(super) struct SwapArgs {
    #[command(flatten)]
    which: Which,
    /// What a transform runs from now on, with its keys as the config has them
    #[arg(value_name = "TRANSFORM=PLUGIN[@VERSION|@sha256:…]")]
    rules: Vec<String>,
    /// All rules as the config declares them now: edited keys, rule files, tables, plugins
    #[arg(long)]
    reload: bool,
    /// Even if columns go or change their type
    #[arg(long)]
    allow_breaking: bool,
    /// Even if a rollback blocked these rules
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    how: How,
}

/// Put earlier rules in force again and block those that are in force now.
///
/// It blocks what differs: the component if it changed, or else its config. That comes back only with `swap --force`.
#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    which: Which,
    /// To the rules of this generation (see `history`); default: the newest ones before those in force that are not blocked
    #[arg(long, value_name = "GENERATION")]
    to: Option<u64>,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct How {
    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = super::reason)]
    reason: String,
    /// Say what would change, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Also what these rules would do to the newest N committed records, which are read again
    #[arg(long, value_name = "N", requires = "dry_run", value_parser = clap::value_parser!(u64).range(1..=RECORDS_MAX))]
    trial: Option<u64>,
    /// How long to wait for a running process that took the request
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    wait: Duration,
}

fn duration(text: &str) -> std::result::Result<Duration, String> {
    config::duration(text).map_err(|refusal| format!("expected {}", refusal.expected))
}

pub(super) fn swap(args: &SwapArgs) -> Result<Exit> {
    let wanted = args.wanted()?;
    if let Some(client) = args.which.client()? {
        let transforms: serde_json::Map<String, Value> = (wanted.transforms.into_iter())
            .map(|(transform, plugin)| (transform, Value::from(plugin)))
            .collect();
        let asked = json!({
            "transforms": transforms, "reload": wanted.reload, "allow_breaking": wanted.allow_breaking,
            "force": wanted.force,
        });
        return ask(&client, &args.which, "swap", asked, &args.how);
    }
    let planned = planner(&args.which)?.swap(&wanted);
    finish(planned, &args.how, args.which.json)
}

impl SwapArgs {
    fn wanted(&self) -> Result<SwapTarget> {
        if self.rules.is_empty() && !self.reload {
            return Err(swap::nothing_named());
        }
        Ok(SwapTarget {
            transforms: (self.rules.iter().map(|text| swap::rule(text))).collect::<Result<_>>()?,
            reload: self.reload,
            allow_breaking: self.allow_breaking,
            force: self.force,
            reason: self.how.reason.clone(),
        })
    }
}

pub(super) fn rollback(args: &RollbackArgs) -> Result<Exit> {
    if let Some(client) = args.which.client()? {
        let asked = json!({ "to": args.to });
        return ask(&client, &args.which, "rollback", asked, &args.how);
    }
    let planned = planner(&args.which)?.rollback(args.to, &args.how.reason);
    finish(planned, &args.how, args.which.json)
}

fn planner(which: &Which) -> Result<SwapPlanner> {
    let config = super::super::place::config_of(&which.at, &which.conf, &which.overlay())?;
    let plugins = Plugins::open(Places::of(&config))?;
    Ok(SwapPlanner::open(
        config,
        plugins,
        &SystemClock::shared(),
        &commit::actor(),
    )?)
}

/// The same with a daemon: the changes are shown together with the result.
fn ask(client: &Client, which: &Which, verb: &str, mut asked: Value, how: &How) -> Result<Exit> {
    asked["reason"] = json!(how.reason);
    asked["dry_run"] = json!(how.dry_run);
    asked["trial"] = json!(how.trial);
    asked["wait_ms"] = json!(u64::try_from(how.wait.as_millis()).unwrap_or(u64::MAX));
    let path = format!("/pipelines/{}/{verb}", segment(&which.at));
    let done: Swapped = match client.post(&path, &Carries::Json(asked)) {
        Ok(answer) => read(answer)?,
        Err(denied) => {
            let change = denied.details.get("swap").cloned();
            let change = change.and_then(|c| serde_json::from_value::<Swapped>(c).ok());
            show_breaking(change.as_ref(), which.json);
            return Err(denied.error);
        }
    };
    if which.json {
        say_json(&done)?;
    } else {
        show(&done);
        done.trial.iter().for_each(show_trial);
        tell(&done);
    }
    Ok(Exit::Ok)
}

/// Shows what changes before it waits for anybody.
fn finish(planned: Result<swap::SwapPlan, Refused>, how: &How, json: bool) -> Result<Exit> {
    let planned = match planned {
        Ok(planned) => planned,
        Err(refused) => return Err(refusal(refused, json)),
    };
    let preview = planned.preview();
    if !json {
        show(&preview);
    }
    let done = match (how.dry_run, how.trial) {
        (true, Some(records)) => planned.tried(records, &|| Ok(()))?,
        (true, None) => preview,
        (false, _) => planned.execute(how.wait)?,
    };
    match json {
        true => say_json(&done)?,
        false => {
            done.trial.iter().for_each(show_trial);
            tell(&done);
        }
    }
    Ok(Exit::Ok)
}

fn refusal(refused: Refused, json: bool) -> crate::error::Error {
    show_breaking(refused.change.as_deref(), json);
    *refused.error
}

/// Whether breaking columns are the reason of a refusal.
fn show_breaking(change: Option<&Swapped>, json: bool) {
    if let Some(change) = change
        && change.columns.effect == Effect::Breaking
        && !json
    {
        show(change);
    }
}

fn show(change: &Swapped) {
    say(format!(
        "{}: rules of generation {} are in force",
        change.log.trim_start_matches("_system/"),
        change.replaces
    ));
    let mut rows = vec![
        ["TRANSFORM", "IN FORCE", "BECOMES", "CONFIG"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let build = |r: &Rule| format!("{}@{} {}", r.plugin, r.version, short(&r.component));
    let config = |r: Option<&Rule>| r.map_or_else(|| "-".to_owned(), |r| short(&r.config));
    let now = &change.transforms_before;
    let gone = now
        .iter()
        .filter(|r| !has(&change.transforms, &r.transform));
    let pairs = change.transforms.iter().map(|new| {
        let old = now.iter().find(|r| r.transform == new.transform);
        (old, Some(new))
    });
    for (old, new) in pairs.chain(gone.map(|old| (Some(old), None))) {
        let built = |r: Option<&Rule>| r.map_or_else(|| "-".to_owned(), build);
        let same = |yes: bool, text: String| if yes { "same".to_owned() } else { text };
        let name = old.or(new).map_or("", |r| &r.transform);
        let configs = (config(old), config(new));
        rows.push(vec![
            name.to_owned(),
            built(old),
            same(built(old) == built(new), built(new)),
            same(
                configs.0 == configs.1,
                format!("{} -> {}", configs.0, configs.1),
            ),
        ]);
    }
    table(&rows);
    change.diff.iter().flatten().for_each(show_diff);
    show_columns(&change.columns);
    for digest in &change.block {
        say(format!("blocks {digest}"));
    }
}

/// Keys, then files as `diff` shows them.
fn show_diff(diff: &RuleDiff) {
    let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
    for key in &diff.keys {
        say(format!(
            "{}.{}: {} -> {}",
            diff.transform,
            key.key,
            or_none(&key.before),
            or_none(&key.after)
        ));
    }
    for file in &diff.files {
        say(format!(
            "{}.{}: {} removed, {} added",
            diff.transform,
            file.key,
            plural(file.removed, "line"),
            plural(file.added, "line")
        ));
        for line in &file.lines {
            let sign = match line.what {
                Line::Same => ' ',
                Line::Removed => '-',
                Line::Added => '+',
            };
            say(format!("  {sign}{:>4}  {}", line.number, line.text));
        }
        if file.more {
            say("  … and more");
        }
        if let Some(note) = &file.note {
            say(format!("  {note}"));
        }
    }
}

fn show_trial(trial: &Trial) {
    say(format!(
        "trial: of {}, {} the same, {} changed, {} newly refused, {} newly accepted",
        plural(trial.records, "committed record"),
        count(trial.same),
        count(trial.changed),
        count(trial.newly_refused),
        count(trial.newly_accepted)
    ));
    if !trial.complete {
        say("  the time was over before all of them were looked at");
    }
    for (transform, codes) in &trial.refusals {
        for (code, n) in codes {
            say(format!(
                "  {transform} would refuse {} as {code}",
                count(*n)
            ));
        }
    }
    for example in &trial.examples {
        let outcome = match example.outcome {
            Outcome::Changed => "changed",
            Outcome::NewlyRefused => "newly refused",
            Outcome::NewlyAccepted => "newly accepted",
        };
        say(format!(
            "{outcome}  {}/{}@{}",
            example.topic, example.partition, example.offset
        ));
        say(format!("  record  {}", example.record));
        for (what, made) in [("before", &example.before), ("after ", &example.after)] {
            for line in made.rows.iter().chain(&made.refusals) {
                say(format!("  {what}  {line}"));
            }
            if made.rows.is_empty() && made.refusals.is_empty() {
                say(format!("  {what}  filtered"));
            }
        }
    }
}

fn tell(done: &Swapped) {
    let version = done.version.unwrap_or(done.replaces);
    match (done.state, done.by_process) {
        (SwapState::DryRun, _) => say("dry run: nothing was written"),
        (SwapState::Already, _) => say("these rules are in force already"),
        (SwapState::InForce, true) => {
            say(format!(
                "in force after version {version}, in the running process"
            ));
        }
        (SwapState::InForce, false) => say(format!(
            "in force after version {version}; no running process answered, so a `weir run` that comes or goes on takes it from the log"
        )),
    }
    for line in &done.hints {
        say(format!("hint: {line}"));
    }
}

fn show_columns(columns: &Columns) {
    if let Some(why) = &columns.why {
        return say(format!("columns: those in force are not known: {why}"));
    }
    say(format!("columns: {}", columns.effect.word()));
    let or_none = |text: &str| match text {
        "" => "-".to_owned(),
        text => text.to_owned(),
    };
    let line = |c: &Change| {
        let effect = c.effect.word().to_owned();
        vec![
            format!("  {}", c.column),
            or_none(&c.from),
            "->".to_owned(),
            or_none(&c.to),
            effect,
        ]
    };
    let changes = columns.changes.iter().flatten();
    table(&changes.map(line).collect::<Vec<_>>());
}

fn has(rules: &[Rule], transform: &str) -> bool {
    rules.iter().any(|r| r.transform == transform)
}
