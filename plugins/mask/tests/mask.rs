//! Known hashes, each rule on each type, what crosses, and that no message ever shows a secret.
use mask::Mask;
use weir_sdk::testing::{Bench, Table};
use weir_sdk::{Batch, MadeColumn, PlannedColumn, Transform};

const SECRET: &str = "a secret of some length";

/// Column `a` under one rule.
fn one(rule: &str, kind: &str, values: &[Option<&str>]) -> Table {
    bench(rule)
        .column("a", kind, values)
        .run::<Mask>(values.len())
}

fn bench(rule: &str) -> Bench {
    Bench::default()
        .key("columns.a", rule)
        .key("secret", SECRET)
}

fn told(bench: &Bench) -> Vec<String> {
    let problems = bench.problems::<Mask>();
    assert!(
        problems.iter().all(|p| !p.message.contains("hush")),
        "{problems:#?}"
    );
    problems
        .iter()
        .map(|p| format!("{} {}", p.at, p.code))
        .collect()
}

#[test]
fn a_hash_is_hmac_sha_256() {
    // RFC 4231 has no printable key of 16 bytes; its case 2 has a printable one of 4, so the secret is padded with
    // zeros, which HMAC does to every short key anyway.
    let table = Bench::default()
        .key("columns.a", "hash")
        .key("secret", "Jefe\0\0\0\0\0\0\0\0\0\0\0\0")
        .column("a", "string", &[Some("what do ya want for nothing?"), None])
        .run::<Mask>(2);
    let hash = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(table.lines(), [hash, "∅"]);
}

#[test]
fn equal_values_have_equal_hashes_in_every_column_and_type() {
    let bench = bench("hash")
        .key("columns.b", "hash")
        .key("columns.c", "hash")
        .column("a", "string", &[Some("7"), Some("8"), Some("7")])
        .column("b", "int", &[Some("8"), Some("7"), None])
        .bytes("c", &[Some(b"7"), Some(b"\xff"), Some(b"")]);
    let table = bench.run::<Mask>(3);
    let cell = |row: usize, column: usize| table.rows[row][column].clone().unwrap();
    assert_eq!(cell(0, 0), cell(2, 0));
    assert_eq!(cell(0, 0), cell(1, 1));
    assert_eq!(cell(0, 0), cell(0, 2));
    assert_ne!(cell(0, 0), cell(1, 0));
    assert_eq!(cell(1, 2).len(), 64);
    let other = bench.key("secret", "another secret of some length");
    assert_ne!(other.run::<Mask>(3).rows[0][0], table.rows[0][0]);
}

#[test]
fn hashes_can_be_short_and_in_base64url() {
    let long = one("hash", "string", &[Some("x")]).lines()[0].clone();
    let short = bench("hash")
        .key("prefix-length", "12")
        .column("a", "string", &[Some("x")])
        .run::<Mask>(1);
    assert_eq!(short.lines(), [&long[..12]]);
    let base64 = bench("hash")
        .key("encoding", "base64url")
        .column("a", "string", &[Some("x")])
        .run::<Mask>(1);
    assert_eq!(base64.lines()[0].len(), 43);
}

#[test]
fn each_rule_does_what_it_says() {
    let values = [
        Some("4111111111111111"),
        Some("1234"),
        Some("é12345"),
        Some(""),
        None,
    ];
    let cases = [
        ("redact", ["***", "***", "***", "***", "∅"]),
        ("null", ["∅"; 5]),
        (
            "keep-last(4)",
            ["************1111", "****", "**2345", "", "∅"],
        ),
        ("truncate(2)", ["41", "12", "é1", "", "∅"]),
        ("truncate(0)", ["", "", "", "", "∅"]),
    ];
    for (rule, expected) in cases {
        assert_eq!(one(rule, "string", &values).lines(), expected, "{rule}");
    }
    let other = bench("redact")
        .key("redact-with", "")
        .column("a", "int", &[Some("1")]);
    assert_eq!(other.run::<Mask>(1).lines(), [""]);
}

#[test]
fn every_type_can_be_hashed_redacted_and_emptied() {
    for (kind, value) in [
        ("int", "1"),
        ("long", "1"),
        ("double", "0.5"),
        ("boolean", "true"),
        ("decimal(9,2)", "1.5"),
        ("date", "2024-02-29"),
        ("timestamp", "2024-02-29T00:00:00Z"),
    ] {
        assert_eq!(one("hash", kind, &[Some(value)]).lines()[0].len(), 64);
        assert_eq!(
            one("redact", kind, &[Some(value), None]).lines(),
            ["***", "∅"]
        );
        assert_eq!(one("null", kind, &[Some(value), None]).lines(), ["∅", "∅"]);
    }
    let bytes = bench("null").bytes("a", &[Some(b"x")]);
    assert_eq!(bytes.run::<Mask>(1).lines(), ["∅"]);
}

#[test]
fn only_what_must_be_seen_crosses() {
    let bench = bench("null")
        .key("columns.c", "truncate(3)")
        .column("a", "int", &[Some("1"), Some("2")])
        .column("b", "string", &[Some("x"), None])
        .column("c", "string", &[Some("abc"), None]);
    let (mut plugin, plan) = bench.init::<Mask>();
    assert_eq!(plan.reads, [2]);
    assert_eq!(plan.output[1], PlannedColumn::Carry(1));
    let batch = Batch::new(2, vec![bench.columns()[2].clone()]);
    let output = plugin.run(&batch).unwrap();
    assert!(matches!(&output.columns[0], MadeColumn::Made(column) if column.constant));
    assert_eq!(output.columns[1], MadeColumn::Unchanged(0));
}

#[test]
fn one_value_for_all_rows_is_masked_once() {
    for rule in ["hash", "redact", "keep-last(1)", "truncate(1)"] {
        let constant = bench(rule)
            .column("a", "string", &[Some("xyz")])
            .constant()
            .column("b", "int", &[Some("1"), Some("2")]);
        let (mut plugin, _) = constant.init::<Mask>();
        let batch = Batch::new(2, vec![constant.columns()[0].clone()]);
        let output = plugin.run(&batch).unwrap();
        assert!(matches!(&output.columns[0], MadeColumn::Made(column) if column.constant));
        let found = constant.run::<Mask>(2).rows;
        let plain = one(rule, "string", &[Some("xyz"), Some("xyz")]).rows;
        assert_eq!((&found[0][0], &found[1][0]), (&plain[0][0], &plain[1][0]));
    }
}

#[test]
fn every_mistake_is_told_at_once_and_no_secret_with_it() {
    let bench = Bench::default()
        .key("secret", "hush")
        .key("encoding", "base32")
        .key("prefix-length", "7")
        .key("columns.a", "hash")
        .key("columns.b", "keep-last(2)")
        .key("columns.c", "sha1")
        .key("columns.d", "truncate(2)")
        .key("columns.x", "md5")
        .key("sekret", "hush")
        .column("a", "string", &[])
        .column("b", "int", &[])
        .column("c", "string", &[])
        .bytes("d", &[]);
    assert_eq!(
        told(&bench),
        [
            "/encoding bad_value",
            "/prefix-length bad_number",
            "/columns.b needs_text",
            "/columns.c bad_value",
            "/columns.d needs_text",
            "/columns.x unknown_column",
            "/columns.x bad_value",
            "/secret weak_secret",
            "/sekret unknown_key"
        ]
    );
    assert_eq!(told(&Bench::default()), ["/columns missing_key"]);
    let no_secret = Bench::default()
        .key("columns.a", "hash")
        .column("a", "int", &[]);
    assert_eq!(told(&no_secret), ["/secret missing_key"]);
    let long = bench_of_base64().key("prefix-length", "44");
    assert_eq!(told(&long), ["/prefix-length bad_number"]);
    let unused = Bench::default()
        .key("columns.a", "redact")
        .column("a", "int", &[Some("1")]);
    assert_eq!(unused.run::<Mask>(1).lines(), ["***"]);
}

fn bench_of_base64() -> Bench {
    bench("hash")
        .key("encoding", "base64url")
        .column("a", "int", &[])
}
