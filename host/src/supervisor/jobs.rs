//! From a config to what runs: the job it means, the plugins it needs, and what runs it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::unit::{Run, Runner};
use crate::clock::Clock;
use crate::config::raw::{CONNECTOR_CLASS, OUR_CLASS};
use crate::config::worker::WorkerConfig;
use crate::config::{self, PipelineConfig, Problem};
use crate::connect::{self, Job};
use crate::error::Result;
use crate::pipeline::{self, Given};
use crate::plugin::{Places, Plugins};

/// Everything that is wrong with a config, or what it means here.
pub fn job(
    worker: &WorkerConfig,
    name: &str,
    config: &BTreeMap<String, String>,
) -> Result<Job, Vec<Problem>> {
    let class = config.get(CONNECTOR_CLASS).map_or(OUR_CLASS, |c| c.trim());
    if class != OUR_CLASS {
        return connect::job(config);
    }
    let mut filled = config.clone();
    let path = |path: &PathBuf| path.display().to_string();
    if !config.contains_key("plugin.path") {
        let own = [
            ("plugin.path", path(&worker.plugin_path)),
            ("plugin.store", path(&worker.plugin_store)),
            ("plugin.cache", path(&worker.plugin_cache)),
        ];
        for (key, value) in own {
            filled.entry(key.to_owned()).or_insert(value);
        }
    }
    let checked = config::check_map(name, &filled)?;
    Ok(Job::Pipeline(Box::new(checked)))
}

/// `None`: a file connector.
pub fn pipeline_of(job: &Job) -> Option<&PipelineConfig> {
    match job {
        Job::Pipeline(config) => Some(config),
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
}

impl Runner for Product {
    fn run(&self, job: &Job, run: &Run) -> Result<()> {
        let Job::Pipeline(config) = job;
        let given = Given {
            clock: self.clock.clone(),
            stop: run.stop.clone(),
            report: run.report.clone(),
            plugins: self.pool.of(config)?,
        };
        pipeline::keep_running(config, &given)
    }
}
