//! Zones are written and read back through a store: tests what each file promises, and what is refused when it is
//! broken.

mod archive;
mod compact;
mod format;
mod letters;
mod processed;
mod raw;
mod sidecar;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::chain::{Applied, Column, DeadLetter, Identity, Ledger, Reason, Table};
use crate::commit::{AddedFile, LogName};
use crate::record::{Batch, BatchBuilder, Covers, OffsetRange, SplitId, TopicPartition};
use crate::sink::Finish;
use crate::store::{self, Published, Store};

/// A store of its own for each test.
pub fn memory() -> Arc<dyn Store> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::SeqCst);
    store::open_url(&format!("memory:zone-{n}")).expect("a memory store")
}

pub fn log() -> LogName {
    LogName::new("books", "raw")
}

pub fn split(topic: &str, partition: i32) -> SplitId {
    SplitId::kafka("c", topic, partition)
}

pub fn covers(topic: &str, partition: i32, from: i64, to: i64) -> Covers {
    Covers {
        split: split(topic, partition),
        epoch: 0,
        tp: TopicPartition {
            topic: topic.into(),
            partition,
        },
        range: OffsetRange { from, to },
    }
}

/// Records `from..to`, value `v<offset>`, no holes.
pub fn records(topic: &str, partition: i32, from: i64, to: i64) -> Batch {
    let mut builder = BatchBuilder::new();
    for offset in from..to {
        let value = format!("v{offset}");
        let header = [("n", Some(&b"1"[..]))];
        let headers = header.into_iter().take((offset % 2) as usize);
        builder.push(offset, Some(offset), None, Some(value.as_bytes()), headers);
    }
    builder.finish(covers(topic, partition, from, to))
}

pub fn books_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("year", DataType::Int32, true),
        Field::new("kind", DataType::Utf8, false),
    ]))
}

pub fn identity() -> Arc<Identity> {
    Arc::new(Identity {
        transform: "rules".into(),
        plugin: "validate".into(),
        version: "0.1.0".into(),
        digest: "sha256:aa".into(),
        config_digest: "sha256:bb".into(),
    })
}

/// Two rows per record. The first row of every tenth offset is refused, and records at offsets divisible by 7 are
/// refused whole.
pub fn apply(batch: &Batch) -> Applied {
    let (mut record, mut piece, mut letters) = (Vec::new(), Vec::new(), Vec::new());
    let mut ledger = Ledger::default();
    let reason = |code: &str| Reason {
        code: code.into(),
        field: None,
        message: "no".into(),
    };
    let mut refuse = |record, piece, code| {
        letters.push(DeadLetter {
            record,
            piece,
            by: identity(),
            reasons: vec![reason(code)],
        });
    };
    for i in 0..batch.len() as u32 {
        let offset = batch.offset.value(i as usize);
        ledger.records.read += 1;
        if offset % 7 == 0 {
            refuse(i, None, "bad_xml");
            ledger.records.refused += 1;
            ledger.dead_letters += 1;
            continue;
        }
        ledger.records.with_rows += 1;
        ledger.rows.made += 2;
        for p in 0..2 {
            if p == 0 && offset % 10 == 0 {
                refuse(i, Some(p), "bad_year");
                ledger.records.refused_in_part += 1;
                ledger.rows.refused += 1;
                ledger.dead_letters += 1;
            } else {
                record.push(i);
                piece.push(p);
                ledger.rows.written += 1;
            }
        }
    }
    let id = |r: &u32| format!("bk{}", batch.offset.value(*r as usize));
    let year = |r: &u32| {
        i32::try_from(batch.offset.value(*r as usize) % 30)
            .ok()
            .map(|y| 1990 + y)
    };
    let varying = |values: ArrayRef| Column {
        values,
        constant: false,
    };
    let columns = vec![
        varying(Arc::new(StringArray::from_iter_values(
            record.iter().map(id),
        ))),
        varying(Arc::new(Int32Array::from_iter(record.iter().map(year)))),
        Column {
            values: Arc::new(StringArray::from(vec!["book"])),
            constant: true,
        },
    ];
    let table = Table {
        schema: books_schema(),
        rows: record.len(),
        columns,
    };
    let counters = vec![("rules".to_owned(), "seen".to_owned(), batch.len() as u64)];
    Applied {
        table,
        record,
        piece,
        dead_letters: letters,
        ledger,
        counters,
        rules: "".into(),
    }
}

/// Where a store that renames holds a file before it is published.
pub fn staging(file: &str) -> String {
    format!("{}/staging/{file}", log().dir())
}

/// Makes a file durable and publishes it, as the committer does after the entry.
pub fn publish(
    store: &Arc<dyn Store>,
    name: &LogName,
    files: Vec<Box<dyn Finish>>,
) -> Vec<AddedFile> {
    let files = files.into_iter().map(|file| {
        let added = file.finish().expect("durable");
        let published = store.publish(&added.place(name), &added.seal());
        assert!(matches!(published, Ok(Published::Done)));
        added
    });
    files.collect()
}

pub fn text(batch: &RecordBatch, column: &str) -> Vec<String> {
    let column = batch.column_by_name(column).expect("column");
    let strings = column.as_string::<i32>();
    (0..column.len())
        .map(|i| strings.value(i).to_owned())
        .collect()
}

pub fn offsets(batch: &RecordBatch) -> Vec<i64> {
    let column = batch.column_by_name("_offset").expect("_offset");
    column.as_primitive::<Int64Type>().values().to_vec()
}
