//! `weir pipeline rewind`: positions of a stopped pipeline, put elsewhere by an entry of its log.

use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::super::{Exit, place, say, table};
use super::Which;
use crate::clock::{Clock, SystemClock};
use crate::commit;
use crate::error::{Error, Kind, Result};
use crate::pipeline::offsets::{self, Altered, To, Wanted};

/// Put positions of a stopped pipeline elsewhere: read offsets again, or skip some.
///
/// Back goes to the end of a commit at or below the offset: rows and dead letters from there on leave the zone, and the next
/// run makes them anew under the rules in force. Pipelines that read this zone follow by themselves. Forward skips: the range
/// is recorded as lost. Refused before anything is written where the broker no longer has the records.
#[derive(Debug, Args)]
pub(super) struct RewindArgs {
    #[command(flatten)]
    which: Which,
    /// Where partitions go on: an offset, or `start` for where reading began
    #[arg(
        value_name = "TOPIC/PARTITION=OFFSET",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    to: Vec<String>,
    /// Every partition; only `start`
    #[arg(long, value_name = "start", value_parser = ["start"], require_equals = true)]
    all: Option<String>,
    /// Say what would move, write nothing
    #[arg(long)]
    dry_run: bool,
    /// Kept in the log
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

pub(super) fn rewind(args: &RewindArgs) -> Result<Exit> {
    let RewindArgs {
        which,
        to,
        all,
        dry_run,
        reason,
    } = args;
    let config = place::config_of(&which.at, &which.conf, &which.overlay())?;
    let clock: Arc<dyn Clock> = SystemClock::shared();
    if let Some(process) = offsets::running(&config)? {
        eprintln!(
            "weir: {process} seems to run this pipeline: it will drop what it has not committed and go on at the new positions"
        );
    }
    let actor = commit::actor();
    let altered = match all {
        Some(_) => offsets::reset(&config, &clock, &actor, reason, *dry_run)?,
        None => {
            let wanted = to.iter().map(|text| parse(text));
            let wanted = wanted.collect::<Result<Vec<_>>>()?;
            offsets::alter(&config, &clock, &wanted, &actor, reason, *dry_run)?
        }
    };
    show(&altered, &config.name, *dry_run, which.json);
    Ok(Exit::Ok)
}

fn parse(text: &str) -> Result<Wanted> {
    let wrong = || {
        let message = format!("expected TOPIC/PARTITION=OFFSET, found `{text}`");
        Error::new(Kind::ConfigInvalid, "cli.rewind", message)
            .hint("for example books/0=1200 or books/0=start")
    };
    let (at, to) = text.split_once('=').ok_or_else(wrong)?;
    let (topic, partition) = at.rsplit_once('/').ok_or_else(wrong)?;
    let to = match to {
        "start" => To::Start,
        number => To::Offset(number.parse().map_err(|_| wrong())?),
    };
    Ok(Wanted {
        topic: topic.to_owned(),
        partition: partition.parse().map_err(|_| wrong())?,
        to,
    })
}

fn show(altered: &Altered, pipeline: &str, dry_run: bool, as_json: bool) {
    let Altered { version, moved } = altered;
    if as_json {
        let moved = moved.iter().map(|m| {
            json!({
                "topic": m.topic, "partition": m.partition, "from": m.from, "asked": m.asked, "to": m.to,
            })
        });
        let moved: Vec<_> = moved.collect();
        say(json!({
            "pipeline": pipeline, "dry_run": dry_run, "version": version, "moved": moved,
        })
        .to_string());
        return;
    }
    if moved.is_empty() {
        say(format!("{pipeline}: nothing to do, it stands there"));
        return;
    }
    let mut rows = vec![
        ["PARTITION", "FROM", "ASKED", "TO", "OFFSETS"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for m in moved {
        let change = m.to - m.from;
        let what = if change < 0 { "again" } else { "skipped" };
        rows.push(vec![
            format!("{}/{}", m.topic, m.partition),
            m.from.to_string(),
            m.asked.to_string(),
            m.to.to_string(),
            format!("{} {what}", change.unsigned_abs()),
        ]);
    }
    table(&rows);
    match version {
        Some(version) => say(format!(
            "{pipeline}: in force by version {version} of its log"
        )),
        None => say(format!("{pipeline}: a dry run, nothing was written")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_with_their_offsets() {
        let wanted = parse("a.b-c/12=7").expect("legal");
        let expected = Wanted {
            topic: "a.b-c".to_owned(),
            partition: 12,
            to: To::Offset(7),
        };
        assert_eq!(wanted, expected);
        assert_eq!(parse("t/0=start").expect("legal").to, To::Start);
        for bad in ["t", "t/0", "t=1", "t/x=1", "t/0=x", "t/0=", "t/0=1.5"] {
            let error = parse(bad).expect_err(bad);
            assert!(error.message().contains(bad), "{error}");
        }
    }
}
