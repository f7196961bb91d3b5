//! How progress looks: bars on a terminal, plain lines elsewhere, JSON for programs, or nothing.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::bars::Bars;
use super::events::{self, CommitReport, Reading, Report, Resting, Started, Stopped, Swapped};
use super::events::{Waiting, rate};
use super::query::QueryProgress;
use super::screen::{on_stderr, on_stdout};
use super::words::{bytes, count, plural, time};
use crate::lock::lock;
use crate::logging::aside;
use crate::text::{printable, printable_json};

/// With plain lines, records that wait for their commit are reported after this much silence, and then this often.
const FIRST_WORD: Duration = Duration::from_secs(5);
const NEXT_WORDS: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressMode {
    /// One line per commit on stdout.
    Plain,
    /// One bar per pipeline on stderr.
    Bar,
    /// One JSON object per commit on stdout.
    Json,
    None,
}

impl ProgressMode {
    pub const NAMES: [&'static str; 4] = ["plain", "bar", "json", "none"];

    /// Bars if both stdout and stderr are a terminal.
    pub fn automatic() -> ProgressMode {
        match io::stderr().is_terminal() && io::stdout().is_terminal() {
            true => ProgressMode::Bar,
            false => ProgressMode::Plain,
        }
    }
}

impl FromStr for ProgressMode {
    type Err = String;

    fn from_str(text: &str) -> Result<ProgressMode, String> {
        match text {
            "plain" => Ok(ProgressMode::Plain),
            "bar" => Ok(ProgressMode::Bar),
            "json" => Ok(ProgressMode::Json),
            "none" => Ok(ProgressMode::None),
            _ => Err(format!("expected one of {}", Self::NAMES.join(", "))),
        }
    }
}

/// Every event as a log line, and progress in the chosen form.
#[derive(Debug)]
pub struct Progress {
    mode: ProgressMode,
    bars: Bars,
    /// Number of reports on waiting records since the last commit of each pipeline.
    words: Mutex<BTreeMap<String, u32>>,
    /// A pipeline reached its log's positions and began to read.
    has_begun: AtomicBool,
    has_failed: AtomicBool,
    /// What each pipeline waits for.
    waits: Mutex<BTreeMap<String, String>>,
}

impl Progress {
    pub fn shared(mode: ProgressMode) -> Arc<Progress> {
        Arc::new(Progress {
            mode,
            bars: Bars::default(),
            words: Mutex::default(),
            has_begun: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            waits: Mutex::default(),
        })
    }

    /// True: nothing was read, so nothing has to be committed, and nothing has failed.
    pub fn is_untouched(&self) -> bool {
        !self.has_begun.load(Ordering::SeqCst) && !self.has_failed.load(Ordering::SeqCst)
    }

    /// The process was told to end. Printed on stderr at any log level, with what it may have to wait for.
    pub fn stopping(&self, grace: Duration) {
        let within = time(grace);
        self.say(&format!(
            "stopping: what was read is committed first, within {within}; a second signal ends the process at once, which loses nothing either"
        ));
        for (pipeline, why) in self.waits().iter() {
            self.say(&format!("{pipeline} is waiting for {why}"));
        }
    }

    /// Prints a sentence on stderr: as a log line if those are shown, or else above the bars.
    pub fn say(&self, words: &str) {
        match tracing::enabled!(tracing::Level::INFO) {
            true => tracing::info!("{words}"),
            false => aside(format!("{}\n", on_stderr(&printable(words))).as_bytes()),
        }
    }

    /// Before the process ends without waiting for its pipelines: no bar stays behind.
    pub fn leave_terminal(&self) {
        if self.mode == ProgressMode::Bar {
            self.bars.clear();
        }
    }

    fn waits(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        lock(&self.waits)
    }

    /// A closed stdout (a pager, `head`) must not stop a pipeline.
    fn line(&self, line: &str) {
        let _closed = writeln!(io::stdout().lock(), "{}", on_stdout(&printable(line)));
    }

    fn words(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        lock(&self.words)
    }

    /// Whether it is time for another word about records that wait.
    fn speaks(&self, pipeline: &str, since_last: Duration) -> bool {
        let mut words = self.words();
        let said = words.entry(pipeline.to_owned()).or_default();
        let speaks = since_last >= FIRST_WORD + NEXT_WORDS * *said;
        *said += u32::from(speaks);
        speaks
    }
}

impl Report for Progress {
    fn started(&self, started: &Started) {
        events::log_started(started);
        self.has_begun.store(true, Ordering::SeqCst);
        self.waits().remove(&started.pipeline);
        self.words().remove(&started.pipeline);
        if self.mode == ProgressMode::Bar {
            self.bars.started(started);
        }
    }

    fn committed(&self, report: &CommitReport) {
        events::log_committed(report);
        self.words().remove(&report.pipeline);
        match self.mode {
            ProgressMode::Plain => self.line(&plain(report)),
            // Programs read this: lines are never folded.
            ProgressMode::Json => {
                let _closed = writeln!(io::stdout().lock(), "{}", printable_json(&json(report)));
            }
            ProgressMode::Bar => self.bars.committed(report),
            ProgressMode::None => {}
        }
    }

    fn swapped(&self, swapped: &Swapped) {
        events::log_swapped(swapped);
        let rules = swapped.rules.join(" ");
        match self.mode {
            ProgressMode::Plain => self.line(&format!(
                "{}  swap {}  rules are now {rules}",
                swapped.pipeline, swapped.version
            )),
            ProgressMode::Bar => self
                .bars
                .say(&swapped.pipeline, &format!("rules are now {rules}")),
            ProgressMode::Json | ProgressMode::None => {}
        }
    }

    fn reading(&self, reading: &Reading) {
        match self.mode {
            ProgressMode::Bar => self.bars.reading(reading),
            ProgressMode::Plain
                if reading.uncommitted > 0
                    && self.speaks(&reading.pipeline, reading.since_last) =>
            {
                self.line(&gathered(reading));
            }
            ProgressMode::Plain | ProgressMode::Json | ProgressMode::None => {}
        }
    }

    fn resting(&self, resting: &Resting) {
        events::log_resting(resting);
        let Some(words) = resting.words() else {
            return;
        };
        match self.mode {
            ProgressMode::Plain => self.line(&format!("{}  {words}", resting.pipeline)),
            ProgressMode::Bar => {
                let words = words.split(", in ").next().unwrap_or(&words);
                self.bars.say(&resting.pipeline, words);
            }
            ProgressMode::Json | ProgressMode::None => {}
        }
    }

    fn waiting(&self, pipeline: &str, waiting: &Waiting<'_>) {
        events::log_waiting(pipeline, waiting);
        let why = match waiting.error {
            Some(error) => format!("{}: {}", waiting.on, error.message()),
            None => waiting.on.to_owned(),
        };
        self.waits().insert(pipeline.to_owned(), why);
        if self.mode == ProgressMode::Bar {
            self.bars
                .say(pipeline, &format!("waiting for {}", waiting.on));
        }
    }

    fn resumed(&self, pipeline: &str, after: Duration) {
        events::log_resumed(pipeline, after);
        self.waits().remove(pipeline);
        if self.mode == ProgressMode::Bar {
            self.bars.goes_on(pipeline);
        }
    }

    fn stopped(&self, stopped: &Stopped) {
        events::log_stopped(stopped);
        self.has_failed
            .fetch_or(stopped.failure.is_some(), Ordering::SeqCst);
        match self.mode {
            ProgressMode::Plain => self.line(&end(stopped)),
            ProgressMode::Bar => self.bars.stopped(&stopped.pipeline, &end(stopped)),
            ProgressMode::Json | ProgressMode::None => {}
        }
    }
}

/// A progress is plain data: it always becomes JSON.
fn json(report: &CommitReport) -> String {
    serde_json::to_string(&QueryProgress::of(report)).unwrap_or_default()
}

/// `books-raw  commit 7  40 records  80 rows  0 dead  4.00 KiB  20/s  lag 20`
pub(super) fn plain(c: &CommitReport) -> String {
    let mut out = format!(
        "{}  commit {}  {}  {}",
        c.pipeline,
        c.version,
        plural(c.ledger.records.read, "record"),
        plural(c.ledger.rows.written, "row")
    );
    let mut add = |n: u64, noun: &str| {
        if n > 0 {
            out.push_str(&format!("  {}", plural(n, noun)));
        }
    };
    add(c.ledger.dead_letters, "dead letter");
    add(c.ledger.rows.duplicates, "duplicate");
    out.push_str(&format!(
        "  {} in {}  {:.0} records/s",
        bytes(c.bytes),
        plural(c.files, "file"),
        rate(c.ledger.records.read, c.since_last).unwrap_or(0.0)
    ));
    if let Some(lag) = c.lag {
        out.push_str(&format!("  lag {}", count(lag)));
    }
    match events::counted(&c.counters).as_str() {
        "" => out,
        counted => format!("{out}  {counted}"),
    }
}

/// `books-raw  12,345 records read, not committed yet; next commit within 48 s`
fn gathered(r: &Reading) -> String {
    format!(
        "{}  {} read, not committed yet; {}",
        r.pipeline,
        plural(r.uncommitted, "record"),
        due(r)
    )
}

/// `next commit within 48 s`
pub(super) fn due(r: &Reading) -> String {
    let Some(due) = r.due else {
        return "being committed".to_owned();
    };
    match due.as_secs() {
        0 => "next commit any moment".to_owned(),
        seconds => format!("next commit within {}", seconds_of(seconds + 1)),
    }
}

/// `48 s`, `2 min 05 s`
fn seconds_of(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        more => time(Duration::from_secs(more)),
    }
}

fn end(s: &Stopped) -> String {
    let mut out = format!(
        "{}  {} ({}) at version {}: {}, {}, {} in {}, {}",
        s.pipeline,
        if s.failure.is_some() {
            "failed"
        } else {
            "stopped"
        },
        s.why,
        s.version,
        plural(s.ledger.records.read, "record"),
        plural(s.ledger.rows.written, "row"),
        plural(s.ledger.dead_letters, "dead letter"),
        plural(s.commits, "commit"),
        time(s.elapsed)
    );
    if s.ledger.rows.duplicates > 0 {
        let duplicates = plural(s.ledger.rows.duplicates, "duplicate");
        out.push_str(&format!(", {duplicates}"));
    }
    if let (Some(_), Some(lag)) = (&s.failure, s.lag) {
        out.push_str(&format!(", {} waiting", plural(lag, "record")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_one_line() {
        let line = plain(&events::tests::sample());
        assert_eq!(
            line,
            "books-raw  commit 7  40 records  80 rows  4.00 KiB in 1 file  20 records/s  lag 20  flatten.empty=3"
        );
    }
}
