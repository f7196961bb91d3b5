//! The walk for layouts that need more than names: namespaces, the n-th element of a name, a wildcard, columns from above
//! the row.
use std::ops::Range;

use super::{Frame, Mixed, Text, Walk, XMLNS};
use crate::paths::{XML_URI, XMLNS_URI, XSI_URI};
use crate::rows::Cell;
use crate::strict::{self, Fault};

/// What these layouts keep of the open elements.
#[derive(Debug, Default)]
pub struct Scope {
    /// The prefixes in force, inner ones last.
    bindings: Vec<Binding>,
    /// Namespaces that the config does not name: their numbers go on behind it.
    others: Vec<Vec<u8>>,
    /// One for each frame.
    levels: Vec<Level>,
    /// Occurrences so far, by parent and indexed name.
    counts: Vec<u32>,
    /// The path from the row element, as the wildcard shows it.
    path: Vec<u8>,
    /// Elements and attributes seen in this row.
    order: u32,
    /// A name as it is compared.
    key: Vec<u8>,
}

#[derive(Debug)]
struct Binding {
    /// Where it lies in the message; empty for the default namespace.
    prefix: Range<usize>,
    /// 0 is none.
    namespace: usize,
    /// Open elements, its own among them.
    depth: usize,
}

#[derive(Debug)]
struct Level {
    /// Length of `counts` and `path` without this element.
    counts: usize,
    path: usize,
    order: u32,
    has_attribute: bool,
    /// The child that comes next if all come in the order of the columns.
    next: usize,
}

/// A name taken apart.
#[derive(Clone, Copy)]
pub(super) struct Name<'n> {
    /// 0 is none.
    namespace: usize,
    local: &'n [u8],
}

impl Scope {
    pub fn clear(&mut self) {
        self.bindings.clear();
        self.others.clear();
        self.levels.clear();
        self.counts.clear();
        self.path.clear();
    }
}

impl<'w> Walk<'w> {
    #[cold]
    pub(super) fn open_full(
        &mut self,
        name: (usize, usize),
        tag: (usize, usize),
    ) -> Result<(), Fault> {
        let text = self.text;
        let qualified = &text[name.0..name.1];
        self.enter(name.0)?;
        let no_name = || {
            let shown = weir_sdk::shown(qualified);
            Fault::malformed(name.0, format!("{shown} is no element name"))
        };
        let (attributes, at) = (name.1..tag.1, name.0);
        let outside = !self.in_row;
        if self.layout.namespaces.is_empty() {
            let whole = Name {
                namespace: 0,
                local: qualified,
            };
            let local = Name {
                local: self.local(qualified),
                ..whole
            };
            let node = match self.step_full(whole) {
                None if !strict::is_name(qualified) => return Err(no_name()),
                None if local.local.len() < qualified.len() => self.step_full(local),
                node => node,
            };
            self.enter_node(node, local);
            if outside {
                self.open_above(whole, Some(local.local), at);
            }
        } else {
            self.declare(&text[attributes.clone()], attributes.start)?;
            // A prefix in force and a wanted name were checked, each where it came from.
            let resolved = self.resolve(qualified, name.0, true);
            let name = match resolved {
                Err(_) if !strict::is_name(qualified) => return Err(no_name()),
                resolved => resolved?,
            };
            let node = self.step_full(name);
            if node.is_none() && !strict::is_name(qualified) {
                return Err(no_name());
            }
            self.enter_node(node, name);
            if outside {
                self.open_above(name, None, at);
            }
        }
        let node = match self.unwanted {
            0 if self.in_row => self.frames.list.get(self.frames.depth - 1).map(|f| f.node),
            _ => None,
        };
        if attributes.is_empty() {
            return Ok(());
        }
        self.attributes(&text[attributes.clone()], attributes.start, node)
    }

    /// `step`, by number of occurrence first.
    fn step_full(&mut self, name: Name<'_>) -> Option<usize> {
        let mut key = std::mem::take(&mut self.frames.scope.key);
        let wanted = self.key(name, &mut key);
        let node = match wanted {
            true if !self.in_row => self.step(&key),
            true => self.occurrence(&key).or_else(|| self.child(&key)),
            false => None,
        };
        self.frames.scope.key = key;
        node
    }

    /// `step` inside a row: messages mostly have the order of the columns, or of each other.
    fn child(&mut self, key: &[u8]) -> Option<usize> {
        if self.unwanted > 0 {
            return None;
        }
        let layout = self.layout;
        let frame = self.frames.top();
        frame.has_child = true;
        let children = &layout.nodes[frame.node].children;
        let level = self.frames.scope.levels.last_mut()?;
        let n = match children.get(level.next) {
            Some((name, _)) if name == key => level.next,
            _ => children.iter().position(|(name, _)| name == key)?,
        };
        level.next = n + 1;
        Some(children[n].1)
    }

    /// The node of this very occurrence of an element called `key`, which it counts.
    fn occurrence(&mut self, key: &[u8]) -> Option<usize> {
        if self.unwanted > 0 {
            return None;
        }
        let layout = self.layout;
        let indexed = &layout.nodes[self.frames.top().node].indexed;
        let n = indexed.iter().position(|i| i.name == key)?;
        let from = self.frames.scope.levels.last()?.counts;
        let count = self.frames.scope.counts.get_mut(from + n)?;
        *count += 1;
        let node = indexed[n].nodes.iter().find(|(index, _)| index == count)?.1;
        self.frames.top().has_child = true;
        Some(node)
    }

    fn enter_node(&mut self, node: Option<usize>, name: Name<'_>) {
        if !self.in_row {
            return;
        }
        let layout = self.layout;
        // Also where its namespace is none that a path could name.
        if self.unwanted == 0 && self.frames.depth > 0 {
            self.frames.top().has_child = true;
        }
        let node = match node {
            Some(node) => node,
            None if layout.wildcard.is_some() => layout.nodes.len() - 1,
            None => return self.unwanted += 1,
        };
        let scope = &mut self.frames.scope;
        if node == 0 {
            scope.order = 0;
            scope.path.clear();
        }
        scope.order += 1;
        scope.levels.push(Level {
            counts: scope.counts.len(),
            path: scope.path.len(),
            order: scope.order,
            has_attribute: false,
            next: 0,
        });
        let indexed = layout.nodes[node].indexed.len();
        scope.counts.resize(scope.counts.len() + indexed, 0);
        if node != 0 && layout.wildcard.is_some() {
            if !scope.path.is_empty() {
                scope.path.push(b'/');
            }
            self.show(name);
        }
        self.frames.push(node);
        if layout.nodes[node].explodes {
            self.rows.rest.begin_repetition();
        }
    }

    /// Appends a name to the path, with a prefix that tells its namespace.
    fn show(&mut self, name: Name<'_>) {
        let scope = &mut self.frames.scope;
        let declared = &self.layout.namespaces;
        match name.namespace {
            0 => {}
            n if n <= declared.len() => {
                scope
                    .path
                    .extend_from_slice(declared[n - 1].prefix.as_bytes());
                scope.path.push(b':');
            }
            n => {
                scope.path.push(b'{');
                scope
                    .path
                    .extend_from_slice(&scope.others[n - 1 - declared.len()]);
                scope.path.push(b'}');
            }
        }
        scope.path.extend_from_slice(name.local);
    }

    /// Writes the name as the layout has it to `key`; false if it can have none such.
    pub(super) fn key(&self, name: Name<'_>, key: &mut Vec<u8>) -> bool {
        key.clear();
        if name.namespace > self.layout.namespaces.len() {
            return false;
        }
        if name.namespace > 0 {
            key.push(name.namespace as u8);
        }
        key.extend_from_slice(name.local);
        true
    }

    /// Puts the namespaces that a tag declares in force.
    fn declare(&mut self, tag: &'w [u8], base: usize) -> Result<(), Fault> {
        if !tag.windows(XMLNS.len()).any(|w| w == XMLNS) {
            return Ok(());
        }
        let mut found = std::mem::take(&mut self.attributes);
        strict::attributes(tag, base, self.layout.limits.attributes, &mut found)?;
        for (name, span) in found.drain(..) {
            let Some(prefix) = name.strip_prefix(XMLNS) else {
                continue;
            };
            // The default namespace has an empty one; `xmlns:` has none at all.
            let (prefix, sound) = match prefix.split_first() {
                None => (prefix, true),
                Some((b':', prefix)) => {
                    let sound = strict::begins_name(prefix) && !prefix.contains(&b':');
                    (prefix, sound)
                }
                Some(_) => continue,
            };
            let mut uri = Vec::new();
            strict::attribute_value(&self.text[span.clone()], span.start, &mut uri)?;
            let of_xml = (prefix == b"xml") != (uri == XML_URI);
            let reserved = prefix == XMLNS || uri == XMLNS_URI || of_xml;
            if !sound || reserved || uri.is_empty() && !prefix.is_empty() {
                let shown = weir_sdk::shown(&uri);
                let name = String::from_utf8_lossy(name);
                let message = format!("`{name}` may not stand for {shown}");
                return Err(Fault::malformed(span.start, message));
            }
            let namespace = match uri.is_empty() {
                true => 0,
                false => self.number(uri),
            };
            let (from, to) = self.span(prefix);
            self.frames.scope.bindings.push(Binding {
                prefix: from..to,
                namespace,
                depth: self.depth,
            });
        }
        self.attributes = found;
        Ok(())
    }

    fn number(&mut self, uri: Vec<u8>) -> usize {
        let declared = &self.layout.namespaces;
        if let Some(n) = declared.iter().position(|n| n.uri == uri) {
            return n + 1;
        }
        let others = &mut self.frames.scope.others;
        let known = others.iter().position(|other| *other == uri);
        let n = known.unwrap_or_else(|| {
            others.push(uri);
            others.len() - 1
        });
        declared.len() + n + 1
    }

    /// A name without prefix is in the default namespace if it is an element's, in none if an attribute's.
    fn resolve<'n>(&self, name: &'n [u8], at: usize, element: bool) -> Result<Name<'n>, Fault> {
        let (prefix, local) = match name.iter().position(|b| *b == b':') {
            None => (&b""[..], name),
            Some(colon) => (&name[..colon], &name[colon + 1..]),
        };
        let whole = local.len() == name.len();
        if !whole && (prefix.is_empty() || local.contains(&b':') || !strict::begins_name(local)) {
            let message = format!("{}: expected prefix:name", weir_sdk::shown(name));
            return Err(Fault::malformed(at, message));
        }
        if whole && !element {
            let namespace = 0;
            return Ok(Name { namespace, local });
        }
        let bound = |b: &&Binding| &self.text[b.prefix.clone()] == prefix;
        let found = self.frames.scope.bindings.iter().rev().find(bound);
        let namespace = match found {
            Some(binding) => binding.namespace,
            None if whole => 0,
            None if prefix == XMLNS => {
                let message = "the prefix `xmlns` is for declarations alone";
                return Err(Fault::malformed(at, message));
            }
            None if prefix == b"xml" => {
                let declared = self.layout.namespaces.iter();
                declared.take_while(|n| n.uri != XML_URI).count() + 1
            }
            None => {
                let prefix = String::from_utf8_lossy(prefix);
                let message = format!("no `xmlns:{prefix}` is in force for the prefix `{prefix}`");
                return Err(Fault::new("undeclared_prefix", at, message));
            }
        };
        Ok(Name { namespace, local })
    }

    /// The attributes of one tag whose columns are found by namespace, or that the wildcard takes.
    #[cold]
    pub(super) fn attribute_full(
        &mut self,
        name: &[u8],
        node: Option<usize>,
        cell: Cell,
        resolved: &mut Vec<(usize, usize, usize)>,
    ) -> Result<(), Fault> {
        let (at, end) = self.span(name);
        let layout = self.layout;
        let prefixed_nil = name.ends_with(b":nil");
        let name = match layout.namespaces.is_empty() {
            true => Name {
                namespace: 0,
                local: self.local(name),
            },
            false => self.resolve(name, at, false)?,
        };
        if name.namespace > 0 {
            let same = |(n, from, to): &(usize, usize, usize)| {
                *n == name.namespace && &self.text[*from..*to] == name.local
            };
            if resolved.iter().any(same) {
                let local = String::from_utf8_lossy(name.local);
                let message = format!("attribute `{local}` comes twice in one namespace");
                return Err(Fault::malformed(at, message));
            }
            resolved.push((name.namespace, end - name.local.len(), end));
        }
        if layout.nil && prefixed_nil && self.is_nil(name, cell) {
            self.has_no_value(node.is_some());
        }
        if !self.in_row && !layout.above.is_empty() {
            return self.attribute_above(name, cell, at);
        }
        let Some(node) = node else { return Ok(()) };
        let mut key = std::mem::take(&mut self.frames.scope.key);
        let mut taken = false;
        if self.key(name, &mut key) {
            for (wanted, column) in &layout.nodes[node].attributes {
                if *wanted == key {
                    taken = true;
                    self.rows.set(layout, *column, cell, self.text);
                }
            }
        }
        self.frames.scope.key = key;
        if layout.wildcard.is_none() {
            return Ok(());
        }
        let scope = &mut self.frames.scope;
        scope.order += 1;
        let order = scope.order;
        if let Some(level) = scope.levels.last_mut() {
            level.has_attribute = true;
        }
        if taken {
            return Ok(());
        }
        let length = scope.path.len();
        scope
            .path
            .extend_from_slice(if length > 0 { b"/@" } else { b"@" });
        self.show(name);
        let fits = self.leave_over(cell, order);
        self.frames.scope.path.truncate(length);
        fits.map_err(|fault| Fault { at, ..fault })
    }

    /// The element that was just opened is null.
    fn has_no_value(&mut self, wanted: bool) {
        match self.in_row {
            true if wanted => self.frames.top().nil = true,
            true => {}
            false => self.frames.outside.nil(self.depth),
        }
    }

    /// Whether an attribute whose name ends with `:nil` is `xsi:nil`, and true.
    fn is_nil(&self, name: Name<'_>, cell: Cell) -> bool {
        let declared = self.layout.namespaces.len();
        let of_schema = match name.namespace {
            // Without declared namespaces a prefix has no meaning.
            0 => declared == 0,
            n if n <= declared => self.layout.namespaces[n - 1].uri == XSI_URI,
            n => self.frames.scope.others[n - 1 - declared] == XSI_URI,
        };
        let value = self.rows.text(cell, self.text);
        of_schema && matches!(strict::trim(value), b"true" | b"1")
    }

    /// Gives `cell` to the wildcard, at the current path.
    fn leave_over(&mut self, cell: Cell, order: u32) -> Result<(), Fault> {
        let layout = self.layout;
        let path = &self.frames.scope.path;
        match self.rows.leave_over(layout, path, cell, self.text, order) {
            true => Ok(()),
            false => {
                let most = layout.limits.text;
                let message =
                    format!("more than {most} bytes for the wildcard of one row (max-text-bytes)");
                Err(Fault::new("text_too_long", 0, message))
            }
        }
    }

    /// The element of the frame at `frames.depth`, just closed: its text, if nobody took it, and its scope.
    #[cold]
    pub(super) fn close_full(&mut self) -> Result<(), Fault> {
        let layout = self.layout;
        let Some(level) = self.frames.scope.levels.pop() else {
            return Ok(());
        };
        let depth = self.frames.depth;
        if layout.wildcard.is_some() && !self.is_taken(depth) {
            let frame = &self.frames.list[depth];
            let node = frame.node;
            let nothing = !frame.has_child && !level.has_attribute;
            let unnamed = node == layout.nodes.len() - 1;
            let (cell, own) = match frame.text {
                Text::None => (Cell::Message(0, 0), &b""[..]),
                Text::Piece(from, to) => {
                    (Cell::Message(from as u32, to as u32), &self.text[from..to])
                }
                Text::Buffer => (self.rows.keep(&frame.buffer), frame.buffer.as_slice()),
            };
            if nothing && unnamed || !strict::trim(own).is_empty() {
                if node == 0 {
                    self.frames
                        .scope
                        .path
                        .extend_from_slice(layout.value_tag.as_bytes());
                }
                self.leave_over(cell, level.order)?;
            }
        }
        let scope = &mut self.frames.scope;
        scope.counts.truncate(level.counts);
        scope.path.truncate(level.path);
        Ok(())
    }

    /// Whether a column took the text of this frame.
    fn is_taken(&self, depth: usize) -> bool {
        let takes = |frame: &Frame| !self.layout.nodes[frame.node].text.is_empty();
        match self.layout.mixed {
            Mixed::All => self.frames.list[..=depth].iter().any(takes),
            _ => takes(&self.frames.list[depth]),
        }
    }

    /// Takes the prefixes of elements deeper than `self.depth` out of force.
    #[cold]
    pub(super) fn undeclare(&mut self) {
        let bindings = &mut self.frames.scope.bindings;
        while bindings.last().is_some_and(|b| b.depth > self.depth) {
            bindings.pop();
        }
    }
}
