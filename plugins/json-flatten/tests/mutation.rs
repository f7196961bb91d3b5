//! Seeded mutation of good messages: no panic, every message accounted for, the same rows however it is batched, and a
//! refusal wherever a second parser refuses.
use json_flatten::Flatten;
use weir_sdk::testing::{Bench, Table};

const SEEDS: [&str; 5] = [
    r#"{"id":7,"book":{"title":"Momo","year":1973,"tags":["a","b"]},"items":[{"sku":"x","qty":2},{"sku":"y","qty":3,"w":null}],"note":"\u00e9\n"}"#,
    r#"{"items":[],"id":"a-1","price":12.50,"ok":true,"x":{"y":{"z":[[],{},[1e9,-0.5]]}}}"#,
    "[1, \"\\ud83d\\ude00\", null, true, false, {\"a\" : -0}]",
    "{\r\n\t\"id\" : \"é😀\" , \"items\" : [ null , { } ] }",
    r#"{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9,"j":0,"k":1,"l":2,"m":3,"n":4,"o":5,"p":6,"q":7,"r":8,"s":9,"t":0,"u":1,"v":2,"w":3,"x":4,"y":5,"z":6}"#,
];
const PIECES: [&str; 28] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    "\\u00e9",
    "\\ud800",
    "\\n",
    "0",
    "-",
    "1.5",
    "e9",
    ".",
    "null",
    "true",
    "fals",
    " ",
    "\n",
    "\0",
    "é",
    "\"id\":",
    "\"items\":[",
    "\"a\":1,",
    "{}",
    "\u{FEFF}",
];
const ROUNDS: usize = 30_000;
const BATCH: usize = 64;

/// xorshift64*: the same messages on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }

    fn mutant(&mut self) -> Vec<u8> {
        let mut text = SEEDS[self.roll(SEEDS.len())].as_bytes().to_vec();
        for _ in 0..self.roll(4) {
            let at = self.roll(text.len() + 1);
            match self.roll(4) {
                0 => drop(text.splice(at..at, PIECES[self.roll(PIECES.len())].bytes())),
                1 => drop(text.drain(at..(at + 1 + self.roll(8)).min(text.len()).max(at))),
                2 if at < text.len() => text[at] = self.roll(256) as u8,
                _ => {
                    let from = self.roll(text.len() + 1).min(at);
                    let copy = text[from..at.min(from + 40)].to_vec();
                    drop(text.splice(at..at, copy));
                }
            }
        }
        text
    }
}

fn bench(messages: &[Option<&[u8]>]) -> Bench {
    Bench::default()
        .key(
            "columns",
            "id,book/title,book/year,./sku,./qty,book/tags/1,x/y",
        )
        .key("explode", "/items")
        .key("types.book_year", "int")
        .key("types.qty", "int")
        .key("types.x_y", "json")
        .key("wildcard", "rest")
        .bytes("value", messages)
}

/// What became of each message: its rows and refusals, with no row numbers in them.
fn outcomes(table: &Table, messages: usize) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new(); messages];
    for (line, row) in table.lines().into_iter().zip(&table.origin) {
        all[*row].push(line);
    }
    for reject in &table.rejects {
        let (part, code) = (reject.part, &reject.code);
        all[reject.row as usize].push(format!("{part:?} {code} {}", reject.message));
    }
    all
}

#[test]
fn every_mutant_is_rows_or_refusals_and_batches_do_not_matter() {
    let mut dice = Dice(0x5EED);
    let (mut plugin, plan) = bench(&[]).init::<Flatten>();
    let (mut rows, mut refused) = (0, 0);
    for _ in 0..ROUNDS / BATCH {
        let mutants: Vec<Vec<u8>> = (0..BATCH).map(|_| dice.mutant()).collect();
        let messages: Vec<Option<&[u8]>> = mutants.iter().map(|m| Some(m.as_slice())).collect();
        let table = bench(&messages).batch(&mut plugin, &plan, BATCH);
        rows += table.rows.len();
        refused += table.rejects.len();
        let together = outcomes(&table, BATCH);
        for (message, outcome) in messages.iter().zip(&together) {
            let shown = message.map(String::from_utf8_lossy);
            assert!(!outcome.is_empty(), "lost: {shown:?}");
            let ours = outcome.iter().any(|o| {
                let malformed = [
                    "None malformed_json",
                    "None lone_surrogate",
                    "None empty_value",
                ];
                malformed.iter().any(|code| o.starts_with(code))
            });
            let ours_only = ["duplicate_key", "too_deep", "not_an_array"];
            let stricter = outcome
                .iter()
                .any(|o| ours_only.iter().any(|c| o.contains(c)));
            let bytes = message.unwrap_or_default();
            let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
            match serde_json::from_slice::<serde_json::Value>(bytes) {
                Ok(_) => assert!(!ours, "{outcome:?} {shown:?}"),
                Err(e) if e.to_string().starts_with("number out of range") => {}
                Err(e) => assert!(ours || stricter, "{e} {outcome:?} {shown:?}"),
            }
        }
        // A json column and the wildcard hold JSON again.
        for column in [6, 7] {
            let texts: Vec<&String> = table
                .rows
                .iter()
                .filter_map(|r| r[column].as_ref())
                .collect();
            let values: Vec<Option<&[u8]>> = texts.iter().map(|t| Some(t.as_bytes())).collect();
            let again = Bench::default().key("columns", "a=").key("types.a", "json");
            let again = again.bytes("value", &values);
            let (mut again_plugin, again_plan) = again.init::<Flatten>();
            if !values.is_empty() {
                let again = again.batch(&mut again_plugin, &again_plan, values.len());
                assert_eq!((again.rows.len(), again.codes()), (values.len(), vec![]));
            }
        }
        // Alone in a fresh instance, and in the opposite order.
        let lone = dice.roll(BATCH);
        let alone = outcomes(&bench(&messages[lone..=lone]).run::<Flatten>(1), 1);
        assert_eq!(alone[0], together[lone]);
        let turned: Vec<Option<&[u8]>> = messages.iter().rev().copied().collect();
        let mut turned = outcomes(&bench(&turned).batch(&mut plugin, &plan, BATCH), BATCH);
        turned.reverse();
        assert_eq!(turned, together);
    }
    assert!(
        rows > ROUNDS / 4 && refused > ROUNDS / 4,
        "{rows} rows, {refused} refusals"
    );
}
