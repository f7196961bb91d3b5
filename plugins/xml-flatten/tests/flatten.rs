//! Golden rows, one code for each kind of bad input, and the options one by one.
use weir_sdk::testing::{Bench, Table};
use weir_sdk::{PlannedColumn, Transform};
use xml_flatten::Flatten;

fn books() -> Bench {
    Bench::default()
        .key("row-tag", "book")
        .key(
            "columns",
            "record_id,title,author/name,author/country,publication_year",
        )
        .key("types.publication_year", "int")
}

fn run(bench: Bench, messages: &[&str]) -> Table {
    let values: Vec<Option<&[u8]>> = messages.iter().map(|m| Some(m.as_bytes())).collect();
    bench.bytes("value", &values).run::<Flatten>(messages.len())
}

/// Columns of `<r>` elements, given as the short form.
fn of(columns: &str) -> Bench {
    Bench::default().key("row-tag", "r").key("columns", columns)
}

#[test]
fn the_reference_documents_flatten_as_recorded() {
    let input = include_str!("../testdata/library.xml");
    let table = run(books(), &[input]);
    let expected = include_str!("../testdata/library.expected.txt");
    let mut found = table.names.join("|") + "\n";
    table
        .lines()
        .iter()
        .for_each(|line| found += &format!("{line}\n"));
    table
        .codes()
        .iter()
        .for_each(|code| found += &format!("! {code}\n"));
    assert_eq!(found, expected);
}

#[test]
fn names_are_joined_and_attributes_have_a_prefix() {
    let table = run(
        of("@id,a/b,a/@c,first=a/d/_VALUE,_VALUE"),
        &["<r id='1'>t<a c='2'><b>3</b><d>4</d></a></r>"],
    );
    assert_eq!(table.names, ["_id", "a_b", "a__c", "first", "_VALUE"]);
    assert_eq!(table.lines(), ["1|3|2|4|t"]);
    let bench = of("@id,a/b")
        .key("separator", ".")
        .key("attribute-prefix", "at-");
    assert_eq!(run(bench, &["<r/>"]).names, ["at-id", "a.b"]);
}

#[test]
fn named_columns_come_in_the_order_of_their_names() {
    let bench = Bench::default()
        .key("row-tag", "r")
        .key("columns.z", "a")
        .key("columns.b", "@x");
    let table = run(bench, &["<r x='1'><a>2</a></r>"]);
    assert_eq!(
        (table.names, table.rows[0].clone()),
        (
            vec!["b".into(), "z".into()],
            vec![Some("1".into()), Some("2".into())]
        )
    );
}

#[test]
fn text_is_put_together_before_it_is_trimmed() {
    let text = "<r><a> x &amp; y<!-- c --> <![CDATA[<z> ]]>&#x41;&#66;<?pi?> </a></r>";
    assert_eq!(run(of("a"), &[text]).lines(), ["x & y <z> AB"]);
    let kept = of("a").key("ignore-surrounding-spaces", "false");
    assert_eq!(
        run(kept, &["<r><a> x&#13;\r\n</a></r>"]).lines(),
        [" x\r\n"]
    );
}

#[test]
fn empty_missing_and_null_differ() {
    let rows = "<l><r><a/><n/></r><r/><r><a>-</a><n>-</n></r></l>";
    let bench = || of("a,n").key("types.n", "int");
    assert_eq!(
        run(bench().key("null-value", "-"), &[rows]).lines(),
        ["|∅", "∅|∅", "∅|∅"]
    );
    let table = run(bench().key("empty-as-null", "true"), &[rows]);
    assert_eq!(
        (table.lines(), table.codes()),
        (
            vec!["∅|∅".into(), "∅|∅".into()],
            vec!["0/2 bad_int n".into()]
        )
    );
}

#[test]
fn every_type_reads_and_refuses_by_its_code() {
    let types = [
        "int",
        "long",
        "double",
        "boolean",
        "decimal(6,2)",
        "date(dd.MM.yyyy)",
        "timestamp",
    ];
    let good = [
        "-7",
        "9000000000",
        "1.5e3",
        "TRUE",
        "12.5",
        "29.02.2024",
        "1970-01-01T00:00:01+01:00",
    ];
    let shown = [
        "-7",
        "9000000000",
        "1500",
        "true",
        "1250",
        "19782",
        "-3599000000",
    ];
    let codes = [
        "bad_int",
        "bad_long",
        "bad_double",
        "bad_boolean",
        "bad_decimal",
        "bad_date",
        "bad_timestamp",
    ];
    for n in 0..types.len() {
        let text = format!("<l><r><a>x</a></r><r><a> {} </a></r></l>", good[n]);
        let table = run(of("a").key("types.a", types[n]), &[&text]);
        assert_eq!(table.lines(), [shown[n]], "{}", types[n]);
        assert_eq!(table.codes(), [format!("0/0 {} a", codes[n])]);
    }
}

#[test]
fn a_refused_row_keeps_its_number_and_shows_all_its_failures() {
    let text = "<l><r><a>1</a></r><r><a>x</a><b>y</b></r><r><a>3</a></r></l>";
    let table = run(
        of("a,b").key("types.a", "int").key("types.b", "int"),
        &[text, text],
    );
    assert_eq!(table.origin, [0, 0, 1, 1]);
    assert_eq!(
        table.codes(),
        [
            "0/1 bad_int a",
            "0/1 bad_int b",
            "1/1 bad_int a",
            "1/1 bad_int b"
        ]
    );
    assert_eq!(table.rejects[0].message, "found \"x\", expected int");
}

#[test]
fn a_second_value_means_what_repeat_says() {
    let text = "<r><a>1</a><a>]2\"</a><a/></r>";
    let table = run(of("a"), &[text]);
    assert_eq!(
        (table.lines().len(), table.codes()),
        (0, vec!["0/0 repeated_element a".to_owned()])
    );
    let first = run(of("a").key("repeat", "first"), &[text]);
    assert_eq!(
        (first.lines(), first.counters),
        (vec!["1".to_owned()], vec![2])
    );
    let last = run(of("a").key("repeat.a", "last"), &[text]);
    assert_eq!(
        (last.lines(), last.counters),
        (vec![String::new()], vec![2])
    );
    let json = run(of("a,b").key("repeat.*", "json"), &[text, "<r/>"]);
    assert_eq!(json.lines(), ["[\"1\",\"]2\\\"\",\"\"]|∅", "∅|∅"]);
    let explode = run(of("a").key("repeat.a", "explode"), &[text]);
    assert_eq!(
        (explode.lines(), explode.origin),
        (
            vec!["1".to_owned(), "]2\"".into(), String::new()],
            vec![0, 0, 0]
        )
    );
}

#[test]
fn an_exploded_element_multiplies_its_row() {
    let text =
        "<l><r><i><k>1</k><t>a</t><t>b</t></i><i><k>x</k></i><n>N</n></r><r><n>M</n></r></l>";
    let bench = of("n,i/k,i/t")
        .key("explode", "i")
        .key("types.i_k", "int")
        .key("repeat.i_t", "json");
    let table = run(bench, &[text]);
    assert_eq!(table.lines(), ["N|1|[\"a\",\"b\"]", "M|∅|∅"]);
    assert_eq!(table.codes(), ["0/1 bad_int i_k"]);
}

#[test]
fn a_repetition_that_is_refused_leaves_its_siblings() {
    let bench = || {
        of("k,i/n,i/@x")
            .key("explode", "i")
            .key("mixed-content", "reject")
    };
    let text = "<l><r><i x='1'><n>1</n><n>2</n><n>3</n></i><i x='2'><n>3</n></i><i x='3'/>\
        <i x='4'><n>b<u/></n></i><i x='5' y:x='6'><n>4</n></i><i><n>5</n></i></r>\
        <r><i><n>6</n></i><k>1</k><k>2</k><i><n>7</n><n>8</n></i></r><r><i><n>9</n></i></r></l>";
    let codes = [
        "0/0 repeated_element i_n",
        "0/3 mixed_content i_n",
        "0/4 repeated_element i__x",
        // What is outside of the repetitions is every row's.
        "0/6 repeated_element k",
        "0/7 repeated_element k",
        "0/7 repeated_element i_n",
    ];
    let lines = ["∅|3|2", "∅|∅|3", "∅|5|∅", "∅|9|∅"];
    for events in [false, true] {
        let bench = bench().bytes("value", &[Some(text.as_bytes())]);
        let (mut plugin, plan) = bench.init::<Flatten>();
        if events {
            plugin = plugin.by_events();
        }
        let table = bench.batch(&mut plugin, &plan, 1);
        assert_eq!(table.codes(), codes, "events {events}");
        assert_eq!(table.lines(), lines, "events {events}");
    }
}

#[test]
fn mixed_content_is_own_all_or_refused() {
    let text = "<r><a>War <i>and</i> Peace</a></r>";
    assert_eq!(run(of("a"), &[text]).lines(), ["War  Peace"]);
    assert_eq!(
        run(of("a").key("mixed-content", "all"), &[text]).lines(),
        ["War and Peace"]
    );
    let table = run(
        of("a").key("mixed-content", "reject"),
        &[text, "<r><a> <i>x</i> </a></r>"],
    );
    assert_eq!(
        (table.codes(), table.lines()),
        (vec!["0/0 mixed_content a".to_owned()], vec![String::new()])
    );
}

#[test]
fn prefixes_are_ignored_or_kept() {
    let text = "<x:l xmlns:x='u'><x:r x:i='1'><y:a>2</y:a></x:r></x:l>";
    assert_eq!(run(of("@i,a"), &[text]).lines(), ["1|2"]);
    let keep = of("x=@x:i,a").key("namespaces", "keep");
    assert_eq!(run(keep, &[text]).codes(), ["0 no_rows"]);
}

#[test]
fn row_elements_may_be_the_root_or_lie_in_each_other() {
    assert_eq!(run(of("a"), &["<r><a>1</a></r>"]).lines(), ["1"]);
    assert_eq!(
        run(of("a"), &["<r><a>1</a><r><a>2</a></r></r>"]).lines(),
        ["1"]
    );
}

#[test]
fn each_kind_of_bad_message_has_its_code() {
    let cases = [
        ("", "empty_value"),
        (" \n", "empty_value"),
        ("<x/>", "no_rows"),
        ("<!DOCTYPE r><r/>", "doctype_not_allowed"),
        (
            "<!DOCTYPE r [<!ENTITY e 'x'>]><r>&e;</r>",
            "doctype_not_allowed",
        ),
        ("<!DOCTYPE r [<!ENTITY", "doctype_not_allowed"),
        ("<r>&e;</r>", "unknown_entity"),
        ("<r a='&e;'/>", "unknown_entity"),
        (
            "<?xml version='1.0' encoding='KOI8-R'?><r/>",
            "encoding_not_supported",
        ),
        ("<r><a></r>", "malformed_xml"),
        ("<r><a>", "malformed_xml"),
        ("<r/><r/>", "malformed_xml"),
        ("<r/>x", "malformed_xml"),
        ("x<r/>", "malformed_xml"),
        ("<r/>&amp;", "malformed_xml"),
        ("<r/><![CDATA[x]]>", "malformed_xml"),
        ("</r>", "malformed_xml"),
        ("<r", "malformed_xml"),
        ("<r a='1' a='2'/>", "malformed_xml"),
        ("<r a='1'b='2'/>", "malformed_xml"),
        ("<r a=1/>", "malformed_xml"),
        ("<r a/>", "malformed_xml"),
        ("<r a='<'/>", "malformed_xml"),
        ("<r a='&'/>", "malformed_xml"),
        ("<r 1='a'/>", "malformed_xml"),
        ("<r>&</r>", "malformed_xml"),
        ("<r>& </r>", "malformed_xml"),
        ("<r>&#0;</r>", "malformed_xml"),
        ("<r>&#xD800;</r>", "malformed_xml"),
        ("<r>&#x110000;</r>", "malformed_xml"),
        ("<r>&#+65;</r>", "malformed_xml"),
        ("<r>]]></r>", "malformed_xml"),
        ("<r>\u{1}</r>", "malformed_xml"),
        ("<r>\u{FFFF}</r>", "malformed_xml"),
        ("<r><!-- a -- b --></r>", "malformed_xml"),
        ("<r><!-- a", "malformed_xml"),
        ("<r><![CDATA[a</r>", "malformed_xml"),
        ("<r><?xml version='1.0'?></r>", "malformed_xml"),
        ("<r><? x?></r>", "malformed_xml"),
        (" <?xml version='1.0'?><r/>", "malformed_xml"),
        ("<?xml encoding='UTF-8'?><r/>", "malformed_xml"),
        ("<r><1/></r>", "malformed_xml"),
        ("<r>< a/></r>", "malformed_xml"),
        ("<r><a/ ></r>", "malformed_xml"),
        ("<r></ r>", "malformed_xml"),
        ("<r><></></r>", "malformed_xml"),
    ];
    for (text, code) in cases {
        let table = run(of("a"), &[text, "<r/>"]);
        assert_eq!(table.codes(), [format!("0 {code}")], "{text}");
        assert_eq!(table.origin, [1], "{text}");
    }
    let utf8 = of("a")
        .bytes("value", &[Some(b"<r>\xFF</r>"), None])
        .run::<Flatten>(2);
    assert_eq!(utf8.codes(), ["0 malformed_xml", "1 empty_value"]);
}

#[test]
fn a_fault_names_its_place_and_takes_back_the_rows_before_it() {
    let table = run(
        of("a").key("repeat", "first"),
        &["\u{FEFF}<l>\r\n<r><a>1</a><a/></r>\r\n<r>&x;</r></l>"],
    );
    assert_eq!((table.lines().len(), table.counters), (0, vec![0]));
    let message = &table.rejects[0].message;
    assert!(
        message.starts_with("line 3, column 4 (byte 32): entity `&x;`"),
        "{message}"
    );
}

#[test]
fn every_limit_has_its_code() {
    let deep = "<r><a><b/></a></r>";
    let cases = [
        ("max-depth", "2", deep, "too_deep"),
        (
            "max-attributes",
            "1",
            "<r a='' b=''/>",
            "too_many_attributes",
        ),
        (
            "max-namespaces",
            "1",
            "<r xmlns='u' xmlns:b='v'/>",
            "too_many_namespaces",
        ),
        ("max-text-bytes", "3", "<r><z>abcd</z></r>", "text_too_long"),
        (
            "max-text-bytes",
            "3",
            "<r><a>ab<!---->cd</a></r>",
            "text_too_long",
        ),
        (
            "max-text-bytes",
            "3",
            "<r><a>a&lt;&lt;&lt;</a></r>",
            "text_too_long",
        ),
        ("max-text-bytes", "3", "<r a='abcd'/>", "text_too_long"),
        ("max-rows", "1", "<l><r/><r/></l>", "too_many_rows"),
    ];
    for (key, limit, text, code) in cases {
        assert_eq!(
            run(of("a").key(key, limit), &[text]).codes(),
            [format!("0 {code}")],
            "{text}"
        );
        assert_eq!(run(of("a"), &[text]).codes(), [""; 0], "{text}");
    }
}

#[test]
fn every_problem_of_a_config_is_told_at_once() {
    let bench = Bench::default()
        .key("columns", "a,a,b//c,d=@")
        .key("types.a", "number")
        .key("types.zz", "int")
        .key("repeat.a", "often")
        .key("max-depth", "0")
        .key("rowtag", "book")
        .column("value", "int", &[Some("1")]);
    let mut codes: Vec<String> = bench
        .problems::<Flatten>()
        .iter()
        .map(|p| format!("{} {}", p.at, p.code))
        .collect();
    codes.sort();
    let expected = [
        "/columns bad_path",
        "/columns bad_path",
        "/columns duplicate_column",
        "/input bad_input",
        "/max-depth bad_number",
        "/repeat.a bad_value",
        "/row-tag missing_key",
        "/rowtag unknown_key",
        "/types.a bad_type",
        "/types.zz unknown_column",
    ];
    assert_eq!(codes, expected);
    let twice = of("a,b")
        .key("repeat.a", "explode")
        .key("repeat.b", "explode")
        .bytes("value", &[]);
    assert_eq!(twice.problems::<Flatten>()[0].code, "explode_twice");
    let none = Bench::default().key("row-tag", "r").bytes("value", &[]);
    assert_eq!(none.problems::<Flatten>()[0].code, "missing_key");
}

#[test]
fn the_plan_says_what_it_reads_and_makes() {
    let bench = of("a,b")
        .key("input", "body")
        .key("repeat.b", "json")
        .bytes("key", &[])
        .bytes("body", &[]);
    let (_, plan) = bench.init::<Flatten>();
    assert_eq!((plan.reads.clone(), plan.explodes), (vec![1], true));
    let [PlannedColumn::Make(a), PlannedColumn::Make(b)] = plan.output.as_slice() else {
        panic!("{plan:?}")
    };
    assert_eq!(
        (a[0].extension.as_deref(), b[0].extension.as_deref()),
        (None, Some("arrow.json"))
    );
}

#[test]
fn the_schema_is_json_and_knows_every_key() {
    let schema = weir_sdk::json::flat(Flatten::SCHEMA);
    assert!(schema.is_ok(), "{schema:?}");
    let keys = [
        "row-tag",
        "columns",
        "input",
        "separator",
        "attribute-prefix",
        "value-tag",
        "explode",
        "mixed-content",
        "namespaces",
        "ignore-surrounding-spaces",
        "empty-as-null",
        "max-depth",
        "max-attributes",
        "max-namespaces",
        "max-text-bytes",
        "max-rows",
    ];
    let schema = schema.unwrap();
    for key in keys {
        assert!(
            schema.contains_key(&format!("properties.{key}.description")),
            "{key}"
        );
    }
}
