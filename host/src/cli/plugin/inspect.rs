//! `weir plugin inspect`: what a component says of itself, what it can use, the keys it accepts.

use std::path::Path;

use clap::Args;

use super::{PlacesArgs, read};
use crate::cli::remote::{Remote, read as value};
use crate::cli::{Exit, say, say_json, say_lines, table};
use crate::error::{Error, Result};
use crate::http::client::segment;
use crate::operations::plugins::{self as ops_plugins, Inspected};
use crate::plugin::{Component, Plugins};
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
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn inspect(args: &InspectArgs) -> Result<Exit> {
    if let Some(client) = args.places.client(&args.remote, &args.plugin)?
        && !args.plugin.ends_with(".wasm")
    {
        let path = match args.plugin.split_once('@') {
            Some((name, version)) => format!("/plugins/{}/{}", segment(name), segment(version)),
            None => format!("/plugins/{}/latest", segment(&args.plugin)),
        };
        return show(&value(client.get(&path)?)?, args.json);
    }
    let mut places = args.places.places();
    let file = Path::new(&args.plugin);
    // A file may be anywhere; its native code is cached beside it.
    if args.plugin.ends_with(".wasm") && args.places.plugin_cache.is_none() {
        places.cache = file.with_file_name(".cache");
    }
    let component = find(&Plugins::open(places)?, &args.plugin)?;
    show(&ops_plugins::inspect(&component)?, args.json)
}

fn find(plugins: &Plugins, wanted: &str) -> Result<Component> {
    if wanted.ends_with(".wasm") {
        let named = |e: Error| e.with("plugin", wanted);
        return plugins.from_bytes(read(Path::new(wanted))?).map_err(named);
    }
    ops_plugins::find(plugins, wanted)
}

fn show(plugin: &Inspected, json: bool) -> Result<Exit> {
    if json {
        say_json(plugin)?;
        return Ok(Exit::Ok);
    }
    say(format!(
        "{}@{}  {}",
        plugin.plugin, plugin.version, plugin.summary
    ));
    say(&plugin.digest);
    if plugin.shipped {
        say(concat!("shipped with weir ", env!("CARGO_PKG_VERSION")));
    }
    say(format!(
        "{}; core modules: {}, components inside: {}",
        bytes(plugin.bytes),
        plugin.core_modules,
        plugin.components
    ));
    say(format!("exports {}", plugin.exports.join(", ")));
    say_lines("\nWhat it may touch (a plugin has no clock, randomness, file or network):");
    let head = ["IMPORT", "WHAT IT COMES TO", "CALLS"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for import in &plugin.imports {
        let calls: Vec<&str> = (import.functions.iter())
            .map(|function| function.trim_start_matches("[method]"))
            .collect();
        let calls = match calls.is_empty() {
            true => "none".to_owned(),
            false => calls.join(" "),
        };
        rows.push(vec![import.name.clone(), import.means.clone(), calls]);
    }
    table(&rows);
    if plugin.keys.is_empty() {
        say_lines("\nIt takes no keys.");
        return Ok(Exit::Ok);
    }
    say_lines("\nKeys:");
    let mut rows = vec![
        ["KEY", "TYPE", "DEFAULT", "ABOUT"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for key in &plugin.keys {
        let default = match (&key.default, key.required) {
            (Some(default), _) => default.clone(),
            (None, true) => "required".to_owned(),
            (None, false) => "-".to_owned(),
        };
        rows.push(vec![
            key.key.clone(),
            key.kind.clone(),
            default,
            key.about.clone(),
        ]);
    }
    table(&rows);
    Ok(Exit::Ok)
}
