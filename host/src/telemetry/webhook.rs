//! What pipelines report, as messages to a webhook: starts, commits and ends, as Spark tells a `StreamingQueryListener`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::events::{CommitReport, Reading, Report, Resting, Started, Stopped, Swapped, Waiting};
use super::query::QueryProgress;
use crate::clock::Clock;
use crate::config::worker::WebhookConfig;
use crate::connectors::http::webhook::Poster;
use crate::error::Result;
use crate::instant::utc;
use crate::lock::lock;

/// Sends and passes on.
#[derive(Debug)]
pub struct Webhook {
    to: Arc<dyn Report>,
    /// `None`: nobody is told, or no more.
    poster: Mutex<Option<Poster>>,
    clock: Arc<dyn Clock>,
}

impl Webhook {
    /// The same reports, and messages where a webhook is wanted.
    ///
    /// # Errors
    /// `config_invalid` where its URL is none.
    pub fn shared(
        to: Arc<dyn Report>,
        config: Option<WebhookConfig>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<Webhook>> {
        Ok(Arc::new(Webhook {
            to,
            poster: Mutex::new(config.map(Poster::begin).transpose()?),
            clock: clock.clone(),
        }))
    }

    /// Before the process ends: what waits is sent, if the receiver takes it soon.
    pub fn finish(&self) {
        let poster = lock(&self.poster).take();
        drop(poster);
    }

    /// Each message says how many others were lost so far.
    fn send(&self, message: impl FnOnce() -> Value) {
        if let Some(poster) = &*lock(&self.poster) {
            let mut message = message();
            message["lost"] = Value::from(poster.lost());
            poster.send(message.to_string());
        }
    }
}

impl Report for Webhook {
    fn started(&self, started: &Started) {
        self.send(|| json!({
            "event": "started", "id": started.id, "runId": started.run_id, "name": started.pipeline,
            "timestamp": utc(self.clock.now_micros(), 3),
        }));
        self.to.started(started);
    }

    fn committed(&self, report: &CommitReport) {
        self.send(|| json!({ "event": "progress", "progress": QueryProgress::of(report) }));
        self.to.committed(report);
    }

    fn swapped(&self, swapped: &Swapped) {
        self.send(|| json!({
            "event": "swapped", "name": swapped.pipeline, "version": swapped.version, "rules": swapped.rules,
            "actor": swapped.actor, "reason": swapped.reason,
        }));
        self.to.swapped(swapped);
    }

    fn reading(&self, reading: &Reading) {
        self.to.reading(reading);
    }

    fn resting(&self, resting: &Resting) {
        self.to.resting(resting);
    }

    fn waiting(&self, pipeline: &str, waiting: &Waiting<'_>) {
        self.to.waiting(pipeline, waiting);
    }

    fn resumed(&self, pipeline: &str, after: Duration) {
        self.to.resumed(pipeline, after);
    }

    fn stopped(&self, stopped: &Stopped) {
        let exception = stopped.failure.as_ref().map(|failure| &failure.error);
        self.send(|| json!({
            "event": "terminated", "id": stopped.id, "runId": stopped.run_id, "name": stopped.pipeline,
            "version": stopped.version, "exception": exception, "timestamp": utc(self.clock.now_micros(), 3),
        }));
        self.to.stopped(stopped);
    }
}
