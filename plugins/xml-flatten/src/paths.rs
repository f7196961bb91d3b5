//! Paths of the config, and the tree that the walk through a message follows.
use std::collections::BTreeSet;

use crate::plan::{Indexed, Node};
use crate::strict;

/// A prefix of the config, and the namespace it stands for.
#[derive(Debug)]
pub struct Namespace {
    pub prefix: String,
    pub uri: Vec<u8>,
}

/// A wanted name in a declared namespace is `<n><local>`, where the byte n counts `namespaces` from 1: none of these
/// bytes can stand in a name, so one comparison tells both apart.
pub const MAX_NAMESPACES: usize = 31;
/// Elements in a path; no document is deeper (`max-depth`).
const MAX_STEPS: usize = 1024;
/// Occurrences that an index can ask for: a text of this many elements is refused long before.
const MAX_INDEX: u32 = 1_000_000;
/// Nodes of the tree, of about 100 bytes: an index beside paths without one copies what lies below.
const MAX_NODES: usize = 1 << 16;

/// The namespace that `xml:` means everywhere.
pub const XML_URI: &[u8] = b"http://www.w3.org/XML/1998/namespace";
/// Of `xsi:nil`.
pub const XSI_URI: &[u8] = b"http://www.w3.org/2001/XMLSchema-instance";
/// Of declarations: no prefix may stand for it.
pub const XMLNS_URI: &[u8] = b"http://www.w3.org/2000/xmlns/";

#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub name: Vec<u8>,
    /// Which of the elements of this name below one parent, from 1; every one if nothing.
    pub index: Option<u32>,
}

/// A path, taken apart: how many elements up from the row element it begins, the elements, and the attribute at its end.
#[derive(Debug)]
pub struct Path {
    pub up: usize,
    pub elements: Vec<Step>,
    pub attribute: Option<Vec<u8>>,
}

/// What waits at the end of a path.
#[derive(Debug)]
pub enum End {
    Text(usize),
    Attribute(Vec<u8>, usize),
    Explode,
}

/// A code and a message.
pub type Wrong = (&'static str, String);

impl Path {
    /// `a/b`, `a[2]/b`, `a/@b`, `@b`, `a/_VALUE` (the same as `a`) or `_VALUE` (the text of the row element); each `../`
    /// before it is one element up.
    pub fn parse(path: &str, value_tag: &str, namespaces: &[Namespace]) -> Result<Self, Wrong> {
        let mut below = path.trim();
        let mut up = 0;
        while let Some(rest) = below.strip_prefix("../") {
            below = rest;
            up += 1;
        }
        let mut parts: Vec<&str> = below.split('/').collect();
        let mut attribute = None;
        if let Some(last) = parts.pop() {
            if let Some(name) = last.strip_prefix('@') {
                attribute = Some(key(name, namespaces).map_err(|why| within(path, why))?);
            } else if last != value_tag || value_tag.is_empty() {
                parts.push(last);
            }
        }
        if parts.len().max(up) > MAX_STEPS {
            return Err(("bad_path", format!("more than {MAX_STEPS} elements")));
        }
        let elements = parts.into_iter().map(|part| step(part, namespaces));
        let elements = elements.collect::<Result<_, _>>();
        Ok(Self {
            up,
            elements: elements.map_err(|why| within(path, why))?,
            attribute,
        })
    }
}

fn within(path: &str, (code, message): Wrong) -> Wrong {
    (code, format!("`{path}`: {message}"))
}

fn step(part: &str, namespaces: &[Namespace]) -> Result<Step, Wrong> {
    let (name, index) = match part.strip_suffix(']').and_then(|p| p.split_once('[')) {
        None => (part, None),
        Some((name, digits)) => match digits.parse() {
            Ok(index @ 1..=MAX_INDEX) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                (name, Some(index))
            }
            _ => {
                let message =
                    format!("`[{digits}]`: an index is a number from 1 to {MAX_INDEX}, as in a[2]");
                return Err(("bad_path", message));
            }
        },
    };
    let name = key(name, namespaces)?;
    Ok(Step { name, index })
}

/// The name as the walk compares it.
pub fn key(name: &str, namespaces: &[Namespace]) -> Result<Vec<u8>, Wrong> {
    if !strict::is_name(name.as_bytes()) {
        let message = format!(
            "`{name}` is no XML name; a path is element/element or element/@attribute, an element also element[2]; `../` \
             before it is the element around the row"
        );
        return Err(("bad_path", message));
    }
    let Some((prefix, local)) = name.split_once(':').filter(|_| !namespaces.is_empty()) else {
        return Ok(name.into());
    };
    if !strict::is_name(local.as_bytes()) || local.contains(':') || prefix.is_empty() {
        return Err(("bad_path", format!("`{name}`: expected prefix:name")));
    }
    match namespaces.iter().position(|n| n.prefix == prefix) {
        Some(n) => Ok([&[n as u8 + 1], local.as_bytes()].concat()),
        None => {
            let message = format!("no key `namespaces.{prefix}` says what `{prefix}:` stands for");
            Err(("undeclared_prefix", message))
        }
    }
}

/// The tree of `wanted`; 0 is the row element. Nothing if it grows too large.
pub fn tree(wanted: &[(Vec<Step>, End)]) -> Option<Vec<Node>> {
    let mut nodes = Vec::new();
    let all: Vec<usize> = (0..wanted.len()).collect();
    grow(&mut nodes, wanted, &all, 0).map(|_| nodes)
}

/// The node that the `members` have in common after `level` steps. A path without an index goes into the node of every
/// occurrence, so that an element leads to one node only.
fn grow(
    nodes: &mut Vec<Node>,
    wanted: &[(Vec<Step>, End)],
    members: &[usize],
    level: usize,
) -> Option<usize> {
    let at = nodes.len();
    if at == MAX_NODES {
        return None;
    }
    nodes.push(Node::default());
    let mut names: Vec<&[u8]> = Vec::new();
    for (steps, end) in members.iter().map(|m| &wanted[*m]) {
        match (steps.get(level), end) {
            (Some(step), _) if names.contains(&step.name.as_slice()) => {}
            (Some(step), _) => names.push(&step.name),
            (None, End::Text(column)) => nodes[at].text.push(*column),
            (None, End::Attribute(name, column)) => {
                nodes[at].attributes.push((name.clone(), *column));
            }
            (None, End::Explode) => nodes[at].explodes = true,
        }
    }
    for name in names {
        let step = |m: &usize| wanted[*m].0.get(level).filter(|s| s.name == name);
        let indexes: BTreeSet<u32> = members
            .iter()
            .filter_map(|m| step(m).and_then(|s| s.index))
            .collect();
        let of = |index: Option<u32>| -> Vec<usize> {
            let fits = |m: &&usize| step(m).is_some_and(|s| s.index.is_none() || s.index == index);
            members.iter().filter(fits).copied().collect()
        };
        let every = of(None);
        if !every.is_empty() {
            let to = grow(nodes, wanted, &every, level + 1)?;
            nodes[at].children.push((name.to_vec(), to));
        }
        let mut indexed = Indexed {
            name: name.to_vec(),
            nodes: Vec::new(),
        };
        for index in indexes {
            let to = grow(nodes, wanted, &of(Some(index)), level + 1)?;
            indexed.nodes.push((index, to));
        }
        if !indexed.nodes.is_empty() {
            nodes[at].indexed.push(indexed);
        }
    }
    Some(at)
}
