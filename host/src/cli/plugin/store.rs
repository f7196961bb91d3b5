//! `weir plugin push`, `ls`, `yank`: versions by name.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{PlacesArgs, read};
use crate::cli::log::utc;
use crate::cli::place::{self, Where};
use crate::cli::{Exit, say, table};
use crate::clock::SystemClock;
use crate::commit::{self, Writer};
use crate::config::Text;
use crate::error::{Error, Kind, Result};
use crate::plugin::{Plugins, Pushed, Ref};
use crate::telemetry::bytes;

#[derive(Debug, Args)]
pub(super) struct LsArgs {
    #[command(flatten)]
    places: PlacesArgs,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct PushArgs {
    /// The component
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
    #[command(flatten)]
    places: PlacesArgs,
    /// Check it, but write nothing into the store
    #[arg(long)]
    dry_run: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
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
}

pub(super) fn push(args: &PushArgs) -> Result<Exit> {
    let plugins = args.places.open()?;
    let named = |e: Error| e.with("plugin", args.file.display());
    let component = plugins.from_bytes(read(&args.file)?).map_err(named)?;
    let (info, digest) = (component.info(), component.digest());
    let pushed = Pushed {
        digest: digest.to_owned(),
        at: SystemClock::shared().now_micros(),
        by: whoami(),
    };
    let store = plugins.store();
    if args.dry_run {
        store.may_push(&info.name, &info.version, digest)?;
    } else {
        store.put_blob(digest, component.bytes())?;
        store.push(&info.name, &info.version, &pushed)?;
    }
    let size = component.bytes().len() as u64;
    if args.json {
        say(json!({
            "plugin": info.name, "version": info.version, "digest": digest, "bytes": size,
            "store": store.root().display().to_string(), "dry_run": args.dry_run,
        })
        .to_string());
        return Ok(Exit::Ok);
    }
    let done = if args.dry_run { "would push" } else { "pushed" };
    let store = store.root().display();
    say(format!(
        "{done} {}@{} ({}) into {store}\n{digest}",
        info.name,
        info.version,
        bytes(size)
    ));
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

/// One line of the list.
#[derive(Debug)]
struct Listed {
    name: String,
    /// Empty where the file is refused; `note` says why.
    version: String,
    digest: String,
    bytes: Option<u64>,
    /// Path of a loose file; none for a pushed version.
    path: Option<PathBuf>,
    pushed: Option<Pushed>,
    yanked: bool,
    note: String,
}

pub(super) fn ls(args: &LsArgs) -> Result<Exit> {
    let plugins = args.places.open()?;
    let mut listed = loose(&plugins)?;
    let mut refs = plugins.store().all_refs()?;
    refs.sort_by(|a, b| (&a.name, a.pushed.at).cmp(&(&b.name, b.pushed.at)));
    for Ref {
        name,
        version,
        pushed,
        yanked,
    } in refs
    {
        let blob = plugins.store().blob_path(&pushed.digest)?;
        let size = std::fs::metadata(&blob).map(|found| found.len()).ok();
        let missing = if size.is_none() {
            "not in the store"
        } else {
            ""
        };
        listed.push(Listed {
            name,
            version,
            digest: pushed.digest.clone(),
            bytes: size,
            path: None,
            pushed: Some(pushed),
            yanked,
            note: missing.to_owned(),
        });
    }
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    if args.json {
        for one in listed {
            say(json!({
                "plugin": one.name, "version": one.version, "digest": one.digest, "bytes": one.bytes,
                "path": one.path.map(|p| p.display().to_string()), "yanked": one.yanked, "note": one.note,
                "pushed": one.pushed.map(|p| json!({ "at": utc(p.at), "by": p.by })),
            })
            .to_string());
        }
        return Ok(Exit::Ok);
    }
    let head = ["PLUGIN", "VERSION", "BYTES", "WHERE", "PUSHED", "DIGEST"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for one in listed {
        let place = match (&one.path, one.yanked) {
            (Some(_), _) => "loose",
            (None, false) => "store",
            (None, true) => "store, yanked",
        };
        let pushed = one
            .pushed
            .map_or_else(|| "-".to_owned(), |p| format!("{} {}", utc(p.at), p.by));
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
            one.name,
            version.to_owned(),
            one.bytes.map_or_else(|| "-".to_owned(), bytes),
            place.to_owned(),
            pushed,
            format!("{}{note}", one.digest),
        ]);
    }
    if rows.len() == 1 {
        let (path, store) = (plugins.path().display(), plugins.store().root().display());
        say(format!(
            "no plugins in {path} or {store}; `make plugins` builds the shipped ones"
        ));
        return Ok(Exit::Ok);
    }
    table(&rows);
    Ok(Exit::Ok)
}

/// The loose files; one that is refused is listed with the reason.
fn loose(plugins: &Plugins) -> Result<Vec<Listed>> {
    let entries = match std::fs::read_dir(plugins.path()) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => {
            let message = format!("{} cannot be read", plugins.path().display());
            return Err(Error::new(Kind::PluginRefused, "plugin.ls", message).source(e));
        }
    };
    let mut listed = Vec::new();
    for path in entries.flatten().map(|file| file.path()) {
        if path.extension().is_none_or(|e| e != "wasm") {
            continue;
        }
        let content = read(&path)?;
        let (size, digest) = (content.len() as u64, commit::digest(&content));
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let (version, note) = match plugins.from_bytes(content) {
            Ok(c) if c.info().name == stem => (c.info().version.clone(), String::new()),
            Ok(c) => (String::new(), format!("calls itself `{}`", c.info().name)),
            Err(e) => (String::new(), format!("refused: {}", e.message())),
        };
        listed.push(Listed {
            name: stem.into_owned(),
            version,
            digest,
            bytes: Some(size),
            path: Some(path),
            pushed: None,
            yanked: false,
            note,
        });
    }
    Ok(listed)
}

pub(super) fn yank(args: &YankArgs) -> Result<Exit> {
    let Some((name, version)) = args.plugin.split_once('@') else {
        let message = format!("`{}` is no version of a plugin", args.plugin);
        return Err(Error::new(Kind::ConfigInvalid, "plugin.yank", message)
            .hint("NAME@VERSION, as `weir plugin ls` lists it"));
    };
    let plugins = args.places.open()?;
    let store = plugins.store();
    let found = store.pushed(name, version)?;
    let running = in_force(&args.zone, &found.pushed.digest)?;
    if !args.dry_run {
        store.yank(name, version, !args.undo)?;
    }
    if args.json {
        let running: Vec<_> = (running.iter())
            .map(|(pipeline, zone)| json!({ "pipeline": pipeline, "zone": zone }))
            .collect();
        say(json!({
            "plugin": name, "version": version, "digest": found.pushed.digest,
            "yanked": !args.undo, "in_force": running, "dry_run": args.dry_run,
        })
        .to_string());
        return Ok(Exit::Ok);
    }
    let would = if args.dry_run { "would be " } else { "" };
    let done = if args.undo { "back in use" } else { "yanked" };
    say(format!(
        "{name}@{version} {would}{done}: {}",
        found.pushed.digest
    ));
    for (pipeline, zone) in &running {
        say(format!("in force in pipeline {pipeline} (zone {zone})"));
    }
    if !running.is_empty() && !args.undo {
        say(format!(
            "what runs goes on; the next start takes another version, or this build if its config says type = \"{name}@{}\"",
            found.pushed.digest
        ));
    }
    if running.is_empty() && !args.zone.is_empty() {
        say("in force in no pipeline of these zones");
    }
    Ok(Exit::Ok)
}

/// Pipelines and zones whose rules in force have this component.
fn in_force(zones: &[String], digest: &str) -> Result<Vec<(String, String)>> {
    let mut running = Vec::new();
    for at in zones {
        let found = Where::at(at).find()?;
        for name in &found.logs {
            let log = place::open(&found, name)?;
            if log
                .state()
                .rules
                .rules
                .iter()
                .any(|rule| rule.component == digest)
            {
                running.push((name.pipeline.clone(), name.zone.clone()));
            }
        }
    }
    Ok(running)
}
