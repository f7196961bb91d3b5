//! `weir log`: the commits of a zone.

use clap::Args;

use super::place::{self, Found, Where};
use super::remote::{Remote, local_only, read};
use super::{Exit, say_json, say_words, table};
use crate::commit::{self, Entry, LogName, Role};
use crate::error::Result;
use crate::http::client::{Client, query, segment};
use crate::operations::log::{self as of_log, Page, Which};
use crate::operations::utc;
use crate::record::SplitId;
use crate::telemetry::{bytes, count, counted, kind_name, plural};

/// Commits of a zone: offsets, rows, files, rules.
///
/// One line per entry of the commit log, the newest last. The entry is the commit: exactly what it names is in the
/// zone.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    #[command(flatten)]
    place: Where,
    /// Show the last N entries; 0 shows all
    #[arg(short = 'n', value_name = "N", default_value_t = 20)]
    last: u64,
    /// One JSON object per entry, as in the log, with its digest
    #[arg(long)]
    json: bool,
    /// Check that files, log and digests agree; exit code 1 if they do not
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn log(args: &LogArgs) -> Result<Exit> {
    if let Some(client) = args.remote.client(&args.place.at)? {
        local_only(&[
            ("--verify", args.verify),
            ("--pipeline", args.place.pipeline.is_some()),
        ])?;
        return remote(&client, &args.place.at, args.last, args.json);
    }
    let found = args.place.find()?;
    let mut exit = Exit::Ok;
    for name in &found.logs {
        if args.verify {
            if !verify(&found, name, args.json)? {
                exit = Exit::Failed;
            }
            continue;
        }
        let log = place::open(&found, name)?;
        let page = of_log::gather(args.last, |which, limit| {
            let sums = of_log::sums(name, log.state());
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            of_log::page(&found.store, name, sums, which, limit)
        })?;
        let title = format!(
            "{} / {}  in {}",
            name.pipeline,
            name.zone,
            found.store.url()
        );
        show(&title, &page, args.json)?;
    }
    Ok(exit)
}

/// Page by page, as large as a daemon makes them.
fn remote(client: &Client, name: &str, last: u64, json: bool) -> Result<Exit> {
    const PAGE: u64 = 1000;
    let page = of_log::gather(last, |which, limit| -> Result<Page> {
        let limit = Some(limit.clamp(1, PAGE).to_string());
        let at = match which {
            Which::From(version) => ("from", Some(version.to_string())),
            Which::Before(version) => ("before", Some(version.to_string())),
            Which::Newest => ("from", None),
        };
        let query = query(&[at, ("limit", limit)]);
        read(client.get(&format!("/pipelines/{}/log{query}", segment(name)))?)
    })?;
    let title = page.log.trim_start_matches("_system/").replace('/', " / ");
    show(&format!("{title}  at {}", client.url()), &page, json)?;
    Ok(Exit::Ok)
}

fn show(title: &str, page: &Page, json: bool) -> Result<()> {
    if json {
        return page.entries.iter().try_for_each(say_json);
    }
    say_words(title);
    let mut rows = vec![
        [
            "VERSION", "TIME", "KIND", "RECORDS", "ROWS", "DEAD", "FILES", "BYTES", "WHAT",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    rows.extend(page.entries.iter().map(|logged| row(&logged.entry, page)));
    table(&rows);
    summary(page);
    Ok(())
}

fn row(entry: &Entry, page: &Page) -> Vec<String> {
    let sum = |of: fn(&commit::Span) -> u64| entry.spans.iter().map(of).sum::<u64>();
    let files = entry.add.iter().filter(|f| f.role != Role::Keys);
    let (mut number, mut size) = (0, 0);
    for file in files {
        number += 1;
        size += file.bytes;
    }
    let or_dash = |n: u64, shown: String| if n == 0 { "-".to_owned() } else { shown };
    let [records, written, letters] = [
        sum(|s| s.records.read),
        sum(|s| s.rows.written),
        sum(|s| s.dead_letters),
    ];
    // A rewind takes its counts back.
    let sign = if entry.rewind.is_some() { "-" } else { "" };
    let signed = |n: u64| or_dash(n, format!("{sign}{}", count(n)));
    vec![
        entry.version.to_string(),
        utc(entry.time),
        kind_name(entry.kind).to_owned(),
        signed(records),
        signed(written),
        signed(letters),
        or_dash(number, number.to_string()),
        or_dash(size, bytes(size)),
        what(entry, page),
    ]
}

/// Offsets, if there are any; otherwise what the entry decided.
fn what(entry: &Entry, page: &Page) -> String {
    if let Some(init) = &entry.init {
        let transforms = rules(&init.transforms);
        return format!("begun by weir {} with {transforms}", init.weir);
    }
    if let Some(swap) = &entry.swap
        && entry.spans.is_empty()
    {
        return format!("rules are now {}", rules(&swap.transforms));
    }
    if let Some(reader) = &entry.reader {
        return format!("reader {}", reader.name);
    }
    let name = |split: &SplitId| match page.positions.iter().find(|p| p.split == *split) {
        Some(split) => format!("{}/{}", split.topic, split.partition),
        None => split.to_string(),
    };
    let mut parts: Vec<String> = Vec::new();
    parts.extend(
        entry
            .open
            .iter()
            .map(|o| format!("{}/{} opens at {}", o.topic, o.partition, o.offset)),
    );
    parts.extend(entry.spans.iter().map(|span| {
        let lost = match span.lost {
            0 => String::new(),
            n => format!(" ({n} lost)"),
        };
        format!("{}@{}-{}{lost}", name(&span.split), span.from, span.to)
    }));
    parts.extend(entry.plan.as_ref().map(planned));
    if let Some(input) = &entry.input {
        parts.push(format!("plan {}", input.plan));
    }
    let gone = match entry.expire {
        Some(_) => "expired",
        None => "removed",
    };
    for (n, noun, done) in [
        (entry.deliver.len(), "delivery", "made"),
        (entry.remove.len(), "file", gone),
        (entry.gc.len(), "file", "may be deleted"),
    ] {
        if n > 0 {
            parts.push(format!("{} {done}", plural(n as u64, noun)));
        }
    }
    if parts.len() > 4 {
        let more = parts.len() - 4;
        parts.truncate(4);
        parts.push(format!("and {more} more"));
    }
    parts.extend(Some(counted(&entry.counters)).filter(|text| !text.is_empty()));
    parts.extend(entry.rewind.as_ref().map(asked_by));
    parts.extend(left_by(entry));
    if let Some(swap) = &entry.swap {
        parts.push(format!("then rules {}", rules(&swap.transforms)));
    }
    parts.join(" ")
}

/// Of entries by which data leaves, or by which nobody waits for a reader any more.
fn left_by(entry: &commit::Entry) -> Option<String> {
    let (actor, reason) = match (&entry.expire, &entry.forget) {
        (Some(by), _) => (&by.actor, &by.reason),
        (_, Some(by)) => (&by.actor, &by.reason),
        (None, None) => {
            let first = entry.archived.first()?;
            let files = plural(entry.archived.len() as u64, "file");
            return Some(format!("{files} archived at {}", first.copy));
        }
    };
    let reason = match reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let reader = entry.forget.as_ref().map(|by| by.reader.as_str());
    Some(match reader {
        Some(reader) => format!("reader {reader} forgotten by {actor}{reason}"),
        None => format!("by {actor}{reason}"),
    })
}

fn asked_by(rewind: &commit::Rewind) -> String {
    match rewind.reason.as_str() {
        "" => format!("by {}", rewind.actor),
        reason => format!("by {}: {reason}", rewind.actor),
    }
}

fn planned(plan: &commit::Plan) -> String {
    let offsets: i64 = plan.ranges.values().map(|r| r.to - r.from).sum();
    format!(
        "{} of {} up to version {}, {}",
        plural(plan.ranges.len() as u64, "partition"),
        plan.log,
        plan.version,
        plural(offsets.unsigned_abs(), "offset")
    )
}

fn rules(rules: &[commit::Rule]) -> String {
    match rules.is_empty() {
        true => "no transforms".to_owned(),
        false => rules
            .iter()
            .map(|r| format!("{}={}@{}", r.transform, r.plugin, r.version))
            .collect::<Vec<_>>()
            .join(" "),
    }
}

fn summary(total: &Page) {
    let first = total
        .entries
        .first()
        .map_or(0, |logged| logged.entry.version);
    if first > 0 && total.before.is_none() {
        say_words(format!(
            "entries before {first} were forgotten (commit.log.retention); rows and sums are whole"
        ));
    }
    let closes = if total.closes {
        "closes"
    } else {
        "DOES NOT CLOSE"
    };
    say_words(format!(
        "records  {} read = {} with rows + {} refused + {} filtered  (ledger {closes})",
        count(total.records.read),
        count(total.records.with_rows),
        count(total.records.refused),
        count(total.records.filtered)
    ));
    say_words(format!(
        "rows     {} made = {} written + {} refused + {} filtered + {} duplicates",
        count(total.rows.made),
        count(total.rows.written),
        count(total.rows.refused),
        count(total.rows.filtered),
        count(total.rows.duplicates)
    ));
    match counted(&total.counters) {
        none if none.is_empty() => {}
        counted => say_words(format!("counted  {counted}")),
    }
    for left in &total.left {
        say_words(format!("left     {}", super::zone::left(left)));
    }
    for split in &total.positions {
        say_words(format!(
            "position {}/{} at {} (from {})",
            split.topic, split.partition, split.to, split.start
        ));
    }
}

/// `--verify` and `zone verify`; true: everything agrees.
pub(super) fn verify(found: &Found, name: &LogName, as_json: bool) -> Result<bool> {
    let Some(verified) = of_log::verify(&found.store, name)? else {
        return Ok(true);
    };
    if as_json {
        say_json(&verified)?;
        return Ok(verified.ok);
    }
    for problem in &verified.problems {
        let version = problem
            .version
            .map_or_else(String::new, |v| format!(" (version {v})"));
        say_words(format!("{}{version}: {}", problem.path, problem.message));
    }
    say_words(format!(
        "{} / {}: {}, {}, {}: {}",
        name.pipeline,
        name.zone,
        plural(verified.entries, "entry"),
        plural(verified.files, "file"),
        bytes(verified.bytes),
        match verified.problems.len() {
            0 => "log, files and digests agree".to_owned(),
            n => plural(n as u64, "difference"),
        }
    ));
    Ok(verified.ok)
}
