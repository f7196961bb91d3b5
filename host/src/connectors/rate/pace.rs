//! How many rows are due after some time, and when the next one is.

use std::time::Duration;

/// Rows of all partitions together, counted from the moment at which reading began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    per_second: f64,
    /// Seconds in which the pace rises linearly from 0.
    ramp_up: f64,
}

impl Pace {
    pub(super) fn new(per_second: u64, ramp_up: Duration) -> Pace {
        Pace {
            per_second: per_second as f64,
            ramp_up: ramp_up.as_secs_f64(),
        }
    }

    /// The number of rows that are due; it never falls.
    pub(super) fn due(&self, after: Duration) -> u64 {
        let after = after.as_secs_f64();
        let rows = if after < self.ramp_up {
            self.per_second * after * after / (2.0 * self.ramp_up)
        } else {
            self.per_second * (after - self.ramp_up / 2.0)
        };
        // Below 2^53 rows this is exact to a row.
        rows.max(0.0) as u64
    }

    /// The time at which this many rows are due: not earlier, and at most a microsecond later.
    pub(super) fn time_of(&self, rows: u64) -> Duration {
        let rows = rows as f64;
        let in_ramp = self.per_second * self.ramp_up / 2.0;
        let seconds = if rows < in_ramp {
            (2.0 * self.ramp_up * rows / self.per_second).sqrt()
        } else {
            rows / self.per_second + self.ramp_up / 2.0
        };
        let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        time.saturating_add(Duration::from_micros(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_due_evenly_and_after_a_ramp() {
        let even = Pace::new(10, Duration::ZERO);
        let after = |millis| even.due(Duration::from_millis(millis));
        assert_eq!(
            [after(0), after(99), after(101), after(1_000)],
            [0, 0, 1, 10]
        );
        let ramp = Pace::new(10, Duration::from_secs(4));
        let after = |secs| ramp.due(Duration::from_secs(secs));
        // The area below the line: half of it in the ramp.
        assert_eq!([after(0), after(2), after(4), after(5)], [0, 5, 20, 30]);
    }

    #[test]
    fn at_the_time_of_a_row_it_is_due() {
        for pace in [
            Pace::new(1, Duration::ZERO),
            Pace::new(7, Duration::from_secs(3)),
            Pace::new(1_000_000, Duration::from_millis(10)),
        ] {
            for rows in [1, 2, 9, 10, 11, 1_000, 12_345_678] {
                let at = pace.time_of(rows);
                assert!(pace.due(at) >= rows, "{pace:?} {rows} {at:?}");
                let before = at.saturating_sub(Duration::from_micros(2));
                assert!(pace.due(before) <= rows, "{pace:?} {rows} {at:?}");
            }
        }
    }
}
