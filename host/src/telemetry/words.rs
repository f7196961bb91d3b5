//! Numbers as people read them.

use std::time::Duration;

use indicatif::HumanCount;

/// `1,234,567`
pub fn count(n: u64) -> String {
    HumanCount(n).to_string()
}

/// `1 row`, `1,204 rows`, `1 entry`, `2 entries`.
pub fn plural(n: u64, noun: &str) -> String {
    let number = count(n);
    // One day, two days; one reply, two replies; one query, two queries.
    let vowel = |stem: &&str| stem.ends_with(['a', 'e', 'i', 'o', 'u']);
    match (n, noun.strip_suffix('y').filter(|stem| !vowel(stem))) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        _ => format!("{number} {noun}s"),
    }
}

/// Powers of 1024, three digits.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = if value < 10.0 {
        2
    } else {
        usize::from(value < 100.0)
    };
    format!("{value:.decimals$} {}", UNITS[unit])
}

pub fn time(time: Duration) -> String {
    match time.as_millis() {
        ms @ 0..1_000 => format!("{ms} ms"),
        ms @ 1_000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        ms @ 60_000..7_200_000 => format!("{} min {:02} s", ms / 60_000, ms % 60_000 / 1000),
        ms @ 7_200_000..172_800_000 => {
            format!("{} h {:02} min", ms / 3_600_000, ms % 3_600_000 / 60_000)
        }
        ms => format!(
            "{} days {:02} h",
            ms / 86_400_000,
            ms % 86_400_000 / 3_600_000
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            ["row", "entry", "way"].map(|noun| [0, 1, 1204].map(|n| plural(n, noun))),
            [
                ["0 rows", "1 row", "1,204 rows"],
                ["0 entries", "1 entry", "1,204 entries"],
                ["0 ways", "1 way", "1,204 ways"]
            ]
        );
        assert_eq!(
            [0, 1023, 1024, 1_500_000, 5 << 40].map(bytes),
            ["0 B", "1023 B", "1.00 KiB", "1.43 MiB", "5.00 TiB"]
        );
        assert_eq!(
            [5, 1_250, 61_000, 7_260_000, 180_000_000].map(|ms| time(Duration::from_millis(ms))),
            ["5 ms", "1.2 s", "1 min 01 s", "2 h 01 min", "2 days 02 h"]
        );
    }
}
