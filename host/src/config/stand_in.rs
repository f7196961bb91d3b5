//! Completes a config that has problems, so that its plugins can check their keys in the same run.

use super::check::check;
use super::checked::PipelineConfig;
use super::connector::{Catalog, Gives};
use super::keys::TRANSFORM_PREFIX;
use super::problem::Problem;
use super::raw::Raw;
use super::values::plugin_ref;

/// A pipeline without its wrong parts, only to let its transforms check their keys. A transform that the host itself
/// refuses ends the list: those after it would get other columns.
pub fn stand_in(
    raw: &Raw,
    problems: &[Problem],
    catalog: &'static Catalog,
) -> Option<PipelineConfig> {
    /// Values for required keys; transforms do not depend on where a pipeline reads and writes.
    const NEEDED: &[(&str, &str)] = &[
        ("name", "x"),
        ("source.type", "kafka"),
        ("source.topics", "t"),
        ("source.start", "earliest"),
        ("source.bootstrap.servers", "localhost:9092"),
        ("sink.type", "zone"),
        ("sink.url", "memory:x"),
    ];
    let typed = |key: &str| raw.get(key)?.value.resolve().ok();
    let listed = typed("transforms")?;
    let good = |name: &&str| {
        let plugin = typed(&format!("{TRANSFORM_PREFIX}{name}.type"));
        plugin.is_some_and(|plugin| plugin_ref(&plugin).is_ok())
    };
    let names = listed.split(',').map(str::trim).take_while(good);
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    let source = catalog.source_of(raw);
    if names.is_empty() || source.is_some_and(|source| source.gives == Gives::Rows) {
        return None;
    }
    let wrong: Vec<&str> = problems
        .iter()
        .filter(|p| p.is_error())
        .map(|p| p.key.as_str())
        .collect();
    let mut rest = Raw::within(&raw.file, raw.reach());
    for (key, entry) in raw.iter() {
        let transform = key.strip_prefix(TRANSFORM_PREFIX);
        let kept = match transform.and_then(|rest| rest.split('.').next()) {
            Some(transform) => names.contains(&transform),
            None => key != "transforms" && !wrong.contains(&key),
        };
        if kept {
            let typed = entry.value.typed().to_owned();
            rest.insert(key.to_owned(), typed, entry.place.clone())
                .ok()?;
        }
    }
    rest.set("transforms", &names.join(","), 0);
    let patterns = catalog
        .sources
        .iter()
        .filter_map(|source| Some((source.topics?, source.pattern?)));
    let patterns: Vec<_> = patterns.collect();
    for (key, value) in NEEDED {
        let other_way = patterns
            .iter()
            .any(|(topics, pattern)| topics == key && rest.get(pattern).is_some());
        if rest.get(key).is_none() && !other_way {
            rest.set(key, value, 0);
        }
    }
    let (config, _) = check(rest, catalog);
    config.map(|config| PipelineConfig {
        raw: raw.clone(),
        ..config
    })
}
