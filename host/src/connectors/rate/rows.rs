//! The content of a row: a function of its number and the config, always the same.

use std::fmt::Write as _;
use std::time::Duration;

use crate::instant;
use crate::sample::{self, Dirty};

/// `source.sample`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sample {
    Numbers,
    Books,
    DirtyBooks,
}

impl Sample {
    pub(super) fn name(self) -> &'static str {
        match self {
            Sample::Numbers => "numbers",
            Sample::Books => "books",
            Sample::DirtyBooks => "dirty-books",
        }
    }
}

/// A dirty message in so many is that of so many rows before.
const REPEATED: u64 = 50;
const BEFORE: u64 = 10;

/// The message of a row: of its number and the seed alone. `None`: rows are numbers.
pub(super) fn books(sample: Sample, seed: u64, value: u64) -> Option<sample::Sample> {
    let dirty = match sample {
        Sample::Numbers => return None,
        Sample::Books => Dirty::NONE,
        Sample::DirtyBooks => Dirty {
            repeated: 0.0,
            ..Dirty::SOME
        },
    };
    let repeats = sample == Sample::DirtyBooks
        && value >= BEFORE
        && bits(!seed, value).is_multiple_of(REPEATED);
    let of = if repeats { value - BEFORE } else { value };
    sample::Books::new(bits(seed, of), dirty).next()
}

/// `source.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `{"timestamp":"2026-01-02T03:04:05.678901Z","value":17,"random":6364136223846793}`
    Json,
    /// The same, separated by commas.
    Text,
}

impl Format {
    pub(super) fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Text => "text",
        }
    }
}

/// Integers up to here are exact in every reader of JSON.
const RANDOM_BITS: u32 = 53;

/// 2026-01-01T00:00:00Z, in microseconds since 1970: the timestamp of row 0.
const FIRST: i64 = 1_767_225_600_000_000;
/// 9999-12-31T23:59:59.999999Z, the last timestamp that RFC 3339 can write.
const LAST: i64 = 253_402_300_799_999_999;

/// The timestamp of a row, in microseconds since 1970: of its number alone, so that a row that is read again has the same one.
pub(super) fn micros(value: u64, step: Duration) -> i64 {
    let after = u128::from(value).saturating_mul(step.as_micros());
    let after = i64::try_from(after).unwrap_or(LAST);
    FIRST.saturating_add(after).min(LAST)
}

/// Writes rows one after the other. Parts that are the same as in the row before are not formatted again.
#[derive(Debug, Default)]
pub(super) struct Writer {
    line: String,
    /// RFC 3339 in UTC, with microseconds.
    time: String,
    /// The second of `time`, since 1970. `None`: there was no row yet.
    second: Option<i64>,
}

/// Digits of microseconds, and `Z`.
const FRACTION: usize = 7;

impl Writer {
    pub(super) fn row(&mut self, format: Format, micros: i64, value: u64, seed: u64) -> &[u8] {
        self.stamp(micros);
        let Writer { line, time, .. } = self;
        line.clear();
        let random = random(seed, value);
        let _unfailing = match format {
            Format::Json => write!(
                line,
                "{{\"timestamp\":\"{time}\",\"value\":{value},\"random\":{random}}}"
            ),
            Format::Text => write!(line, "{time},{value},{random}"),
        };
        line.as_bytes()
    }

    fn stamp(&mut self, micros: i64) {
        let second = micros.div_euclid(1_000_000);
        if self.second != Some(second) {
            let whole = instant::civil(second * 1_000_000);
            self.time = whole.map_or_else(String::new, |time| format!("{time:.6}Z"));
            self.second = Some(second);
        }
        self.time.truncate(self.time.len().saturating_sub(FRACTION));
        let _unfailing = write!(self.time, "{:06}Z", micros.rem_euclid(1_000_000));
    }
}

/// SplitMix64 of the row's number: always the same, and two rows of a seed are equal no more often than chance with 64
/// bits.
fn bits(seed: u64, value: u64) -> u64 {
    let mut z = seed.wrapping_add(value.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn random(seed: u64, value: u64) -> u64 {
    bits(seed, value) >> (u64::BITS - RANDOM_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_follows_from_its_number_and_the_seed() {
        let row = |format, value, seed| {
            let mut writer = Writer::default();
            let row = writer.row(format, 1_000_001, value, seed);
            String::from_utf8(row.to_vec()).unwrap()
        };
        // The first two outputs of SplitMix64 with state 0 are e220a8397b1dcdaf and 6e789e6aa1b965f4.
        assert_eq!(
            row(Format::Json, 0, 0),
            format!(
                "{{\"timestamp\":\"1970-01-01T00:00:01.000001Z\",\"value\":0,\"random\":{}}}",
                0xe220_a839_7b1d_cdaf_u64 >> 11
            )
        );
        assert_eq!(
            row(Format::Text, 1, 0),
            format!(
                "1970-01-01T00:00:01.000001Z,1,{}",
                0x6e78_9e6a_a1b9_65f4_u64 >> 11
            )
        );
        assert_ne!(row(Format::Text, 1, 0), row(Format::Text, 1, 1));
    }

    #[test]
    fn timestamps_follow_from_the_number_and_end_with_the_year_9999() {
        let mut writer = Writer::default();
        let mut time = |value, step| {
            writer.row(Format::Text, micros(value, step), value, 0);
            writer.time.clone()
        };
        let (ms, hour) = (Duration::from_millis(1), Duration::from_secs(3600));
        assert_eq!(time(0, ms), "2026-01-01T00:00:00.000000Z");
        assert_eq!(time(17, ms), "2026-01-01T00:00:00.017000Z");
        assert_eq!(time(1_000, ms), "2026-01-01T00:00:01.000000Z");
        assert_eq!(time(25, hour), "2026-01-02T01:00:00.000000Z");
        assert_eq!(time(u64::MAX, hour), "9999-12-31T23:59:59.999999Z");
        assert_eq!(time(1, ms), "2026-01-01T00:00:00.001000Z");
    }
}
