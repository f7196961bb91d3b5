//! What `infer` gives passes on the messages that it was made of, and a message that is refused was named before: over
//! many generated messages of each format, some of them with wrong bytes.

use std::collections::BTreeSet;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::infer::{self, Hints};

const DOCTYPE: &[u8] = b"<!DOCTYPE";
/// Sets of messages of each format.
const SETS: u64 = 400;
/// Texts that look like values of a type, and some that nearly do.
const VALUES: &[&str] = &[
    "",
    " ",
    "1",
    "-20",
    " 7 ",
    "\u{a0}8",
    "007",
    "0",
    "-0",
    "+5",
    "1.50",
    "-0.05",
    "1.",
    ".5",
    "1e3",
    "1E-2",
    "1e309",
    "1e-400",
    "2147483648",
    "9223372036854775808",
    "99999999999999999999",
    "123456789012345678901234567890123456789",
    "true",
    "false",
    "True",
    "NULL",
    "null",
    "\\N",
    "NaN",
    "2024-02-29",
    "2023-02-29",
    "0000-01-01",
    "29.02.2024",
    " 2024-02-29",
    "2024-02-29T12:00:00Z",
    "2024-02-29T12:00:00.1234567Z",
    "2024-02-29 12:00:00",
    "2016-12-31T23:59:60Z",
    "2024-02-29T12:00",
    "9999-12-31T23:59:59-05:00",
    "word",
    "two words",
    "a,b",
    "a;b",
    "say \"no\"",
    "5\" disk",
    "é",
    "line\nend",
    "tab\there",
    "x=y",
    "#1",
    "{\"a\":1}",
    "<a/>",
    "😀",
];

struct Dice(SmallRng);

impl Dice {
    fn one_in(&mut self, n: u32) -> bool {
        self.0.random_range(0..n) == 0
    }

    fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n)
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list.choose(&mut self.0).copied().unwrap_or_default()
    }

    /// Mostly values of one kind, as columns have them.
    fn value(&mut self, kind: usize) -> String {
        match kind {
            0 => self.below(5000).to_string(),
            1 => format!("{}.{:02}", self.below(90), self.below(100)),
            2 => format!("2024-{:02}-{:02}", 1 + self.below(12), 1 + self.below(28)),
            3 => self.of(&["red", "green", "", "blue"]).to_owned(),
            4 => format!(" {} ", self.below(50)),
            _ => self.of(VALUES).to_owned(),
        }
    }

    /// Sometimes with wrong bytes.
    fn bent(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        if !bytes.is_empty() && self.one_in(8) {
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes.truncate(at),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(
                    at,
                    *b"<>&\"'{}[],;\n\xff\0".choose(&mut self.0).unwrap_or(&0),
                ),
            }
        }
        bytes
    }
}

fn xml_text(text: &str, dice: &mut Dice) -> String {
    if dice.one_in(12) && !text.contains("]]>") {
        return format!("<![CDATA[{text}]]>");
    }
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;");
    match dice.below(20) {
        0 => format!("{text}<!-- c -->"),
        1 => format!("&#65;{text}"),
        2 => format!("\r\n  {text}\t"),
        _ => text,
    }
}

fn xml_element(name: &str, depth: usize, dice: &mut Dice) -> String {
    const NAMES: &[&str] = &[
        "a", "b", "row", "item", "n:c", "x-y", "x.y", "é", "_key", "A", "_VALUE",
    ];
    let mut out = format!("<{name}");
    let mut used = BTreeSet::new();
    for _ in 0..dice.below(3) {
        let attribute = dice.of(&["id", "n:id", "lang", "xml:lang", "_x"]);
        if used.insert(attribute) {
            let kind = dice.below(6);
            let value = dice.value(kind).replace('&', "&amp;").replace('<', "&lt;");
            out += &format!(" {attribute}=\"{}\"", value.replace('"', "&quot;"));
        }
    }
    if used.contains("n:id") && dice.one_in(2) {
        out += " xmlns:n=\"urn:n\"";
    }
    if dice.one_in(10) {
        return out + "/>";
    }
    out += ">";
    let leaf = depth == 0 || dice.one_in(3);
    if leaf || dice.one_in(8) {
        let kind = dice.below(6);
        let value = dice.value(kind);
        out += &xml_text(&value, dice);
    }
    if !leaf {
        for _ in 0..dice.below(4) {
            let child = dice.of(NAMES);
            let times = if dice.one_in(4) { 2 } else { 1 };
            for _ in 0..times {
                out += &xml_element(child, depth - 1, dice);
            }
        }
    }
    format!("{out}</{name}>")
}

/// In one of the encodings that a message may be in, or say that it is in.
fn xml(dice: &mut Dice) -> Vec<u8> {
    let names = [
        "",
        "",
        "",
        "UTF-8",
        "utf8",
        "US-ASCII",
        "UTF-16",
        "utf-16le",
        "UTF-16BE",
        "ISO-8859-1",
        "iso_8859-1",
        "latin1",
        "latin-1",
        "Windows-1252",
        "cp1252",
        "CP-1252",
        "KOI8-R",
        "ebcdic",
    ];
    let encoding = dice.of(&names);
    let mut text = match encoding {
        "" => String::new(),
        name => format!("<?xml version=\"1.0\" encoding = '{name}'?>\n"),
    };
    if dice.one_in(12) {
        text += "<!DOCTYPE root>";
    }
    let root = dice.of(&["root", "row", "n:list"]);
    text += &xml_element(root, 4, dice);
    let units = |text: &str| text.encode_utf16().collect::<Vec<u16>>();
    match dice.below(8) {
        0 => units(&text)
            .into_iter()
            .flat_map(u16::to_le_bytes)
            .collect(),
        1 => units(&format!("\u{feff}{text}"))
            .into_iter()
            .flat_map(u16::to_be_bytes)
            .collect(),
        2 => units(&format!("\u{feff}{text}"))
            .into_iter()
            .flat_map(u16::to_le_bytes)
            .collect(),
        3 => format!("\u{feff}{text}").into_bytes(),
        4 | 5 => text
            .chars()
            .map(|c| u8::try_from(c).unwrap_or(b'?'))
            .collect(),
        _ => text.into_bytes(),
    }
}

fn json_value(depth: usize, dice: &mut Dice) -> String {
    let text = |text: String| serde_json::Value::from(text).to_string();
    match dice.below(if depth == 0 { 7 } else { 11 }) {
        0 => "null".into(),
        1 => dice.of(&["true", "false"]).into(),
        2 | 3 => dice
            .of(&[
                "0",
                "-0",
                "7",
                "12.50",
                "1e3",
                "-1.5E-2",
                "1e400",
                "1e-400",
                "12345678901234567890123",
                "2147483648",
                "1.0",
            ])
            .into(),
        4..=6 => {
            let kind = dice.below(6);
            text(dice.value(kind))
        }
        7 => {
            let items: Vec<String> = (0..dice.below(4))
                .map(|_| json_value(depth - 1, dice))
                .collect();
            format!("[{}]", items.join(", "))
        }
        _ => json_object(depth - 1, dice),
    }
}

fn json_object(depth: usize, dice: &mut Dice) -> String {
    const KEYS: &[&str] = &[
        "a",
        "b",
        "A",
        "id",
        "a/b",
        "a~b",
        "x.y",
        "x y",
        " lead",
        "k=v",
        "k,v",
        "",
        "0",
        ".",
        "./a",
        "é",
        "_offset",
        "*",
        "a_b",
        "q\"q",
        "new\nline",
        "#",
    ];
    let mut used = BTreeSet::new();
    let mut members = Vec::new();
    for _ in 0..dice.below(6) {
        let key = dice.of(KEYS);
        if used.insert(key) || dice.one_in(30) {
            members.push(format!(
                "{}:{}",
                serde_json::Value::from(key),
                json_value(depth, dice)
            ));
        }
    }
    format!("{{{}}}", members.join(","))
}

fn json(dice: &mut Dice) -> Vec<u8> {
    let text = match dice.below(12) {
        0 => json_value(3, dice),
        1 | 2 => {
            let items: Vec<String> = (0..dice.below(4)).map(|_| json_object(2, dice)).collect();
            format!("[{}]", items.join(","))
        }
        3 | 4 => {
            let items: Vec<String> = (0..dice.below(4)).map(|_| json_object(2, dice)).collect();
            format!("{{\"rows\":[{}]}}", items.join(" , "))
        }
        5 => format!("{}{}1{}{}", "[".repeat(80), "{\"a\":", "}", "]".repeat(80)),
        _ => json_object(3, dice),
    };
    let mark = if dice.one_in(10) { "\u{feff}" } else { "" };
    format!("{mark}{text}").into_bytes()
}

fn csv(dice: &mut Dice) -> Vec<u8> {
    let separator = dice.of(&[",", ";", "\t", "|"]);
    let end = dice.of(&["\n", "\n", "\r\n", "\r"]);
    let (columns, quoted) = (1 + dice.below(5), dice.below(3));
    let kinds: Vec<usize> = (0..columns).map(|_| dice.below(6)).collect();
    let field = |text: &str, dice: &mut Dice| match quoted {
        0 => text.replace(['"', '\n', '\t', ',', ';', '|'], " "),
        1 if dice.one_in(3) => format!("\"{}\"", text.replace('"', "\\\"")),
        _ if dice.one_in(3) || text.contains(['"', '\n', '\t', ',', ';', '|']) => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        _ => text.to_owned(),
    };
    let mut lines = Vec::new();
    if dice.one_in(2) {
        let names = [
            "id",
            "Book Title",
            " name",
            "a,b",
            "x=y",
            "price ",
            "id",
            "é",
        ];
        let line: Vec<String> = (0..columns)
            .map(|_| dice.of(&names))
            .map(|n| n.to_owned())
            .collect();
        let line: Vec<String> = line.iter().map(|name| field(name, dice)).collect();
        lines.push(line.join(separator));
    }
    for _ in 0..1 + dice.below(6) {
        let more = if dice.one_in(10) { dice.below(3) } else { 0 };
        let fewer = if dice.one_in(10) {
            dice.below(columns)
        } else {
            0
        };
        let mut line = Vec::new();
        for n in 0..columns + more - fewer {
            let value = dice.value(kinds.get(n).copied().unwrap_or(5));
            line.push(field(&value, dice));
        }
        lines.push(line.join(separator));
    }
    if dice.one_in(8) {
        lines.push(String::new());
    }
    lines.join(end).into_bytes()
}

/// Messages that `infer` left out, and those that the map refuses or that give nothing; and the map.
fn both(
    subject: &Subject,
    format: Format,
    messages: &[Message],
) -> Option<(Vec<usize>, BTreeSet<usize>, String)> {
    let values: Vec<&[u8]> = messages.iter().filter_map(|m| m.value.as_deref()).collect();
    let refused = refused_by(subject, format, messages).expect("a trial");
    let hints = Hints {
        format: Some(format),
        refused: &refused,
        ..Hints::default()
    };
    let map = match infer::infer(&values, hints) {
        Ok(map) => map,
        Err(why) => {
            // A message with a `<!DOCTYPE` is refused for that; what is wrong behind it `infer` says by itself.
            let doctype = |m: &Message| {
                let value = m.value.clone().unwrap_or_default();
                let plain: Vec<u8> = value.into_iter().filter(|b| *b != 0).collect();
                plain.windows(DOCTYPE.len()).any(|w| w == DOCTYPE)
            };
            let mut both = refused.iter().zip(messages);
            let all = !refused.is_empty() && both.all(|(why, m)| why.is_some() || doctype(m));
            let told = why.message();
            let named = all || format != Format::Xml && told.contains("no message is");
            assert!(named, "{told}\n{:?}", shown(messages));
            return None;
        }
    };
    let settings = Settings::of_text("the map", &map.toml(), map.plugin).expect("TOML");
    let mut keys = map.keys();
    keys.remove("type");
    assert_eq!(settings.keys, keys, "as TOML and as keys");
    let transform = subject.transform(&settings, &crate::record::input_schema());
    let mut transform = match transform {
        Ok(transform) => transform,
        Err(e) => {
            let (all, map) = (
                (0..messages.len()).collect(),
                format!("{e}\n{}", map.toml()),
            );
            return Some((Vec::new(), all, map));
        }
    };
    let mut missing: BTreeSet<usize> = (0..messages.len()).collect();
    let mut faulty = BTreeSet::new();
    apply(&mut *transform, messages, |from, output| {
        if let crate::chain::RowMap::Origin(origin) = &output.rows {
            let came: BTreeSet<usize> = origin.iter().map(|n| from + *n as usize).collect();
            missing.retain(|n| !came.contains(n));
        }
        faulty.extend(output.rejects.iter().map(|r| from + r.row as usize));
    })
    .expect("a run");
    faulty.extend(missing);
    Some((map.unread().to_vec(), faulty, map.toml()))
}

fn shown(messages: &[Message]) -> Vec<String> {
    let value = |m: &Message| m.value.clone().unwrap_or_default();
    messages
        .iter()
        .map(|m| value(m).escape_ascii().to_string())
        .collect()
}

fn shipped(format: Format) -> Subject {
    let empty = tempfile::tempdir().expect("a directory");
    let subject = Subject::find(Path::new(format.plugin()), empty.path(), Say::Errors);
    subject.expect("a shipped plugin")
}

/// `told`: a part of the map that announces refusals which no config can spare.
fn holds(format: Format, make: fn(&mut Dice) -> Vec<u8>, told: Option<(&str, &[u8])>) {
    let subject = shipped(format);
    let (mut maps, mut wrong) = (0, Vec::new());
    for seed in 0..SETS {
        let mut dice = Dice(SmallRng::seed_from_u64(seed));
        let count = if dice.one_in(2) { 1 } else { 1 + dice.below(4) };
        let messages: Vec<Message> = (0..count)
            .map(|_| {
                let whole = make(&mut dice);
                Message {
                    value: Some(dice.bent(whole)),
                    ..Message::default()
                }
            })
            .collect();
        let Some((unread, faulty, map)) = both(&subject, format, &messages) else {
            continue;
        };
        maps += 1;
        for n in faulty {
            let value = messages[n].value.as_deref().unwrap_or_default();
            let announced = told.is_some_and(|(words, sign)| {
                let plain: Vec<u8> = value.iter().copied().filter(|b| *b != 0).collect();
                map.contains(words) && plain.windows(sign.len()).any(|w| w == sign)
            });
            if !unread.contains(&n) && !announced {
                wrong.push(format!(
                    "seed {seed}, message {n} of {count}: refused, and not said before\n{map}\n{:#?}",
                    shown(&messages)
                ));
            }
        }
    }
    let some: Vec<&String> = wrong.iter().take(TOLD).collect();
    assert!(wrong.is_empty(), "{} are wrong: {some:#?}", wrong.len());
    assert!(maps > SETS / 3, "{maps} maps of {SETS}");
}

#[test]
fn maps_of_xml_pass_on_their_messages() {
    holds(Format::Xml, xml, Some(("have a <!DOCTYPE", DOCTYPE)));
}

#[test]
fn maps_of_json_pass_on_their_messages() {
    holds(Format::Json, json, None);
}

#[test]
fn maps_of_csv_pass_on_their_messages() {
    holds(Format::Csv, csv, None);
}

#[test]
fn messages_beyond_a_limit_get_a_map_with_a_larger_one() {
    let deep = format!("<r>{}x{}</r>", "<a>".repeat(99), "</a>".repeat(99));
    let wide: String = (0..300).map(|n| format!(" a{n}='1'")).collect();
    let spaces: String = (0..70).map(|n| format!(" xmlns:p{n}='u'")).collect();
    let xml = [
        deep,
        format!("<r><i{wide}/><i b='1'/></r>"),
        format!("<r{spaces}><i b='1'/><i b='2'/></r>"),
        format!("<r><i><t>{}</t></i><i><t/></i></r>", "x".repeat(2 << 20)),
        format!("<r>{}</r>", "<i><t>1</t></i>".repeat(10_001)),
    ];
    let members: String = (0..10_001).map(|n| format!("\"k{n}\":1,")).collect();
    let json = [
        format!("{}1{}", "[".repeat(90), "]".repeat(90)),
        format!("{{\"m\":[{{{members}\"z\":1}}]}}"),
        format!("{{\"t\":\"{}\"}}", "x".repeat(2 << 20)),
        format!("[{}{{\"a\":1}}]", "{\"a\":1},".repeat(10_000)),
    ];
    let csv = ["a,1\n".repeat(100_001)];
    for (format, texts) in [
        (Format::Xml, &xml[..]),
        (Format::Json, &json[..]),
        (Format::Csv, &csv[..]),
    ] {
        let subject = shipped(format);
        for text in texts {
            let message = Message {
                value: Some(text.clone().into_bytes()),
                ..Message::default()
            };
            let head: String = text.chars().take(60).collect();
            let (_, faulty, map) = both(&subject, format, &[message]).expect("a map");
            assert!(
                faulty.is_empty() && map.contains("\nmax-"),
                "{head}\n{map:.2000}"
            );
        }
    }
}
