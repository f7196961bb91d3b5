//! Refusals: which row, which piece of it, and why, for the person who reads the dead letter.
use crate::builder::Bits;
use crate::contract::Reject;

/// Longest piece of a value that a message shows, in characters.
const SHOWN: usize = 60;

/// The refusals of one batch.
#[derive(Debug, Default)]
pub struct Rejects {
    list: Vec<Reject>,
}

/// One reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// Stable, snake_case, at most 64 bytes.
    pub code: &'static str,
    pub field: Option<String>,
    pub message: String,
}

impl Refusal {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            field: None,
            message: message.into(),
        }
    }

    pub fn of_field(code: &'static str, field: &str, message: impl Into<String>) -> Self {
        Self {
            code,
            field: Some(field.to_owned()),
            message: message.into(),
        }
    }
}

/// The reasons against the message being read: against all its pieces, and against single ones.
#[derive(Debug, Default)]
pub struct Refused {
    all: Vec<Refusal>,
    /// With the number of the piece, which only rises.
    own: Vec<(usize, Refusal)>,
}

impl Refused {
    pub fn clear(&mut self) {
        self.all.clear();
        self.own.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && self.own.is_empty()
    }

    /// Against `piece`, which is no lower than those before, or against all.
    pub fn add(&mut self, piece: Option<usize>, why: Refusal) {
        match piece {
            Some(piece) => self.own.push((piece, why)),
            None => self.all.push(why),
        }
    }

    /// Against all pieces (`None`), or against one alone.
    pub fn of(&self, piece: Option<usize>) -> impl Iterator<Item = &Refusal> {
        let (all, own) = match piece {
            None => (self.all.as_slice(), &[][..]),
            Some(piece) => {
                let from = self.own.partition_point(|(n, _)| *n < piece);
                let count = self.own[from..].iter().take_while(|(n, _)| *n == piece);
                (&[][..], &self.own[from..from + count.count()])
            }
        };
        all.iter().chain(own.iter().map(|(_, why)| why))
    }
}

impl Rejects {
    /// Refuses input row `row` whole: no output row may come from it.
    pub fn row(&mut self, row: usize, why: Refusal) {
        self.push(row, None, why);
    }

    /// Refuses the `part`-th of the rows that input row `row` becomes; the others keep their numbers.
    pub fn part(&mut self, row: usize, part: usize, why: Refusal) {
        self.push(row, Some(part as u32), why);
    }

    fn push(&mut self, row: usize, part: Option<u32>, why: Refusal) {
        let Refusal {
            code,
            field,
            message,
        } = why;
        self.list.push(Reject {
            row: row as u32,
            part,
            code: code.into(),
            field,
            message,
        });
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Forgets every refusal from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.list.truncate(len);
    }

    /// In the order of the rows, for plugins that go column by column; the reasons of one row keep their order.
    pub fn sort(&mut self) {
        self.list.sort_by_key(|reject| reject.row);
    }

    /// Which of `rows` input rows no refusal names.
    pub fn kept(&self, rows: usize) -> Bits {
        let mut kept = Bits::filled(rows);
        self.list
            .iter()
            .for_each(|reject| kept.clear(reject.row as usize));
        kept
    }

    pub fn into_vec(self) -> Vec<Reject> {
        self.list
    }
}

/// `value` in quotes, shortened, with nothing in it that a terminal would act on.
pub fn shown(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let mut out = String::from("\"");
    for (n, c) in text.chars().enumerate() {
        if n == SHOWN {
            out.push('…');
            break;
        }
        match c {
            '\'' => out.push(c), // the quotes around it are double
            c => out.extend(c.escape_debug()),
        }
    }
    out.push('"');
    out
}

/// `text` shortened, with nothing in it that a terminal or a line-based log would act on.
pub fn plain(text: &str) -> String {
    text.chars()
        .take(3 * SHOWN)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_has_its_own_refusals_and_those_of_all() {
        let mut refused = Refused::default();
        let why = |code| Refusal::new(code, "");
        for (piece, code) in [(Some(1), "a"), (None, "b"), (Some(1), "c"), (Some(4), "d")] {
            refused.add(piece, why(code));
        }
        let of = |piece| refused.of(piece).map(|why| why.code).collect::<String>();
        assert_eq!(of(None), "b");
        assert_eq!(
            [0, 1, 2, 4, 5].map(|n| of(Some(n))),
            ["", "ac", "", "d", ""]
        );
        refused.clear();
        assert!(refused.is_empty() && refused.of(Some(1)).next().is_none());
    }
}
