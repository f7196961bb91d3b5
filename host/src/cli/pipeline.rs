//! `weir pipeline`: the rules of a pipeline, whether it runs or not, its positions, and the pipelines of a daemon.

mod change;
mod history;
mod manage;
mod rewind;

use clap::{Args, Subcommand};

use super::Exit;
use super::remote::{Remote, local_only};
use crate::config::Overlay;
use crate::error::Result;
use crate::http::client::Client;

#[derive(Debug, Args)]
pub(super) struct PipelineArgs {
    #[command(subcommand)]
    verb: PipelineVerb,
}

#[derive(Debug, Subcommand)]
enum PipelineVerb {
    /// Put other rules in force: another plugin of a transform, or what the config says now
    Swap(change::SwapArgs),
    /// Put earlier rules in force again and block those that are in force now
    Rollback(change::RollbackArgs),
    /// Which rules made which offsets, since when, by whom and why
    History(history::HistoryArgs),
    #[command(flatten)]
    Manage(manage::ManageVerb),
    /// Move the positions of a stopped pipeline: read offsets again, or skip some
    Rewind(rewind::RewindArgs),
}

/// The pipeline that the command is for, with its config.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// A pipeline's name, or its config file
    #[arg(value_name = "NAME|FILE")]
    at: String,
    /// Where to look for the config of a pipeline's name
    #[arg(long, value_name = "DIR", default_value = "conf")]
    conf: String,
    /// Override a key, as `weir run` does
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Apply the table [profile.NAME] of the file
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// As one JSON object on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Which {
    /// The daemon to ask, if there is one.
    fn client(&self) -> Result<Option<Client>> {
        let client = self.remote.client(&self.at)?;
        if client.is_some() {
            local_only(&[
                ("--set", !self.set.is_empty()),
                ("--profile", self.profile.is_some()),
            ])?;
        }
        Ok(client)
    }

    fn overlay(&self) -> Overlay {
        Overlay {
            profile: self.profile.clone(),
            set: self.set.clone(),
        }
    }
}

pub(super) fn pipeline(args: &PipelineArgs) -> Result<Exit> {
    match &args.verb {
        PipelineVerb::Swap(args) => change::swap(args),
        PipelineVerb::Rollback(args) => change::rollback(args),
        PipelineVerb::History(args) => history::history(args),
        PipelineVerb::Manage(verb) => manage::manage(verb),
        PipelineVerb::Rewind(args) => rewind::rewind(args),
    }
}

/// Checked when it is given, so that a long reason is refused before anything is looked up.
pub(super) fn reason(text: &str) -> std::result::Result<String, String> {
    let reason = crate::operations::reason(text).map_err(|error| error.message().to_owned())?;
    Ok(reason.to_owned())
}
