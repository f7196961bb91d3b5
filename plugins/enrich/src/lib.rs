//! `enrich`: columns of a lookup table joined to each row. The table is indexed once, when the pipeline starts; a row
//! with a key that the table lacks gets nulls, is refused, or is filtered, as the config says.
mod cells;
mod index;

use weir_sdk::builder::Bits;
use weir_sdk::{
    Batch, Config, Field, MadeColumn, Output, Plan, PlannedColumn, Problem, Refusal, Rejects,
    RowMap, Schema, Setup, Table, Transform, Type, Value, shown,
};

use cells::Cells;
use index::Index;

/// Most bad rows of a table that are shown; the others are counted.
const SHOWN_ROWS: usize = 5;

/// The plugin. It keeps the table, nothing of a row.
#[derive(Debug)]
pub struct Enrich {
    keys: Vec<Key>,
    index: Index,
    added: Vec<Cells>,
    missing: Missing,
    fold: bool,
}

/// A key column of the rows.
#[derive(Debug)]
struct Key {
    name: String,
    kind: Type,
    table_name: String,
    /// Column of the table, and its type there.
    table: (usize, Type),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Missing {
    Null,
    Refuse,
    Drop,
}

/// Columns of the rows and of the table that must be equal; as many of each, or it is a problem.
fn key_names(config: &mut Config) -> (Vec<String>, Vec<String>) {
    let names = config.list("key");
    if names.is_empty() {
        let message = "`key` is missing: the columns that find a row of the table";
        config.problem("key", "missing_key", message);
    }
    let mut table_names = config.list("table-key");
    if table_names.is_empty() {
        table_names.clone_from(&names);
    } else if table_names.len() != names.len() {
        let message = format!(
            "{} columns of the table for {} of the rows; name as many",
            table_names.len(),
            names.len()
        );
        config.problem("table-key", "bad_value", message);
    }
    (names, table_names)
}

/// The columns of the table that come to the rows, each under a name that is free. `wanted`: key, name, number.
fn added(
    setup: &Setup,
    table: &Table<'_>,
    wanted: &[(String, String, usize)],
    config: &mut Config,
    plan: &mut Plan,
) -> Vec<Cells> {
    let mut added = Vec::new();
    let mut taken: Vec<&str> = Schema::of(setup).names().collect();
    for (key, name, n) in wanted {
        if taken.contains(&name.as_str()) {
            let message =
                format!("there is a column `{name}` already; columns.<other name> = … renames");
            config.problem(key, "duplicate_column", message);
            continue;
        }
        taken.push(name);
        match Cells::new(table, *n) {
            Ok(cells) => added.push(cells),
            Err(message) => config.problem(key, "bad_column", message),
        }
        plan.output.push(PlannedColumn::Make(
            nodes(table.schema.nodes(*n), name).collect(),
        ));
    }
    added
}

impl Transform for Enrich {
    const NAME: &'static str = "enrich";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Columns of a lookup table joined to each row by key";
    const SCHEMA: &'static str = include_str!("schema.json");

    fn init(setup: &Setup) -> Result<(Self, Plan), Vec<Problem>> {
        let mut config = Config::parse(&setup.config);
        let meaning = "the CSV or Parquet file with the rows to join";
        let table = Table::require(setup, "table", meaning, &mut config);
        let fold = config.flag("case-insensitive", false);
        let missing = [Missing::Null, Missing::Refuse, Missing::Drop]
            [config.choice("on-missing", &["null", "refuse", "drop"], "null")];
        let first = config.choice("on-duplicate", &["error", "first"], "error") == 1;
        let (names, table_names) = key_names(&mut config);
        let listed = config.list("columns");
        let named = config.below("columns.");
        let mut plan = Plan {
            reads: Vec::new(),
            output: (0..setup.input.len() as u32)
                .map(PlannedColumn::Carry)
                .collect(),
            explodes: false,
            counters: vec!["matched".into(), "missed".into()],
        };
        let Some(table) = table else {
            for name in &names {
                if let Err(why) = Schema::of(setup).find(name) {
                    config.problem("key", "unknown_column", why);
                }
            }
            return Err(config.finish().err().unwrap_or_default());
        };
        let keys = keys(setup, &table, &names, &table_names, &mut config, &mut plan);
        let wanted = wanted(&table, listed, named, &table_names, &mut config);
        let added = added(setup, &table, &wanted, &mut config, &mut plan);
        let complete = keys.len() == names.len();
        let mut plugin = Self {
            keys,
            index: Index::with_capacity(0, 0),
            added,
            missing,
            fold,
        };
        if complete && let Err(message) = plugin.fill(&table, first, &mut config) {
            config.problem("table", "bad_table", message);
        }
        config.finish().map(|()| (plugin, plan))
    }

    fn run(&mut self, batch: &Batch) -> Result<Output, String> {
        let rows = batch.rows();
        let (hits, missed) = self.look_up(batch)?;
        let mut rejects = Rejects::default();
        let mut kept = Bits::default();
        if missed > 0 && self.missing != Missing::Null {
            hits.iter().for_each(|hit| kept.push(hit.is_some()));
        }
        if self.missing == Missing::Refuse {
            for row in (0..rows).filter(|row| hits[*row].is_none()) {
                rejects.row(row, self.refusal(batch, row)?);
            }
        }
        let drops = missed > 0 && self.missing != Missing::Null;
        let mut columns = Vec::with_capacity(self.added.len());
        for cells in &self.added {
            let mut builder = cells.builder();
            for hit in hits.iter().filter(|hit| !drops || hit.is_some()) {
                cells.copy(*hit, &mut builder);
            }
            columns.push(MadeColumn::Made(builder.finish()?));
        }
        Ok(Output {
            rows: match drops {
                true => RowMap::Kept(kept.into_bytes()),
                false => RowMap::Every,
            },
            columns,
            rejects: rejects.into_vec(),
            counters: vec![(rows - missed) as u64, missed as u64],
        })
    }
}

impl Enrich {
    /// The table's row for each row, and how many have none. A key with a null in it has none.
    fn look_up(&self, batch: &Batch) -> Result<(Vec<Option<u32>>, usize), String> {
        let mut views = Vec::with_capacity(self.keys.len());
        for (n, key) in self.keys.iter().enumerate() {
            views.push(batch.values(n, &key.kind)?);
        }
        let mut bytes = Vec::new();
        let mut missed = 0;
        let hits = (0..batch.rows()).map(|row| {
            bytes.clear();
            let mut whole = true;
            for (n, view) in views.iter().enumerate() {
                match view.get(row) {
                    Some(value) => {
                        index::encode(value, self.fold, n + 1 == views.len(), &mut bytes);
                    }
                    None => whole = false,
                }
            }
            let hit = self.index.get(&bytes).filter(|_| whole);
            missed += usize::from(hit.is_none());
            hit
        });
        let hits = hits.collect();
        Ok((hits, missed))
    }

    fn refusal(&self, batch: &Batch, row: usize) -> Result<Refusal, String> {
        let mut parts = Vec::new();
        for (n, key) in self.keys.iter().enumerate() {
            let value = batch.values(n, &key.kind)?.get(row);
            let value = value.map_or("null".into(), |value| show(value, &key.kind));
            parts.push(format!("{} = {value}", key.table_name));
        }
        let message = format!("the table has no row with {}", parts.join(", "));
        let field = self.keys.first().map_or("", |key| key.name.as_str());
        Ok(Refusal::of_field("no_match", field, message))
    }

    /// Indexes the table. Rows with a null in their key are never met, and left out.
    fn fill(&mut self, table: &Table<'_>, first: bool, config: &mut Config) -> Result<(), String> {
        let mut views = Vec::new();
        for Key {
            table: (n, kind), ..
        } in &self.keys
        {
            views.push(table.columns.values(*n, kind)?);
        }
        let sizes = self.keys.iter().map(|key| data_len(table, key.table.0));
        self.index = Index::with_capacity(table.rows(), sizes.sum());
        let mut bad = Rows::default();
        let mut twice = Rows::default();
        let mut bytes = Vec::new();
        'rows: for row in 0..table.rows() {
            bytes.clear();
            for (n, (key, view)) in self.keys.iter().zip(&views).enumerate() {
                let Some(value) = view.get(row) else {
                    self.index.skip();
                    continue 'rows;
                };
                let last = n + 1 == views.len();
                if let Err(why) = key.encode(value, self.fold, last, &mut bytes) {
                    bad.push(row, &why);
                    self.index.skip();
                    continue 'rows;
                }
            }
            if let Err(earlier) = self.index.insert(&bytes) {
                let parts = self.keys.iter().zip(&views).filter_map(|(key, view)| {
                    let value = show(view.get(row)?, &key.table.1);
                    Some(format!("{} = {value}", key.table_name))
                });
                let parts = parts.collect::<Vec<_>>().join(", ");
                let first_row = earlier + 1;
                twice.push(row, &format!("{parts}, as in row {first_row}"));
            }
        }
        bad.tell("bad_key_value", "", config);
        if !first {
            let remedy = "; make the keys unique, or on-duplicate = \"first\"";
            twice.tell("duplicate_key", remedy, config);
        }
        Ok(())
    }
}

impl Key {
    /// The table's value as the rows' type would have it.
    fn encode(
        &self,
        value: Value<'_>,
        fold: bool,
        last: bool,
        bytes: &mut Vec<u8>,
    ) -> Result<(), String> {
        let (_, from) = &self.table;
        if from.format() == self.kind.format() {
            index::encode(value, fold, last, bytes);
            return Ok(());
        }
        let text = from.show(value);
        let read = match self.kind {
            Type::Text => self.kind.read(text.as_bytes()),
            _ => self.kind.read(text.trim().as_bytes()),
        };
        let Some(value) = read else {
            let (found, name) = (shown(text.as_bytes()), &self.table_name);
            let wanted = &self.kind;
            return Err(format!(
                "{name} is {found}, expected {wanted}, the type of `{}`",
                self.name
            ));
        };
        index::encode(value, fold, last, bytes);
        Ok(())
    }
}

/// Rows of the table with something wrong.
#[derive(Default)]
struct Rows {
    shown: Vec<String>,
    count: usize,
}

impl Rows {
    fn push(&mut self, row: usize, what: &str) {
        if self.shown.len() < SHOWN_ROWS {
            self.shown.push(format!("row {}: {what}", row + 1));
        }
        self.count += 1;
    }

    fn tell(&self, code: &str, remedy: &str, config: &mut Config) {
        if self.count > 0 {
            let more = match self.count - self.shown.len() {
                0 => String::new(),
                more => format!(" and {more} more rows"),
            };
            let message = format!("{}{more}{remedy}", self.shown.join("; "));
            config.problem("table", code, message);
        }
    }
}

/// Meets the key columns of the rows with those of the table.
fn keys(
    setup: &Setup,
    table: &Table<'_>,
    names: &[String],
    table_names: &[String],
    config: &mut Config,
    plan: &mut Plan,
) -> Vec<Key> {
    let mut side = |key: &str, schema: Schema<'_>, name: &str| {
        let found = schema.find(name).map_err(|why| ("unknown_column", why));
        let found = found.and_then(|n| {
            let kind = schema.kind(n).map_err(|why| ("bad_key", why))?;
            match index::can_be_key(&kind) {
                true => Ok((n, kind)),
                false => Err(("bad_key", format!("`{name}` is a double, which is no key"))),
            }
        });
        found
            .map_err(|(code, why)| config.problem(key, code, why))
            .ok()
    };
    let mut keys = Vec::new();
    let mut differ = Vec::new();
    for (name, table_name) in names.iter().zip(table_names) {
        let row = side("key", Schema::of(setup), name);
        let table = side("table-key", table.schema, table_name);
        let (Some((n, kind)), Some(table)) = (row, table) else {
            continue;
        };
        if !index::meets(&table.1, &kind) {
            differ.push(format!(
                "`{table_name}` is {} in the table, `{name}` is {kind} in the rows",
                table.1
            ));
            continue;
        }
        plan.reads.push(n as u32);
        keys.push(Key {
            name: name.clone(),
            kind,
            table_name: table_name.clone(),
            table,
        });
    }
    for message in differ {
        config.problem("table-key", "key_types_differ", message);
    }
    keys
}

/// The columns to add: config key, name in the rows, position in the table.
fn wanted(
    table: &Table<'_>,
    listed: Vec<String>,
    named: Vec<(String, String)>,
    table_keys: &[String],
    config: &mut Config,
) -> Vec<(String, String, usize)> {
    let mut wanted: Vec<(String, String, String)> = Vec::new();
    for item in listed {
        let (name, column) = match item.split_once('=') {
            Some((name, column)) => (name.trim(), column.trim()),
            None => (item.as_str(), item.as_str()),
        };
        wanted.push(("columns".into(), name.into(), column.into()));
    }
    for (name, column) in named {
        wanted.push((format!("columns.{name}"), name, column));
    }
    if wanted.is_empty() {
        let rest = table.schema.names();
        let rest = rest.filter(|name| !table_keys.iter().any(|key| key == name));
        wanted.extend(rest.map(|name| ("columns".into(), name.into(), name.into())));
    }
    if wanted.is_empty() {
        let message = "the table has no column beside its key: nothing would be added";
        config.problem("columns", "missing_key", message);
    }
    let mut found = Vec::new();
    for (key, name, column) in wanted {
        match table.schema.find(&column) {
            Ok(n) => found.push((key, name, n)),
            Err(why) => config.problem(&key, "unknown_column", format!("the table: {why}")),
        }
    }
    found
}

/// The nodes of a column under another name; a row without a match makes it null.
fn nodes(nodes: &[Field], name: &str) -> impl Iterator<Item = Field> {
    nodes.iter().enumerate().map(move |(n, field)| match n {
        0 => Field {
            name: name.to_owned(),
            nullable: true,
            ..field.clone()
        },
        _ => field.clone(),
    })
}

/// Bytes of the values of a flat column.
fn data_len(table: &Table<'_>, n: usize) -> usize {
    let column = table.columns.column(n).ok();
    let node = column.and_then(|column| column.nodes.first());
    node.map_or(0, |node| node.data.len())
}

fn show(value: Value<'_>, kind: &Type) -> String {
    match value {
        Value::Text(text) => shown(text.as_bytes()),
        other => kind.show(other),
    }
}

weir_sdk::export!(Enrich);
