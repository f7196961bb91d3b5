//! The setup of a transform: secrets that nobody else sees, lookup tables, and configs that a log still names.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, Decimal128Array, Float32Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use serde_json::Value;
use weir::chain::{Column, Table, Transform};
use weir::config::{PipelineConfig, Text};
use weir::error::Result;
use weir::pipeline::{part_of, transforms_of};
use weir::plugin::{
    Canonical, Component, Keys, Limits, Places, Plugins, SetupError, SetupProblem, Stage,
};
use weir::record::{BatchBuilder, Covers, OffsetRange, SplitId, TopicPartition, input_schema};

use crate::brokers::files;
use crate::store::{Shelf, age, canonical, guest_dir};
use crate::world::World;

const SECRET: &str = "s3cr\"et-of-this-test";

fn component(shelf: &Shelf) -> Component {
    let places = Places {
        path: guest_dir(),
        ..shelf.places()
    };
    let plugins = Plugins::open(places).unwrap();
    plugins.find("guest-table", &|_, _| true).unwrap()
}

fn problems(component: &Component, config: &[(&str, &str)]) -> Vec<SetupProblem> {
    let config: BTreeMap<String, String> = (config.iter())
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let keys = Keys {
        config: &config,
        resolve: &|typed| Text::new(typed).resolve(),
        read_file: &|path| fs::read(path),
    };
    component.canonical(&keys).unwrap_err()
}

fn resolve(typed: &str) -> Result<String> {
    Text::new(typed).resolve()
}

fn transform(component: &Component, config: Canonical) -> Result<Box<dyn Transform>, SetupError> {
    let stage = Stage {
        transform: "t",
        input: input_schema(),
        limits: Limits::default(),
        resolve: &resolve,
    };
    component.transform(stage, config)
}

fn records() -> Table {
    let mut builder = BatchBuilder::new();
    for n in 0..3 {
        builder.push(n, None, None, Some(b"x"), std::iter::empty());
    }
    let batch = builder.finish(Covers {
        split: SplitId::kafka("c", "t", 0),
        epoch: 0,
        tp: TopicPartition {
            topic: "t".into(),
            partition: 0,
        },
        range: OffsetRange { from: 0, to: 3 },
    });
    let columns = batch.columns().into_iter();
    Table {
        schema: input_schema(),
        rows: batch.len(),
        columns: columns
            .map(|(values, constant)| Column { values, constant })
            .collect(),
    }
}

/// What the guest says that it was given: its config, its files and tables.
fn said(transform: &mut dyn Transform) -> (String, String) {
    let output = transform.apply(&records()).unwrap();
    let of = |n: usize| {
        let values = output.table.columns[n].values.as_string::<i32>();
        values.value(0).to_owned()
    };
    (of(0), of(1))
}

/// Log lines into memory.
struct Lines(Arc<Mutex<Vec<u8>>>);

impl tracing_subscriber::fmt::MakeWriter<'_> for Lines {
    type Writer = Lines;
    fn make_writer(&self) -> Lines {
        Lines(self.0.clone())
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// `${file:…:salt}` of a file that holds [`SECRET`].
fn reference(dir: &Path) -> String {
    let path = dir.join("secrets.properties");
    fs::write(&path, format!("salt = {SECRET}\n")).unwrap();
    format!("${{file:{}:salt}}", path.display())
}

#[test]
fn a_secret_reaches_the_guest_and_nothing_else() {
    let shelf = Shelf::new();
    let component = component(&shelf);
    let typed = reference(shelf.dir.path());
    let config = canonical(&component, &[("salt", &typed)]);
    assert!(config.text().contains(&typed), "{}", config.text());
    assert!(!format!("{config:?}").contains(SECRET));
    let plugins = shelf.open();
    plugins.keep(&component, &config).unwrap();
    let kept = plugins.config(config.digest()).unwrap();
    let mut made = transform(&component, kept).unwrap();
    let (inside, _) = said(made.as_mut());
    let inside: Value = serde_json::from_str(&inside).unwrap();
    assert_eq!(
        inside["salt"], SECRET,
        "the guest computes with what the reference stands for"
    );
    assert!(!format!("{made:?}").contains("s3cr"));

    // Wherever a guest says it, it stands as its reference.
    let hidden = |text: &str| {
        assert!(!text.contains("s3cr") && text.contains(&typed), "{text}");
    };
    for mode in ["reject", "error", "panic"] {
        let config = canonical(&component, &[("salt", &typed), ("mode", mode)]);
        let output = transform(&component, config)
            .unwrap()
            .apply(&records())
            .unwrap();
        assert!(!output.rejects.is_empty());
        output
            .rejects
            .iter()
            .for_each(|reject| hidden(&reject.message));
    }
    let lines: Arc<Mutex<Vec<u8>>> = Arc::default();
    let config = canonical(&component, &[("salt", &typed), ("mode", "log")]);
    let to = tracing_subscriber::fmt()
        .with_writer(Lines(lines.clone()))
        .finish();
    tracing::subscriber::with_default(to, || {
        transform(&component, config)
            .unwrap()
            .apply(&records())
            .unwrap();
    });
    let lines = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
    assert_eq!(
        lines.matches(typed.as_str()).count(),
        2,
        "log and standard error: {lines}"
    );
    hidden(&lines);
    for mode in ["problem", "init-panic"] {
        let config = canonical(&component, &[("salt", &typed), ("mode", mode)]);
        hidden(&format!("{:?}", transform(&component, config).unwrap_err()));
    }
    for path in files(&shelf.dir.path().join("store"), "") {
        let bytes = fs::read(&path).unwrap();
        assert!(
            !bytes.windows(4).any(|w| w == b"s3cr"),
            "{}",
            path.display()
        );
    }
}

#[test]
fn another_secret_is_the_same_config_and_a_missing_one_is_named() {
    let shelf = Shelf::new();
    let component = component(&shelf);
    let typed = reference(shelf.dir.path());
    let config = canonical(&component, &[("salt", &typed)]);
    fs::remove_file(shelf.dir.path().join("secrets.properties")).unwrap();
    assert_eq!(
        canonical(&component, &[("salt", &typed)]).digest(),
        config.digest()
    );
    match transform(&component, config).unwrap_err() {
        SetupError::Problems(told) => {
            assert_eq!(
                (told[0].key.as_str(), told[0].code.as_str()),
                ("salt", "unresolved")
            );
        }
        SetupError::Failed(e) => panic!("{e}"),
    }
}

#[test]
fn references_stand_only_where_a_plugin_asks_for_a_secret() {
    let shelf = Shelf::new();
    let component = component(&shelf);
    let told = problems(
        &component,
        &[("plain", "${env:HOME}"), ("salt", "${env:HOME}")],
    );
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        (told[0].key.as_str(), told[0].code.as_str()),
        ("plain", "reference_not_secret")
    );
    assert!(told[0].hint.is_some());
    // In a path a reference is resolved to read the file; the text crosses as typed.
    fs::write(shelf.dir.path().join("r.txt"), "rule").unwrap();
    let dir = shelf.dir.path().display();
    fs::write(
        shelf.dir.path().join("p.properties"),
        format!("dir = {dir}\n"),
    )
    .unwrap();
    let typed = format!("${{file:{dir}/p.properties:dir}}/r.txt");
    let config = canonical(&component, &[("rules", &typed)]);
    let (inside, given) = said(transform(&component, config).unwrap().as_mut());
    assert!(inside.contains(&typed), "{inside}");
    assert_eq!(given, "file rules rule\n");
}

fn write(shelf: &Shelf, name: &str, bytes: &[u8]) -> String {
    let path = shelf.dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_csv_table_crosses_as_text_with_nulls() {
    let shelf = Shelf::new();
    let component = component(&shelf);
    let path = write(
        &shelf,
        "t.csv",
        b"\xef\xbb\xbfcode,name\r\nde,\"Deutsch, land\"\nfr,\n",
    );
    let config = canonical(&component, &[("table", &path)]);
    let wanted = format!(
        "table table 2 rows\ncode u None [0, 2, 4] {:?}\nname u Some([1]) [0, 13, 13] {:?}\n",
        b"defr", b"Deutsch, land"
    );
    assert_eq!(
        said(transform(&component, config.clone()).unwrap().as_mut()).1,
        wanted
    );
    // The same from the store, where the file's name is gone.
    let plugins = shelf.open();
    plugins.keep(&component, &config).unwrap();
    fs::remove_file(&path).unwrap();
    let kept = plugins.config(config.digest()).unwrap();
    assert_eq!(
        said(transform(&component, kept).unwrap().as_mut()).1,
        wanted
    );
    // Other bytes are another config.
    write(&shelf, "t.csv", b"code,name\nde,x\n");
    assert_ne!(
        canonical(&component, &[("table", &path)]).digest(),
        config.digest()
    );
}

fn parquet(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut out = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut out, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    out
}

#[test]
fn a_parquet_table_keeps_its_types() {
    let shelf = Shelf::new();
    let component = component(&shelf);
    let price = Decimal128Array::from(vec![Some(150), None]);
    let file = parquet(vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2]))),
        (
            "price",
            Arc::new(price.with_precision_and_scale(9, 2).unwrap()),
        ),
        ("name", Arc::new(StringArray::from(vec!["a", "bc"]))),
    ]);
    let path = write(&shelf, "t.parquet", &file);
    let config = canonical(&component, &[("table", &path), ("second", &path)]);
    let (_, given) = said(transform(&component, config).unwrap().as_mut());
    for wanted in [
        "table second 2 rows",
        "table table 2 rows",
        "id l None [] [1, 0, 0, 0, 0, 0, 0, 0, 2,",
        "price d:9,2 Some([1]) [] [150, 0,",
        "name u None [0, 1, 3] [97, 98, 99]",
    ] {
        assert!(given.contains(wanted), "{wanted}: {given}");
    }
    let small = parquet(vec![("x", Arc::new(Float32Array::from(vec![1.0])))]);
    let path = write(&shelf, "small.parquet", &small);
    let told = problems(&component, &[("table", &path)]);
    assert_eq!(told[0].code, "table_invalid");
    assert!(told[0].message.contains("`x` has type Float32"), "{told:?}");
}

#[test]
fn a_bad_table_is_named_with_its_line() {
    let shelf = Shelf::new();
    let component = component(&shelf);
    let mut many = b"a\n".to_vec();
    many.extend(b"x\n".repeat((1 << 20) + 1));
    let wide = format!(
        "{}\n",
        (0..9_000)
            .map(|n| format!("c{n}"))
            .collect::<Vec<_>>()
            .join(",")
    );
    let wide = wide.clone() + &format!("{}\n", ",".repeat(8_999)).repeat(1_000);
    for (name, bytes, code, line, says) in [
        (
            "a.csv",
            &b"a,b\n1,2\n1\n"[..],
            "table_invalid",
            Some(3),
            "1 cells where the header row has 2",
        ),
        (
            "b.csv",
            b"a,b\n\"1\n\n2\",3\n\xff,1\n",
            "table_invalid",
            Some(5),
            "cell 1 is not UTF-8",
        ),
        (
            "c.csv",
            b"a,a\n",
            "table_invalid",
            Some(1),
            "two columns `a`",
        ),
        ("d.csv", b"", "table_invalid", Some(1), "header row"),
        (
            "e.csv",
            &many,
            "table_invalid",
            Some((1 << 20) + 2),
            "at most 1048576 rows",
        ),
        (
            "f.csv",
            wide.as_bytes(),
            "table_invalid",
            Some(934),
            "8388608 cells",
        ),
        (
            "g.csv",
            &vec![b'x'; (16 << 20) + 1],
            "table_invalid",
            None,
            "at most 16777216",
        ),
        (
            "l.csv",
            b"code,city\n1,\"Bremen\n2,Oslo\n3,Lima\n",
            "table_invalid",
            Some(2),
            "this quote is never closed",
        ),
        (
            "m.csv",
            b"code,city\r\n1,\"a\r\nb\"\r\n2,\"Li\"ma\r\n",
            "table_invalid",
            Some(4),
            "expected a comma or the end of the line after a closing quote",
        ),
        (
            "n.csv",
            b"code,city\n1,Li\"ma\n",
            "table_invalid",
            Some(2),
            "a quote inside a cell that does not begin with one",
        ),
        (
            "o.csv",
            b"\"code,city\n",
            "table_invalid",
            Some(1),
            "this quote is never closed",
        ),
        (
            "p.csv",
            b"code,city\n1,\"a\"\"",
            "table_invalid",
            Some(2),
            "this quote is never closed",
        ),
        (
            "q.csv",
            b"a,b\n1,2,3\n",
            "table_invalid",
            Some(2),
            "3 cells where the header row has 2",
        ),
        (
            "h.txt",
            b"a\n",
            "table_format",
            None,
            "neither .csv nor .parquet",
        ),
        (
            "i.parquet",
            b"a\n1\n",
            "table_format",
            None,
            "what its extension says",
        ),
        (
            "j.csv",
            b"PAR1",
            "table_format",
            None,
            "what its extension says",
        ),
        (
            "k.parquet",
            b"PAR1 and no more PAR1",
            "table_invalid",
            None,
            "not a readable Parquet",
        ),
    ] {
        let path = write(&shelf, name, bytes);
        let told = problems(&component, &[("table", &path)]);
        assert_eq!(
            (told.len(), told[0].code.as_str()),
            (1, code),
            "{name}: {told:?}"
        );
        let Some(SetupProblem { message, at, .. }) = told.first() else {
            panic!("{name}")
        };
        assert_eq!(at.map(|(line, _)| line), line, "{name}: {message}");
        assert!(
            message.contains(says) && message.contains(&path),
            "{name}: {message}"
        );
    }
}

fn pipeline(world: &World, shelf: &Shelf, more: &[(&str, &str)]) -> PipelineConfig {
    let guests = guest_dir().display().to_string();
    let store = shelf.places().store.display().to_string();
    let cache = shelf.places().cache.display().to_string();
    let mut all = vec![
        ("plugin.path", guests.as_str()),
        ("plugin.store", &store),
        ("plugin.cache", &cache),
        ("sink.compression", "none"),
        ("errors.tolerance", "all"),
        ("transforms", "back"),
        ("transforms.back.type", "guest-table"),
    ];
    all.extend(more.iter().copied());
    world.raw(&all)
}

#[test]
fn a_run_leaves_no_secret_behind_and_gc_keeps_what_its_log_names() {
    let (world, shelf) = (World::new(1), Shelf::new());
    world.produce([(0, &b"one"[..]), (0, b"two")].into_iter());
    let typed = reference(shelf.dir.path());
    let table = write(&shelf, "t.csv", b"a\n1\n");
    let more = [
        ("transforms.back.salt", typed.as_str()),
        ("transforms.back.table", &table),
        ("transforms.back.mode", "reject"),
    ];
    let config = pipeline(&world, &shelf, &more);
    let plugins = Plugins::open(Places::of(&config)).unwrap();
    let part = part_of(&plugins, &config, &config.transforms[0]).unwrap();
    let (component, named) = (part.by.component().unwrap().clone(), part.config);
    for ended in world.run(std::slice::from_ref(&config)) {
        ended.result.unwrap();
    }
    assert_eq!(world.log("raw", "raw").state().totals().records.read, 2);
    let left = files(world.dir.path(), "").into_iter();
    for path in left.chain(files(&shelf.dir.path().join("store"), "")) {
        let bytes = fs::read(&path).unwrap();
        assert!(
            !bytes.windows(4).any(|w| w == b"s3cr"),
            "{}",
            path.display()
        );
    }

    // A config that no log names, with a table of its own.
    let other = write(&shelf, "o.csv", b"a\n2\n");
    let loose = canonical(&component, &[("table", &other)]);
    plugins.keep(&component, &loose).unwrap();
    let raw = world.path("raw").display().to_string();
    let store = shelf.places().store;
    let gc = |args: &[&str]| {
        let output = shelf.weir(&[&["gc"], args].concat());
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    assert_eq!(gc(&[]).0, Some(2), "no log, nothing deleted");
    let (code, told) = gc(&["--zone", &raw]);
    assert!(
        code == Some(0) && told.contains("0 files"),
        "what is young stays: {told}"
    );
    age(&store);
    let (_, told) = gc(&["--zone", &raw, "--dry-run"]);
    assert!(told.contains("would delete 2 files"), "{told}");
    assert!(plugins.config(loose.digest()).is_ok());
    let (_, told) = gc(&["--zone", &raw]);
    assert!(told.contains("deleting 2 files"), "{told}");
    assert!(plugins.config(loose.digest()).is_err());
    let rule = world.log("raw", "raw").state().rules.transforms[0].clone();
    assert_eq!(
        plugins.config(&rule.config).unwrap().digest(),
        named.digest()
    );
    assert!(store.join("blobs/sha256").exists());
    let fresh = shelf.open();
    assert_eq!(
        fresh.component(&rule.component).unwrap().digest(),
        component.digest()
    );

    // Pushed versions stay without a log; yanked ones and the rest go, if no log is said to need them.
    let wasm = guest_dir().join("guest-table.wasm").display().to_string();
    assert!(shelf.weir(&["push", &wasm]).status.success());
    let yank = shelf.weir(&["yank", "guest-table@1.0.0", "--zone", &raw]);
    let told = String::from_utf8_lossy(&yank.stdout).into_owned();
    assert!(
        told.contains("in force in pipeline raw (zone raw)"),
        "{told}"
    );
    age(&store);
    assert!(gc(&["--all-unreferenced"]).1.contains("deleting 3 files"));
    assert_eq!(files(&store.join("blobs"), "").len(), 0);
}

#[test]
fn a_check_names_keys_and_lines_of_what_a_plugin_is_given() {
    let (world, shelf) = (World::new(1), Shelf::new());
    let table = write(&shelf, "t.csv", b"a,b\n1\n");
    let config = pipeline(
        &world,
        &shelf,
        &[
            ("transforms.back.plain", "${env:HOME}"),
            ("transforms.back.table", &table),
        ],
    );
    let plugins = Plugins::open(Places::of(&config)).unwrap();
    let (_, problems) = transforms_of(&plugins, &config, &input_schema());
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(
        told[0].contains("reference_not_secret") && told[0].contains("hint: "),
        "{told:?}"
    );
    assert!(
        told[1].contains(&format!("--> {table}:2:1  transforms.back.table")),
        "{told:?}"
    );
}
