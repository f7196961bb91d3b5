//! What was typed: a flat map, string → string with dotted keys, each key with its place.
//!
//! A TOML file is the same map, nested; `.properties` and Connect's JSON are read too ([`super::read`]). Profiles and
//! `--set` override it, and the last one wins. Nothing here knows what a key means.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::problem::{self, Place, Problem};
use super::reach::Reach;
use super::text::Text;

/// Always in the canonical map, so that Connect's clients find what they compare.
pub const CONNECTOR_CLASS: &str = "connector.class";
pub const OUR_CLASS: &str = "weir";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub value: Text,
    pub place: Place,
}

/// One pipeline's map, and the maps of its profiles.
#[derive(Clone)]
pub struct Raw {
    /// As given on the command line.
    pub file: Arc<str>,
    /// The reach of all its values.
    reach: Reach,
    entries: BTreeMap<String, Entry>,
    profiles: BTreeMap<String, BTreeMap<String, Entry>>,
}

impl Raw {
    /// A map from the operator's file.
    pub fn new(file: &str) -> Raw {
        Raw::within(file, &Reach::default())
    }

    pub fn within(file: &str, reach: &Reach) -> Raw {
        Raw {
            file: file.into(),
            reach: reach.clone(),
            entries: BTreeMap::new(),
            profiles: BTreeMap::new(),
        }
    }

    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// A value made from values of this map, with the same reach.
    pub fn text(&self, typed: impl Into<String>) -> Text {
        Text::within(typed, &self.reach)
    }

    /// Adds a key of the file; a repeated key is a problem, and the first one stays.
    pub fn insert(&mut self, key: String, value: String, place: Place) -> Result<(), Problem> {
        let value = self.text(value);
        insert(&mut self.entries, key, value, place)
    }

    pub fn insert_in_profile(
        &mut self,
        profile: &str,
        key: String,
        value: String,
        place: Place,
    ) -> Result<(), Problem> {
        let value = self.text(value);
        let overlay = self.profiles.entry(profile.to_owned()).or_default();
        insert(overlay, key, value, place)
    }

    /// Notes a profile, which may have no keys.
    pub fn declare_profile(&mut self, profile: &str) {
        self.profiles.entry(profile.to_owned()).or_default();
    }

    /// Overrides the map with a profile; false: the file has none of this name.
    pub fn apply_profile(&mut self, profile: &str) -> bool {
        let Some(overlay) = self.profiles.get(profile).cloned() else {
            return false;
        };
        self.entries.extend(overlay);
        true
    }

    pub fn profiles(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(String::as_str)
    }

    /// `--set key=value`: overrides everything.
    pub fn set(&mut self, key: &str, value: &str, number: u32) {
        let entry = Entry {
            value: self.text(value),
            place: Place::Set(number),
        };
        self.entries.insert(key.to_owned(), entry);
    }

    /// Sets a default from the worker's file; an existing value stays.
    pub fn default(&mut self, key: &str, value: Text) {
        let place = self.start_of_file();
        let entry = Entry { value, place };
        self.entries.entry(key.to_owned()).or_insert(entry);
    }

    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries
            .iter()
            .map(|(key, entry)| (key.as_str(), entry))
    }

    pub fn start_of_file(&self) -> Place {
        Place::File {
            file: Arc::clone(&self.file),
            line: 1,
            column: 1,
        }
    }

    /// Where a key was typed. For a missing key: the first key of its nearest table, or else the file's first line.
    pub fn place(&self, key: &str) -> Place {
        if let Some(entry) = self.entries.get(key) {
            return entry.place.clone();
        }
        let mut prefix = key;
        while let Some((table, _)) = prefix.rsplit_once('.') {
            let dotted = format!("{table}.");
            let below = self.entries.range(dotted.clone()..);
            let first = below
                .take_while(|(k, _)| k.starts_with(&dotted))
                .map(|(_, entry)| entry.place.clone())
                .filter(|place| matches!(place, Place::File { .. }))
                .min();
            if let Some(place) = first {
                return place;
            }
            prefix = table;
        }
        self.start_of_file()
    }

    /// String → string, references unresolved, `connector.class` always there.
    pub fn canonical(&self) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, String> = self
            .entries
            .iter()
            .map(|(key, entry)| (key.clone(), entry.value.typed().to_owned()))
            .collect();
        all.entry(CONNECTOR_CLASS.to_owned())
            .or_insert_with(|| OUR_CLASS.to_owned());
        all
    }
}

fn insert(
    into: &mut BTreeMap<String, Entry>,
    key: String,
    value: Text,
    place: Place,
) -> Result<(), Problem> {
    if let Some(first) = into.get(&key) {
        let message = format!("`{key}` is given twice; the first is at {}", first.place);
        return Err(Problem::new(place, key, problem::DUPLICATE, message)
            .hint("keep one of them; a quoted \"a.b\" and a table [a] with b are the same key"));
    }
    into.insert(key, Entry { value, place });
    Ok(())
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.canonical()).finish()
    }
}
