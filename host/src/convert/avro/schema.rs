//! Avro schemas as JSON: full names, and definitions that stand elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// Depth of types inside each other.
pub const MAX_DEPTH: usize = 32;

pub const PRIMITIVES: [&str; 8] = [
    "null", "boolean", "int", "long", "float", "double", "bytes", "string",
];

/// The same schema with all names in full, so that it means the same wherever it stands.
pub fn qualified(schema: &Value) -> Result<Value, String> {
    in_full(schema, "", 0)
}

fn in_full(schema: &Value, space: &str, depth: usize) -> Result<Value, String> {
    if depth > MAX_DEPTH {
        return Err(format!("more than {MAX_DEPTH} types inside each other"));
    }
    let below = |schema: &Value, space: &str| in_full(schema, space, depth + 1);
    Ok(match schema {
        Value::String(name) if PRIMITIVES.contains(&name.as_str()) => schema.clone(),
        Value::String(name) => Value::String(full(name, space)),
        Value::Array(branches) => {
            let branches: Result<Vec<Value>, String> =
                branches.iter().map(|b| below(b, space)).collect();
            Value::Array(branches?)
        }
        Value::Object(members) => {
            let mut out = members.clone();
            match members.get("type") {
                Some(Value::String(kind)) => match kind.as_str() {
                    "record" | "error" | "enum" | "fixed" => {
                        named(members, &mut out, space, depth)?
                    }
                    "array" => put(&mut out, "items", below(of(members, "items")?, space)?),
                    "map" => put(&mut out, "values", below(of(members, "values")?, space)?),
                    primitive if PRIMITIVES.contains(&primitive) => {}
                    name => put(&mut out, "type", Value::String(full(name, space))),
                },
                Some(inner) => put(&mut out, "type", below(inner, space)?),
                None => return Err("a type says no `type`".to_owned()),
            }
            Value::Object(out)
        }
        other => return Err(format!("{other} is no type")),
    })
}

fn named(
    members: &Map<String, Value>,
    out: &mut Map<String, Value>,
    space: &str,
    depth: usize,
) -> Result<(), String> {
    let name = of(members, "name")?.as_str().unwrap_or_default();
    let own = members
        .get("namespace")
        .and_then(Value::as_str)
        .unwrap_or(space);
    let name = full(name, own);
    let space = name
        .rsplit_once('.')
        .map_or("", |(space, _)| space)
        .to_owned();
    out.remove("namespace");
    put(out, "name", Value::String(name));
    if let Some(Value::Array(aliases)) = out.get_mut("aliases") {
        for alias in aliases {
            if let Value::String(alias) = alias {
                *alias = full(alias, &space);
            }
        }
    }
    if let Some(Value::Array(fields)) = members.get("fields") {
        let mut all = Vec::with_capacity(fields.len());
        for field in fields {
            let mut field = field.as_object().cloned().ok_or("a field is no object")?;
            let inner = in_full(of(&field, "type")?, &space, depth + 1)?;
            put(&mut field, "type", inner);
            all.push(Value::Object(field));
        }
        put(out, "fields", Value::Array(all));
    }
    Ok(())
}

pub fn put(members: &mut Map<String, Value>, key: &str, value: Value) {
    members.insert(key.to_owned(), value);
}

pub fn of<'a>(members: &'a Map<String, Value>, key: &str) -> Result<&'a Value, String> {
    members
        .get(key)
        .ok_or_else(|| format!("a type says no `{key}`"))
}

fn full(name: &str, space: &str) -> String {
    match name.contains('.') || space.is_empty() {
        true => name.to_owned(),
        false => format!("{space}.{name}"),
    }
}

/// Types by their full names.
pub type Definitions = BTreeMap<String, Value>;

/// Collects the definitions in a qualified schema.
pub fn definitions(schema: &Value, into: &mut Definitions) {
    walk(schema, &mut |members| {
        if let Some(name) = name_of(members) {
            into.entry(name.to_owned())
                .or_insert_with(|| Value::Object(members.clone()));
        }
    });
}

pub fn name_of(members: &Map<String, Value>) -> Option<&str> {
    let kind = members.get("type")?.as_str()?;
    match ["record", "error", "enum", "fixed"].contains(&kind) {
        true => members.get("name")?.as_str(),
        false => None,
    }
}

pub fn walk(schema: &Value, seen: &mut dyn FnMut(&Map<String, Value>)) {
    match schema {
        Value::Array(branches) => branches.iter().for_each(|b| walk(b, seen)),
        Value::Object(members) => {
            seen(members);
            for key in ["type", "items", "values"] {
                if let Some(inner) = members.get(key) {
                    walk(inner, seen);
                }
            }
            let fields = members.get("fields").and_then(Value::as_array);
            for field in fields.into_iter().flatten() {
                if let Some(inner) = field.get("type") {
                    walk(inner, seen);
                }
            }
        }
        _ => {}
    }
}

/// Where `own` defines a type that `of` uses otherwise than `theirs`, all that `of` uses gets names of its own below `place`, and their definitions
/// come to `own`. The last part of a name stays: more is not compared where values are read.
pub fn apart(of: &mut Value, theirs: &Definitions, place: &str, own: &mut Definitions) {
    let mut used = BTreeSet::new();
    uses(of, theirs, &mut used);
    let differs = |name: &String| {
        own.get(name)
            .is_some_and(|known| theirs.get(name) != Some(known))
    };
    if !used.iter().any(differs) {
        return;
    }
    let rename = |name: &str| used.contains(name).then(|| format!("{place}.{name}"));
    for name in &used {
        if let Some(definition) = theirs.get(name) {
            own.insert(format!("{place}.{name}"), renamed(definition, &rename));
        }
    }
    *of = renamed(of, &rename);
}

/// The names of all types that a type has.
fn uses(of: &Value, all: &Definitions, used: &mut BTreeSet<String>) {
    match of {
        Value::String(name) => {
            if let Some(definition) = all.get(name)
                && used.insert(name.clone())
            {
                uses(definition, all, used);
            }
        }
        Value::Array(branches) => branches.iter().for_each(|one| uses(one, all, used)),
        Value::Object(members) => {
            if let Some(name) = name_of(members) {
                used.insert(name.to_owned());
            }
            for key in ["type", "items", "values"] {
                members
                    .get(key)
                    .into_iter()
                    .for_each(|one| uses(one, all, used));
            }
            let fields = members.get("fields").and_then(Value::as_array);
            let types = fields.into_iter().flatten().filter_map(|f| f.get("type"));
            types.for_each(|one| uses(one, all, used));
        }
        _ => {}
    }
}

/// With other names, in definitions and where they are used.
fn renamed(of: &Value, rename: &dyn Fn(&str) -> Option<String>) -> Value {
    match of {
        Value::String(name) => Value::String(rename(name).unwrap_or_else(|| name.clone())),
        Value::Array(branches) => branches.iter().map(|one| renamed(one, rename)).collect(),
        Value::Object(members) => {
            let mut out = members.clone();
            if let Some(name) = name_of(members).and_then(rename) {
                put(&mut out, "name", Value::String(name));
            }
            for key in ["type", "items", "values"] {
                if let Some(inner) = members.get(key) {
                    put(&mut out, key, renamed(inner, rename));
                }
            }
            if let Some(Value::Array(fields)) = out.get_mut("fields") {
                for field in fields.iter_mut().filter_map(Value::as_object_mut) {
                    if let Some(inner) = field.get("type") {
                        let inner = renamed(inner, rename);
                        put(field, "type", inner);
                    }
                }
            }
            Value::Object(out)
        }
        other => other.clone(),
    }
}

/// Writes each definition where its name is first used, and its name everywhere else. `done`: names that are defined already.
pub fn placed(
    schema: &Value,
    definitions: &Definitions,
    done: &mut Vec<String>,
    depth: usize,
) -> Result<Value, String> {
    if depth > MAX_DEPTH {
        return Err(format!(
            "more than {MAX_DEPTH} types inside each other, or a type inside itself"
        ));
    }
    Ok(match schema {
        Value::String(name) => match definitions.get(name) {
            Some(definition) if !done.contains(name) => {
                placed(definition, definitions, done, depth + 1)?
            }
            _ => schema.clone(),
        },
        Value::Array(branches) => {
            let mut all = Vec::with_capacity(branches.len());
            for branch in branches {
                all.push(placed(branch, definitions, done, depth + 1)?);
            }
            Value::Array(all)
        }
        Value::Object(members) => {
            if let Some(name) = name_of(members) {
                if done.iter().any(|known| known == name) {
                    return Ok(Value::String(name.to_owned()));
                }
                done.push(name.to_owned());
            }
            let mut out = members.clone();
            for key in ["items", "values"] {
                if let Some(inner) = members.get(key) {
                    put(&mut out, key, placed(inner, definitions, done, depth + 1)?);
                }
            }
            match members.get("type") {
                Some(Value::String(kind))
                    if definitions.contains_key(kind) && members.len() == 1 =>
                {
                    return placed(&Value::String(kind.clone()), definitions, done, depth + 1);
                }
                Some(inner @ (Value::Array(_) | Value::Object(_))) => {
                    put(
                        &mut out,
                        "type",
                        placed(inner, definitions, done, depth + 1)?,
                    );
                }
                _ => {}
            }
            if let Some(Value::Array(fields)) = members.get("fields") {
                let mut all = Vec::with_capacity(fields.len());
                for field in fields {
                    let mut field = field.as_object().cloned().ok_or("a field is no object")?;
                    let inner = placed(of(&field, "type")?, definitions, done, depth + 1)?;
                    put(&mut field, "type", inner);
                    all.push(Value::Object(field));
                }
                put(&mut out, "fields", Value::Array(all));
            }
            Value::Object(out)
        }
        other => other.clone(),
    })
}

/// One schema that holds all that it refers to. `parts`: the schemas that it refers to, in any order.
pub fn joined(schema: &str, parts: &[String]) -> Result<String, String> {
    let read = |text: &str| -> Result<Value, String> {
        let value: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        qualified(&value)
    };
    let mut all = Definitions::new();
    for part in parts {
        definitions(&read(part)?, &mut all);
    }
    let schema = read(schema)?;
    definitions(&schema, &mut all);
    Ok(placed(&schema, &all, &mut Vec::new(), 0)?.to_string())
}
