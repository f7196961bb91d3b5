//! Whom a client of HTTPS trusts, and who it says it is: files that a config names.

use super::Text;

/// Files of TLS, each with the key that names it.
#[derive(Clone, Debug)]
pub struct Trust {
    pub ca: Option<(&'static str, Text)>,
    pub certificate: Option<(&'static str, Text)>,
    pub key: Option<(&'static str, Text)>,
}

impl Trust {
    /// `keys`: of the authorities, the certificate and its key; `text` gives the value of a key.
    pub fn of(keys: [&'static str; 3], text: impl Fn(&str) -> Option<Text>) -> Trust {
        let [ca, certificate, key] = keys.map(|key| Some((key, text(key)?)));
        Trust {
            ca,
            certificate,
            key,
        }
    }

    pub fn files(&self) -> impl Iterator<Item = (&'static str, &Text)> {
        let all = [&self.ca, &self.certificate, &self.key];
        all.into_iter()
            .filter_map(|file| file.as_ref().map(|(key, text)| (*key, text)))
    }
}
