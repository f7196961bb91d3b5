//! From config to a chain of plugins, and the rules that a log says are in force.

use std::collections::BTreeMap;

use arrow_schema::SchemaRef;

use super::{Host, until_settled};
use crate::chain::{Chain, Transform, Unit};
use crate::commit::{Draft, Log, Outcome, Rule, Swap};
use crate::config::{self, PipelineConfig, Place, Problem, Text, TransformConfig, problem};
use crate::error::{Error, Kind, Result};
use crate::plugin::{self, Canonical, Component, Keys, Plugins, SetupError, SetupProblem, Stage};

/// Loads and initialises every plugin of a pipeline.
pub fn chain_of(plugins: &Plugins, config: &PipelineConfig, input: &SchemaRef) -> Result<Chain> {
    let unit = match config.errors.unit {
        config::Unit::Row => Unit::Row,
        config::Unit::Record => Unit::Record,
    };
    let (transforms, problems) = transforms_of(plugins, config, input);
    if problems.is_empty() {
        Chain::new(transforms, unit)
    } else {
        Err(config::refused(&problems))
    }
}

/// The transforms in order, and everything that plugins find wrong with their keys. A plugin that does not come up ends the
/// list: those after it would get other columns than they will see.
pub fn transforms_of(
    plugins: &Plugins,
    config: &PipelineConfig,
    input: &SchemaRef,
) -> (Vec<Box<dyn Transform>>, Vec<Problem>) {
    let mut transforms: Vec<Box<dyn Transform>> = Vec::new();
    for transform in &config.transforms {
        let before = transforms
            .last()
            .map_or(input, |t| t.output_schema())
            .clone();
        match transform_of(plugins, config, transform, before) {
            Ok(made) => transforms.push(made),
            Err(problems) => return (transforms, problems),
        }
    }
    (transforms, Vec::new())
}

fn transform_of(
    plugins: &Plugins,
    config: &PipelineConfig,
    transform: &TransformConfig,
    input: SchemaRef,
) -> Result<Box<dyn Transform>, Vec<Problem>> {
    let (component, canonical) = declared(plugins, config, transform)?;
    let stage = Stage {
        transform: &transform.name,
        input,
        limits: limits_of(config),
        resolve: &resolve,
    };
    component
        .transform(stage, canonical)
        .map_err(|error| match error {
            SetupError::Failed(error) => vec![broken(config, &type_key(transform), &error)],
            SetupError::Problems(found) => told(config, transform, &found),
        })
}

/// The build and the config that the config file asks for now.
pub fn declared(
    plugins: &Plugins,
    config: &PipelineConfig,
    transform: &TransformConfig,
) -> Result<(Component, Canonical), Vec<Problem>> {
    let plugin = &transform.plugin;
    let component = plugins
        .find(&plugin.name, &|version, digest| {
            plugin.pin.takes(version, digest)
        })
        .map_err(|e| vec![broken(config, &type_key(transform), &e)])?;
    let typed: BTreeMap<String, String> = (transform.config.iter())
        .map(|(key, text)| (key.clone(), text.typed().to_owned()))
        .collect();
    let keys = Keys {
        config: &typed,
        resolve: &resolve,
        read_file: &|path| std::fs::read(path),
    };
    match component.canonical(&keys) {
        Ok(canonical) => Ok((component, canonical)),
        Err(found) => Err(told(config, transform, &found)),
    }
}

fn resolve(typed: &str) -> Result<String> {
    Text::new(typed).resolve()
}

fn limits_of(config: &PipelineConfig) -> plugin::Limits {
    let limits = &config.limits.plugin;
    plugin::Limits {
        memory: limits.memory,
        deadline: limits.deadline,
        init_deadline: limits.init_deadline,
        output_bytes: limits.output_bytes,
        // What decides alone must not allow less than time did.
        fuel: plugin::FUEL_PER_SECOND.saturating_mul(limits.deadline.as_secs().max(2)),
    }
}

fn type_key(transform: &TransformConfig) -> String {
    format!("transforms.{}.type", transform.name)
}

fn broken(config: &PipelineConfig, key: &str, error: &Error) -> Problem {
    let mut problem = config.problem(key, problem::PLUGIN_CONFIG, error.to_string());
    problem.hint = error.hint_text().map(str::to_owned);
    problem
}

/// Problems with a transform's keys at the places of these keys, or inside the files that they name.
fn told(
    config: &PipelineConfig,
    transform: &TransformConfig,
    found: &[SetupProblem],
) -> Vec<Problem> {
    let one = |found: &SetupProblem| {
        let key = match found.key.as_str() {
            "" => type_key(transform),
            key => format!("transforms.{}.{key}", transform.name),
        };
        let plugin = &transform.plugin.name;
        let message = format!("{plugin}: {} ({})", found.message, found.code);
        let mut problem = config.problem(&key, problem::PLUGIN_CONFIG, message);
        let file = || transform.config.get(&found.key)?.resolve().ok();
        if let Some(((line, column), file)) = found.at.zip(file()) {
            problem.place = Place::File {
                file: file.into(),
                line,
                column,
            };
        }
        problem.hint = found.hint.clone();
        problem
    };
    found.iter().map(one).collect()
}

pub fn rules_of(chain: &Chain) -> Vec<Rule> {
    let rules = chain.identities().map(|i| Rule {
        transform: i.transform.clone(),
        plugin: i.plugin.clone(),
        version: i.version.clone(),
        component: i.digest.clone(),
        config: i.config_digest.clone(),
    });
    rules.collect()
}

/// Rules that differ from those of the last run are a swap: from the entry on, the new ones hold (PROTOCOL §7).
pub fn put_in_force(host: &Host, log: &mut Log, rules: Vec<Rule>) -> Result<()> {
    loop {
        let state = log.state();
        if state.rules.rules == rules {
            return Ok(());
        }
        let changed: Vec<String> = rules
            .iter()
            .filter(|rule| !state.rules.rules.contains(rule))
            .map(|rule| format!("{}={}@{}", rule.transform, rule.plugin, rule.version))
            .collect();
        let swap = Swap {
            from: state.rules_gen(),
            rules: rules.clone(),
            actor: "run".to_owned(),
            reason: "config or plugin changed between two runs".to_owned(),
            bar: Vec::new(),
            force: false,
        };
        match until_settled(host, log, Draft::Swap(swap))? {
            Outcome::Committed { committed, .. } => {
                tracing::info!(version = committed.version, ?changed, "rules swapped");
                return Ok(());
            }
            Outcome::Lost { dropped } => match dropped.first() {
                // Another writer swapped in between: look again.
                Some(lost) if lost.reason.moved => log.refresh()?,
                lost => {
                    let why = lost.map_or_else(String::new, |d| d.reason.to_string());
                    return Err(Error::new(
                        Kind::ConfigInvalid,
                        "rules.swap",
                        "the log refuses these rules",
                    )
                    .with("why", why)
                    .hint("a digest that was rolled back stays barred until a swap forces it"));
                }
            },
        }
    }
}
