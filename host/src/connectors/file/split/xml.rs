//! Elements of a name out of an XML document of any size, as bytes: what is around them is passed over. Comments, CDATA,
//! processing instructions and quoted attributes hold no tags.

use super::{Piece, Split, Stop, Window};

#[derive(Debug)]
pub(in super::super) struct Elements {
    tag: Vec<u8>,
}

impl Elements {
    pub(in super::super) fn new(tag: &str) -> Elements {
        Elements {
            tag: tag.as_bytes().to_vec(),
        }
    }

    /// The name as it stands there, or behind its prefix.
    fn is_it(&self, name: &[u8]) -> bool {
        let local = name.iter().position(|b| *b == b':');
        let local = local.and_then(|colon| name.get(colon + 1..));
        name == self.tag || local == Some(self.tag.as_slice())
    }
}

/// What stands at a `<`.
enum Markup {
    Start { selfclosing: bool },
    End,
    Other,
}

impl Split for Elements {
    fn next(&mut self, window: &mut Window) -> Result<Option<Piece>, Stop> {
        // Where the row began, and how many elements of its name are open.
        let (mut row, mut depth) = (None, 0usize);
        let mut at = 0;
        loop {
            let rest = window.rest().get(at..).unwrap_or_default();
            let Some(open) = super::find(rest, b'<') else {
                at = window.rest().len();
                if row.is_none() {
                    window.skip(at);
                    at = 0;
                }
                if !window.more()? {
                    return Ok(left(window, row));
                }
                continue;
            };
            at += open;
            if row.is_none() {
                // Nobody wants what lies before.
                window.skip(at);
                at = 0;
            }
            let Some((markup, name, end)) = self.markup(window, at)? else {
                return match row {
                    Some(_) => Ok(left(window, row)),
                    None => Err(window.bad(at, "a tag is not closed: the file is torn")),
                };
            };
            match markup {
                Markup::Start { selfclosing } if name => {
                    let from = *row.get_or_insert(at);
                    depth += usize::from(!selfclosing);
                    if depth == 0 {
                        return Ok(Some(Piece { from, to: end, end }));
                    }
                }
                Markup::End if name && depth > 0 => {
                    depth -= 1;
                    if let Some(from) = row.filter(|_| depth == 0) {
                        return Ok(Some(Piece { from, to: end, end }));
                    }
                }
                _ => {}
            }
            at = end;
        }
    }
}

/// A row that does not end: whoever parses it says so.
fn left(window: &Window, row: Option<usize>) -> Option<Piece> {
    let to = window.rest().len();
    row.map(|from| Piece { from, to, end: to })
}

impl Elements {
    /// What begins at `at`, whether it has the wanted name, and where it ends. `None`: the stream ends before.
    fn markup(
        &self,
        window: &mut Window,
        at: usize,
    ) -> Result<Option<(Markup, bool, usize)>, Stop> {
        for (begins, ends) in [
            (&b"<!--"[..], &b"-->"[..]),
            (b"<![CDATA[", b"]]>"),
            (b"<?", b"?>"),
        ] {
            if starts(window, at, begins)? {
                let end = until(window, at + begins.len(), ends)?;
                return Ok(end.map(|end| (Markup::Other, false, end)));
            }
        }
        if starts(window, at, b"<!")? {
            let end = declaration(window, at)?;
            return Ok(end.map(|end| (Markup::Other, false, end)));
        }
        let closes = starts(window, at, b"</")?;
        let Some(end) = tag(window, at + 1)? else {
            return Ok(None);
        };
        let rest = window.rest();
        let inside = rest.get(at + 1 + usize::from(closes)..end - 1);
        let inside = inside.unwrap_or_default();
        let name = inside
            .split(|b| b.is_ascii_whitespace() || *b == b'/')
            .next()
            .unwrap_or_default();
        let markup = match closes {
            true => Markup::End,
            false => Markup::Start {
                selfclosing: inside.ends_with(b"/"),
            },
        };
        Ok(Some((markup, self.is_it(name), end)))
    }
}

fn starts(window: &mut Window, at: usize, with: &[u8]) -> Result<bool, Stop> {
    while window.rest().len() < at + with.len() {
        let there = window.rest().get(at..).unwrap_or_default();
        if !with.starts_with(there) || !window.more()? {
            return Ok(false);
        }
    }
    Ok(window
        .rest()
        .get(at..)
        .is_some_and(|rest| rest.starts_with(with)))
}

/// Behind the next `ends`.
fn until(window: &mut Window, from: usize, ends: &[u8]) -> Result<Option<usize>, Stop> {
    let mut at = from;
    loop {
        let rest = window.rest().get(at..).unwrap_or_default();
        if let Some(n) = rest.windows(ends.len()).position(|w| w == ends) {
            return Ok(Some(at + n + ends.len()));
        }
        at += (rest.len() + 1).saturating_sub(ends.len());
        if !window.more()? {
            return Ok(None);
        }
    }
}

/// Behind the `>` of a tag.
fn tag(window: &mut Window, from: usize) -> Result<Option<usize>, Stop> {
    let (mut at, mut quote) = (from, None);
    loop {
        while let Some(byte) = window.rest().get(at).copied() {
            at += 1;
            match (quote, byte) {
                (Some(q), b) if q == b => quote = None,
                (Some(_), _) => {}
                (None, b'"' | b'\'') => quote = Some(byte),
                (None, b'>') => return Ok(Some(at)),
                _ => {}
            }
        }
        if !window.more()? {
            return Ok(None);
        }
    }
}

/// Behind a `<!DOCTYPE …>`, which may hold declarations in brackets.
fn declaration(window: &mut Window, from: usize) -> Result<Option<usize>, Stop> {
    let (mut at, mut quote, mut depth) = (from, None, 0usize);
    loop {
        while let Some(byte) = window.rest().get(at).copied() {
            // Quotes and brackets inside of these are none.
            if quote.is_none() && byte == b'<' {
                let skipped = match () {
                    () if starts(window, at, b"<!--")? => Some(until(window, at + 4, b"-->")?),
                    () if starts(window, at, b"<?")? => Some(until(window, at + 2, b"?>")?),
                    () => None,
                };
                match skipped {
                    Some(Some(end)) => {
                        at = end;
                        continue;
                    }
                    Some(None) => return Ok(None),
                    None => {}
                }
            }
            at += 1;
            match (quote, byte) {
                (Some(q), b) if q == b => quote = None,
                (Some(_), _) => {}
                (None, b'"' | b'\'') => quote = Some(byte),
                (None, b'<') => depth += 1,
                (None, b'>') => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return Ok(Some(at));
                    }
                }
                _ => {}
            }
        }
        if !window.more()? {
            return Ok(None);
        }
    }
}

/// A whole file as one record.
#[derive(Debug, Default)]
pub(in super::super) struct Whole;

impl Split for Whole {
    fn next(&mut self, window: &mut Window) -> Result<Option<Piece>, Stop> {
        while window.more()? {}
        let to = window.rest().len();
        Ok((to > 0).then_some(Piece {
            from: 0,
            to,
            end: to,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::all;
    use super::*;

    fn rows(text: &str) -> Vec<String> {
        let found = all(text.as_bytes(), || Box::new(Elements::new("book")));
        found.into_iter().map(|(_, row)| row).collect()
    }

    #[test]
    fn elements_are_cut_out_whole() {
        let text = "<?xml version=\"1.0\"?><!DOCTYPE l [<!-- it's > --><?pi > ?><!ELEMENT book (#PCDATA)>]>\
                    <!-- <book>no</book> --><library a=\"<book>\">\n\
                    <book id=\"1>\"><title>a</title></book>\n<n:book/>\
                    <books/><book><![CDATA[</book>]]><book>inner</book></book >\
                    <group><book>3</book></group></library>";
        assert_eq!(
            rows(text),
            [
                "<book id=\"1>\"><title>a</title></book>",
                "<n:book/>",
                "<book><![CDATA[</book>]]><book>inner</book></book >",
                "<book>3</book>",
            ]
        );
    }

    #[test]
    fn a_row_that_does_not_end_is_given_as_it_is() {
        assert_eq!(
            rows("<l><book>1</book><book>2"),
            ["<book>1</book>", "<book>2"]
        );
        assert_eq!(
            rows("<l><book>1</book><bo"),
            [
                "<book>1</book>",
                "byte 17: a tag is not closed: the file is torn"
            ]
        );
        assert_eq!(rows("<l></l>"), [""; 0]);
    }
}
