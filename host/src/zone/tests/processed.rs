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
use crate::config::{Bucket, SortBy};
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
    let at = PARTITIONS.iter().position(|p| *p == partition);
    Rows {
        splits: vec![at.expect("known") as u32; rows.len()],
        batch,
        file: "a file".into(),
    }
}

/// In no order.
const PARTITIONS: [i32; 4] = [1, 0, 10, 9];

fn of_partition(partition: i32) -> SplitRange {
    SplitRange {
        split: split("books", partition),
        topic: "books".into(),
        partition,
        from: 0,
        to: i64::MAX,
    }
}

fn order() -> LogOrder<'static> {
    LogOrder {
        splits: PARTITIONS.map(of_partition).to_vec(),
        version_of: &|_, offset| u64::try_from(offset / 10).ok(),
    }
}

fn begin(
    store: &Arc<dyn Store>,
    options: &ProcessedOptions,
) -> Result<ProcessedBatch<'static>, Error> {
    ProcessedBatch::new(store.clone(), options.clone(), schema(), order())
}

fn finish(batch: ProcessedBatch<'_>, live: &[AddedFile]) -> Result<Processed, Error> {
    batch.finish(&live.iter().collect::<Vec<_>>(), &|| Ok(()))
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
        bucket: None,
        parquet: ParquetOptions::default(),
        target_bytes: 128 << 20,
        memory: 64 << 20,
        spill: SpillPlace {
            dir: std::env::temp_dir(),
            max_bytes: 1 << 30,
        },
    }
}

/// Runs one batch over what is live, and adds its files.
fn run(
    store: &Arc<dyn Store>,
    options: &ProcessedOptions,
    input: &[&In],
    live: &mut Vec<AddedFile>,
) -> Result<BTreeMap<SplitId, Ledger>, Error> {
    let mut batch = begin(store, options)?;
    for piece in input.chunks(7) {
        for partition in PARTITIONS {
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
    let done = finish(batch, live)?;
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

/// From a few rows in memory, and runs that are merged several times, to all of them.
const MEMORIES: [usize; 4] = [64 << 20, 1_000, 8_000, 60_000];

/// All that the files of a zone say, in their order, without their names: what the entry has, and the rows.
type Contents = Vec<(String, RecordBatch)>;

fn contents(store: &Arc<dyn Store>, name: &LogName, live: &[AddedFile]) -> Contents {
    let of_file = |file: &AddedFile| {
        let rows = read_file(store, name, file).expect("opened");
        let schema = rows.schema().clone();
        let batches: Vec<RecordBatch> = rows.map(|batch| batch.expect("read")).collect();
        let (role, values, ranges) = (file.role, &file.partition_values, &file.ranges);
        let said = format!("{role:?} {values:?} {ranges:?} {}", file.row_digest);
        let rows = arrow_select::concat::concat_batches(&schema, &batches);
        // The file's own name is in its metadata.
        let plain = Arc::new(Schema::new(schema.fields().clone()));
        let columns = rows.expect("one schema").columns().to_vec();
        let rows = RecordBatch::try_new(plain, columns);
        (said, rows.expect("the same columns"))
    };
    live.iter().map(of_file).collect()
}

/// Two batches of random rows, the second over the keys of the first: the same files, rows in the same order, keys and
/// ledgers, whatever is laid aside.
#[test]
fn results_are_the_same_with_many_runs_and_with_one() {
    for seed in 0..8 {
        for lookback in [0, 2] {
            let mut rng = SmallRng::seed_from_u64(100 + seed);
            let mut input = random_rows(&mut rng, 40);
            input.shuffle(&mut rng);
            let mut all = Vec::new();
            for memory_bytes in MEMORIES {
                let (store, mut live) = (memory(), Vec::new());
                let options = ProcessedOptions {
                    memory: memory_bytes,
                    sort: match seed % 3 {
                        0 => [("day", true), ("_timestamp", false)]
                            .map(|(column, descending)| SortBy {
                                column: column.into(),
                                descending,
                            })
                            .to_vec(),
                        _ => Vec::new(),
                    },
                    ..options(lookback)
                };
                let mut ledgers = Vec::new();
                for range in [0..20, 20..40] {
                    let part = input.iter().filter(|r| range.contains(&r.offset));
                    let part: Vec<&In> = part.collect();
                    ledgers.push(run(&store, &options, &part, &mut live).expect("ran"));
                }
                all.push((contents(&store, &options.name, &live), ledgers));
            }
            assert!(all[0].0.len() > 8);
            for (other, bytes) in all.iter().zip(MEMORIES) {
                let case = format!("seed {seed}, {lookback} days, {bytes} bytes");
                for (found, whole) in other.0.iter().zip(&all[0].0) {
                    assert_eq!(found, whole, "{case}");
                }
                assert_eq!(other.0.len(), all[0].0.len(), "{case}");
                assert_eq!(other.1, all[0].1, "{case}");
            }
        }
    }
}

#[test]
fn rows_are_laid_aside_where_memory_is_small_and_nothing_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = |max_bytes| SpillPlace {
        dir: dir.path().join("below"),
        max_bytes,
    };
    let input: Vec<In> = (0..5_000)
        .map(|i| row(i, &format!("{}", i * 7919 % 5_000), (i % 28 + 1) as u8))
        .collect();
    let ran = |memory_bytes, max_bytes| {
        let options = ProcessedOptions {
            memory: memory_bytes,
            spill: place(max_bytes),
            ..options(0)
        };
        let mut batch = begin(&memory(), &options).expect("fits");
        for part in input.chunks(100) {
            batch.push(rows(0, &part.iter().collect::<Vec<_>>()))?;
        }
        finish(batch, &[])
    };
    assert_eq!(ran(64 << 20, 1 << 30).expect("ran").spilled, 0);
    assert!(!dir.path().join("below").exists(), "not even a directory");
    let spilled = ran(100_000, 1 << 30).expect("ran").spilled;
    assert!(spilled > 500_000, "{spilled}");
    let error = ran(100_000, 200_000).expect_err("no room");
    assert_eq!(error.kind(), Kind::StoreUnavailable);
    assert!(error.to_string().contains("spill.max.bytes"), "{error}");
    let left = std::fs::read_dir(dir.path().join("below")).expect("made");
    assert_eq!(left.count(), 0);
}

/// Rows of one day in no order, all of them kept.
fn many(options: &ProcessedOptions, count: i64) -> ProcessedBatch<'static> {
    let input: Vec<In> = (0..count)
        .map(|i| row(i, &format!("{}", i * 7919 % count), 1))
        .collect();
    let mut batch = begin(&memory(), options).expect("fits");
    for part in input.chunks(100) {
        let part: Vec<&In> = part.iter().collect();
        batch.push(rows(0, &part)).expect("pushed");
    }
    batch
}

/// A merge of many runs takes minutes: it is left between two chunks.
#[test]
fn a_stop_is_heard_while_runs_are_merged() {
    const COUNT: i64 = 40_000;
    let options = |max_bytes| ProcessedOptions {
        memory: 100_000,
        dedup: Vec::new(),
        sort: vec![SortBy {
            column: "id".into(),
            descending: false,
        }],
        spill: SpillPlace {
            dir: std::env::temp_dir(),
            max_bytes,
        },
        ..options(0)
    };
    let whole = options(1 << 30);
    let all = finish(many(&whole, COUNT), &[]).expect("ran").spilled;
    // Room for the runs, and not for those that are made of them.
    let tight = options(all / 100 * 55);
    let full = finish(many(&tight, COUNT), &[]).expect_err("no room to merge");
    assert!(full.to_string().contains("spill.max.bytes"), "{full}");
    let stop = || Err(Error::new(Kind::Stopped, "test", "no time"));
    let left = many(&tight, COUNT).finish(&[], &stop).expect_err("left");
    assert_eq!(left.kind(), Kind::Stopped, "{left}");
}

/// A few runs too many do not make all rows go to disk once more.
#[test]
fn only_so_many_runs_are_merged_before_as_are_too_many() {
    let spilled = |count: i64| {
        let options = ProcessedOptions {
            memory: 400_000,
            dedup: Vec::new(),
            sort: vec![SortBy {
                column: "id".into(),
                descending: false,
            }],
            ..options(0)
        };
        let batch = many(&options, count);
        finish(batch, &[]).expect("ran").spilled as f64 / count as f64
    };
    let once = spilled(4_000);
    let found: Vec<f64> = (2..14).map(|k| spilled(k * 4_000) / once).collect();
    // More merges come little by little, and no step is a whole pass.
    let steps = found.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(steps.fold(0.0, f64::max) < 0.5, "{found:?}");
    assert!(found.iter().any(|times| *times > 1.1), "{found:?}");
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
                let mut options = options(lookback.into());
                options.memory = MEMORIES[cuts.len() % MEMORIES.len()];
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
    let error = begin(&store, &options).expect_err("another column");
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
        let error = begin(&memory(), &options).expect_err("does not fit");
        assert_eq!(error.kind(), Kind::ConfigInvalid);
        error.to_string()
    };
    assert!(build(&|o| o.dedup = vec!["isbn".into()]).contains("sink.dedup.key names `isbn`"));
    assert!(
        build(&|o| o.sort = vec![SortBy {
            column: "isbn".into(),
            descending: false
        }])
        .contains("sink.sort names `isbn`")
    );
    let field = |o: &mut ProcessedOptions, name: &str| {
        o.partition.as_mut().expect("by day").field = name.into();
    };
    assert!(build(&|o| field(o, "when")).contains("sink.partition.field names `when`"));
    assert!(build(&|o| field(o, "_offset")).contains("`_offset` is Int64"));
}

/// Rows of one id lie in one bucket of their day, sorted there, whatever was laid aside; keys are found over all buckets.
#[test]
fn buckets_divide_each_partition_and_nothing_else() {
    let mut rng = SmallRng::seed_from_u64(3);
    let mut input = random_rows(&mut rng, 60);
    input.shuffle(&mut rng);
    let input: Vec<&In> = input.iter().collect();
    let mut all = Vec::new();
    for (memory_bytes, column) in [
        (64 << 20, None),
        (64 << 20, Some("id")),
        (1_000, Some("id")),
        (1_000, Some("_partition")),
    ] {
        let (store, mut live) = (memory(), Vec::new());
        let options = ProcessedOptions {
            memory: memory_bytes,
            bucket: column.map(|column| Bucket {
                columns: vec![column.to_owned()],
                count: 3,
            }),
            ..options(2)
        };
        let ledgers = run(&store, &options, &input, &mut live).expect("ran");
        let again: Vec<In> = input
            .iter()
            .map(|r| In {
                offset: r.offset + 100_000,
                ..(*r).clone()
            })
            .collect();
        let again = run(
            &store,
            &options,
            &again.iter().collect::<Vec<_>>(),
            &mut live,
        );
        let again = again.expect("ran");
        let mut of: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for file in live.iter().filter(|f| f.role == Role::Rows) {
            let (_, name) = file.path.rsplit_once('/').expect("a directory");
            let bucket = name.split_once('.').expect("a tail").1;
            let mut last = String::new();
            for batch in read_file(&store, &options.name, file).expect("opened") {
                for id in text(&batch.expect("read"), "id") {
                    assert!(id >= last, "sorted");
                    of.entry(id.clone()).or_default().insert(bucket.to_owned());
                    last = id;
                }
            }
        }
        let names: BTreeSet<&String> = of.values().flatten().collect();
        let apart = of.values().all(|buckets| buckets.len() == 1);
        match column {
            None => assert_eq!(names.into_iter().collect::<Vec<_>>(), ["parquet"]),
            Some("id") => assert!(apart && names.len() == 3, "{of:?}"),
            // Rows of one id come from several partitions.
            Some(_) => {
                assert!(names.iter().all(|n| n.starts_with("bucket_0000")) && names.len() > 1)
            }
        }
        let rows: usize = of.len();
        all.push((ledgers, again, rows));
    }
    assert!(all.iter().all(|other| *other == all[0]), "{all:?}");
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
    let mut batch = begin(&store, &options).expect("fits");
    for part in input.chunks(8192) {
        batch
            .push(rows(0, &part.iter().collect::<Vec<_>>()))
            .expect("pushed");
    }
    assert_eq!(batch.len(), 50_000);
    let done = finish(batch, &[]).expect("finished");
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
    let nowhere = LogOrder {
        version_of: &|_, _| None,
        ..order()
    };
    let batch = ProcessedBatch::new(store.clone(), options(0), schema(), nowhere);
    let pushed = batch.expect("fits").push(rows(0, &[&row(20, "a", 1)]));
    let error = pushed.expect_err("no version");
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
    let batch = ProcessedBatch::new(store, options(0), reader.schema().clone(), order());
    let batch = batch.expect("no columns");
    assert_eq!(reader.count(), 0);
    let done = finish(batch, &live).expect("finished");
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

/// Rows that the rules keep away count in the ledger of their record, wherever its other rows are.
#[test]
fn what_is_left_out_counts_with_its_record() {
    let mut batch = begin(&memory(), &options(0)).expect("batch");
    let piece = |row_number, row: In| In {
        row: row_number,
        ..row
    };
    let kept = [
        row(0, "a", 1),
        row(1, "a", 1),
        piece(2, row(1, "b", 1)),
        row(5, "c", 1),
    ];
    let kept: Vec<&In> = kept.iter().collect();
    batch.push(rows(0, &kept)).expect("pushed");
    let at = 1; // of partition 0
    let out = [
        (at, 1, LeftOut::Refused),
        (at, 2, LeftOut::Filtered),
        (at, 3, LeftOut::Refused),
        (at, 3, LeftOut::Filtered),
    ];
    batch.leave_out(out).expect("left out");
    let done = finish(batch, &[]).expect("finished");
    let ledger = done.ledgers[&split("books", 0)];
    assert!(ledger.closes(), "{ledger:?}");
    let (records, of_rows) = (ledger.records, ledger.rows);
    assert_eq!((records.read, records.with_rows), (5, 3), "{records:?}");
    assert_eq!(
        (records.refused, records.filtered, records.refused_in_part),
        (1, 1, 2)
    );
    assert_eq!(
        (of_rows.made, of_rows.written, of_rows.duplicates),
        (8, 3, 1)
    );
    assert_eq!(
        (of_rows.refused, of_rows.filtered, ledger.dead_letters),
        (2, 2, 2)
    );
}
