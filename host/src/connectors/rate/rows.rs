//! What a row holds: a function of its number and the seed, but for the time.

use std::fmt::Write as _;

use crate::instant;

/// `source.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `{"timestamp":"2026-01-02T03:04:05.678901Z","value":17,"random":6364136223846793}`
    Json,
    /// The same, separated by commas.
    Text,
}

/// Integers up to here are exact in every reader of JSON.
const RANDOM_BITS: u32 = 53;

/// Writes one row into `out`, which is cleared first.
pub(super) fn write(out: &mut String, format: Format, time: &str, value: u64, seed: u64) {
    out.clear();
    let random = random(seed, value);
    let _unfailing = match format {
        Format::Json => write!(
            out,
            "{{\"timestamp\":\"{time}\",\"value\":{value},\"random\":{random}}}"
        ),
        Format::Text => write!(out, "{time},{value},{random}"),
    };
}

/// RFC 3339 in UTC, with microseconds.
pub(super) fn time(micros: i64) -> String {
    instant::civil(micros).map_or_else(String::new, |time| format!("{time:.6}Z"))
}

/// SplitMix64 of the row's number: the same for ever, and no two rows of a seed by chance more often than 64 bits allow.
fn random(seed: u64, value: u64) -> u64 {
    let mut z = seed.wrapping_add(value.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) >> (u64::BITS - RANDOM_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_follows_from_its_number_and_the_seed() {
        let row = |format, value, seed| {
            let mut out = "old".to_owned();
            write(&mut out, format, &time(1_000_001), value, seed);
            out
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
        assert_eq!(time(0), "1970-01-01T00:00:00.000000Z");
    }
}
