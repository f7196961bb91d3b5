//! Converters: what a message is before the first transform.

use super::Work;
use crate::config::problem;

pub(super) const VALUE: &str = "value.converter";
const REGEX: &str = "topics.regex";

/// What the first transform gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The message as it is, one column: text or bytes.
    Whole { text: bool },
    /// JSON; in Connect's envelope of schema and payload, or as it is.
    Json { envelope: bool },
    /// Columns by a schema, which is known from the first record.
    Columns,
    /// Refused already.
    Unknown,
}

pub(super) fn translate(work: &mut Work<'_>) -> Start {
    for key in ["key.converter", "header.converter"] {
        for name in work.below(&format!("{key}.")) {
            work.used(&format!("{key}.{name}"));
        }
    }
    if work.get("key.converter").is_some() {
        work.note("key.converter", "no effect: a rule that reads values writes no keys, and where values are kept as they are keys are bytes");
    }
    let start = value(work);
    for name in work.below("value.converter.") {
        work.used(&format!("value.converter.{name}"));
    }
    start
}

/// Values become columns by a schema: the keys of a native converter.
pub(super) fn by_schema(work: &mut Work<'_>, format: &str) {
    work.put("value.format", format, VALUE);
    work.put("schema.evolution", "follow", VALUE);
    work.note(VALUE, "the columns are the fields of the first record's schema; a field that a later schema adds becomes a column that may be null, by a swap; a record whose schema cannot be read so stops the connector (schema.on.incompatible)");
    let key = match work.get(REGEX).is_some() {
        true => REGEX,
        false => "topics",
    };
    if key == REGEX || work.list(key).len() > 1 {
        work.note(key, "all topics are read by one schema: a topic of another schema needs a connector of its own, and stops this one if it shares no field with the first record (schema.on.incompatible)");
    }
}

fn value(work: &mut Work<'_>) -> Start {
    let Some(class) = work.get(VALUE) else {
        let message =
            "`value.converter` is missing, and no worker says one for connectors that name none"
                .to_owned();
        work.problem(VALUE, problem::MISSING, message).hint = Some(
            "write StringConverter, ByteArrayConverter, JsonConverter or AvroConverter, as your worker had it; or give the daemon your worker's file".to_owned(),
        );
        return Start::Unknown;
    };
    match class.rsplit('.').next().unwrap_or(&class) {
        "StringConverter" => {
            const ENCODING: &str = "value.converter.converter.encoding";
            let encoding = work.get(ENCODING).unwrap_or_default().to_lowercase();
            if !["", "utf-8", "utf8"].contains(&encoding.as_str()) {
                work.refuse(
                    ENCODING,
                    format!("texts are UTF-8, not {encoding}"),
                    "use ByteArrayConverter and a plugin that reads them",
                );
            }
            Start::Whole { text: true }
        }
        "ByteArrayConverter" => Start::Whole { text: false },
        "JsonConverter" => json(work),
        "AvroConverter" if class == "AvroConverter" || class.starts_with("io.confluent.") => {
            by_schema(work, "avro");
            registry(work);
            Start::Columns
        }
        name @ ("AvroConverter" | "ProtobufConverter" | "JsonSchemaConverter") => {
            let reason = format!(
                "`{class}`: of what a schema registry describes Confluent's Avro is read, and {name} is not that"
            );
            work.refuse(VALUE, reason, "write the topic as Avro or JSON, or keep the bytes (ByteArrayConverter) and give them to a plugin of your own");
            Start::Unknown
        }
        name if ["Boolean", "Short", "Integer", "Long", "Float", "Double"]
            .iter()
            .any(|kind| name == format!("{kind}Converter")) =>
        {
            let reason = format!(
                "{name} makes a number of the whole value, and there is no column to name it by"
            );
            work.refuse(
                VALUE,
                reason,
                "keep the bytes (ByteArrayConverter), or give them to a plugin of your own",
            );
            Start::Unknown
        }
        name => {
            let reason = format!("`{name}` is a Java class that cannot be loaded");
            work.refuse(
                VALUE,
                reason,
                "StringConverter, ByteArrayConverter, JsonConverter and AvroConverter are understood",
            );
            Start::Unknown
        }
    }
}

/// Keys of Confluent's AvroConverter: how the registry is asked.
fn registry(work: &mut Work<'_>) {
    let key = |name: &str| format!("{VALUE}.{name}");
    let url = key("schema.registry.url");
    match work.typed(&url) {
        Some(typed) => work.put("schema.registry.url", typed, &url),
        None => {
            let message = format!("`{url}` is missing: AvroConverter asks a schema registry");
            work.problem(&url, problem::MISSING, message).hint =
                Some("write the registry's address, as your worker had it".to_owned());
        }
    }
    logins(work);
    trust(work);
    if work.flag(&key("use.latest.version")) == Some(true) {
        work.note(
            &key("use.latest.version"),
            "no effect: values are read by the schema whose id they carry",
        );
    }
    if work.flag(&key("enhanced.avro.schema.support")) == Some(true) {
        work.note(
            &key("enhanced.avro.schema.support"),
            "no effect: an enum is a text, and names of schemas are not written",
        );
    }
    for name in work.below(&format!("{VALUE}.")) {
        // What decides who is asked, and how, is never passed over.
        let decides = ["ssl.", "sasl.", "auth.", "proxy.", "oauth"]
            .iter()
            .any(|word| name.contains(word));
        if decides && !work.is_used(&key(&name)) {
            work.refuse(
                &key(&name),
                "it says how the registry is reached, and has no equal here",
                "schema.registry.basic.auth.user.info, schema.registry.bearer.auth.token and schema.registry.tls.* are the keys for that; take this one out",
            );
        }
    }
}

/// `schema.registry.` may stand before the names of its keys.
fn under(work: &mut Work<'_>, name: &str) -> Option<(String, String)> {
    for prefix in ["", "schema.registry."] {
        let key = format!("{VALUE}.{prefix}{name}");
        if let Some(typed) = work.typed(&key) {
            return Some((key, typed.to_owned()));
        }
    }
    None
}

fn logins(work: &mut Work<'_>) {
    let source = under(work, "basic.auth.credentials.source");
    let login = under(work, "basic.auth.user.info");
    match (source, login) {
        (Some((key, source)), _) if !["USER_INFO", "URL"].contains(&source.as_str()) => {
            work.refuse(
                &key,
                format!("`{source}`: a login of another client is not taken"),
                "write USER_INFO, and basic.auth.user.info as a reference",
            );
        }
        (Some((key, _)), None) => work.refuse(
            &key,
            "there is no basic.auth.user.info, and a login in a URL would be shown in logs",
            "write USER_INFO, and basic.auth.user.info as a reference: ${env:NAME}",
        ),
        (_, Some((key, login))) => work.put("schema.registry.basic.auth.user.info", login, &key),
        (None, None) => {}
    }
    let source = under(work, "bearer.auth.credentials.source");
    let token = under(work, "bearer.auth.token");
    match (source, token) {
        (Some((key, source)), _) if source != "STATIC_TOKEN" => {
            work.refuse(
                &key,
                format!("`{source}`: tokens are not fetched"),
                "write STATIC_TOKEN, and bearer.auth.token as a reference",
            );
        }
        (_, Some((key, token))) => work.put("schema.registry.bearer.auth.token", token, &key),
        _ => {}
    }
}

/// Java's stores of certificates, where they are PEM files.
fn trust(work: &mut Work<'_>) {
    let pem = |work: &mut Work<'_>, store: &str| {
        let kind = under(work, &format!("ssl.{store}.type"));
        kind.is_some_and(|(_, kind)| kind.eq_ignore_ascii_case("PEM"))
    };
    if let Some((key, path)) = under(work, "ssl.truststore.location") {
        match pem(work, "truststore") {
            true => work.put("schema.registry.tls.ca", path, &key),
            false => work.refuse(&key, "a truststore of Java is not read", "write its certificates into a PEM file (keytool -exportcert -rfc) and name it in schema.registry.tls.ca"),
        }
    }
    if let Some((key, path)) = under(work, "ssl.keystore.location") {
        match pem(work, "keystore") {
            // One file holds both.
            true => {
                work.put("schema.registry.tls.certificate", path.clone(), &key);
                work.put("schema.registry.tls.key", path, &key);
            }
            false => work.refuse(&key, "a keystore of Java is not read", "write certificate and key into PEM files, and name them in schema.registry.tls.certificate and schema.registry.tls.key"),
        }
    }
}

fn json(work: &mut Work<'_>) -> Start {
    let envelope = work.flag("value.converter.schemas.enable").unwrap_or(true);
    // Both forms of a Decimal are read where a schema says that it is one.
    work.used("value.converter.decimal.format");
    Start::Json { envelope }
}

/// Notes of a json-flatten that reads envelopes, which looks at columns of its own.
pub(super) fn flattened_envelope(work: &mut Work<'_>) {
    work.note(VALUE, "each message is an envelope, and the columns are read from its payload; a message that is none is refused (no_record), and so is a row whose schema says that a column is no plain JSON: a Decimal in base64, bytes, a time where no number is wanted (envelope_schema)");
    let base64 = work
        .get("value.converter.decimal.format")
        .is_some_and(|format| !format.eq_ignore_ascii_case("NUMERIC"));
    if base64 {
        work.note("value.converter.decimal.format", "decimals in base64 are refused (envelope_schema); json-flatten reads decimals that are written as numbers");
    }
}
