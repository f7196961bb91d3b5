//! `weir pipeline swap` and `rollback`: say what changes, see that it works, ask, and see it in force.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::super::{Exit, say, table};
use super::columns::{self, Effect};
use super::{Which, short};
use crate::clock::{Clock, SystemClock};
use crate::commit::{self, Draft, Log, LogName, Outcome, Rule, Swap, Writer, rules_digest};
use crate::config::{self, PipelineConfig, TransformConfig};
use crate::error::{Error, Kind, Result};
use crate::pipeline::pending::{Answer, Id, Pending};
use crate::pipeline::rules::{Parts, barred, part_of};
use crate::plugin::{Places, Plugins};
use crate::store::{self, Store};

/// For a running process to take a request: it looks every 200 ms.
const TAKEN_WITHIN: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const OP: &str = "pipeline.swap";

/// Put other rules in force: another plugin of a transform, or what the config says now.
///
/// What changes is checked (found, compiled, started with the pipeline's keys and columns) and shown first. A running
/// `weir run` changes over without stopping; where none runs, the next one begins with the new rules. Nothing that is
/// committed changes.
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
    /// Also where columns go or change their type
    #[arg(long)]
    allow_breaking: bool,
    /// Also what a rollback barred
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    how: How,
}

/// Put earlier rules in force again and bar those that are in force now.
///
/// Barred is what differs: the component where it changed, else its config. It comes back only with `swap --force`.
#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    which: Which,
    /// To the rules of this gen (see `history`); default: the newest ones before those in force that are not barred
    #[arg(long, value_name = "GEN")]
    to: Option<u64>,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct How {
    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Say what would change, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// How long to wait for a running process that took the request
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    wait: Duration,
}

fn duration(text: &str) -> std::result::Result<Duration, String> {
    config::duration(text).map_err(|refusal| format!("expected {}", refusal.expected))
}

pub(super) fn swap(args: &SwapArgs) -> Result<Exit> {
    if args.rules.is_empty() && !args.reload {
        return Err(usage("nothing to swap is named")
            .hint("TRANSFORM=PLUGIN@VERSION, or --reload for all that the config declares now"));
    }
    let scene = Scene::open(&args.which)?;
    let mut parts = match args.reload {
        true => scene.declared.clone(),
        false => scene.current()?,
    };
    for text in &args.rules {
        let part = part_of(&scene.plugins, &scene.config, &scene.named(text)?);
        let part = part.map_err(|problems| config::refused(&problems))?;
        let name = part.transform.clone();
        parts.replace(part).ok_or_else(|| {
            usage(format!("the rules in force have no transform `{name}`"))
                .hint("--reload takes the whole chain from the config")
        })?;
    }
    let change = scene.change(parts, &args.how, Vec::new(), args.force)?;
    if barred(scene.log.state(), &change.swap.rules) && !args.force {
        return Err(usage("a rollback barred one of these rules").hint(
            "`weir pipeline history` says which and why; --force puts it in force all the same",
        ));
    }
    if change.breaks() && !args.allow_breaking {
        if !args.which.json {
            scene.show(&change);
        }
        return Err(
            usage("columns go or change their type: whoever reads the table would see it")
                .hint("--allow-breaking, where the readers know"),
        );
    }
    scene.carry_out(&change, &args.how, args.which.json)
}

pub(super) fn rollback(args: &RollbackArgs) -> Result<Exit> {
    let scene = Scene::open(&args.which)?;
    let state = scene.log.state();
    let eras = commit::history(scene.store.as_ref(), scene.log.name(), scene.log.version())?;
    let now = &state.rules.rules;
    let target = match args.to {
        Some(wanted) => eras.iter().find(|era| era.r#gen == wanted).ok_or_else(|| {
            usage(format!("no gen {wanted} in this log")).hint("`weir pipeline history` lists them")
        })?,
        None => {
            let other = |era: &&commit::Era| era.rules != *now && !barred(state, &era.rules);
            eras.iter().rev().find(other).ok_or_else(|| {
                usage("there is nothing to roll back to: no other rules were in force before, or all of them are barred")
                    .hint("`weir pipeline history` lists them; --to GEN names one")
            })?
        }
    };
    if target.rules == *now {
        return Err(usage(format!(
            "the rules of gen {} are those in force",
            target.r#gen
        )));
    }
    if barred(state, &target.rules) {
        return Err(
            usage(format!("the rules of gen {} are barred", target.r#gen))
                .hint("`weir pipeline swap --force` puts barred rules in force"),
        );
    }
    let parts = Parts::in_force(&scene.plugins, &target.rules)?;
    let bar = to_bar(now, &target.rules);
    let change = scene.change(parts, &args.how, bar, false)?;
    scene.carry_out(&change, &args.how, args.which.json)
}

/// Of each transform that changes: its component, or its config where the component stays. Nothing that is wanted.
fn to_bar(now: &[Rule], target: &[Rule]) -> Vec<String> {
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

/// A pipeline, its log and what its config declares.
struct Scene {
    config: PipelineConfig,
    plugins: Plugins,
    declared: Parts,
    store: Arc<dyn Store>,
    log: Log,
    clock: Arc<dyn Clock>,
}

/// What is to happen.
struct Change {
    parts: Parts,
    swap: Swap,
    /// Or why those in force are not known.
    columns: std::result::Result<Vec<columns::Change>, String>,
}

impl Change {
    fn breaks(&self) -> bool {
        let changes = self.columns.as_deref().unwrap_or_default();
        columns::worst(changes) == Effect::Breaking
    }
}

/// Who put it in force.
enum Done {
    Already,
    Process(u64),
    Here(u64),
}

impl Scene {
    fn open(which: &Which) -> Result<Scene> {
        let config = super::super::place::config_of(&which.at, &which.conf, &which.overlay())?;
        let plugins = Plugins::open(Places::of(&config))?;
        let declared =
            Parts::declared(&plugins, &config).map_err(|problems| config::refused(&problems))?;
        let clock = SystemClock::shared();
        let none = || {
            usage(format!("pipeline `{}` has no log yet", config.name))
                .hint("its first `weir run` begins with the rules of the config")
        };
        let store = store::open_existing(&config.sink.url)?.ok_or_else(none)?;
        let name = LogName::new(&config.name, &config.sink.zone);
        let writer = Writer::this_process(&*clock);
        let log = Log::open(store.clone(), name, clock.clone(), writer)?.ok_or_else(none)?;
        Ok(Scene {
            config,
            plugins,
            declared,
            store,
            log,
            clock,
        })
    }

    /// What is in force: from the plugin store, or from the config where that declares the same.
    fn current(&self) -> Result<Parts> {
        let rules = &self.log.state().rules.rules;
        match self.declared.rules() == *rules {
            true => Ok(self.declared.clone()),
            false => Parts::in_force(&self.plugins, rules),
        }
    }

    /// `transform=plugin@version`, with the transform's keys from the config.
    fn named(&self, text: &str) -> Result<TransformConfig> {
        let malformed = |expected: &str| {
            usage(format!(
                "`{text}`: expected TRANSFORM=PLUGIN[@VERSION]; {expected}"
            ))
        };
        let (transform, plugin) = text.split_once('=').ok_or_else(|| malformed("no `=`"))?;
        let mut all = self.config.transforms.iter();
        let found = all.find(|t| t.name == transform.trim()).ok_or_else(|| {
            let names: Vec<&str> = self
                .config
                .transforms
                .iter()
                .map(|t| t.name.as_str())
                .collect();
            usage(format!("the config has no transform `{transform}`"))
                .hint(format!("it has: {}", names.join(", ")))
        })?;
        Ok(TransformConfig {
            plugin: config::plugin_ref(plugin).map_err(|r| malformed(&r.expected))?,
            ..found.clone()
        })
    }

    /// Admission: everything comes up with the columns it will see.
    fn change(&self, parts: Parts, how: &How, bar: Vec<String>, force: bool) -> Result<Change> {
        let new = parts.chain(&self.config)?;
        // Where the store has lost what is in force, going back to the config must still be possible.
        let old = self.current().and_then(|parts| parts.chain(&self.config));
        let columns = old.map(|old| columns::changes(&old.output_schema(), &new.output_schema()));
        Ok(Change {
            columns: columns.map_err(|error| error.to_string()),
            swap: Swap {
                from: self.log.state().rules_gen(),
                rules: parts.rules(),
                actor: commit::actor(),
                reason: how.reason.clone(),
                bar,
                force,
                declared: Some(rules_digest(&self.declared.rules())),
            },
            parts,
        })
    }

    fn carry_out(mut self, change: &Change, how: &How, json: bool) -> Result<Exit> {
        if !json {
            self.show(change);
        }
        let same = change.swap.rules == self.log.state().rules.rules;
        let done = match (same, how.dry_run) {
            (true, _) => Some(Done::Already),
            (false, true) => None,
            (false, false) => {
                change.parts.keep(&self.plugins)?;
                Some(self.ask(&change.swap, how)?)
            }
        };
        match json {
            true => say(self.as_json(change, done.as_ref()).to_string()),
            false => self.tell(change, done.as_ref()),
        }
        Ok(Exit::Ok)
    }

    /// A running process changes over by itself; where none answers, the entry is written here.
    fn ask(&mut self, swap: &Swap, how: &How) -> Result<Done> {
        let pending = Pending::new(self.store.clone(), self.log.name());
        let id = pending.ask(swap)?;
        let answer = self.answered(&pending, &id, how.wait);
        // Left over, it is removed by the next start; whoever took it answers to nobody.
        let forgotten = pending.forget(&id);
        match answer? {
            Some(Answer::InForce(version)) => Ok(Done::Process(version)),
            Some(Answer::Refused(why)) => Err(Error::new(
                Kind::ConfigInvalid,
                OP,
                format!("the running process refuses it: {why}"),
            )
            .hint("nothing was written; the rules in force stay")),
            None => {
                forgotten?;
                self.write(swap)
            }
        }
    }

    /// `None`: nobody took it, or whoever did gave it back or was silent for too long.
    fn answered(&self, pending: &Pending, id: &Id, wait: Duration) -> Result<Option<Answer>> {
        let begun = self.clock.elapsed();
        let waited = || self.clock.elapsed().saturating_sub(begun);
        while !pending.is_taken(id)? {
            if waited() >= TAKEN_WITHIN {
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

    /// The entry is the atomic point, whoever writes it: `from` lets it into the log once.
    fn write(&mut self, swap: &Swap) -> Result<Done> {
        match self.log.commit(Draft::Swap(swap.clone()))? {
            Outcome::Committed { committed, .. } => Ok(Done::Here(committed.version)),
            Outcome::Lost { dropped } => {
                self.log.refresh()?;
                let state = self.log.state();
                if state.rules.rules == swap.rules {
                    return Ok(Done::Process(state.rules_gen())); // it was only late
                }
                let why = dropped
                    .first()
                    .map_or_else(String::new, |d| d.reason.to_string());
                Err(Error::new(
                    Kind::Conflict,
                    OP,
                    "somebody else changed the rules meanwhile",
                )
                .with("why", why)
                .hint("`weir pipeline history` shows them; ask again if you still want this"))
            }
        }
    }

    fn show(&self, change: &Change) {
        let state = self.log.state();
        say(format!(
            "{}: rules of version {} are in force",
            self.log.name(),
            state.rules_gen()
        ));
        let mut rows = vec![
            ["TRANSFORM", "IN FORCE", "BECOMES", "CONFIG"]
                .map(str::to_owned)
                .to_vec(),
        ];
        let build = |r: &Rule| format!("{}@{} {}", r.plugin, r.version, short(&r.component));
        let config = |r: Option<&Rule>| r.map_or_else(|| "-".to_owned(), |r| short(&r.config));
        let now = &state.rules.rules;
        let gone = now
            .iter()
            .filter(|r| !has(&change.swap.rules, &r.transform));
        let pairs = change.swap.rules.iter().map(|new| {
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
        show_columns(&change.columns);
        for digest in &change.swap.bar {
            say(format!("bars {digest}"));
        }
    }

    fn tell(&self, change: &Change, done: Option<&Done>) {
        match done {
            None => say("dry run: nothing was written"),
            Some(Done::Already) => say("these rules are in force already"),
            Some(Done::Process(version)) => {
                say(format!(
                    "in force after version {version}, in the running process"
                ));
            }
            Some(Done::Here(version)) => say(format!(
                "in force after version {version}; no running process answered, so a `weir run` that comes or goes on takes it from the log"
            )),
        }
        for line in self.config_says(change) {
            say(format!("hint: {line}"));
        }
    }

    /// Where the config declares something else than what will be in force, and what to write there.
    fn config_says(&self, change: &Change) -> Vec<String> {
        let declared = self.declared.rules();
        let other = change
            .swap
            .rules
            .iter()
            .filter(|rule| !declared.contains(rule));
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

    fn as_json(&self, change: &Change, done: Option<&Done>) -> Value {
        let (state, version) = match done {
            None => ("dry_run", None),
            Some(Done::Already) => ("already", None),
            Some(Done::Process(version)) => ("in_force", Some(version)),
            Some(Done::Here(version)) => ("in_force", Some(version)),
        };
        json!({
            "log": self.log.name().dir(), "state": state, "version": version,
            "by_process": matches!(done, Some(Done::Process(_))),
            "from": change.swap.from, "rules": change.swap.rules, "bar": change.swap.bar,
            "columns": match &change.columns {
                Ok(changes) => columns::to_json(changes),
                Err(why) => json!({ "effect": "unknown", "why": why }),
            },
            "hints": self.config_says(change),
        })
    }
}

fn show_columns(columns: &std::result::Result<Vec<columns::Change>, String>) {
    let changes = match columns {
        Ok(changes) => changes,
        Err(why) => return say(format!("columns: those in force are not known: {why}")),
    };
    say(format!("columns: {}", columns::worst(changes).word()));
    let or_none = |text: &str| match text {
        "" => "-".to_owned(),
        text => text.to_owned(),
    };
    let line = |c: &columns::Change| {
        let effect = c.effect.word().to_owned();
        vec![
            format!("  {}", c.column),
            or_none(&c.from),
            "->".to_owned(),
            or_none(&c.to),
            effect,
        ]
    };
    table(&changes.iter().map(line).collect::<Vec<_>>());
}

fn has(rules: &[Rule], transform: &str) -> bool {
    rules.iter().any(|r| r.transform == transform)
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(Kind::ConfigInvalid, OP, message)
}
