//! Reads one message from front to back: malformed XML is refused, values of columns become cells.
mod above;
mod full;

use quick_xml::Reader as Events;
use quick_xml::errors::Error as XmlError;
use quick_xml::events::Event;

use crate::encoding::UTF8_BOM;
use crate::plan::{Layout, Mixed};
use crate::rows::{Cell, Message, Rows};
use crate::strict::{self, Attribute, Fault, Found};
use above::Outside;
use full::Scope;

/// A namespace declaration is an attribute of this name, or of one that begins with it and a colon.
const XMLNS: &[u8] = b"xmlns";
const DOCTYPE: &[u8] = b"<!DOCTYPE";

/// Reads `message` into `rows`. After a fault the caller cuts `rows` back.
pub fn read(
    layout: &Layout,
    frames: &mut Frames,
    rows: &mut Rows,
    message: &mut Message<'_>,
    found: Found,
) -> Result<(), Fault> {
    // The message's own is off; quick-xml would pass over another.
    if message.text.starts_with(UTF8_BOM) {
        return Err(Fault::malformed(0, "a second byte order mark"));
    }
    let mut walk = Walk::new(layout, frames, rows, message.text, found);
    walk.document(message)?;
    if walk.row_elements == 0 {
        let tag = &layout.row_name;
        return Err(Fault::new(
            "no_rows",
            0,
            format!("no `{tag}` element in the message"),
        ));
    }
    Ok(())
}

/// The wanted elements that are open, kept from message to message for their buffers only.
#[derive(Debug, Default)]
pub struct Frames {
    list: Vec<Frame>,
    depth: usize,
    /// Kept for layouts with `needs_events` alone.
    scope: Scope,
    /// Kept for layouts with columns from above the row alone.
    outside: Outside,
}

#[derive(Debug, Default)]
struct Frame {
    node: usize,
    has_child: bool,
    /// `xsi:nil` says that it has no value.
    nil: bool,
    text: Text,
    buffer: Vec<u8>,
}

/// Text seen so far: most elements have one piece, which stays in the message.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Text {
    #[default]
    None,
    Piece(usize, usize),
    Buffer,
}

impl Frames {
    fn push(&mut self, node: usize) {
        if self.depth == self.list.len() {
            self.list.push(Frame::default());
        }
        let frame = &mut self.list[self.depth];
        frame.node = node;
        frame.has_child = false;
        frame.nil = false;
        frame.text = Text::None;
        frame.buffer.clear();
        self.depth += 1;
    }

    /// Only while a row is open.
    #[inline]
    fn top(&mut self) -> &mut Frame {
        &mut self.list[self.depth - 1]
    }
}

impl Frame {
    #[inline]
    fn add_piece(&mut self, from: usize, to: usize, message: &[u8]) {
        if self.text == Text::None {
            self.text = Text::Piece(from, to);
        } else {
            self.add(&message[from..to], message);
        }
    }

    fn add(&mut self, bytes: &[u8], message: &[u8]) {
        if let Text::Piece(from, to) = self.text {
            self.buffer.extend_from_slice(&message[from..to]);
        }
        self.text = Text::Buffer;
        self.buffer.extend_from_slice(bytes);
    }
}

struct Walk<'w> {
    layout: &'w Layout,
    frames: &'w mut Frames,
    rows: &'w mut Rows,
    text: &'w [u8],
    found: Found,
    /// Open elements.
    depth: usize,
    /// Open elements inside the row that no path leads to.
    unwanted: usize,
    in_row: bool,
    rooted: bool,
    /// A document type declaration was passed over.
    doctyped: bool,
    namespaces: usize,
    row_elements: usize,
    /// The attributes of one tag; empty in between.
    attributes: Vec<Attribute<'w>>,
}

impl<'w> Walk<'w> {
    fn new(
        layout: &'w Layout,
        frames: &'w mut Frames,
        rows: &'w mut Rows,
        text: &'w [u8],
        found: Found,
    ) -> Self {
        frames.depth = 0;
        frames.scope.clear();
        frames.outside.clear();
        Self {
            layout,
            frames,
            rows,
            text,
            found,
            depth: 0,
            unwanted: 0,
            in_row: false,
            rooted: false,
            doctyped: false,
            namespaces: 0,
            row_elements: 0,
            attributes: Vec::new(),
        }
    }

    fn document(&mut self, message: &mut Message<'_>) -> Result<(), Fault> {
        let mut reader = Events::from_reader(self.text);
        reader.config_mut().check_comments = true;
        loop {
            let event = reader.read_event().map_err(|error| {
                let at = reader.error_position() as usize;
                syntax(self.text, at, &error, self.layout.doctype)
            })?;
            match event {
                Event::Start(tag) => {
                    let name = self.span(tag.name().0);
                    self.open(name, self.span(&tag))?;
                }
                Event::End(_) => self.close(message)?,
                Event::Empty(tag) => {
                    let name = self.span(tag.name().0);
                    self.open(name, self.span(&tag))?;
                    self.close(message)?;
                }
                Event::Text(text) => {
                    let (from, to) = self.span(&text);
                    if self.found.bracket && strict::cdata_ends(&text) > 0 {
                        return Err(Fault::malformed(from, "`]]>` in text: write `]]&gt;`"));
                    }
                    self.characters(from, to)?;
                }
                Event::CData(text) => {
                    let (from, to) = self.span(&text);
                    self.cdata(from, to)?;
                }
                Event::GeneralRef(name) => self.reference(self.span(&name))?,
                Event::Comment(_) => {}
                Event::PI(pi) => {
                    let (at, _) = self.span(pi.target());
                    self.instruction(pi.target(), at)?;
                }
                Event::Decl(declaration) => {
                    let (at, _) = self.span(&declaration);
                    self.declaration(&declaration, at)?;
                }
                Event::DocType(doctype) => {
                    let (from, to) = self.span(&doctype);
                    self.doctype(from, to)?;
                }
                Event::Eof => return self.end(),
            }
        }
    }

    fn instruction(&self, target: &[u8], at: usize) -> Result<(), Fault> {
        if !strict::is_name(target) || target.eq_ignore_ascii_case(b"xml") {
            let message = "a processing instruction without a name";
            return Err(Fault::malformed(at, message));
        }
        if !self.layout.namespaces.is_empty() && target.contains(&b':') {
            let message = "a processing instruction whose name has a colon";
            return Err(Fault::malformed(at, message));
        }
        Ok(())
    }

    fn declaration(&self, content: &[u8], at: usize) -> Result<(), Fault> {
        match at == b"<?".len() {
            true => strict::declaration(content, at).map(drop),
            false => Err(Fault::malformed(at, "an XML declaration that is not first")),
        }
    }

    /// What stands between `<!DOCTYPE` and its `>`. One that only names a DTD changes nothing that can be known here.
    fn doctype(&mut self, from: usize, to: usize) -> Result<(), Fault> {
        if !self.layout.doctype {
            return Err(no_doctype(from));
        }
        let before = &self.text[..from];
        let blanks = before.iter().rev().take_while(|b| strict::is_blank(**b));
        let blanks = blanks.count();
        let whole = before[..from - blanks].ends_with(DOCTYPE) && blanks > 0;
        if self.rooted || std::mem::replace(&mut self.doctyped, true) {
            let message = "a document type declaration that is not before the root, or not alone";
            return Err(Fault::malformed(from, message));
        }
        let dtd = strict::names_dtd(&self.text[from..to]).filter(|_| whole);
        let colons = self.text[from..to]
            .iter()
            .take_while(|b| !strict::is_blank(**b));
        let colons = colons.filter(|b| **b == b':').count();
        let qualified = self.layout.namespaces.is_empty() || colons < 2;
        match dtd.filter(|_| qualified) {
            Some(true) => Ok(()),
            Some(false) => {
                let message = "a document type declaration with declarations of its own (`[…]`)";
                Err(Fault::new("doctype_not_allowed", from, message))
            }
            None => {
                let message = "expected <!DOCTYPE name>, with SYSTEM \"…\" or PUBLIC \"…\" \"…\"";
                Err(Fault::malformed(from, message))
            }
        }
    }

    fn end(&self) -> Result<(), Fault> {
        let at = self.text.len();
        match (self.depth, self.rooted) {
            (0, true) => Ok(()),
            (0, false) => Err(Fault::malformed(at, "no root element")),
            (n, _) => Err(Fault::malformed(
                at,
                format!("the message ends with {n} open elements"),
            )),
        }
    }

    /// Where a piece that an event borrowed lies in the message.
    #[inline]
    fn span(&self, piece: &[u8]) -> (usize, usize) {
        let from = piece
            .as_ptr()
            .addr()
            .wrapping_sub(self.text.as_ptr().addr());
        let from = from.min(self.text.len());
        (from, (from + piece.len()).min(self.text.len()))
    }

    /// One level down.
    #[inline]
    fn enter(&mut self, at: usize) -> Result<(), Fault> {
        if self.depth == 0 {
            if self.rooted {
                return Err(Fault::malformed(at, "a second root element"));
            }
            self.rooted = true;
        }
        if self.depth == self.layout.limits.depth {
            let most = self.layout.limits.depth;
            let message = format!("elements nested deeper than {most} (max-depth)");
            return Err(Fault::new("too_deep", at, message));
        }
        self.depth += 1;
        Ok(())
    }

    fn open(&mut self, name: (usize, usize), tag: (usize, usize)) -> Result<(), Fault> {
        if self.layout.needs_events {
            return self.open_full(name, tag);
        }
        let text = self.text;
        let qualified = &text[name.0..name.1];
        self.enter(name.0)?;
        let whole = self.step(qualified);
        // A wanted name was checked with the config; a prefix before it was not.
        let known = whole.is_some();
        let node = match whole {
            None if self.layout.local_names && qualified.contains(&b':') => {
                self.step(self.local(qualified))
            }
            whole => whole,
        };
        if !known && !strict::is_name(qualified) {
            let shown = weir_sdk::shown(qualified);
            return Err(Fault::malformed(
                name.0,
                format!("{shown} is no element name"),
            ));
        }
        match node {
            Some(node) => self.frames.push(node),
            None => self.unwanted += usize::from(self.in_row),
        }
        if tag.1 > name.1 {
            self.attributes(&text[name.1..tag.1], name.1, node)?;
        }
        Ok(())
    }

    #[inline]
    fn local<'n>(&self, qualified: &'n [u8]) -> &'n [u8] {
        match qualified.iter().position(|b| *b == b':') {
            Some(colon) if self.layout.local_names => &qualified[colon + 1..],
            _ => qualified,
        }
    }

    /// The node an element called `name` leads to, if a column wants it.
    #[inline]
    fn step(&mut self, name: &[u8]) -> Option<usize> {
        if !self.in_row {
            if name != self.layout.row_tag.as_slice() {
                return None;
            }
            self.in_row = true;
            self.row_elements += 1;
            self.rows.begin();
            return Some(0);
        }
        if self.unwanted > 0 {
            return None;
        }
        let layout = self.layout;
        let frame = self.frames.top();
        frame.has_child = true;
        let children = &layout.nodes[frame.node].children;
        let n = children.iter().position(|(n, _)| n == name)?;
        Some(children[n].1)
    }

    fn attributes(&mut self, tag: &'w [u8], base: usize, node: Option<usize>) -> Result<(), Fault> {
        let mut found = std::mem::take(&mut self.attributes);
        strict::attributes(tag, base, self.layout.limits.attributes, &mut found)?;
        let mut resolved = Vec::new();
        for (name, span) in found.drain(..) {
            let raw = &self.text[span.clone()];
            let declares = name == XMLNS || name.starts_with(b"xmlns:");
            if declares {
                self.namespaces += 1;
                if self.namespaces > self.layout.limits.namespaces {
                    let most = self.layout.limits.namespaces;
                    let message = format!("more than {most} namespaces declared (max-namespaces)");
                    return Err(Fault::new("too_many_namespaces", span.start, message));
                }
            }
            if raw.len() > self.layout.limits.text {
                return Err(self.too_long(span.start));
            }
            let plain = !raw.iter().any(|b| matches!(b, b'&' | b'\n' | b'\t'));
            let cell = if plain {
                Cell::Message(span.start as u32, span.end as u32)
            } else {
                let mut value = Vec::with_capacity(raw.len());
                strict::attribute_value(raw, span.start, &mut value)?;
                self.rows.keep(&value)
            };
            if self.layout.needs_events && !declares {
                self.attribute_full(name, node, cell, &mut resolved)?;
                continue;
            }
            let Some(node) = node else { continue };
            let local = if declares { name } else { self.local(name) };
            let layout = self.layout;
            for (wanted, column) in &layout.nodes[node].attributes {
                if wanted == local {
                    self.rows.set(layout, *column, cell, self.text);
                }
            }
        }
        self.attributes = found;
        Ok(())
    }

    fn too_long(&self, at: usize) -> Fault {
        let most = self.layout.limits.text;
        Fault::new(
            "text_too_long",
            at,
            format!("more than {most} bytes of text (max-text-bytes)"),
        )
    }

    fn cdata(&mut self, from: usize, to: usize) -> Result<(), Fault> {
        match self.depth {
            0 => Err(Fault::malformed(from, "CDATA outside the root element")),
            _ => self.characters(from, to),
        }
    }

    #[inline]
    fn characters(&mut self, from: usize, to: usize) -> Result<(), Fault> {
        let text = self.text;
        if self.depth == 0 && !text[from..to].iter().all(|b| strict::is_blank(*b)) {
            return Err(Fault::malformed(from, "text outside the root element"));
        }
        if to - from > self.layout.limits.text {
            return Err(self.too_long(from));
        }
        self.listeners(|frame| frame.add_piece(from, to, text));
        Ok(())
    }

    fn reference(&mut self, name: (usize, usize)) -> Result<(), Fault> {
        let text = self.text;
        let at = name.0.saturating_sub(1);
        if self.depth == 0 {
            return Err(Fault::malformed(at, "a reference outside the root element"));
        }
        let value = strict::reference(&text[name.0..name.1], at)?;
        let mut utf8 = [0; 4];
        let value = value.encode_utf8(&mut utf8).as_bytes();
        self.listeners(|frame| frame.add(value, text));
        let most = self.layout.limits.text;
        let open = &self.frames.list[..self.frames.depth];
        let inside = open.last().is_some_and(|frame| frame.buffer.len() > most);
        match inside || self.frames.outside.is_longer(most) {
            true => Err(self.too_long(at)),
            false => Ok(()),
        }
    }

    /// The open elements that take the text now read.
    #[inline]
    fn listeners(&mut self, mut add: impl FnMut(&mut Frame)) {
        let layout = self.layout;
        let open = &mut self.frames.list[..self.frames.depth];
        let takes = |f: &Frame| !layout.nodes[f.node].text.is_empty();
        let wildcard = layout.wildcard.is_some();
        if layout.mixed == Mixed::All && (!wildcard || open.iter().any(takes)) {
            open.iter_mut().filter(|f| takes(f)).for_each(&mut add);
        } else if self.unwanted == 0
            && let Some(top) = open.last_mut()
            && (takes(top) || wildcard)
        {
            add(top);
        }
        if !layout.above.is_empty() {
            self.frames.outside.text(layout, self.depth, add);
        }
    }

    fn close(&mut self, message: &mut Message<'_>) -> Result<(), Fault> {
        self.depth -= 1;
        if self.layout.needs_events {
            self.undeclare();
        }
        if self.unwanted > 0 {
            self.unwanted -= 1;
            return Ok(());
        }
        if !self.in_row {
            return match self.layout.above.is_empty() {
                true => Ok(()),
                false => self.close_above(),
            };
        }
        self.frames.depth -= 1;
        let layout = self.layout;
        if layout.needs_events {
            self.close_full()?;
        }
        let frame = &self.frames.list[self.frames.depth];
        let node = &layout.nodes[frame.node];
        if !node.text.is_empty() {
            self.end_text(self.frames.depth)?;
        }
        if node.explodes {
            self.rows.end_repetition(layout);
        }
        if self.frames.depth == 0 {
            self.in_row = false;
            self.rows.end(layout, message).map_err(|most| {
                let message = format!("more than {most} rows in one message (max-rows)");
                Fault::new("too_many_rows", 0, message)
            })?;
        }
        Ok(())
    }

    /// Gives the text of the frame at `depth` to its columns.
    #[inline]
    fn end_text(&mut self, depth: usize) -> Result<(), Fault> {
        let layout = self.layout;
        let frame = &self.frames.list[depth];
        let (cell, own) = match frame.text {
            Text::None => (Cell::Message(0, 0), &b""[..]),
            Text::Piece(from, to) => (Cell::Message(from as u32, to as u32), &self.text[from..to]),
            Text::Buffer => {
                if frame.buffer.len() > layout.limits.text {
                    return Err(self.too_long(0));
                }
                (self.rows.keep(&frame.buffer), frame.buffer.as_slice())
            }
        };
        let mixed = frame.has_child && layout.mixed == Mixed::Reject;
        let mixed = mixed && !strict::trim(own).is_empty();
        // With a text it is not valid by its schema; the text is not lost.
        let cell = match frame.nil && strict::trim(own).is_empty() {
            true => Cell::Nil,
            false => cell,
        };
        for &column in &layout.nodes[frame.node].text {
            if mixed {
                let path = &layout.columns[column].path;
                let message = format!("`{path}` holds both text and elements (mixed-content)");
                self.rows.refuse(layout, column, "mixed_content", &message);
            }
            self.rows.set(layout, column, cell, self.text);
        }
        Ok(())
    }
}

fn no_doctype(at: usize) -> Fault {
    Fault::new(
        "doctype_not_allowed",
        at,
        "a document type declaration is not allowed",
    )
}

fn syntax(text: &[u8], at: usize, error: &XmlError, doctype: bool) -> Fault {
    let rest = text.get(at..).unwrap_or_default();
    match rest.get(..DOCTYPE.len()) {
        Some(start) if !doctype && start.eq_ignore_ascii_case(DOCTYPE) => no_doctype(at),
        _ => Fault::malformed(at, weir_sdk::rejects::plain(&error.to_string())),
    }
}
