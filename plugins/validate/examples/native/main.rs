//! xml-flatten and validate as one native library with a C door, for `make bench`: the same code as the components, with
//! the same copies of columns in and out, without WebAssembly.
#![allow(
    unsafe_code,
    clippy::panic,
    clippy::expect_used,
    reason = "raw pointers cross the library's door; a bench fails by panicking"
)]

mod abi;

use std::ffi::c_void;

use abi::{FLATTEN, Node, Open, Out, Refused, Run, Slice, VALIDATE};
use validate::Validate;
use weir_sdk::contract::{Buffers, File};
use weir_sdk::{
    Batch, Column, Field, MadeColumn, Output, Plan, PlannedColumn, RowMap, Setup, Transform,
};
use xml_flatten::Flatten;

const _: (Open, Run) = (weir_native_open, weir_native_run);

struct Native {
    flatten: (Flatten, Plan),
    validate: (Validate, Plan),
    last: Last,
}

/// The last call's output, and the view of it that the caller reads.
#[allow(dead_code, reason = "the view points into them")]
struct Last {
    output: Output,
    origin: Vec<u32>,
    columns: Vec<Node>,
    refused: Vec<Refused>,
    view: Out,
}

fn begin<T: Transform>(config: &[u8], files: Vec<File>, input: Vec<Vec<Field>>) -> (T, Plan) {
    let config = String::from_utf8(config.to_vec()).expect("UTF-8");
    let setup = Setup {
        config,
        files,
        tables: Vec::new(),
        input,
    };
    T::init(&setup).unwrap_or_else(|problems| panic!("{}: {problems:#?}", T::NAME))
}

/// # Safety
/// The slices are alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weir_native_open(
    flatten: Slice<u8>,
    validate: Slice<u8>,
    rules: Slice<u8>,
) -> *mut c_void {
    // SAFETY: as above.
    let (flatten, validate, rules) = unsafe { (flatten.get(), validate.get(), rules.get()) };
    let value = Field {
        name: "value".into(),
        format: "z".into(),
        nullable: true,
        children: 0,
        extension: None,
    };
    let flatten: (Flatten, Plan) = begin(flatten, Vec::new(), vec![vec![value]]);
    let made = flatten.1.output.iter().map(|column| match column {
        PlannedColumn::Make(nodes) => nodes.clone(),
        PlannedColumn::Carry(_) => panic!("flatten makes all its columns"),
    });
    let rules = File {
        key: "rules".into(),
        bytes: rules.to_vec(),
    };
    let validate = begin(validate, vec![rules], made.collect());
    let output = Output {
        rows: RowMap::Every,
        columns: Vec::new(),
        rejects: Vec::new(),
        counters: Vec::new(),
    };
    let last = Last::new(output, &flatten.1, 0);
    let native = Native {
        flatten,
        validate,
        last,
    };
    Box::into_raw(Box::new(native)).cast()
}

/// # Safety
/// `native` is from `weir_native_open` and in no other call; the columns are alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weir_native_run(
    native: *mut c_void,
    which: u32,
    rows: u32,
    columns: Slice<Node>,
) -> *const Out {
    // SAFETY: as above.
    let (native, columns) = unsafe { (&mut *native.cast::<Native>(), columns.get()) };
    native.last = match which {
        FLATTEN => call(&mut native.flatten, rows, columns),
        VALIDATE => call(&mut native.validate, rows, columns),
        other => panic!("no plugin {other}"),
    };
    &raw const native.last.view
}

fn call<T: Transform>((plugin, plan): &mut (T, Plan), rows: u32, columns: &[Node]) -> Last {
    let read = plan.reads.iter().map(|n| column(&columns[*n as usize]));
    let batch = Batch::new(rows, read.collect());
    let output = plugin
        .run(&batch)
        .unwrap_or_else(|e| panic!("{}: {e}", T::NAME));
    Last::new(output, plan, rows)
}

fn column(node: &Node) -> Column {
    // SAFETY: the caller of `weir_native_run` keeps them alive.
    let (validity, offsets, data) =
        unsafe { (node.validity.get(), node.offsets.get(), node.data.get()) };
    let buffers = Buffers {
        validity: (!validity.is_empty()).then(|| validity.to_vec()),
        offsets: offsets.to_vec(),
        data: data.to_vec(),
    };
    Column {
        constant: node.constant,
        nodes: vec![buffers],
    }
}

impl Last {
    fn new(output: Output, plan: &Plan, rows: u32) -> Last {
        let origin = match &output.rows {
            RowMap::Every => Vec::new(),
            RowMap::Origin(origin) => origin.clone(),
            RowMap::Kept(bits) => (0..rows)
                .filter(|n| bits[*n as usize / 8] >> (n % 8) & 1 == 1)
                .collect(),
        };
        let mut made = output.columns.iter();
        let all = plan.output.iter().take_while(|_| rows > 0);
        let columns: Vec<Node> = all
            .map(|planned| match planned {
                PlannedColumn::Carry(n) => node(None, i64::from(*n)),
                PlannedColumn::Make(_) => match made.next().expect("a column per `make`") {
                    MadeColumn::Unchanged(n) => node(None, i64::from(plan.reads[*n as usize])),
                    MadeColumn::Made(column) => node(Some(column), -1),
                },
            })
            .collect();
        let text = |text: &str| Slice::of(text.as_bytes());
        let refused: Vec<Refused> = output
            .rejects
            .iter()
            .map(|r| Refused {
                row: r.row,
                part: r.part.map_or(-1, i64::from),
                code: text(&r.code),
                field: text(r.field.as_deref().unwrap_or_default()),
                message: text(&r.message),
            })
            .collect();
        let view = Out {
            every: matches!(output.rows, RowMap::Every),
            origin: Slice::of(&origin),
            columns: Slice::of(&columns),
            refused: Slice::of(&refused),
            counters: Slice::of(&output.counters),
        };
        Last {
            output,
            origin,
            columns,
            refused,
            view,
        }
    }
}

fn node(column: Option<&Column>, unchanged: i64) -> Node {
    let buffers = column.and_then(|column| column.nodes.first());
    let validity = buffers.and_then(|b| b.validity.as_deref());
    Node {
        validity: Slice::of(validity.unwrap_or_default()),
        offsets: Slice::of(buffers.map_or(&[], |b| b.offsets.as_slice())),
        data: Slice::of(buffers.map_or(&[], |b| b.data.as_slice())),
        constant: column.is_some_and(|column| column.constant),
        unchanged,
    }
}
