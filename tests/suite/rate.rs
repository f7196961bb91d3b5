//! `source.type = "rate"`: rows by number, exactly once, without Kafka. The tests read what people read: the listed
//! Parquet files, and the program's output.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use weir::clock::{Clock as _, ManualClock};
use weir::commit::{LogName, Role, verify};
use weir::config::{PipelineConfig, Source, from_map};
use weir::connectors::CATALOG;
use weir::source::ReadLimits;
use weir::store;
use weir::zone::read_file;

use crate::brokers::{files, until, within};
use crate::case::Case;
use crate::daemon_rig;
use crate::world::{open_log, plugins_dir};

/// The pipeline `rate`, which writes the table `rate` of the zone `zone`.
struct Rig {
    case: Case,
}

const SEED: &str = "source.seed = 7\n";

impl Deref for Rig {
    type Target = Case;

    fn deref(&self) -> &Case {
        &self.case
    }
}

impl Rig {
    fn new(source: &str, rest: &str) -> Rig {
        let rig = Rig {
            case: Case::new("rate", "zone"),
        };
        rig.declare(source, rest);
        rig
    }

    fn declare(&self, source: &str, rest: &str) {
        let keys = format!(
            "source.type = \"rate\"\n{source}\
             sink.type = \"zone\"\nsink.url = \"file:zone\"\nsink.rotate.age = \"100ms\"\n"
        );
        self.case.declare(&keys, rest);
    }

    /// Number → all that a row holds, of every row that is listed, each of which must be there once.
    fn listed(&self) -> BTreeMap<i64, String> {
        listed(&self.path("zone"), &LogName::new("rate", "zone"))
    }
}

pub(crate) fn listed(zone: &Path, name: &LogName) -> BTreeMap<i64, String> {
    let store = store::open_url(&format!("file:{}", zone.display())).unwrap();
    let verified = verify(store.as_ref(), name).unwrap().unwrap();
    assert!(verified.problems.is_empty(), "{:?}", verified.problems);
    let log = open_log(zone, &name.pipeline, &name.zone).unwrap().unwrap();
    let mut rows = BTreeMap::new();
    for path in files(&zone.join("rate"), ".parquet") {
        let id = path.file_stem().unwrap().to_string_lossy().into_owned();
        let live = &log.state().live[&id];
        assert_eq!(live.file.role, Role::Rows);
        for batch in read_file(&store, name, &live.file).unwrap() {
            for (number, row) in rows_of(&batch.unwrap()) {
                assert_eq!(rows.insert(number, row), None, "{number} twice");
            }
        }
    }
    rows
}

/// The message as it was, or its fields, and `_timestamp`.
fn rows_of(batch: &RecordBatch) -> Vec<(i64, String)> {
    let column = |name| batch.column_by_name(name);
    let times = column("_timestamp").unwrap();
    let time = |row| times.as_primitive::<TimestampMicrosecondType>().value(row);
    let of = |row| match column("random") {
        Some(randoms) => {
            let number = column("value").unwrap().as_primitive::<Int64Type>();
            let random = randoms.as_primitive::<Int64Type>().value(row);
            let timestamp = column("timestamp").map(|t| t.as_string::<i32>().value(row));
            let text = format!("{random} {timestamp:?} {}", time(row));
            (number.value(row), text)
        }
        None => {
            let payload = column("value").unwrap().as_binary::<i32>().value(row);
            let parsed: Value = serde_json::from_slice(payload).unwrap();
            let text = String::from_utf8(payload.to_vec()).unwrap();
            (
                parsed["value"].as_i64().unwrap(),
                format!("{text} {}", time(row)),
            )
        }
    };
    (0..batch.num_rows()).map(of).collect()
}

fn all(rows: &BTreeMap<i64, String>, total: i64) {
    let values: Vec<i64> = rows.keys().copied().collect();
    assert_eq!(values, (0..total).collect::<Vec<i64>>());
}

/// What `total` rows of this seed hold, computed by a run that nothing disturbs.
fn undisturbed(total: i64, partitions: i32) -> BTreeMap<i64, String> {
    let source = format!(
        "{SEED}source.partitions = {partitions}\nsource.rows.total = {total}\nsource.rows.per.second = 1000000\n"
    );
    let rig = Rig::new(&source, "");
    rig.done(&["run", "rate.toml", "--available-now"]);
    let rows = rig.listed();
    all(&rows, total);
    rows
}

#[test]
fn a_rate_with_an_end_is_taken_once_and_a_second_run_adds_nothing() {
    let rig = Rig::new(
        "source.rows.total = 10000\nsource.rows.per.second = 1000000\nsource.partitions = 3\n",
        "tasks.max = 2\n",
    );
    rig.done(&["check", "rate.toml"]);
    rig.done(&["run", "rate.toml", "--available-now"]);
    all(&rig.listed(), 10_000);
    let version = rig.log().unwrap().version();
    rig.done(&["run", "rate.toml", "--available-now"]);
    assert_eq!(rig.log().unwrap().version(), version);
}

#[test]
fn kills_lose_nothing_double_nothing_and_change_no_row() {
    const TOTAL: i64 = 6_000;
    let rig = Rig::new(
        &format!(
            "{SEED}source.partitions = 2\nsource.rows.total = {TOTAL}\nsource.rows.per.second = 4000\n"
        ),
        "tasks.max = 2\n",
    );
    let mut random = rand::rngs::SmallRng::seed_from_u64(11);
    let mut kills = 0;
    while kills < 8 && rig.settled() < TOTAL {
        let before = rig.settled();
        let mut child = rig.spawn();
        until("a commit", || {
            (rig.settled() > before || rig.settled() >= TOTAL).then_some(())
        });
        let pause = Duration::from_millis(random.random_range(0..150));
        within(pause, || None::<()>);
        child.crash();
        kills += 1;
    }
    assert!(kills >= 3, "only {kills} kills");
    rig.done(&["run", "rate.toml", "--available-now"]);
    assert_eq!(rig.listed(), undisturbed(TOTAL, 2));
}

#[test]
fn what_is_taken_back_comes_again_as_it_was() {
    const TOTAL: i64 = 2_000;
    let rig = Rig::new(
        &format!("{SEED}source.rows.total = {TOTAL}\nsource.rows.per.second = 1000000\n"),
        "sink.rotate.rows = 300\n",
    );
    rig.done(&["run", "rate.toml", "--available-now"]);
    let before = rig.listed();
    all(&before, TOTAL);
    rig.done(&["pipeline", "rewind", "rate.toml", "rate/0=0"]);
    assert_eq!(rig.settled(), 0);
    rig.done(&["run", "rate.toml", "--available-now"]);
    assert_eq!(rig.listed(), before);
}

#[test]
fn keys_that_make_other_rows_are_refused_with_a_remedy_of_this_source() {
    let rig = Rig::new("source.rows.total = 10\n", "");
    rig.done(&["run", "rate.toml", "--available-now"]);
    for other in [
        "source.seed = 1\n",
        "source.partitions = 2\n",
        "source.format = \"text\"\n",
        "source.timestamp.step = \"1s\"\n",
    ] {
        rig.declare(&format!("source.rows.total = 10\n{other}"), "");
        let output = rig.output(&["run", "rate.toml", "--available-now"]);
        assert_eq!(output.status.code(), Some(1), "{other}{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        for part in [
            "source_lost",
            "has other rows",
            "put source.seed,",
            "another name",
        ] {
            assert!(said.contains(part), "{other}{part}: {said}");
        }
        assert!(!said.contains("source.on.topic"), "a key of kafka: {said}");
    }
    // The pace and the end decide nothing about a row.
    let more = "source.rows.total = 20\nsource.rows.per.second = 1000\nsource.ramp.up = \"10ms\"\n";
    rig.declare(more, "");
    rig.done(&["run", "rate.toml", "--available-now"]);
    all(&rig.listed(), 20);
}

/// "Try it" of docs/add-a-source.md, as it stands there; plugins and their cache are those of the tests.
#[test]
fn what_the_page_says_to_try_works() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/add-a-source.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, section) = page.split_once("## Try it").unwrap();
    let (_, config) = section.split_once("```toml\n").unwrap();
    let (config, after) = config.split_once("```").unwrap();
    for said in [
        "weir run try.toml`",
        "weir pipeline rewind try.toml --all=start`",
        "`rows.total = 3000` in `[source]`",
        "weir run try.toml --available-now`",
    ] {
        assert!(after.contains(said), "the page says something else: {said}");
    }
    let rig = Rig::new("", "");
    let plugins = plugins_dir();
    let ours = format!(
        "plugin.path = \"{0}\"\nplugin.store = \"store\"\nplugin.cache = \"{0}/../plugins-test/cache\"\n",
        plugins.display()
    );
    fs::write(rig.path("try.toml"), format!("{ours}{config}")).unwrap();
    let zone = rig.path("data/try");
    let listed = || listed(&zone, &LogName::new("try", "try"));
    let mut child = rig
        .weir(&["run", "try.toml", "--progress", "none"])
        .spawn()
        .unwrap();
    until("a file", || {
        (!files(&zone.join("rate"), ".parquet").is_empty()).then_some(())
    });
    let pid = child.id().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert!(child.wait().unwrap().success());
    let before = listed();
    rig.done(&["pipeline", "rewind", "try.toml", "--all=start"]);
    assert!(listed().is_empty());
    let ends = config.replace("[source]\n", "[source]\nrows.total = 3000\n");
    fs::write(rig.path("try.toml"), format!("{ours}{ends}")).unwrap();
    rig.done(&["run", "try.toml", "--available-now"]);
    let again = listed();
    all(&again, 3000);
    for (number, row) in before.range(..3000) {
        assert_eq!(again[number], *row, "the same row again");
    }
}

#[test]
fn rules_change_while_rows_are_made() {
    const TOTAL: i64 = 100_000_000;
    let transforms = "[[transforms]]\nname = \"flatten\"\ntype = \"json-flatten\"\n\
                      columns = [\"value\", \"random\"]\ntypes.value = \"long\"\ntypes.random = \"long\"\n\
                      [[transforms]]\nname = \"rules\"\ntype = \"validate\"\nrules = \"rules.toml\"\n\
                      [errors]\ntolerance = \"all\"\n";
    let rig = Rig::new("source.rows.per.second = 2000\n", transforms);
    let rules = |most: i64| {
        let rules = format!("[columns.value]\nrequired = true\nmax = {most}\n");
        fs::write(rig.path("rules.toml"), rules).unwrap();
    };
    rules(TOTAL);
    let child = rig.spawn();
    until("a commit", || (rig.settled() > 0).then_some(()));
    // From here on every row is refused.
    rules(0);
    let answer = rig.done(&["pipeline", "swap", "rate.toml", "--reload", "--json"]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert!(answer.is_object(), "{answer}");
    let swapped = rig.settled();
    until("rows of the new rules", || {
        (rig.settled() > swapped).then_some(())
    });
    child.stop();
    let log = rig.log().unwrap();
    let totals = log.state().totals();
    assert!(totals.closes());
    assert!(
        totals.rows.written > 0 && totals.dead_letters > 0,
        "{totals:?}"
    );
    assert_eq!(log.state().periods.len(), 2);
    let rows = rig.listed();
    all(&rows, i64::try_from(totals.rows.written).unwrap());
}

#[test]
fn the_daemon_runs_it_and_goes_on_after_a_kill() {
    let mut rig = daemon_rig::Rig::new(&[]);
    let url = format!("file:{}", rig.path("zone").display());
    let config: BTreeMap<String, String> = [
        ("connector.class", "weir"),
        ("source.type", "rate"),
        ("source.rows.per.second", "1000"),
        ("sink.type", "zone"),
        ("sink.url", &url),
        ("sink.rotate.age", "100ms"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let daemon = rig.start(&[]);
    let answer = daemon.put_config("rate", &config);
    assert_eq!(answer.status, 201, "{}", answer.text());
    until("rows", || daemon.position("rate").filter(|at| *at > 100));
    let mut wrong = config.clone();
    wrong.insert("source.topics".into(), "a".into());
    let answer = daemon.put_config("rate", &wrong);
    assert_eq!(answer.status, 400, "{}", answer.text());
    daemon.kill();
    let daemon = rig.start(&[]);
    let before = daemon.position("rate").unwrap_or(0);
    until("more rows", || {
        daemon.position("rate").filter(|at| *at > before + 100)
    });
    assert_eq!(daemon.state("rate"), "RUNNING");
    let answer = daemon.ask("PUT", "/connectors/rate/stop", None);
    assert!(answer.status < 300, "{}", answer.text());
    until("an end", || {
        (daemon.state("rate") == "STOPPED").then_some(())
    });
    let log = open_log(&rig.path("zone"), "rate", "zone")
        .unwrap()
        .unwrap();
    let totals = log.state().totals();
    assert!(totals.closes());
    let settled: i64 = log.state().splits.values().map(|chain| chain.to).sum();
    assert_eq!(totals.rows.written, u64::try_from(settled).unwrap());
    assert_eq!(json!(totals.rows.written), json!(totals.records.read));
}

fn config(more: &[(&str, &str)]) -> weir::error::Result<PipelineConfig> {
    let mut map = BTreeMap::from([
        ("name", "rate"),
        ("source.type", "rate"),
        ("sink.type", "zone"),
        ("sink.url", "memory:rate"),
    ]);
    map.extend(more.iter().copied());
    from_map("test", map, &CATALOG)
}

#[test]
fn keys_of_other_sources_and_an_end_that_never_comes_are_refused() {
    for (key, value, told) in [
        (
            "source.topics",
            "a",
            "belongs to source.type=\"kafka\"; here it is \"rate\"",
        ),
        (
            "source.kafka.fetch.min.bytes",
            "1",
            "belongs to source.type=\"kafka\"",
        ),
        (
            "sink.partition.field",
            "a",
            "belongs to source.type=\"zone\"",
        ),
        ("trigger", "available-now", "has no end"),
        ("source.rows.per.second", "0", "expected an integer"),
        ("source.type", "rates", "`kafka` or `zone` or `rate`"),
    ] {
        let error = config(&[(key, value)]).unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
    }
    config(&[("trigger", "available-now"), ("source.rows.total", "5")]).unwrap();
}

/// The clock stands still but where the source sleeps.
#[test]
fn rows_come_at_their_pace_after_a_ramp_and_go_on_from_a_position() {
    let clock = ManualClock::at(0);
    let shared: std::sync::Arc<dyn weir::clock::Clock> = clock.clone();
    let config = config(&[
        ("source.rows.per.second", "100"),
        ("source.ramp.up", "4s"),
        ("source.partitions", "2"),
    ]);
    let Source::Records(rate) = config.unwrap().source else {
        panic!("a source of records");
    };
    let connector = rate.connect(&shared).unwrap();
    let topics = connector.topics().unwrap();
    let mut positions = connector.starts(&topics[0]).unwrap();
    positions[1].next = 1_000_000;
    let limits = ReadLimits {
        batch_records: 10,
        batch_bytes: 1 << 20,
        memory: 1 << 20,
    };
    let mut source = connector.open(&positions, &limits).unwrap();
    let mut next = [0, 1_000_000];
    let mut made_until = |until: Duration| {
        while clock.elapsed() < until {
            let wait = until.saturating_sub(clock.elapsed());
            let Some(batch) = source.next(wait).unwrap() else {
                continue;
            };
            let partition = batch.covers.tp.partition as usize;
            assert_eq!(batch.covers.range.from, next[partition], "no hole");
            assert!(batch.len() <= 10);
            next[partition] = batch.covers.range.to;
        }
        (next[0], next[1] - 1_000_000)
    };
    // The ramp halves what four seconds give; both partitions have their share.
    let near = |(a, b): (i64, i64), each: i64| (a - each).abs() <= 2 && (b - each).abs() <= 2;
    let after = made_until(Duration::from_secs(4));
    assert!(near(after, 100), "{after:?}");
    let after = made_until(Duration::from_secs(6));
    assert!(near(after, 200), "{after:?}");
}
