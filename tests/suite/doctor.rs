//! `weir doctor` and `weir check --connect`: each broken thing is reported with its remedy and does not stop other
//! checks; exit codes, and the JSON that the page describes. Logins and rights are in `secured`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use weir::kafka::MockBroker;

use crate::brokers::kafka;
use crate::check::root;
use crate::endings::{Case, PARSED};
use crate::hdfs_cluster::hdfs;
use crate::object_servers::{REGION, credentials, s3};
use crate::proxy::{Fault, Proxy};
use crate::world::plugins_dir;

/// What one run of `weir doctor --json` found.
pub(crate) struct Looks {
    pub(crate) code: i32,
    pub(crate) text: String,
    pub(crate) answer: Value,
}

impl Looks {
    fn all(&self) -> &[Value] {
        self.answer["looks"].as_array().unwrap()
    }

    /// The look of this name, the first of them.
    pub(crate) fn one(&self, look: &str) -> &Value {
        let found = self.all().iter().find(|found| found["look"] == look);
        found.unwrap_or_else(|| panic!("no {look} in {}", self.text))
    }

    /// It failed, and says why and what to do.
    pub(crate) fn fails(&self, look: &str, says: &str, hint: &str) {
        let mut of = self.all().iter().filter(|found| found["look"] == look);
        let has = |found: &Value, key: &str, text: &str| {
            found[key]
                .as_str()
                .is_some_and(|found| found.contains(text))
        };
        let found = of.any(|found| {
            found["verdict"] == "fail" && has(found, "says", says) && has(found, "hint", hint)
        });
        assert!(found, "{look}: {says} / {hint} in {:#}", self.answer);
        assert_eq!(self.code, 1, "{}", self.text);
    }
}

fn weir(dir: &Path, args: &[&str]) -> std::process::Output {
    command(dir, args).output().unwrap()
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let cache = plugins_dir().join("../plugins-test/cache");
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.current_dir(dir).args(args);
    // A pipeline's key: a worker's file has its own.
    if args.iter().any(|arg| arg.ends_with("raw.toml")) {
        command.args(["--set", &format!("plugin.cache={}", cache.display())]);
    }
    command
}

pub(crate) fn doctor(dir: &Path, args: &[&str]) -> Looks {
    doctor_with(dir, args, &|_| {})
}

/// In another environment.
pub(crate) fn doctor_with(dir: &Path, args: &[&str], prepare: &dyn Fn(&mut Command)) -> Looks {
    let mut command = command(dir, &[&["doctor", "--json"], args].concat());
    prepare(&mut command);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let answer = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    Looks {
        code: output.status.code().unwrap(),
        text,
        answer,
    }
}

fn mock() -> MockBroker {
    let broker = MockBroker::start().unwrap();
    broker.create_topic("lines", 2).unwrap();
    broker
}

#[test]
fn where_all_is_well_nothing_fails_and_nothing_is_left() {
    let broker = mock();
    let case = Case::new(broker.bootstrap());
    let config = case.config("raw", "lines", PARSED);
    fs::create_dir(case.path("raw")).unwrap();
    let well = doctor(case.dir.path(), &[&config]);
    assert_eq!(well.code, 0, "{}", well.text);
    assert_eq!(well.answer["ok"], true);
    for look in [
        "open files",
        "threads",
        "memory",
        "directory",
        "clock",
        "broker",
        "login",
        "topic",
        "group",
        "store",
        "log",
        "plugin",
    ] {
        assert_eq!(well.one(look)["verdict"], "pass", "{look}: {}", well.text);
    }
    assert!(
        well.one("store")["says"]
            .as_str()
            .unwrap()
            .contains("put-if-absent")
    );
    let left: Vec<_> = fs::read_dir(case.path("raw")).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");

    // A config that is wrong does not keep the others from being looked at, and decides the exit code.
    let wrong = case.write("wrong.toml", "name = \"wrong\"\n");
    let both = doctor(case.dir.path(), &[&config, &wrong]);
    assert_eq!(both.code, 2, "{}", both.text);
    assert_eq!(both.answer["ok"], false);
    assert!(!both.answer["problems"].as_array().unwrap().is_empty());
    assert_eq!(both.one("topic")["verdict"], "pass");

    // The machine alone.
    let alone = doctor(case.dir.path(), &[]);
    assert_eq!(alone.code, 0, "{}", alone.text);
    assert!(
        alone
            .all()
            .iter()
            .all(|found| found["of"] == "this machine")
    );
}

/// HDFS and S3: what was proved, and whether their clocks are this machine's.
#[test]
fn stores_that_are_far_away_are_looked_at_with_their_clocks() {
    let broker = mock();
    let case = Case::new(broker.bootstrap());
    let config = case.config("raw", "lines", PARSED);
    let sink = |key: &str, value: &str| ["--set".to_owned(), format!("sink.{key}={value}")];
    let look = |sets: &[[String; 2]]| {
        let sets = sets.iter().flatten().map(String::as_str);
        let args: Vec<&str> = [config.as_str()].into_iter().chain(sets).collect();
        doctor_with(case.dir.path(), &args, &|command| {
            command.envs(credentials());
        })
    };
    if let Some(hdfs) = hdfs() {
        let path = hdfs.path("doctor");
        let found = look(&[sink("url", &hdfs.url(&path))]);
        assert_eq!(found.code, 0, "{}", found.text);
        let first = found.one("store");
        assert!(first["says"].as_str().unwrap().contains("not there yet"));
        hdfs.ask("PUT", &path, "MKDIRS");
        let found = look(&[sink("url", &hdfs.url(&path))]);
        assert_eq!(found.code, 0, "{}", found.text);
        let says = found.one("store")["says"].as_str().unwrap();
        assert!(
            says.contains("put-if-absent") && says.contains("rename"),
            "{says}"
        );
        let clock = found.one("clock");
        assert!(
            clock["says"]
                .as_str()
                .unwrap()
                .contains("the store's clock"),
            "{clock}"
        );
        let left = hdfs.ask("GET", &path, "GETCONTENTSUMMARY");
        let left = &left["ContentSummary"];
        assert_eq!(left["fileCount"], 0, "{left}");
        assert_eq!(left["directoryCount"], 1, "itself alone: {left}");
        let away = look(&[sink("url", "hdfs://127.0.0.1:1/zone")]);
        away.fails("store", "HDFS cannot be reached", "the name node");
    }
    let Some(server) = s3() else { return };
    let proxy = Proxy::before(server.addr());
    let bucket = server.bucket("doctor");
    let s3 = [
        sink("url", &format!("s3://{bucket}/zone")),
        sink("store.endpoint", &proxy.endpoint()),
        sink("store.region", REGION),
        sink("store.allow.http", "true"),
    ];
    let found = look(&s3);
    assert_eq!(
        (found.code, &found.one("clock")["verdict"]),
        (0, &"pass".into()),
        "{}",
        found.text
    );
    proxy.decide(|_| Fault::Dated("Sat, 01 Jan 2000 00:00:00 GMT"));
    let found = look(&s3);
    let clock = found.one("clock");
    assert_eq!(
        (found.code, &clock["verdict"]),
        (0, &"warn".into()),
        "{}",
        found.text
    );
    let says = clock["says"].as_str().unwrap();
    let seconds: Vec<u64> = says
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    assert!(
        seconds[0] > 800_000_000 && says.contains("ahead of the store's"),
        "{says}"
    );
}

/// One dead broker, and everything else broken at once: every look is told, in bounded time.
#[test]
fn each_broken_thing_is_told_with_its_remedy_and_stops_no_other() {
    let case = Case::new("127.0.0.1:1");
    let config = case.config("raw", "lines", PARSED);
    // A log that is no log, and a table that is another pipeline's.
    let log = case.path("raw/_system/raw/raw/log");
    fs::create_dir_all(&log).unwrap();
    fs::write(
        log.join("00000000000000000000.json"),
        b"{\"format\": 99, \"kind\": \"init\"}",
    )
    .unwrap();
    let owners = case.path("raw/_system/owners");
    fs::create_dir_all(&owners).unwrap();
    let owner = "{\"pipeline\": \"other\", \"zone\": \"raw\"}";
    fs::write(owners.join("lines.json"), owner).unwrap();
    let begun = Instant::now();
    let store = case.path("plugins").display().to_string();
    let sets = [
        "--set",
        &format!("plugin.store={store}"),
        "--set",
        "transforms.columns.type=json-flatten@sha256:0123456789abcdef",
    ];
    let broken = doctor(case.dir.path(), &[&[config.as_str()][..], &sets].concat());
    assert!(begun.elapsed() < Duration::from_secs(60));
    broken.fails("broker", "127.0.0.1:1", "is the broker up");
    broken.fails("log", "format 99", "");
    broken.fails("table", "belongs to pipeline other", "sink.table");
    broken.fails("plugin", "json-flatten", "shipped");
    assert_eq!(broken.one("store")["verdict"], "pass", "{}", broken.text);

    // A directory that cannot be made, a store that cannot be one: nobody writes below /proc.
    let sets = ["--set", "sink.url=file:/proc/zone"];
    let closed = doctor(case.dir.path(), &[&[config.as_str()][..], &sets].concat());
    closed.fails("directory", "/proc cannot be written", "sink.url");
}

#[test]
fn a_topic_that_is_not_there_and_a_plugin_that_was_altered_are_told() {
    let Some(broker) = kafka() else { return };
    let case = Case::new(broker.bootstrap());
    let config = case.config("raw", "doctor-never-made", PARSED);
    let store = case.path("store");
    let cache = case.path("cache").display().to_string();
    // Kept by its digest, then one byte of it changed.
    let push = Command::new(env!("CARGO_BIN_EXE_weir"))
        .current_dir(case.dir.path())
        .args(["plugin", "push"])
        .arg(plugins_dir().join("json-flatten.wasm"))
        .arg("--plugin-store")
        .arg(&store)
        .args(["--plugin-cache", &cache])
        .output()
        .unwrap();
    assert!(
        push.status.success(),
        "{}",
        String::from_utf8_lossy(&push.stderr)
    );
    let blobs = crate::brokers::files(&store.join("blobs"), "");
    assert_eq!(blobs.len(), 1, "{blobs:?}");
    let mut bytes = fs::read(&blobs[0]).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&blobs[0], bytes).unwrap();
    let set = format!("plugin.store={}", store.display());
    let found = doctor(case.dir.path(), &[&config, "--set", &set]);
    found.fails("topic", "no such topic", "source.topics");
    found.fails("plugin", "is damaged", "push or run the same build again");
    assert_eq!(found.one("broker")["verdict"], "pass");
}

#[test]
fn a_daemons_directory_and_addresses_are_looked_at() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let case = Case::new("127.0.0.1:1");
    let port = taken.local_addr().unwrap().port();
    let text = format!("data.dir = \"/proc/weir\"\nrest.listen = \"127.0.0.1:{port}\"\n");
    let worker = case.write("daemon.toml", &text);
    let found = doctor(case.dir.path(), &[&worker]);
    found.fails("directory", "data.dir", "data.dir");
    assert_eq!(found.one("listen")["verdict"], "warn", "{}", found.text);
    assert_eq!(found.one("listen")["of"], "daemon.toml");
}

/// People read lines; programs read the fields that the page names.
#[test]
fn check_connects_where_it_is_told_to_and_json_has_the_fields_of_the_page() {
    let broker = mock();
    let case = Case::new(broker.bootstrap());
    let config = case.config("raw", "lines", "");
    let plain = weir(case.dir.path(), &["check", &config]);
    let connected = weir(case.dir.path(), &["check", "--connect", &config]);
    assert_eq!(connected.status.code(), Some(0));
    let (plain, connected) = (
        String::from_utf8(plain.stdout).unwrap(),
        String::from_utf8(connected.stdout).unwrap(),
    );
    assert!(!plain.contains("pass"), "{plain}");
    assert!(connected.starts_with(plain.trim_end()), "{connected}");
    for line in [
        "\nthis machine\n",
        "\nraw\n",
        "\n  pass  topic lines: 2 partitions",
        "nothing failed",
    ] {
        assert!(connected.contains(line), "{line}: {connected}");
    }
    let set = ["--set", "source.bootstrap.servers=127.0.0.1:1"];
    let failed = weir(
        case.dir.path(),
        &[&["check", "--connect", &config][..], &set].concat(),
    );
    assert_eq!(failed.status.code(), Some(1));
    let said = String::from_utf8(failed.stdout).unwrap();
    let at = said.find("  fail  broker 127.0.0.1:1").unwrap();
    assert!(
        said[at..].contains("\n        hint: is the broker up"),
        "{said}"
    );

    let json = weir(case.dir.path(), &["check", "--connect", "--json", &config]);
    let answer: Value = serde_json::from_slice(&json.stdout).unwrap();
    let looks = answer["looks"].as_array().unwrap();
    let page = fs::read_to_string(root().join("docs/operate.md")).unwrap();
    let section = page.split("## Is all there").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let table = section.split("| field | |").nth(1).unwrap();
    let fields: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    for look in looks {
        let mut has: Vec<&str> = look
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut named = fields.clone();
        has.sort_unstable();
        named.sort_unstable();
        assert_eq!(has, named);
        let look = look["look"].as_str().unwrap();
        assert!(
            section.contains(&format!("`{look}`")),
            "{look} is not on the page"
        );
    }
}
