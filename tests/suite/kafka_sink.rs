//! `sink.type = "kafka"` against Apache Kafka, the whole program: each record once for whoever reads committed records, whatever
//! is killed, stopped or doubled.

use std::fs;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use weir::clock::SystemClock;

use crate::brokers::{self, until};
use crate::kafka_sink_rig::{RULES, Rig, id_of, kill, message, signal};
use crate::world::open_log;

/// `WEIR_KILLS` says another number. The life of each process is long enough for some to get into their transactions, and so short that all of them fit
/// into a minute.
const KILLS: u32 = 50;
const LIFE: std::ops::Range<u64> = 150..500;
/// Of another process, while this one runs.
const OTHERS: u32 = 6;
const SEED: u64 = 11;

#[test]
fn kills_lose_nothing_and_show_nothing_twice() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let kills = std::env::var("WEIR_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let rig = Rig::new(broker, "kill", 4);
    let file = rig.declare(
        "copy",
        &format!("tasks.max = 2\nsink.key.column = \"name\"\n{RULES}"),
    );
    let clock = SystemClock::shared();
    let mut rng = SmallRng::seed_from_u64(SEED);
    let mut total = 0;
    for round in 0..kills {
        let more = rng.random_range(50..400);
        rig.produce((total..total + more).map(message));
        total += more;
        let mut child = rig.spawn(&file);
        let until = clock.elapsed() + Duration::from_millis(rng.random_range(LIFE));
        while clock.elapsed() < until {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "round {round}: it ended: {}", rig.said());
            clock.sleep(Duration::from_millis(5));
        }
        kill(child);
    }
    rig.ran(&file);
    rig.settled("copy", total);
    println!("{kills} kills, {total} records");
}

/// Nobody starts after the last kill: who runs on finishes what the killed had committed.
#[test]
fn who_runs_on_finishes_what_others_committed_before_they_were_killed() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let rig = Rig::new(broker, "others", 4);
    let file = rig.declare("others", &format!("tasks.max = 2\n{RULES}"));
    let clock = SystemClock::shared();
    let mut rng = SmallRng::seed_from_u64(SEED);
    let mut stays = rig.spawn(&file);
    let mut total = 0;
    for _ in 0..OTHERS {
        let other = rig.spawn(&file);
        let until = clock.elapsed() + Duration::from_millis(rng.random_range(500..1_500));
        while clock.elapsed() < until {
            rig.produce((total..total + 50).map(message));
            total += 50;
            clock.sleep(Duration::from_millis(50));
        }
        kill(other);
    }
    rig.read(&rig.output, total as usize);
    until("the end of what is committed", || {
        let packets = rig.packets("others");
        let waits = rig.state("others", |state| {
            packets.iter().any(|id| state.delivered.contains_key(id))
        });
        (!waits).then_some(())
    });
    assert!(stays.try_wait().unwrap().is_none(), "{}", rig.said());
    signal(&stays, "-TERM");
    assert!(stays.wait().unwrap().success(), "{}", rig.said());
    // A start collects what no entry names.
    rig.ran(&file);
    rig.settled("others", total);
    println!("{OTHERS} kills, {total} records");
}

/// Runs of the steps test side by side: most of each is waiting.
const LANES: u64 = 4;

/// Before each change of the home, in turn: the process ends there, and the next one ends the work.
#[test]
fn an_end_at_every_step_of_the_home_loses_nothing_and_shows_nothing_twice() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let rig = Rig::new(broker, "steps", 1);
    rig.produce((0..20).map(message));
    let file = rig.declare("steps", RULES);
    let (rig, file) = (&rig, file.as_str());
    let lanes: Vec<(u64, u32)> = std::thread::scope(|scope| {
        let lane = |begin| {
            let mut changed = 0;
            (end_at_steps(rig, file, begin, &mut changed), changed)
        };
        let lanes: Vec<_> = (0..LANES)
            .map(|begin| scope.spawn(move || lane(begin)))
            .collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).collect()
    });
    let changed: u32 = lanes.iter().map(|(_, changed)| changed).sum();
    assert!(changed > 0, "no packet was left that the topic had");
    let steps = lanes.iter().map(|(steps, _)| steps).min().unwrap();
    assert!(*steps > 10, "only {steps} steps: is the variable heard?");
    println!("{steps} steps");
}

/// From step `begin` on, every [`LANES`]-th; the first that a whole run does not reach.
fn end_at_steps(rig: &Rig, file: &str, begin: u64, changed: &mut u32) -> u64 {
    for step in (begin..).step_by(LANES as usize) {
        let topic = format!("{}-{step}", rig.output);
        rig.create(&topic, 1);
        let run = |topic: &str, abort_at: Option<u64>| {
            let sets = [
                format!("sink.topic.name={topic}"),
                format!("sink.url=file:home-{step}"),
            ];
            let args = ["run", file, "--available-now", "--progress", "none"];
            let mut command = rig.weir(&args);
            for set in &sets {
                command.args(["--set", set]);
            }
            command.envs(abort_at.map(|step| ("WEIR_ABORT_AT", step.to_string())));
            command.output().unwrap()
        };
        let first = run(&topic, Some(step));
        let whole = first.status.success();
        // The packet waits, and the topic has it already: whoever comes then writes into another topic.
        let said = String::from_utf8_lossy(&first.stderr);
        let taken = said.contains("Delete") && said.contains("/outbox/");
        let next = match taken {
            true => format!("{topic}-next"),
            false => topic.clone(),
        };
        if taken {
            rig.create(&next, 1);
        }
        let output = run(&next, None);
        assert!(output.status.success(), "after step {step}: {output:?}");
        let ids: Vec<u64> = rig.read(&topic, 20).iter().map(id_of).collect();
        assert_eq!(ids, (0..20).collect::<Vec<_>>(), "after step {step}");
        if taken {
            *changed += 1;
            assert!(rig.read_now(&next).is_empty(), "after step {step}");
        }
        if whole {
            return step;
        }
    }
    panic!("steps have an end")
}

#[test]
fn a_process_that_slept_is_fenced_and_both_show_each_record_once() {
    let Some(broker) = brokers::kafka() else {
        return;
    };
    let rig = Rig::new(broker, "zombie", 2);
    let file = rig.declare("zombie", RULES);
    rig.produce((0..500).map(message));
    let mut sleeper = rig.spawn(&file);
    let standing = || {
        let log = open_log(&rig.path("home"), "zombie", "home").unwrap()?;
        let stands: i64 = log.state().splits.values().map(|split| split.to).sum();
        Some(stands)
    };
    until("the first records", || (standing()? >= 500).then_some(()));
    let mut total = 500;
    for _ in 0..3 {
        rig.produce((total..total + 300).map(message));
        total += 300;
        signal(&sleeper, "-STOP");
        rig.ran(&file);
        rig.produce((total..total + 300).map(message));
        total += 300;
        signal(&sleeper, "-CONT");
        until("what came after it slept", || {
            (standing()? >= total as i64).then_some(())
        });
    }
    signal(&sleeper, "-TERM");
    assert!(sleeper.wait().unwrap().success(), "{}", rig.said());
    rig.settled("zombie", total);
    assert!(
        rig.said()
            .contains("another process writes under this transactional id"),
        "{}",
        rig.said()
    );
}

#[test]
fn a_broker_that_dies_in_a_transaction_is_waited_for() {
    let Some(mut broker) = brokers::own_kafka() else {
        return;
    };
    let rig = Rig::new(&broker, "broker", 2);
    let file = rig.declare("broker", &format!("retry.max.backoff = \"1s\"\n{RULES}"));
    rig.produce((0..40_000).map(message));
    let mut child = rig.spawn(&file);
    let outbox = rig.path("home/_system/broker/home/outbox");
    until("a packet on its way", || {
        let waits = fs::read_dir(&outbox).ok()?.next();
        waits.is_some().then_some(())
    });
    broker.kill();
    until("it says so", || {
        rig.said().contains("sink_unavailable").then_some(())
    });
    broker.start();
    until("the rest", || {
        let log = open_log(&rig.path("home"), "broker", "home").unwrap()?;
        let stands: i64 = log.state().splits.values().map(|split| split.to).sum();
        (stands >= 40_000).then_some(())
    });
    signal(&child, "-TERM");
    assert!(child.wait().unwrap().success(), "{}", rig.said());
    rig.settled("broker", 40_000);
}
