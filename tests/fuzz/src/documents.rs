//! Makes documents: well-formed ones from a grammar; half of them are then damaged by a few changes.

use crate::Random;

/// Names that paths lead to, names that none does, and the same with a prefix.
pub const NAMES: [&str; 12] = [
    "book",
    "title",
    "author",
    "name",
    "year",
    "t",
    "x:title",
    "y:book",
    "note",
    "très",
    "a.b-c",
    "very_long_element_name",
];
const ATTRIBUTES: [&str; 8] = [
    "id",
    "lang",
    "x:id",
    "xmlns",
    "xmlns:x",
    "xml:space",
    "é",
    "_b",
];
const TEXTS: [&str; 16] = [
    "7",
    "-12",
    "2147483648",
    "word",
    " two words ",
    "\n  ",
    "\t",
    "é",
    "\u{1F600}",
    "]]",
    "]",
    ">",
    "--",
    "'",
    "\"",
    "\r\n",
];
const REFERENCES: [&str; 9] = [
    "&lt;",
    "&gt;",
    "&amp;",
    "&apos;",
    "&quot;",
    "&#65;",
    "&#x1F600;",
    "&#xD;",
    "&#10;",
];
const PIECES: [&str; 52] = [
    "<",
    ">",
    "&",
    ";",
    "]]>",
    "<![CDATA[",
    "-->",
    "<!--",
    "--",
    "'",
    "\"",
    "/",
    "/>",
    "=",
    "\r",
    "\n",
    " ",
    "\0",
    "\u{1}",
    "<book>",
    "</book>",
    "<title>",
    "</title>",
    "<year>",
    "é",
    "\u{FFFE}",
    "\u{FEFF}",
    "\u{85}",
    "?>",
    "<?p ",
    "<?xml ",
    "<?xml version='1.0'?>",
    "<!DOCTYPE l>",
    "<!ENTITY a 'b'>",
    "&lt;",
    "&#xD;",
    "&#0;",
    "&#xD800;",
    "&#x110000;",
    "&none;",
    "&#;",
    "&#x;",
    "&#+1;",
    " id='1'",
    " id=\"2\"",
    ":",
    "<t>1</t>",
    "</",
    "<!",
    "<?",
    "]]",
    "<x:book/>",
];

pub fn document(r: &mut Random) -> Vec<u8> {
    let mut out = String::new();
    if r.one_in(5) {
        out += r.pick(&[
            "<?xml version=\"1.0\"?>",
            "<?xml version='1.1' encoding='utf-8' standalone='yes'?>\n",
            "\u{FEFF}<?xml version='1.0' encoding = \"UTF-8\" ?>",
            "\u{FEFF}",
        ]);
    }
    misc(r, &mut out);
    element(r, 0, &mut out);
    misc(r, &mut out);
    let mut bytes = out.into_bytes();
    if r.one_in(2) {
        for _ in 0..1 + r.below(3) {
            spoil(r, &mut bytes);
        }
    }
    bytes
}

fn misc(r: &mut Random, out: &mut String) {
    while r.one_in(4) {
        *out += r.pick(&[" ", "\n", "<!-- c -->", "<?p i?>", "<!---->"]);
    }
}

fn element(r: &mut Random, depth: usize, out: &mut String) {
    let name = match depth {
        0 => r.pick(&["l", "book", "library"]),
        1 if r.one_in(2) => "book",
        _ => r.pick(&NAMES),
    };
    out.push('<');
    *out += name;
    let mut given = Vec::new();
    while r.one_in(3) {
        let attribute = r.pick(&ATTRIBUTES);
        if !given.contains(&attribute) {
            given.push(attribute);
            let (before, after) = (r.pick(&[" ", "\n", "  "]), r.pick(&["=", " = "]));
            let quote = r.pick(&['"', '\'']);
            *out += &format!("{before}{attribute}{after}{quote}");
            while r.one_in(2) {
                let piece = if r.one_in(3) {
                    r.pick(&REFERENCES)
                } else {
                    r.pick(&TEXTS)
                };
                if !piece.contains(quote) {
                    *out += piece;
                }
            }
            out.push(quote);
        }
    }
    if r.one_in(8) {
        out.push(' ');
    }
    if r.one_in(8) {
        *out += "/>";
        return;
    }
    out.push('>');
    let children = if depth > 5 { 0 } else { r.below(6) };
    for _ in 0..children {
        match r.below(9) {
            0 => *out += r.pick(&["<!-- <b> & -->", "<?p <x>?>", "<!---->"]),
            1 => {
                *out += &format!(
                    "<![CDATA[{}]]>",
                    r.pick(&["", "<b>&amp;", "]]", "]", "z", "\r", "7"])
                )
            }
            2 => *out += r.pick(&REFERENCES),
            3..=5 => *out += r.pick(&TEXTS),
            _ => element(r, depth + 1, out),
        }
    }
    if children == 0 && r.one_in(2) {
        *out += r.pick(&TEXTS);
    }
    *out += &format!("</{name}{}>", r.pick(&["", "", "", " ", "\n"]));
}

fn spoil(r: &mut Random, bytes: &mut Vec<u8>) {
    let at = r.below(bytes.len() + 1);
    match r.below(6) {
        0 | 1 => drop(bytes.splice(at..at, r.pick(&PIECES).bytes())),
        2 => drop(bytes.drain(at..(at + 1 + r.below(8)).min(bytes.len()).max(at))),
        3 => bytes
            .get_mut(at)
            .into_iter()
            .for_each(|b| *b = r.number() as u8),
        4 => bytes.truncate(at),
        _ => {
            let from = r.below(bytes.len() + 1).min(at);
            let copy = bytes[from..at.min(from + 60)].to_vec();
            drop(bytes.splice(at..at, copy));
        }
    }
}
