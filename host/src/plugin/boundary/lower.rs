//! Makes the contract's buffers of Arrow columns, borrowed wherever the array already has the contract's layout.

use std::borrow::Cow;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::BooleanBuffer;
use arrow_schema::DataType;

use super::bindings::exports::weir::plugin::transform::{
    BuffersParam, ColumnParam, FieldParam, Table,
};
use super::types;

/// Buffers of one node.
#[derive(Debug)]
pub struct Node<'a> {
    validity: Option<Vec<u8>>,
    offsets: Cow<'a, [i32]>,
    data: Cow<'a, [u8]>,
}

impl Node<'_> {
    pub fn bytes(&self) -> usize {
        self.validity.as_ref().map_or(0, Vec::len) + self.offsets.len() * 4 + self.data.len()
    }

    pub fn param(&self) -> BuffersParam<'_> {
        BuffersParam {
            validity: self.validity.as_deref(),
            offsets: &self.offsets,
            data: &self.data,
        }
    }
}

/// A lookup table for `init`. The contract wants lists of lists of borrowed lists: each step borrows from the one
/// before, and the last one is passed to the guest.
#[derive(Debug)]
pub struct Lookup<'a> {
    key: &'a str,
    rows: u32,
    fields: Vec<Vec<types::Node>>,
    columns: Vec<Vec<Node<'a>>>,
}

pub struct LookupParts<'a> {
    key: &'a str,
    rows: u32,
    fields: Vec<Vec<FieldParam<'a>>>,
    columns: Vec<Vec<BuffersParam<'a>>>,
}

pub struct LookupLists<'a> {
    key: &'a str,
    rows: u32,
    fields: Vec<&'a [FieldParam<'a>]>,
    columns: Vec<ColumnParam<'a>>,
}

impl<'a> Lookup<'a> {
    pub fn of(key: &'a str, table: &'a RecordBatch) -> Result<Self, String> {
        let fields = table.schema_ref().fields().iter();
        let columns = table.columns().iter().map(|array| {
            let mut out = Vec::new();
            nodes(array, 0..table.num_rows(), &mut out);
            out
        });
        Ok(Lookup {
            key,
            rows: u32::try_from(table.num_rows()).map_err(|e| e.to_string())?,
            fields: fields.map(|f| types::nodes(f)).collect::<Result<_, _>>()?,
            columns: columns.collect(),
        })
    }

    pub fn parts(&self) -> LookupParts<'_> {
        LookupParts {
            key: self.key,
            rows: self.rows,
            fields: (self.fields.iter())
                .map(|nodes| nodes.iter().map(field).collect())
                .collect(),
            columns: (self.columns.iter())
                .map(|nodes| nodes.iter().map(Node::param).collect())
                .collect(),
        }
    }
}

impl LookupParts<'_> {
    pub fn lists(&self) -> LookupLists<'_> {
        let column = |nodes| ColumnParam {
            constant: false,
            nodes,
        };
        LookupLists {
            key: self.key,
            rows: self.rows,
            fields: self.fields.iter().map(Vec::as_slice).collect(),
            columns: self.columns.iter().map(|nodes| column(nodes)).collect(),
        }
    }
}

impl LookupLists<'_> {
    pub fn param(&self) -> Table<'_> {
        Table {
            key: self.key,
            rows: self.rows,
            fields: &self.fields,
            columns: &self.columns,
        }
    }
}

pub fn field(node: &types::Node) -> FieldParam<'_> {
    FieldParam {
        name: &node.name,
        format: &node.format,
        nullable: node.nullable,
        children: node.children,
        extension: node.extension.as_deref(),
    }
}

/// Nodes of `rows` of `array`, depth first. Types outside the contract give none: `types::nodes` refused them before.
pub fn nodes<'a>(array: &'a ArrayRef, rows: std::ops::Range<usize>, out: &mut Vec<Node<'a>>) {
    let validity = array
        .nulls()
        .map(|nulls| nulls.slice(rows.start, rows.len()))
        .filter(|nulls| nulls.null_count() > 0)
        .map(|nulls| bits(nulls.inner()));
    let flat = |data| Node {
        validity: validity.clone(),
        offsets: Cow::Borrowed(&[]),
        data,
    };
    match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean().values().slice(rows.start, rows.len());
            out.push(flat(Cow::Owned(bits(&values))));
        }
        DataType::Int32 => out.push(flat(packed::<Int32Type>(array, rows))),
        DataType::Int64 => out.push(flat(packed::<Int64Type>(array, rows))),
        DataType::Float64 => out.push(flat(packed::<Float64Type>(array, rows))),
        DataType::Date32 => out.push(flat(packed::<Date32Type>(array, rows))),
        DataType::Decimal128(..) => out.push(flat(packed::<Decimal128Type>(array, rows))),
        DataType::Timestamp(..) => out.push(flat(packed::<TimestampMicrosecondType>(array, rows))),
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            out.push(text(
                array.value_offsets(),
                array.value_data(),
                rows,
                validity,
            ));
        }
        DataType::Binary => {
            let array = array.as_binary::<i32>();
            out.push(text(
                array.value_offsets(),
                array.value_data(),
                rows,
                validity,
            ));
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (offsets, first, last) = rebased(list.value_offsets(), rows);
            out.push(Node {
                validity,
                offsets,
                data: Cow::Borrowed(&[]),
            });
            nodes(list.values(), first..last, out);
        }
        DataType::Struct(_) => {
            out.push(flat(Cow::Borrowed(&[])));
            for child in array.as_struct().columns() {
                nodes(child, rows.clone(), out);
            }
        }
        _ => {}
    }
}

fn text<'a>(
    offsets: &'a [i32],
    data: &'a [u8],
    rows: std::ops::Range<usize>,
    validity: Option<Vec<u8>>,
) -> Node<'a> {
    let (offsets, first, last) = rebased(offsets, rows);
    Node {
        validity,
        offsets,
        data: Cow::Borrowed(&data[first..last]),
    }
}

/// Offsets of `rows`, shifted to begin at 0, and the range of their values.
fn rebased(offsets: &[i32], rows: std::ops::Range<usize>) -> (Cow<'_, [i32]>, usize, usize) {
    let part = &offsets[rows.start..=rows.end];
    let (first, last) = (part[0], part[part.len() - 1]);
    let offsets = match first {
        0 => Cow::Borrowed(part),
        _ => Cow::Owned(part.iter().map(|offset| offset - first).collect()),
    };
    (offsets, first as usize, last as usize)
}

fn packed<T: ArrowPrimitiveType>(array: &ArrayRef, rows: std::ops::Range<usize>) -> Cow<'_, [u8]> {
    let width = size_of::<T::Native>();
    let bytes = array.as_primitive::<T>().values().inner().as_slice();
    Cow::Borrowed(&bytes[rows.start * width..rows.end * width])
}

/// From bit 0, spare bits 0.
fn bits(values: &BooleanBuffer) -> Vec<u8> {
    let mut bytes = values.sliced().as_slice()[..values.len().div_ceil(8)].to_vec();
    if let (Some(last), used @ 1..) = (bytes.last_mut(), values.len() % 8) {
        *last &= (1 << used) - 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{BooleanArray, Int64Array, ListArray, StringArray};
    use std::sync::Arc;

    type Parts = (Option<Vec<u8>>, Vec<i32>, Vec<u8>);

    fn lowered(array: ArrayRef, rows: std::ops::Range<usize>) -> Vec<Parts> {
        let mut out = Vec::new();
        nodes(&array, rows, &mut out);
        let owned = |n: Node<'_>| (n.validity, n.offsets.into_owned(), n.data.into_owned());
        out.into_iter().map(owned).collect()
    }

    #[test]
    fn slices_of_slices_keep_their_rows() {
        let text: ArrayRef = Arc::new(StringArray::from(vec![
            Some("a"),
            None,
            Some("bc"),
            Some("d"),
        ]));
        assert_eq!(
            lowered(text.slice(1, 3), 0..2),
            [(Some(vec![0b10]), vec![0, 0, 2], b"bc".to_vec())]
        );
        assert_eq!(
            lowered(text.slice(1, 3), 1..3),
            [(None, vec![0, 2, 3], b"bcd".to_vec())]
        );
        let bools: ArrayRef = Arc::new(BooleanArray::from(
            (0..20).map(|n| n % 3 == 0).collect::<Vec<_>>(),
        ));
        assert_eq!(
            lowered(bools.slice(3, 15), 1..10),
            [(None, vec![], vec![0b0010_0100, 0b1])]
        );
        let longs: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        assert_eq!(
            lowered(longs.slice(1, 2), 1..2),
            [(None, vec![], 3i64.to_le_bytes().to_vec())]
        );
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1)]),
            Some(vec![Some(2), Some(3)]),
            None,
            Some(vec![Some(4)]),
        ]));
        let [list, item] = lowered(lists.slice(1, 3), 0..3)
            .try_into()
            .expect("two nodes");
        assert_eq!(list, (Some(vec![0b101]), vec![0, 2, 2, 3], vec![]));
        assert_eq!(item.2, [2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0]);
    }
}
