//! Gives random and mutated outputs of a guest to the readers of this folder: nothing panics, valid output is accepted,
//! and output that breaks a rule of the contract, as `oracle` reads it, is not.
//!
//! `WEIR_FUZZ_SECONDS` says how long (default 5), `WEIR_FUZZ_SEED` the first seed (default 1); a failure prints the
//! seed of its case.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{Array, new_null_array};
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};

use super::bindings::exports::weir::plugin::transform as wit;
use super::oracle;
use super::output::{self, Given, Refused};
use super::plan::Plan;
use super::types;
use crate::chain::Column;
use crate::plugin::MAX_COUNT;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Numbers at which something usually breaks.
    fn wild(&mut self) -> u32 {
        let edge = [0, 1, 2, 7, 8, 9, 63, 64, 0x7fff_ffff, 0x8000_0000, u32::MAX];
        match self.one_in(2) {
            true => edge[self.below(edge.len())],
            false => self.next() as u32 >> self.below(32),
        }
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

fn kind(r: &mut Random, depth: usize) -> DataType {
    let scalars = 9;
    match r.below(if depth == 0 { scalars } else { scalars + 2 }) {
        0 => DataType::Boolean,
        1 => DataType::Int32,
        2 => DataType::Int64,
        3 => DataType::Float64,
        4 => DataType::Decimal128(1 + r.below(38) as u8, 0),
        5 => DataType::Utf8,
        6 => DataType::Binary,
        7 => DataType::Date32,
        8 => DataType::Timestamp(
            TimeUnit::Microsecond,
            Some("UTC".into()).filter(|_| r.one_in(2)),
        ),
        9 => DataType::List(Arc::new(field(r, "item", depth - 1))),
        _ => {
            let children = 1 + r.below(3);
            let child = |n| field(r, &format!("c{n}"), depth - 1);
            DataType::Struct(Fields::from((0..children).map(child).collect::<Vec<_>>()))
        }
    }
}

fn field(r: &mut Random, name: &str, depth: usize) -> Field {
    Field::new(name, kind(r, depth), !r.one_in(3))
}

fn nodes(field: &Field) -> Vec<wit::FieldResult> {
    let nodes = types::nodes(field).expect("a type of the contract");
    let node = |node: types::Node| wit::FieldResult {
        name: node.name,
        format: node.format,
        nullable: node.nullable,
        children: node.children,
        extension: node.extension,
    };
    nodes.into_iter().map(node).collect()
}

fn spoil_nodes(r: &mut Random, nodes: &mut Vec<wit::FieldResult>) {
    let at = r.below(nodes.len());
    match r.below(6) {
        0 => nodes[at].children = r.wild(),
        1 => {
            let formats = [
                "", "+l", "+s", "u", "d:0,0", "d:39,1", "d:5,6", "d:5,-1", "d:a,b", "tsn:", "+w:9",
            ];
            nodes[at].format = formats[r.below(formats.len())].into();
        }
        2 => nodes[at].nullable ^= true,
        3 => drop(nodes.remove(at)),
        4 => nodes.push(nodes[at].clone()),
        _ => nodes[at].name = String::from_utf8_lossy(&r.bytes(3)).into_owned(),
    }
}

fn plan(r: &mut Random, columns: usize) -> wit::Plan {
    let mut output: Vec<wit::PlannedColumn> = (0..columns)
        .filter(|_| r.one_in(2))
        .map(|n| wit::PlannedColumn::Carry(n as u32))
        .collect();
    for n in 0..r.below(4) {
        let mut made = nodes(&field(r, &format!("m{n}"), 3));
        if r.one_in(12) {
            spoil_nodes(r, &mut made);
        }
        output.push(wit::PlannedColumn::Make(made));
    }
    let mut plan = wit::Plan {
        reads: (0..columns as u32).filter(|_| r.one_in(2)).collect(),
        output,
        explodes: r.one_in(2),
        counters: (0..r.below(3)).map(|n| n.to_string()).collect(),
    };
    if r.one_in(10) {
        match r.below(4) {
            0 => plan.reads.push(r.wild()),
            1 => plan.output.push(wit::PlannedColumn::Carry(r.wild())),
            2 => plan.output.extend(plan.output.first().cloned()),
            _ => plan.counters.push("0".into()),
        }
    }
    plan
}

fn bits(r: &mut Random, rows: usize) -> Vec<u8> {
    let mut bits = r.bytes(rows.div_ceil(8));
    if let (Some(last), 1..) = (bits.last_mut(), rows % 8) {
        *last &= (1 << (rows % 8)) - 1;
    }
    bits
}

/// Valid buffers of `field` for `rows`, without nulls if the field allows none.
fn buffers(r: &mut Random, field: &Field, rows: usize, out: &mut Vec<wit::BuffersResult>) {
    let nulls = field.is_nullable() && r.one_in(2);
    let validity = nulls.then(|| bits(r, rows));
    let (mut offsets, mut data) = (Vec::new(), Vec::new());
    let mut ends = |r: &mut Random, most: usize| {
        offsets = vec![0];
        for row in 0..rows {
            offsets.push(offsets[row] + r.below(most) as i32);
        }
        offsets[rows] as usize
    };
    let mut children = Vec::new();
    match field.data_type() {
        DataType::Boolean => data = bits(r, rows),
        DataType::Int32 | DataType::Date32 => data = r.bytes(rows * 4),
        DataType::Int64 | DataType::Float64 | DataType::Timestamp(..) => data = r.bytes(rows * 8),
        DataType::Decimal128(..) => {
            data = (0..rows)
                .flat_map(|_| (r.below(19) as i128 - 9).to_le_bytes())
                .collect();
        }
        DataType::Utf8 => {
            let words = ["", "a", "é", "€uro", "😀"];
            offsets = vec![0];
            for _ in 0..rows {
                data.extend(words[r.below(words.len())].bytes());
                offsets.push(data.len() as i32);
            }
        }
        DataType::Binary => {
            let len = ends(r, 5);
            data = r.bytes(len);
        }
        DataType::List(item) => {
            let len = ends(r, 3);
            buffers(r, item, len, &mut children);
        }
        DataType::Struct(fields) => {
            for child in fields {
                buffers(r, child, rows, &mut children);
            }
        }
        other => unreachable!("{other} is not made here"),
    }
    out.push(wit::BuffersResult {
        validity,
        offsets,
        data,
    });
    out.append(&mut children);
}

fn made(r: &mut Random, field: &Field, len: usize) -> wit::MadeColumn {
    let constant = r.one_in(6);
    let mut nodes = Vec::new();
    buffers(r, field, if constant { 1 } else { len }, &mut nodes);
    wit::MadeColumn::Made(wit::ColumnResult { constant, nodes })
}

fn reject(row: u32, part: Option<u32>) -> wit::Reject {
    wit::Reject {
        row,
        part,
        code: "bad_row".into(),
        field: None,
        message: "so".into(),
    }
}

/// A valid output of `plan`.
fn sound(r: &mut Random, plan: &Plan, rows: usize) -> wit::Output {
    let (mut rejects, mut origin) = (Vec::new(), Vec::new());
    for row in 0..rows as u32 {
        let pieces = if plan.explodes { r.below(4) as u32 } else { 1 };
        match r.below(8) {
            0 => rejects.push(reject(row, None)),
            1 if pieces > 0 => {
                rejects.push(reject(row, Some(r.below(pieces as usize) as u32)));
                origin.extend((1..pieces).map(|_| row));
            }
            2 => {}
            _ => origin.extend((0..pieces).map(|_| row)),
        }
    }
    let every = origin.iter().copied().eq(0..rows as u32) && rejects.is_empty();
    let distinct = origin.windows(2).all(|pair| pair[0] < pair[1]);
    let len = origin.len();
    let map = match r.below(3) {
        0 if every => wit::RowMap::Every,
        1 if distinct => {
            let mut kept = vec![0u8; rows.div_ceil(8)];
            origin
                .iter()
                .for_each(|n| kept[*n as usize / 8] |= 1 << (n % 8));
            wit::RowMap::Kept(kept)
        }
        _ => wit::RowMap::Origin(origin),
    };
    wit::Output {
        rows: map,
        columns: plan.makes.iter().map(|field| made(r, field, len)).collect(),
        rejects,
        counters: plan
            .counters
            .iter()
            .map(|_| r.next() % (MAX_COUNT + 1))
            .collect(),
    }
}

fn spoil(r: &mut Random, output: &mut wit::Output, rows: usize) {
    match r.below(8) {
        0 => match &mut output.rows {
            wit::RowMap::Every => output.rows = wit::RowMap::Kept(r.bytes(rows.div_ceil(8))),
            wit::RowMap::Kept(bits) => spoil_bytes(r, bits),
            wit::RowMap::Origin(list) if list.is_empty() => list.push(r.wild()),
            wit::RowMap::Origin(list) => {
                let at = r.below(list.len());
                match r.below(3) {
                    0 => list[at] = r.wild(),
                    1 => list.insert(at, list[at]),
                    _ => drop(list.remove(at)),
                }
            }
        },
        1 => output.rejects.push(reject(
            r.below(rows + 1) as u32,
            Some(r.below(4) as u32).filter(|_| r.one_in(2)),
        )),
        2 => {
            if let Some(reject) = output.rejects.first_mut() {
                match r.below(3) {
                    0 => reject.row = r.wild(),
                    1 => reject.part = Some(r.wild()),
                    _ => reject.code = ["", "Up", "a b", "é", &"x".repeat(65)][r.below(5)].into(),
                }
            }
        }
        3 => output.counters.push(r.next()),
        4 => {
            let at = r.below(output.counters.len());
            output
                .counters
                .get_mut(at)
                .into_iter()
                .for_each(|n| *n = u64::MAX);
        }
        _ => {
            let at = r.below(output.columns.len());
            match output.columns.get_mut(at) {
                None => output.columns.push(wit::MadeColumn::Unchanged(r.wild())),
                Some(column) if r.one_in(10) => *column = wit::MadeColumn::Unchanged(r.wild() % 4),
                Some(wit::MadeColumn::Made(column)) => spoil_column(r, column),
                Some(wit::MadeColumn::Unchanged(n)) => *n = r.wild(),
            }
        }
    }
}

fn spoil_column(r: &mut Random, column: &mut wit::ColumnResult) {
    if r.one_in(12) {
        column.constant ^= true;
        return;
    }
    let at = r.below(column.nodes.len());
    let Some(node) = column.nodes.get_mut(at) else {
        return;
    };
    match r.below(7) {
        0 => {
            let len = r.below(9);
            node.validity = Some(r.bytes(len));
        }
        1 => node
            .validity
            .iter_mut()
            .for_each(|bits| spoil_bytes(r, bits)),
        2 => node.offsets.push(r.wild() as i32),
        3 | 4 => {
            let at = r.below(node.offsets.len());
            let wild = r.wild() as i32;
            let near = [-1, 1][r.below(2)];
            if let Some(offset) = node.offsets.get_mut(at) {
                *offset = if wild % 2 == 0 {
                    wild
                } else {
                    offset.wrapping_add(near)
                };
            }
        }
        5 => spoil_bytes(r, &mut node.data),
        _ => match r.one_in(2) {
            true => drop(column.nodes.remove(at)),
            false => column.nodes.push(column.nodes[at].clone()),
        },
    }
}

fn spoil_bytes(r: &mut Random, bytes: &mut Vec<u8>) {
    let at = r.below(bytes.len());
    match r.below(3) {
        0 => bytes.push(r.next() as u8),
        1 => drop(bytes.pop()),
        _ => bytes
            .get_mut(at)
            .into_iter()
            .for_each(|byte| *byte = r.next() as u8),
    }
}

#[derive(Debug, Default)]
struct Count {
    cases: u64,
    taken: u64,
    refused: u64,
}

fn case(seed: u64, count: &mut Count) {
    let r = &mut Random(seed);
    let fields: Vec<Field> = (0..1 + r.below(4))
        .map(|n| field(r, &format!("i{n}"), 2))
        .collect();
    for field in &fields {
        assert_eq!(types::field(&nodes(field)).as_ref(), Ok(field));
    }
    let input = Schema::new(fields);
    let most = if r.one_in(4) { 70 } else { 9 };
    let rows = 1 + r.below(most);
    let columns: Vec<Column> = input
        .fields()
        .iter()
        .map(|field| Column {
            values: new_null_array(field.data_type(), rows),
            constant: false,
        })
        .collect();
    let given_plan = plan(r, columns.len());
    let Ok(plan) = Plan::check(given_plan, &input) else {
        return;
    };
    let mut output = sound(r, &plan, rows);
    let wrongs = r.below(4);
    (0..wrongs).for_each(|_| spoil(r, &mut output, rows));
    let read: Vec<Column> = plan.reads.iter().map(|n| columns[*n].clone()).collect();
    let carried: Vec<Column> = plan.carries().map(|n| columns[n].clone()).collect();
    let given = Given {
        read: &read,
        carried: &carried,
        rows,
    };
    let broken = oracle::breaks(&plan, &output, &read, rows);
    let max_bytes = if r.one_in(8) { r.below(1000) } else { 1 << 20 };
    count.cases += 1;
    match output::check(&plan, output, given, max_bytes) {
        Ok(piece) => {
            count.taken += 1;
            assert_eq!(broken, None, "taken, although it breaks a rule");
            for (field, column) in plan.makes.iter().zip(&piece.made) {
                let rows = if column.constant {
                    column.values.len()
                } else {
                    piece.len
                };
                assert_eq!(
                    (column.values.len(), column.values.data_type()),
                    (rows, field.data_type())
                );
                column
                    .values
                    .to_data()
                    .validate_full()
                    .expect("sound to Arrow");
            }
        }
        Err(Refused::Defect(why)) => {
            count.refused += 1;
            let by_size = rows == 1 && why.starts_with("one record became");
            assert!(broken.is_some() || by_size, "sound, but refused: {why}");
        }
        Err(Refused::TooMuch) => {}
    }
}

#[test]
fn readers_of_guest_buffers_hold() {
    let number = |name: &str, default: u64| {
        let value = std::env::var(name).ok();
        value.map_or(default, |v| v.parse().expect("a number"))
    };
    let (seconds, first) = (number("WEIR_FUZZ_SECONDS", 5), number("WEIR_FUZZ_SEED", 1));
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut count = Count::default();
    for seed in first.. {
        let told =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(seed, &mut count)));
        assert!(
            told.is_ok(),
            "again: WEIR_FUZZ_SEED={seed} WEIR_FUZZ_SECONDS=0 cargo test --lib boundary::fuzz"
        );
        if Instant::now() >= until {
            break;
        }
    }
    println!("{count:?} from seed {first} on");
    let few = |n: u64| seconds > 0 && n < count.cases / 20;
    assert!(
        !few(count.taken) && !few(count.refused),
        "{count:?}: the mixture is off"
    );
}
