//! Dead letters: the bytes of a record are stored once, however many of its pieces were refused.

use std::sync::Arc;

use super::raw::{options, world};
use super::*;
use crate::sink::Sink as _;
use crate::zone::deadletter;
use crate::zone::*;

/// Bytes that no codec makes smaller.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        state = (state.wrapping_mul(6_364_136_223_846_793_005)).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

#[test]
fn a_message_with_ten_thousand_bad_pieces_costs_its_own_size_once() {
    let (message, key, header) = (noise(1 << 20), noise(1 << 10), noise(1 << 10));
    let headers = || [("h", Some(&header[..]))].into_iter();
    let mut builder = BatchBuilder::new();
    builder.push(0, None, Some(b"before"), Some(b"small"), std::iter::empty());
    builder.push(1, None, Some(&key), Some(&message), headers());
    builder.push(2, None, None, Some(b"after"), headers());
    let batch = builder.finish(covers("books", 0, 0, 3));
    let letter = |record: u32, piece: u32| DeadLetter {
        record,
        piece: Some(piece),
        by: identity(),
        reasons: vec![Reason {
            code: "bad_int".into(),
            field: Some("count".into()),
            message: format!("found \"n{piece}\", expected int"),
        }],
    };
    let mut applied = apply(&batch);
    let none = rows_of_none(&mut applied);
    applied.dead_letters = [(0, 1), (1, 9_900), (2, 2)]
        .into_iter()
        .flat_map(|(record, pieces)| (0..pieces).map(move |piece| letter(record, piece)))
        .collect();
    applied.ledger = Ledger {
        dead_letters: applied.dead_letters.len() as u64,
        ..none
    };
    applied.ledger.rows.made = applied.ledger.dead_letters;
    applied.ledger.rows.refused = applied.ledger.dead_letters;
    let mut w = world(options());
    w.sink.write(&batch, applied).expect("written");
    let sealed = w.seal();
    let files = publish(&w.store, &log(), sealed.files);
    let [file] = &files[..] else {
        panic!("{} files", files.len())
    };
    let size = file.bytes as usize;
    assert!(
        (message.len()..message.len() * 5 / 4).contains(&size),
        "{size} bytes for a message of {}",
        message.len()
    );
    assert_eq!(verify_file(&w.store, &log(), file).expect("read"), [""; 0]);

    let name = log();
    let every = deadletter::Filter::default();
    let found: Vec<_> = deadletter::read(&w.store, &name, &files, &every)
        .map(|l| l.expect("read"))
        .collect();
    assert_eq!(found.len(), 9_903);
    for letter in &found {
        let (value, headers) = match letter.offset {
            0 => (&b"small"[..], 0),
            1 => (&message[..], 1),
            _ => (&b"after"[..], 1),
        };
        assert!(
            letter.original.value.as_deref() == Some(value),
            "{}",
            letter.offset
        );
        assert_eq!(letter.original.headers.len(), headers);
    }
    assert!(
        Arc::ptr_eq(&found[1].original, &found[9_900].original),
        "in memory they stand once too"
    );
}

/// Removes the rows, and gives the ledger of records that are all refused.
fn rows_of_none(applied: &mut Applied) -> Ledger {
    applied.table.rows = 0;
    for column in applied.table.columns.iter_mut().filter(|c| !c.constant) {
        column.values = column.values.slice(0, 0);
    }
    applied.record.clear();
    applied.piece.clear();
    let mut ledger = Ledger::default();
    ledger.records.read = applied.ledger.records.read;
    ledger.records.refused = applied.ledger.records.read;
    ledger
}
