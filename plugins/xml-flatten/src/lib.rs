//! `xml-flatten`: turns XML messages into rows. Each message is parsed once, strictly; each row element becomes a row
//! whose columns are named by path and typed. A message that is not well-formed XML is refused as a whole, with the
//! place; a row with a field of the wrong type is refused alone, and the other rows keep their numbers.
mod document;
mod encoding;
mod fast;
mod paths;
pub mod plan;
mod rest;
mod rows;
pub mod strict;

use weir_sdk::{
    Batch, Config, Field, MadeColumn, Output, Plan, PlannedColumn, Problem, Refusal, RowMap, Setup,
    Transform,
};

use document::Frames;
use encoding::{Encoding, Sniffed};
use fast::Fast;
use plan::{Layout, Repeat};
use rows::{Message, Rows};
use strict::Fault;

/// The plugin. Between calls it keeps buffers, nothing of a row.
#[derive(Debug)]
pub struct Flatten {
    layout: Layout,
    frames: Frames,
    /// A message with its line ends normalised.
    normal: Vec<u8>,
    /// A message that was not UTF-8.
    decoded: Vec<u8>,
    /// The input is text: its characters are known, whatever a message declares.
    text: bool,
    /// Asked first; nothing where the event reader is to read alone.
    fast: Option<Fast>,
}

/// Cells address a message with 32 bits.
const MAX_MESSAGE_BYTES: usize = i32::MAX as usize;

impl Transform for Flatten {
    const NAME: &'static str = "xml-flatten";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str =
        "XML messages to rows: one streaming parse, columns by path, typed";
    const SCHEMA: &'static str = include_str!("schema.json");

    fn init(setup: &Setup) -> Result<(Self, Plan), Vec<Problem>> {
        let mut config = Config::parse(&setup.config);
        let layout = Layout::read(&mut config);
        let named = |nodes: &Vec<Field>| nodes.first().is_some_and(|f| f.name == layout.input);
        let input = setup.input.iter().position(named);
        let format = input.map(|n| setup.input[n][0].format.as_str());
        if !matches!(format, Some("z" | "u")) {
            let found = format.unwrap_or("no such column");
            let message = format!("`{}`: expected bytes or text, found {found}", layout.input);
            config.problem("input", "bad_input", message);
        }
        config.finish()?;
        let output = layout.columns.iter().map(|column| {
            let mut field = column.kind.field(&column.name);
            field.extension = (column.repeat == Repeat::Json).then(|| "arrow.json".into());
            PlannedColumn::Make(vec![field])
        });
        let plan = Plan {
            reads: input.iter().map(|n| *n as u32).collect(),
            output: output.collect(),
            explodes: true,
            counters: vec!["repeats_dropped".into()],
        };
        Ok((
            Self {
                fast: Some(Fast::new(&layout)),
                layout,
                frames: Frames::default(),
                normal: Vec::new(),
                decoded: Vec::new(),
                text: format == Some("u"),
            },
            plan,
        ))
    }

    fn run(&mut self, batch: &Batch) -> Result<Output, String> {
        let messages = batch.bytes(0)?;
        let mut rows = Rows::new(&self.layout);
        let share = messages.total() / self.layout.columns.len().max(1) / 2;
        for builder in &mut rows.builders {
            builder.reserve(batch.rows() * 4, share);
        }
        if let Some(fast) = &mut self.fast {
            fast.begin();
        }
        for row in 0..batch.rows() {
            let (rest, len) = messages.with_rest(row);
            if let Some(fast) = &mut self.fast
                && fast.read(&self.layout, &mut rows, row, rest, len)
            {
                continue;
            }
            let mark = rows.mark();
            let message = &rest[..len];
            if let Err(why) = self.message(row, message, &mut rows) {
                rows.cut_back(mark);
                rows.rejects.row(row, why);
            }
        }
        let made = rows
            .builders
            .iter_mut()
            .map(|b| b.finish().map(MadeColumn::Made));
        Ok(Output {
            columns: made.collect::<Result<_, _>>()?,
            rows: RowMap::Origin(rows.origin),
            rejects: rows.rejects.into_vec(),
            counters: vec![rows.repeats_dropped],
        })
    }
}

impl Flatten {
    /// The same plugin with quick-xml only, with which the fast reader is compared.
    pub fn by_events(mut self) -> Self {
        self.fast = None;
        self
    }

    fn message(&mut self, row: usize, raw: &[u8], rows: &mut Rows) -> Result<(), Refusal> {
        let Sniffed { encoding, mark } = match self.text {
            true => encoding::of_text(raw),
            false => encoding::sniff(raw).map_err(|f| refusal(raw, f.at, f.at, &f))?,
        };
        let mut bytes = &raw[mark..];
        if encoding != Encoding::Utf8 {
            encoding::decode(encoding, bytes, &mut self.decoded).map_err(|fault| {
                let (at, text) = (fault.at, &self.decoded);
                refusal(text, text.len(), mark + at, &fault)
            })?;
            bytes = &self.decoded;
        }
        if strict::trim(bytes).is_empty() {
            return Err(Refusal::new("empty_value", "the message is empty"));
        }
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(Refusal::new(
                "message_too_long",
                "a message of more than 2 GiB",
            ));
        }
        let found = strict::look(bytes);
        let mut text = bytes;
        if found.carriage_return {
            strict::line_ends(bytes, &mut self.normal);
            text = &self.normal;
        }
        let mut message = Message {
            row,
            text,
            pieces: 0,
        };
        let done = strict::characters(text, found).and_then(|()| {
            document::read(&self.layout, &mut self.frames, rows, &mut message, found)
        });
        done.map_err(|fault| {
            let at = match found.carriage_return {
                true => strict::before_line_ends(bytes, fault.at),
                false => fault.at,
            };
            let byte = mark + encoding::before_decoding(encoding, bytes, at);
            refusal(bytes, at, byte, &fault)
        })
    }
}

/// The fault with its place, as people count it: lines and columns (in bytes of UTF-8) from 1, and the byte of the
/// message as it came.
fn refusal(text: &[u8], at: usize, byte: usize, fault: &Fault) -> Refusal {
    let before = &text[..at.min(text.len())];
    let line = 1 + before.iter().filter(|b| **b == b'\n').count();
    let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
    let message = &fault.message;
    Refusal::new(
        fault.code,
        format!("line {line}, column {column} (byte {byte}): {message}"),
    )
}

weir_sdk::export!(Flatten);
