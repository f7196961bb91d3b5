//! Values of JSON one after the other, with blanks between them; of an array at the top its elements. So one array of five
//! gigabytes, objects that follow each other and lines of JSON are all read, one value in memory.
//!
//! Only where a value ends is looked for: whether it is JSON is said by whoever parses it, and refuses it alone. A bracket
//! that belongs nowhere, and an array that never ends, are defects of the file.

use super::{Piece, Split, Stop, Window};

#[derive(Debug, Default)]
pub(in super::super) struct Values {
    /// `None`: reading went on inside of the file, behind a value.
    in_array: Option<bool>,
}

impl Values {
    /// `from_start`: of the file.
    pub(in super::super) fn new(from_start: bool) -> Values {
        Values {
            in_array: from_start.then_some(false),
        }
    }

    /// Skips what stands between values; false at the end.
    fn seek_value(&mut self, window: &mut Window) -> Result<bool, Stop> {
        loop {
            let rest = window.rest();
            let blanks = rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
            window.skip(blanks);
            let Some(byte) = window.rest().first().copied() else {
                if window.more()? {
                    continue;
                }
                return match self.in_array {
                    Some(true) => {
                        Err(window.bad(0, "the array that began is not closed: the file is torn"))
                    }
                    _ => Ok(false),
                };
            };
            match byte {
                b',' if self.in_array != Some(false) => self.in_array = Some(true),
                b']' if self.in_array != Some(false) => self.in_array = Some(false),
                b'[' if self.in_array != Some(true) => self.in_array = Some(true),
                b']' | b'}' | b',' | b':' => {
                    let why = format!(
                        "`{}` stands where a JSON value is expected",
                        char::from(byte)
                    );
                    return Err(window.bad(0, why));
                }
                _ => {
                    self.in_array = Some(self.in_array.unwrap_or(false));
                    return Ok(true);
                }
            }
            window.skip(1);
        }
    }
}

/// What ends a scan outside of texts.
const fn marks() -> [bool; 256] {
    let mut marks = [false; 256];
    marks[b'"' as usize] = true;
    marks[b'{' as usize] = true;
    marks[b'}' as usize] = true;
    marks[b'[' as usize] = true;
    marks[b']' as usize] = true;
    marks
}
static MARKS: [bool; 256] = marks();

/// Inside a value that is no plain word.
#[derive(Default)]
struct Inside {
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Inside {
    /// From `at` on; where the value ends, or how far the bytes go.
    fn scan(&mut self, rest: &[u8], mut at: usize) -> Result<usize, usize> {
        loop {
            if self.escaped && at < rest.len() {
                self.escaped = false;
                at += 1;
            }
            let behind = rest.get(at..).unwrap_or_default();
            let found = match self.in_text {
                true => behind.iter().position(|b| *b == b'"' || *b == b'\\'),
                false => behind.iter().position(|b| MARKS[usize::from(*b)]),
            };
            let Some((found, byte)) = found.and_then(|n| Some((n, *behind.get(n)?))) else {
                return Err(rest.len());
            };
            at += found + 1;
            match byte {
                b'\\' => self.escaped = true,
                b'"' => self.in_text = !self.in_text,
                b'{' | b'[' => self.depth += 1,
                _ => self.depth = self.depth.saturating_sub(1),
            }
            if !self.in_text && !self.escaped && self.depth == 0 {
                return Ok(at);
            }
        }
    }
}

/// A number, a name, or what stands in the place of one.
fn word(rest: &[u8], at: usize) -> Result<usize, usize> {
    let ends = |b: &u8| b.is_ascii_whitespace() || matches!(b, b',' | b']' | b'}' | b'[' | b'{');
    let behind = rest.get(at..).unwrap_or_default();
    match behind.iter().position(ends) {
        Some(n) => Ok(at + n),
        None => Err(rest.len()),
    }
}

impl Split for Values {
    fn is_unsure(&self) -> bool {
        self.in_array.is_none()
    }

    fn next(&mut self, window: &mut Window) -> Result<Option<Piece>, Stop> {
        if !self.seek_value(window)? {
            return Ok(None);
        }
        let is_word = !matches!(window.rest().first(), Some(b'{' | b'[' | b'"'));
        let (mut inside, mut at) = (Inside::default(), 0);
        let to = loop {
            let scanned = match is_word {
                true => word(window.rest(), at),
                false => inside.scan(window.rest(), at),
            };
            match scanned {
                Ok(to) => break to,
                Err(so_far) => at = so_far,
            }
            if !window.more()? {
                // Half a value: whoever parses it says so.
                break window.rest().len();
            }
        };
        Ok(Some(Piece {
            from: 0,
            to,
            end: to,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Slow;
    use super::*;

    fn values(text: &str) -> Vec<String> {
        let from = |base: usize, size: usize| {
            let input = Box::new(Slow(text.as_bytes()[base..].to_vec(), size));
            let mut window = Window::new(input, base as u64, 1 << 20);
            let mut split = Values::new(base == 0);
            let (mut found, mut ends) = (Vec::new(), Vec::new());
            loop {
                match split.next(&mut window) {
                    Ok(Some(piece)) => {
                        let bytes = &window.rest()[piece.from..piece.to];
                        found.push(String::from_utf8_lossy(bytes).into_owned());
                        window.skip(piece.end);
                        ends.push(usize::try_from(window.base()).unwrap());
                    }
                    Ok(None) => return (found, ends),
                    Err(stop) => {
                        found.push(stop.to_string());
                        return (found, ends);
                    }
                }
            }
        };
        let (found, ends) = from(0, usize::MAX);
        for size in [1, 2, 5] {
            assert_eq!(from(0, size), (found.clone(), ends.clone()), "{size}");
        }
        // Behind a value nobody knows whether a comma is one of an array.
        let resumes = !text.starts_with("1,");
        for (n, end) in ends.iter().enumerate().filter(|_| resumes) {
            let (again, _) = from(*end, usize::MAX);
            let there: Vec<&String> = again.iter().filter(|v| !v.starts_with("byte")).collect();
            let wanted: Vec<&String> = found[n + 1..]
                .iter()
                .filter(|v| !v.starts_with("byte"))
                .collect();
            assert_eq!(there, wanted, "from byte {end}");
        }
        found
    }

    #[test]
    fn arrays_give_their_elements_and_other_values_themselves() {
        assert_eq!(values("[]"), [""; 0]);
        assert_eq!(values(" [ ] [1]"), ["1"]);
        assert_eq!(
            values("[{\"a\":\"}\\\"]\"} , [1,[2]],\"x,y\" ,null, tru]"),
            ["{\"a\":\"}\\\"]\"}", "[1,[2]]", "\"x,y\"", "null", "tru"]
        );
        assert_eq!(
            values("{\"a\":1}\n{\"b\":[2]}{}\n3 4\n"),
            ["{\"a\":1}", "{\"b\":[2]}", "{}", "3", "4"]
        );
        assert_eq!(
            values("[1,2]\n[3]\n{\"x\":1}"),
            ["1", "2", "3", "{\"x\":1}"]
        );
    }

    #[test]
    fn what_is_broken_is_one_value_or_a_place() {
        assert_eq!(
            values("[{\"a\":tru},{\"b\":2}]"),
            ["{\"a\":tru}", "{\"b\":2}"]
        );
        assert_eq!(values("{\"a\":"), ["{\"a\":"]);
        assert_eq!(
            values("[1,"),
            [
                "1",
                "byte 3: the array that began is not closed: the file is torn"
            ]
        );
        assert_eq!(
            values("{}}"),
            ["{}", "byte 2: `}` stands where a JSON value is expected"]
        );
        assert_eq!(
            values("1,2"),
            ["1", "byte 1: `,` stands where a JSON value is expected"]
        );
    }
}
