//! What all clients have in common: librdkafka's log lines go to tracing, and its reasons are kept for our errors.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::error::Result;

use super::errors::refusal;
use super::hidden::Hidden;
use super::props::config_error;
use super::threads::{self, Threads};

/// Log lines and errors are taken from librdkafka's queue until none comes for this time.
const QUIET: Duration = Duration::from_millis(20);
/// Most of them that are taken at once.
const EVENTS_MAX: usize = 100;

pub(super) type Reason = (RDKafkaErrorCode, String);

/// Keeps the reasons of failures since a broker last answered.
#[derive(Default)]
pub(super) struct Context {
    reasons: Mutex<Reasons>,
    pub(super) hidden: Hidden,
    /// Until the client is gone.
    _threads: Option<Threads>,
}

#[derive(Default)]
struct Reasons {
    last: Option<Reason>,
    /// Broker and client could not authenticate each other. If a name has several addresses, other failures may follow.
    refusal: Option<Reason>,
}

impl Context {
    fn reasons(&self) -> MutexGuard<'_, Reasons> {
        self.reasons.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Why there is no answer: a refusal before anything else.
    pub(super) fn reason(&self) -> Option<Reason> {
        let reasons = self.reasons();
        reasons.refusal.as_ref().or(reasons.last.as_ref()).cloned()
    }

    /// A broker answered: forgets the earlier failures.
    pub(super) fn answered(&self) {
        *self.reasons() = Reasons::default();
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log_line(level as i32, fac, &self.hidden.scrub(message));
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let reason = &*self.hidden.scrub(reason);
        tracing::debug!(target: "librdkafka", %error, reason);
        let Some(code) = error.rdkafka_error_code() else {
            return;
        };
        let mut reasons = self.reasons();
        if let Some(code) = refusal(code, reason) {
            reasons.refusal = Some((code, reason.to_owned()));
        }
        // "All brokers are down" says less than the reason before it.
        if code != RDKafkaErrorCode::AllBrokersDown || reasons.last.is_none() {
            reasons.last = Some((code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Context {}

pub(super) type Consumer = BaseConsumer<Context>;

pub(super) fn consumer(config: &ClientConfig) -> Result<Consumer> {
    let context = Context {
        hidden: Hidden::of(config),
        _threads: Some(threads::for_client(config)?),
        ..Context::default()
    };
    config
        .create_with_context(context)
        .map_err(|e| config_error(config, &e))
}

/// Why a request had no answer, after everything that librdkafka says about it was read. Not for a consumer that reads
/// records.
pub(super) fn heard(consumer: &Consumer) -> Option<Reason> {
    for _ in 0..EVENTS_MAX {
        if consumer.poll(QUIET).is_none() {
            break;
        }
    }
    consumer.context().reason()
}

/// syslog levels: librdkafka logs every refused connection as ERROR, but that is a state and no defect.
pub(super) fn log_line(level: i32, facility: &str, message: &str) {
    match level {
        0..=3 => tracing::warn!(target: "librdkafka", "{facility}: {message}"),
        4 => tracing::info!(target: "librdkafka", "{facility}: {message}"),
        _ => tracing::debug!(target: "librdkafka", "{facility}: {message}"),
    }
}
