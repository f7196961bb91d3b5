//! Properties of librdkafka (2.12) that a consumer may be given below `source.kafka.`, and those that are ours to decide.

/// Consumer and common properties.
const CONSUMER: &str = "
    allow.auto.create.topics api.version.fallback.ms api.version.request api.version.request.timeout.ms
    auto.commit.enable auto.commit.interval.ms auto.offset.reset bootstrap.servers broker.address.family
    broker.address.ttl broker.version.fallback check.crcs client.dns.lookup client.id client.rack
    connections.max.idle.ms consume.callback.max.messages coordinator.query.interval.ms debug
    enable.auto.commit enable.auto.offset.store enable.metrics.push enable.partition.eof enable.random.seed
    enable.sasl.oauthbearer.unsecure.jwt enable.ssl.certificate.verification enabled_events
    fetch.error.backoff.ms fetch.max.bytes fetch.message.max.bytes fetch.min.bytes fetch.queue.backoff.ms
    fetch.wait.max.ms group.id group.instance.id group.protocol group.protocol.type group.remote.assignor
    heartbeat.interval.ms https.ca.location https.ca.pem internal.termination.signal isolation.level
    log.connection.close log.queue log.thread.name log_level max.in.flight
    max.in.flight.requests.per.connection max.partition.fetch.bytes max.poll.interval.ms
    message.copy.max.bytes message.max.bytes metadata.broker.list metadata.max.age.ms
    metadata.recovery.rebootstrap.trigger.ms metadata.recovery.strategy offset.store.method offset.store.path
    offset.store.sync.interval.ms partition.assignment.strategy plugin.library.paths
    queued.max.messages.kbytes queued.min.messages receive.message.max.bytes reconnect.backoff.jitter.ms
    reconnect.backoff.max.ms reconnect.backoff.ms retry.backoff.max.ms retry.backoff.ms sasl.kerberos.keytab
    sasl.kerberos.kinit.cmd sasl.kerberos.min.time.before.relogin sasl.kerberos.principal
    sasl.kerberos.service.name sasl.mechanism sasl.mechanisms sasl.oauthbearer.assertion.algorithm
    sasl.oauthbearer.assertion.claim.aud sasl.oauthbearer.assertion.claim.exp.seconds
    sasl.oauthbearer.assertion.claim.iss sasl.oauthbearer.assertion.claim.jti.include
    sasl.oauthbearer.assertion.claim.nbf.seconds sasl.oauthbearer.assertion.claim.sub
    sasl.oauthbearer.assertion.file sasl.oauthbearer.assertion.jwt.template.file
    sasl.oauthbearer.assertion.private.key.file sasl.oauthbearer.assertion.private.key.passphrase
    sasl.oauthbearer.assertion.private.key.pem sasl.oauthbearer.client.credentials.client.id
    sasl.oauthbearer.client.credentials.client.secret sasl.oauthbearer.client.id
    sasl.oauthbearer.client.secret sasl.oauthbearer.config sasl.oauthbearer.extensions
    sasl.oauthbearer.grant.type sasl.oauthbearer.metadata.authentication.type sasl.oauthbearer.method
    sasl.oauthbearer.scope sasl.oauthbearer.token.endpoint.url sasl.password sasl.username security.protocol
    session.timeout.ms socket.blocking.max.ms socket.connection.setup.timeout.ms socket.keepalive.enable
    socket.max.fails socket.nagle.disable socket.receive.buffer.bytes socket.send.buffer.bytes
    socket.timeout.ms ssl.ca.certificate.stores ssl.ca.location ssl.ca.pem ssl.certificate.location
    ssl.certificate.pem ssl.cipher.suites ssl.crl.location ssl.curves.list
    ssl.endpoint.identification.algorithm ssl.engine.id ssl.engine.location ssl.key.location ssl.key.password
    ssl.key.pem ssl.keystore.location ssl.keystore.password ssl.providers ssl.sigalgs.list
    statistics.interval.ms topic.blacklist topic.metadata.propagation.max.ms topic.metadata.refresh.fast.cnt
    topic.metadata.refresh.fast.interval.ms topic.metadata.refresh.interval.ms topic.metadata.refresh.sparse
";

/// Properties of producers only.
const PRODUCER: &str = "
    acks batch.num.messages batch.size compression.codec compression.level compression.type
    delivery.report.only.error delivery.timeout.ms enable.gapless.guarantee enable.idempotence linger.ms
    message.send.max.retries message.timeout.ms partitioner produce.offset.report
    queue.buffering.backpressure.threshold queue.buffering.max.kbytes queue.buffering.max.messages
    queue.buffering.max.ms queuing.strategy request.required.acks request.timeout.ms retries
    sticky.partitioning.linger.ms transaction.timeout.ms transactional.id
";

/// What the commit protocol decides: property → why, and what to write instead.
const OWNED: &[(&str, &str)] = &[
    ("bootstrap.servers", "write source.bootstrap.servers"),
    ("metadata.broker.list", "write source.bootstrap.servers"),
    (
        "group.id",
        "write source.group.id; the group only mirrors positions",
    ),
    (
        "auto.offset.reset",
        "write source.start; an offset that is gone is source.on.data.loss",
    ),
    (
        "enable.auto.commit",
        "positions are in the commit log; group offsets only mirror it",
    ),
    (
        "auto.commit.enable",
        "positions are in the commit log; group offsets only mirror it",
    ),
    (
        "auto.commit.interval.ms",
        "positions are in the commit log; group offsets only mirror it",
    ),
    (
        "enable.auto.offset.store",
        "positions are in the commit log; group offsets only mirror it",
    ),
    (
        "offset.store.method",
        "positions are in the commit log; group offsets only mirror it",
    ),
    (
        "offset.store.path",
        "positions are in the commit log; group offsets only mirror it",
    ),
    (
        "offset.store.sync.interval.ms",
        "positions are in the commit log; group offsets only mirror it",
    ),
    (
        "isolation.level",
        "always read_committed: records of aborted transactions are never read",
    ),
    (
        "enable.partition.eof",
        "the host watches the ends of partitions itself",
    ),
    (
        "group.instance.id",
        "the host assigns partitions itself and joins no group",
    ),
    (
        "group.protocol",
        "the host assigns partitions itself and joins no group",
    ),
    (
        "group.protocol.type",
        "the host assigns partitions itself and joins no group",
    ),
    (
        "group.remote.assignor",
        "the host assigns partitions itself and joins no group",
    ),
    (
        "partition.assignment.strategy",
        "the host assigns partitions itself and joins no group",
    ),
    (
        "allow.auto.create.topics",
        "a misspelt topic must not create one",
    ),
    (
        "plugin.library.paths",
        "native code is not loaded from a config",
    ),
    (
        "enabled_events",
        "the host reads librdkafka's events itself",
    ),
    ("log_level", "write log.level"),
    ("log.queue", "the host reads librdkafka's log itself"),
];

/// Names of Java's clients that librdkafka writes otherwise.
const JAVA: &[(&str, &str)] = &[
    ("sasl.jaas.config", "write sasl.username and sasl.password"),
    (
        "ssl.truststore.location",
        "write ssl.ca.location, a PEM file",
    ),
    (
        "ssl.truststore.password",
        "write ssl.ca.location, a PEM file without password",
    ),
    ("max.poll.records", "write batch.max.rows"),
    ("key.deserializer", "the first transform gets the bytes"),
    ("value.deserializer", "the first transform gets the bytes"),
];

#[derive(Debug, PartialEq, Eq)]
pub enum Property {
    Consumer,
    /// Ours; the text says why and what to write instead.
    Owned(&'static str),
    /// Only producers have it.
    Producer,
    Unknown {
        hint: Option<String>,
    },
}

pub fn property(name: &str) -> Property {
    if let Some((_, why)) = OWNED.iter().find(|(owned, _)| *owned == name) {
        return Property::Owned(why);
    }
    if CONSUMER.split_whitespace().any(|known| known == name) {
        return Property::Consumer;
    }
    if PRODUCER.split_whitespace().any(|known| known == name) {
        return Property::Producer;
    }
    let java = JAVA.iter().find(|(theirs, _)| *theirs == name);
    let near = super::nearest::nearest(name, CONSUMER.split_whitespace());
    let near = near.map(|near| format!("did you mean `source.kafka.{near}`?"));
    Property::Unknown {
        hint: java.map(|(_, why)| (*why).to_owned()).or(near),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_property_has_one_answer() {
        assert_eq!(property("sasl.mechanism"), Property::Consumer);
        assert_eq!(property("linger.ms"), Property::Producer);
        assert!(matches!(property("group.id"), Property::Owned(_)));
        for (name, says) in [
            ("securty.protocol", "security.protocol"),
            ("sasl.jaas.config", "sasl.username"),
        ] {
            let Property::Unknown { hint: Some(hint) } = property(name) else {
                panic!("{name}");
            };
            assert!(hint.contains(says), "{hint}");
        }
    }
}
