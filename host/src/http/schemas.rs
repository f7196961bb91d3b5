//! JSON Schemas of requests and answers. They are derived from the types that are written and read, so that document
//! and answer cannot differ. Only Connect's bodies without a type are written by hand: open maps, and texts that may be
//! numbers.

use std::borrow::Cow;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema, json_schema};
use serde_json::{Map, Value};

/// Where the document has its named schemas.
const PLACE: &str = "/components/schemas";

/// The schema of a type: a reference if it has a name in the document, otherwise the schema itself.
pub(super) fn of<T: JsonSchema + ?Sized>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// The schemas of one document: what is read and what is written of a type may differ.
#[derive(Debug)]
pub(super) struct Schemas {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Schemas {
    pub fn new() -> Schemas {
        let settings = || {
            SchemaSettings::draft2020_12()
                .with(|settings| settings.definitions_path = Cow::Borrowed(PLACE))
        };
        Schemas {
            requests: settings().for_deserialize().into_generator(),
            answers: settings()
                .for_serialize()
                .with_transform(Closed)
                .into_generator(),
        }
    }

    pub fn request(&mut self, schema: super::route::Schema) -> Value {
        schema(&mut self.requests).to_value()
    }

    pub fn answer(&mut self, schema: super::route::Schema) -> Value {
        schema(&mut self.answers).to_value()
    }

    /// All schemas named so far.
    pub fn named(mut self) -> Map<String, Value> {
        let mut named = self.requests.take_definitions(true);
        named.extend(self.answers.take_definitions(true));
        named
    }
}

/// An answer has the members of its type and no others. Alternatives are left as they are: their members are in two places.
#[derive(Clone, Debug)]
struct Closed;

impl Transform for Closed {
    fn transform(&mut self, schema: &mut Schema) {
        let has = |key: &str| schema.get(key).is_some();
        if has("properties") && (has("oneOf") || has("anyOf")) {
            return;
        }
        if has("properties") && !has("additionalProperties") {
            schema.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
        transform_subschemas(self, schema);
    }
}

/// A request body of Connect's that is read member by member.
macro_rules! by_hand {
    ($(#[$doc:meta])* $name:ident, $schema:tt) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

by_hand!(
    /// A config in a request: values that are no strings become strings.
    Config, {
        "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] },
    }
);
by_hand!(
    ConfigChanges, {
        "type": "object", "additionalProperties": { "type": ["string", "number", "boolean", "null"] },
        "description": "null removes a key",
    }
);
by_hand!(
    CreateConnector, {
        "type": "object",
        "properties": {
            "name": { "type": ["string", "number", "boolean"] },
            "config": { "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } },
            "initial_state": {
                "type": ["string", "null"],
                "pattern": "^([Rr][Uu][Nn][Nn][Ii][Nn][Gg]|[Pp][Aa][Uu][Ss][Ee][Dd]|[Ss][Tt][Oo][Pp][Pp][Ee][Dd])$",
            },
        },
        "required": ["name", "config"], "additionalProperties": false,
    }
);
by_hand!(
    SetLevel, {
        "type": "object", "properties": { "level": { "type": ["string", "number", "boolean"] } }, "required": ["level"],
    }
);
by_hand!(
    AlterOffsets, {
        "type": "object",
        "properties": { "offsets": {
            "type": "array", "minItems": 1,
            "items": {
                "type": "object",
                "properties": { "partition": { "type": "object" }, "offset": { "type": ["object", "null"] } },
                "required": ["partition", "offset"], "additionalProperties": false,
            },
        } },
        "required": ["offsets"], "additionalProperties": false,
    }
);
