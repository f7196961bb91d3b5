//! `weir plugin inspect`: what a component says of itself, what it may touch, the keys it takes.

use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use super::{PlacesArgs, read};
use crate::cli::{Exit, say, table};
use crate::error::{Error, Result};
use crate::plugin::{Component, Plugins, Shape};
use crate::telemetry::bytes;

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// A plugin's name, NAME@VERSION, NAME@sha256:…, sha256:…, or a .wasm file
    plugin: String,
    #[command(flatten)]
    places: PlacesArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn inspect(args: &InspectArgs) -> Result<Exit> {
    let mut places = args.places.places();
    let file = Path::new(&args.plugin);
    // A file may lie anywhere; its native code is kept beside it.
    if args.plugin.ends_with(".wasm") && args.places.plugin_cache.is_none() {
        places.cache = file.with_file_name(".cache");
    }
    let component = find(&Plugins::open(places)?, &args.plugin)?;
    let shape = component.shape()?;
    match args.json {
        true => say(as_json(&component, &shape).to_string()),
        false => show(&component, &shape),
    }
    Ok(Exit::Ok)
}

fn find(plugins: &Plugins, wanted: &str) -> Result<Component> {
    if wanted.ends_with(".wasm") {
        let named = |e: Error| e.with("plugin", wanted);
        return plugins.from_bytes(read(Path::new(wanted))?).map_err(named);
    }
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

fn as_json(component: &Component, shape: &Shape) -> Value {
    let info = component.info();
    let schema: Value = serde_json::from_str(&info.config_schema).unwrap_or_default();
    json!({
        "plugin": info.name, "version": info.version, "summary": info.summary,
        "digest": component.digest(), "bytes": component.bytes().len(),
        "components": shape.components, "core_modules": shape.core_modules,
        "exports": shape.exports, "imports": shape.imports,
        "keys": info.keys(), "config": schema,
    })
}

fn show(component: &Component, shape: &Shape) {
    let info = component.info();
    say(format!("{}@{}  {}", info.name, info.version, info.summary));
    say(component.digest());
    say(format!(
        "{}; core modules: {}, components inside: {}",
        bytes(component.bytes().len() as u64),
        shape.core_modules,
        shape.components
    ));
    say(format!("exports {}", shape.exports.join(", ")));
    say("\nWhat it may touch (a plugin has no clock, randomness, file or network):");
    let head = ["IMPORT", "WHAT IT COMES TO", "CALLS"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for import in &shape.imports {
        let calls: Vec<&str> = (import.functions.iter())
            .map(|function| function.trim_start_matches("[method]"))
            .collect();
        let calls = match calls.is_empty() {
            true => "none".to_owned(),
            false => calls.join(" "),
        };
        rows.push(vec![import.name.clone(), import.means.to_owned(), calls]);
    }
    table(&rows);
    let keys = info.keys();
    if keys.is_empty() {
        say("\nIt takes no keys.");
        return;
    }
    say("\nKeys:");
    let mut rows = vec![
        ["KEY", "TYPE", "DEFAULT", "ABOUT"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for key in keys {
        let default = match (key.default, key.required) {
            (Some(default), _) => default,
            (None, true) => "required".to_owned(),
            (None, false) => "-".to_owned(),
        };
        rows.push(vec![key.key, key.kind, default, key.about]);
    }
    table(&rows);
}
