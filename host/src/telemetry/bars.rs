//! One bar per pipeline on a terminal; its length is what was waiting at the start.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::events::{CommitReport, Started};
use super::logs::drawing;
use super::words::count;

#[derive(Debug, Default)]
pub(super) struct Bars {
    all: Mutex<BTreeMap<String, Bar>>,
}

#[derive(Debug)]
struct Bar {
    bar: ProgressBar,
    letters: u64,
    rows: u64,
}

const SPINNER_TICK: Duration = Duration::from_millis(200);

impl Bars {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bar>> {
        self.all.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn started(&self, started: &Started) {
        let bar = match started.lag {
            Some(lag) if lag > 0 => ProgressBar::new(lag).with_style(style(
                "{prefix:18} {bar:28} {human_pos:>11}/{human_len} {rate:>12}  {msg}",
            )),
            _ => ProgressBar::new_spinner().with_style(style(
                "{prefix:18} {spinner} {human_pos:>11} {rate:>12}  {msg}",
            )),
        };
        let bar = drawing().add(bar.with_prefix(started.pipeline.clone()));
        bar.enable_steady_tick(SPINNER_TICK);
        let bar = Bar {
            bar,
            letters: 0,
            rows: 0,
        };
        if let Some(before) = self.lock().insert(started.pipeline.clone(), bar) {
            before.bar.finish_and_clear();
        }
    }

    pub(super) fn committed(&self, c: &CommitReport) {
        let mut all = self.lock();
        let Some(bar) = all.get_mut(&c.pipeline) else {
            return;
        };
        bar.letters += c.ledger.letters;
        bar.rows += c.ledger.rows.written;
        bar.bar.inc(c.ledger.records.read);
        if let (Some(lag), Some(_)) = (c.lag, bar.bar.length()) {
            bar.bar.set_length(bar.bar.position() + lag);
        }
        let lag = c.lag.map_or_else(|| "?".to_owned(), count);
        bar.bar.set_message(format!(
            "commit {}  rows {}  dead {}  lag {lag}",
            c.version,
            count(bar.rows),
            count(bar.letters)
        ));
    }

    pub(super) fn say(&self, pipeline: &str, what: &str) {
        if let Some(bar) = self.lock().get(pipeline) {
            bar.bar.set_message(what.to_owned());
        }
    }

    pub(super) fn stopped(&self, pipeline: &str, line: &str) {
        if let Some(bar) = self.lock().remove(pipeline) {
            bar.bar.finish_and_clear();
        }
        // A closed terminal must not stop the others.
        let _closed = drawing().println(line);
    }
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
