//! Converters as rules: what the config asks for, with the schema that the first record showed.
//!
//! ```text
//! converter-1.json   the schema of the first record       created once (put-if-absent), before an entry names the rule
//! converter-2.json   that with the fields of a newer one  the same; the highest number counts
//! ```
//! The files lie beside the log and are a part of the config from then on, as `inferred.json` is: whoever starts later, or at the same
//! time, has the same schema. With `schema.evolution = "follow"` a newer one is kept first and put in force by a swap then; a process
//! that dies between the two does it at its next start.

use std::sync::Arc;
use std::time::Duration;

use arrow_schema::SchemaRef;
use serde::{Deserialize, Serialize};

use super::in_force::{By, Part};
use crate::chain::{NewSchema, Transform};
use crate::commit::LogName;
use crate::config::{
    Evolution, Format, Inference, PipelineConfig, Problem, REGISTRY_URL, SCHEMA_FILE, problem,
};
use crate::convert::{self, Around, Form, Schemas, Spec};
use crate::error::{Error, Kind, Result};
use crate::fs::Limit;
use crate::plugin::Canonical;
use crate::store::{Created, Store};

const OP: &str = "rules.schema";
/// The form of the files. Another one is refused by name.
const FORM: u32 = 1;
/// Most schemas that one pipeline follows: each is a swap, and nobody has so many on purpose.
const MOST: u32 = 10_000;
const SCHEMA: Limit = Limit {
    bytes: 4 << 20,
    of: "a file of a schema",
};

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    form: u32,
    /// What values are: a config that asks for another format takes no schema from here.
    format: Form,
    pub schema: String,
    /// When, in UTC; for people.
    at: String,
    /// Where it comes from; for people.
    from: String,
}

/// The converters that the config asks for, as parts of its rules.
pub(super) fn parts(config: &PipelineConfig) -> Result<Vec<Part>, Vec<Problem>> {
    let schema = in_config(config)?;
    let specs = Spec::all(
        &config.converters,
        schema.as_deref(),
        config.inference.is_some(),
    );
    let (mut parts, mut problems) = (Vec::with_capacity(specs.len()), Vec::new());
    for spec in specs {
        match convert::check(spec.form, spec.schema.as_deref()).and_then(|()| spec.text()) {
            Ok(text) => parts.push(Part {
                transform: spec.name().to_owned(),
                config: Canonical::of_host(text),
                by: By::Converter(spec),
            }),
            Err(error) => problems.push(told(config, key_of(config), &error)),
        }
    }
    match problems.is_empty() {
        true => Ok(parts),
        false => Err(problems),
    }
}

/// The key that says the schema, for messages.
fn key_of(config: &PipelineConfig) -> &'static str {
    match config.converters.value.schema_file {
        Some(_) => SCHEMA_FILE,
        None => "value.format",
    }
}

fn told(config: &PipelineConfig, key: &str, error: &Error) -> Problem {
    let problem = config.problem(
        key,
        problem::UNRESOLVED,
        format!("`{key}`: {}", error.one_line()),
    );
    match error.hint_text() {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

/// The schema of the file that the config names, or the one that is kept.
fn in_config(config: &PipelineConfig) -> Result<Option<String>, Vec<Problem>> {
    let value = &config.converters.value;
    let Some(file) = &value.schema_file else {
        return Ok(value.schema.as_deref().map(str::to_owned));
    };
    let refused = |message: String| vec![config.problem(SCHEMA_FILE, problem::UNRESOLVED, message)];
    let path = file
        .resolve()
        .map_err(|e| refused(format!("`{SCHEMA_FILE}`: {}", e.message())))?;
    let bytes = config.reach().read(path.trim().as_ref(), SCHEMA);
    let bytes =
        bytes.map_err(|e| refused(format!("`{SCHEMA_FILE}`: `{file}` cannot be read: {e}")))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| refused(format!("`{SCHEMA_FILE}`: `{file}` is not UTF-8")))?;
    // Blanks and line ends of the file are no part of the rule.
    let json: serde_json::Value = serde_json::from_str(&text)
        .map_err(|e| refused(format!("`{SCHEMA_FILE}`: `{file}` is no JSON: {e}")))?;
    Ok(Some(json.to_string()))
}

fn around(config: &PipelineConfig) -> Around<'_> {
    Around {
        registry: config.converters.registry.as_ref(),
        store: &config.plugin_store,
        follows: config.converters.value.evolution == Evolution::Follow
            && config.converters.value.schema_file.is_none(),
    }
}

pub(super) fn transform(
    config: &PipelineConfig,
    spec: &Spec,
    canonical: &Canonical,
    input: SchemaRef,
) -> Result<Box<dyn Transform>, Vec<Problem>> {
    let made = convert::transform(spec, canonical.digest(), input, around(config));
    made.map_err(|error| {
        let key = match error.op().starts_with("registry") {
            true => REGISTRY_URL,
            false => key_of(config),
        };
        vec![told(config, key, &error)]
    })
}

// ---------------------------------------------------------------------- kept

fn path(config: &PipelineConfig, number: u32) -> String {
    let name = LogName::new(&config.name, &config.home.zone);
    format!("{}/converter-{number}.json", name.dir())
}

/// The newest schema that is kept, and its number; 0: none is.
fn newest(store: &dyn Store, config: &PipelineConfig) -> Result<(u32, Option<Kept>)> {
    let (mut number, mut newest) = (0, None);
    while number < MOST {
        let at = path(config, number + 1);
        let Some(bytes) = store.get(&at)? else {
            break;
        };
        newest = Some(read(&bytes, &at)?);
        number += 1;
    }
    Ok((number, newest))
}

fn read(bytes: &[u8], path: &str) -> Result<Kept> {
    let damaged = |why: String| {
        Error::new(
            Kind::LogCorrupt,
            OP,
            "a schema that was kept cannot be read",
        )
        .with("path", path)
        .with("why", why)
        .hint("restore the file from a copy; or name the schema in the config: value.schema.file")
    };
    let kept: Kept = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    match kept.form {
        FORM => Ok(kept),
        other => Err(damaged(format!(
            "its form is {other}, and this version reads {FORM}"
        ))),
    }
}

/// The config with the schema that is kept; `None`: none is, or the config does not ask for one.
pub(super) fn completed(
    store: &dyn Store,
    config: &PipelineConfig,
) -> Result<Option<PipelineConfig>> {
    if !config.converters.waits_for_schema() {
        return Ok(None);
    }
    let (_, kept) = newest_of(store, config)?;
    Ok(kept.map(|kept| with(config, &kept.schema)))
}

fn form(config: &PipelineConfig) -> Option<Form> {
    match config.converters.value.format {
        Format::Avro => Some(Form::Avro),
        Format::Envelope => Some(Form::JsonEnvelope),
        Format::Bytes | Format::Text | Format::Json => None,
    }
}

pub(super) fn with(config: &PipelineConfig, schema: &str) -> PipelineConfig {
    let mut config = config.clone();
    config.converters.value.schema = Some(Arc::from(schema));
    config
}

/// The newest schema that is kept, if it is one of the config's format: one of another format stays from a config before this one. With
/// the number of the newest.
fn newest_of(store: &dyn Store, config: &PipelineConfig) -> Result<(u32, Option<Kept>)> {
    let (number, kept) = newest(store, config)?;
    Ok((
        number,
        kept.filter(|kept| Some(kept.format) == form(config)),
    ))
}

/// Keeps the schema of the first record as the next one, if columns can be made of it: what is kept is in force at every start.
pub(super) fn keep_first(
    store: &dyn Store,
    config: &PipelineConfig,
    schema: &str,
    now: i64,
) -> Result<Kept> {
    if let Some(form) = form(config) {
        convert::check(form, Some(schema))?;
    }
    match newest_of(store, config)? {
        // Another process was faster.
        (_, Some(kept)) => Ok(kept),
        (number, None) => keep(store, config, number, (schema, "the first record"), now),
    }
}

/// Keeps a schema as the one behind `number`. What another process kept there meanwhile counts instead.
fn keep(
    store: &dyn Store,
    config: &PipelineConfig,
    number: u32,
    (schema, from): (&str, &str),
    now: i64,
) -> Result<Kept> {
    if number >= MOST {
        let message = format!("{MOST} schemas were followed, and no more are");
        return Err(
            Error::new(Kind::LimitReached, OP, message).hint("set schema.evolution = \"pin\"")
        );
    }
    let format = form(config).ok_or_else(|| Error::new(Kind::Bug, OP, "values have no schema"))?;
    let kept = Kept {
        form: FORM,
        format,
        schema: schema.to_owned(),
        at: crate::instant::utc(now, 0),
        from: from.to_owned(),
    };
    let bytes = serde_json::to_vec_pretty(&kept)
        .map_err(|error| Error::new(Kind::Bug, OP, error.to_string()))?;
    let at = path(config, number + 1);
    match store.create(&at, &bytes)? {
        Created::Done => Ok(kept),
        Created::Exists => {
            let bytes = store.get(&at)?.ok_or_else(|| {
                Error::new(
                    Kind::StoreUnavailable,
                    OP,
                    "a schema was kept there and is gone",
                )
                .with("path", &at)
            })?;
            let kept = read(&bytes, &at)?;
            match kept.format == format {
                true => Ok(kept),
                false => Err(Error::new(
                    Kind::Conflict,
                    OP,
                    format!(
                        "another process reads these values as {}",
                        kept.format.word()
                    ),
                )
                .with("path", &at)
                .with("value.format", format.word())
                .hint("run processes of one pipeline with one config")),
            }
        }
    }
}

/// Looks for the schema of the first records.
#[derive(Debug)]
pub(super) struct Finder {
    form: Form,
    schemas: Option<Schemas>,
}

impl Finder {
    /// `None`: the config asks for no schema, or has it.
    pub fn new(config: &PipelineConfig) -> Result<Option<Finder>> {
        let Some(form) = form(config).filter(|_| config.converters.waits_for_schema()) else {
            return Ok(None);
        };
        let schemas = match (form, &config.converters.registry) {
            (Form::Avro, Some(registry)) => Some(Schemas::new(registry, &config.plugin_store)?),
            _ => None,
        };
        Ok(Some(Finder { form, schemas }))
    }

    pub fn first_of(&mut self, values: &[Vec<u8>]) -> Result<Option<String>> {
        convert::first_schema(self.form, values, self.schemas.as_mut())
    }
}

/// A config with the fields of a newer schema, which is not kept yet.
pub(super) struct Followed {
    pub config: PipelineConfig,
    /// The new fields.
    pub names: Vec<String>,
    schema: String,
    /// Of the schema that it is to replace.
    number: u32,
}

/// The schema in force with the fields that a newer one has. `None`: the one that is kept has them all.
pub(super) fn followed(
    store: &dyn Store,
    config: &PipelineConfig,
    new: &NewSchema,
) -> Result<Option<Followed>> {
    let (number, kept) = newest_of(store, config)?;
    let form = form(config).ok_or_else(|| Error::new(Kind::Bug, OP, "values have no schema"))?;
    let kept = kept.ok_or_else(|| gone(config))?;
    let refused = |why: String| {
        Error::new(
            Kind::ConfigInvalid,
            OP,
            format!("{} cannot be followed: {why}", new.name),
        )
    };
    let Some((schema, names)) =
        convert::merged(form, &kept.schema, &new.schema).map_err(refused)?
    else {
        return Ok(None);
    };
    Ok(Some(Followed {
        config: with(config, &schema),
        names,
        schema,
        number,
    }))
}

/// Keeps it, and gives the config with what is kept: another process may have been first.
pub(super) fn keep_followed(
    store: &dyn Store,
    followed: &Followed,
    new: &NewSchema,
    now: i64,
) -> Result<PipelineConfig> {
    let from = format!("{}: {}", new.name, followed.names.join(", "));
    let schema = (followed.schema.as_str(), from.as_str());
    let kept = keep(store, &followed.config, followed.number, schema, now)?;
    Ok(with(&followed.config, &kept.schema))
}

/// The config with the schema that is kept now.
pub(super) fn completed_anew(store: &dyn Store, config: &PipelineConfig) -> Result<PipelineConfig> {
    let (_, kept) = newest_of(store, config)?;
    Ok(with(config, &kept.ok_or_else(|| gone(config))?.schema))
}

fn gone(config: &PipelineConfig) -> Error {
    Error::new(
        Kind::StoreUnavailable,
        OP,
        "the schema that was kept beside the log is gone",
    )
    .with("path", path(config, 1))
}

/// How much is looked at until a record shows its schema. Most often the first one does.
pub(super) const LOOKED_AT: Inference = Inference {
    records: 1000,
    bytes: 4 << 20,
    wait: Duration::from_secs(10),
    rest: None,
};
