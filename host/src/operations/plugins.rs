//! The plugin store's versions: push, list, inspect, yank.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Refused, Why, utc};
use crate::clock::Clock;
use crate::commit::{self, LogName};
use crate::error::{Error, Kind, Result};
use crate::plugin::{Component, ConfigKey, Import, KEPT, MAX_COMPONENT_BYTES, Plugins, shipped};
use crate::store::Store;

/// A component that is, or could be, in the store under its name and version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PushedPlugin")]
pub struct Pushed {
    pub plugin: String,
    pub version: String,
    pub digest: String,
    pub bytes: u64,
    /// The store's directory.
    pub store: String,
    pub dry_run: bool,
    /// It was not there before.
    pub new: bool,
    pub keys: Vec<ConfigKey>,
}

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ListedPlugin")]
pub struct Listed {
    pub plugin: String,
    /// Empty where the file is refused; `note` says why.
    pub version: String,
    pub digest: String,
    pub bytes: Option<u64>,
    /// Path of a loose file; none for a pushed version and a shipped plugin.
    pub path: Option<String>,
    pub pushed: Option<By>,
    /// Part of the program.
    pub shipped: bool,
    pub yanked: bool,
    pub note: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct By {
    /// UTC.
    pub at: String,
    pub by: String,
}

/// What a component says of itself and what it can use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Plugin")]
pub struct Inspected {
    pub plugin: String,
    pub version: String,
    pub summary: String,
    pub digest: String,
    pub bytes: u64,
    /// Components inside this one.
    pub components: usize,
    pub core_modules: usize,
    /// This build is part of the program.
    pub shipped: bool,
    pub exports: Vec<String>,
    pub imports: Vec<Import>,
    pub keys: Vec<ConfigKey>,
    /// JSON Schema of its config.
    pub config: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "YankedPlugin")]
pub struct Yanked {
    pub plugin: String,
    pub version: String,
    pub digest: String,
    pub yanked: bool,
    pub in_force: Vec<InForce>,
    pub dry_run: bool,
}

/// A pipeline whose rules in force have the component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct InForce {
    pub pipeline: String,
    pub zone: String,
}

/// Name and version that a push gives for the component; checked against what the component says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claim<'a> {
    pub name: Option<&'a str>,
    pub version: Option<&'a str>,
}

/// Checks and compiles as a start would, then keeps the component under its name and version for good.
pub fn push(
    plugins: &Plugins,
    bytes: Vec<u8>,
    claim: Claim<'_>,
    clock: &Arc<dyn Clock>,
    by: &str,
    dry_run: bool,
) -> Result<Pushed, Refused> {
    let size = bytes.len() as u64;
    if bytes.len() > MAX_COMPONENT_BYTES {
        let message = format!("{size} bytes; at most {MAX_COMPONENT_BYTES}");
        let error = Error::new(Kind::PluginRefused, "plugin.load", message)
            .hint("build it with --release and strip = true");
        return Err(Refused::new(Why::TooLarge, error));
    }
    let component = plugins.from_bytes(bytes)?;
    let (info, digest) = (component.info(), component.digest());
    for (what, claimed, said) in [
        ("name", claim.name, &info.name),
        ("version", claim.version, &info.version),
    ] {
        if let Some(claimed) = claimed
            && claimed != said
        {
            let message = format!("the component's {what} is `{said}`, not `{claimed}`");
            let error = Error::new(Kind::PluginRefused, "plugin.push", message)
                .hint("name and version are those that the component gives in `describe`");
            return Err(error.into());
        }
    }
    let store = plugins.store();
    let taken = |error: Error| match error.kind() {
        Kind::PluginRefused => Refused::new(Why::Conflict, error),
        _ => error.into(),
    };
    store
        .may_push(&info.name, &info.version, digest)
        .map_err(taken)?;
    let new = store.pushed(&info.name, &info.version).is_err();
    if !dry_run {
        store.put_blob(digest, component.bytes())?;
        let pushed = crate::plugin::Pushed {
            digest: digest.to_owned(),
            at: clock.now_micros(),
            by: by.to_owned(),
        };
        store
            .push(&info.name, &info.version, &pushed)
            .map_err(taken)?;
    }
    Ok(Pushed {
        plugin: info.name.clone(),
        version: info.version.clone(),
        digest: digest.to_owned(),
        bytes: size,
        store: store.root().display().to_string(),
        dry_run,
        new,
        keys: info.keys(),
    })
}

/// Loose builds, pushed versions and shipped plugins, by name.
pub fn list(plugins: &Plugins) -> Result<Vec<Listed>> {
    let mut listed = loose(plugins)?;
    let mut refs = plugins.store().all_refs()?;
    refs.sort_by(|a, b| (&a.name, a.pushed.at).cmp(&(&b.name, b.pushed.at)));
    for found in refs {
        let blob = plugins.store().blob_path(&found.pushed.digest)?;
        let size = std::fs::metadata(&blob).map(|found| found.len()).ok();
        let note = match size {
            None => "not in the store",
            Some(_) => "",
        };
        listed.push(Listed {
            plugin: found.name,
            version: found.version,
            digest: found.pushed.digest,
            bytes: size,
            path: None,
            pushed: Some(By {
                at: utc(found.pushed.at),
                by: found.pushed.by,
            }),
            shipped: false,
            yanked: found.yanked,
            note: note.to_owned(),
        });
    }
    listed.extend(shipped().iter().map(|found| Listed {
        plugin: found.name.to_owned(),
        version: found.version.to_owned(),
        digest: found.digest.clone(),
        bytes: Some(found.bytes.len() as u64),
        path: None,
        pushed: None,
        shipped: true,
        yanked: false,
        note: String::new(),
    }));
    listed.sort_by(|a, b| a.plugin.cmp(&b.plugin));
    Ok(listed)
}

/// The loose files; one that is refused is listed with the reason.
fn loose(plugins: &Plugins) -> Result<Vec<Listed>> {
    let unreadable = |path: &std::path::Path, e: std::io::Error| {
        let message = format!("{} cannot be read", path.display());
        Error::new(Kind::PluginRefused, "plugin.ls", message).source(e)
    };
    let entries = match std::fs::read_dir(plugins.path()) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(unreadable(plugins.path(), e)),
    };
    let mut listed = Vec::new();
    for path in entries.flatten().map(|file| file.path()) {
        if path.extension().is_none_or(|e| e != "wasm") {
            continue;
        }
        let content = crate::fs::read(&path, KEPT).map_err(|e| unreadable(&path, e))?;
        let (size, digest) = (content.len() as u64, commit::digest(&content));
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let (version, note) = match plugins.from_bytes(content) {
            Ok(c) if c.info().name == stem => (c.info().version.clone(), String::new()),
            Ok(c) => (String::new(), format!("calls itself `{}`", c.info().name)),
            Err(e) => (String::new(), format!("refused: {}", e.message())),
        };
        listed.push(Listed {
            plugin: stem.into_owned(),
            version,
            digest,
            bytes: Some(size),
            path: Some(path.display().to_string()),
            pushed: None,
            shipped: false,
            yanked: false,
            note,
        });
    }
    Ok(listed)
}

/// A name, `NAME@VERSION`, `NAME@sha256:…` or a digest.
pub fn find(plugins: &Plugins, wanted: &str) -> Result<Component> {
    if wanted.starts_with("sha256:") {
        return plugins.component(wanted);
    }
    let Some((name, pin)) = wanted.split_once('@') else {
        return plugins.find(wanted, &|_, _| true);
    };
    plugins.find(name, &|version, digest| match pin.starts_with("sha256:") {
        true => digest.starts_with(pin),
        false => version
            .strip_prefix(pin)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.')),
    })
}

/// One version, yanked or not; a part of one (`0.2`), `latest` or a build's digest, as a pin finds it.
pub fn exact(plugins: &Plugins, name: &str, version: &str) -> Result<Component, Refused> {
    let missing = |e: Error| match e.kind() {
        Kind::PluginRefused => Refused::new(Why::Missing, e),
        _ => e.into(),
    };
    if version == "latest" {
        return find(plugins, name).map_err(missing);
    }
    match plugins.store().pushed(name, version) {
        Ok(found) => Ok(plugins.component(&found.pushed.digest)?),
        Err(_) => find(plugins, &format!("{name}@{version}")).map_err(missing),
    }
}

pub fn inspect(component: &Component) -> Result<Inspected> {
    let (info, shape) = (component.info(), component.shape()?);
    Ok(Inspected {
        plugin: info.name.clone(),
        version: info.version.clone(),
        summary: info.summary.clone(),
        digest: component.digest().to_owned(),
        bytes: component.bytes().len() as u64,
        components: shape.components,
        core_modules: shape.core_modules,
        shipped: shipped().iter().any(|s| s.digest == component.digest()),
        exports: shape.exports,
        imports: shape.imports,
        keys: info.keys(),
        config: serde_json::from_str(&info.config_schema).unwrap_or_default(),
    })
}

/// Takes a version out of use, or with `undo` back into it. `running` says where its component is in force.
pub fn yank(
    plugins: &Plugins,
    (name, version): (&str, &str),
    undo: bool,
    dry_run: bool,
    running: impl FnOnce(&str) -> Result<Vec<InForce>>,
) -> Result<Yanked, Refused> {
    let store = plugins.store();
    let found = store.pushed(name, version).map_err(|e| match e.kind() {
        Kind::PluginRefused => Refused::new(Why::Missing, e),
        _ => e.into(),
    })?;
    let in_force = running(&found.pushed.digest)?;
    if !dry_run {
        store.yank(name, version, !undo)?;
    }
    Ok(Yanked {
        plugin: name.to_owned(),
        version: version.to_owned(),
        digest: found.pushed.digest,
        yanked: !undo,
        in_force,
        dry_run,
    })
}

/// The logs whose rules in force have this component.
pub fn in_force(
    store: &Arc<dyn Store>,
    logs: &[LogName],
    clock: &Arc<dyn Clock>,
    digest: &str,
) -> Result<Vec<InForce>> {
    let mut running = Vec::new();
    for name in logs {
        let log = super::open(store, name, clock)?;
        let mut rules = log.state().rules.transforms.iter();
        if rules.any(|rule| rule.component == digest) {
            running.push(InForce {
                pipeline: name.pipeline.clone(),
                zone: name.zone.clone(),
            });
        }
    }
    Ok(running)
}
