//! `json-flatten`: turns JSON messages into rows. Each message is parsed once, strictly; its columns are named by JSON
//! Pointer and typed, and each element of one array may become a row. A message that is not JSON is refused as a whole,
//! with the place; a row with a field of the wrong type is refused alone, and the other rows keep their numbers.
mod envelope;
pub mod plan;
mod rows;
mod walk;

use weir_sdk::{
    Batch, Config, Field, MadeColumn, Output, Plan, PlannedColumn, Problem, Refusal, RowMap, Setup,
    Transform,
};

use envelope::Known;
use plan::Layout;
use rows::{Record, Rows};
use walk::{Buffers, Fault, MALFORMED};

/// The plugin. Between calls it keeps buffers, nothing of a row.
#[derive(Debug)]
pub struct Flatten {
    layout: Layout,
    buffers: Buffers,
    schema: Known,
}

const UTF8_BOM: &[u8] = b"\xEF\xBB\xBF";
/// Cells address a message with 32 bits.
const MAX_MESSAGE_BYTES: usize = i32::MAX as usize;

impl Transform for Flatten {
    const NAME: &'static str = "json-flatten";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "JSON messages to rows: one pass, columns by JSON Pointer, typed";
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
            field.extension = column.json.then(|| "arrow.json".into());
            PlannedColumn::Make(vec![field])
        });
        let plan = Plan {
            reads: input.iter().map(|n| *n as u32).collect(),
            output: output.collect(),
            explodes: true,
            counters: Vec::new(),
        };
        let flatten = Self {
            layout,
            buffers: Buffers::default(),
            schema: Known::default(),
        };
        Ok((flatten, plan))
    }

    fn run(&mut self, batch: &Batch) -> Result<Output, String> {
        let messages = batch.bytes(0)?;
        let mut rows = Rows::new(&self.layout);
        let share = messages.total() / self.layout.columns.len().max(1) / 2;
        for builder in &mut rows.builders {
            builder.reserve(batch.rows(), share);
        }
        for row in 0..batch.rows() {
            let mark = rows.mark();
            let message = messages.get(row).unwrap_or_default();
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
            counters: Vec::new(),
        })
    }
}

impl Flatten {
    fn message(&mut self, row: usize, raw: &[u8], rows: &mut Rows) -> Result<(), Refusal> {
        let text = raw.strip_prefix(UTF8_BOM).unwrap_or(raw);
        let mark = raw.len() - text.len();
        let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r');
        if text.iter().all(blank) {
            return self.empty("the message is empty");
        }
        if text.len() > MAX_MESSAGE_BYTES {
            let message = "a message of more than 2 GiB";
            return Err(Refusal::new("message_too_long", message));
        }
        let utf8 = str::from_utf8(text).map_err(|error| {
            let at = error.valid_up_to();
            Fault::new(MALFORMED, at, "bytes that are not UTF-8")
        });
        utf8.and_then(|_| walk::read(&self.layout, &mut self.buffers, rows, text))
            .map_err(|fault| refusal(raw, mark + fault.at, &fault))?;
        match rows.record {
            Record::There => {}
            Record::Null => {
                let root = &self.layout.nodes[self.layout.root].path;
                return self.empty(&match root.as_str() {
                    "" => "the message is null".to_owned(),
                    root => format!("{root} is null"),
                });
            }
            Record::Missing => return Err(self.no_record(self.layout.root)),
        }
        match (self.layout.schema, rows.schema) {
            (Some(_), Some((from, to))) => self.schema.look(&self.layout, &text[from..to]),
            (Some(node), None) => return Err(self.no_record(node)),
            (None, _) => {}
        }
        rows.end(&self.layout, &self.schema.verdicts, row, text);
        Ok(())
    }

    /// A message that says that there is no record.
    fn empty(&self, what: &str) -> Result<(), Refusal> {
        match self.layout.drops_empty {
            true => Ok(()),
            false => Err(Refusal::new("empty_value", what)),
        }
    }

    fn no_record(&self, node: usize) -> Refusal {
        let path = &self.layout.nodes[node].path;
        let what = match self.layout.schema {
            Some(_) => "an envelope with schema and payload",
            None => "a record there",
        };
        Refusal::new(
            "no_record",
            format!("no {path} in the message, expected {what}"),
        )
    }
}

/// The fault with its place, as people count it: lines and columns (in bytes) from 1.
fn refusal(raw: &[u8], at: usize, fault: &Fault) -> Refusal {
    let before = &raw[..at.min(raw.len())];
    let line = 1 + before.iter().filter(|b| **b == b'\n').count();
    let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
    let message = &fault.message;
    Refusal::new(
        fault.code,
        format!("line {line}, column {column} (byte {at}): {message}"),
    )
}

weir_sdk::export!(Flatten);
