//! `weir status`, `lag` and `top`: pipelines of a daemon as numbers on a terminal, from its progress and states.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::remote::{Remote, read};
use super::{Exit, say, say_json, table};
use crate::clock::SystemClock;
use crate::config;
use crate::error::Result;
use crate::http::client::{Client, segment};
use crate::operations::status::Pipeline;
use crate::telemetry::recent::{PartitionBehind, Query};
use crate::telemetry::{count, time};

/// Pipelines of a daemon: state, lag, age of the newest commit, rate, dead letters.
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// Only this one
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Which come first
    #[arg(long, value_enum, default_value_t = Sort::Name)]
    sort: Sort,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

/// How far a pipeline of a daemon is behind, by topic and partition, as of its newest commit.
#[derive(Debug, Args)]
pub(super) struct LagArgs {
    /// Only this one
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

/// `weir status` again and again, until Ctrl-C.
#[derive(Debug, Args)]
pub(super) struct TopArgs {
    /// Which come first
    #[arg(long, value_enum, default_value_t = Sort::Lag)]
    sort: Sort,
    /// Time between two looks
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    every: Duration,
    /// So many looks, then the end; 0: no end
    #[arg(short = 'n', long, value_name = "N", default_value_t = 0)]
    count: u64,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    Name,
    State,
    Lag,
    Rate,
    Dead,
}

/// The shortest time between two looks: each asks the daemon once per pipeline.
const SHORTEST: Duration = Duration::from_millis(200);

fn duration(text: &str) -> std::result::Result<Duration, String> {
    match config::duration(text) {
        Ok(time) if time >= SHORTEST => Ok(time),
        Ok(_) => Err("expected 200ms or longer".to_owned()),
        Err(refusal) => Err(format!("expected {}", refusal.expected)),
    }
}

/// One pipeline.
#[derive(Debug, Serialize)]
struct Line {
    pipeline: String,
    state: String,
    lag: Option<u64>,
    /// Of the newest commit since the daemon began.
    committed: Option<String>,
    records_per_second: Option<f64>,
    /// Milliseconds from a record to its visible row, of the newest commit.
    latency_p99_ms: Option<u64>,
    dead_letters: u64,
    records: u64,
    says: String,
}

/// Commits that rates and sums are of: those of some minutes, mostly.
const COMMITS: u32 = 20;

fn lines(client: &Client, only: Option<&str>) -> Result<Vec<Line>> {
    let all: Vec<Pipeline> = read(client.get("/pipelines?expand=live")?)?;
    let wanted = |one: &&Pipeline| only.is_none_or(|name| one.name == name);
    let mut lines = Vec::new();
    for one in all.iter().filter(wanted) {
        let path = format!("/pipelines/{}/progress?limit={COMMITS}", segment(&one.name));
        // A file connector has no progress, and one may be deleted between two questions.
        let query: Option<Query> = client.get(&path).ok().map(read).transpose()?;
        lines.push(line(one, query.unwrap_or_default()));
    }
    if let (Some(name), true) = (only, lines.is_empty()) {
        // The daemon's own words for a name that it does not know.
        client.get(&format!("/pipelines/{}", segment(name)))?;
    }
    Ok(lines)
}

/// What is not committed, of the partitions that are named; at least what is not read, or was not at the newest commit.
fn lag_of(one: &Pipeline, query: &Query) -> Option<u64> {
    let unread = one.live.as_ref().and_then(|live| live.lag);
    let unread = unread.or_else(|| query.last_progress.as_ref()?.weir.lag);
    match query.behind.is_empty() {
        true => unread,
        false => query
            .behind
            .iter()
            .map(|part| part.lag)
            .sum::<u64>()
            .max(unread.unwrap_or(0))
            .into(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate is shown")]
fn line(one: &Pipeline, query: Query) -> Line {
    let recent = &query.recent_progress;
    let records: u64 = recent.iter().map(|p| p.num_input_rows).sum();
    let took: u64 = recent.iter().map(|p| p.batch_duration).sum();
    let trace = one.trace.as_deref().and_then(|trace| trace.lines().next());
    let says = one
        .alarm
        .as_deref()
        .or(trace)
        .unwrap_or(&query.status.message);
    let last = query.last_progress.as_ref();
    Line {
        pipeline: one.name.clone(),
        state: one.state.clone(),
        lag: lag_of(one, &query),
        committed: last.map(|p| p.timestamp.clone()),
        records_per_second: (took > 0).then(|| records as f64 * 1000.0 / took as f64),
        latency_p99_ms: last.and_then(|p| Some(p.weir.latency?.p99)),
        dead_letters: recent.iter().map(|p| p.weir.dead_letters).sum(),
        records,
        says: says.to_owned(),
    }
}

fn sorted(mut lines: Vec<Line>, by: Sort) -> Vec<Line> {
    lines.sort_by(|a, b| {
        let order = match by {
            Sort::Name => std::cmp::Ordering::Equal,
            Sort::State => a.state.cmp(&b.state),
            Sort::Lag => b.lag.cmp(&a.lag),
            Sort::Rate => {
                let rate = |line: &Line| line.records_per_second.unwrap_or(0.0);
                rate(b).total_cmp(&rate(a))
            }
            Sort::Dead => b.dead_letters.cmp(&a.dead_letters),
        };
        order.then_with(|| a.pipeline.cmp(&b.pipeline))
    });
    lines
}

/// `12 s`: since a commit.
fn age(committed: Option<&String>, now: i64) -> String {
    let at = committed.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    at.map_or_else(
        || "-".to_owned(),
        |at| {
            time(Duration::from_micros(
                u64::try_from(now - at.as_microsecond()).unwrap_or(0),
            ))
        },
    )
}

fn show(lines: &[Line], now: i64) {
    let header = [
        "PIPELINE", "STATE", "LAG", "COMMIT", "REC/S", "LATENCY", "DEAD", "SAYS",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for line in lines {
        rows.push(vec![
            line.pipeline.clone(),
            line.state.clone(),
            or_none(line.lag.map(count)),
            age(line.committed.as_ref(), now),
            or_none(line.records_per_second.map(|rate| format!("{rate:.0}"))),
            or_none(
                line.latency_p99_ms
                    .map(|ms| time(Duration::from_millis(ms))),
            ),
            count(line.dead_letters),
            line.says.clone(),
        ]);
    }
    table(&rows);
}

pub(super) fn status(args: &WatchArgs) -> Result<Exit> {
    let client = args.remote.daemon()?;
    let lines = sorted(lines(&client, args.name.as_deref())?, args.sort);
    if args.json {
        lines.iter().try_for_each(say_json)?;
        return Ok(Exit::Ok);
    }
    if lines.is_empty() {
        say(format!("no pipelines at {}", client.url()));
        return Ok(Exit::Ok);
    }
    show(&lines, SystemClock::shared().now_micros());
    Ok(Exit::Ok)
}

pub(super) fn top(args: &TopArgs) -> Result<Exit> {
    let client = args.remote.daemon()?;
    let clock = SystemClock::shared();
    let mut looks = 0;
    loop {
        let lines = sorted(lines(&client, None)?, args.sort);
        if io::stdout().is_terminal() {
            // To the upper left, and nothing below.
            let _closed = io::stdout().lock().write_all(b"\x1b[H\x1b[2J");
        }
        let running = lines.iter().filter(|line| line.state == "RUNNING").count();
        say(format!(
            "{}: {running} of {} running",
            client.url(),
            lines.len()
        ));
        show(&lines, clock.now_micros());
        looks += 1;
        if looks == args.count {
            return Ok(Exit::Ok);
        }
        clock.sleep(args.every);
    }
}

/// One partition.
#[derive(Debug, Serialize)]
struct Behind {
    pipeline: String,
    topic: String,
    partition: i32,
    committed: i64,
    end: Option<i64>,
    lag: Option<u64>,
}

pub(super) fn lag(args: &LagArgs) -> Result<Exit> {
    let client = args.remote.daemon()?;
    let all: Vec<Pipeline> = read(client.get("/pipelines?expand=log")?)?;
    let mut found = Vec::new();
    for one in &all {
        if args.name.as_ref().is_none_or(|name| *name == one.name) {
            found.extend(behind(&client, one)?);
        }
    }
    if let (Some(name), true) = (&args.name, found.is_empty()) {
        client.get(&format!("/pipelines/{}", segment(name)))?;
    }
    if args.json {
        found.iter().try_for_each(say_json)?;
        return Ok(Exit::Ok);
    }
    let header = ["PIPELINE", "TOPIC", "PARTITION", "COMMITTED", "END", "LAG"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for one in &found {
        rows.push(vec![
            one.pipeline.clone(),
            one.topic.clone(),
            one.partition.to_string(),
            one.committed.to_string(),
            or_none(one.end.map(|end| end.to_string())),
            or_none(one.lag.map(count)),
        ]);
    }
    table(&rows);
    Ok(Exit::Ok)
}

/// Positions of the log, and the ends that the sources know; where nobody reads, those that the newest commits named.
fn behind(client: &Client, one: &Pipeline) -> Result<Vec<Behind>> {
    let Some(log) = &one.log else {
        return Ok(Vec::new());
    };
    let path = format!("/pipelines/{}/progress", segment(&one.name));
    let query: Query = read(client.get(&path)?)?;
    let end = |topic: &str, partition: i32| {
        let commits = query.recent_progress.iter().rev();
        let sources = commits.flat_map(|commit| &commit.sources);
        let mut ends = sources.filter_map(|source| {
            let of_topic = source.latest_offset.get(topic)?;
            of_topic.get(&partition.to_string()).copied()
        });
        ends.next()
    };
    let of = |position: &crate::pipeline::positions::Position| {
        let place = |one: &&PartitionBehind| {
            one.topic == position.topic && one.partition == position.partition
        };
        let lag = query.behind.iter().find(place).map(|one| one.lag);
        let now = lag.map(|lag| position.to.saturating_add_unsigned(lag));
        let end = now.or_else(|| end(&position.topic, position.partition));
        let end = end.map(|end| end.max(position.to));
        Behind {
            pipeline: one.name.clone(),
            topic: position.topic.clone(),
            partition: position.partition,
            committed: position.to,
            lag: end.map(|end| u64::try_from(end - position.to).unwrap_or(0)),
            end,
        }
    };
    Ok(log.positions.iter().map(of).collect())
}
