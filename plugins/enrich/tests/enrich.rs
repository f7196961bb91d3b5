//! What is joined, what a key that the table lacks does, what may be a key, and every mistake of a config.
use enrich::Enrich;
use weir_sdk::testing::Bench;
use weir_sdk::{Batch, MadeColumn, PlannedColumn, RowMap, Transform};

const CODES: &[Option<&str>] = &[Some("DE"), Some("FR"), None, Some("IT")];
const NAMES: &[Option<&str>] = &[Some("Germany"), Some("France"), Some("Nowhere"), None];
const EU: &[Option<&str>] = &[Some("true"), Some("true"), None, Some("true")];

/// Rows with `id` and `country`, and a table of countries.
fn countries() -> Bench {
    Bench::default()
        .key("table", "countries.csv")
        .key("key", "country")
        .key("table-key", "code")
        .table(
            "table",
            &[
                ("code", "string", CODES),
                ("name", "string", NAMES),
                ("eu", "boolean", EU),
            ],
        )
        .column("id", "int", &[Some("1"), Some("2"), Some("3"), Some("4")])
        .column(
            "country",
            "string",
            &[Some("FR"), None, Some("XX"), Some("IT")],
        )
}

fn told(bench: &Bench) -> Vec<String> {
    let problems = bench.problems::<Enrich>();
    problems
        .iter()
        .map(|p| format!("{} {}", p.at, p.code))
        .collect()
}

#[test]
fn all_columns_but_the_key_are_added_and_a_missing_key_gives_nulls() {
    let table = countries().run::<Enrich>(4);
    assert_eq!(table.names, ["id", "country", "name", "eu"]);
    assert_eq!(
        table.lines(),
        ["1|FR|France|true", "2|∅|∅|∅", "3|XX|∅|∅", "4|IT|∅|true"]
    );
    assert_eq!(table.counters, [2, 2]);
}

#[test]
fn a_row_without_a_match_is_refused_or_filtered_as_asked() {
    let refused = countries().key("on-missing", "refuse").run::<Enrich>(4);
    assert_eq!(refused.lines(), ["1|FR|France|true", "4|IT|∅|true"]);
    assert_eq!(
        refused.codes(),
        ["1 no_match country", "2 no_match country"]
    );
    assert_eq!(
        refused.rejects[0].message,
        "the table has no row with code = null"
    );
    assert_eq!(
        refused.rejects[1].message,
        "the table has no row with code = \"XX\""
    );
    let dropped = countries().key("on-missing", "drop").run::<Enrich>(4);
    assert_eq!(
        (dropped.lines(), dropped.rejects.len()),
        (refused.lines(), 0)
    );
    assert_eq!(dropped.counters, [2, 2]);
}

#[test]
fn columns_are_chosen_and_renamed_in_two_forms() {
    let listed = countries()
        .key("columns", "is_eu=eu, name")
        .run::<Enrich>(4);
    assert_eq!(listed.names, ["id", "country", "is_eu", "name"]);
    let named = countries()
        .key("columns.label", "name")
        .key("columns.code", "code")
        .run::<Enrich>(4);
    assert_eq!(named.names, ["id", "country", "code", "label"]);
    assert_eq!(named.lines()[0], "1|FR|FR|France");
}

#[test]
fn only_key_columns_cross() {
    let (mut plugin, plan) = countries().init::<Enrich>();
    assert_eq!(plan.reads, [1]);
    assert_eq!(
        plan.output[..2],
        [PlannedColumn::Carry(0), PlannedColumn::Carry(1)]
    );
    let columns = vec![countries().columns()[1].clone()];
    let output = plugin.run(&Batch::new(4, columns)).unwrap();
    assert_eq!(output.rows, RowMap::Every);
}

#[test]
fn a_key_of_several_columns_meets_both() {
    let bench = Bench::default()
        .key("table", "t.csv")
        .key("key", "a,b")
        .table(
            "table",
            &[
                ("a", "string", &[Some("x"), Some("xy")]),
                ("b", "string", &[Some("yz"), Some("z")]),
                ("v", "string", &[Some("1"), Some("2")]),
            ],
        )
        .column("a", "string", &[Some("xy"), Some("x"), Some("x")])
        .column("b", "string", &[Some("z"), Some("yz"), Some("z")]);
    assert_eq!(
        bench.run::<Enrich>(3).lines(),
        ["xy|z|2", "x|yz|1", "x|z|∅"]
    );
}

#[test]
fn a_table_of_texts_is_read_as_the_type_of_the_rows() {
    for (kind, table, row) in [
        ("int", " 7", "7"),
        ("long", "9007199254740993", "9007199254740993"),
        ("decimal(9,2)", "1.5", "1.50"),
        ("date", "2024-02-29", "2024-02-29"),
        ("boolean", "TRUE", "true"),
        (
            "timestamp",
            "2024-01-01T00:00:00Z",
            "2024-01-01T01:00:00+01:00",
        ),
        ("string", "a", "a"),
    ] {
        let bench = Bench::default()
            .key("table", "t.csv")
            .key("key", "k")
            .table(
                "table",
                &[
                    ("k", "string", &[Some(table)]),
                    ("v", "string", &[Some("met")]),
                ],
            )
            .column("k", kind, &[Some(row), None]);
        let found = bench.run::<Enrich>(2);
        assert_eq!(found.rows[0][1].as_deref(), Some("met"), "{kind}");
        assert_eq!(found.rows[1][1], None, "{kind}");
    }
}

#[test]
fn whole_numbers_and_texts_of_either_side_meet() {
    for (table, row) in [
        ("long", "int"),
        ("int", "long"),
        ("int", "string"),
        ("int", "decimal(9,2)"),
        ("decimal(9,1)", "decimal(5,0)"),
    ] {
        let bench = Bench::default()
            .key("table", "t.parquet")
            .key("key", "k")
            .table(
                "table",
                &[("k", table, &[Some("7")]), ("v", "int", &[Some("1")])],
            )
            .column("k", row, &[Some("7"), Some("8")]);
        let found = bench.run::<Enrich>(2);
        let met: Vec<_> = found.rows.iter().map(|row| row[1].is_some()).collect();
        assert_eq!(met, [true, false], "{table} and {row}");
    }
}

#[test]
fn every_type_of_column_is_copied() {
    let kinds = [
        ("string", "x"),
        ("int", "-7"),
        ("long", "9007199254740993"),
        ("double", "0.5"),
        ("boolean", "true"),
        ("decimal(20,2)", "123456789012345678.25"),
        ("date", "2024-02-29"),
        ("timestamp", "2024-02-29T12:00:00Z"),
    ];
    for (kind, value) in kinds {
        let bench = Bench::default()
            .key("table", "t")
            .key("key", "k")
            .table(
                "table",
                &[
                    ("k", "int", &[Some("1"), Some("2")]),
                    ("v", kind, &[None, Some(value)]),
                ],
            )
            .column("k", "int", &[Some("2"), Some("1"), Some("2")])
            .column("same", kind, &[Some(value), None, Some(value)]);
        for row in bench.run::<Enrich>(3).rows {
            assert_eq!(row[1], row[2], "{kind}");
        }
    }
}

#[test]
fn case_counts_unless_told_otherwise() {
    let bench = countries().column("c2", "string", &[Some("fr"), Some("Fr"), None, None]);
    let bench = bench.key("key", "c2");
    let names = |bench: &Bench| -> Vec<Option<String>> {
        let rows = bench.run::<Enrich>(4).rows;
        rows.into_iter().take(2).map(|row| row[3].clone()).collect()
    };
    assert_eq!(names(&bench), [None, None]);
    let bench = bench.key("case-insensitive", "true");
    assert_eq!(
        names(&bench),
        [Some("France".into()), Some("France".into())]
    );
}

#[test]
fn a_key_twice_in_the_table_stops_or_the_first_counts() {
    let twice = |key: &str, value: &str| {
        Bench::default()
            .key("table", "t.csv")
            .key("key", "k")
            .key(key, value)
            .table(
                "table",
                &[
                    ("k", "string", &[Some("a"), Some("b"), Some("A"), Some("a")]),
                    ("v", "int", &[Some("1"), Some("2"), Some("3"), Some("4")]),
                ],
            )
            .column("k", "string", &[Some("a"), Some("A")])
    };
    let problems = twice("on-duplicate", "error").problems::<Enrich>();
    assert_eq!(problems[0].code, "duplicate_key");
    assert!(
        problems[0]
            .message
            .starts_with("row 4: k = \"a\", as in row 1;"),
        "{}",
        problems[0].message
    );
    let first = twice("on-duplicate", "first").run::<Enrich>(2);
    assert_eq!(first.lines(), ["a|1", "A|3"]);
    let folded = twice("case-insensitive", "true").problems::<Enrich>();
    assert!(
        folded[0]
            .message
            .contains("row 3: k = \"A\", as in row 1; row 4"),
        "{}",
        folded[0].message
    );
}

#[test]
fn of_many_bad_rows_a_few_are_shown() {
    let keys = ["x"; 9].map(Some);
    let bench = Bench::default()
        .key("table", "t.csv")
        .key("key", "k")
        .table("table", &[("k", "string", &keys), ("v", "string", &keys)])
        .column("k", "int", &[Some("1")]);
    let problems = bench.problems::<Enrich>();
    assert_eq!(problems[0].code, "bad_key_value");
    assert!(
        problems[0]
            .message
            .starts_with("row 1: k is \"x\", expected int")
            && problems[0].message.ends_with("and 4 more rows"),
        "{}",
        problems[0].message
    );
}

#[test]
fn an_empty_table_meets_nothing() {
    let bench = Bench::default()
        .key("table", "t.csv")
        .key("key", "k")
        .table("table", &[("k", "string", &[]), ("v", "string", &[])])
        .column("k", "string", &[Some("a")]);
    assert_eq!(bench.run::<Enrich>(1).lines(), ["a|∅"]);
}

#[test]
fn every_mistake_is_told_at_once() {
    let bare = Bench::default().column("a", "string", &[None]);
    assert_eq!(
        told(&bare.clone().key("on-missing", "x").key("tabel", "y")),
        [
            "/table missing_key",
            "/on-missing bad_value",
            "/key missing_key",
            "/tabel unknown_key"
        ]
    );
    let no_table = bare.clone().key("table", "t.csv").key("key", "b");
    assert_eq!(
        told(&no_table),
        ["/table missing_table", "/key unknown_column"]
    );
    let with = |columns: &[(&str, &str, &[Option<&str>])]| {
        bare.clone()
            .key("table", "t.csv")
            .key("key", "a")
            .table("table", columns)
    };
    let k: (&str, &str, &[Option<&str>]) = ("k", "string", &[]);
    let a: (&str, &str, &[Option<&str>]) = ("a", "string", &[]);
    let d: (&str, &str, &[Option<&str>]) = ("d", "double", &[]);
    assert_eq!(told(&with(&[k])), ["/table-key unknown_column"]);
    assert_eq!(told(&with(&[a])), ["/columns missing_key"]);
    assert_eq!(
        told(&with(&[a, k]).key("table-key", "k")),
        ["/columns duplicate_column"]
    );
    assert_eq!(
        told(&with(&[a, k]).key("table-key", "a,k")),
        ["/table-key bad_value", "/columns missing_key"]
    );
    assert_eq!(
        told(&with(&[a, d]).key("table-key", "d").key("columns.x", "gone")),
        ["/table-key bad_key", "/columns.x unknown_column"]
    );
    let date = with(&[("a", "date", &[]), k]).column("n", "int", &[None]);
    assert_eq!(
        told(&date.key("key", "n").key("table-key", "a")),
        ["/table-key key_types_differ"]
    );
}

#[test]
fn null_and_the_empty_text_are_two_keys() {
    let bench = |key: &str| {
        Bench::default()
            .key("table", "t.csv")
            .key("key", key)
            .table(
                "table",
                &[
                    ("a", "string", &[Some("x")]),
                    ("b", "string", &[Some("")]),
                    ("v", "string", &[Some("met")]),
                ],
            )
            .key("columns", "v")
            .column("a", "string", &[Some("x"), Some("x")])
            .column("b", "string", &[None, Some("")])
    };
    for key in ["b", "a,b"] {
        assert_eq!(bench(key).run::<Enrich>(2).lines(), ["x|∅|∅", "x||met"]);
    }
}

#[test]
fn one_value_may_stand_for_a_whole_column_of_the_table() {
    let mut setup = countries().setup();
    let name = &mut setup.tables[0].columns[1];
    name.constant = true;
    name.nodes[0].offsets.truncate(2);
    name.nodes[0].data.truncate("Germany".len());
    name.nodes[0].validity = None;
    let (mut plugin, _) = Enrich::init(&setup).unwrap();
    let columns = vec![countries().columns()[1].clone()];
    let output = plugin.run(&Batch::new(4, columns)).unwrap();
    let MadeColumn::Made(made) = &output.columns[0] else {
        panic!("no column")
    };
    assert_eq!(made.nodes[0].data, b"GermanyGermany");
}
