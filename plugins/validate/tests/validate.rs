//! Each rule with its code, the order of rules, what is carried or unchanged, and every mistake of a rule file.
use validate::Validate;
use weir_sdk::testing::{Bench, Table};
use weir_sdk::{Batch, MadeColumn, PlannedColumn, RowMap, Transform};

fn rules(text: &str) -> Bench {
    Bench::default()
        .key("rules", "rules.toml")
        .file("rules", text)
}

/// One text column `a` under `[columns.a]` and these rules.
fn a(rules_of_a: &str, values: &[Option<&str>]) -> Table {
    rules(&format!("[columns.a]\n{rules_of_a}"))
        .column("a", "string", values)
        .run::<Validate>(values.len())
}

const BOOKS: &str = include_str!("../testdata/books.toml");

fn books() -> Bench {
    let id = Some("0B7E1F7C-7F4C-4F0E-9C39-1F1F1B1F2F31");
    rules(BOOKS)
        .column("record_id", "string", &[id, id, None, Some("x")])
        .column(
            "title",
            "string",
            &[Some(" Dune "), Some("It"), Some(" "), Some("t")],
        )
        .column(
            "author_name",
            "string",
            &[Some("Herbert"), Some("King"), None, Some("n")],
        )
        .column(
            "author_country",
            "string",
            &[Some("USA"), None, Some("UK"), Some("UK")],
        )
        .column(
            "publication_year",
            "int",
            &[Some("1965"), Some("1986"), None, Some("3000")],
        )
        .column("note", "string", &[Some("n"), None, None, None])
}

#[test]
fn the_books_example_cleans_and_refuses_as_recorded() {
    let table = books().run::<Validate>(4);
    assert_eq!(
        table.lines(),
        [
            "0b7e1f7c-7f4c-4f0e-9c39-1f1f1b1f2f31|Dune|Herbert|USA|1965|n",
            "0b7e1f7c-7f4c-4f0e-9c39-1f1f1b1f2f31|It|King|unknown|1986|∅"
        ]
    );
    assert_eq!(
        table.codes(),
        [
            "2 required_missing record_id",
            "2 required_missing title",
            "2 required_missing author_name",
            "2 required_missing publication_year",
            "3 bad_format record_id",
            "3 above_max publication_year"
        ]
    );
    assert_eq!(table.counters, [1]);
}

#[test]
fn each_rule_refuses_with_its_code() {
    let cases = [
        ("required = true", None, "required_missing"),
        ("required = true", Some(""), "required_missing"),
        (
            "required = true\ntrim = true",
            Some("  "),
            "required_missing",
        ),
        ("type = \"int\"", Some("1.5"), "bad_type"),
        ("type = \"int\"\nmin = 5", Some("4"), "below_min"),
        ("type = \"int\"\nmax = 5", Some("6"), "above_max"),
        ("type = \"double\"\nmin = 0.5", Some("NaN"), "below_min"),
        (
            "type = \"decimal(9,2)\"\nmax = 9.99",
            Some("10"),
            "above_max",
        ),
        (
            "type = \"date(dd.MM.yyyy)\"\nmin = 2020-01-01",
            Some("31.12.2019"),
            "below_min",
        ),
        (
            "type = \"timestamp\"\nmax = 2020-01-01T00:00:00Z",
            Some("2020-01-01T00:00:01Z"),
            "above_max",
        ),
        ("min-length = 3", Some("éé"), "too_short"),
        ("max-length = 2", Some("ééé"), "too_long"),
        ("pattern = '\\d+'", Some("12a"), "pattern_mismatch"),
        ("format = \"email\"", Some("nobody"), "bad_format"),
        ("one-of = [\"a\", \"b\"]", Some("c"), "not_in_enum"),
        ("type = \"int\"\none-of = [1, 2]", Some("3"), "not_in_enum"),
        (
            "type = \"boolean\"\none-of = [true]",
            Some("false"),
            "not_in_enum",
        ),
    ];
    for (rule, value, code) in cases {
        assert_eq!(a(rule, &[value]).codes(), [format!("0 {code} a")], "{rule}");
    }
}

#[test]
fn each_rule_takes_what_it_allows() {
    let cases = [
        ("required = true", "x", "x"),
        ("type = \"int\"\nmin = 5\nmax = 5", "5", "5"),
        ("type = \"date\"\nmin = 2020-01-01", "2020-01-01", "18262"),
        ("min-length = 2\nmax-length = 2", "éé", "éé"),
        ("pattern = 'a|ab'", "ab", "ab"),
        ("type = \"decimal(9,2)\"\none-of = [1.50]", "1.5", "150"),
        ("trim = true", "\u{a0}x\n", "x"),
        ("case = \"upper\"", "straße", "STRASSE"),
        ("case = \"lower\"", "ÀB", "àb"),
        ("type = \"int\"\ntrim = true", " 7 ", "7"),
    ];
    for (rule, value, expected) in cases {
        let table = a(rule, &[Some(value)]);
        assert_eq!(
            (table.lines(), table.codes()),
            (vec![expected.to_owned()], vec![]),
            "{rule}"
        );
    }
}

#[test]
fn rules_run_in_the_stated_order() {
    let table = a(
        "trim = true\ncase = \"upper\"\none-of = [\"UK\"]\nmax-length = 2",
        &[Some(" uk ")],
    );
    assert_eq!(table.lines(), ["UK"]);
    let table = a(
        "trim = true\ndefault = \"x\"\nrequired = true",
        &[Some(" "), None],
    );
    assert_eq!(
        (table.lines(), table.counters),
        (vec!["x".to_owned(), "x".into()], vec![2])
    );
    let table = a("type = \"int\"\ndefault = 7", &[Some(""), None, Some("8")]);
    assert_eq!(table.lines(), ["7", "7", "8"]);
    assert_eq!(a("type = \"int\"", &[Some(""), None]).lines(), ["∅", "∅"]);
}

#[test]
fn a_row_tells_all_its_failures_and_the_others_go_on() {
    let table = a(
        "min-length = 9\npattern = 'x'\none-of = [\"y\"]",
        &[Some("b"), Some("c")],
    );
    let codes = ["too_short", "pattern_mismatch", "not_in_enum"];
    let expected: Vec<String> = (0..2)
        .flat_map(|row| codes.iter().map(move |code| format!("{row} {code} a")))
        .collect();
    assert_eq!(table.codes(), expected);
    assert_eq!(
        table.rejects[0].message,
        "found \"b\", expected at least 9 characters, not 1"
    );
}

#[test]
fn every_type_keeps_its_values_and_takes_a_default() {
    for (kind, value, shown, default) in [
        ("int", "3", "3", "4"),
        ("long", "3", "3", "4"),
        ("double", "3.5", "3.5", "4.5"),
        ("boolean", "true", "true", "false"),
        ("decimal(9,2)", "3.25", "325", "\"4.25\""),
        ("date", "1970-01-04", "3", "1970-01-05"),
        (
            "timestamp",
            "1970-01-01T00:00:03Z",
            "3000000",
            "1970-01-01T00:00:04Z",
        ),
    ] {
        let text = format!("[columns.a]\ndefault = {default}\n[columns.b]\nrequired = true");
        let table = rules(&text)
            .column("a", kind, &[Some(value), None, None])
            .column("b", "string", &[Some("x"), None, Some("y")])
            .run::<Validate>(3);
        assert_eq!(table.rows[0][0].as_deref(), Some(shown), "{kind}");
        assert!(table.rows[1][0].is_some(), "{kind}");
        assert_eq!(
            (table.origin, table.counters),
            (vec![0, 2], vec![2]),
            "{kind}"
        );
    }
}

#[test]
fn what_is_not_changed_does_not_cross_back() {
    let (mut plugin, plan) = books().init::<Validate>();
    let carried: Vec<u32> = plan
        .output
        .iter()
        .filter_map(|c| match c {
            PlannedColumn::Carry(n) => Some(*n),
            PlannedColumn::Make(_) => None,
        })
        .collect();
    assert_eq!(
        (carried, plan.reads, plan.explodes),
        (vec![4, 5], vec![0, 1, 2, 3, 4], false)
    );

    let clean = Bench::default().column("a", "string", &[Some("x"), None]);
    let (mut trims, _) = rules("[columns.a]\ntrim = true")
        .column("a", "string", &[])
        .init::<Validate>();
    let output = trims.run(&Batch::new(2, clean.columns().to_vec())).unwrap();
    assert_eq!(
        (output.rows, output.columns),
        (RowMap::Every, vec![MadeColumn::Unchanged(0)])
    );
    assert!(
        plugin.run(&Batch::new(1, vec![])).is_err(),
        "a missing column is an error, not a panic"
    );
}

#[test]
fn columns_without_rules_are_allowed_dropped_or_refused() {
    let two = |unknown: &str| {
        rules(&format!(
            "unknown = \"{unknown}\"\n[columns.a]\nrequired = true"
        ))
        .column("b", "string", &[Some("2")])
        .column("a", "string", &[Some("1")])
    };
    assert_eq!(two("allow").run::<Validate>(1).names, ["b", "a"]);
    assert_eq!(two("drop").run::<Validate>(1).names, ["a"]);
    assert_eq!(
        two("reject").problems::<Validate>()[0].code,
        "unknown_column"
    );
}

#[test]
fn a_missing_column_needs_a_default() {
    let text = "[columns.a]\n[columns.n]\ntype = \"int\"\ndefault = 3";
    let table = rules(text)
        .column("a", "string", &[Some("x"), None])
        .run::<Validate>(2);
    assert_eq!(
        (table.names.clone(), table.lines()),
        (
            vec!["a".into(), "n".into()],
            vec!["x|3".into(), "∅|3".into()]
        )
    );
    let none = rules("[columns.n]\nrequired = true").column("a", "string", &[]);
    let problem = &none.problems::<Validate>()[0];
    assert_eq!(
        (problem.at.as_str(), problem.code.as_str()),
        ("rules:1:10", "column_missing")
    );
}

#[test]
fn constant_columns_are_read_for_every_row() {
    let bench =
        rules("[columns.a]\ntrim = true\nmax-length = 3").column("a", "string", &[Some(" ab ")]);
    assert_eq!(
        bench.constant().run::<Validate>(3).lines(),
        ["ab", "ab", "ab"]
    );
}

#[test]
fn every_mistake_of_a_rule_file_is_told_at_once_with_its_place() {
    let text = "unknown = \"maybe\"
[columns.a]
typ = \"int\"
required = \"yes\"
pattern = '('
min = 3
[columns.n]
type = \"int\"
min = 9
max = 3
default = \"x\"
one-of = [1, \"y\"]
min-length = 4
max-length = 2
[columns.i]
type = \"date\"
trim = true
[columns.z]
type = \"number\"
[extra]
";
    let problems = rules(text)
        .column("a", "string", &[])
        .column("n", "string", &[])
        .column("i", "int", &[])
        .column("z", "string", &[])
        .problems::<Validate>();
    let mut found: Vec<String> = problems
        .iter()
        .map(|p| format!("{} {}", p.at, p.code))
        .collect();
    found.sort();
    let mut expected = [
        "rules:1:11 bad_value",
        "rules:3:1 unknown_rule",
        "rules:4:12 bad_value",
        "rules:5:11 bad_pattern",
        "rules:6:7 needs_order",
        "rules:10:7 empty_range",
        "rules:11:11 bad_value",
        "rules:12:14 bad_value",
        "rules:14:14 empty_range",
        "rules:16:8 cannot_cast",
        "rules:17:8 needs_text",
        "rules:19:8 bad_value",
        "rules:20:2 unknown_key",
    ];
    expected.sort();
    assert_eq!(found, expected, "{problems:#?}");
    assert!(
        problems
            .iter()
            .any(|p| p.message.contains("did you mean `type`?"))
    );
}

#[test]
fn a_file_that_is_no_toml_or_is_not_there_is_told() {
    let broken = rules("[columns.a\nx = 1\ny = = 2")
        .column("a", "string", &[])
        .problems::<Validate>();
    assert!(
        broken.len() >= 2 && broken.iter().all(|p| p.code == "bad_toml"),
        "{broken:#?}"
    );
    assert_eq!(broken[0].at.split(':').nth(1), Some("1"));
    let codes = |bench: Bench| bench.problems::<Validate>()[0].code.clone();
    assert_eq!(codes(rules("")), "no_rules");
    assert_eq!(codes(Bench::default().key("rules", "x")), "missing_file");
    assert_eq!(codes(Bench::default()), "missing_key");
    assert_eq!(
        codes(
            rules("[columns.a]")
                .key("rule", "x")
                .column("a", "string", &[])
        ),
        "unknown_key"
    );
}

/// xorshift: the same rows on every machine.
fn roll(seed: &mut u64, sides: u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed % sides
}

#[test]
fn rows_and_refusals_account_for_each_row_however_it_is_batched() {
    let words = [
        "",
        " ",
        "a",
        " b ",
        "2020",
        "12.5",
        "é",
        "xxxxxxxxxx",
        "A-1",
        "\u{a0}",
    ];
    let text = "[columns.a]\ntrim = true\ncase = \"upper\"\nmax-length = 4\n[columns.b]\ntype = \"decimal(6,2)\"\nmax = 100\n[columns.c]\ndefault = \"d\"\npattern = '\\w.*'";
    let mut seed = 0x5EED;
    for _ in 0..300 {
        let rows = 1 + roll(&mut seed, 40) as usize;
        let mut pick = || {
            (0..rows)
                .map(|_| words.get(roll(&mut seed, 12) as usize).copied())
                .collect::<Vec<_>>()
        };
        let columns = [pick(), pick(), pick()];
        let run = |from: usize, to: usize| {
            let [a, b, c] = &columns;
            rules(text)
                .column("a", "string", &a[from..to])
                .column("b", "string", &b[from..to])
                .column("c", "string", &c[from..to])
                .run::<Validate>(to - from)
        };
        let whole = run(0, rows);
        for row in 0..rows {
            let one = run(row, row + 1);
            let kept = whole.origin.binary_search(&row);
            let refused: Vec<_> = whole
                .rejects
                .iter()
                .filter(|r| r.row as usize == row)
                .map(|r| (&r.code, &r.message))
                .collect();
            assert_eq!(
                kept.is_ok(),
                refused.is_empty(),
                "row {row} is in one place"
            );
            assert_eq!(one.rows.first(), kept.ok().map(|n| &whole.rows[n]));
            assert_eq!(
                one.rejects
                    .iter()
                    .map(|r| (&r.code, &r.message))
                    .collect::<Vec<_>>(),
                refused
            );
        }
    }
}

#[test]
fn the_schema_is_json_and_marks_the_file() {
    let schema = weir_sdk::json::flat(Validate::SCHEMA).unwrap();
    assert_eq!(schema["properties.rules.format"], "weir-file");
}
