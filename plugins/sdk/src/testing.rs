//! Runs a plugin natively, like a strict host: everything that the contract forbids is a panic with the reason.
#![expect(
    clippy::panic,
    clippy::expect_used,
    reason = "a test harness: a breach of the contract fails the test"
)]

use std::collections::BTreeMap;

use crate::Transform;
use crate::builder::Builder;
use crate::cells::{OutputCell, fields_of};
use crate::contract::{
    Buffers, Column, Field, File, MadeColumn, Output, Plan, PlannedColumn, Problem, Reject, RowMap,
    Setup, Table as LookupTable,
};
use crate::types::{Type, Value};
use crate::view::{Batch, Columns, Node, bit};

/// A table as texts: what a test compares. `None` is null.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    pub names: Vec<String>,
    pub rows: Vec<Vec<Option<String>>>,
    /// The input row of each row.
    pub origin: Vec<usize>,
    pub rejects: Vec<Reject>,
    pub counters: Vec<u64>,
}

/// A config, files and input columns.
#[derive(Debug, Clone, Default)]
pub struct Bench {
    keys: BTreeMap<String, String>,
    files: Vec<(String, Vec<u8>)>,
    tables: Vec<LookupTable>,
    input: Vec<Vec<Field>>,
    columns: Vec<Column>,
}

impl Bench {
    pub fn key(mut self, key: &str, value: &str) -> Self {
        self.keys.insert(key.into(), value.into());
        self
    }

    pub fn file(mut self, key: &str, bytes: &str) -> Self {
        self.files.push((key.into(), bytes.into()));
        self
    }

    /// A lookup table from texts: name, type and values of each column.
    pub fn table(mut self, key: &str, columns: &[(&str, &str, &[Option<&str>])]) -> Self {
        self.tables.push(LookupTable {
            key: key.into(),
            rows: columns.first().map_or(0, |(_, _, rows)| rows.len() as u32),
            fields: columns
                .iter()
                .map(|(name, spec, _)| vec![typed(spec).field(name)])
                .collect(),
            columns: columns
                .iter()
                .map(|(_, spec, rows)| filled(spec, rows))
                .collect(),
        });
        self
    }

    /// An input column from bytes (`z`).
    pub fn bytes(mut self, name: &str, rows: &[Option<&[u8]>]) -> Self {
        let mut builder = Type::Text.builder();
        for row in rows {
            match (&mut builder, row) {
                (Builder::Span(b), Some(bytes)) => b.push(bytes),
                (b, _) => b.push_null(),
            }
        }
        let format = "z".into();
        self.input.push(vec![Field {
            format,
            ..Type::Text.field(name)
        }]);
        self.columns.push(builder.finish().expect("small"));
        self
    }

    /// An input column of type `spec` from texts.
    pub fn column(mut self, name: &str, spec: &str, rows: &[Option<&str>]) -> Self {
        self.input.push(vec![typed(spec).field(name)]);
        self.columns.push(filled(spec, rows));
        self
    }

    /// An input column of the type that `output!` makes of a field of type `T`: lists and structs too.
    pub fn cells<T: OutputCell>(
        mut self,
        name: &str,
        rows: impl IntoIterator<Item = Option<T>>,
    ) -> Self {
        let mut builder = T::builder();
        for row in rows {
            match row {
                Some(cell) => cell.write_to(&mut builder),
                None => builder.push_null(),
            }
        }
        self.input.push(T::nodes(name));
        self.columns.push(builder.finish().expect("small"));
        self
    }

    /// The last column's first row stands for every row.
    pub fn constant(mut self) -> Self {
        if let Some(column) = self.columns.last_mut() {
            column.constant = true;
        }
        self
    }

    /// The input columns, in order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub fn setup(&self) -> Setup {
        let mut config = String::from("{");
        for (key, value) in &self.keys {
            if config.len() > 1 {
                config.push(',');
            }
            crate::json::quote(key, &mut config);
            config.push(':');
            crate::json::quote(value, &mut config);
        }
        config.push('}');
        let files = self.files.iter();
        let files = files.map(|(key, bytes)| File {
            key: key.clone(),
            bytes: bytes.clone(),
        });
        Setup {
            config,
            files: files.collect(),
            tables: self.tables.clone(),
            input: self.input.clone(),
        }
    }

    /// The problems of this config; a panic if it has none.
    pub fn problems<T: Transform>(&self) -> Vec<Problem> {
        match T::init(&self.setup()) {
            Ok(_) => panic!("the config has no problem"),
            Err(problems) => problems,
        }
    }

    pub fn init<T: Transform>(&self) -> (T, Plan) {
        T::init(&self.setup()).unwrap_or_else(|problems| panic!("init: {problems:#?}"))
    }

    /// Inits and runs all rows in one batch.
    pub fn run<T: Transform>(&self, rows: usize) -> Table {
        let (mut plugin, plan) = self.init::<T>();
        self.batch(&mut plugin, &plan, rows)
    }

    /// Runs a plugin that is there already.
    pub fn batch<T: Transform>(&self, plugin: &mut T, plan: &Plan, rows: usize) -> Table {
        let columns = plan
            .reads
            .iter()
            .map(|n| self.columns[*n as usize].clone())
            .collect();
        let batch = Batch::new(rows as u32, columns);
        let output = plugin.run(&batch).unwrap_or_else(|e| panic!("run: {e}"));
        let again = plugin.run(&batch).expect("a second run of the same batch");
        assert_eq!(
            output, again,
            "the same batch gave something else the second time"
        );
        self.outcome(plan, rows, output)
    }

    fn outcome(&self, plan: &Plan, rows: usize, output: Output) -> Table {
        let origin = origin(&output.rows, rows);
        assert!(origin.is_sorted(), "output keeps input order");
        assert!(
            origin.iter().all(|row| *row < rows),
            "a row that was not given"
        );
        let repeats = origin.windows(2).any(|pair| pair[0] == pair[1]);
        assert!(
            plan.explodes || !repeats,
            "a row came twice, but the plan does not explode"
        );
        check_rejects(&output.rejects, &origin, rows);
        assert_eq!(
            output.counters.len(),
            plan.counters.len(),
            "one number per counter"
        );

        let mut made = output.columns.iter();
        let mut names = Vec::new();
        let mut columns: Vec<Vec<Option<String>>> = Vec::new();
        for planned in &plan.output {
            let (fields, column, kept) = match planned {
                PlannedColumn::Carry(n) => {
                    (&self.input[*n as usize], &self.columns[*n as usize], true)
                }
                PlannedColumn::Make(nodes) => match made.next().expect("a column per `make`") {
                    MadeColumn::Made(column) => (nodes, column, false),
                    MadeColumn::Unchanged(n) => {
                        let n = plan.reads[*n as usize] as usize;
                        assert_eq!(
                            self.input[n][0].format, nodes[0].format,
                            "unchanged, so the same type"
                        );
                        (nodes, &self.columns[n], true)
                    }
                },
            };
            let stored = if kept { rows } else { origin.len() };
            let texts = texts(fields, column, stored);
            names.push(fields[0].name.clone());
            columns.push(match kept {
                true => origin.iter().map(|row| texts[*row].clone()).collect(),
                false => texts,
            });
        }
        assert!(made.next().is_none(), "more columns than the plan makes");
        let rows = (0..origin.len()).map(|n| columns.iter().map(|c| c[n].clone()).collect());
        Table {
            names,
            rows: rows.collect(),
            origin,
            rejects: output.rejects,
            counters: output.counters,
        }
    }
}

impl Table {
    /// `row[/part] code field`, one line a reject.
    pub fn codes(&self) -> Vec<String> {
        let line = |r: &Reject| {
            let part = r.part.map_or(String::new(), |part| format!("/{part}"));
            let field = r
                .field
                .as_ref()
                .map_or(String::new(), |field| format!(" {field}"));
            format!("{}{part} {}{field}", r.row, r.code)
        };
        self.rejects.iter().map(line).collect()
    }

    /// Rows as lines, `|` between columns and `∅` for null.
    pub fn lines(&self) -> Vec<String> {
        let line = |row: &Vec<Option<String>>| {
            let cells: Vec<&str> = row.iter().map(|c| c.as_deref().unwrap_or("∅")).collect();
            cells.join("|")
        };
        self.rows.iter().map(line).collect()
    }
}

fn typed(spec: &str) -> Type {
    Type::parse(spec).expect("a type")
}

fn filled(spec: &str, rows: &[Option<&str>]) -> Column {
    let kind = typed(spec);
    let mut builder = kind.builder();
    for row in rows {
        builder.put(row.map(|text| kind.read(text.as_bytes()).expect("a value of the type")));
    }
    builder.finish().expect("small")
}

fn origin(map: &RowMap, rows: usize) -> Vec<usize> {
    match map {
        RowMap::Every => (0..rows).collect(),
        RowMap::Kept(bits) => {
            assert_eq!(bits.len(), rows.div_ceil(8), "one bit per input row");
            assert!(
                (rows..bits.len() * 8).all(|n| !bit(bits, n)),
                "spare bits are 0"
            );
            (0..rows).filter(|n| bit(bits, *n)).collect()
        }
        RowMap::Origin(list) => list.iter().map(|n| *n as usize).collect(),
    }
}

fn check_rejects(rejects: &[Reject], origin: &[usize], rows: usize) {
    for reject in rejects {
        let Reject {
            row, part, code, ..
        } = reject;
        assert!(
            (*row as usize) < rows,
            "a reject of row {row}, which was not given"
        );
        let snake = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        assert!(code.len() <= 64 && code.bytes().all(snake), "code `{code}`");
        let went_on = origin.binary_search(&(*row as usize)).is_ok();
        assert!(
            part.is_some() || !went_on,
            "row {row} is refused whole and goes on"
        );
    }
}

/// Each value as a text; panics on what Arrow would refuse.
fn texts(fields: &[Field], column: &Column, rows: usize) -> Vec<Option<String>> {
    let stored = if column.constant { 1 } else { rows };
    let mut nodes = column.nodes.iter();
    check_nodes(&mut fields.iter(), &mut nodes, stored);
    assert!(
        nodes.next().is_none(),
        "`{}`: too many nodes",
        fields[0].name
    );
    let columns = [column.clone()];
    let node = Columns::new(rows as u32, &columns).node(0).expect("a node");
    shown(fields, node, rows, true)
}

/// A list is `[a, ∅]`, a struct `{name: a}`. `top`: days, microseconds and unscaled decimals stay numbers there.
fn shown(fields: &[Field], node: Node<'_>, rows: usize, top: bool) -> Vec<Option<String>> {
    let name = &fields[0].name;
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "∅".into());
    match fields[0].format.as_str() {
        "z" => {
            let view = node.bytes().expect("bytes");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (0..rows).map(|n| view.get(n).map(text)).collect()
        }
        "+l" => {
            let (spans, items) = node.list().expect("a list");
            let items = shown(&fields[1..], items, items.rows(), false);
            let list = |(from, to): (usize, usize)| {
                let items: Vec<String> = items[from..to].iter().map(text).collect();
                format!("[{}]", items.join(", "))
            };
            (0..rows).map(|n| spans.get(n).map(list)).collect()
        }
        "+s" => {
            let nulls = node.nulls().expect("nulls");
            let columns = fields_of(fields).into_iter().map(|(name, at)| {
                let values = shown(&fields[at..], node.child(at), rows, false);
                (name, values)
            });
            let columns: Vec<_> = columns.collect();
            let row = |n: usize| {
                let values = columns
                    .iter()
                    .map(|(name, values)| format!("{name}: {}", text(&values[n])));
                format!("{{{}}}", values.collect::<Vec<_>>().join(", "))
            };
            (0..rows).map(|n| nulls.index(n).map(|_| row(n))).collect()
        }
        format => {
            let Some(kind) = Type::of_format(format) else {
                panic!("`{name}`: format {format} is not known to the harness");
            };
            let view = node.values(&kind).expect("values of the type");
            let one = |value: Value<'_>| match value {
                Value::Date(n) if top => n.to_string(),
                Value::Timestamp(n) if top => n.to_string(),
                Value::Decimal(n) if top => n.to_string(),
                Value::Double(n) => n.to_string(),
                other => kind.show(other),
            };
            (0..rows).map(|n| view.get(n).map(one)).collect()
        }
    }
}

/// As a host checks them: a node for each field, in the same order.
fn check_nodes<'n>(
    fields: &mut impl Iterator<Item = &'n Field>,
    nodes: &mut impl Iterator<Item = &'n Buffers>,
    rows: usize,
) {
    let field = fields.next().expect("a type has as many nodes as it says");
    let name = &field.name;
    let node = nodes
        .next()
        .unwrap_or_else(|| panic!("`{name}`: its buffers are missing"));
    if let Some(bits) = &node.validity {
        assert_eq!(bits.len(), rows.div_ceil(8), "`{name}`: validity bytes");
        assert!(
            (rows..bits.len() * 8).all(|n| !bit(bits, n)),
            "`{name}`: spare bits are 0"
        );
    }
    let last = node.offsets.last().map_or(0, |last| *last as usize);
    let nested = field.format.starts_with('+');
    if nested {
        assert!(node.data.is_empty(), "`{name}`: data of a list or struct");
    } else if !node.offsets.is_empty() {
        assert_eq!(last, node.data.len(), "`{name}`: bytes nobody refers to");
    }
    let inside = if field.format == "+l" { last } else { rows };
    for _ in 0..field.children {
        check_nodes(&mut *fields, &mut *nodes, inside);
    }
}
