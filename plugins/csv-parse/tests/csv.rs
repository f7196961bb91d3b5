//! Dialects, types, lines too long and too short, header lines, places, and every mistake of a config.
use csv_parse::CsvParse;
use weir_sdk::PlannedColumn;
use weir_sdk::testing::{Bench, Table};

fn of(columns: &str) -> Bench {
    Bench::default().key("columns", columns)
}

fn run(bench: Bench, messages: &[&str]) -> Table {
    let values: Vec<Option<&[u8]>> = messages.iter().map(|m| Some(m.as_bytes())).collect();
    bench
        .bytes("value", &values)
        .run::<CsvParse>(messages.len())
}

/// The message of the one refusal.
fn said(table: &Table) -> &str {
    assert_eq!(table.rejects.len(), 1, "{:#?}", table.rejects);
    &table.rejects[0].message
}

fn told(bench: Bench) -> Vec<String> {
    let problems = bench.bytes("value", &[]).problems::<CsvParse>();
    problems
        .iter()
        .map(|p| format!("{} {}", p.at, p.code))
        .collect()
}

#[test]
fn each_line_of_each_message_is_a_row() {
    let bench = of("id,name,price")
        .key("types.id", "int")
        .key("types.price", "decimal(9,2)");
    let table = run(
        bench,
        &["1,Dune,9.5\r\n2,\"It, too\",10\r\n", "3,,\n\n4,\"\",.25"],
    );
    assert_eq!(table.names, ["id", "name", "price"]);
    assert_eq!(
        table.lines(),
        ["1|Dune|950", "2|It, too|1000", "3||∅", "4||25"]
    );
    assert_eq!(table.origin, [0, 0, 1, 1]);
    assert_eq!(table.counters, [0, 0]);
}

#[test]
fn every_type_is_read() {
    let columns = "s,i,l,g,b,d,t,c";
    let bench = of(columns)
        .key("types.i", "int")
        .key("types.l", "long")
        .key("types.g", "double")
        .key("types.b", "boolean")
        .key("types.d", "date(dd.MM.yyyy)")
        .key("types.t", "timestamp")
        .key("types.c", "decimal(5,2)");
    let table = run(
        bench.clone(),
        &["x,1,2,0.5,true,02.01.1970,1970-01-01T00:00:01Z,1.5"],
    );
    assert_eq!(table.lines(), ["x|1|2|0.5|true|1|1000000|150"]);
    let table = run(bench, &["\u{e9},x,x,x,x,x,x,x"]);
    let codes = [
        "int i",
        "long l",
        "double g",
        "boolean b",
        "date d",
        "timestamp t",
        "decimal c",
    ];
    assert_eq!(table.codes(), codes.map(|code| format!("0/0 bad_{code}")));
    assert_eq!(
        table.rejects[0].message,
        "line 1, column 4: found \"x\", expected int"
    );
}

#[test]
fn a_refused_line_leaves_its_siblings_their_numbers() {
    let bench = of("a,b").key("types.a", "int");
    let table = run(bench, &["1,x\nno,y\n3,z\n4\n5,v,w", "6,u"]);
    assert_eq!(table.lines(), ["1|x", "3|z", "6|u"]);
    assert_eq!(
        table.codes(),
        ["0/1 bad_int a", "0/3 missing_fields", "0/4 extra_fields"]
    );
    let messages: Vec<&str> = table.rejects.iter().map(|r| r.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "line 2, column 1: found \"no\", expected int",
            "line 4, column 1: expected 2 fields, found 1",
            "line 5, column 5: expected 2 fields, found more"
        ]
    );
}

#[test]
fn too_many_and_too_few_fields_can_be_taken() {
    let bench = of("a,b").key("extra", "ignore").key("missing", "null");
    let table = run(bench, &["1\n2,x,y,z\n3,w"]);
    assert_eq!(table.lines(), ["1|∅", "2|x", "3|w"]);
    assert_eq!(table.counters, [2, 1]);
}

#[test]
fn a_sign_or_zeros_before_a_number_are_refused_where_they_would_be_lost() {
    let bench = of("i,g,c,s")
        .key("types.i", "int")
        .key("types.g", "double")
        .key("types.c", "decimal(5,2)");
    let lines = "01234,007.5,+1.5,007\n+5,+1,-01,+5\n0,0.5,-0.50,0\n-7,1e+5,10,x";
    let table = run(bench.clone(), &[lines]);
    assert_eq!(
        table.lines(),
        [
            "1234|7.5|150|007",
            "5|1|-100|+5",
            "0|0.5|-50|0",
            "-7|100000|1000|x"
        ]
    );
    let table = run(bench.key("numbers", "plain"), &[lines]);
    assert_eq!(table.lines(), ["0|0.5|-50|0", "-7|100000|1000|x"]);
    assert_eq!(
        table.codes(),
        [
            "0/0 bad_int i",
            "0/0 bad_double g",
            "0/0 bad_decimal c",
            "0/1 bad_int i",
            "0/1 bad_double g",
            "0/1 bad_decimal c"
        ]
    );
    assert_eq!(
        table.rejects[0].message,
        "line 1, column 1: found \"01234\", expected int without `+` or zeros before it (numbers = plain)"
    );
}

#[test]
fn what_is_refused_whole_counts_nothing_and_leaves_nothing() {
    let bench = of("a,b").key("extra", "ignore").key("missing", "null");
    let table = run(bench, &["1\n2,x,y\n3\n4,\"x", "5,v"]);
    assert_eq!(table.lines(), ["5|v"]);
    assert_eq!(table.codes(), ["0 malformed_csv"]);
    assert_eq!(table.counters, [0, 0]);
    assert_eq!(said(&table), "line 4, column 3: this quote is never closed");
}

#[test]
fn places_count_every_kind_of_line_end_and_a_mark() {
    for text in [
        "\u{feff}1,x\r\n\r\n2,\"y\"z",
        "1,x\r\r2,\"y\"z",
        "1,x\n\n2,\"y\"z",
    ] {
        let table = run(of("a,b"), &[text]);
        assert_eq!(table.codes(), ["0 malformed_csv"]);
        assert!(
            said(&table).starts_with("line 3, column 6: expected a separator"),
            "{}",
            said(&table)
        );
    }
}

#[test]
fn other_dialects() {
    let tabs = of("a,b").key("separator", "tab").key("quote", "");
    assert_eq!(run(tabs, &["5\" pipe\tx,\"y"]).lines(), ["5\" pipe|x,\"y"]);
    let odd = of("a,b")
        .key("separator", ";")
        .key("quote", "'")
        .key("escape", "\\");
    assert_eq!(run(odd, &[r"'it\'s; ''so''';b"]).lines(), ["it's; 'so'|b"]);
    let trim = of("a,b").key("trim", "true").key("types.b", "int");
    let table = run(trim, &[" a , 1 \n \" b \" ,\t2"]);
    assert_eq!(table.lines(), ["a|1", " b |2"]);
}

#[test]
fn a_bare_quote_refuses_its_line() {
    let table = run(of("a,b"), &["5\" pipe,x\nb,c"]);
    assert_eq!(table.codes(), ["0/0 bare_quote a"]);
    assert_eq!(table.lines(), ["b|c"]);
    assert!(said(&table).starts_with("line 1, column 2: "));
}

#[test]
fn null_is_a_text_without_quotes() {
    let bench = of("a,b").key("null-value", "NULL");
    assert_eq!(run(bench, &["NULL,\"NULL\"\n,x"]).lines(), ["∅|NULL", "|x"]);
    let bench = of("a,b").key("null-value", "");
    assert_eq!(run(bench, &[",\"\""]).lines(), ["∅|"]);
    let bench = of("a,b").key("null-value", "-").key("types.b", "int");
    assert_eq!(run(bench, &["-,-\nx,"]).lines(), ["∅|∅", "x|∅"]);
}

#[test]
fn a_blank_name_drops_its_field() {
    let table = run(of("a,,c"), &["1,2,3"]);
    assert_eq!(
        (table.names.join(","), table.lines()),
        ("a,c".into(), vec!["1|3".into()])
    );
}

#[test]
fn a_header_in_the_config_is_a_csv_line() {
    let bench = Bench::default()
        .key("header", "id;\"the; name\"")
        .key("separator", ";");
    let table = run(bench, &["1;x"]);
    assert_eq!(table.names, ["id", "the; name"]);
}

#[test]
fn header_lines_find_fields_by_name() {
    let bench = || of("id, title=Book Title").key("header-line", "true");
    let table = run(
        bench(),
        &["id,Book Title\n1,Dune\n2,It", "Book Title,id\nFaust,3"],
    );
    assert_eq!(table.names, ["id", "title"]);
    assert_eq!(table.lines(), ["1|Dune", "2|It", "3|Faust"]);

    let table = run(
        bench(),
        &[
            "id\n1",
            "id,Book Title,x\n1,2,3",
            "id,id\n1,2",
            "id,Book Title\n",
            "id,Book Title\n7",
        ],
    );
    assert_eq!(
        table.codes(),
        [
            "0 bad_header title",
            "1 bad_header",
            "2 bad_header id",
            "3 no_rows",
            "4/0 missing_fields"
        ]
    );
    assert_eq!(
        table.rejects[1].message,
        "line 1, column 15: \"x\" is no known column"
    );

    let lenient = bench().key("extra", "ignore").key("missing", "null");
    let table = run(lenient, &["x,id,y\na,1,b\nc", "y\nz"]);
    assert_eq!(table.lines(), ["1|∅", "∅|∅", "∅|∅"]);
    assert_eq!(table.counters, [0, 5]);
}

#[test]
fn what_is_no_csv_is_refused_whole() {
    let values: [Option<&[u8]>; 5] = [
        None,
        Some(b""),
        Some(b" \r\n"),
        Some(b"a,\xff"),
        Some(b"\xEF\xBB\xBF"),
    ];
    let table = of("a,b").bytes("value", &values).run::<CsvParse>(5);
    assert_eq!(
        table.codes(),
        [
            "0 empty_value",
            "1 empty_value",
            "2 empty_value",
            "3 not_utf8",
            "4 empty_value"
        ]
    );
    assert_eq!(
        table.rejects[3].message,
        "line 1, column 3: bytes that are not UTF-8"
    );
    let few = of("a").key("max-rows", "2");
    let table = run(few, &["1\n2\n3", "1\n2"]);
    assert_eq!(table.codes(), ["0 too_many_rows"]);
    assert_eq!(table.lines(), ["1", "2"]);
}

#[test]
fn carried_columns_stand_beside_every_row_and_never_cross() {
    let bench = of("a")
        .key("carry", "_topic, key")
        .bytes("key", &[Some(b"k1"), Some(b"k2")])
        .column("_topic", "string", &[Some("t")])
        .constant()
        .bytes("value", &[Some(b"1\n2"), Some(b"3")]);
    let table = bench.run::<CsvParse>(2);
    assert_eq!(table.lines(), ["1|t|k1", "2|t|k1", "3|t|k2"]);
    let (_, plan) = bench.init::<CsvParse>();
    assert_eq!(plan.reads, [2]);
    assert_eq!(
        plan.output[1..],
        [PlannedColumn::Carry(1), PlannedColumn::Carry(0)]
    );
}

#[test]
fn a_text_column_can_be_the_message() {
    let table = of("a,b")
        .key("input", "line")
        .column("line", "string", &[Some("1,2")])
        .run::<CsvParse>(1);
    assert_eq!(table.lines(), ["1|2"]);
}

#[test]
fn every_mistake_is_told_at_once() {
    assert_eq!(
        told(
            Bench::default()
                .key("separator", "::")
                .key("extra", "x")
                .key("max-rows", "0")
                .key("input", "n")
                .key("header_line", "true")
        ),
        [
            "/separator bad_value",
            "/extra bad_value",
            "/max-rows bad_number",
            "/input bad_input",
            "/columns missing_key",
            "/header_line unknown_key"
        ]
    );
    assert_eq!(
        told(
            of("a,a,x=b")
                .key("types.c", "int")
                .key("types.a", "text")
                .key("carry", "z")
        ),
        [
            "/types.a bad_type",
            "/columns duplicate_column",
            "/columns bad_value",
            "/types.c unknown_column",
            "/carry unknown_column"
        ]
    );
    assert_eq!(told(of("a").key("header", "a")), ["/columns columns_twice"]);
    assert_eq!(
        told(Bench::default().key("header", "a,\"b")),
        ["/header bad_value"]
    );
    assert_eq!(told(of(",")), ["/columns missing_key"]);
    assert_eq!(
        told(of("a").key("separator", "\"").key("escape", "\"")),
        ["/separator bad_value", "/escape bad_value"]
    );
    assert_eq!(told(of("a").key("separator", "")), ["/separator bad_value"]);
    assert_eq!(
        told(of("value").key("carry", "value")),
        ["/carry duplicate_column"]
    );
}

/// A little generator: the same numbers on every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1);
        ((self.0 >> 33) % sides) as usize
    }

    fn text(&mut self, letters: &[char]) -> String {
        let len = self.roll(6);
        (0..len)
            .map(|_| letters[self.roll(letters.len() as u64)])
            .collect()
    }
}

#[test]
fn what_is_written_with_quotes_is_read_back() {
    let mut dice = Dice(1);
    let letters = ['a', 'é', ',', '"', '\n', '\r', ' '];
    for _ in 0..2000 {
        let rows: Vec<[String; 2]> = (0..=dice.roll(3))
            .map(|_| [dice.text(&letters), dice.text(&letters)])
            .collect();
        let quoted = |text: &String| format!("\"{}\"", text.replace('"', "\"\""));
        let end = ["\n", "\r\n", "\r"][dice.roll(3)];
        let lines = rows
            .iter()
            .map(|row| quoted(&row[0]) + "," + &quoted(&row[1]) + end);
        let message: String = lines.collect();
        let table = run(of("a,b"), &[&message]);
        let found: Vec<_> = table.rows.iter().map(|row| row.iter().flatten()).collect();
        assert_eq!(found.len(), rows.len(), "{message:?}");
        for (found, row) in found.into_iter().zip(&rows) {
            assert!(found.eq(row), "{message:?}");
        }
    }
}

#[test]
fn anything_is_read_or_refused() {
    let mut dice = Dice(2);
    let letters = ['a', 'é', ',', '"', '\n', '\r', ' ', '\\'];
    let bench = of("a,b").key("escape", "\\").key("missing", "null");
    for n in 0..5000 {
        let messages = [dice.text(&letters), dice.text(&letters)].map(|text| text.repeat(2));
        let bench = bench.clone().key("trim", ["true", "false"][n % 2]);
        let table = run(bench, &[&messages[0], &messages[1]]);
        for (row, message) in messages.iter().enumerate() {
            let met = table.origin.contains(&row)
                || table
                    .rejects
                    .iter()
                    .any(|reject| reject.row as usize == row);
            assert!(met, "{message:?}");
        }
    }
}
