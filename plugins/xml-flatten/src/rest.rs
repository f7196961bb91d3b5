//! The wildcard column: what no other column took, as a JSON object of path -> text, in document order. A path that comes
//! more than once has an array.
use weir_sdk::json;

/// What is left of one row, kept from row to row for its buffers only.
#[derive(Debug, Default)]
pub struct Rest {
    /// Outside of the exploded element.
    common: Vec<Entry>,
    /// Inside of it, one repetition after the other.
    own: Vec<Entry>,
    /// Where each repetition ends in `own`.
    ends: Vec<usize>,
    /// An exploded element is open.
    inside: bool,
    /// Paths and texts.
    text: String,
    /// Entries of one piece, sorted.
    order: Vec<Entry>,
    /// Where each path begins in `order`.
    paths: Vec<(u32, usize)>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    path: Span,
    value: Span,
    /// Elements and attributes that began before it in this row.
    order: u32,
}

type Span = (u32, u32);

impl Rest {
    pub fn begin(&mut self) {
        self.common.clear();
        self.own.clear();
        self.ends.clear();
        self.inside = false;
        self.text.clear();
    }

    pub fn begin_repetition(&mut self) {
        self.inside = true;
    }

    pub fn end_repetition(&mut self) {
        self.inside = false;
        self.ends.push(self.own.len());
    }

    /// `path` and `value` are UTF-8. Whether both and all before them have room in `most` bytes.
    #[must_use]
    pub fn add(&mut self, path: &[u8], value: &[u8], order: u32, most: usize) -> bool {
        if path.len() + value.len() > most.saturating_sub(self.text.len()) {
            return false;
        }
        let entry = Entry {
            path: self.keep(path),
            value: self.keep(value),
            order,
        };
        match self.inside {
            true => self.own.push(entry),
            false => self.common.push(entry),
        }
        true
    }

    fn keep(&mut self, bytes: &[u8]) -> Span {
        let from = self.text.len();
        self.text.push_str(&String::from_utf8_lossy(bytes));
        (from as u32, self.text.len() as u32)
    }

    /// Writes the object of one piece to `out`; nothing where nothing is left.
    pub fn object(&mut self, repetition: usize, out: &mut String) {
        out.clear();
        let from = match repetition {
            0 => 0,
            n => self.ends.get(n - 1).copied().unwrap_or(0),
        };
        let to = self.ends.get(repetition).copied().unwrap_or(from);
        let text = self.text.as_str();
        let at = |(from, to): Span| &text[from as usize..to as usize];
        let order = &mut self.order;
        order.clear();
        order.extend_from_slice(&self.common);
        order.extend_from_slice(&self.own[from..to]);
        order.sort_unstable_by(|a, b| at(a.path).cmp(at(b.path)).then(a.order.cmp(&b.order)));
        self.paths.clear();
        for (n, entry) in order.iter().enumerate() {
            if n == 0 || at(order[n - 1].path) != at(entry.path) {
                self.paths.push((entry.order, n));
            }
        }
        self.paths.sort_unstable();
        for (_, first) in &self.paths {
            let path = at(order[*first].path);
            out.push(if out.is_empty() { '{' } else { ',' });
            json::quote(path, out);
            out.push(':');
            let same = order[*first..].iter();
            let count = same.clone().take_while(|e| at(e.path) == path).count();
            if count > 1 {
                out.push('[');
            }
            for (n, entry) in same.take(count).enumerate() {
                if n > 0 {
                    out.push(',');
                }
                json::quote(at(entry.value), out);
            }
            if count > 1 {
                out.push(']');
            }
        }
        if !out.is_empty() {
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_in_document_order_and_repeats_in_arrays() {
        let mut rest = Rest::default();
        let mut out = String::new();
        rest.begin();
        rest.object(0, &mut out);
        assert_eq!(out, "");
        assert!(rest.add(b"z", b"1", 1, 100));
        assert!(rest.add(b"a/@x", b"2\"", 3, 100));
        rest.begin_repetition();
        assert!(rest.add(b"i", b"own", 4, 100));
        rest.end_repetition();
        rest.begin_repetition();
        rest.end_repetition();
        assert!(rest.add(b"z", b"3", 5, 100));
        assert!(rest.add(b"a", b"late", 2, 100));
        rest.object(0, &mut out);
        let expected = r#"{"z":["1","3"],"a":"late","a/@x":"2\"","i":"own"}"#;
        assert_eq!(out, expected);
        rest.object(1, &mut out);
        assert_eq!(out, r#"{"z":["1","3"],"a":"late","a/@x":"2\""}"#);
        assert!(!rest.add(b"1234", b"5", 6, 23));
    }
}
