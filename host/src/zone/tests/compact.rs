//! Merging files: the same rows in one file, sorted if the inputs are, and nothing is left after a fault.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering as Atomic};

use arrow_array::types::Int32Type;

use super::raw::options;
use super::*;
use crate::commit::{Role, Straddling};
use crate::config::SortBy;
use crate::error::{Error, Kind, Result};
use crate::sink::Sink;
use crate::store::{Fault, FaultStore, Faults, Op, Verb};
use crate::zone::*;

type Inputs = Vec<(AddedFile, Option<AddedFile>)>;

/// Files of RAW, not sorted.
fn raw(store: &Arc<dyn Store>, files: i64) -> Inputs {
    let mut out = Vec::new();
    for n in 0..files {
        let clock = crate::clock::ManualClock::at(1_700_000_000_000_000);
        let base = crate::sink::Base::default();
        let mut sink = ZoneSink::new(store.clone(), clock, options(), base);
        let batch = records("books", (n % 2) as i32, n * 100, n * 100 + 100);
        sink.write(&batch, apply(&batch)).expect("written");
        let sealed = sink.seal().expect("sealed").expect("rows").files;
        let files = publish(store, &log(), sealed);
        let rows = files.into_iter().find(|file| file.role == Role::Rows);
        out.push((rows.expect("rows"), None));
    }
    out
}

fn merge(store: &Arc<dyn Store>, inputs: &Inputs, sort: &[SortBy], group: usize) -> Result<Merged> {
    let parquet = ParquetOptions {
        row_group_bytes: group,
        ..ParquetOptions::default()
    };
    let merge = Merge {
        store,
        name: &log(),
        parquet: &parquet,
        sort,
        memory: 1 << 20,
    };
    merge.write(inputs, &mut || Ok(()), &mut Vec::new())
}

fn by(column: &str, descending: bool) -> SortBy {
    SortBy {
        column: column.to_owned(),
        descending,
    }
}

fn years(store: &Arc<dyn Store>, file: &AddedFile) -> Vec<i32> {
    let mut years = Vec::new();
    for batch in read_file(store, &log(), file).expect("opened") {
        let batch = batch.expect("read");
        let column = batch.column_by_name("year").expect("year");
        years.extend(column.as_primitive::<Int32Type>().values().iter().copied());
    }
    years
}

#[test]
fn a_merged_file_has_the_rows_of_its_inputs_in_their_directory() {
    let store = memory();
    let inputs = raw(&store, 5);
    let merged = merge(&store, &inputs, &[], 1 << 20).expect("merged").rows;
    assert_eq!(merged.rows, inputs.iter().map(|(f, _)| f.rows).sum::<u64>());
    let dir = |file: &AddedFile| file.path.rsplit_once('/').expect("a path").0.to_owned();
    assert_eq!(dir(&merged), dir(&inputs[0].0));
    assert_eq!(merged.schema, inputs[0].0.schema);
    assert_eq!(merged.ranges.len(), 2, "{:?}", merged.ranges);
    let wrong = verify_file(&store, &log(), &merged).expect("read");
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Zones of earlier builds have directories in buckets with longer names than a new one gets. Their files can still be merged, and rows
/// be taken back.
#[test]
fn a_file_in_a_directory_with_a_longer_name_is_written_again() {
    let store = memory();
    let long = format!("t/kind={}", "x".repeat(300));
    let mut inputs: Inputs = Vec::new();
    for n in 0..2 {
        let clock = crate::clock::ManualClock::at(1_700_000_000_000_000);
        let base = crate::sink::Base::default();
        let mut sink = ZoneSink::new(store.clone(), clock, options(), base);
        let batch = records("books", n, 0, 100);
        sink.write(&batch, apply(&batch)).expect("written");
        let sealed = sink.seal().expect("sealed").expect("rows").files;
        let files = sealed
            .into_iter()
            .map(|file| file.finish().expect("durable"));
        let mut rows = files
            .filter(|file| file.role == Role::Rows)
            .collect::<Vec<_>>();
        // It is in staging, and gets its name from the entry.
        let mut file = rows.pop().expect("rows");
        file.path = format!("{long}/{}.parquet", file.id);
        inputs.push((file, None));
    }
    let merged = merge(&store, &inputs, &[], 1 << 20).expect("merged").rows;
    assert!(merged.path.starts_with(&long) && merged.ranges.len() == 2);

    // A rewind of one partition.
    let rest = merged.ranges[..1].to_vec();
    let coordinates = [SplitRange {
        split: rest[0].split.clone(),
        topic: "books".into(),
        partition: 0,
        from: 0,
        to: 100,
    }];
    let straddling = Straddling { file: merged, rest };
    let parquet = ParquetOptions::default();
    let left = write_rest(&store, &log(), &straddling, &coordinates, &parquet).expect("written");
    assert!(left.path.starts_with(&long));
    let published = store.publish(&left.place(&log()), &left.seal());
    assert!(matches!(published, Ok(Published::Done)));
    let wrong = verify_file(&store, &log(), &left).expect("read");
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn rows_are_sorted_by_row_group_where_the_inputs_are_not() {
    let store = memory();
    let inputs = raw(&store, 5);
    let sort = [by("year", true)];
    let merged = merge(&store, &inputs, &sort, 8_000).expect("merged").rows;
    let years = years(&store, &merged);
    assert!(years.iter().collect::<BTreeSet<_>>().len() > 10);
    assert!(
        !years.is_sorted_by(|a, b| a >= b),
        "of the whole file nothing is said"
    );
    assert!(
        verify_file(&store, &log(), &merged)
            .expect("read")
            .is_empty()
    );
}

/// Inputs that say that they are sorted are merged in order, and the new file says so too: it can be merged again.
#[test]
fn sorted_files_become_a_sorted_file_again_and_again() {
    let store = memory();
    let sort = [by("year", true)];
    let mut sorted: Inputs = Vec::new();
    for half in raw(&store, 8).chunks(2) {
        // Small row groups: sorted by one row group that holds all rows of two files.
        let file = merge(&store, &half.to_vec(), &sort, 1 << 20)
            .expect("merged")
            .rows;
        sorted.push((file, None));
    }
    // A single row group is sorted as a whole, but the file does not say so; it is merged by groups.
    let loose = merge(&store, &sorted, &sort, 8_000).expect("merged").rows;
    assert!(!years(&store, &loose).is_sorted_by(|a, b| a >= b));
    let all = noted(&store, &sorted, &sort);
    let once = merge(&store, &all[..2].to_vec(), &sort, 8_000)
        .expect("merged")
        .rows;
    assert!(years(&store, &once).is_sorted_by(|a, b| a >= b));
    let rest = [vec![(once, None)], all[2..].to_vec()].concat();
    let twice = merge(&store, &rest, &sort, 8_000).expect("merged").rows;
    let found = years(&store, &twice);
    assert!(found.is_sorted_by(|a, b| a >= b));
    assert_eq!(found.len() as u64, loose.rows);
    assert!(
        verify_file(&store, &log(), &twice)
            .expect("read")
            .is_empty()
    );
}

/// The same rows in files that say that they are sorted from the first row to the last.
fn noted(store: &Arc<dyn Store>, files: &Inputs, sort: &[SortBy]) -> Inputs {
    use crate::zone::file::{Birth, Order, RowsFile};
    let one = |(file, _): &(AddedFile, Option<AddedFile>)| {
        let id = crate::commit::new_file_id();
        let birth = Birth {
            place: log().place(&id, &file.path.replace(&file.id, &id)),
            role: Role::Rows,
            partition: file.partition_values.clone().into_iter().collect(),
            pipeline: "books".to_owned(),
        };
        let rows = read_file(store, &log(), file).expect("opened");
        let schema = rows.schema().clone();
        let parquet = ParquetOptions::default();
        let order = Order::Given(sort);
        let plain = Default::default();
        let mut out =
            RowsFile::in_order(store, birth, &schema, &parquet, plain, order).expect("begun");
        for range in &file.ranges {
            out.cover(&range.split, range.from, range.to, range.rows);
        }
        for batch in rows {
            let batch = batch.expect("read");
            let columns = crate::zone::write::plain_columns(&batch);
            out.write(&columns, batch.num_rows()).expect("written");
        }
        let (written, _) = out.close().expect("closed");
        (Box::new(written).finish().expect("sealed"), None)
    };
    files.iter().map(one).collect()
}

#[test]
fn a_file_that_is_not_sorted_as_it_says_stops_the_merge() {
    let store = memory();
    let sort = [by("year", true)];
    let lies = noted(&store, &raw(&store, 2), &sort);
    let error = merge(&store, &lies, &sort, 1 << 20).expect_err("refused");
    assert_eq!(error.kind(), Kind::LogCorrupt);
    assert!(
        error.to_string().contains("not sorted as it says"),
        "{error}"
    );
}

#[test]
fn an_entry_with_other_rows_than_its_file_stops_the_merge() {
    let store = memory();
    let mut inputs = raw(&store, 3);
    inputs[1].0.row_digest = format!("xxh3:{:032x}", 7);
    let error = merge(&store, &inputs, &[], 1 << 20).expect_err("refused");
    assert_eq!(error.kind(), Kind::LogCorrupt);
}

/// A full disk at each request: the error says what failed, nothing is left that was begun, and the inputs stay.
#[test]
fn a_store_that_takes_no_more_leaves_nothing_behind() {
    #[derive(Debug)]
    struct Full(AtomicU64, u64);
    impl Faults for Full {
        fn decide(&self, op: &Op) -> Fault {
            let writes = matches!(op.verb, Verb::Write | Verb::Create);
            let full = writes && self.0.fetch_add(1, Atomic::SeqCst) >= self.1;
            if full { Fault::FailBefore } else { Fault::None }
        }
    }
    let bare = memory();
    let inputs = raw(&bare, 4);
    let mut failed = 0;
    for step in 0..20 {
        let full = Arc::new(Full(AtomicU64::new(0), step));
        let store: Arc<dyn Store> = FaultStore::new(bare.clone(), full);
        let done = merge(&store, &inputs, &[], 4_000);
        let begun = bare.begun(&log().dir()).expect("listed");
        match done {
            Err(error) => {
                failed += 1;
                assert_eq!(error.kind(), Kind::StoreUnavailable, "{error}");
                assert!(begun.is_empty(), "step {step}: {begun:?}");
                assert!(
                    inputs
                        .iter()
                        .all(|(f, _)| bare.size(&f.path).ok().flatten() == Some(f.bytes))
                );
            }
            Ok(merged) => {
                assert_eq!(begun, [merged.rows.id]);
                assert!(failed > 0, "the disk was never full");
                return;
            }
        }
    }
    panic!("never done");
}

#[test]
fn somebody_who_asks_to_stop_ends_it_between_two_batches() {
    let store = memory();
    let inputs = raw(&store, 3);
    let parquet = ParquetOptions::default();
    let merge = Merge {
        store: &store,
        name: &log(),
        parquet: &parquet,
        sort: &[],
        memory: 1 << 20,
    };
    let mut left = 2;
    let mut stop = || {
        left -= 1;
        match left {
            0 => Err(Error::new(Kind::Stopped, "test", "asked to stop")),
            _ => Ok(()),
        }
    };
    let mut made = Vec::new();
    let stopped = merge.write(&inputs, &mut stop, &mut made);
    assert!(made.is_empty(), "nothing to collect: {made:?}");
    assert_eq!(stopped.expect_err("stopped").kind(), Kind::Stopped);
    assert!(store.begun(&log().dir()).expect("listed").is_empty());
}
