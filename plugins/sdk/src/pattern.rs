//! Splits a pattern into its parts. Unsupported letters are refused here, when the pipeline starts.
use crate::time::{Part, Unit};

/// `[` inside each other.
const MAX_OPTIONAL: usize = 8;

pub fn parts(pattern: &str) -> Result<Vec<Part>, String> {
    let mut rest = pattern.as_bytes();
    let parts = compile(&mut rest, 0)?;
    if !rest.is_empty() {
        return Err("`]` without `[`".into());
    }
    if !names_a_day(&parts) {
        return Err("it names no full day: it needs yyyy, MM and dd".into());
    }
    run_together(&parts, None)?;
    Ok(fused(parts))
}

/// What stands in most patterns, as one part: it is read in less time.
fn fused(parts: Vec<Part>) -> Vec<Part> {
    let (year, dash) = (Part::Number(Unit::Year, 4, 4), Part::Byte(b'-'));
    let two = |unit| Part::Number(unit, 2, 2);
    let day = [year, dash.clone(), two(Unit::Month), dash, two(Unit::Day)];
    let clock = [two(Unit::Hour), Part::Byte(b':'), two(Unit::Minute)];
    let mut out = Vec::new();
    let mut rest = parts.as_slice();
    while let Some((first, behind)) = rest.split_first() {
        (rest, _) = match first {
            _ if rest.starts_with(&day) => (&rest[day.len()..], out.push(Part::Day)),
            _ if rest.starts_with(&clock) => (&rest[clock.len()..], out.push(Part::Clock)),
            Part::Optional(inside) => (behind, out.push(Part::Optional(fused(inside.clone())))),
            other => (behind, out.push(other.clone())),
        };
    }
    out
}

fn compile(rest: &mut &[u8], depth: usize) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    while let Some(&letter) = rest.first() {
        let run = rest.iter().take_while(|b| **b == letter).count();
        let part = match (letter, run) {
            (b'y', 4) => Part::Number(Unit::Year, 4, 4),
            (b'M', 3) => Part::MonthName,
            (b'M', n @ 1..=2) => Part::Number(Unit::Month, n, 2),
            (b'd', n @ 1..=2) => Part::Number(Unit::Day, n, 2),
            (b'H', n @ 1..=2) => Part::Number(Unit::Hour, n, 2),
            (b'm', n @ 1..=2) => Part::Number(Unit::Minute, n, 2),
            (b's', n @ 1..=2) => Part::Number(Unit::Second, n, 2),
            (b'S', n @ 1..=9) => Part::Fraction(n),
            (b'X', 1..=3) => Part::Offset,
            (b'\'', _) => {
                let (literal, length) = quoted(rest)?;
                parts.extend(literal.into_iter().map(Part::Byte));
                *rest = &rest[length..];
                continue;
            }
            (b'[', _) => {
                if depth == MAX_OPTIONAL {
                    return Err("too many `[` in each other".into());
                }
                *rest = &rest[1..];
                let inside = compile(rest, depth + 1)?;
                if rest.first() != Some(&b']') {
                    return Err("`[` is open".into());
                }
                *rest = &rest[1..];
                parts.push(Part::Optional(inside));
                continue;
            }
            (b']', _) => return Ok(parts),
            (letter, _) if letter.is_ascii_alphabetic() => {
                let found = String::from_utf8_lossy(&rest[..run]).into_owned();
                return Err(format!(
                    "letters `{found}` are not known; use yyyy MM MMM dd HH mm ss S XXX, or quote them"
                ));
            }
            (b'{' | b'}' | b'#', _) => {
                let found = char::from(letter);
                return Err(format!("`{found}` is reserved; quote it: '{found}'"));
            }
            (other, _) => {
                parts.extend((0..run).map(|_| Part::Byte(other)));
                *rest = &rest[run..];
                continue;
            }
        };
        parts.push(part);
        *rest = &rest[run..];
    }
    Ok(parts)
}

/// A literal between quotes, in which a doubled quote means one, and its length in the pattern; `''` is a quote.
fn quoted(pattern: &[u8]) -> Result<(Vec<u8>, usize), String> {
    let mut literal = Vec::new();
    let mut at = 1;
    loop {
        match pattern.get(at..) {
            Some([b'\'', b'\'', ..]) if at > 1 => {
                literal.push(b'\'');
                at += 2;
            }
            Some([b'\'', ..]) if at == 1 => return Ok((vec![b'\''], 2)),
            Some([b'\'', ..]) => return Ok((literal, at + 1)),
            Some([other, ..]) => {
                literal.push(*other);
                at += 1;
            }
            _ => return Err("`'` is open".into()),
        }
    }
}

fn names_a_day(parts: &[Part]) -> bool {
    let has = |unit: Unit| {
        parts
            .iter()
            .any(|p| matches!(p, Part::Number(u, _, _) if *u == unit))
    };
    let month = has(Unit::Month) || parts.contains(&Part::MonthName);
    has(Unit::Year) && month && has(Unit::Day)
}

/// Refuses digits after a part of variable length: it would be unclear which digits belong to which part. `open` is
/// such a part right before these; the result is one that is open at their end.
fn run_together<'p>(
    parts: &'p [Part],
    mut open: Option<&'p Part>,
) -> Result<Option<&'p Part>, String> {
    for part in parts {
        let digits = match part {
            Part::Number(..) | Part::Fraction(_) | Part::Day | Part::Clock => true,
            Part::Byte(byte) => byte.is_ascii_digit(),
            Part::MonthName | Part::Offset | Part::Optional(_) => false,
        };
        if let Some(open) = open.filter(|_| digits) {
            let (what, instead) = match open {
                Part::Offset => ("an offset", ""),
                Part::Fraction(_) => ("a fraction", ""),
                _ => (
                    "a number of one digit or two",
                    ", or double its letter, for exactly two",
                ),
            };
            return Err(format!(
                "digits right behind {what} cannot be told from it; put a character between them{instead}"
            ));
        }
        open = match part {
            Part::Number(_, least, most) if least == most => None,
            Part::Number(..) | Part::Fraction(_) | Part::Offset => Some(part),
            Part::Byte(_) | Part::MonthName | Part::Day | Part::Clock => None,
            Part::Optional(inside) => run_together(inside, open)?.or(open),
        };
    }
    Ok(open)
}
