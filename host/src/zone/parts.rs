//! Divides rows into parts when their original bytes are written beside them.

use std::ops::Range;

use crate::chain::{Applied, Column, Ledger, Table};

/// Most original bytes that are repeated in memory at a time: a message that becomes a thousand rows has its bytes
/// beside each of them in the file, but never all at once in memory.
const REPEATED_BYTES: usize = 8 << 20;

/// Runs of rows with about [`REPEATED_BYTES`] of original bytes in total; at least one row each.
pub fn parts(sizes: impl Iterator<Item = usize>) -> impl Iterator<Item = Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (row, size) in sizes.enumerate() {
        match ranges.last_mut() {
            Some(last) if bytes + size <= REPEATED_BYTES => last.end = row + 1,
            _ => {
                ranges.push(row..row + 1);
                bytes = 0;
            }
        }
        bytes += size;
    }
    ranges.into_iter()
}

/// Some of the rows, without dead letters and ledgers.
pub fn rows_of(applied: &Applied, part: Range<usize>) -> Applied {
    let columns = applied
        .table
        .columns
        .iter()
        .map(|column| match column.constant {
            true => column.clone(),
            false => Column {
                values: column.values.slice(part.start, part.len()),
                constant: false,
            },
        });
    Applied {
        table: Table {
            schema: applied.table.schema.clone(),
            rows: part.len(),
            columns: columns.collect(),
        },
        record: applied.record[part.clone()].to_vec(),
        piece: applied.piece[part].to_vec(),
        dead_letters: Vec::new(),
        ledger: Ledger::default(),
        counters: Vec::new(),
        rules: applied.rules.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_holds_at_least_one_row_and_at_most_so_many_bytes() {
        let check = |sizes: &[usize], expect: &[Range<usize>]| {
            assert_eq!(parts(sizes.iter().copied()).collect::<Vec<_>>(), expect);
        };
        check(&[], &[]);
        check(&[1, 2, REPEATED_BYTES - 1, 1], &[0..2, 2..4]);
        check(&[REPEATED_BYTES + 1, 1, 1], &[0..1, 1..3]);
        check(&[1, REPEATED_BYTES, REPEATED_BYTES, 0], &[0..1, 1..2, 2..4]);
        let thousand = vec![1 << 20; 1_000];
        assert!(parts(thousand.into_iter()).all(|p| p.len() == REPEATED_BYTES >> 20));
    }
}
