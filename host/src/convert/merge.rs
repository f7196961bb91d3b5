//! A schema that has what two have: the columns in force stay as they are, and fields that only the newer one has come behind them and
//! may be null. Fields inside of fields are no columns of their own; they stay as they are.

use serde_json::{Map, Value, json};

use super::Form;
use super::avro::resolve;
use super::avro::schema::{self, Definitions};

/// `None`: the newer schema adds nothing. `Err`: it cannot be read.
pub fn merged(
    form: Form,
    in_force: &str,
    newer: &str,
) -> Result<Option<(String, Vec<String>)>, String> {
    let read = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| error.to_string());
    let (old, new) = (read(in_force)?, read(newer)?);
    match form {
        Form::Avro => avro(&old, &new),
        Form::JsonEnvelope => Ok(envelope(&old, &new)),
        Form::String | Form::Json => Ok(None),
    }
}

fn fields(schema: &Value) -> impl Iterator<Item = &Map<String, Value>> {
    let fields = schema.get("fields").and_then(Value::as_array);
    fields.into_iter().flatten().filter_map(Value::as_object)
}

fn text<'a>(field: &'a Map<String, Value>, key: &str) -> &'a str {
    field.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn avro(old: &Value, new: &Value) -> Result<Option<(String, Vec<String>)>, String> {
    let (old, new) = (schema::qualified(old)?, schema::qualified(new)?);
    let own: Vec<&str> = [&old, &new]
        .into_iter()
        .flat_map(resolve::fields)
        .map(resolve::name)
        .collect();
    let mut added = Vec::new();
    for field in resolve::unread(&new, &old) {
        let mut field = field.as_object().cloned().unwrap_or_default();
        // A name is that of the field that has it for its own: what is written for that one is never read as this one.
        if let Some(Value::Array(aliases)) = field.get_mut("aliases") {
            aliases.retain(|alias| !own.contains(&alias.as_str().unwrap_or_default()));
        }
        if !field.contains_key("default") {
            let of = field.get("type").cloned().unwrap_or_default();
            field.insert("type".to_owned(), nullable(of));
            field.insert("default".to_owned(), Value::Null);
        }
        added.push(field);
    }
    if added.is_empty() {
        return Ok(None);
    }
    let new_names = added
        .iter()
        .map(|field| text(field, "name").to_owned())
        .collect();
    let (mut all, mut theirs) = (Definitions::new(), Definitions::new());
    schema::definitions(&old, &mut all);
    schema::definitions(&new, &mut theirs);
    for field in &mut added {
        let place = format!("{}.{}", resolve::name(&old), text(field, "name"));
        if let Some(of) = field.get_mut("type") {
            schema::apart(of, &theirs, &place, &mut all);
        }
    }
    for (name, definition) in theirs {
        all.entry(name).or_insert(definition);
    }
    let mut merged = old.clone();
    let list = merged.get_mut("fields").and_then(Value::as_array_mut);
    let list = list.ok_or("the schema in force has no fields")?;
    list.extend(added.into_iter().map(Value::Object));
    let merged = schema::placed(&merged, &all, &mut Vec::new(), 0)?;
    Ok(Some((merged.to_string(), new_names)))
}

/// Null first, because the default is null.
fn nullable(of: Value) -> Value {
    match of {
        Value::Array(branches) => {
            let others = branches.into_iter().filter(|branch| branch != "null");
            Value::Array([json!("null")].into_iter().chain(others).collect())
        }
        one if one == "null" => one,
        one => json!(["null", one]),
    }
}

fn envelope(old: &Value, new: &Value) -> Option<(String, Vec<String>)> {
    let known = |name: &str| fields(old).any(|field| text(field, "field") == name);
    let mut added = Vec::new();
    for field in fields(new).filter(|field| !known(text(field, "field"))) {
        let mut field = field.clone();
        if !field.contains_key("default") {
            field.insert("optional".to_owned(), Value::Bool(true));
        }
        added.push(field);
    }
    if added.is_empty() {
        return None;
    }
    let names = added
        .iter()
        .map(|field| text(field, "field").to_owned())
        .collect();
    let mut merged = old.clone();
    let list = merged.get_mut("fields").and_then(Value::as_array_mut)?;
    list.extend(added.into_iter().map(Value::Object));
    Some((merged.to_string(), names))
}
