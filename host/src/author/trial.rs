//! Tries inferred keys on the messages from which they were made, so that refusals are known before a pipeline runs.

use std::collections::BTreeMap;
use std::path::Path;

use super::build::Say;
use super::input::{self, Message};
use super::{Settings, Subject};
use crate::error::Result;
use crate::infer::{Map, plain};
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

/// Lines that say how many rows and refusals the messages gave; the plugin is the one of `plugin_path`, or the shipped
/// one.
pub fn tried(map: &Map, messages: &[Message], plugin_path: &Path) -> Result<Vec<String>> {
    let subject = Subject::find(Path::new(map.plugin), plugin_path, Say::Errors)?;
    let settings = Settings::of_text("the map", &map.toml(), map.plugin)?;
    let mut transform = subject.transform(&settings, &crate::record::input_schema())?;
    let (mut rows, mut refused) = (0, BTreeMap::<String, Refused>::new());
    let mut from = 0;
    while from < messages.len() {
        let mut bytes = 0;
        let size = |m: &Message| m.value.as_ref().map_or(0, Vec::len);
        let fits = |m: &&Message| {
            bytes += size(m);
            bytes <= BATCH_BYTES
        };
        let len = messages[from..].iter().take_while(fits).count().max(1);
        let output = transform.apply(&input::table(&messages[from..from + len]))?;
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
        from += len;
    }
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
