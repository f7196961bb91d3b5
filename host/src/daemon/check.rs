//! What must be true of a config before it is recorded: every reference can be resolved, its plugins exist and accept
//! their keys, and no secret key of theirs has a literal value. Changes nothing.

use arrow_schema::SchemaRef;

use crate::config::secrets::{holds_secret, literal_secret};
use crate::config::{PipelineConfig, Problem, Text};
use crate::pipeline::problems_of;
use crate::plugin::Plugins;

/// Problems of the plugins: missing ones, refused keys, secrets that are written in the config.
/// `read`: the columns of the zone that is read, if they are known.
pub fn plugins(
    config: &PipelineConfig,
    plugins: &Plugins,
    read: Option<&SchemaRef>,
) -> Vec<Problem> {
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
        problems = problems_of(plugins, config, read);
    }
    problems
}
