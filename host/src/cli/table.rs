//! Tables on stdout: one row per line if that fits the terminal; otherwise cells are folded, so that nothing is cut off
//! and nothing wraps.

use std::io;

use super::say;
use crate::telemetry::{columns, fold, fold_hanging, width};
use crate::text::printable;

/// Between two columns.
const GAP: usize = 2;
/// The last column is folded in its place if it has at least this width; otherwise it goes to the next line.
const FOLDED_MIN: usize = 24;
/// Indentation of cells that do not fit into their row.
const INDENT: &str = "    ";

/// The first row is the header.
pub(super) fn table(rows: &[Vec<String>]) {
    let cell = |cell: &String| printable(cell).into_owned();
    let shown: Vec<Vec<String>> = (rows.iter())
        .map(|row| row.iter().map(cell).collect())
        .collect();
    for line in lines(&shown, width(&io::stdout())) {
        say(line);
    }
}

struct Column {
    width: usize,
    right: bool,
}

/// Aligns columns, to the right if every cell is a number. `width`: that of the terminal, if it is one.
fn lines(rows: &[Vec<String>], width: Option<usize>) -> Vec<String> {
    let layout = layout(rows);
    let whole = layout.iter().map(|c| c.width + GAP).sum::<usize>();
    let Some(width) = width.filter(|width| whole > width + GAP) else {
        let all = rows.iter().map(|row| aligned(row, &layout));
        return all.collect();
    };
    let before = whole.saturating_sub(layout.last().map_or(0, |c| c.width + GAP));
    match width.checked_sub(before) {
        Some(left) if left >= FOLDED_MIN && foldable(rows, layout.len(), left) => (rows.iter())
            .flat_map(|row| last_folded(row, &layout, left))
            .collect(),
        _ => hanging(rows, &layout, width),
    }
}

/// Whether the last column has a blank wherever it is to be broken.
fn foldable(rows: &[Vec<String>], number: usize, left: usize) -> bool {
    let last = rows.iter().filter_map(|row| row.get(number - 1));
    last.flat_map(|cell| cell.split(' '))
        .all(|word| columns(word) <= left)
}

fn layout(rows: &[Vec<String>]) -> Vec<Column> {
    // `1,000`, `-3.5`, `156 KiB`, and `-` where there is none.
    let numeric = |cell: &String| {
        let number = cell.split(' ').next().unwrap_or("");
        let digits = number.trim_start_matches('-');
        number == "-"
            || digits.starts_with(|c: char| c.is_ascii_digit())
                && !digits.contains(|c: char| !(c.is_ascii_digit() || c == ',' || c == '.'))
    };
    let number = rows.iter().map(Vec::len).max().unwrap_or(0);
    let column = |c: usize| {
        let cells = || rows.iter().filter_map(|row| row.get(c));
        Column {
            width: cells().map(|cell| columns(cell)).max().unwrap_or(0),
            right: cells().skip(1).all(numeric) && rows.len() > 1,
        }
    };
    (0..number).map(column).collect()
}

fn padded(cell: &str, column: &Column) -> String {
    let blanks = " ".repeat(column.width.saturating_sub(columns(cell)));
    match column.right {
        true => format!("{blanks}{cell}"),
        false => format!("{cell}{blanks}"),
    }
}

fn aligned(row: &[String], layout: &[Column]) -> String {
    let cells: Vec<String> = (row.iter().zip(layout))
        .map(|(cell, column)| padded(cell, column))
        .collect();
    cells.join("  ").trim_end().to_owned()
}

/// The last cell within `left` columns, over several lines.
fn last_folded(row: &[String], layout: &[Column], left: usize) -> Vec<String> {
    let Some((last, before)) = row.split_last().filter(|_| row.len() == layout.len()) else {
        return vec![aligned(row, layout)];
    };
    let indent = " ".repeat(layout[..before.len()].iter().map(|c| c.width + GAP).sum());
    let folded = fold(last, Some(left));
    let mut parts = folded.lines();
    let first = match before.is_empty() {
        true => String::new(),
        false => format!("{:<width$}", aligned(before, layout), width = indent.len()),
    };
    let mut out = vec![
        format!("{first}{}", parts.next().unwrap_or(""))
            .trim_end()
            .to_owned(),
    ];
    out.extend(parts.map(|part| format!("{indent}{}", part.trim_start())));
    out
}

/// As many columns as fit; below each row the others, with their names.
fn hanging(rows: &[Vec<String>], layout: &[Column], width: usize) -> Vec<String> {
    let mut used = 0;
    let fit = layout.iter().take_while(|column| {
        used += column.width + GAP;
        used <= width + GAP
    });
    let fit = fit.count().max(1);
    let header = rows.first().map(Vec::as_slice).unwrap_or_default();
    let mut out = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let (on_line, below) = row.split_at(fit.min(row.len()));
        out.push(aligned(on_line, layout));
        if at == 0 {
            continue;
        }
        let named = header.iter().skip(fit).zip(below);
        let named: Vec<String> = named
            .filter(|(_, cell)| !cell.is_empty() && *cell != "-")
            .map(|(name, cell)| format!("{} {cell}", name.to_lowercase()))
            .collect();
        if !named.is_empty() {
            let below = format!("{INDENT}{}", named.join("  "));
            let below = fold_hanging(&below, width, INDENT.len() + GAP);
            out.extend(below.lines().map(str::to_owned));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        let row = |row: &&[&str]| row.iter().map(|cell| (*cell).to_owned()).collect();
        rows.iter().map(row).collect()
    }

    #[test]
    fn a_row_is_a_line_off_a_terminal_and_where_it_fits() {
        let rows = rows(&[&["NAME", "ROWS"], &["a", "1,000"], &["bcdefg", "7"]]);
        let wanted = ["NAME     ROWS", "a       1,000", "bcdefg      7"];
        assert_eq!(lines(&rows, None), wanted);
        assert_eq!(lines(&rows, Some(13)), wanted);
    }

    #[test]
    fn a_long_last_column_is_folded_in_its_place() {
        let rows = rows(&[
            &["KEY", "ABOUT"],
            &["row-tag", "the name of the element that becomes one row"],
        ]);
        assert_eq!(
            lines(&rows, Some(40)),
            [
                "KEY      ABOUT",
                "row-tag  the name of the element that",
                "         becomes one row",
            ]
        );
    }

    #[test]
    fn columns_without_a_place_hang_below_their_row() {
        let rows = rows(&[
            &["VERSION", "TIME", "BYTES", "WHAT"],
            &[
                "7",
                "2026-11-29T06:07:19Z",
                "156 KiB",
                "books/0@0-9 books/1@0-9",
            ],
            &["8", "2026-11-29T06:08:19Z", "-", ""],
        ]);
        assert_eq!(
            lines(&rows, Some(30)),
            [
                "VERSION  TIME",
                "      7  2026-11-29T06:07:19Z",
                "    bytes 156 KiB  what",
                "      books/0@0-9 books/1@0-9",
                "      8  2026-11-29T06:08:19Z",
            ]
        );
    }
}
