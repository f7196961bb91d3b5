//! Named formats: what a pattern would say slowly, or could not say at all.
use crate::rules::Format;

impl Format {
    #[inline]
    pub fn accepts(self, text: &[u8]) -> bool {
        let is = |check: fn(&str) -> bool| str::from_utf8(text).is_ok_and(check);
        match self {
            Self::Uuid => is_uuid(text),
            Self::Email => is(is_email),
            Self::Url => is(is_url),
            Self::Ipv4 => is(is_ipv4),
            Self::Isbn => is_isbn(text),
        }
    }
}

/// 8-4-4-4-12 hex digits, any version. Counted without a branch: 16 bytes at a time.
fn is_uuid(text: &[u8]) -> bool {
    let Ok(text) = <&[u8; 36]>::try_from(text) else {
        return false;
    };
    let digits = |n: u8, b: &u8| n + u8::from(b.is_ascii_hexdigit());
    let hyphens = [8, 13, 18, 23].iter().all(|n| text[*n] == b'-');
    hyphens && text.iter().fold(0, digits) == 32
}

/// One `@`, something before it, a domain with a dot behind it, no blanks.
fn is_email(text: &str) -> bool {
    let Some((user, domain)) = text.split_once('@') else {
        return false;
    };
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '@';
    let labels = domain.split('.');
    (1..=64).contains(&user.len())
        && text.len() <= 254
        && user.chars().all(plain)
        && domain.contains('.')
        && labels
            .clone()
            .all(|label| !label.is_empty() && !label.starts_with('-'))
        && domain
            .chars()
            .all(|c| c.is_alphanumeric() || c == '-' || c == '.')
}

/// `http` or `https`, a host, no blanks.
fn is_url(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    host.is_some_and(|host| !host.is_empty())
        && !text
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || "<>\"".contains(c))
}

fn is_ipv4(text: &str) -> bool {
    let part = |p: &str| {
        let plain = p.bytes().all(|b| b.is_ascii_digit()) && (p.len() == 1 || !p.starts_with('0'));
        plain && p.parse::<u8>().is_ok()
    };
    text.split('.').count() == 4 && text.split('.').all(part)
}

/// 10 or 13 digits with a right check digit; hyphens and blanks between them are allowed.
fn is_isbn(text: &[u8]) -> bool {
    let mut digits = [0u32; 13];
    let mut len = 0;
    for b in text.iter().filter(|b| **b != b'-' && **b != b' ') {
        let digit = match b {
            b'0'..=b'9' => u32::from(b - b'0'),
            b'X' | b'x' if len == 9 => 10,
            _ => return false,
        };
        match digits.get_mut(len) {
            Some(slot) => *slot = digit,
            None => return false,
        }
        len += 1;
    }
    let weighed = |weight: fn(usize) -> u32| -> u32 {
        digits[..len]
            .iter()
            .enumerate()
            .map(|(n, d)| d * weight(n))
            .sum()
    };
    match len {
        10 => weighed(|n| 10 - n as u32).is_multiple_of(11),
        13 => !digits.contains(&10) && weighed(|n| 1 + 2 * (n as u32 % 2)).is_multiple_of(10),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_take_the_good_and_refuse_the_bad() {
        let cases: [(Format, &[&str], &[&str]); 5] = [
            (
                Format::Uuid,
                &[
                    "0b7e1f7c-7f4c-4f0e-9c39-1f1f1b1f2f3f",
                    "0B7E1F7C-7F4C-4F0E-9C39-1F1F1B1F2F3F",
                ],
                &[
                    "",
                    "0b7e1f7c7f4c4f0e9c391f1f1b1f2f3f",
                    "0b7e1f7c-7f4c-4f0e-9c39-1f1f1b1f2f3g",
                    "0b7e1f7c-7f4c-4f0e-9c391-f1f1b1f2f3f",
                ],
            ),
            (
                Format::Email,
                &["a@b.c", "ü.x+1@exämple.org"],
                &["a", "a@b", "@b.c", "a@b..c", "a b@c.d", "a@b@c.d"],
            ),
            (
                Format::Url,
                &["http://a", "https://a.b/c?d#e"],
                &["a", "ftp://a", "http://", "http:///x", "http://a b"],
            ),
            (
                Format::Ipv4,
                &["0.0.0.0", "255.1.20.3"],
                &[
                    "256.1.1.1",
                    "1.1.1",
                    "01.1.1.1",
                    "1.1.1.1.1",
                    "1.1.1.+1",
                    "",
                ],
            ),
            (
                Format::Isbn,
                &["978-3-16-148410-0", "0-306-40615-2", "080442957X"],
                &[
                    "978-3-16-148410-1",
                    "0-306-40615-3",
                    "X80442957X",
                    "",
                    "97831614841000",
                ],
            ),
        ];
        for (format, good, bad) in cases {
            assert!(
                good.iter().all(|t| format.accepts(t.as_bytes())),
                "{format:?} refuses a good one"
            );
            for text in bad {
                assert!(!format.accepts(text.as_bytes()), "{format:?} takes {text}");
            }
        }
    }
}
