//! `weir pipeline ls`, `create`, `pause` and so on: the pipelines of a daemon, by the routes that Connect's clients use.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::super::remote::{Remote, read};
use super::super::{Exit, print_problems, say, say_json, say_lines, say_value, table, to_stderr};
use crate::clock::SystemClock;
use crate::config::{self, Overlay, Problem, Text};
use crate::connectors::CATALOG;
use crate::daemon;
use crate::error::{Error, Kind, Result};
use crate::http::client::{Carries, Client, query, segment};
use crate::operations::short;
use crate::operations::status::{Logged, Pipeline};
use crate::telemetry::count;

#[derive(Debug, Subcommand)]
pub(super) enum ManageVerb {
    /// Pipelines of a daemon, their states and targets
    Ls(LsArgs),
    /// One pipeline of a daemon: state, tasks, rules in force, ledgers, positions
    Status(OneArgs),
    /// Create a pipeline in a daemon from a config file
    Create(CreateArgs),
    /// Show a pipeline's config as the daemon has it, or with FILE replace it
    Config(ConfigArgs),
    /// Drain and pause; a restart of the daemon does not resume it
    Pause(OneArgs),
    /// Run again, from paused or stopped
    Resume(OneArgs),
    /// Stop: drain and release all tasks. Offsets can be changed then
    Stop(StopArgs),
    /// Begin a pipeline again, with its tasks
    Restart(RestartArgs),
    /// Stop and forget a pipeline; its zone, log and dead letters stay
    Delete(OneArgs),
    /// How far a pipeline has read
    Offsets(OneArgs),
}

#[derive(Debug, Args)]
pub(super) struct LsArgs {
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
pub(super) struct OneArgs {
    /// The pipeline's name in the daemon
    #[arg(value_name = "NAME")]
    name: String,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Create a pipeline in a daemon from a config file.
///
/// References (${env:…}, ${file:…}) stay references; the daemon resolves them, and paths, where it runs.
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// Config file: TOML, .properties or Connect's JSON
    #[arg(value_name = "FILE")]
    file: String,
    #[command(flatten)]
    over: Over,
    /// What it does at first
    #[arg(long, value_enum, default_value_t = Initial::Running)]
    state: Initial,
    /// Even if columns of an existing table go or change their type
    #[arg(long)]
    allow_breaking: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Initial {
    Running,
    Paused,
    Stopped,
}

#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    /// The pipeline's name in the daemon
    #[arg(value_name = "NAME")]
    name: String,
    /// Replace it by this config
    #[arg(value_name = "FILE")]
    file: Option<String>,
    #[command(flatten)]
    over: Over,
    /// Even if columns go or change their type
    #[arg(long)]
    allow_breaking: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Overrides of a file that is sent.
#[derive(Debug, Args)]
struct Over {
    /// Override a key of the file
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Apply the table [profile.NAME] of the file
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
}

/// Stop a pipeline: what it has read is committed, then its tasks are released.
///
/// Returns when it is stopped, as `systemctl stop` does. Offsets can be changed then.
#[derive(Debug, Args)]
pub(super) struct StopArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Return at once, while it drains
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Args)]
pub(super) struct RestartArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Only if it or a task has failed
    #[arg(long)]
    only_failed: bool,
}

pub(super) fn manage(verb: &ManageVerb) -> Result<Exit> {
    match verb {
        ManageVerb::Ls(args) => ls(args),
        ManageVerb::Status(args) => status(args),
        ManageVerb::Create(args) => create(args),
        ManageVerb::Config(args) => config(args),
        ManageVerb::Pause(args) => target(args, "pause", "drains, then stands still"),
        ManageVerb::Resume(args) => target(args, "resume", "begins to run"),
        ManageVerb::Stop(args) => stop(args),
        ManageVerb::Restart(args) => restart(args),
        ManageVerb::Delete(args) => {
            let client = args.remote.daemon()?;
            client.delete(&path(&args.name, ""))?;
            done(args, "deleted; its zone, log and dead letters stay");
            Ok(Exit::Ok)
        }
        ManageVerb::Offsets(args) => offsets(args),
    }
}

fn path(name: &str, below: &str) -> String {
    format!("/connectors/{}{below}", segment(name))
}

/// For people; programs have the exit code.
fn done(args: &OneArgs, what: &str) {
    if !args.json {
        say(format!("{}: {what}", args.name));
    }
}

fn ls(args: &LsArgs) -> Result<Exit> {
    let client = args.remote.daemon()?;
    let all: Vec<Pipeline> = read(client.get("/pipelines")?)?;
    if args.json {
        all.iter().try_for_each(say_json)?;
        return Ok(Exit::Ok);
    }
    if all.is_empty() {
        say(format!("no pipelines at {}", client.url()));
        return Ok(Exit::Ok);
    }
    let header = ["PIPELINE", "STATE", "TARGET", "TASKS", "WHY"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for one in all {
        let why = trace(&one).and_then(|trace| trace.lines().next().map(str::to_owned));
        rows.push(vec![
            one.name,
            one.state,
            one.target,
            one.tasks.len().to_string(),
            why.unwrap_or_default(),
        ]);
    }
    table(&rows);
    Ok(Exit::Ok)
}

/// The trace of the pipeline, or of the first task that failed.
fn trace(one: &Pipeline) -> Option<String> {
    let mut tasks = one.tasks.iter();
    let of_task = || tasks.find_map(|task| task.trace.clone());
    one.trace.clone().or_else(of_task)
}

fn status(args: &OneArgs) -> Result<Exit> {
    let client = args.remote.daemon()?;
    let one: Pipeline = read(client.get(&format!("/pipelines/{}", segment(&args.name)))?)?;
    if args.json {
        say_json(&one)?;
        return Ok(Exit::Ok);
    }
    say(format!(
        "{}  {} (target {})",
        one.name, one.state, one.target
    ));
    for task in &one.tasks {
        say(format!("task {}  {}", task.id, task.state));
    }
    if let Some(next) = &one.next_run {
        say(format!("next run {next}"));
    }
    if let Some(alarm) = &one.alarm {
        say_lines(format!("look at this: {alarm}"));
    }
    if let Some(trace) = trace(&one) {
        say_lines(format!("  {}", trace.replace('\n', "\n  ")));
    }
    match &one.log {
        Some(log) => show_log(log),
        None => say("no log yet: it has not begun"),
    }
    Ok(Exit::Ok)
}

fn show_log(log: &Logged) {
    let title = log.log.trim_start_matches("_system/");
    say(format!("{title}  in {}  version {}", log.url, log.version));
    for rule in &log.transforms {
        say(format!(
            "rules    {}={}@{} {} config {} since version {}",
            rule.transform,
            rule.plugin,
            rule.version,
            short(&rule.component),
            short(&rule.config),
            log.generation
        ));
    }
    let closes = if log.closes {
        "closes"
    } else {
        "DOES NOT CLOSE"
    };
    say(format!(
        "records  {} read, {} rows written, {} dead letters  (ledger {closes})",
        count(log.records.read),
        count(log.rows.written),
        count(log.dead_letters)
    ));
    for left in &log.left {
        say(format!("left     {}", super::super::zone::left(left)));
    }
    for at in &log.positions {
        say(format!(
            "position {}/{} at {} (from {})",
            at.topic, at.partition, at.to, at.start
        ));
    }
}

/// The flat map of one file, with its name. The daemon resolves references in keys of secrets. It accepts none in keys
/// whose value is shown, so these are resolved here.
fn map_of(file: &str, over: &Over) -> Result<(String, BTreeMap<String, String>)> {
    let overlay = Overlay {
        profile: over.profile.clone(),
        set: over.set.clone(),
    };
    let (raws, problems) = config::load_pipelines(&[file.to_owned()], &overlay, &CATALOG);
    if problems.iter().any(Problem::is_error) {
        return Err(config::refused(&problems).hint(format!("see `weir check {file}`")));
    }
    print_problems(&problems);
    let map = raws.first().map(|(raw, _)| raw.canonical());
    let mut map = map.unwrap_or_default();
    let shows: Vec<String> = (map.keys())
        .filter(|key| !daemon::may_refer(&map, key))
        .cloned()
        .collect();
    for key in shows {
        if let Some(value) = map.get_mut(&key) {
            let text = Text::new(value.as_str());
            if text.has_reference() {
                *value = text.resolve().map_err(|error| error.with("key", &key))?;
            }
        }
    }
    match map.get("name").cloned() {
        Some(name) => Ok((name, map)),
        None => Err(usage(format!("{file} has no `name`"))),
    }
}

/// The query that allows columns that go or change their type.
fn allowing(breaking: bool) -> String {
    query(&[("allow_breaking", breaking.then(|| "true".to_owned()))])
}

fn create(args: &CreateArgs) -> Result<Exit> {
    let (name, map) = map_of(&args.file, &args.over)?;
    let client = args.remote.daemon()?;
    let state = match args.state {
        Initial::Running => "RUNNING",
        Initial::Paused => "PAUSED",
        Initial::Stopped => "STOPPED",
    };
    let body = json!({ "name": name, "config": map, "initial_state": state });
    let at = format!("/connectors{}", allowing(args.allow_breaking));
    let answer = client.post(&at, &Carries::Json(body))?;
    match args.json {
        true => say_value(&answer),
        false => say(format!("{name}: created, {state}")),
    }
    Ok(Exit::Ok)
}

fn config(args: &ConfigArgs) -> Result<Exit> {
    let client = args.remote.daemon()?;
    let at = path(&args.name, "/config");
    let Some(file) = &args.file else {
        let found: BTreeMap<String, Value> = read(client.get(&at)?)?;
        if args.json {
            say_json(&found)?;
            return Ok(Exit::Ok);
        }
        for (key, value) in found {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            say(format!("{key}={text}"));
        }
        return Ok(Exit::Ok);
    };
    let (name, map) = map_of(file, &args.over)?;
    if name != args.name {
        return Err(usage(format!(
            "{file} is the config of `{name}`, not of `{}`",
            args.name
        )));
    }
    let at = format!("{at}{}", allowing(args.allow_breaking));
    let answer = client.put(&at, &Carries::Json(json!(map)))?;
    match args.json {
        true => say_value(&answer),
        false => say(format!("{name}: config replaced")),
    }
    Ok(Exit::Ok)
}

fn target(args: &OneArgs, verb: &str, what: &str) -> Result<Exit> {
    let client: Client = args.remote.daemon()?;
    client.put(&path(&args.name, &format!("/{verb}")), &Carries::Nothing)?;
    done(args, what);
    Ok(Exit::Ok)
}

/// Time between two looks at a pipeline that drains.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// After this time a message says what it waits for.
const QUIET: Duration = Duration::from_secs(2);

/// The daemon limits how long it drains (`shutdown.timeout`).
fn stop(args: &StopArgs) -> Result<Exit> {
    let one = &args.one;
    if args.no_wait {
        return target(one, "stop", "drains, then stops");
    }
    let client = one.remote.daemon()?;
    client.put(&path(&one.name, "/stop"), &Carries::Nothing)?;
    let clock = SystemClock::shared();
    let (begun, mut told) = (clock.elapsed(), false);
    loop {
        let status = client.get(&path(&one.name, "/status"))?;
        if status["connector"]["state"] == "STOPPED" {
            done(one, "stopped");
            return Ok(Exit::Ok);
        }
        if !told && clock.elapsed().saturating_sub(begun) >= QUIET {
            told = true;
            to_stderr(&format!(
                "{}: draining; if you do not wait, it stops all the same\n",
                one.name
            ));
        }
        clock.sleep(LOOK_EVERY);
    }
}

fn restart(args: &RestartArgs) -> Result<Exit> {
    let client = args.one.remote.daemon()?;
    let query = query(&[
        ("includeTasks", Some("true".to_owned())),
        ("onlyFailed", Some(args.only_failed.to_string())),
    ]);
    let at = path(&args.one.name, &format!("/restart{query}"));
    let answer = client.post(&at, &Carries::Nothing)?;
    match args.one.json {
        true => say_value(&answer),
        false => done(&args.one, "begins again"),
    }
    Ok(Exit::Ok)
}

fn offsets(args: &OneArgs) -> Result<Exit> {
    let client = args.remote.daemon()?;
    let answer = client.get(&path(&args.name, "/offsets"))?;
    if args.json {
        say_value(&answer);
        return Ok(Exit::Ok);
    }
    let all = answer["offsets"].as_array().cloned().unwrap_or_default();
    if all.is_empty() {
        say("nothing is committed yet");
        return Ok(Exit::Ok);
    }
    let header = ["PARTITION", "OFFSET"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for one in &all {
        rows.push(vec![members(&one["partition"]), members(&one["offset"])]);
    }
    table(&rows);
    Ok(Exit::Ok)
}

/// `kafka_topic=books kafka_partition=0`; the form depends on the source.
fn members(object: &Value) -> String {
    let text = |(key, value): (&String, &Value)| match value.as_str() {
        Some(text) => format!("{key}={text}"),
        None => format!("{key}={value}"),
    };
    let all: Vec<String> = object.as_object().into_iter().flatten().map(text).collect();
    match all.is_empty() {
        true => "-".to_owned(),
        false => all.join(" "),
    }
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(Kind::ConfigInvalid, "pipeline.manage", message)
}
