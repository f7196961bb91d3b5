//! Columns from above the row: attributes of the elements around it, and what came in them before it. Each open element
//! outside of a row may turn out to be around one, so values are kept for each of them until it ends.
use super::full::Name;
use super::{Frame, Mixed, Text, Walk};
use crate::plan::{Above, Layout, Repeat};
use crate::rows::Cell;
use crate::strict::{self, Fault};

/// What is kept of the open elements outside of rows, from message to message for its buffers only.
#[derive(Debug, Default)]
pub struct Outside {
    /// For each open element and column: bit n is set if the n first steps of the column's path end here.
    ends: Vec<u64>,
    /// For each open element and column: what a row in it gets.
    slots: Vec<Slot>,
    /// Open elements whose text a column takes.
    texts: Vec<Listening>,
    /// Values that are not in the message in one piece.
    buffer: Vec<u8>,
    /// A name as it is compared.
    key: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Slot {
    value: Option<Value>,
    /// Another value came where `repeat` is `reject`.
    again: bool,
    /// A row has taken what was there.
    used: bool,
    /// A row has taken `value`.
    taken: bool,
    /// Values that `first` or `last` dropped.
    dropped: u64,
}

#[derive(Debug, Clone, Copy)]
struct Value {
    /// In the message, or in `buffer`.
    buffered: bool,
    from: usize,
    to: usize,
    /// Text beside elements, which `mixed-content` refuses.
    mixed: bool,
    /// The element says that it has none (`xsi:nil`).
    nil: bool,
}

#[derive(Debug)]
struct Listening {
    /// Open elements, its own among them.
    depth: usize,
    /// Where it begins in the message.
    at: usize,
    frame: Frame,
}

impl Outside {
    pub fn clear(&mut self) {
        self.ends.clear();
        self.slots.clear();
        self.texts.clear();
        self.buffer.clear();
    }

    /// Gives text, read `depth` elements deep, to the columns that take it.
    pub fn text(&mut self, layout: &Layout, depth: usize, mut add: impl FnMut(&mut Frame)) {
        let all = layout.mixed == Mixed::All;
        for listening in self.texts.iter_mut().rev() {
            // One that is too long already is refused when it ends, if not before.
            let fits = listening.frame.buffer.len() <= layout.limits.text;
            if fits && (all || listening.depth == depth) {
                add(&mut listening.frame);
            }
        }
    }

    /// `xsi:nil` says that the element number `depth` has no value.
    pub fn nil(&mut self, depth: usize) {
        let listening = self.texts.last_mut();
        if let Some(listening) = listening.filter(|listening| listening.depth == depth) {
            listening.frame.nil = true;
        }
    }

    pub fn is_longer(&self, most: usize) -> bool {
        let last = self.texts.last();
        last.is_some_and(|listening| listening.frame.buffer.len() > most)
    }

    /// Whether the path of the column, the `n`-th of `above`, ends at the open element number `depth`.
    fn is_end(&self, above: &Above, n: usize, depth: usize, width: usize) -> bool {
        let bits = self.ends.get((depth - 1) * width + n);
        bits.is_some_and(|bits| bits >> above.steps.len() & 1 == 1)
    }
}

impl Walk<'_> {
    /// An element outside of rows begins, or a row. `local` is its name without a prefix, where that alone may match too.
    pub(super) fn open_above(&mut self, name: Name<'_>, local: Option<&[u8]>, at: usize) {
        let layout = self.layout;
        let width = layout.above.len();
        if width == 0 {
            return;
        }
        if let Some(around) = self.frames.outside.texts.last_mut()
            && around.depth + 1 == self.depth
        {
            around.frame.has_child = true;
        }
        if self.in_row {
            return self.row_above();
        }
        let mut key = std::mem::take(&mut self.frames.outside.key);
        let named = self.key(name, &mut key);
        let outside = &mut self.frames.outside;
        let parent = outside.ends.len().checked_sub(width);
        let mut listens = false;
        for (n, above) in layout.above.iter().enumerate() {
            let before = parent.map_or(0, |from| outside.ends[from + n]);
            let mut bits = 1;
            for (step, name) in above.steps.iter().enumerate() {
                if before >> step & 1 == 0 || !named {
                    continue;
                }
                if *name == key || local.is_some_and(|local| name == local) {
                    bits |= 1 << (step + 1);
                }
            }
            let ends = bits >> above.steps.len() & 1 == 1;
            listens |= ends && above.attribute.is_none();
            outside.ends.push(bits);
            outside.slots.push(Slot::default());
        }
        if listens {
            outside.texts.push(Listening {
                depth: self.depth,
                at,
                frame: Frame::default(),
            });
        }
        outside.key = key;
    }

    /// A row begins: it gets what came before it.
    fn row_above(&mut self) {
        let layout = self.layout;
        let width = layout.above.len();
        for (n, above) in layout.above.iter().enumerate() {
            let outside = &mut self.frames.outside;
            let slot = (self.depth - 1)
                .checked_sub(above.up)
                .and_then(|from| outside.slots.get_mut(from * width + n));
            let Some(slot) = slot else { continue };
            slot.used = true;
            slot.taken = true;
            let Some(value) = slot.value else { continue };
            let column = &layout.columns[above.column];
            let (path, name) = (&column.path, &column.name);
            if slot.again {
                let message = format!(
                    "`{path}` comes more than once before the row; set repeat.{name} to first or last"
                );
                let refuse = "repeated_element";
                self.rows.refuse(layout, above.column, refuse, &message);
            }
            if value.mixed {
                let message = format!("`{path}` holds both text and elements (mixed-content)");
                let refuse = "mixed_content";
                self.rows.refuse(layout, above.column, refuse, &message);
            }
            let cell = match value.buffered {
                _ if value.nil => Cell::Nil,
                true => self.rows.keep(&outside.buffer[value.from..value.to]),
                false => Cell::Message(value.from as u32, value.to as u32),
            };
            self.rows.set(layout, above.column, cell, self.text);
        }
    }

    /// An attribute of the element that was just opened outside of rows.
    pub(super) fn attribute_above(
        &mut self,
        name: Name<'_>,
        cell: Cell,
        at: usize,
    ) -> Result<(), Fault> {
        let layout = self.layout;
        let width = layout.above.len();
        let mut key = std::mem::take(&mut self.frames.outside.key);
        let named = self.key(name, &mut key);
        let mut value = None;
        for (n, above) in layout.above.iter().enumerate() {
            let wanted = named && above.attribute.as_ref() == Some(&key);
            if !wanted || !self.frames.outside.is_end(above, n, self.depth, width) {
                continue;
            }
            let value = *value.get_or_insert_with(|| match cell {
                Cell::Missing | Cell::Nil => self.frames.outside.keep(b""),
                Cell::Message(from, to) => Value {
                    buffered: false,
                    from: from as usize,
                    to: to as usize,
                    mixed: false,
                    nil: false,
                },
                Cell::Scratch(from, to) => {
                    let (rows, outside) = (&self.rows, &mut self.frames.outside);
                    outside.keep(&rows.scratch[from as usize..to as usize])
                }
            });
            self.found_above(n, self.depth, value, at)?;
        }
        self.frames.outside.key = key;
        Ok(())
    }

    /// The element number `self.depth + 1`, outside of rows, has ended.
    pub(super) fn close_above(&mut self) -> Result<(), Fault> {
        let layout = self.layout;
        let width = layout.above.len();
        let depth = self.depth + 1;
        let texts = &mut self.frames.outside.texts;
        if let Some(ended) = texts.pop_if(|listening| listening.depth == depth) {
            let frame = &ended.frame;
            let (buffered, from, to, own) = match frame.text {
                Text::None => (false, 0, 0, &b""[..]),
                Text::Piece(from, to) => (false, from, to, &self.text[from..to]),
                Text::Buffer => (true, 0, 0, frame.buffer.as_slice()),
            };
            if own.len() > layout.limits.text {
                return Err(self.too_long(ended.at));
            }
            let mixed = frame.has_child && layout.mixed == Mixed::Reject;
            let mixed = mixed && !strict::trim(own).is_empty();
            let nil = frame.nil && strict::trim(own).is_empty();
            let mut value = match buffered {
                true => self.frames.outside.keep(own),
                false => Value {
                    buffered,
                    from,
                    to,
                    mixed,
                    nil,
                },
            };
            value.mixed = mixed;
            value.nil = nil;
            for (n, above) in layout.above.iter().enumerate() {
                let of_text = above.attribute.is_none();
                if of_text && self.frames.outside.is_end(above, n, depth, width) {
                    self.found_above(n, depth, value, ended.at)?;
                }
            }
        }
        let outside = &mut self.frames.outside;
        let ended = outside.slots.drain(self.depth * width..);
        // What belongs to no row is not dropped from any.
        for (slot, above) in ended.zip(&layout.above).filter(|(slot, _)| slot.used) {
            let last = layout.columns[above.column].repeat == Repeat::Last;
            let late = last && slot.value.is_some() && !slot.taken;
            self.rows.repeats_dropped += slot.dropped + u64::from(late);
        }
        outside.ends.truncate(self.depth * width);
        Ok(())
    }

    /// A value of the `n`-th column of `above`, at the open element number `depth`.
    fn found_above(
        &mut self,
        n: usize,
        depth: usize,
        value: Value,
        at: usize,
    ) -> Result<(), Fault> {
        let layout = self.layout;
        let above = &layout.above[n];
        let column = &layout.columns[above.column];
        // The element where the path begins.
        let from = depth - 1 - above.steps.len();
        let slots = &mut self.frames.outside.slots;
        let Some(slot) = slots.get_mut(from * layout.above.len() + n) else {
            return Ok(());
        };
        let first = slot.value.is_none();
        match column.repeat {
            Repeat::Last => {
                slot.dropped += u64::from(!first && !slot.taken);
                slot.value = Some(value);
                slot.taken = false;
            }
            Repeat::First if !first => slot.dropped += 1,
            _ if slot.used => {
                let (path, name) = (&column.path, &column.name);
                let message = format!(
                    "`{path}` comes after a row that it belongs to; set repeat.{name} to last if each row gets what \
                     came before it"
                );
                return Err(Fault::new("late_value", at, message));
            }
            _ if first => slot.value = Some(value),
            _ => slot.again = true,
        }
        Ok(())
    }
}

impl Outside {
    /// Keeps text that is not in the message in one piece.
    fn keep(&mut self, text: &[u8]) -> Value {
        let from = self.buffer.len();
        self.buffer.extend_from_slice(text);
        Value {
            buffered: true,
            from,
            to: self.buffer.len(),
            mixed: false,
            nil: false,
        }
    }
}
