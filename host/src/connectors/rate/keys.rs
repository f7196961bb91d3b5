//! The keys of `source.type = "rate"`, and the checks between them.

use std::sync::Arc;

use super::RateConfig;
use super::rows::{Format, Sample};
use crate::config::keys::Default::{Derived, Is, Unset};
use crate::config::keys::Group::Source;
use crate::config::keys::Importance::{High, Low, Medium};
use crate::config::keys::{KeyDef, Scope, keys};
use crate::config::shape::Shape;
use crate::config::shape::unit::{HOUR, MS, duration, int};
use crate::config::{self, Checker, Gives, Home, SourceType, TableName, Trigger};

const RATE: Scope = Scope::Source("rate");
/// Others have these too.
const MADE_OF: Scope = Scope::Sources(&["rate", "file"]);
const NAMED: Scope = Scope::Sources(&["rate", "file", "socket"]);

pub const SOURCE: SourceType = SourceType {
    name: "rate",
    gives: Gives::Records,
    keys: KEYS,
    prefixed: None,
    trigger: Trigger::Continuous,
    table: |_| Some(TableName::PerTopic),
    topics: Some("source.topic"),
    pattern: None,
    check,
    build,
};

const KEYS: &[KeyDef] = keys! {
    "source.rows.per.second": int(1, 10_000_000), Is("1"), High, Source, RATE,
        "Rows that are made in a second, of all partitions together.";
    "source.ramp.up": duration(0, HOUR), Is("0s"), Low, Source, RATE,
        "Time in which the pace rises evenly from nothing to `source.rows.per.second`, at each start.";
    "source.rows.total": int(1, 1_000_000_000_000), Unset, Medium, Source, RATE,
        "How many rows there are of all partitions together. Not set: no end, and `trigger` is `continuous`.";
    "source.partitions": int(1, 256), Is("1"), Low, Source, RATE,
        "Partitions among which the rows are dealt out in turn; `tasks.max` can share them. Another number gives other rows, so it needs a pipeline of another name.";
    "source.seed": int(0, 1_000_000_000_000), Is("0"), Low, Source, RATE,
        "Decides `random` of each row. Another seed gives other rows, so it needs a pipeline of another name.";
    "source.format": Shape::Choice(&["json", "jsonl", "text", "csv", "xml", "parquet"]), Is("json"), High, Source, MADE_OF,
        "What a record's value holds. `rate`: a JSON object with `timestamp`, `value` (the number of the row, from 0) and `random` (below 2^53), or with `text` the three separated by commas. `file`: `json` the elements of arrays and the values that follow each other, `jsonl` and `text` each line, `csv` each row, `xml` each element of `source.row.tag`, `parquet` each row as a JSON object. Another format gives other records, so it needs a pipeline of another name.";
    "source.sample": Shape::Choice(&["numbers", "books", "dirty-books"]), Is("numbers"), Medium, Source, RATE,
        "What the rows are: `numbers` as `source.format` says; `books`, the XML messages of `weir produce books`, one a row; `dirty-books`, some of which a rule must refuse, and some repeated. Another sample gives other rows, so it needs a pipeline of another name.";
    "source.timestamp.step": duration(MS, HOUR), Is("1ms"), Low, Source, RATE,
        "Time between the timestamps of a row and the next; that of row 0 is 2026-01-01T00:00:00Z. They do not follow the clock, so that a row that is read again is the same. Another step gives other rows, so it needs a pipeline of another name.";
    "source.topic": Shape::TableName, Derived("`rate`, `file` or `socket`, as `source.type`"), Low, Source, NAMED,
        "What stands as the topic's name in `_topic`, and for `${topic}` in `sink.table`.";
};

fn check(checker: &mut Checker<'_>) {
    let numbers = checker.is("source.sample", "numbers").unwrap_or(true);
    if !numbers && checker.typed("source.format") {
        let message = "`source.format` has no effect: books are XML".to_owned();
        checker.contradiction("source.format", message, "take the key out");
    }
    if let Some(format) = checker.text("source.format")
        && !["json", "text"].contains(&format.as_str())
    {
        let shown = checker.shown("source.format", &format);
        let message = format!("`source.format`: a rate makes `json` or `text`, found `{shown}`");
        checker.contradiction("source.format", message, "write json or text");
    }
    let endless = !checker.typed("source.rows.total");
    if endless
        && checker
            .trigger()
            .is_some_and(|trigger| trigger != Trigger::Continuous)
    {
        let message = "`trigger`: a rate without `source.rows.total` has no end".to_owned();
        let hint = "set source.rows.total, or take the key out";
        checker.contradiction("trigger", message, hint);
    }
}

/// `None` only if a problem was reported.
fn build(checker: &Checker<'_>, _: &Home) -> Option<config::Source> {
    Some(config::Source::Records(Arc::new(RateConfig {
        topics: checker.topics()?,
        per_second: checker.number("source.rows.per.second")?,
        ramp_up: checker.duration("source.ramp.up")?,
        partitions: i32::try_from(checker.number("source.partitions")?).ok()?,
        seed: checker.number("source.seed")?,
        sample: match checker.text("source.sample")?.as_str() {
            "books" => Sample::Books,
            "dirty-books" => Sample::DirtyBooks,
            _ => Sample::Numbers,
        },
        format: match checker.text("source.format")?.as_str() {
            "text" => Format::Text,
            _ => Format::Json,
        },
        step: checker.duration("source.timestamp.step")?,
        rows: checker.number("source.rows.total"),
    })))
}
