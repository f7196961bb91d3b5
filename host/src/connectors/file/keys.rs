//! The keys of `source.type = "file"`, and what they forbid together.

use std::path::Path;
use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};

use super::places::is_hidden;
use super::{Clean, Dialect, FileConfig, Format, Header, Limits, OnChange};
use crate::commit::LogName;
use crate::config::keys::Default::{Derived, Is, Unset};
use crate::config::keys::Group::Source;
use crate::config::keys::Importance::{High, Low, Medium};
use crate::config::keys::{KeyDef, Scope, keys};
use crate::config::reach::SYSTEM;
use crate::config::shape::Shape;
use crate::config::shape::unit::{DAY, GIB, KIB, MS, bytes, duration, int};
use crate::config::{self, Checker, Gives, Home, SourceType, System, TableName, Trigger};
use crate::config::{problem, store_keys};

/// Names as a zone's files have them, with every character that may stand in one.
const ZONE_FILES: [&str; 2] = [
    "01KABCDEFGHJKMNPQRSTVWXYZ0.parquet",
    "01M23456789ABCDEFGHJKMNPQR.parquet",
];
/// Bytes of all the texts that the braces of one pattern stand for. With more it is taken for one that matches everything.
const CHOICES_BYTES: usize = 64 << 10;

const FILE: Scope = Scope::Source("file");
const LINES: Scope = Scope::Sources(&["file", "socket"]);

pub const SOURCE: SourceType = SourceType {
    name: "file",
    gives: Gives::Records,
    keys: KEYS,
    prefixed: None,
    trigger: Trigger::Continuous,
    table: |_| Some(TableName::PerTopic),
    topics: Some("source.topic"),
    pattern: None,
    check,
    build,
};

const KEYS: &[KeyDef] = keys! {
    "source.path": Shape::Text, Is("**"), High, Source, FILE,
        "Pattern of the files below `source.url`: `*.json`, `2026-*/**/*.csv.gz`, `{a,b}/part-*`. `*` stops at a slash, `**` does not. Names that begin with `_` or `.` are never read, but for directories such as `_day=1`.";
    "source.header": Shape::Choice(&["repeat", "drop", "none"]), Is("repeat"), High, Source, FILE,
        "The first line of a `csv` file: `repeat` puts it before each row, as csv-parse with `header-line = true` wants it; `drop` leaves it out; `none`: it is a row like the others. Another value gives other records, so it needs a pipeline of another name.";
    "source.delimiter": Shape::Exact, Is(","), Medium, Source, FILE,
        "Between the fields of a `csv` row: one ASCII character, a tab as it is or as `tab` or `\\t`. Decides where a quote begins a field.";
    "source.quote": Shape::Exact, Is("\""), Low, Source, FILE,
        "Around fields of a `csv` row with line ends in them: one ASCII character, or `none`.";
    "source.escape": Shape::Exact, Unset, Low, Source, FILE,
        "Inside quotes of a `csv` row: the next character is no quote. One ASCII character. A doubled quote is none in any case.";
    "source.row.tag": Shape::Text, Unset, High, Source, FILE,
        "Of `xml`: the element, at any depth, each of which is a record. Not set: each file is one record.";
    "source.record.max.bytes": bytes(KIB, GIB), Is("16MiB"), Low, Source, LINES,
        "Longest record. What is longer makes a bad file (`source.on.bad.file`); of a socket it stops the pipeline.";
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
        "A file that is older than the newest one by more than this is not taken any more. A time in the future counts as now. It does not hold for the first listing.";
    "source.follow": Shape::Flag, Is("false"), High, Source, FILE,
        "Read files while they grow, as `tail -F` does: a line is taken when its end is there. A file that is renamed is read to its end, then the new one of its name. Directories of this machine, `jsonl` and `text`. `source.path` names the files and not what they are renamed to.";
    "source.line.ends": Shape::Choice(&["lf", "any"]), Is("lf"), Low, Source, FILE,
        "With `source.follow`, what ends a line: LF or CR LF; or (`any`) also a CR alone, as for Java.";
    "source.on.change": Shape::Choice(&["warn", "read", "fail"]), Is("warn"), Medium, Source, FILE,
        "A file that was taken and has another size, time or identity under the same name: `warn` says so once and does not read it; `read` reads it whole, as a new file; `fail` stops the pipeline.";
    "source.on.bad.file": Shape::Choice(&["fail", "skip"]), Is("fail"), High, Source, FILE,
        "A file that cannot be read to its end: it is gone, was cut or replaced after it was taken, or its bytes are not of its format. `fail` stops with its name and the byte; `skip` records what is left of it as a gap in the commit log and goes on with the next file.";
    "source.clean.source": Shape::Choice(&["off", "archive", "delete"]), Is("off"), Medium, Source, FILE,
        "What becomes of a file when all its records are committed: it stays, moves to `source.archive.dir`, or is deleted. A rewind reads archived files again, deleted ones are gone.";
    "source.archive.dir": Shape::Text, Is("_archive"), Medium, Source, FILE,
        "Directory below `source.url` to which files move with `source.clean.source = \"archive\"`, under their paths. Its name begins with `_` or `.`, so that nothing in it is ever read as new.";
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
    follow(checker);
    let writes_files = checker.sink.is_none_or(|sink| sink.name == "zone");
    let (from, to) = (checker.location("source.url"), checker.location("sink.url"));
    if let (Some(from), Some(to)) = (from, to)
        && writes_files
        && let Some(below) = from.path_to(&to)
        && may_match(&checker.text("source.path").unwrap_or_default(), &below)
    {
        let message = "`source.url`: the pipeline would read the files that it writes".to_owned();
        checker.contradiction(
            "source.url",
            message,
            "give the sink a url that is not below source.url, or let source.path name files of other directories",
        );
    }
}

/// Whether a pattern may match a file of a zone that lies at a path below where the pattern begins. Directories of tables and
/// partitions may have any name. What is left open, such as a pattern with too many choices, counts as yes.
fn may_match(pattern: &str, zone: &Path) -> bool {
    let zone: Vec<&str> = zone.iter().filter_map(|part| part.to_str()).collect();
    if zone.iter().copied().any(is_hidden) {
        return false;
    }
    choices(pattern).is_none_or(|choices| choices.iter().any(|choice| reaches(choice, &zone)))
}

/// The same for a pattern without braces. Its directories lead to places: so many parts of the zone's path, and behind them any
/// directory in the zone.
fn reaches(choice: &str, zone: &[&str]) -> bool {
    let (dirs, file) = match choice.rsplit_once('/') {
        Some((dirs, file)) => (dirs.split('/').collect(), file),
        None => (Vec::new(), choice),
    };
    let mut places = vec![false; zone.len() + 2];
    places.iter_mut().take(1).for_each(|begin| *begin = true);
    for dir in dirs {
        if dir == "**" {
            let begin = places.iter().position(|reached| *reached);
            let behind = places.iter_mut().skip(begin.unwrap_or(usize::MAX));
            behind.for_each(|reached| *reached = true);
            continue;
        }
        let matches = part(dir);
        // Into the zone, or deeper in it.
        let enters = !is_hidden(dir) && places.iter().skip(zone.len()).any(|reached| *reached);
        let names = places.iter().zip(zone);
        let next = names.map(|(reached, name)| *reached && matches(name));
        places = std::iter::once(false).chain(next).chain([enters]).collect();
    }
    match file {
        "**" => places.contains(&true),
        file => {
            let is_there = places.last().copied().unwrap_or(false);
            is_there && ZONE_FILES.iter().any(|name| part(file)(name))
        }
    }
}

/// What is no pattern alone, such as half a class with a slash in it, counts as one that matches.
fn part(text: &str) -> impl Fn(&str) -> bool + use<> {
    let matcher = pattern(text);
    move |name| {
        matcher
            .as_ref()
            .map_or(true, |matcher| matcher.is_match(name))
    }
}

/// Every text that the braces of a pattern stand for. `None`: there are too many.
fn choices(pattern: &str) -> Option<Vec<String>> {
    let (mut open, mut plain, mut bytes) = (vec![pattern.to_owned()], Vec::new(), 0);
    while let Some(text) = open.pop() {
        let Some((before, inside, behind)) = first_braces(&text) else {
            plain.push(text);
            continue;
        };
        let outside = before.len() + behind.len();
        let more = inside.iter().map(|choice| choice.len() + outside);
        bytes += more.sum::<usize>();
        if bytes > CHOICES_BYTES {
            return None;
        }
        let next = inside
            .iter()
            .map(|choice| format!("{before}{choice}{behind}"));
        open.extend(next);
    }
    Some(plain)
}

/// What stands before the first braces of a pattern, between their commas, and behind them.
fn first_braces(pattern: &str) -> Option<(&str, Vec<&str>, &str)> {
    let (mut depth, mut before, mut from) = (0, 0, 0);
    let mut inside = Vec::new();
    let mut bytes = pattern.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'[' => {
                // A bracket at the beginning of a class is one of its characters.
                let class = pattern.get(at + 1..).unwrap_or_default();
                let begin = usize::from(class.starts_with(['!', '^'])) + 1;
                let length = class.get(begin..).and_then(|rest| rest.find(']'));
                let length = length.map_or(0, |n| n + begin + 1);
                bytes.by_ref().take(length).for_each(drop);
            }
            b'{' => {
                depth += 1;
                if depth == 1 {
                    (before, from) = (at, at + 1);
                }
            }
            b',' if depth == 1 => {
                inside.push(pattern.get(from..at)?);
                from = at + 1;
            }
            b'}' if depth == 1 => {
                inside.push(pattern.get(from..at)?);
                return Some((pattern.get(..before)?, inside, pattern.get(at + 1..)?));
            }
            b'}' if depth > 1 => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Keys that speak of files which are complete.
const OF_COMPLETE_FILES: [&str; 9] = [
    "source.settle.time",
    "source.max.files.per.trigger",
    "source.max.bytes.per.trigger",
    "source.latest.first",
    "source.file.name.only",
    "source.max.file.age",
    "source.on.change",
    "source.clean.source",
    "source.archive.dir",
];

fn follow(checker: &mut Checker<'_>) {
    const KEY: &str = "source.follow";
    if checker.is(KEY, "true") != Some(true) {
        if checker.typed("source.line.ends") {
            let message = format!("`source.line.ends` has no effect without `{KEY}`");
            checker.contradiction("source.line.ends", message, "take it out");
        }
        return;
    }
    for key in OF_COMPLETE_FILES {
        if checker.typed(key) {
            let message = format!(
                "`{key}` is for files that are complete, and `{KEY}` reads them as they grow"
            );
            checker.contradiction(key, message, "take one of them out");
        }
    }
    let format = checker.text("source.format").unwrap_or_default();
    if format != "jsonl" && format != "text" {
        let shown = checker.shown("source.format", &format);
        let message = format!("`{KEY}` reads lines, and source.format is `{shown}`");
        checker.contradiction(KEY, message, "write source.format = \"jsonl\" or \"text\"");
    }
    let at = checker.location("source.url");
    if at.is_some_and(|at| at.system() != Some(System::File)) {
        let message = format!(
            "`{KEY}`: only files of this machine grow in a way that can be told from being written anew"
        );
        checker.contradiction(KEY, message, "name a directory, file:…");
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
    let parts = || dir.trim_end_matches('/').split('/');
    if parts().any(is_odd) {
        let shown = checker.shown("source.archive.dir", &dir);
        let message = format!("`source.archive.dir`: `{shown}` does not lie below `source.url`");
        checker.contradiction(
            "source.archive.dir",
            message,
            "name a directory below it, such as _archive; to keep it beside the files, set source.url one directory higher and source.path to the files",
        );
    } else if parts().any(|part| part == SYSTEM) {
        let message = "`source.archive.dir`: the log of a zone may lie there".to_owned();
        checker.contradiction(
            "source.archive.dir",
            message,
            "name another directory, such as _archive",
        );
    } else if !parts().next().is_some_and(is_hidden) {
        let shown = checker.shown("source.archive.dir", &dir);
        let message = format!(
            "`source.archive.dir`: what lies in `{shown}` would be read as new when the key is taken out"
        );
        checker.contradiction(
            "source.archive.dir",
            message,
            "let its name begin with _ or a dot, such as _archive: such names are never read",
        );
    }
}

fn dialect_keys(checker: &mut Checker<'_>) {
    let mut taken: Vec<(u8, &str)> = Vec::new();
    for key in ["source.delimiter", "source.quote", "source.escape"] {
        let Some(text) = checker.text(key) else {
            continue;
        };
        let word = word_of(key);
        match character(&text, word) {
            Err(()) => {
                let shown = checker.shown(key, &text);
                let message = format!(
                    "`{key}`: expected one ASCII character or `{word}`, found `{}`",
                    shown.escape_debug()
                );
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

/// What a key takes beside a character.
fn word_of(key: &str) -> &'static str {
    match key {
        "source.delimiter" => "tab",
        _ => "none",
    }
}

/// `None`: there is none.
fn character(text: &str, word: &str) -> Result<Option<u8>, ()> {
    match config::character(text) {
        Some(byte) => Ok(Some(byte)),
        None if text == word => Ok(None),
        None => Err(()),
    }
}

/// Part of a path that leads nowhere or elsewhere.
fn is_odd(part: &str) -> bool {
    part.is_empty() || part == "." || part == ".."
}

fn pattern(text: &str) -> Result<GlobMatcher, String> {
    if text.starts_with('/') {
        return Err("it is below source.url and has no slash at its beginning".to_owned());
    }
    if text.split('/').any(is_odd) {
        return Err("a part of it is empty, `.` or `..`".to_owned());
    }
    let glob = GlobBuilder::new(text).literal_separator(true).build();
    glob.map(|glob| glob.compile_matcher())
        .map_err(|e| e.kind().to_string())
}

fn dialect(checker: &Checker<'_>) -> Option<Dialect> {
    let byte = |key| match checker.text(key) {
        Some(text) => character(&text, word_of(key)).ok(),
        None => Some(None),
    };
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
        settle: match checker.is("source.follow", "true")? {
            true => std::time::Duration::ZERO,
            false => time("source.settle.time", 1_000, 0),
        },
        limits: Limits {
            files: checker.number("source.max.files.per.trigger"),
            bytes: checker.number("source.max.bytes.per.trigger"),
        },
        latest_first: checker.is("source.latest.first", "true")?,
        name_only: checker.is("source.file.name.only", "true")?,
        max_age: checker.duration("source.max.file.age")?,
        follows: checker.is("source.follow", "true")?,
        cr_ends: checker.is("source.line.ends", "any")?,
        on_change: match checker.text("source.on.change")?.as_str() {
            "read" => OnChange::Read,
            "fail" => OnChange::Fail,
            _ => OnChange::Warn,
        },
        skips_bad: checker.is("source.on.bad.file", "skip")?,
        clean,
        partitions: i32::try_from(checker.size("tasks.max")?).ok()?,
        trigger: checker.trigger()?,
        reach: checker.raw.reach().clone(),
        home: home.at.clone(),
        log: LogName::new(checker.text("name")?, home.zone.clone()),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stays_below_the_root() {
        for (text, good) in [
            ("**", true),
            ("in/*.json", true),
            ("../x", false),
            ("in/../../x/*", false),
            ("./x", false),
            ("in//x", false),
            ("in/", false),
            ("", false),
            ("/etc/*", false),
            ("..x/*", true),
        ] {
            assert_eq!(pattern(text).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn a_pattern_with_very_many_choices_counts_as_one_that_matches() {
        assert_eq!(choices("a{b,c{d,}}[{,}]").map(|all| all.len()), Some(3));
        for many in [
            "{a,b}".repeat(40),
            format!("{{{}}}", "a,".repeat(100_000)),
            format!("{{x,{}}}", "a".repeat(100_000)),
        ] {
            assert_eq!(choices(&many), None);
            assert!(may_match(&many, Path::new("zone")));
        }
        let deep = format!("{}x", "**/a/".repeat(200));
        assert!(!may_match(&deep, Path::new(&"a/".repeat(200))));
    }

    #[test]
    fn a_zone_below_the_source_is_read_only_where_the_pattern_says_so() {
        for (pattern, zone, matches) in [
            ("**", "", true),
            ("**", "zone", true),
            ("**", "_zone", false),
            ("**", "a/.zone/b", false),
            ("*.json", "zone", false),
            ("*", "zone", false),
            ("*/*/*", "zone", true),
            ("*/*", "zone", false),
            ("**/*.json", "zone", false),
            ("**/*.parquet", "zone", true),
            ("**/part-*", "zone", false),
            ("in/**", "zone", false),
            ("in/**", "in/zone", true),
            ("in/deep/**", "in", true),
            ("{in,zone}/**", "zone", true),
            ("{a/b/c,d}", "a", false),
            ("{a/b/c*,d}", "a", false),
            ("{a/b/0*,d}", "a", true),
            ("*.{json,csv}", "zone", false),
            ("**/*.{json,csv}", "zone", false),
            ("**/*.{json,{csv,p*}}", "zone", true),
            ("**/*.jsonl*", "zone", false),
            ("**/*.p*", "", true),
            ("**/*[7Z]*", "zone", true),
            ("**/[a-z]*", "zone", false),
            ("**/[!]{a-z]*", "zone", true),
            ("zone/orders/*.parquet", "zone", true),
            ("zone/ord*/**", "zone", true),
            ("zone/*.parquet", "zone", false),
            ("z*/t/*/*/*.parquet", "zone", true),
            ("a/**/b/**/*", "a/x/b", true),
            ("a/**/b/*/*", "a/x/c", true),
            ("a/**/b/*", "c/x/b", false),
            ("_*/t/*", "zone", false),
            ("zone/_x/*", "zone", false),
            ("\\{in,zone\\}/**", "zone", false),
        ] {
            assert_eq!(
                may_match(pattern, Path::new(zone)),
                matches,
                "{pattern} {zone}"
            );
        }
    }
}
