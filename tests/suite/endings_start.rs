//! What ends a pipeline at its start or because of its store; a refused start leaves nothing behind.

use std::fs;
use std::process::Command;

use rand::{Rng as _, SeedableRng as _};
use weir::kafka::testkit::Admin;
use weir::kafka::{KafkaProps, MockBroker, Outgoing, Producer};

use crate::brokers::files;
use crate::brokers::{kafka, until};
use crate::daemon_rig::Rig;
use crate::endings::{Case, GOOD, PARSED, PROCESSED, stderr, told_once};

// === a config that is refused ===

/// Whatever is refused with exit code 2 is refused before the first write.
#[test]
fn what_is_refused_leaves_nothing_behind() {
    let broker = MockBroker::start().unwrap();
    broker.create_topic("lines", 1).unwrap();
    let case = Case::new(broker.bootstrap());
    let left = || files(case.dir.path(), "");
    let misspelt = case.config("raw", "lynes", PARSED);
    let before = left();
    let output = case.run(&[&misspelt, "--available-now"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    told_once(
        &stderr(&output),
        &["config_invalid", "lynes", "no such topic"],
    );
    assert_eq!(left(), before);
    assert!(!case.path("raw").exists(), "not even its directory");
    let processed = case.write("processed.toml", PROCESSED);
    let before = left();
    let output = case.run(&[&processed, "--available-now"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    told_once(&stderr(&output), &["config_invalid", "has no log"]);
    assert_eq!(left(), before);

    // Keys that name no column of the zone that is read; a table of another pipeline, beside one that is free.
    case.produce("lines", &[GOOD]);
    let raw = case.config("raw", "lines", PARSED);
    assert!(case.run(&[&raw, "--available-now"]).status.success());
    let wrong = case.write("wrong.toml", &PROCESSED.replace("_offset", "offzet"));
    let other = case.config("other", "lines", PARSED);
    let before = left();
    for (config, says) in [(&wrong, "offzet"), (&other, "belongs to pipeline raw")] {
        let output = case.run(&[config, "--available-now"]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        told_once(&stderr(&output), &["config_invalid", says]);
        assert_eq!(left(), before);
    }
}

/// The group of a zone that was deleted, and of a log that lost its newest entry.
#[test]
fn a_group_that_is_ahead_of_the_log_is_told_once_in_words() {
    let Some(broker) = kafka() else {
        return;
    };
    let admin = Admin::connect(broker.bootstrap()).unwrap();
    admin.create_topic("ending-ahead", 2, &[]).unwrap();
    let case = Case::new(broker.bootstrap());
    case.produce("ending-ahead", &[GOOD; 5]);
    let config = case.config("ahead", "ending-ahead", "");
    let run = |says: &[&str]| {
        let output = case.run(&[&config, "--available-now", "--progress", "none"]);
        let said = stderr(&output);
        assert!(output.status.success(), "{said}");
        let lines: Vec<&str> = said
            .lines()
            .filter(|l| l.contains("source.group.id"))
            .collect();
        assert_eq!(lines.len(), usize::from(!says.is_empty()), "{said}");
        for says in says {
            assert!(lines[0].contains(says), "{said}");
        }
        assert!(!said.contains("R4"), "{said}");
    };
    run(&[]);
    run(&[]);
    fs::remove_dir_all(case.path("raw")).unwrap();
    run(&[
        "WARN",
        "read nothing of records",
        "ending-ahead/0: group 5, log 0",
    ]);
    case.produce("ending-ahead", &[GOOD; 5]);
    run(&[]);
    let newest = files(&case.path("raw/_system/ahead/raw/log"), ".json")
        .pop()
        .unwrap();
    fs::remove_file(newest).unwrap();
    run(&[
        "ERROR",
        "stands above the end",
        "ending-ahead/0: group 10, log 5",
    ]);
}

// === stores ===

#[test]
fn a_topic_with_the_longest_name_is_read() {
    let broker = MockBroker::start().unwrap();
    let name = "n".repeat(249);
    broker.create_topic(&name, 1).unwrap();
    let case = Case::new(broker.bootstrap());
    case.produce(&name, &[GOOD]);
    let config = case.config("raw", &name, "");
    for _ in 0..2 {
        let output = case.run(&[&config, "--available-now"]);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    assert_eq!(files(&case.path("raw").join(&name), ".parquet").len(), 1);
    let other = case.config("other", &name, "");
    let output = case.run(&[&other, "--available-now"]);
    told_once(
        &stderr(&output),
        &["config_invalid", "belongs to pipeline raw"],
    );
}

#[test]
fn a_process_without_file_handles_says_its_limit() {
    let broker = MockBroker::start().unwrap();
    let topics: Vec<String> = (0..150).map(|n| format!("t{n}")).collect();
    for topic in &topics {
        broker.create_topic(topic, 1).unwrap();
    }
    let case = Case::new(broker.bootstrap());
    let props = KafkaProps::new(broker.bootstrap(), "test", &Default::default()).unwrap();
    let producer = Producer::open(&props).unwrap();
    for topic in &topics {
        let out = Outgoing {
            value: Some(GOOD.as_bytes()),
            ..Outgoing::default()
        };
        producer.send(topic, out).unwrap();
    }
    producer.flush(crate::brokers::DEADLINE).unwrap();
    let config = case.config("raw", &topics.join("\",\""), "");
    let command = case.command(&[&config, "--available-now", "--progress", "none"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 120; exec \"$0\" \"$@\""]);
    limited.arg(command.get_program()).args(command.get_args());
    let output = limited.current_dir(case.dir.path()).output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    told_once(&said, &["limit_reached", "its limit is 120", "ulimit -n"]);
}

#[test]
fn health_says_that_the_daemons_disk_takes_nothing_and_that_it_does_again() {
    let mut rig = Rig::new(&[]);
    let daemon = rig.start(&[]);
    let health = |status| {
        until("another health", || {
            let answer = daemon.ask("GET", "/health", None);
            (answer.status == status).then(|| answer.text())
        })
    };
    health(200);
    fs::rename(rig.path("data"), rig.path("away")).unwrap();
    let text = health(500);
    assert!(
        text.contains("takes no changes") && text.contains("unhealthy"),
        "{text}"
    );
    fs::rename(rig.path("away"), rig.path("data")).unwrap();
    assert!(health(200).contains("healthy"));
    assert!(!rig.path("data/.health").exists());
}

/// Under a limit of address space a plugin does not start: no fault of the config.
#[test]
fn no_memory_for_a_plugin_is_no_wrong_config() {
    let broker = MockBroker::start().unwrap();
    broker.create_topic("lines", 1).unwrap();
    let case = Case::new(broker.bootstrap());
    let config = case.config("raw", "lines", PARSED);
    // Compiled before, so that the limit meets the start of the plugin.
    assert!(case.run(&[&config, "--available-now"]).status.success());
    let command = case.command(&[&config, "--available-now", "--progress", "none"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -v 3000000; exec \"$0\" \"$@\""]);
    limited.arg(command.get_program()).args(command.get_args());
    let output = limited.current_dir(case.dir.path()).output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    told_once(
        &said,
        &["limit_reached", "Cannot allocate memory", "ulimit -v"],
    );
}

#[test]
fn a_message_that_no_answer_may_carry_is_named() {
    let Some(broker) = kafka() else {
        return;
    };
    let admin = Admin::connect(broker.bootstrap()).unwrap();
    let large = [("max.message.bytes", "20000000")];
    admin.create_topic("ending-large", 1, &large).unwrap();
    let case = Case::new(broker.bootstrap());
    case.produce("ending-large", &[GOOD]);
    let more = [("message.max.bytes".to_owned(), "20000000".to_owned())];
    let props = KafkaProps::new(broker.bootstrap(), "test", &more.into()).unwrap();
    let producer = Producer::open(&props).unwrap();
    // What does not compress.
    let mut random = rand::rngs::SmallRng::seed_from_u64(1);
    let noise: Vec<u8> = (0..4_000_000).map(|_| random.random::<u8>()).collect();
    let out = Outgoing {
        value: Some(&noise),
        ..Outgoing::default()
    };
    producer.send("ending-large", out).unwrap();
    producer.flush(crate::brokers::DEADLINE).unwrap();
    let config = case.config("raw", "ending-large", "");
    let small = [
        "message.max.bytes",
        "fetch.max.bytes",
        "receive.message.max.bytes",
    ];
    let small: Vec<String> = small
        .iter()
        .zip(["1000000", "1000000", "1100000"])
        .flat_map(|(key, value)| ["--set".to_owned(), format!("source.kafka.{key}={value}")])
        .collect();
    let mut args = vec![config.as_str(), "--progress", "none"];
    args.extend(small.iter().map(String::as_str));
    let (code, said) = case.start(&args).wait();
    assert_eq!(code, Some(1), "{said}");
    told_once(
        &said,
        &[
            "limit_reached",
            "ending-large/0@1",
            "receive.message.max.bytes",
        ],
    );
}
