//! Bodies: JSON of the wanted form, or a 400 that says where it is not.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fault::{Fault, invalid};
use super::route::Request;
use crate::config::{Place, Problem, problem};

impl Request {
    pub fn json(&self) -> Result<Value, Fault> {
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Err(Fault::bad("the request has no body; JSON is expected"));
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| Fault::bad(format!("the body is not JSON: {error}")))
    }

    pub fn object(&self) -> Result<Map<String, Value>, Fault> {
        match self.json()? {
            Value::Object(object) => Ok(object),
            other => Err(Fault::bad(format!(
                "the body is {}; an object is expected",
                kind(&other)
            ))),
        }
    }

    /// The body as an object with no other members than these.
    pub fn members(&self, known: &[&str]) -> Result<Map<String, Value>, Fault> {
        let object = self.object()?;
        only(&object, known, "the body")?;
        Ok(object)
    }
}

pub(super) fn only(object: &Map<String, Value>, known: &[&str], what: &str) -> Result<(), Fault> {
    for key in object.keys() {
        if !known.contains(&key.as_str()) {
            return Err(Fault::bad(format!(
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
pub(super) fn text(object: &Map<String, Value>, key: &str) -> Result<Option<String>, Fault> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(Fault::bad(format!(
            "`{key}` is {}; a string is expected",
            kind(other)
        ))),
    }
}

/// A member that must be a boolean if it is there and not null.
pub(super) fn flag(object: &Map<String, Value>, key: &str) -> Result<Option<bool>, Fault> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(other) => Err(Fault::bad(format!(
            "`{key}` is {}; true or false is expected",
            kind(other)
        ))),
    }
}

/// A config with `None` where null stood. Numbers and booleans become strings, as Connect stores them.
pub(super) fn changes(
    object: Map<String, Value>,
) -> Result<BTreeMap<String, Option<String>>, Fault> {
    let entries = object.into_iter().map(|(key, value)| {
        let text = match value {
            Value::Null => None,
            Value::String(text) => Some(text),
            Value::Bool(flag) => Some(flag.to_string()),
            Value::Number(number) => Some(number.to_string()),
            Value::Array(_) | Value::Object(_) => {
                return Err(Fault::bad(format!(
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
pub(super) fn config(object: Map<String, Value>) -> Result<BTreeMap<String, String>, Fault> {
    let mut problems = Vec::new();
    let mut config = BTreeMap::new();
    for (key, value) in changes(object)? {
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

/// Connect's words for a value that is null.
pub(super) fn null(key: &str) -> Problem {
    let place = Place::File {
        file: "request".into(),
        line: 1,
        column: 1,
    };
    let message = "Null value can not be supplied as the configuration value.";
    Problem::new(place, key, problem::WRONG_TYPE, message)
}
