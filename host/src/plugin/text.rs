//! Text of a guest in messages of the host.

/// At most `max` bytes, cut between characters.
pub fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// One line, without anything that a terminal would act on: line ends are blanks, the rest is shown as text.
pub fn printable(text: &str) -> String {
    let text = text.replace(['\r', '\n', '\t'], " ");
    crate::text::printable(&text).into_owned()
}
