//! Misbehaving plugins give the right code and affect no other record; shipped ones give the same rows for any division
//! into batches.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use weir::chain::{Column, Output, RowMap, Table, Transform};
use weir::error::Kind;
use weir::plugin::{
    Keys, Limits, MAX_ISOLATIONS, Places, Plugins, SetupError, SetupProblem, Stage,
};
use weir::record::{BatchBuilder, Covers, OffsetRange, SplitId, TopicPartition, input_schema};

fn folder(variable: &str, default: &str) -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    std::env::var_os(variable).map_or_else(|| PathBuf::from(root).join(default), PathBuf::from)
}

pub fn evil_dir() -> PathBuf {
    folder("WEIR_TEST_GUESTS", "target/plugins-test")
}

pub fn shipped_dir() -> PathBuf {
    folder("WEIR_TEST_PLUGINS", "target/plugins")
}

/// Loose files alone: the store is never there.
fn places(path: PathBuf, cache: &std::path::Path) -> Places {
    Places {
        store: path.join("no-store"),
        path,
        cache: cache.to_owned(),
    }
}

/// One cache for all tests of a run, so that each guest compiles once or a few times, not for each test.
pub fn plugins(dir: PathBuf) -> Plugins {
    Plugins::open(places(
        dir,
        concat!(env!("CARGO_TARGET_TMPDIR"), "/native").as_ref(),
    ))
    .expect("engine")
}

pub fn table(values: &[&[u8]]) -> Table {
    let mut builder = BatchBuilder::new();
    for (n, value) in values.iter().enumerate() {
        let headers = [("n", Some(&b"1"[..]))].into_iter().filter(|_| n % 2 == 0);
        builder.push(
            n as i64 * 2 + 10,
            Some(n as i64),
            None,
            Some(value),
            headers,
        );
    }
    let batch = builder.finish(Covers {
        split: SplitId::kafka("c", "t", 3),
        epoch: 0,
        tp: TopicPartition {
            topic: "books".into(),
            partition: 3,
        },
        range: OffsetRange {
            from: 0,
            to: 1 << 40,
        },
    });
    let columns = batch.columns().into_iter();
    Table {
        schema: input_schema(),
        rows: values.len(),
        columns: columns
            .map(|(values, constant)| Column { values, constant })
            .collect(),
    }
}

pub fn cut(table: &Table, from: usize, rows: usize) -> Table {
    let column = |c: &Column| match c.constant {
        true => c.clone(),
        false => Column {
            values: c.values.slice(from, rows),
            constant: false,
        },
    };
    Table {
        schema: table.schema.clone(),
        rows,
        columns: table.columns.iter().map(column).collect(),
    }
}

pub fn limits() -> Limits {
    Limits {
        deadline: Duration::from_millis(50),
        fuel: 2_000_000_000,
        ..Limits::default()
    }
}

pub fn make(
    dir: PathBuf,
    plugin: &str,
    config: &[(&str, &str)],
    limits: Limits,
) -> Result<Box<dyn Transform>, SetupError> {
    let config: BTreeMap<String, String> = config
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let component = plugins(dir).find(plugin, &|_, _| true)?;
    let keys = Keys {
        config: &config,
        resolve: &|typed| Ok(typed.to_owned()),
        read_file: &|path| fs::read(path),
    };
    let config = component.canonical(&keys).map_err(SetupError::Problems)?;
    let stage = Stage {
        transform: "t",
        input: input_schema(),
        limits,
        resolve: &|typed| Ok(typed.to_owned()),
    };
    component.transform(stage, config)
}

pub fn evil(mode: &str) -> Box<dyn Transform> {
    make(evil_dir(), "guest-evil", &[("mode", mode)], limits()).expect(mode)
}

fn refusal(plugin: &str) -> String {
    let error = plugins(evil_dir())
        .find(plugin, &|_, _| true)
        .expect_err("refused");
    assert_eq!(error.kind(), Kind::PluginRefused);
    error.to_string()
}

pub const ROWS: usize = 100;
const BAD: usize = 37;

fn records() -> Vec<Vec<u8>> {
    (0..ROWS)
        .map(|n| format!("{} {n}", if n == BAD { "SPECIAL" } else { "plain" }).into_bytes())
        .collect()
}

pub fn record_table() -> Table {
    let records = records();
    table(&records.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn text(output: &Output, column: usize) -> Vec<String> {
    let array = output.table.columns[column].values.as_string::<i32>();
    array
        .iter()
        .map(|text| text.unwrap_or("∅").to_owned())
        .collect()
}

/// All but the bad record go on untouched; it is refused with `code`.
pub fn only_the_bad_one(mode: &str, code: &str, says: &str) {
    let mut transform = evil(mode);
    // Twice: the second batch runs on a fresh instance.
    for _ in 0..2 {
        let output = transform.apply(&record_table()).expect(mode);
        let good: Vec<usize> = (0..ROWS).filter(|n| *n != BAD).collect();
        let texts: Vec<String> = good.iter().map(|n| format!("plain {n}")).collect();
        assert_eq!(text(&output, 0), texts, "{mode}");
        let offsets = output.table.columns[1].values.as_primitive::<Int64Type>();
        let wanted: Vec<i64> = good.iter().map(|n| *n as i64 * 2 + 10).collect();
        assert_eq!(offsets.values(), &wanted[..], "{mode}");
        assert_eq!(
            output.rows,
            RowMap::Origin(good.iter().map(|n| *n as u32).collect())
        );
        assert_eq!(output.counters, [good.len() as u64], "{mode}");
        let [reject] = &output.rejects[..] else {
            panic!("{mode}: {:?}", output.rejects)
        };
        assert_eq!(
            (reject.row, reject.part, reject.code.as_str()),
            (BAD as u32, None, code),
            "{mode}: {}",
            reject.message
        );
        assert!(reject.message.contains(says), "{mode}: {}", reject.message);
    }
}

#[test]
fn a_guest_that_behaves_passes_untouched() {
    let output = evil("none").apply(&record_table()).expect("sound");
    assert_eq!(output.table.rows, ROWS);
    assert_eq!((output.rows, output.rejects.len()), (RowMap::Every, 0));
}

#[test]
fn traps_set_one_record_aside() {
    only_the_bad_one("panic", "plugin_trapped", "is special");
    only_the_bad_one("recurse", "plugin_trapped", "stack exhausted");
    only_the_bad_one("exit", "plugin_trapped", "called exit");
    only_the_bad_one("error", "plugin_error", "upset me");
    only_the_bad_one("memory", "plugin_out_of_memory", "memory");
}

#[test]
fn endless_work_on_one_record_is_decided_by_fuel() {
    only_the_bad_one("spin", "fuel_exhausted", "fuel");
}

#[test]
fn slow_work_within_the_fuel_goes_on() {
    let mut transform = evil("slow");
    let output = transform.apply(&record_table()).expect("slow");
    assert_eq!((output.table.rows, output.rejects.len()), (ROWS, 0));
    assert_eq!(text(&output, 0)[BAD], format!("SPECIAL {BAD}"));
}

#[test]
fn every_broken_rule_of_the_contract_sets_one_record_aside() {
    for (mode, says) in [
        ("offset-first", "first offset"),
        ("offset-back", "less than the one before"),
        ("offset-far", "the last offset"),
        ("offset-few", "offsets for 1 rows"),
        ("validity", "validity"),
        ("utf8", "tf-8"),
        ("row-range", "comes from row"),
        ("row-order", "comes from row"),
        ("row-twice", "does not explode"),
        ("kept", "rows kept"),
        ("reject-range", "a reject of row 1 of 1"),
        ("reject-code", "Not Snake"),
        ("reject-kept", "refused whole and goes on"),
        ("reject-piece", "became 2"),
        ("explode-piece", "piece 7 of row 0"),
        ("counters", "2 counters"),
        ("columns", "0 columns"),
        ("unchanged", "unchanged(7)"),
    ] {
        only_the_bad_one(mode, "plugin_output_invalid", says);
    }
}

#[test]
fn a_giant_result_is_refused_by_its_size() {
    let limits = Limits {
        output_bytes: 1 << 20,
        ..limits()
    };
    let mut transform = make(evil_dir(), "guest-evil", &[("mode", "giant")], limits).expect("made");
    let output = transform.apply(&record_table()).expect("giant");
    assert_eq!((output.table.rows, output.rejects.len()), (ROWS - 1, 1));
    assert_eq!(output.rejects[0].code, "plugin_output_invalid");
}

#[test]
fn a_million_rejects_become_a_few() {
    let limits = Limits {
        deadline: Duration::from_secs(20),
        ..Limits::default()
    };
    let config = [("mode", "million-rejects")];
    let mut transform = make(evil_dir(), "guest-evil", &config, limits).expect("made");
    let output = transform.apply(&record_table()).expect("rejects");
    let of_bad: Vec<_> = output
        .rejects
        .iter()
        .filter(|r| r.row == BAD as u32)
        .collect();
    assert!((1..=64).contains(&of_bad.len()), "{}", of_bad.len());
    assert_eq!(
        output.rejects.len(),
        of_bad.len(),
        "no other record is refused"
    );
    assert_eq!(output.table.rows, ROWS - 1);
}

#[test]
fn a_flood_of_lines_changes_nothing() {
    let output = evil("log-flood").apply(&record_table()).expect("flood");
    assert_eq!((output.table.rows, output.rejects.len()), (ROWS, 0));
}

#[test]
fn a_plugin_that_fails_on_everything_stops_the_pipeline() {
    for mode in [
        "always-panic",
        "always-error",
        "always-utf8",
        "always-row-range",
    ] {
        let error = evil(mode).apply(&record_table()).expect_err(mode);
        assert_eq!(error.kind(), Kind::PluginBroken);
        let told = error.to_string();
        for part in [
            "plugin=guest-evil",
            "digest=sha256:",
            &format!("row={MAX_ISOLATIONS}"),
            "pin",
        ] {
            assert!(told.contains(part), "{mode}: {told}");
        }
    }
}

fn problems(result: Result<Box<dyn Transform>, SetupError>) -> Vec<SetupProblem> {
    match result {
        Err(SetupError::Problems(problems)) => problems,
        other => panic!("expected problems, found {other:?}"),
    }
}

fn failed(mode: &str) -> String {
    let limits = Limits {
        init_deadline: Duration::from_millis(50),
        ..limits()
    };
    match make(evil_dir(), "guest-evil", &[("mode", mode)], limits) {
        Err(SetupError::Failed(error)) => {
            assert_eq!(error.kind(), Kind::PluginRefused, "{mode}");
            error.to_string()
        }
        other => panic!("{mode}: expected an error, found {other:?}"),
    }
}

#[test]
fn init_is_held_to_the_contract() {
    assert!(failed("init-panic").contains("no init today"));
    assert!(failed("init-spin").contains("ran longer than 50ms"));
    assert!(failed("plan-reads").contains("reads input column 99, of 7"));
    assert!(failed("plan-format").contains("`+w:dict` is not known"));
    assert!(failed("plan-twice").contains("`text`"));
    assert!(failed("plan-counters").contains("at most 256"));
    let told = problems(make(
        evil_dir(),
        "guest-evil",
        &[("mode", "init-problem")],
        limits(),
    ));
    assert_eq!(
        (told[0].key.as_str(), told[0].code.as_str()),
        ("mode", "bad_mode")
    );
    let told = problems(make(evil_dir(), "guest-evil", &[("mod", "x")], limits()));
    assert_eq!(
        (told[0].code.as_str(), told[1].code.as_str()),
        ("unknown_key", "missing_key")
    );
    assert_eq!(told[0].hint.as_deref(), Some("did you mean `mode`?"));
}

#[test]
fn what_a_component_may_not_have_is_named() {
    let told = refusal("guest-clock");
    assert!(
        told.contains("wasi:clocks/wall-clock@0.2") && told.contains("has no clock"),
        "{told}"
    );
    let told = refusal("guest-random");
    assert!(
        told.contains("wasi:random/") && told.contains("BTreeMap"),
        "{told}"
    );
    let told = refusal("guest-files");
    assert!(
        told.contains("wasi:filesystem/types@0.2") && told.contains("weir-file"),
        "{told}"
    );
    let told = refusal("guest-world");
    assert!(
        told.contains("weir:plugin@0.1.0") && told.contains("rebuild"),
        "{told}"
    );
    let told = refusal("guest-liar");
    assert!(
        told.contains("`another-name`") && told.contains("another-name.wasm"),
        "{told}"
    );
    assert!(refusal("guest-absent").contains("plugin.path"));
    assert!(refusal("../guest-evil").contains("not a name for a plugin"));
}

#[test]
fn files_that_are_no_components_are_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let found = |bytes: &[u8]| {
        fs::write(dir.path().join("x.wasm"), bytes).expect("write");
        let error = plugins(dir.path().into())
            .find("x", &|_, _| true)
            .expect_err("refused");
        assert_eq!(error.kind(), Kind::PluginRefused);
        error.to_string()
    };
    assert!(found(b"").contains("no WebAssembly component"));
    assert!(found(b"\0asm\x01\0\0\0").contains("a core module"));
    assert!(found(b"\0asm\x0d\0\x01\0garbage").contains("not a valid component"));
    assert!(found(&vec![0; (32 << 20) + 1]).contains("at most"));
    let whole = fs::read(evil_dir().join("guest-evil.wasm")).expect("guests built: `make guests`");
    assert!(found(&whole[..whole.len() / 2]).contains("not a valid component"));
}

#[test]
fn a_damaged_native_image_is_compiled_anew() {
    let cache = tempfile::tempdir().expect("dir");
    let find = || {
        let plugins = Plugins::open(places(evil_dir(), cache.path()))?;
        let component = plugins.find("guest-evil", &|_, _| true)?;
        Ok::<_, weir::error::Error>(component.digest().to_owned())
    };
    let digest = find().expect("compiled");
    let images = || -> Vec<PathBuf> {
        let dirs = fs::read_dir(cache.path()).expect("cache").flatten();
        let files = dirs.flat_map(|dir| fs::read_dir(dir.path()).expect("dir").flatten());
        files.map(|file| file.path()).collect()
    };
    let image = images()
        .into_iter()
        .find(|p| p.extension().is_some_and(|e| e == "cwasm"));
    let image = image.expect("an image is kept");
    assert_eq!(images().len(), 2, "image and sum, nothing else");
    let mode = |p: &PathBuf| fs::metadata(p).expect("metadata").permissions().mode() & 0o777;
    assert!(images().iter().all(|p| mode(p) == 0o600));
    let whole = fs::read(&image).expect("image");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [&flipped[..], &whole[..whole.len() / 2], b""] {
        fs::write(&image, damaged).expect("damage");
        assert_eq!(find().expect("compiled anew"), digest);
        assert!(
            fs::read(&image).expect("image") == whole,
            "the cache is whole again"
        );
    }
    const JUNK: &str = "sha256:ef875a1705a5fdac206be996f4dc1f726ea6b68861eb741c37def7277f179e37";
    // A sum that fits bytes that are no image: wasmtime refuses it, and it is replaced.
    fs::write(&image, b"junk").expect("write");
    let sum = image.with_extension("sum");
    fs::write(&sum, JUNK).expect("write");
    assert_eq!(find().expect("compiled anew"), digest);
    // A cache that cannot be written costs time, not the pipeline.
    let file = tempfile::NamedTempFile::new().expect("file");
    Plugins::open(places(evil_dir(), file.path()))
        .and_then(|p| p.find("guest-evil", &|_, _| true))
        .expect("no cache");
}

pub fn books(count: usize) -> Vec<Vec<u8>> {
    let book = |n: usize| {
        format!(
            "<book id=\"b{n}\"><title>Überschrift &amp; {n}</title><year>{}</year></book>",
            1900 + n % 120
        )
    };
    (0..count)
        .map(|n| match n % 50 {
            7 => b"<catalog><book>".to_vec(),
            _ => {
                let inner: String = (0..1 + n % 5).map(|m| book(n * 10 + m)).collect();
                let bad = if n % 40 == 3 {
                    "<book id=\"x\"><year>soon</year></book>"
                } else {
                    ""
                };
                format!("<?xml version=\"1.0\"?>\n<catalog>{inner}{bad}</catalog>").into_bytes()
            }
        })
        .collect()
}

pub const BOOKS: [(&str, &str); 3] = [
    ("row-tag", "book"),
    ("columns", "id=@id, title, year"),
    ("types.year", "int"),
];

fn flatten() -> Box<dyn Transform> {
    make(shipped_dir(), "xml-flatten", &BOOKS, Limits::default()).expect("xml-flatten")
}

pub type Flat = (
    Vec<(u32, Vec<String>)>,
    Vec<(u32, Option<u32>, String)>,
    Vec<u64>,
);

/// Rows with their record, rejects, counters: what must not depend on how records are batched.
pub fn flat(output: &Output, base: u32, into: &mut Flat) {
    let origin: Vec<u32> = match &output.rows {
        RowMap::Every => (0..output.table.rows as u32).collect(),
        RowMap::Origin(rows) => rows.clone(),
    };
    let options = arrow_cast::display::FormatOptions::new().with_null("∅");
    let spread = |c: &Column| -> ArrayRef {
        let zeros = UInt32Array::from(vec![0; output.table.rows]);
        if c.constant {
            arrow_select::take::take(&c.values, &zeros, None).expect("take")
        } else {
            c.values.clone()
        }
    };
    let columns = output.table.columns.iter().map(spread).collect();
    let batch = RecordBatch::try_new(output.table.schema.clone(), columns).expect("sound table");
    for (row, from) in origin.iter().enumerate() {
        let shown = |c: &ArrayRef| {
            let format = arrow_cast::display::ArrayFormatter::try_new(c, &options).expect("format");
            format.value(row).to_string()
        };
        into.0
            .push((base + from, batch.columns().iter().map(shown).collect()));
    }
    into.1.extend(
        output
            .rejects
            .iter()
            .map(|r| (base + r.row, r.part, r.code.clone())),
    );
    into.2.resize(output.counters.len(), 0);
    for (sum, n) in into.2.iter_mut().zip(&output.counters) {
        *sum += n;
    }
}

#[test]
fn batches_may_fall_anyhow() {
    let records = books(300);
    let whole = table(&records.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let mut transform = flatten();
    let mut wanted = Flat::default();
    flat(&transform.apply(&whole).expect("whole"), 0, &mut wanted);
    assert!(
        wanted.0.len() > 600 && wanted.1.len() > 10,
        "{} {}",
        wanted.0.len(),
        wanted.1.len()
    );
    for size in [1, 3, 64, 299] {
        let mut found = Flat::default();
        let mut from = 0;
        while from < whole.rows {
            let rows = size.min(whole.rows - from);
            flat(
                &transform.apply(&cut(&whole, from, rows)).expect("part"),
                from as u32,
                &mut found,
            );
            from += rows;
        }
        assert_eq!(found, wanted, "in parts of {size}");
    }
}

#[test]
fn a_batch_larger_than_its_share_of_memory_crosses_in_parts() {
    let records = books(4000);
    let whole = table(&records.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let small = Limits {
        memory: 4 << 20,
        ..Limits::default()
    };
    let mut narrow = make(shipped_dir(), "xml-flatten", &BOOKS, small).expect("made");
    let (mut wanted, mut found) = (Flat::default(), Flat::default());
    flat(&flatten().apply(&whole).expect("wide"), 0, &mut wanted);
    flat(&narrow.apply(&whole).expect("narrow"), 0, &mut found);
    assert!(records.iter().map(Vec::len).sum::<usize>() > (4 << 20) / 8);
    assert_eq!(found, wanted);
}

#[test]
fn a_missing_rule_file_is_a_problem_of_its_key() {
    let told = problems(make(
        shipped_dir(),
        "validate",
        &[("rules", "/no/such/file")],
        Limits::default(),
    ));
    assert_eq!(
        (told[0].key.as_str(), told[0].code.as_str()),
        ("rules", "file_unreadable")
    );
    assert!(told[0].message.contains("os error"), "{}", told[0].message);
}
