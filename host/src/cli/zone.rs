//! `weir zone`: tables and files of a zone, whether they are what the log says, what leaves by its age, and who reads it.

mod leave;
mod readers;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::place::{self, Where};
use super::table::table;
use super::{Exit, say, say_value, say_words};
use crate::clock::SystemClock;
use crate::commit::{Role, State};
use crate::error::Result;
use crate::operations::retention::{self, LeftOf};
use crate::operations::utc;
use crate::telemetry::{bytes, count, plural, time};

#[derive(Debug, Args)]
pub(super) struct ZoneArgs {
    #[command(subcommand)]
    verb: ZoneVerb,
}

#[derive(Debug, Subcommand)]
enum ZoneVerb {
    /// List tables, or with --files every file, as the log knows them
    Ls {
        #[command(flatten)]
        place: Where,
        /// Every file with its rows and bytes
        #[arg(long)]
        files: bool,
        /// Files that were begun and are not published: those that wait for it, and those that killed processes left
        #[arg(long, conflicts_with = "files")]
        orphans: bool,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Put small files of closed directories together; beside the pipeline or without it
    Compact(super::compact::CompactArgs),
    /// Read every file and entry and compare sizes, digests, rows and ledgers; exit code 1 if they differ
    Verify {
        #[command(flatten)]
        place: Where,
        /// One JSON object per log
        #[arg(long)]
        json: bool,
    },
    /// Let data leave that is older than its retention
    Expire(leave::ExpireArgs),
    /// Copy what has expired into the archive, then delete it
    Archive(leave::ArchiveArgs),
    /// List the pipelines that read this zone
    Readers(readers::ReadersArgs),
    /// Say that a reader never comes back
    ForgetReader(readers::ForgetArgs),
}

pub(super) fn zone(args: &ZoneArgs) -> Result<Exit> {
    match &args.verb {
        ZoneVerb::Ls {
            place,
            orphans: true,
            json,
            ..
        } => orphans(place, *json),
        ZoneVerb::Ls {
            place, files, json, ..
        } => ls(place, *files, *json),
        ZoneVerb::Compact(args) => super::compact::run(args),
        ZoneVerb::Verify { place, json } => verify(place, *json),
        ZoneVerb::Expire(args) => leave::expire(args),
        ZoneVerb::Archive(args) => leave::archive(args),
        ZoneVerb::Readers(args) => readers::readers(args),
        ZoneVerb::ForgetReader(args) => readers::forget(args),
    }
}

fn verify(place: &Where, json: bool) -> Result<Exit> {
    let found = place.find()?;
    let mut good = true;
    for name in &found.logs {
        good &= super::log::verify(&found, name, json)?;
    }
    Ok(if good { Exit::Ok } else { Exit::Failed })
}

/// What a table's live files add up to.
#[derive(Debug, Default)]
struct Sums {
    files: u64,
    rows: u64,
    bytes: u64,
    partitions: BTreeMap<String, u64>,
}

fn ls(place: &Where, files: bool, json: bool) -> Result<Exit> {
    let found = place.find()?;
    let mut rows = match files {
        true => vec![
            ["FILE", "ROWS", "BYTES", "VERSION", "HOLDS"]
                .map(str::to_owned)
                .to_vec(),
        ],
        false => vec![
            [
                "TABLE",
                "PIPELINE",
                "HOLDS",
                "PARTITIONS",
                "FILES",
                "ROWS",
                "BYTES",
            ]
            .map(str::to_owned)
            .to_vec(),
        ],
    };
    let mut gone = Vec::new();
    for name in &found.logs {
        let log = place::open(&found, name)?;
        gone.extend(retention::left(log.state()));
        if files {
            list_files(log.state(), json, &mut rows);
            continue;
        }
        for ((table_name, role), sums) in tables(log.state()) {
            if json {
                say_value(&json!({
                    "table": table_name, "pipeline": name.pipeline, "zone": name.zone,
                    "role": role, "files": sums.files, "rows": sums.rows,
                    "bytes": sums.bytes, "partitions": sums.partitions,
                }));
            }
            rows.push(vec![
                table_name,
                name.pipeline.clone(),
                role_name(role).to_owned(),
                count(sums.partitions.len() as u64),
                count(sums.files),
                count(sums.rows),
                bytes(sums.bytes),
            ]);
        }
    }
    if !json {
        say(found.store.url());
        table(&rows);
        for of in &gone {
            say_words(left(of));
        }
    }
    Ok(Exit::Ok)
}

/// `orders: 1,204 rows in 12 files, 3.1 MiB, left by its age; 12 archived`
pub(super) fn left(of: &LeftOf) -> String {
    let LeftOf {
        table,
        left,
        waiting_files,
    } = of;
    let mut words = format!(
        "{table}: {} in {}, {}, left by its age, committed from {} to {}",
        plural(left.rows, "row"),
        plural(left.files, "file"),
        bytes(left.bytes),
        utc(left.oldest),
        utc(left.newest)
    );
    for (files, what) in [
        (left.archived_files, "archived"),
        (*waiting_files, "not deleted yet"),
    ] {
        if files > 0 {
            words.push_str(&format!("; {} {what}", plural(files, "file")));
        }
    }
    words
}

/// According to the log: files that an entry adds wait for publication; of the others, the next start of the pipeline
/// collects those that nobody writes any more.
fn orphans(place: &Where, json: bool) -> Result<Exit> {
    let found = place.find()?;
    let head = ["FILE", "AGE", "BYTES", "STATE", "PATH"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for name in &found.logs {
        let log = place::open(&found, name)?;
        let state = log.state();
        for left in found.store.unfinished(&name.dir())? {
            let word = match () {
                () if state.live.contains_key(&left.file) => "to be published",
                () if state.removed.contains_key(&left.file) => "to be removed",
                () if state.collected.contains_key(&left.file) => "to be collected",
                () => "not committed",
            };
            let seconds = age(&left.file);
            if json {
                say_value(&json!({
                    "pipeline": name.pipeline, "zone": name.zone, "file": left.file, "state": word,
                    "age_seconds": seconds, "path": left.path, "upload": left.upload, "bytes": left.bytes,
                }));
            }
            rows.push(vec![
                left.file,
                seconds.map_or_else(String::new, |s| time(Duration::from_secs(s))),
                left.bytes.map_or_else(|| "-".to_owned(), bytes),
                word.to_owned(),
                left.path.unwrap_or_else(|| "-".to_owned()),
            ]);
        }
    }
    if !json {
        say(found.store.url());
        match rows.len() {
            1 => say("no file is begun and not published"),
            _ => table(&rows),
        }
    }
    Ok(Exit::Ok)
}

/// Seconds since a file was begun, from its name; `None`: the name is no id.
fn age(file: &str) -> Option<u64> {
    let begun = ulid::Ulid::from_string(file).ok()?.timestamp_ms();
    let now = u64::try_from(SystemClock::shared().now_micros()).ok()? / 1000;
    Some(now.saturating_sub(begun) / 1000)
}

fn tables(state: &State) -> BTreeMap<(String, Role), Sums> {
    let mut tables: BTreeMap<(String, Role), Sums> = BTreeMap::new();
    for live in state
        .live
        .values()
        .filter(|live| live.file.role != Role::Keys)
    {
        let (table, rest) = live
            .file
            .path
            .split_once('/')
            .unwrap_or((&live.file.path, ""));
        let partition = rest.rsplit_once('/').map_or("", |(partition, _)| partition);
        let sums = tables
            .entry((table.to_owned(), live.file.role))
            .or_default();
        sums.files += 1;
        sums.rows += live.file.rows;
        sums.bytes += live.file.bytes;
        *sums.partitions.entry(partition.to_owned()).or_default() += live.file.rows;
    }
    tables
}

fn list_files(state: &State, json: bool, rows: &mut Vec<Vec<String>>) {
    let mut live: Vec<_> = state
        .live
        .values()
        .filter(|l| l.file.role != Role::Keys)
        .collect();
    live.sort_by(|a, b| a.file.path.cmp(&b.file.path));
    for one in live {
        let file = &one.file;
        if json {
            say_value(&json!({
                "path": file.path, "rows": file.rows, "bytes": file.bytes, "version": one.version,
                "role": file.role, "digest": file.digest, "ranges": file.ranges,
            }));
        }
        rows.push(vec![
            file.path.clone(),
            count(file.rows),
            bytes(file.bytes),
            one.version.to_string(),
            role_name(file.role).to_owned(),
        ]);
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Rows => "rows",
        Role::DeadLetters => "dead letters",
        Role::Keys => "keys",
    }
}
