//! Command line: one file per verb. Answers go to stdout, everything else to stderr; exit codes are stable.

mod broker;
mod check;
mod checkpoint;
mod compact;
mod config;
mod daemon;
mod demo;
mod dlq;
mod doctor;
mod explain;
mod health;
mod log;
mod pipeline;
mod place;
mod plugin;
mod produce;
mod remote;
mod run;
mod shell;
mod table;
mod tap;
mod watch;
mod zone;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{Args, Parser, Subcommand};

use crate::config::{Loaded, Overlay, Problem};
use crate::connect;
use crate::error::{Error, Kind, Result};
use crate::telemetry;
use crate::text::{printable, printable_json, printable_lines};

pub use check::check_plugins;
pub use daemon::DaemonArgs;
pub use demo::DemoArgs;
pub use produce::BooksArgs;
pub use run::RunArgs;
use table::table;

/// How the process ends. Stable: scripts and service managers rely on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; or told to stop, and everything read is committed.
    Ok = 0,
    /// Something failed, or a verification found a difference.
    Failed = 1,
    /// The command line or a config is wrong; nothing was touched.
    Usage = 2,
    /// Told to stop, and `shutdown.timeout` passed before the last commit. Nothing is lost: it is read again.
    Deadline = 3,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done; or stopped by SIGTERM or SIGINT with everything committed
  1  failed, or a verification found a difference
  2  wrong usage or config; nothing was touched
  3  stopped, and shutdown.timeout passed before the last commit (nothing is lost)

`weir explain CODE` says what an error[code] means and what to do.";

/// Kafka in, rules in WebAssembly, Parquet out, exactly once.
#[derive(Debug, Parser)]
#[command(name = "weir", version, after_help = EXIT_CODES, propagate_version = true)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the pipelines of one or more config files until they end or are told to stop
    Run(Box<RunArgs>),
    /// Run many pipelines as a service, with Kafka Connect's REST
    Daemon(daemon::DaemonArgs),
    /// Ask a daemon whether it is healthy
    Health(health::HealthArgs),
    /// Find everything that is wrong with configs, without touching a broker or a store
    Check(check::CheckArgs),
    /// Check everything that a start needs: brokers, rights, stores, plugins, disks, limits
    Doctor(doctor::DoctorArgs),
    /// Show a pipeline's config as the program sees it
    Config(config::ConfigArgs),
    /// See the whole system at work in a minute: broker, messages, two pipelines, a kill in the middle
    Demo(DemoArgs),
    /// A small broker in this process, for trying things out
    Broker(broker::BrokerArgs),
    /// Send sample messages to a topic
    Produce(produce::ProduceArgs),
    /// Rules of a pipeline: change them while it runs, go back, see which made what; pipelines of a daemon
    Pipeline(pipeline::PipelineArgs),
    /// Records of a pipeline's source with its rules applied, as they pass; nothing is committed
    Tap(Box<tap::TapArgs>),
    /// Commits of a zone: offsets, rows, files, rules
    Log(log::LogArgs),
    /// What Spark keeps in a checkpoint directory: metadata, sources, offsets, commits
    Checkpoint(checkpoint::CheckpointArgs),
    /// Tables and files of a zone
    Zone(zone::ZoneArgs),
    /// Dead letters: what was refused, by which rule, and the original bytes
    Dlq(dlq::DlqArgs),
    /// Plugins: WebAssembly components that transform records
    Plugin(plugin::PluginArgs),
    /// Explain an error or problem code, a code of dead letters, or a config key
    Explain(explain::ExplainArgs),
    /// Pipelines of a daemon: state, lag, age of the newest commit, rate, dead letters
    Status(watch::WatchArgs),
    /// How far a pipeline of a daemon is behind, by topic and partition
    Lag(watch::LagArgs),
    /// The same as `status`, again and again
    Top(watch::TopArgs),
    /// Completions for a shell, to be put where it looks for them
    Completions(shell::CompletionsArgs),
    /// Pages for man
    Man(shell::ManArgs),
    /// This program, the plugin contract and the format of logs
    Version(shell::VersionArgs),
}

/// Config files and what overrides them.
#[derive(Debug, Clone, Args)]
pub struct Configs {
    /// Config files, one pipeline each: TOML, .properties or Connect's JSON
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<String>,
    /// Override a key; PIPELINE:KEY=VALUE for one pipeline of several
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Apply the tables [profile.NAME] of the files
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
}

impl Configs {
    pub fn load(&self) -> Loaded {
        connect::load(&self.files, &self.overlay())
    }

    fn overlay(&self) -> Overlay {
        Overlay {
            profile: self.profile.clone(),
            set: self.set.clone(),
        }
    }
}

/// Parses the arguments of this process, does what they say, prints what went wrong.
pub fn main() -> ExitCode {
    crate::logging::fold_with(telemetry::logged_on_stderr);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout and are no failure.
            let _closed = error.print();
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            };
            return ExitCode::from(exit as u8);
        }
    };
    let done = dispatch(cli.verb);
    let exit = match done.and_then(|exit| all_is_written().map(|()| exit)) {
        Ok(exit) => exit,
        Err(error) => {
            print_error(&error);
            exit_of(&error)
        }
    };
    ExitCode::from(exit as u8)
}

fn dispatch(verb: Verb) -> Result<Exit> {
    match verb {
        Verb::Run(args) => run::run(&args),
        Verb::Daemon(args) => daemon::daemon(&args),
        Verb::Health(args) => health::health(&args),
        Verb::Check(args) => check::check(&args),
        Verb::Doctor(args) => doctor::doctor(&args),
        Verb::Config(args) => config::config(&args),
        Verb::Broker(args) => broker::broker(&args),
        Verb::Demo(args) => demo::demo(&args),
        Verb::Produce(args) => produce::produce(&args),
        Verb::Pipeline(args) => pipeline::pipeline(&args),
        Verb::Tap(args) => tap::tap(&args),
        Verb::Log(args) => log::log(&args),
        Verb::Checkpoint(args) => checkpoint::checkpoint(&args),
        Verb::Zone(args) => zone::zone(&args),
        Verb::Dlq(args) => dlq::dlq(&args),
        Verb::Plugin(args) => plugin::plugin(&args),
        Verb::Explain(args) => explain::explain(&args),
        Verb::Status(args) => watch::status(&args),
        Verb::Lag(args) => watch::lag(&args),
        Verb::Top(args) => watch::top(&args),
        Verb::Completions(args) => Ok(shell::completions(&args)),
        Verb::Man(args) => shell::man(&args),
        Verb::Version(args) => Ok(shell::version(&args)),
    }
}

fn exit_of(error: &Error) -> Exit {
    match error.kind() {
        Kind::ConfigInvalid => Exit::Usage,
        Kind::Stopped => Exit::Deadline,
        _ => Exit::Failed,
    }
}

/// `error[code]: message`, during what, the hint.
pub fn print_error(error: &Error) {
    let mut text = format!(
        "{}: {}\n  during {}\n",
        head("error", error.kind().code()),
        indented(&error.one_line()),
        error.op()
    );
    if let Some(hint) = error.hint_text() {
        text.push_str(&format!("  hint: {}\n", indented(hint)));
    }
    as_it_is(&text);
}

/// A text within a line: further lines of it stand apart from ours.
fn indented(text: &str) -> String {
    printable_lines(text.trim_end()).replace('\n', "\n    ")
}

/// Indents the lines of a problem after its first, also where a line is from somebody else's text.
fn apart(problem: &str) -> String {
    let mut out = String::new();
    for (at, line) in problem.lines().enumerate() {
        if at > 0 {
            out.push_str(if line.starts_with(' ') {
                "\n"
            } else {
                "\n    "
            });
        }
        out.push_str(line);
    }
    out
}

/// All problems, then how many there are.
pub fn print_problems(problems: &[Problem]) {
    let mut text = String::new();
    for problem in problems {
        let severity = if problem.is_error() {
            "error"
        } else {
            "warning"
        };
        let plain = format!("{severity}[{}]", problem.code);
        let shown = apart(&printable_lines(&problem.to_string()));
        text.push_str(&shown.replacen(&plain, &head(severity, problem.code), 1));
        text.push_str("\n\n");
    }
    let errors = problems.iter().filter(|p| p.is_error()).count();
    if !problems.is_empty() {
        let warnings = problems.len() - errors;
        text.push_str(&format!("{}\n", tell(errors, warnings)));
    }
    as_it_is(&text);
}

fn tell(errors: usize, warnings: usize) -> String {
    let plural = |n: usize, noun: &str| telemetry::plural(n as u64, noun);
    match (errors, warnings) {
        (0, w) => plural(w, "warning"),
        (e, 0) => plural(e, "error"),
        (e, w) => format!("{}, {}", plural(e, "error"), plural(w, "warning")),
    }
}

fn head(severity: &str, code: &str) -> String {
    let colour = if severity == "error" { 31 } else { 33 };
    match io::stderr().is_terminal() {
        true => format!("\u{1b}[1;{colour}m{severity}[{code}]\u{1b}[0m"),
        false => format!("{severity}[{code}]"),
    }
}

/// Writes to stderr; if it is closed, nothing happens. What others wrote is shown as text.
fn to_stderr(text: &str) {
    as_it_is(&printable_lines(text));
}

/// Writes text that is printable already, apart from our own colours.
fn as_it_is(text: &str) {
    let text = telemetry::on_stderr(text);
    let _closed = io::stderr().lock().write_all(text.as_bytes());
}

/// Prints one line of an answer, never folded: it may be copied or read by a program. Whatever others wrote into it is
/// shown as text.
fn say(line: impl AsRef<str>) {
    to_stdout(&printable(line.as_ref()));
}

/// A text of several lines.
fn say_lines(text: impl AsRef<str>) {
    to_stdout(&printable_lines(text.as_ref()));
}

/// Prints an answer in words, folded to the width of a terminal. Line ends before the words are empty lines; those
/// within are from others, and are shown as text.
fn say_words(line: impl AsRef<str>) {
    let words = line.as_ref().trim_start_matches('\n');
    let before = "\n".repeat(line.as_ref().len() - words.len());
    to_stdout(&format!(
        "{before}{}",
        telemetry::on_stdout(&printable(words))
    ));
}

/// One JSON object a line, as HTTP answers with it.
fn say_json(value: &impl serde::Serialize) -> Result<()> {
    say_value(&crate::operations::to_json(value)?);
    Ok(())
}

fn say_value(value: &serde_json::Value) {
    to_stdout(&printable_json(&value.to_string()));
}

/// Writes to stdout; if it is closed (`| head`), output ends without a message. What cannot be written for another reason
/// (a full disk) is told at the end, and the process fails.
fn to_stdout(text: &str) {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        let _earlier = UNWRITTEN.set(error.to_string());
    }
}

/// Why an answer was not written, the first time.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

fn all_is_written() -> Result<()> {
    match UNWRITTEN.get() {
        None => Ok(()),
        Some(why) => {
            let message = format!("the answer cannot be written: {why}");
            Err(Error::new(Kind::StoreUnavailable, "stdout", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
