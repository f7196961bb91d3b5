//! From config to a chain of plugins, and the rules that a log says are in force.

use std::collections::BTreeMap;

use arrow_schema::SchemaRef;

use super::{Host, until_settled};
use crate::chain::{Chain, Transform, Unit};
use crate::commit::{Draft, Log, Outcome, Rule, Swap};
use crate::config::{self, PipelineConfig, Place, Problem, TransformConfig, problem};
use crate::error::{Error, Kind, Result};
use crate::plugin::{self, Plugins};

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
    let type_key = format!("transforms.{}.type", transform.name);
    let broken = |key: &str, error: &Error| {
        let problem = config.problem(key, problem::PLUGIN_CONFIG, error.to_string());
        vec![match error.hint_text() {
            Some(hint) => problem.hint(hint),
            None => problem,
        }]
    };
    let component = plugins
        .find(&transform.plugin.name)
        .map_err(|e| broken(&type_key, &e))?;
    let info = component.info();
    if !transform
        .plugin
        .pin
        .takes(&info.version, component.digest())
    {
        let found = format!("`{}` asks for another build", transform.plugin);
        let hint = format!(
            "{} holds {}@{}, {}",
            plugins.dir().display(),
            info.name,
            info.version,
            component.digest()
        );
        return Err(vec![
            config
                .problem(&type_key, problem::PLUGIN_CONFIG, found)
                .hint(hint),
        ]);
    }
    let mut keys = BTreeMap::new();
    for (key, text) in &transform.config {
        let full = format!("transforms.{}.{key}", transform.name);
        keys.insert(key.clone(), text.resolve().map_err(|e| broken(&full, &e))?);
    }
    let limits = &config.limits.plugin;
    let setup = plugin::Setup {
        transform: &transform.name,
        config: &keys,
        read_file: &|path| std::fs::read(path),
        input,
        limits: plugin::Limits {
            memory: limits.memory,
            deadline: limits.deadline,
            init_deadline: limits.init_deadline,
            output_bytes: limits.output_bytes,
            // What decides alone must not allow less than time did.
            fuel: plugin::FUEL_PER_SECOND.saturating_mul(limits.deadline.as_secs().max(2)),
        },
    };
    component.transform(setup).map_err(|error| match error {
        plugin::SetupError::Failed(error) => broken(&type_key, &error),
        plugin::SetupError::Problems(problems) => problems
            .iter()
            .map(|p| told(config, transform, &keys, p))
            .collect(),
    })
}

/// A plugin's own problem at the place of its key, or inside the file that the key names.
fn told(
    config: &PipelineConfig,
    transform: &TransformConfig,
    keys: &BTreeMap<String, String>,
    found: &plugin::SetupProblem,
) -> Problem {
    let key = match found.key.as_str() {
        "" => format!("transforms.{}.type", transform.name),
        key => format!("transforms.{}.{key}", transform.name),
    };
    let mut message = format!(
        "{}: {} ({})",
        transform.plugin.name, found.message, found.code
    );
    // A plugin may quote what it found; what a reference stood for is nobody's to print.
    for (key, text) in transform
        .config
        .iter()
        .filter(|(_, text)| text.has_reference())
    {
        if let Some(value) = keys.get(key).filter(|value| !value.is_empty()) {
            message = message.replace(value.as_str(), text.typed());
        }
    }
    let mut problem = config.problem(&key, problem::PLUGIN_CONFIG, message);
    if let (Some((line, column)), Some(file)) = (found.at, keys.get(&found.key)) {
        problem.place = Place::File {
            file: file.as_str().into(),
            line,
            column,
        };
    }
    problem.hint = found.hint.clone();
    problem
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
