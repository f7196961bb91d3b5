//! A slow and simple flattener: quick-xml's events, a strict layer over them, a tree, and then the paths. It shares no
//! line with the plugin; both follow `docs/plugins/xml-flatten.md`.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mixed {
    Own,
    All,
    Reject,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Repeat {
    Reject,
    First,
    Last,
    Json,
}

#[derive(Debug, Clone)]
pub struct Column {
    pub name: &'static str,
    /// Elements up from the row element, where the path begins.
    pub up: usize,
    /// Elements from there down.
    pub path: Vec<&'static str>,
    pub attribute: Option<&'static str>,
    pub int: bool,
}

#[derive(Debug, Clone)]
pub struct Config {
    pub columns: Vec<Column>,
    pub explode: Option<Vec<&'static str>>,
    pub repeat: Repeat,
    pub mixed: Mixed,
    pub local_names: bool,
    pub trim: bool,
    pub empty_as_null: bool,
    pub null_value: Option<&'static str>,
    pub depth: usize,
    pub attributes: usize,
    pub namespaces: usize,
    pub text: usize,
    pub rows: usize,
}

/// A piece: its cells, or the codes and columns for which it is refused, sorted.
pub type Piece = Result<Vec<Option<String>>, Vec<(String, String)>>;

#[derive(Debug, PartialEq)]
pub struct Flat {
    pub pieces: Vec<Piece>,
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    content: Vec<Content>,
}

#[derive(Debug)]
enum Content {
    Text(String),
    Element(Element),
}

const MALFORMED: &str = "malformed_xml";

/// Rows and refused pieces in their order, or the code for which the whole message is refused.
pub fn flatten(config: &Config, message: &[u8]) -> Result<Flat, &'static str> {
    let bytes = message.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(message);
    let blank = |b: &u8| b" \t\r\n".contains(b);
    if bytes.iter().all(blank) {
        return Err("empty_value");
    }
    let text = std::str::from_utf8(bytes).map_err(|_| MALFORMED)?;
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    if !text.chars().all(is_character) {
        return Err(MALFORMED);
    }
    // quick-xml would pass over a second mark.
    if text.starts_with('\u{FEFF}') {
        return Err(MALFORMED);
    }
    let root = tree(config, &text)?;
    let mut rows = Vec::new();
    find_rows(config, &root, &mut Vec::new(), &mut rows);
    if rows.is_empty() {
        return Err("no_rows");
    }
    let mut flat = Flat {
        pieces: Vec::new(),
        dropped: 0,
    };
    outside(config, &root, &mut flat.dropped)?;
    for (row, around) in rows {
        flatten_row(config, row, &around, &mut flat)?;
    }
    Ok(flat)
}

// === the strict tree ===

fn tree(config: &Config, text: &str) -> Result<Element, &'static str> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = true;
    let mut open: Vec<Element> = Vec::new();
    let mut root: Option<Element> = None;
    let (mut first, mut namespaces) = (true, 0);
    loop {
        let at = reader.buffer_position() as usize;
        let event = reader.read_event().map_err(|_| {
            let at = reader.error_position() as usize;
            let rest = text.as_bytes().get(at..at + 9).unwrap_or_default();
            match rest.eq_ignore_ascii_case(b"<!DOCTYPE") {
                true => "doctype_not_allowed",
                false => MALFORMED,
            }
        })?;
        match event {
            Event::Start(tag) => {
                let element = start(config, &tag, open.len(), root.is_some(), &mut namespaces)?;
                open.push(element);
            }
            Event::Empty(tag) => {
                let element = start(config, &tag, open.len(), root.is_some(), &mut namespaces)?;
                close(element, &mut open, &mut root);
            }
            Event::End(_) => {
                let element = open.pop().ok_or(MALFORMED)?;
                close(element, &mut open, &mut root);
            }
            Event::Text(piece) => {
                let piece = std::str::from_utf8(&piece).map_err(|_| MALFORMED)?;
                if piece.contains("]]>") {
                    return Err(MALFORMED);
                }
                add(config, &mut open, piece, true)?;
            }
            Event::CData(piece) => {
                if open.is_empty() {
                    return Err(MALFORMED);
                }
                let piece = std::str::from_utf8(&piece).map_err(|_| MALFORMED)?;
                add(config, &mut open, piece, true)?;
            }
            Event::GeneralRef(name) => {
                if open.is_empty() {
                    return Err(MALFORMED);
                }
                let name = std::str::from_utf8(&name).map_err(|_| MALFORMED)?;
                add(config, &mut open, &reference(name)?.to_string(), false)?;
            }
            Event::PI(pi) => {
                let target = std::str::from_utf8(pi.target()).map_err(|_| MALFORMED)?;
                if !is_name(target) || target.eq_ignore_ascii_case("xml") {
                    return Err(MALFORMED);
                }
            }
            Event::Decl(declaration) => {
                if !first || at != 0 {
                    return Err(MALFORMED);
                }
                declared(std::str::from_utf8(&declaration).map_err(|_| MALFORMED)?)?;
            }
            Event::DocType(_) => return Err("doctype_not_allowed"),
            Event::Comment(_) => {}
            Event::Eof if open.is_empty() => return root.ok_or(MALFORMED),
            Event::Eof => return Err(MALFORMED),
        }
        first = false;
    }
}

fn close(element: Element, open: &mut [Element], root: &mut Option<Element>) {
    match open.last_mut() {
        Some(parent) => parent.content.push(Content::Element(element)),
        None => *root = Some(element),
    }
}

fn add(
    config: &Config,
    open: &mut [Element],
    piece: &str,
    literal: bool,
) -> Result<(), &'static str> {
    let blank = piece.chars().all(|c| " \t\n".contains(c));
    if open.is_empty() && !blank {
        return Err(MALFORMED);
    }
    // Blanks around the root are a text too.
    if literal && piece.len() > config.text {
        return Err("text_too_long");
    }
    let Some(element) = open.last_mut() else {
        return Ok(());
    };
    element.content.push(Content::Text(piece.to_owned()));
    Ok(())
}

fn start(
    config: &Config,
    tag: &BytesStart<'_>,
    depth: usize,
    rooted: bool,
    namespaces: &mut usize,
) -> Result<Element, &'static str> {
    if depth == 0 && rooted {
        return Err(MALFORMED);
    }
    if depth == config.depth {
        return Err("too_deep");
    }
    let whole = std::str::from_utf8(tag).map_err(|_| MALFORMED)?;
    let end = whole.find([' ', '\t', '\n', '\r']).unwrap_or(whole.len());
    let (name, rest) = whole.split_at(end);
    if !is_name(name) {
        return Err(MALFORMED);
    }
    let mut element = Element {
        name: name.to_owned(),
        ..Element::default()
    };
    let given = attributes(rest)?;
    for (n, (name, _)) in given.iter().enumerate() {
        if given[..n].iter().any(|(other, _)| other == name) {
            return Err(MALFORMED);
        }
    }
    if given.len() > config.attributes {
        return Err("too_many_attributes");
    }
    for (name, raw) in given {
        if name == "xmlns" || name.starts_with("xmlns:") {
            *namespaces += 1;
        }
        if *namespaces > config.namespaces {
            return Err("too_many_namespaces");
        }
        if raw.len() > config.text {
            return Err("text_too_long");
        }
        element
            .attributes
            .push((name.to_owned(), attribute_value(raw)?));
    }
    Ok(element)
}

/// Names and raw values of ` a="1" b='2'`.
fn attributes(mut rest: &str) -> Result<Vec<(&str, &str)>, &'static str> {
    let blanks = |c: char| " \t\n\r".contains(c);
    let mut all = Vec::new();
    loop {
        let trimmed = rest.trim_start_matches(blanks);
        if trimmed.is_empty() {
            return Ok(all);
        }
        if trimmed.len() == rest.len() {
            return Err(MALFORMED);
        }
        let (name, value) = trimmed.split_once('=').ok_or(MALFORMED)?;
        let name = name.trim_end_matches(blanks);
        let value = value.trim_start_matches(blanks);
        let quote = value
            .chars()
            .next()
            .filter(|c| "\"'".contains(*c))
            .ok_or(MALFORMED)?;
        let (value, after) = value[1..].split_once(quote).ok_or(MALFORMED)?;
        if !is_name(name) || value.contains('<') {
            return Err(MALFORMED);
        }
        all.push((name, value));
        rest = after;
    }
}

fn attribute_value(raw: &str) -> Result<String, &'static str> {
    let spaced = raw.replace(['\t', '\n', '\r'], " ");
    let mut pieces = spaced.split('&');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, text) = piece.split_once(';').ok_or(MALFORMED)?;
        out.push(reference(name)?);
        out += text;
    }
    Ok(out)
}

fn reference(name: &str) -> Result<char, &'static str> {
    let known = [
        ("lt", '<'),
        ("gt", '>'),
        ("amp", '&'),
        ("apos", '\''),
        ("quot", '"'),
    ];
    if let Some((_, c)) = known.iter().find(|(known, _)| *known == name) {
        return Ok(*c);
    }
    let Some(number) = name.strip_prefix('#') else {
        return Err(if is_name(name) {
            "unknown_entity"
        } else {
            MALFORMED
        });
    };
    let (digits, radix) = number
        .strip_prefix('x')
        .map_or((number, 10), |hex| (hex, 16));
    let mut code = 0u32;
    for c in digits.chars() {
        let digit = c.to_digit(radix).ok_or(MALFORMED)?;
        code = code.saturating_mul(radix).saturating_add(digit);
    }
    let c = char::from_u32(code).filter(|c| !digits.is_empty() && is_character(*c));
    c.ok_or(MALFORMED)
}

fn declared(content: &str) -> Result<(), &'static str> {
    let given = attributes(content.strip_prefix("xml").ok_or(MALFORMED)?)?;
    let names: Vec<&str> = given.iter().map(|(name, _)| *name).collect();
    let order: [&[&str]; 4] = [
        &["version"],
        &["version", "encoding"],
        &["version", "standalone"],
        &["version", "encoding", "standalone"],
    ];
    let minor = given
        .first()
        .and_then(|(_, version)| version.strip_prefix("1."));
    let sound = minor.is_some_and(|m| !m.is_empty() && m.bytes().all(|b| b.is_ascii_digit()));
    let alone = given
        .iter()
        .all(|(name, value)| *name != "standalone" || ["yes", "no"].contains(value));
    match order.contains(&&names[..]) && sound && alone {
        true => Ok(()),
        false => Err(MALFORMED),
    }
}

/// `Char` of XML 1.0.
fn is_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

/// `Name` of XML 1.0, fifth edition.
fn is_name(name: &str) -> bool {
    let begins = |c: char| {
        let code = c as u32;
        let ranges = [
            (0xC0, 0xD6),
            (0xD8, 0xF6),
            (0xF8, 0x2FF),
            (0x370, 0x37D),
            (0x37F, 0x1FFF),
            (0x200C, 0x200D),
            (0x2070, 0x218F),
            (0x2C00, 0x2FEF),
            (0x3001, 0xD7FF),
            (0xF900, 0xFDCF),
            (0xFDF0, 0xFFFD),
            (0x10000, 0xEFFFF),
        ];
        c.is_ascii_alphabetic()
            || c == ':'
            || c == '_'
            || ranges
                .iter()
                .any(|(from, to)| (*from..=*to).contains(&code))
    };
    let follows = |c: char| {
        begins(c)
            || c.is_ascii_digit()
            || "-.\u{B7}".contains(c)
            || matches!(c, '\u{300}'..='\u{36F}' | '\u{203F}'..='\u{2040}')
    };
    name.chars().next().is_some_and(begins) && name.chars().all(follows)
}

// === from the tree to rows ===

fn is(config: &Config, name: &str, wanted: &str) -> bool {
    let local = name.split_once(':').map(|(_, local)| local);
    name == wanted || (config.local_names && local == Some(wanted))
}

/// A row element, and those around it, the root first.
type Row<'e> = (&'e Element, Vec<&'e Element>);

fn find_rows<'e>(
    config: &Config,
    element: &'e Element,
    around: &mut Vec<&'e Element>,
    rows: &mut Vec<Row<'e>>,
) {
    if is(config, &element.name, "book") {
        rows.push((element, around.clone()));
        return;
    }
    around.push(element);
    for child in children(element) {
        find_rows(config, child, around, rows);
    }
    around.pop();
}

fn children(element: &Element) -> impl Iterator<Item = &Element> {
    element.content.iter().filter_map(|content| match content {
        Content::Element(child) => Some(child),
        Content::Text(_) => None,
    })
}

/// Elements at `path` below `element`, in document order.
fn at<'e>(config: &Config, element: &'e Element, path: &[&str]) -> Vec<&'e Element> {
    let Some((name, rest)) = path.split_first() else {
        return vec![element];
    };
    let named = children(element).filter(|child| is(config, &child.name, name));
    named.flat_map(|child| at(config, child, rest)).collect()
}

fn text(config: &Config, element: &Element) -> String {
    let piece = |content: &Content| match content {
        Content::Text(text) => text.clone(),
        Content::Element(child) if config.mixed == Mixed::All => text(config, child),
        Content::Element(_) => String::new(),
    };
    element.content.iter().map(piece).collect()
}

fn trimmed<'t>(config: &Config, text: &'t str) -> &'t str {
    match config.trim {
        true => text.trim_matches([' ', '\t', '\n', '\r']),
        false => text,
    }
}

// === columns from above the row ===

/// What happens below an element around rows, in document order.
enum Seen<'e> {
    /// A text or attribute of the column; whether it is mixed content.
    Value(String, bool),
    /// A row that asks this element.
    Row(&'e Element),
}

fn seen<'e>(
    config: &Config,
    column: &Column,
    element: &'e Element,
    (deep, path): (usize, Option<&[&str]>),
    into: &mut Vec<Seen<'e>>,
) -> Result<(), &'static str> {
    let ends = path.is_some_and(<[&str]>::is_empty);
    if ends && let Some(wanted) = column.attribute {
        for (name, value) in &element.attributes {
            let declares = name == "xmlns" || name.starts_with("xmlns:");
            if !declares && is(config, name, wanted) {
                into.push(Seen::Value(value.clone(), false));
            }
        }
    }
    for child in children(element) {
        if is(config, &child.name, "book") {
            if deep + 1 == column.up {
                into.push(Seen::Row(child));
            }
            continue;
        }
        let first = path.and_then(<[&str]>::split_first);
        let rest = first.and_then(|(name, rest)| is(config, &child.name, name).then_some(rest));
        seen(config, column, child, (deep + 1, rest), into)?;
    }
    if ends && column.attribute.is_none() {
        let found = text(config, element);
        if found.len() > config.text {
            return Err("text_too_long");
        }
        let mixed = config.mixed == Mixed::Reject
            && children(element).next().is_some()
            && !found.chars().all(|c| " \t\n\r".contains(c));
        into.push(Seen::Value(found, mixed));
    }
    Ok(())
}

/// Goes through `seen`; what `row` gets, with the codes that refuse it, if it is among them.
fn given(
    config: &Config,
    seen: &[Seen<'_>],
    row: Option<&Element>,
    dropped: &mut u64,
) -> Result<(Option<String>, Vec<&'static str>), &'static str> {
    let mut got = (None, Vec::new());
    let mut before: Vec<&(String, bool)> = Vec::new();
    let values: Vec<(String, bool)> = seen
        .iter()
        .map(|seen| match seen {
            Seen::Value(value, mixed) => (value.clone(), *mixed),
            Seen::Row(_) => Default::default(),
        })
        .collect();
    let (mut rows, mut rows_since, mut lost) = (0, 0, 0);
    for (seen, value) in seen.iter().zip(&values) {
        match seen {
            Seen::Row(at) => {
                rows += 1;
                rows_since += 1;
                let chosen = match config.repeat {
                    Repeat::Last => before.last(),
                    _ => before.first(),
                };
                if row.is_some_and(|row| std::ptr::eq(row, *at)) {
                    let many = config.repeat == Repeat::Reject && before.len() > 1;
                    let mixed = chosen.is_some_and(|value| value.1);
                    let codes = [(many, "repeated_element"), (mixed, "mixed_content")];
                    let codes = codes.iter().filter(|(is, _)| *is).map(|(_, code)| *code);
                    got = (chosen.map(|value| value.0.clone()), codes.collect());
                }
            }
            Seen::Value(..) => {
                match config.repeat {
                    Repeat::Last => lost += u64::from(!before.is_empty() && rows_since == 0),
                    Repeat::First if !before.is_empty() => lost += 1,
                    _ if rows > 0 => return Err("late_value"),
                    _ => {}
                }
                rows_since = 0;
                before.push(value);
            }
        }
    }
    if rows > 0 {
        let late = config.repeat == Repeat::Last && !before.is_empty() && rows_since == 0;
        *dropped += lost + u64::from(late);
    }
    Ok(got)
}

/// Faults and dropped values of every element that could be around a row.
fn outside(config: &Config, element: &Element, dropped: &mut u64) -> Result<(), &'static str> {
    if is(config, &element.name, "book") {
        return Ok(());
    }
    for column in config.columns.iter().filter(|column| column.up > 0) {
        let mut all = Vec::new();
        seen(config, column, element, (0, Some(&column.path)), &mut all)?;
        given(config, &all, None, dropped)?;
    }
    children(element).try_for_each(|child| outside(config, child, dropped))
}

/// What is refused of a row or of one repetition in it, by code and column.
type Refusals = Vec<(String, String)>;

/// The one value of `column` below `from`, where `path` leads.
fn value(
    config: &Config,
    column: &Column,
    from: &Element,
    path: &[&str],
    refusals: &mut Refusals,
    dropped: &mut u64,
) -> Result<Option<String>, &'static str> {
    let mut values = Vec::new();
    for element in at(config, from, path) {
        if let Some(wanted) = column.attribute {
            for (name, value) in &element.attributes {
                let declares = name == "xmlns" || name.starts_with("xmlns:");
                if name == wanted || (!declares && is(config, name, wanted)) {
                    values.push(value.clone());
                }
            }
            continue;
        }
        let found = text(config, element);
        if found.len() > config.text {
            return Err("text_too_long");
        }
        let mixed = config.mixed == Mixed::Reject && children(element).next().is_some();
        if mixed && !found.chars().all(|c| " \t\n\r".contains(c)) {
            refusals.push(("mixed_content".into(), column.name.into()));
        }
        values.push(found);
    }
    let many = values.len().saturating_sub(1) as u64;
    Ok(match config.repeat {
        Repeat::Json if !values.is_empty() => {
            let quoted: Vec<String> = values.iter().map(|v| quote(trimmed(config, v))).collect();
            Some(format!("[{}]", quoted.join(",")))
        }
        Repeat::Json => None,
        Repeat::Reject if many > 0 => {
            refusals.push(("repeated_element".into(), column.name.into()));
            values.into_iter().next()
        }
        Repeat::First | Repeat::Reject => {
            *dropped += if config.repeat == Repeat::First {
                many
            } else {
                0
            };
            values.into_iter().next()
        }
        Repeat::Last => {
            *dropped += many;
            values.pop()
        }
    })
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            c if (c as u32) < 0x20 => out += &format!("\\u{:04x}", c as u32),
            c => out.push(c),
        }
    }
    out + "\""
}

fn flatten_row(
    config: &Config,
    row: &Element,
    around: &[&Element],
    flat: &mut Flat,
) -> Result<(), &'static str> {
    let mut refusals = Refusals::new();
    let groups: Vec<Option<&Element>> = match &config.explode {
        None => vec![None],
        Some(path) => {
            let found: Vec<_> = at(config, row, path).into_iter().map(Some).collect();
            if found.is_empty() { vec![None] } else { found }
        }
    };
    let below = |column: &Column| {
        let explode = config.explode.as_ref();
        column.up == 0 && explode.is_some_and(|explode| column.path.starts_with(explode))
    };
    let mut shared = Vec::new();
    for column in config.columns.iter().filter(|column| !below(column)) {
        let path = &column.path;
        if column.up > 0 {
            let mut all = Vec::new();
            if let Some(from) = around.len().checked_sub(column.up) {
                seen(config, column, around[from], (0, Some(path)), &mut all)?;
            }
            let (value, codes) = given(config, &all, Some(row), &mut 0)?;
            let codes = codes
                .iter()
                .map(|code| (code.to_string(), column.name.into()));
            refusals.extend(codes);
            shared.push(value);
            continue;
        }
        shared.push(value(
            config,
            column,
            row,
            path,
            &mut refusals,
            &mut flat.dropped,
        )?);
    }
    let mut pieces = Vec::new();
    for group in groups {
        let mut shared = shared.iter().cloned();
        let mut cells = Vec::new();
        let mut own = Refusals::new();
        for column in &config.columns {
            cells.push(match group {
                _ if !below(column) => shared.next().flatten(),
                None => None,
                Some(element) => {
                    let path = &column.path[config.explode.as_ref().map_or(0, Vec::len)..];
                    value(config, column, element, path, &mut own, &mut flat.dropped)?
                }
            });
        }
        pieces.push((cells, own));
    }
    for (cells, own) in pieces {
        if flat.pieces.len() == config.rows {
            return Err("too_many_rows");
        }
        let mut why = [refusals.clone(), own].concat();
        let mut row = Vec::new();
        for (column, cell) in config.columns.iter().zip(cells) {
            let cell = cell.map(|cell| trimmed(config, &cell).to_owned());
            let null = |cell: &String| {
                config.null_value == Some(cell)
                    || cell.is_empty() && (config.empty_as_null || column.int)
            };
            let cell = cell.filter(|cell| !null(cell));
            row.push(match cell {
                Some(cell) if column.int => match int(&cell) {
                    Some(number) => Some(number.to_string()),
                    None => {
                        why.push(("bad_int".into(), column.name.into()));
                        None
                    }
                },
                cell => cell,
            });
        }
        why.sort();
        why.dedup();
        flat.pieces
            .push(if why.is_empty() { Ok(row) } else { Err(why) });
    }
    Ok(())
}

fn int(text: &str) -> Option<i32> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}
