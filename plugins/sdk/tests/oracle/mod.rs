//! Texts with the values that they have, worked out from digits and from a list of days, and by none of the SDK's code.
//! The tests of the plugins read thousands of them: each becomes exactly this value, or is refused.
use weir_sdk::testing::Table;

/// SplitMix64: the same texts on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.number() % n.max(1) as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// A text, and its value as `Table` shows it; none where it has to be refused.
#[derive(Debug)]
pub struct Sample {
    pub text: String,
    pub value: Option<String>,
}

/// 11 types; 2,000 texts of each are more than 20,000.
pub const TYPES: [&str; 11] = [
    "int",
    "long",
    "double",
    "boolean",
    "decimal(9,2)",
    "decimal(18,18)",
    "decimal(19,0)",
    "decimal(38,10)",
    "decimal(38,38)",
    "date",
    "timestamp",
];
pub const COUNT: usize = 2_000;

/// `COUNT` texts for a column of type `spec`, none of them empty or with blanks around it. `json`: numbers that JSON can
/// write, whole where their value is.
pub fn samples(r: &mut Random, spec: &str, json: bool) -> Vec<Sample> {
    let one = |r: &mut Random| match spec {
        "boolean" => boolean(r),
        "date" => time(r, true),
        "timestamp" => time(r, false),
        _ => number(r, spec, json),
    };
    (0..COUNT).map(|_| one(r)).collect()
}

/// Holds `table`, of one row for each sample, against their values; a bad one is refused with `code`, or with
/// that of its type.
pub fn check(spec: &str, samples: &[Sample], table: &Table, code: Option<&str>) {
    let of_type = format!("bad_{}", spec.split('(').next().unwrap_or(spec));
    let refused = code.unwrap_or(&of_type);
    let mut rows = table.origin.iter().zip(&table.rows).peekable();
    let mut rejects = table.rejects.iter().peekable();
    let (mut kept, mut bad) = (0, 0);
    for (n, sample) in samples.iter().enumerate() {
        let row = rows.next_if(|(origin, _)| **origin == n);
        let found = row.map(|(_, row)| row[0].clone().unwrap_or_else(|| "null".into()));
        assert_eq!(found, sample.value, "{spec} {:?}", sample.text);
        let reject = rejects.next_if(|reject| reject.row as usize == n);
        let code = reject.map(|reject| reject.code.as_str());
        let wanted = sample.value.is_none().then_some(refused);
        assert_eq!(code, wanted, "{spec} {:?}", sample.text);
        match sample.value {
            Some(_) => kept += 1,
            None => bad += 1,
        }
    }
    assert!(
        kept > COUNT / 5 && bad > COUNT / 20,
        "{spec}: {kept}, {bad}"
    );
}

fn boolean(r: &mut Random) -> Sample {
    let (text, value) = r.pick(&[
        ("true", Some(true)),
        ("True", Some(true)),
        ("1", Some(true)),
        ("FALSE", Some(false)),
        ("0", Some(false)),
        ("yes", None),
        ("t", None),
        ("on", None),
        ("00", None),
        ("1.0", None),
        ("-1", None),
        ("tru", None),
        ("truе", None), // its last letter is Cyrillic
    ]);
    Sample {
        text: text.into(),
        value: value.map(|v| v.to_string()),
    }
}

// === numbers ===

/// A number as it is written.
struct Number {
    sign: &'static str,
    whole: String,
    fraction: Option<String>,
    exponent: Option<i64>,
}

fn digits(r: &mut Random, most: usize) -> String {
    let count = r.below(most + 1);
    let zeros = r.one_in(4);
    (0..count)
        .map(|_| match zeros && !r.one_in(3) {
            true => '0',
            false => char::from(b'0' + r.below(10) as u8),
        })
        .collect()
}

fn number(r: &mut Random, spec: &str, json: bool) -> Sample {
    if spec == "double" && r.one_in(2) {
        return some_double(r, json);
    }
    if !json && r.one_in(6) {
        return no_number(r, spec);
    }
    let double = spec == "double";
    let (whole, fraction) = match spec {
        "int" => (11, 1),
        "long" => (20, 1),
        "decimal(9,2)" => (8, 3),
        "decimal(18,18)" => (1, 20),
        "decimal(19,0)" => (20, 1),
        "decimal(38,10)" => (29, 11),
        "decimal(38,38)" => (1, 39),
        _ => (20, 20),
    };
    let sign = match json {
        true => r.pick(&["", "-"]),
        false => r.pick(&["", "", "-", "+"]),
    };
    let mut number = Number {
        sign,
        whole: digits(r, whole),
        fraction: (!r.one_in(3)).then(|| digits(r, fraction)),
        exponent: None,
    };
    if ["int", "long"].contains(&spec) && !json && !r.one_in(8) {
        number.fraction = None;
    }
    if double || json && r.one_in(2) {
        let most = if double { 420 } else { 40 };
        number.exponent = Some(r.below(2 * most) as i64 - most as i64);
    }
    if json {
        let trimmed = number.whole.trim_start_matches('0');
        number.whole = if trimmed.is_empty() { "0" } else { trimmed }.into();
        number.fraction = number.fraction.filter(|digits| !digits.is_empty());
    } else if r.one_in(8) {
        number
            .whole
            .insert_str(0, "0000000000000000000000000000000000000000");
    }
    let mut text = number.text(r);
    if text.is_empty() {
        text = "?".into(); // an empty text is null
    }
    let value = number.value(spec, json, &text);
    Sample { text, value }
}

impl Number {
    fn text(&self, r: &mut Random) -> String {
        let fraction = self.fraction.as_ref();
        let fraction = fraction.map_or(String::new(), |digits| format!(".{digits}"));
        let exponent = self.exponent.map_or(String::new(), |n| {
            let plus = if n >= 0 { r.pick(&["", "+", "+0"]) } else { "" };
            format!("{}{plus}{n}", r.pick(&["e", "E"]))
        });
        format!("{}{}{fraction}{exponent}", self.sign, self.whole)
    }

    fn value(&self, spec: &str, json: bool, text: &str) -> Option<String> {
        let fraction = self.fraction.as_deref().unwrap_or("");
        if self.whole.len() + fraction.len() == 0 {
            return None;
        }
        let digits = format!("{}{fraction}", self.whole);
        if spec == "double" {
            let number: f64 = text.parse().ok()?;
            let vanished = number == 0.0 && digits.contains(|c| c != '0');
            return (number.is_finite() && !vanished).then(|| number.to_string());
        }
        let (precision, scale) = match spec {
            "int" | "long" => (38, 0),
            decimal => {
                let inside = decimal.strip_prefix("decimal(")?.strip_suffix(')')?;
                let (precision, scale) = inside.split_once(',')?;
                (precision.parse().ok()?, scale.parse().ok()?)
            }
        };
        let whole_only = scale == 0 && ["int", "long"].contains(&spec);
        if !json && (self.exponent.is_some() || whole_only && self.fraction.is_some()) {
            return None;
        }
        // Moved by the scale, the point has to stand behind the last digit that counts.
        let point = self.whole.len() as i64 + self.exponent.unwrap_or(0) + scale;
        let kept = digits.trim_end_matches('0');
        let unscaled = match kept.trim_start_matches('0').is_empty() {
            true => String::new(),
            false if (kept.len() as i64) > point => return None,
            false => format!("{kept:0<width$}", width = point as usize),
        };
        let unscaled = unscaled.trim_start_matches('0');
        if unscaled.len() as i64 > precision {
            return None;
        }
        let sign = if self.sign == "-" { "-" } else { "" };
        let number: i128 = format!("{sign}0{unscaled}").parse().ok()?;
        let fits = match spec {
            "int" => i32::try_from(number).is_ok(),
            "long" => i64::try_from(number).is_ok(),
            _ => true,
        };
        fits.then(|| number.to_string())
    }
}

/// Any finite double, in one of its writings.
fn some_double(r: &mut Random, json: bool) -> Sample {
    if !json && r.one_in(16) {
        let (text, value) = r.pick(&[("INF", "inf"), ("-INF", "-inf"), ("NaN", "NaN")]);
        return Sample {
            text: text.into(),
            value: Some(value.into()),
        };
    }
    let number = f64::from_bits(r.number());
    let number = if number.is_finite() { number } else { -0.0 };
    let text = match r.below(3) {
        0 => number.to_string(),
        1 => format!("{number:e}"),
        _ => format!("{number:.17e}"),
    };
    Sample {
        text,
        value: Some(number.to_string()),
    }
}

/// What other languages take for a number.
fn no_number(r: &mut Random, spec: &str) -> Sample {
    let texts = [
        "1_000",
        "1,000",
        "1 000",
        "1'000",
        "1\u{a0}000",
        "0x1F",
        "0b1",
        "0o7",
        "1f",
        "1L",
        "1d",
        "nan",
        "inf",
        "Infinity",
        "-Infinity",
        "null",
        "١٢٣",
        "１２",
        "½",
        "--1",
        "+-1",
        "1-",
        "1+1",
        "-",
        "+",
        ".",
        "1.2.3",
        "1e",
        "e1",
        "1e1.5",
        "1e+-1",
        "#1",
        "1%",
        "€1",
        "(1)",
        "1.-",
        "−1",
    ];
    let mut text = r.pick(&texts).to_owned();
    if spec != "double" && r.one_in(4) {
        text = r.pick(&["1e3", "1E0", "NaN", "INF", "-INF"]).to_owned();
    }
    Sample { text, value: None }
}

// === times ===

const MICROS_PER_DAY: i64 = 86_400_000_000;

fn days_of(year: i64, month: i64) -> i64 {
    let leap = year % 400 == 0 || year % 4 == 0 && year % 100 != 0;
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => 0,
    }
}

/// Counted, month by month; the years 1 to 9999.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let before = |year: i64| (1..year).map(|y| 337 + days_of(y, 2)).sum::<i64>();
    let months = (1..month).map(|m| days_of(year, m)).sum::<i64>();
    before(year) - before(1970) + months + day - 1
}

/// Mostly from `low` to `high`, and often at an edge.
fn near(r: &mut Random, low: i64, high: i64) -> i64 {
    match r.below(40) {
        0 => (low - 1).max(0),
        1 => high + 1,
        2..5 => low,
        5..8 => high,
        _ => low + r.below((high - low + 1) as usize) as i64,
    }
}

/// Appends a piece to the text; what it counts in microseconds, if there is such a piece.
type Piece = fn(&mut Random, &mut String) -> Option<i64>;

fn time(r: &mut Random, date: bool) -> Sample {
    let pieces: &[Piece] = match date {
        true => &[day, |r, text| zone(r, text).map(|_| 0), behind],
        false => &[day, time_of_day, zone, behind],
    };
    let mut text = String::new();
    let counts: Vec<Option<i64>> = pieces.iter().map(|piece| piece(r, &mut text)).collect();
    let instant = counts.into_iter().sum::<Option<i64>>();
    let first = days_since_1970(1, 1, 1) * MICROS_PER_DAY;
    let after = (days_since_1970(9999, 12, 31) + 1) * MICROS_PER_DAY;
    let instant = instant.filter(|instant| (first..after).contains(instant));
    let unit = if date { MICROS_PER_DAY } else { 1 };
    Sample {
        text,
        value: instant.map(|instant| (instant / unit).to_string()),
    }
}

fn day(r: &mut Random, text: &mut String) -> Option<i64> {
    let year = match r.below(8) {
        0 => r.pick(&[0, 1, 9999, 1900, 2000, 2024]),
        _ => r.below(10_000) as i64,
    };
    let month = near(r, 1, 12);
    let last = r.pick(&[28, 28, 31]);
    let day = near(r, 1, last);
    let edges = [(1, 1, 1), (9999, 12, 31), (0, 12, 31), (2024, 2, 29)];
    let (year, month, day) = match r.one_in(8) {
        true => r.pick(&edges),
        false => (year, month, day),
    };
    *text += &format!("{year:04}-{month:02}-{day:02}");
    let exists = year >= 1 && (1..=days_of(year, month)).contains(&day);
    exists.then(|| days_since_1970(year, month, day) * MICROS_PER_DAY)
}

fn time_of_day(r: &mut Random, text: &mut String) -> Option<i64> {
    let midnight = r.one_in(10);
    let hour = if midnight { 24 } else { near(r, 0, 23) };
    let below = |r: &mut Random| match midnight {
        true => r.below(20) as i64 / 19,
        false => near(r, 0, 59),
    };
    let minute = below(r);
    *text += &format!("T{hour:02}:{minute:02}");
    let (mut second, mut micro) = (0, Some(0));
    if !r.one_in(4) {
        second = below(r);
        *text += &format!(":{second:02}");
        if r.one_in(2) {
            micro = fraction(r, text, midnight);
        }
    }
    let whole = hour == 24 && minute == 0 && second == 0 && micro == Some(0);
    let exists = minute < 60 && second < 60 && (hour < 24 || whole);
    let micros = ((hour * 60 + minute) * 60 + second) * 1_000_000 + micro?;
    exists.then_some(micros)
}

fn fraction(r: &mut Random, text: &mut String, midnight: bool) -> Option<i64> {
    let zeros_from = match r.one_in(2) {
        true if midnight => 0,
        true => 6,
        false => 10,
    };
    let count = 1 + r.below(10);
    let digit = |n| match n < zeros_from {
        true => char::from(b'0' + r.below(10) as u8),
        false => '0',
    };
    let digits: String = (0..count).map(digit).collect();
    *text += &format!(".{digits}");
    let kept = digits.trim_end_matches('0');
    let held = digits.len() <= 9 && kept.len() <= 6;
    held.then(|| format!("{kept:0<6}").parse().unwrap_or_default())
}

fn zone(r: &mut Random, text: &mut String) -> Option<i64> {
    match r.below(4) {
        0 => *text += r.pick(&["Z", "z", "+00:00", "-00:00", "+0000", "+00"]),
        1 => {
            let (hours, minutes) = (near(r, 0, 18), near(r, 0, 59));
            let (sign, letter) = r.pick(&[(1, '+'), (-1, '-')]);
            let colon = r.pick(&[":", ""]);
            *text += &format!("{letter}{hours:02}{colon}{minutes:02}");
            let offset = hours * 60 + minutes;
            let exists = minutes < 60 && offset <= 18 * 60;
            return exists.then_some(-sign * offset * 60_000_000);
        }
        _ => {}
    }
    Some(0)
}

fn behind(r: &mut Random, text: &mut String) -> Option<i64> {
    if r.one_in(30) {
        *text += r.pick(&["x", "[UTC]", " UTC", ":"]);
        return None;
    }
    Some(0)
}
