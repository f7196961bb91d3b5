//! `make bench`: what Weir costs on this machine. Each figure is shown with a bound from the same run, and with a
//! second measurement of itself. Nothing here passes or fails by time. docs/bench.md says what each figure is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unsafe_code,
    reason = "a bench fails by panicking; it asks the kernel for CPU times and calls a native library"
)]

mod batches;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../suite/brokers.rs"]
mod brokers;
mod child;
mod compact;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../suite/connect_http.rs"]
mod connect_http;
mod files;
mod fleet;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../suite/hdfs_cluster.rs"]
mod hdfs_cluster;
mod inside;
mod live;
mod measure;
mod native;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../suite/object_servers.rs"]
mod object_servers;
mod peers;
mod report;
mod sources;
mod stores;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use child::{Place, Ran};
use inside::{Plugged, chains};
use measure::{Cpu, Series, rounds, series};
use report::{Figure, Machine, Report};
use weir::clock::SystemClock;
use weir::kafka::testkit::Admin;
use weir::kafka::{KafkaProps, Limits};
use weir::sample::{self, Dirty, ProduceOptions, Tally};

pub const SEED: u64 = 1;
const TOPIC: &str = "bench-books";
const FEW: &str = "bench-few";
/// A topic without messages.
const NONE: &str = "bench-none";
const MANY: &str = "bench-many";
const PARTITIONS: i32 = 4;
const MESSAGES: u64 = 200_000;
/// Waiting in the topic when the time to the first commit is taken.
const FEW_MESSAGES: u64 = 1_000;
/// While rules are swapped and plugins are compiled: some seconds of work.
const MANY_MESSAGES: u64 = 600_000;
const LARGE_COMPONENT: usize = 12 << 20;
/// Pipelines of one daemon.
const FLEET: usize = 50;
/// Through single plugins.
const PLUGIN_MESSAGES: usize = 60_000;

/// Only where it is asked for: it needs Spark, which `make bench-peers` installs.
const PEERS: &str = "peers";

const MIB: f64 = 1024.0 * 1024.0;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let [_, launch, command @ ..] = args.as_slice()
        && launch == child::LAUNCH
    {
        return child::launch(command);
    }
    // `cargo clippy --all-targets` and the like build this; `cargo test --benches` would run it with other arguments.
    if !args.iter().any(|arg| arg == "--bench") {
        println!("run by `make bench`");
        return ExitCode::SUCCESS;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap();
    std::env::set_current_dir(&root).unwrap();
    let out = root.join("target/bench");
    std::fs::create_dir_all(&out).unwrap();
    let machine = Machine::now();
    // `make bench ONLY="swaps log"`: parts of the table.
    let only = std::env::var("ONLY").unwrap_or_default();
    let only: Vec<&str> = only.split_whitespace().collect();
    let Some(broker) = brokers::kafka() else {
        return ExitCode::FAILURE;
    };
    let dir = tempfile::tempdir_in(&out).unwrap();
    let place = Place {
        dir: dir.path().to_owned(),
        cache: dir.path().join("cache"),
        store: dir.path().join("store"),
        plugins: root.join("target/plugins"),
        root,
    };
    let props = broker.props("bench");
    let tally = produce(&props, TOPIC, MESSAGES);
    if only != [PEERS] {
        produce(&props, FEW, FEW_MESSAGES);
        produce(&props, NONE, 0);
        produce(&props, MANY, MANY_MESSAGES);
    }

    let plugged = Plugged::new(&place, &[]);
    let limits = Limits {
        batch_records: plugged.config.limits.batch_rows,
        batch_bytes: plugged.config.limits.batch_bytes,
        ..Limits::default()
    };
    let bootstrap = broker.bootstrap();
    let mut figures = Vec::new();
    for (part, measure) in [
        (
            "raw",
            &(|| raw(&place, &plugged, &props, &limits, &tally)) as &dyn Fn() -> Vec<Figure>,
        ),
        ("plugins", &|| single_plugins(&plugged, &limits)),
        ("plain", &|| plain_and_six(&place, &limits)),
        ("files", &|| files::figures(&place, &plugged, &limits)),
        ("swaps", &|| swaps(&place, bootstrap)),
        ("push", &|| vec![beside_a_push(&place, bootstrap)]),
        ("load", &|| vec![plugin_load(&place)]),
        ("processed", &|| vec![processed(&place, bootstrap)]),
        ("batches", &|| batches::figures(&place)),
        ("start", &|| vec![first_commit(&place, bootstrap)]),
        ("log", &|| {
            let mut figures = vec![log_open(&place, &plugged)];
            figures.extend(long_logs(&place));
            figures
        }),
        ("compact", &|| compact::figures(&place, &plugged, &limits)),
        ("daemon", &|| daemon(&place, bootstrap)),
        ("sources", &|| sources::figures(&place, bootstrap)),
        ("stores", &|| stores::figures(&place, &plugged, bootstrap)),
        (PEERS, &|| peers::figures(&place, &props)),
    ] {
        let is_asked_for = only.contains(&part) || only.is_empty() && part != PEERS;
        if is_asked_for {
            let measured = measure();
            // A later part may fail; what was measured is not lost with it.
            measured.iter().for_each(|figure| say(&figure.rows()));
            figures.extend(measured);
        }
    }
    let report = Report {
        machine,
        tally,
        figures,
    };
    println!("\n{}", report.markdown());
    report.write(&out);
    ExitCode::SUCCESS
}

fn produce(props: &KafkaProps, topic: &str, count: u64) -> Tally {
    produce_flawed(props, topic, count, Dirty::SOME)
}

fn produce_flawed(props: &KafkaProps, topic: &str, count: u64, dirty: Dirty) -> Tally {
    say(&format!("{count} messages into {topic}"));
    Admin::connect(props.bootstrap())
        .unwrap()
        .create_topic(topic, PARTITIONS, &[])
        .unwrap();
    let props = KafkaProps::new(props.bootstrap(), "bench-producer", &BTreeMap::new()).unwrap();
    let options = ProduceOptions {
        topic: topic.to_owned(),
        count: Some(count),
        rate: 0.0,
        seed: SEED,
        dirty,
    };
    let clock = SystemClock::shared();
    let report = sample::produce(
        &props,
        &options,
        &clock,
        &AtomicBool::new(false),
        &mut |_| {},
    );
    report.unwrap().tally
}

/// Kafka → RAW: the child twice, the same chain without a log with components and natively, in turn.
fn raw(
    place: &Place,
    plugged: &Plugged,
    props: &KafkaProps,
    limits: &Limits,
    tally: &Tally,
) -> Vec<Figure> {
    say("Kafka -> RAW: the child, and the chain without a log");
    let mut peaks = [Vec::new(), Vec::new()];
    let mut counted = None;
    let names = [
        "weir run",
        "weir run again",
        "components, no log",
        "native, no log",
    ];
    let mut all = series(&names, |way| {
        if way < 2 {
            let ran = place.raw(props.bootstrap(), TOPIC, "raw_zone");
            let total = (ran.total.records.read, ran.total.rows.written);
            assert_eq!(total.0, tally.messages, "every message is in the log");
            assert_eq!(*counted.get_or_insert(total), total);
            peaks[way].push(ran.ended.peak_bytes / MIB);
            return total.0 as f64 / ran.ended.cpu;
        }
        let chains = match way {
            2 => chains(|| plugged.components()),
            _ => chains(|| plugged.native()),
        };
        let body = || inside::without_log(place, props, TOPIC, limits, chains);
        let (cpu, total) = Cpu::Process.of(body);
        assert_eq!(
            *counted.get_or_insert(total),
            total,
            "all ways write the same rows"
        );
        total.0 as f64 / cpu
    });
    let beside = all.split_off(2);
    let peaks: Vec<Series> = names
        .into_iter()
        .zip(peaks)
        // The round that does not count is no different here, but the others are counted alike.
        .map(|(name, peaks)| Series::new(name, peaks[1..].to_vec()))
        .collect();
    vec![
        Figure::new(
            "Kafka to RAW, both plugins",
            "messages per CPU-second",
            all,
            beside,
        ),
        Figure::new(
            "Peak memory of that child, two tasks",
            "MiB resident",
            peaks,
            Vec::new(),
        ),
    ]
}

fn single_plugins(plugged: &Plugged, limits: &Limits) -> Vec<Figure> {
    say("single plugins");
    let batches = inside::batches(PLUGIN_MESSAGES, limits);
    let (mut flatten, mut validate) = inside::plugins(plugged, &batches);
    let (f, v) = (flatten.split_off(2), validate.split_off(2));
    let unit = "MB of XML per CPU-second";
    vec![
        Figure::new("xml-flatten, sample books, epochs on", unit, flatten, f),
        Figure::new("validate, rules of books", "CPU ns per row", validate, v),
    ]
}

/// The shape of message that flatteners are usually measured with, and six checks of its rows.
fn plain_and_six(place: &Place, limits: &Limits) -> Vec<Figure> {
    say("single plugins, plain messages");
    let six = place.dir.join("six.toml");
    std::fs::write(&six, inside::SIX).unwrap();
    let rules = format!("transforms.rules.rules={}", six.display());
    let plugged = Plugged::new(place, &[inside::PLAIN.to_owned(), rules]);
    let batches = inside::plain(PLUGIN_MESSAGES, limits);
    let (mut flatten, mut validate) = inside::plugins(&plugged, &batches);
    let (f, v) = (flatten.split_off(2), validate.split_off(2));
    let unit = "MB of XML per CPU-second";
    vec![
        Figure::new("xml-flatten, plain messages, epochs on", unit, flatten, f),
        Figure::new("validate, six checks", "CPU ns per row", validate, v),
    ]
}

/// Rules swapped as fast as the command can while the topic is read at full speed: nothing is lost or doubled (the log's
/// totals are those of a run without swaps), and how long the tasks stood for it.
fn swaps(place: &Place, bootstrap: &str) -> Vec<Figure> {
    say("swaps under full load");
    let names = ["swaps", "swaps again", "no swaps"];
    let mut counted = None;
    let mut swaps = 0;
    let mut pauses = [Vec::new(), Vec::new()];
    let mut all = series(&names, |way| {
        let ran = match way {
            2 => place.raw(bootstrap, MANY, "live_zone"),
            _ => {
                let swapped = live::swapped(place, bootstrap, MANY);
                swaps += swapped.swaps;
                pauses[way].push(swapped.longest_pause_ms);
                swapped.ran
            }
        };
        let total = (ran.total.records.read, ran.total.rows.written);
        assert_eq!(total.0, MANY_MESSAGES, "every message is in the log");
        assert_eq!(
            *counted.get_or_insert(total),
            total,
            "swaps change no total"
        );
        total.0 as f64 / ran.ended.cpu
    });
    say(&format!("{swaps} swaps"));
    assert!(swaps > 0);
    let beside = all.split_off(2);
    let pauses = names.into_iter().zip(pauses);
    let pauses = pauses.map(|(name, all)| Series::new(name, all[1..].to_vec()));
    vec![
        Figure::new(
            "Kafka to RAW, rules swapped all the while",
            "messages per CPU-second",
            all,
            beside,
        ),
        Figure::new(
            "Longest pause of a task for a swap, per run",
            "ms",
            pauses.collect(),
            Vec::new(),
        ),
    ]
}

fn beside_a_push(place: &Place, bootstrap: &str) -> Figure {
    say("a component of 12 MB compiled beside the records");
    let large = live::large_component(place, LARGE_COMPONENT);
    let names = ["beside a push", "beside a push again", "alone"];
    let mut all = series(&names, |way| {
        let push = (way < 2).then_some(large.as_path());
        live::pushed_beside(place, bootstrap, MANY, push)
    });
    let beside = all.split_off(2);
    let name = "Kafka to RAW while 12 MB of component compile";
    Figure::new(name, "messages per second of the clock", all, beside)
}

fn plugin_load(place: &Place) -> Figure {
    say("loading a plugin");
    let names = ["from the cache", "from the cache again", "no cache"];
    let mut all = series(&names, |way| {
        if way == 2 {
            place.empty("cold");
            return inside::plugin_load(place, &place.dir.join("cold"));
        }
        inside::plugin_load(place, &place.cache)
    });
    let beside = all.split_off(2);
    Figure::new("Loading a plugin (validate)", "ms", all, beside)
}

fn processed(place: &Place, bootstrap: &str) -> Figure {
    say("RAW -> PROCESSED");
    place.raw(bootstrap, TOPIC, "raw_zone");
    // RAW's log knows each of its readers: one that comes back with an empty zone is refused.
    let mut reader = 0;
    let all = series(&["weir run", "weir run again"], |_| {
        let last = format!("processed_zone_{reader}");
        place.empty(&last);
        reader += 1;
        let Ran { ended, total, .. } =
            place.processed("raw_zone", &format!("processed_zone_{reader}"));
        assert!(total.rows.written > 0);
        total.rows.written as f64 / ended.cpu
    });
    Figure::new(
        "RAW to PROCESSED",
        "rows written per CPU-second",
        all,
        Vec::new(),
    )
}

fn first_commit(place: &Place, bootstrap: &str) -> Figure {
    say("start to first commit");
    let names = ["warm cache", "warm cache again", "no cache"];
    let runs = rounds(&names, |way| {
        if way == 2 {
            let cold = Place {
                cache: place.dir.join("cold"),
                ..place.clone()
            };
            cold.empty("cold");
            return cold.raw(bootstrap, FEW, "few_zone").first_commit_ms;
        }
        place.raw(bootstrap, FEW, "few_zone").first_commit_ms
    });
    let mut all: Vec<Series> = runs.into_iter().map(|(n, v)| Series::new(n, v)).collect();
    let beside = all.split_off(2);
    Figure::new("Start to first commit", "ms", all, beside)
}

/// Many pipelines in one process, and its answers while it works.
fn daemon(place: &Place, bootstrap: &str) -> Vec<Figure> {
    say("the daemon: memory of many pipelines");
    let fleet = series(&["daemon", "daemon again"], |_| {
        fleet::idle(place, bootstrap, FEW, FEW_MESSAGES, FLEET)
    });
    say("the daemon: throughput");
    let names = ["daemon", "daemon again", "weir run"];
    let mut alone = series(&names, |way| match way {
        2 => {
            let ran = place.raw(bootstrap, MANY, "raw_zone");
            ran.total.records.read as f64 / ran.ended.cpu
        }
        _ => fleet::throughput(place, bootstrap, MANY, MANY_MESSAGES),
    });
    let beside = alone.split_off(2);
    say("the daemon: answers while two pipelines read as fast as they can");
    let answers = series(&["p99", "p99 again"], |_| {
        let times = fleet::answers(place, bootstrap, MANY, MANY_MESSAGES);
        times[times.len() * 99 / 100]
    });
    say("the daemon: from a push to rows of it");
    let mut pushed = series(&["xml-flatten", "xml-flatten again", "validate"], |way| {
        let plugin = match way {
            2 => ("rules", "validate"),
            _ => ("flatten", "xml-flatten"),
        };
        fleet::pushed(place, (bootstrap, MANY), MANY_MESSAGES, plugin)
    });
    let small = pushed.split_off(2);
    vec![
        Figure::new(
            "Push over HTTP to the first commit of its rows",
            "s",
            pushed,
            small,
        ),
        Figure::new(
            "Memory of a daemon with 50 pipelines that wait",
            "MiB resident",
            fleet,
            Vec::new(),
        ),
        Figure::new(
            "Kafka to RAW in the daemon",
            "messages per CPU-second",
            alone,
            beside,
        ),
        Figure::new(
            "REST answers, p99, two pipelines flat out",
            "ms",
            answers,
            Vec::new(),
        ),
    ]
}

fn log_open(place: &Place, plugged: &Plugged) -> Figure {
    say("opening logs");
    for (zone, commits) in [("ten", 10), ("thousand", 1_000)] {
        place.empty(zone);
        inside::log_with(&place.at(zone), plugged, zone, commits);
    }
    let names = ["1,000 commits", "1,000 commits again", "10 commits"];
    let mut all = series(&names, |way| {
        let zone = if way == 2 { "ten" } else { "thousand" };
        inside::open_log(&place.at(zone), zone)
    });
    let beside = all.split_off(2);
    Figure::new("Opening the log after 1,000 commits", "ms", all, beside)
}

/// The same pipeline after a thousand commits and after a million: what a command that reads its log takes.
fn long_logs(place: &Place) -> Vec<Figure> {
    for (zone, commits) in [("short", 1_000), ("long", 1_000_000)] {
        say(&format!("a log of {commits} commits"));
        place.empty(zone);
        let begun = std::time::Instant::now();
        let left = inside::long_log(&place.at(zone), "bench", zone, commits);
        let micros = begun.elapsed().as_micros() as f64 / commits as f64;
        say(&format!("{micros:.0} µs a commit, {left} bytes are left"));
    }
    let names = ["a million commits", "a million commits again", "a thousand"];
    let mut peaks = [Vec::new(), Vec::new(), Vec::new()];
    let mut all = series(&names, |way| {
        let zone = if way == 2 { "short" } else { "long" };
        let (ended, ms) = place.looks_at_log(zone);
        peaks[way].push(ended.peak_bytes / MIB);
        ms
    });
    let beside = all.split_off(2);
    let peaks = names.into_iter().zip(peaks);
    // The round that does not count is no different here, but the others are counted alike.
    let mut peaks: Vec<Series> = peaks
        .map(|(name, of)| Series::new(name, of[1..].to_vec()))
        .collect();
    let peaks_beside = peaks.split_off(2);
    vec![
        Figure::new(
            "`weir log -n 1` after a million commits",
            "ms, the process whole",
            all,
            beside,
        ),
        Figure::new(
            "Peak memory of that command",
            "MiB resident",
            peaks,
            peaks_beside,
        ),
    ]
}

fn say(what: &str) {
    eprintln!("bench: {what}");
}
