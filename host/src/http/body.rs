//! Bodies: JSON of the expected form, or a 400 that says what is wrong where.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::fault::{HttpError, invalid};
use super::route::Request;
use crate::config::{Place, Problem, problem};

impl Request {
    pub fn json(&self) -> Result<Value, HttpError> {
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Err(HttpError::bad("the request has no body; JSON is expected"));
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| HttpError::bad(format!("the body is not JSON: {error}")))
    }

    pub fn object(&self) -> Result<Map<String, Value>, HttpError> {
        match self.json()? {
            Value::Object(object) => Ok(object),
            other => Err(HttpError::bad(format!(
                "the body is {}; an object is expected",
                kind(&other)
            ))),
        }
    }

    /// The body as a type whose members are all optional. If it does not match, the error names the wrong member.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        let object = self.object()?;
        let whole = match T::deserialize(Value::Object(object.clone())) {
            Ok(read) => return Ok(read),
            Err(error) => error,
        };
        let alone = |(key, value): (&String, &Value)| {
            let one = Map::from_iter([(key.clone(), value.clone())]);
            let error = T::deserialize(Value::Object(one)).err()?;
            Some(format!("`{key}`: {error}"))
        };
        let wrong = object.iter().find_map(alone);
        Err(HttpError::bad(
            wrong.unwrap_or_else(|| format!("the body: {whole}")),
        ))
    }

    /// The body as an object with no other members than these.
    pub fn members(&self, known: &[&str]) -> Result<Map<String, Value>, HttpError> {
        let object = self.object()?;
        only(&object, known, "the body")?;
        Ok(object)
    }
}

pub(super) fn only(
    object: &Map<String, Value>,
    known: &[&str],
    what: &str,
) -> Result<(), HttpError> {
    for key in object.keys() {
        if !known.contains(&key.as_str()) {
            return Err(HttpError::bad(format!(
                "{what} has an unknown member {key:?}; known are: {}",
                known.join(", ")
            )));
        }
    }
    Ok(())
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A member that must be a string if it is there and not null.
pub(super) fn text(object: &Map<String, Value>, key: &str) -> Result<Option<String>, HttpError> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(HttpError::bad(format!(
            "`{key}` is {}; a string is expected",
            kind(other)
        ))),
    }
}

/// As [`text`]; a number or boolean is taken as its text, as Connect reads names and levels.
pub(super) fn word(object: &Map<String, Value>, key: &str) -> Result<Option<String>, HttpError> {
    match object.get(key) {
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(Value::Bool(flag)) => Ok(Some(flag.to_string())),
        _ => text(object, key),
    }
}

/// A config, with `None` for null. Numbers and booleans become strings, as Connect stores them, each as it was typed,
/// so that 1.10 stays 1.10.
pub(super) fn changes(
    object: Map<String, Value>,
    mut typed: BTreeMap<String, String>,
) -> Result<BTreeMap<String, Option<String>>, HttpError> {
    let entries = object.into_iter().map(|(key, value)| {
        let text = match value {
            Value::Null => None,
            Value::String(text) => Some(text),
            Value::Bool(flag) => Some(flag.to_string()),
            Value::Number(number) => typed.remove(&key).or_else(|| Some(number.to_string())),
            Value::Array(_) | Value::Object(_) => {
                return Err(HttpError::bad(format!(
                    "the config's {key:?} is {}; a string, number or boolean is expected",
                    kind(&value)
                )));
            }
        };
        Ok((key, text))
    });
    entries.collect()
}

/// A config without nulls.
pub(super) fn config(
    object: Map<String, Value>,
    typed: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, HttpError> {
    let mut problems = Vec::new();
    let mut config = BTreeMap::new();
    for (key, value) in changes(object, typed)? {
        match value {
            Some(value) => {
                config.insert(key, value);
            }
            None => problems.push(null(&key)),
        }
    }
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(invalid(&problems))
    }
}

/// The numbers among the members of a JSON object, as they were typed; of the body itself, or of its member `under`.
/// The text has been found to be JSON.
pub(super) fn numbers(body: &[u8], under: Option<&str>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let Ok(text) = std::str::from_utf8(body) else {
        return found;
    };
    // The key being read of each open object; none within an array.
    let mut open: Vec<Option<String>> = Vec::new();
    let mut key_next = false;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => string_length(rest),
            '-' | '0'..='9' => rest.find([',', '}', ']', ' ', '\n', '\r', '\t']),
            _ => None,
        };
        let (token, after) = rest.split_at(length.unwrap_or(first.len_utf8()));
        rest = after;
        match first {
            '{' => {
                open.push(Some(String::new()));
                key_next = true;
            }
            '[' => {
                open.push(None);
                key_next = false;
            }
            '}' | ']' => {
                open.pop();
                key_next = false;
            }
            ',' => key_next = open.last().is_some_and(Option::is_some),
            '"' if key_next => {
                if let Some(key) = open.last_mut() {
                    *key = serde_json::from_str(token).ok();
                }
                key_next = false;
            }
            '-' | '0'..='9' => {
                let key = match (under, open.as_slice()) {
                    (None, [Some(key)]) => Some(key),
                    (Some(under), [Some(outer), Some(key)]) if outer == under => Some(key),
                    _ => None,
                };
                if let Some(key) = key {
                    found.insert(key.clone(), token.to_owned());
                }
            }
            _ => {}
        }
    }
    found
}

/// With both quotes.
fn string_length(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Connect's words for a value that is null; its clients compare them.
pub(super) const NULL_VALUE: &str = "Null value can not be supplied as the configuration value.";

pub(super) fn null(key: &str) -> Problem {
    let place = Place::File {
        file: "request".into(),
        line: 1,
        column: 1,
    };
    Problem::new(place, key, problem::WRONG_TYPE, NULL_VALUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_as_they_were_typed() {
        let body = br#"{"a": 1.10, "b":1e5,"c\"}":-0.0, "s":"7, \"x\": 8", "n":[{"a":9}, 3],
            "config": {"a": 12345678901234567890123, "o":{"d":4}, "t":true}, "z":2}"#;
        serde_json::from_slice::<Value>(body).expect("JSON");
        let pairs = |found: BTreeMap<String, String>| found.into_iter().collect::<Vec<_>>();
        let of = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            let all = all.iter();
            all.map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let top = [("a", "1.10"), ("b", "1e5"), ("c\"}", "-0.0"), ("z", "2")];
        assert_eq!(pairs(numbers(body, None)), of(&top));
        let inner = [("a", "12345678901234567890123")];
        assert_eq!(pairs(numbers(body, Some("config"))), of(&inner));
        assert!(numbers(b"5", None).is_empty() && numbers(b"[1]", None).is_empty());
    }
}
