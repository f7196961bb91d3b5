//! Row plugins: every type of a cell goes out as it came in, whatever is null, constant or refused; and what `setup` gives
//! and takes.

use weir_sdk::testing::Bench;
use weir_sdk::{Counter, Date, Decimal, Json, List, RowPlugin, RowSetup, Rows, Rowwise, Timestamp};

weir_sdk::input! {
    pub struct Inner<'a> { name: &'a str, born: Date, marks: List<'a, i32> }
}
weir_sdk::input! {
    pub struct All<'a> {
        keep: bool,
        text: &'a str,
        bytes: &'a [u8],
        number: i64,
        ratio: f64,
        price: Decimal<38, 4>,
        at: Timestamp,
        inner: Inner<'a>,
        list: List<'a, Inner<'a>>,
        deep: List<'a, List<'a, &'a str>>,
    }
}
weir_sdk::output! {
    pub struct MadeInner { name: String, born: Date, marks: Vec<Option<i32>> }
}
weir_sdk::output! {
    pub struct Made {
        text2: String,
        bytes2: Vec<u8>,
        number2: i64,
        ratio2: f64,
        price2: Decimal<38, 4>,
        at2: Timestamp,
        inner2: MadeInner,
        list2: Vec<Option<MadeInner>>,
        deep2: Vec<Option<Vec<Option<String>>>>,
        json: Json,
    }
}

/// Copies each row; refuses those that are not kept, after it has given them.
struct Copy;

fn inner(from: Inner<'_>) -> MadeInner {
    MadeInner {
        name: from.name.map(str::to_owned),
        born: from.born,
        marks: from.marks.map(|marks| marks.iter().collect()),
    }
}

fn owned<'a>(texts: List<'a, &'a str>) -> Vec<Option<String>> {
    texts.iter().map(|text| text.map(str::to_owned)).collect()
}

impl RowPlugin for Copy {
    const NAME: &'static str = "copy";
    const VERSION: &'static str = "0.1.0";
    const SUMMARY: &'static str = "Every type";
    const SCHEMA: &'static str = "{}";
    type In<'a> = All<'a>;
    type Out = Made;

    fn setup(setup: &mut RowSetup<'_>) -> Self {
        for column in [
            "keep", "text", "bytes", "number", "ratio", "price", "at", "inner", "list", "deep",
        ] {
            setup.drop(column);
        }
        Self
    }

    fn row(&self, row: All<'_>, out: &mut Rows<Made>) {
        let length = row.list.as_ref().map(List::len);
        out.give(Made {
            text2: row.text.map(str::to_owned),
            bytes2: row.bytes.map(<[u8]>::to_vec),
            number2: row.number,
            ratio2: row.ratio,
            price2: row.price,
            at2: row.at,
            inner2: row.inner.map(inner),
            list2: row
                .list
                .map(|list| list.iter().map(|one| one.map(inner)).collect()),
            deep2: row
                .deep
                .map(|deep| deep.iter().map(|l| l.map(owned)).collect()),
            json: length.map(|n| Json(n.to_string())),
        });
        if row.keep == Some(false) {
            out.refuse("not_kept", "keep", "it said so");
        }
    }
}

/// Numbers that look random; the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % n
    }

    fn some<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(4) > 0).then(|| make(self))
    }

    fn many<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| make(self)).collect()
    }

    fn text(&mut self) -> String {
        ["", "a", "é", "Ω…", "long enough to matter"][self.below(5) as usize].into()
    }

    fn inner(&mut self) -> MadeInner {
        MadeInner {
            name: self.some(Self::text),
            born: self.some(|dice| Date::from_days(dice.below(40_000) as i32)),
            marks: self.some(|dice| dice.many(|dice| dice.some(|dice| dice.below(9) as i32))),
        }
    }

    fn rows<T>(&mut self, rows: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<Option<T>> {
        (0..rows).map(|_| self.some(&mut make)).collect()
    }
}

fn bench(dice: &mut Dice, rows: usize, keep: &[Option<bool>]) -> Bench {
    let decimal = |dice: &mut Dice| {
        Decimal::<38, 4>::from_unscaled(i128::from(dice.below(1 << 40)) - (1 << 39))
            .unwrap_or_default()
    };
    Bench::default()
        .cells("keep", keep.iter().copied())
        .cells("text", dice.rows(rows, Dice::text))
        .cells(
            "bytes",
            dice.rows(rows, |dice| dice.many(|dice| dice.below(256) as u8)),
        )
        .cells("number", dice.rows(rows, |dice| dice.below(1 << 30) as i64))
        .cells(
            "ratio",
            dice.rows(rows, |dice| dice.below(100) as f64 / 7.0),
        )
        .cells("price", dice.rows(rows, decimal))
        .cells(
            "at",
            dice.rows(rows, |dice| {
                Timestamp::from_micros(dice.below(1 << 30) as i64 * 1_000_003)
            }),
        )
        .cells("inner", dice.rows(rows, Dice::inner))
        .cells(
            "list",
            dice.rows(rows, |dice| dice.many(|dice| dice.some(Dice::inner))),
        )
        .cells(
            "deep",
            dice.rows(rows, |dice| {
                dice.many(|dice| dice.some(|dice| dice.many(|dice| dice.some(Dice::text))))
            }),
        )
}

/// Passes every column on, so that the harness shows its values.
struct Shown;

impl RowPlugin for Shown {
    const NAME: &'static str = "shown";
    const VERSION: &'static str = "0.1.0";
    const SUMMARY: &'static str = "Nothing is read or made";
    const SCHEMA: &'static str = "{}";
    type In<'a> = ();
    type Out = ();

    fn setup(_: &mut RowSetup<'_>) -> Self {
        Self
    }

    fn row(&self, (): (), out: &mut Rows<()>) {
        out.give(());
    }
}

#[test]
fn every_type_goes_out_as_it_came_in() {
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let rows = dice.below(20) as usize + 1;
        let keep: Vec<_> = (0..rows).map(|_| Some(dice.below(3) > 0)).collect();
        let bench = bench(&mut dice, rows, &keep);
        let before = bench.run::<Rowwise<Shown>>(rows).rows;
        let after = bench.run::<Rowwise<Copy>>(rows);
        let kept: Vec<usize> = (0..rows).filter(|n| keep[*n] == Some(true)).collect();
        assert_eq!(after.origin, kept, "seed {seed}");
        assert_eq!(after.rejects.len(), rows - kept.len());
        for (row, n) in after.rows.iter().zip(kept) {
            assert_eq!(row[..9], before[n][1..], "seed {seed} row {n}");
        }
    }
}

#[test]
fn one_value_may_stand_for_every_row() {
    let mut dice = Dice(7);
    let list = vec![Some(dice.inner()), None, Some(dice.inner())];
    let mut bench = bench(&mut dice, 3, &[Some(true); 3]);
    let free = bench.run::<Rowwise<Copy>>(3);
    assert_eq!(free.rows.len(), 3);
    bench = Bench::default()
        .cells("keep", [Some(true)])
        .constant()
        .cells("text", [Some("x".to_owned())])
        .constant()
        .cells("bytes", [None::<Vec<u8>>])
        .constant()
        .cells("number", [Some(1_i64), Some(2)])
        .cells("ratio", [Some(0.5)])
        .constant()
        .cells("price", ["1.5".parse::<Decimal<38, 4>>().ok()])
        .constant()
        .cells("at", [Some(Timestamp::from_micros(5))])
        .constant()
        .cells("inner", [Some(dice.inner())])
        .constant()
        .cells("list", [Some(list)])
        .constant()
        .cells("deep", [None::<Vec<Option<Vec<Option<String>>>>>])
        .constant();
    let table = bench.run::<Rowwise<Copy>>(2);
    assert_eq!(table.rows[0][3..], table.rows[1][3..]);
    assert_eq!(table.rows[0][9].as_deref(), Some("3"));
    assert_eq!(table.rows[1][2].as_deref(), Some("2"));
}

weir_sdk::input! {
    pub struct Text<'a> { text: &'a str, price: Decimal<9, 2> }
}
weir_sdk::output! {
    pub struct Loud { loud: String }
}

/// Does what its config says.
struct Configured {
    prefix: String,
    seen: Counter,
    again: Counter,
}

impl RowPlugin for Configured {
    const NAME: &'static str = "configured";
    const VERSION: &'static str = "0.1.0";
    const SUMMARY: &'static str = "All of setup";
    const SCHEMA: &'static str = "{}";
    type In<'a> = Text<'a>;
    type Out = Loud;

    fn setup(setup: &mut RowSetup<'_>) -> Self {
        let text = setup.config.text("read", "text");
        setup.read("text", &text);
        let loud = setup.config.text("make", "loud");
        setup.make("loud", &loud);
        for column in setup.config.list("drop") {
            setup.drop(&column);
        }
        let twice = setup.config.flag("twice", false);
        setup.explode(twice);
        let prefix = setup
            .text_file("prefix", "a text")
            .unwrap_or_default()
            .trim();
        let secret = setup.secret("secret", "a word");
        let times = setup.table("times", "rows").map_or(0, |table| table.rows());
        let names = setup.lookup::<Text<'_>>("times", "rows");
        let names = names
            .iter()
            .map(|row| row.text.unwrap_or("∅"))
            .collect::<String>();
        if setup.config.flag("typo", false) {
            setup.read("txt", "text");
        }
        Self {
            prefix: format!("{prefix}{}{times}{names}", secret.len()),
            seen: setup.counter("seen"),
            again: setup.counter("seen"),
        }
    }

    fn row(&self, row: Text<'_>, out: &mut Rows<Loud>) {
        out.count(self.seen, 1);
        out.count(self.again, 1);
        let text = row.text.unwrap_or_default();
        for _ in 0..text.len() {
            let price = row.price.map_or(String::new(), |price| price.to_string());
            out.give(Loud {
                loud: Some(format!("{}{text}{price}", self.prefix)),
            });
        }
    }
}

fn configured() -> Bench {
    Bench::default()
        .key("prefix", "p.txt")
        .key("secret", "word")
        .key("times", "t.csv")
        .file("prefix", "> \n")
        .table(
            "times",
            &[
                ("price", "decimal(5,1)", &[Some("1.5"), None]),
                ("text", "string", &[Some("n"), None]),
            ],
        )
        .column("title", "string", &[Some("a"), Some("b")])
        .column("price", "decimal(3,0)", &[Some("7"), None])
        .column("rest", "int", &[Some("1"), Some("2")])
}

#[test]
fn setup_gives_files_tables_secrets_and_names() {
    let bench = configured()
        .key("read", "title")
        .key("make", "title")
        .key("drop", "rest");
    let (_, plan) = bench.init::<Rowwise<Configured>>();
    assert_eq!(plan.counters, ["seen"]);
    assert!(!plan.explodes);
    let table = bench.run::<Rowwise<Configured>>(2);
    assert_eq!(table.names, ["price", "title"]);
    // A narrower decimal is read as a wider one.
    assert_eq!(table.lines(), ["7|>42n∅a7.00", "∅|>42n∅b"]);
    assert_eq!(table.counters, [4]);
    let twice = bench
        .key("twice", "true")
        .column("other", "int", &[None, None]);
    assert!(twice.init::<Rowwise<Configured>>().1.explodes);
}

#[test]
fn every_problem_of_a_start_is_told_at_once() {
    let told = |bench: &Bench| -> Vec<String> {
        let problems = bench.problems::<Rowwise<Configured>>();
        let line = |p: &weir_sdk::Problem| format!("{} {}: {}", p.at, p.code, p.message);
        problems.iter().map(line).collect()
    };
    let bench = Bench::default()
        .key("drop", "gone")
        .key("prefix", "p.txt")
        .key("typo", "true")
        .key("mispelt", "")
        .column("text", "int", &[None])
        .column("pric", "double", &[None]);
    let told = told(&bench);
    assert_eq!(told.len(), 8, "{told:#?}");
    for wanted in [
        "/ unknown_column: no column `gone`",
        "/prefix missing_file: the host gave no file for `prefix`",
        "/secret missing_key: ",
        "/times missing_key: ",
        "/ bad_field: the plugin has no field `txt`",
        "/ bad_input: column `text`: expected string, found int",
        "/ bad_input: no column `price`; did you mean `pric`?",
        "/mispelt unknown_key: ",
    ] {
        assert!(
            told.iter().any(|line| line.starts_with(wanted)),
            "{wanted}\n{told:#?}"
        );
    }
}

#[test]
fn a_column_of_another_type_is_named_with_both_types() {
    let with = |bench: Bench| {
        let problems = bench.problems::<Rowwise<Copy>>();
        let found = problems.iter().filter(|p| p.code == "bad_input");
        found
            .map(|p| p.message.clone())
            .collect::<Vec<_>>()
            .join("\n")
    };
    let told = with(
        Bench::default()
            .cells("inner", [None::<Vec<String>>])
            .cells("list", [None::<Vec<MadeInner>>])
            .cells("deep", [None::<Vec<String>>])
            .cells("price", [None::<Decimal<38, 5>>])
            .cells("at", [None::<i64>]),
    );
    for wanted in [
        "column `inner`: expected struct(name string, born date, marks list(int or date)), found list(string)",
        "column `deep`: expected list(list(string)), found list(string)",
        "column `price`: expected decimal(38,4), or one with fewer digits before and behind the point, found decimal(38,5)",
        "column `at`: expected timestamp, found long",
        "no column `text`",
    ] {
        assert!(told.contains(wanted), "{wanted}\n{told}");
    }
    assert!(!told.contains("column `list`"), "{told}");
}

mod words {
    //! Columns whose names are words of Rust, or the SDK's own.

    use weir_sdk::testing::Bench;
    use weir_sdk::{RowPlugin, RowSetup, Rows, Rowwise};

    weir_sdk::input! {
        pub struct Inside<'a> { r#ref: &'a str }
    }
    weir_sdk::input! {
        pub struct Row<'a> { r#type: &'a str, lifetime: i32, r#struct: Inside<'a> }
    }
    weir_sdk::output! {
        pub struct Pair { r#in: String }
    }
    weir_sdk::output! {
        pub struct Made { r#match: String, r#mod: Pair }
    }

    struct Words;

    impl RowPlugin for Words {
        const NAME: &'static str = "words";
        const VERSION: &'static str = "0.1.0";
        const SUMMARY: &'static str = "Words of Rust";
        const SCHEMA: &'static str = r#"{"type": "object"}"#;
        type In<'a> = Row<'a>;
        type Out = Made;

        fn setup(_: &mut RowSetup<'_>) -> Self {
            Self
        }

        fn row(&self, row: Row<'_>, out: &mut Rows<Made>) {
            let inside = row.r#struct.and_then(|inside| inside.r#ref);
            out.give(Made {
                r#match: row.r#type.map(|kind| format!("{kind} {:?}", row.lifetime)),
                r#mod: Some(Pair {
                    r#in: inside.map(str::to_owned),
                }),
            });
        }
    }

    #[test]
    fn a_word_of_rust_is_a_column_without_its_mark() {
        let table = Bench::default()
            .column("type", "string", &[Some("a")])
            .column("lifetime", "int", &[Some("7")])
            .cells(
                "struct",
                [Some(Given {
                    r#ref: Some("x".into()),
                })],
            )
            .run::<Rowwise<Words>>(1);
        assert_eq!(table.names[3..], ["match", "mod"]);
        assert_eq!(table.rows[0][3].as_deref(), Some("a Some(7)"));
        assert_eq!(table.rows[0][4].as_deref(), Some("{in: x}"));
    }

    weir_sdk::output! {
        struct Given { r#ref: String }
    }
}
