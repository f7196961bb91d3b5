//! The facts a pipeline reports, and their names in logs and in progress JSON.
//!
//! Progress JSON is made of them in `query.rs`.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use super::query::Output;
use super::words::time;
use crate::chain::Ledger;
use crate::commit::Rule;
use crate::error::Error;
use crate::pipeline::Rest;
use crate::record::RecordTimes;
use crate::sink::Refusals;

/// What plugins counted: transform → counter → amount.
pub type Counters = BTreeMap<String, BTreeMap<String, u64>>;

/// `transform.counter=amount`, those that counted anything.
pub fn counted(counters: &Counters) -> String {
    let one = |(transform, counts): (&String, &BTreeMap<String, u64>)| -> Vec<String> {
        let counts = counts.iter().filter(|(_, amount)| **amount > 0);
        counts
            .map(|(name, amount)| format!("{transform}.{name}={amount}"))
            .collect()
    };
    counters.iter().flat_map(one).collect::<Vec<_>>().join(" ")
}

/// Every pipeline gets one as `Arc<dyn Report>`. It is called from the pipeline's and the committer's threads and never
/// blocks long.
pub trait Report: Send + Sync + Debug {
    fn started(&self, started: &Started);
    /// After the commit is in the log and published.
    fn committed(&self, report: &CommitReport);
    fn swapped(&self, swapped: &Swapped);
    /// Progress of the tasks between two commits; every second.
    fn reading(&self, reading: &Reading);
    /// Nothing to do for a while.
    fn resting(&self, resting: &Resting);
    /// The pipeline cannot go on now and will try again. Called once per cause, not per try.
    fn waiting(&self, pipeline: &str, waiting: &Waiting<'_>);
    /// The pipeline goes on after waiting.
    fn resumed(&self, pipeline: &str, after: Duration);
    fn stopped(&self, stopped: &Stopped);
}

/// A pipeline that is at its log's positions and begins to read.
#[derive(Debug, Clone)]
pub struct Started {
    pub pipeline: String,
    /// `kafka[topic]`, `zone[url/table]`.
    pub source: String,
    pub sink: String,
    pub tasks: usize,
    /// Version of the log it goes on from.
    pub version: u64,
    /// `transform=plugin@version` in order.
    pub rules: Vec<String>,
    /// Records known to wait; for a bar's length.
    pub lag: Option<u64>,
    /// Of its log, and of this run.
    pub id: String,
    pub run_id: String,
    /// `progress.recent`
    pub recent: usize,
}

/// One commit.
#[derive(Debug, Clone)]
pub struct CommitReport {
    pub pipeline: String,
    /// Of its log, and of this run.
    pub id: String,
    pub run_id: String,
    pub version: u64,
    /// The entry's kind: `data`, `batch`, `gap`.
    pub kind: &'static str,
    /// Wall clock, microseconds since 1970 UTC.
    pub time: i64,
    pub spans: Vec<SpanReport>,
    /// The ledger of this commit.
    pub ledger: Ledger,
    /// What plugins counted: transform → counter → amount.
    pub counters: Counters,
    /// Rows and dead-letter files.
    pub files: u64,
    pub bytes: u64,
    pub durations: Durations,
    /// Since the commit before, or since the start: the time these records had.
    pub since_last: Duration,
    /// Records that still wait, over all partitions.
    pub lag: Option<u64>,
    pub source: String,
    pub sink: String,
    /// Files of rows and of dead letters, and what other systems took.
    pub outputs: Vec<Output>,
    /// Of the rules that made the rows.
    pub generation: Option<u64>,
    pub rules: Vec<Rule>,
    /// When the records were made.
    pub times: RecordTimes,
    /// Dead letters by transform and code.
    pub refusals: Refusals,
    /// When the rows could be read, microseconds since 1970 UTC.
    pub visible: i64,
    /// From the proof of the entry to the last file in its final place.
    pub publish: Duration,
}

/// What was read and is not committed yet.
#[derive(Debug, Clone)]
pub struct Reading {
    pub pipeline: String,
    /// Records since the start, committed or not.
    pub read: u64,
    pub uncommitted: u64,
    /// The next commit comes within this time. `None`: there is nothing to commit.
    pub due: Option<Duration>,
    /// Since the last commit, or since the start.
    pub since_last: Duration,
    /// Records that still wait, over all partitions.
    pub lag: Option<u64>,
}

/// A pipeline that looks again later.
#[derive(Debug, Clone)]
pub struct Resting {
    pub pipeline: String,
    pub why: Rest,
    pub next: Duration,
    /// Wall clock of the next look, microseconds since 1970 UTC.
    pub at: i64,
}

/// Other rules are in force from the next version on.
#[derive(Debug, Clone)]
pub struct Swapped {
    pub pipeline: String,
    pub version: u64,
    /// The generation that these replace.
    pub replaces: u64,
    /// `transform=plugin@version (config …)` in order.
    pub rules: Vec<String>,
    pub actor: String,
    pub reason: String,
}

/// What one commit settles of one partition.
#[derive(Debug, Clone)]
pub struct SpanReport {
    pub topic: String,
    pub partition: i32,
    pub from: i64,
    pub to: i64,
    pub records: u64,
    /// Offsets that were gone (`gap`).
    pub lost: u64,
    /// Where the partition ended, as the source last said.
    pub latest: Option<i64>,
}

impl SpanReport {
    /// Offsets between the commit and the end.
    pub fn behind(&self) -> Option<u64> {
        let latest = self.latest?;
        Some(u64::try_from(latest - self.to).unwrap_or(0))
    }
}

/// The time of one commit by stage. Zero if it was not measured.
#[derive(Debug, Clone, Copy, Default)]
pub struct Durations {
    pub read: Duration,
    pub transform: Duration,
    pub write: Duration,
    /// Closing files.
    pub seal: Duration,
    /// From the first file made durable to the last one published: fsync, entry, proof, renames.
    pub commit: Duration,
}

#[derive(Debug, Clone, Copy)]
pub struct Waiting<'a> {
    /// For whom: `kafka`, `store`, `memory`.
    pub on: &'static str,
    pub error: Option<&'a Error>,
}

/// How a pipeline ended, and what it did in this run.
#[derive(Debug, Clone)]
pub struct Stopped {
    pub pipeline: String,
    /// Of its log and this run; empty where it had not begun.
    pub id: String,
    pub run_id: String,
    /// In words, or the error's code.
    pub why: String,
    pub failure: Option<Failure>,
    pub version: u64,
    pub commits: u64,
    pub ledger: Ledger,
    pub files: u64,
    pub bytes: u64,
    pub elapsed: Duration,
    /// Records that were left behind the committed positions.
    pub lag: Option<u64>,
}

/// A failure on which a person has to act.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What, where and why.
    pub error: String,
    pub hint: Option<String>,
}

impl Resting {
    /// A shorter wait than this is not reported.
    const WORTH_SAYING: Duration = Duration::from_secs(10);
    /// From so far away on the date is said too.
    const SAME_DAY: Duration = Duration::from_secs(12 * 3600);

    /// `None`: it looks again at once.
    pub fn words(&self) -> Option<String> {
        let does = match self.why {
            Rest::NothingYet => {
                return Some("nothing to read yet; looks again every second".to_owned());
            }
            Rest::Done | Rest::Limited | Rest::TooFew if self.next < Self::WORTH_SAYING => {
                return None;
            }
            Rest::Done => "all is read; looks again",
            Rest::Limited => "as much is read as one run takes; goes on",
            Rest::TooFew => "too little waits for a run; looks again",
            Rest::NotDue => "nothing is due; begins",
        };
        let format = match self.next < Self::SAME_DAY {
            true => " at %H:%M:%S UTC,",
            false => " on %Y-%m-%d at %H:%M:%S UTC,",
        };
        let at = jiff::Timestamp::from_microsecond(self.at);
        let at = at.map_or_else(|_| String::new(), |at| at.strftime(format).to_string());
        Some(format!("{does}{at} in {}", time(self.next)))
    }
}

impl Durations {
    pub fn total(&self) -> Duration {
        self.read + self.transform + self.write + self.seal + self.commit
    }
}

pub(super) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Per second, to one decimal. `None`: no time has passed.
#[expect(clippy::cast_precision_loss, reason = "a rate is shown to one decimal")]
pub(super) fn rate(n: u64, time: Duration) -> Option<f64> {
    let seconds = time.as_secs_f64();
    (seconds > 0.0).then(|| (n as f64 / seconds * 10.0).round() / 10.0)
}

impl CommitReport {
    /// `topic/partition@from-to`, the widest first, at most four.
    pub fn offsets(&self) -> String {
        let mut spans: Vec<&SpanReport> = self.spans.iter().collect();
        spans.sort_by_key(|span| std::cmp::Reverse(span.to - span.from));
        let mut out: Vec<String> = spans
            .iter()
            .take(4)
            .map(|s| format!("{}/{}@{}-{}", s.topic, s.partition, s.from, s.to))
            .collect();
        if spans.len() > 4 {
            out.push(format!("and {} more", spans.len() - 4));
        }
        out.join(" ")
    }
}

// === the same facts as log lines ===

pub(super) fn log_started(s: &Started) {
    tracing::info!(
        pipeline = s.pipeline,
        source = s.source,
        sink = s.sink,
        tasks = s.tasks,
        version = s.version,
        rules = s.rules.join(" "),
        lag = s.lag,
        "pipeline started"
    );
}

pub(super) fn log_committed(c: &CommitReport) {
    tracing::info!(
        pipeline = c.pipeline,
        version = c.version,
        kind = c.kind,
        offsets = c.offsets(),
        records = c.ledger.records.read,
        rows = c.ledger.rows.written,
        dead_letters = c.ledger.dead_letters,
        duplicates = c.ledger.rows.duplicates,
        files = c.files,
        bytes = c.bytes,
        counters = counted(&c.counters),
        ms = ms(c.durations.total()),
        lag = c.lag,
        "committed"
    );
    for span in c.spans.iter().filter(|span| span.lost > 0) {
        tracing::warn!(
            pipeline = c.pipeline,
            version = c.version,
            topic = span.topic,
            partition = span.partition,
            from = span.from,
            to = span.to,
            lost = span.lost,
            "records were gone before they were read; committed as a gap"
        );
    }
    if !c.ledger.closes() {
        tracing::error!(
            pipeline = c.pipeline, version = c.version, ledger = ?c.ledger,
            "the ledger of this commit does not close"
        );
    }
}

pub(super) fn log_swapped(s: &Swapped) {
    tracing::info!(
        pipeline = s.pipeline,
        version = s.version,
        replaces = s.replaces,
        rules = s.rules.join(" "),
        actor = s.actor,
        reason = s.reason,
        "rules swapped"
    );
}

pub(super) fn log_resting(r: &Resting) {
    match r.words() {
        Some(words) => tracing::info!(pipeline = r.pipeline, next_ms = ms(r.next), "{words}"),
        None => tracing::debug!(pipeline = r.pipeline, next_ms = ms(r.next), "resting"),
    }
}

pub(super) fn log_waiting(pipeline: &str, waiting: &Waiting<'_>) {
    match waiting.error {
        Some(error) => tracing::warn!(
            pipeline, on = waiting.on, code = error.kind().code(), error = %error,
            "waiting, will go on by itself"
        ),
        None => tracing::info!(pipeline, on = waiting.on, "waiting, will go on by itself"),
    }
}

pub(super) fn log_resumed(pipeline: &str, after: Duration) {
    tracing::info!(pipeline, ms = ms(after), "going on");
}

/// Writes the line of an ending. If log lines of level error are filtered out, a failure is still printed on stderr.
pub(super) fn log_stopped(s: &Stopped) {
    let Ledger {
        records,
        rows,
        dead_letters,
    } = &s.ledger;
    let Some(Failure { error, hint }) = &s.failure else {
        tracing::info!(
            pipeline = s.pipeline,
            why = s.why,
            version = s.version,
            commits = s.commits,
            records = records.read,
            rows = rows.written,
            dead_letters,
            duplicates = rows.duplicates,
            files = s.files,
            bytes = s.bytes,
            ms = ms(s.elapsed),
            lag = s.lag,
            "pipeline stopped"
        );
        return;
    };
    if !tracing::enabled!(tracing::Level::ERROR) {
        let line = format!("weir: pipeline {} failed: {}: {error}\n", s.pipeline, s.why);
        crate::logging::aside(line.as_bytes());
    }
    tracing::error!(
        pipeline = s.pipeline,
        code = s.why,
        error,
        hint,
        version = s.version,
        commits = s.commits,
        records = records.read,
        rows = rows.written,
        dead_letters,
        ms = ms(s.elapsed),
        lag = s.lag,
        "pipeline failed"
    );
}

#[cfg(test)]
pub(super) mod tests {
    use arrow_array::TimestampMicrosecondArray;

    use super::*;

    pub(in super::super) fn sample() -> CommitReport {
        let span = |partition| SpanReport {
            topic: "books".into(),
            partition,
            from: 10,
            to: 30,
            records: 20,
            lost: 0,
            latest: Some(30 + 5 * i64::from(partition)),
        };
        let mut ledger = Ledger::default();
        ledger.records.read = 40;
        ledger.records.with_rows = 40;
        ledger.rows.made = 80;
        ledger.rows.written = 80;
        let seconds = |s: i64| 1_700_000_000_000_000 + s * 1_000_000;
        let mut times = RecordTimes::default();
        times.add(&TimestampMicrosecondArray::from(vec![
            seconds(-9),
            seconds(-3),
        ]));
        CommitReport {
            pipeline: "books-raw".into(),
            id: "5f2b".into(),
            run_id: "91c0".into(),
            version: 7,
            kind: "data",
            time: 1_700_000_000_000_000,
            spans: vec![span(0), span(1)],
            ledger,
            counters: BTreeMap::from([("flatten".into(), BTreeMap::from([("empty".into(), 3)]))]),
            files: 1,
            bytes: 4096,
            durations: Durations {
                read: Duration::from_millis(100),
                ..Durations::default()
            },
            since_last: Duration::from_secs(2),
            lag: Some(20),
            source: "kafka[books]".into(),
            sink: "zone[file:raw/${topic}]".into(),
            outputs: vec![Output {
                path: "books/2023-11-14/22/a.parquet".into(),
                rows: 80,
                bytes: 4096,
                digest: Some("sha256:aa".into()),
            }],
            generation: Some(3),
            rules: vec![Rule {
                transform: "flatten".into(),
                plugin: "xml-flatten".into(),
                version: "0.1.0".into(),
                component: "sha256:bb".into(),
                config: "sha256:cc".into(),
            }],
            times,
            refusals: BTreeMap::from([(("flatten".into(), "bad_int".into()), 2)]),
            visible: seconds(1),
            publish: Duration::from_millis(7),
        }
    }
}
