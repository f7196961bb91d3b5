//! An inferred map as TOML that people go on editing: keys with what was seen beside them.

use std::fmt;

/// Comments begin in this column, where the key leaves room.
const COMMENT_AT: usize = 44;
/// Unreadable messages that are told one by one.
const TOLD: usize = 3;

/// One line of TOML, and what was seen.
#[derive(Clone, Debug)]
pub struct Line {
    text: String,
    note: String,
}

impl Line {
    pub fn new(text: impl Into<String>) -> Line {
        Line::noted(text, "")
    }

    pub fn noted(text: impl Into<String>, note: impl Into<String>) -> Line {
        Line {
            text: text.into(),
            note: comment(&note.into()),
        }
    }

    fn write(&self, indent: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{indent}{}", self.text);
        match self.note.as_str() {
            "" => writeln!(f, "{text}"),
            note => writeln!(f, "{text:<COMMENT_AT$} # {note}"),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Page {
    pub head: Vec<String>,
    pub keys: Vec<Line>,
    pub columns: Vec<Line>,
    pub types: Vec<Line>,
    pub repeats: Vec<Line>,
    pub notes: Vec<String>,
    unread: usize,
    told: Vec<String>,
}

impl Page {
    /// Message `n` (from 0) could not be read.
    pub fn unread(&mut self, n: usize, why: String) {
        self.unread += 1;
        if self.told.len() < TOLD {
            self.told.push(format!("message {n} cannot be read: {why}"));
        }
    }

    /// Why there is no map: nothing could be read.
    pub fn nothing(&self, format: &str) -> String {
        let why = self.told.first().map_or("there is none", String::as_str);
        format!("no message is {format}: {why}")
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.head.iter().chain(&self.told) {
            writeln!(f, "# {line}")?;
        }
        if self.unread > self.told.len() {
            writeln!(f, "# and {} more messages", self.unread - self.told.len())?;
        }
        writeln!(f, "[[transforms]]\nname = \"flatten\"")?;
        self.keys.iter().try_for_each(|line| line.write("", f))?;
        writeln!(f, "columns = [")?;
        self.columns
            .iter()
            .try_for_each(|line| line.write("  ", f))?;
        writeln!(f, "]")?;
        self.types.iter().try_for_each(|line| line.write("", f))?;
        self.repeats.iter().try_for_each(|line| line.write("", f))?;
        self.notes
            .iter()
            .try_for_each(|note| writeln!(f, "# {}", comment(note)))
    }
}

/// A TOML string; what JSON escapes, TOML does too.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// TOML's comments hold no control characters.
pub fn comment(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// A part of a dotted key, quoted where TOML wants it.
pub fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !name.is_empty() && name.chars().all(bare) {
        true => name.to_owned(),
        false => quoted(name),
    }
}

/// `1 to 5`, or `3` where all are the same.
pub fn some_of(numbers: &[usize]) -> String {
    let (low, high) = (
        numbers.iter().min().unwrap_or(&0),
        numbers.iter().max().unwrap_or(&0),
    );
    match low == high {
        true => low.to_string(),
        false => format!("{low} to {high}"),
    }
}
