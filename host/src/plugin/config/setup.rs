//! The parts of a transform, and the problems of its config: all at once, each at its key.

use std::collections::BTreeMap;
use std::io;

use arrow_schema::SchemaRef;

use crate::error::{Error, Result};
use crate::plugin::Limits;

/// A transform's keys as typed.
pub struct Keys<'a> {
    /// Flat keys without the transform's prefix, references unresolved.
    pub config: &'a BTreeMap<String, String>,
    /// Resolves the references of a typed text. Called only for paths of files and tables.
    pub resolve: &'a dyn Fn(&str) -> Result<String>,
    /// Bytes of the file that a key marked `weir-file` or `weir-table` names.
    pub read_file: &'a dyn Fn(&str) -> io::Result<Vec<u8>>,
}

/// A transform's place in a chain.
pub struct Stage<'a> {
    /// The transform's name in the pipeline.
    pub transform: &'a str,
    /// Columns of the stage before.
    pub input: SchemaRef,
    pub limits: Limits,
    /// Resolves the references of a typed text. Called only for keys marked `weir-secret`.
    pub resolve: &'a dyn Fn(&str) -> Result<String>,
}

#[derive(Debug)]
pub enum SetupError {
    /// Problems of the config; at least one.
    Problems(Vec<SetupProblem>),
    /// The plugin itself does not start.
    Failed(Error),
}

impl From<Error> for SetupError {
    fn from(error: Error) -> Self {
        SetupError::Failed(error)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupProblem {
    /// Flat key without the transform's prefix; empty for the config as a whole.
    pub key: String,
    /// Line and column, from 1, in the file that the key names.
    pub at: Option<(u32, u32)>,
    pub code: String,
    pub message: String,
    pub hint: Option<String>,
}

impl SetupProblem {
    pub(in crate::plugin) fn new(key: &str, code: &str, message: String) -> Self {
        let (key, code) = (key.to_owned(), code.to_owned());
        SetupProblem {
            key,
            at: None,
            code,
            message,
            hint: None,
        }
    }

    #[must_use]
    pub(in crate::plugin) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The problem of a reference that cannot be resolved.
    pub(in crate::plugin) fn unresolved(key: &str, error: &Error) -> Self {
        let mut problem = SetupProblem::new(key, "unresolved", error.message().to_owned());
        problem.hint = error.hint_text().map(str::to_owned);
        problem
    }

    /// From a plugin: `at` is a JSON Pointer, or a file's key and `:line:column`.
    pub(in crate::plugin) fn of_plugin(at: &str, code: String, message: String) -> Self {
        let mut problem = SetupProblem::new("", &code, message);
        if let Some(pointer) = at.strip_prefix('/') {
            problem.key = pointer.replace("~1", "/").replace("~0", "~");
            return problem;
        }
        let mut parts = at.rsplitn(3, ':');
        let (column, line, key) = (parts.next(), parts.next(), parts.next());
        let number = |text: Option<&str>| text.and_then(|n| n.parse().ok());
        match (number(line), number(column), key) {
            (Some(line), Some(column), Some(key)) => {
                problem.key = key.to_owned();
                problem.at = Some((line, column));
            }
            _ => problem.key = at.to_owned(),
        }
        problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugins_places_become_keys() {
        let at = |at: &str| {
            let p = SetupProblem::of_plugin(at, "c".into(), "m".into());
            (p.key, p.at)
        };
        assert_eq!(at("/a~1b~0c"), ("a/b~c".into(), None));
        assert_eq!(at("rules:3:14"), ("rules".into(), Some((3, 14))));
        assert_eq!(at(""), (String::new(), None));
    }
}
