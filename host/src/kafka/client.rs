//! What every client does alike: librdkafka's log lines go to tracing, its reasons are kept for our errors.

use std::sync::Mutex;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::error::Result;

use super::props::config_error;

/// Keeps the last reason of a failure.
#[derive(Default)]
pub(super) struct Context {
    last: Mutex<Option<(RDKafkaErrorCode, String)>>,
}

impl Context {
    pub(super) fn last_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.last.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log_line(level as i32, fac, message);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason);
        let Some(code) = error.rdkafka_error_code() else {
            return;
        };
        let mut last = self.last.lock().unwrap_or_else(|e| e.into_inner());
        // "All brokers are down" says less than what came before it.
        if code != RDKafkaErrorCode::AllBrokersDown || last.is_none() {
            *last = Some((code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Context {}

pub(super) type Consumer = BaseConsumer<Context>;

pub(super) fn consumer(config: &ClientConfig) -> Result<Consumer> {
    config
        .create_with_context(Context::default())
        .map_err(|e| config_error(&e))
}

/// syslog levels: librdkafka says ERROR of every refused connection, which is a state and not a defect.
pub(super) fn log_line(level: i32, facility: &str, message: &str) {
    match level {
        0..=3 => tracing::warn!(target: "librdkafka", "{facility}: {message}"),
        4 => tracing::info!(target: "librdkafka", "{facility}: {message}"),
        _ => tracing::debug!(target: "librdkafka", "{facility}: {message}"),
    }
}
