//! When many records were made, in little memory: how many, and how they spread over time.
//!
//! Counts lie in spans of time that get wider as records spread, so a quantile is exact to the width of one: about a 64th of
//! the time between the oldest and the newest record where they come evenly, and never more than that record's distance to its neighbours.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow_array::TimestampMicrosecondArray;

/// Spans that are held at most; a BTreeMap of so many is a few KiB.
const SPANS: usize = 128;
/// The narrowest span is `1 << NARROW` microseconds, about a millisecond: Kafka's timestamps are no finer.
const NARROW: u32 = 10;

/// Times of records, microseconds since 1970 UTC. Records without a time are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordTimes {
    count: u64,
    sum: i128,
    min: i64,
    max: i64,
    /// A span is `1 << (NARROW + wider)` microseconds wide.
    wider: u32,
    spans: BTreeMap<i64, u64>,
}

/// From the time of a record to the moment when its rows can be read. Never below zero, whatever the clocks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    pub records: u64,
    pub min: Duration,
    pub mean: Duration,
    pub p99: Duration,
    pub max: Duration,
}

impl RecordTimes {
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn min(&self) -> Option<i64> {
        (self.count > 0).then_some(self.min)
    }

    pub fn max(&self) -> Option<i64> {
        (self.count > 0).then_some(self.max)
    }

    pub fn mean(&self) -> Option<i64> {
        let count = i128::from(self.count);
        (count > 0).then(|| i64::try_from(self.sum / count).unwrap_or(self.max))
    }

    pub fn add(&mut self, times: &TimestampMicrosecondArray) {
        // Neighbours have nearly the same time: a run of them is one entry.
        let (mut at, mut run) = (0, 0);
        for time in times.iter().flatten() {
            self.one(time);
            let span = time >> self.shift();
            if run > 0 && span != at {
                self.put(at, run);
                // It may have widened the spans.
                run = 0;
            }
            at = time >> self.shift();
            run += 1;
        }
        if run > 0 {
            self.put(at, run);
        }
    }

    pub fn merge(&mut self, other: &RecordTimes) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            self.clone_from(other);
            return;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        while self.wider < other.wider {
            self.widen();
        }
        for (at, n) in &other.spans {
            // The other's spans may be narrower, now or once these have widened.
            self.put(at >> (self.wider - other.wider), *n);
        }
    }

    /// `now`: when the rows became visible, microseconds since 1970 UTC. `None`: no record has a time.
    pub fn latency(&self, now: i64) -> Option<Latency> {
        let after = |time: i64| Duration::from_micros(u64::try_from(now - time).unwrap_or(0));
        Some(Latency {
            records: self.count,
            min: after(self.max()?),
            mean: after(self.mean()?),
            p99: after(self.oldest(self.count / 100)?),
            max: after(self.min()?),
        })
    }

    /// By span of time: how long before `now`, and how many.
    pub fn ages(&self, now: i64) -> impl Iterator<Item = (Duration, u64)> {
        let half = 1i64 << (self.shift() - 1);
        self.spans.iter().map(move |(at, n)| {
            let middle = ((at << self.shift()) + half).clamp(self.min, self.max);
            let age = u64::try_from(now - middle).unwrap_or(0);
            (Duration::from_micros(age), *n)
        })
    }

    /// So many records are older, about.
    fn oldest(&self, skip: u64) -> Option<i64> {
        let mut left = skip;
        for (at, n) in &self.spans {
            if *n > left {
                return Some((at << self.shift()).max(self.min));
            }
            left -= n;
        }
        self.max()
    }

    fn shift(&self) -> u32 {
        NARROW + self.wider
    }

    fn one(&mut self, time: i64) {
        (self.min, self.max) = match self.count {
            0 => (time, time),
            _ => (self.min.min(time), self.max.max(time)),
        };
        self.count += 1;
        self.sum += i128::from(time);
    }

    fn put(&mut self, at: i64, n: u64) {
        *self.spans.entry(at).or_default() += n;
        while self.spans.len() > SPANS {
            self.widen();
        }
    }

    fn widen(&mut self) {
        self.wider += 1;
        for (at, n) in std::mem::take(&mut self.spans) {
            *self.spans.entry(at >> 1).or_default() += n;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn times(of: impl IntoIterator<Item = i64>) -> RecordTimes {
        let all: Vec<i64> = of.into_iter().collect();
        let mut times = RecordTimes::default();
        for part in all.chunks(1000) {
            times.add(&TimestampMicrosecondArray::from(part.to_vec()));
        }
        times
    }

    #[test]
    fn a_quantile_is_right_to_a_small_part_of_the_spread() {
        // One record a millisecond for 100 s; visible one second after the last.
        let all = times((0..100_000).map(|ms| ms * 1_000));
        let latency = all.latency(100_999_000).expect("records");
        assert_eq!(latency.records, 100_000);
        assert_eq!(latency.min, Duration::from_secs(1));
        assert_eq!(latency.max, Duration::from_micros(100_999_000));
        assert_eq!(latency.mean, Duration::from_micros(50_999_500));
        let p99 = latency.p99.as_secs_f64();
        assert!((p99 - 99.999).abs() < 100.0 / 64.0, "{p99}");
        assert!(all.spans.len() <= SPANS, "{}", all.spans.len());
        let n: u64 = all.ages(100_999_000).map(|(_, n)| n).sum();
        assert_eq!(n, 100_000);
    }

    #[test]
    fn a_record_from_long_ago_costs_the_others_no_precision() {
        let all = times(
            [0].into_iter()
                .chain((0..9_999).map(|ms| 1_700_000_000 * SECOND + ms * 10)),
        );
        let latency = all.latency(1_700_000_001 * SECOND).expect("records");
        assert!(latency.p99 <= Duration::from_millis(1_002), "{latency:?}");
        assert!(latency.max > Duration::from_secs(1_000_000));
    }

    #[test]
    fn parts_come_to_the_whole() {
        let (near, far) = (times((0..500).map(|s| s * SECOND)), times([7, 8, 9]));
        let mut both = far.clone();
        both.merge(&near);
        let mut other = near.clone();
        other.merge(&far);
        let whole = times((0..500).map(|s| s * SECOND).chain([7, 8, 9]));
        for one in [&both, &other] {
            assert_eq!(
                (one.count, one.sum, one.min, one.max),
                (whole.count, whole.sum, whole.min, whole.max)
            );
            assert_eq!(one.spans.values().sum::<u64>(), 503);
        }
        assert_eq!(RecordTimes::default().latency(1), None);
        // A clock of the broker that is ahead of ours.
        let ahead = times([5 * SECOND]).latency(SECOND).expect("a record");
        assert_eq!(ahead.p99, Duration::ZERO);
    }
}
