//! The text of an XML message, in the encodings that `xml-flatten` reads: by the byte order mark, or else by the
//! declaration.

/// UTF-16 without a mark begins like this, in either order: the plugin asks for a declaration then.
const WIDE: [&[u8]; 2] = [b"<\0?\0", b"\0<\0?"];

/// What windows-1252 has in the place of the control characters 0x80 to 0x9f; 0: nothing.
const WINDOWS: [u16; 32] = [
    0x20ac, 0, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039,
    0x0152, 0, 0x017d, 0, 0, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc,
    0x2122, 0x0161, 0x203a, 0x0153, 0, 0x017e, 0x0178,
];

/// `Err` says why there is no text.
pub fn decode(message: &[u8]) -> Result<String, String> {
    let wide = |body: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, rest) = body.as_chunks::<2>();
        let units = pairs.iter().map(|pair| unit(*pair));
        let text: Result<String, _> = char::decode_utf16(units).collect();
        let text = text.ok().filter(|_| rest.is_empty());
        text.ok_or_else(|| "not UTF-16, though it begins so".to_owned())
    };
    match message {
        [0xef, 0xbb, 0xbf, body @ ..] => utf8(body),
        [0xff, 0xfe, body @ ..] => wide(body, u16::from_le_bytes),
        [0xfe, 0xff, body @ ..] => wide(body, u16::from_be_bytes),
        _ if message.starts_with(WIDE[0]) => wide(message, u16::from_le_bytes),
        _ if message.starts_with(WIDE[1]) => wide(message, u16::from_be_bytes),
        _ => match declared(message).as_deref() {
            None | Some("utf-8" | "utf8" | "us-ascii" | "ascii") => utf8(message),
            Some("iso-8859-1" | "iso_8859-1" | "latin1") => {
                Ok(message.iter().map(|byte| char::from(*byte)).collect())
            }
            Some("windows-1252" | "cp1252" | "cp-1252") => windows(message),
            Some(other) => Err(format!(
                "xml-flatten does not read the encoding {other:?} (encoding_not_supported)"
            )),
        },
    }
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    let text = str::from_utf8(bytes).map_err(|e| format!("not UTF-8: {e}"))?;
    Ok(text.to_owned())
}

fn windows(message: &[u8]) -> Result<String, String> {
    let one = |byte: &u8| match byte {
        0x80..=0x9f => match WINDOWS[usize::from(byte - 0x80)] {
            0 => Err(format!("windows-1252 has no character {byte:#04x}")),
            unit => Ok(char::from_u32(unit.into()).unwrap_or(char::REPLACEMENT_CHARACTER)),
        },
        byte => Ok(char::from(*byte)),
    };
    message.iter().map(one).collect()
}

/// The encoding that the XML declaration names, in small letters.
fn declared(message: &[u8]) -> Option<String> {
    let head = message.strip_prefix(b"<?xml")?;
    let end = head.iter().position(|byte| *byte == b'>')?;
    let declaration = String::from_utf8_lossy(&head[..end]);
    let (_, value) = declaration.split_once("encoding")?;
    let value = value.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (name, _) = value[1..].split_once(quote)?;
    Some(name.to_ascii_lowercase())
}
