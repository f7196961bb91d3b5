//! Everything that decides what a converter does, in the form that is kept and digested.

use serde::{Deserialize, Serialize};

use crate::chain::Identity;
use crate::config::{Converters, Format, OnIncompatible, OnNull};
use crate::error::{Error, Kind, Result};
use crate::hash::sha256;

/// Names of converters in a pipeline, its log and its dead letters. No transform can have such a name: it has no dot.
pub const VALUE: &str = "value.converter";
pub const KEY: &str = "key.converter";

/// Raised when a converter makes other rows of the same bytes: the digest of the rule is then another one.
const VERSION: &str = "1";

/// Whether a transform of this name is a converter.
pub fn is_converter(transform: &str) -> bool {
    [VALUE, KEY].contains(&transform)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    String,
    Json,
    JsonEnvelope,
    Avro,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    Key,
    Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nulls {
    Refuse,
    Drop,
}

/// What becomes of an incompatible schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wrong {
    Stop,
    DeadLetters,
}

/// Fields in the order of their names, so that equal ones have equal texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub form: Form,
    /// The id of the schema stands before each value.
    pub framed: bool,
    /// The column `key` goes on beside the fields of the value.
    pub keeps_key: bool,
    pub nulls: Nulls,
    /// The schema in force, where the form has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    pub side: Side,
    pub wrong: Wrong,
}

impl Form {
    fn of(format: Format) -> Option<Form> {
        match format {
            Format::Bytes => None,
            Format::Text => Some(Form::String),
            Format::Json => Some(Form::Json),
            Format::Envelope => Some(Form::JsonEnvelope),
            Format::Avro => Some(Form::Avro),
        }
    }

    /// As keys and logs write it.
    pub fn word(self) -> &'static str {
        match self {
            Form::String => "string",
            Form::Json => "json",
            Form::JsonEnvelope => "json-envelope",
            Form::Avro => "avro",
        }
    }

    /// A column for each field of a schema.
    pub fn has_schema(self) -> bool {
        matches!(self, Form::JsonEnvelope | Form::Avro)
    }
}

impl Spec {
    /// The converters that a config asks for, in the order in which they run. `infers`: values are read by a transform that is found
    /// in the first records.
    pub fn all(config: &Converters, schema: Option<&str>, infers: bool) -> Vec<Spec> {
        let value = Form::of(config.value.format).filter(|_| !infers);
        let key = config.key.and_then(Form::of);
        let key = key.map(|form| Spec {
            form,
            framed: false,
            keeps_key: false,
            nulls: Nulls::Refuse,
            schema: None,
            side: Side::Key,
            wrong: Wrong::Stop,
        });
        let value = value.map(|form| Spec {
            form,
            framed: form == Form::Avro && config.value.is_framed,
            keeps_key: form.has_schema() && config.key.is_some(),
            nulls: match config.value.on_null {
                OnNull::Refuse => Nulls::Refuse,
                OnNull::Drop => Nulls::Drop,
            },
            schema: schema.filter(|_| form.has_schema()).map(str::to_owned),
            side: Side::Value,
            wrong: match config.value.on_incompatible {
                OnIncompatible::Stop => Wrong::Stop,
                OnIncompatible::DeadLetters => Wrong::DeadLetters,
            },
        });
        key.into_iter().chain(value).collect()
    }

    pub fn name(&self) -> &'static str {
        match self.side {
            Side::Key => KEY,
            Side::Value => VALUE,
        }
    }

    /// The column that it reads.
    pub fn column(&self) -> &'static str {
        match self.side {
            Side::Key => crate::record::KEY,
            Side::Value => crate::record::VALUE,
        }
    }

    pub fn version() -> &'static str {
        VERSION
    }

    /// Stands where a plugin has the digest of its component: other code has another one.
    pub fn digest(&self) -> String {
        sha256(format!("weir converter {} {VERSION}", self.form.word()).as_bytes())
    }

    pub fn identity(&self, config_digest: &str) -> Identity {
        Identity {
            transform: self.name().to_owned(),
            plugin: self.form.word().to_owned(),
            version: VERSION.to_owned(),
            digest: self.digest(),
            config_digest: config_digest.to_owned(),
        }
    }

    /// As it is kept; equal ones have equal texts.
    pub fn text(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|error| Error::new(Kind::Bug, "convert.spec", error.to_string()))
    }

    /// What was kept, for a rule with this digest.
    pub fn parse(text: &str, digest: &str) -> Result<Spec> {
        let unknown = |why: String| {
            Error::new(Kind::PluginRefused, "convert.spec", "this version of Weir has no such converter")
                .with("why", why)
                .hint("run the version that wrote the log, or put the config's own rules in force: weir pipeline swap NAME --reload")
        };
        let spec: Spec = serde_json::from_str(text).map_err(|error| unknown(error.to_string()))?;
        match spec.digest() == digest {
            true => Ok(spec),
            false => Err(unknown(format!("its digest is {digest}"))),
        }
    }
}
