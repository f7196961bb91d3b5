//! `weir plugin`: components on disk.

mod author;
mod tryout;
mod verify;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Exit, say, table};
use crate::commit::digest;
use crate::error::{Error, Kind, Result};
use crate::plugin::{Places, Plugins};
use crate::telemetry::bytes;

#[derive(Debug, Args)]
pub(super) struct PluginArgs {
    #[command(subcommand)]
    verb: PluginVerb,
}

#[derive(Debug, Subcommand)]
enum PluginVerb {
    #[command(flatten)]
    Author(author::AuthorVerb),
    /// List the plugins of a directory
    Ls {
        /// Directory of the plugins
        #[arg(long, value_name = "DIR", default_value = "target/plugins")]
        plugin_path: PathBuf,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Show what a plugin says of itself: version, digest, the keys it takes
    Inspect {
        /// A .wasm file, or a plugin's name
        plugin: String,
        /// Directory of the plugins
        #[arg(long, value_name = "DIR", default_value = "target/plugins")]
        plugin_path: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// A component as it lies on disk.
#[derive(Debug)]
struct OnDisk {
    name: String,
    path: PathBuf,
    bytes: u64,
    digest: String,
}

pub(super) fn plugin(args: &PluginArgs) -> Result<Exit> {
    match &args.verb {
        PluginVerb::Author(verb) => author::author(verb),
        PluginVerb::Ls { plugin_path, json } => ls(plugin_path, *json),
        PluginVerb::Inspect {
            plugin,
            plugin_path,
            json,
        } => inspect(plugin, plugin_path, *json),
    }
}

fn ls(dir: &Path, json: bool) -> Result<Exit> {
    let cannot = |e: std::io::Error| {
        let message = format!("{} cannot be read", dir.display());
        Error::new(Kind::PluginRefused, "plugin.ls", message)
            .source(e)
            .hint("`make plugins` builds the shipped ones into target/plugins")
    };
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
        .map_err(cannot)?
        .flatten()
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|e| e == "wasm"))
        .collect();
    paths.sort();
    let mut rows = vec![["PLUGIN", "BYTES", "DIGEST"].map(str::to_owned).to_vec()];
    for path in paths {
        let found = read(&path)?;
        if json {
            say(as_json(&found).to_string());
        }
        rows.push(vec![found.name, bytes(found.bytes), found.digest]);
    }
    if !json {
        table(&rows);
    }
    Ok(Exit::Ok)
}

fn as_json(found: &OnDisk) -> serde_json::Value {
    json!({
        "plugin": found.name, "path": found.path.display().to_string(),
        "bytes": found.bytes, "digest": found.digest,
    })
}

fn read(path: &Path) -> Result<OnDisk> {
    let content = std::fs::read(path).map_err(|e| {
        let message = format!("{} cannot be read", path.display());
        Error::new(Kind::PluginRefused, "plugin.read", message).source(e)
    })?;
    let name = path
        .file_stem()
        .map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    Ok(OnDisk {
        name,
        path: path.to_owned(),
        bytes: content.len() as u64,
        digest: digest(&content),
    })
}

fn inspect(plugin: &str, dir: &Path, json: bool) -> Result<Exit> {
    let path = match plugin.ends_with(".wasm") {
        true => PathBuf::from(plugin),
        false => dir.join(format!("{plugin}.wasm")),
    };
    let found = read(&path)?;
    let mut about = as_json(&found);
    if let (Some(about), Some(more)) = (about.as_object_mut(), describe(&path)?.as_object()) {
        about.extend(more.clone());
    }
    if json {
        say(about.to_string());
    } else {
        say(format!("{about:#}"));
    }
    Ok(Exit::Ok)
}

/// What the component says of itself: version, summary, the keys it takes.
fn describe(path: &Path) -> Result<serde_json::Value> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let name = path
        .file_stem()
        .map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    let places = Places {
        path: dir.to_owned(),
        store: dir.join("store"),
        cache: dir.join(".cache"),
    };
    let component = Plugins::open(places)?.find(&name, &|_, _| true)?;
    let info = component.info();
    let schema: serde_json::Value = serde_json::from_str(&info.config_schema).unwrap_or_default();
    Ok(json!({ "version": info.version, "summary": info.summary, "config": schema }))
}
