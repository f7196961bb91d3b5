//! `weir pipeline history`: the log as a list of rules and the offsets they made.

use clap::Args;
use serde_json::{Value, json};

use super::super::log::utc;
use super::super::place::{self, Where};
use super::super::{Exit, say, table};
use super::short;
use crate::commit::{self, Era, State};
use crate::error::Result;

/// Which rules made which offsets, since when, by whom and why.
///
/// One block per change of the rules, the newest last. Works on the log alone: with a zone's URL no config is needed.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    #[command(flatten)]
    place: Where,
    /// One JSON object per line and change
    #[arg(long)]
    json: bool,
}

pub(super) fn history(args: &HistoryArgs) -> Result<Exit> {
    let found = args.place.find()?;
    for name in &found.logs {
        let log = place::open(&found, name)?;
        let state = log.state();
        let eras = commit::history(found.store.as_ref(), name, log.version())?;
        if args.json {
            for era in &eras {
                say(as_json(&name.dir(), era, state).to_string());
            }
            continue;
        }
        say(format!("{name}  in {}", found.store.url()));
        let mut rows = vec![
            [
                "GEN", "VERSIONS", "OFFSETS", "RULES", "CONFIG", "SINCE", "BY", "WHY", "NOW",
            ]
            .map(str::to_owned)
            .to_vec(),
        ];
        for era in &eras {
            rows.extend(lines(era, state));
        }
        table(&rows);
    }
    Ok(Exit::Ok)
}

/// Rules or the digests of their configs, one a line; the first line has everything else.
fn lines(era: &Era, state: &State) -> Vec<Vec<String>> {
    let to = era.until.map_or_else(String::new, |v| v.to_string());
    let mut out = Vec::new();
    let offsets: Vec<String> = era
        .ranges
        .iter()
        .map(|(chain, (from, to))| match state.chains.get(chain) {
            Some(chain) => format!("{}/{}@{from}-{to}", chain.topic, chain.partition),
            None => format!("{chain}@{from}-{to}"),
        })
        .collect();
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
            first(standing(era, state).to_owned()),
        ]);
    }
    out
}

fn standing(era: &Era, state: &State) -> &'static str {
    let barred = |digest: &String| state.barred.contains(digest);
    match era.until {
        None => "in force",
        Some(_)
            if era
                .rules
                .iter()
                .any(|r| barred(&r.component) || barred(&r.config)) =>
        {
            "barred"
        }
        Some(_) => "",
    }
}

pub(super) fn as_json(log: &str, era: &Era, state: &State) -> Value {
    let ranges = era.ranges.iter().map(|(chain, (from, to))| {
        let at = state.chains.get(chain);
        json!({
            "chain": chain, "topic": at.map(|c| c.topic.as_str()), "partition": at.map(|c| c.partition),
            "from": from, "to": to,
        })
    });
    json!({
        "log": log, "gen": era.r#gen, "until": era.until, "ranges": ranges.collect::<Vec<_>>(),
        "rules": era.rules, "time": era.time, "actor": era.actor, "reason": era.reason,
        "bar": era.bar, "force": era.force, "in_force": era.until.is_none(),
        "barred": standing(era, state) == "barred",
    })
}
