//! The config, checked: which columns there are, and a tree of the pointers that lead to them.
use std::collections::BTreeSet;

use weir_sdk::{Config, Type};

/// What the config means.
#[derive(Debug)]
pub struct Layout {
    /// The name of the input column that holds the messages.
    pub input: String,
    pub columns: Vec<Column>,
    /// Columns of the exploded array's elements.
    pub exploded: Vec<usize>,
    /// The wanted pointers as a tree; 0 is the whole message.
    pub nodes: Vec<Node>,
    /// The node of the record, where columns begin.
    pub root: usize,
    /// The node of the record's schema, in Connect's envelope.
    pub schema: Option<usize>,
    /// A message without a record gives nothing, instead of a refusal.
    pub drops_empty: bool,
    /// The last column, if it takes what no other column took.
    pub wildcard: Option<usize>,
    /// Numbers and booleans may stand in strings.
    pub quoted: bool,
    pub limits: Limits,
}

#[derive(Debug)]
pub struct Column {
    pub name: String,
    /// As the config says it.
    pub path: String,
    pub kind: Type,
    /// Any value, as the message writes it.
    pub json: bool,
    pub required: bool,
    /// From the payload of an envelope; none where there is no envelope.
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Key(String),
    /// An element of the exploded array.
    Element,
}

#[derive(Debug, Default)]
pub struct Node {
    /// The pointer to it, for messages.
    pub path: String,
    pub children: Vec<Child>,
    /// Columns that take this value.
    pub columns: Vec<usize>,
    /// The node of each element, if this is the array that explodes.
    pub each: Option<usize>,
    /// A column that takes a scalar, here or below: what a refusal names.
    pub first: usize,
}

#[derive(Debug)]
pub struct Child {
    pub key: Vec<u8>,
    /// Of the key.
    pub tag: u64,
    /// The key as the index of an array's element.
    pub index: Option<usize>,
    pub node: usize,
}

#[derive(Debug)]
pub struct Limits {
    pub depth: usize,
    pub members: usize,
    pub text: usize,
    pub rows: usize,
}

/// A pointer, taken apart.
#[derive(Debug, Clone, PartialEq)]
struct Path {
    /// From an element of the exploded array, not from the message.
    element: bool,
    tokens: Vec<String>,
}

const GIVE: &str = "give `columns = \"path, name=path, …\"` or keys `columns.<name> = \"path\"`";
const MISSING: [&str; 2] = ["null", "reject"];
const EMPTY: [&str; 2] = ["reject", "drop"];
/// Connect's envelope.
const PAYLOAD: &str = "payload";
const SCHEMA: &str = "schema";
/// More are never in a message: the limit of `max-depth`.
const MAX_TOKENS: usize = 256;

impl Layout {
    /// Problems go to `config`; if there are any, the result must not be used except for `config.finish()`.
    pub fn read(config: &mut Config) -> Self {
        let mut layout = Self {
            input: config.text("input", "value"),
            columns: Vec::new(),
            exploded: Vec::new(),
            nodes: vec![Node::default()],
            root: 0,
            schema: None,
            drops_empty: config.choice("empty", &EMPTY, "reject") == 1,
            wildcard: None,
            quoted: config.flag("quoted-values", false),
            limits: Limits {
                depth: config.number("max-depth", 64, 1..=MAX_TOKENS),
                members: config.number("max-members", 10_000, 1..=1_000_000),
                text: config.number("max-text-bytes", 1 << 20, 1..=1 << 26),
                rows: config.number("max-rows", 10_000, 1..=1_000_000),
            },
        };
        let record = layout.record(config);
        let explode = config.get("explode");
        let explode = explode.and_then(|path| match parse(&path) {
            Ok(Path {
                element: false,
                tokens,
            }) => {
                let at = layout.node(layout.root, &tokens);
                let each = layout.add(".".into());
                layout.nodes[at].each = Some(each);
                Some((tokens, each))
            }
            Ok(_) => {
                let message = "the array's pointer starts at the message: /items";
                config.problem("explode", "bad_path", message);
                None
            }
            Err(message) => {
                config.problem("explode", "bad_path", message);
                None
            }
        });
        layout.read_columns(config, explode.as_ref());
        if layout.schema.is_some() {
            layout.steps(&record, explode.as_ref());
        }
        layout
    }

    /// Finds the node where the record begins; its pointer from the payload.
    fn record(&mut self, config: &mut Config) -> Vec<String> {
        let enveloped = config.flag("envelope", false);
        let root = config.text("root", "");
        let tokens = match parse(&root) {
            Ok(Path {
                element: false,
                tokens,
            }) => tokens,
            Ok(_) => {
                config.problem(
                    "root",
                    "bad_path",
                    "the record's pointer starts at the message: /record",
                );
                Vec::new()
            }
            Err(message) => {
                config.problem("root", "bad_path", message);
                Vec::new()
            }
        };
        if enveloped {
            self.schema = Some(self.node(0, &[SCHEMA.to_owned()]));
            self.root = self.node(0, &[PAYLOAD.to_owned()]);
        }
        self.root = self.node(self.root, &tokens);
        if self.root != 0 && config.get("wildcard").is_some() {
            let message = "with `root` or `envelope` it would take what stands around the record: name the columns";
            config.problem("wildcard", "bad_path", message);
        }
        tokens
    }

    /// The way of each column through the schema.
    fn steps(&mut self, record: &[String], explode: Option<&(Vec<String>, usize)>) {
        let keys =
            |tokens: &[String]| -> Vec<Step> { tokens.iter().cloned().map(Step::Key).collect() };
        for column in &mut self.columns {
            let Ok(path) = parse(&column.path) else {
                continue;
            };
            column.steps = keys(record);
            if let Some((array, _)) = explode.filter(|_| path.element) {
                column.steps.extend(keys(array));
                column.steps.push(Step::Element);
            }
            column.steps.extend(keys(&path.tokens));
        }
    }

    fn read_columns(&mut self, config: &mut Config, explode: Option<&(Vec<String>, usize)>) {
        let separator = config.text("separator", "_");
        // In TOML `missing` cannot stand beside `missing.<name>`.
        let key = match config.get("missing") {
            Some(_) => "missing",
            None => "missing.*",
        };
        let missing = MISSING[config.choice(key, &MISSING, "null")];
        let mut names = BTreeSet::new();
        for (key, name, path) in wanted(config, &separator) {
            if name.is_empty() || !names.insert(name.clone()) {
                let message = format!("two columns are called `{name}`, or one has no name");
                config.problem(&key, "duplicate_column", message);
                continue;
            }
            let column = column(config, name, path, missing);
            match parse(&column.path).and_then(|path| self.place(path, explode)) {
                Ok(at) => {
                    self.nodes[at].columns.push(self.columns.len());
                    self.columns.push(column);
                }
                Err(message) => config.problem(&key, "bad_path", message),
            }
        }
        if explode.is_some() && self.exploded.is_empty() {
            let message = "no column lies in the elements: write ./sku, or . for an element itself";
            config.problem("explode", "bad_path", message);
        }
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
                json: true,
                required: false,
                steps: Vec::new(),
            });
        }
        for (prefix, what) in [("types.", "a type"), ("missing.", "`missing`")] {
            for (name, _) in config.below(prefix) {
                if !names.contains(&name) && (name != "*" || prefix == "types.") {
                    let message = format!("{what} for `{name}`, which is no column");
                    config.problem(&format!("{prefix}{name}"), "unknown_column", message);
                }
            }
        }
        self.check_scalars(config);
    }

    /// The node of a column; counts the column among the exploded ones.
    fn place(
        &mut self,
        path: Path,
        explode: Option<&(Vec<String>, usize)>,
    ) -> Result<usize, String> {
        let n = self.columns.len();
        match explode {
            None if path.element => {
                Err("`.` is an element of the array that `explode` names".into())
            }
            Some((_, each)) if path.element => {
                self.exploded.push(n);
                Ok(self.node(*each, &path.tokens))
            }
            Some((array, _))
                if path.tokens.len() > array.len() && path.tokens.starts_with(array) =>
            {
                Err(
                    "this lies in the exploded array: write ./sku for the sku of each element"
                        .into(),
                )
            }
            _ => Ok(self.node(self.root, &path.tokens)),
        }
    }

    fn add(&mut self, path: String) -> usize {
        self.nodes.push(Node {
            path,
            first: usize::MAX,
            ..Node::default()
        });
        self.nodes.len() - 1
    }

    fn node(&mut self, from: usize, tokens: &[String]) -> usize {
        let mut at = from;
        for token in tokens {
            let known = self.nodes[at]
                .children
                .iter()
                .find(|c| c.key == token.as_bytes());
            at = match known {
                Some(child) => child.node,
                None => {
                    let path = format!("{}/{}", self.nodes[at].path, escape(token));
                    let node = self.add(path);
                    self.nodes[at].children.push(Child {
                        key: token.clone().into_bytes(),
                        tag: tag(token.as_bytes()),
                        index: index(token),
                        node,
                    });
                    node
                }
            };
        }
        at
    }

    /// A value cannot be a scalar for one column and hold others: tells where the config wants both.
    fn check_scalars(&mut self, config: &mut Config) {
        for at in (0..self.nodes.len()).rev() {
            let node = &self.nodes[at];
            let scalar = node.columns.iter().find(|n| !self.columns[**n].json);
            let nested = node.each.is_some() || !node.children.is_empty();
            if let Some(column) = scalar.filter(|_| nested) {
                let Column { name, kind, .. } = &self.columns[*column];
                let path = &node.path;
                let message = format!(
                    "`{path}` cannot be of type {kind} for `{name}` and hold other columns; type json keeps it whole"
                );
                config.problem("columns", "bad_path", message);
            }
            let below = node.children.iter().map(|c| c.node).chain(node.each);
            let below = below.map(|n| self.nodes[n].first);
            let first = node.columns.iter().copied().chain(below).min();
            self.nodes[at].first = first.unwrap_or(usize::MAX);
        }
    }
}

/// The key of each column, its name and its path.
fn wanted(config: &mut Config, separator: &str) -> Vec<(String, String, String)> {
    let named = config.below("columns.");
    let listed = config.get("columns");
    if listed.is_some() != named.is_empty() {
        let code = match listed {
            Some(_) => "columns_twice",
            None => "missing_key",
        };
        config.problem("columns", code, GIVE);
    }
    let named = named
        .into_iter()
        .map(|(name, path)| (format!("columns.{name}"), name, path));
    let listed = listed.iter().flat_map(|list| list.split(','));
    let listed = listed.map(str::trim).map(|item| {
        let (name, path) = match item.split_once('=') {
            Some((name, path)) => (name.trim().to_owned(), path.trim()),
            None => {
                let inner = item.strip_prefix('.').unwrap_or(item);
                let inner = inner.strip_prefix('/').unwrap_or(inner);
                (inner.replace('/', separator), item)
            }
        };
        ("columns".to_owned(), name, path.to_owned())
    });
    named.chain(listed).collect()
}

fn column(config: &mut Config, name: String, path: String, missing: &str) -> Column {
    let type_key = format!("types.{name}");
    let spec = config.text(&type_key, "string");
    let json = spec.trim() == "json";
    let kind = match json {
        true => Type::Text,
        false => Type::parse(&spec).unwrap_or_else(|message| {
            // Where the name of the type is wrong, the message ends in the list of all; a pattern has a message of its own.
            let more = if message.ends_with(weir_sdk::types::NAMES) {
                ", json"
            } else {
                ""
            };
            config.problem(&type_key, "bad_type", format!("{message}{more}"));
            Type::Text
        }),
    };
    let own = format!("missing.{name}");
    Column {
        required: config.choice(&own, &MISSING, missing) == 1,
        name,
        path,
        kind,
        json,
        steps: Vec::new(),
    }
}

/// RFC 6901, where the first `/` may be left out; `./…` and `.` start at an element.
fn parse(path: &str) -> Result<Path, String> {
    let element = path == "." || path.starts_with("./");
    let pointer = if element { &path[1..] } else { path };
    let whole = pointer.is_empty();
    let pointer = pointer.strip_prefix('/').unwrap_or(pointer);
    let tokens = pointer.split('/').filter(|_| !whole).map(unescape);
    let tokens: Option<Vec<String>> = tokens.collect();
    match tokens {
        Some(tokens) if tokens.len() <= MAX_TOKENS => Ok(Path { element, tokens }),
        Some(_) => Err(format!("a pointer of more than {MAX_TOKENS} parts")),
        None => Err(format!(
            "`{path}`: `~` is written `~0` in a JSON Pointer, and `/` in a key `~1`"
        )),
    }
}

fn unescape(token: &str) -> Option<String> {
    let mut parts = token.split('~');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let (c, rest) = match part.as_bytes().first()? {
            b'0' => ('~', &part[1..]),
            b'1' => ('/', &part[1..]),
            _ => return None,
        };
        out.push(c);
        out.push_str(rest);
    }
    Some(out)
}

fn escape(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

fn index(token: &str) -> Option<usize> {
    let plain = token == "0" || !token.starts_with('0');
    let digits = plain && token.bytes().all(|b| b.is_ascii_digit());
    token.parse().ok().filter(|_| digits)
}

/// The first seven bytes of a key, and its length as far as it fits: unequal for most unequal keys, and for all that
/// are shorter than eight bytes. It saves calls: in WebAssembly comparing bytes is one.
#[inline]
pub fn tag(key: &[u8]) -> u64 {
    let mut word = [0; 8];
    match key.first_chunk::<8>() {
        Some(chunk) => word = *chunk,
        None => word.iter_mut().zip(key).for_each(|(w, b)| *w = *b),
    }
    word[7] = key.len().min(255) as u8;
    u64::from_le_bytes(word)
}
