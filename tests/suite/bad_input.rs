//! Every kind of bad message through the real components: it gives a dead letter with the right code, and other records
//! are not affected.

use std::collections::BTreeMap;

use weir::commit::Role;
use weir::store;
use weir::zone::deadletter::{self, Filter};

use crate::world::World;

const GOOD: &str = "<book lang='en'><record_id>6f1ed002-ab6a-4b0c-9d4a-8f1f3f2f0a01</record_id><title>T</title>\
    <author><name>A</name></author><publication_year>2020</publication_year>\
    <published>2020-01-02</published><price>1.50</price></book>";

fn good(change: &[(&str, &str)]) -> String {
    change.iter().fold(GOOD.to_owned(), |book, (from, to)| {
        assert!(book.contains(from), "{from}");
        book.replace(from, to)
    })
}

fn library(books: &[String]) -> Vec<u8> {
    format!("<library>{}</library>", books.concat()).into_bytes()
}

#[test]
fn each_ends_in_a_dead_letter_with_its_code() {
    let one = |change: &[(&str, &str)]| library(&[GOOD.to_owned(), good(change)]);
    let deep = format!(
        "<library>{}{}</library>",
        "<a>".repeat(100),
        "</a>".repeat(100)
    );
    let attributes: String = (0..300).map(|i| format!(" a{i}='x'")).collect();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        // Whole messages.
        ("empty_value", Vec::new()),
        ("malformed_xml", b"<library><book></library>".to_vec()),
        ("malformed_xml", b"not xml at all".to_vec()),
        (
            "malformed_xml",
            [library(&[GOOD.to_owned()]), b"<again/>".to_vec()].concat(),
        ),
        (
            "malformed_xml",
            [b"<library>", &[0xff, 0xfe][..], b"</library>"].concat(),
        ),
        ("unknown_entity", b"<library>&nosuch;</library>".to_vec()),
        (
            "doctype_not_allowed",
            b"<!DOCTYPE l [<!ENTITY a 'b'>]><library>&a;</library>".to_vec(),
        ),
        ("no_rows", b"<library></library>".to_vec()),
        ("too_deep", deep.into_bytes()),
        (
            "too_many_attributes",
            format!("<library{attributes}></library>").into_bytes(),
        ),
        // One book of two.
        (
            "bad_int",
            one(&[("<publication_year>2020", "<publication_year>MMXX")]),
        ),
        ("bad_date", one(&[("2020-01-02", "2020-13-02")])),
        ("bad_decimal", one(&[("1.50", "1,50")])),
        (
            "repeated_element",
            one(&[("<title>T</title>", "<title>T</title><title>U</title>")]),
        ),
        ("required_missing", one(&[("<title>T</title>", "")])),
        (
            "below_min",
            one(&[("<publication_year>2020", "<publication_year>1999")]),
        ),
        (
            "above_max",
            one(&[("<publication_year>2020", "<publication_year>2024")]),
        ),
        ("bad_format", one(&[("6f1ed002", "zzzzzzzz")])),
        (
            "too_long",
            one(&[("<title>T", &format!("<title>{}", "x".repeat(300)))]),
        ),
        ("pattern_mismatch", one(&[("lang='en'", "lang='e1'")])),
    ];
    let world = World::new(1);
    let whole = cases
        .iter()
        .filter(|(_, m)| !m.windows(10).any(|w| w == b"<record_id"))
        .count();
    world.produce(cases.iter().map(|(_, message)| (0, message.as_slice())));
    let conf = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/rules/books.toml");
    let config = world.raw(&[
        ("transforms", "flatten,rules"),
        ("transforms.flatten.type", "xml-flatten@0.1"),
        ("transforms.flatten.row-tag", "book"),
        (
            "transforms.flatten.columns",
            "record_id,title,author/name,author/country,lang=@lang,publication_year,published,price",
        ),
        ("transforms.flatten.types.publication_year", "int"),
        ("transforms.flatten.types.published", "date"),
        ("transforms.flatten.types.price", "decimal(10,2)"),
        ("transforms.rules.type", "validate@0.1"),
        ("transforms.rules.rules", &conf.display().to_string()),
        ("errors.tolerance", "all"),
    ]);
    for ended in world.run(&[config]) {
        ended.result.unwrap();
    }
    let log = world.log("raw", "raw");
    let totals = log.state().totals();
    assert_eq!(totals.records.read, cases.len() as u64);
    // One of the whole ones holds a good book before its second root: it is refused whole all the same.
    let pieces = cases.len() - whole - 1;
    assert_eq!(
        totals.rows.written, pieces as u64,
        "siblings of refused pieces are rows"
    );
    let store = store::open_url(&format!("file:{}", world.path("raw").display())).unwrap();
    let live = log.state().live.values().map(|l| l.file.clone());
    let files: Vec<_> = live.filter(|f| f.role == Role::DeadLetters).collect();
    let filter = Filter::default();
    let found: BTreeMap<i64, _> = deadletter::read(&store, log.name(), &files, &filter)
        .map(|letter| letter.unwrap())
        .map(|letter| (letter.offset, letter))
        .collect();
    for (offset, (code, message)) in cases.iter().enumerate() {
        let letter = found
            .get(&(offset as i64))
            .unwrap_or_else(|| panic!("no letter for {code}"));
        assert_eq!(letter.reasons[0].code, *code, "{:?}", letter.reasons);
        assert_eq!(
            letter.original.value.as_deref().unwrap_or_default(),
            message.as_slice(),
            "{code}"
        );
    }
}

/// `weir dlq show …` on the zone: what it prints.
fn shown(world: &World, args: &[&str]) -> String {
    let zone = format!("file:{}", world.path("raw").display());
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["dlq", "show", &zone])
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Items whose count is no number; the noise is more than a codec can make small.
fn bad_items(items: usize, noise: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut letter = || {
        state = (state.wrapping_mul(6_364_136_223_846_793_005)).wrapping_add(1);
        char::from(b'0' + (state >> 58) as u8)
    };
    let mut item = |id| {
        let note: String = std::iter::repeat_with(&mut letter).take(noise).collect();
        let note = note.replace(['<', '>'], "x");
        format!("<item><id>{id}</id><count>n{id}</count><note>{note}</note></item>")
    };
    let items: String = (0..items).map(&mut item).collect();
    format!("<list>{items}<item><id>good</id><count>1</count></item></list>").into_bytes()
}

#[test]
fn a_message_of_bad_pieces_is_stored_once_and_shown_once() {
    let world = World::new(1);
    let many = bad_items(200, 4_500);
    // More than become dead letters of their own.
    let too_many = bad_items(10_001, 0);
    world.produce(
        [&many, &too_many]
            .map(|message| (0, message.as_slice()))
            .into_iter(),
    );
    let config = world.raw(&[
        ("transforms", "items"),
        ("transforms.items.type", "xml-flatten@0.1"),
        ("transforms.items.row-tag", "item"),
        ("transforms.items.columns", "id,count"),
        ("transforms.items.types.count", "int"),
        ("transforms.items.max-rows", "20000"),
        ("errors.tolerance", "all"),
    ]);
    for ended in world.run(&[config]) {
        ended.result.unwrap();
    }
    let log = world.log("raw", "raw");
    let totals = log.state().totals();
    assert_eq!(totals.rows.written, 1, "the good sibling of the first");
    let files = log.state().live.values().map(|live| &live.file);
    let bytes: u64 = files
        .filter(|f| f.role == Role::DeadLetters)
        .map(|f| f.bytes)
        .sum();
    let messages = (many.len() + too_many.len()) as u64;
    assert!(bytes < messages, "{bytes} bytes for messages of {messages}");

    let lines = shown(&world, &["--json", "-n", "0"]);
    let letters: Vec<serde_json::Value> = (lines.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(letters.len(), 201);
    for (n, letter) in letters.iter().enumerate() {
        let first = n == 0 || n == 200;
        assert_eq!(letter["holds_bytes"], first, "{n}");
        assert_eq!(letter["value"].is_string(), first, "{n}");
    }
    assert_eq!(
        letters[0]["value_text"].as_str(),
        str::from_utf8(&many).ok()
    );
    let whole = &letters[200];
    assert_eq!(
        (&whole["offset"], &whole["row"]),
        (&1.into(), &serde_json::Value::Null)
    );
    let codes: Vec<_> = (whole["errors"].as_array().unwrap().iter())
        .map(|reason| reason["code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["too_many_rejects", "bad_int"]);

    let text = shown(&world, &["--offset", "0", "-n", "3"]);
    assert_eq!(
        text.matches("value  the same message as above").count(),
        2,
        "{text}"
    );
    assert_eq!(
        text.matches("value  <list><item><id>0</id>").count(),
        1,
        "{text}"
    );
}
