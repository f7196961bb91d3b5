//! PROCESSED: the same winners however rows are divided into batches, sorted files per date, sidecars with exactly the
//! keys.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::{Int64Array, TimestampMicrosecondArray};
use arrow_select::take::take_record_batch;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::commit::Role;
use crate::error::{Error, Kind};
use crate::zone::schema::system_fields;
use crate::zone::*;

/// A row of RAW: where it is, and what it says. Its version is `offset / 10`, so that batches can be cut there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct In {
    offset: i64,
    partition: i32,
    row: i32,
    id: Option<String>,
    day: Option<u8>,
}

fn schema() -> SchemaRef {
    let own = [("id", true), ("day", true)]
        .map(|(n, null)| Arc::new(Field::new(n, DataType::Utf8, null)));
    Arc::new(Schema::new([own.to_vec(), system_fields()].concat()))
}

fn rows(partition: i32, rows: &[&In]) -> Rows {
    let text = |f: &dyn Fn(&In) -> Option<String>| -> ArrayRef {
        Arc::new(StringArray::from_iter(rows.iter().map(|r| f(r))))
    };
    let columns: Vec<ArrayRef> = vec![
        text(&|r| r.id.clone()),
        text(&|r| r.day.map(|d| format!("2024-03-{d:02}"))),
        text(&|_| Some("books".into())),
        Arc::new(Int32Array::from(vec![partition; rows.len()])),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.offset))),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.row))),
        Arc::new(TimestampMicrosecondArray::from(vec![1; rows.len()]).with_timezone("UTC")),
    ];
    let batch = RecordBatch::try_new(schema(), columns).expect("rows");
    Rows {
        split: split("books", partition),
        batch,
    }
}

fn options(lookback_days: u32) -> ProcessedOptions {
    ProcessedOptions {
        name: LogName::new("books", "processed"),
        table: "books".into(),
        partition: Some(PartitionBy {
            field: "day".into(),
            format: PartitionFormat::Day,
            name: "date".into(),
        }),
        dedup: vec!["id".into()],
        lookback_days,
        sort: Vec::new(),
        parquet: ParquetOptions::default(),
        target_bytes: 128 << 20,
    }
}

fn version(_: &SplitId, offset: i64) -> Option<u64> {
    u64::try_from(offset / 10).ok()
}

/// Runs one batch over what is live, and adds its files.
fn run(
    store: &Arc<dyn Store>,
    options: &ProcessedOptions,
    input: &[&In],
    live: &mut Vec<AddedFile>,
) -> Result<BTreeMap<SplitId, Ledger>, Error> {
    let mut batch = ProcessedBatch::new(store.clone(), options.clone(), schema())?;
    for piece in input.chunks(7) {
        for partition in [1, 0, 10, 9] {
            let part: Vec<&In> = piece
                .iter()
                .filter(|r| r.partition == partition)
                .copied()
                .collect();
            if !part.is_empty() {
                batch.push(rows(partition, &part))?;
            }
        }
    }
    let done = batch.finish(live, &version)?;
    live.extend(publish(store, &options.name, done.files));
    Ok(done.ledgers)
}

type Coordinates = BTreeSet<(i32, i64, i32)>;

fn written(store: &Arc<dyn Store>, name: &LogName, live: &[AddedFile]) -> Coordinates {
    use arrow_array::types::Int32Type;
    let mut found = Coordinates::new();
    for file in live.iter().filter(|f| f.role == Role::Rows) {
        for batch in read_file(store, name, file).expect("opened") {
            let batch = batch.expect("read");
            let ints = |name: &str| {
                let column = batch.column_by_name(name).expect("column");
                column.as_primitive::<Int32Type>().values().to_vec()
            };
            let (partitions, pieces) = (ints("_partition"), ints("_row"));
            for (i, offset) in offsets(&batch).into_iter().enumerate() {
                assert!(
                    found.insert((partitions[i], offset, pieces[i])),
                    "a row twice"
                );
            }
        }
    }
    found
}

/// Finds the rows that must win, one by one.
fn oracle(input: &[In], lookback: u8) -> Coordinates {
    let mut sorted: Vec<&In> = input.iter().collect();
    sorted.sort_by_key(|r| (r.offset / 10, r.partition, r.offset, r.row));
    let mut winners: Vec<&In> = Vec::new();
    for row in sorted {
        let near = |w: &In| match (w.day, row.day) {
            (Some(a), Some(b)) => a.abs_diff(b) <= lookback,
            (a, b) => a == b,
        };
        let beaten = row.id.is_some() && winners.iter().any(|w| w.id == row.id && near(w));
        if !beaten {
            winners.push(row);
        }
    }
    winners
        .iter()
        .map(|r| (r.partition, r.offset, r.row))
        .collect()
}

fn random_rows(rng: &mut SmallRng, offsets: i64) -> Vec<In> {
    let mut rows = Vec::new();
    for partition in [0, 1, 9, 10] {
        for offset in 0..offsets {
            for row in 0..rng.random_range(0..3) {
                let id = rng
                    .random_bool(0.95)
                    .then(|| format!("bk{}", rng.random_range(0..40)));
                let day = rng.random_bool(0.95).then(|| rng.random_range(1..6));
                rows.push(In {
                    offset,
                    partition,
                    row,
                    id,
                    day,
                });
            }
        }
    }
    rows
}

#[test]
fn the_winners_do_not_depend_on_order_or_batches() {
    for seed in 0..12 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut input = random_rows(&mut rng, 40);
        for lookback in [0, 1, 3] {
            let expected = oracle(&input, lookback);
            for cuts in [vec![40], vec![20, 40], vec![10, 20, 30, 40], vec![30, 40]] {
                let (store, mut live) = (memory(), Vec::new());
                let options = options(lookback.into());
                input.shuffle(&mut rng);
                let (mut from, mut total) = (0, Ledger::default());
                for to in cuts {
                    let part: Vec<&In> = input
                        .iter()
                        .filter(|r| (from..to).contains(&r.offset))
                        .collect();
                    let ledgers = run(&store, &options, &part, &mut live).expect("ran");
                    ledgers.values().for_each(|ledger| total.add(ledger));
                    from = to;
                }
                assert_eq!(
                    written(&store, &options.name, &live),
                    expected,
                    "seed {seed} {lookback}"
                );
                assert!(total.closes());
                assert_eq!(total.rows.made, input.len() as u64);
                assert_eq!(total.rows.written, expected.len() as u64);
                let records: BTreeSet<_> = input.iter().map(|r| (r.partition, r.offset)).collect();
                let kept: BTreeSet<_> = expected.iter().map(|(p, o, _)| (*p, *o)).collect();
                assert_eq!(total.records.read, records.len() as u64);
                assert_eq!(total.records.with_rows, kept.len() as u64);
            }
        }
    }
}

fn row(offset: i64, id: &str, day: u8) -> In {
    In {
        offset,
        partition: 0,
        row: 0,
        id: Some(id.into()),
        day: Some(day),
    }
}

#[test]
fn files_are_sorted_partitioned_and_have_their_keys() {
    let (store, mut live) = (memory(), Vec::new());
    let input = [
        row(1, "c", 1),
        row(2, "a", 1),
        row(3, "b", 2),
        row(4, "a", 1),
        In {
            day: None,
            ..row(5, "z", 1)
        },
    ];
    let ledgers = run(&store, &options(0), &input.each_ref(), &mut live).expect("ran");
    assert_eq!(ledgers[&split("books", 0)].rows.duplicates, 1);
    let paths: Vec<&str> = live.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(paths.len(), 6);
    assert!(
        paths[0].starts_with("books/date=__HIVE_DEFAULT_PARTITION__/"),
        "{paths:?}"
    );
    assert!(paths[2].starts_with("books/date=2024-03-01/") && paths[2].ends_with(".parquet"));
    assert!(paths[3].starts_with("_system/books/processed/keys/"));
    assert_eq!(live[2].keys.as_ref(), Some(&live[3].id));
    assert_eq!(live[2].partition_values["date"], "2024-03-01");
    assert_eq!(
        (live[2].rows, live[3].rows, live[3].role),
        (2, 2, Role::Keys)
    );
    assert_eq!((live[2].ranges[0].from, live[2].ranges[0].to), (1, 3));
    let name = options(0).name;
    let batches: Vec<_> = read_file(&store, &name, &live[2])
        .expect("opened")
        .collect();
    assert_eq!(text(batches[0].as_ref().expect("read"), "id"), ["a", "c"]);
    for file in &live {
        assert_eq!(verify_file(&store, &name, file).expect("read"), [""; 0]);
    }
}

#[test]
fn a_column_named_as_the_partition_stands_in_the_path_only() {
    let (store, mut live) = (memory(), Vec::new());
    let mut options = options(0);
    options.partition.as_mut().expect("by day").name = "day".into();
    run(&store, &options, &[&row(1, "a", 1)], &mut live).expect("ran");
    let file = read_file(&store, &options.name, &live[0]).expect("opened");
    assert!(
        file.schema().field_with_name("day").is_err() && live[0].path.contains("/day=2024-03-01/")
    );
    options.partition.as_mut().expect("by day").name = "id".into();
    let error = ProcessedBatch::new(store, options, schema()).expect_err("another column");
    assert!(
        error.to_string().contains("sink.partition.name `id`"),
        "{error}"
    );
}

#[test]
fn options_that_do_not_fit_name_the_key_and_the_column() {
    let build = |change: &dyn Fn(&mut ProcessedOptions)| {
        let mut options = options(0);
        change(&mut options);
        let error = ProcessedBatch::new(memory(), options, schema()).expect_err("does not fit");
        assert_eq!(error.kind(), Kind::ConfigInvalid);
        error.to_string()
    };
    assert!(build(&|o| o.dedup = vec!["isbn".into()]).contains("sink.dedup.key names `isbn`"));
    assert!(build(&|o| o.sort = vec!["isbn".into()]).contains("sink.sort names `isbn`"));
    let field = |o: &mut ProcessedOptions, name: &str| {
        o.partition.as_mut().expect("by day").field = name.into();
    };
    assert!(build(&|o| field(o, "when")).contains("sink.partition.field names `when`"));
    assert!(build(&|o| field(o, "_offset")).contains("`_offset` is Int64"));
}

#[test]
fn big_partitions_become_several_sorted_files() {
    let (store, mut live) = (memory(), Vec::new());
    let mut rng = SmallRng::seed_from_u64(1);
    let mut ids: Vec<i64> = (0..50_000).collect();
    ids.shuffle(&mut rng);
    let input: Vec<In> = ids
        .iter()
        .enumerate()
        .map(|(i, id)| row(i as i64, &format!("{id:08}"), 1))
        .collect();
    let options = ProcessedOptions {
        target_bytes: 100_000,
        ..options(0)
    };
    let mut batch = ProcessedBatch::new(store.clone(), options.clone(), schema()).expect("fits");
    for part in input.chunks(8192) {
        batch
            .push(rows(0, &part.iter().collect::<Vec<_>>()))
            .expect("pushed");
    }
    assert!(batch.memory() > 50_000 * 40 && batch.len() == 50_000);
    let done = batch.finish(&[], &version).expect("finished");
    live.extend(publish(&store, &options.name, done.files));
    let files: Vec<_> = live.iter().filter(|f| f.role == Role::Rows).collect();
    assert!(files.len() > 2, "{} files", files.len());
    let mut last = String::new();
    for file in files {
        for batch in read_file(&store, &options.name, file).expect("opened") {
            for id in text(&batch.expect("read"), "id") {
                assert!(id > last, "sorted over all files");
                last = id;
            }
        }
    }
    // The same rows again: every key is found in one of the sidecars.
    let again: Vec<In> = input
        .iter()
        .map(|r| In {
            offset: r.offset + 100_000,
            ..r.clone()
        })
        .collect();
    let before = live.len();
    let ledgers = run(
        &store,
        &options,
        &again.iter().collect::<Vec<_>>(),
        &mut live,
    )
    .expect("ran");
    assert_eq!(ledgers[&split("books", 0)].rows.duplicates, 50_000);
    assert_eq!(live.len(), before, "nothing to write");
}

#[test]
fn what_stands_in_the_way_of_exactness_stops_the_batch() {
    let (store, mut live) = (memory(), Vec::new());
    run(
        &store,
        &options(0),
        &[&row(1, "a", 1), &row(2, "b", 9)],
        &mut live,
    )
    .expect("ran");
    let fails = |options: &ProcessedOptions, live: &[AddedFile]| {
        run(&store, options, &[&row(20, "a", 1)], &mut live.to_vec()).expect_err("refused")
    };
    // The sidecar of the touched date is damaged; the other date's is not looked at.
    let keys = live[1].path.clone();
    let good = store.get(&keys).expect("get").expect("there").to_vec();
    let mut bad = good.clone();
    bad[40] ^= 1;
    store.delete(&keys).expect("deleted");
    store.create(&keys, &bad).expect("created");
    let error = fails(&options(0), &live);
    assert!(
        error.kind() == Kind::LogCorrupt && error.to_string().contains(&keys),
        "{error}"
    );
    run(&store, &options(0), &[&row(20, "a", 9)], &mut live.clone()).expect("another date");
    store.delete(&keys).expect("deleted");
    assert_eq!(fails(&options(0), &live).kind(), Kind::LogCorrupt);
    store.create(&keys, &good).expect("created");
    let other_key = ProcessedOptions {
        dedup: vec!["day".into()],
        ..options(0)
    };
    assert!(
        fails(&other_key, &live)
            .to_string()
            .contains("deduplicated by other columns")
    );
    let mut other_name = options(0);
    other_name.partition.as_mut().expect("by day").name = "d".into();
    assert!(
        fails(&other_name, &live)
            .to_string()
            .contains("not partitioned by `d`")
    );
    let without: Vec<AddedFile> = live
        .iter()
        .filter(|f| f.role == Role::Rows)
        .cloned()
        .collect();
    assert!(
        fails(&options(0), &without)
            .to_string()
            .contains("no key sidecar")
    );
    let mut batch = ProcessedBatch::new(store.clone(), options(0), schema()).expect("fits");
    batch.push(rows(0, &[&row(20, "a", 1)])).expect("pushed");
    let error = batch.finish(&live, &|_, _| None).expect_err("no version");
    assert_eq!(error.kind(), Kind::LogCorrupt);
}

#[test]
fn without_partition_and_key_rows_stay_in_log_order() {
    let (store, mut live) = (memory(), Vec::new());
    let options = ProcessedOptions {
        partition: None,
        dedup: Vec::new(),
        ..options(0)
    };
    let part = |partition, offset| In {
        partition,
        ..row(offset, "x", 1)
    };
    let input = [part(10, 3), part(9, 4), part(0, 12), part(10, 2)];
    run(&store, &options, &input.each_ref(), &mut live).expect("ran");
    assert_eq!(live.len(), 1);
    let batches: Vec<_> = read_file(&store, &options.name, &live[0])
        .expect("opened")
        .collect();
    let batch = batches[0].as_ref().expect("read");
    assert_eq!(
        offsets(batch),
        [4, 2, 3, 12],
        "version, topic, partition by number, offset"
    );
    let reversed =
        take_record_batch(batch, &arrow_array::UInt64Array::from(vec![3, 2, 1, 0])).expect("take");
    let mut digest = RowDigest::new(&batch.schema());
    digest.add_batch(&reversed).expect("supported");
    assert_eq!(digest.text(), live[0].row_digest);
}

#[test]
fn a_range_without_rows_is_an_empty_batch() {
    let (store, mut live) = (memory(), Vec::new());
    run(&store, &options(0), &[&row(1, "a", 1)], &mut live).expect("ran");
    let range = SplitRange {
        split: split("books", 7),
        topic: "books".into(),
        partition: 7,
        from: 0,
        to: 9,
    };
    let fitting = Fitting::of(&[]).expect("nothing to fit");
    let reader = read_rows(&store, &options(0).name, &live, &[range], fitting);
    let batch =
        ProcessedBatch::new(store, options(0), reader.schema().clone()).expect("no columns");
    assert_eq!(reader.count(), 0);
    let done = batch.finish(&live, &version).expect("finished");
    assert!(done.files.is_empty() && done.ledgers.is_empty());
}

#[test]
fn the_lookback_reaches_dates_that_the_batch_does_not_touch() {
    for (lookback, expected) in [(0, 2), (1, 2), (2, 1)] {
        let (store, mut live) = (memory(), Vec::new());
        let options = options(lookback);
        run(&store, &options, &[&row(1, "a", 3)], &mut live).expect("ran");
        run(&store, &options, &[&row(10, "a", 1)], &mut live).expect("ran");
        let found = written(&store, &options.name, &live).len();
        assert_eq!(found, expected, "lookback of {lookback} days");
    }
}
