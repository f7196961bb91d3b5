//! Schemas without references: each use of a named type is its definition. The decoder resolves types where they are defined and not
//! where they are named, so only so does it see what a newer schema changed in one.
//!
//! What a schema may claim is limited here: a few bytes of it never stand for much memory. Of a value: [`super::frugal`].

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::schema::{self, Definitions, MAX_DEPTH, PRIMITIVES, name_of, of, put, walk};

/// Types of a schema after expansion: each has a decoder with buffers of its own. A union, its null and what only wraps a type are none.
const TYPES_MAX: u64 = 10_000;
/// Bytes of its text then: symbols, defaults and attributes are copied with each use. Real ones have some hundred KiB.
const EXPANDED_MAX: u64 = 64 << 20;
/// The schema of a record without references, and how many types it has. Refuses what cannot be read, and values without bytes in lists: a few bytes could claim
/// any number of them.
pub fn checked(schema: &str) -> Result<(Value, u64), String> {
    let value: Value = serde_json::from_str(schema).map_err(|e| format!("it is no JSON: {e}"))?;
    let value = schema::qualified(&value)?;
    if value.get("type").and_then(Value::as_str) != Some("record") {
        return Err("it is no record, whose fields could be columns".to_owned());
    }
    let mut all = Definitions::new();
    schema::definitions(&value, &mut all);
    let Size { types, bytes, .. } = Count::new(&all).of(&value, 0)?;
    if types > TYPES_MAX {
        return Err(format!(
            "it has {types} types when each name is replaced by its definition, and at most {TYPES_MAX} are read"
        ));
    }
    if bytes > EXPANDED_MAX {
        return Err(format!(
            "it has {bytes} bytes when each name is replaced by its definition, and at most {EXPANDED_MAX} are read"
        ));
    }
    let value = expanded(&value, &all)?;
    let mut endless = false;
    // An entry of a map has its key.
    walk(&value, &mut |members| {
        endless |= members.get("items").is_some_and(is_nothing);
    });
    match endless {
        true => Err("a list of values that have no bytes".to_owned()),
        false => Ok((value, types)),
    }
}

#[derive(Clone, Copy)]
struct Size {
    types: u64,
    /// How many are inside each other.
    deepest: usize,
    /// Of the text, at least.
    bytes: u64,
}

impl Size {
    fn one(of: &Value) -> Size {
        Size {
            types: 1,
            deepest: 0,
            bytes: of.to_string().len() as u64,
        }
    }

    /// What stands around a type has no decoder of its own.
    fn around(self) -> Size {
        Size {
            types: (self.types - 1).max(1),
            ..self
        }
    }
}

/// Measures a schema after expansion, without expanding it.
struct Count<'a> {
    all: &'a Definitions,
    /// `None`: it is being measured.
    known: BTreeMap<&'a str, Option<Size>>,
}

impl<'a> Count<'a> {
    fn new(all: &'a Definitions) -> Count<'a> {
        Count {
            all,
            known: BTreeMap::new(),
        }
    }

    /// `depth`: of what it is in.
    fn of(&mut self, schema: &'a Value, depth: usize) -> Result<Size, String> {
        match schema {
            Value::String(name) if PRIMITIVES.contains(&name.as_str()) => Ok(Size::one(schema)),
            Value::String(name) => self.named(name, depth),
            Value::Array(branches) => {
                let (nulls, others): (Vec<&Value>, Vec<&Value>) =
                    branches.iter().partition(|branch| **branch == "null");
                if nulls.len() > 1 {
                    return Err("a union has null twice".to_owned());
                }
                Ok(self.sum(others.into_iter(), depth)?.around())
            }
            Value::Object(members) => match (name_of(members), members.get("type")) {
                (Some(name), _) => self.named(name, depth),
                (None, Some(Value::String(kind))) if PRIMITIVES.contains(&kind.as_str()) => {
                    Ok(Size::one(schema))
                }
                (None, Some(Value::String(kind))) if kind == "array" || kind == "map" => {
                    let inner = members.get("items").or_else(|| members.get("values"));
                    self.sum(inner.into_iter(), depth)
                }
                (None, inner) => Ok(self.sum(inner.into_iter(), depth)?.around()),
            },
            _ => Ok(Size::one(schema)),
        }
    }

    fn sum(&mut self, of: impl Iterator<Item = &'a Value>, depth: usize) -> Result<Size, String> {
        let mut all = Size {
            types: 1,
            deepest: 0,
            bytes: 0,
        };
        for one in of {
            let size = self.of(one, depth + 1)?;
            all.types = all.types.saturating_add(size.types);
            all.bytes = all.bytes.saturating_add(size.bytes);
            all.deepest = all.deepest.max(size.deepest + 1);
        }
        match depth + all.deepest > MAX_DEPTH {
            true => Err(format!("more than {MAX_DEPTH} types inside each other")),
            false => Ok(all),
        }
    }

    fn named(&mut self, name: &'a str, depth: usize) -> Result<Size, String> {
        if depth > MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} types inside each other"));
        }
        match self.known.get(name) {
            Some(Some(size)) => return Ok(*size),
            Some(None) => return Err(format!("`{name}` is a type that contains itself")),
            None => {}
        }
        let definition = self.all.get(name);
        let definition = definition.ok_or_else(|| format!("it defines no type `{name}`"))?;
        self.known.insert(name, None);
        let fields = definition.get("fields").and_then(Value::as_array);
        let fields = fields.into_iter().flatten().filter_map(|f| f.get("type"));
        let inner = self.sum(fields, depth)?;
        let size = Size {
            bytes: (inner.bytes).saturating_add(Size::one(definition).bytes),
            ..inner
        };
        self.known.insert(name, Some(size));
        Ok(size)
    }
}

/// Ends where [`Count`] did: no type contains itself.
fn expanded(schema: &Value, all: &Definitions) -> Result<Value, String> {
    Ok(match schema {
        Value::String(name) => match all.get(name) {
            Some(Value::Object(definition)) => whole(definition, all)?,
            _ => schema.clone(),
        },
        Value::Array(branches) => {
            let branches: Result<Vec<Value>, String> =
                branches.iter().map(|b| expanded(b, all)).collect();
            Value::Array(branches?)
        }
        Value::Object(members) => whole(members, all)?,
        other => other.clone(),
    })
}

fn whole(members: &Map<String, Value>, all: &Definitions) -> Result<Value, String> {
    if let Some(Value::Object(definition)) = name_of(members).and_then(|name| all.get(name)) {
        let mut out = definition.clone();
        out.remove("doc");
        if let Some(Value::Array(fields)) = definition.get("fields") {
            let mut list = Vec::with_capacity(fields.len());
            for field in fields {
                let mut field = field.as_object().cloned().ok_or("a field is no object")?;
                field.remove("doc");
                let inner = expanded(of(&field, "type")?, all)?;
                put(&mut field, "type", inner);
                list.push(Value::Object(field));
            }
            put(&mut out, "fields", Value::Array(list));
        }
        return Ok(Value::Object(out));
    }
    let mut out = members.clone();
    out.remove("doc");
    for key in ["items", "values"] {
        if let Some(inner) = members.get(key) {
            put(&mut out, key, expanded(inner, all)?);
            return Ok(Value::Object(out));
        }
    }
    match members.get("type") {
        // The long form of a name, or of no more than a type.
        Some(Value::String(name)) if all.contains_key(name) || out.len() == 1 => {
            expanded(&Value::String(name.clone()), all)
        }
        Some(inner @ (Value::Array(_) | Value::Object(_))) => expanded(inner, all),
        _ => Ok(Value::Object(out)),
    }
}

/// Its values have no bytes.
fn is_nothing(schema: &Value) -> bool {
    match schema {
        Value::String(name) => name == "null",
        Value::Object(members) => match kind(schema) {
            "record" | "error" => {
                let fields = members.get("fields").and_then(Value::as_array);
                let mut fields = fields.into_iter().flatten();
                fields.all(|f| f.get("type").is_some_and(is_nothing))
            }
            "fixed" => members.get("size").and_then(Value::as_u64) == Some(0),
            "null" => true,
            _ => false,
        },
        _ => false,
    }
}

/// The type of an expanded schema that is no union.
pub fn kind(schema: &Value) -> &str {
    let kind = schema.as_str().or_else(|| schema.get("type")?.as_str());
    kind.unwrap_or_default()
}
