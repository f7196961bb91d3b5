//! `weir pipeline history`: the log as a list of rules and the offsets they made.

use clap::Args;

use super::super::place::{self, Where};
use super::super::remote::{Remote, local_only, read};
use super::super::{Exit, say_json, say_words, table};
use crate::error::Result;
use crate::http::History;
use crate::http::client::{query, segment};
use crate::operations::history::{Page, Range, RulesPeriod, page};
use crate::operations::{short, utc};

/// Which rules made which offsets, since when, by whom and why.
///
/// One block per change of the rules, the newest last. Reads only the log: with a zone's URL no config is needed.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    #[command(flatten)]
    place: Where,
    /// Show the last N changes; 0 shows all
    #[arg(short = 'n', value_name = "N", default_value_t = 0)]
    last: usize,
    /// One JSON object per line and change
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn history(args: &HistoryArgs) -> Result<Exit> {
    if let Some(client) = args.remote.client(&args.place.at)? {
        local_only(&[("--pipeline", args.place.pipeline.is_some())])?;
        let name = segment(&args.place.at);
        let mut title = String::new();
        let periods = gather(args.last, |before, limit| {
            let before = before.map(|version| version.to_string());
            let limit = Some(limit.clamp(1, 1000).to_string());
            let query = query(&[("before", before), ("limit", limit)]);
            let path = format!("/pipelines/{name}/history{query}");
            let history: History = read(client.get(&path)?)?;
            let log = history.log.trim_start_matches("_system/");
            title = format!("{log}  in {}", history.url);
            Ok(Page {
                periods: history.periods,
                more: history.more,
            })
        })?;
        show(&title, &periods, args.json)?;
        return Ok(Exit::Ok);
    }
    let found = args.place.find()?;
    for name in &found.logs {
        let log = place::open(&found, name)?;
        let periods = gather(args.last, |before, limit| {
            Ok(page(name, log.state(), before, limit))
        })?;
        show(
            &format!("{name}  in {}", found.store.url()),
            &periods,
            args.json,
        )?;
    }
    Ok(Exit::Ok)
}

/// The newest `last` over as many pages as it takes; 0: all.
fn gather(last: usize, mut get: impl FnMut(Option<u64>, usize) -> Result<Page>) -> Result<Page> {
    let most = if last == 0 { usize::MAX } else { last };
    let mut all = get(None, most)?;
    while all.more && all.periods.len() < most {
        let before = all.periods.first().map(|period| period.generation);
        let older = get(before, most - all.periods.len())?;
        if older.periods.is_empty() {
            break;
        }
        all.more = older.more;
        all.periods.splice(0..0, older.periods);
    }
    Ok(all)
}

fn show(title: &str, found: &Page, json: bool) -> Result<()> {
    let periods = &found.periods;
    if json {
        return periods.iter().try_for_each(say_json);
    }
    say_words(title);
    let header = [
        "GENERATION",
        "VERSIONS",
        "OFFSETS",
        "RULES",
        "CONFIG",
        "SINCE",
        "BY",
        "WHY",
        "NOW",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(periods.iter().flat_map(lines));
    table(&rows);
    if found.more {
        say_words("older ones are left out; -n 0 shows all");
    }
    Ok(())
}

/// Rules or the digests of their configs, one a line; the first line has everything else.
fn lines(period: &RulesPeriod) -> Vec<Vec<String>> {
    let to = period.until.map_or_else(String::new, |v| v.to_string());
    let mut out = Vec::new();
    let offsets = |range: &Range| match (&range.topic, range.partition) {
        (Some(topic), Some(partition)) => {
            format!("{topic}/{partition}@{}-{}", range.from, range.to)
        }
        _ => format!("{}@{}-{}", range.split, range.from, range.to),
    };
    let offsets: Vec<String> = period.ranges.iter().map(offsets).collect();
    for at in 0..period.transforms.len().max(offsets.len()).max(1) {
        let first = |text: String| if at == 0 { text } else { String::new() };
        let rule = period.transforms.get(at);
        out.push(vec![
            first(period.generation.to_string()),
            first(format!("{}..{to}", period.generation + 1)),
            offsets.get(at).cloned().unwrap_or_default(),
            rule.map_or_else(String::new, |r| {
                format!(
                    "{}={}@{} {}",
                    r.transform,
                    r.plugin,
                    r.version,
                    short(&r.component)
                )
            }),
            rule.map_or_else(String::new, |r| short(&r.config)),
            first(utc(period.time)),
            first(period.actor.clone()),
            first(period.reason.clone()),
            first(standing(period).to_owned()),
        ]);
    }
    out
}

fn standing(period: &RulesPeriod) -> &'static str {
    match (period.in_force, period.blocked) {
        (true, _) => "in force",
        (false, true) => "blocked",
        (false, false) => "",
    }
}
