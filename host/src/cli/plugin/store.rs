//! `weir plugin push`, `ls`, `yank`: versions by name.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{PlacesArgs, read};
use crate::cli::place::Where;
use crate::cli::remote::{Remote, local_only, read as value};
use crate::cli::{Exit, say, say_json, table};
use crate::clock::SystemClock;
use crate::commit::Writer;
use crate::config::Text;
use crate::error::{Error, Kind, Result};
use crate::http::client::{Carries, Client, query, segment};
use crate::operations::plugins::{self as ops_plugins, Claim, InForce, Listed, Pushed, Yanked};
use crate::operations::short;
use crate::plugin::MAX_COMPONENT_BYTES;
use crate::telemetry::bytes;

#[derive(Debug, Args)]
pub(super) struct LsArgs {
    #[command(flatten)]
    places: PlacesArgs,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
pub(super) struct PushArgs {
    /// The component: a file, or the name of a loose build in --plugin-path
    #[arg(value_name = "FILE.wasm|NAME")]
    file: PathBuf,
    #[command(flatten)]
    places: PlacesArgs,
    /// Check it, but write nothing into the store
    #[arg(long)]
    dry_run: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
pub(super) struct YankArgs {
    /// A pushed version
    #[arg(value_name = "NAME@VERSION")]
    plugin: String,
    /// Put it back into use
    #[arg(long)]
    undo: bool,
    /// Say which pipelines of this zone have it in force; may be given several times
    #[arg(long, value_name = "NAME|URL|FILE")]
    zone: Vec<String>,
    #[command(flatten)]
    places: PlacesArgs,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn push(args: &PushArgs) -> Result<Exit> {
    let file = args.component();
    let named = |e: Error| e.with("plugin", file.display());
    // A path names what is pushed; the daemon decides where it is stored.
    let client = match args.remote.is_named() {
        true => args.remote.client("")?,
        false => args.places.client(&args.remote, "")?,
    };
    if let Some(client) = client {
        return push_remote(&client, &file, args).map_err(named);
    }
    let plugins = args.places.open()?;
    let pushed = ops_plugins::push(
        &plugins,
        read(&file)?,
        Claim::default(),
        &SystemClock::shared(),
        &whoami(),
        args.dry_run,
    );
    let pushed = pushed.map_err(|refused| named(*refused.error))?;
    show_pushed(&pushed, args.json)
}

impl PushArgs {
    /// A name without a path or an ending means a loose build.
    fn component(&self) -> PathBuf {
        let bare = self.file.components().count() == 1 && self.file.extension().is_none();
        match bare && !self.file.exists() {
            true => (self.places.plugin_path).join(format!("{}.wasm", self.file.display())),
            false => self.file.clone(),
        }
    }
}

fn push_remote(client: &Client, file: &Path, args: &PushArgs) -> Result<Exit> {
    let bytes = read(file)?;
    // The same limit as for a local push; the daemon's own limit may be lower.
    if bytes.len() > MAX_COMPONENT_BYTES {
        let message = format!("{} bytes; at most {MAX_COMPONENT_BYTES}", bytes.len());
        return Err(Error::new(Kind::PluginRefused, "plugin.push", message)
            .hint("build it with --release and strip = true"));
    }
    let dry_run = args.dry_run.then(|| "true".to_owned());
    let path = format!("/plugins{}", query(&[("dry_run", dry_run)]));
    let pushed = value(client.post(&path, &Carries::Bytes(bytes))?)?;
    show_pushed(&pushed, args.json)
}

fn show_pushed(pushed: &Pushed, json: bool) -> Result<Exit> {
    if json {
        say_json(pushed)?;
        return Ok(Exit::Ok);
    }
    let done = if pushed.dry_run {
        "would push"
    } else {
        "pushed"
    };
    say(format!(
        "{done} {}@{} ({}) into {}",
        pushed.plugin,
        pushed.version,
        bytes(pushed.bytes),
        pushed.store,
    ));
    say(&pushed.digest);
    Ok(Exit::Ok)
}

/// `user@host`, for people.
fn whoami() -> String {
    let user = Text::new("${env:USER:-unknown}").resolve();
    let user = user.unwrap_or_else(|_| "unknown".to_owned());
    let writer = Writer::this_process(&*SystemClock::shared()).id;
    let host = writer.rsplit_once(':').map_or("", |(host, _)| host);
    format!("{user}@{host}")
}

pub(super) fn ls(args: &LsArgs) -> Result<Exit> {
    if let Some(client) = args.places.client(&args.remote, "")? {
        let listed: Vec<Listed> = value(client.get("/plugins")?)?;
        if listed.is_empty() && !args.json {
            say(format!("no plugins at {}", client.url()));
            return Ok(Exit::Ok);
        }
        return show_list(listed, args.json);
    }
    let plugins = args.places.open()?;
    let listed = ops_plugins::list(&plugins)?;
    show_list(listed, args.json)
}

fn show_list(listed: Vec<Listed>, json: bool) -> Result<Exit> {
    if json {
        listed.iter().try_for_each(say_json)?;
        return Ok(Exit::Ok);
    }
    let head = ["PLUGIN", "VERSION", "BYTES", "WHERE", "PUSHED", "DIGEST"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for one in listed {
        let place = match (&one.path, one.yanked) {
            (Some(_), _) => "loose",
            (None, _) if one.shipped => "shipped",
            (None, false) => "store",
            (None, true) => "store, yanked",
        };
        let pushed = one
            .pushed
            .map_or_else(|| "-".to_owned(), |p| format!("{} {}", p.at, p.by));
        let note = match one.note.as_str() {
            "" => String::new(),
            note => format!("  {note}"),
        };
        let version = if one.version.is_empty() {
            "-"
        } else {
            &one.version
        };
        rows.push(vec![
            one.plugin,
            version.to_owned(),
            one.bytes.map_or_else(|| "-".to_owned(), bytes),
            place.to_owned(),
            pushed,
            format!("sha256:{}{note}", short(&one.digest)),
        ]);
    }
    table(&rows);
    Ok(Exit::Ok)
}

pub(super) fn yank(args: &YankArgs) -> Result<Exit> {
    let Some((name, version)) = args.plugin.split_once('@') else {
        let message = format!("`{}` is no version of a plugin", args.plugin);
        return Err(Error::new(Kind::ConfigInvalid, "plugin.yank", message)
            .hint("NAME@VERSION, as `weir plugin ls` lists it"));
    };
    if let Some(client) = args.places.client(&args.remote, "")? {
        local_only(&[("--zone", !args.zone.is_empty())])?;
        let verb = if args.undo { "unyank" } else { "yank" };
        let dry_run = args.dry_run.then(|| "true".to_owned());
        let (name, version) = (segment(name), segment(version));
        let query = query(&[("dry_run", dry_run)]);
        let path = format!("/plugins/{name}/{version}/{verb}{query}");
        let yanked = value(client.post(&path, &Carries::Nothing)?)?;
        return show_yanked(&yanked, "of this daemon", args.json);
    }
    let plugins = args.places.open()?;
    let running = |digest: &str| in_force(&args.zone, digest);
    let yanked = ops_plugins::yank(&plugins, (name, version), args.undo, args.dry_run, running)?;
    let looked = if args.zone.is_empty() {
        ""
    } else {
        "of these zones"
    };
    show_yanked(&yanked, looked, args.json)
}

/// `looked`: where pipelines that have it in force were searched; empty: nowhere.
fn show_yanked(yanked: &Yanked, looked: &str, json: bool) -> Result<Exit> {
    if json {
        say_json(yanked)?;
        return Ok(Exit::Ok);
    }
    let (name, version) = (&yanked.plugin, &yanked.version);
    let would = if yanked.dry_run { "would be " } else { "" };
    let done = if yanked.yanked {
        "yanked"
    } else {
        "back in use"
    };
    say(format!("{name}@{version} {would}{done}: {}", yanked.digest));
    for InForce { pipeline, zone } in &yanked.in_force {
        say(format!("in force in pipeline {pipeline} (zone {zone})"));
    }
    if !yanked.in_force.is_empty() && yanked.yanked {
        say(format!(
            "what runs goes on; the next start takes another version, or this build if its config says type = \"{name}@{}\"",
            yanked.digest
        ));
    }
    if yanked.in_force.is_empty() && !looked.is_empty() {
        say(format!("in force in no pipeline {looked}"));
    }
    Ok(Exit::Ok)
}

/// Pipelines and zones whose rules in force have this component.
fn in_force(zones: &[String], digest: &str) -> Result<Vec<InForce>> {
    let clock = SystemClock::shared();
    let mut running = Vec::new();
    for at in zones {
        let found = Where::at(at).find()?;
        running.extend(ops_plugins::in_force(
            &found.store,
            &found.logs,
            &clock,
            digest,
        )?);
    }
    Ok(running)
}
