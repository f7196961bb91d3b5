//! Refuses whole records after the transforms have run: for one bad piece if the config asks for it, or if one message
//! would take far more bytes on disk than it has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::UInt32Array;
use arrow_select::take::take;

use super::run::count_records;
use super::{Applied, DeadLetter, Identity, MAX_KEPT_BYTES, MAX_LETTERS, Reason, codes};
use crate::error::{Error, Kind, Result};
use crate::record::Batch;

/// `errors.unit = record`: a record with a refused piece gives no row at all, and one dead letter with all reasons.
pub(super) fn records_with_a_bad_piece(applied: &mut Applied) -> Result<()> {
    let mut whole: BTreeMap<u32, DeadLetter> = BTreeMap::new();
    for letter in &applied.dead_letters {
        let piece = letter.piece;
        let numbered = letter.reasons.iter().map(|reason| Reason {
            message: match piece {
                Some(k) => format!("piece {k}: {}", reason.message),
                None => reason.message.clone(),
            },
            ..reason.clone()
        });
        let one = whole.entry(letter.record).or_insert_with(|| DeadLetter {
            record: letter.record,
            piece: None,
            by: letter.by.clone(),
            reasons: Vec::new(),
        });
        one.reasons.extend(numbered);
    }
    refuse(applied, whole)
}

/// A record with more than [`MAX_LETTERS`] refused pieces is refused once.
pub(super) fn too_many_letters(applied: &mut Applied) -> Result<()> {
    let mut whole = BTreeMap::new();
    for letters in applied.dead_letters.chunk_by(|a, b| a.record == b.record) {
        let (Some(first), true) = (letters.first(), letters.len() > MAX_LETTERS) else {
            continue;
        };
        let told = Reason {
            code: codes::TOO_MANY_REJECTS.to_owned(),
            field: None,
            message: format!(
                "{} pieces of this message were refused, expected at most {MAX_LETTERS}; the reason of the first follows",
                letters.len()
            ),
        };
        let letter = DeadLetter {
            record: first.record,
            piece: None,
            by: first.by.clone(),
            reasons: [vec![told], first.reasons.clone()].concat(),
        };
        whole.insert(first.record, letter);
    }
    refuse(applied, whole)
}

/// A record is refused once if its bytes, written beside each of its rows, are more than [`MAX_KEPT_BYTES`].
pub(super) fn too_many_bytes(
    applied: &mut Applied,
    batch: &Batch,
    by: &Arc<Identity>,
) -> Result<()> {
    let mut whole = BTreeMap::new();
    for rows in applied.record.chunk_by(|a, b| a == b) {
        let [record, _, ..] = rows else {
            continue;
        };
        let one = batch.bytes_of(*record as usize);
        if one.saturating_mul(rows.len()) <= MAX_KEPT_BYTES {
            continue;
        }
        let letter = DeadLetter {
            record: *record,
            piece: None,
            by: by.clone(),
            reasons: vec![Reason {
                code: codes::TOO_MANY_BYTES.to_owned(),
                field: None,
                message: format!(
                    "sink.keep.value writes the {one} bytes of this message beside each of its {} rows, expected at most {MAX_KEPT_BYTES} bytes in all",
                    rows.len()
                ),
            }],
        };
        whole.insert(*record, letter);
    }
    refuse(applied, whole)
}

impl Applied {
    /// Rows that a sink cannot take become letters, by `by`. `rows`: index and reason, ascending.
    pub fn refuse_rows(&mut self, rows: Vec<(usize, Reason)>, by: &Arc<Identity>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let gone: BTreeSet<usize> = rows.iter().map(|(row, _)| *row).collect();
        let letter = |(row, reason)| DeadLetter {
            record: self.record[row],
            piece: (!self.is_alone(row)).then_some(self.piece[row]),
            by: by.clone(),
            reasons: vec![reason],
        };
        let letters: Vec<DeadLetter> = rows.into_iter().map(letter).collect();
        self.dead_letters.extend(letters);
        self.dead_letters.sort_by_key(|l| (l.record, l.piece));
        self.ledger.dead_letters = self.dead_letters.len() as u64;
        keep(self, |row| !gone.contains(&row))?;
        count_records(self);
        Ok(())
    }

    /// Rows that are left out on request, and count as filtered.
    pub fn drop_rows(&mut self, gone: &BTreeSet<usize>) -> Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        let refused = self.ledger.rows.refused;
        keep(self, |row| !gone.contains(&row))?;
        self.ledger.rows.filtered += self.ledger.rows.refused - refused;
        self.ledger.rows.refused = refused;
        count_records(self);
        Ok(())
    }

    /// `errors.unit = record`, after [`refuse_rows`](Applied::refuse_rows): a record with a refused row gives no row at all.
    pub fn refuse_their_records(&mut self) -> Result<()> {
        records_with_a_bad_piece(self)?;
        count_records(self);
        Ok(())
    }

    /// The only row of its record, of which no piece was refused.
    pub fn is_alone(&self, row: usize) -> bool {
        let record = self.record[row];
        let same = |other: Option<usize>| other.and_then(|at| self.record.get(at)) == Some(&record);
        let lettered = self
            .dead_letters
            .binary_search_by_key(&record, |l| l.record);
        !same(row.checked_sub(1)) && !same(Some(row + 1)) && lettered.is_err()
    }
}

/// `whole` replaces all rows and dead letters of its records.
fn refuse(applied: &mut Applied, whole: BTreeMap<u32, DeadLetter>) -> Result<()> {
    if whole.is_empty() {
        return Ok(());
    }
    let refused: BTreeSet<u32> = whole.keys().copied().collect();
    let records = applied.record.clone();
    keep(applied, |row| !refused.contains(&records[row]))?;
    applied
        .dead_letters
        .retain(|l| !whole.contains_key(&l.record));
    applied.dead_letters.extend(whole.into_values());
    applied.dead_letters.sort_by_key(|l| (l.record, l.piece));
    applied.ledger.dead_letters = applied.dead_letters.len() as u64;
    Ok(())
}

/// The other rows count as refused.
fn keep(applied: &mut Applied, stays: impl Fn(usize) -> bool) -> Result<()> {
    let keep: Vec<u32> = (0..applied.record.len() as u32)
        .filter(|row| stays(*row as usize))
        .collect();
    let dropped = (applied.record.len() - keep.len()) as u64;
    if dropped > 0 {
        let picks = UInt32Array::from(keep.clone());
        for column in applied.table.columns.iter_mut().filter(|c| !c.constant) {
            column.values = take(&column.values, &picks, None).map_err(|e| {
                Error::new(Kind::Bug, "chain.refuse", "rows cannot be picked").source(e)
            })?;
        }
        applied.table.rows = keep.len();
        applied.record = keep.iter().map(|i| applied.record[*i as usize]).collect();
        applied.piece = keep.iter().map(|i| applied.piece[*i as usize]).collect();
        applied.ledger.rows.refused += dropped;
        applied.ledger.rows.written -= dropped;
    }
    Ok(())
}
