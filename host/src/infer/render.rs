//! Inferred keys as TOML for people to edit, with the evidence beside them.

use std::collections::BTreeMap;
use std::fmt;

/// Comments begin in this column, if the key leaves room.
const COMMENT_AT: usize = 44;
/// Most unreadable messages that are listed one by one.
const TOLD: usize = 3;

/// What a key is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(usize),
    Flag(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Value {
        Value::Number(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Flag(flag)
    }
}

/// As TOML writes it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => f.write_str(&quoted(text)),
            Value::Number(number) => number.fmt(f),
            Value::Flag(flag) => flag.fmt(f),
        }
    }
}

/// A key of the transform, and the evidence for its value.
#[derive(Clone, Debug)]
struct Setting {
    /// `types` and `repeat` hold one value for each column.
    group: Option<&'static str>,
    name: String,
    value: Value,
    note: String,
}

/// An item of `columns`, and what was seen in it.
#[derive(Clone, Debug)]
struct Column {
    item: String,
    note: String,
}

/// A map: keys of the transform, each with what was seen.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub head: Vec<String>,
    keys: Vec<Setting>,
    columns: Vec<Column>,
    types: Vec<Setting>,
    repeats: Vec<Setting>,
    pub notes: Vec<String>,
    unread: usize,
    told: Vec<String>,
    /// What each message is called, by its index.
    names: Vec<String>,
}

impl Page {
    pub fn of(names: Vec<String>) -> Page {
        Page {
            names,
            ..Page::default()
        }
    }

    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.set_noted(key, value, "");
    }

    pub fn set_noted(&mut self, key: &str, value: impl Into<Value>, note: &str) {
        self.keys.push(Setting {
            group: None,
            name: key.to_owned(),
            value: value.into(),
            note: comment(note),
        });
    }

    /// `item`: a path, or `name=path`.
    pub fn column(&mut self, item: String, note: &str) {
        let note = comment(note);
        self.columns.push(Column { item, note });
    }

    pub fn column_type(&mut self, column: &str, kind: &str, note: &str) {
        self.types.push(of_column("types", column, kind, note));
    }

    pub fn column_repeat(&mut self, column: &str, how: &str, note: &str) {
        self.repeats.push(of_column("repeat", column, how, note));
    }

    /// The keys as a flat config has them, without the prefix of their transform.
    pub fn keys(&self) -> BTreeMap<String, String> {
        let items: Vec<&str> = self.columns.iter().map(|c| c.item.as_str()).collect();
        let mut keys = BTreeMap::from([("columns".to_owned(), items.join(","))]);
        for setting in self.settings() {
            let key = match setting.group {
                Some(group) => format!("{group}.{}", setting.name),
                None => setting.name.clone(),
            };
            let value = match &setting.value {
                Value::Text(text) => text.clone(),
                other => other.to_string(),
            };
            keys.insert(key, value);
        }
        keys
    }

    fn settings(&self) -> impl Iterator<Item = &Setting> {
        self.keys.iter().chain(&self.types).chain(&self.repeats)
    }

    /// The message at this index could not be read.
    pub fn unread(&mut self, n: usize, why: String) {
        self.unread += 1;
        if self.told.len() < TOLD {
            let name = match self.names.get(n) {
                Some(name) => name.clone(),
                None => format!("message {}", n + 1),
            };
            self.told.push(format!("{name} cannot be read: {why}"));
        }
    }

    /// Why there is no map: nothing could be read.
    pub fn nothing(&self, format: &str) -> String {
        let why = self.told.first().map_or("there is none", String::as_str);
        format!("no message is {format}: {why}")
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.head.iter().chain(&self.told) {
            writeln!(f, "# {line}")?;
        }
        if self.unread > self.told.len() {
            writeln!(f, "# and {} more messages", self.unread - self.told.len())?;
        }
        writeln!(f, "[[transforms]]\nname = \"flatten\"")?;
        let settings = |some: &[Setting], f: &mut fmt::Formatter<'_>| {
            some.iter().try_for_each(|one| {
                let name = key(&one.name);
                let text = match one.group {
                    Some(group) => format!("{group}.{name} = {}", one.value),
                    None => format!("{name} = {}", one.value),
                };
                line(&text, &one.note, f)
            })
        };
        settings(&self.keys, f)?;
        writeln!(f, "columns = [")?;
        for column in &self.columns {
            line(&format!("  {},", quoted(&column.item)), &column.note, f)?;
        }
        writeln!(f, "]")?;
        settings(&self.types, f)?;
        settings(&self.repeats, f)?;
        self.notes
            .iter()
            .try_for_each(|note| writeln!(f, "# {}", comment(note)))
    }
}

fn of_column(group: &'static str, column: &str, value: &str, note: &str) -> Setting {
    Setting {
        group: Some(group),
        name: column.to_owned(),
        value: value.into(),
        note: comment(note),
    }
}

fn line(text: &str, note: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match note {
        "" => writeln!(f, "{text}"),
        note => writeln!(f, "{text:<COMMENT_AT$} # {note}"),
    }
}

/// A TOML string; what JSON escapes, TOML does too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// TOML's comments must not contain control characters.
pub fn comment(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// A part of a dotted key, quoted where TOML wants it.
fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !name.is_empty() && name.chars().all(bare) {
        true => name.to_owned(),
        false => quoted(name),
    }
}

/// `1 to 5`, or `3` if all are the same.
pub fn some_of(numbers: &[usize]) -> String {
    let (low, high) = (
        numbers.iter().min().unwrap_or(&0),
        numbers.iter().max().unwrap_or(&0),
    );
    match low == high {
        true => low.to_string(),
        false => format!("{low} to {high}"),
    }
}
