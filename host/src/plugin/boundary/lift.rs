//! Makes Arrow arrays of a guest's buffers. Every rule of the contract is checked here; suitable buffers are not
//! copied.

use std::fmt::Display;
use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, ListArray, PrimitiveArray, StringArray, StructArray,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, FieldRef};

use super::bindings::exports::weir::plugin::transform::BuffersResult;

/// `Err` says which rule is broken, and where.
pub type Checked<T> = Result<T, String>;

/// The column `field` from its nodes.
pub fn column(field: &Field, nodes: Vec<BuffersResult>, rows: usize) -> Checked<ArrayRef> {
    let mut nodes = nodes.into_iter();
    let array = node(field, &mut nodes, rows)?;
    if nodes.len() > 0 {
        return Err(at(field, format!("{} nodes too many", nodes.len())));
    }
    if !field.is_nullable() && array.null_count() > 0 {
        return Err(at(field, "a null in a column that is not nullable"));
    }
    Ok(array)
}

fn at(field: &Field, what: impl Display) -> String {
    format!("column `{}`: {what}", field.name())
}

fn node(
    field: &Field,
    nodes: &mut std::vec::IntoIter<BuffersResult>,
    rows: usize,
) -> Checked<ArrayRef> {
    let BuffersResult {
        validity,
        offsets,
        data,
    } = nodes.next().ok_or_else(|| at(field, "nodes are missing"))?;
    let nulls = match validity {
        None => None,
        Some(bytes) => Some(NullBuffer::new(bits(field, bytes, rows, "validity")?)),
    };
    let data_type = field.data_type();
    let variable = matches!(
        data_type,
        DataType::Utf8 | DataType::Binary | DataType::List(_)
    );
    if !variable && !offsets.is_empty() {
        return Err(at(field, "offsets where the type has none"));
    }
    Ok(match data_type {
        DataType::Boolean => Arc::new(BooleanArray::new(bits(field, data, rows, "data")?, nulls)),
        DataType::Int32 => primitive::<Int32Type>(field, data, nulls, rows)?,
        DataType::Int64 => primitive::<Int64Type>(field, data, nulls, rows)?,
        DataType::Float64 => primitive::<Float64Type>(field, data, nulls, rows)?,
        DataType::Date32 => primitive::<Date32Type>(field, data, nulls, rows)?,
        DataType::Timestamp(..) => primitive::<TimestampMicrosecondType>(field, data, nulls, rows)?,
        DataType::Decimal128(precision, _) => {
            let array = primitive_array::<Decimal128Type>(field, data, nulls, rows)?;
            array
                .validate_decimal_precision(*precision)
                .map_err(|e| at(field, e))?;
            Arc::new(array)
        }
        DataType::Utf8 => {
            let offsets = ends(field, offsets, rows, Some(data.len()))?;
            let array = StringArray::try_new(offsets, Buffer::from_vec(data), nulls);
            Arc::new(array.map_err(|e| at(field, e))?)
        }
        DataType::Binary => {
            let offsets = ends(field, offsets, rows, Some(data.len()))?;
            let array = BinaryArray::try_new(offsets, Buffer::from_vec(data), nulls);
            Arc::new(array.map_err(|e| at(field, e))?)
        }
        DataType::List(item) => {
            no_data(field, &data)?;
            let offsets = ends(field, offsets, rows, None)?;
            let values = node(item, nodes, offsets[rows] as usize)?;
            let array = ListArray::try_new(FieldRef::clone(item), offsets, values, nulls);
            Arc::new(array.map_err(|e| at(field, e))?)
        }
        DataType::Struct(fields) => {
            no_data(field, &data)?;
            let children: Checked<Vec<ArrayRef>> = fields
                .iter()
                .map(|child| node(child, nodes, rows))
                .collect();
            let array = StructArray::try_new(fields.clone(), children?, nulls);
            Arc::new(array.map_err(|e| at(field, e))?)
        }
        other => return Err(at(field, format!("type {other} is not of the contract"))),
    })
}

fn no_data(field: &Field, data: &[u8]) -> Checked<()> {
    match data {
        [] => Ok(()),
        _ => Err(at(field, "data in a list or struct node")),
    }
}

fn bits(field: &Field, bytes: Vec<u8>, rows: usize, what: &str) -> Checked<BooleanBuffer> {
    check_bits(&bytes, rows).map_err(|e| at(field, format!("{what}: {e}")))?;
    Ok(BooleanBuffer::new(Buffer::from_vec(bytes), 0, rows))
}

/// One bit for each of `rows`, spare bits 0.
pub fn check_bits(bytes: &[u8], rows: usize) -> Checked<()> {
    if bytes.len() != rows.div_ceil(8) {
        return Err(format!("{} bytes hold no {rows} bits", bytes.len()));
    }
    match bytes.last() {
        Some(last) if !rows.is_multiple_of(8) && last >> (rows % 8) != 0 => {
            Err("a spare bit is set".to_owned())
        }
        _ => Ok(()),
    }
}

/// `rows + 1` offsets: the first is 0, they do not descend, the last is the length of the data.
fn ends(
    field: &Field,
    offsets: Vec<i32>,
    rows: usize,
    data: Option<usize>,
) -> Checked<OffsetBuffer<i32>> {
    if offsets.len() != rows + 1 {
        return Err(at(
            field,
            format!("{} offsets for {rows} rows", offsets.len()),
        ));
    }
    if offsets[0] != 0 {
        return Err(at(
            field,
            format!("the first offset is {}, not 0", offsets[0]),
        ));
    }
    if let Some(n) = offsets.windows(2).position(|pair| pair[0] > pair[1]) {
        return Err(at(
            field,
            format!("offset {} is less than the one before", n + 1),
        ));
    }
    match data {
        Some(bytes) if bytes != offsets[rows] as usize => Err(at(
            field,
            format!(
                "the last offset is {}, the data has {bytes} bytes",
                offsets[rows]
            ),
        )),
        // Cannot panic: the three checks above are those of `new`.
        _ => Ok(OffsetBuffer::new(ScalarBuffer::from(offsets))),
    }
}

fn primitive<T: ArrowPrimitiveType>(
    field: &Field,
    data: Vec<u8>,
    nulls: Option<NullBuffer>,
    rows: usize,
) -> Checked<ArrayRef> {
    Ok(Arc::new(primitive_array::<T>(field, data, nulls, rows)?))
}

fn primitive_array<T: ArrowPrimitiveType>(
    field: &Field,
    data: Vec<u8>,
    nulls: Option<NullBuffer>,
    rows: usize,
) -> Checked<PrimitiveArray<T>> {
    let width = size_of::<T::Native>();
    if rows.checked_mul(width) != Some(data.len()) {
        return Err(at(
            field,
            format!("{} bytes for {rows} rows of {width}", data.len()),
        ));
    }
    let aligned = data.as_ptr().align_offset(align_of::<T::Native>()) == 0;
    let buffer = match aligned {
        true => Buffer::from_vec(data),
        false => Buffer::from_slice_ref(&data), // allocates aligned
    };
    let values = ScalarBuffer::<T::Native>::new(buffer, 0, rows);
    let array = PrimitiveArray::<T>::try_new(values, nulls).map_err(|e| at(field, e))?;
    Ok(array.with_data_type(field.data_type().clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts<'a> = (Option<&'a [u8]>, &'a [i32], &'a [u8]);

    fn lift(data_type: DataType, rows: usize, nodes: &[Parts<'_>]) -> Checked<ArrayRef> {
        let nodes = nodes.iter().map(|(validity, offsets, data)| BuffersResult {
            validity: validity.map(<[u8]>::to_vec),
            offsets: offsets.to_vec(),
            data: data.to_vec(),
        });
        column(&Field::new("c", data_type, true), nodes.collect(), rows)
    }

    #[test]
    fn each_broken_rule_is_named() {
        let item = Arc::new(Field::new("item", DataType::Int32, false));
        let list = DataType::List(item);
        let big = 10i128.pow(5).to_le_bytes();
        type Case<'a> = (DataType, usize, &'a [Parts<'a>], &'a str);
        let cases: &[Case<'_>] = &[
            (DataType::Utf8, 2, &[(None, &[0, 1, 2], b"ab")], ""),
            (DataType::Utf8, 0, &[(None, &[0], b"")], ""),
            (DataType::Utf8, 2, &[(Some(&[0b10]), &[0, 0, 2], b"ab")], ""),
            (
                DataType::Utf8,
                2,
                &[(Some(&[0b110]), &[0, 0, 2], b"ab")],
                "spare bit",
            ),
            (
                DataType::Utf8,
                2,
                &[(Some(&[0b10, 0]), &[0, 0, 2], b"ab")],
                "hold no 2 bits",
            ),
            (
                DataType::Utf8,
                2,
                &[(None, &[0, 2], b"ab")],
                "2 offsets for 2 rows",
            ),
            (
                DataType::Utf8,
                2,
                &[(None, &[], b"")],
                "0 offsets for 2 rows",
            ),
            (
                DataType::Utf8,
                2,
                &[(None, &[1, 1, 2], b"ab")],
                "first offset",
            ),
            (
                DataType::Utf8,
                2,
                &[(None, &[-1, 1, 2], b"ab")],
                "first offset",
            ),
            (
                DataType::Utf8,
                2,
                &[(None, &[0, 3, 2], b"ab")],
                "less than the one before",
            ),
            (
                DataType::Utf8,
                2,
                &[(None, &[0, 1, 9], b"ab")],
                "the last offset is 9",
            ),
            (
                DataType::Utf8,
                2,
                &[(None, &[0, 1, 1], b"ab")],
                "the last offset is 1",
            ),
            (DataType::Utf8, 1, &[(None, &[0, 1], b"\xff")], "UTF-8"),
            (
                DataType::Utf8,
                2,
                &[(None, &[0, 1, 2], "é".as_bytes())],
                "tf-8",
            ),
            (DataType::Utf8, 1, &[], "nodes are missing"),
            (
                DataType::Utf8,
                1,
                &[(None, &[0, 1], b"a"), (None, &[], b"")],
                "1 nodes too many",
            ),
            (DataType::Int64, 1, &[(None, &[], &[0; 8])], ""),
            (
                DataType::Int64,
                1,
                &[(None, &[], &[0; 9])],
                "9 bytes for 1 rows of 8",
            ),
            (
                DataType::Int64,
                1,
                &[(None, &[0, 8], &[0; 8])],
                "offsets where",
            ),
            (DataType::Boolean, 9, &[(None, &[], &[1, 1])], ""),
            (DataType::Boolean, 9, &[(None, &[], &[1])], "hold no 9 bits"),
            (
                DataType::Decimal128(5, 2),
                1,
                &[(None, &[], &big)],
                "too large",
            ),
            (
                list.clone(),
                2,
                &[(None, &[0, 1, 2], b""), (None, &[], &[0; 8])],
                "",
            ),
            (
                list.clone(),
                2,
                &[(None, &[0, 1, 2], b""), (None, &[], &[0; 4])],
                "4 bytes for 2",
            ),
            (
                list.clone(),
                1,
                &[(None, &[0, 1], b"x"), (None, &[], &[0; 4])],
                "data in a list",
            ),
            (
                list,
                1,
                &[(None, &[0, 1], b""), (Some(&[0]), &[], &[0; 4])],
                "null",
            ),
        ];
        for (data_type, rows, nodes, wanted) in cases {
            match lift(data_type.clone(), *rows, nodes) {
                Ok(array) => assert!(
                    wanted.is_empty() && array.len() == *rows,
                    "{wanted} {nodes:?}"
                ),
                Err(told) => {
                    let same = told.to_lowercase().contains(&wanted.to_lowercase());
                    assert!(
                        !wanted.is_empty() && same,
                        "expected {wanted}, found {told}"
                    );
                }
            }
        }
        let strict = Field::new("c", DataType::Int32, false);
        let null = BuffersResult {
            validity: Some(vec![0]),
            offsets: vec![],
            data: vec![0; 4],
        };
        assert!(column(&strict, vec![null], 1).is_err());
    }
}
