//! A translated config as text: TOML or `.properties` with notes beside their keys, or Connect's JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{Note, Translated};
use crate::config::raw::CONNECTOR_CLASS;

/// Width at which comments are folded.
const WIDTH: usize = 110;
/// Lists that TOML writes as arrays.
const LISTS: &[&str] = &[
    "source.topics",
    "columns",
    "keep",
    "drop",
    "key",
    "table-key",
];
/// Keys of plugins that end with a column's name, which may contain dots.
const NAMED: &[&str] = &[
    "columns", "types", "rename", "constant", "missing", "repeat",
];

/// `about`: lines of comment above everything.
pub fn toml(done: &Translated, about: &[String]) -> String {
    let map = done.raw.canonical();
    let mut page = Page::new(done);
    page.head(about);
    let top = |key: &str| {
        !["source.", "sink.", "errors.", "transforms."]
            .iter()
            .any(|t| key.starts_with(t))
    };
    for (key, value) in map.iter().filter(|(key, _)| top(key)) {
        if key != CONNECTOR_CLASS && key != "transforms" {
            page.line(key, &dotted(key), value);
        }
    }
    page.table(&map, "source");
    let listed = map.get("transforms").map_or("", String::as_str);
    for name in listed.split(',').filter(|name| !name.is_empty()) {
        page.transform(&map, name);
    }
    page.table(&map, "sink");
    page.table(&map, "errors");
    page.out
}

pub fn properties(done: &Translated, about: &[String]) -> String {
    let mut page = Page::new(done);
    page.head(about);
    for (key, value) in done.raw.canonical() {
        page.notes(&key);
        let _unfailing = writeln!(
            page.out,
            "{}={}",
            escaped(&key, true),
            escaped(&value, false)
        );
    }
    page.out
}

/// As Connect's clients send it; JSON has no place for notes.
pub fn json(done: &Translated) -> String {
    let map = done.raw.canonical();
    format!(
        "{:#}\n",
        serde_json::json!({ "name": map.get("name"), "config": map })
    )
}

struct Page<'a> {
    out: String,
    done: &'a Translated,
    told: BTreeSet<usize>,
}

impl<'a> Page<'a> {
    fn new(done: &'a Translated) -> Page<'a> {
        Page {
            out: String::new(),
            done,
            told: BTreeSet::new(),
        }
    }

    /// Writes what the file is, then the notes on keys without a translation.
    fn head(&mut self, about: &[String]) {
        for line in about {
            self.comment(line);
        }
        let map = self.done.raw.canonical();
        let made: BTreeSet<&String> = map
            .keys()
            .filter(|key| key.as_str() != CONNECTOR_CLASS)
            .filter_map(|key| self.done.from.get(key))
            .collect();
        let loose: Vec<(usize, &Note)> = self
            .done
            .notes
            .iter()
            .enumerate()
            .filter(|(_, note)| !made.contains(&note.key))
            .collect();
        if !loose.is_empty() {
            self.comment("");
        }
        for (n, note) in loose {
            self.told.insert(n);
            let text = format!("{}: {}", note.key, note.text);
            self.comment(&text);
        }
        if !self.out.is_empty() {
            self.out.push('\n');
        }
    }

    fn comment(&mut self, text: &str) {
        let mut line = "#".to_owned();
        for word in text.split_whitespace() {
            if line.chars().count() + word.chars().count() >= WIDTH {
                let _unfailing = writeln!(self.out, "{line}");
                line = "#  ".to_owned();
            }
            line.push(' ');
            line.push_str(word);
        }
        let _unfailing = writeln!(self.out, "{line}");
    }

    /// Notes on the key that `native` was made of; each once.
    fn notes(&mut self, native: &str) {
        let Some(from) = self.done.from.get(native) else {
            return;
        };
        let notes = self.done.notes.iter().enumerate();
        let mine: Vec<(usize, String)> = notes
            .filter(|(n, note)| note.key == *from && !self.told.contains(n))
            .map(|(n, note)| (n, format!("{from}: {}", note.text)))
            .collect();
        for (n, text) in mine {
            self.told.insert(n);
            self.comment(&text);
        }
    }

    fn line(&mut self, native: &str, key: &str, value: &str) {
        self.notes(native);
        let last = native.rsplit('.').next().unwrap_or(native);
        let list =
            LISTS.contains(&native) || (native.starts_with("transforms.") && LISTS.contains(&last));
        let _unfailing = writeln!(self.out, "{key} = {}", written(value, list));
    }

    fn table(&mut self, map: &BTreeMap<String, String>, name: &str) {
        let prefix = format!("{name}.");
        let keys: Vec<&String> = map.keys().filter(|key| key.starts_with(&prefix)).collect();
        if keys.is_empty() {
            return;
        }
        let _unfailing = writeln!(self.out, "\n[{name}]");
        for key in keys {
            let below = key.strip_prefix(&prefix).unwrap_or(key);
            self.line(key, &dotted(below), map.get(key).map_or("", String::as_str));
        }
    }

    fn transform(&mut self, map: &BTreeMap<String, String>, name: &str) {
        let prefix = format!("transforms.{name}.");
        let _unfailing = writeln!(self.out, "\n[[transforms]]\nname = {}", quoted(name));
        let of = |key: &str| map.get(&format!("{prefix}{key}"));
        if let Some(plugin) = of("type") {
            self.line(&format!("{prefix}type"), "type", plugin);
        }
        for (key, value) in map {
            let Some(below) = key.strip_prefix(&prefix).filter(|below| *below != "type") else {
                continue;
            };
            let written = match below.split_once('.') {
                Some((first, column)) if NAMED.contains(&first) => {
                    format!("{first}.{}", part(column))
                }
                _ => dotted(below),
            };
            self.line(key, &written, value);
        }
    }
}

fn dotted(key: &str) -> String {
    key.split('.').map(part).collect::<Vec<_>>().join(".")
}

fn part(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !name.is_empty() && name.chars().all(bare) {
        true => name.to_owned(),
        false => quoted(name),
    }
}

/// TOML has JSON's escapes, but allows no raw control character.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text)
        .to_string()
        .replace('\u{7f}', "\\u007f")
}

fn written(value: &str, list: bool) -> String {
    let whole = value.parse::<i64>().is_ok_and(|n| n.to_string() == value);
    if list && value.contains(',') {
        let items: Vec<String> = value.split(',').map(|item| quoted(item.trim())).collect();
        let line = items.join(", ");
        return match line.len() <= WIDTH - 20 {
            true => format!("[{line}]"),
            false => format!("[\n  {},\n]", items.join(",\n  ")),
        };
    }
    match value {
        "true" | "false" => value.to_owned(),
        _ if whole => value.to_owned(),
        _ => quoted(value),
    }
}

/// As Java's `Properties` reads it back.
fn escaped(text: &str, key: bool) -> String {
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' ' | '=' | ':' if key => out.extend(['\\', c]),
            ' ' | '#' | '!' if n == 0 => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}
