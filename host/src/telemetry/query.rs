//! A commit in the names of Spark's `StreamingQueryProgress`, and what Spark has not under one key, `weir`.
//!
//! Progress lines, REST and the webhook show this one type. What each field means here is in docs/progress.md.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::events::{CommitReport, Counters, Durations, SpanReport, ms, rate};
use crate::chain::{Records, Rows};
use crate::commit::Rule;
use crate::instant::utc;
use crate::record::Latency;
use crate::sink::Refusals;

/// Most files that one commit's progress names; `weir log` has all of them.
const FILES: usize = 20;
/// Most partitions whose offsets are named, over all topics: those with the most records. A progress stays below some 100 KiB.
const PARTITIONS: usize = 512;

/// Topic → partition → next offset, as Spark writes offsets of Kafka.
pub type Offsets = BTreeMap<String, BTreeMap<String, i64>>;

/// One commit, in the names of Spark's `StreamingQueryProgress`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueryProgress {
    /// Of the commit log: the same after a restart, another one after the zone was deleted.
    pub id: String,
    /// Of this run.
    pub run_id: String,
    pub name: String,
    /// When the commit was made, UTC.
    pub timestamp: String,
    /// Version of the commit. It grows; versions that settle no records are left out.
    pub batch_id: u64,
    /// Milliseconds since the commit before, or since the start.
    pub batch_duration: u64,
    /// Records, or rows of a zone.
    pub num_input_rows: u64,
    /// Over `batchDuration`; left out where that is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_rows_per_second: Option<f64>,
    /// Over `durationMs.triggerExecution`; left out where that is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processed_rows_per_second: Option<f64>,
    pub duration_ms: DurationMs,
    /// Left out where no record has a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_time: Option<EventTime>,
    /// Empty: no transform keeps state.
    pub state_operators: Vec<serde_json::Map<String, serde_json::Value>>,
    pub sources: Vec<SourceProgress>,
    pub sink: SinkProgress,
    /// What plugins counted: transform → counter → amount.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub observed_metrics: Counters,
    pub weir: Beside,
}

/// Milliseconds of the tasks together, by Spark's operations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DurationMs {
    /// Transforms, encoding, closing of files.
    pub add_batch: u64,
    /// From the first file made durable to the last one published, the entry of the log between them.
    pub commit_offsets: u64,
    /// Records of the source to columns.
    pub get_batch: u64,
    /// 0: a source is asked beside reading.
    pub latest_offset: u64,
    /// 0: nothing is planned.
    pub query_planning: u64,
    /// All of it.
    pub trigger_execution: u64,
    /// 0: one entry is the write-ahead log and the commit.
    pub wal_commit: u64,
}

/// When the records of the commit were made, UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventTime {
    pub avg: String,
    pub max: String,
    pub min: String,
}

/// One topic, or one table of a zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceProgress {
    pub description: String,
    pub start_offset: Offsets,
    pub end_offset: Offsets,
    /// Where the partitions ended, as the source last said; without those of which it said nothing.
    pub latest_offset: Offsets,
    pub num_input_rows: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_rows_per_second: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processed_rows_per_second: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SourceMetrics>,
}

/// Numbers as texts, as in Spark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceMetrics {
    pub avg_offsets_behind_latest: String,
    pub max_offsets_behind_latest: String,
    pub min_offsets_behind_latest: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SinkProgress {
    pub description: String,
    /// Rows written.
    pub num_output_rows: u64,
}

/// What Spark's progress has not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Beside {
    pub version: u64,
    /// `data`, `batch` or `gap`.
    pub kind: String,
    /// Records that are not read yet; null where the source cannot say.
    pub lag: Option<u64>,
    pub dead_letters: u64,
    /// Transform → code of the first reason → dead letters.
    pub refusals: Counters,
    pub duplicates: u64,
    pub ledger: ProgressLedger,
    /// Files of rows and dead letters.
    pub files: u64,
    /// With key sidecars.
    pub bytes: u64,
    /// The first of the files.
    pub outputs: Vec<Output>,
    /// There are more than are named in `outputs`.
    pub more_outputs: bool,
    /// The version that put the rules in force which made these rows.
    pub generation: Option<u64>,
    pub rules: Vec<Rule>,
    /// Offsets that were gone before they were read.
    pub lost_offsets: u64,
    pub latency: Option<LatencyMs>,
    pub stage_ms: StageMs,
    /// There are more partitions than are named in `sources`.
    pub more_partitions: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProgressLedger {
    pub records: Records,
    pub rows: Rows,
    pub closes: bool,
}

/// A file, or what another system took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// Below the zone's root; of another system its name.
    pub path: String,
    pub rows: u64,
    /// 0 where another system took it.
    pub bytes: u64,
    /// `sha256:…` of its bytes; null where another system took it.
    pub digest: Option<String>,
}

/// From the time of a record to the moment when its rows can be read, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LatencyMs {
    /// Records with a time.
    pub records: u64,
    pub min: u64,
    pub mean: u64,
    /// 99 of 100 records took no longer, to a 64th of the time between the oldest and the newest.
    pub p99: u64,
    pub max: u64,
}

/// Milliseconds of the tasks together, by stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StageMs {
    pub read: u64,
    pub transform: u64,
    pub write: u64,
    pub seal: u64,
    pub commit: u64,
    /// A part of `commit`: from the proof of the entry to the last file in its final place.
    pub publish: u64,
}

impl From<Latency> for LatencyMs {
    fn from(latency: Latency) -> LatencyMs {
        LatencyMs {
            records: latency.records,
            min: ms(latency.min),
            mean: ms(latency.mean),
            p99: ms(latency.p99),
            max: ms(latency.max),
        }
    }
}

impl QueryProgress {
    pub fn of(report: &CommitReport) -> QueryProgress {
        let Durations {
            read,
            transform,
            write,
            seal,
            commit,
        } = report.durations;
        let busy = report.durations.total();
        let records = report.ledger.records.read;
        let (spans, more_partitions) = shown(&report.spans);
        QueryProgress {
            id: report.id.clone(),
            run_id: report.run_id.clone(),
            name: report.pipeline.clone(),
            timestamp: utc(report.time, 3),
            batch_id: report.version,
            batch_duration: ms(report.since_last),
            num_input_rows: records,
            input_rows_per_second: rate(records, report.since_last),
            processed_rows_per_second: rate(records, busy),
            duration_ms: DurationMs {
                add_batch: ms(transform + write + seal),
                commit_offsets: ms(commit),
                get_batch: ms(read),
                trigger_execution: ms(busy),
                ..DurationMs::default()
            },
            event_time: event_time(report),
            state_operators: Vec::new(),
            sources: topics(&spans)
                .into_iter()
                .map(|topic| source(report, &spans, topic))
                .collect(),
            sink: SinkProgress {
                description: report.sink.clone(),
                num_output_rows: report.ledger.rows.written,
            },
            observed_metrics: report.counters.clone(),
            weir: Beside::of(report, more_partitions),
        }
    }
}

impl Beside {
    fn of(report: &CommitReport, more_partitions: bool) -> Beside {
        let stages = report.durations;
        Beside {
            version: report.version,
            kind: report.kind.to_owned(),
            lag: report.lag,
            dead_letters: report.ledger.dead_letters,
            refusals: by_transform(&report.refusals),
            duplicates: report.ledger.rows.duplicates,
            ledger: ProgressLedger {
                records: report.ledger.records,
                rows: report.ledger.rows,
                closes: report.ledger.closes(),
            },
            files: report.files,
            bytes: report.bytes,
            outputs: report.outputs.iter().take(FILES).cloned().collect(),
            more_outputs: report.outputs.len() > FILES,
            generation: report.generation,
            rules: report.rules.clone(),
            lost_offsets: report.spans.iter().map(|s| s.lost).sum(),
            latency: report.times.latency(report.visible).map(LatencyMs::from),
            stage_ms: StageMs {
                read: ms(stages.read),
                transform: ms(stages.transform),
                write: ms(stages.write),
                seal: ms(stages.seal),
                commit: ms(stages.commit),
                publish: ms(report.publish),
            },
            more_partitions,
        }
    }
}

fn by_transform(refusals: &Refusals) -> Counters {
    let mut all = Counters::new();
    for ((transform, code), n) in refusals {
        let codes = all.entry(transform.clone()).or_default();
        *codes.entry(code.clone()).or_default() += n;
    }
    all
}

fn event_time(report: &CommitReport) -> Option<EventTime> {
    let times = &report.times;
    Some(EventTime {
        avg: utc(times.mean()?, 3),
        max: utc(times.max()?, 3),
        min: utc(times.min()?, 3),
    })
}

/// At most [`PARTITIONS`], and whether there are more.
fn shown(spans: &[SpanReport]) -> (Vec<&SpanReport>, bool) {
    let mut all: Vec<&SpanReport> = spans.iter().collect();
    let more = all.len() > PARTITIONS;
    if more {
        all.sort_by_key(|span| std::cmp::Reverse(span.records));
        all.truncate(PARTITIONS);
    }
    (all, more)
}

fn topics<'a>(spans: &[&'a SpanReport]) -> Vec<&'a str> {
    let mut topics: Vec<&str> = spans.iter().map(|s| s.topic.as_str()).collect();
    topics.sort_unstable();
    topics.dedup();
    topics
}

fn source(report: &CommitReport, spans: &[&SpanReport], topic: &str) -> SourceProgress {
    let of_topic = || spans.iter().filter(|s| s.topic == topic);
    let offsets = |of: fn(&SpanReport) -> Option<i64>| -> Offsets {
        let all = of_topic().filter_map(|s| Some((s.partition.to_string(), of(s)?)));
        BTreeMap::from([(topic.to_owned(), all.collect())])
    };
    let read: u64 = of_topic().map(|s| s.records).sum();
    let behind: Vec<u64> = of_topic().filter_map(|s| s.behind()).collect();
    SourceProgress {
        description: report.source.clone(),
        start_offset: offsets(|s| Some(s.from)),
        end_offset: offsets(|s| Some(s.to)),
        latest_offset: offsets(|s| s.latest),
        num_input_rows: read,
        input_rows_per_second: rate(read, report.since_last),
        processed_rows_per_second: rate(read, report.durations.total()),
        metrics: metrics(&behind),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a mean is shown")]
fn metrics(behind: &[u64]) -> Option<SourceMetrics> {
    let mean = behind.iter().sum::<u64>() as f64 / behind.len().max(1) as f64;
    Some(SourceMetrics {
        avg_offsets_behind_latest: format!("{mean:.1}"),
        max_offsets_behind_latest: behind.iter().max()?.to_string(),
        min_offsets_behind_latest: behind.iter().min()?.to_string(),
    })
}
