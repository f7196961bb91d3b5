//! Columns of json-flatten: what a config or a sample says, moved below the place where the record begins.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::author::infer::{self, Format};
use crate::author::input::Message;
use crate::config;

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

/// Moves every path below `root`; the columns in their order.
pub(super) fn below(keys: &mut Keys, root: &str) -> Vec<Column> {
    let separator = keys.get("separator").map_or("_", String::as_str).to_owned();
    let mut named: Vec<(String, String)> = Vec::new();
    if let Some(list) = keys.get("columns") {
        for item in list.split(',').map(str::trim).filter(|i| !i.is_empty()) {
            named.push(match item.split_once('=') {
                Some((name, path)) => (name.trim().to_owned(), path.trim().to_owned()),
                None => (name_of(item, &separator), item.to_owned()),
            });
        }
    }
    let listed = named.len();
    for (key, path) in keys.iter() {
        if let Some(name) = key.strip_prefix("columns.") {
            named.push((name.to_owned(), path.clone()));
        }
    }
    if !root.is_empty() {
        for (_, path) in &mut named {
            *path = moved(path, root);
        }
        let (list, single) = named.split_at(listed);
        if keys.contains_key("columns") {
            let list: Vec<String> = list.iter().map(|(n, p)| format!("{n}={p}")).collect();
            keys.insert("columns".to_owned(), list.join(","));
        }
        for (name, path) in single {
            keys.insert(format!("columns.{name}"), path.clone());
        }
        if let Some(explode) = keys.get_mut("explode") {
            *explode = moved(explode, root);
        }
    }
    let kind = |name: &str| {
        let typed = keys.get(&format!("types.{name}"));
        typed.map_or("string", String::as_str).to_owned()
    };
    named
        .into_iter()
        .map(|(name, _)| Column {
            kind: kind(&name),
            name,
        })
        .collect()
}

/// A path from the top of the message; those of an exploded element stay.
fn moved(path: &str, root: &str) -> String {
    match path {
        "." => path.to_owned(),
        path if path.starts_with("./") => path.to_owned(),
        "" => root.to_owned(),
        path => format!("{root}/{}", path.trim_start_matches('/')),
    }
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

/// What json-flatten is told by messages whose record lies at `root`; `Err` says why there is nothing to tell.
pub(super) fn learn(
    sample: &[Vec<u8>],
    root: &str,
    delimiter: Option<&str>,
) -> Result<Keys, String> {
    let record = |bytes: &Vec<u8>| -> Option<Vec<u8>> {
        if root.is_empty() {
            return Some(bytes.clone());
        }
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let inner = value.pointer(root)?;
        (!inner.is_null()).then(|| inner.to_string().into_bytes())
    };
    let messages: Vec<Message> = sample
        .iter()
        .filter_map(record)
        .map(|value| Message {
            value: Some(value),
            ..Message::default()
        })
        .collect();
    if messages.is_empty() {
        return Err(format!("no message has a record at {root}"));
    }
    let page = infer::infer(&messages, Some(Format::Json), None).map_err(|e| e.to_string())?;
    let (raw, problems) = config::text("the sample", &page);
    if let Some(problem) = problems.first() {
        return Err(problem.message.clone());
    }
    let mut keys = Keys::new();
    for (key, entry) in raw.iter() {
        if let Some(key) = key.strip_prefix("transforms.flatten.") {
            keys.insert(key.to_owned(), entry.value.typed().to_owned());
        }
    }
    if let Some(delimiter) = delimiter.filter(|d| *d != "_") {
        renamed(&mut keys, delimiter);
    }
    below(&mut keys, root);
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
    fn paths_move_and_names_stay() {
        let mut keys = Keys::from([
            (
                "columns".to_owned(),
                "id, customer/name, sku=./sku".to_owned(),
            ),
            ("columns.all".to_owned(), "".to_owned()),
            ("explode".to_owned(), "/items".to_owned()),
            ("types.id".to_owned(), "int".to_owned()),
        ]);
        let columns = below(&mut keys, "/payload");
        assert_eq!(
            keys["columns"],
            "id=/payload/id,customer_name=/payload/customer/name,sku=./sku"
        );
        assert_eq!(
            (keys["columns.all"].as_str(), keys["explode"].as_str()),
            ("/payload", "/payload/items")
        );
        let named: Vec<(&str, &str)> = columns
            .iter()
            .map(|c| (c.name.as_str(), c.kind.as_str()))
            .collect();
        assert_eq!(
            named,
            [
                ("id", "int"),
                ("customer_name", "string"),
                ("sku", "string"),
                ("all", "string")
            ]
        );
    }

    #[test]
    fn a_sample_tells_columns_of_the_payload() {
        let sample = [
            br#"{"schema":{},"payload":{"id":1,"a":{"n":"x"}}}"#.to_vec(),
            br#"{"schema":{},"payload":{"id":2,"a":{"n":"y"}}}"#.to_vec(),
            b"not json".to_vec(),
        ];
        let keys = learn(&sample, "/payload", Some(".")).expect("a map");
        assert_eq!(keys["columns"], "a.n=/payload/a/n,id=/payload/id");
        assert_eq!(keys["types.id"], "int");
        learn(&sample, "/other", None).expect_err("nothing there");
    }
}
