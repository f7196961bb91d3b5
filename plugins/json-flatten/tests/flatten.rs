//! Paths, types and options one by one, and one code for each kind of bad input.
use json_flatten::Flatten;
use weir_sdk::testing::{Bench, Table};

fn run(bench: Bench, messages: &[&str]) -> Table {
    let values: Vec<Option<&[u8]>> = messages.iter().map(|m| Some(m.as_bytes())).collect();
    bench.bytes("value", &values).run::<Flatten>(messages.len())
}

/// Columns in the short form.
fn of(columns: &str) -> Bench {
    Bench::default().key("columns", columns)
}

#[test]
fn paths_are_json_pointers_and_name_their_columns() {
    let text =
        r#"{"id":7,"book":{"title":"Momo","a/b":"s","m~n":"t"},"tags":["x","y"],"":"e","0":"z"}"#;
    let columns = "/id,book/title,second=/tags/1,/tags/0,slash=/book/a~1b,tilde=/book/m~0n,none=/tags/2,zero=0,empty=/";
    let table = run(of(columns), &[text]);
    let names = [
        "id",
        "book_title",
        "second",
        "tags_0",
        "slash",
        "tilde",
        "none",
        "zero",
        "empty",
    ];
    assert_eq!(table.names, names);
    assert_eq!(table.lines(), ["7|Momo|y|x|s|t|∅|z|e"]);
    assert_eq!(run(of("a/b").key("separator", "."), &["{}"]).names, ["a.b"]);
    // A key of digits, and the index of an array, are the same pointer.
    let both = run(
        of("x=/a/0/b"),
        &[r#"{"a":{"0":{"b":1}}}"#, r#"{"a":[{"b":2}]}"#],
    );
    assert_eq!(both.lines(), ["1", "2"]);
    // Leading zeros are no index.
    assert_eq!(run(of("x=/a/01"), &[r#"{"a":{"01":1}}"#]).lines(), ["1"]);
    assert_eq!(
        run(of("x=/a/01,y=/a/0"), &[r#"{"a":[1,2]}"#]).lines(),
        ["∅|1"]
    );
}

#[test]
fn named_columns_come_in_the_order_of_their_names() {
    let bench = Bench::default()
        .key("columns.z", "/a")
        .key("columns.b", "c/d");
    let bench = bench.key("columns.all", "").key("types.all", "json");
    let table = run(bench, &[r#" {"a" : 1,"c":{"d":2}} "#]);
    assert_eq!(table.names, ["all", "b", "z"]);
    assert_eq!(table.lines(), [r#"{"a" : 1,"c":{"d":2}}|2|1"#]);
}

#[test]
fn every_type_takes_its_values_and_refuses_the_others() {
    let cases = [
        ("string", r#""\u00e9\n\"\/\ud83d\ude00""#, "é\n\"/😀"),
        ("string", "-1.50E+2", "-1.50E+2"),
        ("string", "true", "true"),
        ("int", "-2147483648", "-2147483648"),
        ("int", "1e3", "1000"),
        ("int", "1.5e1", "15"),
        ("int", "1.0", "1"),
        ("long", "9.223372036854775807E+18", "9223372036854775807"),
        ("decimal(4,2)", "1e1", "1000"),
        ("decimal(4,2)", "1e-2", "1"),
        ("long", "9223372036854775807", "9223372036854775807"),
        ("double", "1.5e3", "1500"),
        ("double", "-0.0", "-0"),
        ("boolean", "false", "false"),
        (
            "decimal(20,2)",
            "123456789012345678.9",
            "12345678901234567890",
        ),
        ("decimal(20,2)", r#""0.05""#, "5"),
        ("date", r#""2024-02-29""#, "19782"),
        ("timestamp", r#""1970-01-01T00:00:01+01:00""#, "-3599000000"),
        ("json", r#"{"a" : [1, null]}"#, r#"{"a" : [1, null]}"#),
        ("json", r#""\u0041""#, r#""\u0041""#),
        ("json", "null", "null"),
        ("int", "null", "∅"),
    ];
    for (kind, value, shown) in cases {
        let table = run(
            of("a").key("types.a", kind),
            &[&format!("{{\"a\": {value} }}")],
        );
        assert_eq!(
            (table.lines(), table.codes()),
            (vec![shown.into()], vec![]),
            "{kind} {value}"
        );
    }
    let refused = [
        ("string", "{}", "bad_string"),
        ("string", "[1]", "bad_string"),
        ("int", "2147483648", "bad_int"),
        ("int", "1.5", "bad_int"),
        ("int", "15e-1", "bad_int"),
        ("int", "1e10", "bad_int"),
        ("long", "1e99999999999999999999", "bad_long"),
        ("int", r#""7""#, "bad_int"),
        ("int", "true", "bad_int"),
        ("long", "9223372036854775808", "bad_long"),
        ("double", "1e999", "bad_double"),
        ("double", "1e-400", "bad_double"),
        ("double", r#""1.5""#, "bad_double"),
        ("boolean", "1", "bad_boolean"),
        ("boolean", r#""true""#, "bad_boolean"),
        ("decimal(4,2)", "1.005", "bad_decimal"),
        ("decimal(4,2)", "100", "bad_decimal"),
        ("decimal(4,2)", "1e2", "bad_decimal"),
        ("decimal(4,2)", "1e-3", "bad_decimal"),
        ("decimal(4,2)", r#""1e1""#, "bad_decimal"),
        ("decimal(4,2)", "false", "bad_decimal"),
        ("date", r#""2023-02-29""#, "bad_date"),
        ("date", "20230228", "bad_date"),
        ("timestamp", "0", "bad_timestamp"),
        (
            "timestamp",
            r#""9999-12-31T23:59:59-05:00""#,
            "bad_timestamp",
        ),
        ("date", r#""0000-01-01""#, "bad_date"),
    ];
    for (kind, value, code) in refused {
        let text = format!("{{\"a\": {value} }}");
        let table = run(of("a").key("types.a", kind), &[&text, "{}"]);
        assert_eq!(table.codes(), [format!("0/0 {code} a")], "{kind} {value}");
        assert_eq!(table.origin, [1]);
    }
    for (kind, value, shown) in [
        ("int", "7", "7"),
        ("double", "1.5", "1.5"),
        ("boolean", "true", "true"),
    ] {
        let bench = of("a").key("types.a", kind).key("quoted-values", "true");
        assert_eq!(
            run(bench, &[&format!("{{\"a\":\"{value}\"}}")]).lines(),
            [shown]
        );
    }
    let message = &run(of("a").key("types.a", "int"), &[r#"{"a":"x"}"#]).rejects[0].message;
    assert_eq!(message, "found the string \"x\", expected int");
}

#[test]
fn a_missing_field_is_null_or_refused_and_null_is_no_missing_field() {
    let texts = [r#"{"a":null,"b":null}"#, "{}", r#"{"a":"","b":{}}"#];
    let bench = || of("a,b").key("types.b", "json");
    assert_eq!(run(bench(), &texts).lines(), ["∅|null", "∅|∅", "|{}"]);
    let all = run(bench().key("missing", "reject"), &texts);
    assert_eq!(
        (all.lines(), all.codes()),
        (
            vec!["∅|null".into(), "|{}".into()],
            vec!["1/0 missing_field a".into(), "1/0 missing_field b".into()],
        )
    );
    let one = bench().key("missing", "reject").key("missing.b", "null");
    assert_eq!(run(one, &texts).codes(), ["1/0 missing_field a"]);
    let both = bench().key("missing.*", "reject").key("missing.b", "null");
    assert_eq!(run(both, &texts).codes(), ["1/0 missing_field a"]);
    let other = run(bench().key("missing.b", "reject"), &texts);
    assert_eq!(other.codes(), ["1/0 missing_field b"]);
    assert_eq!(other.rejects[0].message, "no `b` in the message (missing)");
}

#[test]
fn a_scalar_in_the_place_of_an_object_is_refused() {
    let bench = || of("author/name,author/born,id");
    let texts = [
        r#"{"id":1,"author":{"name":"A"}}"#,
        r#"{"id":2,"author":"A"}"#,
        r#"{"id":3,"author":null}"#,
        r#"{"id":4,"author":[{"name":"A"}]}"#,
        "17",
        "[]",
    ];
    let table = run(bench(), &texts);
    assert_eq!(table.lines(), ["A|∅|1", "∅|∅|3"]);
    assert_eq!(
        table.codes(),
        [
            "1/0 not_an_object author_name",
            "3/0 not_an_object author_name",
            "4/0 not_an_object author_name",
            "5/0 not_an_object author_name",
        ]
    );
    assert_eq!(
        table.rejects[0].message,
        "`/author`: found a scalar, expected an object"
    );
    assert_eq!(
        table.rejects[2].message,
        "the message: found a scalar, expected an object"
    );
}

#[test]
fn each_element_of_the_exploded_array_becomes_a_row() {
    let bench = || {
        of("id,./sku,./at/x,./qty")
            .key("explode", "/items")
            .key("types.qty", "int")
    };
    let texts = [
        r#"{"items":[{"sku":"a","qty":1},{"sku":"b","qty":"x"},{"qty":3,"at":{"x":9}},null],"id":5}"#,
        r#"{"id":6,"items":[]}"#,
        r#"{"id":7}"#,
        r#"{"id":8,"items":null}"#,
        r#"{"id":9,"items":{}}"#,
        r#"{"id":10,"items":[1,{"sku":"c","at":2}]}"#,
    ];
    let table = run(bench(), &texts);
    assert_eq!(table.names, ["id", "sku", "at_x", "qty"]);
    assert_eq!(
        table.lines(),
        [
            "5|a|∅|1",
            "5|∅|9|3",
            "5|∅|∅|∅",
            "6|∅|∅|∅",
            "7|∅|∅|∅",
            "8|∅|∅|∅",
        ]
    );
    assert_eq!(
        table.codes(),
        [
            "0/1 bad_int qty",
            "4 not_an_array",
            "5/0 not_an_object sku",
            "5/1 not_an_object at_x",
        ]
    );
    let message = &table.rejects[1].message;
    assert_eq!(
        message,
        "line 1, column 17 (byte 16): `/items` is to explode: expected an array"
    );
    // A refused field of the message refuses each of its rows.
    let parent = bench().key("types.id", "int");
    let text = r#"{"id":"x","items":[{"qty":1},{"qty":2}]}"#;
    assert_eq!(
        run(parent, &[text]).codes(),
        ["0/0 bad_int id", "0/1 bad_int id"]
    );
    // Missing elements miss no fields, missing fields of elements do.
    let required = bench().key("missing.sku", "reject");
    assert_eq!(
        run(required, &texts[..4]).codes(),
        [
            "0/1 bad_int qty",
            "0/2 missing_field sku",
            "0/3 missing_field sku",
        ]
    );
}

#[test]
fn scalars_and_the_message_itself_may_explode() {
    let tags = of("id, tag=.").key("explode", "tags");
    let text = r#"{"tags":["a",null,2],"id":1}"#;
    assert_eq!(run(tags, &[text]).lines(), ["1|a", "1|∅", "1|2"]);
    let whole = of("./a").key("explode", "");
    assert_eq!(run(whole, &[r#"[{"a":1},{"a":2}]"#]).lines(), ["1", "2"]);
    let nested = of("./a/0").key("explode", "/x/0");
    assert_eq!(
        run(nested, &[r#"{"x":[[{"a":[1]},{"a":[2]}]]}"#]).lines(),
        ["1", "2"]
    );
}

#[test]
fn a_wildcard_takes_what_no_column_took() {
    let rest = |columns: &str| of(columns).key("wildcard", "rest");
    let cases = [
        ("a", r#"{"a":1}"#, "1|∅"),
        (
            "a",
            r#"{"a":1,"b" : [1, 2],"c":{"d":null}}"#,
            r#"1|{"/b":[1, 2],"/c":{"d":null}}"#,
        ),
        (
            "a/b",
            r#"{"a":{"c":"x","b":1,"~/\"":2},"d":0}"#,
            r#"1|{"/a/c":"x","/a/~0~1\"":2,"/d":0}"#,
        ),
        (
            "t/1",
            r#"{"t":["a","b","c"]}"#,
            r#"b|{"/t/0":"a","/t/2":"c"}"#,
        ),
        ("a", r#"{"b":"\u00e9"}"#, r#"∅|{"/b":"\u00e9"}"#),
    ];
    for (columns, text, expected) in cases {
        assert_eq!(run(rest(columns), &[text]).lines(), [expected], "{text}");
    }
    // What a json column takes whole is taken.
    let whole = rest("a,a/b").key("types.a", "json");
    assert_eq!(
        run(whole, &[r#"{"a":{"b":1,"c":2}}"#]).lines(),
        [r#"{"b":1,"c":2}|1|∅"#]
    );
    let each = rest("id,./k").key("explode", "/i");
    let text = r#"{"z":1,"i":[{"k":1,"u":2},{"k":2},{"v":{}}],"y":3,"id":0}"#;
    assert_eq!(
        run(each, &[text, r#"{"i":[]}"#]).lines(),
        [
            r#"0|1|{"/z":1,"./u":2,"/y":3}"#,
            r#"0|2|{"/z":1,"/y":3}"#,
            r#"0|∅|{"/z":1,"./v":{},"/y":3}"#,
            "∅|∅|∅",
        ]
    );
}

#[test]
fn each_kind_of_bad_message_has_its_code_and_place() {
    let cases: [(&str, &str, &str); 42] = [
        ("", "empty_value", "the message is empty"),
        (" \n", "empty_value", "the message is empty"),
        (
            "{",
            "malformed_json",
            "line 1, column 2 (byte 1): expected a value or the end of the array or object, found the end of the message",
        ),
        (
            "\n {\"a\":1]",
            "malformed_json",
            "line 2, column 8 (byte 8): expected `,` or the end of the array or object, found `]`",
        ),
        (
            r#"{"a" 1}"#,
            "malformed_json",
            "line 1, column 6 (byte 5): expected `:`, found `1`",
        ),
        (
            r#"{"a":}"#,
            "malformed_json",
            "line 1, column 6 (byte 5): expected a value, found `}`",
        ),
        (
            r#"{"a":1,}"#,
            "malformed_json",
            "line 1, column 8 (byte 7): expected a key in quotes",
        ),
        (
            "{a:1}",
            "malformed_json",
            "line 1, column 2 (byte 1): expected a key in quotes, found `a`",
        ),
        ("{'a':1}", "malformed_json", ""),
        (
            "[1,]",
            "malformed_json",
            "line 1, column 4 (byte 3): expected a value, found `]`",
        ),
        ("[1 2]", "malformed_json", ""),
        ("[", "malformed_json", ""),
        ("}", "malformed_json", ""),
        (
            "{} x",
            "malformed_json",
            "line 1, column 4 (byte 3): expected the end: a message is one value, found `x`",
        ),
        ("{}{}", "malformed_json", ""),
        (
            "{} \u{e9}",
            "malformed_json",
            "line 1, column 4 (byte 3): expected the end: a message is one value, found `é`",
        ),
        ("{}\0", "malformed_json", ""),
        (
            "nul",
            "malformed_json",
            "line 1, column 1 (byte 0): expected a value: ",
        ),
        ("nulll", "malformed_json", ""),
        ("True", "malformed_json", ""),
        ("NaN", "malformed_json", ""),
        (
            "-Infinity",
            "malformed_json",
            "line 1, column 1 (byte 0): expected a number",
        ),
        ("[01]", "malformed_json", ""),
        (
            "[1.]",
            "malformed_json",
            "line 1, column 2 (byte 1): expected a number",
        ),
        ("[.5]", "malformed_json", ""),
        ("[1e]", "malformed_json", ""),
        ("[+1]", "malformed_json", ""),
        ("[0x1]", "malformed_json", ""),
        (
            "\"a",
            "malformed_json",
            "line 1, column 1 (byte 0): a string that never ends",
        ),
        (
            "\"a\\",
            "malformed_json",
            "line 1, column 3 (byte 2): an escape that never ends",
        ),
        ("\"a\\\"", "malformed_json", ""),
        (
            "[\"a\\x\"]",
            "malformed_json",
            "line 1, column 4 (byte 3): expected an escape",
        ),
        (
            "[\"\\u12g4\"]",
            "malformed_json",
            "line 1, column 3 (byte 2): expected an escape",
        ),
        (
            "[\"a\nb\"]",
            "malformed_json",
            "line 1, column 4 (byte 3): control character 0x0A in a string: write \\u000a",
        ),
        ("[\"\u{1f}\"]", "malformed_json", ""),
        (
            "[\"\\ud800\"]",
            "lone_surrogate",
            "line 1, column 3 (byte 2): half of a surrogate pair",
        ),
        ("[\"\\ud800\\u0041\"]", "lone_surrogate", ""),
        ("[\"\\udc00\"]", "lone_surrogate", ""),
        (
            r#"{"z":{"b":1,"a":2,"\u0062":3}}"#,
            "duplicate_key",
            "line 1, column 19 (byte 18): the key \"b\" comes twice",
        ),
        (
            r#"{"a":1,"a":1}"#,
            "duplicate_key",
            "line 1, column 8 (byte 7)",
        ),
        (r#"{"":1,"":1}"#, "duplicate_key", ""),
        ("/* c */ {}", "malformed_json", ""),
    ];
    for (text, code, message) in cases {
        let table = run(of("all=").key("types.all", "json"), &[text, "{}"]);
        assert_eq!(table.codes(), [format!("0 {code}")], "{text}");
        assert_eq!(table.origin, [1], "{text}");
        let found = &table.rejects[0].message;
        assert!(
            found.starts_with(message),
            "{text}: {found}\nexpected {message}"
        );
    }
    let bytes = of("a").bytes(
        "value",
        &[
            Some(b"\xEF\xBB\xBF{\"a\":\"\xFF\"}"),
            None,
            Some(b"\xEF\xBB\xBF{\"a\":1}"),
        ],
    );
    let table = bytes.run::<Flatten>(3);
    assert_eq!(
        (table.codes(), table.lines()),
        (
            vec!["0 malformed_json".into(), "1 empty_value".into()],
            vec!["1".into()],
        )
    );
    assert_eq!(
        table.rejects[0].message,
        "line 1, column 10 (byte 9): bytes that are not UTF-8"
    );
}

#[test]
fn a_key_may_come_again_in_another_object() {
    let text = r#"{"a":{"a":1,"b":{"a":2}},"l":[{"b":1},{"b":2}],"b":3}"#;
    assert_eq!(run(of("a/b/a,b"), &[text]).lines(), ["2|3"]);
    // Keys that begin alike, and of the same length.
    let text = r#"{"recording_a":1,"recording_b":2,"recording":3,"recordin":4,"recordi":5}"#;
    let columns = "recordi,recordin,recording,recording_a,recording_b,recording_c";
    assert_eq!(run(of(columns), &[text]).lines(), ["5|4|3|1|2|∅"]);
}

#[test]
fn a_key_among_many_is_found_twice() {
    let object = |names: &[usize]| {
        let members: Vec<String> = names.iter().map(|n| format!("\"k{n}\":0")).collect();
        format!("{{{}}}", members.join(","))
    };
    for count in [2, 23, 24, 25, 26, 1000] {
        let mut names: Vec<usize> = (0..count).collect();
        assert_eq!(run(of("k0"), &[&object(&names)]).lines(), ["0"]);
        names.push(count - 1);
        let text = object(&names);
        let table = run(of("k0"), &[&text]);
        assert_eq!(table.codes(), ["0 duplicate_key"], "{count}");
        let at = text.rfind('k').unwrap() - 1;
        assert!(table.rejects[0].message.contains(&format!("(byte {at})")));
    }
}
