//! Infers keys of `json-flatten` from JSON messages: scalars become columns by their pointer, other values stay JSON.

use std::collections::{BTreeMap, BTreeSet};

use super::kinds::{Texts, renamed, taken, unlike};
use super::render::{Page, some_of};
use crate::json::Json;

/// Depth of objects that become columns; deeper ones stay JSON.
const MAX_DEPTH: usize = 16;

/// JSON writes 12.50 as 12.5, so seeing fewer digits means little.
const LEAST_SCALE: usize = 2;

/// An object with more members has no fields, but entries.
const DICTIONARY: usize = 1_000;
/// Limits of json-flatten where the config does not say another.
const MAX_NESTED: usize = 64;
const MAX_MEMBERS: usize = 10_000;
const MAX_TEXT: usize = 1 << 20;
const MAX_ROWS: usize = 10_000;
/// See [`super::Format::widest`].
pub const WIDEST: &[(&str, &str)] = &[
    ("columns", "message="),
    ("types.message", "json"),
    ("max-depth", "256"),
    ("max-members", "1000000"),
    ("max-text-bytes", "67108864"),
    ("max-rows", "1000000"),
];

/// The most of each that a message has.
#[derive(Debug, Default)]
struct Sizes {
    depth: usize,
    members: usize,
    text: usize,
}

/// What was seen of one pointer, over all rows.
#[derive(Debug, Default)]
struct Column {
    rows: u64,
    nulls: u64,
    booleans: u64,
    numbers: Texts,
    strings: Texts,
    /// Arrays, empty objects, and objects that are too deep for columns.
    nested: u64,
    objects: u64,
    lists: u64,
}

/// The map; `Err` says why there is none.
pub fn infer(mut page: Page, messages: &[&[u8]]) -> Result<Page, String> {
    let mut values: Vec<(usize, Json)> = Vec::new();
    for (n, message) in messages.iter().enumerate() {
        let message = message.strip_prefix(MARK).unwrap_or(message);
        match page.readable(n).and_then(|()| Json::parse(message)) {
            Ok(value @ (Json::Object(_) | Json::List(_))) => values.push((n, value)),
            Ok(_) => page.unread(n, "neither an object nor an array".into()),
            Err(e) => page.unread(n, e),
        }
    }
    let values = of_one_kind(values, &mut page);
    if values.is_empty() {
        return Err(page.nothing("JSON"));
    }
    let explode = envelope(&values);
    let (mut rows, mut per_message) = (Vec::new(), Vec::new());
    for value in &values {
        let before = rows.len();
        match &explode {
            Some(explode) => rows.extend(explode.items(value)),
            None => rows.push(value),
        }
        per_message.push(rows.len() - before);
    }
    page.head = vec![format!(
        "json-flatten: {} of {} messages read",
        values.len(),
        messages.len()
    )];
    page.set("type", "json-flatten");
    if let Some(pointer) = explode.as_ref().map(Explode::pointer) {
        page.head.push(format!(
            "each element of {pointer:?} is a row: {} in all, {} a message",
            rows.len(),
            some_of(&per_message)
        ));
        let note = "the array whose elements become rows";
        page.set_noted("explode", pointer.as_str(), note);
    }
    fill(&mut page, &rows, explode.is_some());
    let rows = per_message.iter().max().copied().unwrap_or(0);
    let longest = messages.iter().map(|message| message.len()).max();
    limits(&mut page, &values, rows, longest.unwrap_or(0));
    Ok(page)
}

fn limits(page: &mut Page, values: &[Json], rows: usize, longest: usize) {
    let mut sizes = Sizes::default();
    values
        .iter()
        .for_each(|value| measure(value, 0, &mut sizes));
    // A value that stays JSON counts with its blanks and escapes.
    let text = if sizes.text > MAX_TEXT { longest } else { 0 };
    let (depth, members) = (sizes.depth, sizes.members);
    let nested = "arrays and objects inside each other";
    page.limit("max-rows", MAX_ROWS, rows, "rows of the largest message");
    page.limit("max-depth", MAX_NESTED, depth, nested);
    page.limit("max-members", MAX_MEMBERS, members, "members of one object");
    page.limit(
        "max-text-bytes",
        MAX_TEXT,
        text,
        "bytes of the largest message",
    );
}

/// A byte order mark, which the plugin skips.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Objects, or arrays if these are more: a pointer into an object is not one into an array.
fn of_one_kind(values: Vec<(usize, Json)>, page: &mut Page) -> Vec<Json> {
    let is_list = |value: &Json| value.as_list().is_some();
    let lists = values.iter().filter(|(_, value)| is_list(value)).count();
    let usual = 2 * lists > values.len();
    let (kept, others): (Vec<_>, Vec<_>) =
        (values.into_iter()).partition(|(_, value)| is_list(value) == usual);
    for (n, _) in others {
        let why = match usual {
            true => "an object, where most messages are arrays (not_an_array)",
            false => "an array, where most messages are objects (not_an_object)",
        };
        page.unread(n, why.into());
    }
    kept.into_iter().map(|(_, value)| value).collect()
}

fn measure(value: &Json, depth: usize, sizes: &mut Sizes) {
    match value {
        Json::Text(text) => sizes.text = sizes.text.max(text.len()),
        Json::Number(number) => sizes.text = sizes.text.max(number.text().len()),
        Json::List(items) => {
            sizes.depth = sizes.depth.max(depth + 1);
            items
                .iter()
                .for_each(|item| measure(item, depth + 1, sizes));
        }
        Json::Object(members) => {
            sizes.depth = sizes.depth.max(depth + 1);
            sizes.members = sizes.members.max(members.len());
            for (name, value) in members {
                sizes.text = sizes.text.max(name.len());
                measure(value, depth + 1, sizes);
            }
        }
        Json::Null | Json::Bool(_) => {}
    }
}

/// The array whose elements are rows: the member of this name, or the message itself.
struct Explode(Option<String>);

impl Explode {
    fn pointer(&self) -> String {
        let name = self.0.as_ref();
        name.map_or(String::new(), |name| format!("/{}", escaped(name)))
    }

    fn items<'a>(&self, value: &'a Json) -> &'a [Json] {
        let list = match &self.0 {
            Some(name) => value.get(name),
            None => Some(value),
        };
        list.and_then(Json::as_list).unwrap_or_default()
    }
}

/// The array of objects that is the only content of a message; the message itself if that is an array.
fn envelope(values: &[Json]) -> Option<Explode> {
    let objects = |value: &Json| {
        let items = value.as_list();
        items.is_some_and(|items| items.iter().all(|item| item.as_object().is_some()))
    };
    if values.iter().all(|value| value.as_list().is_some()) {
        return Some(Explode(None));
    }
    let mut name = None;
    for value in values {
        let [(key, inner)] = value.as_object()? else {
            return None;
        };
        if !objects(inner) || name.is_some_and(|n| n != key) {
            return None;
        }
        name = Some(key);
    }
    name.map(|name| Explode(Some(name.clone())))
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn fill(page: &mut Page, rows: &[&Json], exploded: bool) {
    let (mut order, mut columns) = (Vec::new(), BTreeMap::<String, Column>::new());
    for row in rows {
        match row.as_object() {
            Some(object) => walk(object, "", 0, &mut order, &mut columns),
            None => see(row, String::new(), 0, &mut order, &mut columns),
        }
    }
    if let Some(whole) = columns.get_mut("") {
        let objects = rows.iter().filter(|row| row.as_object().is_some());
        whole.objects += objects.count() as u64;
    }
    let mut used = taken();
    let (many, closed) = whole(&columns);
    for path in many.iter().filter(|path| !path.is_empty()) {
        let note = "it has more members than rows have columns: it stays JSON";
        page.notes.push(format!("{path:?}: {note}"));
    }
    for path in order {
        let Some(column) = columns.get(&path) else {
            continue;
        };
        // A path that leads into a scalar or an array refuses the row: what is above stays JSON as a whole.
        if closed.iter().any(|above| path.starts_with(above.as_str())) {
            continue;
        }
        let open = column.closed() == 0 && column.nested == 0 && column.objects > 0;
        if open && !many.contains(&path) {
            continue; // its members are columns
        }
        let plain = path
            .trim_start_matches('/')
            .replace("~1", "_")
            .replace("~0", "_")
            .replace('/', "_");
        let plain = if plain.is_empty() {
            "value".to_owned()
        } else {
            plain
        };
        let wanted = plain.replace('=', "_");
        let name = unlike(wanted.clone(), &mut used);
        page.notes.extend(renamed(&wanted, &name));
        let place = match (exploded, path.as_str()) {
            (true, "") => ".".to_owned(),
            (true, path) => format!(".{path}"),
            (false, path) => path.to_owned(),
        };
        if !page.column(&name, &place, false, &column.about(rows.len())) {
            continue;
        }
        let kind = column.kind();
        if kind != "string" {
            page.column_type(&name, &kind, &column.seen());
        }
        page.notes.extend(column.notes(&name, &path, exploded));
    }
    if !page.has_columns() {
        let name = unlike("content".to_owned(), &mut used);
        let place = if exploded { "." } else { "" };
        let _whole = page.column(&name, place, false, "no member is a column: all of it");
        page.column_type(&name, "json", "");
    }
}

/// Objects with entries instead of fields; and the beginnings of all paths that are no columns, because what is above them
/// is one as a whole.
fn whole(columns: &BTreeMap<String, Column>) -> (BTreeSet<String>, Vec<String>) {
    let mut members: BTreeMap<&str, usize> = BTreeMap::new();
    for (above, _) in columns.keys().filter_map(|path| path.rsplit_once('/')) {
        *members.entry(above).or_default() += 1;
    }
    let many = members.into_iter().filter(|(_, count)| *count > DICTIONARY);
    let many: BTreeSet<String> = many.map(|(path, _)| path.to_owned()).collect();
    let mixed = |column: &Column| column.objects > 0 && column.closed() > 0;
    let mixed = columns.iter().filter(|(_, column)| mixed(column));
    let above = mixed.map(|(path, _)| path).chain(&many);
    let closed = above.map(|path| format!("{path}/")).collect();
    (many, closed)
}

fn walk(
    members: &[(String, Json)],
    path: &str,
    depth: usize,
    order: &mut Vec<String>,
    columns: &mut BTreeMap<String, Column>,
) {
    for (name, value) in members {
        see(
            value,
            format!("{path}/{}", escaped(name)),
            depth,
            order,
            columns,
        );
    }
}

fn see(
    value: &Json,
    path: String,
    depth: usize,
    order: &mut Vec<String>,
    columns: &mut BTreeMap<String, Column>,
) {
    if !columns.contains_key(&path) {
        order.push(path.clone());
    }
    let column = columns.entry(path.clone()).or_default();
    column.rows += 1;
    match value {
        Json::Null => column.nulls += 1,
        Json::Bool(_) => column.booleans += 1,
        Json::Number(number) => {
            column.numbers.least_scale = LEAST_SCALE;
            column.numbers.see(number.text());
        }
        Json::Text(text) => column.strings.see(text),
        Json::List(_) => {
            column.lists += 1;
            column.nested += 1;
        }
        Json::Object(inner) if depth < MAX_DEPTH && !inner.is_empty() => {
            column.objects += 1;
            walk(inner, &path, depth + 1, order, columns);
        }
        Json::Object(_) => column.nested += 1,
    }
}

impl Column {
    fn texts(&self) -> u64 {
        self.strings.filled + self.strings.empty
    }

    /// Values that no path leads into.
    fn closed(&self) -> u64 {
        self.scalars() + self.lists
    }

    fn scalars(&self) -> u64 {
        self.booleans + self.numbers.filled + self.texts()
    }

    /// One type for every value; `json` fits all.
    fn kind(&self) -> String {
        let all = self.scalars() + self.nested + self.objects;
        if all == 0 {
            return "string".into();
        }
        if self.booleans == all {
            return "boolean".into();
        }
        if self.numbers.filled == all {
            return self.numbers.named();
        }
        if self.texts() == all {
            // A number in a string is treated as a text.
            let named = self.strings.named();
            let time = named.starts_with("date") || named.starts_with("timestamp");
            return if time && self.strings.empty == 0 {
                named
            } else {
                "string".into()
            };
        }
        "json".into()
    }

    fn about(&self, rows: usize) -> String {
        let mut told = match self.rows == rows as u64 {
            true => "in every row".to_owned(),
            false => format!("in {} of {rows} rows", self.rows),
        };
        if self.nulls > 0 {
            told.push_str(&format!(", {} null", self.nulls));
        }
        if let (Some(example), "string") = (self.strings.shown.first(), self.kind().as_str()) {
            told.push_str(&format!(": {example}"));
        }
        told
    }

    fn seen(&self) -> String {
        let kinds = [
            (self.booleans, "booleans"),
            (self.numbers.filled, "numbers"),
            (self.texts(), "strings"),
            (self.nested, "arrays or empty objects"),
            (self.objects, "objects"),
        ];
        let kinds: Vec<String> = kinds
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, what)| format!("{n} {what}"))
            .collect();
        let shown = self.numbers.shown.iter().chain(&self.strings.shown).take(3);
        match kinds.len() {
            1 if self.nested + self.objects == 0 => shown.cloned().collect::<Vec<_>>().join(", "),
            _ => kinds.join(", "),
        }
    }

    fn notes(&self, name: &str, path: &str, exploded: bool) -> Vec<String> {
        let mut notes = Vec::new();
        if self.nested > 0 && self.scalars() + self.objects == 0 && !exploded {
            notes.push(format!("{name}: explode = {path:?} makes a row of each element; its columns are then ./member"));
        }
        if self.kind() == "json" && self.scalars() > 0 {
            notes.push(format!(
                "{name}: {}; a type of its own would refuse the others",
                self.seen()
            ));
        }
        if self.numbers.filled + self.booleans == 0 && self.nested == 0 {
            notes.extend(
                self.strings
                    .conflict()
                    .map(|told| format!("{name}: {told}")),
            );
        }
        notes
    }
}
