//! What a config may use of this machine. Its origin decides, which the journal records.
//!
//! It is checked when a config comes, when the daemon starts, each time the pipeline begins and each time REST asks
//! about it: links and directories may have changed meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Job, journal};
use crate::config::keys::{HEADERS_PREFIX, KAFKA_PREFIX, SINK_KAFKA_PREFIX, TRANSFORM_PREFIX};
use crate::config::librdkafka::{Property, Takes, property};
use crate::config::raw::{CONNECTOR_CLASS, OUR_CLASS};
use crate::config::reach::{Bounds, Denied};
use crate::config::secrets::is_secret_name;
use crate::config::text::Referred;
use crate::config::worker::WorkerConfig;
use crate::config::{
    Location, PipelineConfig, Place, Problem, Raw, Reach, Source, Text, problem, reference_shows,
};
use crate::connect::{Class, Type};
use crate::error::{Error, Kind, Result};
use crate::filestream::FileJob;
use crate::fs;
use crate::store;

/// Where a config came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Origin {
    /// A user who may write over HTTP; also assumed for journals of earlier versions, which do not say it.
    #[default]
    Rest,
    /// A file that the worker's `pipelines` names.
    Operator,
}

impl Origin {
    pub fn is_rest(&self) -> bool {
        *self == Origin::Rest
    }

    pub fn reach(self, bounds: &Arc<Bounds>) -> Reach {
        match self {
            Origin::Rest => Reach::confined(bounds),
            Origin::Operator => Reach::free(bounds),
        }
    }
}

/// What the worker's file allows, and the daemon's own directories.
pub fn bounds(worker: &WorkerConfig) -> Arc<Bounds> {
    let whole = |path: &Path| fs::resolve(path).unwrap_or_else(|_| path.to_owned());
    let allow = &worker.allow;
    let mut roots: Vec<PathBuf> = allow.roots.iter().map(|root| whole(root)).collect();
    if roots.is_empty() {
        roots.push(whole(Path::new(".")));
    }
    let stores = worker
        .stores
        .iter()
        .filter_map(|(_, url)| store::directory_of(url));
    roots.extend(stores.map(|directory| whole(&directory)));
    let (mut own, mut own_env) = (Vec::new(), BTreeSet::new());
    for (_, entry) in worker.raw.iter() {
        for referred in entry.value.refers_to() {
            match referred {
                Referred::Env(name) => drop(own_env.insert(name)),
                Referred::File(path) => own.push(whole(&path)),
            }
        }
    }
    for below in ["journal", journal::NEW, "lock", "files", "lines"] {
        own.push(whole(&worker.data_dir.join(below)));
    }
    own.push(whole(Path::new(worker.raw.file.as_ref())));
    own.extend(worker.pipelines.iter().map(|file| whole(Path::new(file))));
    let tls = worker.rest.tls.iter();
    own.extend(tls.flat_map(|tls| [whole(&tls.certificate), whole(&tls.key)]));
    let directories = [
        &worker.data_dir,
        &worker.plugin_path,
        &worker.plugin_store,
        &worker.plugin_cache,
    ];
    let directories = directories
        .into_iter()
        .chain(&worker.log_dir)
        .map(|dir| whole(dir));
    // A directory that contains a whole root would leave nothing of the root.
    own.extend(directories.filter(|dir| !roots.iter().any(|root| root.starts_with(dir))));
    Arc::new(Bounds {
        own,
        own_env,
        roots,
        env: allow.env.clone(),
        identity: allow.identity.clone(),
        files: allow.files.iter().map(|path| whole(path)).collect(),
        plugin_path: whole(&worker.plugin_path),
        plugin_store: whole(&worker.plugin_store),
        plugin_cache: whole(&worker.plugin_cache),
    })
}

// ------------------------------------------------------------------ references

/// Problems of references in a config by REST: in keys whose value would be shown, or to something that is not allowed.
pub fn references(name: &str, config: &BTreeMap<String, String>, reach: &Reach) -> Vec<Problem> {
    if !reach.is_confined() {
        return Vec::new();
    }
    let mut problems = Vec::new();
    let raw = Raw::new(if name.is_empty() { "config" } else { name });
    for (key, value) in config {
        let referred = Text::new(value.as_str()).refers_to();
        if !referred.is_empty() && !may_refer(config, key) {
            problems.push(reference_shows(&raw, key));
            continue;
        }
        for referred in referred {
            let denied = match &referred {
                Referred::Env(variable) => reach.env(variable).err(),
                Referred::File(path) => reach.secrets(path).err(),
            };
            problems.extend(denied.map(|denied| refusal(raw.place(key), key, denied)));
        }
    }
    problems
}

/// Whether the value of a key is never shown, so that it may be a reference in a config of any origin.
pub fn may_refer(config: &BTreeMap<String, String>, key: &str) -> bool {
    let class = config.get(CONNECTOR_CLASS);
    let class = class.map_or(Class::find(OUR_CLASS), |class| Class::find(class.trim()));
    let hidden = |name: &str| match property(name) {
        Property::Allowed(allowed) => matches!(allowed.takes, Takes::Secret | Takes::Login),
        _ => is_secret_name(name),
    };
    for prefix in [KAFKA_PREFIX, SINK_KAFKA_PREFIX] {
        if let Some(name) = key.strip_prefix(prefix) {
            return hidden(name);
        }
    }
    for prefix in [
        "consumer.override.",
        "producer.override.",
        "admin.override.",
    ] {
        if let Some(name) = key.strip_prefix(prefix) {
            return hidden(name);
        }
    }
    let ours = class.is_some_and(|class| class.name == OUR_CLASS);
    if let Some(rest) = key.strip_prefix(TRANSFORM_PREFIX).filter(|_| ours) {
        // The plugin's schema says which of the others are secrets.
        let name = rest.split_once('.').map_or("", |(_, name)| name);
        return !["", "type", "plugin.version"].contains(&name);
    }
    // They are no secrets, but never shown, and kept together with secrets.
    let ends = |ends: &[&str]| ends.iter().any(|end| key.ends_with(end));
    if ours && (ends(&[".store.access.key.id", ".store.proxy"]) || key.starts_with(HEADERS_PREFIX))
    {
        return true;
    }
    let password = |key: &crate::connect::Key| key.kind == Type::Password;
    is_secret_name(key) || class.and_then(|class| class.key(key)).is_some_and(password)
}

// ----------------------------------------------------------------------- files

fn refusal(place: Place, key: &str, denied: Denied) -> Problem {
    let message = format!("`{key}`: {}", denied.message);
    Problem::new(place, key, problem::OUT_OF_REACH, message).hint(denied.hint)
}

/// Files and directories that a job names and may not use.
pub fn out_of_reach(job: &Job) -> Vec<Problem> {
    match job {
        Job::Pipeline(config) => of_pipeline(config),
        Job::File(FileJob::Source(job)) => {
            let denied = job.reach.path(&job.file).err();
            denied
                .map(|d| refusal(Place::start_of(&job.name), "file", d))
                .into_iter()
                .collect()
        }
        Job::File(FileJob::Sink(job)) => {
            let denied = job.reach.target(&job.file).err();
            denied
                .map(|d| refusal(Place::start_of(&job.name), "file", d))
                .into_iter()
                .collect()
        }
    }
}

fn of_pipeline(config: &PipelineConfig) -> Vec<Problem> {
    let reach = config.reach();
    let mut problems = Vec::new();
    let mut ask = |key: &str, answer: Result<(), Denied>| {
        problems.extend(answer.err().map(|d| refusal(config.place(key), key, d)));
    };
    if let Some(directory) = store::directory_of(&config.home.at.url) {
        ask(config.home.key, reach.target(&directory).map(drop));
    }
    of_store(config.home.key, &config.home.at, reach, &mut ask);
    if let Some(archive) = &config.retention.archive {
        if let Some(directory) = store::directory_of(&archive.url) {
            ask("archive.url", reach.target(&directory).map(drop));
        }
        of_store("archive.url", archive, reach, &mut ask);
    }
    for (key, text) in config.sink.files() {
        let path = Path::new(text.typed().trim());
        ask(&key, text.reach().path(path).map(drop));
    }
    for (key, text) in config.converters.files() {
        let path = Path::new(text.typed().trim());
        ask(key, text.reach().path(path).map(drop));
    }
    match &config.source {
        Source::Zone(zone) => {
            if let Some(directory) = store::directory_of(&zone.at.url) {
                ask("source.url", reach.path(&directory).map(drop));
            }
            of_store("source.url", &zone.at, reach, &mut ask);
            // Without the key it is a place that no config chose.
            if config.raw.get("spill.dir").is_some() {
                ask("spill.dir", reach.target(&zone.spill_dir).map(drop));
            }
        }
        Source::Records(records) => {
            for (key, at) in records.stores() {
                if let Some(directory) = store::directory_of(&at.url) {
                    ask(key, reach.tree(&directory).map(drop));
                }
                of_store(key, at, reach, &mut ask);
            }
            for (key, directory) in records.targets() {
                ask(key, reach.target_tree(&directory).map(drop));
            }
            for (key, text) in records.files() {
                let path = Path::new(text.typed().trim());
                ask(&key, text.reach().path(path).map(drop));
            }
        }
    }
    ask("plugin.path", reach.plugin_path(&config.plugin_path));
    ask("plugin.store", reach.plugin_store(&config.plugin_store));
    ask("plugin.cache", reach.plugin_cache(&config.plugin_cache));
    problems
}

/// Checks files that a store's keys name, and the use of this machine's credentials: both need the permission of the
/// worker's file.
fn of_store(
    url: &str,
    at: &Location,
    reach: &Reach,
    ask: &mut impl FnMut(&str, Result<(), Denied>),
) {
    for (key, text, secret) in at.options.files() {
        let path = Path::new(text.typed().trim());
        let answer = match secret {
            true => text.reach().secrets(path).map(drop),
            false => text.reach().path(path).map(drop),
        };
        ask(&key, answer);
    }
    let Some(system) = at.system().filter(|_| reach.is_confined()) else {
        return;
    };
    if at.options.uses_machine_identity(system) {
        ask(url, reach.identity(&at.url));
        if let Some(key) = at.options.elsewhere() {
            ask(&key, Err(Denied {
                message: "a config by REST may not send requests that are signed with the credentials of this machine elsewhere".to_owned(),
                hint: "take the key out, or give credentials of its own by reference".to_owned(),
            }));
        }
    }
}

/// The same when a job is about to be used: its paths may lead elsewhere than when it was accepted.
pub fn still_within(job: &Job) -> Result<()> {
    let problems = out_of_reach(job);
    match problems.first() {
        None => Ok(()),
        Some(first) => {
            let error = Error::new(Kind::ConfigInvalid, "daemon.reach", first.message.clone());
            Err(match &first.hint {
                Some(hint) => error.hint(hint.clone()),
                None => error,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::CATALOG;

    /// Keys out of reach of a config by REST that writes here, where the worker allows `identity`.
    fn out_of(keys: &[(&str, &str)], identity: &[&str]) -> Vec<String> {
        let bounds = Arc::new(Bounds {
            roots: vec!["/nowhere/roots".into()],
            files: vec!["/nowhere/secrets".into()],
            env: vec!["HOME".to_owned()],
            identity: identity.iter().map(|url| (*url).to_owned()).collect(),
            own: vec!["/nowhere/roots/data/journal".into()],
            plugin_path: fs::resolve(Path::new("data/plugins")).unwrap_or_default(),
            ..Bounds::default()
        });
        let mut raw = Raw::within("p", &Reach::confined(&bounds));
        let always = [
            ("name", "p"),
            ("source.type", "rate"),
            ("sink.type", "zone"),
        ];
        let given = |key: &str| keys.iter().any(|(given, _)| *given == key);
        let always = always.iter().filter(|(key, _)| !given(key));
        for (key, value) in always.chain(keys) {
            let place = raw.start_of_file();
            raw.insert((*key).to_owned(), (*value).to_owned(), place)
                .expect("a key");
        }
        let (config, problems) = crate::config::check_raw(raw, &CATALOG);
        let config = config.unwrap_or_else(|| panic!("{problems:?}"));
        let found = of_pipeline(&config).into_iter().map(|p| p.key);
        found.filter(|key| !key.starts_with("plugin.")).collect()
    }

    #[test]
    fn files_that_are_read_lie_where_the_worker_says() {
        let file = |url| {
            [
                ("source.type", "file"),
                ("source.url", url),
                ("source.path", "*"),
                ("sink.url", "file:/nowhere/roots/zone"),
            ]
        };
        assert_eq!(out_of(&file("file:/nowhere/roots/in"), &[]), [""; 0]);
        assert_eq!(out_of(&file("file:/etc"), &[]), ["source.url"]);
        // The daemon's journal would be among them.
        for url in ["file:/nowhere/roots", "file:/nowhere/roots/data"] {
            assert_eq!(out_of(&file(url), &[]), ["source.url"]);
        }
        assert_eq!(out_of(&file("file:/nowhere/roots/data/in"), &[]), [""; 0]);
        // Where files are taken away, a log must not be among them.
        let log = "file:/nowhere/roots/x/_system/p";
        let takes = |url, how| {
            let keys = file(url).into_iter();
            keys.chain([("source.clean.source", how)])
                .collect::<Vec<_>>()
        };
        assert_eq!(out_of(&file(log), &[]), [""; 0]);
        assert_eq!(out_of(&takes(log, "delete"), &[]), ["source.url"]);
        let both = ["source.archive.dir", "source.url"];
        assert_eq!(out_of(&takes(log, "archive"), &[]), both);
        let good = "file:/nowhere/roots/in";
        assert_eq!(out_of(&takes(good, "archive"), &[]), [""; 0]);
        assert_eq!(out_of(&file("s3://lake/in"), &[]), ["source.url"]);
        assert_eq!(out_of(&file("s3://lake/in"), &["s3://lake"]), [""; 0]);
    }

    #[test]
    fn rows_wait_on_disk_where_a_config_by_rest_may_write() {
        let zone = |dir| {
            [
                ("source.type", "zone"),
                ("source.url", "file:/nowhere/roots/raw"),
                ("source.pipeline", "raw"),
                ("source.table", "t"),
                ("sink.url", "file:/nowhere/roots/processed"),
                ("sink.partition.field", "day"),
                ("spill.dir", dir),
            ]
        };
        assert_eq!(out_of(&zone("/nowhere/roots/aside"), &[]), [""; 0]);
        for outside in ["/tmp", "/nowhere/roots/data/journal"] {
            assert_eq!(out_of(&zone(outside), &[]), ["spill.dir"]);
        }
        let all = zone("/tmp");
        assert_eq!(
            out_of(&all[..6], &[]),
            [""; 0],
            "a place that no config chose"
        );
    }

    #[test]
    fn a_config_by_rest_reaches_a_store_with_its_own_credentials_or_where_the_worker_says() {
        let lake = ("sink.url", "s3://lake/team/raw");
        assert_eq!(out_of(&[lake], &[]), ["sink.url"]);
        assert_eq!(out_of(&[lake], &["s3://lake/team"]), [""; 0]);
        assert_eq!(out_of(&[lake], &["s3://"]), [""; 0]);
        assert_eq!(out_of(&[lake], &["s3://lake/tea"]), ["sink.url"]);
        assert_eq!(
            out_of(&[lake, ("sink.store.profile", "x")], &[]),
            ["sink.url"]
        );
        // With the machine's credentials nothing is sent elsewhere.
        let elsewhere = ("sink.store.endpoint", "https://evil.example");
        let told = out_of(&[lake, elsewhere], &["s3://lake"]);
        assert_eq!(told, ["sink.store.endpoint"]);
        // With its own it may.
        let own = [
            lake,
            elsewhere,
            ("sink.store.access.key.id", "id"),
            ("sink.store.secret.access.key", "${env:HOME}"),
        ];
        assert_eq!(out_of(&own, &[]), [""; 0]);
    }

    #[test]
    fn files_of_a_store_lie_where_the_worker_says() {
        let gs = ("sink.url", "gs://lake/raw");
        let file = |path| ("sink.store.credentials.file", path);
        assert_eq!(out_of(&[gs, file("/nowhere/secrets/a.json")], &[]), [""; 0]);
        let told = out_of(&[gs, file("/nowhere/roots/a.json")], &[]);
        assert_eq!(told, ["sink.store.credentials.file"]);
        let ca = ("sink.store.ca", "/etc/ssl/ca.pem");
        let told = out_of(&[gs, file("/nowhere/secrets/a.json"), ca], &[]);
        assert_eq!(told, ["sink.store.ca"]);
        let hdfs = ("sink.url", "hdfs://ns/raw");
        assert_eq!(out_of(&[hdfs], &[]), ["sink.url"]);
        assert_eq!(out_of(&[hdfs], &["hdfs://ns"]), [""; 0]);
    }

    #[test]
    fn references_stand_where_nothing_is_shown() {
        let config = BTreeMap::from([(CONNECTOR_CLASS.to_owned(), OUR_CLASS.to_owned())]);
        for key in [
            "access.key.id",
            "secret.access.key",
            "sas.token",
            "proxy",
            "account.key",
        ] {
            assert!(may_refer(&config, &format!("sink.store.{key}")), "{key}");
        }
        for key in ["endpoint", "region", "ca", "credentials.file"] {
            assert!(!may_refer(&config, &format!("sink.store.{key}")), "{key}");
        }
    }
}
