//! JSON that keeps numbers as they were written: a double, a decimal and a whole number of any size do not change.
//!
//! `serde_json`'s own value keeps only 64-bit numbers, and sometimes reads a neighbour of the written double. Values
//! that belong to users are read by this module.

use std::collections::HashMap;
use std::fmt;

use serde::de::IgnoredAny;

/// Depth of nested lists and objects, as in `serde_json`.
const MAX_DEPTH: usize = 128;

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Json {
    #[default]
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Json>),
    /// Members in the order they were written; of two with the same name the later counts.
    Object(Vec<(String, Json)>),
}

/// The text of a JSON number. Two are equal if their values are: `1.50` is `15e-1`.
#[derive(Clone, Debug)]
pub struct Number(String);

/// Whether a text is JSON. `Err` says what is wrong and where.
pub fn check(text: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(text).map_err(|e| format!("not UTF-8: {e}"))?;
    serde_json::from_str::<IgnoredAny>(text)
        .map(|_| ())
        .map_err(|e| e.to_string())
}

impl Json {
    /// `Err` says what is wrong and where.
    pub fn parse(text: &[u8]) -> Result<Json, String> {
        serde_json::from_slice::<IgnoredAny>(text).map_err(|e| e.to_string())?;
        let text = std::str::from_utf8(text).map_err(|e| format!("not UTF-8: {e}"))?;
        Scan { text, at: 0 }.value(0)
    }

    pub fn as_list(&self) -> Option<&[Json]> {
        match self {
            Json::List(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_object(&self) -> Option<&[(String, Json)]> {
        match self {
            Json::Object(members) => Some(members),
            _ => None,
        }
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The member of an object.
    pub fn get(&self, name: &str) -> Option<&Json> {
        let members = self.as_object()?.iter();
        members.rev().find(|(n, _)| n == name).map(|(_, v)| v)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(value) => write!(f, "{value}"),
            Json::Number(Number(text)) => f.write_str(text),
            Json::Text(text) => f.write_str(&quoted(text)),
            Json::List(items) => {
                let items: Vec<String> = items.iter().map(Json::to_string).collect();
                write!(f, "[{}]", items.join(","))
            }
            Json::Object(members) => {
                let member = |(name, value): &(String, Json)| format!("{}:{value}", quoted(name));
                let members: Vec<String> = members.iter().map(member).collect();
                write!(f, "{{{}}}", members.join(","))
            }
        }
    }
}

/// Reads a text that is known to be JSON.
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl Scan<'_> {
    fn value(&mut self, depth: usize) -> Result<Json, String> {
        if depth > MAX_DEPTH {
            return Err(format!(
                "more than {MAX_DEPTH} lists and objects inside each other"
            ));
        }
        match self.peek() {
            b'{' => self.object(depth),
            b'[' => {
                let mut items = Vec::new();
                self.at += 1;
                while self.more(b']') {
                    items.push(self.value(depth + 1)?);
                }
                Ok(Json::List(items))
            }
            b'"' => Ok(Json::Text(self.string()?)),
            _ => {
                let rest = self.text.get(self.at..).unwrap_or_default();
                let end = rest.find([',', ']', '}', ' ', '\t', '\r', '\n']);
                let word = &rest[..end.unwrap_or(rest.len())];
                self.at += word.len();
                Ok(match word {
                    "null" => Json::Null,
                    "true" => Json::Bool(true),
                    "false" => Json::Bool(false),
                    number => Json::Number(Number(number.to_owned())),
                })
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, String> {
        let mut members: Vec<(String, Json)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        self.at += 1;
        while self.more(b'}') {
            let name = self.string()?;
            self.peek();
            self.at += 1; // the colon
            let value = self.value(depth + 1)?;
            match places.get(&name) {
                Some(place) => members[*place].1 = value,
                None => {
                    places.insert(name.clone(), members.len());
                    members.push((name, value));
                }
            }
        }
        Ok(Json::Object(members))
    }

    /// The next byte that is not white space; 0 at the end.
    fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(|b| b" \t\r\n".contains(b)) {
            self.at += 1;
        }
        bytes.get(self.at).copied().unwrap_or(0)
    }

    /// True: another item comes next. False: the list or object has ended and its end was read.
    fn more(&mut self, end: u8) -> bool {
        if self.peek() == b',' {
            self.at += 1;
        }
        let next = self.peek();
        if next == end {
            self.at += 1;
        }
        next != end && next != 0
    }

    fn string(&mut self) -> Result<String, String> {
        let bytes = self.text.as_bytes();
        let from = self.at;
        self.at += 1;
        while let Some(byte) = bytes.get(self.at) {
            self.at += if *byte == b'\\' { 2 } else { 1 };
            if *byte == b'"' {
                break;
            }
        }
        let quoted = self.text.get(from..self.at).unwrap_or_default();
        serde_json::from_str(quoted).map_err(|e| e.to_string())
    }
}

impl Number {
    pub fn text(&self) -> &str {
        &self.0
    }

    /// No fraction and no exponent is written.
    pub fn is_whole(&self) -> bool {
        !self.0.contains(['.', 'e', 'E'])
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        match (Decimal::parse(&self.0), Decimal::parse(&other.0)) {
            (Some(a), Some(b)) => a == b,
            _ => self.0 == other.0,
        }
    }
}

/// A number by its decimal digits: `-0.0120` is negative, `12`, exponent −3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    /// Neither the first nor the last is a zero; empty for zero.
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// `[+-]digits[.digits][e[+-]digits]`
    pub fn parse(text: &str) -> Option<Decimal> {
        let negative = text.starts_with('-');
        let text = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = [whole, fraction].concat();
        if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        let cut = all.trim_end_matches('0');
        let zeros = i64::try_from(all.len() - cut.len()).ok()?;
        let digits = cut.trim_start_matches('0').to_owned();
        Some(Decimal {
            negative,
            exponent: if digits.is_empty() {
                0
            } else {
                exponent.checked_add(zeros)?
            },
            digits,
        })
    }

    /// The number times ten to the `scale`; `None` if that is no whole number, or has more than 38 digits.
    pub fn scaled(&self, scale: u8) -> Option<i128> {
        if self.digits.is_empty() {
            return Some(0);
        }
        let zeros = usize::try_from(self.exponent.checked_add(scale.into())?).ok()?;
        if zeros > 38 || self.digits.len() + zeros > 38 {
            return None;
        }
        let number: i128 = format!("{}{}", self.digits, "0".repeat(zeros))
            .parse()
            .ok()?;
        Some(if self.negative { -number } else { number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Json {
        Json::parse(text.as_bytes()).expect(text)
    }

    #[test]
    fn numbers_stay_as_they_were_written() {
        let text = r#"{"a":[7311704574626553.0,12345678901234567890123,-0],"b":{"é\"":1e400},"c":null,"d":"\u00e9\\"}"#;
        assert_eq!(parsed(text).to_string(), text.replace("\\u00e9", "é"));
        assert_eq!(
            parsed(" [ 1 , { } , [ ] , true ] ").to_string(),
            "[1,{},[],true]"
        );
        assert_eq!(
            parsed(r#"{"a":1,"b":2,"a":3}"#).to_string(),
            r#"{"a":3,"b":2}"#
        );
        assert_eq!(parsed("[1.50, 100]"), parsed("[15e-1,1E2]"));
        assert_ne!(parsed("7311704574626553.0"), parsed("7311704574626554.0"));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for bad in [
            "",
            "{",
            "01",
            "[1,]",
            "1 2",
            "nul",
            "\"\u{1}\"",
            r#""\ud800""#,
            "{'a':1}",
        ] {
            assert!(Json::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Json::parse(b"\"\xff\"").is_err());
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(Json::parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn a_decimal_is_exact_or_none() {
        let scaled = |text: &str, scale| Decimal::parse(text).expect(text).scaled(scale);
        assert_eq!(scaled("-12.50", 2), Some(-1250));
        assert_eq!(scaled("1.25e1", 1), Some(125));
        assert_eq!(scaled("12.505", 2), None);
        assert_eq!(scaled("1e3", 0), Some(1000));
        assert_eq!(scaled("1e40", 0), None);
        assert_eq!(scaled("0e99999", 3), Some(0));
        let long = "12345678901234567890123456789012345678";
        assert_eq!(scaled(long, 0), long.parse().ok());
        for bad in ["", "-", ".", "1e", "0x1", "1_0", "NaN"] {
            assert_eq!(Decimal::parse(bad), None, "{bad}");
        }
    }
}
