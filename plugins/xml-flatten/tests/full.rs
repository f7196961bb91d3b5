//! Namespaces by URI, encodings, the n-th element, attributes of empty elements, and the wildcard.
use weir_sdk::PlannedColumn;
use weir_sdk::testing::{Bench, Table};
use xml_flatten::Flatten;

fn run(bench: Bench, messages: &[&str]) -> Table {
    let values: Vec<&[u8]> = messages.iter().map(|m| m.as_bytes()).collect();
    run_bytes(bench, &values)
}

fn run_bytes(bench: Bench, messages: &[&[u8]]) -> Table {
    let values: Vec<Option<&[u8]>> = messages.iter().copied().map(Some).collect();
    bench.bytes("value", &values).run::<Flatten>(messages.len())
}

/// Columns of `<r>` elements, given as the short form.
fn of(columns: &str) -> Bench {
    Bench::default().key("row-tag", "r").key("columns", columns)
}

/// Books in `urn:b`, which the config calls `bk`.
fn books() -> Bench {
    Bench::default()
        .key("namespaces.bk", "urn:b")
        .key("namespaces.x", "urn:x?a&b")
        .key("row-tag", "bk:r")
}

#[test]
fn names_match_by_namespace_whatever_the_prefix() {
    let bench = || {
        books().key(
            "columns",
            "bk:a, x=bk:a/@x:i, i=bk:a/@i, plain=a, lang=@xml:lang",
        )
    };
    let expected = ["1|2|3|4|de"];
    for text in [
        "<q:r xmlns:q='urn:b' xmlns:y='urn:x?a&amp;b' xml:lang='de'><q:a y:i='2' i='3'>1</q:a><a>4</a></q:r>",
        "<r xmlns='urn:b' xml:lang='de'><a xmlns:x='urn:x?a&amp;b' x:i='2' i='3'>1</a><a xmlns=''>4</a></r>",
        "<l><bk:r xmlns:bk='urn:b' xml:lang='de'><a>4</a><z:a xmlns:z='urn:b' xmlns:bk='urn:x?a&amp;b' bk:i='2' i='3'>1</z:a></bk:r></l>",
    ] {
        let table = run(bench(), &[text]);
        assert_eq!(table.names, ["bk_a", "x", "i", "plain", "lang"]);
        assert_eq!(
            (table.lines(), table.codes()),
            (expected.map(String::from).to_vec(), vec![])
        );
    }
    // The right local names in no namespace, or in another one.
    for text in [
        "<r><a>1</a></r>",
        "<r xmlns='urn:c'/>",
        "<l xmlns:bk='urn:c'><bk:r/></l>",
    ] {
        assert_eq!(run(bench(), &[text]).codes(), ["0 no_rows"], "{text}");
    }
    // A namespace is in force inside its element alone.
    let text =
        "<l><r xmlns='urn:b'><a>1</a></r><r><a>2</a></r><p xmlns='urn:b'><r><a>3</a></r></p></l>";
    assert_eq!(run(bench(), &[text]).lines(), ["1|∅|∅|∅|∅", "3|∅|∅|∅|∅"]);
}

#[test]
fn namespaces_in_messages_are_held_to_the_standard() {
    let bench = || books().key("columns", "bk:a");
    let cases = [
        ("<bk:r/>", "undeclared_prefix"),
        ("<bk:r xmlns:bk='urn:b'><no:a/></bk:r>", "undeclared_prefix"),
        ("<l no:a='1'/>", "undeclared_prefix"),
        ("<l><p xmlns:q='u'/><q:l/></l>", "undeclared_prefix"),
        ("<l xmlns:p=''/>", "malformed_xml"),
        ("<l xmlns:xml='urn:b'/>", "malformed_xml"),
        (
            "<l xmlns:q='http://www.w3.org/XML/1998/namespace'/>",
            "malformed_xml",
        ),
        ("<l xmlns:xmlns='u'/>", "malformed_xml"),
        // W3C's rmt-ns10-016, -033, -042, rmt-ns-e1.0-13b, and what they leave out.
        ("<l xmlns:=''/>", "malformed_xml"),
        ("<l xmlns:='u'/>", "malformed_xml"),
        (
            "<l xmlns:p='http://www.w3.org/2000/xmlns/'/>",
            "malformed_xml",
        ),
        (
            "<l xmlns='http://www.w3.org/2000/xmlns/'/>",
            "malformed_xml",
        ),
        ("<l><?p:q x?></l>", "malformed_xml"),
        ("<?p:q?><l/>", "malformed_xml"),
        ("<l xmlns:1p='u'/>", "malformed_xml"),
        ("<l xmlns:p:q='u'/>", "malformed_xml"),
        ("<xmlns:l/>", "malformed_xml"),
        (
            "<l xmlns='http://www.w3.org/XML/1998/namespace'/>",
            "malformed_xml",
        ),
        ("<l a:b:c='1'/>", "malformed_xml"),
        ("<l:/>", "malformed_xml"),
        ("<:l/>", "malformed_xml"),
        ("<1:l/>", "malformed_xml"),
        ("<l xmlns:p='u'><p:1/></l>", "malformed_xml"),
        ("<l xmlns:p='u'><p:a\u{d7}/></l>", "malformed_xml"),
        ("<r xmlns='urn:b'><1/></r>", "malformed_xml"),
        (
            "<l xmlns:p='u' xmlns:q='u' p:a='' q:a=''/>",
            "malformed_xml",
        ),
    ];
    for (text, code) in cases {
        let table = run(bench(), &[text, "<r xmlns='urn:b'/>"]);
        assert_eq!(table.codes(), [format!("0 {code}")], "{text}");
        assert_eq!(table.origin, [1], "{text}");
    }
    let text = "<l xmlns:p='u' p:a='' a=''>\n  <no:x/></l>";
    let message = &run(bench(), &[text]).rejects[0].message;
    assert!(
        message.starts_with("line 2, column 4 (byte 31): no `xmlns:no`"),
        "{message}"
    );
}

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(bytes).collect()
}

#[test]
fn every_encoding_reads_to_the_same_rows() {
    let document = |name: &str| {
        format!(
            "<?xml version='1.0' encoding='{name}'?>\r\n<l><r a='\u{fc}'><a>Stra\u{df}e</a></r></l>"
        )
    };
    let latin1 = |name: &str| -> Vec<u8> { document(name).chars().map(|c| c as u8).collect() };
    let cases = [
        document("utf-8").into_bytes(),
        format!("\u{FEFF}{}", document("UTF-8")).into_bytes(),
        latin1("ISO-8859-1"),
        latin1("windows-1252"),
        utf16(&document("UTF-16LE"), u16::to_le_bytes),
        utf16(&document("utf-16be"), u16::to_be_bytes),
        utf16(&format!("\u{FEFF}{}", document("UTF-16")), u16::to_le_bytes),
        utf16(
            "\u{FEFF}<r a='\u{fc}'><a>Stra\u{df}e</a></r>",
            u16::to_be_bytes,
        ),
    ];
    for bytes in &cases {
        let table = run_bytes(of("a,@a"), &[bytes]);
        assert_eq!(
            (table.lines(), table.codes()),
            (vec!["Straße|ü".into()], vec![])
        );
    }
    // ISO-8859-1 that would pass for UTF-8.
    let both = b"<?xml version='1.0' encoding='latin1'?><r><a>\xC3\xA9</a></r>";
    assert_eq!(run_bytes(of("a"), &[both]).lines(), ["\u{c3}\u{a9}"]);
    let euro = b"<?xml version='1.0' encoding='cp1252'?><r><a>\x80 \x93x\x94</a></r>";
    assert_eq!(run_bytes(of("a"), &[euro]).lines(), ["€ “x”"]);
    // A text column is text already, whatever its messages declared when they were bytes.
    let text = document("ISO-8859-1");
    let table = of("a,@a")
        .column("value", "string", &[Some(&text)])
        .run::<Flatten>(1);
    assert_eq!(table.lines(), ["Straße|ü"]);
}

#[test]
fn an_encoding_that_is_unknown_or_not_that_of_the_bytes_is_refused() {
    let declared = |name: &str, rest: &[u8]| {
        [
            format!("<?xml version='1.0' encoding='{name}'?>").as_bytes(),
            rest,
        ]
        .concat()
    };
    let utf32: Vec<u8> = "\u{FEFF}<r/>"
        .chars()
        .flat_map(|c| u32::from(c).to_le_bytes())
        .collect();
    let cases = [
        (
            declared("KOI8-R", b"<r/>"),
            "encoding_not_supported",
            "line 1, column 31 (byte 30): \"KOI8-R\"",
        ),
        (
            utf32,
            "encoding_not_supported",
            "line 1, column 1 (byte 0): ",
        ),
        (
            declared("UTF-16", b"<r/>"),
            "encoding_mismatch",
            "line 1, column 31 (byte 30): the declaration says \"UTF-16\", the bytes are one byte",
        ),
        (
            declared("US-ASCII", b"\n<r>\xC3\xA9</r>"),
            "encoding_mismatch",
            "line 2, column 4 (byte 45): the declaration says US-ASCII, found the byte 0xC3",
        ),
        (
            declared("windows-1252", b"\n<r>\x81</r>"),
            "malformed_xml",
            "line 2, column 4 (byte 49): 0x81 is no character",
        ),
        (
            declared("utf-8", b"<r>\xE9</r>"),
            "malformed_xml",
            "line 1, column 42 (byte 41): bytes that are not UTF-8",
        ),
        (
            [b"\xEF\xBB\xBF", declared("latin1", b"<r/>").as_slice()].concat(),
            "encoding_mismatch",
            "line 1, column 34 (byte 33): ",
        ),
        (
            utf16(
                "\u{FEFF}<?xml version='1.0' encoding='UTF-8'?><r/>",
                u16::to_le_bytes,
            ),
            "encoding_mismatch",
            "",
        ),
        (
            utf16("\u{FEFF}<r>\u{e9}&no;</r>", u16::to_be_bytes),
            "unknown_entity",
            "line 1, column 6 (byte 10): ",
        ),
        (
            declared("latin1", b"\r\n<r>\xE9\xE9&no;</r>"),
            "unknown_entity",
            "line 2, column 8 (byte 46): ",
        ),
        (
            [utf16("\u{FEFF}<r>", u16::to_le_bytes), vec![0]].concat(),
            "malformed_xml",
            "line 1, column 4 (byte 8): half a character",
        ),
        (
            b"\xFF\xFE<\0r\0>\0\x00\xDC".to_vec(),
            "malformed_xml",
            "line 1, column 4 (byte 8): half of a surrogate pair",
        ),
    ];
    for (bytes, code, message) in cases {
        let table = run_bytes(of("a"), &[&bytes, b"<r/>"]);
        assert_eq!(
            (table.codes(), table.origin.clone()),
            (vec![format!("0 {code}")], vec![1])
        );
        let found = &table.rejects[0].message;
        assert!(found.starts_with(message), "{found}\nexpected {message}");
    }
}

#[test]
fn an_index_takes_one_of_several() {
    let text = "<l><r><a><n>1</n></a><b/><a k='v'><n>2</n></a><a><n>3</n></a></r><r><a><n>4</n></a></r></l>";
    let table = run(of("a[1]/n,a[3]/n,second=a[2]/@k"), &[text]);
    assert_eq!(table.names, ["a_1_n", "a_3_n", "second"]);
    assert_eq!(table.lines(), ["1|3|v", "4|∅|∅"]);
    // Beside a path without index: every element goes to both.
    let all = of("first=a[1]/n, all=a/n").key("repeat.all", "json");
    assert_eq!(
        run(all, &[text]).lines(),
        ["1|[\"1\",\"2\",\"3\"]", "4|[\"4\"]"]
    );
    // The count begins again in each parent.
    let nested = "<r><p><c>1</c><c>2</c></p><p><c>3</c><c>4</c></p></r>";
    assert_eq!(
        run(of("x=p[2]/c[1],y=p[1]/c[2]"), &[nested]).lines(),
        ["3|2"]
    );
    let deep = of("x=p/c[2]").key("repeat.x", "json");
    assert_eq!(run(deep, &[nested]).lines(), ["[\"2\",\"4\"]"]);
    // Below what explodes the index counts within one repetition; beside it, it is the row's.
    let exploded = of("x=p/c[2], first=p[1]/c[1]").key("explode", "p");
    assert_eq!(run(exploded, &[nested]).lines(), ["2|1", "4|1"]);
    // Prefixes are no other names where they are ignored.
    let prefixed = "<r><x:a>1</x:a><a>2</a><y:a>3</y:a></r>";
    assert_eq!(run(of("x=a[2],y=a[3]"), &[prefixed]).lines(), ["2|3"]);
    // An element that nobody names does not count.
    let hidden = "<r><z><a>0</a></z><a>1</a></r>";
    assert_eq!(run(of("a[1]"), &[hidden]).lines(), ["1"]);
}

#[test]
fn attributes_of_empty_elements_are_read() {
    let text = "<r k='0'><a x=\"1\"/><b y='2'></b><c z='3' /></r>";
    let columns = "@k,a/@x,b/@y,c/@z,a,missing=a/@y";
    assert_eq!(
        run(of(columns), &[text, "<r k='1'/>"]).lines(),
        ["0|1|2|3||∅", "1|∅|∅|∅|∅|∅"]
    );
    let by_events = of(columns).key("wildcard", "rest");
    assert_eq!(run(by_events, &[text]).lines(), ["0|1|2|3||∅|∅"]);
    let exploded = of("a/@x").key("explode", "a");
    assert_eq!(
        run(exploded, &["<r><a x='1'/><a/><a x='3'/></r>"]).lines(),
        ["1", "∅", "3"]
    );
}

#[test]
fn a_wildcard_takes_what_no_column_took() {
    let rest = |columns: &str| of(columns).key("wildcard", "rest");
    let cases = [
        ("<r><a>1</a></r>", "1|∅"),
        ("<r><a>1</a><b>2</b></r>", "1|{\"b\":\"2\"}"),
        (
            "<r x='0'> t <a y='1'/><z><b>2</b>\n<b> \"3\" </b></z><z e=''/><n/></r>",
            "|{\"@x\":\"0\",\"_VALUE\":\"t\",\"a/@y\":\"1\",\"z/b\":[\"2\",\"\\\"3\\\"\"],\"z/@e\":\"\",\"n\":\"\"}",
        ),
        (
            "<r><z><b>2</b> own </z><a><i>it</i>al</a></r>",
            "al|{\"z\":\"own\",\"z/b\":\"2\",\"a/i\":\"it\"}",
        ),
        (
            "<r><q>&lt;<![CDATA[&]]></q><a/><p:q>2</p:q></r>",
            "|{\"q\":[\"<&\",\"2\"]}",
        ),
    ];
    for (text, expected) in cases {
        let table = run(rest("a"), &[text]);
        let expected =
            expected.replacen("@x\":\"0\",\"_VALUE\":\"t", "_VALUE\":\"t\",\"@x\":\"0", 1);
        assert_eq!(table.lines(), [expected], "{text}");
    }
    let all = rest("a").key("mixed-content", "all");
    let text = "<r><a>x<i k='1'>y</i></a><b>1<i>2</i></b></r>";
    assert_eq!(
        run(all, &[text]).lines(),
        ["xy|{\"a/i/@k\":\"1\",\"b\":\"1\",\"b/i\":\"2\"}"]
    );
    let indexed = rest("a[2]");
    assert_eq!(
        run(indexed, &["<r><a>1</a><a>2</a><a>3</a></r>"]).lines(),
        ["2|{\"a\":[\"1\",\"3\"]}"]
    );
    let kept = rest("a")
        .key("namespaces", "keep")
        .key("ignore-surrounding-spaces", "false");
    let text = "<r><p:a> 1</p:a></r>";
    assert_eq!(run(kept, &[text]).lines(), ["∅|{\"p:a\":\" 1\"}"]);
    let text = "<r xmlns='urn:b' xmlns:o='urn:o'><a>1</a><b o:i='2' j='3'><o:c>4</o:c></b></r>";
    let by_uri = books().key("columns", "bk:a").key("wildcard", "rest");
    let expected = "1|{\"bk:b/@{urn:o}i\":\"2\",\"bk:b/@j\":\"3\",\"bk:b/{urn:o}c\":\"4\"}";
    assert_eq!(run(by_uri, &[text]).lines(), [expected]);
}

#[test]
fn each_piece_has_its_own_rest_and_that_of_its_row() {
    let bench = || {
        of("n,i/k")
            .key("explode", "i")
            .key("wildcard", "rest")
            .key("types.i_k", "int")
    };
    let text = "<l><r><z>1</z><i w='a'><k>1</k><u>2</u></i><i><k>x</k><u>3</u></i><i><k>4</k></i><z>5</z></r><r><u>6</u></r></l>";
    let table = run(bench(), &[text, text]);
    let expected = [
        "∅|1|{\"z\":[\"1\",\"5\"],\"i/@w\":\"a\",\"i/u\":\"2\"}",
        "∅|4|{\"z\":[\"1\",\"5\"]}",
        "∅|∅|{\"u\":\"6\"}",
    ];
    assert_eq!(table.lines(), [expected, expected].concat());
    assert_eq!(table.codes(), ["0/1 bad_int i_k", "1/1 bad_int i_k"]);
    let (_, plan) = bench().bytes("value", &[]).init::<Flatten>();
    let Some(PlannedColumn::Make(field)) = plan.output.last() else {
        panic!("{plan:?}")
    };
    assert_eq!(
        (field[0].name.as_str(), field[0].extension.as_deref()),
        ("rest", Some("arrow.json"))
    );
}

#[test]
fn the_rest_of_a_row_has_a_limit() {
    let bench = || of("a").key("wildcard", "rest").key("max-text-bytes", "20");
    assert_eq!(
        run(
            bench(),
            &["<l><r><b>1234567890</b><c>123456</c><d/></r><r><e>1</e></r></l>"]
        )
        .rows
        .len(),
        2
    );
    let table = run(
        bench(),
        &["<r><b>1234567890</b><c>1234567</c><d k=''/></r>"],
    );
    assert_eq!(table.codes(), ["0 text_too_long"]);
}

#[test]
fn what_a_config_contradicts_is_told() {
    let told = |keys: &[(&str, &str)]| -> Vec<String> {
        let mut bench = Bench::default().bytes("value", &[]);
        for (key, value) in keys {
            bench = bench.key(key, value);
        }
        let problems = bench.problems::<Flatten>();
        problems
            .iter()
            .map(|p| format!("{} {}", p.at, p.code))
            .collect()
    };
    let cases: [(&[(&str, &str)], &str); 13] = [
        (
            &[
                ("row-tag", "r"),
                ("columns", "a"),
                ("namespaces.b", "http://www.w3.org/2000/xmlns/"),
            ],
            "/namespaces.b bad_value",
        ),
        (
            &[
                ("row-tag", "r"),
                ("columns", "a"),
                ("namespaces", "keep"),
                ("namespaces.b", "u"),
            ],
            "/namespaces namespaces_twice",
        ),
        (
            &[
                ("row-tag", "r"),
                ("columns", "a"),
                ("namespaces.b", "u"),
                ("namespaces.c", "u"),
            ],
            "/namespaces.c duplicate_namespace",
        ),
        (
            &[("row-tag", "r"), ("columns", "a"), ("namespaces.1", "u")],
            "/namespaces.1 bad_name",
        ),
        (
            &[("row-tag", "r"), ("columns", "a"), ("namespaces.xml", "u")],
            "/namespaces.xml bad_name",
        ),
        (
            &[("row-tag", "r"), ("columns", "a"), ("namespaces.b", "")],
            "/namespaces.b bad_value",
        ),
        (
            &[("row-tag", "c:r"), ("columns", "a"), ("namespaces.b", "u")],
            "/row-tag undeclared_prefix",
        ),
        (
            &[
                ("row-tag", "b:r"),
                ("columns", "c:a"),
                ("namespaces.b", "u"),
            ],
            "/columns undeclared_prefix",
        ),
        (
            &[
                ("row-tag", "b:r"),
                ("columns", "b:c:a"),
                ("namespaces.b", "u"),
            ],
            "/columns bad_path",
        ),
        (
            &[("row-tag", "r"), ("columns", "a[0]")],
            "/columns bad_path",
        ),
        (
            &[("row-tag", "r"), ("columns", "a[+1]")],
            "/columns bad_path",
        ),
        (
            &[("row-tag", "r"), ("columns", "a[2]/b"), ("explode", "a[2]")],
            "/explode bad_path",
        ),
        (
            &[("row-tag", "r"), ("columns", "a"), ("wildcard", "a")],
            "/wildcard duplicate_column",
        ),
    ];
    for (keys, expected) in cases {
        assert_eq!(told(keys), [expected], "{keys:?}");
    }
    let typed = [
        ("row-tag", "r"),
        ("columns", "a"),
        ("wildcard", "w"),
        ("types.w", "int"),
    ];
    assert_eq!(told(&typed), ["/types.w unknown_column"]);
    // Twenty paths of twenty steps, each with an index at another step: every combination is a node.
    let paths: Vec<String> = (0..20)
        .map(|n| {
            let steps = (0..20).map(|k| if k == n { "a[2]" } else { "a" });
            format!("c{n}={}", steps.collect::<Vec<_>>().join("/"))
        })
        .collect();
    let many = [("row-tag", "r"), ("columns", &paths.join(",") as &str)];
    assert_eq!(told(&many), ["/columns too_many_paths"]);
}
