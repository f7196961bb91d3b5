//! The terminal's width, and folding of text to it. Text for a file or a pipe is never folded.

use std::io::{self, IsTerminal};

/// A line of prose is no longer than this on a wide terminal either, as `--help` is.
const WIDEST: usize = 100;
/// A terminal narrower than this gets lines for this width.
const NARROWEST: usize = 40;
/// A label at the start of a line (`records …`) ends within this many columns; folded lines begin below the text after
/// it.
const LABEL: usize = 20;

/// Columns of the terminal behind stdout or stderr. `None`: it is none.
pub fn width(of: &(impl IsTerminal + std::os::fd::AsFd)) -> Option<usize> {
    if !of.is_terminal() {
        return None;
    }
    let (width, _) = terminal_size::terminal_size_of(of)?;
    Some(usize::from(width.0).max(NARROWEST))
}

/// For lines on stdout; whole where that is no terminal.
pub fn on_stdout(text: &str) -> String {
    fold(text, width(&io::stdout()))
}

pub fn on_stderr(text: &str) -> String {
    fold(text, width(&io::stderr()))
}

/// Log lines, which may be as wide as the terminal is.
pub fn logged_on_stderr(text: &str) -> String {
    match width(&io::stderr()) {
        Some(width) => fold_within(text, width),
        None => text.to_owned(),
    }
}

/// Folds lines between words, so that none is wider; text without blanks is not divided.
pub fn fold(text: &str, width: Option<usize>) -> String {
    match width {
        Some(width) => fold_within(text, width.min(WIDEST)),
        None => text.to_owned(),
    }
}

fn fold_within(text: &str, width: usize) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for (at, line) in text.split('\n').enumerate() {
        if at > 0 {
            out.push('\n');
        }
        if columns(line) <= width {
            out.push_str(line);
        } else {
            fold_line(line, width, hang(line), &mut out);
        }
    }
    out
}

/// One line; those after the first begin `hang` columns in.
pub fn fold_hanging(line: &str, width: usize, hang: usize) -> String {
    let mut out = String::with_capacity(line.len() + 16);
    fold_line(line, width.min(WIDEST), hang, &mut out);
    out
}

fn fold_line(line: &str, width: usize, hang: usize, out: &mut String) {
    let hang = " ".repeat(hang);
    let mut used = 0;
    // A word with the blanks before it.
    let mut rest = line;
    while !rest.is_empty() {
        let blanks = rest.len() - rest.trim_start_matches(' ').len();
        let end = rest[blanks..].find(' ').map_or(rest.len(), |i| blanks + i);
        let (word, after) = rest.split_at(end);
        rest = after;
        let wide = columns(word);
        if used > 0 && used + wide > width && !word.trim_start().is_empty() {
            out.push('\n');
            out.push_str(&hang);
            let word = word.trim_start();
            out.push_str(word);
            used = hang.len() + columns(word);
        } else {
            out.push_str(word);
            used += wide;
        }
    }
}

/// The indentation of further lines: below the text that follows a label, or else two more than the first line.
fn hang(line: &str) -> usize {
    let indent = line.len() - line.trim_start_matches(' ').len();
    let text = &line[indent..];
    let label = text.find("  ").filter(|end| *end > 0 && *end <= LABEL);
    match label {
        Some(end) => {
            let after = &text[end..];
            let gap = after.len() - after.trim_start_matches(' ').len();
            columns(&line[..indent + end]) + gap
        }
        None => indent + 2,
    }
}

/// One for each character; escape sequences of colours take none.
pub fn columns(text: &str) -> usize {
    let mut wide = 0;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => drop(chars.by_ref().find(|c| *c == 'm')),
            _ => wide += 1,
        }
    }
    wide
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_to_the_width_and_lose_nothing() {
        let line = "records  19,631 read = 19,477 with rows + 0 refused + 154 filtered";
        let folded = fold(line, Some(44));
        assert_eq!(
            folded,
            "records  19,631 read = 19,477 with rows + 0\n         refused + 154 filtered"
        );
        assert_eq!(fold(line, None), line);
        let logged = "2026-01-01T00:00:00.000000Z  WARN no broker of localhost:9092 answered";
        assert_eq!(
            fold_within(logged, 40),
            "2026-01-01T00:00:00.000000Z  WARN no\n  broker of localhost:9092 answered"
        );
        assert_eq!(
            fold("  a hint that is long", Some(40)),
            "  a hint that is long"
        );
        let plain = fold("one two three four five six seven eight nine ten", Some(40));
        assert_eq!(plain, "one two three four five six seven eight\n  nine ten");
        let digest = "x".repeat(71);
        assert_eq!(
            fold(&digest, Some(60)),
            digest,
            "what has no blanks stays whole"
        );
        let coloured = format!("\u{1b}[1;31merror[x]\u{1b}[0m: {}", "y".repeat(30));
        assert_eq!(fold(&coloured, Some(40)), coloured);
    }
}
