//! A log whose oldest entries were forgotten, as people see it: `weir log`, `checkpoint show`, `history`, `doctor`.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use weir::clock::{Clock, ManualClock};
use weir::commit::{Draft, Limits, Log, LogName, Open, Span, Swap, Writer};
use weir::record::SplitId;
use weir::store;

use crate::sim_world::rule;

/// Its commits are gaps of one offset: no files are needed for what is shown here.
fn log_of(url: &str, commits: i64) -> Log {
    let clock = ManualClock::at(1_700_000_000_000_000);
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let writer = Writer::this_process(&*shared);
    let name = LogName::new("orders", "lake");
    let store = store::open_url(url).unwrap();
    let log = Log::open_or_init(store, name, shared, writer, rule(0)).unwrap();
    let mut log = log.with_limits(Limits {
        retention: Duration::from_secs(600),
        checkpoint_every: 5,
        horizon_step: 10,
        ..Limits::default()
    });
    let split = SplitId::kafka("c", "orders", 0);
    let open = Open {
        split: split.clone(),
        topic: "orders".into(),
        partition: 0,
        offset: 0,
        start: "earliest".into(),
    };
    log.commit(Draft::Open(vec![open])).unwrap();
    for at in 0..commits {
        clock.advance(Duration::from_secs(60));
        let lost = Span {
            split: split.clone(),
            epoch: 0,
            from: at,
            to: at + 1,
            lost: 1,
            records: Default::default(),
            rows: Default::default(),
            dead_letters: 0,
        };
        log.commit(Draft::Gap(vec![lost])).unwrap();
        if at == 30 {
            let swap = Swap {
                replaces: 0,
                transforms: rule(1),
                actor: "ana".into(),
                reason: "a Friday".into(),
                block: Vec::new(),
                force: false,
                declared: None,
            };
            log.commit(Draft::Swap(swap)).unwrap();
        }
        if let Some(version) = log.forgettable(None) {
            log.commit(Draft::Horizon(version)).unwrap();
        }
        log.checkpoint_if_due();
    }
    log
}

fn weir(args: &[&str]) -> (i32, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(args)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    (out.status.code().unwrap(), said + &told)
}

#[test]
fn people_see_that_old_entries_were_forgotten_and_nothing_else_was() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file:{}", dir.path().join("lake").display());
    let log = log_of(&url, 100);
    let state = log.state();
    assert!(state.horizon > 60, "{}", state.horizon);
    let oldest = weir::commit::oldest_entry(log.store().as_ref(), log.name()).unwrap();
    assert!(oldest > 50, "{oldest}");

    let (code, all) = weir(&["log", &url, "-n", "0"]);
    assert_eq!(code, 0, "{all}");
    let forgotten = format!("entries before {oldest} were forgotten (commit.log.retention)");
    assert!(all.contains(&forgotten), "{all}");
    assert!(all.contains("position orders/0 at 100 (from 0)"), "{all}");
    let shown = all.lines().filter(|line| line.contains(" gap ")).count() as u64;
    assert!(shown > 10 && shown < 60, "{all}");
    let (_, few) = weir(&["log", &url, "-n", "3"]);
    assert!(!few.contains("forgotten"), "{few}");

    let (code, verified) = weir(&["log", &url, "--verify"]);
    assert_eq!(code, 0, "{verified}");

    // The period in force began with an entry that is gone.
    let (code, history) = weir(&["pipeline", "history", &url]);
    assert_eq!(code, 0, "{history}");
    assert!(
        history.contains("ana") && history.contains("a Friday"),
        "{history}"
    );
    // One more stays, for a rollback.
    assert_eq!(state.periods.len(), 2);

    // Spark's batch numbers go on from the first commit.
    let (code, shown) = weir(&["checkpoint", "show", &url, "--spark", "-n", "2"]);
    assert_eq!(code, 0, "{shown}");
    assert!(
        shown.contains("offsets/99") && shown.contains("commits/98"),
        "{shown}"
    );
    assert!(shown.contains("{\"orders\":{\"0\":100}}"), "{shown}");
    let (code, every) = weir(&["checkpoint", "show", &url, "--spark", "-n", "0"]);
    assert_eq!(code, 0, "{every}");
    assert!(
        !every.contains("offsets/0\n") && every.contains("offsets/90"),
        "{every}"
    );
}

#[test]
fn an_entry_that_was_taken_away_by_hand_is_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file:{}", dir.path().join("lake").display());
    let log = log_of(&url, 43);
    let gone = log.name().entry(log.version() - 1);
    std::fs::remove_file(dir.path().join("lake").join(&gone)).unwrap();
    for args in [
        &["log", &url, "-n", "0"][..],
        &["checkpoint", "show", &url][..],
    ] {
        let (code, said) = weir(args);
        assert_eq!(code, 1, "{said}");
        assert!(
            said.contains("log_corrupt") && said.contains("missing"),
            "{said}"
        );
    }
    let (code, said) = weir(&["log", &url, "--verify"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&gone), "{said}");
}
