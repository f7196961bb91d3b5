//! A row as one XML element with a child for each column. Null is no child; a list is one child for each item; a struct has
//! children of its own. A character that XML 1.0 cannot hold refuses the row, and so do bytes that are no UTF-8.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

use super::{Cell, Unfit, text};

/// Letters, digits, `_`, `-` and `.`, not a digit first: what every reader takes, without namespaces.
pub(super) fn is_name(name: &str) -> bool {
    let begins = |c: char| c == '_' || c.is_alphabetic() && is_name_start(c);
    let goes_on = |c: char| {
        matches!(c, '_' | '-' | '.' | '0'..='9') || c.is_alphanumeric() && is_name_start(c)
    };
    name.starts_with(begins) && name.chars().all(goes_on) && !name.to_lowercase().starts_with("xml")
}

/// NameStartChar of XML 1.0, without `:` and `_`. Not all letters and digits of Unicode are: `ª` and `²`, for instance.
fn is_name_start(c: char) -> bool {
    matches!(c,
        'A'..='Z' | 'a'..='z' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}' | '\u{370}'..='\u{37d}'
        | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}'
        | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}')
}

pub(super) fn row<'a>(
    root: &str,
    cells: impl Iterator<Item = Cell<'a>>,
    out: &mut Vec<u8>,
) -> Result<(), Unfit> {
    tag(b"<", root, out);
    for (name, values, row) in cells {
        element(name, values, row, out).map_err(|why| Unfit {
            column: name.to_owned(),
            why,
        })?;
    }
    tag(b"</", root, out);
    Ok(())
}

fn tag(open: &[u8], name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(open);
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
}

fn element(name: &str, values: &ArrayRef, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
    if values.is_null(row) {
        return Ok(());
    }
    if let DataType::List(_) = values.data_type() {
        let items = values.as_list::<i32>().value(row);
        return (0..items.len()).try_for_each(|n| element(name, &items, n, out));
    }
    tag(b"<", name, out);
    match values.data_type() {
        DataType::Struct(fields) => {
            for (field, column) in fields.iter().zip(values.as_struct().columns()) {
                if !is_name(field.name()) {
                    return Err(format!("`{}` is no name of an element", field.name()));
                }
                element(field.name(), column, row, out)?;
            }
        }
        _ => {
            let mut plain = Vec::new();
            text(values, row, &mut plain)?;
            escaped(&plain, out)?;
        }
    }
    tag(b"</", name, out);
    Ok(())
}

fn escaped(text: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let text = String::from_utf8_lossy(text);
    for c in text.chars() {
        match c {
            '<' => out.extend_from_slice(b"&lt;"),
            '>' => out.extend_from_slice(b"&gt;"),
            '&' => out.extend_from_slice(b"&amp;"),
            // A reader would make a line feed of it.
            '\r' => out.extend_from_slice(b"&#13;"),
            '\n' | '\t' => out.push(c as u8),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {
                return Err(format!(
                    "the character U+{:04X} cannot stand in XML",
                    c as u32
                ));
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Ok(())
}
