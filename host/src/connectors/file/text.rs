//! The lines of a file that grows: what was read and not given away, cut where a line has its end. No I/O.

use super::marks::BEFORE;
use super::split::find;

/// What an idle file may hold in memory beside the line that has no end yet.
pub(super) const IDLE: usize = 4 << 10;

/// What was read of a file and not given away, and the last bytes before it, at most [`BEFORE`].
#[derive(Debug)]
pub(super) struct Text {
    bytes: Vec<u8>,
    given: usize,
    /// Of the first byte that is not given away.
    pub(super) at: u64,
    /// So many bytes of the rest are known to have no end of a line.
    searched: usize,
    cr_ends: bool,
}

/// A line in [`Text::rest`]: its bytes, and how long it is with its end.
pub(super) struct Line {
    pub(super) length: usize,
    pub(super) with_end: usize,
}

impl Text {
    pub(super) fn at(at: u64, before: Vec<u8>, cr_ends: bool) -> Text {
        Text {
            given: before.len(),
            bytes: before,
            at,
            searched: 0,
            cr_ends,
        }
    }

    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.given..).unwrap_or_default()
    }

    pub(super) fn before(&self) -> &[u8] {
        let from = self.given.saturating_sub(BEFORE);
        self.bytes.get(from..self.given).unwrap_or_default()
    }

    /// Where the file is read on.
    pub(super) fn end(&self) -> u64 {
        self.at + self.rest().len() as u64
    }

    /// The bytes before [`end`](Text::end).
    pub(super) fn tail(&self) -> &[u8] {
        let from = self.bytes.len().saturating_sub(BEFORE);
        self.bytes.get(from..).unwrap_or_default()
    }

    pub(super) fn add(&mut self, more: &[u8]) {
        let gone = self.given.saturating_sub(BEFORE);
        self.bytes.drain(..gone);
        self.given -= gone;
        self.bytes.extend_from_slice(more);
    }

    pub(super) fn give(&mut self, length: usize) {
        let length = length.min(self.rest().len());
        self.given += length;
        self.at += length as u64;
        self.searched = 0;
    }

    /// Memory for what is not given away alone: many files lie idle.
    pub(super) fn shrink(&mut self) {
        let gone = self.given.saturating_sub(BEFORE);
        self.bytes.drain(..gone);
        self.given -= gone;
        self.bytes.shrink_to(IDLE.max(self.bytes.len()));
    }

    /// The next line that has its end. Each byte is looked at once.
    pub(super) fn line(&mut self) -> Option<Line> {
        let rest = self.bytes.get(self.given..).unwrap_or_default();
        let new = rest.get(self.searched..).unwrap_or_default();
        let found = match self.cr_ends {
            false => find(new, b'\n'),
            true => new.iter().position(|byte| matches!(byte, b'\n' | b'\r')),
        };
        let Some(at) = found.map(|at| self.searched + at) else {
            self.searched = rest.len();
            return None;
        };
        let line = |length: usize, with_end: usize| Some(Line { length, with_end });
        match (rest.get(at), rest.get(at + 1)) {
            (Some(b'\n'), _) => {
                let cr = at > 0 && rest.get(at - 1) == Some(&b'\r');
                line(at - usize::from(cr), at + 1)
            }
            (_, Some(b'\n')) => line(at, at + 2),
            (_, Some(_)) => line(at, at + 1),
            // Whether an LF belongs to this CR is not known yet.
            (_, None) => {
                self.searched = at;
                None
            }
        }
    }

    /// What has no end, of a file to which nothing comes any more.
    pub(super) fn last(&self) -> Option<Line> {
        let rest = self.rest();
        (!rest.is_empty()).then(|| Line {
            length: rest.len() - usize::from(rest.ends_with(b"\r")),
            with_end: rest.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_and_positions_follow() {
        for (cr_ends, want) in [
            (
                true,
                &[("a", 12), ("b", 15), ("c", 17), ("d", 19), ("", 20)][..],
            ),
            (false, &[("a", 12), ("b", 15), ("c\rd", 19), ("", 20)][..]),
        ] {
            let mut text = Text::at(10, Vec::new(), cr_ends);
            text.add(b"a\nb\r\nc\rd\n\nlast\r");
            let mut got = Vec::new();
            while let Some(line) = text.line() {
                let value = String::from_utf8_lossy(&text.rest()[..line.length]).into_owned();
                text.give(line.with_end);
                got.push((value, text.at));
            }
            let want: Vec<_> = want.iter().map(|(l, at)| ((*l).to_owned(), *at)).collect();
            assert_eq!(got, want);
            text.add(b"\nx");
            let line = text.line().expect("the line");
            assert_eq!((line.length, line.with_end), (4, 6));
            text.give(6);
            assert!(text.line().is_none());
            assert_eq!((text.at, text.end()), (26, 27));
            assert_eq!(text.tail(), b"a\nb\r\nc\rd\n\nlast\r\nx");
        }
        let mut long = Text::at(100, vec![1; 64], false);
        long.add(&[2; 60]);
        assert_eq!(
            (long.tail().len(), long.tail()[3], long.tail()[4]),
            (64, 1, 2)
        );
        long.give(60);
        long.add(&[3; 70]);
        assert_eq!(
            (long.before().len(), long.before()[3], long.before()[4]),
            (64, 1, 2)
        );
        assert_eq!((long.at, long.tail()), (160, &[3; 64][..]));
    }
}
