//! Rows of CSV: a line end inside quotes is part of a field. What is in the fields is csv-parse's business; here only the ends
//! of rows count, by the same rules: a quote means something at the beginning of a field, LF, CR LF and CR end a row, and a
//! line without anything is no row.

use super::super::Dialect;
use super::{Piece, Split, Stop, Window};

#[derive(Debug)]
pub(in super::super) struct Rows {
    dialect: Dialect,
}

#[derive(Clone, Copy)]
enum In {
    /// At the beginning of a field.
    Begin,
    Field,
    Quotes,
    /// Behind a quote inside quotes: it was the last, or the first of two.
    Quote,
    /// Behind the character that makes the next one ordinary.
    Escaped,
}

impl Rows {
    pub(in super::super) fn new(dialect: Dialect) -> Rows {
        Rows { dialect }
    }
}

impl Split for Rows {
    fn next(&mut self, window: &mut Window) -> Result<Option<Piece>, Stop> {
        let Dialect {
            delimiter,
            quote,
            escape,
            ..
        } = self.dialect;
        let (mut at, mut place) = (0, In::Begin);
        loop {
            let rest = window.rest();
            while let Some(byte) = rest.get(at).copied() {
                place = match place {
                    In::Escaped => In::Quotes,
                    In::Quotes if Some(byte) == quote => In::Quote,
                    In::Quotes if Some(byte) == escape => In::Escaped,
                    In::Quotes => In::Quotes,
                    In::Quote if Some(byte) == quote => In::Quotes,
                    _ if byte == b'\n' || byte == b'\r' => {
                        if at > 0 {
                            return Ok(Some(Piece {
                                from: 0,
                                to: at,
                                end: at + 1,
                            }));
                        }
                        break;
                    }
                    _ if byte == delimiter => In::Begin,
                    In::Begin if Some(byte) == quote => In::Quotes,
                    _ => In::Field,
                };
                at += 1;
            }
            if at == 0 && !window.rest().is_empty() {
                // An empty line, or the LF of a CR LF.
                window.skip(1);
                continue;
            }
            if !window.more()? {
                let rest = window.rest().len();
                return Ok((rest > 0).then_some(Piece {
                    from: 0,
                    to: rest,
                    end: rest,
                }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Header;
    use super::super::tests::all;
    use super::*;

    fn rows(text: &str, dialect: Dialect) -> Vec<String> {
        let found = all(text.as_bytes(), || Box::new(Rows::new(dialect)));
        for (at, row) in &found {
            assert!(text[*at as usize..].starts_with(row.as_str()));
        }
        found.into_iter().map(|(_, row)| row).collect()
    }

    #[test]
    fn line_ends_inside_quotes_end_no_row() {
        let plain = Dialect {
            header: Header::None,
            delimiter: b',',
            quote: Some(b'"'),
            escape: None,
        };
        let text = "a,b\r\n\r\n\"1\n2\",\"x\"\"\n\"\"\"\rc\"\n,\"{\"\"k\"\":\n[1]}\"\nopen,\"x\ny";
        assert_eq!(
            rows(text, plain),
            [
                "a,b",
                "\"1\n2\",\"x\"\"\n\"\"\"",
                "c\"",
                ",\"{\"\"k\"\":\n[1]}\"",
                "open,\"x\ny"
            ]
        );
        let other = Dialect {
            delimiter: b';',
            quote: Some(b'\''),
            escape: Some(b'\\'),
            ..plain
        };
        assert_eq!(
            rows("a;'\\'\n'\n\"b\n;'x\n';y", other),
            ["a;'\\'\n'", "\"b", ";'x\n';y"]
        );
        let none = Dialect {
            quote: None,
            ..plain
        };
        assert_eq!(rows("\"a\nb\"", none), ["\"a", "b\""]);
    }
}
