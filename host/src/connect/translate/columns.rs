//! Columns of json-flatten, from a config or a sample, and where the record begins.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::infer::{self, Format, Hints};
use crate::json::Json;

pub(super) const PLUGIN: &str = "json-flatten";

/// A column that a transform can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub name: String,
    /// As `types.<name>` writes it.
    pub kind: String,
}

/// Keys of one json-flatten, without their prefix.
pub(super) type Keys = BTreeMap<String, String>;

/// Sets where the record begins; the keys may already name a deeper place.
pub(super) fn begin(keys: &mut Keys, envelope: bool, root: &str) {
    // As a list is written in TOML.
    if let Some(list) = keys.get_mut("columns") {
        let items = list.split(',').map(str::trim).filter(|i| !i.is_empty());
        *list = items.collect::<Vec<_>>().join(",");
    }
    if envelope {
        keys.entry("envelope".to_owned())
            .or_insert_with(|| "true".to_owned());
    }
    if !root.is_empty() {
        let own = keys
            .get("root")
            .map_or("", |own| own.trim_start_matches('/'));
        let whole = match own {
            "" => root.to_owned(),
            own => format!("{root}/{own}"),
        };
        keys.insert("root".to_owned(), whole);
    }
}

/// The columns in their order.
pub(super) fn named(keys: &Keys) -> Vec<Column> {
    let separator = keys.get("separator").map_or("_", String::as_str);
    let listed = keys.get("columns").map_or("", String::as_str).split(',');
    let listed = listed.map(str::trim).filter(|item| !item.is_empty());
    let listed = listed.map(|item| match item.split_once('=') {
        Some((name, _)) => name.trim().to_owned(),
        None => name_of(item, separator),
    });
    let single = keys.keys().filter_map(|key| key.strip_prefix("columns."));
    let names = listed.chain(single.map(str::to_owned));
    names
        .map(|name| {
            let typed = keys.get(&format!("types.{name}"));
            Column {
                kind: typed.map_or("string", String::as_str).to_owned(),
                name,
            }
        })
        .collect()
}

/// As json-flatten names a column that has no name of its own.
fn name_of(path: &str, separator: &str) -> String {
    let path = path.trim_start_matches("./").trim_start_matches('/');
    let parts = path
        .split('/')
        .map(|part| part.replace("~1", "/").replace("~0", "~"));
    parts.collect::<Vec<_>>().join(separator)
}

/// A key of an object as a part of a JSON Pointer.
pub(super) fn part(field: &str) -> String {
    format!("/{}", field.replace('~', "~0").replace('/', "~1"))
}

/// Fields whose meaning in the schemas of enveloped messages differs from their JSON, and what they are.
pub(super) fn misread(sample: &[Vec<u8>], root: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    for bytes in sample {
        let Ok(message) = serde_json::from_slice::<Value>(bytes) else {
            continue;
        };
        let steps = root.split('/').skip(1);
        let schema = message.get("schema");
        let of_record = steps.fold(schema, |schema, field| {
            let fields = schema?.get("fields")?.as_array()?;
            fields
                .iter()
                .find(|f| f.get("field").and_then(Value::as_str) == Some(field))
        });
        if let Some(schema) = of_record {
            logical(schema, "", &mut found);
        }
    }
    found.into_iter().collect()
}

fn logical(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let text = |name: &str| schema.get(name).and_then(Value::as_str).unwrap_or("");
    let name = text("name").strip_prefix("org.apache.kafka.connect.data.");
    match (name, text("type")) {
        (Some(kind @ ("Decimal" | "Timestamp" | "Date" | "Time")), _) => {
            found.insert(format!("{path} is a {kind}"));
        }
        (_, "bytes") => {
            found.insert(format!("{path} is bytes"));
        }
        _ => {}
    }
    // Arrays and maps become JSON texts, as they are written.
    for field in schema
        .get("fields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let name = field.get("field").and_then(Value::as_str).unwrap_or("");
        logical(field, &format!("{path}/{name}"), found);
    }
}

/// The keys of json-flatten that follow from messages whose record lies at `root`, in the payload of an envelope; `Err`
/// says why there are none.
pub(super) fn learn(
    sample: &[Vec<u8>],
    (envelope, root): (bool, &str),
    delimiter: Option<&str>,
) -> Result<Keys, String> {
    let payload = if envelope { "/payload" } else { "" };
    let root = format!("{payload}{root}");
    let record = |bytes: &Vec<u8>| -> Option<Vec<u8>> {
        if root.is_empty() {
            return Some(bytes.clone());
        }
        let value = Json::parse(bytes).ok()?;
        let inner = root.split('/').skip(1).try_fold(&value, |at, name| {
            at.get(&name.replace("~1", "/").replace("~0", "~"))
        })?;
        (*inner != Json::Null).then(|| inner.to_string().into_bytes())
    };
    let records: Vec<Vec<u8>> = sample.iter().filter_map(record).collect();
    if records.is_empty() {
        return Err(format!("no message has a record at {root}"));
    }
    let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    let wanted = Hints {
        format: Some(Format::Json),
        ..Hints::default()
    };
    let map = infer::infer(&records, wanted).map_err(|e| e.to_string())?;
    let mut keys = map.keys();
    if let Some(delimiter) = delimiter.filter(|d| *d != "_") {
        renamed(&mut keys, delimiter);
    }
    Ok(keys)
}

/// Names of nested fields with another delimiter than the sample's map has.
fn renamed(keys: &mut Keys, delimiter: &str) {
    let Some(list) = keys.get("columns").cloned() else {
        return;
    };
    let mut out = Vec::new();
    for item in list.split(',') {
        let Some((old, path)) = item.split_once('=') else {
            continue;
        };
        let name = name_of(path, delimiter);
        if let Some(kind) = keys.remove(&format!("types.{old}")) {
            keys.insert(format!("types.{name}"), kind);
        }
        out.push(format!("{name}={path}"));
    }
    keys.insert("columns".to_owned(), out.join(","));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_begins_where_all_say() {
        let mut keys = Keys::from([
            (
                "columns".to_owned(),
                "id, customer/name, sku=./sku".to_owned(),
            ),
            ("columns.all".to_owned(), "".to_owned()),
            ("root".to_owned(), "/row".to_owned()),
            ("types.id".to_owned(), "int".to_owned()),
        ]);
        begin(&mut keys, true, "/after");
        assert_eq!(
            (keys["root"].as_str(), keys["envelope"].as_str()),
            ("/after/row", "true")
        );
        let columns = named(&keys);
        let named: Vec<(&str, &str)> = columns
            .iter()
            .map(|c| (c.name.as_str(), c.kind.as_str()))
            .collect();
        let want = [
            ("id", "int"),
            ("customer_name", "string"),
            ("sku", "string"),
            ("all", "string"),
        ];
        assert_eq!(named, want);
    }

    #[test]
    fn a_sample_tells_columns_of_the_payload() {
        let sample = [
            br#"{"schema":{},"payload":{"id":1,"a":{"n":"x"}}}"#.to_vec(),
            br#"{"schema":{},"payload":{"id":2,"a":{"n":"y"}}}"#.to_vec(),
            b"not json".to_vec(),
        ];
        let keys = learn(&sample, (true, ""), Some(".")).expect("a map");
        assert_eq!(keys["columns"], "id=/id,a.n=/a/n");
        assert_eq!(keys["types.id"], "int");
        learn(&sample, (true, "/other"), None).expect_err("nothing there");
    }

    #[test]
    fn what_json_does_not_say_is_found_in_the_schema() {
        let message = br#"{"schema":{"type":"struct","fields":[{"field":"after","type":"struct","fields":[
            {"field":"amt","type":"bytes","name":"org.apache.kafka.connect.data.Decimal"},{"field":"id","type":"int32"},
            {"field":"raw","type":"bytes"},{"field":"tags","type":"array","items":{"type":"string"}}]}]},"payload":{}}"#;
        let sample = [message.to_vec()];
        assert_eq!(
            misread(&sample, "/after"),
            ["/amt is a Decimal", "/raw is bytes"]
        );
        assert_eq!(misread(&sample, "").len(), 2);
    }
}
