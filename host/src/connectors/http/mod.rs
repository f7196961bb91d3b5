//! `sink.type = "http"`: rows to an HTTP API, in batches with idempotency keys that are stable over restarts.
//!
//! ```text
//! sink.rs     rows of a task, rendered (body.rs, template.rs) as they come ── seal
//! deliver.rs  plans (D1) → fence (D3) → dispatch.rs: in flight, order, tries (statuses.rs says what an answer means) → dead letters
//! client.rs   one request: headers, credentials (token.rs), TLS, what came back
//! ```
//! Log and dead letters are in the pipeline's home, the zone at `sink.url`. The API takes a batch before its entry is
//! written, so the batch may be sent again after a crash, under the same key (docs/protocol.md, D1 to D4).

mod body;
mod client;
mod deliver;
mod dispatch;
mod examine;
mod keys;
mod secrets;
mod sink;
mod statuses;
mod template;
mod token;
pub mod webhook;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::commit::{Delivery, Span};
use crate::config::{PipelineConfig, SinkConfig, Text, Trust, location};
use crate::connectors::zone;
use crate::error::{Error, Kind, Result};
use crate::finding::Finding;
use crate::sink::plan::Plans;
use crate::sink::refusing::Refusing;
use crate::sink::{NoTokens, Receiver, Sink, SinkConnector, SinkContext};
use crate::zone::LettersTable;

use body::BodyConfig;
use client::Client;
use dispatch::Dispatcher;
use statuses::Verdicts;

pub use keys::SINK;

/// The checked keys.
#[derive(Clone, Debug)]
pub struct HttpSinkConfig {
    url: Text,
    method: String,
    body: BodyConfig,
    content_type: Option<String>,
    batch_rows: usize,
    batch_bytes: usize,
    in_flight: usize,
    commit_rows: usize,
    commit_age: Duration,
    waits: Waits,
    exhausted: Exhausted,
    verdicts: Verdicts,
    bisect: bool,
    order: Order,
    idempotency_header: Option<String>,
    response_bytes: usize,
    headers: Vec<(String, Text)>,
    auth: Auth,
    trust: Trust,
}

/// How long, and how often.
#[derive(Clone, Copy, Debug)]
struct Waits {
    tries: u64,
    first: Duration,
    max: Duration,
    retry_after_max: Duration,
    deadline: Duration,
    connect: Duration,
    request: Duration,
    /// 0: no limit.
    per_second: u64,
}

/// What happens to a batch whose tries are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exhausted {
    Wait,
    Stop,
    Letters,
}

/// Which batches wait for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Order {
    None,
    Partition,
    /// Those of a partition that have the same value in this column.
    Key(String),
}

/// Values are references until a request is made.
#[derive(Clone, Debug)]
enum Auth {
    None,
    Bearer(Text),
    Basic {
        user: Text,
        password: Text,
    },
    OAuth2 {
        url: Text,
        id: Text,
        secret: Text,
        scope: Option<Text>,
        audience: Option<Text>,
        /// The token endpoint reads id and secret in the body.
        in_body: bool,
    },
}

impl HttpSinkConfig {
    /// Without resolved references, logins and the part after `?`.
    fn target(&self) -> String {
        location::shown(self.url.typed())
    }
}

impl SinkConfig for HttpSinkConfig {
    fn kind(&self) -> &'static str {
        SINK.name
    }

    fn describe(&self) -> String {
        format!("http[{}]", self.target())
    }

    fn examine(&self, _: &Arc<dyn Clock>, tell: &mut dyn FnMut(Finding)) {
        examine::examine(self, tell);
    }

    fn sends_again(&self) -> Option<String> {
        Some(format!(
            "rows that {} has cannot be taken back: rows from there on are sent again, under other keys",
            self.target()
        ))
    }

    fn files(&self) -> Vec<(String, &Text)> {
        let files = self.trust.files();
        files.map(|(key, text)| (key.to_owned(), text)).collect()
    }

    fn commit_age(&self) -> Duration {
        self.commit_age
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What tasks and committer of one pipeline share.
#[derive(Debug)]
struct Shared {
    config: HttpSinkConfig,
    context: SinkContext,
    plans: Plans,
    letters: LettersTable,
    refusing: Refusing,
    dispatcher: Dispatcher,
}

pub(super) fn connect(
    config: &PipelineConfig,
    context: SinkContext,
) -> Result<Box<dyn SinkConnector>> {
    let http: &HttpSinkConfig = config
        .sink
        .as_any()
        .downcast_ref()
        .ok_or_else(|| Error::new(Kind::Bug, "http.connect", "the config of another sink"))?;
    let table = &config.errors.dlq_table;
    let letters = LettersTable::of(&context, table, zone::parquet_options(config));
    let (store, log, clock) = (&context.store, &context.log, &context.clock);
    let plans = Plans::new(store.clone(), log.clone(), clock.clone());
    let client = Client::new(http.clone())?;
    Ok(Box::new(Http(Arc::new(Shared {
        dispatcher: Dispatcher::new(client, context.patience.clone())?,
        config: http.clone(),
        context,
        plans,
        letters,
        refusing: Refusing::new(&config.errors, SINK.name),
    }))))
}

#[derive(Debug)]
struct Http(Arc<Shared>);

impl SinkConnector for Http {
    fn open(&self) -> Result<Box<dyn Sink>> {
        Ok(Box::new(sink::HttpSink::new(self.0.clone())))
    }

    fn receiver(&self) -> Result<Box<dyn Receiver>> {
        Ok(Box::new(Passed(self.0.plans.clone())))
    }
}

/// Nothing is held back; after an entry only its plans must be deleted.
#[derive(Debug)]
struct Passed(Plans);

impl Receiver for Passed {
    fn prepared(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn finish(&self, delivery: &Delivery) -> Result<()> {
        NoTokens.finish(delivery)
    }

    fn give_up(&self, _: &str) -> Result<()> {
        Ok(())
    }

    fn passed(&self, spans: &[Span]) {
        self.0.forget(spans);
    }
}

#[cfg(test)]
mod api_for_tests;
