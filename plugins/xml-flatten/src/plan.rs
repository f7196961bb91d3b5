//! The config, checked: which columns there are, and a tree of the paths that lead to them.
use std::collections::BTreeSet;

use weir_sdk::{Config, Type};

use crate::strict;

/// What the config means.
#[derive(Debug)]
pub struct Layout {
    /// The name of the input column that holds the messages.
    pub input: String,
    pub row_tag: Vec<u8>,
    pub columns: Vec<Column>,
    /// Columns at or below the exploded element.
    pub exploded: Vec<usize>,
    /// The wanted paths as a tree; 0 is the row element.
    pub nodes: Vec<Node>,
    pub local_names: bool,
    pub trim: bool,
    pub empty_as_null: bool,
    pub null_value: Option<Vec<u8>>,
    pub mixed: Mixed,
    pub limits: Limits,
}

#[derive(Debug)]
pub struct Column {
    pub name: String,
    /// As the config says it.
    pub path: String,
    pub kind: Type,
    pub repeat: Repeat,
}

#[derive(Debug, Default)]
pub struct Node {
    pub children: Vec<(Vec<u8>, usize)>,
    pub attributes: Vec<(Vec<u8>, usize)>,
    /// Columns that take this element's text.
    pub text: Vec<usize>,
    pub explodes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Repeat {
    Reject,
    First,
    Last,
    Json,
    Explode,
}

/// What the text of an element with children is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mixed {
    /// Its own, without that of its children.
    Own,
    /// Its own and that of everything below it, in document order.
    All,
    /// Refused, if its own is more than blanks.
    Reject,
}

#[derive(Debug)]
pub struct Limits {
    pub depth: usize,
    pub attributes: usize,
    pub namespaces: usize,
    pub text: usize,
    pub rows: usize,
}

const REPEATS: [&str; 5] = ["reject", "first", "last", "json", "explode"];

/// A path, taken apart: the elements, and the attribute at its end.
struct Path {
    elements: Vec<String>,
    attribute: Option<String>,
}

impl Layout {
    /// Problems go to `config`; what comes back is then only good for `config.finish()`.
    pub fn read(config: &mut Config) -> Self {
        let mut layout = Self {
            input: config.text("input", "value"),
            row_tag: config
                .require("row-tag", "the element that becomes a row")
                .into_bytes(),
            columns: Vec::new(),
            exploded: Vec::new(),
            nodes: vec![Node::default()],
            local_names: config.choice("namespaces", &["ignore", "keep"], "ignore") == 0,
            trim: config.flag("ignore-surrounding-spaces", true),
            empty_as_null: config.flag("empty-as-null", false),
            null_value: config.get("null-value").map(String::into_bytes),
            mixed: [Mixed::Own, Mixed::All, Mixed::Reject]
                [config.choice("mixed-content", &["own", "all", "reject"], "own")],
            limits: Limits {
                depth: config.number("max-depth", 64, 1..=1024),
                attributes: config.number("max-attributes", 256, 0..=4096),
                namespaces: config.number("max-namespaces", 64, 0..=4096),
                text: config.number("max-text-bytes", 1 << 20, 1..=1 << 26),
                rows: config.number("max-rows", 10_000, 1..=1_000_000),
            },
        };
        if !layout.row_tag.is_empty() && !strict::is_name(&layout.row_tag) {
            config.problem(
                "row-tag",
                "bad_name",
                "not an element name; give the name alone",
            );
        }
        layout.read_columns(config);
        layout
    }

    fn read_columns(&mut self, config: &mut Config) {
        let value_tag = config.text("value-tag", "_VALUE");
        let prefix = config.text("attribute-prefix", "_");
        let separator = config.text("separator", "_");
        let named = config.below("columns.");
        let listed = config.get("columns");
        if listed.is_some() != named.is_empty() {
            let code = if listed.is_some() {
                "columns_twice"
            } else {
                "missing_key"
            };
            let message =
                "give `columns = \"path, name=path, …\"` or keys `columns.<name> = \"path\"`";
            config.problem("columns", code, message);
        }
        let mut wanted: Vec<(String, String, String)> = Vec::new();
        for (name, path) in named {
            wanted.push((format!("columns.{name}"), name, path));
        }
        for item in listed
            .iter()
            .flat_map(|list| list.split(','))
            .map(str::trim)
        {
            let (name, path) = match item.split_once('=') {
                Some((name, path)) => (name.trim().to_owned(), path.trim()),
                None => (item.replace('@', &prefix).replace('/', &separator), item),
            };
            wanted.push(("columns".into(), name, path.to_owned()));
        }
        let default = config.get("repeat").or_else(|| config.get("repeat.*"));
        let default = default.map_or(Repeat::Reject, |word| repeat(config, "repeat", &word));
        let mut names = BTreeSet::new();
        let mut exploding: Vec<(String, Vec<String>)> = Vec::new();
        if let Some(path) = config.get("explode") {
            match parse_path(&path, &value_tag) {
                Ok(Path {
                    elements,
                    attribute: None,
                }) if !elements.is_empty() => {
                    exploding.push(("explode".into(), elements));
                }
                _ => config.problem(
                    "explode",
                    "bad_path",
                    format!("`{path}` is no element path"),
                ),
            }
        }
        let mut paths = Vec::new();
        for (key, name, path) in wanted {
            if name.is_empty() || !names.insert(name.clone()) {
                let message = format!("two columns are called `{name}`, or one has no name");
                config.problem(&key, "duplicate_column", message);
                continue;
            }
            let type_key = format!("types.{name}");
            let spec = config.text(&type_key, "string");
            let kind = Type::parse(&spec).unwrap_or_else(|message| {
                config.problem(&type_key, "bad_type", message);
                Type::Text
            });
            let repeat_key = format!("repeat.{name}");
            let repeat = match config.get(&repeat_key) {
                Some(word) => repeat(config, &repeat_key, &word),
                None => default,
            };
            if repeat == Repeat::Json && kind != Type::Text {
                let message = "repeat = json gives a JSON array of texts: the type must be string";
                config.problem(&repeat_key, "json_not_string", message);
            }
            match parse_path(&path, &value_tag) {
                Ok(parsed) => {
                    if repeat == Repeat::Explode {
                        exploding.push((repeat_key, parsed.elements.clone()));
                    }
                    paths.push(parsed);
                    self.columns.push(Column {
                        name,
                        path,
                        kind,
                        repeat,
                    });
                }
                Err(message) => config.problem(&key, "bad_path", message),
            }
        }
        for (prefix, what) in [("types.", "a type"), ("repeat.", "a repeat")] {
            for (name, _) in config.below(prefix) {
                if !names.contains(&name) && name != "*" {
                    let message = format!("{what} for `{name}`, which is no column");
                    config.problem(&format!("{prefix}{name}"), "unknown_column", message);
                }
            }
        }
        self.grow(config, paths, &exploding);
    }

    /// Builds the tree of paths and marks what explodes.
    fn grow(&mut self, config: &mut Config, paths: Vec<Path>, exploding: &[(String, Vec<String>)]) {
        let explode = exploding.first().map(|(_, elements)| elements.clone());
        for (key, elements) in exploding {
            if elements.is_empty() {
                config.problem(
                    key,
                    "bad_path",
                    "the row element itself already becomes rows",
                );
            } else if Some(elements) != explode.as_ref() {
                let message = "only one element may explode beside the row tag";
                config.problem(key, "explode_twice", message);
            }
        }
        for (n, path) in paths.into_iter().enumerate() {
            let node = self.node(&path.elements);
            match path.attribute {
                Some(name) => self.nodes[node].attributes.push((name.into_bytes(), n)),
                None => self.nodes[node].text.push(n),
            }
            if explode
                .as_ref()
                .is_some_and(|e| path.elements.starts_with(e))
            {
                self.exploded.push(n);
            }
        }
        if let Some(elements) = explode {
            let node = self.node(&elements);
            self.nodes[node].explodes = true;
            if self.exploded.is_empty() {
                config.problem(
                    "explode",
                    "bad_path",
                    "no column lies at or below this path",
                );
            }
        }
    }

    fn node(&mut self, elements: &[String]) -> usize {
        let mut at = 0;
        for name in elements {
            let name = name.as_bytes();
            let known = self.nodes[at]
                .children
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, to)| *to);
            at = known.unwrap_or_else(|| {
                let to = self.nodes.len();
                self.nodes.push(Node::default());
                self.nodes[at].children.push((name.to_vec(), to));
                to
            });
        }
        at
    }
}

fn repeat(config: &mut Config, key: &str, word: &str) -> Repeat {
    let all = [
        Repeat::Reject,
        Repeat::First,
        Repeat::Last,
        Repeat::Json,
        Repeat::Explode,
    ];
    let chosen = REPEATS
        .iter()
        .position(|name| *name == word)
        .map(|n| all[n]);
    match chosen {
        Some(Repeat::Explode) if key == "repeat" => {
            config.problem(
                key,
                "bad_value",
                "explode is for one column: repeat.<column>",
            );
            Repeat::Reject
        }
        Some(repeat) => repeat,
        None => {
            let names = REPEATS.join(", ");
            config.problem(
                key,
                "bad_value",
                format!("found `{word}`, expected one of {names}"),
            );
            Repeat::Reject
        }
    }
}

/// `a/b`, `a/@b`, `@b`, `a/_VALUE` (the same as `a`) or `_VALUE` (the text of the row element).
fn parse_path(path: &str, value_tag: &str) -> Result<Path, String> {
    let mut elements: Vec<String> = path.trim().split('/').map(str::to_owned).collect();
    let mut attribute = None;
    if let Some(last) = elements.pop() {
        if let Some(name) = last.strip_prefix('@') {
            attribute = Some(name.to_owned());
        } else if last != value_tag || value_tag.is_empty() {
            elements.push(last);
        }
    }
    match elements
        .iter()
        .chain(&attribute)
        .find(|name| !strict::is_name(name.as_bytes()))
    {
        None => Ok(Path {
            elements,
            attribute,
        }),
        Some(name) => Err(format!(
            "`{path}`: `{name}` is no XML name; a path is element/element or element/@attribute"
        )),
    }
}

impl Layout {
    /// Whether the fast reader knows every feature this layout uses.
    pub fn plain(&self) -> bool {
        true
    }
}
