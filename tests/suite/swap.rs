//! Rules change while records flow, by a command, by an edit, and back again, in the real program.

use std::time::Duration;

use weir::commit::{Draft, Swap};
use weir::kafka::MockBroker;

use crate::brokers::until;
use crate::swap_rig::{LOW, Load, Rig, produce, text};

const TOPIC: &str = "numbers";

fn rig(more: &str) -> (MockBroker, Rig) {
    let broker = MockBroker::start().unwrap();
    broker.create_topic(TOPIC, 4).unwrap();
    let rig = Rig::new(broker.bootstrap(), TOPIC, 4, more);
    (broker, rig)
}

/// Rows have arrived under the rules in force.
fn more_rows(rig: &Rig) {
    let before = rig.log().version();
    until("another commit", || {
        (rig.log().version() > before).then_some(())
    });
}

#[test]
fn rules_swap_under_load_and_no_row_is_lost_doubled_or_mixed() {
    let (_broker, rig) = rig("");
    let load = Load::start(&rig, 50, Duration::from_millis(20));
    let mut running = rig.running();
    for rules in ["high", "low", "high", "low", "high"] {
        more_rows(&rig);
        let done = rig.swap_to(rules);
        assert_eq!(done["state"], "in_force");
        assert_eq!(done["by_process"], true, "{}", rig.said());
        assert_eq!(rig.in_force(), rules);
    }
    more_rows(&rig);
    let messages = load.end();
    assert!(running.alive());
    running.stop();
    rig.catch_up();
    rig.exact(messages);
    let said = rig.said();
    assert_eq!(
        said.matches("pipeline started").count(),
        2,
        "it never began again: {said}"
    );
    assert!(
        !said.contains("commit dropped"),
        "nothing was read twice: {said}"
    );
    // Rows and swap are one entry.
    let periods = rig.periods();
    assert_eq!(periods.len(), 6);
    let with_rows = |period: &&weir::commit::RulesPeriod| !period.ranges.is_empty();
    assert!(periods.iter().filter(with_rows).count() >= 5, "{periods:?}");
}

#[test]
fn an_idle_pipeline_swaps_at_once_and_a_restart_keeps_the_swap() {
    let (_broker, rig) = rig("");
    produce(&rig, 0..10);
    let running = rig.running();
    more_rows(&rig);
    let done = rig.swap_to("high");
    assert_eq!(done["by_process"], true);
    running.stop();
    // The config still says `low`, and says so.
    produce(&rig, 10..20);
    rig.catch_up();
    assert_eq!(rig.in_force(), "high");
    assert!(
        rig.said()
            .contains("the rules in force are those of the log"),
        "{}",
        rig.said()
    );
    rig.exact(80);
    // An edit of the config counts again.
    rig.declare("high", "");
    rig.catch_up();
    let log = rig.log();
    assert_eq!(rig.in_force(), "high");
    rig.declare("low", "");
    produce(&rig, 20..30);
    rig.catch_up();
    assert_eq!(rig.in_force(), "low");
    assert!(rig.log().version() > log.version());
    rig.exact(120);
}

#[test]
fn without_a_process_the_command_writes_the_swap_and_the_next_run_follows_it() {
    let (_broker, rig) = rig("");
    let early = rig.pipeline(&["swap", "--reload"]);
    assert_eq!(early.status.code(), Some(2));
    assert!(text(&early.stderr).contains("has no log yet"), "{early:?}");
    produce(&rig, 0..10);
    rig.catch_up();
    let dry = rig.asked(&["swap", "--reload", "--dry-run", "--set", &rig.set("high")]);
    assert_eq!(dry["state"], "dry_run");
    assert_eq!(rig.in_force(), "low");
    let same = rig.asked(&["swap", "--reload"]);
    assert_eq!(same["state"], "already");
    let done = rig.swap_to("high");
    assert_eq!(
        (&done["state"], &done["by_process"]),
        (&"in_force".into(), &false.into())
    );
    // One plugin by name: its keys come from the config, which says `low`.
    let shown = rig.pipeline(&["swap", "rules=validate@0.1", "--reason", "back by name"]);
    assert!(shown.status.success(), "{shown:?}");
    assert_eq!(rig.in_force(), "low");
    let unknown = rig.pipeline(&["swap", "rules=validate@9.9"]);
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
    let other = rig.pipeline(&["swap", "nobody=validate"]);
    assert!(
        text(&other.stderr).contains("has no transform"),
        "{other:?}"
    );
    produce(&rig, 10..20);
    rig.catch_up();
    rig.exact(80);
    let told = text(&rig.pipeline(&["history"]).stdout);
    assert!(
        told.contains("back by name") && told.contains("in force"),
        "{told}"
    );
}

#[test]
fn a_rollback_blocks_what_it_leaves_and_only_force_brings_it_back() {
    let (_broker, rig) = rig("");
    produce(&rig, 0..10);
    rig.catch_up();
    let nothing = rig.pipeline(&["rollback"]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(
        text(&nothing.stderr).contains("nothing to roll back to"),
        "{nothing:?}"
    );
    let running = rig.running();
    rig.swap_to("high");
    let back = rig.asked(&["rollback", "--reason", "wrong bound"]);
    assert_eq!(
        back["block"].as_array().unwrap().len(),
        1,
        "the config alone differs: {back}"
    );
    assert_eq!(rig.in_force(), "low");
    let set = rig.set("high");
    let blocked = rig.pipeline(&["swap", "--reload", "--set", &set]);
    assert_eq!(blocked.status.code(), Some(2));
    assert!(text(&blocked.stderr).contains("blocked"), "{blocked:?}");
    let again = rig.pipeline(&["rollback"]);
    assert!(
        text(&again.stderr).contains("nothing to roll back to"),
        "{again:?}"
    );
    rig.asked(&["swap", "--reload", "--force", "--set", &set]);
    assert_eq!(rig.in_force(), "high");
    produce(&rig, 10..20);
    rig.asked(&["rollback", "--to", "0"]);
    running.stop();
    rig.catch_up();
    rig.exact(80);
    assert_eq!(rig.in_force(), "low");
    // low, high, low (blocks), high (forced), low (blocks)
    let periods = rig.periods();
    let names: Vec<&str> = periods
        .iter()
        .map(|period| rig.name_of(&period.transforms))
        .collect();
    assert_eq!(names, ["low", "high", "low", "high", "low"]);
    let told = text(&rig.pipeline(&["history"]).stdout);
    assert!(
        told.contains("wrong bound") && told.contains("blocked"),
        "{told}"
    );
}

#[test]
fn columns_that_go_are_refused_without_a_word_from_the_user() {
    let (_broker, rig) = rig("");
    produce(&rig, 0..10);
    rig.catch_up();
    let more = ["--set", "transforms.flatten.columns=n,m"];
    let added = rig.asked(&[&["swap", "--reload"][..], &more].concat());
    assert_eq!(added["columns"]["effect"], "additive", "{added}");
    let less = rig.pipeline(&["swap", "--reload"]);
    assert_eq!(less.status.code(), Some(2));
    assert!(text(&less.stderr).contains("--allow-breaking"), "{less:?}");
    assert!(text(&less.stdout).contains("breaking"), "{less:?}");
    // Nor does a start of the config without the column.
    let start = rig.run(&[]).status().unwrap();
    assert_eq!(start.code(), Some(2), "{}", rig.said());
    assert!(rig.said().contains("--allow-breaking"), "{}", rig.said());
    rig.asked(&["swap", "--reload", "--allow-breaking"]);
    let running = rig.running();
    rig.asked(&[&["swap", "--reload"][..], &more].concat());
    rig.asked(&["swap", "--reload", "--allow-breaking"]);
    produce(&rig, 10..20);
    running.stop();
    rig.catch_up();
    rig.exact(80);
}

#[test]
fn edits_are_put_in_force_while_it_runs_and_bad_ones_are_not() {
    let (_broker, rig) = rig("watch = true");
    produce(&rig, 0..10);
    let running = rig.running();
    more_rows(&rig);
    let low = rig.path("low.toml");
    std::fs::write(&low, "[columns.n]\nrequired = \"perhaps\"\n").unwrap();
    until("a word about a bad edit", || {
        rig.said().contains("an edit was refused").then_some(())
    });
    assert_eq!(rig.periods().len(), 1);
    std::fs::write(
        &low,
        "[columns.n]\nrequired = true\nmax = 49\n# as before\n",
    )
    .unwrap();
    until("the edited rule file", || {
        (rig.periods().len() == 2).then_some(())
    });
    assert!(
        rig.periods()[1].reason.contains("low.toml"),
        "{:?}",
        rig.periods()
    );
    rig.declare("high", "watch = true");
    until("the edited config", || {
        (rig.in_force() == "high").then_some(())
    });
    produce(&rig, 10..20);
    running.stop();
    rig.catch_up();
    assert_eq!(rig.in_force(), "high");
    rig.exact(80);
}

/// Two processes with one pipeline: one takes the request, the other follows the log.
#[test]
fn another_process_follows_a_swap_that_it_did_not_write() {
    let (_broker, rig) = rig("");
    let load = Load::start(&rig, 20, Duration::from_millis(50));
    let (first, second) = (rig.running(), rig.running());
    more_rows(&rig);
    rig.swap_to("high");
    until("the other's new beginning", || {
        (rig.said().matches("pipeline started").count() >= 3).then_some(())
    });
    assert!(
        !rig.said().contains("waiting, will go on"),
        "{}",
        rig.said()
    );
    more_rows(&rig);
    let messages = load.end();
    first.stop();
    second.stop();
    rig.catch_up();
    assert_eq!(rig.in_force(), "high");
    rig.exact(messages);
}

#[test]
fn of_changes_asked_for_at_once_each_is_whole_or_refused() {
    let (_broker, rig) = rig("");
    let load = Load::start(&rig, 20, Duration::from_millis(50));
    let running = rig.running();
    rig.swap_to("high");
    let set = rig.set("high");
    for _ in 0..3 {
        let ends: Vec<Option<i32>> = std::thread::scope(|scope| {
            let racers = [
                scope.spawn(|| rig.pipeline(&["swap", "--reload", "--force"])),
                scope.spawn(|| rig.pipeline(&["rollback"])),
                scope.spawn(|| rig.pipeline(&["swap", "--reload", "--force", "--set", &set])),
            ];
            racers
                .into_iter()
                .map(|racer| racer.join().unwrap().status.code())
                .collect()
        });
        assert!(ends.contains(&Some(0)), "{ends:?}: {}", rig.said());
        assert!(
            ends.iter().all(|end| matches!(end, Some(0..=2))),
            "{ends:?}"
        );
    }
    let messages = load.end();
    running.stop();
    rig.catch_up();
    rig.exact(messages);
}

/// A rollback after another build blocks the build, not the config that both share.
#[test]
fn another_build_is_another_rule_and_its_rollback_bars_the_build() {
    let (_broker, rig) = rig("watch = true");
    produce(&rig, 0..10);
    let running = rig.running();
    more_rows(&rig);
    rig.rebuild("validate", 1);
    until("the new build", || (rig.periods().len() == 2).then_some(()));
    let (old, new) = (
        rig.periods()[0].transforms[1].clone(),
        rig.periods()[1].transforms[1].clone(),
    );
    assert_eq!(old.config, new.config);
    assert_ne!(old.component, new.component);
    produce(&rig, 10..20);
    more_rows(&rig);
    let back = rig.asked(&["rollback"]);
    assert_eq!(back["block"], serde_json::json!([new.component]));
    assert_eq!(rig.log().state().rules.transforms[1], old);
    // Named by its digest, it is found in the store, and is blocked.
    let named = format!("rules=validate@{}", new.component);
    let blocked = rig.pipeline(&["swap", &named]);
    assert!(text(&blocked.stderr).contains("blocked"), "{blocked:?}");
    rig.asked(&["swap", &named, "--force"]);
    assert_eq!(rig.log().state().rules.transforms[1], new);
    running.stop();
    produce(&rig, 20..30);
    rig.catch_up();
    rig.exact(120);
}

/// After its start a process follows the log: neither half an edit nor a new beginning changes rules.
#[test]
fn a_new_beginning_inside_a_process_follows_the_log() {
    for watch in ["", "watch = true"] {
        let (_broker, rig) = rig(watch);
        produce(&rig, 0..10);
        let running = rig.running();
        more_rows(&rig);
        rig.swap_to("high");
        if watch.is_empty() {
            std::fs::write(rig.path("low.toml"), "half an ed").unwrap();
        } else {
            rig.declare("low", "watch = true\n# an edit that changes no rule");
        }
        // Another process swaps, by the log alone.
        let mut log = rig.log();
        let first = rig.periods()[0].transforms.clone();
        let swap = Swap {
            replaces: log.state().generation(),
            transforms: first,
            actor: "another".into(),
            reason: String::new(),
            block: Vec::new(),
            force: false,
            declared: Some(log.state().declared.clone()),
        };
        log.commit(Draft::Swap(swap)).unwrap();
        until("a new beginning", || {
            (rig.said().matches("pipeline started").count() == 2).then_some(())
        });
        produce(&rig, 10..20);
        more_rows(&rig);
        running.stop();
        assert_eq!(rig.periods().len(), 3);
        std::fs::write(rig.path("low.toml"), LOW).unwrap();
        rig.catch_up();
        rig.exact(80);
    }
}

#[test]
fn a_store_that_lost_the_rules_in_force_is_named_with_the_way_out() {
    let (_broker, rig) = rig("");
    produce(&rig, 0..10);
    rig.catch_up();
    rig.declare("high", "");
    rig.catch_up();
    rig.asked(&["rollback"]);
    let digest = rig.log().state().rules.transforms[1].config.clone();
    std::fs::remove_dir_all(rig.path("store")).unwrap();
    let status = rig.run(&["--available-now"]).status().unwrap();
    assert_eq!(status.code(), Some(1), "{}", rig.said());
    assert!(rig.said().contains(&digest), "{}", rig.said());
    assert!(rig.said().contains("--reload"), "{}", rig.said());
    rig.asked(&["swap", "--reload", "--force"]);
    rig.catch_up();
    assert_eq!(rig.in_force(), "high");
}
