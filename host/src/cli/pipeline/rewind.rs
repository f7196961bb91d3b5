//! `weir pipeline rewind`: moves positions of a stopped pipeline by an entry of its log.

use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::super::remote::read;
use super::super::{Exit, place, say, say_json, table, to_stderr};
use super::Which;
use crate::clock::{Clock, SystemClock};
use crate::commit;
use crate::error::Result;
use crate::http::client::{Carries, segment};
use crate::operations::rewind::{self as ops_rewind, Rewound, rewound};
use crate::pipeline::positions;
use crate::plugin::{Places, Plugins};

/// Move positions of a stopped pipeline: read offsets again, or skip some.
///
/// Back goes to the end of a commit at or below the offset: rows and dead letters from there on leave the zone, and the
/// next run makes them again under the rules in force. Pipelines that read this zone follow by themselves. Forward
/// skips: the range is recorded as lost. A partition that was never read begins at the offset, even if the pipeline has
/// not run yet. It is refused before anything is written if the broker no longer has the records.
#[derive(Debug, Args)]
pub(super) struct RewindArgs {
    #[command(flatten)]
    which: Which,
    /// Where partitions shall go on: an offset, or `start` for where reading began
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
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = super::reason)]
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
    if let Some(client) = which.client()? {
        let asked = json!({
            "to": to, "all": all, "dry_run": dry_run, "reason": reason,
        });
        let path = format!("/pipelines/{}/rewind", segment(&which.at));
        let rewound: Rewound = read(client.post(&path, &Carries::Json(asked))?)?;
        return show(&rewound, which.json);
    }
    let config = place::config_of(&which.at, &which.conf, &which.overlay())?;
    let clock: Arc<dyn Clock> = SystemClock::shared();
    if let Some(process) = positions::running(&config)? {
        to_stderr(&format!(
            "weir: {process} seems to run this pipeline: it will drop what it has not committed and go on at the new positions\n"
        ));
    }
    let actor = commit::actor();
    let order = positions::Order {
        actor: &actor,
        reason,
        dry_run: *dry_run,
        exact: false,
        plugins: &|| Plugins::open(Places::of(&config)),
    };
    let altered = match all {
        Some(_) => positions::reset(&config, &clock, &order)?,
        None => {
            let wanted = to.iter().map(|text| ops_rewind::wanted(text));
            let wanted = wanted.collect::<Result<Vec<_>>>()?;
            positions::alter(&config, &clock, &wanted, &order)?
        }
    };
    show(&rewound(&config, *dry_run, altered), which.json)
}

fn show(rewound: &Rewound, json: bool) -> Result<Exit> {
    let Rewound {
        pipeline,
        version,
        moved,
        ..
    } = rewound;
    if let Some(again) = &rewound.sent_again {
        to_stderr(&format!("weir: {again}\n"));
    }
    if json {
        say_json(rewound)?;
        return Ok(Exit::Ok);
    }
    if moved.is_empty() {
        say(format!("{pipeline}: nothing to do, it stands there"));
        return Ok(Exit::Ok);
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
    Ok(Exit::Ok)
}
