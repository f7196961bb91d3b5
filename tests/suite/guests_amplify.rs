//! A plugin that keeps every single limit must not exceed them by repetition: pieces, dead letters, host calls.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use weir::chain::{Column, Output, Table, Transform};
use weir::error::{Error, Kind};
use weir::plugin::{Keys, Limits, Places, Plugins, SetupError, Stage};
use weir::record::{BatchBuilder, Covers, OffsetRange, SplitId, TopicPartition, input_schema};

const BAD: usize = 5;

fn evil(mode: &str) -> Result<Box<dyn Transform>, SetupError> {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/plugins-test");
    let dir =
        std::env::var_os("WEIR_TEST_GUESTS").map_or_else(|| PathBuf::from(built), PathBuf::from);
    let plugins = Plugins::open(Places {
        store: dir.join("no-store"),
        path: dir,
        cache: concat!(env!("CARGO_TARGET_TMPDIR"), "/native").into(),
    })?;
    let config = BTreeMap::from([("mode".to_owned(), mode.to_owned())]);
    let component = plugins.find("guest-evil", &|_, _| true)?;
    let keys = Keys {
        config: &config,
        resolve: &|typed| Ok(typed.to_owned()),
        read_file: &|path| std::fs::read(path),
    };
    let config = component.canonical(&keys).map_err(SetupError::Problems)?;
    let stage = Stage {
        transform: "t",
        input: input_schema(),
        limits: Limits {
            deadline: Duration::from_millis(200),
            fuel: 1_000_000_000,
            ..Limits::default()
        },
        resolve: &|typed| Ok(typed.to_owned()),
    };
    component.transform(stage, config)
}

/// Ten records, of which one is special; each of `bytes`.
fn table(bytes: usize) -> Table {
    let mut builder = BatchBuilder::new();
    for n in 0..10 {
        let mut value = if n == BAD { "SPECIAL " } else { "plain " }.to_owned();
        value.push_str(&"x".repeat(bytes));
        let none = std::iter::empty();
        builder.push(n as i64, None, None, Some(value.as_bytes()), none);
    }
    let batch = builder.finish(Covers {
        split: SplitId::kafka("c", "t", 0),
        epoch: 0,
        tp: TopicPartition {
            topic: "t".into(),
            partition: 0,
        },
        range: OffsetRange { from: 0, to: 10 },
    });
    let columns = batch.columns().into_iter();
    Table {
        schema: input_schema(),
        rows: batch.len(),
        columns: columns
            .map(|(values, constant)| Column { values, constant })
            .collect(),
    }
}

fn run(mode: &str, bytes: usize) -> Result<Output, Error> {
    evil(mode).expect(mode).apply(&table(bytes))
}

/// Nine records go on, one is set aside as a defect of the plugin.
fn one_is_set_aside(mode: &str, bytes: usize, code: &str, says: &str) {
    let output = run(mode, bytes).expect(mode);
    let told: Vec<_> = output
        .rejects
        .iter()
        .take(3)
        .map(|r| (r.row, r.part, r.code.as_str(), r.message.as_str()))
        .collect();
    let [(row, None, found, message)] = told[..] else {
        panic!("{mode}: {} rejects: {told:?}", output.rejects.len())
    };
    assert_eq!((row as usize, found), (BAD, code), "{mode}: {message}");
    assert!(message.contains(says), "{mode}: {message}");
    assert_eq!(output.table.rows, 9, "{mode}");
}

#[test]
fn a_carried_column_counts_as_often_as_it_is_repeated() {
    one_is_set_aside(
        "explode-carry",
        100 << 10,
        "plugin_output_invalid",
        "became 2000 rows",
    );
    let output = run("explode-carry", 100).expect("small ones may");
    assert_eq!((output.table.rows, output.rejects.len()), (2000, 0));
}

#[test]
fn refused_pieces_count_as_rows() {
    one_is_set_aside("explode-refused", 1, "plugin_output_invalid", "pieces");
}

#[test]
fn a_row_is_refused_whole_or_in_pieces() {
    for mode in ["reject-both", "explode-both"] {
        one_is_set_aside(mode, 1, "plugin_output_invalid", "whole and in pieces");
    }
}

#[test]
fn a_counter_stays_a_number_that_adds_up() {
    one_is_set_aside("counter-huge", 1, "plugin_output_invalid", "counter");
}

#[test]
fn talking_to_the_host_is_work_too() {
    one_is_set_aside("talk", 1, "plugin_trapped", "log");
}

#[test]
fn a_batch_as_a_whole_stays_bounded() {
    let error = run("always-explode-batch", 30 << 10).expect_err("45 MB a record, 450 MB a batch");
    assert_eq!(error.kind(), Kind::PluginBroken);
    assert!(error.to_string().contains("digest=sha256:"), "{error}");
}

#[test]
fn names_of_counters_are_short() {
    let Err(SetupError::Failed(error)) = evil("plan-counter-name") else {
        panic!("taken")
    };
    assert!(error.to_string().contains("counter"), "{error}");
}
