//! Infers keys of `xml-flatten` from XML messages: the element that repeats is the row, its descendants are the
//! columns.

use std::collections::{BTreeMap, BTreeSet};

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::encoding;
use super::kinds::{Texts, renamed, taken, unlike};
use super::render::{Page, some_of};

/// The largest `max-depth`; deeper messages are reported as unreadable.
const DEEPEST: usize = 1024;
/// Limits of xml-flatten where the config does not say another.
const MAX_DEPTH: usize = 64;
const MAX_ATTRIBUTES: usize = 256;
const MAX_NAMESPACES: usize = 64;
const MAX_TEXT: usize = 1 << 20;
const MAX_ROWS: usize = 10_000;
/// See [`super::Format::widest`]. Whether there is a row in the message is another question.
pub const WIDEST: &[(&str, &str)] = &[
    ("row-tag", "row"),
    ("columns", "_VALUE"),
    ("max-depth", "1024"),
    ("max-attributes", "4096"),
    ("max-namespaces", "4096"),
    ("max-text-bytes", "67108864"),
    ("max-rows", "1000000"),
];

/// `value-tag` of xml-flatten where the config does not say another.
const VALUE_TAG: &str = "_VALUE";
/// What xml-flatten trims, and takes for nothing.
const BLANK: [char; 4] = [' ', '\t', '\r', '\n'];

/// The most of each that a message has.
#[derive(Debug, Default)]
struct Sizes {
    depth: usize,
    attributes: usize,
    namespaces: usize,
    text: usize,
}

#[derive(Debug, Default)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Element>,
    text: String,
}

impl Element {
    /// Whether it has more than a text, so that it can be a row.
    fn has_fields(&self) -> bool {
        !self.children.is_empty() || !self.attributes.is_empty()
    }

    /// Fields that are texts, below or beside which rows may repeat.
    fn has_values(&self) -> bool {
        let leaf = |child: &Element| !child.has_fields();
        self.children.iter().any(leaf) || !self.attributes.is_empty()
    }
}

/// What was seen of one column, over all rows.
#[derive(Debug, Default)]
struct Column {
    texts: Texts,
    rows: u64,
    most: u64,
    /// It has children too.
    mixed: bool,
}

/// The map; `Err` says why there is none.
pub fn infer(mut page: Page, messages: &[&[u8]], row_tag: Option<&str>) -> Result<Page, String> {
    let (mut roots, mut places) = (Vec::new(), Vec::new());
    let mut doctypes = 0;
    let mut sizes = Sizes::default();
    for (n, message) in messages.iter().enumerate() {
        let text = page.readable(n).and_then(|()| encoding::decode(message));
        match text.and_then(|text| parse(&text, &mut sizes)) {
            Ok((root, doctype)) => {
                roots.push(root);
                places.push(n);
                doctypes += usize::from(doctype);
            }
            Err(why) => page.unread(n, why),
        }
    }
    let first = roots.first().ok_or_else(|| page.nothing("XML"))?;
    let guessed = row_of(&roots);
    let tag = match row_tag {
        Some(tag) => tag.to_owned(),
        None => guessed.clone().unwrap_or_else(|| first.name.clone()),
    };
    let mut rows = Vec::new();
    let mut per_message = Vec::new();
    for (root, n) in roots.iter().zip(places) {
        let before = rows.len();
        collect(root, &tag, &mut rows);
        per_message.push(rows.len() - before);
        if rows.len() == before {
            page.unread(n, format!("it has no element `{tag}` (no_rows)"));
        }
    }
    if rows.is_empty() {
        return Err(format!("no message has an element `{tag}`"));
    }
    page.head = vec![
        format!(
            "xml-flatten: {} of {} messages read",
            roots.len(),
            messages.len()
        ),
        format!(
            "row element `{tag}`: {} in all, {} a message",
            rows.len(),
            some_of(&per_message)
        ),
    ];
    if doctypes > 0 {
        page.head.push(format!(
            "{doctypes} of {} messages have a <!DOCTYPE: xml-flatten refuses them (doctype_not_allowed) until it is left out",
            messages.len()
        ));
        let ignore = "or passes over one that only names a DTD, with doctype = ignore";
        page.head.push(ignore.to_owned());
    }
    for Holder { name, path } in holders(&roots, &tag) {
        page.head.push(format!(
            "`{name}` around it has values too: a column of the path `{path}` takes one that comes before"
        ));
        page.head.push(format!(
            "the row; row-tag = \"{name}\" makes a row of each `{name}`"
        ));
    }
    fill(&mut page, &tag, &rows);
    let most = per_message.iter().max().copied().unwrap_or(0);
    limits(&mut page, &sizes, most);
    Ok(page)
}

fn limits(page: &mut Page, sizes: &Sizes, rows: usize) {
    let depth = "elements inside each other";
    let attributes = "attributes of one element";
    let namespaces = "namespaces of one message";
    page.limit("max-rows", MAX_ROWS, rows, "rows of the largest message");
    page.limit("max-depth", MAX_DEPTH, sizes.depth, depth);
    page.limit(
        "max-attributes",
        MAX_ATTRIBUTES,
        sizes.attributes,
        attributes,
    );
    page.limit(
        "max-namespaces",
        MAX_NAMESPACES,
        sizes.namespaces,
        namespaces,
    );
    page.limit(
        "max-text-bytes",
        MAX_TEXT,
        sizes.text,
        "bytes of the longest text",
    );
}

fn fill(page: &mut Page, tag: &str, rows: &[&Element]) {
    page.set("type", "xml-flatten");
    page.set("row-tag", tag);
    let (mut order, mut columns) = (Vec::new(), BTreeMap::<String, Column>::new());
    let mut repeated = BTreeMap::new();
    let own = value_tag(page, rows);
    for row in rows {
        let mut seen: BTreeMap<String, Vec<(String, bool)>> = BTreeMap::new();
        walk(row, &own, "", &mut order, &mut seen, &mut repeated);
        for (path, texts) in seen {
            let column = columns.entry(path).or_default();
            column.rows += 1;
            column.most = column.most.max(texts.len() as u64);
            for (text, mixed) in texts {
                column.texts.see(&text);
                column.mixed |= mixed;
            }
        }
    }
    if order.is_empty() {
        order.push(own.clone()); // rows without any content are rows
        columns.insert(own.clone(), Column::default());
    }
    let mut used = taken();
    for path in order {
        let Some(column) = columns.get(&path) else {
            continue;
        };
        if holds_only(&columns, &path) {
            continue;
        }
        // xml-flatten calls a/b a_b and @a _a; attributes of the row element read better without the prefix.
        let given = path.replace(['/', '@'], "_");
        let wanted = match given.trim_start_matches('_') {
            "" => given.as_str(),
            wanted => wanted,
        };
        let name = unlike(wanted.to_owned(), &mut used);
        page.notes.extend(renamed(wanted, &name));
        if !page.column(&name, &path, name == given, &about(column, rows.len())) {
            continue;
        }
        if column.most > 1 {
            let note = format!(
                "up to {} in a row; or \"first\", \"last\", \"explode\"",
                column.most
            );
            page.column_repeat(&name, "json", &note);
        } else if column.texts.named() != "string" {
            let seen = column.texts.shown.join(", ");
            let kind = column.texts.named();
            page.column_type(&name, &kind, &seen);
        }
        if let Some(conflict) = column.texts.conflict() {
            page.notes.push(format!("{name}: {conflict}"));
        }
        if column.mixed {
            page.notes.push(format!(
                "{name}: text and elements together; mixed-content says which text counts"
            ));
        }
    }
    for (path, most) in repeated {
        if !columns.contains_key(&path) || holds_only(&columns, &path) {
            page.notes.push(format!(
                "`{path}` comes up to {most} times in a row: explode = {path:?} makes each a row of its own, instead of the repeat lines below it"
            ));
        }
    }
}

/// Whether an element has fields below it and never a text of its own: then it is no column.
fn holds_only(columns: &BTreeMap<String, Column>, path: &str) -> bool {
    let below = format!("{path}/");
    let texts = columns.get(path).map_or(0, |column| column.texts.filled);
    let mut after = columns.range(below.clone()..);
    texts == 0
        && after
            .next()
            .is_some_and(|(other, _)| other.starts_with(&below))
}

/// Describes a column: how many rows have it, and its values.
fn about(column: &Column, rows: usize) -> String {
    let mut told = match column.rows == rows as u64 {
        true => "in every row".to_owned(),
        false => format!("in {} of {rows} rows", column.rows),
    };
    if column.texts.empty > 0 {
        told.push_str(&format!(", {} empty", column.texts.empty));
    }
    if let (Some(example), "string") = (column.texts.shown.first(), column.texts.named().as_str()) {
        told.push_str(&format!(": {example}"));
    }
    told
}

/// What stands for the text of a row in a path, and for no element.
fn value_tag(page: &mut Page, rows: &[&Element]) -> String {
    fn names<'a>(element: &'a Element, found: &mut BTreeSet<&'a str>) {
        for child in &element.children {
            found.insert(&child.name);
            names(child, found);
        }
    }
    let mut found = BTreeSet::new();
    rows.iter().for_each(|row| names(row, &mut found));
    let mut tag = VALUE_TAG.to_owned();
    while found.contains(tag.as_str()) {
        tag.push('_');
    }
    if tag != VALUE_TAG {
        let note = "an element has the name that stands for the text of a row";
        page.set_noted("value-tag", tag.as_str(), note);
    }
    tag
}

/// The values of one row, path by path; elements that repeat under one parent.
fn walk(
    element: &Element,
    own: &str,
    path: &str,
    order: &mut Vec<String>,
    seen: &mut BTreeMap<String, Vec<(String, bool)>>,
    repeated: &mut BTreeMap<String, usize>,
) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}/{name}"),
    };
    let mut value = |path: String, text: &str, mixed: bool| {
        if !order.contains(&path) {
            order.push(path.clone());
        }
        seen.entry(path).or_default().push((text.to_owned(), mixed));
    };
    for (name, text) in &element.attributes {
        value(below(&format!("@{name}")), text.trim_matches(BLANK), false);
    }
    let text = element.text.trim_matches(BLANK);
    let leaf = element.children.is_empty();
    if !path.is_empty() {
        // xml-flatten counts an element with children too, as an empty text: two of a name repeat, whatever is in them.
        value(path.to_owned(), text, !leaf && !text.is_empty());
    } else if path.is_empty() && !text.is_empty() {
        value(own.to_owned(), text, !leaf);
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for child in &element.children {
        *counts.entry(&child.name).or_default() += 1;
        walk(child, own, &below(&child.name), order, seen, repeated);
    }
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > 1) {
        let most = repeated.entry(below(name)).or_default();
        *most = count.max(*most);
    }
}

fn collect<'a>(element: &'a Element, tag: &str, rows: &mut Vec<&'a Element>) {
    if element.name == tag {
        rows.push(element);
    } else {
        element
            .children
            .iter()
            .for_each(|child| collect(child, tag, rows));
    }
}

/// The highest element with fields that repeats under one parent; if none does, the first one below the root's
/// envelopes that has values.
fn row_of(roots: &[Element]) -> Option<String> {
    let mut found: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for root in roots {
        repeats(root, 0, &mut found);
    }
    let best = found
        .into_iter()
        .min_by_key(|(_, (depth, count))| (*depth, std::cmp::Reverse(*count)));
    if let Some((name, _)) = best {
        return Some(unmixed(roots, name).unwrap_or(name).to_owned());
    }
    let mut element = roots.first()?;
    while let ([only], false) = (&element.children[..], element.has_values()) {
        element = only;
    }
    Some(element.name.clone())
}

/// An element that occurs in several places is no row: identifiers of a product and of related products would be mixed
/// in one table. The row is then the lowest element that contains all these places and has values; never the root.
fn unmixed<'a>(roots: &'a [Element], name: &str) -> Option<&'a str> {
    fn places<'a>(
        element: &'a Element,
        name: &str,
        above: &mut Vec<&'a Element>,
        found: &mut Vec<Vec<&'a Element>>,
    ) {
        if element.name == name {
            found.push(above.clone());
            return;
        }
        above.push(element);
        for child in &element.children {
            places(child, name, above, found);
        }
        above.pop();
    }
    let mut found = Vec::new();
    for root in roots {
        places(root, name, &mut Vec::new(), &mut found);
    }
    let first = found.first()?;
    let path = |of: &[&'a Element]| of.iter().map(|e| e.name.as_str()).collect::<Vec<&str>>();
    let shared = found.iter().fold(path(first), |shared, other| {
        let same = shared
            .iter()
            .zip(path(other))
            .take_while(|(a, b)| **a == *b);
        shared[..same.count()].to_vec()
    });
    if found.iter().all(|place| place.len() == shared.len()) {
        return None; // one place only
    }
    let holds = |depth: &usize| {
        let of = |place: &Vec<&Element>| place.get(*depth).is_some_and(|e| e.has_values());
        found.iter().any(of)
    };
    let depth = (1..shared.len()).rev().find(holds)?;
    first.get(depth).map(|element| element.name.as_str())
}

fn repeats<'a>(element: &'a Element, depth: usize, found: &mut BTreeMap<&'a str, (usize, usize)>) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for child in element.children.iter().filter(|child| child.has_fields()) {
        *counts.entry(&child.name).or_default() += 1;
    }
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > 1) {
        let known = found.entry(name).or_insert((depth, 0));
        *known = (known.0.min(depth), known.1 + count);
    }
    element
        .children
        .iter()
        .for_each(|child| repeats(child, depth + 1, found));
}

/// An element around rows that has values before them.
struct Holder {
    name: String,
    /// One of them, as a path from the row.
    path: String,
}

/// Names of elements around rows that are told.
const HOLDERS: usize = 3;

/// The innermost first. An element is told only if a path from every row leads to the same value: rows in it lie equally
/// deep, and the value comes before the first of them.
fn holders(roots: &[Element], tag: &str) -> Vec<Holder> {
    /// How deep below `element` its rows lie; nothing if it has none, or if they differ.
    fn look(
        element: &Element,
        tag: &str,
        found: &mut Vec<(Holder, bool)>,
    ) -> (bool, Option<usize>) {
        if element.name == tag {
            return (true, Some(0));
        }
        let below = element.children.iter().map(|child| look(child, tag, found));
        let below: Vec<(bool, Option<usize>)> = below.collect();
        let Some(first) = below.iter().position(|(holds, _)| *holds) else {
            return (false, None);
        };
        let mut deep = below
            .iter()
            .filter(|(holds, _)| *holds)
            .map(|(_, deep)| *deep);
        let same = deep
            .next()
            .flatten()
            .filter(|one| deep.all(|other| other == Some(*one)));
        let up = same.map(|deep| deep + 1);
        let value = value_of(element, &element.children[..first]).zip(up);
        let holder = value.map(|(value, up)| Holder {
            name: element.name.clone(),
            path: format!("{}{value}", "../".repeat(up)),
        });
        match (
            found
                .iter_mut()
                .find(|(known, _)| known.name == element.name),
            holder,
        ) {
            (None, Some(holder)) => found.push((holder, true)),
            (Some((known, fits)), holder) => *fits &= holder.is_some_and(|h| h.path == known.path),
            (None, None) => {}
        }
        (true, up)
    }
    let mut found = Vec::new();
    for root in roots {
        look(root, tag, &mut found);
    }
    let fitting = found.into_iter().filter(|(_, fits)| *fits);
    fitting.map(|(holder, _)| holder).take(HOLDERS).collect()
}

/// An attribute of `element`, a text among the children `before` its rows, or one a level below them.
fn value_of(element: &Element, before: &[Element]) -> Option<String> {
    let plain = |(name, _): &&(String, String)| name != "xmlns" && !name.contains(':');
    let attribute = element.attributes.iter().find(plain);
    let leaf = |child: &&Element| !child.has_fields();
    let below = |child: &Element| {
        let leaf = child.children.iter().find(leaf)?;
        Some(format!("{}/{}", child.name, leaf.name))
    };
    attribute
        .map(|(name, _)| format!("@{name}"))
        .or_else(|| before.iter().find(leaf).map(|child| child.name.clone()))
        .or_else(|| before.iter().find_map(below))
}

/// The root; true where a `<!DOCTYPE` stands before it.
fn parse(text: &str, sizes: &mut Sizes) -> Result<(Element, bool), String> {
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    let mut doctype = false;
    let mut open: Vec<Element> = vec![Element::default()];
    let mut namespaces = 0;
    loop {
        let event = reader
            .read_event()
            .map_err(|e| format!("{e} at byte {}", reader.error_position()))?;
        match event {
            Event::Start(start) => {
                if open.len() > DEEPEST {
                    return Err(format!("deeper than {DEEPEST} elements"));
                }
                let element = element(&start, sizes, &mut namespaces)?;
                sizes.depth = sizes.depth.max(open.len());
                open.push(element);
            }
            Event::Empty(start) => {
                let element = element(&start, sizes, &mut namespaces)?;
                sizes.depth = sizes.depth.max(open.len());
                if let Some(parent) = open.last_mut() {
                    parent.children.push(element);
                }
            }
            Event::End(_) => {
                if let (Some(done), Some(parent)) = (open.pop(), open.last_mut()) {
                    sizes.text = sizes.text.max(done.text.len());
                    parent.children.push(done);
                }
            }
            Event::Text(text) => {
                sizes.text = sizes.text.max(text.len());
                push(&mut open, &String::from_utf8_lossy(&text));
            }
            Event::CData(text) => push(&mut open, &String::from_utf8_lossy(&text)),
            Event::GeneralRef(name) => {
                let whole = format!("&{};", String::from_utf8_lossy(&name));
                let text = quick_xml::escape::unescape(&whole);
                push(&mut open, &text.map_err(|e| e.to_string())?);
            }
            Event::Eof => break,
            Event::DocType(_) => doctype = true,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
    match open.pop() {
        Some(mut top) if open.is_empty() && top.children.len() == 1 => {
            Ok((top.children.remove(0), doctype))
        }
        Some(_) if !open.is_empty() => Err("it ends inside an element".into()),
        _ => Err("expected one root element".into()),
    }
}

fn push(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

/// Names without their prefix, as xml-flatten matches them; declarations of namespaces are no attributes.
fn element(
    start: &BytesStart<'_>,
    sizes: &mut Sizes,
    namespaces: &mut usize,
) -> Result<Element, String> {
    let name = |bytes: &[u8]| match String::from_utf8_lossy(bytes).into_owned() {
        name if is_name(&name) => Ok(name),
        other => Err(format!("{other:?} is no name (malformed_xml)")),
    };
    let mut attributes = Vec::new();
    let mut count = 0;
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|e| e.to_string())?;
        count += 1;
        sizes.attributes = sizes.attributes.max(count);
        sizes.text = sizes.text.max(attribute.value.len());
        if attribute.key.as_namespace_binding().is_some() {
            *namespaces += 1;
            sizes.namespaces = sizes.namespaces.max(*namespaces);
        }
        if attribute.key.as_namespace_binding().is_none() {
            let value = attribute.unescape_value().map_err(|e| e.to_string())?;
            attributes.push((
                name(attribute.key.local_name().into_inner())?,
                value.into_owned(),
            ));
        }
    }
    Ok(Element {
        name: name(start.local_name().into_inner())?,
        attributes,
        ..Element::default()
    })
}

/// A name of XML 1.0, fifth edition, without a prefix: others are in no path. quick-xml takes any bytes.
fn is_name(name: &str) -> bool {
    let first = |c: char| {
        matches!(c, 'A'..='Z' | 'a'..='z' | '_' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
            | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}'
            | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}'
            | '\u{10000}'..='\u{effff}')
    };
    let other = |c: char| {
        first(c)
            || matches!(c, '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
    };
    let mut chars = name.chars();
    chars.next().is_some_and(first) && chars.all(other)
}
