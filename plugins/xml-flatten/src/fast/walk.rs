//! The second pass: from entry to entry of the index, along the tree of shapes. An expected tag takes one comparison;
//! `tags` reads everything else in full.
use super::Doubt;
use super::lanes::Source;
use super::shapes::{DOCUMENT, MANY, NONE, Shapes};
use super::tags::CDATA;
use super::values::Sinks;
use crate::plan::{Layout, Mixed};
use crate::rows::{Cell, Message, Rows};
use crate::strict;
use weir_sdk::builder::append_over;

/// An element whose text is being collected. Kept from message to message for its buffer.
#[derive(Debug, Default)]
pub struct Frame {
    text: Text,
    buffer: Vec<u8>,
    has_child: bool,
}

/// Text seen so far: mostly one piece, which stays in the message.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Text {
    #[default]
    None,
    Piece(usize, usize),
    Buffer,
}

/// What a slow look at an entry of the index found.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// `shape` has begun.
    Opened(u32),
    /// `shape` has begun and ended.
    Empty(u32),
    /// The open element has ended.
    Closed,
    /// Something else is behind us.
    Passed,
}

#[derive(Debug)]
pub struct Walk<'w> {
    pub layout: &'w Layout,
    pub shapes: &'w mut Shapes,
    pub rows: &'w mut Rows,
    pub sinks: &'w Sinks,
    pub source: Source<'w>,
    pub index: &'w [u32],
    pub frames: &'w mut Vec<Frame>,
    /// Frames in use.
    pub listening: usize,
    pub message: Message<'w>,
    pub namespaces: usize,
    /// The attributes of one tag: which of the known, where the value lies, and whether it refers.
    pub values: &'w mut Vec<(usize, usize, usize, bool)>,
    /// Where the next text begins, and the next entry of the index.
    pub at: usize,
    pub next: usize,
}

impl Walk<'_> {
    /// The whole message.
    pub fn document(&mut self, declared: &mut Vec<u8>) -> Result<(), Doubt> {
        self.rows.begin();
        self.outside(Some(declared))?;
        let expected = self.shapes.get(DOCUMENT).after_open;
        let root = match self.tag(DOCUMENT, expected)? {
            Step::Opened(root) => {
                self.shapes.list[DOCUMENT as usize].after_open = root;
                self.content(root)?;
                root
            }
            Step::Empty(root) => root,
            Step::Closed | Step::Passed => return Err(Doubt),
        };
        debug_assert!(self.shapes.get(root).parent == DOCUMENT);
        self.outside(None)?;
        match self.at == self.source.len() && self.message.pieces > 0 {
            true => Ok(()),
            false => Err(Doubt),
        }
    }

    /// From the root's start tag to behind its end tag.
    fn content(&mut self, root: u32) -> Result<(), Doubt> {
        let (source, index, limit) = (self.source, self.index, self.layout.limits.text);
        let (mut at, mut next) = (self.at, self.next);
        let mut current = DOCUMENT;
        let mut opened = root;
        let mut hears = false;
        // Whose expectation is at stake, and whether it is the one after its end.
        let (mut before, mut ended);
        loop {
            // `opened` has begun, and its content begins at `at`.
            let shape = self.shapes.get(opened);
            let mut expected = shape.after_open;
            let to = index[next] as usize;
            let (plain, special) = (expected == NONE && shape.simple, shape.special);
            if plain && self.shapes.stands(&shape.close, source, to) {
                if to - at > limit {
                    return Err(Doubt);
                }
                let (column, length) = (shape.column, shape.close.len);
                expected = shape.after_close;
                self.set(column, opened, Cell::Message(at as u32, to as u32));
                at = to + length;
                next += 2;
                (before, ended) = (opened, true);
            } else if plain && self.escaped(opened, at, next) {
                (at, next) = (self.at, self.next);
                expected = self.shapes.get(opened).after_close;
                (before, ended) = (opened, true);
            } else {
                if special {
                    self.enter(opened);
                }
                hears = self.shapes.get(opened).hears;
                current = opened;
                (before, ended) = (opened, false);
            }
            // Until another begins.
            opened = loop {
                let to = index[next] as usize;
                if expected != NONE {
                    let shape = self.shapes.get(expected);
                    if self.shapes.stands(&shape.open, source, to) && to - at <= limit {
                        let length = shape.open.len;
                        if hears {
                            self.hear(at, to, true);
                        }
                        at = to + length;
                        next += 2;
                        break expected;
                    }
                    // The expected name, and attributes.
                    let end = to + shape.open.len - 1;
                    if shape.open.differs(source, to) == shape.open.last
                        && source.bytes()[end] == b' '
                        && to - at <= limit
                        && let Some(empty) = self.known_attributes(expected, end, next)?
                    {
                        if hears {
                            self.hear(at, to, true);
                        }
                        (at, next) = (self.at, self.next);
                        if !empty {
                            break expected;
                        }
                        self.nothing_in(expected)?;
                        (before, ended) = (expected, true);
                        expected = self.shapes.get(expected).after_close;
                        continue;
                    }
                }
                let shape = self.shapes.get(current);
                if self.shapes.stands(&shape.close, source, to) && to - at <= limit {
                    let length = shape.close.len;
                    let (parent, special) = (shape.parent, shape.special);
                    expected = shape.after_close;
                    if hears {
                        self.hear(at, to, false);
                    }
                    if special {
                        self.leave(current)?;
                    }
                    at = to + length;
                    next += 2;
                    (before, ended) = (current, true);
                    current = parent;
                    hears = self.shapes.get(current).hears;
                    if current == DOCUMENT {
                        (self.at, self.next) = (at, next);
                        return Ok(());
                    }
                    continue;
                }
                (self.at, self.next) = (at, next);
                let step = self.slow(current, expected)?;
                (at, next) = (self.at, self.next);
                match step {
                    Step::Passed => {}
                    Step::Opened(shape) => {
                        self.expect(before, ended, shape);
                        break shape;
                    }
                    Step::Empty(shape) => {
                        self.expect(before, ended, shape);
                        (before, ended) = (shape, true);
                        expected = self.shapes.get(shape).after_close;
                    }
                    Step::Closed => {
                        let shape = self.shapes.get(current);
                        (before, ended) = (current, true);
                        expected = shape.after_close;
                        current = shape.parent;
                        hears = self.shapes.get(current).hears;
                        if current == DOCUMENT {
                            return Ok(());
                        }
                    }
                }
            };
        }
    }

    /// Reads the content of `shape`, text with references and CDATA, from `from` to behind its end tag; false, and
    /// nothing done, if there is something else in it.
    #[inline(never)]
    fn escaped(&mut self, shape: u32, mut from: usize, mut next: usize) -> bool {
        let (source, bytes) = (self.source, self.source.bytes());
        let (begin, start) = (from, self.rows.scratch.len());
        let mut to = self.index[next] as usize;
        loop {
            if bytes[to] == b'&' {
                let Some((value, length)) = self.reference(to, next) else {
                    break;
                };
                append_over(&mut self.rows.scratch, &bytes[from..], to - from);
                let utf8 = &mut [0; 4];
                let value = value.encode_utf8(utf8).as_bytes();
                self.rows.scratch.extend_from_slice(value);
                from = to + length;
                next += 1;
            } else if bytes[to + 1] == b'!' && bytes[to..].starts_with(CDATA) && to < source.len() {
                append_over(&mut self.rows.scratch, &bytes[from..], to - from);
                from = to + CDATA.len();
                self.next = next;
                let Ok(end) = self.until(b"]]", from) else {
                    break;
                };
                append_over(&mut self.rows.scratch, &bytes[from..], end - from);
                (from, next) = (self.at, self.next);
            } else {
                break;
            }
            to = self.index[next] as usize;
        }
        let element = self.shapes.get(shape);
        let whole = to >= from && self.shapes.stands(&element.close, source, to);
        if !whole || to - begin > self.layout.limits.text {
            self.rows.scratch.truncate(start);
            return false;
        }
        let (column, length) = (element.column, element.close.len);
        append_over(&mut self.rows.scratch, &bytes[from..], to - from);
        self.set(
            column,
            shape,
            Cell::Scratch(start as u32, self.rows.scratch.len() as u32),
        );
        (self.at, self.next) = (to + length, next + 2);
        true
    }

    /// An element has begun and ended.
    #[inline(never)]
    pub fn nothing_in(&mut self, shape: u32) -> Result<(), Doubt> {
        match self.shapes.get(shape).special {
            true => {
                self.enter(shape);
                self.leave(shape)
            }
            false => Ok(()),
        }
    }

    fn expect(&mut self, before: u32, ended: bool, shape: u32) {
        let before = &mut self.shapes.list[before as usize];
        match ended {
            true => before.after_close = shape,
            false => before.after_open = shape,
        }
    }

    /// A value for `column` of `shape`'s text.
    #[inline(always)]
    fn set(&mut self, column: u32, shape: u32, cell: Cell) {
        match column {
            NONE => {}
            MANY => self.set_all(shape, cell),
            column => self.set_one(column as usize, cell),
        }
    }

    #[inline(always)]
    pub fn set_one(&mut self, column: usize, cell: Cell) {
        match &mut self.rows.cells[column] {
            empty @ Cell::Missing => *empty = cell,
            _ => self.rows.set(self.layout, column, cell, self.message.text),
        }
    }

    #[inline(never)]
    fn set_all(&mut self, shape: u32, cell: Cell) {
        let layout = self.layout;
        for column in &layout.nodes[self.shapes.get(shape).node as usize].text {
            self.rows.set(layout, *column, cell, self.message.text);
        }
    }

    /// An element that is special begins.
    #[inline]
    pub fn enter(&mut self, shape: u32) {
        if self.shapes.get(shape).listens {
            if self.frames.len() == self.listening {
                self.frames.push(Frame::default());
            }
            let frame = &mut self.frames[self.listening];
            frame.text = Text::None;
            frame.buffer.clear();
            frame.has_child = false;
            self.listening += 1;
        }
    }

    /// An element that is special ends.
    #[inline]
    pub fn leave(&mut self, shape: u32) -> Result<(), Doubt> {
        let &super::shapes::Shape {
            listens,
            explodes,
            row,
            column,
            ..
        } = self.shapes.get(shape);
        if listens {
            self.listening -= 1;
            let frame = &self.frames[self.listening];
            let cell = match frame.text {
                Text::None => Cell::Message(0, 0),
                Text::Piece(from, to) => Cell::Message(from as u32, to as u32),
                Text::Buffer if frame.buffer.len() > self.layout.limits.text => return Err(Doubt),
                Text::Buffer => self.rows.keep(&frame.buffer),
            };
            if frame.has_child && self.layout.mixed == Mixed::Reject {
                let own = match frame.text {
                    Text::None => &b""[..],
                    Text::Piece(from, to) => &self.message.text[from..to],
                    Text::Buffer => &frame.buffer,
                };
                if !strict::trim(own).is_empty() {
                    return Err(Doubt);
                }
            }
            self.set(column, shape, cell);
        }
        if explodes {
            self.rows.end_repetition(self.layout);
        }
        if row {
            self.end_row()?;
        }
        Ok(())
    }

    fn end_row(&mut self) -> Result<(), Doubt> {
        let rows = self.rows.origin.len();
        let plain = self.rows.is_plain()
            && !self.sinks.json
            && self.message.pieces < self.layout.limits.rows;
        if plain && self.sinks.append(self.layout, self.rows, self.source) {
            // What `begin` would clear and the row has used.
            self.rows.scratch.clear();
            self.rows.origin.push(self.message.row as u32);
            self.message.pieces += 1;
            return Ok(());
        }
        self.rows.truncate(rows);
        self.rows
            .end(self.layout, &mut self.message)
            .map_err(|_| Doubt)?;
        self.rows.begin();
        Ok(())
    }

    /// Text inside an element that hears it; `child`: because a child begins.
    #[inline(never)]
    pub fn hear(&mut self, from: usize, to: usize, child: bool) {
        let text = self.message.text;
        let open = &mut self.frames[..self.listening];
        if let Some(top) = open.last_mut() {
            top.has_child |= child;
        }
        if from == to {
            return;
        }
        let first = match self.layout.mixed {
            Mixed::All => 0,
            Mixed::Own | Mixed::Reject => open.len().saturating_sub(1),
        };
        for frame in &mut open[first..] {
            match frame.text {
                Text::None => frame.text = Text::Piece(from, to),
                _ => frame.add(&text[from..to], text),
            }
        }
    }

    /// Text that is not in the message as it is.
    pub fn hear_made(&mut self, made: &[u8]) {
        let text = self.message.text;
        let open = &mut self.frames[..self.listening];
        let first = match self.layout.mixed {
            Mixed::All => 0,
            Mixed::Own | Mixed::Reject => open.len().saturating_sub(1),
        };
        open[first..]
            .iter_mut()
            .for_each(|frame| frame.add(made, text));
    }
}

impl Frame {
    #[inline]
    fn add(&mut self, bytes: &[u8], message: &[u8]) {
        if let Text::Piece(from, to) = self.text {
            self.buffer.extend_from_slice(&message[from..to]);
        }
        self.text = Text::Buffer;
        self.buffer.extend_from_slice(bytes);
    }
}
