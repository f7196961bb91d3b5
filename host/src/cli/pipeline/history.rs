//! `weir pipeline history`: the log as a list of rules and the offsets they made.

use clap::Args;

use super::super::place::{self, Where};
use super::super::remote::{Remote, local_only, read};
use super::super::{Exit, say_json, say_words, table};
use crate::error::Result;
use crate::http::History;
use crate::http::client::{query, segment};
use crate::operations::history::{Page, Range, RulesPeriod, page, pick};
use crate::operations::{short, utc};

/// Which rules made which offsets, since when, by whom and why.
///
/// One block per change of the rules, the newest last. Works on the log alone: with a zone's URL no config is needed.
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
        let eras = gather(args.last, |before, limit| {
            let before = before.map(|version| version.to_string());
            let limit = Some(limit.clamp(1, 1000).to_string());
            let query = query(&[("before", before), ("limit", limit)]);
            let path = format!("/pipelines/{name}/history{query}");
            let history: History = read(client.get(&path)?)?;
            let log = history.log.trim_start_matches("_system/");
            title = format!("{log}  in {}", history.url);
            Ok(Page {
                eras: history.eras,
                more: history.more,
            })
        })?;
        show(&title, &eras, args.json)?;
        return Ok(Exit::Ok);
    }
    let found = args.place.find()?;
    for name in &found.logs {
        let log = place::open(&found, name)?;
        let eras = gather(args.last, |before, limit| {
            let picked = pick(log.state(), before, limit);
            page(&found.store, name, &picked)
        })?;
        show(
            &format!("{name}  in {}", found.store.url()),
            &eras,
            args.json,
        )?;
    }
    Ok(Exit::Ok)
}

/// The newest `last` over as many pages as it takes; 0: all.
fn gather(last: usize, mut get: impl FnMut(Option<u64>, usize) -> Result<Page>) -> Result<Page> {
    let most = if last == 0 { usize::MAX } else { last };
    let mut all = get(None, most)?;
    while all.more && all.eras.len() < most {
        let before = all.eras.first().map(|era| era.r#gen);
        let older = get(before, most - all.eras.len())?;
        if older.eras.is_empty() {
            break;
        }
        all.more = older.more;
        all.eras.splice(0..0, older.eras);
    }
    Ok(all)
}

fn show(title: &str, found: &Page, json: bool) -> Result<()> {
    let eras = &found.eras;
    if json {
        return eras.iter().try_for_each(say_json);
    }
    say_words(title);
    let header = [
        "GEN", "VERSIONS", "OFFSETS", "RULES", "CONFIG", "SINCE", "BY", "WHY", "NOW",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(eras.iter().flat_map(lines));
    table(&rows);
    if found.more {
        say_words("older ones are left out; -n 0 shows all");
    }
    Ok(())
}

/// Rules or the digests of their configs, one a line; the first line has everything else.
fn lines(era: &RulesPeriod) -> Vec<Vec<String>> {
    let to = era.until.map_or_else(String::new, |v| v.to_string());
    let mut out = Vec::new();
    let offsets = |range: &Range| match (&range.topic, range.partition) {
        (Some(topic), Some(partition)) => {
            format!("{topic}/{partition}@{}-{}", range.from, range.to)
        }
        _ => format!("{}@{}-{}", range.chain, range.from, range.to),
    };
    let offsets: Vec<String> = era.ranges.iter().map(offsets).collect();
    for at in 0..era.rules.len().max(offsets.len()).max(1) {
        let first = |text: String| if at == 0 { text } else { String::new() };
        let rule = era.rules.get(at);
        out.push(vec![
            first(era.r#gen.to_string()),
            first(format!("{}..{to}", era.r#gen + 1)),
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
            first(utc(era.time)),
            first(era.actor.clone()),
            first(era.reason.clone()),
            first(standing(era).to_owned()),
        ]);
    }
    out
}

fn standing(era: &RulesPeriod) -> &'static str {
    match (era.in_force, era.blocked) {
        (true, _) => "in force",
        (false, true) => "blocked",
        (false, false) => "",
    }
}
