//! Each pair of types with what passes and what does not, what crosses, and every mistake of a config.
use cast::Cast;
use weir_sdk::PlannedColumn;
use weir_sdk::testing::{Bench, Table};

/// Column `a` of type `from`, cast to `to`.
fn one(from: &str, to: &str, values: &[Option<&str>]) -> Table {
    Bench::default()
        .key("types.a", to)
        .column("a", from, values)
        .run::<Cast>(values.len())
}

fn told(bench: &Bench) -> Vec<String> {
    let problems = bench.problems::<Cast>();
    problems
        .iter()
        .map(|p| format!("{} {}", p.at, p.code))
        .collect()
}

#[test]
fn what_a_type_can_hold_passes() {
    let cases = [
        ("string", "int", " -7 ", "-7"),
        (
            "string",
            "long",
            "9223372036854775807",
            "9223372036854775807",
        ),
        ("string", "double", "1e3", "1000"),
        ("string", "boolean", "TRUE", "true"),
        ("string", "decimal(5,2)", "1.50", "150"),
        ("string", "date(dd.MM.yyyy)", "02.01.1970", "1"),
        ("string", "timestamp", "1970-01-01T00:00:01Z", "1000000"),
        ("string", "timestamp(epoch-millis)", "-1", "-1000"),
        ("int", "long", "-2147483648", "-2147483648"),
        ("int", "double", "7", "7"),
        ("int", "decimal(5,2)", "-999", "-99900"),
        ("int", "boolean", "1", "true"),
        ("int", "string", "-7", "-7"),
        ("int", "timestamp(epoch-seconds)", "2", "2000000"),
        ("long", "int", "2147483647", "2147483647"),
        ("long", "double", "9007199254740992", "9007199254740992"),
        (
            "long",
            "double",
            "-9223372036854775808",
            "-9223372036854776000",
        ),
        (
            "long",
            "decimal(38,19)",
            "9223372036854775807",
            "92233720368547758070000000000000000000",
        ),
        ("long", "timestamp(epoch-micros)", "5", "5"),
        (
            "long",
            "timestamp(epoch-millis)",
            "253402300799999",
            "253402300799999000",
        ),
        (
            "long",
            "timestamp(epoch-seconds)",
            "-62135596800",
            "-62135596800000000",
        ),
        (
            "string",
            "timestamp",
            "2024-02-28T24:00:00Z",
            "1709164800000000",
        ),
        ("double", "int", "-2147483648", "-2147483648"),
        (
            "double",
            "long",
            "-9223372036854775808",
            "-9223372036854775808",
        ),
        ("double", "decimal(5,2)", "0.1", "10"),
        (
            "double",
            "decimal(38,2)",
            "1e30",
            &format!("1{}", "0".repeat(32)),
        ),
        ("double", "string", "0.1", "0.1"),
        ("double", "string", "-INF", "-INF"),
        ("boolean", "int", "true", "1"),
        ("boolean", "long", "false", "0"),
        ("boolean", "string", "true", "true"),
        ("decimal(9,2)", "int", "-7.00", "-7"),
        (
            "decimal(38,0)",
            "long",
            "9223372036854775807",
            "9223372036854775807",
        ),
        ("decimal(9,2)", "double", "0.10", "0.1"),
        ("decimal(9,2)", "decimal(4,1)", "-999.90", "-9999"),
        ("decimal(9,2)", "decimal(38,4)", "1.25", "12500"),
        ("decimal(9,2)", "string", "-0.05", "-0.05"),
        ("date", "timestamp", "1970-01-02", "86400000000"),
        ("date", "string", "2024-02-29", "2024-02-29"),
        ("timestamp", "date", "1969-12-31T23:59:59Z", "-1"),
        (
            "timestamp",
            "string",
            "2024-02-29T12:00:00.5Z",
            "2024-02-29T12:00:00.500000Z",
        ),
    ];
    for (from, to, value, made) in cases {
        let table = one(from, to, &[Some(value), None]);
        assert_eq!(table.lines(), [made, "∅"], "{from} {value} to {to}");
    }
}

#[test]
fn what_a_type_cannot_hold_is_refused() {
    let cases = [
        ("string", "int", "2147483648"),
        ("string", "int", "1.0"),
        ("string", "long", "9223372036854775808"),
        ("string", "double", "one"),
        ("string", "boolean", "yes"),
        ("string", "decimal(5,2)", "1.505"),
        ("string", "date", "2023-02-29"),
        ("string", "timestamp", "2023-02-28"),
        ("string", "timestamp(epoch-seconds)", "9223372036854775807"),
        ("string", "timestamp(epoch-seconds)", "253402300800"),
        ("string", "timestamp", "0001-01-01T00:00:00+01:00"),
        ("string", "double", "1e309"),
        ("string", "double", "-1e-400"),
        ("long", "timestamp(epoch-millis)", "253402300800000"),
        ("long", "timestamp(epoch-micros)", "-62135596800000001"),
        ("long", "int", "-2147483649"),
        ("long", "double", "9007199254740993"),
        ("long", "double", "9223372036854775807"),
        ("long", "decimal(18,0)", "1000000000000000000"),
        ("long", "boolean", "2"),
        ("long", "timestamp(epoch-seconds)", "-9223372036854775808"),
        ("double", "int", "2147483648"),
        ("double", "int", "0.5"),
        ("double", "long", "9223372036854775808"),
        ("double", "long", "NaN"),
        ("double", "decimal(5,2)", "0.125"),
        ("double", "decimal(5,2)", "INF"),
        ("decimal(9,2)", "int", "0.01"),
        ("decimal(38,0)", "long", "9223372036854775808"),
        ("decimal(9,2)", "decimal(3,1)", "100.00"),
        ("decimal(9,2)", "decimal(9,1)", "0.05"),
        ("decimal(38,0)", "decimal(38,2)", &"9".repeat(38)),
    ];
    for (from, to, value) in cases {
        let table = one(from, to, &[Some(value), None]);
        let code = to.split('(').next().unwrap();
        assert_eq!(
            table.codes(),
            [format!("0 bad_{code} a")],
            "{from} {value} to {to}"
        );
        assert_eq!(table.lines(), ["∅"]);
    }
    let table = one("long", "int", &[Some("3000000000")]);
    assert_eq!(table.rejects[0].message, "found 3000000000, expected int");
    for from in ["long", "string"] {
        let table = one(from, "timestamp(epoch-millis)", &[Some("253402300800000")]);
        assert_eq!(
            table.rejects[0].message.trim_start_matches("found "),
            match from {
                "long" =>
                    "253402300800000, expected milliseconds since 1970: it is outside of the years 0001 to 9999 in UTC",
                _ =>
                    "\"253402300800000\", expected milliseconds since 1970: it is outside of the years 0001 to 9999 in UTC",
            }
        );
    }
}

#[test]
fn bytes_are_read_as_texts() {
    let bench = Bench::default()
        .key("types.key", "string")
        .key("types.n", "int")
        .bytes("key", &[Some("é".as_bytes()), Some(b"\xff"), Some(b" ")])
        .bytes("n", &[Some(b"1\n"), Some(b"2"), Some(b"")]);
    let table = bench.run::<Cast>(3);
    assert_eq!(table.lines(), ["é|1", " |∅"]);
    assert_eq!(table.codes(), ["1 bad_string key"]);
}

#[test]
fn a_row_tells_all_its_failures_in_the_order_of_the_columns() {
    let bench = Bench::default()
        .key("types.a", "int")
        .key("types.c", "date")
        .column("c", "string", &[Some("x"), Some("1970-01-01"), Some("y")])
        .column("b", "string", &[Some("p"), Some("q"), Some("r")])
        .column("a", "string", &[Some("x"), Some("1"), Some("2")]);
    let table = bench.run::<Cast>(3);
    assert_eq!(table.lines(), ["0|q|1"]);
    assert_eq!(
        table.codes(),
        ["0 bad_date c", "0 bad_int a", "2 bad_date c"]
    );
    let nulled = bench.key("on-error", "null").run::<Cast>(3);
    assert_eq!(nulled.lines(), ["∅|p|∅", "0|q|1", "∅|r|2"]);
    assert_eq!((nulled.rejects.len(), nulled.counters), (0, vec![3]));
}

#[test]
fn blanks_count_where_nothing_is_trimmed() {
    let bench = Bench::default()
        .key("types.a", "int")
        .key("trim", "false")
        .column("a", "string", &[Some(" 1"), Some(""), Some("2")]);
    let table = bench.run::<Cast>(3);
    assert_eq!(
        (table.lines().join("/"), table.codes().join("/")),
        ("∅/2".into(), "0 bad_int a".into())
    );
    assert_eq!(one("string", "int", &[Some("  ")]).lines(), ["∅"]);
}

#[test]
fn a_column_of_the_right_type_never_crosses() {
    let bench = Bench::default()
        .key("types.a", "int")
        .key("types.b", "date(dd.MM.yyyy)")
        .key("types.c", "long")
        .column("a", "int", &[Some("1")])
        .column("b", "date", &[None])
        .column("c", "int", &[Some("7")]);
    let (_, plan) = bench.init::<Cast>();
    assert_eq!(plan.reads, [2]);
    assert_eq!(
        plan.output[..2],
        [PlannedColumn::Carry(0), PlannedColumn::Carry(1)]
    );
}

#[test]
fn a_constant_column_is_cast_for_every_row() {
    let bench = Bench::default()
        .key("types.p", "string")
        .column("p", "int", &[Some("3")])
        .constant()
        .column("a", "int", &[Some("1"), Some("2")]);
    assert_eq!(bench.run::<Cast>(2).lines(), ["3|1", "3|2"]);
}

#[test]
fn every_mistake_is_told_at_once() {
    let bench = Bench::default()
        .key("types.d", "boolean")
        .key("types.f", "date")
        .key("types.x", "int3")
        .key("types.g", "timestamp(epoch-millis)")
        .key("on-error", "ignore")
        .key("tirm", "true")
        .column("d", "date", &[])
        .column("f", "int", &[])
        .column("g", "date", &[]);
    assert_eq!(
        told(&bench),
        [
            "/on-error bad_value",
            "/types.d cannot_cast",
            "/types.f cannot_cast",
            "/types.g cannot_cast",
            "/types.x unknown_column",
            "/types.x bad_type",
            "/tirm unknown_key"
        ]
    );
    assert_eq!(told(&Bench::default()), ["/types missing_key"]);
}
