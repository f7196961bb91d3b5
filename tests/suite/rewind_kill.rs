//! Interrupted rewinds: the command is killed at each of its durable steps, the pipeline that follows at each of its
//! own; and a process that runs meanwhile.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use weir::commit::{LogName, Role, verify};
use weir::kafka::MockBroker;
use weir::kafka::testkit::Admin;
use weir::store;
use weir::zone::read_file;

use crate::brokers::files;
use crate::brokers::{kafka, until};
use crate::swap_rig::{ABORT_AT, Load, Rig, coordinates, produce};
use crate::world::open_log;

const PARTITIONS: i32 = 2;
/// Messages for each partition before each step.
const MORE: i64 = 5;
const STEPS_MAX: u64 = 60;
/// One task, so that files hold rows of both partitions.
const ONE_TASK: [&str; 3] = ["--available-now", "--set", "tasks.max=1"];

fn catch_up(rig: &Rig) {
    let status = rig.run(&ONE_TASK).status().unwrap();
    assert!(status.success(), "{}", rig.said());
}

fn position(rig: &Rig, partition: i32) -> (i64, u64) {
    let log = rig.log();
    let mut chains = log.state().splits.values();
    let chain = chains.find(|c| c.partition == partition).unwrap();
    (chain.to, chain.epoch)
}

/// Either nothing has happened, or all of it is in the log and the next start does the rest.
#[test]
fn a_rewind_that_dies_anywhere_is_not_done_or_done() {
    let broker = MockBroker::start().unwrap();
    broker.create_topic("numbers", PARTITIONS).unwrap();
    let rig = Rig::new(broker.bootstrap(), "numbers", PARTITIONS, "");
    rewinds_that_die(&rig);
}

pub fn rewinds_that_die(rig: &Rig) {
    let mut messages = 0;
    let mut done_but_cut = 0;
    for step in 0..STEPS_MAX {
        for _ in 0..2 {
            produce(rig, messages..messages + MORE);
            messages += MORE;
            catch_up(rig);
        }
        let before = position(rig, 0);
        let wanted = format!("numbers/0={}", messages - MORE - 1);
        let args = ["pipeline", "rewind", "numbers.toml", &wanted, "--json"];
        let cut = rig
            .weir(&args)
            .env(ABORT_AT, step.to_string())
            .stderr(Stdio::null())
            .output()
            .unwrap();
        let target = messages - 2 * MORE;
        let after = position(rig, 0);
        let done = after == (target, before.1 + 1);
        assert!(done || after == before, "step {step}: {before:?} {after:?}");
        assert_eq!(position(rig, 1).0, messages, "step {step}");
        let whole = cut.status.success();
        assert!(done || !whole);
        done_but_cut += u64::from(done && !whole);
        if !done {
            let again = rig.weir(&args).output().unwrap();
            assert!(again.status.success(), "after step {step}: {again:?}");
            assert_eq!(position(rig, 0).0, target);
        }
        catch_up(rig);
        rig.exact(messages * i64::from(PARTITIONS));
        if whole {
            assert!(
                step > 5 && done_but_cut > 2,
                "{step} steps, {done_but_cut} after the entry"
            );
            return;
        }
    }
    panic!("no step of {STEPS_MAX} lets a rewind through");
}

const PROCESSED: &str = "processed.toml";

fn declare_processed(rig: &Rig) {
    let dir = rig.dir.path().display();
    let config = format!(
        r#"
name = "processed"
[source]
type = "zone"
url = "file:{dir}/zone"
pipeline = "numbers"
zone = "zone"
table = "numbers"
[sink]
type = "zone"
url = "file:{dir}/processed"
zone = "processed"
table = "numbers"
partition.field = "_timestamp"
partition.format = "%Y-%m-%d"
partition.name = "date"
dedup.key = "n"
"#
    );
    std::fs::write(rig.path(PROCESSED), config).unwrap();
}

/// Coordinates of the rows that a PROCESSED zone shows.
fn shown(rig: &Rig, zone: &str, pipeline: &str) -> BTreeSet<(i32, i64)> {
    let root = rig.path(zone);
    let url = format!("file:{}", root.display());
    let (log, store) = (
        open_log(&root, pipeline, zone).unwrap().unwrap(),
        store::open_url(&url).unwrap(),
    );
    let found = verify(store.as_ref(), &LogName::new(pipeline, zone))
        .unwrap()
        .unwrap();
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    let live = log
        .state()
        .live
        .values()
        .filter(|l| l.file.role == Role::Rows);
    let listed = files(&root.join("numbers"), ".parquet").len();
    assert_eq!(live.clone().count(), listed);
    let mut rows = BTreeSet::new();
    for live in live {
        for batch in read_file(&store, log.name(), &live.file).unwrap() {
            for at in coordinates(&batch.unwrap()) {
                assert!(rows.insert(at), "{at:?} twice");
            }
        }
    }
    rows
}

/// A batch is cut short anywhere, also between its entry and the reader's; RAW goes back; the following is cut short
/// anywhere. What is there in the end is what somebody who begins then gets.
#[test]
fn a_pipeline_that_dies_anywhere_while_it_follows_ends_as_a_fresh_one() {
    let broker = MockBroker::start().unwrap();
    broker.create_topic("numbers", PARTITIONS).unwrap();
    let rig = Rig::new(broker.bootstrap(), "numbers", PARTITIONS, "");
    declare_processed(&rig);
    let processed = |step: Option<u64>, more: &[&str]| {
        let mut command = rig.weir(&["run", PROCESSED, "--available-now", "--progress", "none"]);
        command.args(more).stdout(Stdio::null());
        if let Some(step) = step {
            command.env(ABORT_AT, step.to_string());
        }
        let output = command.output().unwrap();
        assert!(step.is_some() || output.status.success(), "{output:?}");
        output.status.success()
    };
    let mut messages = 0;
    for step in 0..STEPS_MAX {
        // Some of the values come again, so that a batch depends on those before it.
        produce(&rig, messages..messages + MORE);
        messages += MORE;
        catch_up(&rig);
        let first = processed(Some(step), &[]);
        let partition = step % 2;
        let wanted = format!("numbers/{partition}={}", messages - 1);
        rig.asked(&["rewind", &wanted]);
        // Other rules make other rows of what is read again.
        let other = if rig.in_force() == "low" {
            "high"
        } else {
            "low"
        };
        rig.declare(other, "");
        catch_up(&rig);
        assert_eq!(rig.in_force(), other);
        let second = processed(Some(step), &[]);
        processed(None, &[]);
        let zone = format!("fresh-{step}");
        let url = format!("sink.url=file:{}", rig.path(&zone).display());
        let (name, sets) = (format!("name={zone}"), format!("sink.zone={zone}"));
        processed(None, &["--set", &name, "--set", &url, "--set", &sets]);
        let expected = shown(&rig, &zone, &zone);
        assert_eq!(
            shown(&rig, "processed", "processed"),
            expected,
            "step {step}"
        );
        if first && second {
            assert!(step > 8, "only {step} steps");
            return;
        }
    }
    panic!("no step of {STEPS_MAX} lets both through");
}

/// Idle: it is not told but notices, and reads again though nothing new comes.
#[test]
fn a_process_that_runs_reads_again_from_where_it_was_put() {
    let broker = MockBroker::start().unwrap();
    broker.create_topic("numbers", PARTITIONS).unwrap();
    let rig = Rig::new(broker.bootstrap(), "numbers", PARTITIONS, "");
    let running = rig.running();
    for messages in [10, 20] {
        produce(&rig, messages - 10..messages);
        until("the commit", || {
            (position(&rig, 0).0 == messages && position(&rig, 1).0 == messages).then_some(())
        });
    }
    let answer = rig.pipeline(&["rewind", "numbers/0=start", "numbers/1=10", "--json"]);
    assert!(answer.status.success(), "{answer:?}");
    let warned = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(warned.contains("seems to run this pipeline"), "{warned}");
    until("all of it again", || {
        (position(&rig, 0) == (20, 1) && position(&rig, 1) == (20, 1)).then_some(())
    });
    running.stop();
    rig.exact(40);
    let refused = rig.pipeline(&["rewind", "numbers/0=21"]);
    assert!(!refused.status.success());
    let again = rig.asked(&["rewind", "--all=start", "--dry-run"]);
    assert_eq!(again["moved"][1]["to"], 0);
    assert!(again["version"].is_null());
}

/// Six of them; the topic has four partitions, of a hundred records each. How many messages there are then.
pub fn rewinds_under_load(rig: &Rig, topic: &str, round: i64, pause: Duration) -> i64 {
    let load = Load::from(rig, 100, round, pause);
    let running = rig.running();
    for round in 0..6 {
        let before = position(rig, round % 4).0;
        until("more", || {
            (position(rig, round % 4).0 > before).then_some(())
        });
        let wanted = match round {
            3 => "--all=start".to_owned(),
            _ => format!("{topic}/{}={}", round % 4, before / 2),
        };
        until("a rewind", || {
            let answer = rig.pipeline(&["rewind", &wanted, "--reason", "again"]);
            let said = String::from_utf8_lossy(&answer.stderr).into_owned();
            // It gives up where entries come faster than it can read, and may be asked again.
            let overtaken = said.contains("write faster than the rewind is computed");
            assert!(answer.status.success() || overtaken, "{said}");
            answer.status.success().then_some(())
        });
    }
    let messages = load.end();
    running.stop();
    rig.catch_up();
    rig.exact(messages);
    messages
}

#[test]
fn rewinds_of_a_running_process_under_load_lose_and_double_nothing() {
    let Some(broker) = kafka() else { return };
    let admin = Admin::connect(broker.bootstrap()).unwrap();
    admin.create_topic("rewinds", 4, &[]).unwrap();
    let rig = Rig::new(broker.bootstrap(), "rewinds", 4, "");
    produce(&rig, 0..100);
    rig.catch_up();
    let messages = rewinds_under_load(&rig, "rewinds", 50, Duration::from_millis(20));
    // What the broker has deleted cannot be read again: nothing is written.
    admin.delete_records("rewinds", 0, 60).unwrap();
    let version = rig.log().version();
    let refused = rig.pipeline(&["rewind", "rewinds/0=40"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("it begins at 60") && said.contains("lowest offset"),
        "{said}"
    );
    assert_eq!(rig.log().version(), version);
    rig.exact(messages);
}
