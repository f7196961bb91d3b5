//! Rows as other systems read them: a JSON object, a line of CSV, an XML element, or the bytes of one column.
//!
//! Values are written as [`super::json`] writes them: numbers with all their digits, dates and times ISO 8601. JSON marks bytes that
//! are no text; CSV and XML have no mark for them. What a format cannot hold is refused by name and never replaced.

mod csv;
mod xml;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Schema};

use super::json;
use crate::chain::Table;

/// What a row becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// One column: text and bytes as they are, other values as people write them. Null is no value at all.
    Text {
        column: String,
    },
    /// One column as a JSON string, as JsonConverter of Kafka Connect writes a text: alone, or in its envelope. Bytes that are no UTF-8
    /// become U+FFFD, as for Java. Null is no value at all.
    JsonText {
        column: String,
        envelope: bool,
    },
    Json,
    Csv {
        delimiter: u8,
    },
    Xml {
        root: String,
    },
}

/// Why a row cannot be written in the format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    pub column: String,
    pub why: String,
}

/// A format for the columns of a table.
#[derive(Clone, Debug)]
pub struct Encoder {
    format: Format,
    /// Position in the table and name, in the order in which they are written; the name as the format writes it.
    columns: Vec<(usize, String)>,
}

impl Encoder {
    /// `columns`: which, in this order; `None`: all that `by_default` takes. The error names what the columns lack.
    pub fn new(
        format: &Format,
        schema: &Schema,
        columns: Option<&[String]>,
        by_default: impl Fn(&str) -> bool,
    ) -> Result<Encoder, String> {
        let named: Vec<String> = match (format, columns) {
            (Format::Text { column } | Format::JsonText { column, .. }, _) => vec![column.clone()],
            (_, Some(named)) => named.to_vec(),
            (_, None) => {
                let all = schema.fields().iter().map(|field| field.name());
                all.filter(|name| by_default(name)).cloned().collect()
            }
        };
        let written = |name: &String| Ok((position(schema, name)?, named_in(format, name)?));
        Ok(Encoder {
            columns: named.iter().map(written).collect::<Result<_, String>>()?,
            format: format.clone(),
        })
    }

    /// Appends one row. `false`: it has no value (a tombstone).
    pub fn write(&self, table: &Table, row: usize, out: &mut Vec<u8>) -> Result<bool, Unfit> {
        let cells = self.columns.iter().filter_map(|(at, name)| {
            let column = table.columns.get(*at)?;
            let row = if column.constant { 0 } else { row };
            Some((name.as_str(), &column.values, row))
        });
        match &self.format {
            Format::Text { .. } => {
                for (_, values, row) in cells {
                    if values.is_null(row) {
                        return Ok(false);
                    }
                    bytes(values, row, out);
                }
            }
            Format::JsonText { envelope, .. } => {
                let mut text = Vec::new();
                for (_, values, row) in cells {
                    if values.is_null(row) {
                        return Ok(false);
                    }
                    bytes(values, row, &mut text);
                }
                json_text(&text, *envelope, out);
            }
            Format::Json => object(cells, out),
            Format::Csv { delimiter } => csv::row(cells, *delimiter, out)?,
            Format::Xml { root } => xml::row(root, cells, out)?,
        }
        Ok(true)
    }
}

/// One column of a row: its name, its values, and which of them.
pub type Cell<'a> = (&'a str, &'a ArrayRef, usize);

/// A line of CSV, without its end.
pub fn csv_row<'a>(
    cells: impl Iterator<Item = Cell<'a>>,
    delimiter: u8,
    out: &mut Vec<u8>,
) -> Result<(), Unfit> {
    csv::row(cells, delimiter, out)
}

/// Where a column stands; the error names those that are there.
pub fn position(schema: &Schema, name: &str) -> Result<usize, String> {
    schema.index_of(name).map_err(|_| {
        let all = schema.fields().iter();
        let all: Vec<&str> = all.map(|field| field.name().as_str()).collect();
        format!(
            "there is no column `{name}`; the last transform makes {}",
            all.join(", ")
        )
    })
}

/// Whether a text may name an element of XML.
pub fn is_element_name(name: &str) -> bool {
    xml::is_name(name)
}

fn named_in(format: &Format, name: &str) -> Result<String, String> {
    match format {
        Format::Json => {
            let mut member = Vec::new();
            json::write_string(&mut member, name);
            member.push(b':');
            Ok(String::from_utf8_lossy(&member).into_owned())
        }
        Format::Xml { .. } if !xml::is_name(name) => Err(format!(
            "column `{name}`: an XML element cannot have this name; rename the column in a transform, or write it as json or csv"
        )),
        _ => Ok(name.to_owned()),
    }
}

fn json_text(text: &[u8], envelope: bool, out: &mut Vec<u8>) {
    const ENVELOPE: &[u8] = br#"{"schema":{"type":"string","optional":false},"payload":"#;
    if envelope {
        out.extend_from_slice(ENVELOPE);
    }
    json::write_string(out, &String::from_utf8_lossy(text));
    if envelope {
        out.push(b'}');
    }
}

/// The names of the cells have their quotation marks and colon already.
fn object<'a>(cells: impl Iterator<Item = Cell<'a>>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (n, (member, values, row)) in cells.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        out.extend_from_slice(member.as_bytes());
        json::write_value(out, values, row);
    }
    out.push(b'}');
}

/// The value, which is not null, as the bytes of a record: text and bytes as they are, others as people write them.
pub fn bytes(values: &ArrayRef, row: usize, out: &mut Vec<u8>) {
    match values.data_type() {
        DataType::Utf8 => out.extend_from_slice(values.as_string::<i32>().value(row).as_bytes()),
        DataType::Binary => out.extend_from_slice(values.as_binary::<i32>().value(row)),
        _ => out.extend_from_slice(json::plain(values, row).as_bytes()),
    }
}

/// What a reason says of bytes that are no text, where a format has texts alone.
pub const NOT_UTF8: &str =
    "the bytes are not UTF-8, and as base64 they could not be told from a text";

/// The same as text; `Err`: it is bytes that are none.
fn text(values: &ArrayRef, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
    if values.data_type() == &DataType::Binary
        && std::str::from_utf8(values.as_binary::<i32>().value(row)).is_err()
    {
        return Err(NOT_UTF8.to_owned());
    }
    bytes(values, row, out);
    Ok(())
}

#[cfg(test)]
mod tests;
