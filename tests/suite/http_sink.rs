//! `sink.type = "http"` against an API that fails in every way: each row arrives under one key, whoever is killed when, and log,
//! dead letters and exit codes tell the truth. Read as people read it: what the API has, what the program says and leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use weir::clock::SystemClock;
use weir::commit::{Log, LogName, verify};
use weir::store;

use crate::api::{Api, Reaction, Request, say};
use crate::brokers::until;
use crate::world::{open_log, plugins_dir};

/// A directory, the program in it, and the pipeline `post`, whose home is the zone `home`.
pub struct Rig {
    pub dir: tempfile::TempDir,
}

/// A process that does not outlive its test, however that ends.
pub struct Running(Child);

impl Deref for Running {
    type Target = Child;
    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Waits that suit a test.
const SOON: &str =
    "http.backoff.first = \"5ms\"\nhttp.backoff.max = \"20ms\"\nhttp.commit.age = \"100ms\"\n";

impl Rig {
    /// `source`: keys of a rate; `sink`: keys below `sink.`; `rest`: tables.
    pub fn new(api: &Api, source: &str, sink: &str, rest: &str) -> Rig {
        let rig = Rig {
            dir: tempfile::tempdir().unwrap(),
        };
        rig.declare(api, source, sink, rest);
        rig
    }

    pub fn declare(&self, api: &Api, source: &str, sink: &str, rest: &str) {
        let (plugins, url) = (plugins_dir(), api.url());
        let plugins = plugins.display();
        let config = format!(
            "name = \"post\"\nplugin.path = \"{plugins}\"\nplugin.store = \"store\"\n\
             plugin.cache = \"{plugins}/../plugins-test/cache\"\n\
             retry.backoff = \"10ms\"\nbatch.max.rows = 64\n{rest}\n\
             [source]\ntype = \"rate\"\nrows.per.second = 1000000\n{source}\n\
             [sink]\ntype = \"http\"\nurl = \"file:home\"\nhttp.url = \"{url}\"\n\
             http.json.column = \"value\"\n{SOON}{sink}\n"
        );
        fs::write(self.path("post.toml"), config).unwrap();
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    pub fn weir(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.current_dir(self.dir.path()).args(args);
        command.stdin(Stdio::null());
        for proxy in [
            "http_proxy",
            "https_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "all_proxy",
        ] {
            command.env_remove(proxy);
        }
        command
    }

    pub fn run(&self) -> Output {
        self.weir(&["run", "post.toml", "--available-now", "--progress", "none"])
            .output()
            .unwrap()
    }

    /// Must succeed.
    pub fn done(&self, args: &[&str]) -> String {
        let output = self.weir(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn ran(&self) {
        let output = self.run();
        assert!(output.status.success(), "{}", said(&output));
    }

    pub fn spawn(&self) -> Running {
        let mut command = self.weir(&["run", "post.toml", "--progress", "none"]);
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("weir.log"));
        command.stdout(Stdio::null()).stderr(log.unwrap());
        Running(command.spawn().unwrap())
    }

    /// What processes that were spawned have said so far.
    pub fn told(&self) -> String {
        fs::read_to_string(self.path("weir.log")).unwrap_or_default()
    }

    pub fn log(&self) -> Option<Log> {
        open_log(&self.path("home"), "post", "home").unwrap()
    }

    pub fn settled(&self) -> i64 {
        self.log()
            .map_or(0, |log| log.state().splits.values().map(|c| c.to).sum())
    }

    /// The log is valid, and says that so many rows were delivered and refused.
    pub fn adds_up(&self, delivered: u64, refused: u64) {
        let store = store::open_url(&format!("file:{}", self.path("home").display())).unwrap();
        let verified = verify(store.as_ref(), &LogName::new("post", "home"))
            .unwrap()
            .unwrap();
        assert!(verified.problems.is_empty(), "{:?}", verified.problems);
        let log = self.log().unwrap();
        let totals = log.state().totals();
        assert_eq!(
            (totals.rows.written, totals.dead_letters),
            (delivered, refused)
        );
    }

    /// (code, message) of each dead letter, by its offset.
    pub fn dead_letters(&self) -> Vec<(i64, String, String)> {
        let told = self.done(&["dlq", "show", "file:home", "-n", "0", "--json"]);
        let letters = told
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut letters: Vec<_> = letters
            .map(|letter| {
                let reason = &letter["errors"][0];
                let text = |name: &str| reason[name].as_str().unwrap_or_default().to_owned();
                let offset = letter["offset"].as_i64().unwrap();
                (offset, text("code"), text("message"))
            })
            .collect();
        letters.sort();
        letters
    }
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn all_once(api: &Api, total: i64) {
    let numbers = api.numbers();
    let twice: Vec<_> = numbers.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "not under one key: {twice:?}");
    assert_eq!(
        numbers.into_keys().collect::<Vec<_>>(),
        (0..total).collect::<Vec<_>>()
    );
}

pub fn term(mut child: Running) -> std::process::ExitStatus {
    Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    child.wait().unwrap()
}

#[test]
fn each_row_arrives_once_in_batches_and_a_second_run_sends_nothing() {
    let api = Api::new(|_, _| Reaction::Take);
    let rig = Rig::new(
        &api,
        "rows.total = 2500\npartitions = 3\n",
        "http.commit.rows = 500\n",
        "tasks.max = 2\n",
    );
    rig.done(&["check", "post.toml"]);
    rig.ran();
    all_once(&api, 2500);
    rig.adds_up(2500, 0);
    for request in api.requests() {
        assert_eq!(
            (request.method.as_str(), request.path.as_str()),
            ("POST", "/v1/rows")
        );
        assert_eq!(
            request.headers["content-type"],
            "application/json; charset=utf-8"
        );
        assert!(request.rows().len() <= 100);
    }
    assert!(api.most_at_once() <= 10);
    let plans: Vec<_> =
        crate::brokers::files(&rig.path("home/_system/post/home/deliveries"), ".json");
    assert!(plans.is_empty(), "an entry has passed them: {plans:?}");
    let (before, version) = (api.requests().len(), rig.log().unwrap().version());
    rig.ran();
    assert_eq!(
        (api.requests().len(), rig.log().unwrap().version()),
        (before, version)
    );
    // What it delivered stands in the log, without what may be a secret.
    let log = rig.done(&["log", "file:home", "--json"]);
    assert!(log.contains("\"sink\":\"http\""), "{log}");
}

/// Fails one request in three, in every way there is.
fn flaky(seed: u64) -> impl FnMut(&Request, usize) -> Reaction + Send {
    let mut random = rand::rngs::SmallRng::seed_from_u64(seed);
    let mut burst = 0;
    move |_, _| {
        if burst > 0 {
            burst -= 1;
            return say(500);
        }
        match random.random_range(0..30) {
            0..3 => Reaction::TakeAndDrop,
            3 => Reaction::TakeSlowly,
            4..6 => Reaction::Drop,
            6 => Reaction::Say(429, vec![("retry-after", "0".to_owned())], String::new()),
            7 => {
                burst = 4;
                say(503)
            }
            8 => say(409),
            9 => Reaction::Late(Duration::from_millis(400)),
            _ => Reaction::Take,
        }
    }
}

#[test]
fn whatever_the_api_does_each_row_arrives_under_one_key() {
    let api = Api::new(flaky(3));
    let rig = Rig::new(
        &api,
        "rows.total = 3000\npartitions = 2\n",
        "http.batch.rows = 20\nhttp.tries = 40\nhttp.timeout.request = \"300ms\"\n\
         http.timeout.connect = \"300ms\"\nhttp.deadline = \"1m\"\n",
        "tasks.max = 2\n",
    );
    rig.ran();
    all_once(&api, 3000);
    rig.adds_up(3000, 0);
    let (sent, taken) = (api.requests().len(), api.taken().len());
    assert!(sent > taken + 20, "{sent} requests for {taken} batches");
}

#[test]
fn twenty_kills_lose_nothing_and_send_the_same_batches_under_the_same_keys() {
    let kills_wanted: usize = std::env::var("WEIR_HTTP_KILLS").map_or(20, |n| n.parse().unwrap());
    let total = 300 * i64::try_from(kills_wanted).unwrap();
    let api = Api::new(flaky(5));
    let rig = Rig::new(
        &api,
        &format!("rows.total = {total}\npartitions = 2\n"),
        "http.batch.rows = 7\nhttp.tries = 40\nhttp.timeout.request = \"300ms\"\nhttp.timeout.connect = \"300ms\"\n\
         http.commit.rows = 150\n",
        "tasks.max = 2\n",
    );
    let clock = SystemClock::shared();
    let mut random = rand::rngs::SmallRng::seed_from_u64(11);
    let mut kills = 0;
    while kills < kills_wanted && rig.settled() < total {
        let before = api.requests().len();
        let mut child = rig.spawn();
        until("a request", || {
            (api.requests().len() > before || rig.settled() >= total).then_some(())
        });
        clock.sleep(Duration::from_millis(random.random_range(0..120)));
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    eprintln!(
        "{kills} kills, {} requests for {} batches",
        api.requests().len(),
        api.taken().len()
    );
    assert!(kills >= 8, "only {kills} kills");
    rig.ran();
    all_once(&api, total);
    rig.adds_up(total.unsigned_abs(), 0);
    let keys: BTreeSet<String> = api.taken().iter().map(|r| r.key().to_owned()).collect();
    assert_eq!(keys.len(), api.taken().len());
}

#[test]
fn refused_rows_are_dead_letters_with_status_and_answer_and_the_ledger_closes() {
    let refuses = |request: &Request, _: usize| match request.numbers().iter().any(|n| n % 50 == 3)
    {
        true => Reaction::Say(
            422,
            Vec::new(),
            "{\"error\":\"title is missing\"}".to_owned(),
        ),
        false => Reaction::Take,
    };
    let tolerant = "[errors]\ntolerance = \"all\"\n";
    let api = Api::new(refuses);
    let rig = Rig::new(
        &api,
        "rows.total = 200\n",
        "http.batch.rows = 10\n",
        tolerant,
    );
    rig.ran();
    // The whole batch: its rows cannot be told apart.
    rig.adds_up(160, 40);
    let letters = rig.dead_letters();
    assert_eq!(letters.len(), 40);
    assert!(
        letters.iter().all(|(_, code, message)| {
            code == "http_422"
                && message.contains("title is missing")
                && message.contains("one of 10 rows")
        }),
        "{letters:?}"
    );

    let api = Api::new(refuses);
    let rig = Rig::new(
        &api,
        "rows.total = 200\n",
        "http.batch.rows = 10\nhttp.bisect = true\n",
        tolerant,
    );
    rig.ran();
    rig.adds_up(196, 4);
    let offsets: Vec<i64> = rig
        .dead_letters()
        .iter()
        .map(|(offset, ..)| *offset)
        .collect();
    assert_eq!(offsets, [3, 53, 103, 153]);
    let numbers = api.numbers();
    assert_eq!(numbers.len(), 196);
    assert!(numbers.values().all(|times| *times == 1));

    // By default the first refusal stops, and says what the API said.
    let api = Api::new(refuses);
    let rig = Rig::new(
        &api,
        "rows.total = 200\n",
        "http.batch.rows = 10\nhttp.order = \"partition\"\n",
        "",
    );
    let output = rig.run();
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    for part in [
        "record_refused",
        "422",
        "title is missing",
        "errors.tolerance",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(
        rig.settled(),
        0,
        "nothing above a batch that is not delivered is committed"
    );
}

#[test]
fn an_api_that_is_away_is_waited_for_or_stops_the_pipeline_and_never_is_a_success() {
    let api = Api::new(|_, _| say(503));
    let rig = Rig::new(&api, "rows.total = 300\n", "", "");
    let child = rig.spawn();
    let told = || rig.told();
    until("it says so", || {
        told().contains("sink_unavailable").then_some(())
    });
    assert_eq!(rig.settled(), 0);
    api.now_reacts(|_, _| Reaction::Take);
    until("it goes on", || (rig.settled() == 300).then_some(()));
    all_once(&api, 300);
    assert!(term(child).success());
    assert!(told().contains("503"), "{}", told());

    // A stop does not wait for an API that is away.
    api.now_reacts(|_, _| say(503));
    let rig = Rig::new(&api, "rows.total = 300\n", "", "");
    let child = rig.spawn();
    until("it says so", || {
        rig.told().contains("sink_unavailable").then_some(())
    });
    let asked = Instant::now();
    let ended = term(child);
    let took = asked.elapsed();
    assert!(ended.success(), "{}", rig.told());
    // The time for work that was begun is `shutdown.timeout`, half a minute.
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_eq!(rig.settled(), 0);

    // Batch 3 fails for good while 4 to 10 are taken: nothing from it on is committed, and it is not lost.
    let fails = |request: &Request, _: usize| match request.numbers().contains(&25) {
        true => say(500),
        false => Reaction::Take,
    };
    let api = Api::new(fails);
    let keys = "http.batch.rows = 10\nhttp.on.exhausted = \"stop\"\n";
    let rig = Rig::new(&api, "rows.total = 100\n", keys, "");
    let output = rig.run();
    assert_eq!(output.status.code(), Some(1), "lost batches are no success");
    assert!(
        said(&output).contains("sink_refused") && said(&output).contains("3 tries"),
        "{}",
        said(&output)
    );
    assert_eq!(rig.settled(), 0);
    let before: BTreeMap<Vec<i64>, String> = api
        .taken()
        .iter()
        .map(|r| (r.numbers(), r.key().to_owned()))
        .collect();
    assert!(before.len() >= 3, "{before:?}");
    api.now_reacts(|_, _| Reaction::Take);
    rig.ran();
    all_once(&api, 100);
    for request in api.taken() {
        let key = before.get(&request.numbers());
        assert!(key.is_none_or(|key| key == request.key()));
    }
    rig.adds_up(100, 0);

    // Or its rows become dead letters.
    let api = Api::new(fails);
    let keys = "http.batch.rows = 10\nhttp.on.exhausted = \"dead-letters\"\n";
    let rig = Rig::new(
        &api,
        "rows.total = 100\n",
        keys,
        "[errors]\ntolerance = \"all\"\n",
    );
    rig.ran();
    rig.adds_up(90, 10);
    assert!(
        rig.dead_letters()[0].2.contains("after 3 tries"),
        "{:?}",
        rig.dead_letters()
    );
}

/// Our own earlier request may be on its way still: no part of it goes under another key, however long it takes.
#[test]
fn a_409_that_stays_is_a_refusal_of_the_whole_batch_after_the_deadline() {
    let api = Api::new(
        |request: &Request, _| match request.numbers().contains(&25) {
            true => say(409),
            false => Reaction::Take,
        },
    );
    let keys = "http.batch.rows = 10\nhttp.tries = 2\nhttp.bisect = true\nhttp.deadline = \"1s\"\n\
                http.timeout.request = \"500ms\"\nhttp.on.exhausted = \"stop\"\n";
    let tolerant = "[errors]\ntolerance = \"all\"\n";
    let rig = Rig::new(&api, "rows.total = 100\n", keys, tolerant);
    rig.ran();
    rig.adds_up(90, 10);
    let letters = rig.dead_letters();
    assert!(
        letters.iter().all(|(_, code, _)| code == "http_409"),
        "{letters:?}"
    );
    let tried: Vec<Request> = api
        .requests()
        .into_iter()
        .filter(|r| r.numbers().contains(&25))
        .collect();
    assert!(tried.len() > 10, "only {} tries in a second", tried.len());
    assert!(tried.iter().all(|r| r.key() == tried[0].key()), "in halves");
    let took = tried[tried.len() - 1].at - tried[0].at;
    assert!(took >= Duration::from_millis(900), "{took:?}");
}

#[test]
fn a_wait_that_the_api_asks_for_is_cut_to_its_key_and_no_part_of_the_deadline() {
    let api = Api::new(|_, number| match number {
        0 => Reaction::Say(503, vec![("retry-after", "3600".to_owned())], String::new()),
        _ => Reaction::Take,
    });
    let keys = "http.retry.after.max = \"2s\"\nhttp.deadline = \"1s\"\nhttp.timeout.request = \"900ms\"\n\
                http.on.exhausted = \"stop\"\n";
    let rig = Rig::new(&api, "rows.total = 10\n", keys, "");
    rig.ran();
    rig.adds_up(10, 0);
    let at: Vec<_> = api.requests().iter().map(|r| r.at).collect();
    let wait = at[1] - at[0];
    assert!(wait >= Duration::from_millis(1_990), "{wait:?}");
}

#[test]
fn what_is_rewound_is_sent_again_under_other_keys() {
    let api = Api::new(|_, _| Reaction::Take);
    let rig = Rig::new(&api, "rows.total = 300\n", "", "");
    rig.ran();
    rig.done(&["pipeline", "rewind", "post.toml", "rate/0=0"]);
    rig.ran();
    let numbers = api.numbers();
    assert!(
        numbers.len() == 300 && numbers.values().all(|times| *times == 2),
        "{numbers:?}"
    );
    rig.adds_up(300, 0);
}

#[test]
fn rules_change_while_rows_are_sent() {
    const TOTAL: i64 = 100_000_000;
    let transforms = "[[transforms]]\nname = \"flatten\"\ntype = \"json-flatten\"\n\
                      columns = [\"value\", \"random\"]\ntypes.value = \"long\"\ntypes.random = \"long\"\n\
                      [[transforms]]\nname = \"rules\"\ntype = \"validate\"\nrules = \"rules.toml\"\n\
                      [errors]\ntolerance = \"all\"\n";
    let api = Api::new(|_, _| Reaction::Take);
    let rig = Rig::new(&api, "", "", transforms);
    let config = fs::read_to_string(rig.path("post.toml")).unwrap();
    let config = config
        .replace("http.json.column = \"value\"\n", "")
        .replace("rows.per.second = 1000000", "rows.per.second = 2000");
    fs::write(rig.path("post.toml"), config).unwrap();
    let rules = |most: i64| {
        fs::write(
            rig.path("rules.toml"),
            format!("[columns.value]\nrequired = true\nmax = {most}\n"),
        )
        .unwrap();
    };
    rules(TOTAL);
    let child = rig.spawn();
    until("a commit", || (rig.settled() > 0).then_some(()));
    // From here on every row is refused.
    rules(0);
    rig.done(&["pipeline", "swap", "post.toml", "--reload", "--json"]);
    let swapped = rig.settled();
    until("rows of the new rules", || {
        (rig.settled() > swapped).then_some(())
    });
    assert!(term(child).success());
    let totals = rig.log().unwrap().state().totals();
    assert_eq!(
        totals.records.read,
        totals.rows.written + totals.dead_letters
    );
    let sent = api.numbers();
    assert!(sent.values().all(|times| *times == 1));
    assert_eq!(
        sent.len() as u64,
        totals.rows.written,
        "{:?}",
        api.requests().first()
    );
    rig.adds_up(totals.rows.written, totals.dead_letters);
}

#[test]
fn order_rate_and_flight_hold() {
    // Of a partition, one after the other, also where a batch is tried again.
    let api = Api::new(flaky(9));
    let keys = "http.batch.rows = 10\nhttp.order = \"partition\"\nhttp.tries = 100\nhttp.timeout.request = \"300ms\"\nhttp.timeout.connect = \"300ms\"\n";
    let rig = Rig::new(&api, "rows.total = 300\n", keys, "");
    rig.ran();
    let first: Vec<i64> = api.taken().iter().map(|r| r.numbers()[0]).collect();
    assert!(first.is_sorted(), "{first:?}");
    let api = Api::new(|_, _| Reaction::Late(Duration::from_millis(2)));
    let rig = Rig::new(&api, "rows.total = 100\n", keys, "");
    rig.ran();
    assert_eq!(api.most_at_once(), 1);

    let api = Api::new(|_, _| Reaction::Late(Duration::from_millis(20)));
    let rig = Rig::new(
        &api,
        "rows.total = 1000\n",
        "http.batch.rows = 10\nhttp.in.flight = 4\n",
        "",
    );
    rig.ran();
    assert!(
        (2..=4).contains(&api.most_at_once()),
        "{}",
        api.most_at_once()
    );

    let api = Api::new(|_, _| Reaction::Take);
    let rig = Rig::new(
        &api,
        "rows.total = 400\n",
        "http.batch.rows = 10\nhttp.requests.per.second = 20\n",
        "",
    );
    // From before the first: it may be late in its turn.
    let begun = Instant::now();
    rig.ran();
    let took = api.requests().last().unwrap().at - begun;
    assert!(
        took >= Duration::from_millis(1_950),
        "40 requests in {took:?}"
    );

    // Retry-After holds for all.
    let api = Api::new(|_, number| match number {
        0 => Reaction::Say(429, vec![("retry-after", "1".to_owned())], String::new()),
        _ => Reaction::Take,
    });
    let rig = Rig::new(&api, "rows.total = 10\n", "", "");
    rig.ran();
    let at: Vec<_> = api.requests().iter().map(|r| r.at).collect();
    assert!(
        at[1].duration_since(at[0]) >= Duration::from_millis(990),
        "{:?}",
        at[1] - at[0]
    );
}

#[test]
fn bodies_are_arrays_lines_or_templates_and_bad_json_is_a_dead_letter() {
    let of = |keys: &str, tolerance: &str| {
        let api = Api::new(|_, _| Reaction::Take);
        let rig = Rig::new(&api, "rows.total = 3\n", keys, tolerance);
        rig.ran();
        api.requests()
            .first()
            .map(|r| (r.headers["content-type"].clone(), r.body.clone()))
    };
    let (kind, body) = of("http.body = \"jsonl\"\n", "").unwrap();
    assert_eq!(kind, "application/x-ndjson");
    assert!(body.ends_with("}\n") && body.lines().count() == 3, "{body}");
    let template = "http.body = \"template\"\nhttp.template.head = '{\"records\":['\nhttp.template.tail = ']}'\n\
                    http.template.row = '{\"n\":${_offset},\"text\":\"at ${_offset}: ${value}\",\"all\":${_json}}'\n";
    let (_, body) = of(template, "").unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    let rows = body["records"].as_array().unwrap();
    assert_eq!((rows.len(), rows[1]["n"].as_i64()), (3, Some(1)));
    assert!(
        rows[1]["text"]
            .as_str()
            .unwrap()
            .starts_with("at 1: {\"timestamp\""),
        "{body}"
    );
    assert_eq!(rows[2]["all"]["value"], 2);
    // `source.format = text` is no JSON.
    let api = Api::new(|_, _| Reaction::Take);
    let rig = Rig::new(
        &api,
        "rows.total = 3\nformat = \"text\"\n",
        "",
        "[errors]\ntolerance = \"all\"\n",
    );
    rig.ran();
    rig.adds_up(0, 3);
    assert!(
        rig.dead_letters()
            .iter()
            .all(|(_, code, _)| code == "not_json")
    );
    assert!(api.requests().is_empty());
}
