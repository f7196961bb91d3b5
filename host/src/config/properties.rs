//! `.properties` files, as Java reads them: `key=value`, `key: value`, `#` and `!` comments, `\` continues and escapes.

/// One assignment and where it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub key: String,
    pub value: String,
    pub line: u32,
    pub column: u32,
}

/// Every assignment in order; the format has no syntax errors.
pub fn parse(text: &str) -> Vec<Line> {
    let mut out = Vec::new();
    let mut lines = (1u32..).zip(text.lines());
    while let Some((number, first)) = lines.next() {
        let start = first.trim_start();
        if start.is_empty() || start.starts_with(['#', '!']) {
            continue;
        }
        let column = column_of(first, start);
        let mut logical = start.to_owned();
        while continues(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, more)) => logical.push_str(more.trim_start()),
                None => break,
            }
        }
        let (key, value) = split(&logical);
        out.push(Line {
            key,
            value,
            line: number,
            column,
        });
    }
    out
}

fn column_of(line: &str, rest: &str) -> u32 {
    let before = line.len() - rest.len();
    u32::try_from(line.get(..before).unwrap_or("").chars().count() + 1).unwrap_or(u32::MAX)
}

/// An odd number of backslashes at the end.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

fn split(logical: &str) -> (String, String) {
    let mut escaped = false;
    let end = logical.find(|c: char| {
        if escaped {
            escaped = false;
            return false;
        }
        escaped = c == '\\';
        c == '=' || c == ':' || c.is_whitespace()
    });
    let (key, rest) = logical.split_at(end.unwrap_or(logical.len()));
    let rest = rest.trim_start();
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start();
    (unescape(key), unescape(value.trim_end()))
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok();
                out.push(code.and_then(char::from_u32).unwrap_or('\u{fffd}'));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_java_reads() {
        let text =
            "# c\n! c\n\na=1\n b : two words \nc.d\\=e=x=y\nlong=a,\\\n    b\nu=\\u0041\nempty\n";
        let got: Vec<(String, String, u32, u32)> = parse(text)
            .into_iter()
            .map(|l| (l.key, l.value, l.line, l.column))
            .collect();
        let want = [
            ("a", "1", 4, 1),
            ("b", "two words", 5, 2),
            ("c.d=e", "x=y", 6, 1),
            ("long", "a,b", 7, 1),
            ("u", "A", 9, 1),
            ("empty", "", 10, 1),
        ];
        assert_eq!(
            got,
            want.map(|(k, v, l, c)| (k.to_owned(), v.to_owned(), l, c))
        );
    }
}
