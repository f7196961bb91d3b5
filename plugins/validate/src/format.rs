//! Named formats, for which a pattern would be slow or impossible.
use std::net::Ipv6Addr;

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

/// Longest address and longest part before the `@`, in bytes (RFC 5321, 4.5.3.1; RFC 3696, erratum 1690).
const MAX_EMAIL: usize = 254;
const MAX_LOCAL: usize = 64;
/// Longest name of a host and longest label of it, in bytes (RFC 1035, 2.3.4).
const MAX_HOST: usize = 253;
const MAX_LABEL: usize = 63;

/// A dot-atom (RFC 5322, 3.2.3), `@`, and a host name of two labels or more; letters beyond ASCII as in RFC 6531.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let atext = |c: char| match c.is_ascii() {
        true => c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c),
        false => is_beyond_ascii(c),
    };
    let atom = |atom: &str| !atom.is_empty() && atom.chars().all(atext);
    text.len() <= MAX_EMAIL
        && local.len() <= MAX_LOCAL
        && local.split('.').all(atom)
        && domain.contains('.')
        && !ends_in_number(domain)
        && is_host(domain, "-")
}

/// `http` or `https` in any case, a host, perhaps with user and port before and behind it, and then what RFC 3986 lets stand
/// there; letters beyond ASCII as in RFC 3987.
fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (user, place),
        None => ("", authority),
    };
    let http = ["http", "https"];
    http.iter().any(|http| scheme.eq_ignore_ascii_case(http))
        && is_uri_text(user, ":")
        && is_place(place)
        && [rest, fragment]
            .iter()
            .all(|text| is_uri_text(text, ":@/?"))
}

/// A host and perhaps a port.
fn is_place(place: &str) -> bool {
    let (is_named, port) = match place.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => (address.parse::<Ipv6Addr>().is_ok(), port),
            None => return false,
        },
        None => {
            let end = place.find(':').unwrap_or(place.len());
            let (host, port) = place.split_at(end);
            let name = host.strip_suffix('.').unwrap_or(host); // the root may be written
            let named = match ends_in_number(name) {
                true => is_ipv4(name),
                false => is_host(name, "-_"),
            };
            (named, port)
        }
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    let sound = digits.is_empty() || digits.parse::<u16>().is_ok();
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    is_named && sound && plain && (port.is_empty() || port.starts_with(':'))
}

/// Labels of letters, digits and `also` (RFC 1035, RFC 1123): no hyphen at an end of one, none empty.
fn is_host(host: &str, also: &str) -> bool {
    let known = |c: char| match c.is_ascii() {
        true => c.is_ascii_alphanumeric() || also.contains(c),
        false => c.is_alphanumeric(),
    };
    let label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(known)
    };
    host.len() <= MAX_HOST && host.split('.').all(label)
}

/// Then it is an address in digits, or nothing: no top-level domain is a number.
fn ends_in_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit())
}

/// Unreserved characters, `%` with two hex digits, sub-delims, and `also` (RFC 3986, 3.3 to 3.5).
fn is_uri_text(text: &str, also: &str) -> bool {
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let sound = match c {
            '%' => (0..2).all(|_| rest.next().is_some_and(|c| c.is_ascii_hexdigit())),
            c if c.is_ascii() => {
                c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=".contains(c) || also.contains(c)
            }
            c => is_beyond_ascii(c),
        };
        if !sound {
            return false;
        }
    }
    true
}

fn is_beyond_ascii(c: char) -> bool {
    !c.is_ascii() && !c.is_whitespace() && !c.is_control()
}

fn is_ipv4(text: &str) -> bool {
    let part = |p: &str| {
        let plain = p.bytes().all(|b| b.is_ascii_digit()) && (p.len() == 1 || !p.starts_with('0'));
        plain && p.parse::<u8>().is_ok()
    };
    text.split('.').count() == 4 && text.split('.').all(part)
}

/// 10 digits, or 13 that begin with 978 or 979 (but 979-0, which is printed music), with a right check digit; single
/// hyphens or blanks may stand between digits.
fn is_isbn(text: &[u8]) -> bool {
    let mut digits = [0u32; 13];
    let mut len = 0;
    let mut parted = true;
    for b in text {
        if matches!(b, b'-' | b' ') {
            if std::mem::replace(&mut parted, true) {
                return false;
            }
            continue;
        }
        parted = false;
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
    if parted {
        return false;
    }
    let book = match digits {
        [9, 7, 8, ..] => true,
        [9, 7, 9, next, ..] => next != 0,
        _ => false,
    };
    let weighed = |weight: fn(usize) -> u32| -> u32 {
        digits[..len]
            .iter()
            .enumerate()
            .map(|(n, d)| d * weight(n))
            .sum()
    };
    match len {
        10 => weighed(|n| 10 - n as u32).is_multiple_of(11),
        13 => {
            book && !digits.contains(&10) && weighed(|n| 1 + 2 * (n as u32 % 2)).is_multiple_of(10)
        }
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
                    "{0b7e1f7c-7f4c-4f0e-9c39-1f1f1b1f2f3f}",
                    "urn:uuid:0b7e1f7c-7f4c-4f0e-9c39-1f1f1b1f2f3f",
                    " 0b7e1f7c-7f4c-4f0e-9c39-1f1f1b1f2f3f",
                ],
            ),
            (
                Format::Email,
                &[
                    "a@b.c",
                    "ü.x+1@exämple.org",
                    "o'hara/x=y@a-b.example",
                    "a@1.b.2c",
                    "a@xn--exmple-cua.org",
                ],
                &[
                    "a",
                    "a@b",
                    "@b.c",
                    "a@b..c",
                    "a b@c.d",
                    "a@b@c.d",
                    "a..b@example.org",
                    ".a@example.org",
                    "a.@example.org",
                    "a@example-.org",
                    "a@-example.org",
                    "a@example.org-",
                    "a@.example.org",
                    "a@example.org.",
                    "a@ex_ample.org",
                    "a@1.2.3.4",
                    "a@[1.2.3.4]",
                    "\"a b\"@c.d",
                    "a,b@c.d",
                    "a(b)@c.d",
                    "Ada <a@b.c>",
                    "a@b.c\n",
                ],
            ),
            (
                Format::Url,
                &[
                    "http://a",
                    "https://a.b/c?d#e",
                    "HTTPS://example.org/",
                    "hTTp://EXAMPLE.org:65535",
                    "http://a:0",
                    "http://a:/",
                    "http://a./",
                    "http://u:p%20w@a_b.example:80/x;y=1,2/~z?q=@:/?#f/?",
                    "http://127.0.0.1/",
                    "http://[::1]:8080/",
                    "http://[2001:db8::1]",
                    "https://exämple.org/ä?ö#ü",
                    "http://a?b",
                    "http://a#b",
                ],
                &[
                    "a",
                    "ftp://a",
                    "http://",
                    "http:///x",
                    "http://a b",
                    "http:a",
                    "//a",
                    "https://example.org:99999/",
                    "http://a:65536",
                    "http://a:+80",
                    "http://a:80:80",
                    "http://a:8o",
                    "http://.example",
                    "http://a..b",
                    "http://-a.b",
                    "http://.",
                    "http://:80/",
                    "http://u@/",
                    "http://256.1.1.1/",
                    "http://1.2.3",
                    "http://[::1",
                    "http://[::g]/",
                    "http://[::1]x",
                    "http://::1/",
                    "http://a/%zz",
                    "http://a/%4",
                    "http://a/<b>",
                    "http://a/\"b",
                    "http://a/[b]",
                    "http://a/b#c#d",
                    "http://a/\\b",
                    "http://u@v@a/",
                ],
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
                    "1.1.1.",
                    "1.1.1.1/24",
                    "1.1.1.1 ",
                    "0x7f.1.1.1",
                    "١.1.1.1",
                    "",
                ],
            ),
            (
                Format::Isbn,
                &[
                    "978-3-16-148410-0",
                    "978 3 16 148410 0",
                    "978-3161484100",
                    "9783161484100",
                    "979-10-90636-07-1",
                    "0-306-40615-2",
                    "080442957X",
                    "0 8044 2957 x",
                ],
                &[
                    "978-3-16-148410-1",
                    "0-306-40615-3",
                    "X80442957X",
                    "",
                    "97831614841000",
                    "4006381333931",     // a pencil
                    "9771234567003",     // a magazine
                    "979-0-2600-0043-8", // printed music
                    "-9783161484100",
                    "9783161484100-",
                    "978--3161484100",
                    "978-3-16-148410–0",
                    "978316148410X",
                    "080442957X0",
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
