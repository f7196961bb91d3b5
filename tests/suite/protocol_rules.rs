//! Each validity rule of docs/protocol.md §3: an entry that breaks only this rule is refused by this rule's name.

use std::collections::BTreeMap;

use weir::chain::{Records, Rows};
use weir::commit::{
    AddedFile, Delivery, Entry, FileRange, Input, Kind, Open, Plan, PlanRange, Reader, Role, Rules,
    Span, State, Swap, Violation, decode, encode,
};

use crate::sim_world::{rule, split};

pub fn entry(state: &State, kind: Kind) -> Entry {
    Entry {
        version: state.version + 1,
        parent: state.digest.clone(),
        base: state.version,
        ..blank(kind)
    }
}

fn blank(kind: Kind) -> Entry {
    let text = r#"{"format":2,"version":0,"parent":"","kind":"gc","attempt":"a",
        "writer":{"id":"w","started":0},"base":0,"time":0}"#;
    Entry {
        kind,
        ..serde_json::from_str(text).unwrap()
    }
}

/// Chains 0 and 1 open at 10, rules of generation 0.
pub fn state() -> State {
    let mut init = blank(Kind::Init);
    init.init = Some(weir::commit::Init {
        pipeline: "p".into(),
        zone: "z".into(),
        weir: "0.1.0".into(),
        transforms: rule(0),
        declared: None,
    });
    let mut state = State::begin(&init, "d0".into()).unwrap();
    let mut open = entry(&state, Kind::Open);
    open.open = [0, 1].map(|n| opening(n, 10)).into();
    then(&mut state, |_| open.clone());
    state
}

fn opening(n: usize, at: i64) -> Open {
    Open {
        split: split(n),
        topic: "t".into(),
        partition: 0,
        offset: at,
        start: "earliest".into(),
    }
}

#[track_caller]
pub fn then(state: &mut State, make: impl FnOnce(&State) -> Entry) {
    let entry = make(state);
    let digest = format!("d{}", entry.version);
    state.step(&entry, digest).unwrap();
}

/// Reads `[from, to)`: one row each, no letters.
pub fn moves(n: usize, from: i64, to: i64) -> Span {
    let count = u64::try_from(to - from).unwrap();
    Span {
        split: split(n),
        epoch: 0,
        from,
        to,
        lost: 0,
        records: Records {
            read: count,
            with_rows: count,
            ..Records::default()
        },
        rows: Rows {
            made: count,
            written: count,
            ..Rows::default()
        },
        dead_letters: 0,
    }
}

pub fn file(id: &str, role: Role, n: usize, from: i64, to: i64) -> AddedFile {
    let rows = u64::try_from(to - from).unwrap();
    AddedFile {
        id: id.into(),
        path: format!("books/{id}.parquet"),
        role,
        bytes: 1,
        rows,
        digest: String::new(),
        ranges: vec![FileRange {
            split: split(n),
            from,
            to,
            rows,
        }],
        partition_values: BTreeMap::new(),
        schema: String::new(),
        row_digest: String::new(),
        keys: None,
        upload: None,
    }
}

pub fn data(state: &State, id: &str, from: i64, to: i64) -> Entry {
    Entry {
        rules: Some(state.rules.clone()),
        spans: vec![moves(0, from, to)],
        add: vec![file(id, Role::Rows, 0, from, to)],
        ..entry(state, Kind::Data)
    }
}

#[track_caller]
pub fn refused(state: &State, entry: &Entry, rule: &str) -> Violation {
    let before = state.clone();
    let mut after = state.clone();
    let violation = after.step(entry, "x".into()).unwrap_err();
    assert_eq!(violation.rule, rule, "{violation}");
    assert_eq!(after, before, "a refused entry changes nothing");
    violation
}

#[track_caller]
fn breaks(rule: &str, moved: bool, change: impl FnOnce(&mut Entry)) {
    let state = state();
    let mut entry = data(&state, "A", 10, 15);
    state.check(&entry).unwrap();
    change(&mut entry);
    assert_eq!(refused(&state, &entry, rule).moved, moved);
}

#[test]
fn v1_parent_and_version() {
    breaks("V1", false, |e| e.parent = "d0".into());
    breaks("V1", false, |e| e.version += 1);
}

#[test]
fn v2_spans_begin_where_the_split_ends() {
    breaks("V2", true, |e| e.spans[0].epoch = 1);
    breaks("V2", true, |e| e.spans = vec![moves(0, 9, 15)]);
    breaks("V2", true, |e| e.spans = vec![moves(0, 11, 15)]);
    breaks("V2", false, |e| e.spans[0].to = 10);
    breaks("V2", false, |e| e.spans = vec![moves(2, 10, 15)]);
    breaks("§2", false, |e| e.spans.push(moves(0, 10, 15)));
}

#[test]
fn v2_rows_only_inside_a_span() {
    breaks("V2", false, |e| e.add[0].ranges[0].to = 16);
    breaks("V2", false, |e| e.add[0].ranges[0].from = 9);
    breaks("V2", false, |e| {
        e.add.push(file("B", Role::Rows, 1, 10, 15))
    });
    breaks("V7", false, |e| {
        e.add.push(AddedFile {
            ranges: Vec::new(),
            ..file("B", Role::Rows, 0, 10, 15)
        });
    });
}

#[test]
fn v3_rules_in_force() {
    breaks("V3", true, |e| e.rules.as_mut().unwrap().generation = 1);
    breaks("V3", true, |e| {
        e.rules.as_mut().unwrap().transforms = rule(1)
    });
    breaks("§2", false, |e| e.rules = None);
}

#[test]
fn v3_gens_not_digests_are_compared() {
    // A → B → A
    let mut state = state();
    let late = data(&state, "A", 10, 15);
    for (n, from) in [(1, 0), (0, 2)] {
        let mut swap = entry(&state, Kind::Swap);
        swap.swap = Some(swap_to(n, from));
        then(&mut state, |_| swap.clone());
    }
    let late = Entry {
        version: late.version + 2,
        parent: state.digest.clone(),
        ..late
    };
    assert_eq!(state.rules.transforms, rule(0));
    refused(&state, &late, "V3");
}

fn swap_to(n: u64, from: u64) -> Swap {
    Swap {
        replaces: from,
        transforms: rule(n),
        actor: "test".into(),
        reason: String::new(),
        block: Vec::new(),
        force: false,
        declared: None,
    }
}

#[test]
fn v4_files_are_new() {
    let mut state = state();
    then(&mut state, |s| data(s, "A", 10, 15));
    let again = data(&state, "A", 15, 20);
    assert!(refused(&state, &again, "V4").moved);
    let mut gc = entry(&state, Kind::Gc);
    gc.gc = vec!["B".into()];
    then(&mut state, |_| gc.clone());
    let collected = data(&state, "B", 15, 20);
    assert!(refused(&state, &collected, "V4").moved);
    breaks("V4", false, |e| {
        e.add[0].path = "books/other.parquet".into()
    });
    breaks("V4", false, |e| e.add[0].path = "../A.parquet".into());
    breaks("V4", false, |e| {
        let twice = e.add[0].clone();
        e.add.push(twice);
    });
}

#[test]
fn o2_an_upload_has_parts_and_names_for_them() {
    let upload = |parts: Vec<String>| {
        Some(weir::store::Upload {
            id: String::new(),
            parts,
        })
    };
    let names = |n: usize| (0..n).map(|i| format!("\"etag-{i}\"")).collect();
    for broken in [names(0), names(10_001), vec!["a".into(), String::new()]] {
        breaks("O2", false, |e| e.add[0].upload = upload(broken));
    }
    let state = state();
    let mut whole = data(&state, "A", 10, 15);
    for parts in [names(1), names(10_000)] {
        whole.add[0].upload = upload(parts);
        state.check(&whole).unwrap();
        let read = decode(&encode(&whole).unwrap(), "entry").unwrap();
        assert_eq!(read, whole, "part names come back as the store gave them");
    }
}

#[test]
fn v5_kinds_of_today_remove_nothing() {
    breaks("§2", false, |e| e.remove = vec!["Z".into()]);
}

#[test]
fn v6_live_files_are_not_collected() {
    let mut state = state();
    then(&mut state, |s| data(s, "A", 10, 15));
    let mut gc = entry(&state, Kind::Gc);
    gc.gc = vec!["A".into()];
    assert!(refused(&state, &gc, "V6").moved);
    gc.gc = vec!["B".into()];
    state.check(&gc).unwrap();
}

#[test]
fn v7_ledgers_close() {
    breaks("V7", false, |e| e.spans[0].records.filtered = 1);
    breaks("V7", false, |e| e.spans[0].records.refused_in_part = 6);
    breaks("V7", false, |e| e.spans[0].rows.made = 6);
    breaks("V7", false, |e| {
        e.spans[0].rows.written = 4;
        e.spans[0].rows.filtered = 1;
    });
    breaks("V7", false, |e| e.spans[0].dead_letters = 1);
    breaks("V7", false, |e| {
        e.spans[0].records.read = 6;
        e.spans[0].records.filtered = 1;
    });
    breaks("V7", false, |e| e.add[0].rows = 4);
    breaks("V7", false, |e| {
        e.add.push(file("L", Role::DeadLetters, 0, 10, 11))
    });
    breaks("V7", false, |e| e.spans[0].lost = 1);
}

/// An output that is no file, of rows `[from, to)` of split 0.
fn delivery(id: &str, role: Role, from: i64, to: i64) -> Delivery {
    let AddedFile { rows, ranges, .. } = file(id, role, 0, from, to);
    Delivery {
        id: id.into(),
        role,
        sink: "kafka".into(),
        target: "orders".into(),
        rows,
        ranges,
        token: None,
    }
}

#[test]
fn v7_rows_in_files_and_rows_delivered_are_the_rows_written() {
    let state = state();
    // All of them, or the rest of a file's.
    for (file_to, from) in [(None, 10), (Some(12), 12)] {
        let mut entry = data(&state, "A", 10, 15);
        entry.add = file_to
            .map(|to| file("A", Role::Rows, 0, 10, to))
            .into_iter()
            .collect();
        refused(&state, &entry, "V7");
        entry.deliver = vec![delivery("D", Role::Rows, from, 15)];
        state.check(&entry).unwrap();
    }
    let breaks = |rule: &str, change: fn(&mut Entry)| {
        let mut entry = data(&state, "A", 10, 15);
        entry.add.clear();
        entry.deliver = vec![delivery("D", Role::Rows, 10, 15)];
        change(&mut entry);
        refused(&state, &entry, rule)
    };
    breaks("V7", |e| e.deliver[0].rows = 4);
    breaks("V7", |e| {
        e.add.push(file("A", Role::Rows, 0, 10, 15)); // counted twice
    });
    breaks("V7", |e| {
        e.deliver.push(delivery("E", Role::DeadLetters, 10, 11));
    });
    breaks("V7", |e| e.spans[0].dead_letters = 1);
    breaks("V2", |e| e.deliver[0].ranges[0].to = 16);
    breaks("V2", |e| e.deliver[0].ranges[0].split = split(1));
    breaks("V4", |e| e.deliver.push(e.deliver[0].clone()));
    breaks("§2", |e| e.deliver[0].role = Role::Keys);
    breaks("§2", |e| e.deliver[0].target.clear());
    breaks("§2", |e| e.kind = Kind::Swap);
    let mut letters = data(&state, "A", 10, 15);
    letters.spans[0].dead_letters = 2;
    refused(&state, &letters, "V7");
    letters.deliver = vec![delivery("D", Role::DeadLetters, 10, 12)];
    state.check(&letters).unwrap();
}

#[test]
fn v4_a_delivery_is_made_once_and_stays_in_the_state() {
    let mut state = state();
    let entry = |state: &State, from: i64| Entry {
        add: Vec::new(),
        deliver: vec![delivery("D", Role::Rows, from, from + 5)],
        ..data(state, "A", from, from + 5)
    };
    then(&mut state, |state| entry(state, 10));
    assert_eq!(state.delivered["D"].version, state.version);
    assert_eq!((state.data_at, state.live.len()), (state.version, 0));
    assert!(refused(&state, &entry(&state, 15), "V4").moved);
    // Files and deliveries share their ids.
    let again = data(&state, "D", 15, 20);
    assert!(refused(&state, &again, "V4").moved);
    then(&mut state, |state| data(state, "A", 15, 20));
    let mut taken = entry(&state, 20);
    taken.deliver[0].id = "A".into();
    refused(&state, &taken, "V4");
}

#[test]
fn v6_what_was_delivered_is_never_collected() {
    let mut state = state();
    then(&mut state, |state| Entry {
        add: Vec::new(),
        deliver: vec![delivery("D", Role::Rows, 10, 15)],
        ..data(state, "A", 10, 15)
    });
    let mut gc = entry(&state, Kind::Gc);
    gc.gc = vec!["E".into()];
    state.check(&gc).unwrap();
    gc.gc.push("D".into());
    refused(&state, &gc, "V6");
}

#[test]
fn v7_a_gap_loses_what_it_skips() {
    let state = state();
    let mut gap = entry(&state, Kind::Gap);
    gap.spans = vec![Span {
        lost: 5,
        records: Records::default(),
        rows: Rows::default(),
        ..moves(0, 10, 15)
    }];
    state.check(&gap).unwrap();
    gap.spans[0].lost = 4;
    refused(&state, &gap, "V7");
    gap.spans[0].lost = 5;
    gap.spans[0].records.read = 1;
    gap.spans[0].records.filtered = 1;
    refused(&state, &gap, "V7");
}

#[test]
fn w1_a_split_opens_once() {
    let state = state();
    let mut open = entry(&state, Kind::Open);
    open.open = vec![opening(1, 10)];
    assert!(refused(&state, &open, "W1").moved);
    open.open = vec![opening(2, -1)];
    refused(&state, &open, "W1");
}

#[test]
fn v12_swaps_name_what_they_replace_and_blocked_digests_stay_out() {
    let mut state = state();
    let swapping = |state: &State, swap| Entry {
        swap: Some(swap),
        ..entry(state, Kind::Swap)
    };
    refused(&state, &swapping(&state, swap_to(1, 1)), "V12");
    let rollback = Swap {
        block: vec!["sha256:component0".into()],
        ..swap_to(1, 0)
    };
    then(&mut state, |s| swapping(s, rollback));
    refused(&state, &swapping(&state, swap_to(0, 2)), "V12");
    let forced = Swap {
        force: true,
        ..swap_to(0, 2)
    };
    then(&mut state, |s| swapping(s, forced));
    then(&mut state, |s| data(s, "A", 10, 15));
}

fn reader(version: u64, at: i64) -> Reader {
    Reader {
        name: "processed".into(),
        generation: 0,
        version,
        position: [(split(0), at)].into(),
    }
}

#[test]
fn v11_readers_never_go_back_and_never_lead() {
    let mut state = state();
    then(&mut state, |s| data(s, "A", 10, 15));
    let reading = |state: &State, reader| Entry {
        reader: Some(reader),
        ..entry(state, Kind::Reader)
    };
    refused(&state, &reading(&state, reader(2, 16)), "V11");
    refused(&state, &reading(&state, reader(2, 9)), "V11");
    refused(&state, &reading(&state, reader(3, 15)), "V11");
    then(&mut state, |s| reading(s, reader(2, 12)));
    assert!(refused(&state, &reading(&state, reader(2, 11)), "V11").moved);
    refused(&state, &reading(&state, reader(1, 12)), "V11");
    let set_back = Reader {
        generation: 1,
        ..reader(2, 15)
    };
    refused(&state, &reading(&state, set_back), "V11");
    let forgets = Reader {
        position: [(split(1), 10)].into(),
        ..reader(2, 15)
    };
    refused(&state, &reading(&state, forgets), "V11");
    then(&mut state, |s| reading(s, reader(3, 15)));
}

fn plan(rules: &Rules, from: i64, to: i64) -> Plan {
    let range = |from, to| PlanRange { epoch: 0, from, to };
    Plan {
        log: "p/raw".into(),
        version: 9,
        ranges: [(split(0), range(from, to)), (split(1), range(10, 10))].into(),
        rules: rules.clone(),
        now: 0,
        dedup_key: vec!["id".into()],
    }
}

fn planned(state: &State, plan: Plan) -> Entry {
    Entry {
        plan: Some(plan),
        ..entry(state, Kind::Plan)
    }
}

fn batch(state: &State, plan: u64, dedup: u64) -> Entry {
    Entry {
        kind: Kind::Batch,
        input: Some(Input {
            plan,
            dedup_version: dedup,
            reason: String::new(),
        }),
        ..data(state, "A", 10, 15)
    }
}

fn void(state: &State, plan: u64) -> Entry {
    Entry {
        input: Some(Input {
            plan,
            dedup_version: 0,
            reason: "counts".into(),
        }),
        ..entry(state, Kind::Void)
    }
}

#[test]
fn v10_a_batch_needs_its_open_plan() {
    let mut state = state();
    refused(&state, &batch(&state, 1, 1), "V10");
    refused(&state, &planned(&state, plan(&state.rules, 11, 15)), "V10");
    refused(&state, &planned(&state, plan(&state.rules, 10, 10)), "V10");
    then(&mut state, |s| planned(s, plan(&s.rules, 10, 15)));
    refused(&state, &planned(&state, plan(&state.rules, 10, 15)), "V10");
    refused(&state, &batch(&state, 1, 2), "V10");
    let mut short = batch(&state, 2, 2);
    short.spans = vec![moves(0, 10, 14)];
    short.add = vec![file("A", Role::Rows, 0, 10, 14)];
    refused(&state, &short, "V10");
    refused(&state, &batch(&state, 2, 9), "V10");
    then(&mut state, |s| batch(s, 2, 2));
    assert_eq!(state.data_at, 3);
    refused(&state, &void(&state, 2), "V10");
}

#[test]
fn v10_dedup_must_have_seen_the_last_rows() {
    let mut state = state();
    then(&mut state, |s| planned(s, plan(&s.rules, 10, 15)));
    then(&mut state, |s| batch(s, 2, 0)); // no rows before: D = 0 saw them all
    let mut next = plan(&state.rules, 15, 20);
    next.version = 10;
    then(&mut state, |s| planned(s, next));
    let mut second = batch(&state, 4, 2);
    second.spans = vec![moves(0, 15, 20)];
    second.add = vec![file("B", Role::Rows, 0, 15, 20)];
    assert!(refused(&state, &second, "V10").moved);
    second.input.as_mut().unwrap().dedup_version = 3;
    state.check(&second).unwrap();
}

#[test]
fn v10_a_rollback_closes_the_plan_and_a_plain_swap_does_not() {
    let mut state = state();
    let rules = state.rules.clone();
    then(&mut state, |s| planned(s, plan(&rules, 10, 15)));
    let mut swap = entry(&state, Kind::Swap);
    swap.swap = Some(swap_to(1, 0));
    then(&mut state, |_| swap.clone());
    // The plan is pinned to its own rules.
    let mut pinned = batch(&state, 2, 1);
    pinned.rules = Some(rules);
    state.check(&pinned).unwrap();
    refused(&state, &batch(&state, 2, 1), "V10");
    let mut rollback = entry(&state, Kind::Swap);
    rollback.swap = Some(Swap {
        block: vec!["sha256:component0".into()],
        ..swap_to(2, 3)
    });
    then(&mut state, |_| rollback.clone());
    assert_eq!(state.plan, None);
    pinned.version = state.version + 1;
    pinned.parent.clone_from(&state.digest);
    refused(&state, &pinned, "V10");
}

#[test]
fn voids_of_one_range_are_counted() {
    let mut state = state();
    let rules = state.rules.clone();
    for n in 1..=2 {
        then(&mut state, |s| planned(s, plan(&rules, 10, 15)));
        let open = state.version;
        refused(&state, &void(&state, open - 1), "V10");
        then(&mut state, |s| void(s, open));
        assert_eq!(state.voids_of(&plan(&rules, 10, 15)), n);
    }
    assert_eq!(state.voids_of(&plan(&rules, 10, 14)), 0);
}

#[test]
fn fields_belong_to_kinds() {
    let state = state();
    for kind in [
        Kind::Open,
        Kind::Gap,
        Kind::Swap,
        Kind::Reader,
        Kind::Plan,
        Kind::Void,
    ] {
        refused(&state, &entry(&state, kind), "§2");
        let mut dressed = data(&state, "A", 10, 15);
        dressed.kind = kind;
        refused(&state, &dressed, "§2");
    }
    refused(&state, &entry(&state, Kind::Init), "§2");
    breaks("§2", false, |e| e.base = 2);
    breaks("§2", false, |e| e.format = 1);
}
