//! Finds the commit logs of a NAME or URL on the command line. A name is that of a pipeline, looked up in config files.

use std::path::Path;
use std::sync::Arc;

use clap::Args;

use crate::clock::SystemClock;
use crate::commit::{Log, LogName};
use crate::config::{self, Location, Overlay, PipelineConfig};
use crate::connect;
use crate::connectors::CATALOG;
use crate::error::{Error, Kind, Result};
use crate::operations;
use crate::store::{self, Store};

#[derive(Debug, Args)]
pub(super) struct Where {
    /// Root of a zone (data/raw_zone, file:data/raw_zone, s3://bucket/zone), a config file, or a pipeline's name
    #[arg(value_name = "NAME|URL|FILE")]
    pub at: String,
    /// Where to look for the config of a pipeline's name
    #[arg(long, value_name = "DIR", default_value = "conf")]
    pub conf: String,
    /// Only this pipeline's log, if a root has several
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
}

/// A store and the logs found in it, at least one.
#[derive(Debug)]
pub(super) struct Found {
    pub store: Arc<dyn Store>,
    pub logs: Vec<LogName>,
}

impl Where {
    /// Every log of one place, a pipeline's name looked up in `conf`.
    pub(super) fn at(at: &str) -> Where {
        Where {
            at: at.to_owned(),
            conf: "conf".to_owned(),
            pipeline: None,
        }
    }

    pub(super) fn find(&self) -> Result<Found> {
        if is_url(&self.at) {
            let at = Location::of(self.at.trim_end_matches('/'));
            return found(&at, |log| self.wanted(log));
        }
        if Path::new(&self.at).is_dir() {
            let at = format!("file:{}", self.at.trim_end_matches('/'));
            return found(&Location::of(&at), |log| self.wanted(log));
        }
        let config = config_of(&self.at, &self.conf, &Overlay::default())?;
        let (pipeline, zone) = (&config.name, &config.home.zone);
        found(&config.home.at, |log| {
            log.pipeline == *pipeline && log.zone == *zone
        })
    }

    fn wanted(&self, log: &LogName) -> bool {
        self.pipeline
            .as_ref()
            .is_none_or(|name| log.pipeline == *name)
    }
}

/// The config of a pipeline's name or in a file, with its overrides. `--set` for other pipelines of a run is ignored.
pub(super) fn config_of(at: &str, conf: &str, overlay: &Overlay) -> Result<PipelineConfig> {
    let file = match Path::new(at).is_file() {
        true => at.to_owned(),
        false => file_of(at, conf)?,
    };
    let name = names_in(&file).pop().unwrap_or_default();
    let mine = |set: &&String| match set.split_once('=').and_then(|(key, _)| key.split_once(':')) {
        Some((pipeline, _)) => pipeline.trim() == name,
        None => true,
    };
    let overlay = Overlay {
        profile: overlay.profile.clone(),
        set: overlay.set.iter().filter(mine).cloned().collect(),
    };
    let loaded = connect::load(std::slice::from_ref(&file), &overlay);
    let refused = || config::refused(&loaded.problems).hint(format!("see `weir check {file}`"));
    match loaded.pipelines.first() {
        Some(pipeline) if !loaded.has_errors() => Ok(pipeline.clone()),
        _ => Err(refused()),
    }
}

/// The config file of a pipeline's name.
fn file_of(name: &str, conf: &str) -> Result<String> {
    let mut known = Vec::new();
    let files = std::fs::read_dir(conf).into_iter().flatten().flatten();
    for file in files {
        let path = file.path();
        let readable = path
            .extension()
            .is_some_and(|e| e == "toml" || e == "properties" || e == "json");
        let Some(path) = path.to_str().filter(|_| readable) else {
            continue;
        };
        let names = names_in(path);
        if names.iter().any(|found| found == name) {
            return Ok(path.to_owned());
        }
        known.extend(names);
    }
    known.sort();
    let message = format!("no config in {conf}/ has a pipeline `{name}`");
    let hint = match known.is_empty() {
        true => "give the zone's URL (file:data/raw_zone) or a config file".to_owned(),
        false => format!(
            "pipelines there: {}; or give the zone's URL",
            known.join(", ")
        ),
    };
    Err(Error::new(Kind::ConfigInvalid, "cli.find", message).hint(hint))
}

fn names_in(file: &str) -> Vec<String> {
    let (raws, _) = config::load_raw(&[file.to_owned()], &Overlay::default(), &CATALOG);
    let names = raws.iter().filter_map(|(raw, _)| raw.get("name"));
    names.map(|entry| entry.value.typed().to_owned()).collect()
}

/// Opens for reading; nothing is recovered, published or collected.
pub(super) fn open(found: &Found, name: &LogName) -> Result<Log> {
    operations::open(&found.store, name, &SystemClock::shared())
}

pub(super) fn is_url(text: &str) -> bool {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    scheme.len() > 1
        && scheme
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn found(at: &Location, wanted: impl Fn(&LogName) -> bool) -> Result<Found> {
    let nothing = |message: String| {
        Error::new(Kind::ConfigInvalid, "cli.find", message)
            .hint("a zone's root has `_system/<pipeline>/<zone>/log/`; give the sink.url of a pipeline that has run")
    };
    let url = &at.url;
    let Some(store) = store::open_existing(at)? else {
        return Err(nothing(format!("{url} is not there")));
    };
    let mut logs = operations::logs_in(store.as_ref())?;
    logs.retain(wanted);
    if logs.is_empty() {
        return Err(nothing(format!("{url} has no such commit log")));
    }
    logs.sort_by_key(LogName::dir);
    Ok(Found { store, logs })
}
