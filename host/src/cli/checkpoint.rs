//! `weir checkpoint show`: the commit log for people who know Spark's checkpoint directory.

use clap::{Args, Subcommand};

use super::place::{self, Where};
use super::table::table;
use super::{Exit, say, say_lines, say_value, say_words};
use crate::error::Result;
use crate::operations::checkpoint::{self, Checkpoint, Read};
use crate::operations::{to_json, utc};
use crate::telemetry::{bytes, count, plural};

#[derive(Debug, Args)]
pub(super) struct CheckpointArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Metadata, sources, offsets and commits of a pipeline, as Spark names them
    Show(ShowArgs),
}

/// Metadata, sources, offsets and commits of a pipeline, as Spark names them.
///
/// Nothing is stored in these forms: they are read out of the commit log and the list of files. With --spark each is
/// printed as the file that Spark would have written.
#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    place: Where,
    /// Print the files that Spark would have written
    #[arg(long, conflicts_with = "json")]
    spark: bool,
    /// Show the newest N batches; 0 shows all
    #[arg(short = 'n', value_name = "N", default_value_t = 5)]
    last: usize,
    /// Print it as one JSON object for each pipeline
    #[arg(long)]
    json: bool,
}

pub(super) fn checkpoint(args: &CheckpointArgs) -> Result<Exit> {
    let What::Show(args) = &args.what;
    let found = args.place.find()?;
    for name in &found.logs {
        let log = place::open(&found, name)?;
        let shown = checkpoint::read(found.store.as_ref(), name, log.state(), args.last)?;
        if args.json {
            say_value(&to_json(&shown)?);
        } else if args.spark {
            say_lines(shown.spark().trim_end());
        } else {
            let (pipeline, zone) = (&name.pipeline, &name.zone);
            say_words(format!("{pipeline} / {zone}  in {}", found.store.url()));
            show(&shown);
        }
    }
    Ok(Exit::Ok)
}

fn show(shown: &Checkpoint) {
    say("");
    say_words(format!(
        "metadata  id {}, begun {} by weir {}",
        shown.id,
        utc(shown.begun),
        shown.weir
    ));
    if !shown.files.is_empty() {
        say("");
        say_words(format!(
            "sources   {}",
            plural(shown.files.len() as u64, "file")
        ));
        let rows = shown.files.iter().map(|file| {
            let read = match file.state {
                Read::No => "not yet",
                Read::InPart => "in part",
                Read::ToItsEnd => "to its end",
            };
            vec![
                file.group.to_string(),
                file.path.clone(),
                bytes(file.bytes),
                utc(file.modified),
                read.to_owned(),
            ]
        });
        table(&with_head(
            &["GROUP", "FILE", "SIZE", "CHANGED", "READ"],
            rows,
        ));
    }
    say("");
    say_words(format!(
        "offsets and commits  {}; an entry of the log is both, so there is none without the other",
        plural(shown.committed, "commit")
    ));
    let rows = shown.batches.iter().map(|batch| {
        let all = batch.positions.iter().flat_map(|(topic, of)| {
            of.iter()
                .map(move |(partition, next)| format!("{topic}/{partition} to {next}"))
        });
        vec![
            batch.batch.to_string(),
            batch.version.to_string(),
            utc(batch.time),
            count(batch.records),
            count(batch.rows),
            count(batch.dead_letters),
            all.collect::<Vec<_>>().join(", "),
        ]
    });
    let head = [
        "BATCH", "ENTRY", "TIME", "RECORDS", "ROWS", "REFUSED", "READ",
    ];
    table(&with_head(&head, rows));
}

fn with_head(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Vec<Vec<String>> {
    let head = head.iter().map(|name| (*name).to_owned()).collect();
    std::iter::once(head).chain(rows).collect()
}
