//! How a value is written: durations, sizes, choices, lists, names, formats. One parser per shape.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::checked::{Compression, PartitionStart, Pin, PluginRef, SortBy, Start, Trigger};
use super::problem;
use super::shape::{Parsed, refuse};
use crate::cron::{self, Cron};
use crate::instant;

const NAME_MAX: usize = 100;

pub(super) fn name(text: &str) -> Parsed<String> {
    named(text, "a name", NAME_MAX).map_err(|refusal| {
        let legal: String = text
            .chars()
            .map(|c| if name_char(c) { c } else { '-' })
            .collect();
        let begins = legal.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        let short = begins.get(..NAME_MAX).unwrap_or(begins);
        match short.trim_end_matches(['-', '.']) {
            "" => refusal,
            legal => refusal.hint(format!("for instance `{legal}`")),
        }
    })
}

fn name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn named(text: &str, what: &str, max: usize) -> Parsed<String> {
    let legal = !text.is_empty()
        && text.len() <= max
        && text.chars().all(name_char)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if legal {
        return Ok(text.to_owned());
    }
    Err(refuse(
        problem::BAD_NAME,
        format!(
            "{what} that starts with a letter or digit and has only letters, digits, `.`, `_`, `-` (at most {max})"
        ),
    ))
}

pub(super) fn table(text: &str) -> Parsed<String> {
    // The log takes no path with it.
    match text.contains("..") {
        true => Err(refuse(
            problem::BAD_NAME,
            "a table's name without two dots together",
        )),
        false => named(text, "a table's name", NAME_MAX),
    }
}

/// Kafka's own rule.
pub(super) fn topic(text: &str) -> Parsed<String> {
    let legal = !text.is_empty() && text.len() <= 249 && text.chars().all(name_char);
    if legal && text != "." && text != ".." {
        return Ok(text.to_owned());
    }
    Err(refuse(
        problem::BAD_NAME,
        "names of topics: letters, digits, `.`, `_`, `-`, at most 249 each",
    ))
}

pub(super) fn field(text: &str) -> Parsed<String> {
    let bad = |c: char| c.is_control() || matches!(c, '/' | '\\' | '=' | ',' | '"');
    if text.is_empty() || text.len() > 255 || text.contains(bad) {
        return Err(refuse(
            problem::BAD_NAME,
            "a column's name without `/`, `\\`, `=`, `,`, quotes",
        ));
    }
    Ok(text.to_owned())
}

pub(super) fn list(text: &str, item: fn(&str) -> Parsed<String>) -> Parsed<Vec<String>> {
    let (mut out, mut seen) = (Vec::new(), HashSet::new());
    for part in text.split(',') {
        let part = item(part.trim())?;
        if !seen.insert(part.clone()) {
            return Err(refuse(problem::DUPLICATE, "each item once"));
        }
        out.push(part);
    }
    Ok(out)
}

pub(super) fn int(text: &str, min: u64, max: u64) -> Parsed<u64> {
    let expected = format!("an integer from {min} to {max}");
    match text.replace('_', "").parse::<i128>() {
        Ok(n) if n >= i128::from(min) && n <= i128::from(max) => {
            Ok(u64::try_from(n).unwrap_or(max))
        }
        Ok(_) => Err(refuse(problem::OUT_OF_RANGE, expected)),
        Err(_) => Err(refuse(problem::WRONG_TYPE, expected)),
    }
}

pub(super) fn flag(text: &str) -> Parsed<bool> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(refuse(problem::WRONG_TYPE, "`true` or `false`")),
    }
}

pub(super) fn choice(text: &str, choices: &[&str]) -> Parsed<String> {
    if choices.contains(&text) {
        return Ok(text.to_owned());
    }
    let all: Vec<String> = choices.iter().map(|c| format!("`{c}`")).collect();
    let refusal = refuse(problem::NOT_A_CHOICE, all.join(" or "));
    match crate::nearest::nearest(&text.to_lowercase(), choices.iter().copied()) {
        Some(near) => Err(refusal.hint(format!("did you mean `{near}`?"))),
        None => Err(refusal),
    }
}

/// One ASCII character that is no line end, as it is, or by name: `tab` and `\t`.
pub fn character(text: &str) -> Option<u8> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Some(b'\t'),
        [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Some(*byte),
        _ => None,
    }
}

/// What stands between the fields of a line of CSV that is written: quotes stand around fields.
pub fn delimiter(text: &str) -> Option<u8> {
    character(text).filter(|byte| *byte != b'"')
}

/// `60s`, `1h30m`, `200ms`, `2d`.
pub fn duration(text: &str) -> Parsed<Duration> {
    const UNITS: &[(&str, u64)] = &[
        ("ms", 1),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    let expected = "a duration with its unit, such as `200ms`, `60s`, `5m`, `1h30m`, `2d`";
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let hint = format!("write `{text}s` or `{text}ms`");
        return Err(refuse(problem::WRONG_UNIT, expected).hint(hint));
    }
    let parts = number_unit_pairs(text).ok_or_else(|| refuse(problem::WRONG_TYPE, expected))?;
    let mut total: u64 = 0;
    for (number, unit) in parts {
        let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(refuse(problem::WRONG_UNIT, expected));
        };
        let part = number.checked_mul(*factor);
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| refuse(problem::OUT_OF_RANGE, expected))?;
    }
    Ok(Duration::from_millis(total))
}

pub(super) fn duration_within(text: &str, min_ms: u64, max_ms: u64) -> Parsed<Duration> {
    let time = duration(text)?;
    let range = Duration::from_millis(min_ms)..=Duration::from_millis(max_ms);
    if range.contains(&time) {
        return Ok(time);
    }
    let expected = format!("a duration from {} to {}", show_ms(min_ms), show_ms(max_ms));
    Err(refuse(problem::OUT_OF_RANGE, expected))
}

/// `0d`, `7d`; weeks as `2w`.
pub(super) fn days(text: &str) -> Parsed<u64> {
    let expected = "days with their unit, such as `7d`";
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(refuse(problem::WRONG_UNIT, expected).hint(format!("write `{text}d`")));
    }
    let pairs = number_unit_pairs(text).ok_or_else(|| refuse(problem::WRONG_TYPE, expected))?;
    let days = match pairs.as_slice() {
        [(n, "d")] => Some(*n),
        [(n, "w")] => n.checked_mul(7),
        _ => return Err(refuse(problem::WRONG_UNIT, expected)),
    };
    days.filter(|n| *n <= 3660)
        .ok_or_else(|| refuse(problem::OUT_OF_RANGE, "at most `3660d`"))
}

/// `128MiB` (powers of 1024), `1GB` (powers of 1000), `512KiB`, `100B`.
pub(super) fn bytes(text: &str) -> Parsed<u64> {
    const UNITS: &[(&str, u64)] = &[
        ("B", 1),
        ("kB", 1000),
        ("KB", 1000),
        ("KiB", 1 << 10),
        ("MB", 1_000_000),
        ("MiB", 1 << 20),
        ("GB", 1_000_000_000),
        ("GiB", 1 << 30),
        ("TB", 1_000_000_000_000),
        ("TiB", 1 << 40),
    ];
    let expected = "a size with its unit, such as `64KiB`, `128MiB`, `1GB`";
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let hint = format!("write `{text}B`, or use KiB, MiB, GiB");
        return Err(refuse(problem::WRONG_UNIT, expected).hint(hint));
    }
    let pairs = number_unit_pairs(text).ok_or_else(|| refuse(problem::WRONG_TYPE, expected))?;
    let [(number, unit)] = pairs.as_slice() else {
        return Err(refuse(problem::WRONG_TYPE, expected));
    };
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| name == unit) else {
        return Err(refuse(problem::WRONG_UNIT, expected));
    };
    number
        .checked_mul(*factor)
        .ok_or_else(|| refuse(problem::OUT_OF_RANGE, expected))
}

pub(super) fn bytes_within(text: &str, min: u64, max: u64) -> Parsed<u64> {
    let size = bytes(text)?;
    if (min..=max).contains(&size) {
        return Ok(size);
    }
    let expected = format!("a size from {} to {}", show_bytes(min), show_bytes(max));
    Err(refuse(problem::OUT_OF_RANGE, expected))
}

/// `1h30m` → [(1, "h"), (30, "m")]; `None`: it does not have that form.
fn number_unit_pairs(text: &str) -> Option<Vec<(u64, &str)>> {
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let tail = tail.trim_start();
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        if number.is_empty() || unit.is_empty() {
            return None;
        }
        out.push((number.parse().ok()?, unit));
        rest = tail.trim_start();
    }
    (!out.is_empty()).then_some(out)
}

pub fn show_ms(ms: u64) -> String {
    match ms {
        0 => "0s".into(),
        n if n % 86_400_000 == 0 => format!("{}d", n / 86_400_000),
        n if n % 3_600_000 == 0 => format!("{}h", n / 3_600_000),
        n if n % 60_000 == 0 => format!("{}m", n / 60_000),
        n if n % 1000 == 0 => format!("{}s", n / 1000),
        n => format!("{n}ms"),
    }
}

pub fn show_bytes(bytes: u64) -> String {
    match bytes {
        n if n >= 1 << 40 && n % (1 << 40) == 0 => format!("{}TiB", n >> 40),
        n if n >= 1 << 30 && n % (1 << 30) == 0 => format!("{}GiB", n >> 30),
        n if n >= 1 << 20 && n % (1 << 20) == 0 => format!("{}MiB", n >> 20),
        n if n >= 1 << 10 && n % (1 << 10) == 0 => format!("{}KiB", n >> 10),
        n => format!("{n}B"),
    }
}

pub(super) fn trigger(text: &str) -> Parsed<Trigger> {
    let expected = "`continuous`, `available-now`, `every:<duration>` or `cron:<schedule>`";
    if let Some(schedule) = text.strip_prefix("cron:") {
        return schedule_of(schedule);
    }
    match text {
        "continuous" => Ok(Trigger::Continuous),
        "available-now" => Ok(Trigger::AvailableNow),
        _ => match text.strip_prefix("every:") {
            Some(time) => duration_within(time, 1000, 366 * 86_400_000).map(Trigger::Every),
            None if duration(text).is_ok() => {
                Err(refuse(problem::NOT_A_CHOICE, expected).hint(format!("write `every:{text}`")))
            }
            None if Cron::parse(text).is_ok() => {
                Err(refuse(problem::NOT_A_CHOICE, expected).hint(format!("write `cron:{text}`")))
            }
            None => Err(refuse(problem::NOT_A_CHOICE, expected)),
        },
    }
}

fn schedule_of(text: &str) -> Parsed<Trigger> {
    let schedule = Cron::parse(text).map_err(|problems| {
        let expected = format!("a schedule as cron has it ({})", problems.join("; "));
        refuse(problem::WRONG_TYPE, expected).hint(format!(
            "for instance `{}`: minute, hour, day of month, month, day of week, and a time zone if it is not UTC",
            cron::EXAMPLE
        ))
    })?;
    Ok(Trigger::Cron(Arc::new(schedule)))
}

const TIMESTAMP: &str = "timestamp:";

pub(super) fn start(text: &str) -> Parsed<Start> {
    let expected = "`earliest`, `latest`, `timestamp:2024-01-01T00:00:00Z`, `group:NAME` or `offsets:TOPIC/PARTITION=OFFSET,…`";
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        _ => {
            if let Some(group) = text.strip_prefix("group:").filter(|g| !g.is_empty()) {
                return Ok(Start::Group(group.to_owned()));
            }
            if let Some(list) = text.strip_prefix("offsets:") {
                return offsets(list);
            }
            let Some(time) = text.strip_prefix(TIMESTAMP) else {
                return Err(refuse(problem::NOT_A_CHOICE, expected));
            };
            if time.trim_start().starts_with('{') {
                return sparks_timestamps(time);
            }
            micros_of(time).map(Start::Timestamp).ok_or_else(|| {
                refuse(problem::WRONG_TYPE, "a time with date, hour and zone")
                    .hint("for instance timestamp:2024-01-01T00:00:00Z")
            })
        }
    }
}

fn micros_of(time: &str) -> Option<i64> {
    instant::parse(time, false).map(instant::micros)
}

/// As Spark's `startingOffsets` has it: `{"orders":{"0":42,"1":-1}}`, -1 is latest, -2 earliest.
fn sparks_offsets(json: &str) -> Parsed<Start> {
    let start = |at: i64| match at {
        -2 => Some(PartitionStart::Earliest),
        -1 => Some(PartitionStart::Latest),
        0.. => Some(PartitionStart::Offset(at)),
        _ => None,
    };
    let starts = sparks(json, start).ok_or_else(|| {
        refuse(
            problem::WRONG_TYPE,
            "topics with partitions and offsets, as JSON",
        )
        .hint("for instance offsets:{\"orders\":{\"0\":42,\"1\":-1}}; -1 is latest, -2 earliest")
    })?;
    Ok(Start::Offsets(starts))
}

/// As Spark's `startingOffsetsByTimestamp` has it: `{"orders":{"0":1704067200000}}`, milliseconds since 1970 UTC.
fn sparks_timestamps(json: &str) -> Parsed<Start> {
    let start = |millis: i64| {
        let micros = millis.checked_mul(1_000).filter(|micros| *micros >= 0);
        micros.map(PartitionStart::Timestamp)
    };
    let starts = sparks(json, start).ok_or_else(|| {
        let expected = "topics with partitions and times in milliseconds since 1970, as JSON";
        refuse(problem::WRONG_TYPE, expected)
            .hint("for instance timestamp:{\"orders\":{\"0\":1704067200000,\"1\":1704067200000}}")
    })?;
    Ok(Start::Offsets(starts))
}

type Starts = BTreeMap<(String, i32), PartitionStart>;

/// Topic → partition → number. `None`: it is something else, or names no partition.
fn sparks(json: &str, start: impl Fn(i64) -> Option<PartitionStart>) -> Option<Starts> {
    let topics: BTreeMap<String, BTreeMap<String, i64>> = serde_json::from_str(json).ok()?;
    let mut all = BTreeMap::new();
    for (topic, partitions) in topics {
        for (partition, number) in partitions {
            let place = (topic.clone(), i32::from(partition.parse::<u16>().ok()?));
            all.insert(place, start(number)?);
        }
    }
    Some(all).filter(|all| !all.is_empty())
}

/// `orders/0=42,orders/1=latest`
fn offsets(list: &str) -> Parsed<Start> {
    let wrong = |item: &str| {
        let expected = format!("`TOPIC/PARTITION=OFFSET`, and found `{item}`");
        refuse(problem::WRONG_TYPE, &expected)
            .hint("for instance offsets:orders/0=42,orders/1=latest; an offset is a number, `earliest`, `latest` or `timestamp:2024-01-01T00:00:00Z`")
    };
    if list.trim_start().starts_with('{') {
        return sparks_offsets(list);
    }
    let mut all = BTreeMap::new();
    for item in list.split(',').map(str::trim) {
        let (place, at) = item.split_once('=').ok_or_else(|| wrong(item))?;
        let (topic, partition) = place.rsplit_once('/').ok_or_else(|| wrong(item))?;
        let partition = partition.parse::<u16>().map_err(|_| wrong(item))?;
        let at = match at {
            "earliest" => PartitionStart::Earliest,
            "latest" => PartitionStart::Latest,
            other => {
                let time = other.strip_prefix(TIMESTAMP).and_then(micros_of);
                let time = time.filter(|micros| *micros >= 0);
                match (time, other.parse::<i64>()) {
                    (Some(micros), _) => PartitionStart::Timestamp(micros),
                    (None, Ok(offset @ 0..)) => PartitionStart::Offset(offset),
                    (None, _) => return Err(wrong(item)),
                }
            }
        };
        let place = (topic.to_owned(), i32::from(partition));
        if topic.is_empty() || all.insert(place, at).is_some() {
            let expected = format!("each partition once, and found `{item}`");
            return Err(refuse(problem::WRONG_TYPE, &expected));
        }
    }
    Ok(Start::Offsets(all))
}

pub(super) fn compression(text: &str) -> Parsed<Compression> {
    match text {
        "none" => Ok(Compression::None),
        "snappy" => Ok(Compression::Snappy),
        "lz4" => Ok(Compression::Lz4),
        "gzip" => Ok(Compression::Gzip(GZIP_LEVEL)),
        "zstd" => Ok(Compression::Zstd(1)),
        _ => match text.split_once('-') {
            Some(("zstd", level)) => match level.parse::<i32>() {
                Ok(n @ 1..=22) => Ok(Compression::Zstd(n)),
                _ => Err(refuse(problem::OUT_OF_RANGE, "a zstd level from 1 to 22")),
            },
            Some(("gzip", level)) => match level.parse::<u32>() {
                Ok(n @ 1..=9) => Ok(Compression::Gzip(n)),
                _ => Err(refuse(problem::OUT_OF_RANGE, "a gzip level from 1 to 9")),
            },
            _ => {
                let expected =
                    "`none`, `snappy`, `lz4`, `gzip-1` to `gzip-9` or `zstd-1` to `zstd-22`";
                Err(refuse(problem::NOT_A_CHOICE, expected))
            }
        },
    }
}

/// gzip's own default, which Spark and parquet-mr write too.
const GZIP_LEVEL: u32 = 6;

/// `a`, `a asc` or `a desc`.
pub(super) fn sort_by(text: &str) -> Parsed<Vec<SortBy>> {
    let (mut out, mut seen): (Vec<SortBy>, _) = (Vec::new(), HashSet::new());
    for part in text.split(',').map(str::trim) {
        let (column, descending) = match part.rsplit_once(' ') {
            Some((column, "asc")) => (column.trim_end(), false),
            Some((column, "desc")) => (column.trim_end(), true),
            _ => (part, false),
        };
        let column = field(column)?;
        if !seen.insert(column.clone()) {
            return Err(refuse(problem::DUPLICATE, "each column once"));
        }
        out.push(SortBy { column, descending });
    }
    Ok(out)
}

/// A share between 0 and 1 with at most six digits, in millionths.
pub(super) fn millionths(text: &str, most: f64) -> Parsed<u32> {
    let expected = format!("a share from 0.000001 to {most}, such as `0.01`");
    match text.parse::<f64>() {
        Ok(share) if (0.000_001..=most).contains(&share) => Ok((share * 1e6).round() as u32),
        Ok(_) => Err(refuse(problem::OUT_OF_RANGE, expected)),
        Err(_) => Err(refuse(problem::WRONG_TYPE, expected)),
    }
}

/// Brokers as librdkafka accepts them: `host:port`, perhaps after one of Kafka's own protocols.
pub(super) fn brokers(text: &str) -> Parsed<String> {
    const PROTOCOLS: &[&str] = &["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
    let expected = "host:port of one or more brokers, separated by commas";
    if text.is_empty() {
        return Err(refuse(problem::MISSING, expected));
    }
    for broker in text.split(',').map(str::trim) {
        let (protocol, place) = broker.split_once("://").unwrap_or(("plaintext", broker));
        if !PROTOCOLS.contains(&protocol.to_lowercase().as_str()) {
            let expected = format!("{expected}, without `{protocol}://`");
            let hint = "a broker is not asked by HTTP: write broker:9092; TLS is source.kafka.security.protocol = \"SSL\"";
            return Err(refuse(problem::WRONG_TYPE, expected).hint(hint));
        }
        // In a bare IPv6 address a port could not be recognised.
        let port = match place.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => Some(port),
            _ => None,
        };
        let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
        let odd = |c: char| c.is_whitespace() || c == '/';
        if place.is_empty() || place.contains(odd) || port.is_some_and(|port| !is_port(port)) {
            return Err(refuse(problem::WRONG_TYPE, expected));
        }
    }
    Ok(text.to_owned())
}

/// A format whose values are directory names; a finer part (day) needs the coarser ones (month, year).
pub(super) fn date_format(text: &str) -> Parsed<String> {
    let refusal = || {
        let expected = "one of `%Y-%m-%d`, `%Y-%m` and `%Y`";
        refuse(problem::BAD_FORMAT, expected)
    };
    match text {
        "%Y-%m-%d" | "%Y-%m" | "%Y" => Ok(text.to_owned()),
        _ if ["yyyy", "YYYY", "MM", "dd"]
            .iter()
            .any(|p| text.contains(p)) =>
        {
            Err(refusal().hint("the parts are written %Y, %m, %d, not yyyy, MM, dd"))
        }
        _ => Err(refusal()),
    }
}

pub(super) fn level(text: &str) -> Parsed<String> {
    // A single word is a level; tracing would take any other word for a target.
    let known = |word: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&word);
    let words = text.split(',').filter(|part| !part.contains('='));
    let levels = words.map(|word| word.trim().to_lowercase());
    match text.parse::<tracing_subscriber::filter::Targets>() {
        Ok(_) if levels.into_iter().all(|word| known(&word)) => Ok(text.to_owned()),
        _ => Err(refuse(
            problem::NOT_A_CHOICE,
            "`error`, `warn`, `info`, `debug`, `trace`, or a list such as `info,weir::kafka=debug`",
        )),
    }
}

/// Beyond [`TRANSFORMS_MAX`](super::keys::TRANSFORMS_MAX).
pub fn too_many_transforms(names: usize) -> String {
    let most = super::keys::TRANSFORMS_MAX;
    format!("`transforms`: {names} names, at most {most} can be listed")
}

/// `name`, `name@0.1`, `name@sha256:…`.
pub fn plugin_ref(text: &str) -> Parsed<PluginRef> {
    let expected = "a plugin: `name`, `name@0.1`, `name@0.1.2` or `name@sha256:…`";
    let refusal = || refuse(problem::BAD_PLUGIN, expected);
    let (name, pin) = match text.trim().split_once('@') {
        None => (text.trim(), Pin::Any),
        Some((name, digest)) if digest.starts_with("sha256:") => {
            let hex = digest.trim_start_matches("sha256:");
            let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            if !(12..=64).contains(&hex.len()) || !hex.bytes().all(lower_hex) {
                return Err(refusal().hint("a digest has 12 to 64 lower-case hex digits"));
            }
            (name, Pin::Digest(digest.to_owned()))
        }
        Some((name, version)) => {
            let parts: Result<Vec<u64>, _> = version.split('.').map(str::parse).collect();
            match parts {
                Ok(parts) if parts.len() <= 3 => (name, Pin::Version(parts)),
                _ => return Err(refusal().hint("a version is one to three numbers: 0.1.2")),
            }
        }
    };
    if name.ends_with(".wasm") || name.contains('/') {
        return Err(refusal().hint("name the plugin, and its directory with plugin.path"));
    }
    let name = named(name, "", 64).map_err(|_| refusal())?;
    Ok(PluginRef { name, pin })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code<T: std::fmt::Debug>(parsed: Parsed<T>) -> &'static str {
        parsed.expect_err("refused").code
    }

    #[test]
    fn the_name_that_a_refusal_proposes_is_one() {
        let long = "x".repeat(NAME_MAX + 1);
        for (bad, proposed) in [
            ("_OFFSET", Some("OFFSET")),
            ("Bücher 1.", Some("B-cher-1")),
            (long.as_str(), Some(&long[..NAME_MAX])),
            ("__", None),
            ("", None),
        ] {
            let refusal = name(bad).expect_err(bad);
            let hint = proposed.map(|name| format!("for instance `{name}`"));
            assert_eq!(refusal.hint, hint, "{bad}");
            assert!(proposed.is_none_or(|proposed| name(proposed).is_ok()));
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(code(duration("60")), problem::WRONG_UNIT);
        assert_eq!(code(duration("5 weeks")), problem::WRONG_UNIT);
        assert_eq!(code(duration("soon")), problem::WRONG_TYPE);
        assert_eq!(code(duration("")), problem::WRONG_TYPE);
        assert_eq!(code(duration_within("0s", 1, 9)), problem::OUT_OF_RANGE);
        assert_eq!(code(duration("99999999999999999d")), problem::OUT_OF_RANGE);
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes("128MiB"), Ok(128 << 20));
        assert_eq!(bytes("1 GB"), Ok(1_000_000_000));
        assert_eq!(code(bytes("128")), problem::WRONG_UNIT);
        assert_eq!(code(bytes("128Mb")), problem::WRONG_UNIT);
        assert_eq!(code(bytes("-1B")), problem::WRONG_TYPE);
        for size in [0, 1, 1 << 10, 3 << 20, 5 << 30, 1 << 41] {
            assert_eq!(bytes(&show_bytes(size)), Ok(size));
        }
    }

    #[test]
    fn partition_formats_never_merge_months() {
        for good in ["%Y-%m-%d", "%Y-%m", "%Y"] {
            assert!(date_format(good).is_ok(), "{good}");
        }
        for bad in [
            "%Y-%d",
            "%Y%m%d%H",
            "%G-W%V",
            "%m-%d",
            "%Y/%m",
            "yyyy-MM-dd",
            "%Y-%H",
            "%q",
            "",
            "%",
        ] {
            assert_eq!(code(date_format(bad)), problem::BAD_FORMAT, "{bad}");
        }
    }

    #[test]
    fn brokers_are_no_web_addresses() {
        for good in [
            "a:9092",
            "a",
            "a:1,b:2",
            "10.0.0.1:9092",
            "[::1]:9092",
            "::1",
            "SASL_SSL://a:9092",
        ] {
            assert_eq!(brokers(good), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "http://a:9092",
            "a:9092,",
            "a:x",
            "a:0",
            "a:9092/",
            "a b:1",
            "https://a",
        ] {
            assert!(brokers(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn plugins_and_their_pins() {
        let plugin = plugin_ref("xml-flatten@0.1").expect("ref");
        assert_eq!(plugin.pin, Pin::Version(vec![0, 1]));
        assert_eq!(plugin.to_string(), "xml-flatten@0.1");
        for bad in [
            "",
            "@1",
            "a b",
            "x@latest",
            "x@sha256:12",
            "./x.wasm",
            "x@1.2.3.4",
        ] {
            assert_eq!(code(plugin_ref(bad)), problem::BAD_PLUGIN, "{bad}");
        }
    }
}
