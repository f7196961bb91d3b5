//! `/metrics`: Kafka Connect's names as dashboards have them (`kafka_connect_<group>_<attribute>`), and ours (`weir_…`).
//!
//! Made at the scrape from the present values; nothing is sampled in between. A pipeline commits for all its tasks
//! together, so what Connect counts per task is counted per pipeline and shown under task 0.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::meters::{COMMIT_BUCKETS, LATENCY_BUCKETS, Meter, Spread};
use super::process::Process;
use crate::commit::{Left, Role, State};
use crate::record::{SplitId, TopicPartition};

/// One pipeline at the moment of a scrape; words as Connect's metrics have them, in lower case.
#[derive(Clone, Debug)]
pub struct Shown {
    pub name: String,
    pub class: String,
    pub kind: &'static str,
    pub state: String,
    pub target: String,
    /// State of each task.
    pub tasks: Vec<String>,
    pub restarts: u64,
    pub failures: u64,
    /// When it reads again, microseconds since 1970 UTC.
    pub next_run: Option<i64>,
    pub meter: Meter,
    /// What left its zone by its age, by table; over the life of the zone.
    pub left: BTreeMap<String, Left>,
    /// Files of these that are not deleted yet.
    pub leaving: u64,
    /// Files that should be deleted, and cannot be.
    pub undeleted: u64,
    /// A person should look at it, although it may go on.
    pub alarm: bool,
    /// What the guard of `errors.max` did, and how often.
    pub acts: BTreeMap<&'static str, u64>,
    /// The most behind first.
    pub partitions: Vec<PartitionLag>,
}

/// Offsets between the last commit and the end, as the source last said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionLag {
    pub tp: TopicPartition,
    pub lag: u64,
}

/// Partitions of one pipeline whose lag is shown: those that are the most behind. With 50 pipelines that is as many series as a small
/// Prometheus takes from one target.
const PARTITIONS: usize = 200;

/// By what the source said last, and what the log has committed. What is not read any more, as of a topic that was deleted, has
/// none.
pub fn partition_lags(state: &State, ends: &BTreeMap<SplitId, i64>) -> Vec<PartitionLag> {
    let lag = state.splits.iter().filter_map(|(id, split)| {
        let lag = u64::try_from(ends.get(id)? - split.to).unwrap_or(0);
        let tp = TopicPartition {
            topic: split.topic.as_str().into(),
            partition: split.partition,
        };
        Some(PartitionLag { tp, lag })
    });
    let mut all: Vec<PartitionLag> = lag.collect();
    all.sort_by(|a, b| b.lag.cmp(&a.lag).then_with(|| a.tp.cmp(&b.tp)));
    all
}

pub const STATES: [&str; 6] = [
    "unassigned",
    "running",
    "paused",
    "failed",
    "restarting",
    "stopped",
];

type Labels = Vec<(&'static str, String)>;

/// What left a zone by its age, by table, and how many files of these are not deleted yet.
pub fn left_by_age(state: &State) -> (BTreeMap<String, Left>, u64) {
    let rows = state.leaving.values();
    let rows = rows.filter(|leaving| leaving.file.role != Role::Keys);
    (state.left.clone(), rows.count() as u64)
}

/// The text of a scrape. `now`: of the clock that counted.
pub fn text(pipelines: &[Shown], now: Duration) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape {
        metrics: collected(pipelines, now),
    }));
    let mut out = String::new();
    match prometheus_client::encoding::text::encode(&mut out, &registry) {
        Ok(()) => out,
        // Writing to a string does not fail.
        Err(fmt::Error) => String::new(),
    }
}

#[derive(Debug)]
struct Scrape {
    metrics: Vec<Metric>,
}

#[derive(Debug)]
struct Metric {
    name: String,
    help: &'static str,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Gauge(Vec<(Labels, f64)>),
    /// `_total` is added to the name.
    Counter(Vec<(Labels, f64)>),
    Histogram(Vec<(Labels, Counted)>),
}

/// How often what was measured lay below each bound, not summed.
#[derive(Clone, Debug)]
struct Counted {
    bounds: &'static [f64],
    buckets: Vec<u64>,
    of: Spread,
}

const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, f64>> = None;

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in &self.metrics {
            let kind = match metric.values {
                Values::Gauge(_) => MetricType::Gauge,
                Values::Counter(_) => MetricType::Counter,
                Values::Histogram(_) => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(&metric.name, metric.help, None, kind)?;
            match &metric.values {
                Values::Gauge(samples) => {
                    for (labels, value) in samples {
                        match labels.is_empty() {
                            true => family.encode_gauge(value)?,
                            false => family.encode_family(labels)?.encode_gauge(value)?,
                        }
                    }
                }
                Values::Counter(samples) => {
                    for (labels, value) in samples {
                        let none = NO_EXEMPLAR;
                        match labels.is_empty() {
                            true => family.encode_counter(value, none)?,
                            false => family.encode_family(labels)?.encode_counter(value, none)?,
                        }
                    }
                }
                Values::Histogram(samples) => {
                    for (
                        labels,
                        Counted {
                            bounds,
                            buckets,
                            of,
                        },
                    ) in samples
                    {
                        let counted: u64 = buckets.iter().sum();
                        let bounds = bounds.iter().copied();
                        let mut buckets: Vec<(f64, u64)> =
                            bounds.zip(buckets.iter().copied()).collect();
                        buckets.push((f64::INFINITY, of.count.saturating_sub(counted)));
                        let (sum, count) = (of.sum, of.count);
                        let mut one = family.encode_family(labels)?;
                        one.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Names in the order in which they were first used.
struct Metrics {
    order: Vec<Metric>,
    at: BTreeMap<String, usize>,
}

impl Metrics {
    fn at(&mut self, name: &str, help: &'static str, empty: Values) -> &mut Values {
        let next = self.order.len();
        let at = *self.at.entry(name.to_owned()).or_insert(next);
        if at == next {
            self.order.push(Metric {
                name: name.to_owned(),
                help,
                values: empty,
            });
        }
        &mut self.order[at].values
    }

    fn gauge(&mut self, name: &str, help: &'static str, labels: Labels, value: f64) {
        if let Values::Gauge(samples) = self.at(name, help, Values::Gauge(Vec::new())) {
            samples.push((labels, value));
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus has floats only")]
    fn count(&mut self, name: &str, help: &'static str, labels: Labels, value: u64) {
        if let Values::Counter(samples) = self.at(name, help, Values::Counter(Vec::new())) {
            samples.push((labels, value as f64));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has floats only")]
fn float(n: u64) -> f64 {
    n as f64
}

fn collected(pipelines: &[Shown], now: Duration) -> Vec<Metric> {
    let mut all = Metrics {
        order: Vec::new(),
        at: BTreeMap::new(),
    };
    worker(&mut all, pipelines);
    if let Some(now) = Process::now() {
        process(&mut all, &now);
    }
    for one in pipelines {
        ours(&mut all, one);
        alarms(&mut all, one);
        left(&mut all, one);
        connector(&mut all, one);
        if !one.tasks.is_empty() || one.meter.starts > 0 {
            tasks(&mut all, one, now);
        }
    }
    all.order
}

fn worker(all: &mut Metrics, pipelines: &[Shown]) {
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    all.gauge("weir_build_info", "The program's version", version, 1.0);
    let count = |n: usize| float(n as u64);
    let group = "kafka_connect_connect_worker_metrics";
    let tasks = pipelines.iter().map(|p| p.tasks.len()).sum();
    let starts = pipelines.iter().map(|p| p.meter.starts).sum();
    let failures = pipelines.iter().map(|p| p.failures).sum::<u64>();
    let aggregate = || vec![("connector", "aggregate".to_owned())];
    for (name, value) in [
        ("connector_count", count(pipelines.len())),
        ("task_count", count(tasks)),
    ] {
        let name = format!("{group}_{name}");
        all.gauge(&name, "Of this worker", aggregate(), value);
    }
    for of in ["connector", "task"] {
        for (what, n) in [
            ("attempts", starts + failures),
            ("success", starts),
            ("failure", failures),
        ] {
            let name = format!("{group}_{of}_startup_{what}");
            all.count(
                &name,
                "Starts of pipelines since the process began",
                aggregate(),
                n,
            );
        }
    }
    for one in pipelines {
        let labels = || vec![("connector", one.name.clone())];
        let name = format!("{group}_connector_total_task_count");
        all.gauge(&name, "Tasks", labels(), count(one.tasks.len()));
        for state in STATES
            .into_iter()
            .filter(|s| *s != "stopped")
            .chain(["destroyed"])
        {
            let in_state = one.tasks.iter().filter(|task| *task == state).count();
            let name = format!("{group}_connector_{state}_task_count");
            all.gauge(&name, "Tasks in this state", labels(), count(in_state));
        }
    }
}

/// By the names of Prometheus' client libraries.
fn process(all: &mut Metrics, now: &Process) {
    let help = "User and system time of this process";
    if let Values::Counter(samples) =
        all.at("process_cpu_seconds", help, Values::Counter(Vec::new()))
    {
        samples.push((Labels::new(), now.cpu));
    }
    for (name, help, value) in [
        (
            "resident_memory_bytes",
            "Memory that it holds",
            now.resident,
        ),
        ("virtual_memory_bytes", "Addresses that it holds", now.virt),
        ("threads", "Its threads", now.threads),
        (
            "open_fds",
            "Files and sockets that it holds open",
            now.open_files,
        ),
        ("max_fds", "How many it may hold open", now.most_files),
        (
            "start_time_seconds",
            "When it began, since 1970 UTC",
            now.started,
        ),
    ] {
        all.gauge(&format!("process_{name}"), help, Labels::new(), value);
    }
}

fn connector(all: &mut Metrics, one: &Shown) {
    let group = "kafka_connect_connector_metrics";
    for (attribute, value) in [
        ("status", one.state.as_str()),
        ("connector_class", &one.class),
        ("connector_type", one.kind),
        ("connector_version", env!("CARGO_PKG_VERSION")),
    ] {
        let labels = || {
            vec![
                ("connector", one.name.clone()),
                (attribute, value.to_owned()),
            ]
        };
        all.gauge(group, "Text attributes of a connector", labels(), 1.0);
        let info = format!("{group}_{attribute}_info");
        all.gauge(&info, "A text attribute of a connector", labels(), 1.0);
    }
    for (task, state) in one.tasks.iter().enumerate() {
        let group = "kafka_connect_connector_task_metrics";
        let labels = || {
            let task = ("task", task.to_string());
            vec![
                ("connector", one.name.clone()),
                task,
                ("status", state.clone()),
            ]
        };
        all.gauge(group, "Text attributes of a task", labels(), 1.0);
        let info = format!("{group}_status_info");
        all.gauge(&info, "State of a task", labels(), 1.0);
        let labels = || vec![("connector", one.name.clone()), ("task", task.to_string())];
        for (attribute, of) in [("running_ratio", "running"), ("pause_ratio", "paused")] {
            let name = format!("{group}_{attribute}");
            let now = f64::from(u8::from(state == of));
            all.gauge(&name, "1 in this state, else 0, now", labels(), now);
        }
    }
}

fn tasks(all: &mut Metrics, one: &Shown, now: Duration) {
    let labels = || vec![("connector", one.name.clone()), ("task", "0".to_owned())];
    let meter = &one.meter;
    let (read, sent) = meter.rates(now);
    let help = "Of all tasks of the pipeline, which commit together";
    let ms = 1000.0;
    for (name, value) in [
        ("connector_task_metrics_batch_size_avg", meter.batch.mean()),
        ("connector_task_metrics_batch_size_max", meter.batch.max),
        (
            "connector_task_metrics_offset_commit_avg_time_ms",
            meter.commit.mean() * ms,
        ),
        (
            "connector_task_metrics_offset_commit_max_time_ms",
            meter.commit.max * ms,
        ),
        (
            "connector_task_metrics_offset_commit_success_percentage",
            f64::from(u8::from(meter.commits > 0)),
        ),
        ("sink_task_metrics_sink_record_read_rate", read),
        ("sink_task_metrics_sink_record_send_rate", sent),
        (
            "sink_task_metrics_partition_count",
            float(meter.partitions.len() as u64),
        ),
        (
            "sink_task_metrics_offset_commit_seq_no",
            float(meter.version),
        ),
        (
            "task_error_metrics_total_record_failures",
            float(meter.ledger.records.refused),
        ),
        (
            "task_error_metrics_total_record_errors",
            float(meter.ledger.records.refused_at_least()),
        ),
        (
            "task_error_metrics_total_records_skipped",
            float(meter.ledger.records.refused),
        ),
        ("task_error_metrics_total_retries", float(meter.waits)),
        (
            "task_error_metrics_total_errors_logged",
            float(one.failures + meter.waits),
        ),
        (
            "task_error_metrics_deadletterqueue_produce_requests",
            float(meter.ledger.dead_letters),
        ),
        ("task_error_metrics_deadletterqueue_produce_failures", 0.0),
        #[expect(clippy::cast_precision_loss, reason = "Prometheus has floats only")]
        (
            "task_error_metrics_last_error_timestamp",
            meter.last_error.unwrap_or(0) as f64,
        ),
    ] {
        all.gauge(&format!("kafka_connect_{name}"), help, labels(), value);
    }
    if let Some(lag) = meter.lag {
        let name = "kafka_connect_sink_task_metrics_sink_record_lag_max";
        all.gauge(
            name,
            "Records that are not read yet, over all partitions",
            labels(),
            float(lag),
        );
    }
    for (name, value) in [
        ("sink_record_read", meter.ledger.records.read),
        ("sink_record_send", meter.ledger.rows.written),
        ("offset_commit_completion", meter.commits),
        ("offset_commit_skip", 0),
    ] {
        let name = format!("kafka_connect_sink_task_metrics_{name}");
        all.count(&name, help, labels(), value);
    }
}

/// What left the zone by its age.
fn left(all: &mut Metrics, one: &Shown) {
    for (table, left) in &one.left {
        for (name, help, n) in [
            ("expired_files", "Files whose rows expired", left.files),
            (
                "expired_rows",
                "Rows and dead letters that expired",
                left.rows,
            ),
            ("expired_bytes", "Bytes of files that expired", left.bytes),
            (
                "archived_files",
                "Files that expired and were archived",
                left.archived_files,
            ),
            (
                "archived_bytes",
                "Bytes of files that expired and were archived",
                left.archived_bytes,
            ),
        ] {
            let labels = vec![("pipeline", one.name.clone()), ("table", table.clone())];
            all.count(&format!("weir_{name}"), help, labels, n);
        }
    }
    if !one.left.is_empty() {
        let help = "Files that expired and are not deleted yet";
        let labels = vec![("pipeline", one.name.clone())];
        all.gauge("weir_expired_files_left", help, labels, float(one.leaving));
        let help = "Files that expired and cannot be deleted: they are in nobody's way, but the log does not get shorter";
        let labels = vec![("pipeline", one.name.clone())];
        all.gauge("weir_undeleted_files", help, labels, float(one.undeleted));
    }
}

fn ours(all: &mut Metrics, one: &Shown) {
    let meter = &one.meter;
    let labels = || vec![("pipeline", one.name.clone())];
    let with = |key: &'static str, value: &str| {
        vec![("pipeline", one.name.clone()), (key, value.to_owned())]
    };
    for state in STATES {
        let now = f64::from(u8::from(one.state == state));
        let help = "1 for the state that it is in, 0 for the others";
        all.gauge("weir_pipeline_state", help, with("state", state), now);
    }
    let target = with("target", &one.target);
    all.gauge(
        "weir_pipeline_target",
        "What somebody wants of it (the target state)",
        target,
        1.0,
    );
    let tasks = float(one.tasks.len() as u64);
    all.gauge(
        "weir_pipeline_tasks",
        "Tasks of its last start",
        labels(),
        tasks,
    );
    if let Some(next) = one.next_run {
        let help = "When it reads again, while it does nothing until then";
        let seconds = Duration::from_micros(next.unsigned_abs()).as_secs_f64();
        let name = "weir_pipeline_next_run_timestamp_seconds";
        all.gauge(name, help, labels(), seconds);
    }
    if let Some(last) = meter.last_commit {
        let help = "Time of its last commit since the process began, since 1970 UTC";
        let seconds = Duration::from_micros(last.unsigned_abs()).as_secs_f64();
        let name = "weir_last_commit_timestamp_seconds";
        all.gauge(name, help, labels(), seconds);
    }
    let waiting = f64::from(u8::from(meter.waiting));
    let help = "1 while a broker or a store is away and waited for";
    all.gauge("weir_pipeline_waiting", help, labels(), waiting);
    let version = float(meter.version);
    all.gauge(
        "weir_log_version",
        "Newest version of its commit log",
        labels(),
        version,
    );
    if let Some(lag) = meter.lag {
        all.gauge(
            "weir_lag_records",
            "Records that are not read yet; weir_partition_lag has what is not committed",
            labels(),
            float(lag),
        );
    }
    for (name, help, n) in [
        (
            "weir_restarts",
            "Times that it began again, by itself or on request",
            one.restarts,
        ),
        ("weir_failures", "Times that it failed", one.failures),
        (
            "weir_waits",
            "Times that something away was waited for",
            meter.waits,
        ),
        (
            "weir_commits",
            "Commits with rows or offsets",
            meter.commits,
        ),
        (
            "weir_swaps",
            "Times that other rules came into force",
            meter.swaps,
        ),
        (
            "weir_records_read",
            "Records read and committed",
            meter.ledger.records.read,
        ),
        (
            "weir_rows_made",
            "Rows that the rules made",
            meter.ledger.rows.made,
        ),
        (
            "weir_dead_letters",
            "Rows of the dead-letter table",
            meter.ledger.dead_letters,
        ),
        (
            "weir_gap_offsets",
            "Offsets that were gone before they were read",
            meter.lost,
        ),
        ("weir_files", "Files committed", meter.files),
        ("weir_bytes", "Bytes of files committed", meter.bytes),
    ] {
        all.count(name, help, labels(), n);
    }
    let (records, rows) = (&meter.ledger.records, &meter.ledger.rows);
    for (fate, n) in [
        ("with_rows", records.with_rows),
        ("refused", records.refused),
        ("filtered", records.filtered),
    ] {
        let help = "Records by fate; the fates add up to what was read";
        all.count("weir_records", help, with("fate", fate), n);
    }
    for (fate, n) in [
        ("written", rows.written),
        ("refused", rows.refused),
        ("filtered", rows.filtered),
        ("duplicates", rows.duplicates),
        ("late", rows.late),
    ] {
        let help = "Rows by fate; the fates add up to what was made";
        all.count("weir_rows", help, with("fate", fate), n);
    }
    let stages = &meter.stages;
    for (stage, time) in [
        ("read", stages.read),
        ("transform", stages.transform),
        ("write", stages.write),
        ("seal", stages.seal),
        ("commit", stages.commit),
    ] {
        let name = "weir_stage_seconds";
        let help = "Time of all tasks by stage";
        if let Values::Counter(samples) = all.at(name, help, Values::Counter(Vec::new())) {
            samples.push((with("stage", stage), time.as_secs_f64()));
        }
    }
    for (transform, counts) in &meter.counters {
        for (counter, n) in counts {
            let mut labels = with("transform", transform);
            labels.push(("counter", counter.clone()));
            all.count("weir_plugin_counter", "What plugins counted", labels, *n);
        }
    }
    times(all, one);
}

/// Histograms.
fn times(all: &mut Metrics, one: &Shown) {
    let meter = &one.meter;
    for (name, help, counted) in [
        (
            "weir_commit_seconds",
            "From the first file made durable to the last one published",
            Counted {
                bounds: &COMMIT_BUCKETS,
                buckets: meter.commit_buckets.to_vec(),
                of: meter.commit,
            },
        ),
        (
            "weir_event_latency_seconds",
            "From the time of a record to the moment when its rows can be read",
            Counted {
                bounds: &LATENCY_BUCKETS,
                buckets: meter.latency_buckets.to_vec(),
                of: meter.latency,
            },
        ),
    ] {
        if let Values::Histogram(samples) = all.at(name, help, Values::Histogram(Vec::new())) {
            samples.push((vec![("pipeline", one.name.clone())], counted));
        }
    }
}

/// What a person should look at.
fn alarms(all: &mut Metrics, one: &Shown) {
    let labels = || vec![("pipeline", one.name.clone())];
    let help = "1 while a person should look at it; GET /pipelines/NAME says why";
    let alarm = f64::from(u8::from(one.alarm));
    all.gauge("weir_pipeline_alarm", help, labels(), alarm);
    for action in ["warn", "pause", "rollback"] {
        let help = "What errors.max.action did, since the process began";
        let n = one.acts.get(action).copied().unwrap_or(0);
        let mut labels = labels();
        labels.push(("action", action.to_owned()));
        all.count("weir_guard_acts", help, labels, n);
    }
    for ((transform, code), n) in &one.meter.refusals {
        let mut labels = labels();
        labels.push(("transform", transform.clone()));
        labels.push(("code", code.clone()));
        let help = "Dead letters by the transform that refused and the code of the first reason";
        all.count("weir_refusals", help, labels, *n);
    }
    for part in one.partitions.iter().take(PARTITIONS) {
        let mut labels = labels();
        labels.push(("topic", part.tp.topic.to_string()));
        labels.push(("partition", part.tp.partition.to_string()));
        let help = "Offsets between the last commit and the end of the partition";
        all.gauge("weir_partition_lag", help, labels, float(part.lag));
    }
    if !one.partitions.is_empty() {
        let help = "Partitions whose lag is not shown, because there are too many";
        let hidden = one.partitions.len().saturating_sub(PARTITIONS) as u64;
        all.gauge("weir_partitions_hidden", help, labels(), float(hidden));
    }
    let help = "Time from the proof of an entry to its last file in place";
    if let Values::Counter(samples) =
        all.at("weir_publish_seconds", help, Values::Counter(Vec::new()))
    {
        samples.push((labels(), one.meter.publish.sum));
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
