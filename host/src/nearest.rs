//! The known word nearest to a misspelt one.

/// At most a third of the letters may differ, and at most three.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(far, _)| *far <= most)
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| candidate)
}

/// Edits: insert, delete, replace, swap of neighbours. `_` and `-` for `.` cost nothing, nor does upper case.
fn distance(a: &str, b: &str) -> usize {
    let plain = |text: &str| text.replace(['_', '-'], ".").to_ascii_lowercase();
    strsim::osa_distance(&plain(a), &plain(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant_and_nothing_else() {
        let known = ["sink.rotate.bytes", "sink.rotate.age", "source.topics"];
        for (typed, meant) in [
            ("sink.rotate.byte", Some("sink.rotate.bytes")),
            ("sink.rotate_bytes", Some("sink.rotate.bytes")),
            ("source.tpoics", Some("source.topics")),
            ("completely.other", None),
        ] {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
    }
}
