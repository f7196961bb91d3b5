//! Infers keys of `csv-parse` from messages with separated fields: the separator that divides lines evenly, a header if
//! the first line of each message is one, a type if every field of a column has it.

use std::collections::{BTreeMap, BTreeSet};

use super::kinds::{Texts, renamed, taken, unlike};
use super::render::{Page, some_of};

/// Separators that are tried, the usual first, as the config writes them.
const SEPARATORS: [(char, &str); 4] = [(',', ","), (';', ";"), ('\t', "tab"), ('|', "|")];
/// Words for null, in a column that has other values.
const NULLS: [&str; 3] = ["\\N", "NULL", "null"];
/// What stands for no value: it shows neither that a line is a header nor that it is none.
const NO_VALUES: [&str; 9] = [
    "\\N", "NULL", "null", "None", "NaN", "NA", "N/A", "n/a", "-",
];
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

/// What the map is for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Each message begins with the first line of its file.
    pub headed: bool,
    /// The map is put in force as it is: none that drops fields.
    pub kept: bool,
}

/// The map; `Err` says why there is none.
pub fn infer(mut page: Page, messages: &[&[u8]], wanted: Wanted) -> Result<Page, String> {
    let (dialect, read) = best(messages);
    let mut sound: Vec<Vec<Row>> = Vec::new();
    for (n, lines) in read.into_iter().enumerate() {
        match lines {
            Ok(lines) if lines.is_empty() || messages[n].trim_ascii().is_empty() => {
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
    written(&mut page, dialect);
    if wanted.headed {
        are_headers(&sound)?;
    }
    let named = wanted.headed || have_header(&sound);
    if named {
        let note = "each message begins with a line of names";
        page.set_noted("header-line", true, note);
    }
    let most = per_message.iter().max().copied().unwrap_or(0);
    page.limit("max-rows", MAX_ROWS, most, "lines of the largest message");
    if !named {
        let rows: Vec<&Row> = sound.iter().flatten().collect();
        page.notes.extend(perhaps_header(&rows));
    }
    let mut all = sound.iter().flatten().flatten();
    let trims = all.any(|field| field.trimmed() != field.text);
    let table = Table::of(&sound, named);
    fill(&mut page, &table, trims, wanted.kept)?;
    Ok(page)
}

/// How fields are separated and quoted.
fn written(page: &mut Page, dialect: Dialect) {
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
}

/// The fields of all rows, by column.
#[derive(Default)]
struct Table<'a> {
    /// As the headers name them, in the order in which they come; none: columns have places alone.
    names: Option<Vec<&'a str>>,
    columns: Vec<Vec<&'a Field>>,
    rows: usize,
    /// Rows with fewer fields than their message has columns, and with more.
    short: usize,
    long: usize,
    /// Messages whose header lacks a name that another one has.
    lacking: usize,
}

impl<'a> Table<'a> {
    /// `named`: the first line of each message says what its fields are.
    fn of(messages: &'a [Vec<Row>], named: bool) -> Table<'a> {
        let mut table = Table::default();
        if !named {
            let rows = || messages.iter().flatten();
            let widest = rows().map(Vec::len).max().unwrap_or(0);
            let places: Vec<usize> = (0..widest).collect();
            table.columns.resize(widest, Vec::new());
            rows().for_each(|row| table.add(row, &places));
            return table;
        }
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        let (mut names, mut widths) = (Vec::new(), Vec::new());
        for (header, rows) in messages.iter().filter_map(|lines| lines.split_first()) {
            let mut place = |field: &'a Field| {
                let name = field.trimmed();
                *known.entry(name).or_insert_with(|| {
                    names.push(name);
                    names.len() - 1
                })
            };
            let places: Vec<usize> = header.iter().map(&mut place).collect();
            table.columns.resize(names.len(), Vec::new());
            rows.iter().for_each(|row| table.add(row, &places));
            widths.push(places.len());
        }
        table.lacking = widths.iter().filter(|width| **width < names.len()).count();
        table.names = Some(names);
        table
    }

    fn add(&mut self, row: &'a Row, places: &[usize]) {
        self.rows += 1;
        self.short += usize::from(row.len() < places.len());
        self.long += usize::from(row.len() > places.len());
        for (place, field) in places.iter().zip(row) {
            self.columns[*place].push(field);
        }
    }
}

fn fill(page: &mut Page, table: &Table<'_>, trims: bool, kept: bool) -> Result<(), String> {
    let rows = table.rows;
    if table.short > 0 {
        let note = format!("{} of {rows} lines have fewer fields", table.short);
        page.set_noted("missing", "null", &note);
    } else if table.lacking > 0 {
        let note = format!("{} headers lack a name that others have", table.lacking);
        page.set_noted("missing", "null", &note);
    }
    if trims {
        let note = "blanks stand around fields";
        page.set_noted("trim", true, note);
    }
    let null = null_value(table);
    if let Some(null) = null {
        page.set("null-value", null);
    }
    let mut used = taken();
    let (mut left_out, mut numbers) = (None, false);
    for (n, fields) in table.columns.iter().enumerate() {
        let given = table.names.as_ref().map(|names| names[n]);
        match given.filter(|name| !can_be_listed(name)) {
            Some(name) => left_out = left_out.or(Some(name)),
            None => numbers |= column(page, (n, given), (fields, null), &mut used),
        }
    }
    if numbers {
        let note = "a later number with `+` or zeros before it is refused, not changed";
        page.set_noted("numbers", "plain", note);
    }
    let note = match left_out {
        Some(name) if kept => {
            return Err(format!(
                "a list of columns cannot hold the name {name:?} of the first line"
            ));
        }
        Some(name) => format!("the column {name:?} cannot stand in a list of names"),
        None => format!("{} of {rows} lines have more fields", table.long),
    };
    match (table.long > 0, kept) {
        (true, true) => page.notes.push(format!("{note}: they are refused")),
        (_, false) if table.long > 0 || left_out.is_some() => {
            page.set_noted("extra", "ignore", &note);
        }
        _ => {}
    }
    Ok(())
}

/// Adds column `n`, which a header calls `given`. True: it is of numbers.
fn column(
    page: &mut Page,
    (n, given): (usize, Option<&str>),
    (fields, null): (&[&Field], Option<&str>),
    used: &mut BTreeSet<String>,
) -> bool {
    let mut texts = Texts::default();
    for field in fields {
        if field.quoted || null != Some(field.trimmed()) {
            texts.see(field.trimmed());
        }
    }
    let plain = match given {
        Some(given) => named(given, n),
        None => format!("column_{}", n + 1),
    };
    let name = unlike(plain.clone(), used);
    page.notes.extend(renamed(&plain, &name));
    let field = given.unwrap_or(&name);
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
        return false;
    }
    if kind != "string" {
        page.column_type(&name, &kind, &texts.shown.join(", "));
    }
    let conflict = texts.conflict();
    page.notes
        .extend(conflict.map(|told| format!("{name}: {told}")));
    is_number(&kind)
}

fn is_number(kind: &str) -> bool {
    ["int", "long", "double"].contains(&kind) || kind.starts_with("decimal(")
}

/// A list of columns divides at commas and drops blanks.
fn can_be_listed(name: &str) -> bool {
    !name.contains(',') && name.trim() == name
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

/// Whether every message of several lines begins with the same one, and it holds names, of which one can be listed.
fn have_header(messages: &[Vec<Row>]) -> bool {
    let Some(first) = messages.first().and_then(|lines| lines.first()) else {
        return false;
    };
    let same = |lines: &Vec<Row>| lines.len() > 1 && lines.first() == Some(first);
    let listed = first.iter().any(|field| can_be_listed(field.trimmed()));
    messages.iter().all(same) && names(first) && listed
}

/// Whether the first lines of messages, which are those of files, name the fields below them; `Err` says which does not.
fn are_headers(messages: &[Vec<Row>]) -> Result<(), String> {
    let mut headers: BTreeMap<Vec<&str>, Vec<&Row>> = BTreeMap::new();
    for (header, rows) in messages.iter().filter_map(|lines| lines.split_first()) {
        let names = header.iter().map(Field::trimmed).collect();
        headers.entry(names).or_default().extend(rows);
    }
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for (names, rows) in &headers {
        let shown = names.join(", ");
        let mut once = BTreeSet::new();
        if let Some(twice) = names.iter().find(|name| !once.insert(**name)) {
            return Err(format!(
                "the first line of a file ({shown}) has two fields called {twice:?}: mend the file, or read columns by \
                 their place: source.header = \"drop\", under another name of the pipeline"
            ));
        }
        if !is_header(names, rows) {
            return Err(format!(
                "the first line of a file ({shown}) looks like a row, not like names: where files have no header, \
                 source.header = \"none\", under another name of the pipeline"
            ));
        }
        if !known.is_empty() && !names.iter().any(|name| known.contains(name)) {
            let known = Vec::from_iter(known).join(", ");
            return Err(format!(
                "the first line of a file ({shown}) shares no name with that of others ({known}): where files have no \
                 header, source.header = \"none\", under another name of the pipeline; for other tables a pipeline each"
            ));
        }
        known.extend(names);
    }
    Ok(())
}

/// Whether these are names of the fields of `rows`: one of them is no number, date, … where all fields below it are; or all
/// are words, and none is a value of its own column.
fn is_header(names: &[&str], rows: &[&Row]) -> bool {
    let is_repeated = |row: &Row| row.iter().map(Field::trimmed).eq(names.iter().copied());
    let rows = || rows.iter().filter(|row| !is_repeated(row));
    let below = |n: usize| rows().filter_map(move |row| row.get(n));
    let differs = |(n, name): (usize, &&str)| {
        let mut texts = Texts::default();
        for field in below(n) {
            if field.quoted || !NO_VALUES.contains(&field.trimmed()) {
                texts.see(field.trimmed());
            }
        }
        let typed = texts.named() != "string";
        texts.see(name);
        typed && !name.is_empty() && !NO_VALUES.contains(name) && texts.named() == "string"
    };
    if names.iter().enumerate().any(differs) {
        return true;
    }
    let is_word = |name: &&str| {
        let mut texts = Texts::default();
        texts.see(name);
        !name.is_empty() && texts.named() == "string"
    };
    let is_value = |(n, name): (usize, &&str)| below(n).any(|field| field.trimmed() == *name);
    names.iter().all(is_word) && !names.iter().enumerate().any(is_value)
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
fn null_value(table: &Table<'_>) -> Option<&'static str> {
    let fields = || table.columns.iter().flatten();
    let count = |word: &str| {
        let is = |field: &&&Field| !field.quoted && field.trimmed() == word;
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
