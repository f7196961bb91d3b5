//! Makes others' text safe for a terminal: no characters that it would act on, or that would hide or change what is
//! shown.
//!
//! Reasons, fields, messages, counters, names and traces come from plugins, records and users of the daemon. Wherever
//! they leave the program they pass through this module: the command line's lines and cells, log lines, JSON, traces.

use std::borrow::Cow;

/// Control characters (C0, DEL, C1), characters that change the direction of text, line ends of other systems, and
/// invisible characters.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn replaced(
    text: &str,
    bad: impl Fn(char) -> bool,
    with: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    if !text.contains(&bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match bad(c) {
            true => with(c, &mut out),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn escaped(c: char, out: &mut String) {
    out.extend(match c {
        '\n' | '\r' | '\t' => c.escape_default(),
        c => return out.extend(c.escape_unicode()),
    });
}

/// One line: hidden characters are shown as text, `\u{1b}`, `\n`.
pub fn printable(text: &str) -> Cow<'_, str> {
    replaced(text, is_hidden, escaped)
}

/// The same for a text of several lines: line ends and tabs stay.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    let bad = |c| is_hidden(c) && !matches!(c, '\n' | '\t');
    replaced(text, bad, escaped)
}

/// The same for lines that the program has already coloured: escapes stay.
pub fn printable_coloured(text: &str) -> Cow<'_, str> {
    let bad = |c| is_hidden(c) && !matches!(c, '\n' | '\t' | '\u{1b}');
    replaced(text, bad, escaped)
}

/// The same JSON with hidden characters as escapes: they occur only inside of strings, where JSON has escapes for them.
/// Line ends between values stay.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    let bad = |c| is_hidden(c) && !matches!(c, '\n' | '\t' | '\r');
    replaced(json, bad, |c, out| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str =
        "a\u{1b}[2J\r\nVERSION\u{7}\u{9b}31m\u{7f}\u{202e}x\u{2066}\u{200f}\u{2028}\u{e0041}\tz";

    #[test]
    fn what_a_terminal_would_act_on_is_shown_as_text() {
        let shown = printable(HOSTILE);
        assert_eq!(
            shown,
            "a\\u{1b}[2J\\r\\nVERSION\\u{7}\\u{9b}31m\\u{7f}\\u{202e}x\\u{2066}\\u{200f}\\u{2028}\\u{e0041}\\tz"
        );
        assert_eq!(printable(&shown), shown);
        assert_eq!(
            printable_lines(HOSTILE)
                .matches(is_hidden)
                .collect::<String>(),
            "\n\t"
        );
        let plain = "Zürich ∅ 漢字 \\n 👍";
        assert!(matches!(printable(plain), Cow::Borrowed(text) if text == plain));
    }

    #[test]
    fn json_means_the_same_and_hides_nothing() {
        let value = serde_json::json!({ HOSTILE: [HOSTILE] });
        let text = value.to_string();
        let shown = printable_json(&text);
        assert!(!shown.contains(is_hidden));
        let read: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(read, value);
    }
}
