//! Settings of Kafka's Java clients as properties of librdkafka: other names, other values, logins in JAAS lines,
//! stores of keys. Every setting of a Java client about its connection is either translated or refused by name; none is
//! silently dropped.

use super::librdkafka::{self, Property, Side, property};
use super::text::Text;

/// The result for one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// librdkafka's properties.
    Is(Vec<(String, Text)>),
    /// It has no effect here, for this reason.
    Idle(String),
    /// It cannot be honoured.
    Refused { reason: String, hint: String },
}

/// Java's name, and librdkafka's name.
const RENAMED: &[(&str, &str)] = &[
    ("fetch.max.wait.ms", "fetch.wait.max.ms"),
    ("receive.buffer.bytes", "socket.receive.buffer.bytes"),
    ("request.timeout.ms", "socket.timeout.ms"),
    ("send.buffer.bytes", "socket.send.buffer.bytes"),
];

const NO_GROUP: &str = "partitions are assigned without a group";
const METRICS: &str = "metrics are the worker's";
const LOG: &str = "positions are in the commit log";
const OPENSSL: &str = "TLS is OpenSSL's, which chooses by itself";

/// Settings without effect here, and why.
const IDLE: &[(&str, &str)] = &[
    (
        "default.api.timeout.ms",
        "brokers that are away are waited for",
    ),
    ("enable.auto.commit", LOG),
    ("auto.commit.interval.ms", LOG),
    (
        "exclude.internal.topics",
        "only the topics that are named are read",
    ),
    ("group.instance.id", NO_GROUP),
    ("group.protocol", NO_GROUP),
    ("heartbeat.interval.ms", NO_GROUP),
    ("key.deserializer", "keys are read as bytes"),
    ("max.poll.interval.ms", NO_GROUP),
    ("metric.reporters", METRICS),
    ("metrics.num.samples", METRICS),
    ("metrics.recording.level", METRICS),
    ("metrics.sample.window.ms", METRICS),
    ("partition.assignment.strategy", NO_GROUP),
    ("session.timeout.ms", NO_GROUP),
    ("value.deserializer", "values are read as bytes"),
    ("ssl.keymanager.algorithm", OPENSSL),
    ("ssl.secure.random.implementation", OPENSSL),
    ("ssl.trustmanager.algorithm", OPENSSL),
    ("ssl.truststore.type", "it says how the trust store is read"),
    (
        "sasl.kerberos.kinit.cmd",
        "only logins of PLAIN and SCRAM are spoken",
    ),
    (
        "sasl.kerberos.min.time.before.relogin",
        "only logins of PLAIN and SCRAM are spoken",
    ),
    (
        "sasl.kerberos.ticket.renew.jitter",
        "only logins of PLAIN and SCRAM are spoken",
    ),
    (
        "sasl.kerberos.ticket.renew.window.factor",
        "only logins of PLAIN and SCRAM are spoken",
    ),
];

/// Settings that name a Java class.
const CLASSES: &[&str] = &[
    "interceptor.classes",
    "sasl.client.callback.handler.class",
    "sasl.login.callback.handler.class",
    "sasl.login.class",
    "sasl.oauthbearer.jwt.retriever.class",
    "sasl.oauthbearer.jwt.validator.class",
    "security.providers",
    "ssl.engine.factory.class",
    "ssl.provider",
];

/// Whether it concerns the client's peer, its login, or encryption.
pub fn is_security(name: &str) -> bool {
    name.starts_with("sasl.") || name.starts_with("ssl.") || name.starts_with("security.")
}

fn is(name: &str, value: impl Into<String>) -> Said {
    Said::Is(vec![(name.to_owned(), Text::new(value))])
}

fn idle(why: impl Into<String>) -> Said {
    Said::Idle(why.into())
}

fn refused(reason: impl Into<String>, hint: impl Into<String>) -> Said {
    Said::Refused {
        reason: reason.into(),
        hint: hint.into(),
    }
}

/// One setting of a Java client. `beside`: the other settings of the same client; `producer`: whether it is one.
pub fn setting(
    name: &str,
    typed: &str,
    beside: &dyn Fn(&str) -> Option<String>,
    producer: bool,
) -> Said {
    if let Some((_, why)) = IDLE.iter().find(|(idle, _)| *idle == name) {
        return idle(*why);
    }
    if CLASSES.contains(&name) {
        return match typed.trim().is_empty() {
            true => idle("it names nothing"),
            false => refused("a Java class cannot be loaded", "take the key out"),
        };
    }
    if producer && name == "request.timeout.ms" {
        return known(name, typed, producer);
    }
    if let Some((_, theirs)) = RENAMED.iter().find(|(java, _)| *java == name) {
        return known(theirs, typed, producer);
    }
    match name {
        "sasl.jaas.config" => jaas(typed),
        "sasl.mechanism" | "sasl.mechanisms" => mechanism(name, typed),
        _ if name.starts_with("ssl.") => tls(name, typed, beside),
        _ if name.starts_with("sasl.login.") || name.starts_with("sasl.oauthbearer.") => {
            idle("it is for OAUTHBEARER, which is refused where it is asked for")
        }
        _ => known(name, typed, producer),
    }
}

/// A setting that has the same name in both clients, if it may be set.
fn known(name: &str, typed: &str, producer: bool) -> Said {
    match property(name) {
        Property::Allowed(allowed) if allowed.side == Side::Producer && !producer => {
            idle("it is a setting of producers")
        }
        Property::Allowed(allowed) if allowed.side == Side::Consumer && producer => {
            idle("it is a setting of consumers")
        }
        // The value of a reference is checked when a client is made.
        Property::Allowed(_) if Text::new(typed).has_reference() => is(name, typed),
        Property::Allowed(allowed) => match allowed.takes.check(typed) {
            Ok(()) => is(name, typed),
            Err(expected) => refused(format!("expected {expected}"), librdkafka::LIST),
        },
        Property::Owned(why) => refused("it is decided by the host", why),
        Property::Never(why) => refused(format!("it cannot be set: {why}"), librdkafka::LIST),
        Property::Unknown { hint } => refused(
            "it is not among the Kafka properties that can be set",
            hint.unwrap_or_else(|| librdkafka::LIST.to_owned()),
        ),
    }
}

fn mechanism(name: &str, typed: &str) -> Said {
    match typed.to_uppercase().as_str() {
        "GSSAPI" => refused(
            "Kerberos is not built in",
            "use SCRAM-SHA-512 or PLAIN over SASL_SSL, or certificates (SSL)",
        ),
        "OAUTHBEARER" => refused(
            "tokens of OAuth are not built in",
            "use SCRAM-SHA-512 or PLAIN over SASL_SSL, or certificates (SSL)",
        ),
        _ => is(name, typed),
    }
}

// ---------------------------------------------------------------------- TLS

fn tls(name: &str, typed: &str, beside: &dyn Fn(&str) -> Option<String>) -> Said {
    let kind = |key: &str| {
        beside(key)
            .unwrap_or_else(|| "JKS".to_owned())
            .to_uppercase()
    };
    let trust = kind("ssl.truststore.type");
    let keys = kind("ssl.keystore.type");
    match (name, trust.as_str(), keys.as_str()) {
        ("ssl.truststore.location", "PEM", _) => is("ssl.ca.location", typed),
        ("ssl.truststore.location", other, _) => refused(
            format!("certificates are read as PEM, not from a key store of type {other}"),
            "keytool -exportcert -rfc -keystore STORE -alias NAME > ca.pem, then ssl.truststore.type=PEM and \
             ssl.truststore.location=ca.pem",
        ),
        ("ssl.truststore.certificates", ..) => is("ssl.ca.pem", typed),
        ("ssl.truststore.password", ..) => idle("certificates are PEM, without a password"),
        ("ssl.keystore.type", _, "PKCS12" | "PEM") => idle("it says how the key store is read"),
        ("ssl.keystore.location", _, "PKCS12") => is(name, typed),
        ("ssl.keystore.location", _, "PEM") => Said::Is(vec![
            ("ssl.certificate.location".to_owned(), Text::new(typed)),
            ("ssl.key.location".to_owned(), Text::new(typed)),
        ]),
        ("ssl.keystore.location" | "ssl.keystore.type", _, other) => refused(
            format!("a key store of type {other} cannot be read"),
            "write ssl.keystore.type=PKCS12 where it is one already (Java reads both as JKS), or convert it: keytool \
             -importkeystore -deststoretype PKCS12",
        ),
        ("ssl.keystore.password", _, "PKCS12") => is(name, typed),
        ("ssl.keystore.password", ..) => idle("the key store is not read"),
        ("ssl.key.password", _, "PKCS12") => idle("it is that of the key store"),
        ("ssl.key.password", ..) => is(name, typed),
        ("ssl.keystore.key", ..) => is("ssl.key.pem", typed),
        ("ssl.keystore.certificate.chain", ..) => is("ssl.certificate.pem", typed),
        ("ssl.endpoint.identification.algorithm", ..) => match typed.trim() {
            "" => is(name, "none"),
            other => is(name, other.to_lowercase()),
        },
        ("ssl.protocol" | "ssl.enabled.protocols", ..) => versions(name, typed),
        ("ssl.cipher.suites", ..) if typed.contains("_WITH_") => refused(
            "OpenSSL has other names for cipher suites",
            "write OpenSSL's names (`openssl ciphers`), or take the key out",
        ),
        _ => known(name, typed, false),
    }
}

/// TLS 1.2 and 1.3 are supported; a lower bound cannot be set.
fn versions(name: &str, typed: &str) -> Said {
    let named = typed.split(',').map(|v| v.trim().to_uppercase());
    let named: Vec<String> = named.filter(|v| !v.is_empty()).collect();
    let spoken = |v: &String| ["TLS", "TLSV1.2", "TLSV1.3"].contains(&v.as_str());
    if !named.iter().all(spoken) {
        return refused("only TLS 1.2 and 1.3 are spoken", "take the key out");
    }
    // `ssl.protocol` only names Java's context.
    if name == "ssl.enabled.protocols" && named == ["TLSV1.3"] {
        return refused(
            "TLS 1.2 is spoken too, where the broker has no 1.3",
            "take the key out, and let the broker refuse 1.2 (its own ssl.enabled.protocols)",
        );
    }
    idle("TLS 1.2 and 1.3 are spoken, the higher one where the broker has it")
}

// --------------------------------------------------------------------- JAAS

/// `…PlainLoginModule required username="u" password="p";`
fn jaas(typed: &str) -> Said {
    let no = || {
        refused(
            "only the Plain and Scram login modules with username=\"…\" password=\"…\" are understood",
            "write sasl.username and sasl.password below the same prefix instead",
        )
    };
    let Some(login) = login(typed) else {
        return no();
    };
    let known = ["PlainLoginModule", "ScramLoginModule"];
    let simple = login.module.rsplit('.').next().unwrap_or_default();
    let option = |name: &str| {
        let found = login.options.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| Text::new(value.as_str()))
    };
    match (option("username"), option("password")) {
        (Some(user), Some(password)) if known.contains(&simple) => Said::Is(vec![
            ("sasl.username".to_owned(), user),
            ("sasl.password".to_owned(), password),
        ]),
        _ => no(),
    }
}

/// One login module of JAAS with its options.
#[derive(Debug, PartialEq, Eq)]
pub struct Login {
    pub module: String,
    pub options: Vec<(String, String)>,
}

/// `module flag key="value" …;`, and nothing after it.
pub fn login(text: &str) -> Option<Login> {
    let mut rest = text.trim();
    let mut words: Vec<(String, Option<String>)> = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(behind) = rest.strip_prefix(';') {
            let done = behind.trim().is_empty() && words.len() >= 2;
            let mut words = words.into_iter();
            let module = words.next()?.0;
            // `required` and its like.
            words.next()?;
            let options = words.map(|(key, value)| Some((key, value?)));
            let options = options.collect::<Option<Vec<_>>>()?;
            return done.then_some(Login { module, options });
        }
        let end = rest.find(|c: char| c.is_whitespace() || c == '=' || c == ';')?;
        let (word, behind) = rest.split_at(end);
        let behind = behind.trim_start();
        if word.is_empty() {
            return None;
        }
        match behind.strip_prefix('=') {
            None => {
                words.push((word.to_owned(), None));
                rest = behind;
            }
            Some(behind) => {
                let (value, behind) = value(behind.trim_start())?;
                words.push((word.to_owned(), Some(value)));
                rest = behind;
            }
        }
    }
}

/// A quoted text with `\` as escape character, or a word.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c.is_whitespace() || c == ';')?;
        let (word, behind) = text.split_at(end);
        return (!word.is_empty()).then(|| (word.to_owned(), behind));
    };
    let mut out = String::new();
    let mut chars = quoted.char_indices();
    loop {
        match chars.next()? {
            (at, '"') => return Some((out, &quoted[at + 1..])),
            (_, '\\') => out.push(chars.next()?.1),
            (_, c) => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &dyn Fn(&str) -> Option<String> = &|_| None;

    fn pairs(said: Said) -> Vec<(String, String)> {
        match said {
            Said::Is(all) => all
                .into_iter()
                .map(|(k, v)| (k, v.typed().to_owned()))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_login_is_a_name_and_a_password() {
        let line = "org.apache.kafka.common.security.scram.ScramLoginModule required\n  username=\"u\" password = \"a\\\"b;=\" ;";
        let want = [("sasl.username", "u"), ("sasl.password", "a\"b;=")];
        let want = want.map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(pairs(setting("sasl.jaas.config", line, NONE, false)), want);
        for bad in [
            "x.Krb5LoginModule required keyTab=\"/k\";",
            "x.PlainLoginModule required username=\"u\";",
            "x.PlainLoginModule required username=\"u\" password=\"p\"; x.Other required;",
            "x.PlainLoginModule required username=\"u\" password=\"p\"",
            "",
        ] {
            let said = setting("sasl.jaas.config", bad, NONE, false);
            assert!(matches!(said, Said::Refused { .. }), "{bad}: {said:?}");
        }
    }

    #[test]
    fn stores_are_read_by_their_type() {
        let typed = |kind: &'static str| move |_: &str| Some(kind.to_owned());
        let of = |name: &str, kind: &'static str| setting(name, "/x", &typed(kind), false);
        let one = |name: &str| vec![(name.to_owned(), "/x".to_owned())];
        assert_eq!(
            pairs(of("ssl.truststore.location", "pem")),
            one("ssl.ca.location")
        );
        assert_eq!(
            pairs(of("ssl.keystore.location", "pkcs12")),
            one("ssl.keystore.location")
        );
        assert_eq!(pairs(of("ssl.keystore.location", "PEM")).len(), 2);
        for (name, kind) in [
            ("ssl.truststore.location", "JKS"),
            ("ssl.truststore.location", "PKCS12"),
            ("ssl.keystore.location", "JKS"),
        ] {
            assert!(matches!(of(name, kind), Said::Refused { .. }), "{name}");
        }
        assert!(matches!(
            setting("ssl.keystore.location", "/x", NONE, false),
            Said::Refused { .. }
        ));
    }

    #[test]
    fn no_setting_of_security_is_dropped() {
        for (name, value) in [
            ("sasl.mechanism", "GSSAPI"),
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.login.callback.handler.class", "x.Y"),
            ("ssl.provider", "BC"),
            ("ssl.enabled.protocols", "TLSv1.3"),
            ("ssl.enabled.protocols", "TLSv1.1"),
            ("ssl.cipher.suites", "TLS_RSA_WITH_AES_128_CBC_SHA"),
            ("ssl.no.such", "x"),
            ("security.no.such", "x"),
        ] {
            let said = setting(name, value, NONE, false);
            assert!(matches!(said, Said::Refused { .. }), "{name}: {said:?}");
        }
    }
}
