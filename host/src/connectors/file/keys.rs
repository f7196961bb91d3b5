//! The keys of `source.type = "file"`, and what they forbid together.

use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};

use super::{Clean, Dialect, FileConfig, Format, Header, Limits, OnChange};
use crate::commit::LogName;
use crate::config::keys::Default::{Derived, Is, Unset};
use crate::config::keys::Group::Source;
use crate::config::keys::Importance::{High, Low, Medium};
use crate::config::keys::{KeyDef, Scope, keys};
use crate::config::shape::Shape;
use crate::config::shape::unit::{DAY, GIB, KIB, MS, bytes, duration, int};
use crate::config::{self, Checker, Gives, Home, SourceType, System, TableName, Trigger};
use crate::config::{problem, store_keys};

const FILE: Scope = Scope::Source("file");

pub const SOURCE: SourceType = SourceType {
    name: "file",
    gives: Gives::Records,
    keys: KEYS,
    prefixed: None,
    trigger: Trigger::Continuous,
    table: |_| Some(TableName::PerTopic),
    topics: Some("source.topic"),
    check,
    build,
};

const KEYS: &[KeyDef] = keys! {
    "source.path": Shape::Text, Is("**"), High, Source, FILE,
        "Pattern of the files below `source.url`: `*.json`, `2026-*/**/*.csv.gz`, `{a,b}/part-*`. `*` stops at a slash, `**` does not. Names that begin with `_` or `.` are never read, but for directories such as `_day=1`.";
    "source.header": Shape::Choice(&["repeat", "drop", "none"]), Is("repeat"), High, Source, FILE,
        "The first line of a `csv` file: `repeat` puts it before each row, as csv-parse with `header-line = true` wants it; `drop` leaves it out; `none`: it is a row like the others. Another value gives other records, so it needs a pipeline of another name.";
    "source.delimiter": Shape::Text, Is(","), Medium, Source, FILE,
        "Between the fields of a `csv` row: one ASCII character, or `tab`. Decides where a quote begins a field.";
    "source.quote": Shape::Text, Is("\""), Low, Source, FILE,
        "Around fields of a `csv` row with line ends in them: one ASCII character, or `none`.";
    "source.escape": Shape::Text, Unset, Low, Source, FILE,
        "Inside quotes of a `csv` row: the next character is no quote. One ASCII character. A doubled quote is none in any case.";
    "source.row.tag": Shape::Text, Unset, High, Source, FILE,
        "Of `xml`: the element, at any depth, each of which is a record. Not set: each file is one record.";
    "source.record.max.bytes": bytes(KIB, GIB), Is("16MiB"), Low, Source, FILE,
        "Longest record. What is longer makes a bad file (`source.on.bad.file`).";
    "source.list.every": duration(100 * MS, DAY), Derived("1s, on object stores 5s"), Medium, Source, FILE,
        "How often new files are looked for with `trigger = \"continuous\"`. Other triggers look once when they begin.";
    "source.settle.time": duration(0, DAY), Derived("1s, on object stores 0s"), Medium, Source, FILE,
        "A file is taken when it has not changed for so long, so that one that is still written is not read half.";
    "source.max.files.per.trigger": int(1, 1_000_000), Unset, Medium, Source, FILE,
        "How many files are taken on at a time; the next ones follow when these are read. With `every:…` one such group at each time.";
    "source.max.bytes.per.trigger": bytes(KIB, 1024 * 1024 * GIB), Unset, Medium, Source, FILE,
        "How many bytes of files are taken on at a time, one file at least.";
    "source.latest.first": Shape::Flag, Is("false"), Low, Source, FILE,
        "Take the newest files first instead of the oldest. With a limit per trigger `source.max.file.age` then has no effect.";
    "source.file.name.only": Shape::Flag, Is("false"), Low, Source, FILE,
        "Two files with the same name in different directories are the same file: the first is read, whatever the others hold.";
    "source.max.file.age": duration(MS, 3660 * DAY), Is("7d"), Medium, Source, FILE,
        "A file that is older than the newest one by more than this is not taken any more, and what was read before it is forgotten. It does not hold for the first listing.";
    "source.on.change": Shape::Choice(&["warn", "read", "fail"]), Is("warn"), Medium, Source, FILE,
        "A file that was taken and has another size, time or identity under the same name: `warn` says so once and does not read it; `read` reads it whole, as a new file; `fail` stops the pipeline.";
    "source.on.bad.file": Shape::Choice(&["fail", "skip"]), Is("fail"), High, Source, FILE,
        "A file that cannot be read to its end: it is gone, was cut or replaced after it was taken, or its bytes are not of its format. `fail` stops with its name and the byte; `skip` records what is left of it as a gap in the commit log and goes on with the next file.";
    "source.clean.source": Shape::Choice(&["off", "archive", "delete"]), Is("off"), Medium, Source, FILE,
        "What becomes of a file when all its records are committed: it stays, moves to `source.archive.dir`, or is deleted. A rewind reads archived files again, deleted ones are gone.";
    "source.archive.dir": Shape::Text, Is("_archive"), Medium, Source, FILE,
        "Directory below `source.url` to which files move with `source.clean.source = \"archive\"`, under their paths. Nothing in it is ever read as new.";
};

/// The store listed here is asked in many small requests.
fn is_object_store(checker: &Checker<'_>) -> bool {
    let at = checker.location("source.url");
    let system = at.and_then(|at| at.system());
    system.is_some_and(System::is_object_store)
}

fn check(checker: &mut Checker<'_>) {
    store_keys::check(checker, "source.url");
    let format = checker.text("source.format").unwrap_or_default();
    for (key, of) in [
        ("source.header", "csv"),
        ("source.delimiter", "csv"),
        ("source.quote", "csv"),
        ("source.escape", "csv"),
        ("source.row.tag", "xml"),
    ] {
        if checker.typed(key) && format != of {
            let message = format!("`{key}` is for source.format=\"{of}\"");
            checker.problem(key, problem::DOES_NOT_APPLY, message).hint =
                Some("take the key out, or name the format".to_owned());
        }
    }
    if let Some(path) = checker.text("source.path")
        && let Err(why) = pattern(&path)
    {
        let shown = checker.shown("source.path", &path);
        let message = format!("`source.path`: `{shown}` is no pattern: {why}");
        checker.contradiction(
            "source.path",
            message,
            "write a pattern below source.url, such as *.json or 2026-*/**",
        );
    }
    if checker.is("source.file.name.only", "true") == Some(true)
        && checker.typed("source.on.change")
    {
        let message = "`source.on.change` has no effect with `source.file.name.only`: files of one name are the same file, whatever they hold".to_owned();
        checker.contradiction("source.on.change", message, "take one of them out");
    }
    dialect_keys(checker);
    archive(checker);
    let writes_files = checker.sink.is_none_or(|sink| sink.name == "zone");
    let (from, to) = (checker.location("source.url"), checker.location("sink.url"));
    if let (Some(from), Some(to)) = (from, to)
        && writes_files
        && from.is_same(&to)
    {
        let message = "`source.url`: the pipeline would read the files that it writes".to_owned();
        checker.contradiction("source.url", message, "give the sink a url of its own");
    }
}

fn archive(checker: &mut Checker<'_>) {
    let archives = checker.text("source.clean.source").as_deref() == Some("archive");
    if checker.typed("source.archive.dir") && !archives {
        let message =
            "`source.archive.dir` has no effect without `source.clean.source` = archive".to_owned();
        checker
            .problem("source.archive.dir", problem::DOES_NOT_APPLY, message)
            .hint = Some("write source.clean.source = \"archive\", or take the key out".to_owned());
    }
    let dir = checker.text("source.archive.dir").unwrap_or_default();
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    if dir.trim_end_matches('/').split('/').any(odd) {
        let shown = checker.shown("source.archive.dir", &dir);
        let message = format!("`source.archive.dir`: `{shown}` does not lie below `source.url`");
        checker.contradiction(
            "source.archive.dir",
            message,
            "name a directory below it, such as _archive; to keep it beside the files, set source.url one directory higher and source.path to the files",
        );
    }
}

fn dialect_keys(checker: &mut Checker<'_>) {
    let mut taken: Vec<(u8, &str)> = Vec::new();
    for key in ["source.delimiter", "source.quote", "source.escape"] {
        let Some(text) = checker.text(key) else {
            continue;
        };
        match character(&text) {
            Err(()) => {
                let shown = checker.shown(key, &text);
                let message = format!("`{key}`: expected one ASCII character, found `{shown}`");
                checker.problem(key, problem::WRONG_TYPE, message);
            }
            Ok(Some(byte)) => match taken.iter().find(|(known, _)| *known == byte) {
                Some((_, other)) => {
                    let message = format!("`{key}` is the same character as `{other}`");
                    checker.contradiction(key, message, "choose another one");
                }
                None => taken.push((byte, key)),
            },
            Ok(None) => {}
        }
    }
}

/// `None`: there is none.
fn character(text: &str) -> Result<Option<u8>, ()> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && *byte != b'\n' && *byte != b'\r' => Ok(Some(*byte)),
        b"tab" => Ok(Some(b'\t')),
        b"none" => Ok(None),
        _ => Err(()),
    }
}

fn pattern(text: &str) -> Result<GlobMatcher, String> {
    if text.starts_with('/') {
        return Err("it is below source.url and has no slash at its beginning".to_owned());
    }
    let glob = GlobBuilder::new(text).literal_separator(true).build();
    glob.map(|glob| glob.compile_matcher())
        .map_err(|e| e.kind().to_string())
}

fn dialect(checker: &Checker<'_>) -> Option<Dialect> {
    let byte = |key| character(&checker.text(key).unwrap_or_else(|| "none".to_owned())).ok();
    Some(Dialect {
        header: match checker.text("source.header")?.as_str() {
            "drop" => Header::Drop,
            "none" => Header::None,
            _ => Header::Repeat,
        },
        delimiter: byte("source.delimiter")?.unwrap_or(b','),
        quote: byte("source.quote")?,
        escape: byte("source.escape")?,
    })
}

/// `None` only where a problem was told.
fn build(checker: &Checker<'_>, home: &Home) -> Option<config::Source> {
    let far = is_object_store(checker);
    let time = |key, near: u64, away: u64| {
        let derived = std::time::Duration::from_millis(if far { away } else { near });
        checker.duration(key).unwrap_or(derived)
    };
    let path = checker.text("source.path")?;
    let clean = match checker.text("source.clean.source")?.as_str() {
        "archive" => {
            let dir = checker.text("source.archive.dir")?;
            Clean::Archive(dir.trim_end_matches('/').to_owned())
        }
        "delete" => Clean::Delete,
        _ => Clean::Off,
    };
    Some(config::Source::Records(Arc::new(FileConfig {
        topics: checker.topics()?,
        at: checker.location("source.url")?,
        matcher: pattern(&path).ok()?,
        path,
        format: match checker.text("source.format")?.as_str() {
            "jsonl" => Format::JsonLines,
            "text" => Format::Text,
            "csv" => Format::Csv(dialect(checker)?),
            "xml" => Format::Xml(checker.text("source.row.tag")),
            "parquet" => Format::Parquet,
            _ => Format::Json,
        },
        record_max: checker.size("source.record.max.bytes")?,
        list_every: time("source.list.every", 1_000, 5_000),
        settle: time("source.settle.time", 1_000, 0),
        limits: Limits {
            files: checker.number("source.max.files.per.trigger"),
            bytes: checker.number("source.max.bytes.per.trigger"),
        },
        latest_first: checker.is("source.latest.first", "true")?,
        name_only: checker.is("source.file.name.only", "true")?,
        max_age: checker.duration("source.max.file.age")?,
        on_change: match checker.text("source.on.change")?.as_str() {
            "read" => OnChange::Read,
            "fail" => OnChange::Fail,
            _ => OnChange::Warn,
        },
        skips_bad: checker.is("source.on.bad.file", "skip")?,
        clean,
        partitions: i32::try_from(checker.size("tasks.max")?).ok()?,
        trigger: checker.trigger()?,
        home: home.at.clone(),
        log: LogName::new(checker.text("name")?, home.zone.clone()),
    })))
}
