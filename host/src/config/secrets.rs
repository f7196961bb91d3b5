//! Which values of a config are secrets, by the name of their key or by their form. Configs are stored and shown, so
//! they may contain secrets only as references.

use std::collections::BTreeMap;

use super::raw::{CONNECTOR_CLASS, OUR_CLASS};
use super::{Place, Problem, Text, problem};

/// Endings of keys that hold secrets, of librdkafka, Kafka's Java clients and Confluent's sinks.
const SECRET_ENDINGS: &[&str] = &[
    "password",
    "passphrase",
    "passwd",
    "secret",
    "secret.key",
    "secret.access.key",
    "session.token",
    "access.token",
    "auth.token",
    "bearer.token",
    "sas.token",
    "account.key",
    "sas.key",
    "access.key",
    "datalake.client.key",
    "gen2.client.key",
    "api.key",
    "ssl.key.pem",
    "ssl.keystore.key",
    "private.key.pem",
    "jaas.config",
    "user.info",
    "credentials.json",
    "headers.authorization",
    "headers.cookie",
];

/// Words after which a secret is written inside a longer text: `password="…"` of JAAS.
const INSIDE: &[&str] = &["password", "clientSecret", "secret"];

/// Keys whose value contains a secret somewhere inside; for all others the whole value is the secret.
const LONGER: &[&str] = &["jaas.config", "user.info"];

/// Finds secrets that are written in the config itself. The messages do not show them.
pub fn literal_secrets(name: &str, config: &BTreeMap<String, String>) -> Vec<Problem> {
    let ours = config.get(CONNECTOR_CLASS).is_none_or(|c| c == OUR_CLASS);
    let mut problems = Vec::new();
    for (key, value) in config {
        // A plugin's schema says which of its keys are secrets.
        let by_plugin = ours && key.starts_with("transforms.");
        let named = !by_plugin && is_secret_name(key);
        let beside = || !ends_with(key, LONGER) && is_more_than_references(value);
        let literal = named && !value.trim().is_empty() && (holds_secret(value) || beside());
        if literal || has_login(value) || has_signature(value) {
            problems.push(literal_secret(name, key));
        }
    }
    problems
}

/// The problem of a secret that is written in the config itself.
pub fn literal_secret(name: &str, key: &str) -> Problem {
    let message = format!("`{key}` holds a secret itself, and configs are kept and shown");
    Problem::new(Place::start_of(name), key, problem::LITERAL_SECRET, message).hint(format!(
        "write a reference without a default: \"{key}\": \"${{env:NAME}}\" or \"${{file:/etc/weir/secrets.properties:name}}\""
    ))
}

/// Whether values of this key are secrets.
pub fn is_secret_name(key: &str) -> bool {
    ends_with(key, SECRET_ENDINGS)
}

fn ends_with(key: &str, endings: &[&str]) -> bool {
    let key = key.to_lowercase().replace(['_', '-'], ".");
    let ends = |ending: &str| {
        key.strip_suffix(ending)
            .is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    endings.iter().any(|ending| ends(ending))
}

/// Whether the value itself contains a secret.
pub fn holds_secret(value: &str) -> bool {
    Text::new(value).is_literal_secret() || INSIDE.iter().any(|word| literal_after(value, word))
}

/// `hunter2${env:X}`: letters or digits beside a reference.
fn is_more_than_references(value: &str) -> bool {
    let outside = value.split("${").enumerate().map(|(at, piece)| match at {
        0 => piece,
        _ => piece.split_once('}').map_or("", |(_, after)| after),
    });
    outside.flat_map(str::chars).any(char::is_alphanumeric)
}

/// `word = "x"`, if x does not begin with a reference.
fn literal_after(value: &str, word: &str) -> bool {
    value.match_indices(word).any(|(at, _)| {
        let rest = value[at + word.len()..].trim_start();
        let Some(rest) = rest.strip_prefix('=') else {
            return false;
        };
        let rest = rest.trim_start().trim_start_matches(['"', '\'', '\\']);
        !rest.is_empty() && !rest.starts_with("${")
    })
}

/// `scheme://user:password@host`.
fn has_login(value: &str) -> bool {
    value.match_indices("://").any(|(at, _)| {
        let rest = &value[at + 3..];
        let end = rest.find(['/', ' ', '?', ',']).unwrap_or(rest.len());
        let login = rest[..end].rsplit_once('@').map(|(login, _)| login);
        let password = login.and_then(|login| login.split_once(':'));
        password.is_some_and(|(_, password)| !password.is_empty() && !password.contains("${"))
    })
}

/// A URL with a shared access signature in it.
fn has_signature(value: &str) -> bool {
    let query = value
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('?'));
    query.is_some_and(|(_, query)| {
        let mut given = query.split('&').filter_map(|pair| pair.split_once('='));
        given.any(|(name, value)| name == "sig" && !value.is_empty() && !value.starts_with("${"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_name_and_by_form() {
        let jaas = "x.LoginModule required username=\"u\" password=\"hunter2\";";
        let good_jaas = "x.LoginModule required username=\"u\" password=\"${env:P}\";";
        let spaced = "x.LoginModule required username=\"${env:U}\" password = \"hunter2\";";
        for (key, value, literal) in [
            ("source.kafka.sasl.password", "hunter2", true),
            ("source.kafka.sasl.password", "${env:P}", false),
            ("source.kafka.sasl.password", "${env:P:-hunter2}", true),
            ("source.kafka.sasl.password", "", false),
            ("source.kafka.sasl.password", "hunter2${env:P}", true),
            ("source.kafka.sasl.password", "${env:P}${env:Q}", false),
            ("consumer.override.sasl.jaas.config", spaced, true),
            ("basic.auth.user.info", "me:${env:P}", false),
            ("aws.secret.access.key", "hunter2", true),
            ("AWS_SECRET_ACCESS_KEY", "hunter2", true),
            ("database.password", "hunter2", true),
            ("consumer.override.sasl.jaas.config", jaas, true),
            ("consumer.override.sasl.jaas.config", good_jaas, false),
            ("source.kafka.ssl.key.pem", "-----BEGIN", true),
            ("schema.registry.url", "http://me:hunter2@host:1/x", true),
            ("schema.registry.url", "http://me:${env:P}@host:1/x", false),
            ("schema.registry.url", "http://host:1/a@b:c", false),
            ("sink.url", "file:///srv/a:b@c", false),
            ("source.kafka.ssl.key.location", "/etc/key.pem", false),
            (
                "sasl.oauthbearer.token.endpoint.url",
                "https://x/token",
                false,
            ),
            ("mysecret", "x", false),
            ("sink.url", "az://box/raw?sv=1&sig=hunter2", true),
            ("sink.store.secret.access.key", "hunter2", true),
            ("sink.store.account.key", "hunter2", true),
            ("source.store.sas.token", "hunter2", true),
            ("sink.store.client.secret", "hunter2", true),
            ("sink.store.session.token", "${env:T}", false),
        ] {
            let map = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            let found = literal_secrets("p", &map);
            assert_eq!(!found.is_empty(), literal, "{key} = {value}");
            for problem in found {
                assert!(!problem.to_string().contains("hunter2"), "{problem}");
            }
        }
    }
}
