//! `select`: keeps, drops, renames and reorders columns, or adds constants. Every row stays, and no value is copied: a
//! column with its old name is never passed to the plugin, a renamed one is passed but not returned.
use weir_sdk::{
    Batch, Column, Config, MadeColumn, Output, Plan, PlannedColumn, Problem, RowMap, Schema, Setup,
    Transform, Type,
};

/// The plugin. It keeps which columns are new, nothing of a row.
#[derive(Debug)]
pub struct Select {
    made: Vec<Made>,
}

#[derive(Debug)]
enum Made {
    /// The n-th column that is read, under another name: the contract's `carry` keeps the name.
    Renamed(u32),
    /// The same value in every row.
    Constant(Column),
}

/// Old name and new one, of columns that are kept.
fn renames(input: Schema<'_>, kept: &[usize], config: &mut Config) -> Vec<(String, String)> {
    let renames = config.below("rename.");
    for (old, new) in &renames {
        let key = format!("rename.{old}");
        match input.find(old) {
            Ok(n) if !kept.contains(&n) => {
                let message = format!("`{old}` is not kept");
                config.problem(&key, "not_kept", message);
            }
            Ok(_) if new.is_empty() => {
                config.problem(&key, "bad_name", "the new name is empty");
            }
            Ok(_) => {}
            Err(message) => config.problem(&key, "unknown_column", message),
        }
    }
    renames
}

impl Transform for Select {
    const NAME: &'static str = "select";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Columns kept, dropped, renamed, reordered, or set to a constant";
    const SCHEMA: &'static str = include_str!("schema.json");

    fn init(setup: &Setup) -> Result<(Self, Plan), Vec<Problem>> {
        let mut config = Config::parse(&setup.config);
        let input = Schema::of(setup);
        let kept = kept(input, &mut config);
        let mut made = Vec::new();
        let mut plan = Plan {
            reads: Vec::new(),
            output: Vec::new(),
            explodes: false,
            counters: Vec::new(),
        };
        let renames = renames(input, &kept, &mut config);
        let mut names: Vec<String> = Vec::new();
        let mut name = |key: &str, name: &str, config: &mut Config| {
            if names.iter().any(|known| known == name) {
                let message = format!("two columns would be called `{name}`");
                config.problem(key, "duplicate_column", message);
            }
            names.push(name.to_owned());
        };
        for n in kept {
            let old = input.name(n);
            let renamed = renames.iter().find(|(from, to)| from == old && to != old);
            let Some((_, new)) = renamed else {
                name("keep", old, &mut config);
                plan.output.push(PlannedColumn::Carry(n as u32));
                continue;
            };
            name(&format!("rename.{old}"), new, &mut config);
            let mut nodes = input.nodes(n).to_vec();
            if let Some(root) = nodes.first_mut() {
                root.name.clone_from(new);
            }
            plan.output.push(PlannedColumn::Make(nodes));
            made.push(Made::Renamed(plan.reads.len() as u32));
            plan.reads.push(n as u32);
        }
        let constants = config.below("constant.");
        for (new, text) in &constants {
            let key = format!("constant.{new}");
            name(&key, new, &mut config);
            let (kind, column) = constant(new, text, &mut config);
            plan.output.push(PlannedColumn::Make(vec![kind.field(new)]));
            made.extend(column.map(Made::Constant));
        }
        for (typed, _) in config.below("types.") {
            if !constants.iter().any(|(name, _)| *name == typed) {
                let message =
                    format!("a type for `{typed}`, which is no constant; `cast` changes columns");
                config.problem(&format!("types.{typed}"), "unknown_column", message);
            }
        }
        if plan.output.is_empty() {
            config.problem("keep", "no_columns", "no column would be left");
        }
        config.finish().map(|()| (Self { made }, plan))
    }

    fn run(&mut self, _: &Batch) -> Result<Output, String> {
        let columns = self.made.iter().map(|made| match made {
            Made::Renamed(read) => MadeColumn::Unchanged(*read),
            Made::Constant(column) => MadeColumn::Made(column.clone()),
        });
        Ok(Output {
            rows: RowMap::Every,
            columns: columns.collect(),
            rejects: Vec::new(),
            counters: Vec::new(),
        })
    }
}

/// The columns that go on: those of `keep` in its order, or all but those of `drop` in the order of the input.
fn kept(input: Schema<'_>, config: &mut Config) -> Vec<usize> {
    let (keep, drop) = (config.list("keep"), config.list("drop"));
    if !keep.is_empty() && !drop.is_empty() {
        let message = "`keep` names all that stay, `drop` all that go: give one of them";
        config.problem("drop", "keep_and_drop", message);
    }
    let mut positions = |key: &str, names: &[String]| -> Vec<usize> {
        let found = names.iter().filter_map(|name| match input.find(name) {
            Ok(n) => Some(n),
            Err(message) => {
                config.problem(key, "unknown_column", message);
                None
            }
        });
        found.collect()
    };
    let (keeps, drops) = (positions("keep", &keep), positions("drop", &drop));
    match keep.is_empty() {
        false => keeps,
        true => (0..input.len()).filter(|n| !drops.contains(n)).collect(),
    }
}

/// The one value of a column, and its type. An empty text is null in every type but `string`.
fn constant(name: &str, text: &str, config: &mut Config) -> (Type, Option<Column>) {
    let key = format!("types.{name}");
    let spec = config.text(&key, "string");
    let kind = Type::parse(&spec).unwrap_or_else(|message| {
        config.problem(&key, "bad_type", message);
        Type::Text
    });
    let empty = text.is_empty() && kind != Type::Text;
    let value = kind.read(text.as_bytes()).filter(|_| !empty);
    if value.is_none() && !empty {
        let message = format!(
            "found `{text}`, expected {}",
            kind.expected(text.as_bytes())
        );
        config.problem(&format!("constant.{name}"), "bad_value", message);
    }
    let mut builder = kind.builder();
    builder.put(value);
    let column = builder.finish().ok();
    let column = column.map(|column| Column {
        constant: true,
        ..column
    });
    (kind, column)
}

weir_sdk::export!(Select);
