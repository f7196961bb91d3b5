//! `value.format`, `key.format` and `schema.*`: what values and keys are before the first transform.
//!
//! The keys are those of every pipeline that reads records. What a format does is in `convert`.

use std::sync::Arc;
use std::time::Duration;

use super::check::Checker;
use super::problem;
use super::shape::Value;
use super::text::Text;
use super::trust::Trust;

/// Connect's converters, as native keys.
#[derive(Clone, Debug)]
pub struct Converters {
    pub value: ValueConverter,
    /// `key.format`. `None`: keys are bytes where values are kept whole, and no column elsewhere.
    pub key: Option<Format>,
    pub registry: Option<RegistryConfig>,
}

#[derive(Clone, Debug)]
pub struct ValueConverter {
    pub format: Format,
    /// `value.schema.file`: the schema by which values are read.
    pub schema_file: Option<Text>,
    /// What the first records showed, and what is kept beside the log since then.
    pub schema: Option<Arc<str>>,
    /// `value.avro.framing`: the id of the schema stands before each value.
    pub is_framed: bool,
    /// `value.on.null`
    pub on_null: OnNull,
    /// `schema.on.incompatible`
    pub on_incompatible: OnIncompatible,
    /// `schema.evolution`
    pub evolution: Evolution,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Bytes,
    /// One column of text.
    Text,
    /// One column of text that is JSON.
    Json,
    /// Kafka Connect's `{"schema": …, "payload": …}`: a column for each field.
    Envelope,
    /// A column for each field.
    Avro,
}

/// What becomes of a record without a value, where values become columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnNull {
    Refuse,
    Drop,
}

/// What becomes of a record whose schema cannot be read under the one in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnIncompatible {
    Stop,
    DeadLetters,
}

/// What a record of a newer, compatible schema does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evolution {
    /// It is read under the schema in force.
    Pin,
    /// It puts its new fields in force, as a swap.
    Follow,
}

/// A schema registry with Confluent's API.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// Asked in this order; without the slash at their ends.
    pub urls: Vec<String>,
    /// The same as typed, for messages.
    pub shown: String,
    /// `user:password`
    pub login: Option<Text>,
    pub token: Option<Text>,
    pub trust: Trust,
    pub timeout: Duration,
    /// So long an id that the registry does not know is waited for.
    pub unknown_wait: Duration,
    /// Schemas kept in memory by each task.
    pub cache: usize,
}

pub const URL: &str = "schema.registry.url";
pub const LOGIN: &str = "schema.registry.basic.auth.user.info";
pub const TOKEN: &str = "schema.registry.bearer.auth.token";
pub const FILE: &str = "value.schema.file";
const CA: &str = "schema.registry.tls.ca";
const CERTIFICATE: &str = "schema.registry.tls.certificate";
const KEY: &str = "schema.registry.tls.key";
/// Keys that need a registry.
const OF_REGISTRY: [&str; 8] = [
    LOGIN,
    TOKEN,
    CA,
    CERTIFICATE,
    KEY,
    "schema.registry.timeout",
    "schema.registry.unknown.wait",
    "schema.registry.cache",
];

impl Format {
    /// As the keys write it.
    fn parse(text: &str) -> Format {
        match text {
            "string" => Format::Text,
            "json" => Format::Json,
            "json-envelope" => Format::Envelope,
            "avro" => Format::Avro,
            _ => Format::Bytes,
        }
    }

    /// A schema says which columns there are.
    pub fn has_schema(self) -> bool {
        matches!(self, Format::Envelope | Format::Avro)
    }
}

impl Converters {
    /// The schema is known only from the first records, and there were none yet.
    pub fn waits_for_schema(&self) -> bool {
        let value = &self.value;
        value.format.has_schema() && value.schema_file.is_none() && value.schema.is_none()
    }

    /// Nothing is done before the first transform.
    pub fn is_idle(&self) -> bool {
        self.value.format == Format::Bytes && self.key.is_none_or(|key| key == Format::Bytes)
    }

    /// Values that name files, with their keys.
    pub fn files(&self) -> Vec<(&'static str, &Text)> {
        let mut all: Vec<(&'static str, &Text)> = Vec::new();
        all.extend(self.value.schema_file.as_ref().map(|text| (FILE, text)));
        if let Some(registry) = &self.registry {
            all.extend(registry.trust.files());
        }
        all
    }
}

/// `None` only if a problem was reported.
pub(super) fn build(checker: &Checker<'_>) -> Option<Converters> {
    let text = |key: &str| checker.raw.get(key).map(|entry| entry.value.clone());
    let key = match checker.typed("key.format") {
        true => Some(Format::parse(&checker.text("key.format")?)),
        false => None,
    };
    Some(Converters {
        value: ValueConverter {
            format: Format::parse(&checker.text("value.format")?),
            schema_file: text(FILE),
            schema: None,
            is_framed: checker.is("value.avro.framing", "registry")?,
            on_null: match checker.is("value.on.null", "drop")? {
                true => OnNull::Drop,
                false => OnNull::Refuse,
            },
            on_incompatible: match checker.is("schema.on.incompatible", "stop")? {
                true => OnIncompatible::Stop,
                false => OnIncompatible::DeadLetters,
            },
            evolution: match checker.is("schema.evolution", "follow")? {
                true => Evolution::Follow,
                false => Evolution::Pin,
            },
        },
        key,
        registry: match checker.typed(URL) {
            true => Some(registry(checker)?),
            false => None,
        },
    })
}

fn registry(checker: &Checker<'_>) -> Option<RegistryConfig> {
    let text = |key: &str| checker.raw.get(key).map(|entry| entry.value.clone());
    let urls = checker.text(URL)?;
    Some(RegistryConfig {
        shown: checker.shown(URL, &urls),
        urls: addresses(&urls).map(str::to_owned).collect(),
        login: text(LOGIN),
        token: text(TOKEN),
        trust: Trust::of([CA, CERTIFICATE, KEY], text),
        timeout: checker.duration("schema.registry.timeout")?,
        unknown_wait: checker.duration("schema.registry.unknown.wait")?,
        cache: checker.size("schema.registry.cache")?,
    })
}

fn addresses(list: &str) -> impl Iterator<Item = &str> {
    let items = list.split(',').map(|url| url.trim().trim_end_matches('/'));
    items.filter(|url| !url.is_empty())
}

pub(super) fn check(checker: &mut Checker<'_>) {
    let Some(format) = checker
        .text("value.format")
        .map(|text| Format::parse(&text))
    else {
        return;
    };
    let framed = checker.is("value.avro.framing", "registry").unwrap_or(true);
    avro(checker, format, framed);
    // In a file there is one schema, whatever a topic holds.
    if format == Format::Envelope || format == Format::Avro && framed {
        several_topics(checker);
    }
    let asks = format == Format::Avro && framed;
    for key in OF_REGISTRY.into_iter().chain([URL]) {
        if !asks && checker.typed(key) {
            no_effect(
                checker,
                key,
                "no registry is asked",
                "write value.format = \"avro\", or take the key out",
            );
        } else if key != URL && checker.typed(key) && !checker.typed(URL) {
            no_effect(
                checker,
                key,
                "there is no `schema.registry.url`",
                "name the registry, or take the key out",
            );
        }
    }
    for key in [
        "value.on.null",
        "schema.on.incompatible",
        "schema.evolution",
    ] {
        if !format.has_schema() && checker.typed(key) {
            no_effect(
                checker,
                key,
                "values have no schema",
                "write value.format = \"avro\" or \"json-envelope\", or take the key out",
            );
        }
    }
    let infers = checker.value("schema.inference") == Some(Value::Flag(true));
    if infers && !matches!(format, Format::Bytes | Format::Json) {
        let message =
            "`schema.inference` looks at bytes, and `value.format` makes something else of them"
                .to_owned();
        checker.contradiction("schema.inference", message, "take one of them out");
    }
    if asks && checker.typed(URL) {
        urls(checker);
    }
    credentials(checker);
}

fn avro(checker: &mut Checker<'_>, format: Format, framed: bool) {
    let file = checker.typed(FILE);
    if format != Format::Avro {
        for key in ["value.avro.framing", FILE] {
            if checker.typed(key) {
                no_effect(
                    checker,
                    key,
                    "values are not Avro",
                    "write value.format = \"avro\", or take the key out",
                );
            }
        }
    } else if framed && !checker.typed(URL) {
        let message =
            "`value.format`: the id before an Avro value is one of a schema registry".to_owned();
        checker.problem("value.format", problem::MISSING, message).hint = Some(
            "write schema.registry.url; or value.avro.framing = \"none\" and value.schema.file, where values have no id".to_owned(),
        );
    } else if !framed && !file {
        let message =
            "`value.avro.framing`: without an id before it a value does not say its schema"
                .to_owned();
        checker
            .problem("value.avro.framing", problem::MISSING, message)
            .hint =
            Some("name the file of the schema: value.schema.file = \"orders.avsc\"".to_owned());
    }
}

/// Each topic has a schema of its own more often than not.
fn several_topics(checker: &mut Checker<'_>) {
    let Some(source) = checker.source else {
        return;
    };
    let key = match (checker.pattern(), checker.topics()) {
        (Some(_), _) => source.pattern,
        (None, Some(topics)) if topics.len() > 1 => source.topics,
        _ => return,
    };
    let key = key.unwrap_or_default();
    let message = format!(
        "`{key}`: several topics are read by one schema, that of their first record; one whose schema has none of its fields is not read (schema.on.incompatible)"
    );
    let problem = checker.problem(key, problem::CONTRADICTION, message);
    problem.severity = problem::Severity::Warning;
    problem.hint = Some(
        "one pipeline for each schema; topics of the same schema can stay together".to_owned(),
    );
}

fn no_effect(checker: &mut Checker<'_>, key: &str, why: &str, hint: &str) {
    let message = format!("`{key}` has no effect: {why}");
    checker.contradiction(key, message, hint);
}

fn urls(checker: &mut Checker<'_>) {
    let typed = checker.text(URL).unwrap_or_default();
    let all: Vec<String> = addresses(&typed).map(str::to_owned).collect();
    let secret = checker.typed(LOGIN) || checker.typed(TOKEN);
    for url in &all {
        let rest = url.strip_prefix("https://").or(url.strip_prefix("http://"));
        let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
        match host {
            Some(host) if host.contains('@') => {
                let message = format!("`{URL}`: a login in a URL would be shown in logs");
                checker.problem(URL, problem::CONTRADICTION, message).hint = Some(format!(
                    "write {LOGIN} = \"${{env:NAME}}\", with user:password"
                ));
            }
            Some(host) if !host.is_empty() && !host.starts_with(':') => {
                let open = url.starts_with("http://") && !is_loopback(host);
                if secret && open {
                    let message = format!("`{URL}`: credentials would travel unencrypted");
                    let problem = checker.problem(URL, problem::CONTRADICTION, message);
                    problem.severity = problem::Severity::Warning;
                    problem.hint = Some("write https://".to_owned());
                }
            }
            _ => {
                let message = format!(
                    "`{URL}`: expected URLs that begin with http:// or https://, separated by commas"
                );
                checker.problem(URL, problem::BAD_URL, message);
                return;
            }
        }
    }
    if all.is_empty() {
        let message = format!("`{URL}`: expected a URL that begins with http:// or https://");
        checker.problem(URL, problem::BAD_URL, message);
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.starts_with("localhost:")
        || host.starts_with("127.")
        || host.starts_with("[::1]")
}

fn credentials(checker: &mut Checker<'_>) {
    if checker.typed(LOGIN) && checker.typed(TOKEN) {
        let message = format!("`{LOGIN}` and `{TOKEN}` both say how requests are authorized");
        checker.contradiction(LOGIN, message, "take one of them out");
    }
    if checker.typed(CERTIFICATE) != checker.typed(KEY) {
        let given = match checker.typed(CERTIFICATE) {
            true => CERTIFICATE,
            false => KEY,
        };
        let message = format!("`{given}`: a client certificate is two files");
        checker.contradiction(
            given,
            message,
            "give schema.registry.tls.certificate and schema.registry.tls.key",
        );
    }
}
