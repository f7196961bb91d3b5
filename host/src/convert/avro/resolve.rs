//! What the decoder would read without a look at what it means: it takes a number for a number, whatever its unit or scale. By Avro's
//! rules types resolve by their bytes alone, so these are refused here. Both schemas are expanded.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::{OF_A_STRUCT, strange};
use super::expand::kind;

/// Whether values written by one record mean the same when they are read as the other; `Err` says which do not.
pub fn same_meaning(written: &Value, wanted: &Value) -> Result<(), String> {
    match (written, wanted) {
        (Value::Array(from), Value::Array(to)) => match (only(from), only(to)) {
            (Some(from), Some(to)) => same_meaning(from, to),
            (None, _) => Err("it is a union of several types".to_owned()),
            (Some(_), None) => Ok(()),
        },
        (_, Value::Array(to)) => match only(to) {
            Some(to) => same_meaning(written, to),
            None => Ok(()),
        },
        (Value::Array(from), _) => of_a_branch(from, wanted),
        _ => match (kind(written), kind(wanted)) {
            ("record" | "error", "record" | "error") => records(written, wanted),
            ("array", "array") => inner(written, wanted, "items"),
            ("map", "map") => inner(written, wanted, "values"),
            _ => meanings(written, wanted),
        },
    }
}

/// The one type of a union that may be null besides.
pub fn only(branches: &[Value]) -> Option<&Value> {
    match branches {
        [null, one] | [one, null] if null == "null" && one != "null" => Some(one),
        _ => None,
    }
}

fn inner(written: &Value, wanted: &Value, key: &str) -> Result<(), String> {
    match (written.get(key), wanted.get(key)) {
        (Some(written), Some(wanted)) => same_meaning(written, wanted),
        _ => Ok(()),
    }
}

/// A union is read as one type. Below that type the decoder takes what is written for what is wanted.
fn of_a_branch(branches: &[Value], wanted: &Value) -> Result<(), String> {
    for branch in branches.iter().filter(|branch| *branch != "null") {
        let is_long = matches!(kind(wanted), "record" | "error" | "array" | "map");
        if is_long && kind(branch) == kind(wanted) && bare(branch) != bare(wanted) {
            return Err(
                "it may be null, which it may not in the schema in force, and it has another type"
                    .to_owned(),
            );
        }
        if kind(branch) == kind(wanted) || is_number(branch) && is_number(wanted) {
            same_meaning(branch, wanted)?;
        }
    }
    Ok(())
}

fn is_number(schema: &Value) -> bool {
    matches!(kind(schema), "int" | "long" | "float" | "double")
}

/// No more than decides how bytes are read, and what they mean.
fn bare(schema: &Value) -> Value {
    const KEYS: [&str; 9] = [
        "type",
        "items",
        "values",
        "fields",
        "symbols",
        "size",
        "logicalType",
        "precision",
        "scale",
    ];
    match schema {
        Value::Array(all) => all.iter().map(bare).collect(),
        Value::Object(members) => {
            let is_field = members.contains_key("name") && !is_named(members);
            let keys = members.iter().filter(|(key, _)| {
                KEYS.contains(&key.as_str()) || is_field && key.as_str() == "name"
            });
            let mut rest: Map<String, Value> = keys.map(|(k, v)| (k.clone(), bare(v))).collect();
            match rest.remove("type") {
                Some(of) if rest.is_empty() => return of,
                Some(of) => drop(rest.insert("type".to_owned(), of)),
                None => {}
            }
            Value::Object(rest)
        }
        other => other.clone(),
    }
}

fn is_named(members: &Map<String, Value>) -> bool {
    let kind = members.get("type").and_then(Value::as_str);
    matches!(kind, Some("record" | "error" | "enum" | "fixed"))
}

pub fn fields(record: &Value) -> &[Value] {
    let fields = record.get("fields").and_then(Value::as_array);
    fields.map_or(&[], Vec::as_slice)
}

pub fn name(field: &Value) -> &str {
    field
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

pub fn aliases(field: &Value) -> impl Iterator<Item = &str> {
    let aliases = field.get("aliases").and_then(Value::as_array);
    aliases.into_iter().flatten().filter_map(Value::as_str)
}

/// `Err`: the records are of something else. One without fields has nothing to lose.
pub fn shares_a_column(written: &Value, wanted: &Value) -> Result<(), String> {
    shares(written, wanted, "a column")
}

/// `what`: is a field of the second one.
fn shares(written: &Value, wanted: &Value, what: &str) -> Result<(), String> {
    let (from, to) = (fields(written), fields(wanted));
    let known = by_name(written);
    let shares = to.iter().any(|field| found(&known, field).is_some());
    match shares || from.is_empty() || to.is_empty() {
        true => Ok(()),
        false => Err(strange(from.iter().map(name), what, to.iter().map(name))),
    }
}

/// The written fields of which nothing is read.
pub fn unread<'a>(written: &'a Value, wanted: &Value) -> Vec<&'a Value> {
    let known = by_name(written);
    let read: Vec<&str> = fields(wanted)
        .iter()
        .filter_map(|field| found(&known, field).map(name))
        .collect();
    let all = fields(written).iter();
    all.filter(|field| !read.contains(&name(field))).collect()
}

/// Fields by their names and aliases, as the decoder finds them.
pub fn by_name(written: &Value) -> BTreeMap<&str, &Value> {
    let mut known: BTreeMap<&str, &Value> = BTreeMap::new();
    for field in fields(written) {
        known.insert(name(field), field);
    }
    for field in fields(written) {
        for alias in aliases(field) {
            known.entry(alias).or_insert(field);
        }
    }
    known
}

/// The written field that is read as this one.
pub fn found<'a>(known: &BTreeMap<&str, &'a Value>, wanted: &Value) -> Option<&'a Value> {
    let mut names = [name(wanted)].into_iter().chain(aliases(wanted));
    names.find_map(|name| known.get(name).copied())
}

fn records(written: &Value, wanted: &Value) -> Result<(), String> {
    shares(written, wanted, OF_A_STRUCT)?;
    let known = by_name(written);
    for field in fields(wanted) {
        let Some(of) = found(&known, field) else {
            continue;
        };
        if let (Some(from), Some(to)) = (of.get("type"), field.get("type")) {
            same_meaning(from, to).map_err(|why| format!("`{}`: {why}", name(field)))?;
        }
    }
    Ok(())
}

/// What a value means beyond its bytes.
#[derive(Debug, PartialEq)]
struct Meaning<'a> {
    logical: &'a str,
    /// Digits and places of a decimal.
    decimal: Option<(u64, u64)>,
    /// Connect's name for a number that has no logical type of Avro, as those of Debezium.
    connect: Option<&'a str>,
}

impl<'a> Meaning<'a> {
    /// A logical type that is none of its type counts as none, as Avro says. A uuid is a text as others are.
    fn of(schema: &'a Value) -> Meaning<'a> {
        let word = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
        let logical = match (kind(schema), word("logicalType")) {
            ("int", logical @ ("date" | "time-millis")) => logical,
            (
                "long",
                logical @ ("time-micros"
                | "timestamp-millis"
                | "timestamp-micros"
                | "timestamp-nanos"
                | "local-timestamp-millis"
                | "local-timestamp-micros"
                | "local-timestamp-nanos"),
            ) => logical,
            ("long", _) if word("arrowTimeUnit") == "nanosecond" => "timestamp-nanos",
            ("bytes" | "fixed", "decimal") => "decimal",
            ("fixed", logical @ ("uuid" | "duration")) => logical,
            _ => "",
        };
        let number = |key: &str| schema.get(key).and_then(Value::as_u64).unwrap_or(0);
        let connect = schema.get("connect.name").and_then(Value::as_str);
        Meaning {
            logical,
            decimal: (logical == "decimal").then(|| (number("precision"), number("scale"))),
            connect: connect.filter(|_| logical.is_empty() && is_number(schema)),
        }
    }

    fn told(&self, schema: &Value) -> String {
        match (self.decimal, self.connect, self.logical) {
            (Some((digits, places)), ..) => format!("decimal({digits}, {places})"),
            (None, Some(name), _) => name.to_owned(),
            (None, None, "") => kind(schema).to_owned(),
            (None, None, logical) => logical.to_owned(),
        }
    }
}

fn meanings(written: &Value, wanted: &Value) -> Result<(), String> {
    let (from, to) = (Meaning::of(written), Meaning::of(wanted));
    let fits = match (from.decimal, to.decimal) {
        (Some((digits, places)), Some((most, at))) => places == at && digits <= most,
        _ => from.logical == to.logical,
    };
    // Where only one is named, nothing says that they differ.
    let named = from
        .connect
        .zip(to.connect)
        .is_none_or(|(from, to)| from == to);
    match fits && named {
        true => Ok(()),
        false => Err(format!(
            "{} cannot be read as {}",
            from.told(written),
            to.told(wanted)
        )),
    }
}
