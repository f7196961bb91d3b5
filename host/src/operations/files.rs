//! The live files of a log as a tree of directories, a page at a time.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::commit::{LiveFile, LogName, Role, State};

/// What lies directly below one directory of the zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tree {
    /// `_system/<pipeline>/<zone>`
    pub log: String,
    /// The zone's root.
    pub url: String,
    /// Version of the newest entry.
    pub version: u64,
    /// The directory, `a/b`; empty: the root.
    pub under: String,
    /// Sums of all live files below it.
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
    /// By name.
    pub nodes: Vec<Node>,
    /// `after` of the next page; null: there are no more.
    pub next: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Node {
    /// The last part of its path.
    pub name: String,
    /// `directory`, or of a file `rows`, `dead_letters` or `keys`.
    pub kind: NodeKind,
    /// Live files below a directory; 1 for a file.
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
    /// The version that added it, of a directory the newest one.
    pub version: u64,
    /// When its newest rows were committed, microseconds since 1970 UTC; null: not known.
    pub newest: Option<i64>,
    /// Of a file, `sha256:…` of its bytes.
    pub digest: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum NodeKind {
    Directory,
    Rows,
    DeadLetters,
    Keys,
}

impl Node {
    fn new(name: &str, kind: NodeKind) -> Node {
        Node {
            name: name.to_owned(),
            kind,
            files: 0,
            rows: 0,
            bytes: 0,
            version: 0,
            newest: None,
            digest: None,
        }
    }

    fn add(&mut self, live: &LiveFile) {
        self.files += 1;
        // A keys file repeats what the rows beside it are.
        self.rows += if live.file.role == Role::Keys {
            0
        } else {
            live.file.rows
        };
        self.bytes += live.file.bytes;
        self.version = self.version.max(live.version);
        self.newest = self.newest.max(Some(live.time).filter(|time| *time > 0));
    }
}

/// At most `limit` of them, by name, those behind `after`.
pub fn tree(
    (name, url): (&LogName, &str),
    state: &State,
    under: &str,
    after: &str,
    limit: usize,
) -> Tree {
    let under = under.trim_matches('/');
    let mut whole = Node::new("", NodeKind::Directory);
    let mut nodes: BTreeMap<&str, Node> = BTreeMap::new();
    for live in state.live.values() {
        let path = live.file.path.as_str();
        let below = match under {
            "" => Some(path),
            under => path.strip_prefix(under).and_then(|p| p.strip_prefix('/')),
        };
        let Some(below) = below else { continue };
        whole.add(live);
        let (first, kind) = match below.split_once('/') {
            Some((first, _)) => (first, NodeKind::Directory),
            None => (below, kind_of(live.file.role)),
        };
        if first > after {
            let node = nodes.entry(first);
            let node = node.or_insert_with(|| Node::new(first, kind));
            node.add(live);
            if kind != NodeKind::Directory {
                node.digest = Some(live.file.digest.clone());
            }
        }
    }
    let more = nodes.len() > limit;
    let nodes: Vec<Node> = nodes.into_values().take(limit).collect();
    let next = nodes.last().filter(|_| more);
    Tree {
        log: name.dir(),
        url: url.to_owned(),
        version: state.version,
        under: under.to_owned(),
        files: whole.files,
        rows: whole.rows,
        bytes: whole.bytes,
        next: next.map(|node| node.name.clone()),
        nodes,
    }
}

fn kind_of(role: Role) -> NodeKind {
    match role {
        Role::Rows => NodeKind::Rows,
        Role::DeadLetters => NodeKind::DeadLetters,
        Role::Keys => NodeKind::Keys,
    }
}
