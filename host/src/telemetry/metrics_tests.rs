//! The text of a scrape: names, labels, sums; and that every line of it parses.

use super::super::Meters;
use super::super::events::tests::sample;
use super::super::events::{Report, Started};
use super::super::progress::{Progress, ProgressMode};
use super::*;
use crate::clock::{Clock as _, ManualClock};
use crate::commit::Left;

fn scrape() -> String {
    let clock = ManualClock::at(0);
    let meters = Meters::new(Progress::shared(ProgressMode::None), clock.clone());
    meters.started(&Started {
        pipeline: "books-raw".into(),
        source: String::new(),
        sink: String::new(),
        tasks: 2,
        version: 6,
        rules: Vec::new(),
        lag: None,
        id: String::new(),
        run_id: String::new(),
        recent: 1,
    });
    clock.advance(Duration::from_secs(10));
    let mut report = sample();
    report.durations.commit = Duration::from_millis(30);
    meters.committed(&report);
    report.durations.commit = Duration::from_secs(40);
    report.lag = Some(7);
    meters.committed(&report);
    // Some records are among both.
    let mut meter = meters.of("books-raw");
    meter.ledger.records.refused = 3;
    meter.ledger.records.refused_in_part = 2;
    let shown = Shown {
        name: "books-raw".into(),
        class: "weir".into(),
        kind: "sink",
        state: "running".into(),
        target: "running".into(),
        tasks: vec!["running".into(), "failed".into()],
        restarts: 1,
        failures: 2,
        next_run: Some(1_735_707_900_500_000),
        meter,
        left: [(
            "books".to_owned(),
            Left {
                files: 3,
                rows: 40,
                bytes: 700,
                archived_files: 2,
                ..Left::default()
            },
        )]
        .into(),
        leaving: 1,
        undeleted: 5,
        alarm: true,
        acts: [("pause", 1)].into(),
        partitions: vec![PartitionLag {
            tp: TopicPartition {
                topic: "books".into(),
                partition: 3,
            },
            lag: 12,
        }],
    };
    text(&[shown], clock.elapsed())
}

#[test]
fn a_scrape_has_connects_names_and_ours_with_their_values() {
    let text = scrape();
    let pipeline = "pipeline=\"books-raw\"";
    let connector = "connector=\"books-raw\"";
    for line in [
        format!("weir_pipeline_state{{{pipeline},state=\"running\"}} 1.0"),
        format!("weir_pipeline_state{{{pipeline},state=\"failed\"}} 0.0"),
        format!("weir_lag_records{{{pipeline}}} 7.0"),
        format!("weir_records_total{{{pipeline},fate=\"with_rows\"}} 80.0"),
        format!("weir_rows_total{{{pipeline},fate=\"written\"}} 160.0"),
        format!("weir_dead_letters_total{{{pipeline}}} 0.0"),
        format!("weir_restarts_total{{{pipeline}}} 1.0"),
        format!("weir_log_version{{{pipeline}}} 7.0"),
        format!("weir_expired_bytes_total{{{pipeline},table=\"books\"}} 700.0"),
        format!("weir_archived_files_total{{{pipeline},table=\"books\"}} 2.0"),
        format!("weir_expired_files_left{{{pipeline}}} 1.0"),
        format!("weir_undeleted_files{{{pipeline}}} 5.0"),
        format!("weir_pipeline_alarm{{{pipeline}}} 1.0"),
        format!("weir_guard_acts_total{{{pipeline},action=\"pause\"}} 1.0"),
        format!("weir_guard_acts_total{{{pipeline},action=\"warn\"}} 0.0"),
        format!("weir_refusals_total{{{pipeline},transform=\"flatten\",code=\"bad_int\"}} 4.0"),
        format!("weir_partition_lag{{{pipeline},topic=\"books\",partition=\"3\"}} 12.0"),
        format!("weir_partitions_hidden{{{pipeline}}} 0.0"),
        format!("weir_event_latency_seconds_bucket{{le=\"5.0\",{pipeline}}} 2"),
        format!("weir_event_latency_seconds_bucket{{le=\"10.0\",{pipeline}}} 4"),
        format!("weir_event_latency_seconds_count{{{pipeline}}} 4"),
        format!("weir_publish_seconds_total{{{pipeline}}} 0.014"),
        format!(
            "weir_plugin_counter_total{{{pipeline},transform=\"flatten\",counter=\"empty\"}} 6.0"
        ),
        format!("weir_commit_seconds_bucket{{le=\"0.05\",{pipeline}}} 1"),
        format!("weir_commit_seconds_bucket{{le=\"30.0\",{pipeline}}} 1"),
        format!("weir_commit_seconds_bucket{{le=\"+Inf\",{pipeline}}} 2"),
        format!("weir_commit_seconds_count{{{pipeline}}} 2"),
        "kafka_connect_connect_worker_metrics_connector_count{connector=\"aggregate\"} 1.0"
            .to_owned(),
        format!(
            "kafka_connect_connect_worker_metrics_connector_failed_task_count{{{connector}}} 1.0"
        ),
        format!("kafka_connect_connector_metrics{{{connector},status=\"running\"}} 1.0"),
        format!(
            "kafka_connect_connector_task_metrics_status_info{{{connector},task=\"1\",status=\"failed\"}} 1.0"
        ),
        format!(
            "kafka_connect_sink_task_metrics_sink_record_read_total{{{connector},task=\"0\"}} 80.0"
        ),
        format!(
            "kafka_connect_sink_task_metrics_sink_record_read_rate{{{connector},task=\"0\"}} 8.0"
        ),
        format!(
            "kafka_connect_task_error_metrics_deadletterqueue_produce_requests{{{connector},task=\"0\"}} 0.0"
        ),
        format!(
            "kafka_connect_task_error_metrics_total_record_errors{{{connector},task=\"0\"}} 3.0"
        ),
        format!(
            "kafka_connect_connector_task_metrics_batch_size_avg{{{connector},task=\"0\"}} 40.0"
        ),
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\nin\n{text}");
    }
}

/// One TYPE per name, samples of a name together, a number at the end of each: what every scraper relies on.
#[test]
fn a_scrape_is_well_formed() {
    let text = scrape();
    let mut seen: Vec<String> = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.split(' ').next().unwrap_or_default().to_owned();
            assert!(!seen.contains(&name), "{name} twice");
            seen.push(name);
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let family = seen.last().expect("a TYPE before");
            assert!(series.starts_with(family.as_str()), "{line} under {family}");
        }
    }
    assert!(
        text.ends_with("# EOF\n") && seen.len() > 40,
        "{}",
        seen.len()
    );
}

/// The dashboard and the alerts of `conf/` ask for nothing that is not there.
#[test]
fn the_dashboard_and_the_alerts_name_what_a_scrape_has() {
    let text = scrape();
    let series = text.lines().filter(|line| !line.starts_with('#'));
    let there: Vec<&str> = series.filter_map(|l| l.split(['{', ' ']).next()).collect();
    let conf = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf");
    for file in [
        "prometheus-alerts.yml",
        "prometheus-alerts-test.yml",
        "grafana.json",
    ] {
        let said = std::fs::read_to_string(conf.join(file)).expect(file);
        let words = said.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let ours = |word: &&str| word.starts_with("weir_") || word.starts_with("process_");
        let named: std::collections::BTreeSet<&str> = words.filter(ours).collect();
        assert!(named.len() >= 8, "{file}: {named:?}");
        let lacks: Vec<&&str> = named.iter().filter(|name| !there.contains(*name)).collect();
        assert!(lacks.is_empty(), "{file}: {lacks:?}\n{text}");
    }
}

/// `promtool test rules` makes each rule fire, and shows where it is quiet. Here: that none is left out.
#[test]
fn each_alert_has_a_case_that_fires_and_one_that_does_not() {
    let conf = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf");
    let read = |file| std::fs::read_to_string(conf.join(file)).expect(file);
    let (rules, cases) = (
        read("prometheus-alerts.yml"),
        read("prometheus-alerts-test.yml"),
    );
    let alerts = rules.lines().filter_map(|line| line.split_once("alert: "));
    let mut count = 0;
    for (_, alert) in alerts {
        let lines: Vec<&str> = cases.lines().collect();
        let at = |line: &str| {
            line.contains(&format!("alertname: {alert},"))
                || line.ends_with(&format!("alertname: {alert}"))
        };
        let of = lines.iter().enumerate().filter(|(_, line)| at(line));
        let quiet = |at: usize| {
            [at, at + 1].iter().any(|n| {
                lines
                    .get(*n)
                    .is_some_and(|line| line.contains("exp_alerts: []"))
            })
        };
        let (quiet, fires): (Vec<usize>, Vec<usize>) = of.map(|(n, _)| n).partition(|n| quiet(*n));
        assert!(
            !quiet.is_empty() && !fires.is_empty(),
            "{alert}: {quiet:?} {fires:?}"
        );
        count += 1;
    }
    assert_eq!(count, 14);
}
