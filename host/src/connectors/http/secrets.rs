//! Secrets that were sent with a request, and what must not be told of them: in whatever form the other side repeats one,
//! it is cut out before a word of its answer is kept.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::Text;
use crate::error::Result;

/// Shorter secrets would be found in any text.
const SECRET_MIN: usize = 4;
const CUT_OUT: &str = "…";
/// Encodings over each other, such as JSON in JSON.
const DEPTH: usize = 2;
/// Bytes that one byte of a secret takes in two of them (`\u0026#x2B;`) …
const ENCODED_MAX: usize = 12;
/// … and in one, of which the end may be missing.
const ESCAPE_MAX: usize = 12;
const ESCAPES: &[u8] = b"\\%&";

/// As they are. Longest first: one may be a part of another.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    pub fn add(&mut self, secret: &str) {
        let secret = secret.trim();
        if secret.len() >= SECRET_MIN && !self.0.iter().any(|known| known == secret) {
            self.0.push(secret.to_owned());
            self.0.sort_by_key(|known| std::cmp::Reverse(known.len()));
        }
    }

    /// What the references of a text stand for.
    pub fn add_referred(&mut self, text: &Text) -> Result<()> {
        for secret in text.referred()? {
            self.add(&secret);
        }
        Ok(())
    }

    /// Those of another request too.
    pub fn extend(&mut self, others: &Secrets) {
        others.0.iter().for_each(|secret| self.add(secret));
    }

    /// A login as the header `Authorization` has it.
    pub fn add_login(&mut self, user: &str, password: &str) -> String {
        let encoded = STANDARD.encode(format!("{user}:{password}"));
        self.add(password);
        self.add(&encoded);
        encoded
    }

    /// So many bytes must be read beyond those that are kept, so that a secret at their end is known.
    pub fn longest(&self) -> usize {
        self.0.first().map_or(0, String::len) * ENCODED_MAX
    }

    /// The text without secrets, and then at most `most` bytes of it. `whole`: the text did not break off; otherwise what
    /// could be the beginning of a secret is taken from its end.
    pub fn redacted(&self, text: &str, most: usize, whole: bool) -> String {
        // A character that broke off.
        let text = match whole {
            true => text,
            false => text.trim_end_matches(char::REPLACEMENT_CHARACTER),
        };
        let (mut found, mut end) = (Vec::new(), text.len());
        for view in View::all(text) {
            for secret in &self.0 {
                view.find(secret.as_bytes(), &mut found);
                if !whole && let Some(from) = view.begun(secret) {
                    end = end.min(from);
                }
            }
        }
        found.sort_by_key(|range| range.start);
        let (mut out, mut at) = (String::new(), 0);
        for range in found {
            if range.start >= end {
                break;
            }
            if range.start >= at {
                out.push_str(text.get(at..range.start).unwrap_or_default());
                out.push_str(CUT_OUT);
            }
            at = at.max(range.end);
        }
        out.push_str(text.get(at..end).unwrap_or_default());
        while out.len() > most {
            out.pop();
        }
        out
    }
}

/// A text as somebody reads it who decodes it, and where each byte of that stands in the text.
struct View {
    bytes: Vec<u8>,
    /// One more than bytes.
    from: Vec<usize>,
}

/// Decodes what stands at the beginning: how many bytes it takes, and what it means.
type Decode = fn(&[u8]) -> Option<(usize, Vec<u8>)>;

impl View {
    /// The text as it is, and decoded up to [`DEPTH`] times in every way that changes it.
    fn all(text: &str) -> Vec<View> {
        let boundary = |at: &usize| text.is_char_boundary(*at);
        let begins = |at: usize| (0..=at).rev().find(boundary).unwrap_or(0);
        let mut all = vec![View {
            bytes: text.as_bytes().to_vec(),
            from: (0..=text.len()).map(begins).collect(),
        }];
        let mut done = 0;
        for _ in 0..DEPTH {
            let decoded = all[done..].iter().flat_map(|view| {
                let ways: [Decode; 4] = [json, url, form, entity];
                ways.into_iter().filter_map(|way| view.decoded(way))
            });
            let decoded: Vec<View> = decoded.collect();
            done = all.len();
            all.extend(decoded);
        }
        all
    }

    /// `None`: it is the same.
    fn decoded(&self, decode: Decode) -> Option<View> {
        let (mut bytes, mut from) = (Vec::new(), Vec::new());
        let (mut at, mut changed) = (0, false);
        while let Some(byte) = self.bytes.get(at) {
            let (taken, means) = match decode(&self.bytes[at..]) {
                Some(decoded) => {
                    changed = true;
                    decoded
                }
                None => (1, vec![*byte]),
            };
            from.extend(means.iter().map(|_| self.from[at]));
            bytes.extend(means);
            at += taken;
        }
        from.extend(self.from.last());
        changed.then_some(View { bytes, from })
    }

    /// Where it stands in the text.
    fn find(&self, secret: &[u8], found: &mut Vec<Range<usize>>) {
        let mut at = 0;
        while at + secret.len() <= self.bytes.len() {
            let end = at + secret.len();
            if self.bytes[at..end] == *secret {
                found.push(self.from[at]..self.from[end]);
                at = end;
            } else {
                at += 1;
            }
        }
    }

    /// Where in the text a secret begins with which it breaks off, perhaps in the middle of an escape.
    fn begun(&self, secret: &str) -> Option<usize> {
        let last = self.bytes.len().saturating_sub(ESCAPE_MAX)..self.bytes.len();
        let escapes = last.filter(|at| ESCAPES.contains(&self.bytes[*at]));
        let ends = escapes.chain([self.bytes.len()]);
        let begun = ends.filter_map(|end| {
            let parts = secret.char_indices().map(|(at, _)| at).skip(1);
            let is_end = |part: &usize| self.bytes[..end].ends_with(&secret.as_bytes()[..*part]);
            let longest = parts.filter(is_end).last()?;
            Some(self.from[end - longest])
        });
        begun.min()
    }
}

/// As JSON writes text; some write more escapes than they must.
fn json(rest: &[u8]) -> Option<(usize, Vec<u8>)> {
    let plain = |byte: u8| Some((2, vec![byte]));
    match (rest.first()?, *rest.get(1)?) {
        (b'\\', byte @ (b'/' | b'"' | b'\\')) => plain(byte),
        (b'\\', b'b') => plain(8),
        (b'\\', b'f') => plain(12),
        (b'\\', b'n') => plain(b'\n'),
        (b'\\', b'r') => plain(b'\r'),
        (b'\\', b't') => plain(b'\t'),
        (b'\\', b'u') => {
            let unit = |at: usize| u16::try_from(hex(rest.get(at..at + 4)?)?).ok();
            let first = unit(2)?;
            let second = match rest.get(6..8) {
                Some(b"\\u") => unit(8),
                _ => None,
            };
            let one = |units: &[u16]| Some(String::from_utf16(units).ok()?.into_bytes());
            match one(&[first]) {
                Some(means) => Some((6, means)),
                None => Some((12, one(&[first, second?])?)),
            }
        }
        _ => None,
    }
}

/// As a URL does.
fn url(rest: &[u8]) -> Option<(usize, Vec<u8>)> {
    let byte = match rest.first()? {
        b'%' => u8::try_from(hex(rest.get(1..3)?)?).ok()?,
        _ => return None,
    };
    Some((3, vec![byte]))
}

/// As `application/x-www-form-urlencoded` does.
fn form(rest: &[u8]) -> Option<(usize, Vec<u8>)> {
    match rest.first()? {
        b'+' => Some((1, vec![b' '])),
        _ => url(rest),
    }
}

/// As HTML and XML do.
fn entity(rest: &[u8]) -> Option<(usize, Vec<u8>)> {
    let name = rest.strip_prefix(b"&")?;
    let length = name.iter().take(ESCAPE_MAX).position(|b| *b == b';')?;
    let means = match &name[..length] {
        b"amp" => '&',
        b"lt" => '<',
        b"gt" => '>',
        b"quot" => '"',
        b"apos" => '\'',
        [b'#', b'x' | b'X', digits @ ..] => char::from_u32(hex(digits)?)?,
        [b'#', digits @ ..] => char::from_u32(std::str::from_utf8(digits).ok()?.parse().ok()?)?,
        _ => return None,
    };
    Some((length + 2, means.to_string().into_bytes()))
}

/// In either case; only digits.
fn hex(digits: &[u8]) -> Option<u32> {
    let all = digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| all)?;
    u32::from_str_radix(digits, 16).ok()
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(secrets: &[&str]) -> Secrets {
        let mut all = Secrets::default();
        for secret in secrets {
            all.add(secret);
        }
        all
    }

    #[test]
    fn what_the_api_says_back_shows_no_secret_in_any_form() {
        let mut secrets = of(&["hunter22", "ab", "p\"ss w/rd"]);
        let login = secrets.add_login("weir", "hunter22");
        for (told, kept) in [
            ("token hunter22 of abc", "token … of abc"),
            ("{\"got\":\"p\\\"ss w/rd\"}", "{\"got\":\"…\"}"),
            ("client_secret=p%22ss+w%2Frd&x=1", "client_secret=…&x=1"),
            ("?key=p%22ss%20w%2Frd", "?key=…"),
            (&format!("Basic {login}"), "Basic …"),
        ] {
            assert_eq!(secrets.redacted(told, 1000, true), kept);
        }
    }

    /// PHP, System.Text.Json, Gson, JavaScript, XML, and JSON in JSON or in a query.
    #[test]
    fn an_encoding_that_writes_more_escapes_than_it_must_hides_no_secret() {
        let secrets = of(&["a+b/c=d&é😀"]);
        for told in [
            "a+b\\/c=d&é😀",
            "a\\u002Bb/c\\u003dd\\u0026\\u00e9\\uD83D\\uDE00",
            "a%2bb%2fc%3dd%26%c3%a9%F0%9F%98%80",
            "a%2Bb/c=d&%C3%A9😀",
            "a&#43;b&#x2F;c=d&amp;&#233;😀",
            "a+b\\\\\\/c=d\\\\u0026é😀",
            "a%252Bb%252Fc=d%26é😀",
            "a+b%5C%2Fc=d%5Cu0026é😀",
        ] {
            let text = format!("<{told}> 100% \\u00zz &nbsp; a+b");
            let kept = "<…> 100% \\u00zz &nbsp; a+b";
            assert_eq!(secrets.redacted(&text, 1000, true), kept, "{told}");
            // Whatever is missing of it.
            for (cut, _) in told.char_indices() {
                let begun = format!("<{}", &told[..cut]);
                assert_eq!(secrets.redacted(&begun, 1000, false), "<", "{begun}");
            }
            assert!(told.len() <= secrets.longest());
        }
        let broken = String::from_utf8_lossy(&"<a+b/c=d&é".as_bytes()[..10]).into_owned();
        assert_eq!(secrets.redacted(&broken, 1000, false), "<");
        assert_eq!(secrets.redacted("a+b/c=d", 1000, true), "a+b/c=d");
        let twice = of(&["hunter22", "hunter22-long"]);
        let told = "hunter22hunter22-long, hunter22";
        assert_eq!(twice.redacted(told, 1000, true), "……, …");
    }

    /// Neither the limit nor a connection that breaks off leaves a part of a secret.
    #[test]
    fn a_secret_at_the_end_of_a_text_that_is_cut_is_not_shown_in_part() {
        let secrets = of(&["hunter22"]);
        for cut in 0..8 {
            let told = format!("your token is {}", &"hunter22"[..cut]);
            assert_eq!(secrets.redacted(&told, 1000, false), "your token is ");
            // All of it was read, and a part of it would be kept.
            let most = "your token is ".len() + cut;
            let kept = secrets.redacted("your token is hunter22", most, true);
            assert!(!kept.contains('h'), "{kept}");
        }
        assert_eq!(secrets.redacted("not hunted", 1000, false), "not hunted");
    }

    #[test]
    fn each_reference_of_a_text_is_a_secret_of_its_own() {
        let home = std::env::var("HOME").unwrap();
        let mut secrets = Secrets::default();
        let text = Text::new("Key ${env:HOME}; v=1; again ${env:WEIR_NOT_SET:-other-one}");
        secrets.add_referred(&text).unwrap();
        let told = format!("{home} and other-one, v=1");
        assert_eq!(secrets.redacted(&told, 1000, true), "… and …, v=1");
        secrets.add_referred(&Text::new("plain")).unwrap();
        assert_eq!(secrets.redacted("plain", 1000, true), "plain");
    }
}
