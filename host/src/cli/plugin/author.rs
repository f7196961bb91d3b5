//! `weir plugin new | build | bench | infer`: makes a component from nothing, measures its speed, and infers transforms
//! for unknown messages.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::tryout::{self, InputArgs, RunArgs};
use super::verify::{self, TestArgs};
use crate::author::build::{self, Built, Say};
use crate::author::{check, create, race, sample, sdk, subject::Subject, trial};
use crate::cli::{Exit, say, say_lines, say_value, table};
use crate::error::{Error, Kind, Result};
use crate::infer::{self, Format};
use crate::telemetry::{bytes, count};

/// Messages that `infer` reads by default.
const INFER_LIMIT: usize = 1_000;

#[derive(Debug, Subcommand)]
pub(super) enum AuthorVerb {
    /// Make a new plugin: a small crate that builds, passes its tests and runs
    New {
        /// Name of the plugin, its folder and its crate: small letters, digits and -
        name: String,
        /// Where the folder goes
        #[arg(long, value_name = "DIR", default_value = ".")]
        dir: PathBuf,
    },
    /// Build a plugin's component and say what it is
    Build {
        /// Folder of the crate
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Test a plugin: golden samples, the contract, a cost per row
    Test(TestArgs),
    /// See what a plugin makes of messages or rows: a table of rows, a table of refusals
    Run(RunArgs),
    /// Measure a plugin beside its native build, in interleaved rounds with a control
    Bench(BenchArgs),
    /// Look at XML, JSON or CSV messages and print the transform that flattens them
    Infer(InferArgs),
}

/// A plugin's rows a second: the component, the same component as control, and the native build of `examples/native.rs`.
///
/// All three take the same batch (the sample's rows over and over), in rounds, each round in another order.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// Folder of the crate
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Case below samples/; by default the first
    #[arg(long, value_name = "CASE")]
    sample: Option<String>,
    /// Rounds; medians are shown
    #[arg(long, value_name = "N", default_value_t = 15)]
    rounds: usize,
    /// Only the component
    #[arg(long)]
    no_native: bool,
    /// As JSON, every round
    #[arg(long)]
    json: bool,
}

/// What the messages are.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum As {
    Xml,
    Json,
    Csv,
}

impl From<As> for Format {
    fn from(named: As) -> Format {
        match named {
            As::Xml => Format::Xml,
            As::Json => Format::Json,
            As::Csv => Format::Csv,
        }
    }
}

/// Prints a [[transforms]] table for xml-flatten, json-flatten or csv-parse, with the evidence as comments.
///
/// A type is named only if every value has it. The table is tried on the messages, and the last lines show the result.
#[derive(Debug, Args)]
pub(super) struct InferArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Format of the messages; by default recognised by their first character
    #[arg(long = "as", value_name = "FORMAT")]
    format: Option<As>,
    /// The element that is a row, if it is not the repeated one (XML)
    #[arg(long, value_name = "ELEMENT")]
    row_tag: Option<String>,
    /// Directory of loose plugins for the trial; the shipped plugin is used if it has none
    #[arg(long, value_name = "DIR", default_value = "target/plugins")]
    plugin_path: PathBuf,
}

pub(super) fn author(verb: &AuthorVerb) -> Result<Exit> {
    match verb {
        AuthorVerb::New { name, dir } => new(name, dir),
        AuthorVerb::Build { dir, json } => build_(dir, *json),
        AuthorVerb::Test(args) => verify::test(args),
        AuthorVerb::Run(args) => tryout::run(args),
        AuthorVerb::Bench(args) => bench(args),
        AuthorVerb::Infer(args) => infer_(args),
    }
}

fn infer_(args: &InferArgs) -> Result<Exit> {
    let messages = args.input.messages(INFER_LIMIT)?;
    let there = messages.list.iter().enumerate();
    let there = there.filter_map(|(n, m)| Some((m.name(n), m.value.as_deref()?)));
    let (names, values): (Vec<String>, Vec<&[u8]>) = there.unzip();
    let format = args.format.map(Format::from);
    let format = format.or_else(|| infer::recognised(&values));
    // Without the plugin the reasons are those that `infer` finds by itself; the last line says so.
    let refused = format.and_then(|format| {
        let with_value = messages.list.iter().filter(|m| m.value.is_some());
        let with_value: Vec<_> = with_value.cloned().collect();
        trial::refused(format, &with_value, &args.plugin_path).ok()
    });
    let wanted = infer::Hints {
        format,
        row_tag: args.row_tag.as_deref(),
        whole: messages.whole,
        names: &names,
        refused: &refused.unwrap_or_default(),
        ..infer::Hints::default()
    };
    let map = infer::infer(&values, wanted)?;
    say_lines(map.toml().trim_end());
    let tried = trial::tried(&map, &messages.list, &args.plugin_path);
    let tried =
        tried.unwrap_or_else(|e| vec![infer::plain(&format!("it cannot be tried here: {e}"))]);
    for line in tried {
        say(format!("# {line}"));
    }
    messages.left.say(messages.list.len(), "message");
    Ok(Exit::Ok)
}

fn new(name: &str, parent: &Path) -> Result<Exit> {
    let (dir, written) = create::create(name, parent)?;
    let dir = plain(&dir);
    say(format!("{dir}: a plugin that works already"));
    let mut rows = Vec::new();
    for path in written {
        let about = match path.to_str().unwrap_or_default() {
            "src/lib.rs" => "the plugin: what it reads, what it makes, one function over one row",
            "samples/first/messages.txt" => "messages to try it on, one a line",
            "samples/first/expected.jsonl" => "what must come of them",
            "examples/native.rs" => "for `weir plugin bench`",
            _ => continue,
        };
        rows.push(vec![format!("  {}", path.display()), about.to_owned()]);
    }
    rows.push(vec![
        format!("  {}/", sdk::FOLDER),
        "the SDK and the contract, generated".to_owned(),
    ]);
    table(&rows);
    say(format!(
        "next: cd {dir} && weir plugin test && weir plugin run samples/first/messages.txt"
    ));
    Ok(Exit::Ok)
}

/// Without the `./` that nobody typed.
fn plain(path: &Path) -> String {
    let text = path.display().to_string();
    text.strip_prefix("./").unwrap_or(&text).to_owned()
}

fn build_(dir: &Path, json: bool) -> Result<Exit> {
    let subject = Subject::find(
        dir,
        Path::new(""),
        if json { Say::Errors } else { Say::All },
    )?;
    let (info, digest) = (subject.component.info(), subject.component.digest());
    let imports = subject.component.shape()?.imports;
    let Some(Built {
        wasm, refreshed, ..
    }) = &subject.built
    else {
        return Err(Error::new(
            Kind::ConfigInvalid,
            "plugin.build",
            format!("{} is no folder", dir.display()),
        )
        .hint("give the folder of the plugin's crate"));
    };
    let size = subject.component.bytes().len();
    if json {
        say_value(&json!({
            "plugin": info.name, "version": info.version, "digest": digest, "bytes": size,
            "path": wasm.display().to_string(), "imports": imports,
        }));
        return Ok(Exit::Ok);
    }
    if *refreshed > 0 {
        say(format!(
            "{} was of another release: {refreshed} files written anew",
            sdk::FOLDER
        ));
    }
    say(format!("{} {}: {}", info.name, info.version, info.summary));
    let mut rows = vec![
        vec!["  component".to_owned(), shown(wasm)],
        vec!["  size".to_owned(), bytes(size as u64)],
        vec!["  digest".to_owned(), digest.to_owned()],
    ];
    // Interfaces with the same meaning share a line.
    let mut means: Vec<(&str, Vec<&str>)> = Vec::new();
    for import in imports.iter().filter(|import| !import.functions.is_empty()) {
        let interface = import.name.split('@').next().unwrap_or(&import.name);
        match means.iter_mut().find(|(means, _)| *means == import.means) {
            Some((_, interfaces)) => interfaces.push(interface),
            None => means.push((&import.means, vec![interface])),
        }
    }
    for (n, (means, interfaces)) in means.iter().enumerate() {
        let name = if n == 0 { "  imports" } else { "" };
        rows.push(vec![
            name.to_owned(),
            format!("{}: {means}", interfaces.join(", ")),
        ]);
    }
    table(&rows);
    say(format!(
        "next: weir plugin test, weir plugin run FILE, weir plugin push {} --plugin-path DIR",
        shown(wasm)
    ));
    Ok(Exit::Ok)
}

/// Below the directory that one is in, where it is.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let below = here.as_ref().and_then(|here| path.strip_prefix(here).ok());
    below.unwrap_or(path).display().to_string()
}

fn bench(args: &BenchArgs) -> Result<Exit> {
    let subject = Subject::find(&args.dir, Path::new(""), Say::Errors)?;
    let samples = sample::read_all(&subject.dir.join("samples"), &subject.component.info().name)?;
    let names: Vec<&str> = samples.iter().map(|s| s.name.as_str()).collect();
    let wanted = args.sample.as_deref().unwrap_or(names[0]);
    let sample = samples.iter().find(|s| s.name == wanted).ok_or_else(|| {
        let message = format!("there is no sample `{wanted}`");
        Error::new(Kind::ConfigInvalid, "plugin.bench", message)
            .hint(format!("samples: {}", names.join(", ")))
    })?;
    let native = match args.no_native {
        true => None,
        false => build::native(&args.dir)?,
    };
    let batch = check::repeated(&sample.table)?;
    let race = race::run(
        &subject,
        &sample.settings,
        &batch,
        native.as_deref(),
        args.rounds.max(1),
    )?;
    if args.json {
        say_value(&json!({
            "plugin": subject.component.info().name, "digest": subject.component.digest(), "sample": sample.name,
            "rows": race.rows, "bytes": race.bytes, "ns_per_row": {
                "component": race.component, "control": race.control, "native": race.native,
            },
        }));
        return Ok(Exit::Ok);
    }
    say(format!(
        "{}: {} rows of {} a batch (sample {}), {} rounds, medians",
        subject.component.info().name,
        count(race.rows as u64),
        bytes(race.bytes as u64),
        sample.name,
        race.component.len()
    ));
    report(&race);
    if cfg!(debug_assertions) {
        say(
            "this weir checks itself (a debug build): its side of the component is slower than a release build's",
        );
    }
    if native.is_none() && !args.no_native {
        say("no native build: examples/native.rs holds weir_sdk::native_main!(…)");
    }
    Ok(Exit::Ok)
}

fn report(race: &race::Race) {
    let (_, base, _) = race::quartiles(&race.component);
    let mut rows = vec![
        [
            "",
            "NS/ROW",
            "MIDDLE HALF",
            "ROWS/S",
            "MB/S",
            "TIMES AS FAST",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let legs = [
        ("component", &race.component),
        ("control (the same)", &race.control),
        ("native", &race.native),
    ];
    for (name, numbers) in legs.into_iter().filter(|(_, numbers)| !numbers.is_empty()) {
        let (low, median, high) = race::quartiles(numbers);
        let size = race.bytes as f64 / race.rows as f64;
        rows.push(vec![
            name.to_owned(),
            format!("{median:.1}"),
            format!("{low:.1} – {high:.1}"),
            count((1e9 / median) as u64),
            format!("{:.1}", size / median * 1e3),
            format!("{:.2}", base / median),
        ]);
    }
    table(&rows);
}
