//! Tries inferred keys on the messages from which they were made, so that refusals are known before a pipeline runs.

use std::collections::BTreeMap;
use std::path::Path;

use super::build::Say;
use super::input::{self, Message};
use super::{Settings, Subject};
use crate::chain::{Output, Transform};
use crate::error::Result;
use crate::infer::{Format, Map, plain};
use crate::telemetry::plural;

/// Bytes of messages that run at a time: the output of one batch is limited.
const BATCH_BYTES: usize = 4 << 20;
/// Most codes that are listed.
const TOLD: usize = 8;

/// Refusals of one code: how many, the first message and what it says.
struct Refused {
    times: u64,
    message: String,
    why: String,
}

/// For each message: why the plugin of its format refuses it whatever the config says. Empty where the format does not
/// tell. A `<!DOCTYPE` is not among the reasons: what the message holds without it can be inferred.
pub fn refused(
    format: Format,
    messages: &[Message],
    plugin_path: &Path,
) -> Result<Vec<Option<String>>> {
    let subject = Subject::find(Path::new(format.plugin()), plugin_path, Say::Errors)?;
    refused_by(&subject, format, messages)
}

fn refused_by(
    subject: &Subject,
    format: Format,
    messages: &[Message],
) -> Result<Vec<Option<String>>> {
    const OF_THE_CONFIG: [&str; 2] = ["no_rows", "doctype_not_allowed"];
    let Some(widest) = format.widest() else {
        return Ok(Vec::new());
    };
    let mut settings = Settings::default();
    let keys = widest.iter();
    settings.keys = keys
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let mut transform = subject.transform(&settings, &crate::record::input_schema())?;
    let mut refused = vec![None; messages.len()];
    apply(&mut *transform, messages, |from, output| {
        for reject in output.rejects {
            let of_config = OF_THE_CONFIG.contains(&reject.code.as_str());
            if reject.part.is_none() && !of_config {
                let why = format!("{} ({})", plain(&reject.message), reject.code);
                refused[from + reject.row as usize].get_or_insert(why);
            }
        }
    })?;
    Ok(refused)
}

/// Applies it to the messages, as many at a time as one batch holds; `see` gets the index of the first one.
fn apply(
    transform: &mut dyn Transform,
    messages: &[Message],
    mut see: impl FnMut(usize, Output),
) -> Result<()> {
    let mut from = 0;
    while from < messages.len() {
        let mut bytes = 0;
        let size = |m: &Message| m.value.as_ref().map_or(0, Vec::len);
        let fits = |m: &&Message| {
            bytes += size(m);
            bytes <= BATCH_BYTES
        };
        let len = messages[from..].iter().take_while(fits).count().max(1);
        see(
            from,
            transform.apply(&input::table(&messages[from..from + len]))?,
        );
        from += len;
    }
    Ok(())
}

/// Lines that say how many rows and refusals the messages gave; the plugin is the one of `plugin_path`, or the shipped
/// one.
pub fn tried(map: &Map, messages: &[Message], plugin_path: &Path) -> Result<Vec<String>> {
    let subject = Subject::find(Path::new(map.plugin), plugin_path, Say::Errors)?;
    let settings = Settings::of_text("the map", &map.toml(), map.plugin)?;
    let mut transform = subject.transform(&settings, &crate::record::input_schema())?;
    let (mut rows, mut refused) = (0, BTreeMap::<String, Refused>::new());
    apply(&mut *transform, messages, |from, output| {
        rows += output.table.rows as u64;
        for reject in output.rejects {
            let at = from + reject.row as usize;
            let known = refused.entry(reject.code).or_insert_with(|| Refused {
                times: 0,
                message: messages.get(at).map(|m| m.name(at)).unwrap_or_default(),
                why: plain(&reject.message),
            });
            known.times += 1;
        }
    })?;
    let tried = |rest: &str| {
        let n = plural(messages.len() as u64, "message");
        let rows = plural(rows, "row");
        format!("tried on {n}: {rows}, {rest}")
    };
    if refused.is_empty() {
        return Ok(vec![tried("nothing refused")]);
    }
    let all: u64 = refused.values().map(|r| r.times).sum();
    let mut told = vec![tried(&plural(all, "refusal"))];
    for (
        code,
        Refused {
            times,
            message,
            why,
        },
    ) in refused.iter().take(TOLD)
    {
        told.push(format!(
            "  {code}: {}, first in {message}: {why}; weir explain {code}",
            plural(*times, "time")
        ));
    }
    if refused.len() > TOLD {
        told.push(format!("  and {} codes more", refused.len() - TOLD));
    }
    Ok(told)
}

#[cfg(test)]
#[path = "trial_tests.rs"]
mod tests;
