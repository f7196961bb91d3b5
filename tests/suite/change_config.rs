//! What of a config may change on a zone that is there: each row of docs/change-a-pipeline.md, as `weir check --against` says it
//! and as a start does it.

use std::collections::BTreeMap;
use std::process::Command;

use weir::commit::Role;
use weir::config::{PipelineConfig, from_map};
use weir::connectors::CATALOG;
use weir::finding::{Finding, Verdict};
use weir::operations::against::against;
use weir::pipeline::Stop;

use crate::check::root;
use crate::world::{TOPIC, World};

/// RAW and PROCESSED of three records.
fn written() -> World {
    let world = World::new(1);
    world.produce((0..3).map(|_| (0, &b"a"[..])));
    start(&world, &world.raw(&[])).unwrap();
    start(&world, &world.processed("processed", &[])).unwrap();
    world
}

/// Runs what is there; the end of a run asks the world to stop.
fn start(world: &World, config: &PipelineConfig) -> Result<(), String> {
    let stop = Stop::new(world.clock.clone());
    let config = std::slice::from_ref(config);
    let ended = weir::pipeline::run(config, &world.clock, &stop, &|_| world.told.clone());
    let ended = ended.into_iter().next().unwrap();
    ended.result.map_err(|error| error.to_string())
}

fn without(key: &str, config: &PipelineConfig) -> PipelineConfig {
    let mut map = config.canonical();
    map.remove(key).unwrap();
    let map = map
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    from_map("test", map.collect::<BTreeMap<_, _>>(), &CATALOG).unwrap()
}

fn of<'a>(found: &'a [Finding], look: &str) -> &'a Finding {
    let named = found.iter().find(|finding| finding.look == look);
    named.unwrap_or_else(|| panic!("nothing of {look}: {found:#?}"))
}

fn look(world: &World, config: &PipelineConfig) -> Vec<Finding> {
    against(config, None, &world.clock)
}

/// The check says it, and the start does what it says; afterwards the zone is as it was.
fn refused(world: &World, config: &PipelineConfig, key: &str, says: &str) {
    let found = look(world, config);
    let finding = of(&found, key);
    assert_eq!(finding.verdict, Verdict::Fail, "{finding:?}");
    assert!(finding.says.contains(says), "{finding:?}");
    let version = world.log(&config.home.zone, &config.name).version();
    let error = start(world, config).unwrap_err();
    assert!(error.contains(says), "{error}");
    let after = world.log(&config.home.zone, &config.name).version();
    assert_eq!(after, version, "the start wrote something");
}

fn allowed(world: &World, config: &PipelineConfig, key: &str, verdict: Verdict, says: &str) {
    let found = look(world, config);
    let finding = of(&found, key);
    assert_eq!(finding.verdict, verdict, "{finding:?}");
    assert!(finding.says.contains(says), "{finding:?}");
    start(world, config).unwrap();
}

#[test]
fn the_same_config_fits() {
    let world = written();
    for config in [world.raw(&[]), world.processed("processed", &[])] {
        let found = look(&world, &config);
        assert!(found.len() > 2, "{found:#?}");
        for finding in found {
            assert_eq!(finding.verdict, Verdict::Pass, "{finding:?}");
        }
    }
}

#[test]
fn another_partition_is_refused_while_there_are_rows_of_the_old_one() {
    let world = written();
    let other = |more: &[(&str, &str)]| world.processed("processed", more);
    let name = other(&[("sink.partition.name", "day")]);
    refused(
        &world,
        &name,
        "sink.partition",
        "the table has files in `date=",
    );
    let format = other(&[("sink.partition.format", "%Y-%m")]);
    refused(
        &world,
        &format,
        "sink.partition",
        "`date` with this format does not make",
    );
    // Without rows there is nothing that does not fit.
    let file = saved(&world, &other(&[]));
    let (code, said) = weir(&["pipeline", "rewind", &file, "--all=start"]);
    assert_eq!(code, 0, "{said}");
    allowed(
        &world,
        &format,
        "sink.partition",
        Verdict::Pass,
        "0 of it so far",
    );
}

#[test]
fn another_dedup_key_is_refused_and_none_is_a_warning() {
    let world = written();
    let other = world.processed("processed", &[("sink.dedup.key", "value,_offset")]);
    refused(
        &world,
        &other,
        "sink.dedup.key",
        "deduplicated by other columns, `value`",
    );
    let none = without("sink.dedup.key", &world.processed("processed", &[]));
    let says = "what is written from now on is not";
    world.produce([(0, &b"b"[..])].into_iter());
    start(&world, &world.raw(&[])).unwrap();
    allowed(&world, &none, "sink.dedup.key", Verdict::Warn, says);
    let back = world.processed("processed", &[]);
    refused(
        &world,
        &back,
        "sink.dedup.key",
        "the table has files without keys",
    );
}

#[test]
fn topics_come_and_go_and_keep_their_place() {
    let world = written();
    world.broker.create_topic("others", 1).unwrap();
    world.send("others", [(0, &b"b"[..])].into_iter());
    let both = world.raw(&[("source.topics", "books,others")]);
    allowed(
        &world,
        &both,
        "source.topics",
        Verdict::Pass,
        "`others` would be new",
    );
    world.produce([(0, &b"c"[..])].into_iter());
    let one = world.raw(&[("source.topics", "others")]);
    let says = "`books` would not be read any more";
    allowed(&world, &one, "source.topics", Verdict::Warn, says);
    start(&world, &world.raw(&[])).unwrap();
    let log = world.log("raw", "raw");
    assert_eq!(log.state().totals().rows.written, 5, "from where it stood");
}

/// Another key for what is read: the first topic's positions stay, and the one that is found is read from its first record.
#[test]
fn a_pattern_is_another_way_to_name_topics() {
    let world = written();
    world.broker.create_topic("others", 1).unwrap();
    world.send("others", [(0, &b"b"[..])].into_iter());
    let by_pattern = |pattern| {
        let named = world.raw(&[("source.start", "latest")]);
        let mut map = named.canonical();
        map.remove("source.topics");
        map.insert("source.subscribe.pattern".to_owned(), pattern);
        let map = map
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()));
        from_map("test", map.collect::<BTreeMap<_, _>>(), &CATALOG).unwrap()
    };
    let both = by_pattern("books|other.*".to_owned());
    allowed(
        &world,
        &both,
        "source.topics",
        Verdict::Pass,
        "as in the log",
    );
    assert_eq!(world.log("raw", "raw").state().totals().rows.written, 4);
    let one = by_pattern("other.*".to_owned());
    let says = "`books` would not be read any more";
    allowed(&world, &one, "source.topics", Verdict::Warn, says);
}

/// Rows as they came have columns that an inferred transform would not make.
#[test]
fn an_inferred_schema_is_refused_where_a_column_would_go() {
    let world = written();
    world.produce([(0, &b"{\"n\":1}"[..])].into_iter());
    let plugins = crate::world::plugins_dir().display().to_string();
    let store = world.path("store").display().to_string();
    let keys = [
        ("schema.inference", "true"),
        ("plugin.path", plugins.as_str()),
        ("plugin.store", store.as_str()),
    ];
    let error = start(&world, &world.raw(&keys)).unwrap_err();
    assert!(error.contains("`value` goes"), "{error}");
    assert_eq!(world.log("raw", "raw").state().totals().rows.written, 3);
}

#[test]
fn a_start_that_is_configured_later_moves_nothing() {
    let world = written();
    let latest = world.raw(&[("source.start", "latest")]);
    world.produce([(0, &b"b"[..])].into_iter());
    allowed(
        &world,
        &latest,
        "source.topics",
        Verdict::Pass,
        "as in the log",
    );
    assert_eq!(world.log("raw", "raw").state().totals().rows.written, 4);
}

#[test]
fn another_table_gets_what_comes_and_the_old_one_keeps_what_it_has() {
    let world = written();
    world.produce([(0, &b"b"[..])].into_iter());
    let other = world.raw(&[("sink.table", "volumes")]);
    allowed(
        &world,
        &other,
        "sink.table",
        Verdict::Warn,
        "`books` would get no more rows",
    );
    let of_table = |table: &str| {
        let log = world.log("raw", "raw");
        let live = log.state().live.values();
        let rows = live
            .filter(|live| live.file.path.starts_with(table))
            .map(|live| live.file.rows);
        rows.sum::<u64>()
    };
    assert_eq!((of_table("books/"), of_table("volumes/")), (3, 1));
}

#[test]
fn another_name_is_another_pipeline_and_may_not_write_the_table() {
    let world = written();
    let other = world.raw(&[("name", "raw2")]);
    let found = look(&world, &other);
    assert_eq!(
        of(&found, "sink.table").verdict,
        Verdict::Fail,
        "{found:#?}"
    );
    let log = of(&found, "log");
    assert!(log.hint.as_ref().unwrap().contains("raw/raw"), "{log:?}");
    let error = start(&world, &other).unwrap_err();
    assert!(
        error.contains("table books belongs to pipeline raw"),
        "{error}"
    );
}

#[test]
fn how_files_are_written_may_change_at_any_time() {
    let world = written();
    world.produce([(0, &b"b"[..])].into_iter());
    let raw = world.raw(&[
        ("sink.compression", "gzip"),
        ("sink.encodings", "plain"),
        ("sink.columns.value.compression", "lz4"),
        ("sink.compact.every", "1h"),
        ("sink.row.group.bytes", "1MiB"),
        ("sink.rotate.age", "5s"),
        ("sink.rotate.bytes", "1MiB"),
        ("commit.log.retention", "2h"),
        ("tasks.max", "2"),
        ("memory.budget", "64MiB"),
        ("errors.tolerance", "all"),
    ]);
    allowed(&world, &raw, "log", Verdict::Pass, "at version");
    let processed = world.processed(
        "processed",
        &[
            ("sink.dedup.lookback", "3d"),
            ("sink.sort", "_offset"),
            ("sink.compression", "none"),
        ],
    );
    allowed(&world, &processed, "log", Verdict::Pass, "at version");
    let log = world.log("processed", "processed");
    assert_eq!(log.state().totals().rows.written, 2, "a and b");
}

#[test]
fn other_rules_hold_from_the_next_start_on_unless_readers_would_lose_a_column() {
    let world = World::new(1);
    let rules = |more: &[(&str, &str)]| {
        let mut keys = vec![
            ("transforms", "flatten"),
            ("transforms.flatten.type", "json-flatten"),
            ("transforms.flatten.columns", "a,b"),
            ("transforms.flatten.types.a", "long"),
        ];
        keys.extend(more);
        world.raw(&keys)
    };
    world.produce([(0, &br#"{"a": 1, "b": "x"}"#[..])].into_iter());
    start(&world, &rules(&[])).unwrap();
    let found = look(&world, &rules(&[]));
    assert!(
        of(&found, "transforms").says.contains("those in force"),
        "{found:#?}"
    );
    let fewer = rules(&[("transforms.flatten.columns", "a")]);
    refused(&world, &fewer, "transforms", "`b` goes");
    let retyped = rules(&[("transforms.flatten.types.a", "int")]);
    refused(&world, &retyped, "transforms", "`a` was");
    let more = rules(&[("transforms.flatten.columns", "a,b,c")]);
    let says = "other rules than those in force";
    allowed(&world, &more, "transforms", Verdict::Warn, says);
}

#[test]
fn another_cluster_is_no_way_to_go_on() {
    let (world, other) = (written(), World::new(1));
    let moved = world.raw(&[("source.bootstrap.servers", other.broker.bootstrap())]);
    let error = start(&world, &moved).unwrap_err();
    assert!(error.contains(TOPIC), "{error}");
}

/// The config as a file.
fn saved(world: &World, config: &PipelineConfig) -> String {
    let map = config.canonical();
    let lines: Vec<String> = map
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let file = world.path(&format!("{}.properties", config.name));
    std::fs::write(&file, lines.join("\n")).unwrap();
    file.display().to_string()
}

fn weir(args: &[&str]) -> (i32, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(args)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    (
        out.status.code().unwrap(),
        said + &String::from_utf8_lossy(&out.stderr),
    )
}

/// What a person sees, and the exit code.
#[test]
fn the_command_says_what_fits_and_ends_with_2_if_a_start_would_be_refused() {
    let world = written();
    let file = saved(&world, &world.processed("processed", &[]));
    let zone = world.path("processed").display().to_string();
    let (code, said) = weir(&["check", &file, "--against", &zone]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("pass  sink.dedup.key: `value`, as in the table"),
        "{said}"
    );
    let (code, said) = weir(&[
        "check",
        &file,
        "--against",
        &zone,
        "--set",
        "sink.partition.name=day",
    ]);
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains("fail  sink.partition: the table has files in `date="),
        "{said}"
    );
    let (code, said) = weir(&[
        "check",
        &file,
        "--against",
        &zone,
        "--set",
        "sink.partition.name=day",
        "--json",
    ]);
    assert_eq!(code, 2, "{said}");
    let answer: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(answer["ok"], false, "{said}");
    assert_eq!(answer["against"][2]["verdict"], "fail", "{said}");
    let nowhere = world.path("nowhere").display().to_string();
    let (code, said) = weir(&["check", &file, "--against", &nowhere]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("nowhere is not there"), "{said}");
    assert!(!world.path("nowhere").exists());
}

/// Each test here is a row there.
#[test]
fn the_page_names_the_keys() {
    let page = std::fs::read_to_string(root().join("docs/change-a-pipeline.md")).unwrap();
    for key in [
        "name",
        "sink.url",
        "source.topics",
        "source.subscribe.pattern",
        "schema.inference",
        "source.start",
        "source.bootstrap.servers",
        "sink.table",
        "transforms.*",
        "sink.partition.field",
        "sink.partition.by",
        "sink.format",
        "sink.tombstones",
        "sink.dedup.key",
        "sink.compression",
        "commit.log.retention",
    ] {
        assert!(page.contains(&format!("`{key}`")), "{key}");
    }
}

/// Only Parquet is read back.
#[test]
fn files_that_a_reader_could_not_read_are_refused_while_it_reads() {
    let world = written();
    let json = |more: &[(&str, &str)]| world.raw(&[&[("sink.format", "json")], more].concat());
    let says = "only Parquet is read back: `processed/processed` reads this zone";
    refused(&world, &json(&[]), "sink.format", says);
    // Rows of another table are none of its business.
    let others = json(&[("sink.table", "others")]);
    allowed(&world, &others, "sink.format", Verdict::Pass, "json");
    refused(&world, &json(&[]), "sink.format", says);
    let file = saved(&world, &world.raw(&[]));
    let (code, said) = weir(&[
        "zone",
        "forget-reader",
        &file,
        "processed/processed",
        "--yes",
        "--reason",
        "gone",
    ]);
    assert_eq!(code, 0, "{said}");
    allowed(&world, &json(&[]), "sink.format", Verdict::Pass, "json");
    allowed(
        &world,
        &world.raw(&[]),
        "sink.format",
        Verdict::Pass,
        "parquet",
    );
}

/// Records are read by coordinates, not by directories.
#[test]
fn directories_of_records_may_change_at_any_time() {
    let world = written();
    world.produce([(0, &b"b"[..])].into_iter());
    let by = world.raw(&[
        ("sink.partition.by", "partition"),
        ("sink.file.names", "offsets"),
        ("sink.tombstones", "drop"),
    ]);
    start(&world, &by).unwrap();
    let processed = world.processed("processed", &[]);
    start(&world, &processed).unwrap();
    let log = world.log(&processed.home.zone, "processed");
    let live = log.state().live.values();
    let rows = live.filter(|live| live.file.role == Role::Rows);
    assert_eq!(rows.map(|live| live.file.rows).sum::<u64>(), 2);
}
