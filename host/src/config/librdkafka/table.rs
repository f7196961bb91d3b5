//! The properties of librdkafka (2.12) that may be set, each once: which clients have it, and its values. Nothing else
//! reaches a client.
//!
//! A property is listed if somebody needs it and it can do no more than talk to brokers. Not listed: properties that
//! load native code, run commands or write files, those for callbacks, and those that this build lacks (Kerberos,
//! OIDC).

use super::Takes::{Choice, Choices, File, Flag, Int, Login, Secret, Text};
use super::{Allowed, Side};

const MAX: i64 = i32::MAX as i64;
const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;
const WAIT_MS: i64 = 300_000;

const CODECS: &[&str] = &["none", "gzip", "snappy", "lz4", "zstd"];
const CONTEXTS: &[&str] = &[
    "all", "generic", "broker", "topic", "metadata", "feature", "queue", "msg", "protocol", "cgrp",
    "security", "fetch", "consumer", "admin", "eos", "assignor", "conf",
];

macro_rules! table {
    ($($side:ident $name:literal: $takes:expr;)*) => {
        &[$(Allowed { name: $name, side: Side::$side, takes: $takes }),*]
    };
}

pub static ALLOWED: &[Allowed] = table! {
    // ------------------------------------------------------------ security
    Both "security.protocol": Choice(&["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]);
    Both "sasl.mechanism": Choice(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]);
    Both "sasl.mechanisms": Choice(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]);
    Both "sasl.username": Login;
    Both "sasl.password": Secret;
    Both "enable.sasl.oauthbearer.unsecure.jwt": Flag;
    Both "sasl.oauthbearer.config": Secret;
    Both "ssl.ca.location": File;
    Both "ssl.ca.pem": Text;
    Both "ssl.certificate.location": File;
    Both "ssl.certificate.pem": Text;
    Both "ssl.cipher.suites": Text;
    Both "ssl.crl.location": File;
    Both "ssl.curves.list": Text;
    Both "ssl.endpoint.identification.algorithm": Choice(&["none", "https"]);
    Both "ssl.key.location": File;
    Both "ssl.key.password": Secret;
    Both "ssl.key.pem": Secret;
    Both "ssl.keystore.location": File;
    Both "ssl.keystore.password": Secret;
    Both "ssl.sigalgs.list": Text;
    Both "enable.ssl.certificate.verification": Flag;
    // ---------------------------------------------------------- connection
    Both "api.version.fallback.ms": Int(0, 604_800_000);
    Both "api.version.request": Flag;
    Both "api.version.request.timeout.ms": Int(1, WAIT_MS);
    Both "broker.address.family": Choice(&["any", "v4", "v6"]);
    Both "broker.address.ttl": Int(0, DAY_MS);
    Both "broker.version.fallback": Text;
    Both "client.dns.lookup": Choice(&["use_all_dns_ips", "resolve_canonical_bootstrap_servers_only"]);
    Both "client.id": Text;
    Both "client.rack": Text;
    Both "connections.max.idle.ms": Int(0, MAX);
    Both "debug": Choices(CONTEXTS);
    Both "enable.metrics.push": Flag;
    Both "enable.random.seed": Flag;
    Both "log.connection.close": Flag;
    Both "log.thread.name": Flag;
    Both "max.in.flight": Int(1, 1_000_000);
    Both "max.in.flight.requests.per.connection": Int(1, 1_000_000);
    Both "message.copy.max.bytes": Int(0, 1_000_000_000);
    Both "message.max.bytes": Int(1000, 1_000_000_000);
    Both "metadata.max.age.ms": Int(1, DAY_MS);
    Both "metadata.recovery.rebootstrap.trigger.ms": Int(0, MAX);
    Both "metadata.recovery.strategy": Choice(&["none", "rebootstrap"]);
    Both "receive.message.max.bytes": Int(1000, MAX);
    Both "reconnect.backoff.jitter.ms": Int(0, HOUR_MS);
    Both "reconnect.backoff.max.ms": Int(0, HOUR_MS);
    Both "reconnect.backoff.ms": Int(0, HOUR_MS);
    Both "retry.backoff.max.ms": Int(1, WAIT_MS);
    Both "retry.backoff.ms": Int(1, WAIT_MS);
    Both "socket.blocking.max.ms": Int(1, 60_000);
    Both "socket.connection.setup.timeout.ms": Int(1000, MAX);
    Both "socket.keepalive.enable": Flag;
    Both "socket.max.fails": Int(0, 1_000_000);
    Both "socket.nagle.disable": Flag;
    Both "socket.receive.buffer.bytes": Int(0, 100_000_000);
    Both "socket.send.buffer.bytes": Int(0, 100_000_000);
    Both "socket.timeout.ms": Int(10, WAIT_MS);
    Both "statistics.interval.ms": Int(0, DAY_MS);
    Both "topic.metadata.propagation.max.ms": Int(0, HOUR_MS);
    Both "topic.metadata.refresh.fast.cnt": Int(0, 1000);
    Both "topic.metadata.refresh.fast.interval.ms": Int(1, 60_000);
    Both "topic.metadata.refresh.interval.ms": Int(-1, HOUR_MS);
    Both "topic.metadata.refresh.sparse": Flag;
    // ------------------------------------------------------------- reading
    Consumer "check.crcs": Flag;
    Consumer "coordinator.query.interval.ms": Int(1, HOUR_MS);
    Consumer "fetch.error.backoff.ms": Int(0, WAIT_MS);
    Consumer "fetch.max.bytes": Int(0, 2_147_483_135);
    Consumer "fetch.message.max.bytes": Int(1, 1_000_000_000);
    Consumer "fetch.min.bytes": Int(1, 100_000_000);
    Consumer "fetch.queue.backoff.ms": Int(0, WAIT_MS);
    Consumer "fetch.wait.max.ms": Int(0, WAIT_MS);
    Consumer "heartbeat.interval.ms": Int(1, HOUR_MS);
    Consumer "max.partition.fetch.bytes": Int(1, 1_000_000_000);
    Consumer "max.poll.interval.ms": Int(1, DAY_MS);
    Consumer "queued.max.messages.kbytes": Int(1, 2_097_151);
    Consumer "queued.min.messages": Int(1, 10_000_000);
    Consumer "session.timeout.ms": Int(1, HOUR_MS);
    // ------------------------------------------------------------- sending
    Producer "acks": Choice(&["all", "-1", "0", "1"]);
    Producer "batch.num.messages": Int(1, 1_000_000);
    Producer "batch.size": Int(1, MAX);
    Producer "compression.codec": Choice(CODECS);
    Producer "compression.level": Int(-1, 12);
    Producer "compression.type": Choice(CODECS);
    Producer "delivery.timeout.ms": Int(0, MAX);
    Producer "linger.ms": Int(0, 900_000);
    Producer "message.send.max.retries": Int(0, MAX);
    Producer "message.timeout.ms": Int(0, MAX);
    Producer "partitioner": Choice(&[
        "random", "consistent", "consistent_random", "murmur2", "murmur2_random", "fnv1a", "fnv1a_random",
    ]);
    Producer "queue.buffering.backpressure.threshold": Int(1, 1_000_000);
    Producer "queue.buffering.max.kbytes": Int(1, MAX);
    Producer "queue.buffering.max.messages": Int(0, MAX);
    Producer "queue.buffering.max.ms": Int(0, 900_000);
    Producer "request.required.acks": Choice(&["all", "-1", "0", "1"]);
    Producer "request.timeout.ms": Int(1, 900_000);
    Producer "retries": Int(0, MAX);
    Producer "sticky.partitioning.linger.ms": Int(0, 900_000);
};
