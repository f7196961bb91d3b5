//! Properties of the connection that the user may set, and those that the protocol sets.
//!
//! A librdkafka property is passed on if it is on the list of [`librdkafka`] and its value has the right kind; all
//! others are refused by name, with the reason. `Debug` prints names only, never values: some are passwords.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;

use crate::config::librdkafka::{self, Property, Side, property};
use crate::error::{Error, Kind, Result};

use super::hidden::Hidden;
use super::source::Limits;

/// Consumer, metadata and producer requests give up after this long; librdkafka retries inside.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A lost broker is tried again at the latest after this long.
const RECONNECT_MAX_MS: &str = "2000";

/// Where the cluster is and how to connect to it.
#[derive(Clone)]
pub struct KafkaProps {
    bootstrap: String,
    group: String,
    overrides: BTreeMap<String, String>,
    /// Of producers, whatever the overrides say.
    producing: BTreeMap<&'static str, String>,
    batch_most: Option<usize>,
}

impl fmt::Debug for KafkaProps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.overrides.keys().collect();
        f.debug_struct("KafkaProps")
            .field("bootstrap", &self.bootstrap)
            .field("group", &self.group)
            .field("overrides", &names)
            .finish()
    }
}

impl KafkaProps {
    /// `group` is for group offsets only; `overrides` are librdkafka properties without prefix.
    pub fn new(
        bootstrap: &str,
        group: &str,
        overrides: &BTreeMap<String, String>,
    ) -> Result<KafkaProps> {
        for (key, value) in overrides {
            if let Some((message, hint)) = librdkafka::refused(key, value) {
                return Err(invalid(message).hint(hint).with("key", key));
            }
        }
        if bootstrap.trim().is_empty() {
            return Err(
                invalid("no broker is named").hint("set source.bootstrap.servers = \"host:9092\"")
            );
        }
        Ok(KafkaProps {
            bootstrap: bootstrap.to_owned(),
            group: group.to_owned(),
            overrides: overrides.clone(),
            producing: BTreeMap::new(),
            batch_most: None,
        })
    }

    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The same cluster with another group.
    #[must_use]
    pub fn of_group(&self, group: &str) -> KafkaProps {
        KafkaProps {
            group: group.to_owned(),
            ..self.clone()
        }
    }

    /// A property that the host decides for producers.
    #[must_use]
    pub fn producing(mut self, property: &'static str, value: &str) -> KafkaProps {
        self.producing.insert(property, value.to_owned());
        self
    }

    /// A producer sends no larger batch of records, but for a single record that is larger itself: a broker refuses a batch that is
    /// larger than the topic's `max.message.bytes`, however small its records are.
    #[must_use]
    pub fn batches_up_to(mut self, bytes: usize) -> KafkaProps {
        self.batch_most = Some(bytes);
        self
    }

    pub fn group(&self) -> &str {
        &self.group
    }

    /// Names and values as librdkafka sees them; nothing is sent.
    pub fn check(&self) -> Result<()> {
        let config = self.consumer(&Limits::default());
        let made = config.create_native_config().map(drop);
        made.map_err(|e| config_error(&config, &e))
    }

    fn base(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", "weir")
            .set("socket.keepalive.enable", "true")
            .set("log.connection.close", "false")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", RECONNECT_MAX_MS)
            .set_log_level(RDKafkaLogLevel::Notice);
        config
    }

    /// Without the properties that only clients of the other side have: librdkafka would warn of each.
    fn overridden(&self, mut config: ClientConfig, other: Side) -> ClientConfig {
        let is_other = |name: &str| matches!(property(name), Property::Allowed(allowed) if allowed.side == other);
        for (key, value) in self.overrides.iter().filter(|(key, _)| !is_other(key)) {
            config.set(key, value);
        }
        config
    }

    /// For reading records. The queues are small; `fetch.queue.backoff.ms` at its default of 1,000 would stall them.
    pub(super) fn consumer(&self, limits: &Limits) -> ClientConfig {
        let mut config = self.base();
        config
            .set("queued.min.messages", limits.queue_messages.to_string())
            .set(
                "queued.max.messages.kbytes",
                limits.queue_bytes.div_ceil(1024).to_string(),
            )
            .set(
                "fetch.queue.backoff.ms",
                limits.queue_backoff.as_millis().to_string(),
            )
            .set("fetch.max.bytes", limits.queue_bytes.to_string())
            .set("fetch.error.backoff.ms", "200");
        let mut config = self.overridden(config, Side::Producer);
        config
            .set("group.id", &self.group)
            .set("auto.offset.reset", "error")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("allow.auto.create.topics", "false");
        config
    }

    /// For metadata, watermarks and topic ids: no group, nothing fetched.
    pub(super) fn metadata(&self) -> ClientConfig {
        let mut config = self.overridden(self.base(), Side::Producer);
        config
            .set("isolation.level", "read_committed")
            .set("allow.auto.create.topics", "false");
        config
    }

    /// For group offsets.
    pub(super) fn offsets(&self) -> ClientConfig {
        let mut config = self.metadata();
        config
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false");
        config
    }

    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.base();
        config
            .set("linger.ms", "10")
            .set("compression.type", "lz4")
            .set("queue.buffering.max.kbytes", "32768")
            .set("message.timeout.ms", "120000");
        let mut config = self.overridden(config, Side::Consumer);
        config.set("enable.idempotence", "true");
        for (property, value) in &self.producing {
            config.set(*property, value);
        }
        if let Some(most) = self.batch_most.map(|most| most.clamp(1, BATCH_SIZE))
            && number(&config, "batch.size").is_none_or(|size| size > most)
        {
            config.set("batch.size", most.to_string());
        }
        holds_largest(&mut config);
        config
    }
}

/// librdkafka's default of `batch.size`.
const BATCH_SIZE: usize = 1_000_000;
/// Above the bytes of a record, for what librdkafka counts beside them.
const QUEUE_EXTRA_KBYTES: usize = 64;

fn number(config: &ClientConfig, name: &str) -> Option<usize> {
    config.get(name)?.parse().ok()
}

/// A record that is larger than the whole queue would wait for room without end.
fn holds_largest(config: &mut ClientConfig) {
    let Some(most) = number(config, "message.max.bytes") else {
        return;
    };
    let least = most.div_ceil(1024) + QUEUE_EXTRA_KBYTES;
    if number(config, "queue.buffering.max.kbytes").is_some_and(|queue| queue < least) {
        config.set("queue.buffering.max.kbytes", least.to_string());
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::ConfigInvalid, "kafka.config", message)
}

/// A name or value that librdkafka refuses, or a client that cannot be made of them.
pub(super) fn config_error(config: &ClientConfig, e: &KafkaError) -> Error {
    let hidden = Hidden::of(config);
    match e {
        KafkaError::ClientConfig(_, text, key, _) => invalid(format!(
            "librdkafka refuses '{key}': {}",
            hidden.scrub(text)
        ))
        .with("key", key)
        .hint("names and values: librdkafka's CONFIGURATION.md"),
        KafkaError::ClientCreation(text) => {
            invalid(format!("no client can be made: {}", hidden.scrub(text)))
        }
        other => {
            let text = other.to_string();
            invalid(format!("no client can be made: {}", hidden.scrub(&text)))
        }
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    fn with(key: &str, value: &str) -> Result<KafkaProps> {
        let overrides = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        KafkaProps::new("localhost:1", "g", &overrides)
    }

    #[test]
    fn what_the_protocol_owns_is_refused_by_name() {
        for key in [
            "auto.offset.reset",
            "enable.auto.commit",
            "group.id",
            "isolation.level",
            "ssl.engine.location",
            "ssl.providers",
            "plugin.library.paths",
            "test.mock.num.brokers",
            "fetch.min.bites",
        ] {
            let error = with(key, "x").expect_err(key);
            assert_eq!(error.kind(), Kind::ConfigInvalid);
            assert!(error.to_string().contains(key), "{error}");
        }
    }

    /// librdkafka must accept every name and range of the table.
    #[test]
    fn librdkafka_takes_what_the_list_allows() {
        use librdkafka::{ALLOWED, Takes};
        for allowed in ALLOWED {
            let values = match allowed.takes {
                Takes::Text | Takes::Login | Takes::Secret => vec!["x".to_owned()],
                // Read when a client is made.
                Takes::File => vec!["/x".to_owned()],
                Takes::Flag => vec!["true".to_owned(), "false".to_owned()],
                Takes::Int(min, max) => vec![min.to_string(), max.to_string()],
                Takes::Choice(all) | Takes::Choices(all) => {
                    all.iter().map(|one| (*one).to_owned()).collect()
                }
            };
            for value in values {
                assert_eq!(librdkafka::refused(allowed.name, &value), None);
                let mut config = ClientConfig::new();
                config.set(allowed.name, &value);
                // Contradictions between values are found when a client is made.
                let taken = config.create_native_config();
                assert!(
                    taken.is_ok(),
                    "{} = {value} ({:?})",
                    allowed.name,
                    allowed.side
                );
            }
            assert!(matches!(
                allowed.side,
                Side::Both | Side::Consumer | Side::Producer
            ));
        }
    }

    #[test]
    fn other_properties_are_checked_by_librdkafka() {
        with("fetch.min.bytes", "10")
            .and_then(|p| p.check())
            .expect("fine");
        with("compression.codec", "zstd")
            .and_then(|p| p.check())
            .expect("zstd built in");
        with("security.protocol", "sasl_ssl")
            .and_then(|p| p.check())
            .expect("tls built in");
        with("sasl.mechanisms", "SCRAM-SHA-256")
            .and_then(|p| p.check())
            .expect("scram built in");
        let error = with("fetch.min.bytes", "ten")
            .and_then(|p| p.check())
            .expect_err("no number");
        assert!(error.to_string().contains("fetch.min.bytes"), "{error}");
    }

    #[test]
    fn a_producer_sends_what_its_topic_takes_and_its_queue_holds_the_largest_record() {
        let of = |config: &ClientConfig, name: &str| config.get(name).map(str::to_owned);
        let sends = with("queue.buffering.max.kbytes", "100").expect("props");
        let sends = sends.producing("message.max.bytes", "1000000000");
        let config = sends.clone().batches_up_to(20_000).producer();
        assert_eq!(of(&config, "batch.size").as_deref(), Some("20000"));
        let queue = of(&config, "queue.buffering.max.kbytes").expect("set");
        assert!(queue.parse::<u64>().expect("number") * 1024 > 1_000_000_000);
        config.create_native_config().expect("librdkafka takes it");
        assert_eq!(of(&sends.producer(), "batch.size"), None);
        let smaller = with("batch.size", "5000")
            .expect("props")
            .batches_up_to(20_000);
        assert_eq!(
            of(&smaller.producer(), "batch.size").as_deref(),
            Some("5000")
        );
    }

    #[test]
    fn debug_shows_no_value() {
        let shown = format!("{:?}", with("sasl.password", "hunter2").expect("props"));
        assert!(
            shown.contains("sasl.password") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
}
