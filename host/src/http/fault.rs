//! Every refusal as Connect's clients expect it: `{"error_code": <the status>, "message": <text>}`.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::body::NULL_VALUE;
use crate::config::Problem;
use crate::daemon::Refused;
use crate::error::{Error, Kind};
use crate::text::{printable_json, printable_lines};

/// What a refusal says; Connect's two fields first, in its order.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(super) struct ErrorBody<'a> {
    /// The status of the answer.
    #[schemars(range(min = 400, max = 599))]
    error_code: u16,
    message: Cow<'a, str>,
    /// A code of docs/errors.md, a hint and more; only on routes that Connect does not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Value>,
}

#[derive(Debug)]
pub(super) struct HttpError {
    pub status: u16,
    pub message: String,
    /// A member `details` beside Connect's two; only on routes that Connect does not have.
    pub details: Option<Value>,
    pub headers: Vec<(&'static str, String)>,
}

impl HttpError {
    pub fn new(status: u16, message: impl Into<String>) -> HttpError {
        HttpError {
            status,
            message: message.into(),
            details: None,
            headers: Vec::new(),
        }
    }

    pub fn bad(message: impl Into<String>) -> HttpError {
        HttpError::new(400, message)
    }

    pub fn not_found(message: impl Into<String>) -> HttpError {
        HttpError::new(404, message)
    }

    /// 409: not possible at the moment; clients try again.
    pub fn conflict(message: impl Into<String>) -> HttpError {
        HttpError::new(409, message)
    }

    pub fn internal(message: impl Into<String>) -> HttpError {
        HttpError::new(500, message)
    }

    #[must_use]
    pub fn details(mut self, details: Value) -> HttpError {
        self.details = Some(details);
        self
    }

    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> HttpError {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(&self) -> Vec<u8> {
        let body = ErrorBody {
            error_code: self.status,
            message: printable_lines(&self.message),
            details: self.details.as_ref(),
        };
        // A status, a text and what is JSON already.
        let text = serde_json::to_string(&body).unwrap_or_default();
        printable_json(&text).into_owned().into_bytes()
    }
}

impl From<Refused> for HttpError {
    fn from(refused: Refused) -> HttpError {
        match refused {
            Refused::NotFound(message) => HttpError::not_found(message),
            Refused::Exists(message) | Refused::Conflict(message) => HttpError::conflict(message),
            Refused::Invalid(problems) => invalid(&problems),
            Refused::Bad(message) => HttpError::bad(message),
            Refused::Busy(message) => HttpError::new(503, message).header("retry-after", "1"),
            Refused::Failed(error) => HttpError::from(error),
        }
    }
}

impl From<Error> for HttpError {
    fn from(error: Error) -> HttpError {
        let status = match error.kind() {
            Kind::ConfigInvalid | Kind::PluginRefused | Kind::LimitReached => 400,
            Kind::Conflict | Kind::Stopped => 409,
            Kind::DaemonUnavailable
            | Kind::SourceUnavailable
            | Kind::SourceLost
            | Kind::StoreUnavailable
            | Kind::SinkUnavailable
            | Kind::LogCorrupt
            | Kind::RecordRefused
            | Kind::PluginBroken
            | Kind::StoreFailed
            | Kind::SinkRefused
            | Kind::Bug => 500,
        };
        HttpError::new(status, error.to_string()).details(json!({ "code": error.kind().code() }))
    }
}

/// Connect's wording for an invalid config: one line per error, then where to validate it.
pub(super) fn invalid(problems: &[Problem]) -> HttpError {
    let lines: Vec<String> = problems
        .iter()
        .filter(|problem| problem.is_error())
        .map(line)
        .collect();
    HttpError::bad(format!(
        "Connector configuration is invalid and contains the following {} error(s):\n{}\n\
         You can also find the above list of errors at the endpoint `/connector-plugins/{{connectorType}}/config/validate`",
        lines.len(),
        lines.join("\n")
    ))
}

/// One line: key, what is wrong, what fixes it, the code for `weir explain`.
fn line(problem: &Problem) -> String {
    match problem.key.as_str() {
        "" => words(problem),
        key => format!("{key}: {}", words(problem)),
    }
}

/// The same without the key.
pub(super) fn words(problem: &Problem) -> String {
    // Many messages begin with the key, which is already shown before them.
    let key = format!("`{}`: ", problem.key);
    let message = problem.message.strip_prefix(&key);
    let mut text = message.unwrap_or(&problem.message).to_owned();
    if let Some(hint) = &problem.hint {
        text.push_str(&format!(" ({hint})"));
    }
    if problem.message != NULL_VALUE {
        text.push_str(&format!(" [{}]", problem.code));
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Place, problem};

    #[test]
    fn a_config_error_has_its_key_once_and_its_code() {
        let at = |key: &str, code, message: &str| {
            Problem::new(Place::Set(1), key, code, message).hint("do this")
        };
        let doubled = at(
            "tasks.max",
            problem::WRONG_TYPE,
            "`tasks.max`: expected a number",
        );
        let plain = at("sink.url", problem::MISSING, "`sink.url` is missing");
        let message = invalid(&[doubled, plain]).message;
        let lines: Vec<&str> = message.lines().collect();
        assert_eq!(
            lines[1],
            "tasks.max: expected a number (do this) [wrong_type]"
        );
        assert_eq!(
            lines[2],
            "sink.url: `sink.url` is missing (do this) [missing]"
        );
    }
}
