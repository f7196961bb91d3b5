//! JSON Schema (2020-12) of the whole config: nested as in TOML, and flat under `$defs/flat`.

use serde_json::{Map, Value, json};

use super::connector::{Catalog, SinkType, SourceType};
use super::keys::{Default, KeyDef, Scope, TRANSFORM_PREFIX};
use super::shape::Shape;

pub fn schema(catalog: &Catalog) -> Value {
    let mut root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Weir pipeline",
        "description": "One pipeline: source, transforms, sink. Tables join with dots, lists with commas.",
        "$ref": "#/$defs/pipeline",
        "$defs": { "pipeline": pipeline(catalog), "transform": transform(), "flat": flat(catalog) },
    });
    // A profile holds the same keys, none of them required.
    let mut overlay = table_of(catalog, Of::Everything, false);
    if let Some(properties) = overlay.get_mut("properties").and_then(Value::as_object_mut) {
        let by_name = json!({ "type": "object", "additionalProperties": { "type": "object" } });
        let list = transforms();
        properties.insert("transforms".into(), json!({ "anyOf": [list, by_name] }));
    }
    set(&mut root, &["$defs", "overlay"], overlay);
    root
}

fn pipeline(catalog: &Catalog) -> Value {
    let mut table = table_of(catalog, Of::Everything, true);
    set(&mut table, &["properties", "transforms"], transforms());
    let profiles = json!({
        "type": "object",
        "description": "Keys that `--profile <name>` lays over the others.",
        "additionalProperties": { "$ref": "#/$defs/overlay" },
    });
    set(&mut table, &["properties", "profile"], profiles);
    let by_source = catalog.sources.iter().map(|source| {
        let is_it = json!({ "properties": { "source": { "properties": { "type": { "const": source.name } } } } });
        let needed = table_of(catalog, Of::Source(source), true);
        json!({ "if": is_it, "then": requirements(&needed) })
    });
    let by_sink = catalog.sinks.iter().filter_map(|sink| {
        let is_it = json!({ "properties": { "sink": { "properties": { "type": { "const": sink.name } } } } });
        let needed = requirements(&table_of(catalog, Of::Sink(sink), true));
        let any = needed.as_object().is_some_and(|needed| !needed.is_empty());
        any.then(|| json!({ "if": is_it, "then": needed }))
    });
    let conditions: Vec<Value> = by_source.chain(by_sink).collect();
    set(&mut table, &["allOf"], json!(conditions));
    table
}

/// Whose keys a table holds.
#[derive(Clone, Copy)]
enum Of<'a> {
    /// All keys; those required that every pipeline needs.
    Everything,
    /// What this source has, and not every pipeline.
    Source(&'a SourceType),
    /// What this sink alone has.
    Sink(&'a SinkType),
}

impl Of<'_> {
    fn takes(self, scope: Scope) -> bool {
        match (self, scope) {
            (Of::Everything, _) => true,
            (Of::Source(source), Scope::Records | Scope::Source(_) | Scope::Sources(_)) => {
                scope.takes(Some(source), None)
            }
            (Of::Sink(sink), Scope::Sink(name)) => name == sink.name,
            (Of::Source(_) | Of::Sink(_), _) => false,
        }
    }
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
fn flat(catalog: &Catalog) -> Value {
    let mut properties = Map::new();
    for def in catalog.keys() {
        let mut text = value(def);
        if let Some(text) = text.as_object_mut() {
            text.insert("type".into(), json!("string"));
            text.remove("anyOf");
            text.remove("minimum");
            text.remove("maximum");
        }
        properties.insert(def.name.into(), text);
    }
    let required: Vec<&str> = catalog
        .keys()
        .filter(|def| def.scope == Scope::Always && matches!(def.default, Default::Required(_)))
        .map(|def| def.name)
        .collect();
    let mut patterns = Map::new();
    let prefixes = catalog.all_prefixed().map(|(_, p)| p.prefix);
    for prefix in prefixes.chain([TRANSFORM_PREFIX]) {
        let pattern = format!("^{}", prefix.replace('.', "\\."));
        patterns.insert(pattern, json!({ "type": "string" }));
    }
    json!({
        "type": "object",
        "properties": properties,
        "patternProperties": patterns,
        "required": required,
        "additionalProperties": false,
    })
}

/// Nested tables.
fn table_of(catalog: &Catalog, of: Of<'_>, required: bool) -> Value {
    let mut root = empty_table();
    for def in catalog.keys() {
        if !of.takes(def.scope) {
            continue;
        }
        let parts: Vec<&str> = def.name.split('.').collect();
        let other_way =
            |source: &SourceType| source.topics == Some(def.name) && source.pattern.is_some();
        let needed = required
            && matches!(def.default, Default::Required(_))
            && !catalog.sources.iter().any(other_way)
            && (def.scope == Scope::Always || !matches!(of, Of::Everything));
        insert(&mut root, &parts, value(def), needed);
    }
    if matches!(of, Of::Everything) {
        for (_, prefixed) in catalog.all_prefixed() {
            let any = json!({
                "type": "object",
                "description": prefixed.doc,
                "additionalProperties": true,
            });
            let parts = prefixed.prefix.split('.').filter(|part| !part.is_empty());
            let path: Vec<&str> = parts.flat_map(|part| ["properties", part]).collect();
            set(&mut root, &path, any);
        }
    }
    root
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
        Shape::Names | Shape::Topics | Shape::Fields | Shape::Sort => json!({ "anyOf": [
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
