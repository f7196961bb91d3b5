//! RAW: what is written can be read back by coordinate, and the metadata of files is true.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;
use crate::clock::ManualClock;
use crate::commit::Role;
use crate::config::{
    Compression, Directories, ErrorsConfig, FileFormat, Files, Rotate, TableName, Tolerance,
    Tombstones, Unit,
};
use crate::error::Kind;
use crate::sink::guarded::Guarded;
use crate::sink::refusing::Refusing;
use crate::sink::{Base, Sealed, Sink};
use crate::store::{Fault, FaultStore, Script, Verb};
use crate::zone::deadletter;
use crate::zone::*;

const NOW: i64 = 1_700_000_000_000_000; // 2023-11-14T22:13:20Z

pub(super) struct World {
    pub store: Arc<dyn Store>,
    clock: Arc<ManualClock>,
    pub sink: ZoneSink,
}

pub(super) fn options() -> ZoneOptions {
    ZoneOptions {
        name: log(),
        table: TableName::PerTopic,
        letters_table: TableName::Fixed("dead_letters".to_owned()),
        rotate: Rotate {
            bytes: 128 << 20,
            age: Duration::from_secs(60),
            rows: None,
        },
        parquet: ParquetOptions::default(),
        sort: Vec::new(),
        bucket: None,
        keep_value: false,
        files: files(FileFormat::Parquet),
        directories: Directories::Ingested,
        refusing: refusing(Tolerance::All),
    }
}

pub(super) fn files(format: FileFormat) -> Files {
    Files {
        format,
        extension: format.word().to_owned(),
        ..Files::default()
    }
}

pub(super) fn refusing(tolerance: Tolerance) -> Refusing {
    let errors = ErrorsConfig {
        tolerance,
        unit: Unit::Row,
        dlq_table: "dead_letters".to_owned(),
        dlq_topic: None,
        dlq_context: false,
        max: None,
    };
    Refusing::new(&errors, "zone")
}

pub(super) fn world(options: ZoneOptions) -> World {
    let (store, clock) = (memory(), ManualClock::at(NOW));
    let base = Base::default();
    base.set(7);
    let sink = ZoneSink::new(store.clone(), clock.clone(), options, base);
    World { store, clock, sink }
}

impl World {
    fn write(&mut self, batch: &Batch) {
        self.sink.write(batch, apply(batch)).expect("written");
    }

    pub fn seal(&mut self) -> Sealed {
        self.sink
            .seal()
            .expect("sealed")
            .expect("something covered")
    }

    fn read(&self, files: &[AddedFile], ranges: &[(&str, i32, i64, i64)]) -> Vec<Rows> {
        let range = |(topic, partition, from, to): &(&str, i32, i64, i64)| SplitRange {
            split: split(topic, *partition),
            topic: (*topic).into(),
            partition: *partition,
            from: *from,
            to: *to,
        };
        let ranges: Vec<SplitRange> = ranges.iter().map(range).collect();
        let wanted = overlapping(files, &ranges);
        let fitting = Fitting::of(&schemas(&self.store, &log(), &wanted).expect("opened"));
        let fitting = fitting.expect("one schema");
        let reader = read_rows(&self.store, &log(), files, &ranges, fitting);
        reader.map(|rows| rows.expect("read")).collect()
    }
}

fn plain_read(store: &Arc<dyn Store>, path: &str) -> RecordBatch {
    let bytes: Bytes = store.get(path).expect("get").expect("there");
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("parquet");
    let schema = reader.schema().clone();
    let batches: Vec<RecordBatch> = reader
        .build()
        .expect("reader")
        .map(|b| b.expect("batch"))
        .collect();
    arrow_select::concat::concat_batches(&schema, &batches).expect("one schema")
}

#[test]
fn what_is_written_is_read_back_with_coordinates_ledgers_and_letters() {
    let mut w = world(ZoneOptions {
        keep_value: true,
        ..options()
    });
    w.write(&records("books", 0, 0, 100));
    w.write(&records("books", 1, 50, 60));
    w.write(&records("books", 0, 100, 120));
    let sealed = w.seal();
    assert_eq!(sealed.base, 7);
    assert_eq!(
        sealed.counters,
        [("rules".to_owned(), "seen".to_owned(), 130)]
    );
    let spans: Vec<_> = sealed
        .spans
        .iter()
        .map(|s| (s.split.clone(), s.from, s.to))
        .collect();
    assert_eq!(
        spans,
        [(split("books", 0), 0, 120), (split("books", 1), 50, 60)]
    );
    let (rows_expected, letters_expected) = sealed
        .spans
        .iter()
        .fold((0, 0), |(r, l), s| (r + s.rows.written, l + s.dead_letters));
    let files = publish(&w.store, &log(), sealed.files);
    assert_eq!(
        files.iter().map(|f| f.role).collect::<Vec<_>>(),
        [Role::Rows, Role::DeadLetters]
    );
    let [rows, letters] = &files[..] else {
        panic!("two files")
    };
    assert!(
        rows.path
            .starts_with("books/ingest_date=2023-11-14/ingest_hour=22/"),
        "{}",
        rows.path
    );
    assert!(
        letters
            .path
            .starts_with("dead_letters/ingest_date=2023-11-14/0"),
        "{}",
        letters.path
    );
    assert_eq!((rows.rows, letters.rows), (rows_expected, letters_expected));
    let tight = rows
        .ranges
        .iter()
        .map(|r| (r.from, r.to))
        .collect::<Vec<_>>();
    assert_eq!(tight, [(1, 119), (50, 60)], "119 was refused");
    let batch = plain_read(&w.store, &rows.path);
    let names: Vec<_> = batch
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().clone())
        .collect();
    assert_eq!(
        names.join(","),
        "id,year,kind,_value,_key,_headers,_topic,_partition,_offset,_row,_timestamp"
    );
    let (ids, at) = (text(&batch, "id"), offsets(&batch));
    let pieces = batch
        .column_by_name("_row")
        .expect("_row")
        .as_primitive::<Int32Type>();
    let values = batch
        .column_by_name("_value")
        .expect("_value")
        .as_binary::<i32>();
    let headers = batch
        .column_by_name("_headers")
        .expect("_headers")
        .as_list::<i32>();
    for i in 0..batch.num_rows() {
        assert_eq!(ids[i], format!("bk{}", at[i]));
        assert_eq!(values.value(i), format!("v{}", at[i]).as_bytes());
        assert_eq!(headers.value(i).len() as i64, at[i] % 2);
        assert!(
            pieces.value(i) == 1 || at[i] % 10 != 0,
            "a refused piece keeps its number"
        );
    }
    assert!(text(&batch, "kind").iter().all(|kind| kind == "book"));
    for file in &files {
        assert_eq!(verify_file(&w.store, &log(), file).expect("read"), [""; 0]);
    }
    let filter = deadletter::Filter {
        code: Some("bad_year".into()),
        ..Default::default()
    };
    let name = log();
    let found: Vec<_> = deadletter::read(&w.store, &name, &files, &filter)
        .map(|l| l.expect("read"))
        .collect();
    assert!(found.iter().all(|l| l.row == Some(0) && l.offset % 10 == 0) && found.len() == 11);
    assert_eq!(found[0].original.value.as_deref(), Some(&b"v10"[..]));
    let counts = deadletter::counts(&w.store, &log(), &files).expect("read");
    assert_eq!(counts.values().sum::<u64>(), letters.rows);
    let one = deadletter::Filter {
        partition: Some(1),
        offset: Some(56),
        ..Default::default()
    };
    assert_eq!(deadletter::read(&w.store, &name, &files, &one).count(), 1);
}

#[test]
fn rows_are_found_by_coordinate_over_files_topics_and_row_groups() {
    let parquet = ParquetOptions {
        row_group_bytes: 2000,
        ..ParquetOptions::default()
    };
    let mut w = world(ZoneOptions {
        table: TableName::Fixed("all".to_owned()),
        parquet,
        ..options()
    });
    let mut files = Vec::new();
    for from in (0..1000).step_by(200) {
        for (topic, partition) in [("a", 0), ("a", 1), ("b", 0)] {
            w.write(&records(topic, partition, from, from + 200));
        }
        let sealed = w.seal();
        files.extend(publish(&w.store, &log(), sealed.files));
    }
    let found = w.read(&files, &[("a", 0, 150, 450), ("b", 0, 990, 2000)]);
    let mut seen: Vec<(String, i64)> = Vec::new();
    for rows in &found {
        let topics = text(&rows.batch, "_topic");
        let of_range = ["a", "b"];
        for (i, offset) in offsets(&rows.batch).into_iter().enumerate() {
            assert_eq!(topics[i], of_range[rows.splits[i] as usize]);
            seen.push((split(&topics[i], 0).to_string(), offset));
        }
    }
    let expected = |range: std::ops::Range<i64>| {
        range
            .filter(|o| o % 7 != 0)
            .map(|o| if o % 10 == 0 { 1 } else { 2 })
            .sum::<usize>()
    };
    let count = |topic: &str| seen.iter().filter(|(c, _)| c.contains(topic)).count();
    assert_eq!(count("/a/"), expected(150..450));
    assert_eq!(count("/b/"), expected(990..1000));
    assert!(
        seen.iter()
            .all(|(c, o)| c.contains("/b/") || (150..450).contains(o))
    );
    let groups = ParquetRecordBatchReaderBuilder::try_new(
        w.store.get(&files[0].path).expect("get").expect("there"),
    );
    let groups = groups.expect("parquet").metadata().num_row_groups();
    assert!(groups > 3, "row groups are bounded by bytes: {groups}");
}

#[test]
fn a_file_is_read_before_it_is_published_and_missed_when_it_is_gone() {
    let mut w = world(options());
    w.write(&records("books", 0, 0, 20));
    let files: Vec<AddedFile> = w
        .seal()
        .files
        .into_iter()
        .map(|f| f.finish().expect("durable"))
        .collect();
    assert!(
        !w.read(&files, &[("books", 0, 0, 20)]).is_empty(),
        "from staging"
    );
    w.store.delete(&staging(&files[0].id)).expect("deleted");
    let range = SplitRange {
        split: split("books", 0),
        topic: "books".into(),
        partition: 0,
        from: 0,
        to: 9,
    };
    let wanted = overlapping(&files, &[range]);
    let error = schemas(&w.store, &log(), &wanted).expect_err("gone");
    assert_eq!(error.kind(), Kind::LogCorrupt);
    assert!(error.to_string().contains(&files[0].path), "{error}");
}

#[test]
fn an_altered_file_is_told() {
    let mut w = world(options());
    w.write(&records("books", 0, 0, 50));
    let sealed = w.seal();
    let files = publish(&w.store, &log(), sealed.files);
    let bytes = w
        .store
        .get(&files[0].path)
        .expect("get")
        .expect("there")
        .to_vec();
    let replace = |bytes: &[u8]| {
        w.store.delete(&files[0].path).expect("deleted");
        w.store.create(&files[0].path, bytes).expect("created");
    };
    let mut flipped = bytes.clone();
    flipped[100] ^= 1;
    replace(&flipped);
    let wrong = verify_file(&w.store, &log(), &files[0]).expect("readable");
    assert!(
        wrong.len() == 1 && wrong[0].starts_with("sha256"),
        "{wrong:?}"
    );
    replace(&bytes[..bytes.len() - 1]);
    assert_eq!(
        verify_file(&w.store, &log(), &files[0])
            .expect_err("short")
            .kind(),
        Kind::LogCorrupt
    );
    replace(&bytes);
    let lie = AddedFile {
        row_digest: String::new(),
        rows: 1,
        ..files[0].clone()
    };
    let wrong = verify_file(&w.store, &log(), &lie).expect("readable");
    assert_eq!(wrong.len(), 2, "{wrong:?}");
}

#[test]
fn rolling_is_due_by_age_rows_or_bytes_and_never_for_nothing() {
    let rotate = Rotate {
        bytes: 1 << 30,
        age: Duration::from_secs(10),
        rows: None,
    };
    let mut w = world(ZoneOptions {
        rotate,
        ..options()
    });
    w.clock.advance(Duration::from_secs(100));
    assert!(!w.sink.should_roll() && w.sink.seal().expect("sealed").is_none());
    w.write(&BatchBuilder::new().finish(covers("books", 0, 5, 5)));
    assert!(w.sink.seal().expect("sealed").is_none(), "nothing covered");
    w.write(&BatchBuilder::new().finish(covers("books", 0, 5, 9)));
    w.clock.advance(Duration::from_secs(9));
    assert!(!w.sink.should_roll());
    w.clock.advance(Duration::from_secs(1));
    assert!(w.sink.should_roll(), "offsets without rows also grow old");
    let sealed = w.seal();
    assert!(sealed.files.is_empty() && sealed.spans.len() == 1 && sealed.spans[0].to == 9);
    assert!(!w.sink.should_roll());

    let rotate = Rotate {
        rows: Some(30),
        ..rotate
    };
    let mut w = world(ZoneOptions {
        rotate,
        ..options()
    });
    w.write(&records("books", 0, 0, 10));
    assert!(!w.sink.should_roll());
    w.write(&records("books", 0, 10, 20));
    assert!(w.sink.should_roll());

    let rotate = Rotate {
        bytes: 20_000,
        rows: None,
        ..rotate
    };
    let mut w = world(ZoneOptions {
        rotate,
        ..options()
    });
    let mut at = 0;
    while !w.sink.should_roll() {
        w.write(&records("books", 0, at, at + 100));
        at += 100;
        assert!(at < 100_000);
    }
    let size = w.seal().files[0].added().bytes;
    assert!(
        (8_000..40_000).contains(&size),
        "the estimate is near: {size}"
    );
}

#[test]
fn a_hole_between_batches_and_a_broken_ledger_are_refused_and_stick() {
    let mut sink = Guarded::new(Box::new(world(options()).sink));
    let first = records("books", 0, 0, 10);
    sink.write(&first, apply(&first)).expect("written");
    sink.seal().expect("sealed");
    let hole = records("books", 0, 11, 12);
    assert_eq!(
        sink.write(&hole, apply(&hole)).expect_err("hole").kind(),
        Kind::Bug
    );
    let next = records("books", 0, 10, 12);
    assert!(
        sink.write(&next, apply(&next)).is_err() && sink.seal().is_err(),
        "until discarded"
    );
    sink.discard();
    let mut open_ledger = apply(&hole);
    open_ledger.ledger.rows.made += 1;
    assert!(sink.write(&hole, open_ledger).is_err());
    sink.discard();
    let mut fewer = apply(&hole);
    fewer.dead_letters.push(DeadLetter {
        record: 0,
        piece: None,
        by: identity(),
        reasons: Vec::new(),
    });
    assert!(sink.write(&hole, fewer).is_err());
    sink.discard();
    sink.write(&hole, apply(&hole)).expect("written");
    assert_eq!(
        sink.seal().expect("sealed").expect("covered").spans[0].from,
        11,
        "after a discard the log's positions count"
    );
}

#[test]
fn discarded_files_leave_nothing() {
    let mut w = world(options());
    w.write(&records("books", 0, 0, 100));
    w.sink.discard();
    assert!(w.sink.seal().expect("sealed").is_none());
    w.write(&records("books", 0, 0, 100));
    let sealed = w.seal();
    sealed.files.into_iter().for_each(|f| f.abandon());
    assert_eq!(w.store.list("").expect("listed"), []);
}

#[test]
fn a_recreated_topic_does_not_share_a_file_with_its_namesake() {
    let mut w = world(options());
    w.write(&records("books", 0, 0, 10));
    let mut again = records("books", 0, 0, 10);
    again.covers.split = SplitId::kafka("c", "other-id", 0);
    w.write(&again);
    let sealed = w.seal();
    let files = publish(&w.store, &log(), sealed.files);
    let rows: Vec<_> = files.iter().filter(|f| f.role == Role::Rows).collect();
    assert!(rows.len() == 2 && rows.iter().all(|f| f.ranges.len() == 1));
    let total: usize = w
        .read(&files, &[("books", 0, 0, 10)])
        .iter()
        .map(|r| r.batch.num_rows())
        .sum();
    assert_eq!(total as u64, rows[0].rows);
}

#[test]
fn columns_under_system_names_are_replaced_or_refused() {
    let mut w = world(ZoneOptions {
        keep_value: true,
        ..options()
    });
    let batch = records("books", 0, 1, 2);
    let rename = |name: &str| {
        let mut applied = apply(&batch);
        let mut fields: Vec<Field> = books_schema()
            .fields()
            .iter()
            .map(|f| f.as_ref().clone())
            .collect();
        fields[0] = fields[0].clone().with_name(name);
        applied.table.schema = Arc::new(Schema::new(fields));
        applied
    };
    let error = w
        .sink
        .write(&batch, rename("_offset"))
        .expect_err("a string");
    assert!(
        error.kind() == Kind::ConfigInvalid && error.to_string().contains("`_offset`"),
        "{error}"
    );
    w.sink.discard();
    assert!(w.sink.write(&batch, rename("_value")).is_err());
    w.sink.discard();
    w.sink
        .write(&batch, rename("_topic"))
        .expect("a string, as ours");
    let sealed = w.seal();
    let files = publish(&w.store, &log(), sealed.files);
    let topics = text(&plain_read(&w.store, &files[0].path), "_topic");
    assert!(topics.iter().all(|t| t == "books"));
}

#[test]
fn a_dictionary_that_is_given_up_is_not_tried_again() {
    let parquet = ParquetOptions {
        row_group_bytes: 1 << 20,
        encodings: Encodings::Plain,
        ..ParquetOptions::default()
    };
    let mut w = world(ZoneOptions {
        parquet,
        ..options()
    });
    let mut held = 0;
    for from in (0..600_000).step_by(5000) {
        w.write(&records("books", 0, from, from + 5000));
        held = held.max(w.sink.memory());
    }
    assert!(held < 10 << 20, "{held} bytes for row groups of 1 MiB");
    let sealed = w.seal();
    let files = publish(&w.store, &log(), sealed.files);
    let bytes = w.store.get(&files[0].path).expect("get").expect("there");
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("parquet");
    let has = |group: usize, column: usize| {
        reader
            .metadata()
            .row_group(group)
            .column(column)
            .dictionary_page_offset()
            .is_some()
    };
    let groups = reader.metadata().num_row_groups();
    assert!(groups > 2, "{groups} groups");
    assert!(
        has(0, 0) && !has(1, 0) && !has(groups - 1, 0),
        "the unique id"
    );
    assert!(has(0, 2) && has(1, 2), "the constant kind");
    let plain = w.sink.plain_columns("books");
    assert!(plain.contains("id") && !plain.contains("kind"));
}

#[test]
fn a_store_that_only_says_that_it_wrote_is_found_out() {
    let faults = Arc::new(Script::on(Verb::Write, "staging", 0, Fault::Lying));
    let store: Arc<dyn Store> = FaultStore::new(memory(), faults);
    let clock = ManualClock::at(NOW);
    let mut sink = ZoneSink::new(store, clock, options(), Base::default());
    let batch = records("books", 0, 0, 10);
    sink.write(&batch, apply(&batch)).expect("written");
    let mut files = sink.seal().expect("sealed").expect("covered").files;
    // As if somebody had collected it: the records are read again.
    let error = files.remove(0).finish().expect_err("nothing is there");
    assert_eq!(error.kind(), Kind::Conflict);
}

/// A name of a file that no store takes stops the pipeline before anything waits for its commit.
#[test]
fn a_file_that_could_not_get_its_name_is_not_begun() {
    let mut w = world(ZoneOptions {
        files: Files {
            offsets: Some(10),
            ..files(FileFormat::Json)
        },
        directories: Directories::Columns {
            names: vec!["kind".to_owned()],
            escape: true,
        },
        table: TableName::Fixed("t".to_owned()),
        ..options()
    });
    let batch = records(&"t".repeat(211), 0, 1, 6);
    let error = w.sink.write(&batch, apply(&batch)).expect_err("too long");
    assert_eq!(error.kind(), Kind::ConfigInvalid);
    let said = format!("{error} {}", error.hint_text().unwrap_or_default());
    assert!(
        said.contains("256 bytes") && said.contains("sink.file.names"),
        "{said}"
    );
    w.sink.discard();
    assert_eq!(w.store.list("").expect("listed"), []);
    w.write(&records(&"t".repeat(210), 0, 1, 6));
    let sealed = w.seal();
    let files = publish(&w.store, &log(), sealed.files);
    assert!(
        files
            .iter()
            .any(|f| f.path.rsplit('/').next().is_some_and(|n| n.len() == 255))
    );
}

/// What the store's writer holds is in memory, whatever the format is.
#[test]
fn memory_of_an_open_file_counts_what_the_store_holds_back() {
    let dir = tempfile::tempdir().expect("a directory");
    for format in [FileFormat::Json, FileFormat::Csv, FileFormat::Avro] {
        let store = crate::store::open_url(&format!("file:{}", dir.path().display()));
        let options = ZoneOptions {
            files: files(format),
            ..options()
        };
        let clock = ManualClock::at(NOW);
        let mut sink = ZoneSink::new(store.expect("a store"), clock, options, Base::default());
        let (mut from, mut bytes, mut memory) = (0, 0, 0);
        while bytes < 3 << 20 {
            let batch = records("books", 0, from, from + 5000);
            sink.write(&batch, apply(&batch)).expect("written");
            from += 5000;
            (bytes, memory) = sink.open_rows();
        }
        // A part is put when it has 8 MiB.
        assert!(memory > 2 << 20, "{format:?}: {memory} of {bytes}");
        assert!(memory < 5 << 20, "{format:?}: {memory} of {bytes}");
    }
}

/// An offset that is not reached yet makes no name too long: a row without a place is still a dead letter, and stops nothing.
#[test]
fn a_long_directory_beside_a_long_topic_is_a_dead_letter() {
    let mut w = world(ZoneOptions {
        files: Files {
            offsets: Some(10),
            ..files(FileFormat::Json)
        },
        directories: Directories::Columns {
            names: vec!["kind".to_owned()],
            escape: true,
        },
        table: TableName::Fixed("t".to_owned()),
        ..options()
    });
    let batch = records(&"t".repeat(210), 0, 1, 4);
    let mut applied = apply(&batch);
    let long = "x".repeat(300);
    let kinds: Vec<&str> = (0..6).map(|n| if n == 3 { &long } else { "a" }).collect();
    applied.table.columns[2] = Column {
        values: Arc::new(StringArray::from(kinds)),
        constant: false,
    };
    w.sink.write(&batch, applied).expect("written");
    let span = &w.seal().spans[0];
    assert_eq!((span.rows.written, span.rows.refused), (5, 1));
}

/// zstd takes its memory when it gets bytes, not before: many small files are not many windows.
#[test]
fn an_open_file_counts_what_its_codec_has_taken() {
    let codec = Compression::Zstd(3);
    let mut w = world(ZoneOptions {
        files: Files {
            compression: codec,
            ..files(FileFormat::Json)
        },
        ..options()
    });
    w.write(&records("books", 0, 1, 6));
    let (_, memory) = w.sink.open_rows();
    assert!(memory < 1 << 20, "{memory} of a few rows");
    // Counted at half of what is handed to the codec at a time: many files get there in one batch.
    let (mut from, mut bytes, mut memory) = (6, 0, 0);
    while bytes < 140 << 10 {
        w.write(&records("books", 0, from, from + 50));
        from += 50;
        (bytes, memory) = w.sink.open_rows();
    }
    assert!(bytes < 250 << 10, "{bytes}");
    assert!(memory > packing_bytes(codec), "{memory}");
    w.write(&records("books", 0, from, from + 2000));
    let (_, memory) = w.sink.open_rows();
    assert!(memory > packing_bytes(codec), "{memory}");
}

/// `sink.tombstones`, and a line that is to be JSON: what is refused is a dead letter with its code.
#[test]
fn rows_without_a_value_and_texts_that_are_no_json_are_refused_where_asked() {
    let mut builder = BatchBuilder::new();
    for offset in 1..4 {
        let value = (offset != 2).then_some(&b"v"[..]);
        builder.push(offset, Some(offset), None, value, std::iter::empty());
    }
    let batch = builder.finish(covers("books", 0, 1, 4));
    let written = |more: Files| {
        let mut w = world(ZoneOptions {
            files: more,
            ..options()
        });
        w.write(&batch);
        let sealed = w.seal();
        let span = &sealed.spans[0];
        let counts = (span.rows.written, span.rows.refused, span.rows.filtered);
        let codes = sealed
            .notes
            .values()
            .flat_map(|notes| notes.refusals.keys());
        let codes: Vec<String> = codes.map(|(_, code)| code.clone()).collect();
        (counts, codes)
    };
    let tombstones = |tombstones| Files {
        tombstones,
        ..files(FileFormat::Parquet)
    };
    assert_eq!(written(tombstones(Tombstones::Write)), ((6, 0, 0), vec![]));
    assert_eq!(written(tombstones(Tombstones::Drop)), ((4, 0, 2), vec![]));
    let refused = vec!["no_value".to_owned()];
    assert_eq!(
        written(tombstones(Tombstones::Refuse)),
        ((4, 2, 0), refused)
    );
    let json = |text_is_json| Files {
        column: Some("id".to_owned()),
        text_is_json,
        ..files(FileFormat::Json)
    };
    assert_eq!(written(json(false)), ((6, 0, 0), vec![]));
    assert_eq!(
        written(json(true)),
        ((0, 6, 0), vec!["not_json".to_owned()])
    );
}

/// As base64 they could be a text; JSON has a mark for them, and Parquet has bytes.
#[test]
fn csv_refuses_bytes_that_are_no_text() {
    let mut builder = BatchBuilder::new();
    let records: [(&[u8], &[u8]); 3] = [(b"k", b"//4="), (b"k", b"\xff\xfe"), (b"\xff", b"text")];
    for (offset, (key, value)) in (1..).zip(records) {
        let headers = std::iter::empty();
        builder.push(offset, Some(offset), Some(key), Some(value), headers);
    }
    let batch = builder.finish(covers("books", 0, 1, 4));
    let refused = |format, keep_value, column: Option<&str>| {
        let mut w = world(ZoneOptions {
            keep_value,
            files: Files {
                column: column.map(str::to_owned),
                ..files(format)
            },
            ..options()
        });
        w.write(&batch);
        let sealed = w.seal();
        let rows = &sealed.spans[0].rows;
        assert_eq!(rows.written + rows.refused, 6);
        let notes = sealed.notes.values();
        let mut codes = notes.flat_map(|notes| notes.refusals.keys());
        assert!(codes.all(|(_, code)| code == "not_in_format"));
        rows.refused
    };
    assert_eq!(refused(FileFormat::Csv, true, None), 4);
    assert_eq!(refused(FileFormat::Csv, false, None), 0, "texts alone");
    assert_eq!(refused(FileFormat::Csv, true, Some("_key")), 2);
    assert_eq!(refused(FileFormat::Csv, true, Some("id")), 0);
    assert_eq!(refused(FileFormat::Json, true, None), 0);
    assert_eq!(refused(FileFormat::Parquet, true, None), 0);
}
