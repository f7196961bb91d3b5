//! `weir plugin`: components on disk and in the plugin store.

mod author;
mod gc;
mod inspect;
mod store;
mod tryout;
mod verify;

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::Exit;
use super::remote::{Remote, local_only};
use crate::error::{Error, Kind, Result};
use crate::http::client::Client;
use crate::plugin::{self, Places, Plugins, Stop};

#[derive(Debug, Args)]
pub(super) struct PluginArgs {
    #[command(subcommand)]
    verb: PluginVerb,
}

#[derive(Debug, Subcommand)]
enum PluginVerb {
    #[command(flatten)]
    Author(author::AuthorVerb),
    /// List plugins: loose builds and pushed versions
    Ls(store::LsArgs),
    /// Show what a plugin says of itself and what it can use: version, digest, imports, the keys it accepts
    Inspect(inspect::InspectArgs),
    /// Check a component and put it into the plugin store under its name and version, for good
    Push(store::PushArgs),
    /// Take a pushed version out of use; pipelines that run it by digest go on
    Yank(store::YankArgs),
    /// Delete from the plugin store what no version, log or config needs
    Gc(gc::GcArgs),
    /// The compiler's process: takes a component on stdin, gives native code on stdout
    #[command(hide = true)]
    Compile {
        #[arg(long, value_parser = ["time", "fuel"])]
        stop: String,
    },
}

/// The default of `plugin.path`.
const PLUGIN_PATH: &str = "data/plugins";

/// Where plugins are.
#[derive(Debug, Clone, Args)]
pub(super) struct PlacesArgs {
    /// Directory of your own builds, <name>.wasm
    #[arg(long, value_name = "DIR", default_value = PLUGIN_PATH)]
    pub plugin_path: PathBuf,
    /// The plugin store [default: <plugin-path>/store]
    #[arg(long, value_name = "DIR")]
    pub plugin_store: Option<PathBuf>,
    /// Native code, rebuilt when it is gone [default: <plugin-path>/.cache]
    #[arg(long, value_name = "DIR")]
    pub plugin_cache: Option<PathBuf>,
}

impl PlacesArgs {
    pub(super) fn places(&self) -> Places {
        let or = |given: &Option<PathBuf>, name: &str| match given {
            Some(given) => given.clone(),
            None => self.plugin_path.join(name),
        };
        Places {
            path: self.plugin_path.clone(),
            store: or(&self.plugin_store, "store"),
            cache: or(&self.plugin_cache, ".cache"),
        }
    }

    pub(super) fn open(&self) -> Result<Plugins> {
        Plugins::open(self.places())
    }

    /// The daemon to ask, if there is one; WEIR_URL is ignored if directories of this machine are named.
    fn client(&self, remote: &Remote, at: &str) -> Result<Option<Client>> {
        let given = self.plugin_store.is_some()
            || self.plugin_cache.is_some()
            || self.plugin_path != Path::new(PLUGIN_PATH);
        if given && !remote.is_named() {
            return Ok(None);
        }
        let client = remote.client(at)?;
        if client.is_some() {
            local_only(&[("--plugin-path, --plugin-store or --plugin-cache", given)])?;
        }
        Ok(client)
    }
}

pub(super) fn plugin(args: &PluginArgs) -> Result<Exit> {
    match &args.verb {
        PluginVerb::Author(verb) => author::author(verb),
        PluginVerb::Ls(args) => store::ls(args),
        PluginVerb::Inspect(args) => inspect::inspect(args),
        PluginVerb::Push(args) => store::push(args),
        PluginVerb::Yank(args) => store::yank(args),
        PluginVerb::Gc(args) => gc::gc(args),
        PluginVerb::Compile { stop } => compile(stop),
    }
}

fn compile(stop: &str) -> Result<Exit> {
    let stop = match stop {
        "fuel" => Stop::Fuel,
        _ => Stop::Time,
    };
    let failed = |e: io::Error| {
        Error::new(Kind::Bug, "plugin.compile", "the pipes to the parent broke").source(e)
    };
    match plugin::compile_stdin(stop).map_err(failed)? {
        true => Ok(Exit::Ok),
        false => Ok(Exit::Failed),
    }
}

/// The bytes of a file that the command line names.
fn read(path: &Path) -> Result<Vec<u8>> {
    crate::fs::read(path, plugin::KEPT).map_err(|e| {
        let message = format!("{} cannot be read", path.display());
        Error::new(Kind::PluginRefused, "plugin.read", message).source(e)
    })
}
