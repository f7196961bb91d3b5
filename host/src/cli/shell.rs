//! What an installation needs beside the program: completions of a shell, pages for `man`, and what this program is.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, Exit, say, say_value, to_stdout};
use crate::commit::entry::FORMAT;
use crate::error::{Error, Kind, Result};
use crate::plugin;

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell that is to read them
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn completions(args: &CompletionsArgs) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "weir", &mut text);
    to_stdout(String::from_utf8_lossy(&text).trim_end());
    Exit::Ok
}

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// A directory that is there: one page for each command, as weir-zone-ls.1. Without one, the page of `weir` itself
    /// is printed
    dir: Option<PathBuf>,
}

pub(super) fn man(args: &ManArgs) -> Result<Exit> {
    const OP: &str = "man";
    match &args.dir {
        Some(dir) => pages(dir).map_err(|error| {
            let shown = dir.display();
            let message = format!("the pages cannot be written to {shown}: {error}");
            Error::new(Kind::ConfigInvalid, OP, message)
                .hint("name a directory that is there and that this user may write to")
        })?,
        None => {
            let mut page = Vec::new();
            let rendered = Man::new(Cli::command()).render(&mut page);
            rendered.map_err(|error| Error::new(Kind::Bug, OP, error.to_string()))?;
            to_stdout(String::from_utf8_lossy(&page).trim_end());
        }
    }
    Ok(Exit::Ok)
}

/// One page for each command, however deep.
fn pages(dir: &Path) -> io::Result<()> {
    fn page(command: &Command, dir: &Path) -> io::Result<()> {
        for below in command.get_subcommands().filter(|c| !c.is_hide_set()) {
            page(below, dir)?;
        }
        let page = Man::new(command.clone()).source(concat!("weir ", env!("CARGO_PKG_VERSION")));
        page.generate_to(dir).map(drop)
    }
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    page(&command, dir)
}

#[derive(Debug, Args)]
pub(super) struct VersionArgs {
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// The versions that a person compares before an upgrade: of the program, of the plugin contract and of the log.
pub(super) fn version(args: &VersionArgs) -> Exit {
    let program = env!("CARGO_PKG_VERSION");
    let plugins: Vec<(&str, &str)> = plugin::shipped()
        .iter()
        .map(|shipped| (shipped.name, shipped.version))
        .collect();
    if args.json {
        let plugins: Vec<serde_json::Value> = plugins
            .iter()
            .map(|(name, version)| serde_json::json!({ "name": name, "version": version }))
            .collect();
        say_value(&serde_json::json!({
            "version": program,
            "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            "contract": plugin::CONTRACT,
            "log_format": FORMAT,
            "plugins": plugins,
        }));
        return Exit::Ok;
    }
    say(format!("weir {program}"));
    say(format!("plugin contract  {}", plugin::CONTRACT));
    say(format!("format of logs   {}", FORMAT));
    let plugins: Vec<String> = plugins
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    say(format!("plugins          {}", plugins.join(", ")));
    Exit::Ok
}
