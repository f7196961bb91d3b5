//! The config: which field becomes which column, and what happens if a line has too many or too few fields.
use std::collections::BTreeSet;

use weir_sdk::{Config, Schema, Setup, Type};

use crate::split::{Dialect, Split};

/// Everything the config says, checked.
#[derive(Debug)]
pub struct Layout {
    pub columns: Vec<Column>,
    /// The column of field n of a line; none: it is dropped. With a header line each message has its own.
    pub fields: Vec<Option<usize>>,
    pub dialect: Dialect,
    pub null_value: Option<Vec<u8>>,
    pub header_line: bool,
    pub refuse_extra: bool,
    pub refuse_missing: bool,
    /// Numbers have neither `+` nor zeros before them: those would be lost.
    pub plain_numbers: bool,
    pub max_rows: usize,
    /// Position of the input column; none: it is missing.
    pub input: Option<u32>,
    /// Input columns that every row keeps.
    pub carry: Vec<u32>,
}

#[derive(Debug)]
pub struct Column {
    pub name: String,
    /// Its name in a header line.
    pub header: String,
    pub kind: Type,
}

const MAX_ROWS: usize = 100_000;

impl Layout {
    pub fn read(setup: &Setup, config: &mut Config) -> Self {
        let dialect = dialect(config);
        let header_line = config.flag("header-line", false);
        let mut layout = Self {
            columns: Vec::new(),
            fields: Vec::new(),
            null_value: config.get("null-value").map(String::into_bytes),
            header_line,
            refuse_extra: config.choice("extra", &["refuse", "ignore"], "refuse") == 0,
            refuse_missing: config.choice("missing", &["refuse", "null"], "refuse") == 0,
            plain_numbers: config.choice("numbers", &["any", "plain"], "any") == 1,
            max_rows: config.number("max-rows", MAX_ROWS, 1..=1_000_000),
            input: input(setup, config),
            carry: Vec::new(),
            dialect,
        };
        layout.read_columns(config);
        layout.read_carry(setup, config);
        layout
    }

    fn read_columns(&mut self, config: &mut Config) {
        let (listed, header) = (config.get("columns"), config.get("header"));
        let (key, items) = match (listed, header) {
            (Some(list), None) => ("columns", list.split(',').map(str::to_owned).collect()),
            (None, Some(line)) => ("header", self.header(&line, config)),
            (both, _) => {
                let code = if both.is_some() {
                    "columns_twice"
                } else {
                    "missing_key"
                };
                let message = "give the names of the fields as a list (`columns`) or as a CSV line (`header`)";
                config.problem("columns", code, message);
                ("columns", Vec::new())
            }
        };
        let mut names = BTreeSet::new();
        for item in items {
            let item = item.trim();
            let (name, header) = match item.split_once('=').filter(|_| key == "columns") {
                Some((name, header)) => (name.trim(), header.trim()),
                None => (item, item),
            };
            if name != header && !self.header_line {
                let message =
                    format!("`{item}`: only a header line (header-line = true) names fields");
                config.problem(key, "bad_value", message);
            }
            if name.is_empty() {
                self.fields.push(None);
                continue;
            }
            if !names.insert(name.to_owned()) {
                let message = format!("two columns are called `{name}`");
                config.problem(key, "duplicate_column", message);
                continue;
            }
            let type_key = format!("types.{name}");
            let spec = config.text(&type_key, "string");
            let kind = Type::parse(&spec).unwrap_or_else(|message| {
                config.problem(&type_key, "bad_type", message);
                Type::Text
            });
            self.fields.push(Some(self.columns.len()));
            self.columns.push(Column {
                name: name.to_owned(),
                header: header.to_owned(),
                kind,
            });
        }
        for (name, _) in config.below("types.") {
            if !names.contains(&name) {
                let message = format!("a type for `{name}`, which is no column");
                config.problem(&format!("types.{name}"), "unknown_column", message);
            }
        }
        if self.columns.is_empty() && !self.fields.is_empty() {
            config.problem(key, "missing_key", "no field has a name");
        }
    }

    /// The names in a CSV line, written as the messages are.
    fn header(&self, line: &str, config: &mut Config) -> Vec<String> {
        let mut reader = self.dialect.reader();
        let mut split = Split::new(&self.dialect, &mut reader, line.as_bytes());
        let mut out = vec![0; line.len() + 1];
        let mut names = Vec::new();
        while let Ok(Some(field)) = split.next(&mut out) {
            names.push(String::from_utf8_lossy(&out[..field.len]).into_owned());
            if field.last {
                return names;
            }
        }
        let message = "expected one CSV line with the names of the fields";
        config.problem("header", "bad_value", message);
        names
    }

    fn read_carry(&mut self, setup: &Setup, config: &mut Config) {
        for name in config.list("carry") {
            match Schema::of(setup).find(&name) {
                Ok(n) if self.columns.iter().all(|column| column.name != name) => {
                    self.carry.push(n as u32);
                }
                Ok(_) => {
                    let message = format!("two columns are called `{name}`");
                    config.problem("carry", "duplicate_column", message);
                }
                Err(message) => config.problem("carry", "unknown_column", message),
            }
        }
    }
}

fn input(setup: &Setup, config: &mut Config) -> Option<u32> {
    let name = config.text("input", "value");
    let schema = Schema::of(setup);
    let found = schema.find(&name).and_then(|n| {
        let format = schema.nodes(n).first().map_or("", |field| &field.format);
        match format {
            "z" | "u" => Ok(n as u32),
            _ => Err(format!("`{name}`: expected bytes or text, found {format}")),
        }
    });
    found
        .map_err(|message| config.problem("input", "bad_input", message))
        .ok()
}

fn dialect(config: &mut Config) -> Dialect {
    let separator = byte(config, "separator", ",");
    let quote = byte(config, "quote", "\"");
    let escape = byte(config, "escape", "");
    if separator.is_none() {
        config.problem("separator", "bad_value", "a separator is needed");
    }
    if separator.is_some() && (separator == quote || separator == escape) {
        config.problem(
            "separator",
            "bad_value",
            "it is the quote or the escape too",
        );
    }
    if quote.is_some() && quote == escape {
        let message = "it is the quote: a doubled quote means one without any escape";
        config.problem("escape", "bad_value", message);
    }
    Dialect {
        separator: separator.unwrap_or(b','),
        quote,
        escape,
        trim: config.flag("trim", false),
    }
}

/// One ASCII character, `tab`, or nothing.
fn byte(config: &mut Config, key: &str, default: &str) -> Option<u8> {
    let value = config.text(key, default);
    match value.as_bytes() {
        [] => None,
        b"tab" | b"\\t" => Some(b'\t'),
        [byte] if byte.is_ascii() && !matches!(byte, b'\r' | b'\n' | 0) => Some(*byte),
        _ => {
            let message = format!("found `{value}`, expected one ASCII character or `tab`");
            config.problem(key, "bad_value", message);
            default.bytes().next()
        }
    }
}
