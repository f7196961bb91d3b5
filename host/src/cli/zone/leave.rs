//! `weir zone expire` and `weir zone archive`: what leaves a zone by its age, by hand.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::super::table::table;
use super::super::{Exit, place, say, say_json, say_words};
use crate::clock::{Clock, SystemClock};
use crate::config::{Location, Overlay};
use crate::error::{Error, Kind, Result};
use crate::operations::retention::{self, ArchivedNow, Expired, HeldBack, Older, Sums};
use crate::operations::utc;
use crate::telemetry::{bytes, count, plural, time};

/// Let data leave a zone that is older than the config's retention, or than a time given here.
///
/// It first says what leaves, and which reader holds back what is old. Rows leave at once for readers of the log; their files are
/// deleted after `retention.grace`, by the running pipeline or by this command when it is called again. With `archive.url` they
/// are copied first: by the running pipeline, or by `weir zone archive`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExpireArgs {
    #[command(flatten)]
    which: Pipelines,
    /// Rows that were committed longer ago; without it, sink.retention
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// Dead letters that were committed longer ago; without it, errors.dlq.retention
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    dead_letters_older_than: Option<Duration>,
    /// Say what would leave and who holds it back, write nothing
    #[arg(long)]
    dry_run: bool,
    /// Kept in the log
    #[arg(long, value_name = "TEXT", default_value = "by hand", value_parser = super::super::pipeline::reason)]
    reason: String,
    /// One JSON object for each pipeline
    #[arg(long)]
    json: bool,
}

/// Copy what has expired into the archive, compare it, name it in the log, and delete it from the zone.
#[derive(Debug, Args)]
pub(in crate::cli) struct ArchiveArgs {
    #[command(flatten)]
    which: Pipelines,
    /// Another archive than archive.url; with this machine's credentials
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Say what would be archived, write nothing
    #[arg(long)]
    dry_run: bool,
    /// One JSON object for each pipeline
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Pipelines {
    /// Config files or names of pipelines
    #[arg(value_name = "FILE|NAME", required = true)]
    at: Vec<String>,
    /// Where to look for the config of a pipeline's name
    #[arg(long, value_name = "DIR", default_value = "conf")]
    conf: String,
    /// Override a key, as `weir run` does
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Apply the table [profile.NAME] of the file
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
}

impl Pipelines {
    fn configs(&self) -> Result<Vec<crate::config::PipelineConfig>> {
        let overlay = Overlay {
            profile: self.profile.clone(),
            set: self.set.clone(),
        };
        let config = |at: &String| match place::is_url(at) {
            true => Err(Error::new(
                Kind::ConfigInvalid,
                "cli.zone",
                format!("`{at}` is a URL; this needs the pipeline's config"),
            )
            .hint("only the config says where the archive is, and which zone is read")),
            false => place::config_of(at, &self.conf, &overlay),
        };
        self.at.iter().map(config).collect()
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::config::duration(text).map_err(|refusal| format!("expected {}", refusal.expected))
}

pub(super) fn expire(args: &ExpireArgs) -> Result<Exit> {
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let older = Older {
        rows: args.older_than,
        dead_letters: args.dead_letters_older_than,
    };
    for config in args.which.configs()? {
        let how = (args.dry_run, args.reason.as_str());
        let expired = retention::expire(&config, &clock, older, how)?;
        match args.json {
            true => say_json(&expired)?,
            false => show(&expired),
        }
    }
    Ok(Exit::Ok)
}

fn head(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn cells(sums: &Sums) -> [String; 5] {
    [
        count(sums.files),
        count(sums.rows),
        bytes(sums.bytes),
        utc(sums.oldest),
        utc(sums.newest),
    ]
}

fn show(expired: &Expired) {
    say_words(format!(
        "{} / {}  in {}",
        expired.pipeline, expired.zone, expired.url
    ));
    if expired.expires.is_empty() {
        say("nothing is old enough to leave");
    } else {
        let mut rows = vec![head(&[
            "LEAVES", "FILES", "ROWS", "BYTES", "OLDEST", "NEWEST",
        ])];
        for of in &expired.expires {
            let mut row = vec![of.table.clone()];
            row.extend(cells(&of.sums));
            rows.push(row);
        }
        table(&rows);
    }
    if !expired.held.is_empty() {
        say("");
        let mut rows = vec![head(&[
            "STAYS", "FILES", "ROWS", "BYTES", "OLDEST", "NEWEST", "BECAUSE",
        ])];
        for held in &expired.held {
            let mut row = vec![held.table.clone()];
            row.extend(cells(&held.sums));
            row.push(because(held));
            rows.push(row);
        }
        table(&rows);
    }
    say("");
    for line in after(expired) {
        say_words(line);
    }
}

fn because(held: &HeldBack) -> String {
    let HeldBack { name, at, .. } = held;
    match held.by {
        "reader" => format!("{name} has not read it: {at}"),
        "input" => format!("the zone that is read may be put back: {at}"),
        "topic" => format!("only the pipeline knows what is in the topic {name}"),
        _ => "older rows of the same partitions stay".to_owned(),
    }
}

fn after(expired: &Expired) -> Vec<String> {
    let grace = time(Duration::from_secs(expired.grace_seconds));
    let mut lines = Vec::new();
    if expired.deleted > 0 {
        lines.push(format!(
            "{} deleted that had expired before",
            plural(expired.deleted, "file")
        ));
    }
    let waits = &expired.waits;
    let archive = expired.waits_for_archive;
    let plain = waits.files.saturating_sub(archive);
    if plain > 0 {
        lines.push(format!(
            "{} of {} expired: deleted {grace} after that, by the running pipeline or by this command",
            plural(plain, "file"),
            bytes(waits.bytes)
        ));
    }
    if archive > 0 {
        let to = expired.archive.as_deref().unwrap_or("an archive");
        lines.push(format!(
            "{} expired: copied to {to} {grace} after that, by the running pipeline or by `weir zone archive`, then deleted",
            plural(archive, "file")
        ));
    }
    match (expired.dry_run, expired.versions.last()) {
        (true, _) => lines.push("a dry run, nothing was written".to_owned()),
        (false, Some(version)) => lines.push(format!("in force by version {version} of its log")),
        (false, None) => lines.push("nothing to do".to_owned()),
    }
    lines
}

pub(super) fn archive(args: &ArchiveArgs) -> Result<Exit> {
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let to = args
        .to
        .as_deref()
        .map(|url| Location::of(url.trim_end_matches('/')));
    for config in args.which.configs()? {
        let archived = retention::archive(&config, &clock, to.as_ref(), args.dry_run)?;
        match args.json {
            true => say_json(&archived)?,
            false => show_archived(&archived),
        }
    }
    Ok(Exit::Ok)
}

fn show_archived(now: &ArchivedNow) {
    let ArchivedNow {
        pipeline,
        archive,
        archives:
            Sums {
                files,
                rows,
                bytes: size,
                ..
            },
        ..
    } = now;
    let sums = format!(
        "{}, {}, {}",
        plural(*files, "file"),
        plural(*rows, "row"),
        bytes(*size)
    );
    say_words(match (files, now.dry_run) {
        (0, _) => format!("{pipeline}: nothing that expired waits to be archived now"),
        (_, true) => format!(
            "{pipeline}: {sums} would be copied to {archive}; a dry run, nothing was written"
        ),
        (_, false) => {
            format!("{pipeline}: {sums} copied to {archive}, compared, and deleted from the zone")
        }
    });
    if now.in_grace > 0 {
        say_words(format!(
            "{pipeline}: {} expired and wait for the end of retention.grace",
            plural(now.in_grace, "file")
        ));
    }
}
