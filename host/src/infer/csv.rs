//! Infers keys of `csv-parse` from messages with separated fields: the separator that divides lines evenly, a header if
//! the first line of each message is one, a type if every field of a column has it.

use std::collections::{BTreeMap, BTreeSet};

use super::kinds::{Texts, renamed, taken, unlike};
use super::render::{Page, some_of};

/// Separators that are tried, the usual first, as the config writes them.
const SEPARATORS: [(char, &str); 4] = [(',', ","), (';', ";"), ('\t', "tab"), ('|', "|")];
/// Words for null, in a column that has other values.
const NULLS: [&str; 3] = ["\\N", "NULL", "null"];
/// `max-rows` of csv-parse where the config does not say another.
const MAX_ROWS: usize = 100_000;
/// Part of the lines that must have the usual number of fields for a text to look like CSV: with commas, which stand in
/// prose too, and with other separators.
const EVEN: [f64; 2] = [0.9, 0.6];

#[derive(Clone, Debug, Default, PartialEq)]
struct Field {
    text: String,
    quoted: bool,
}

type Row = Vec<Field>;

/// What `trim` of csv-parse takes away.
const BLANK: [char; 2] = [' ', '\t'];

impl Field {
    /// The text under `trim`: what stands inside of quotes belongs to the field.
    fn trimmed(&self) -> &str {
        match self.quoted {
            true => &self.text,
            false => self.text.trim_matches(BLANK),
        }
    }
}

/// How fields are written.
#[derive(Clone, Copy, Debug)]
struct Dialect {
    separator: char,
    /// As the config names it.
    named: &'static str,
    quotes: bool,
    /// A backslash inside of quotes takes the next character as it is.
    escapes: bool,
}

/// A message's lines, or why csv-parse reads none.
type Lines = Result<Vec<Row>, String>;
/// Score of a dialect: whether it divides fields at all, number of valid messages, number of lines with the usual
/// number of fields.
type Score = (bool, usize, usize);

/// True: two lines or more, most of the same two fields or more.
pub fn looks(messages: &[&[u8]]) -> bool {
    let (dialect, read) = best(messages);
    let widths = widths(&read);
    let lines: usize = widths.values().sum();
    let usual = widths.iter().max_by_key(|(_, n)| **n);
    let commas = dialect.separator == ',';
    let least = if commas { EVEN[0] } else { EVEN[1] };
    let even = |(width, n): (&usize, &usize)| *width > 1 && (*n as f64) >= least * lines as f64;
    lines > if commas { 2 } else { 1 } && usual.is_some_and(even)
}

/// The map; `Err` says why there is none.
pub fn infer(mut page: Page, messages: &[&[u8]]) -> Result<Page, String> {
    let (dialect, read) = best(messages);
    let mut sound: Vec<Vec<Row>> = Vec::new();
    for (n, lines) in read.into_iter().enumerate() {
        match lines {
            Ok(_) if messages[n].trim_ascii().is_empty() => {
                page.unread(n, "it is empty (empty_value)".into())
            }
            Ok(lines) => sound.push(lines),
            Err(why) => page.unread(n, why),
        }
    }
    if sound.is_empty() {
        return Err(page.nothing("CSV"));
    }
    let per_message: Vec<usize> = sound.iter().map(Vec::len).collect();
    page.head = vec![format!(
        "csv-parse: {} of {} messages read, {} lines a message",
        sound.len(),
        messages.len(),
        some_of(&per_message)
    )];
    page.set("type", "csv-parse");
    if dialect.separator != ',' {
        page.set("separator", dialect.named);
    }
    if !dialect.quotes {
        let note = "quotes stand inside of fields and mean nothing";
        page.set_noted("quote", "", note);
    }
    if dialect.escapes {
        let note = "a backslash stands before quotes inside of quotes";
        page.set_noted("escape", "\\", note);
    }
    let header = header(&sound);
    if header.is_some() {
        let note = "each message begins with a line of names";
        page.set_noted("header-line", true, note);
        sound.iter_mut().for_each(|lines| drop(lines.remove(0)));
    }
    let rows: Vec<&Row> = sound.iter().flatten().collect();
    let most = per_message.iter().max().copied().unwrap_or(0);
    page.limit("max-rows", MAX_ROWS, most, "lines of the largest message");
    if header.is_none() {
        page.notes.extend(perhaps_header(&rows));
    }
    fill(&mut page, header, &rows);
    Ok(page)
}

fn fill(page: &mut Page, header: Option<Row>, rows: &[&Row]) {
    let widest = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    let columns = header.as_ref().map_or(widest, Vec::len);
    let count = |fits: &dyn Fn(usize) -> bool| rows.iter().filter(|row| fits(row.len())).count();
    let (short, long) = (count(&|n| n < columns), count(&|n| n > columns));
    if short > 0 {
        let note = format!("{short} of {} lines have fewer fields", rows.len());
        page.set_noted("missing", "null", &note);
    }
    let fields = || rows.iter().copied().chain(&header).flatten();
    if fields().any(|field| field.trimmed() != field.text) {
        let note = "blanks stand around fields";
        page.set_noted("trim", true, note);
    }
    let null = null_value(rows);
    if let Some(null) = null {
        page.set("null-value", null);
    }
    let mut used = taken();
    let mut left_out = Vec::new();
    for n in 0..columns {
        let mut texts = Texts::default();
        for field in rows.iter().filter_map(|row| row.get(n)) {
            if field.quoted || null != Some(field.trimmed()) {
                texts.see(field.trimmed());
            }
        }
        let given = header.as_ref().map(|names| names[n].trimmed().to_owned());
        if let Some(given) = given.as_ref().filter(|name| !can_be_listed(name)) {
            left_out.push(given.clone());
            continue;
        }
        let plain = match &given {
            Some(given) => named(given, n),
            None => format!("column_{}", n + 1),
        };
        let name = unlike(plain.clone(), &mut used);
        page.notes.extend(renamed(&plain, &name));
        let field = given.as_ref().unwrap_or(&name);
        let kind = texts.named();
        let mut seen = match texts.empty {
            0 => String::new(),
            empty => format!("{empty} empty"),
        };
        if let (Some(example), "string") = (texts.shown.first(), kind.as_str()) {
            let comma = if seen.is_empty() { "" } else { ": " };
            seen = format!("{seen}{comma}{example}");
        }
        if !page.column(&name, field, *field == name, &seen) {
            continue;
        }
        if kind != "string" {
            page.column_type(&name, &kind, &texts.shown.join(", "));
        }
        let conflict = texts.conflict();
        page.notes
            .extend(conflict.map(|told| format!("{name}: {told}")));
    }
    if long > 0 || !left_out.is_empty() {
        let note = match left_out.first() {
            Some(name) => format!("the column {name:?} cannot stand in a list of names"),
            None => format!("{long} of {} lines have more fields", rows.len()),
        };
        page.set_noted("extra", "ignore", &note);
    }
}

/// A list of columns divides at commas and drops blanks, and a name ends at its `=`.
fn can_be_listed(name: &str) -> bool {
    !name.contains([',', '=']) && name.trim() == name
}

/// A name for SQL: letters, digits and `_`.
fn named(given: &str, n: usize) -> String {
    let plain = |c: char| if c.is_alphanumeric() { c } else { '_' };
    let name: String = given.chars().map(plain).collect();
    match name.trim_matches('_') {
        "" => format!("column_{}", n + 1),
        name => name.to_owned(),
    }
}

/// The first line, where every message of several lines begins with it and it holds names, of which one can be listed.
fn header(messages: &[Vec<Row>]) -> Option<Row> {
    let first = messages.first()?.first()?;
    let same = |lines: &Vec<Row>| lines.len() > 1 && lines.first() == Some(first);
    let listed = first.iter().any(|field| can_be_listed(field.trimmed()));
    (messages.iter().all(same) && names(first) && listed).then(|| first.clone())
}

/// A line that may be a header, where each line is a message of its own.
fn perhaps_header(rows: &[&Row]) -> Option<String> {
    let first = rows
        .first()
        .filter(|first| rows.len() > 1 && names(first))?;
    let typed = |n: usize| {
        let mut texts = Texts::default();
        let rest = rows.iter().skip(1).filter_map(|row| row.get(n));
        rest.for_each(|field| texts.see(&field.text));
        texts.named() != "string"
    };
    let told: Vec<&str> = first.iter().map(|field| field.text.trim()).collect();
    (0..first.len()).any(typed).then(|| {
        format!(
            "the first line may be a header ({}): --whole where the file is one message, which begins with it",
            told.join(", ")
        )
    })
}

/// All different, none of them empty or a value.
fn names(row: &Row) -> bool {
    let mut known = BTreeSet::new();
    row.iter().all(|field| {
        let text = field.text.trim();
        let mut texts = Texts::default();
        texts.see(text);
        !text.is_empty() && texts.named() == "string" && known.insert(text.to_lowercase())
    })
}

/// A word for null that occurs without quotes in a column with other values.
fn null_value(rows: &[&Row]) -> Option<&'static str> {
    let fields = || rows.iter().flat_map(|row| row.iter());
    let count = |word: &str| {
        let is = |field: &&Field| !field.quoted && field.trimmed() == word;
        fields().filter(is).count()
    };
    let counted = NULLS.iter().map(|word| (count(word), *word));
    let (count, word) = counted.max_by_key(|(count, _)| *count)?;
    (count > 0).then_some(word)
}

/// The dialect under which most lines have the same number of fields, and the messages read by it.
fn best(messages: &[&[u8]]) -> (Dialect, Vec<Lines>) {
    let mut found: Option<(Score, Dialect, Vec<Lines>)> = None;
    for (separator, named) in SEPARATORS {
        for (quotes, escapes) in [(true, false), (true, true), (false, false)] {
            let dialect = Dialect {
                separator,
                named,
                quotes,
                escapes,
            };
            let read: Vec<Lines> = messages.iter().map(|m| lines(m, dialect)).collect();
            let sound = read.iter().filter(|lines| lines.is_ok()).count();
            let widths = widths(&read);
            let even = widths.iter().filter(|(width, _)| **width > 1);
            let even = even.map(|(_, n)| *n).max().unwrap_or(0);
            let score = (even > 0, sound, even);
            if found.as_ref().is_none_or(|(best, _, _)| score > *best) {
                found = Some((score, dialect, read));
            }
        }
    }
    let (separator, named) = SEPARATORS[0];
    let none = Dialect {
        separator,
        named,
        quotes: true,
        escapes: false,
    };
    found.map_or((none, Vec::new()), |(_, dialect, read)| (dialect, read))
}

/// Fields of a line → lines that have so many.
fn widths(read: &[Lines]) -> BTreeMap<usize, usize> {
    let mut widths = BTreeMap::new();
    for row in read.iter().flatten().flatten() {
        *widths.entry(row.len()).or_default() += 1;
    }
    widths
}

/// The lines that csv-parse makes of a message; `Err`: it refuses the message or a quote in it.
fn lines(message: &[u8], dialect: Dialect) -> Lines {
    let message = message.strip_prefix(b"\xef\xbb\xbf").unwrap_or(message);
    let text = str::from_utf8(message).map_err(|e| format!("not UTF-8: {e} (not_utf8)"))?;
    let mut rows = Vec::new();
    let (mut row, mut field) = (Row::new(), Field::default());
    let mut chars = text.chars().peekable();
    let (mut inside, mut begun) = (false, false);
    let end_line = |row: &mut Row, rows: &mut Vec<Row>| {
        let line = std::mem::take(row);
        // An empty line is no row.
        if line.len() > 1 || line.iter().any(|f| f.quoted || !f.text.is_empty()) {
            rows.push(line);
        }
    };
    while let Some(c) = chars.next() {
        match c {
            '\\' if inside && dialect.escapes => field.text.extend(chars.next()),
            '"' if inside && chars.peek() == Some(&'"') => {
                chars.next();
                field.text.push('"');
            }
            '"' if inside => {
                inside = false;
                let next = chars.peek().copied();
                let ends = |c: char| c == dialect.separator || matches!(c, '\n' | '\r');
                if next.is_some_and(|c| !ends(c)) {
                    return Err(
                        "something else than a separator follows a closing quote (malformed_csv)"
                            .into(),
                    );
                }
            }
            c if inside => field.text.push(c),
            '"' if dialect.quotes && !begun => (inside, begun, field.quoted) = (true, true, true),
            '"' if dialect.quotes => {
                return Err("a quote stands inside a field (bare_quote)".into());
            }
            c if c == dialect.separator => {
                row.push(std::mem::take(&mut field));
                begun = false;
            }
            '\n' | '\r' => {
                row.push(std::mem::take(&mut field));
                begun = false;
                end_line(&mut row, &mut rows);
            }
            c => {
                begun = true;
                field.text.push(c);
            }
        }
    }
    if inside {
        return Err("a quote is never closed (malformed_csv)".into());
    }
    row.push(field);
    end_line(&mut row, &mut rows);
    Ok(rows)
}
