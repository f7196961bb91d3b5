//! JSON lines, CSV, and the bytes of one column, as they are or compressed.

use std::fmt;
use std::io::{self, Write};

use arrow_array::Array;
use flate2::write::GzEncoder;
use zstd::stream::write::Encoder as ZstdEncoder;

use super::written;
use crate::chain::Column;
use crate::config::{Compression, FileFormat, Files};
use crate::error::{Error, Kind, Result};
use crate::sink::format::{Unfit, bytes, csv_row};
use crate::sink::json_rows::{JsonColumn, write_object};
use crate::zone::file::{Out, Tally, Written, store_failed};

/// Rows are collected up to so many bytes before they are compressed and handed to the store.
const BUFFER_BYTES: usize = 256 << 10;
/// What zlib needs.
const GZIP_BYTES: usize = 300 << 10;
/// Beside window and tables of zstd: its buffers, and statistics of its slow levels.
const ZSTD_BYTES: usize = 2 << 20;
/// Window and tables of zstd 1.5, as powers of two: bytes, and entries of four bytes in chains and in hashes. A stream of unknown
/// length has these from level 1 on.
const ZSTD_LEVELS: [(u32, u32, u32); 22] = [
    (19, 13, 14),
    (20, 15, 16),
    (21, 16, 17),
    (21, 18, 18),
    (21, 18, 19),
    (21, 18, 19),
    (21, 19, 20),
    (21, 19, 20),
    (22, 20, 21),
    (22, 21, 22),
    (22, 21, 22),
    (22, 22, 23),
    (22, 22, 22),
    (22, 22, 23),
    (22, 23, 23),
    (22, 22, 22),
    (23, 23, 22),
    (23, 23, 22),
    (23, 24, 22),
    (25, 25, 23),
    (26, 26, 24),
    (27, 27, 25),
];

/// About the memory of one file that is being compressed. Before its first bytes zstd has nothing of it.
pub fn packing_bytes(compression: Compression) -> usize {
    match compression {
        Compression::Gzip(_) => GZIP_BYTES,
        Compression::Zstd(level) => {
            let at = usize::try_from(level)
                .unwrap_or(1)
                .clamp(1, ZSTD_LEVELS.len());
            let (window, chain, hash) = ZSTD_LEVELS[at - 1];
            ZSTD_BYTES + (1 << window) + (4 << chain) + (4 << hash)
        }
        _ => 0,
    }
}

pub struct LinesFile {
    pub(super) tally: Tally,
    files: Files,
    /// Positions of the columns that are written.
    columns: Vec<usize>,
    out: Packed,
    /// Bytes were handed to the codec.
    packs: bool,
    buffer: Vec<u8>,
}

enum Packed {
    Plain(Out),
    Gzip(GzEncoder<Out>),
    Zstd(ZstdEncoder<'static, Out>),
}

impl LinesFile {
    pub(super) fn begin(out: Out, tally: Tally, files: &Files) -> Result<LinesFile> {
        let columns = written(tally.schema(), files)?;
        let out = match files.compression {
            Compression::Gzip(level) => {
                Packed::Gzip(GzEncoder::new(out, flate2::Compression::new(level)))
            }
            Compression::Zstd(level) => {
                Packed::Zstd(ZstdEncoder::new(out, level).map_err(store_failed)?)
            }
            _ => Packed::Plain(out),
        };
        let mut file = LinesFile {
            tally,
            files: files.clone(),
            columns,
            out,
            packs: false,
            buffer: Vec::new(),
        };
        if file.files.format == FileFormat::Csv && file.files.header {
            file.write_header()?;
        }
        Ok(file)
    }

    fn write_header(&mut self) -> Result<()> {
        use arrow_array::{ArrayRef, StringArray};
        let fields = self.tally.schema().fields();
        let names = self.columns.iter().filter_map(|at| fields.get(*at));
        let names: Vec<ArrayRef> = names
            .map(|field| {
                std::sync::Arc::new(StringArray::from(vec![field.name().as_str()])) as ArrayRef
            })
            .collect();
        let cells = names.iter().map(|name| ("", name, 0));
        csv_row(cells, self.files.delimiter, &mut self.buffer).map_err(unfit)?;
        self.buffer.push(b'\n');
        Ok(())
    }

    pub fn write(&mut self, columns: &[Column], rows: usize) -> Result<()> {
        self.tally.add(columns, rows)?;
        let schema = self.tally.schema().clone();
        let named: Vec<(&str, &Column)> = self
            .columns
            .iter()
            .filter_map(|at| Some((schema.fields().get(*at)?.name().as_str(), columns.get(*at)?)))
            .collect();
        let alone = self.files.column.is_some();
        match self.files.format {
            FileFormat::Csv => {
                let delimiter = self.files.delimiter;
                let alone = named.len() == 1;
                self.each(rows, |row, out| {
                    let before = out.len();
                    let cells = named
                        .iter()
                        .map(|(name, column)| (*name, &column.values, index(column, row)));
                    csv_row(cells, delimiter, out).map_err(unfit)?;
                    // Readers skip empty lines: the row would be lost to them.
                    if alone && out.len() == before {
                        out.extend_from_slice(b"\"\"");
                    }
                    out.push(b'\n');
                    Ok(())
                })
            }
            FileFormat::Bytes => {
                let separator = self.files.separator.clone();
                self.each(rows, |row, out| {
                    for (_, column) in &named {
                        let at = index(column, row);
                        if !column.values.is_null(at) {
                            bytes(&column.values, at, out);
                        }
                    }
                    out.extend_from_slice(&separator);
                    Ok(())
                })
            }
            _ => {
                let is_json = alone && self.files.text_is_json;
                let cells: Vec<JsonColumn<'_>> = named
                    .iter()
                    .map(|(name, of)| JsonColumn::new(name, &of.values, of.constant, is_json))
                    .collect();
                self.each(rows, |row, out| {
                    match (alone, cells.first()) {
                        (true, Some(cell)) => cell.write(out, row),
                        _ => write_object(out, &cells, row),
                    }
                    out.push(b'\n');
                    Ok(())
                })
            }
        }
    }

    fn each(&mut self, rows: usize, one: impl Fn(usize, &mut Vec<u8>) -> Result<()>) -> Result<()> {
        for row in 0..rows {
            one(row, &mut self.buffer)?;
            if self.buffer.len() >= BUFFER_BYTES {
                self.flush().map_err(store_failed)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.packs = true;
        match &mut self.out {
            Packed::Plain(out) => out.write_all(&self.buffer)?,
            Packed::Gzip(out) => out.write_all(&self.buffer)?,
            Packed::Zstd(out) => out.write_all(&self.buffer)?,
        }
        self.buffer.clear();
        Ok(())
    }

    fn out(&self) -> &Out {
        match &self.out {
            Packed::Plain(out) => out,
            Packed::Gzip(out) => out.get_ref(),
            Packed::Zstd(out) => out.get_ref(),
        }
    }

    pub fn size(&self) -> u64 {
        self.out().bytes() + self.buffer.len() as u64
    }

    pub fn memory(&self) -> usize {
        // Files that fill together are counted before they all reach the codec.
        let soon = self.packs || self.buffer.len() >= BUFFER_BYTES / 2;
        let packing = match self.out {
            Packed::Zstd(_) if !soon => 0,
            _ => packing_bytes(self.files.compression),
        };
        self.buffer.capacity() + packing + self.out().held()
    }

    pub fn close(mut self) -> Result<Written> {
        self.flush().map_err(store_failed)?;
        let out = match self.out {
            Packed::Plain(out) => Ok(out),
            Packed::Gzip(out) => out.finish(),
            Packed::Zstd(out) => out.finish(),
        };
        Ok(self.tally.written(out.map_err(store_failed)?))
    }
}

/// Such rows were refused before.
fn unfit(unfit: Unfit) -> Error {
    let message = format!("`{}`: {}", unfit.column, unfit.why);
    Error::new(Kind::Bug, "zone.write", message)
}

fn index(column: &Column, row: usize) -> usize {
    if column.constant { 0 } else { row }
}

impl fmt::Debug for LinesFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinesFile")
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

    /// The library's own count, for the levels that a test can pay.
    #[test]
    fn what_zstd_needs_is_known_by_level() {
        let mut text = Vec::new();
        for n in 0..200_000_u32 {
            writeln!(text, "{n} {}", n.wrapping_mul(2_654_435_761)).unwrap();
        }
        for level in (1..=19).step_by(3) {
            let mut context = CCtx::create();
            context
                .set_parameter(CParameter::CompressionLevel(level))
                .unwrap();
            let mut packed = vec![0; text.len()];
            let mut out = OutBuffer::around(&mut packed[..]);
            let mut part = InBuffer::around(&text[..]);
            while part.pos < part.src.len() {
                context.compress_stream(&mut out, &mut part).unwrap();
            }
            let (found, told) = (context.sizeof(), packing_bytes(Compression::Zstd(level)));
            assert!(
                found <= told && told <= 2 * found + ZSTD_BYTES,
                "level {level}: {found} bytes, and {told} are told"
            );
        }
    }
}
