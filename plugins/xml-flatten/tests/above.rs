//! Columns from above the row, `<!DOCTYPE` and `xsi:nil`.
use weir_sdk::testing::{Bench, Table};
use xml_flatten::Flatten;

fn run(bench: Bench, message: &str) -> Table {
    bench
        .bytes("value", &[Some(message.as_bytes())])
        .run::<Flatten>(1)
}

fn of(columns: &str) -> Bench {
    Bench::default().key("row-tag", "r").key("columns", columns)
}

#[track_caller]
fn gives(bench: Bench, message: &str, lines: &[&str], codes: &[&str]) {
    let table = run(bench, message);
    assert_eq!(
        (table.lines(), table.codes()),
        (owned(lines), owned(codes)),
        "{message}"
    );
}

fn owned(of: &[&str]) -> Vec<String> {
    of.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_row_gets_what_stands_above_it() {
    let columns = "../@id, day=../head/day, at=../head/day/@at, zone=../../@zone, who=../../from/name, qty, own=@id";
    let message = "<m zone='EU'><from><name>A &amp; B</name></from>\
        <o id='1'><head><day at='x&lt;y'><![CDATA[mon]]></day></head><r id='a'><qty>2</qty></r><r id='b'><head><day>no</day></head></r></o>\
        <o id='2'><skip><head><day>no</day></head></skip><r id='c'><qty>3</qty></r></o>\
        <r id='d'/></m>";
    let bench = || of(columns).key("repeat", "first");
    let names = ["_id", "day", "at", "zone", "who", "qty", "own"];
    assert_eq!(run(bench(), message).names, names);
    let lines = [
        "1|mon|x<y|EU|A & B|2|a",
        "1|mon|x<y|EU|A & B|∅|b",
        "2|∅|∅|EU|A & B|3|c",
        "∅|∅|∅|∅|∅|∅|d",
    ];
    gives(bench(), message, &lines, &[]);
    // Types, a second row element in a row, and rows that explode.
    let message = "<o n='5'><when>2024-05-01</when><r><i>1</i><r/><i>2</i></r></o>";
    let bench = of("../@n, ../when, i").key("explode", "i");
    let bench = bench.key("types.when", "date").key("types._n", "int");
    gives(bench, message, &["5|19844|1", "5|19844|2"], &[]);
    let bench = of("../when, i")
        .key("types.when", "int")
        .key("explode", "i");
    gives(
        bench,
        message,
        &[],
        &["0/0 bad_int when", "0/1 bad_int when"],
    );
}

#[test]
fn names_above_are_matched_as_below() {
    let message = "<p:o xmlns:p='urn:p' p:id='7'><p:a>x</p:a><a>y</a><r/></p:o>";
    gives(
        of("../a, ../@id").key("repeat", "last"),
        message,
        &["y|7"],
        &[],
    );
    let keep = || of("../a, q=../p:a, i=../@p:id").key("namespaces", "keep");
    gives(keep(), message, &["y|x|7"], &[]);
    let by_uri = of("../a, ../z:a, ../@z:id").key("namespaces.z", "urn:p");
    gives(by_uri, message, &["y|x|7"], &[]);
}

#[test]
fn what_comes_again_or_late_is_never_silent() {
    let twice = "<o><d>1</d><d>2</d><r/></o>";
    gives(of("../d"), twice, &[], &["0/0 repeated_element d"]);
    gives(of("../d").key("repeat", "first"), twice, &["1"], &[]);
    gives(of("../d").key("repeat", "last"), twice, &["2"], &[]);
    let late = "<o>\n<r/><d>1</d></o>";
    gives(of("../d"), late, &[], &["0 late_value"]);
    gives(
        of("../d").key("repeat", "first"),
        late,
        &[],
        &["0 late_value"],
    );
    let said = &run(of("../d"), late).rejects[0].message;
    assert!(
        said.starts_with("line 2, column 6") && said.contains("repeat.d to last"),
        "{said}"
    );
    // `first` has its value; `last` is what stands nearest before the row.
    let between = "<o><d>1</d><r/><d>2</d><r/></o>";
    gives(of("../d"), between, &[], &["0 late_value"]);
    gives(of("../d").key("repeat", "first"), between, &["1", "1"], &[]);
    gives(of("../d").key("repeat", "last"), between, &["1", "2"], &[]);
    let dropped = |repeat| run(of("../d").key("repeat", repeat), between).counters[0];
    assert_eq!((dropped("first"), dropped("last")), (1, 0));
    let counts = |message| run(of("../d").key("repeat", "last"), message).counters[0];
    assert_eq!(counts("<o><d>1</d><d>2</d><r/><d>3</d></o>"), 2);
    assert_eq!(
        counts("<o><c><d>1</d><d>2</d></c><r/></o>"),
        0,
        "around no row"
    );
    // The element around the row ends behind it, and so does its text.
    gives(of("../../o"), "<m><o>x<r/></o></m>", &[], &["0 late_value"]);
    let mixed = "<o><d>x<b/></d><r/></o>";
    gives(
        of("../d").key("mixed-content", "reject"),
        mixed,
        &[],
        &["0/0 mixed_content d"],
    );
    gives(
        of("../d").key("mixed-content", "all"),
        "<o><d>x<b>y</b></d><r/></o>",
        &["xy"],
        &[],
    );
    let long = of("../d").key("max-text-bytes", "3");
    gives(
        long,
        "<o><d>ab&lt;&lt;</d><r/></o>",
        &[],
        &["0 text_too_long"],
    );
}

#[test]
fn paths_above_that_cannot_be_are_problems() {
    let problem = |bench: Bench| {
        let problems = bench.bytes("value", &[]).problems::<Flatten>();
        problems
            .iter()
            .map(|p| format!("{} {}", p.at.trim_start_matches('/'), p.code))
            .collect::<Vec<_>>()
    };
    for columns in [
        "../_VALUE",
        "x=..",
        "../d[2]",
        "../r/d",
        "x=../../",
        "d/../e",
    ] {
        assert_eq!(problem(of(columns)), ["columns bad_path"], "{columns}");
    }
    let json = problem(of("../d").key("repeat.d", "json"));
    assert_eq!(json, ["repeat.d bad_value"]);
    assert_eq!(
        problem(of("i").key("explode", "../i")),
        ["explode bad_path"]
    );
}

#[test]
fn a_doctype_that_names_a_dtd_is_passed_over_where_asked() {
    let ignore = || of("a").key("doctype", "ignore");
    for doctype in [
        "<!DOCTYPE o>",
        "<!DOCTYPE  o  >",
        "<?xml version='1.0'?><!-- c -->\n<!DOCTYPE o SYSTEM 'o.dtd'>",
        "<!DOCTYPE o PUBLIC '-//X//EN' \"http://x/o.dtd\" >",
    ] {
        let message = format!("{doctype}<o><r><a>1</a></r></o>");
        gives(ignore(), &message, &["1"], &[]);
        gives(of("a"), &message, &[], &["0 doctype_not_allowed"]);
    }
    for (message, code) in [
        (
            "<!DOCTYPE o [<!ENTITY e 'x'>]><o><r><a>&e;</a></r></o>",
            "doctype_not_allowed",
        ),
        (
            "<!DOCTYPE o SYSTEM 'o.dtd' []><o><r/></o>",
            "doctype_not_allowed",
        ),
        ("<!DOCTYPE o><o><r><a>&e;</a></r></o>", "unknown_entity"),
        ("<!DOCTYPE o><!DOCTYPE o><o><r/></o>", "malformed_xml"),
        ("<o><!DOCTYPE o><r/></o>", "malformed_xml"),
        ("<!doctype o><o><r/></o>", "malformed_xml"),
        ("<!DOCTYPE o SYSTEM><o><r/></o>", "malformed_xml"),
        ("<!DOCTYPE o SYSTEM'o.dtd'><o><r/></o>", "malformed_xml"),
        ("<!DOCTYPE o PUBLIC 'x'><o><r/></o>", "malformed_xml"),
        ("<!DOCTYPE 1><o><r/></o>", "malformed_xml"),
        ("<!DOCTYPE o PUBLIC '{}' 'y'><o><r/></o>", "malformed_xml"),
        ("<!DOCTYPE o SYSTEM 'y><o><r/></o>", "malformed_xml"),
        ("<!DOCTYPE o x><o><r/></o>", "malformed_xml"),
    ] {
        gives(ignore(), message, &[], &[&format!("0 {code}")]);
    }
}

#[test]
fn an_element_that_is_nil_is_null_where_asked() {
    let xsi = "xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance'";
    let message = format!(
        "<o {xsi}><d xsi:nil='1'/><r><a xsi:nil='true' u='m'/><b xsi:nil='false'/><c nil='true'/></r></o>"
    );
    let columns = "../d, a, u=a/@u, b, c";
    gives(of(columns), &message, &["||m||"], &[]);
    let nil = || of(columns).key("nil-as-null", "true");
    gives(nil(), &message, &["∅|∅|m||"], &[]);
    gives(nil().key("namespaces", "keep"), &message, &["∅|∅|m||"], &[]);
    gives(
        nil().key("namespaces.q", "urn:q"),
        &message,
        &["∅|∅|m||"],
        &[],
    );
    let other = message.replace("2001/XMLSchema-instance", "2001/other");
    gives(nil().key("namespaces.q", "urn:q"), &other, &["||m||"], &[]);
    // It is a value, that of null: nothing older stands for it, and nothing that has a text is lost.
    let again = format!("<o {xsi}><d>5</d><r/><d xsi:nil='1'/><r><a>1</a><a xsi:nil='1'/></r></o>");
    let repeat = |word| of("../d, a").key("nil-as-null", "true").key("repeat", word);
    gives(repeat("last"), &again, &["5|∅", "∅|∅"], &[]);
    let texts = format!("<o {xsi}><r><a xsi:nil='1'>x</a></r><r><a xsi:nil='1'/><a>y</a></r></o>");
    gives(
        repeat("reject"),
        &texts,
        &["∅|x"],
        &["0/1 repeated_element a"],
    );
    gives(
        of("a").key("nil-as-null", "true").key("repeat", "json"),
        &texts,
        &["[\"x\"]", "[null,\"y\"]"],
        &[],
    );
}

#[test]
fn a_child_of_any_namespace_makes_content_mixed() {
    let bench = of("a=q:a")
        .key("namespaces.q", "urn:q")
        .key("row-tag", "q:r");
    let message = "<r xmlns='urn:q'><a>x<w:b xmlns:w='urn:w'/>y</a></r>";
    gives(
        bench.key("mixed-content", "reject"),
        message,
        &[],
        &["0/0 mixed_content a"],
    );
}

#[test]
fn a_mark_is_no_column() {
    let bench = || of("a");
    let place = |text: &str| run(bench(), text).rejects[0].message.clone();
    let (marked, plain) = (place("\u{feff}<o>\r\n<r></o>"), place("<o>\r\n<r></o>"));
    assert_eq!(marked.split(" (byte").next(), plain.split(" (byte").next());
    let (marked, plain) = (place("\u{feff}<o><r></o>"), place("<o><r></o>"));
    assert_eq!(marked.split(" (byte").next(), plain.split(" (byte").next());
}
