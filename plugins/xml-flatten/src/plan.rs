//! The config, checked: which columns there are, and a tree of the paths that lead to them.
use std::collections::BTreeSet;

use weir_sdk::{Config, Type};

use crate::paths::{self, End, MAX_NAMESPACES, Namespace, Path, Step, XML_URI, XMLNS_URI};
use crate::strict;

/// What the config means.
#[derive(Debug)]
pub struct Layout {
    /// The name of the input column that holds the messages.
    pub input: String,
    /// As the walk compares it: see `paths::key`.
    pub row_tag: Vec<u8>,
    /// As the config says it.
    pub row_name: String,
    pub columns: Vec<Column>,
    /// Columns at or below the exploded element.
    pub exploded: Vec<usize>,
    /// The wanted paths as a tree; 0 is the row element.
    pub nodes: Vec<Node>,
    /// Columns whose values lie outside of the row element, before it.
    pub above: Vec<Above>,
    pub local_names: bool,
    /// Not empty: names are matched by namespace.
    pub namespaces: Vec<Namespace>,
    /// The last column, if it takes what no other column took.
    pub wildcard: Option<usize>,
    /// What a path calls the text of the row element.
    pub value_tag: String,
    /// A `<!DOCTYPE` without declarations of its own is passed over.
    pub doctype: bool,
    /// An element with `xsi:nil="true"` is null.
    pub nil: bool,
    /// Namespaces, an index, a wildcard, a column from above or `xsi:nil`: only the event reader knows them.
    pub needs_events: bool,
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

/// A column from outside of the row element.
#[derive(Debug)]
pub struct Above {
    pub column: usize,
    /// Elements up from the row element to that where the path begins; at least 1.
    pub up: usize,
    /// As the walk compares them; at most [`MAX_ABOVE_STEPS`].
    pub steps: Vec<Vec<u8>>,
    /// The attribute at its end, or the text of the last step.
    pub attribute: Option<Vec<u8>>,
}

/// Elements of a path that begins above the row: the walk has one bit for each.
pub const MAX_ABOVE_STEPS: usize = 63;

#[derive(Debug, Default)]
pub struct Node {
    pub children: Vec<(Vec<u8>, usize)>,
    /// Single occurrences; they go before `children`.
    pub indexed: Vec<Indexed>,
    pub attributes: Vec<(Vec<u8>, usize)>,
    /// Columns that take this element's text.
    pub text: Vec<usize>,
    pub explodes: bool,
}

/// Elements of one name of which single ones are wanted: the nodes by number of occurrence, from 1.
#[derive(Debug)]
pub struct Indexed {
    pub name: Vec<u8>,
    pub nodes: Vec<(u32, usize)>,
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

impl Layout {
    /// Problems go to `config`; if there are any, the result must not be used except for `config.finish()`.
    pub fn read(config: &mut Config) -> Self {
        let row_name = config.require("row-tag", "the element that becomes a row");
        let namespaces = namespaces(config);
        let mut layout = Self {
            input: config.text("input", "value"),
            row_tag: row_name.clone().into_bytes(),
            row_name,
            columns: Vec::new(),
            exploded: Vec::new(),
            nodes: vec![Node::default()],
            above: Vec::new(),
            local_names: config.choice("namespaces", &["ignore", "keep"], "ignore") == 0
                && namespaces.is_empty(),
            namespaces,
            wildcard: None,
            value_tag: config.text("value-tag", "_VALUE"),
            doctype: config.choice("doctype", &["reject", "ignore"], "reject") == 1,
            nil: config.flag("nil-as-null", false),
            needs_events: false,
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
        if !layout.row_tag.is_empty() {
            match paths::key(&layout.row_name, &layout.namespaces) {
                Ok(key) => layout.row_tag = key,
                Err(("bad_path", _)) => config.problem(
                    "row-tag",
                    "bad_name",
                    "not an element name; give the name alone",
                ),
                Err((code, message)) => config.problem("row-tag", code, message),
            }
        }
        layout.read_columns(config);
        let indexed = layout.nodes.iter().any(|node| !node.indexed.is_empty());
        layout.needs_events = indexed
            || !layout.namespaces.is_empty()
            || !layout.above.is_empty()
            || layout.nil
            || layout.wildcard.is_some();
        layout
    }

    fn read_columns(&mut self, config: &mut Config) {
        let prefix = config.text("attribute-prefix", "_");
        let separator = config.text("separator", "_");
        let wanted = self.wanted(&prefix, &separator, config);
        let default = config.get("repeat").or_else(|| config.get("repeat.*"));
        let default = default.map_or(Repeat::Reject, |word| repeat(config, "repeat", &word));
        let mut names = BTreeSet::new();
        let mut exploding: Vec<(String, Vec<Step>)> = self.explode(config).into_iter().collect();
        let mut paths = Vec::new();
        for (key, name, path) in wanted {
            if name.is_empty() || !names.insert(name.clone()) {
                let message = format!("two columns are called `{name}`, or one has no name");
                config.problem(&key, "duplicate_column", message);
                continue;
            }
            let repeat_key = format!("repeat.{name}");
            let (kind, repeat) = kind_of(&name, &repeat_key, default, config);
            match self.path(&path) {
                Ok(parsed) => {
                    if parsed.up > 0 {
                        self.above(&key, (&path, parsed), (&repeat_key, repeat), config);
                    } else {
                        if repeat == Repeat::Explode {
                            exploding.push((repeat_key, parsed.elements.clone()));
                        }
                        paths.push((self.columns.len(), parsed));
                    }
                    self.columns.push(Column {
                        name,
                        path,
                        kind,
                        repeat,
                    });
                }
                Err((code, message)) => config.problem(&key, code, message),
            }
        }
        self.wildcard(&names, config);
        strangers(&names, config);
        self.grow(config, paths, &exploding);
    }

    /// Columns as typed, in one of both ways: the key, the name, the path.
    fn wanted(
        &self,
        prefix: &str,
        separator: &str,
        config: &mut Config,
    ) -> Vec<(String, String, String)> {
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
                None => {
                    let mut name = item
                        .trim_start_matches("../")
                        .replace('@', prefix)
                        .replace('[', separator);
                    name.retain(|c| c != ']');
                    if !self.namespaces.is_empty() {
                        name = name.replace(':', separator);
                    }
                    (name.replace('/', separator), item)
                }
            };
            wanted.push(("columns".into(), name, path.to_owned()));
        }
        wanted
    }

    /// The next column, whose path begins above the row element.
    fn above(
        &mut self,
        key: &str,
        (shown, path): (&str, Path),
        (repeat_key, repeat): (&str, Repeat),
        config: &mut Config,
    ) {
        if matches!(repeat, Repeat::Json | Repeat::Explode) {
            let message = format!("`{shown}` lies above the row: expected reject, first or last");
            config.problem(repeat_key, "bad_value", message);
        }
        let Path {
            up,
            elements,
            attribute,
        } = path;
        let wrong = if elements.is_empty() && attribute.is_none() {
            Some("the text of an element around the row is not known before the row")
        } else if elements.iter().any(|step| step.index.is_some()) {
            Some("an index is for elements below the row; repeat.<column> says which of several")
        } else if elements.iter().any(|step| step.name == self.row_tag) {
            Some("a row element is no element above the row")
        } else if elements.len() > MAX_ABOVE_STEPS {
            Some("more than 63 elements above the row")
        } else {
            None
        };
        if let Some(wrong) = wrong {
            config.problem(key, "bad_path", format!("`{shown}`: {wrong}"));
        }
        self.above.push(Above {
            column: self.columns.len(),
            up,
            steps: elements.into_iter().map(|step| step.name).collect(),
            attribute,
        });
    }

    /// `explode`: the elements of its path, of which each becomes a row.
    fn explode(&self, config: &mut Config) -> Option<(String, Vec<Step>)> {
        let path = config.get("explode")?;
        match self.path(&path) {
            Ok(Path {
                up: 0,
                elements,
                attribute: None,
            }) if !elements.is_empty() => return Some(("explode".into(), elements)),
            Err(("undeclared_prefix", message)) => {
                config.problem("explode", "undeclared_prefix", message);
            }
            _ => config.problem(
                "explode",
                "bad_path",
                format!("`{path}` is no element path"),
            ),
        }
        None
    }

    /// `wildcard`: one more column.
    fn wildcard(&mut self, names: &BTreeSet<String>, config: &mut Config) {
        if let Some(name) = config.get("wildcard") {
            if name.is_empty() || names.contains(&name) {
                let message = format!("`{name}`: the wildcard needs a name that no column has");
                config.problem("wildcard", "duplicate_column", message);
            }
            self.wildcard = Some(self.columns.len());
            self.columns.push(Column {
                name,
                path: "*".into(),
                kind: Type::Text,
                repeat: Repeat::Json,
            });
        }
    }

    fn path(&self, path: &str) -> Result<Path, paths::Wrong> {
        Path::parse(path, &self.value_tag, &self.namespaces)
    }

    /// Builds the tree of paths and marks what explodes.
    fn grow(
        &mut self,
        config: &mut Config,
        paths: Vec<(usize, Path)>,
        exploding: &[(String, Vec<Step>)],
    ) {
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
            } else if elements.last().is_some_and(|step| step.index.is_some()) {
                let message = "an element with an index comes once: there is nothing to explode";
                config.problem(key, "bad_path", message);
            }
        }
        let mut wanted = Vec::new();
        for (n, path) in paths {
            let below = |e: &Vec<Step>| path.elements.starts_with(e);
            if explode.as_ref().is_some_and(below) {
                self.exploded.push(n);
            }
            let end = match path.attribute {
                Some(name) => End::Attribute(name, n),
                None => End::Text(n),
            };
            wanted.push((path.elements, end));
        }
        if let Some(elements) = explode {
            wanted.push((elements, End::Explode));
            if self.exploded.is_empty() {
                config.problem(
                    "explode",
                    "bad_path",
                    "no column lies at or below this path",
                );
            }
        }
        match paths::tree(&wanted) {
            Some(nodes) => {
                self.nodes = nodes;
                if self.wildcard.is_some() {
                    self.nodes.push(Node::default()); // of every element without a path
                }
            }
            None => {
                let message = "paths with and without an index lead to too many combinations";
                config.problem("columns", "too_many_paths", message);
            }
        }
    }
}

/// `namespaces.<prefix>`, in the order of the prefixes.
fn namespaces(config: &mut Config) -> Vec<Namespace> {
    let mut all: Vec<Namespace> = Vec::new();
    for (prefix, uri) in config.below("namespaces.") {
        let key = format!("namespaces.{prefix}");
        let name = strict::is_name(prefix.as_bytes()) && !prefix.contains(':');
        if !name || prefix.to_ascii_lowercase().starts_with("xml") {
            let message = format!("`{prefix}` is no prefix: expected a name that is not `xml…`");
            config.problem(&key, "bad_name", message);
        }
        if uri.is_empty() {
            let message = "a namespace is never empty; a name without prefix is in none";
            config.problem(&key, "bad_value", message);
        }
        if uri.as_bytes() == XMLNS_URI {
            let message = "no prefix may stand for this namespace: it is that of `xmlns` itself";
            config.problem(&key, "bad_value", message);
        }
        if let Some(other) = all.iter().find(|n| n.uri == uri.as_bytes()) {
            let message = format!("`{}` stands for `{uri}` already", other.prefix);
            config.problem(&key, "duplicate_namespace", message);
        }
        let uri = uri.into_bytes();
        all.push(Namespace { prefix, uri });
    }
    if all.is_empty() {
        return all;
    }
    if config.get("namespaces").is_some() {
        let message = "give `namespaces = \"ignore\"` or `\"keep\"`, or keys `namespaces.<prefix>`";
        config.problem("namespaces", "namespaces_twice", message);
    }
    if !all.iter().any(|n| n.uri == XML_URI) {
        let prefix = "xml".into();
        let uri = XML_URI.into();
        all.push(Namespace { prefix, uri });
    }
    if all.len() > MAX_NAMESPACES {
        let message = format!("more than {} namespaces", MAX_NAMESPACES - 1);
        config.problem("namespaces", "too_many_namespaces", message);
        all.truncate(MAX_NAMESPACES);
    }
    all
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

impl Layout {
    /// Whether the fast reader knows every feature this layout uses.
    pub fn plain(&self) -> bool {
        !self.needs_events
    }
}

/// Type of a column, and what becomes of elements that come again.
fn kind_of(name: &str, repeat_key: &str, default: Repeat, config: &mut Config) -> (Type, Repeat) {
    let type_key = format!("types.{name}");
    let spec = config.text(&type_key, "string");
    let kind = Type::parse(&spec).unwrap_or_else(|message| {
        config.problem(&type_key, "bad_type", message);
        Type::Text
    });
    let repeat = match config.get(repeat_key) {
        Some(word) => repeat(config, repeat_key, &word),
        None => default,
    };
    if repeat == Repeat::Json && kind != Type::Text {
        let message = "repeat = json gives a JSON array of texts: the type must be string";
        config.problem(repeat_key, "json_not_string", message);
    }
    (kind, repeat)
}

/// Types and repeats of columns that are none.
fn strangers(names: &BTreeSet<String>, config: &mut Config) {
    for (prefix, what) in [("types.", "a type"), ("repeat.", "a repeat")] {
        for (name, _) in config.below(prefix) {
            if !names.contains(&name) && name != "*" {
                let message = format!("{what} for `{name}`, which is no column");
                config.problem(&format!("{prefix}{name}"), "unknown_column", message);
            }
        }
    }
}
