//! Properties of librdkafka: which may be set, with which values ([`ALLOWED`]), and why others may not.
//!
//! All places that accept such properties use this list: `source.kafka.*`, `consumer.override.*`,
//! `producer.override.*`, the command line's `-X`. A property that is not on the list is refused by name, so that a new
//! property of a later librdkafka has no effect by itself.

use std::collections::BTreeMap;
use std::path::Path;

use super::text::Text;
use crate::error::{Error, Kind};

#[path = "librdkafka/table.rs"]
mod table;

pub use table::ALLOWED;

/// One property that may be set.
#[derive(Debug, PartialEq, Eq)]
pub struct Allowed {
    pub name: &'static str,
    pub side: Side,
    pub takes: Takes,
}

/// Which clients have a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Both,
    Consumer,
    Producer,
}

/// What a property's value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    Text,
    /// Never shown; may be a reference in configs of any origin.
    Secret,
    /// A login name: as `Secret`, but it may be written in the config itself.
    Login,
    /// A path on this machine.
    File,
    Flag,
    Int(i64, i64),
    Choice(&'static [&'static str]),
    /// Some of these, separated by commas.
    Choices(&'static [&'static str]),
}

/// Longest value of a text or secret, in bytes: a chain of certificates as PEM is some 10 KiB.
const MAX_VALUE: usize = 256 * 1024;

impl Takes {
    /// `Err` says what was expected. The value itself is in no message, because it may be a secret.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let is = |choice: &&str| choice.eq_ignore_ascii_case(value.trim());
        let plain = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
        let good = match *self {
            Takes::Text | Takes::Secret | Takes::Login => {
                value.len() <= MAX_VALUE && value.chars().all(plain)
            }
            Takes::File => !value.trim().is_empty() && !value.contains('\0'),
            Takes::Flag => ["true", "false", "t", "f", "1", "0"].iter().any(is),
            Takes::Int(min, max) => {
                let number = value.trim().parse::<i64>();
                number.is_ok_and(|n| (min..=max).contains(&n))
            }
            Takes::Choice(all) => all.iter().any(is),
            Takes::Choices(all) => value.split(',').all(|one| {
                all.iter()
                    .any(|known| known.eq_ignore_ascii_case(one.trim()))
            }),
        };
        if good { Ok(()) } else { Err(self.describe()) }
    }

    /// For messages and documents.
    pub fn describe(&self) -> String {
        match *self {
            Takes::Text | Takes::Login => {
                format!("text of at most {MAX_VALUE} bytes without control characters")
            }
            Takes::Secret => {
                format!("a secret of at most {MAX_VALUE} bytes without control characters")
            }
            Takes::File => "a path".to_owned(),
            Takes::Flag => "true or false".to_owned(),
            Takes::Int(min, max) => format!("an integer from {min} to {max}"),
            Takes::Choice(all) => format!("one of {}", all.join(", ")),
            Takes::Choices(all) => format!("some of {}, separated by commas", all.join(", ")),
        }
    }

    /// Whether the value may be a reference in a config whose author is not the operator: it is never shown.
    pub fn is_hidden(&self) -> bool {
        matches!(self, Takes::Secret | Takes::Login)
    }
}

/// Properties that the commit protocol decides: property → why, and what to write instead.
const OWNED: &[(&str, &str)] = &[
    ("bootstrap.servers", "write source.bootstrap.servers"),
    ("metadata.broker.list", "write source.bootstrap.servers"),
    (
        "group.id",
        "write source.group.id; the group holds a copy of the positions, for tools",
    ),
    (
        "auto.offset.reset",
        "write source.start; an offset that is gone is source.on.data.loss",
    ),
    ("enable.auto.commit", POSITIONS),
    ("auto.commit.enable", POSITIONS),
    ("auto.commit.interval.ms", POSITIONS),
    ("enable.auto.offset.store", POSITIONS),
    ("offset.store.method", POSITIONS),
    ("offset.store.path", POSITIONS),
    ("offset.store.sync.interval.ms", POSITIONS),
    (
        "isolation.level",
        "always read_committed: records of aborted transactions are never read",
    ),
    (
        "enable.partition.eof",
        "the host watches the ends of partitions itself",
    ),
    ("group.instance.id", GROUPS),
    ("group.protocol", GROUPS),
    ("group.protocol.type", GROUPS),
    ("group.remote.assignor", GROUPS),
    ("partition.assignment.strategy", GROUPS),
    (
        "allow.auto.create.topics",
        "a misspelt topic must not create one",
    ),
    (
        "enabled_events",
        "the host reads librdkafka's events itself",
    ),
    ("log_level", "write log.level"),
    ("log.queue", "the host reads librdkafka's log itself"),
    ("enable.idempotence", "producers here are idempotent always"),
    (
        "transactional.id",
        "producers here are idempotent by themselves",
    ),
    (
        "transaction.timeout.ms",
        "producers here are idempotent by themselves",
    ),
    (
        "enable.gapless.guarantee",
        "producers here are idempotent by themselves",
    ),
    (
        "delivery.report.only.error",
        "the host counts what was delivered",
    ),
    ("topic.blacklist", "topics are read by name"),
    ("opaque", "the client's own plumbing"),
    ("interceptors", "the client's own plumbing"),
    ("internal.termination.signal", "signals are the host's"),
];

const POSITIONS: &str = "positions are in the commit log; group offsets are a copy, for tools";
const GROUPS: &str = "the host assigns partitions itself and joins no group";
const CODE: &str = "it loads native code into this process, which no config may";
const KERBEROS: &str = "Kerberos (GSSAPI) is not built in, and its kinit is a shell command; use SCRAM or PLAIN over TLS, or mTLS";
const OIDC: &str =
    "OIDC is not built in; sasl.oauthbearer.config with unsecured tokens is, for trying out";

/// Whole families of properties that are never set: beginning of the name → why.
const NEVER: &[(&str, &str)] = &[
    ("plugin.library.", CODE),
    ("ssl.engine.", CODE),
    ("ssl_engine", CODE),
    ("ssl.provider", CODE),
    ("sasl.kerberos.", KERBEROS),
    ("sasl.oauthbearer.", OIDC),
    ("https.", OIDC),
    ("test.mock.", "it is for librdkafka's own tests"),
];

/// Names of Java's clients that librdkafka spells differently.
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
    Allowed(&'static Allowed),
    /// Weir sets it; the text says why, and what to write instead.
    Owned(&'static str),
    /// Nobody may set it; the text says why.
    Never(&'static str),
    Unknown {
        hint: Option<String>,
    },
}

/// What a property's name means for Weir.
pub fn property(name: &str) -> Property {
    if let Some((_, why)) = OWNED.iter().find(|(owned, _)| *owned == name) {
        return Property::Owned(why);
    }
    if let Some(allowed) = ALLOWED.iter().find(|allowed| allowed.name == name) {
        return Property::Allowed(allowed);
    }
    if let Some((_, why)) = NEVER.iter().find(|(begin, _)| name.starts_with(begin)) {
        return Property::Never(why);
    }
    if name.ends_with("_cb") {
        return Property::Never("callbacks are the client's own plumbing");
    }
    let java = JAVA.iter().find(|(theirs, _)| *theirs == name);
    let near = crate::nearest::nearest(name, ALLOWED.iter().map(|allowed| allowed.name));
    let near = near.map(|near| format!("did you mean `source.kafka.{near}`?"));
    Property::Unknown {
        hint: java.map(|(_, why)| (*why).to_owned()).or(near),
    }
}

/// Why a client may not have this property with this value: the message and the hint. For places without a table of keys.
pub fn refused(name: &str, value: &str) -> Option<(String, String)> {
    match property(name) {
        Property::Allowed(allowed) => {
            let expected = allowed.takes.check(value).err()?;
            Some((
                format!("`{name}`: expected {expected}"),
                "docs/kafka-properties.md lists what each property takes".to_owned(),
            ))
        }
        Property::Owned(why) => Some((
            format!("`{name}` cannot be set: it is decided by the host"),
            why.to_owned(),
        )),
        Property::Never(why) => Some((format!("`{name}` cannot be set: {why}"), LIST.to_owned())),
        Property::Unknown { hint } => Some((
            format!("`{name}` is not among the Kafka properties that can be set"),
            hint.map_or_else(
                || LIST.to_owned(),
                |hint| hint.replace(super::keys::KAFKA_PREFIX, ""),
            ),
        )),
    }
}

/// Instead of a path: librdkafka uses the system's certificates.
pub const PROBE: &str = "probe";

/// Properties as a client gets them: references are resolved, files are checked.
pub fn resolved(
    properties: &BTreeMap<String, Text>,
    prefix: &str,
) -> crate::error::Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for (name, text) in properties {
        let at = |e: Error| e.with("key", format!("{prefix}{name}"));
        let mut value = text.resolve().map_err(at)?;
        let file = |a: &Allowed| a.takes == Takes::File;
        let named = value.trim() != PROBE;
        if named && matches!(property(name), Property::Allowed(allowed) if file(allowed)) {
            let place = text.reach().library_file(Path::new(value.trim()));
            let place = place.map_err(|e| {
                let message = format!("`{name}`: {text} cannot be used: {e}");
                at(Error::new(Kind::ConfigInvalid, "kafka.config", message))
            })?;
            value = place.display().to_string();
        }
        all.insert(name.clone(), value);
    }
    Ok(all)
}

/// Where the whole list is.
pub const LIST: &str = "docs/kafka-properties.md lists those that can be set";

/// The tables of `docs/kafka-properties.md`.
pub fn markdown() -> String {
    let mut out = String::new();
    for (side, title) in [
        (Side::Both, "Every client"),
        (Side::Consumer, "Consumers only"),
        (Side::Producer, "Producers only"),
    ] {
        out.push_str(&format!(
            "\n### {title}\n\n| Property | Takes |\n|---|---|\n"
        ));
        for allowed in ALLOWED.iter().filter(|allowed| allowed.side == side) {
            let takes = match allowed.takes {
                Takes::Secret => "a secret; write a reference".to_owned(),
                Takes::Login => "text, or a reference".to_owned(),
                Takes::Text => "text".to_owned(),
                other => other.describe(),
            };
            out.push_str(&format!("| `{}` | {takes} |\n", allowed.name));
        }
    }
    out.push_str("\n### Never\n\n| Property | Why |\n|---|---|\n");
    for (begin, why) in NEVER {
        out.push_str(&format!("| `{begin}…` | {why} |\n"));
    }
    for (name, why) in OWNED {
        out.push_str(&format!("| `{name}` | {why} |\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_property_has_one_answer() {
        assert!(matches!(property("sasl.mechanism"), Property::Allowed(_)));
        assert!(matches!(property("linger.ms"), Property::Allowed(a) if a.side == Side::Producer));
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
        for (n, one) in ALLOWED.iter().enumerate() {
            let name = one.name;
            assert!(
                ALLOWED.iter().skip(n + 1).all(|other| other.name != name),
                "{name}"
            );
            assert!(OWNED.iter().all(|(owned, _)| *owned != name), "{name}");
        }
    }

    #[test]
    fn what_loads_code_or_runs_commands_is_on_no_list() {
        for name in [
            "ssl.engine.location",
            "ssl.engine.id",
            "ssl.providers",
            "sasl.kerberos.kinit.cmd",
            "sasl.kerberos.keytab",
            "plugin.library.paths",
            "ssl_engine_callback_data",
            "sasl.oauthbearer.assertion.file",
            "https.ca.location",
            "test.mock.num.brokers",
            "open_cb",
        ] {
            assert!(matches!(property(name), Property::Never(_)), "{name}");
            let (message, _) = refused(name, "x").expect(name);
            assert!(message.contains(name), "{message}");
        }
        assert!(refused("ssl.engine.locatin", "x").is_some());
        assert!(refused("", "x").is_some());
    }

    #[test]
    fn values_are_of_their_kind_and_no_message_shows_one() {
        for (name, value, good) in [
            ("fetch.min.bytes", "10", true),
            ("fetch.min.bytes", "0", false),
            ("fetch.min.bytes", "hunter2", false),
            ("security.protocol", "SASL_SSL", true),
            ("security.protocol", "hunter2", false),
            ("debug", "broker, security", true),
            ("debug", "broker,plugin", false),
            ("topic.metadata.refresh.interval.ms", "-1", true),
            ("sasl.password", "hunter2\0", false),
            ("ssl.ca.location", "", false),
            ("socket.keepalive.enable", "maybe", false),
            ("acks", "all", true),
        ] {
            let refused = refused(name, value);
            assert_eq!(refused.is_none(), good, "{name} = {value}");
            assert!(!format!("{refused:?}").contains("hunter2"), "{refused:?}");
        }
    }
}
