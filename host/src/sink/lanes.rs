//! What a task has read for planned batches, lane by lane, and which of it may be sealed (D2).
//!
//! A seal leaves out a split that is inside a plan: the rest of its batch is on its way. What stays is sealed later, so other
//! splits never wait for it. If the rest does not come, everything is read again once, and then the batch is cut. As long as the
//! source has more of the split, the rest comes, whatever is read before it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::plan::{Coordinate, Following, Lane, Plan, Plans};
use crate::error::{Error, Kind, Result};
use crate::record::SplitId;

/// The rest of a plan comes within this after the last record of its split, or it does not come: its rows were in the source
/// when they were planned. Only time counts in which the source was read and knew of nothing more of the split.
pub const REST_WITHIN: Duration = Duration::from_secs(10);

/// `T`: what the sink keeps of each lane's rows.
#[derive(Debug)]
pub struct Lanes<T> {
    /// [`REST_WITHIN`], except in simulations.
    rest_within: Duration,
    all: Vec<OfLane<T>>,
    /// Where a split stood inside a plan when the rest did not come: it is read again from the log's position, once.
    waited: BTreeMap<SplitId, Coordinate>,
}

#[derive(Debug)]
pub struct OfLane<T> {
    pub lane: Lane,
    pub rows: T,
    following: Following,
    /// The last row since the last seal.
    last: Option<Coordinate>,
    /// When the last record of its split came, and later by the time that does not count.
    heard: Duration,
}

/// What a seal takes of a lane: rows, and the plans that were found for them, in their order.
#[derive(Debug)]
pub struct Taken<T> {
    pub lane: Lane,
    pub found: Vec<Plan>,
    pub rows: T,
}

impl<T> OfLane<T> {
    /// The next row.
    pub fn row(&mut self, plans: &Plans, at: Coordinate) -> Result<()> {
        self.following.row(plans, &self.lane, at)?;
        self.last = Some(at);
        Ok(())
    }

    /// All records of its split below this offset were read, whether they gave rows or not.
    pub fn covered(&mut self, to: i64, now: Duration) {
        self.following.covered(&self.lane, to);
        self.heard = now;
    }

    /// Whether a seal leaves it out now, or may have to after its next row.
    pub fn may_be_left_out(&self) -> bool {
        self.following.inside() || self.following.is_looking()
    }

    pub fn is_inside(&self) -> bool {
        self.following.inside()
    }

    fn waits(&self, now: Duration, rest_within: Duration) -> bool {
        self.is_inside() && now.saturating_sub(self.heard) < rest_within
    }
}

impl<T: Default> Lanes<T> {
    pub fn new(rest_within: Duration) -> Lanes<T> {
        Lanes {
            rest_within,
            all: Vec::new(),
            waited: BTreeMap::new(),
        }
    }

    /// Rows of this lane come next. Those of its split by other rules were sealed before.
    pub fn of(&mut self, lane: Lane) -> &mut OfLane<T> {
        let at = match self.all.iter().position(|of| of.lane == lane) {
            Some(at) => at,
            None => {
                self.all
                    .retain(|of| of.lane.split != lane.split || of.last.is_some());
                self.all.push(OfLane {
                    lane,
                    rows: T::default(),
                    following: Following::default(),
                    last: None,
                    heard: Duration::ZERO,
                });
                self.all.len() - 1
            }
        };
        &mut self.all[at]
    }

    pub fn iter(&self) -> impl Iterator<Item = &OfLane<T>> {
        self.all.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut OfLane<T>> {
        self.all.iter_mut()
    }

    /// Splits inside a plan.
    pub fn awaited(&self) -> Vec<SplitId> {
        let inside = self.all.iter().filter(|of| of.is_inside());
        inside.map(|of| of.lane.split.clone()).collect()
    }

    /// This time, which has just passed, does not count: the rest of the split's plan comes, or nothing was read.
    pub fn put_off(&mut self, split: &SplitId, passed: Duration, now: Duration) {
        for of in self.all.iter_mut().filter(|of| of.lane.split == *split) {
            of.heard = of.heard.saturating_add(passed).min(now);
        }
    }

    /// The source has lost what follows in this split: the rest of a plan is not waited for.
    pub fn lost(&mut self, split: &SplitId) {
        let of_split = self.all.iter_mut().filter(|of| of.lane.split == *split);
        of_split.for_each(|of| of.following.cut(&of.lane));
    }

    /// Splits that a seal leaves out now: the rest of a plan is on its way.
    pub fn waiting(&self, now: Duration) -> BTreeSet<SplitId> {
        let waiting = self.all.iter().filter(|of| of.waits(now, self.rest_within));
        waiting.map(|of| of.lane.split.clone()).collect()
    }

    /// What a seal leaves out. `Conflict`: the rest of a plan does not come, so all is read again from the log's positions. If
    /// the split then stands at the same place, and again nothing comes, the batch is cut there.
    pub fn left_out(&mut self, now: Duration) -> Result<BTreeSet<SplitId>> {
        let mut first = false;
        for of in self.all.iter_mut().filter(|of| of.is_inside()) {
            let (Some(at), false) = (of.last, of.waits(now, self.rest_within)) else {
                continue;
            };
            let split = of.lane.split.clone();
            match self.waited.insert(split, at) == Some(at) {
                true => of.following.cut(&of.lane),
                false => first = true,
            }
        }
        match first {
            true => {
                let message = "the rest of a batch that was planned before does not come; it is looked for once more";
                Err(Error::new(Kind::Conflict, "sink.lanes", message))
            }
            false => Ok(self.waiting(now)),
        }
    }

    /// Rows of all lanes that have some and are not left out.
    pub fn take(&mut self, left_out: &BTreeSet<SplitId>) -> Vec<Taken<T>> {
        let mut taken = Vec::new();
        for of in &mut self.all {
            if left_out.contains(&of.lane.split) {
                continue;
            }
            self.waited.remove(&of.lane.split);
            let (found, rows) = (of.following.take(), std::mem::take(&mut of.rows));
            if of.last.take().is_some() {
                taken.push(Taken {
                    lane: of.lane.clone(),
                    found,
                    rows,
                });
            }
        }
        taken
    }

    /// Everything is read again.
    pub fn discard(&mut self) {
        self.all.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::super::plan::{Cut, Row};
    use super::*;
    use crate::clock::ManualClock;
    use crate::commit::LogName;
    use crate::store;

    fn lane(n: i32) -> Lane {
        Lane {
            split: SplitId::kafka("c", "t", n),
            epoch: 0,
            rules: "r".into(),
        }
    }

    fn at(offset: i64) -> Coordinate {
        Coordinate { offset, row: 0 }
    }

    /// Rows 0 to 5 of partition 0 were planned in one batch.
    fn planned(name: &str) -> Plans {
        let store = store::open_url(&format!("memory:{name}")).unwrap();
        let clock = ManualClock::at(1_700_000_000_000_000);
        let plans = Plans::new(store, LogName::new("p", "z"), clock);
        let rows: Vec<Row> = (0..5)
            .map(|n| Row {
                at: at(n),
                bytes: 1,
            })
            .collect();
        let cut = Cut {
            rows: 9,
            bytes: 100,
        };
        plans
            .decide(&lane(0), &rows, &[], cut, || "a".into())
            .unwrap();
        plans
    }

    fn read(lanes: &mut Lanes<Vec<i64>>, plans: &Plans, n: i32, rows: Range<i64>, now: u64) {
        let of = lanes.of(lane(n));
        let to = rows.end;
        for offset in rows {
            of.row(plans, at(offset)).unwrap();
            of.rows.push(offset);
        }
        of.covered(to, Duration::from_secs(now));
    }

    fn seal(lanes: &mut Lanes<Vec<i64>>, now: u64) -> Result<Vec<Vec<i64>>> {
        let left_out = lanes.left_out(Duration::from_secs(now))?;
        let taken = lanes.take(&left_out).into_iter();
        Ok(taken.map(|taken| taken.rows).collect())
    }

    #[test]
    fn a_seal_leaves_out_a_split_inside_a_plan_until_the_rest_of_its_batch_came() {
        let plans = planned("lanes-out");
        let mut lanes = Lanes::new(REST_WITHIN);
        read(&mut lanes, &plans, 0, 0..3, 0);
        read(&mut lanes, &plans, 1, 0..7, 0);
        assert_eq!(seal(&mut lanes, 1).unwrap(), [(0..7).collect::<Vec<_>>()]);
        read(&mut lanes, &plans, 1, 7..9, 2);
        read(&mut lanes, &plans, 0, 3..5, 2);
        let both = seal(&mut lanes, 3).unwrap();
        assert_eq!(both, [(0..5).collect::<Vec<_>>(), vec![7, 8]]);
        assert!(seal(&mut lanes, 4).unwrap().is_empty());
    }

    /// However busy the others are, and however often memory is full meanwhile.
    #[test]
    fn a_rest_that_does_not_come_is_read_again_once_and_then_the_batch_is_cut() {
        let plans = planned("lanes-cut");
        let mut lanes = Lanes::new(REST_WITHIN);
        let mut busy = 0;
        for round in [0, 100] {
            read(&mut lanes, &plans, 0, 0..3, round);
            for second in 0..10 {
                read(&mut lanes, &plans, 1, busy..busy + 1, round + second);
                let sealed = seal(&mut lanes, round + second).unwrap();
                assert_eq!(sealed, [vec![busy]], "second {second}");
                busy += 1;
            }
            assert!(lanes.waiting(Duration::from_secs(round + 10)).is_empty());
            if round == 0 {
                let error = seal(&mut lanes, 10).unwrap_err();
                assert_eq!(error.kind(), Kind::Conflict);
                lanes.discard();
            }
        }
        assert_eq!(seal(&mut lanes, 110).unwrap(), [vec![0, 1, 2]]);
    }

    #[test]
    fn a_rest_that_comes_after_it_was_looked_for_again_is_not_cut() {
        let plans = planned("lanes-late");
        let mut lanes = Lanes::new(REST_WITHIN);
        read(&mut lanes, &plans, 0, 0..3, 0);
        seal(&mut lanes, 10).unwrap_err();
        lanes.discard();
        read(&mut lanes, &plans, 0, 0..4, 20);
        assert!(seal(&mut lanes, 21).unwrap().is_empty());
        seal(&mut lanes, 30).unwrap_err();
        lanes.discard();
        read(&mut lanes, &plans, 0, 0..5, 40);
        assert_eq!(seal(&mut lanes, 40).unwrap(), [vec![0, 1, 2, 3, 4]]);
    }

    /// The source reads others first, or was paused: not a second of it counts, and all others do.
    #[test]
    fn time_in_which_the_rest_could_not_come_does_not_count() {
        let plans = planned("lanes-off");
        let mut lanes = Lanes::new(REST_WITHIN);
        let seconds = Duration::from_secs;
        read(&mut lanes, &plans, 0, 0..3, 0);
        assert_eq!(lanes.awaited(), [lane(0).split]);
        lanes.put_off(&lane(0).split, seconds(3_600), seconds(3_604));
        assert!(seal(&mut lanes, 3_609).unwrap().is_empty());
        // What is over stays over.
        lanes.put_off(&lane(0).split, seconds(90), seconds(3_700));
        seal(&mut lanes, 3_700).unwrap_err();
        lanes.discard();
        read(&mut lanes, &plans, 0, 0..3, 3_710);
        // No more than what passed since the last record.
        lanes.put_off(&lane(0).split, seconds(60), seconds(3_711));
        assert!(seal(&mut lanes, 3_720).unwrap().is_empty());
        assert_eq!(seal(&mut lanes, 3_721).unwrap(), [vec![0, 1, 2]]);
        assert!(lanes.awaited().is_empty());
    }

    #[test]
    fn nobody_waits_for_rows_that_were_passed_or_are_lost() {
        let plans = planned("lanes-gone");
        for lost in [false, true] {
            let mut lanes = Lanes::new(REST_WITHIN);
            read(&mut lanes, &plans, 0, 0..3, 0);
            lanes.of(lane(0)).covered(4, Duration::ZERO);
            assert!(seal(&mut lanes, 0).unwrap().is_empty(), "row 4 may come");
            match lost {
                true => lanes.lost(&lane(0).split),
                // Record 4 gave no row, or is none any more.
                false => lanes.of(lane(0)).covered(5, Duration::ZERO),
            }
            assert_eq!(seal(&mut lanes, 0).unwrap(), [vec![0, 1, 2]]);
        }
    }
}
