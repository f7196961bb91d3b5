//! The message being read: its cells, and how they become output rows or refusals.
use weir_sdk::builder::Builder;
use weir_sdk::{Refusal, Refused, Rejects, Type, Value, shown};

use crate::envelope::Verdict;
use crate::plan::{Column, Layout};

/// What a scalar is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    String,
    Number,
    Boolean,
}

/// Where a text lies.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Span {
    pub from: u32,
    pub to: u32,
    /// In `Rows::scratch`, not in the message.
    pub scratch: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Cell {
    #[default]
    Missing,
    Null,
    Scalar(Kind, Span),
    /// A whole value, for a json column.
    Json(Span),
    /// An object or an array where a scalar was wanted.
    Nested(&'static str),
}

/// What stands where the record is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Record {
    #[default]
    Missing,
    Null,
    There,
}

/// The output of one batch.
#[derive(Debug, Default)]
pub struct Rows {
    pub builders: Vec<Builder>,
    pub origin: Vec<u32>,
    pub rejects: Rejects,
    pub cells: Vec<Cell>,
    /// One entry of `cells` for each element of the exploded array.
    groups: Vec<Cell>,
    /// Elements that have ended.
    pub elements: usize,
    /// An element is open.
    pub inside: bool,
    /// Strings that had escapes.
    pub scratch: Vec<u8>,
    /// What is known against the message, and against its elements.
    refused: Refused,
    pub record: Record,
    /// Where the record's schema stands, in Connect's envelope.
    pub schema: Option<(usize, usize)>,
    /// What the wildcard takes before the array, after it, and in each element: members of an object, each behind a
    /// comma.
    pub rest: [String; 3],
    /// Where each element ends in the last of them.
    ends: Vec<usize>,
}

/// How far the output was when a message began: what to cut back to if its end is broken.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    rows: usize,
    rejects: usize,
}

impl Rows {
    pub fn new(layout: &Layout) -> Self {
        Self {
            builders: layout.columns.iter().map(|c| c.kind.builder()).collect(),
            cells: vec![Cell::Missing; layout.columns.len()],
            ..Self::default()
        }
    }

    pub fn mark(&self) -> Mark {
        Mark {
            rows: self.origin.len(),
            rejects: self.rejects.len(),
        }
    }

    /// Forgets everything since `mark`.
    pub fn cut_back(&mut self, mark: Mark) {
        self.truncate(mark.rows);
        self.rejects.truncate(mark.rejects);
    }

    fn truncate(&mut self, rows: usize) {
        self.origin.truncate(rows);
        for builder in &mut self.builders {
            builder.truncate(rows);
        }
    }

    pub fn begin(&mut self) {
        self.cells.fill(Cell::Missing);
        self.groups.clear();
        self.elements = 0;
        self.inside = false;
        self.scratch.clear();
        self.refused.clear();
        self.record = Record::Missing;
        self.schema = None;
        self.rest.iter_mut().for_each(String::clear);
        self.ends.clear();
    }

    pub fn refuse(&mut self, why: Refusal) {
        let element = self.inside.then_some(self.elements);
        self.refused.add(element, why);
    }

    /// An element has ended: its cells are one piece.
    pub fn end_element(&mut self, layout: &Layout) {
        for &n in &layout.exploded {
            self.groups.push(std::mem::take(&mut self.cells[n]));
        }
        self.ends.push(self.rest[2].len());
        self.elements += 1;
    }

    /// The members that the wildcard is to have next, and where those of this piece begin.
    pub fn rest_here(&mut self, after_array: bool) -> (&mut String, usize) {
        match self.inside {
            true => {
                let from = self.ends.last().copied().unwrap_or(0);
                (&mut self.rest[2], from)
            }
            false => (&mut self.rest[usize::from(after_array)], 0),
        }
    }

    #[inline]
    pub fn text<'a>(&'a self, span: Span, message: &'a [u8]) -> &'a [u8] {
        let from = match span.scratch {
            true => &self.scratch,
            false => message,
        };
        &from[span.from as usize..span.to as usize]
    }

    /// The message has ended: one output row, or one for each element.
    pub fn end(&mut self, layout: &Layout, verdicts: &[Verdict], row: usize, message: &[u8]) {
        for element in 0..self.elements.max(1) {
            if self.elements > 0 {
                let width = layout.exploded.len();
                for (k, &n) in layout.exploded.iter().enumerate() {
                    self.cells[n] = self.groups[element * width + k];
                }
            }
            let kept = self.scratch.len();
            if let Some(n) = layout.wildcard {
                self.cells[n] = self.left_over(element);
            }
            self.piece(layout, verdicts, (row, element), message);
            self.scratch.truncate(kept);
        }
    }

    /// The wildcard of one piece; missing where nothing is left.
    fn left_over(&mut self, element: usize) -> Cell {
        let [before, after, own] = &self.rest;
        let from = match element {
            0 => 0,
            n => self.ends[n - 1],
        };
        let to = self.ends.get(element).copied().unwrap_or(from);
        let start = self.scratch.len();
        for part in [before, &own[from..to], after] {
            self.scratch.extend_from_slice(part.as_bytes());
        }
        match self.scratch.get_mut(start) {
            None => return Cell::Missing,
            Some(comma) => *comma = b'{',
        }
        self.scratch.push(b'}');
        Cell::Json(Span {
            from: start as u32,
            to: self.scratch.len() as u32,
            scratch: true,
        })
    }

    fn piece(
        &mut self,
        layout: &Layout,
        verdicts: &[Verdict],
        (row, piece): (usize, usize),
        message: &[u8],
    ) {
        let rows = self.origin.len();
        let mut refused = false;
        if !self.refused.is_empty() {
            let own = self.refused.of(Some(piece));
            for why in self.refused.of(None).chain(own) {
                refused = true;
                self.rejects.part(row, piece, why.clone());
            }
        }
        let mut builders = std::mem::take(&mut self.builders);
        for (n, (column, builder)) in layout.columns.iter().zip(&mut builders).enumerate() {
            let cell = self.cells[n];
            if let Some(what) = verdicts.get(n).and_then(|v| misread(v, cell)) {
                builder.push_null();
                refused = true;
                self.rejects.part(row, piece, of_schema(column, what));
                continue;
            }
            let absent = self.elements == 0 && layout.exploded.contains(&n);
            let why = self.put(column, cell, builder, (layout.quoted, absent), message);
            if let Some(why) = why {
                refused = true;
                self.rejects.part(row, piece, why);
            }
        }
        self.builders = builders;
        self.origin.push(row as u32);
        if refused {
            self.truncate(rows);
        }
    }
}

impl Rows {
    /// One cell into its column: why not, where a null is pushed instead. `absent`: there is no element that could have it.
    #[inline]
    fn put(
        &self,
        column: &Column,
        cell: Cell,
        builder: &mut Builder,
        (quoted, absent): (bool, bool),
        message: &[u8],
    ) -> Option<Refusal> {
        match (cell, builder) {
            (Cell::Null, builder) => {
                builder.push_null();
                None
            }
            (Cell::Missing, builder) => {
                builder.push_null();
                (column.required && !absent).then(|| missing(column))
            }
            (Cell::Json(span) | Cell::Scalar(_, span), Builder::Span(b)) => {
                b.push(self.text(span, message));
                None
            }
            (Cell::Scalar(kind, span), builder) => {
                let text = self.text(span, message);
                match read(&column.kind, kind, text, quoted) {
                    Some(value) => {
                        builder.push(value);
                        None
                    }
                    None => {
                        builder.push_null();
                        let found = match kind {
                            Kind::String => format!("the string {}", shown(text)),
                            _ => String::from_utf8_lossy(&text[..text.len().min(60)]).into(),
                        };
                        let fits = fits(&column.kind, kind, quoted);
                        let expected = match fits {
                            true => column.kind.expected(text),
                            false => column.kind.to_string(),
                        };
                        Some(mismatch(column, &found, &expected))
                    }
                }
            }
            (Cell::Nested(found), builder) => {
                builder.push_null();
                Some(mismatch(column, found, &column.kind.to_string()))
            }
            (Cell::Json(_), builder) => {
                builder.push_null();
                None
            }
        }
    }
}

/// What the schema says of this cell, where JSON alone would be taken for something else.
fn misread(verdict: &Verdict, cell: Cell) -> Option<&str> {
    match (verdict, cell) {
        (_, Cell::Missing | Cell::Null) | (Verdict::Fine, _) => None,
        (Verdict::Misread(what), _) => Some(what),
        (Verdict::NoText(what), Cell::Scalar(Kind::String, _)) => Some(what),
        (Verdict::NoText(_), _) => None,
    }
}

fn of_schema(column: &Column, what: &str) -> Refusal {
    let message = format!("by the message's schema `{}` is {what}", column.path);
    Refusal::of_field("envelope_schema", &column.name, message)
}

fn missing(column: &Column) -> Refusal {
    let message = format!("no `{}` in the message (missing)", column.path);
    Refusal::of_field("missing_field", &column.name, message)
}

fn mismatch(column: &Column, found: &str, expected: &str) -> Refusal {
    let message = format!("found {found}, expected {expected}");
    Refusal::of_field(column.kind.code(), &column.name, message)
}

/// Whether a JSON value of this kind may be one of this type.
fn fits(wanted: &Type, kind: Kind, quoted: bool) -> bool {
    match wanted {
        Type::Text => true,
        Type::Int | Type::Long | Type::Double => {
            kind == Kind::Number || quoted && kind == Kind::String
        }
        Type::Bool => kind == Kind::Boolean || quoted && kind == Kind::String,
        Type::Decimal(..) => kind != Kind::Boolean,
        Type::Date(_) | Type::Timestamp(_) => kind == Kind::String,
    }
}

/// The value of a scalar, if it may have one of this type.
fn read<'a>(wanted: &Type, kind: Kind, text: &'a [u8], quoted: bool) -> Option<Value<'a>> {
    match kind {
        _ if !fits(wanted, kind, quoted) => None,
        Kind::Number => wanted.read_number(text),
        _ => wanted.read(text),
    }
}
