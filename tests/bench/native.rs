//! xml-flatten and validate compiled natively, instead of the components: same chain, same input and output columns.

use std::ffi::{CString, c_void};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, UInt32Array, make_array};
use arrow_buffer::Buffer;
use arrow_data::ArrayData;
use arrow_schema::{DataType, SchemaRef};
use weir::chain::{Column, Identity, Output, Reject, RowMap, Table, Transform};
use weir::config::PipelineConfig;
use weir::error::Result;

#[path = "../../plugins/validate/examples/native/abi.rs"]
mod abi;

use abi::{FLATTEN, Node, Open, Out, Run, Slice, VALIDATE};

/// One of the two, with the schema that its component has.
pub struct Native {
    plugin: *mut c_void,
    run: Run,
    which: u32,
    /// Input columns that cross.
    crossing: usize,
    identity: Identity,
    schema: SchemaRef,
    counters: Vec<String>,
}

// SAFETY: each holds a library handle of its own, used by one thread at a time.
unsafe impl Send for Native {}

impl std::fmt::Debug for Native {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Native")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// The pipeline's transforms, natively. `like` are its components.
pub fn transforms(
    library: &Path,
    config: &PipelineConfig,
    like: &[Box<dyn Transform>],
) -> Vec<Box<dyn Transform>> {
    let (open, run) = load(library);
    let keys = |at: usize| {
        let keys = config.transforms[at].config.iter();
        let resolved = keys.map(|(key, text)| (key.clone(), text.resolve().unwrap().into()));
        serde_json::Value::Object(resolved.collect())
    };
    let (flatten, validate) = (keys(0), keys(1));
    let rules = std::fs::read(validate["rules"].as_str().unwrap()).unwrap();
    let (flatten, validate) = (flatten.to_string(), validate.to_string());
    let made = [FLATTEN, VALIDATE]
        .into_iter()
        .zip(like)
        .map(|(which, like)| {
            let slices = (
                Slice::of(flatten.as_bytes()),
                Slice::of(validate.as_bytes()),
                Slice::of(&rules),
            );
            // SAFETY: the slices outlive the call; the library holds to the same declarations.
            let plugin = unsafe { open(slices.0, slices.1, slices.2) };
            let native: Box<dyn Transform> = Box::new(Native {
                plugin,
                run,
                which,
                crossing: if which == FLATTEN { 1 } else { usize::MAX },
                identity: like.identity().clone(),
                schema: like.output_schema().clone(),
                counters: like.counters().to_vec(),
            });
            native
        });
    made.collect()
}

fn load(library: &Path) -> (Open, Run) {
    let path = CString::new(library.to_str().unwrap()).unwrap();
    // SAFETY: a library of ours, whose initialisers do nothing.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    assert!(!handle.is_null(), "{}: cannot be loaded", library.display());
    let symbol = |name: &std::ffi::CStr| {
        // SAFETY: the handle is open and stays so.
        let symbol = unsafe { libc::dlsym(handle, name.as_ptr()) };
        assert!(!symbol.is_null(), "{name:?} is not in the library");
        symbol
    };
    // SAFETY: the library checks these two against the same types when it is compiled.
    unsafe {
        (
            std::mem::transmute::<*mut c_void, Open>(symbol(c"weir_native_open")),
            std::mem::transmute::<*mut c_void, Run>(symbol(c"weir_native_run")),
        )
    }
}

impl Transform for Native {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn output_schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn explodes(&self) -> bool {
        self.which == FLATTEN
    }

    fn counters(&self) -> &[String] {
        &self.counters
    }

    fn apply(&mut self, input: &Table) -> Result<Output> {
        let data: Vec<(ArrayData, bool)> = (input.columns.iter())
            .take(self.crossing)
            .map(|c| (c.values.to_data(), c.constant))
            .collect();
        let nodes: Vec<Node> = data
            .iter()
            .map(|(data, constant)| node(data, *constant))
            .collect();
        // SAFETY: the arrays outlive the call, and what it gives stays until the next one.
        let out: &Out = unsafe {
            &*(self.run)(
                self.plugin,
                self.which,
                input.rows as u32,
                Slice::of(&nodes),
            )
        };
        // SAFETY: as above.
        let (origin, columns, refused, counters) = unsafe {
            (
                out.origin.get(),
                out.columns.get(),
                out.refused.get(),
                out.counters.get(),
            )
        };
        let (rows, len) = match out.every {
            true => (RowMap::Every, input.rows),
            false => (RowMap::Origin(origin.to_vec()), origin.len()),
        };
        let made = columns
            .iter()
            .zip(self.schema.fields())
            .map(|(node, field)| match usize::try_from(node.unchanged) {
                Ok(n) => mapped(&input.columns[n], &rows),
                Err(_) => Column {
                    values: array(node, field.data_type(), if node.constant { 1 } else { len }),
                    constant: node.constant,
                },
            });
        let columns = made.collect();
        // SAFETY: as above.
        let text = |s: Slice<u8>| String::from_utf8(unsafe { s.get() }.to_vec()).unwrap();
        let rejects = refused.iter().map(|r| Reject {
            row: r.row,
            part: u32::try_from(r.part).ok(),
            code: text(r.code),
            field: Some(text(r.field)).filter(|field| !field.is_empty()),
            message: text(r.message),
        });
        Ok(Output {
            rejects: rejects.collect(),
            counters: counters.to_vec(),
            table: Table {
                schema: self.schema.clone(),
                rows: len,
                columns,
            },
            rows,
        })
    }
}

fn node(data: &ArrayData, constant: bool) -> Node {
    assert_eq!(data.offset(), 0, "whole arrays only");
    let rows = data.len();
    let nulls = data.nulls().filter(|n| n.null_count() > 0);
    let validity = nulls.map_or(&[][..], |n| &n.buffer().as_slice()[..rows.div_ceil(8)]);
    let (offsets, bytes) = match data.data_type() {
        DataType::Utf8 | DataType::Binary => {
            let offsets = &data.buffers()[0].typed_data::<i32>()[..=rows];
            (
                offsets,
                &data.buffers()[1].as_slice()[..offsets[rows] as usize],
            )
        }
        fixed => {
            let width = fixed.primitive_width().unwrap();
            (&[][..], &data.buffers()[0].as_slice()[..rows * width])
        }
    };
    Node {
        validity: Slice::of(validity),
        offsets: Slice::of(offsets),
        data: Slice::of(bytes),
        constant,
        unchanged: -1,
    }
}

/// Checked as what a component gives: offsets, UTF-8, bits.
fn array(node: &Node, kind: &DataType, rows: usize) -> ArrayRef {
    // SAFETY: the library keeps them until its next call.
    let (validity, offsets, data) =
        unsafe { (node.validity.get(), node.offsets.get(), node.data.get()) };
    let mut array = ArrayData::builder(kind.clone()).len(rows);
    if !offsets.is_empty() {
        array = array.add_buffer(Buffer::from_slice_ref(offsets));
    }
    array = array.add_buffer(Buffer::from_slice_ref(data));
    if !validity.is_empty() {
        array = array.null_bit_buffer(Some(Buffer::from_slice_ref(validity)));
    }
    make_array(array.build().unwrap())
}

fn mapped(column: &Column, rows: &RowMap) -> Column {
    match rows {
        RowMap::Origin(rows) if !column.constant => {
            let rows = UInt32Array::from(rows.clone());
            Column {
                values: arrow_select::take::take(&column.values, &rows, None).unwrap(),
                constant: false,
            }
        }
        _ => column.clone(),
    }
}

/// So that arrays of equal content can be compared whatever made them.
pub fn same(a: &Output, b: &Output) -> bool {
    let pairs = a.table.columns.iter().zip(&b.table.columns);
    a.rows == b.rows
        && a.rejects == b.rejects
        && a.counters == b.counters
        && a.table.columns.len() == b.table.columns.len()
        && pairs.into_iter().all(|(a, b)| {
            let (a, b): (&Arc<dyn Array>, _) = (&a.values, &b.values);
            a.to_data() == b.to_data()
        })
}
