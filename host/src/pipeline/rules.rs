//! From config to a chain of plugins, and the rules that a log says are in force.

use arrow_schema::SchemaRef;

use super::{Host, until_settled};
use crate::chain::{Chain, Unit};
use crate::commit::{Draft, Log, Outcome, Rule, Swap};
use crate::config::{self, PipelineConfig};
use crate::error::{Error, Kind, Result};
use crate::plugin;

/// Loads and initialises every plugin of a pipeline. All problems of a transform are in one error.
pub fn chain_of(host: &Host, config: &PipelineConfig, input: &SchemaRef) -> Result<Chain> {
    let unit = match config.errors.unit {
        config::Unit::Row => Unit::Row,
        config::Unit::Record => Unit::Record,
    };
    let (transforms, problems) = plugin::transforms(&host.plugins, config, input);
    if problems.is_empty() {
        Chain::new(transforms, unit)
    } else {
        Err(config::refused(&problems))
    }
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
