//! `weir tap`: shows rows as they pass, one JSON object per line, with refusals.

use std::fmt;
use std::io::{self, BufWriter, Write};

use arrow_array::{Array as _, RecordBatch};
use clap::Args;
use serde_json::{Value, json};

use super::{Configs, Exit, print_problems, say_lines};
use crate::author::cell;
use crate::chain::{Applied, DeadLetter};
use crate::clock::SystemClock;
use crate::config::PipelineConfig;
use crate::error::{Error, Kind, Result};
use crate::logging;
use crate::operations::tap::{self, Ends, Seen, Tap, Until};
use crate::pipeline::rules::columns_read;
use crate::record::{OFFSET, PARTITION, ROW, SYSTEM, TIMESTAMP, TOPIC};
use crate::telemetry::count;
use crate::text::printable_json;

/// Show records of a pipeline's source with its rules applied, one JSON object per line.
///
/// Of a pipeline that reads a zone: all rows that the zone has now.
///
/// Nothing is committed and no file is written, so it can run beside the pipeline. Reading begins where --from says, or
/// source.start; with --until now it ends at the present end of the topic, which reads a topic as a batch. A refused
/// record or row has `_refused` with its reasons. Ctrl-C ends it.
#[derive(Debug, Args)]
pub(super) struct TapArgs {
    /// Config file of a pipeline
    #[arg(value_name = "FILE")]
    file: String,
    /// Where to begin, as in source.start: earliest, latest, timestamp:2024-01-01T00:00:00Z, offsets:orders/0=42
    #[arg(long, value_name = "START")]
    from: Option<String>,
    /// now: end where the partitions end at this moment; without it, wait for more
    #[arg(long, value_name = "now", value_parser = ["now"])]
    until: Option<String>,
    /// End after N lines
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<u64>,
    /// Run the transforms up to and with this one
    #[arg(long, value_name = "TRANSFORM")]
    after: Option<String>,
    /// Run no transform: key, value and headers as they are
    #[arg(long, conflicts_with = "after")]
    raw: bool,
    /// Only refused records and rows
    #[arg(long)]
    refused: bool,
    /// Only lines where a column has this value; code=CODE for refusals with that code. May be repeated: all must fit
    #[arg(long = "where", value_name = "COLUMN=VALUE")]
    conditions: Vec<String>,
    /// Print the columns and their types, and read nothing
    #[arg(long, conflicts_with_all = ["from", "until", "limit", "refused", "conditions"])]
    schema: bool,
    /// Override a key of the config
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Lay the table [profile.NAME] over the file
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
}

impl TapArgs {
    fn until(&self) -> Until {
        match &self.after {
            _ if self.raw => Until::Raw,
            Some(name) => Until::After(name.clone()),
            None => Until::All,
        }
    }

    /// The config with `--from` as its `source.start`. `None`: its problems are printed.
    fn load(&self) -> Option<PipelineConfig> {
        let mut set = self.set.clone();
        set.extend(self.from.iter().map(|from| format!("source.start={from}")));
        let configs = Configs {
            files: vec![self.file.clone()],
            set,
            profile: self.profile.clone(),
        };
        let mut loaded = configs.load();
        if !loaded.has_errors() {
            let missing = loaded.pipelines.iter();
            loaded
                .problems
                .extend(missing.flat_map(PipelineConfig::unresolved));
        }
        print_problems(&loaded.problems);
        let good = !loaded.has_errors();
        loaded.pipelines.pop().filter(|_| good)
    }
}

pub(super) fn tap(args: &TapArgs) -> Result<Exit> {
    let Some(config) = args.load() else {
        return Ok(Exit::Usage);
    };
    let filter = Filter::of(args)?;
    let mut log = config.log.clone();
    if config.raw.get("log.level").is_none() {
        log.level = "warn".to_owned();
    }
    logging::init(&log)?;
    if args.schema {
        let read = columns_read(&config, &SystemClock::shared())?;
        let (_, columns) = tap::chain(&config, &args.until(), read.as_ref())?;
        let lines = columns
            .fields()
            .iter()
            .map(|f| format!("{}  {}", f.name(), cell::name_of(f.data_type())));
        say_lines(lines.collect::<Vec<_>>().join("\n"));
        return Ok(Exit::Ok);
    }
    let ends = Ends {
        now: args.until.is_some(),
    };
    let mut source = Tap::open(&config, &args.until(), ends, SystemClock::shared())?;
    let mut shown = Shown::new(args.limit, filter);
    while let Some((seen, applied)) = source.read()? {
        if !shown.batch(&seen, &applied) {
            break;
        }
    }
    shown.end();
    Ok(Exit::Ok)
}

/// Which lines are shown.
#[derive(Debug)]
struct Filter {
    refused: bool,
    /// (column, value as it is shown)
    values: Vec<(String, String)>,
    codes: Vec<String>,
}

impl Filter {
    fn of(args: &TapArgs) -> Result<Filter> {
        let mut filter = Filter {
            refused: args.refused,
            values: Vec::new(),
            codes: Vec::new(),
        };
        for condition in &args.conditions {
            match condition.split_once('=') {
                Some(("code", code)) => filter.codes.push(code.to_owned()),
                Some((column, value)) if !column.is_empty() => {
                    filter.values.push((column.to_owned(), value.to_owned()));
                }
                _ => {
                    let message = format!("--where {condition}: expected COLUMN=VALUE");
                    return Err(Error::new(Kind::ConfigInvalid, "tap", message));
                }
            }
        }
        Ok(filter)
    }

    fn takes(&self, line: &Line) -> bool {
        let refusals = line.get(REFUSED).and_then(Value::as_array);
        let code = |wanted: &String| {
            let mut reasons = refusals.into_iter().flatten();
            reasons.any(|reason| reason["code"] == wanted.as_str())
        };
        let value = |(column, wanted): &(String, String)| match line.get(column) {
            Some(Value::String(text)) => text == wanted,
            Some(other) => {
                let shown = other.to_string();
                shown == *wanted
            }
            None => false,
        };
        (!self.refused || refusals.is_some())
            && self.codes.iter().all(code)
            && self.values.iter().all(value)
    }
}

/// The reasons of a refusal, in the place of columns.
const REFUSED: &str = "_refused";

/// One line: its columns in the order of the rules.
#[derive(Debug, Default)]
struct Line(Vec<(String, Value)>);

impl Line {
    fn put(&mut self, column: &str, value: Value) {
        self.0.push((column.to_owned(), value));
    }

    fn get(&self, column: &str) -> Option<&Value> {
        let mut columns = self.0.iter();
        columns
            .find(|(name, _)| name == column)
            .map(|(_, value)| value)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.0.iter();
        let columns: Vec<String> = columns
            .map(|(name, value)| format!("{}:{value}", json!(name)))
            .collect();
        write!(f, "{{{}}}", columns.join(","))
    }
}

/// What has gone to stdout.
#[derive(Debug)]
struct Shown {
    out: BufWriter<io::Stdout>,
    limit: Option<u64>,
    filter: Filter,
    records: u64,
    rows: u64,
    refused: u64,
    lines: u64,
}

impl Shown {
    fn new(limit: Option<u64>, filter: Filter) -> Shown {
        Shown {
            out: BufWriter::new(io::stdout()),
            limit,
            filter,
            records: 0,
            rows: 0,
            refused: 0,
            lines: 0,
        }
    }

    /// Rows and refusals in the order of their records. False: enough was shown, or nobody reads on.
    fn batch(&mut self, batch: &Seen, applied: &Applied) -> bool {
        self.records += applied.ledger.records.read;
        self.rows += applied.table.rows as u64;
        self.refused += applied.dead_letters.len() as u64;
        let mut letters = applied.dead_letters.iter().peekable();
        for row in 0..applied.table.rows {
            let record = applied.record.get(row).copied().unwrap_or_default();
            while let Some(letter) = letters.next_if(|l| l.record < record) {
                if !self.line(of_letter(batch, letter)) {
                    return false;
                }
            }
            if !self.line(of_row(batch, applied, row)) {
                return false;
            }
        }
        let all = letters.all(|letter| self.line(of_letter(batch, letter)));
        // A watching person sees each batch at once.
        all && self.out.flush().is_ok()
    }

    fn line(&mut self, line: Line) -> bool {
        if !self.filter.takes(&line) {
            return true;
        }
        if self.limit.is_some_and(|limit| self.lines >= limit) {
            return false;
        }
        self.lines += 1;
        let text = line.to_string();
        let text = printable_json(&text);
        let written = writeln!(self.out, "{text}").is_ok();
        written && self.limit.is_none_or(|limit| self.lines < limit)
    }

    fn end(mut self) {
        let _closed = self.out.flush();
        eprintln!(
            "{} records read: {} rows, {} refused; {} lines shown, nothing committed",
            count(self.records),
            count(self.rows),
            count(self.refused),
            count(self.lines)
        );
    }
}

/// Who the record is: the first columns of every line.
fn coordinates(seen: &Seen, record: u32) -> Line {
    let record = record as usize;
    let batch = match seen {
        Seen::Records(batch) => batch,
        Seen::Rows(rows) => return coordinates_of_row(rows, record),
    };
    let tp = &batch.covers.tp;
    let mut line = Line::default();
    line.put(TOPIC, json!(&*tp.topic));
    line.put(PARTITION, json!(tp.partition));
    line.put(OFFSET, json!(batch.offset.value(record)));
    if batch.timestamp.is_valid(record) {
        line.put(TIMESTAMP, cell::to_json(&batch.timestamp, record));
    }
    line
}

fn coordinates_of_row(rows: &RecordBatch, row: usize) -> Line {
    let mut line = Line::default();
    for name in [TOPIC, PARTITION, OFFSET, TIMESTAMP, ROW] {
        let column = rows.column_by_name(name);
        if let Some(column) = column.filter(|column| column.is_valid(row)) {
            line.put(name, cell::to_json(column, row));
        }
    }
    line
}

fn of_row(seen: &Seen, applied: &Applied, row: usize) -> Line {
    let record = applied.record.get(row).copied().unwrap_or_default();
    let mut line = coordinates(seen, record);
    if let Seen::Records(_) = seen {
        let piece = applied.piece.get(row).copied().unwrap_or_default();
        line.put(ROW, json!(piece));
    }
    let fields = applied.table.schema.fields().iter();
    for (field, column) in fields.zip(&applied.table.columns) {
        if SYSTEM.contains(&field.name().as_str()) {
            continue;
        }
        let at = if column.constant { 0 } else { row };
        line.put(field.name(), cell::to_json(&column.values, at));
    }
    line
}

fn of_letter(seen: &Seen, letter: &DeadLetter) -> Line {
    let mut line = coordinates(seen, letter.record);
    if let Some(piece) = letter.piece {
        line.put(ROW, json!(piece));
    }
    let reasons = letter.reasons.iter().map(|reason| {
        json!({
            "transform": letter.by.transform, "code": reason.code, "field": reason.field, "message": reason.message,
        })
    });
    line.put(REFUSED, reasons.collect());
    line
}
