//! The output of `weir plugin infer` runs on the messages from which it was made, or says what is refused.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::world::plugins_dir;

fn weir(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .current_dir(dir)
        .arg("plugin")
        .args(args)
        .arg("--plugin-path")
        .arg(plugins_dir())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The map of a file, and the lines that its plugin makes of the file by it.
fn inferred(name: &str, bytes: &[u8], more: &[&str]) -> (String, Vec<Value>) {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join(name), bytes).unwrap();
    let lines: &[&str] = if more.contains(&"--lines") {
        &["--lines"]
    } else {
        &[]
    };
    let map = weir(dir.path(), &[&["infer", name], more].concat());
    assert!(map.status.success(), "{}", text(&map.stderr));
    let map = text(&map.stdout);
    std::fs::write(dir.path().join("map.toml"), &map).unwrap();
    let plugin = map
        .split("type = \"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let run = [
        "run", name, "--plugin", plugin, "--config", "map.toml", "--json", "-n", "0",
    ];
    let ran = weir(dir.path(), &[&run[..], lines].concat());
    assert!(ran.status.success(), "{map}{}", text(&ran.stderr));
    let json = |line: &str| serde_json::from_str(line).unwrap();
    (map, text(&ran.stdout).lines().map(json).collect())
}

/// As [`inferred`], and nothing is refused: the rows, and the map says so.
fn rows(name: &str, bytes: &[u8], more: &[&str]) -> (String, Vec<Value>) {
    let (map, lines) = inferred(name, bytes, more);
    assert!(map.contains(", nothing refused"), "{map}");
    let refused: Vec<&Value> = lines.iter().filter(|l| l.get("code").is_some()).collect();
    assert!(refused.is_empty(), "{map}{refused:?}");
    let rows = lines.into_iter().filter(|l| l.get("out").is_some());
    (map, rows.map(|row| row["out"].clone()).collect())
}

#[test]
fn an_element_that_repeats_with_and_without_children_is_a_repetition() {
    let xml = b"<x><s><l><i>1</i></l><l>a</l></s></x>";
    let (map, rows) = rows("input.xml", xml, &["--row-tag", "s"]);
    assert!(map.contains("repeat.l = \"json\""), "{map}");
    assert_eq!(rows.len(), 1, "{map}");
}

#[test]
fn a_doctype_is_said_before_it_is_refused() {
    let xml = b"<!DOCTYPE x><x><r><a>b</a><b>1</b></r><r><a>b</a><b>2</b></r></x>";
    let (map, lines) = inferred("doctype.xml", xml, &[]);
    assert!(
        map.contains("# 1 of 1 messages have a <!DOCTYPE: xml-flatten refuses them"),
        "{map}"
    );
    assert!(
        map.contains("# tried on 1 message: 0 rows, 1 refusal\n"),
        "{map}"
    );
    assert!(map.contains("weir explain doctype_not_allowed"), "{map}");
    assert_eq!(lines[0]["code"], "doctype_not_allowed");
}

/// Only what each row would find before it.
#[test]
fn values_around_the_rows_are_said_with_their_paths() {
    let said = |xml: &str| -> Vec<String> {
        let (map, _) = inferred("around.xml", xml.as_bytes(), &["--row-tag", "r"]);
        let lines = map
            .lines()
            .filter(|line| line.contains("around it has values"));
        lines
            .map(|line| line.split('`').nth(3).expect("a path").to_owned())
            .collect()
    };
    let r = "<r><a>b</a></r>";
    assert_eq!(
        said(&format!("<x><head><day>1</day></head>{r}{r}</x>")),
        ["../head/day"]
    );
    assert_eq!(
        said(&format!("<x id='7'><y><z>1</z>{r}</y></x>")),
        ["../z", "../../@id"]
    );
    assert_eq!(said(&format!("<x>{r}<total>1</total></x>")), [""; 0]);
    assert_eq!(said(&format!("<x><z>1</z>{r}<y>{r}</y></x>")), [""; 0]);
}

#[test]
fn lines_are_json_whatever_a_value_holds() {
    let xml = "<x><r><a>x\u{feff}\u{202e}\u{7f}y</a><b>1</b></r><r><a>b</a><b>2</b></r></x>";
    let (_, rows) = rows("invisible.xml", xml.as_bytes(), &[]);
    assert_eq!(rows[0]["a"], "x\u{feff}\u{202e}\u{7f}y");
}

#[test]
fn encodings_that_the_plugin_reads_are_read() {
    let latin = b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><x><r><a>\xe9</a><b>1</b></r><r><a>b</a><b>2</b></r></x>";
    let (_, latin) = rows("latin1.xml", latin, &[]);
    let wide = "<?xml version=\"1.0\" encoding=\"UTF-16\"?><x><r><a>é</a><b>1</b></r><r><a>b</a><b>2</b></r></x>";
    let units = [0xfeff].into_iter().chain(wide.encode_utf16());
    let wide: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
    let (map, wide) = rows("utf16.xml", &wide, &[]);
    assert_eq!(latin, wide, "{map}");
    assert_eq!(latin[0]["a"], "é");
    let dir = TempDir::new().unwrap();
    let other = b"<?xml version=\"1.0\" encoding=\"EBCDIC\"?><x><r><a>1</a></r></x>";
    std::fs::write(dir.path().join("other.xml"), other).unwrap();
    let told = weir(dir.path(), &["infer", "other.xml"]);
    let told = text(&told.stderr);
    assert!(
        told.contains("\"EBCDIC\": expected one of UTF-8")
            && told.contains("(encoding_not_supported)"),
        "{told}"
    );
    assert!(
        told.contains("hint: --lines"),
        "the file was one message already: {told}"
    );
}

#[test]
fn the_row_is_not_an_element_that_mixes_two_places() {
    let xml = b"<m><h><from>x</from></h><product><ref>r1</ref><id><t>1</t><v>11</v></id><id><t>2</t><v>12</v></id>\
        <title>T</title><related><code>9</code><id><t>1</t><v>21</v></id><id><t>2</t><v>22</v></id></related></product></m>";
    let (map, rows) = rows("onix-like.xml", xml, &[]);
    assert!(map.contains("row-tag = \"product\""), "{map}");
    assert_eq!(rows.len(), 1, "{map}");
    assert_eq!(rows[0]["ref"], "r1", "{map}");
}

#[test]
fn csv_files_and_lines_get_a_map_for_csv_parse() {
    let file =
        "id;Book Title;price;sold\r\n1;Momo;9.50;29.02.2024\r\n2;\"Dune; a novel\";;01.01.1970\r\n";
    let (map, found) = rows("books.csv", file.as_bytes(), &[]);
    for wanted in [
        "type = \"csv-parse\"",
        "separator = \";\"",
        "header-line = true",
        "types.price = \"decimal(",
    ] {
        assert!(map.contains(wanted), "{wanted}\n{map}");
    }
    assert_eq!(found.len(), 2, "{map}");
    assert_eq!(found[1]["Book_Title"], "Dune; a novel", "{map}");

    // Lines as they come on a topic: no header, a word for null, fields that are missing.
    let lines = "1\t2.5\tx\n2\t\\N\ty\n3\t4\n";
    let (map, found) = rows("lines.txt", lines.as_bytes(), &[]);
    for wanted in [
        "separator = \"tab\"",
        "missing = \"null\"",
        "null-value = \"\\\\N\"",
    ] {
        assert!(map.contains(wanted), "{wanted}\n{map}");
    }
    assert_eq!(found.len(), 3, "{map}");
    assert_eq!(found[1]["column_2"], Value::Null, "{map}");

    let quotes = "3.5\" disk,1\n5.25\" disk,2\n8\" disk,3\n";
    let (map, found) = rows("disks.csv", quotes.as_bytes(), &["--lines"]);
    assert!(map.contains("quote = \"\""), "{map}");
    assert_eq!(found.len(), 3, "{map}");
}

#[test]
fn what_a_map_still_refuses_is_said_by_code() {
    let json = "{\"a\":1}\n{\"a\":2,\"a\":3}\n{\"a\":12345678901234567890123}\n";
    let (map, lines) = inferred("in.jsonl", json.as_bytes(), &[]);
    assert!(
        map.contains("types.a = \"decimal(23,0)\""),
        "a whole number of 23 digits: {map}"
    );
    assert!(
        map.contains("# tried on 3 messages: 2 rows, 1 refusal\n"),
        "{map}"
    );
    assert!(
        map.contains("duplicate_key: 1 time, first in message 2: "),
        "{map}"
    );
    let large = lines.iter().find(|l| l["row"] == 2).unwrap();
    assert_eq!(large["out"]["a"], "12345678901234567890123");
}
