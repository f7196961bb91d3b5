//! Converters: what a message is before the first transform.

use super::Work;
use crate::config::problem;

pub(super) const VALUE: &str = "value.converter";

/// What the first transform gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The message as it is, one column: text or bytes.
    Whole { text: bool },
    /// JSON; in Connect's envelope of schema and payload, or as it is.
    Json { envelope: bool },
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

fn value(work: &mut Work<'_>) -> Start {
    let Some(class) = work.get(VALUE) else {
        let message =
            "`value.converter` is missing, and no worker says one for connectors that name none"
                .to_owned();
        work.problem(VALUE, problem::MISSING, message).hint = Some(
            "write StringConverter, ByteArrayConverter or JsonConverter, as your worker had it; or give the daemon your worker's file".to_owned(),
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
        name @ ("AvroConverter" | "ProtobufConverter" | "JsonSchemaConverter") => {
            let reason = format!("{name} needs a schema registry, which this version does not ask");
            work.refuse(VALUE, reason, "write the topic as JSON (JsonConverter), or keep the bytes (ByteArrayConverter) and give them to a plugin of your own");
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
                "StringConverter, ByteArrayConverter and JsonConverter are understood",
            );
            Start::Unknown
        }
    }
}

fn json(work: &mut Work<'_>) -> Start {
    let envelope = work.flag("value.converter.schemas.enable").unwrap_or(true);
    if envelope {
        work.note(VALUE, "each message is an envelope, and the columns are read from its payload; a message that is none is refused (no_record), and so is a row whose schema says that a column is no plain JSON: a Decimal in base64, bytes, a time where no number is wanted (envelope_schema)");
    }
    let base64 = work
        .get("value.converter.decimal.format")
        .is_some_and(|format| !format.eq_ignore_ascii_case("NUMERIC"));
    if base64 {
        work.note("value.converter.decimal.format", "decimals in base64 are refused (envelope_schema); json-flatten reads decimals that are written as numbers");
    }
    Start::Json { envelope }
}
