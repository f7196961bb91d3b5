//! What a config must hold before it is written down: every reference stands for something, its plugins are there and take
//! their keys, and no key that they call a secret is written out. Changes nothing.

use crate::config::secrets::{holds_secret, literal_secret};
use crate::config::{PipelineConfig, Problem, Text};
use crate::pipeline::problems_of;
use crate::plugin::Plugins;

/// What the plugins find wrong: not there, keys refused, secrets that stand in the config.
pub fn plugins(config: &PipelineConfig, plugins: &Plugins) -> Vec<Problem> {
    let mut problems = Vec::new();
    for transform in &config.transforms {
        let pin = &transform.plugin.pin;
        let takes = |version: &str, digest: &str| pin.takes(version, digest);
        let Ok(component) = plugins.find(&transform.plugin.name, &takes) else {
            continue; // told below
        };
        let literal = |(key, value): &(&String, &Text)| {
            component.is_secret(key) && !value.typed().is_empty() && holds_secret(value.typed())
        };
        let found = transform.config.iter().filter(literal);
        let key = |key: &String| format!("transforms.{}.{key}", transform.name);
        problems.extend(found.map(|(k, _)| literal_secret(&config.name, &key(k))));
    }
    if problems.is_empty() && !config.transforms.is_empty() {
        problems = problems_of(plugins, config);
    }
    problems
}
