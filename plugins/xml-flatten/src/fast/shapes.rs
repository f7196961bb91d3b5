//! The elements seen so far, as a tree of paths: the meaning of each for the layout is computed once, and each
//! remembers which element came after it, so that the next tag usually needs one comparison with the expected one. This
//! only affects speed, never the rows; a new batch begins with an empty tree.
use super::lanes::{Lanes, Source, WIDTH};
use crate::plan::{Layout, Mixed, Repeat};
use crate::strict;

/// No shape, no column, no node.
pub const NONE: u32 = u32::MAX;
/// More than one column, or one that is not just set.
pub const MANY: u32 = u32::MAX - 1;
/// The document: the parent of root elements.
pub const DOCUMENT: u32 = 0;

/// Different element paths in one batch; the event reader reads a message that would need more.
const MAX_SHAPES: usize = 1024;
/// Different names among the children of one path, which a mispredicted tag is compared with one by one.
const MAX_CHILDREN: usize = 128;
/// The event reader reads messages with longer names.
const MAX_NAME_BYTES: usize = 256;
/// Attributes remembered for one path.
const MAX_ATTRIBUTES: usize = 16;

/// A tag as it is expected, byte for byte.
#[derive(Debug, Clone, Copy)]
pub struct Pattern {
    head: Lanes,
    /// The last 16 bytes, of a tag that has more.
    tail: Lanes,
    /// One bit for each byte of `head` that counts.
    bits: u32,
    /// The bit of the last byte, if it lies in `head`; otherwise none that `differs` can give.
    pub last: u32,
    pub len: usize,
    /// Where all of it lies in `Shapes::names`; looked at only for what lies between head and tail.
    whole: usize,
}

/// An attribute that came before: ` name="` and what it means.
#[derive(Debug)]
pub struct Known {
    pub opening: Pattern,
    name: Vec<u8>,
    /// The place of the first one of this name, which may have other quotes.
    pub first: usize,
    /// `NONE`, a column to set, or `MANY`: see the layout.
    pub column: u32,
    pub quote: u8,
    pub declares: bool,
}

#[derive(Debug)]
pub struct Shape {
    /// `<name>`
    pub open: Pattern,
    /// `</name>`
    pub close: Pattern,
    /// The child that came first, and the sibling that came next.
    pub after_open: u32,
    pub after_close: u32,
    pub parent: u32,
    /// The column that takes the text: `NONE`, one to set, or `MANY`: see the layout.
    pub column: u32,
    /// The layout's node: `NONE` outside rows and where no path leads.
    pub node: u32,
    /// Elements open inside it, itself included.
    pub depth: usize,
    /// Begins and ends a row.
    pub row: bool,
    /// Has its own text collected while it is open.
    pub listens: bool,
    /// Text inside it goes to an open element.
    pub hears: bool,
    pub explodes: bool,
    /// A row, a listener, exploding, or the root: its end is more than a step up.
    pub special: bool,
    /// If it has no children, its whole content is its text and nobody else's.
    pub simple: bool,
    pub attributes: Vec<Known>,
    children: Vec<u32>,
    name: (usize, usize),
    state: State,
}

/// Where a path stands with respect to the layout.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Outside,
    Wanted(usize),
    Unwanted,
}

#[derive(Debug, Default)]
pub struct Shapes {
    pub list: Vec<Shape>,
    /// The tags of all shapes, one after the other.
    names: Vec<u8>,
}

impl Pattern {
    fn new(tag: &[u8], whole: usize) -> Self {
        let mut head = [0; WIDTH];
        let first = tag.len().min(WIDTH);
        head[..first].copy_from_slice(&tag[..first]);
        let tail = *tag.last_chunk().unwrap_or(&head);
        Self {
            head: Lanes::load(&head),
            tail: Lanes::load(&tail),
            bits: ((1u64 << first) - 1) as u32,
            last: if first == tag.len() {
                (1u32 << first) >> 1
            } else {
                u32::MAX
            },
            len: tag.len(),
            whole,
        }
    }

    /// The bytes among the first 16 that differ at `at`, one bit each.
    #[inline(always)]
    pub fn differs(&self, source: Source<'_>, at: usize) -> u32 {
        !source.load(at).equal(self.head).bits() & self.bits
    }
}

impl Shapes {
    /// An empty tree.
    pub fn clear(&mut self) {
        self.list.clear();
        self.names.clear();
        let nothing = Pattern::new(b"", 0);
        self.list.push(Shape {
            open: nothing,
            close: nothing,
            after_open: NONE,
            after_close: NONE,
            parent: DOCUMENT,
            column: NONE,
            node: NONE,
            depth: 0,
            row: false,
            listens: false,
            hears: false,
            explodes: false,
            special: true,
            simple: false,
            attributes: Vec::new(),
            children: Vec::new(),
            name: (0, 0),
            state: State::Outside,
        });
    }

    /// Whether a message may be in doubt for want of room.
    pub fn is_crowded(&self) -> bool {
        self.list.len() > MAX_CHILDREN
    }

    #[inline(always)]
    pub fn get(&self, shape: u32) -> &Shape {
        &self.list[shape as usize]
    }

    /// Whether all of `pattern` stands at `at`, before the end of the text.
    #[inline(always)]
    pub fn stands(&self, pattern: &Pattern, source: Source<'_>, at: usize) -> bool {
        pattern.differs(source, at) == 0
            && at + pattern.len <= source.len()
            && (pattern.len <= WIDTH || self.rest_stands(pattern, source, at))
    }

    /// The same for what follows the first 16 bytes of a pattern that ends within the text.
    #[inline]
    fn rest_stands(&self, pattern: &Pattern, source: Source<'_>, at: usize) -> bool {
        let end = at + pattern.len;
        source.load(end - WIDTH).equal(pattern.tail).bits() == 0xFFFF
            && (pattern.len <= 2 * WIDTH
                || self.names[pattern.whole..][..pattern.len] == source.text()[at..end])
    }

    pub fn name(&self, shape: u32) -> &[u8] {
        let (from, to) = self.get(shape).name;
        &self.names[from..to]
    }

    /// The child of `parent` called `name`, met before or now; nothing if it is for the event reader to say.
    pub fn child(&mut self, parent: u32, name: &[u8], layout: &Layout) -> Option<u32> {
        let children = &self.get(parent).children;
        if let Some(known) = children.iter().find(|child| self.name(**child) == name) {
            return Some(*known);
        }
        let above = self.get(parent);
        let depth = above.depth + 1;
        let full = children.len() == MAX_CHILDREN || self.list.len() == MAX_SHAPES;
        if full
            || name.len() > MAX_NAME_BYTES
            || depth > layout.limits.depth
            || !strict::is_name(name)
        {
            return None;
        }
        let mut state = step(layout, above.state, name);
        if !matches!(state, State::Wanted(_)) {
            state = step(layout, above.state, local(name, layout));
        }
        let row = above.state == State::Outside && state != State::Outside;
        let node = match state {
            State::Wanted(node) => Some(&layout.nodes[node]),
            _ => None,
        };
        let listens = node.is_some_and(|node| !node.text.is_empty());
        let explodes = node.is_some_and(|node| node.explodes);
        let over = layout.mixed == Mixed::All && above.hears;
        let column = node.map_or(NONE, |node| single(layout, &node.text));
        let new = self.list.len() as u32;
        let from = self.names.len();
        let (open, close) = ([b"<", name, b">"].concat(), [b"</", name, b">"].concat());
        let shape = Shape {
            open: Pattern::new(&open, from),
            close: Pattern::new(&close, from + open.len()),
            after_open: NONE,
            after_close: NONE,
            parent,
            column,
            node: match state {
                State::Wanted(node) => node as u32,
                _ => NONE,
            },
            depth,
            row,
            listens,
            hears: listens || over,
            explodes,
            special: row || listens || explodes || parent == DOCUMENT,
            simple: !row && !explodes && !over && parent != DOCUMENT,
            attributes: Vec::new(),
            children: Vec::new(),
            name: (from + 1, from + 1 + name.len()),
            state,
        };
        self.names.extend_from_slice(&open);
        self.names.extend_from_slice(&close);
        self.list.push(shape);
        self.list[parent as usize].children.push(new);
        Some(new)
    }

    /// Remembers the attributes of an element.
    pub fn learn(
        &mut self,
        shape: u32,
        found: &[strict::Attribute<'_>],
        text: &[u8],
        layout: &Layout,
    ) {
        let node = layout.nodes.get(self.get(shape).node as usize);
        let known = &mut self.list[shape as usize].attributes;
        for (name, value) in found {
            let quote = text[value.start - 1];
            let long = name.len() > 2 * WIDTH - " =\"".len();
            let met = known.iter().any(|k| k.name == *name && k.quote == quote);
            if met || long || known.len() == MAX_ATTRIBUTES {
                continue;
            }
            let declares = declares(name);
            let wanted = if declares { name } else { local(name, layout) };
            let columns: Vec<usize> = node
                .iter()
                .flat_map(|node| &node.attributes)
                .filter(|(n, _)| n == wanted)
                .map(|(_, column)| *column)
                .collect();
            let opening = [b" ", *name, &[b'=', quote]].concat();
            let first = known.iter().position(|k| k.name == *name);
            known.push(Known {
                opening: Pattern::new(&opening, 0),
                name: name.to_vec(),
                first: first.unwrap_or(known.len()),
                quote,
                column: single(layout, &columns),
                declares,
            });
        }
    }
}

/// A namespace declaration.
pub fn declares(name: &[u8]) -> bool {
    name == b"xmlns" || name.starts_with(b"xmlns:")
}

/// `name` without its prefix, where prefixes do not count.
pub fn local<'n>(name: &'n [u8], layout: &Layout) -> &'n [u8] {
    match name.iter().position(|b| *b == b':') {
        Some(colon) if layout.local_names => &name[colon + 1..],
        _ => name,
    }
}

fn single(layout: &Layout, columns: &[usize]) -> u32 {
    match columns {
        [] => NONE,
        [column] if layout.columns[*column].repeat != Repeat::Json => *column as u32,
        _ => MANY,
    }
}

fn step(layout: &Layout, above: State, name: &[u8]) -> State {
    match above {
        State::Outside if name == layout.row_tag => State::Wanted(0),
        State::Wanted(node) => {
            let children = &layout.nodes[node].children;
            let child = children.iter().find(|(n, _)| n == name);
            child.map_or(State::Unwanted, |(_, node)| State::Wanted(*node))
        }
        state => state,
    }
}
