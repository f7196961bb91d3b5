//! Converters: what stands between a source and the first transform, and makes columns of the bytes of a record.
//!
//! ```text
//! bytes ─ key.converter ─ value.converter ─→ the first transform
//!         text.rs         text.rs      one column of text
//!                         envelope/    Connect's JSON with its schema in each message
//!                         avro/        arrow-avro, schemas by id (schemas.rs: memory, plugin store, registry.rs)
//! ```
//! A converter is a rule as a transform is: [`Spec`] is everything that decides what it does, the schema in force among it, and
//! its digest stands in each commit. What needs a schema registry is kept in the plugin store, so that a replay needs none.

mod avro;
mod envelope;
mod fit;
mod merge;
mod registry;
mod rows;
mod schemas;
mod spec;
mod text;

use std::path::Path;

use arrow_schema::SchemaRef;

use crate::chain::Transform;
use crate::config::RegistryConfig;
use crate::error::{Error, Kind, Result};

pub use merge::merged;
use schemas::Found;
pub use schemas::Schemas;
pub use spec::{Form, KEY, Nulls, Side, Spec, VALUE, Wrong, is_converter};

/// Why a converter refuses a record. Stable from the first release that has them.
pub mod codes {
    /// There is no value.
    pub const EMPTY_VALUE: &str = "empty_value";
    pub const NOT_UTF8: &str = "not_utf8";
    pub const NOT_JSON: &str = "not_json";
    /// No `{"schema": …, "payload": …}`.
    pub const NO_ENVELOPE: &str = "no_envelope";
    /// The value does not begin with the zero byte and an id.
    pub const NO_SCHEMA_ID: &str = "no_schema_id";
    /// The registry knows no schema of this id.
    pub const UNKNOWN_SCHEMA: &str = "unknown_schema";
    /// Its schema cannot be read under the one in force.
    pub const INCOMPATIBLE_SCHEMA: &str = "incompatible_schema";
    /// The bytes are not what its schema says.
    pub const NOT_DECODABLE: &str = "not_decodable";
    /// A value has no place in the type of its column.
    pub const OUT_OF_RANGE: &str = "out_of_range";
}

/// What to do about records of a schema that is not read under the one in force.
const REMEDY: &str = "one pipeline for each schema: give these records a topic and a pipeline of their own; schema.on.incompatible = \"dead-letters\" refuses them and goes on";

/// Why records are not read whose schema has none of the columns in force, or a struct none of its fields: each would be a row, or a
/// struct, of nulls and defaults. `what`: is one of those in force.
fn strange<'a>(
    fields: impl Iterator<Item = &'a str>,
    what: &str,
    in_force: impl Iterator<Item = &'a str>,
) -> String {
    format!(
        "none of its fields ({}) is {what} ({})",
        listed(fields),
        listed(in_force)
    )
}

/// What a field inside of a column is.
const OF_A_STRUCT: &str = "a field of the struct in force";

/// The first of these names, and how many there are besides.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 5;
    let all: Vec<&str> = names.collect();
    let (shown, rest) = all.split_at(all.len().min(SHOWN));
    match rest.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// What converters need of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    pub registry: Option<&'a RegistryConfig>,
    /// `plugin.store`
    pub store: &'a Path,
    /// A record whose schema has more fields waits until they are in force.
    pub follows: bool,
}

/// Builds the transform of a converter, which sees these columns.
pub fn transform(
    spec: &Spec,
    config_digest: &str,
    input: SchemaRef,
    around: Around<'_>,
) -> Result<Box<dyn Transform>> {
    let identity = spec.identity(config_digest);
    match spec.form {
        Form::String | Form::Json => Ok(Box::new(text::Texts::new(spec, identity, input)?)),
        Form::JsonEnvelope => {
            let decode = envelope::Envelope::new(spec, around.follows)?;
            Ok(Box::new(rows::Rows::new(
                spec,
                identity,
                input,
                Box::new(decode),
            )?))
        }
        Form::Avro => {
            let decode = avro::Avro::new(spec, around)?;
            Ok(Box::new(rows::Rows::new(
                spec,
                identity,
                input,
                Box::new(decode),
            )?))
        }
    }
}

/// The schema of the first of these values that shows one. `Err` waits where the registry is away, or does not know an id before it
/// yet: all ids wait together.
pub fn first_schema(
    form: Form,
    values: &[Vec<u8>],
    schemas: Option<&mut Schemas>,
) -> Result<Option<String>> {
    let schemas = match (form, schemas) {
        (Form::JsonEnvelope, _) => {
            return Ok(values.iter().find_map(|value| envelope::schema_of(value)));
        }
        (Form::Avro, Some(schemas)) => schemas,
        _ => return Ok(None),
    };
    let mut ids: Vec<u32> = Vec::new();
    for value in values {
        if let Ok((id, _)) = avro::framed(value)
            && !ids.contains(&id)
        {
            ids.push(id);
        }
    }
    let looked = schemas.look_up(&ids)?;
    for id in ids {
        if looked.waits.contains(&id)
            && let Some(error) = looked.error
        {
            return Err(error);
        }
        if looked.unknown.contains_key(&id) {
            continue;
        }
        if let Found::Schema(schema) = schemas.get(id)? {
            return Ok(Some(schema.to_string()));
        }
    }
    Ok(None)
}

/// Refuses a schema of which no columns can be made, and says why.
pub fn check(form: Form, schema: Option<&str>) -> Result<()> {
    let refused = |why: String| {
        Error::new(
            Kind::ConfigInvalid,
            "convert.schema",
            format!("no columns can be made of the schema: {why}"),
        )
        .hint("keep the bytes (value.format = \"bytes\"), and read them with a plugin of your own; if it is Avro and others have a schema with columns, name that: value.schema.file")
    };
    match (form, schema) {
        (Form::Avro, Some(schema)) => avro::columns(schema).map(drop).map_err(refused),
        (Form::JsonEnvelope, Some(schema)) => envelope::columns(schema).map(drop).map_err(refused),
        _ => Ok(()),
    }
}
