//! `cast`: gives columns another type, exactly. A value that the type cannot hold refuses its row, with all other
//! failures of the row, or becomes null, as the config says. Columns that already have their type are never passed to
//! the plugin.
mod convert;

use weir_sdk::builder::Builder;
use weir_sdk::{
    Batch, Config, MadeColumn, Output, Plan, PlannedColumn, Problem, Refusal, Rejects, RowMap,
    Schema, Setup, Transform, Type, shown,
};

use convert::Target;

/// The plugin. It keeps the casts, nothing of a row.
#[derive(Debug)]
pub struct Cast {
    columns: Vec<Cell>,
    trim: bool,
    refuse: bool,
}

/// A column to cast; its position is the same in the plan's `reads`.
#[derive(Debug)]
struct Cell {
    name: String,
    /// None: bytes, read as text.
    from: Option<Type>,
    to: Target,
}

impl Transform for Cast {
    const NAME: &'static str = "cast";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Columns given another type, exactly or not at all";
    const SCHEMA: &'static str = include_str!("schema.json");

    fn init(setup: &Setup) -> Result<(Self, Plan), Vec<Problem>> {
        let mut config = Config::parse(&setup.config);
        let input = Schema::of(setup);
        let trim = config.flag("trim", true);
        let refuse = config.choice("on-error", &["refuse", "null"], "refuse") == 0;
        let wanted = config.below("types.");
        if wanted.is_empty() {
            let message = "`types.<column>` is missing: nothing would be cast";
            config.problem("types", "missing_key", message);
        }
        let mut plan = Plan {
            reads: Vec::new(),
            output: (0..input.len() as u32).map(PlannedColumn::Carry).collect(),
            explodes: false,
            counters: vec!["nulled".into()],
        };
        let mut columns: Vec<(usize, Cell)> = Vec::new();
        for (name, spec) in wanted {
            let key = format!("types.{name}");
            let found = input.find(&name).map_err(|why| ("unknown_column", why));
            let target = Target::parse(&spec).map_err(|why| ("bad_type", why));
            match (found, target) {
                (Ok(n), Ok(to)) => match cell(input, n, to) {
                    Ok(cell) => columns.extend(cell.map(|cell| (n, cell))),
                    Err(message) => config.problem(&key, "cannot_cast", message),
                },
                (found, target) => {
                    for (code, message) in found.err().into_iter().chain(target.err()) {
                        config.problem(&key, code, message);
                    }
                }
            }
        }
        columns.sort_by_key(|(n, _)| *n);
        for (n, cell) in &columns {
            plan.reads.push(*n as u32);
            plan.output[*n] = PlannedColumn::Make(vec![cell.to.kind.field(&cell.name)]);
        }
        let columns = columns.into_iter().map(|(_, cell)| cell).collect();
        let plugin = Self {
            columns,
            trim,
            refuse,
        };
        config.finish().map(|()| (plugin, plan))
    }

    fn run(&mut self, batch: &Batch) -> Result<Output, String> {
        let mut rejects = Rejects::default();
        let mut nulled = 0;
        let mut built = Vec::with_capacity(self.columns.len());
        for (n, cell) in self.columns.iter().enumerate() {
            let failed = &mut |row: usize, found: String, expected: String| {
                if self.refuse {
                    let message = format!("found {found}, expected {expected}");
                    let code = cell.to.kind.code();
                    rejects.row(row, Refusal::of_field(code, &cell.name, message));
                } else {
                    nulled += 1;
                }
            };
            built.push(match &cell.from {
                None | Some(Type::Text) => cell.texts(batch, n, self.trim, failed)?,
                Some(from) => cell.values(batch, n, from, failed)?,
            });
        }
        rejects.sort();
        let mut rows = RowMap::Every;
        if !rejects.is_empty() {
            let kept = rejects.kept(batch.rows());
            built.iter_mut().for_each(|builder| builder.retain(&kept));
            rows = RowMap::Kept(kept.into_bytes());
        }
        let columns = built.iter_mut();
        let columns = columns.map(|builder| builder.finish().map(MadeColumn::Made));
        Ok(Output {
            rows,
            columns: columns.collect::<Result<_, _>>()?,
            rejects: rejects.into_vec(),
            counters: vec![nulled],
        })
    }
}

impl Cell {
    /// Of texts and bytes. An empty one is null, unless it becomes a text.
    fn texts(
        &self,
        batch: &Batch,
        n: usize,
        trim: bool,
        failed: &mut impl FnMut(usize, String, String),
    ) -> Result<Builder, String> {
        let view = batch.bytes(n)?;
        let to_text = self.to.kind == Type::Text;
        let mut builder = self.to.kind.builder();
        if to_text {
            builder.reserve(batch.rows(), view.total());
        }
        for row in 0..batch.rows() {
            let text = view.get(row).map(|text| match trim && !to_text {
                true => text.trim_ascii(),
                false => text,
            });
            let Some(text) = text.filter(|text| to_text || !text.is_empty()) else {
                builder.push_null();
                continue;
            };
            let value = self.to.read(text);
            if value.is_none() {
                failed(row, shown(text), self.to.expected(text));
            }
            builder.put(value);
        }
        Ok(builder)
    }

    fn values(
        &self,
        batch: &Batch,
        n: usize,
        from: &Type,
        failed: &mut impl FnMut(usize, String, String),
    ) -> Result<Builder, String> {
        let view = batch.values(n, from)?;
        let mut builder = self.to.kind.builder();
        for row in 0..batch.rows() {
            match (view.get(row), &mut builder) {
                (None, builder) => builder.push_null(),
                (Some(value), Builder::Span(texts)) => texts.push(from.show(value).as_bytes()),
                (Some(value), builder) => {
                    let made = self.to.convert(value, from);
                    if made.is_none() {
                        failed(row, from.show(value), self.to.expected_of(from));
                    }
                    builder.put(made);
                }
            }
        }
        Ok(builder)
    }
}

/// The cast of column `n`; none where it has the type already.
fn cell(input: Schema<'_>, n: usize, to: Target) -> Result<Option<Cell>, String> {
    let format = input.nodes(n).first().map_or("", |field| &field.format);
    if format == to.kind.format() && to.epoch.is_none() {
        return Ok(None);
    }
    let from = match format {
        "z" => None,
        _ => Some(input.kind(n)?),
    };
    match from.as_ref().filter(|from| !to.takes(from)) {
        None => Ok(Some(Cell {
            name: input.name(n).to_owned(),
            from,
            to,
        })),
        Some(from) => Err(format!("a {from} cannot become a {}", to.kind)),
    }
}

weir_sdk::export!(Cast);
