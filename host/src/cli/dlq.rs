//! `weir dlq`: what was refused, why, and the original bytes.

use clap::{Args, Subcommand};

use super::place::{self, Found, Where};
use super::remote::{Remote, local_only, read};
use super::{Exit, say, say_json, table};
use crate::commit::LogName;
use crate::error::{Error, Kind, Result};
use crate::http::DeadLetters;
use crate::http::client::{Client, query, segment};
use crate::nearest::nearest;
use crate::operations::dlq::{self as ops_dlq, Count, DeadLetter, Reached, Work};
use crate::telemetry::count;
use crate::zone::deadletter::{FILE, Filter};

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
        #[command(flatten)]
        remote: Remote,
    },
    /// Show dead letters: the reasons, the rule that refused, the record's coordinates and bytes
    Show {
        #[command(flatten)]
        place: Where,
        #[command(flatten)]
        filter: FilterArgs,
        /// Show at most N; 0 shows all
        #[arg(short = 'n', value_name = "N", default_value_t = 10)]
        limit: usize,
        /// One JSON object per line, bytes in base64
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        remote: Remote,
    },
}

#[derive(Debug, Args)]
struct FilterArgs {
    /// Only dead letters with this code
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
        DlqVerb::Ls {
            place,
            json,
            remote,
        } => match client(remote, place)? {
            Some(client) => {
                let path = format!("/pipelines/{}/dlq/counts", segment(&place.at));
                show_counts(read(client.get(&path)?)?, *json)
            }
            None => ls(&place.find()?, *json),
        },
        DlqVerb::Show {
            place,
            filter,
            limit,
            json,
            remote,
        } => match client(remote, place)? {
            Some(client) => show_remote(&client, &place.at, &filter.filter(), *limit, *json),
            None => show(&place.find()?, &filter.filter(), *limit, *json),
        },
    }
}

fn client(remote: &Remote, place: &Where) -> Result<Option<Client>> {
    let client = remote.client(&place.at)?;
    if client.is_some() {
        local_only(&[("--pipeline", place.pipeline.is_some())])?;
    }
    Ok(client)
}

/// Page by page, as large as a daemon makes them.
fn show_remote(
    client: &Client,
    name: &str,
    filter: &Filter,
    limit: usize,
    json: bool,
) -> Result<Exit> {
    const PAGE: usize = 1000;
    let most = if limit == 0 { usize::MAX } else { limit };
    let (mut shown, mut after) = (0, None);
    while shown < most {
        let text = |n: Option<i64>| n.map(|n| n.to_string());
        let query = query(&[
            ("limit", Some((most - shown).min(PAGE).to_string())),
            ("after", after),
            ("code", filter.code.clone()),
            ("topic", filter.topic.clone()),
            ("partition", text(filter.partition.map(i64::from))),
            ("offset", text(filter.offset)),
        ]);
        let page = client.get(&format!("/pipelines/{}/dlq{query}", segment(name)))?;
        let page: DeadLetters = read(page)?;
        for letter in &page.dead_letters {
            show_letter(letter, json)?;
        }
        shown += page.dead_letters.len();
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    none_shown(shown, filter, json)
}

fn with_letters<R>(
    found: &Found,
    name: &LogName,
    read: impl FnOnce(&ops_dlq::Letters<'_>) -> Result<R>,
) -> Result<R> {
    let log = place::open(found, name)?;
    read(&ops_dlq::Letters {
        store: &found.store,
        name,
        files: &|after| Ok(ops_dlq::files(log.state(), after)),
        go_on: &|| Ok(()),
    })
}

fn ls(found: &Found, json: bool) -> Result<Exit> {
    let mut counts = Vec::new();
    for name in &found.logs {
        counts.extend(with_letters(found, name, ops_dlq::counts)?);
    }
    show_counts(counts, json)
}

fn show_counts(counts: Vec<Count>, json: bool) -> Result<Exit> {
    if json {
        counts.iter().try_for_each(say_json)?;
        return Ok(Exit::Ok);
    }
    let header = ["PIPELINE", "CODE", "FIELD", "LETTERS"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for of in counts {
        let field = of.field.unwrap_or_else(|| "-".to_owned());
        rows.push(vec![of.pipeline, of.code, field, count(of.dead_letters)]);
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
    let mut failed = None;
    for name in &found.logs {
        with_letters(found, name, |of| {
            let (from, all) = (Reached::default(), Work::ALL);
            ops_dlq::letters(of, filter, from, all, |letter| {
                failed = show_letter(&letter, json).err();
                shown += 1;
                shown < most && failed.is_none()
            })
        })?;
        if shown >= most || failed.is_some() {
            break;
        }
    }
    match failed {
        Some(error) => Err(error),
        None => none_shown(shown, filter, json),
    }
}

/// Reports if nothing was shown. A code that is nearly one of Weir or of a shipped plugin is a typing error, if nothing else was
/// asked for; any other may be a code of somebody's own plugin.
fn none_shown(shown: usize, filter: &Filter, json: bool) -> Result<Exit> {
    if shown > 0 {
        return Ok(Exit::Ok);
    }
    let Filter {
        code,
        topic,
        partition,
        offset,
    } = filter;
    let known = super::explain::refusals();
    let unknown = |code: &&str| !known.contains(&super::explain::heading(code));
    let alone = topic.is_none() && partition.is_none() && offset.is_none();
    let unknown = code.as_deref().filter(unknown).filter(|_| alone);
    if let Some(code) = unknown
        && let Some(near) = nearest(code, known.iter().copied())
    {
        let hint = format!("did you mean `{near}`? `weir dlq ls` counts those that are there");
        let message = format!("no dead letter has the code `{code}`");
        return Err(Error::new(Kind::ConfigInvalid, "dlq.show", message).hint(hint));
    }
    if !json {
        say("no dead letters");
    }
    Ok(Exit::Ok)
}

fn show_letter(letter: &DeadLetter, json: bool) -> Result<()> {
    match json {
        true => say_json(letter)?,
        false => as_text(letter),
    }
    Ok(())
}

/// Characters of a value that are shown; `--json` has all of it.
const VALUE_CHARS: usize = 600;

fn as_text(letter: &DeadLetter) {
    let piece = match letter.row {
        Some(row) => format!("  row {row}"),
        None => "  whole record".to_owned(),
    };
    let time = letter.timestamp.as_deref().unwrap_or_default();
    say(format!(
        "{}/{}@{}{piece}  {time}",
        letter.topic, letter.partition, letter.offset
    ));
    let digest: String = letter.component.chars().take(19).collect();
    say(format!(
        "  by {} ({} {}, {digest}…)",
        letter.transform, letter.plugin, letter.version
    ));
    for reason in &letter.errors {
        let field = reason.field.as_deref().unwrap_or("-");
        say(format!("  {}  {field}  {}", reason.code, reason.message));
    }
    let mut headers = letter.headers.iter();
    let file = headers.find(|header| header.name == FILE);
    if let Some(file) = file.and_then(|header| header.value.as_ref()) {
        say(format!("  file   {}", readable(&DeadLetter::bytes(file))));
    }
    if let Some(key) = &letter.key {
        say(format!("  key    {}", readable(&DeadLetter::bytes(key))));
    }
    match &letter.value {
        _ if !letter.holds_bytes => say("  value  the same message as above"),
        Some(value) => say(format!("  value  {}", readable(&DeadLetter::bytes(value)))),
        None => say("  value  (none)"),
    }
    say("");
}

/// A value on one line; `say` shows the other hidden characters.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out: String = text
        .chars()
        .take(VALUE_CHARS)
        .map(|c| match c {
            '\n' | '\t' => ' ',
            c => c,
        })
        .collect();
    if text.chars().nth(VALUE_CHARS).is_some() {
        out.push_str(&format!("… ({} bytes)", bytes.len()));
    }
    out
}
