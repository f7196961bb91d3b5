//! Reads in full what the walk did not expect: attributes, references, CDATA, comments, processing instructions, new
//! names.
use memchr::{memchr_iter, memchr3_iter};

use super::Doubt;
use super::lanes::{Lanes, Source, WIDTH};
use super::shapes::{self, MANY, NONE};
use super::walk::{Step, Walk};
use crate::encoding::Encoding;
use crate::rows::Cell;
use crate::strict;

const COMMENT: &[u8] = b"<!--";
pub const CDATA: &[u8] = b"<![CDATA[";

const ENTITIES: [(&[u8], char); 5] = [
    (b"&amp;", '&'),
    (b"&lt;", '<'),
    (b"&gt;", '>'),
    (b"&quot;", '"'),
    (b"&apos;", '\''),
];

/// Where the value that begins at `at` meets its quote. `None`: the source ends first, or a control character stands in it.
#[inline]
fn value_end(source: Source<'_>, mut at: usize, quote: u8) -> Option<usize> {
    let quote = Lanes::splat(quote);
    loop {
        if at >= source.len() {
            return None;
        }
        let lanes = source.load(at);
        let ends = lanes.equal(quote).bits();
        let control = lanes.below_or_high(b' ').bits() & !lanes.bits();
        if control & (ends ^ ends.wrapping_sub(1)) != 0 {
            return None;
        }
        if ends != 0 {
            return Some(at + ends.trailing_zeros() as usize);
        }
        at += WIDTH;
    }
}

impl Walk<'_> {
    /// Reads what stands at the next entry of the index, inside element `current`.
    #[inline(never)]
    pub fn slow(&mut self, current: u32, expected: u32) -> Result<Step, Doubt> {
        let (bytes, from) = (self.source.bytes(), self.at);
        let at = self.index[self.next] as usize;
        if at - from > self.layout.limits.text || at == self.source.len() {
            return Err(Doubt);
        }
        let hears = self.shapes.get(current).hears;
        match (bytes[at], bytes[at + 1]) {
            (b'>', _) => {
                self.next += 1;
                return match bytes[..at].ends_with(b"]]") {
                    true => Err(Doubt),
                    false => Ok(Step::Passed),
                };
            }
            (b'&', _) => {
                if hears {
                    self.hear(from, at, false);
                }
                let (value, length) = self.reference(at, self.next).ok_or(Doubt)?;
                if hears {
                    self.hear_made(value.encode_utf8(&mut [0; 4]).as_bytes());
                }
                self.at = at + length;
                self.next += 1;
                return Ok(Step::Passed);
            }
            (_, b'/') => {
                if hears {
                    self.hear(from, at, false);
                }
                return self.end_tag(current, at);
            }
            (_, b'!' | b'?') => {
                if hears {
                    self.hear(from, at, false);
                }
            }
            _ => {
                if hears {
                    self.hear(from, at, true);
                }
                return self.tag(current, expected);
            }
        }
        if self.source.text()[at..].starts_with(CDATA) {
            let from = at + CDATA.len();
            let to = self.until(b"]]", from)?;
            if to - from > self.layout.limits.text {
                return Err(Doubt);
            }
            if hears {
                self.hear(from, to, false);
            }
            return Ok(Step::Passed);
        }
        self.comment_or_instruction(at)?;
        Ok(Step::Passed)
    }

    /// Goes behind the first `>` that has `before` right before it and begins at `from` or later: where `before` begins.
    pub fn until(&mut self, before: &[u8; 2], from: usize) -> Result<usize, Doubt> {
        let bytes = self.source.bytes();
        while let Some(&at) = self.index.get(self.next) {
            self.next += 1;
            let at = at as usize;
            if at == self.source.len() {
                break;
            }
            if bytes[at] == b'>'
                && at >= from + before.len()
                && bytes[at - before.len()..at] == *before
            {
                self.at = at + 1;
                return Ok(at - before.len());
            }
        }
        Err(Doubt)
    }

    /// Goes past the entries of the index before `at`, and on to it.
    fn go_to(&mut self, at: usize) {
        self.at = at;
        while (self.index[self.next] as usize) < at {
            self.next += 1;
        }
    }

    /// What `&…;` at `at`, which is entry `entry` of the index, stands for, and its length.
    #[inline]
    pub fn reference(&self, at: usize, entry: usize) -> Option<(char, usize)> {
        let text = self.source.text();
        for (name, value) in ENTITIES {
            if text.get(at..)?.starts_with(name) {
                return Some((value, name.len()));
            }
        }
        let end = self.index[entry + 1] as usize;
        let name = text.get(at + 1..end)?;
        let length = name.iter().position(|b| *b == b';')?;
        let value = strict::reference(&name[..length], at).ok()?;
        Some((value, length + "&;".len()))
    }

    fn end_tag(&mut self, current: u32, at: usize) -> Result<Step, Doubt> {
        let text = self.source.text();
        let rest = text[at..].strip_prefix(b"</").ok_or(Doubt)?;
        let rest = rest.strip_prefix(self.shapes.name(current)).ok_or(Doubt)?;
        let blanks = strict::blanks(rest, 0);
        if rest.get(blanks) != Some(&b'>') {
            return Err(Doubt);
        }
        self.go_to(text.len() - rest.len() + blanks + 1);
        if self.shapes.get(current).special {
            self.leave(current)?;
        }
        Ok(Step::Closed)
    }

    /// `<!--…-->` or `<?…?>`.
    fn comment_or_instruction(&mut self, at: usize) -> Result<(), Doubt> {
        let text = self.source.text();
        if let Some(comment) = text[at..].strip_prefix(COMMENT) {
            let dashes = memchr_iter(b'-', comment).find(|n| comment.get(n + 1) == Some(&b'-'));
            let end = dashes.ok_or(Doubt)? + "--".len();
            if comment.get(end) != Some(&b'>') {
                return Err(Doubt);
            }
            self.go_to(at + COMMENT.len() + end + 1);
            return Ok(());
        }
        let content = text[at..].strip_prefix(b"<?").ok_or(Doubt)?;
        let end = memchr_iter(b'>', content).find(|n| content[..*n].ends_with(b"?"));
        let end = end.ok_or(Doubt)?;
        let target = content[..end - 1]
            .split(|b| strict::is_blank(*b))
            .next()
            .unwrap_or_default();
        if !strict::is_name(target) || target.eq_ignore_ascii_case(b"xml") {
            return Err(Doubt);
        }
        self.go_to(at + "<?".len() + end + 1);
        Ok(())
    }

    /// Goes to the tag that comes next, or to the end: blanks, comments, instructions; first, a declaration.
    /// `declared` is one that was found to be right.
    pub fn outside(&mut self, declared: Option<&mut Vec<u8>>) -> Result<(), Doubt> {
        let text = self.source.text();
        if let Some(known) = declared
            && let Some(content) = text.strip_prefix(b"<?xml")
            && content.first().is_some_and(|b| strict::is_blank(*b))
        {
            if !known.is_empty() && text.starts_with(known) {
                self.go_to(known.len());
            } else {
                let end = memchr_iter(b'>', content).find(|n| content[..*n].ends_with(b"?"));
                let end = "<?xml".len() + end.ok_or(Doubt)?;
                // Bytes of another encoding may pass for UTF-8: only the other reader decodes.
                match strict::declaration(&text[2..end - 1], 2) {
                    Ok(Encoding::Utf8) => {}
                    _ => return Err(Doubt),
                }
                known.clear();
                known.extend_from_slice(&text[..=end]);
                self.go_to(end + 1);
            }
        }
        loop {
            let at = self.index[self.next] as usize;
            if !text[self.at..at].iter().all(|b| strict::is_blank(*b))
                || at - self.at > self.layout.limits.text
            {
                return Err(Doubt);
            }
            self.at = at;
            match (text.get(at), text.get(at + 1)) {
                (None, _) => return Ok(()),
                (Some(b'<'), Some(b'!' | b'?')) => self.comment_or_instruction(at)?,
                (Some(b'<'), _) => return Ok(()),
                _ => return Err(Doubt),
            }
        }
    }

    /// The start tag at the next entry of the index, inside `parent`.
    pub fn tag(&mut self, parent: u32, expected: u32) -> Result<Step, Doubt> {
        let at = self.index[self.next] as usize;
        if self.source.text().get(at) != Some(&b'<') {
            return Err(Doubt);
        }
        let mut shape = NONE;
        if expected != NONE {
            // All but the `>`: the expected name, with attributes or an end.
            let open = &self.shapes.get(expected).open;
            if open.len <= WIDTH && open.differs(self.source, at) == 1 << (open.len - 1) {
                shape = expected;
            }
        }
        let bytes = self.source.bytes();
        let ends = |b: u8| strict::is_blank(b) || b == b'/' || b == b'>';
        if shape == NONE || !ends(bytes[at + self.shapes.get(shape).open.len - 1]) {
            let name = &self.source.text()[at + 1..];
            let length = name.iter().position(|b| ends(*b)).ok_or(Doubt)?;
            shape = self
                .shapes
                .child(parent, &name[..length], self.layout)
                .ok_or(Doubt)?;
        }
        let from = at + self.shapes.get(shape).open.len - 1;
        if from >= self.source.len() {
            return Err(Doubt);
        }
        let empty = match bytes[from] {
            b'>' => {
                self.at = from + 1;
                self.next += 2;
                false
            }
            b'/' if bytes[from + 1] == b'>' => {
                self.at = from + 2;
                self.next += 2;
                true
            }
            _ => match self.known_attributes(shape, from, self.next)? {
                Some(empty) => empty,
                None => self.attributes(shape, from)?,
            },
        };
        if self.at > self.source.len() {
            return Err(Doubt);
        }
        if !empty {
            return Ok(Step::Opened(shape));
        }
        self.nothing_in(shape)?;
        Ok(Step::Empty(shape))
    }

    /// Attributes that came before, without blanks to normalise, in the tag that is entry `entry` of the index: whether
    /// the element is empty, or nothing if it is not as simple as that.
    pub fn known_attributes(
        &mut self,
        shape: u32,
        from: usize,
        entry: usize,
    ) -> Result<Option<bool>, Doubt> {
        let (source, bytes, len) = (self.source, self.source.bytes(), self.source.len());
        let known = &self.shapes.get(shape).attributes;
        let (mut at, mut entry, mut expected, mut seen) = (from, entry + 1, 0, 0u32);
        self.values.clear();
        let empty = loop {
            if at >= len {
                return Ok(None);
            }
            let ends = |b: u8| strict::is_blank(b) || b == b'/' || b == b'>';
            while at < len && strict::is_blank(bytes[at]) && ends(bytes[at + 1]) {
                at += 1;
            }
            match bytes[at] {
                b'>' => break false,
                b'/' if bytes[at + 1] == b'>' => break true,
                _ => {}
            }
            let stands = |n: &usize| self.shapes.stands(&known[*n].opening, source, at);
            let Some(here) = (expected..known.len()).chain(0..expected).find(stands) else {
                return Ok(None);
            };
            let attribute = &known[here];
            let bit = 1 << attribute.first;
            if attribute.column == MANY || seen & bit != 0 {
                return Ok(None);
            }
            seen |= bit;
            expected = here + 1;
            let from = at + attribute.opening.len;
            let Some(end) = value_end(source, from, attribute.quote) else {
                return Ok(None);
            };
            at = end;
            if at >= len {
                return Ok(None);
            }
            let mut refers = false;
            while (self.index[entry] as usize) < at {
                match bytes[self.index[entry] as usize] {
                    b'&' => refers = true,
                    b'>' => {}
                    _ => return Ok(None),
                }
                entry += 1;
            }
            self.values.push((here, from, at, refers));
            at += 1;
        };
        let close = at + usize::from(empty);
        if self.index[entry] as usize != close
            || close >= len
            || self.values.len() > self.layout.limits.attributes
        {
            return Ok(None);
        }
        self.take_values(shape)?;
        self.at = close + 1;
        self.next = entry + 1;
        Ok(Some(empty))
    }

    /// The values that `known_attributes` found become cells.
    #[inline]
    fn take_values(&mut self, shape: u32) -> Result<(), Doubt> {
        let bytes = self.source.bytes();
        for value in 0..self.values.len() {
            let (n, from, to, refers) = self.values[value];
            let attribute = &self.shapes.get(shape).attributes[n];
            let column = attribute.column;
            if attribute.declares {
                self.declare()?;
            }
            if to - from > self.layout.limits.text {
                return Err(Doubt);
            }
            let mut cell = Cell::Message(from as u32, to as u32);
            if refers {
                let mut value = Vec::with_capacity(to - from);
                strict::attribute_value(&bytes[from..to], from, &mut value).map_err(|_| Doubt)?;
                cell = self.rows.keep(&value);
            }
            match column {
                NONE => {}
                column => self.set_one(column as usize, cell),
            }
        }
        Ok(())
    }

    fn declare(&mut self) -> Result<(), Doubt> {
        self.namespaces += 1;
        match self.namespaces > self.layout.limits.namespaces {
            true => Err(Doubt),
            false => Ok(()),
        }
    }

    /// Any attributes.
    fn attributes(&mut self, shape: u32, from: usize) -> Result<bool, Doubt> {
        let (text, layout) = (self.source.text(), self.layout);
        let close = from + tag_length(&text[from..]).ok_or(Doubt)?;
        let empty = text[close - 1] == b'/';
        let tag = &text[from..close - usize::from(empty)];
        let mut found = Vec::new();
        strict::attributes(tag, from, layout.limits.attributes, &mut found).map_err(|_| Doubt)?;
        for (name, span) in &found {
            let raw = &text[span.clone()];
            let declares = shapes::declares(name);
            if declares {
                self.declare()?;
            }
            if raw.len() > layout.limits.text {
                return Err(Doubt);
            }
            let cell = match raw.iter().any(|b| matches!(b, b'&' | b'\n' | b'\t')) {
                false => Cell::Message(span.start as u32, span.end as u32),
                true => {
                    let mut value = Vec::with_capacity(raw.len());
                    strict::attribute_value(raw, span.start, &mut value).map_err(|_| Doubt)?;
                    self.rows.keep(&value)
                }
            };
            let Some(node) = layout.nodes.get(self.shapes.get(shape).node as usize) else {
                continue;
            };
            let wanted = if declares {
                name
            } else {
                shapes::local(name, layout)
            };
            for (_, column) in node.attributes.iter().filter(|(n, _)| n == wanted) {
                self.rows.set(layout, *column, cell, text);
            }
        }
        self.shapes.learn(shape, &found, text, layout);
        self.go_to(close + 1);
        Ok(empty)
    }
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
