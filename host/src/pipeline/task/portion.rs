//! What a task may take of its source: so many offsets until it commits, and in a run with a limit no more than up to its ends.
//!
//! Batches are cut where a limit falls into them. What is left of one waits here for the next commit; what lies above a run's end is
//! dropped, and the next run reads it.

use std::collections::{BTreeMap, VecDeque};

use crate::error::Result;
use crate::record::{Batch, SplitId};
use crate::source::Position;

/// Without limits by default.
#[derive(Debug, Default)]
pub struct Portion {
    /// Most offsets between two seals.
    commit: Option<u64>,
    /// Where a run ends, for each split of the task. `None`: where its source says.
    ends: Option<BTreeMap<SplitId, i64>>,
    /// Offsets since the last seal.
    taken: u64,
    /// Up to where each split was taken.
    at: BTreeMap<SplitId, i64>,
    /// What did not fit any more, or waits; the next one first.
    rest: VecDeque<Batch>,
}

impl Portion {
    pub fn new(
        commit: Option<u64>,
        ends: Option<BTreeMap<SplitId, i64>>,
        positions: &[Position],
    ) -> Portion {
        let mut portion = Portion {
            commit,
            ends,
            ..Portion::default()
        };
        portion.moved(positions);
        portion
    }

    /// The next batch, as much of it as may be taken now. `None`: nothing came, or nothing that this run takes.
    pub fn take(&mut self, next: impl FnOnce() -> Result<Option<Batch>>) -> Result<Option<Batch>> {
        let batch = match self.rest.pop_front() {
            Some(rest) => Some(rest),
            None => next()?,
        };
        let Some(batch) = batch else {
            return Ok(None);
        };
        let Some(batch) = self.up_to_end(batch) else {
            return Ok(None);
        };
        let Some(most) = self.commit else {
            return Ok(Some(batch));
        };
        // A sink that cannot be sealed yet gets more.
        let left = match most.saturating_sub(self.taken) {
            0 => most,
            left => left,
        };
        let range = batch.covers.range;
        let cut = range
            .from
            .saturating_add(i64::try_from(left).unwrap_or(i64::MAX));
        let batch = match cut < range.to {
            true => {
                let (batch, rest) = batch.cut(cut);
                self.rest.push_front(rest);
                batch
            }
            false => batch,
        };
        let range = batch.covers.range;
        self.taken += u64::try_from(range.to - range.from).unwrap_or(0);
        Ok(Some(batch))
    }

    /// A batch that was taken, or its end, is the next one to be taken.
    pub fn give_back(&mut self, batch: Batch) {
        let range = batch.covers.range;
        let offsets = u64::try_from(range.to - range.from).unwrap_or(0);
        self.taken = self.taken.saturating_sub(offsets);
        self.rest.push_front(batch);
    }

    fn up_to_end(&mut self, batch: Batch) -> Option<Batch> {
        let Some(ends) = &self.ends else {
            return Some(batch);
        };
        let (split, range) = (batch.covers.split.clone(), batch.covers.range);
        // A split that came after the run began is left for the next one.
        let end = ends.get(&split).copied().unwrap_or(i64::MIN);
        if range.from >= end {
            return None;
        }
        self.at.insert(split, range.to.min(end));
        match end < range.to {
            true => Some(batch.cut(end).0),
            false => Some(batch),
        }
    }

    /// No more may be taken before the next seal.
    pub fn is_full(&self) -> bool {
        self.commit.is_some_and(|most| self.taken >= most)
    }

    /// A batch waits here.
    pub fn holds(&self, split: &SplitId) -> bool {
        self.rest.iter().any(|rest| rest.covers.split == *split)
    }

    /// Records that wait here.
    pub fn waiting(&self) -> u64 {
        self.rest.iter().map(|rest| rest.len() as u64).sum()
    }

    /// True: everything that the run may take is taken. `caught_up`: the source has come to its own end.
    pub fn is_done(&self, caught_up: bool) -> bool {
        let reached = |ends: &BTreeMap<SplitId, i64>| {
            let mut ends = ends.iter();
            ends.all(|(split, end)| self.at.get(split).is_some_and(|at| at >= end))
        };
        self.rest.is_empty() && (caught_up || self.ends.as_ref().is_some_and(reached))
    }

    pub fn sealed(&mut self) {
        self.taken = 0;
    }

    /// What was taken and not sealed is read again.
    pub fn dropped(&mut self) {
        self.taken = 0;
        self.rest.clear();
    }

    /// The source goes to these positions.
    pub fn moved(&mut self, positions: &[Position]) {
        self.dropped();
        for position in positions {
            self.at.insert(position.split.clone(), position.next);
        }
    }

    /// Other tasks read these splits from now on.
    pub fn released(&mut self, splits: &[SplitId]) {
        self.rest
            .retain(|rest| !splits.contains(&rest.covers.split));
    }
}

/// Where a run ends that takes at most so many offsets: what waits in each split gives its share. `waiting`: position and end of each
/// split. `None`: all of it may be taken.
pub fn ends(most: u64, waiting: &[(SplitId, i64, i64)]) -> Option<BTreeMap<SplitId, i64>> {
    let behind = |(_, next, end): &(SplitId, i64, i64)| {
        u128::try_from(i128::from(*end) - i128::from(*next)).unwrap_or(0)
    };
    let total: u128 = waiting.iter().map(behind).sum();
    let most = u128::from(most);
    if total <= most {
        return None;
    }
    let mut shares: Vec<(u128, u128, &(SplitId, i64, i64))> = waiting
        .iter()
        .map(|split| (most * behind(split) / total, behind(split), split))
        .collect();
    let mut left = most - shares.iter().map(|(share, ..)| share).sum::<u128>();
    // What rounding left goes to those with the most, so that none waits for ever.
    shares.sort_by_key(|(_, behind, _)| std::cmp::Reverse(*behind));
    for (share, behind, _) in &mut shares {
        let more = left.min(1).min(*behind - *share);
        *share += more;
        left -= more;
    }
    let end = |(share, _, (split, next, _)): (u128, u128, &(SplitId, i64, i64))| {
        let share = i64::try_from(share).unwrap_or(i64::MAX);
        (split.clone(), next.saturating_add(share))
    };
    Some(shares.into_iter().map(end).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, Covers, OffsetRange, TopicPartition};

    fn split(n: i32) -> SplitId {
        SplitId::kafka("c", "t", n)
    }

    /// Every second offset holds a record.
    fn batch(n: i32, from: i64, to: i64) -> Batch {
        let mut builder = BatchBuilder::new();
        for offset in (from..to).filter(|offset| offset % 2 == 0) {
            let text = offset.to_string();
            let header = [("h", Some(text.as_bytes()))];
            builder.push(
                offset,
                Some(offset),
                None,
                Some(text.as_bytes()),
                header.into_iter(),
            );
        }
        builder.finish(Covers {
            split: split(n),
            epoch: 0,
            tp: TopicPartition {
                topic: "t".into(),
                partition: n,
            },
            range: OffsetRange { from, to },
        })
    }

    fn took(portion: &mut Portion, next: Option<Batch>) -> Option<(i64, i64, usize)> {
        let batch = portion.take(|| Ok(next)).expect("a batch")?;
        let range = batch.covers.range;
        assert_eq!(
            batch.bytes(),
            batch.value.iter().flatten().map(<[u8]>::len).sum::<usize>()
        );
        Some((range.from, range.to, batch.len()))
    }

    #[test]
    fn a_commit_takes_so_many_offsets_and_nothing_is_lost_between_two() {
        let mut portion = Portion::new(Some(10), None, &[]);
        assert_eq!(took(&mut portion, Some(batch(0, 0, 7))), Some((0, 7, 4)));
        assert!(!portion.is_full());
        assert_eq!(took(&mut portion, Some(batch(0, 7, 30))), Some((7, 10, 1)));
        assert!(portion.is_full() && portion.holds(&split(0)) && !portion.is_done(true));
        portion.sealed();
        assert_eq!(took(&mut portion, None), Some((10, 20, 5)));
        portion.sealed();
        assert_eq!(took(&mut portion, None), Some((20, 30, 5)));
        assert!(portion.is_done(true) && !portion.is_done(false));
        portion.sealed();
        assert_eq!(
            took(&mut portion, Some(batch(0, 30, 45))),
            Some((30, 40, 5))
        );
        // After a fault the source is asked again.
        portion.moved(&[]);
        assert_eq!(took(&mut portion, None), None);
    }

    #[test]
    fn a_run_ends_where_its_share_does() {
        let waiting = [(split(0), 100, 200), (split(1), 0, 50), (split(2), 7, 7)];
        assert_eq!(ends(150, &waiting), None);
        let found = ends(30, &waiting).expect("a limit");
        assert_eq!(
            found,
            BTreeMap::from([(split(0), 120), (split(1), 10), (split(2), 7)])
        );
        let one = ends(1, &waiting).expect("a limit");
        assert_eq!(
            one,
            BTreeMap::from([(split(0), 101), (split(1), 0), (split(2), 7)])
        );

        let at = |n, next| Position {
            split: split(n),
            epoch: 0,
            tp: batch(n, 0, 1).covers.tp,
            next,
        };
        let mut portion = Portion::new(None, Some(found), &[at(0, 100), at(1, 0), at(2, 7)]);
        assert!(!portion.is_done(false));
        assert_eq!(
            took(&mut portion, Some(batch(0, 100, 160))),
            Some((100, 120, 10))
        );
        assert_eq!(took(&mut portion, Some(batch(0, 160, 200))), None);
        assert_eq!(
            took(&mut portion, Some(batch(3, 0, 10))),
            None,
            "it came later"
        );
        assert_eq!(took(&mut portion, Some(batch(1, 0, 10))), Some((0, 10, 5)));
        assert!(portion.is_done(false));
        portion.moved(&[at(1, 0)]);
        assert!(!portion.is_done(false), "it is read again");
    }
}
