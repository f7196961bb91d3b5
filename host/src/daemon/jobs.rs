//! From a config to what runs: its job, the plugins that it needs, and the runner.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::book::HOMES;
use super::reach;
use super::unit::{Run, Runner};
use crate::clock::Clock;
use crate::config::keys::{KAFKA_PREFIX, SINK_KAFKA_PREFIX};
use crate::config::raw::{CONNECTOR_CLASS, OUR_CLASS};
use crate::config::worker::WorkerConfig;
use crate::config::{PipelineConfig, Place, Problem, Reach, problem};
use crate::connect::{self, ConnectorKind, Defaults};
use crate::error::Result;
use crate::filestream::{self, FileContext, FileJob};
use crate::lock::lock;
use crate::pipeline::{self, Given};
use crate::plugin::{Places, Plugins};

/// What a config of a `connector.class` asks for.
#[derive(Debug)]
pub enum Job {
    Pipeline(Box<PipelineConfig>),
    File(FileJob),
}

impl Job {
    pub fn kind(&self) -> ConnectorKind {
        match self {
            Job::Pipeline(_) => ConnectorKind::Sink,
            Job::File(job) => job.kind(),
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Job::Pipeline(config) => &config.name,
            Job::File(job) => job.name(),
        }
    }
}

/// Makes a job of a config as REST has it, with `name` in it, or returns all its problems. Touches nothing.
pub fn job_of(config: &BTreeMap<String, String>, defaults: &Defaults) -> Result<Job, Vec<Problem>> {
    let mut raw = connect::of_map(config, &defaults.reach)?;
    let class = connect::class(&raw)?;
    let (job, problems) = match filestream::reads(class) {
        true => {
            let (job, problems) = filestream::read(&mut raw, class, defaults);
            (job.map(Job::File), problems)
        }
        false => {
            let (config, problems) = connect::pipeline(raw, defaults);
            let job = config.map(|config| Job::Pipeline(Box::new(config)));
            (job, problems)
        }
    };
    let failed = problems.iter().any(Problem::is_error);
    job.filter(|_| !failed).ok_or(problems)
}

/// The job of a config, or all its problems.
pub fn job(
    worker: &WorkerConfig,
    name: &str,
    config: &BTreeMap<String, String>,
    reach: &Reach,
) -> Result<Job, Vec<Problem>> {
    let (config, defaults, mut problems) = prepared(worker, name, config, reach)?;
    let wrong: Vec<String> = problems.iter().map(|p| p.key.clone()).collect();
    let job = job_of(&config, &defaults);
    match &job {
        Ok(job) => problems.extend(reach::out_of_reach(job)),
        Err(found) => {
            let found = found.iter().filter(|p| !wrong.contains(&p.key));
            problems.extend(found.cloned());
        }
    }
    match problems.is_empty() {
        true => job,
        false => Err(problems),
    }
}

/// For a config with problems: the part whose keys the plugins can still check, with the same reach.
pub fn stand_in(
    worker: &WorkerConfig,
    name: &str,
    config: &BTreeMap<String, String>,
    reach: &Reach,
    problems: &[Problem],
) -> Option<PipelineConfig> {
    let (config, defaults, refused) = prepared(worker, name, config, reach).ok()?;
    if !refused.is_empty() {
        return None; // a key that was taken out would be missed
    }
    let part = connect::stand_in_of(&config, &defaults, problems)?;
    let job = Job::Pipeline(Box::new(part));
    match (reach::out_of_reach(&job).is_empty(), job) {
        (true, Job::Pipeline(part)) => Some(*part),
        _ => None,
    }
}

type Prepared = (BTreeMap<String, String>, Defaults, Vec<Problem>);

/// The config with the worker's defaults and without forbidden references, and the problems of those references.
fn prepared(
    worker: &WorkerConfig,
    name: &str,
    config: &BTreeMap<String, String>,
    reach: &Reach,
) -> Result<Prepared, Vec<Problem>> {
    let problems = overridden(worker, name, config);
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut config = config.clone();
    for value in config.values_mut() {
        for (theirs, ours) in &worker.theirs.providers {
            if theirs != ours {
                *value = value.replace(&format!("${{{theirs}:"), &format!("${{{ours}:"));
            }
        }
    }
    let ours = || OUR_CLASS.to_owned();
    config
        .entry(CONNECTOR_CLASS.to_owned())
        .or_insert_with(ours);
    config
        .entry("name".to_owned())
        .or_insert_with(|| name.to_owned());
    let problems = reach::references(name, &config, reach);
    let wrong: Vec<String> = problems.iter().map(|p| p.key.clone()).collect();
    // Other problems are reported in the same run; values of forbidden references are never shown.
    config.retain(|key, _| !wrong.contains(key));
    let own = !config.contains_key("plugin.path");
    let place = |path: &PathBuf| own.then(|| path.clone());
    let defaults = Defaults {
        bootstrap_servers: worker.bootstrap_servers.clone(),
        plugin_path: place(&worker.plugin_path),
        plugin_store: place(&worker.plugin_store),
        // A directory chosen by somebody else could contain their native code.
        plugin_cache: (own || reach.is_confined()).then(|| worker.plugin_cache.clone()),
        stores: worker.stores.clone(),
        theirs: worker.theirs.clone(),
        reach: reach.clone(),
        parquet_instead: false,
        homes: worker.data_dir.join(HOMES),
    };
    Ok((config, defaults, problems))
}

/// Settings of clients that connector.client.config.override.policy does not leave to connectors.
fn overridden(
    worker: &WorkerConfig,
    name: &str,
    config: &BTreeMap<String, String>,
) -> Vec<Problem> {
    const SERVERS: &str = "bootstrap.servers";
    let policy = &worker.theirs.overrides;
    let prefixes = [
        "consumer.override.",
        "producer.override.",
        "admin.override.",
        KAFKA_PREFIX,
        SINK_KAFKA_PREFIX,
    ];
    let of = |key: &str| -> Option<String> {
        let below = prefixes.iter().find_map(|prefix| key.strip_prefix(prefix));
        // The same for our own key, unless it names the brokers that would be used anyway.
        let ours = ["source.bootstrap.servers", "sink.bootstrap.servers"].contains(&key)
            && config.get(key) != worker.bootstrap_servers.as_ref();
        below.or(ours.then_some(SERVERS)).map(str::to_owned)
    };
    let refused = config.keys().filter_map(|key| {
        let setting = of(key).filter(|setting| !policy.allows(setting))?;
        let message = format!(
            "The '{}' policy does not allow '{setting}' to be overridden in the connector configuration.",
            policy.word()
        );
        let problem = Problem::new(Place::start_of(name), key, problem::NOT_TRANSLATED, message);
        Some(problem.hint("connector.client.config.override.policy of the worker says so; take the key out"))
    });
    refused.collect()
}

/// `None`: a file connector.
pub fn pipeline_of(job: &Job) -> Option<&PipelineConfig> {
    match job {
        Job::Pipeline(config) => Some(config),
        Job::File(_) => None,
    }
}

/// Plugins by their directories: pipelines with the same directories share engines and loaded components.
#[derive(Debug, Default)]
pub struct Pool(Mutex<BTreeMap<[PathBuf; 3], Plugins>>);

impl Pool {
    pub fn at(&self, places: Places) -> Result<Plugins> {
        let whole = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let key = [&places.path, &places.store, &places.cache].map(whole);
        let mut pool = lock(&self.0);
        if let Some(plugins) = pool.get(&key) {
            return Ok(plugins.clone());
        }
        let plugins = Plugins::open(places)?;
        Ok(pool.entry(key).or_insert(plugins).clone())
    }

    pub fn of(&self, config: &PipelineConfig) -> Result<Plugins> {
        self.at(Places::of(config))
    }
}

/// Runs jobs for real.
#[derive(Debug)]
pub struct JobRunner {
    pub clock: Arc<dyn Clock>,
    pub pool: Arc<Pool>,
    /// Positions of file connectors.
    pub state_dir: PathBuf,
}

impl Runner for JobRunner {
    fn run(&self, job: &Job, run: &Run) -> Result<()> {
        reach::still_within(job)?;
        let config = match job {
            Job::Pipeline(config) => config,
            Job::File(FileJob::Source(job)) => &job.pipeline,
            Job::File(FileJob::Sink(job)) => {
                let context = FileContext {
                    clock: self.clock.clone(),
                    stop: run.stop.clone(),
                    report: run.report.clone(),
                    state_dir: self.state_dir.clone(),
                };
                return filestream::run(job, &context);
            }
        };
        let given = Given {
            clock: self.clock.clone(),
            stop: run.stop.clone(),
            report: run.report.clone(),
            plugins: self.pool.of(config)?,
            changes: run.changes.clone(),
        };
        pipeline::keep_running(config, &given)
    }
}
