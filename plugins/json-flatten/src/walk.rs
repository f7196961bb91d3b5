//! Reads one message from front to back in one pass: invalid JSON is refused with the place, values of columns become
//! cells. Every key, string and number is checked, whether a column needs it or not.
use hifijson::escape::{Error as BadEscape, Lex as _};
use hifijson::num::LexWrite as _;
use hifijson::token::Lex as _;
use hifijson::{Expect, Read as _, SliceLexer};
use weir_sdk::{Refusal, json};

use crate::plan::{Child, Layout, Node, tag};
use crate::rows::{Cell, Kind, Record, Rows, Span};

/// Why a message is refused, and at which byte of it.
#[derive(Debug)]
pub struct Fault {
    pub code: &'static str,
    pub at: usize,
    pub message: String,
}

pub const MALFORMED: &str = "malformed_json";
/// Stands for the place where the lexer is.
const HERE: usize = usize::MAX;
/// Up to so many keys of one object are compared with each other; more are sorted.
const FEW: usize = 24;

impl Fault {
    pub fn new(code: &'static str, at: usize, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, at, message }
    }
}

impl From<Expect> for Fault {
    fn from(expected: Expect) -> Self {
        let expected = match expected {
            Expect::Value => "a value",
            Expect::ValueOrEnd => "a value or the end of the array or object",
            Expect::CommaOrEnd => "`,` or the end of the array or object",
            Expect::String => "a key in quotes",
            Expect::Colon => "`:`",
            Expect::Eof => "the end: a message is one value",
        };
        Self::new(MALFORMED, HERE, format!("expected {expected}"))
    }
}

/// Buffers kept from message to message.
#[derive(Debug, Default)]
pub struct Buffers {
    /// The keys of all open objects.
    keys: Vec<Key>,
    /// The keys and indexes that lead to the value being read.
    pointer: Vec<Span>,
    /// One pointer, written out.
    written: String,
}

#[derive(Debug, Clone, Copy)]
struct Key {
    span: Span,
    tag: u64,
    at: usize,
}

pub struct Walk<'w> {
    layout: &'w Layout,
    rows: &'w mut Rows,
    buffers: &'w mut Buffers,
    text: &'w [u8],
    /// Open arrays and objects.
    depth: usize,
    /// The exploded array has been read.
    after_array: bool,
    /// Steps of the pointer that lead to the exploded array whose element is open.
    array: usize,
    /// A json column takes what is being read whole.
    taken: bool,
}

type Lexer<'w> = SliceLexer<'w>;

/// Reads `text`, which is UTF-8, into the cells of `rows`.
pub fn read(
    layout: &Layout,
    buffers: &mut Buffers,
    rows: &mut Rows,
    text: &[u8],
) -> Result<(), Fault> {
    buffers.keys.clear();
    buffers.pointer.clear();
    rows.begin();
    let mut walk = Walk {
        layout,
        rows,
        buffers,
        text,
        depth: 0,
        after_array: false,
        array: 0,
        taken: false,
    };
    let mut lexer = SliceLexer::new(text);
    let done = lexer.exactly_one(Lexer::ws_peek, |next, lexer| {
        walk.value(next, lexer, Some(0))
    });
    done.map_err(|fault| placed(fault, text, &lexer))
}

/// Gives a fault without a place that of the lexer, and says what stands there.
fn placed(fault: Fault, text: &[u8], lexer: &Lexer<'_>) -> Fault {
    if fault.at != HERE {
        return fault;
    }
    let rest = lexer.as_slice();
    let found = match String::from_utf8_lossy(&rest[..rest.len().min(4)])
        .chars()
        .next()
    {
        Some(c) => format!("`{}`", c.escape_debug()),
        None => "the end of the message".into(),
    };
    Fault {
        at: text.len() - rest.len(),
        message: format!("{}, found {found}", fault.message),
        ..fault
    }
}

impl<'w> Walk<'w> {
    #[inline]
    fn at(&self, lexer: &Lexer<'_>) -> usize {
        self.text.len() - lexer.as_slice().len()
    }

    fn value(&mut self, next: u8, lexer: &mut Lexer<'w>, node: Option<usize>) -> Result<(), Fault> {
        let from = self.at(lexer);
        let layout = self.layout;
        let index = node;
        let node = node.map(|n| &layout.nodes[n]);
        let outer = self.taken;
        self.taken |= node.is_some_and(|n| !n.columns.is_empty());
        let cell = match next {
            b'"' => {
                let span = self.string(lexer.discarded())?;
                Cell::Scalar(Kind::String, span)
            }
            b'-' | b'0'..=b'9' => {
                let number = lexer.num_bytes().validated();
                number.map_err(|_| {
                    let message = "expected a number, as 12, -0.5 or 1e9";
                    Fault::new(MALFORMED, from, message)
                })?;
                let to = self.at(lexer);
                Cell::Scalar(Kind::Number, self.within(from, to)?)
            }
            b'{' => {
                self.object(lexer, node)?;
                Cell::Nested("an object")
            }
            b'[' => {
                self.array(lexer, node)?;
                Cell::Nested("an array")
            }
            b'a'..=b'z' => match lexer.null_or_bool() {
                Some(None) => Cell::Null,
                Some(Some(_)) => {
                    let to = self.at(lexer);
                    Cell::Scalar(Kind::Boolean, self.within(from, to)?)
                }
                None => {
                    let message =
                        "expected a value: a string, a number, true, false, null, `[` or `{`";
                    return Err(Fault::new(MALFORMED, from, message));
                }
            },
            _ => return Err(Expect::Value.into()),
        };
        self.taken = outer;
        if index == Some(layout.root) {
            self.rows.record = match cell {
                Cell::Null => Record::Null,
                _ => Record::There,
            };
        }
        if index.is_some() && index == layout.schema {
            self.rows.schema = Some((from, self.at(lexer)));
        }
        match node {
            Some(node) => self.give(node, cell, from, lexer),
            None => Ok(()),
        }
    }

    /// A value for the columns of `node`.
    #[inline]
    fn give(
        &mut self,
        node: &Node,
        cell: Cell,
        from: usize,
        lexer: &Lexer<'w>,
    ) -> Result<(), Fault> {
        for &column in &node.columns {
            self.rows.cells[column] = match self.layout.columns[column].json {
                true => Cell::Json(self.within(from, self.at(lexer))?),
                false => cell,
            };
        }
        if let Cell::Scalar(..) = cell
            && !node.children.is_empty()
        {
            self.not_an_object(node, "a scalar");
        }
        match cell {
            Cell::Missing | Cell::Null => Ok(()),
            _ if node.each.is_none() || cell == Cell::Nested("an array") => Ok(()),
            _ => {
                let path = place(node);
                let message = format!("{path} is to explode: expected an array");
                Err(Fault::new("not_an_array", from, message))
            }
        }
    }

    fn not_an_object(&mut self, node: &Node, found: &str) {
        let path = place(node);
        let message = format!("{path}: found {found}, expected an object");
        let field = self.layout.columns.get(node.first);
        self.rows.refuse(Refusal {
            code: "not_an_object",
            field: field.map(|c| c.name.clone()),
            message,
        });
    }

    /// A piece of the message that is not too long.
    #[inline]
    fn within(&self, from: usize, to: usize) -> Result<Span, Fault> {
        if to - from > self.layout.limits.text {
            return Err(self.too_long(from));
        }
        Ok(Span {
            from: from as u32,
            to: to as u32,
            scratch: false,
        })
    }

    fn too_long(&self, at: usize) -> Fault {
        let most = self.layout.limits.text;
        let message = format!("more than {most} bytes of text (max-text-bytes)");
        Fault::new("text_too_long", at, message)
    }

    fn enter(&mut self, lexer: &Lexer<'w>) -> Result<(), Fault> {
        if self.depth == self.layout.limits.depth {
            let most = self.layout.limits.depth;
            let message = format!("arrays and objects nested deeper than {most} (max-depth)");
            return Err(Fault::new("too_deep", self.at(lexer), message));
        }
        self.depth += 1;
        Ok(())
    }

    fn object(&mut self, lexer: &mut Lexer<'w>, node: Option<&Node>) -> Result<(), Fault> {
        self.enter(lexer)?;
        let keys = self.buffers.keys.len();
        let mut expected = 0;
        lexer.discarded().seq(b'}', Lexer::ws_peek, |next, lexer| {
            if next != b'"' {
                return Err(Fault::from(Expect::String));
            }
            let at = self.at(lexer);
            let span = self.string(lexer.discarded())?;
            let tag = tag(self.rows.text(span, self.text));
            self.key(keys, Key { span, tag, at })?;
            lexer.expect(Lexer::ws_peek, b':').ok_or(Expect::Colon)?;
            let next = lexer.ws_peek().ok_or(Expect::Value)?;
            let Some(node) = node else {
                return self.value(next, lexer, None);
            };
            let name = self.rows.text(span, self.text);
            match child(node, name, tag, &mut expected) {
                Some(child) => {
                    self.buffers.pointer.push(span);
                    self.value(next, lexer, Some(child))?;
                    self.buffers.pointer.pop();
                    Ok(())
                }
                None => self.left_over(next, lexer, span),
            }
        })?;
        self.unique(keys)?;
        self.buffers.keys.truncate(keys);
        self.depth -= 1;
        Ok(())
    }

    fn array(&mut self, lexer: &mut Lexer<'w>, node: Option<&Node>) -> Result<(), Fault> {
        self.enter(lexer)?;
        let explodes = node.and_then(|n| n.each);
        if let Some(node) = node
            && explodes.is_none()
            && !node.children.is_empty()
            && node.children.iter().all(|c| c.index.is_none())
        {
            self.not_an_object(node, "an array");
        }
        let mut n = 0;
        lexer.discarded().seq(b']', Lexer::ws_peek, |next, lexer| {
            if let Some(each) = explodes {
                return self.element(next, lexer, each);
            }
            let Some(node) = node.filter(|node| !node.children.is_empty()) else {
                return self.value(next, lexer, None);
            };
            let child = node.children.iter().find(|c| c.index == Some(n));
            let from = self.rows.scratch.len() as u32;
            self.rows
                .scratch
                .extend_from_slice(n.to_string().as_bytes());
            let to = self.rows.scratch.len() as u32;
            let index = Span {
                from,
                to,
                scratch: true,
            };
            n += 1;
            match child {
                Some(child) => {
                    self.buffers.pointer.push(index);
                    self.value(next, lexer, Some(child.node))?;
                    self.buffers.pointer.pop();
                    Ok(())
                }
                None => self.left_over(next, lexer, index),
            }
        })?;
        if explodes.is_some() {
            self.after_array = true;
        }
        self.depth -= 1;
        Ok(())
    }

    fn element(&mut self, next: u8, lexer: &mut Lexer<'w>, each: usize) -> Result<(), Fault> {
        let most = self.layout.limits.rows;
        if self.rows.elements == most {
            let message = format!("more than {most} rows in one message (max-rows)");
            return Err(Fault::new("too_many_rows", self.at(lexer), message));
        }
        let outer = std::mem::replace(&mut self.array, self.buffers.pointer.len());
        self.rows.inside = true;
        self.value(next, lexer, Some(each))?;
        self.rows.inside = false;
        self.array = outer;
        self.rows.end_element(self.layout);
        Ok(())
    }

    /// A member that no path leads to.
    fn left_over(&mut self, next: u8, lexer: &mut Lexer<'w>, key: Span) -> Result<(), Fault> {
        let from = self.at(lexer);
        self.value(next, lexer, None)?;
        if self.layout.wildcard.is_none() || self.taken {
            return Ok(());
        }
        let mut pointer = std::mem::take(&mut self.buffers.written);
        pointer.clear();
        if self.rows.inside {
            pointer.push('.');
        }
        for step in self.buffers.pointer[self.array..].iter().chain([&key]) {
            pointer.push('/');
            for c in String::from_utf8_lossy(self.rows.text(*step, self.text)).chars() {
                match c {
                    '~' => pointer.push_str("~0"),
                    '/' => pointer.push_str("~1"),
                    c => pointer.push(c),
                }
            }
        }
        let value = &self.text[from..self.at(lexer)];
        let (rest, start) = self.rows.rest_here(self.after_array);
        rest.push(',');
        json::quote(&pointer, rest);
        rest.push(':');
        rest.push_str(&String::from_utf8_lossy(value));
        let long = rest.len() - start > self.layout.limits.text;
        self.buffers.written = pointer;
        match long {
            true => Err(self.too_long(from)),
            false => Ok(()),
        }
    }

    /// Keeps a key of the object whose keys begin at `from`.
    fn key(&mut self, from: usize, key: Key) -> Result<(), Fault> {
        let keys = &mut self.buffers.keys;
        let count = keys.len() - from;
        if count == self.layout.limits.members {
            let most = self.layout.limits.members;
            let message = format!("more than {most} members in one object (max-members)");
            return Err(Fault::new("too_many_members", key.at, message));
        }
        let name = self.rows.text(key.span, self.text);
        if count < FEW {
            let same = |k: &Key| k.tag == key.tag && self.rows.text(k.span, self.text) == name;
            if keys[from..].iter().any(same) {
                return Err(duplicate(key.at, name));
            }
        }
        keys.push(key);
        Ok(())
    }

    /// Looks for a key that comes twice among many.
    fn unique(&mut self, from: usize) -> Result<(), Fault> {
        let (rows, text) = (&*self.rows, self.text);
        let keys = &mut self.buffers.keys[from..];
        if keys.len() <= FEW {
            return Ok(());
        }
        let name = |k: &Key| rows.text(k.span, text);
        keys.sort_unstable_by(|a, b| name(a).cmp(name(b)).then(a.at.cmp(&b.at)));
        let twice = keys
            .windows(2)
            .filter(|pair| name(&pair[0]) == name(&pair[1]));
        match twice.map(|pair| &pair[1]).min_by_key(|k| k.at) {
            Some(key) => Err(duplicate(key.at, name(key))),
            None => Ok(()),
        }
    }

    /// Reads on behind the first quote of a string.
    fn string(&mut self, lexer: &mut Lexer<'w>) -> Result<Span, Fault> {
        let start = self.at(lexer);
        let mut from = start;
        let kept = self.rows.scratch.len();
        loop {
            let rest = lexer.as_slice();
            let length = plain(rest);
            let to = from + length;
            *lexer = SliceLexer::new(&rest[length..]);
            match lexer.take_next() {
                Some(b'"') if from == start => return self.within(from, to),
                Some(b'"') => {
                    self.rows.scratch.extend_from_slice(&self.text[from..to]);
                    break;
                }
                Some(b'\\') => {
                    self.rows.scratch.extend_from_slice(&self.text[from..to]);
                    self.escape(lexer, to)?;
                    from = self.at(lexer);
                }
                Some(control) => {
                    let message = format!(
                        "control character 0x{control:02X} in a string: write \\u{control:04x}"
                    );
                    return Err(Fault::new(MALFORMED, to, message));
                }
                None => {
                    return Err(Fault::new(MALFORMED, start - 1, "a string that never ends"));
                }
            }
        }
        let end = self.rows.scratch.len();
        if end - kept > self.layout.limits.text {
            return Err(self.too_long(start));
        }
        Ok(Span {
            from: kept as u32,
            to: end as u32,
            scratch: true,
        })
    }

    /// Reads on behind a backslash, which lies at `at`, and keeps what it stands for.
    fn escape(&mut self, lexer: &mut Lexer<'w>, at: usize) -> Result<(), Fault> {
        let c = lexer.take_next().ok_or(BadEscape::Eof);
        let c = c
            .and_then(|c| lexer.escape(c))
            .map_err(|error| match error {
                BadEscape::InvalidChar(_) | BadEscape::ExpectedLowSurrogate => {
                    let message = "half of a surrogate pair stands for no character";
                    Fault::new("lone_surrogate", at, message)
                }
                BadEscape::Eof => Fault::new(MALFORMED, at, "an escape that never ends"),
                BadEscape::InvalidKind(_) | BadEscape::InvalidHex(_) => {
                    let message =
                        "expected an escape: one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX";
                    Fault::new(MALFORMED, at, message)
                }
            })?;
        let mut utf8 = [0; 4];
        let utf8 = c.encode_utf8(&mut utf8).as_bytes();
        self.rows.scratch.extend_from_slice(utf8);
        Ok(())
    }
}

fn place(node: &Node) -> String {
    match node.path.as_str() {
        "" => "the message".into(),
        path => format!("`{path}`"),
    }
}

fn duplicate(at: usize, name: &[u8]) -> Fault {
    let message = format!(
        "the key {} comes twice in one object",
        weir_sdk::shown(name)
    );
    Fault::new("duplicate_key", at, message)
}

/// The node that `name` leads to. Messages mostly have the order of the columns, or of each other.
#[inline]
fn child(node: &Node, name: &[u8], tag: u64, expected: &mut usize) -> Option<usize> {
    let children = &node.children;
    let same = |c: &Child| c.tag == tag && (name.len() < 8 || c.key == name);
    let n = match children.get(*expected) {
        Some(child) if same(child) => *expected,
        _ => children.iter().position(same)?,
    };
    *expected = n + 1;
    Some(children[n].node)
}

/// Bytes before a quote, a backslash or a control character.
#[inline]
fn plain(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let (words, _) = text.as_chunks::<8>();
    let mut at = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let zero = |x: u64| x.wrapping_sub(ONES) & !x;
        let quote = zero(word ^ (ONES * b'"' as u64));
        let escape = zero(word ^ (ONES * b'\\' as u64));
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let special = (quote | escape | control) & TOPS;
        if special != 0 {
            // Below the first true hit there is no carry that could fake one.
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let ends = |b: &u8| matches!(b, b'"' | b'\\' | 0..=0x1F);
    let rest = &text[at..];
    at + rest.iter().position(ends).unwrap_or(rest.len())
}
