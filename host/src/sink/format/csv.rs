//! A row as one line of CSV (RFC 4180), without a line end and without a header. Null is an empty field, an empty text is `""`,
//! so that the two are told apart; lists and structs are JSON. Bytes that are no UTF-8 refuse the row.

use arrow_array::Array;

use super::{Cell, Unfit, text};

pub(super) fn row<'a>(
    cells: impl Iterator<Item = Cell<'a>>,
    delimiter: u8,
    out: &mut Vec<u8>,
) -> Result<(), Unfit> {
    let mut field = Vec::new();
    for (n, (name, values, row)) in cells.enumerate() {
        if n > 0 {
            out.push(delimiter);
        }
        if values.is_null(row) {
            continue;
        }
        field.clear();
        text(values, row, &mut field).map_err(|why| Unfit {
            column: name.to_owned(),
            why,
        })?;
        let special = |byte: &u8| matches!(byte, b'"' | b'\n' | b'\r') || *byte == delimiter;
        if !field.is_empty() && !field.iter().any(special) {
            out.extend_from_slice(&field);
            continue;
        }
        out.push(b'"');
        for byte in &field {
            if *byte == b'"' {
                out.push(b'"');
            }
            out.push(*byte);
        }
        out.push(b'"');
    }
    Ok(())
}
