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

/// Most columns: a plan holds 4,096, with those of the record.
const MAX_COLUMNS: usize = 4_000;

/// A column, and what was seen in it.
#[derive(Clone, Debug)]
struct Column {
    name: String,
    path: String,
    /// The plugin gives a path this name by itself.
    plain: bool,
    note: String,
}

impl Column {
    /// In a list of columns.
    fn item(&self) -> String {
        match self.plain {
            true => self.path.clone(),
            false => format!("{}={}", self.name, self.path),
        }
    }

    /// A list divides at commas, drops blanks around names and paths, and a name ends at its `=`.
    fn can_be_listed(&self) -> bool {
        let sound = |text: &str| !text.contains(',') && text.trim() == text;
        sound(&self.name) && sound(&self.path) && !self.name.contains('=')
    }
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
    /// Paths beyond the most columns.
    left_out: usize,
    /// Messages that gave no evidence, by their index.
    pub unread: Vec<usize>,
    told: Vec<String>,
    /// What each message is called, by its index.
    names: Vec<String>,
    /// Why the plugin refuses a message whatever its config says, by its index.
    refused: Vec<Option<String>>,
}

impl Page {
    pub fn of(names: Vec<String>, refused: Vec<Option<String>>) -> Page {
        Page {
            names,
            refused,
            ..Page::default()
        }
    }

    /// `Err` says why the plugin refuses the message at this index whatever its config says.
    pub fn readable(&self, n: usize) -> Result<(), String> {
        match self.refused.get(n) {
            Some(Some(why)) => Err(why.clone()),
            _ => Ok(()),
        }
    }

    /// Sets a limit of the plugin where the messages need more than its default.
    pub fn limit(&mut self, key: &str, default: usize, needed: usize, note: &str) {
        if needed > default {
            self.set_noted(key, needed, note);
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

    /// `plain`: the plugin gives the path this name by itself. False: there are too many already.
    #[must_use]
    pub fn column(&mut self, name: &str, path: &str, plain: bool, note: &str) -> bool {
        if self.columns.len() >= MAX_COLUMNS {
            self.left_out += 1;
            return false;
        }
        self.columns.push(Column {
            name: name.to_owned(),
            path: path.to_owned(),
            plain,
            note: comment(note),
        });
        true
    }

    pub fn has_columns(&self) -> bool {
        !self.columns.is_empty()
    }

    /// Whether the columns can be one list; else each is a key of its own.
    fn listed(&self) -> bool {
        self.columns.iter().all(Column::can_be_listed)
    }

    pub fn column_type(&mut self, column: &str, kind: &str, note: &str) {
        self.types.push(of_column("types", column, kind, note));
    }

    pub fn column_repeat(&mut self, column: &str, how: &str, note: &str) {
        self.repeats.push(of_column("repeat", column, how, note));
    }

    /// The keys as a flat config has them, without the prefix of their transform.
    pub fn keys(&self) -> BTreeMap<String, String> {
        let mut keys = BTreeMap::new();
        if self.listed() {
            let items: Vec<String> = self.columns.iter().map(Column::item).collect();
            keys.insert("columns".to_owned(), items.join(","));
        } else {
            let columns = self.columns.iter();
            keys.extend(columns.map(|c| (format!("columns.{}", c.name), c.path.clone())));
        }
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
        self.unread.push(n);
        if self.told.len() < TOLD {
            let name = match self.names.get(n) {
                Some(name) => name.clone(),
                None => format!("message {}", n + 1),
            };
            self.told
                .push(comment(&format!("{name} cannot be read: {why}")));
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
        if self.unread.len() > self.told.len() {
            let more = self.unread.len() - self.told.len();
            writeln!(f, "# and {more} more messages")?;
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
        if self.listed() {
            writeln!(f, "columns = [")?;
            for column in &self.columns {
                line(&format!("  {},", quoted(&column.item())), &column.note, f)?;
            }
            writeln!(f, "]")?;
        } else {
            writeln!(
                f,
                "# keys, in the order of their names: a list cannot hold one of them"
            )?;
            for column in &self.columns {
                let text = format!("columns.{} = {}", key(&column.name), quoted(&column.path));
                line(&text, &column.note, f)?;
            }
        }
        if self.left_out > 0 {
            let more = self.left_out;
            writeln!(
                f,
                "# {more} more paths are left out: {MAX_COLUMNS} columns at most"
            )?;
        }
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
