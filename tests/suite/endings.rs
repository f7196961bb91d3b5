//! The ending of a pipeline is reported once, with the reason, where people and service managers look: stderr and exit
//! code of the process, and the daemon's log.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use weir::kafka::testkit::Admin;
use weir::kafka::{KafkaProps, MockBroker, Outgoing, Producer};

use crate::brokers::files;
use crate::brokers::{kafka, until};
use crate::daemon_rig::Rig;
use crate::guests::evil_dir;
use crate::world::plugins_dir;

pub(crate) const GOOD: &str = r#"{"id": 1}"#;
pub(crate) const BAD: &str = r#"{"id": "#;

pub(crate) const PARSED: &str = r#"
[[transforms]]
name = "columns"
type = "json-flatten"
columns = ["id"]
"#;

pub(crate) const PROCESSED: &str = r#"
name = "processed"
[source]
type = "zone"
url = "file:raw"
pipeline = "raw"
table = "lines"
[sink]
type = "zone"
url = "file:processed"
table = "lines"
[sink.partition]
field = "_timestamp"
format = "%Y-%m-%d"
name = "date"
[sink.dedup]
key = ["_partition", "_offset"]
"#;

/// A directory with configs, and processes of this build in it.
pub(crate) struct Case {
    pub(crate) dir: tempfile::TempDir,
    bootstrap: String,
}

impl Case {
    pub(crate) fn new(bootstrap: &str) -> Case {
        Case {
            dir: tempfile::tempdir().unwrap(),
            bootstrap: bootstrap.to_owned(),
        }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// `<name>.toml`: from `topic` into `file:raw`, a table of its own.
    pub(crate) fn config(&self, name: &str, topic: &str, more: &str) -> String {
        let text = format!(
            "name = \"{name}\"\n{more}\n[source]\ntype = \"kafka\"\nbootstrap.servers = \"{}\"\n\
             topics = [\"{topic}\"]\nstart = \"earliest\"\nmetadata.refresh = \"1s\"\n\
             [sink]\ntype = \"zone\"\nurl = \"file:raw\"\nrotate.age = \"200ms\"\n\
             [errors]\ndlq.table = \"dead-{name}\"\n",
            self.bootstrap
        );
        self.write(&format!("{name}.toml"), &text)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        name.to_owned()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command.arg("run").args(args);
        let cache = plugins_dir().join("../plugins-test/cache");
        command.args(["--set", &format!("plugin.cache={}", cache.display())]);
        if !args.contains(&"--plugin-path") {
            command.arg("--plugin-path").arg(plugins_dir());
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs until it ends by itself; what it says lies in `said`.
    pub(crate) fn start(&self, args: &[&str]) -> Started {
        self.start_with(args, &|_| {})
    }

    /// In another environment.
    pub(crate) fn start_with(&self, args: &[&str], prepare: &dyn Fn(&mut Command)) -> Started {
        let said = self.path("said");
        let mut command = self.command(args);
        prepare(&mut command);
        let file = File::create(&said).unwrap();
        command.stdout(Stdio::null()).stderr(file);
        Started {
            child: command.spawn().unwrap(),
            said,
        }
    }

    pub(crate) fn produce(&self, topic: &str, values: &[&str]) {
        let props = KafkaProps::new(&self.bootstrap, "test", &Default::default()).unwrap();
        let producer = Producer::open(&props).unwrap();
        for value in values {
            let out = Outgoing {
                value: Some(value.as_bytes()),
                partition: Some(0),
                ..Outgoing::default()
            };
            producer.send(topic, out).unwrap();
        }
        producer.flush(crate::brokers::DEADLINE).unwrap();
    }
}

pub(crate) struct Started {
    child: Child,
    said: PathBuf,
}

impl Started {
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }

    pub(crate) fn says(&self, what: &str) {
        until(what, || self.said().contains(what).then_some(()));
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let mut kill = Command::new("kill");
        let killed = kill.args([&format!("-{name}"), &pid]).status();
        assert!(killed.unwrap().success());
    }

    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let status = until("the end", || self.child.try_wait().unwrap());
        (status.code(), self.said())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Exactly one line of an ending, and it has all of `parts`.
pub(crate) fn told_once(said: &str, parts: &[&str]) {
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("pipeline failed"))
        .collect();
    assert_eq!(lines.len(), 1, "{said}");
    for part in parts {
        assert!(lines[0].contains(part), "{part} in {}", lines[0]);
    }
    assert!(lines[0].contains("ERROR"), "{}", lines[0]);
    assert!(!said.contains("all committed"), "{said}");
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_refused_record_is_told_with_its_place_in_every_form() {
    let broker = MockBroker::start().unwrap();
    broker.create_topic("lines", 1).unwrap();
    let case = Case::new(broker.bootstrap());
    case.produce("lines", &[GOOD, BAD, GOOD]);
    let config = case.config("raw", "lines", PARSED);
    for progress in ["plain", "bar", "json", "none"] {
        for format in ["text", "json"] {
            let forms = ["--progress", progress, "--log-format", format];
            let output = case.run(&[&[config.as_str(), "--available-now"][..], &forms].concat());
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(!stdout(&output).contains("all committed"));
            let place = [
                "record_refused",
                "lines/0@1",
                "malformed_json",
                "errors.tolerance",
            ];
            told_once(&said, &place);
            if format == "json" {
                let line = said.lines().find(|line| line.contains("pipeline failed"));
                let line: Value = serde_json::from_str(line.unwrap()).unwrap();
                assert_eq!(line["code"], "record_refused");
                assert_eq!(line["lag"], 3, "{line}");
                assert!(line["hint"].as_str().unwrap().contains("errors.tolerance"));
            }
            if progress == "plain" {
                let last = stdout(&output);
                assert!(last.contains("failed (record_refused)"), "{last}");
                assert!(last.contains("3 records waiting"), "{last}");
            }
        }
    }
    // Where log lines are turned off, the reason is said all the same.
    let output = case.run(&[&config, "--available-now", "--log-level", "off"]);
    assert!(
        stderr(&output).contains("record_refused"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_plugin_that_fails_on_everything_is_told() {
    let broker = MockBroker::start().unwrap();
    broker.create_topic("lines", 1).unwrap();
    let case = Case::new(broker.bootstrap());
    case.produce("lines", &[GOOD; 200]);
    let evil = "[[transforms]]\nname = \"evil\"\ntype = \"guest-evil\"\nmode = \"always-panic\"\n";
    let config = case.config("raw", "lines", evil);
    let guests = evil_dir().display().to_string();
    let args = [&config, "--available-now", "--plugin-path", &guests];
    let output = case.run(&[&args[..], &["--set", "errors.tolerance=all"]].concat());
    assert_eq!(output.status.code(), Some(1));
    told_once(
        &stderr(&output),
        &["plugin_broken", "guest-evil", "at=lines/0@0..", "hint"],
    );
}

/// At any change of the store some thread panics: the pipeline's own, a task, the committer. One ending each time.
#[test]
fn a_panic_of_any_thread_is_told_once() {
    let broker = MockBroker::start().unwrap();
    broker.create_topic("lines", 1).unwrap();
    let mut threads = std::collections::BTreeSet::new();
    for at in 0.. {
        let case = Case::new(broker.bootstrap());
        if at == 0 {
            case.produce("lines", &[GOOD; 3]);
        }
        let config = case.config("raw", "lines", "");
        let mut command = case.command(&[&config, "--available-now", "--progress", "none"]);
        let output = command.env("WEIR_PANIC_AT", at.to_string()).output();
        let output = output.unwrap();
        if output.status.success() {
            assert!(at > 3, "{}", stderr(&output));
            break;
        }
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        told_once(&said, &["bug", "WEIR_PANIC_AT"]);
        let thread = said.split("thread '").nth(1);
        threads.extend(thread.and_then(|rest| rest.split('\'').next().map(str::to_owned)));
    }
    assert!(threads.contains("raw-committer"), "{threads:?}");
}

#[test]
fn a_log_that_goes_away_while_it_runs_is_told() {
    let broker = MockBroker::start().unwrap();
    broker.create_topic("lines", 1).unwrap();
    let case = Case::new(broker.bootstrap());
    case.produce("lines", &[GOOD]);
    let config = case.config("raw", "lines", "");
    let running = case.start(&[&config, "--progress", "none"]);
    running.says("committed");
    fs::remove_dir_all(case.path("raw")).unwrap();
    case.produce("lines", &[GOOD]);
    let (code, said) = running.wait();
    assert_eq!(code, Some(1), "{said}");
    told_once(&said, &["log_corrupt", "raw"]);
}

#[test]
fn one_that_fails_is_named_and_the_others_say_why_they_end() {
    let broker = MockBroker::start().unwrap();
    for topic in ["lines", "bad"] {
        broker.create_topic(topic, 1).unwrap();
    }
    let case = Case::new(broker.bootstrap());
    case.produce("lines", &[GOOD]);
    let good = case.config("raw", "lines", PARSED);
    let fails = case.config("fails", "bad", PARSED);
    let running = case.start(&[&good, &fails, "--progress", "none"]);
    running.says("pipeline=\"raw\" version=2");
    case.produce("bad", &[BAD]);
    let (code, said) = running.wait();
    assert_eq!(code, Some(1), "{said}");
    let failed: Vec<&str> = said
        .lines()
        .filter(|l| l.contains("pipeline failed"))
        .collect();
    assert_eq!(failed.len(), 1, "{said}");
    assert!(failed[0].contains("pipeline=\"fails\"") && failed[0].contains("bad/0@0"));
    let stopped: Vec<&str> = said
        .lines()
        .filter(|l| l.contains("pipeline stopped"))
        .collect();
    assert_eq!(stopped.len(), 1, "{said}");
    assert!(stopped[0].contains("pipeline=\"raw\""), "{said}");
    assert!(stopped[0].contains("because fails failed"), "{said}");

    // Who reads the zone of one that failed is not begun, and says so.
    let processed = case.write("processed.toml", PROCESSED);
    case.produce("lines", &[BAD]);
    let output = case.run(&[&good, &processed, "--available-now", "--progress", "none"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("not begun, because raw failed"), "{said}");
}

#[test]
fn a_zone_that_is_damaged_ends_its_reader_with_the_file() {
    let broker = MockBroker::start().unwrap();
    broker.create_topic("lines", 1).unwrap();
    let case = Case::new(broker.bootstrap());
    case.produce("lines", &[GOOD]);
    let raw = case.config("raw", "lines", "");
    assert!(case.run(&[&raw, "--available-now"]).status.success());
    let gone = files(&case.path("raw/lines"), ".parquet").remove(0);
    fs::remove_file(&gone).unwrap();
    let processed = case.write("processed.toml", PROCESSED);
    let output = case.run(&[&processed, "--available-now", "--progress", "none"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let name = gone.file_name().unwrap().to_string_lossy().into_owned();
    told_once(&stderr(&output), &["log_corrupt", &name]);
}

#[test]
fn an_end_that_was_asked_for_says_what_is_left() {
    let broker = MockBroker::start().unwrap();
    broker.create_topic("lines", 1).unwrap();
    let case = Case::new(broker.bootstrap());
    case.produce("lines", &[GOOD; 5]);
    let config = case.config("raw", "lines", "");
    let running = case.start(&[&config, "--progress", "none"]);
    running.says("committed");
    running.signal("TERM");
    let (code, said) = running.wait();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("why=\"all committed\""), "{said}");
    assert!(said.contains("lag=0"), "{said}");
}

// === what a real broker may do while records are read ===

/// Running on a topic of Apache Kafka, with one record committed.
fn on_kafka(name: &str) -> Option<(Case, Admin, Started)> {
    let broker = kafka()?;
    let admin = Admin::connect(broker.bootstrap()).unwrap();
    admin.create_topic(name, 1, &[]).unwrap();
    let case = Case::new(broker.bootstrap());
    case.produce(name, &[GOOD]);
    let config = case.config("raw", name, "");
    let running = case.start(&[&config, "--progress", "none"]);
    running.says("committed");
    Some((case, admin, running))
}

#[test]
fn a_topic_deleted_while_it_is_read_is_told() {
    let Some((_case, admin, running)) = on_kafka("ending-deleted") else {
        return;
    };
    admin.delete_topic("ending-deleted").unwrap();
    let (code, said) = running.wait();
    assert_eq!(code, Some(1), "{said}");
    told_once(&said, &["source_lost", "ending-deleted", "hint"]);
}

#[test]
fn a_topic_recreated_while_it_is_read_is_told() {
    let Some((case, admin, running)) = on_kafka("ending-recreated") else {
        return;
    };
    running.signal("STOP");
    admin.delete_topic("ending-recreated").unwrap();
    until("the name to be free again", || {
        admin.create_topic("ending-recreated", 1, &[]).ok()
    });
    case.produce("ending-recreated", &[GOOD; 5]);
    running.signal("CONT");
    let (code, said) = running.wait();
    assert_eq!(code, Some(1), "{said}");
    told_once(&said, &["source_lost", "ending-recreated"]);
}

#[test]
fn records_that_age_out_while_it_sleeps_are_told_with_their_offsets() {
    let Some((case, admin, running)) = on_kafka("ending-aged") else {
        return;
    };
    running.signal("STOP");
    // The first answers the request that is under way; the others are gone when it asks again.
    case.produce("ending-aged", &[GOOD]);
    case.produce("ending-aged", &[GOOD; 9]);
    admin.delete_records("ending-aged", 0, 11).unwrap();
    running.signal("CONT");
    let (code, said) = running.wait();
    assert_eq!(code, Some(1), "{said}");
    told_once(
        &said,
        &[
            "source_lost",
            "ending-aged/0",
            "..11",
            "source.on.data.loss",
        ],
    );
}

// === the daemon ===

#[test]
fn the_daemons_log_says_why_a_pipeline_failed() {
    let mut rig = Rig::new(&["lines", "good"]);
    rig.produce("lines", &[GOOD, BAD]);
    rig.produce("good", &[GOOD]);
    let daemon = rig.start(&["restart.attempts=1", "restart.backoff=10ms", "log.dir=logs"]);
    let parsed = [
        ("transforms", "columns"),
        ("transforms.columns.type", "json-flatten"),
        ("transforms.columns.columns", "id"),
    ];
    assert_eq!(
        daemon
            .put_config("fails", &rig.config("lines", &parsed))
            .status,
        201
    );
    assert_eq!(
        daemon
            .put_config("good", &rig.config("good", &parsed))
            .status,
        201
    );
    until("the failure", || {
        (daemon.state("fails") == "FAILED").then_some(())
    });
    // Once for each of the two attempts, and at level error.
    let errors = |text: &str| -> Vec<Value> {
        let lines = text
            .lines()
            .filter_map(|l| serde_json::from_str::<Value>(l).ok());
        lines.filter(|line| line["level"] == "ERROR").collect()
    };
    let own = rig.path("logs/fails.log");
    let found = until("both endings", || {
        let found = errors(&rig.log());
        (found.len() == 2).then_some(found)
    });
    for line in found
        .iter()
        .chain(&errors(&fs::read_to_string(own).unwrap()))
    {
        assert_eq!(line["message"], "pipeline failed");
        assert_eq!(line["pipeline"], "fails");
        assert_eq!(line["code"], "record_refused");
        assert!(
            line["error"].as_str().unwrap().contains("lines/0@1"),
            "{line}"
        );
        assert!(line["hint"].as_str().unwrap().contains("errors.tolerance"));
    }
    until("rows of the other", || {
        daemon.position("good").filter(|at| *at == 1)
    });
    daemon.signal(15);
    assert!(daemon.wait().success());
    let log = rig.log();
    let stopped: Vec<&str> = log
        .lines()
        .filter(|l| l.contains("pipeline stopped"))
        .collect();
    assert_eq!(stopped.len(), 1, "{log}");
    assert!(stopped[0].contains("\"good\"") && stopped[0].contains("all committed"));
}
