//! Rules by digest: what a config declares, what a log says is in force, and which of the two a start runs.
//!
//! ```text
//! config ─ Parts::declared ─┐                              ┌─ keep: everything that runs is in the plugin store
//! log ──── Parts::in_force ─┴─→ Parts{component, config}* ─┴─ chain
//! ```
//! A swap or rollback by hand stays in force over restarts: the log wins, unless the config was edited since then.

use std::collections::BTreeMap;
use std::path::Path;

use arrow_schema::SchemaRef;

use super::columns::{self, Columns};
use super::converters;
use super::inferred::{completed, is_known};
use super::namespace;
use crate::chain::{Transform, TransformChain};
use crate::commit::{Draft, Log, Outcome, Rule, State, Swap, actor, rules_digest};
use crate::config::{self, PipelineConfig, Place, Problem, Source, Text};
use crate::config::{TransformConfig, problem};
use crate::convert::{self, Spec};
use crate::error::{Error, Kind, Result};
use crate::pipeline::committer::names;
use crate::pipeline::{Host, until_settled};
use crate::plugin::{Canonical, Component, Keys, Plugins, SetupError, SetupProblem, Stage};
use crate::plugin::{FILE_OF_RULES, FUEL_PER_SECOND, Limits};
use crate::record::input_schema;

/// One transform with everything that decides what it does.
#[derive(Clone, Debug)]
pub struct Part {
    pub transform: String,
    pub by: By,
    pub config: Canonical,
}

/// What carries a transform out.
#[derive(Clone, Debug)]
pub enum By {
    Plugin(Component),
    /// A part of the host; `config` is its spec.
    Converter(Spec),
}

impl By {
    /// What runs it, where that is a plugin.
    pub fn component(&self) -> Option<&Component> {
        match self {
            By::Plugin(component) => Some(component),
            By::Converter(_) => None,
        }
    }
}

/// The transforms of a pipeline, in order.
#[derive(Clone, Debug, Default)]
pub struct Parts(Vec<Part>);

impl Parts {
    /// The rules that config file, `--set` and `--profile` declare together now.
    pub fn declared(plugins: &Plugins, config: &PipelineConfig) -> Result<Parts, Vec<Problem>> {
        let completed = completed(config).map_err(|error| {
            let key = "schema.inference";
            vec![config.problem(key, problem::UNRESOLVED, error.one_line())]
        })?;
        let config = completed.as_ref();
        let (parts, mut problems) = gathered(plugins, config);
        if problems.is_empty() {
            return Ok(parts);
        }
        if let Some(input) = always_read(config) {
            problems.splice(0..0, parts.transforms(config, &input).1);
        }
        Err(problems)
    }

    /// The rules that a log names, from the plugin store.
    pub fn in_force(plugins: &Plugins, rules: &[Rule]) -> Result<Parts> {
        let part = |rule: &Rule| {
            let missing = |error: Error, what: &str, digest: &str| {
                error.with("transform", &rule.transform).hint(format!(
                    "the log's rules need {what} {digest} of {}@{}, which the plugin store does not have: restore \
                     plugin.store, or push the plugin again; `weir pipeline swap --reload` goes back to the config's rules",
                    rule.plugin, rule.version
                ))
            };
            let config = plugins
                .config(&rule.config)
                .map_err(|e| missing(e, "config", &rule.config));
            let by = match convert::is_converter(&rule.transform) {
                true => By::Converter(Spec::parse(
                    config.as_ref().map_err(Error::again)?.text(),
                    &rule.component,
                )?),
                false => By::Plugin(
                    plugins
                        .component(&rule.component)
                        .map_err(|e| missing(e, "component", &rule.component))?,
                ),
            };
            Ok(Part {
                transform: rule.transform.clone(),
                by,
                config: config?,
            })
        };
        rules.iter().map(part).collect::<Result<_>>().map(Parts)
    }

    /// Replaces one transform by another component, with the config's own keys. `None`: there is no such transform.
    pub fn replace(&mut self, part: Part) -> Option<()> {
        let at = self.0.iter_mut().find(|p| p.transform == part.transform)?;
        *at = part;
        Some(())
    }

    pub fn rules(&self) -> Vec<Rule> {
        let rule = |part: &Part| {
            let (plugin, version, component) = match &part.by {
                By::Plugin(by) => (
                    &*by.info().name,
                    &*by.info().version,
                    by.digest().to_owned(),
                ),
                By::Converter(spec) => (spec.form.word(), Spec::version(), spec.digest()),
            };
            Rule {
                transform: part.transform.clone(),
                plugin: plugin.to_owned(),
                version: version.to_owned(),
                component,
                config: part.config.digest().to_owned(),
            }
        };
        self.0.iter().map(rule).collect()
    }

    /// Makes them durable in the plugin store, before an entry names them.
    pub fn keep(&self, plugins: &Plugins) -> Result<()> {
        let mut parts = self.0.iter();
        parts.try_for_each(|part| match &part.by {
            By::Plugin(component) => plugins.keep(component, &part.config),
            By::Converter(_) => plugins.store().put_config(&part.config),
        })
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order in which they run.
    pub fn iter(&self) -> std::slice::Iter<'_, Part> {
        self.0.iter()
    }

    /// Compiles and initialises them, each with the columns of the one before.
    pub fn chain(&self, config: &PipelineConfig) -> Result<TransformChain> {
        self.chain_on(config, &input_schema())
    }

    /// The same, where the first one sees these columns.
    pub fn chain_on(&self, config: &PipelineConfig, input: &SchemaRef) -> Result<TransformChain> {
        let keeps_bytes = namespace::keeps_value(config);
        let (transforms, mut problems) = self.transforms(config, input);
        if problems.is_empty() {
            problems = namespace::problems(config, &transforms, input);
        }
        match problems.is_empty() {
            true => {
                Ok(TransformChain::new(transforms, config.errors.unit)?.keeping_bytes(keeps_bytes))
            }
            false => Err(config::refused(&problems)),
        }
    }

    /// The columns that they make of these, without a check of their names.
    pub fn columns_on(&self, config: &PipelineConfig, input: &SchemaRef) -> Result<SchemaRef> {
        let (transforms, problems) = self.transforms(config, input);
        match problems.is_empty() {
            true => Ok(columns_after(&transforms, input)),
            false => Err(config::refused(&problems)),
        }
    }

    /// The list ends at a plugin that does not start: those after it would be tested with the wrong columns.
    fn transforms(
        &self,
        config: &PipelineConfig,
        input: &SchemaRef,
    ) -> (Vec<Box<dyn Transform>>, Vec<Problem>) {
        let mut transforms: Vec<Box<dyn Transform>> = Vec::new();
        for part in &self.0 {
            let before = transforms.last().map_or(input, |t| t.output_schema());
            match part.transform(config, before.clone()) {
                Ok(made) => transforms.push(made),
                Err(problems) => return (transforms, problems),
            }
        }
        (transforms, Vec::new())
    }
}

impl Part {
    /// The schema of a converter of values.
    pub fn schema(&self) -> Option<&str> {
        match &self.by {
            By::Converter(spec) => spec.schema.as_deref(),
            By::Plugin(_) => None,
        }
    }

    fn transform(
        &self,
        config: &PipelineConfig,
        input: SchemaRef,
    ) -> Result<Box<dyn Transform>, Vec<Problem>> {
        let component = match &self.by {
            By::Plugin(component) => component,
            By::Converter(spec) => return converters::transform(config, spec, &self.config, input),
        };
        let resolve = |typed: &str| config.raw.text(typed).resolve();
        let stage = Stage {
            transform: &self.transform,
            input,
            limits: limits(config),
            resolve: &resolve,
        };
        let plugin = &component.info().name;
        component
            .transform(stage, self.config.clone())
            .map_err(|error| refusals(config, &self.transform, plugin, error))
    }
}

fn limits(config: &PipelineConfig) -> Limits {
    let limits = &config.limits.plugin;
    Limits {
        memory: limits.memory,
        deadline: limits.deadline,
        init_deadline: limits.init_deadline,
        output_bytes: limits.output_bytes,
        // Fuel alone decides here, so it must not allow less than the deadline would.
        fuel: FUEL_PER_SECOND.saturating_mul(limits.deadline.as_secs().max(2)),
    }
}

/// The columns of the last one; without transforms, those of a record.
pub fn columns_of(transforms: &[Box<dyn Transform>]) -> SchemaRef {
    columns_after(transforms, &input_schema())
}

/// The columns of the last one; without transforms, those that are read.
pub fn columns_after(transforms: &[Box<dyn Transform>], input: &SchemaRef) -> SchemaRef {
    let last = transforms.last();
    last.map_or_else(|| input.clone(), |t| t.output_schema().clone())
}

/// The columns that the first transform sees, where they are the same for ever: those of records. A zone has the columns that
/// its own rules give it, and what a schema says that the first records show is not known before.
pub fn always_read(config: &PipelineConfig) -> Option<SchemaRef> {
    match config.source {
        Source::Records(_) if config.converters.waits_for_schema() => None,
        Source::Records(_) => Some(input_schema()),
        Source::Zone(_) => None,
    }
}

/// The transforms in order, and everything that plugins find wrong with their keys.
pub fn transforms_of(
    plugins: &Plugins,
    config: &PipelineConfig,
    input: &SchemaRef,
) -> (Vec<Box<dyn Transform>>, Vec<Problem>) {
    let (parts, mut problems) = gathered(plugins, config);
    let (transforms, found) = parts.transforms(config, input);
    if found.is_empty() && !problems.is_empty() {
        // The first missing transform is the first whose keys were refused: the columns before it are known.
        let converters = parts
            .0
            .iter()
            .filter(|part| matches!(part.by, By::Converter(_)));
        let listed = transforms.len().saturating_sub(converters.count());
        if let Some(refused) = config.transforms.get(listed) {
            let input = match transforms.is_empty() {
                true => input.clone(),
                false => columns_of(&transforms),
            };
            problems.extend(of_the_other_keys(plugins, config, refused, input));
        }
    }
    problems.splice(0..0, found);
    (transforms, problems)
}

/// What a plugin finds wrong with the keys that its schema accepted.
fn of_the_other_keys(
    plugins: &Plugins,
    config: &PipelineConfig,
    transform: &TransformConfig,
    input: SchemaRef,
) -> Vec<Problem> {
    let pin = &transform.plugin.pin;
    let takes = |version: &str, digest: &str| pin.takes(version, digest);
    let Ok(component) = plugins.find(&transform.plugin.name, &takes) else {
        return Vec::new();
    };
    if config.reach().is_confined() && transform.config.values().any(Text::has_reference) {
        return Vec::new();
    }
    let resolve = |typed: &str| config.raw.text(typed).resolve();
    let typed = |(key, text): (&String, &Text)| (key.clone(), text.typed().to_owned());
    let keys = Keys {
        config: &transform.config.iter().map(typed).collect(),
        resolve: &resolve,
        read_file: &|path| config.reach().read(Path::new(path), FILE_OF_RULES),
    };
    let stage = Stage {
        transform: &transform.name,
        input,
        limits: limits(config),
        resolve: &resolve,
    };
    let found = component.problems_of_the_others(&keys, stage);
    let plugin = &component.info().name;
    let told = |p: &SetupProblem| problem(config, &transform.name, plugin, p);
    found.iter().map(told).collect()
}

/// The transforms up to the first one that a plugin refuses, and what each plugin finds wrong with its keys.
fn gathered(plugins: &Plugins, config: &PipelineConfig) -> (Parts, Vec<Problem>) {
    let mut parts = Parts::default();
    let mut problems = Vec::new();
    match converters::parts(config) {
        Ok(first) => parts.0.extend(first),
        Err(found) => problems.extend(found),
    }
    for transform in &config.transforms {
        match part_of(plugins, config, transform) {
            Ok(part) if problems.is_empty() => parts.0.push(part),
            Ok(_) => {}
            Err(found) => problems.extend(found),
        }
    }
    // Until the first record shows the schema there are no rules, as with `schema.inference`.
    match problems.is_empty() && config.converters.waits_for_schema() {
        true => (Parts::default(), problems),
        false => (parts, problems),
    }
}

/// Everything that is wrong with a pipeline's transforms: what the plugins find, and columns of one name. `read`: the columns of
/// the zone that is read; where they are not known, only what needs no columns is checked.
pub fn problems_of(
    plugins: &Plugins,
    config: &PipelineConfig,
    read: Option<&SchemaRef>,
) -> Vec<Problem> {
    let Some(input) = always_read(config).or_else(|| read.cloned()) else {
        return gathered(plugins, config).1;
    };
    let (transforms, mut problems) = transforms_of(plugins, config, &input);
    if problems.is_empty() {
        problems = namespace::problems(config, &transforms, &input);
    }
    problems
}

/// The plugin that the transform's `type` means now, and its keys in canonical form.
pub fn part_of(
    plugins: &Plugins,
    config: &PipelineConfig,
    transform: &TransformConfig,
) -> Result<Part, Vec<Problem>> {
    let type_key = format!("transforms.{}.type", transform.name);
    let pin = &transform.plugin.pin;
    let component = plugins
        .find(&transform.plugin.name, &|version, digest| {
            pin.takes(version, digest)
        })
        .map_err(|error| vec![broken(config, &type_key, &error)])?;
    let typed = |(key, text): (&String, &Text)| (key.clone(), text.typed().to_owned());
    let keys: BTreeMap<String, String> = transform.config.iter().map(typed).collect();
    let plugin = &component.info().name;
    if config.reach().is_confined() {
        let shows =
            |(key, text): &(&String, &Text)| text.has_reference() && !component.is_secret(key);
        let found: Vec<Problem> = (transform.config.iter().filter(shows))
            .map(|(key, _)| {
                config::reference_shows(
                    &config.raw,
                    &format!("transforms.{}.{key}", transform.name),
                )
            })
            .collect();
        if !found.is_empty() {
            return Err(found);
        }
    }
    let canonical = component
        .canonical(&Keys {
            config: &keys,
            resolve: &|typed| config.raw.text(typed).resolve(),
            read_file: &|path| config.reach().read(Path::new(path), FILE_OF_RULES),
        })
        .map_err(|problems| {
            let told = |p: &SetupProblem| problem(config, &transform.name, plugin, p);
            problems.iter().map(told).collect::<Vec<_>>()
        })?;
    Ok(Part {
        transform: transform.name.clone(),
        by: By::Plugin(component),
        config: canonical,
    })
}

fn broken(config: &PipelineConfig, key: &str, error: &Error) -> Problem {
    let code = match error.kind() {
        Kind::LimitReached => problem::NO_MEMORY,
        _ => problem::PLUGIN_CONFIG,
    };
    let problem = config.problem(key, code, error.one_line());
    match error.hint_text() {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

fn refusals(
    config: &PipelineConfig,
    transform: &str,
    plugin: &str,
    error: SetupError,
) -> Vec<Problem> {
    match error {
        SetupError::Failed(error) => {
            vec![broken(
                config,
                &format!("transforms.{transform}.type"),
                &error,
            )]
        }
        SetupError::Problems(problems) => {
            let told = |p: &SetupProblem| problem(config, transform, plugin, p);
            problems.iter().map(told).collect()
        }
    }
}

/// A plugin's own problem at the place of its key, or inside the file that the key names.
fn problem(
    config: &PipelineConfig,
    transform: &str,
    plugin: &str,
    found: &SetupProblem,
) -> Problem {
    let key = match found.key.as_str() {
        "" => format!("transforms.{transform}.type"),
        key => format!("transforms.{transform}.{key}"),
    };
    let message = format!("{plugin}: {} ({})", found.message, found.code);
    let mut problem = config.problem(&key, problem::PLUGIN_CONFIG, message);
    let named = config
        .transforms
        .iter()
        .find(|t| t.name == transform)
        .and_then(|t| t.config.get(&found.key))
        .and_then(|text| text.resolve().ok());
    if let (Some((line, column)), Some(file)) = (found.at, named) {
        problem.place = Place::File {
            file: file.as_str().into(),
            line,
            column,
        };
    }
    problem.hint = found.hint.clone();
    problem
}

/// Rules, and the chain that was built from them.
#[derive(Debug)]
pub struct Built {
    pub parts: Parts,
    pub chain: TransformChain,
}

/// What the config declares at this start; `None`: the log alone decides. The inner error says why its rules cannot be
/// built, which matters only if they shall be in force. At the first start of a process nothing is kept yet.
pub fn declared_rules(
    host: &Host,
    config: &PipelineConfig,
) -> Result<Option<(Parts, Result<TransformChain>)>> {
    let last = host.declared.last();
    if last.is_some() && !config.watch {
        return Ok(None);
    }
    let now = match last {
        Some(_) => config::reloaded(config),
        None => config.clone(),
    };
    match (Parts::declared(&host.plugins, &now), last) {
        (Ok(parts), None) => {
            let chain = parts.chain(config);
            Ok(Some((parts, chain)))
        }
        (Err(problems), None) => Err(config::refused(&problems)),
        // An edit between two starts in a process that watches files; the `Changer` reports a bad edit.
        (Ok(parts), Some(last)) if rules_digest(&parts.rules()) != last => {
            let chain = parts.chain(config).and_then(|chain| {
                parts.keep(&host.plugins)?;
                Ok(chain)
            });
            Ok(chain.ok().map(|chain| (parts, Ok(chain))))
        }
        (_, Some(_)) => Ok(None),
    }
}

/// The log wins unless the config was edited since its newest swap; an edit is a swap.
pub fn at_start(
    host: &Host,
    config: &PipelineConfig,
    log: &mut Log,
    built: Option<(Parts, Result<TransformChain>)>,
) -> Result<Built> {
    let Some((declared, chain)) = built else {
        return from_log(host, config, log.state());
    };
    if !is_known(config) && !log.state().rules.transforms.is_empty() {
        // What the first records show replaces them, once it is known. Nothing is read before.
        return chain.map(|chain| Built {
            parts: declared,
            chain,
        });
    }
    let (mut new, chain) = match chain {
        Ok(chain) => (Ok(Some(chain.output_schema())), Some(chain)),
        Err(error) => (Err(error), None),
    };
    let declares = Declares {
        parts: &declared,
        input: &input_schema(),
        edit: BETWEEN_RUNS,
    };
    if !settled(host, config, log, declares, &mut new)? {
        return from_log(host, config, log.state());
    }
    new?;
    let gone = || Error::new(Kind::Bug, "rules.start", "rules without their chain");
    Ok(Built {
        parts: declared,
        chain: chain.ok_or_else(gone)?,
    })
}

/// Why rules of a config come into force that was edited while nothing ran.
pub(super) const BETWEEN_RUNS: &str = "config or plugin changed between two runs";

/// What a config declares, the columns that its rules begin with, and what to say of an edit.
pub(super) struct Declares<'a> {
    pub parts: &'a Parts,
    pub input: &'a SchemaRef,
    pub edit: &'a str,
}

/// Whether what the config declares is in force then; otherwise the log's own rules are. `new`: the columns that the config's rules
/// make of their input, asked for only if they shall come into force. `None`: not known.
pub(super) fn settled(
    host: &Host,
    config: &PipelineConfig,
    log: &mut Log,
    Declares { parts, input, edit }: Declares<'_>,
    new: &mut Result<Option<SchemaRef>>,
) -> Result<bool> {
    let rules = parts.rules();
    let digest = rules_digest(&rules);
    loop {
        let state = log.state();
        let reason = match (state.rules.transforms == rules, state.declared == digest) {
            (true, true) => break,
            (true, false) => "the config declares the rules in force",
            (false, true) => {
                host.declared.set(&digest);
                warn_differs(config, state, &rules);
                return Ok(false);
            }
            (false, false) => edit,
        };
        if host.declared.last().is_some() && blocked(state, &rules) {
            return Ok(false); // an edit that is not forced stops nothing that runs
        }
        let columns = match new {
            Ok(columns) => columns.clone(),
            Err(_) => return std::mem::replace(new, Ok(None)).map(|_| false),
        };
        match admitted(host, config, (state, input), columns.as_ref()) {
            Ok(()) => {}
            // An edit while the process runs: the next start checks again.
            Err(error) if host.declared.last().is_some() => {
                super::change::refused(config, &error);
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        let replaces = state.generation();
        if declare(host, log, replaces, &rules, reason)? {
            break;
        }
    }
    host.declared.set(&digest);
    Ok(true)
}

/// Puts rules in force that were found at this start. From then on the config declares them.
pub fn put_in_force(
    host: &Host,
    config: &PipelineConfig,
    log: &mut Log,
    (parts, chain): (Parts, TransformChain),
    reason: &str,
) -> Result<Built> {
    let rules = parts.rules();
    loop {
        let state = log.state();
        if state.rules.transforms == rules {
            break;
        }
        let new = chain.output_schema();
        admitted(host, config, (state, &input_schema()), Some(&new))?;
        let replaces = state.generation();
        if declare(host, log, replaces, &rules, reason)? {
            break;
        }
    }
    host.declared.set(&rules_digest(&rules));
    Ok(Built { parts, chain })
}

/// Swaps to what the config declares. False: another writer swapped in between, and the log was read again.
fn declare(
    host: &Host,
    log: &mut Log,
    replaces: u64,
    rules: &[Rule],
    reason: &str,
) -> Result<bool> {
    let swap = Swap {
        replaces,
        transforms: rules.to_vec(),
        actor: actor(),
        reason: reason.to_owned(),
        block: Vec::new(),
        force: false,
        declared: None,
    };
    match until_settled(host, log, Draft::Swap(swap))? {
        Outcome::Committed { committed, .. } => {
            host.report.swapped(&committed);
            Ok(true)
        }
        Outcome::Lost { dropped } => match dropped.first() {
            // Rules that are blocked stay blocked.
            Some(lost) if lost.reason.moved && !blocked(log.state(), rules) => {
                log.refresh()?;
                Ok(false)
            }
            lost => {
                let why = lost.map_or_else(String::new, |d| d.reason.to_string());
                Err(refused(&why))
            }
        },
    }
}

pub fn blocked(state: &State, rules: &[Rule]) -> bool {
    let mut digests = rules.iter().flat_map(|r| [&r.component, &r.config]);
    digests.any(|digest| state.blocked.contains(digest))
}

fn refused(why: &str) -> Error {
    Error::new(
        Kind::ConfigInvalid,
        "rules.swap",
        "the log refuses the rules that the config declares",
    )
    .with("why", why)
    .hint(
        "a digest that was rolled back stays blocked: change the plugin or its keys, or force it once with \
         `weir pipeline swap NAME --reload --force`",
    )
}

/// Warns that a swap or rollback by hand is in force, if the config is still as it was then.
fn warn_differs(config: &PipelineConfig, state: &State, declared: &[Rule]) {
    tracing::warn!(
        pipeline = config.name,
        version = state.generation(),
        in_force = names(&state.rules.transforms),
        declared = names(declared),
        hint = format!(
            "edit the config to say what is in force, or put the config in force: weir pipeline swap {} --reload",
            config.name
        ),
        "the rules in force are those of the log, not of the config"
    );
}

/// Checks that readers of the table accept these columns after those in force.
fn admitted(
    host: &Host,
    config: &PipelineConfig,
    (state, input): (&State, &SchemaRef),
    new: Option<&SchemaRef>,
) -> Result<()> {
    let Some(new) = new else {
        return Ok(());
    };
    let parts = Parts::in_force(&host.plugins, &state.rules.transforms);
    let columns = match parts.and_then(|parts| parts.columns_on(config, input)) {
        Ok(old) => Columns::between(&old, new),
        // The rules in the log are lost: the config's rules are the way out.
        Err(error) => Columns::unknown(error.to_string()),
    };
    columns.admit(state, false, &columns::way(&config.name))
}

fn from_log(host: &Host, config: &PipelineConfig, state: &State) -> Result<Built> {
    let parts = Parts::in_force(&host.plugins, &state.rules.transforms)?;
    let chain = parts.chain(config)?;
    Ok(Built { parts, chain })
}
