//! The row being read: its cells, and how a finished row becomes output rows or refusals.
use weir_sdk::builder::Builder;
use weir_sdk::{Refusal, Refused, Rejects, Type, shown};

use crate::plan::{Layout, Repeat};
use crate::rest::Rest;
use crate::strict;

/// Where the text of a cell lies.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Cell {
    #[default]
    Missing,
    /// It is there, and says that it has no value (`xsi:nil`).
    Nil,
    /// In the message, as it came.
    Message(u32, u32),
    /// In `Rows::scratch`: text that had to be put together.
    Scratch(u32, u32),
}

/// The output of one batch.
#[derive(Debug, Default)]
pub struct Rows {
    pub builders: Vec<Builder>,
    pub origin: Vec<u32>,
    pub rejects: Rejects,
    /// Values dropped by `repeat = first` or `last`.
    pub repeats_dropped: u64,
    pub cells: Vec<Cell>,
    /// The open JSON arrays, one for each column.
    json: Vec<String>,
    /// One entry of `cells` for each repetition of the exploded element.
    groups: Vec<Cell>,
    /// Pieces this row has become whole.
    repetitions: usize,
    pub scratch: Vec<u8>,
    /// What the wildcard takes.
    pub rest: Rest,
    /// What is known against the row, and against its pieces.
    refused: Refused,
}

/// How far the output was when a message began: what to cut back to if its end is broken.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    rows: usize,
    rejects: usize,
    repeats_dropped: u64,
}

/// A message, and how many rows it has become.
#[derive(Debug)]
pub struct Message<'a> {
    pub row: usize,
    pub text: &'a [u8],
    pub pieces: usize,
}

impl Rows {
    pub fn new(layout: &Layout) -> Self {
        Self {
            builders: layout.columns.iter().map(|c| c.kind.builder()).collect(),
            cells: vec![Cell::Missing; layout.columns.len()],
            json: vec![String::new(); layout.columns.len()],
            ..Self::default()
        }
    }

    pub fn mark(&self) -> Mark {
        let (rows, rejects) = (self.origin.len(), self.rejects.len());
        Mark {
            rows,
            rejects,
            repeats_dropped: self.repeats_dropped,
        }
    }

    /// Forgets everything since `mark`.
    pub fn cut_back(&mut self, mark: Mark) {
        self.truncate(mark.rows);
        self.rejects.truncate(mark.rejects);
        self.repeats_dropped = mark.repeats_dropped;
    }

    pub fn truncate(&mut self, rows: usize) {
        self.origin.truncate(rows);
        for builder in &mut self.builders {
            builder.truncate(rows);
        }
    }

    pub fn begin(&mut self) {
        self.cells.fill(Cell::Missing);
        self.json.iter_mut().for_each(String::clear);
        self.groups.clear();
        self.repetitions = 0;
        self.scratch.clear();
        self.refused.clear();
        self.rest.begin();
    }

    /// Nothing is known against the row, and it is one piece.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.refused.is_empty() && self.repetitions == 0
    }

    /// Keeps text that is not in the message in one piece.
    pub fn keep(&mut self, text: &[u8]) -> Cell {
        let from = self.scratch.len();
        self.scratch.extend_from_slice(text);
        Cell::Scratch(from as u32, self.scratch.len() as u32)
    }

    /// Refuses what column `n` belongs to: the open repetition, or the whole row. One reason of a kind is enough.
    #[cold]
    pub fn refuse(&mut self, layout: &Layout, n: usize, code: &'static str, message: &str) {
        let name = &layout.columns[n].name;
        let piece = layout.exploded.contains(&n).then_some(self.repetitions);
        let same = |why: &Refusal| why.code == code && why.field.as_deref() == Some(name);
        if !self.refused.of(piece).any(same) {
            self.refused
                .add(piece, Refusal::of_field(code, name, message));
        }
    }

    /// One value of column `n`; what a second one means is the column's `repeat`.
    #[inline]
    pub fn set(&mut self, layout: &Layout, n: usize, cell: Cell, message: &[u8]) {
        let column = &layout.columns[n];
        match (column.repeat, self.cells[n]) {
            (Repeat::Json, _) => self.append_json(layout, n, cell, message),
            (_, Cell::Missing) => self.cells[n] = cell,
            (Repeat::First, _) => self.repeats_dropped += 1,
            (Repeat::Last, _) => {
                self.repeats_dropped += 1;
                self.cells[n] = cell;
            }
            (Repeat::Reject | Repeat::Explode, _) => {
                let (path, name) = (&column.path, &column.name);
                let message = format!(
                    "`{path}` comes more than once in a row; set repeat.{name} to first, last, json or explode"
                );
                self.refuse(layout, n, "repeated_element", &message);
            }
        }
    }

    fn append_json(&mut self, layout: &Layout, n: usize, cell: Cell, message: &[u8]) {
        let mut json = std::mem::take(&mut self.json[n]);
        json.push(if json.is_empty() { '[' } else { ',' });
        let text = self.text(cell, message);
        let text = if layout.trim {
            strict::trim(text)
        } else {
            text
        };
        match cell {
            Cell::Nil => json.push_str("null"),
            _ => weir_sdk::json::quote(&String::from_utf8_lossy(text), &mut json),
        }
        self.json[n] = json;
    }

    /// Turns the array of column `n`, if it has one, into its cell.
    fn close_json(&mut self, n: usize) {
        if !self.json[n].is_empty() {
            let mut json = std::mem::take(&mut self.json[n]);
            json.push(']');
            self.cells[n] = self.keep(json.as_bytes());
            json.clear();
            self.json[n] = json;
        }
    }

    #[inline]
    pub fn text<'a>(&'a self, cell: Cell, message: &'a [u8]) -> &'a [u8] {
        match cell {
            Cell::Missing | Cell::Nil => b"",
            Cell::Message(from, to) => &message[from as usize..to as usize],
            Cell::Scratch(from, to) => &self.scratch[from as usize..to as usize],
        }
    }

    /// Keeps what no column took for the wildcard. Whether there is room.
    #[must_use]
    pub fn leave_over(
        &mut self,
        layout: &Layout,
        path: &[u8],
        cell: Cell,
        message: &[u8],
        order: u32,
    ) -> bool {
        let text = match cell {
            Cell::Missing | Cell::Nil => b"",
            Cell::Message(from, to) => &message[from as usize..to as usize],
            Cell::Scratch(from, to) => &self.scratch[from as usize..to as usize],
        };
        let text = if layout.trim {
            strict::trim(text)
        } else {
            text
        };
        self.rest.add(path, text, order, layout.limits.text)
    }

    /// The wildcard of one piece.
    #[cold]
    fn left_over(&mut self, n: usize, repetition: usize) -> Cell {
        let mut json = std::mem::take(&mut self.json[n]);
        self.rest.object(repetition, &mut json);
        let cell = match json.is_empty() {
            true => Cell::Missing,
            false => self.keep(json.as_bytes()),
        };
        json.clear();
        self.json[n] = json;
        cell
    }

    /// The exploded element has ended: its cells are one piece.
    pub fn end_repetition(&mut self, layout: &Layout) {
        for &n in &layout.exploded {
            self.close_json(n);
            self.groups.push(std::mem::take(&mut self.cells[n]));
        }
        if layout.wildcard.is_some() {
            self.rest.end_repetition();
        }
        self.repetitions += 1;
    }

    /// The row has ended: one output row, or one for each repetition of the exploded element.
    pub fn end(&mut self, layout: &Layout, message: &mut Message<'_>) -> Result<(), usize> {
        for n in 0..self.json.len() {
            self.close_json(n);
        }
        for repetition in 0..self.repetitions.max(1) {
            if message.pieces == layout.limits.rows {
                return Err(layout.limits.rows);
            }
            if self.repetitions > 0 {
                let width = layout.exploded.len();
                for (k, &n) in layout.exploded.iter().enumerate() {
                    self.cells[n] = self.groups[repetition * width + k];
                }
            }
            let kept = self.scratch.len();
            if let Some(n) = layout.wildcard {
                self.cells[n] = self.left_over(n, repetition);
            }
            self.piece(layout, repetition, message);
            self.scratch.truncate(kept);
            message.pieces += 1;
        }
        Ok(())
    }

    fn piece(&mut self, layout: &Layout, repetition: usize, message: &Message<'_>) {
        let rows = self.origin.len();
        let mut refused = false;
        if !self.refused.is_empty() {
            let own = self.refused.of(Some(repetition));
            for why in self.refused.of(None).chain(own) {
                refused = true;
                self.rejects.part(message.row, message.pieces, why.clone());
            }
        }
        let mut builders = std::mem::take(&mut self.builders);
        for ((column, builder), &cell) in layout.columns.iter().zip(&mut builders).zip(&self.cells)
        {
            if matches!(cell, Cell::Missing | Cell::Nil) {
                builder.push_null();
                continue;
            }
            let text = self.text(cell, message.text);
            let text = if layout.trim {
                strict::trim(text)
            } else {
                text
            };
            let null = layout.null_value.as_deref() == Some(text)
                || text.is_empty() && (layout.empty_as_null || column.kind != Type::Text);
            match (builder, &column.kind) {
                (builder, _) if null => builder.push_null(),
                (Builder::Span(b), Type::Text) => b.push(text),
                (builder, kind) => match kind.read(text) {
                    Some(value) => builder.push(value),
                    None => {
                        refused = true;
                        builder.push_null();
                        let expected = kind.expected(text);
                        let found = format!("found {}, expected {expected}", shown(text));
                        let why = Refusal::of_field(kind.code(), &column.name, found);
                        self.rejects.part(message.row, message.pieces, why);
                    }
                },
            }
        }
        self.builders = builders;
        self.origin.push(message.row as u32);
        if refused {
            self.truncate(rows);
        }
    }
}
