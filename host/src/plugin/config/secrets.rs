//! Secrets for a guest: never printed, and removed from whatever the guest says.

use std::fmt;
use std::sync::Arc;

/// A config with its secrets, and what to show in their place.
pub struct Revealed {
    text: String,
    hidden: Hidden,
}

impl Revealed {
    /// `secrets`: the value of each reference, and the reference as typed.
    pub fn new(text: String, secrets: Vec<(String, String)>) -> Self {
        Revealed {
            text,
            hidden: Hidden::new(secrets),
        }
    }

    /// The text with secrets, only for `init`.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn hidden(&self) -> &Hidden {
        &self.hidden
    }
}

impl fmt::Debug for Revealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Revealed")
    }
}

/// Values that no message may contain, each with the reference that is shown instead. This protects against accidents
/// (a panic that prints the config), not against malice: a guest can encode a secret before it writes it.
#[derive(Clone, Default)]
pub struct Hidden {
    /// Longest first, so that no part of a longer secret is left.
    secrets: Arc<Vec<(String, String)>>,
}

impl Hidden {
    fn new(mut secrets: Vec<(String, String)>) -> Self {
        secrets.retain(|(value, typed)| !value.is_empty() && value != typed);
        secrets.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
        Hidden {
            secrets: Arc::new(secrets),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    pub fn scrub(&self, text: &mut String) {
        for (value, typed) in self.secrets.iter() {
            if text.contains(value.as_str()) {
                *text = text.replace(value.as_str(), typed);
            }
        }
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hidden({})", self.secrets.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_as_its_reference() {
        let pairs = [
            ("key", "${env:A}"),
            ("keychain", "${env:B}"),
            ("", "${env:C}"),
            ("x", "x"),
        ];
        let pairs = pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
        let revealed = Revealed::new("{\"k\":\"keychain\"}".to_owned(), pairs);
        let mut text = "keychain, key and x".to_owned();
        revealed.hidden().scrub(&mut text);
        assert_eq!(text, "${env:B}, ${env:A} and x");
        assert_eq!(
            format!("{revealed:?} {:?}", revealed.hidden()),
            "Revealed Hidden(2)"
        );
    }
}
