//! The encoding of a message, by its byte order mark and its declaration (XML 1.0, 4.3.3 and appendix F), and its way
//! to UTF-8. What marks, declaration and bytes say must agree; nothing is guessed from the text.
use crate::strict::{self, Fault};

pub const UTF8_BOM: &[u8] = b"\xEF\xBB\xBF";

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Encoding {
    Utf8,
    Ascii,
    Utf16Le,
    Utf16Be,
    Latin1,
    Windows1252,
}

/// How the message is to be read, and how long its byte order mark is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sniffed {
    pub encoding: Encoding,
    pub mark: usize,
}

pub const KNOWN: &str = "UTF-8, US-ASCII, UTF-16, ISO-8859-1, windows-1252";

pub const NOT_SUPPORTED: &str = "encoding_not_supported";
const MISMATCH: &str = "encoding_mismatch";

const LABELS: [(&[u8], Encoding); 13] = [
    (b"utf-8", Encoding::Utf8),
    (b"utf8", Encoding::Utf8),
    (b"us-ascii", Encoding::Ascii),
    (b"ascii", Encoding::Ascii),
    (b"utf-16", Encoding::Utf16Le), // or big-endian: the mark says
    (b"utf-16le", Encoding::Utf16Le),
    (b"utf-16be", Encoding::Utf16Be),
    (b"iso-8859-1", Encoding::Latin1),
    (b"iso_8859-1", Encoding::Latin1),
    (b"latin1", Encoding::Latin1),
    (b"windows-1252", Encoding::Windows1252),
    (b"cp1252", Encoding::Windows1252),
    (b"cp-1252", Encoding::Windows1252),
];

/// The characters of the bytes 0x80 to 0x9F in windows-1252; NUL where there is none. All other bytes are Latin-1.
const WINDOWS_1252: [char; 32] = [
    '\u{20AC}', '\0', '\u{201A}', '\u{0192}', '\u{201E}', '\u{2026}', '\u{2020}', '\u{2021}',
    '\u{02C6}', '\u{2030}', '\u{0160}', '\u{2039}', '\u{0152}', '\0', '\u{017D}', '\0', '\0',
    '\u{2018}', '\u{2019}', '\u{201C}', '\u{201D}', '\u{2022}', '\u{2013}', '\u{2014}', '\u{02DC}',
    '\u{2122}', '\u{0161}', '\u{203A}', '\u{0153}', '\0', '\u{017E}', '\u{0178}',
];

/// What a declaration calls `name`; of UTF-16 the mark says the order.
pub fn label(name: &[u8]) -> Option<Encoding> {
    let same = |(known, _): &&(&[u8], Encoding)| name.eq_ignore_ascii_case(known);
    LABELS.iter().find(same).map(|(_, encoding)| *encoding)
}

/// Faults name a byte of `raw`.
#[inline]
pub fn sniff(raw: &[u8]) -> Result<Sniffed, Fault> {
    match raw {
        [b'<', b'?', ..] => declared(raw, 0, Encoding::Utf8),
        [b'<', second, ..] if *second != 0 => Ok(UTF8),
        [0xEF, 0xBB, 0xBF, rest @ ..] => match rest.starts_with(b"<?") {
            true => declared(raw, 3, Encoding::Utf8),
            false => Ok(Sniffed { mark: 3, ..UTF8 }),
        },
        [0, 0, 0xFE, 0xFF, ..] | [0xFF, 0xFE, 0, 0, ..] => {
            Err(not_supported("the byte order mark of UTF-32", 0))
        }
        [0xFF, 0xFE, ..] => declared(raw, 2, Encoding::Utf16Le),
        [0xFE, 0xFF, ..] => declared(raw, 2, Encoding::Utf16Be),
        [b'<', 0, b'?', 0, ..] => declared(raw, 0, Encoding::Utf16Le),
        [0, b'<', 0, b'?', ..] => declared(raw, 0, Encoding::Utf16Be),
        _ => Ok(UTF8),
    }
}

/// A text is UTF-8, whatever it declares.
pub fn of_text(raw: &[u8]) -> Sniffed {
    let mark = if raw.starts_with(UTF8_BOM) { 3 } else { 0 };
    Sniffed { mark, ..UTF8 }
}

const UTF8: Sniffed = Sniffed {
    encoding: Encoding::Utf8,
    mark: 0,
};

/// `seen` is what the first bytes are; a declaration may narrow it, never contradict it.
fn declared(raw: &[u8], mark: usize, seen: Encoding) -> Result<Sniffed, Fault> {
    use Encoding::{Ascii, Latin1, Utf8, Utf16Be, Utf16Le, Windows1252};
    let unit = if matches!(seen, Utf16Le | Utf16Be) {
        2
    } else {
        1
    };
    let low = usize::from(seen == Utf16Be);
    let text = &raw[mark..];
    // A declaration is ASCII: one byte of each unit is all of it. A unit that is not shows as a byte outside ASCII.
    let narrow = |u: &[u8]| match (u.get(low), u.get(1 - low)) {
        (Some(byte), Some(0)) => *byte,
        _ => 0xFF,
    };
    let length = match unit {
        1 => text.iter().position(|b| *b == b'>'),
        _ => text.chunks(2).position(|u| narrow(u) == b'>'),
    };
    let length = length.unwrap_or(0);
    let narrowed: Vec<u8>;
    let declaration = match unit {
        1 => &text[..length],
        _ => {
            narrowed = text.chunks(2).take(length).map(narrow).collect();
            &narrowed
        }
    };
    let Some((name, from)) = encoding_name(declaration) else {
        return Ok(Sniffed {
            encoding: seen,
            mark,
        });
    };
    let at = mark + from * unit;
    let Some(wanted) = label(name) else {
        return Err(not_supported(&weir_sdk::shown(name), at));
    };
    let any_order = name.eq_ignore_ascii_case(b"utf-16");
    let encoding = match (seen, wanted) {
        (Utf8, Utf8) => Some(Utf8),
        (Utf8, Ascii) if mark > 0 => None,
        (Utf8, Latin1 | Windows1252) if mark > 0 => None,
        (Utf8, Ascii | Latin1 | Windows1252) => Some(wanted),
        (Utf16Le | Utf16Be, Utf16Le) if any_order => Some(seen),
        (Utf16Le, Utf16Le) | (Utf16Be, Utf16Be) => Some(seen),
        _ => None,
    };
    let encoding = encoding.ok_or_else(|| {
        let found = match (seen, mark) {
            (Utf16Le, _) => "UTF-16, little-endian",
            (Utf16Be, _) => "UTF-16, big-endian",
            (_, 0) => "one byte a character here",
            _ => "UTF-8 by their byte order mark",
        };
        let name = weir_sdk::shown(name);
        let message = format!("the declaration says {name}, the bytes are {found}");
        Fault::new(MISMATCH, at, message)
    })?;
    Ok(Sniffed { encoding, mark })
}

fn not_supported(found: &str, at: usize) -> Fault {
    let message = format!("{found}: expected one of {KNOWN}");
    Fault::new(NOT_SUPPORTED, at, message)
}

/// The value of `encoding="…"`, and where it lies. A declaration of another form is for the reader to judge.
fn encoding_name(declaration: &[u8]) -> Option<(&[u8], usize)> {
    const WORD: &[u8] = b"encoding";
    let inside = declaration.strip_prefix(b"<?xml")?;
    let start = declaration.len() - inside.len();
    let word = inside.windows(WORD.len()).position(|w| w == WORD)?;
    let mut at = start + word + WORD.len();
    at += strict::blanks(declaration, at);
    if declaration.get(at) != Some(&b'=') {
        return None;
    }
    at += 1;
    at += strict::blanks(declaration, at);
    let quote = *declaration.get(at).filter(|b| matches!(b, b'"' | b'\''))?;
    let value = &declaration[at + 1..];
    let length = value.iter().position(|b| *b == quote)?;
    Some((&value[..length], at + 1))
}

/// Writes `bytes`, which follow the mark, to `out` as UTF-8. Faults name a byte of `bytes`.
pub fn decode(encoding: Encoding, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    out.clear();
    match encoding {
        Encoding::Utf8 => out.extend_from_slice(bytes),
        Encoding::Ascii => {
            let length = bytes.iter().position(|b| !b.is_ascii());
            out.extend_from_slice(&bytes[..length.unwrap_or(bytes.len())]);
            if let Some(at) = length {
                let message = format!(
                    "the declaration says US-ASCII, found the byte 0x{:02X}",
                    bytes[at]
                );
                return Err(Fault::new(MISMATCH, at, message));
            }
        }
        Encoding::Latin1 => bytes.iter().for_each(|b| push(char::from(*b), out)),
        Encoding::Windows1252 => {
            for (at, b) in bytes.iter().enumerate() {
                let c = match b {
                    0x80..=0x9F => WINDOWS_1252[usize::from(b - 0x80)],
                    b => char::from(*b),
                };
                if c == '\0' {
                    let message = format!("0x{b:02X} is no character of windows-1252");
                    return Err(Fault::malformed(at, message));
                }
                push(c, out);
            }
        }
        Encoding::Utf16Le => utf16(bytes, u16::from_le_bytes, out)?,
        Encoding::Utf16Be => utf16(bytes, u16::from_be_bytes, out)?,
    }
    Ok(())
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16, out: &mut Vec<u8>) -> Result<(), Fault> {
    let (units, rest) = bytes.as_chunks::<2>();
    let mut at = 0;
    for c in char::decode_utf16(units.iter().map(|u| unit(*u))) {
        let c = c.map_err(|_| Fault::malformed(at, "half of a surrogate pair: not UTF-16"))?;
        push(c, out);
        at += 2 * c.len_utf16();
    }
    match rest.is_empty() {
        true => Ok(()),
        false => Err(Fault::malformed(at, "half a character: not UTF-16")),
    }
}

#[inline]
fn push(c: char, out: &mut Vec<u8>) {
    match c.is_ascii() {
        true => out.push(c as u8),
        false => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// The byte that the UTF-8 byte `at` of `text` was decoded from, counted from behind the mark.
pub fn before_decoding(encoding: Encoding, text: &[u8], at: usize) -> usize {
    let before = &text[..at.min(text.len())];
    let starts = || before.iter().filter(|b| **b & 0xC0 != 0x80);
    match encoding {
        Encoding::Utf8 | Encoding::Ascii => before.len(),
        Encoding::Latin1 | Encoding::Windows1252 => starts().count(),
        // Four bytes of UTF-8 are a pair of units.
        Encoding::Utf16Le | Encoding::Utf16Be => {
            starts().map(|b| if *b >= 0xF0 { 4 } else { 2 }).sum()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16_of(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    fn found(raw: &[u8]) -> Result<(Encoding, usize), &'static str> {
        sniff(raw)
            .map(|s| (s.encoding, s.mark))
            .map_err(|fault| fault.code)
    }

    #[test]
    fn marks_and_declarations_must_agree() {
        use Encoding::{Ascii, Latin1, Utf8, Utf16Be, Utf16Le, Windows1252};
        let xml = |name: &str| format!("<?xml version='1.0' encoding = \"{name}\"?><r/>");
        for (name, one, marked, wide) in [
            ("UTF-8", Ok(Utf8), Ok(Utf8), None),
            ("us-ascii", Ok(Ascii), Err(MISMATCH), None),
            ("ISO-8859-1", Ok(Latin1), Err(MISMATCH), None),
            ("Windows-1252", Ok(Windows1252), Err(MISMATCH), None),
            ("UTF-16", Err(MISMATCH), Err(MISMATCH), Some("both")),
            ("utf-16le", Err(MISMATCH), Err(MISMATCH), Some("le")),
            ("utf-16be", Err(MISMATCH), Err(MISMATCH), Some("be")),
            ("KOI8-R", Err(NOT_SUPPORTED), Err(NOT_SUPPORTED), Some("no")),
        ] {
            let text = xml(name);
            assert_eq!(found(text.as_bytes()), one.map(|e| (e, 0)), "{name}");
            let with_mark = format!("\u{FEFF}{text}");
            let expected = marked.map(|e| (e, 3));
            assert_eq!(found(with_mark.as_bytes()), expected, "{name}");
            let expect = |order, encoding, mark| match wide {
                Some("no") => Err(NOT_SUPPORTED),
                Some(w) if w == "both" || w == order => Ok((encoding, mark)),
                _ => Err(MISMATCH),
            };
            for (text, mark) in [(text, 0), (with_mark, 2)] {
                let le = utf16_of(&text, u16::to_le_bytes);
                assert_eq!(found(&le), expect("le", Utf16Le, mark), "{name}");
                let be = utf16_of(&text, u16::to_be_bytes);
                assert_eq!(found(&be), expect("be", Utf16Be, mark), "{name}");
            }
        }
        for utf32 in [&b"\0\0\xFE\xFF\0\0\0<"[..], b"\xFF\xFE\0\0<\0\0\0"] {
            assert_eq!(found(utf32), Err(NOT_SUPPORTED));
        }
        for half in [&b"\xFE\xFF\0<\0?\0"[..], b"\xFF\xFE<\0?\0x", b"\0<\0?\0"] {
            assert!(found(half).is_ok(), "{half:?}");
        }
        for plain in [
            &b"<r/>"[..],
            b"",
            b"<",
            b"<?",
            b"<?xml",
            b"x",
            b"<?xml encoding",
        ] {
            assert_eq!(found(plain), Ok((Utf8, 0)));
        }
    }

    #[test]
    fn places_lead_back_to_the_bytes_they_came_from() {
        let text = "a\u{e9}\u{20ac}\u{1F600}z";
        let mut out = Vec::new();
        for (encoding, bytes) in [
            (Encoding::Utf16Le, utf16_of(text, u16::to_le_bytes)),
            (Encoding::Utf16Be, utf16_of(text, u16::to_be_bytes)),
            (Encoding::Utf8, text.as_bytes().to_vec()),
        ] {
            decode(encoding, &bytes, &mut out).unwrap();
            assert_eq!(out, text.as_bytes());
            let z = out.len() - 1;
            let unit = if encoding == Encoding::Utf8 { 1 } else { 2 };
            assert_eq!(before_decoding(encoding, &out, z), bytes.len() - unit);
        }
        decode(Encoding::Windows1252, b"\x80\xE9z", &mut out).unwrap();
        assert_eq!(out, "\u{20ac}\u{e9}z".as_bytes());
        assert_eq!(before_decoding(Encoding::Windows1252, &out, 5), 2);
        decode(Encoding::Latin1, b"\x80\xE9", &mut out).unwrap();
        assert_eq!(out, "\u{80}\u{e9}".as_bytes());
        let at =
            |encoding, bytes: &[u8]| decode(encoding, bytes, &mut Vec::new()).map_err(|f| f.at);
        assert_eq!(at(Encoding::Windows1252, b"a\x81"), Err(1));
        assert_eq!(at(Encoding::Ascii, b"a\x80"), Err(1));
        assert_eq!(at(Encoding::Utf16Le, b"a\0\0\xD8b\0"), Err(2));
        assert_eq!(at(Encoding::Utf16Be, b"\0a\0"), Err(2));
    }
}
