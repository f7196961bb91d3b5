//! `weir zone compact`: small files of closed directories become large ones.

use std::sync::Arc;

use clap::Args;

use super::{Exit, place, say, say_value, table, to_stderr};
use crate::clock::{Clock, SystemClock};
use crate::config::Overlay;
use crate::error::Result;
use crate::operations::compact::{Asked, compact};
use crate::pipeline::compact::Report;
use crate::telemetry::{bytes, count};

#[derive(Debug, Args)]
pub(super) struct CompactArgs {
    /// Config files or names of pipelines that write zones; they may run
    #[arg(value_name = "NAME|FILE", required = true)]
    at: Vec<String>,
    /// Where to look for the config of a pipeline's name
    #[arg(long, value_name = "DIR", default_value = "conf")]
    conf: String,
    /// Only say what would be done, and who holds the rest back
    #[arg(long)]
    dry_run: bool,
    /// Only directories whose path has this text, such as ingest_date=2026-01-31
    #[arg(long, value_name = "TEXT")]
    partition: Option<String>,
    /// Dead letters too
    #[arg(long)]
    dead_letters: bool,
    /// Override a key
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Apply the tables [profile.NAME] of the files
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// One JSON object for each pipeline
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &CompactArgs) -> Result<Exit> {
    let overlay = Overlay {
        profile: args.profile.clone(),
        set: args.set.clone(),
    };
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let asked = Asked {
        dry_run: args.dry_run,
        letters: args.dead_letters,
        partition: args.partition.clone(),
    };
    let mut good = true;
    for at in &args.at {
        let config = place::config_of(at, &args.conf, &overlay)?;
        let report = compact(&config, &clock, &asked)?;
        good &= report.failed.is_empty();
        if args.json {
            let mut value = serde_json::to_value(&report).unwrap_or_default();
            if let Some(object) = value.as_object_mut() {
                object.insert("pipeline".into(), config.name.clone().into());
                object.insert("dry_run".into(), args.dry_run.into());
            }
            say_value(&value);
        } else {
            show(&config.name, &report, args.dry_run);
        }
    }
    Ok(if good { Exit::Ok } else { Exit::Failed })
}

fn show(pipeline: &str, report: &Report, dry_run: bool) {
    let done = &report.compacted;
    let sum =
        |of: fn(&crate::pipeline::compact::Compacted) -> u64| done.iter().map(of).sum::<u64>();
    let (files, rows, before) = (sum(|d| d.files), sum(|d| d.rows), sum(|d| d.bytes));
    let after = sum(|d| d.files_after);
    let verb = match dry_run {
        true => "would become",
        false => "became",
    };
    match done.is_empty() {
        true => say(format!("{pipeline}: nothing to compact")),
        false => say(format!(
            "{pipeline}: {} files with {} rows and {} {verb} {}{}",
            count(files),
            count(rows),
            bytes(before),
            count(after),
            match dry_run {
                true => String::new(),
                false => format!(
                    " of {} together",
                    bytes(sum(|d| d.bytes_after.unwrap_or(0)))
                ),
            }
        )),
    }
    if !done.is_empty() {
        let head = ["DIRECTORY", "FILES", "ROWS", "BYTES", "AFTER", "GAP"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for one in done {
            let size = one.bytes_after.map_or_else(|| "-".to_owned(), bytes);
            let gap = one
                .gap_ms
                .map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
            rows.push(vec![
                one.directory.clone(),
                format!("{} → {}", count(one.files), count(one.files_after)),
                count(one.rows),
                bytes(one.bytes),
                size,
                gap,
            ]);
        }
        table(&rows);
    }
    for (why, held) in &report.held {
        say(format!(
            "stay: {} small files with {} rows and {}: {why}",
            count(held.files),
            count(held.rows),
            bytes(held.bytes)
        ));
    }
    for failed in &report.failed {
        to_stderr(&format!("weir: {failed}\n"));
    }
}
