//! One task's share: makes the rows that are due, partition after partition, and sleeps until the next one.

use std::sync::Arc;
use std::time::Duration;

use super::pace::Pace;
use super::{RateConfig, rows, unknown};
use crate::clock::Clock;
use crate::error::Result;
use crate::record::{Batch, BatchBuilder, Covers, OffsetRange, SplitId};
use crate::source::{End, Position, ReadLimits, Source};

/// Rows that follow each other faster than this are returned together: a batch costs more than a row.
const GATHER: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct RateSource {
    config: RateConfig,
    pace: Pace,
    limits: ReadLimits,
    clock: Arc<dyn Clock>,
    /// When reading began; the pace counts from here.
    begun: Duration,
    /// When the last batch was given.
    given: Duration,
    shares: Vec<Share>,
    /// The partition whose turn it is.
    turn: usize,
    paused: bool,
    builder: BatchBuilder,
    writer: rows::Writer,
}

/// One partition.
#[derive(Debug)]
struct Share {
    at: Position,
    /// The position that corresponds to the beginning of the pace.
    base: i64,
    end: i64,
}

impl RateSource {
    pub(super) fn new(
        config: RateConfig,
        pace: Pace,
        limits: ReadLimits,
        clock: Arc<dyn Clock>,
    ) -> RateSource {
        let begun = clock.elapsed();
        RateSource {
            config,
            pace,
            limits,
            clock,
            begun,
            given: begun,
            shares: Vec::new(),
            turn: 0,
            paused: false,
            builder: BatchBuilder::new(),
            writer: rows::Writer::default(),
        }
    }

    /// Rows of a partition among the first `rows` of all.
    fn of_partition(&self, rows: u64, partition: i32) -> i64 {
        let p = u64::from(partition.unsigned_abs());
        let n = u64::from(self.config.partitions.unsigned_abs());
        i64::try_from(rows.saturating_sub(p).div_ceil(n)).unwrap_or(i64::MAX)
    }

    /// The position that a partition should have now.
    fn due(&self, share: &Share) -> i64 {
        let rows = self
            .pace
            .due(self.clock.elapsed().saturating_sub(self.begun));
        let due = self.of_partition(rows, share.at.tp.partition);
        share.base.saturating_add(due).min(share.end)
    }

    fn behind(&self, share: &Share) -> u64 {
        u64::try_from(self.due(share) - share.at.next).unwrap_or(0)
    }

    fn all_behind(&self) -> u64 {
        self.shares.iter().map(|share| self.behind(share)).sum()
    }

    /// Until one more row of this task is due; `None`: there is none.
    fn until_next(&self) -> Option<Duration> {
        let now = self.clock.elapsed().saturating_sub(self.begun);
        let open = self.shares.iter().filter(|share| share.at.next < share.end);
        let times = open.map(|share| {
            let p = u64::from(share.at.tp.partition.unsigned_abs());
            let n = u64::from(self.config.partitions.unsigned_abs());
            // The number of this row among all, from the moment at which reading began.
            let nth = u64::try_from(share.at.next - share.base).unwrap_or(0);
            let row = nth.saturating_mul(n).saturating_add(p);
            self.pace.time_of(row.saturating_add(1)).saturating_sub(now)
        });
        times.min()
    }

    fn wait(&self, time: Duration) {
        if !time.is_zero() {
            self.clock.sleep(time);
        }
    }

    /// The rows of one partition that are due, as many as a batch holds.
    fn batch(&mut self, index: usize) -> Option<Batch> {
        let due = self.due(self.shares.get(index)?);
        let share = self.shares.get_mut(index)?;
        let (from, p) = (
            share.at.next,
            u64::from(share.at.tp.partition.unsigned_abs()),
        );
        let n = u64::from(self.config.partitions.unsigned_abs());
        while share.at.next < due
            && self.builder.len() < self.limits.batch_records
            && self.builder.bytes() < self.limits.batch_bytes
        {
            let row = u64::try_from(share.at.next).unwrap_or(0);
            let value = row.wrapping_mul(n).wrapping_add(p);
            let micros = rows::micros(value, self.config.step);
            let RateConfig {
                sample,
                format,
                seed,
                ..
            } = self.config;
            let at = share.at.next;
            match rows::books(sample, seed, value) {
                Some(made) => {
                    let headers = made.headers.iter();
                    let headers = headers.map(|(name, value)| (*name, Some(value.as_slice())));
                    let (key, value) = (made.key.as_bytes(), made.value.as_slice());
                    self.builder
                        .push(at, Some(micros), Some(key), Some(value), headers);
                }
                None => {
                    let payload = Some(self.writer.row(format, micros, value, seed));
                    self.builder
                        .push(at, Some(micros), None, payload, std::iter::empty());
                }
            }
            share.at.next += 1;
        }
        let covers = Covers {
            split: share.at.split.clone(),
            epoch: share.at.epoch,
            tp: share.at.tp.clone(),
            range: OffsetRange {
                from,
                to: share.at.next,
            },
        };
        (from < share.at.next).then(|| self.builder.finish(covers))
    }

    /// Rows below the position that is due are made at once; if the position is above it, the pace goes on from there.
    fn put(&mut self, index: usize, at: &Position) {
        let Some(share) = self.shares.get(index) else {
            return;
        };
        let due = self.due(share);
        if let Some(share) = self.shares.get_mut(index) {
            if at.next > due {
                share.base += at.next - due;
            }
            share.at = at.clone();
        }
    }
}

impl Source for RateSource {
    fn next(&mut self, wait: Duration) -> Result<Option<Batch>> {
        if self.paused {
            self.wait(wait);
            return Ok(None);
        }
        let full = self.limits.batch_records as u64;
        let gathering = GATHER.saturating_sub(self.clock.elapsed().saturating_sub(self.given));
        if !gathering.is_zero() && self.all_behind() < full {
            self.wait(gathering.min(wait));
        }
        if self.all_behind() == 0 {
            let Some(next) = self.until_next() else {
                self.wait(wait);
                return Ok(None);
            };
            self.wait(next.min(wait));
        }
        for _ in 0..self.shares.len() {
            let index = self.turn % self.shares.len();
            self.turn = index + 1;
            if let Some(batch) = self.batch(index) {
                self.given = self.clock.elapsed();
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    fn seek(&mut self, positions: &[Position]) -> Result<()> {
        for position in positions {
            let mut shares = self.shares.iter();
            let index = shares.position(|share| share.at.split == position.split);
            let index = index.ok_or_else(|| unknown("rate.seek", position))?;
            self.put(index, position);
        }
        Ok(())
    }

    fn assign(&mut self, positions: &[Position]) -> Result<()> {
        for at in positions {
            let rows = self
                .pace
                .due(self.clock.elapsed().saturating_sub(self.begun));
            let due = self.of_partition(rows, at.tp.partition);
            self.shares.push(Share {
                at: at.clone(),
                base: at.next - due,
                end: self.config.rows_of(at.tp.partition),
            });
        }
        Ok(())
    }

    fn pause(&mut self, paused: bool) -> Result<()> {
        self.paused = paused;
        Ok(())
    }

    fn caught_up(&self) -> bool {
        self.shares.iter().all(|share| share.at.next >= share.end)
    }

    fn has_more(&self, split: &SplitId) -> bool {
        let mut shares = self.shares.iter();
        let of_split = shares.find(|share| share.at.split == *split);
        of_split.is_some_and(|share| share.at.next < share.end)
    }

    /// Rows that are due and not made.
    fn lag(&self) -> Option<u64> {
        Some(self.all_behind())
    }

    fn ends(&self) -> Vec<End> {
        let of = |share: &Share| End {
            split: share.at.split.clone(),
            next: self.due(share),
        };
        self.shares.iter().map(of).collect()
    }
}
