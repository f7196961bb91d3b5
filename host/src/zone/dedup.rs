//! First wins: of rows with the same key, in the order of RAW's log, a row is dropped if an earlier one within reach
//! was written.
//!
//! Order = (RAW version of the span, topic id, partition, offset, `_row`). A row is a duplicate if a *written* row
//! before it has its key and is in a date partition within the lookback (0 days: the same partition; without
//! partitions: anywhere). Batches end at versions, so rows of earlier batches (their keys are in sidecars) come before
//! all rows of this one: the winners do not depend on how the rows were divided into batches, nor on the order in which
//! they are passed. Partitions outside of the lookback are not searched: the result is exact for the searched dates,
//! not globally.

use crate::error::Result;

use super::keys::Key;

/// A row that has a key. Sorted by key before use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    pub key: Key,
    pub row: u32,
}

/// Marks candidates whose key is in the sidecar, if `reaches(row)` says that the sidecar's partition is within the
/// lookback.
pub fn mark_known(
    candidates: &[Candidate],
    sidecar: impl Iterator<Item = Result<Key>>,
    reaches: impl Fn(u32) -> bool,
    duplicate: &mut [bool],
) -> Result<()> {
    let mut rest = candidates;
    for key in sidecar {
        let key = key?;
        rest = &rest[gallop(rest, key)..];
        // The sidecar is read to its end even when no candidate is left: only then is its digest proved.
        for candidate in rest.iter().take_while(|candidate| candidate.key == key) {
            let row = candidate.row as usize;
            duplicate[row] = duplicate[row] || reaches(candidate.row);
        }
    }
    Ok(())
}

/// How many candidates are below `key`. Searches in doubling steps, because most sidecar keys lie between two
/// neighbours.
fn gallop(candidates: &[Candidate], key: Key) -> usize {
    let mut step = 1;
    let mut low = 0;
    while candidates.get(low + step - 1).is_some_and(|c| c.key < key) {
        low += step;
        step *= 2;
    }
    let high = candidates.len().min(low + step);
    low + candidates[low..high].partition_point(|c| c.key < key)
}

/// Marks later candidates of one key. Those already marked (known from sidecars) were not written, so they do not make
/// others duplicates.
pub fn mark_within<O: Ord>(
    candidates: &[Candidate],
    order: impl Fn(u32) -> O,
    near: impl Fn(u32, u32) -> bool,
    duplicate: &mut [bool],
) {
    for same in candidates
        .chunk_by(|a, b| a.key == b.key)
        .filter(|same| same.len() > 1)
    {
        let mut rows: Vec<u32> = same.iter().map(|c| c.row).collect();
        rows.retain(|row| !duplicate[*row as usize]);
        rows.sort_unstable_by_key(|row| order(*row));
        let mut winners: Vec<u32> = Vec::new();
        for row in rows {
            if winners.iter().any(|winner| near(*winner, row)) {
                duplicate[row as usize] = true;
            } else {
                winners.push(row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(keys: &[Key]) -> Vec<Candidate> {
        let mut list: Vec<Candidate> = keys
            .iter()
            .enumerate()
            .map(|(row, key)| Candidate {
                key: *key,
                row: row as u32,
            })
            .collect();
        list.sort_unstable();
        list
    }

    #[test]
    fn known_keys_are_found_by_merging() {
        let keys: Vec<Key> = (0..1000).map(|i| i * 7 % 501).collect();
        let candidates = candidates(&keys);
        for step in [1, 2, 3, 50, 499] {
            let sidecar = (0..600).step_by(step).map(Ok);
            let mut duplicate = vec![false; keys.len()];
            mark_known(&candidates, sidecar, |row| row != 3, &mut duplicate).expect("no error");
            for (row, key) in keys.iter().enumerate() {
                assert_eq!(
                    duplicate[row],
                    key % step as u128 == 0 && row != 3,
                    "{key} {step}"
                );
            }
        }
    }

    #[test]
    fn the_first_written_wins_and_losers_shadow_nobody() {
        // Rows 0..5 with one key on days 0 1 2 3 4, lookback one day: 0 wins, 1 loses to 0, 2 has only 1 in reach, which was
        // not written: it wins, and so on.
        let candidates = candidates(&[9, 9, 9, 9, 9]);
        let mut duplicate = vec![false; 5];
        mark_within(
            &candidates,
            |row| row,
            |a, b| a.abs_diff(b) <= 1,
            &mut duplicate,
        );
        assert_eq!(duplicate, [false, true, false, true, false]);
        let mut reverse = vec![false; 5];
        mark_within(&candidates, |row| 9 - row, |_, _| true, &mut reverse);
        assert_eq!(reverse, [true, true, true, true, false]);
    }
}
