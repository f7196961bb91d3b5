//! Limits, problems of a config, and what the plan says.
use json_flatten::Flatten;
use weir_sdk::testing::{Bench, Table};
use weir_sdk::{PlannedColumn, Transform};

fn run(bench: Bench, messages: &[&str]) -> Table {
    let values: Vec<Option<&[u8]>> = messages.iter().map(|m| Some(m.as_bytes())).collect();
    bench.bytes("value", &values).run::<Flatten>(messages.len())
}

/// Columns in the short form.
fn of(columns: &str) -> Bench {
    Bench::default().key("columns", columns)
}

#[test]
fn every_limit_has_its_code() {
    let deep = r#"{"a":[[]]}"#;
    let cases = [
        ("max-depth", "2", deep, "too_deep"),
        ("max-members", "1", r#"{"a":1,"b":2}"#, "too_many_members"),
        ("max-text-bytes", "3", r#"{"z":"abcd"}"#, "text_too_long"),
        ("max-text-bytes", "3", r#"{"abcd":1}"#, "text_too_long"),
        ("max-text-bytes", "3", r#"{"z":1234}"#, "text_too_long"),
        (
            "max-text-bytes",
            "3",
            r#"{"z":"\u0061bcd"}"#,
            "text_too_long",
        ),
        ("max-text-bytes", "3", r#"{"a":[1,2]}"#, "text_too_long"),
    ];
    for (key, limit, text, code) in cases {
        let bench = || of("a").key("types.a", "json");
        let table = run(bench().key(key, limit), &[text]);
        assert_eq!(table.codes(), [format!("0 {code}")], "{text}");
        assert_eq!(run(bench(), &[text]).codes(), [""; 0], "{text}");
    }
    let rows = of("a=.").key("explode", "").key("max-rows", "2");
    let table = run(rows, &["[1,2]", "[1,2,3]"]);
    assert_eq!(
        (table.lines().len(), table.codes()),
        (2, vec!["1 too_many_rows".into()])
    );
    let rest = of("./a")
        .key("explode", "")
        .key("wildcard", "w")
        .key("max-text-bytes", "10");
    let table = run(
        rest,
        &[r#"[{"b":1},{"b":2},{"b":3}]"#, r#"[{"b":1,"c":2}]"#],
    );
    assert_eq!(
        (table.lines().len(), table.codes()),
        (3, vec!["1 text_too_long".into()])
    );
}

#[test]
fn every_problem_of_a_config_is_told_at_once() {
    let told = |bench: Bench| -> Vec<String> {
        let problems = bench.problems::<Flatten>();
        let mut codes: Vec<String> = problems
            .iter()
            .map(|p| format!("{} {}", p.at, p.code))
            .collect();
        codes.sort();
        codes
    };
    let bench = of("a,x/a,a=b,c~2,./d,.")
        .key("types.a", "number")
        .key("types.zz", "int")
        .key("missing.zz", "null")
        .key("missing", "often")
        .key("max-depth", "0")
        .key("wildcard", "a")
        .key("column", "book")
        .column("value", "int", &[Some("1")]);
    assert_eq!(
        told(bench),
        [
            "/column unknown_key",
            "/columns bad_path",
            "/columns bad_path",
            "/columns duplicate_column",
            "/columns duplicate_column",
            "/input bad_input",
            "/max-depth bad_number",
            "/missing bad_value",
            "/missing.zz unknown_column",
            "/types.a bad_type",
            "/types.zz unknown_column",
            "/wildcard duplicate_column",
        ]
    );
    let value = |bench: Bench| bench.bytes("value", &[]);
    assert_eq!(
        told(value(of("a").key("columns.b", "b"))),
        ["/columns columns_twice"]
    );
    assert_eq!(told(value(Bench::default())), ["/columns missing_key"]);
    assert_eq!(told(value(of("a,a/b"))), ["/columns bad_path"]);
    assert_eq!(
        told(value(of("a,./b").key("explode", "a"))),
        ["/columns bad_path"]
    );
    assert_eq!(
        told(value(of("a/0/b,./b").key("explode", "a"))),
        ["/columns bad_path"]
    );
    assert_eq!(
        told(value(of("a").key("explode", "b"))),
        ["/explode bad_path"]
    );
    assert_eq!(
        told(value(of("./a").key("explode", "./b"))),
        ["/columns bad_path", "/explode bad_path"]
    );
}

#[test]
fn the_plan_says_what_it_reads_and_makes() {
    let bench = of("a,b").key("input", "body").key("types.b", "json");
    let (_, plan) = bench
        .bytes("key", &[])
        .column("body", "string", &[])
        .init::<Flatten>();
    assert_eq!((plan.reads.clone(), plan.explodes), (vec![1], true));
    let [PlannedColumn::Make(a), PlannedColumn::Make(b)] = plan.output.as_slice() else {
        panic!("{plan:?}")
    };
    let extensions = (a[0].extension.as_deref(), b[0].extension.as_deref());
    assert_eq!(extensions, (None, Some("arrow.json")));
    let schema = weir_sdk::json::flat(Flatten::SCHEMA);
    assert!(schema.is_ok(), "{schema:?}");
}
