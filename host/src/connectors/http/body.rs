//! Rows as bytes of a request: rendered one by one as they come, joined when their batch is known.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Int32Array, StringArray};
use arrow_schema::DataType;
use serde::de::IgnoredAny;

use super::template::{Piece, Template, WHOLE};
use crate::chain::{Applied, Reason};
use crate::error::{Error, Kind, Result};
use crate::record::{Batch, OFFSET, PARTITION, ROW, SYSTEM, TIMESTAMP, TOPIC};
use crate::sink::json;

/// Code of a row whose JSON column contains no JSON.
const NOT_JSON: &str = "not_json";
/// Code of a row whose JSON column is null.
const NO_JSON: &str = "no_json";

/// `sink.http.body` and its other keys.
#[derive(Clone, Debug)]
pub struct BodyConfig {
    pub form: Form,
    /// The column whose text is a row's JSON as it is.
    pub json_column: Option<String>,
    /// Also `_topic`, `_partition`, `_offset`, `_row`, `_timestamp`.
    pub coordinates: bool,
}

#[derive(Clone, Debug)]
pub enum Form {
    /// One array.
    Json,
    /// A line for each row.
    Lines,
    Template {
        row: Template,
        head: String,
        tail: String,
        join: Join,
    },
}

/// The separator between rows of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// A newline after each row, as bulk formats need it.
    Newline,
    Comma,
    Nothing,
}

impl BodyConfig {
    /// All rows of a batch.
    pub fn join<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        let (head, between, after, tail): (&[u8], &[u8], &[u8], &[u8]) = match &self.form {
            Form::Json => (b"[", b",", b"", b"]"),
            Form::Lines => (b"", b"", b"\n", b""),
            Form::Template {
                head, tail, join, ..
            } => {
                let (between, after): (&[u8], &[u8]) = match join {
                    Join::Newline => (b"", b"\n"),
                    Join::Comma => (b",", b""),
                    Join::Nothing => (b"", b""),
                };
                (head.as_bytes(), between, after, tail.as_bytes())
            }
        };
        let mut out = head.to_vec();
        for (at, row) in rows.enumerate() {
            if at > 0 {
                out.extend_from_slice(between);
            }
            out.extend_from_slice(row);
            out.extend_from_slice(after);
        }
        out.extend_from_slice(tail);
        out
    }

    pub fn content_type(&self) -> &'static str {
        match self.form {
            Form::Lines => "application/x-ndjson",
            Form::Json | Form::Template { .. } => "application/json; charset=utf-8",
        }
    }
}

/// A column of the rows, or of their records.
struct Cells {
    name: String,
    values: ArrayRef,
    of: Of,
}

#[derive(Clone, Copy)]
enum Of {
    /// One value for all.
    All,
    Row,
    Record,
}

/// Renders the rows of one batch.
pub struct Renderer<'a> {
    config: &'a BodyConfig,
    applied: &'a Applied,
    /// Columns that the rules made, without system columns.
    made: Vec<Cells>,
    system: Vec<Cells>,
}

impl<'a> Renderer<'a> {
    pub fn new(
        config: &'a BodyConfig,
        batch: &Batch,
        applied: &'a Applied,
    ) -> Result<Renderer<'a>> {
        let fields = applied.table.schema.fields().iter();
        let columns = fields.zip(&applied.table.columns);
        let columns = columns.filter(|(field, _)| !SYSTEM.contains(&field.name().as_str()));
        let made = columns.map(|(field, column)| Cells {
            name: field.name().clone(),
            values: column.values.clone(),
            of: match column.constant {
                true => Of::All,
                false => Of::Row,
            },
        });
        let renderer = Renderer {
            config,
            applied,
            made: made.collect(),
            system: system(batch, applied),
        };
        renderer.check()?;
        Ok(renderer)
    }

    /// Checks that the columns named in the config exist.
    fn check(&self) -> Result<()> {
        let template = match &self.config.form {
            Form::Template { row, .. } => Some(row),
            Form::Json | Form::Lines => None,
        };
        let named = template
            .into_iter()
            .flat_map(Template::columns)
            .map(|name| ("sink.http.template.row", name));
        let column = self.config.json_column.iter();
        let named = named.chain(column.map(|name| ("sink.http.json.column", name.as_str())));
        for (key, name) in named.filter(|(_, name)| *name != WHOLE) {
            if self.find(name).is_none() {
                let known: Vec<&str> = self.made.iter().map(|cells| cells.name.as_str()).collect();
                let message = format!("`{key}` names a column `{name}` that the rules do not make");
                return Err(Error::new(Kind::ConfigInvalid, "http.body", message)
                    .with("columns", known.join(", "))
                    .hint("name one of these columns, or have a transform make it"));
            }
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<&Cells> {
        let mut all = self.made.iter().chain(&self.system);
        all.find(|cells| cells.name == name)
    }

    /// The value of a column, hashed: rows of equal keys are kept in order.
    pub fn key(&self, name: &str, row: usize) -> Result<Vec<u8>> {
        let cells = self.find(name).ok_or_else(|| {
            let message = format!(
                "`sink.http.key.column` names a column `{name}` that the rules do not make"
            );
            Error::new(Kind::ConfigInvalid, "http.body", message)
                .hint("name a column that the last transform makes")
        })?;
        let mut out = Vec::new();
        json::write_value(&mut out, &cells.values, self.at(cells, row));
        Ok(out)
    }

    fn at(&self, cells: &Cells, row: usize) -> usize {
        match cells.of {
            Of::All => 0,
            Of::Row => row,
            Of::Record => self.applied.record[row] as usize,
        }
    }

    /// Appends the row. `Err`: why it cannot be sent; nothing is appended.
    pub fn row(&self, row: usize, out: &mut Vec<u8>) -> Result<Range<usize>, Reason> {
        let from = out.len();
        match self.write(row, out) {
            Ok(()) => Ok(from..out.len()),
            Err(reason) => {
                out.truncate(from);
                Err(reason)
            }
        }
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
        let Form::Template { row: template, .. } = &self.config.form else {
            return self.object(row, out);
        };
        for piece in template.pieces() {
            match piece {
                Piece::Plain(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Value(name) if name == WHOLE => self.object(row, out)?,
                Piece::Inside(name) if name == WHOLE => {
                    let mut whole = Vec::new();
                    self.object(row, &mut whole)?;
                    json::write_escaped(out, &String::from_utf8_lossy(&whole));
                }
                Piece::Value(name) => {
                    if let Some(cells) = self.find(name) {
                        json::write_value(out, &cells.values, self.at(cells, row));
                    }
                }
                Piece::Inside(name) => {
                    if let Some(cells) = self.find(name) {
                        json::write_escaped(out, &json::plain(&cells.values, self.at(cells, row)));
                    }
                }
            }
        }
        Ok(())
    }

    /// The row as JSON: its JSON column, or an object of all columns.
    fn object(&self, row: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
        if let Some(cells) = self
            .config
            .json_column
            .as_ref()
            .and_then(|name| self.find(name))
        {
            return raw(&cells.values, self.at(cells, row), &cells.name, out);
        }
        out.push(b'{');
        let system = self.system.iter().filter(|_| self.config.coordinates);
        for (at, cells) in self.made.iter().chain(system).enumerate() {
            if at > 0 {
                out.push(b',');
            }
            json::write_string(out, &cells.name);
            out.push(b':');
            json::write_value(out, &cells.values, self.at(cells, row));
        }
        out.push(b'}');
        Ok(())
    }
}

impl fmt::Debug for Renderer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renderer").finish_non_exhaustive()
    }
}

fn system(batch: &Batch, applied: &Applied) -> Vec<Cells> {
    let cells = |name: &str, values: ArrayRef, of| Cells {
        name: name.to_owned(),
        values,
        of,
    };
    let tp = &batch.covers.tp;
    let pieces = applied
        .piece
        .iter()
        .map(|p| i32::try_from(*p).unwrap_or(i32::MAX));
    vec![
        cells(
            TOPIC,
            Arc::new(StringArray::from(vec![tp.topic.as_ref()])),
            Of::All,
        ),
        cells(
            PARTITION,
            Arc::new(Int32Array::from(vec![tp.partition])),
            Of::All,
        ),
        cells(OFFSET, Arc::new(batch.offset.clone()), Of::Record),
        cells(ROW, Arc::new(Int32Array::from_iter_values(pieces)), Of::Row),
        cells(TIMESTAMP, Arc::new(batch.timestamp.clone()), Of::Record),
    ]
}

/// Text that is JSON already, without white space between its parts, so that it stays on one line.
fn raw(values: &ArrayRef, at: usize, column: &str, out: &mut Vec<u8>) -> Result<(), Reason> {
    let refuse = |code: &str, message: String| Reason {
        code: code.to_owned(),
        field: Some(column.to_owned()),
        message,
    };
    if values.is_null(at) {
        let message = format!("column `{column}` is null, expected JSON");
        return Err(refuse(NO_JSON, message));
    }
    let text = match values.data_type() {
        DataType::Utf8 => values.as_string::<i32>().value(at).as_bytes(),
        DataType::Binary => values.as_binary::<i32>().value(at),
        _ => {
            json::write_value(out, values, at);
            return Ok(());
        }
    };
    let no_json = |e: &dyn fmt::Display| format!("column `{column}` is no JSON: {e}");
    // What is skipped is not looked at: neither whether it is text.
    let text = std::str::from_utf8(text).map_err(|e| refuse(NOT_JSON, no_json(&e)))?;
    if let Err(e) = serde_json::from_str::<IgnoredAny>(text) {
        return Err(refuse(NOT_JSON, no_json(&e)));
    }
    compact(text.as_bytes(), out);
    Ok(())
}

/// Compacts valid JSON.
fn compact(text: &[u8], out: &mut Vec<u8>) {
    let (mut inside, mut escaped) = (false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b' ' | b'\n' | b'\r' | b'\t' if !inside => continue,
            _ => {}
        }
        out.push(*byte);
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::BinaryArray;

    use super::*;

    fn config(form: Form) -> BodyConfig {
        BodyConfig {
            form,
            json_column: None,
            coordinates: false,
        }
    }

    #[test]
    fn batches_are_arrays_lines_or_what_the_template_says() {
        let rows = || [&b"{\"a\":1}"[..], b"{\"a\":2}"].into_iter();
        let text = |form| String::from_utf8(config(form).join(rows())).unwrap();
        assert_eq!(text(Form::Json), "[{\"a\":1},{\"a\":2}]");
        assert_eq!(text(Form::Lines), "{\"a\":1}\n{\"a\":2}\n");
        let template = |join| Form::Template {
            row: Template::parse("${_json}").unwrap(),
            head: "<".into(),
            tail: ">".into(),
            join,
        };
        assert_eq!(text(template(Join::Comma)), "<{\"a\":1},{\"a\":2}>");
        assert_eq!(text(template(Join::Newline)), "<{\"a\":1}\n{\"a\":2}\n>");
    }

    #[test]
    fn json_of_a_column_stays_as_it_is_on_one_line() {
        let values: ArrayRef = Arc::new(StringArray::from(vec![
            Some("{ \"a\" : \"x \\\" \\n y\",\n  \"n\": 12345678901234567890.10 }"),
            Some("{\"a\":"),
            None,
        ]));
        let mut out = Vec::new();
        raw(&values, 0, "j", &mut out).unwrap();
        let text = String::from_utf8(out.clone()).unwrap();
        assert_eq!(
            text,
            "{\"a\":\"x \\\" \\n y\",\"n\":12345678901234567890.10}"
        );
        assert_eq!(raw(&values, 1, "j", &mut out).unwrap_err().code, NOT_JSON);
        assert_eq!(raw(&values, 2, "j", &mut out).unwrap_err().code, NO_JSON);
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&b"{\"a\":\"\xff\"}"[..]]));
        assert_eq!(raw(&bytes, 0, "j", &mut out).unwrap_err().code, NOT_JSON);
    }
}
