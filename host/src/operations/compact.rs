//! Compacts a zone by hand, beside its pipeline or without it.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::commit::{Draft, Log, Outcome};
use crate::config::PipelineConfig;
use crate::error::{Error, Kind, Remedy, Result};
use crate::pipeline::compact::{self, Calls, Options, Report};

/// A store that does not answer is asked again for so long. After it the command ends; what it committed is finished by the
/// pipeline, or by its next start.
const PATIENCE: Duration = Duration::from_secs(60);
const WAIT_FIRST: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// What a person may say beside the config.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub dry_run: bool,
    pub letters: bool,
    pub partition: Option<String>,
}

/// An error where the pipeline has no zone yet, or writes none.
pub fn compact(config: &PipelineConfig, clock: &Arc<dyn Clock>, asked: &Asked) -> Result<Report> {
    if asked.letters && config.errors.dlq_topic.is_some() {
        let message = "dead letters that go on into a topic are found there by their commits, which a merged file no longer has";
        return Err(Error::new(Kind::ConfigInvalid, "zone.compact", message)
            .hint("leave --dead-letters out; errors.dlq.retention keeps them few"));
    }
    let options = Options {
        letters: asked.letters,
        partition: asked.partition.clone(),
        ..compact::options_of(config)?
    };
    let held = compact::held(config, clock)?;
    let Some(mut log) = compact::open(config, clock)? else {
        let message = format!(
            "pipeline '{}' has no zone in {} yet",
            config.name, config.home.at.url
        );
        return Err(Error::new(Kind::ConfigInvalid, "zone.compact", message)
            .hint("it is made by the first run of the pipeline"));
    };
    if asked.dry_run {
        return Ok(compact::dry_run(&log, held.as_ref(), &options));
    }
    let mut calls = Calls {
        go_on: &mut || Ok(()),
        commit: &mut |log, draft| commit(clock, log, draft),
        retry: &mut |body| patiently(clock, body),
    };
    compact::run(&mut log, held.as_ref(), &options, &mut calls)
}

fn patiently<T>(clock: &Arc<dyn Clock>, mut body: impl FnMut() -> Result<T>) -> Result<T> {
    let since = clock.elapsed();
    let mut wait = WAIT_FIRST;
    loop {
        match body() {
            Err(error)
                if error.remedy() == Remedy::Retry
                    && clock.elapsed().saturating_sub(since) < PATIENCE =>
            {
                clock.sleep(wait);
                wait = (wait * 2).min(WAIT_MAX);
            }
            done => return done,
        }
    }
}

fn commit(clock: &Arc<dyn Clock>, log: &mut Log, draft: Draft) -> Result<Outcome> {
    let mut draft = Some(draft);
    patiently(clock, || match draft.take() {
        Some(draft) => log.commit(draft),
        None => match log.settle()? {
            Some(outcome) => Ok(outcome),
            None => {
                let message = "an attempt vanished unsettled";
                Err(Error::new(Kind::Bug, "zone.compact", message))
            }
        },
    })
}
