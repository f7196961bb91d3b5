//! Patterns: regular expressions that a whole text must match, compiled to a table once, linear in the text.
//! `\d`, `\w` and `\s` mean ASCII; `.` and classes mean characters.
use std::fmt;

use regex_automata::Anchored;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};

#[derive(Debug)]
pub struct Pattern {
    text: String,
    table: dense::DFA<Vec<u32>>,
    start: StateID,
}

/// What the table of one pattern may take, and what building it may take.
const TABLE_BYTES: usize = 4 << 20;

impl Pattern {
    pub fn compile(text: &str) -> Result<Self, String> {
        let syntax = syntax::Config::new().nest_limit(64);
        let ascii = ascii_classes(text);
        // Alone first: a text such as `a)(b` must not close the group it is put into.
        syntax::parse_with(&ascii, &syntax).map_err(|error| last_line(&error.to_string()))?;
        let config = dense::Config::new()
            .start_kind(StartKind::Anchored)
            .dfa_size_limit(Some(TABLE_BYTES))
            .determinize_size_limit(Some(TABLE_BYTES));
        let whole = format!("^(?:{ascii})$");
        let table = dense::Builder::new()
            .syntax(syntax)
            .thompson(thompson::Config::new().nfa_size_limit(Some(TABLE_BYTES)))
            .configure(config)
            .build(&whole);
        let table = table.map_err(|error| format!("{error}; it may be too large"))?;
        let start = start::Config::new().anchored(Anchored::Yes);
        let start = table.start_state(&start).map_err(|e| e.to_string())?;
        Ok(Self {
            text: text.to_owned(),
            table,
            start,
        })
    }

    #[inline]
    pub fn matches(&self, text: &[u8]) -> bool {
        // `$` is part of the pattern, so only the step behind the last byte can match.
        let step = |state, byte: &u8| self.table.next_state(state, *byte);
        let last = text.iter().fold(self.start, step);
        self.table.is_match_state(self.table.next_eoi_state(last))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The reason; the lines before it draw the pattern.
fn last_line(text: &str) -> String {
    let line = text.lines().last().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

/// The Perl classes as plain ones; nested classes make that work inside brackets too.
fn ascii_classes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some('w') => out.push_str("[0-9A-Za-z_]"),
            Some('W') => out.push_str("[^0-9A-Za-z_]"),
            Some('s') => out.push_str("[\\t\\n\\v\\f\\r ]"),
            Some('S') => out.push_str("[^\\t\\n\\v\\f\\r ]"),
            Some('b') => out.push_str("(?-u:\\b)"),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_for_the_whole_text() {
        for (pattern, good, bad) in [
            (r"[A-Z]{2}\d{3}", "AB123", "xAB123"),
            (r"a|ab", "ab", "abc"),
            (r"\w+[\s-]\w+", "one-two", "één-two"),
            (r"[\D]+", "äöü", "a1"),
            (r".{2}", "é😀", "é"),
            (r"(?:\+\d+)?x*", "", "+"),
            (r"\bfoo\b.*", "foo bar", "foobar"),
        ] {
            let compiled = Pattern::compile(pattern).unwrap();
            assert!(compiled.matches(good.as_bytes()), "{pattern} on {good}");
            assert!(!compiled.matches(bad.as_bytes()), "{pattern} on {bad}");
        }
    }

    #[test]
    fn what_cannot_be_built_is_said() {
        for bad in ["(", "a)(b", "[z-a]", r"\q", "a{5000}{5000}", r"(a)\1"] {
            assert!(Pattern::compile(bad).is_err(), "{bad}");
        }
    }
}
