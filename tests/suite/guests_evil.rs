//! More faults of running plugins: each gives dead letters within limits, and the next batch works.

use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use weir::chain::Transform;
use weir::error::Kind;
use weir::plugin::{Limits, MAX_ISOLATIONS, SetupError};

use crate::guests::{
    BOOKS, Flat, ROWS, books, cut, evil, evil_dir, flat, limits, make, only_the_bad_one,
    record_table, shipped_dir, table,
};

#[test]
fn texts_that_lie_about_their_place_set_one_record_aside() {
    only_the_bad_one("two-gib", "plugin_output_invalid", "");
    only_the_bad_one("overlap", "plugin_output_invalid", "");
    only_the_bad_one("upset-utf8", "plugin_output_invalid", "utf-8");
}

#[test]
fn memory_taken_for_ever_is_taken_back() {
    only_the_bad_one("grow-for-ever", "fuel_exhausted", "fuel");
    // All the memory there is, politely: the instance is replaced.
    let mut transform = evil("grow");
    for _ in 0..3 {
        let output = transform.apply(&record_table()).expect("grow");
        assert_eq!((output.table.rows, output.rejects.len()), (ROWS, 0));
    }
}

#[test]
fn a_fault_in_every_thousandth_row_costs_those_rows_alone() {
    let records = |count: usize| -> Vec<Vec<u8>> {
        let record = |n| match n % 1000 {
            500 => format!("SPECIAL {n}"),
            _ => format!("plain {n}"),
        };
        (0..count).map(|n| record(n).into_bytes()).collect()
    };
    let apply = |transform: &mut Box<dyn Transform>, count: usize| {
        let records = records(count);
        transform.apply(&table(
            &records.iter().map(Vec::as_slice).collect::<Vec<_>>(),
        ))
    };
    let mut transform = evil("panic");
    let output = apply(&mut transform, 10_000).expect("ten of ten thousand");
    let refused: Vec<u32> = output.rejects.iter().map(|r| r.row).collect();
    assert_eq!(
        refused,
        (0..10).map(|n| n * 1000 + 500).collect::<Vec<u32>>()
    );
    assert_eq!(output.table.rows, 9_990);
    // A topic is not emptied into the dead letters.
    let error = apply(&mut transform, (MAX_ISOLATIONS + 1) * 1000).expect_err("too many");
    assert_eq!(error.kind(), Kind::PluginBroken);
    assert_eq!(
        apply(&mut transform, 400)
            .expect("the next batch")
            .table
            .rows,
        400
    );
}

#[test]
fn nan_is_one_number_on_every_machine() {
    let output = evil("nan").apply(&record_table()).expect("nan");
    let column = output.table.columns[2].values.as_primitive::<Float64Type>();
    for (row, value) in column.values().iter().enumerate() {
        assert_eq!(value.to_bits(), 0x7ff8_0000_0000_0000, "row {row}");
    }
}

#[test]
fn init_is_held_to_memory_and_size() {
    for (mode, says) in [
        ("init-memory", "init failed: plugin_out_of_memory"),
        ("init-exit", "called exit"),
        ("init-overlap", "init failed: plugin_output_invalid"),
    ] {
        match make(
            evil_dir(),
            "guest-evil",
            &[("mode", mode)],
            Limits::default(),
        ) {
            Err(SetupError::Failed(error)) => {
                assert_eq!(error.kind(), Kind::PluginRefused, "{mode}");
                assert!(error.to_string().contains(says), "{mode}: {error}");
            }
            other => panic!("{mode}: expected an error, found {other:?}"),
        }
    }
}

/// Whatever time a machine takes, fuel says the same of a record.
#[test]
fn time_never_decides_about_a_record() {
    let outcome = |mode: &str, deadline: u64, fuel: u64| {
        let limits = Limits {
            deadline: Duration::from_millis(deadline),
            fuel,
            ..limits()
        };
        let mut transform = make(evil_dir(), "guest-evil", &[("mode", mode)], limits).expect(mode);
        let output = transform.apply(&record_table()).expect(mode);
        output.rejects.first().map(|r| r.code.clone())
    };
    let exhausted = Some("fuel_exhausted".to_owned());
    for deadline in [10, 20, 100] {
        assert_eq!(
            outcome("spin", deadline, 1_000_000_000),
            exhausted,
            "{deadline} ms"
        );
        // A hundred million turns of a short loop, always longer than the shortest of these deadlines.
        assert_eq!(
            outcome("slow", deadline, 10_000_000_000),
            None,
            "{deadline} ms"
        );
    }
    // 1.3 GB copied: longer than 10 ms, and no more than 40 million instructions of fuel; 10 ms allow 50 million at least.
    for deadline in [10, 1000] {
        assert_eq!(outcome("copy", deadline, 0), None, "{deadline} ms");
    }
}

#[test]
fn rows_of_shipped_plugins_do_not_depend_on_how_batches_fall() {
    let rules = tempfile::NamedTempFile::new().expect("file");
    let text =
        "unknown = \"drop\"\n[columns._topic]\ncase = \"upper\"\n[columns._offset]\nmax = 300";
    std::fs::write(rules.path(), text).expect("rules");
    let path = rules.path().to_str().expect("a name");
    let config = [("rules", path)];
    let records = books(200);
    let whole = table(&records.iter().map(Vec::as_slice).collect::<Vec<_>>());
    for (plugin, config) in [("xml-flatten", &BOOKS[..]), ("validate", &config[..])] {
        let mut transform = make(shipped_dir(), plugin, config, Limits::default()).expect(plugin);
        let mut wanted = Flat::default();
        flat(&transform.apply(&whole).expect("whole"), 0, &mut wanted);
        assert!(!wanted.0.is_empty() && !wanted.1.is_empty(), "{plugin}");
        for size in [1, 7, 199] {
            let mut found = Flat::default();
            for from in (0..whole.rows).step_by(size) {
                let rows = size.min(whole.rows - from);
                let output = transform.apply(&cut(&whole, from, rows)).expect("part");
                flat(&output, from as u32, &mut found);
            }
            assert_eq!(found, wanted, "{plugin} in parts of {size}");
        }
    }
}
