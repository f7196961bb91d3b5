//! The newest commits' progress of a pipeline, in bounded memory, and what it does now, in Spark's words.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::events::{CommitReport, Reading, Resting, Started, Stopped, Waiting};
use super::query::QueryProgress;

/// Most bytes of JSON of the progress that is kept of one pipeline; in memory it is about twice that. With 50 pipelines of hundreds of
/// partitions a process still keeps no more than 20 MiB. The newest one is kept whatever its size.
pub const RECENT_BYTES: usize = 192 << 10;

/// A pipeline as Spark's `StreamingQuery` shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Query {
    /// Of the commit log: the same after a restart. Null: it has not begun since the process did.
    pub id: Option<String>,
    /// Of this run, or of the last one.
    pub run_id: Option<String>,
    pub name: String,
    pub is_active: bool,
    pub status: QueryStatus,
    /// Why the last run failed.
    pub exception: Option<String>,
    /// The newest of `recentProgress`.
    pub last_progress: Option<QueryProgress>,
    /// Commits since the process began, the oldest first.
    pub recent_progress: Vec<QueryProgress>,
    /// Of each partition, the most behind first, 200 at most. Empty while nobody reads.
    #[serde(default)]
    pub behind: Vec<PartitionBehind>,
}

/// Partitions in [`Query::behind`]: as many as have a metric of their own.
pub const BEHIND: usize = 200;

/// How far a partition is behind at this moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartitionBehind {
    pub topic: String,
    pub partition: i32,
    /// Offsets between the last commit and the end, as the source last said.
    pub lag: u64,
}

/// As Spark's `StreamingQueryStatus`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueryStatus {
    /// In words.
    pub message: String,
    /// Records wait, or are read and not committed.
    pub is_data_available: bool,
    /// Records are read and not committed.
    pub is_trigger_active: bool,
}

impl Query {
    /// It failed before it could report anything; `trace` is what its runner knows.
    #[must_use]
    pub fn failed(self, trace: String) -> Query {
        let first = trace.lines().next().unwrap_or_default();
        let status = QueryStatus {
            message: terminated(first),
            ..self.status
        };
        Query {
            status,
            exception: Some(trace),
            ..self
        }
    }
}

fn terminated(why: &str) -> String {
    format!("Terminated with exception: {why}")
}

/// What one pipeline reported.
#[derive(Debug)]
pub(super) struct Watched {
    id: Option<String>,
    run_id: Option<String>,
    most: usize,
    all: VecDeque<(usize, QueryProgress)>,
    bytes: usize,
    active: bool,
    exception: Option<String>,
    uncommitted: u64,
    lag: Option<u64>,
    /// Why it does not read now.
    pauses: Option<String>,
}

impl Default for Watched {
    fn default() -> Watched {
        Watched {
            id: None,
            run_id: None,
            most: 1,
            all: VecDeque::new(),
            bytes: 0,
            active: false,
            exception: None,
            uncommitted: 0,
            lag: None,
            pauses: None,
        }
    }
}

impl Watched {
    pub fn started(&mut self, started: &Started) {
        self.id = Some(started.id.clone());
        self.run_id = Some(started.run_id.clone());
        self.most = started.recent;
        self.active = true;
        self.exception = None;
        self.pauses = None;
        self.lag = started.lag;
        self.uncommitted = 0;
        self.cut();
    }

    pub fn committed(&mut self, report: &CommitReport) {
        let progress = QueryProgress::of(report);
        let size = serde_json::to_vec(&progress).map_or(0, |json| json.len());
        self.lag = report.lag;
        self.pauses = None;
        let read = report.ledger.records.read;
        self.uncommitted = self.uncommitted.saturating_sub(read);
        self.bytes += size;
        self.all.push_back((size, progress));
        self.cut();
    }

    fn cut(&mut self) {
        while self.all.len() > self.most || (self.bytes > RECENT_BYTES && self.all.len() > 1) {
            self.bytes -= self.all.pop_front().map_or(0, |(size, _)| size);
        }
    }

    pub fn reading(&mut self, reading: &Reading) {
        self.uncommitted = reading.uncommitted;
        self.lag = reading.lag;
        if reading.uncommitted > 0 {
            self.pauses = None;
        }
    }

    pub fn resting(&mut self, resting: &Resting) {
        self.pauses = Some(match resting.words() {
            Some(words) => format!("Waiting for next trigger: {words}"),
            None => "Waiting for next trigger".to_owned(),
        });
    }

    pub fn waiting(&mut self, waiting: &Waiting<'_>) {
        self.pauses = Some(match waiting.error {
            Some(error) => format!("Waiting for {}: {}", waiting.on, error.message()),
            None => format!("Waiting for {}", waiting.on),
        });
    }

    pub fn resumed(&mut self) {
        self.pauses = None;
    }

    pub fn stopped(&mut self, stopped: &Stopped) {
        self.active = false;
        self.uncommitted = 0;
        self.pauses = None;
        self.lag = stopped.lag.or(self.lag);
        self.exception = stopped
            .failure
            .as_ref()
            .map(|failure| failure.error.clone());
    }

    /// With the newest `limit` commits.
    pub fn query(&self, name: &str, limit: usize) -> Query {
        let skip = self.all.len().saturating_sub(limit);
        let recent: Vec<QueryProgress> =
            self.all.iter().skip(skip).map(|(_, p)| p.clone()).collect();
        Query {
            id: self.id.clone(),
            run_id: self.run_id.clone(),
            name: name.to_owned(),
            is_active: self.active,
            status: self.status(),
            exception: self.exception.clone(),
            last_progress: recent.last().cloned(),
            recent_progress: recent,
            behind: Vec::new(),
        }
    }

    fn status(&self) -> QueryStatus {
        let waits = self.lag.is_some_and(|lag| lag > 0);
        let message = match (&self.exception, &self.pauses) {
            (Some(why), _) => terminated(why),
            (None, _) if self.id.is_none() => "Initializing sources".to_owned(),
            (None, _) if !self.active => "Stopped".to_owned(),
            (None, Some(pauses)) => pauses.clone(),
            (None, None) if self.uncommitted > 0 || waits => "Processing new data".to_owned(),
            (None, None) => "Waiting for data to arrive".to_owned(),
        };
        QueryStatus {
            message,
            is_data_available: waits || self.uncommitted > 0,
            is_trigger_active: self.active && self.uncommitted > 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::events::Failure;
    use super::super::events::tests::sample;
    use super::*;
    use std::time::Duration;

    fn started(recent: usize) -> Started {
        Started {
            pipeline: "p".into(),
            source: String::new(),
            sink: String::new(),
            tasks: 1,
            version: 0,
            rules: Vec::new(),
            lag: Some(0),
            id: "i".into(),
            run_id: "r".into(),
            recent,
        }
    }

    /// Names and values as Spark has them, and ours under one key.
    #[test]
    fn a_progress_has_every_field_of_sparks() {
        let json = serde_json::to_value(QueryProgress::of(&sample())).expect("JSON");
        assert_eq!(
            json,
            serde_json::json!({
                "id": "5f2b", "runId": "91c0", "name": "books-raw",
                "timestamp": "2023-11-14T22:13:20.000Z",
                "batchId": 7, "batchDuration": 2000, "numInputRows": 40,
                "inputRowsPerSecond": 20.0, "processedRowsPerSecond": 400.0,
                "durationMs": {
                    "addBatch": 0, "commitOffsets": 0, "getBatch": 100, "latestOffset": 0,
                    "queryPlanning": 0, "triggerExecution": 100, "walCommit": 0,
                },
                "eventTime": {
                    "avg": "2023-11-14T22:13:14.000Z", "max": "2023-11-14T22:13:17.000Z",
                    "min": "2023-11-14T22:13:11.000Z",
                },
                "stateOperators": [],
                "sources": [{
                    "description": "kafka[books]",
                    "startOffset": { "books": { "0": 10, "1": 10 } },
                    "endOffset": { "books": { "0": 30, "1": 30 } },
                    "latestOffset": { "books": { "0": 30, "1": 35 } },
                    "numInputRows": 40,
                    "inputRowsPerSecond": 20.0, "processedRowsPerSecond": 400.0,
                    "metrics": {
                        "avgOffsetsBehindLatest": "2.5", "maxOffsetsBehindLatest": "5",
                        "minOffsetsBehindLatest": "0",
                    },
                }],
                "sink": { "description": "zone[file:raw/${topic}]", "numOutputRows": 80 },
                "observedMetrics": { "flatten": { "empty": 3 } },
                "weir": {
                    "version": 7, "kind": "data", "lag": 20, "deadLetters": 0, "refusals": { "flatten": { "bad_int": 2 } },
                    "duplicates": 0,
                    "ledger": {
                        "records": { "read": 40, "with_rows": 40, "refused": 0, "filtered": 0, "refused_in_part": 0 },
                        "rows": { "made": 80, "written": 80, "refused": 0, "filtered": 0, "duplicates": 0, "late": 0 },
                        "closes": true,
                    },
                    "files": 1, "bytes": 4096,
                    "outputs": [{
                        "path": "books/2023-11-14/22/a.parquet", "rows": 80, "bytes": 4096, "digest": "sha256:aa",
                    }],
                    "moreOutputs": false, "generation": 3,
                    "rules": [{
                        "transform": "flatten", "plugin": "xml-flatten", "version": "0.1.0",
                        "component": "sha256:bb", "config": "sha256:cc",
                    }],
                    "lostOffsets": 0,
                    "latency": { "records": 2, "min": 4000, "mean": 7000, "p99": 10000, "max": 10000 },
                    "stageMs": { "read": 100, "transform": 0, "write": 0, "seal": 0, "commit": 0, "publish": 7 },
                    "morePartitions": false,
                },
            })
        );
    }

    #[test]
    fn the_newest_are_kept_by_number_and_by_bytes() {
        let mut watched = Watched::default();
        watched.started(&started(3));
        let mut report = sample();
        for version in 1..=5 {
            report.version = version;
            watched.committed(&report);
        }
        let versions = |watched: &Watched, limit| -> Vec<u64> {
            let query = watched.query("p", limit);
            assert_eq!(query.last_progress.as_ref(), query.recent_progress.last());
            query.recent_progress.iter().map(|p| p.batch_id).collect()
        };
        assert_eq!(versions(&watched, 100), [3, 4, 5]);
        assert_eq!(versions(&watched, 2), [4, 5]);
        // Wide ones: 600 partitions, of which 512 are named.
        let span = report.spans.remove(0);
        report.spans = (0..600)
            .map(|partition| super::super::events::SpanReport {
                partition,
                ..span.clone()
            })
            .collect();
        watched.started(&started(1000));
        for version in 6..=200 {
            report.version = version;
            watched.committed(&report);
        }
        let kept = watched.query("p", 1000).recent_progress;
        let bytes: usize = kept
            .iter()
            .map(|p| serde_json::to_vec(p).map_or(0, |j| j.len()))
            .sum();
        assert!(
            kept.len() > 1 && bytes <= RECENT_BYTES,
            "{} of {bytes}",
            kept.len()
        );
        let newest = kept.last().expect("one");
        assert_eq!((newest.batch_id, newest.weir.more_partitions), (200, true));
        assert_eq!(newest.sources[0].end_offset["books"].len(), 512);
    }

    #[test]
    fn the_status_says_what_it_does() {
        let mut watched = Watched::default();
        let said = |watched: &Watched| {
            let status = watched.query("p", 1).status;
            (
                status.message,
                status.is_data_available,
                status.is_trigger_active,
            )
        };
        let is = |message: &str, data, trigger| (message.to_owned(), data, trigger);
        assert_eq!(said(&watched), is("Initializing sources", false, false));
        watched.started(&started(1));
        assert_eq!(
            said(&watched),
            is("Waiting for data to arrive", false, false)
        );
        let mut reading = Reading {
            pipeline: "p".into(),
            read: 5,
            uncommitted: 5,
            due: None,
            since_last: Duration::ZERO,
            lag: Some(0),
        };
        watched.reading(&reading);
        assert_eq!(said(&watched), is("Processing new data", true, true));
        reading.uncommitted = 0;
        watched.reading(&reading);
        watched.waiting(&Waiting {
            on: "the store",
            error: None,
        });
        assert_eq!(said(&watched), is("Waiting for the store", false, false));
        let mut stopped = Stopped {
            pipeline: "p".into(),
            id: "i".into(),
            run_id: "r".into(),
            why: "disk_full".into(),
            failure: Some(Failure {
                error: "no room".into(),
                hint: None,
            }),
            version: 1,
            commits: 1,
            ledger: Default::default(),
            files: 0,
            bytes: 0,
            elapsed: Duration::ZERO,
            lag: Some(9),
        };
        watched.stopped(&stopped);
        assert_eq!(
            said(&watched),
            is("Terminated with exception: no room", true, false)
        );
        assert!(!watched.query("p", 1).is_active);
        stopped.failure = None;
        stopped.lag = Some(0);
        watched.stopped(&stopped);
        assert_eq!(said(&watched), is("Stopped", false, false));
    }
}
