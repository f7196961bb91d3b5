//! Reads what the demo left behind from logs and files and compares it with what was produced.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use serde::Serialize;

use super::Places;
use crate::chain::Ledger;
use crate::cli::{say_words, table};
use crate::clock::SystemClock;
use crate::commit::{self, AddedFile, Log, LogName, Role, Writer};
use crate::error::{Error, Kind, Result};
use crate::sample::Tally;
use crate::store::{self, Store};
use crate::telemetry::{bytes, count, plural};
use crate::zone;
use crate::zone::deadletter::{self, Filter};

/// Rows and dead letters that are shown.
const SHOWN: usize = 5;

#[derive(Debug, Serialize)]
pub struct Kill {
    pub version: u64,
    pub records: u64,
    pub first_commit_after_seconds: f64,
    pub went_on_at: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Outcome {
    produced: Tally,
    kill: Option<Kill>,
    raw: Pipeline,
    processed: Pipeline,
    rejects: BTreeMap<String, u64>,
    checks: Vec<Check>,
    #[serde(skip)]
    rows: Vec<Vec<String>>,
    #[serde(skip)]
    letters: Vec<Vec<String>>,
}

#[derive(Debug, Serialize)]
struct Pipeline {
    name: String,
    root: String,
    commits: u64,
    records: crate::chain::Records,
    rows: crate::chain::Rows,
    dead_letters: u64,
    closes: bool,
    /// Whether files, log and digests agree; if not, what differs.
    problems: Vec<String>,
    tables: BTreeMap<String, Tree>,
}

#[derive(Debug, Default, Serialize)]
struct Tree {
    files: u64,
    rows: u64,
    bytes: u64,
    directories: u64,
}

/// One statement that is true or false.
#[derive(Debug, Serialize)]
struct Check {
    what: String,
    expected: u64,
    found: u64,
}

struct Zone {
    store: Arc<dyn Store>,
    name: LogName,
    log: Log,
}

impl Zone {
    fn open(root: &Path, pipeline: &str) -> Result<Zone> {
        let zone = root
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        let name = LogName::new(pipeline, zone);
        let store = store::open_url(&format!("file:{}", root.display()))?;
        let clock = SystemClock::shared();
        let writer = Writer::this_process(clock.as_ref());
        let log = Log::open(store.clone(), name.clone(), clock, writer)?.ok_or_else(|| {
            Error::new(Kind::LogCorrupt, "demo.read", "a pipeline left no log")
                .with("pipeline", pipeline)
        })?;
        Ok(Zone { store, name, log })
    }

    fn files(&self, role: Role) -> Vec<AddedFile> {
        let live = self.log.state().live.values();
        live.filter(|l| l.file.role == role)
            .map(|l| l.file.clone())
            .collect()
    }

    fn pipeline(&self, root: &Path) -> Result<Pipeline> {
        let totals = self.log.state().totals();
        let mut tables: BTreeMap<String, Tree> = BTreeMap::new();
        let mut directories: BTreeMap<String, std::collections::BTreeSet<String>> = BTreeMap::new();
        for file in self
            .files(Role::Rows)
            .into_iter()
            .chain(self.files(Role::DeadLetters))
        {
            let (table, rest) = file.path.split_once('/').unwrap_or((&file.path, ""));
            let tree = tables.entry(table.to_owned()).or_default();
            tree.files += 1;
            tree.rows += file.rows;
            tree.bytes += file.bytes;
            let directory = rest.rsplit_once('/').map_or("", |(d, _)| d);
            directories
                .entry(table.to_owned())
                .or_default()
                .insert(directory.to_owned());
        }
        for (table, tree) in &mut tables {
            tree.directories = directories.get(table).map_or(0, |d| d.len() as u64);
        }
        let verified = commit::verify(self.store.as_ref(), &self.name)?;
        let problems = verified.map_or_else(
            || vec!["there is no log".to_owned()],
            |v| {
                v.problems
                    .iter()
                    .map(|p| format!("{}: {}", p.path, p.message))
                    .collect()
            },
        );
        let Ledger {
            records,
            rows,
            dead_letters,
        } = totals;
        Ok(Pipeline {
            name: self.name.pipeline.clone(),
            root: root.display().to_string(),
            commits: self.log.version(),
            records,
            rows,
            dead_letters,
            closes: totals.closes(),
            problems,
            tables,
        })
    }
}

pub fn read(places: &Places, produced: &Tally, kill: Option<Kill>) -> Result<Outcome> {
    let raw_zone = Zone::open(&places.raw, "books-raw")?;
    let processed_zone = Zone::open(&places.processed, "books-processed")?;
    let (raw, processed) = (
        raw_zone.pipeline(&places.raw)?,
        processed_zone.pipeline(&places.processed)?,
    );
    let letters = raw_zone.files(Role::DeadLetters);
    let mut rejects = BTreeMap::new();
    for ((code, field), n) in deadletter::counts(&raw_zone.store, &raw_zone.name, &letters)? {
        let field = field.map_or_else(String::new, |f| format!(" in {f}"));
        *rejects.entry(format!("{code}{field}")).or_insert(0) += n;
    }
    let check = |what: &str, expected, found| Check {
        what: what.to_owned(),
        expected,
        found,
    };
    let refused_books = produced.bad_year + produced.missing;
    let checks = vec![
        check(
            "every message of the topic was read once",
            produced.messages,
            raw.records.read,
        ),
        check(
            "malformed messages are dead letters, whole",
            produced.malformed,
            raw.dead_letters - raw.rows.refused,
        ),
        check(
            "bad books are dead letters, their siblings are not",
            refused_books,
            raw.rows.refused,
        ),
        check(
            "every good book is a row of RAW",
            produced.books - refused_books,
            raw.rows.written,
        ),
        check(
            "every row of RAW was taken to PROCESSED",
            raw.rows.written,
            processed.rows.made,
        ),
        check(
            "repeated books were dropped, the first kept",
            produced.repeated,
            processed.rows.duplicates,
        ),
        check(
            "PROCESSED holds each book once",
            produced.unique,
            processed.rows.written,
        ),
    ];
    Ok(Outcome {
        produced: produced.clone(),
        kill,
        rows: sample_rows(&processed_zone)?,
        letters: sample_letters(&raw_zone, &letters)?,
        raw,
        processed,
        rejects,
        checks,
    })
}

impl Outcome {
    pub fn holds(&self) -> bool {
        let whole = |p: &Pipeline| p.closes && p.problems.is_empty();
        self.checks.iter().all(|c| c.expected == c.found)
            && whole(&self.raw)
            && whole(&self.processed)
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let failed = |e: String| {
            Error::new(
                Kind::StoreUnavailable,
                "demo.summary",
                "summary.json cannot be written",
            )
            .with("path", path.display())
            .source(e)
        };
        let text = serde_json::to_string_pretty(self).map_err(|e| failed(e.to_string()))?;
        fs::write(path, text).map_err(|e| failed(e.to_string()))
    }

    pub fn print(&self, took: Duration) -> Result<()> {
        for pipeline in [&self.raw, &self.processed] {
            print_pipeline(pipeline);
        }
        say_words("\nrefused, by reason");
        for (reason, n) in &self.rejects {
            say_words(format!("  {:>6}  {reason}", count(*n)));
        }
        say_words("\nfive rows of PROCESSED");
        table(&self.rows);
        say_words("\nfive dead letters");
        table(&self.letters);
        say_words("");
        for c in &self.checks {
            let mark = if c.expected == c.found { "✓" } else { "✗" };
            say_words(format!(
                "{mark} {}: {} of {}",
                c.what,
                count(c.found),
                count(c.expected)
            ));
        }
        say_words(format!(
            "\n{} in {:.0} s",
            if self.holds() {
                "All of it holds"
            } else {
                "NOT ALL OF IT HOLDS"
            },
            took.as_secs_f64()
        ));
        Ok(())
    }
}

/// A zone's ledgers, whether its files and log agree, and its tables.
fn print_pipeline(p: &Pipeline) {
    say_words(format!("\n{} ({})", p.name, plural(p.commits, "commit")));
    let (r, w) = (&p.records, &p.rows);
    say_words(format!(
        "  records  {} read = {} with rows + {} refused + {} filtered ({} refused in part)",
        count(r.read),
        count(r.with_rows),
        count(r.refused),
        count(r.filtered),
        count(r.refused_in_part)
    ));
    say_words(format!(
        "  rows     {} made = {} written + {} refused + {} filtered + {} duplicates",
        count(w.made),
        count(w.written),
        count(w.refused),
        count(w.filtered),
        count(w.duplicates)
    ));
    let closes = if p.closes {
        "✓ both ledgers close"
    } else {
        "✗ THE LEDGERS DO NOT CLOSE"
    };
    match p.problems.first() {
        None => say_words(format!("  {closes}; files, log and digests agree")),
        Some(problem) => say_words(format!(
            "  {closes}; ✗ {problem} ({} in all)",
            p.problems.len()
        )),
    }
    for (name, tree) in &p.tables {
        say_words(format!(
            "  {}/{name}: {}, {}, {}, {}",
            p.root,
            plural(tree.rows, "row"),
            plural(tree.files, "file"),
            plural(tree.directories, "partition"),
            bytes(tree.bytes)
        ));
    }
}

/// The first rows of the first file, without the coordinates.
fn sample_rows(zone: &Zone) -> Result<Vec<Vec<String>>> {
    let Some(file) = zone.files(Role::Rows).into_iter().next() else {
        return Ok(Vec::new());
    };
    match zone::read_file(&zone.store, &zone.name, &file)?.next() {
        Some(batch) => cells(&batch?, SHOWN),
        None => Ok(Vec::new()),
    }
}

/// Header and rows as text; columns that begin with `_` are coordinates and left out.
fn cells(batch: &RecordBatch, rows: usize) -> Result<Vec<Vec<String>>> {
    let failed = |e| Error::new(Kind::Bug, "demo.rows", "a value cannot be shown").source(e);
    let schema = batch.schema();
    let shown: Vec<usize> = (0..schema.fields().len())
        .filter(|i| !schema.field(*i).name().starts_with('_'))
        .collect();
    let mut table = vec![
        shown
            .iter()
            .map(|i| schema.field(*i).name().clone())
            .collect::<Vec<_>>(),
    ];
    let options = FormatOptions::default();
    for row in 0..rows.min(batch.num_rows()) {
        let mut line = Vec::new();
        for column in &shown {
            let format =
                ArrayFormatter::try_new(batch.column(*column), &options).map_err(failed)?;
            line.push(short(&format.value(row).to_string(), 28));
        }
        table.push(line);
    }
    Ok(table)
}

fn sample_letters(zone: &Zone, files: &[AddedFile]) -> Result<Vec<Vec<String>>> {
    let mut table = vec![
        ["at", "refused by", "code", "field", "message"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let mut codes = std::collections::BTreeSet::new();
    for letter in deadletter::read(&zone.store, &zone.name, files, &Filter::default()) {
        let letter = letter?;
        let Some(reason) = letter.reasons.first() else {
            continue;
        };
        // One of each code, while there are others.
        if !codes.insert(reason.code.clone()) {
            continue;
        }
        let piece = letter
            .row
            .map_or_else(String::new, |row| format!(" row {row}"));
        table.push(vec![
            format!(
                "{}/{}@{}{piece}",
                letter.topic, letter.partition, letter.offset
            ),
            format!("{}={}@{}", letter.transform, letter.plugin, letter.version),
            reason.code.clone(),
            reason.field.clone().unwrap_or_default(),
            short(&reason.message, 60),
        ]);
        if table.len() > SHOWN {
            break;
        }
    }
    Ok(table)
}

fn short(text: &str, most: usize) -> String {
    let line = text.replace('\n', " ");
    match line.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}
