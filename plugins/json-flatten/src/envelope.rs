//! Kafka Connect's envelope: finds columns whose JSON would be misread, by the schema of the message.
use std::borrow::Cow;

use hifijson::value::{self, Value};
use hifijson::{SliceLexer, token::Lex as _};

use crate::plan::{Layout, Step};
use weir_sdk::Type;

type Json<'a> = Value<&'a str, Cow<'a, str>>;

/// Of one column.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    Fine,
    /// Whatever stands there.
    Misread(String),
    /// A text that stands there; a number is what it says.
    NoText(String),
}

/// The last schema: messages of a topic seldom have another.
#[derive(Debug, Default)]
pub struct Known {
    text: Vec<u8>,
    pub verdicts: Vec<Verdict>,
}

/// Schemas nest as messages do.
const MAX_DEPTH: usize = 256;
const LOGICAL: &str = "org.apache.kafka.connect.data.";

impl Known {
    pub fn look(&mut self, layout: &Layout, text: &[u8]) {
        if self.text == text && !self.verdicts.is_empty() {
            return;
        }
        self.text.clear();
        self.text.extend_from_slice(text);
        let mut lexer = SliceLexer::new(text);
        let parsed = lexer.exactly_one(
            |l| l.ws_peek(),
            |next, lexer| value::parse_bounded(MAX_DEPTH, next, lexer),
        );
        let schema = parsed.unwrap_or(Json::Null);
        let of = |column: &crate::plan::Column| {
            let leaf = column.steps.iter().try_fold(&schema, step);
            leaf.map_or(Verdict::Fine, |leaf| {
                verdict(leaf, column.json, &column.kind)
            })
        };
        self.verdicts = layout.columns.iter().map(of).collect();
    }
}

fn member<'a>(of: &'a Json<'a>, name: &str) -> Option<&'a Json<'a>> {
    match of {
        Value::Object(members) => members.iter().find(|(k, _)| k == name).map(|(_, v)| v),
        _ => None,
    }
}

fn text<'a>(of: &'a Json<'a>, name: &str) -> &'a str {
    match member(of, name) {
        Some(Value::String(text)) => text,
        _ => "",
    }
}

/// The schema one step further down.
fn step<'a>(schema: &'a Json<'a>, step: &Step) -> Option<&'a Json<'a>> {
    match (text(schema, "type"), step) {
        ("struct", Step::Key(key)) => match member(schema, "fields")? {
            Value::Array(fields) => fields.iter().find(|f| text(f, "field") == key),
            _ => None,
        },
        ("map", Step::Key(_)) => member(schema, "values"),
        ("array", _) => member(schema, "items"),
        _ => None,
    }
}

fn verdict(schema: &Json<'_>, json: bool, kind: &Type) -> Verdict {
    if json {
        return Verdict::Fine; // as the message writes it
    }
    let whole = matches!(kind, Type::Int | Type::Long);
    let number = |what: &str| match whole {
        true => Verdict::Fine,
        false => Verdict::Misread(format!("a {what}; type long keeps that number")),
    };
    match (
        text(schema, "name").strip_prefix(LOGICAL),
        text(schema, "type"),
    ) {
        (Some("Decimal"), _) => {
            let what = "a Decimal, in base64: the producer's decimal.format=NUMERIC writes numbers";
            Verdict::NoText(what.into())
        }
        (Some("Timestamp"), _) => number("Timestamp, in milliseconds since 1970"),
        (Some("Date"), _) => number("Date, in days since 1970"),
        (Some("Time"), _) => number("Time, in milliseconds since midnight"),
        (_, "bytes") => Verdict::Misread("bytes, in base64; type json keeps that text".into()),
        _ => Verdict::Fine,
    }
}
