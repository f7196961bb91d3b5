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

use super::bits::Bits;
use super::keys::Key;
use super::partition::Period;
use super::sorter::{Flat, Record};

/// A row that has a key; ordered by group and key, then as in RAW's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// Rows of different groups are never duplicates of each other: the partition if nothing else is searched.
    pub group: i32,
    /// High and low half of the key.
    key: [u64; 2],
    pub version: u64,
    pub rank: u32,
    pub offset: i64,
    pub row: i32,
    /// [`Period::code`]
    pub period: i32,
    /// The row's number in its batch.
    pub number: u64,
}

impl Candidate {
    pub fn new(group: i32, period: i32, key: Key) -> Candidate {
        Candidate {
            group,
            key: halves(key),
            version: 0,
            rank: 0,
            offset: 0,
            row: 0,
            period,
            number: 0,
        }
    }

    pub fn key(&self) -> Key {
        u128::from(self.key[0]) << 64 | u128::from(self.key[1])
    }
}

fn halves(key: Key) -> [u64; 2] {
    [(key >> 64) as u64, key as u64]
}

impl Record for Candidate {
    const BYTES: usize = 56;

    fn head(&self) -> u64 {
        u64::from(self.group as u32 ^ 1 << 31) << 32 | self.key[0] >> 32
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.group.to_le_bytes());
        out.extend(self.period.to_le_bytes());
        out.extend(self.key[0].to_le_bytes());
        out.extend(self.key[1].to_le_bytes());
        out.extend(self.version.to_le_bytes());
        out.extend(self.rank.to_le_bytes());
        out.extend(self.row.to_le_bytes());
        out.extend(self.offset.to_le_bytes());
        out.extend(self.number.to_le_bytes());
    }

    fn get(bytes: &[u8]) -> Candidate {
        let int = |at: usize| i32::from_le_bytes(four(&bytes[at..at + 4]));
        let long = |at: usize| u64::from_le_bytes(eight(&bytes[at..at + 8]));
        Candidate {
            group: int(0),
            period: int(4),
            key: [long(8), long(16)],
            version: long(24),
            rank: int(32) as u32,
            row: int(36),
            offset: long(40) as i64,
            number: long(48),
        }
    }
}

fn four(bytes: &[u8]) -> [u8; 4] {
    let mut out = [0; 4];
    out.copy_from_slice(bytes);
    out
}

fn eight(bytes: &[u8]) -> [u8; 8] {
    let mut out = [0; 8];
    out.copy_from_slice(bytes);
    out
}

/// Marks the candidates of a group whose keys are in a sidecar, if `reaches` says that the sidecar's partition is within
/// the lookback of a candidate's.
pub fn mark_known(
    candidates: &mut Flat<Candidate>,
    group: i32,
    sidecar: impl Iterator<Item = Result<Key>>,
    reaches: impl Fn(Period) -> bool,
    duplicate: &mut Bits,
) -> Result<()> {
    let whole = candidates.len();
    let mut at = candidates.gallop(0, whole, |c| c.group < group)?;
    let end = candidates.gallop(at, whole, |c| c.group == group)?;
    for key in sidecar {
        let key = halves(key?);
        // The sidecar is read to its end even when no candidate is left: only then is its digest proved.
        at = candidates.gallop(at, end, |c| c.key < key)?;
        let mut same = at;
        while same < end
            && let Some(candidate) = candidates.get(same)?
            && candidate.key == key
        {
            if reaches(Period::of_code(candidate.period)) {
                duplicate.set(candidate.number)?;
            }
            same += 1;
        }
    }
    Ok(())
}

/// Marks later candidates of one key. Those already marked (known from sidecars) were not written, so they do not make
/// others duplicates.
pub fn mark_within(
    candidates: impl Iterator<Item = Result<Candidate>>,
    near: impl Fn(Period, Period) -> bool,
    duplicate: &mut Bits,
) -> Result<()> {
    let mut of = None;
    let mut winners: Vec<Period> = Vec::new();
    for candidate in candidates {
        let candidate = candidate?;
        let key = Some((candidate.group, candidate.key));
        if of != key {
            of = key;
            winners.clear();
        }
        if duplicate.get(candidate.number)? {
            continue;
        }
        let period = Period::of_code(candidate.period);
        match winners.iter().any(|winner| near(*winner, period)) {
            true => duplicate.set(candidate.number)?,
            false => winners.push(period),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::sorter::Sorter;
    use crate::zone::spill::{Spill, SpillPlace};

    fn spill(dir: &tempfile::TempDir) -> Spill {
        Spill::new(SpillPlace {
            dir: dir.path().to_owned(),
            max_bytes: 1 << 30,
        })
    }

    fn of(key: Key, number: u64, period: i32) -> Candidate {
        Candidate {
            number,
            offset: number as i64,
            ..Candidate::new(0, period, key)
        }
    }

    #[test]
    fn a_candidate_is_what_its_bytes_say() {
        let whole = Candidate {
            group: -3,
            key: halves(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
            version: 1 << 40,
            rank: u32::MAX,
            offset: i64::MIN,
            row: -1,
            period: i32::MIN,
            number: u64::MAX,
        };
        let mut bytes = Vec::new();
        whole.put(&mut bytes);
        assert_eq!(bytes.len(), Candidate::BYTES);
        assert_eq!(Candidate::get(&bytes), whole);
        assert!(
            of(1 << 64, 0, 0) > of(u128::from(u64::MAX), 9, 9),
            "as a number"
        );
    }

    #[test]
    fn known_keys_are_found_by_merging() {
        let dir = tempfile::tempdir().expect("a directory");
        let spill = spill(&dir);
        let keys: Vec<Key> = (0..1000).map(|i| i * 7 % 501).collect();
        for step in [1, 2, 3, 50, 499] {
            for memory in [1_000, 1 << 20] {
                let mut sorter = Sorter::new(&spill, memory);
                for (number, key) in keys.iter().enumerate() {
                    let period = i32::from(number == 3);
                    sorter
                        .push(of(*key, number as u64, period))
                        .expect("pushed");
                }
                let sorted = sorter.finish().expect("sorted");
                let mut flat = sorted.flat(&spill).expect("flat");
                let sidecar = (0..600).step_by(step).map(Ok);
                let mut marks = Bits::new(&spill, memory);
                let reaches = |period: Period| period.code() == 0;
                mark_known(&mut flat, 0, sidecar, reaches, &mut marks).expect("no error");
                for (number, key) in keys.iter().enumerate() {
                    let known = key % step as u128 == 0 && number != 3;
                    let marked = marks.get(number as u64).expect("read");
                    assert_eq!(marked, known, "{key} {step}");
                }
            }
        }
    }

    #[test]
    fn the_first_written_wins_and_losers_shadow_nobody() {
        let dir = tempfile::tempdir().expect("a directory");
        let spill = spill(&dir);
        // Rows 0..5 with one key on days 0 1 2 3 4, lookback one day: 0 wins, 1 loses to 0, 2 has only 1 in reach, which was
        // not written: it wins, and so on.
        let rows = (0..5).map(|i| Ok(of(9, i, i as i32)));
        let mut marks = Bits::new(&spill, 1);
        let near = |a: Period, b: Period| a.code().abs_diff(b.code()) <= 1;
        mark_within(rows, near, &mut marks).expect("no error");
        let found: Vec<bool> = (0..5).map(|i| marks.get(i).expect("read")).collect();
        assert_eq!(found, [false, true, false, true, false]);
    }
}
