//! From a config to what runs: the job it means, the plugins it needs, and what runs it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::unit::{Run, Runner};
use crate::clock::Clock;
use crate::config::raw::{CONNECTOR_CLASS, OUR_CLASS};
use crate::config::worker::WorkerConfig;
use crate::config::{PipelineConfig, Problem};
use crate::connect::file::{self, FileContext};
use crate::connect::{self, Defaults, Job};
use crate::error::Result;
use crate::pipeline::{self, Given};
use crate::plugin::{Places, Plugins};

/// Everything that is wrong with a config, or what it means here.
pub fn job(worker: &WorkerConfig, config: &BTreeMap<String, String>) -> Result<Job, Vec<Problem>> {
    // Without a class it is ours: Connect's clients always send one, files of `weir run` need none.
    let mut config = config.clone();
    config
        .entry(CONNECTOR_CLASS.to_owned())
        .or_insert_with(|| OUR_CLASS.to_owned());
    connect::job(&config, &defaults(worker))
}

/// Where file connectors keep their positions.
pub fn state_dir(worker: &WorkerConfig) -> PathBuf {
    worker.data_dir.join("connect")
}

fn defaults(worker: &WorkerConfig) -> Defaults {
    Defaults {
        bootstrap_servers: worker.bootstrap_servers.clone(),
        plugin_path: Some(worker.plugin_path.clone()),
        plugin_store: Some(worker.plugin_store.clone()),
        plugin_cache: Some(worker.plugin_cache.clone()),
        stores: worker.stores.clone(),
    }
}

/// `None`: a file connector.
pub fn pipeline_of(job: &Job) -> Option<&PipelineConfig> {
    match job {
        Job::Pipeline(config) => Some(config),
        Job::FileSource(_) | Job::FileSink(_) => None,
    }
}

/// Plugins by their places: pipelines with the same places share engines and loaded components.
#[derive(Debug, Default)]
pub struct Pool(Mutex<BTreeMap<[PathBuf; 3], Plugins>>);

impl Pool {
    pub fn at(&self, places: Places) -> Result<Plugins> {
        let whole = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let key = [&places.path, &places.store, &places.cache].map(whole);
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
pub struct Product {
    pub clock: Arc<dyn Clock>,
    pub pool: Arc<Pool>,
    /// For the positions of file connectors.
    pub state_dir: PathBuf,
}

impl Runner for Product {
    fn run(&self, job: &Job, run: &Run) -> Result<()> {
        let Some(config) = pipeline_of(job) else {
            let ctx = FileContext {
                clock: self.clock.clone(),
                stop: run.stop.clone(),
                report: run.report.clone(),
                state_dir: self.state_dir.clone(),
            };
            return file::run(job, &ctx);
        };
        let given = Given {
            clock: self.clock.clone(),
            stop: run.stop.clone(),
            report: run.report.clone(),
            plugins: self.pool.of(config)?,
            edits: run.edits.clone(),
        };
        pipeline::keep_running(config, &given)
    }
}
