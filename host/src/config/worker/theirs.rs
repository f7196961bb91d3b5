//! Every key of a Kafka Connect worker (4.1), once, and how it is treated: honoured, without effect and why, or
//! refused. The reader of the worker's file and `docs/daemon.md` read it; `tests/connect/worker-keys.txt` holds
//! Connect's own list.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// What it does here.
    Honoured(&'static str),
    /// A client's setting: passed on to connectors, or refused by name.
    Security,
    /// It has no effect here, for this reason.
    Idle(&'static str),
    /// The same, but reported as a warning, because somebody may rely on it.
    Missed(&'static str),
    /// Refused unless its value is one of these.
    Refused {
        unless: &'static [&'static str],
        reason: &'static str,
        hint: &'static str,
    },
}

use Fate::{Honoured, Idle, Missed, Refused, Security};

const CONVERTER: &str = "The converter of connectors that name none, with its own keys below it.";
const NO_GROUP: &str = "a daemon is alone: there is no group of workers";
const OWN_CLIENT: &str = "it is for clients of the worker's own, and there are none; consumer. and producer. are for those of connectors";
const METRICS: &str = "metrics are at GET /metrics";
const ALONE: &str =
    "daemons share nothing: each has the configs that were sent to it, in its data.dir";
const SAVED: &str = "positions are saved with each commit";
const VERSION: &str = "converters are part of the program";

pub static THEIRS: &[(&str, Fate)] = &[
    (
        "bootstrap.servers",
        Honoured("Brokers of connectors that name none."),
    ),
    (
        "listeners",
        Honoured("`rest.listen`. `https://` needs `rest.tls.certificate` and `rest.tls.key`."),
    ),
    ("rest.advertised.host.name", Honoured("`rest.advertised`.")),
    ("rest.advertised.port", Honoured("`rest.advertised`.")),
    ("access.control.allow.origin", Honoured("The same here.")),
    ("access.control.allow.methods", Honoured("The same here.")),
    (
        "task.shutdown.graceful.timeout.ms",
        Honoured("`shutdown.timeout`."),
    ),
    (
        "plugin.path",
        Honoured(
            "A list of folders: the one with components (`*.wasm`) is used, the others are said once.",
        ),
    ),
    ("key.converter", Honoured(CONVERTER)),
    ("value.converter", Honoured(CONVERTER)),
    ("header.converter", Honoured(CONVERTER)),
    (
        "config.providers",
        Honoured(
            "`FileConfigProvider`, `EnvVarConfigProvider` and `DirectoryConfigProvider`, under any name; others are refused. `param.allowed.paths` adds to `secrets.allow.files`, without which a connector may refer to nothing.",
        ),
    ),
    (
        "connector.client.config.override.policy",
        Honoured("`All`, `None`, `Principal`, `Allowlist`; a class of one's own is refused."),
    ),
    (
        "connector.client.config.override.allowlist",
        Honoured("What `Allowlist` lets through."),
    ),
    (
        "rest.extension.classes",
        Honoured(
            "`BasicAuthSecurityRestExtension`: the logins of its file become `rest.auth.basic.`; others are refused.",
        ),
    ),
    (
        "client.dns.lookup",
        Honoured("Handed on to the clients of connectors."),
    ),
    ("security.protocol", Security),
    ("sasl.mechanism", Security),
    ("sasl.jaas.config", Security),
    ("group.id", Missed(ALONE)),
    ("config.storage.topic", Missed(ALONE)),
    ("offset.storage.topic", Missed(ALONE)),
    ("status.storage.topic", Missed(ALONE)),
    (
        "exactly.once.source.support",
        Missed("each file source sends its lines once, whatever is set"),
    ),
    (
        "admin.listeners",
        Refused {
            unless: &[],
            reason: "/admin is served where everything else is",
            hint: "take the key out; rest.auth.* says who may change levels of logging",
        },
    ),
    (
        "response.http.headers.config",
        Refused {
            unless: &[""],
            reason: "answers have no headers of one's own",
            hint: "let a proxy in front add them, and take the key out",
        },
    ),
    (
        "ssl.client.auth",
        Refused {
            unless: &["", "none"],
            reason: "clients of REST show no certificate here",
            hint: "use rest.auth.basic.<user> or rest.auth.bearer.<name>, and take the key out",
        },
    ),
    ("client.id", Idle(OWN_CLIENT)),
    (
        "config.storage.replication.factor",
        Idle("configs are in data.dir"),
    ),
    ("connect.protocol", Idle(NO_GROUP)),
    ("connections.max.idle.ms", Idle(OWN_CLIENT)),
    ("header.converter.plugin.version", Idle(VERSION)),
    ("heartbeat.interval.ms", Idle(NO_GROUP)),
    ("inter.worker.key.generation.algorithm", Idle(NO_GROUP)),
    ("inter.worker.key.size", Idle(NO_GROUP)),
    ("inter.worker.key.ttl.ms", Idle(NO_GROUP)),
    ("inter.worker.signature.algorithm", Idle(NO_GROUP)),
    ("inter.worker.verification.algorithms", Idle(NO_GROUP)),
    ("key.converter.plugin.version", Idle(VERSION)),
    ("metadata.max.age.ms", Idle(OWN_CLIENT)),
    ("metadata.recovery.rebootstrap.trigger.ms", Idle(OWN_CLIENT)),
    ("metadata.recovery.strategy", Idle(OWN_CLIENT)),
    ("metric.reporters", Idle(METRICS)),
    ("metrics.num.samples", Idle(METRICS)),
    ("metrics.recording.level", Idle(METRICS)),
    ("metrics.sample.window.ms", Idle(METRICS)),
    ("offset.flush.interval.ms", Idle(SAVED)),
    ("offset.flush.timeout.ms", Idle(SAVED)),
    (
        "offset.storage.file.filename",
        Idle("positions of file connectors are below data.dir"),
    ),
    ("offset.storage.partitions", Idle(SAVED)),
    ("offset.storage.replication.factor", Idle(SAVED)),
    (
        "plugin.discovery",
        Idle("components are found by their names"),
    ),
    ("rebalance.timeout.ms", Idle(NO_GROUP)),
    ("receive.buffer.bytes", Idle(OWN_CLIENT)),
    ("reconnect.backoff.max.ms", Idle(OWN_CLIENT)),
    ("reconnect.backoff.ms", Idle(OWN_CLIENT)),
    ("request.timeout.ms", Idle(OWN_CLIENT)),
    (
        "rest.advertised.listener",
        Idle("no request is handed on to another worker"),
    ),
    ("retry.backoff.max.ms", Idle(OWN_CLIENT)),
    ("retry.backoff.ms", Idle(OWN_CLIENT)),
    ("scheduled.rebalance.max.delay.ms", Idle(NO_GROUP)),
    ("send.buffer.bytes", Idle(OWN_CLIENT)),
    ("session.timeout.ms", Idle(NO_GROUP)),
    ("socket.connection.setup.timeout.max.ms", Idle(OWN_CLIENT)),
    ("socket.connection.setup.timeout.ms", Idle(OWN_CLIENT)),
    (
        "status.storage.partitions",
        Idle("states are not kept in a topic"),
    ),
    (
        "status.storage.replication.factor",
        Idle("states are not kept in a topic"),
    ),
    (
        "topic.creation.enable",
        Idle("file sources create no topic: it must exist"),
    ),
    (
        "topic.tracking.allow.reset",
        Idle("the topics of a connector are always shown, and forgotten when asked"),
    ),
    (
        "topic.tracking.enable",
        Idle("the topics of a connector are always shown"),
    ),
    ("value.converter.plugin.version", Idle(VERSION)),
    ("worker.sync.timeout.ms", Idle(NO_GROUP)),
    ("worker.unsync.backoff.ms", Idle(NO_GROUP)),
];

/// Families of keys: others choose what follows the prefix. The longer prefix comes first.
pub static FAMILIES: &[(&str, Fate)] = &[
    (
        "consumer.",
        Honoured(
            "Clients of sinks that do not say otherwise (`consumer.override.`), by librdkafka's names; security settings that cannot be honoured are refused.",
        ),
    ),
    (
        "producer.",
        Honoured("The same for sources (`producer.override.`)."),
    ),
    ("admin.", Idle("there is no admin client")),
    ("config.providers.", Honoured("See `config.providers`.")),
    ("key.converter.", Honoured("See `key.converter`.")),
    ("value.converter.", Honoured("See `value.converter`.")),
    ("header.converter.", Honoured("See `header.converter`.")),
    (
        "listeners.https.",
        Refused {
            unless: &[],
            reason: "TLS of REST has keys of its own",
            hint: "write rest.tls.certificate and rest.tls.key (PEM files), and take the key out",
        },
    ),
    ("sasl.", Security),
    ("ssl.", Security),
    ("security.", Security),
    (
        "rest.",
        Refused {
            unless: &[],
            reason: "it is no key of Connect's worker or of the daemon, and a key of REST may decide who gets in",
            hint: "take the key out; listeners = http://host:port says where to listen",
        },
    ),
    ("config.storage.", Idle("configs are in data.dir")),
    ("offset.storage.", Idle(SAVED)),
    ("status.storage.", Idle("states are not kept in a topic")),
    (
        "internal.",
        Idle("it is for topics of the worker, and there are none"),
    ),
];

/// Whether Connect's workers have a key of just this name.
pub fn is_listed(key: &str) -> bool {
    THEIRS.iter().any(|(name, _)| *name == key)
}

/// `None`: no key of a worker.
pub fn fate(key: &str) -> Option<Fate> {
    let exact = THEIRS.iter().find(|(name, _)| *name == key);
    let family = || FAMILIES.iter().find(|(prefix, _)| key.starts_with(prefix));
    exact.or_else(family).map(|(_, fate)| *fate)
}

/// The table of `docs/daemon.md`.
pub fn markdown() -> String {
    let mut out = String::from("\n### Keys of a Connect worker\n\n| Key | |\n|---|---|\n");
    let family = FAMILIES
        .iter()
        .map(|(prefix, fate)| (format!("{prefix}*"), fate));
    let single = THEIRS.iter().map(|(name, fate)| ((*name).to_owned(), fate));
    for (key, fate) in single.chain(family) {
        let text = match fate {
            Honoured(what) => (*what).to_owned(),
            Security => "Handed on to the clients of connectors, or refused; `consumer.` and `producer.` say otherwise for one kind.".to_owned(),
            Idle(why) => format!("No effect: {why}."),
            Missed(why) => format!("No effect, said as a warning: {why}."),
            Refused { reason, hint, .. } => format!("Refused: {reason}; {hint}."),
        };
        out.push_str(&format!("| `{key}` | {text} |\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_connects_workers_has_a_fate() {
        let list = include_str!("../../../../tests/connect/worker-keys.txt");
        let keys = list
            .lines()
            .filter(|l| !l.is_empty() && !l.starts_with('#'));
        let keys: Vec<&str> = keys.collect();
        assert!(keys.len() > 130, "{}", keys.len());
        for key in &keys {
            assert!(fate(key).is_some(), "{key}");
        }
        // And none is listed that is no key of theirs; the allow list is Connect 4.2's.
        for (name, _) in THEIRS {
            let newer = *name == "connector.client.config.override.allowlist";
            assert!(newer || keys.contains(name), "{name}");
        }
    }
}
