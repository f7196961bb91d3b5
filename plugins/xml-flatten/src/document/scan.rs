//! The reader for messages as they mostly are: a tokenizer of our own, several times as fast as events. It can only say
//! yes. Whatever it is not sure of (a fault, a limit, a form it does not know) is a `Doubt`: then the event reader reads
//! the message from its first byte and has the last word, so there is one judge and one wording of every fault.
use memchr::{memchr_iter, memchr2, memchr3, memchr3_iter};

use super::{Fault, Mixed, Walk};
use crate::rows::{Cell, Message};
use crate::strict;

/// The event reader is to decide.
#[derive(Debug)]
pub struct Doubt;

impl From<Fault> for Doubt {
    fn from(_: Fault) -> Self {
        Self
    }
}

impl Walk<'_> {
    pub fn scan(&mut self, message: &mut Message<'_>) -> Result<(), Doubt> {
        let text = self.text;
        let mut at = 0;
        while let Some(length) = memchr2(b'<', b'&', &text[at..]) {
            let from = at;
            at += length;
            if length > 0 {
                self.characters(from, at)?;
            }
            at = match (text[at], text.get(at + 1)) {
                (b'&', _) => self.scan_reference(at + 1)?,
                (_, Some(b'/')) => self.scan_end(at + 2, message)?,
                (_, Some(b'!')) => self.scan_bang(at)?,
                (_, Some(b'?')) => self.scan_instruction(at)?,
                _ => self.scan_start(at + 1, message)?,
            };
        }
        if at < text.len() {
            self.characters(at, text.len())?;
        }
        // One ends each CDATA section; another might stand in text, where it may not.
        if self.found.bracket && strict::cdata_ends(text) != self.sections {
            return Err(Doubt);
        }
        Ok(self.end()?)
    }

    /// `<name …>`, and where the next token begins. A wanted element that holds text alone is read to its end.
    fn scan_start(&mut self, at: usize, message: &mut Message<'_>) -> Result<usize, Doubt> {
        let text = self.text;
        let expected = self.expected(&text[at..]);
        let name_end = at + expected.map_or_else(|| name_length(&text[at..]), |(length, _)| length);
        let close = match text.get(name_end) {
            Some(b'>') => name_end,
            _ => name_end + tag_length(&text[name_end..]).ok_or(Doubt)?,
        };
        let empty = text[close - 1] == b'/';
        let tag_end = close - usize::from(empty);
        if let Some((_, node)) = expected {
            self.enter(at)?;
            let top = self.frames.top();
            top.has_child = true;
            top.next += 1;
            if tag_end > name_end {
                self.attributes(&text[name_end..tag_end], name_end, Some(node))?;
            }
            if !empty && let Some(next) = self.leaf((at, name_end), node, close + 1) {
                return Ok(next);
            }
            self.frames.push(node);
        } else {
            self.open((at, name_end), (at, tag_end))?;
        }
        match empty {
            true => self.close(message)?,
            false => self.frames.names.push((at, name_end)),
        }
        Ok(close + 1)
    }

    /// The element that comes next if this row is like the last: the length of its name, and its node.
    #[inline]
    fn expected(&mut self, tag: &[u8]) -> Option<(usize, usize)> {
        if !self.in_row || self.unwanted > 0 {
            return None;
        }
        let layout = self.layout;
        let top = self.frames.top();
        let (name, node) = layout.nodes[top.node].children.get(top.next)?;
        let after = *tag.get(name.len())?;
        let same = matches!(after, b'>' | b'/' | b' ' | b'\n' | b'\t') && begins(tag, name);
        same.then_some((name.len(), *node))
    }

    /// Reads `text</name>` whole: where the next token begins, or nothing if more than that is there.
    #[inline]
    fn leaf(&mut self, name: (usize, usize), node: usize, from: usize) -> Option<usize> {
        let (text, layout) = (self.text, self.layout);
        let node = &layout.nodes[node];
        if node.text.is_empty() || node.explodes || layout.mixed == Mixed::All {
            return None;
        }
        let length = memchr2(b'<', b'&', &text[from..])?;
        let to = from + length;
        let end_tag = text[to..].strip_prefix(b"</")?;
        let name = &text[name.0..name.1];
        let whole = begins(end_tag, name) && end_tag.get(name.len()) == Some(&b'>');
        if !whole || length > layout.limits.text {
            return None;
        }
        for &column in &node.text {
            let cell = Cell::Message(from as u32, to as u32);
            self.rows.set(layout, column, cell, text);
        }
        self.depth -= 1;
        Some(to + "</>".len() + name.len())
    }

    fn scan_end(&mut self, at: usize, message: &mut Message<'_>) -> Result<usize, Doubt> {
        let (from, to) = self.frames.names.pop().ok_or(Doubt)?;
        let rest = &self.text[at..];
        let name = &self.text[from..to];
        if !begins(rest, name) {
            return Err(Doubt);
        }
        let rest = &rest[name.len()..];
        let blanks = strict::blanks(rest, 0);
        if rest.get(blanks) != Some(&b'>') {
            return Err(Doubt);
        }
        self.close(message)?;
        Ok(at + name.len() + blanks + 1)
    }

    fn scan_reference(&mut self, at: usize) -> Result<usize, Doubt> {
        let rest = &self.text[at..];
        let length = memchr3(b';', b'&', b'<', rest).ok_or(Doubt)?;
        if rest[length] != b';' {
            return Err(Doubt);
        }
        self.reference((at, at + length))?;
        Ok(at + length + 1)
    }

    /// A comment or CDATA.
    fn scan_bang(&mut self, at: usize) -> Result<usize, Doubt> {
        let rest = &self.text[at..];
        if let Some(comment) = rest.strip_prefix(b"<!--") {
            let dashes = memchr_iter(b'-', comment).find(|n| comment.get(n + 1) == Some(&b'-'));
            let end = dashes.ok_or(Doubt)? + "--".len();
            return match comment.get(end) {
                Some(b'>') => Ok(at + "<!--".len() + end + 1),
                _ => Err(Doubt),
            };
        }
        let data = rest.strip_prefix(b"<![CDATA[").ok_or(Doubt)?;
        let end = memchr_iter(b'>', data).find(|n| data[..*n].ends_with(b"]]"));
        let end = end.ok_or(Doubt)?;
        let from = at + "<![CDATA[".len();
        self.cdata(from, from + end - "]]".len())?;
        Ok(from + end + 1)
    }

    /// A processing instruction or the declaration.
    fn scan_instruction(&mut self, at: usize) -> Result<usize, Doubt> {
        let from = at + "<?".len();
        let rest = &self.text[from..];
        let end = memchr_iter(b'>', rest).find(|n| rest[..*n].ends_with(b"?"));
        let end = end.ok_or(Doubt)?;
        let content = &rest[..end - 1];
        match content.strip_prefix(b"xml") {
            Some([]) => return Err(Doubt),
            Some([blank, ..]) if strict::is_blank(*blank) => self.declaration(content, from)?,
            _ => {
                let target = content.split(|b| strict::is_blank(*b)).next();
                self.instruction(target.unwrap_or_default(), from)?;
            }
        }
        Ok(from + end + 1)
    }
}

/// Bytes up to what ends an element's name.
fn name_length(tag: &[u8]) -> usize {
    let ends = |b: &u8| matches!(b, b'>' | b'/' | b' ' | b'\n' | b'\t');
    tag.iter().position(ends).unwrap_or(tag.len())
}

/// Bytes up to the `>` that ends a tag: one outside quotes.
fn tag_length(tag: &[u8]) -> Option<usize> {
    let mut open = None;
    memchr3_iter(b'>', b'\'', b'"', tag).find(|n| {
        match (open, tag[*n]) {
            (None, b'>') => return true,
            (None, quote) => open = Some(quote),
            (Some(quote), b) if b == quote => open = None,
            _ => {}
        }
        false
    })
}

/// `starts_with` for names, in words: in WebAssembly the library's is a loop over bytes.
#[inline]
pub fn begins(text: &[u8], name: &[u8]) -> bool {
    let Some(text) = text.get(..name.len()) else {
        return false;
    };
    if let (Some(a), Some(b)) = (text.first_chunk::<8>(), name.first_chunk::<8>()) {
        let ends = text.last_chunk::<8>() == name.last_chunk::<8>();
        return a == b && ends && (name.len() <= 16 || text == name);
    }
    if let (Some(a), Some(b)) = (text.first_chunk::<4>(), name.first_chunk::<4>()) {
        return a == b && text.last_chunk::<4>() == name.last_chunk::<4>();
    }
    text.iter().zip(name).all(|(a, b)| a == b)
}
