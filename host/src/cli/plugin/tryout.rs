//! `weir plugin run`: runs messages of a file, a folder or a topic through one plugin or a pipeline's whole chain, and
//! shows the result.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow_schema::SchemaRef;
use clap::Args;
use serde_json::Value;

use crate::author::build::Say;
use crate::author::input::{self, Message};
use crate::author::outcome::{Outcome, Refused, Row};
use crate::author::{Settings, Subject, sample, subject};
use crate::chain::{Table, TransformChain};
use crate::cli::{Exit, print_problems, say, say_lines, table, to_stderr, to_stdout};
use crate::clock::SystemClock;
use crate::config::{Overlay, PipelineConfig, Source};
use crate::connect;
use crate::error::{Error, Kind, Result};
use crate::kafka::KafkaProps;
use crate::pipeline;
use crate::plugin::{Places, Plugins};
use crate::record::{Batch, input_schema};
use crate::telemetry::{count, plural};
use crate::text::printable;
use crate::text::printable_json;

/// Number of messages by default.
const LIMIT: usize = 100;
/// Extensions of files that are one message.
const DOCUMENTS: &[&str] = &["xml", "json", "csv", "tsv"];
/// Characters of one cell.
const CELL: usize = 48;

/// Where messages come from.
#[derive(Debug, Clone, Args)]
pub(super) struct InputArgs {
    /// A file, a folder of one message a file, or (with --bootstrap.servers) a topic
    #[arg(value_name = "FILE|DIR|TOPIC")]
    from: String,
    /// The file is one message; .xml, .json, .csv and .tsv files always are
    #[arg(long)]
    whole: bool,
    /// One message per line, also in such files
    #[arg(long, conflicts_with = "whole")]
    lines: bool,
    /// The first N messages; 0: all
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<usize>,
    /// host:port of one or more brokers: read a topic from its earliest records
    #[arg(
        long = "bootstrap.servers",
        alias = "bootstrap-server",
        value_name = "HOST:PORT"
    )]
    bootstrap: Option<String>,
    /// A property of librdkafka's consumer, such as security.protocol=SSL; may be repeated
    #[arg(long = "property", short = 'X', value_name = "KEY=VALUE")]
    properties: Vec<String>,
}

/// What was read, and how much more there is.
pub(super) struct Messages {
    pub list: Vec<Message>,
    pub left: Left,
    /// A file was taken as one message.
    pub whole: bool,
}

/// What a limit left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// Number of messages left in a file or folder.
    Known(usize),
    /// A topic has more; the number is unknown.
    Some,
}

impl Left {
    fn of(there: usize, limit: usize) -> Left {
        match there.saturating_sub(limit) {
            0 => Left::Nothing,
            n => Left::Known(n),
        }
    }

    /// Says where reading stopped, and how to read on. Not printed among the rows, which may go into a file.
    pub(super) fn say(self, read: usize, what: &str) {
        let more = match self {
            Left::Nothing => return,
            Left::Known(n) => format!("{} more are there", count(n as u64)),
            Left::Some => "more are there".to_owned(),
        };
        to_stderr(&format!(
            "stopped after {}, {more}: --limit N reads N of them, --limit 0 all\n",
            plural(read as u64, what)
        ));
    }
}

/// `--limit`, or what is taken without it; 0 is no limit.
fn limit(given: Option<usize>, default: usize) -> usize {
    match given.unwrap_or(default) {
        0 => usize::MAX,
        n => n,
    }
}

impl InputArgs {
    pub(super) fn messages(&self, limit: usize) -> Result<Messages> {
        let limit = self::limit(self.limit, limit);
        let path = Path::new(&self.from);
        if let Some(bootstrap) = &self.bootstrap {
            let props = KafkaProps::new(bootstrap, "weir-plugin", &pairs(&self.properties)?)?;
            // Reads one more, to know whether there are more.
            let most = limit.saturating_add(1);
            let mut list = input::topic(&props, &self.from, most, SystemClock::shared())?;
            let left = match list.len() > limit {
                true => Left::Some,
                false => Left::Nothing,
            };
            list.truncate(limit);
            return Ok(Messages {
                list,
                left,
                whole: false,
            });
        }
        if !path.exists() {
            let message = format!("there is no file {}", path.display());
            return Err(
                Error::new(Kind::ConfigInvalid, "plugin.run", message).hint(format!(
                    "for a topic: {} --bootstrap.servers localhost:9092",
                    self.from
                )),
            );
        }
        let document = path.extension().and_then(|e| e.to_str());
        let document = document.is_some_and(|e| DOCUMENTS.contains(&e));
        let whole = self.whole || document && !self.lines;
        let mut list = input::messages(path, whole)?;
        let left = Left::of(list.len(), limit);
        list.truncate(limit);
        Ok(Messages { list, left, whole })
    }
}

fn pairs(properties: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| {
        let pair = text
            .split_once('=')
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let wrong = || {
            Error::new(
                Kind::ConfigInvalid,
                "plugin.run",
                format!("`{text}` is not KEY=VALUE"),
            )
        };
        pair.ok_or_else(wrong)
    };
    properties.iter().map(pair).collect()
}

/// Prints the rows a plugin makes, and what it refuses: row, piece, code, field, message.
///
/// One message per line; a .xml, .json, .csv or .tsv file is one message; a folder has one message per file. With
/// --rows the file has rows of columns, for a plugin that comes after another.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Folder of a crate (it is built), a .wasm file, or a name in --plugin-path
    #[arg(long, value_name = "DIR|FILE.wasm|NAME", default_value = ".")]
    plugin: PathBuf,
    /// Directory of loose plugins
    #[arg(long, value_name = "DIR", default_value = super::PLUGIN_PATH)]
    plugin_path: PathBuf,
    /// A key of the plugin; may be repeated
    #[arg(short = 'c', value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A file with the plugin's keys, or with a [[transforms]] table of it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The file has rows, one JSON object per line; types.toml beside it gives types that JSON lacks
    #[arg(long)]
    rows: bool,
    /// All transforms of a pipeline's config, in order, instead of one plugin; with --rows if the pipeline reads a zone
    #[arg(long, value_name = "CONFIG", conflicts_with_all = ["config", "set"])]
    transforms: Option<String>,
    /// With --transforms: the rows after each transform
    #[arg(long, requires = "transforms")]
    verbose: bool,
    /// Lines as in expected.jsonl
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &RunArgs) -> Result<Exit> {
    if let Some(config) = &args.transforms {
        return run_chain(args, config);
    }
    let subject = Subject::find(&args.plugin, &args.plugin_path, Say::Errors)?;
    let info = subject.component.info();
    let mut settings = match &args.config {
        Some(path) => Settings::read(path, &info.name)?,
        None => Settings::default(),
    };
    settings.set(&args.set)?;
    let (table, left) = args.table()?;
    let mut transform = subject.transform(&settings, &table.schema)?;
    let outcome = subject::apply(&mut *transform, &table)?;
    let what = if args.rows { "row" } else { "message" };
    show(&outcome, table.rows, what, args.json);
    left.say(table.rows, what);
    Ok(Exit::Ok)
}

impl RunArgs {
    fn table(&self) -> Result<(Table, Left)> {
        if !self.rows {
            let messages = self.input.messages(LIMIT)?;
            return Ok((input::table(&messages.list), messages.left));
        }
        let path = Path::new(&self.input.from);
        let types = sample::types(&path.with_file_name("types.toml"))?;
        let table = input::rows(path, &types)?;
        let limit = limit(self.input.limit, LIMIT);
        let rows = u32::try_from(limit.min(table.rows)).unwrap_or(u32::MAX);
        let taken = input::take(&table, &(0..rows).collect::<Vec<u32>>())?;
        Ok((taken, Left::of(table.rows, limit)))
    }
}

fn run_chain(args: &RunArgs, config: &str) -> Result<Exit> {
    let loaded = connect::load(&[config.to_owned()], &Overlay::default());
    print_problems(&loaded.problems);
    let Some(config) = loaded.pipelines.first() else {
        return Ok(Exit::Usage);
    };
    let tried = Tried::of(args, config)?;
    let plugins = Plugins::open(Places::of(config))?;
    let all = config.transforms.len();
    let from = if args.verbose { 1 } else { all };
    for stages in from.max(1)..=all {
        let mut part: PipelineConfig = config.clone();
        part.transforms.truncate(stages);
        let (transforms, problems) = pipeline::transforms_of(&plugins, &part, &tried.columns());
        if !problems.is_empty() {
            print_problems(&problems);
            return Ok(Exit::Usage);
        }
        let mut chain = TransformChain::new(transforms, config.errors.unit)?;
        let outcome = tried.through(&mut chain)?;
        if args.verbose {
            let last = part.transforms.last().map_or("", |t| t.name.as_str());
            say(format!("after {last}:"));
        }
        show(&outcome, tried.len(), tried.what(), args.json);
    }
    tried.left.say(tried.len(), tried.what());
    Ok(Exit::Ok)
}

/// What goes through the transforms of a pipeline.
struct Tried {
    input: Input,
    left: Left,
}

enum Input {
    Messages(Box<Batch>),
    /// Of a pipeline that reads a zone.
    Rows(Table),
}

impl Tried {
    fn of(args: &RunArgs, config: &PipelineConfig) -> Result<Tried> {
        let wrong = |message: String, hint: &str| {
            Err(Error::new(Kind::ConfigInvalid, "plugin.run", message).hint(hint))
        };
        match (&config.source, args.rows) {
            (Source::Records(_), false) => {
                let messages = args.input.messages(LIMIT)?;
                Ok(Tried {
                    input: Input::Messages(Box::new(input::batch("samples", &messages.list))),
                    left: messages.left,
                })
            }
            (Source::Zone(_), true) => {
                let (table, left) = args.table()?;
                let input = Input::Rows(table);
                Ok(Tried { input, left })
            }
            (Source::Records(_), true) => wrong(
                format!("{} reads messages, not rows", config.name),
                "leave --rows out",
            ),
            (Source::Zone(_), false) => wrong(
                format!("{} reads rows of a zone, not messages", config.name),
                "--rows and a file with a JSON object per line; `weir tap` takes the rows of the zone itself",
            ),
        }
    }

    fn columns(&self) -> SchemaRef {
        match &self.input {
            Input::Messages(_) => input_schema(),
            Input::Rows(table) => table.schema.clone(),
        }
    }

    fn through(&self, chain: &mut TransformChain) -> Result<Outcome> {
        match &self.input {
            Input::Messages(batch) => Ok(Outcome::of_chain(&chain.apply(batch)?, chain)),
            Input::Rows(table) => {
                if let Some(by) = chain.exploding() {
                    let message = format!("`{}` makes several rows of one", by.transform);
                    return Err(Error::new(Kind::ConfigInvalid, "plugin.run", message)
                        .hint("put it into the pipeline that fills the zone"));
                }
                Ok(Outcome::of_rows(&chain.apply_rows(table.clone())?))
            }
        }
    }

    fn len(&self) -> usize {
        match &self.input {
            Input::Messages(batch) => batch.len(),
            Input::Rows(table) => table.rows,
        }
    }

    fn what(&self) -> &'static str {
        match &self.input {
            Input::Messages(_) => "message",
            Input::Rows(_) => "row",
        }
    }
}

fn show(outcome: &Outcome, rows: usize, what: &str, json: bool) {
    if json {
        let lines = outcome.lines();
        lines
            .iter()
            .for_each(|line| to_stdout(&printable_json(line)));
        return;
    }
    let pieces = outcome.rows.iter().any(|row| row.piece > 0);
    if !outcome.rows.is_empty() {
        let mut head = vec!["ROW".to_owned()];
        head.extend(pieces.then(|| "PIECE".to_owned()));
        head.extend(outcome.columns.iter().cloned());
        let cells = |row: &Row| {
            let mut cells = vec![row.row.to_string()];
            cells.extend(pieces.then(|| row.piece.to_string()));
            cells.extend(row.values.iter().map(cell));
            cells
        };
        let lines: Vec<Vec<String>> = std::iter::once(head)
            .chain(outcome.rows.iter().map(cells))
            .collect();
        table(&lines);
    }
    if !outcome.refused.is_empty() {
        say_lines(if outcome.rows.is_empty() {
            "refused:"
        } else {
            "\nrefused:"
        });
        let mut lines = vec![
            ["ROW", "PIECE", "CODE", "FIELD", "MESSAGE"]
                .map(str::to_owned)
                .to_vec(),
        ];
        let line = |refused: &Refused| {
            let piece = refused
                .piece
                .map_or("all".to_owned(), |piece| piece.to_string());
            let field = refused.field.clone().unwrap_or_default();
            vec![
                refused.row.to_string(),
                piece,
                refused.code.clone(),
                field,
                refused.message.clone(),
            ]
        };
        lines.extend(outcome.refused.iter().map(line));
        table(&lines);
    }
    let mut told = vec![
        plural(outcome.rows.len() as u64, "row"),
        plural(outcome.refused.len() as u64, "refusal"),
        format!("{} filtered", outcome.filtered(rows)),
    ];
    told.extend(
        outcome
            .counters
            .iter()
            .map(|(name, n)| format!("{name} {n}")),
    );
    say_lines(format!(
        "\n{} → {}",
        plural(rows as u64, what),
        told.join(", ")
    ));
}

/// A value on one line, shortened; null is shown as a character that no text uses.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "∅".to_owned(),
        Value::String(text) => cut(&printable(text)),
        other => cut(&other.to_string()),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(CELL) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
