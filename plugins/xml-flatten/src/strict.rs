//! What XML 1.0 (fifth edition) asks of names, attributes, references and characters beyond what the event reader
//! checks. Together they refuse every document that is not well-formed.
use std::ops::Range;

use memchr::memchr_iter;

use crate::encoding::{self, Encoding};

/// Why a message is refused, and at which byte of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    pub code: &'static str,
    pub at: usize,
    pub message: String,
}

pub const MALFORMED: &str = "malformed_xml";

impl Fault {
    pub fn new(code: &'static str, at: usize, message: impl Into<String>) -> Self {
        Self {
            code,
            at,
            message: message.into(),
        }
    }

    pub fn malformed(at: usize, message: impl Into<String>) -> Self {
        Self::new(MALFORMED, at, message)
    }
}

/// What one pass over a message found in it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Found {
    pub control: bool,
    pub carriage_return: bool,
    pub non_ascii: bool,
    pub bracket: bool,
}

/// One vectorised pass.
pub fn look(bytes: &[u8]) -> Found {
    let (mut control, mut carriage_return, mut high, mut bracket) = (0u8, 0u8, 0u8, 0u8);
    for &b in bytes {
        control |= u8::from((b < 0x20) & (b != 9) & (b != 10) & (b != 13));
        carriage_return |= u8::from(b == 13);
        bracket |= u8::from(b == b']');
        high |= b;
    }
    Found {
        control: control != 0,
        carriage_return: carriage_return != 0,
        non_ascii: high >= 0x80,
        bracket: bracket != 0,
    }
}

/// Refuses bytes that no XML document may hold.
pub fn characters(bytes: &[u8], found: Found) -> Result<(), Fault> {
    if found.control {
        let bad = |b: &u8| *b < 0x20 && !matches!(b, 9 | 10 | 13);
        let at = bytes.iter().position(bad).unwrap_or(0);
        return Err(Fault::malformed(
            at,
            format!("control character 0x{:02X}", bytes[at]),
        ));
    }
    if found.non_ascii {
        if let Some(at) = not_utf8(bytes) {
            return Err(Fault::malformed(at, "bytes that are not UTF-8"));
        }
        let no_character = |at: &usize| {
            let rest = &bytes[*at..];
            rest.starts_with(b"\xEF\xBF\xBE") || rest.starts_with(b"\xEF\xBF\xBF")
        };
        if let Some(at) = memchr_iter(0xEF, bytes).find(no_character) {
            return Err(Fault::malformed(
                at,
                "U+FFFE and U+FFFF are not allowed in XML",
            ));
        }
    }
    Ok(())
}

/// The first byte that is not UTF-8. ASCII is passed over in blocks: no character reaches into one.
fn not_utf8(bytes: &[u8]) -> Option<usize> {
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let mut n = 0;
    loop {
        n += blocks[n..].iter().take_while(|b| is_ascii(b)).count();
        let from = n * BLOCK;
        n += blocks[n..].iter().take_while(|b| !is_ascii(b)).count();
        let to = match n < blocks.len() {
            true => n * BLOCK,
            false => bytes.len(),
        };
        if let Err(error) = str::from_utf8(&bytes[from..to]) {
            return Some(from + error.valid_up_to());
        }
        if to == bytes.len() {
            return None;
        }
    }
}

const BLOCK: usize = 32;

#[inline]
fn is_ascii(block: &[u8; BLOCK]) -> bool {
    let (words, _) = block.as_chunks::<8>();
    let all = words.iter().fold(0, |all, w| all | u64::from_le_bytes(*w));
    all & 0x8080_8080_8080_8080 == 0
}

/// How often `]]>` occurs.
pub fn cdata_ends(text: &[u8]) -> usize {
    memchr_iter(b']', text)
        .filter(|at| text[*at..].starts_with(b"]]>"))
        .count()
}

/// XML's line ends: CR LF and CR become LF.
pub fn line_ends(bytes: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| *b == b'\r') {
        out.extend_from_slice(&rest[..at]);
        out.push(b'\n');
        rest = &rest[at + 1..];
        rest = rest.strip_prefix(b"\n").unwrap_or(rest);
    }
    out.extend_from_slice(rest);
}

/// The byte of the message that byte `at` of its `line_ends` form came from.
pub fn before_line_ends(bytes: &[u8], at: usize) -> usize {
    let mut from = 0;
    for _ in 0..at {
        from += 1 + usize::from(bytes[from..].starts_with(b"\r\n"));
    }
    from
}

#[inline]
pub fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r')
}

#[inline]
pub fn trim(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_blank(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_blank(*last)
    {
        text = rest;
    }
    text
}

const START: u8 = 1;
const INNER: u8 = 2;

/// Which ASCII bytes may begin, and which may continue, a name.
const NAME: [u8; 128] = {
    let mut table = [0; 128];
    let mut b = 0;
    while b < 128 {
        let c = b as u8;
        if c.is_ascii_alphabetic() || c == b'_' || c == b':' {
            table[b] = START | INNER;
        } else if c.is_ascii_digit() || c == b'-' || c == b'.' {
            table[b] = INNER;
        }
        b += 1;
    }
    table
};

pub fn is_name(name: &[u8]) -> bool {
    let Some((first, rest)) = name.split_first() else {
        return false;
    };
    let may = |b: u8, kind: u8| NAME.get(usize::from(b)).is_some_and(|k| k & kind != 0);
    if may(*first, START) && rest.iter().all(|b| may(*b, INNER)) {
        return true;
    }
    if name.is_ascii() {
        return false;
    }
    let Ok(name) = str::from_utf8(name) else {
        return false;
    };
    let mut chars = name.chars();
    chars.next().is_some_and(is_name_start) && chars.all(is_name_char)
}

/// Whether what goes on as a name begins as one.
pub fn begins_name(name: &[u8]) -> bool {
    match name.first() {
        Some(b) if b.is_ascii() => NAME[usize::from(*b)] & START != 0,
        _ => is_name(name),
    }
}

fn is_name_start(c: char) -> bool {
    match c {
        '\0'..='\x7F' => NAME[c as usize] & START != 0,
        '\u{C0}'..='\u{D6}' | '\u{D8}'..='\u{F6}' | '\u{F8}'..='\u{2FF}' => true,
        '\u{370}'..='\u{37D}' | '\u{37F}'..='\u{1FFF}' | '\u{200C}'..='\u{200D}' => true,
        '\u{2070}'..='\u{218F}' | '\u{2C00}'..='\u{2FEF}' | '\u{3001}'..='\u{D7FF}' => true,
        '\u{F900}'..='\u{FDCF}' | '\u{FDF0}'..='\u{FFFD}' | '\u{10000}'..='\u{EFFFF}' => true,
        _ => false,
    }
}

fn is_name_char(c: char) -> bool {
    match c {
        '\0'..='\x7F' => NAME[c as usize] & INNER != 0,
        '\u{B7}' | '\u{300}'..='\u{36F}' | '\u{203F}'..='\u{2040}' => true,
        c => is_name_start(c),
    }
}

/// What `&name;` stands for: one of XML's five entities or a character reference.
pub fn reference(name: &[u8], at: usize) -> Result<char, Fault> {
    match name {
        b"lt" => Ok('<'),
        b"gt" => Ok('>'),
        b"amp" => Ok('&'),
        b"apos" => Ok('\''),
        b"quot" => Ok('"'),
        [b'#', number @ ..] => character(number).ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            Fault::malformed(at, format!("`&{name};` names no character XML allows"))
        }),
        _ if is_name(name) => {
            let name = String::from_utf8_lossy(name);
            let message =
                format!("entity `&{name};` is not declared: only lt, gt, amp, apos, quot");
            Err(Fault::new("unknown_entity", at, message))
        }
        _ => Err(Fault::malformed(at, "a bare `&`: write `&amp;`")),
    }
}

fn character(number: &[u8]) -> Option<char> {
    let (digits, radix) = match number {
        [b'x', hex @ ..] => (hex, 16),
        _ => (number, 10),
    };
    let plain = digits.iter().all(|b| char::from(*b).is_digit(radix));
    let code = u32::from_str_radix(str::from_utf8(digits).ok()?, radix)
        .ok()
        .filter(|_| plain)?;
    let allowed = matches!(code, 9 | 10 | 13 | 0x20..=0xD7FF | 0xE000..=0xFFFD | 0x10000..);
    char::from_u32(code).filter(|_| allowed)
}

/// A name, and where the value lies.
pub type Attribute<'a> = (&'a [u8], Range<usize>);

/// Walks the attributes of a tag: `tag` is what follows its name, `base` where that lies in the message.
/// Gives each name and raw value; a value with `<`, no quotes or no name is malformed. At most `most` attributes.
pub fn attributes<'a>(
    tag: &'a [u8],
    base: usize,
    most: usize,
    found: &mut Vec<Attribute<'a>>,
) -> Result<(), Fault> {
    let mut at = 0;
    loop {
        let gap = blanks(tag, at);
        if at + gap == tag.len() {
            return Ok(());
        }
        if gap == 0 {
            return Err(Fault::malformed(
                base + at,
                "attributes need a blank between them",
            ));
        }
        at += gap;
        let (name, value) = attribute(tag, base, at)?;
        let name_at = at;
        at = value.end;
        if found.iter().any(|(other, _)| *other == name) {
            let name = String::from_utf8_lossy(name);
            return Err(Fault::malformed(
                base + name_at,
                format!("attribute `{name}` comes twice"),
            ));
        }
        if found.len() == most {
            let message = format!("more than {most} attributes (max-attributes)");
            return Err(Fault::new("too_many_attributes", base + name_at, message));
        }
        found.push((name, base + value.start..base + value.end));
        at += 1;
    }
}

/// The attribute at `at`: its name, and where its value lies in the tag.
fn attribute(tag: &[u8], base: usize, mut at: usize) -> Result<(&[u8], Range<usize>), Fault> {
    let name_at = at;
    while tag.get(at).is_some_and(|b| !is_blank(*b) && *b != b'=') {
        at += 1;
    }
    let name = &tag[name_at..at];
    if !is_name(name) {
        let name = String::from_utf8_lossy(name);
        return Err(Fault::malformed(
            base + name_at,
            format!("`{name}` is no attribute name"),
        ));
    }
    at += blanks(tag, at);
    if tag.get(at) != Some(&b'=') {
        return Err(Fault::malformed(base + at, "an attribute without `=`"));
    }
    at += 1;
    at += blanks(tag, at);
    let quote = match tag.get(at) {
        Some(quote @ (b'"' | b'\'')) => *quote,
        _ => {
            return Err(Fault::malformed(
                base + at,
                "an attribute value without quotes",
            ));
        }
    };
    at += 1;
    let value_at = at;
    while tag.get(at).is_some_and(|b| *b != quote) {
        if tag[at] == b'<' {
            return Err(Fault::malformed(base + at, "`<` in an attribute value"));
        }
        at += 1;
    }
    if at == tag.len() {
        return Err(Fault::malformed(
            base + value_at,
            "an attribute value that never ends",
        ));
    }
    Ok((name, value_at..at))
}

pub fn blanks(tag: &[u8], at: usize) -> usize {
    tag[at..].iter().take_while(|b| is_blank(**b)).count()
}

/// Appends an attribute's value as XML normalises it: blanks become spaces, references what they stand for.
pub fn attribute_value(raw: &[u8], base: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut at = 0;
    while let Some(&b) = raw.get(at) {
        if b == b'&' {
            let name = &raw[at + 1..];
            let end = name.iter().position(|b| *b == b';');
            let end =
                end.ok_or_else(|| Fault::malformed(base + at, "a bare `&`: write `&amp;`"))?;
            let value = reference(&name[..end], base + at)?;
            out.extend_from_slice(value.encode_utf8(&mut [0; 4]).as_bytes());
            at += end + 2;
        } else {
            out.push(if is_blank(b) { b' ' } else { b });
            at += 1;
        }
    }
    Ok(())
}

/// `version`, then `encoding`, then `standalone`: the encoding that is declared. Whether the bytes are of it,
/// `encoding::sniff` knows.
pub fn declaration(content: &[u8], at: usize) -> Result<Encoding, Fault> {
    let mut found = Vec::new();
    let base = 3; // past `xml`
    attributes(&content[base..], base, 3, &mut found)
        .map_err(|fault| Fault::malformed(at, format!("XML declaration: {}", fault.message)))?;
    let mut rest = found
        .iter()
        .map(|(name, span)| (*name, &content[span.clone()]))
        .peekable();
    let version = rest
        .next_if(|(name, _)| *name == b"version")
        .map(|(_, value)| value);
    let digits = version.and_then(|v| v.strip_prefix(b"1."));
    if !digits.is_some_and(|d| !d.is_empty() && d.iter().all(u8::is_ascii_digit)) {
        return Err(Fault::malformed(
            at,
            "XML declaration without `version=\"1.0\"`",
        ));
    }
    let mut declared = Encoding::Utf8;
    if let Some((_, name)) = rest.next_if(|(name, _)| *name == b"encoding") {
        declared = encoding::label(name).ok_or_else(|| {
            let name = weir_sdk::shown(name);
            let message = format!("{name}: expected one of {}", encoding::KNOWN);
            Fault::new(encoding::NOT_SUPPORTED, at, message)
        })?;
    }
    let alone = rest
        .next_if(|(name, _)| *name == b"standalone")
        .map(|(_, value)| value);
    if alone.is_some_and(|value| value != b"yes" && value != b"no") || rest.next().is_some() {
        return Err(Fault::malformed(
            at,
            "XML declaration: something unknown in it",
        ));
    }
    Ok(declared)
}

/// `PubidChar`, and both quotes.
fn is_public(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b" \r\n-'()+,./:=?;!*#@$_%\"".contains(&b)
}

/// Whether the content of a document type declaration only names a DTD; nothing if it is none.
pub fn names_dtd(content: &[u8]) -> Option<bool> {
    fn blanks(text: &[u8]) -> &[u8] {
        let count = text.iter().take_while(|b| is_blank(**b)).count();
        &text[count..]
    }
    /// What is behind blanks and a text in quotes.
    fn literal(text: &[u8]) -> Option<&[u8]> {
        let rest = blanks(text);
        let quote = rest.first().filter(|_| rest.len() < text.len());
        let quote = quote.filter(|b| matches!(b, b'"' | b'\''))?;
        let end = rest[1..].iter().position(|b| b == quote)?;
        Some(&rest[end + 2..])
    }
    let content = blanks(content);
    let end = content.iter().position(|b| is_blank(*b) || *b == b'[');
    let (name, rest) = content.split_at(end.unwrap_or(content.len()));
    if !is_name(name) {
        return None;
    }
    let external = blanks(rest);
    let rest = match (external.get(..6), external.len() < rest.len()) {
        (Some(b"SYSTEM"), true) => literal(&external[6..])?,
        (Some(b"PUBLIC"), true) => {
            let system = literal(&external[6..])?;
            let public = &external[6..external.len() - system.len()];
            public.iter().all(|b| is_public(*b)).then_some(())?;
            literal(system)?
        }
        _ => rest,
    };
    match blanks(rest).first() {
        None => Some(true),
        Some(b'[') => Some(false),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf8_faults_are_found_where_the_library_finds_them() {
        for pad in 0..=70 {
            for piece in [
                &b"\xC3"[..],
                b"\xE2\x82",
                b"\xF0\x9F\x98\x80",
                b"\xFF",
                b"\xE2\x82\xAC\x80",
                b"a",
            ] {
                for after in [0, 1, 31, 32, 33, 64] {
                    let mut bytes = vec![b'x'; pad];
                    bytes.extend_from_slice(piece);
                    bytes.resize(bytes.len() + after, b'y');
                    let expected = str::from_utf8(&bytes).err().map(|e| e.valid_up_to());
                    assert_eq!(not_utf8(&bytes), expected, "{bytes:?}");
                }
            }
        }
    }
}
