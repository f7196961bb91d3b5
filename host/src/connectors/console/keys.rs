//! The keys of `sink.type = "console"`, and what they forbid together.

use std::sync::Arc;

use super::{ConsoleConfig, Form};
use crate::config::keys::Default::Is;
use crate::config::keys::Group::Sink;
use crate::config::keys::Importance::{High, Low, Medium};
use crate::config::keys::{KeyDef, Scope, keys};
use crate::config::shape::Shape;
use crate::config::shape::unit::{DAY, MS, duration, int};
use crate::config::{BuiltSink, Checker, Gives, SinkType, store_keys};
use crate::connectors::zone;

const CONSOLE: Scope = Scope::Sink("console");

pub const SINK: SinkType = SinkType {
    name: "console",
    keys: KEYS,
    prefixed: None,
    leaves: &[
        "sink.table",
        "sink.keep.value",
        "sink.retention",
        "sink.rotate.bytes",
        "sink.rotate.age",
        "sink.rotate.rows",
    ],
    check,
    build,
};

const KEYS: &[KeyDef] = keys! {
    "sink.console.format": Shape::Choice(&["table", "json"]), Is("table"), Medium, Sink, CONSOLE,
        "How rows are printed: a table for each commit, or a line of JSON for each row.";
    "sink.console.rows": int(0, 100_000), Is("20"), High, Sink, CONSOLE,
        "Most rows of a commit that are printed; the others are counted. 0: all.";
    "sink.console.truncate": int(0, 10_000), Is("20"), Medium, Sink, CONSOLE,
        "Characters of a value that a table shows. 0: all.";
    "sink.console.commit.age": duration(100 * MS, DAY), Is("1s"), Low, Sink, CONSOLE,
        "Print and commit when the oldest record has waited so long.";
};

fn check(checker: &mut Checker<'_>) {
    store_keys::check(checker, "sink.url");
    if checker.source.is_some_and(|s| s.gives == Gives::Rows) {
        let message = "`sink.type`: rows of a zone are written to a zone".to_owned();
        let hint = "write sink.type = \"zone\"; `weir tap` shows the rows of the pipeline that fills the zone";
        checker.contradiction("sink.type", message, hint);
    }
    let json = checker.is("sink.console.format", "json").unwrap_or(false);
    if json && checker.typed("sink.console.truncate") {
        let message =
            "`sink.console.truncate` has no effect: a line of JSON has whole values".to_owned();
        checker.contradiction("sink.console.truncate", message, "take the key out");
    }
}

/// `None` only where a problem was told.
fn build(checker: &Checker<'_>) -> Option<BuiltSink> {
    let home = zone::home(checker)?;
    let whole = |n: usize| if n == 0 { usize::MAX } else { n };
    let config = ConsoleConfig {
        form: match checker.text("sink.console.format")?.as_str() {
            "json" => Form::Json,
            _ => Form::Table,
        },
        rows: whole(checker.size("sink.console.rows")?),
        truncate: whole(checker.size("sink.console.truncate")?),
        commit_age: checker.duration("sink.console.commit.age")?,
    };
    Some((home, Arc::new(config)))
}
