//! One thing wrong in a config: where, which key, a stable code, what was expected and found, and what fixes it.

use std::fmt;
use std::sync::Arc;

use serde_json::json;

/// Where a key was typed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Line and column count from 1; (1, 1) if something is missing.
    File {
        file: Arc<str>,
        line: u32,
        column: u32,
    },
    /// `--set key=value`, by its position on the command line, from 1.
    Set(u32),
}

impl Place {
    /// The beginning of a config that has a name but no file, such as one by REST.
    pub fn start_of(name: &str) -> Place {
        Place::File {
            file: name.into(),
            line: 1,
            column: 1,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Place::Set(n) => write!(f, "--set (number {n})"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    /// It is reported, but refuses nothing.
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub place: Place,
    /// The key with dots, as in the canonical map; empty if the problem is the file itself.
    pub key: String,
    /// One of [`CODES`].
    pub code: &'static str,
    pub severity: Severity,
    pub message: String,
    pub hint: Option<String>,
}

impl Problem {
    pub fn new(
        place: Place,
        key: impl Into<String>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Problem {
        Problem {
            place,
            key: key.into(),
            code,
            severity: Severity::Error,
            message: message.into(),
            hint: None,
        }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn warning(mut self) -> Problem {
        self.severity = Severity::Warning;
        self
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    pub fn to_json(&self) -> serde_json::Value {
        let (file, line, column) = match &self.place {
            Place::File { file, line, column } => {
                (json!(file.as_ref()), json!(line), json!(column))
            }
            Place::Set(n) => (json!(format!("--set {n}")), json!(null), json!(null)),
        };
        json!({
            "severity": match self.severity { Severity::Error => "error", Severity::Warning => "warning" },
            "code": self.code, "file": file, "line": line, "column": column,
            "key": self.key, "message": self.message, "hint": self.hint,
        })
    }
}

/// Three lines: `error[code]: message`, the place and key, the hint.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(
            f,
            "{severity}[{}]: {}\n  --> {}",
            self.code, self.message, self.place
        )?;
        if !self.key.is_empty() {
            write!(f, "  {}", self.key)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

pub const UNREADABLE: &str = "unreadable";
pub const SYNTAX: &str = "syntax";
pub const UNKNOWN_KEY: &str = "unknown_key";
pub const MISSING: &str = "missing";
pub const WRONG_TYPE: &str = "wrong_type";
pub const WRONG_UNIT: &str = "wrong_unit";
pub const OUT_OF_RANGE: &str = "out_of_range";
pub const NOT_A_CHOICE: &str = "not_a_choice";
pub const CONTRADICTION: &str = "contradiction";
pub const DOES_NOT_APPLY: &str = "does_not_apply";
pub const DUPLICATE: &str = "duplicate";
pub const BAD_NAME: &str = "bad_name";
pub const BAD_URL: &str = "bad_url";
pub const BAD_FORMAT: &str = "bad_format";
pub const BAD_PLUGIN: &str = "bad_plugin";
pub const BAD_REFERENCE: &str = "bad_reference";
pub const UNRESOLVED: &str = "unresolved";
pub const OWNED_PROPERTY: &str = "owned_property";
pub const REFUSED_PROPERTY: &str = "refused_property";
pub const UNLISTED_TRANSFORM: &str = "unlisted_transform";
pub const UNKNOWN_PROFILE: &str = "unknown_profile";
pub const SAME_PIPELINE: &str = "same_pipeline";
pub const SAME_TABLE: &str = "same_table";
pub const PLUGIN_CONFIG: &str = "plugin_config";
/// The only code that is no fault of the config.
pub const NO_MEMORY: &str = "no_memory";
pub const NOT_TRANSLATED: &str = "not_translated";
pub const REFERENCE_SHOWS: &str = "reference_shows";
pub const OUT_OF_REACH: &str = "out_of_reach";
pub const COLUMNS_BREAK: &str = "columns_break";
pub const COLUMN_CLASH: &str = "column_clash";
pub const LITERAL_SECRET: &str = "literal_secret";

/// Every code with its one sentence; `docs/errors.md` has a section for each.
pub const CODES: &[(&str, &str)] = &[
    (UNREADABLE, "a config file cannot be read"),
    (SYNTAX, "the file is not valid TOML, properties or JSON"),
    (UNKNOWN_KEY, "no such key"),
    (MISSING, "a key without default is not there"),
    (WRONG_TYPE, "the value is not of the key's type"),
    (
        WRONG_UNIT,
        "a duration or size has no unit, or one that is not known",
    ),
    (
        OUT_OF_RANGE,
        "the value is below or above what the key takes",
    ),
    (NOT_A_CHOICE, "the value is none of the key's choices"),
    (CONTRADICTION, "two keys cannot both be true"),
    (
        DOES_NOT_APPLY,
        "the key has no meaning for this source, trigger or sink",
    ),
    (DUPLICATE, "given twice"),
    (
        BAD_NAME,
        "a name has characters that paths, logs or metrics cannot carry",
    ),
    (BAD_URL, "not a store's URL"),
    (
        BAD_FORMAT,
        "not a date format that a partition can be named by",
    ),
    (
        BAD_PLUGIN,
        "not `name`, `name@version` or `name@sha256:digest`",
    ),
    (BAD_REFERENCE, "a `${…}` reference is not well formed"),
    (
        UNRESOLVED,
        "a reference names a variable, file or key that is not there",
    ),
    (
        OWNED_PROPERTY,
        "a Kafka property that the commit protocol decides",
    ),
    (REFUSED_PROPERTY, "a Kafka property that no config may set"),
    (
        UNLISTED_TRANSFORM,
        "keys of a transform that `transforms` does not list, or a listed one without keys",
    ),
    (UNKNOWN_PROFILE, "no file of the run has this profile"),
    (SAME_PIPELINE, "two pipelines of one run have the same name"),
    (SAME_TABLE, "two pipelines would own the same table or log"),
    (PLUGIN_CONFIG, "a plugin refused its config"),
    (NO_MEMORY, "there is no memory left to start a plugin"),
    (
        NOT_TRANSLATED,
        "a key of a Kafka Connect config that cannot be honoured",
    ),
    (
        REFERENCE_SHOWS,
        "a reference where what it stands for would show, in a config by REST",
    ),
    (
        OUT_OF_REACH,
        "a file or directory that a config by REST may not use, or one of the daemon's own",
    ),
    (
        COLUMNS_BREAK,
        "columns go or change their type, and nobody said that they may",
    ),
    (
        COLUMN_CLASH,
        "two columns of a table have one name to SQL engines",
    ),
    (
        LITERAL_SECRET,
        "a password or token stands in the config itself, not as a reference",
    ),
];
