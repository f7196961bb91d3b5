//! The rule for a column, read from the config and checked.
use weir_sdk::Config;

/// Shortest secret: below 128 bits a key is guessed sooner than a value.
pub const MIN_SECRET_BYTES: usize = 16;
/// Shortest hash: with 8 hex digits, two of 10,000 values are alike in one table of a hundred.
const MIN_PREFIX: usize = 8;
/// SHA-256 as hex digits; as base64url characters without padding.
const HEX_CHARS: usize = 64;
const BASE64_CHARS: usize = 43;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    Hash,
    Redact,
    KeepLast(usize),
    Truncate(usize),
    Null,
}

impl Rule {
    pub fn parse(spec: &str) -> Result<Self, String> {
        let spec = spec.trim();
        let (name, inside) = match spec.strip_suffix(')').and_then(|s| s.split_once('(')) {
            Some((name, inside)) => (name.trim(), Some(inside.trim())),
            None => (spec, None),
        };
        let count = || {
            inside
                .and_then(|n| n.parse::<u32>().ok())
                .map(|n| n as usize)
        };
        match (name, inside) {
            ("hash", None) => Some(Self::Hash),
            ("redact", None) => Some(Self::Redact),
            ("null", None) => Some(Self::Null),
            ("keep-last", Some(_)) => count().filter(|n| *n > 0).map(Self::KeepLast),
            ("truncate", Some(_)) => count().map(Self::Truncate),
            _ => None,
        }
        .ok_or_else(|| {
            format!("found `{spec}`, expected hash, redact, null, keep-last(n) or truncate(n)")
        })
    }

    /// Whether the column becomes a text, whatever it was.
    pub fn makes_text(self) -> bool {
        matches!(self, Self::Hash | Self::Redact)
    }

    /// Whether it works on the characters of a text, so on nothing else.
    pub fn needs_text(self) -> bool {
        matches!(self, Self::KeepLast(_) | Self::Truncate(_))
    }
}

/// How a hash is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Writing {
    pub hex: bool,
    pub chars: usize,
}

impl Writing {
    pub fn read(config: &mut Config) -> Self {
        let hex = config.choice("encoding", &["hex", "base64url"], "hex") == 0;
        let most = if hex { HEX_CHARS } else { BASE64_CHARS };
        let chars = config.number("prefix-length", most, MIN_PREFIX..=most);
        Self { hex, chars }
    }

    /// Appends the first characters of a hash.
    pub fn write(self, hash: &[u8], out: &mut Vec<u8>) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        const BASE64: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let from = out.len();
        if self.hex {
            for byte in hash {
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        } else {
            for chunk in hash.chunks(3) {
                let byte = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
                let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
                let letters = (0..=chunk.len()).map(|n| bits >> (18 - 6 * n) & 63);
                out.extend(letters.map(|letter| BASE64[letter as usize]));
            }
        }
        out.truncate(from + self.chars);
    }
}

/// The secret; a problem, which never shows it, where it is missing or weak.
pub fn secret(config: &mut Config, needed: bool) -> Vec<u8> {
    let secret = config.text("secret", "");
    let found = secret.len();
    if secret.is_empty() && needed {
        let message =
            "`secret` is missing: the key of the hashes, for instance \"${env:MASK_SECRET}\"";
        config.problem("secret", "missing_key", message);
    } else if needed && found < MIN_SECRET_BYTES {
        let message = format!(
            "the secret has {found} bytes, expected at least {MIN_SECRET_BYTES}; make one with `openssl rand -hex 32`"
        );
        config.problem("secret", "weak_secret", message);
    }
    secret.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_written_in_two_alphabets() {
        let write = |hex, chars, bytes: &[u8]| {
            let mut out = Vec::new();
            Writing { hex, chars }.write(bytes, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(write(true, 64, b"\x00\xff\x1a"), "00ff1a");
        assert_eq!(write(true, 3, b"\x00\xff\x1a"), "00f");
        // RFC 4648, section 10, without padding; and the two letters of its own.
        for (text, encoded) in [
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
        ] {
            assert_eq!(write(false, 43, text.as_bytes()), encoded);
        }
        assert_eq!(write(false, 43, b"\xfb\xff\xfe"), "-__-");
    }

    #[test]
    fn rules_are_words_or_words_with_a_number() {
        for (spec, rule) in [
            ("hash", Rule::Hash),
            ("keep-last(4)", Rule::KeepLast(4)),
            (" truncate( 0 ) ", Rule::Truncate(0)),
            ("null", Rule::Null),
            ("redact", Rule::Redact),
        ] {
            assert_eq!(Rule::parse(spec), Ok(rule));
        }
        for bad in [
            "",
            "sha1",
            "hash(3)",
            "keep-last",
            "keep-last(0)",
            "truncate(-1)",
            "truncate(x)",
        ] {
            assert!(Rule::parse(bad).is_err(), "{bad}");
        }
    }
}
