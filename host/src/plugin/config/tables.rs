//! Lookup tables that config keys name: CSV and Parquet files whose rows a guest gets in `init`.
//!
//! CSV is UTF-8 with a header row, as strict as `csv-parse` is with messages; each column is text, and an empty cell is
//! null. Parquet keeps its types, if the contract has them. The content decides what a file is (Parquet begins with
//! `PAR1`), and its name must agree.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, Schema};

use super::setup::SetupProblem;
use crate::plugin::boundary::types;
use crate::plugin::{MAX_TABLE_BYTES, MAX_TABLE_CELLS, MAX_TABLE_MEMORY, MAX_TABLE_ROWS};
use crate::zone::{self, TableLimits};

const MAGIC: &[u8] = b"PAR1";
const LIMITS: TableLimits = TableLimits {
    rows: MAX_TABLE_ROWS,
    cells: MAX_TABLE_CELLS,
    bytes: MAX_TABLE_MEMORY,
};

/// What is wrong with a table, and in which line of a CSV file.
#[derive(Debug)]
struct Wrong {
    line: Option<u64>,
    message: String,
}

impl From<String> for Wrong {
    fn from(message: String) -> Self {
        Wrong {
            line: None,
            message,
        }
    }
}

/// The rows of a file; `path` tells its kind, `typed` is its name in the config, for messages.
pub fn named(
    key: &str,
    typed: &str,
    path: &str,
    bytes: &[u8],
) -> Result<RecordBatch, SetupProblem> {
    let wanted = match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("csv") => false,
        Some("parquet") => true,
        _ => {
            let message = format!("`{typed}` is neither .csv nor .parquet");
            return Err(SetupProblem::new(key, "table_format", message)
                .hint("CSV with a header row, or Parquet; the file's extension says which"));
        }
    };
    if bytes.starts_with(MAGIC) != wanted {
        let message = format!("`{typed}` does not hold what its extension says");
        return Err(SetupProblem::new(key, "table_format", message)
            .hint("a Parquet file begins with PAR1, a CSV file must not"));
    }
    rows(bytes).map_err(|Wrong { line, message }| {
        let place = line.map_or_else(String::new, |line| format!(":{line}"));
        let mut problem =
            SetupProblem::new(key, "table_invalid", format!("{typed}{place}: {message}"));
        problem.at = line.map(|line| (u32::try_from(line).unwrap_or(u32::MAX), 1));
        problem
    })
}

/// The rows of a stored file, which has no name any more.
pub fn kept(bytes: &[u8]) -> Result<RecordBatch, String> {
    rows(bytes).map_err(|Wrong { line, message }| match line {
        Some(line) => format!("line {line}: {message}"),
        None => message,
    })
}

fn rows(bytes: &[u8]) -> Result<RecordBatch, Wrong> {
    if bytes.len() > MAX_TABLE_BYTES {
        let found = bytes.len();
        return Err(format!("{found} bytes; a table has at most {MAX_TABLE_BYTES}").into());
    }
    let table = match bytes.starts_with(MAGIC) {
        true => zone::read_table(bytes, LIMITS).map_err(Wrong::from)?,
        false => csv(bytes)?,
    };
    for field in table.schema_ref().fields() {
        types::nodes(field).map_err(|e| format!("{e}, which the contract cannot carry"))?;
    }
    Ok(table)
}

fn too_long(rows: usize, cells: usize) -> String {
    format!(
        "{rows} rows and {cells} cells; a table has at most {MAX_TABLE_ROWS} rows and {MAX_TABLE_CELLS} cells"
    )
}

fn csv(bytes: &[u8]) -> Result<RecordBatch, Wrong> {
    // A byte order mark is no part of the first column's name.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    check_quotes(bytes)?;
    let mut reader = csv::ReaderBuilder::new().from_reader(bytes);
    let header = reader.headers().map_err(|e| broken(&e))?.clone();
    let at_header = |message: String| Wrong {
        line: Some(1),
        message,
    };
    let mut names: Vec<&str> = Vec::new();
    for name in &header {
        if name.is_empty() || names.contains(&name) {
            return Err(at_header(format!(
                "the header row calls two columns `{name}`, or one by no name"
            )));
        }
        names.push(name);
    }
    if names.is_empty() {
        return Err(at_header(
            "expected a header row with column names".to_owned(),
        ));
    }
    let mut columns: Vec<StringBuilder> = names.iter().map(|_| StringBuilder::new()).collect();
    let (mut record, mut rows) = (csv::StringRecord::new(), 0);
    while reader.read_record(&mut record).map_err(|e| broken(&e))? {
        rows += 1;
        let cells = rows * names.len();
        if rows > MAX_TABLE_ROWS || cells > MAX_TABLE_CELLS {
            return Err(Wrong {
                line: record.position().map(csv::Position::line),
                message: too_long(rows, cells),
            });
        }
        for (column, cell) in columns.iter_mut().zip(&record) {
            column.append_option(Some(cell).filter(|cell| !cell.is_empty()));
        }
    }
    let fields = names
        .iter()
        .map(|name| Field::new(*name, DataType::Utf8, true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let arrays: Vec<ArrayRef> = columns
        .into_iter()
        .map(|mut column| Arc::new(column.finish()) as ArrayRef)
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, arrays, &options)
        .map_err(|e| Wrong::from(e.to_string()))
}

/// Finds quotes that do not match: the crate would read an open quote as a cell up to the end of the file, and would
/// silently accept text after a closing quote and a quote inside of an unquoted cell.
fn check_quotes(bytes: &[u8]) -> Result<(), Wrong> {
    let quote = |bytes: &[u8]| bytes.iter().position(|b| *b == b'"');
    let ends_line = |b: u8| matches!(b, b'\n' | b'\r');
    let ends_cell = |b: u8| b == b',' || ends_line(b);
    let wrong = |at: usize, message: &str| {
        let before = &bytes[..at];
        let lone = |pair: &[u8]| pair[0] == b'\r' && pair[1] != b'\n';
        let feeds = before.iter().filter(|b| **b == b'\n').count();
        let lines = 1 + feeds + bytes[..=at].windows(2).filter(|pair| lone(pair)).count();
        Err(Wrong {
            line: Some(lines as u64),
            message: message.to_owned(),
        })
    };
    let mut at = 0;
    while at < bytes.len() {
        let from = at;
        if bytes[from] == b'"' {
            at += 1;
            loop {
                match quote(&bytes[at..]) {
                    None => return wrong(from, "this quote is never closed"),
                    Some(n) if bytes.get(at + n + 1) == Some(&b'"') => at += n + 2,
                    Some(n) => break at += n + 1,
                }
            }
            if bytes.get(at).is_some_and(|b| !ends_cell(*b)) {
                let message = "expected a comma or the end of the line after a closing quote";
                return wrong(at, message);
            }
        } else {
            let end = bytes[from..].iter().position(|b| ends_cell(*b));
            at = end.map_or(bytes.len(), |n| from + n);
            if let Some(n) = quote(&bytes[from..at]) {
                let message = "a quote inside a cell that does not begin with one; \
                    put the cell in quotes, and double it there";
                return wrong(from + n, message);
            }
        }
        at += 1; // the character that ended the cell
    }
    Ok(())
}

/// The crate's own message, without the place, which we name ourselves.
fn broken(error: &csv::Error) -> Wrong {
    let message = match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => format!("{len} cells where the header row has {expected_len}"),
        csv::ErrorKind::Utf8 { err, .. } => {
            format!("cell {} is not UTF-8", err.field() + 1)
        }
        _ => error.to_string(),
    };
    Wrong {
        line: error.position().map(csv::Position::line),
        message,
    }
}
