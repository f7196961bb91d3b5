//! Interrupted swaps and rollbacks: at every durable step of the command and of the running process, and a hundred of
//! them under full load.

use std::process::Stdio;
use std::time::Duration;

use weir::commit::{Swap, actor};
use weir::kafka::MockBroker;
use weir::kafka::testkit::Admin;
use weir::pipeline::rules::pending::{Answer, Pending};

use crate::brokers::{kafka, until};
use crate::swap_rig::{ABORT_AT, Load, Rig, produce};

const PARTITIONS: i32 = 2;
/// Messages for each partition before each step.
const MORE: i64 = 5;
/// Runs of the steps test side by side.
const LANES: usize = 3;
/// More than a swap has; a run that never comes through is a finding.
const STEPS_MAX: u64 = 120;
const SWAPS: usize = 100;

fn other(rules: &str) -> &'static str {
    match rules {
        "low" => "high",
        _ => "low",
    }
}

/// The command ends before each change of the store in turn; nobody else runs. Either the old rules hold or the new ones,
/// and asking again gets there.
#[test]
fn a_command_that_dies_anywhere_leaves_old_rules_or_new_ones() {
    let broker = MockBroker::start().unwrap();
    broker.create_topic("numbers", PARTITIONS).unwrap();
    let rig = Rig::new(broker.bootstrap(), "numbers", PARTITIONS, "");
    let mut messages = 0;
    let mut more = || {
        produce(&rig, messages..messages + MORE);
        messages += MORE;
        rig.catch_up();
    };
    more();
    for verb in ["swap", "rollback"] {
        let mut step = 0;
        loop {
            let was = rig.in_force();
            let set = rig.set(other(was));
            let mut args = vec!["pipeline", verb, "numbers.toml"];
            if verb == "swap" {
                args.extend(["--reload", "--force", "--set", &set]);
            } else {
                // Something to go back to that is not blocked.
                rig.asked(&["swap", "--reload", "--force", "--set", &set]);
            }
            let periods = rig.periods().len();
            let cut = rig
                .weir(&args)
                .env(ABORT_AT, step.to_string())
                .output()
                .unwrap();
            let changed = rig.periods().len() - periods;
            assert!(changed <= 1, "{verb} at step {step}");
            let whole = cut.status.success();
            assert!(!whole || changed == 1, "{verb} at step {step}: {cut:?}");
            if changed == 0 {
                let again = rig.weir(&args).output().unwrap();
                assert!(
                    again.status.success(),
                    "{verb} after step {step}: {again:?}"
                );
            }
            let wanted = if verb == "swap" { other(was) } else { was };
            assert_eq!(rig.in_force(), wanted, "{verb} at step {step}");
            if whole {
                break;
            }
            step += 1;
            assert!(step < STEPS_MAX);
        }
        assert!(
            step >= 5,
            "only {step} steps of {verb}: is the variable heard?"
        );
        more();
    }
    rig.exact(messages * i64::from(PARTITIONS));
}

/// What the process is asked for while it dies.
#[derive(Clone, Copy, PartialEq)]
enum Change {
    Swap,
    Rollback,
}

/// The process ends before each change of its store in turn, from its start until it has carried out a swap.
#[test]
fn a_process_that_dies_anywhere_in_a_swap_loses_nothing_and_mixes_nothing() {
    die_everywhere(Change::Swap);
}

#[test]
fn a_process_that_dies_anywhere_in_a_rollback_loses_nothing_and_mixes_nothing() {
    die_everywhere(Change::Rollback);
}

fn die_everywhere(change: Change) {
    let broker = MockBroker::start().unwrap();
    let steps: Vec<u64> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let topic = format!("numbers-{lane}");
                broker.create_topic(&topic, PARTITIONS).unwrap();
                let rig = Rig::new(broker.bootstrap(), &topic, PARTITIONS, "");
                scope.spawn(move || die_at_steps(&rig, lane as u64, change))
            })
            .collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).collect()
    });
    let steps = steps.iter().min().unwrap();
    assert!(*steps > 10, "only {steps} steps: is the variable heard?");
    println!("{steps} steps");
}

/// The first step, of every [`LANES`]-th, that a whole change does not reach.
fn die_at_steps(rig: &Rig, first: u64, change: Change) -> u64 {
    produce(rig, 0..MORE);
    rig.catch_up();
    let mut messages = MORE;
    for step in (first..STEPS_MAX).step_by(LANES) {
        produce(rig, messages..messages + MORE);
        messages += MORE;
        let before = rig.in_force();
        let wanted = match change {
            Change::Swap => other(before),
            Change::Rollback => {
                // Something to go back from, which the config declares too; blocked by the rollback before.
                rig.declare(other(before), "");
                rig.asked(&["swap", "--reload", "--force"]);
                before
            }
        };
        let begun = rig.said().matches("pipeline started").count();
        let mut process = rig
            .run(&[])
            .env(ABORT_AT, step.to_string())
            .spawn()
            .unwrap();
        until("a start or an end", || {
            let started = rig.said().matches("pipeline started").count() > begun;
            (started || process.try_wait().unwrap().is_some()).then_some(())
        });
        let set = rig.set(wanted);
        let verb = match change {
            Change::Swap => vec!["swap", "--reload", "--set", &set],
            Change::Rollback => vec!["rollback"],
        };
        let mut args = vec![
            "pipeline",
            verb[0],
            "numbers.toml",
            "--wait",
            "2s",
            "--json",
        ];
        args.extend(&verb[1..]);
        let asked = rig.weir(&args).stderr(Stdio::null()).output().unwrap();
        let by_process = String::from_utf8_lossy(&asked.stdout).contains("\"by_process\":true");
        let survived = process.try_wait().unwrap().is_none();
        drop(process.kill());
        process.wait().unwrap();
        rig.catch_up();
        match change {
            Change::Swap => drop(rig.swap_to(wanted)),
            Change::Rollback if asked.status.success() => assert_eq!(rig.in_force(), wanted),
            Change::Rollback => {}
        }
        rig.exact(messages * i64::from(PARTITIONS));
        if survived && by_process {
            return step;
        }
    }
    panic!(
        "no step of {STEPS_MAX} lets a change through: {}",
        rig.said()
    );
}

#[test]
fn a_hundred_swaps_under_full_load_lose_double_and_mix_nothing() {
    let Some(broker) = kafka() else { return };
    let admin = Admin::connect(broker.bootstrap()).unwrap();
    admin.create_topic("swaps", 4, &[]).unwrap();
    let rig = Rig::new(broker.bootstrap(), "swaps", 4, "");
    produce(&rig, 0..1);
    rig.catch_up();
    let load = Load::from(&rig, 1, 250, Duration::from_millis(5));
    let running = rig.running();
    // Twice by command: from then on both are in the plugin store, and the log has their rules.
    rig.swap_to("high");
    rig.swap_to("low");
    let periods = rig.periods();
    let rules = |name| {
        let period = periods
            .iter()
            .find(|period| rig.name_of(&period.transforms) == name);
        period.unwrap().transforms.clone()
    };
    let both = [rules("high"), rules("low")];
    let (store, mut log) = (rig.store(), rig.log());
    let pending = Pending::new(store, log.name());
    for at in 0..SWAPS {
        log.refresh().unwrap();
        let swap = Swap {
            replaces: log.state().generation(),
            transforms: both[at % 2].clone(),
            actor: actor(),
            reason: format!("number {at}"),
            block: Vec::new(),
            force: false,
            declared: None,
        };
        let id = pending.ask(&swap).unwrap();
        let answer = until("an answer", || pending.answer(&id).unwrap());
        assert!(
            matches!(answer, Answer::InForce(_)),
            "{answer:?}: {}",
            rig.said()
        );
        pending.forget(&id).unwrap();
    }
    let messages = load.end();
    running.stop();
    rig.catch_up();
    rig.exact(messages);
    let periods = rig.periods();
    let with_rows = periods
        .iter()
        .filter(|period| !period.ranges.is_empty())
        .count();
    assert!(
        periods.len() == SWAPS + 3 && with_rows > SWAPS * 9 / 10,
        "{with_rows}"
    );
    assert!(
        !rig.said().contains("commit dropped"),
        "nothing was read twice"
    );
    println!(
        "{SWAPS} swaps, {messages} messages, {with_rows} rules with rows; a task was away for {} us at most",
        rig.longest_change()
    );
}
