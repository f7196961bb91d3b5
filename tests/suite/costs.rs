//! Requests to an object store, counted between Weir and a real server, are as docs/costs.md says: per commit, per
//! file, per start, per idle hour, per batch of PROCESSED.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use weir::clock::{Clock, SystemClock};
use weir::commit::{Draft, Limits, Log, Swap};
use weir::config::{Location, PipelineConfig, from_map};
use weir::connectors::CATALOG;
use weir::pipeline::{Stop, run};

use crate::brokers::until;
use crate::check::root;
use crate::object_servers::{self, ACCESS_KEY, SECRET_KEY, Server, s3};
use crate::proxy::{Asked, Proxy, Verb, What};
use crate::world::{TOPIC, World, log_at};

/// Requests by the classes in which services bill them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cost {
    puts: i64,
    lists: i64,
    gets: i64,
    deletes: i64,
}

impl Cost {
    fn of<'a>(asked: impl IntoIterator<Item = &'a Asked>) -> Cost {
        let mut cost = Cost::default();
        for asked in asked {
            *match asked.verb {
                Verb::Create | Verb::Put | Verb::Copy => &mut cost.puts,
                Verb::Begin | Verb::Part | Verb::Complete => &mut cost.puts,
                Verb::List | Verb::Uploads => &mut cost.lists,
                Verb::Get | Verb::Head => &mut cost.gets,
                Verb::Delete | Verb::Abort => &mut cost.deletes,
                Verb::Other => panic!("a request of no class: {asked:?}"),
            } += 1;
        }
        cost
    }

    fn less(self, other: Cost) -> Cost {
        Cost {
            puts: self.puts - other.puts,
            lists: self.lists - other.lists,
            gets: self.gets - other.gets,
            deletes: self.deletes - other.deletes,
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cost {
            puts,
            lists,
            gets,
            deletes,
        } = self;
        write!(f, "{puts} | {lists} | {gets} | {deletes}")
    }
}

/// Rows of the page's table by what they are of.
fn page() -> BTreeMap<String, Cost> {
    let text = std::fs::read_to_string(root().join("docs/costs.md")).unwrap();
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let numbers: Vec<i64> = cells
            .iter()
            .skip(1)
            .filter_map(|c| c.parse().ok())
            .collect();
        if let [puts, lists, gets, deletes] = numbers[..] {
            let cost = Cost {
                puts,
                lists,
                gets,
                deletes,
            };
            rows.insert(cells[0].to_owned(), cost);
        }
    }
    rows
}

#[track_caller]
fn is_on_the_page(row: &str, found: Cost, asked: &[Asked]) {
    let said = page().get(row).copied();
    assert_eq!(
        said,
        Some(found),
        "docs/costs.md should say: | {row} | {found} |\n{}",
        shown(asked)
    );
}

/// For whoever has to find out why.
fn shown(asked: &[Asked]) -> String {
    let line = |a: &Asked| format!("{:?} {:?} {}\n", a.verb, a.what, a.target);
    asked.iter().map(line).collect()
}

/// A pipeline whose zone lies behind a proxy that counts.
struct Counted {
    world: World,
    proxy: Proxy,
    server: &'static Server,
    bucket: String,
}

impl Counted {
    fn new(test: &str) -> Option<Counted> {
        let server = s3()?;
        Some(Counted {
            world: World::new(1),
            proxy: Proxy::before(server.addr()),
            server,
            bucket: server.bucket(test),
        })
    }

    fn at(&self, zone: &str) -> Location {
        let endpoint = self.proxy.endpoint();
        self.server.at_by(&endpoint, &self.bucket, zone)
    }

    fn config(&self, more: &[(&str, &str)]) -> PipelineConfig {
        let bootstrap = self.world.broker.bootstrap().to_owned();
        let mut keys = vec![
            ("name", "raw"),
            ("source.type", "kafka"),
            ("source.topics", TOPIC),
            ("source.start", "earliest"),
            ("source.bootstrap.servers", &bootstrap),
            ("trigger", "available-now"),
        ];
        keys.extend(more);
        written(&keys, &[("sink", self.at("raw"))])
    }

    /// PROCESSED, over the first.
    fn processed(&self) -> PipelineConfig {
        let keys = [
            ("name", "processed"),
            ("source.type", "zone"),
            ("source.pipeline", "raw"),
            ("source.table", TOPIC),
            ("sink.table", TOPIC),
            ("sink.partition.field", "_timestamp"),
            ("sink.partition.format", "%Y"),
            ("sink.partition.name", "year"),
            ("sink.dedup.key", "value"),
            ("trigger", "available-now"),
        ];
        written(
            &keys,
            &[("source", self.at("raw")), ("sink", self.at("processed"))],
        )
    }

    fn send(&self, topic: &str, records: u8) {
        let values: Vec<[u8; 1]> = (0..records).map(|n| [n]).collect();
        let values = values.iter().map(|value| (0, &value[..]));
        self.world.send(topic, values);
    }

    /// What a run over what is there asks.
    fn asked_by(&self, more: &[(&str, &str)]) -> Vec<Asked> {
        self.asked_in(self.config(more))
    }

    fn asked_in(&self, config: PipelineConfig) -> Vec<Asked> {
        self.proxy.forget();
        let (clock, told) = (Other::clock(SLOWER), &self.world.told);
        let stop = Stop::new(Arc::clone(&clock));
        let ended = run(&[config], &clock, &stop, &|_| told.clone());
        assert!(
            ended.iter().all(|e| e.result.is_ok()),
            "{:?}",
            self.world.told
        );
        self.proxy.asked()
    }
}

/// A config, and where its zones are.
fn written(keys: &[(&str, &str)], zones: &[(&str, Location)]) -> PipelineConfig {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let mut map: BTreeMap<String, String> = keys.iter().map(owned).collect();
    map.insert("sink.type".to_owned(), "zone".to_owned());
    for (side, at) in zones {
        map.insert(format!("{side}.url"), at.url.clone());
        let more = object_servers::keys(at).into_iter();
        map.extend(more.map(|(key, value)| (format!("{side}.{key}"), value)));
        for (key, value) in [
            ("access.key.id", ACCESS_KEY),
            ("secret.access.key", SECRET_KEY),
        ] {
            map.insert(format!("{side}.store.{key}"), value.to_owned());
        }
    }
    let map = map
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    from_map("test", map.collect::<BTreeMap<_, _>>(), &CATALOG).unwrap()
}

fn is_entry(asked: &Asked) -> bool {
    (asked.verb, asked.what) == (Verb::Create, What::Entry)
}

/// Looks for requests of other processes come by the clock, whatever else happens.
fn is_a_look(asked: &Asked) -> bool {
    asked.verb == Verb::List && asked.target.contains("pending")
}

const BOTH: &[(&str, &str)] = &[("source.topics", "books,others"), ("tasks.max", "1")];
const ONE: &[(&str, &str)] = &[("tasks.max", "1")];

/// What a run with one commit asks more than one without, on the same log.
fn a_commit(counted: &Counted, topics: &[&str], config: &[(&str, &str)]) -> (Cost, Vec<Asked>) {
    let before = counted.asked_by(config);
    for topic in topics {
        counted.send(topic, 4);
    }
    let asked = counted.asked_by(config);
    let entries = asked.iter().filter(|asked| is_entry(asked)).count();
    assert_eq!(entries, 1, "{}", shown(&asked));
    (calm(&asked).less(calm(&before)), asked)
}

/// Files of one and of two tables in a commit: what is more is the second file's.
#[test]
fn what_a_commit_and_a_file_of_it_cost_is_on_the_page() {
    let Some(counted) = Counted::new("commit-costs") else {
        return;
    };
    counted.world.broker.create_topic("others", 1).unwrap();
    drop(counted.asked_by(BOTH)); // `init` and `open`
    let (one, asked) = a_commit(&counted, &[TOPIC], BOTH);
    let (two, asked_two) = a_commit(&counted, &[TOPIC, "others"], BOTH);
    let a_file = two.less(one);
    is_on_the_page("a file of a commit", a_file, &asked_two);
    is_on_the_page("a commit", one.less(a_file), &asked);
}

/// The third of a log, which is as every later one: it replaces the oldest of two.
#[test]
fn what_a_checkpoint_costs_is_on_the_page() {
    let Some(counted) = Counted::new("checkpoint-costs") else {
        return;
    };
    drop(counted.asked_by(ONE));
    let log = log_at(&counted.at("raw"), "raw", "raw").unwrap();
    grown_to(log.unwrap(), 3 * Limits::default().checkpoint_every - 1);
    let (more, asked) = a_commit(&counted, &[TOPIC], ONE);
    let page = page();
    let found = more.less(page["a commit"]).less(page["a file of a commit"]);
    is_on_the_page("a checkpoint, after each 50 commits", found, &asked);
}

/// Entries that cost no file: the same rules again.
fn grown_to(mut log: Log, version: u64) {
    while log.version() < version {
        let same = Swap {
            replaces: log.state().generation(),
            transforms: Vec::new(),
            actor: "test".into(),
            reason: String::new(),
            block: Vec::new(),
            force: false,
            declared: None,
        };
        log.commit(Draft::Swap(same)).unwrap();
        log.checkpoint_if_due();
    }
}

/// Whatever is in the log: a run that finds nothing new, at three lengths of it.
#[test]
fn what_a_start_costs_is_on_the_page() {
    let Some(counted) = Counted::new("start-costs") else {
        return;
    };
    counted.world.broker.create_topic("others", 1).unwrap();
    drop(counted.asked_by(BOTH));
    let none = counted.asked_by(BOTH);
    drop(a_commit(&counted, &[TOPIC], BOTH));
    let one = counted.asked_by(BOTH);
    drop(a_commit(&counted, &[TOPIC, "others"], BOTH));
    let two = counted.asked_by(BOTH);
    let fewer = counted.asked_by(ONE);
    let [none, one, two, fewer] = [&none, &one, &two, &fewer].map(|asked| (calm(asked), asked));
    let a_file = two.0.less(one.0).less(one.0.less(none.0));
    let an_entry = one.0.less(none.0).less(a_file);
    // Of books, of others and of dead letters; without others.
    let a_table = two.0.less(fewer.0);
    // `init` and `open` were there.
    let start = none.0.less(an_entry).less(an_entry).less(a_table);
    is_on_the_page(
        "each entry of the log since its newest checkpoint, at a start",
        an_entry,
        one.1,
    );
    is_on_the_page(
        "each file of its newest 50 entries, at a start",
        a_file,
        two.1,
    );
    is_on_the_page("each further table, at a start", a_table, two.1);
    is_on_the_page("a start: a table and its dead letters", start, none.1);
}

fn calm(asked: &[Asked]) -> Cost {
    Cost::of(asked.iter().filter(|asked| !is_a_look(asked)))
}

/// A clock that is ahead of its time, or behind it.
#[derive(Debug)]
struct Other {
    real: Arc<dyn Clock>,
    times: f64,
}

/// Waits for channels are real ones of 50 ms: a second of this clock, which is well below the pause between two looks.
const FASTER: f64 = 20.0;
/// No look for news comes in a run, however slow the machine is.
const SLOWER: f64 = 0.001;

impl Other {
    fn clock(times: f64) -> Arc<dyn Clock> {
        let real = SystemClock::shared();
        Arc::new(Other { real, times })
    }
}

impl Clock for Other {
    fn now_micros(&self) -> i64 {
        self.real.now_micros()
    }

    fn elapsed(&self) -> Duration {
        self.real.elapsed().mul_f64(self.times)
    }

    fn sleep(&self, time: Duration) {
        self.real.sleep(time.div_f64(self.times.max(1.0)));
    }

    fn really(&self, time: Duration) -> Option<Duration> {
        Some(time.div_f64(self.times.max(1.0)))
    }
}

/// Nothing comes for some minutes.
#[test]
fn what_an_idle_hour_costs_is_on_the_page() {
    const WATCHED: Duration = Duration::from_secs(150);
    let Some(counted) = Counted::new("idle-costs") else {
        return;
    };
    counted.send(TOPIC, 4);
    let config = counted.config(&[("trigger", "continuous"), ("sink.rotate.age", "1s")]);
    let clock = Other::clock(FASTER);
    let stop = Stop::new(Arc::clone(&clock));
    let (told, watched) = (Arc::clone(&counted.world.told), Arc::clone(&clock));
    let asked = std::thread::scope(|scope| {
        let running = scope.spawn(|| run(&[config], &clock, &stop, &|_| told.clone()));
        until("a commit", || told.has("committed").then_some(()));
        let asks = |asked: &[Asked]| asked.iter().filter(|a| is_a_look(a)).count();
        let before = asks(&counted.proxy.asked());
        until("a look after it", || {
            (asks(&counted.proxy.asked()) > before).then_some(())
        });
        counted.proxy.forget();
        watched.sleep(WATCHED);
        let asked = counted.proxy.asked();
        stop.ask(Duration::from_secs(60));
        let ended = running.join().unwrap();
        assert!(ended.iter().all(|e| e.result.is_ok()), "{told:?}");
        asked
    });
    let found = Cost::of(&asked);
    let said = page()["an idle hour"];
    let part = |hour: i64| hour as f64 * WATCHED.as_secs_f64() / 3600.0;
    let pairs = [
        (found.puts, said.puts),
        (found.lists, said.lists),
        (found.gets, said.gets),
        (found.deletes, said.deletes),
    ];
    for (found, said) in pairs {
        let (found, most) = (found as f64, part(said));
        assert!(
            found <= most + 1.0,
            "{found} of {most} in the time: {}",
            shown(&asked)
        );
        assert!(
            found >= most / 2.0 - 1.0,
            "{found} of {most}: the page says too much"
        );
    }
}

/// One file of RAW is read, one with its keys is written; the run before it found nothing new.
#[test]
fn what_a_batch_costs_is_on_the_page() {
    let Some(counted) = Counted::new("batch-costs") else {
        return;
    };
    counted.send(TOPIC, 4);
    drop(counted.asked_by(&[]));
    drop(counted.asked_in(counted.processed()));
    let before = counted.asked_in(counted.processed());
    counted.send(TOPIC, 8);
    drop(counted.asked_by(&[]));
    let asked = counted.asked_in(counted.processed());
    let batch = calm(&asked).less(calm(&before));
    is_on_the_page(
        "a batch of PROCESSED: one file read, one written",
        batch,
        &asked,
    );
}
