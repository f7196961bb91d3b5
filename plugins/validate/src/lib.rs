//! `validate`: checks and cleans rows by the rules of a TOML file. A row that breaks rules is refused as a whole, with
//! every failure it has; columns without a rule are carried unseen, and texts that needed no cleaning are not copied.
mod check;
mod format;
mod pattern;
mod rules;

use std::borrow::Cow;

use weir_sdk::builder::{Bits, Builder, SpanBuilder};
use weir_sdk::view::Bytes;
use weir_sdk::{
    Batch, Column, Config, MadeColumn, Output, Plan, PlannedColumn, Problem, Refusal, Rejects,
    RowMap, Setup, Transform, Type, Value,
};

use check::{Check, Range};
use rules::{RuleFile, Unknown};

/// The plugin. It keeps the rules, nothing of a row.
#[derive(Debug)]
pub struct Validate {
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    check: Check,
    /// Position in the plan's `reads`; none where the column is missing and its default stands in.
    read: Option<usize>,
    /// Whether the plan says `make`.
    makes: bool,
}

/// What a step made of its column.
enum Made {
    Nothing,
    Unchanged(u32),
    Rows(Builder),
    Constant(Builder),
}

/// The refusals of a batch, column by column until they are sorted.
#[derive(Default)]
struct Refused {
    list: Vec<(usize, Refusal)>,
    defaults_applied: u64,
}

impl Transform for Validate {
    const NAME: &'static str = "validate";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Rows checked and cleaned by the rules of a TOML file";
    const SCHEMA: &'static str = include_str!("schema.json");

    fn init(setup: &Setup) -> Result<(Self, Plan), Vec<Problem>> {
        let mut config = Config::parse(&setup.config);
        config.require("rules", "the path of the rule file");
        let file = match setup.files.iter().find(|file| file.key == "rules") {
            None => {
                config.problem(
                    "rules",
                    "missing_file",
                    "the host gave no bytes for `rules`",
                );
                RuleFile::default()
            }
            Some(file) => match str::from_utf8(&file.bytes) {
                Ok(text) => rules::read(text, &mut config),
                Err(_) => {
                    config.problem("rules", "bad_toml", "the rule file is not UTF-8");
                    RuleFile::default()
                }
            },
        };
        let planned = plan(setup, &file, &mut config);
        config.finish().map(|()| planned)
    }

    fn run(&mut self, batch: &Batch) -> Result<Output, String> {
        let mut refused = Refused::default();
        let mut made = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            made.push(step.run(batch, &mut refused)?);
        }
        refused.list.sort_by_key(|(row, _)| *row);
        let mut kept = Bits::filled(batch.rows());
        let mut rejects = Rejects::default();
        for (row, why) in refused.list {
            kept.clear(row);
            rejects.row(row, why);
        }
        let mut columns = Vec::new();
        for made in made {
            match made {
                Made::Nothing => {}
                Made::Unchanged(read) => columns.push(MadeColumn::Unchanged(read)),
                Made::Rows(mut builder) => {
                    if !rejects.is_empty() {
                        builder.retain(&kept);
                    }
                    columns.push(MadeColumn::Made(builder.finish()?));
                }
                Made::Constant(mut builder) => {
                    let column = Column {
                        constant: true,
                        ..builder.finish()?
                    };
                    columns.push(MadeColumn::Made(column));
                }
            }
        }
        let rows = match rejects.is_empty() {
            true => RowMap::Every,
            false => RowMap::Kept(kept.into_bytes()),
        };
        let counters = vec![refused.defaults_applied];
        Ok(Output {
            rows,
            columns,
            rejects: rejects.into_vec(),
            counters,
        })
    }
}

/// Assigns the rules to the input columns, in the order of the input.
fn plan(setup: &Setup, file: &RuleFile, config: &mut Config) -> (Validate, Plan) {
    let mut plan = Plan {
        reads: Vec::new(),
        output: Vec::new(),
        explodes: false,
        counters: vec!["defaults_applied".into()],
    };
    let mut steps = Vec::new();
    for (n, nodes) in setup.input.iter().enumerate() {
        let carry = PlannedColumn::Carry(n as u32);
        let Some(rules) = file
            .columns
            .iter()
            .find(|rules| rules.name == name(setup, n))
        else {
            match file.unknown {
                Unknown::Allow => plan.output.push(carry),
                Unknown::Drop => {}
                Unknown::Reject => {
                    let message = format!(
                        "column `{}` has no rule (unknown = \"reject\")",
                        name(setup, n)
                    );
                    config.problem_in_file("rules", (1, 1), "unknown_column", message);
                }
            }
            continue;
        };
        let Some(from) = Type::of_format(&nodes[0].format) else {
            let message = format!("`{}` is of a type that has no rules yet", rules.name);
            config.problem_in_file("rules", rules.at, "not_checkable", message);
            continue;
        };
        let check = Check::new(rules, from, config);
        let makes = check.casts() || check.changes();
        plan.output.push(match makes {
            true if check.casts() => PlannedColumn::Make(vec![check.kind.field(&check.name)]),
            true => PlannedColumn::Make(nodes.clone()),
            false => carry,
        });
        steps.push(Step {
            check,
            read: Some(plan.reads.len()),
            makes,
        });
        plan.reads.push(n as u32);
    }
    without_column(setup, file, config, &mut plan, &mut steps);
    (Validate { steps }, plan)
}

/// Rules of columns that the input has not: a default makes them.
fn without_column(
    setup: &Setup,
    file: &RuleFile,
    config: &mut Config,
    plan: &mut Plan,
    steps: &mut Vec<Step>,
) {
    for rules in &file.columns {
        if (0..setup.input.len()).any(|n| name(setup, n) == rules.name) {
            continue;
        }
        if rules.default.is_none() {
            let there: Vec<&str> = (0..setup.input.len()).map(|n| name(setup, n)).collect();
            let there = there.join(", ");
            let message = format!(
                "no column `{}` and no default; there are: {there}",
                rules.name
            );
            config.problem_in_file("rules", rules.at, "column_missing", message);
            continue;
        }
        let kind = rules
            .kind
            .as_ref()
            .map_or(Type::Text, |(kind, _)| kind.clone());
        let check = Check::new(rules, kind, config);
        plan.output
            .push(PlannedColumn::Make(vec![check.kind.field(&check.name)]));
        steps.push(Step {
            check,
            read: None,
            makes: true,
        });
    }
}

fn name(setup: &Setup, n: usize) -> &str {
    let field = setup.input[n].first();
    field.map_or("", |field| field.name.as_str())
}

impl Step {
    fn run(&self, batch: &Batch, refused: &mut Refused) -> Result<Made, String> {
        let Some(read) = self.read else {
            let mut builder = self.check.kind.builder();
            self.check
                .default_value()
                .into_iter()
                .for_each(|value| builder.push(value));
            refused.defaults_applied += batch.rows() as u64;
            return Ok(Made::Constant(builder));
        };
        let rows = batch.rows();
        let check = &self.check;
        macro_rules! values {
            ($kind:ident, $view:expr, $get:ident) => {{
                let range = check.range(|value| match value {
                    Value::$kind(value) => Some(value),
                    _ => None,
                });
                let view = $view?;
                self.values(rows, refused, range, |n| view.$get(n), Value::$kind)
            }};
        }
        // Texts as bytes: the host has checked that they are UTF-8, and checks what goes on again.
        let made = match &check.from {
            Type::Text if check.casts() => Some(self.cast(&batch.bytes(read)?, rows, refused)),
            Type::Text => self.clean(&batch.bytes(read)?, rows, refused),
            Type::Int => values!(Int, batch.i32s(read), get),
            Type::Date(_) => values!(Date, batch.i32s(read), get),
            Type::Long => values!(Long, batch.i64s(read), get),
            Type::Timestamp(_) => values!(Timestamp, batch.i64s(read), get),
            Type::Double => values!(Double, batch.i64s(read), f64),
            Type::Decimal(..) => values!(Decimal, batch.i128s(read), get),
            Type::Bool => values!(Bool, batch.bools(read), get),
        };
        Ok(match made {
            _ if !self.makes => Made::Nothing,
            Some(builder) => Made::Rows(builder),
            None => Made::Unchanged(read as u32),
        })
    }

    /// A text column that stays one; nothing where no text changed.
    fn clean(&self, view: &Bytes<'_>, rows: usize, refused: &mut Refused) -> Option<Builder> {
        let check = &self.check;
        let mut made: Option<SpanBuilder> = None;
        for row in 0..rows {
            let raw = view.get(row);
            let mut text = raw.map(|raw| check.clean(raw));
            let mut changed = match (&text, raw) {
                (Some(Cow::Borrowed(text)), Some(raw)) => text.len() != raw.len(),
                (Some(Cow::Owned(text)), Some(raw)) => text != raw,
                _ => false,
            };
            if let Some(default) = &check.default
                && text.as_deref().is_none_or(<[u8]>::is_empty)
            {
                refused.defaults_applied += 1;
                changed = raw != Some(default.as_bytes());
                text = Some(Cow::Borrowed(default.as_bytes()));
            }
            let refuse = &mut |why| refused.list.push((row, why));
            match text.as_deref() {
                None => check.missing(refuse),
                Some(b"") if check.required => check.missing(refuse),
                Some(text) => check.text(text, refuse),
            }
            if changed && made.is_none() {
                let mut builder = SpanBuilder::default();
                builder.reserve(rows, view.total());
                (0..row).for_each(|before| push_text(&mut builder, view.get(before)));
                made = Some(builder);
            }
            if let Some(builder) = &mut made {
                push_text(builder, text.as_deref());
            }
        }
        made.map(Builder::Span)
    }

    /// A text column that becomes another type. An empty text is null.
    fn cast(&self, view: &Bytes<'_>, rows: usize, refused: &mut Refused) -> Builder {
        let check = &self.check;
        let default = check.default_value();
        let mut builder = check.kind.builder();
        for row in 0..rows {
            let cleaned = view.get(row).map(|raw| check.clean(raw));
            let text = cleaned.as_deref().filter(|text| !text.is_empty());
            let refuse = &mut |why| refused.list.push((row, why));
            let value = match (text, default) {
                (Some(text), _) => {
                    check.text(text, refuse);
                    check.cast(text, refuse)
                }
                (None, Some(default)) => {
                    refused.defaults_applied += 1;
                    Some(default)
                }
                (None, None) => {
                    check.missing(refuse);
                    None
                }
            };
            if let Some(value) = value {
                check.value(value, &mut |why| refused.list.push((row, why)));
            }
            push(&mut builder, value);
        }
        builder
    }

    /// A column that has its type; nothing where no default was needed.
    fn values<T: PartialOrd + Copy>(
        &self,
        rows: usize,
        refused: &mut Refused,
        range: Range<T>,
        get: impl Fn(usize) -> Option<T>,
        wrap: fn(T) -> Value<'static>,
    ) -> Option<Builder> {
        let check = &self.check;
        let default = check.default_value();
        let mut made: Option<Builder> = None;
        for row in 0..rows {
            let found = get(row);
            match found {
                Some(value) if range.holds(value) => {}
                Some(value) => check.value(wrap(value), &mut |why| refused.list.push((row, why))),
                None => match default {
                    Some(value) => check.value(value, &mut |why| refused.list.push((row, why))),
                    None => check.missing(&mut |why| refused.list.push((row, why))),
                },
            }
            if default.is_some() && found.is_none() {
                refused.defaults_applied += 1;
                made.get_or_insert_with(|| {
                    let mut builder = check.kind.builder();
                    (0..row).for_each(|before| push(&mut builder, get(before).map(wrap)));
                    builder
                });
            }
            if let Some(builder) = &mut made {
                push(builder, found.map(wrap).or(default));
            }
        }
        made
    }
}

#[inline]
fn push(builder: &mut Builder, value: Option<Value<'_>>) {
    match value {
        Some(value) => builder.push(value),
        None => builder.push_null(),
    }
}

#[inline]
fn push_text(builder: &mut SpanBuilder, value: Option<&[u8]>) {
    match value {
        Some(value) => builder.push(value),
        None => builder.push_null(),
    }
}

weir_sdk::export!(Validate);
