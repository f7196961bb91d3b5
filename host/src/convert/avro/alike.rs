//! What the decoder compares, and Avro does not: of a name Avro compares the last part, topics that share columns are read together
//! whatever their records are called, and a column of text holds every symbol of an enum.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::expand::kind;
use super::resolve::{aliases, name};
use super::schema::put;

/// Gives the types of `written` the names of those as which they are read, and the enums of `wanted` the symbols that are written.
/// Both are expanded.
pub fn made(written: &mut Value, wanted: &mut Value) {
    if let (Some(members), Some(name)) = (written.as_object_mut(), wanted.get("name")) {
        put(members, "name", name.clone());
    }
    meet(written, wanted);
}

fn meet(written: &mut Value, wanted: &mut Value) {
    if let Value::Array(branches) = wanted {
        // A union of several types is no column.
        if branches.len() == 2
            && let Some(one) = branches.iter_mut().find(|one| **one != "null")
        {
            meet(written, one);
        }
        return;
    }
    if let Value::Array(branches) = written {
        let mut same = branches.iter_mut().filter(|one| is_same(one, wanted));
        if let (Some(one), None) = (same.next(), same.next()) {
            meet(one, wanted);
        }
        return;
    }
    let same = is_same(written, wanted);
    let of = kind(wanted).to_owned();
    let (Some(from), Some(to)) = (written.as_object_mut(), wanted.as_object_mut()) else {
        return;
    };
    if same && let Some(name) = to.get("name") {
        put(from, "name", name.clone());
    }
    match of.as_str() {
        "record" | "error" => fields(from, to),
        "array" => inner(from, to, "items"),
        "map" => inner(from, to, "values"),
        "enum" => {
            if let Some(symbols) = from.get("symbols") {
                put(to, "symbols", symbols.clone());
                to.remove("default");
            }
        }
        _ => {}
    }
}

/// Of one kind, and where that has names, of names that Avro takes for the same.
fn is_same(written: &Value, wanted: &Value) -> bool {
    let last = |schema: &Value| match kind(schema) {
        "record" | "error" | "enum" | "fixed" => name(schema).rsplit('.').next().map(str::to_owned),
        _ => None,
    };
    kind(written) == kind(wanted) && last(written) == last(wanted)
}

fn inner(from: &mut Map<String, Value>, to: &mut Map<String, Value>, key: &str) {
    if let (Some(from), Some(to)) = (from.get_mut(key), to.get_mut(key)) {
        meet(from, to);
    }
}

fn fields(from: &mut Map<String, Value>, to: &mut Map<String, Value>) {
    let list = |of: &mut Map<String, Value>| match of.remove("fields") {
        Some(Value::Array(fields)) => fields,
        _ => Vec::new(),
    };
    let (mut written, mut wanted) = (list(from), list(to));
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for (at, field) in written.iter().enumerate() {
        known.insert(name(field).to_owned(), at);
    }
    for (at, field) in written.iter().enumerate() {
        for alias in aliases(field) {
            known.entry(alias.to_owned()).or_insert(at);
        }
    }
    for field in &mut wanted {
        let position = |name: &str| known.get(name).copied();
        let at = position(name(field)).or_else(|| aliases(field).find_map(position));
        let from = at.and_then(|at| written.get_mut(at)?.get_mut("type"));
        if let (Some(from), Some(to)) = (from, field.get_mut("type")) {
            meet(from, to);
        }
    }
    put(from, "fields", Value::Array(written));
    put(to, "fields", Value::Array(wanted));
}
