//! The facts a pipeline reports, and their names in logs and in progress JSON.
//!
//! Progress JSON has the field names of Spark's `StreamingQueryProgress` where the meaning is the same (`batchId` is the
//! version of the commit), and ours beside them: `lag`, `deadLetters`, `duplicates`, `files`, `bytes`, `ledger`.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use serde_json::{Value, json};

use super::words::time;
use crate::instant::utc;

use crate::chain::Ledger;
use crate::error::Error;
use crate::pipeline::Rest;

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
}

/// One commit.
#[derive(Debug, Clone)]
pub struct CommitReport {
    pub pipeline: String,
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

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Per second, to one decimal.
#[expect(clippy::cast_precision_loss, reason = "a rate is shown to one decimal")]
pub(super) fn rate(n: u64, time: Duration) -> f64 {
    match time.as_secs_f64() {
        seconds if seconds > 0.0 => (n as f64 / seconds * 10.0).round() / 10.0,
        _ => 0.0,
    }
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

    /// One line of `--progress json`.
    pub fn progress_json(&self) -> Value {
        let Ledger {
            records,
            rows,
            dead_letters,
        } = &self.ledger;
        let busy = self.durations.total();
        let sources: Vec<Value> = self.topics().iter().map(|t| self.source_json(t)).collect();
        json!({
            "id": self.pipeline,
            "name": self.pipeline,
            "timestamp": utc(self.time, 3),
            "batchId": self.version,
            "kind": self.kind,
            "batchDuration": ms(self.since_last),
            "numInputRows": records.read,
            "inputRowsPerSecond": rate(records.read, self.since_last),
            "processedRowsPerSecond": rate(records.read, busy),
            "durationMs": {
                "getBatch": ms(self.durations.read),
                "transform": ms(self.durations.transform),
                "write": ms(self.durations.write),
                "seal": ms(self.durations.seal),
                "commitOffsets": ms(self.durations.commit),
                "triggerExecution": ms(busy),
            },
            "stateOperators": [],
            "sources": sources,
            "sink": { "description": self.sink, "numOutputRows": rows.written },
            "lag": self.lag,
            "deadLetters": dead_letters,
            "duplicates": rows.duplicates,
            "counters": self.counters,
            "files": self.files,
            "bytes": self.bytes,
            "ledger": { "records": records, "rows": rows, "closes": self.ledger.closes() },
        })
    }

    fn topics(&self) -> Vec<&str> {
        let mut topics: Vec<&str> = self.spans.iter().map(|s| s.topic.as_str()).collect();
        topics.sort_unstable();
        topics.dedup();
        topics
    }

    /// Offsets as Spark writes them: `{"topic": {"0": 17}}`.
    fn source_json(&self, topic: &str) -> Value {
        let spans = || self.spans.iter().filter(|s| s.topic == topic);
        let offsets = |of: fn(&SpanReport) -> Option<i64>| -> Value {
            let all: serde_json::Map<String, Value> = spans()
                .filter_map(|s| Some((s.partition.to_string(), json!(of(s)?))))
                .collect();
            json!({ topic: all })
        };
        let read: u64 = spans().map(|s| s.records).sum();
        json!({
            "description": self.source,
            "startOffset": offsets(|s| Some(s.from)),
            "endOffset": offsets(|s| Some(s.to)),
            "latestOffset": null,
            "numInputRows": read,
            "inputRowsPerSecond": rate(read, self.since_last),
            "processedRowsPerSecond": rate(read, self.durations.total()),
            "lostOffsets": spans().map(|s| s.lost).sum::<u64>(),
        })
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
    use super::*;

    pub(in super::super) fn sample() -> CommitReport {
        let span = |partition| SpanReport {
            topic: "books".into(),
            partition,
            from: 10,
            to: 30,
            records: 20,
            lost: 0,
        };
        let mut ledger = Ledger::default();
        ledger.records.read = 40;
        ledger.records.with_rows = 40;
        ledger.rows.made = 80;
        ledger.rows.written = 80;
        CommitReport {
            pipeline: "books-raw".into(),
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
        }
    }

    #[test]
    fn progress_has_sparks_names_and_ours() {
        let json = sample().progress_json();
        for name in [
            "id",
            "name",
            "timestamp",
            "batchId",
            "numInputRows",
            "inputRowsPerSecond",
            "processedRowsPerSecond",
            "durationMs",
            "sources",
            "sink",
            "lag",
            "deadLetters",
            "duplicates",
            "files",
        ] {
            assert!(!json[name].is_null(), "{name}");
        }
        assert_eq!(json["timestamp"], "2023-11-14T22:13:20.000Z");
        assert_eq!(json["inputRowsPerSecond"], 20.0);
        assert_eq!(json["sources"][0]["endOffset"]["books"]["1"], 30);
        assert_eq!(json["sink"]["numOutputRows"], 80);
        assert_eq!(json["ledger"]["closes"], true);
        assert_eq!(json["counters"]["flatten"]["empty"], 3);
    }
}
