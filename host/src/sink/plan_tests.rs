//! Plans: decided once, followed by every process, deleted late.

use super::*;
use crate::clock::ManualClock;
use crate::store;

const CUT: Cut = Cut {
    rows: 3,
    bytes: 1_000,
};

fn plans(name: &str) -> Plans {
    let store = store::open_url(&format!("memory:{name}")).unwrap();
    let clock = ManualClock::at(1_700_000_000_000_000);
    let log = LogName::new("p", "z");
    Plans::new(store, log, clock)
}

fn lane(rules: &str) -> Lane {
    Lane {
        split: SplitId::kafka("c", "t", 0),
        epoch: 0,
        rules: rules.into(),
    }
}

fn rows(offsets: Range<i64>) -> Vec<Row> {
    let at = |offset| Coordinate { offset, row: 0 };
    offsets
        .map(|offset| Row {
            at: at(offset),
            bytes: 10,
        })
        .collect()
}

/// The batches that a process makes of the rows it reads.
fn read(plans: &Plans, lane: &Lane, rows: &[Row], id: &str) -> Result<Vec<(String, Range<usize>)>> {
    let mut following = Following::default();
    for row in rows {
        following.row(plans, lane, row.at)?;
    }
    let mut ids = (0..).map(|n| format!("{id}{n}"));
    let planned = plans.decide(lane, rows, &following.take(), CUT, || ids.next().unwrap())?;
    let told = planned.into_iter();
    Ok(told
        .map(|p| (format!("{}-{}", p.plan, p.number), p.rows))
        .collect())
}

#[test]
fn after_a_crash_the_same_rows_go_in_the_same_batches_whatever_came_since() {
    let plans = plans("plan-crash");
    let lane = lane("r");
    let first = read(&plans, &lane, &rows(0..5), "a").unwrap();
    assert_eq!(first, [("a0-0".into(), 0..3), ("a0-1".into(), 3..5)]);
    // More came, and another process reads it all.
    let again = read(&plans, &lane, &rows(0..10), "b").unwrap();
    assert_eq!(again[..2], first[..]);
    assert_eq!(again[2..], [("b0-0".into(), 5..8), ("b0-1".into(), 8..10)]);
    // A third process follows both plans, even with other limits.
    assert_eq!(read(&plans, &lane, &rows(0..10), "c").unwrap(), again);
    // Other rules make other rows: other plans.
    let swapped = read(&plans, &self::lane("s"), &rows(0..5), "d").unwrap();
    assert_eq!(swapped[0].0, "d0-0");
}

#[test]
fn of_two_that_begin_at_one_row_one_decides() {
    let plans = plans("plan-two");
    let lane = lane("r");
    // Both looked, and there was nothing.
    let mine = plans
        .decide(&lane, &rows(0..4), &[], CUT, || "a".into())
        .unwrap();
    let theirs = plans.decide(&lane, &rows(0..6), &[], CUT, {
        let mut ids = ["b", "c"].into_iter();
        move || ids.next().unwrap().into()
    });
    let theirs = theirs.unwrap();
    assert_eq!(theirs[..2], mine[..], "the second follows the first");
    assert_eq!(
        (theirs[2].plan.as_str(), theirs[2].rows.clone()),
        ("c", 4..6)
    );
    // A process with fewer rows than were planned reads on before it sends.
    let error = plans
        .decide(&lane, &rows(0..2), &[], CUT, || "d".into())
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
}

#[test]
fn a_seal_inside_a_plan_is_seen_and_rows_that_are_gone_end_it() {
    let plans = plans("plan-inside");
    let lane = lane("r");
    read(&plans, &lane, &rows(0..5), "a").unwrap();
    let mut following = Following::default();
    let at = |offset| Coordinate { offset, row: 0 };
    for offset in 0..4 {
        following.row(&plans, &lane, at(offset)).unwrap();
        assert!(following.inside());
    }
    following.row(&plans, &lane, at(9)).unwrap();
    assert!(!following.inside(), "row 4 is gone from the source");
}

#[test]
fn large_rows_make_small_batches_and_one_always_fits() {
    let of = |bytes: &[usize]| {
        let rows = bytes.iter().enumerate().map(|(n, bytes)| Row {
            at: Coordinate {
                offset: n as i64,
                row: 0,
            },
            bytes: *bytes,
        });
        let cuts = cuts(&rows.collect::<Vec<_>>(), CUT);
        cuts.into_iter().map(|c| c.offset).collect::<Vec<_>>()
    };
    assert_eq!(of(&[600, 600, 300, 200, 5_000, 1]), [0, 2, 3, 4, 5]);
    assert_eq!(of(&[1; 7]), [2, 5, 6]);
    assert!(of(&[]).is_empty());
}

#[test]
fn plans_go_when_an_entry_has_passed_them() {
    let plans = plans("plan-forget");
    let lane = lane("r");
    let there = |plans: &Plans| plans.store.list(&plans.dir(&lane.split)).unwrap().len();
    for from in [0, 10, 20] {
        read(&plans, &lane, &rows(from..from + 5), "a").unwrap();
    }
    let span = |epoch, from, to| Span {
        split: lane.split.clone(),
        epoch,
        from,
        to,
        lost: 0,
        records: Default::default(),
        rows: Default::default(),
        dead_letters: 0,
    };
    plans.forget(&[span(0, 0, 10)]);
    assert_eq!(there(&plans), 2, "what lies above stays");
    read(&plans, &lane, &rows(30..32), "b").unwrap();
    plans.forget(&[span(0, 10, 25)]);
    assert_eq!(there(&plans), 1);
    // Another process finds what was left; a plan of an older epoch is passed too.
    let other = Plans {
        there: Arc::default(),
        ..plans.clone()
    };
    other.forget(&[span(1, 0, 5)]);
    assert_eq!(there(&plans), 0);
}
