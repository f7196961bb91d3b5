//! `weir config show`: the flat map, and with `--resolved` what every key means. `weir config convert`: a config of Kafka
//! Connect in native keys.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Configs, Exit, print_problems, say, say_lines, say_value, table};
use crate::author::input;
use crate::config::keys::Default;
use crate::config::{self, Overlay, Problem, Raw, What};
use crate::connect::{self, Defaults, Note, render};
use crate::connectors::CATALOG;
use crate::error::{Error, Kind, Result};

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
    /// Print a Kafka Connect sink config in native keys, with what changes in meaning as comments
    ///
    /// Confluent's sinks of S3, HDFS, GCS and Azure are understood. A key that cannot be honoured is a problem, as in
    /// `weir check`.
    Convert(ConvertArgs),
}

#[derive(Debug, Args)]
struct ConvertArgs {
    /// Connect's config: JSON, .properties, or a KafkaConnector of Strimzi (.yaml)
    #[arg(value_name = "FILE")]
    file: String,
    /// Messages of the topic, one per line, or a folder of them: columns of JSON are learned from them
    #[arg(long, value_name = "FILE")]
    sample: Option<PathBuf>,
    /// Override a key of the file, or set a native one: sink.url=file:/mnt/lake
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A directory that replaces a store: s3://bucket=file:/mnt/bucket
    #[arg(long, value_name = "PREFIX=URL")]
    store: Vec<String>,
    /// Connect worker's file (connect-distributed.properties): its brokers, converters and client settings hold
    #[arg(long, value_name = "FILE")]
    worker: Option<String>,
    /// Write Parquet, whatever `format.class` says
    #[arg(long)]
    parquet_instead: bool,
    /// TOML with the notes as comments (the default)
    #[arg(long, conflicts_with_all = ["json", "properties"])]
    toml: bool,
    /// .properties with the notes as comments
    #[arg(long, conflicts_with = "json")]
    properties: bool,
    /// Connect's JSON; the notes go to stderr
    #[arg(long)]
    json: bool,
}

pub(super) fn config(args: &ConfigArgs) -> Result<Exit> {
    match &args.verb {
        ConfigVerb::Show {
            configs,
            resolved,
            json,
        } => show(configs, *resolved, *json),
        ConfigVerb::Convert(args) => convert(args),
    }
}

fn show(configs: &Configs, resolved: bool, json: bool) -> Result<Exit> {
    let (raws, problems) = config::load_pipelines(&configs.files, &configs.overlay(), &CATALOG);
    print_problems(&problems);
    for (raw, _) in raws.iter().filter(|(_, readable)| *readable) {
        match json {
            true => say_value(&as_json(raw, resolved)),
            false => as_lines(raw, resolved),
        }
    }
    let failed = problems.iter().any(Problem::is_error);
    Ok(if failed { Exit::Usage } else { Exit::Ok })
}

/// The brokers if nothing names any.
const SERVERS: &str = "${env:KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}";

fn convert(args: &ConvertArgs) -> Result<Exit> {
    let overlay = Overlay {
        set: args.set.clone(),
        ..Overlay::default()
    };
    let (raws, mut problems) =
        config::load_pipelines(std::slice::from_ref(&args.file), &overlay, &CATALOG);
    if raws.iter().any(|(raw, _)| What::of(raw) == What::Worker) {
        let file = &args.file;
        let message = format!("{file} is a worker's file: nothing has to be converted");
        return Err(Error::new(Kind::ConfigInvalid, "config.convert", message).hint(format!(
            "`weir daemon {file}` reads it as it is, and `weir check {file}` names what it does not honour"
        )));
    }
    let sample = match &args.sample {
        Some(path) => {
            let messages = input::messages(path, false)?.into_iter();
            Some(messages.filter_map(|m| m.value).collect::<Vec<_>>())
        }
        None => None,
    };
    let (mut defaults, found) = defaults_of(args)?;
    problems.extend(found);
    let mut done = None;
    if let Some((raw, _)) = raws.iter().find(|(_, readable)| *readable) {
        let assumed = defaults.assume(raw);
        let (translated, found) = connect::native(raw, &defaults, sample.as_deref());
        problems.extend(found);
        if let Some(mut translated) = translated {
            translated.notes.splice(0..0, assumed);
            let (_, found) = config::check_raw(translated.raw.clone(), &CATALOG);
            problems.extend(found.into_iter().map(|problem| translated.back(problem)));
            done = Some(translated);
        }
    }
    problems.sort_by(|a, b| (&a.place, &a.key).cmp(&(&b.place, &b.key)));
    print_problems(&problems);
    let failed = problems.iter().any(Problem::is_error);
    let Some(done) = done.filter(|_| !failed) else {
        return Ok(Exit::Usage);
    };
    let about = [
        format!("Made of {} by `weir config convert`.", args.file),
        "What follows a key of Kafka Connect says what it means here.".to_owned(),
    ];
    let text = if args.json {
        for note in &done.notes {
            tell_note(note);
        }
        render::json(&done)
    } else if args.properties {
        render::properties(&done, &about)
    } else {
        render::toml(&done, &about)
    };
    say_lines(text.trim_end());
    Ok(Exit::Ok)
}

/// What stands for the worker, and the problems of its file.
fn defaults_of(args: &ConvertArgs) -> Result<(Defaults, Vec<Problem>)> {
    let mut defaults = Defaults {
        bootstrap_servers: Some(SERVERS.to_owned()),
        stores: stores(&args.store)?,
        parquet_instead: args.parquet_instead,
        ..Defaults::default()
    };
    let Some(file) = &args.worker else {
        return Ok((defaults, Vec::new()));
    };
    let (worker, problems) = config::worker::load(file, &[]);
    if let Some(worker) = worker {
        defaults.theirs = worker.theirs.clone();
        defaults.stores.extend(worker.stores.iter().cloned());
        if let Some(servers) = &worker.bootstrap_servers {
            defaults.bootstrap_servers = Some(servers.clone());
        }
    }
    Ok((defaults, problems))
}

/// URL prefix of another system and the store that replaces it.
fn stores(given: &[String]) -> Result<Vec<(String, String)>> {
    let mut stores = Vec::new();
    for store in given {
        let Some((prefix, url)) = store.split_once('=') else {
            let message = format!("`--store {store}` has no `=`");
            return Err(Error::new(Kind::ConfigInvalid, "config.convert", message)
                .hint("write --store s3://bucket=file:/mnt/bucket"));
        };
        stores.push((prefix.to_owned(), url.to_owned()));
    }
    Ok(stores)
}

fn tell_note(note: &Note) {
    super::to_stderr(&format!("note: {}: {}\n", note.key, note.text));
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

/// The keys that this source and this sink can have.
fn defaults(raw: &Raw) -> Vec<(&'static str, String)> {
    let (source, sink) = (CATALOG.source_of(raw), CATALOG.sink_of(raw));
    CATALOG
        .keys()
        .filter(|def| CATALOG.takes(source, sink, def.name))
        .filter_map(|def| match def.default {
            Default::Is(value) => Some((def.name, value.to_owned())),
            Default::Derived(how) => Some((def.name, format!("({how})"))),
            Default::Required(_) | Default::Unset => None,
        })
        .collect()
}
