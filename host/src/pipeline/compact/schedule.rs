//! The thread that compacts a pipeline's zone while the pipeline runs (`sink.compact.every`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Calls, Options, held, open, run};
use crate::config::PipelineConfig;
use crate::connectors::zone;
use crate::error::{Error, Kind, Result};
use crate::pipeline::{Host, Stop, panicked, retry, stopped, until_settled};

/// What the thread works with.
struct Scheduled {
    host: Host,
    config: PipelineConfig,
    options: Options,
    every: Duration,
}

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Compacting {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

/// `None`: the config asks for none.
pub fn begin(host: &Host, config: &PipelineConfig) -> Result<Option<Compacting>> {
    let every = zone::sink(config).ok().and_then(|sink| sink.compact.every);
    let Some(every) = every else {
        return Ok(None);
    };
    let stop = host.stop.child();
    let scheduled = Scheduled {
        host: Host {
            stop: stop.clone(),
            ..host.clone()
        },
        config: config.clone(),
        options: Options::of(config)?,
        every,
    };
    let pipeline = crate::logging::pipeline();
    let thread = std::thread::Builder::new()
        .name(format!("{}-compact", config.name))
        .spawn(move || {
            crate::logging::works_for(pipeline);
            scheduled.run();
        })
        .map_err(|e| {
            let message = "no thread can be started";
            Error::new(Kind::LimitReached, "pipeline.compact", message).source(e)
        })?;
    Ok(Some(Compacting {
        stop,
        thread: Some(thread),
    }))
}

impl Drop for Compacting {
    fn drop(&mut self) {
        self.stop.ask(Duration::ZERO);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Scheduled {
    /// Until somebody asks to stop. A pass that fails is told, and the next one begins anew: nothing of the pipeline depends on
    /// it.
    fn run(&self) {
        while !self.host.stop.wait(self.every) {
            let passed = catch_unwind(AssertUnwindSafe(|| self.pass()));
            match passed.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))) {
                Err(error) if error.kind() == Kind::Stopped => break,
                Err(error) => {
                    tracing::warn!(%error, "a compaction ended early; the next one goes on");
                }
                Ok(()) => {}
            }
        }
    }

    fn pass(&self) -> Result<()> {
        let host = &self.host;
        let held = held(&self.config, &host.clock)?;
        let Some(mut log) = open(&self.config, &host.clock)? else {
            return Ok(());
        };
        let mut calls = Calls {
            go_on: &mut || match host.stop.asked() {
                true => Err(stopped()),
                false => Ok(()),
            },
            commit: &mut |log, draft| until_settled(host, log, draft),
            retry: &mut |body| retry(host, body),
        };
        run(&mut log, held.as_ref(), &self.options, &mut calls).map(drop)
    }
}
