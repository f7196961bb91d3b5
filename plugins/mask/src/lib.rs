//! `mask`: hashes, redacts, shortens or empties columns. Equal values have equal hashes under one secret, in every
//! column and batch, so rows can still be joined and counted; no message contains a value or the secret.
mod rule;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use weir_sdk::builder::{Builder, SpanBuilder};
use weir_sdk::view::{Bytes, Text};
use weir_sdk::{
    Batch, Column, Config, Field, MadeColumn, Output, Plan, PlannedColumn, Problem, RowMap, Schema,
    Setup, Transform, Type,
};

use rule::{Rule, Writing};

/// Stands for each character that `keep-last` hides.
const HIDDEN: u8 = b'*';

/// The plugin. It keeps the secret, nothing of a row.
pub struct Mask {
    columns: Vec<Cell>,
    /// HMAC-SHA-256 that has read the secret and nothing else.
    keyed: Hmac<Sha256>,
    writing: Writing,
    redacted: String,
}

/// A column to mask, in the order of the plan.
struct Cell {
    /// None: bytes.
    kind: Option<Type>,
    /// Position in the plan's `reads`; none where the values do not matter.
    read: Option<usize>,
    rule: Rule,
}

/// Which rule each column of the input has.
fn rules(input: Schema<'_>, config: &mut Config) -> Vec<Option<Rule>> {
    let mut rules: Vec<Option<Rule>> = vec![None; input.len()];
    let wanted = config.below("columns.");
    if wanted.is_empty() {
        let message = "`columns.<name>` is missing: nothing would be masked";
        config.problem("columns", "missing_key", message);
    }
    for (name, spec) in wanted {
        let key = format!("columns.{name}");
        let found = input.find(&name);
        let rule = Rule::parse(&spec);
        match (&found, &rule) {
            (Ok(n), Ok(rule)) => match fits(input, *n, *rule) {
                Ok(()) => rules[*n] = Some(*rule),
                Err((code, message)) => config.problem(&key, code, message),
            },
            _ => {
                if let Err(message) = found {
                    config.problem(&key, "unknown_column", message);
                }
                if let Err(message) = rule {
                    config.problem(&key, "bad_value", message);
                }
            }
        }
    }
    rules
}

impl Transform for Mask {
    const NAME: &'static str = "mask";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Columns hashed with a secret, redacted, shortened or emptied";
    const SCHEMA: &'static str = include_str!("schema.json");

    fn init(setup: &Setup) -> Result<(Self, Plan), Vec<Problem>> {
        let mut config = Config::parse(&setup.config);
        let input = Schema::of(setup);
        let writing = Writing::read(&mut config);
        let redacted = config.text("redact-with", "***");
        let rules = rules(input, &mut config);
        let secret = rule::secret(&mut config, rules.contains(&Some(Rule::Hash)));
        let keyed = Hmac::new_from_slice(&secret).map_err(|_| {
            config.problem("secret", "weak_secret", "this secret cannot be a key");
        });
        config.finish()?;
        let Ok(keyed) = keyed else {
            return Err(Vec::new());
        };
        let mut plan = Plan {
            reads: Vec::new(),
            output: Vec::new(),
            explodes: false,
            counters: Vec::new(),
        };
        let mut columns = Vec::new();
        for (n, rule) in rules.into_iter().enumerate() {
            let Some(rule) = rule else {
                plan.output.push(PlannedColumn::Carry(n as u32));
                continue;
            };
            let mut field = match rule.makes_text() {
                true => vec![Type::Text.field(input.name(n))],
                false => input.nodes(n).to_vec(),
            };
            field
                .iter_mut()
                .for_each(|field: &mut Field| field.nullable = true);
            plan.output.push(PlannedColumn::Make(field));
            let read = (rule != Rule::Null).then_some(plan.reads.len());
            plan.reads.extend(read.map(|_| n as u32));
            let kind = input.kind(n).ok();
            columns.push(Cell { kind, read, rule });
        }
        let plugin = Self {
            columns,
            keyed,
            writing,
            redacted,
        };
        Ok((plugin, plan))
    }

    fn run(&mut self, batch: &Batch) -> Result<Output, String> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for cell in &self.columns {
            columns.push(self.column(cell, batch)?);
        }
        Ok(Output {
            rows: RowMap::Every,
            columns,
            rejects: Vec::new(),
            counters: Vec::new(),
        })
    }
}

impl Mask {
    fn column(&self, cell: &Cell, batch: &Batch) -> Result<MadeColumn, String> {
        let Some(read) = cell.read else {
            let mut builder = cell.kind.as_ref().unwrap_or(&Type::Text).builder();
            builder.push_null();
            return made(builder, true);
        };
        // One value for all rows is masked once.
        let constant = batch.column(read)?.constant;
        let rows = if constant { 1 } else { batch.rows() };
        let mut out = SpanBuilder::default();
        match (cell.rule, &cell.kind) {
            (Rule::Hash | Rule::Redact, None | Some(Type::Text)) => {
                let view = batch.bytes(read)?;
                self.replace(cell.rule, rows, &mut out, |row, text| {
                    view.get(row)
                        .map(|bytes| text.extend_from_slice(bytes))
                        .is_some()
                });
            }
            (Rule::Hash | Rule::Redact, Some(kind)) => {
                let view = batch.values(read, kind)?;
                self.replace(cell.rule, rows, &mut out, |row, text| {
                    let shown = view.get(row).map(|value| kind.show(value));
                    shown
                        .map(|shown| text.extend_from_slice(shown.as_bytes()))
                        .is_some()
                });
            }
            (Rule::KeepLast(count), _) => keep_last(batch.text(read)?, rows, count, &mut out),
            (Rule::Truncate(count), _) => {
                if !truncate(batch.text(read)?, batch.bytes(read)?, rows, count, &mut out) {
                    return Ok(MadeColumn::Unchanged(read as u32));
                }
            }
            (Rule::Null, _) => return Err("a column that is emptied is not read".into()),
        }
        made(Builder::Span(out), constant)
    }

    /// Nulls stay nulls. `value` appends the bytes of a row's value, if it has one.
    fn replace(
        &self,
        rule: Rule,
        rows: usize,
        out: &mut SpanBuilder,
        value: impl Fn(usize, &mut Vec<u8>) -> bool,
    ) {
        let mut text = Vec::new();
        for row in 0..rows {
            text.clear();
            if !value(row, &mut text) {
                out.push_null();
            } else if rule == Rule::Redact {
                out.push(self.redacted.as_bytes());
            } else {
                let mut mac = self.keyed.clone();
                mac.update(&text);
                text.clear();
                self.writing.write(&mac.finalize().into_bytes(), &mut text);
                out.push(&text);
            }
        }
    }
}

/// A text of `count` characters or fewer is hidden completely: otherwise it would be shown unchanged.
fn keep_last(view: Text<'_>, rows: usize, count: usize, out: &mut SpanBuilder) {
    let mut masked = Vec::new();
    for row in 0..rows {
        let Some(text) = view.get(row) else {
            out.push_null();
            continue;
        };
        let chars = text.chars().count();
        let hidden = if chars > count { chars - count } else { chars };
        let from = text
            .char_indices()
            .nth(hidden)
            .map_or(text.len(), |(at, _)| at);
        masked.clear();
        masked.resize(hidden, HIDDEN);
        masked.extend_from_slice(&text.as_bytes()[from..]);
        out.push(&masked);
    }
}

/// False: no text was longer, nothing was built.
fn truncate(
    view: Text<'_>,
    bytes: Bytes<'_>,
    rows: usize,
    count: usize,
    out: &mut SpanBuilder,
) -> bool {
    let cut = |text: &str| text.char_indices().nth(count).map(|(at, _)| at);
    let longer = |row| {
        let text = view.get(row).filter(|text| text.len() > count);
        text.is_some_and(|text| cut(text).is_some())
    };
    if !(0..rows).any(longer) {
        return false;
    }
    out.reserve(rows, bytes.total());
    for row in 0..rows {
        match view.get(row) {
            Some(text) => out.push(&text.as_bytes()[..cut(text).unwrap_or(text.len())]),
            None => out.push_null(),
        }
    }
    true
}

fn made(mut builder: Builder, constant: bool) -> Result<MadeColumn, String> {
    let column = builder.finish()?;
    Ok(MadeColumn::Made(Column { constant, ..column }))
}

/// Whether the rule can be applied to column `n`.
fn fits(input: Schema<'_>, n: usize, rule: Rule) -> Result<(), (&'static str, String)> {
    let bytes = input
        .nodes(n)
        .first()
        .is_some_and(|field| field.format == "z");
    let kind = match bytes {
        true => None,
        false => Some(input.kind(n).map_err(|why| ("bad_column", why))?),
    };
    if rule.needs_text() && kind != Some(Type::Text) {
        let found = kind.map_or("bytes".into(), |kind| kind.to_string());
        let message = format!(
            "`{}` is {found}, expected a string: cast it before",
            input.name(n)
        );
        return Err(("needs_text", message));
    }
    Ok(())
}

weir_sdk::export!(Mask);
