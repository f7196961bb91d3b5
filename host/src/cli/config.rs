//! `weir config show`: the flat map, and with `--resolved` what every key means.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Configs, Exit, print_problems, say, table};
use crate::config::keys::{Default, KEYS, Scope};
use crate::config::{self, Problem, Raw};
use crate::error::Result;

#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Print the flat map of each file, profile and --set applied; references stay references
    Show {
        #[command(flatten)]
        configs: Configs,
        /// Also the defaults, and where each value comes from
        #[arg(long)]
        resolved: bool,
        /// As JSON: {"name": …, "config": {…}} per pipeline, as Connect's clients send it
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn config(args: &ConfigArgs) -> Result<Exit> {
    let ConfigVerb::Show {
        configs,
        resolved,
        json,
    } = &args.verb;
    let (raws, problems) = config::load_raw(&configs.files, &configs.overlay());
    print_problems(&problems);
    for (raw, _) in raws.iter().filter(|(_, readable)| *readable) {
        match json {
            true => say(as_json(raw, *resolved).to_string()),
            false => as_lines(raw, *resolved),
        }
    }
    let failed = problems.iter().any(Problem::is_error);
    Ok(if failed { Exit::Usage } else { Exit::Ok })
}

fn as_json(raw: &Raw, resolved: bool) -> serde_json::Value {
    let mut map = raw.canonical();
    if resolved {
        for (key, default) in defaults(raw) {
            map.entry(key.to_owned()).or_insert(default);
        }
    }
    json!({ "name": map.get("name"), "config": map })
}

fn as_lines(raw: &Raw, resolved: bool) {
    if !resolved {
        for (key, value) in raw.canonical() {
            say(format!("{key}={value}"));
        }
        return;
    }
    let mut rows = BTreeMap::new();
    for (key, default) in defaults(raw) {
        rows.insert(key.to_owned(), (default, "default".to_owned()));
    }
    for (key, entry) in raw.iter() {
        rows.insert(
            key.to_owned(),
            (entry.value.to_string(), entry.place.to_string()),
        );
    }
    let mut lines = vec![vec![
        "KEY".to_owned(),
        "VALUE".to_owned(),
        "FROM".to_owned(),
    ]];
    lines.extend(rows.into_iter().map(|(k, (v, from))| vec![k, v, from]));
    table(&lines);
}

/// Of the keys that this source can have.
fn defaults(raw: &Raw) -> Vec<(&'static str, String)> {
    let zone = raw
        .get("source.type")
        .is_some_and(|e| e.value.typed() == "zone");
    let other = if zone { Scope::Kafka } else { Scope::Zone };
    KEYS.iter()
        .filter(|def| def.scope != other)
        .filter_map(|def| match def.default {
            Default::Is(value) => Some((def.name, value.to_owned())),
            Default::Derived(how) => Some((def.name, format!("({how})"))),
            Default::Required(_) | Default::Unset => None,
        })
        .collect()
}
