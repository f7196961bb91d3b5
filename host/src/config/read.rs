//! Files into [`Raw`]: TOML, `.properties`, Connect's JSON, Strimzi's YAML. Each key keeps the line and column where it was typed.
//!
//! TOML is the same flat map, nested: tables join with dots, scalar arrays with commas, `[[transforms]]` tables with
//! `name` become `transforms=a,b` and `transforms.a.*`. `[profile.<name>]` tables hold the same keys again.

use std::path::Path;
use std::sync::Arc;

use toml_edit::{ArrayOfTables, Document, Item, Key, TableLike, Value};

use super::json;
use super::problem::{self, Place, Problem};
use super::properties;
use super::raw::Raw;
use super::what::is_yaml;
use super::yaml;

/// Every problem of the file; the map holds what could be read.
pub fn read(path: &str) -> (Raw, Vec<Problem>) {
    let mut reader = Reader {
        raw: Raw::new(path),
        file: path.into(),
        lines: Lines::default(),
        problems: Vec::new(),
        profile: None,
    };
    match super::what::text(path) {
        Err((message, hint)) => {
            reader.problem("", problem::UNREADABLE, message, 0);
            if let Some(problem) = reader.problems.last_mut() {
                problem.hint = hint;
            }
        }
        Ok(text) => {
            reader.lines = Lines::of(&text);
            match Path::new(path).extension().and_then(|e| e.to_str()) {
                _ if is_yaml(path, &text) => reader.yaml(&text),
                Some("properties") => reader.properties(&text),
                Some("json") => reader.json(&text),
                _ => reader.toml(&text),
            }
        }
    }
    (reader.raw, reader.problems)
}

/// Reads TOML that is not in a file.
pub fn text(label: &str, toml: &str) -> (Raw, Vec<Problem>) {
    let mut reader = Reader {
        raw: Raw::new(label),
        file: label.into(),
        lines: Lines::of(toml),
        problems: Vec::new(),
        profile: None,
    };
    reader.toml(toml);
    (reader.raw, reader.problems)
}

struct Reader {
    raw: Raw,
    file: Arc<str>,
    lines: Lines,
    problems: Vec<Problem>,
    /// The profile whose tables are being read.
    profile: Option<String>,
}

/// Byte position → line and column.
#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn of(text: &str) -> Lines {
        Lines {
            text: text.to_owned(),
        }
    }

    /// The position of `a`, given that of `b` in `a.b = …`.
    fn start_of_key(&self, byte: usize) -> usize {
        let before = self.text.get(..byte).unwrap_or("");
        let dotted = |c: char| c.is_alphanumeric() || "._-\"'".contains(c);
        before.trim_end_matches(dotted).len()
    }

    /// Both count from 1; columns in characters.
    fn at(&self, byte: usize) -> (u32, u32) {
        let before = self.text.get(..byte).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(start..).unwrap_or("").chars().count() + 1;
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (small(line), small(column))
    }
}

impl Reader {
    fn place(&self, byte: usize) -> Place {
        let (line, column) = self.lines.at(byte);
        self.place_at(line, column)
    }

    fn place_at(&self, line: u32, column: u32) -> Place {
        Place::File {
            file: Arc::clone(&self.file),
            line,
            column,
        }
    }

    fn problem(&mut self, key: &str, code: &'static str, message: String, byte: usize) {
        let place = self.place(byte);
        self.problems.push(Problem::new(place, key, code, message));
    }

    fn insert(&mut self, key: String, value: String, place: Place) {
        let inserted = match &self.profile {
            None => self.raw.insert(key, value, place),
            Some(profile) => self.raw.insert_in_profile(profile, key, value, place),
        };
        self.problems.extend(inserted.err());
    }

    fn properties(&mut self, text: &str) {
        for line in properties::parse(text) {
            let place = self.place_at(line.line, line.column);
            self.insert(line.key, line.value, place);
        }
    }

    fn json(&mut self, text: &str) {
        match json::flat(text) {
            Err(error) => {
                let place = self.place_at(error.line, error.column);
                let message = format!("not Connect's JSON: {}", error.message);
                self.problems
                    .push(Problem::new(place, "", problem::SYNTAX, message).hint(
                        "{\"name\": …, \"config\": {key: value, …}}, or the config object alone",
                    ));
            }
            Ok(pairs) => {
                for pair in pairs {
                    let place = self.place_at(pair.line, pair.column);
                    self.insert(pair.key, pair.value, place);
                }
            }
        }
    }

    fn yaml(&mut self, text: &str) {
        match yaml::flat(text) {
            Err(error) => {
                let place = self.place_at(error.line, error.column);
                let message = format!("not a connector in YAML: {}", error.message);
                self.problems.push(
                    Problem::new(place, "", problem::SYNTAX, message)
                        .hint("a KafkaConnector of Strimzi, or a connector's config as a map"),
                );
            }
            Ok(read) => {
                for pair in read.pairs {
                    let place = self.place_at(pair.line, pair.column);
                    self.insert(pair.key, pair.value, place);
                }
                for (pair, why) in read.idle {
                    let place = self.place_at(pair.line, pair.column);
                    let message = format!("`{}` has no effect: {why}", pair.key);
                    let problem = Problem::new(place, &pair.key, problem::UNKNOWN_KEY, message);
                    self.problems.push(problem.warning());
                }
            }
        }
    }

    // ---------------------------------------------------------------- TOML

    fn toml(&mut self, text: &str) {
        let document = match Document::parse(text) {
            Ok(document) => document,
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                let message = error.message().replace('\n', ", ");
                let code = match message.contains("duplicate key") {
                    true => problem::DUPLICATE,
                    false => problem::SYNTAX,
                };
                self.problem("", code, format!("not valid TOML: {message}"), at);
                return;
            }
        };
        self.table("", document.as_table());
    }

    fn table(&mut self, prefix: &str, table: &dyn TableLike) {
        for (name, _) in table.iter() {
            let Some((key, item)) = table.get_key_value(name) else {
                continue;
            };
            let at = key.span().or_else(|| item.span()).map_or(0, |s| s.start);
            let at = self.lines.start_of_key(at);
            let top = prefix.is_empty();
            if top && name == "profile" && self.profile.is_none() {
                self.profile_tables(item, at);
            } else if top && name == "transforms" {
                self.transforms(key, item, at);
            } else {
                self.item(&join(prefix, name), item, at);
            }
        }
    }

    fn item(&mut self, key: &str, item: &Item, at: usize) {
        match item {
            Item::None => {}
            Item::Table(table) => self.table(key, table),
            Item::Value(Value::InlineTable(table)) => self.table(key, table),
            Item::Value(value) => {
                if let Some(text) = self.scalar_or_list(key, value, at) {
                    let place = self.place(at);
                    self.insert(key.to_owned(), text, place);
                }
            }
            Item::ArrayOfTables(_) => {
                let message = format!("`{key}` is a list of tables; only transforms is written so");
                self.problem(key, problem::WRONG_TYPE, message, at);
            }
        }
    }

    fn scalar_or_list(&mut self, key: &str, value: &Value, at: usize) -> Option<String> {
        let Value::Array(array) = value else {
            return Some(scalar(value));
        };
        let mut parts = Vec::new();
        for item in array {
            let text = scalar(item);
            let plain = !matches!(item, Value::Array(_) | Value::InlineTable(_));
            if !plain || text.contains(',') {
                let at = item.span().map_or(at, |span| span.start);
                let message = format!(
                    "`{key}` holds a list inside its list, or an item with a comma; lists join with commas, so that cannot be told apart"
                );
                self.problem(key, problem::WRONG_TYPE, message, at);
                return None;
            }
            parts.push(text);
        }
        Some(parts.join(","))
    }

    fn profile_tables(&mut self, item: &Item, at: usize) {
        let Some(profiles) = item.as_table_like() else {
            let message = "`profile` is not a table of profiles".to_owned();
            self.problem("profile", problem::WRONG_TYPE, message, at);
            return;
        };
        for (name, overlay) in profiles.iter() {
            let at = profiles
                .get_key_value(name)
                .and_then(|(key, _)| key.span())
                .map_or(at, |span| span.start);
            match overlay.as_table_like() {
                Some(table) => {
                    self.raw.declare_profile(name);
                    self.profile = Some(name.to_owned());
                    self.table("", table);
                    self.profile = None;
                }
                None => {
                    let key = format!("profile.{name}");
                    let message = format!("`{key}` is not a table of keys");
                    self.problem(&key, problem::WRONG_TYPE, message, at);
                }
            }
        }
    }

    /// `[[transforms]]`, or an inline array of tables; in a profile also tables by name; otherwise an ordinary key.
    fn transforms(&mut self, key: &Key, item: &Item, at: usize) {
        match item {
            Item::ArrayOfTables(tables) => self.transform_tables(tables, at),
            Item::Value(Value::Array(array)) if array.iter().any(Value::is_inline_table) => {
                match item.clone().into_array_of_tables() {
                    Ok(tables) => self.transform_tables(&tables, at),
                    Err(_) => {
                        let message = "`transforms` mixes tables and names".to_owned();
                        self.problem("transforms", problem::WRONG_TYPE, message, at);
                    }
                }
            }
            item => self.item(key.get(), item, at),
        }
    }

    fn transform_tables(&mut self, tables: &ArrayOfTables, at: usize) {
        let mut names = Vec::new();
        for table in tables.iter() {
            let start = table.span().map_or(at, |span| span.start);
            let name = table.get("name").and_then(Item::as_str).map(str::to_owned);
            let Some(name) = name.filter(|name| !name.is_empty()) else {
                let place = self.place(start);
                self.problems.push(
                    Problem::new(
                        place,
                        "transforms",
                        problem::MISSING,
                        "a transform has no `name`",
                    )
                    .hint("add name = \"…\": its place in the pipeline, in the log and in dead letters"),
                );
                continue;
            };
            for (key, _) in table.iter().filter(|(key, _)| *key != "name") {
                if let Some((written, item)) = table.get_key_value(key) {
                    let at = written.span().map_or(start, |span| span.start);
                    let at = self.lines.start_of_key(at);
                    self.item(&format!("transforms.{name}.{key}"), item, at);
                }
            }
            if names.contains(&name) {
                let message = format!("two transforms have the name `{name}`");
                self.problem("transforms", problem::DUPLICATE, message, start);
            } else {
                names.push(name);
            }
        }
        let first = tables.iter().find_map(toml_edit::Table::span);
        let place = self.place(first.map_or(at, |span| span.start));
        self.insert("transforms".to_owned(), names.join(","), place);
    }
}

fn join(prefix: &str, name: &str) -> String {
    match prefix {
        "" => name.to_owned(),
        _ => format!("{prefix}.{name}"),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.value().clone(),
        Value::Integer(n) => n.value().to_string(),
        Value::Float(x) => x.value().to_string(),
        Value::Boolean(b) => b.value().to_string(),
        Value::Datetime(time) => time.value().to_string(),
        Value::Array(_) | Value::InlineTable(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(name: &str, text: &str) -> (Raw, Vec<Problem>) {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("write");
        read(path.to_str().expect("utf-8"))
    }

    const TOML: &str = r#"
name = "books"
tasks.max = 2

[source]
type = "kafka"
topics = ["a", "b"]
kafka.security.protocol = "SSL"

[[transforms]]
name = "flatten"
type = "xml-flatten@0.1"
columns = { title = "title", year = "publication_year:int" }

[[transforms]]
name = "rules"
strict = true

[profile.prod]
tasks.max = 8
transforms.rules.strict = false
"#;

    #[test]
    fn toml_is_the_flat_map_nested() {
        let (mut raw, problems) = read_as("a.toml", TOML);
        assert!(problems.is_empty(), "{problems:?}");
        let map = raw.canonical();
        let want = [
            ("connector.class", "weir"),
            ("name", "books"),
            ("source.kafka.security.protocol", "SSL"),
            ("source.topics", "a,b"),
            ("source.type", "kafka"),
            ("tasks.max", "2"),
            ("transforms", "flatten,rules"),
            ("transforms.flatten.columns.title", "title"),
            ("transforms.flatten.columns.year", "publication_year:int"),
            ("transforms.flatten.type", "xml-flatten@0.1"),
            ("transforms.rules.strict", "true"),
        ];
        let got: Vec<(&str, &str)> = map.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(got, want);
        assert!(
            raw.place("source.topics")
                .to_string()
                .ends_with("a.toml:7:1")
        );
        assert!(
            raw.place("source.start")
                .to_string()
                .ends_with("a.toml:6:1")
        );
        assert!(raw.apply_profile("prod") && !raw.apply_profile("test"));
        assert_eq!(raw.canonical()["tasks.max"], "8");
        assert_eq!(raw.canonical()["transforms.rules.strict"], "false");
        assert!(raw.place("tasks.max").to_string().ends_with("a.toml:20:1"));
    }

    #[test]
    fn the_three_formats_agree() {
        let toml = read_as("a.toml", "name = \"n\"\n[sink]\nurl = \"file:x\"\n");
        let properties = read_as("a.properties", "name=n\nsink.url=file:x\n");
        let json = read_as(
            "a.json",
            "{\"name\": \"n\", \"config\": {\n  \"sink.url\": \"file:x\"}}",
        );
        assert!(json.0.place("sink.url").to_string().ends_with("a.json:2:3"));
        assert_eq!(toml.0.canonical(), properties.0.canonical());
        assert_eq!(toml.0.canonical(), json.0.canonical());
    }

    #[test]
    fn what_cannot_be_flat_is_told() {
        let (_, problems) = read_as(
            "a.toml",
            "a = [[1], [2]]\nb = [\"x,y\"]\n\"c.d\" = 1\n[c]\nd = 2\n[[transforms]]\ntype = \"x\"\n[[e]]\n",
        );
        let codes: Vec<&str> = problems.iter().map(|p| p.code).collect();
        let wrong = problem::WRONG_TYPE;
        assert_eq!(
            codes,
            [wrong, wrong, problem::DUPLICATE, problem::MISSING, wrong]
        );
    }
}
