//! How a text becomes a number or a boolean: exactly, or not at all.
use std::num::FpCategory;

fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    }
}

/// A number below it has room for another digit.
const SAFE: u64 = (i64::MAX / 10) as u64;

#[inline]
pub fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = sign(text);
    if digits.is_empty() {
        return None;
    }
    let mut number = 0i64;
    for byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        let digit = i64::from(byte - b'0');
        if number.unsigned_abs() < SAFE {
            // No overflow: a checked product is a wide one, a call in WebAssembly.
            number = number * 10 + if negative { -digit } else { digit };
            continue;
        }
        number = number.checked_mul(10)?;
        number = if negative {
            number.checked_sub(digit)?
        } else {
            number.checked_add(digit)?
        };
    }
    Some(number)
}

/// Digits, at most one point, no exponent. More digits after the point than `scale` are refused unless they are zeros:
/// nothing is rounded silently.
pub fn decimal(text: &[u8], precision: u8, scale: u8) -> Option<i128> {
    let (negative, digits) = sign(text);
    let mut parts = digits.splitn(2, |b| *b == b'.');
    let whole = parts.next()?;
    let fraction = parts.next().unwrap_or(b"");
    let kept = &fraction[..fraction.len().min(scale as usize)];
    let rest = &fraction[kept.len()..];
    if whole.len() + fraction.len() == 0
        || !fraction.iter().all(u8::is_ascii_digit)
        || rest.iter().any(|b| *b != b'0')
    {
        return None;
    }
    // Nearly always 64 bits are enough, and far cheaper.
    if whole.len() + usize::from(scale) <= 18 {
        let mut number = 0i64;
        for byte in whole.iter().chain(kept) {
            if !byte.is_ascii_digit() {
                return None;
            }
            number = number * 10 + i64::from(byte - b'0');
        }
        number *= 10i64.pow(u32::from(scale) - kept.len() as u32);
        if precision < 18 && number >= 10i64.pow(u32::from(precision)) {
            return None;
        }
        return Some(i128::from(if negative { -number } else { number }));
    }
    let mut number = 0i128;
    for byte in whole.iter().chain(kept) {
        if !byte.is_ascii_digit() {
            return None;
        }
        number = number
            .checked_mul(10)?
            .checked_add(i128::from(byte - b'0'))?;
    }
    number = number.checked_mul(10i128.pow(u32::from(scale) - kept.len() as u32))?;
    if number >= 10i128.pow(u32::from(precision)) {
        return None;
    }
    Some(if negative { -number } else { number })
}

/// A number with an exponent, times 10 to the scale; nothing where that is not whole, or has more than 38 digits.
pub fn scaled(text: &[u8], scale: u8) -> Option<i128> {
    let (negative, text) = sign(text);
    let is_e = |b: &u8| matches!(b, b'e' | b'E');
    let (mantissa, exponent) = match text.iter().position(is_e) {
        Some(at) => (&text[..at], exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let mut parts = mantissa.splitn(2, |b| *b == b'.');
    let (whole, fraction) = (parts.next()?, parts.next().unwrap_or(b""));
    let digits = [whole, fraction].concat();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let zero = |b: &&u8| **b == b'0';
    let zeros = digits.iter().rev().take_while(zero).count();
    if zeros == digits.len() {
        return Some(0);
    }
    // The number is its significant digits times 10 to this.
    let power = exponent + i64::from(scale) + zeros as i64 - fraction.len() as i64;
    let power = u32::try_from(power).ok().filter(|power| *power < 38)?;
    let mut number = 0i128;
    for byte in &digits[..digits.len() - zeros] {
        number = number
            .checked_mul(10)?
            .checked_add(i128::from(byte - b'0'))?;
    }
    let number = number.checked_mul(10i128.pow(power))?;
    Some(if negative { -number } else { number })
}

/// The exponent of a number; a huge one is replaced by a smaller one with the same effect.
fn exponent(text: &[u8]) -> Option<i64> {
    const BEYOND: i64 = 1 << 40; // more than a message has digits
    let (negative, digits) = sign(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |n: i64, b: &u8| (n * 10 + i64::from(b - b'0')).min(BEYOND);
    let number = digits.iter().fold(0, add);
    Some(if negative { -number } else { number })
}

/// XML Schema's doubles: a decimal with an optional exponent, `INF`, `-INF`, `NaN`. A number becomes the nearest double;
/// one beyond the largest is refused, and so is one that is not zero and would become it.
pub fn double(text: &[u8]) -> Option<f64> {
    match text {
        b"INF" | b"+INF" => Some(f64::INFINITY),
        b"-INF" => Some(f64::NEG_INFINITY),
        b"NaN" => Some(f64::NAN),
        _ if text
            .iter()
            .all(|b| b.is_ascii_digit() || b"+-.eE".contains(b)) =>
        {
            let number: f64 = str::from_utf8(text).ok()?.parse().ok()?;
            let kept = match number.classify() {
                FpCategory::Infinite => false,
                FpCategory::Zero => is_zero(text),
                _ => true,
            };
            kept.then_some(number)
        }
        _ => None,
    }
}

pub fn why_no_double(text: &[u8]) -> Option<&'static str> {
    let number: f64 = str::from_utf8(text).ok()?.parse().ok()?;
    let written = text
        .last()
        .is_some_and(|b| b.is_ascii_digit() || *b == b'.');
    match number.classify() {
        FpCategory::Infinite if written => Some("it is beyond the largest, 1.8e308"),
        FpCategory::Zero if written => Some("it is not 0, but would become 0"),
        _ => None,
    }
}

/// Whether a number has no digit but zeros before its exponent.
#[cold]
fn is_zero(text: &[u8]) -> bool {
    let mut mantissa = text.iter().take_while(|b| !matches!(b, b'e' | b'E'));
    !mantissa.any(|b| matches!(b, b'1'..=b'9'))
}

pub fn boolean(text: &[u8]) -> Option<bool> {
    match text {
        b"true" | b"1" => Some(true),
        b"false" | b"0" => Some(false),
        _ if text.eq_ignore_ascii_case(b"true") => Some(true),
        _ if text.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::types::{Type, Value};

    fn read<'a>(spec: &str, text: &'a str) -> Option<Value<'a>> {
        Type::parse(spec).unwrap().read(text.as_bytes())
    }

    #[test]
    fn integers_have_an_exact_range() {
        assert_eq!(read("int", "-2147483648"), Some(Value::Int(i32::MIN)));
        assert_eq!(read("int", "+7"), Some(Value::Int(7)));
        assert_eq!(
            read("long", "-9223372036854775808"),
            Some(Value::Long(i64::MIN))
        );
        for bad in [
            "",
            "-",
            "2147483648",
            "1_0",
            "1.0",
            " 1",
            "0x1",
            "９",
            "1e3",
        ] {
            assert_eq!(read("int", bad), None, "{bad}");
        }
        assert_eq!(
            read("long", "9223372036854775807"),
            Some(Value::Long(i64::MAX))
        );
        for bad in [
            "9223372036854775808",
            "-9223372036854775809",
            "92233720368547758070",
        ] {
            assert_eq!(read("long", bad), None, "{bad}");
        }
    }

    #[test]
    fn decimals_are_never_rounded() {
        assert_eq!(read("decimal(5,2)", "-123.4"), Some(Value::Decimal(-12340)));
        assert_eq!(read("decimal(5,2)", "1.500"), Some(Value::Decimal(150)));
        let edge = "9".repeat(18);
        for digits in [&edge[1..], &edge, "1000000000000000000"] {
            let number = digits.parse().unwrap();
            let wide = read("decimal(38,0)", digits);
            assert_eq!(wide, Some(Value::Decimal(number)));
            let fits = digits.len() <= 18;
            assert_eq!(read("decimal(18,0)", digits), wide.filter(|_| fits));
        }
        assert_eq!(read("decimal(5,2)", ".5"), Some(Value::Decimal(50)));
        for bad in ["1.505", "1000", "1,5", "", ".", "1.2.3", "1e2", "1.5x"] {
            assert_eq!(read("decimal(5,2)", bad), None, "{bad}");
        }
        let nines = "9".repeat(38);
        assert_eq!(
            read("decimal(38,0)", &nines),
            Some(Value::Decimal(10i128.pow(38) - 1))
        );
        assert_eq!(read("decimal(38,0)", &format!("{nines}9")), None);
    }

    #[test]
    fn doubles_and_booleans_take_xml_schema_words() {
        assert_eq!(read("double", "-1.5e3"), Some(Value::Double(-1500.0)));
        assert_eq!(read("double", "INF"), Some(Value::Double(f64::INFINITY)));
        for bad in [
            "inf", "nan", "infinity", "", "1d", "--1", "0x1p3", "1_0", "1e", ".", "٣",
        ] {
            assert_eq!(read("double", bad), None, "{bad}");
        }
        assert_eq!(read("boolean", "TRUE"), Some(Value::Bool(true)));
        assert_eq!(read("boolean", "0"), Some(Value::Bool(false)));
        assert_eq!(read("boolean", "yes"), None);
    }

    #[test]
    fn doubles_are_never_made_infinite_or_nothing() {
        let long = |zeros: usize, tail: &str| format!("0.{}{tail}", "0".repeat(zeros));
        for bad in [
            "1e309",
            "-1e309",
            "1.7976931348623159e308",
            &"9".repeat(310),
            "1e-400",
            "-1e-400",
            "2e-324",
            &long(400, "1"),
            "1e99999999999999999999",
            "1e-99999999999999999999",
        ] {
            assert_eq!(read("double", bad), None, "{bad}");
        }
        for (text, number) in [
            ("1.7976931348623157e308", f64::MAX),
            ("-1.7976931348623157e308", f64::MIN),
            ("5e-324", f64::from_bits(1)),
            ("3e-324", f64::from_bits(1)), // the nearest, as everywhere
            ("0e-400", 0.0),
            (&long(400, ""), 0.0),
            ("0e400", 0.0),
        ] {
            assert_eq!(read("double", text), Some(Value::Double(number)), "{text}");
        }
        let minus = match read("double", "-0.0") {
            Some(Value::Double(number)) => number.is_sign_negative(),
            _ => false,
        };
        assert!(minus, "a negative zero keeps its sign");
    }

    #[test]
    fn numbers_of_json_are_whole_where_their_value_is() {
        let number = |spec: &str, text: &str| {
            let kind = Type::parse(spec).unwrap();
            kind.read_number(text.as_bytes()).map(|v| kind.show(v))
        };
        let nines = "9".repeat(38);
        for (spec, text, shown) in [
            ("int", "1e3", "1000"),
            ("int", "1.5e1", "15"),
            ("int", "-2147483648.0", "-2147483648"),
            ("int", "1.0", "1"),
            ("int", "12300E-2", "123"),
            ("int", "0e999999999999999999999", "0"),
            ("int", "-0.0e-5", "0"),
            ("long", "9.223372036854775807e18", "9223372036854775807"),
            ("long", "-9223372036854775808e+0", "-9223372036854775808"),
            ("decimal(4,2)", "1e-2", "0.01"),
            ("decimal(4,2)", "1e1", "10.00"),
            ("decimal(4,2)", "99.9900e0", "99.99"),
            ("decimal(38,38)", "1e-38", &format!("0.{}1", "0".repeat(37))),
            ("decimal(38,0)", &format!("0.{nines}e38"), &nines),
            ("double", "1e3", "1000"),
        ] {
            assert_eq!(number(spec, text).as_deref(), Some(shown), "{spec} {text}");
        }
        for (spec, text) in [
            ("int", "1e-1"),
            ("int", "1.5"),
            ("int", "2147483648e0"),
            ("int", "1e10"),
            ("int", "1e"),
            ("int", "e1"),
            ("int", "."),
            ("long", "9.2233720368547758071e18"),
            ("long", "9223372036854775808e0"),
            ("long", "1e99999999999999999999"),
            ("decimal(4,2)", "1e-3"),
            ("decimal(4,2)", "1e2"),
            ("decimal(38,0)", &format!("{nines}0e0")),
            ("decimal(38,0)", "1e38"),
            ("decimal(38,0)", "1e-99999999999999999999"),
            ("boolean", "1e0"),
            ("double", "1e999"),
        ] {
            assert_eq!(number(spec, text), None, "{spec} {text}");
        }
    }
}
