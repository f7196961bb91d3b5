//! JSON Schema (2020-12) of the whole config: nested as in TOML, and flat under `$defs/flat`.

use serde_json::{Map, Value, json};

use super::keys::{Default, KAFKA_PREFIX, KEYS, KeyDef, Scope};
use super::shape::Shape;

pub fn schema() -> Value {
    let mut root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Weir pipeline",
        "description": "One pipeline: source, transforms, sink. Tables join with dots, lists with commas.",
        "$ref": "#/$defs/pipeline",
        "$defs": { "pipeline": pipeline(), "transform": transform(), "flat": flat() },
    });
    // A profile holds the same keys, none of them required.
    let mut overlay = table_of(|_| true, false);
    if let Some(properties) = overlay.get_mut("properties").and_then(Value::as_object_mut) {
        let by_name = json!({ "type": "object", "additionalProperties": { "type": "object" } });
        let list = transforms();
        properties.insert("transforms".into(), json!({ "anyOf": [list, by_name] }));
    }
    set(&mut root, &["$defs", "overlay"], overlay);
    root
}

fn pipeline() -> Value {
    let mut table = table_of(|_| true, true);
    set(&mut table, &["properties", "transforms"], transforms());
    let profiles = json!({
        "type": "object",
        "description": "Keys that `--profile <name>` lays over the others.",
        "additionalProperties": { "$ref": "#/$defs/overlay" },
    });
    set(&mut table, &["properties", "profile"], profiles);
    if let Some(table) = table.as_object_mut() {
        let kafka = json!({ "properties": { "source": { "properties": { "type": { "const": "kafka" } } } } });
        let then = table_of(|def| def.scope == Scope::Kafka, true);
        let or_else = table_of(|def| def.scope == Scope::Zone, true);
        table.insert("if".into(), kafka);
        table.insert("then".into(), requirements(&then));
        table.insert("else".into(), requirements(&or_else));
    }
    table
}

/// Only the `required` lists of a table, at every depth.
fn requirements(table: &Value) -> Value {
    let mut out = Map::new();
    if let Some(required) = table.get("required") {
        out.insert("required".into(), required.clone());
    }
    let mut properties = Map::new();
    for (name, inner) in table
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let inner = requirements(inner);
        if inner.as_object().is_some_and(|inner| !inner.is_empty()) {
            properties.insert(name.clone(), inner);
        }
    }
    if !properties.is_empty() {
        out.insert("properties".into(), Value::Object(properties));
    }
    Value::Object(out)
}

fn transforms() -> Value {
    json!({
        "description": "In the order in which they run.",
        "oneOf": [
            { "type": "array", "items": { "$ref": "#/$defs/transform" } },
            { "type": "array", "items": { "type": "string" } },
            { "type": "string" },
        ],
    })
}

fn transform() -> Value {
    json!({
        "type": "object",
        "required": ["name", "type"],
        "properties": {
            "name": { "type": "string", "description": "Its place in the pipeline, in the log and in dead letters." },
            "type": {
                "type": "string",
                "description": "plugin, plugin@0.1 or plugin@sha256:…",
                "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*(@([0-9]+(\\.[0-9]+){0,2}|sha256:[0-9a-f]{12,64}))?$",
            },
        },
        "additionalProperties": true,
    })
}

/// The keys as dotted properties of one object of strings.
fn flat() -> Value {
    let mut properties = Map::new();
    for def in KEYS {
        let mut text = value(def);
        if let Some(text) = text.as_object_mut() {
            text.insert("type".into(), json!("string"));
            text.remove("anyOf");
            text.remove("minimum");
            text.remove("maximum");
        }
        properties.insert(def.name.into(), text);
    }
    let required: Vec<&str> = KEYS
        .iter()
        .filter(|def| def.scope == Scope::Always && matches!(def.default, Default::Required(_)))
        .map(|def| def.name)
        .collect();
    json!({
        "type": "object",
        "properties": properties,
        "patternProperties": {
            "^source\\.kafka\\.": { "type": "string" },
            "^transforms\\.": { "type": "string" },
        },
        "required": required,
        "additionalProperties": false,
    })
}

/// Nested tables of the keys that `keep` keeps.
fn table_of(keep: impl Fn(&KeyDef) -> bool, required: bool) -> Value {
    let mut root = empty_table();
    for def in KEYS.iter().filter(|def| keep(def)) {
        let parts: Vec<&str> = def.name.split('.').collect();
        let needed = required
            && matches!(def.default, Default::Required(_))
            && (def.scope == Scope::Always || !keep_all(&keep));
        insert(&mut root, &parts, value(def), needed);
    }
    if keep_all(&keep) {
        let any = json!({
            "type": "object",
            "description": format!("Properties of librdkafka, as {KAFKA_PREFIX}<property>."),
            "additionalProperties": true,
        });
        set(
            &mut root,
            &["properties", "source", "properties", "kafka"],
            any,
        );
    }
    root
}

/// A table of all scopes requires only what every scope requires.
fn keep_all(keep: &impl Fn(&KeyDef) -> bool) -> bool {
    KEYS.iter().all(keep)
}

fn empty_table() -> Value {
    json!({ "type": "object", "properties": {}, "additionalProperties": false })
}

fn insert(table: &mut Value, parts: &[&str], leaf: Value, required: bool) {
    let [first, rest @ ..] = parts else { return };
    if required && let Some(table) = table.as_object_mut() {
        let list = table.entry("required").or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut()
            && !list.contains(&json!(first))
        {
            list.push(json!(first));
        }
    }
    let Some(properties) = table.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    if rest.is_empty() {
        properties.insert((*first).to_owned(), leaf);
    } else {
        let inner = properties
            .entry((*first).to_owned())
            .or_insert_with(empty_table);
        insert(inner, rest, leaf, required);
    }
}

fn set(at: &mut Value, path: &[&str], value: Value) {
    let [first, rest @ ..] = path else { return };
    let Some(object) = at.as_object_mut() else {
        return;
    };
    if rest.is_empty() {
        object.insert((*first).to_owned(), value);
    } else {
        let inner = object
            .entry((*first).to_owned())
            .or_insert_with(|| json!({}));
        set(inner, rest, value);
    }
}

fn value(def: &KeyDef) -> Value {
    const REFERENCE: &str = "\\$\\{(env|file):";
    let or_reference =
        |schema: Value| json!({ "anyOf": [schema, { "type": "string", "pattern": REFERENCE }] });
    let mut out = match def.shape {
        Shape::Int { min, max } => {
            or_reference(json!({ "type": "integer", "minimum": min, "maximum": max }))
        }
        Shape::Flag => or_reference(json!({ "type": "boolean" })),
        Shape::Choice(choices) => or_reference(json!({ "enum": choices })),
        Shape::Names | Shape::Topics | Shape::Fields => json!({ "anyOf": [
            { "type": "array", "items": { "type": "string" }, "uniqueItems": true },
            { "type": "string" },
        ]}),
        Shape::Duration { .. } => {
            or_reference(json!({ "type": "string", "pattern": "^([0-9]+ ?(ms|s|m|h|d) ?)+$" }))
        }
        Shape::Days => or_reference(json!({ "type": "string", "pattern": "^[0-9]+ ?[dw]$" })),
        Shape::Bytes { .. } => or_reference(
            json!({ "type": "string", "pattern": "^[0-9]+ ?(B|kB|KB|KiB|MB|MiB|GB|GiB|TB|TiB)$" }),
        ),
        _ => json!({ "type": "string" }),
    };
    let described = match def.default {
        Default::Required(choices) => format!("{} Required: {choices}.", def.doc),
        Default::Derived(how) => format!("{} Default: {how}.", def.doc),
        Default::Is(_) | Default::Unset => def.doc.to_owned(),
    };
    set(&mut out, &["description"], json!(described));
    if let Default::Is(default) = def.default {
        let default = match def.shape {
            Shape::Int { .. } => default.parse::<u64>().map_or(json!(default), |n| json!(n)),
            Shape::Flag => json!(default == "true"),
            _ => json!(default),
        };
        set(&mut out, &["default"], default);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_nests_as_toml_does() {
        let schema = schema();
        let pipeline = &schema["$defs"]["pipeline"];
        assert_eq!(pipeline["required"], json!(["name", "source", "sink"]));
        let bytes = &pipeline["properties"]["sink"]["properties"]["rotate"]["properties"]["bytes"];
        assert_eq!(bytes["default"], "128MiB");
        let then = &pipeline["then"]["properties"]["source"]["required"];
        assert_eq!(*then, json!(["topics", "start", "bootstrap"]));
        assert!(schema["$defs"]["overlay"].get("required").is_none());
        assert_eq!(
            schema["$defs"]["flat"]["properties"]["tasks.max"]["type"],
            "string"
        );
    }
}
