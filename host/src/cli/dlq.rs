//! `weir dlq`: what was refused, why, and the original bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::place::{self, Found, Where};
use super::{Exit, say, table};
use crate::commit::{AddedFile, LogName, Role};
use crate::deadletter::{self, Filter, Stored};
use crate::error::Result;
use crate::telemetry::count;

#[derive(Debug, Args)]
pub(super) struct DlqArgs {
    #[command(subcommand)]
    verb: DlqVerb,
}

#[derive(Debug, Subcommand)]
enum DlqVerb {
    /// Count dead letters by code and field
    Ls {
        #[command(flatten)]
        place: Where,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Show dead letters: the reasons, the rule that refused, the record's coordinates and bytes
    Show {
        #[command(flatten)]
        place: Where,
        #[command(flatten)]
        filter: FilterArgs,
        /// At most so many; 0 shows all
        #[arg(short = 'n', value_name = "N", default_value_t = 10)]
        limit: usize,
        /// One JSON object per line, bytes in base64
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct FilterArgs {
    /// Only letters with this code
    #[arg(long)]
    code: Option<String>,
    /// Only records of this topic
    #[arg(long)]
    topic: Option<String>,
    /// Only records of this partition
    #[arg(long)]
    partition: Option<i32>,
    /// Only the record at this offset
    #[arg(long)]
    offset: Option<i64>,
}

impl FilterArgs {
    fn filter(&self) -> Filter {
        Filter {
            code: self.code.clone(),
            topic: self.topic.clone(),
            partition: self.partition,
            offset: self.offset,
        }
    }
}

pub(super) fn dlq(args: &DlqArgs) -> Result<Exit> {
    match &args.verb {
        DlqVerb::Ls { place, json } => ls(&place.find()?, *json),
        DlqVerb::Show {
            place,
            filter,
            limit,
            json,
        } => show(&place.find()?, &filter.filter(), *limit, *json),
    }
}

/// The live files of dead letters, in the order of their commits.
fn letters(found: &Found, name: &LogName) -> Result<Vec<AddedFile>> {
    let log = place::open(found, name)?;
    let mut live: Vec<_> = log.state().live.values().collect();
    live.retain(|live| live.file.role == Role::Letters);
    live.sort_by(|a, b| (a.version, &a.file.path).cmp(&(b.version, &b.file.path)));
    Ok(live.into_iter().map(|live| live.file.clone()).collect())
}

fn ls(found: &Found, json: bool) -> Result<Exit> {
    let header = ["PIPELINE", "CODE", "FIELD", "LETTERS"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for name in &found.logs {
        let counts = deadletter::counts(&found.store, name, &letters(found, name)?)?;
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        for ((code, field), n) in counts {
            if json {
                let line = json!({
                    "pipeline": name.pipeline, "code": code, "field": field, "letters": n,
                });
                say(line.to_string());
            }
            let field = field.unwrap_or_else(|| "-".to_owned());
            rows.push(vec![name.pipeline.clone(), code, field, count(n)]);
        }
    }
    if json {
        return Ok(Exit::Ok);
    }
    match rows.len() {
        1 => say("no dead letters"),
        _ => table(&rows),
    }
    Ok(Exit::Ok)
}

fn show(found: &Found, filter: &Filter, limit: usize, json: bool) -> Result<Exit> {
    let most = if limit == 0 { usize::MAX } else { limit };
    let mut shown = 0;
    for name in &found.logs {
        let files = letters(found, name)?;
        let all = deadletter::read(&found.store, name, &files, filter);
        for letter in all.take(most - shown) {
            let letter = letter?;
            match json {
                true => say(as_json(&letter).to_string()),
                false => as_text(&letter),
            }
            shown += 1;
        }
    }
    if shown == 0 && !json {
        say("no dead letters");
    }
    Ok(Exit::Ok)
}

fn as_json(letter: &Stored) -> Value {
    let base64 = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|b| STANDARD.encode(b));
    let text = |bytes: &Option<Vec<u8>>| {
        let bytes = bytes.as_ref()?;
        String::from_utf8(bytes.clone()).ok()
    };
    let headers: Vec<Value> = letter
        .headers
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": base64(value) }))
        .collect();
    let reasons: Vec<Value> = letter
        .reasons
        .iter()
        .map(|r| json!({ "code": r.code, "field": r.field, "message": r.message }))
        .collect();
    json!({
        "topic": letter.topic, "partition": letter.partition, "offset": letter.offset,
        "row": letter.row, "timestamp": letter.timestamp.map(super::log::utc),
        "transform": letter.transform, "plugin": letter.plugin, "version": letter.version,
        "digest": letter.digest, "config_digest": letter.config_digest, "errors": reasons,
        "key": base64(&letter.key), "value": base64(&letter.value),
        "value_text": text(&letter.value), "headers": headers, "file": letter.file.as_ref(),
    })
}

/// Characters of a value that are shown; `--json` has all of it.
const VALUE_CHARS: usize = 600;

fn as_text(letter: &Stored) {
    let piece = match letter.row {
        Some(row) => format!("  row {row}"),
        None => "  whole record".to_owned(),
    };
    let time = letter.timestamp.map(super::log::utc).unwrap_or_default();
    say(format!(
        "{}/{}@{}{piece}  {time}",
        letter.topic, letter.partition, letter.offset
    ));
    let digest: String = letter.digest.chars().take(19).collect();
    say(format!(
        "  by {} ({} {}, {digest}…)",
        letter.transform, letter.plugin, letter.version
    ));
    for reason in &letter.reasons {
        let field = reason.field.as_deref().unwrap_or("-");
        say(format!("  {}  {field}  {}", reason.code, reason.message));
    }
    if let Some(key) = &letter.key {
        say(format!("  key    {}", readable(key)));
    }
    match &letter.value {
        Some(value) => say(format!("  value  {}", readable(value))),
        None => say("  value  (none)"),
    }
    say("");
}

/// Control characters would rule the terminal.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out: String = text
        .chars()
        .take(VALUE_CHARS)
        .map(|c| match c {
            '\n' | '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect();
    if text.chars().nth(VALUE_CHARS).is_some() {
        out.push_str(&format!("… ({} bytes)", bytes.len()));
    }
    out
}
