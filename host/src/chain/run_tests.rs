//! Ledgers close and identities are right, for hand-made and for random transforms.

use arrow_array::{Array, Int64Array, UInt32Array};
use arrow_schema::SchemaRef;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::chain::MAX_LETTERS;
use crate::record::{BatchBuilder, Covers, OFFSET, OffsetRange, SplitId, TopicPartition};

type Verdicts = Box<dyn FnMut(usize) -> (Option<Vec<u32>>, Vec<Reject>) + Send>;

/// Passes on every column, under a row map that a closure chooses.
struct Fake {
    identity: Identity,
    schema: SchemaRef,
    explodes: bool,
    verdicts: Verdicts,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.identity)
    }
}

impl Transform for Fake {
    fn identity(&self) -> &Identity {
        &self.identity
    }
    fn output_schema(&self) -> &SchemaRef {
        &self.schema
    }
    fn explodes(&self) -> bool {
        self.explodes
    }
    fn counters(&self) -> &[String] {
        &[]
    }
    fn apply(&mut self, input: &Table) -> Result<Output> {
        let (origin, rejects) = (self.verdicts)(input.rows);
        let Some(origin) = origin else {
            return Ok(Output {
                rows: RowMap::Every,
                table: input.clone(),
                rejects,
                counters: vec![],
            });
        };
        let picks = UInt32Array::from(origin.clone());
        let carried = (input.schema.fields().iter().zip(&input.columns))
            .filter(|(field, _)| self.schema.column_with_name(field.name()).is_some());
        let columns = carried.map(|(_, c)| match c.constant {
            true => c.clone(),
            false => Column {
                values: arrow_select::take::take(&c.values, &picks, None).unwrap(),
                constant: false,
            },
        });
        let table = Table {
            schema: self.schema.clone(),
            rows: origin.len(),
            columns: columns.collect(),
        };
        Ok(Output {
            rows: RowMap::Origin(origin),
            table,
            rejects,
            counters: vec![],
        })
    }
}

fn fake(
    name: &str,
    explodes: bool,
    verdicts: impl FnMut(usize) -> (Option<Vec<u32>>, Vec<Reject>) + Send + 'static,
) -> Box<dyn Transform> {
    Box::new(faked(name, explodes, verdicts))
}

fn faked(
    name: &str,
    explodes: bool,
    verdicts: impl FnMut(usize) -> (Option<Vec<u32>>, Vec<Reject>) + Send + 'static,
) -> Fake {
    Fake {
        identity: Identity {
            transform: name.into(),
            plugin: name.into(),
            version: "0.1.0".into(),
            digest: "sha256:0".into(),
            config_digest: "sha256:1".into(),
        },
        schema: input_schema(),
        explodes,
        verdicts: Box::new(verdicts),
    }
}

fn reject(row: u32, part: Option<u32>, code: &str) -> Reject {
    Reject {
        row,
        part,
        code: code.into(),
        field: None,
        message: format!("{code} in {row}"),
    }
}

/// Offsets 10, 11, …
fn batch(records: usize) -> Batch {
    let mut builder = BatchBuilder::new();
    for i in 0..records {
        builder.push(10 + i as i64, None, None, Some(b"x"), std::iter::empty());
    }
    builder.finish(Covers {
        split: SplitId::kafka("c", "t", 0),
        epoch: 0,
        tp: TopicPartition {
            topic: "t".into(),
            partition: 0,
        },
        range: OffsetRange {
            from: 10,
            to: 10 + records as i64,
        },
    })
}

fn offsets(applied: &Applied) -> Vec<(i64, u32)> {
    let at = input_schema().index_of(crate::record::OFFSET).unwrap();
    let column = applied.table.columns[at]
        .values
        .as_any()
        .downcast_ref::<Int64Array>()
        .unwrap();
    column
        .values()
        .iter()
        .copied()
        .zip(applied.piece.iter().copied())
        .collect()
}

#[test]
fn refused_pieces_keep_their_numbers() {
    // Record 0 becomes pieces 0, 1, 2 of which 1 is refused; record 1 is refused whole; record 2 is filtered.
    let flatten = fake("flatten", true, |_| {
        (
            Some(vec![0, 0, 3]),
            vec![reject(0, Some(1), "bad"), reject(1, None, "broken")],
        )
    });
    // Its row 1 is piece 2 of record 0.
    let rules = fake("rules", false, |rows| {
        assert_eq!(rows, 3);
        (
            Some(vec![0, 2]),
            vec![reject(1, None, "range"), reject(1, None, "length")],
        )
    });
    let mut chain = TransformChain::new(vec![flatten, rules], Unit::Row).unwrap();
    let applied = chain.apply(&batch(4)).unwrap();
    assert_eq!(offsets(&applied), [(10, 0), (13, 0)]);
    assert_eq!(applied.record, [0, 3]);
    let letters: Vec<_> = applied
        .dead_letters
        .iter()
        .map(|l| (l.record, l.piece, l.reasons.len()))
        .collect();
    assert_eq!(letters, [(0, Some(1), 1), (0, Some(2), 2), (1, None, 1)]);
    let Ledger {
        records,
        rows,
        dead_letters: letters,
    } = applied.ledger;
    assert_eq!(
        (
            records.read,
            records.with_rows,
            records.refused,
            records.filtered
        ),
        (4, 2, 1, 1)
    );
    assert_eq!(records.refused_in_part, 1);
    assert_eq!(
        (rows.made, rows.written, rows.refused, rows.filtered),
        (4, 2, 2, 0)
    );
    assert_eq!(letters, 3);
}

#[test]
fn unit_record_refuses_the_siblings_too() {
    let flatten = fake("flatten", true, |_| {
        (Some(vec![0, 0, 1]), vec![reject(0, Some(2), "bad")])
    });
    let mut chain = TransformChain::new(vec![flatten], Unit::Record).unwrap();
    let applied = chain.apply(&batch(2)).unwrap();
    assert_eq!(offsets(&applied), [(11, 0)]);
    assert_eq!(applied.dead_letters.len(), 1);
    assert_eq!(applied.dead_letters[0].piece, None);
    assert_eq!(
        applied.dead_letters[0].reasons[0].message,
        "piece 2: bad in 0"
    );
    let Ledger { records, rows, .. } = applied.ledger;
    assert_eq!(
        (records.with_rows, records.refused, records.refused_in_part),
        (1, 1, 0)
    );
    assert_eq!((rows.made, rows.written, rows.refused), (4, 1, 3));
}

#[test]
fn a_record_with_too_many_refused_pieces_is_refused_once() {
    let explode = |pieces: usize| {
        fake("flatten", true, move |_| {
            let refused = (0..pieces).map(|k| reject(0, Some(k as u32), "bad"));
            // One good piece of record 0, after the bad ones; record 1 is good.
            (Some(vec![0, 1]), refused.collect())
        })
    };
    let mut chain = TransformChain::new(vec![explode(MAX_LETTERS)], Unit::Row).unwrap();
    let applied = chain.apply(&batch(2)).unwrap();
    assert_eq!(offsets(&applied), [(10, MAX_LETTERS as u32), (11, 0)]);
    assert_eq!(applied.dead_letters.len(), MAX_LETTERS);

    let mut chain = TransformChain::new(vec![explode(MAX_LETTERS + 1)], Unit::Row).unwrap();
    let applied = chain.apply(&batch(2)).unwrap();
    assert_eq!(offsets(&applied), [(11, 0)], "its neighbour goes on");
    let [letter] = &applied.dead_letters[..] else {
        panic!("{} letters", applied.dead_letters.len())
    };
    assert_eq!((letter.record, letter.piece), (0, None));
    let told: Vec<_> = letter.reasons.iter().map(|r| r.code.as_str()).collect();
    assert_eq!(told, ["too_many_rejects", "bad"]);
    let message = &letter.reasons[0].message;
    assert!(
        message.contains("10001 pieces") && message.contains("at most 10000"),
        "{message}"
    );
    let Ledger {
        records,
        rows,
        dead_letters: letters,
    } = applied.ledger;
    assert_eq!((records.with_rows, records.refused, letters), (1, 1, 1));
    assert_eq!((rows.made, rows.written, rows.refused), (10_003, 1, 10_002));
}

#[test]
fn bytes_that_are_kept_beside_each_row_are_bounded() {
    // A message of 200 KiB and one of 2 bytes, two thousand rows each.
    let value = vec![b'x'; 200 << 10];
    let mut builder = BatchBuilder::new();
    builder.push(10, None, None, Some(&value), std::iter::empty());
    builder.push(11, None, None, Some(b"xy"), std::iter::empty());
    let mut batch = builder.finish(batch(2).covers);
    batch.covers.range.to = 12;
    let chain = || {
        let mut thousands = faked("flatten", true, |_| {
            let rows = [vec![0; 2_000], vec![1; 2_000]].concat();
            (Some(rows), Vec::new())
        });
        let offset = input_schema().field_with_name(OFFSET).unwrap().clone();
        thousands.schema = Arc::new(arrow_schema::Schema::new(vec![offset]));
        TransformChain::new(vec![Box::new(thousands)], Unit::Row).unwrap()
    };
    let applied = chain().apply(&batch).unwrap();
    assert_eq!(
        applied.table.rows, 4_000,
        "without sink.keep.value nothing is repeated"
    );

    let applied = chain().keeping_bytes(true).apply(&batch).unwrap();
    assert_eq!(applied.table.rows, 2_000);
    assert!(applied.record.iter().all(|record| *record == 1));
    let [letter] = &applied.dead_letters[..] else {
        panic!("{} letters", applied.dead_letters.len())
    };
    assert_eq!((letter.record, letter.piece), (0, None));
    let reason = &letter.reasons[0];
    assert_eq!(reason.code, "too_many_bytes");
    for part in ["sink.keep.value", "204800 bytes", "2000 rows", "268435456"] {
        assert!(reason.message.contains(part), "{part}: {}", reason.message);
    }
}

#[test]
fn without_an_exploding_transform_a_record_is_a_row() {
    let rules = fake("rules", false, |_| {
        (Some(vec![1]), vec![reject(0, None, "bad")])
    });
    let mut chain = TransformChain::new(vec![rules], Unit::Row).unwrap();
    let applied = chain.apply(&batch(3)).unwrap();
    let Ledger { records, rows, .. } = applied.ledger;
    assert_eq!(
        (records.with_rows, records.refused, records.filtered),
        (1, 1, 1)
    );
    assert_eq!(
        (rows.made, rows.written, rows.refused, rows.filtered),
        (3, 1, 1, 1)
    );
    assert_eq!(applied.dead_letters[0].piece, None);
}

#[test]
fn an_empty_batch_and_an_empty_chain_pass() {
    let mut chain = TransformChain::new(vec![], Unit::Row).unwrap();
    assert_eq!(chain.apply(&batch(0)).unwrap().table.columns.len(), 7);
    assert_eq!(chain.apply(&batch(2)).unwrap().ledger.rows.written, 2);
}

#[test]
fn a_second_exploding_transform_is_refused_by_name() {
    let all = |_| (None, vec![]);
    let error = TransformChain::new(vec![fake("a", true, all), fake("b", true, all)], Unit::Row)
        .unwrap_err();
    assert!(error.to_string().contains("'a' and 'b'"), "{error}");
}

#[test]
fn a_lying_row_map_is_an_error() {
    for origin in [vec![0, 2], vec![1, 0], vec![9]] {
        let lying = fake("lying", false, move |_| (Some(origin.clone()), vec![]));
        let mut chain = TransformChain::new(vec![lying], Unit::Row).unwrap();
        let result =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| chain.apply(&batch(2))));
        // `take` in the fake may refuse the index first; the chain must never accept it.
        assert!(!matches!(result, Ok(Ok(_))));
    }
}

#[test]
fn ledgers_close_for_random_chains() {
    for seed in 0..300 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let explode = rng.random_bool(0.7);
        let first = fake("first", explode, random(seed, explode));
        let second = fake("second", false, random(seed + 1_000, false));
        let unit = if rng.random_bool(0.5) {
            Unit::Row
        } else {
            Unit::Record
        };
        let mut chain = TransformChain::new(vec![first, second], unit).unwrap();
        let applied = chain.apply(&batch(rng.random_range(1..40))).unwrap();
        let mut seen: Vec<(u32, u32)> = applied
            .record
            .iter()
            .copied()
            .zip(applied.piece.iter().copied())
            .collect();
        assert_eq!(seen.len(), applied.table.rows, "seed {seed}");
        seen.extend(
            applied
                .dead_letters
                .iter()
                .filter_map(|l| Some((l.record, l.piece?))),
        );
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all, "seed {seed}: a piece is in two places");
        for (offset, at) in offsets(&applied).iter().zip(&applied.record) {
            assert_eq!(offset.0, 10 + i64::from(*at), "seed {seed}");
        }
    }
}

/// Each row: kept, filtered, refused, or (exploding) several pieces of which some are refused.
fn random(
    seed: u64,
    explode: bool,
) -> impl FnMut(usize) -> (Option<Vec<u32>>, Vec<Reject>) + Send + 'static {
    let mut rng = SmallRng::seed_from_u64(seed);
    move |rows| {
        let mut origin = Vec::new();
        let mut rejects = Vec::new();
        for row in 0..rows as u32 {
            match rng.random_range(0..4) {
                0 => rejects.push(reject(row, None, "whole")),
                1 => {}
                _ if explode => {
                    for part in 0..rng.random_range(1..5) {
                        if rng.random_bool(0.3) {
                            rejects.push(reject(row, Some(part), "piece"));
                        } else {
                            origin.push(row);
                        }
                    }
                }
                _ => origin.push(row),
            }
        }
        (Some(origin), rejects)
    }
}
