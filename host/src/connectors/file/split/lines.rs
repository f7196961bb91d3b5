//! Lines, which end with LF or CR LF; what stands behind the last one is a line too.

use super::{Piece, Split, Stop, Window, find};

#[derive(Debug)]
pub(in super::super) struct Lines {
    /// Whether a line without anything is a record.
    keeps_empty: bool,
}

impl Lines {
    pub(in super::super) fn new(keeps_empty: bool) -> Lines {
        Lines { keeps_empty }
    }
}

impl Split for Lines {
    fn next(&mut self, window: &mut Window) -> Result<Option<Piece>, Stop> {
        loop {
            let Some(line) = line(window)? else {
                return Ok(None);
            };
            if line.to > 0 || self.keeps_empty {
                return Ok(Some(line));
            }
            window.skip(line.end);
        }
    }
}

fn line(window: &mut Window) -> Result<Option<Piece>, Stop> {
    let mut searched = 0;
    loop {
        let rest = window.rest();
        let behind = rest.get(searched..).unwrap_or_default();
        let found = find(behind, b'\n').map(|n| searched + n);
        if let Some(at) = found {
            let cr = at > 0 && rest.get(at - 1) == Some(&b'\r');
            return Ok(Some(Piece {
                from: 0,
                to: at - usize::from(cr),
                end: at + 1,
            }));
        }
        searched = rest.len();
        if !window.more()? {
            let rest = window.rest();
            let cr = rest.ends_with(b"\r");
            return Ok((!rest.is_empty()).then_some(Piece {
                from: 0,
                to: rest.len() - usize::from(cr),
                end: rest.len(),
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::all;
    use super::*;

    #[test]
    fn lines_end_with_lf_or_cr_lf() {
        let text = b"a\r\nb\n\n\r\nc\rd\nlast\r";
        let lines = |keeps| all(text, || Box::new(Lines::new(keeps)));
        let named = |list: &[(u64, &str)]| -> Vec<(u64, String)> {
            list.iter().map(|(at, t)| (*at, (*t).to_owned())).collect()
        };
        assert_eq!(
            lines(false),
            named(&[(0, "a"), (3, "b"), (8, "c\rd"), (12, "last")])
        );
        assert_eq!(
            lines(true),
            named(&[
                (0, "a"),
                (3, "b"),
                (5, ""),
                (6, ""),
                (8, "c\rd"),
                (12, "last")
            ])
        );
    }
}
