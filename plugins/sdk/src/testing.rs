//! Runs a plugin natively, like a strict host: everything that the contract forbids is a panic with the reason.
#![expect(
    clippy::panic,
    clippy::expect_used,
    reason = "a test harness: a breach of the contract fails the test"
)]

use std::collections::BTreeMap;

use crate::Transform;
use crate::builder::Builder;
use crate::contract::{
    Buffers, Column, Field, File, MadeColumn, Output, Plan, PlannedColumn, Problem, Reject, RowMap,
    Setup, Table as LookupTable,
};
use crate::types::Type;
use crate::view::{Batch, bit};

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
            let (field, column, kept) = match planned {
                PlannedColumn::Carry(n) => (
                    &self.input[*n as usize][0],
                    &self.columns[*n as usize],
                    true,
                ),
                PlannedColumn::Make(nodes) => match made.next().expect("a column per `make`") {
                    MadeColumn::Made(column) => (&nodes[0], column, false),
                    MadeColumn::Unchanged(n) => {
                        let n = plan.reads[*n as usize] as usize;
                        assert_eq!(
                            self.input[n][0].format, nodes[0].format,
                            "unchanged, so the same type"
                        );
                        (&nodes[0], &self.columns[n], true)
                    }
                },
            };
            let stored = if kept { rows } else { origin.len() };
            let texts = texts(field, column, stored);
            names.push(field.name.clone());
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
fn texts(field: &Field, column: &Column, rows: usize) -> Vec<Option<String>> {
    let stored = if column.constant { 1 } else { rows };
    let [node] = column.nodes.as_slice() else {
        panic!("`{}` is not flat", field.name)
    };
    check_node(&field.name, node, stored);
    let batch = Batch::new(rows as u32, vec![column.clone()]);
    let rows = 0..rows;
    match field.format.as_str() {
        "u" => {
            let view = batch.text(0).expect("texts");
            rows.map(|n| view.get(n).map(str::to_owned)).collect()
        }
        "z" => {
            let view = batch.bytes(0).expect("bytes");
            rows.map(|n| view.get(n).map(|b| String::from_utf8_lossy(b).into_owned()))
                .collect()
        }
        "i" | "tdD" => {
            let view = batch.i32s(0).expect("4-byte values");
            rows.map(|n| view.get(n).map(|v| v.to_string())).collect()
        }
        "g" => {
            let view = batch.i64s(0).expect("8-byte values");
            rows.map(|n| view.f64(n).map(|v| v.to_string())).collect()
        }
        "l" | "tsu:" | "tsu:UTC" => {
            let view = batch.i64s(0).expect("8-byte values");
            rows.map(|n| view.get(n).map(|v| v.to_string())).collect()
        }
        "b" => {
            let view = batch.bools(0).expect("booleans");
            rows.map(|n| view.get(n).map(|v| v.to_string())).collect()
        }
        format if format.starts_with("d:") => {
            let view = batch.i128s(0).expect("16-byte values");
            rows.map(|n| view.get(n).map(|v| v.to_string())).collect()
        }
        other => panic!(
            "`{}`: format {other} is not known to the harness",
            field.name
        ),
    }
}

fn check_node(name: &str, node: &Buffers, rows: usize) {
    if let Some(bits) = &node.validity {
        assert_eq!(bits.len(), rows.div_ceil(8), "`{name}`: validity bytes");
        assert!(
            (rows..bits.len() * 8).all(|n| !bit(bits, n)),
            "`{name}`: spare bits are 0"
        );
    }
    if let Some(last) = node.offsets.last() {
        assert_eq!(
            *last as usize,
            node.data.len(),
            "`{name}`: bytes nobody refers to"
        );
    }
}
