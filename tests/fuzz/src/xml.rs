//! Compares `xml-flatten`, through its `Transform` only, with `reference`: the same rows and refusals for every
//! document and every option.

use std::collections::BTreeMap;

use weir_sdk::testing::{Bench, Table};
use xml_flatten::Flatten;

use crate::Random;
use crate::documents::document;
use crate::reference::{Column, Config, Flat, Mixed, Piece, Repeat, flatten};

const MESSAGES: usize = 20;

#[derive(Debug, Default)]
pub struct Count {
    pub messages: u64,
    pub rows: u64,
    pub refused_pieces: u64,
    pub refused_messages: BTreeMap<String, u64>,
}

fn config(r: &mut Random) -> Config {
    let above = |name, up, path: &[&'static str], attribute| Column {
        name,
        up,
        path: path.to_vec(),
        attribute,
        int: false,
    };
    let column = |name, path: &[&'static str], attribute| above(name, 0, path, attribute);
    let mut columns = vec![
        column("own", &[], None),
        column("id", &[], Some("id")),
        column("title", &["title"], None),
        column("lang", &["title"], Some("lang")),
        column("name", &["author", "name"], None),
        column("author", &["author"], None),
        column("t", &["t"], None),
        column("deep", &["t", "note"], None),
        column("year", &["year"], None),
        column("ns", &[], Some("xmlns:x")),
        column("long", &["very_long_element_name"], None),
    ];
    let repeat = r.pick(&[Repeat::Reject, Repeat::First, Repeat::Last, Repeat::Json]);
    if repeat != Repeat::Json && r.one_in(2) {
        columns.extend([
            above("up_id", 1, &[], Some("id")),
            above("up_title", 1, &["title"], None),
            above("up_up_lang", 2, &[], Some("lang")),
            above("up_name", 1, &["author", "name"], None),
            above("up_up_t", 2, &["t"], None),
            above("up_t_id", 1, &["t"], Some("id")),
        ]);
    }
    columns.retain(|c| c.name == "title" || !r.one_in(4));
    for column in &mut columns {
        column.int = column.name == "year" && repeat != Repeat::Json;
    }
    let explodes = [
        None,
        None,
        Some(vec!["title"]),
        Some(vec!["author"]),
        Some(vec!["t"]),
    ];
    let explode = explodes[r.below(explodes.len())].clone();
    let explode = explode.filter(|path| {
        columns
            .iter()
            .any(|c| c.up == 0 && c.path.starts_with(path))
    });
    let small = r.one_in(3);
    let limit = |r: &mut Random, small_one: usize, large: usize| match small && r.one_in(2) {
        true => small_one + r.below(3),
        false => large,
    };
    Config {
        columns,
        explode,
        repeat,
        mixed: r.pick(&[Mixed::Own, Mixed::Own, Mixed::All, Mixed::Reject]),
        local_names: !r.one_in(4),
        trim: !r.one_in(3),
        empty_as_null: r.one_in(3),
        null_value: Some("word").filter(|_| r.one_in(4)),
        depth: limit(r, 2, 64),
        attributes: limit(r, 0, 256),
        namespaces: limit(r, 0, 64),
        text: limit(r, 2, 1 << 20),
        rows: limit(r, 1, 10_000),
    }
}

fn bench(config: &Config) -> Bench {
    let path = |column: &Column| {
        let mut path = column.path.join("/");
        if let Some(attribute) = column.attribute {
            path += if path.is_empty() { "@" } else { "/@" };
            path += attribute;
        }
        let path = if path.is_empty() { "_VALUE" } else { &path };
        format!("{}={}{path}", column.name, "../".repeat(column.up))
    };
    let columns: Vec<String> = config.columns.iter().map(path).collect();
    let flag = |flag: bool| if flag { "true" } else { "false" };
    let mut bench = Bench::default()
        .key("row-tag", "book")
        .key("columns", &columns.join(","))
        .key(
            "repeat",
            match config.repeat {
                Repeat::Reject => "reject",
                Repeat::First => "first",
                Repeat::Last => "last",
                Repeat::Json => "json",
            },
        )
        .key(
            "mixed-content",
            match config.mixed {
                Mixed::Own => "own",
                Mixed::All => "all",
                Mixed::Reject => "reject",
            },
        )
        .key(
            "namespaces",
            if config.local_names { "ignore" } else { "keep" },
        )
        .key("ignore-surrounding-spaces", flag(config.trim))
        .key("empty-as-null", flag(config.empty_as_null))
        .key("max-depth", &config.depth.to_string())
        .key("max-attributes", &config.attributes.to_string())
        .key("max-namespaces", &config.namespaces.to_string())
        .key("max-text-bytes", &config.text.to_string())
        .key("max-rows", &config.rows.to_string());
    if config.columns.iter().any(|c| c.int) {
        bench = bench.key("types.year", "int");
    }
    if let Some(path) = &config.explode {
        bench = bench.key("explode", &path.join("/"));
    }
    if let Some(null) = config.null_value {
        bench = bench.key("null-value", null);
    }
    bench
}

pub fn case(r: &mut Random, count: &mut Count) {
    let config = config(r);
    let documents: Vec<Vec<u8>> = (0..MESSAGES).map(|_| document(r)).collect();
    let messages: Vec<Option<&[u8]>> = documents.iter().map(|d| Some(d.as_slice())).collect();
    let table = bench(&config)
        .bytes("value", &messages)
        .run::<Flatten>(MESSAGES);
    let mut dropped = 0;
    let mut unsure = false;
    for (row, document) in documents.iter().enumerate() {
        count.messages += 1;
        if foreign(document) {
            unsure = true;
            continue;
        }
        let found = pieces(&table, row);
        let wanted = flatten(&config, document);
        match (&found, &wanted) {
            (
                Ok(pieces),
                Ok(Flat {
                    pieces: wanted,
                    dropped: n,
                }),
            ) if reasons(pieces) == reasons(wanted) => {
                dropped += n;
                let refused = pieces.iter().filter(|piece| piece.is_err()).count() as u64;
                count.refused_pieces += refused;
                count.rows += pieces.len() as u64 - refused;
            }
            (Err(code), Err(wanted)) if same(code, wanted) => {
                *count.refused_messages.entry(code.clone()).or_default() += 1;
            }
            _ => {
                let shown = String::from_utf8_lossy(document);
                panic!(
                    "{shown}\n{shown:?}\n{config:#?}\nthe plugin: {found:#?}\nthe reference: {wanted:#?}"
                );
            }
        }
    }
    assert!(
        unsure || table.counters[0] == dropped,
        "repeats_dropped {:?}, not {dropped}",
        table.counters
    );
}

/// Encodings are the plugin's own: what is not plainly UTF-8 is read for panics alone.
fn foreign(document: &[u8]) -> bool {
    let utf8_named = |text: &str| {
        let quoted = text.trim_start_matches([' ', '\t', '\n', '\r', '=']);
        let quote = quoted.chars().next().unwrap_or_default();
        let mut parts = quoted.split(quote).skip(1);
        let name = parts.next().unwrap_or_default();
        name.eq_ignore_ascii_case("utf-8") && parts.next().is_some()
    };
    let head = String::from_utf8_lossy(&document[..document.len().min(200)]).into_owned();
    let mut named = head.split("encoding").skip(1);
    document.starts_with(b"\xFE\xFF")
        || document.starts_with(b"\xFF\xFE")
        || document.iter().take(4).any(|b| *b == 0)
        || !named.all(utf8_named)
}

/// One of several faults is told; which one of them may differ where a limit is among them.
fn same(found: &str, wanted: &str) -> bool {
    let limit = |code: &str| code.starts_with("too_") || code == "text_too_long";
    // The plugin may meet it before a fault behind it.
    found == wanted || limit(found) || limit(wanted) || found == "late_value"
}

/// A column that is refused for another reason need not be told to come twice as well.
fn reasons(pieces: &[Piece]) -> Vec<Piece> {
    let fewer = |why: &Vec<(String, String)>| {
        let other = |field: &str| why.iter().any(|(c, f)| f == field && c == "mixed_content");
        let kept = why
            .iter()
            .filter(|(code, field)| code != "repeated_element" || !other(field));
        kept.cloned().collect()
    };
    let piece = |piece: &Piece| piece.clone().map_err(|why| fewer(&why));
    pieces.iter().map(piece).collect()
}

/// What became of message `row`.
fn pieces(table: &Table, row: usize) -> Result<Vec<Piece>, String> {
    let mut pieces: BTreeMap<usize, Vec<(String, String)>> = BTreeMap::new();
    for reject in table.rejects.iter().filter(|r| r.row as usize == row) {
        let Some(part) = reject.part else {
            return Err(reject.code.clone());
        };
        let field = reject.field.clone().unwrap_or_default();
        pieces
            .entry(part as usize)
            .or_default()
            .push((reject.code.clone(), field));
    }
    let mut rows = (0..table.rows.len()).filter(|n| table.origin[*n] == row);
    let mut out = Vec::new();
    loop {
        if let Some(mut why) = pieces.remove(&out.len()) {
            why.sort();
            why.dedup();
            out.push(Err(why));
        } else if let Some(n) = rows.next() {
            out.push(Ok(table.rows[n].clone()));
        } else {
            assert!(
                pieces.is_empty(),
                "refused pieces {pieces:?} of {}",
                out.len()
            );
            return Ok(out);
        }
    }
}
