//! Seeded mutation of good messages: no panic, every message accounted for, and the same rows however it is batched.
use weir_sdk::Transform;
use weir_sdk::testing::{Bench, Table};
use xml_flatten::Flatten;

const SEEDS: [&str; 4] = [
    include_str!("../testdata/library.xml"),
    "<l><book><record_id>1</record_id><t>a</t><t>b</t><publication_year>5</publication_year></book><book/></l>",
    "<book a='1' b=\"2\">x&amp;y<![CDATA[z]]><?p q?><!-- c --><title>&#65;</title></book>",
    "<l>\r\n<x:book xmlns:x='u'><title>\u{e9}\u{1F600}<i>m</i>n</title></x:book></l>",
];
const PIECES: [&str; 16] = [
    "<",
    ">",
    "&",
    "]]>",
    "<![CDATA[",
    "-->",
    "<!--",
    "'",
    "\"",
    "/",
    "=",
    "\r",
    "\0",
    "<book>",
    "</book>",
    "é",
];
const ROUNDS: usize = 20_000;
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
        match self.roll(16) {
            0 => {
                let units = String::from_utf8_lossy(&text);
                let units = "\u{FEFF}".encode_utf16().chain(units.encode_utf16());
                let order = [u16::to_le_bytes, u16::to_be_bytes][self.roll(2)];
                text = units.flat_map(order).collect();
            }
            1 => drop(text.splice(0..0, *b"<?xml version='1.0' encoding='windows-1252'?>")),
            _ => {}
        }
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
        .key("row-tag", "book")
        .key(
            "columns",
            "record_id,title,author/name,@a,t,publication_year",
        )
        .key("types.publication_year", "int")
        .key("repeat.t", "explode")
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
    for _ in 0..ROUNDS / BATCH {
        let mutants: Vec<Vec<u8>> = (0..BATCH).map(|_| dice.mutant()).collect();
        let messages: Vec<Option<&[u8]>> = mutants.iter().map(|m| Some(m.as_slice())).collect();
        let together = outcomes(&bench(&messages).batch(&mut plugin, &plan, BATCH), BATCH);
        for (message, outcome) in messages.iter().zip(&together) {
            assert!(
                !outcome.is_empty(),
                "lost: {:?}",
                message.map(String::from_utf8_lossy)
            );
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
}

/// With a wildcard and an index another walk reads the message: the other columns must not notice.
#[test]
fn a_wildcard_changes_nothing_of_the_other_columns() {
    let mut dice = Dice(0xCAFE);
    let (mut plain, plan) = bench(&[]).init::<Flatten>();
    let wide = |messages: &[Option<&[u8]>]| {
        let columns = "record_id,title,author/name,@a,t,publication_year,author[7]/name";
        let wide = bench(messages).key("columns", columns);
        wide.key("wildcard", "rest")
    };
    let (mut full, full_plan) = wide(&[]).init::<Flatten>();
    let mut rests = 0;
    for _ in 0..ROUNDS / BATCH {
        let mutants: Vec<Vec<u8>> = (0..BATCH).map(|_| dice.mutant()).collect();
        let messages: Vec<Option<&[u8]>> = mutants.iter().map(|m| Some(m.as_slice())).collect();
        let mut found = wide(&messages).batch(&mut full, &full_plan, BATCH);
        found.names.truncate(6);
        for row in &mut found.rows {
            rests += usize::from(row[7].is_some());
            row.truncate(6);
        }
        assert_eq!(found, bench(&messages).batch(&mut plain, &plan, BATCH));
    }
    assert!(rests > ROUNDS / 10, "{rests}");
}

#[test]
fn refused_pieces_and_rows_share_one_numbering() {
    let rows: String = (0..10)
        .map(|n| {
            format!(
                "<book><publication_year>{}</publication_year></book>",
                if n % 3 == 0 { "x" } else { "1" }
            )
        })
        .collect();
    let text = format!("<l>{rows}</l>");
    let table = bench(&[Some(text.as_bytes())]).run::<Flatten>(1);
    let parts: Vec<u32> = table.rejects.iter().filter_map(|r| r.part).collect();
    assert_eq!(parts, [0, 3, 6, 9]);
    assert_eq!(table.rows.len() + parts.len(), 10);
}

#[test]
fn equal_setups_give_equal_plans() {
    let setup = bench(&[]).setup();
    let plans: Vec<_> = (0..3).map(|_| Flatten::init(&setup).unwrap().1).collect();
    assert!(plans.windows(2).all(|pair| pair[0] == pair[1]));
}
