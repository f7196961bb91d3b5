//! The JSON that a plugin needs: it reads its config and writes texts.
use std::collections::BTreeMap;

/// Objects nested deeper than this are refused: a config is flat.
const MAX_DEPTH: usize = 32;

/// Reads a JSON object into a flat map: tables join with dots, arrays of scalars with commas.
/// `null` counts as absent. Numbers keep the text they have.
pub fn flat(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut reader = Reader {
        bytes: text.as_bytes(),
        at: 0,
    };
    let mut map = BTreeMap::new();
    reader.object("", &mut map, 0)?;
    reader.blank();
    match reader.peek() {
        None => Ok(map),
        Some(_) => Err(reader.fail("the end")),
    }
}

/// Appends `text` as a JSON string.
pub fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn fail(&self, expected: &str) -> String {
        format!(
            "the config is not JSON: expected {expected} at byte {}",
            self.at
        )
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        self.blank();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn object(
        &mut self,
        prefix: &str,
        map: &mut BTreeMap<String, String>,
        depth: usize,
    ) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(self.fail("fewer nested objects"));
        }
        if !self.eat(b'{') {
            return Err(self.fail("an object"));
        }
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            self.blank();
            let key = format!("{prefix}{}", self.string()?);
            if !self.eat(b':') {
                return Err(self.fail("':'"));
            }
            self.blank();
            match self.peek() {
                Some(b'{') => self.object(&format!("{key}."), map, depth + 1)?,
                Some(b'[') => {
                    let value = self.array()?;
                    map.insert(key, value);
                }
                _ => {
                    if let Some(value) = self.scalar()? {
                        map.insert(key, value);
                    }
                }
            }
            if self.eat(b'}') {
                return Ok(());
            }
            if !self.eat(b',') {
                return Err(self.fail("',' or '}'"));
            }
        }
    }

    fn array(&mut self) -> Result<String, String> {
        self.at += 1;
        let mut values = Vec::new();
        if self.eat(b']') {
            return Ok(String::new());
        }
        loop {
            self.blank();
            values.extend(self.scalar()?);
            if self.eat(b']') {
                return Ok(values.join(","));
            }
            if !self.eat(b',') {
                return Err(self.fail("',' or ']'"));
            }
        }
    }

    fn scalar(&mut self) -> Result<Option<String>, String> {
        if self.peek() == Some(b'"') {
            return self.string().map(Some);
        }
        let from = self.at;
        while self
            .peek()
            .is_some_and(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        {
            self.at += 1;
        }
        let word = str::from_utf8(&self.bytes[from..self.at]).unwrap_or("");
        match word {
            "null" => Ok(None),
            "true" | "false" => Ok(Some(word.into())),
            _ if word.parse::<f64>().is_ok_and(f64::is_finite) => Ok(Some(word.into())),
            _ => Err(self.fail("a value")),
        }
    }

    fn string(&mut self) -> Result<String, String> {
        if self.peek() != Some(b'"') {
            return Err(self.fail("a string"));
        }
        self.at += 1;
        let mut out = Vec::new();
        loop {
            let byte = self.peek().ok_or_else(|| self.fail("'\"'"))?;
            self.at += 1;
            match byte {
                b'"' => return String::from_utf8(out).map_err(|_| self.fail("UTF-8")),
                b'\\' => self.escape(&mut out)?,
                _ => out.push(byte),
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        let byte = self.peek().ok_or_else(|| self.fail("an escape"))?;
        self.at += 1;
        match byte {
            b'"' | b'\\' | b'/' => out.push(byte),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let mut code = self.hex4()?;
                if (0xD800..0xDC00).contains(&code) && self.bytes[self.at..].starts_with(b"\\u") {
                    self.at += 2;
                    let low = self.hex4()?;
                    code = 0x10000 + ((code - 0xD800) << 10) + (low.wrapping_sub(0xDC00) & 0x3FF);
                }
                let c = char::from_u32(code).ok_or_else(|| self.fail("a character"))?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return Err(self.fail("an escape")),
        }
        Ok(())
    }

    fn hex4(&mut self) -> Result<u32, String> {
        let digits = self
            .bytes
            .get(self.at..self.at + 4)
            .and_then(|d| str::from_utf8(d).ok());
        let code = digits.and_then(|d| u32::from_str_radix(d, 16).ok());
        self.at += 4;
        code.ok_or_else(|| self.fail("four hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_and_flat_configs_read_the_same() {
        let nested = r#"{"columns":{"a":"x/y"},"list":["a","b"],"n":3,"t":true,"gone":null}"#;
        let flat_ = r#"{"columns.a":"x/y","list":"a,b","n":"3","t":"true"}"#;
        assert_eq!(flat(nested).unwrap(), flat(flat_).unwrap());
    }

    #[test]
    fn strings_survive_quoting() {
        let text = "a\"\\\n\u{1}é😀";
        let mut quoted = String::from("{\"k\":");
        quote(text, &mut quoted);
        quoted.push('}');
        assert_eq!(flat(&quoted).unwrap()["k"], text);
        assert_eq!(flat(r#"{"k":"\ud83d\ude00"}"#).unwrap()["k"], "😀");
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for bad in [
            "",
            "{",
            "[]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1}x",
            "{\"a\":\"\\q\"}",
            "{\"a\":tru}",
        ] {
            assert!(flat(bad).is_err(), "{bad}");
        }
    }
}
