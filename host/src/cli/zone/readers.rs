//! `weir zone readers` and `weir zone forget-reader`: who reads a zone, and for whom nothing waits any more.

use std::sync::Arc;

use clap::Args;

use super::super::place::{self, Where};
use super::super::table::table;
use super::super::{Exit, say, say_value, say_words};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Kind, Result};
use crate::operations::retention::{self, ReaderOf};
use crate::operations::{to_json, utc};
use crate::telemetry::{bytes, count};

/// Who reads a zone, how far each has read, and what it holds back.
#[derive(Debug, Args)]
pub(in crate::cli) struct ReadersArgs {
    #[command(flatten)]
    place: Where,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

/// Say that a reader never comes back: nothing waits for it any more.
///
/// Rows that it has not read may expire then, and the log gets shorter. If it comes back after all, it goes on where it stood as
/// long as nothing of that has expired or was taken back; else it stops and says so.
#[derive(Debug, Args)]
pub(in crate::cli) struct ForgetArgs {
    #[command(flatten)]
    place: Where,
    /// The reader, as `weir zone readers` names it: <pipeline>/<zone>
    #[arg(value_name = "READER")]
    reader: String,
    /// Do it: without this it only says what would follow
    #[arg(long)]
    yes: bool,
    /// Kept in the log
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = super::super::pipeline::reason)]
    reason: String,
}

fn positions(of: &ReaderOf) -> String {
    let all = of.positions.iter();
    let all = all.map(|(topic, partition, at)| format!("{topic}/{partition} at {at}"));
    all.collect::<Vec<_>>().join(", ")
}

pub(super) fn readers(args: &ReadersArgs) -> Result<Exit> {
    let found = args.place.find()?;
    let head = [
        "READER",
        "BEHIND",
        "HOLDS",
        "ROWS",
        "BYTES",
        "OLDEST",
        "READS NEXT",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for name in &found.logs {
        let log = place::open(&found, name)?;
        for of in retention::readers(name, log.state()) {
            if args.json {
                say_value(&to_json(&of)?);
            }
            rows.push(vec![
                of.reader.clone(),
                count(of.behind),
                format!("{} files", count(of.holds.files)),
                count(of.holds.rows),
                bytes(of.holds.bytes),
                match of.holds.files {
                    0 => "-".to_owned(),
                    _ => utc(of.holds.oldest),
                },
                positions(&of),
            ]);
        }
    }
    if !args.json {
        say(found.store.url());
        match rows.len() {
            1 => say("no pipeline reads this zone"),
            _ => table(&rows),
        }
    }
    Ok(Exit::Ok)
}

pub(super) fn forget(args: &ForgetArgs) -> Result<Exit> {
    let found = args.place.find()?;
    let [name] = found.logs.as_slice() else {
        let message = "there are several logs here";
        return Err(Error::new(Kind::ConfigInvalid, "cli.zone", message)
            .hint("name one with --pipeline, or give a config file"));
    };
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let reader = args.reader.as_str();
    if !args.yes {
        let log = place::open(&found, name)?;
        let all = retention::readers(name, log.state());
        if let Some(of) = all.iter().find(|of| of.reader == reader) {
            say_words(format!(
                "{reader} has {} offsets and {} rows of {name} left to read: {}",
                count(of.behind),
                count(of.holds.rows),
                positions(of)
            ));
        }
        let message = format!("nothing was written; if `{reader}` never comes back, add --yes");
        return Err(Error::new(Kind::ConfigInvalid, "cli.zone", message));
    }
    let version = retention::forget_reader(&found.store, name, &clock, (reader, &args.reason))?;
    say_words(format!(
        "{reader}: forgotten by version {version} of {name}; nothing waits for it any more"
    ));
    Ok(Exit::Ok)
}
