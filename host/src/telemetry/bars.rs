//! One bar per pipeline on a terminal; its length is the number of records that waited at the start.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::events::{CommitReport, Reading, Started};
use super::progress::due;
use super::screen::on_stderr;
use super::words::count;
use crate::lock::lock;
use crate::logging::drawing;
use crate::text::printable;

/// Two lines for each pipeline, the second folded into the width: no line wraps at 80 columns.
#[derive(Debug, Default)]
pub(super) struct Bars {
    all: Mutex<BTreeMap<String, Bar>>,
}

#[derive(Debug)]
struct Bar {
    bar: ProgressBar,
    version: u64,
    rows: u64,
    letters: u64,
    /// Committed records since the start.
    read: u64,
    /// What it waits for, or when it looks again; until the next commit.
    said: Option<String>,
    /// Records and the time of their commit.
    open: Option<String>,
    lag: Option<u64>,
}

const SPINNER_TICK: Duration = Duration::from_millis(200);

impl Bar {
    /// Takes it from the screen: both of its lines.
    fn away(&self) {
        self.bar.disable_steady_tick();
        self.bar.finish_and_clear();
        drawing().remove(&self.bar);
    }

    /// Records since the start, committed or not.
    fn stands_at(&self, read: u64) {
        self.bar.set_position(read);
        if let (Some(lag), Some(_)) = (self.lag, self.bar.length()) {
            self.bar.set_length(read + lag);
        }
    }

    /// `commit 7  rows 3,602  dead 94  lag 531  + 1,231 read, next commit within 48 s`
    fn show(&self) {
        let mut parts = Vec::new();
        if self.version > 0 {
            parts.push(format!(
                "commit {}  rows {}  dead {}",
                self.version,
                count(self.rows),
                count(self.letters)
            ));
        }
        parts.extend(self.lag.map(|lag| format!("lag {}", count(lag))));
        parts.extend(self.said.clone().or_else(|| self.open.clone()));
        self.bar.set_message(parts.join("  "));
    }
}

impl Bars {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bar>> {
        lock(&self.all)
    }

    fn with(&self, pipeline: &str, change: impl FnOnce(&mut Bar)) {
        if let Some(bar) = self.lock().get_mut(pipeline) {
            change(bar);
            bar.show();
        }
    }

    pub(super) fn started(&self, started: &Started) {
        let bar = match started.lag {
            Some(lag) if lag > 0 => ProgressBar::new(lag).with_style(style(
                "{prefix:20!} {wide_bar} {human_pos:>11}/{human_len} {rate:>11}\n  {wide_msg}",
            )),
            _ => ProgressBar::new_spinner().with_style(style(
                "{prefix:20!} {spinner} {human_pos:>11} records {rate:>11}\n  {wide_msg}",
            )),
        };
        let bar = drawing().add(bar.with_prefix(started.pipeline.clone()));
        bar.enable_steady_tick(SPINNER_TICK);
        let bar = Bar {
            bar,
            version: 0,
            rows: 0,
            letters: 0,
            read: 0,
            said: None,
            open: None,
            lag: started.lag,
        };
        bar.show();
        if let Some(before) = self.lock().insert(started.pipeline.clone(), bar) {
            before.away();
        }
    }

    pub(super) fn committed(&self, c: &CommitReport) {
        self.with(&c.pipeline, |bar| {
            bar.version = c.version;
            bar.rows += c.ledger.rows.written;
            bar.letters += c.ledger.dead_letters;
            bar.read += c.ledger.records.read;
            bar.lag = c.lag.or(bar.lag);
            (bar.said, bar.open) = (None, None);
            bar.stands_at(bar.read.max(bar.bar.position()));
        });
    }

    pub(super) fn reading(&self, reading: &Reading) {
        self.with(&reading.pipeline, |bar| {
            bar.lag = reading.lag.or(bar.lag);
            bar.open = (reading.uncommitted > 0)
                .then(|| format!("+ {} read, {}", count(reading.uncommitted), due(reading)));
            bar.stands_at(reading.read);
        });
    }

    /// Prints above the bars if the pipeline has none now: between two passes over a topic.
    pub(super) fn say(&self, pipeline: &str, what: &str) {
        let mut known = false;
        self.with(pipeline, |bar| {
            bar.said = Some(printable(what).into_owned());
            known = true;
        });
        if !known {
            print(&format!("{pipeline}  {what}"));
        }
    }

    /// Takes all bars from the screen.
    pub(super) fn clear(&self) {
        for bar in std::mem::take(&mut *self.lock()).into_values() {
            bar.away();
        }
    }

    pub(super) fn goes_on(&self, pipeline: &str) {
        self.with(pipeline, |bar| bar.said = None);
    }

    pub(super) fn stopped(&self, pipeline: &str, line: &str) {
        if let Some(bar) = self.lock().remove(pipeline) {
            bar.away();
        }
        print(line);
    }
}

/// A closed terminal must not stop a pipeline.
fn print(line: &str) {
    let _closed = drawing().println(on_stderr(&printable(line)));
}

/// A template that does not parse would show indicatif's own bar.
fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    style.with_key(
        "rate",
        |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _full = write!(out, "{:.0}/s", state.per_sec());
        },
    )
}
